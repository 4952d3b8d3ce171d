"""What every feature extractor speaks: a clip of a medium in, a track of frames out.

- ``Clip``: an utterance in one modality, as it lies on disk - a stretch of a sound or video file,
  or words.
- ``Track``: its features, ``values`` (T, F) float32, with ``times`` (T,) in seconds after the
  beginning of the clip.
- ``Extractor``: ``read`` decodes one clip and ``encode`` turns what was read into tracks. The two
  are apart because reading fails a clip at a time, and encoding runs in batches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmer_lib.errors import InputError

HALVES = ("", "left", "right")


class Unreadable(InputError):
    """A clip that cannot be read. It is reported and counted; the others go on."""


@dataclass(frozen=True)
class Clip:
    """Where one utterance is found in one modality.

    ``words`` is the text itself (then there is no path). ``half`` is the half of the picture in
    which the speaker is seen, for recordings of two people.
    """

    path: Path | None = None
    start: float = 0.0  # seconds
    end: float | None = None  # seconds; None: to the end of the file
    half: str = ""  # one of HALVES; "": the whole picture
    words: str | None = None

    def where(self) -> str:
        """How messages call it."""
        if self.path is None:
            words = self.words or ""
            return repr(words if len(words) <= 40 else words[:37] + "...")
        if self.end is None and not self.start:
            return str(self.path)
        end = "the end" if self.end is None else f"{self.end:g} s"
        return f"{self.path}, {self.start:g} s to {end}"


@dataclass(frozen=True)
class Track:
    """The features of one clip. Raises ``InputError`` if the arrays do not fit together."""

    values: np.ndarray  # (T, F) float32
    times: np.ndarray  # (T,) float64: the middle of each frame, in seconds; NaN: it has no clock
    spans: np.ndarray | None = None  # (T, 2) int64: the characters [from, to) of the words
    faceless: int = 0  # frames of video in which no face was found

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.dtype != np.float32:
            raise InputError(
                f"Track: values must be a (frames, features) float32 array, "
                f"not {self.values.dtype} of shape {self.values.shape}"
            )
        if self.times.shape != (len(self.values),):
            raise InputError(
                f"Track: {len(self.values)} frames, but times of shape {self.times.shape}"
            )
        if self.spans is not None and self.spans.shape != (len(self.values), 2):
            raise InputError(
                f"Track: {len(self.values)} frames, but spans of shape {self.spans.shape}"
            )

    def __len__(self) -> int:
        return len(self.values)

    def pooled(self, frames: int) -> Track:
        """Every ``frames`` frames averaged to one, the last of what is left."""
        if frames == 1 or not len(self):
            return self
        starts = np.arange(0, len(self), frames)
        count = np.diff(np.r_[starts, len(self)])
        values = np.add.reduceat(self.values, starts) / count[:, None].astype(np.float32)
        return Track(values, np.add.reduceat(self.times, starts) / count, None, self.faceless)

    def first(self, frames: int | None) -> Track:
        """At most the first ``frames`` frames; None: all."""
        if frames is None or len(self) <= frames:
            return self
        spans = None if self.spans is None else self.spans[:frames]
        return Track(self.values[:frames], self.times[:frames], spans, self.faceless)


@dataclass(frozen=True, kw_only=True)
class Extractor(ABC):
    """One way to turn clips of a modality into frames; a frozen dataclass of its settings.

    ``longest`` keeps the first frames of a clip alone, as models of fixed length need it.
    """

    modality: ClassVar[str]
    batched: ClassVar[bool] = False  # a network: encode in batches, in one process, on a device
    longest: int | None = field(default=None)  # frames; None: all

    @property
    @abstractmethod
    def width(self) -> int:
        """F, the number of features a frame."""

    @property
    @abstractmethod
    def rate(self) -> float | None:
        """Frames a second; None where frames are not evenly spaced in time."""

    @abstractmethod
    def describe(self) -> str:
        """One line for a reader: what the features are."""

    @abstractmethod
    def recipe(self) -> dict[str, Any]:
        """Everything that decides the numbers, as JSON: settings, and hashes of weights."""

    @abstractmethod
    def read(self, clip: Clip) -> Any:
        """Decode one clip. Raises ``Unreadable`` with the reason."""

    @abstractmethod
    def encode(self, media: Sequence[Any]) -> list[Track]:
        """The tracks of what ``read`` returned, one each, in order."""
