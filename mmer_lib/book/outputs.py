"""Outputs of cells as HTML: text, tables, pictures, sounds and explorers.

What an output of type text/html holds is kept if it is on a list of plain elements and attributes;
scripts and styles are dropped. (This keeps a page tidy. What keeps it safe is the page's content
security policy, which runs nothing but our own scripts.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from typing import Any

from bs4 import BeautifulSoup, Tag
from nbconvert.filters.ansi import ansi2html

from mmer_lib.book.figures import Figure

EXPLORER = "application/vnd.mmer.explorer+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
DROPPED = ("script", "style", "iframe", "object", "embed", "link", "meta", "base", "template")
PLAIN = (
    "table", "thead", "tbody", "tfoot", "tr", "caption", "div", "span", "p", "pre", "code", "br",
    "b", "i", "em", "strong", "sub", "sup", "small", "ul", "ol", "li", "dl", "dt", "dd",
    "h3", "h4", "h5", "h6", "details", "summary",
)  # fmt: skip
NUMBER = re.compile(r"[-+−±<>~]?\s*[\d.,]+(e[-+]?\d+)?\s*(%|s|points)?|nan|-?inf|-|", re.I)
KEPT: dict[str, tuple[str, ...]] = dict.fromkeys(PLAIN, ()) | {  # element -> its attributes
    "th": ("scope", "colspan", "rowspan"), "td": ("colspan", "rowspan"),
    "audio": ("controls", "src"), "source": ("src", "type"), "img": ("src", "alt"),
}  # fmt: skip


def text_block(text: str) -> str:
    """A stream or the text of a result; terminal colours become classes."""
    return f'<pre class="text scroll">{ansi2html(text.rstrip())}</pre>\n' if text.strip() else ""


def figure_block(figure: Figure) -> str:
    """A picture with its words, in the size it was drawn for, and where it comes from."""
    width, height = figure.size
    anchor = f' id="fig-{escape(figure.name)}"' if figure.name else ""
    source = f'<figcaption class="source">{escape(figure.source)}</figcaption>'
    return (
        f'<figure{anchor}><img src="{figure.url}" alt="{escape(figure.alt)}" '
        f'width="{width}" height="{height}">{source if figure.source else ""}</figure>\n'
    )


def explorer_block(bundle: Mapping[str, Any]) -> str:
    """An explorer with its data inside; ``mmer.start`` starts it in its stage."""
    data = json.dumps(bundle["data"], separators=(",", ":")).replace("<", "\\u003c")
    title = escape(bundle["title"])
    return (
        f'<section class="explorer" data-kind="{escape(bundle["kind"])}" aria-label="{title}">'
        f'<p class="name">{title}</p><p>{escape(bundle["text"])}</p><div class="stage"></div>'
        f'<script type="application/json">{data}</script></section>\n'
    )


def html_block(html: str, about: str) -> str:
    """An output of type text/html, cleaned; ``about`` names its tables and sounds."""
    soup = BeautifulSoup(html, "html.parser")
    for element in soup.find_all(DROPPED):
        element.decompose()
    for element in soup.find_all(True):
        _clean(element)
    for table in soup.find_all("table"):
        _join_heads(table)
        _describe(table, about)
        _align(table)
        table.wrap(soup.new_tag("div", attrs={"class": "scroll", "data-label": f"Table: {about}"}))
    for sound in soup.find_all("audio"):
        sound["aria-label"] = f"Sound: {about}"
    return f'<div class="html">{soup}</div>\n'


def _clean(element: Tag) -> None:
    """Leave of an element what is on the list; addresses may only be ``data:``."""
    if element.name not in KEPT:
        element.unwrap()
        return
    element.attrs = {
        name: value
        for name, value in element.attrs.items()
        if name in KEPT[element.name] and (name != "src" or str(value).startswith("data:"))
    }


def _join_heads(table: Tag) -> None:
    """Pandas writes the names of an index into a row of their own: lift them beside the others."""
    rows = table.select("thead > tr")
    heads = [row.find_all("th", recursive=False) for row in rows]
    if len(rows) != 2 or len(heads[0]) != len(heads[1]):
        return
    pairs = [(a, b) for a, b in zip(*heads, strict=True) if b.get_text(strip=True)]
    if any(a.get_text(strip=True) or a.has_attr("colspan") for a, _ in pairs):
        return
    for above, below in pairs:
        above.string = below.get_text()
    rows[1].decompose()


def _describe(table: Tag, about: str) -> None:
    """Say which cells are headers, and of what; an empty one is none."""
    if table.caption is None:
        table["aria-label"] = about
    for header in table.find_all("th"):
        above = header.find_parent("thead") is not None
        if not header.get_text(strip=True):
            header.name = "td"
            header.attrs.pop("scope", None)
        elif above:
            header["scope"] = "colgroup" if header.get("colspan") else "col"
        else:
            header["scope"] = "rowgroup" if header.get("rowspan") else "row"


def _align(table: Tag) -> None:
    """Columns of words to the left, with what stands above them; numbers stay at the right."""
    for column in _columns(table):
        cells = [c.get_text(strip=True) for c in column if c.find_parent("thead") is None]
        if not all(NUMBER.fullmatch(text) for text in cells):
            for cell in column:
                cell["class"] = "words"


def _columns(table: Tag) -> list[list[Tag]]:
    """The cells of each column, those left out that stand over several."""
    columns: dict[int, list[Tag]] = {}
    taken: set[tuple[int, int]] = set()
    for y, row in enumerate(table.find_all("tr")):
        x = 0
        for cell in row.find_all(["th", "td"], recursive=False):
            while (y, x) in taken:
                x += 1
            high, wide = (int(str(cell.get(name, "1"))) for name in ("rowspan", "colspan"))
            taken |= {(y + i, x + j) for i in range(high) for j in range(wide)}
            if wide == 1:
                columns.setdefault(x, []).append(cell)
            x += wide
    return list(columns.values())
