"""The study: the ordered notebooks, each executed once for what decides its outputs.

    run_study("quick")                                       # the notebooks as they are
    run_study("quick", ["*.corpus=PATH", "03.seeds=3"], out="runs/mine")

A run folder holds ``notebooks/NN_name.ipynb`` (executed), beside each ``NN_name.json`` (what it
was made from), ``store/`` and ``verdicts.csv``. A notebook is executed again when its code, its
parameters, the library, the data it names or a notebook that filled its store has changed. It is
written beside and renamed when whole; one that fails is kept as ``NN_name.failed.ipynb``.

Kernels run in the notebooks' folder, and every path given to them is relative to it, so that no
path of a machine enters an output.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mmer_lib.errors import InputError, unknown
from mmer_lib.parameters import (
    Parameter,
    Settings,
    find_notebooks,
    read_parameters,
    read_settings,
)

PLACES = ("store", "figures", "results")  # parameters that say where something is written
FACES = ("cli.py", "pipeline.py", "parameters.py")  # these decide no output

# The notebooks' own defaults are the quick profile; "*" is every notebook with that parameter.
PROFILES: dict[str, Settings] = {
    "quick": {},
    "ci": {
        "*": {"corpus": "synthetic,utterances=160,classes=3,features=6"},
        "03": {"folds": 2, "epochs": 1, "width": 8, "heads": 2, "jobs": 1},
    },
    "paper": {
        "03": {
            "folds": 5, "seeds": 10, "epochs": 100, "patience": 10, "lr": 0.001, "batch_size": 32,
            "width": 120, "heads": 6, "oddity_folds": 5,
        },
    },
}  # fmt: skip

_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class StudyError(RuntimeError):
    """A notebook that could not be executed, in one line."""


@dataclass(frozen=True)
class Notebook:
    """A source notebook: nbformat's node, and the entries of its parameters cell."""

    path: Path
    node: Any = field(repr=False)
    parameters: dict[str, Parameter] = field(repr=False)

    @property
    def stem(self) -> str:
        """``03_training``."""
        return self.path.stem


@dataclass(frozen=True)
class Study:
    """Where a study left its things; ``verdicts`` is None if no verdict table was written."""

    folder: Path
    executed: list[Path]
    figures: Path
    store: Path
    verdicts: Path | None


def run_study(
    profile: str = "quick",
    settings: Sequence[str] = (),
    only: Sequence[str] = (),
    out: str | Path | None = None,
    refresh: bool = False,
    notebooks: str | Path | None = None,
    say: Callable[..., None] = partial(print, flush=True),
) -> Study:
    """Execute the notebooks of ``notebooks`` (by default the repository's) that are not up to date.

    ``settings`` are ``NOTEBOOK.PARAM=VALUE`` texts, ``only`` numbers or stems. ``out`` is the run
    folder (``runs/<profile>`` beside the notebooks); only a quick study without settings or
    ``out`` writes to the committed figures. ``refresh`` writes such a study's outputs back into
    the notebooks.

    Raises ``InputError`` for anything given wrongly, before a kernel starts where it can be seen
    then, and ``StudyError`` for a notebook that fails.
    """
    if profile not in PROFILES:
        raise unknown("profile", profile, PROFILES)
    plain = profile == "quick" and not settings and out is None
    if refresh and not (plain and not only):
        raise InputError(
            "refresh takes no profile, setting, selection or out: it is the quick study"
        )
    folder = Path(notebooks) if notebooks else _find_folder()
    sources = read_notebooks(folder)
    chosen = [s for t in only for s in find_notebooks(t, list(sources))] or list(sources)
    run = Path(out) if out is not None else folder.parent / "runs" / profile
    values = _decide_values(profile, settings, sources, run, folder, keep_figures=plain)
    with _locked(run), _kernel_environment():
        for stem in [s for s in sources if s in chosen]:
            _bring_up_to_date(sources[stem], values, sources, run / "notebooks", say)
    if refresh:
        for notebook in sources.values():
            write_back(notebook, run / "notebooks" / notebook.path.name)
    return _describe(run, folder, chosen, values)


def _find_folder() -> Path:
    """The notebooks of the folder we are in, else those beside the library."""
    candidates = [Path.cwd() / "notebooks", Path(__file__).resolve().parents[1] / "notebooks"]
    for folder in candidates:
        if any(folder.glob("[0-9][0-9]_*.ipynb")):
            return folder
    raise InputError("no notebooks/NN_name.ipynb here: run the study in a clone of the repository")


