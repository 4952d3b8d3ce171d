"""From a listing of media to a corpus folder: what is written, reported and refused."""

from __future__ import annotations

import errno
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from mmer_lib.corpora import load_corpus
from mmer_lib.corpora.folder import ArrayWriter
from mmer_lib.corpora.media import Extraction, Listing, build_corpus, place_event
from mmer_lib.errors import InputError
from mmer_lib.features.base import Clip, Track, Unreadable
from mmer_lib.features.registry import build_extractor

RATE = 16000
LINES = ("I am so glad.", "Leave me alone!", "It is on the table.", "What a day.")


@pytest.fixture
def listing(tmp_path) -> Listing:
    """Four utterances: a tone and a line each; the third has no sound."""
    root = tmp_path / "media"
    root.mkdir()
    seconds = (1.0, 0.5, 0.8, 0.7)
    for i, length in enumerate(seconds):
        tone = 0.3 * np.sin(2 * np.pi * 150 * (i + 1) * np.arange(int(length * RATE)) / RATE)
        soundfile.write(root / f"{i}.wav", tone, RATE)
    table = pd.DataFrame({"id": list("abcd"), "label": [0, 1, 2, 0], "text": LINES,
                          "speaker": ["x", "y", "x", "y"]})  # fmt: skip
    audio = [Clip(root / f"{i}.wav") for i in range(4)]
    audio[2] = None
    clips = {"audio": audio, "text": [Clip(words=line) for line in LINES]}
    return Listing("small", ("glad", "cross", "plain"), table, clips, root, notes=("made up",))


@pytest.fixture
def extraction(tmp_path) -> Extraction:
    return Extraction(audio="logmel,bands=8", cache=str(tmp_path / "cache"))


def test_a_corpus_holds_what_the_extractors_make_of_each_clip(listing, extraction, tmp_path):
    corpus = build_corpus(listing, tmp_path / "corpus", extraction)
    extractor = build_extractor("audio", "logmel,bands=8")
    for i, clip in enumerate(listing.clips["audio"]):
        alone = np.zeros((0, 8)) if clip is None else extractor.encode([extractor.read(clip)])[0]
        expected = alone if clip is None else alone.values
        assert np.array_equal(corpus.features["audio"][i], expected)
    assert corpus.features["text"].lengths.tolist() == [5, 4, 6, 4]  # words and full stops
    assert corpus.features["audio"].lengths[2] == 0
    assert corpus.notes == ("made up",)


def test_the_recipe_says_how_the_features_were_made(listing, extraction, tmp_path):
    audio = replace(extraction, audio="logmel,bands=8,longest=60")
    corpus = build_corpus(listing, tmp_path / "corpus", audio)
    about = corpus.recipe["audio"]
    assert about["rate"] == 100
    assert about["padded_length"] == 60
    assert about["extractor"] == build_extractor("audio", "logmel,bands=8,longest=60").recipe()
    assert corpus.features["audio"].lengths.tolist() == [60, 51, 0, 60]
    assert "padded_length" not in corpus.recipe["text"]


def test_jobs_change_nothing(listing, extraction, tmp_path):
    one = build_corpus(listing, tmp_path / "one", extraction)
    fresh = replace(extraction, jobs=2, cache=str(tmp_path / "other"))
    two = build_corpus(listing, tmp_path / "two", fresh)
    assert one.fingerprint == two.fingerprint


def test_a_corpus_knows_where_its_media_lie(listing, extraction, tmp_path):
    build_corpus(listing, tmp_path / "corpus", extraction)
    corpus = load_corpus(tmp_path / "corpus")
    assert corpus.clip("audio", 1) == Clip(listing.root.resolve() / "1.wav")
    assert corpus.clip("audio", 2) is None
    assert corpus.clip("video", 0) is None
    assert corpus.clip("text", 0) == Clip(words=LINES[0])
    assert corpus.take(np.array([3, 1])).clip("audio", 0).path.name == "3.wav"


def test_media_of_a_portable_source_travel_with_the_corpus(listing, extraction, tmp_path):
    build_corpus(replace(listing, portable=True), tmp_path / "corpus", extraction)
    moved = (tmp_path / "corpus").rename(tmp_path / "moved")
    clip = load_corpus(moved).clip("audio", 0)
    assert clip.path == moved / "media" / "0.wav"
    assert clip.path.read_bytes() == (listing.root / "0.wav").read_bytes()


