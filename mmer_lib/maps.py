"""What a trained model looks at: attention maps, their entropy, and where their mass lies.

- maps[(query, source)] (H, Tq, Ts): one utterance's attention rows, each summing to one over the
  source's real frames;
- abar (H, Ts): the rows of every head averaged over query time - all of a map that reaches the
  output, because the temporal mean follows attention directly, each head with values of its own
  (see :mod:`mmer_lib.fusion.attention`). A mean over heads may hide the one head that looks.

Where one attention reads all modalities at once, a map is a block of it, and the blocks of a query
sum to one together. Where another utterance asks, Tq counts its frames.

A map says where weights lie, not why the model decides: compare it with a planted truth
(``event_mass``), let another utterance ask (``partner_swap``), or remove the frames and see what
changes (:mod:`mmer_lib.faithfulness`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmer_lib.corpora.base import Corpus
from mmer_lib.corpora.batches import Part, pair_up
from mmer_lib.errors import InputError
from mmer_lib.fusion import Pair, build_fusion
from mmer_lib.model import ModelConfig, Recognizer
from mmer_lib.train import EVAL_BATCH

WEIGHTS_BYTES = 1 << 26  # of one pair's weights in a batch: 64 MiB
Planted = dict[tuple[str, str], list[int]]  # of an utterance: (modality, role) -> frames


def attention_maps(model: Recognizer, part: Part, row: int) -> dict[Pair, np.ndarray]:
    """The maps of one utterance (``row`` of the corpus): (query, source) -> (H, Tq, Ts).

    Steps are those behind the encoders. What the model masks there is left out: padding, and pairs
    with a missing modality. Without ``masks`` all is data to it, and stays.
    """
    return next(iterate_maps(model, part, np.array([row])))[1]


def attention_frame(model: Recognizer, part: Part, rows: np.ndarray) -> pd.DataFrame:
    """The maps of utterances ``rows`` as a tidy frame, one row a weight.

    Columns: id, query, source, head, query_frame, source_frame, weight.
    """
    pieces, ids = [], _ids(part)
    for row, maps in iterate_maps(model, part, rows):
        for (query, source), weights in maps.items():
            head, tq, ts = np.indices(weights.shape).reshape(3, -1)
            piece = {"head": head, "query_frame": tq, "source_frame": ts, "weight": weights.ravel()}
            where = {"id": ids[row], "query": query, "source": source}
            pieces.append(pd.DataFrame(where | piece))
    columns = ["id", "query", "source", "head", "query_frame", "source_frame", "weight"]
    return pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame(columns=columns)


def entropy_frame(model: Recognizer, part: Part, rows: np.ndarray) -> pd.DataFrame:
    """How spread attention is: entropy / log(Ts), 1 = uniform, 0 = one frame; mean over queries.

    Where one attention reads all modalities at once, it is that within the block, whatever the
    block's mass. Columns: id, query, source, head, entropy. Sources of one frame are left out
    (log 1 = 0).
    """
    records, ids = [], _ids(part)
    for row, maps in iterate_maps(model, part, rows):
        for (query, source), weights in maps.items():
            if weights.shape[-1] < 2:
                continue
            tiny = np.finfo(np.float32).tiny
            rows_of = weights / np.maximum(weights.sum(axis=-1, keepdims=True), tiny)
            terms = -rows_of * np.log(np.maximum(rows_of, tiny))
            share = terms.sum(axis=-1).mean(axis=-1) / np.log(weights.shape[-1])  # (H,)
            where = {"id": ids[row], "query": query, "source": source}
            records += [where | {"head": h, "entropy": float(e)} for h, e in enumerate(share)]
    return pd.DataFrame(records, columns=["id", "query", "source", "head", "entropy"])


def own_mass(model: Recognizer, part: Part, rows: np.ndarray) -> pd.DataFrame:
    """How much of its attention a modality gives to itself, where one attention reads them all.

    A row an utterance, asking modality and head. Columns: id, query, head, present (how many
    modalities it may read and that have frames), mass (of its own block, mean over queries),
    chance (the mass if its scores said nothing: 1 / present, as every modality then gets the
    same; 0 where it may not read itself, 1 where it may read nothing else), lift (mass / chance,
    NaN at chance 0).

    Raises ``InputError`` for a model in which every pair has an attention of its own.
    """
    check_joint(model)
    ids = _ids(part)
    records: list[dict[str, Any]] = []
    for row, maps in iterate_maps(model, part, rows):
        for query in dict.fromkeys(query for query, _ in maps):
            sources = [s for q, s in maps if q == query]
            chance = (query in sources) / len(sources)
            block = maps.get((query, query), np.zeros_like(maps[query, sources[0]]))
            mass = block.sum(axis=-1).mean(axis=-1)  # (H,)
            where = {"id": ids[row], "query": query, "present": len(sources)}
            records += [
                where | {"head": h, "mass": float(x), "chance": chance} for h, x in enumerate(mass)
            ]
    frame = pd.DataFrame(records, columns=["id", "query", "present", "head", "mass", "chance"])
    return frame.assign(lift=frame["mass"] / frame["chance"].where(frame["chance"] > 0))


def check_joint(model: Recognizer) -> None:
    """Raise ``InputError`` unless all that a modality reads sums to one together."""
    check_maps(model)
    for query, total in _sum_reads(model).items():
        if abs(total - 1) > 1e-3:
            raise InputError(
                f"{model.config.name!r}: what {query} reads sums to {total:.3g}, not 1, as it has "
                f"more than one attention. A share of its own needs one over all: joint"
            )


def _sum_reads(model: Recognizer) -> dict[str, float]:
    """What a modality reads of all its sources: 1 where they share one softmax."""
    total: dict[str, float] = {}
    for (query, _), weights in _probe(model).items():
        total[query] = total.get(query, 0.0) + float(weights[0, 0, 0].sum())
    return total


def _read_together(model: Recognizer) -> set[str]:
    """The modalities that read several sources at once, so that the blocks share their mass."""
    sources = [query for query, _ in _probe(model)]
    total = _sum_reads(model)
    return {q for q in sources if sources.count(q) > 1 and abs(total[q] - 1) <= 1e-3}


def partner_swap(
    model: Recognizer, part: Part, rows: np.ndarray | None = None, seed: int = 0
) -> pd.DataFrame:
    """How far the maps move when another utterance asks: total variation of abar, in [0, 1].

    0: what is read does not depend on who asks. The partner is drawn among those of ``rows``
    (default: the whole part) that have the same modalities; a row without any is left out. The
    model's own sequences ask first, also where ``query=shuffled`` trained it otherwise.
    Columns: id, query, source, head, moved.

    Raises ``InputError`` for a model without a query that could be replaced.
    """
    check_query(model.config)
    rows = part.rows if rows is None else rows
    own, other = swap_askers(part, rows, seed)
    records, ids = [], _ids(part)
    both = zip(
        iterate_maps(model, own, own.rows), iterate_maps(model, other, own.rows), strict=True
    )
    for (row, before), (_, after) in both:
        for (query, source), weights in before.items():
            change = weights.mean(axis=1) - after[query, source].mean(axis=1)  # (H, Ts)
            where = {"id": ids[row], "query": query, "source": source}
            moved = 0.5 * abs(change).sum(axis=1)  # (H,)
            records += [where | {"head": h, "moved": float(x)} for h, x in enumerate(moved)]
    return pd.DataFrame(records, columns=["id", "query", "source", "head", "moved"])


def swap_askers(part: Part, rows: np.ndarray, seed: int) -> tuple[Part, Part]:
    """``rows`` of a part as their own sequences ask, and as a partner's ask in their place.

    Rows that find no partner with the same modalities are in neither. Raises ``InputError`` if
    none is left.
    """
    partners = pair_up(part.corpus, rows, seed, alike=part.modalities)
    paired = rows[partners[rows] != rows]
    if not len(paired):
        raise InputError(f"corpus {part.corpus.name!r}: no two utterances have the same modalities")
    return (
        replace(part, rows=paired, partners=None),
        replace(part, rows=paired, partners=partners),
    )


def check_query(config: ModelConfig) -> None:
    """Raise ``InputError`` for a model without a query that another utterance could ask."""
    try:
        with torch.device("meta"):
            build_fusion(config.fusion, replace(config.for_fusion(), query="shuffled"))
    except InputError as error:
        raise InputError(f"{config.name!r}: nobody else can ask, as {error}") from error


def check_time(config: ModelConfig) -> None:
    """Raise ``InputError`` for a model behind whose encoders a step is no frame."""
    if config.time_mixing:
        raise InputError(
            f"{config.name!r} mixes time positions in its encoders, so a map cannot be "
            f"compared with frames: use the controlled flavour or time_mixing=false"
        )


def event_mass(model: Recognizer, part: Part, rows: np.ndarray | None = None) -> pd.DataFrame:
    """Attention mass on the planted look-up events, next to its chance value.

    For every utterance of ``rows`` (default: the whole part) with an asked key, every map whose
    source is the holder: the part of abar on the ``answer`` frame, and on the mean ``decoy``
    frame. Columns: id, kind, query, source, asked (is the query the asker?), role, mass (mean over
    heads), chance (1 / Ts, the mass under uniform attention; 1 / (n Ts) where one attention reads n
    modalities at once), lift (mass / chance), best_head, best_head_mass.

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
    check_time(model.config)
    rows = part.rows if rows is None else rows
    kind = part.corpus.utterances["kind"].to_numpy(dtype=str)
    planted, ids = _planted(events), _ids(part)
    together = _read_together(model)
    records: list[dict[str, Any]] = []
    for row, maps in iterate_maps(model, part, rows[kind[rows] != "additive"]):
        if ids[row] in planted:
            for record in _masses(maps, planted[ids[row]], together):
                records.append({"id": ids[row], "kind": kind[row], **record})
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


