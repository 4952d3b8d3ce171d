"""A corpus on disk: written whole or not at all, read memory-mapped, never unpickled.

The folder holds ``corpus.json`` (format, name, classes, recipe, notes, content hashes, size and
time of every array file), ``utterances.csv``, ``<modality>.values.npy`` (N_frames, F) float32,
``<modality>.offsets.npy`` (n + 1,) int64 and, where there are any, ``events.csv``, ``folds.csv``,
``clips.csv`` (where the media lie) and ``unreadable.csv`` (those that could not be read, and why).

Reading compares the tables with their hashes. Arrays may be large: they are hashed again only
where a file has another size or time of change than recorded, as in a copied folder.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from mmer_lib.arrayfiles import open_array
from mmer_lib.corpora.about import FORMAT, check_padding, read_about
from mmer_lib.corpora.base import MODALITIES, RESERVED, Corpus, Ragged, blake2b, check_finite
from mmer_lib.corpora.tables import check_clips, check_events, read_table
from mmer_lib.errors import InputError

_TABLES = ("utterances.csv", "events.csv", "folds.csv", "clips.csv")  # that are read
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room left: of a disk, a quota, a file
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, renamed to ``path`` when the block ends well and removed when it does not.

    Raises ``InputError`` if ``path`` is already there or cannot be written.
    """
    check_free(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}. Choose a destination you may write to"
        ) from error
    try:
        beside.chmod(0o755)  # mkdtemp makes it private
        yield beside
        beside.rename(path)
    except BaseException as error:
        shutil.rmtree(beside, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in _TAKEN:
            raise _exists(path) from error  # by another command, in the meantime
        if isinstance(error, OSError) and error.errno in _FULL:
            raise InputError(
                f"cannot write {path}: {error.strerror}; nothing was left there. Free space, or "
                f"choose a destination on another disk"
            ) from error
        raise


def check_free(path: Path) -> None:
    """Raise ``InputError`` if ``path`` is there already, or no path that could be."""
    try:
        there = path.exists() or path.is_symlink()  # a link that leads nowhere exists, too
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}. Choose another destination"
        ) from error
    if there:
        raise _exists(path)


def _exists(path: Path) -> InputError:
    return InputError(f"{path} already exists: remove it or choose another destination")


class ArrayWriter:
    """``<modality>.values.npy`` and ``.offsets.npy`` of a corpus folder, an utterance at a time.

    The header is written again at the end, when the number of frames is known; numpy leaves room
    in it for the first length to grow.
    """

    def __init__(self, folder: Path, modality: str, width: int) -> None:
        self.values = folder / f"{modality}.values.npy"
        self.offsets = folder / f"{modality}.offsets.npy"
        self._width = width
        self._ends = [0]
        self._stream = self.values.open("wb")
        self._write_header()

    def append(self, frames: np.ndarray) -> None:
        """Add the frames (T, F) float32 of the next utterance."""
        self._stream.write(frames.astype("<f4", order="C", copy=False).tobytes())
        self._ends.append(self._ends[-1] + len(frames))

    def close(self) -> None:
        """Make both files whole."""
        self._stream.seek(0)
        self._write_header()
        self._stream.close()
        np.save(self.offsets, np.array(self._ends, dtype=np.int64))

    def _write_header(self) -> None:
        shape = (self._ends[-1], self._width)
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._stream, header)


def save_corpus(corpus: Corpus, path: Path) -> Path:
    """Write ``corpus`` as a folder and return its path.

    Raises ``InputError`` for features that are not finite, or a ``path`` that exists or cannot
    be written; then nothing is left behind.
    """
    for modality in corpus.modalities:
        check_finite(corpus.features[modality].values, f"corpus {corpus.name!r}, {modality}")
    with new_folder(path) as folder:
        for modality in corpus.modalities:
            np.save(folder / f"{modality}.values.npy", corpus.features[modality].values)
            np.save(folder / f"{modality}.offsets.npy", corpus.features[modality].offsets)
        write_tables(corpus, folder)
    return path


