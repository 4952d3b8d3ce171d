"""Ragged sequences, the corpus, its folder, and the batches made of it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from small import CLASSES, PADDED, WIDTHS, learnable_corpus, small_corpus, small_table

from mmer_lib.corpora import MODALITIES, Corpus, Ragged, base, batches, load_corpus
from mmer_lib.corpora.batches import Part, Scaler
from mmer_lib.errors import InputError

FRAMES = [np.arange(6, dtype=np.float32).reshape(3, 2), np.zeros((0, 2)), np.full((1, 2), 9.0)]


def ragged() -> Ragged:
    return Ragged.from_list(FRAMES, width=2)


# Ragged


def test_ragged_gives_back_the_sequences_it_was_made_of():
    made = ragged()
    assert (len(made), made.width, made.lengths.tolist()) == (3, 2, [3, 0, 1])
    for given, kept in zip(FRAMES, made, strict=True):
        np.testing.assert_array_equal(given, kept)
    assert made.values.dtype == np.float32


def test_ragged_of_nothing_but_missing_sequences_keeps_its_width():
    made = Ragged.from_list([np.zeros((0, 4)), np.zeros((0, 4))], width=4)
    assert made.values.shape == (0, 4)
    assert made.lengths.tolist() == [0, 0]


def test_take_follows_the_order_asked_for_and_may_repeat():
    taken = ragged().take(np.array([2, 0, 2]))
    assert taken.lengths.tolist() == [1, 3, 1]
    np.testing.assert_array_equal(taken[1], FRAMES[0])
    np.testing.assert_array_equal(taken[2], FRAMES[2])


@pytest.mark.parametrize(
    ("values", "offsets", "message"),
    [
        (np.zeros(4, np.float32), [0, 4], "not float32 of shape (4,)"),
        (np.zeros((4, 2)), [0, 4], "not float64 of shape (4, 2)"),
        (np.zeros((4, 2), np.float32), [0.0, 4.0], "int64 array, not float64"),
        (np.zeros((4, 2), np.float32), [[0, 4]], "not int64 of shape (1, 2)"),
        (np.zeros((4, 2), np.float32), [0, 3], "from 0 to the 4 frames there are, not from 0 to 3"),
        (np.zeros((4, 2), np.float32), [1, 4], "not from 1 to 4"),
        (np.zeros((4, 2), np.float32), [0, 3, 2, 4], "offsets must never fall"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(values, offsets, message):
    with pytest.raises(InputError, match=re.escape(message)):
        Ragged(values, np.array(offsets))


# Corpus


def test_modalities_are_always_in_the_same_order():
    corpus = small_corpus()
    turned = replace(corpus, features=dict(reversed(corpus.features.items())))
    assert turned.modalities == MODALITIES
    assert turned.widths == WIDTHS


def spoilt(corpus: Corpus, **change) -> Corpus:
    return replace(corpus, utterances=corpus.utterances.assign(**change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: spoilt(c, label=c.labels + 1),
            "label 3 of utterance 'u2' is outside 0..2 (4 in",
        ),
        (lambda c: spoilt(c, label=-1), "label -1 of utterance 'u0' is outside 0..2 (12 in all)"),
        (lambda c: spoilt(c, label=0.5), "labels must be integers, not float64"),
        (lambda c: spoilt(c, label="calm"), "labels must be integers"),
        (lambda c: spoilt(c, id="u7"), "utterance id 'u7' appears twice"),
        (lambda c: spoilt(c, split="tset"), "'tset': did you mean 'test'"),
        (lambda c: spoilt(c, content="mine"), "'content' of the utterance table is reserved"),
        (lambda c: replace(c, utterances=c.utterances.drop(columns="label")), "no column 'label'"),
        (lambda c: replace(c, utterances=c.utterances.drop(columns="id")), "no column 'id'"),
        (lambda c: replace(c, utterances=c.utterances.iloc[:0]), "has no utterance"),
        (lambda c: replace(c, classes=("calm",)), "1 class given, at least 2 expected"),
        (lambda c: replace(c, features={}), "has no modality"),
        (lambda c: replace(c, features={"adio": ragged()}), "'adio': did you mean 'audio'"),
        (lambda c: replace(c, features={"audio": ragged()}), "3 sequences for 12 utterances"),
    ],
)
def test_pieces_that_do_not_fit_together_are_refused_in_one_line(change, message):
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        change(small_corpus())
    assert "\n" not in str(raised.value)


def test_require_names_what_is_missing_and_what_there_is():
    corpus = replace(small_corpus(), features={"text": small_corpus().features["text"]})
    corpus.require(["text"])
    with pytest.raises(InputError, match="'small' has no video: it has text"):
        corpus.require(["text", "video"])


def test_a_column_is_known_only_if_something_stands_in_it():
    corpus = spoilt(small_corpus(4), speaker=["a", None, "b", "a"], dialogue=None)
    assert corpus.known("speaker").tolist() == ["a", "", "b", "a"]
    assert corpus.known("dialogue") is None
    assert corpus.known("accent") is None


def test_take_keeps_rows_frames_events_and_published_folds_together():
    corpus = learnable_corpus(12)
    published = corpus.utterances[["id"]].assign(fold="train")
    corpus = replace(corpus, published=published)
    taken = corpus.take(np.array([7, 2]))
    assert taken.utterances["id"].tolist() == ["u00007", "u00002"]
    assert set(taken.events["id"]) == {"u00007", "u00002"}
    assert taken.published["id"].tolist() == ["u00007", "u00002"]
    for m in MODALITIES:
        np.testing.assert_array_equal(taken.features[m][1], corpus.features[m][2])


def test_the_fingerprint_follows_everything_that_decides_a_result():
    corpus = small_corpus()
    values = corpus.features["text"].values.copy()
    values[-1, -1] += 1e-3
    shifted = Ragged(corpus.features["text"].values, shift_one(corpus.features["text"].offsets))
    changed = [
        spoilt(corpus, label=corpus.labels[::-1]),
        spoilt(corpus, speaker="s0"),
        replace(corpus, classes=(*CLASSES, "sad")),
        replace(corpus, recipe={"text": {"padded_length": 50}}),
        replace(corpus, published=corpus.utterances[["id"]].assign(fold="train")),
        replace(corpus, features={m: corpus.features[m] for m in ("audio", "text")}),
        replace(corpus, features={**corpus.features, "text": shifted}),
        replace(
            corpus,
            features={**corpus.features, "text": Ragged(values, corpus.features["text"].offsets)},
        ),
    ]
    prints = [c.fingerprint for c in (corpus, *changed)]
    assert len(set(prints)) == len(prints)


def shift_one(offsets: np.ndarray) -> np.ndarray:
    """The same frames cut at another place."""
    moved = offsets.copy()
    inner = np.flatnonzero(np.diff(offsets) > 1)[0] + 1
    moved[inner] -= 1
    return moved


def test_the_fingerprint_does_not_depend_on_name_notes_or_the_planted_truth():
    corpus = learnable_corpus(12)
    other = replace(corpus, name="other", notes=("a note",), events=None)
    assert other.fingerprint == corpus.fingerprint


def test_content_is_equal_where_all_frames_are_and_only_there():
    corpus = small_corpus(6)
    corpus = replace(small_corpus(4), features={
        m: r.take(np.array([0, 1, 0, 0])) for m, r in corpus.features.items()
    })  # fmt: skip
    corpus.features["video"] = corpus.features["video"].take(np.array([0, 1, 2, 1]))
    first, second, third, fourth = corpus.content
    assert first == third
    assert len({first, second, fourth}) == 3


def test_the_frames_are_hashed_once_for_all_folds(monkeypatch):
    corpus, hashed = small_corpus(12), []
    monkeypatch.setattr(base, "blake2b", lambda *parts: hashed.append(parts) or str(len(hashed)))
    corpus.folds("random", 3)
    corpus.folds("by-speaker", 2)
    assert len(hashed) == 12


def test_other_frames_in_the_place_of_these_have_another_content():
    corpus = small_corpus(4)
    turned = {m: r.take(np.arange(4)[::-1]) for m, r in corpus.features.items()}
    assert replace(corpus, features=turned).content.tolist() == corpus.content[::-1].tolist()


# The folder


def awkward_corpus() -> Corpus:
    """Everything a folder can hold, with text that a CSV reader likes to misread."""
    texts = ["yes, well", 'she said "no"', "two\nlines", "NA", "007", "", "null", "é ü 你好"]
    table = small_table(8).assign(text=texts, split=["train"] * 6 + ["dev", "test"])
    table["id"] = ["007", "1e5", "NA", "None", "a,b", "true", "x y", "-1"]
    published = table[["id"]].assign(first=["test"] + ["train"] * 6 + ["dev"])
    events = pd.DataFrame(
        {
            "id": ["007"],
            "modality": ["text"],
            "frame": [0],
            "role": ["ask"],
            "key": [1],
            "value": [-1],
        }
    )
    made = small_corpus(8, missing=True, padded=True)
    return replace(made, utterances=table, published=published, events=events, notes=("dropped 3",))


def test_a_corpus_comes_back_from_its_folder_as_it_was(tmp_path):
    corpus = awkward_corpus()
    assert corpus.save(tmp_path / "there") == tmp_path / "there"
    back = load_corpus(tmp_path / "there")
    assert (back.name, back.classes, back.notes) == (corpus.name, corpus.classes, corpus.notes)
    assert back.recipe == corpus.recipe
    assert back.path == tmp_path / "there"
    assert back.fingerprint == corpus.fingerprint
    for frame, other in [
        (back.utterances, corpus.utterances),
        (back.events, corpus.events),
        (back.published, corpus.published),
    ]:
        pd.testing.assert_frame_equal(frame.fillna(""), other, check_dtype=False)
    for m in MODALITIES:
        np.testing.assert_array_equal(back.features[m].values, corpus.features[m].values)
        np.testing.assert_array_equal(back.features[m].offsets, corpus.features[m].offsets)
        assert isinstance(back.features[m].values, np.memmap)
    np.testing.assert_array_equal(back.content, corpus.content)


def test_the_recorded_fingerprint_is_the_one_that_the_files_give(tmp_path):
    back = load_corpus(awkward_corpus().save(tmp_path / "there"))
    afresh = replace(back)
    assert "hashes" not in vars(afresh)
    assert afresh.hashes == back.hashes


def test_the_synthetic_corpus_survives_its_folder(tmp_path):
    corpus = learnable_corpus(20, missing=0.2)
    back = load_corpus(corpus.save(tmp_path / "there"))
    assert back.fingerprint == corpus.fingerprint
    pd.testing.assert_frame_equal(back.events, corpus.events, check_dtype=False)
    assert back.take(np.arange(20)).fingerprint == back.fingerprint


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_not_saved_and_nothing_is_left(tmp_path, bad):
    corpus = small_corpus()
    corpus.features["video"].values[3, 1] = bad
    with pytest.raises(InputError, match=r"'small', video: 1 values .* first at \[3, 1\]"):
        corpus.save(tmp_path / "there")
    assert list(tmp_path.iterdir()) == []


# Batches


def whole(corpus: Corpus, **options) -> Part:
    return Part(corpus, np.arange(len(corpus)), corpus.modalities, **options)


def test_a_batch_holds_every_frame_where_the_mask_is_true_and_zeros_elsewhere():
    corpus = small_corpus(8, missing=True)
    rows = np.array([7, 2, 4])
    batch = whole(corpus).collate(rows)
    for m in MODALITIES:
        x, mask = batch.sequences[m], batch.masks[m]
        assert x.shape == (3, max(1, *corpus.features[m].lengths[rows]), WIDTHS[m])
        assert not x[~mask].any()
        for i, row in enumerate(rows):
            frames = corpus.features[m][row]
            np.testing.assert_array_equal(x[i, : len(frames)], frames)
            assert mask[i].tolist() == [t < len(frames) for t in range(x.shape[1])]
    assert batch.labels.tolist() == corpus.labels[rows].tolist()
    assert batch.rows.tolist() == rows.tolist()


def test_pad_to_fixes_the_length_and_cuts_what_is_longer():
    corpus = small_corpus(6)
    batch = whole(corpus, pad_to={"audio": 30, "video": 2}).collate(np.arange(6))
    assert batch.sequences["audio"].shape[1] == 30
    assert batch.sequences["video"].shape[1] == 2
    assert batch.sequences["text"].shape[1] == corpus.features["text"].lengths.max()
    for i in range(6):
        kept = corpus.features["video"][i][:2]
        np.testing.assert_array_equal(batch.sequences["video"][i, : len(kept)], kept)


def test_padding_is_the_frame_that_the_source_padded_with():
    corpus = small_corpus(6, padded=True)
    batch = whole(corpus, pad_to=PADDED).collate(np.arange(6))
    expected = torch.tensor(corpus.recipe["text"]["padding"])
    padding = batch.sequences["text"][~batch.masks["text"]]
    torch.testing.assert_close(padding, expected.expand_as(padding))
    assert not batch.sequences["audio"][~batch.masks["audio"]].any()


def test_batches_visit_every_row_once_in_order_or_shuffled():
    part = whole(small_corpus(11))
    plain = [batch.rows.tolist() for batch in part.batches(4)]
    assert plain == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    drawn = [r for b in part.batches(4, np.random.default_rng(0)) for r in b.rows.tolist()]
    assert sorted(drawn) == list(range(11))
    assert drawn != list(range(11))
    again = [r for b in part.batches(4, np.random.default_rng(0)) for r in b.rows.tolist()]
    assert again == drawn


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_has_the_precision_asked_for(dtype):
    batch = whole(small_corpus(), dtype=dtype).collate(np.arange(3))
    assert {x.dtype for x in batch.sequences.values()} == {dtype}
    assert batch.labels.dtype == torch.int64


def test_a_batch_moves_as_a_whole():
    moved = whole(small_corpus()).collate(np.arange(3)).to("meta")
    tensors = [*moved.sequences.values(), *moved.masks.values(), moved.labels, moved.rows]
    assert {t.device.type for t in tensors} == {"meta"}


def test_a_part_needs_an_utterance_and_the_modalities_it_names():
    corpus = small_corpus()
    with pytest.raises(InputError, match="a part of corpus 'small' has no utterance"):
        Part(corpus, np.array([], dtype=np.int64), MODALITIES)
    one = replace(corpus, features={"audio": corpus.features["audio"]})
    with pytest.raises(InputError, match="has no text"):
        Part(one, np.arange(3), ("audio", "text"))


# Scaling


def test_the_scaler_is_numpys_mean_and_deviation_over_the_real_frames_of_training():
    corpus = small_corpus(12, missing=True)
    rows = np.array([1, 3, 7, 8, 11])
    scaler = Scaler.fit(corpus, rows, MODALITIES)
    for m in MODALITIES:
        frames = np.concatenate([corpus.features[m][i] for i in rows]).astype(np.float64)
        np.testing.assert_allclose(scaler.mean[m], frames.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(scaler.std[m], frames.std(axis=0), rtol=1e-5)


@pytest.mark.parametrize("together", [1, 40, 1 << 18])
def test_the_scaler_has_the_bits_of_one_utterance_after_the_other(monkeypatch, together):
    """By Chan's formula, written out; whatever is looked at together."""
    monkeypatch.setattr(batches, "TOGETHER", together)
    corpus = load_corpus("synthetic", utterances=60, missing=0.2, longest=20)
    rows = np.random.default_rng(0).permutation(60)[:40]
    scaler = Scaler.fit(corpus, rows, MODALITIES)
    for m in MODALITIES:
        n, mean, squares = 0, np.zeros(corpus.widths[m]), np.zeros(corpus.widths[m])
        for x in (corpus.features[m][i].astype(np.float64) for i in rows):
            if len(x):
                shift = x.mean(axis=0) - mean
                around = ((x - x.mean(axis=0)) ** 2).sum(axis=0)
                squares += around + shift**2 * n * len(x) / (n + len(x))
                mean += shift * len(x) / (n + len(x))
                n += len(x)
        np.testing.assert_array_equal(scaler.mean[m], mean.astype(np.float32))
        np.testing.assert_array_equal(scaler.std[m], np.sqrt(squares / n).astype(np.float32))


