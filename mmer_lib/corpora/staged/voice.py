"""Speech by eSpeak NG whose manner follows the emotion: 16 kHz, mono, 16 bit, with word times.

``Manner`` says how an utterance departs from the speaker's neutral voice. The directions are those
on which studies of vocal expression agree (Juslin and Laukka 2003, Table 7; Scherer 2003, Table 2);
frustration, which they do not list, is taken as tense, cold anger (Banse and Scherer 1996). The
sizes are ours: large enough to be heard through a synthesizer.

eSpeak NG keeps a state from one sentence to the next, so the same sentence differs by some samples
with what was said before. ``record`` therefore says all of a corpus in one new process.
"""

from __future__ import annotations

import ctypes
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from mmer_lib.errors import InputError
from mmer_lib.extras import need_extra
from mmer_lib.features.text import words as spans_of_words

RATE = 16000  # samples a second
BEFORE, AFTER = 0.12, 0.2  # seconds of silence around the speech
STRESS = 5.0  # dB: how much louder the stressed words are
_LEVEL = -27.0  # dB below full scale: the speech of a neutral voice
_HISS = 2.5e-4  # standard deviation of the recording's noise, of full scale 1
_SEMITONE = 6.3  # steps of eSpeak's pitch setting, measured on the voices of the cast


@dataclass(frozen=True)
class Manner:
    """How a voice departs from its neutral self."""

    pitch: float = 0.0  # semitones
    range: float = 1.0  # factor of how far the pitch moves
    rate: float = 1.0  # factor of words a minute
    loudness: float = 0.0  # dB
    brightness: float = 0.0  # dB an octave above 500 Hz: a tense voice is bright
    ending: str = "."  # the melody that eSpeak gives to this mark


MANNERS = {
    "angry": Manner(2.0, 1.5, 1.14, 6.0, 1.6, "!"),
    "excited": Manner(5.0, 1.7, 1.2, 4.5, 0.8, "!"),
    "happy": Manner(3.0, 1.4, 1.06, 1.5, 0.4, "."),
    "sad": Manner(-2.5, 0.5, 0.78, -6.0, -1.6, "."),
    "frustrated": Manner(-1.0, 0.75, 0.94, 3.0, 1.4, "."),
    "surprise": Manner(5.5, 1.9, 0.92, 1.0, -0.4, "?"),
    "neutral": Manner(),
}


def manner(emotion: str, strength: float = 1.0) -> Manner:
    """The manner of an emotion; a ``strength`` of 0 is neutral."""
    full = MANNERS[emotion]
    return Manner(
        strength * full.pitch,
        full.range**strength,
        full.rate**strength,
        strength * full.loudness,
        strength * full.brightness,
        full.ending if strength > 0 else ".",
    )


@dataclass(frozen=True)
class Word:
    """A spoken word: its characters [first, last) in the text and its time in seconds."""

    first: int
    last: int
    start: float
    end: float


@dataclass(frozen=True)
class Spoken:
    """An utterance: ``samples`` (n,) int16 at ``RATE`` and its words in order."""

    samples: np.ndarray
    words: tuple[Word, ...]

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / RATE

    def peak(self, span: tuple[int, int]) -> float:
        """When the words of ``span`` (characters [from, to)) are loudest, in seconds."""
        times = [(w.start, w.end) for w in self.words if w.first < span[1] and span[0] < w.last]
        first, last = round(times[0][0] * RATE), round(times[-1][1] * RATE)
        window = np.hanning(round(0.04 * RATE))
        power = np.convolve(self.samples[first:last].astype(float) ** 2, window, mode="same")
        return float((first + int(power.argmax())) / RATE)


