"""What a study takes: measured, computed and told. Times decide no test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmer_lib import plots
from mmer_lib.bench import outlook
from mmer_lib.bench.lengths import SPEAKERS, UTTERANCES
from mmer_lib.bench.outlook import Sample, Study, foresee, known_studies, many_runs, read_measured
from mmer_lib.cli import main
from mmer_lib.cli.plan import duration
from mmer_lib.corpora import load_corpus
from mmer_lib.errors import InputError
from mmer_lib.experiments import list_table
from mmer_lib.schedule import Conditions
from mmer_lib.sweep import Plan, in_working_order

NAMES = ("self-T", "cross-AT")
SMALL = {"width": 8, "heads": 2}


@pytest.fixture(scope="module")
def corpus():
    return load_corpus("synthetic", utterances=60, classes=3, features=4)


def measured(names=NAMES, ms: float = 10.0) -> pd.DataFrame:
    """``ms`` an utterance and epoch of the first, twice that of the second, and so on."""
    each = ms * np.arange(1, len(names) + 1)
    return pd.DataFrame({"configuration": names, "ms": each, "mb": 100 * each})


def plan_of(corpus, **changed) -> Plan:
    return Plan(corpus, **{"configurations": NAMES, "n_folds": 5, "seeds": 4, **changed})


# What is computed


def test_seconds_of_a_run_are_those_of_its_learning_part_times_its_epochs(corpus):
    """60 utterances, 48 to learn from: 48 x 10 ms x 12 epochs, and twice that, the costly first."""
    study = Study("mine", plan_of(corpus), scale=3)
    seconds = study.seconds(measured(), epochs=11)  # patience leaves no spread
    per_fold = [*[3 * 48 * 0.020 * 11] * 4, *[3 * 48 * 0.010 * 11] * 4]
    assert seconds == pytest.approx(per_fold * 5)


def test_runs_are_in_the_order_in_which_a_sweep_hands_them_out(corpus):
    """Against the sweep's own list, run by run, where costs and folds differ."""
    plan = plan_of(corpus, configurations=("self-T", "cross-AT", "self-A"), n_folds=7)
    table = measured(plan.configurations)
    each = dict(zip(table["configuration"], table["ms"] / 1000, strict=True))
    expected = [
        each[run.config.name] * (len(run.fold.train) + len(run.fold.dev)) * 11
        for run in in_working_order(plan.runs(), corpus)
    ]
    assert Study("mine", plan).seconds(table, 11) == pytest.approx(expected)


def test_epochs_of_runs_are_drawn_about_their_mean(corpus):
    study = Study("mine", plan_of(corpus, seeds=100))
    epochs = study.seconds(measured(NAMES, 1000 / 48), 30)
    epochs[0:100] /= 2
    assert len(set(np.round(epochs[:100]))) > 15
    assert epochs[:100].mean() == pytest.approx(30, abs=4)


def test_the_known_studies_have_the_papers_sizes():
    grid, zoo, leave_out = known_studies(seeds=2)
    assert grid.plan.configurations == tuple(list_table("A"))
    assert zoo.plan.configurations == tuple(list_table("C"))
    assert [study.plan.protocol for study in (grid, zoo, leave_out)] == [
        "random", "random", "by-speaker",
    ]  # fmt: skip
    folds = leave_out.plan.corpus.folds("by-speaker", SPEAKERS)
    assert len(folds) == SPEAKERS
    assert all(fold.leakage.speakers == 0 for fold in folds)
    for study in (grid, zoo, leave_out):
        assert study.scale * len(study.plan.corpus) == pytest.approx(UTTERANCES)
    assert many_runs().name == "10,010 runs"


def test_a_study_is_foreseen_for_every_number_of_workers(corpus):
    table = foresee([Study("mine", plan_of(corpus))], measured(), [1, 3, 50], Conditions(5), 11)
    assert table["workers"].tolist() == [1, 3, 50]
    first = table.iloc[0]
    assert (first["runs"], first["configurations"], first["folds"], first["seeds"]) == (40, 2, 5, 4)
    total = 20 * 48 * 11 * 0.010 * 3
    assert first["core_hours"] == pytest.approx(total / 3600)
    assert first["seconds"] == pytest.approx(total + 5)
    assert table["seconds"].iloc[-1] == pytest.approx(5 + 48 * 11 * 0.020)
    assert first["mb"] == 2000  # of the largest


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0 s"), (100, "100 s"), (150, "2 min"), (5399, "90 min"), (5400, "1.5 h"),
     (47 * 3600, "47.0 h"), (48 * 3600, "2.0 d")],
)  # fmt: skip
def test_a_duration_is_told_in_a_unit_that_fits(seconds, told):
    assert duration(seconds) == told


# What is measured


def test_an_epoch_of_each_configuration_is_measured_in_a_process_of_its_own(corpus):
    said: list[str] = []
    rows = Sample(corpus, SMALL, batch_size=16).measure(NAMES, said.append)
    table = pd.DataFrame(rows)
    assert table["configuration"].tolist() == list(NAMES)
    assert (table["ms"] > 0).all()
    assert (table["mb"] > 50).all()  # an interpreter with all libraries
    assert said == [f"{name}: an epoch of 60 utterances" for name in NAMES]


