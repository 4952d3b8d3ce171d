"""Ctrl-C, and SIGTERM: a command stops within two seconds and leaves no process and no half file.

The first signal raises ``KeyboardInterrupt``, so that whatever is being written is cleaned up; more
of them change nothing. An exception may get lost on its way, in a callback of a library or in one
that is called as an object is freed: a thread that is woken by the signal itself sees to it that
the exception is raised again, and that the process ends in any case.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STATUS = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AGAIN, _LAST = 1.2, 0.4  # seconds to unwind until it is raised again, and then to the end
_TIDY = 0.3  # seconds to remove what is temporary

_tell: Callable[[], str] | None = None
_leaving = threading.Lock()


def on_stop(tell: Callable[[], str]) -> None:
    """What is said if the command is stopped from here on: what is done, and how to go on."""
    global _tell
    _tell = tell


class Stopping:
    """Signals of this command: which one came, and whether it has stopped."""

    def __init__(self) -> None:
        self.came: int | None = None
        self.raise_again = False
        self.stopped = threading.Event()

    def handle(self, number: int, _: FrameType | None) -> None:
        """The handler of both signals."""
        if self.came is None or (self.raise_again and not self.stopped.is_set()):
            self.came, self.raise_again = number, False
            raise KeyboardInterrupt

    def watch(self, woken: int) -> None:
        """What the thread does; ``woken`` is the end of a pipe that signals are written to."""
        number = b"\0"
        while number and number[0] not in _SIGNALS:  # others may have handlers, too
            number = os.read(woken, 1)
        if not number or self.stopped.wait(_AGAIN):
            return
        self.raise_again = True
        signal.pthread_kill(threading.main_thread().ident or 0, number[0])
        if not self.stopped.wait(_LAST):
            _leave()


@contextmanager
def stoppable() -> Iterator[Stopping]:
    """Signals stop what is done in the block, if this is the main thread; as before afterwards.

    A signal that is ignored stays so (as in the background), and so does another's handler.
    """
    global _tell
    _tell = None
    stopping = Stopping()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {s: signal.getsignal(s) for s in _SIGNALS if signal.getsignal(s) in usual}
    for one in before:
        signal.signal(one, stopping.handle)
    try:
        with _watched(stopping):
            yield stopping
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def _watched(stopping: Stopping) -> Iterator[None]:
    """A thread that is woken by signals."""
    if os.name != "posix":
        yield
        return
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    before = signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
    thread = threading.Thread(target=stopping.watch, args=(ours,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(theirs)
        if not stopping.came:
            thread.join()
            os.close(ours)


def end_stopped(stopping: Stopping) -> int:
    """End a command that was stopped, and this process if it was by a signal; else its status."""
    stopping.stopped.set()
    if stopping.came:
        _leave()
    _say_last_words()
    return STATUS


def _leave() -> None:
    """Say the last words; end every process that this one has started, and this one.

    Of what Python does at its end, temporary folders are removed; it would also wait for threads,
    and kill itself by the signal if that came while text was executed as code, which some libraries
    do as they are imported.
    """
    if not _leaving.acquire(blocking=False):
        threading.Event().wait()  # the other thread ends the process
    _say_last_words()
    _end_children()
    cleaner = threading.Thread(target=atexit._run_exitfuncs, daemon=True)
    cleaner.start()
    cleaner.join(_TIDY)
    os._exit(STATUS)


def _say_last_words() -> None:
    told = f"stopped: {_tell() if _tell else 'nothing was written'}"
    with suppress(OSError, ValueError):  # who read them may be gone
        sys.stdout.flush()
        sys.stderr.write(f"mmer: {told}\n")
        sys.stderr.flush()


def _end_children() -> None:
    """Kill every process below this one, but for the tracker that frees shared memory."""
    try:
        import psutil
    except ImportError:
        return
    left = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it may have ended just now
            if not any("resource_tracker" in text for text in child.cmdline()):
                child.kill()
                left.append(child)
    psutil.wait_procs(left, timeout=0.1)
