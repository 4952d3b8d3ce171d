"""The reference of the library: complete, as the code is, linked, and read without importing it."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections import Counter
from importlib import import_module
from types import FunctionType

import pytest
from test_layers import PART_OF

from mmer_lib.book.reference import _render, reference_page
from mmer_lib.book.sources import MODULES, Entry, Module, read_modules

SERVING = {  # nobody calls them from outside
    "arrayfiles", "bench", "cli", "kernels", "machine", "probes", "recurrence", "requirements",
    "workers",
}  # fmt: skip
NAMES = [(module, entry) for module in read_modules() for entry in module.entries]
CALLED = [(m, e) for m, e in NAMES if re.match(rf"{e.name}\(", e.code)]
name_of = "{0.name}.{1.name}".format


def test_every_part_of_the_library_is_there_or_serves_others():
    assert {name.split(".")[0] for name in MODULES} | SERVING == set(PART_OF)


@pytest.mark.parametrize("module", read_modules(), ids=lambda m: m.name)
def test_a_module_and_all_that_it_exports_is_described(module: Module):
    assert module.text
    told = [e for e in module.entries if re.match(rf"class {e.name}\b|{e.name}\(", e.code)]
    assert [e.name for e in told if not e.text] == []
    exported = getattr(import_module(f"mmer_lib.{module.name}"), "__all__", [])
    named = {e.name for _, e in NAMES}
    assert [name for name in exported if name not in named] == []


@pytest.mark.parametrize(("module", "entry"), CALLED, ids=[name_of(m, e) for m, e in CALLED])
def test_a_function_is_called_as_python_says_it_is(module: Module, entry: Entry):
    function = getattr(import_module(f"mmer_lib.{module.name}"), entry.name)
    assert isinstance(inspect.unwrap(function), FunctionType)
    arguments = [
        ("*" if p.kind is p.VAR_POSITIONAL else "**" if p.kind is p.VAR_KEYWORD else "") + p.name
        for p in inspect.signature(function).parameters.values()
    ]
    assert written(entry.code) == arguments


def written(call: str) -> list[str]:
    """The names of the arguments in a call of the reference."""
    (function,) = ast.parse(f"def {call}: ...").body
    given = function.args
    names = [a.arg for a in given.posonlyargs + given.args]
    names += [f"*{given.vararg.arg}"] if given.vararg else []
    names += [a.arg for a in given.kwonlyargs]
    return names + ([f"**{given.kwarg.arg}"] if given.kwarg else [])


def test_names_stand_once_and_every_link_leads_to_one():
    body = reference_page().body
    ids = re.findall(r'\bid="([^"]+)"', body)
    assert [name for name, count in Counter(ids).items() if count > 1] == []
    links = re.findall(r'href="#([^"]+)"', body)
    assert len(links) > 100
    assert set(links) <= set(ids)


def test_a_docstring_links_to_what_it_names():
    body = reference_page().body
    compare = body.split('<h3 id="stats.compare">')[1].split("<h3 ")[0]
    assert '<a href="#errors.InputError"><code>InputError</code></a>' in compare


def test_a_plain_word_of_another_module_is_no_link():
    text = "Its ``components`` and ``variance_components``."
    html = _render(text, {"variance_components": "stats.variance_components"})
    assert html.count("<a ") == 1


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("Takes ``a_b[i]`` and *x*.", "<p>Takes <code>a_b[i]</code> and <em>x</em>.</p>"),
        ("A ``b\nc``.", "<p>A <code>b c</code>.</p>"),
        ("p < .05 & a_b_c for $MMER_CACHE", "<p>p &lt; .05 &amp; a_b_c for $MMER_CACHE</p>"),
        ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"),
        ("- one;\n- two\n  more.", "<ul>\n<li>one;</li>\n<li>two\nmore.</li>\n</ul>"),
        ("See :func:`make`.", "<p>See <code>make</code>.</p>"),
    ],
)
def test_a_docstring_becomes_html(text, html):
    written = _render(text, {}).replace("&#36;", "$").replace("&#95;", "_")
    assert written.replace("&#60;", "&lt;").replace("&#62;", "&gt;").strip() == html


@pytest.mark.parametrize(
    "text",
    [
        "Say::\n\n    x = 1  # why\n\nMore.",
        "Say:\n>>> x\n1\n\nMore.",
        "Say:\n\n    not python!\n\nMore.",
    ],
)
def test_an_example_is_a_block_of_code_and_the_text_goes_on(text):
    html = _render(text, {})
    assert html.startswith("<p>Say:</p>")
    assert html.count("<pre") == 1
    assert html.rstrip().endswith("<p>More.</p>")


def test_the_search_finds_a_function_under_its_module():
    sections = {s.title: s for s in reference_page().sections}
    assert "stats.compare" in sections
    assert sections["stats.compare"].anchor == "stats.compare"
    assert "InputError" in " ".join(sections["stats.compare"].texts)


def test_reading_the_library_imports_none_of_it():
    code = (
        "import sys; from mmer_lib.book.reference import reference_page; reference_page();"
        "print(*[m for m in ('torch', 'sklearn', 'librosa', 'mmer_lib.stats') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
