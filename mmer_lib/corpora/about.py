"""``corpus.json``: read, and compared with what it must hold, before anything is made of it.

A corpus folder may come from somebody else: everything in it is taken for what it is, never for
what it should be. Names of files stay in the folder; numbers that decide how much memory is asked
for stay bearable.
"""

from __future__ import annotations

import json
import math
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from mmer_lib.corpora.base import MODALITIES, Ragged
from mmer_lib.errors import InputError

FORMAT = 1
LONGEST = 1_000_000  # frames that sequences may be padded to
_AGAIN = "make the corpus again"
_MEMBERS: dict[str, tuple[type, type]] = {  # what there must be: kind, and of its members
    "name": (str, str), "classes": (list, str), "recipe": (dict, dict), "notes": (list, str),
    "hashes": (dict, str), "tables": (dict, str), "arrays": (dict, list), "media": (str, str),
}  # fmt: skip
_WORDS: dict[type, str] = {str: "text", list: "a list", dict: "an object"}


def read_about(path: Path) -> dict[str, Any]:
    """The content of ``path/corpus.json``, of the right kinds.

    Raises ``InputError`` if it is missing, damaged, or states what cannot be.
    """
    file = path / "corpus.json"
    if not file.is_file():
        raise InputError(
            f"{path} is not a corpus folder: it has no corpus.json. "
            f"Make one with `mmer corpus make`; `mmer corpus list` names what can be made"
        )
    try:
        about = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_each_once)
        json.dumps(about, ensure_ascii=False).encode()  # halves of characters cannot be written
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not readable JSON ({error}): {_AGAIN}") from error
    _check_kinds(file, about)
    _check_names(file, about)
    for modality, recipe in about["recipe"].items():
        _check_recipe(f"{file}: recipe of {modality}", recipe)
    return about


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of two members of one name a reader would see one, and json take the other."""
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1)
        raise ValueError(f"{twice[:80]!r} is there twice")
    return made


def _check_kinds(file: Path, about: Any) -> None:
    """The members expected, of the right kinds."""
    if not isinstance(about, dict):
        raise InputError(f"{file} holds no JSON object: {_AGAIN}")
    if about.get("format") != FORMAT:
        raise InputError(
            f"{file} has format {about.get('format')!r:.80}, this version reads format {FORMAT}: "
            f"{_AGAIN}"
        )
    about.setdefault("arrays", {})  # not recorded: every array is hashed again
    about.setdefault("media", "")
    for key, (kind, inside) in _MEMBERS.items():
        if key not in about:
            raise InputError(f"{file} lacks {key}: {_AGAIN}")
        given = about[key]
        members = given.values() if isinstance(given, dict) else given
        if not isinstance(given, kind) or not all(isinstance(x, inside) for x in members):
            words = " of ".join(dict.fromkeys(_WORDS[k] for k in (kind, inside)))
            raise InputError(f"{file}: {key} is not {words}: {_AGAIN}")


def _check_names(file: Path, about: dict[str, Any]) -> None:
    """Names that lead to files stay in the folder; the media may lie anywhere, named in full."""
    if "utterances" not in about["hashes"]:
        raise InputError(f"{file}: hashes lack that of the utterances: {_AGAIN}")
    for name in about["tables"]:
        if PurePath(name).name != name or "\\" in name or not name.endswith(".csv"):
            raise InputError(f"{file}: {name!r} is no name of a table in this folder: {_AGAIN}")
    media = about["media"]
    if "\0" in media or ".." in PurePath(media).parts:
        raise InputError(
            f"{file}: media={media!r}; expected a folder in this one, or a whole path without `..`"
        )


def _check_recipe(where: str, recipe: dict[str, Any]) -> None:
    """The numbers in it that are used."""
    rate, padded = recipe.get("rate"), recipe.get("padded_length")
    if rate is not None and not (_is_number(rate) and 0 < rate < math.inf):
        raise InputError(f"{where}: rate={rate!r:.80}; frames a second or null expected: {_AGAIN}")
    if padded is not None and not (type(padded) is int and 1 <= padded <= LONGEST):
        raise InputError(
            f"{where}: padded_length={padded!r:.80}; 1 .. {LONGEST} frames expected: {_AGAIN}"
        )
    if not isinstance(recipe.get("features", ""), str):
        raise InputError(f"{where}: features is not text: {_AGAIN}")


def _is_number(given: Any) -> bool:
    return type(given) in (int, float)


def check_padding(
    path: Path, recipe: dict[str, dict[str, Any]], features: dict[str, Ragged]
) -> None:
    """A padding frame has as many numbers as the frames have."""
    for modality in (m for m in MODALITIES if m in features and m in recipe):
        padding, width = recipe[modality].get("padding"), features[modality].width
        if padding is None:
            continue
        fits = isinstance(padding, list) and len(padding) == width and all(map(_is_number, padding))
        most = float(np.finfo(np.float32).max)
        if not fits or not all(abs(number) <= most for number in padding):
            raise InputError(
                f"{path / 'corpus.json'}: padding of {modality} is not {width} finite numbers: "
                f"{_AGAIN}"
            )
