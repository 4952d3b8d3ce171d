"""From a plan to files: wav, mp4 and txt, a manifest and the truth, resumable.

The folder holds ``manifest.csv`` (a row an utterance, paths relative to the folder: the corpus
``manifest`` reads it), ``events.csv`` (planted truth: id, modality, time, character, role, key,
value), ``words.csv`` (id, first, last, start, end, word: when each word is said), ``plan.json``,
and ``audio/ID.wav``, ``video/ID.mp4`` (25 frames a second, no sound), ``text/ID.txt``.

Every file is written beside and renamed; the manifest comes last. What is there already when the
same plan is staged again is kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmer_lib.corpora.base import MODALITIES
from mmer_lib.corpora.staged import voice
from mmer_lib.corpora.staged.drawing import draw
from mmer_lib.corpora.staged.expression import FPS, Movement, move
from mmer_lib.corpora.staged.face import SIZE
from mmer_lib.corpora.staged.people import Person, cast
from mmer_lib.corpora.staged.plan import Line, Staging, describe, plan
from mmer_lib.corpora.staged.script import EMOTIONS
from mmer_lib.errors import InputError, check_path, check_whole
from mmer_lib.extras import need_extra
from mmer_lib.workers import as_finished, in_new_process

EVENT = ["id", "modality", "time", "character", "role", "key", "value"]
WORD = ["id", "first", "last", "start", "end", "word"]
_FILES = {"audio": "wav", "video": "mp4", "text": "txt"}


def stage(
    folder: str | Path,
    utterances: int = 700,
    speakers: int = 10,
    congruence: float = 1.0,
    clarity: float = 0.8,
    seed: int = 0,
    jobs: int = 1,
) -> Path:
    """Write the media and the truth of a staged corpus into ``folder``, and return it.

    The options are those of ``Staging``; ``jobs`` processes draw side by side. The same options
    give the same bytes, whatever ``jobs``; a folder that was interrupted is completed.

    Raises ``InputError`` for a wrong option, a folder that holds something else or cannot be
    written, or if the extra ``staged`` is not installed.
    """
    staging = Staging(utterances, speakers, congruence, clarity, seed)
    target = check_path("folder", folder)
    check_whole("staged: jobs", jobs, at_least=1)
    need_extra("staged", "the corpus 'staged'")
    if _is_complete(target, staging):
        return target
    try:
        _open_folder(target, staging)
        lines = plan(staging)
        if not _is_recorded(lines, target):
            spoken = in_new_process(record, lines, staging.speakers, target)
            _write(target / "words.csv", partial(spoken.to_csv, index=False))
        _film_all(lines, staging.speakers, target, jobs)
        _write_tables(lines, target)
    except OSError as error:
        raise InputError(
            f"cannot write {target}: {error.strerror}. Free space or choose another folder; what "
            f"is finished is kept"
        ) from error
    return target


def _is_complete(folder: Path, staging: Staging) -> bool:
    return _same_plan(folder, staging) and (folder / "manifest.csv").exists()


def _same_plan(folder: Path, staging: Staging) -> bool:
    """Whether the folder was begun with the same plan."""
    try:
        found = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("digest") == staging.digest


def _open_folder(folder: Path, staging: Staging) -> None:
    """Make the folder, or make sure that it holds this very plan."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: choose a folder to stage in")
    foreign = folder.is_dir() and any(folder.glob("[!.]*")) and not _same_plan(folder, staging)
    if foreign:
        raise InputError(
            f"{folder} holds something else than this staged corpus: choose another folder, or "
            f"remove it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    about = json.dumps({"digest": staging.digest, **asdict(staging)}, indent=1) + "\n"
    _write(folder / "plan.json", _writer(about))  # first: what has a plan can be continued
    for name in MODALITIES:
        (folder / name).mkdir(exist_ok=True)


def _writer(text: str) -> Callable[[Path], Any]:
    return partial(Path.write_text, data=text, encoding="utf-8", newline="\n")


def _write(file: Path, write: Callable[[Path], Any]) -> None:
    """Call ``write`` with a path beside ``file``, then rename it: whole or not at all."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        write(beside)
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)


@lru_cache(maxsize=4)
def _people(speakers: int) -> dict[str, Person]:
    return {person.name: person for person in cast(speakers)}


# -- voice -----------------------------------------------------------------------------------------


def _is_recorded(lines: list[Line], folder: Path) -> bool:
    """Whether all is said; else all is said anew, which takes seconds."""
    there = {file.name for file in (folder / "audio").iterdir()}
    return (folder / "words.csv").exists() and all(f"{line.id}.wav" in there for line in lines)


def record(lines: list[Line], speakers: int, folder: Path) -> pd.DataFrame:
    """Say all lines into ``folder``/audio; returns when each word is said (columns WORD).

    For the same bytes it must run in a new process: see ``voice``.
    """
    from tqdm import tqdm

    rows = []
    for line in tqdm(lines, "voices", unit="line", disable=None):
        spoken = say(line, _people(speakers)[line.speaker])
        file = folder / "audio" / f"{line.id}.wav"
        _write(file, partial(voice.write_wav, samples=spoken.samples))
        for w in spoken.words:
            word = line.sentence.text[w.first : w.last]
            rows.append((line.id, w.first, w.last, round(w.start, 4), round(w.end, 4), word))
    return pd.DataFrame(rows, columns=WORD)


def say(line: Line, person: Person) -> voice.Spoken:
    """The line in the voice of the person."""
    pitch, rate, loudness = line.drift
    how = voice.manner(line.emotion["audio"], line.strength["audio"])
    how = replace(how, loudness=how.loudness + loudness)
    return voice.speak(
        line.sentence.text,
        person.variant,
        person.rate * rate,
        how,
        line.stressed,
        person.pitch + pitch,
        line.seed,
    )


# -- face ------------------------------------------------------------------------------------------


def _film_all(lines: list[Line], speakers: int, folder: Path, jobs: int) -> None:
    """The films that are not there yet, in ``jobs`` processes."""
    from tqdm import tqdm

    todo = [line for line in lines if not (folder / "video" / f"{line.id}.mp4").exists()]
    parts = [todo[i : i + 8] for i in range(0, len(todo), 8)]
    bar = tqdm(total=len(lines), initial=len(lines) - len(todo), desc="faces", unit="line",
               disable=None)  # fmt: skip
    film = partial(film_lines, speakers, folder)
    with bar:
        for many in map(film, parts) if jobs == 1 else _film_beside(film, parts, jobs):
            bar.update(many)


def _film_beside(
    film: Callable[[list[Line]], int], parts: list[list[Line]], jobs: int
) -> Iterator[int]:
    def name(part: list[Line]) -> str:
        return f"the films {part[0].id} to {part[-1].id}"

    return as_finished(film, parts, min(jobs, len(parts) or 1), (__name__, "av", "cv2"), name)


def film_lines(speakers: int, folder: Path, lines: list[Line]) -> int:
    """Draw and encode some lines whose sound is there; returns how many."""
    import cv2

    cv2.setNumThreads(1)
    for line in lines:
        movement = moves(line, folder)
        person = _people(speakers)[line.speaker]
        frames = [
            draw(units, person.shape, pose)
            for units, pose in zip(movement.units, movement.poses, strict=True)
        ]
        _write(folder / "video" / f"{line.id}.mp4", partial(write_mp4, frames=frames))
    return len(lines)


def moves(line: Line, folder: Path) -> Movement:
    """How the face moves while the sound in ``folder``/audio plays."""
    samples = voice.read_wav(folder / "audio" / f"{line.id}.wav")
    emotion, strength = line.emotion["video"], line.strength["video"]
    return move(emotion, strength, line.apex, samples, voice.RATE, line.seed)


def write_mp4(file: Path, frames: list[np.ndarray]) -> None:
    """(64, 64, 3) uint8 RGB frames -> mp4, by H.264 where this PyAV has it, else MPEG-4."""
    import av

    with av.open(str(file), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        codec, options = _codec()
        stream: Any = container.add_stream(codec, rate=FPS, options=options)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # the same bytes on every machine
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


@lru_cache(maxsize=1)
def _codec() -> tuple[str, dict[str, str]]:
    import av

    try:
        av.codec.Codec("libx264", "w")
    except av.codec.codec.UnknownCodecError:
        return "mpeg4", {"qscale": "3"}
    return "libx264", {"crf": "20", "preset": "veryfast"}


# -- tables ----------------------------------------------------------------------------------------


def _write_tables(lines: list[Line], folder: Path) -> None:
    """The texts, the events and, last of all, the manifest."""
    for line in lines:
        _write(folder / "text" / f"{line.id}.txt", _writer(line.sentence.text + "\n"))
    said = word_times(folder)
    events = [event for line in lines for event in _events(line, said[line.id], folder)]
    table = pd.DataFrame(events, columns=EVENT)
    _write(folder / "events.csv", partial(table.to_csv, index=False))
    rows = [
        {**describe(line), "text": line.sentence.text}
        | {m: f"{m}/{line.id}.{_FILES[m]}" for m in ("audio", "video")}
        for line in lines
    ]
    first = ["id", "audio", "video", "text", "label", "speaker", "dialogue", "session"]
    manifest = pd.DataFrame(rows)
    manifest = manifest[first + [column for column in manifest if column not in first]]
    _write(folder / "manifest.csv", partial(manifest.to_csv, index=False))


def word_times(folder: Path) -> dict[str, list[voice.Word]]:
    """When the words of every utterance are said, by its id."""
    table = pd.read_csv(folder / "words.csv", dtype={"id": str, "word": str}, na_filter=False)
    said: dict[str, list[voice.Word]] = {}
    columns = (table[name].tolist() for name in ("id", "first", "last", "start", "end"))
    for name, *place in zip(*columns, strict=True):
        said.setdefault(name, []).append(voice.Word(*place))
    return said


def _events(line: Line, words: list[voice.Word], folder: Path) -> list[dict[str, Any]]:
    """The words of emotion, the loudest moment of the stress and the apex of the face."""
    events = [
        _event(line, "text", "word", word.start, word.first)
        for word in words
        if any(first <= word.first < last for first, last in line.sentence.spans)
    ]
    samples = voice.read_wav(folder / "audio" / f"{line.id}.wav")
    if line.stressed is not None:
        peak = voice.Spoken(samples, tuple(words)).peak(line.stressed)
        events.append(_event(line, "audio", "stress", time=peak))
    if line.strength["video"]:
        apex = line.apex * len(samples) / voice.RATE
        events.append(_event(line, "video", "apex", time=apex))
    return events


def _event(
    line: Line, modality: str, role: str, time: float = np.nan, character: int = -1
) -> dict[str, Any]:
    value = EMOTIONS.index(line.emotion[modality])
    row = (line.id, modality, round(time, 4), character, role, -1, value)
    return dict(zip(EVENT, row, strict=True))
