"""What a trained model looks at: attention maps, their entropy, their mass on planted events.

- maps[(query, source)] (H, Tq, Ts): one utterance's attention rows, each summing to one over the
  source's real frames;
- abar (Ts,): the rows averaged over query time and heads - all that reaches the output, because
  the temporal mean follows attention directly (see :mod:`mmer_lib.fusion.attention`).

A map says where weights lie, not why the model decides: compare it with a planted truth, or remove
the frames and see what changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

from mmer_lib.corpora.base import Corpus
from mmer_lib.corpora.batches import Part
from mmer_lib.errors import InputError
from mmer_lib.fusion import Pair
from mmer_lib.model import Recognizer
from mmer_lib.train import EVAL_BATCH


def attention_maps(model: Recognizer, part: Part, row: int) -> dict[Pair, np.ndarray]:
    """The maps of one utterance (``row`` of the corpus): (query, source) -> (H, Tq, Ts).

    Padding is cut off where the model masks it; pairs with a missing modality are left out.
    """
    return next(_iterate_maps(model, part, np.array([row])))[1]


def attention_frame(model: Recognizer, part: Part, rows: np.ndarray) -> pd.DataFrame:
    """The maps of utterances ``rows`` as a tidy frame, one row a weight.

    Columns: id, query, source, head, query_frame, source_frame, weight.
    """
    pieces = []
    for row, maps in _iterate_maps(model, part, rows):
        for (query, source), weights in maps.items():
            head, tq, ts = np.indices(weights.shape).reshape(3, -1)
            piece = {"head": head, "query_frame": tq, "source_frame": ts, "weight": weights.ravel()}
            where = {"id": _id(part, row), "query": query, "source": source}
            pieces.append(pd.DataFrame(where | piece))
    return pd.concat(pieces, ignore_index=True)


def entropy_frame(model: Recognizer, part: Part, rows: np.ndarray) -> pd.DataFrame:
    """How spread attention is: entropy / log(Ts), 1 = uniform, 0 = one frame; mean over queries.

    Columns: id, query, source, head, entropy. Sources of one frame are left out (log 1 = 0).
    """
    records = []
    for row, maps in _iterate_maps(model, part, rows):
        for (query, source), weights in maps.items():
            if weights.shape[-1] < 2:
                continue
            terms = -weights * np.log(np.maximum(weights, np.finfo(np.float32).tiny))
            share = terms.sum(axis=-1).mean(axis=-1) / np.log(weights.shape[-1])  # (H,)
            where = {"id": _id(part, row), "query": query, "source": source}
            records += [where | {"head": h, "entropy": float(e)} for h, e in enumerate(share)]
    return pd.DataFrame(records, columns=["id", "query", "source", "head", "entropy"])


def event_mass(model: Recognizer, part: Part, rows: np.ndarray | None = None) -> pd.DataFrame:
    """Attention mass on the planted look-up events, next to its chance value.

    For every utterance of ``rows`` (default: the whole part) with an asked key, every map whose
    source is the holder: the part of abar on the ``answer`` frame, and on the mean ``decoy``
    frame. Columns: id, kind, query, source, asked (is the query the asker?), role, mass, chance
    (1 / Ts, the mass under uniform attention), lift (mass / chance).

    Raises ``InputError`` if the corpus has no planted look-ups, or time has no meaning behind the
    encoders.
    """
    events = part.corpus.events
    if events is None or not has_lookups(part.corpus):
        raise InputError(
            f"corpus {part.corpus.name!r} has no planted look-up events: "
            f"use the synthetic corpus with cross_binding or self_binding above 0"
        )
    if model.config.time_mixing:
        raise InputError(
            f"{model.config.name!r} mixes time positions in its encoders, so a map cannot be "
            f"compared with frames: use the controlled flavour or time_mixing=false"
        )
    rows = part.rows if rows is None else rows
    kind = part.corpus.utterances["kind"].to_numpy(dtype=str)
    by_id = dict(iter(events[events["role"].isin(["ask", "answer", "decoy"])].groupby("id")))
    records: list[dict[str, Any]] = []
    for row, maps in _iterate_maps(model, part, rows[kind[rows] != "additive"]):
        planted = by_id.get(_id(part, row))
        if planted is not None:
            for record in _masses(maps, planted):
                records.append({"id": _id(part, row), "kind": kind[row], **record})
    columns = ["id", "kind", "query", "source", "asked", "role", "mass", "chance", "lift"]
    return pd.DataFrame(records, columns=columns)


def has_lookups(corpus: Corpus) -> bool:
    """Does the corpus carry planted look-ups (an ``answer`` event somewhere)?"""
    return corpus.events is not None and "answer" in set(corpus.events["role"])


def _masses(maps: dict[Pair, np.ndarray], planted: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The records of one utterance."""
    asker = set(planted.loc[planted["role"] == "ask", "modality"])
    for (query, source), weights in maps.items():
        abar = weights.mean(axis=(0, 1))  # (Ts,)
        inside = planted[planted["modality"] == source]
        for role in ("answer", "decoy"):
            frames = inside.loc[inside["role"] == role, "frame"].to_numpy(int)
            if len(frames):
                mass, chance = float(abar[frames].mean()), 1 / len(abar)
                yield {"query": query, "source": source, "asked": query in asker, "role": role,
                       "mass": mass, "chance": chance, "lift": mass / chance}  # fmt: skip


@torch.no_grad()
def _iterate_maps(
    model: Recognizer, part: Part, rows: np.ndarray
) -> Iterator[tuple[int, dict[Pair, np.ndarray]]]:
    """Corpus row and maps of every utterance, a batch at a time."""
    model.eval()
    device = next(model.parameters()).device
    lengths = {m: part.corpus.features[m].lengths for m in part.modalities}
    for start in range(0, len(rows), EVAL_BATCH):
        chunk = rows[start : start + EVAL_BATCH]
        weights = model(part.collate(chunk).to(device), need_weights=True).fused.weights
        arrays = {pair: w.float().cpu().numpy() for pair, w in weights.items()}
        for i, row in enumerate(chunk):
            maps = {}
            for (query, source), w in arrays.items():
                tq, ts = w.shape[2:]
                if model.config.masks and not model.config.time_mixing:
                    tq, ts = lengths[query][row], lengths[source][row]
                if tq and ts:
                    maps[query, source] = w[i, :, :tq, :ts]  # (H, Tq, Ts)
            yield int(row), maps


def _id(part: Part, row: int) -> str:
    return str(part.corpus.utterances["id"].iloc[row])
