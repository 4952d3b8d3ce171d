"""Where results come from: every run, figure and table tells it, and names nobody."""

from __future__ import annotations

import getpass
import json
import os
import platform
import socket
import subprocess
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from small import SIZES, learnable_corpus

from mmer_lib import provenance as module
from mmer_lib.errors import InputError
from mmer_lib.experiments import read_summary, write_summary
from mmer_lib.provenance import (
    describe_machine,
    describe_sources,
    provenance,
    read_commit,
    read_provenance,
    say,
    write_table,
)
from mmer_lib.store import ResultStore
from mmer_lib.sweep import Plan, run_plan
from mmer_lib.train import TrainConfig

CORPUS = learnable_corpus(36, seed=2)
SUMMARY = "notebooks/summaries/one.csv"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> pd.DataFrame:
    """Two plans of self-T on two folds: in the table two studies."""
    store = ResultStore(tmp_path_factory.mktemp("finished") / "store")
    for epochs in (1, 2):
        train = TrainConfig(epochs=epochs, batch_size=16)
        run_plan(Plan(CORPUS, ("self-T",), n_folds=2, seeds=1, train=train, model=SIZES), store)
    about = store.run(store.keys()[0])
    table = store.to_frame()
    table.attrs["about"] = about
    return table


def git(folder: Path, *arguments: str) -> str:
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    command = ["git", *who, "-C", str(folder), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **own}
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path) -> Path:
    """A repository with a library and figures; ``read_commit`` forgets what it read before."""
    for name in ("mmer_lib/__init__.py", "figures/one.png", SUMMARY, "README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    read_commit.cache_clear()
    yield tmp_path
    read_commit.cache_clear()


# Versions, commit, machine, date


def test_versions_are_those_that_are_imported():
    told = provenance()
    assert told["python"] == platform.python_version()
    assert told["packages"]["torch"] == torch.__version__
    assert told["packages"]["pandas"] == pd.__version__
    assert datetime.fromisoformat(told["date"]).utcoffset().total_seconds() == 0
    json.dumps(told, allow_nan=False)


@pytest.mark.parametrize(
    ("change", "modified"),
    [("", False), ("README.md", True), ("mmer_lib/__init__.py", True), ("figures/one.png", False),
     (SUMMARY, False), ("notes.txt", False)],
)  # fmt: skip
def test_the_commit_is_told_with_whether_code_was_changed_since(repository, change, modified):
    """Figures and summaries are what a study writes, and git does not know a new file."""
    if change:
        (repository / change).write_text("other")
    head = git(repository, "rev-parse", "HEAD")
    assert read_commit(repository / "mmer_lib") == (head, modified)


def test_a_change_that_is_staged_is_a_change(repository):
    (repository / "README.md").write_text("other")
    git(repository, "add", "README.md")
    assert read_commit(repository / "mmer_lib")[1] is True


def test_a_repository_that_does_not_know_the_library_is_not_its_own(repository):
    """As where a virtual environment lies inside somebody's repository."""
    installed = repository / ".venv" / "mmer_lib"
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    assert read_commit(installed) == (None, None)


def test_outside_a_repository_and_without_git_there_is_no_commit(tmp_path, repository, monkeypatch):
    monkeypatch.setattr(module, "_git", lambda *_: None)
    assert read_commit(repository / "mmer_lib") == (None, None)
    monkeypatch.undo()
    read_commit.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert read_commit(repository / "mmer_lib") == (None, None)


def test_a_folder_that_git_does_not_know_has_no_commit(tmp_path):
    read_commit.cache_clear()
    (tmp_path / "__init__.py").touch()
    assert read_commit(tmp_path) == (None, None)
    read_commit.cache_clear()


def test_git_hooks_do_not_send_us_to_another_repository(repository, tmp_path_factory, monkeypatch):
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    commit, _ = read_commit(repository / "mmer_lib")
    monkeypatch.delenv("GIT_DIR")
    assert commit == git(repository, "rev-parse", "HEAD")


# Nobody is named


def test_nothing_names_the_user_the_home_or_the_host(runs, tmp_path):
    file = write_table(runs, tmp_path / "table.csv", runs)
    told = json.dumps([runs.attrs["about"], provenance()]) + file.with_suffix(".json").read_text()
    host = socket.gethostname()
    names = {getpass.getuser(), str(Path.home()), host, str(Path.cwd()), str(tmp_path)} - {"root"}
    assert [name for name in names if len(name) > 3 and name in told] == []
    assert "/home/" not in told


def test_the_machine_is_system_architecture_and_processor(monkeypatch):
    describe_machine.cache_clear()
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(module, "_processor", lambda: "Quick  9")
    assert describe_machine() == "Linux x86_64, Quick  9"
    describe_machine.cache_clear()
    monkeypatch.setattr(module, "_processor", lambda: "")
    assert describe_machine() == "Linux x86_64"
    describe_machine.cache_clear()


@pytest.mark.parametrize(
    ("cpuinfo", "told"),
    [("flags: fpu\nmodel name\t: A  Quick One @ 3GHz\nmodel name: x\n", "A Quick One @ 3GHz"),
     ("processor: 0\n", ""), (None, "arm")],
)  # fmt: skip
def test_the_kind_of_processor_is_what_the_system_tells(monkeypatch, cpuinfo, told):
    def read(*_: object, **__: object) -> str:
        if cpuinfo is None:
            raise FileNotFoundError
        return cpuinfo

    monkeypatch.setattr(module.Path, "read_text", read)
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert module._processor() == told


# The data


def test_a_run_keeps_its_provenance(runs):
    told = runs.attrs["about"]["provenance"]
    assert {**told, "date": ""} == {**provenance(), "date": ""}


def test_a_table_of_runs_is_told_by_its_studies_and_keys(runs):
    told = describe_sources(runs)
    assert len(told) == 2
    for one in told:
        mine = runs[runs["study"] == one["study"]]
        assert (one["corpus"], one["fingerprint"]) == ("synthetic", CORPUS.fingerprint)
        assert one["runs"] == len(mine) == 2
    assert len({one["keys"] for one in told}) == 2
    turned = describe_sources(pd.concat([runs.iloc[::-1], runs]))
    assert turned == told  # whatever the order, and however often
    fewer = describe_sources(runs.iloc[:1])
    assert fewer[0]["keys"] not in {one["keys"] for one in told}


def test_corpora_and_several_things_are_told_of(runs):
    corpus = {"corpus": "synthetic", "fingerprint": CORPUS.fingerprint}
    assert describe_sources(CORPUS) == [corpus]
    assert describe_sources([CORPUS, None, runs]) == [corpus, *describe_sources(runs)]
    assert describe_sources(None) == describe_sources([]) == []


def test_a_summary_is_told_by_its_file_and_tells_of_its_runs(runs, tmp_path):
    table, about = read_summary(write_summary(runs, tmp_path / "x.csv", [], "a command"))
    assert about["of"] == describe_sources(runs)
    assert about["made"].keys() == provenance().keys()
    (told,) = describe_sources(about)
    assert told["file"] == "x.csv"
    assert describe_sources(table) == [told]
    (tmp_path / "x.csv").write_text("a,b\n")
    assert read_summary(tmp_path / "x.csv")[1]["source"]["hash"] != told["hash"]


def test_a_table_is_written_with_its_provenance_beside_it(runs, tmp_path):
    file = write_table(runs, tmp_path / "new" / "verdicts.csv", runs)
    about = read_provenance(file)
    assert about["of"] == describe_sources(runs)
    assert about["made"].keys() == provenance().keys()
    pd.testing.assert_frame_equal(pd.read_csv(file), runs)


def test_a_table_that_was_changed_since_has_no_provenance(runs, tmp_path):
    file = write_table(runs, tmp_path / "verdicts.csv", runs)
    content = file.read_bytes()
    file.write_bytes(content.replace(b"self-T", b"self-A", 1))
    assert read_provenance(file) is None
    file.write_bytes(content)
    assert read_provenance(file) is not None
    for broken in ("{", "[]", "{}"):
        file.with_suffix(".json").write_text(broken)
        assert read_provenance(file) is None
    file.with_suffix(".json").unlink()
    assert read_provenance(file) is None


@pytest.mark.parametrize("of", [7, "runs", SimpleNamespace(name="x"), {"runs": 3}])
def test_what_tells_nothing_of_data_is_refused(of, tmp_path):
    with pytest.raises(InputError, match=r"a corpus, a table of runs of the store, or what"):
        write_table(pd.DataFrame({"a": [1]}), tmp_path / "x.csv", of)


# In words


def test_provenance_is_said_in_a_line(runs):
    made = provenance() | {"commit": "abcdef0123456789", "modified": True, "date": "2026-03-04T05"}
    said = say({"of": describe_sources(runs), "made": made})
    for part in (CORPUS.fingerprint, "2 runs", "commit abcdef0 (changed), ", "2026-03-04 by mmer "):
        assert part in said
    assert "\n" not in said
    unknown = say({"of": [{"file": "x.csv", "hash": "12"}], "made": made | {"commit": None}})
    assert unknown.startswith("Data: x.csv (12). Made ")
    assert "no commit" in unknown


def test_many_sources_are_said_in_few_words():
    many = [{"corpus": f"c{i}", "fingerprint": "f"} for i in range(15)]
    assert say({"of": many}) == "Data: c0 (f); c1 (f); c2 (f); and 12 more"
    assert say({}) == ""
