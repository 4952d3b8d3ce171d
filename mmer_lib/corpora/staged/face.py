"""A drawn face that moves by facial action units: 64 x 64 pixels, plain enough to be read.

- ``units``: name -> intensity 0 .. 1, of the facial action coding system (Ekman, Friesen and Hager
  2002): what each muscle does, not what is felt. Absent ones are at rest.
- ``Shape``: whose face it is: proportions, colours, hair.
- ``landmarks``: points (k, 2) in pixels of the frame, x to the right and y down.

``drawing.draw`` makes the frame of them. How far a unit moves a point was chosen so that a reader
names the expression in 64 pixels: it is a caricature, not anatomy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mmer_lib.errors import unknown

SIZE = 64  # pixels of a side
UNITS = {
    "AU1": "inner brow raiser",
    "AU2": "outer brow raiser",
    "AU4": "brow lowerer",
    "AU5": "upper lid raiser",
    "AU6": "cheek raiser",
    "AU7": "lid tightener",
    "AU9": "nose wrinkler",
    "AU12": "lip corner puller",
    "AU15": "lip corner depressor",
    "AU20": "lip stretcher",
    "AU23": "lip tightener",
    "AU25": "lips part",
    "AU26": "jaw drop",
    "AU43": "eyes closed",
}
HAIR = ("short", "long", "bun", "curls", "fringe", "bald")

Colour = tuple[int, int, int]  # RGB
Points = dict[str, np.ndarray]


@dataclass(frozen=True)
class Shape:
    """Whose face it is; lengths are in pixels of the frame before ``ZOOM``.

    Raises ``InputError`` for an unknown style of hair.
    """

    skin: Colour = (240, 200, 170)
    hair: Colour = (90, 56, 36)
    iris: Colour = (70, 110, 150)
    shirt: Colour = (70, 120, 170)
    backdrop: Colour = (214, 226, 232)
    style: str = "short"  # one of HAIR
    width: float = 18.5  # half the width of the head
    chin: float = 20.5  # from the middle of the head to the chin
    eyes: float = 8.0  # from the middle to an eye
    eye: float = 4.6  # half the width of an eye
    brow: float = 2.0  # thickness
    mouth: float = 6.6  # half the width of the mouth
    nose: float = 2.2  # half the width of the nose
    glasses: bool = False
    beard: bool = False

    def __post_init__(self) -> None:
        if self.style not in HAIR:
            raise unknown("style of hair", self.style, HAIR)


@dataclass(frozen=True)
class Pose:
    """Where the head is: shifted by pixels and rolled by degrees about its middle."""

    x: float = 0.0
    y: float = 0.0
    roll: float = 0.0


MIDDLE = (32.0, 32.5)  # of a head at rest, in the frame
ZOOM = 1.14  # pixels of the frame, a pixel of the shape


def landmarks(units: Mapping[str, float], shape: Shape, pose: Pose | None = None) -> Points:
    """Where the units put the points of the face.

    Keys: ``brow_left``, ``brow_right`` (inner, middle, outer), ``eye_left``, ``eye_right`` (inner
    corner, upper lid, outer corner, lower lid), ``nose`` (left wing, tip, right wing), ``mouth``
    (left corner, upper lip, right corner, lower lip), ``chin`` (1 point). Left and right are the
    reader's. Raises ``InputError`` for an unknown unit.
    """
    for name in units:
        if name not in UNITS:
            raise unknown("action unit", name, UNITS)
    au = {name: float(units.get(name, 0.0)) for name in UNITS}
    points = {"nose": _nose(au, shape), "mouth": _mouth(au, shape)}
    points["chin"] = np.array([[0.0, shape.chin + 2.6 * au["AU26"]]])
    brow, eye = _brow(au, shape), _eye(au, shape)
    for side, sign in (("left", -1.0), ("right", 1.0)):
        points[f"brow_{side}"] = brow * (sign, 1.0)
        points[f"eye_{side}"] = eye * (sign, 1.0)
    return {name: place(at, pose or Pose()) for name, at in points.items()}


def _brow(au: Mapping[str, float], shape: Shape) -> np.ndarray:
    """(inner, middle, outer) of the right brow; the middle of the head is (0, 0)."""
    y = -11.6
    lowered = 4.6 * au["AU4"] * (1 - 0.9 * au["AU1"])  # the two pull the inner end against another
    inner = (3.6 - 1.5 * au["AU4"], y - 4.6 * au["AU1"] + lowered - 0.4 * au["AU2"])
    middle = (shape.eyes, y - 1.4 - 1.2 * au["AU1"] - 3.2 * au["AU2"] + 2.0 * au["AU4"])
    outer = (shape.eyes + 5.4, y + 0.6 - 3.0 * au["AU2"] + 0.9 * au["AU1"] - 0.9 * au["AU4"])
    return np.array([inner, middle, outer]) + np.array([0.0, 1.2 * au["AU9"]])


def _eye(au: Mapping[str, float], shape: Shape) -> np.ndarray:
    """(inner corner, upper lid, outer corner, lower lid) of the right eye."""
    opened = 1.0 - au["AU43"]
    squeeze = max(0.0, 1 - 0.48 * au["AU7"] - 0.3 * au["AU6"] - 0.35 * au["AU9"])
    upper = 3.7 * (1 + 0.5 * au["AU5"]) * squeeze * opened
    lower = 3.2 * max(0.0, 1 - 0.62 * au["AU6"] - 0.42 * au["AU7"] - 0.3 * au["AU9"]) * opened
    x, w, y = shape.eyes, shape.eye, -3.4
    droop = 1.3 * au["AU1"] * au["AU4"]  # the outer end of the lid falls in sadness
    return np.array(
        [(x - w, y - 0.3 * droop), (x, y - upper), (x + w, y + 0.8 * droop), (x, y + lower)]
    )


def _nose(au: Mapping[str, float], shape: Shape) -> np.ndarray:
    """(left wing, tip, right wing)."""
    w, y = shape.nose * (1 + 0.35 * au["AU9"]), 4.4 - 1.5 * au["AU9"]
    return np.array([(-w, y), (0.0, y + 1.3), (w, y)])


def _mouth(au: Mapping[str, float], shape: Shape) -> np.ndarray:
    """(left corner, upper lip, right corner, lower lip), inside the lips."""
    y = 11.4 - 0.6 * au["AU9"]
    half = shape.mouth + 2.4 * au["AU12"] + 2.6 * au["AU20"] - 2.4 * au["AU23"] - 0.6 * au["AU15"]
    half *= 1 - 0.4 * au["AU26"] * (1 - au["AU12"])  # a dropped jaw rounds the mouth
    corner = y - 3.6 * au["AU12"] + 3.4 * au["AU15"] + 0.7 * au["AU20"]
    clenched = au["AU20"] * au["AU25"]  # teeth bared while the jaw is shut
    raised = 1.3 * au["AU25"] + 0.8 * au["AU26"] + 1.2 * clenched
    upper = y + 1.0 * au["AU12"] - 1.7 * au["AU15"] - raised
    lower = y + 1.6 * au["AU12"] - 1.5 * au["AU15"] + 1.9 * au["AU25"] + 6.2 * au["AU26"]
    lower += 2.2 * clenched
    return np.array([(-half, corner), (0.0, upper), (half, corner), (0.0, max(lower, upper))])


def place(points: np.ndarray, pose: Pose) -> np.ndarray:
    """Points around the middle of the head -> pixels of the frame."""
    angle = math.radians(pose.roll)
    c, s = ZOOM * math.cos(angle), ZOOM * math.sin(angle)
    return np.asarray(
        points @ np.array([[c, s], [-s, c]]) + (MIDDLE[0] + pose.x, MIDDLE[1] + pose.y)
    )


def shade(colour: Colour, factor: float) -> Colour:
    """Darker (below 1) or lighter."""
    red, green, blue = (int(min(255, max(0, c * factor))) for c in colour)
    return red, green, blue
