"""What fuzzing found in the readers, each defect by itself; and where paths in files may lead."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fuzz import limited
from mutations import Files, read_members, with_header, write_members
from readers import (
    READERS,
    RECIPE,
    TRACK,
    a_corpus,
    mmsa_data,
    npy,
    npz,
    one_line,
    write_files,
)

from mmer_lib import cli
from mmer_lib.arrayfiles import open_array, read_arrays
from mmer_lib.corpora import Corpus, Ragged, load_corpus
from mmer_lib.corpora.base import blake2b
from mmer_lib.corpora.folder import read_corpus
from mmer_lib.corpora.manifest import read_manifest
from mmer_lib.corpora.unpickle import load_plain
from mmer_lib.errors import InputError, check_path, printable, unknown
from mmer_lib.features.cache import TrackCache
from mmer_lib.pipeline.parameters import read_parameters, read_settings
from mmer_lib.store import ResultStore


def refused(read: Callable[[], Any], *words: str) -> None:
    """``read`` raises ``InputError`` in one line with these words."""
    with pytest.raises(InputError) as caught:
        read()
    assert one_line(str(caught.value))
    for word in words:
        assert word in str(caught.value)


def spoilt(name: str, folder: Path, which: int = 0, **changed: bytes) -> Callable[[], Any]:
    """The reader ``name`` on its valid input with files changed (``__`` for / and ``_`` for .)."""
    files: Files = dict(READERS[name].valid()[which])
    for key, content in changed.items():
        (found,) = [n for n in files if n.replace("/", "__").replace(".", "_") == key]
        files[found] = content
    write_files(files, folder)
    return lambda: READERS[name].read(folder)


# -- corpus.json -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A corpus folder with everything that there may be in one, its media beside the tables."""
    path = a_corpus(extras=True).save(tmp_path / "corpus")
    (path / "media" / "a").mkdir(parents=True)
    for name in ("u0", "u1"):
        (path / "media" / "a" / f"{name}.wav").write_bytes(b"sound")
    return path


def change(folder: Path, **members: Any) -> Path:
    """``corpus.json`` with other members."""
    file = folder / "corpus.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | members))
    return folder


def change_table(folder: Path, name: str, old: str, new: str) -> Path:
    """A table changed, and vouched for."""
    file = folder / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    tables = json.loads((folder / "corpus.json").read_text())["tables"]
    return change(folder, tables=tables | {name: blake2b(file.read_bytes())})


def test_the_corpus_that_is_spoilt_below_is_read(folder):
    assert len(read_corpus(folder)) == 6


@pytest.mark.parametrize("deep", ["[" * 100_000, '{"a":' * 100_000])
def test_json_that_is_nested_without_end_is_refused(folder, deep):
    (folder / "corpus.json").write_text(deep)
    refused(lambda: read_corpus(folder), "not readable JSON")


def test_a_member_that_is_there_twice_is_refused(folder):
    text = (folder / "corpus.json").read_text()
    (folder / "corpus.json").write_text(text.replace("{", '{"name": "another",', 1))
    refused(lambda: read_corpus(folder), "'name' is there twice")


def test_half_a_character_is_refused(folder):
    text = (folder / "corpus.json").read_text()
    (folder / "corpus.json").write_text(text.replace('"full"', r'"\ud800"'))
    refused(lambda: read_corpus(folder), "not readable JSON")


@pytest.mark.parametrize("name", ["utterances.csv", "events.csv", "folds.csv", "clips.csv"])
def test_a_table_that_nothing_vouches_for_is_refused(folder, name):
    tables = json.loads((folder / "corpus.json").read_text())["tables"]
    del tables[name]
    refused(lambda: read_corpus(change(folder, tables=tables)), name, "vouches")


@pytest.mark.parametrize(
    "name", ["../x.csv", "/etc/passwd", "/etc/x.csv", "a/b.csv", "..\\x.csv", "x.npy", "", "..csv/"]
)
def test_a_table_outside_the_folder_is_not_opened(folder, name):
    tables = json.loads((folder / "corpus.json").read_text())["tables"] | {name: "0" * 16}
    refused(lambda: read_corpus(change(folder, tables=tables)), "no name of a table")


def test_hashes_without_that_of_the_table_are_refused(folder):
    hashes = json.loads((folder / "corpus.json").read_text())["hashes"]
    del hashes["utterances"]
    refused(lambda: read_corpus(change(folder, hashes=hashes)), "hashes lack")


