"""IEMOCAP: labels, raters, words, sound and picture of a little release with the real layout."""

from __future__ import annotations

import math
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from miniature_iemocap import BLUE, CODES, RED, times, write_film, write_iemocap

from mmer_lib.corpora.iemocap import CLASSES, iemocap, read_iemocap
from mmer_lib.corpora.media import Extraction, Listing
from mmer_lib.corpora.processed import COUNTS
from mmer_lib.corpora.transcripts import decode, mend
from mmer_lib.errors import InputError

MODULE = import_module("mmer_lib.corpora.iemocap")  # mmer_lib.corpora.iemocap may be the function
LABELS = Path("Session1/dialog/EmoEvaluation/Ses01F_impro01.txt")
WORDS = Path("Session1/dialog/transcriptions/Ses01F_impro01.txt")
SOUNDS = Path("Session1/sentences/wav/Ses01F_impro01")
FILMS = Path("Session1/dialog/avi/DivX")


@pytest.fixture
def release(tmp_path) -> Path:
    """One session, with everything."""
    return write_iemocap(tmp_path, sessions=[1])


def of(listing: Listing, utterance: str):
    """The row of an utterance."""
    return listing.utterances.set_index("id").loc[utterance]


def clip(listing: Listing, modality: str, utterance: str):
    return listing.clips[modality][list(listing.utterances["id"]).index(utterance)]


def change(file: Path, old: str, new: str) -> None:
    text = file.read_bytes().decode()
    assert old in text
    file.write_bytes(text.replace(old, new, 1).encode())


def refused(path: Path, *words: str, **options) -> None:
    with pytest.raises(InputError) as caught:
        read_iemocap(path, **options)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def note(listing: Listing, beginning: str) -> str:
    (found,) = [note for note in listing.notes if beginning in note]
    return found


# -- classes ---------------------------------------------------------------------------------------


def test_seven_classes_are_those_of_the_paper_in_its_order(release):
    listing = read_iemocap(release)
    assert listing.classes == tuple(COUNTS)
    assert len(listing.utterances) == 14  # 7 of 8 codes, 2 dialogues
    names = [listing.classes[label] for label in listing.utterances["label"][:4]]
    assert names == ["angry", "happy", "frustrated", "neutral"]  # hers, then his


@pytest.mark.parametrize(
    ("classes", "excited"), [(4, "happy"), (5, "happy"), (6, "excited"), (7, "excited")]
)
def test_excited_is_happy_where_four_or_five_classes_are_asked_for(release, classes, excited):
    listing = read_iemocap(release, classes=classes)
    assert len(listing.classes) == classes
    assert listing.classes[of(listing, "Ses01F_impro01_M000").label] == excited
    assert sorted(set(listing.utterances["label"])) == list(range(classes))


def test_the_utterances_of_smaller_class_sets_are_those_of_seven_less_whole_classes(release):
    everything = read_iemocap(release)
    names = [everything.classes[label] for label in everything.utterances["label"]]
    for classes, gone in ((6, {"surprise"}), (5, {"surprise"}), (4, {"surprise", "frustrated"})):
        kept = [u for u, n in zip(everything.utterances["id"], names, strict=True) if n not in gone]
        assert read_iemocap(release, classes=classes).utterances["id"].tolist() == kept


def test_other_labels_are_left_out_and_counted_by_code(tmp_path):
    root = write_iemocap(tmp_path, [1], codes=[*CODES, "fea", "xxx"], video=False, audio=False)
    text = note(read_iemocap(root), "left out")
    assert "6 utterances" in text
    assert "xxx (no majority among the raters) 4" in text
    assert "fea (fear) 2" in text


@pytest.mark.parametrize("classes", [3, 8, 0, True, 4.5, "all"])
def test_another_number_of_classes_is_refused(release, classes):
    refused(release, "number of classes", "4, 5, 6, 7", classes=classes)


# -- counts ----------------------------------------------------------------------------------------


def test_departures_from_the_published_counts_are_told_class_by_class(release):
    text = note(read_iemocap(release), "Counts depart")
    assert "14 utterances, not 7,487" in text
    assert "angry 2 (-1,101)" in text
    assert "neutral 2 (-1,706)" in text


