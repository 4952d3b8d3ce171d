"""The study: the ordered notebooks, each executed once for what decides its outputs.

    run_study("quick")                                       # the notebooks as they are
    run_study("quick", ["*.corpus=PATH", "03.seeds=3"], out="runs/mine")

A run folder holds ``notebooks/NN_name.ipynb`` (executed), beside each ``NN_name.json`` (what it
was made from, and by which versions, commit and machine), ``store/`` and ``verdicts.csv``;
``source/`` if the notebooks are the installed ones. A
notebook is executed again when its code, its parameters, the library, the data it names or a
notebook that filled its store has changed, or a run of its store is gone. It is written beside and
renamed when whole; one that fails is kept as ``NN_name.failed.ipynb``.

Notebooks that do not wait for one another are executed two at a time. Kernels run in the notebooks'
folder, and every path given to them is relative to it, so that no path of a machine enters an
output.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mmer_lib.errors import InputError, check_whole, unknown
from mmer_lib.extras import missing, need_extra
from mmer_lib.pipeline.execute import Stop, execute, kernel_environment
from mmer_lib.pipeline.notebooks import (
    Notebook,
    code_hash,
    renew_prose,
    text_hash,
    write_back,
)
from mmer_lib.pipeline.parameters import Settings, find_notebooks, read_settings
from mmer_lib.pipeline.source import find_source
from mmer_lib.provenance import provenance

PLACES = ("store", "figures", "results")  # parameters that say where something is written
READERS = ("04_attention_maps", "05_comparison")  # they add no run to the store
OWN_RUNS = ("06_when", "07_zoo")  # they use the store, but need no run of another notebook
FACES = ("cli", "pipeline", "book", "bench")  # parts of the library that decide no output
Say = Callable[..., None]  # as print
_TO_STOP = 1.0  # seconds that notebooks have to end after Ctrl-C

# The notebooks' own defaults are the quick profile; "*" is every notebook with that parameter.
PROFILES: dict[str, Settings] = {
    "quick": {},
    "ci": {
        "*": {"corpus": "synthetic,utterances=160,classes=3,features=6"},
        "01": {"recorded": "staged,utterances=14,speakers=2,jobs=2"},
        "03": {"folds": 2, "replicates": 2, "epochs": 1, "width": 8, "heads": 2, "jobs": 1},
        "06": {"folds": 2, "utterances": 160, "epochs": 1, "width": 8, "heads": 2, "jobs": 1},
    },
    "paper": {
        "03": {
            "folds": 5, "seeds": 10, "epochs": 100, "patience": 10, "lr": 0.001, "batch_size": 32,
            "pool": 16, "width": 120, "heads": 6, "replicates": 10, "oddity_folds": 5,
        },
    },
}  # fmt: skip
_say: Say = partial(print, flush=True)


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
    say: Say = _say,
    jobs: int = 2,
    fresh: bool = False,
) -> Study:
    """Execute the notebooks of ``notebooks`` (see ``find_folder``) that are not up to date.

    ``settings`` are ``NOTEBOOK.PARAM=VALUE`` texts, ``only`` numbers or stems. ``out`` is the run
    folder (``runs/<profile>`` beside the notebooks, or where we are if they are the installed
    ones); only a quick study without settings or ``out`` writes to the committed figures.
    ``refresh`` writes such a study's outputs back into the notebooks. ``jobs``: how many are
    executed at the same time. ``fresh`` executes those that are up to date, too; runs that are in
    their store are found there all the same.

    Raises ``InputError`` for anything given wrongly, before a kernel starts where it can be seen
    then, and ``StudyError`` for a notebook that fails.
    """
    if profile not in PROFILES:
        raise unknown("profile", profile, PROFILES)
    jobs = check_whole("jobs", jobs, at_least=1)
    plain = profile == "quick" and not settings and out is None
    if refresh and not (plain and not only):
        raise InputError(
            "refresh takes no profile, setting, selection or out: it is the quick study"
        )
    source = find_source(notebooks, out, profile)
    if source.packaged and refresh:
        raise InputError(
            "refresh writes into notebooks/, and there is none here: run it in a clone, or copy "
            "the notebooks first, `mmer notebooks --copy notebooks`"
        )
    sources, run, folder = source.read(), source.run, source.folder
    chosen = [s for t in only for s in find_notebooks(t, list(sources))] or list(sources)
    todo = [s for s in sources if s in chosen]
    left_out = _without_voices(todo, sources, say)
    if refresh and left_out:
        need_extra("staged", "refresh")
    keep_figures = plain and not source.packaged and not left_out
    values = _decide_values(profile, [*left_out, *settings], sources, run, folder, keep_figures)
    if source.packaged:
        say(f"the notebooks are those of the installed package, {source.found}")
    with _locked(run), kernel_environment():
        source.lay_out()
        _bring_all_up_to_date(todo, values, sources, run / "notebooks", say, jobs, fresh)
    if refresh:
        for notebook in sources.values():
            write_back(notebook, run / "notebooks" / notebook.path.name)
    return _describe(run, folder, chosen, values)


def _without_voices(todo: Sequence[str], sources: Mapping[str, Notebook], say: Say) -> list[str]:
    """Settings that leave voices and faces out, where the extra that makes them is not there."""
    hearing = [stem for stem in todo if "recorded" in sources[stem].parameters]
    if not hearing or not missing("staged"):
        return []
    say(
        f"{', '.join(hearing)}: without voices and faces, which need "
        f"{', '.join(missing('staged'))}: pip install 'mmer[staged]'"
    )
    return [f"{stem}.recorded=synthetic" for stem in hearing]


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


def _bring_all_up_to_date(
    todo: Sequence[str],
    values: Settings,
    sources: Mapping[str, Notebook],
    target: Path,
    say: Say,
    jobs: int,
    fresh: bool,
) -> None:
    """Execute those of ``todo`` that are not up to date, ``jobs`` at a time, each in a thread.

    One that fails ends the study when those that have begun are done. Ctrl-C ends them, too.
    """
    waiting, stop = list(todo), Stop()
    running: dict[Future[None], str] = {}
    threads = ThreadPoolExecutor(jobs)
    try:
        try:
            while waiting or running:
                busy = {*waiting, *running.values()}
                free = [s for s in waiting if not busy.intersection(_upstream(s, sources))]
                for stem in free[: jobs - len(running)]:
                    given = (sources[stem], values, sources, target, say, stop, fresh)
                    running[threads.submit(_bring_up_to_date, *given)] = stem
                    waiting.remove(stem)
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    del running[done]
                    done.result()
        except Exception:
            threads.shutdown()
            raise
        threads.shutdown()
    except KeyboardInterrupt:
        stop.say()
        wait(running, timeout=_TO_STOP)
        for left in target.glob("*.partial.ipynb"):  # of a kernel that had to be killed
            left.unlink(missing_ok=True)
        threads.shutdown(wait=False, cancel_futures=True)
        raise


def _bring_up_to_date(
    notebook: Notebook,
    values: Settings,
    sources: Mapping[str, Notebook],
    target: Path,
    say: Say,
    stop: Stop,
    fresh: bool,
) -> None:
    """Execute ``notebook`` into the folder ``target`` unless its outputs are there already."""
    stem, given, record = notebook.stem, values[notebook.stem], target / f"{notebook.stem}.json"
    key = _key(notebook, given, [_recorded(target, s) for s in _upstream(stem, sources)])
    if not fresh and _is_current(record, key, notebook.path.parent):
        renew_prose(notebook, target / notebook.path.name)
        say(f"{stem} … up to date")
        return
    say(f"{stem} … begun")
    record.unlink(missing_ok=True)
    started = time.time()
    try:
        execute(notebook, given, target, stop)
    except BaseException:
        say(f"{stem} … {'stopped' if stop.said.is_set() else 'failed'}")
        raise
    seconds = time.time() - started
    about = {"key": key, "seconds": round(seconds, 1), "parameters": given}
    about["made"] = _made_since(started, notebook, given)
    about["provenance"] = provenance()
    record.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    say(f"{stem} … {seconds:.0f} s")


def _upstream(stem: str, sources: Mapping[str, Notebook]) -> list[str]:
    """Earlier notebooks that fill a store, if this one uses it: what it finds there is theirs."""
    if "store" not in sources[stem].parameters or stem in OWN_RUNS:
        return []
    using = [s for s, other in sources.items() if "store" in other.parameters]
    return [s for s in using[: using.index(stem)] if s not in READERS]


def _recorded(target: Path, stem: str) -> dict[str, Any]:
    """What is written about an executed notebook; nothing if it is not there."""
    try:
        about: dict[str, Any] = json.loads((target / f"{stem}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if (target / f"{stem}.ipynb").is_file() else {}


def _is_current(record: Path, key: str, folder: Path) -> bool:
    about = _recorded(record.parent, record.stem)
    made = about.get("made", [])
    return about.get("key") == key and all(_is_there(folder / name) for name in made)


def _is_there(path: Path) -> bool:
    """Whether a file or store is there, the store with every run that its plans name."""
    try:
        plans = [json.loads(file.read_bytes())["keys"] for file in path.glob("plans/*.json")]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return path.exists() and all((path / key).is_dir() for keys in plans for key in keys)


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
    return text_hash(json.dumps(decides, sort_keys=True))


def _library_hash() -> str:
    """A hash of the library's source, but for the faces, which decide no output."""
    library = Path(__file__).parents[1]
    files = sorted(f for f in library.rglob("*.py") if f.relative_to(library).parts[0] not in FACES)
    return text_hash("\0".join(f.read_text(encoding="utf-8") for f in files))


