"""How long the study of the embedded corpus takes from an empty run folder, and what a shell waits.

Every study is ``mmer study --profile NAME --out FOLDER`` in a process of its own. Seconds are those
of a clock, as a reader waits for them; ``cpu`` are those of all processors, workers and kernels
included, which other work on the machine lengthens less. What the library keeps outside of a run
folder, the staged recordings of notebook 01, is used if it is there: the first study on a machine
makes it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import psutil

from mmer_lib.bench.measure import Say, Settings

PROFILES = ("ci", "quick")
PARTS_OF_IT = {"all": (), "01 to 05": ("--only", "01", "02", "03", "04", "05")}
COMMAND = (sys.executable, "-m", "mmer_lib.cli")
# Seconds at most, on two cores.
AT_MOST = {"import mmer_lib": 0.1, "mmer --help": 0.5, "ci, all": 90, "quick, all": 480}
AT_MOST |= {"quick, 01 to 05": 240}
TOLD = "import time; t = time.perf_counter(); import mmer_lib; print(time.perf_counter() - t)"
Runner = Callable[[Sequence[str]], str]  # a command -> what it prints


def bench_study(
    settings: Settings, say: Say, profiles: Sequence[str] = PROFILES, run: Runner | None = None
) -> pd.DataFrame:
    """A row for each thing that is waited for: ``what``, ``seconds``, ``cpu``, ``at_most``.

    These are the import, the help, and for each profile its notebooks, all of it, the book and the
    start of the command included, and a study of notebooks 01 to 05 alone. ``at_most`` and ``cpu``
    are NaN where there is none. ``run`` stands in for a process, in a test.
    """
    run = run or _run
    imports = [float(run((sys.executable, "-c", TOLD))) for _ in range(settings.repeats)]
    helps = [_take(run, (*COMMAND, "--help")) for _ in range(settings.repeats)]
    rows = [
        {"what": "import mmer_lib", "seconds": median(imports)},
        {"what": "mmer --help"} | {k: median(one[k] for one in helps) for k in helps[0]},
    ]
    for profile in profiles:
        for part, only in PARTS_OF_IT.items():
            say(f"{profile}, {part}: the study from an empty folder")
            with TemporaryDirectory(prefix="mmer-") as folder:
                study = (*COMMAND, "study", "--profile", profile, *only, "--out", folder)
                whole = _take(run, study)
                rows += [] if only else _notebooks(profile, Path(folder))
            rows.append({"what": f"{profile}, {part}", **whole})
    table = pd.DataFrame(rows, columns=["what", "seconds", "cpu"])
    return table.assign(at_most=table["what"].map(AT_MOST))


def _notebooks(profile: str, folder: Path) -> list[dict[str, Any]]:
    """The seconds that a study wrote down for each notebook; two are executed at a time."""
    files = sorted((folder / "notebooks").glob("[0-9][0-9]_*.json"))
    taken = {f.stem: float(json.loads(f.read_text(encoding="utf-8"))["seconds"]) for f in files}
    return [{"what": f"{profile}, {stem}", "seconds": seconds} for stem, seconds in taken.items()]


def _take(run: Runner, command: Sequence[str]) -> dict[str, float]:
    """Seconds and CPU seconds of a command and its children."""
    before, started = _cpu_of_children(), time.perf_counter()
    run(command)
    return {"seconds": time.perf_counter() - started, "cpu": _cpu_of_children() - before}


def _cpu_of_children() -> float:
    """CPU seconds of the processes that this one, or one of them, has waited for."""
    used = psutil.Process().cpu_times()
    return float(used.children_user + used.children_system)


def _run(command: Sequence[str]) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
