"""Video and pictures as they lie on disk to frames (H, W, 3) uint8 RGB, by PyAV (FFmpeg).

A clip at rate r is cut into intervals of 1 / r seconds, and the picture shown in the middle of
each stands for it: ``times`` are (k + 1/2) / r. What is shown follows from the time stamps, so
that a variable frame rate is no matter; a rate above the file's own gives pictures repeatedly.
(AVI knows no time stamps: with B-frames in it, pictures may be two frames off.)

A still picture is one frame at time 0, whatever the clip's start and end: it is shown all along.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmer_lib.errors import InputError, check_number, unknown
from mmer_lib.extras import need_extra
from mmer_lib.features.base import HALVES, Clip, Unreadable

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

STILLS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
SLACK = 1e-3  # seconds: containers round the time of a frame to as much as a millisecond
ROUNDING = 1e-6  # seconds that the difference of two times may be off
EARLY = (0.25, 5.0)  # seconds before a clip at which a key frame is looked for, in turn
GAP = 3600.0  # seconds: no picture is shown for longer, unless its time stamps are damaged


def read_frames(clip: Clip, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """All frames of a short clip: (T, H, W, 3) uint8 RGB, and their times (T,) float64 in s.

    They stay in memory together; ``iter_frames`` gives one at a time. Errors as there.
    """
    times, frames = zip(*iter_frames(clip, rate), strict=True)
    if len({frame.shape for frame in frames}) > 1:
        raise Unreadable(
            f"{clip.path}: its pictures change their size on the way. Expected one size; "
            "convert it, e.g. with ffmpeg"
        )
    return np.stack(frames), np.array(times)


def iter_frames(clip: Clip, rate: float) -> Generator[tuple[float, np.ndarray]]:
    """The picture shown at each of the instants (k + 1/2) / rate: its time in s, (H, W, 3) RGB.

    Time counts from the clip's start, and the file's from the start of its earliest stream. A
    clip shorter than half an interval gives the picture in its middle. Pictures are turned
    upright as the file says, and then cut to the clip's half. What is damaged is skipped - the
    picture before it stays on - as long as one picture of the clip can be decoded.

    Raises ``Unreadable`` if none can, ``InputError`` for a clip that is not one of a video, or
    where the extra ``video`` is not installed.
    """
    path = _check_clip(clip)
    need_extra("video", str(path))
    check_rate("iter_frames", rate)
    if path.suffix.lower() in STILLS:
        yield 0.0, _half(_read_still(path), clip.half)
        return
    for time, frame in _sample(_decode_from(path, clip.start), clip, rate):
        yield time, _half(_upright(frame), clip.half)


class _Shown(NamedTuple):
    """A decoded picture, and the seconds of the file during which it is shown."""

    begin: float
    until: float
    frame: VideoFrame


def _instants(clip: Clip, rate: float) -> Iterator[float]:
    """The middles of the intervals of a clip, in s after its start; without end if it has none."""
    length = math.inf if clip.end is None else clip.end - clip.start
    if length - ROUNDING <= 0.5 / rate:
        yield length / 2
        return
    for k in itertools.count():
        time = (k + 0.5) / rate
        if time >= length - ROUNDING:  # not one more
            return
        yield time


def _sample(shown: Iterator[_Shown], clip: Clip, rate: float) -> Iterator[tuple[float, VideoFrame]]:
    """What is shown at each instant. The first picture also stands for what lies before it."""
    instants = _instants(clip, rate)
    due = next(instants)
    last: _Shown | None = None
    given = False
    end = math.inf if clip.end is None else clip.end
    for now in shown:
        _check_gap(clip, min(now.begin, end) - clip.start - due)
        while clip.start + due < now.begin - SLACK:
            yield due, (last or now).frame
            given, due = True, next(instants, math.inf)
        last = now
        if math.isinf(due):
            return
    if last is None:
        raise Unreadable(f"{clip.path}: no picture could be decoded. Expected a whole video")
    length = last.until - clip.start
    if length <= 0:
        raise Unreadable(
            f"{clip.path}: the clip starts at {clip.start:g} s, but the video ends at "
            f"{last.until:g} s. Check the clip's start"
        )
    _check_gap(clip, min(length, end - clip.start) - due)
    while due < length:
        yield due, last.frame
        given, due = True, next(instants, math.inf)
    if not given:
        yield length / 2, last.frame


def _check_gap(clip: Clip, seconds: float) -> None:
    """Refuse to fill hours with one picture: damaged time stamps may ask for years of them."""
    if GAP < seconds < math.inf:
        raise Unreadable(
            f"{clip.path}: after a picture none follows for {seconds:.0f} s; its time stamps must "
            "be damaged. Fetch it again, or convert it, e.g. with ffmpeg"
        )


def _decode_from(path: Path, start: float) -> Iterator[_Shown]:
    """Pictures in order of time, the first one not after ``start`` if there is one.

    Decoding begins at a key frame before ``start``. Where the file's index is missing or
    inexact, so that the first picture comes too late, it begins earlier, at last at the beginning.
    """
    for early in EARLY if start > 0 else ():
        with closing(_decode(path, max(0.0, start - early))) as shown:
            first = next(shown, None)
            if first is not None and first.begin <= start + SLACK:
                yield first
                yield from shown
                return
    yield from _decode(path, None)


def _decode(path: Path, seek: float | None) -> Generator[_Shown]:
    """Pictures from the key frame before ``seek`` (s) on, or from the beginning.

    PyAV keeps FFmpeg's log to itself unless it is asked for, so that there is none to silence.
    """
    import av

    files_only = {"protocol_whitelist": "file"}  # a playlist must not reach for the network
    try:
        with av.open(str(path), options=files_only, metadata_errors="replace") as container:
            stream = _video_stream(container, path)
            origin = (container.start_time or 0) / av.time_base
            if seek is not None and stream.time_base:
                container.seek(round((seek + origin) / stream.time_base), stream=stream)
            yield from _timed(_decodable(container, stream), stream, origin, seek is not None)
    except av.FFmpegError as error:
        if seek is None:  # else another try follows
            raise Unreadable(
                f"{path}: not readable as a video ({error.strerror}). It may be damaged or cut "
                "short: fetch it again, or convert it, e.g. with ffmpeg"
            ) from error


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first stream of moving pictures, on one thread: clips are read side by side."""
    from av.stream import Disposition

    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not moving:
        raise Unreadable(
            f"{path}: it has no video stream, sound alone. Expected a video; give it as audio"
        )
    if moving[0].codec_context is None:
        raise Unreadable(
            f"{path}: its video stream has a format that FFmpeg does not know. Convert it to H.264"
        )
    moving[0].codec_context.thread_count = 1
    return moving[0]


