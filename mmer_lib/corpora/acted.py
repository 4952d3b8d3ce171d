"""Acted emotions, RAVDESS and CREMA-D: corpora whose labels stand in the names of their files.

RAVDESS (Livingstone & Russo 2018), ``MM-VV-EE-II-SS-RR-AA.ext``: modality (01 picture and sound,
02 picture, 03 sound), vocal channel (01 speech, 02 song), emotion, intensity (01 normal, 02
strong), statement, repetition, actor (odd: male). The folders do not matter: ``Actor_01/``,
``Audio_Speech_Actors_01-24/Actor_01/``, ``Video_Song_Actor_01/Actor_01/`` or none.

CREMA-D (Cao et al. 2014), ``AAAA_SSS_EEE_LL.ext``: actor (1001 to 1091), sentence, emotion and
level (LO, MD, HI; XX not specified), sound in ``AudioWAV/``, video in ``VideoFlash/``.

Files that follow another pattern are no recordings and are passed over; a file that follows the
pattern with a code that was never published is refused.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mmer_lib.corpora.base import Corpus
from mmer_lib.corpora.media import Extraction, Listing, build_corpus
from mmer_lib.errors import InputError, check_path, unknown
from mmer_lib.features.base import Clip

SOUNDS = (".wav", ".flac", ".mp3")
VIDEOS = (".mp4", ".flv", ".mov", ".mkv", ".avi")
_DEFAULTS = Extraction()

# -- RAVDESS ---------------------------------------------------------------------------------------

RAVDESS_EMOTIONS = {
    "01": "neutral", "02": "calm", "03": "happy", "04": "sad",
    "05": "angry", "06": "fearful", "07": "disgust", "08": "surprised",
}  # fmt: skip
RAVDESS_STATEMENTS = {
    "01": "Kids are talking by the door",
    "02": "Dogs are sitting by the door",
}
RAVDESS_NOT_SUNG = {"disgust", "surprised"}
RAVDESS_CHANNELS = {"01": "speech", "02": "song"}
RAVDESS_PUBLISHED = {"speech": 1440, "song": 1012}  # recordings with sound
_RAVDESS = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")
_RAVDESS_CODES = {  # of the name, in order: what it is and which codes there are
    "modality": ("01", "02", "03"),
    "vocal channel": tuple(RAVDESS_CHANNELS),
    "emotion": tuple(RAVDESS_EMOTIONS),
    "intensity": ("01", "02"),
    "statement": tuple(RAVDESS_STATEMENTS),
    "repetition": ("01", "02"),
    "actor": tuple(f"{actor:02d}" for actor in range(1, 25)),
}


def read_ravdess(path: str | Path, channel: str = "speech", classes: int = 8) -> Listing:
    """The recordings of RAVDESS below the folder ``path``: 24 actors, two sentences, 8 emotions.

    ``channel`` is speech, song or both. ``classes=7`` leaves calm out, which no other corpus has.
    One utterance is what has the same codes but for the modality: sound from the file of sound,
    else from the one with picture and sound; picture from the latter, else from that of picture
    alone. Channel, intensity, statement and sex are columns. Songs have no disgust and surprise.

    Raises ``InputError`` for an unknown option, a folder without recordings, a code that was never
    published, and a recording that is there twice.
    """
    if channel not in (*RAVDESS_CHANNELS.values(), "both"):
        raise unknown("channel of ravdess:", channel, (*RAVDESS_CHANNELS.values(), "both"))
    if classes not in (7, 8):
        raise InputError(f"ravdess: classes={classes!r}; expected 8, or 7 (without calm)")
    root = check_path("path", path)
    found = _collect(root, _ravdess_takes(root), "RAVDESS recordings (03-01-05-02-01-01-12.wav)")
    wanted = {k: v for k, v in found.items() if channel in (RAVDESS_CHANNELS[k[:2]], "both")}
    if not wanted:
        raise InputError(f"{root} has no {channel} of RAVDESS; use channel='both' to see what is")
    kept = {k: v for k, v in wanted.items() if classes == 8 or k[3:5] != "02"}
    absent = {"calm"} if classes == 7 else set()
    absent |= RAVDESS_NOT_SUNG if channel == "song" else set()
    names = tuple(name for name in RAVDESS_EMOTIONS.values() if name not in absent)
    table = pd.DataFrame([_ravdess_row(key, names) for key in kept])
    expected = sum(RAVDESS_PUBLISHED[c] for c in RAVDESS_PUBLISHED if channel in (c, "both"))
    notes = [_counted(len(wanted), expected, "RAVDESS")]
    if len(kept) < len(wanted):
        notes.append(f"{len(wanted) - len(kept)} calm utterances were left out.")
    notes.append("Two fixed sentences are spoken: the words carry no emotion.")
    return _listing("ravdess", names, table, list(kept.values()), root, notes)


def ravdess(
    path: str | Path,
    dest: str | Path,
    extraction: Extraction = _DEFAULTS,
    channel: str = "speech",
    classes: int = 8,
) -> Corpus:
    """RAVDESS: 24 actors, two sentences, 8 acted emotions (channel=speech, song or both)."""
    return build_corpus(read_ravdess(path, channel, classes), Path(dest), extraction)


def _ravdess_takes(root: Path) -> Iterator[_Take]:
    for file in _files(root):
        named = _RAVDESS.fullmatch(file.stem)
        if named is None:
            continue
        codes = dict(zip(_RAVDESS_CODES, named.groups(), strict=True))
        for what, code in codes.items():
            _check_code(file, what, code, _RAVDESS_CODES[what])
        sound = file.suffix.lower() in SOUNDS
        if sound and codes["modality"] != "03":
            raise InputError(f"{file}: modality {codes['modality']} is video, but this is sound")
        kind = {"01": "both", "02": "video", "03": "audio"}[codes["modality"]]
        yield _Take(file.stem[3:], kind, file)


def _ravdess_row(key: str, classes: tuple[str, ...]) -> dict[str, object]:
    channel, emotion, intensity, statement, repetition, actor = key.split("-")
    return {
        "id": key,
        "label": classes.index(RAVDESS_EMOTIONS[emotion]),
        "speaker": f"actor-{actor}",
        "channel": RAVDESS_CHANNELS[channel],
        "text": RAVDESS_STATEMENTS[statement],
        "emotion": RAVDESS_EMOTIONS[emotion],
        "intensity": {"01": "normal", "02": "strong"}[intensity],
        "statement": int(statement),
        "repetition": int(repetition),
        "sex": "male" if int(actor) % 2 else "female",
    }


# -- CREMA-D ---------------------------------------------------------------------------------------

CREMA_EMOTIONS = {
    "ANG": "angry", "DIS": "disgust", "FEA": "fearful",
    "HAP": "happy", "NEU": "neutral", "SAD": "sad",
}  # fmt: skip
CREMA_SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
CREMA_LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified"}
CREMA_PUBLISHED = 7442
_CREMA = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]{1,2})")
_CREMA_ACTORS = tuple(str(actor) for actor in range(1001, 1092))


def read_crema_d(path: str | Path) -> Listing:
    """The recordings of CREMA-D below the folder ``path``: 91 actors, 12 sentences, 6 emotions.

    The label is the emotion acted, not the one that listeners heard. Where sound lies both in
    ``AudioWAV`` and ``AudioMP3`` the former is taken. ``level`` (of the emotion) and, where
    ``VideoDemographics.csv`` lies in the folder, ``sex`` are columns.

    Raises ``InputError`` for a folder without recordings, a code that was never published, and a
    recording that is there twice.
    """
    root = check_path("path", path)
    found = _collect(root, _crema_takes(root), "CREMA-D recordings (1001_DFA_ANG_XX.wav)")
    names, sexes = tuple(CREMA_EMOTIONS.values()), _crema_sexes(root)
    table = pd.DataFrame([_crema_row(key, names) for key in found])
    if sexes:
        table["sex"] = [sexes.get(key[:4]) for key in found]
    notes = [
        _counted(len(found), CREMA_PUBLISHED, "CREMA-D"),
        "The label is the emotion that was acted, not the one that listeners heard.",
        "Each of 12 fixed sentences is spoken in all emotions: the words carry little of them.",
    ]
    return _listing("crema-d", names, table, list(found.values()), root, notes)


def crema_d(
    path: str | Path,
    dest: str | Path,
    extraction: Extraction = _DEFAULTS,
) -> Corpus:
    """CREMA-D: 91 actors, 12 sentences, 6 acted emotions."""
    return build_corpus(read_crema_d(path), Path(dest), extraction)


def _crema_takes(root: Path) -> Iterator[_Take]:
    for file in _files(root):
        named = _CREMA.fullmatch(file.stem)
        if named is None:
            continue
        actor, sentence, emotion, level = named.groups()
        level = "XX" if level == "X" else level  # so one file of the release is called
        _check_code(file, "actor", actor, _CREMA_ACTORS)
        _check_code(file, "sentence", sentence, tuple(CREMA_SENTENCES))
        _check_code(file, "emotion", emotion, tuple(CREMA_EMOTIONS))
        _check_code(file, "level", level, tuple(CREMA_LEVELS))
        suffix = file.suffix.lower()
        if suffix == ".mp3" and (root / "AudioWAV").is_dir():
            continue  # the same sound, compressed
        kind = "audio" if suffix in SOUNDS else "both"
        yield _Take(f"{actor}_{sentence}_{emotion}_{level}", kind, file)


def _crema_row(key: str, classes: tuple[str, ...]) -> dict[str, object]:
    actor, sentence, emotion, level = key.split("_")
    return {
        "id": key,
        "label": classes.index(CREMA_EMOTIONS[emotion]),
        "speaker": f"actor-{actor}",
        "text": CREMA_SENTENCES[sentence],
        "emotion": CREMA_EMOTIONS[emotion],
        "level": CREMA_LEVELS[level],
        "sentence": sentence,
    }


def _crema_sexes(root: Path) -> dict[str, str]:
    """Actor -> male or female, as far as the release's table of actors is there."""
    file = root / "VideoDemographics.csv"
    if not file.is_file():
        return {}
    try:
        with file.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
            rows = list(csv.DictReader(line for line in lines if line.strip()))
    except (OSError, csv.Error) as error:
        raise InputError(f"{file} is not a readable CSV table: {error}") from error
    return {r["ActorID"]: r["Sex"].lower() for r in rows if r.get("ActorID") and r.get("Sex")}


