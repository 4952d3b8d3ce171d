"""One small explorer of every kind, for the tests of their live layer and of their scripts."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import ipywidgets as W
import numpy as np
import pandas as pd
from small import learnable_corpus, small_model, whole_part

from mmer_lib import widgets

CORPUS = learnable_corpus(120)
PAIRS = [("cross-AT", "self-AT"), ("cross-AV", "self-AV")]


@cache
def trained() -> dict[str, Any]:
    """Untrained, but with maps: a model of each kind, and one that reads padding."""
    names = ("self-AVT", "cross-AVT", "cross-AVT@released,time_mixing=false")
    models = {name: small_model(name, CORPUS) for name in names}
    return {name: (model, whole_part(model, CORPUS)) for name, model in models.items()}


def runs_table() -> pd.DataFrame:
    """Five folds x two seeds; cross-AT is ten points ahead, cross-AV level."""
    rng = np.random.default_rng(0)
    gaps = {"self-AT": 0.0, "cross-AT": 0.1, "self-AV": 0.0, "cross-AV": 0.0}
    rows = [
        {"configuration": name, "fold": k, "seed": s, "accuracy": 0.6 + gap + rng.normal(0, 0.01)}
        for name, gap in gaps.items()
        for k in range(5)
        for s in range(2)
    ]
    return pd.DataFrame(rows)


def zoo_tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs of four fusions with their seconds, and what each costs; one has no parameter."""
    names = ["self-AT", "cross-AT", "mult-AT", "mean-AT"]
    rng = np.random.default_rng(1)
    rows = [
        {"configuration": name, "fold": k, "seed": 0, "seconds": 2.0 + i + rng.uniform(0, 0.1),
         "accuracy": 0.6 + 0.05 * i + rng.normal(0, 0.005)}
        for i, name in enumerate(names)
        for k in range(4)
    ]  # fmt: skip
    costs = {"name": names, "parameters": [2e4, 4e4, 5e4, 0], "megaflops": [0.2, 0.5, 1.1, 0.1]}
    return pd.DataFrame(rows), pd.DataFrame(costs)


DATA: dict[str, Callable[[], Any]] = {
    "attention": lambda: widgets.attention_explorer(trained(), [0, 1]),
    "qkv": widgets.qkv_playground,
    "pooling": widgets.pooling_explorer,
    "folds": lambda: widgets.fold_explorer(CORPUS, folds=4),
    "verdict": lambda: widgets.verdict_explorer(runs_table(), PAIRS, "accuracy"),
    "zoo": lambda: widgets.zoo_explorer(*zoo_tables(), "accuracy"),
}
KINDS = tuple(DATA)


def show(kind: str) -> widgets.Explorer:
    """A new explorer of a kind."""
    return DATA[kind]()


def controls_of(box: widgets.Explorer) -> dict[str, Any]:
    """Its controls by the name in their class, wherever in the box they stand."""
    found = {}
    for child in box.children[:-2]:
        for control in child.children if isinstance(child, W.Box) else (child,):
            found[control._dom_classes[-1].removeprefix("e2e-")] = control
    return found
