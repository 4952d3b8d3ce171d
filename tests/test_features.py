"""The engine of features: order, cache, resume, reports. A toy extractor counts what it does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from mmer_lib.errors import InputError
from mmer_lib.features import cache
from mmer_lib.features.base import Clip, Extractor, Track, Unreadable
from mmer_lib.features.cache import TrackCache, content_digest, recipe_digest
from mmer_lib.features.extract import Failure, extract
from mmer_lib.features.registry import EXTRACTORS, build_extractor, example
from mmer_lib.places import cache_folder


@dataclass(frozen=True, kw_only=True)
class Bytes(Extractor):
    """A file's bytes, one a frame; every read is noted in the file ``log``."""

    modality: ClassVar[str] = "audio"
    log: str = ""
    scale: int = 1

    @property
    def width(self) -> int:
        return 1

    @property
    def rate(self) -> float | None:
        return 10.0

    def describe(self) -> str:
        return "bytes"

    def recipe(self) -> dict[str, Any]:
        return {"name": "bytes", "scale": self.scale, "longest": self.longest}

    def read(self, clip: Clip) -> bytes:
        content = clip.path.read_bytes()
        if content.startswith(b"bad"):
            raise Unreadable(f"{clip.path}: starts badly. Expected a good start")
        with open(self.log, "a") as log:
            log.write(f"{clip.path.name}\n")
        return content

    def encode(self, media: Sequence[bytes]) -> list[Track]:
        return [self._one(content).first(self.longest) for content in media]

    def _one(self, content: bytes) -> Track:
        values = self.scale * np.frombuffer(content, np.uint8).astype(np.float32)
        return Track(values[:, None], (np.arange(len(values)) + 0.5) / 10)


@dataclass(frozen=True, kw_only=True)
class Together(Bytes):
    """The same in batches."""

    batched: ClassVar[bool] = True


@pytest.fixture
def files(tmp_path) -> list[Clip]:
    folder = tmp_path / "media"
    folder.mkdir()
    for i in range(20):
        (folder / f"{i:02d}").write_bytes(bytes(range(i + 1)))
    return [Clip(folder / f"{i:02d}") for i in range(20)]


def read_names(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


# -- order and kinds -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Bytes, Together])
@pytest.mark.parametrize("jobs", [1, 2])
def test_tracks_come_in_the_order_of_the_clips(files, tmp_path, kind, jobs):
    tracks = list(extract(kind(log=str(tmp_path / "log")), files, jobs=jobs))
    assert [len(track) for track in tracks] == list(range(1, 21))
    assert tracks[3].values[:, 0].tolist() == [0, 1, 2, 3]


def test_no_clip_gives_no_track(files, tmp_path):
    found = list(extract(Bytes(log=str(tmp_path / "log")), [files[0], None, files[2]]))
    assert [None if track is None else len(track) for track in found] == [1, None, 3]


def test_longest_keeps_the_first_frames(files, tmp_path):
    track = next(iter(extract(Bytes(log=str(tmp_path / "log"), longest=4), files[9:])))
    assert track.values[:, 0].tolist() == [0, 1, 2, 3]
    assert len(track.times) == 4


# -- the cache -------------------------------------------------------------------------------------


def test_what_was_extracted_is_not_read_again(files, tmp_path):
    one = Bytes(log=str(tmp_path / "log"))
    first = list(extract(one, files, tmp_path / "cache"))
    again = list(extract(one, files, tmp_path / "cache"))
    assert len(read_names(tmp_path / "log")) == len(files)
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a.values, b.values)
        assert np.array_equal(a.times, b.times)


def test_a_stopped_extraction_goes_on_where_it_stopped(files, tmp_path):
    one = Bytes(log=str(tmp_path / "log"))
    begun = extract(one, files, tmp_path / "cache")
    for _ in range(3):
        next(begun)
    begun.close()
    done = read_names(tmp_path / "log")
    assert 3 <= len(done) < len(files)
    assert len(list(extract(one, files, tmp_path / "cache"))) == len(files)
    assert sorted(read_names(tmp_path / "log")) == [clip.path.name for clip in files]


def test_a_renamed_file_is_found_and_a_changed_one_is_not(files, tmp_path):
    one = Bytes(log=str(tmp_path / "log"))
    list(extract(one, files[:2], tmp_path / "cache"))
    renamed = files[0].path.rename(tmp_path / "renamed")
    files[1].path.write_bytes(b"other")
    found = list(extract(one, [Clip(renamed), files[1]], tmp_path / "cache"))
    assert read_names(tmp_path / "log") == ["00", "01", "01"]
    assert found[1].values[:, 0].tolist() == list(b"other")


def test_another_recipe_is_another_entry(files, tmp_path):
    for scale in (1, 2):
        one = Bytes(log=str(tmp_path / "log"), scale=scale)
        track = next(iter(extract(one, files[5:6], tmp_path / "cache")))
        assert track.values[:, 0].tolist() == [scale * i for i in range(6)]


def test_the_stretch_and_the_half_of_a_file_are_part_of_its_name(files):
    path = files[0].path
    clips = [Clip(path), Clip(path, 1.0), Clip(path, 0.0, 1.0), Clip(path, half="left"),
             Clip(words="a"), Clip(words="b")]  # fmt: skip
    assert len({content_digest(clip) for clip in clips}) == len(clips)


