"""What a trained model looks at: attention maps, their entropy, their mass on planted events.

- maps[(query, source)] (H, Tq, Ts): one utterance's attention rows, each summing to one over the
  source's real frames;
- abar (H, Ts): the rows of every head averaged over query time - all of a map that reaches the
  output, because the temporal mean follows attention directly, each head with values of its own
  (see :mod:`mmer_lib.fusion.attention`). A mean over heads may hide the one head that looks.

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

WEIGHTS_BYTES = 1 << 26  # of one pair's weights in a batch: 64 MiB


def attention_maps(model: Recognizer, part: Part, row: int) -> dict[Pair, np.ndarray]:
    """The maps of one utterance (``row`` of the corpus): (query, source) -> (H, Tq, Ts).

    Steps are those behind the encoders. What the model masks there is left out: padding, and pairs
    with a missing modality. Without ``masks`` all is data to it, and stays.
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
    columns = ["id", "query", "source", "head", "query_frame", "source_frame", "weight"]
    return pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame(columns=columns)


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
    frame. Columns: id, kind, query, source, asked (is the query the asker?), role, mass (mean over
    heads), chance (1 / Ts, the mass under uniform attention), lift (mass / chance), best_head,
    best_head_mass.

    ``best_head`` is, for each query and source, the head whose mass on answers exceeds that on
    decoys most, on average over these utterances. As it is chosen by them, compare its mass with
    that of an untrained model's best head, not with chance.

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
    columns = ["id", "kind", "query", "source", "asked", "role", "mass", "chance", "lift", "heads"]
    return _add_best_head(pd.DataFrame(records, columns=columns))


def _add_best_head(frame: pd.DataFrame) -> pd.DataFrame:
    """The best head of each pair and its mass, in place of the column ``heads``: (H,) a row."""
    if frame.empty:
        return frame.drop(columns="heads").assign(best_head=[], best_head_mass=[])
    each = np.stack(list(frame.pop("heads")))  # (n, H)
    signed = pd.DataFrame(each * np.where(frame["role"] == "answer", 1, -1)[:, None])
    gain = signed.groupby([frame["query"], frame["source"]]).transform("mean")  # (n, H)
    best = gain.to_numpy().argmax(axis=1)
    return frame.assign(best_head=best, best_head_mass=each[np.arange(len(frame)), best])


def has_lookups(corpus: Corpus) -> bool:
    """Does the corpus carry planted look-ups (an ``answer`` event somewhere)?"""
    return corpus.events is not None and "answer" in set(corpus.events["role"])


def _masses(maps: dict[Pair, np.ndarray], planted: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The records of one utterance; ``heads`` (H,) is the mass of every head."""
    asker = set(planted.loc[planted["role"] == "ask", "modality"])
    for (query, source), weights in maps.items():
        abar = weights.mean(axis=1)  # (H, Ts)
        inside = planted[planted["modality"] == source]
        for role in ("answer", "decoy"):
            frames = inside.loc[inside["role"] == role, "frame"].to_numpy(int)
            if len(frames):
                heads = abar[:, frames].mean(axis=1)  # (H,)
                mass, chance = float(heads.mean()), 1 / abar.shape[1]
                yield {"query": query, "source": source, "asked": query in asker, "role": role,
                       "mass": mass, "chance": chance, "lift": mass / chance,
                       "heads": heads}  # fmt: skip


@torch.no_grad()
def _iterate_maps(
    model: Recognizer, part: Part, rows: np.ndarray
) -> Iterator[tuple[int, dict[Pair, np.ndarray]]]:
    """Corpus row and maps of every utterance, a batch at a time."""
    model.eval()
    device = next(model.parameters()).device
    size = _batch_size(model, part, rows)
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        output = model(part.collate(chunk).to(device), need_weights=True)
        steps = {m: mask.sum(dim=1).cpu().numpy() for m, mask in output.masks.items()}  # (B,)
        arrays = {pair: w.float().cpu().numpy() for pair, w in output.fused.weights.items()}
        for i, row in enumerate(chunk):
            maps = {
                (query, source): w[i, :, : steps[query][i], : steps[source][i]]  # (H, Tq, Ts)
                for (query, source), w in arrays.items()
                if steps[query][i] and steps[source][i]
            }
            yield int(row), maps


def _batch_size(model: Recognizer, part: Part, rows: np.ndarray) -> int:
    """Utterances at a time, so that the weights (B, H, Tq, Ts) of a pair stay small."""
    fixed = part.pad_to or {}
    longest = max(
        fixed.get(m, int(part.corpus.features[m].lengths[rows].max(initial=1)))
        for m in part.modalities
    )
    one = model.config.heads * longest**2 * model.config.dtype.itemsize  # bytes, at most
    return max(1, min(EVAL_BATCH, WEIGHTS_BYTES // one))


def _id(part: Part, row: int) -> str:
    return str(part.corpus.utterances["id"].iloc[row])
