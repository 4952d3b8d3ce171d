"""One notebook executed by papermill, in a kernel that knows nothing of the user's profile."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Lock
from typing import Any
from uuid import uuid4

from mmer_lib.errors import InputError
from mmer_lib.pipeline.notebooks import Notebook, import_nbformat, normalise, write_notebook
from mmer_lib.workers import environment

_PATIENCE = 0.6  # seconds that a cell has to end when it is interrupted
_LOADING = Lock()  # two threads that import packages whose modules import each other fail
_removed = partial(TemporaryDirectory, ignore_cleanup_errors=True)


class StudyError(RuntimeError):
    """A notebook that could not be executed, in one line."""


class Stop:
    """What Ctrl-C says to all notebooks that are being executed, each in a thread of its own."""

    def __init__(self) -> None:
        self.said = Event()
        self.told: list[Callable[[], object]] = []  # one for each kernel: interrupts its cell

    def say(self) -> None:
        """Interrupt the cells that run; none begins any more."""
        self.said.set()
        for tell in self.told:
            with suppress(RuntimeError):  # its notebook has ended, and the loop with it
                tell()


def execute(notebook: Notebook, given: Mapping[str, Any], target: Path, stop: Stop) -> None:
    """Execute ``notebook`` with parameters; its copy appears in the folder ``target`` when whole.

    ``stop`` may be said from another thread: ``KeyboardInterrupt`` is raised then. Raises
    ``StudyError``, or ``InputError`` if that is what a cell raised, and keeps what there is as
    ``NN_name.failed.ipynb``.
    """
    whole = target / notebook.path.name
    partial_copy, failed = (target / f"{notebook.stem}.{w}.ipynb" for w in ("partial", "failed"))
    for stale in (whole, partial_copy, failed):
        stale.unlink(missing_ok=True)
    try:
        executed = _run_papermill(notebook, given, partial_copy, stop)
    except StudyError as error:
        raise StudyError(f"{error}. {_keep_failed(partial_copy, failed)}") from error
    except InputError:
        _keep_failed(partial_copy, failed)
        raise
    except BaseException:  # Ctrl-C, or what it does to a kernel that is slow to stop
        partial_copy.unlink(missing_ok=True)
        raise
    write_notebook(normalise(executed), partial_copy)
    partial_copy.replace(whole)


def _run_papermill(notebook: Notebook, given: Mapping[str, Any], copy: Path, stop: Stop) -> Any:
    """The executed node; a cell that fails is a ``StudyError``, or ``InputError`` if it is one."""
    with _LOADING:
        import_nbformat()
        import IPython.paths  # noqa: F401  by jupyter_client, when it looks for kernels
        import papermill
        from jupyter_core.utils import ensure_event_loop
        from nbclient.exceptions import DeadKernelError
        from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what fails is told by us
    at_work = Event()
    try:
        executed = papermill.execute_notebook(
            deepcopy(notebook.node),
            str(copy),
            parameters=dict(given),
            kernel_name="python3",
            language="python",
            progress_bar=False,
            kernel_manager_class=_kernel_manager(stop, at_work, notebook.path.parent),
            on_cell_execute=partial(_begin_cell, stop, at_work),
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],  # what fails is in the notebook
        )
    except (PapermillExecutionError, DeadKernelError, _StoppedError) as error:
        if stop.said.is_set():
            raise KeyboardInterrupt from error
        raise _explain(error, notebook, copy) from error
    except Exception as error:
        if stop.said.is_set():  # such as of a kernel that was killed before it was ready
            raise KeyboardInterrupt from error
        raise
    finally:
        _close(ensure_event_loop())  # this thread's, made by the first call of nbclient
    if stop.said.is_set():
        raise KeyboardInterrupt
    return executed


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """End what still waits in a loop, such as the end of a kernel that is gone by now."""
    waiting = asyncio.all_tasks(loop)
    for task in waiting:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*waiting, return_exceptions=True))
    loop.close()


def _explain(error: Any, notebook: Notebook, copy: Path) -> InputError | StudyError:
    """One line for what ended a notebook."""
    if not hasattr(error, "ename"):
        return StudyError(f"{notebook.stem}: its kernel died (is there enough memory?)")
    message = (str(error.evalue).splitlines() or [""])[0]
    where = f"{notebook.stem}, cell {_failed_cell(notebook, copy)}"
    if error.ename == InputError.__name__:
        return InputError(f"{where}: {message}")
    return StudyError(f"{where}: {error.ename}: {message}")


class _StoppedError(Exception):
    """Ctrl-C came between two cells."""


def _begin_cell(stop: Stop, at_work: Event, **_: Any) -> None:
    """Called before each cell."""
    at_work.set()
    _refuse_if(stop)


def _refuse_if(stop: Stop) -> None:
    if stop.said.is_set():
        raise _StoppedError


def _failed_cell(notebook: Notebook, copy: Path) -> int | str:
    """The number, counted from 1 in the source, of the cell whose output is an error."""
    cells = import_nbformat().read(copy, as_version=4).cells
    failed = {c.id for c in cells for o in c.get("outputs", []) if o.output_type == "error"}
    numbers = [n for n, c in enumerate(notebook.node.cells, start=1) if c.id in failed]
    return numbers[0] if numbers else "with the given parameters"


def _keep_failed(copy: Path, failed: Path) -> str:
    """Keep what there is of a failed notebook, and say where."""
    if not copy.exists():
        return "Nothing of it was written"
    copy.replace(failed)
    return f"The notebook up to there: {failed}"


def _kernel_manager(stop: Stop, at_work: Event, folder: Path) -> Any:
    """The class whose kernels speak over files instead of TCP (where there are such sockets).

    They run in ``folder``; papermill's ``cwd`` would move this whole process there, and with it
    the kernels that other threads are about to start. ``stop`` interrupts the cell, so that the
    kernel ends as after an error. One that takes too long, or is not ``at_work`` on a cell yet, is
    killed with all processes that it has started.
    """
    from jupyter_client.manager import AsyncKernelManager

    class StudyKernelManager(AsyncKernelManager):
        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            own = os.environ["JUPYTER_RUNTIME_DIR"]  # of this study: see kernel_environment
            if os.name == "posix":
                self.transport, self.ip = "ipc", os.path.join(own, uuid4().hex[:8])
            self.connection_file = os.path.join(own, f"{uuid4().hex}.json")
            options["cwd"] = str(folder)
            loop = asyncio.get_running_loop()
            stop.told.append(partial(loop.call_soon_threadsafe, self.begin_to_stop))
            _refuse_if(stop)
            await super().start_kernel(**options)

        def begin_to_stop(self) -> None:
            self.stopping = asyncio.ensure_future(self.end_kernel())

        async def end_kernel(self) -> None:
            if self.has_kernel and at_work.is_set():
                await self.interrupt_kernel()
                await asyncio.sleep(_PATIENCE)
            if self.has_kernel:
                await self.signal_kernel(getattr(signal, "SIGKILL", signal.SIGTERM))

    return StudyKernelManager


@contextmanager
def kernel_environment() -> Iterator[None]:
    """What the kernels inherit: figures in the notebook, no bars, nothing of the user's profile.

    Their temporary files are in a folder that is removed at the end, whatever becomes of them.
    """
    short = "/tmp" if os.path.isdir("/tmp") else None  # the path of a socket has 100 characters
    with _removed(prefix="mmer-", dir=short) as own, _removed(prefix="mmer-kernels-") as temporary:
        wanted = {
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "TQDM_DISABLE": "1",
            "OMP_NUM_THREADS": "1",  # the unit of parallel work is a run; and the same bits always
            "PYTHONHASHSEED": "0",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "IPYTHONDIR": own,
            "JUPYTER_RUNTIME_DIR": own,
            "TMPDIR": temporary,
        }
        with environment(wanted):
            yield
