"""MELD: tables with odd encodings, clips under the release's names, and what is refused."""

from __future__ import annotations

import math
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from real_data import real_data

from mmer_lib.corpora.media import Extraction, Listing
from mmer_lib.corpora.meld import CLASSES, UTTERANCES, meld, read_meld
from mmer_lib.errors import InputError

MODULE = import_module("mmer_lib.corpora.meld")  # mmer_lib.corpora.meld may be the function
HEAD = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,"
    "Season,Episode,StartTime,EndTime\r\n"
)
TRAIN = (
    '1,"Oh my God, he’s lost it.",Phoebe,sadness,negative,0,0,4,7,"00:20:57,256","00:21:00,049"\r\n'
    '2,What?,Monica,surprise,negative,0,1,4,7,"00:21:01,927","00:21:03,261"\r\n'
    '3,"Hey, ""you""!",Joey,joy,positive,1,0,8,21,"01:00:00,500","01:00:02,000"\r\n'
)
TEST = '1,Fine.,Ross,neutral,neutral,0,0,3,19,"00:14:38,127","00:14:40,378"\r\n'
PLACES = {
    "train": "train_splits",
    "dev": "dev_splits_complete",
    "test": "output_repeated_splits_test",
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two tables of three, text alone."""
    made = tmp_path / "MELD"
    made.mkdir()
    (made / "train_sent_emo.csv").write_bytes((HEAD + TRAIN).encode())
    (made / "test_sent_emo.csv").write_bytes((HEAD + TEST).encode())
    return made


def refused(path: Path, *words: str, **options) -> None:
    with pytest.raises(InputError) as caught:
        read_meld(path, **options)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def change(folder: Path, old: str, new: str) -> None:
    file = folder / "train_sent_emo.csv"
    text = file.read_bytes().decode()
    assert old in text
    file.write_bytes(text.replace(old, new, 1).encode())


def add_clips(folder: Path, *names: str) -> None:
    """Empty files: a reader of listings decodes nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def clip_names(listing: Listing, modality: str = "video") -> list[str | None]:
    return [clip.path.name if clip else None for clip in listing.clips[modality]]


# -- tables ----------------------------------------------------------------------------------------


def test_a_row_becomes_an_utterance(folder):
    first = read_meld(folder).utterances.iloc[0]
    assert first["id"] == "train-0-0"
    assert first["speaker"] == "Phoebe"
    assert first["split"] == "train"
    assert first["text"] == "Oh my God, he’s lost it."
    assert (first["emotion"], first["sentiment"]) == ("sadness", "negative")
    assert (first["season"], first["episode"]) == ("4", "7")
    assert (first["start"], first["end"]) == pytest.approx((1257.256, 1260.049))


def test_dialogues_of_the_same_number_in_two_parts_are_two(folder):
    assert read_meld(folder).utterances["dialogue"].tolist() == [
        "train-0", "train-0", "train-1", "test-0",
    ]  # fmt: skip


def test_quotes_in_a_line_are_read(folder):
    assert read_meld(folder).utterances["text"][2] == 'Hey, "you"!'


@pytest.mark.parametrize("kind", CLASSES)
def test_labels_are_emotions_or_sentiments(folder, kind):
    listing = read_meld(folder, classes=kind)
    assert listing.classes == CLASSES[kind]
    named = [listing.classes[label] for label in listing.utterances["label"]]
    assert named == listing.utterances[kind].tolist()


def test_words_are_the_text_clips(folder):
    listing = read_meld(folder)
    assert [c.words for c in listing.clips["text"]] == listing.utterances["text"].tolist()


def test_a_line_without_words_has_no_text(folder):
    change(folder, "What?", " ")
    listing = read_meld(folder)
    assert listing.clips["text"][1] is None
    assert listing.utterances["text"].isna().tolist() == [False, True, False, False]


def test_times_count_from_the_beginning_of_the_episode_in_seconds(folder):
    third = read_meld(folder).utterances.iloc[2]
    assert (third["start"], third["end"]) == (3600.5, 3602.0)


def test_classes_are_in_the_order_of_the_releases_numbers():
    numbers = {
        "neutral": 0,
        "surprise": 1,
        "fear": 2,
        "sadness": 3,
        "joy": 4,
        "disgust": 5,
        "anger": 6,
    }
    assert {name: CLASSES["emotion"].index(name) for name in CLASSES["emotion"]} == numbers
    assert CLASSES["sentiment"] == ("neutral", "positive", "negative")


def test_a_time_that_is_none_is_unknown(folder):
    change(folder, '"00:20:57,256"', "soon")
    assert math.isnan(read_meld(folder).utterances["start"][0])


def test_tables_without_season_and_times_are_read(folder):
    rows = (
        "Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID\nHi,Ross,joy,positive,0,0\n"
    )
    (folder / "train_sent_emo.csv").write_text(rows)
    assert read_meld(folder).utterances["text"][0] == "Hi"


def test_parts_that_are_not_there_show_in_the_counts(folder):
    (text,) = [note for note in read_meld(folder).notes if "Counts" in note]
    assert text == (
        "Counts depart from the published ones: train 3 (-9,986), dev 0 (-1,109), test 1 (-2,609)."
    )


def test_counts_as_published_are_told(folder, monkeypatch):
    monkeypatch.setattr(MODULE, "UTTERANCES", {"train": 3, "dev": 0, "test": 1})
    assert "Counts as published: 4 utterances." in read_meld(folder).notes


APOSTROPHES = {
    "utf-8": "’".encode(),
    "windows-1252": b"\x92",
    "windows-1252 taken for latin-1": "\x92".encode(),
    "utf-8 taken for windows-1252": "â€™".encode(),
}


@pytest.mark.parametrize("name", APOSTROPHES)
def test_every_known_spelling_of_the_apostrophe_is_read(folder, name):
    content = (HEAD + TRAIN).encode().replace("’".encode(), APOSTROPHES[name])
    (folder / "train_sent_emo.csv").write_bytes(content)
    assert read_meld(folder).utterances["text"][0] == "Oh my God, he’s lost it."


LAYOUTS = [
    "train_sent_emo.csv",
    "train/train_sent_emo.csv",
    "data/train_sent_emo.csv",
    "MELD.Raw/train/train_sent_emo.csv",
    "meld_train.csv",
]


@pytest.mark.parametrize("place", LAYOUTS)
def test_tables_are_found_where_they_are_known_to_lie(tmp_path, place):
    file = tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes((HEAD + TRAIN).encode())
    assert len(read_meld(tmp_path).utterances) == 3


# -- clips -----------------------------------------------------------------------------------------


def test_without_clips_text_stands_alone_and_a_note_says_what_was_looked_for(folder):
    listing = read_meld(folder)
    assert list(listing.clips) == ["text"]
    assert any("train_splits/dia0_utt0.mp4" in note for note in listing.notes)


@pytest.mark.parametrize("around", ["", "train", "MELD.Raw", "MELD.Raw/train"])
def test_clips_are_found_where_they_are_known_to_lie(folder, around):
    add_clips(folder / around / "train_splits", "dia0_utt0.mp4", "dia0_utt1.mp4", "dia1_utt0.mp4")
    listing = read_meld(folder)
    names = ["dia0_utt0.mp4", "dia0_utt1.mp4", "dia1_utt0.mp4", None]
    assert clip_names(listing, "audio") == clip_names(listing, "video") == names
    assert all(c.path.is_relative_to(listing.root) for c in listing.clips["video"] if c)


def test_a_missing_clip_is_none_and_counted(folder):
    add_clips(folder / PLACES["train"], "dia0_utt0.mp4", "dia1_utt0.mp4")
    listing = read_meld(folder)
    assert clip_names(listing) == ["dia0_utt0.mp4", None, "dia1_utt0.mp4", None]
    assert "2 of 4 utterances have no clip, e.g. train-0-1." in listing.notes


def test_clips_of_other_parts_are_not_mixed_up(folder):
    add_clips(folder / PLACES["test"], "dia0_utt0.mp4")
    assert clip_names(read_meld(folder)) == [None, None, None, "dia0_utt0.mp4"]


def test_of_two_test_clips_the_one_of_the_longer_name_is_taken(folder):
    add_clips(folder / PLACES["test"], "final_videos_testdia0_utt0.mp4")
    assert clip_names(read_meld(folder))[3] == "final_videos_testdia0_utt0.mp4"
    add_clips(folder / PLACES["test"], "dia0_utt0.mp4")
    assert clip_names(read_meld(folder))[3] == "final_videos_testdia0_utt0.mp4"


def test_what_macos_adds_and_clips_of_no_row_are_passed_over(folder):
    add_clips(folder / PLACES["train"], "._dia0_utt0.mp4", "dia99_utt0.mp4", "dia0_utt1.mp4", "x")
    assert clip_names(read_meld(folder)) == [None, "dia0_utt1.mp4", None, None]


# -- wrong input -----------------------------------------------------------------------------------

WRONG = {
    "emotion": ("Monica,surprise", "Monica,suprise", "'suprise'", "line 3", "'surprise'"),
    "sentiment": ("surprise,negative", "surprise,bad", "'bad'", "line 3", "positive"),
    "twice": ("negative,0,1,", "negative,0,0,", "is there already", "line 3", "line 2"),
    "dialogue": ("negative,0,1,", "negative,x,1,", "Dialogue_ID is 'x'", "line 3"),
    "utterance": ("negative,0,1,", "negative,0,-1,", "Utterance_ID is '-1'", "line 3"),
    "column": ("Emotion", "Feeling", "no column 'Emotion'", "Feeling"),
    "cut short": ('joy,positive,1,0,8,21,"01:00:00,500","01:00:02,000"', "joy", "line 4", "''"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_table_is_refused_by_file_and_line(folder, case):
    old, new, *words = WRONG[case]
    change(folder, old, new)
    refused(folder, "train_sent_emo.csv", *words)


def test_a_folder_without_tables_is_refused(folder, tmp_path):
    shutil.rmtree(folder)
    refused(tmp_path, "no table of MELD", "train_sent_emo.csv")
    refused(folder, "no such folder")


def test_tables_without_a_row_are_refused(folder):
    for file in folder.glob("*.csv"):
        file.write_text(HEAD)
    refused(folder, "have no utterance")


def test_an_empty_file_is_refused(folder):
    (folder / "test_sent_emo.csv").write_bytes(b"")
    refused(folder, "test_sent_emo.csv", "no column", "none")


def test_unknown_classes_are_refused(folder):
    refused(folder, "classes of meld", "did you mean 'emotion'", classes="emotions")


# -- the corpus ------------------------------------------------------------------------------------


def write_film(file: Path) -> None:
    """Four tenths of a second of a grey picture and a tone, as mp4."""
    import av

    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for _ in range(4):
            grey = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8), format="rgb24")
            container.mux(video.encode(grey))
        tone = np.sin(2 * np.pi * 200 * np.arange(6400) / 16000).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(0.3 * tone[None], format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(sound.encode(frame))
        for stream in (video, sound):
            container.mux(stream.encode())


def test_tables_alone_become_a_corpus_of_text(folder, tmp_path):
    corpus = meld(folder, tmp_path / "corpus", Extraction(cache=str(tmp_path / "cache")))
    assert corpus.modalities == ("text",)
    assert (corpus.features["text"].lengths > 0).all()


def test_clips_are_heard_and_seen(folder, tmp_path):
    for name in ("dia0_utt0", "dia1_utt0"):
        write_film(folder / PLACES["train"] / f"{name}.mp4")
    corpus = meld(folder, tmp_path / "corpus", Extraction(cache=str(tmp_path / "cache")))
    assert corpus.modalities == ("audio", "video", "text")
    for modality in ("audio", "video"):
        assert (corpus.features[modality].lengths > 0).tolist() == [True, False, True, False]


def test_the_real_tables_have_the_published_sizes_and_all_classes():
    listing = read_meld(real_data("text/meld_train.csv").parent)
    table = listing.utterances
    assert table["split"].value_counts().to_dict() == UTTERANCES
    assert UTTERANCES == {"train": 9989, "dev": 1109, "test": 2610}
    assert "Counts as published: 13,708 utterances." in listing.notes
    joy = (table["emotion"] == "joy") & (table["split"] == "train")
    assert joy.sum() == 1743  # Poria et al. (2019)
    assert listing.utterances["text"].notna().all()


def test_no_dialogue_of_the_real_tables_is_in_two_parts():
    table = read_meld(real_data("text/meld_train.csv").parent).utterances
    assert (table.groupby("dialogue")["split"].nunique() == 1).all()
    dialogues = table.groupby("split")["dialogue"].nunique()
    assert (dialogues["dev"], dialogues["test"]) == (114, 280)  # Poria et al. (2019)
