"""Anybody's own features as a corpus: a folder of ``.npy`` files, or one ``.npz``.

A folder, with a table and a subfolder a modality, in it one array (T, F) an utterance::

    mine/utterances.csv            id,label,speaker        columns id and label, and where known
         audio/clip-1.npy          clip-1,happy,Ana        speaker, dialogue, split (train, dev,
         audio/clip-2.npy          clip-2,sad,Ben          test) and text; others are kept
         text/clip-1.npy           an utterance without a file has that modality missing

or one ``.npz`` with all frames of a modality in one array, the utterances one after the other::

    np.savez("mine.npz", id=["clip-1", "clip-2"], label=["happy", "sad"], speaker=["Ana", "Ben"],
             audio_values=frames,          # (N, F) float
             audio_lengths=[120, 87])      # (n,) int, sum N; 0 = missing

Labels are names, which become the classes in alphabetical order, or integers 0 .. C - 1. A column
of the name ``content`` is refused: corpus folders keep hashes of the frames under it.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from mmer_lib.arrayfiles import open_array
from mmer_lib.corpora.arrays import INTEGERS, TEXT, Archive, expect_features, open_archive
from mmer_lib.corpora.base import MODALITIES, Corpus, Ragged
from mmer_lib.corpora.tables import read_csv
from mmer_lib.errors import InputError, check_path, unknown

_LONGEST_NAME = 250  # bytes, of an id with .npy behind it
COLUMNS = ("speaker", "dialogue", "split", "text")  # optional ones


def frames(path: str | Path) -> Corpus:
    """The corpus in the folder or ``.npz`` at ``path`` (layouts: see the module's first lines).

    Raises ``InputError`` for a missing table, column or array; arrays of another rank, dtype or
    width; features that are not finite; ids that are empty, repeated or no plain file name; and
    files that belong to no utterance.
    """
    source = check_path("path", path)
    if source.is_dir():
        return _from_folder(source)
    if source.suffix != ".npz":
        raise InputError(
            f"{source}: no such folder; expected a folder with utterances.csv, or an .npz file"
        )
    return _from_archive(open_archive(source))


# -- a folder --------------------------------------------------------------------------------------


def _from_folder(folder: Path) -> Corpus:
    table, classes = _finish_table(_read_csv(folder / "utterances.csv"), folder / "utterances.csv")
    for name in table["id"]:
        plain = Path(name).name == name and name not in (".", "..") and "\\" not in name
        if not plain or "\0" in name or len(os.fsencode(name)) > _LONGEST_NAME:
            raise InputError(
                f"{folder / 'utterances.csv'}: id {name!r} is not a plain file name, so "
                f"{name}.npy would leave its folder; use letters, digits, - and _"
            )
    _check_subfolders(folder)
    features = {
        modality: _read_folder(folder / modality, list(table["id"]))
        for modality in MODALITIES
        if (folder / modality).is_dir()
    }
    if not features:
        raise InputError(
            f"{folder} has no modality; expected at least one folder of {', '.join(MODALITIES)}"
        )
    return _corpus(folder, classes, table, features)


def _read_csv(file: Path) -> pd.DataFrame:
    """Everything as text; an empty cell is empty text."""
    if not file.is_file():
        raise InputError(f"{file} is missing; expected a table with the columns id and label")
    return read_csv(file, dtype=str, keep_default_na=False).fillna("")  # of lines cut short


def _check_subfolders(folder: Path) -> None:
    """A folder of arrays whose name is no modality is a slip, not something to pass over."""
    for inside in sorted(folder.iterdir()):
        if inside.is_dir() and inside.name not in MODALITIES and any(inside.glob("*.npy")):
            raise unknown(f"modality folder in {folder}:", inside.name, MODALITIES)


def _read_folder(folder: Path, ids: list[str]) -> Ragged:
    """One ``ID.npy`` (T, F) an utterance; no file, no frames."""
    _check_claimed(folder, ids)
    files = [folder / f"{name}.npy" for name in ids]
    there = [file for file in files if file.exists()]
    if not there:
        raise InputError(f"{folder} has no array; expected one ID.npy an utterance, or no folder")
    sequences = {  # copied, because every file left open is a mapping of the process
        file: np.array(expect_features(open_array(file), file, ("time", "features")))
        for file in there
    }
    width = sequences[there[0]].shape[1]
    for file, sequence in sequences.items():
        if sequence.shape[1] != width:
            raise InputError(
                f"{file} has {sequence.shape[1]} features a frame, but {there[0]} has {width}; "
                f"a modality has one width"
            )
    nothing = np.empty((0, width), np.float32)
    return Ragged.from_list([sequences.get(file, nothing) for file in files], width)


def _check_claimed(folder: Path, ids: list[str]) -> None:
    for name in sorted({file.stem for file in folder.glob("*.npy")} - set(ids)):
        near = get_close_matches(name, ids, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(
            f"{folder / name}.npy belongs to no utterance: {hint}"
            f"Name arrays after the ids in utterances.csv, or take this one away"
        )


# -- one archive -----------------------------------------------------------------------------------


def _from_archive(archive: Archive) -> Corpus:
    _check_names(archive)
    columns = {"id": archive.some("id", INTEGERS + TEXT)}
    n = len(columns["id"])
    for name in ("label", *(column for column in COLUMNS if column in archive)):
        columns[name] = archive.get(name, INTEGERS + TEXT, (n,))
    given = pd.DataFrame({name: values.astype(str) for name, values in columns.items()})
    table, classes = _finish_table(given, archive.file)
    features = {
        modality: _read_modality(archive, modality, n)
        for modality in MODALITIES
        if f"{modality}_values" in archive or f"{modality}_lengths" in archive
    }
    if not features:
        raise InputError(
            f"{archive.file} has no modality; expected audio_values and audio_lengths, or the "
            f"same of video or text"
        )
    return _corpus(archive.file, classes, table, features)


def _check_names(archive: Archive) -> None:
    """An array of an unknown name is a slip, not something to pass over."""
    arrays = [f"{modality}_{what}" for modality in MODALITIES for what in ("values", "lengths")]
    known = ["id", "label", *COLUMNS, *arrays]
    for name in archive.arrays:
        if name not in known:
            raise unknown(f"array in {archive.file}:", name, known)


def _read_modality(archive: Archive, modality: str, n: int) -> Ragged:
    values = archive.features(f"{modality}_values", ("frames", "features"))
    lengths = archive.get(f"{modality}_lengths", INTEGERS, (n,)).astype(np.int64)
    where = archive.where(f"{modality}_lengths")
    if (lengths < 0).any():
        i = int(np.argmax(lengths < 0))
        raise InputError(f"{where}: length {lengths[i]} at [{i}]; expected 0 or more")
    if lengths.sum() != len(values):
        raise InputError(
            f"{where}: the lengths sum to {lengths.sum()}, but {modality}_values has "
            f"{len(values)} frames; they must agree"
        )
    return Ragged(values, np.r_[0, np.cumsum(lengths)].astype(np.int64))


# -- both ------------------------------------------------------------------------------------------


def _finish_table(given: pd.DataFrame, where: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table with integer labels and empty cells as missing, and the classes; ids checked."""
    for column in ("id", "label"):
        if column not in given:
            raise InputError(
                f"{where} has no column {column!r}; it has {', '.join(given.columns) or 'none'}"
            )
        empty = np.flatnonzero(given[column] == "")
        if len(empty):
            raise InputError(
                f"{where}: {len(empty)} utterances have no {column}, the first is number "
                f"{empty[0] + 1}"
            )
    if not len(given):
        raise InputError(f"{where} has no utterance; expected at least one")
    twice = given["id"][given["id"].duplicated()]
    if len(twice):
        raise InputError(f"{where}: id {twice.iloc[0]!r} is there more than once; ids are unique")
    labels, classes = _number_labels(given["label"], where)
    return given.mask(given == "").assign(label=labels), classes


def _number_labels(given: pd.Series, where: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Names in alphabetical order, or the integers 0 .. C - 1 as they are."""
    if not given.str.fullmatch(r"-?\d{1,18}").all():
        classes, labels = np.unique(given.to_numpy(dtype=str), return_inverse=True)
        return labels.astype(np.int64), tuple(map(str, classes))
    labels = given.to_numpy(dtype=str).astype(np.int64)
    there = sorted(set(labels.tolist()))
    if there != list(range(len(there))):
        raise InputError(
            f"{where}: integer labels are {', '.join(map(str, there[:10]))}; expected "
            f"0 .. C - 1, each at least once. Renumber them or write names"
        )
    return labels, tuple(f"class {i}" for i in there)


def _corpus(
    source: Path, classes: tuple[str, ...], table: pd.DataFrame, features: dict[str, Ragged]
) -> Corpus:
    recipe = {m: {"features": f"given in {source.name}", "rate": None} for m in features}
    return Corpus(source.stem, classes, table, features, recipe)
