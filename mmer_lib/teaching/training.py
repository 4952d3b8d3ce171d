"""Checks of notebook 03: the size of attention, the epoch that is kept, who can look up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from mmer_lib.errors import unknown
from mmer_lib.teaching.base import NotYetError, array, check, expect, number

ASKING = ("cross", "selfcross")  # fusions in which one modality chooses what is read in another


@check
def check_attention_size(
    one: Any, surplus: Any, share: Any, width: int = 120, heads: int = 6, whole: int = 1_820_132
) -> str:
    """Parameters of one attention, how many more cross-AVT has than self-AVT, and their share.

    An attention has four linear maps D -> D with bias; ``whole`` counts all of cross-AVT.
    """
    size = 4 * width * (width + 1)
    sizes = [
        (4 * width**2, "The biases are missing: a map D -> D has D x D weights and D biases."),
        (3 * width * (width + 1), "Queries, keys, values - and the output has a map of its own."),
        (3 * width**2, "The output's map and the biases are missing."),
        (heads * size, "Heads share the width, D / H each: more heads cost no parameters."),
        (size // heads, "All heads together have the four maps D -> D: do not divide by H."),
        (width * (width + 1), "That is one of the four maps."),
    ]
    expect(number(one, "one"), size, "one", sizes, rounding=0)
    counts = [
        (6 * size, "That is all of cross-AVT's: self-AVT has attentions, too."),
        (2 * size, "Twice as many, yes, but of how many? Count the pairs who asks whom."),
        (size, "Each of three modalities asks two others: how many pairs, and how many selves?"),
        (9 * size, "Nobody asks themselves in cross-attention: ordered pairs of two."),
        (0, "One attention for each ordered pair of two modalities, or one for each modality."),
        (3, "That is how many attentions: how many parameters do they have?"),
    ]
    expect(number(surplus, "surplus"), 3 * size, "surplus", counts, rounding=0)
    parts = [
        (3 * size / (whole - 3 * size), "That is how much larger cross-AVT is, not its share."),
        (3 * size / whole, "That is the surplus over self-AVT: cross-AVT has six attentions."),
        (6 * size / (whole - 6 * size), "Divide by the whole model, its attention included."),
        (6 * size / (whole - 3 * size), "Divide by cross-AVT's parameters, not by self-AVT's."),
    ]
    expect(number(share, "share"), 6 * size / whole, "share", parts)
    return "heads cost nothing, pairs do; and most of both models is not the attention under study."


@check
def check_kept_epoch(reported: Any, bought: Any, dev: Any, test: Any) -> str:
    """The score that early stopping reports, and what choosing the epoch on test would add.

    ``dev`` and ``test`` hold a score an epoch; an epoch is kept if it is better than all before.
    """
    dev, test = array(dev, "dev"), array(test, "test")
    kept, last = int(dev.argmax()), len(dev) - 1 - int(dev[::-1].argmax())
    scores = [
        (dev.max(), "That is the development score of the kept epoch: report its test score."),
        (test.max(), "That is the best test score: test had no say in which epoch is kept."),
        (test[last], "A tie: the later epoch is not better, so the earlier one stays."),
        (test[-1], "That is the last epoch: the one with the best development score is kept."),
        (test.mean(), "That is a mean over epochs: one epoch is kept."),
    ]
    expect(number(reported, "reported"), test[kept], "reported", scores)
    gains = [
        (test.max(), "That is the score that would be reported: by how much is it higher?"),
        (test.max() - dev.max(), "Compare test with test: the kept epoch has a test score."),
        (dev.max() - test[kept], "That is dev against test in one epoch: both were not chosen."),
        (test.max() - test[-1], "Compare with the epoch that is kept, not with the last."),
        (0.0, "Is the epoch that is best on dev the one that is best on test?"),
    ]
    expect(number(bought, "bought"), test.max() - test[kept], "bought", gains)
    return "what is bought is luck: the best of several draws, chosen by the draw itself."


@check
def check_lookup(able: Any, names: Iterable[str], asks: str = "text", holds: str = "audio") -> str:
    """Which configurations ``names`` can use a look-up in which one modality asks another."""
    known = list(names)
    given = _read_names(able, known)
    for name in known:
        fusion, letters = name.split("-")[:2]
        both = {asks[0].upper(), holds[0].upper()} <= set(letters)
        if name in given and not both:
            raise NotYetError(f"{name} does not get {asks} and {holds}: one of them is not there.")
        if name in given and fusion not in ASKING:
            raise NotYetError(
                f"{name}: {asks} and {holds} are both there, but {holds} is averaged with weights "
                f"that {holds} alone has chosen, before the two meet."
            )
        if name not in given and both and fusion in ASKING:
            raise NotYetError(f"{name} is missing: in it {asks} chooses what is read of {holds}.")
    return f"{asks} must choose the weights by which {holds} is read, and only these let it."


def _read_names(given: Any, known: list[str]) -> set[str]:
    """A list, tuple, set or array of names as a set, or ``NotYetError``."""
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if not isinstance(given, list | tuple | set | frozenset):
        raise NotYetError(f'able should be a list of names such as ["{known[0]}"].')
    for name in given:
        if name not in known:
            raise NotYetError(f"able: {unknown('configuration', name, known)}.")
    return set(given)
