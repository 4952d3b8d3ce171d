"""Work in processes beside each other: one thread each, started in milliseconds.

On Linux workers are forked from a server process that has imported what they need (the fork server
of ``multiprocessing``): a worker imports nothing, and what was imported is in memory once for all.
The first call starts the server, which ends with this process. Elsewhere a fork is not safe, and
every worker is a new interpreter.

Each worker has a pipe of its own and gets one piece of work at a time, so that none waits for
another, and it is known which piece a dead worker had. No thread and no lock is involved.

Only functions and classes of modules can be sent, not those of a script or notebook itself, which
workers never run: a script needs no ``if __name__ == "__main__"``.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import re
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from time import monotonic, sleep
from types import ModuleType
from typing import Any, TypeVar

from mmer_lib.errors import InputError, check_whole

Item = TypeVar("Item")
Result = TypeVar("Result")

METHOD = "forkserver" if sys.platform == "linux" else "spawn"
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
     "NUMBA_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "BLIS_NUM_THREADS"), "1",
)  # fmt: skip
_LIVES = 2  # workers that may die at the same piece of work
_DYING = 10  # seconds that a server may take to die
_PATIENCE = 1.5  # seconds that a worker has to leave, before it is killed


def as_finished(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    jobs: int,
    preload: Sequence[str] = (),
    called: Callable[[Item], str] = repr,
) -> Iterator[Result]:
    """``function(item)`` of every item as it is finished, from ``jobs`` processes.

    ``preload``: modules that the work needs; ``called``: an item's name in messages. What
    ``function`` raises is raised here, and work under way is stopped, as it is when the iterator
    is closed or Ctrl-C comes. A piece of work whose worker dies (out of memory, say) is done
    again by a new one, once; then ``InputError`` is raised. Where this process is killed, workers
    finish what they have begun and end.
    """
    tasks = _tasks(function, items, called)
    for _, result in _Team(tasks, jobs, preload).results():
        yield result


def in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    jobs: int,
    preload: Sequence[str] = (),
    called: Callable[[Item], str] = repr,
) -> Iterator[Result]:
    """As :func:`as_finished`, but results come in the order of ``items``.

    Nothing is begun that is four items a worker or more ahead of one that is not finished.
    """
    early: dict[int, Result] = {}
    turn = 0
    tasks = _tasks(function, items, called)
    for place, result in _Team(tasks, jobs, preload, ahead=4 * jobs).results():
        early[place] = result
        while turn in early:
            yield early.pop(turn)
            turn += 1


def in_new_process(function: Callable[..., Result], *given: Any) -> Result:
    """``function(*given)`` in a process that has done nothing before."""
    work = partial(_call, function)
    return next(as_finished(work, [given], 1, [function.__module__], lambda _: function.__name__))


def _call(function: Callable[..., Result], given: tuple[Any, ...]) -> Result:
    return function(*given)


@contextmanager
def telling_of_memory(name: str) -> Iterator[None]:
    """Turn whatever says that memory was not enough for ``name`` into one line: ``InputError``."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not _is_of_memory(error):
            raise
        raise InputError(
            f"{name}: memory is not enough{_asked(str(error))}. Use fewer jobs, smaller batches or "
            f"a smaller model. What is finished is kept"
        ) from error


def _asked(message: str) -> str:
    """How much was asked for, as numpy and torch tell, in GiB."""
    found = re.search(r"to allocate ([\d.]+) (bytes|KiB|MiB|GiB|TiB|PiB)", message)
    if not found:
        return ""
    powers = {"bytes": 0, "KiB": 1, "MiB": 2, "GiB": 3, "TiB": 4, "PiB": 5}
    return f" ({float(found[1]) * 1024.0 ** (powers[found[2]] - 3):.2f} GiB more were asked for)"


