"""One recorded utterance on one time axis: the face, the words, the sound and its spectrogram."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmer_lib.errors import InputError
from mmer_lib.plots.style import (
    INK,
    MODALITY_COLOURS,
    OTHER_ROLE,
    ROLES,
    Floats,
    crown,
    dress,
    need,
    role_handles,
    say_missing,
)

FACES = 9  # pictures along the axis
_SHADES = plt.get_cmap("magma", 20)  # few, so that the picture stays small
_WINDOW, _HOP = 0.025, 0.010  # seconds, as the features have them
_FLOOR = 60.0  # dB below the loudest: darker than this is not told apart
_HIGHEST = 4000  # Hz: what is above says little about a voice


def recording(
    waveform: npt.ArrayLike | None = None,
    rate: int = 16000,
    pictures: npt.ArrayLike | None = None,
    times: npt.ArrayLike | None = None,
    words: pd.DataFrame | None = None,
    events: pd.DataFrame | None = None,
    title: str = "",
) -> Figure:
    """The face, the words, the waveform and its spectrogram, all over the same seconds.

    ``waveform`` (samples,) at ``rate`` Hz; ``pictures`` (T, H, W, 3) uint8 at ``times`` (T,);
    ``words`` with the columns ``start, end, word``; ``events`` with ``modality, time, role``. What
    is None is shown as missing.
    """
    sound = np.zeros(0) if waveform is None else np.asarray(waveform, dtype=np.float64)
    shown = None if pictures is None else np.asarray(pictures)
    moments = np.zeros(0) if times is None else np.asarray(times, dtype=np.float64)
    if shown is not None and (shown.ndim != 4 or len(shown) != len(moments)):
        raise InputError(
            f"recording: pictures of shape {shown.shape} with {len(moments)} times; expected "
            f"(T, H, W, 3) and T"
        )
    ends = [len(sound) / rate, *moments[-1:]]
    if words is not None and not words.empty:
        need(words, ["start", "end", "word"], "words")
        ends.append(float(words["end"].max()))
    end = max(ends) or 1.0
    figure, axes = plt.subplots(
        4, 1, figsize=(9.0, 5.8), layout="constrained", sharex=True,
        gridspec_kw={"height_ratios": [0.9, 0.55, 1.0, 1.6]},
    )  # fmt: skip
    _show_faces(axes[0], shown, moments, end)
    _show_words(axes[1], words)
    _show_wave(axes[2], sound, rate)
    _show_spectrum(axes[3], sound, rate)
    roles = _mark_events(dict(zip(("video", "text", "audio"), axes, strict=False)), events)
    axes[3].set_xlabel("seconds", fontsize=10)
    axes[3].set_xlim(0, end)
    said = title or "What is seen, said and heard at the same moment?"
    return crown(figure, said, role_handles(roles))


def _show_faces(
    ax: Axes, pictures: npt.NDArray[np.uint8] | None, times: Floats, end: float
) -> None:
    """Pictures at equal steps, each centred on its moment."""
    ax.set_ylim(0, 1)
    if pictures is None or not len(pictures):
        say_missing(ax)
        dress(ax, "", "", "face\n", spines=False, small=True)
        return
    step = end / FACES
    for moment in (np.arange(FACES) + 0.5) * step:
        nearest = int(np.argmin(abs(times - moment)))
        ax.imshow(
            pictures[nearest], extent=(moment - 0.48 * step, moment + 0.48 * step, 0, 1),
            aspect="auto", interpolation="bilinear",
        )  # fmt: skip
    ax.set_yticks([])
    dress(ax, "", "", "face\n", spines=False, small=True)


def _show_words(ax: Axes, words: pd.DataFrame | None) -> None:
    """Each word over the stretch in which it is said, on two lines so that none overlap."""
    ax.set_ylim(0, 2)
    ax.set_yticks([])
    if words is None or words.empty:
        say_missing(ax)
        dress(ax, "", "", "words\n", spines=False, small=True)
        return
    for i, (start, end, word) in enumerate(words[["start", "end", "word"]].to_numpy().tolist()):
        line = 1.0 if i % 2 == 0 else 0.0
        ax.plot([start, end], [line + 0.12] * 2, color=MODALITY_COLOURS["text"], lw=3)
        ax.text((start + end) / 2, line + 0.28, word, ha="center", fontsize=9, color=INK)
    dress(ax, "", "", "words\n", spines=False, small=True)


def _show_wave(ax: Axes, sound: Floats, rate: int) -> None:
    if not len(sound):
        say_missing(ax)
    else:
        seconds = np.arange(len(sound)) / rate
        ax.plot(seconds, sound, color=MODALITY_COLOURS["audio"], lw=0.4)
        limit = float(abs(sound).max()) or 1.0
        ax.set_ylim(-1.05 * limit, 1.05 * limit)
    ax.set_yticks([])
    dress(ax, "", "", "waveform\n", spines=False, small=True)


def _show_spectrum(ax: Axes, sound: Floats, rate: int) -> None:
    """Power of 25 ms windows every 10 ms in dB, up to 4 kHz."""
    if len(sound) < _WINDOW * rate:
        say_missing(ax)
        dress(ax, "", "", "spectrogram\n", spines=False, small=True)
        return
    level, floor = spectrogram(sound, rate)
    ax.imshow(
        level, origin="lower", aspect="auto", cmap=_SHADES, interpolation="nearest",
        vmin=floor, vmax=floor + _FLOOR, extent=(0, len(sound) / rate, 0, rate / 2000),
    )  # fmt: skip
    ax.set_ylim(0, min(_HIGHEST, rate / 2) / 1000)
    dress(ax, "", "", "spectrogram\nkHz", spines=False, small=True)


def spectrogram(sound: Floats, rate: int) -> tuple[Floats, float]:
    """(frequencies, frames) in dB, of Hann windows, and the level from which on it is shown."""
    size, hop = round(_WINDOW * rate), round(_HOP * rate)
    frames = np.lib.stride_tricks.sliding_window_view(sound, size)[::hop]
    power = abs(np.fft.rfft(frames * np.hanning(size), 512 if size <= 512 else size)) ** 2
    level = 10 * np.log10(np.maximum(power, 1e-12)).T
    return level, float(level.max()) - _FLOOR


def _mark_events(panels: dict[str, Axes], events: pd.DataFrame | None) -> list[str]:
    """A line in the panel of its modality for every planted event; their roles."""
    if events is None or events.empty:
        return []
    need(events, ["modality", "time", "role"], "events")
    known = events[events["time"].notna() & events["modality"].isin(list(panels))]
    for modality, time, role in known[["modality", "time", "role"]].to_numpy().tolist():
        marker, colour = ROLES.get(str(role), OTHER_ROLE)
        top = panels[modality].get_ylim()[1]
        panels[modality].plot(
            time, top, marker=marker, color=colour, ms=9, clip_on=False, zorder=5, mec="white"
        )
    return list(known["role"])
