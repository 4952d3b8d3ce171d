"""A reader against spoilt inputs, each under a limit of time, all of them under one of memory.

``attempt`` tries one input. ``python tests/fuzz.py READER --inputs N [--first SEED]`` tries many in
a process of its own, whose address space may grow by 1 GiB and no more, and prints what it found as
JSON. The input of a seed is always the same: ``--first SEED --inputs 1`` tries it again. With
``--guided`` atheris chooses the inputs, by the lines of the library that they reach.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any
from zlib import compress

SECONDS = 5.0  # of computing, an input
PATIENCE = 120.0  # seconds by the clock: what waits, for a pipe say, computes nothing
MEMORY = 1 << 30  # bytes that the process may grow by
_QUICK = Path("/dev/shm")  # a folder in memory, where there is one


class Hang(BaseException):
    """An input took too long."""


@dataclass
class Outcome:
    """What became of an input: refused, read, or a defect in words."""

    kind: str
    told: str = ""


@dataclass
class Report:
    """Of a run of many inputs."""

    reader: str
    inputs: int = 0
    refused: int = 0
    read: int = 0
    slowest: float = 0.0  # seconds of computing, of one input
    seconds: float = 0.0
    peak: int = 0  # MiB, of the process
    grown: int = 0  # MiB, over what it was when all was imported
    defects: dict[str, list[str]] = field(default_factory=dict)  # what and where -> which inputs


@contextmanager
def limited(computing: float, waiting: float) -> Iterator[None]:
    """Raise ``Hang`` after so many seconds of either: a busy machine makes nothing a defect."""

    def stop(*_: Any) -> None:
        raise Hang

    timers = ((signal.SIGPROF, signal.ITIMER_PROF), (signal.SIGALRM, signal.ITIMER_REAL))
    before = [signal.signal(number, stop) for number, _ in timers]
    for (_, timer), seconds in zip(timers, (computing, waiting), strict=True):
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (number, timer), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


def attempt(reader: Any, files: dict[str, bytes], folder: Path) -> Outcome:
    """Read ``files`` in an empty ``folder``, which is removed again."""
    from readers import one_line, write_files

    from mmer_lib.errors import InputError

    folder.mkdir()
    try:
        write_files(files, folder)
        with limited(SECONDS, PATIENCE), warnings.catch_warnings():
            warnings.simplefilter("error")  # a warning is a line that the user would not understand
            try:
                result = reader.read(folder)
            except InputError as error:
                message = str(error).replace(str(folder), "FOLDER")
                if not one_line(message):
                    return Outcome("defect", f"no line to show: {message[:200]!r}")
                return Outcome("refused", message)
            reader.check(result)
            return Outcome("read")
    except Hang:
        return Outcome("defect", f"more than {SECONDS:g} s of computing, in {_place()}")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
        return Outcome("defect", f"{type(error).__name__}: {str(error)[:150]} in {_place()}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _place() -> str:
    """Where in the library (else in the check) it happened."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    ours = [f for f in frames if "mmer_lib" in f.filename] or frames
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"


def quick_folder() -> Path:
    """A new folder, in memory where that can be; whoever asked removes it."""
    return Path(tempfile.mkdtemp(prefix="fuzz-", dir=_QUICK if _QUICK.is_dir() else None))


def make_input(reader: Any, valid: list[dict[str, bytes]], seed: int) -> dict[str, bytes]:
    """The input of a seed."""
    choose = Random(seed)
    made: dict[str, bytes] = reader.spoil(choose.choice(valid), choose)
    return made


def note(report: Report, outcome: Outcome, called: str) -> None:
    report.inputs += 1
    if outcome.kind == "defect":
        report.defects.setdefault(outcome.told, []).append(called)
    else:
        setattr(report, outcome.kind, getattr(report, outcome.kind) + 1)


