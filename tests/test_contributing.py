"""The recipes of CONTRIBUTING.md, carried out word for word in a copy of the repository."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RECIPES = dict(
    part.split("\n", 1)
    for part in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("\n## ")[1:]
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LONGEST = 12  # lines of a recipe's code below its imports and first lines
PROGRAMS = {
    "mmer": ["-m", "mmer_lib.cli"],
    "pytest": ["-m", "pytest", "-p", "no:cacheprovider"],
    "ruff": ["-m", "ruff"],
    "python": [],
}


@pytest.fixture
def clone(tmp_path) -> Path:
    """What a contributor has: the sources, without what a run or an installation left."""
    for name in ("mmer_lib", "notebooks", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def follow(recipe: str, clone: Path) -> str:
    """Write, add and run all that the recipe says; what the commands printed."""
    said = ""
    for language, text in BLOCK.findall(RECIPES[recipe]):
        if language == "python":
            first, body = text.split("\n", 1)
            place = re.fullmatch(r"# ([\w./]+)(?:, (with the imports|in (\w+)))?", first)
            write(clone / place[1], body, place[2], place[3])
        else:
            said += "".join(run(line, clone) for line in text.splitlines())
    return said


def write(file: Path, body: str, where: str | None, registry: str | None) -> None:
    """A new file, or lines added to one: before its first own import, or first in a registry."""
    if where is None:
        assert not file.exists()
        file.write_text(body, encoding="utf-8")
        return
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    begins = rf"{registry}\b.*= \{{$" if registry else r"from mmer_lib\."
    at = next(n for n, line in enumerate(lines) if re.match(begins, line))
    lines.insert(at + bool(registry), body)
    file.write_text("".join(lines), encoding="utf-8")


def run(line: str, clone: Path) -> str:
    program, *arguments = shlex.split(line, comments=True)
    command = [sys.executable, *PROGRAMS[program], *arguments]
    seen = os.environ | {"PYTHONPATH": str(clone)}
    done = subprocess.run(command, cwd=clone, env=seen, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def statements(code: str) -> list[str]:
    """Its lines but for the empty ones, imports and docstrings of one line."""
    kept = [line for line in code.splitlines()[1:] if line.strip()]
    return [s for s in kept if not re.match(r'\s*(import |from |""")', s)]


def test_the_recipes_are_the_three_that_the_library_is_extended_by():
    assert list(RECIPES) == ["A corpus", "A fusion", "A notebook"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_short(recipe):
    code = [text for language, text in BLOCK.findall(RECIPES[recipe]) if language == "python"]
    assert sum(len(statements(text)) for text in code) <= LONGEST


@pytest.mark.slow
def test_a_new_corpus_is_listed_described_and_swept(clone):
    said = follow("A corpus", clone)
    assert "90 utterances" in said
    assert len(list((clone / "runs" / "weather").glob("*/run.json"))) == 2
    assert "weather: Two moods in five words" in run("mmer corpus list", clone)


@pytest.mark.slow
def test_a_new_fusion_passes_what_all_fusions_pass_and_is_trained(clone):
    said = follow("A fusion", clone)
    assert int(re.search(r"(\d+) passed", said)[1]) > 20
    assert len(list((clone / "runs" / "peak").glob("*/run.json"))) == 2


@pytest.mark.slow
def test_a_new_notebook_is_run_and_stands_in_the_book(clone):
    follow("A notebook", clone)
    page = (clone / "runs" / "ci" / "book" / "08_lengths.html").read_text(encoding="utf-8")
    assert "How long are the sequences?" in page
    assert "&#x27;audio&#x27;" in page or "'audio'" in page
