"""The attention explorer: who asks whom, in which head, and what one step of the query reads.

Data for the book, a few utterances x models x pairs x heads:

    {"heads": most heads of any map, "modalities": [...], "utterances": [{"id", "label", "maps":
        {model: {"axes": {modality: axis}, "pairs": {"text>audio": map}}}}]}

An axis is ``{"unit", "n", "real", "stride", "rate", "words", "events": [[frame, role], ...]}``: n
cells of ``stride`` steps each. A map has ``weights`` (H, Tq, Ts), and with the mean of all heads
first ``entropy`` and ``padding`` (1 + H, Tq), the latter None where it cannot be told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmer_lib import maps, plots
from mmer_lib.corpora import Corpus
from mmer_lib.corpora.batches import Part
from mmer_lib.errors import InputError
from mmer_lib.features.text import words as find_words
from mmer_lib.fusion import Pair
from mmer_lib.model import Recognizer
from mmer_lib.plots.reading import Steps, padding_mass, row_entropy
from mmer_lib.widgets.base import (
    LARGEST,
    Book,
    Drawn,
    Explorer,
    chooser,
    explore,
    pack,
    whole_slider,
)

AVERAGE = "mean of heads"
CELLS = (64, 48, 32)  # a map has at most so many along an axis in the book; longer ones are binned
FEWER = (32, 24, 16)  # and so many for one utterance alone


@dataclass(frozen=True)
class Look:
    """One map (H, Tq, Ts) and what its axes are."""

    weights: np.ndarray
    query: Steps
    source: Steps

    def head(self, number: int) -> np.ndarray:
        """(Tq, Ts) of head 1 .. H; 0: their mean."""
        mean: np.ndarray = self.weights.mean(axis=0)
        return mean if number == 0 else self.weights[number - 1]


Looks = Mapping[tuple[int, str], Mapping[Pair, Look]]  # (place of the utterance, model) -> maps


def attention_explorer(
    trained: Mapping[str, tuple[Recognizer, Part]],
    rows: Sequence[int] | np.ndarray,
    pair: Pair = ("text", "audio"),
) -> Explorer:
    """Choose utterance, model, head, query and source, and a step of the query to read its row.

    ``trained`` is name -> (model, the part it reads), all of one corpus; ``rows`` are rows of it.
    Where a model has no such pair, the nearest it has is shown. Controls: ``e2e-utterance``,
    ``-model``, ``-head``, ``-query``, ``-source``, ``-step``; the sentence ``e2e-attention``.
    Raises ``InputError`` for no model, no utterance, or a model without attention.
    """
    if not trained or not len(rows):
        raise InputError("attention_explorer: give at least one model and one row of the corpus")
    corpus = next(iter(trained.values()))[1].corpus
    looks = {
        (i, name): look_at(model, part, int(row))
        for i, row in enumerate(rows)
        for name, (model, part) in trained.items()
    }
    names = [_label(corpus, int(row)) for row in rows]
    controls = _controls(looks, names, pair)

    def settle(moved: str) -> None:
        _settle(controls, looks, moved)

    def draw(**chosen: Any) -> Drawn:
        return _draw(looks, names, **chosen)

    settle("query")
    data = _fit(looks, [(str(corpus.utterances["id"].iloc[int(row)]), n)
                        for row, n in zip(rows, names, strict=True)])  # fmt: skip
    data["opens"] = {name: controls[name].value for name in ("model", "query", "source")}
    text = (
        "A map of who reads what over real time, the row of one step of the query, and beside it "
        "how spread each row is and how much of it falls on padding."
    )
    book = Book("attention", "Attention explorer", text, data)
    return explore(controls, draw, "attention", book, settle)


def read_map(
    model: Recognizer, part: Part, row: int, query: str, source: str, head: int = 0
) -> dict[str, Any]:
    """What ``plots.attention_reading`` draws of one utterance: the map and its axes.

    ``head`` is 1 .. H, or 0 for their mean. Raises ``InputError`` for a pair that is not there.
    """
    looks = look_at(model, part, row)
    if (query, source) not in looks:
        there = ", ".join(f"{q} asks {s}" for q, s in looks)
        raise InputError(f"{model.config.name!r}, row {row}: no map of {query} asks {source}; "
                         f"it has {there or 'none'}")  # fmt: skip
    look = looks[query, source]
    if not 0 <= head <= len(look.weights):
        raise InputError(f"head={head}: 1 .. {len(look.weights)}, or 0 for their mean, expected")
    return {"weights": look.head(head), "query": look.query, "source": look.source}


def look_at(model: Recognizer, part: Part, row: int) -> dict[Pair, Look]:
    """All maps of the utterance in ``row`` of the corpus, with their axes."""

    def axis(modality: str, n: int) -> Steps:
        return _steps(model, part, row, modality, n)

    return {
        (query, source): Look(w, axis(query, w.shape[1]), axis(source, w.shape[2]))
        for (query, source), w in maps.attention_maps(model, part, row).items()
    }


def _steps(model: Recognizer, part: Part, row: int, modality: str, n: int) -> Steps:
    """The axis of ``n`` steps of a modality behind its encoder."""
    if model.config.encoder(modality).front == "mix":
        return Steps(modality, None)
    corpus = part.corpus
    real = min(n, int(corpus.features[modality].lengths[row]))
    rate = corpus.recipe.get(modality, {}).get("rate")
    words = _read_words(corpus, row) if modality == "text" else ()
    events = plots.style.as_events(None)
    if corpus.events is not None:
        mine = corpus.events[corpus.events["id"] == corpus.utterances["id"].iloc[row]]
        events = plots.style.events_of(mine[mine["frame"] < real], modality)
    return Steps(modality, real, rate, words if len(words) == real else (), events)


def _read_words(corpus: Corpus, row: int) -> tuple[str, ...]:
    texts = corpus.known("text")
    return () if texts is None else tuple(texts[row][a:b] for a, b in find_words(texts[row]))


def _label(corpus: Corpus, row: int) -> str:
    return f"{corpus.utterances['id'].iloc[row]}: {corpus.classes[corpus.labels[row]]}"


def _modalities(looks: Looks) -> list[str]:
    named = {m for pairs in looks.values() for pair in pairs for m in pair}
    return [m for m in plots.MODALITY_COLOURS if m in named]


def _controls(looks: Looks, names: list[str], pair: Pair) -> dict[str, Any]:
    models = list(dict.fromkeys(name for _, name in looks))
    heads = max((len(x.weights) for pairs in looks.values() for x in pairs.values()), default=0)
    there = _modalities(looks)
    if not there:
        raise InputError("attention_explorer: none of these utterances has a map in any model")
    opens = pair if set(pair) <= set(there) else (there[0], there[0])
    return {
        "utterance": chooser("utterance", [(name, i) for i, name in enumerate(names)]),
        "model": chooser("model", models, models[-1]),
        "head": chooser("head", [(AVERAGE, 0), *((f"head {h}", h) for h in range(1, heads + 1))]),
        "query": chooser("query: who asks", there, opens[0]),
        "source": chooser("source: who is read", there, opens[1]),
        "step": whole_slider("step of the query", 0, 0, 1),
    }


def nearest_pair(pairs: Sequence[Pair], query: str, source: str, moved: str) -> Pair | None:
    """The pair asked for, or the first that keeps what was moved, or the first of all."""
    wanted = [(query, source)]
    same_query = [pair for pair in pairs if pair[0] == query]
    same_source = [pair for pair in pairs if pair[1] == source]
    wanted += [*same_source, *same_query] if moved == "source" else [*same_query, *same_source]
    return next((pair for pair in [*wanted, *pairs] if pair in pairs), None)


def _settle(controls: dict[str, Any], looks: Looks, moved: str) -> None:
    """Move the controls to a pair, a head and a step that the chosen model has."""
    pairs = looks[controls["utterance"].value, controls["model"].value]
    query, source = controls["query"].value, controls["source"].value
    pair = nearest_pair(list(pairs), query, source, moved)
    if pair is None:
        return
    controls["query"].value, controls["source"].value = pair
    heads, steps = pairs[pair].weights.shape[:2]
    controls["head"].value = min(controls["head"].value, heads)
    controls["step"].value = min(controls["step"].value, steps - 1)
    controls["step"].max = max(1, steps - 1)


def _draw(
    looks: Looks, names: list[str], utterance: int, model: str, head: int, query: str, source: str,
    step: int,
) -> Drawn:  # fmt: skip
    pairs = looks[utterance, model]
    if (query, source) not in pairs:
        raise InputError(f"{names[utterance]} has no map in {model}: its modalities are missing")
    look = pairs[query, source]
    weights = look.head(head)
    step = min(step, len(weights) - 1)
    which = AVERAGE if head == 0 else f"head {head}"
    title = f"{model}, {names[utterance]}, {which}: {query} asks {source}"
    figure = plots.attention_reading(weights, look.query, look.source, step, title)
    entropy, padding = row_entropy(weights)[step], padding_mass(weights, look.source)[step]
    state = {
        "utterance": names[utterance], "model": model, "head": head, "query": query,
        "source": source, "step": step, "entropy": f"{entropy:.2f}", "padding": f"{padding:.2f}",
    }  # fmt: skip
    return Drawn(figure, f"{title}. {_say(look, weights[step], step, entropy, padding)}", state)


def _say(look: Look, row: np.ndarray, step: int, entropy: float, padding: float) -> str:
    """The row of one step in a sentence."""
    best = int(row.argmax())
    lost = (
        "how much falls on padding cannot be told, as the source's steps mix all of time"
        if np.isnan(padding)
        else f"{100 * padding:.0f} % of it falls on padding"
    )
    return (
        f"{look.query.name}, {look.query.say(step)}, reads {look.source.name}, "
        f"{look.source.say(best)}, most ({row[best]:.2g}); its entropy is {entropy:.2f} of the "
        f"largest possible, and {lost}."
    )


# -- the book ----------------------------------------------------------------------------------


def _fit(looks: Looks, utterances: list[tuple[str, str]]) -> dict[str, Any]:
    """As many utterances in as fine a grid as the book's limit lets in."""
    n = len(utterances)
    choices = [(n, c) for c in CELLS] + [(k, CELLS[-1]) for k in range(n - 1, 0, -1)]
    data: dict[str, Any] = {}
    for count, cells in choices + [(1, c) for c in FEWER]:
        data = _payload(looks, utterances[:count], cells)
        if len(json.dumps(data)) <= LARGEST:
            break
    return data