def _is_of_memory(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    said = ("can't allocate memory", "out of memory", "bad_alloc")  # by torch, on CPU and CUDA
    return isinstance(error, MemoryError) or any(text in str(error) for text in said)


# -- pieces of work --------------------------------------------------------------------------------


@dataclass
class _Task:
    """A piece of work: its place among the items, what is sent, how many died at it."""

    place: int
    name: str
    message: bytes
    deaths: int = 0


def _tasks(
    function: Callable[[Item], Result], items: Iterable[Item], called: Callable[[Item], str]
) -> Iterator[_Task]:
    """Every item, ready to be sent."""
    for place, item in enumerate(items):
        try:
            with _empty_main():  # what stands there cannot be found by a worker, nor here
                message = pickle.dumps((function, item), pickle.HIGHEST_PROTOCOL)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise InputError(
                f"cannot be sent to a worker process: {error}. Define it at the top of a module, "
                f"not in a script, notebook or function; or use jobs=1"
            ) from error
        yield _Task(place, called(item), message)


# -- this side -------------------------------------------------------------------------------------


class _Worker:
    """A process, the pipe to it and the task it is at: none, if it is idle."""

    def __init__(self) -> None:
        context = multiprocessing.get_context(METHOD)
        self.task: _Task | None = None
        self.pipe, theirs = context.Pipe()
        given = (theirs, {**os.environ, **ONE_THREAD})
        self.process = context.Process(target=_work, args=given, daemon=True)  # type: ignore[attr-defined]
        try:
            with _empty_main():
                self.process.start()
        except BaseException:
            self.pipe.close()
            raise
        finally:
            theirs.close()  # the worker's alone: where it ends, the pipe ends

    def give(self, task: _Task) -> None:
        """Send a task. That the worker is dead is seen when it should answer."""
        self.task = task
        with suppress(OSError):
            self.pipe.send_bytes(task.message)

    def take(self) -> tuple[_Task, bytes | None]:
        """The task and what came of it, None if the worker is dead."""
        task, self.task = self.task, None
        assert task is not None
        try:
            return task, self.pipe.recv_bytes()
        except (EOFError, OSError):
            return task, None

    def leave(self) -> None:
        """End the process: at once if it is idle, else when it has cleaned up behind its work."""
        self.pipe.close()
        if self.task is not None:
            self.process.terminate()

    def ending(self, patience: float = _PATIENCE) -> str:
        """Wait for the end, after ``patience`` seconds by force, and say how it was."""
        self.process.join(max(patience, 0))
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        code = self.process.exitcode
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"


class _Team:
    """Up to ``jobs`` workers, and the tasks that are left for them."""

    def __init__(
        self, tasks: Iterator[_Task], jobs: int, preload: Sequence[str], ahead: int | None = None
    ) -> None:
        self.tasks, self.jobs = tasks, check_whole("jobs", jobs, at_least=1)
        self.preload, self.ahead = preload, ahead
        self.workers: list[_Worker] = []
        self.again: deque[_Task] = deque()  # tasks whose worker died
        self.begun = 0

    def results(self) -> Iterator[tuple[int, Any]]:
        """(place, result) of every task as it is finished."""
        done: deque[tuple[int, Any]] = deque()
        try:
            while True:
                self.give_out()
                if done:
                    yield done.popleft()
                elif busy := {w.pipe: w for w in self.workers if w.task is not None}:
                    for pipe in wait(list(busy)):
                        done += self.collect(busy[pipe])  # type: ignore[index]
                else:
                    return
        finally:
            self.dismiss()

    def give_out(self) -> None:
        """Something to do for all who are idle, as long as there is; new workers if need be."""
        while True:
            idle = [worker for worker in self.workers if worker.task is None]
            if not idle and len(self.workers) == self.jobs:
                return
            task = self.again.popleft() if self.again else self.next_task()
            if task is None:
                return
            (idle[0] if idle else self.hire()).give(task)

    def next_task(self) -> _Task | None:
        """One that was not begun yet, unless there is none, or it would be too far ahead."""
        under_way = [worker.task.place for worker in self.workers if worker.task is not None]
        if self.ahead is not None and under_way and self.begun - min(under_way) >= self.ahead:
            return None
        task = next(self.tasks, None)
        self.begun += task is not None
        return task

    def hire(self) -> _Worker:
        """One worker more. That their server dies meanwhile is no reason to give up."""
        try:
            worker = _start_worker(self.preload)
        except (OSError, EOFError):
            _see_server_end()
            try:
                worker = _start_worker(self.preload)
            except (OSError, EOFError) as error:
                why = str(error) or type(error).__name__
                remedy = "Where memory or processes are short, use fewer jobs"
                if "AF_UNIX" in why:  # sockets of the server lie among the temporary files
                    remedy = "Set TMPDIR to a folder with a shorter path"
                raise InputError(
                    f"no worker process can be started ({why}). {remedy}. What is finished is kept"
                ) from error
        self.workers.append(worker)
        return worker

    def collect(self, worker: _Worker) -> list[tuple[int, Any]]:
        """What a worker has finished; nothing if it died and its task must be done again."""
        task, answer = worker.take()
        if answer is not None:
            with telling_of_memory(task.name):
                return [(task.place, _read(answer))]
        self.workers.remove(worker)
        worker.leave()
        ending = worker.ending()
        task.deaths += 1
        if task.deaths == _LIVES:
            raise InputError(
                f"{task.name}: {_LIVES} worker processes died at it, the last by {ending}. Where "
                f"memory is short, use fewer jobs. What is finished is kept"
            )
        self.again.append(task)
        return []

    def dismiss(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.leave()
        until = monotonic() + _PATIENCE
        for worker in self.workers:
            worker.ending(until - monotonic())


def _read(answer: bytes) -> Any:
    """The result of a task; raises what its function raised."""
    good, value = pickle.loads(answer)
    if good:
        return value
    raise value


# -- starting --------------------------------------------------------------------------------------

_preloaded: set[str] = set()  # what the server of this process has imported


def _start_server(preload: Sequence[str]) -> None:
    """Start the server that workers are forked from, unless it lives and has all imported.

    Ctrl-C is not for the server and its workers, so they are born with that signal blocked.
    """
    if METHOD != "forkserver":
        return
    from multiprocessing import forkserver, resource_tracker  # not on every system

    if not {*preload, __name__} <= _preloaded:
        if _preloaded and not multiprocessing.active_children():
            forkserver._forkserver._stop()  # type: ignore[attr-defined]  # it knows too little
        _preloaded.update(preload, [__name__])
        forkserver.set_forkserver_preload(sorted(_preloaded))
    # It must find what this process finds, and nothing else in the folder that it is started in.
    path = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"}
    resource_tracker.ensure_running()  # before, as it would let the signal through again
    with environment({**ONE_THREAD, **path}), _empty_main(), _no_interrupt():
        forkserver.ensure_running()


def _start_worker(preload: Sequence[str]) -> _Worker:
    _start_server(preload)
    return _Worker()


def _see_server_end() -> None:
    """Wait until the server has died, if it is about to: else it would be asked once more."""
    if METHOD != "forkserver":
        return
    from multiprocessing import forkserver  # not on every system

    server, until = forkserver._forkserver._forkserver_pid, monotonic() + _DYING  # type: ignore[attr-defined]
    about = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while server and os.waitid(os.P_PID, server, about) is None and monotonic() < until:
        sleep(0.01)


@contextmanager
def _empty_main() -> Iterator[None]:
    """Without the script that is run: else ``multiprocessing`` runs it again in every process."""
    real = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = real


@contextmanager
def environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Environment variables changed, as before afterwards."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Ctrl-C waits until the end of the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# -- the other side --------------------------------------------------------------------------------


def _work(pipe: Connection, environment: Mapping[str, str]) -> None:
    """What a worker does: answer until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever pressed Ctrl-C tells us to leave
    signal.signal(signal.SIGTERM, _leave)
    os.environ.clear()
    os.environ.update(environment)
    with suppress(EOFError, OSError):
        while True:
            pipe.send_bytes(_answer(pipe.recv_bytes()))


def _leave(*_: object) -> None:
    """End this worker; what was begun is cleaned up.

    A library's callback may swallow that and would complain of it; then we are killed soon.
    """
    sys.unraisablehook = lambda _: None
    sys.exit(1)


def _answer(message: bytes) -> bytes:
    """A task done: (True, result), or (False, what was raised)."""
    try:
        function, item = pickle.loads(message)
        return pickle.dumps((True, function(item)), pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001  it is raised again on the other side
        return _told(error)


def _told(error: Exception) -> bytes:
    """An exception with its traceback as a note, if it can be sent; else its text."""
    text = "".join(traceback.format_exception(error))
    if not isinstance(error, InputError):
        error.add_note(f"In a worker process:\n{text}")
    try:
        answer = pickle.dumps((False, error), pickle.HIGHEST_PROTOCOL)
        pickle.loads(answer)
    except Exception:  # noqa: BLE001  an exception may be anything
        return pickle.dumps((False, RuntimeError(text)), pickle.HIGHEST_PROTOCOL)
    return answer
