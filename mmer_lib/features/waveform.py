"""Sound on disk, in any container, to a mono waveform (N,) float32 at one rate, in [-1, 1].

Sound files are read by libsndfile, the sound of videos by FFmpeg (PyAV); channels are averaged and
the rate is changed by soxr. A stretch of a longer recording is decoded alone. What cannot be used
as it is promised - missing, cut off, without sound, not a number - raises ``Unreadable``; digital
silence is sound like any other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmer_lib.extras import need_extra
from mmer_lib.features.base import Clip, Unreadable

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

RATE = 16000  # Hz: every extractor hears at this rate
HOP = 160  # samples between frames: 10 ms
BLOCK = 1024  # frames that are worked on at once: the spectra of a long recording are large
AUDIO = (".aac", ".m4a", ".mp3", ".wma")
VIDEO = (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")
CONTAINERS = frozenset(AUDIO + VIDEO)  # read by FFmpeg; every other file by libsndfile
TIMED = ("mov", "matroska", "avi", "flv")  # containers whose packets carry exact times to seek by
SLACK = 0.25  # s that a decoder may fall short of what a header promises, as codecs pad and trim
LATE = 1.0  # s that a clip may end after its recording, as labels are rounded
HEADER_SLACK = 0.01  # s of samples that a header may promise too much
RIFF_SLACK = 4096  # bytes that an avi may be shorter than it says
PREROLL = 0.25  # s decoded before a stretch: codecs need frames before they are right
LOUDEST = 1e12  # of full scale: nobody's scale, and squares of it would soon be infinite
SLOWEST = 1000  # Hz: no recording has fewer samples a second, but damaged headers say so
LATEST = 3600.0  # s before sound that begins late; more is a damaged time stamp
ENDLESS = 0x7FFFF000  # bytes: what programs write that do not know the length of what they record
# Read from libsndfile's log of the header: chunk, bytes promised, bytes that are there.
PROMISE = re.compile(r"(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)")
CLOCK = re.compile(r"(\d+):(\d+):(\d+(?:\.\d*)?)")  # how Matroska writes a duration


class Decoded(NamedTuple):
    """What FFmpeg made of a stretch; times are seconds after the beginning of the recording."""

    wave: np.ndarray  # (N,), from at or before the stretch to at or after its end
    rate: int
    begins: float
    ends: float
    promised: float  # where the header says that the sound ends; 0: it does not say


def read_waveform(clip: Clip, rate: int = RATE) -> np.ndarray:
    """The sound of ``clip``: (N,) float32, mono, at ``rate`` Hz.

    Raises ``Unreadable`` if the file is missing, cut off, damaged or without sound, holds samples
    that are no numbers or no sound, or ends before the clip begins; ``InputError`` where it takes
    the extra ``video`` and that is not installed.
    """
    path = _existing(clip)
    contained = path.suffix.lower() in CONTAINERS
    wave, native = _from_container(path, clip) if contained else _from_sound_file(path, clip)
    _check_samples(path, wave, native)
    if native != rate:
        import soxr

        wave = soxr.resample(wave, native, rate)
    if not len(wave):
        raise _soundless(path)
    return np.ascontiguousarray(wave, dtype=np.float32)


def blocks(wave: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Stretches of ``wave`` that each hold at most ``BLOCK`` whole frames of ``size`` samples.

    Frame t is centred on sample t * HOP, with silence beyond the ends: T = 1 + N // HOP in all.
    """
    padded = np.pad(wave, size // 2)
    frames = 1 + len(wave) // HOP
    for first in range(0, frames, BLOCK):
        last = min(first + BLOCK, frames) - 1
        yield padded[first * HOP : last * HOP + size]


def _existing(clip: Clip) -> Path:
    """The file of ``clip``, which must be there, and the stretch must be one."""
    if clip.path is None:
        raise Unreadable(f"{clip.where()}: words, where a sound file was expected; give a path")
    path = Path(clip.path)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise Unreadable(f"{path}: {what}; give the path of a sound or video file")
    if not path.stat().st_size:
        raise Unreadable(f"{path}: the file is empty (0 bytes); copy it again")
    if not 0 <= clip.start < (math.inf if clip.end is None else clip.end):
        raise Unreadable(
            f"{path}: no stretch from {clip.start:g} s to {clip.end} s; "
            "give a start of at least 0 and an end after it"
        )
    return path


def _check_samples(path: Path, wave: np.ndarray, rate: int) -> None:
    """Refuse samples (N,) that are no sound, and a rate that is none."""
    if not np.isfinite(wave).all():
        raise Unreadable(f"{path}: samples are not numbers (NaN or infinite); export it again")
    loudest = np.abs(wave).max(initial=0)
    if loudest > LOUDEST:
        raise Unreadable(f"{path}: samples up to {loudest:.3g}, full scale is 1; export it again")
    if rate < SLOWEST:
        raise Unreadable(
            f"{path}: {rate} samples a second, at least {SLOWEST} expected; copy it again"
        )


def _check_length(path: Path, clip: Clip, seconds: float) -> None:
    """Refuse a clip that begins after its recording of that length, or ends well after it."""
    if clip.start >= seconds:
        raise Unreadable(
            f"{path}: the clip starts at {clip.start:g} s, but the recording ends at "
            f"{seconds:.3f} s; correct the start"
        )
    if clip.end is not None and clip.end > seconds + LATE:
        raise Unreadable(
            f"{path}: the clip ends at {clip.end:g} s, but the recording at {seconds:.3f} s; "
            "correct the end or copy the file again"
        )


def _cut_off(path: Path, holds: str, promises: str) -> Unreadable:
    return Unreadable(
        f"{path}: cut off: it holds {holds} where its header promises {promises}; copy it again"
    )


def _from_sound_file(path: Path, clip: Clip) -> tuple[np.ndarray, int]:
    """Samples (N,) of the stretch and their rate, by libsndfile."""
    import soundfile

    try:
        with soundfile.SoundFile(path) as sound:
            rate, frames = sound.samplerate, sound.frames
            _check_promise(path, sound.extra_info, frames / rate)
            if not frames:
                raise _soundless(path)
            _check_length(path, clip, frames / rate)
            first = round(clip.start * rate)
            last = frames if clip.end is None else min(frames, round(clip.end * rate))
            sound.seek(min(first, frames))
            wave = sound.read(last - first, dtype="float32", always_2d=True)  # (N, channels)
    except soundfile.SoundFileError as error:
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
        raise _undecodable(path, reason) from error
    if len(wave) < last - first - SLACK * rate:
        raise _cut_off(path, f"{len(wave) / rate:.2f} s", f"{(last - first) / rate:.2f} s")
    return wave.mean(axis=1), rate


def _check_promise(path: Path, log: str, seconds: float) -> None:
    """Refuse a file whose header promises clearly more bytes of samples than it holds."""
    found = PROMISE.search(log)
    if found is None:
        return
    promised, held = (int(number) for number in found.groups())
    slack = held * HEADER_SLACK / max(seconds, HEADER_SLACK)  # bytes
    if held + slack < promised < ENDLESS:
        raise _cut_off(path, f"{held} bytes of sound", str(promised))


def _from_container(path: Path, clip: Clip) -> tuple[np.ndarray, int]:
    """Samples (N,) of the stretch and their rate, by FFmpeg."""
    need_extra("video", str(path))
    import av

    _check_riff(path)
    try:
        sound = _decode(path, clip, seek=True) if clip.start > PREROLL else None
        sound = sound or _decode(path, clip, seek=False)
    except av.FFmpegError as error:
        raise _undecodable(path, error.strerror) from error
    except IndexError as error:  # of PyAV, where damage seems to begin another stream
        raise _undecodable(path, "it is damaged") from error
    if sound is None:
        raise _soundless(path)
    wanted = math.inf if clip.end is None else clip.end
    if sound.ends < min(wanted, sound.promised) - SLACK:
        raise _cut_off(path, f"{sound.ends:.2f} s of sound", f"{sound.promised:.2f} s")
    _check_length(path, clip, sound.ends)
    if sound.begins > clip.start + LATEST:
        raise _undecodable(path, f"it would begin at {sound.begins:.0f} s")
    return _stretch(sound, clip), sound.rate


def _check_riff(path: Path) -> None:
    """Refuse an avi that is shorter than its first chunk: FFmpeg would play what is left."""
    with path.open("rb") as file:
        head = file.read(8)
    promised, held = int.from_bytes(head[4:8], "little"), path.stat().st_size - 8
    if head[:4] == b"RIFF" and held + RIFF_SLACK < promised < ENDLESS:
        raise _cut_off(path, f"{held} bytes", str(promised))


def _decode(path: Path, clip: Clip, seek: bool) -> Decoded | None:
    """The frames of sound that touch the stretch; None: not one, or seeking missed the first."""
    import av

    # Tags in odd encodings must not cost the sound.
    with av.open(str(path), metadata_errors="replace") as container:
        if not container.streams.audio:
            raise Unreadable(f"{path}: no audio stream in it; leave its audio out")
        stream = container.streams.audio[0]
        zero = max(container.start_time or 0, 0) / av.time_base  # when the recording begins
        if seek:
            if not container.format.name.startswith(TIMED):
                return None
            container.seek(int((clip.start - PREROLL + zero) * av.time_base))
        sound = _collect(container, stream, clip, zero)
    missed = seek and (sound is None or not len(sound.wave) or sound.begins > clip.start)
    return None if missed else sound


def _collect(
    container: InputContainer, stream: AudioStream, clip: Clip, zero: float
) -> Decoded | None:
    """Decode up to the end of the stretch and keep what lies after its start; None: no sound."""
    pieces: list[np.ndarray] = []
    begins, ends, rate = 0.0, 0.0, 0
    for frame in container.decode(stream):
        at = ends if frame.time is None else frame.time - zero
        if clip.end is not None and at >= clip.end:
            break
        rate, ends = frame.sample_rate, at + frame.samples / frame.sample_rate
        if ends > clip.start:
            begins = begins if pieces else at
            pieces.append(_mono(frame))
    if not rate:
        return None
    wave = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    return Decoded(wave, rate, begins, ends, _promised(stream, zero))


def _mono(frame: AudioFrame) -> np.ndarray:
    """The mean of the channels, (N,) float32 in [-1, 1]."""
    x: np.ndarray = frame.to_ndarray()  # (channels, N), or (1, N * channels) if they take turns
    if not frame.format.is_planar:
        x = x.reshape(-1, frame.layout.nb_channels).T  # (channels, N)
    wave = x.mean(axis=0, dtype=np.float32 if x.dtype.kind == "f" else np.float64)
    if x.dtype.kind == "u":  # unsigned bytes: silence is 128
        wave = wave / 128 - 1
    elif x.dtype.kind == "i":
        wave = wave / -float(np.iinfo(x.dtype).min)
    return wave.astype(np.float32)


def _promised(stream: AudioStream, zero: float) -> float:
    """Where the header says that the sound ends, in seconds; 0: it does not say.

    Only mp4 and its kin and Matroska write it; elsewhere FFmpeg guesses from the size of the file.
    """
    kind = stream.container.format.name
    if kind.startswith("mov") and stream.duration is not None and stream.time_base is not None:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base) - zero
    if kind.startswith("matroska"):
        clock = CLOCK.fullmatch(stream.metadata.get("DURATION", ""))
        if clock is not None:
            hours, minutes, seconds = map(float, clock.groups())
            return 3600 * hours + 60 * minutes + seconds - zero
    return 0.0


def _stretch(sound: Decoded, clip: Clip) -> np.ndarray:
    """Exactly the stretch; silence before a sound track that begins later than the clip."""
    skip = round((clip.start - sound.begins) * sound.rate)
    wave = sound.wave[skip:] if skip > 0 else np.pad(sound.wave, (-skip, 0))
    if clip.end is None:
        return wave
    return wave[: round((clip.end - clip.start) * sound.rate)]


def _undecodable(path: Path, reason: object) -> Unreadable:
    return Unreadable(
        f"{path}: no sound could be decoded ({reason}); copy it again or convert it to wav"
    )


def _soundless(path: Path) -> Unreadable:
    return Unreadable(f"{path}: zero-length audio; leave the clip out or record it again")