@pytest.mark.parametrize(
    "recipe",
    [{"rate": "fast"}, {"rate": 0}, {"rate": float("inf")}, {"rate": True}, {"padded_length": "5"},
     {"padded_length": 0}, {"padded_length": 10**12}, {"padded_length": 2.5}, {"features": 3},
     {"padding": [0.0]}, {"padding": ["a", "b", "c"]}, {"padding": 1}, {"padding": [1e300] * 3}],
    ids=str,
)  # fmt: skip
def test_a_recipe_that_cannot_be_is_refused(folder, recipe):
    refused(lambda: read_corpus(change(folder, recipe={"audio": recipe})), "audio")


# -- tables ----------------------------------------------------------------------------------------

EVENTS = {
    "a frame beyond the end": ("u0,audio,0", "u0,audio,7", "frames that are not there"),
    "a frame before the beginning": ("u0,audio,0", "u0,audio,-1", "frames that are not there"),
    "an utterance that is none": ("u0,audio,0", "u9,audio,0", "frames that are not there"),
    "a modality that is none": ("u0,audio,0", "u0,smell,0", "frames that are not there"),
    "half a frame": ("u0,audio,0", "u0,audio,0.5", "whole number"),
    "no column": ("role", "rule", "no column 'role'"),
}


@pytest.mark.parametrize("what", EVENTS)
def test_planted_events_are_of_frames_that_there_are(folder, what):
    old, new, word = EVENTS[what]
    refused(lambda: read_corpus(change_table(folder, "events.csv", old, new)), "events.csv", word)


CLIPS = {
    "a path out of the media": ("a/u0.wav", "../../u0.wav"),
    "a path in the middle": ("a/u0.wav", "a/../../../u0.wav"),
    "a whole path": ("a/u0.wav", "/etc/passwd"),
    "a path of Windows": ("a/u0.wav", "..\\..\\u0.wav"),
    "a drive": ("a/u0.wav", "C:u0.wav"),
    "no path": ("a/u0.wav", ""),
    "no number": ("1.5,", "soon,"),
    "an end before the start": ("0.0,1.0", "2.0,1.0"),
    "a start before the beginning": ("0.0,1.0", "-1.0,1.0"),
    "a start without end": ("0.0,1.0", "inf,1.0"),
    "a half that is none": ("left", "middle"),
    "no column": ("half", "part"),
}


@pytest.mark.parametrize("what", CLIPS)
def test_clips_are_stretches_of_files_below_the_media(folder, what):
    old, new = CLIPS[what]
    refused(lambda: read_corpus(change_table(folder, "clips.csv", old, new)), "clips.csv")


@pytest.mark.parametrize("media", ["..", "../..", "media/../..", "/tmp/../etc", "a\0b"])
def test_media_named_by_way_of_parents_are_refused(folder, media):
    refused(lambda: read_corpus(change(folder, media=media)), "media=")


def test_a_link_out_of_media_that_came_along_is_not_followed(folder, tmp_path):
    """A corpus of somebody else must not play, or show around, a file of this user."""
    (tmp_path / "private.wav").write_bytes(b"mine")
    (folder / "media" / "a" / "u0.wav").unlink()
    (folder / "media" / "a" / "u0.wav").symlink_to(tmp_path / "private.wav")
    corpus = read_corpus(folder)
    refused(lambda: corpus.clip("audio", 0), "leads out of")
    assert corpus.clip("audio", 1).path.read_bytes() == b"sound"


def test_a_link_in_media_of_the_users_own_is_followed(folder, tmp_path):
    """Releases are spread over disks by links; who laid them knows where they lead."""
    shutil.move(folder / "media", tmp_path / "own")
    (tmp_path / "disk").mkdir()
    shutil.move(tmp_path / "own" / "a", tmp_path / "disk" / "a")
    (tmp_path / "own" / "a").symlink_to(tmp_path / "disk" / "a")
    corpus = read_corpus(change(folder, media=str(tmp_path / "own")))
    assert corpus.clip("audio", 0).path.read_bytes() == b"sound"


def test_an_utterance_without_a_name_is_refused(folder):
    refused(lambda: read_corpus(change_table(folder, "utterances.csv", "u0,", ",")), "no id")