def _payload(looks: Looks, utterances: list[tuple[str, str]], cells: int) -> dict[str, Any]:
    models = list(dict.fromkeys(name for _, name in looks))
    told = [
        {
            "id": name,
            "label": label,
            "maps": {model: _model_payload(looks[i, model], cells) for model in models},
        }
        for i, (name, label) in enumerate(utterances)
    ]
    heads = max(len(x.weights) for pairs in looks.values() for x in pairs.values())
    return {
        "heads": heads, "models": models, "modalities": _modalities(looks), "utterances": told,
    }  # fmt: skip


def _model_payload(pairs: Mapping[Pair, Look], cells: int) -> dict[str, Any]:
    axes: dict[str, Any] = {}
    for look in pairs.values():
        axes[look.query.name] = _axis(look.query, look.weights.shape[1], cells)
        axes[look.source.name] = _axis(look.source, look.weights.shape[2], cells)
    return {
        "axes": axes,
        "pairs": {f"{q}>{s}": _map_payload(look, cells) for (q, s), look in pairs.items()},
    }


def _axis(steps: Steps, n: int, cells: int) -> dict[str, Any]:
    stride = -(-n // cells)
    return {
        "unit": steps.unit, "n": -(-n // stride), "real": steps.real, "stride": stride,
        "rate": steps.rate, "words": list(steps.words),
        "events": [[int(f), str(r)] for f, r in steps.events[["frame", "role"]].to_numpy()],
    }  # fmt: skip


def _map_payload(look: Look, cells: int) -> dict[str, Any]:
    heads = np.stack([look.head(h) for h in range(len(look.weights) + 1)])  # (1 + H, Tq, Ts)
    tq, ts = (-(-n // cells) for n in heads.shape[1:])  # strides
    padding = padding_mass(heads, look.source)  # (1 + H, Tq)
    return {
        "weights": pack(bin_map(look.weights, tq, ts)),
        "entropy": pack(_mean_bins(row_entropy(heads), tq, axis=1), top=1.0),
        "padding": None if np.isnan(padding).any() else pack(_mean_bins(padding, tq, 1), top=1.0),
    }


def bin_map(weights: np.ndarray, tq: int, ts: int) -> np.ndarray:
    """(H, Tq, Ts) in cells of ``tq`` x ``ts`` steps: rows are averaged, weights in them added."""
    added = np.add.reduceat(weights, np.arange(0, weights.shape[2], ts), axis=2)
    return _mean_bins(added, tq, axis=1)


def _mean_bins(x: np.ndarray, stride: int, axis: int) -> np.ndarray:
    starts = np.arange(0, x.shape[axis], stride)
    counts = np.diff(np.r_[starts, x.shape[axis]])
    mean: np.ndarray = np.add.reduceat(x, starts, axis=axis)
    return mean / counts.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