def speak(
    text: str,
    variant: str = "en-us",
    rate: float = 180,
    expressed: Manner | None = None,
    stressed: tuple[int, int] | None = None,
    pitch: float = 0.0,
    seed: int = 0,
) -> Spoken:
    """Say ``text`` with a voice variant of eSpeak NG (``en-us+f2``).

    ``rate`` in words a minute, ``pitch`` of the speaker in semitones; the characters ``stressed``
    are said higher, slower and louder; ``seed`` is of the recording's noise.

    Raises ``InputError`` if eSpeak NG is missing, does not know the voice, or the text has no word.
    """
    given = expressed or Manner()
    settings = {
        "rate": round(rate * given.rate),
        "pitch": round(50 + _SEMITONE * (pitch + given.pitch)),
        "range": round(50 * given.range),
    }
    spans = [s for s in spans_of_words(text) if any(c.isalnum() for c in text[s[0] : s[1]])]
    if not spans:
        raise InputError(f"speak: nothing to say in {text!r}: a text with words expected")
    marked, positions = _mark(text, given.ending, stressed)
    raw, rate_in, events = _engine().say(marked, variant, settings)
    heard = [(positions.get(place, -1), time) for place, time in events]
    words = _words(spans, heard, len(raw) / rate_in)
    sound = _resample(raw, rate_in)
    return Spoken(_finish(sound, words, given, stressed, seed), words)


def _mark(text: str, ending: str, stressed: tuple[int, int] | None) -> tuple[str, dict[int, int]]:
    """SSML with the stress and the ending, and its characters: place in SSML -> place in text."""
    spoken = text.rstrip(".!?") + ending
    first, last = stressed or (len(spoken), len(spoken))
    marked, positions = "", {}
    for i, character in enumerate(spoken):
        if i == first:
            marked += '<prosody pitch="+25%" rate="0.9">'
        if i == last:
            marked += "</prosody>"
        positions[len(marked)] = i
        marked += escape(character)
    return marked + ("</prosody>" if first < len(spoken) <= last else ""), positions


def _words(
    spans: Sequence[tuple[int, int]], events: Sequence[tuple[int, float]], seconds: float
) -> tuple[Word, ...]:
    """Word times from (character, seconds) events.

    eSpeak says some pairs ("of the") as one word: the pair's time is shared out by characters.
    """
    starts = np.full(len(spans) + 1, np.nan)
    for at, time in reversed(events):  # of two in a word the first counts
        for i, (first, last) in enumerate(spans):
            if first <= at < last:
                starts[i] = time
    starts[[0, -1]] = 0.0, seconds
    edges = np.array([first for first, _ in spans] + [spans[-1][1]], float)
    known = ~np.isnan(starts)
    times = BEFORE + np.interp(edges, edges[known], starts[known])
    return tuple(
        Word(first, last, float(start), float(end))
        for (first, last), start, end in zip(spans, times[:-1], times[1:], strict=True)
    )


