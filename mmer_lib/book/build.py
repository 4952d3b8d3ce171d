"""The book of a run folder: pages gathered, put into their frame, written beside and renamed."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import mmer_lib
from mmer_lib.book.markdown import Place, Section, plain_text
from mmer_lib.book.pages import Page, chapter_lines, read_markdown, read_notebook
from mmer_lib.book.reference import reference_page
from mmer_lib.book.theme import write_variables
from mmer_lib.errors import InputError
from mmer_lib.pipeline.source import find_folder
from mmer_lib.provenance import read_provenance, say

HERE = Path(__file__).parent
SCRIPTS = HERE.parent / "widgets" / "scripts"  # common.js and one script a kind of explorer
START = "window.mmer?.start();"
HEADLINE = "05_forest"  # the figure of the first page, if this run has it


@dataclass(frozen=True)
class Book:
    """What was written: the folder, and its files, the first page first."""

    folder: Path
    files: list[Path]

    @property
    def index(self) -> Path:
        """The first page."""
        return self.files[0]


def build_book(
    run: str | Path,
    notebooks: str | Path | None = None,
    figures: str | Path | None = None,
    scripts: str | Path = SCRIPTS,
) -> Book:
    """Write ``run/book`` from the executed notebooks in ``run/notebooks``, and return it.

    ``notebooks`` is the folder of their sources (the repository's by default): its markdown files
    become pages too. ``figures`` is where the notebooks saved their figures: ``run/figures``, or
    ``figures`` beside the sources, where a quick study keeps them. ``scripts`` holds those of the
    explorers.

    Raises ``InputError`` if nothing was executed there, or the book cannot be written.
    """
    run, sources = Path(run), Path(notebooks) if notebooks else find_folder()
    executed = find_executed(run, sources)
    place = Place(sources, run / "book", [p.stem for p in (*executed, *sources.glob("*.md"))])
    own = run / "figures"
    saved = Path(figures) if figures else own if own.is_dir() else sources.parent / "figures"
    chapters = [read_notebook(path, place, saved) for path in executed]
    extras = [read_markdown(path, place) for path in sorted(sources.glob("*.md"))]
    verdicts = _read_verdicts(run / "verdicts.csv")
    source = say(read_provenance(run / "verdicts.csv") or {})
    pages = [*chapters, *_overviews(chapters, verdicts, source), *extras, reference_page()]
    pages.insert(0, _first_page(chapters, verdicts, source))
    with _renamed_when_whole(run / "book") as folder:
        for page in pages:
            (folder / page.file).write_text(
                _frame(page, pages, run.resolve().name, Path(scripts)), encoding="utf-8"
            )
    return Book(run / "book", [run / "book" / page.file for page in pages])


def find_executed(run: Path, sources: Path) -> list[Path]:
    """The executed notebooks of a run folder, those whose source is still there.

    Raises ``InputError`` if there is none.
    """
    found = sorted((run / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    executed = [path for path in found if (sources / path.name).is_file()]
    if not executed:
        raise InputError(
            f"no executed notebook in {run / 'notebooks'}: run `mmer study` first, or name the "
            f"folder of a finished study, e.g. `mmer book runs/mine`"
        )
    return executed


def _read_verdicts(path: Path) -> list[dict[str, Any]]:
    """The rows of a verdict table; none if there is no table."""
    if not path.is_file():
        return []
    table = pd.read_csv(path)
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


# -- pages that no notebook is ---------------------------------------------------------------------


def _first_page(chapters: Sequence[Page], verdicts: Sequence[dict[str, Any]], source: str) -> Page:
    figures = [figure for page in chapters for figure in page.figures if figure.name == HEADLINE]
    entries = [(page, *chapter_lines(page)) for page in chapters]
    title = "Cross-attention or self-attention?"
    return _own_page(
        "index", title, chapters=entries, verdicts=verdicts, source=source,
        headline=[*figures, None][0],
    )  # fmt: skip


def _overviews(
    chapters: Sequence[Page], verdicts: Sequence[dict[str, Any]], source: str
) -> list[Page]:
    """The verdicts and the gallery, where there is something to show."""
    pages = []
    if verdicts:
        pages.append(_own_page("verdicts", "Verdicts", verdicts=verdicts, source=source))
    if any(page.figures for page in chapters):
        pages.append(_own_page("figures", "Figures", chapters=chapters))
    return pages


def _own_page(name: str, title: str, **values: Any) -> Page:
    """A page from its template; its headings become its sections."""
    body = _templates().get_template(f"{name}.html").render(title=title, **values)
    pieces = re.split(r'<h([12]) id="([^"]+)">(.*?)</h[12]>', body, flags=re.DOTALL)[1:]
    heads = zip(pieces[::4], pieces[1::4], pieces[2::4], pieces[3::4], strict=True)
    sections = [
        Section(anchor, plain_text(head), int(level), [plain_text(text)])
        for level, anchor, head, text in heads
    ]
    return Page(name, title, body, sections)


# -- the frame -------------------------------------------------------------------------------------


def _frame(page: Page, pages: Sequence[Page], run: str, scripts: Path) -> str:
    """A whole page: navigation, search, styles and scripts around its body."""
    at = pages.index(page)
    running = [_read("book.js"), _read("search.js")]
    if page.kinds:
        own = [scripts / f"{kind}.js" for kind in ["common", *sorted(page.kinds)]]
        running += [_read_script(path) for path in own if path.is_file()]
        running.append(START)
    return _templates().get_template("page.html").render(
        page=page,
        body=Markup(page.body),
        pages=pages,
        before=pages[at - 1] if at else None,
        after=pages[at + 1] if at + 1 < len(pages) else None,
        run=run,
        version=mmer_lib.__version__,
        style=Markup(write_variables() + _read("book.css")),
        first_script=Markup(_read("theme.js")),
        scripts=[Markup(script) for script in running],
        policy=_policy([_read("theme.js"), *running]),
        index=Markup(search_index(pages)),
    )  # fmt: skip


def _policy(scripts: Sequence[str]) -> str:
    """The page's content security policy: nothing from outside, and no script but these."""
    digests = (b64encode(sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        f"media-src data:; base-uri 'none'; form-action 'none'"
    )


def search_index(pages: Sequence[Page]) -> str:
    """Every section of every page as JSON, [page, anchor, heading, text], safe inside a page."""
    titles = [[page.file, page.title] for page in pages]
    sections = [
        [number, section.anchor, section.title, " ".join(" ".join(section.texts).split())]
        for number, page in enumerate(pages)
        for section in page.sections
    ]
    written = json.dumps({"pages": titles, "sections": sections}, ensure_ascii=False)
    return written.replace("<", "\\u003c")


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"points": _points, "p": _p, "safe_html": Markup}
    return environment


def _points(share: float) -> str:
    """Hundredths, signed."""
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")


def _p(p: float) -> str:
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _read(name: str) -> str:
    return _read_script(HERE / "static" / name)


@cache
def _read_script(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@contextmanager
def _renamed_when_whole(folder: Path) -> Iterator[Path]:
    """A folder beside ``folder`` that takes its place at the end, and is gone if that fails."""
    try:
        with TemporaryDirectory(prefix=".book-", dir=folder.parent) as beside:
            whole, old = Path(beside, "new"), Path(beside, "old")
            whole.mkdir()
            yield whole
            try:
                if folder.exists():
                    folder.rename(old)
                whole.rename(folder)
            finally:
                if old.exists() and not folder.exists():  # stopped between the two
                    old.rename(folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}") from error
