"""A plan on a cluster: the same bits, whoever dies; scheduler and workers are real processes."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cluster import Cluster, cluster, until
from small import learnable_corpus
from test_layers import fresh_imports
from test_sweep import make_plan

from mmer_lib import distributed
from mmer_lib.claims import is_claimed
from mmer_lib.corpora import Corpus, load_corpus
from mmer_lib.distributed import connect, on_cluster, team, worker
from mmer_lib.errors import InputError
from mmer_lib.integrity import spec_key
from mmer_lib.store import ResultStore
from mmer_lib.sweep import run_plan

pytest.importorskip("distributed")

ELSEWHERE = """
from mmer_lib.distributed import worker
worker._may_write = worker._sees_corpus = lambda errand: False
"""  # what a worker on a machine without our folders finds
OLDER = """
import mmer_lib
mmer_lib.__version__ = "0.0.1"
"""


# What workers do in place of training: functions of this module.


@dataclass(frozen=True)
class Piece:
    """As much of a run as the cluster needs."""

    specification: dict[str, int]
    name: str

    @property
    def key(self) -> str:
        return spec_key(self.specification)


SPECIFICATIONS = sorted(({"piece": i} for i in range(4)), key=spec_key)
PIECES = [Piece(given, f"run {i}") for i, given in enumerate(SPECIFICATIONS)]


def write(run: Piece, corpus: Corpus, store: ResultStore) -> str:
    """A run that tells by whom it was made, and of what."""
    row = {"study": "", "configuration": "self-T", "fold": 0, "seed": 0}
    row |= {"by": os.getpid(), "corpus": corpus.fingerprint}
    about = {"specification": run.specification, "row": row}
    store.write(run.key, about, pd.DataFrame({"epoch": [1]}), {}, {"w": np.arange(3.0)})
    return run.key


def hold(folder: Path, run: Piece, corpus: Corpus, store: ResultStore) -> str:
    """Say that it has begun, and go on when the file ``go`` is there."""
    (folder / f"{run.key}-{os.getpid()}").touch()
    until((folder / "go").exists)
    return write(run, corpus, store)


def die(key: str, run: Piece, corpus: Corpus, store: ResultStore) -> str:
    """Every worker that comes to ``key`` is killed there."""
    if run.key == key:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(run, corpus, store)


def fail(error: Exception, run: Piece, corpus: Corpus, store: ResultStore) -> str:
    raise error


# Clusters, folders


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return learnable_corpus(36, seed=2, missing=0.1)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as made:
        (made.folder / "elsewhere.py").write_text(ELSEWHERE)
        (made.folder / "older.py").write_text(OLDER)
        yield made


@pytest.fixture
def start(scheduler) -> Iterator[Callable[..., Any]]:
    """Starts workers; they end with the test."""
    began: list[str] = []

    def one(name: str, *more: str) -> Any:
        began.append(name)
        return scheduler.add(name, *more)

    yield one
    for name in began:
        scheduler.remove(name)


@pytest.fixture
def store(tmp_path) -> ResultStore:
    return ResultStore(tmp_path / "store")


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "signs"
    made.mkdir()
    return made


def begun(folder: Path) -> list[tuple[str, int]]:
    """Key and process of every run that was begun."""
    found = (file.name.partition("-") for file in folder.glob("*-*"))
    return sorted((key, int(pid)) for key, _, pid in found)


class InThread(threading.Thread):
    """What a cluster does for ``execute``, while the test goes on."""

    def __init__(self, execute: Any, corpus: Corpus, store: ResultStore, address: str) -> None:
        super().__init__(daemon=True)
        self.given = execute, PIECES, corpus, store, address
        self.keys: list[str] = []
        self.said: list[str] = []
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.keys += on_cluster(*self.given, self.said.append)
        except Exception as error:  # noqa: BLE001  told in result()
            self.error = error

    def result(self) -> list[str]:
        self.join(60)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error
        return self.keys


def same_run(key: str, one: ResultStore, other: ResultStore) -> None:
    """Every number of a run is the same, but for times."""
    a, b = (s.run(key) for s in (one, other))
    for about in (a, b):
        del about["provenance"], about["files"], about["row"]["seconds"]
    assert a == b
    for part in ("dev", "test"):
        for name, value in vars(one.predictions(key, part)).items():
            np.testing.assert_array_equal(value, getattr(other.predictions(key, part), name))
    weights = other.weights(key)
    assert weights.keys() == one.weights(key).keys()
    for name, weight in one.weights(key).items():
        np.testing.assert_array_equal(weight, weights[name])
    first, second = (s.history(key).drop(columns="seconds") for s in (one, other))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


# What comes back


def test_a_cluster_gives_the_bits_of_a_local_sweep_with_and_without_a_shared_store(
    corpus, scheduler, start, tmp_path, monkeypatch
):
    """One worker writes into the store itself; the other sees neither store nor corpus."""
    start("near")
    start("far", "--preload", "elsewhere.py")
    local, ours = ResultStore(tmp_path / "local"), ResultStore(tmp_path / "cluster")
    plan = make_plan(corpus, configurations=["self-AT"])
    table = run_plan(plan, local)
    adopted, adopt = [], ResultStore.adopt
    monkeypatch.setattr(
        ResultStore,
        "adopt",
        lambda self, key, files: adopted.append(key) or adopt(self, key, files),
    )
    scheduler.wait_for(2)
    other = run_plan(plan, ours, scheduler=scheduler.address)
    assert len(adopted) == 1  # what the far one did, and not what the near one did
    pd.testing.assert_frame_equal(
        other.drop(columns="seconds"), table.drop(columns="seconds"), check_exact=True
    )
    for key in table["key"]:
        same_run(key, local, ours)
    assert [p.name for p in ours.path.iterdir() if p.name.startswith(".")] == []


def test_the_corpus_is_sent_once_a_worker_and_removed_at_the_end(
    corpus, scheduler, start, store, monkeypatch, tmp_path
):
    start("far", "--preload", "elsewhere.py")
    start("farther", "--preload", "elsewhere.py")
    saved = corpus.save(tmp_path / "corpus")
    sent: list[tuple[int, str, int]] = []
    sizes: list[int] = []
    ask, give = team.Team.ask, team.Team.give

    def asked(self: Any, workers: list[str], function: Any, *given: Any) -> Any:
        if function is worker.receive:
            sent.append((len(workers), given[1], len(given[3])))
        return ask(self, workers, function, *given)

    def given(self: Any, address: str, task: Any) -> None:
        sizes.append(len(pickle.dumps((self.errand, self.execute, task.run))))
        give(self, address, task)

    monkeypatch.setattr(team.Team, "ask", asked)
    monkeypatch.setattr(team.Team, "give", given)
    monkeypatch.setattr(team, "_PIECE", 2000)
    scheduler.wait_for(2)
    said: list[str] = []
    there = load_corpus(saved)
    done = list(on_cluster(write, PIECES, there, store, scheduler.address, said.append))
    assert sorted(done) == store.keys() == [piece.key for piece in PIECES]
    assert said == [
        "sending the corpus to 2 workers",
        "2 workers send results here; the corpus was sent to 2 workers",
    ]
    assert {n for n, _, _ in sent} == {2}  # to both at once
    for file in saved.iterdir():
        assert sum(size for _, name, size in sent if name == file.name) == file.stat().st_size
    assert max(size for _, _, size in sent) == 2000
    assert len(sizes) == 4
    assert max(sizes) < 1000
    assert {store.run(key)["row"]["corpus"] for key in done} == {corpus.fingerprint}
    assert list(scheduler.folder.glob("far*/**/mmer-*")) == []


def test_no_worker_has_two_runs_and_what_waits_is_not_begun_after_the_end(
    corpus, scheduler, start, store, folder
):
    start("one", "--nthreads", "3")
    keys = on_cluster(partial(hold, folder), PIECES, corpus, store, scheduler.address)
    watch = threading.Thread(target=lambda: until(lambda: begun(folder)) and go(folder))
    watch.start()
    assert next(keys) == PIECES[0].key
    (folder / "go").unlink()
    watch.join()
    assert len(begun(folder)) == 1
    keys.close()  # as Ctrl-C does
    (folder / "go").touch()
    with connect(scheduler.address) as client:
        assert client.submit(abs, -1).result() == 1  # whatever was before it is done
    assert len(begun(folder)) == 1
    assert store.keys() == [PIECES[0].key]


def go(folder: Path) -> None:
    (folder / "go").touch()


def test_two_sweeps_share_a_store_that_no_worker_sees(corpus, scheduler, start, store, folder):
    """The first is at two runs when the second comes, which takes the other two."""
    start("far", "--preload", "elsewhere.py")
    start("farther", "--preload", "elsewhere.py")
    scheduler.wait_for(2)
    first = InThread(partial(hold, folder), corpus, store, scheduler.address)
    until(lambda: len(begun(folder)) == 2)
    second = InThread(partial(hold, folder), corpus, store, scheduler.address)
    until(lambda: all(is_claimed(store.path, piece.key) for piece in PIECES))
    go(folder)
    keys = [piece.key for piece in PIECES]
    assert sorted(first.result()) == sorted(second.result()) == store.keys() == keys
    assert [key for key, _ in begun(folder)] == keys  # each once
    assert list((store.path / "claims").iterdir()) == []


# Who dies, who comes


def test_the_run_of_a_killed_worker_is_done_by_another(corpus, scheduler, start, store, folder):
    victim, other = start("victim"), start("other")
    scheduler.wait_for(2)
    sweep = InThread(partial(hold, folder), corpus, store, scheduler.address)
    until(lambda: len(begun(folder)) == 2)
    lost = next(key for key, pid in begun(folder) if pid == victim.pid)
    victim.kill()
    victim.wait()
    go(folder)
    assert sorted(sweep.result()) == store.keys() == [piece.key for piece in PIECES]
    assert {store.run(key)["row"]["by"] for key in sweep.keys} == {other.pid}
    assert [key for key, _ in begun(folder)].count(lost) == 2
    assert len(begun(folder)) == 5


@pytest.mark.slow
def test_a_run_at_which_two_workers_died_ends_the_sweep_and_what_is_finished_is_kept(
    corpus, scheduler, start, store
):
    start("first")
    scheduler.wait_for(1)
    sweep = InThread(partial(die, PIECES[2].key), corpus, store, scheduler.address)
    until(lambda: any("waiting for a worker" in line for line in sweep.said))
    assert store.keys() == [PIECES[0].key, PIECES[1].key]
    start("second")
    with pytest.raises(InputError, match="run 2: 2 workers died at it, the last one tcp://"):
        sweep.result()
    assert store.keys() == [PIECES[0].key, PIECES[1].key]


def test_a_worker_that_was_started_anew_under_its_address_says_so():
    errand = worker.Errand("unheard", Path("store"), Path("corpus"), "0" * 16)
    assert worker.perform(errand, pickle.dumps((write, PIECES[0]))) is None


@pytest.mark.slow
def test_a_worker_that_comes_later_gets_runs_too(corpus, scheduler, start, store, folder):
    one = start("early")
    scheduler.wait_for(1)
    sweep = InThread(partial(hold, folder), corpus, store, scheduler.address)
    until(lambda: begun(folder))
    late = start("late")
    until(lambda: len(begun(folder)) == 2)
    go(folder)
    sweep.result()
    assert {store.run(key)["row"]["by"] for key in sweep.keys} == {one.pid, late.pid}


@pytest.mark.slow
def test_a_scheduler_that_is_gone_is_told_of(corpus, tmp_path, store, folder):
    with cluster(tmp_path, "only") as made:
        sweep = InThread(partial(hold, folder), corpus, store, made.address)
        until(lambda: begun(folder))
        made.scheduler.kill()
        with pytest.raises(InputError, match=r"the scheduler tcp://.* is gone. What is finished"):
            sweep.result()


@pytest.mark.parametrize("error", [InputError("wrong: mend it"), KeyError("x")], ids=repr)
def test_what_a_worker_raises_is_raised_here(corpus, scheduler, start, store, error):
    start("one")
    scheduler.wait_for(1)
    with pytest.raises(type(error)) as caught:
        list(on_cluster(partial(fail, error), PIECES, corpus, store, scheduler.address))
    assert caught.value.args == error.args
    notes = getattr(caught.value, "__notes__", [])
    assert bool(notes) == isinstance(error, KeyError)  # where it was; a mistake is one line


@pytest.mark.parametrize(
    ("seen", "line"),
    [
        ([(True, True)], "1 worker writes into the store; the corpus is there"),
        (
            [(False, False), (True, True), (True, True)],
            "2 workers write into the store, 1 worker sends results here; the corpus was sent to "
            "1 worker",
        ),
    ],
)
def test_it_is_told_who_works_and_how(seen, line):
    assert team._describe([worker.Sight(*sight) for sight in seen]) == line


@pytest.mark.slow
def test_ctrl_c_ends_a_sweep_on_a_cluster_in_a_line_and_keeps_what_is_finished(
    scheduler, start, tmp_path
):
    start("one")
    command = [sys.executable, "-m", "mmer_lib.cli", "sweep", "synthetic,utterances=60", "--models",
               "self-T", "--width", "8", "--heads", "2", "--epochs", "2", "--seeds", "200",
               "--store", str(tmp_path / "store"), "--scheduler", scheduler.address]  # fmt: skip
    sweep = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until(lambda: list((tmp_path / "store").glob("[!.]*/run.json")), 120)
    sweep.send_signal(signal.SIGINT)
    told = sweep.communicate(timeout=60)[1]
    assert sweep.returncode == 130
    assert told.splitlines()[-1].startswith("mmer: stopped: ")
    assert "Traceback" not in told
    with connect(scheduler.address) as client:
        assert client.submit(abs, -1).result() == 1  # whatever was under way is done
        finished = len(ResultStore(tmp_path / "store").keys())
        assert 1 <= finished < 1000
        assert client.submit(abs, -2).result() == 2
    assert len(ResultStore(tmp_path / "store").keys()) == finished  # nothing that waited was begun


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate")
def test_certificates_of_dasks_configuration_are_used(corpus, tmp_path, store, monkeypatch):
    pem = [str(tmp_path / name) for name in ("key.pem", "certificate.pem")]
    made = f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=mmer -keyout {pem[0]}"
    subprocess.run([*made.split(), "-out", pem[1]], check=True, capture_output=True)
    settings = {"distributed.comm.tls.ca-file": pem[1]}
    for role in ("client", "scheduler", "worker"):
        settings |= {
            f"distributed.comm.tls.{role}.{k}": v for k, v in zip(("key", "cert"), pem, strict=True)
        }
    for name, value in settings.items():  # as in a shell, for the processes
        variable = "DASK_" + name.upper().replace(".", "__").replace("-", "_")
        monkeypatch.setenv(variable, value)
    import dask

    with dask.config.set(settings):
        made = Cluster(tmp_path, "--protocol", "tls")
        try:
            assert made.address.startswith("tls://")
            made.add("one")
            done = list(on_cluster(write, PIECES, corpus, store, made.address))
        finally:
            made.stop()
    assert sorted(done) == store.keys() == [piece.key for piece in PIECES]


# What is refused, before the first run


def test_workers_with_other_versions_are_named_and_nothing_is_run(corpus, scheduler, start, store):
    start("older", "--preload", "older.py")
    start("same")
    scheduler.wait_for(2)
    with pytest.raises(InputError, match="1 of 2 workers have other versions") as caught:
        list(on_cluster(write, PIECES, corpus, store, scheduler.address))
    (line,) = caught.value.__notes__
    address, _, told = line.partition(": ")
    assert address.startswith("tcp://127.0.0.1:")
    assert told == f"mmer 0.0.1, here {worker.versions()['mmer']}"
    assert store.keys() == []


@pytest.mark.slow
def test_a_worker_with_other_versions_that_comes_later_is_not_used(
    corpus, scheduler, start, store, folder
):
    one = start("early")
    scheduler.wait_for(1)
    sweep = InThread(partial(hold, folder), corpus, store, scheduler.address)
    until(lambda: begun(folder))
    start("older", "--preload", "older.py")
    until(lambda: any(line.startswith("not used: worker tcp://") for line in sweep.said))
    go(folder)
    sweep.result()
    assert {store.run(key)["row"]["by"] for key in sweep.keys} == {one.pid}


@pytest.mark.parametrize(
    ("its", "line"),
    [
        ({}, ""),
        ({"torch": "2.12.0"}, "torch 2.12.0, here 2.13.0"),
        ({"torch": "2.12.0", "Python": "3.12.1"}, "torch 2.12.0, here 2.13.0; Python 3.12.1, here "
         "3.11.9"),
    ],
)  # fmt: skip
def test_a_difference_names_every_version_that_is_another(its, line):
    mine = {"torch": "2.13.0", "numpy": "2.4", "Python": "3.11.9"}
    assert team._difference(mine, {**mine, **its}) == line


def test_a_worker_without_this_package_is_named():
    missing = ModuleNotFoundError("No module named 'mmer_lib'")
    told = team._difference({}, missing)
    assert told == "mmer cannot be imported there (No module named 'mmer_lib')"


def test_versions_cover_what_decides_a_number():
    expected = {"mmer", "semantics of runs", "torch", "numpy", "Python"}
    assert set(worker.versions()) == expected


@pytest.mark.parametrize("address", ["127.0.0.1:8786", "http://x:1", "tcp://x", "", None, 8786])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InputError, match="tcp://HOST:PORT or tls://HOST:PORT expected"):
        connect(address)


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
def test_where_nobody_or_somebody_else_answers_is_told_soon(scheme, monkeypatch):
    monkeypatch.setattr(distributed, "_REACH", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(InputError, match=f"no Dask scheduler answers at {address}: check"):
            connect(address)
    with pytest.raises(InputError, match="no Dask scheduler answers"):
        connect(address)  # which is closed now


def test_the_address_of_a_worker_is_told_from_that_of_the_scheduler(scheduler, start):
    start("one")
    (address,) = scheduler.wait_for(1)
    with pytest.raises(InputError, match="is a Worker: give the address of the scheduler"):
        connect(address)


def test_without_the_extra_the_command_that_installs_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"needs Dask: pip install 'mmer\[distributed\]'"):
        connect("tcp://127.0.0.1:8786")


def test_jobs_and_a_scheduler_exclude_each_other(corpus, store):
    with pytest.raises(InputError, match="jobs=2 and a scheduler: its workers do the runs"):
        run_plan(make_plan(corpus), store, jobs=2, scheduler="tcp://127.0.0.1:1")


def test_a_plan_that_is_finished_asks_no_cluster(corpus, tmp_path):
    finished = ResultStore(tmp_path)
    plan = make_plan(corpus, configurations=["self-T"])
    table = run_plan(plan, finished)
    again = run_plan(plan, finished, scheduler="tcp://127.0.0.1:1")
    pd.testing.assert_frame_equal(again, table)


def test_importing_it_imports_nothing_heavy():
    assert not fresh_imports("mmer_lib.distributed") & {"distributed", "torch", "pandas", "numpy"}
