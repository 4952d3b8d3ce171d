"""Checks of notebooks 00 and 01: padding, masks, folds, and what chance is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmer_lib.teaching.base import NotYetError, array, check, expect, number, run

if TYPE_CHECKING:
    from torch import Tensor

    from mmer_lib.corpora.folds import Fold


@check
def check_padding(shape: Any, padding: Any, lengths: Sequence[int], width: int) -> str:
    """The shape (B, T, F) of a padded batch of sequences, and how many of its frames are not real.

    ``lengths`` (B,) are the real frames, ``width`` is F.
    """
    b, t, real = len(lengths), max(lengths), sum(lengths)
    shapes = [
        ((b, width, t), "That is (B, F, T): time comes second here, features last."),
        ((t, b, width), "That is (T, B, F): the batch comes first here."),
        ((b, t), "That is the shape of the mask, (B, T): a frame is a row of F numbers, not one."),
        ((b, real, width), "T is not the sum: sequences stand beside each other, not in a row."),
        ((b, min(lengths), width), "That T would cut frames off: it is that of the longest."),
    ]
    expect(array(shape, "shape"), (b, t, width), "shape", shapes, rounding=0)
    counts = [
        (real, "That counts the real frames, where the mask is true."),
        ((b * t - real) * width, "That counts padded numbers, F a frame: count frames."),
        (t - min(lengths), "That is what the shortest sequence lacks: add up what each lacks."),
        (b * t, "That is all frames of the batch, real and padded."),
    ]
    expect(number(padding, "padding"), b * t - real, "padding", counts, rounding=0)
    return f"all are padded to the longest, {t} frames; the mask (B, T) is false at {b * t - real}."


@check
def check_shared_speakers(shared: Any, speakers: Any, fold: Fold) -> str:
    """How many speakers the learning part (train and dev) of ``fold`` shares with its test part.

    ``speakers`` (n,) names the speaker of every utterance.
    """
    who = np.asarray(speakers)
    train, dev, test = (set(who[rows].tolist()) for rows in (fold.train, fold.dev, fold.test))
    both = (train | dev) & test
    heard = sum(name in both for name in who[fold.test].tolist())
    wrong = [
        (len(train & test), "That leaves out dev: it chooses the epoch, so the model knows it."),
        (len(dev & test), "That leaves out train: the learning part is train and dev together."),
        (heard, "That counts utterances of known speakers: count each speaker once."),
        (len((train | dev) - test), "That is who is never tested: count who is in both parts."),
        (len(train | dev | test), "That is every speaker of the fold: who is in both parts?"),
        (len(test), "That is every speaker of the test part: which were learned from?"),
        (
            len({*fold.train, *fold.dev} & {*fold.test}),
            "No utterance is in two parts, a speaker may be: turn rows into speakers, who[rows].",
        ),
        (
            sum(name in train for name in who[fold.test].tolist()),
            "That counts utterances, and leaves out dev: count each speaker once.",
        ),
    ]
    expect(number(shared, "shared"), len(both), "shared", wrong, rounding=0)
    return (
        f"{len(both)} of the {len(test)} speakers that are tested were learned from, so this "
        f"score hardly speaks of new speakers."
    )


@check
def check_masked_mean(answer: Any) -> str:
    """A function (B, T, F), (B, T) mask -> (B, F): the mean over real frames."""
    x, mask = _padded_batch()
    given = array(run(answer, "your function", x, mask), "what your function returns")
    if not x.equal(_padded_batch()[0]):
        raise NotYetError("Your function changes the frames it was given: use x * weight instead.")
    kept, padding = x * mask.unsqueeze(-1), ~mask.unsqueeze(-1)
    alone = x[mask].mean(dim=0).expand(len(x), -1)
    wrong = [
        (x.mean(dim=1), "That is the mean over padding, too: what stands there is no data."),
        (kept.mean(dim=1), "Padding is zeroed but still counted: divide by the real frames."),
        (kept.sum(dim=1), "That is a sum over real frames: divide it by their number."),
        (x.mean(dim=2), "That averages over features, dim=2: average over time, dim=1."),
        (x.mean(dim=0), "That averages over the batch, dim=0: average over time, dim=1."),
        (
            (x * padding).sum(dim=1) / padding.sum(dim=1),
            "The mask is used the wrong way round: true means data.",
        ),
        (alone, "All real frames of the batch are averaged together: keep utterances apart."),
        (
            kept.sum(dim=1) / mask.sum(),
            "Divided by the real frames of the whole batch: mask.sum(dim=1) counts each alone.",
        ),
    ]
    right = kept.sum(dim=1) / mask.sum(dim=1, keepdim=True)
    expect(given, right, "your mean", wrong, rounding=1e-4)
    return "each utterance is averaged over its own frames, and junk in the padding is not read."


@check
def check_chance(plain: Any, balanced: Any, counts: Mapping[str, int]) -> str:
    """Accuracy and balanced accuracy of always naming the largest class; ``counts`` a class."""
    sizes = np.array(list(counts.values()), dtype=float)
    shares, even = sizes / sizes.sum(), 1 / len(sizes)
    plains = [
        (even, "That is 1 / C, for guessing evenly: the largest class is larger than that."),
        (
            (shares**2).sum(),
            "That is for guessing by the shares: here the largest is always named.",
        ),
        (sizes.max(), "That is a count: divide it by the number of all utterances."),
    ]
    expect(number(plain, "plain"), shares.max(), "plain", plains)
    others = [
        (shares.max(), "That is plain accuracy again: balanced accuracy is the mean recall."),
        (1.0, "That is the recall of the largest class alone: the others count as much."),
        (0.0, "The largest class is always found, so its recall is 1: average the recalls."),
        (
            shares.max() * even,
            "The recall of the largest class is 1, not its share: all are found.",
        ),
    ]
    expect(number(balanced, "balanced"), even, "balanced", others)
    return (
        f"one class is always found and {len(sizes) - 1} never, so the mean recall is "
        f"1/{len(sizes)} whatever their sizes; plain accuracy pays for naming the largest."
    )


def _padded_batch() -> tuple[Tensor, Tensor]:
    """Frames (3, 5, 2) with junk in the padding, and the mask (3, 5) of 4, 2 and 3 real ones."""
    import torch

    x = 3 * torch.arange(30, dtype=torch.float64).reshape(3, 5, 2).sin()
    mask = torch.arange(5)[None] < torch.tensor([4, 2, 3])[:, None]
    x[~mask] = 1000.0
    return x, mask
