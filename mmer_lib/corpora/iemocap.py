"""IEMOCAP from its full release: what was said, how it was rated, and where it is heard and seen.

Source: Busso et al. (2008, "IEMOCAP: interactive emotional dyadic motion capture database"). Of a
dialogue such as ``Ses01F_impro01`` - session 1, the woman wears the markers - these are read::

    Session1/dialog/EmoEvaluation/Ses01F_impro01.txt                  labels, times, raters
    Session1/dialog/transcriptions/Ses01F_impro01.txt                 words
    Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav     sound of an utterance
    Session1/dialog/avi/DivX/Ses01F_impro01.avi                       picture of both people

An utterance ends in the letter of who speaks: ``_F000`` is the woman, ``_M000`` the man. Ten
speakers, two a session: folds by ``speaker`` or, stricter, by ``session`` keep people apart.

**Which half of the picture shows whom** is not said in the release's description as far as we know.
Public code mostly puts the wearer of the markers, the letter in the file's name, on the left: so do
``cut_video.sh`` of MEmoBERT (Zhao et al., 2022) and ``extractionmapCreator.py`` of Kansizoglou
(2018); some code has the woman on the left in every file. Left is our default, ``side`` changes it.
We could not look at the release itself: look at frames of both kinds of file before you trust a
result on video.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from mmer_lib.corpora.base import Corpus
from mmer_lib.corpora.media import Extraction, Listing, build_corpus
from mmer_lib.corpora.processed import COUNTS
from mmer_lib.corpora.transcripts import read_text
from mmer_lib.errors import InputError, check_path, unknown
from mmer_lib.features.base import Clip

CODES = {
    "ang": "angry",
    "exc": "excited",
    "hap": "happy",
    "sad": "sad",
    "fru": "frustrated",
    "sur": "surprise",
    "neu": "neutral",
    "fea": "fear",
    "dis": "disgust",
    "oth": "other",
    "xxx": "no majority among the raters",
}
CLASSES = {  # how many classes -> which; 4 and 5 count excited as happy
    4: ("angry", "happy", "sad", "neutral"),
    5: ("angry", "happy", "sad", "frustrated", "neutral"),
    6: ("angry", "excited", "happy", "sad", "frustrated", "neutral"),
    7: tuple(COUNTS),
}
SIDES = ("marker-left", "marker-right", "whole")  # where the wearer of the markers is seen
SESSIONS = tuple(f"Session{number}" for number in range(1, 6))

_WORDS = {  # what a rater may say -> the release's code
    "anger": "ang", "excited": "exc", "happiness": "hap", "sadness": "sad", "frustration": "fru",
    "surprise": "sur", "neutral": "neu", "neutral state": "neu", "fear": "fea", "disgust": "dis",
    "other": "oth",
}  # fmt: skip
_HEAD = re.compile(r"\[\s*([\d.]+)\s*-\s*([\d.]+)\s*\]\s+(\S+)\s+(\S+)\s+\[([^\]]*)\]\s*$")
_ID = re.compile(r"(Ses\d\d)([FM])_(impro|script)\w*_([FM])[0-9X]+")
_RATER = re.compile(r"C-E\w*:([^(]*)")  # C-F and C-M are the actors' ratings of themselves
_SAID = re.compile(r"(Ses\w+)\s*(?:\[[^\]]*\]\s*)?:(.*)")
_SETTING = {"impro": "improvisation", "script": "script"}
_DEFAULTS = Extraction()


def iemocap(
    path: str | Path,
    dest: str | Path,
    extraction: Extraction = _DEFAULTS,
    classes: int = 7,
    side: str = "marker-left",
) -> Corpus:
    """IEMOCAP, the full release: acted dialogues, 7 emotions as in the paper, or 4, 5, 6.

    Writes the corpus folder ``dest``; options and errors as in :func:`read_iemocap`.
    """
    return build_corpus(read_iemocap(path, classes, side), Path(dest), extraction)


def read_iemocap(path: str | Path, classes: int = 7, side: str = "marker-left") -> Listing:
    """The utterances of the release in the folder ``path``, or in the one folder below it.

    ``classes`` is 7 (the paper's), 6 (no surprise), 5 (angry, happy or excited, sad, frustrated,
    neutral) or 4 (no frustrated); other utterances are left out and counted in a note. ``side``
    says where the wearer of the markers is seen (see the module's first lines); ``"whole"`` takes
    the whole picture, with both people.

    Columns beside the usual ones: ``session``, ``setting`` (script or improvisation), ``start`` and
    ``end`` in the dialogue (s), ``raters`` (how many gave categories, the actors themselves not
    counted) and ``agreement`` (the share of them whose answer has the utterance's own label, before
    classes are merged), ``valence``, ``activation``, ``dominance`` (1 .. 5, mean of the raters).
    A modality without any file is left out of ``clips``, and a note says what was looked for.

    Raises ``InputError`` for a folder that is no release, a line of a label file that cannot be
    read, an unknown label, and an utterance that is there twice.
    """
    if classes not in CLASSES:
        raise unknown("number of classes of iemocap:", classes, CLASSES)
    if side not in SIDES:
        raise unknown("side of iemocap:", side, SIDES)
    root = _find_release(check_path("path", path))
    sessions = [root / name for name in SESSIONS if (root / name).is_dir()]
    rated = [utterance for session in sessions for utterance in _read_labels(session)]
    _refuse_twice(rated)
    names = _names(classes)
    kept = [utterance for utterance in rated if utterance.code in names]
    if not kept:
        raise InputError(f"{root}: none of {len(rated)} utterances has a label of these classes")
    said = {utterance: text for session in sessions for utterance, text in _read_words(session)}
    text = [said.get(utterance.id) for utterance in kept]
    labels = [CLASSES[classes].index(names[utterance.code]) for utterance in kept]
    clips = {
        "audio": [_sound(utterance) for utterance in kept],
        "video": _pictures(kept, side),
        "text": [None if words is None else Clip(words=words) for words in text],
    }
    notes = (
        *_session_notes(sessions),
        _left_out(rated, names),
        _compared(labels, classes),
        *_missing(clips, kept, side),
        *_strange_words(rated),
    )
    return Listing(
        name="iemocap",
        classes=CLASSES[classes],
        utterances=_table(kept, labels, text),
        clips={modality: found for modality, found in clips.items() if any(found)},
        root=root,
        notes=tuple(note for note in notes if note),
    )


# -- the release -----------------------------------------------------------------------------------


def _find_release(path: Path) -> Path:
    """The folder that holds Session1 .. Session5: ``path``, or the one folder in it that does."""
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; expected IEMOCAP_full_release")
    if _has_session(path):
        return path
    below = [folder for folder in sorted(path.iterdir()) if folder.is_dir()]
    found = [folder for folder in below if _has_session(folder)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{path} holds {len(found)} releases: give one of them, e.g. {found[0]}")
    raise InputError(
        f"{path} is no IEMOCAP release: expected Session1/dialog/EmoEvaluation in it (to "
        f"Session5), as IEMOCAP_full_release has"
    )


def _has_session(folder: Path) -> bool:
    return any((folder / name / "dialog" / "EmoEvaluation").is_dir() for name in SESSIONS)


def _files(folder: Path) -> list[Path]:
    """One a dialogue. What macOS adds begins with ``._`` and is none."""
    return sorted(file for file in folder.glob("Ses*.txt") if file.is_file())


# -- labels ----------------------------------------------------------------------------------------


@dataclass
class _Rated:
    """An utterance as a label file describes it."""

    where: str  # file and line
    session: Path
    id: str
    start: float
    end: float
    code: str
    dimensions: tuple[float, float, float]  # valence, activation, dominance
    answers: list[list[str]] = field(default_factory=list)  # what each rater said

    @property
    def dialogue(self) -> str:
        """``Ses01F_impro01``."""
        return self.id.rpartition("_")[0]

    @property
    def speaker(self) -> str:
        """``Ses01M``: who speaks, whoever wears the markers."""
        return self.id[:5] + self.id.rpartition("_")[2][0]

    @property
    def speaker_wears_markers(self) -> bool:
        """Whether the letter of the file is the letter of the speaker."""
        return self.id[5] == self.speaker[5]

    @property
    def agreement(self) -> float:
        """The share of raters whose answer has the label; NaN without raters."""
        if not self.answers:
            return math.nan
        agree = [self.code in (_WORDS.get(word) for word in answer) for answer in self.answers]
        return sum(agree) / len(agree)


def _read_labels(session: Path) -> Iterator[_Rated]:
    folder = session / "dialog" / "EmoEvaluation"
    files = _files(folder)
    if not files:
        raise InputError(
            f"{folder} has no label file; expected one a dialogue, e.g. Ses01F_impro01.txt"
        )
    for file in files:
        yield from _read_label_file(file, session)


def _read_label_file(file: Path, session: Path) -> list[_Rated]:
    """A block an utterance: its line in brackets, then a line a rater."""
    found: list[_Rated] = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if line.startswith("["):
            found.append(_read_head(line, f"{file}, line {number}", session))
        elif found and (answer := _RATER.match(line)):
            words = [word.strip().lower() for word in answer.group(1).split(";")]
            if any(words):
                found[-1].answers.append([word for word in words if word])
    if not found:
        raise InputError(f"{file} has no utterance; expected lines such as {_EXAMPLE}")
    return found


_EXAMPLE = "'[6.2901 - 8.2357] Ses01F_impro01_F000 neu [2.5000, 2.5000, 2.5000]'"


def _read_head(line: str, where: str, session: Path) -> _Rated:
    try:
        start, end, name, code, means = _HEAD.match(line).groups()  # type: ignore[union-attr]
        valence, activation, dominance = map(float, means.split(","))
        times = float(start), float(end)
    except (AttributeError, ValueError) as error:
        raise InputError(f"{where}: {line.strip()!r} is not as expected: {_EXAMPLE}") from error
    if not all(map(math.isfinite, (*times, valence, activation, dominance))):
        raise InputError(f"{where}: {line.strip()!r} holds a number that is not finite")
    if not times[0] < times[1]:
        raise InputError(f"{where}: {name} ends at {end} s, but begins at {start} s")
    if not _ID.fullmatch(name):
        raise InputError(f"{where}: utterance {name!r} is not named as Ses01F_impro01_F000 is")
    if code not in CODES:
        raise unknown(f"label in {where}:", code, CODES)
    return _Rated(where, session, name, *times, code, (valence, activation, dominance))


def _refuse_twice(rated: list[_Rated]) -> None:
    first: dict[str, str] = {}
    for utterance in rated:
        if utterance.id in first:
            raise InputError(
                f"{utterance.where}: utterance {utterance.id} is there already, in "
                f"{first[utterance.id]}; take one away"
            )
        first[utterance.id] = utterance.where


def _names(classes: int) -> dict[str, str]:
    """The codes that are kept, each with its class."""
    names = {code: name for code, name in CODES.items() if name in CLASSES[classes]}
    if "excited" not in CLASSES[classes]:
        names["exc"] = "happy"
    return names


# -- words, sound, picture -------------------------------------------------------------------------


def _read_words(session: Path) -> Iterator[tuple[str, str]]:
    """(utterance, what was said). Lines that name no utterance (``M: ...``) are passed over."""
    for file in _files(session / "dialog" / "transcriptions"):
        for line in read_text(file).splitlines():
            said = _SAID.match(line.strip())
            if said and said.group(2).strip():
                yield said.group(1), said.group(2).strip()


def _sound(utterance: _Rated) -> Clip | None:
    folder = utterance.session / "sentences" / "wav" / utterance.dialogue
    file = folder / f"{utterance.id}.wav"
    return Clip(file) if file.is_file() else None


def _pictures(kept: list[_Rated], side: str) -> list[Clip | None]:
    files: dict[str, Path | None] = {}
    clips: list[Clip | None] = []
    for utterance in kept:
        name = utterance.dialogue
        if name not in files:
            files[name] = _film(utterance)
        film = files[name]
        half = _half(utterance, side)
        clips.append(Clip(film, utterance.start, utterance.end, half) if film else None)
    return clips


def _film(utterance: _Rated) -> Path | None:
    """In the folder ``DivX``, as released, or directly in ``avi``."""
    folder = utterance.session / "dialog" / "avi"
    places = [folder / "DivX", folder]
    files = [place / f"{utterance.dialogue}.avi" for place in places]
    return next((file for file in files if file.is_file()), None)


def _half(utterance: _Rated, side: str) -> str:
    if side == "whole":
        return ""
    return "left" if utterance.speaker_wears_markers == (side == "marker-left") else "right"


# -- the table and its notes -----------------------------------------------------------------------


def _table(kept: list[_Rated], labels: list[int], text: list[str | None]) -> pd.DataFrame:
    dimensions = np.array([utterance.dimensions for utterance in kept])  # (n, 3)
    return pd.DataFrame(
        {
            "id": [utterance.id for utterance in kept],
            "label": np.array(labels, np.int64),
            "speaker": [utterance.speaker for utterance in kept],
            "dialogue": [utterance.dialogue for utterance in kept],
            "session": [utterance.session.name for utterance in kept],
            "setting": [_SETTING[_ID.fullmatch(u.id).group(3)] for u in kept],  # type: ignore[union-attr]
            "start": [utterance.start for utterance in kept],
            "end": [utterance.end for utterance in kept],
            "agreement": [utterance.agreement for utterance in kept],
            "raters": np.array([len(utterance.answers) for utterance in kept], np.int64),
            "valence": dimensions[:, 0],
            "activation": dimensions[:, 1],
            "dominance": dimensions[:, 2],
            "text": pd.Series(text, dtype=object),
        }
    )


def _session_notes(sessions: list[Path]) -> Iterator[str]:
    if len(sessions) < len(SESSIONS):
        there = ", ".join(session.name for session in sessions)
        yield f"{len(sessions)} of {len(SESSIONS)} sessions are there: {there}."


def _left_out(rated: list[_Rated], names: dict[str, str]) -> str:
    others = Counter(utterance.code for utterance in rated if utterance.code not in names)
    if not others:
        return ""
    listed = ", ".join(f"{code} ({CODES[code]}) {n:,}" for code, n in others.most_common())
    return f"{others.total():,} utterances of other labels are left out: {listed}."


def _compared(labels: list[int], classes: int) -> str:
    """The counts beside the published ones (Yoon et al., 2020; 7 classes), merged as ours are."""
    names = CLASSES[classes]
    published = {name: COUNTS[name] for name in names}
    if "excited" not in names:
        published["happy"] += COUNTS["excited"]
    there = dict(zip(names, np.bincount(labels, minlength=len(names)).tolist(), strict=True))
    if there == published:
        return f"Counts as published: {len(labels):,} utterances in {classes} classes."
    wrong = [name for name in names if there[name] != published[name]]
    listed = ", ".join(
        f"{name} {there[name]:,} ({there[name] - published[name]:+,})" for name in wrong
    )
    total = sum(published.values())
    return (
        f"Counts depart from the published ones ({len(labels):,} utterances, not {total:,}): "
        f"{listed}."
    )


def _missing(clips: dict[str, list[Clip | None]], kept: list[_Rated], side: str) -> Iterator[str]:
    one = kept[0]
    expected = {
        "audio": f"sentences/wav/{one.dialogue}/{one.id}.wav",
        "video": f"dialog/avi/DivX/{one.dialogue}.avi",
        "text": f"dialog/transcriptions/{one.dialogue}.txt",
    }
    for modality, found in clips.items():
        gone = [utterance.id for utterance, clip in zip(kept, found, strict=True) if clip is None]
        if len(gone) == len(kept):
            yield (
                f"There is no {modality}: expected files such as "
                f"{one.session.name}/{expected[modality]}."
            )
        elif gone:
            yield f"{len(gone):,} of {len(kept):,} utterances have no {modality}, e.g. {gone[0]}."
    if any(clips["video"]) and side != "whole":
        where = side.removeprefix("marker-")
        yield (
            f"Video is the speaker's half of the picture, with the wearer of the markers on the "
            f"{where}; the release's description does not say, so look at some frames."
        )


def _strange_words(rated: list[_Rated]) -> Iterator[str]:
    words = Counter(
        word
        for utterance in rated
        for answer in utterance.answers
        for word in answer
        if word not in _WORDS
    )
    if words:
        listed = ", ".join(f"{word!r} {n:,}" for word, n in words.most_common(5))
        yield f"Raters' answers that are no label count as no agreement: {listed}."
