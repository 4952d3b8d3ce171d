"""Markdown to HTML: nbconvert's dialect, with formulas as MathML and links that lead into the book.

One ``PageRenderer`` serves one page: it keeps the headings, so that they stand in order and have
names, whatever cells they come from.
"""

from __future__ import annotations

import mimetypes
import os
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from html import escape, unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from latex2mathml.converter import convert
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from mmer_lib.book.figures import read_figure, to_url
from mmer_lib.errors import InputError


@dataclass
class Section:
    """A heading: its anchor on the page, its level (1 is the title), and the text below it."""

    anchor: str
    title: str
    level: int
    texts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Place:
    """Where a page comes from and goes to, and the stems of all pages: what links need."""

    source: Path  # the folder of the notebook or markdown file
    book: Path
    stems: Collection[str]


class PageRenderer(IPythonRenderer):
    """Renders the markdown of one page; ``sections`` grows as headings are met."""

    def __init__(self, name: str, place: Place) -> None:
        super().__init__(escape=False)
        self.name, self.place = name, place
        self.sections: list[Section] = []

    def render(self, source: str, raw: bool = True) -> str:
        """HTML of a markdown cell or file; its text is kept for the search.

        Without ``raw`` HTML in it becomes text: what a cell displays may come from data.
        """
        self._escape = not raw
        before = len(self.sections)
        html = MarkdownWithMath(renderer=self).render(source)
        above, *below = re.split(r"<h\d id=.*?</h\d>", html, flags=re.DOTALL)
        if before:
            self.sections[before - 1].texts.append(plain_text(above))
        for section, text in zip(self.sections[before:], below, strict=False):
            section.texts.append(plain_text(text))
        html = re.sub(r"<th(?=[ >])", '<th scope="col"', html)
        html = html.replace("<table>", '<div class="scroll" data-label="Table"><table>')
        return html.replace("</table>", "</table></div>")

    def remember(self, text: str) -> None:
        """Let the search find ``text`` in the section that we are in."""
        if self.sections:
            self.sections[-1].texts.append(text)

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        """The first heading is the title; none below skips a level."""
        deepest = self.sections[-1].level + 1 if self.sections else 1
        level = min(max(level, 2), deepest) if self.sections else 1
        title = plain_text(text)
        section = Section(self._free_anchor(title), title, level)
        self.sections.append(section)
        return f'<h{level} id="{section.anchor}">{text}</h{level}>\n'

    def _free_anchor(self, title: str) -> str:
        """As GitHub names it; a second one of a kind is numbered."""
        slug, taken = to_anchor(title), {section.anchor for section in self.sections}
        numbered = (f"{slug}-{n}" for n in range(1, len(taken) + 2))
        return slug if slug not in taken else next(name for name in numbered if name not in taken)

    def block_code(self, code: str, info: str | None = None) -> str:
        """A block of code, coloured if its language is named."""
        return code_block(code, (info or "text").split()[0])

    def inline_math(self, body: str) -> str:
        """A formula in a line."""
        return self._math(body, "inline")

    def block_math(self, body: str) -> str:
        """A formula of its own; a wide one can be scrolled."""
        return f'<span class="formula scroll">{self._math(body, "block")}</span>'

    def latex_environment(self, name: str, body: str) -> str:
        r"""``\begin{name} ... \end{name}`` without dollars."""
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")

    def _math(self, body: str, display: str) -> str:
        try:
            return to_mathml(body, display)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from error

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """A link: to a page of the book, to a file beside it, or out into the web."""
        outside = ' rel="noreferrer"' if urlsplit(url).scheme else ""
        hint = f' title="{escape(title)}"' if title else ""
        return f'<a href="{escape(resolve(url, self.place))}"{outside}{hint}>{text}</a>'

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """A picture, put into the page.

        Raises ``InputError`` for one that is not a file here: a page asks for nothing.
        """
        path = self.place.source / unquote(url)
        inside = path.resolve().is_relative_to(self.place.source.resolve().parent)
        if urlsplit(url).scheme or not inside or not path.is_file():
            raise InputError(f"{self.name}: no picture {url!r}: name a file beside the notebooks")
        kind = mimetypes.guess_type(path.name)[0] or "image/png"
        alt = plain_text(text) or (read_figure(path).alt if kind == "image/png" else "")
        return f'<img src="{to_url(path.read_bytes(), kind)}" alt="{escape(alt)}">'


def to_anchor(title: str) -> str:
    """``Self or cross?`` -> ``self-or-cross``."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") or "section"


def resolve(url: str, place: Place) -> str:
    """Where a link of a notebook leads from the book.

    >>> resolve("02_attention.ipynb#Heads", Place(Path("n"), Path("b"), ["02_attention"]))
    '02_attention.html#heads'
    """
    parts = urlsplit(url)
    if parts.scheme:
        return url if parts.scheme in ("http", "https", "mailto") else "#"
    fragment = f"#{unquote(parts.fragment).lower()}" if parts.fragment else ""
    path = Path(unquote(parts.path))
    if not parts.path:
        return fragment or "#"
    if path.suffix in (".ipynb", ".md") and len(path.parts) == 1 and path.stem in place.stems:
        return f"{path.stem}.html{fragment}"
    return Path(os.path.relpath(place.source / path, place.book)).as_posix() + fragment


def to_mathml(formula: str, display: str = "inline") -> str:
    """LaTeX as MathML, which browsers draw themselves.

    Raises ``InputError`` for a command that has no MathML.
    """
    for name in ("aligned", "align", "align*"):  # columns in turn right and left
        formula = formula.replace(f"\\begin{{{name}}}", r"\begin{array}{rlrl}")
        formula = formula.replace(f"\\end{{{name}}}", r"\end{array}")
    try:
        mathml = convert(formula.strip(), display=display)
    except Exception as error:  # latex2mathml has no common class of errors
        raise InputError(f"formula {formula!r} cannot be read: {error!r}") from error
    missing = re.search(r"\\[A-Za-z]+", unescape(mathml))
    if missing:
        raise InputError(f"formula {formula!r}: no MathML for {missing[0]}; write it another way")
    return mathml.replace("<math ", f'<math alttext="{escape(formula.strip())}" ', 1)


def code_block(code: str, language: str = "python") -> str:
    """Code in colours; the classes are Pygments' short names."""
    try:
        lexer = get_lexer_by_name(language)
    except ClassNotFound:
        lexer = get_lexer_by_name("text")
    coloured = highlight(code, lexer, HtmlFormatter(nowrap=True))
    return f'<pre class="code scroll"><code>{coloured}</code></pre>\n'


def plain_text(html: str) -> str:
    """The words of a piece of HTML, without formulas."""
    text = re.sub(r"<(math|script|style)\b.*?</\1>", " ", html, flags=re.DOTALL)
    text = re.sub(r"</(p|li|t[dhr]|h\d|div|summary|pre|dt|dd)>|<br", r" \g<0>", text)
    return " ".join(unescape(re.sub(r"<[^>]*>", "", text)).split())
