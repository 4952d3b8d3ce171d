"""Video: the right frames at the right times, crops that follow faces, HOG and DCT."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition
from real_data import real_data

from mmer_lib.errors import InputError
from mmer_lib.features import decoding
from mmer_lib.features.base import Clip, Unreadable
from mmer_lib.features.faces import CENTRE, HOLD, Box, FaceFinder, fit
from mmer_lib.features.video import DCT, HOG, Crops, iter_frames, read_crops, read_frames

RED, BLUE = (220, 30, 30), (30, 30, 220)
FPS = 25


# ---------------------------------------------------------------- videos made for tests


def numbered(number: int) -> np.ndarray:
    """A picture that survives compression: 8 squares of 16 pixels, black or white, are bits."""
    bits = [255 * (number >> i & 1) for i in range(8)]
    row = np.repeat(np.array(bits, np.uint8), 16)  # (128,)
    return np.broadcast_to(row[None, :, None], (32, 128, 3)).copy()


def number_of(picture: np.ndarray) -> int:
    """What ``numbered`` wrote."""
    bright = picture[8:24].mean(axis=(0, 2)).reshape(8, 16)[:, 4:12].mean(axis=1) > 127
    return int(sum(1 << i for i in range(8) if bright[i]))


def two_colours(height: int = 64, width: int = 96) -> np.ndarray:
    """Left half red, right half blue."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[:, : width // 2], picture[:, width // 2 :] = RED, BLUE
    return picture