def _resample(raw: np.ndarray, rate: int) -> np.ndarray:
    """int16 at ``rate`` -> float64 at RATE, of full scale 1."""
    from math import gcd

    from scipy.signal import resample_poly

    common = gcd(RATE, rate)
    return np.asarray(resample_poly(raw / 32768, RATE // common, rate // common))


def _finish(
    sound: np.ndarray,
    words: Sequence[Word],
    given: Manner,
    stressed: tuple[int, int] | None,
    seed: int,
) -> np.ndarray:
    """Brightness, stress, loudness, the silence around and the recording's noise: (n,) int16."""
    sound = _tilt(sound, given.brightness)
    level = 10 ** ((_LEVEL + given.loudness) / 20)
    sound = sound * level / max(float(np.sqrt(np.mean(sound**2))), 1e-6)
    sound = np.pad(sound, (round(BEFORE * RATE), round(AFTER * RATE)))
    if stressed is not None:
        sound = sound * _swell(len(sound), words, stressed)
    sound = sound + _HISS * np.random.default_rng(seed).standard_normal(len(sound))
    return np.rint(np.clip(sound, -1, 1) * 32767).astype(np.int16)


def _tilt(sound: np.ndarray, brightness: float) -> np.ndarray:
    """Raise (or lower) what lies above 500 Hz by ``brightness`` dB an octave."""
    spectrum = np.fft.rfft(sound)
    hertz = np.fft.rfftfreq(len(sound), 1 / RATE)
    octaves = np.log2(np.maximum(hertz, 500) / 500)
    return np.fft.irfft(spectrum * 10 ** (brightness * octaves / 20), len(sound))


def _swell(samples: int, words: Sequence[Word], stressed: tuple[int, int]) -> np.ndarray:
    """A gain (samples,) that is STRESS dB in the stressed words and 0 dB elsewhere."""
    gain = np.zeros(samples)
    for word in words:
        if word.first < stressed[1] and stressed[0] < word.last:
            gain[round(word.start * RATE) : round(word.end * RATE)] = STRESS
    soft = np.hanning(round(0.05 * RATE))
    return np.asarray(10 ** (np.convolve(gain, soft / soft.sum(), mode="same") / 20))


# -- files -----------------------------------------------------------------------------------------


def write_wav(path: Path, samples: np.ndarray) -> None:
    """(n,) int16 at RATE -> a wav file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes())


def read_wav(path: Path) -> np.ndarray:
    """What ``write_wav`` wrote: (n,) int16."""
    with wave.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


# -- eSpeak NG -------------------------------------------------------------------------------------

_SYNCHRONOUS, _DONT_EXIT, _OK = 2, 0x8000, 0
_WORD, _LAST = 1, 0  # types of events
_CHARACTERS, _UTF8, _SSML = 1, 1, 0x10
_PARAMETERS = {"rate": (1, 80, 450), "pitch": (3, 0, 99), "range": (4, 0, 99)}


class _Event(ctypes.Structure):
    """``espeak_EVENT`` of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@lru_cache(maxsize=1)
def _engine() -> _Engine:
    return _Engine()


class _Engine:
    """The library, loaded once a process. Raises ``InputError`` if it is not there."""

    def __init__(self) -> None:
        need_extra("staged", "a synthetic voice")
        import espeakng_loader

        try:
            self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        except OSError as error:
            raise InputError(f"eSpeak NG cannot be loaded: {error}") from error
        data = Path(espeakng_loader.get_data_path())
        self.sound: list[np.ndarray] = []
        self.events: list[tuple[int, float]] = []
        self.rate = self.library.espeak_Initialize(
            _SYNCHRONOUS, 0, str(data.parent).encode(), _DONT_EXIT
        )
        if self.rate <= 0:
            raise InputError(
                f"eSpeak NG cannot read its data at {data}: install the extra `staged` again, "
                f"where the path is shorter than 150 characters"
            )
        self.callback = _Callback(self._receive)  # kept: C holds no reference
        self.library.espeak_SetSynthCallback(self.callback)

    def say(
        self, marked: str, variant: str, settings: dict[str, int]
    ) -> tuple[np.ndarray, int, list[tuple[int, float]]]:
        """(n,) int16, its rate, and (place in ``marked``, seconds) of every word."""
        if self.library.espeak_SetVoiceByName(variant.encode()) != _OK:
            raise InputError(f"eSpeak NG has no voice {variant!r}: one is 'en-us+f2'")
        for name, value in settings.items():
            number, least, most = _PARAMETERS[name]
            self.library.espeak_SetParameter(number, min(most, max(least, value)), 0)
        self.library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # else the breath follows the clock
        self.sound, self.events = [], []
        given = marked.encode()
        self.library.espeak_Synth(
            given, len(given) + 1, 0, _CHARACTERS, 0, _UTF8 | _SSML, None, None
        )
        none = [np.zeros(0, np.int16)]
        return np.concatenate(self.sound or none), self.rate, self.events

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        """Called by eSpeak with some sound and the events in it."""
        if samples and count:
            self.sound.append(np.ctypeslib.as_array(samples, (count,)).copy())
        i = 0
        while events[i].type != _LAST:
            if events[i].type == _WORD:
                self.events.append((events[i].text_position - 1, events[i].sample / self.rate))
            i += 1
        return 0