def read_notebooks(folder: Path) -> dict[str, Notebook]:
    """The notebooks ``NN_name.ipynb`` of ``folder`` by stem, in order.

    Raises ``InputError`` if there is none, or one that cannot be read or has no parameters cell.
    """
    paths = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise InputError(f"{folder}: no notebook there; expected files such as 01_data.ipynb")
    return {path.stem: _read_notebook(path) for path in paths}


def _read_notebook(path: Path) -> Notebook:
    nbformat = _import_nbformat()
    try:
        node = nbformat.read(path, as_version=4)
    except (ValueError, AttributeError, nbformat.ValidationError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} is not a readable notebook: {reason}") from error
    cells = [c for c in node.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise InputError(f"{path}: {len(cells)} cells are tagged `parameters`, one is expected")
    return Notebook(path, node, read_parameters(cells[0].source, path.name))


# -- what each notebook is given -------------------------------------------------------------------


def _decide_values(
    profile: str,
    settings: Sequence[str],
    sources: Mapping[str, Notebook],
    run: Path,
    folder: Path,
    keep_figures: bool,
) -> Settings:
    """Notebook -> the parameters injected: places, then the profile, then the user's settings."""
    parameters = {stem: notebook.parameters for stem, notebook in sources.items()}
    given = read_settings(settings, parameters)
    for own in given.values():
        own.update({name: _seen_from(folder, name, value) for name, value in own.items()})
    places = {} if keep_figures else _places(run, folder)
    values: Settings = {}
    for stem, known in parameters.items():
        profiled = [v for t, v in PROFILES[profile].items() if stem in _matching(t, sources)]
        merged = {k: v for layer in [places, *profiled] for k, v in layer.items() if k in known}
        values[stem] = merged | given[stem]
    return values


def _matching(target: str, sources: Mapping[str, Notebook]) -> list[str]:
    """As ``find_notebooks``, but a profile may speak of notebooks that a study does not have."""
    return [s for s in sources if target == "*" or s.startswith(f"{target}_")]


def _places(run: Path, folder: Path) -> dict[str, str]:
    """The parameters ``PLACES`` for a study in the folder ``run``."""
    base = _relative(run, folder)
    return {"store": f"{base}/store", "figures": f"{base}/figures", "results": base}


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _seen_from(folder: Path, name: str, value: Any) -> Any:
    """A path that the user gave from where they stand, as the kernel in ``folder`` reaches it.

    Raises ``InputError`` for a corpus that is not there.
    """
    if name in PLACES:
        return _relative(Path(value), folder)
    if name != "corpus":
        return value
    from mmer_lib.corpora import CORPORA, load_corpus

    head, *options = value.split(",")
    if head not in CORPORA:
        load_corpus(value)
        return _relative(Path(value), folder)
    moved = [
        f"path={_relative(Path(o.removeprefix('path=')), folder)}" if o.startswith("path=") else o
        for o in options
    ]
    return ",".join([head, *moved])


# -- what is up to date ----------------------------------------------------------------------------


def _bring_up_to_date(
    notebook: Notebook,
    values: Settings,
    sources: Mapping[str, Notebook],
    target: Path,
    say: Callable[..., None],
) -> None:
    """Execute ``notebook`` into the folder ``target`` unless its outputs are there already."""
    given, record = values[notebook.stem], target / f"{notebook.stem}.json"
    key = _key(notebook, given, [_recorded(target, s) for s in _upstream(notebook, sources)])
    say(f"{notebook.stem} … ", end="")
    if _is_current(record, key, notebook.path.parent):
        say("up to date")
        return
    record.unlink(missing_ok=True)
    started = time.time()
    try:
        _execute(notebook, given, target)
    except BaseException:
        say("failed" if not isinstance(sys.exc_info()[1], KeyboardInterrupt) else "stopped")
        raise
    seconds = time.time() - started
    about = {"key": key, "seconds": round(seconds, 1), "parameters": given}
    about["made"] = _made_since(started, notebook, given)
    record.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    say(f"{seconds:.0f} s")


def _upstream(notebook: Notebook, sources: Mapping[str, Notebook]) -> list[str]:
    """Earlier notebooks that use a store, if this one does: what it finds there is theirs."""
    if "store" not in notebook.parameters:
        return []
    using = [s for s, other in sources.items() if "store" in other.parameters]
    return using[: using.index(notebook.stem)]


def _recorded(target: Path, stem: str) -> dict[str, Any]:
    """What is written about an executed notebook; nothing if it is not there."""
    try:
        about: dict[str, Any] = json.loads((target / f"{stem}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if (target / f"{stem}.ipynb").is_file() else {}


def _is_current(record: Path, key: str, folder: Path) -> bool:
    about = _recorded(record.parent, record.stem)
    return about.get("key") == key and all((folder / name).exists() for name in about["made"])


def _key(notebook: Notebook, given: Mapping[str, Any], upstream: list[dict[str, Any]]) -> str:
    """A hash of everything that decides the outputs of ``notebook``."""
    parameters = {name: p.default for name, p in notebook.parameters.items()} | dict(given)
    decides = {
        "code": code_hash(notebook.node),
        "parameters": parameters,
        "data": _data_state(parameters, notebook.path.parent),
        "library": _library_hash(),
        "upstream": [about.get("key") for about in upstream],
    }
    return _hash(json.dumps(decides, sort_keys=True))


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def code_hash(node: Any) -> str:
    """A hash of a notebook's code cells, its outputs and its prose left aside."""
    return _hash(json.dumps([c.source for c in node.cells if c.cell_type == "code"]))


def _library_hash() -> str:
    """A hash of the library's source, but for the faces, which decide no output."""
    library = Path(__file__).parent
    files = sorted(f for f in library.rglob("*.py") if f.name not in FACES)
    return _hash("\0".join(f.read_text(encoding="utf-8") for f in files))


def _data_state(parameters: Mapping[str, Any], folder: Path) -> list[list[Any]]:
    """Name, size and time of every file that a parameter names, or that is in a folder it names."""
    texts = [v for n, v in parameters.items() if isinstance(v, str) and n not in PLACES]
    pieces = [p for text in texts for p in re.split("[,=]", text) if p]
    found = [folder / p for p in pieces if (folder / p).exists()]
    files = [f for path in found for f in [path, *sorted(path.rglob("*"))] if f.is_file()]
    return [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files]


def _made_since(started: float, notebook: Notebook, given: Mapping[str, Any]) -> list[str]:
    """Files that the notebook wrote to its figures and results, and the store it used."""
    parameters = {name: p.default for name, p in notebook.parameters.items()} | dict(given)
    folder = notebook.path.parent
    made = [parameters["store"]] if "store" in parameters else []
    for place in {parameters[p] for p in ("figures", "results") if p in parameters}:
        files = (f for f in sorted((folder / place).glob("*")) if f.is_file())
        made += [f"{place}/{f.name}" for f in files if f.stat().st_mtime >= started - 1]
    return sorted(name for name in made if (folder / name).exists())


# -- execution -------------------------------------------------------------------------------------


def _execute(notebook: Notebook, given: Mapping[str, Any], target: Path) -> None:
    """Execute ``notebook`` with the parameters ``given``; its copy appears in ``target`` when whole."""
    whole = target / notebook.path.name
    partial_copy, failed = (target / f"{notebook.stem}.{w}.ipynb" for w in ("partial", "failed"))
    for stale in (whole, partial_copy, failed):
        stale.unlink(missing_ok=True)
    try:
        executed = _run_papermill(notebook, given, partial_copy)
    except KeyboardInterrupt:
        partial_copy.unlink(missing_ok=True)
        raise
    except StudyError as error:
        raise StudyError(f"{error}. {_keep_failed(partial_copy, failed)}") from error
    except InputError:
        _keep_failed(partial_copy, failed)
        raise
    _write(normalise(executed), partial_copy)
    partial_copy.replace(whole)


def _run_papermill(notebook: Notebook, given: Mapping[str, Any], copy: Path) -> Any:
    """The executed node; a cell that fails is a ``StudyError``, or ``InputError`` if it is one."""
    _import_nbformat()
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    try:
        return papermill.execute_notebook(
            deepcopy(notebook.node),
            str(copy),
            parameters=dict(given),
            kernel_name="python3",
            progress_bar=False,
            cwd=str(notebook.path.parent),
            kernel_manager_class=_kernel_manager(),
        )
    except PapermillExecutionError as error:
        if error.ename == "KeyboardInterrupt":
            raise KeyboardInterrupt from error
        message = (str(error.evalue).splitlines() or [""])[0]
        where = f"{notebook.stem}, cell {_failed_cell(notebook, copy)}"
        if error.ename == InputError.__name__:
            raise InputError(f"{where}: {message}") from error
        raise StudyError(f"{where}: {error.ename}: {message}") from error
    except DeadKernelError as error:
        raise StudyError(f"{notebook.stem}: its kernel died (is there enough memory?)") from error


def _failed_cell(notebook: Notebook, copy: Path) -> int | str:
    """The number, counted from 1 in the source, of the cell whose output is an error."""
    cells = _import_nbformat().read(copy, as_version=4).cells
    failed = {c.id for c in cells for o in c.get("outputs", []) if o.output_type == "error"}
    numbers = [n for n, c in enumerate(notebook.node.cells, start=1) if c.id in failed]
    return numbers[0] if numbers else "with the given parameters"


def _keep_failed(copy: Path, failed: Path) -> str:
    """Keep what there is of a failed notebook, and say where."""
    if not copy.exists():
        return "Nothing of it was written"
    copy.replace(failed)
    return f"The notebook up to there: {failed}"


def _kernel_manager() -> Any:
    """The class whose kernels speak over files instead of TCP (where there are such sockets).

    It also passes Ctrl-C on as an interrupt of the cell, where nbclient would only end the kernel.
    """
    from jupyter_client.manager import AsyncKernelManager

    class StudyKernelManager(AsyncKernelManager):
        async def start_kernel(self, **options: Any) -> None:
            self.transport = "ipc" if os.name == "posix" else "tcp"
            await super().start_kernel(**options)
            with suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread
                loop = asyncio.get_running_loop()
                loop.add_signal_handler(signal.SIGINT, self._pass_interrupt_on)

        def _pass_interrupt_on(self) -> None:
            self.interrupting = asyncio.ensure_future(self.interrupt_kernel())

    return StudyKernelManager


def _import_nbformat() -> Any:
    """nbformat, without the five seconds of grammar that its JSON schemas would load and not use."""
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    import nbformat

    return nbformat


@contextmanager
def _kernel_environment() -> Iterator[None]:
    """What the kernels inherit: figures in the notebook, no bars, nothing of the user's profile."""
    with TemporaryDirectory(prefix="mmer-") as own:
        wanted = {
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "TQDM_DISABLE": "1",
            "PYTHONHASHSEED": "0",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "IPYTHONDIR": own,
            "JUPYTER_RUNTIME_DIR": own,  # short: a socket's path must be
        }
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def _locked(run: Path) -> Iterator[None]:
    """One study at a time in a run folder; the system frees the lock of a process that is gone.

    Raises ``InputError`` if another one is at work there, or the folder cannot be written.
    """
    try:
        (run / "notebooks").mkdir(parents=True, exist_ok=True)
        lock = (run / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot write to {run}: {error.strerror}. Choose another --out"
        ) from error
    with lock:
        if not _lock(lock):
            lock.seek(0)
            raise InputError(
                f"another study (process {lock.read().strip() or 'unknown'}) is at work in {run}: "
                f"wait for it, or choose another --out"
            )
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _lock(file: Any) -> bool:
    """Whether ``file`` is ours now; always true where the system has no such locks (Windows)."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# -- what is written -------------------------------------------------------------------------------


def normalise(node: Any) -> Any:
    """An executed notebook without times, machines and widget states; streams in one piece."""
    clean = deepcopy(node)
    clean.metadata = type(clean.metadata)(deepcopy(_METADATA))
    for cell in clean.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = type(cell.metadata)({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs = _join_streams(cell.outputs)
    return clean


def _join_streams(outputs: list[Any]) -> list[Any]:
    """Outputs with neighbours of one stream joined: how they were cut is chance."""
    joined: list[Any] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last and output.output_type == "stream" and output.name == last.get("name"):
            last.text += output.text
        else:
            joined.append(output)
    return joined


def write_back(notebook: Notebook, executed: Path) -> None:
    """Put the outputs of ``executed`` into the source, with the hash of the code they came from."""
    cells = _import_nbformat().read(executed, as_version=4).cells
    outputs = {c.id: c.outputs for c in cells if c.cell_type == "code"}
    fresh = normalise(notebook.node)
    code_cells = [c for c in fresh.cells if c.cell_type == "code"]
    for count, cell in enumerate(code_cells, start=1):
        cell.execution_count, cell.outputs = count, outputs[cell.id]
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    fresh.metadata["mmer"] = {"code": code_hash(fresh), "profile": "quick"}
    _write(fresh, notebook.path)


def _write(node: Any, path: Path) -> None:
    """Written beside and renamed into place."""
    beside = path.with_name(f".{path.name}")
    beside.write_text(_import_nbformat().writes(node) + "\n", encoding="utf-8")
    beside.replace(path)


def _describe(run: Path, folder: Path, chosen: Sequence[str], values: Settings) -> Study:
    """Where things are, as the last notebooks were told."""

    def place(name: str, otherwise: Path) -> Path:
        told = [v[name] for v in values.values() if name in v]
        return Path(os.path.normpath(folder / told[-1])) if told else otherwise

    verdicts = place("results", run) / "verdicts.csv"
    return Study(
        folder=run,
        executed=[run / "notebooks" / f"{stem}.ipynb" for stem in chosen],
        figures=place("figures", folder.parent / "figures"),
        store=place("store", run / "store"),
        verdicts=verdicts if verdicts.exists() else None,
    )
