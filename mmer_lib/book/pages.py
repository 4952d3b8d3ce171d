"""Pages: an executed notebook or a markdown file, turned into HTML with its sections."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from mmer_lib.book.figures import Figure, find_figures
from mmer_lib.book.markdown import PageRenderer, Place, Section, code_block, plain_text
from mmer_lib.book.outputs import (
    EXPLORER,
    WIDGET,
    explorer_block,
    figure_block,
    html_block,
    text_block,
)
from mmer_lib.errors import InputError
from mmer_lib.pipeline.notebooks import import_nbformat

NEEDS_KERNEL = "An explorer stands here: run this cell in JupyterLab to move it."
HIDDEN = {  # tag of a cell -> what it hides behind
    "solution": "Solution",
    "injected-parameters": "Parameters of this run",
}


@dataclass
class Page:
    """A page of the book; ``opening`` is the HTML of a notebook's first cell."""

    name: str
    title: str
    body: str
    sections: list[Section] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)  # of explorers
    opening: str = ""

    @property
    def file(self) -> str:
        """``05_comparison.html``."""
        return f"{self.name}.html"

    @property
    def contents(self) -> list[Section]:
        """The sections that the sidebar lists."""
        return [section for section in self.sections if section.level == 2]


def read_markdown(path: Path, place: Place) -> Page:
    """A markdown file as a page."""
    renderer = PageRenderer(path.name, place)
    body = renderer.render(path.read_text(encoding="utf-8"))
    prose = f'<div class="prose">\n{body}</div>\n'
    return Page(path.stem, _title(renderer, path), prose, renderer.sections)


def read_notebook(path: Path, place: Place, figures: Path) -> Page:
    """An executed notebook as a page; ``figures`` is the folder in which it saved its figures.

    Raises ``InputError`` for one that cannot be read, or a formula that cannot be drawn.
    """
    nbformat = import_nbformat()
    try:
        node = nbformat.read(path, as_version=4)
    except (ValueError, AttributeError, nbformat.ValidationError) as error:
        raise InputError(f"{path} is not a readable notebook: {error}") from error
    writer = _NotebookWriter(PageRenderer(path.name, place), figures)
    pieces = list(writer.write(node.cells))
    page = Page(path.stem, _title(writer.renderer, path), "".join(pieces))
    page.sections, page.figures = writer.renderer.sections, writer.figures
    page.kinds, page.opening = writer.kinds, pieces[0]
    return page


def _title(renderer: PageRenderer, path: Path) -> str:
    if not renderer.sections:
        raise InputError(f"{path}: no heading in it: begin with `# Title`")
    return renderer.sections[0].title


class _NotebookWriter:
    """Writes the cells of one notebook, and remembers its figures and kinds of explorers."""

    def __init__(self, renderer: PageRenderer, folder: Path) -> None:
        self.renderer, self.folder = renderer, folder
        self.figures: list[Figure] = []
        self.kinds: set[str] = set()

    def write(self, cells: Iterable[Any]) -> Iterator[str]:
        """HTML of the cells; what is hidden together stands in one element ``details``."""
        for summary, group in groupby(_with_checks(cells), key=lambda pair: pair[1]):
            pieces = [self._cell(cell) for cell, _ in group]
            if summary:
                head = f"<details><summary>{summary}</summary>\n"
                pieces = [head, *pieces, "</details>\n"]
            yield from pieces

    def _cell(self, cell: Any) -> str:
        if cell.cell_type == "markdown":
            html = self.renderer.render(cell.source)
            return f'<div class="prose" id="{escape(cell.id)}">\n{html}</div>\n'
        if cell.cell_type != "code" or not cell.source.strip():
            return ""
        self.renderer.remember(cell.source)
        outputs = "".join(self._outputs(cell))
        if outputs:
            outputs = f'<div class="outputs">\n{outputs}</div>\n'
        return (
            f'<div class="cell" id="{escape(cell.id)}">\n{code_block(cell.source)}{outputs}</div>\n'
        )

    def _outputs(self, cell: Any) -> Iterator[str]:
        """HTML of each output of a code cell."""
        bundles = [output.get("data", {}) for output in cell.outputs]
        shown = [data["image/png"] for data in bundles if _is_picture(data)]
        section = self.renderer.sections[-1].title if self.renderer.sections else cell.id
        otherwise = f"A figure without a description, of the section “{section}”."
        pictures = iter(find_figures(cell.source, shown, self.folder, otherwise))
        for output, data in zip(cell.outputs, bundles, strict=True):
            if output.output_type == "stream":
                yield text_block(output.text)
            elif output.output_type == "error":
                yield text_block(f"{output.ename}: {output.evalue}")
            elif _is_picture(data):
                yield self._figure(next(pictures))
            else:
                yield self._bundle(data, section)

    def _figure(self, figure: Figure) -> str:
        self.figures.append(figure)
        self.renderer.remember(figure.alt)
        return figure_block(figure)

    def _bundle(self, data: Any, section: str) -> str:
        """The richest of the forms of an output that a page can show."""
        if EXPLORER in data:
            if not re.fullmatch("[a-z]+", data[EXPLORER]["kind"]):  # the name of a script of ours
                raise InputError(f"explorer of kind {data[EXPLORER]['kind']!r}: no such kind")
            self.kinds.add(data[EXPLORER]["kind"])
            return explorer_block(data[EXPLORER])
        if WIDGET in data:
            return _note(data.get("text/plain", ""))
        writers: dict[str, Callable[[str], str]] = {
            "text/html": partial(html_block, about=section),
            "text/markdown": partial(self.renderer.render, raw=False),
            "text/latex": partial(self.renderer.render, raw=False),
            "text/plain": text_block,
        }
        return next((write(data[kind]) for kind, write in writers.items() if kind in data), "")


def _note(said: str) -> str:
    """In place of an explorer that has no data for the book: what it says of itself, if it does."""
    about = "" if said.startswith(("VBox(", NEEDS_KERNEL)) else f"{escape(said)} "
    return f'<p class="note">{about}{NEEDS_KERNEL}</p>\n'


def _is_picture(data: Any) -> bool:
    return "image/png" in data and EXPLORER not in data and "text/html" not in data


def _with_checks(cells: Iterable[Any]) -> Iterator[tuple[Any, str]]:
    """Cells with what they hide behind, if anything; a check stands behind its solution."""
    before = ""
    for cell in cells:
        tags = cell.metadata.get("tags", [])
        summary = next((HIDDEN[tag] for tag in tags if tag in HIDDEN), "")
        if "check" in tags and before == HIDDEN["solution"]:
            summary = before
        before = summary
        yield cell, summary


def chapter_lines(page: Page) -> tuple[list[str], str]:
    """What one will know after a notebook, and how long it takes, from its first cell."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(page.opening, "html.parser")
    points = [item.decode_contents() for item in soup.select("ul > li")]
    notes = [plain_text(str(em)) for em in soup.select("em") if "laptop" in em.get_text()]
    return points, notes[0] if notes else ""
