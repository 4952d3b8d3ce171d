"""A corpus of noise with the sizes and lengths of IEMOCAP, for what depends on nothing else.

An utterance lasts s seconds, log-normal with mean 4.5 s as those of IEMOCAP (Busso et al. 2008),
cut at 10 s as in Rajan et al. (2022): 100 frames a second of 120 audio features, 3 frames a second
of 2,048 video features, 3.3 words a second of 300 text features. Padded lengths are the paper's.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mmer_lib.corpora.base import Corpus, Ragged
from mmer_lib.errors import check_whole

UTTERANCES = 7487  # of seven emotions, as the paper counts them
CLASSES = ("angry", "excited", "happy", "sad", "frustrated", "surprise", "neutral")
SPEAKERS = 10
MEAN, SPREAD, LONGEST = 4.5, 0.6, 10.0  # seconds; of the logarithm; seconds
RATES = {"audio": 100.0, "video": 3.0, "text": 3.3}  # frames a second
WIDTHS = {"audio": 120, "video": 2048, "text": 300}  # features a frame
PADDED = {"audio": 1000, "video": 32, "text": 128}  # frames


def iemocap_like(utterances: int = UTTERANCES, seed: int = 0) -> Corpus:
    """``utterances`` of random features, labels and speakers; all of 7,487 take 2.5 GB."""
    check_whole("utterances", utterances, at_least=1)
    rng = np.random.default_rng(check_whole("seed", seed, at_least=0))
    seconds = rng.lognormal(np.log(MEAN) - SPREAD**2 / 2, SPREAD, utterances).clip(max=LONGEST)
    features = {m: _noise(np.rint(RATES[m] * seconds), WIDTHS[m], rng) for m in RATES}
    recipe = {m: {"features": "noise", "rate": RATES[m], "padded_length": PADDED[m]} for m in RATES}
    table = pd.DataFrame(
        {
            "id": [f"u{i}" for i in range(utterances)],
            "label": rng.integers(len(CLASSES), size=utterances),
            "speaker": [f"s{i}" for i in rng.integers(SPEAKERS, size=utterances)],
        }
    )
    return Corpus("iemocap-like", CLASSES, table, features, recipe)


def _noise(frames: np.ndarray, width: int, rng: np.random.Generator) -> Ragged:
    """Normal values (N_frames, width) of sequences with so many ``frames`` (n,), at least one."""
    offsets = np.r_[0, np.cumsum(np.maximum(frames, 1))].astype(np.int64)
    values = rng.standard_normal((int(offsets[-1]), width), dtype=np.float32)
    return Ragged(values, offsets)