def corpus_of(classes: tuple[str, ...] = ("a", "b"), name: str = "x", **columns: Any) -> Corpus:
    table = pd.DataFrame({"id": ["u", "v"], "label": [0, 1], **columns})
    return Corpus(name, classes, table, {"text": Ragged.from_list([np.ones((1, 2))] * 2, 2)})


@pytest.mark.parametrize("classes", [("a", "a"), ("a", ""), ("sad", "sad\u200b"), ("a", "\x1b[2J")])
def test_classes_that_a_reader_cannot_tell_apart_are_refused(classes):
    refused(lambda: corpus_of(classes), "corpus 'x'")


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_no_table_can_hold_is_refused(text):
    refused(lambda: corpus_of(text=["fine", text]), "characters that do not exist")


# -- arrays ----------------------------------------------------------------------------------------


def test_offsets_that_fall_by_more_than_a_number_holds_are_refused():
    """Their differences, taken in 64 bits, are all positive."""
    offsets = np.array([0, 2**63 - 1, -(2**63), -(2**62), 2])
    refused(lambda: Ragged(np.ones((2, 1), np.float32), offsets), "never fall")


def test_frames_without_features_are_refused(tmp_path):
    """Of no size on disk, they could have any length: 10^12 frames of nothing."""
    refused(lambda: Ragged(np.ones((0, 0), np.float32), np.array([0, 0])), "no feature")
    arrays = {"id": np.array(["a", "b"]), "label": np.array([0, 1]),
              "audio_values": np.zeros((10**12, 0), np.float32),
              "audio_lengths": np.array([10**12, 0])}  # fmt: skip
    read = spoilt("frames archive", tmp_path, mine_npz=npz(arrays))
    refused(read, "at least one feature")


HEADERS = {
    "an open bracket": "{'descr': '<f4', 'fortran_order': False, 'shape': (2, }",
    "deep nesting": "(" * 3000 + ")" * 3000,
    "a length that is text": "{'descr': '<f4', 'fortran_order': False, 'shape': ('1',), }",
    "more than the file holds": "{'descr': '<f4', 'fortran_order': False, 'shape': (10**12,), }",
    "more than any file holds": "{'descr': '<f4', 'fortran_order': False, 'shape': (2147483648, "
                                "2147483648, 8), }",
    "a dtype that is none": "{'descr': '<f3', 'fortran_order': False, 'shape': (2,), }",
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }",
    "nothing": "",
}  # fmt: skip


@pytest.mark.parametrize("what", HEADERS)
def test_an_array_with_a_forged_header_is_refused(tmp_path, what):
    (tmp_path / "x.npy").write_bytes(with_header(HEADERS[what], bytes(8)))
    refused(lambda: open_array(tmp_path / "x.npy"), "x.npy is not a plain .npy array")
    (tmp_path / "x.npz").write_bytes(write_members({"a.npy": with_header(HEADERS[what], bytes(8))}))
    refused(lambda: read_arrays(tmp_path / "x.npz"), "x.npz is not a plain .npz file")


def test_an_array_of_python_2_is_read(tmp_path):
    """The published folds are of that time: numbers in headers may end in L."""
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 1L), }"
    (tmp_path / "x.npy").write_bytes(with_header(header, np.array([1, 2], "<f4").tobytes()))
    assert open_array(tmp_path / "x.npy").tolist() == [[1.0], [2.0]]


def test_an_archive_under_the_name_of_an_array_is_refused(tmp_path):
    (tmp_path / "x.npy").write_bytes(npz({"a": np.ones(2)}))
    refused(lambda: open_array(tmp_path / "x.npy"), "not a plain .npy array")


def forge(offset: int, value: int) -> bytes:
    """A zip with another number in its directory and before its member."""
    data = bytearray(npz({"a": np.ones(2)}))
    place = data.index(b"PK\x01\x02")
    data[place + offset : place + offset + 2] = struct.pack("<H", value)
    data[offset - 2 : offset] = struct.pack("<H", value)
    return bytes(data)