# -- what cannot be read ---------------------------------------------------------------------------


def test_an_unreadable_clip_is_missing_listed_and_counted(listing, extraction, tmp_path):
    listing.clips["audio"][1].path.write_bytes(b"RIFF")
    corpus = build_corpus(listing, tmp_path / "corpus", extraction)
    report = pd.read_csv(tmp_path / "corpus" / "unreadable.csv")
    assert report["id"].tolist() == ["b"]
    assert report["modality"].tolist() == ["audio"]
    assert "1.wav" in report["reason"][0]
    assert corpus.features["audio"].lengths[1] == 0
    assert any("1 of 4 clips could not be read" in note for note in corpus.notes)


def test_an_utterance_of_which_nothing_can_be_read_is_left_out(listing, extraction, tmp_path):
    listing.clips["audio"][1].path.write_bytes(b"RIFF")
    audio_alone = replace(extraction, text="none")
    corpus = build_corpus(listing, tmp_path / "corpus", audio_alone)
    whole = build_corpus(listing, tmp_path / "whole", replace(extraction, text="hashed"))
    assert corpus.utterances["id"].tolist() == ["a", "d"]
    assert np.array_equal(corpus.features["audio"][1], whole.features["audio"][3])
    assert any("2 of 4 utterances are left out" in note for note in corpus.notes)
    assert corpus.clip("audio", 1).path.name == "3.wav"


def test_strict_stops_and_leaves_nothing(listing, extraction, tmp_path):
    listing.clips["audio"][1].path.write_bytes(b"RIFF")
    with pytest.raises(Unreadable, match=r"1\.wav"):
        build_corpus(listing, tmp_path / "corpus", replace(extraction, strict=True))
    assert not list(tmp_path.glob("*corpus*"))


def test_a_modality_of_which_nothing_can_be_read_is_refused(listing, extraction, tmp_path):
    for clip in filter(None, listing.clips["audio"]):
        clip.path.write_bytes(b"RIFF")
    with pytest.raises(InputError, match=r"none of the 3 audio clips could be read\. The first: "):
        build_corpus(listing, tmp_path / "corpus", extraction)


def test_a_class_that_is_lost_with_its_clips_is_told_of(listing, extraction, tmp_path):
    listing.clips["audio"][1].path.write_bytes(b"RIFF")
    corpus = build_corpus(listing, tmp_path / "corpus", replace(extraction, text="none"))
    lost = [note for note in corpus.notes if "no utterance left" in note]
    assert lost == ["class 'cross' has no utterance left", "class 'plain' has no utterance left"]


@pytest.mark.parametrize("text", ["one\rtwo", "one\ntwo", "one\r\ntwo", 'say "so", he said'])
def test_words_of_several_lines_are_read_back_as_they_were(listing, extraction, tmp_path, text):
    said = listing.utterances.assign(text=["a", text, "c", "d"])
    build_corpus(replace(listing, utterances=said), tmp_path / "corpus", extraction)
    assert load_corpus(tmp_path / "corpus").known("text")[1] == text


def test_media_behind_a_link_are_read_and_found_again(listing, extraction, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    own = listing.clips["audio"][0].path
    own.rename(tmp_path / "elsewhere" / "0.wav")
    own.symlink_to(tmp_path / "elsewhere" / "0.wav")
    corpus = build_corpus(listing, tmp_path / "corpus", extraction)
    assert corpus.clip("audio", 0).path == own
    assert corpus.features["audio"].lengths[0] > 0


def test_a_name_that_no_table_can_hold_is_told_of(listing, extraction, tmp_path):
    odd = Clip(Path(str(listing.root) + "/rl\udce9x.wav"))
    clips = {**listing.clips, "audio": [odd, *listing.clips["audio"][1:]]}
    with pytest.raises(InputError, match="its name is not UTF-8; rename"):
        build_corpus(replace(listing, clips=clips), tmp_path / "corpus", extraction)
    assert not (tmp_path / "corpus").exists()


def test_a_folder_that_another_command_made_meanwhile_is_told_of(listing, extraction, tmp_path):
    def lose_the_race(*_: object) -> None:
        (tmp_path / "corpus").mkdir(exist_ok=True)
        (tmp_path / "corpus" / "other").write_text("")

    class Late(ArrayWriter):
        def close(self) -> None:
            super().close()
            lose_the_race()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmer_lib.corpora.media.ArrayWriter", Late)
        with pytest.raises(InputError, match="corpus already exists"):
            build_corpus(listing, tmp_path / "corpus", extraction)
    assert [file.name for file in (tmp_path / "corpus").iterdir()] == ["other"]


@pytest.mark.parametrize("name", ["x" * 300, "broken"])
def test_a_destination_that_cannot_be_is_told_of(listing, extraction, tmp_path, name):
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"[cC]hoose another destination"):
        build_corpus(listing, tmp_path / name, extraction)