def try_many(name: str, first: int, inputs: int) -> Report:
    """Inputs of seeds ``first``, ``first`` + 1, ..."""
    from readers import READERS

    reader = READERS[name]
    valid, report, began = reader.valid(), Report(name), time.monotonic()
    parent = quick_folder()
    try:
        for i, files in enumerate(valid):  # nothing is shown by spoiling what is not read
            outcome = attempt(reader, files, parent / f"valid{i}")
            assert outcome.kind == "read", f"valid input {i} of {name}: {outcome}"
        before = _peak()
        limit_memory()
        for seed in range(first, first + inputs):
            files, at = make_input(reader, valid, seed), time.process_time()
            note(report, attempt(reader, files, parent / f"in{seed}"), str(seed))
            report.slowest = max(report.slowest, time.process_time() - at)
        report.peak = _peak()
        report.grown = report.peak - before
    finally:
        shutil.rmtree(parent, ignore_errors=True)
    report.seconds = time.monotonic() - began
    return report


def _peak() -> int:
    """MiB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def limit_memory() -> None:
    """Address space for 1 GiB more than there is: what asks for more fails, used or not."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


# -- inputs that are chosen by the lines that they reach -------------------------------------------


def pack(files: dict[str, bytes]) -> bytes:
    """The files as one sequence of bytes, as atheris keeps its inputs."""
    parts = (part for name, content in files.items() for part in (name.encode(), content))
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def unpack(data: bytes) -> dict[str, bytes] | None:
    """What was packed; None if it was cut or changed by another hand."""
    parts, at = [], 0
    while at < len(data):
        if at + 4 > len(data):
            return None
        (length,) = struct.unpack_from("<I", data, at)
        parts.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    try:
        names = [part.decode() for part in parts[::2]]
    except UnicodeDecodeError:
        return None
    return dict(zip(names, parts[1::2], strict=True)) if len(parts) % 2 == 0 else None


def try_guided(name: str, first: int, inputs: int) -> None:
    """Spoil again what reached new lines of the library; ends the process with its report.

    Atheris never returns: its last input prints the report and leaves.
    """
    atheris = import_module("atheris")  # which is not there on every system
    with atheris.instrument_imports(include=["mmer_lib"], enable_loader_override=False):
        from readers import READERS

        reader = READERS[name]
        valid = reader.valid()
        parent = quick_folder()
        for i, files in enumerate(valid):  # imports what the reader imports when it is called
            assert attempt(reader, files, parent / f"valid{i}").kind == "read"
    report, before, began = Report(name), _peak(), time.monotonic()
    limit_memory()

    def one_input(data: bytes) -> None:
        files = unpack(data)
        if files:
            at = time.process_time()
            outcome = attempt(reader, files, parent / f"in{report.inputs}")
            report.slowest = max(report.slowest, time.process_time() - at)
            note(report, outcome, b64encode(compress(data)).decode()[:2000])
        if report.inputs >= inputs:
            report.peak = _peak()
            report.grown, report.seconds = report.peak - before, time.monotonic() - began
            shutil.rmtree(parent, ignore_errors=True)
            print(json.dumps(asdict(report)), flush=True)
            os._exit(0)

    def spoil_more(data: bytes, largest: int, seed: int) -> bytes:
        choose = Random(seed)
        known = unpack(data) if choose.randrange(2) else None  # else all would soon be hopeless
        files = known or choose.choice(valid)
        return pack(reader.spoil(files, choose))[:largest]

    seeds = parent / "seeds"
    seeds.mkdir()
    for i, files in enumerate(valid):
        (seeds / str(i)).write_bytes(pack(files))
    options = [f"-seed={first + 1}", "-max_len=1000000", "-rss_limit_mb=0", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(seeds)], one_input, custom_mutator=spoil_more)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader")
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--guided", action="store_true")
    asked = parser.parse_args()
    if asked.guided:
        try_guided(asked.reader, asked.first, asked.inputs)
    else:
        print(json.dumps(asdict(try_many(asked.reader, asked.first, asked.inputs))))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