def damaged(way: int) -> bytes:
    data = bytearray(write_members({"a.npy": npy(np.arange(1000.0))}, way))
    data[60:80] = bytes(20)
    return bytes(data)


ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a member that is no array": (lambda: write_members({"a.npy": b"text"}), "is no array"),
    "a locked member": (lambda: forge(8, 1), "not a plain .npz"),
    "patched data": (lambda: forge(8, 32), "not a plain .npz"),
    "an unknown way of packing": (lambda: forge(10, 99), "not a plain .npz"),
    "damage in deflate": (lambda: damaged(zipfile.ZIP_DEFLATED), "not a plain .npz"),
    "damage in lzma": (lambda: damaged(zipfile.ZIP_LZMA), "not a plain .npz"),
    "damage in bzip2": (lambda: damaged(zipfile.ZIP_BZIP2), "not a plain .npz"),
    "half a character": (lambda: npz({"a": np.array([0xD800], "<u4").view("<U1")}), "do not exist"),
    "no character": (lambda: npz({"a": np.array([0x110000], "<u4").view("<U1")}), "do not exist"),
    "a zero in a text": (lambda: npz({"a": np.array([65, 0, 66], "<u4").view("<U3")}), "not exist"),
    "one array": (lambda: npy(np.ones(2)), "one .npy array"),
}  # fmt: skip


@pytest.mark.parametrize("what", ARCHIVES)
def test_an_archive_that_was_made_to_do_harm_is_refused(tmp_path, what):
    make, word = ARCHIVES[what]
    (tmp_path / "x.npz").write_bytes(make())
    refused(lambda: read_arrays(tmp_path / "x.npz"), "x.npz", word)


def test_an_archive_that_unpacks_to_a_thousand_times_its_size_is_refused(tmp_path, monkeypatch):
    """A bound of 1 MiB stands for the true one, which takes a while to pack."""
    monkeypatch.setattr("mmer_lib.arrayfiles.LARGEST", 1 << 20)
    zeros = {f"a{i}.npy": npy(np.zeros(1 << 19, np.uint8)) for i in range(4)}
    (tmp_path / "x.npz").write_bytes(write_members(zeros, zipfile.ZIP_DEFLATED))
    assert (tmp_path / "x.npz").stat().st_size < 1 << 14
    refused(lambda: read_arrays(tmp_path / "x.npz"), "unpack to 2,097,")


def test_an_array_that_is_in_an_archive_twice_is_refused(tmp_path):
    content = write_members({"a.npy": npy(np.ones(2)), "b.npy": npy(np.zeros(2))})
    (tmp_path / "x.npz").write_bytes(content.replace(b"b.npy", b"a.npy"))
    refused(lambda: read_arrays(tmp_path / "x.npz"), "'a' twice")


def test_only_the_arrays_that_are_asked_for_are_read(tmp_path):
    members = read_members(npz({"a": np.ones(2)})) | {"b.npy": b"no array"}
    (tmp_path / "x.npz").write_bytes(write_members(members))
    assert list(read_arrays(tmp_path / "x.npz", ["a", "c"])) == ["a"]


def test_a_large_archive_of_features_is_no_bomb(tmp_path):
    """What hardly shrinks may be of any size."""
    noise = np.random.default_rng(0).standard_normal((1000, 50)).astype(np.float32)
    np.savez_compressed(tmp_path / "x.npz", a=noise)
    assert read_arrays(tmp_path / "x.npz")["a"].shape == (1000, 50)


# -- each reader -----------------------------------------------------------------------------------


def test_a_line_cut_short_gives_no_class_called_nan(tmp_path):
    read = spoilt("frames folder", tmp_path, mine__utterances_csv=b"id,label\na,x\nb,y\nc\n")
    refused(read, "have no label")


def test_lines_with_a_cell_more_than_columns_do_not_move_all_columns(tmp_path):
    table = b"id,label\na,sad,x\nb,glad,y\nc,sad,z\n"
    refused(spoilt("frames folder", tmp_path, mine__utterances_csv=table), "more cells")


def test_an_id_that_is_longer_than_a_name_of_a_file_is_refused(tmp_path):
    table = f"id,label\n{'a' * 300},sad\nb,glad\nc,sad\n".encode()
    refused(spoilt("frames folder", tmp_path, mine__utterances_csv=table), "plain file name")


def release(tmp_path: Path, **replaced: str) -> Callable[[], Any]:
    """The miniature release, pieces of its label file (or words) replaced."""
    files = dict(READERS["iemocap"].valid()[0])
    for name in files:
        for old, new in replaced.items():
            old = {"time": "[0.1000 - 0.4000]", "mean": "2.5000,", "said": "]: This"}[old]
            files[name] = files[name].replace(old.encode(), new.encode(), 1)
    write_files(files, tmp_path)
    return lambda: READERS["iemocap"].read(tmp_path)


