"""Checks of notebook 06: reading two verdicts, own-block mass, main effect and interaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mmer_lib.teaching.base import NotYetError, array, check, choice, expect, number

READINGS = ("query pays", "pays for another reason", "self pays", "not known")


@check
def check_controls(reading: Any, corpora: pd.DataFrame) -> str:
    """What follows from two comparisons in each of some corpora, in words of ``READINGS``.

    ``corpora`` has a row a corpus: ``cross - self`` in points and its ``verdict``, and the verdict
    on the own against a shuffled query, ``verdict on the query``.
    """
    if not isinstance(reading, Mapping):
        raise NotYetError(f'reading should be a dict such as {{"{corpora.index[0]}": ...}}.')
    for name, row in corpora.iterrows():
        if name not in reading:
            raise NotYetError(f"reading has no answer for {name}.")
        told = choice(reading[name], f"reading of {name}", READINGS)
        if told != _read_verdicts(row):
            raise NotYetError(f"{name}: {_say_misread(row)}")
    return "the first verdict says whether it pays, the second whether the query is why."


def _read_verdicts(row: pd.Series[Any]) -> str:
    """What follows from one row of ``corpora``."""
    if not row["verdict"].startswith("different"):
        return "not known"
    if row["cross - self"] < 0:
        return "self pays"
    query = row["verdict on the query"]
    known = {"different": "query pays", "equivalent": "pays for another reason"}
    return known.get(query, "not known")


def _say_misread(row: pd.Series[Any]) -> str:
    """How to read one row of ``corpora``."""
    return {
        "not known": "a verdict that is inconclusive says nothing, whatever the size of the "
        "difference: neither that something pays nor that it does not.",
        "self pays": "the first column comes first, with its sign: here self-attention is ahead, "
        "so nothing about the query can make cross-attention pay.",
        "query pays": "cross-attention is ahead, and a stranger's query costs it something: the "
        "own query is part of why.",
        "pays for another reason": "cross-attention is ahead, but look at the second column, too: "
        "a stranger's query does as well, so the own one is not why.",
    }[_read_verdicts(row)]


@check
def check_own_mass(mass: Any, chance: Any, weights: Any, own: int = 2, modalities: int = 2) -> str:
    """The share of attention that a modality spends on itself, and its value by chance.

    ``weights`` (H, Tq, Ts): the queries are of one modality, whose ``own`` frames come first in the
    source, too; ``modalities`` share it.
    """
    w = array(weights, "weights")
    block = w[..., :own].sum(axis=-1)  # (H, Tq)
    right = block.mean()
    masses = [
        (w[..., :own].mean(), "That is the mean over the block's frames: mass is their sum."),
        (block.sum(axis=-1).mean(), "Queries are added up: average over them, as over heads."),
        (block.sum(axis=0).mean(), "Heads are added up: average over them, as over queries."),
        (block.sum(), "Heads and queries are added up: average over both."),
        (1 - right, "That is the other block: audio's own frames are the first ones."),
        *((one.mean(), f"That is head {h} alone.") for h, one in enumerate(block, start=1)),
    ]
    expect(number(mass, "mass"), right, "mass", masses)
    chances = [
        (own / w.shape[-1], "That is its share of the frames: the library takes their number out."),
        (1 / w.shape[-1], "That is chance for one frame, not for a modality."),
        (1 / (modalities + 1), "Count the modalities of this source: it is not the notebook's."),
        (right, "That is what the weights say: chance is what they would, were scores all equal."),
    ]
    expect(number(chance, "chance"), 1 / modalities, "chance", chances)
    return "without a reason in the scores every modality gets the same, however long it is."


@check
def check_main_effect(asks: Any, interaction: Any, score: Mapping[tuple[str, str], float]) -> str:
    """The main effect of asking another, and how it changes from "sp" to "concat".

    ``score`` has the mean of each of four models by (who asks: own, other; pooling: sp, concat).
    """
    sp, concat = (score["other", pool] - score["own", pool] for pool in ("sp", "concat"))
    pooling = (score["own", "concat"] - score["own", "sp"]) / 2
    pooling += (score["other", "concat"] - score["other", "sp"]) / 2
    other = (score["other", "sp"] + score["other", "concat"]) / 2
    effects = [
        (other, "That is the mean score where another is asked: less that where none is."),
        (sp, "That is the effect with sp alone, a simple one: average over both poolings."),
        (concat, "That is the effect with concat alone, a simple one: average over both poolings."),
        (sp + concat, "The two effects are added: a main effect is their mean."),
        (pooling, "That is the effect of pooling: compare other with own, within a pooling."),
        (-(sp + concat) / 2, "The wrong way round: asking another, less asking oneself."),
    ]
    expect(number(asks, "asks"), (sp + concat) / 2, "asks", effects)
    changes = [
        (sp - concat, "The wrong way round: the effect with concat, less that with sp."),
        ((concat - sp) / 2, "Halved: here an interaction is the whole difference of two effects."),
        ((sp - concat) / 2, "Halved, and the wrong way round: the effect with concat less sp's."),
        (pooling, "That is the effect of pooling: how does it change the effect of asking?"),
    ]
    expect(number(interaction, "interaction"), concat - sp, "interaction", changes)
    return "a main effect is a mean over cells, and the interaction says how far they disagree."
