"""Recalls with intervals, confusions, baselines and reliability of what runs said."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.proportion import proportion_confint

from mmer_lib import metrics, stats
from mmer_lib.errors import InputError
from mmer_lib.stats.predictions import wilson

CLASSES = ["sad", "happy", "surprise"]


def say(hits: list[list[int]], n: int = 20, seeds: int = 1, label: int = 0) -> pd.DataFrame:
    """Utterances of one class, ``hits[fold][seed]`` of ``n`` a fold are found."""
    rows = [
        (
            "self-A",
            fold,
            seed,
            f"{label}-{fold}-{u}",
            label,
            label if u < found[seed] else 1 - label,
        )
        for fold, found in enumerate(hits)
        for seed in range(seeds)
        for u in range(n)
    ]
    columns = ["configuration", "fold", "seed", "id", "label", "predicted"]
    return pd.DataFrame(rows, columns=columns).assign(confidence=0.6)


def row_of(predictions: pd.DataFrame, emotion: str = "sad") -> pd.Series:
    found = stats.recall_intervals(predictions, CLASSES)
    return found.set_index("emotion").loc[emotion]


# --- gathering ----------------------------------------------------------------------------------


def test_predictions_are_gathered_run_by_run_with_their_names() -> None:
    table = pd.DataFrame(
        {"key": ["x", "y"], "configuration": ["a", "b"], "fold": [0, 1], "seed": [2, 3]}
    )
    said = {
        "x": SimpleNamespace(
            ids=["u", "v"], labels=[0, 1], probabilities=np.array([[0.9, 0.1], [0.6, 0.4]])
        ),
        "y": SimpleNamespace(ids=["w"], labels=[1], probabilities=np.array([[0.2, 0.8]])),
    }
    found = stats.gather_predictions(table, said.__getitem__)
    assert list(found["id"]) == ["u", "v", "w"]
    assert list(found["configuration"]) == ["a", "a", "b"]
    assert list(found["fold"]) == [0, 0, 1]
    assert list(found["predicted"]) == [0, 0, 1]
    assert list(found["confidence"]) == [0.9, 0.6, 0.8]


def test_a_table_without_keys_is_refused() -> None:
    with pytest.raises(InputError, match="no column 'key'"):
        stats.gather_predictions(pd.DataFrame({"fold": [0]}), lambda key: key)


# --- recall -------------------------------------------------------------------------------------


def test_wilson_equals_statsmodels() -> None:
    z = scipy_stats.norm.ppf(0.975)
    for hits, n in ((3, 20), (0, 7), (50, 50)):
        expected = proportion_confint(hits, n, method="wilson")
        assert wilson(hits / n, n, z) == pytest.approx(expected)


def test_recall_is_over_all_utterances_and_its_spread_is_that_of_the_folds() -> None:
    hits = [[4], [16], [10], [18], [12]]
    row = row_of(say(hits))
    folds = np.array(hits)[:, 0] / 20
    se = folds.std(ddof=1) * np.sqrt(1 / 5 + 1 / 4)
    n = 0.6 * 0.4 / se**2
    assert row["recall"] == pytest.approx(0.6)
    assert row["n_effective"] == pytest.approx(n)
    assert n < 100 == row["n_utterances"]
    expected = wilson(0.6, n, scipy_stats.t.ppf(0.975, 4))
    assert (row["low"], row["high"]) == pytest.approx(expected)


def test_folds_that_agree_by_luck_are_no_surer_than_their_utterances() -> None:
    row = row_of(say([[12]] * 5))
    assert row["n_effective"] == 100
    assert row["low"] < 0.6 < row["high"]


def test_seeds_do_not_make_utterances_more_numerous() -> None:
    one = row_of(say([[4], [16], [10], [18], [12]]))
    ten = row_of(say([[h] * 10 for h in (4, 16, 10, 18, 12)], seeds=10))
    pd.testing.assert_series_equal(one, ten)


def test_a_class_never_or_always_found_has_an_interval_within_zero_and_one() -> None:
    never, always = row_of(say([[0]] * 5)), row_of(say([[20]] * 5))
    assert never["low"] == 0
    assert 0 < never["high"] < 0.2
    assert always["high"] == 1
    assert always["low"] == pytest.approx(1 - never["high"])


def test_one_fold_gets_wilsons_plain_interval() -> None:
    row = row_of(say([[12]]))
    assert (row["low"], row["high"]) == pytest.approx(proportion_confint(12, 20, method="wilson"))


def test_a_class_that_does_not_occur_has_no_recall() -> None:
    row = row_of(say([[12]] * 5), "surprise")
    assert np.isnan([row["recall"], row["low"], row["high"]]).all()
    assert row["n_utterances"] == 0


def test_the_interval_of_a_rare_class_covers_the_truth() -> None:
    rng, covered = np.random.default_rng(0), []
    for _ in range(300):  # about 21 utterances a fold, folds that differ by 8 points
        truth = np.clip(rng.normal(0.4, 0.08, 5), 0, 1)
        row = row_of(say([[rng.binomial(21, p)] for p in truth], n=21))
        covered.append(row["low"] <= 0.4 <= row["high"])
    assert np.mean(covered) >= 0.95


def test_predictions_that_cannot_be_counted_are_refused() -> None:
    said = say([[4], [16]])
    with pytest.raises(InputError, match="no column 'id'"):
        stats.recall_intervals(said.drop(columns="id"), CLASSES)
    with pytest.raises(InputError, match="hold class 1, but 1 classes are named"):
        stats.recall_intervals(said, ["sad"])
    with pytest.raises(InputError, match="'u' is tested by several folds"):
        stats.recall_intervals(said.assign(id="u"), CLASSES)
    with pytest.raises(InputError, match="is empty"):
        stats.recall_intervals(said.iloc[:0], CLASSES)
    with pytest.raises(InputError, match="alpha=0"):
        stats.recall_intervals(said, CLASSES, alpha=0)


# --- confusions, baselines, reliability ---------------------------------------------------------


def two_runs() -> pd.DataFrame:
    labels = np.array([0, 0, 1, 1, 1, 2])
    answers = [[0, 1, 1, 1, 0, 2], [0, 0, 1, 2, 0, 2]]
    parts = [
        pd.DataFrame(
            {"configuration": "self-A", "fold": 0, "seed": seed, "id": range(6), "label": labels,
             "predicted": said, "confidence": 0.5}
        )
        for seed, said in enumerate(answers)
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_confusions_are_averaged_over_seeds_and_summed_over_folds() -> None:
    one = two_runs()
    second = one.assign(fold=1)
    found = stats.mean_confusion(pd.concat([one, second]), 3)["self-A"]
    np.testing.assert_allclose(found, [[3, 1, 0], [2, 3, 1], [0, 0, 2]])


def test_uneven_seeds_still_count_each_utterance_once() -> None:
    one = two_runs()
    second = one[one["seed"] == 0].assign(fold=1)
    found = stats.mean_confusion(pd.concat([one, second]), 3)["self-A"]
    np.testing.assert_allclose(found.sum(axis=1), [4, 6, 2])


def test_baselines_are_the_largest_class_and_answers_to_the_wrong_utterances() -> None:
    said = two_runs()
    found = stats.baselines(said, "accuracy", permutations=500)
    assert found["majority"] == pytest.approx(3 / 6)
    by_hand = [  # the mean over permutations: sum over classes of share x share answered
        (2 * 2 + 3 * 3 + 1 * 1) / 36,
        (2 * 3 + 3 * 1 + 1 * 2) / 36,
    ]
    assert found["permuted"] == pytest.approx(np.mean(by_hand), abs=0.015)
    assert stats.baselines(said)["majority"] == pytest.approx(1 / 3)
    with pytest.raises(InputError, match="unknown metric 'auc'"):
        stats.baselines(said, "auc")


def test_reliability_of_all_runs_is_that_of_their_probabilities() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 200)
    labels = rng.integers(3, size=200)
    frame = pd.DataFrame(
        {"configuration": "self-A", "fold": 0, "seed": 0, "id": range(200), "label": labels,
         "predicted": p.argmax(axis=1), "confidence": p.max(axis=1)}
    )  # fmt: skip
    found = stats.reliability(frame)
    expected = metrics.reliability(labels, p)
    pd.testing.assert_frame_equal(found[expected.columns], expected)
    assert found["ece"].iloc[0] == pytest.approx(metrics.calibration_error(labels, p))
    with pytest.raises(InputError, match="no column 'confidence'"):
        stats.reliability(frame.drop(columns="confidence"))