def test_counts_as_published_are_told(release, monkeypatch):
    monkeypatch.setattr(MODULE, "COUNTS", dict.fromkeys(COUNTS, 2))
    assert note(read_iemocap(release), "Counts") == (
        "Counts as published: 14 utterances in 7 classes."
    )
    assert "Counts as published" in note(read_iemocap(release, classes=4), "Counts")


def test_the_published_counts_of_four_merged_classes_sum_to_the_known_5531(release):
    assert "not 5,531" in note(read_iemocap(release, classes=4), "Counts depart")


def test_a_class_that_is_as_published_is_not_listed(release, monkeypatch):
    monkeypatch.setattr(MODULE, "COUNTS", {**COUNTS, "sad": 2})
    assert "sad" not in note(read_iemocap(release), "Counts depart")


# -- people and places -----------------------------------------------------------------------------


def test_the_speaker_is_who_speaks_not_who_wears_the_markers(release):
    listing = read_iemocap(release)
    assert of(listing, "Ses01F_impro01_M000").speaker == "Ses01M"
    assert of(listing, "Ses01M_script01_1_F000").speaker == "Ses01F"
    assert of(listing, "Ses01M_script01_1_F000").dialogue == "Ses01M_script01_1"


def test_ten_speakers_five_sessions_and_no_speaker_in_two(tmp_path):
    root = write_iemocap(tmp_path, codes=["ang", "sad"], video=False, audio=False)
    table = read_iemocap(root).utterances
    assert table["speaker"].nunique() == 10
    assert sorted(table["session"].unique()) == [f"Session{i}" for i in range(1, 6)]
    assert (table.groupby("speaker")["session"].nunique() == 1).all()
    for held_out in table["session"].unique():
        inside = table["session"] == held_out
        assert not set(table["speaker"][inside]) & set(table["speaker"][~inside])


def test_scripts_and_improvisations_are_told_apart(release):
    table = read_iemocap(release).utterances
    assert (table["setting"] == "script").sum() == 7
    assert set(table["setting"][table["dialogue"] == "Ses01F_impro01"]) == {"improvisation"}


def test_missing_sessions_are_told(tmp_path):
    root = write_iemocap(tmp_path, [1, 3, 4], video=False, audio=False)
    assert note(read_iemocap(root), "sessions") == (
        "3 of 5 sessions are there: Session1, Session3, Session4."
    )


def test_the_folder_above_the_release_will_do(release):
    above = read_iemocap(release.parent)
    assert above.utterances.equals(read_iemocap(release).utterances)
    assert above.root == release


def test_the_folder_above_two_releases_is_refused(release):
    shutil.copytree(release, release.parent / "copy")
    refused(release.parent, "2 releases", str(release))


def test_a_folder_that_is_no_release_is_refused_with_what_was_expected(tmp_path):
    refused(tmp_path, "no IEMOCAP release", "Session1/dialog/EmoEvaluation")
    refused(tmp_path / "nowhere", "no such folder")


def test_a_session_without_label_files_is_refused(release):
    shutil.rmtree(release / "Session1" / "dialog" / "EmoEvaluation")
    (release / "Session1" / "dialog" / "EmoEvaluation").mkdir()
    refused(release, "no label file", "EmoEvaluation")


# -- labels and raters -----------------------------------------------------------------------------

BLOCK = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tfru\t[1.6667, 3.5000, 4.0000]
C-E1:\tFrustration;\t()
C-E2:\tAnger; Frustration;\t(hostile; sad)
C-E3:\tAnger;\t()
C-E4:\tNeutral; Other;\t(frustration)
C-F1:\tFrustration;\t()
A-E3:\tval 2; act 3; dom  4;\t()
A-F1:\tval 1; act 5; dom  5;\t()

