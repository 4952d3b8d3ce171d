"""The saved figures: which of them a cell shows, what they show in words, and as ``data:`` URLs.

``plots.save(figure, name, folder, alt="...")`` keeps the words in the PNG, as its Description.
"""

from __future__ import annotations

import ast
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

PIXELS = 1.5  # of a saved figure (150 dpi) to a pixel of CSS
SMALL = 560  # width in pixels of a picture in the gallery, and
COLOURS = 64  # its number of colours


@dataclass(frozen=True)
class Figure:
    """A picture with its words: PNG bytes, width and height in CSS pixels; a name if saved."""

    png: bytes
    alt: str
    name: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in CSS pixels; a figure that was not saved has one to one."""
        width, height = Image.open(BytesIO(self.png)).size
        scale = PIXELS if self.name else 1.0
        return round(width / scale), round(height / scale)

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
    png = path.read_bytes()
    return Figure(png, str(Image.open(BytesIO(png)).info.get("Description", "")), path.stem)


def find_figures(source: str, shown: Sequence[str], folder: Path, otherwise: str) -> list[Figure]:
    """The figures of a cell: for each picture in its outputs, the saved one that looks like it.

    ``source`` is the code of the cell, ``shown`` its pictures in base64, ``folder`` where it saved
    them. A picture that was not saved stays as it is; ``otherwise`` is said of one without words.
    """
    saved = [read_figure(path) for path in _saved_by(source, folder)]
    found = [_nearest(b64decode(text), saved) for text in shown]
    return [Figure(f.png, f.alt or otherwise, f.name) for f in found]


def _saved_by(source: str, folder: Path) -> list[Path]:
    """Files that the calls ``plots.save(figure, name)`` in ``source`` wrote; f-strings fit many."""
    lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
    calls = [n for n in ast.walk(ast.parse("\n".join(lines))) if isinstance(n, ast.Call)]
    names = [c.args[1] for c in calls if ast.unparse(c.func) == "plots.save" and len(c.args) > 1]
    patterns = (_pattern(name) for name in names)
    return [path for pattern in patterns if pattern for path in sorted(folder.glob(pattern))]


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
    """The saved figure that looks most like ``png``, which is drawn with fewer pixels."""
    candidates = list(saved)
    if len(candidates) < 2:
        return candidates[0] if candidates else Figure(png, "")
    look = _look(png)
    return min(candidates, key=lambda f: float(np.abs(_look(f.png) - look).mean()))


def _look(png: bytes) -> np.ndarray:
    """Brightness on a coarse grid, with the shape of the picture beside it: (32, 33)."""
    image = Image.open(BytesIO(png))
    grid = np.asarray(image.convert("L").resize((32, 32)), dtype=np.float64)
    return np.column_stack([grid, np.full(32, 100 * image.width / image.height)])