def _decodable(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """The frames of a stream without those that are damaged, up to where the file breaks off.

    Raises ``av.FFmpegError`` if none is left.
    """
    import av

    damage: av.FFmpegError | None = None
    whole = False
    packets = container.demux(stream)
    while True:
        try:
            frames = next(packets).decode()
        except (StopIteration, IndexError):  # PyAV: as if another stream began
            break
        except av.FFmpegError as error:
            damage = error
            continue
        whole = whole or bool(frames)
        yield from frames
    if damage is not None and not whole:
        raise damage


def _timed(
    frames: Iterator[VideoFrame], stream: VideoStream, origin: float, sought: bool
) -> Iterator[_Shown]:
    """When each frame is shown. Frames without a time follow one another from the beginning."""
    period = float(1 / stream.average_rate) if stream.average_rate else 0.0
    begin, until = -math.inf, math.nan if sought else 0.0
    for frame in frames:
        # AVI knows the order of decoding alone, by which the times of B-frames may step back.
        begin = max(begin, until if frame.pts is None else frame.time - origin)
        until = begin + (float(frame.duration * (frame.time_base or 0)) or period)
        yield _Shown(begin, until, frame)


# ---------------------------------------------------------------- pictures


def _upright(frame: VideoFrame) -> np.ndarray:
    """The picture as it is meant to be seen: (H, W, 3) RGB, turned as the file says."""
    picture = frame.to_ndarray(format="rgb24", threads=1)
    return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)))


def _half(picture: np.ndarray, half: str) -> np.ndarray:
    """The left or right half of a picture: (H, W, 3) -> (H, W // 2, 3); "": all of it."""
    width = picture.shape[1]
    if not half or width < 2:
        return picture
    side = slice(0, width // 2) if half == "left" else slice(width - width // 2, width)
    return np.ascontiguousarray(picture[:, side])


def _read_still(path: Path) -> np.ndarray:
    """A picture file as (H, W, 3) RGB, turned upright as its EXIF data say."""
    import cv2

    try:
        picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
    except (cv2.error, OSError):
        picture = None
    if picture is None:
        raise Unreadable(
            f"{path}: not readable as a picture. It may be damaged, or of another kind than its "
            "name says: fetch it again"
        )
    return np.asarray(picture, np.uint8)


def check_rate(name: str, rate: float) -> None:
    """Raise ``InputError`` for a rate that no clip can be sampled at."""
    check_number(f"{name}: rate", rate, lambda r: 0 < r <= 1000, "frames a second, at most 1000,")


def _check_clip(clip: Clip) -> Path:
    """The path of a clip of video. Raises ``InputError`` or ``Unreadable``."""
    if clip.path is None:
        raise InputError(f"{clip.where()}: words have no picture. Expected the path of a video")
    if clip.half not in HALVES:
        raise unknown("half", clip.half, HALVES[1:])
    if not clip.path.is_file():
        what = "a folder" if clip.path.is_dir() else "no such file"
        raise Unreadable(f"{clip.path}: {what}. Expected a video or a picture; check the path")
    if not (0 <= clip.start < math.inf and (clip.end is None or clip.start < clip.end)):
        raise Unreadable(
            f"{clip.path}: a clip from {clip.start:g} s to {clip.end} s. Expected a start of 0 or "
            "more and an end after it"
        )
    return clip.path
