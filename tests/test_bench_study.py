"""The bench of the study: what is run and read, which limits stand beside. Times decide nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from mmer_lib.bench import PARTS, Settings, bench_study
from mmer_lib.bench.study import AT_MOST

TAKEN = {"00_start": 1.0, "01_data": 2.0, "05_compare": 4.0, "06_when": 8.0}


class Machine:
    """Notes commands; a study leaves the records of its notebooks in the folder it was given."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.found: list[list[str]] = []  # in the folders of studies, before they ran

    def __call__(self, command) -> str:
        self.commands.append(list(command))
        if "study" in command:
            folder = Path(command[-1])
            self.found.append(sorted(f.name for f in folder.iterdir()))
            (folder / "notebooks").mkdir()
            for stem, seconds in TAKEN.items():
                file = folder / "notebooks" / f"{stem}.json"
                file.write_text(json.dumps({"seconds": seconds}))
        return "0.25\n"


def test_every_study_starts_in_an_empty_folder_of_its_own():
    machine = Machine()
    bench_study(Settings(repeats=1), print, run=machine)
    studies = [c[3:] for c in machine.commands if "study" in c]
    some = ["--only", "01", "02", "03", "04", "05"]
    assert [c[:-1] for c in studies] == [
        ["study", "--profile", name, *only, "--out"]
        for name in ("ci", "quick")
        for only in ([], some)
    ]
    assert machine.found == [[]] * 4
    assert len({c[-1] for c in studies}) == 4


def test_a_row_stands_for_each_notebook_and_each_study_beside_the_limits():
    table = bench_study(Settings(repeats=3), print, ("quick",), Machine()).set_index("what")
    for stem, seconds in TAKEN.items():
        assert table["seconds"][f"quick, {stem}"] == seconds
        assert math.isnan(table["at_most"][f"quick, {stem}"])
    assert table["seconds"]["quick, 01 to 05"] > 0
    assert table.index.is_unique
    assert table["seconds"]["import mmer_lib"] == 0.25
    asked = ["import mmer_lib", "mmer --help", "quick, 01 to 05", "quick, all"]
    assert table["at_most"][asked].tolist() == [AT_MOST[name] for name in asked]


def test_the_limits_are_those_that_were_set():
    assert (AT_MOST["import mmer_lib"], AT_MOST["mmer --help"]) == (0.1, 0.5)
    assert (AT_MOST["ci, all"], AT_MOST["quick, 01 to 05"], AT_MOST["quick, all"]) == (90, 240, 480)


def test_the_import_and_the_help_are_those_of_real_processes():
    table = bench_study(Settings(repeats=1), print, ()).set_index("what")
    assert (table["seconds"] > 0).all()
    assert table["cpu"]["mmer --help"] > 0


def test_the_part_is_there_by_name():
    assert PARTS["study"] is bench_study


@pytest.mark.parametrize("repeats", [1, 3])
def test_import_and_help_are_taken_as_often_as_asked_for(repeats):
    machine = Machine()
    bench_study(Settings(repeats=repeats), print, (), machine)
    assert len(machine.commands) == 2 * repeats
