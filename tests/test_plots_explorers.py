"""The explorers' pictures as figures: they show the numbers they were given, and refuse others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from explorers import CORPUS, PAIRS, runs_table, zoo_tables
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mmer_lib import plots, stats, widgets
from mmer_lib.errors import InputError
from mmer_lib.plots.corpus import PART_COLOURS, order_groups
from mmer_lib.plots.mechanism import attend
from mmer_lib.plots.reading import Steps, padding_mass
from mmer_lib.plots.style import figure_of

RNG = np.random.default_rng(0)
WEIGHTS = RNG.dirichlet(np.ones(9), 6)  # (Tq, Ts)
EVENTS = pd.DataFrame({"frame": [2], "role": ["answer"]})
QUERY, SOURCE = Steps("text", 6, words=tuple("abcdef")), Steps("audio", 7, 10.0, events=EVENTS)
POINTS = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def comparison(folds: int = 5) -> stats.Comparison:
    table = runs_table()
    return stats.compare(table[table["fold"] < folds], *PAIRS[0], "accuracy")


def fold_tables() -> dict:
    return widgets.count_parts(CORPUS, CORPUS.folds("random", 4)[0])


FIGURES: dict[str, Callable[[], Figure]] = {
    "reading": lambda: plots.attention_reading(WEIGHTS, QUERY, SOURCE, 2),
    "reading, mixed": lambda: plots.attention_reading(WEIGHTS, QUERY, Steps("audio", None)),
    "reading, one frame": lambda: plots.attention_reading([[1.0]], Steps("a", 1), Steps("b", 1)),
    "reading, long": lambda: plots.attention_reading(
        RNG.dirichlet(np.ones(400), 300), Steps("audio", 300, 100.0), Steps("video", 400)
    ),
    "qkv": lambda: plots.qkv_steps(POINTS, POINTS, POINTS),
    "qkv, masked": lambda: plots.qkv_steps(POINTS, POINTS, POINTS, 0.1, [False] * 3),
    "pooling": lambda: plots.pooling_view(POINTS, 3 * POINTS),
    "pooling, one frame": lambda: plots.pooling_view(POINTS[:1], POINTS[:1]),
    "folds": lambda: plots.fold_parts(**fold_tables()),
    "folds, nobody named": lambda: plots.fold_parts(**fold_tables() | {"groups": pd.DataFrame()}),
    "verdict": lambda: plots.verdict(comparison()),
    "verdict, 2 folds": lambda: plots.verdict(comparison(2)),
    "cost": lambda: figure_of(plots.cost(*zoo_tables(), "accuracy", chosen="mult-AT")),
    "cost, with a 0": lambda: figure_of(plots.cost(*zoo_tables(), "accuracy", by="parameters")),
}  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_a_title_that_fits(name):
    figure = FIGURES[name]()
    figure.canvas.draw()
    title = figure._suptitle or figure.axes[0]._left_title
    assert title.get_text()
    assert title.get_window_extent().x1 <= figure.bbox.width * 1.01


def test_a_reading_shows_the_map_and_the_chosen_row():
    figure = plots.attention_reading(WEIGHTS, QUERY, SOURCE, 4)
    heat, _, below = figure.axes[0], figure.axes[1], figure.axes[2]
    np.testing.assert_allclose(heat.images[0].get_array(), WEIGHTS)
    np.testing.assert_allclose([bar.get_height() for bar in below.patches], WEIGHTS[4])


def test_a_readings_axes_are_seconds_and_words():
    heat = plots.attention_reading(WEIGHTS, QUERY, SOURCE).axes[0]
    assert [t.get_text() for t in heat.get_yticklabels()] == list("abcdef")
    seconds = dict(
        zip(heat.get_xticks(), [t.get_text() for t in heat.get_xticklabels()], strict=True)
    )
    assert {round((at + 0.5) / 10, 6): float(s) for at, s in seconds.items()} == {
        float(s): float(s) for s in seconds.values()
    }
    marks = [line for line in heat.artists + heat.lines if line.get_marker() == "*"]
    assert [list(line.get_xdata()) for line in marks] == [[2]]


def test_padding_mass_counts_what_is_behind_the_last_real_frame():
    np.testing.assert_allclose(padding_mass(WEIGHTS, SOURCE), WEIGHTS[:, 7:].sum(axis=1))
    assert np.isnan(padding_mass(WEIGHTS, Steps("audio", None))).all()
    assert (padding_mass(WEIGHTS, Steps("audio", 9)) == 0).all()


def test_the_tables_hold_the_numbers_of_attention():
    figure = plots.qkv_steps(POINTS, POINTS, POINTS, 2.0, [True, True, False])
    texts = [t.get_text() for t in figure.axes[0].texts]
    found = attend(POINTS, POINTS, POINTS, 2.0, [True, True, False])
    for number in [*found.weights.ravel(), *found.output.ravel(), *found.scores.ravel()]:
        assert f"{number:.2f}" in texts
    assert texts.count("masked") == 3


def test_the_star_is_the_mean_of_the_answers():
    plane = plots.pooling_view(POINTS, 3 * POINTS).axes[0]
    (star,) = [x for x in plane.lines if x.get_marker() == "*" and len(x.get_xdata())]
    mean = attend(3 * POINTS, POINTS, POINTS).output.mean(axis=0)
    np.testing.assert_allclose([star.get_xdata()[0], star.get_ydata()[0]], mean)


def test_columns_of_a_fold_are_as_high_as_its_groups_and_those_of_test_stand_last():
    given = fold_tables()
    groups = given["groups"]
    columns = plots.fold_parts(**given).axes[0].patches
    high = dict.fromkeys(PART_COLOURS, 0.0)
    for bar in columns:
        part = next(p for p, c in PART_COLOURS.items() if c == to_hex(bar.get_facecolor()).upper())
        high[part] += bar.get_height()
    assert high == groups.sum().astype(float).to_dict()
    ordered = order_groups(groups, 2)
    assert len(ordered) == 2
    shares = ordered["test"] / ordered.sum(axis=1)
    assert shares.is_monotonic_increasing


def test_a_leak_is_counted_and_what_is_unknown_is_said_to_be():
    texts = [t.get_text() for t in plots.fold_parts(**fold_tables()).axes[2].texts]
    leaks = CORPUS.folds("random", 4)[0].leakage
    assert texts[0] == str(leaks.speakers)
    assert "unknown" in texts


def test_a_verdict_shows_both_intervals_and_every_fold():
    one = comparison()
    low = plots.verdict(one).axes[1]
    ends = [list(line.get_xdata()) for line in low.lines if len(line.get_xdata()) == 2]
    for pair in ([one.low, one.high], [one.low_equivalence, one.high_equivalence]):
        assert any(np.allclose(end, 100 * np.array(pair)) for end in ends)
    (ticks,) = [line for line in low.lines if line.get_marker() == "|"]
    np.testing.assert_allclose(ticks.get_xdata(), 100 * np.array(one.differences))


def test_a_fusion_without_parameters_stands_at_a_tick_of_its_own():
    ax = plots.cost(*zoo_tables(), "accuracy", by="parameters", chosen="mean-AT")
    labels = dict(zip([t.get_text() for t in ax.get_xticklabels()], ax.get_xticks(), strict=True))
    dots = [float(line.get_xdata()[0]) for line in ax.lines if line.get_marker() == "o"]
    assert min(dots) == labels["0"] < 2e4
    assert "mean" in [text.get_text() for text in ax.texts]


def test_names_of_dots_do_not_cover_each_other():
    runs, costs = zoo_tables()
    ax = plots.cost(runs.assign(accuracy=0.5 + 0.001 * runs["fold"]), costs.assign(megaflops=1.0),
                    "accuracy", chosen="cross-AT")  # fmt: skip
    assert [text.get_text() for text in ax.texts] == ["cross"]


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "all heads": (lambda: plots.attention_reading(WEIGHTS[None], QUERY, SOURCE), "query, source"),
    "a step too far": (lambda: plots.attention_reading(WEIGHTS, QUERY, SOURCE, 6), r"0 \.\. 5"),
    "no temperature": (lambda: plots.qkv_steps(POINTS, POINTS, POINTS, 0), "temperature=0"),
    "keys of another width": (lambda: attend(POINTS, np.ones((3, 3)), POINTS), "do not fit"),
    "frames of space": (lambda: plots.pooling_view(np.ones((2, 3)), POINTS), r"\(n, 2\)"),
    "a query too many": (lambda: plots.pooling_view(POINTS, POINTS, 3), r"there are 0 \.\. 2"),
    "unknown cost": (lambda: plots.cost(*zoo_tables(), by="euros"), "unknown cost 'euros'"),
    "classes without parts": (
        lambda: plots.fold_parts(pd.DataFrame(), pd.DataFrame({"x": [1]}), {}),
        "classes of a fold without column train",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_drawn_is_refused_in_one_line(case):
    draw, message = WRONG[case]
    with pytest.raises(InputError, match=message) as refused:
        draw()
    assert "\n" not in str(refused.value)
