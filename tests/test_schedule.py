"""Schedules whose answer is known: by hand, by a bound, by the best of all, by a formula."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from mmer_lib.errors import InputError
from mmer_lib.schedule import Conditions, draw_epochs, scaling, simulate


def best_wall(seconds: np.ndarray, workers: int) -> float:
    """The shortest schedule there is, by trying every one."""
    places = np.array(list(product(range(workers), repeat=len(seconds))))  # (W^n, n)
    loads = np.stack([(seconds * (places == w)).sum(axis=1) for w in range(workers)])
    return float(loads.max(axis=0).min())


def lengths(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(1, 20, n)


# Known answers


@pytest.mark.parametrize(("n", "workers", "rounds"), [(12, 4, 3), (13, 4, 4), (1, 5, 1), (7, 1, 7)])
def test_equal_runs_take_whole_rounds(n, workers, rounds):
    played = simulate([5.0] * n, workers, Conditions(startup=2))
    assert played.wall == 2 + 5 * rounds
    assert played.speedup == pytest.approx(5 * n / played.wall)
    assert played.utilisation == pytest.approx(played.speedup / workers)


def test_one_worker_takes_the_sum_and_enough_workers_the_longest():
    seconds = lengths(30, seed=0)
    assert simulate(seconds, 1).wall == pytest.approx(seconds.sum())
    for workers in (30, 31, 500):
        assert simulate(seconds, workers).wall == seconds.max()


def test_who_is_free_first_takes_the_next_run():
    """By hand: 5 and 3 begin; at 3 the second takes 4, until 7; at 5 the first takes 1, then 3."""
    assert simulate([5, 3, 4, 1, 3], 2).wall == 9
    assert simulate([3, 3, 2, 2, 2], 2).wall == 7  # costly first, though 6 would do


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("workers", [2, 3])
def test_costly_first_is_within_its_bound_of_the_best(workers, seed):
    seconds = np.sort(lengths(7, seed))[::-1]
    wall, best = simulate(seconds, workers).wall, best_wall(seconds, workers)
    assert best - 1e-9 <= wall <= (4 / 3 - 1 / (3 * workers)) * best + 1e-9


def test_the_bound_of_costly_first_is_reached_where_it_is_known_to_be():
    """2 W + 1 runs of 2 W - 1, 2 W - 1, ..., W + 1, W + 1, W, W, W (Graham 1969)."""
    for workers in (2, 3):
        twice = [float(p) for p in range(2 * workers - 1, workers, -1) for _ in range(2)]
        seconds = np.array([*twice, *[float(workers)] * 3])
        wall, best = simulate(seconds, workers).wall, best_wall(seconds, workers)
        assert wall / best == pytest.approx(4 / 3 - 1 / (3 * workers))


@pytest.mark.parametrize("seed", range(5))
def test_any_order_is_within_the_bound_of_schedules_that_leave_nobody_idle(seed):
    seconds = lengths(40, seed)
    for workers in (2, 7, 39):
        wall = simulate(seconds, workers).wall
        lower = max(seconds.sum() / workers, seconds.max())
        assert lower - 1e-9 <= wall
        assert wall <= seconds.sum() / workers + (1 - 1 / workers) * seconds.max() + 1e-9


def test_with_deaths_one_worker_takes_what_the_formula_says():
    """A run of s that begins anew at each death: (1/rate + startup) (e^(rate s) - 1)"""
    rate, s, startup, n = 1 / 50, 40.0, 7.0, 4000
    played = simulate([s] * n, 1, Conditions(startup, 3600 * rate))
    expected = (1 / rate + startup) * (np.exp(rate * s) - 1)
    assert (played.wall - startup) / n == pytest.approx(expected, rel=0.05)
    assert played.deaths / n == pytest.approx(np.exp(rate * s) - 1, rel=0.05)
    twice = 1 - np.exp(-rate * s) - np.exp(-rate * s) * (1 - np.exp(-rate * s))
    assert played.stops / n == pytest.approx(twice, rel=0.1)
    assert played.wall == pytest.approx(played.useful + played.lost + startup * (1 + played.deaths))


def test_deaths_are_drawn_from_the_seed():
    given = ([30.0] * 50, 4, Conditions(5, 20))
    assert simulate(*given, seed=1) == simulate(*given, seed=1)
    assert simulate(*given, seed=1) != simulate(*given, seed=2)


def test_without_deaths_nothing_is_lost():
    played = simulate(lengths(20, 0), 3, Conditions(10))
    assert (played.lost, played.deaths, played.stops) == (0, 0, 0)


# Tables


def test_the_table_of_workers_adds_up():
    seconds = lengths(200, 1)
    table = scaling(seconds, [1, 10, 400], Conditions(startup=3)).set_index("workers")
    assert table.loc[1, "seconds"] == pytest.approx(3 + seconds.sum())
    assert table.loc[400, "seconds"] == 3 + seconds.max()
    assert table["speedup"].tolist() == pytest.approx((seconds.sum() / table["seconds"]).tolist())
    assert table["utilisation"].tolist() == pytest.approx((table["speedup"] / table.index).tolist())
    assert table["idle"].tolist() == pytest.approx((1 - table["utilisation"]).tolist())


def test_time_lost_with_dead_workers_is_neither_useful_nor_idle():
    table = scaling([50.0] * 100, [5], Conditions(0, 20), repeats=3)
    assert table.loc[0, "deaths"] > 0
    assert table.loc[0, "utilisation"] + table.loc[0, "idle"] < 0.99


@pytest.mark.parametrize(
    ("mean", "patience", "low", "high"), [(30, 10, 11, 49), (11, 10, 11, 11), (90, 10, 80, 100)]
)
def test_epochs_lie_evenly_about_their_mean_and_never_below_patience(mean, patience, low, high):
    drawn = draw_epochs(4000, mean, patience, np.random.default_rng(0))
    assert (drawn.min(), drawn.max()) == (low, high)
    assert drawn.mean() == pytest.approx(mean, rel=0.02)


# What is refused


@pytest.mark.parametrize("seconds", [[], [-1.0], [float("nan")], [[1.0]]])
def test_seconds_that_are_none_are_refused(seconds):
    with pytest.raises(InputError, match="seconds of runs"):
        simulate(seconds, 2)


def test_conditions_that_are_none_are_refused():
    with pytest.raises(InputError, match="workers=0"):
        simulate([1.0], 0)
    with pytest.raises(InputError, match="startup=-1: 0 or more expected"):
        Conditions(startup=-1)
    with pytest.raises(InputError, match=r"epochs=0: 1 \.\. 100 expected"):
        draw_epochs(3, 0, 10, np.random.default_rng(0))
