"""Variance components by two roads, and the power of designs against simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from studies import A, B, simulate_table, table_of

from mmer_lib import stats
from mmer_lib.errors import InputError
from mmer_lib.stats import components as module

GIVEN = stats.Components(
    configurations=(A, B), metric="balanced_accuracy", n_folds=5, n_seeds=10, overlap=0.25,
    fold=0.014, interaction=0.0055, seed=0.012,
    difference_fold=0.0055 * math.sqrt(2), difference_seed=0.012 * math.sqrt(2),
)  # fmt: skip


def slow_components(table: pd.DataFrame) -> tuple[float, float, float]:
    """Mean squares of a balanced design by their sums, loop by loop; variances in shares^2."""
    y = table.set_index(["configuration", "fold", "seed"])["balanced_accuracy"]
    names, folds, seeds = (sorted(table[c].unique()) for c in ("configuration", "fold", "seed"))
    c, k, s = len(names), len(folds), len(seeds)
    grand = y.mean()
    cell = {(n, f): y[n, f].mean() for n in names for f in folds}
    of_name = {n: np.mean([cell[n, f] for f in folds]) for n in names}
    of_fold = {f: np.mean([cell[n, f] for n in names]) for f in folds}
    error = sum((y[n, f, r] - cell[n, f]) ** 2 for n in names for f in folds for r in seeds)
    crossed = s * sum(
        (cell[n, f] - of_name[n] - of_fold[f] + grand) ** 2 for n in names for f in folds
    )
    between = c * s * sum((of_fold[f] - grand) ** 2 for f in folds)
    ms_error = error / (c * k * (s - 1))
    ms_crossed = crossed / ((c - 1) * (k - 1))
    ms_fold = between / (k - 1)
    return (ms_fold - ms_crossed) / (c * s), (ms_crossed - ms_error) / s, ms_error


# --- components -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 3, 7])
@pytest.mark.parametrize("names", ["ab", "abcd"])
def test_the_mixed_model_equals_the_analysis_of_variance_by_hand(seed: int, names: str) -> None:
    table = simulate_table(seed, names, spread=(0.014, 0.01, 0.012))
    found = stats.variance_components(table)
    expected = slow_components(table)
    assert min(expected) > 0
    assert found.method == "mixed model, REML"
    np.testing.assert_allclose(
        [found.fold**2, found.interaction**2, found.seed**2], expected, rtol=0.01
    )
    assert found.largest_gap < 1e-6


def test_components_are_found_again_in_a_large_study() -> None:
    names = [f"c-{i}" for i in range(12)]  # c-10 sorts before c-2
    table = simulate_table(2, names, folds=40, seeds=5)
    found = stats.variance_components(table)
    assert found.fold == pytest.approx(0.014, rel=0.25)
    assert found.interaction == pytest.approx(0.0055, rel=0.1)
    assert found.seed == pytest.approx(0.012, rel=0.05)
    assert found.difference_fold == pytest.approx(0.0055 * math.sqrt(2), rel=0.1)
    assert found.difference_seed == pytest.approx(0.012 * math.sqrt(2), rel=0.05)
    assert found.shares().sum() == pytest.approx(1)


def test_a_tiny_variance_is_not_lost_in_silence() -> None:
    table = simulate_table(0, spread=(0.01, 0.008, 1e-5))
    found = stats.variance_components(table)
    assert found.seed**2 == pytest.approx(slow_components(table)[2], rel=0.05)
    assert found.interaction > 0.001


def test_a_mixed_model_that_returns_zeros_is_overruled_and_told_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = simulate_table(0, spread=(0.014, 0.01, 0.012))
    zeros = (np.array([0.0, 0.0, 2.0]), 0.0)
    monkeypatch.setattr(module, "_fit_mixed_model", lambda runs: zeros)
    found = stats.variance_components(table)
    expected = np.sqrt(slow_components(table))
    np.testing.assert_allclose([found.fold, found.interaction, found.seed], expected)
    assert found.method == "analysis of variance"
    assert "contradicts" in found.sentence()


@pytest.mark.parametrize(
    ("fitted", "words"),
    [
        (None, "did not converge"),
        ((np.array([1.0, 1.0, 1.0]), 0.5), "miss the raw means by 0.5 points"),
    ],
)
def test_a_mixed_model_that_fails_or_misses_the_raw_means_is_overruled(
    monkeypatch: pytest.MonkeyPatch, fitted: object, words: str
) -> None:
    monkeypatch.setattr(module, "_fit_mixed_model", lambda runs: fitted)
    assert words in stats.variance_components(simulate_table()).note


def test_a_component_that_cannot_be_told_from_zero_is_zero() -> None:
    rng = np.random.default_rng(0)
    seeds = rng.normal(0, 0.01, (2, 5, 10))
    seeds -= seeds.mean(axis=2, keepdims=True)  # no fold and no interaction at all
    found = stats.variance_components(table_of(0.6 + seeds))
    assert (found.fold, found.interaction) == pytest.approx((0, 0), abs=1e-3)
    assert found.difference_fold == 0
    assert found.seed == pytest.approx(0.01, rel=0.15)


def test_what_runs_of_one_seed_share_drops_out_of_their_difference() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.02, (1, 20, 10))
    scores = 0.5 + shared + rng.normal(0, 0.005, (2, 20, 10))
    found = stats.variance_components(table_of(scores))
    assert found.seed == pytest.approx(math.hypot(0.02, 0.005), rel=0.1)
    assert found.difference_seed == pytest.approx(0.005 * math.sqrt(2), rel=0.1)


def test_unequal_numbers_of_seeds_are_legal() -> None:
    table = simulate_table(0, folds=12, seeds=8)
    uneven = table[(table["fold"] > 4) | (table["seed"] < 3)]
    found, whole = stats.variance_components(uneven), stats.variance_components(table)
    assert found.n_seeds == pytest.approx(12 / (5 / 3 + 7 / 8))
    assert found.seed == pytest.approx(whole.seed, rel=0.15)


def test_chosen_configurations_alone_enter() -> None:
    table = simulate_table(0, names="abc")
    alone = stats.variance_components(table[table["configuration"] != "c"])
    assert stats.variance_components(table, configurations=["a", "b"]) == alone


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (lambda: simulate_table(names="a"), "at least 2 configurations"),
        (lambda: simulate_table(folds=1), "1 fold"),
        (lambda: simulate_table(seeds=1), "fold 0 has 1 seed"),
        (lambda: simulate_table().query("configuration != 'self-AVT' or seed != 3"),
         "self-AVT lacks fold 0 seed 3"),
        (lambda: table_of(np.full((2, 5, 3), 0.25)), "constant scores"),
        (lambda: simulate_table().assign(balanced_accuracy=np.nan), "is nan"),
        (lambda: simulate_table().iloc[:0], "table of runs is empty"),
    ],
)  # fmt: skip
def test_tables_without_the_spread_that_is_asked_for_are_refused(
    table: object, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        stats.variance_components(table())  # type: ignore[operator]


# --- planning ---------------------------------------------------------------------------------


def simulated_powers(goal: stats.Goal, folds: int, seeds: int, n: int = 40_000) -> list[float]:
    """Studies with folds correlated as the correction assumes, judged one and all."""
    rng = np.random.default_rng(0)
    variance = GIVEN.difference_fold**2 + GIVEN.difference_seed**2 / seeds
    variance *= folds / GIVEN.n_folds
    shared = math.sqrt(variance / (folds - 1)) * rng.normal(size=(n, 1))
    means = shared + math.sqrt(variance) * rng.normal(size=(n, folds))
    factor = 1 / folds + 1 / (folds - 1)
    found = stats.judge(means + goal.difference, factor, goal.margin, 0.05)["p_difference"]
    none = stats.judge(means, factor, goal.margin, 0.05)
    rates = (found, none["p_equivalence"], none["p_difference"])
    return [float((p < 0.05).mean()) for p in rates]


@pytest.mark.parametrize(("folds", "seeds"), [(5, 10), (10, 3)])
def test_powers_are_those_of_simulated_studies(folds: int, seeds: int) -> None:
    goal = stats.Goal(difference=0.02, margin=0.015)
    find, show, level = simulated_powers(goal, folds, seeds)
    assert stats.powers(GIVEN, (folds, 1, seeds), goal) == pytest.approx((find, show), abs=0.012)
    assert level == pytest.approx(0.05, abs=0.005)


def test_power_of_no_difference_is_the_level() -> None:
    goal = stats.Goal(difference=1e-9)
    assert stats.powers(GIVEN, (5, 1, 10), goal)[0] == pytest.approx(0.05, abs=1e-3)


def test_more_seeds_and_more_data_help_both_tests_and_repeats_help_to_find() -> None:
    goal, now = stats.Goal(), stats.powers(GIVEN, (5, 1, 10), stats.Goal())
    assert np.all(np.array(stats.powers(GIVEN, (5, 1, 20), goal)) > now)
    assert np.all(np.array(stats.powers(GIVEN, (5, 1, 10), goal, data=2.0)) > now)
    assert stats.powers(GIVEN, (5, 3, 10), goal)[0] > now[0]


def test_the_plan_names_the_present_power_and_the_cheapest_design_that_is_enough() -> None:
    found = stats.plan(GIVEN, difference=0.02, margin=0.01, power=0.8)
    find, show = stats.powers(GIVEN, (5, 1, 10), found.goal)
    assert (found.present["power_difference"], found.present["power_equivalence"]) == (find, show)
    enough = found.grid[found.grid["power_difference"] >= 0.8]
    assert found.cheapest_difference is not None
    assert found.cheapest_difference["runs"] == enough["runs"].min()
    assert found.cheapest_equivalence is None
    assert f"with power {find:.2f}" in found.sentence()
    assert "no design looked at is enough: it takes" in found.sentence()


def test_the_data_that_is_asked_for_gives_the_power_that_was_asked_for() -> None:
    found = stats.plan(GIVEN)
    for test, times in enumerate((found.data_difference, found.data_equivalence)):
        assert times > 1
        reached = stats.powers(GIVEN, (5, 1, 10), found.goal, times)[test]
        assert reached == pytest.approx(0.8, abs=0.005)


def test_a_margin_below_any_resolution_asks_for_other_data() -> None:
    found = stats.plan(GIVEN, margin=1e-6, designs=[(5, 1, 10)])
    assert found.data_equivalence == math.inf
    assert "it takes other data" in found.sentence()


def test_repeats_of_a_study_are_its_present_design() -> None:
    tables = [simulate_table(seed).assign(fold_seed=seed) for seed in range(3)]
    found = stats.variance_components(pd.concat(tables))
    assert (found.n_folds, found.n_repeats) == (5, 3)
    assert stats.plan(found).sentence().startswith("The present design (3 x 5 folds x 10 seeds)")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"difference": 0}, "difference=0: expected a share"),
        ({"margin": -0.01}, "margin=-0.01: expected a share"),
        ({"power": 1}, "power=1: expected a share"),
        ({"alpha": 0}, "alpha=0"),
        ({"designs": []}, "no design"),
        ({"designs": [(1, 1, 1)]}, r"design \(1, 1, 1\): expected at least 2 folds"),
    ],
)
def test_goals_and_designs_that_make_no_sense_are_refused(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        stats.plan(GIVEN, **options)  # type: ignore[arg-type]


def test_components_without_spread_are_no_basis_for_a_plan() -> None:
    with pytest.raises(InputError, match="without any spread"):
        stats.plan(replace(GIVEN, difference_fold=0.0, difference_seed=0.0))
