"""Verdicts: worked numbers, independent libraries, invariances, error rates and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable

import baycomp
import numpy as np
import pandas as pd
import pingouin
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats as scipy_stats
from statsmodels.stats.weightstats import ttost_paired
from studies import simulate_table

from mmer_lib import stats
from mmer_lib.errors import InputError

A, B = "cross-AVT", "self-AVT"


def make_table(
    differences: np.ndarray, base: float = 0.6, seed_noise: np.ndarray | None = None
) -> pd.DataFrame:
    """Runs of A and B, a row a run; ``differences`` is (K, S), or (K,) for ten equal seeds."""
    d = np.asarray(differences, dtype=float)
    if d.ndim == 1:
        d = np.repeat(d[:, None], 10, axis=1)
    noise = np.zeros_like(d) if seed_noise is None else seed_noise
    rows = [
        (name, fold, seed, base + noise[fold, seed] + d[fold, seed] * (name == A))
        for fold in range(d.shape[0])
        for seed in range(d.shape[1])
        for name in (A, B)
    ]
    return pd.DataFrame(rows, columns=["configuration", "fold", "seed", "balanced_accuracy"])


def with_counts(table: pd.DataFrame, train: int, dev: int, test: int) -> pd.DataFrame:
    return table.assign(n_train=train, n_dev=dev, n_test=test)


def worked() -> pd.DataFrame:
    """Five folds, ten seeds, mean difference .001344, deviation of fold means .0037791."""
    shape = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    folds = 0.001344 + 0.0037791 * shape / shape.std(ddof=1)
    seeds = np.random.default_rng(0).normal(0, 0.02, (5, 10))
    return make_table(folds[:, None] + seeds - seeds.mean(axis=1, keepdims=True))


def uneven_levels() -> np.ndarray:
    """How good a run is, for both sides: (5 folds, 10 seeds)."""
    return np.random.default_rng(7).uniform(-0.05, 0.05, (5, 10))


def random_folds(seed: int, k: int = 5, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 0.02, k)


# --- numbers worked out beforehand ------------------------------------------------------------


def test_the_worked_example_gives_the_numbers_that_independent_libraries_agree_on() -> None:
    found = stats.compare(worked(), A, B, margin=0.01)
    assert found.difference == pytest.approx(0.001344, abs=1e-9)
    assert found.t_plain == pytest.approx(0.795226, abs=2e-5)
    assert found.p_plain == pytest.approx(0.471003, abs=2e-5)
    assert found.t == pytest.approx(0.530151, abs=2e-5)
    assert found.p_difference == pytest.approx(0.624071, abs=2e-5)
    assert found.left == pytest.approx(0.005517, abs=1e-6)
    assert found.inside == pytest.approx(0.981024, abs=1e-6)
    assert found.right == pytest.approx(0.013459, abs=1e-6)
    assert found.p_equivalence == pytest.approx(0.0134588, abs=1e-6)
    assert found.smallest_margin == pytest.approx(0.0067485, abs=1e-7)
    assert (found.df, found.n_folds, found.n_seeds) == (4, 5, 10)
    assert found.verdict == "equivalent"


def test_the_default_standard_error_is_the_formula_of_nadeau_and_bengio() -> None:
    folds = random_folds(1)
    found = stats.compare(make_table(folds), A, B)
    assert found.se == pytest.approx(folds.std(ddof=1) * np.sqrt(1 / 5 + 1 / 4))


def test_unequal_splits_replace_the_overlap_by_test_over_learning_utterances() -> None:
    folds = random_folds(1)
    found = stats.compare(with_counts(make_table(folds), train=60, dev=15, test=30), A, B)
    assert found.se == pytest.approx(folds.std(ddof=1) * np.sqrt(1 / 5 + 30 / 75))


def test_counts_of_an_even_cross_validation_change_nothing() -> None:
    table = make_table(random_folds(1))
    even = stats.compare(with_counts(table, train=70, dev=10, test=20), A, B)
    assert even.se == pytest.approx(stats.compare(table, A, B).se)


def test_folds_of_unequal_size_enter_by_their_mean_ratio() -> None:
    folds = np.array([0.01, 0.03])
    table = with_counts(make_table(folds), train=80, dev=20, test=10)
    table.loc[table["fold"] == 1, "n_test"] = 50
    found = stats.compare(table, A, B)
    assert found.se == pytest.approx(folds.std(ddof=1) * np.sqrt(1 / 2 + (0.1 + 0.5) / 2))


# --- other people's libraries -----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_posterior_equals_that_of_baycomp(seed: int) -> None:
    folds, mean_b = random_folds(seed, mean=0.008), np.full(5, 0.6)
    found = stats.compare(make_table(folds), A, B, margin=0.01)
    # baycomp's difference is its second argument minus its first.
    expected = baycomp.two_on_single(mean_b, mean_b + folds, rope=0.01, runs=1)
    assert (found.left, found.inside, found.right) == pytest.approx(expected)


def test_the_right_tail_is_the_first_configuration_being_better() -> None:
    found = stats.compare(make_table(np.array([0.04, 0.05, 0.06, 0.05, 0.04])), A, B)
    assert found.difference > 0
    assert found.right > 0.99


@pytest.mark.parametrize("seed", range(4))
def test_equivalence_over_seeds_equals_pingouin_and_statsmodels(seed: int) -> None:
    differences = np.random.default_rng(seed).normal(0.004, 0.01, (1, 8))
    table = make_table(differences)
    found = stats.compare(table, A, B, margin=0.01, estimand="new seeds")
    b, a = np.full(8, 0.6), 0.6 + differences[0]
    oracle = pingouin.tost(a, b, bound=0.01, paired=True)
    assert found.p_equivalence == pytest.approx(oracle["pval"].item())
    assert found.p_equivalence == pytest.approx(ttost_paired(a, b, -0.01, 0.01)[0])


@pytest.mark.parametrize("seed", range(4))
def test_corrected_equivalence_equals_pingouin_on_differences_spread_by_the_correction(
    seed: int,
) -> None:
    folds = random_folds(seed, mean=0.004)
    wider = folds.mean() + (folds - folds.mean()) * np.sqrt(5 * (1 / 5 + 1 / 4))
    found = stats.compare(make_table(folds), A, B, margin=0.02)
    oracle = pingouin.tost(wider, np.zeros(5), bound=0.02, paired=True)
    assert found.p_equivalence == pytest.approx(oracle["pval"].item())


@pytest.mark.parametrize("seed", range(4))
def test_plain_test_and_interval_over_seeds_equal_scipy(seed: int) -> None:
    differences = np.random.default_rng(seed).normal(0.01, 0.02, (3, 6))
    found = stats.compare(make_table(differences), A, B, estimand="new seeds")
    oracle = scipy_stats.ttest_1samp(differences.mean(axis=0), 0)
    interval = oracle.confidence_interval(0.95)
    assert (found.t, found.p_difference) == pytest.approx((oracle.statistic, oracle.pvalue))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_the_plain_sensitivity_test_equals_scipy_on_fold_means() -> None:
    folds = random_folds(5)
    found = stats.compare(make_table(folds), A, B)
    oracle = scipy_stats.ttest_1samp(folds, 0)
    assert (found.t_plain, found.p_plain) == pytest.approx((oracle.statistic, oracle.pvalue))


def test_holm_worked_by_hand() -> None:
    np.testing.assert_allclose(stats.holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])


# --- invariances ------------------------------------------------------------------------------


@pytest.mark.parametrize("estimand", stats.ESTIMANDS)
def test_swapping_the_sides_mirrors_everything_and_keeps_the_verdict(estimand: str) -> None:
    table = make_table(np.random.default_rng(3).normal(0.01, 0.02, (5, 4)))
    one = stats.compare(table, A, B, estimand=estimand)
    other = stats.compare(table, B, A, estimand=estimand)
    assert other.difference == pytest.approx(-one.difference)
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low))
    assert (other.left, other.right) == pytest.approx((one.right, one.left))
    assert other.p_difference == pytest.approx(one.p_difference)
    assert other.p_equivalence == pytest.approx(one.p_equivalence)
    assert other.verdict == one.verdict


def test_only_fold_means_of_the_differences_matter_for_new_data() -> None:
    rng = np.random.default_rng(0)
    folds, seeds = random_folds(2), rng.normal(0, 0.05, (5, 10))
    seeds -= seeds.mean(axis=1, keepdims=True)
    level = rng.normal(0, 0.03, (5, 10))
    quiet = stats.compare(make_table(folds), A, B)
    noisy = stats.compare(make_table(folds[:, None] + seeds, seed_noise=level), A, B)
    assert noisy.se == pytest.approx(quiet.se)
    assert noisy.p_difference == pytest.approx(quiet.p_difference)


def test_row_order_other_configurations_and_names_of_folds_change_nothing() -> None:
    table = worked()
    other = table[table["configuration"] == A].assign(configuration="self-T", fold=99)
    moved = pd.concat([table, other]).sample(frac=1, random_state=0)
    moved["fold"] = moved["fold"] * 3 + 7
    assert stats.compare(moved, A, B).p_difference == pytest.approx(
        stats.compare(table, A, B).p_difference
    )


def test_many_studies_are_judged_at_once_as_they_are_one_by_one() -> None:
    studies = np.random.default_rng(0).normal(0.005, 0.02, (7, 5))
    together = stats.judge(studies, 0.45, 0.01, 0.05)
    for i, study in enumerate(studies):
        alone = stats.judge(study, 0.45, 0.01, 0.05)
        for name, values in together.items():
            assert values[i] == pytest.approx(float(alone[name]))


@given(
    folds=some.lists(some.floats(-0.3, 0.3), min_size=2, max_size=12),
    margin=some.floats(0.001, 0.2),
    alpha=some.floats(0.01, 0.2),
)
def test_tests_intervals_and_posterior_never_contradict_each_other(
    folds: list[float], margin: float, alpha: float
) -> None:
    level = np.random.default_rng(0).uniform(-0.1, 0.1, (len(folds), 10))
    table = make_table(np.array(folds), base=0.5, seed_noise=level)
    found = stats.compare(table, A, B, margin=margin, alpha=alpha)
    assert found.left + found.inside + found.right == pytest.approx(1)
    assert found.low <= found.low_equivalence <= found.difference
    assert found.difference <= found.high_equivalence <= found.high
    gap = 1e-9  # at the very border rounding decides
    if min(abs(found.low), abs(found.high)) > gap:
        assert (found.p_difference < alpha) == (found.low > 0 or found.high < 0)
    if abs(found.smallest_margin - margin) > gap:
        inside = -margin < found.low_equivalence and found.high_equivalence < margin
        assert (found.p_equivalence < alpha) == inside == (found.smallest_margin < margin)


# --- the verdict ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "spread", "verdict"),
    [
        (0.05, 0.01, "different"),
        (0.000, 0.002, "equivalent"),
        (0.005, 0.001, "different but within the margin"),
        (0.010, 0.02, "inconclusive"),
    ],
)
def test_each_verdict_is_reached_and_said(mean: float, spread: float, verdict: str) -> None:
    folds = mean + spread * np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    found = stats.compare(make_table(folds), A, B, margin=0.01)
    assert found.verdict == verdict
    assert f"Verdict: {verdict} - " in found.sentence()


@pytest.mark.parametrize(
    ("p_difference", "p_equivalence", "verdict"),
    [
        (0.01, 0.5, "different"),
        (0.5, 0.01, "equivalent"),
        (0.01, 0.01, "different but within the margin"),
        (0.5, 0.5, "inconclusive"),
        (0.05, 0.05, "inconclusive"),
    ],
)
def test_the_verdict_follows_from_the_two_tests(
    p_difference: float, p_equivalence: float, verdict: str
) -> None:
    assert stats.decide(p_difference, p_equivalence, 0.05) == verdict


def test_false_verdicts_stay_at_or_below_five_percent_in_simulated_studies() -> None:
    rng = np.random.default_rng(0)
    same = rng.normal(0, 0.01, (20_000, 5))  # no true difference
    apart = same + 0.01  # a true difference of exactly the margin
    false_different = stats.judge(same, 0.45, 0.01, 0.05)["p_difference"] < 0.05
    false_equivalent = stats.judge(apart, 0.45, 0.01, 0.05)["p_equivalence"] < 0.05
    assert 0.005 < false_different.mean() < 0.05
    assert 0.005 < false_equivalent.mean() < 0.05


# --- degenerate but legal ---------------------------------------------------------------------


def test_two_copies_of_one_model_are_equivalent_without_any_nan() -> None:
    found = stats.compare(make_table(np.zeros(5), seed_noise=uneven_levels()), A, B)
    assert found.verdict == "equivalent"
    assert (found.difference, found.se, found.p_difference, found.inside) == (0, 0, 1, 1)
    assert "the same in all 50 runs (one model under two names?)" in found.sentence()
    numbers = [v for v in found.to_dict().values() if isinstance(v, float)]
    assert np.isfinite(numbers).all()


def test_models_that_always_answer_one_class_are_equivalent_and_told_of() -> None:
    said = stats.compare(make_table(np.zeros(5), base=1 / 7), A, B).sentence()
    assert "Verdict: equivalent" in said
    assert said.count("scores 14.29 % in every run: does it always answer one class?") == 2


def test_one_constant_side_against_one_that_varies_is_legal_and_told_of() -> None:
    table = make_table(random_folds(0))
    table.loc[table["configuration"] == B, "balanced_accuracy"] = 0.5
    said = stats.compare(table, A, B).sentence()
    assert "self-AVT scores 50.00 % in every run" in said
    assert "cross-AVT scores" not in said


def test_an_exactly_equal_gap_in_every_fold_shows_nothing_however_large() -> None:
    found = stats.compare(make_table(np.full(5, 0.3), base=0.4, seed_noise=uneven_levels()), A, B)
    assert found.verdict == "inconclusive"
    assert (found.p_difference, found.inside) == (1, 0)
    assert found.to_dict()["se"] is None  # infinite, which JSON cannot say
    assert "no 95 % interval" in found.sentence()
    assert "no test is possible" in found.sentence()


def test_folds_that_agree_by_the_coarseness_of_small_test_parts_raise_no_false_alarm() -> None:
    rng = np.random.default_rng(0)  # two folds of 40 utterances, models of the same quality
    gaps = (rng.binomial(40, 0.6, (20_000, 2)) - rng.binomial(40, 0.6, (20_000, 2))) / 40
    found = stats.judge(gaps, 1 / 2 + 1, 0.01, 0.05)
    assert ((gaps[:, 0] == gaps[:, 1]) & (gaps[:, 0] != 0)).mean() > 0.05  # would all be different
    assert (found["p_difference"] < 0.05).mean() <= 0.05


def test_two_folds_with_one_seed_are_enough() -> None:
    found = stats.compare(make_table(np.array([[0.01], [0.03]])), A, B)
    assert found.df == 1
    assert found.verdict == "inconclusive"


def test_one_fold_answers_the_question_about_new_seeds() -> None:
    table = make_table(np.random.default_rng(0).normal(0.05, 0.005, (1, 6)))
    found = stats.compare(table, A, B, estimand="new seeds")
    assert (found.verdict, found.df) == ("different", 5)
    assert "nothing about new data" in found.sentence()
    assert "a single split can answer no more" in found.sentence()


# --- what the sentence owes its reader --------------------------------------------------------


def test_five_folds_say_that_rank_tests_could_never_reject_and_six_do_not() -> None:
    five = stats.compare(make_table(random_folds(0, k=5)), A, B).sentence()
    six = stats.compare(make_table(random_folds(0, k=6)), A, B).sentence()
    assert "smallest p is 0.0625" in five
    assert "Wilcoxon" not in six


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"protocol": "by-speaker"}, "new speakers like these"),
        ({"protocol": "random"}, "the same speakers"),
        ({"protocol": "published"}, "new data like these folds"),
        ({"n_folds": 10}, "Only 5 of the 10 folds have been run"),
    ],
)
def test_the_claim_follows_from_how_the_folds_were_drawn(
    columns: dict[str, object], words: str
) -> None:
    assert words in stats.compare(worked().assign(**columns), A, B).sentence()


def test_unequal_numbers_of_seeds_and_of_test_utterances_are_said() -> None:
    table = with_counts(worked(), 70, 10, 20)
    table = table[(table["fold"] > 0) | (table["seed"] < 3)].reset_index(drop=True)
    table.loc[table["configuration"] == A, "n_test"] = 19
    said = stats.compare(table, A, B).sentence()
    assert "unequal numbers of seeds" in said
    assert "different numbers of utterances" in said


def test_the_sentence_names_both_sides_the_numbers_and_the_design() -> None:
    said = stats.compare(worked(), A, B).sentence()
    for words in (A, B, "+0.13 points", "95 % interval -0.57 to +0.84", "5 folds x 10 seeds",
                  "p = .624", "p = .013", "0.67 points"):  # fmt: skip
        assert words in said
    assert "\n" not in said


def test_a_comparison_survives_json() -> None:
    found = stats.compare(worked(), A, B).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found


# --- several at once --------------------------------------------------------------------------


def three_configurations() -> pd.DataFrame:
    table, other = make_table(0.03 + random_folds(1)), make_table(random_folds(2))
    other = other[other["configuration"] == A].assign(configuration="cross-AV")
    third = table[table["configuration"] == B].assign(configuration="self-AV")
    return pd.concat([table, other, third], ignore_index=True)


def test_any_column_of_shares_can_be_compared() -> None:
    table = worked().assign(dev_accuracy=lambda t: t["balanced_accuracy"] / 2)
    found = stats.compare(table, A, B, metric="dev_accuracy")
    assert found.difference == pytest.approx(0.001344 / 2)
    assert "dev accuracy: +0.07 points" in found.sentence()


def test_planned_comparisons_are_corrected_by_holm_and_their_verdicts_use_it() -> None:
    table = three_configurations()
    pairs = [(A, B), ("cross-AV", "self-AV"), (A, "cross-AV")]
    found = stats.compare_planned(table, pairs)
    np.testing.assert_allclose(found["p_holm"], stats.holm(found["p_difference"].to_numpy()))
    for row in found.itertuples():
        assert row.verdict == stats.decide(row.p_holm, row.p_equivalence, 0.05)
        assert "after Holm" in row.sentence
    assert list(zip(found["a"], found["b"], strict=True)) == pairs


def test_holm_can_turn_a_difference_into_an_open_question() -> None:
    folds = 0.02 + 0.012 * np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    table = make_table(folds)
    copies = [
        table.assign(configuration=table["configuration"].str.replace("AVT", name))
        for name in ("AVT", "AV", "AT", "VT")
    ]
    table = pd.concat(copies, ignore_index=True)
    assert stats.compare(table, A, B).verdict == "different"
    planned = stats.compare_planned(table, stats.planned_pairs(table["configuration"]))
    assert set(planned["verdict"]) == {"inconclusive"}


def test_all_pairs_are_corrected_by_holm_and_carry_the_mean_ranks() -> None:
    table = three_configurations()
    found = stats.compare_all(table)
    assert len(found) == 4 * 3 / 2
    np.testing.assert_allclose(found["p_holm"], stats.holm(found["p_difference"].to_numpy()))
    ranks = stats.rank_configurations(table).mean_ranks
    for row in found.itertuples():
        assert (row.rank_a, row.rank_b) == (ranks[row.a], ranks[row.b])
        assert row.rank_a <= row.rank_b
        alone = stats.compare(table, row.a, row.b)
        assert (row.difference, row.p_difference) == (alone.difference, alone.p_difference)


def test_one_planned_comparison_is_the_comparison_alone() -> None:
    alone = stats.compare(worked(), A, B)
    planned = stats.compare_planned(worked(), [(A, B)]).iloc[0]
    assert planned["p_holm"] == alone.p_difference
    assert planned["verdict"] == alone.verdict


def test_the_papers_question_pairs_each_cross_with_its_self() -> None:
    names = ["self-T", "self-AV", "cross-AV", "cross-AVT@released", "self-AVT@released", "cross-VT"]
    assert stats.planned_pairs(names) == [
        ("cross-AV", "self-AV"),
        ("cross-AVT@released", "self-AVT@released"),
    ]


# --- repeated cross-validation -----------------------------------------------------------------


def repeated(draws: int) -> pd.DataFrame:
    """``draws`` draws of five folds, three seeds."""
    rng = np.random.default_rng(2)
    tables = [make_table(rng.normal(0.01, 0.02, (5, 3))).assign(fold_seed=d) for d in range(draws)]
    return pd.concat(tables, ignore_index=True).assign(n_folds=5)


def test_several_draws_of_folds_are_a_corrected_repeated_cross_validation() -> None:
    table = repeated(3)
    wide = table.pivot(index=["fold_seed", "fold", "seed"], columns="configuration")
    scores = wide["balanced_accuracy"]
    d = (scores[A] - scores[B]).groupby(level=["fold_seed", "fold"]).mean()
    found = stats.compare(table, A, B)
    assert found.difference == pytest.approx(d.mean())
    assert found.se == pytest.approx(d.std() * np.sqrt(1 / 15 + 1 / 4))
    assert (found.df, found.n_folds, found.n_repeats) == (4, 15, 3)  # see comparison, Repeats
    assert found.p_difference == pytest.approx(2 * scipy_stats.t.sf(abs(found.t), 4))
    assert found.p_plain == pytest.approx(scipy_stats.ttest_1samp(d, 0).pvalue)
    assert "3 x 5 folds x 3 seeds" in found.sentence()
    assert "no new data" in found.sentence()
    assert "have been run" not in found.sentence()


def test_one_draw_is_the_plain_comparison() -> None:
    table = repeated(1)
    plain = stats.compare(table.drop(columns="fold_seed"), A, B)
    assert stats.compare(table, A, B) == plain


def test_a_draw_that_one_side_lacks_is_named() -> None:
    table = repeated(2)
    table = table[(table["configuration"] == A) | (table["fold_seed"] == 0)]
    with pytest.raises(InputError, match="self-AVT lacks fold 0 of draw 1 seed 0"):
        stats.compare(table, A, B)


# --- each configuration alone -----------------------------------------------------------------


def test_summary_is_the_mean_of_fold_means_with_the_corrected_interval() -> None:
    table = make_table(np.random.default_rng(4).normal(0.01, 0.02, (5, 3)))
    row = stats.summary(table).set_index("configuration").loc[A]
    folds = table[table["configuration"] == A].groupby("fold")["balanced_accuracy"].mean()
    half = scipy_stats.t.ppf(0.975, 4) * folds.std() * np.sqrt(1 / 5 + 1 / 4)
    assert row["mean"] == pytest.approx(folds.mean())
    assert (row["low"], row["high"]) == pytest.approx((folds.mean() - half, folds.mean() + half))
    assert (row["n_folds"], row["n_seeds"], row["n_runs"]) == (5, 3, 15)


def test_summary_of_one_run_has_a_mean_and_no_interval() -> None:
    row = stats.summary(make_table(np.array([[0.01]]))).iloc[0]
    assert row["mean"] == pytest.approx(0.61)
    assert np.isnan([row["low"], row["high"], row["se"]]).all()
    assert row["sd"] == 0


def test_fold_means_are_laid_out_by_fold_and_configuration_in_the_tables_order() -> None:
    found = stats.fold_means(make_table(np.array([[0.0, 0.02], [0.04, 0.04]])))
    assert list(found.columns) == [A, B]
    np.testing.assert_allclose(found[A], [0.61, 0.64])


# --- wrong input ------------------------------------------------------------------------------


def without(column: str, value: int, configuration: str = B) -> pd.DataFrame:
    table = worked()
    return table[(table["configuration"] != configuration) | (table[column] != value)]


def changed(value: object, row: int = 3) -> pd.DataFrame:
    table = worked()
    table.loc[row, "balanced_accuracy"] = value
    return table


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (lambda: without("fold", 2), r"self-AVT lacks fold 2 seed 0, .* and 7 more"),
        (lambda: without("seed", 4, A), r"cross-AVT lacks fold 0 seed 4, .* and 2 more"),
        (lambda: changed(np.nan), r"balanced_accuracy of self-AVT, fold 0, seed 1 is nan"),
        (lambda: changed(58.7), r"is 58.7: expected a share in \[0, 1\]"),
        (lambda: changed(-0.1), r"is -0.1: expected a share"),
        (lambda: worked().iloc[:0], "table of runs is empty"),
        (lambda: worked().drop(columns="seed"), "no column 'seed'"),
        (lambda: pd.concat([worked(), worked()]), "in the table more than once"),
        (lambda: worked().assign(protocol=["random", "published"] * 50), "differ in protocol"),
        (lambda: with_counts(worked(), 70, 10, 0), "n_test must be above 0"),
        (lambda: make_table(np.full(5, 0.009), base=0.578), "constant scores: .* 0.587 in every"),
    ],
)
def test_tables_that_cannot_be_compared_are_refused(
    table: Callable[[], pd.DataFrame], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        stats.compare(table(), A, B)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": 0}, "margin=0: expected a share above 0"),
        ({"margin": -0.01}, "margin=-0.01"),
        ({"margin": float("nan")}, "margin=nan"),
        ({"margin": 1}, "a point is 0.01"),
        ({"alpha": 0}, "alpha=0"),
        ({"alpha": 0.95}, "alpha=0.95"),
        ({"estimand": "new dta"}, "did you mean 'new data'"),
        ({"metric": "balanced_acuracy"}, "did you mean 'balanced_accuracy'"),
        ({"metric": "configuration"}, "unknown metric 'configuration'"),
        ({"a": "cros-AVT"}, "did you mean 'cross-AVT'"),
        ({"b": A}, "compared with itself"),
    ],
)
def test_settings_out_of_range_and_unknown_names_are_refused(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        stats.compare(worked(), **({"a": A, "b": B} | options))


def test_one_fold_is_refused_for_new_data_and_the_other_question_is_offered() -> None:
    with pytest.raises(InputError, match="estimand='new seeds'"):
        stats.compare(make_table(np.zeros((1, 5))), A, B)


def test_one_seed_or_a_hole_in_the_design_is_refused_for_new_seeds() -> None:
    with pytest.raises(InputError, match="1 seed"):
        stats.compare(make_table(np.zeros((5, 1))), A, B, estimand="new seeds")
    table = worked()
    holed = table[(table["fold"] != 1) | (table["seed"] != 1)]
    with pytest.raises(InputError, match="every seed in every fold"):
        stats.compare(holed, A, B, estimand="new seeds")


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "no pair to compare"),
        ([(A, B), (B, A)], "given twice"),
        ([(A, B, "self-T")], "is no pair"),
    ],
)
def test_lists_of_pairs_that_make_no_plan_are_refused(pairs: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        stats.compare_planned(worked(), pairs)


@pytest.mark.parametrize("p_values", [[], [0.5, np.nan], [1.2], [[0.1]]])
def test_holm_refuses_what_are_no_p_values(p_values: list) -> None:
    with pytest.raises(InputError, match="list of p values"):
        stats.holm(p_values)


def test_summary_refuses_a_level_that_is_none() -> None:
    with pytest.raises(InputError, match="alpha=2"):
        stats.summary(worked(), alpha=2)


# -- several data sets -----------------------------------------------------------------------------


def two_sets() -> pd.DataFrame:
    """The same two configurations on two data sets: ten points apart on one, level on the other."""
    rng = np.random.default_rng(4)
    rows = [
        {"corpus": corpus, "configuration": name, "fold": k, "seed": s,
         "accuracy": 0.5 + gap * (name == "b") + rng.normal(0, 0.01)}
        for corpus, gap in (("x", 0.1), ("y", 0.0))
        for name in ("a", "b")
        for k in range(5)
        for s in range(2)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_groups_are_compared_each_on_its_own_rows_and_corrected_together():
    table = two_sets()
    found = stats.compare_groups(table, [("b", "a")], "corpus", "accuracy")
    alone = [stats.compare(rows, "b", "a", "accuracy") for _, rows in table.groupby("corpus")]
    assert found["corpus"].tolist() == ["x", "y"]
    assert found["difference"].tolist() == [one.difference for one in alone]
    p = [one.p_difference for one in alone]
    assert found["p_holm"].tolist() == stats.holm(p).tolist()
    assert found["verdict"][0] == "different"
    assert found["verdict"][1] != "different"


def test_groups_of_several_columns_and_several_pairs_give_a_row_each():
    table = pd.concat([two_sets().assign(level=level) for level in (1, 2)])
    more = table[table["configuration"] == "a"].assign(configuration="c")
    table = pd.concat([table, more.assign(accuracy=more["accuracy"] - 0.02)])
    pairs = [("b", "a"), ("a", "c")]
    found = stats.compare_groups(table, pairs, ["corpus", "level"], "accuracy")
    assert list(found.columns[:2]) == ["corpus", "level"]
    assert len(found) == 8
    assert not found[["corpus", "level", "a"]].duplicated().any()


def test_a_grouping_that_is_not_there_is_told_of():
    with pytest.raises(InputError, match="regime"):
        stats.compare_groups(two_sets(), [("b", "a")], "regime", "accuracy")


def test_a_comparison_says_which_damaged_runs_its_table_lacks() -> None:
    table = simulate_table(seed=3)
    assert "Incomplete" not in stats.compare(table, A, B).sentence()
    table.attrs["left_out"] = dict.fromkeys("abcd", "run.json is missing")
    some = table[table["seed"] < 5].reset_index(drop=True)  # as a notebook may choose
    told = "Incomplete: 4 damaged runs are left out of the table (a, b, c, ...), see "
    told += "`mmer store verify`."
    for found in (stats.compare(some, A, B), stats.compare(table, A, B)):
        assert found.caveats[-1] == told
        assert found.sentence().endswith(told)
    planned = stats.compare_planned(some, [(A, B)])
    assert told in planned["sentence"].item()
    with pytest.raises(InputError, match=r"not paired: .* on both sides\. Incomplete: 4 damaged"):
        stats.compare(table.iloc[1:], A, B)


def test_runs_of_other_semantics_are_not_compared() -> None:
    table = simulate_table()
    mixed = table.assign(semantics=np.where(table["configuration"] == A, 1, 2))
    for ask in (lambda: stats.compare(mixed, A, B), lambda: stats.summary(mixed)):
        with pytest.raises(InputError, match=r"the runs differ in semantics .*1, 2.*: choose"):
            ask()
    older = table.assign(semantics=1)
    assert stats.compare(older, A, B).difference == stats.compare(table, A, B).difference
