"""What all explorers share: controls above, one picture below, a sentence, and data for the book.

An explorer has three layers. Live: ipywidgets that draw a PNG when a control is let go. Static: the
same picture as a figure of ``mmer_lib.plots``. Book: beside the widget view its display bundle
carries ``MIME``, from which a script in ``scripts/<kind>.js`` draws the picture without a kernel:

    {"kind": ..., "title": ..., "text": one sentence, "data": plain JSON, see each explorer}

The state of the controls stands in ``data-*`` attributes, for people, screen readers and tests.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from io import BytesIO
from typing import Any

import ipywidgets as W
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmer_lib.errors import InputError, unknown

MIME = "application/vnd.mmer.explorer+json"
LARGEST = 150_000  # bytes of a bundle as JSON
WHOLE_NAMES = (  # beside a slider, where JupyterLab would cut them
    "<style>.mmer-explorer .widget-readout {max-width: none; overflow: visible}</style>"
)
SCRIPTED = ("attention", "qkv", "pooling", "folds", "verdict", "zoo")  # kinds with a script


@dataclass(frozen=True)
class Drawn:
    """A picture, the sentence it says, the state of the controls, and a player's HTML if any."""

    figure: Figure | Axes
    text: str
    state: Mapping[str, object]
    player: str = ""


@dataclass(frozen=True)
class Book:
    """What the book's layer is made of; ``data`` None: the book shows the static picture alone."""

    kind: str
    title: str
    text: str
    data: Any = field(default=None, repr=False)


class Explorer(W.VBox):
    """Controls, the picture that follows them, and what it says; see the module's first lines."""

    def __init__(self, children: Sequence[W.Widget], book: Book) -> None:
        """Raises ``InputError`` where the book's data would be larger than ``LARGEST``."""
        size = len(json.dumps(book.data, allow_nan=False))
        if size > LARGEST:
            raise InputError(
                f"{book.kind} explorer: {size:,} bytes of data for the book, at most {LARGEST:,} "
                f"expected: give it less to choose from"
            )
        self.book = book
        super().__init__(list(children))
        self.add_class("mmer-explorer")

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**kwargs)
        bundle["text/plain"] = f"{self.book.title}: {self.book.text}"
        if self.book.data is not None:
            bundle[MIME] = {
                name: getattr(self.book, name) for name in ("kind", "title", "text", "data")
            }
        return bundle


def explore(
    controls: dict[str, Any],
    draw: Callable[..., Drawn],
    label: str,
    book: Book,
    settle: Callable[[str], None] | None = None,
    layout: Sequence[W.Widget] | None = None,
) -> Explorer:
    """Controls above, the picture they decide below, and what it says beside it.

    Every control gets the class ``e2e-<name>``, the sentence ``e2e-<label>``. ``settle`` is told
    which control moved and may move others before the picture is drawn once. What cannot be drawn
    is said in the sentence. ``layout``: other rows to show than the controls one below the other.
    """
    picture, said = W.Image(format="png"), W.HTML()
    said.add_class(f"e2e-{label}")
    busy = False

    def follow(change: Any = None) -> None:
        nonlocal busy
        if busy:
            return
        busy = True
        try:
            if settle and change is not None:
                settle(next(name for name, c in controls.items() if c is change["owner"]))
            picture.value, said.value = _show(draw, {n: c.value for n, c in controls.items()})
        finally:
            busy = False

    for name, control in controls.items():
        control.add_class(f"e2e-{name}")
        control.observe(follow, names="value")
    follow()
    return Explorer([*(layout or controls.values()), picture, said], book)


def _show(draw: Callable[..., Drawn], chosen: dict[str, Any]) -> tuple[bytes, str]:
    """The picture and the sentence of a state; of one that cannot be drawn, why."""
    try:
        drawn = draw(**chosen)
    except InputError as error:
        plt.close("all")
        figure = plt.figure(figsize=(6, 0.4))
        drawn = Drawn(figure, f"Nothing to draw: {error}", {"failed": "yes"})
    data = " ".join(f'data-{key}="{escape(str(value))}"' for key, value in drawn.state.items())
    text = f'<div {data} role="status" style="max-width: 60em">{escape(drawn.text)}</div>'
    return to_png(drawn.figure), WHOLE_NAMES + text + drawn.player


def to_png(drawn: Figure | Axes) -> bytes:
    """A figure as PNG bytes; the figure is closed, so that a notebook does not show it twice."""
    figure = drawn if isinstance(drawn, Figure) else drawn.get_figure(root=True)
    assert isinstance(figure, Figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100, bbox_inches="tight")
    plt.close(figure)
    return buffer.getvalue()


def slider(text: str, value: float, low: float, high: float, step: float) -> W.FloatSlider:
    """A labelled slider that reports when it is let go; ``value`` is moved into the range."""
    return W.FloatSlider(
        value=min(max(value, low), high), min=low, max=high, step=step, description=text,
        continuous_update=False, style={"description_width": "initial"},
        layout=W.Layout(width="28em"),
    )  # fmt: skip


def whole_slider(text: str, value: int, low: int, high: int) -> W.IntSlider:
    """A labelled slider over whole numbers; there must be two at least for a handle to move."""
    return W.IntSlider(
        value=min(max(value, low), high), min=low, max=max(high, low + 1), description=text,
        continuous_update=False, style={"description_width": "initial"},
        layout=W.Layout(width="28em"),
    )  # fmt: skip


def chooser(text: str, options: Sequence[Any], value: Any = None) -> W.SelectionSlider | W.Dropdown:
    """A labelled slider over options; the first is chosen where ``value`` is None.

    Not a list: JupyterLab takes the arrow keys of a list for its own. A slider needs two options.
    """
    chosen = {} if value is None else {"value": value}
    style = {"description_width": "initial"}
    if len(options) < 2:
        return W.Dropdown(options=list(options), description=text, style=style, **chosen)
    return W.SelectionSlider(
        options=list(options), description=text, continuous_update=False, style=style,
        layout=W.Layout(width="36em"), **chosen,
    )  # fmt: skip


def pack(values: npt.ArrayLike, top: float | None = None) -> dict[str, Any]:
    """Numbers of 0 .. ``top`` (their largest) as uint8 in base64, with shape and scale.

    ``scale * uint8 / 255`` is the number again, to within ``scale / 510``.
    """
    x = np.asarray(values, dtype=np.float64)
    scale = float(x.max(initial=0.0)) if top is None else top
    scale = scale or 1.0
    small = np.round(255 * np.clip(x / scale, 0, 1)).astype(np.uint8)
    return {"shape": list(x.shape), "scale": scale, "data": b64encode(small.tobytes()).decode()}


def script(kind: str = "common") -> str:
    """The JavaScript of one kind of explorer, or what all of them need ("common")."""
    if kind not in ("common", *SCRIPTED):
        raise unknown("kind of explorer:", kind, ("common", *SCRIPTED))
    return files("mmer_lib.widgets").joinpath(f"scripts/{kind}.js").read_text(encoding="utf-8")
