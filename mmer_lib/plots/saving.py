"""Figures as files: PNGs with their words and where they come from inside.

A PNG holds two texts: ``Description``, what is shown, for one who cannot see it; and
``Provenance``, JSON with ``of`` (the data that was drawn) and ``made`` (versions, commit, machine,
date), as ``mmer_lib.provenance`` tells them.
"""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from mmer_lib.errors import InputError
from mmer_lib.plots.style import DPI, figure_of
from mmer_lib.provenance import describe_sources, provenance


def save(
    figure: Figure | Axes,
    name: str,
    folder: str | Path = "figures",
    alt: str = "",
    of: Any = None,
) -> Path:
    """Write ``folder/name.png``, with its words and provenance in it, and return its path.

    ``alt`` says in a sentence what is shown, for one who cannot see it. ``of`` is what was drawn: a
    corpus, a table of runs, what ``read_summary`` tells, or a list of them; None if it is no data.

    A file that shows the same already, in the same words and of the same data, stays as it is, its
    date and commit included: they tell when and by what it came to look so, and a study that is
    run again changes only the figures that look otherwise. One that was drawn by changed code is
    written again when committed code draws the same.

    Raises ``InputError`` for a name with a folder or suffix in it, or an unwritable folder, and
    for an ``of`` that is none of these.
    """
    if not name or Path(name).name != name or Path(name).suffix:
        raise InputError(f"figure name {name!r}: give a bare name, such as 'scores'")
    drawn = figure if isinstance(figure, Figure) else figure_of(figure)
    if "inline" in matplotlib.get_backend():  # shows it behind the cell, and pyplot would draw it
        plt.uninstall_repl_displayhook()  # once more before that, for no eye
    told = json.dumps({"of": describe_sources(of), "made": provenance()})
    texts = {"Software": None, "Provenance": told} | ({"Description": alt} if alt else {})
    png = BytesIO()
    drawn.savefig(png, format="png", dpi=DPI, bbox_inches="tight", metadata=texts)
    path = Path(folder) / f"{name}.png"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and _may_stay(path.read_bytes(), png.getvalue()):
            path.touch()  # so that whoever asks what was saved is told of it
        else:
            path.write_bytes(png.getvalue())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def read_texts(png: bytes) -> tuple[str, dict[str, Any]]:
    """The words of a saved figure, and ``of`` and ``made``; nothing for what it does not hold."""
    with Image.open(BytesIO(png)) as image:
        image.load()
        words, told = (str(image.info.get(key, "")) for key in ("Description", "Provenance"))
    try:
        about = json.loads(told or "{}")
    except ValueError:
        about = {}
    return words, about if isinstance(about, dict) else {}


def _may_stay(old: bytes, new: bytes) -> bool:
    """Whether a file shows, says and is of the same as a new one, and of code as good."""
    try:
        (words, about), (new_words, new_about) = read_texts(old), read_texts(new)
        if _pixels(old) != _pixels(new):
            return False
    except (OSError, SyntaxError, ValueError):  # no picture: it was cut, or is something else
        return False
    made, new_made = about.get("made", {}), new_about["made"]
    better = made.get("modified") is not False and new_made["modified"] is False
    return words == new_words and about.get("of") == new_about["of"] and not better


def _pixels(png: bytes) -> tuple[tuple[int, int], bytes]:
    with Image.open(BytesIO(png)) as image:
        return image.size, image.convert("RGBA").tobytes()
