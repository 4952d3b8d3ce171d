"""Checks of notebook 05: the interval of a difference, equivalence, and two accuracies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import stats as distributions

from mmer_lib.stats import VERDICTS, judge
from mmer_lib.teaching.base import Floats, NotYetError, array, check, choice, expect, number


@check
def check_interval(low: Any, high: Any, differences: Any) -> str:
    """The 95 % interval of the corrected resampled t; ``differences`` is (folds, seeds)."""
    runs = array(differences, "differences")
    given = array([number(low, "low"), number(high, "high")], "your interval")
    if given[0] > given[1]:
        raise NotYetError("low is above high: the mean minus the half-width comes first.")
    d, k = runs.mean(axis=1), len(runs)
    factor = 1 / k + 1 / (k - 1)
    right = _interval(d, factor)
    plain = d.std() * math.sqrt(factor) * distributions.t.ppf(0.975, k - 1)
    wrong = [
        (
            _interval(runs.ravel(), 1 / runs.size),
            "Runs are taken for replicates: average over seeds, so that each fold counts once.",
        ),
        (
            _interval(runs.ravel(), factor),
            "The spread is that of runs: average over seeds first, then take that of folds.",
        ),
        (_interval(d, 1 / k), "Not corrected: training parts overlap, so add 1/(K - 1) to 1/K."),
        (_interval(d, 1 / (k - 1)), "The factor has two parts: 1/K and 1/(K - 1)."),
        (_interval(d, factor, 1e9), "1.96 is for a known spread: t has K - 1 degrees of freedom."),
        (_interval(d, factor, k), "t has K - 1 degrees of freedom, not K."),
        (_interval(d, factor, share=0.95), "That is the 90 % interval: 2.5 % lie beyond each end."),
        (_interval(d, 1.0), "That is the spread of folds: the mean's is smaller, by the factor."),
        (_interval(d, factor**2), "The factor stands under the root."),
        ([d.mean() - plain, d.mean() + plain], "The deviation divides by K - 1: std(ddof=1)."),
    ]
    expect(given, right, "your interval", wrong, rounding=2e-3)
    return f"{k} folds are {k} replicates, however many seeds, and overlapping ones at that."


def _interval(values: Floats, factor: float, df: float = 0, share: float = 0.975) -> Floats:
    """mean -+ t(share, df) * s * sqrt(factor)."""
    half = distributions.t.ppf(share, df or len(values) - 1)
    half *= values.std(ddof=1) * math.sqrt(factor)
    return np.array([values.mean() - half, values.mean() + half])


@check
def check_equivalence(
    p_equivalence: Any, verdict: Any, differences: Any, margin: float, alpha: float = 0.05
) -> str:
    """The p value of two one-sided tests at ``margin``, and the verdict of both questions."""
    d = array(differences, "differences").mean(axis=1)
    k, factor = len(d), 1 / len(d) + 1 / (len(d) - 1)
    found, plain = judge(d, factor, margin, alpha), judge(d, 1 / k, margin, alpha)
    p, left, right = (float(found[n]) for n in ("p_equivalence", "left", "right"))
    wrong = [
        (float(found["p_difference"]), "That is the test of a difference: a question of its own."),
        (
            min(left, right),
            "That is the easier of the two tests: both must reject, take the larger.",
        ),
        (left + right, "The two are added: equivalence needs both, so take the larger p."),
        (2 * p, "Each of the tests is one-sided: do not double it."),
        (1 - p, "The other tail: is the mean far enough below the margin, not above it?"),
        (float(plain["p_equivalence"]), "Not corrected: the standard error has 1/K + 1/(K - 1)."),
    ]
    expect(number(p_equivalence, "p_equivalence"), p, "p_equivalence", wrong)
    return _judge_words(
        choice(verdict, "verdict", VERDICTS), float(found["p_difference"]), p, alpha
    )


def _judge_words(told: str, p_difference: float, p_equivalence: float, alpha: float) -> str:
    """Whether a verdict follows from both tests."""
    differ, same = p_difference < alpha, p_equivalence < alpha
    if told == "equivalent" and not differ and not same:
        raise NotYetError("Not significant is not the same: the second test does not reject.")
    if differ != told.startswith("different"):
        raise NotYetError(f"verdict: the test of a difference has p = {p_difference:.3f}.")
    if same != (told == "equivalent" or told.endswith("margin")):
        raise NotYetError(f"verdict: the test of equivalence has p = {p_equivalence:.3f}.")
    return f"two questions with a p each, {p_difference:.2f} and {p_equivalence:.2f}: {told}."


@check
def check_two_accuracies(plain: Any, balanced: Any, printed: Any, confusion: Any) -> str:
    """Both accuracies of a confusion matrix (truth in rows), and what the released code prints.

    ``printed`` is what it prints as "weighted".
    """
    counts = array(confusion, "confusion")
    right = counts.trace() / counts.sum()
    recall, precision = ((np.diag(counts) / counts.sum(axis=axis)).mean() for axis in (1, 0))
    named = "Swapped: recalls weighed by class size give plain accuracy, the literature's WA."
    plains = [
        (recall, named),
        (precision, "That is the mean precision: right ones over all utterances, here."),
        (counts.trace(), "That is a count: divide it by all utterances."),
    ]
    expect(number(plain, "plain"), right, "plain", plains)
    others = [
        (right, "That is plain accuracy again: balanced accuracy is the mean of the recalls."),
        (precision, "Those are precisions, by column: truth stands in the rows. Use axis=1."),
    ]
    expect(number(balanced, "balanced"), recall, "balanced", others)
    told = [(right, "The literature's WA is plain, yes, but the released code has them swapped.")]
    expect(number(printed, "printed"), recall, "printed", told)
    return "one name, two numbers: say accuracy and balanced accuracy, and nobody has to guess."