def _planted(events: pd.DataFrame) -> dict[str, Planted]:
    """The frames of every utterance's look-up, by its id."""
    found: dict[str, Planted] = {}
    columns = (events[name].tolist() for name in ("id", "modality", "role", "frame"))
    for name, modality, role, frame in zip(*columns, strict=True):
        if role in ("ask", "answer", "decoy"):
            found.setdefault(name, {}).setdefault((modality, role), []).append(int(frame))
    return found


def _masses(
    maps: dict[Pair, np.ndarray], planted: Planted, together: set[str]
) -> Iterator[dict[str, Any]]:
    """The records of one utterance; ``heads`` (H,) is the mass of every head."""
    asker = {modality for modality, role in planted if role == "ask"}
    for (query, source), weights in maps.items():
        abar = weights.mean(axis=1)  # (H, Ts)
        blocks = sum(q == query for q, _ in maps) if query in together else 1
        for role in ("answer", "decoy"):
            frames = planted.get((source, role))
            if frames:
                heads = abar[:, frames].mean(axis=1)  # (H,)
                mass, chance = float(heads.mean()), 1 / (blocks * abar.shape[1])
                yield {"query": query, "source": source, "asked": query in asker, "role": role,
                       "mass": mass, "chance": chance, "lift": mass / chance,
                       "heads": heads}  # fmt: skip


