"""Killed at any moment, on a full disk, without memory: the store holds whole runs, each once."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from threading import RLock, active_count
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from tqdm import tqdm

from mmer_lib.cli import main
from mmer_lib.errors import InputError
from mmer_lib.integrity import spec_key
from mmer_lib.store import ResultStore, StoredPredictions
from mmer_lib.workers import as_finished, in_new_process, telling_of_memory

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and locks of POSIX")

ROOT = Path(__file__).resolve().parents[1]
SPEC = {"seed": 0, "fold": {"index": 0}}
KEY = spec_key(SPEC)


def names(folder: Path) -> set[str]:
    """Everything below a folder, hidden or not."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# Killed at every step of what is done in a store


def write_a_run(folder: Path) -> None:
    """All that a sweep does in a store, but for the training."""
    store = ResultStore(folder)
    store.check_writable()
    store.tidy()
    part = StoredPredictions(np.array(["a", "b"]), np.array([0, 1]), np.full((2, 2), 0.5))
    row = {"study": "s", "configuration": "self-T", "fold": 0, "seed": 0}
    with store.claim(KEY) as mine:
        assert mine
        if KEY not in store:
            history = pd.DataFrame({"epoch": [1]})
            weights = {"w": np.arange(3.0)}
            about = {"specification": SPEC, "row": row}
            store.write(KEY, about, history, {"dev": part, "test": part}, weights)
    store.note_plan("sweep", [KEY])


