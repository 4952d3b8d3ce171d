"""Work in processes beside each other: what comes back, what is raised, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psutil
import pytest

from mmer_lib import workers
from mmer_lib.errors import InputError
from mmer_lib.workers import as_finished, in_new_process, in_order

ROOT = Path(__file__).resolve().parents[1]


# What is sent to workers: functions of this module.


def square(x: int) -> int:
    return x * x


def fail_at(bad: int, error: Exception, x: int) -> int:
    if x == bad:
        raise error
    return x


def die_once(folder: Path, x: int) -> int:
    """The first worker that comes to 2 is killed there."""
    if x == 2 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def die_at(bad: int, x: int) -> int:
    if x == bad:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def wait_for(folder: Path, x: int) -> int:
    """0 waits until all others are done; each leaves a file."""
    while x == 0 and len(list(folder.iterdir())) < 5:
        time.sleep(0.01)
    (folder / str(x)).touch()
    return x


def seen(_: Any) -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in (*workers.ONE_THREAD, "MMER_TOLD")}


def loaded_at_start(module: str) -> bool:
    return module in sys.modules


def stay(folder: Path, x: int) -> int:
    """Say that it has begun, end when the file ``go`` is there; say that it has cleaned up."""
    try:
        (folder / f"{os.getpid()}-begun").touch()
        while not (folder / "go").exists():
            time.sleep(0.01)
    finally:
        (folder / f"{os.getpid()}-cleaned").touch()


class Awkward(Exception):
    """An exception that cannot be made again from what it holds."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


class Mine:
    """What a script may define."""


