"""A book of hostile data: whatever a transcript, label, name or notebook says stays text.

Every place where data can enter carries ``ATTACK``; a script that ran would change the title.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from browser import chromium, opened
from bs4 import BeautifulSoup
from nbformat import v4
from small_book import ATTACK, code, draw_line, first_cells, make_run, picture, said, shown

from mmer_lib import plots
from mmer_lib.book import Book, build_book
from mmer_lib.book.outputs import EXPLORER, WIDGET
from mmer_lib.errors import InputError

# Ways out of text, of an attribute, of a script that holds JSON, of a style and of a comment.
ATTACKS = (
    ATTACK,
    '"><img src=x onerror="document.title=\'taken\'">',
    "'><svg onload=document.title='taken'>",
    "</script><script>document.title='taken'</script>",
    "</style></title></textarea><script>document.title='taken'</script>",
    "<!--<script>document.title='taken'</script>",
    "javascript:document.title='taken'",
    "{{ 7 * 7 }}{% raw %}",
    '<meta http-equiv="refresh" content="0;url=https://example.org">',
    "\u202e\u2028\u2029&lt;script&gt;",
)
ALL = " ".join(ATTACKS)
HANDLERS = ["onclick", "onerror", "onload", "onfocus", "onmouseover"]


def hostile_cells() -> list[Any]:
    frame = pd.DataFrame({ALL: [1.0], "text": [ALL]}, index=[ALL])
    bundle = {
        "kind": "demo", "title": ALL, "text": ALL, "data": {"values": [1, 2, 3], ALL: [ALL]},
    }  # fmt: skip
    error = v4.new_output("error", ename=ALL, evalue=ALL, traceback=[ALL])
    return [
        v4.new_markdown_cell("# 02 · Hostile"),
        v4.new_markdown_cell("## A transcript\n\nWhat follows is data."),
        code("frame", [shown(text__html=frame.to_html(), text__plain=ALL)]),
        code("raw", [shown(text__html=ALL)]),
        code("words", [said(ALL)]),
        code("plain", [shown(text__plain=ALL)]),
        code("markdown", [shown(text__markdown=f"Said: {ALL}\n\n{ALL}\n\n[x]({ATTACKS[6]})")]),
        code("latex", [shown(text__latex=ALL.replace("$", ""))]),
        code("failed", [error]),
        code("explore()", [shown(text__plain="VBox()", **{EXPLORER: bundle})]),
        code("widget", [shown(text__plain=ALL, **{WIDGET: {}})]),
        code('plots.save(ax, "02_line")', [shown(image__png=picture(0.5))]),
        code(f"# {ALL}\nx = 1".replace("\u2028", "").replace("\u2029", "")),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """Its run is called by an attack, too, as far as a folder can be."""
    root = tmp_path_factory.mktemp("hostile")
    run = make_run(root, **{"01_first": first_cells(), "02_second": hostile_cells()})
    plots.save(draw_line(0.5), "02_line", run / "figures", alt=ALL)
    row = {
        "metric": ALL, "alpha": 0.05, "margin": 0.01, "difference": -0.02, "low": -0.05,
        "high": 0.01, "p_holm": 0.0004, "p_equivalence": 0.3, "a": ALL, "b": ALL, "verdict": ALL,
        "sentence": ALL,
    }  # fmt: skip
    pd.DataFrame([row]).to_csv(run / "verdicts.csv", index=False)
    named = run.rename(run.with_name("x <img src=x onerror=document.title=1>"))
    return build_book(named, root / "notebooks", scripts=root / "scripts")


def elements(file: Path) -> BeautifulSoup:
    return BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser")


def test_the_book_has_all_its_pages(book):
    names = {file.stem for file in book.files}
    assert {"index", "01_first", "02_second", "verdicts", "figures", "glossary"} <= names


def test_no_element_and_no_attribute_comes_from_data(book):
    for file in book.files:
        page = elements(file)
        assert not page.find_all(("iframe", "object", "embed", "form", "svg", "base")), file
        assert [m["http-equiv"] for m in page.find_all("meta") if m.has_attr("http-equiv")] == [
            "Content-Security-Policy"
        ]
        for element in page.find_all(True):
            assert not set(element.attrs) & set(HANDLERS), (file, element)
            for name in ("href", "src"):
                address = str(element.get(name, ""))
                assert not address.lower().startswith(("javascript:", "http:", "//")), element


def test_every_script_is_one_of_ours(book):
    """As many as on a page without data; those that hold JSON hold all of it."""
    import json

    for file in book.files:
        for script in elements(file).find_all("script"):
            if script.get("type") == "application/json":
                json.loads(script.string)
            else:
                assert "taken" not in script.string


def test_attacks_are_there_as_text(book):
    text = elements(next(f for f in book.files if f.stem == "02_second")).get_text()
    assert text.count(ATTACK) >= 6  # table, stream, result, error, explorer, code
    assert (
        elements(next(f for f in book.files if f.stem == "verdicts")).get_text().count(ATTACK) > 3
    )
    alts = [i.get("alt", "") for i in elements(book.folder / "figures.html").find_all("img")]
    assert any(ATTACK in alt for alt in alts)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


def test_nothing_runs_in_a_browser(browser, book):
    """No title changes, nothing is asked for, and the policy has nothing to stop."""
    with opened(browser) as one:
        for file in book.files:
            page = one.go(file)
            page.wait_for_function("document.readyState === 'complete'")
            assert page.title() != "taken"
            assert page.title() != "1"
        assert one.requests == []
        assert one.problems == []


def test_nothing_runs_out_of_the_results_of_a_search(browser, book):
    with opened(browser) as one:
        page = one.go(book.index)
        for word in ("onerror", "script", "svg"):
            page.locator("#query").fill(word)
            page.wait_for_function("document.querySelectorAll('#results li').length > 0")
            assert page.locator("#results img, #results svg, #results script").count() == 0
            assert page.locator("#results b[onclick]").count() == 0
        assert page.title() != "taken"
        assert one.problems == []


# -- names in notebooks that lead to files ---------------------------------------------------------


def test_an_explorer_names_no_script_elsewhere(tmp_path):
    (tmp_path / "evil.js").write_text("document.title = 'taken'")
    bundle = {"kind": "../evil", "title": "t", "text": "t", "data": {}}
    cells = [v4.new_markdown_cell("# 02"), code("e", [shown(**{EXPLORER: bundle})])]
    run = make_run(tmp_path, **{"02_second": cells})
    with pytest.raises(InputError, match="no such kind"):
        build_book(run, tmp_path / "notebooks", scripts=tmp_path / "scripts")


def test_a_picture_outside_the_repository_is_not_put_into_a_page(tmp_path):
    run = make_run(tmp_path / "repository")
    plots.save(draw_line(), "secret", tmp_path, alt="x")
    cells = [
        v4.new_markdown_cell("# 02"),
        code("e", [shown(text__markdown="![x](../../secret.png)")]),
    ]
    from nbformat import write

    for folder in (tmp_path / "repository" / "notebooks", run / "notebooks"):
        write(v4.new_notebook(cells=cells), folder / "02_second.ipynb")
    with pytest.raises(InputError, match="no picture"):
        build_book(run, tmp_path / "repository" / "notebooks", scripts=tmp_path)


def test_a_figure_is_looked_for_in_its_folder_alone(tmp_path):
    from mmer_lib.book.figures import find_figures

    plots.save(draw_line(), "secret", tmp_path, alt="a secret")
    (tmp_path / "figures").mkdir()
    import base64

    shown_png = base64.b64encode((tmp_path / "secret.png").read_bytes()).decode()
    (found,) = find_figures('plots.save(ax, "../secret")', [shown_png], tmp_path / "figures", "")
    assert found.alt == ""