def write_tables(corpus: Corpus, folder: Path) -> None:
    """Everything of a corpus folder but the feature arrays."""
    tables = {
        "utterances": corpus.utterances.assign(**{RESERVED: corpus.content}),
        "events": corpus.events,
        "folds": corpus.published,
        "clips": corpus.clips,
    }
    for name, table in tables.items():
        if table is not None:
            # Ends of lines of two characters: Python's csv puts quotes around those in cells, too.
            table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\r\n")
    about = {
        "format": FORMAT,
        "name": corpus.name,
        "classes": list(corpus.classes),
        "recipe": corpus.recipe,
        "notes": list(corpus.notes),
        "media": "" if corpus.media is None else str(corpus.media),
        "hashes": corpus.hashes,
        "tables": {file.name: blake2b(file.read_bytes()) for file in sorted(folder.glob("*.csv"))},
        "arrays": {file.name: _stamp(file) for file in sorted(folder.glob("*.npy"))},
    }
    (folder / "corpus.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def read_corpus(path: Path) -> Corpus:
    """Open a corpus folder; features stay on disk, memory-mapped.

    Raises ``InputError`` if the folder is not a corpus or one of its files cannot be used.
    """
    about = read_about(path)
    features = {m: open_features(path, m) for m in MODALITIES if m in about["hashes"]}
    table = read_table(path / "utterances.csv")
    content = table.pop(RESERVED).to_numpy(dtype=object) if RESERVED in table else None
    corpus = Corpus(
        name=about["name"],
        classes=tuple(about["classes"]),
        utterances=table,
        features=features,
        recipe=about["recipe"],
        events=read_table(path / "events.csv") if (path / "events.csv").exists() else None,
        published=read_table(path / "folds.csv") if (path / "folds.csv").exists() else None,
        notes=tuple(about["notes"]),
        clips=read_table(path / "clips.csv") if (path / "clips.csv").exists() else None,
        media=path / about["media"] if about["media"] else None,
        path=path,
    )
    _check_tables(path, about["tables"])
    _check_arrays(path, about["arrays"], about["hashes"], features)
    check_padding(path, corpus.recipe, features)
    check_events(path / "events.csv", corpus)
    check_clips(path / "clips.csv", corpus)
    corpus.__dict__["hashes"] = about["hashes"]  # as recorded when it was written
    if content is not None:
        corpus.__dict__["content"] = content
    return corpus


def _check_tables(path: Path, recorded: dict[str, str]) -> None:
    """Refuse tables changed by hand: the recorded hashes would vouch for other numbers."""
    for name in _TABLES:
        if (path / name).exists() and name not in recorded:
            raise InputError(
                f"{path / name} is not among the tables that corpus.json vouches for: make the "
                f"corpus again"
            )
    for name, digest in recorded.items():
        if not (path / name).is_file():
            raise InputError(f"{path / name} is missing: the corpus is not whole, make it again")
        if blake2b((path / name).read_bytes()) != digest:
            raise _changed(path / name)


def _check_arrays(
    path: Path, recorded: dict[str, list[int]], hashes: dict[str, str], features: dict[str, Ragged]
) -> None:
    """Refuse arrays that were changed; those of equal content in a newer file are fine."""
    for modality, ragged in features.items():
        files = [path / f"{modality}.{kind}.npy" for kind in ("values", "offsets")]
        touched = [file for file in files if recorded.get(file.name) != _stamp(file)]
        if touched and blake2b(ragged.values, ragged.offsets) != hashes[modality]:
            raise _changed(touched[0])


def _stamp(file: Path) -> list[int]:
    """Size in bytes and time of the last change in ns: an edit changes one of them."""
    found = file.stat()
    return [found.st_size, found.st_mtime_ns]


def _changed(file: Path) -> InputError:
    return InputError(
        f"{file} was changed after the corpus was made, so results would no longer say what they "
        f"were computed on: make the corpus again from its source"
    )


def open_features(path: Path, modality: str) -> Ragged:
    """The frames of a modality in a corpus folder, memory-mapped."""
    values = open_array(path / f"{modality}.values.npy")
    offsets = open_array(path / f"{modality}.offsets.npy")
    try:
        return Ragged(values, np.asarray(offsets))
    except InputError as error:
        raise InputError(f"{path}, {modality}: {error}. Make the corpus again") from error