@pytest.mark.parametrize("mean", ["nan,", "inf,", "1e999,"])
def test_a_rating_of_iemocap_that_is_no_number_is_refused(tmp_path, mean):
    refused(release(tmp_path, mean=mean), "not finite")


def test_a_time_of_iemocap_without_end_is_refused(tmp_path):
    refused(release(tmp_path, time=f"[0.1000 - {'9' * 400}]"), "not finite")


def test_blanks_without_end_in_a_transcript_take_no_time(tmp_path):
    """The pattern tried every way to cut them in two: hours, for 200,000."""
    read = release(tmp_path, said=f"]{' ' * 200_000}x This")
    with limited(5, 120):
        assert read().utterances["text"].notna().sum() >= 3


def test_a_time_of_meld_with_endless_digits_is_unknown(tmp_path):
    table = READERS["meld"].valid()[0]["train_sent_emo.csv"]
    longer = table.replace(b"0:16:16,059", b"9" * 5000 + b":16:16,059")
    listing = spoilt("meld", tmp_path, train_sent_emo_csv=longer)()
    assert np.isnan(listing.utterances["start"][0])


def test_a_table_of_actors_that_is_no_csv_is_refused(tmp_path):
    content = b'ActorID,Sex\n1001,"' + b"x" * 200_000 + b'"\n'
    refused(spoilt("crema-d", tmp_path, VideoDemographics_csv=content), "not a readable CSV")


def mmsa_with(tmp_path: Path, **members: Any) -> Callable[[], Any]:
    data = mmsa_data(aligned=True)
    data["train"] |= members
    return spoilt("mmsa", tmp_path, data_pkl=pickle.dumps(data, 4))


def test_a_rating_beyond_any_float_is_refused(tmp_path):
    refused(mmsa_with(tmp_path, regression_labels=[0.5, 10**400, 1.0]), "regression_labels")


def test_a_key_of_endless_digits_does_not_break_the_message(tmp_path):
    data = {10**5000: {}, "train": {}}
    refused(spoilt("mmsa", tmp_path, data_pkl=pickle.dumps(data, 4)), "has no 'id'")


def test_a_zero_in_a_transcript_is_written_as_a_mark(tmp_path):
    corpus = mmsa_with(tmp_path, raw_text=["a\0b", "c", "d"])()
    assert corpus.utterances["text"][0] == "a\N{REPLACEMENT CHARACTER}b"


def test_ids_of_the_feature_file_are_counted_without_making_objects_of_them(tmp_path):
    from mmer_lib.corpora.mmsa import _Part

    huge = np.broadcast_to(np.uint8(0), (10**12,))
    assert len(_Part(Path("x"), "train", {"id": huge})) == 10**12


# -- pickles ---------------------------------------------------------------------------------------


def plain(tmp_path: Path, content: bytes) -> Callable[[], Any]:
    (tmp_path / "x.pkl").write_bytes(content)
    return lambda: load_plain(tmp_path / "x.pkl")


def test_text_that_is_made_into_bytes_again_and_again_is_refused(tmp_path):
    """1 MB of text and 1000 calls: a gigabyte out of a file of one megabyte."""
    text = b"X" + struct.pack("<I", 1_000_000) + b"a" * 1_000_000 + b"\x94"
    call = b"c_codecs\nencode\n\x94h\x00\x8c\x06latin1\x86R"
    again = b"h\x01h\x00\x8c\x06latin1\x86R"
    refused(plain(tmp_path, b"\x80\x04]" + text + b"(" + call + again * 1000 + b"l."), "again and")


def test_an_array_of_truth_that_is_made_again_and_again_is_refused(tmp_path):
    data = b"B" + struct.pack("<I", 100_000) + bytes(100_000) + b"\x94"
    names = b"cnumpy.core.numeric\n_frombuffer\n\x94cnumpy\ndtype\n\x8c\x02b1\x89\x88\x87R\x94"
    call = b"h\x01(h\x00h\x02J" + struct.pack("<i", 100_000) + b"\x85\x8c\x01CtR"
    refused(plain(tmp_path, b"\x80\x04" + data + names + b"(" + call * 1000 + b"l."), "again and")


