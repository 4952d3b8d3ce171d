"""Anybody's own features: the two layouts, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmer_lib.corpora import load_corpus
from mmer_lib.corpora.folder import read_corpus
from mmer_lib.corpora.frames import frames
from mmer_lib.errors import InputError

CSV = "id,label,speaker,split\nclip-1,sad,Ana,train\nclip-2,happy,Ben,dev\nclip-3,sad,Cem,test\n"


def some(T: int, F: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, T, F]).standard_normal((T, F)).astype(np.float32)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three utterances with audio, two with text."""
    made = tmp_path / "mine"
    (made / "audio").mkdir(parents=True)
    (made / "text").mkdir()
    (made / "utterances.csv").write_text(CSV)
    for i, T in ((1, 4), (2, 1), (3, 6)):
        np.save(made / "audio" / f"clip-{i}.npy", some(T))
    for i, T in ((1, 2), (3, 3)):
        np.save(made / "text" / f"clip-{i}.npy", some(T, F=5))
    return made


def arrays() -> dict[str, np.ndarray]:
    """The same corpus as arrays of an archive."""
    return {
        "id": np.array(["clip-1", "clip-2", "clip-3"]),
        "label": np.array(["sad", "happy", "sad"]),
        "speaker": np.array(["Ana", "Ben", "Cem"]),
        "split": np.array(["train", "dev", "test"]),
        "audio_values": np.concatenate([some(4), some(1), some(6)]),
        "audio_lengths": np.array([4, 1, 6]),
        "text_values": np.concatenate([some(2, F=5), some(3, F=5)]),
        "text_lengths": np.array([2, 0, 3]),
    }


def archive(path: Path, **changed: np.ndarray | None) -> Path:
    kept = {name: x for name, x in {**arrays(), **changed}.items() if x is not None}
    np.savez(path / "mine.npz", **kept)
    return path / "mine.npz"


def test_a_column_of_the_users_own_that_is_called_content_is_refused(folder):
    table = folder / "utterances.csv"
    table.write_text(CSV.replace("speaker", "content"))
    refused(folder, "'content'", "is reserved", "another name")


