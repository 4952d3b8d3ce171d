"""The wheel: what is in it, that it works in an empty folder, and that nothing is written into it.

It is built from a copy, by the backend that pyproject.toml names, without fetching anything.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

import mmer_lib

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("mmer_lib", "notebooks", "tests", "docs")
FILES = (
    "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff",
    "CONTRIBUTING.md", "Makefile", "environment.yml", "requirements-lock.txt",
    "requirements-lowest.txt",
)  # fmt: skip
LEFT = shutil.ignore_patterns("__pycache__", ".*")
BUILD = "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"
DATA = (".csv", ".html", ".css", ".js", ".ipynb", ".md", ".json")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the wheel and the source distribution."""
    copy, dist = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("dist")
    for name in SOURCES:
        shutil.copytree(ROOT / name, copy / name, ignore=LEFT)
    for name in FILES:
        shutil.copy(ROOT / name, copy / name)
    for what in ("build_wheel", "build_sdist"):
        subprocess.run(
            [sys.executable, "-c", BUILD, what, str(dist)],
            cwd=copy,
            check=True,
            capture_output=True,
        )
    return dist


@pytest.fixture(scope="module")
def wheel(built) -> zipfile.ZipFile:
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """What an installation of the wheel alone writes: a folder to import from."""
    folder = tmp_path_factory.mktemp("site")
    wheel.extractall(folder)
    return folder


def files_below(folder: Path) -> set[str]:
    """The files that somebody wrote there: no caches, no hidden ones."""
    found = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return {f.as_posix() for f in found if not any(re.match(r"\.|__pycache__", p) for p in f.parts)}


def contents(folder: Path) -> dict[str, str]:
    """File -> digest, all but what Python compiles for itself."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc"]
    return {str(p.relative_to(folder)): sha256(p.read_bytes()).hexdigest() for p in files}


def mmer(*arguments: str, site: Path, folder: Path, **variables: str):
    """The command of the installed package, run in ``folder``."""
    seen = os.environ | {"PYTHONPATH": str(site)} | variables
    command = [sys.executable, "-m", "mmer_lib.cli", *arguments]
    return subprocess.run(
        command, cwd=folder, env=seen, capture_output=True, text=True, check=False
    )


# -- what is in it ---------------------------------------------------------------------------------


def test_the_wheel_holds_the_library_and_the_notebooks_and_nothing_else(wheel):
    library = {f"mmer_lib/{name}" for name in files_below(ROOT / "mmer_lib")}
    notebooks = {f"mmer_lib/notebooks/{name}" for name in files_below(ROOT / "notebooks")}
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == library | notebooks
    assert {"mmer_lib/py.typed", "mmer_lib/stats/measured.csv"} <= held
    assert {Path(name).suffix for name in held} == {".py", ".typed", *DATA}


def test_the_wheel_names_its_licence_its_command_and_its_version(wheel):
    about = f"mmer-{mmer_lib.__version__}.dist-info"
    assert f"{about}/licenses/LICENSE" in wheel.namelist()
    assert "mmer = mmer_lib.cli:main" in wheel.read(f"{about}/entry_points.txt").decode()
    metadata = wheel.read(f"{about}/METADATA").decode()
    for line in ("License-Expression: BSD-3-Clause", "Requires-Python: >=3.11"):
        assert line in metadata


def test_the_wheel_is_small(built):
    (path,) = built.glob("*.whl")
    assert path.stat().st_size < 6_000_000


def test_the_source_distribution_can_be_tested_and_built_and_holds_no_run(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert set(FILES) <= names
    for folder in ("notebooks", "tests"):
        assert {f"{folder}/{name}" for name in files_below(ROOT / folder)} <= names
    assert not [name for name in names if name.startswith(("runs", "figures", "build"))]


# -- that it works ---------------------------------------------------------------------------------


def test_the_help_of_the_study_says_which_notebooks_are_run(site, tmp_path):
    said = " ".join(mmer("study", "--help", site=site, folder=tmp_path).stdout.split())
    assert "those in ./notebooks if there are any, else those that came with the package" in said


def test_a_study_in_an_empty_folder_runs_the_installed_notebooks_and_leaves_them_alone(
    site, tmp_path
):
    before = contents(site)
    done = mmer("study", "--profile", "ci", "--only", "02", site=site, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"those of the installed package, {site / 'mmer_lib' / 'notebooks'}" in done.stdout
    run = tmp_path / "runs" / "ci"
    assert (run / "notebooks" / "02_attention.ipynb").is_file()
    assert (run / "book" / "02_attention.html").is_file()
    assert (run / "figures" / "02_one_head.png").is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]
    assert contents(site) == before
    again = mmer("study", "--profile", "ci", "--only", "02", site=site, folder=tmp_path)
    assert "02_attention … up to date" in again.stdout


def test_a_wheels_own_loops_are_compiled_into_the_cache_folder(site, tmp_path):
    before = contents(site)
    code = "import mmer_lib.kernels as k, numpy as np; print(k.padded(np.full((1, 1), 2.0)).sum())"
    seen = os.environ | {"PYTHONPATH": str(site), "MMER_CACHE": str(tmp_path)}
    seen.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=seen, capture_output=True, text=True
    )
    assert done.stdout.strip() == "2.0", done.stderr
    assert list((tmp_path / "compiled").rglob("*.nbi"))
    assert contents(site) == before


def test_copied_notebooks_are_those_that_a_study_runs(site, tmp_path):
    copied = mmer("notebooks", "--copy", "notebooks", site=site, folder=tmp_path)
    assert copied.returncode == 0, copied.stderr
    assert files_below(tmp_path / "notebooks") == files_below(ROOT / "notebooks")
    wrong = mmer("study", "--set", "02.nothing=1", site=site, folder=tmp_path)
    assert wrong.returncode == 2
    assert "installed" not in wrong.stdout
