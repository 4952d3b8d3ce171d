"""Parts and batches: what a change of the frames does, and who is whose partner."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small import PADDED, small_corpus

from mmer_lib.bench.lengths import iemocap_like
from mmer_lib.corpora import MODALITIES, Corpus
from mmer_lib.corpora.batches import Batch, Part, Scaler, pair_up
from mmer_lib.errors import InputError
from mmer_lib.model import parse_configuration
from mmer_lib.train import build_model


def whole(corpus: Corpus, **options) -> Part:
    return Part(corpus, np.arange(len(corpus)), corpus.modalities, **options)


def backwards(modality: str, row: int, frames: np.ndarray) -> np.ndarray:
    """The frames in reverse, without the last one."""
    return frames[::-1][1:]


def same_frames(modality: str, row: int, frames: np.ndarray) -> np.ndarray:
    return frames


def assert_same(one: Batch, other: Batch) -> None:
    """The same bits in every tensor."""
    for m in MODALITIES:
        assert torch.equal(one.sequences[m], other.sequences[m])
        assert torch.equal(one.masks[m], other.masks[m])
    assert torch.equal(one.labels, other.labels)
    assert torch.equal(one.rows, other.rows)


# A change of the frames


@pytest.mark.parametrize("pad_to", [None, PADDED, {"audio": 3, "video": 30}])
def test_a_changed_part_equals_the_part_of_a_changed_corpus(pad_to):
    corpus = small_corpus(16, missing=True, padded=True)
    scaler = Scaler.fit(corpus, np.arange(16), MODALITIES)
    features = {
        m: type(ragged).from_list([backwards(m, i, x) for i, x in enumerate(ragged)], ragged.width)
        for m, ragged in corpus.features.items()
    }
    rows = np.array([11, 2, 7, 15, 0])
    changed = whole(corpus, scaler=scaler, pad_to=pad_to, change=backwards)
    by_hand = whole(replace(corpus, features=features), scaler=scaler, pad_to=pad_to)
    assert_same(changed.collate(rows), by_hand.collate(rows))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_change_that_changes_nothing_gives_the_same_bits(dtype):
    corpus = small_corpus(16, missing=True, padded=True)
    plain = whole(
        corpus, scaler=Scaler.fit(corpus, np.arange(9), MODALITIES), pad_to=PADDED, dtype=dtype
    )
    rows = np.array([3, 12, 5])
    assert_same(replace(plain, change=same_frames).collate(rows), plain.collate(rows))


def test_a_change_is_told_the_modality_the_row_and_the_unscaled_frames():
    corpus, told = small_corpus(6), []

    def note(modality: str, row: int, frames: np.ndarray) -> np.ndarray:
        told.append((modality, row))
        np.testing.assert_array_equal(frames, corpus.features[modality][row])
        return frames

    scaler = Scaler.fit(corpus, np.arange(6), MODALITIES)
    whole(corpus, scaler=scaler, change=note).collate(np.array([4, 1]))
    assert told == [(m, row) for m in MODALITIES for row in (4, 1)]


def test_a_sequence_whose_frames_are_all_taken_is_missing():
    corpus = small_corpus(6)
    gone = whole(corpus, change=lambda m, row, x: x[:0] if (m, row) == ("text", 2) else x)
    batch = gone.collate(np.arange(6))
    assert batch.masks["text"].any(dim=1).tolist() == [True, True, False, True, True, True]
    assert batch.masks["audio"].any(dim=1).all()
    assert not batch.sequences["text"][2].any()


def test_a_change_comes_on_top_of_one_that_is_there():
    corpus = small_corpus(6)
    doubled = whole(corpus).with_change(lambda m, row, x: 2 * x)
    both = doubled.with_change(lambda m, row, x: x + 1)
    frames = both.collate(np.array([3])).sequences["video"][0]
    np.testing.assert_allclose(frames, 2 * corpus.features["video"][3] + 1, rtol=1e-6)


def test_frames_of_a_partner_are_changed_likewise():
    corpus = small_corpus(6)
    partners = pair_up(corpus, np.arange(6), 0)
    part = whole(corpus, partners=partners, change=backwards)
    rows = np.array([5, 0])
    alone = whole(corpus, change=backwards)
    assert_same(part.collate(rows).partner, alone.collate(partners[rows]))
    assert_same(part.collate(rows), alone.collate(rows))


def test_a_change_cannot_write_into_the_corpus():
    def spoil(modality: str, row: int, frames: np.ndarray) -> np.ndarray:
        frames *= 0
        return frames

    with pytest.raises(ValueError, match="read-only"):
        whole(small_corpus(6), change=spoil).collate(np.arange(6))


@pytest.mark.parametrize("made", [np.zeros(8), np.zeros((4, 4)), np.zeros((2, 3, 8))])
def test_a_change_that_makes_no_frames_is_told(made):
    part = whole(small_corpus(6), change=lambda m, row, x: made)
    with pytest.raises(
        InputError, match=r"a change of audio made frames of shape .* \(frames, 8\)"
    ):
        part.collate(np.array([1]))


# Partners


def test_every_row_has_another_as_partner_and_each_is_taken_once():
    corpus = small_corpus(12)
    rows = np.array([1, 4, 5, 9, 11])
    partners = pair_up(corpus, rows, seed=3)
    assert sorted(partners[rows]) == rows.tolist()
    assert (partners[rows] != rows).all()
    assert not np.array_equal(partners, pair_up(corpus, rows, seed=4))


def test_partners_that_must_be_alike_have_the_same_modalities():
    corpus = small_corpus(32, missing=True)
    partners = pair_up(corpus, np.arange(32), 0, alike=MODALITIES)
    there = np.stack([corpus.features[m].lengths > 0 for m in MODALITIES])
    assert (there == there[:, partners]).all()
    assert (partners != np.arange(32)).all()
    free = pair_up(corpus, np.arange(32), 0)
    assert not (there == there[:, free]).all()


def test_a_row_that_nobody_is_like_gets_itself():
    corpus = small_corpus(9, missing=True)  # the kinds of rows 1 .. 7 occur once
    partners = pair_up(corpus, np.arange(9), 0, alike=MODALITIES)
    assert partners.tolist() == [8, 1, 2, 3, 4, 5, 6, 7, 0]


def test_one_utterance_has_no_partner():
    with pytest.raises(InputError, match="1 utterance has no other to pair with"):
        pair_up(small_corpus(), np.array([2]), 0)


# Batches of similar length


def lengths_of(corpus: Corpus, batches: list[np.ndarray]) -> list[np.ndarray]:
    frames = np.sum([corpus.features[m].lengths for m in corpus.modalities], axis=0)
    return [frames[rows] for rows in batches]


def draw(part: Part, seed: int, pool: int, size: int = 8) -> list[np.ndarray]:
    return [b.rows.numpy() for b in part.batches(size, np.random.default_rng(seed), pool)]


def test_every_utterance_is_in_one_batch_of_an_epoch_whatever_the_pool():
    part = whole(iemocap_like(100))
    for pool in (1, 3, 100):
        drawn = draw(part, 0, pool)
        assert sorted(np.concatenate(drawn)) == list(range(100))
        assert [len(rows) for rows in drawn].count(8) == 12


def test_a_pool_of_one_is_the_plain_random_order():
    part, rng = whole(iemocap_like(50)), np.random.default_rng(3)
    assert (np.concatenate(draw(part, 3, 1)) == rng.permutation(50)).all()


def test_batches_out_of_a_pool_hold_less_padding():
    part = whole(iemocap_like(640))

    def padding(pool: int) -> float:
        lengths = lengths_of(part.corpus, draw(part, 0, pool, 32))
        return 1 - sum(n.sum() for n in lengths) / sum(n.max() * len(n) for n in lengths)

    assert padding(1) > 0.4
    assert padding(8) < 0.2
    assert padding(20) < padding(8)


def test_a_pool_leaves_batches_random_enough():
    """Other company in every epoch, classes as in random batches, lengths in no order."""
    part, size, pool = whole(iemocap_like(640)), 16, 8
    epochs = [draw(part, seed, pool, size) for seed in range(6)]

    def company(batches: list[np.ndarray]) -> np.ndarray:
        together = np.zeros((640, 640), bool)
        for rows in batches:
            together[np.ix_(rows, rows)] = True
        return together

    first, *others = [company(batches) for batches in epochs]
    again = np.mean([(first & other).sum() - 640 for other in others]) / (first.sum() - 640)
    by_chance = (size - 1) / 639
    assert again < pool * by_chance, "at most as if drawn from those of the same length alone"
    labels = part.corpus.labels
    counts = np.array([np.bincount(labels[rows], minlength=7) for one in epochs for rows in one])
    expected = np.bincount(labels, minlength=7) / 640 * size
    spread = ((counts - expected) ** 2 / expected).sum(axis=1).mean()
    assert spread == pytest.approx(6 * (640 - size) / 639, rel=0.15), "chi squared, 6 degrees"
    means = np.array([n.mean() for n in lengths_of(part.corpus, epochs[0])])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.4, "long batches come at any time"


@pytest.mark.parametrize("name", ["self-AVT", "cross-AVT"])
def test_a_batch_of_similar_lengths_has_the_loss_and_gradients_of_one_that_is_padded(name):
    """Bucketed or not, the same utterances give the same numbers."""
    corpus = iemocap_like(48)
    config = parse_configuration(name, width=12, heads=2, double=True, attention_dropout=0.0,
                                 text_dropout=0.0).for_corpus(corpus)  # fmt: skip
    part = whole(corpus, dtype=torch.float64)
    padded = replace(part, pad_to={m: int(corpus.features[m].lengths.max()) for m in MODALITIES})
    model = build_model(config, 0)
    for batch in part.batches(8, np.random.default_rng(0), pool=3):
        found = []
        for one in (batch, padded.collate(batch.rows.numpy())):
            loss = torch.nn.functional.cross_entropy(model(one).logits, one.labels)
            found.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
