"""Figures show the numbers they were given, say what to look at, and leave matplotlib alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import pairwise, permutations
from pathlib import Path
from types import SimpleNamespace

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from studies import simulate_table, table_of

from mmer_lib import metrics, paper, plots, stats
from mmer_lib.errors import InputError
from mmer_lib.plots import saving
from mmer_lib.plots.style import ROLES, figure_of
from mmer_lib.provenance import provenance

EMOTIONS = list(paper.CLASS_COUNTS)
LENGTHS = {"audio": 7, "video": 6, "text": 8}
EVENTS = pd.DataFrame(
    {
        "modality": ["audio", "audio", "text"],
        "frame": [5, 6, 3],
        "role": ["decoy", "answer", "ask"],
    }
)


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def make_table(names: list[str], folds: int = 5, seeds: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (name, fold, seed, rng.uniform(0.4, 0.6))
        for name in names
        for fold in range(folds)
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows, columns=["configuration", "fold", "seed", "balanced_accuracy"])


def make_histories(names: list[str]) -> pd.DataFrame:
    rng, epochs = np.random.default_rng(0), np.arange(1, 13)
    rows = {"epoch": epochs, "train_loss": 2 / epochs, "dev_loss": 1 + 1 / epochs}
    return pd.concat(
        pd.DataFrame(rows).assign(
            configuration=name, fold=0, seed=seed, dev_accuracy=rng.uniform(0.3, 0.6, 12)
        )
        for name in names
        for seed in range(2)
    )


def attention(queries: int, sources: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(sources), queries)


def cross_maps() -> dict[tuple[str, str], np.ndarray]:
    return {(q, s): attention(LENGTHS[q], LENGTHS[s]) for q, s in permutations(LENGTHS, 2)}


def features(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {m: rng.normal(size=(n, 16)) for m, n in LENGTHS.items()}


def comparisons() -> pd.DataFrame:
    table = make_table(list(paper.CONFIGURATIONS))
    return stats.compare_planned(table, stats.planned_pairs(table["configuration"]))


def one_comparison() -> stats.Comparison:
    return stats.compare(make_table(["self-AVT", "cross-AVT"]), "cross-AVT", "self-AVT")


def two_copies() -> stats.Comparison:
    table = make_table(["self-AVT"])
    both = pd.concat([table, table.assign(configuration="copy")])
    return stats.compare(both, "copy", "self-AVT")


def mass_frame() -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    for name, source in [("cross-AVT", "audio"), ("cross-AVT", "video"), ("self-AVT", "text")]:
        for role in ("answer", "decoy"):
            mass = rng.uniform(0.2, 0.4, 20)
            shared = {"configuration": name, "query": "text", "source": source, "role": role}
            rows.append(pd.DataFrame(shared | {"mass": mass, "chance": 0.1}))
    return pd.concat(rows)


def habits(few: bool = False) -> pd.DataFrame:
    found = stats.habits(simulate_table(0), "cross-AVT", "self-AVT")
    return found.iloc[3:] if few else found


def planning(**options: object) -> stats.Planning:
    return stats.plan(stats.variance_components(simulate_table(0)), **options)


def answers(names: list[str]) -> pd.DataFrame:
    """What runs said of 30 utterances of seven classes a fold."""
    rng, parts = np.random.default_rng(0), []
    for name in names:
        for fold in range(3):
            labels, said = rng.integers(7, size=30), rng.integers(7, size=30)
            ids = [f"{fold}-{i}" for i in range(30)]
            shared = {"configuration": name, "fold": fold, "seed": 0, "id": ids}
            shared |= {"label": labels, "predicted": np.where(rng.random(30) < 0.5, labels, said)}
            parts.append(pd.DataFrame(shared).assign(confidence=rng.uniform(0.2, 1, 30)))
    return pd.concat(parts, ignore_index=True)


def selected(names: list[str]) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    tables = [make_histories([name]).assign(fold=0) for name in names]
    table = pd.concat(tables, ignore_index=True)
    return stats.selection(table.assign(test_accuracy=rng.uniform(0.3, 0.6, len(table))))


def same_gap() -> stats.Comparison:
    level = np.random.default_rng(0).uniform(0.4, 0.6, (1, 5, 2))
    return stats.compare(table_of(np.concatenate([level + 0.125, level])), "cross-AVT", "self-AVT")


def leakage_reports() -> pd.DataFrame:
    counts = {"speakers": [7, 0], "dialogues": [30, 0], "transcripts": [None, None]}
    return pd.DataFrame(counts, index=["random", "by-speaker"])


def costs() -> pd.DataFrame:
    return pd.DataFrame({"name": GRID, "megaflops": np.geomspace(0.1, 10, len(GRID))})


def missing_track() -> pd.DataFrame:
    rows = [
        (name, fold, present, 0.9 - 0.2 * fold - 0.1 * i)
        for name in ("cross-AT", "a fusion with a long name")
        for fold in range(2)
        for i, present in enumerate(["AT", "T", "A"])
    ]
    return pd.DataFrame(rows, columns=["configuration", "fold", "present", "balanced_accuracy"])


def loss_track() -> pd.DataFrame:
    """Scores that fall by a tenth a tenth of the frames, one configuration ten points above."""
    rows = [
        {"configuration": name, "fold": k, "share": share,
         "balanced_accuracy": 0.8 + 0.1 * (name == "cross-AVT") - 0.5 * share}
        for name in ("self-AVT", "cross-AVT", "mean-AVT")
        for k in range(2)
        for share in (0.0, 0.3, 0.9)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def kinds_of_data() -> pd.DataFrame:
    names = ["self-AVT", "cross-AVT", "cross-AVT,query=shuffled"]
    return pd.concat([make_table(names).assign(regime=r) for r in ("additive", "binding", "both")])


def cells() -> pd.DataFrame:
    """Comparisons of three corpora of a triangle."""
    shares = {"cross_binding": [0.0, 0.5, 0.0], "self_binding": [0.0, 0.0, 0.5]}
    told = {"difference": [0.0, 0.2, -0.1], "verdict": ["equivalent", "different", "inconclusive"]}
    return pd.DataFrame({**shares, **told, "a": "cross-AVT", "b": "self-AVT"})


WORDS = pd.DataFrame({"start": [0.1, 0.4], "end": [0.4, 0.9], "word": ["Good", "day"]})


def spoken() -> dict[str, object]:
    """A tone of 1 kHz for a second, ten pictures of rising brightness, two words, two events."""
    level = np.linspace(0, 255, 10).astype(np.uint8)
    moments = {"modality": ["audio", "text"], "time": [0.5, np.nan], "role": ["stress", "word"]}
    return {
        "waveform": np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000),
        "pictures": np.broadcast_to(level[:, None, None, None], (10, 8, 8, 3)),
        "times": (np.arange(10) + 0.5) / 10,
        "words": WORDS,
        "events": pd.DataFrame(moments),
    }


GRID = list(paper.CONFIGURATIONS)
PUBLISHED = metrics.read_table(paper.published_table(), "released code")
ENDS = ("low", "high", "low_equivalence", "high_equivalence")
SQUARE = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
MAJORITY = {"majority": 1 / 7, "permuted": 0.16}

# Every figure, in its usual and in its extreme forms.
FIGURES: dict[str, Callable[[], Axes | Figure]] = {
    "bars, 14": lambda: plots.score_bars(stats.summary(make_table(GRID)), PUBLISHED, MAJORITY),
    "bars, 1 fold": lambda: plots.score_bars(stats.summary(make_table(["self-A", "cross-AV"], 1))),
    "bars, 1": lambda: plots.score_bars(stats.summary(make_table(["self-A"], 2, 1))),
    "bars, foreign names": lambda: plots.score_bars(
        stats.summary(make_table(["a b", "iaca-AVT", "self-AVT@released,masks=true"]))
    ),
    "curves, 14": lambda: plots.training_curves(make_histories(GRID)),
    "curves, 1": lambda: plots.training_curves(make_histories(["self-A"])),
    "confusion, 7": lambda: plots.confusion(np.full((7, 7), 3), EMOTIONS),
    "confusion, 2": lambda: plots.confusion([[3, 1], [0, 0]], ["no", "yes"]),
    "forest": lambda: plots.forest(comparisons()),
    "forest, 1": lambda: plots.forest(comparisons().iloc[:1], margin=0.005),
    "folds": lambda: plots.paired_folds(
        make_table(["self-AVT", "cross-AVT"]), "cross-AVT", "self-AVT"
    ),
    "folds, 1": lambda: plots.paired_folds(make_table(["self-A", "self-V"], 1), "self-A", "self-V"),
    "posterior": lambda: plots.posterior(one_comparison()),
    "posterior, no spread": lambda: plots.posterior(same_gap()),
    "posterior, copies": lambda: plots.posterior(two_copies()),
    "forest, no interval": lambda: plots.forest(
        comparisons().assign(**dict.fromkeys(ENDS, np.inf))
    ),
    "ranks, 14": lambda: plots.critical_difference(stats.rank_configurations(make_table(GRID))),
    "ranks, 2": lambda: plots.critical_difference(stats.judge_ranks([1.2, 1.8], 5)),
    "habits": lambda: plots.habits(habits()),
    "habits, few": lambda: plots.habits(habits(True)),
    "components": lambda: plots.components(
        {
            "cross-AVT - self-AVT": stats.variance_components(simulate_table(0)),
            "a pair whose name is long enough to need two lines": stats.variance_components(
                simulate_table(1)
            ),
        }
    ),
    "power": lambda: plots.power(planning()),
    "power, 1 design": lambda: plots.power(planning(designs=[(5, 1, 10)])),
    "rain": lambda: plots.rain_clouds(simulate_table(0), ["self-AVT", "cross-AVT"]),
    "rain, 1 run": lambda: plots.rain_clouds(make_table(["self-A"], 1, 1), ["self-A"]),
    "epochs": lambda: plots.epoch_choice(selected(GRID)),
    "epochs, 1": lambda: plots.epoch_choice(selected(["self-A"])),
    "recalls": lambda: plots.recalls(
        stats.recall_intervals(answers(["self-AVT", "cross-AVT"]), EMOTIONS)
    ),
    "recalls, absent class": lambda: plots.recalls(
        stats.recall_intervals(answers(["self-A"]), [*EMOTIONS, "a class that never occurs"])
    ),
    "reliability": lambda: plots.reliability(stats.reliability(answers(GRID))),
    "reliability, 1": lambda: plots.reliability(stats.reliability(answers(["self-A"]), bins=1)),
    "balance, 7": lambda: plots.class_balance(np.repeat(range(7), range(7, 0, -1)), EMOTIONS),
    "balance, 2": lambda: plots.class_balance([0, 1, 1], ["no", "a class with a long name"]),
    "lengths": lambda: plots.lengths(
        {"audio": np.arange(100, 900), "video": [0, 0, 3, 4], "text": [5] * 9}, {"audio": 100.0}
    ),
    "lengths, all missing": lambda: plots.lengths({"text": [0, 0]}),
    "leakage": lambda: plots.leakage(leakage_reports()),
    "utterance": lambda: plots.utterance(features(), EVENTS),
    "utterance, missing": lambda: plots.utterance(features() | {"text": np.zeros((0, 16))}),
    "utterance, uneven": lambda: plots.utterance(
        {"audio": np.ones((500, 4)), "text": np.zeros((1, 3))}, EVENTS.iloc[:0]
    ),
    "cost": lambda: plots.cost(make_table(GRID), costs()),
    "cost, 1": lambda: plots.cost(make_table(["self-A"]), costs()),
    "loss": lambda: plots.loss_curves(loss_track(), ["cross-AVT", "self-AVT"], chance=1 / 7),
    "loss, no highlight": lambda: plots.loss_curves(loss_track()),
    "regimes": lambda: plots.regimes(kinds_of_data(), chance=1 / 7),
    "regimes, 1": lambda: plots.regimes(make_table(["self-A"]).assign(regime="only one")),
    "subsets": lambda: plots.subsets(missing_track()),
    "subsets, 1": lambda: plots.subsets(missing_track().iloc[:1]),
    "phase": lambda: plots.phase_diagram(cells(), "cross_binding", "self_binding"),
    "phase, 1": lambda: plots.phase_diagram(cells().iloc[:1], "cross_binding", "self_binding"),
    "recording": lambda: plots.recording(**spoken()),
    "recording, words alone": lambda: plots.recording(words=WORDS),
    "recording, of nothing": plots.recording,
    "recording, a click": lambda: plots.recording(np.ones(100)),
    "map": lambda: plots.attention_map(
        attention(8, 7), "text", "audio", EVENTS.iloc[2:], EVENTS.iloc[:2]
    ),
    "map, one frame": lambda: plots.attention_map([[1.0]], "text", "audio", [0], [0]),
    "map, missing": lambda: plots.attention_map(np.zeros((4, 0)), "text", "audio"),
    "grid, cross": lambda: plots.attention_grid(cross_maps(), EVENTS),
    "grid, self": lambda: plots.attention_grid({(m, m): attention(4, 4) for m in LENGTHS}),
    "grid, missing": lambda: plots.attention_grid({("audio", "text"): np.zeros((3, 0))}, EVENTS),
    "heads": lambda: plots.attention_heads([attention(5, 6, h) for h in range(4)], "text", "audio"),
    "mass": lambda: plots.event_mass(mass_frame()),
    "mass, 1": lambda: plots.event_mass(
        pd.DataFrame({"configuration": ["x"], "mass": [0.0], "chance": [0.1]})
    ),
    "identity": lambda: plots.pooling_identity(SQUARE, attention(300, 4) @ SQUARE),
    "identity, line": lambda: plots.pooling_identity([[0, 0], [1, 1], [2, 2]], [[1, 1]]),
    "identity, one frame": lambda: plots.pooling_identity([[0, 0]], [[0, 0]]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_a_title_that_fits_and_leaves_matplotlibs_settings_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plt, "show", lambda *_: pytest.fail("a plot called show()"))
    before = dict(mpl.rcParams)
    drawn = FIGURES[name]()
    figure = drawn if isinstance(drawn, Figure) else figure_of(drawn)
    figure.canvas.draw()
    title = drawn._suptitle if isinstance(drawn, Figure) else drawn._left_title
    assert title.get_text()
    assert title.get_window_extent().x1 <= figure.bbox.width * 1.01
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("name", FIGURES)
def test_every_panel_with_data_names_an_axis(name: str) -> None:
    drawn = FIGURES[name]()
    if isinstance(drawn, Axes):
        assert drawn.get_xlabel() or drawn.get_ylabel()
    else:
        assert any(ax.get_xlabel() for ax in drawn.axes)
        assert any(ax.get_ylabel() for ax in drawn.axes)


@pytest.mark.parametrize(
    "name", ["bars, 14", "forest, 1", "posterior", "map", "mass", "balance, 2"]
)
def test_a_panel_is_drawn_into_the_axes_it_is_given(
    name: str,
) -> None:
    figure, mine = plt.subplots()
    opened = len(plt.get_fignums())
    calls = {
        "bars, 14": lambda ax: plots.score_bars(stats.summary(make_table(GRID)), ax=ax),
        "forest, 1": lambda ax: plots.forest(comparisons(), ax=ax),
        "posterior": lambda ax: plots.posterior(one_comparison(), ax=ax),
        "map": lambda ax: plots.attention_map(attention(3, 4), "text", "audio", ax=ax),
        "mass": lambda ax: plots.event_mass(mass_frame(), ax=ax),
        "balance, 2": lambda ax: plots.class_balance([0, 1], ["no", "yes"], ax=ax),
    }
    assert calls[name](mine) is mine
    assert len(plt.get_fignums()) == opened
    assert figure_of(mine) is figure


# --- names and colours ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("self-AVT", ("self", "AVT", "")),
        ("cross-AV-nosp@released,masks=true", ("cross", "AV", "nosp@released,masks=true")),
        ("self-T,width=32", ("self", "T", "width=32")),
        ("my model", ("my model", "", "")),
    ],
)
def test_names_are_split_into_fusion_modalities_and_the_rest(
    name: str, parts: tuple[str, str, str]
) -> None:
    fusion, modalities, rest = plots.split_name(name)
    assert (fusion, modalities, rest.lstrip(",")) == parts


def test_colours_are_fixed_distinct_and_never_shared_by_fusions_and_modalities() -> None:
    colours = [*plots.FUSION_COLOURS.values(), *plots.MODALITY_COLOURS.values()]
    assert len(set(colours)) == len(colours)
    assert plots.fusion_colour("cross-AV@released") == plots.FUSION_COLOURS["cross"]
    assert plots.fusion_colour("iaca-AV") == plots.fusion_colour("iaca-AVT")
    compared = [f"{f}-AVT" for f in ("self", "cross", "joint_self", "joint_cross", "joint")]
    assert len({plots.fusion_colour(name) for name in compared}) == len(compared)
    assert set(plots.VERDICT_COLOURS) == set(stats.VERDICTS)


# --- the numbers in the picture ---------------------------------------------------------------


def test_bars_are_as_high_as_the_means_and_stand_in_the_papers_order() -> None:
    summary = stats.summary(make_table(["cross-AVT", "self-AVT", "self-T", "self-A"]))
    ax = plots.score_bars(summary)
    drawn = {round(bar.get_x() + 0.43, 6): bar.get_height() for bar in ax.patches}
    in_order = [drawn[x] for x in sorted(drawn)]
    means = summary.set_index("configuration")["mean"] * 100
    assert in_order == pytest.approx(
        [means[n] for n in ("self-A", "self-T", "cross-AVT", "self-AVT")]
    )
    assert [t.get_text() for t in ax.get_xticklabels()] == ["A", "T", "AVT"]


def test_published_numbers_stand_beside_the_bars_of_the_same_configuration() -> None:
    ax = plots.score_bars(stats.summary(make_table(["self-AVT", "cross-AVT"])), PUBLISHED)
    marks = ax.collections[0].get_offsets()
    np.testing.assert_allclose(np.sort(marks[:, 1]), [57.8, 58.7])


def test_intervals_beyond_the_possible_are_cut_at_zero_and_a_hundred() -> None:
    table = make_table(["self-AVT"], folds=2, seeds=1)
    table["balanced_accuracy"] = [0.1, 0.9]
    low, high = plots.score_bars(stats.summary(table)).get_ylim()
    assert low == 0
    assert high <= 100


def test_confusion_shows_shares_of_the_true_class() -> None:
    ax = plots.confusion([[3, 1], [0, 0]], ["no", "yes"])
    assert [text.get_text() for text in ax.texts] == ["75", "25", "0", "0"]


def test_the_kept_epoch_is_the_first_of_the_best_on_development() -> None:
    history = make_histories(["self-A"]).query("seed == 0").assign(dev_accuracy=0.5)
    ax = plots.training_curves(history).axes[0]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert dots[0].get_xdata()[0] == 1
    ax = plots.training_curves(history.assign(best_epoch=4)).axes[0]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert dots[0].get_xdata()[0] == 4


def test_forest_draws_both_intervals_the_margin_and_the_verdict_of_each_row() -> None:
    frame = comparisons()
    ax = plots.forest(frame)
    ends = {tuple(line.get_xdata()) for line in ax.lines}
    for row in frame.itertuples():
        assert (100 * row.low, 100 * row.high) in ends
        assert (100 * row.low_equivalence, 100 * row.high_equivalence) in ends
    band = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((-1, 1))
    assert [" ".join(text.get_text().split()) for text in ax.texts] == list(frame["verdict"])


def test_posterior_prints_the_probabilities_and_follows_another_margin() -> None:
    found = one_comparison()
    words = [text.get_text() for text in plots.posterior(found).texts]
    for word, share in zip(words, (found.left, found.inside, found.right), strict=True):
        assert word.endswith(f"{100 * share:.1f} %")
    wide = [text.get_text() for text in plots.posterior(found, margin=0.5).texts]
    assert wide[1].endswith("100.0 %")


def test_posterior_of_two_copies_stands_at_zero() -> None:
    words = [text.get_text() for text in plots.posterior(two_copies()).texts]
    assert [word.split()[-2] for word in words] == ["0.0", "100.0", "0.0"]


def test_a_line_joins_the_two_means_of_each_fold() -> None:
    table = make_table(["self-AVT", "cross-AVT"])
    means = 100 * stats.fold_means(table)
    ax = plots.paired_folds(table, "cross-AVT", "self-AVT")
    lines = {tuple(line.get_ydata()) for line in ax.lines}
    assert lines == {(row["self-AVT"], row["cross-AVT"]) for _, row in means.iterrows()}


def test_labels_of_close_folds_do_not_overlap() -> None:
    table = make_table(["self-AVT", "cross-AVT"], folds=8)
    table["balanced_accuracy"] = 0.5 + 0.1 * (table["configuration"] == "self-AVT")
    table.loc[table["fold"] == 0, "balanced_accuracy"] += 0.02
    ax = plots.paired_folds(table, "cross-AVT", "self-AVT")
    figure_of(ax).canvas.draw()
    boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(boxes))


def test_a_comparison_without_spread_has_a_place_and_no_posterior() -> None:
    ax = plots.posterior(same_gap())
    assert [text.get_text() for text in ax.texts] == [
        "every replicate shows this very gap: its spread is unknown"
    ]
    assert not ax.collections
    assert ax.lines[0].get_xdata()[0] == pytest.approx(12.5)


def test_the_diagram_shows_each_rank_the_groups_and_the_critical_difference_to_scale() -> None:
    ranks = stats.judge_ranks(pd.Series({"a": 1.2, "b": 1.8, "c": 3.0, "d": 4.0}), 14)
    ax = plots.critical_difference(ranks)
    dots = sorted(float(dot.get_offsets()[0, 0]) for dot in ax.collections)
    assert dots == pytest.approx([1.2, 1.8, 3.0, 4.0])
    spans = {
        (min(line.get_xdata()), max(line.get_xdata()))
        for line in ax.lines
        if len(set(line.get_ydata())) == 1 and line.get_linewidth() > 3
    }
    assert spans == {(1.2, 1.8), (1.8, 3.0), (3.0, 4.0)}
    bar = next(line for line in ax.artists + list(ax.lines) if line.get_marker() == "|")
    assert np.ptp(bar.get_xdata()) == pytest.approx(ranks.critical_difference)
    assert "a  1.2" in [text.get_text() for text in ax.texts]


def test_habits_show_measured_rates_and_what_each_test_says_here() -> None:
    frame = habits()
    ax = plots.habits(frame)
    widths = [bar.get_width() for bar in ax.patches]
    assert widths[::2] == pytest.approx(list(100 * frame["false_positives_high"]))
    assert widths[1::2] == pytest.approx(list(100 * frame["false_positives_low"]))
    words = [text.get_text() for text in ax.texts]
    assert words[2] == "needs predictions"
    assert all(word.startswith(says) for word, says in zip(words, frame["says"], strict=True))
    bold = [tick.get_text() for tick in ax.get_yticklabels() if tick.get_fontweight() == "bold"]
    assert bold == [stats.DEFAULT]


def test_bars_of_variance_fill_the_whole() -> None:
    found = stats.variance_components(simulate_table(0))
    ax = plots.components({"one": found})
    assert [bar.get_width() for bar in ax.patches] == pytest.approx(list(100 * found.shares()))


def test_power_lines_are_those_of_the_grid_and_the_present_design_is_marked() -> None:
    plan = planning()
    for ax, column in zip(
        plots.power(plan).axes, ("power_difference", "power_equivalence"), strict=True
    ):
        lines = {tuple(np.round(line.get_ydata(), 6)) for line in ax.lines}
        for _, designs in plan.grid.groupby(["folds", "repeats"]):
            assert tuple(np.round(100 * designs[column], 6)) in lines
        cross = next(line for line in ax.lines if line.get_marker() == "X")
        assert cross.get_ydata()[0] == pytest.approx(100 * plan.present[column])


def test_each_run_is_a_drop_and_each_fold_a_bar() -> None:
    table = simulate_table(0, folds=4, seeds=3)
    strip = plots.rain_clouds(table, ["self-AVT", "cross-AVT"]).axes[0]
    drops = np.concatenate([dots.get_offsets()[:, 1] for dots in strip.collections])
    np.testing.assert_allclose(np.sort(drops), np.sort(100 * table["balanced_accuracy"]))
    bars = sorted(line.get_ydata()[0] for line in strip.lines)
    assert bars == pytest.approx(sorted(100 * stats.fold_means(table).to_numpy().ravel()))


def test_recalls_are_drawn_with_their_intervals_and_counts() -> None:
    frame = stats.recall_intervals(answers(["self-AVT"]), EMOTIONS)
    ax = plots.recalls(frame)
    ends = [tuple(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2]
    expected = 100 * frame[["low", "high"]].to_numpy()
    np.testing.assert_allclose(ends, expected)
    ticks = [tick.get_text() for tick in ax.get_yticklabels()]
    assert ticks[0] == f"angry ({frame['n_utterances'][0]})"


def test_reliability_marks_the_bins_and_names_the_error() -> None:
    table = stats.reliability(answers(["self-A"]))
    ax = plots.reliability(table).axes[0]
    dots = ax.collections[0].get_offsets()
    np.testing.assert_allclose(dots, 100 * table[["confidence", "accuracy"]])
    assert ax.get_title(loc="left") == f"self-A: {100 * table['ece'].iloc[0]:.1f} off"


def test_the_won_points_are_written_beside_each_configuration() -> None:
    frame = selected(["self-A", "cross-AV"])
    words = [text.get_text() for text in plots.epoch_choice(frame).texts]
    assert words == [f"+{100 * won:.1f} points" for won in frame["inflation"]]


def test_class_balance_counts_every_class_and_its_share() -> None:
    ax = plots.class_balance([2, 2, 2, 0], ["a", "b", "c"])
    assert [text.get_text().strip() for text in ax.texts] == ["3 (75 %)", "1 (25 %)", "0 (0 %)"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["c", "a", "b"]


def test_leakage_that_cannot_be_known_is_not_drawn_as_zero() -> None:
    words = [text.get_text() for text in plots.leakage(leakage_reports()).texts]
    assert words == ["7", "30", "unknown", "0", "0", "unknown"]


def test_missing_sequences_are_counted_in_the_title() -> None:
    figure = plots.lengths({"video": [0, 3, 4, 0]})
    assert figure.axes[0].get_title(loc="left") == "video: 2 of 4 missing"


# --- maps -------------------------------------------------------------------------------------


def test_a_map_shows_the_weights_query_frames_down_and_source_frames_across() -> None:
    weights = attention(3, 5)
    ax = plots.attention_map(weights, "text", "audio")
    np.testing.assert_allclose(ax.images[0].get_array(), weights)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("source frame (audio)", "query frame (text)")


def test_planted_events_are_marked_outside_the_map_at_their_frames() -> None:
    ax = plots.attention_map(attention(8, 7), "text", "audio", EVENTS.iloc[2:], EVENTS.iloc[:2])
    figure_of(ax).canvas.draw()
    panel = ax.get_window_extent()
    found = set()
    for line in ax.artists + [a for a in ax.lines if a.get_marker() in dict(ROLES.values())]:
        for x, y in line.get_transform().transform(line.get_xydata()):
            at = ax.transData.inverted().transform((x, y))
            above, beside = y > panel.y1, x > panel.x1
            assert above != beside
            found.add(
                (
                    line.get_marker(),
                    "source" if above else "query",
                    round(float(at[int(not above)])),
                )
            )
    assert found == {("X", "source", 5), ("*", "source", 6), ("v", "query", 3)}


def test_heads_fill_rows_of_four_or_of_three() -> None:
    for n, columns in ((4, 4), (6, 3), (8, 4)):
        figure = plots.attention_heads(np.ones((n, 2, 3)), "text", "audio")
        assert len({ax.get_position().x0.round(2) for ax in figure.axes if ax.images}) == columns


def test_cross_maps_stand_as_query_by_source_and_self_maps_in_a_row() -> None:
    cross = plots.attention_grid(cross_maps(), EVENTS)
    drawn = [ax for ax in cross.axes if ax.images]
    assert {ax.get_title(loc="left") for ax in drawn} == {
        f"{query} asks {source}" for query, source in permutations(LENGTHS, 2)
    }
    itself = plots.attention_grid({(m, m): attention(4, 4) for m in LENGTHS})
    tops = {round(ax.get_position().y1, 6) for ax in itself.axes if ax.images}
    assert len(tops) == 1


def test_maps_of_a_grid_share_one_colour_scale() -> None:
    limits = {
        ax.images[0].get_clim() for ax in plots.attention_grid(cross_maps()).axes if ax.images
    }
    top = max(w.max() for w in cross_maps().values())
    assert limits == {(0, top)}


def test_a_missing_modality_is_an_empty_panel_that_says_so() -> None:
    figure = plots.utterance(features() | {"video": np.zeros((0, 16))})
    panel = next(ax for ax in figure.axes if ax.get_ylabel().strip() == "video")
    assert [text.get_text() for text in panel.texts] == ["missing"]
    assert not panel.images


def test_modalities_of_like_lengths_share_one_frame_axis_and_others_do_not() -> None:
    like = [ax.get_xlim() for ax in plots.utterance(features()).axes if ax.images][:3]
    assert set(like) == {(-0.5, 7.5)}
    uneven = plots.utterance({"audio": np.ones((500, 4)), "text": np.ones((5, 3))})
    assert uneven.axes[0].get_xlim() == (-0.5, 499.5)
    assert uneven.axes[1].get_xlim() == (-0.5, 4.5)


def test_mass_bars_average_the_answer_and_mark_equal_weights_and_decoys() -> None:
    frame = mass_frame()
    ax = plots.event_mass(frame)
    means = frame.groupby(["configuration", "query", "source", "role"], sort=False)["mass"].mean()
    expected = 100 * means.xs("answer", level="role")
    assert [bar.get_width() for bar in ax.patches] == pytest.approx(list(expected))
    chance = [line for line in ax.lines if np.allclose(line.get_xdata(), 10)]
    assert len(chance) == len(ax.patches) == 3


def test_the_hull_joins_the_outer_frames_and_holds_every_weighted_mean() -> None:
    inner = np.vstack([SQUARE, [[0.5, 0.5]]])
    ax = plots.pooling_identity(inner, attention(50, 5) @ inner)
    hull = ax.patches[0].get_path()
    assert {tuple(corner) for corner in hull.vertices} == {tuple(corner) for corner in SQUARE}
    assert hull.contains_points(ax.collections[0].get_offsets(), radius=1e-9).all()


# --- saving -----------------------------------------------------------------------------------


def bars(n: int = 2) -> Axes:
    return plots.class_balance([0, 1, *[1] * (n - 1)], ["no", "yes"])


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What figures say of their making; it may be changed as if time had passed."""
    told: dict[str, object] = {"commit": "a" * 40, "modified": False, "date": "2026-01-01"}
    monkeypatch.setattr(saving, "provenance", lambda: dict(told))
    return told


