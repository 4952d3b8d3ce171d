"""MOSI: the context window, the split, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from real_data import real_data

from mmer_lib.corpora import MODALITIES, PARTS, Corpus, load_corpus
from mmer_lib.corpora.mosi import mosi
from mmer_lib.errors import InputError

VIDEOS = {"train": {"a": 5, "b": 1, "c": 3}, "test": {"d": 4, "e": 2}}  # utterances in each
WIDTHS = {"text": 3, "audio": 4, "visual": 2}


def arrays() -> dict[str, np.ndarray]:
    """A little MOSI whose audio feature 0 is the place in the video; rows are shuffled."""
    rng = np.random.default_rng(0)
    made = {}
    for split, videos in VIDEOS.items():
        names = np.repeat(list(videos), list(videos.values()))
        places = np.concatenate([np.arange(1, n + 1) for n in videos.values()])
        shuffled = rng.permutation(len(names))
        made[f"{split}_video_id"] = names[shuffled]
        made[f"{split}_pos"] = places[shuffled].astype(np.int16)
        made[f"{split}_label"] = (np.arange(len(names)) % 2).astype(np.int8)
        made[f"{split}_transcript"] = np.array([f"WORDS {i} {split}" for i in range(len(names))])
        for name, width in WIDTHS.items():
            features = rng.standard_normal((len(names), width)).astype(np.float32)
            made[f"{split}_{name}"] = features
        made[f"{split}_audio"][:, 0] = places[shuffled]
    return made


def write(path: Path, **changed: np.ndarray | None) -> Path:
    file = path / "mosi.npz"
    kept = {name: x for name, x in {**arrays(), **changed}.items() if x is not None}
    np.savez(file, **kept)
    return file


def places_shown(corpus: Corpus, utterance: str) -> list[int]:
    row = list(corpus.utterances["id"]).index(utterance)
    return [int(x) for x in corpus.features["audio"][row][:, 0]]


def test_a_window_holds_the_neighbours_in_the_order_of_the_video(tmp_path):
    corpus = mosi(write(tmp_path), context=1)
    assert places_shown(corpus, "a-003") == [2, 3, 4]


def test_a_window_is_cut_at_the_ends_of_its_video(tmp_path):
    corpus = mosi(write(tmp_path), context=2)
    assert places_shown(corpus, "a-001") == [1, 2, 3]
    assert places_shown(corpus, "a-005") == [3, 4, 5]
    assert places_shown(corpus, "b-001") == [1]


def test_without_context_a_sequence_is_the_utterance_itself(tmp_path):
    corpus = mosi(write(tmp_path), context=0)
    made = arrays()
    for modality, name in (("audio", "audio"), ("video", "visual"), ("text", "text")):
        both = np.concatenate([made[f"train_{name}"], made[f"test_{name}"]])
        np.testing.assert_array_equal(corpus.features[modality].values, both)


def test_all_modalities_share_the_window(tmp_path):
    corpus = mosi(write(tmp_path), context=2)
    lengths = [corpus.features[m].lengths.tolist() for m in MODALITIES]
    assert lengths[0] == lengths[1] == lengths[2]


@pytest.mark.parametrize("context", [0, 1, 5])
def test_the_marked_frame_is_the_utterance(tmp_path, context):
    corpus = mosi(write(tmp_path), context)
    assert corpus.events is not None
    assert len(corpus.events) == len(corpus) * len(MODALITIES)
    for event in corpus.events[corpus.events["modality"] == "audio"].itertuples():
        row = list(corpus.utterances["id"]).index(event.id)
        place = corpus.utterances["position"][row]
        assert corpus.features["audio"][row][event.frame, 0] == place


def test_the_published_split_gets_a_dev_part_of_whole_videos(tmp_path):
    corpus = mosi(write(tmp_path))
    (fold,) = corpus.folds("published")
    videos = {part: set(corpus.utterances["dialogue"][getattr(fold, part)]) for part in PARTS}
    assert videos["test"] == {"d", "e"}
    assert videos["train"] | videos["dev"] == {"a", "b", "c"}
    assert not videos["train"] & videos["dev"]
    assert fold.leakage.dialogues == 0
    assert fold.leakage.speakers is None


def test_context_given_as_text_is_a_number(tmp_path):
    corpus = load_corpus("mosi,context=1", path=write(tmp_path))
    assert corpus.features["audio"].lengths.max() == 3


WRONG = {
    "missing array": ({"test_audio": None}, "no array 'test_audio'"),
    "rank": ({"train_text": np.zeros((9, 2, 3))}, "(9, 2, 3)"),
    "rows": ({"train_text": np.zeros((8, 3))}, "(8, 3)"),
    "width": ({"test_visual": np.zeros((6, 5))}, "(6, 5)"),
    "dtype": ({"train_audio": np.zeros((9, 4), int)}, "int64"),
    "not finite": ({"train_audio": np.full((9, 4), np.nan)}, "36 values"),
    "label": ({"train_label": np.full(9, 2)}, "outside 0..1"),
    "label dtype": ({"train_label": np.zeros(9)}, "float64"),
    "same place": ({"test_pos": np.ones(6, int)}, "given twice"),
    "no utterance": ({"test_label": np.zeros(0, int)}, "no utterance"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_array_is_refused_by_name(tmp_path, case):
    changed, word = WRONG[case]
    file = write(tmp_path, **changed)
    with pytest.raises(InputError) as caught:
        mosi(file)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickled_member_is_not_opened(tmp_path):
    file = write(tmp_path, train_text=np.array([{}] * 9, dtype=object))
    with pytest.raises(InputError, match="pickled"):
        mosi(file)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no archive at all"])
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "mosi.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"not a plain \.npz"):
        mosi(tmp_path / "mosi.npz")


def test_a_single_array_is_no_archive(tmp_path):
    np.save(tmp_path / "mosi.npy", np.zeros(3))
    with pytest.raises(InputError, match=r"one \.npy array"):
        mosi(tmp_path / "mosi.npy")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        mosi(tmp_path / "nowhere.npz")


@pytest.mark.parametrize("context", [-1, 1.5, None])
def test_a_context_that_is_no_whole_number_from_zero_on_is_refused(tmp_path, context):
    with pytest.raises(InputError, match=f"context={context}: a whole number of at least 0"):
        mosi(write(tmp_path), context=context)


def test_the_real_corpus_has_its_published_sizes():
    corpus = mosi(real_data("mosi/mosi.npz"))
    assert corpus.widths == {"audio": 73, "video": 100, "text": 100}
    split = corpus.utterances["split"]
    assert (split == "train").sum() == 1447
    assert (split == "test").sum() == 752
    assert corpus.utterances["dialogue"].nunique() == 93
    majority = corpus.utterances["label"][split == "test"].mean()
    assert majority == pytest.approx(0.621, abs=5e-4)
    assert corpus.features["text"].lengths.max() == 11


def test_the_real_split_shares_no_video():
    (fold,) = mosi(real_data("mosi/mosi.npz")).folds("published")
    assert fold.leakage.dialogues == 0
    assert fold.leakage.duplicates == 0