def refused(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        frames(path)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_folder_becomes_a_corpus(folder):
    corpus = frames(folder)
    assert corpus.classes == ("happy", "sad")
    assert corpus.labels.tolist() == [1, 0, 1]
    assert corpus.utterances["speaker"].tolist() == ["Ana", "Ben", "Cem"]
    np.testing.assert_array_equal(corpus.features["audio"][2], some(6))
    np.testing.assert_array_equal(corpus.features["text"][2], some(3, F=5))


def test_an_utterance_without_a_file_has_the_modality_missing(folder):
    assert frames(folder).features["text"].lengths.tolist() == [2, 0, 3]


def test_folder_and_archive_give_the_same_corpus(folder, tmp_path):
    assert frames(folder).fingerprint.isalnum()
    one, other = frames(folder), frames(archive(tmp_path))
    assert one.utterances.equals(other.utterances)
    assert {m: x.values.tobytes() for m, x in one.features.items()} == {
        m: x.values.tobytes() for m, x in other.features.items()
    }


def test_it_can_be_saved_and_opened(folder, tmp_path):
    made = load_corpus("frames", path=folder)
    assert read_corpus(made.save(tmp_path / "corpus")).fingerprint == made.fingerprint


def test_integer_labels_are_class_indices(folder):
    file = folder / "utterances.csv"
    file.write_text("id,label\nclip-1,1\nclip-2,0\nclip-3,2\n")
    corpus = frames(folder)
    assert corpus.labels.tolist() == [1, 0, 2]
    assert corpus.classes == ("class 0", "class 1", "class 2")


def test_integer_labels_in_an_archive_are_class_indices(tmp_path):
    corpus = frames(archive(tmp_path, label=np.array([2, 0, 1], np.int8)))
    assert corpus.labels.tolist() == [2, 0, 1]


def test_names_that_look_like_missing_values_or_numbers_stay_names(folder):
    (folder / "utterances.csv").write_text("id,label\nclip-1,None\nclip-2,NA\nclip-3,1\n")
    assert frames(folder).classes == ("1", "NA", "None")


def test_an_empty_optional_column_is_unknown(folder):
    (folder / "utterances.csv").write_text("id,label,speaker\nclip-1,a,\nclip-2,b,\nclip-3,a,\n")
    assert frames(folder).known("speaker") is None


def test_doubles_become_singles(folder):
    np.save(folder / "audio" / "clip-1.npy", some(4).astype(np.float64))
    np.testing.assert_array_equal(frames(folder).features["audio"][0], some(4))


def test_an_array_without_frames_is_a_missing_modality(folder):
    np.save(folder / "audio" / "clip-2.npy", np.empty((0, 2), np.float32))
    assert frames(folder).features["audio"].lengths.tolist() == [4, 0, 6]


# -- wrong folders ---------------------------------------------------------------------------------

BAD_ARRAYS = {
    "rank": (np.zeros(4), "shape (4,)"),
    "dtype": (np.zeros((4, 2), int), "int64"),
    "complex": (np.zeros((4, 2), complex), "complex128"),
    "not finite": (np.array([[0.0, 1.0], [np.nan, np.inf]]), "2 values"),
    "overflow": (np.full((1, 2), 1e60), "2 values"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_a_wrong_array_is_refused_by_name(folder, case):
    array, word = BAD_ARRAYS[case]
    np.save(folder / "audio" / "clip-2.npy", array)
    refused(folder, "clip-2.npy", word)


def test_a_width_that_differs_names_both_files(folder):
    np.save(folder / "audio" / "clip-3.npy", some(4, F=7))
    refused(folder, "clip-3.npy has 7", "clip-1.npy has 2")


def test_a_pickled_array_is_not_opened(folder):
    array = np.array([{}], dtype=object)
    np.save(folder / "audio" / "clip-2.npy", array, allow_pickle=True)
    refused(folder, "clip-2.npy", "pickled")


def test_a_file_of_no_utterance_is_answered_with_the_nearest_id(folder):
    np.save(folder / "audio" / "clip_1.npy", some(3))
    refused(folder, "clip_1.npy", "did you mean 'clip-1'")


def test_a_folder_that_is_no_modality_is_answered_with_the_nearest(folder):
    (folder / "audio").rename(folder / "adio")
    refused(folder, "'adio'", "did you mean 'audio'")


def test_a_folder_without_modalities_is_refused(folder, tmp_path):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "utterances.csv").write_text(CSV)
    refused(tmp_path / "bare", "no modality")


def test_an_empty_modality_folder_is_refused(folder):
    (folder / "video").mkdir()
    refused(folder, "video has no array")


def test_a_missing_table_is_refused(folder):
    (folder / "utterances.csv").unlink()
    refused(folder, "utterances.csv is missing")


@pytest.mark.parametrize("name", ["../clip-1", "a/b", "/etc/clip", "..", "a\\b"])
def test_an_id_that_would_leave_the_folder_is_refused(folder, name):
    (folder / "utterances.csv").write_text(CSV.replace("clip-1", name))
    refused(folder, "plain file name")


TABLES = {
    "no label": ("id,lable\nclip-1,sad\n", "no column 'label'"),
    "no id": ("name,label\nclip-1,sad\n", "no column 'id'"),
    "same id": (CSV.replace("clip-2", "clip-1"), "'clip-1' is there more than once"),
    "empty label": (CSV.replace("happy", ""), "have no label, the first is number 2"),
    "empty id": (CSV.replace("clip-2", ""), "have no id"),
    "no utterance": ("id,label\n", "no utterance"),
    "no line": ("", "not a readable CSV"),
    "ragged": ("id,label\na,b\nc,d,e,f\n", "not a readable CSV"),
    "one class": (CSV.replace("happy", "sad"), "1 class"),
    "unknown part": (CSV.replace("dev", "valid"), "'valid'"),
    "labels from one": ("id,label\nclip-1,1\nclip-2,2\nclip-3,1\n", "0 .. C - 1"),
    "negative label": ("id,label\nclip-1,-1\nclip-2,0\nclip-3,1\n", "0 .. C - 1"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_wrong_table_is_refused(folder, case):
    content, word = TABLES[case]
    (folder / "utterances.csv").write_text(content)
    refused(folder, word)


def test_a_path_that_is_not_there_is_refused(tmp_path):
    refused(tmp_path / "nowhere", "no such folder")
    refused(tmp_path / "nowhere.npz", "no such file")


# -- wrong archives --------------------------------------------------------------------------------

ARCHIVES = {
    "no utterance": ({"id": np.zeros(0, "U1")}, "no utterance"),
    "no id": ({"id": None}, "no array 'id'"),
    "no label": ({"label": None}, "no array 'label'"),
    "no lengths": ({"audio_lengths": None}, "no array 'audio_lengths'"),
    "no values": ({"text_values": None}, "no array 'text_values'"),
    "no modality": (
        dict.fromkeys(["audio_values", "audio_lengths", "text_values", "text_lengths"]),
        "no modality",
    ),
    "rank": ({"audio_values": np.zeros((11, 2, 1))}, "(11, 2, 1)"),
    "dtype": ({"audio_values": np.zeros((11, 2), int)}, "int64"),
    "not finite": ({"audio_values": np.full((11, 2), np.nan)}, "22 values"),
    "sum": ({"audio_lengths": np.array([4, 1, 7])}, "sum to 12"),
    "negative": ({"audio_lengths": np.array([12, -1, 0])}, "-1 at [1]"),
    "number of lengths": ({"audio_lengths": np.array([11])}, "(1,)"),
    "lengths dtype": ({"audio_lengths": np.array([4.0, 1.0, 6.0])}, "float64"),
    "label dtype": ({"label": np.array([0.0, 1.0, 0.0])}, "float64"),
    "number of labels": ({"label": np.array(["a", "b"])}, "(2,)"),
    "same id": ({"id": np.array(["a", "b", "a"])}, "'a' is there more than once"),
    "unknown array": ({"audio_length": np.zeros(3)}, "did you mean 'audio_lengths'"),
    "pickled": ({"label": np.array([{}, {}, {}], dtype=object)}, "pickled"),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_a_wrong_archive_is_refused(tmp_path, case):
    changed, word = ARCHIVES[case]
    refused(archive(tmp_path, **changed), word)