def test_a_shape_that_is_a_tree_of_endless_text_is_refused_at_once(tmp_path):
    """Each tuple holds the one before it twice: 2^60 leaves, if anyone wrote them down."""
    tree = b")\x94" + b"".join(
        b"h" + bytes([n]) + b"h" + bytes([n]) + b"\x86\x94" for n in range(60)
    )
    call = b"cnumpy.core.numeric\n_frombuffer\n(C\x01acnumpy\ndtype\n\x8c\x02u1\x89\x88\x87Rh\x3c"
    with limited(5, 120):
        refused(plain(tmp_path, b"\x80\x04" + tree + call + b"\x8c\x01CtR."), "an array of shape")


def test_a_shape_that_is_nested_deeply_is_refused(tmp_path):
    call = b"cnumpy.core.numeric\n_frombuffer\n(C\x01acnumpy\ndtype\n\x8c\x02u1\x89\x88\x87R"
    nested = b")" + b"\x85" * 100_000
    refused(plain(tmp_path, b"\x80\x04" + call + nested + b"\x8c\x01CtR."), "an array of shape")


def test_a_program_of_endless_steps_is_refused(tmp_path, monkeypatch):
    """A list is one byte in a file and a hundred in memory."""
    monkeypatch.setattr("mmer_lib.corpora.unpickle._STEPS", 1000)
    refused(plain(tmp_path, b"\x80\x02(" + b"]" * 1000 + b"l."), "more than 1,000 steps")


# -- features, results, notebooks ------------------------------------------------------------------

TRACKS = {
    "another width": {"values": np.ones((3, 5), np.float32)},
    "NaN": {"values": np.full((3, 2), np.nan, np.float32)},
    "doubles": {"values": np.ones((3, 2))},
    "times of another kind": {"times": np.arange(3)},
    "more faces missing than frames": {"faceless": np.array([4])},
    "less than none": {"faceless": np.array([-1])},
    "no number of faces": {"faceless": np.zeros(0)},
    "no finite number of faces": {"faceless": np.array([np.nan])},
    "spans of another kind": {"spans": np.zeros((3, 2))},
}


@pytest.mark.parametrize("what", TRACKS)
def test_a_track_that_is_not_as_it_was_put_is_made_again(tmp_path, what):
    """One of another width would have moved every frame behind it, and nobody told."""
    from safetensors.numpy import save_file

    whole = {"values": np.ones((3, 2), np.float32), "times": np.arange(3.0),
             "faceless": np.array([1])}  # fmt: skip
    cache = TrackCache(tmp_path, RECIPE, width=2)
    file = cache.folder / TRACK[:2] / f"{TRACK}.safetensors"
    file.parent.mkdir()
    save_file(whole, file)
    assert cache.get(TRACK) is not None
    save_file(whole | TRACKS[what], file)
    assert cache.get(TRACK) is None


def test_a_number_of_word_vectors_that_is_too_large_is_refused(tmp_path):
    refused(spoilt("word vectors", tmp_path, words_txt=b"the 1e300 1\n"), "not a finite")


def test_a_number_of_words_of_endless_digits_is_no_number_of_words(tmp_path):
    table, _ = spoilt("word vectors", tmp_path, words_txt=b"9" * 5000 + b" " + b"9" * 50 + b"\n")()
    assert (table.entries, table.width) == (1, 1)


def test_word_vectors_that_float32_cannot_hold_are_refused(tmp_path):
    content = npz({"words": np.array(["a"]), "vectors": np.array([[1e300]])})
    refused(spoilt("word archive", tmp_path, words_npz=content), "finite numbers")


