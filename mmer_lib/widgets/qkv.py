"""The Q/K/V playground: a few numbers to edit, and every step of attention moves at once.

Data for the book: ``queries`` (Tq, D), ``keys`` (Ts, D), ``values`` (Ts, D) as lists; its script
computes the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as W
import numpy as np

from mmer_lib import plots
from mmer_lib.errors import InputError
from mmer_lib.plots.mechanism import Attended, attend
from mmer_lib.widgets.base import Book, Drawn, Explorer, explore, slider

QUERIES = ((3.0, 0.0), (0.0, 3.0), (1.0, 1.0))
KEYS = ((1.0, 0.0), (0.0, 1.0), (-2.0, -2.0), (1.0, 1.0))
VALUES = ((1.0, 0.0), (0.0, 1.0), (5.0, 5.0), (0.5, 0.5))
LARGEST = 9.0  # either way, of a number
COLDEST, HOTTEST = 0.1, 5.0

Rows = Sequence[Sequence[float]]


def qkv_playground(queries: Rows = QUERIES, keys: Rows = KEYS, values: Rows = VALUES) -> Explorer:
    """Edit queries, keys and values of two numbers each, the temperature and the mask.

    Controls: ``e2e-q11`` (query 1, number 1) .. ``e2e-v42``, ``e2e-temperature``, ``e2e-mask1`` ..;
    the sentence ``e2e-qkv``. Raises ``InputError`` for shapes that do not fit together.
    """
    tables = {n: np.asarray(x, float) for n, x in zip("qkv", (queries, keys, values), strict=True)}
    attend(tables["q"], tables["k"], tables["v"])
    if any(abs(x).max() > LARGEST for x in tables.values()):
        raise InputError(f"qkv_playground: numbers of -{LARGEST:g} .. {LARGEST:g} expected")
    numbers = {
        f"{name}{i + 1}{j + 1}": _number(f"{name}{i + 1}, number {j + 1}", float(x[i, j]))
        for name, x in tables.items()
        for i, j in np.ndindex(x.shape)
    }
    masks = {
        f"mask{j + 1}": W.Checkbox(value=True, description=f"k{j + 1} may be read", indent=False)
        for j in range(len(tables["k"]))
    }
    heat = {"temperature": slider("temperature", 1.0, COLDEST, HOTTEST, 0.1)}

    def draw(**chosen: Any) -> Drawn:
        x = {
            name: np.reshape([chosen[key] for key in numbers if key[0] == name], table.shape)
            for name, table in tables.items()
        }
        mask = [chosen[key] for key in masks]
        inputs = x["q"], x["k"], x["v"], chosen["temperature"], mask
        text = say_attended(attend(*inputs))
        state = {"temperature": f"{chosen['temperature']:.1f}", "read": sum(mask)}
        return Drawn(plots.qkv_steps(*inputs), text, state)

    text = "Queries, keys and values to edit; scores, weights and the output follow at once."
    data = {n: tables[n[0]].tolist() for n in ("queries", "keys", "values")}
    book = Book("qkv", "Query, key and value playground", text, data)
    layout = [*(W.HBox(row) for row in _rows(numbers)), W.HBox([*masks.values()]), *heat.values()]
    return explore({**numbers, **masks, **heat}, draw, "qkv", book, layout=layout)


def say_attended(found: Attended) -> str:
    """What each query reads most, and what comes out, in a sentence."""
    if not found.weights.any():
        return "No key may be read: all weights are zero, and so is every output."
    said = []
    for i, (row, out) in enumerate(zip(found.weights, found.output, strict=True)):
        best = int(row.argmax())
        numbers = ", ".join(f"{x:.2f}" for x in out)
        said.append(f"q{i + 1} reads k{best + 1} most ({row[best]:.2f}) and gets ({numbers})")
    return "; ".join(said) + "."


def _number(text: str, value: float) -> W.BoundedFloatText:
    return W.BoundedFloatText(
        value=value, min=-LARGEST, max=LARGEST, step=0.5, description=text, continuous_update=False,
        style={"description_width": "initial"}, layout=W.Layout(width="11.5em"),
    )  # fmt: skip


def _rows(numbers: dict[str, Any]) -> list[list[Any]]:
    """The fields of one query, key or value beside each other, number by number."""
    rows: dict[str, list[Any]] = {}
    for key, control in numbers.items():
        rows.setdefault(key[0] + key[-1], []).append(control)
    return list(rows.values())