# -- both ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Take:
    """One file: of which utterance, and what it holds (audio, video or both)."""

    key: str
    kind: str
    file: Path


def _files(root: Path) -> list[Path]:
    """Media below ``root`` in the order of their names; hidden ones (``._x.wav``) are none."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    media = (*SOUNDS, *VIDEOS)
    return sorted(
        file
        for file in root.rglob("*")
        if file.suffix.lower() in media and not file.name.startswith(".") and file.is_file()
    )


def _check_code(file: Path, what: str, code: str, known: tuple[str, ...]) -> None:
    if code not in known:
        told = ", ".join(known) if len(known) <= 12 else f"{known[0]} to {known[-1]}"
        raise InputError(
            f"{file}: {what} {code!r} is none of the published codes ({told}); rename the file, or "
            f"take it out of the folder"
        )


def _collect(root: Path, takes: Iterator[_Take], expected: str) -> dict[str, dict[str, Path]]:
    """Utterance -> kind (audio, video, both) -> file, in the order of the utterances."""
    found: dict[str, dict[str, Path]] = {}
    for take in takes:
        other = found.setdefault(take.key, {}).setdefault(take.kind, take.file)
        if other is not take.file:
            raise InputError(
                f"{take.file} is the same recording as {other}; each may be there once"
            )
    if not found:
        raise InputError(f"{root} has no {expected}; give the folder that holds the release")
    return dict(sorted(found.items()))


def _counted(found: int, published: int, name: str) -> str:
    if found == published:
        return f"All {published} published utterances of {name} are there."
    return f"{found} of the {published} published utterances of {name} are there."


def _listing(
    name: str,
    classes: tuple[str, ...],
    table: pd.DataFrame,
    found: list[dict[str, Path]],
    root: Path,
    notes: list[str],
) -> Listing:
    """The clips: sound and picture from files of their own, or one from the file of both."""
    clips: dict[str, list[Clip | None]] = {
        "audio": [_clip(files.get("audio", files.get("both"))) for files in found],
        "video": [_clip(files.get("both", files.get("video"))) for files in found],
        "text": [Clip(words=words) for words in table["text"]],
    }
    clips = {m: given for m, given in clips.items() if any(given)}
    return Listing(name, classes, table.astype({"label": np.int64}), clips, root, tuple(notes))


def _clip(file: Path | None) -> Clip | None:
    return None if file is None else Clip(path=file)
