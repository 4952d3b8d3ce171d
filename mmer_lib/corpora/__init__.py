"""Corpora by name or folder: ``load_corpus("synthetic", cross_binding=1)``, ``load_corpus(path)``.

A specification is a registered name, optionally with options after commas
(``"synthetic,cross_binding=1,utterances=2400"``), or the path of a corpus folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter
from pathlib import Path
from typing import Any

from mmer_lib.corpora.acted import crema_d, ravdess
from mmer_lib.corpora.base import MODALITIES, PARTS, Corpus, Ragged
from mmer_lib.corpora.folder import read_corpus
from mmer_lib.corpora.folds import PROTOCOLS, Fold, Leakage, make_folds
from mmer_lib.corpora.frames import frames
from mmer_lib.corpora.iemocap import iemocap
from mmer_lib.corpora.manifest import manifest
from mmer_lib.corpora.meld import meld
from mmer_lib.corpora.mmmo import mmmo
from mmer_lib.corpora.mmsa import mmsa
from mmer_lib.corpora.mosi import mosi
from mmer_lib.corpora.paired import paired
from mmer_lib.corpora.processed import processed
from mmer_lib.corpora.staged import staged
from mmer_lib.corpora.synthetic import synthetic
from mmer_lib.errors import InputError, check_path, unknown
from mmer_lib.options import convert_options, options_of, split_specification

__all__ = [
    "CORPORA", "MODALITIES", "PARTS", "PROTOCOLS", "Corpus", "Fold", "Leakage", "Ragged",
    "load_corpus", "make_folds",
]  # fmt: skip

CORPORA: dict[str, Callable[..., Corpus]] = {
    # embedded: a planted truth, no data needed
    "synthetic": synthetic,
    "staged": staged,
    # from raw media
    "iemocap": iemocap,
    "meld": meld,
    "ravdess": ravdess,
    "crema-d": crema_d,
    "manifest": manifest,
    # from finished features
    "processed": processed,
    "mosi": mosi,
    "mmmo": mmmo,
    "mmsa": mmsa,
    "frames": frames,
    # from finished corpora
    "paired": paired,
}


def load_corpus(specification: str | Path, **options: Any) -> Corpus:
    """A corpus by registered name (with options) or from its folder.

    Raises ``InputError`` for an unknown name, folder or option.
    """
    path = check_path("corpus", specification)
    head = str(specification).split(",")[0]
    if head in CORPORA:
        _, written = split_specification(str(specification))
        return CORPORA[head](**read_options(head, {**options, **written}))
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
    return options_of(CORPORA[name])


def read_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options given as text turned into the arguments of the corpus function."""
    converted = convert_options(f"corpus {name!r}", CORPORA[name], options)
    for key, parameter in corpus_options(name).items():
        if parameter.default is Parameter.empty and key not in converted:
            raise InputError(
                f"corpus {name!r} needs a {key}: `mmer corpus make {name} {key.upper()} DEST` "
                f"or load_corpus({name!r}, {key}=...)"
            )
    return converted
