"""What is installed: one list in pyproject.toml, and files that must agree with it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import mmer_lib

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")  # what the workflow tests


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def ranges(project) -> dict[str, SpecifierSet]:
    """Package -> range, of the project and all its extras but the one that names them all."""
    extras = [text for name, e in project["optional-dependencies"].items() for text in e]
    required = [Requirement(text) for text in project["dependencies"] + extras]
    return {canonicalize_name(r.name): r.specifier for r in required if r.name != "mmer"}


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    """Package -> version, from the lock."""
    lines = (ROOT / "requirements-lock.txt").read_text(encoding="utf-8").splitlines()
    required = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {canonicalize_name(r.name): str(r.specifier) for r in required}
    assert len(versions) == len(required), "a package is pinned twice"
    return versions


@pytest.fixture(scope="module")
def makefile() -> str:
    return (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def torch_version(makefile) -> str:
    return re.search(r"^TORCH +\?= torch==([\d.]+)$", makefile, re.MULTILINE)[1]


def test_every_pin_is_one_exact_version(pins):
    assert [p for p, version in pins.items() if not re.fullmatch(r"==[^,*]+", version)] == []


def test_every_range_but_torch_is_pinned_within_itself(ranges, pins):
    pinned = {name: pins[name].removeprefix("==") for name in ranges if name != "torch"}
    assert [n for n, version in pinned.items() if version not in ranges[n]] == []


def test_torch_is_installed_apart_and_within_its_range(ranges, pins, torch_version):
    assert "torch" not in pins
    assert torch_version in ranges["torch"]


def test_the_lock_pins_everything_that_its_packages_need(pins):
    """On this Python and system; what torch alone needs follows torch."""
    needed = set()
    for name in pins:
        if not _is_for_this_python(name):
            continue
        for text in distribution(name).requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed.add(canonicalize_name(requirement.name))
    assert needed - set(pins) == {"torch"}


def _is_for_this_python(name: str) -> bool:
    text = (ROOT / "requirements-lock.txt").read_text(encoding="utf-8")
    lines = [Requirement(line) for line in text.splitlines() if line and line[0] != "#"]
    found = next(r for r in lines if canonicalize_name(r.name) == name)
    return found.marker is None or found.marker.evaluate()


@pytest.mark.parametrize(
    ("folder", "extras"), [("mmer_lib", ("staged", "distributed")), ("tests", ("dev",))]
)
def test_everything_that_is_imported_is_asked_for(project, folder, extras):
    """A package that only comes along with another may one day stay away."""
    asked = project["dependencies"] + [
        t for e in extras for t in project["optional-dependencies"][e]
    ]
    names = {canonicalize_name(Requirement(text).name) for text in asked}
    own = {"mmer_lib", *(file.stem for file in (ROOT / "tests").glob("*.py"))}
    imported = set.union(*map(_imported_packages, (ROOT / folder).rglob("*.py")))
    foreign = imported - own - set(sys.stdlib_module_names)
    providers = packages_distributions()
    found = {name: {canonicalize_name(p) for p in providers[name]} for name in foreign}
    assert [name for name, packages in found.items() if not packages & names] == []


def _imported_packages(file: Path) -> set[str]:
    """Top-level names of all that ``file`` imports."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    plain = [alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names]
    named = [str(n.module) for n in nodes if isinstance(n, ast.ImportFrom)]
    return {name.split(".")[0] for name in plain + named}


def test_the_lock_names_no_host_and_no_path():
    lines = (ROOT / "requirements-lock.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if re.search(r"://|@ |^--|^[./]", line)] == []


def test_the_extra_called_all_is_every_other_extra(project):
    extras = project["optional-dependencies"]
    (everything,) = (Requirement(text) for text in extras["all"])
    assert everything.extras == set(extras) - {"all"}


def test_the_conda_environment_installs_the_project_and_repeats_no_range(project, torch_version):
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, by_pip = environment["dependencies"]
    assert environment["channels"] == ["conda-forge"]
    assert by_pip == {"pip": [f"torch=={torch_version}", "-e .[all]"]}
    assert [c.split("=")[0] for c in conda] == ["python", "pip"]
    assert conda[0].split("=")[1] + ".0" in SpecifierSet(project["requires-python"])


def test_the_workflow_runs_make_test_on_every_python_that_is_named(project, torch_version):
    path = ROOT / ".github" / "workflows" / "test.yml"
    job = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]["test"]
    assert tuple(job["strategy"]["matrix"]["python"]) == PYTHONS
    named = [c.split(" :: ")[-1] for c in project["classifiers"] if "Python :: 3." in c]
    assert tuple(named) == PYTHONS
    command = job["steps"][-1]["run"]
    assert command.startswith("make test ")
    assert f"torch=={torch_version}" in command


def test_ci_run_calls_exactly_make_test():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.splitlines()[-1] == "exec make test"
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_versions_agree_with_the_citation():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == mmer_lib.__version__


def make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    inherited = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")  # of the make that runs the tests
    clean = {name: value for name, value in os.environ.items() if name not in inherited}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=clean, capture_output=True, text=True, check=False
    )


def test_make_lists_its_targets_with_a_word_each():
    listed = make().stdout
    targets = ("study", "test", "test-all", "lab", "refresh", "clean")
    assert [t for t in targets if not re.search(rf"make {t} +\w", listed)] == []


def test_make_names_an_old_python_in_one_line(tmp_path):
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text(encoding="utf-8"))
    for name in ("pyproject.toml", "requirements-lock.txt"):
        (tmp_path / name).touch()
    refused = make("study", "PYTHON=false", folder=tmp_path)
    assert refused.returncode != 0
    assert refused.stderr.splitlines()[0].startswith("false is not Python 3.11 or newer")
    assert not (tmp_path / ".venv").exists()


def test_an_environment_that_is_there_is_not_built_again(tmp_path):
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text(encoding="utf-8"))
    for name in ("pyproject.toml", "requirements-lock.txt"):
        (tmp_path / name).touch()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed").touch()
    planned = make("--dry-run", "study", folder=tmp_path).stdout.splitlines()
    assert planned == [".venv/bin/mmer study"]
