"""Tables of runs with known variance components, for the tests of the judging half."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

A, B = "cross-AVT", "self-AVT"


def simulate_table(
    seed: int = 0,
    names: Sequence[str] = (A, B),
    folds: int = 5,
    seeds: int = 10,
    spread: tuple[float, float, float] = (0.014, 0.0055, 0.012),
) -> pd.DataFrame:
    """A row a run; ``spread`` are the deviations of folds, fold x configuration and seeds."""
    rng = np.random.default_rng(seed)
    c, fold, interaction, run = len(names), *spread
    scores = 0.6 + rng.normal(0, fold, (1, folds, 1)) + rng.normal(0, interaction, (c, folds, 1))
    scores = scores + rng.normal(0, run, (c, folds, seeds))
    return table_of(scores, names)


def table_of(scores: np.ndarray, names: Sequence[str] = (A, B)) -> pd.DataFrame:
    """Scores (configurations, K, S) as a table of runs."""
    rows = [
        (name, fold, seed, scores[i, fold, seed])
        for i, name in enumerate(names)
        for fold in range(scores.shape[1])
        for seed in range(scores.shape[2])
    ]
    return pd.DataFrame(rows, columns=["configuration", "fold", "seed", "balanced_accuracy"])
