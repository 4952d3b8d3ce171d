"""How an utterance is spoken, in 35 numbers: pitch, loudness, voice, rhythm and colour.

Frames every 10 ms at 16 kHz. A frame is *sounding* if its level is within 25 dB of the loudest
frame (Praat's rule) and above -80 dB of full scale. It is *voiced* if it sounds and repeats itself
at the period that YIN finds (de Cheveigne and Kawahara, 2002): normalised autocorrelation of at
least 0.5. *The speech* is the stretch from the first to the last sounding frame. The
choice of statistics follows the minimal acoustic sets for emotion (Eyben et al., 2016, eGeMAPS).

A statistic of nothing is 0: of pitch where nothing is voiced, of a slope or a change where there
are not two frames; all but the duration for digital silence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmer_lib.features.waveform import HOP, RATE, blocks

LOWEST, HIGHEST = 60.0, 600.0  # Hz: the pitch that is looked for
PITCH_FRAME = 1024  # samples: 64 ms, nearly four periods of the lowest voice
TROUGH = 0.1  # YIN: the first dip below it is the period, else the deepest one
FRAME = 400  # samples: 25 ms, for level, crossings and spectrum
FFT = 512  # samples
VOICED = 0.5  # least normalised autocorrelation
BELOW = 25.0  # dB below the loudest frame at which a pause begins
QUIETEST = -80.0  # dB of full scale: below it nothing sounds
PAUSE = 10  # frames: 100 ms; shorter gaps are closures of consonants
JUMP = 4.5  # semitones: no voice moves as far in 10 ms, so that pitch was mistaken (Praat's 1.3)
ROLLOFF = 0.85  # share of the power below the roll-off
REFERENCE = 27.5  # Hz: zero semitones (eGeMAPS)
SETTINGS = {
    "pitch": [LOWEST, HIGHEST],
    "pitch_frame": PITCH_FRAME,
    "trough": TROUGH,
    "frame": FRAME,
    "voiced": VOICED,
    "below": BELOW,
    "quietest": QUIETEST,
    "pause": PAUSE,
    "jump": JUMP,
    "rolloff": ROLLOFF,
}

# name, unit, what it is
PROSODY: tuple[tuple[str, str, str], ...] = (
    ("pitch_mean", "semitones re 27.5 Hz", "mean F0 of the voiced frames"),
    ("pitch_sd", "semitones", "its standard deviation"),
    ("pitch_p05", "semitones re 27.5 Hz", "5th percentile: the voice's floor"),
    ("pitch_p25", "semitones re 27.5 Hz", "25th percentile"),
    ("pitch_p50", "semitones re 27.5 Hz", "median"),
    ("pitch_p75", "semitones re 27.5 Hz", "75th percentile"),
    ("pitch_p95", "semitones re 27.5 Hz", "95th percentile: the voice's ceiling"),
    ("pitch_slope", "semitones/s", "line fitted to F0 over time"),
    ("pitch_rise", "semitones/s", "mean speed where F0 rises from frame to frame"),
    ("pitch_fall", "semitones/s", "mean speed where it falls (positive)"),
    ("level_mean", "dB of full scale", "mean RMS level of the sounding frames"),
    ("level_sd", "dB", "its standard deviation"),
    ("level_p05", "dB of full scale", "5th percentile"),
    ("level_p25", "dB of full scale", "25th percentile"),
    ("level_p50", "dB of full scale", "median"),
    ("level_p75", "dB of full scale", "75th percentile"),
    ("level_p95", "dB of full scale", "95th percentile"),
    ("level_slope", "dB/s", "line fitted to the level over time"),
    ("level_rise", "dB/s", "mean speed where the level rises from frame to frame"),
    ("level_fall", "dB/s", "mean speed where it falls (positive)"),
    ("jitter", "share of the period", "mean change of the period between voiced neighbours"),
    ("shimmer", "dB", "mean change of the level between voiced neighbours"),
    ("periodicity", "0 to 1", "mean normalised autocorrelation of the voiced frames"),
    ("duration", "s", "length of the clip"),
    ("voiced_share", "0 to 1", "voiced frames of the speech"),
    ("pause_share", "0 to 1", "frames of the speech in pauses of at least 100 ms"),
    ("pause_rate", "1/s", "such pauses a second of speech"),
    ("pause_mean", "s", "their mean length"),
    ("voiced_rate", "1/s", "voiced stretches a second of speech: near the rate of syllables"),
    ("centroid_mean", "Hz", "mean centre of power of the sounding frames' spectra"),
    ("centroid_sd", "Hz", "its standard deviation"),
    ("rolloff_mean", "Hz", "mean frequency below which 85 % of the power lie"),
    ("rolloff_sd", "Hz", "its standard deviation"),
    ("crossings_mean", "1/s", "mean rate of zero crossings of the sounding frames"),
    ("crossings_sd", "1/s", "its standard deviation"),
)
PROSODY_NAMES = tuple(name for name, _, _ in PROSODY)


@dataclass(frozen=True)
class Frames:
    """What is measured every 10 ms, each (T,)."""

    pitch: np.ndarray  # semitones re 27.5 Hz, also where nothing is voiced
    periodicity: np.ndarray  # 0 to 1
    level: np.ndarray  # dB of full scale, at least QUIETEST
    centroid: np.ndarray  # Hz
    rolloff: np.ndarray  # Hz
    crossings: np.ndarray  # 1/s


def prosody(wave: np.ndarray) -> np.ndarray:
    """The numbers of ``PROSODY`` for a waveform at 16 kHz: (N,) -> (35,) float64, all finite."""
    frames = measure(wave)
    sounding = (frames.level > QUIETEST) & (frames.level > frames.level.max() - BELOW)
    voiced = sounding & (frames.periodicity >= VOICED)
    numbers = [
        *_contour(frames.pitch, voiced, JUMP),
        *_contour(frames.level, sounding),
        *_voice(frames, voiced),
        len(wave) / RATE,
        *_rhythm(sounding, voiced),
    ]
    for track in (frames.centroid, frames.rolloff, frames.crossings):
        kept = track[sounding]
        numbers += [kept.mean(), kept.std()] if len(kept) else [0.0, 0.0]
    return np.array(numbers, dtype=np.float64)


def measure(wave: np.ndarray) -> Frames:
    """Pitch, level and spectrum of every frame: (N,) -> T = 1 + N // HOP frames."""
    wave = wave - wave.mean()  # a constant offset is no sound, but would be loud and periodic
    pitch = [_pitch(block) for block in blocks(wave, PITCH_FRAME)]
    colour = [_colour(block) for block in blocks(wave, FRAME)]
    return Frames(*np.concatenate(pitch, axis=1), *np.concatenate(colour, axis=1))