def _data_state(parameters: Mapping[str, Any], folder: Path) -> list[list[Any]]:
    """Name, size and time of every file that a parameter names, or that is in a folder it names."""
    texts = [v for n, v in parameters.items() if isinstance(v, str) and n not in PLACES]
    pieces = [p for text in texts for p in re.split("[,=]", text) if p]
    found = [folder / p for p in pieces if (folder / p).exists()]
    files = [f for path in found for f in [path, *sorted(path.rglob("*"))] if f.is_file()]
    return [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files]


def _made_since(started: float, notebook: Notebook, given: Mapping[str, Any]) -> list[str]:
    """Files that the notebook wrote to its figures and results, and the store it used.

    What begins with the number of another notebook is that one's, written at the same time.
    """
    parameters = {name: p.default for name, p in notebook.parameters.items()} | dict(given)
    folder = notebook.path.parent
    made = [parameters["store"]] if "store" in parameters else []
    for place in {parameters[p] for p in ("figures", "results") if p in parameters}:
        files = [f for f in sorted((folder / place).glob("*")) if f.is_file()]
        files = [f for f in files if f.name[:2] == notebook.stem[:2] or not f.name[:2].isdigit()]
        made += [f"{place}/{f.name}" for f in files if f.stat().st_mtime >= started - 1]
    return sorted(name for name in made if (folder / name).exists())


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
