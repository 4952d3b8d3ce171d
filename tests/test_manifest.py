"""Anybody's own recordings: the table, the paths, and what is refused of both."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmer_lib.corpora.manifest import read_manifest
from mmer_lib.errors import InputError
from mmer_lib.features.base import Clip

CSV = """audio,video,text,label,speaker,dialogue,split
audio/a1.wav,video/a1.mp4,We won!,happy,Ana,d1,train
audio/a2.wav,,"Well, no.",sad,Ben,d1,dev
,video/a3.mp4,,happy,Ana,d2,test
,,words/a4.txt,angry,,,
"""
FILES = ("audio/a1.wav", "audio/a2.wav", "video/a1.mp4", "video/a3.mp4")


@pytest.fixture
def table(tmp_path) -> Path:
    """A manifest whose files are there, empty: nothing is decoded by a listing."""
    folder = tmp_path / "mine"
    for name in (*FILES, "words/a4.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "words" / "a4.txt").write_text("Leave me alone.\n")
    (folder / "mine.csv").write_text(CSV)
    return folder / "mine.csv"


def refused(table: Path, *words: str, **options: str) -> None:
    with pytest.raises(InputError) as caught:
        read_manifest(table, **options)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def swap(table: Path, old: str, new: str) -> Path:
    """The manifest with one piece changed."""
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new, 1))
    return table


def test_a_table_becomes_a_listing(table):
    made = read_manifest(table)
    assert made.classes == ("angry", "happy", "sad")
    assert made.utterances["label"].tolist() == [1, 2, 1, 0]
    assert made.utterances["speaker"].tolist()[:3] == ["Ana", "Ben", "Ana"]
    assert made.utterances["split"].tolist()[:3] == ["train", "dev", "test"]
    assert made.clips["audio"][0] == Clip(table.parent / "audio/a1.wav")
    assert (made.name, made.root) == ("mine", table.parent)


def test_an_empty_cell_is_a_missing_modality(table):
    clips = read_manifest(table).clips
    there = {m: [clip is not None for clip in clips[m]] for m in clips}
    assert there == {
        "audio": [True, True, False, False],
        "video": [True, False, True, False],
        "text": [True, True, False, True],
    }


def test_text_is_the_words_or_a_file_with_them(table):
    made = read_manifest(table)
    assert [clip and clip.words for clip in made.clips["text"]] == [
        "We won!", "Well, no.", None, "Leave me alone.",
    ]  # fmt: skip
    assert made.utterances["text"].tolist()[0] == "We won!"


def test_words_about_a_file_are_words(table):
    made = read_manifest(swap(table, "We won!", "I lost it in notes.txt"))
    assert made.clips["text"][0] == Clip(words="I lost it in notes.txt")


def test_other_columns_are_kept_and_media_columns_are_not(table):
    table.write_text("audio,label,age,note\naudio/a1.wav,a,31,x\naudio/a2.wav,b,,\n")
    made = read_manifest(table).utterances
    assert list(made.columns) == ["id", "label", "age", "note"]
    assert made["age"].tolist()[0] == "31"


def test_ids_are_given_or_the_names_of_the_files_or_numbers(table):
    table.write_text("id,audio,label\nx,audio/a1.wav,a\ny,audio/a2.wav,b\n")
    assert read_manifest(table).utterances["id"].tolist() == ["x", "y"]
    table.write_text("audio,label\naudio/a1.wav,a\naudio/a2.wav,b\n")
    assert read_manifest(table).utterances["id"].tolist() == ["a1", "a2"]
    table.write_text("text,label\nyes,a\nyes,b\n")
    assert read_manifest(table).utterances["id"].tolist() == ["row-00001", "row-00002"]


def test_times_cut_utterances_out_of_one_recording(table):
    table.write_text(
        "audio,label,start,end\naudio/a1.wav,a,0,1.5\naudio/a1.wav,b,1.5,\naudio/a2.wav,b,,\n"
    )
    path = table.parent / "audio/a1.wav"
    clips = read_manifest(table).clips["audio"]
    assert clips[:2] == [Clip(path, 0.0, 1.5), Clip(path, 1.5, None)]


def test_paths_are_below_the_root_that_is_given(table, tmp_path):
    moved = tmp_path / "table.csv"
    moved.write_text(table.read_text())
    made = read_manifest(moved, root=str(table.parent))
    assert made.clips["audio"][0] == Clip(table.parent / "audio/a1.wav")


def test_an_absolute_path_below_the_root_and_one_of_windows_are_found(table):
    swap(table, "audio/a1.wav", str(table.parent / "audio" / "a1.wav"))
    swap(table, "audio/a2.wav", "audio\\a2.wav")
    paths = [clip and clip.path for clip in read_manifest(table).clips["audio"]]
    assert paths[:2] == [table.parent / "audio/a1.wav", table.parent / "audio/a2.wav"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_tables_of_common_encodings_are_read(table, encoding):
    text = table.read_text().replace("We won!", "Schön – gewonnen!").replace("Ana", "Zoë")
    table.write_bytes(text.encode(encoding))
    made = read_manifest(table)
    assert made.clips["text"][0] == Clip(words="Schön – gewonnen!")
    assert made.utterances["speaker"].tolist()[0] == "Zoë"


def test_names_of_columns_may_be_capitals_and_cells_have_blanks_around(table):
    swap(table, "audio,video,text,label", "Audio, Video,TEXT,Label")
    assert read_manifest(swap(table, ",happy,", ", happy ,")).classes == ("angry", "happy", "sad")


# -- paths that leave the root ---------------------------------------------------------------------

OUTSIDE = ["../secret.wav", "audio/../../secret.wav", "/etc/passwd", "..\\secret.wav"]


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("there", [True, False])
def test_a_path_that_leaves_the_root_is_refused(table, path, there):
    if there:
        (table.parent.parent / "secret.wav").touch()
    refused(swap(table, "audio/a2.wav", path), "line 3, audio", repr(path), "leads out of")


def test_a_text_file_outside_the_root_is_not_read(table):
    (table.parent.parent / "secret.txt").write_text("the secret")
    refused(swap(table, "words/a4.txt", "../secret.txt"), "line 5, text", "leads out of")


def test_a_link_that_leaves_the_root_is_refused(table):
    (table.parent.parent / "secret.wav").touch()
    (table.parent / "audio" / "link.wav").symlink_to(table.parent.parent / "secret.wav")
    refused(swap(table, "audio/a2.wav", "audio/link.wav"), "'audio/link.wav' leads out of")


# -- wrong tables ----------------------------------------------------------------------------------


def test_missing_files_are_counted_and_the_first_is_named(table):
    for name in ("audio/a2.wav", "video/a1.mp4", "video/a3.mp4"):
        (table.parent / name).unlink()
    refused(table, "3 files are missing, the first 'audio/a2.wav' (line 3, column audio)")


def test_a_missing_file_of_words_is_missing(table):
    (table.parent / "words" / "a4.txt").unlink()
    refused(table, "1 file is missing: 'words/a4.txt' (line 5, column text)")


def test_a_line_is_counted_as_an_editor_counts(table):
    swap(table, '"Well, no."', '"Well,\nno,\nno."')
    (table.parent / "video/a3.mp4").unlink()
    refused(table, "line 6, column video")


SWAPS = {
    "label misspelt": ("label", "lable", "unknown column", "did you mean 'label'"),
    "speaker misspelt": ("speaker", "speakr", "did you mean 'speaker'"),
    "no label": ("label", "emotion", "no column 'label'"),
    "no medium": ("audio,video,text", "a,b,c", "none of the columns audio, video, text"),
    "column twice": ("speaker", "label", "column 'label' is there twice"),
    "reserved": ("speaker", "content", "'content' is reserved"),
    "empty label": ("sad", "", "line 3: the label is empty"),
    "unknown part": (",dev", ",valid", "line 3", "'valid'", "train, dev, test"),
    "short row": (",d1,dev", ",d1", "line 3: 6 cells, but 7 columns"),
    "comma in words": ('"Well, no."', "Well, no.", "line 3: 8 cells", "double quotes"),
    "open quote": ('"Well, no."', '"Well, no.', "not a readable CSV"),
    "nothing to see": ("words/a4.txt", "", "line 5: audio, video and text are all empty"),
    "same media": ("audio/a2.wav,", "audio/a1.wav,video/a1.mp4", "lines 2 and 3", "recording"),
    "zero byte": ("audio/a2.wav", "audio/\0.wav", "line 3, audio", "is no path"),
    "too long": ("audio/a2.wav", "a" * 5000, "line 3, audio", "is no path"),
}


@pytest.mark.parametrize("case", SWAPS)
def test_a_wrong_table_is_refused(table, case):
    old, new, *words = SWAPS[case]
    refused(swap(table, old, new), *words)


TABLES = {
    "nothing": ("", "has no row"),
    "a head alone": ("audio,label\n", "has no row"),
    "semicolons": ("audio;label\na1.wav;x\n", "separate the cells by commas"),
    "one class": ("text,label\nyes,a\nno,a\n", "1 class ('a')"),
    "same id": ("id,text,label\nx,yes,a\ny,no,a\nx,oh,b\n", "lines 2 and 4 have the same id 'x'"),
    "empty id": ("id,text,label\nx,yes,a\n,no,b\n", "line 3: the id is empty"),
    "start": ("audio,label,start\naudio/a1.wav,a,-1\n", "line 2, start: '-1'"),
    "end": ("audio,label,start,end\naudio/a1.wav,a,2,1\n", "line 2, end: '1'", "more than start"),
    "no time": ("audio,label,end\naudio/a1.wav,a,soon\n", "'soon'; seconds expected"),
    "not a number": ("audio,label,end\naudio/a1.wav,a,nan\n", "'nan'; seconds expected"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_table_that_says_too_little_is_refused(table, case):
    text, *words = TABLES[case]
    table.write_text(text)
    refused(table, *words)


def test_a_table_or_root_that_is_not_there_is_refused(table, tmp_path):
    refused(tmp_path / "nowhere.csv", "no such file")
    refused(table, "no such folder", root=str(tmp_path / "nowhere"))