def test_the_kind_of_a_file_is_part_of_its_name_as_it_chooses_the_decoder(tmp_path):
    for name in ("a.wav", "a.mp3", "b.WAV"):
        (tmp_path / name).write_bytes(b"same")
    wav, mp3, other = (content_digest(Clip(tmp_path / n)) for n in ("a.wav", "a.mp3", "b.WAV"))
    assert wav == other != mp3


@pytest.mark.parametrize("changed", ["mmer", "librosa", "soundfile"])
def test_another_version_of_what_computes_is_another_entry(monkeypatch, changed):
    one = recipe_digest({"name": "x"})
    monkeypatch.setattr(cache, "version", lambda name: "99" if name == changed else version(name))
    cache._versions.cache_clear()
    assert recipe_digest({"name": "x"}) != one
    monkeypatch.undo()
    cache._versions.cache_clear()
    assert recipe_digest({"name": "x"}) == one


def test_a_damaged_entry_is_made_again(files, tmp_path):
    one = Bytes(log=str(tmp_path / "log"))
    list(extract(one, files[7:8], tmp_path / "cache"))
    entry = next((tmp_path / "cache").rglob("*.safetensors"))
    entry.write_bytes(entry.read_bytes()[:-3])
    track = next(iter(extract(one, files[7:8], tmp_path / "cache")))
    assert len(track) == 8
    assert read_names(tmp_path / "log") == ["07", "07"]


def test_a_track_survives_the_cache(tmp_path):
    track = Track(np.ones((2, 3), np.float32), np.array([0.5, np.nan]),
                  np.array([[0, 3], [4, 9]]), faceless=1)  # fmt: skip
    cache = TrackCache(tmp_path, {"name": "x"}, width=3)
    cache.put("abcd", track)
    found = cache.get("abcd")
    assert np.array_equal(found.values, track.values)
    assert np.array_equal(found.times, track.times, equal_nan=True)
    assert np.array_equal(found.spans, track.spans)
    assert found.faceless == 1


def test_a_full_disk_is_told_of_in_one_line_and_leaves_no_part_of_an_entry(
    files, tmp_path, monkeypatch
):
    one = Bytes(log=str(tmp_path / "log"))
    full = OSError(28, "No space left on device")

    def refuse(*_: object) -> None:
        raise full

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(InputError, match=r"cannot write features to .*No space left.*--cache"):
        list(extract(one, files, tmp_path / "cache"))
    left = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert [file.name for file in left] == ["recipe.json"]


def test_a_cache_that_cannot_be_made_is_told_of(files, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write features"):
        list(extract(Bytes(log=str(tmp_path / "log")), files, tmp_path / "file"))


def test_the_cache_folder_is_the_one_given_then_the_environments_then_the_users(monkeypatch):
    monkeypatch.setenv("MMER_CACHE", "/somewhere")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder("here") == Path("here")
    assert cache_folder() == Path("/somewhere")
    monkeypatch.delenv("MMER_CACHE")
    assert cache_folder() == Path("/caches/mmer")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "mmer"


# -- what cannot be read ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Bytes, Together])
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_unreadable_clip_is_reported_and_the_others_go_on(files, tmp_path, kind, jobs):
    files[4].path.write_bytes(b"bad start")
    files[11].path.unlink()
    found = list(extract(kind(log=str(tmp_path / "log")), files, tmp_path / "c", jobs))
    failed = {i: one for i, one in enumerate(found) if isinstance(one, Failure)}
    assert sorted(failed) == [4, 11]
    assert "starts badly" in failed[4].reason
    assert "No such file" in failed[11].reason
    assert all(str(files[i].path) in one.reason for i, one in failed.items())
    assert sum(isinstance(one, Track) for one in found) == 18


@pytest.mark.parametrize("jobs", [1, 2])
def test_strict_stops_at_the_first_unreadable_clip(files, tmp_path, jobs):
    files[4].path.write_bytes(b"bad start")
    found = extract(Bytes(log=str(tmp_path / "log")), files, jobs=jobs, strict=True)
    with pytest.raises(Unreadable, match="starts badly"):
        list(found)


# -- specifications --------------------------------------------------------------------------------


def test_a_specification_becomes_a_typed_extractor():
    one = build_extractor("audio", "mfcc,coefficients=13,deltas=false,longest=1000")
    assert (one.coefficients, one.deltas, one.longest) == (13, False, 1000)
    assert build_extractor("audio", "mfcc,longest=none").longest is None


def test_none_leaves_a_modality_out():
    assert build_extractor("video", "none") is None


@pytest.mark.parametrize(
    ("modality", "given", "told"),
    [
        ("audio", "mffc", "did you mean 'mfcc'"),
        ("video", "mfcc", "unknown video feature 'mfcc'"),
        ("audio", "mfcc,bands=3", "unknown option of audio feature 'mfcc': 'bands'"),
        ("audio", "mfcc,longest=many", "longest='many' is not a whole number, or none"),
        ("audio", "mfcc,longest", "write mfcc,OPTION=VALUE"),
        ("audio", "mfcc:file", "write mfcc[,OPTION=VALUE...]"),
        ("text", "glove", "write glove:FILE_OR_NAME[,OPTION=VALUE...]"),
        ("text", "minilm:x", "write minilm[,OPTION=VALUE...]"),
    ],
)
def test_a_wrong_specification_is_told_of_in_one_line(modality, given, told):
    with pytest.raises(InputError) as caught:
        build_extractor(modality, given)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_extractor_shows_how_it_is_written():
    for modality, kinds in EXTRACTORS.items():
        for name, kind in kinds.items():
            assert kind.modality == modality
            assert example(name, kind).startswith(name)
            assert "longest=none" in example(name, kind)
