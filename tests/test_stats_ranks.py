"""Mean ranks: Demsar's worked example, scipy and scikit-posthocs as oracles, refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
from scipy import stats as scipy_stats
from studies import simulate_table, table_of

from mmer_lib import stats
from mmer_lib.errors import InputError

# Demsar (2006): four classifiers on 14 data sets.
DEMSAR = {"C4.5": 3.143, "C4.5+m": 2.000, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964}


def test_demsars_worked_example() -> None:
    found = stats.judge_ranks(pd.Series(DEMSAR), 14)
    assert found.chi2 == pytest.approx(9.28, abs=0.005)
    assert found.f == pytest.approx(3.69, abs=0.005)
    assert found.df == (3, 39)
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    assert next(iter(found.mean_ranks.index)) == "C4.5+m+cf"


@pytest.mark.parametrize("seed", range(3))
def test_friedman_equals_scipy_on_scores_without_ties(seed: int) -> None:
    table = simulate_table(seed, names="abcde", folds=7, seeds=2)
    found = stats.rank_configurations(table)
    means = stats.fold_means(table)
    oracle = scipy_stats.friedmanchisquare(*(means[name] for name in means))
    assert found.chi2 == pytest.approx(oracle.statistic)
    assert found.p_chi2 == pytest.approx(oracle.pvalue)
    assert found.n_blocks == 7


@pytest.mark.parametrize("seed", range(3))
def test_the_critical_difference_is_where_nemenyis_test_of_scikit_posthocs_turns(seed: int) -> None:
    table = simulate_table(seed, names="abcdef", folds=10, seeds=1, spread=(0.01, 0.01, 0.02))
    found = stats.rank_configurations(table)
    p = scikit_posthocs.posthoc_nemenyi_friedman(stats.fold_means(table).to_numpy())
    ranks = found.mean_ranks.reindex(list("abcdef")).to_numpy()
    apart = abs(ranks[:, None] - ranks) > found.critical_difference
    np.testing.assert_array_equal(apart, p.to_numpy() < 0.05)


def test_rank_one_is_the_best_score_and_ties_share_ranks() -> None:
    scores = np.array([[[0.5], [0.5]], [[0.7], [0.6]], [[0.5], [0.4]]])
    ranks = stats.rank_configurations(table_of(scores, "abc")).mean_ranks
    assert ranks.to_dict() == {"b": 1.0, "a": 2.25, "c": 2.75}


def test_folds_that_all_agree_on_the_order_are_certain_without_a_warning() -> None:
    scores = np.array([[[0.5]] * 4, [[0.6]] * 4, [[0.7]] * 4]).reshape(3, 4, 1)
    found = stats.rank_configurations(table_of(scores, "abc"))
    assert found.f == np.inf
    assert found.p_f == 0
    assert found.chi2 == 8


def test_groups_are_the_largest_sets_of_neighbours_within_the_critical_difference() -> None:
    ranks = pd.Series({"a": 1.2, "b": 1.8, "c": 3.0, "d": 4.0})
    found = stats.judge_ranks(ranks, 14)  # critical difference 1.25
    assert found.groups() == [("a", "b"), ("b", "c"), ("c", "d")]
    assert stats.judge_ranks(pd.Series({"a": 1.0, "b": 2.0}), 50).groups() == []


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (lambda: simulate_table(names="a"), "1 configurations on 5 folds"),
        (lambda: simulate_table(folds=1), "2 configurations on 1 folds"),
        (lambda: simulate_table(names="ab").query("configuration != 'b' or fold != 2"),
         "b has no run on fold 2"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_ranked_are_refused(table: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        stats.rank_configurations(table())  # type: ignore[operator]


def test_ranks_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match="must sum to 6"):
        stats.judge_ranks([1.0, 1.5, 2.0], 5)
    with pytest.raises(InputError, match=r"alpha=0\.7"):
        stats.judge_ranks([1.0, 2.0], 5, alpha=0.7)
