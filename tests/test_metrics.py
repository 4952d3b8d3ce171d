"""Scores against scikit-learn, by hand and on the published class counts."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from mmer_lib import metrics
from mmer_lib.errors import InputError

# The published class counts of IEMOCAP, seven classes; the largest is class 4.
COUNTS = [1103, 1041, 595, 1084, 1849, 107, 1708]


def random_answers(seed: int, n: int = 200, c: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(c, size=n), rng.integers(c, size=n)


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_those_of_scikit_learn(seed: int) -> None:
    labels, predicted = random_answers(seed)
    assert metrics.accuracy(labels, predicted) == pytest.approx(
        sk.accuracy_score(labels, predicted)
    )
    assert metrics.balanced_accuracy(labels, predicted) == pytest.approx(
        sk.balanced_accuracy_score(labels, predicted)
    )
    assert metrics.macro_f1(labels, predicted) == pytest.approx(
        sk.f1_score(labels, predicted, average="macro")
    )
    np.testing.assert_array_equal(
        metrics.confusion(labels, predicted, 7),
        sk.confusion_matrix(labels, predicted, labels=range(7)),
    )


def test_absent_classes_are_treated_as_in_scikit_learn() -> None:
    labels, predicted = [0, 0, 2, 2], [0, 3, 2, 0]  # 1 and 4 never occur, 3 only as a prediction
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        balanced = sk.balanced_accuracy_score(labels, predicted)
    assert metrics.balanced_accuracy(labels, predicted, 5) == pytest.approx(balanced)
    assert metrics.macro_f1(labels, predicted, 5) == pytest.approx(
        sk.f1_score(labels, predicted, average="macro")
    )


def test_majority_predictor_scores_one_seventh_balanced_and_a_quarter_plain() -> None:
    labels = np.repeat(np.arange(7), COUNTS)
    predicted = np.full(len(labels), 4)
    assert metrics.balanced_accuracy(labels, predicted) == pytest.approx(0.1429, abs=5e-5)
    assert metrics.accuracy(labels, predicted) == pytest.approx(0.247, abs=5e-4)


def test_scores_of_four_answers_worked_by_hand() -> None:
    labels, predicted = [0, 0, 0, 1], [0, 0, 1, 1]
    assert metrics.accuracy(labels, predicted) == 3 / 4
    assert metrics.balanced_accuracy(labels, predicted) == pytest.approx((2 / 3 + 1) / 2)
    assert metrics.macro_f1(labels, predicted) == pytest.approx((4 / 5 + 2 / 3) / 2)
    np.testing.assert_array_equal(metrics.confusion(labels, predicted), [[2, 1], [0, 1]])


def test_scores_do_not_depend_on_the_order_of_utterances_or_the_names_of_classes() -> None:
    labels, predicted = random_answers(9)
    rng = np.random.default_rng(1)
    order, names = rng.permutation(len(labels)), rng.permutation(7)
    for score in metrics.METRICS.values():
        assert score(names[labels][order], names[predicted][order], 7) == pytest.approx(
            score(labels, predicted, 7)
        )


def test_recall_of_a_class_with_no_utterance_is_nan_and_warns_nobody() -> None:
    recall = metrics.per_class_recall([0, 0, 2], [0, 1, 2], 4)
    np.testing.assert_array_equal(recall, [0.5, np.nan, 1.0, np.nan])


def test_probabilities_are_scored_by_their_largest_class() -> None:
    labels, predicted = random_answers(3)
    probabilities = np.full((len(predicted), 7), 0.1, dtype=np.float32)
    probabilities[np.arange(len(predicted)), predicted] = 0.4
    assert metrics.scores(labels, probabilities) == {
        name: score(labels, predicted, 7) for name, score in metrics.METRICS.items()
    }


def test_answers_to_the_wrong_utterances_score_what_their_frequencies_are_worth() -> None:
    labels, predicted = random_answers(2)
    found = metrics.permuted_scores(labels, predicted, "accuracy", 7, 2000)
    shares = np.bincount(labels, minlength=7) @ np.bincount(predicted, minlength=7) / 200**2
    assert found.mean() == pytest.approx(shares, abs=0.003)
    again = metrics.permuted_scores(labels, predicted, "accuracy", 7, 2000)
    np.testing.assert_array_equal(found, again)
    with pytest.raises(InputError, match="unknown metric"):
        metrics.permuted_scores(labels, predicted, "auc")


def random_probabilities(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(4, size=300), rng.dirichlet(np.full(4, 0.5), 300)


@pytest.mark.parametrize("bins", [1, 7, 10])
def test_the_calibration_error_equals_a_slow_one(bins: int) -> None:
    labels, p = random_probabilities(bins)
    expected = 0.0
    for i in range(bins):
        inside = [
            j for j in range(300)
            if i / bins <= p[j].max() < (i + 1) / bins or (i == bins - 1 and p[j].max() == 1)
        ]  # fmt: skip
        if inside:
            right = np.mean([p[j].argmax() == labels[j] for j in inside])
            expected += len(inside) / 300 * abs(right - np.mean([p[j].max() for j in inside]))
    assert metrics.calibration_error(labels, p, bins) == pytest.approx(expected)


def test_reliability_agrees_with_scikit_learn_bin_by_bin() -> None:
    labels, p = random_probabilities(0)
    found = metrics.reliability(labels, p)
    right = p.argmax(axis=1) == labels
    accuracy, confidence = calibration_curve(right, p.max(axis=1), n_bins=10)
    np.testing.assert_allclose(found["accuracy"], accuracy)
    np.testing.assert_allclose(found["confidence"], confidence)
    assert found["share"].sum() == pytest.approx(1)
    assert found["n"].sum() == 300


def test_answers_that_are_as_right_as_sure_have_no_calibration_error() -> None:
    p = np.tile([0.75, 0.25], (8, 1))
    labels = np.array([0, 0, 0, 1, 0, 0, 0, 1])
    assert metrics.calibration_error(labels, p) == pytest.approx(0)
    certain = np.tile([1.0, 0.0], (4, 1))
    assert metrics.calibration_error([1, 1, 1, 1], certain) == pytest.approx(1)


def test_reliability_refuses_no_bins_and_labels_of_other_classes() -> None:
    labels, p = random_probabilities(0)
    with pytest.raises(InputError, match="bins=0"):
        metrics.reliability(labels, p, 0)
    with pytest.raises(InputError, match="labels hold class 4"):
        metrics.reliability(labels + 1, p)


def test_the_swap_changes_who_is_ahead_exactly_where_the_readings_say_so() -> None:
    published = pd.DataFrame(
        {"configuration": ["x", "y"], "modalities": ["A", "V"],
         "paper_weighted": [0.5, 0.6], "paper_unweighted": [0.7, 0.6]}
    )  # fmt: skip
    earlier = pd.DataFrame(
        {"system": ["old"], "modalities": ["A"], "accuracy": [0.6], "balanced_accuracy": [0.4]}
    )
    found = metrics.compare_readings(published, earlier).set_index("metric")
    plain, balanced = found.loc["accuracy"], found.loc["balanced_accuracy"]
    assert (plain["literature"], plain["released_code"]) == (0.5, 0.7)
    assert (plain["literature_says"], plain["released_code_says"]) == ("behind", "ahead")
    assert (balanced["literature_says"], balanced["released_code_says"]) == ("ahead", "ahead")
    assert list(found["changes"]) == [True, False]


@pytest.mark.parametrize(
    ("vocabulary", "term", "metric"),
    [
        ("literature", "WA", "accuracy"),
        ("literature", "UA", "balanced_accuracy"),
        ("literature", "Unweighted-Accuracy", "balanced_accuracy"),
        ("released code", "WA", "balanced_accuracy"),
        ("released code", "UWA", "accuracy"),
        ("package", "macro_f1", "macro_f1"),
    ],
)
def test_each_vocabulary_is_decoded(vocabulary: str, term: str, metric: str) -> None:
    assert metrics.decode(term, vocabulary) == metric


def test_the_two_vocabularies_mean_opposite_things_by_every_term_they_share() -> None:
    literature, released = metrics.NAMES["literature"], metrics.NAMES["released code"]
    for term in literature.keys() & released.keys():
        assert {literature[term], released[term]} == {"accuracy", "balanced_accuracy"}


def test_every_metric_has_a_label_that_decodes_back() -> None:
    for name in metrics.METRICS:
        assert metrics.decode(metrics.label(name), "package") == name
    assert metrics.label("dev_accuracy") == "dev accuracy"


def test_a_published_table_is_renamed_by_the_vocabulary_it_is_read_in() -> None:
    table = pd.DataFrame({"paper_weighted": [0.587], "paper_unweighted": [0.642], "sd_weighted": 1})
    literature = metrics.read_table(table, "literature").iloc[0]
    released = metrics.read_table(table, "released code").iloc[0]
    assert (literature["accuracy"], literature["balanced_accuracy"]) == (0.587, 0.642)
    assert (released["accuracy"], released["balanced_accuracy"]) == (0.642, 0.587)
    assert "accuracy_sd" in literature
    assert "balanced_accuracy_sd" in released


@pytest.mark.parametrize(
    ("labels", "predicted", "n_classes", "message"),
    [
        ([], [], None, "labels must be a list of classes"),
        ([[0]], [[0]], None, "labels must be a list of classes"),
        ([0, 1], [0], None, "2 labels but 1 predictions"),
        ([0.0, 1.0], [0, 1], None, "labels must be whole numbers"),
        ([0, 1], [0, 7], 7, r"predicted hold class 7: expected classes 0 \.\. 6"),
        ([0, -1], [0, 1], None, "labels hold class -1"),
    ],
)
def test_answers_that_cannot_be_scored_are_refused(
    labels: list[object], predicted: list[object], n_classes: int | None, message: str
) -> None:
    for score in (*metrics.METRICS.values(), metrics.per_class_recall):
        with pytest.raises(InputError, match=message):
            score(labels, predicted, n_classes)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ([0.5, 0.5], "utterances, classes"),
        ([["a", "b"]], "utterances, classes"),
        ([[0.5, 0.5], [np.nan, 1]], r"1 of 2 rows .*first: row 1"),
        ([[-0.5, 1.5], [0, 1]], r"1 of 2 rows .*first: row 0"),
        ([[3.0, 1.0], [2.0, 5.0]], "2 of 2 rows"),
    ],
)
def test_rows_that_are_no_probabilities_are_refused(
    probabilities: list[object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        metrics.scores([0, 1], probabilities)


def test_unknown_terms_and_vocabularies_are_named() -> None:
    with pytest.raises(InputError, match="did you mean 'released code'"):
        metrics.decode("WA", "relased code")
    with pytest.raises(InputError, match="unknown literature metric 'AUC'"):
        metrics.decode("AUC", "literature")
