"""The study on tiny notebooks: what is refused, what is run again, what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mmer_lib.errors import InputError
from mmer_lib.pipeline import StudyError, run_study, source
from mmer_lib.pipeline.notebooks import code_hash, normalise, read_notebooks
from mmer_lib.pipeline.parameters import read_parameters, read_settings
from mmer_lib.pipeline.study import _is_there

PARAMETERS = """corpus: str = "synthetic"  # a corpus
seeds: int = 2  # runs a fold
lr: float = 0.1  # a rate
quiet: bool = False  # whether to say nothing
models: list = []  # configurations
sizes: dict = {}  # overrides
metric: str = "accuracy"  # what is drawn (choices: accuracy | macro_f1)
"""
STORE = """store: str = "../runs/quick/store"  # where runs are kept
figures: str = "../figures"  # where the figures go
"""
TRAIN = "from pathlib import Path\nPath(store).mkdir(parents=True, exist_ok=True)"
DRAW = "Path(figures).mkdir(exist_ok=True)\n(Path(figures) / '03_plot.png').write_text(str(seeds))"
READ = "from pathlib import Path\nprint(len(list(Path(store).iterdir())), 'runs')"


def write_notebook(folder: Path, name: str, parameters: str, *code: str) -> Path:
    """A notebook with a title, a parameters cell and a cell for each ``code``."""
    tagged = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    cells = [new_markdown_cell(f"# {name}"), tagged, *map(new_code_cell, code)]
    for n, cell in enumerate(cells):
        cell.id = f"{name[:2]}-{n:02}"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """Notebooks 01, 03, 05; 03 and 05 share a store."""
    folder = tmp_path / "notebooks"
    write_notebook(folder, "01_data", PARAMETERS, "print(seeds)")
    write_notebook(folder, "03_training", PARAMETERS + STORE, TRAIN, DRAW)
    write_notebook(folder, "05_verdict", STORE, READ)
    return folder


@pytest.fixture
def one(tmp_path) -> Path:
    """A single notebook, the cheapest study there is."""
    folder = tmp_path / "notebooks"
    write_notebook(folder, "01_data", PARAMETERS, "print(seeds)\nprint(quiet)", "seeds")
    return folder


class Log:
    """Collects what a study says."""

    def __init__(self) -> None:
        self.text = ""

    def __call__(self, text: str, end: str = "\n") -> None:
        self.text += text + end

    @property
    def executed(self) -> list[str]:
        """The notebooks that were not up to date."""
        return sorted(x.split(" … ")[0] for x in self.text.splitlines() if "begun" in x)


def run(folder: Path, *settings: str, profile: str = "quick", **options) -> list[str]:
    """Run a study; the stems of the notebooks that were executed."""
    log = Log()
    run_study(profile, settings, notebooks=folder, say=log, **options)
    return log.executed


def outputs(path: Path) -> str:
    """All text that a notebook's cells printed."""
    cells = nbformat.read(path, as_version=4).cells
    return "".join(o.get("text", "") for c in cells for o in c.get("outputs", []))


# -- parameters and settings -----------------------------------------------------------------------


def settle(*texts: str) -> dict:
    return read_settings(texts, {"03_training": read_parameters(PARAMETERS, "03_training")})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("03.corpus=a=b,c", "a=b,c"),
        ("03.corpus=7", "7"),
        ("3.seeds=5", 5),
        ("03_training.lr=1", 1.0),
        ("03.lr=1e-3", 1e-3),
        ("*.quiet=true", True),
        ("03.quiet=False", False),
        ('03.models=["self-T"]', ["self-T"]),
        ("03.models=['self-T']", ["self-T"]),
        ('03.sizes={"width": 8}', {"width": 8}),
    ],
)
def test_a_setting_is_read_in_the_type_of_its_parameter(text, value):
    (settled,) = settle(text)["03_training"].values()
    assert settled == value
    assert type(settled) is type(value)


