"""Faces in pictures: find the largest one, follow it through a clip, cut it out as a square.

A picture is (H, W, 3) uint8 RGB. Faces are found by OpenCV's cascade of Haar features (Viola and
Jones 2001, "Rapid object detection using a boosted cascade of simple features"), which needs no
download: upright faces seen from the front. Where it finds none, the last face of the clip is
used for ``HOLD`` seconds, and after that the centre of the picture: a frame always has a crop.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

CROPS = ("face", "centre", "whole")

# A face is looked for in a copy of the picture whose shorter side is this long: the cost does not
# depend on the resolution. The cascade knows no face below 24 pixels, so the smallest face that
# is found measures a tenth of the shorter side.
LOOK_SIDE = 240  # pixels
SMALLEST = 24  # pixels of that copy
NEIGHBOURS = 6  # overlapping hits that make a face: more are stricter
STEP = 1.1  # ratio of one size that is tried to the next
RESIZE = 1.4  # at most so much larger or smaller is a face that is followed, frame by frame

MARGIN = 0.1  # of the found square, added on each of its sides: the cascade cuts off chins
HOLD = 1.0  # seconds: the last face stands in so long for one that is not found
CENTRE = 0.75  # side of the centre crop, as a share of the shorter side of the picture

FACE_RECIPE = {
    "faces": [LOOK_SIDE, SMALLEST, NEIGHBOURS, STEP, RESIZE],
    "boxes": [MARGIN, HOLD, CENTRE],
}  # what decides where crops lie


class Box(NamedTuple):
    """A square in a picture, in pixels."""

    left: int
    top: int
    side: int


class FaceFinder:
    """Follows the largest face through the frames of one clip, which come in order of time.

    For ``HOLD`` seconds after it was found among all, a face is first looked for near its last
    place, which is cheap and keeps to one person. ``faceless`` counts the frames in which none
    was found, whatever stood in for it.
    """

    def __init__(self) -> None:
        import cv2
        from cv2.data import haarcascades

        self._cascade = cv2.CascadeClassifier(haarcascades + "haarcascade_frontalface_default.xml")
        self._last: _Seen | None = None
        self.faceless = 0

    def box(self, picture: np.ndarray, time: float) -> Box:
        """Where to crop the frame that is shown at ``time`` seconds: (H, W, 3) -> a square."""
        grey, scale = _look(picture)
        last = self._last
        if last is not None and last.shape != grey.shape:
            last = None  # the pictures change their size on the way: places mean nothing any more
        face, searched = None, time
        if last is not None and time - last.searched < HOLD:
            face, searched = self._near(grey, last.face), last.searched
        if face is None:
            face, searched = self._largest(grey, SMALLEST, max(grey.shape)), time
        if face is not None:
            self._last = _Seen(face, time, searched, grey.shape)
            return _with_margin(picture, face, scale)
        self.faceless += 1
        if last is not None and time - last.seen <= HOLD:
            return _with_margin(picture, last.face, scale)
        return centre_box(picture)

    def _near(self, grey: np.ndarray, face: Box) -> Box | None:
        """The largest face of about the size and at about the place of that one."""
        reach = face.side // 2
        left, top = max(0, face.left - reach), max(0, face.top - reach)
        right, bottom = face.left + face.side + reach, face.top + face.side + reach
        near = self._largest(
            grey[top:bottom, left:right],
            max(SMALLEST, round(face.side / RESIZE)),
            round(face.side * RESIZE),
        )
        return near and Box(near.left + left, near.top + top, near.side)

    def _largest(self, grey: np.ndarray, smallest: int, largest: int) -> Box | None:
        """The largest face of a grey picture, in its pixels."""
        found = self._cascade.detectMultiScale(
            grey,
            scaleFactor=STEP,
            minNeighbors=NEIGHBOURS,
            minSize=(smallest, smallest),
            maxSize=(largest, largest),
        )
        boxes = [Box(int(left), int(top), int(side)) for left, top, side, _ in found]
        return max(boxes, key=lambda box: (box.side, -box.left, -box.top), default=None)


class _Seen(NamedTuple):
    """A face in the grey copy of that shape, when it was seen, and when all were looked for."""

    face: Box
    seen: float
    searched: float
    shape: tuple[int, ...]


def _with_margin(picture: np.ndarray, face: Box, scale: float) -> Box:
    """A face of the grey copy as a square of the picture, with its margin."""
    side = face.side / scale
    margin = MARGIN * side
    return fit(picture, face.left / scale - margin, face.top / scale - margin, side + 2 * margin)


def _look(picture: np.ndarray) -> tuple[np.ndarray, float]:
    """The small grey copy in which faces are looked for, and its scale (1 at most)."""
    import cv2

    height, width = picture.shape[:2]
    scale = min(1.0, LOOK_SIDE / min(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA) if scale < 1 else picture
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), scale


def fit(picture: np.ndarray, left: float, top: float, side: float) -> Box:
    """A square in whole pixels, made smaller and moved until it lies within the picture."""
    height, width = picture.shape[:2]
    whole = max(1, min(round(side), height, width))
    middle_x, middle_y = left + side / 2, top + side / 2
    x = min(max(round(middle_x - whole / 2), 0), width - whole)
    y = min(max(round(middle_y - whole / 2), 0), height - whole)
    return Box(x, y, whole)


def centre_box(picture: np.ndarray) -> Box:
    """The square in the middle of a picture, ``CENTRE`` of its shorter side long."""
    height, width = picture.shape[:2]
    side = CENTRE * min(height, width)
    return fit(picture, (width - side) / 2, (height - side) / 2, side)


def cut(picture: np.ndarray, box: Box | None, size: int, grey: bool) -> np.ndarray:
    """What lies in the box, as (size, size, 3) uint8 RGB or (size, size) uint8 grey.

    Without a box the whole picture is squeezed into the square.
    """
    import cv2

    if box is not None:
        picture = picture[box.top : box.top + box.side, box.left : box.left + box.side]
    if grey:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    shrinks = min(picture.shape[:2]) >= size
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR  # the first keeps fine patterns off
    return cv2.resize(picture, (size, size), interpolation=how)


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV on one thread while it lasts: clips are read side by side in processes.

    The number of threads belongs to the process, so that it is put back afterwards.
    """
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
