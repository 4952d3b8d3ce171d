"""Corpora by name or folder: ``load_corpus("synthetic", cross_binding=1)``, ``load_corpus(path)``.

A specification is a registered name, optionally with options after commas
(``"synthetic,cross_binding=1,utterances=2400"``), or the path of a corpus folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from mmer_lib.corpora.base import MODALITIES, PARTS, Corpus, Ragged
from mmer_lib.corpora.folder import read_corpus
from mmer_lib.corpora.folds import PROTOCOLS, Fold, Leakage, make_folds
from mmer_lib.corpora.frames import frames
from mmer_lib.corpora.mmmo import mmmo
from mmer_lib.corpora.mosi import mosi
from mmer_lib.corpora.processed import processed
from mmer_lib.corpora.synthetic import synthetic
from mmer_lib.errors import InputError, check_path, unknown

__all__ = [
    "CORPORA", "MODALITIES", "PARTS", "PROTOCOLS", "Corpus", "Fold", "Leakage", "Ragged",
    "load_corpus", "make_folds",
]  # fmt: skip

CORPORA: dict[str, Callable[..., Corpus]] = {
    "synthetic": synthetic,
    "processed": processed,
    "mosi": mosi,
    "mmmo": mmmo,
    "frames": frames,
}


def load_corpus(specification: str | Path, **options: Any) -> Corpus:
    """A corpus by registered name (with options) or from its folder.

    Raises ``InputError`` for an unknown name, folder or option.
    """
    path = check_path("corpus", specification)
    head, *pairs = str(specification).split(",")
    if head in CORPORA:
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not equals:
                raise InputError(f"corpus option {pair!r}: write NAME,OPTION=VALUE")
            options[key.strip()] = value.strip()
        return CORPORA[head](**convert_options(head, options))
    if path.is_dir():
        if options:
            raise InputError(
                f"{path} is a finished corpus folder and takes no options, "
                f"but {', '.join(options)} was given"
            )
        return read_corpus(path)
    if path.suffix or len(path.parts) > 1:
        raise InputError(f"{path}: no such corpus folder. Make it with `mmer corpus make`")
    raise unknown("corpus", head, CORPORA)


def corpus_options(name: str) -> Mapping[str, Parameter]:
    """The options a registered corpus takes: name -> annotation and default."""
    return signature(CORPORA[name], eval_str=True).parameters


def convert_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options given as text turned into the types of the corpus function's annotations."""
    known, converted = corpus_options(name), {}
    for key, value in options.items():
        if key not in known:
            raise unknown(f"option of corpus {name!r}:", key, known)
        converted[key] = _convert(f"{name},{key}", value, known[key].annotation)
    for key, parameter in known.items():
        if parameter.default is Parameter.empty and key not in converted:
            raise InputError(
                f"corpus {name!r} needs a {key}: `mmer corpus make {name} {key.upper()} DEST` "
                f"or load_corpus({name!r}, {key}=...)"
            )
    return converted


def _convert(where: str, value: Any, kind: Any) -> Any:
    """``value`` as ``kind`` (bool, int, float or else left as it is)."""
    if not isinstance(value, str) or kind not in (bool, int, float):
        return value
    try:
        if kind is bool:
            return {"true": True, "false": False}[value.lower()]
        return kind(value)
    except (ValueError, KeyError) as error:
        raise InputError(f"{where}={value!r} is not {_KINDS[kind]}") from error


_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}