def test_a_setting_for_one_notebook_wins_over_one_for_all_whatever_their_order():
    assert settle("03.seeds=5", "*.seeds=9")["03_training"] == {"seeds": 5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds=3", "write NOTEBOOK.PARAM=VALUE"),
        ("03.seeds", "write NOTEBOOK.PARAM=VALUE"),
        ("04.seeds=3", "unknown notebook '04'"),
        ("03_trainin.seeds=3", "did you mean '03_training'"),
        ("03.seed=3", "unknown parameter of 03_training: 'seed': did you mean 'seeds'"),
        ("*.seed=3", "unknown parameter of any notebook: 'seed': did you mean 'seeds'"),
        ("03.seeds=abc", "a whole number expected"),
        ("03.seeds=3.0", "a whole number expected"),
        ("03.seeds=true", "a whole number expected"),
        ("03.lr=nan", "a number expected"),
        ("03.lr=NaN", "a number expected"),
        ("03.lr=1e999", "a number expected"),
        ("03.quiet=1", "true or false expected"),
        ("03.models=self-T", "a list such as"),
        ("03.sizes=[1]", "a mapping such as"),
        ("03.metric=acuracy", "unknown value of 03.metric: 'acuracy': did you mean 'accuracy'"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(text, message):
    with pytest.raises(InputError) as told:
        settle(text)
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_a_help_is_found_where_the_formatter_broke_the_line():
    cell = 'metric: str = (\n    "accuracy"  # what is drawn (choices: accuracy | macro_f1)\n)\n'
    (metric,) = read_parameters(cell, "03").values()
    assert (metric.default, metric.choices) == ("accuracy", ("accuracy", "macro_f1"))


@pytest.mark.parametrize(
    "line",
    ["seeds = 2  # no type", "seeds: int = 2", "seeds: int = 1 + 1  # a sum", "import os  # no",
     "seeds: int = 2.0  # not whole", "seeds: tuple = ()  # unknown type", "seeds: int  # nothing"],
)  # fmt: skip
def test_a_parameters_cell_holds_annotated_literals_with_a_help_alone(line):
    with pytest.raises(InputError, match=r"line 1 of its parameters cell"):
        read_parameters(line, "03_training")


# -- refused before a kernel starts ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"profile": "quik"}, "did you mean 'quick'"),
        ({"only": ["07"]}, "unknown notebook '07'"),
        ({"refresh": True, "profile": "ci"}, "refresh takes no"),
        ({"refresh": True, "only": ["01"]}, "refresh takes no"),
        ({"settings": ["*.corpus=sintetic"]}, "did you mean 'synthetic'"),
        ({"settings": ["*.corpus=no/such"]}, "no such corpus folder"),
    ],
)
def test_a_wrong_study_is_refused_and_leaves_nothing(folder, options, message):
    with pytest.raises(InputError, match=message):
        run_study(**options, notebooks=folder)
    assert sorted(p.name for p in folder.parent.iterdir()) == ["notebooks"]


def test_a_folder_without_notebooks_is_told(tmp_path):
    with pytest.raises(InputError, match="no notebook there"):
        run_study(notebooks=tmp_path)


def test_a_notebook_that_is_no_json_is_told(one):
    (one / "02_broken.ipynb").write_text("{")
    with pytest.raises(InputError, match=r"02_broken\.ipynb is not a readable notebook"):
        run_study(notebooks=one)


@pytest.mark.parametrize("content", ['{"keys": ["0123456789abcdef"]}', "{", "[]"])
def test_a_store_that_lacks_a_run_of_its_plans_is_not_up_to_date(tmp_path, content):
    """As `mmer store repair` leaves it: what made the run must make it again."""
    plans = tmp_path / "store" / "plans"
    plans.mkdir(parents=True)
    assert _is_there(tmp_path / "store")
    (plans / "grid.json").write_text(content)
    assert not _is_there(tmp_path / "store")
    (tmp_path / "store" / "0123456789abcdef").mkdir()
    assert _is_there(tmp_path / "store") == ("0123" in content)
    assert not _is_there(tmp_path / "nothing")


