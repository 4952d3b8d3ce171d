"""A corpus folder: written whole or not at all, opened without trust."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmer_lib.corpora import Corpus, Ragged, folder, load_corpus
from mmer_lib.corpora.base import check_finite
from mmer_lib.corpora.folder import read_corpus
from mmer_lib.errors import InputError


def little(**changed: object) -> Corpus:
    """Four utterances, one without video, with events and published folds."""
    rng = np.random.default_rng(0)
    audio = [rng.standard_normal((T, 3)).astype(np.float32) for T in (2, 1, 4, 3)]
    video = [rng.standard_normal((T, 2)).astype(np.float32) for T in (1, 0, 2, 5)]
    ids = ["007", "1e5", "NA", "d"]  # what a careless reader takes for numbers or for nothing
    given: dict = {
        "name": "little",
        "classes": ("calm", "loud"),
        "utterances": pd.DataFrame(
            {"id": ids, "label": [0, 1, 1, 0], "speaker": ["01", "01", "2", "2"]}
        ),
        "features": {"audio": Ragged.from_list(audio, 3), "video": Ragged.from_list(video, 2)},
        "recipe": {"audio": {"features": "noise", "rate": 100.0}},
        "events": pd.DataFrame(
            {"id": ["007"], "modality": ["audio"], "frame": [1], "role": ["ask"],
             "key": [0], "value": [-1]}
        ),
        "published": pd.DataFrame({"id": ids, "fold01": ["train", "dev", "test", ""]}),
        "notes": ("planted",),
    }  # fmt: skip
    return Corpus(**{**given, **changed})


@pytest.fixture
def saved(tmp_path) -> Path:
    return little().save(tmp_path / "corpus")


def refused(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_corpus(path)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


# -- there and back --------------------------------------------------------------------------------


def test_a_corpus_comes_back_as_it_was(saved):
    corpus, back = little(), load_corpus(saved)
    assert (back.name, back.classes, back.recipe, back.notes) == (
        corpus.name, corpus.classes, corpus.recipe, corpus.notes,
    )  # fmt: skip
    assert back.utterances["id"].tolist() == ["007", "1e5", "NA", "d"]
    assert back.utterances["speaker"].tolist() == ["01", "01", "2", "2"]
    assert back.events is not None
    assert back.events["id"].tolist() == ["007"]
    for modality in corpus.modalities:
        for frames, expected in zip(
            back.features[modality], corpus.features[modality], strict=True
        ):
            np.testing.assert_array_equal(frames, expected)


def test_features_stay_on_disk(saved):
    assert isinstance(read_corpus(saved).features["audio"].values, np.memmap)


def test_the_fingerprint_survives_saving_twice(saved, tmp_path):
    once = read_corpus(saved)
    twice = read_corpus(once.save(tmp_path / "again"))
    assert little().fingerprint == once.fingerprint == twice.fingerprint


def test_a_changed_frame_changes_the_fingerprint():
    corpus = little()
    values = corpus.features["audio"].values.copy()
    values[3, 1] += 1e-6
    changed = {**corpus.features, "audio": Ragged(values, corpus.features["audio"].offsets)}
    assert little(features=changed).fingerprint != corpus.fingerprint


# -- writing: whole or not at all ------------------------------------------------------------------


def test_an_existing_destination_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="already exists"):
        little().save(tmp_path / "mine")
    assert not list((tmp_path / "mine").iterdir())


def test_a_destination_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        little().save(tmp_path / "file" / "corpus")


def test_features_that_are_not_finite_leave_nothing_behind(tmp_path):
    corpus = little()
    corpus.features["video"].values[4, 1] = np.nan
    with pytest.raises(InputError, match=r"video: 1 values .* \[4, 1\]"):
        corpus.save(tmp_path / "corpus")
    assert not list(tmp_path.iterdir())


def test_a_failure_half_way_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("mmer_lib.corpora.folder.write_tables", fail)
    with pytest.raises(OSError, match="disk full"):
        little().save(tmp_path / "corpus")
    assert not list(tmp_path.iterdir())


def test_numbers_that_are_not_finite_are_counted_and_placed_across_slices(monkeypatch):
    monkeypatch.setattr("mmer_lib.corpora.base._SLICE_BYTES", 24)  # two rows at a time
    values = np.zeros((7, 3), np.float32)
    values[3, 2] = values[5, 0] = np.inf
    with pytest.raises(InputError, match=r"here: 2 values .* \[3, 2\]"):
        check_finite(values, "here")


# -- wrong folders ---------------------------------------------------------------------------------


def test_a_folder_that_is_no_corpus_is_refused(tmp_path):
    refused(tmp_path, "not a corpus folder", "mmer corpus make")


@pytest.mark.parametrize("name", ["utterances.csv", "audio.offsets.npy"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    refused(saved, name, "missing")


def test_values_without_their_file_are_refused(saved):
    (saved / "video.values.npy").unlink()
    refused(saved, "video.values.npy")


@pytest.mark.parametrize("content", ["", "{", "[]", "5", '"text"', '{"format": 1}'])
def test_a_broken_description_is_refused(saved, content):
    (saved / "corpus.json").write_text(content)
    refused(saved, "corpus.json", "make the corpus again")


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("recipe", []), ("recipe", {"audio": 3}), ("hashes", 5), ("hashes", {"audio": 5}),
        ("classes", "calm"), ("classes", [1, 2]), ("notes", None), ("tables", ["utterances.csv"]),
        ("arrays", [1]), ("name", 3),
    ],
)  # fmt: skip
def test_a_member_of_the_wrong_kind_is_named(saved, key, given):
    about = json.loads((saved / "corpus.json").read_text())
    (saved / "corpus.json").write_text(json.dumps({**about, key: given}))
    refused(saved, "corpus.json", f": {key} is not ", "make the corpus again")


def test_a_format_of_another_version_is_refused(saved):
    about = json.loads((saved / "corpus.json").read_text())
    (saved / "corpus.json").write_text(json.dumps({**about, "format": 99}))
    refused(saved, "corpus.json", "format 99")


ARRAYS = {
    "rank": ("audio.values.npy", np.zeros((10, 3, 1), np.float32), "(10, 3, 1)"),
    "dtype": ("audio.values.npy", np.zeros((10, 3)), "float64"),
    "too few frames": ("audio.values.npy", np.zeros((9, 3), np.float32), "9 frames"),
    "offsets dtype": ("audio.offsets.npy", np.array([0.0, 2, 3, 7, 10]), "float64"),
    "offsets rank": ("audio.offsets.npy", np.array([[0, 10]]), "(1, 2)"),
    "falling": ("audio.offsets.npy", np.array([0, 5, 3, 7, 10]), "never fall"),
    "beyond": ("audio.offsets.npy", np.array([0, 2, 3, 7, 12]), "to 12"),
    "not from zero": ("audio.offsets.npy", np.array([1, 2, 3, 7, 10]), "from 1"),
    "too few sequences": ("audio.offsets.npy", np.array([0, 2, 3, 10]), "3 sequences for 4"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_a_wrong_array_is_refused_by_name(saved, case):
    name, array, word = ARRAYS[case]
    np.save(saved / name, array)
    refused(saved, "audio", word)


@pytest.mark.parametrize("name", ["audio.values.npy", "audio.offsets.npy"])
def test_a_pickled_array_is_not_opened(saved, name):
    np.save(saved / name, np.array([{}], dtype=object), allow_pickle=True)
    refused(saved, name, "pickled")


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_array_is_refused(saved, content):
    (saved / "video.values.npy").write_bytes(content)
    refused(saved, "video.values.npy", "not a plain .npy array")


TABLES = {
    "label outside": ("id,label\na,0\nb,1\nc,2\nd,0\n", "label 2 of utterance 'c' is outside 0..1"),
    "negative label": ("id,label\na,0\nb,-1\nc,0\nd,0\n", "label -1"),
    "label no integer": ("id,label\na,0\nb,x\nc,0\nd,0\n", "labels must be integers"),
    "label missing": ("id,label\na,0\nb,\nc,0\nd,0\n", "labels must be integers"),
    "no label": ("id\na\nb\nc\nd\n", "no column 'label'"),
    "same id": ("id,label\na,0\na,1\nc,1\nd,0\n", "'a' appears twice"),
    "too few rows": ("id,label\na,0\nb,1\n", "4 sequences for 2"),
    "no row": ("id,label\n", "no utterance"),
    "nothing": ("", "not a readable CSV"),
    "unknown part": ("id,label,split\na,0,train\nb,1,tset\nc,1,dev\nd,0,test\n",
                     "did you mean 'test'"),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLES)
def test_a_wrong_table_is_refused(saved, case):
    content, word = TABLES[case]
    (saved / "utterances.csv").write_text(content)
    refused(saved, word)


def test_a_table_changed_by_hand_is_refused(saved):
    file = saved / "utterances.csv"
    file.write_text(file.read_text().replace("007,0,", "007,1,"))
    refused(saved, "utterances.csv was changed after the corpus was made")


def edit(file: Path, value: float) -> None:
    """Set one number of an array file in place, a second after it was written."""
    array = np.load(file, mmap_mode="r+")
    array[2, 1] = value
    array.flush()
    later = file.stat().st_mtime_ns + 10**9
    os.utime(file, ns=(later, later))


@pytest.mark.parametrize("value", [7.0, np.nan])
def test_an_array_changed_in_place_is_refused(saved, value):
    edit(saved / "audio.values.npy", value)
    refused(saved, "audio.values.npy was changed after the corpus was made")


def test_offsets_that_fit_but_are_others_are_refused(saved):
    np.save(saved / "audio.offsets.npy", np.array([0, 1, 3, 7, 10]))
    os.utime(saved / "audio.offsets.npy", ns=(1, 1))
    refused(saved, "audio.offsets.npy was changed after the corpus was made")


def test_a_copied_folder_is_the_same_corpus(saved, tmp_path):
    copy = shutil.copytree(saved, tmp_path / "copy", copy_function=shutil.copyfile)
    for file in copy.glob("*.npy"):
        os.utime(file, ns=(1, 1))
    assert read_corpus(copy).fingerprint == read_corpus(saved).fingerprint


def test_arrays_are_not_hashed_again_where_nothing_was_touched(saved, monkeypatch):
    hashed: list[object] = []
    real = folder.blake2b
    monkeypatch.setattr(folder, "blake2b", lambda *parts: hashed.extend(parts) or real(*parts))
    read_corpus(saved)
    assert hashed
    assert all(isinstance(part, bytes) for part in hashed)  # the tables alone


FOLDS = {
    "other utterances": ("id,fold01\nx,train\ny,dev\nz,test\nw,\n", "folds.csv"),
    "other order": ("id,fold01\nd,train\nNA,dev\n1e5,test\n007,\n", "folds.csv"),
    "too few rows": ("id,fold01\n007,train\n1e5,test\n", "folds.csv"),
    "numbers": ("id,fold01\n007,1\n1e5,2\nNA,\nd,\n", "unknown part in published fold"),
    "nothing, and a number": (
        "id,fold01,fold02\n007,,1.5\n1e5,,\nNA,,\nd,,\n",
        "unknown part in published fold",
    ),
    "unknown part": ("id,fold01\n007,train\n1e5,dve\nNA,test\nd,\n", "did you mean 'dev'"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", FOLDS)
def test_wrong_published_folds_are_refused(saved, case):
    content, word = FOLDS[case]
    (saved / "folds.csv").write_text(content)
    refused(saved, word)


def test_a_folder_takes_no_options(saved):
    with pytest.raises(InputError, match="takes no options"):
        load_corpus(saved, context=3)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such corpus folder"):
        load_corpus(tmp_path / "nowhere")


@pytest.mark.parametrize("given", [None, 3, ["synthetic"]])
def test_what_is_neither_a_name_nor_a_path_is_refused(given):
    with pytest.raises(InputError, match=r"corpus=.*: the path of a file or folder expected"):
        load_corpus(given)


@pytest.mark.parametrize("name", ["mosi", "mmmo", "frames"])
def test_a_source_that_is_no_path_is_refused(name):
    with pytest.raises(InputError, match=r"path=None: the path of a file or folder expected"):
        load_corpus(name, path=None)


def test_an_unknown_corpus_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'synthetic'"):
        load_corpus("sinthetic")


def test_an_unknown_option_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'utterances'"):
        load_corpus("synthetic,utterance=30")


@pytest.mark.parametrize("given", ["synthetic,utterances=many", "synthetic,noise=", "synthetic,x"])
def test_an_option_that_is_no_number_is_refused(given):
    with pytest.raises(InputError, match=r"corpus .synthetic.: |in .synthetic,"):
        load_corpus(given)


def test_a_corpus_that_needs_a_path_says_so():
    with pytest.raises(InputError, match="needs a path"):
        load_corpus("mosi")


# -- wrong pieces ----------------------------------------------------------------------------------


def test_a_modality_asked_for_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="has no text: it has audio, video"):
        little().require(["audio", "text"])


def test_a_corpus_of_one_class_is_refused():
    with pytest.raises(InputError, match="at least 2"):
        little(classes=("calm",))


def test_an_unknown_modality_is_answered_with_the_nearest():
    features = {"vido": Ragged.from_list([np.zeros((1, 2))] * 4, 2)}
    with pytest.raises(InputError, match="did you mean 'video'"):
        little(features=features)


def test_a_corpus_without_modalities_is_refused():
    with pytest.raises(InputError, match="no modality"):
        little(features={})