RUN = "store/0123456789abcdef"
STORES: dict[str, tuple[str, bytes, Callable[[ResultStore], Any]]] = {
    "a marker nested without end": ("store/store.json", b"[" * 100_000, ResultStore.to_frame),
    "a run nested without end": (f"{RUN}/run.json", b"[" * 100_000, ResultStore.to_frame),
    "a plan nested without end": ("store/plans/sweep.json", b"[" * 100_000,
                                  lambda s: s.plan("sweep")),
    "a seed that is no number": (f"{RUN}/run.json", json.dumps(
        {"row": {"study": "s", "configuration": "self-T", "fold": 0, "seed": {}}}).encode(),
        ResultStore.to_frame),
    "classes that are no text": (f"{RUN}/run.json", json.dumps(
        {"row": {"study": "s", "configuration": "self-T", "fold": 0, "seed": 0},
         "classes": [1, {}]}).encode(), lambda s: s.classes(RUN[6:])),
    "predictions of other shapes": (f"{RUN}/predictions.npz", npz(
        {"test_ids": np.array(["a"]), "test_labels": np.array([0, 1]),
         "test_probabilities": np.ones((1, 2))}), lambda s: s.predictions(RUN[6:])),
    "predictions of other kinds": (f"{RUN}/predictions.npz", npz(
        {"test_ids": np.array([1]), "test_labels": np.array([0.5]),
         "test_probabilities": np.ones((1, 2))}), lambda s: s.predictions(RUN[6:])),
    "predictions that are packed oddly": (f"{RUN}/predictions.npz", forge(10, 99),
                                          lambda s: s.predictions(RUN[6:])),
}  # fmt: skip


@pytest.mark.parametrize("what", STORES)
def test_a_store_that_is_damaged_is_told_of(tmp_path, what):
    name, content, ask = STORES[what]
    write_files({**READERS["store"].valid()[0], name: content}, tmp_path)
    refused(lambda: ask(ResultStore(tmp_path / "store", create=False)), "damaged")


CELL = 'models: list = []  # configurations\nname: str = "a"  # a name\n'


@pytest.mark.parametrize("value", ["[" * 5000 + "]" * 5000, "(" * 200_000, "{'a':" * 5000])
def test_a_setting_that_is_nested_without_end_is_refused(value):
    notebooks = {"03_training": read_parameters(CELL, "03_training.ipynb")}
    refused(lambda: read_settings([f"03.models={value}"], notebooks), "a list such as")


@pytest.mark.parametrize("value", ["[NaN]", "[1e999]", "[{1: 2}]", "[(1, 2)]", "[b'a']", "[1j]"])
def test_a_setting_that_the_notebook_would_get_as_something_else_is_refused(value):
    notebooks = {"03_training": read_parameters(CELL, "03_training.ipynb")}
    refused(lambda: read_settings([f"03.models={value}"], notebooks), "a list such as")


@pytest.mark.parametrize("switch", ["width", "heads", "hidden", "depth", "inner"])
def test_a_model_that_no_machine_could_hold_is_refused(switch):
    from mmer_lib.fusion import build_fusion
    from mmer_lib.model import parse_configuration

    def build() -> None:
        config = parse_configuration(f"joint-AV,{switch}={10**12}")
        build_fusion(config.fusion, config.for_fusion())

    refused(build, switch, "65536")


def test_a_file_of_word_vectors_that_can_be_none_is_refused():
    from mmer_lib.features.registry import build_extractor

    refused(lambda: build_extractor("text", f"glove:{'a' * 5000}"), "Give another path")


def test_a_setting_that_is_no_text_is_refused():
    notebooks = {"03_training": read_parameters(CELL, "03_training.ipynb")}
    refused(lambda: read_settings(["03.name=\udcff"], notebooks), "no UTF-8")


CODE = [
    '"; import os; os.system("touch x"); "', "'; raise SystemExit; '", '"""\nraise SystemExit\n"""',
    "\\", "\\\"", "a\nb", "a\r\nb", "\\N{BULLET}", "{value}", "$(touch x)", "%s", "\x1b[31m", "é😀",
    "\u2028x", "\0", "# comment", "!touch x", "%run x", "__import__('os')", '\\"', "\\'" + '"',
]  # fmt: skip


@pytest.mark.parametrize("value", CODE)
def test_a_setting_is_data_in_the_notebook_and_never_code(value):
    """As papermill writes it into the cell of parameters that the kernel runs."""
    import ast

    from papermill.translators import PythonTranslator

    notebooks = {"03_training": read_parameters(CELL, "03_training.ipynb")}
    given = read_settings([f"03.name={value}", f"03.models={[value]!r}"], notebooks)["03_training"]
    assert given == {"name": value, "models": [value]}
    for name, what in given.items():
        (statement,) = ast.parse(PythonTranslator.codify({name: what}, "Parameters")).body
        assert ast.literal_eval(statement.value) == what
        assert ast.unparse(statement.targets[0]) == name


