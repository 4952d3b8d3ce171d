"""Small corpora, models and sequences that several test files share: quick, seeded, not embedded.

Widths and lengths differ between the modalities, so that a mix-up of two of them cannot pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mmer_lib.corpora import MODALITIES, Corpus, Ragged
from mmer_lib.corpora.batches import Part
from mmer_lib.corpora.synthetic import synthetic
from mmer_lib.model import ModelConfig, Recognizer, parse_configuration
from mmer_lib.train import build_model

WIDTHS = {"audio": 8, "video": 10, "text": 7}  # features a frame
PADDED = {"audio": 20, "video": 6, "text": 9}  # steps after padding
SIZES: dict[str, Any] = {"width": 12, "heads": 3, "hidden": 5}  # overrides of a configuration
CLASSES = ("calm", "glad", "cross")
SUBSETS = tuple(s for n in (1, 2, 3) for s in combinations(MODALITIES, n))


def small_corpus(n: int = 12, seed: int = 0, missing: bool = False, padded: bool = False) -> Corpus:
    """Noise with labels 0, 1, 2, 0, ...: 1 .. PADDED frames an utterance and modality.

    ``missing``: utterance i lacks the modalities of the i-th subset of them (7 in turn, then none).
    ``padded``: the source was padded to PADDED, text with a frame that is not zero.
    """
    rng = np.random.default_rng(seed)
    lacks = [SUBSETS[i % 8] if missing and i % 8 < len(SUBSETS) else () for i in range(n)]
    features = {
        m: Ragged.from_list(
            [
                rng.standard_normal((0 if m in lacks[i] else rng.integers(1, PADDED[m] + 1), width))
                for i in range(n)
            ],
            width,
        )
        for m, width in WIDTHS.items()
    }
    recipe: dict[str, dict[str, Any]] = {}
    if padded:
        recipe = {m: {"padded_length": length} for m, length in PADDED.items()}
        recipe["text"]["padding"] = rng.standard_normal(WIDTHS["text"]).tolist()
    return Corpus("small", CLASSES, small_table(n), features, recipe)


def small_table(n: int) -> pd.DataFrame:
    """n utterances of four speakers."""
    rows = [{"id": f"u{i}", "label": i % len(CLASSES), "speaker": f"s{i % 4}"} for i in range(n)]
    return pd.DataFrame(rows)


def learnable_corpus(n: int = 40, **options: Any) -> Corpus:
    """The embedded corpus, small: three classes, six features."""
    return synthetic(n, classes=3, features=6, longest=7, **options)


def small_model(name: str, corpus: Corpus, seed: int = 0, **switches: Any) -> Recognizer:
    """A configuration in small sizes, fitted to the corpus, with random parameters; eval mode."""
    return build_model(small_config(name, corpus, **switches), seed).eval()


def small_config(name: str, corpus: Corpus, **switches: Any) -> ModelConfig:
    return parse_configuration(name, **{**SIZES, **switches}).for_corpus(corpus)


def whole_part(model: Recognizer, corpus: Corpus) -> Part:
    """All utterances as ``model`` reads them, unscaled."""
    config = model.config
    rows = np.arange(len(corpus))
    return Part(corpus, rows, config.modalities, None, config.pad_to, config.dtype)


def random_sequences(
    lengths: Mapping[str, list[int]], width: int = 12, seed: int = 0, dtype: Any = torch.float64
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Sequences (B, T_m, width) and masks (B, T_m) with these lengths, junk in the padding."""
    generator = torch.Generator().manual_seed(seed)
    sequences, masks = {}, {}
    for m, given in lengths.items():
        longest = max(1, *given)
        sequences[m] = torch.randn(len(given), longest, width, generator=generator, dtype=dtype)
        masks[m] = torch.arange(longest) < torch.tensor(given)[:, None]
    return sequences, masks


def randomize(module: nn.Module, seed: int = 0, scale: float = 0.5) -> nn.Module:
    """Every parameter drawn anew, so that none is zero (biases are, at the start)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.copy_(scale * drawn)
    return module