def until(condition: Callable[[], Any]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("nothing came within 30 seconds")


@pytest.fixture
def no_worker_left() -> Iterator[None]:
    yield
    assert workers.multiprocessing.active_children() == []


pytestmark = pytest.mark.usefixtures("no_worker_left")


# What comes back


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_every_item_gives_its_result_once(jobs):
    assert sorted(as_finished(square, range(7), jobs)) == [x * x for x in range(7)]
    assert list(in_order(square, range(7), jobs)) == [x * x for x in range(7)]


def test_no_item_gives_no_result_and_starts_no_process(monkeypatch):
    monkeypatch.setattr(workers, "_Worker", None)
    assert list(as_finished(square, [], 2)) == []


def test_no_item_waits_for_another(tmp_path):
    """The first one ends only when the five others are done, by one worker of two."""
    done = list(as_finished(partial(wait_for, tmp_path), range(6), 2))
    assert sorted(done) == list(range(6))
    assert 0 in done[-2:]  # the last of the others may answer at the same time


def test_in_order_the_first_comes_first_though_it_is_done_last(tmp_path):
    assert list(in_order(partial(wait_for, tmp_path), range(6), 2)) == list(range(6))


def test_in_order_nothing_is_begun_too_far_ahead_of_what_is_unfinished(tmp_path):
    """Items 1 .. 7 are taken while 0 is under way, and no more: it ends when five are done."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for x in range(30):
            taken.append(x)
            yield x

    results = in_order(partial(wait_for, tmp_path), items(), 2)
    assert next(results) == 0
    assert len(taken) <= 1 + 8 + 2  # what was begun before, and what is begun since
    assert list(results) == list(range(1, 30))


def test_workers_are_of_one_thread_and_have_the_environment_of_the_call(monkeypatch):
    for told in ("one", "two"):  # the second time the server is there already
        monkeypatch.setenv("MMER_TOLD", told)
        before = dict(os.environ)
        (found,) = as_finished(seen, [0], 1)
        assert found == {**dict.fromkeys(workers.ONE_THREAD, "1"), "MMER_TOLD": told}
        assert dict(os.environ) == before


@pytest.mark.skipif(workers.METHOD != "forkserver", reason="workers share no imports here")
def test_workers_are_born_with_what_was_preloaded():
    forkserver._forkserver._stop()  # whatever it has imported for other tests
    workers._preloaded.clear()
    assert list(as_finished(loaded_at_start, ["wave"], 1)) == [False]
    assert list(as_finished(loaded_at_start, ["wave"], 1, preload=["wave"])) == [True]
    assert list(as_finished(loaded_at_start, ["wave"], 1, preload=["colorsys"])) == [True]


def test_where_there_is_no_fork_every_worker_is_a_new_interpreter(monkeypatch):
    monkeypatch.setattr(workers, "METHOD", "spawn")
    assert list(in_order(square, range(3), 2, preload=["wave"])) == [0, 1, 4]


def test_each_call_in_a_new_process_has_one_of_its_own():
    first, second = in_new_process(os.getpid), in_new_process(os.getpid)
    assert len({first, second, os.getpid()}) == 3


def test_a_number_of_jobs_that_is_none_is_refused():
    with pytest.raises(InputError, match="jobs=0: a whole number of at least 1 expected"):
        list(as_finished(square, [1], 0))


# What goes wrong


def test_what_a_worker_raises_is_raised_here_and_nothing_more_is_begun():
    taken: list[int] = []

    def items() -> Iterator[int]:
        for x in range(50):
            taken.append(x)
            yield x

    with pytest.raises(InputError) as caught:
        list(as_finished(partial(fail_at, 3, InputError("wrong: mend it")), items(), 1))
    assert str(caught.value) == "wrong: mend it"
    assert taken == [0, 1, 2, 3]


def test_a_defect_tells_where_in_the_worker_it_was():
    with pytest.raises(KeyError) as caught:
        list(as_finished(partial(fail_at, 0, KeyError("x")), [0], 1))
    assert caught.value.args == ("x",)
    assert "in fail_at" in caught.value.__notes__[0]


def awkward(_: int) -> None:
    raise Awkward("this", "that")


def test_an_exception_that_cannot_be_sent_is_told_of():
    with pytest.raises(RuntimeError, match="Awkward: this and that"):
        list(as_finished(awkward, [0], 1))


def give_lambda(_: int) -> Callable[[], None]:
    return lambda: None


def test_a_result_that_cannot_be_sent_is_told_of():
    with pytest.raises(Exception, match="give_lambda"):
        list(as_finished(give_lambda, [0], 1))


@pytest.mark.parametrize("function", [lambda x: x, partial(fail_at, lambda: 0)])
def test_a_function_that_cannot_be_sent_is_told_in_one_line(function):
    with pytest.raises(InputError, match="cannot be sent to a worker process") as caught:
        list(as_finished(function, [1], 2))
    assert "\n" not in str(caught.value)


def test_what_a_script_defines_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "Mine", Mine, raising=False)
    monkeypatch.setattr(Mine, "__module__", "__main__")
    with pytest.raises(InputError, match=r"Mine.* on __main__ failed\. Define it at the top of a"):
        list(as_finished(repr, [Mine()], 2))


@pytest.mark.parametrize("run", [as_finished, in_order])
def test_what_a_dead_worker_had_is_done_by_another(tmp_path, run):
    assert sorted(run(partial(die_once, tmp_path), range(6), 2)) == list(range(6))
    assert (tmp_path / "died").exists()


def test_an_item_at_which_two_workers_die_is_given_up_by_name():
    with pytest.raises(InputError) as caught:
        list(as_finished(partial(die_at, 2), range(6), 2, called=lambda x: f"item {x}"))
    assert "item 2: 2 worker processes died at it, the last by SIGKILL" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_worker_that_leaves_by_itself_is_dead_too():
    with pytest.raises(InputError, match="the last by exit status 3"):
        list(as_finished(os._exit, [3], 1))


def kill_server() -> None:
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)


@pytest.mark.skipif(workers.METHOD != "forkserver", reason="there is no server here")
def test_workers_go_on_though_their_server_is_killed_and_new_ones_have_a_new_server(tmp_path):
    results = as_finished(partial(die_once, tmp_path), range(6), 1)
    first = next(results)
    kill_server()
    assert sorted([first, *results]) == list(range(6))
    assert (tmp_path / "died").exists()  # the worker, after its server
    before = forkserver._forkserver._forkserver_pid
    kill_server()
    (found,) = as_finished(seen, [0], 1)
    assert found == dict.fromkeys(workers.ONE_THREAD, "1") | {"MMER_TOLD": None}
    assert forkserver._forkserver._forkserver_pid != before


@pytest.mark.skipif(workers.METHOD != "forkserver", reason="there is no server here")
def test_a_server_that_is_slow_to_die_is_not_asked_again(monkeypatch):
    """It lives until it is waited for, and what is asked of it meanwhile fails."""
    list(as_finished(square, [1], 1))
    waited, real = [], workers._see_server_end

    def wait() -> None:
        waited.append(forkserver._forkserver._forkserver_pid)
        kill_server()
        real()

    starting(1, monkeypatch)
    monkeypatch.setattr(workers, "_see_server_end", wait)
    assert sorted(as_finished(square, range(3), 1)) == [0, 1, 4]
    assert waited != [forkserver._forkserver._forkserver_pid]


def starting(fails: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first workers cannot be started, as where a server dies while it is asked."""
    real, tried = workers._Worker, []

    def start() -> Any:
        tried.append(1)
        if len(tried) <= fails:
            raise EOFError("unexpected EOF")
        return real()

    monkeypatch.setattr(workers, "_Worker", start)


def test_a_server_that_dies_while_it_is_asked_for_a_worker_is_asked_again(monkeypatch):
    starting(1, monkeypatch)
    monkeypatch.setattr(workers, "_DYING", 0)  # it does not
    assert sorted(as_finished(square, range(3), 1)) == [0, 1, 4]


def test_that_no_worker_can_be_started_is_told_in_one_line(monkeypatch):
    starting(2, monkeypatch)
    monkeypatch.setattr(workers, "_DYING", 0)
    with pytest.raises(InputError) as caught:
        list(as_finished(square, range(3), 1))
    assert str(caught.value) == (
        "no worker process can be started (unexpected EOF). Where memory or processes are short, "
        "use fewer jobs. What is finished is kept"
    )


# How it ends


def test_closing_early_ends_the_workers_when_they_have_cleaned_up(tmp_path):
    results = as_finished(partial(stay_after_one, tmp_path), range(9), 2)
    assert next(results) == 0
    until(lambda: len(list(tmp_path.glob("*-begun"))) == 2)
    results.close()
    assert len(list(tmp_path.glob("*-cleaned"))) == 2


def stay_after_one(folder: Path, x: int) -> int:
    return x if x == 0 else stay(folder, x)


SCRIPT = """
import sys
from functools import partial
from pathlib import Path
sys.path.insert(0, {tests!r})
print("script runs", flush=True)
from test_workers import square, stay
from mmer_lib.workers import as_finished
folder = Path({folder!r})
assert sorted(as_finished(square, range(5), 2)) == [0, 1, 4, 9, 16]
print("first done", flush=True)
list(as_finished(partial(stay, folder), range(5), 2))
"""


def start_script(folder: Path) -> subprocess.Popen[str]:
    """A script without a guard, in a process group of its own, as a terminal starts it."""
    (folder / "script.py").write_text(SCRIPT.format(tests=str(ROOT / "tests"), folder=str(folder)))
    return subprocess.Popen(
        [sys.executable, str(folder / "script.py")], text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_script_without_a_guard_runs_once_and_ctrl_c_stops_it_quietly(tmp_path):
    """Ctrl-C goes to the script and all its workers; only the script tells of it."""
    script = start_script(tmp_path)
    until(lambda: len(list(tmp_path.glob("*-begun"))) == 2 or script.poll() is not None)
    family = psutil.Process(script.pid).children(recursive=True)
    os.killpg(script.pid, signal.SIGINT)
    out, err = script.communicate(timeout=30)
    assert out.splitlines() == ["script runs", "first done"]
    assert err.splitlines()[-1] == "KeyboardInterrupt"
    assert err.count("Traceback") == 1
    assert len(list(tmp_path.glob("*-cleaned"))) == 2
    _, left = psutil.wait_procs(family, timeout=10)
    assert left == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_workers_of_a_killed_process_finish_what_they_have_begun_and_end(tmp_path):
    script = start_script(tmp_path)
    until(lambda: len(list(tmp_path.glob("*-begun"))) == 2 or script.poll() is not None)
    family = psutil.Process(script.pid).children(recursive=True)
    script.kill()
    (tmp_path / "go").touch()
    script.communicate()
    assert len(list(tmp_path.glob("*-begun"))) == 2
    _, left = psutil.wait_procs(family, timeout=10)
    assert left == []


@pytest.mark.skipif(workers.METHOD != "forkserver", reason="there is no server here")
def test_ctrl_c_while_the_server_imports_is_quiet_too(tmp_path):
    code = (
        "import os, signal, threading, time\n"
        "from mmer_lib.workers import as_finished\n"
        "threading.Timer(0.5, os.killpg, (0, signal.SIGINT)).start()\n"
        "list(as_finished(time.sleep, [60], 1, preload=['mmer_lib.sweep']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert done.stderr.count("Traceback") == 1