NOTEBOOKS = {
    "nested without end": b"[" * 100_000,
    "no cells": b'{"nbformat": 4, "nbformat_minor": 5}',
    "cells that are no list": b'{"nbformat": 4, "nbformat_minor": 5, "cells": {}}',
    "a cell that is a number": b'{"nbformat": 4, "nbformat_minor": 5, "cells": [1]}',
    "a cell without a name": b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": '
                             b'[{"cell_type": "markdown", "metadata": {}, "source": ""}]}',
    "tags that are a number": b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{'
        b'"cell_type": "markdown", "id": "a", "metadata": {"tags": 5}, "source": ""}]}',
    "two cells of one name": b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": ['
        + b", ".join([b'{"cell_type": "markdown", "id": "a", "metadata": {}, "source": ""}'] * 2)
        + b"]}",
    "an old format": b'{"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": []}',
    "a format that is a list": b'{"nbformat": [], "nbformat_minor": 5, "cells": []}',
}  # fmt: skip


@pytest.mark.parametrize("what", NOTEBOOKS)
def test_a_notebook_that_is_none_is_refused(tmp_path, what):
    from mmer_lib.pipeline.notebooks import read_notebooks

    (tmp_path / "01_data.ipynb").write_bytes(NOTEBOOKS[what])
    refused(lambda: read_notebooks(tmp_path), "01_data.ipynb is not a readable notebook")


# -- paths of a manifest ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["../x.wav", "/etc/passwd", "a/../../x.wav", "..\\x.wav", "link/x.wav", "file.wav"]
)
def test_a_manifest_reaches_no_file_outside_its_folder(tmp_path, path):
    """Names in a table of somebody else, and links that came with it."""
    (tmp_path / "x.wav").touch()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "link").symlink_to(tmp_path)
    (mine / "file.wav").symlink_to(tmp_path / "x.wav")
    (mine / "mine.csv").write_text(f"audio,label\n{path},sad\n")
    refused(lambda: read_manifest(mine / "mine.csv"), "leads out of")


# -- messages and terminals ------------------------------------------------------------------------

TRAPS = ["\x1b[31m", "\x1b]0;title\x07", "\x9b31m", "\r", "\u202e", "\u2066", "\u2028", "\x08",
         "\ufeff", "\udcff", "\x7f"]  # fmt: skip


@pytest.mark.parametrize("trap", TRAPS, ids=ascii)
def test_a_message_shows_what_a_terminal_would_obey(trap):
    assert one_line(str(InputError(f"name a{trap}b: rename it")))
    assert trap not in printable(f"a{trap}b")
    assert one_line(str(unknown(f"thing {trap}", trap, [f"b{trap}"])))


def test_a_message_without_end_keeps_its_beginning_and_what_to_do():
    message = str(InputError("file x: " + "y" * 10**6 + ". Make it again"))
    assert message.startswith("file x: yy")
    assert message.endswith("yy. Make it again")
    assert len(message) < 1500


def test_what_scripts_and_emoji_need_stays_in_a_message():
    for text in ("می\u200cخواهم", "👩\u200d🔬", "naïve café", "漢字"):
        assert str(InputError(text)) == text


def test_the_command_line_prints_names_that_a_terminal_does_not_obey(tmp_path, capsys):
    """Speakers and notes of a corpus of somebody else; an error that quotes a path."""
    trap = "\x1b]0;taken\x07\u202eA\r"
    table = pd.DataFrame({"id": ["u", "v"], "label": [0, 1], "speaker": [trap, "b"]})
    ragged = Ragged.from_list([np.ones((1, 2))] * 2, 2)
    about = {"text": {"features": trap}}
    corpus = Corpus("x", ("a", "b"), table, {"text": ragged}, about, notes=(f"note\n{trap}",))
    folder = corpus.save(tmp_path / "corpus")
    assert cli.main(["corpus", "info", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "taken" in out
    assert all(one_line(line) for line in out.splitlines() if line)
    assert cli.main(["corpus", "info", str(tmp_path / f"no{trap}")]) == 2
    assert one_line(capsys.readouterr().err.removesuffix("\n"))


@pytest.mark.parametrize("path", ["a" * 5000, "a\0b"])
def test_a_path_that_can_be_none_is_refused(path):
    refused(lambda: check_path("store", path), "store=")
    refused(lambda: load_corpus(path), "corpus=")
