"""The utterance explorer: listen to it, look at it, read it. Live only: sound is too large."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from IPython.display import Audio

from mmer_lib import plots
from mmer_lib.corpora import Corpus
from mmer_lib.features.decoding import read_frames
from mmer_lib.features.waveform import RATE, read_waveform
from mmer_lib.widgets.base import Book, Drawn, Explorer, chooser, explore, whole_slider


def utterance_explorer(data: Corpus, rate: float = 10.0) -> Explorer:
    """Choose an utterance of a corpus with media: listen to it, look at it and read it.

    Controls have the classes ``e2e-class`` and ``e2e-utterance``, the sentence ``e2e-recording``.
    """
    of_class = {name: np.flatnonzero(data.labels == i) for i, name in enumerate(data.classes)}
    there = [name for name, rows in of_class.items() if len(rows)]
    controls: dict[str, Any] = {
        "class": chooser("class", there),
        "utterance": whole_slider("utterance", 0, 0, len(of_class[there[0]]) - 1),
    }

    def settle(moved: str) -> None:
        last = len(of_class[controls["class"].value]) - 1
        controls["utterance"].value = min(controls["utterance"].value, last)
        controls["utterance"].max = max(1, last)

    def draw(**chosen: Any) -> Drawn:
        rows = of_class[chosen["class"]]
        row = int(rows[min(chosen["utterance"], len(rows) - 1)])
        name = data.utterances["id"].iloc[row]
        heard = read_recording(data, row, rate)
        words = data.known("text")
        said = "" if words is None else words[row]
        picture = plots.recording(**heard, title=f"{name}: {chosen['class']}")
        state = {"id": name, "class": chosen["class"]}
        return Drawn(picture, said, state, _player(heard["waveform"]))

    text = "Choose an utterance, listen to it, and see its face, words, sound and spectrogram."
    return explore(controls, draw, "recording", Book("utterance", "Utterances", text), settle)


def read_recording(data: Corpus, row: int, rate: float = 10.0) -> dict[str, Any]:
    """What ``plots.recording`` draws of an utterance: its sound, pictures, words and events.

    Pictures are read ``rate`` times a second. Words are there where the corpus says when each is
    spoken (``words.csv`` beside its media). Raises ``Unreadable`` where a medium is gone.
    """
    sound, film = data.clip("audio", row), data.clip("video", row)
    pictures, times = (None, None) if film is None else read_frames(film, rate)
    return {
        "waveform": None if sound is None else read_waveform(sound),
        "pictures": pictures,
        "times": times,
        "words": _spoken_words(data, row),
        "events": _planted(data, row),
    }


def _planted(data: Corpus, row: int) -> pd.DataFrame | None:
    """Its events, if the corpus says at which second they are, and not in which frame alone."""
    events = data.events
    return None if events is None or "time" not in events else _of(events, data, row)


def _spoken_words(data: Corpus, row: int) -> pd.DataFrame | None:
    file = None if data.media is None else data.media / "words.csv"
    if file is None or not file.is_file():
        return None
    return _of(pd.read_csv(file, dtype={"id": str}, keep_default_na=False), data, row)


def _of(table: pd.DataFrame, data: Corpus, row: int) -> pd.DataFrame:
    return table[table["id"] == data.utterances["id"].iloc[row]]


def _player(waveform: npt.NDArray[np.float32] | None) -> str:
    """An HTML audio player that holds the sound itself; nothing where there is none."""
    if waveform is None:
        return ""
    return str(Audio(waveform, rate=RATE, normalize=False)._repr_html_())