def test_a_run_folder_that_cannot_be_made_is_told(one, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write to .*Choose another --out"):
        run_study(notebooks=one, out=tmp_path / "file" / "run")


def test_a_second_study_in_the_same_run_folder_is_refused(one, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4242")
        lock.flush()
        with pytest.raises(InputError, match=r"another study \(process 4242\) is at work"):
            run_study(notebooks=one, out=tmp_path / "run")


# -- run once --------------------------------------------------------------------------------------


def test_a_study_runs_each_notebook_once_and_again_only_what_a_change_reaches(folder):
    runs = folder.parent / "runs" / "quick"
    assert run(folder) == ["01_data", "03_training", "05_verdict"]
    assert run(folder) == []

    nbformat_text = (folder / "01_data.ipynb").read_text()
    (folder / "01_data.ipynb").write_text(nbformat_text.replace("# 01_data", "# other prose"))
    assert run(folder) == [], "prose decides no output"
    assert "# other prose" in (runs / "notebooks" / "01_data.ipynb").read_text()
    assert outputs(runs / "notebooks" / "01_data.ipynb") == "2\n"

    (folder.parent / "figures" / "03_plot.png").unlink()
    assert run(folder) == ["03_training"], "its figure is gone; what it left in the store is not"
    assert (folder.parent / "figures" / "03_plot.png").read_text() == "2"

    assert run(folder, "03.seeds=4") == ["03_training", "05_verdict"]
    assert (folder.parent / "figures" / "03_plot.png").read_text() == "2", "committed: not touched"
    assert (runs / "figures" / "03_plot.png").read_text() == "4"


def test_settings_of_a_study_reach_the_kernel_as_they_are(one, monkeypatch):
    monkeypatch.chdir(one.parent)
    assert run(one, "01.seeds=5", "01.quiet=true", out="mine") == ["01_data"]
    executed = one.parent / "mine" / "notebooks" / "01_data.ipynb"
    assert outputs(executed) == "5\nTrue\n"

    before = executed.read_text()
    assert run(one, "01.seeds=5", "01.quiet=true", out="mine") == []
    assert executed.read_text() == before, "nothing new to say: not written again"


def test_only_the_chosen_notebooks_are_run(folder):
    assert run(folder, only=["1"]) == ["01_data"]


def test_a_corpus_that_changes_is_run_again_and_no_absolute_path_is_given(one, monkeypatch):
    from mmer_lib.corpora import load_corpus

    base = one.parent
    load_corpus("synthetic", utterances=20).save(base / "mine")
    monkeypatch.chdir(base)
    assert run(one, "*.corpus=mine") == ["01_data"]
    record = json.loads((base / "runs" / "quick" / "notebooks" / "01_data.json").read_text())
    assert record["parameters"]["corpus"] == "../mine"
    assert run(one, "*.corpus=mine") == []
    (base / "mine" / "utterances.csv").touch()
    assert run(one, "*.corpus=mine") == ["01_data"]


def test_a_profile_may_speak_of_notebooks_that_are_not_there(one):
    assert run(one, profile="paper") == ["01_data"]


# -- what goes wrong -------------------------------------------------------------------------------


def test_a_failing_cell_is_named_and_the_notebook_up_to_there_is_kept(one):
    path = one / "01_data.ipynb"
    kept = one.parent / "runs" / "quick" / "notebooks" / "01_data.failed.ipynb"
    good = path.read_text()
    write_notebook(one, "01_data", PARAMETERS, "print('so far')", "1 / 0", "print('never')")
    with pytest.raises(StudyError) as told:
        run(one)
    assert str(told.value) == (
        f"01_data, cell 4: ZeroDivisionError: division by zero. The notebook up to there: {kept}"
    )
    assert outputs(kept) == "so far\n"
    assert [p.name for p in kept.parent.iterdir()] == [kept.name]

    path.write_text(good)
    assert run(one) == ["01_data"]
    assert sorted(p.name for p in kept.parent.iterdir()) == ["01_data.ipynb", "01_data.json"]


def test_an_input_error_in_a_cell_is_the_users_mistake(one):
    code = "from mmer_lib.errors import InputError\nraise InputError('give another seed')"
    write_notebook(one, "01_data", PARAMETERS, code)
    with pytest.raises(InputError, match=r"^01_data, cell 3: give another seed$"):
        run(one, "01.seeds=3")


def test_a_kernel_that_dies_is_told(one):
    write_notebook(one, "01_data", PARAMETERS, "import os\nos._exit(1)")
    with pytest.raises(StudyError, match="01_data: its kernel died"):
        run(one)


WAIT = """import time
from pathlib import Path
Path("{own}").touch()
while not Path("{other}").exists():
    time.sleep(0.05)"""


def write_two(folder: Path, first: str, second: str) -> None:
    """Two notebooks that do not wait for one another."""
    write_notebook(folder, "01_data", PARAMETERS, first)
    write_notebook(folder, "02_attention", PARAMETERS, second)


def test_notebooks_that_do_not_wait_for_one_another_are_executed_at_the_same_time(one):
    write_two(one, WAIT.format(own="a", other="b"), WAIT.format(own="b", other="a"))
    assert run(one) == ["01_data", "02_attention"]


def test_those_that_read_the_store_wait_for_who_fills_it_and_not_for_one_another(folder):
    (folder / "05_verdict.ipynb").unlink()
    write_notebook(folder, "04_attention_maps", STORE, READ, WAIT.format(own="a", other="b"))
    write_notebook(folder, "05_comparison", STORE, READ, WAIT.format(own="b", other="a"))
    executed = run_study(notebooks=folder, say=Log()).executed
    assert [outputs(path) for path in executed[-2:]] == ["0 runs\n"] * 2


def test_what_has_begun_is_finished_when_another_notebook_fails(one):
    write_two(one, WAIT.format(own="a", other="b") + "\nraise ValueError('no')",
              WAIT.format(own="b", other="a") + "\ntime.sleep(1)")  # fmt: skip
    with pytest.raises(StudyError, match="01_data, cell 3: ValueError: no"):
        run(one)
    made = one.parent / "runs" / "quick" / "notebooks"
    assert sorted(f.name for f in made.glob("*.ipynb")) == [
        "01_data.failed.ipynb", "02_attention.ipynb",
    ]  # fmt: skip


def test_one_at_a_time_is_in_the_order_of_their_numbers(one):
    write_two(one, "print(1)", "print(2)")
    log = Log()
    run_study(notebooks=one, say=log, jobs=1)
    assert [line.split(" … ")[0] for line in log.text.splitlines()] == [
        "01_data", "01_data", "02_attention", "02_attention",
    ]  # fmt: skip
    with pytest.raises(InputError, match="jobs=0"):
        run_study(notebooks=one, jobs=0)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_stops_at_once_and_leaves_no_half_notebook(one):
    for stem in ("01_data", "02_attention"):
        write_notebook(one, stem, PARAMETERS, "import time", "print(1)\ntime.sleep(60)")
    code = f"from mmer_lib.pipeline import run_study; run_study(notebooks={str(one)!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    made = one.parent / "runs" / "quick" / "notebooks"
    deadline = time.monotonic() + 30
    for partial in (made / "01_data.partial.ipynb", made / "02_attention.partial.ipynb"):
        while not (partial.exists() and '"import time"' in partial.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode != 0
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert list(made.iterdir()) == []


# -- what is written -------------------------------------------------------------------------------


def test_refresh_writes_the_outputs_back_with_the_hash_of_their_code(one):
    assert run(one, refresh=True) == ["01_data"]
    first = (one / "01_data.ipynb").read_bytes()
    node = nbformat.read(one / "01_data.ipynb", as_version=4)
    assert node.metadata.mmer == {"code": code_hash(node), "profile": "quick"}
    assert node.metadata.kernelspec.name == "python3"
    assert set(node.metadata) == {"kernelspec", "language_info", "mmer"}
    assert [c.get("execution_count") for c in node.cells] == [None, 1, 2, 3]
    assert outputs(one / "01_data.ipynb") == "2\nFalse\n"
    assert [c.id for c in node.cells] == ["01-00", "01-01", "01-02", "01-03"]

    assert run(one, refresh=True) == [], "outputs do not count as a change"
    (one.parent / "runs" / "quick" / "notebooks" / "01_data.json").unlink()
    assert run(one, refresh=True) == ["01_data"]
    assert (one / "01_data.ipynb").read_bytes() == first


def test_normalise_removes_times_machines_and_widgets_and_joins_streams():
    stream = {"output_type": "stream", "name": "stdout"}
    cell = new_code_cell("1", metadata={"tags": [], "papermill": {"duration": 3}})
    cell.outputs = [nbformat.from_dict({**stream, "text": text}) for text in ("a\n", "b\n")]
    node = new_notebook(cells=[cell], metadata={"widgets": {"state": 1}, "papermill": {"a": 1}})
    node.metadata["kernelspec"] = {"name": "mine", "display_name": "My machine"}
    clean = normalise(node)
    assert clean.metadata.kernelspec.name == "python3"
    assert set(clean.metadata) == {"kernelspec", "language_info"}
    assert clean.cells[0].metadata == {}
    assert [o.text for o in clean.cells[0].outputs] == ["a\nb\n"]
    assert len(node.cells[0].outputs) == 2, "the given notebook is left alone"


def test_notebooks_are_read_in_the_order_of_their_numbers(folder):
    assert list(read_notebooks(folder)) == ["01_data", "03_training", "05_verdict"]


def test_a_widget_is_written_back_as_a_line_and_not_as_its_insides():
    from mmer_lib.pipeline.notebooks import _name_widgets

    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "VBox()"}
    outputs = [{"data": view}, {"data": {"text/plain": "3"}}, {"name": "stdout", "text": "4"}]
    _name_widgets(outputs)
    assert list(outputs[0]["data"]) == ["text/plain"]
    assert "run this cell in JupyterLab" in outputs[0]["data"]["text/plain"]
    assert outputs[1:] == [{"data": {"text/plain": "3"}}, {"name": "stdout", "text": "4"}]


def test_kernels_run_beside_their_notebooks_and_the_process_stays_where_it_is(one, monkeypatch):
    """Kernels are started by threads: one that moved the process would move the others' kernels."""

    def refuse(path):
        assert Path(path) == Path.cwd(), f"moved to {path}"

    where = "from pathlib import Path\nprint(Path.cwd().name)"
    for name in ("01_data", "02_attention"):
        write_notebook(one, name, PARAMETERS, where)
    monkeypatch.setattr(os, "chdir", refuse)
    study = run_study(notebooks=one, say=Log())
    assert [outputs(path) for path in study.executed] == ["notebooks\n"] * 2


# -- the notebooks of the installed package --------------------------------------------------------


@pytest.fixture
def installed(one, tmp_path, monkeypatch) -> Path:
    """An empty folder to stand in; the notebooks of ``one`` are those of the package."""
    (one / "summaries").mkdir()
    (one / "summaries" / "zoo.csv").write_text("a,b\n")
    monkeypatch.setattr(source, "PACKAGED", one)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return one


def test_installed_notebooks_are_executed_in_the_run_folder_and_stay_as_they_are(installed):
    before = {p: p.stat().st_mtime_ns for p in installed.rglob("*")}
    log = Log()
    study = run_study("quick", say=log)
    run = Path.cwd() / "runs" / "quick"
    assert study.folder == run
    assert study.figures == run / "figures"
    assert (run / "source" / "summaries" / "zoo.csv").is_file()
    assert f"those of the installed package, {installed}" in log.text
    assert [p.name for p in Path.cwd().iterdir()] == ["runs"]
    assert {p: p.stat().st_mtime_ns for p in installed.rglob("*")} == before
    again = Log()
    run_study("quick", say=again)
    assert again.executed == []


def test_a_wrong_setting_of_installed_notebooks_leaves_nothing(installed):
    with pytest.raises(InputError, match="parameter"):
        run_study("quick", ["01.seed=3"])
    assert list(Path.cwd().iterdir()) == []


def test_installed_notebooks_cannot_be_refreshed(installed):
    with pytest.raises(InputError, match=r"run it in a clone.*mmer notebooks --copy notebooks"):
        run_study(refresh=True)


def test_notebooks_in_the_folder_we_are_in_win_over_those_of_the_package(installed):
    write_notebook(Path.cwd() / "notebooks", "01_mine", PARAMETERS, "print(1)")
    assert source.find_folder() == Path.cwd() / "notebooks"


def test_without_the_voice_a_notebook_that_plays_recordings_does_without(tmp_path, monkeypatch):
    folder = tmp_path / "notebooks"
    recorded = 'recorded: str = "staged,utterances=70"  # a corpus with media\n' + STORE
    write_notebook(folder, "01_data", recorded, "print(recorded)")
    monkeypatch.setattr("mmer_lib.pipeline.study.missing", lambda extra: ["eSpeak NG"])
    monkeypatch.setattr("mmer_lib.extras.missing", lambda extra: ["eSpeak NG"])
    with pytest.raises(InputError, match=r"refresh needs eSpeak NG: pip install"):
        run_study(notebooks=folder, refresh=True, say=Log())
    log = Log()
    study = run_study("quick", notebooks=folder, say=log)
    assert "which need eSpeak NG: pip install 'mmer[staged]'" in log.text
    assert outputs(study.executed[0]) == "synthetic\n"
    assert study.figures == study.folder / "figures"  # the committed ones keep their faces
    given = run_study("quick", ["01.recorded=mine"], notebooks=folder, say=Log())
    assert outputs(given.executed[0]) == "mine\n"
