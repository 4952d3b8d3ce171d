"""The notebooks: as STYLE.md wants them, with outputs of the code they show, and all of them run.

The last is the study itself, in its ``ci`` profile, into ``runs/ci``: what is up to date there is
not run again.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from ci_study import finish_ci_study, run_ci_study

from mmer_lib.pipeline.notebooks import code_hash, normalise, read_notebooks
from mmer_lib.pipeline.parameters import read_parameters
from mmer_lib.pipeline.study import READERS
from mmer_lib.plots.saving import read_texts
from mmer_lib.provenance import describe_sources, read_provenance
from mmer_lib.store import ResultStore

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
PATHS = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
LONGEST = 15  # lines of a cell; the parameters cell is a list and may be longer
MACHINE_PATH = re.compile(
    r"(?<![\w./])/(?:home|root|Users|tmp|work|opt|usr|mnt|var)/\S+|[A-Z]:\\\\"
)
ADDRESS = re.compile(r"\bat 0x[0-9a-f]{6,}")

each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def tagged(path: Path, tag: str) -> list[nbformat.NotebookNode]:
    return [c for c in read(path).cells if tag in c.metadata.get("tags", [])]


def output_text(path: Path) -> str:
    """Everything a reader of the outputs sees as text."""
    texts = []
    for cell in code_cells(path):
        for output in cell.outputs:
            texts.append(str(output.get("text", "")))
            data = output.get("data", {})
            texts += [str(v) for kind, v in data.items() if not kind.startswith("image/")]
    return "\n".join(texts)


def test_there_are_notebooks_numbered_from_zero_without_a_gap():
    assert [int(path.stem[:2]) for path in PATHS] == list(range(len(PATHS)))
    assert PATHS


# -- what stands in them ---------------------------------------------------------------------------


@each_notebook
def test_a_notebook_opens_with_its_number_and_question(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    title, *rest = first.source.splitlines()
    assert re.fullmatch(rf"# {path.stem[:2]} · .+\?", title)
    assert len([line for line in rest if line.startswith("- ")]) == 3, "what you will know: three"
    assert "on a laptop" in first.source, "how long it takes"


@each_notebook
def test_the_second_cell_alone_is_tagged_parameters_and_every_entry_has_a_help(path):
    (cell,) = tagged(path, "parameters")
    assert cell.id == read(path).cells[1].id
    assert read_parameters(cell.source, path.name)


@each_notebook
def test_no_cell_is_longer_than_a_reader_holds_in_mind(path):
    parameters = {cell.id for cell in tagged(path, "parameters")}
    cells = [c for c in code_cells(path) if c.id not in parameters]
    assert [c.id for c in cells if len(c.source.splitlines()) > LONGEST] == []


@each_notebook
def test_cells_train_draw_and_catch_nothing_by_hand(path):
    source = "\n".join(cell.source for cell in code_cells(path))
    found = re.findall(
        r"^\s*(try:|while .*|.*\.backward\(\)|.*plt\.show\(\))", source, re.MULTILINE
    )
    assert found == []


@each_notebook
def test_cells_have_stable_names(path):
    ids = [cell.id for cell in read(path).cells]
    assert len(set(ids)) == len(ids)
    assert [i for i in ids if not i.startswith(path.stem[:2])] == []


def test_notebooks_with_one_parameter_give_it_one_type_and_the_same_default():
    """Else `--set '*.NAME=...'`, or a default read from another notebook, would mean two things."""
    shared: dict[str, set] = {}
    for notebook in read_notebooks(FOLDER).values():
        for name, p in notebook.parameters.items():
            if name in ("corpus", "store", "figures", "results", "metric", "folds"):
                shared.setdefault(name, set()).add((p.kind, p.default))
    assert {name: kinds for name, kinds in shared.items() if len(kinds) > 1} == {}


def test_notebooks_that_nobody_waits_for_only_read_the_store():
    sources = {path.stem: "\n".join(cell.source for cell in code_cells(path)) for path in PATHS}
    assert set(READERS) <= set(sources)
    for stem in READERS:
        assert "ResultStore(store, create=False)" in sources[stem]
        assert not re.search(r"run_plan|\.write\(|\.adopt\(|repair", sources[stem])


MADE_UP = ("02_one_head", "02_qkv", "02_pooling_identity", "02_pooling_view", "02_two_heads")


def test_every_figure_names_the_data_that_it_shows():
    """Those of notebook 02 draw numbers that stand in its cells."""
    source = "\n".join(cell.source for path in PATHS for cell in code_cells(path))
    saved = re.findall(r"^\s*plots\.save\((.*)$", source, re.MULTILINE)
    named = {re.search(r'"(\d\d_[^"]*)"', call)[1]: call for call in saved}
    assert len(named) == len(saved) > 40
    assert {name for name, call in named.items() if ", of=" not in call} == {*MADE_UP}


# -- the outputs they carry ------------------------------------------------------------------------


@each_notebook
def test_the_committed_outputs_come_from_the_code_beside_them(path):
    node = read(path)
    assert "mmer" in node.metadata, "no outputs yet: run `make refresh`"
    told = "the code has changed since its outputs were made: run `make refresh`"
    assert node.metadata.mmer == {"code": code_hash(node), "profile": "quick"}, told


@each_notebook
def test_no_output_is_an_error_or_a_warning(path):
    outputs = [output for cell in code_cells(path) for output in cell.outputs]
    assert [o.ename for o in outputs if o.output_type == "error"] == []
    assert [o.text for o in outputs if o.get("name") == "stderr"] == []


@each_notebook
def test_every_code_cell_was_executed_in_order(path):
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))


@each_notebook
def test_nothing_of_a_machine_or_a_moment_is_in_a_notebook(path):
    node, text = read(path), output_text(path)
    assert MACHINE_PATH.findall(text) + ADDRESS.findall(text) == []
    assert node.metadata.kernelspec.name == "python3"
    node.metadata.pop("mmer", None)
    assert normalise(node) == node


@each_notebook
def test_a_notebook_is_smaller_than_a_megabyte(path):
    assert path.stat().st_size < 1_000_000


@each_notebook
def test_every_figure_that_a_notebook_saves_is_committed(path):
    source = "\n".join(cell.source for cell in code_cells(path))
    names = re.findall(r'plots\.save\(\w+, "([^"]+)"', source)
    assert [n for n in names if not (ROOT / "figures" / f"{n}.png").is_file()] == []
    assert [n for n in names if not n.startswith(path.stem[:2])] == []


# -- all of them run -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study() -> Path:
    """The run folder of the study in its ci profile."""
    return finish_ci_study()


@each_notebook
def test_every_notebook_runs(study, path):
    executed = study / "notebooks" / path.name
    counts = [cell.execution_count for cell in code_cells(executed)]
    assert None not in counts
    text = output_text(executed)
    assert MACHINE_PATH.findall(text) == []


def test_the_study_leaves_a_store_and_a_verdict_for_every_pair(study):
    runs = ResultStore(study / "store", create=False).plan("grid")
    verdicts = pd.read_csv(study / "verdicts.csv")
    names = set(runs["configuration"])
    assert set(verdicts["a"]) == {n for n in names if n.startswith("cross-")}
    assert verdicts["verdict"].notna().all()
    assert read_provenance(study / "verdicts.csv")["of"] == describe_sources(runs)


def test_every_figure_of_the_study_says_of_which_data_it_is(study):
    told = {f.stem: read_texts(f.read_bytes())[1] for f in (study / "figures").glob("*.png")}
    assert len(told) > 30
    assert {name for name, about in told.items() if not about["of"]} == {*MADE_UP}
    assert all(about["made"]["date"] for about in told.values())


def test_a_study_that_is_finished_runs_nothing_again(study):
    """And what was made from which code and parameters is written beside each notebook."""
    before = {p: p.stat().st_mtime_ns for p in (study / "notebooks").iterdir()}
    done = run_ci_study()
    assert done.stdout.count("… up to date") == len(PATHS)
    assert {p: p.stat().st_mtime_ns for p in (study / "notebooks").iterdir()} == before
    records = [json.loads((study / "notebooks" / f"{p.stem}.json").read_text()) for p in PATHS]
    assert all(record["key"] and record["provenance"]["machine"] for record in records)
