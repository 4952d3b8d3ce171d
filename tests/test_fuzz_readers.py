"""Every reader against spoilt files: one clear line or a right result, soon, and in little memory.

What is spoilt, and how, stands in ``mutations``; the readers in ``readers``; limits in ``fuzz``. A
failure names seeds: ``python tests/fuzz.py READER --first SEED --inputs 1`` tries one again.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fuzz import MEMORY, SECONDS, attempt, quick_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import Files
from readers import READERS

from mmer_lib.errors import InputError

FEW, MANY = 200, 10_000  # inputs of a reader: in every run of the tests, in the slow ones
GUIDED = 3000  # chosen by the lines that they reach


@cache
def valid(name: str) -> list[Files]:
    return READERS[name].valid()


@pytest.fixture
def parent() -> Iterator[Path]:
    folder = quick_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("name", READERS)
def test_what_is_not_spoilt_is_read(name, tmp_path):
    """Else the tests below would show nothing."""
    for i, files in enumerate(valid(name)):
        outcome = attempt(READERS[name], files, tmp_path / str(i))
        assert outcome.kind == "read", outcome.told


@pytest.mark.parametrize("name", READERS)
def test_a_spoilt_input_is_refused_in_one_line_or_read_right(name, parent):
    count, kinds = 0, set()

    @settings(
        max_examples=FEW, derandomize=True, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(choose=st.randoms(use_true_random=False))
    def try_one(choose: Any) -> None:
        nonlocal count
        count += 1
        files = READERS[name].spoil(choose.choice(valid(name)), choose)
        outcome = attempt(READERS[name], files, parent / str(count))
        kinds.add(outcome.kind)
        assert outcome.kind != "defect", outcome.told

    try_one()
    assert count >= FEW
    assert "read" in kinds or "refused" in kinds


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_ten_thousand_spoilt_inputs_stay_within_time_and_memory(name):
    report = run(name, "--inputs", str(MANY))
    assert report["inputs"] == MANY
    assert report["defects"] == {}
    assert report["refused"] + report["read"] == MANY
    assert report["slowest"] < SECONDS
    assert report["grown"] < MEMORY >> 20


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_inputs_that_are_chosen_by_the_lines_they_reach_show_nothing_either(name):
    pytest.importorskip("atheris", reason="atheris is not installed: it has wheels for Linux only")
    report = run(name, "--inputs", str(GUIDED), "--guided")
    assert report["inputs"] >= GUIDED
    assert report["defects"] == {}
    assert report["grown"] < MEMORY >> 20


def run(name: str, *options: str) -> dict[str, Any]:
    """The report of ``fuzz.py`` in a process of its own."""
    file = Path(__file__).with_name("fuzz.py")
    command = [sys.executable, str(file), name, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=7200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


# -- the tests themselves: what they would find ----------------------------------------------------


def broken(read: Callable[[Path], Any], check: Callable[[Any], None] = lambda _: None) -> Any:
    from readers import Reader

    return Reader("broken", list, read, check)


def raise_it(error: BaseException) -> Callable[[Path], Any]:
    def read(_: Path) -> None:
        raise error

    return read


def spin(_: Path) -> None:
    while True:
        pass


FOUND = {
    "an exception of ours": (broken(raise_it(KeyError("x"))), "KeyError"),
    "a message of none": (broken(raise_it(InputError(""))), "no line"),
    "a wrong result": (broken(lambda _: 1, lambda x: (_ for _ in ()).throw(AssertionError("is 1"))),
                       "is 1"),
    "a warning": (broken(lambda _: __import__("warnings").warn("odd", stacklevel=1)), "odd"),
    "a hang": (broken(spin), "more than"),
}  # fmt: skip


@pytest.mark.parametrize("what", FOUND)
def test_a_defect_is_told(what, tmp_path, monkeypatch):
    monkeypatch.setattr("fuzz.SECONDS", 0.2)
    reader, word = FOUND[what]
    outcome = attempt(reader, {"a": b""}, tmp_path / "in")
    assert outcome.kind == "defect"
    assert word in outcome.told
    assert not (tmp_path / "in").exists()


def test_a_process_that_asks_for_more_memory_than_its_limit_is_told():
    code = (
        "import fuzz; fuzz.limit_memory(); import numpy\n"
        "try: numpy.zeros(3 << 30, 'u1')\n"
        "except MemoryError: print('refused')"
    )
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=here, check=True
    )
    assert done.stdout == "refused\n"
