"""From a listing of media to a corpus folder: features are written as they come.

A source (iemocap, meld, manifest, ...) only says which utterances there are, how they are labelled
and where their media lie: a ``Listing``. What is made of them is said by an ``Extraction``. The
rest is the same for all: extract, cache, report what cannot be read, write. Memory stays small
whatever the size of the corpus.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmer_lib.corpora.base import MODALITIES, Corpus, check_finite, check_text
from mmer_lib.corpora.folder import (
    ArrayWriter,
    new_folder,
    open_features,
    read_corpus,
    write_tables,
)
from mmer_lib.errors import InputError
from mmer_lib.features.base import Clip, Extractor, Track
from mmer_lib.features.extract import Failure, extract
from mmer_lib.features.registry import build_extractor
from mmer_lib.places import cache_folder

AUTO = {"audio": "mfcc", "video": "dct", "text": "hashed"}  # need no weights


@dataclass(frozen=True)
class Listing:
    """Labelled utterances and where their media lie; nothing is decoded yet.

    ``utterances`` is as in a corpus. ``clips[modality]`` has one clip an utterance, None where
    there is none. ``events`` is planted truth: columns ``id, modality, time`` (seconds),
    ``character`` (its place in the words, else -1), ``role, key, value``; frames are found when
    features are made.
    """

    name: str
    classes: tuple[str, ...]
    utterances: pd.DataFrame
    clips: dict[str, list[Clip | None]]
    root: Path  # every path of the clips lies below it
    notes: tuple[str, ...] = ()
    events: pd.DataFrame | None = None
    portable: bool = False  # small and free: its media are copied into the corpus folder

    def has(self, modality: str) -> bool:
        """Whether any utterance has a clip of it."""
        return any(clip is not None for clip in self.clips.get(modality, []))


@dataclass(frozen=True)
class Extraction:
    """How media become features: a specification a modality, and how the work is done.

    A specification is ``NAME[,OPTION=VALUE...]`` (see ``features.registry``); ``auto`` takes the
    features of ``AUTO`` where the source has the modality, ``none`` leaves it out.
    """

    audio: str = "auto"
    video: str = "auto"
    text: str = "auto"
    jobs: int = 1  # processes
    device: str = "cpu"  # of networks
    strict: bool = False  # stop at the first clip that cannot be read
    cache: str = ""  # folder of finished features; "": see places.cache_folder

    def __post_init__(self) -> None:
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise InputError(f"device={self.device!r}: cpu, cuda or cuda:N expected")

    def extractors(self, listing: Listing) -> dict[str, Extractor]:
        """The extractors of the modalities that there will be.

        Raises ``InputError`` for a modality asked for that the source lacks, or if none is left.
        """
        chosen = {}
        for modality in MODALITIES:
            asked = getattr(self, modality)
            if asked == "auto":
                asked = AUTO[modality] if listing.has(modality) else "none"
            extractor = build_extractor(modality, asked, self.device)
            if extractor is None:
                continue
            if not listing.has(modality):
                raise InputError(
                    f"{modality}={asked!r} was asked for, but {listing.name} at {listing.root} has "
                    f"no {modality}: leave it out ({modality}=none), or complete the source"
                )
            chosen[modality] = extractor
        if not chosen:
            raise InputError(f"{listing.name}: every modality is left out; choose at least one")
        return chosen


def build_corpus(listing: Listing, dest: str | Path, extraction: Extraction) -> Corpus:
    """Write the corpus folder ``dest``, and open it.

    A clip that cannot be read leaves its modality missing; it is listed in ``unreadable.csv`` with
    the reason. An utterance of which nothing could be read is left out.

    Raises ``InputError``, and leaves nothing at ``dest``, for a wrong specification, a modality
    of which nothing can be read, features that are not finite, or a ``dest`` that exists already
    or cannot be written; with ``strict`` also for the first clip that cannot be read.
    """
    extractors = extraction.extractors(listing)
    _check_names(listing)
    cache = cache_folder(extraction.cache)
    with new_folder(Path(dest)) as folder:
        made = [
            _write_modality(listing, extractor, folder, cache, extraction)
            for extractor in extractors.values()
        ]
        if listing.portable:
            hidden = shutil.ignore_patterns(".*")  # what a killed process left half-written
            shutil.copytree(listing.root, folder / "media", ignore=hidden)
        write_tables(_assemble(listing, made, folder), folder)
    return read_corpus(Path(dest))


def _check_names(listing: Listing) -> None:
    """Refuse media whose names, and words, that cannot be written into a table."""
    check_text(listing.utterances, f"corpus {listing.name!r}")
    for clip in (clip for clips in listing.clips.values() for clip in clips):
        try:
            str("" if clip is None or clip.path is None else clip.path).encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{str(error.object)!a}: its name is not UTF-8; rename the file or folder"
            ) from error


# -- one modality ----------------------------------------------------------------------------------


@dataclass
class _Made:
    """What became of one modality."""

    extractor: Extractor
    lengths: list[int] = field(default_factory=list)  # frames of each utterance
    failures: list[tuple[str, Failure]] = field(default_factory=list)
    faceless: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def modality(self) -> str:
        return self.extractor.modality

    def notes(self) -> Iterator[str]:
        if self.failures:
            yield (
                f"{self.modality}: {len(self.failures)} of {len(self.lengths)} clips could not be "
                f"read and count as missing; unreadable.csv says why"
            )
        if self.faceless:
            share = 100 * self.faceless / max(1, sum(self.lengths))
            yield (
                f"video: no face was found in {self.faceless} of {sum(self.lengths)} frames "
                f"({share:.1f} %); these show the last place of the face, or the centre"
            )

    def recipe(self) -> dict[str, Any]:
        about: dict[str, Any] = {
            "features": self.extractor.describe(),
            "rate": self.extractor.rate,
            "extractor": self.extractor.recipe(),
        }
        if self.extractor.longest is not None:
            about["padded_length"] = self.extractor.longest
        return about


def _write_modality(
    listing: Listing, extractor: Extractor, folder: Path, cache: Path, extraction: Extraction
) -> _Made:
    """Extract one modality of all utterances into its two files."""
    from tqdm import tqdm

    modality = extractor.modality
    clips, made = listing.clips[modality], _Made(extractor)
    marked = _events_by_id(listing, modality)
    tracks = extract(extractor, clips, cache, extraction.jobs, extraction.strict)
    bar = tqdm(tracks, f"{modality}: {extractor.recipe()['name']}", len(clips), unit="clip",
               disable=None)  # fmt: skip
    with closing(ArrayWriter(folder, modality, extractor.width)) as writer:
        for name, track in zip(listing.utterances["id"], bar, strict=True):
            if isinstance(track, Track):
                check_finite(track.values, f"{listing.name}, {modality} of {name!r}")
                writer.append(track.values)
                made.faceless += track.faceless
                made.events += [place_event(event, track) for event in marked.get(name, [])]
            else:
                writer.append(np.zeros((0, extractor.width), np.float32))
                made.failures += [(name, track)] if isinstance(track, Failure) else []
            made.lengths.append(len(track) if isinstance(track, Track) else 0)
    if made.failures and not any(made.lengths):
        raise InputError(
            f"none of the {len(made.failures)} {modality} clips could be read. "
            f"The first: {made.failures[0][1].reason}"
        )
    return made


def _events_by_id(listing: Listing, modality: str) -> dict[str, list[dict[str, Any]]]:
    if listing.events is None:
        return {}
    mine = listing.events[listing.events["modality"] == modality]
    found: dict[str, list[dict[str, Any]]] = {}
    for event in mine.to_dict("records"):
        found.setdefault(str(event["id"]), []).append({str(k): v for k, v in event.items()})
    return found


def place_event(event: dict[str, Any], track: Track) -> dict[str, Any]:
    """An event with its frame: the one nearest in time, or the one that holds its character."""
    if track.spans is not None:
        inside = (track.spans[:, 0] <= event["character"]) & (
            event["character"] < track.spans[:, 1]
        )
        frame = int(np.argmax(inside)) if inside.any() else -1
    else:
        frame = int(np.argmin(np.abs(track.times - event["time"])))
    return {**event, "frame": frame}


# -- the whole -------------------------------------------------------------------------------------


def _assemble(listing: Listing, made: list[_Made], folder: Path) -> Corpus:
    """The corpus of what was written to ``folder``; its unreadable clips go into a table there."""
    table = listing.utterances.reset_index(drop=True)
    kept = np.any([np.array(one.lengths) > 0 for one in made], axis=0)
    notes = [*listing.notes, *(note for one in made for note in one.notes())]
    if not kept.all():
        dropped = int((~kept).sum())
        notes.append(
            f"{dropped} of {len(kept)} utterances are left out: nothing of them could be read"
        )
        _drop_rows(folder, kept)
    _write_failures(made, folder)
    lost = set(table["label"]) - set(table["label"][kept])
    notes += [f"class {listing.classes[i]!r} has no utterance left" for i in sorted(lost)]
    return Corpus(
        name=listing.name,
        classes=listing.classes,
        utterances=table[kept].reset_index(drop=True),
        features={one.modality: open_features(folder, one.modality) for one in made},
        recipe={one.modality: one.recipe() for one in made},
        events=_events(listing, made),
        notes=tuple(notes),
        clips=_clip_table(listing, kept),
        media=Path("media") if listing.portable else listing.root.absolute(),
    )


def _drop_rows(folder: Path, kept: np.ndarray) -> None:
    """Take utterances without any frame out of the offsets."""
    for file in folder.glob("*.offsets.npy"):
        np.save(file, np.load(file)[np.r_[True, kept]])


def _write_failures(made: list[_Made], folder: Path) -> None:
    rows = [
        {"id": name, "modality": one.modality, "path": str(f.clip.path or ""), "reason": f.reason}
        for one in made
        for name, f in one.failures
    ]
    if rows:
        pd.DataFrame(rows).to_csv(folder / "unreadable.csv", index=False)


def _events(listing: Listing, made: list[_Made]) -> pd.DataFrame | None:
    """Planted truth with frames; what lies beyond the frames that were kept is left out."""
    if listing.events is None:
        return None
    columns = ["id", "modality", "frame", "role", "key", "value", "time"]
    rows = [event for one in made for event in one.events if event["frame"] >= 0]
    return pd.DataFrame(rows, columns=columns)


def _clip_table(listing: Listing, kept: np.ndarray) -> pd.DataFrame | None:
    """Where the media lie, relative to the root."""
    root = listing.root.absolute()  # links below it are followed, so names stay as they are
    rows = [
        {
            "id": name,
            "modality": modality,
            "path": clip.path.absolute().relative_to(root).as_posix(),
            "start": clip.start,
            "end": clip.end,
            "half": clip.half,
        }
        for modality, clips in listing.clips.items()
        for name, clip, there in zip(listing.utterances["id"], clips, kept, strict=True)
        if there and clip is not None and clip.path is not None
    ]
    return pd.DataFrame(rows) if rows else None
