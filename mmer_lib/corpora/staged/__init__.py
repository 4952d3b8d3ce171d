"""The staged corpus: embedded, and made of media that can be heard, seen and read.

eSpeak NG speaks sentences of a small grammar with a manner that follows the emotion, a drawn face
moves its action units, and all that was planned is kept as truth. See ``script`` (sentences),
``voice``, ``face``, ``drawing`` and ``expression``, ``people`` (the speakers), ``plan`` (labels,
congruence, clarity) and ``production`` (files).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from mmer_lib.corpora.base import MODALITIES, Corpus, blake2b
from mmer_lib.corpora.folder import read_corpus
from mmer_lib.corpora.media import Extraction, Listing, build_corpus
from mmer_lib.corpora.staged.plan import Staging
from mmer_lib.corpora.staged.production import stage
from mmer_lib.corpora.staged.script import EMOTIONS
from mmer_lib.errors import InputError
from mmer_lib.extras import need_extra
from mmer_lib.features.base import Clip
from mmer_lib.places import cache_folder

__all__ = ["EMOTIONS", "Staging", "read_staged", "stage", "staged"]

FEATURES = Extraction(audio="mfcc", video="dct,crop=whole,rate=5", text="hashed")


def staged(
    dest: str | Path = "",
    utterances: int = 700,
    speakers: int = 10,
    congruence: float = 1.0,
    clarity: float = 0.8,
    seed: int = 0,
    extraction: Extraction = FEATURES,
) -> Corpus:
    """Staged speech, faces and sentences with a planted truth (needs the extra ``staged``).

    ``congruence`` is the share of utterances whose words say what voice and face express (the
    others are sarcasm); ``clarity`` the probability that a modality shows its emotion clearly.
    Media are staged once in the cache folder and copied into the corpus folder ``dest``; without
    ``dest`` the corpus stands in the cache folder too and is opened from there the next time.

    Raises ``InputError`` for an option outside its range, or if the extra ``staged`` is not
    installed.
    """
    staging = Staging(utterances, speakers, congruence, clarity, seed)
    cache = cache_folder(extraction.cache)
    place = Path(dest) if str(dest) else cache / "staged" / f"corpus-{_key(staging, extraction)}"
    if not str(dest) and place.is_dir():
        return read_corpus(place)
    if place.exists():
        raise InputError(f"{place} already exists: remove it or choose another destination")
    need_extra("staged", "the corpus 'staged'")
    _check_features(extraction)
    media = stage(
        cache / "staged" / f"media-{staging.digest}", **asdict(staging), jobs=extraction.jobs
    )
    return build_corpus(read_staged(media), place, extraction)


def _check_features(extraction: Extraction) -> None:
    """Raise for a wrong specification before a minute is spent on staging."""
    one = pd.DataFrame({"id": ["one"], "label": [0]})
    clips: dict[str, list[Clip | None]] = {m: [Clip(words="")] for m in MODALITIES}
    extraction.extractors(Listing("staged", EMOTIONS, one, clips, Path()))


def _key(staging: Staging, extraction: Extraction) -> str:
    made = (staging.digest, extraction.audio, extraction.video, extraction.text)
    return blake2b(repr(made).encode())


def read_staged(folder: str | Path) -> Listing:
    """What ``stage`` wrote, with its events.

    Raises ``InputError`` if the folder was not staged to the end.
    """
    root = Path(folder)
    for name in ("manifest.csv", "events.csv"):
        if not (root / name).is_file():
            raise InputError(f"{root / name} is missing: stage the folder again (it continues)")
    table = pd.read_csv(root / "manifest.csv", na_filter=False)
    clips: dict[str, list[Clip | None]] = {
        "audio": [Clip(root / file) for file in table["audio"]],
        "video": [Clip(root / file) for file in table["video"]],
        "text": [Clip(words=text) for text in table["text"]],
    }
    table["label"] = table["label"].map(EMOTIONS.index).astype("int64")
    return Listing(
        name="staged",
        classes=EMOTIONS,
        utterances=table.drop(columns=["audio", "video"]),
        clips=clips,
        root=root,
        notes=("synthesized voices and drawn faces: good to learn on, no evidence on people",),
        events=pd.read_csv(root / "events.csv", dtype={"id": str}),
        portable=True,
    )