def killed_at(step: float, folder: Path) -> int:
    """How a process ends that writes a run and is killed before a step in the file system."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(BaseException):
        steps = count(1)

        def die_in_time(event: str, given: tuple[Any, ...] = ()) -> None:
            there = given and str(given[0]).startswith(str(folder))
            if (there or event in ("fcntl.flock", "half")) and next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        def write_in_two(file: Path, content: bytes) -> None:
            with file.open("wb", buffering=0) as stream:
                stream.write(content[: len(content) // 2])
                die_in_time("half")
                stream.write(content[len(content) // 2 :])

        sys.addaudithook(die_in_time)
        Path.write_bytes = write_in_two  # type: ignore[assignment, method-assign]
        write_a_run(folder)
        os._exit(0)
    os._exit(1)


def kill_at_every_step(folder: Path) -> list[tuple[set[str], set[str], int]]:
    """What lies in the store after a kill, and what after a new start and how that ended."""
    found: list[tuple[set[str], set[str], int]] = []
    places = (folder / str(step) for step in count(1))
    while (ended := killed_at(len(found) + 1, place := next(places))) != 0:
        assert ended == -signal.SIGKILL
        left = names(place) if place.exists() else set()
        again = killed_at(np.inf, place)
        found.append((left, names(place), again))
    return found  # the last one came to its end before that step


WHOLE = {
    "store.json", "claims", "plans", "plans/sweep.json", KEY, *(f"{KEY}/{name}" for name in
    ("run.json", "history.csv", "predictions.npz", "weights.safetensors")),
}  # fmt: skip


def test_killed_before_every_step_it_goes_on_and_leaves_nothing_behind(tmp_path):
    found = in_new_process(kill_at_every_step, tmp_path)
    assert len(found) > 60
    for left, after, again in found:
        assert again == 0, left
        assert after == WHOLE, left
        assert not {f"{KEY}/run.json"} & left or WHOLE - {"plans", "plans/sweep.json"} <= left
    lefts = ["".join(f"{name} " for name in left) for left, _, _ in found]
    for trace in (f".{KEY}/weights", f".{KEY}.lock", "claims/", "plans/.sweep.json ", ".check/"):
        assert any(trace in left for left in lefts), f"never killed with {trace} there"
    store = ResultStore(tmp_path / "9")
    assert store.predictions(KEY).ids.tolist() == ["a", "b"]


# Killed at random times


COMMAND = [
    "sweep", "synthetic,utterances=40,classes=3,features=6,longest=7", "--models", "self-T",
    "cross-AT", "--folds", "2", "--seeds", "3", "--epochs", "2", "--width", "12", "--heads", "3",
]  # fmt: skip
RUNS = 12
START = "import sys, logged; from mmer_lib.cli import main; sys.exit(main())"


def environment(**more: str) -> dict[str, str]:
    """In which this package and the modules beside this one are found."""
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", **more}


@contextmanager
def sweeping(store: Path, jobs: int = 1) -> Iterator[subprocess.Popen[str]]:
    """``mmer sweep`` in a process of its own, which is ended if it has not, and its workers too."""
    with subprocess.Popen(
        [sys.executable, "-c", START, *COMMAND, "--store", str(store), "--jobs", str(jobs)],
        env=environment(LOG_OF_RUNS=str(log_of(store))),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def log_of(store: Path) -> Path:
    return store.with_suffix(".log")


def ended_well(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=1200)
    assert process.returncode == 0, err
    assert err == ""
    assert "self-T" in out


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> ResultStore:
    """The store of an uninterrupted sweep."""
    folder = tmp_path_factory.mktemp("undisturbed") / "store"
    assert main([*COMMAND, "--store", str(folder)]) == 0
    assert len(ResultStore(folder).keys()) == RUNS
    return ResultStore(folder)


def logged_runs(store: Path) -> dict[str, list[str]]:
    noted: dict[str, list[str]] = {"begun": [], "ended": []}
    if log_of(store).exists():
        for line in log_of(store).read_text().splitlines():
            what, key = line.split()
            noted[what].append(key)
    return noted


def check_same(folder: Path, expected: ResultStore) -> None:
    """The runs of ``expected``, bit for bit, and nothing else."""
    store, keys = ResultStore(folder), expected.keys()
    assert store.keys() == keys
    files = {"run.json", "history.csv", "predictions.npz", "weights.safetensors"}
    whole = {"store.json", "claims", "plans", "plans/sweep.json", *keys}
    assert names(folder) == whole | {f"{key}/{file}" for key in keys for file in files}
    one, two = (s.plan("sweep").drop(columns="seconds") for s in (store, expected))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    for key in keys:
        one, two = (s.history(key).drop(columns="seconds") for s in (store, expected))
        pd.testing.assert_frame_equal(one, two, check_exact=True)
        weights = expected.weights(key)
        assert store.weights(key).keys() == weights.keys()
        for name, weight in store.weights(key).items():
            np.testing.assert_array_equal(weight, weights[name], strict=True)
        for part in ("dev", "test"):
            kept = vars(expected.predictions(key, part))
            for name, value in vars(store.predictions(key, part)).items():
                np.testing.assert_array_equal(value, kept[name], strict=True)


def kill_again_and_again(folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Kill sweeps of one process at random times, each going on in the store of the one before.

    Where a sweep comes to its end, the next one begins a store: 0, 1, ... in ``folder``. Counts
    what was there at the kills.
    """
    tqdm.monitor_interval = 0  # no thread, as this process is forked
    tqdm.set_lock(RLock())  # its own is a semaphore of the system, which the killed would leave
    assert main([*COMMAND, "--store", str(folder / "here")]) == 0  # imports all that is needed
    started = time.monotonic()
    assert os.waitpid(_fork_sweep(folder / "first"), 0)[1] == 0
    whole = time.monotonic() - started
    drawn, seen = random.Random(seed), Counter(killed=0, stores=0)
    while seen["killed"] < kills:
        store = folder / str(seen["stores"])
        child, until = _fork_sweep(store), time.monotonic() + drawn.uniform(0, whole)
        ended = 0
        while not ended and time.monotonic() < until:
            time.sleep(0.001)
            ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0
            seen["stores"] += 1
            continue
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen["killed"] += 1
        seen["at a run"] += any(store.glob("claims/*"))
        seen["writing"] += any(store.glob(".*.lock"))
    assert os.waitpid(_fork_sweep(folder / str(seen["stores"])), 0)[1] == 0
    assert active_count() == 1
    return {**seen, "milliseconds": round(1000 * whole)}


def _fork_sweep(store: Path) -> int:
    """The process of a sweep."""
    child = os.fork()
    if not child:
        with suppress(BaseException), open(os.devnull, "w") as nothing:
            sys.stdout = nothing
            os._exit(main([*COMMAND, "--store", str(store)]))
        os._exit(1)
    return child


