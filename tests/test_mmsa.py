"""MMSA's feature files: which frames are real, labels, and what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmer_lib.corpora import MODALITIES, Corpus
from mmer_lib.corpora.mmsa import mmsa
from mmer_lib.errors import InputError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
RATINGS = {"train": [-2.4, 0.0, 1.5, 2.5], "valid": [-0.4, 3.0], "test": [0.0, 0.6, -3.0]}
STEPS = {"audio": 9, "vision": 12, "text": 7}
WIDTHS = {"audio": 5, "vision": 4, "text": 6}


def split(name: str, aligned: bool, at_start: bool = False) -> dict[str, Any]:
    """One split as MMSA writes it; utterance i has i + 1 words and so many frames of each kind."""
    ratings = RATINGS[name]
    rng, n = np.random.default_rng(len(name)), len(ratings)
    made: dict[str, Any] = {
        "raw_text": [f"words {i} of {name}" for i in range(n)],
        "id": [f"{name}{i // 2}$_${i}" for i in range(n)],
        "regression_labels": np.array(ratings, np.float32),
        "annotations": [("Neutral", "Positive", "Negative")[int(np.sign(r))] for r in ratings],
    }
    for kind, width in WIDTHS.items():
        steps = STEPS["text"] if aligned else STEPS[kind]
        made[kind] = np.zeros((n, steps, width), np.float32)
        for i in range(n):
            frames = rng.standard_normal((i + 1, width)) + 3
            place = slice(steps - i - 1, steps) if at_start else slice(i + 1)
            made[kind][i, place] = frames
    mask = (made["text"] != 0).any(axis=2)
    made["text_bert"] = np.stack([mask, mask, mask * 0], axis=1).astype(np.float32)
    if not aligned:
        made["audio_lengths"] = [i + 1 for i in range(n)]
        made["vision_lengths"] = np.arange(1, n + 1)
    return made


def dataset(aligned: bool = False, **options: bool) -> dict[str, Any]:
    return {name: split(name, aligned, **options) for name in RATINGS}


def write(path: Path, content: Any, protocol: int = 4) -> Path:
    file = path / "data.pkl"
    file.unlink(missing_ok=True)  # what maps the one before keeps it
    file.write_bytes(pickle.dumps(content, protocol))
    return file


def make(path: Path, content: Any, protocol: int = 4, classes: int = 3) -> Corpus:
    """The corpus of a file with that content."""
    return mmsa(write(path, content, protocol), path / "made", classes)


def refused(file: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        mmsa(file, file.parent / "made")
    assert not (file.parent / "made").exists()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


# -- the corpus ------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_start", [False, True])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_frames_are_the_real_ones_on_whichever_side_the_padding_is(
    tmp_path, protocol, aligned, at_start
):
    given = dataset(aligned, at_start=at_start)
    corpus = make(tmp_path, given, protocol)
    for modality, kind in (("audio", "audio"), ("video", "vision"), ("text", "text")):
        rows = [part[kind][i] for part in given.values() for i in range(len(part["id"]))]
        for row, frames in zip(rows, corpus.features[modality], strict=True):
            np.testing.assert_array_equal(frames, row[(row != 0).any(axis=1)])


def test_the_table_says_split_video_words_and_rating(tmp_path):
    corpus = make(tmp_path, dataset())
    table = corpus.utterances
    assert table["split"].tolist() == ["train"] * 4 + ["dev"] * 2 + ["test"] * 3
    assert table["id"][3] == "train1$_$3"
    assert table["dialogue"].tolist()[:4] == ["train0", "train0", "train1", "train1"]
    assert table["text"][4] == "words 0 of valid"
    np.testing.assert_allclose(table["sentiment"], np.concatenate([*RATINGS.values()]))
    (fold,) = corpus.folds("published")
    assert fold.test.tolist() == [6, 7, 8]


def test_three_classes_follow_the_annotations(tmp_path):
    given = dataset()
    given["train"]["annotations"][0] = "Positive"
    corpus = make(tmp_path, given)
    assert corpus.classes == ("negative", "neutral", "positive")
    assert corpus.labels.tolist() == [2, 1, 2, 2, 0, 2, 1, 2, 0]
    assert any(note.startswith("The annotation of 1 utterances is not") for note in corpus.notes)


def test_without_annotations_three_classes_are_the_signs(tmp_path):
    given = dataset()
    for part in given.values():
        del part["annotations"]
    assert make(tmp_path, given).labels.tolist() == [0, 1, 2, 2, 0, 2, 1, 2, 0]


def test_two_classes_leave_the_neutral_out_and_say_how_many(tmp_path):
    corpus = make(tmp_path, dataset(), classes=2)
    assert corpus.classes == ("negative", "positive")
    assert corpus.labels.tolist() == [0, 1, 1, 0, 1, 1, 0]
    assert corpus.features["audio"].lengths.tolist() == [1, 3, 4, 1, 2, 2, 3]
    assert any(note.startswith("2 utterances rated 0") for note in corpus.notes)


def test_seven_classes_are_ratings_rounded_halves_to_even(tmp_path):
    corpus = make(tmp_path, dataset(), classes=7)
    # ratings        -2.4, 0, 1.5, 2.5, -0.4, 3, 0, 0.6, -3
    assert (corpus.labels - 3).tolist() == [-2, 0, 2, 2, 0, 3, 0, 1, -3]


def test_ch_sims_has_its_unimodal_ratings_and_no_seven_classes(tmp_path):
    given = dataset()
    for part in given.values():
        part["regression_labels"] = part["regression_labels"] / 3
        for letter in "AVT":
            part[f"regression_labels_{letter}"] = part["regression_labels"][:, None] * 0.5
    file = write(tmp_path, given)
    table = mmsa(file, tmp_path / "made").utterances
    np.testing.assert_allclose(table["sentiment_video"], table["sentiment"] / 2)
    with pytest.raises(InputError, match="7 classes need ratings"):
        mmsa(file, tmp_path / "other", classes=7)


def test_infinite_and_undefined_numbers_become_zero_and_are_counted(tmp_path):
    given = dataset()
    given["train"]["audio"][1, 0, :2] = -np.inf, np.nan
    corpus = make(tmp_path, given)
    assert corpus.features["audio"][1][0, :2].tolist() == [0, 0]
    assert "audio: 2 numbers that were NaN or infinite are 0." in corpus.notes


def test_an_utterance_that_is_all_zero_is_missing(tmp_path):
    given = dataset()
    given["valid"]["vision"][1] = 0
    corpus = make(tmp_path, given)
    assert corpus.features["video"].lengths.tolist() == [1, 2, 3, 4, 1, 0, 1, 2, 3]
    assert "vision: 1 utterances have none." in corpus.notes


def test_numbers_outside_a_length_are_left_out_and_counted(tmp_path):
    given = dataset()
    given["train"]["audio_lengths"][3] = 2
    given["test"]["audio_lengths"][0] = 99  # more than there are: all of them
    corpus = make(tmp_path, given)
    assert corpus.features["audio"].lengths.tolist() == [1, 2, 3, 2, 1, 2, 9, 2, 3]
    assert "audio: 1 utterances have numbers outside their length; left out." in corpus.notes


def test_a_zero_row_between_aligned_words_stays_in_its_place(tmp_path):
    given = dataset(aligned=True)
    given["train"]["audio"][3, 1] = 0  # silence at the second of four words
    given["train"]["vision"][3, 3] = 0  # no face at the last
    corpus = make(tmp_path, given)
    assert [int(corpus.features[m].lengths[3]) for m in MODALITIES] == [4, 4, 4]
    assert not corpus.features["audio"][3][1].any()


def test_text_without_tokens_has_the_rows_that_are_not_zero(tmp_path):
    given = dataset(aligned=True)
    for part in given.values():
        del part["text_bert"]
    assert make(tmp_path, given).features["text"].lengths.tolist()[:4] == [1, 2, 3, 4]


def test_a_file_without_a_modality_has_the_others(tmp_path):
    given = dataset()
    for part in given.values():
        del part["vision"]
    assert make(tmp_path, given).modalities == ("audio", "text")


def remove(*path: str) -> Callable[[dict], None]:
    def change(given: dict) -> None:
        for key in path[:-1]:
            given = given[key]
        del given[path[-1]]

    return change


def put(value: Any, *path: str) -> Callable[[dict], None]:
    def change(given: dict) -> None:
        for key in path[:-1]:
            given = given[key]
        given[path[-1]] = value

    return change


WRONG = {
    "no split": (remove("valid"), "has no split 'valid'; it has 'train', 'test'"),
    "no ratings": (remove("test", "regression_labels"), "test has no 'regression_labels'"),
    "no ids": (remove("train", "id"), "train has no 'id'"),
    "one split without": (remove("test", "audio"), "audio is missing in test"),
    "few ratings": (
        put(np.zeros(3), "train", "regression_labels"),
        "train, regression_labels: float64 array of shape (3,)",
    ),
    "no number": (put(["a"] * 4, "train", "regression_labels"), "other things than numbers"),
    "not a rating": (put(np.full(4, np.nan), "train", "regression_labels"), "is NaN or infinite"),
    "rank": (
        put(np.zeros((4, 5)), "train", "audio"),
        "train, audio: float64 array of shape (4, 5)",
    ),
    "integers": (put(np.zeros((4, 9, 5), int), "train", "audio"), "int64 array"),
    "width": (put(np.ones((4, 9, 8), "f4"), "train", "audio"), "has the shapes"),
    "tokens": (put(np.zeros((4, 50)), "train", "text_bert"), "train, text_bert"),
    "steps": (put(np.ones((4, 3, 8)), "train", "text_bert"), "8 steps, but text has 7"),
    "negative": (put([1, 2, -3, 4], "train", "audio_lengths"), "length -3; expected 0 or more"),
    "fractions": (put([1.0, 2, 3, 4], "train", "audio_lengths"), "float64 array"),
    "annotation": (put(["Positve"] * 4, "train", "annotations"), "annotation 'positve'"),
    "same id": (put(["a", "b", "c", "a"], "train", "id"), "id 'a' is there more than once"),
    "ids of numbers": (put([1, 2, 3, 4], "train", "id"), "expected a text for each"),
    "few words": (put(["a"], "train", "raw_text"), "list of 1; expected a text for each of the 4"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_whose_parts_do_not_fit_is_refused(tmp_path, case):
    change, word = WRONG[case]
    given = dataset()
    change(given)
    refused(write(tmp_path, given), "data.pkl", word)


def test_a_file_of_something_else_is_refused(tmp_path):
    refused(write(tmp_path, [1, 2]), "holds a list; expected a dict of splits")
    refused(tmp_path / "nowhere.pkl", "no such file")
    with pytest.raises(InputError, match="classes=5; expected one of 2, 3, 7"):
        make(tmp_path, dataset(), classes=5)


class Touch:
    """Makes a file when ``pickle`` reads it."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_a_hostile_file_is_refused_and_runs_nothing(tmp_path):
    given, mark = dataset(), tmp_path / "mark"
    given["test"]["raw_text"][0] = Touch(mark)
    file = write(tmp_path, given)
    refused(file, "data.pkl is refused at byte", "it asks for", "nothing in the file was run")
    assert not mark.exists()
    pickle.loads(file.read_bytes())  # the bait is a real one
    assert mark.exists()