def gives_maps(model: Recognizer) -> bool:
    """Does the fusion attend at all, so that there are maps to look at?"""
    return bool(_probe(model))


def check_maps(model: Recognizer) -> None:
    """Raise ``InputError`` for a model without attention."""
    if not gives_maps(model):
        raise InputError(
            f"{model.config.name!r}: {model.config.fusion} has no attention maps to look at"
        )


@torch.no_grad()
def _probe(model: Recognizer) -> dict[Pair, Tensor]:
    """The weights (1, H, 2, 2) of an utterance with two frames of zeros a modality."""
    parameter = next(model.parameters())
    frames = parameter.new_zeros(1, 2, model.config.width)
    sequences = dict.fromkeys(model.config.modalities, frames)
    masks = {m: torch.ones(1, 2, dtype=torch.bool, device=frames.device) for m in sequences}
    model.eval()
    weights: dict[Pair, Tensor] = model.fusion(sequences, masks, need_weights=True).weights
    return weights


@torch.no_grad()
def iterate_maps(
    model: Recognizer, part: Part, rows: np.ndarray
) -> Iterator[tuple[int, dict[Pair, np.ndarray]]]:
    """Corpus row and maps of every utterance, a batch at a time.

    Raises ``InputError`` for a fusion without attention.
    """
    model.eval()
    check_maps(model)
    device = next(model.parameters()).device
    size = _batch_size(model, part, rows)
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        batch = part.collate(chunk).to(device)
        output = model(batch, need_weights=True)
        asking = output.masks if batch.partner is None else model.encode(batch.partner)[1]
        asks, steps = _count_steps(asking), _count_steps(output.masks)
        arrays = {pair: w.float().cpu().numpy() for pair, w in output.fused.weights.items()}
        for i, row in enumerate(chunk):
            maps = {
                (query, source): w[i, :, : asks[query][i], : steps[source][i]]  # (H, Tq, Ts)
                for (query, source), w in arrays.items()
                if asks[query][i] and steps[source][i]
            }
            yield int(row), maps


def _count_steps(masks: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Steps that are data, (B,) a modality."""
    return {m: mask.sum(dim=1).cpu().numpy() for m, mask in masks.items()}


def _batch_size(model: Recognizer, part: Part, rows: np.ndarray) -> int:
    """Utterances at a time, so that the weights (B, H, Tq, Ts) of a pair stay small."""
    fixed = part.pad_to or {}
    read = rows if part.partners is None else np.concatenate([rows, part.partners[rows]])
    longest = max(
        fixed.get(m, int(part.corpus.features[m].lengths[read].max(initial=1)))
        for m in part.modalities
    )
    one = model.config.heads * longest**2 * model.config.dtype.itemsize  # bytes, at most
    return max(1, min(EVAL_BATCH, WEIGHTS_BYTES // one))


def _ids(part: Part) -> list[str]:
    """The ids of the corpus, by row: looked up at once, as pandas takes its time for each."""
    return [str(name) for name in part.corpus.utterances["id"]]
