"""Checks of notebook 04: the mass on an event against chance, entropy, the deletion check."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmer_lib.teaching.base import Floats, NotYetError, array, check, choice, expect, number, run

READINGS = ("explains", "cannot tell", "wrong place")


@check
def check_lift(mass: Any, lift: Any, weights: Any, real: int, event: Any) -> str:
    """How much attention lies on the frames of an event, and in multiples of chance.

    ``weights`` (Ts,) is a padded row, of which ``real`` frames are data; ``event`` are frames.
    """
    row, frames = array(weights, "weights"), np.asarray(event)
    right, chance, padded = row[frames].sum(), len(frames) / real, len(frames) / len(row)
    masses = [
        (row[frames].mean(), "That is the mean over the event's frames: mass is their sum."),
        (row[frames].max(), "That is its largest frame: mass is the sum over all of them."),
        (row[frames[0]], "That is the event's first frame: add up all of them."),
        (1 - right, "That is what lies elsewhere."),
    ]
    expect(number(mass, "mass"), right, "mass", masses)
    lifts = [
        (right / padded, "Chance was taken over the padded row: only real frames can be read."),
        (right * real, "Chance was taken for one frame: an event of more has more of it."),
        (right - chance, "That is a difference: lift is the mass in multiples of chance."),
        (chance, "That is chance: divide the mass by it."),
        (chance / right, "Upside down: mass divided by chance."),
        (right, "That is the mass: divide it by what uniform attention would give."),
    ]
    expect(number(lift, "lift"), right / chance, "lift", lifts)
    return "chance is uniform attention over real frames, and lift says how far above it we are."


@check
def check_evenness(answer: Any) -> str:
    """A function row (Ts,), mask (Ts,) -> entropy as a share of its largest possible value."""
    row, mask = np.array([0.5, 0.25, 0.25, 0.0, 0.0, 0.0]), np.arange(6) < 4
    if (odd := _evenness(answer, row[:3], mask[:3])) is None:
        raise NotYetError("Your function has no answer for a plain row without any zero.")
    bits = -(row[:3] * np.log2(row[:3])).sum()
    plain = [
        (bits, "That is the entropy in bits: divide by that of uniform attention."),
        (bits * np.log(2), "That is the entropy: divide by log of the number of real frames."),
        (-bits / np.log2(3), "The sign: entropy is minus the sum of p log p."),
        (bits / 3, "Divided by the number of frames: divide by its logarithm."),
        (bits / np.log(3), "Two bases: take one logarithm above and below."),
        (bits * np.log(2) / np.log2(3), "Two bases: take one logarithm above and below."),
        (1 - bits / np.log2(3), "That is 1 - evenness: uniform attention should give 1."),
    ]
    expect(odd, bits / np.log2(3), "your share", plain)
    given = _evenness(answer, row, mask)
    if given is None:
        raise NotYetError("A weight of 0 makes NaN, as log 0 is -inf: 0 log 0 counts as 0.")
    padded = [(bits / np.log2(6), "Divided by log of the padded length: only real frames count.")]
    padded += [(bits / np.log2(3), "Divided by log of the frames with weight: count real frames.")]
    expect(given, bits / 2, "your share in a padded row", padded)
    if _evenness(answer, np.array([1.0]), np.array([True])) is None:
        return "any base will do. (One real frame: log 1 is 0, so the library leaves those out.)"
    return "any base will do, zeros count nothing, and padding is not there."


def _evenness(answer: Any, row: Floats, mask: Any) -> float | None:
    """What a function says of a row, numpy or torch as it likes; None for NaN."""
    try:
        with np.errstate(all="ignore"):  # log 0 is told below
            given = run(answer, "your function", row.copy(), mask.copy())
    except NotYetError:
        import torch

        given = run(answer, "your function", torch.tensor(row), torch.tensor(mask))
    value = np.asarray(given.detach() if hasattr(given, "detach") else given)
    if value.dtype.kind == "f" and value.size == 1 and not np.isfinite(value).all():
        return None
    return number(given, "your share")


@check
def check_deletion(extra: Any, reading: Any, whole: float, attended: float, others: Any) -> str:
    """What cutting the attended frames takes beyond chance, and how to read it where it is none.

    ``whole``, ``attended``, ``others`` (draws,) are probabilities of the true class with all
    frames, without the attended ones, and without as many at random.
    """
    random = array(others, "others")
    right = random.mean() - attended
    wrong = [
        (whole - attended, "That is the whole drop: cutting any frames takes something."),
        (whole - random.mean(), "That is the drop by chance: what do the attended take beyond?"),
        (random.min() - attended, "That is the worst draw: compare with the mean of the draws."),
        (random.max() - attended, "That is the best draw: compare with the mean of the draws."),
        (attended, "That is a probability: how far does it fall below a random cut?"),
        ((whole - attended) / (whole - random.mean()), "A ratio: the check is a difference."),
    ]
    expect(number(extra, "extra"), right, "extra", wrong)
    told = choice(reading, "reading", READINGS)
    if told == "wrong place":
        raise NotYetError(
            "reading: the map may be in the right place all the same. Where several frames say "
            "the same, no cut of one of them hurts."
        )
    if told == "explains":
        raise NotYetError("reading: cutting them took no more than cutting others at random.")
    return "beyond chance there is evidence; without it, neither for the map nor against it."
