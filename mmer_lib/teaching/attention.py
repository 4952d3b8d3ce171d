"""Checks of notebook 02: attention with a mask, the pooling identity, statistical pooling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mmer_lib.teaching.base import Floats, NotYetError, array, check, choice, expect, near, run

if TYPE_CHECKING:
    from torch import Tensor

MOVES = ("same", "permuted", "different")  # what becomes of an output when its input is permuted


@check
def check_attention(answer: Any) -> str:
    """A function q (Tq, D), k (Ts, D), v (Ts, D), mask (Ts,) -> (Tq, D)."""
    q, k, v, mask = _frames()
    _check_side(answer, q, k, v, mask)
    _check_unmasked(_answer(answer, q, k, v, mask | True), q, k, v)
    _check_mask(_answer(answer, q, k, v, mask), q, k, v, mask)
    return (
        "scaled, masked before the softmax, normalised over the source. "
        + _say_empty(answer, q, k, v, mask)
    )  # fmt: skip


def _answer(answer: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Floats:
    given = run(answer, "your function", q.clone(), k.clone(), v.clone(), mask.clone())
    return array(given, "what your function returns")


def _check_side(answer: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> None:
    """The mask the wrong way round: with nothing but data, such a function has no answer at all."""
    scores = q @ k.T / math.sqrt(q.shape[-1])  # (Tq, Ts)
    inverted = scores.masked_fill(mask, -math.inf).softmax(dim=1) @ v
    given = run(answer, "your function", q.clone(), k.clone(), v.clone(), mask.clone())
    try:
        turned = near(array(given, "what your function returns"), inverted, 1e-4)
    except NotYetError:
        return
    if turned:
        raise NotYetError("The mask is used the wrong way round: true means data.")


def _check_unmasked(given: Floats, q: Tensor, k: Tensor, v: Tensor) -> None:
    """Without padding: the scale, and the axis of the softmax."""
    dots, width = q @ k.T, q.shape[-1]  # (Tq, Ts)
    scores = dots / math.sqrt(width)
    scaled_after = scores.softmax(dim=1) / math.sqrt(width)
    wrong = [
        (scores.softmax(dim=0) @ v, "The softmax runs over the queries, dim=0: over the source."),
        (dots.softmax(dim=0) @ v, "The softmax runs over the queries, and the scale is forgotten."),
        (dots.softmax(dim=1) @ v, "The scale is forgotten: divide the scores by sqrt(D)."),
        ((dots / width).softmax(dim=1) @ v, "Divided by D: the scale is its square root."),
        (
            (dots * math.sqrt(width)).softmax(dim=1) @ v,
            "Multiplied by sqrt(D): divide, so that scores do not grow with the width.",
        ),
        (
            (dots / math.sqrt(len(k))).softmax(dim=1) @ v,
            "Divided by the root of the number of frames: the scale is that of the width D.",
        ),
        (scaled_after @ v, "The weights are scaled: scale the scores, before the softmax."),
        (scores @ v, "There is no softmax: scores are no weights, and a row must sum to one."),
        (scores.softmax(dim=1), "Those are the weights: mix the values with them, weights @ v."),
        (scores.softmax(dim=1) @ k, "The keys are mixed: they say where to look, values what."),
        (v.mean(dim=0).expand(len(q), -1), "That is uniform attention: nobody has asked."),
    ]
    expect(given, scores.softmax(dim=1) @ v, "your output without padding", wrong, rounding=1e-4)


def _check_mask(given: Floats, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> None:
    """With padding: where the mask comes in."""
    scores = q @ k.T / math.sqrt(q.shape[-1])  # (Tq, Ts)
    weights = scores.softmax(dim=1)
    zeroed = (scores * mask).softmax(dim=1)
    wrong = [
        (weights @ v, "The mask is not used: padding is read like data."),
        (
            (weights * mask) @ v,
            "The mask comes after the softmax: rows no longer sum to one. Mask the scores.",
        ),
        (
            zeroed @ v,
            "Masked scores are 0, and exp(0) is 1: padding is still read. Make them -inf.",
        ),
        (
            (zeroed * mask) @ v,
            "Keys and values of padding are zeroed, and yet it takes weight: make its scores -inf.",
        ),
    ]
    right = scores.masked_fill(~mask, -math.inf).softmax(dim=1) @ v
    expect(given, right, "your output with padding", wrong, rounding=1e-4)


def _say_empty(answer: Callable[..., Any], *frames: Tensor) -> str:
    """What an accepted function does with a source that has no real frame at all."""
    q, k, v, mask = frames
    try:
        given = _answer(answer, q, k, v, mask & False)
    except NotYetError:
        return "With no real frame at all yours has no answer (NaN): the library's weights are 0."
    if near(given, np.zeros(given.shape)):
        return "And a source with no real frame at all gives zeros, as in the library."
    return "With no real frame at all yours still reads padding: the library's weights are 0."


@check
def check_mixture(share: Any, rows: Any) -> str:
    """The weight (Ts,) of every source frame in the mean over the query's time.

    ``rows`` (Tq, Ts) are the attention rows of a head.
    """
    weights = array(rows, "rows")
    wrong = [
        (weights.mean(axis=1), "That averages over the source: average over the query's time."),
        (weights.sum(axis=1), "That adds up a row, which is 1: average over the query's time."),
        (weights.sum(axis=0), "That is the sum over queries: a mean is divided by Tq."),
        (weights.prod(axis=0), "Weights are averaged here, not multiplied."),
        (weights[-1], "That is the last query alone: the mean is over all of them."),
        (weights[0], "That is the first query alone: the mean is over all of them."),
        (weights.max(axis=0), "That is the largest weight of each frame: take the mean."),
        (
            np.full(weights.shape[1], 1 / weights.shape[1]),
            "That is uniform attention: the query does choose the weights.",
        ),
    ]
    expect(array(share, "share"), weights.mean(axis=0), "share", wrong)
    return "the pooled vector is this one mixture of the source's values: nothing else is left."


@check
def check_order(source_moved: Any, query_moved: Any, query_moved_mean: Any) -> str:
    """What attention's output is after permuting the source (with its mask), or the query.

    ``query_moved_mean`` is asked of the mean over the query's time. Each is one of ``MOVES``.
    """
    if choice(source_moved, "source_moved", MOVES) != "same":
        raise NotYetError(
            "source_moved: a key takes its value along, and a sum does not mind the order of its "
            "terms. Attention reads a set: only the encoder before it knows what came when."
        )
    if choice(query_moved, "query_moved", MOVES) != "permuted":
        raise NotYetError(
            "query_moved: every query is answered alone, in the row where it stands, whoever "
            "stands beside it."
        )
    if choice(query_moved_mean, "query_moved_mean", MOVES) != "same":
        raise NotYetError("query_moved_mean: the rows are permuted, and then they are averaged.")
    return (
        "attention reads a set and answers each query alone; after the mean over time no order "
        "is left but what the encoders wrote into the frames."
    )


@check
def check_statistics(pooled: Any, vectors: Any) -> str:
    """[mean ; standard deviation (n - 1)] across n vectors (n, D): (2D,)."""
    x = array(vectors, "vectors")
    mean, sd, biased = x.mean(axis=0), x.std(axis=0, ddof=1), x.std(axis=0)
    wrong = [
        ([*sd, *mean], "That is [deviation ; mean], the order of the released code."),
        ([*mean, *biased], "Divided by n: the deviation of a sample divides by n - 1."),
        ([*mean, *sd**2], "That is the variance: take its root."),
        ([*mean, *biased**2], "That is the variance over n: divide by n - 1 and take the root."),
        ([*biased, *mean], "Deviation first, and divided by n: [mean ; deviation] with n - 1."),
        (
            [*x.mean(axis=1), *x.std(axis=1, ddof=1)],
            "That pools within each vector: pool across vectors, number by number.",
        ),
        (mean, "The mean alone: the deviation is what compares the modalities."),
        (x.ravel(), "That is concatenation (noSP): pool across the vectors."),
        (np.stack([mean, sd], axis=1).ravel(), "Right numbers, mixed up: all means come first."),
        ([mean, sd], "Right numbers in two rows: concatenate them to one vector of length 2D."),
    ]
    expect(array(pooled, "pooled").squeeze(), [*mean, *sd], "pooled", wrong)
    return "mean first, then how far the modalities disagree, number by number."


def _frames() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q (3, 4), k and v (5, 4), and a mask (5,) that leaves three frames."""
    import torch

    q, k, v = (
        torch.arange(n).add(s).sin().mul(3).view(-1, 4) for n, s in ((12, 1), (20, 5), (20, 9))
    )
    return q, k, v, torch.tensor([True, True, False, True, False])
