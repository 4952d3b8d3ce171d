"""A corpus with the lengths of IEMOCAP: what it promises of its lengths, widths and seeds."""

from __future__ import annotations

import numpy as np
import pytest

from mmer_lib.bench.lengths import CLASSES, PADDED, RATES, WIDTHS, iemocap_like
from mmer_lib.errors import InputError


def test_lengths_follow_the_seconds_in_every_modality():
    """Whatever is said for s seconds has s times the rate frames, within rounding."""
    corpus = iemocap_like(300)
    lasts = {m: corpus.features[m].lengths / rate for m, rate in RATES.items()}
    for modality, rate in RATES.items():
        np.testing.assert_allclose(lasts[modality], lasts["audio"], atol=0.5 / rate + 0.005)
        assert corpus.features[modality].lengths.max() <= PADDED[modality]
        assert corpus.features[modality].lengths.min() >= 1
    assert corpus.widths == WIDTHS


def test_utterances_last_four_and_a_half_seconds_in_the_mean_and_ten_at_most():
    lengths = iemocap_like(500, seed=1).features["audio"].lengths
    assert lengths.max() == 1000
    assert 4.0 < lengths.mean() / 100 < 4.6  # 4.5 before they are cut


def test_the_seed_decides_the_corpus():
    assert iemocap_like(20, seed=3).fingerprint == iemocap_like(20, seed=3).fingerprint
    assert iemocap_like(20, seed=3).fingerprint != iemocap_like(20, seed=4).fingerprint


def test_folds_by_speaker_can_be_made():
    corpus = iemocap_like(200)
    assert set(corpus.labels) == set(range(len(CLASSES)))
    assert len(corpus.folds("by-speaker", 5)) == 5


def test_a_number_of_utterances_that_is_none_is_refused():
    with pytest.raises(InputError, match="utterances=0: a whole number of at least 1 expected"):
        iemocap_like(0)
