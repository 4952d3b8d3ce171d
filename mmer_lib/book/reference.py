"""The reference of the library as a page of the book, from the docstrings of its modules.

Docstrings are plain text with ``code``, *emphasis*, lists and indented examples, which is nearly
Markdown. ``code`` that is a name of the reference becomes a link to it.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from html import escape
from itertools import groupby
from textwrap import dedent

from mmer_lib.book.markdown import PageRenderer, Place, Section, code_block, plain_text
from mmer_lib.book.pages import Page
from mmer_lib.book.sources import LIBRARY, Entry, Module, read_modules

NAME = "reference"
CODE = re.compile(r"(?::\w+:`([^`]+)`)|(?:``(.+?)``)", re.DOTALL)
PLAIN = re.compile("[a-z]+")
Targets = dict[str, str]  # a name, as docstrings say it -> its anchor
INTRODUCTION = (
    "What the library offers, a section a module, from its docstrings. Letters of shapes: B batch, "
    "T time (Tq of the query, Ts of the source), F features, D width, H heads, M modalities, "
    "C classes. In a mask True is data."
)


@cache
def reference_page() -> Page:
    """The page; the same for every book of this version."""
    modules = read_modules()
    sections = [Section(NAME, "Reference", 1, [INTRODUCTION])]
    pieces = [f'<h1 id="{NAME}">Reference</h1>\n<p>{INTRODUCTION}</p>\n']
    for module in modules:
        targets = _targets(modules, module)
        html = _render(module.text, targets)
        names = " ".join(_link(e.name, targets[e.name]) for e in module.entries)
        pieces.append(f'<h2 id="{module.name}">mmer_lib.{module.name}</h2>\n{html}')
        pieces.append(f'<p class="names">{names}</p>\n' if names else "")
        sections.append(Section(module.name, f"mmer_lib.{module.name}", 2, [plain_text(html)]))
        for entry in module.entries:
            body = _entry(entry, targets)
            anchor = targets[entry.name]
            pieces.append(f'<h3 id="{anchor}">{entry.name}</h3>\n{body}')
            sections.append(Section(anchor, f"{module.name}.{entry.name}", 3, [plain_text(body)]))
    return Page(NAME, "Reference", f'<div class="prose">\n{"".join(pieces)}</div>\n', sections)


def _entry(entry: Entry, targets: Targets) -> str:
    """Code, words and members."""
    html = code_block(entry.code) + _render(entry.text, targets)
    if not entry.members:
        return html
    members = (
        f'<dt id="{targets[f"{entry.name}.{m.name}"]}">{code_block(m.code)}</dt>\n'
        f"<dd>{_render(m.text, targets)}</dd>\n"
        for m in entry.members
    )
    return f'{html}<dl class="members">\n{"".join(members)}</dl>\n'


# -- names and links -------------------------------------------------------------------------------


def _targets(modules: tuple[Module, ...], here: Module) -> Targets:
    """Names as a docstring of ``here`` may say them: its own first, others if there is but one.

    A plain word, such as ``components``, is a name of its own module alone.
    """
    own, all_names = dict(_named(here)), [pair for m in modules for pair in _named(m)]
    often = Counter(name for name, _ in all_names)
    others = {
        name: anchor for name, anchor in all_names if often[name] == 1 and not PLAIN.fullmatch(name)
    }
    whole = {f"{m.name}.{name}": anchor for m in modules for name, anchor in _named(m)}
    places = {m.name: m.name for m in modules if "." in m.name}
    full = {f"mmer_lib.{name}": anchor for name, anchor in (whole | places).items()}
    return {**whole, **places, **full, **others, **own}


def _named(module: Module) -> list[tuple[str, str]]:
    names = [e.name for e in module.entries]
    names += [f"{e.name}.{m.name}" for e in module.entries for m in e.members]
    return [(name, f"{module.name}.{name}") for name in names]


def _link(name: str, anchor: str) -> str:
    return f'<a href="#{anchor}"><code>{escape(name)}</code></a>'


# -- docstrings ------------------------------------------------------------------------------------


def _render(text: str, targets: Targets) -> str:
    """HTML of a docstring."""
    place = Place(LIBRARY, LIBRARY, ())
    return PageRenderer(NAME, place).render(_to_markdown(text, targets))


def _to_markdown(text: str, targets: Targets) -> str:
    """Examples into fences, code into links, and what Markdown would take for its own escaped."""
    blocks = []
    for example, lines in groupby(text.splitlines(), key=_Examples()):
        block = "\n".join(lines)
        blocks.append(_fence(block) if example else _inline(block, targets))
    return "\n".join(blocks)


class _Examples:
    """Says of line after line whether it belongs to an example: a doctest, or indented by four."""

    def __init__(self) -> None:
        self.doctest = self.indented = False
        self.blank = True

    def __call__(self, line: str) -> bool:
        self.doctest = bool(line.strip()) and (self.doctest or line.startswith(">>>"))
        deep = line.startswith("    ") and (self.blank or self.indented)
        self.indented = deep or (self.indented and not line.strip())
        self.blank = not line.strip()
        return self.doctest or self.indented


def _fence(block: str) -> str:
    """An example as a fenced block, coloured if it is Python."""
    code = dedent(block).strip("\n")
    if code.startswith(">>>"):
        return f"\n```pycon\n{code}\n```\n"
    try:
        ast.parse(code)
    except SyntaxError:
        return f"\n```text\n{code}\n```\n"
    return f"\n```python\n{code}\n```\n"


def _inline(text: str, targets: Targets) -> str:
    """Code as elements, with links where it is a name of the reference; no ``::``."""
    text = re.sub(r"::$", ":", text, flags=re.MULTILINE)
    pieces, end = [], 0
    for found in CODE.finditer(text):
        pieces += [_plain(text[end : found.start()]), _code(found[1] or found[2], targets)]
        end = found.end()
    return "".join([*pieces, _plain(text[end:])])


def _code(code: str, targets: Targets) -> str:
    said = " ".join(code.split())
    name = said.removesuffix("()")
    # what Markdown would read inside of an element is written as a character reference
    shown = re.sub(r"[\\`*_$\[\]|~]", lambda c: f"&#{ord(c[0])};", escape(said))
    element = f"<code>{shown}</code>"
    return f'<a href="#{targets[name]}">{element}</a>' if name in targets else element


def _plain(text: str) -> str:
    return re.sub(r"[$<>&_|~]", lambda c: f"&#{ord(c[0])};", text)