def _pitch(block: np.ndarray) -> np.ndarray:
    """F0 in semitones and periodicity of a stretch: (2, t)."""
    import librosa

    f0 = librosa.yin(
        block,
        fmin=LOWEST,
        fmax=HIGHEST,
        sr=RATE,
        frame_length=PITCH_FRAME,
        hop_length=HOP,
        trough_threshold=TROUGH,
        center=False,
    )
    periodicity = _periodicity(_framed(block, PITCH_FRAME), np.rint(RATE / f0).astype(np.int64))
    return np.stack([12 * np.log2(f0 / REFERENCE), periodicity])


def _periodicity(frames: np.ndarray, period: np.ndarray) -> np.ndarray:
    """How like each frame is to itself a period later, 0 to 1: (t, size), (t,) -> (t,).

    The sum of x[n] x[n + p] over the root of the energies of both parts, the best of p - 1, p and
    p + 1 as the period is no whole number of samples.
    """
    size = frames.shape[1]
    spectrum = np.fft.rfft(frames, 2 * size)  # (t, size + 1); doubled: no wrapping around
    products = np.fft.irfft(spectrum.real**2 + spectrum.imag**2)  # (t, 2 * size): at every lag
    energy = np.cumsum(frames.astype(np.float64) ** 2, axis=1)  # (t, size)
    row = np.arange(len(frames))[:, None]
    lag = period[:, None] + np.arange(-1, 2)  # (t, 3)
    head, tail = energy[row, size - 1 - lag], energy[:, -1:] - energy[row, lag - 1]
    alike = products[row, lag] / np.sqrt(np.maximum(head * tail, 1e-20))  # (t, 3)
    return np.clip(alike.max(axis=1), 0, 1)