[10.0100 - 11.3925]\tSes01F_impro01_M000\tneu\t[2.5000, 2.5000, 2.5000]
C-E1:\tNeutral state;\t()
C-E3:\t;\t()
C-M1:\tAnger;\t()
"""


@pytest.fixture
def by_hand(release) -> Listing:
    """Two utterances whose ratings can be counted with a finger."""
    shutil.rmtree(release / "Session1" / "dialog" / "EmoEvaluation")
    (release / LABELS).parent.mkdir()
    (release / LABELS).write_bytes(BLOCK.encode())
    return read_iemocap(release)


def test_agreement_is_the_share_of_raters_whose_answer_has_the_label(by_hand):
    row = of(by_hand, "Ses01F_impro01_F000")
    assert row.raters == 4
    assert row.agreement == 0.5  # E1 and E2; what stands in brackets and the actor do not count


def test_a_rater_without_an_answer_does_not_count(by_hand):
    row = of(by_hand, "Ses01F_impro01_M000")
    assert row.raters == 1
    assert row.agreement == 1.0


def test_times_and_dimensions_are_those_of_the_utterances_line(by_hand):
    row = of(by_hand, "Ses01F_impro01_F000")
    assert (row.start, row.end) == (6.2901, 8.2357)
    assert (row.valence, row.activation, row.dominance) == (1.6667, 3.5, 4.0)


def test_without_raters_there_is_no_agreement(release):
    lines = (release / LABELS).read_text().splitlines(keepends=True)
    (release / LABELS).write_text("".join(line for line in lines if not line.startswith("C-E")))
    row = of(read_iemocap(release), "Ses01F_impro01_F000")
    assert row.raters == 0
    assert math.isnan(row.agreement)


def test_two_of_three_raters_agree_in_the_miniature(release):
    table = read_iemocap(release).utterances
    np.testing.assert_allclose(table["agreement"], 2 / 3)


def test_an_answer_that_is_no_label_is_told_and_agrees_with_nothing(release):
    change(release / LABELS, "C-E1:\tAnger;", "C-E1:\tAngre;")
    listing = read_iemocap(release)
    assert of(listing, "Ses01F_impro01_F000").agreement == pytest.approx(1 / 3)
    assert "'angre' 1" in note(listing, "Raters' answers")


def test_an_unknown_label_is_refused_by_file_and_line(release):
    change(release / LABELS, "\tang\t", "\tagn\t")
    refused(release, "label", f"{LABELS.name}, line 3", "'agn'", "did you mean 'ang'?")


def test_an_utterance_that_is_there_twice_is_refused_by_both_places(release):
    change(release / LABELS, "Ses01F_impro01_F001", "Ses01F_impro01_F000")
    refused(release, "Ses01F_impro01_F000 is there already", "line 3", "line 12")


def test_an_utterance_in_two_files_is_refused(release):
    shutil.copy(release / LABELS, (release / LABELS).with_name("Ses01F_impro01 copy.txt"))
    refused(release, "is there already", "Ses01F_impro01 copy.txt")


BROKEN = {
    "cut short": ("\tang\t[2.5000, 3.0000, 3.5000]", "\tang", "line 3"),
    "two numbers": ("[2.5000, 3.0000, 3.5000]", "[2.5000, 3.0000]", "not as expected"),
    "no number": ("[2.5000, 3.0000, 3.5000]", "[2.5, low, 3.5]", "not as expected"),
    "backwards": ("[0.1000 - 0.4000]", "[0.4000 - 0.1000]", "ends at 0.1000 s"),
    "name": ("Ses01F_impro01_F000", "Ses01F_impro01_X000", "'Ses01F_impro01_X000' is not named"),
    "outside": ("Ses01F_impro01_F000", "../../etc/passwd", "is not named"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_line_of_a_label_file_is_refused_by_file_and_line(release, case):
    old, new, word = BROKEN[case]
    change(release / LABELS, old, new)
    refused(release, f"{LABELS.name}, line 3", word)


def test_a_label_file_without_an_utterance_is_refused(release):
    (release / LABELS).write_bytes(b"")
    refused(release, LABELS.name, "no utterance")


def test_what_macos_adds_is_passed_over(release):
    before = read_iemocap(release)
    for file in (LABELS, WORDS):
        (release / file).with_name(f"._{file.name}").write_bytes(b"\x00\x05\x16\x07 Mac OS X")
    after = read_iemocap(release)
    assert after.utterances.equals(before.utterances)
    assert after.notes == before.notes


def test_windows_line_ends_and_comments_in_windows_1252_change_nothing(release):
    before = read_iemocap(release).utterances
    text = (release / LABELS).read_bytes().replace(b"\n", b"\r\n").replace(b"tense", b"\x93mad\x94")
    (release / LABELS).write_bytes(text)
    assert read_iemocap(release).utterances.equals(before)


# -- words -----------------------------------------------------------------------------------------


def test_words_are_a_column_and_the_text_clips(release):
    listing = read_iemocap(release)
    assert of(listing, "Ses01F_impro01_M000").text == "This is what M000 says."
    assert [c.words for c in listing.clips["text"]] == listing.utterances["text"].tolist()


def test_known_irregular_lines_of_transcripts_are_read_or_passed_over(release):
    (release / WORDS).write_bytes(
        b"Ses01F_impro01_F000 [006.2901-008.2357]: [LAUGHTER] Well: yes.  \r\n"
        b"M: Uh-huh.\n"
        b"Ses01F_impro01_FXX0 [010.0000-010.5000]: Mm.\n"
        b"\n"
        b"Ses01F_impro01_M000: No times at all.\n"
        b"Ses01F_impro01_M001 [012.0000-013.0000]:It\x92s caf\xe9 time.\n"
        b"Ses01F_impro01_F001 [014.0000-015.0000]:   \n"
        b"a line of nothing\n"
    )
    listing = read_iemocap(release)
    text = {u: of(listing, u).text for u in listing.utterances["id"]}
    assert text["Ses01F_impro01_F000"] == "[LAUGHTER] Well: yes."
    assert text["Ses01F_impro01_M000"] == "No times at all."
    assert text["Ses01F_impro01_M001"] == "It’s café time."
    assert clip(listing, "text", "Ses01F_impro01_F001") is None
    assert "Ses01F_impro01_FXX0" not in text
    assert "4 of 14 utterances have no text" in note(listing, "no text")


ENCODINGS = {
    "utf-8": "It’s “café”".encode(),
    "utf-8 with a mark": "It’s “café”".encode("utf-8-sig"),
    "windows-1252": "It’s “café”".encode("cp1252"),
    "utf-16": "It’s “café”".encode("utf-16"),
    "windows-1252 taken for latin-1": "It’s “café”".encode("cp1252").decode("latin-1").encode(),
    "utf-8 taken for windows-1252": "It’s “café".encode().decode("cp1252").encode() + "”".encode(),
    "utf-8 taken for latin-1": "It’s “café”".encode().decode("latin-1").encode(),
    "one windows-1252 sign in utf-8": "It\x92s".encode("latin-1") + " “café”".encode(),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_usual_encoding_gives_the_same_words(name):
    assert mend(decode(ENCODINGS[name])) == "It’s “café”"


@pytest.mark.parametrize(
    "text", ["fête à la carte", "“âme”", "CAFÉ’s", "Å”", "São Ã", "‘voilâ’”", "plain"]
)
def test_text_that_is_right_stays_as_it_is(text):
    assert mend(decode(text.encode())) == text


# -- sound and picture -----------------------------------------------------------------------------


def test_the_sound_is_the_utterances_own_file(release):
    sound = clip(read_iemocap(release), "audio", "Ses01F_impro01_M000")
    assert sound.path == release / SOUNDS / "Ses01F_impro01_M000.wav"
    assert (sound.start, sound.end) == (0.0, None)


def test_the_picture_is_the_utterances_stretch_of_the_dialogue(release):
    picture = clip(read_iemocap(release), "video", "Ses01F_impro01_M000")  # second in its dialogue
    assert picture.path == release / FILMS / "Ses01F_impro01.avi"
    assert (picture.start, picture.end) == pytest.approx(times(1))


HALVES = {
    "marker-left": ("left", "right", "right", "left"),
    "marker-right": ("right", "left", "left", "right"),
    "whole": ("", "", "", ""),
}


@pytest.mark.parametrize("side", HALVES)
def test_the_half_follows_speaker_and_markers(release, side):
    listing = read_iemocap(release, side=side)
    who = ["F_impro01_F000", "F_impro01_M000", "M_script01_1_F000", "M_script01_1_M000"]
    assert tuple(clip(listing, "video", f"Ses01{name}").half for name in who) == HALVES[side]


def test_the_speakers_half_of_the_film_is_what_is_decoded(release):
    from mmer_lib.features.video import read_frames

    listing = read_iemocap(release)
    for name, colour in (("Ses01F_impro01_F000", RED), ("Ses01F_impro01_M000", BLUE)):
        frames, _ = read_frames(clip(listing, "video", name), 10)
        np.testing.assert_allclose(frames.mean(axis=(0, 1, 2)), colour, atol=12)


def test_the_choice_of_half_is_told_where_there_is_video(release, tmp_path):
    assert "on the left" in note(read_iemocap(release), "speaker's half")
    assert "on the right" in note(read_iemocap(release, side="marker-right"), "speaker's half")
    assert not [n for n in read_iemocap(release, side="whole").notes if "speaker's half" in n]
    silent = write_iemocap(tmp_path / "other", [1], video=False)
    assert not [n for n in read_iemocap(silent).notes if "speaker's half" in n]


def test_an_unknown_side_is_refused(release):
    refused(release, "side", "'left'", "marker-left", side="left")


def test_films_that_lie_directly_in_avi_are_found(release):
    (release / FILMS).rename(release / "Session1/dialog/films")
    shutil.rmtree(release / "Session1/dialog/avi")
    (release / "Session1/dialog/films").rename(release / "Session1/dialog/avi")
    assert None not in read_iemocap(release).clips["video"]


def test_a_missing_sound_film_or_transcript_is_none_and_counted(release):
    (release / SOUNDS / "Ses01F_impro01_M000.wav").unlink()
    (release / FILMS / "Ses01F_impro01.avi").unlink()
    (release / WORDS).unlink()
    listing = read_iemocap(release)
    assert clip(listing, "audio", "Ses01F_impro01_M000") is None
    assert [c is None for c in listing.clips["video"]] == [True] * 7 + [False] * 7
    assert "1 of 14 utterances have no audio" in note(listing, "no audio")
    assert "7 of 14 utterances have no video" in note(listing, "no video")
    assert "7 of 14 utterances have no text" in note(listing, "no text")


def test_a_modality_without_any_file_is_no_modality_and_the_note_says_what_was_expected(tmp_path):
    listing = read_iemocap(write_iemocap(tmp_path, [2], video=False, transcripts=False))
    assert list(listing.clips) == ["audio"]
    assert "Session2/dialog/avi/DivX/Ses02F_impro01.avi" in note(listing, "no video")
    assert "Session2/dialog/transcriptions/Ses02F_impro01.txt" in note(listing, "no text")


def test_every_clip_lies_below_the_root(release):
    listing = read_iemocap(release.parent)
    for modality in ("audio", "video"):
        assert all(c.path.is_relative_to(listing.root) for c in listing.clips[modality])


# -- the corpus ------------------------------------------------------------------------------------


def test_the_release_becomes_a_corpus_with_all_three_modalities(release, tmp_path):
    extraction = Extraction(cache=str(tmp_path / "cache"))
    corpus = iemocap(release, tmp_path / "corpus", extraction, classes=4)
    assert corpus.modalities == ("audio", "video", "text")
    assert corpus.classes == CLASSES[4]
    assert all((corpus.features[m].lengths > 0).all() for m in corpus.modalities)
    assert {"session", "setting", "agreement"} <= set(corpus.utterances)
    (fold, *_) = corpus.folds("by-speaker", 2)
    assert fold.leakage.speakers == 0


def test_a_film_that_cannot_be_read_is_reported_and_the_others_go_on(release, tmp_path):
    (release / FILMS / "Ses01F_impro01.avi").write_bytes(b"RIFF cut short")
    write_film(release / FILMS / "Ses01M_script01_1.avi", len(CODES))
    corpus = iemocap(release, tmp_path / "corpus", Extraction(cache=str(tmp_path / "cache")))
    assert (corpus.features["video"].lengths == 0).sum() == 7
    assert "7 of 14 clips could not be read" in " ".join(corpus.notes)


def test_folds_by_session_leave_one_session_out(tmp_path):
    root = write_iemocap(tmp_path, codes=["ang", "sad", "neu"], video=False, audio=False)
    corpus = iemocap(root, tmp_path / "corpus", Extraction(cache=str(tmp_path / "cache")))
    sessions = corpus.utterances["session"].to_numpy()
    folds = corpus.folds("by-session", 5)
    tested = [set(sessions[fold.test]) for fold in folds]
    assert sorted(map(len, tested)) == [1] * 5
    assert set.union(*tested) == {f"Session{i}" for i in range(1, 6)}
    for fold in folds:
        assert not set(sessions[fold.test]) & set(sessions[np.r_[fold.train, fold.dev]])
        assert fold.leakage.speakers == 0
