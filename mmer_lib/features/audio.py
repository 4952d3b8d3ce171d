"""Sound to frames: the paper's MFCC, log-mel energies, and prosody of the whole utterance.

All hear at 16 kHz. ``MFCC`` and ``LogMel`` give a frame every 10 ms (T = 1 + N // 160 for N
samples), seen through a Hann window of 25 ms centred on the frame's time, with silence beyond the
ends. Mel scale and filters are Slaney's (Auditory Toolbox, 1998), as librosa has them; the cosine
transform is the orthonormal DCT-II (Davis and Mermelstein, 1980).

Deviation: energies have an absolute floor of ``FLOOR`` (-100 dB, just below the noise of 16 bits),
where librosa's default is 80 dB below the loudest moment of the clip. So a frame depends on its own
25 ms alone, wherever its clip is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from mmer_lib.errors import check_whole
from mmer_lib.features.base import Clip, Extractor, Track
from mmer_lib.features.prosody import PROSODY_NAMES, SETTINGS, prosody
from mmer_lib.features.waveform import HOP, RATE, blocks, read_waveform

__all__ = ["BANDS", "FLOOR", "MFCC", "RATE", "LogMel", "Prosody", "log_mel", "read_waveform"]

WINDOW = 400  # samples: 25 ms
FFT = 512  # samples, the window padded with zeros
BANDS = 128  # mel bands below MFCC, librosa's default; more would leave filters empty at 16 kHz
FLOOR = 1e-10  # least power of a band, -100 dB: what digital silence gets
SPAN = 9  # frames that a delta is fitted to, librosa's default
AHEAD = 2 * SPAN  # frames after the longest that are kept, so that cutting changes no number


@dataclass(frozen=True, kw_only=True)
class _Audio(Extractor):
    """What the extractors of sound share."""

    modality: ClassVar[str] = "audio"

    def __post_init__(self) -> None:
        if self.longest is not None:
            check_whole("longest", self.longest, at_least=1)

    def read(self, clip: Clip) -> np.ndarray:
        """The waveform (N,) float32 at 16 kHz. Raises ``Unreadable`` with the reason."""
        return read_waveform(clip, RATE)

    def encode(self, media: Sequence[np.ndarray]) -> list[Track]:
        """The tracks of waveforms (N,), one each, in order."""
        return [self._track(wave).first(self.longest) for wave in media]

    def _track(self, wave: np.ndarray) -> Track:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class _Spectral(_Audio):
    """Frames every 10 ms, from the mel spectrum; ``pool`` of them averaged to one."""

    pool: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("pool", self.pool, at_least=1)

    @property
    def rate(self) -> float:
        """Frames a second."""
        return RATE / HOP / self.pool

    def _track(self, wave: np.ndarray) -> Track:
        if self.longest is not None:
            wave = wave[: (self.longest * self.pool + AHEAD) * HOP]
        values = np.ascontiguousarray(self._values(wave), np.float32)  # (T, F)
        return Track(values, np.arange(len(values)) * HOP / RATE).pooled(self.pool)

    def _values(self, wave: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _recipe(self, bands: int) -> dict[str, Any]:
        sizes = {"sample_rate": RATE, "window": WINDOW, "hop": HOP, "fft": FFT, "bands": bands}
        return {**sizes, "floor": FLOOR, "pool": self.pool, "longest": self.longest}

    def _steps(self) -> str:
        """In words: how often there is a frame."""
        averaged = f", {self.pool} averaged to one" if self.pool > 1 else ""
        return f"25 ms windows every 10 ms at 16 kHz{averaged}"


@dataclass(frozen=True, kw_only=True)
class MFCC(_Spectral):
    """Mel cepstra in dB, and how they move: the paper's 40 + 40 + 40 by default.

    Columns: the coefficients 0, 1, ..., then their first and their second derivative a frame, from
    a line and a parabola fitted to 9 frames. In a clip of less than 9 frames its first and last
    frame are repeated for the fit.
    """

    coefficients: int = 40
    deltas: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("coefficients", self.coefficients, at_least=1, at_most=BANDS)

    @property
    def width(self) -> int:
        """F, the number of features a frame."""
        return self.coefficients * (3 if self.deltas else 1)

    def describe(self) -> str:
        """One line for a reader: what the features are."""
        moving = " with first and second derivatives" if self.deltas else ""
        return f"{self.coefficients} MFCC{moving}, {self._steps()}"

    def recipe(self) -> dict[str, Any]:
        """Everything that decides the numbers."""
        own = {"name": "mfcc", "coefficients": self.coefficients, "deltas": self.deltas}
        return {**own, "span": SPAN, **self._recipe(BANDS)}

    def _values(self, wave: np.ndarray) -> np.ndarray:
        import librosa

        energies = log_mel(wave, BANDS).T  # (BANDS, T)
        cepstra = librosa.feature.mfcc(S=energies, n_mfcc=self.coefficients)  # (coefficients, T)
        if not self.deltas:
            return cepstra.T
        mode = "interp" if cepstra.shape[1] >= SPAN else "nearest"
        moves = [
            librosa.feature.delta(cepstra, width=SPAN, order=order, mode=mode) for order in (1, 2)
        ]
        return np.concatenate([cepstra, *moves]).T  # (T, 3 * coefficients)


@dataclass(frozen=True, kw_only=True)
class LogMel(_Spectral):
    """Energies of mel bands in dB re a power of one, at least -100 (digital silence)."""

    bands: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("bands", self.bands, at_least=1, at_most=BANDS)

    @property
    def width(self) -> int:
        """F, the number of features a frame."""
        return self.bands

    def describe(self) -> str:
        """One line for a reader: what the features are."""
        return f"{self.bands} log-mel energies in dB, {self._steps()}"

    def recipe(self) -> dict[str, Any]:
        """Everything that decides the numbers."""
        return {"name": "logmel", **self._recipe(self.bands)}

    def _values(self, wave: np.ndarray) -> np.ndarray:
        return log_mel(wave, self.bands)


@dataclass(frozen=True, kw_only=True)
class Prosody(_Audio):
    """Pitch, loudness, voice, rhythm and colour of the whole utterance: one frame of 35 numbers.

    ``mmer_lib.features.prosody.PROSODY`` lists them.
    """

    @property
    def width(self) -> int:
        """F, the number of features a frame."""
        return len(PROSODY_NAMES)

    @property
    def rate(self) -> None:
        """Not frames in time: one for the utterance."""
        return None

    def describe(self) -> str:
        """One line for a reader: what the features are."""
        return f"{self.width} numbers on pitch, loudness, voice, rhythm and colour, an utterance"

    def recipe(self) -> dict[str, Any]:
        """Everything that decides the numbers."""
        return {
            "name": "prosody",
            "sample_rate": RATE,
            "hop": HOP,
            **SETTINGS,
            "longest": self.longest,
        }

    def _track(self, wave: np.ndarray) -> Track:
        middle = len(wave) / RATE / 2
        return Track(prosody(wave).astype(np.float32)[None], np.array([middle]))


def log_mel(wave: np.ndarray, bands: int) -> np.ndarray:
    """Energies of mel bands in dB, at least -100: (N,) -> (T, bands) float32."""
    import librosa

    filters = _mel_filters(bands)  # (bands, FFT // 2 + 1)
    energies = []
    for piece in blocks(wave, FFT):
        spectrum = librosa.stft(
            piece, n_fft=FFT, hop_length=HOP, win_length=WINDOW, center=False
        )  # (FFT // 2 + 1, t)
        energies.append(filters @ (spectrum.real**2 + spectrum.imag**2))  # (bands, t)
    power = np.concatenate(energies, axis=1).T  # (T, bands)
    return 10 * np.log10(np.maximum(power, FLOOR))


@lru_cache(maxsize=4)
def _mel_filters(bands: int) -> np.ndarray:
    import librosa

    filters: np.ndarray = librosa.filters.mel(sr=RATE, n_fft=FFT, n_mels=bands)
    filters.flags.writeable = False
    return filters
