"""The published numbers as tables, each row with its source. All scores are shares in [0, 1].

Rajan, Brutti, Cavallaro: "Is cross-attention preferable to self-attention for multi-modal emotion
recognition?", ICASSP 2022, arXiv 2202.09263. IEMOCAP, seven classes, five folds, ten seeds a fold.

The paper calls its two numbers weighted and unweighted accuracy. Which of them is the plain
accuracy depends on whose vocabulary it used, so the columns here keep the paper's words
(``paper_weighted``, ``paper_unweighted``); ``mmer_lib.metrics.read_table`` gives either reading.
"""

from __future__ import annotations

import pandas as pd

PAPER = "Rajan, Brutti, Cavallaro 2022, results by modality set"
ABLATION = "Rajan, Brutti, Cavallaro 2022, ablation on audio + video + text"
AMH = "Yoon et al. 2020, corrected accuracies in the AMH repository"

N_FOLDS = 5
N_SEEDS = 10
N_RUNS = N_FOLDS * N_SEEDS  # what the standard deviations of the ablation are over

CLASS_COUNTS: dict[str, int] = {  # IEMOCAP utterances; which label index is which is not stated
    "angry": 1103,
    "excited": 1041,
    "happy": 595,
    "sad": 1084,
    "frustrated": 1849,
    "surprise": 107,
    "neutral": 1708,
}

# A configuration is FUSION-MODALITIES, with -nosp where the vectors are concatenated instead of
# pooled. Value: (weighted, unweighted) in the paper's words, in %.
_GRID: dict[str, tuple[float, float]] = {
    "self-A": (36.5, 45.2),
    "self-V": (45.4, 51.3),
    "self-T": (47.4, 53.5),
    "self-AV": (48.3, 56.7),
    "self-AT": (51.8, 57.4),
    "self-VT": (56.3, 61.4),
    "self-AVT": (58.7, 64.2),
    "cross-AV": (48.1, 56.6),
    "cross-AT": (50.1, 56.2),
    "cross-VT": (56.7, 61.7),
    "cross-AVT": (57.8, 63.6),
}

# Value: mean and sd over the runs of (weighted, unweighted), as shares.
_ABLATION: dict[str, tuple[float, float, float, float]] = {
    "self-AVT": (0.587, 0.022, 0.642, 0.019),
    "cross-AVT": (0.578, 0.024, 0.636, 0.012),
    "self-AVT-nosp": (0.584, 0.021, 0.638, 0.019),
    "cross-AVT-nosp": (0.570, 0.021, 0.634, 0.015),
    "selfcross-AVT": (0.585, 0.028, 0.642, 0.020),
}

CONFIGURATIONS: tuple[str, ...] = tuple(dict.fromkeys([*_GRID, *_ABLATION]))  # the paper's 14

# System, modalities, accuracy, balanced accuracy; on the same data as the paper.
_EARLIER: tuple[tuple[str, str, float, float], ...] = (
    ("MDRE", "AV", 0.477, 0.376),
    ("MDRE", "AT", 0.498, 0.418),
    ("MDRE", "VT", 0.579, 0.524),
    ("MDRE", "AVT", 0.564, 0.490),
    ("MHA", "AV", 0.471, 0.371),
    ("MHA", "AT", 0.543, 0.491),
    ("MHA", "VT", 0.580, 0.526),
    ("AMH", "AVT", 0.617, 0.547),
)
_WITHDRAWN = "first published as .624 / .597, which were precisions"


def published_table() -> pd.DataFrame:
    """The paper's 14 configurations, a row each.

    Columns: ``configuration, fusion, modalities, pooling`` (sp: mean and deviation over the
    vectors; concat; none: one modality has one vector), ``paper_weighted, paper_unweighted,
    sd_weighted, sd_unweighted`` (over 50 runs; NaN where not published), ``n_runs, source``.
    """
    return pd.DataFrame([_row(name) for name in CONFIGURATIONS])


def _row(configuration: str) -> dict[str, object]:
    fusion, modalities, *concatenated = configuration.split("-")
    row: dict[str, object] = {
        "configuration": configuration,
        "fusion": fusion,
        "modalities": modalities,
        "pooling": "concat" if concatenated else "sp" if len(modalities) > 1 else "none",
    }
    if configuration in _ABLATION:
        weighted, sd_weighted, unweighted, sd_unweighted = _ABLATION[configuration]
    else:
        weighted, unweighted = (round(share / 100, 3) for share in _GRID[configuration])
        sd_weighted = sd_unweighted = float("nan")
    return row | {
        "paper_weighted": weighted,
        "paper_unweighted": unweighted,
        "sd_weighted": sd_weighted,
        "sd_unweighted": sd_unweighted,
        "n_runs": N_RUNS,
        "source": ABLATION if configuration in _ABLATION else PAPER,
    }


def earlier_systems() -> pd.DataFrame:
    """Earlier systems on the same data, a row a system and modality set.

    Columns: ``system, modalities, accuracy, balanced_accuracy, source, note`` (what a reader of the
    older literature must know of a row).
    """
    columns = ["system", "modalities", "accuracy", "balanced_accuracy"]
    table = pd.DataFrame(list(_EARLIER), columns=columns).assign(source=AMH)
    return table.assign(note=[_WITHDRAWN if s == "AMH" else "" for s in table["system"]])


def class_counts() -> pd.DataFrame:
    """The paper's classes: ``emotion, utterances, share``, largest first."""
    counts = pd.DataFrame(CLASS_COUNTS.items(), columns=["emotion", "utterances"])
    counts["share"] = counts["utterances"] / counts["utterances"].sum()
    return counts.sort_values("utterances", ascending=False, ignore_index=True)


def majority_scores() -> dict[str, float]:
    """What always answering the largest class scores: ``accuracy`` and ``balanced_accuracy``."""
    counts = CLASS_COUNTS.values()
    return {"accuracy": max(counts) / sum(counts), "balanced_accuracy": 1 / len(counts)}