def test_the_scaler_sees_nothing_but_its_rows():
    corpus, rows = small_corpus(12), np.arange(6)
    before = Scaler.fit(corpus, rows, ("audio",)).mean["audio"]
    corpus.features["audio"].values[corpus.features["audio"].offsets[6] :] = 1e6
    np.testing.assert_array_equal(Scaler.fit(corpus, rows, ("audio",)).mean["audio"], before)


def test_scaling_is_stable_far_from_zero():
    corpus = small_corpus(12)
    far = corpus.features["audio"].values + np.float32(1e4)
    corpus.features["audio"] = Ragged(far, corpus.features["audio"].offsets)
    scaler = Scaler.fit(corpus, np.arange(12), ("audio",))
    np.testing.assert_allclose(scaler.std["audio"], far.astype(np.float64).std(axis=0), rtol=1e-4)


def test_scaled_batches_have_zero_mean_unit_deviation_and_unscaled_padding():
    corpus = small_corpus(12, padded=True)
    rows = np.arange(12)
    part = whole(corpus, scaler=Scaler.fit(corpus, rows, MODALITIES), pad_to=PADDED)
    batch = part.collate(rows)
    for m in MODALITIES:
        real = batch.sequences[m][batch.masks[m]]
        torch.testing.assert_close(real.mean(0), torch.zeros(WIDTHS[m]), atol=1e-5, rtol=0)
        torch.testing.assert_close(real.std(0, correction=0), torch.ones(WIDTHS[m]))
    assert not batch.sequences["audio"][~batch.masks["audio"]].any()