def test_the_same_figure_is_saved_as_the_same_bytes(tmp_path: Path, made: dict) -> None:
    one = plots.save(bars(), "one", tmp_path / "new")
    two = plots.save(figure_of(bars()), "two", tmp_path)
    assert one == tmp_path / "new" / "one.png"
    assert one.read_bytes() == two.read_bytes()


def test_a_saved_figure_holds_its_words_and_where_it_comes_from(tmp_path: Path) -> None:
    corpus = SimpleNamespace(name="small", fingerprint="f" * 16)
    file = plots.save(bars(), "one", tmp_path, alt="Two bars: é.", of=corpus)
    words, about = saving.read_texts(file.read_bytes())
    assert words == "Two bars: é."
    assert about["of"] == [{"corpus": "small", "fingerprint": "f" * 16}]
    assert about["made"].keys() == provenance().keys()
    assert saving.read_texts(plots.save(bars(), "two", tmp_path).read_bytes())[1]["of"] == []


def test_a_file_that_shows_the_same_stays_though_time_has_passed(
    tmp_path: Path, made: dict
) -> None:
    corpus = SimpleNamespace(name="small", fingerprint="f" * 16)
    file = plots.save(bars(), "one", tmp_path, "words", corpus)
    before, made["commit"], made["date"] = file.read_bytes(), "b" * 40, "2026-02-02"
    os.utime(file, (0, 0))
    assert plots.save(bars(), "one", tmp_path, "words", corpus).read_bytes() == before
    assert file.stat().st_mtime > 0, "who looks for what was saved finds it"


