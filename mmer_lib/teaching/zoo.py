"""Checks of notebook 07: the area under a curve of losses, mean ranks, a camera that fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmer_lib.teaching.base import NotYetError, array, check, expect, number


@check
def check_area(area: Any, kept_share: Any, lost: Any, scores: Any) -> str:
    """The mean score over shares of lost frames (trapezoids), and that as a share of the first.

    ``lost`` are the shares, from 0 on and not evenly spaced; ``scores`` one for each.
    """
    x, y = array(lost, "lost"), array(scores, "scores")
    gaps, width = np.diff(x), x[-1] - x[0]
    whole = float(np.trapezoid(y, x))
    right = whole / width
    areas = [
        (y.mean(), "That is the mean of the points: each trapezoid counts by its width."),
        (whole, "Not divided by the width of the range: a mean score is asked for."),
        (((y[1:] + y[:-1]) / 2).mean(), "The gaps are taken as equal: they are of two widths."),
        ((gaps * y[:-1]).sum() / width, "Those are rectangles from the left: take both ends."),
        ((gaps * y[1:]).sum() / width, "Those are rectangles from the right: take both ends."),
        (y[0] * width - whole, "That is the area above the curve."),
    ]
    expect(number(area, "area"), right, "area", areas)
    shares = [
        (y[-1] / y[0], "That is the last score over the first: the area has the ones between."),
        (right, "That is the area: divide it by the score on whole utterances."),
        (y[0] / right, "Upside down: the area, divided by the score on whole utterances."),
        (y[0] - right, "A difference: give the area as a share of the first score."),
        (1 - right / y[0], "That is the share that is lost: give what is kept."),
    ]
    expect(number(kept_share, "kept_share"), right / y[0], "kept_share", shares)
    return "the area says how good it is on the way down, the share only how far it falls."


@check
def check_mean_ranks(mean_ranks: Any, scores: pd.DataFrame) -> str:
    """The mean rank of each column of ``scores`` (a row a fold), where 1 is the best of a fold."""
    names = list(scores.columns)
    given = array([number(one, "a mean rank") for one in _by_name(mean_ranks, names)], "mean_ranks")
    placed = scores.rank(axis=1, ascending=False)
    wrong = [
        (scores.rank(axis=1).mean(), "1 was given to the worst: it belongs to the best score."),
        (
            scores.mean().rank(ascending=False),
            "Those are the ranks of the mean scores: rank within each fold, then average.",
        ),
        (
            scores.mean().rank(ascending=False, method="min"),
            "Those are the ranks of the mean scores: rank within each fold, then average.",
        ),
        (placed.sum(), "Those are sums of ranks: divide by the number of folds."),
        (placed.median(), "Those are medians: take the mean over folds."),
        (
            scores.rank(axis=0, ascending=False).mean(),
            "The ranks run down a column, over folds: fusions are compared within a fold.",
        ),
        (scores.mean(), "Those are mean scores: rank them within each fold first."),
    ]
    expect(given, placed.mean(), "mean_ranks", wrong)
    return "one bad fold costs a rank or two however bad it is: ranks forget by how much."


def _by_name(given: Any, names: Sequence[str]) -> list[Any]:
    """The values of a dict or series in the order of ``names``."""
    if isinstance(given, pd.Series):
        given = given.to_dict()
    if not isinstance(given, Mapping):
        raise NotYetError(f'mean_ranks should be a dict such as {{"{names[0]}": ...}}.')
    missing = [name for name in names if name not in given]
    if missing:
        raise NotYetError(f"mean_ranks has no answer for {', '.join(missing)}.")
    return [given[name] for name in names]


@check
def check_camera(worth: Any, p: Sequence[float], q: Sequence[float]) -> str:
    """The share of utterances without a video above which ``q`` is the better of two fusions.

    ``p`` and ``q``: scores with everything there, and without the video.
    """
    ahead, behind = p[0] - q[0], q[1] - p[1]
    right = ahead / (ahead + behind)
    wrong = [
        (1 - right, "That is the share with a video: give the one without."),
        (ahead / behind, "A ratio of the two gaps, of odds: the share is one gap over their sum."),
        (behind / ahead, "A ratio of the two gaps: the share is one gap over their sum."),
        (0.0, "Only the second score is read: while the camera works p is ahead."),
        (1.0, "Only the first score is read: where the camera fails q is ahead."),
        (ahead, "That is what p is ahead by: at which share does what q saves outweigh it?"),
        (behind, "That is what q is ahead by: at which share does it outweigh what p gains?"),
        (0.5, "The two gaps are not equal: set the two mixtures equal and solve."),
    ]
    expect(number(worth, "worth"), right, "worth", wrong)
    return "which fusion is better depends on how often the camera fails, so count that first."