def test_only_the_modalities_that_the_scaler_was_fitted_on_are_scaled():
    corpus, rows = small_corpus(12), np.arange(12)
    batch = whole(corpus, scaler=Scaler.fit(corpus, rows, ("audio",))).collate(rows)
    plain = whole(corpus).collate(rows)
    assert not torch.equal(batch.sequences["audio"], plain.sequences["audio"])
    for m in ("video", "text"):
        assert torch.equal(batch.sequences[m], plain.sequences[m])


def test_a_constant_feature_keeps_its_scale():
    corpus = small_corpus(12)
    corpus.features["audio"].values[:, 2] = 5.0
    scaler = Scaler.fit(corpus, np.arange(12), ("audio",))
    assert scaler.std["audio"][2] == 1.0
    assert not scaler.apply("audio", corpus.features["audio"].values)[:, 2].any()


def test_a_modality_that_training_never_has_is_left_as_it_is():
    corpus = small_corpus(12, missing=True)
    lacking = np.flatnonzero(corpus.features["video"].lengths == 0)
    scaler = Scaler.fit(corpus, lacking, ("video",))
    frames = corpus.features["video"].values
    np.testing.assert_array_equal(scaler.apply("video", frames), frames)


def test_a_frame_that_is_not_finite_is_told_when_the_scaler_is_fitted():
    corpus = small_corpus(12)
    corpus.features["text"].values[0, 3] = np.nan
    with pytest.raises(InputError, match="'small', text: feature 3 is NaN or infinite"):
        Scaler.fit(corpus, np.arange(12), MODALITIES)


def test_an_utterance_is_found_by_its_id_and_a_near_one_is_named():
    corpus = load_corpus("synthetic", utterances=40)
    assert corpus.find("u00007") == 7
    with pytest.raises(InputError, match="no utterance 'u00007x': did you mean 'u00007'"):
        corpus.find("u00007x")
