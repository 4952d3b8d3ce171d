"""RAVDESS and CREMA-D: what the names of files say, and names that say something else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from real_data import real_data

from mmer_lib.corpora.acted import CREMA_SENTENCES, read_crema_d, read_ravdess
from mmer_lib.corpora.media import Listing
from mmer_lib.errors import InputError


def touch(root: Path, names: Iterable[str]) -> Path:
    """Empty files below ``root``: nothing is decoded by a listing."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def row(listing: Listing, name: str) -> dict:
    table = listing.utterances
    return table[table["id"] == name].iloc[0].to_dict()


def path_of(listing: Listing, modality: str, name: str) -> str | None:
    clip = listing.clips[modality][list(listing.utterances["id"]).index(name)]
    return None if clip is None else clip.path.relative_to(listing.root).as_posix()


# -- RAVDESS ---------------------------------------------------------------------------------------


def test_a_name_of_ravdess_is_read_as_published(tmp_path):
    made = read_ravdess(touch(tmp_path, ["Actor_12/03-01-06-02-01-02-12.wav"]))
    assert row(made, "01-06-02-01-02-12") == {
        "id": "01-06-02-01-02-12", "label": made.classes.index("fearful"), "speaker": "actor-12",
        "channel": "speech", "text": "Kids are talking by the door", "emotion": "fearful",
        "intensity": "strong", "statement": 1, "repetition": 2, "sex": "female",
    }  # fmt: skip


@pytest.mark.parametrize(
    "folder",
    ["", "Actor_05/", "Audio_Speech_Actors_01-24/Actor_05/", "Video_Speech_Actor_05/Actor_05/"],
)
def test_the_folders_do_not_matter(tmp_path, folder):
    made = read_ravdess(touch(tmp_path, [f"{folder}03-01-05-01-02-01-05.flac"]))
    assert path_of(made, "audio", "01-05-01-02-01-05") == f"{folder}03-01-05-01-02-01-05.flac"
    assert row(made, "01-05-01-02-01-05")["text"] == "Dogs are sitting by the door"


def test_files_of_one_take_are_one_utterance(tmp_path):
    take = "01-03-01-01-01-02"
    names = [f"a/03-{take}.wav", f"v/01-{take}.mp4", f"v/02-{take}.mp4"]
    made = read_ravdess(touch(tmp_path, names))
    assert made.utterances["id"].tolist() == [take]
    assert path_of(made, "audio", take) == f"a/03-{take}.wav"
    assert path_of(made, "video", take) == f"v/01-{take}.mp4"


def test_sound_comes_from_the_video_where_it_has_no_file_of_its_own(tmp_path):
    made = read_ravdess(touch(tmp_path, ["01-01-03-01-01-01-02.mp4", "02-01-04-01-01-01-02.mp4"]))
    assert path_of(made, "audio", "01-03-01-01-01-02") == "01-01-03-01-01-01-02.mp4"
    assert path_of(made, "audio", "01-04-01-01-01-02") is None
    assert path_of(made, "video", "01-04-01-01-01-02") == "02-01-04-01-01-01-02.mp4"


def test_without_pictures_there_is_no_video(tmp_path):
    made = read_ravdess(touch(tmp_path, ["03-01-05-01-02-01-05.wav"]))
    assert set(made.clips) == {"audio", "text"}


def test_the_channel_chooses_speech_song_or_both(tmp_path):
    touch(tmp_path, ["03-01-05-01-02-01-05.wav", "03-02-04-01-02-01-05.wav"])
    assert read_ravdess(tmp_path).utterances["channel"].tolist() == ["speech"]
    song = read_ravdess(tmp_path, channel="song")
    assert song.utterances["emotion"].tolist() == ["sad"]
    assert song.classes == ("neutral", "calm", "happy", "sad", "angry", "fearful")
    assert len(read_ravdess(tmp_path, channel="both").utterances) == 2


def test_seven_classes_leave_calm_out_and_say_how_many(tmp_path):
    touch(tmp_path, ["03-01-02-01-01-01-01.wav", "03-01-08-01-01-01-01.wav"])
    made = read_ravdess(tmp_path, classes=7)
    assert "calm" not in made.classes
    assert row(made, "01-08-01-01-01-01")["label"] == made.classes.index("surprised")
    assert "1 calm utterances were left out." in made.notes


def test_what_is_no_recording_is_passed_over(tmp_path):
    names = ["03-01-05-01-02-01-05.wav", "._03-01-05-01-02-01-05.wav", "labels.csv", "intro.mp4"]
    assert len(read_ravdess(touch(tmp_path, names)).utterances) == 1


WRONG_RAVDESS = {
    "emotion": (["03-01-09-01-01-01-01.wav"], "emotion '09'"),
    "modality": (["04-01-01-01-01-01-01.wav"], "modality '04'"),
    "channel": (["03-03-01-01-01-01-01.wav"], "vocal channel '03'"),
    "intensity": (["03-01-02-03-01-01-01.wav"], "intensity '03'"),
    "statement": (["03-01-02-01-03-01-01.wav"], "statement '03'"),
    "repetition": (["03-01-02-01-01-00-01.wav"], "repetition '00'"),
    "actor": (["03-01-02-01-01-01-25.wav"], "actor '25' is none of the published codes (01 to 24)"),
    "sound of a video": (["01-01-02-01-01-01-01.wav"], "modality 01 is video"),
    "twice": (["a/03-01-02-01-01-01-01.wav", "b/03-01-02-01-01-01-01.wav"], "same recording as"),
    "nothing": (["readme.txt"], "has no RAVDESS recordings"),
    "only song": (["03-02-02-01-01-01-01.wav"], "has no speech"),
}


