"""Drawing a face of ``face`` into a frame (64, 64, 3) uint8 RGB.

Everything is drawn four times as large, from back to front, and averaged: that gives soft edges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from mmer_lib.corpora.staged.face import (
    SIZE,
    UNITS,
    ZOOM,
    Colour,
    Points,
    Pose,
    Shape,
    landmarks,
    place,
    shade,
)

_SCALE = 4  # drawn larger by this
_SHIFT = 4  # fractional bits of the coordinates given to OpenCV
_HALF_PIXEL = (1 << _SHIFT) / 2
_INK = (44, 32, 36)
_WHITE = (250, 250, 246)


def draw(units: Mapping[str, float], shape: Shape, pose: Pose | None = None) -> np.ndarray:
    """The frame (64, 64, 3) uint8 RGB."""
    import cv2

    pose = pose or Pose()
    canvas = _Canvas(_backdrop(shape.backdrop).copy(), pose)
    points = landmarks(units, shape, pose)
    drop = float(units.get("AU26", 0.0))
    _draw_head(canvas, shape, drop)
    _draw_cheeks(canvas, shape, units)
    _draw_mouth(canvas, shape, units, points["mouth"])
    _draw_nose(canvas, shape, units, points["nose"])
    for side in ("left", "right"):
        _draw_eye(canvas, shape, points[f"eye_{side}"])
    _draw_hair(canvas, shape)
    _draw_brows(canvas, shape, units, points)
    if shape.glasses:
        _draw_glasses(canvas, shape)
    return np.asarray(cv2.resize(canvas.image, (SIZE, SIZE), interpolation=cv2.INTER_AREA))


class _Canvas:
    """An image four times as large, drawn on in pixels of the frame.

    ``corner`` is where its first pixel lies on the whole canvas.
    """

    def __init__(self, image: np.ndarray, pose: Pose, corner: tuple[int, int] = (0, 0)) -> None:
        self.image, self.pose = image, pose
        left, top = corner
        half = _HALF_PIXEL - 0.5  # whole numbers are pixel centres; half a step rounds
        self.zero = ((left << _SHIFT) + half, (top << _SHIFT) + half)

    def fill(self, points: np.ndarray, colour: Colour) -> None:
        """A filled polygon (k, 2)."""
        import cv2

        cv2.fillPoly(self.image, [self._fixed(points)], colour, cv2.LINE_AA, _SHIFT)

    def stroke(
        self, points: np.ndarray, colour: Colour, width: float, closed: bool = False
    ) -> None:
        """A line through points (k, 2)."""
        import cv2

        thick = max(1, round(width * ZOOM * _SCALE))
        at = [self._fixed(points)]
        cv2.polylines(self.image, at, closed, colour, thick, cv2.LINE_AA, _SHIFT)

    def disc(self, middle: Any, radius: float, colour: Colour) -> None:
        """A filled circle."""
        self.fill(ellipse(middle, ZOOM * radius, ZOOM * radius), colour)

    def within(self, outline: np.ndarray, paint: Callable[[_Canvas], None]) -> None:
        """Call ``paint`` and keep only what lies inside the polygon ``outline``."""
        import cv2

        low = np.floor(outline.min(axis=0) * _SCALE).astype(int) - 2
        high = np.ceil(outline.max(axis=0) * _SCALE).astype(int) + 2
        (x0, y0), (x1, y1) = np.clip([low, high], 0, SIZE * _SCALE).tolist()
        if x0 == x1 or y0 == y1:  # out of the frame
            return
        part = self.image[y0:y1, x0:x1]
        inner = _Canvas(part.copy(), self.pose, (x0, y0))
        paint(inner)
        mask = np.zeros(part.shape[:2], np.uint8)
        cv2.fillPoly(mask, [inner._fixed(outline)], 255, cv2.LINE_8, _SHIFT)
        cv2.copyTo(inner.image, mask, part)

    def at(self, *points: tuple[float, float]) -> np.ndarray:
        """Points around the middle of the head -> pixels of the frame, (k, 2)."""
        return place(np.array(points), self.pose)

    def _fixed(self, points: np.ndarray) -> np.ndarray:
        """Pixels of the frame -> fixed-point pixels of this image, as OpenCV takes them."""
        return (points * (_SCALE << _SHIFT) - self.zero).astype(np.int32)


@lru_cache(maxsize=64)
def _backdrop(colour: Colour) -> np.ndarray:
    return np.full((SIZE * _SCALE, SIZE * _SCALE, 3), colour, np.uint8)


_TURN = np.linspace(0, 2 * np.pi, 28, endpoint=False)
_ROUND = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)  # (28, 2)
_ALONG = np.linspace(0, 1, 10)[:, None]
_BEND = 2 * _ALONG * (1 - _ALONG)
_ENDS = (1 - _ALONG) ** 2 - _BEND / 2, _ALONG**2 - _BEND / 2


def ellipse(middle: Any, x: float, y: float) -> np.ndarray:
    """A closed outline (28, 2) with these half axes."""
    return np.asarray(_ROUND * (x, y) + middle)


def curve(start: np.ndarray, middle: np.ndarray, end: np.ndarray) -> np.ndarray:
    """A parabola (10, 2) from ``start`` to ``end`` through ``middle`` half-way."""
    return np.asarray(_ENDS[0] * start + 2 * _BEND * middle + _ENDS[1] * end)


def _blend(a: Colour, b: Colour, share: float) -> Colour:
    red, green, blue = (round((1 - share) * x + share * y) for x, y in zip(a, b, strict=True))
    return red, green, blue


_HEAD = _ROUND.copy()  # fuller below than an ellipse
_HEAD[:, 0] = np.sign(_ROUND[:, 0]) * np.abs(_ROUND[:, 0]) ** np.where(_ROUND[:, 1] > 0, 0.86, 1.0)


def _outline(shape: Shape, drop: float, grow: float = 0.0) -> np.ndarray:
    """The head: an ellipse above, a fuller jaw below; (28, 2) around its middle."""
    height = np.where(_HEAD[:, 1] > 0, shape.chin + 2.6 * drop, 21.0) + grow
    return np.stack([(shape.width + grow) * _HEAD[:, 0], height * _HEAD[:, 1]], axis=1)


def _draw_head(canvas: _Canvas, shape: Shape, drop: float) -> None:
    """The hair behind, shirt, neck, ears, head and beard."""
    _draw_hair_behind(canvas, shape)
    shirt = np.array([(-26, 34), (-22, 27), (-8, 23), (8, 23), (22, 27), (26, 34)], float)
    canvas.fill(place(shirt, Pose(canvas.pose.x / 2)), shape.shirt)
    canvas.fill(canvas.at((-6, 14), (6, 14), (6.5, 25), (-6.5, 25)), shade(shape.skin, 0.84))
    for side in (-1, 1):
        ear = ellipse((side * shape.width, 0), 3.2, 4.6)
        canvas.fill(canvas.at(*ear), shade(shape.skin, 0.93))
    canvas.fill(canvas.at(*_outline(shape, drop)), shape.skin)
    if shape.beard:
        _draw_beard(canvas, shape, drop)


def _draw_hair_behind(canvas: _Canvas, shape: Shape) -> None:
    if shape.style == "long":
        back = ellipse((0, 2), shape.width + 6, 25)
        canvas.fill(canvas.at(*back), shade(shape.hair, 0.85))
    elif shape.style == "curls":
        for x, y in ((-18, -6), (18, -6), (-20, 2), (20, 2), (-18, 10), (18, 10)):
            canvas.disc(canvas.at((x, y))[0], 6.5, shade(shape.hair, 0.85))
    elif shape.style == "bun":
        canvas.disc(canvas.at((0, -22))[0], 6, shape.hair)


def _draw_beard(canvas: _Canvas, shape: Shape, drop: float) -> None:
    head = _outline(shape, drop)
    lower = head[head[:, 1] >= 3.0]
    lower = lower[np.argsort(-lower[:, 0])]
    cut = curve(np.array([-shape.width, 3.0]), np.array([0.0, 9.5]), np.array([shape.width, 3.0]))
    beard = _blend(shape.hair, shape.skin, 0.2)
    canvas.fill(canvas.at(*lower, *cut), beard)


def _draw_cheeks(canvas: _Canvas, shape: Shape, units: Mapping[str, float]) -> None:
    """Raised cheeks are round and rosy (AU6)."""
    raised = float(units.get("AU6", 0.0))
    rosy = _blend(shape.skin, (232, 120, 110), 0.12 + 0.4 * raised)
    for x in (-1, 1):
        middle = canvas.at((x * (shape.width - 5.6), 6.6 - 1.6 * raised))[0]
        canvas.fill(ellipse(middle, 4 + 0.7 * raised, 3 + 0.5 * raised), rosy)


def _draw_mouth(
    canvas: _Canvas, shape: Shape, units: Mapping[str, float], mouth: np.ndarray
) -> None:
    left, upper, right, lower = mouth
    au = {name: float(units.get(name, 0.0)) for name in UNITS}
    square = 2 + 3 * au["AU20"]
    rounded = 1 - 0.45 * au["AU26"] * (1 - au["AU12"])
    top, bottom = (_lip(left, middle, right, square, rounded) for middle in (upper, lower))
    lips = _blend(shape.skin, (186, 60, 70), 0.62)
    gap = float(lower[1] - upper[1])
    thick = 1.6 - 0.5 * au["AU23"]
    if gap > 0.6:
        opening = np.concatenate([top, bottom[::-1]])
        canvas.fill(opening, (96, 22, 34))
        canvas.within(opening, lambda c: _draw_teeth(c, mouth, gap, au))
    canvas.stroke(bottom, lips, thick)
    canvas.stroke(top, _blend(lips, _INK, 0.4 if gap < 0.6 else 0.25), thick)


def _lip(
    left: np.ndarray, middle: np.ndarray, right: np.ndarray, square: float, rounded: float
) -> np.ndarray:
    """A line (17, 2) of the lip; (2, 1) is the parabola."""
    across = np.linspace(-1, 1, 17)[:, None]
    chord = (1 - across) / 2 * left + (1 + across) / 2 * right
    bulge = (1 - np.abs(across) ** square) ** rounded
    return np.asarray(chord + bulge * (middle - (left + right) / 2))


def _draw_teeth(canvas: _Canvas, mouth: np.ndarray, gap: float, au: Mapping[str, float]) -> None:
    """The upper row hangs from the lip; a closed jaw shows both rows, an open one the tongue."""
    left, upper, right, _ = mouth
    jaw = au["AU26"]
    across, down = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    bare = max(au["AU12"], au["AU20"])
    if jaw > 0.25:
        middle = upper + down * (gap + 0.6)
        canvas.fill(ellipse(middle, 4.3, 0.42 * gap), (208, 84, 92))
    row = 0.34 * gap if jaw > 0.25 else gap * (0.5 + 0.6 * bare)
    low = min(left[1], right[1], upper[1]) - 3
    band = np.array([(left[0], low), (right[0], low)])
    deep = upper[1] + row
    canvas.fill(np.concatenate([band, [(right[0], deep), (left[0], deep)]]), _WHITE)
    if jaw <= 0.25 and bare > 0.4:  # clenched: the line between the rows
        line = upper + down * gap * 0.5
        canvas.stroke(np.stack([line - 12 * across, line + 12 * across]), (196, 188, 188), 0.5)


def _draw_nose(canvas: _Canvas, shape: Shape, units: Mapping[str, float], nose: np.ndarray) -> None:
    dark = shade(shape.skin, 0.66)
    canvas.stroke(curve(*nose), dark, 1.5)
    wrinkled = float(units.get("AU9", 0.0))
    if wrinkled > 0.15:
        colour = _blend(shape.skin, shade(shape.skin, 0.5), min(1.0, wrinkled))
        for y in (-3.2, -0.6):
            for x in (-1, 1):
                canvas.stroke(canvas.at((x * 0.8, y), (x * 3.4, y - 1.4)), colour, 1.0)


def _draw_eye(canvas: _Canvas, shape: Shape, eye: np.ndarray) -> None:
    inner, upper, outer, lower = eye
    top, bottom = curve(inner, upper, outer), curve(inner, lower, outer)
    opening = float(lower[1] - upper[1])
    if opening > 0.8:
        almond = np.concatenate([top, bottom[::-1]])
        canvas.fill(almond, _WHITE)
        canvas.within(almond, lambda c: _draw_iris(c, shape, (inner + outer) / 2))
    canvas.stroke(bottom, shade(shape.skin, 0.62), 0.8)
    canvas.stroke(top, _INK, 1.5)


def _draw_iris(canvas: _Canvas, shape: Shape, middle: np.ndarray) -> None:
    canvas.disc(middle, 2.9, shape.iris)
    canvas.disc(middle, 1.7, (20, 16, 20))
    canvas.disc(middle + np.array([0.9, -1.0]), 0.8, _WHITE)


def _draw_brows(canvas: _Canvas, shape: Shape, units: Mapping[str, float], points: Points) -> None:
    colour = shade(shape.hair, 0.6)
    for side in ("left", "right"):
        inner, middle, outer = points[f"brow_{side}"]
        arch = curve(inner, middle, outer)
        canvas.stroke(arch, colour, 0.75 * shape.brow)
        canvas.stroke(arch[:7], colour, shape.brow)
    knit, raised = float(units.get("AU4", 0.0)), float(units.get("AU1", 0.0))
    line = _blend(shape.skin, shade(shape.skin, 0.55), knit * (1 - raised))
    if knit > 0.3 and raised < 0.3:
        for x in (-1.1, 1.1):
            canvas.stroke(canvas.at((x, -10.0), (x, -6.6)), line, 0.8)


def _draw_hair(canvas: _Canvas, shape: Shape) -> None:
    """The hair in front, above the brows' highest position."""
    if shape.style == "bald":
        return
    outline = _outline(shape, 0.0, grow=1.6)
    crown = outline[outline[:, 1] <= -5.0]
    crown = crown[np.argsort(crown[:, 0])]
    left, right = crown[0], crown[-1]
    line = {"short": -17.0, "long": -19.0, "bun": -18.5, "curls": -17.5, "fringe": -16.4}
    hairline = np.array([0.0, line[shape.style]])
    if shape.style == "long":  # parted: two falls of hair
        for end in (left, right):
            fall = curve(hairline - (0, 1.5), (hairline + end) / 2 - (0, 3.0), end)
            part = crown[np.sign(crown[:, 0]) == np.sign(end[0])]
            canvas.fill(canvas.at(*fall, *part[np.argsort(-np.abs(part[:, 0]))]), shape.hair)
            side = ellipse((end[0] * 1.04, 4), 3.4, 14)
            canvas.fill(canvas.at(*side), shape.hair)
    else:
        canvas.fill(canvas.at(*crown, *curve(right, hairline, left)), shape.hair)
    if shape.style == "curls":
        for x in np.linspace(-15, 15, 6):
            canvas.disc(canvas.at((x, -20 + 0.018 * x * x))[0], 4.6, shape.hair)


def _draw_glasses(canvas: _Canvas, shape: Shape) -> None:
    for x in (-shape.eyes, shape.eyes):
        rim = canvas.at(*ellipse((x, -3.2), 6.2, 6.0))
        canvas.stroke(rim, (60, 52, 60), 0.9, closed=True)
    bridge = shape.eyes - 6.2
    canvas.stroke(canvas.at((-bridge, -3.6), (bridge, -3.6)), (60, 52, 60), 0.9)
