"""MMMO: where a sequence begins and ends, missing text, classes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from real_data import real_data

from mmer_lib.corpora.mmmo import mmmo
from mmer_lib.errors import InputError

T, WIDTHS = 6, {"audio": 3, "visual": 2, "text": 4}
RATINGS = {"train": [1.0, 3.0, 3.5, 5.0], "valid": [2.5, 4.0], "test": [1.5, 4.5, 3.0]}


def arrays() -> dict[str, np.ndarray]:
    """Full sequences of non-zero numbers; no text in train."""
    rng = np.random.default_rng(0)
    made = {}
    for split, ratings in RATINGS.items():
        made[f"{split}_y"] = np.array(ratings, np.float32)
        for name, width in WIDTHS.items():
            if (split, name) != ("train", "text"):
                made[f"{split}_{name}"] = rng.uniform(1, 2, (len(ratings), T, width))
    return {name: x.astype(np.float32) for name, x in made.items()}


def write(path: Path, made: dict[str, np.ndarray]) -> Path:
    np.savez(path / "mmmo.npz", **made)
    return path / "mmmo.npz"


def test_padding_on_the_left_and_on_the_right_is_cut(tmp_path):
    made = arrays()
    for name in ("audio", "visual", "text"):
        made[f"valid_{name}"][0, :2] = 0
        made[f"valid_{name}"][1, 5:] = 0
    corpus = mmmo(write(tmp_path, made))
    for modality, name in (("audio", "audio"), ("video", "visual"), ("text", "text")):
        np.testing.assert_array_equal(corpus.features[modality][4], made[f"valid_{name}"][0, 2:])
        np.testing.assert_array_equal(corpus.features[modality][5], made[f"valid_{name}"][1, :5])


def test_zero_rows_inside_and_at_the_ends_of_one_modality_stay(tmp_path):
    made = arrays()
    made["valid_visual"][0, [0, 3, 5]] = 0  # words without a face; audio goes on
    corpus = mmmo(write(tmp_path, made))
    np.testing.assert_array_equal(corpus.features["video"][4], made["valid_visual"][0])


def test_modalities_stay_aligned_word_by_word(tmp_path):
    made = arrays()
    for name, silent in (("visual", 3), ("audio", 2), ("text", 1)):
        made[f"test_{name}"][1, :silent] = 0
    corpus = mmmo(write(tmp_path, made))
    assert [corpus.features[m].lengths[7] for m in ("audio", "video", "text")] == [5, 5, 5]


def test_a_modality_that_is_absent_or_all_zero_is_missing(tmp_path):
    made = arrays()
    made["test_visual"][2] = 0
    corpus = mmmo(write(tmp_path, made))
    assert corpus.features["text"].lengths.tolist() == [0] * 4 + [T] * 5
    assert corpus.features["video"].lengths.tolist() == [T] * 8 + [0]
    assert any("train 4 of 4, dev 0 of 2, test 0 of 3" in note for note in corpus.notes)


def test_the_middle_rating_is_negative_and_anything_above_is_positive(tmp_path):
    corpus = mmmo(write(tmp_path, arrays()))
    assert corpus.classes == ("negative", "positive")
    assert corpus.labels.tolist() == [0, 0, 1, 1, 0, 1, 0, 1, 0]
    assert corpus.utterances["rating"].tolist() == [r for rs in RATINGS.values() for r in rs]


def test_valid_is_the_dev_part(tmp_path):
    (fold,) = mmmo(write(tmp_path, arrays())).folds("published")
    assert [list(fold.train), list(fold.dev), list(fold.test)] == [[0, 1, 2, 3], [4, 5], [6, 7, 8]]
    assert fold.leakage.speakers is fold.leakage.dialogues is fold.leakage.transcripts is None


WRONG = {
    "missing array": ("train_audio", None, "no array 'train_audio'"),
    "rank": ("train_audio", np.ones((4, 3)), "(4, 3)"),
    "rows": ("valid_text", np.ones((3, T, 4)), "(3, 6, 4)"),
    "time": ("test_visual", np.ones((3, T + 1, 2)), "(3, 7, 2)"),
    "width": ("test_visual", np.ones((3, T, 3)), "(3, 6, 3)"),
    "dtype": ("valid_audio", np.ones((2, T, 3), int), "int64"),
    "not finite": ("valid_audio", np.full((2, T, 3), np.inf), "the first at [0, 0, 0]"),
    "rating": ("test_y", np.array([1.0, 6.0, 2.0]), "6.0 at [1]"),
    "rating that is no number": ("test_y", np.array([1.0, 2.0, np.nan]), "nan at [2]"),
    "no utterance": ("test_y", np.zeros(0), "no utterance"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_array_is_refused_by_name(tmp_path, case):
    name, value, word = WRONG[case]
    made = {**arrays(), name: value}
    file = write(tmp_path, {name: x for name, x in made.items() if x is not None})
    with pytest.raises(InputError) as caught:
        mmmo(file)
    assert name in str(caught.value)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_real_corpus_has_its_published_sizes():
    corpus = mmmo(real_data("mmmo/mmmo.npz"))
    assert corpus.widths == {"audio": 74, "video": 36, "text": 300}
    sizes = {"train": 220, "dev": 40, "test": 80}
    assert corpus.utterances["split"].value_counts().to_dict() == sizes
    assert (corpus.features["text"].lengths == 0).sum() == 220
    assert corpus.features["audio"].lengths.min() >= 1


def test_every_frame_of_real_audio_is_sound():
    audio = mmmo(real_data("mmmo/mmmo.npz")).features["audio"]
    assert (audio.values != 0).any(axis=1).all()  # so no padding was taken for a word