@pytest.mark.parametrize("case", WRONG_RAVDESS)
def test_a_wrong_name_is_refused(tmp_path, case):
    names, words = WRONG_RAVDESS[case]
    with pytest.raises(InputError) as caught:
        read_ravdess(touch(tmp_path, names))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names[-1] in str(caught.value) or case in ("nothing", "only song")


def test_wrong_options_are_refused(tmp_path):
    with pytest.raises(InputError, match="did you mean 'speech'"):
        read_ravdess(tmp_path, channel="spech")
    with pytest.raises(InputError, match="classes=6; expected 8, or 7"):
        read_ravdess(tmp_path, classes=6)
    with pytest.raises(InputError, match="no such folder"):
        read_ravdess(tmp_path / "nowhere")


def test_the_real_recordings_have_the_labels_of_their_table():
    import pandas as pd

    folder = real_data("ravdess/labels.csv").parent
    given = pd.read_csv(folder / "labels.csv", dtype=str)
    made = read_ravdess(folder).utterances
    both = made.merge(given.assign(id=given["name"].str[3:]), on="id", suffixes=("", "_given"))
    assert len(both) == len(made) == len(given) == 704
    assert (both["emotion"] == both["emotion_given"]).all()
    assert (both["speaker"].str[-2:] == both["actor"]).all()


# -- CREMA-D ---------------------------------------------------------------------------------------


def test_a_name_of_crema_d_is_read_as_published(tmp_path):
    made = read_crema_d(touch(tmp_path, ["AudioWAV/1091_IEO_HAP_HI.wav"]))
    assert row(made, "1091_IEO_HAP_HI") == {
        "id": "1091_IEO_HAP_HI", "label": made.classes.index("happy"), "speaker": "actor-1091",
        "text": "It's eleven o'clock", "emotion": "happy", "level": "high", "sentence": "IEO",
    }  # fmt: skip
    assert made.classes == ("angry", "disgust", "fearful", "happy", "neutral", "sad")
    assert "1 of the 7442 published utterances of CREMA-D are there." in made.notes


def test_sound_and_video_of_one_recording_are_one_utterance(tmp_path):
    names = ["AudioWAV/1001_DFA_ANG_XX.wav", "AudioMP3/1001_DFA_ANG_XX.mp3",
             "VideoFlash/1001_DFA_ANG_XX.flv", "VideoFlash/1001_DFA_SAD_XX.flv"]  # fmt: skip
    made = read_crema_d(touch(tmp_path, names))
    assert len(made.utterances) == 2
    assert path_of(made, "audio", "1001_DFA_ANG_XX") == names[0]
    assert path_of(made, "video", "1001_DFA_ANG_XX") == names[2]
    assert path_of(made, "audio", "1001_DFA_SAD_XX") == names[3]


def test_sex_comes_from_the_table_of_actors(tmp_path):
    touch(tmp_path, ["AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1002_DFA_ANG_XX.wav"])
    (tmp_path / "VideoDemographics.csv").write_text(
        '\n"ActorID","Age","Sex"\n1001,51,"Male"\n1002,21,"Female"\n'
    )
    assert read_crema_d(tmp_path).utterances["sex"].tolist() == ["male", "female"]


def test_there_are_twelve_sentences():
    assert len(CREMA_SENTENCES) == len(set(CREMA_SENTENCES.values())) == 12


def test_the_level_that_the_release_shortens_in_one_name_is_unspecified(tmp_path):
    made = read_crema_d(touch(tmp_path, ["1040_ITH_SAD_X.wav"]))
    assert made.utterances["level"].tolist() == ["unspecified"]


WRONG_CREMA = {
    "actor": ("1092_DFA_ANG_XX.wav", "actor '1092'"),
    "sentence": ("1001_ABC_ANG_XX.wav", "sentence 'ABC'"),
    "emotion": ("1001_DFA_SUR_XX.wav", "emotion 'SUR'"),
    "level": ("1001_DFA_ANG_ZZ.wav", "level 'ZZ'"),
}


@pytest.mark.parametrize("case", WRONG_CREMA)
def test_a_code_that_was_never_published_is_refused(tmp_path, case):
    name, words = WRONG_CREMA[case]
    with pytest.raises(InputError) as caught:
        read_crema_d(touch(tmp_path, [name]))
    assert words in str(caught.value)
    assert name in str(caught.value)


def test_a_recording_in_two_folders_is_refused(tmp_path):
    touch(tmp_path, ["AudioWAV/1001_DFA_ANG_XX.wav", "copy/1001_DFA_ANG_XX.wav"])
    with pytest.raises(InputError, match=r"copy/1001_DFA_ANG_XX\.wav is the same recording as"):
        read_crema_d(tmp_path)
