"""Video to features: a square cut out of each frame, and numbers that need no trained weights.

- ``read_crops``: of a clip's frames, the face, the centre or the whole picture as small squares;
  what the pretrained networks of vision read as well.
- ``HOG``: histograms of oriented gradients (Dalal and Triggs 2005); ``DCT``: the low frequencies
  of the two-dimensional cosine transform (Ahmed, Natarajan and Rao 1974). Both of the grey crop.
- ``read_frames``, ``iter_frames``: the frames themselves (``mmer_lib.features.decoding``).
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from mmer_lib.errors import InputError, check_whole, unknown
from mmer_lib.features.base import Clip, Extractor, Track
from mmer_lib.features.decoding import check_rate, iter_frames, read_frames
from mmer_lib.features.faces import (
    CROPS,
    FACE_RECIPE,
    Box,
    FaceFinder,
    centre_box,
    cut,
    one_thread,
)

__all__ = [
    "CROPS", "DCT", "HOG", "Crops", "FaceFinder", "check_picture_options", "iter_frames",
    "read_crops", "read_frames", "zigzag",
]  # fmt: skip


@dataclass(frozen=True)
class Crops:
    """One small square picture for each frame of a clip."""

    pictures: np.ndarray  # (T, size, size, 3) uint8 RGB, or (T, size, size) uint8 grey
    times: np.ndarray  # (T,) float64: seconds after the clip's beginning
    faceless: int = 0  # frames in which no face was found; 0 unless crop="face"


def read_crops(
    clip: Clip, rate: float, crop: str, size: int, grey: bool, longest: int | None = None
) -> Crops:
    """Cut one square out of each frame of a clip: ``Crops`` with pictures of size x size.

    ``crop`` is "face" (the largest, with a stand-in where none is found: ``mmer_lib.features
    .faces``), "centre" or "whole" (squeezed into the square). At most ``longest`` frames are
    decoded. One frame at a time is in memory. Raises ``Unreadable`` like ``iter_frames``, and
    ``InputError`` for an unknown crop or an impossible rate or size.
    """
    check_picture_options("read_crops", rate, crop, size)
    times, pictures = [], []
    with one_thread(), closing(iter_frames(clip, rate)) as frames:
        finder = FaceFinder() if crop == "face" else None
        for time, picture in itertools.islice(frames, longest):
            times.append(time)
            box = _box(picture, time, finder, crop)
            pictures.append(cut(picture, box, size, grey))
    faceless = 0 if finder is None else finder.faceless
    return Crops(np.stack(pictures), np.array(times), faceless)


def _box(picture: np.ndarray, time: float, finder: FaceFinder | None, crop: str) -> Box | None:
    """Where to crop a frame; None: nowhere, the whole of it."""
    if finder is not None:
        return finder.box(picture, time)
    return centre_box(picture) if crop == "centre" else None


def check_picture_options(name: str, rate: float, crop: str, size: int) -> None:
    """Raise ``InputError`` for a rate, crop or size that no extractor of video can use."""
    check_rate(name, rate)
    if crop not in CROPS:
        raise unknown("crop", crop, CROPS)
    check_whole(f"{name}: size", size, at_least=8, at_most=1024)


@dataclass(frozen=True, kw_only=True)
class _OfCrops(Extractor):
    """What the extractors share: grey crops, read and handed on."""

    modality: ClassVar[str] = "video"
    name: ClassVar[str]
    rate: float = 5.0  # frames a second: faces move slower than voices
    size: int = 64  # pixels of the crop's side
    crop: str = "face"  # one of CROPS

    def __post_init__(self) -> None:
        check_picture_options(self.name, self.rate, self.crop, self.size)
        if self.longest is not None:
            check_whole(f"{self.name}: longest", self.longest, at_least=1)

    def recipe(self) -> dict[str, Any]:
        """The settings, and how faces are found and cut."""
        return {"name": self.name, **asdict(self), **FACE_RECIPE}

    def read(self, clip: Clip) -> Crops:
        """The grey crops of a clip: (T, size, size) uint8."""
        return read_crops(clip, self.rate, self.crop, self.size, grey=True, longest=self.longest)

    def encode(self, media: Sequence[Crops]) -> list[Track]:
        """(T, size, size) uint8 -> (T, F) float32 for each."""
        return [
            Track(self._numbers(m.pictures), m.times, faceless=m.faceless).first(self.longest)
            for m in media
        ]

    @abstractmethod
    def _numbers(self, pictures: np.ndarray) -> np.ndarray:
        """(T, size, size) uint8 -> (T, F) float32."""


@dataclass(frozen=True, kw_only=True)
class HOG(_OfCrops):
    """Histograms of oriented gradients of the crop (Dalal and Triggs 2005), by OpenCV.

    Cells of ``cell`` pixels, 9 directions without sign, blocks of 2 x 2 cells that overlap by
    one cell and are scaled to length 1, clipped at 0.2 and scaled again (L2-Hys). Deviation: no
    square root of the grey levels before, so that added brightness changes nothing.
    """

    name: ClassVar[str] = "hog"
    cell: int = 8  # pixels of a cell's side; the size is a multiple of it

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("hog: cell", self.cell, at_least=2, at_most=self.size // 2)
        if self.size % self.cell:
            raise InputError(
                f"hog: size={self.size} with cell={self.cell}: a multiple of the cell expected"
            )

    @property
    def width(self) -> int:
        """Blocks by 36: 1764 for a size of 64 and cells of 8."""
        return (self.size // self.cell - 1) ** 2 * 36

    def describe(self) -> str:
        """One line for a reader."""
        return f"{self.width} oriented gradients (HOG) of the {_crop_in_words(self)}"

    def _numbers(self, pictures: np.ndarray) -> np.ndarray:
        import cv2

        cell, window = (self.cell, self.cell), (self.size, self.size)
        block = (2 * self.cell, 2 * self.cell)
        # After the 9 directions: derivative aperture 1 and window sigma -1 (the default), L2-Hys
        # clipped at 0.2, no square root of grey levels, one level, directions without sign.
        hog = cv2.HOGDescriptor(window, block, cell, cell, 9, 1, -1.0, 0, 0.2, False, 1, False)
        with one_thread():
            rows = [np.ravel(hog.compute(picture)) for picture in pictures]
        return np.stack(rows).astype(np.float32)  # (T, F)


@dataclass(frozen=True, kw_only=True)
class DCT(_OfCrops):
    """Low frequencies of the crop's two-dimensional cosine transform (Ahmed and others 1974).

    The crop is brought to mean 0 and standard deviation 1, so that neither brightness nor contrast
    counts, and transformed by the orthonormal DCT-II over size, so that the squares of all
    coefficients add up to 1. Kept are the first ``coefficients`` in JPEG's zig-zag order (ITU-T
    T.81, figure A.6), from low to high frequencies; the constant one is left out, as it is 0.
    """

    name: ClassVar[str] = "dct"
    coefficients: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("dct: coefficients", self.coefficients, 1, self.size**2 - 1)

    @property
    def width(self) -> int:
        """``coefficients``."""
        return self.coefficients

    def describe(self) -> str:
        """One line for a reader."""
        return f"{self.width} low frequencies (DCT) of the {_crop_in_words(self)}"

    def _numbers(self, pictures: np.ndarray) -> np.ndarray:
        from scipy.fft import dctn

        grey = pictures.astype(np.float32)  # (T, S, S)
        grey -= grey.mean(axis=(1, 2), keepdims=True)
        # A picture flatter than one grey level is not blown up: what it shows is noise.
        grey /= np.maximum(grey.std(axis=(1, 2), keepdims=True), 1.0)
        spectrum = dctn(grey, axes=(1, 2), norm="ortho") / self.size
        rows, columns = zigzag(self.size, self.coefficients)
        return np.ascontiguousarray(spectrum[:, rows, columns], np.float32)  # (T, F)


def zigzag(size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the first ``count`` frequencies of a square, the constant left out.

    >>> [(int(row), int(column)) for row, column in zip(*zigzag(8, 5))]
    [(0, 1), (1, 0), (2, 0), (1, 1), (0, 2)]
    """
    places = itertools.product(range(size), repeat=2)
    # Along each diagonal row + column, upwards and downwards in turn.
    ordered = sorted(places, key=lambda rc: (sum(rc), rc[0] if sum(rc) % 2 else rc[1]))
    rows, columns = np.array(ordered[1 : count + 1]).T
    return rows, columns


def _crop_in_words(extractor: _OfCrops) -> str:
    """Which crop, how large and how often."""
    crop = {"face": "face", "centre": "picture's centre", "whole": "picture"}[extractor.crop]
    return f"{crop}, {extractor.size} x {extractor.size} grey, {extractor.rate:g} frames a second"
