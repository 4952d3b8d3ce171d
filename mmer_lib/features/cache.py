"""Tracks on disk, so that nothing is extracted twice and a stopped extraction goes on.

An entry is named by a hash of the content of the medium, its kind (the end of its name, by which
decoders are chosen), the stretch of it, the recipe and the versions of what computes it: renaming
or moving a file finds its features again, and changing one byte of it does not. Entries are
safetensors files, which can run no code; they are written beside and renamed, so that an entry is
there whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np

from mmer_lib.errors import InputError
from mmer_lib.features.base import Clip, Track, Unreadable

_LIBRARIES = (
    "mmer", "numpy", "scipy", "librosa", "soundfile", "soxr", "av", "opencv-python-headless",
    "torch", "transformers", "tokenizers",
)  # fmt: skip
_CHUNK = 1 << 20


def recipe_digest(recipe: Mapping[str, Any]) -> str:
    """16 hex digits of a recipe and of the versions of what computes it."""
    return _digest(json.dumps([recipe, _versions()], sort_keys=True).encode())


def content_digest(clip: Clip) -> str:
    """16 hex digits of a clip: the content and kind of its file, or its words, and its stretch.

    Raises ``Unreadable`` if the file cannot be read.
    """
    stretch = [clip.start, clip.end, clip.half, clip.words]
    if clip.path is None:
        return _digest(json.dumps(stretch).encode())
    try:
        kind = clip.path.suffix.lower()
        return _digest(json.dumps([stretch, kind, file_digest(clip.path)]).encode())
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Unreadable(f"{clip.path}: {reason}. Expected a file that can be read") from error


def file_digest(file: Path) -> str:
    """32 hex digits of a file's content; read once while the file stays as it is."""
    found = file.stat()
    return _digest_of(str(file), found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=1 << 16)
def _digest_of(path: str, size: int, changed: int) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class TrackCache:
    """The tracks of one recipe, of ``width`` features, in ``folder``/features/<recipe>.

    Raises ``InputError`` if the folder cannot be made or written.
    """

    def __init__(self, folder: Path, recipe: Mapping[str, Any], width: int) -> None:
        self.width = width
        self.folder = folder / "features" / recipe_digest(recipe)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "recipe.json").write_text(json.dumps(recipe, indent=1) + "\n")
        except OSError as error:
            raise _cannot_write(self.folder, error) from error

    def get(self, key: str) -> Track | None:
        """The track under ``key``; None if it is not there or not whole (then it is made again)."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            arrays = load_file(self._file(key))
            spans, faceless = arrays.get("spans"), arrays["faceless"]
            track = Track(arrays["values"], arrays["times"], spans, int(faceless.reshape(-1)[0]))
        except (SafetensorError, OSError, LookupError, TypeError, ValueError):  # InputError, too
            return None
        return track if self._fits(track) else None

    def _fits(self, track: Track) -> bool:
        """Whether it is as it was put: frames of another width would move all that follow."""
        kinds = track.times.dtype == np.float64 and (
            track.spans is None or track.spans.dtype == np.int64
        )
        frames = track.values.shape[1] == self.width and 0 <= track.faceless <= len(track)
        return kinds and frames and bool(np.isfinite(track.values).all())

    def put(self, key: str, track: Track) -> None:
        """Keep ``track`` under ``key``."""
        from safetensors.numpy import save

        arrays = {
            "values": np.ascontiguousarray(track.values),
            "times": np.ascontiguousarray(track.times, dtype=np.float64),
            "faceless": np.array([track.faceless], dtype=np.int64),
        }
        if track.spans is not None:
            arrays["spans"] = np.ascontiguousarray(track.spans, dtype=np.int64)
        try:
            write_whole(self._file(key), save(arrays))
        except OSError as error:
            raise _cannot_write(self.folder, error) from error

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"


def write_whole(file: Path, content: bytes) -> None:
    """Write ``file`` beside and rename it: others see all of it or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=file.parent, prefix=".", delete=False) as beside:
        try:
            beside.write(content)
            beside.close()
            os.replace(beside.name, file)
        except BaseException:
            beside.close()
            Path(beside.name).unlink(missing_ok=True)
            raise


def _cannot_write(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot write features to {folder}: {error.strerror}. Free space there, or choose another "
        f"folder with --cache (or $MMER_CACHE); what is finished is kept"
    )
