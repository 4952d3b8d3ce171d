"""Explorers for the notebooks: a few controls, and one picture that follows them.

The picture is a PNG that changes when a control is let go; every state is also written into a
label's ``data-*`` attributes, for people, screen readers and tests. A notebook shows the same
picture once more as a figure, for readers without a kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from io import BytesIO
from typing import Any

import ipywidgets as W
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
from IPython.display import Audio
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmer_lib import plots
from mmer_lib.corpora import Corpus
from mmer_lib.features.decoding import read_frames
from mmer_lib.features.waveform import RATE, read_waveform
from mmer_lib.stats import compare

# The picture, what it says, the state of the controls (and a player under "sound").
Drawn = tuple[Figure, str, dict[str, str]]


def verdict_explorer(
    table: pd.DataFrame,
    pairs: list[tuple[str, str]],
    metric: str = "balanced_accuracy",
    margin: float = 0.01,
    alpha: float = 0.05,
    estimand: str = "new data",
) -> W.VBox:
    """Move the margin and the confidence, and watch the verdict on a pair of configurations.

    ``table`` is a table of runs and ``pairs`` those to choose from, as for ``stats.compare``.
    Controls have the classes ``e2e-pair``, ``e2e-margin`` and ``e2e-confidence``, the label
    ``e2e-verdict``.
    """
    names = [(f"{a} against {b}", (a, b)) for a, b in pairs]
    controls = {
        "pair": W.Dropdown(options=names, value=pairs[0], description="pair"),
        "margin": _slider("margin, points", 100 * margin, 0.1, 10.0, 0.1),
        "confidence": _slider("confidence, %", 100 * (1 - alpha), 80.0, 99.5, 0.5),
    }

    def draw(pair: tuple[str, str], margin: float, confidence: float) -> Drawn:
        one = compare(table, *pair, metric, margin / 100, 1 - confidence / 100, estimand)
        state = {"verdict": one.verdict, "margin": f"{margin:.1f}", "confidence": f"{confidence:g}"}
        return _whole(plots.posterior(one)), one.sentence(), state

    return _explorer(controls, draw, label="e2e-verdict")


def utterance_explorer(data: Corpus, rate: float = 10.0) -> W.VBox:
    """Choose an utterance of a corpus with media: listen to it, look at it and read it.

    Controls have the classes ``e2e-class`` and ``e2e-utterance``, the label ``e2e-recording``.
    """
    of_class = {name: np.flatnonzero(data.labels == i) for i, name in enumerate(data.classes)}
    there = [name for name, rows in of_class.items() if len(rows)]
    controls = {
        "class": W.Dropdown(options=there, description="class"),
        "utterance": W.IntSlider(
            value=0, min=0, max=len(of_class[there[0]]) - 1, description="utterance",
            continuous_update=False,
        ),
    }  # fmt: skip

    def draw(**chosen: Any) -> Drawn:
        rows = of_class[chosen["class"]]
        place = min(chosen["utterance"], len(rows) - 1)
        controls["utterance"].max = len(rows) - 1
        row = int(rows[place])
        name = data.utterances["id"].iloc[row]
        heard = read_recording(data, row, rate)
        words = data.known("text")
        said = "" if words is None else words[row]
        state = {"id": name, "class": chosen["class"], "sound": _player(heard["waveform"])}
        return plots.recording(**heard, title=f"{name}: {chosen['class']}"), said, state

    return _explorer(controls, draw, label="e2e-recording")


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
        "events": None if data.events is None else _of(data.events, data, row),
    }


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


def _whole(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure


def _slider(text: str, value: float, low: float, high: float, step: float) -> W.FloatSlider:
    return W.FloatSlider(
        value=min(max(value, low), high), min=low, max=high, step=step, description=text,
        continuous_update=False, style={"description_width": "initial"},
        layout=W.Layout(width="28em"),
    )  # fmt: skip


def _explorer(controls: dict[str, Any], draw: Callable[..., Drawn], label: str) -> W.VBox:
    """Controls above, the picture they decide below, and what it says beside it."""
    picture, said = W.Image(format="png"), W.HTML()
    said.add_class(label)
    for name, control in controls.items():
        control.add_class(f"e2e-{name}")

    def follow(_: Any = None) -> None:
        figure, text, state = draw(**{name: control.value for name, control in controls.items()})
        player = state.pop("sound", "")
        picture.value = _png(figure)
        data = " ".join(f'data-{key}="{escape(str(value))}"' for key, value in state.items())
        said.value = f'<div {data} style="max-width: 60em">{escape(text)}</div>{player}'

    for control in controls.values():
        control.observe(follow, names="value")
    follow()
    return W.VBox([*controls.values(), picture, said])


def _png(figure: Figure) -> bytes:
    """A figure as PNG bytes; the figure is closed, so that a notebook does not show it twice."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100, bbox_inches="tight")
    plt.close(figure)
    return buffer.getvalue()