@pytest.mark.parametrize("change", ["picture", "words", "data", "cut", "other", "no provenance"])
def test_a_file_that_shows_or_says_something_else_is_written_anew(
    tmp_path: Path, made: dict, change: str
) -> None:
    corpus = SimpleNamespace(name="small", fingerprint="f" * 16)
    file = plots.save(bars(), "one", tmp_path, "words", corpus)
    before, made["date"] = file.read_bytes(), "2026-02-02"
    match change:
        case "cut":
            file.write_bytes(before[: len(before) // 2])
        case "other":
            file.write_bytes(b"no picture at all")
        case "no provenance":
            figure_of(bars()).savefig(file, dpi=150, bbox_inches="tight", metadata={})
    other = SimpleNamespace(name="small", fingerprint="e" * 16)
    plots.save(
        bars(3 if change == "picture" else 2), "one", tmp_path,
        "other words" if change == "words" else "words", other if change == "data" else corpus,
    )  # fmt: skip
    assert saving.read_texts(file.read_bytes())[1]["made"]["date"] == "2026-02-02"


@pytest.mark.parametrize(
    ("was", "now", "written"),
    [(True, False, True), (None, False, True), (False, True, False), (True, True, False),
     (False, None, False), (False, False, False)],
)  # fmt: skip
def test_what_changed_code_drew_is_written_anew_when_committed_code_draws_the_same(
    tmp_path: Path, made: dict, was: bool | None, now: bool | None, written: bool
) -> None:
    made["modified"] = was
    before = plots.save(bars(), "one", tmp_path).read_bytes()
    made |= {"modified": now, "date": "2026-02-02"}
    assert (plots.save(bars(), "one", tmp_path).read_bytes() != before) == written


@pytest.mark.parametrize("of", [3, "runs", pd.DataFrame({"a": [1]})])
def test_data_of_which_nothing_is_known_is_refused(tmp_path: Path, of: object) -> None:
    with pytest.raises(InputError, match=r"a corpus, a table of runs of the store, or what read_"):
        plots.save(bars(), "one", tmp_path, of=of)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "a/b", "scores.png", "../scores"])
