"""The saved figures: which of them a cell shows, what they show in words, and as ``data:`` URLs.

``plots.save(figure, name, folder, alt="...", of=runs)`` keeps in the PNG the words, as its
Description, and where it comes from, as its Provenance.
"""

from __future__ import annotations

import ast
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from mmer_lib.provenance import say

PIXELS = 1.5  # of a saved figure (150 dpi) to a pixel of CSS
SMALL = 560  # width in pixels of a picture in the gallery, and
COLOURS = 64  # its number of colours

# Two pictures of one drawing, at 100 and 150 dpi, differ in brightness by up to 4.3 of 255 and are
# correlated by .93 and more (measured over two studies); a drawing of other data fails one of them.
DARKER = 5.0
CORRELATED = 0.92


@dataclass(frozen=True)
class Figure:
    """A picture with its words: PNG bytes, a name if saved, its pixels to a pixel of CSS.

    ``source`` says in a line where it comes from, if that is known.
    """

    png: bytes
    alt: str
    name: str = ""
    pixels: float = 1.0
    source: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in CSS pixels."""
        width, height = Image.open(BytesIO(self.png)).size
        return round(width / self.pixels), round(height / self.pixels)

    @property
    def url(self) -> str:
        """The picture as a ``data:`` URL."""
        return to_url(self.png)

    @property
    def small_url(self) -> str:
        """A smaller picture, with fewer colours."""
        image = Image.open(BytesIO(self.png)).convert("RGB")
        image.thumbnail((SMALL, 2 * SMALL), Image.Resampling.LANCZOS)
        written = BytesIO()
        image.quantize(COLOURS).save(written, "PNG", optimize=True)
        return to_url(written.getvalue())


def to_url(content: bytes, kind: str = "image/png") -> str:
    """Bytes as a ``data:`` URL."""
    return f"data:{kind};base64,{b64encode(content).decode()}"


def read_figure(path: Path) -> Figure:
    """A saved figure, with the words in it if there are any."""
    from mmer_lib.plots.saving import read_texts  # seaborn and all that is imported where needed

    png = path.read_bytes()
    words, about = read_texts(png)
    return Figure(png, words, path.stem, PIXELS, say(about))


def find_figures(source: str, shown: Sequence[str], folder: Path, otherwise: str) -> list[Figure]:
    """The figures of a cell: for each picture in its outputs, the saved one that looks like it.

    ``source`` is the code of the cell, ``shown`` its pictures in base64, ``folder`` where it saved
    them. A picture that was not saved stays as it is, as does one whose file shows other data (of
    another study): of that file it takes the words. ``otherwise`` is said of one without words.
    """
    saved = [read_figure(path) for path in _saved_by(source, folder)]
    found = [_nearest(b64decode(text), saved) for text in shown]
    return [replace(f, alt=f.alt or otherwise) for f in found]


def _saved_by(source: str, folder: Path) -> list[Path]:
    """Files that the calls ``plots.save(figure, name)`` in ``source`` wrote; f-strings fit many."""
    lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
    calls = [n for n in ast.walk(ast.parse("\n".join(lines))) if isinstance(n, ast.Call)]
    names = [c.args[1] for c in calls if ast.unparse(c.func) == "plots.save" and len(c.args) > 1]
    patterns = (_pattern(name) for name in names)
    plain = [p for p in patterns if p and "/" not in p and "\\" not in p]  # stay in the folder
    return [path for pattern in plain for path in sorted(folder.glob(pattern))]


def _pattern(name: ast.expr) -> str:
    """A glob for a name that is a text or an f-string; empty for any other expression."""
    match name:
        case ast.Constant(str(text)):
            return f"{text}.png"
        case ast.JoinedStr(parts):
            texts = (str(p.value) if isinstance(p, ast.Constant) else "*" for p in parts)
            return re.sub(r"\*+", "*", f"{''.join(texts)}.png")
    return ""


def _nearest(png: bytes, saved: Iterable[Figure]) -> Figure:
    """The saved figure that looks most like ``png``; if none is alike, ``png`` in its name."""
    look = _look(png)
    looks = [(f, _look(f.png)) for f in saved]
    if not looks:
        return Figure(png, "")
    nearest, its_look = min(looks, key=lambda pair: float(np.abs(pair[1] - look).mean()))
    return nearest if _alike(look, its_look) else Figure(png, nearest.alt, nearest.name)


def _look(png: bytes) -> np.ndarray:
    """Brightness on a coarse grid, with the shape of the picture beside it: (32, 33)."""
    image = Image.open(BytesIO(png))
    grey = image.convert("L").resize((32, 32), Image.Resampling.BOX)
    shape = np.full(32, 100 * image.width / image.height)
    return np.column_stack([np.asarray(grey, dtype=np.float64), shape])


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two looks are of one drawing; see ``DARKER`` and ``CORRELATED``."""
    if np.array_equal(one, other):
        return True
    darker = np.abs(one - other).mean()
    a, b = (look[:, :-1] - look[:, :-1].mean() for look in (one, other))
    together = (a * b).sum() >= CORRELATED * np.sqrt((a**2).sum() * (b**2).sum())
    return bool(darker < DARKER and together)