@pytest.mark.parametrize("kills", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_a_sweep_killed_at_random_times_ends_as_if_it_had_not_been(tmp_path, undisturbed, kills):
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # shown where the test fails
    seen = in_new_process(kill_again_and_again, tmp_path, kills, seed)
    print(seen)
    assert seen["killed"] == kills
    for i in range(seen["stores"] + 1):
        check_same(tmp_path / str(i), undisturbed)


# Its processes killed one by one


def until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    """Wait for ``condition``, or for the end of ``process``."""
    while not condition() and process.poll() is None:
        time.sleep(0.005)


def family(process: subprocess.Popen[str]) -> dict[str, list[psutil.Process]]:
    """The fork server and the workers of a sweep."""
    found: dict[str, list[psutil.Process]] = {"server": [], "workers": []}
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children():
            if any("forkserver" in word for word in child.cmdline()):
                found["server"].append(child)
                found["workers"] += child.children()
    return found


def kill_one(process: subprocess.Popen[str], kind: str, drawn: random.Random) -> bool:
    """Kill a process of a sweep; False if there was none."""
    if kind == "parent":
        process.kill()
        return True
    with suppress(psutil.NoSuchProcess, IndexError):
        drawn.choice(family(process)[kind]).kill()
        return True
    return False


def wait_for_runs(process: subprocess.Popen[str], store: Path, more_than: int) -> None:
    until(lambda: len(logged_runs(store)["begun"]) > more_than, process)


def check_log(store: Path, deaths: int = 0) -> None:
    """No run was executed twice, but those at which a process died."""
    begun, ended = (Counter(logged_runs(store)[what]) for what in ("begun", "ended"))
    assert set(begun) == set(ResultStore(store).keys())
    assert set(ended.values()) == {1}
    assert begun.total() - RUNS <= deaths
    assert RUNS - deaths <= ended.total() <= RUNS  # a death just after the end may not be noted


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["workers", "server"])
def test_a_sweep_goes_on_though_a_process_of_it_is_killed(tmp_path, undisturbed, kind):
    store = tmp_path / "store"
    with sweeping(store, jobs=2) as process:
        wait_for_runs(process, store, 2)
        assert kill_one(process, kind, random.Random(0))
        ended_well(process)
    check_same(store, undisturbed)
    check_log(store, deaths=1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parent", "workers", "server"])
def test_sweeps_of_several_processes_survive_kills_at_random_times(tmp_path, undisturbed, kind):
    """Until a sweep comes to its end in peace; then in the next store, until six were killed."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    drawn, killed, stores = random.Random(seed), 0, 0
    while killed < 6:
        store, deaths, peace = tmp_path / str(stores), 0, False
        while not peace:
            with sweeping(store, jobs=2) as process:
                wait_for_runs(process, store, len(logged_runs(store)["begun"]))
                time.sleep(drawn.uniform(0, 0.5))
                alive = process.poll() is None
                hit = killed + deaths < 6 and alive and kill_one(process, kind, drawn)
                deaths += hit
                if peace := not (hit and kind == "parent"):
                    ended_well(process)
                else:
                    process.communicate()
        check_same(store, undisturbed)
        check_log(store, 2 * deaths)
        killed, stores = killed + deaths, stores + 1


# Several sweeps on one store


@pytest.mark.parametrize("jobs", [(1, 1), pytest.param((2, 1, 2), marks=pytest.mark.slow)])
def test_sweeps_on_one_store_share_the_runs(tmp_path, undisturbed, jobs):
    store = tmp_path / "store"
    with ExitStack() as stack:
        for process in [stack.enter_context(sweeping(store, n)) for n in jobs]:
            ended_well(process)
    check_same(store, undisturbed)
    check_log(store)


def test_what_a_killed_sweep_was_at_is_taken_over_by_the_other_one(tmp_path, undisturbed):
    store = tmp_path / "store"
    with sweeping(store) as first, sweeping(store) as second:
        for more_than in (1, 4):
            wait_for_runs(first, store, more_than)
        first.kill()
        ended_well(second)
    check_same(store, undisturbed)
    check_log(store, deaths=1)


@pytest.mark.slow
def test_three_sweeps_share_though_one_after_the_other_is_killed(tmp_path, undisturbed):
    store = tmp_path / "store"
    with sweeping(store, 2) as first, sweeping(store) as second, sweeping(store, 2) as third:
        wait_for_runs(first, store, 3)
        first.kill()
        wait_for_runs(second, store, 6)
        second.kill()
        ended_well(third)
    check_same(store, undisturbed)
    check_log(store, deaths=2)


# A full disk


FULL = (
    "cannot write to {}: No space left on device. Free space there and give the same command "
    "again: it goes on from there, and nothing was left by half"
)


def write_with_little_space(folder: Path, unit: str) -> list[tuple[str, set[str]]]:
    """What is told, and what is left, on disks that are larger and larger, until all fits.

    Each time the disk is enlarged, and the run is written after all.
    """
    told: list[tuple[str, set[str]]] = []
    for size in count(2):
        place = folder / str(size)
        place.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o"]
        given = {"pages": f"size={4096 * size}", "files": f"nr_inodes={size}"}
        subprocess.run([*mount, given[unit], "tmpfs", str(place)], check=True)
        try:
            write_a_run(place)
            return told
        except InputError as error:
            told.append((str(error), names(place)))
        subprocess.run([*mount, "remount,size=1m,nr_inodes=99", str(place)], check=True)
        write_a_run(place)
        assert names(place) == WHOLE
    raise AssertionError


ON_DISKS = """
import json, sys
from pathlib import Path
from test_nothing_lost import write_with_little_space
found = write_with_little_space(Path(sys.argv[1]), sys.argv[2])
print(json.dumps([(line, sorted(left)) for line, left in found]))
"""


def with_mounts(*command: str) -> str:
    """What a command prints that may mount disks, which nobody else sees; skips if none may."""
    able = ["unshare", "--map-root-user", "--mount"]
    try:
        subprocess.run([*able, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    done = subprocess.run(
        [*able, *command], capture_output=True, text=True, env=environment(), timeout=1200
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("unit", ["pages", "files"])
def test_wherever_a_disk_is_full_it_is_told_and_nothing_is_there_by_half(tmp_path, unit):
    printed = with_mounts(sys.executable, "-c", ON_DISKS, str(tmp_path), unit)
    found = json.loads(printed)
    assert len(found) > 2
    for i, (line, left) in enumerate(found, start=2):
        assert line.replace("/plans:", ":") == FULL.format(tmp_path / str(i))
        assert set(left) <= WHOLE
        assert KEY not in left or WHOLE - {"plans", "plans/sweep.json"} <= set(left)


SWEEP_ON_SMALL_DISK = """
mount -t tmpfs -o size=200k tmpfs "$1"
export LOG_OF_RUNS="$2.log"
shift 2
"$@" --store disk/store --jobs 2 2> told; echo $?
find disk/store > left
mount -o remount,size=100m disk
"$@" --store disk/store --jobs 2 2>> told; echo $?
cp -r disk/store .
"""


@pytest.mark.slow
def test_a_sweep_on_a_full_disk_goes_on_when_there_is_space_again(
    tmp_path, undisturbed, monkeypatch
):
    (tmp_path / "disk").mkdir()
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-c", START, *COMMAND]
    printed = with_mounts("sh", "-c", SWEEP_ON_SMALL_DISK, "sh", "disk", "store", *command)
    assert printed.splitlines()[0] == "2"
    assert printed.splitlines()[-1] == "0"
    assert Path("told").read_text() == f"mmer: {FULL.format(tmp_path / 'disk' / 'store')}\n"
    left = Path("left").read_text().splitlines()
    assert 0 < sum(name.endswith("run.json") for name in left) < RUNS
    assert not any("/." in name for name in left)
    check_same(tmp_path / "store", undisturbed)


@contextmanager
def limit(kind: int, value: int) -> Iterator[None]:
    """This process may not have more of something; as before afterwards."""
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def test_a_file_that_may_not_be_so_large_is_told_in_one_line(tmp_path, undisturbed, capfd):
    """A real error of a real write wherever nothing can be mounted: a limit of the process."""
    store = tmp_path / "store"
    with limit(resource.RLIMIT_FSIZE, 2000):
        assert main([*COMMAND, "--store", str(store)]) == 2
    told = FULL.format(store).replace("No space left on device", "File too large")
    assert capfd.readouterr().err == f"mmer: {told}\n"
    assert names(store) == {"store.json", "claims"}
    assert main([*COMMAND, "--store", str(store)]) == 0
    check_same(store, undisturbed)


# No memory


def take_gigabytes(how_many: int) -> int:
    """A real refusal of the system, under a limit of this process."""
    used = psutil.Process().memory_info().vms
    with limit(resource.RLIMIT_AS, used + 2**29):
        return len(np.ones(how_many * 2**30, np.uint8))


def test_a_worker_without_memory_is_told_by_the_name_of_its_work():
    with pytest.raises(InputError) as raised:
        list(as_finished(take_gigabytes, [8], 1, called="{} gigabytes".format))
    assert str(raised.value) == (
        "8 gigabytes: memory is not enough (8.00 GiB more were asked for). Use fewer jobs, "
        "smaller batches or a smaller model. What is finished is kept"
    )


def test_a_model_that_does_not_fit_into_memory_is_told_in_one_line(tmp_path, capfd):
    command = [*COMMAND, "--width", "60000", "--store", str(tmp_path / "store")]
    with limit(resource.RLIMIT_AS, psutil.Process().memory_info().vms + 2**30):
        assert main(command) == 2
    assert re.fullmatch(
        r"mmer: self-T, fold 0, seed 0: memory is not enough \([\d.]+ GiB more were asked for\)\. "
        r"Use fewer jobs, smaller batches or a smaller model\. What is finished is kept\n",
        capfd.readouterr().err,
    )
    assert names(tmp_path / "store") == {"store.json", "claims"}


def test_an_error_that_is_none_of_memory_stays_as_it_is():
    with pytest.raises(RuntimeError, match="shapes"), telling_of_memory("work"):
        raise RuntimeError("shapes do not fit")