# -- what is asked for -----------------------------------------------------------------------------


def test_auto_takes_the_modalities_that_are_there(listing):
    assert list(Extraction().extractors(listing)) == ["audio", "text"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"video": "dct"}, "video='dct' was asked for, but small at .* has no video"),
        ({"audio": "none", "text": "none"}, "every modality is left out"),
        ({"audio": "mfc"}, "did you mean 'mfcc'"),
        ({"jobs": 0}, "jobs=0"),
        ({"device": "banana"}, "device='banana': cpu, cuda or cuda:N expected"),
    ],
)
def test_what_cannot_be_made_is_refused_and_leaves_nothing(
    listing, extraction, tmp_path, asked, told
):
    with pytest.raises(InputError, match=told):
        build_corpus(listing, tmp_path / "corpus", Extraction(**{**asdict(extraction), **asked}))
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    listing, extraction, tmp_path, monkeypatch, number
):
    def refuse(*_: object) -> None:
        raise OSError(number, "No room")

    monkeypatch.setattr(ArrayWriter, "append", refuse)
    with pytest.raises(InputError, match=r"cannot write .*corpus: No room; nothing was left"):
        build_corpus(listing, tmp_path / "corpus", extraction)
    assert not list(tmp_path.glob("*corpus*"))


def test_a_real_limit_on_files_is_told_of_like_a_full_disk(listing, extraction, tmp_path):
    resource = pytest.importorskip("resource")
    import signal

    heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(InputError, match="Free space") as caught:
            build_corpus(listing, tmp_path / "corpus", extraction)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*corpus*"))


# -- planted truth ---------------------------------------------------------------------------------


def test_an_event_gets_the_frame_nearest_in_time_or_that_holds_its_character():
    heard = Track(np.zeros((4, 1), np.float32), np.array([0.1, 0.3, 0.5, 0.7]))
    read = Track(np.zeros((3, 1), np.float32), np.full(3, np.nan), np.array([[0, 4], [5, 9],
                 [9, 10]]))  # fmt: skip
    assert place_event({"time": 0.45, "character": -1}, heard)["frame"] == 2
    assert place_event({"time": np.nan, "character": 6}, read)["frame"] == 1
    assert place_event({"time": np.nan, "character": 4}, read)["frame"] == -1


def test_events_of_a_listing_become_events_of_the_corpus(listing, extraction, tmp_path):
    events = pd.DataFrame({"id": ["a", "b", "b"], "modality": ["audio", "text", "audio"],
                           "time": [0.25, np.nan, 0.1], "character": [-1, 9, -1],
                           "role": "x", "key": -1, "value": [0, 1, 1]})  # fmt: skip
    corpus = build_corpus(replace(listing, events=events), tmp_path / "corpus", extraction)
    found = corpus.events.set_index(["id", "modality"])
    assert found.loc[("a", "audio"), "frame"] == 25
    assert found.loc[("b", "text"), "frame"] == 2  # "alone"
    assert found.loc[("b", "audio"), "frame"] == 10


def test_the_folder_says_nothing_of_this_machine_but_where_the_media_lie(
    listing, extraction, tmp_path
):
    build_corpus(listing, tmp_path / "corpus", extraction)
    about = json.loads((tmp_path / "corpus" / "corpus.json").read_text())
    assert Path(about.pop("media")) == listing.root.resolve()
    assert str(tmp_path) not in json.dumps(about)
    assert str(tmp_path) not in (tmp_path / "corpus" / "clips.csv").read_text()