def _colour(block: np.ndarray) -> np.ndarray:
    """Level, centroid, roll-off and zero crossings of a stretch: (4, t)."""
    frames = _framed(block, FRAME)
    level = 10 * np.log10(np.maximum((frames**2).mean(axis=1), 10 ** (QUIETEST / 10)))
    spectrum = np.fft.rfft(frames * np.hanning(FRAME + 1)[:-1], FFT)  # (t, FFT // 2 + 1)
    power = spectrum.real**2 + spectrum.imag**2
    hertz = np.fft.rfftfreq(FFT, 1 / RATE)
    cumulated = np.cumsum(power, axis=1)
    total = cumulated[:, -1]
    centroid = power @ hertz / np.maximum(total, 1e-20)
    rolloff = hertz[(cumulated < ROLLOFF * total[:, None]).sum(axis=1)]
    crossings = (np.diff(np.signbit(frames), axis=1)).sum(axis=1) * RATE / (FRAME - 1)
    return np.stack([level, centroid, rolloff, crossings])


def _framed(block: np.ndarray, size: int) -> np.ndarray:
    """The frames of a stretch: (t, size), a view."""
    return np.lib.stride_tricks.sliding_window_view(block, size)[::HOP]


def _contour(values: np.ndarray, kept: np.ndarray, jump: float = np.inf) -> list[float]:
    """Ten statistics of the ``kept`` frames: mean, sd, five percentiles, slope, rise and fall."""
    x = values[kept]
    if not len(x):
        return [0.0] * 10
    seconds = np.flatnonzero(kept) * HOP / RATE
    seconds = seconds - seconds.mean()
    slope = (seconds @ x) / (seconds @ seconds) if len(x) > 1 else 0.0
    change = _changes(values, kept, jump) * RATE / HOP  # a second
    rise, fall = _mean(change[change > 0]), _mean(-change[change < 0])
    return [x.mean(), x.std(), *np.percentile(x, (5, 25, 50, 75, 95)), slope, rise, fall]


def _changes(values: np.ndarray, kept: np.ndarray, jump: float = np.inf) -> np.ndarray:
    """Differences between neighbours that are both ``kept``, but for those above ``jump``."""
    steps = np.diff(values)[kept[1:] & kept[:-1]]
    return steps[np.abs(steps) <= jump]


def _voice(frames: Frames, voiced: np.ndarray) -> list[float]:
    """Jitter, shimmer and periodicity."""
    jitter = np.abs(2 ** (_changes(frames.pitch, voiced, JUMP) / 12) - 1)
    shimmer = np.abs(_changes(frames.level, voiced))
    return [_mean(jitter), _mean(shimmer), _mean(frames.periodicity[voiced])]


def _mean(x: np.ndarray) -> float:
    """0 for nothing."""
    return float(x.mean()) if len(x) else 0.0


def _rhythm(sounding: np.ndarray, voiced: np.ndarray) -> list[float]:
    """Shares of voice and pauses in the speech, pauses and voiced stretches a second."""
    at = np.flatnonzero(sounding)
    if not len(at):
        return [0.0] * 5
    speech = slice(at[0], at[-1] + 1)
    frames = speech.stop - speech.start
    seconds = frames * HOP / RATE
    gaps = _runs(~sounding[speech])
    pauses = gaps[gaps >= PAUSE]
    return [
        voiced[speech].sum() / frames,
        pauses.sum() / frames,
        len(pauses) / seconds,
        _mean(pauses) * HOP / RATE,
        len(_runs(voiced[speech])) / seconds,
    ]


def _runs(true: np.ndarray) -> np.ndarray:
    """The lengths of the runs of True: (T,) -> (runs,)."""
    edges = np.flatnonzero(np.diff(true, prepend=False, append=False))
    return edges[1::2] - edges[::2]
