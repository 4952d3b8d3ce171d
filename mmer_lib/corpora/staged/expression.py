"""How the face of a speaker moves: which action units an emotion shows, and when.

The units of an emotion follow the prototypes of Ekman and Friesen (EMFACS) and, for excitement
(their happy surprise) and frustration (near their angry disgust), the compound expressions of Du,
Tao and Martinez (2014). An expression rises from its onset to an apex and falls off again; speech
opens the jaw with its loudness; eyes blink.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmer_lib.corpora.staged.face import UNITS, Pose

FPS = 25  # frames a second
FACES: dict[str, dict[str, float]] = {
    "angry": {"AU4": 1.0, "AU5": 0.6, "AU7": 0.5, "AU15": 0.4, "AU23": 0.7},
    "excited": {
        "AU1": 0.7, "AU2": 0.8, "AU5": 0.7, "AU6": 0.3, "AU12": 1.0, "AU25": 0.8, "AU26": 0.7,
    },
    "happy": {"AU6": 0.9, "AU12": 0.9},
    "sad": {"AU1": 0.9, "AU4": 0.6, "AU15": 0.9, "AU43": 0.35},
    "frustrated": {"AU4": 0.8, "AU7": 0.8, "AU9": 0.8, "AU15": 0.3, "AU20": 0.8, "AU25": 0.7},
    "surprise": {"AU1": 1.0, "AU2": 1.0, "AU5": 1.0, "AU25": 0.6, "AU26": 0.9},
    "neutral": {},
}  # fmt: skip
_REST = 0.2  # of the apex that stays before the onset and after the offset
_BLINK = 0.2  # seconds from open to open


@dataclass(frozen=True)
class Movement:
    """Frame by frame: ``times`` (T,) in seconds, the units and the pose of the head."""

    times: np.ndarray
    units: list[dict[str, float]]
    poses: list[Pose]
    apex: float  # seconds


def move(
    emotion: str, strength: float, apex: float, samples: np.ndarray, rate: int, seed: int
) -> Movement:
    """The face of someone who says ``samples`` (n,) and shows an emotion.

    ``apex`` in 0 .. 1 is when the expression is fullest, as a share of the duration.
    """
    rng = np.random.default_rng(seed)
    seconds = len(samples) / rate
    times = (np.arange(max(1, round(seconds * FPS))) + 0.5) / FPS
    at = apex * seconds
    shown = strength * rise_and_fall(times, at, seconds)
    units = {name: np.zeros(len(times)) for name in UNITS}
    for name, full in FACES[emotion].items():
        units[name] = full * float(rng.uniform(0.85, 1.1)) * shown
    for name in ("AU1", "AU2", "AU4", "AU12", "AU15"):  # nobody's face is still
        units[name] = units[name] + float(rng.uniform(0, 0.16)) * _wander(rng, times)
    _speak(units, loudness(samples, rate, times))
    _blink(units, rng, times, at)
    table = np.clip(np.stack([units[name] for name in UNITS], axis=1), 0, 1)
    frames = [dict(zip(UNITS, row, strict=True)) for row in table.tolist()]
    return Movement(times, frames, _sway(rng, times, emotion, shown), at)


def rise_and_fall(times: np.ndarray, apex: float, seconds: float) -> np.ndarray:
    """Intensity (T,): from rest up to 1 around ``apex``, then down to rest; smooth."""
    hold, ramp = 0.12 * seconds, 0.28 * seconds
    away = np.clip((np.abs(times - apex) - hold) / ramp, 0, 1)
    return _REST + (1 - _REST) * (1 - away * away * (3 - 2 * away))


def loudness(samples: np.ndarray, rate: int, times: np.ndarray) -> np.ndarray:
    """(T,) in 0 .. 1: how loud the sound is around each time, beside its loudest."""
    edges = np.rint(np.concatenate([times - 0.5 / FPS, [times[-1] + 0.5 / FPS]]) * rate)
    edges = np.clip(edges.astype(int), 0, len(samples))
    power = np.concatenate([[0.0], np.cumsum(samples.astype(float) ** 2)])
    mean = np.diff(power[edges]) / np.maximum(np.diff(edges), 1)
    level = np.sqrt(mean)
    return np.clip(level / max(float(np.quantile(level, 0.95)), 1e-9), 0, 1)


def _speak(units: dict[str, np.ndarray], loud: np.ndarray) -> None:
    """The jaw and the lips open with the voice, on top of what they show."""
    tight = 1 - 0.6 * units["AU23"]
    units["AU25"] = units["AU25"] + (1 - units["AU25"]) * 0.7 * loud * tight
    jaw = (1 - 0.7 * units["AU20"]) * tight
    units["AU26"] = 0.65 * units["AU26"] * (1 - loud) + np.maximum(units["AU26"], 0.5 * jaw) * loud


def _blink(
    units: dict[str, np.ndarray], rng: np.random.Generator, times: np.ndarray, apex: float
) -> None:
    """Eyes close about every two seconds, never at the apex."""
    at = float(rng.uniform(0.1, 1.6))
    while at < times[-1]:
        if abs(at - apex) > 1.5 * _BLINK:
            closed = np.clip(1.4 * (1 - np.abs(times - at) / (_BLINK / 2)), 0, 1)
            units["AU43"] = np.maximum(units["AU43"], closed)
        at += float(rng.uniform(1.4, 3.2))


def _wander(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """(T,) in 0 .. 1: a slow wave of random pace and phase."""
    hertz, phase = rng.uniform(0.2, 0.7), rng.uniform(0, 2 * np.pi)
    return np.asarray((1 + np.sin(2 * np.pi * hertz * times + phase)) / 2)


def _sway(
    rng: np.random.Generator, times: np.ndarray, emotion: str, shown: np.ndarray
) -> list[Pose]:
    """The head is never still; it bows in sadness and rises in excitement and surprise."""
    x, y, roll = (2 * _wander(rng, times) - 1 for _ in range(3))
    place = rng.uniform(-1.2, 1.2, size=2)
    nod = {"sad": 1.6, "excited": -1.2, "surprise": -1.0, "angry": 0.6}.get(emotion, 0.0)
    table = np.stack([place[0] + 0.9 * x, place[1] + 0.6 * y + nod * shown, 2.0 * roll], axis=1)
    return [Pose(*row) for row in table.tolist()]