def test_a_figure_name_with_a_folder_or_suffix_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give a bare name"):
        plots.save(plt.figure(), name, tmp_path)


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match=r"scores.png cannot be written"):
        plots.save(plt.figure(), "scores", tmp_path / "file")


# --- wrong input ------------------------------------------------------------------------------

WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "summary without means": (
        lambda: plots.score_bars(pd.DataFrame({"configuration": ["x"]})),
        "summary without column mean, low, high",
    ),
    "empty summary": (
        lambda: plots.score_bars(stats.summary(make_table(["self-A"])).iloc[:0]),
        "nothing to draw",
    ),
    "published without the metric": (
        lambda: plots.score_bars(stats.summary(make_table(["self-A"])), paper.published_table()),
        "published table without column balanced_accuracy",
    ),
    "confusion of other classes": (
        lambda: plots.confusion(np.ones((2, 2)), ["a", "b", "c"]),
        r"must be \(3, 3\), not \(2, 2\)",
    ),
    "history without losses": (
        lambda: plots.training_curves(pd.DataFrame({"configuration": ["x"], "epoch": [1]})),
        "without column train_loss",
    ),
    "forest of scores": (lambda: plots.forest(make_table(["a"])), "comparisons without column a"),
    "margin of nothing": (lambda: plots.posterior(one_comparison(), margin=0), "margin=0"),
    "margin in points": (lambda: plots.forest(comparisons(), margin=1.0), "a point is 0.01"),
    "folds of an unknown name": (
        lambda: plots.paired_folds(make_table(["self-A"]), "self-A", "self-V"),
        "without column self-V",
    ),
    "habits of nothing": (lambda: plots.habits(make_table(["a"])), "habits without column test"),
    "clouds of an unknown name": (
        lambda: plots.rain_clouds(make_table(["self-A"]), ["self-V"]),
        "unknown configuration 'self-V'",
    ),
    "recalls without intervals": (
        lambda: plots.recalls(answers(["self-A"])),
        "recalls without column emotion, recall",
    ),
    "reliability of predictions": (
        lambda: plots.reliability(answers(["self-A"])),
        "reliability table without column accuracy",
    ),
    "epochs of runs": (
        lambda: plots.epoch_choice(make_table(["self-A"])),
        "selection without column chosen",
    ),
    "no components": (lambda: plots.components({}), "no components"),
    "no labels": (lambda: plots.class_balance([], ["a"]), "at least one"),
    "a label too many": (lambda: plots.class_balance([2], ["a", "b"]), r"labels in 0 \.\. 1"),
    "no modality": (lambda: plots.lengths({}), "no modality"),
    "no reports": (lambda: plots.leakage(leakage_reports().iloc[:0]), "nothing to draw"),
    "flat features": (lambda: plots.utterance({"audio": np.ones(5)}), "frames, features"),
    "events without roles": (
        lambda: plots.utterance(features(), EVENTS.drop(columns="role")),
        "events without column role",
    ),
    "an event beyond the frames": (
        lambda: plots.utterance(features(), EVENTS.assign(frame=40)),
        r"at frame 40 of 7 frames",
    ),
    "pictures without times": (
        lambda: plots.recording(pictures=np.zeros((3, 8, 8, 3))),
        r"pictures of shape \(3, 8, 8, 3\) with 0 times",
    ),
    "words without an end": (
        lambda: plots.recording(np.ones(999), words=WORDS.drop(columns="end")),
        "words without column end",
    ),
    "maps of all heads": (
        lambda: plots.attention_map(np.ones((2, 3, 4)), "text", "audio"),
        r"not of shape \(2, 3, 4\): choose an utterance and a head",
    ),
    "NaN weights": (
        lambda: plots.attention_map([[np.nan, 1.0]], "text", "audio"),
        "1 of 2 are not finite",
    ),
    "an event beyond the map": (
        lambda: plots.attention_map(attention(3, 4), "text", "audio", [3]),
        "at frame 3 of 3 frames",
    ),
    "no map": (lambda: plots.attention_grid({}), "no map given"),
    "one head": (lambda: plots.attention_heads(attention(3, 4), "a", "b"), "heads, query, source"),
    "modalities without subsets": (
        lambda: plots.subsets(loss_track()),
        "missing-modality track without column present",
    ),
    "mass without chance": (
        lambda: plots.event_mass(mass_frame().drop(columns="chance")),
        "without column chance",
    ),
    "mass of decoys alone": (
        lambda: plots.event_mass(mass_frame().query("role == 'decoy'")),
        "of the answer with no row",
    ),
    "frames of three numbers": (
        lambda: plots.pooling_identity(np.ones((4, 3)), SQUARE),
        r"frames must be \(n, 2\)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_drawn_is_refused_in_one_line(case: str) -> None:
    draw, message = WRONG[case]
    with pytest.raises(InputError, match=message) as refused:
        draw()
    assert "\n" not in str(refused.value)


def test_a_recording_shows_a_tone_at_its_frequency_and_pictures_at_their_moments() -> None:
    faces, words, wave, spectrum = plots.recording(**spoken()).axes
    level = spectrum.images[0].get_array()
    top = np.asarray(level).mean(axis=1).argmax() * 8.0 / (len(level) - 1)
    assert top == pytest.approx(1.0, abs=0.05)
    shown = [float(np.asarray(image.get_array()).mean()) for image in faces.images]
    assert shown == sorted(shown)
    assert [text.get_text() for text in words.texts] == ["Good", "day"]
    assert {ax.get_xlim() for ax in (faces, words, wave, spectrum)} == {(0.0, 1.0)}


def test_a_recording_marks_the_events_that_have_a_time_and_no_others() -> None:
    *_, wave, _ = plots.recording(**spoken()).axes
    marks = [line for line in wave.lines if line.get_marker() == ROLES["stress"][0]]
    assert [line.get_xdata()[0] for line in marks] == [0.5]


def test_what_a_recording_lacks_is_said_to_be_missing() -> None:
    texts = [[t.get_text() for t in ax.texts] for ax in plots.recording(words=WORDS).axes]
    assert [("missing" in found) for found in texts] == [True, False, True, True]


def test_a_phase_diagram_shows_each_cell_at_its_place_with_its_verdict() -> None:
    ax = plots.phase_diagram(cells(), "cross_binding", "self_binding")
    shown = {text.get_position(): text.get_text() for text in ax.texts}
    assert shown == {(0, 0): "+0\n=", (1, 0): "+20\n●", (0, 1): "-10\n?"}
    image = ax.images[0]
    assert image.get_clim() == (-20.0, 20.0)
    assert np.isnan(np.ma.filled(image.get_array(), np.nan)[1, 1])


def test_axes_of_a_phase_diagram_may_have_units() -> None:
    ax = plots.phase_diagram(cells(), "cross_binding", "self_binding", labels=("x (%)", "y (s)"))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x (%)", "y (s)")


def test_a_figure_of_regimes_says_what_its_dashed_line_is_only_if_there_is_one() -> None:
    titles = [
        plots.regimes(kinds_of_data(), chance=chance, title="Which?")._suptitle.get_text()
        for chance in (None, 0.5)
    ]
    assert titles[0].startswith("Which?")
    assert ["chance" in title for title in titles] == [False, True]


def test_a_regime_shows_the_means_of_its_own_runs() -> None:
    runs = kinds_of_data()
    runs.loc[runs["regime"] == "binding", "balanced_accuracy"] += 0.2
    additive, binding, _ = plots.regimes(runs).axes
    means = [
        [float(line.get_xdata()[0]) for line in ax.lines if line.get_marker() == "o"]
        for ax in (additive, binding)
    ]
    np.testing.assert_allclose(np.subtract(means[1], means[0]), 20.0)
    assert max(means[1]) < binding.get_xlim()[1] == additive.get_xlim()[1]


def test_a_cost_figure_places_each_configuration_at_its_work_and_score() -> None:
    runs = make_table(["self-AVT", "cross-AVT"])
    ax = plots.cost(runs, costs())
    found = {
        (float(line.get_xdata()[0]), round(float(line.get_ydata()[0]), 6))
        for line in ax.lines
        if line.get_marker() == "o"
    }
    means = 100 * runs.groupby("configuration")["balanced_accuracy"].mean()
    works = costs().set_index("name")["megaflops"]
    assert found == {(works[name], round(mean, 6)) for name, mean in means.items()}


def test_loss_curves_average_folds_and_colour_only_what_is_asked_for() -> None:
    ax = plots.loss_curves(loss_track(), ["cross-AVT"])
    curves = {line.get_label(): line for line in ax.lines}
    assert list(curves["cross-AVT"].get_xdata()) == [0, 30, 90]
    np.testing.assert_allclose(curves["cross-AVT"].get_ydata(), [90, 75, 45])
    others = [line for line in ax.lines if line is not curves["cross-AVT"]]
    assert {line.get_color() for line in others} == {"#E3E3E3"}


def test_lines_that_stand_out_are_all_different() -> None:
    names = ["cross-AVT", "cross_tied-AVT", "gated-AVT", "amh-AVT", "self-AVT", "mean-AVT"]
    track = pd.concat(
        loss_track().query("configuration == 'cross-AVT'").assign(configuration=name)
        for name in names
    )
    lines = plots.loss_curves(track, names).lines
    assert len({line.get_color() for line in lines}) == len(lines) == len(names)


def test_a_table_of_subsets_keeps_the_order_of_the_track_and_averages_folds() -> None:
    ax = plots.subsets(missing_track())
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["AT", "T", "A"]
    shown = {text.get_position(): text.get_text() for text in ax.texts}
    assert [shown[column, 0] for column in range(3)] == ["80", "70", "60"]