def write_video(
    path: Path,
    pictures: Sequence[np.ndarray],
    times: Sequence[float] | None = None,
    b_frames: int = 0,
) -> Path:
    """A video with a key frame every 12 frames; ``times`` in seconds, else 25 a second."""
    with av.open(str(path), "w") as container:
        codec = "mpeg2video" if path.suffix == ".ts" else "mpeg4"
        stream: Any = container.add_stream(codec, rate=FPS if times is None else 1000)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 12
        stream.codec_context.max_b_frames = b_frames
        stream.bit_rate = 2_000_000
        for k, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = k if times is None else round(times[k] * 1000)
            frame.time_base = Fraction(1, FPS if times is None else 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_sound(path: Path, cover: bool = False) -> Path:
    """A second of silence; ``cover`` adds a picture of the album."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=16000, layout="mono")
        if cover:
            album: Any = container.add_stream("mjpeg", rate=1)
            album.width, album.height, album.pix_fmt = 64, 64, "yuvj420p"
            album.disposition = Disposition.attached_pic
            picture = av.VideoFrame.from_ndarray(two_colours(64, 64), format="rgb24")
            picture.pts = 0
            container.mux(album.encode(picture) + album.encode(None))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def hundred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 numbered pictures: 4 s."""
    folder = tmp_path_factory.mktemp("videos")
    return write_video(folder / "hundred.mp4", [numbered(k) for k in range(100)])


# ---------------------------------------------------------------- which frames


@pytest.mark.parametrize(
    ("name", "b_frames"), [("v.avi", 0), ("v.mp4", 0), ("v.mp4", 2), ("v.mkv", 0), ("v.ts", 0)]
)
@pytest.mark.parametrize("start", [0.0, 0.98, 2.5])
def test_the_picture_in_the_middle_of_each_interval_is_read(
    tmp_path: Path, name: str, b_frames: int, start: float
) -> None:
    video = write_video(tmp_path / name, [numbered(k) for k in range(100)], b_frames=b_frames)
    frames, times = read_frames(Clip(video, start=start, end=start + 1.2), rate=5.0)
    np.testing.assert_allclose(times, [0.1, 0.3, 0.5, 0.7, 0.9, 1.1])
    # The picture shown at a time t is the one that began last: number floor(25 t).
    shown = [int(np.floor(FPS * (start + time) + 1e-6)) for time in times]
    assert [number_of(frame) for frame in frames] == shown
    assert frames.shape == (6, 32, 128, 3)
    assert frames.dtype == np.uint8


def test_pictures_of_a_variable_frame_rate_are_those_shown_at_the_time(tmp_path: Path) -> None:
    begins = [0.0, 0.1, 0.13, 0.5, 0.52, 0.9, 1.4]
    video = write_video(tmp_path / "v.mp4", [numbered(k) for k in range(7)], times=begins)
    frames, times = read_frames(Clip(video), rate=20.0)
    slow = [max(k for k in range(7) if begins[k] <= time) for time in times]
    assert [number_of(frame) for frame in frames] == slow
    assert len(times) == 28  # up to 1.4 s, where the last picture begins, shown for an instant


def test_without_an_end_a_clip_lasts_as_long_as_the_video(hundred: Path) -> None:
    _, times = read_frames(Clip(hundred, start=1.0), rate=10.0)
    np.testing.assert_allclose(times, (np.arange(30) + 0.5) / 10)


def test_an_end_after_the_video_s_gives_no_more_than_the_video_has(hundred: Path) -> None:
    _, times = read_frames(Clip(hundred, start=3.0, end=60.0), rate=10.0)
    assert len(times) == 10


def test_a_rate_above_the_video_s_repeats_pictures(hundred: Path) -> None:
    frames, _ = read_frames(Clip(hundred, end=0.2), rate=50.0)
    assert [number_of(frame) for frame in frames] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize("end", [2.06, None])
def test_a_clip_shorter_than_half_an_interval_gives_the_picture_in_its_middle(
    hundred: Path, end: float | None
) -> None:
    start = 2.0 if end else 3.97  # 2.03 s is picture 50; the last 30 ms are picture 99
    frames, times = read_frames(Clip(hundred, start=start, end=end), rate=5.0)
    np.testing.assert_allclose(times, [0.03] if end else [0.015], atol=1e-9)
    assert [number_of(frame) for frame in frames] == [50 if end else 99]


def test_halves_are_cut_from_the_picture(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.avi", [two_colours()] * 10)
    for half, colour in [("left", RED), ("right", BLUE)]:
        frames, _ = read_frames(Clip(video, half=half), rate=5.0)
        assert frames.shape == (2, 64, 48, 3)
        np.testing.assert_allclose(frames[:, :, 8:40].mean(axis=(1, 2)), [colour] * 2, atol=8)


def test_a_video_filmed_upright_is_turned_as_its_matrix_says(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", [two_colours()] * 5)
    one, minus = 0x00010000, 0xFFFF0000
    plain = struct.pack(">9I", one, 0, 0, 0, one, 0, 0, 0, 0x40000000)
    # (x, y) -> (-y, x) with y downwards: right becomes down, a quarter turn clockwise.
    turned = struct.pack(">9I", 0, one, 0, minus, 0, 0, 0, 0, 0x40000000)
    content = video.read_bytes()
    at = content.index(plain, content.index(b"tkhd"))
    video.write_bytes(content[:at] + turned + content[at + len(plain) :])
    frames, _ = read_frames(Clip(video), rate=5.0)
    assert frames.shape[1:] == (96, 64, 3)
    np.testing.assert_allclose(frames[0, :40].mean(axis=(0, 1)), RED, atol=8)
    np.testing.assert_allclose(frames[0, 56:].mean(axis=(0, 1)), BLUE, atol=8)


def test_pictures_are_decoded_one_at_a_time(hundred: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    upright = decoding._upright
    monkeypatch.setattr(decoding, "_upright", lambda frame: made.append(1) or upright(frame))
    frames = iter_frames(Clip(hundred), rate=5.0)
    next(frames)
    frames.close()
    assert len(made) == 1


def test_a_clip_late_in_a_video_is_sought_not_decoded_from_the_beginning(
    hundred: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    sample = decoding._sample

    def watched(shown: Any, clip: Clip, rate: float) -> Any:
        return sample((seen.append(s.begin) or s for s in shown), clip, rate)

    monkeypatch.setattr(decoding, "_sample", watched)
    read_frames(Clip(hundred, start=3.0, end=3.4), rate=5.0)
    assert min(seen) >= 3.0 - 0.25 - 12 / FPS  # key frames come every 12 pictures
    assert max(seen) <= 3.4


def test_where_an_index_leads_too_far_decoding_begins_at_the_beginning(
    hundred: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = decoding._decode

    def too_far(path: Path, seek: float | None) -> Any:
        return decode(path, None if seek is None else seek + 6.0)

    clip = Clip(hundred, start=1.0, end=2.0)
    right, _ = read_frames(clip, rate=5.0)
    monkeypatch.setattr(decoding, "_decode", too_far)
    frames, _ = read_frames(clip, rate=5.0)
    np.testing.assert_array_equal(frames, right)


def test_rounding_adds_no_frame_to_a_clip(hundred: Path) -> None:
    start, end = 0.6, 1.1
    assert end - start > 0.5  # by the last bit: the third instant, 0.5 s, lies at the end
    _, times = read_frames(Clip(hundred, start=start, end=end), rate=5.0)
    np.testing.assert_allclose(times, [0.1, 0.3])


@pytest.mark.parametrize(("start", "end"), [(0.7, 0.8), (0.0, 0.1000005)])
def test_a_clip_of_half_an_interval_but_for_rounding_has_one_frame(
    hundred: Path, start: float, end: float
) -> None:
    assert end - start > 0.1  # half an interval
    _, times = read_frames(Clip(hundred, start=start, end=end), rate=5.0)
    np.testing.assert_allclose(times, [0.05], atol=1e-6)


def test_frames_without_a_time_or_with_one_that_steps_back_stay_in_order() -> None:
    def shown(pts: list[int | None]) -> list[tuple[float, float]]:
        frames: Any = [
            SimpleNamespace(pts=p, time=p and p / FPS, duration=0, time_base=None) for p in pts
        ]
        stream: Any = SimpleNamespace(average_rate=Fraction(FPS))
        timed = decoding._timed(iter(frames), stream, origin=0.0, sought=False)
        return [(round(s.begin * FPS, 6), round(s.until * FPS, 6)) for s in timed]

    assert shown([None, None, None]) == [(0, 1), (1, 2), (2, 3)]
    assert shown([1, 3, 2, 4]) == [(1, 2), (3, 4), (3, 4), (4, 5)]


# ---------------------------------------------------------------- still pictures


def test_a_still_picture_is_one_frame_at_time_0(tmp_path: Path) -> None:
    still = tmp_path / "a \u00fc.PNG"
    still.write_bytes(cv2.imencode(".png", two_colours()[..., ::-1])[1].tobytes())
    frames, times = read_frames(Clip(still, start=3.0, end=4.0), rate=5.0)
    assert times.tolist() == [0.0]
    np.testing.assert_array_equal(frames, two_colours()[None])


def test_a_photograph_taken_upright_is_turned_as_its_exif_data_say(tmp_path: Path) -> None:
    jpeg = cv2.imencode(".jpg", two_colours()[..., ::-1])[1].tobytes()
    tiff = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 3, 1, 6, 0)  # 6: a quarter clockwise
    exif = b"Exif\0\0" + tiff
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    still = tmp_path / "photo.jpg"
    still.write_bytes(jpeg[:2] + segment + jpeg[2:])
    frames, _ = read_frames(Clip(still), rate=5.0)
    assert frames.shape == (1, 96, 64, 3)
    np.testing.assert_allclose(frames[0, :40].mean(axis=(0, 1)), RED, atol=8)


# ---------------------------------------------------------------- damaged and wrong files


def test_the_pictures_before_the_break_of_a_truncated_avi_are_kept(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.avi", [numbered(k) for k in range(100)])
    content = video.read_bytes()
    begin, end = content.index(b"movi"), content.rindex(b"idx1")
    video.write_bytes(content[: (begin + end) // 2])  # its index, at the end, is lost as well
    frames, _ = read_frames(Clip(video, start=0.5, end=1.5), rate=5.0)
    assert [number_of(frame) for frame in frames] == [15, 20, 25, 30, 35]
    _, times = read_frames(Clip(video), rate=5.0)
    assert 8 <= len(times) <= 12  # about half of 20


def test_a_damaged_stretch_leaves_the_pictures_outside_it(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.avi", [numbered(k) for k in range(100)])
    content = bytearray(video.read_bytes())
    middle = (content.index(b"movi") + content.rindex(b"idx1")) // 2
    content[middle : middle + 600] = b"\xff" * 600
    video.write_bytes(content)
    frames, _ = read_frames(Clip(video), rate=5.0)
    numbers = [number_of(frame) for frame in frames]
    expected = [2 + 5 * k for k in range(20)]
    assert numbers[:6] == expected[:6]
    assert numbers[-5:] == expected[-5:]


def refusal(clip: Clip) -> str:
    """The message with which a clip is refused: one line that begins with its path."""
    with pytest.raises(Unreadable) as error:
        read_crops(clip, rate=5.0, crop="face", size=32, grey=True)
    message = str(error.value)
    assert message.startswith(f"{clip.path}: ")
    assert "\n" not in message
    return message


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(Clip(tmp_path / "none.mp4"))


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "a folder" in refusal(Clip(tmp_path))


def test_sound_without_a_video_stream_is_refused(tmp_path: Path) -> None:
    assert "no video stream" in refusal(Clip(write_sound(tmp_path / "speech.mp4")))
    assert "no video stream" in refusal(Clip(write_sound(tmp_path / "speech.m4a"), start=0.5))


def test_the_cover_of_a_recording_is_no_video(tmp_path: Path) -> None:
    assert "no video stream" in refusal(Clip(write_sound(tmp_path / "song.mp4", cover=True)))


@pytest.mark.parametrize("content", [b"", b"not a video at all\n" * 40])
@pytest.mark.parametrize("start", [0.0, 1.0])
def test_a_file_that_is_no_video_is_refused(tmp_path: Path, content: bytes, start: float) -> None:
    video = tmp_path / "v.mp4"
    video.write_bytes(content)
    assert "not readable as a video" in refusal(Clip(video, start=start))


def test_a_truncated_mp4_is_refused(tmp_path: Path, hundred: Path) -> None:
    content = hundred.read_bytes()
    video = tmp_path / "v.mp4"
    video.write_bytes(content[: len(content) // 2])  # its index, at the end, is lost
    assert "cut short" in refusal(Clip(video))


def test_a_video_of_which_nothing_can_be_decoded_is_refused(tmp_path: Path, hundred: Path) -> None:
    content = bytearray(hundred.read_bytes())
    begin = content.index(b"mdat") + 4
    length = struct.unpack(">I", content[begin - 8 : begin - 4])[0] - 8
    content[begin : begin + length] = bytes(length)
    video = tmp_path / "v.mp4"
    video.write_bytes(content)
    message = refusal(Clip(video))
    assert "not readable" in message or "no picture" in message


def test_a_start_after_the_end_of_the_video_is_refused(hundred: Path) -> None:
    message = refusal(Clip(hundred, start=4.5, end=6.0))
    assert "starts at 4.5 s" in message
    assert "ends at 4 s" in message


@pytest.mark.parametrize(("start", "end"), [(2.0, 2.0), (2.0, 1.0), (-1.0, 1.0), (np.nan, None)])
def test_a_stretch_that_is_none_is_refused(hundred: Path, start: float, end: float | None) -> None:
    assert "start of 0 or more" in refusal(Clip(hundred, start=start, end=end))


def test_a_still_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    for name, content in [("empty.jpg", b""), ("text.png", b"hello")]:
        (tmp_path / name).write_bytes(content)
        assert "not readable as a picture" in refusal(Clip(tmp_path / name))


def test_hours_between_two_pictures_are_refused_where_they_would_be_filled(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.08, 5000.0, 5000.04]
    path = write_video(tmp_path / "v.mkv", [numbered(k) for k in range(5)], times)
    assert "none follows for" in refusal(Clip(path))
    assert len(read_frames(Clip(path, end=2.0), rate=5.0)[0]) == 10


def test_a_stream_that_turns_up_on_the_way_ends_the_video() -> None:
    def packets(_: object) -> Any:
        yield SimpleNamespace(decode=lambda: ["picture"])
        raise IndexError  # so says PyAV

    container: Any = SimpleNamespace(demux=packets)
    stream: Any = None
    assert list(decoding._decodable(container, stream)) == ["picture"]


def test_words_and_unknown_halves_are_refused(hundred: Path) -> None:
    with pytest.raises(InputError, match="words have no picture"):
        read_frames(Clip(words="I see"), rate=5.0)
    with pytest.raises(InputError, match="unknown half 'lefty': did you mean 'left'"):
        read_frames(Clip(hundred, half="lefty"), rate=5.0)


def test_damaged_files_leave_nothing_on_the_error_output(
    tmp_path: Path, hundred: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(hundred.read_bytes())
    content[len(content) // 4 : len(content) // 3] = bytes(len(content) // 3 - len(content) // 4)
    (tmp_path / "v.mp4").write_bytes(content)
    read_frames(Clip(tmp_path / "v.mp4"), rate=5.0)
    assert capfd.readouterr().err == ""


# ---------------------------------------------------------------- crops


class Scripted(FaceFinder):
    """A finder whose faces are told beforehand, in pixels of the grey copy, one frame each."""

    def __init__(self, found: list[Box | None]) -> None:
        super().__init__()
        self.found = iter(found)

    def _near(self, grey: np.ndarray, face: Box) -> Box | None:
        return None

    def _largest(self, grey: np.ndarray, smallest: int, largest: int) -> Box | None:
        return next(self.found)


def test_without_a_face_the_centre_is_cropped_and_the_frame_counted(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.avi", [two_colours(60, 100)] * 25)
    got = read_crops(Clip(video), rate=4.0, crop="face", size=45, grey=False)
    assert got.faceless == 4
    assert got.pictures.shape == (4, 45, 45, 3)
    side = round(CENTRE * 60)  # 45: nothing is resized
    frames, _ = read_frames(Clip(video), rate=4.0)
    left, top = round((100 - side) / 2), round((60 - side) / 2)
    np.testing.assert_array_equal(got.pictures, frames[:, top : top + side, left : left + side])
    centre = read_crops(Clip(video), rate=4.0, crop="centre", size=45, grey=False)
    np.testing.assert_array_equal(centre.pictures, got.pictures)
    assert centre.faceless == 0


def test_the_last_face_stands_in_for_a_while_and_then_the_centre() -> None:
    picture = np.zeros((240, 320, 3), np.uint8)
    finder = Scripted([Box(100, 50, 80), None, None, None])
    seen = finder.box(picture, 0.0)
    assert seen == Box(92, 42, 96)  # a tenth of 80 more on each side
    assert finder.box(picture, HOLD / 2) == seen
    assert finder.box(picture, HOLD) == seen
    assert finder.box(picture, HOLD + 0.1) == Box(70, 30, 180)  # 3/4 of 240
    assert finder.faceless == 3


def test_a_face_does_not_stand_in_for_one_in_a_picture_of_another_size() -> None:
    finder = Scripted([Box(100, 50, 80), None])
    finder.box(np.zeros((240, 320, 3), np.uint8), 0.0)
    assert finder.box(np.zeros((240, 240, 3), np.uint8), 0.1) == Box(30, 30, 180)


def test_the_largest_face_is_taken() -> None:
    class Cascade:
        def detectMultiScale(self, grey: np.ndarray, **options: object) -> np.ndarray:
            return np.array([[10, 10, 30, 30], [100, 60, 50, 50], [200, 10, 40, 40]])

    finder = FaceFinder()
    finder._cascade = Cascade()  # type: ignore[assignment]
    box = finder.box(np.zeros((240, 320, 3), np.uint8), 0.0)
    assert box == Box(95, 55, 60)


def test_a_face_is_followed_near_its_place_and_looked_for_everywhere_once_a_second() -> None:
    everywhere: list[bool] = []

    class Cascade:
        def detectMultiScale(self, grey: np.ndarray, **options: object) -> np.ndarray:
            everywhere.append(grey.shape == (240, 320))
            # Near it, the picture begins half a face before the face.
            return np.array([[100, 60, 50, 50] if everywhere[-1] else [25, 25, 50, 50]])

    finder = FaceFinder()
    finder._cascade = Cascade()  # type: ignore[assignment]
    boxes = [finder.box(np.zeros((240, 320, 3), np.uint8), k / 5) for k in range(11)]
    assert set(boxes) == {Box(95, 55, 60)}
    assert [k for k in range(11) if everywhere[k]] == [0, 5, 10]


def test_boxes_scale_with_the_picture() -> None:
    small = Scripted([Box(100, 50, 80)]).box(np.zeros((240, 320, 3), np.uint8), 0.0)
    large = Scripted([Box(100, 50, 80)]).box(np.zeros((960, 1280, 3), np.uint8), 0.0)
    assert large == Box(*(4 * value for value in small))


def test_a_box_never_leaves_the_picture() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width = rng.integers(1, 60, 2)
        picture = np.zeros((height, width, 3), np.uint8)
        left, top, side = rng.uniform(-40, 80, 3)
        box = fit(picture, left, top, abs(side))
        assert box.side >= 1
        assert box.left >= 0
        assert box.top >= 0
        assert box.left + box.side <= width
        assert box.top + box.side <= height


def test_a_box_within_the_picture_stays_where_it_is() -> None:
    assert fit(np.zeros((50, 50, 3), np.uint8), 10, 20, 12) == Box(10, 20, 12)


def test_the_whole_picture_is_squeezed_into_the_square(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.avi", [two_colours()] * 5)
    got = read_crops(Clip(video), rate=5.0, crop="whole", size=32, grey=False)
    np.testing.assert_allclose(got.pictures[0, :, :14].mean(axis=(0, 1)), RED, atol=8)
    np.testing.assert_allclose(got.pictures[0, :, 18:].mean(axis=(0, 1)), BLUE, atol=8)


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (700, 3)])
def test_pictures_of_any_shape_have_a_crop(tmp_path: Path, shape: tuple[int, int]) -> None:
    still = tmp_path / "tiny.png"
    still.write_bytes(cv2.imencode(".png", np.full((*shape, 3), 90, np.uint8))[1].tobytes())
    for crop in ("face", "centre", "whole"):
        got = read_crops(Clip(still, half="left"), rate=5.0, crop=crop, size=16, grey=True)
        np.testing.assert_array_equal(got.pictures, np.full((1, 16, 16), 90))


def test_opencv_s_threads_are_put_back(hundred: Path, request: pytest.FixtureRequest) -> None:
    before = cv2.getNumThreads()
    request.addfinalizer(lambda: cv2.setNumThreads(before))
    cv2.setNumThreads(3)
    read_crops(Clip(hundred, end=0.4), rate=5.0, crop="face", size=32, grey=True)
    with pytest.raises(Unreadable):
        read_crops(Clip(hundred, start=9.0), rate=5.0, crop="face", size=32, grey=True)
    assert cv2.getNumThreads() == 3


def test_unknown_crops_and_impossible_rates_and_sizes_are_refused(hundred: Path) -> None:
    with pytest.raises(InputError, match="unknown crop 'center': did you mean 'centre'"):
        read_crops(Clip(hundred), rate=5.0, crop="center", size=32, grey=True)
    for rate in (0, -1, np.nan, np.inf, "5"):
        with pytest.raises(InputError, match="frames a second"):
            DCT(rate=rate)  # type: ignore[arg-type]
    for size in (0, 31.5, 5000):
        with pytest.raises(InputError, match="size"):
            HOG(size=size)  # type: ignore[arg-type]


# ---------------------------------------------------------------- features


def crops(*pictures: np.ndarray) -> Crops:
    """Grey pictures as if they had been read, 5 a second."""
    return Crops(np.stack(pictures), (np.arange(len(pictures)) + 0.5) / 5)


def noise(size: int, count: int = 3, low: int = 40, high: int = 160) -> list[np.ndarray]:
    """Grey pictures with every frequency in them."""
    return list(np.random.default_rng(7).integers(low, high, (count, size, size), np.uint8))


def test_dct_equals_the_double_sum_of_its_definition() -> None:
    size, picture = 8, noise(8, 1)[0]
    x = (picture - picture.mean()) / picture.std()
    slow = []
    for u, v in [(0, 1), (1, 0), (2, 0), (1, 1), (0, 2), (0, 3), (1, 2), (2, 1), (3, 0)]:
        total = sum(
            x[i, j]
            * np.cos(np.pi * (2 * i + 1) * u / (2 * size))
            * np.cos(np.pi * (2 * j + 1) * v / (2 * size))
            for i in range(size)
            for j in range(size)
        )
        scale = np.prod([np.sqrt((1 if f == 0 else 2) / size) for f in (u, v)])
        slow.append(scale * total / size)
    track = DCT(size=8, coefficients=9).encode([crops(picture)])[0]
    np.testing.assert_allclose(track.values, [slow], atol=1e-6)


def test_the_squares_of_all_dct_coefficients_add_up_to_one() -> None:
    track = DCT(size=16, coefficients=16 * 16 - 1).encode([crops(*noise(16))])[0]
    np.testing.assert_allclose((track.values**2).sum(axis=1), 1, rtol=1e-5)


def test_dct_ignores_brightness_and_contrast() -> None:
    picture = noise(16, 1, low=20, high=100)[0]
    track = DCT(size=16).encode([crops(picture, picture + 30, picture * 2)])[0]
    np.testing.assert_allclose(track.values[1:], track.values[[0, 0]], atol=1e-5)


def test_dct_of_a_flat_picture_is_zero() -> None:
    track = DCT(size=16).encode([crops(np.full((16, 16), 77, np.uint8))])[0]
    np.testing.assert_allclose(track.values, 0, atol=1e-6)


@pytest.mark.parametrize(("size", "cell"), [(64, 8), (32, 8), (48, 16), (24, 4), (16, 8)])
def test_hog_has_36_numbers_for_each_block(size: int, cell: int) -> None:
    extractor = HOG(size=size, cell=cell)
    track = extractor.encode([crops(*noise(size))])[0]
    blocks = sum(1 for _ in range(0, size - 2 * cell + 1, cell)) ** 2
    assert extractor.width == 36 * blocks
    assert track.values.shape == (3, extractor.width)
    assert HOG().width == 1764


def test_hog_ignores_brightness() -> None:
    picture = noise(32, 1)[0]
    track = HOG(size=32).encode([crops(picture, picture + 50)])[0]
    np.testing.assert_allclose(track.values[1], track.values[0], atol=1e-6)


def test_hog_of_a_slope_downwards_points_downwards_alone() -> None:
    slope = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None] * 5, (32, 32)).copy()
    values = HOG(size=32).encode([crops(slope)])[0].values.reshape(-1, 9)
    # 9 directions of 20 degrees: 90 degrees is the middle of the fifth.
    assert (values[:, 4] > 0.2).all()
    np.testing.assert_allclose(np.delete(values, 4, axis=1), 0, atol=1e-6)


def test_hog_of_a_flat_picture_is_zero() -> None:
    track = HOG(size=32).encode([crops(np.full((32, 32), 77, np.uint8))])[0]
    np.testing.assert_array_equal(track.values, 0)


@pytest.mark.parametrize("extractor", [HOG(size=32, crop="whole"), DCT(size=32, crop="whole")])
def test_a_clip_becomes_a_track(hundred: Path, extractor: HOG | DCT) -> None:
    media = [extractor.read(Clip(hundred, end=1.0)), extractor.read(Clip(hundred, start=3.0))]
    tracks = extractor.encode(media)
    assert [track.values.shape for track in tracks] == [(5, extractor.width)] * 2
    np.testing.assert_allclose(tracks[0].times, [0.1, 0.3, 0.5, 0.7, 0.9])
    alone = extractor.encode(media[1:])[0]
    np.testing.assert_array_equal(alone.values, tracks[1].values)


def test_longest_keeps_the_first_frames(hundred: Path) -> None:
    whole, short = DCT(crop="whole"), DCT(crop="whole", longest=3)
    tracks = [e.encode([e.read(Clip(hundred))])[0] for e in (whole, short)]
    assert len(short.read(Clip(hundred)).pictures) == len(tracks[1]) == 3
    np.testing.assert_array_equal(tracks[1].values, tracks[0].values[:3])


def test_faceless_frames_are_counted_in_the_track(hundred: Path) -> None:
    extractor = DCT(size=16)
    assert extractor.encode([extractor.read(Clip(hundred, end=1.0))])[0].faceless == 5


def test_settings_that_change_numbers_change_the_recipe() -> None:
    base = DCT()
    others = [
        DCT(rate=4.0), DCT(size=32), DCT(crop="whole"), DCT(coefficients=9), DCT(longest=5), HOG(),
        HOG(cell=16),
    ]  # fmt: skip
    recipes = [str(e.recipe()) for e in (base, *others)]
    assert len(set(recipes)) == len(recipes)
    assert pickle.loads(pickle.dumps(base)) == base  # it travels to other processes


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match="size=60 with cell=8"):
        HOG(size=60)
    with pytest.raises(InputError, match="cell"):
        HOG(size=16, cell=16)
    with pytest.raises(InputError, match="coefficients"):
        DCT(size=8, coefficients=64)
    with pytest.raises(InputError, match="longest"):
        DCT(longest=0)


# ---------------------------------------------------------------- real recordings


def test_a_real_face_is_found_in_most_frames() -> None:
    got = read_crops(Clip(real_data("media/single_face.mp4")), 5.0, "face", 64, grey=True)
    assert got.faceless <= len(got.times) // 4


def test_no_face_is_found_where_there_is_none() -> None:
    got = read_crops(Clip(real_data("media/no_face.mp4")), 5.0, "face", 64, grey=True)
    assert got.faceless == len(got.times) > 10


def test_a_face_that_disappears_is_found_in_some_frames() -> None:
    got = read_crops(Clip(real_data("media/face_noface.mov")), 5.0, "face", 64, grey=True)
    assert 5 <= got.faceless <= len(got.times) - 5
    assert (
        read_crops(
            Clip(real_data("media/face_noface.mov"), end=2.0), 5.0, "face", 64, grey=True
        ).faceless
        <= 2
    )


def test_following_a_face_finds_it_where_a_full_search_does() -> None:
    clip = Clip(real_data("media/WolfgangLanger_Pexels.mp4"), end=6.0)
    follower = FaceFinder()
    for time, picture in iter_frames(clip, rate=3.0):
        followed, found = follower.box(picture, time), FaceFinder().box(picture, time)
        assert overlap(followed, found) > 0.6


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = min(a.left + a.side, b.left + b.side) - max(a.left, b.left)
    height = min(a.top + a.side, b.top + b.side) - max(a.top, b.top)
    both = max(0, width) * max(0, height)
    return both / (a.side**2 + b.side**2 - both)


def test_one_of_many_faces_is_taken_from_a_photograph() -> None:
    got = read_crops(Clip(real_data("media/multi_face.jpg")), 5.0, "face", 224, grey=False)
    assert got.pictures.shape == (1, 224, 224, 3)
    assert got.faceless == 0
