"""Feature extractors by specification, as corpora and the command line name them.

A specification is a name, a source where one is needed, and options:
``mfcc``, ``logmel,bands=64``, ``glove:vectors.txt,longest=128``, ``hf:FOLDER_OR_NAME,layer=9``.
``none`` leaves the modality out.
"""

from __future__ import annotations

from dataclasses import MISSING, fields

from mmer_lib.errors import InputError, unknown
from mmer_lib.extras import need_extra
from mmer_lib.features.audio import MFCC, LogMel, Prosody
from mmer_lib.features.base import Extractor
from mmer_lib.features.pretrained import PretrainedAudio, PretrainedText, PretrainedVideo
from mmer_lib.features.text import Hashed, WordVectors
from mmer_lib.features.video import DCT, HOG
from mmer_lib.options import convert_options, split_specification

EXTRACTORS: dict[str, dict[str, type[Extractor]]] = {
    "audio": {"mfcc": MFCC, "prosody": Prosody, "logmel": LogMel, "hf": PretrainedAudio},
    "video": {"hog": HOG, "dct": DCT, "hf": PretrainedVideo},
    "text": {
        "hashed": Hashed,
        "glove": WordVectors,
        "minilm": PretrainedText,
        "hf": PretrainedText,
    },
}
_FIXED = {"minilm": "minilm"}  # names that stand for a source of their own


def build_extractor(modality: str, specification: str, device: str = "cpu") -> Extractor | None:
    """The extractor of a modality that ``specification`` names; None for ``none``.

    Raises ``InputError`` for an unknown name or option, a source that is missing or too many, or
    an extra that is not installed.
    """
    head, options = split_specification(specification)
    name, colon, source = head.partition(":")
    if head == "none":
        return None
    if name not in EXTRACTORS[modality]:
        raise unknown(f"{modality} feature", name, [*EXTRACTORS[modality], "none"])
    kind = EXTRACTORS[modality][name]
    takes = {one.name for one in fields(kind)}
    wants = "source" in takes and name not in _FIXED
    if wants != bool(source) or (colon and not wants):
        wanted = f"{name}:FILE_OR_NAME" if wants else name
        raise InputError(f"{modality} feature {specification!r}: write {wanted}[,OPTION=VALUE...]")
    if modality == "video":
        need_extra("video", f"video feature {specification!r}")
    given: dict[str, str] = dict(options)
    if "source" in takes:
        given["source"] = source or _FIXED[name]
    if "device" in takes:
        given.setdefault("device", device)
    return kind(**convert_options(f"{modality} feature {name!r}", kind, given))


def example(name: str, kind: type[Extractor]) -> str:
    """How a specification of ``kind`` is written, with its options and their defaults."""
    needs = any(f.name == "source" for f in fields(kind)) and name not in _FIXED
    told = [
        f"{f.name}={'none' if f.default is None else str(f.default).lower()}"
        for f in fields(kind)
        if f.name not in ("source", "device") and f.default is not MISSING
    ]
    return ",".join([name + (":SOURCE" if needs else ""), *told])