def test_of_a_large_corpus_a_sample_is_measured(corpus, monkeypatch):
    monkeypatch.setattr(outlook, "SAMPLE", 30)
    here = lambda work, names, *_: [{"ms": len(work.args[0].open())} for _ in names]  # noqa: E731
    monkeypatch.setattr(outlook, "as_finished", here)
    (row,) = Sample(corpus).measure(["self-T"], print)
    assert row == {"configuration": "self-T", "ms": 30}


def test_what_was_kept_is_read_again_and_a_bench_of_the_grid_too(tmp_path):
    file = tmp_path / "kept.json"
    rows = measured().to_dict("records")
    file.write_text(json.dumps({"about": Sample(None, SMALL).about, "epochs": rows}))
    pd.testing.assert_frame_equal(read_measured(file, Sample(None, SMALL).about), measured())
    grid = [{"configuration": "self-T", "epoch": 0.8 * UTTERANCES}, {"configuration": "all"}]
    file.write_text(json.dumps({"grid": grid}))
    (row,) = read_measured(file, Sample(None, {"width": 120, "heads": 6}).about).to_dict("records")
    assert (row["configuration"], row["ms"]) == ("self-T", pytest.approx(1000))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("no json", "cannot be read: the --json of an earlier"),
        ("{}", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"about": {"corpus": "other"}, "epochs": [{"configuration": "a", "ms": 1, "mb": 2}]}',
         "was measured for corpus=other, here iemocap-like"),
        ('{"grid": [{"configuration": "self-T", "epoch": 3.0}]}', "width=120, here 8"),
    ],
)  # fmt: skip
def test_what_was_measured_for_something_else_is_refused(tmp_path, content, told):
    file = tmp_path / "kept.json"
    file.write_text(content)
    with pytest.raises(InputError, match=told):
        read_measured(file, Sample(None, SMALL).about)


# The command


def small_plan(*more: str) -> list[str]:
    sizes = ["--width", "8", "--heads", "2", "--seeds", "2"]
    return ["plan", "synthetic,utterances=60", "--models", *NAMES, *sizes, *more]


def test_the_command_tells_keeps_and_draws(monkeypatch, tmp_path, capsys):
    asked: list[list[str]] = []

    def measure(self, names, say):
        asked.append(list(names))
        return iter(measured(names).to_dict("records"))

    monkeypatch.setattr(Sample, "measure", measure)
    kept, figures = tmp_path / "plan.json", tmp_path / "figures"
    more = ["--json", str(kept), "--figures", str(figures), "--workers", "1", "4"]
    assert main(small_plan(*more)) == 0
    printed = capsys.readouterr().out
    for told in ("yours", "20 = 2 x 5 x 2", "1 worker", "4 workers", "a guess", "simulated"):
        assert told in printed
    assert (figures / "scaling.png").is_file()
    assert {"commit", "date", "packages"} <= set(json.loads(kept.read_text())["made"])
    assert main(small_plan("--bench", str(kept), "--workers", "1", "4")) == 0
    assert asked == [list(NAMES), []]
    assert capsys.readouterr().out.splitlines()[:2] == printed.splitlines()[:2]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--workers", "0"], "workers=0"),
        (["--epochs", "0"], "epochs=0"),
        (["--failures", "-1"], "failures=-"),
        (["--startup", "-1"], "startup=-1"),
        (["--json", "nowhere/plan.json"], "there is no folder nowhere"),
        (["--folds", "1"], "n_folds=1"),
        (["--protocol", "randon"], "did you mean 'random'"),
        (["--bench", "nowhere.json"], "nowhere.json cannot be read"),
    ],
)
def test_what_cannot_be_planned_is_told_before_anything_is_measured(
    monkeypatch, tmp_path, capsys, more, told
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Sample, "measure", lambda *_: pytest.fail("measured"))
    assert main(small_plan(*more)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert list(tmp_path.iterdir()) == []


# The figure


def test_the_figure_shows_every_study_and_the_ideal_line(corpus):
    studies = [Study(name, plan_of(corpus, seeds=n)) for name, n in [("few", 1), ("many", 50)]]
    table = foresee(studies, measured(), [1, 10, 100], Conditions(), 30)
    figure = plots.scaling(table)
    left, right = figure.axes
    lines = [line.get_ydata().tolist() for line in left.lines]
    few, many = (its["speedup"].tolist() for _, its in table.groupby("study", sort=False))
    assert lines == [few, many, [1, 10, 100]]
    assert many[-1] > few[-1]
    assert right.lines[0].get_ydata() == pytest.approx(100 * table["idle"][:3])
    told = [text.get_text() for text in figure.legends[0].texts]
    assert told == ["few: 10 runs", "many: 500 runs", "ideal"]


def test_a_table_without_what_is_drawn_is_told():
    with pytest.raises(InputError, match="table of workers without column idle"):
        plots.scaling(pd.DataFrame({"study": [], "runs": [], "workers": [], "speedup": []}))


def test_the_figure_has_an_alternative_text(tmp_path: Path):
    from PIL import Image

    from mmer_lib.cli.plan import ALT

    table = pd.DataFrame({"study": "x", "runs": 3, "workers": [1, 2], "speedup": [1, 1.5],
                          "idle": [0, 0.25]})  # fmt: skip
    with Image.open(plots.save(plots.scaling(table), "scaling", tmp_path, ALT)) as image:
        assert image.info["Description"] == ALT
