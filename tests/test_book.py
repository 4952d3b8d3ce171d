"""The book: pages whole and in order, nothing asked from outside, no data that becomes code."""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat import v4
from small_book import (
    ALT,
    ATTACK,
    code,
    make_book,
    make_run,
    picture,
    said,
    save_figure,
    shown,
)

import mmer_lib
from mmer_lib import cli, plots
from mmer_lib.book import build_book
from mmer_lib.book.figures import find_figures
from mmer_lib.book.markdown import Place, resolve, to_mathml
from mmer_lib.book.outputs import html_block
from mmer_lib.book.theme import DARK, LIGHT, contrast
from mmer_lib.errors import InputError
from mmer_lib.provenance import describe_machine

NAMES = ["index", "01_first", "02_second", "verdicts", "figures", "glossary", "reference"]
each_page = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    return make_book(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def pages(book) -> dict[str, BeautifulSoup]:
    """Stem -> parsed page."""
    return {f.stem: BeautifulSoup(f.read_text(), "html.parser") for f in book.files}


# -- what there is ---------------------------------------------------------------------------------


def test_a_book_has_a_page_for_each_notebook_and_markdown_file_and_for_verdicts_and_figures(book):
    assert [file.stem for file in book.files] == NAMES
    assert book.index.is_file()
    assert sorted(book.folder.iterdir()) == sorted(book.files)


@each_page
def test_a_page_names_its_language_title_and_landmarks(pages, name):
    page = pages[name]
    assert page.html["lang"] == "en"
    assert page.title.get_text(strip=True)
    assert [len(page.select(s)) for s in ("main#main", "header", "footer", "a.skip")] == [1] * 4
    assert page.select_one("a.skip")["href"] == "#main"
    assert all(nav.get("aria-label") for nav in page.find_all("nav"))


@each_page
def test_headings_begin_with_one_title_and_skip_no_level(pages, name):
    levels = [int(h.name[1]) for h in pages[name].main.find_all(re.compile(r"^h[1-6]$"))]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


@each_page
def test_names_on_a_page_are_unique(pages, name):
    ids = [element["id"] for element in pages[name].find_all(id=True)]
    assert len(set(ids)) == len(ids)


@each_page
def test_every_link_leads_to_a_page_and_a_place_on_it(pages, name, book):
    for link in pages[name].find_all("a"):
        href = link["href"]
        if href.startswith("https://"):
            continue
        file, _, anchor = href.partition("#")
        assert not file or (book.folder / file).is_file(), href
        page = pages[Path(file).stem] if file else pages[name]
        assert not anchor or page.find(id=anchor) is not None, href


def test_pages_follow_each_other(pages):
    turns = [(p.select_one("[rel=prev]"), p.select_one("[rel=next]")) for p in pages.values()]
    assert [a and a["href"] for a, _ in turns] == [None, *(f"{n}.html" for n in NAMES[:-1])]
    assert [b and b["href"] for _, b in turns] == [*(f"{n}.html" for n in NAMES[1:]), None]


def test_the_sidebar_marks_this_page_and_lists_its_sections(pages):
    nav = pages["02_second"].find(id="pages")
    assert nav.select_one("[aria-current=page]").get_text(strip=True) == "02 · What moves?"
    assert [a["href"] for a in nav.select(".sections a")] == ["#the-explorer", "#the-explorer-1"]


def test_the_first_page_tells_what_each_notebook_teaches_and_how_long_it_takes(pages):
    chapter = pages["index"].select_one(".chapters > li")
    assert [li.get_text() for li in chapter.select("li")] == ["one thing;", "two things;", "three."]
    assert "About 1 minute on a laptop." in chapter.get_text()


def test_verdicts_are_a_table_with_headers_and_the_sentences(pages):
    page = pages["verdicts"]
    table = page.find("table")
    assert table.caption.get_text().startswith("Balanced accuracy")
    assert {th["scope"] for th in table.select("thead th")} == {"col"}
    cells = [cell.get_text(strip=True) for cell in table.select("tbody tr > *")]
    assert cells == [
        "cross-AT against self-AT", "inconclusive", "−2.0", "−5.0 to +1.0", "< .001", ".300",
    ]  # fmt: skip
    assert page.select_one(".sentences li").get_text() == f"Nothing is shown {ATTACK}."


# -- cells and outputs -----------------------------------------------------------------------------


def test_a_cell_that_saves_a_figure_shows_that_file_with_its_words(pages, book):
    image = pages["01_first"].select_one("#fig-01_line img")
    saved = book.folder.parent / "figures" / "01_line.png"
    assert image["alt"] == ALT
    assert b64decode(image["src"].partition(",")[2]) == saved.read_bytes()


def test_figures_and_verdicts_say_where_they_come_from(pages):
    (caption,) = pages["01_first"].select("#fig-01_line figcaption")
    tables = [pages[name].select_one("p.source") for name in ("index", "verdicts")]
    for source in (caption, *tables):
        text = source.get_text()
        assert text.startswith(f"Data: small {ATTACK} (f00d). Made 2")
        assert f" by mmer {mmer_lib.__version__}, " in text
        assert describe_machine() in text


def test_what_was_changed_since_it_was_written_says_nothing_of_its_source(tmp_path):
    run = make_run(tmp_path)
    (run / "verdicts.csv").write_text((run / "verdicts.csv").read_text().replace("-0.02", "0.02"))
    book = build_book(run, tmp_path / "notebooks", scripts=tmp_path / "scripts")
    (page,) = [file for file in book.files if file.stem == "verdicts"]
    assert 'class="source"' not in page.read_text()


def test_every_picture_has_words(pages):
    images = [image for page in pages.values() for image in page.find_all("img")]
    assert len(images) >= 2
    assert all(image["alt"] for image in images)


def test_the_gallery_leads_to_the_place_of_each_figure(pages):
    (link,) = pages["figures"].select(".gallery a")
    assert link["href"] == "01_first.html#fig-01_line"
    assert len(link.img["src"]) < len(pages["01_first"].select_one("#fig-01_line img")["src"])


def test_pictures_of_a_cell_that_saves_several_find_their_files(tmp_path):
    """Whatever the order of the file names; f-strings fit many names."""
    for name, colours in (("a", np.eye(8)), ("b", np.zeros((8, 8)))):
        figure = plt.figure()
        plt.imshow(colours)
        plots.save(figure, f"04_maps_{name}", tmp_path, alt=name)
        plt.close(figure)
    second = b64encode((tmp_path / "04_maps_b.png").read_bytes()).decode()
    first = b64encode((tmp_path / "04_maps_a.png").read_bytes()).decode()
    source = 'for m in ("b", "a"):\n    plots.save(draw(m), f"04_maps_{m}", figures)'
    assert [f.alt for f in find_figures(source, [second, first], tmp_path, "?")] == ["b", "a"]
    assert [f.alt for f in find_figures("draw()", [picture()], tmp_path, "?")] == ["?"]


def test_a_saved_figure_of_another_study_lends_its_words_alone(tmp_path):
    """As where a quick study's book is written after the figures were drawn from another one."""
    save_figure(tmp_path)
    source = 'plots.save(ax, "01_line", figures)'
    (same,) = find_figures(source, [picture()], tmp_path, "?")
    (other,) = find_figures(source, [picture(end=-1.0)], tmp_path, "?")
    assert same.png == (tmp_path / "01_line.png").read_bytes()
    assert other.png == b64decode(picture(end=-1.0))
    assert (other.alt, other.name) == (same.alt, same.name) == (ALT, "01_line")
    assert other.size == pytest.approx(same.size, abs=15), "each in the size it was drawn for"


def test_a_table_says_which_of_its_cells_are_headers(pages):
    table = pages["01_first"].select_one(".html table")
    assert [th["scope"] for th in table.select("thead th")] == ["col", "col"]
    assert [th["scope"] for th in table.select("tbody th")] == ["row", "row"]
    assert table["aria-label"]
    assert "scroll" in table.parent["class"]


def columns_of(frame: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Text of the words and of the numbers, cell by cell, of a frame as the book shows it."""
    cells = BeautifulSoup(html_block(frame.to_html(), "t"), "html.parser").select("th, td")
    texts = [(cell.get_text(), "words" in cell.get("class", [])) for cell in cells]
    return [t for t, words in texts if words and t], [t for t, words in texts if t and not words]


def test_words_stand_left_and_numbers_right_with_what_heads_them():
    frame = pd.DataFrame(
        {"who": ["text", "3 of 4"], "points": ["-1.5", "NaN"], "p": [1e-9, 0.5], "n": ["1,0", "-"]},
        index=["one", "two"],
    )  # fmt: skip
    words, numbers = columns_of(frame)
    assert words == ["who", "one", "text", "two", "3 of 4"]
    assert numbers[:3] == ["points", "p", "n"]
    assert numbers[3:] == ["-1.5", "1.000000e-09", "1,0", "NaN", "5.000000e-01", "-"]


def test_names_of_an_index_stand_in_the_row_of_the_other_heads():
    levels = [("a", "x"), ("a", "y"), ("b", "x")]
    index = pd.MultiIndex.from_tuples(levels, names=["corpus", "pair"])
    frame = pd.DataFrame({"score": [1, 2, 3]}, index=index)
    table = BeautifulSoup(html_block(frame.to_html(), "t"), "html.parser").table
    (heads,) = table.select("thead tr")
    assert [th.get_text() for th in heads.find_all("th")] == ["corpus", "pair", "score"]
    assert {th["scope"] for th in heads.find_all("th")} == {"col"}
    words, numbers = columns_of(frame)
    assert words == ["corpus", "pair", "a", "x", "y", "b", "x"]
    assert numbers == ["score", "1", "2", "3"]
    assert (
        len(BeautifulSoup(html_block(frame.T.to_html(), "t"), "html.parser").select("thead tr"))
        == 2
    )


def test_a_table_of_a_markdown_page_can_be_scrolled_and_names_its_columns(pages):
    table = pages["glossary"].select_one(".prose .scroll > table")
    assert [th["scope"] for th in table.find_all("th")] == ["col", "col"]


def test_sounds_keep_their_data(pages):
    sound = pages["01_first"].find("audio")
    assert sound.has_attr("controls")
    assert sound.find("source")["src"].startswith("data:audio/wav;base64,")


def test_formulas_are_mathml(pages):
    formulas = pages["01_first"].main.find_all("math")
    assert [f["display"] for f in formulas] == ["inline", "block"]
    assert formulas[0]["alttext"] == r"\bar a_{hj}"
    assert "$" not in pages["01_first"].main.get_text()
    assert len(formulas[1].find_all("mtr")) == 2


def test_a_formula_that_has_no_mathml_is_told_of(tmp_path):
    with pytest.raises(InputError, match=r"no MathML for \\notacommand"):
        to_mathml(r"\notacommand{x}")
    run = make_run(tmp_path, **{"03_third": [v4.new_markdown_cell(r"# 03 · $\nosuch$?")]})
    with pytest.raises(InputError, match=r"03_third\.ipynb: formula"):
        build_book(run, tmp_path / "notebooks")
    assert not (run / "book").exists()
    assert [p.name for p in run.iterdir() if p.name.startswith(".")] == []


def test_a_solution_and_its_check_stand_behind_one_summary(pages):
    details = pages["01_first"].main.find_all("details")
    assert [d.summary.get_text() for d in details] == ["Parameters of this run", "Hint", "Solution"]
    assert "answer = 1" in details[2].get_text()
    assert "Right: it is one." in details[2].get_text()
    assert details[1].find("strong").get_text() == "one"


def test_an_explorer_has_its_data_and_scripts_inside_once(pages):
    section = pages["02_second"].select_one("section.explorer")
    assert section["data-kind"] == "demo"
    assert section["aria-label"] == "Demo"
    assert json.loads(section.script.string)["values"] == [1, 2, 3]
    holds = [sum("explorers.demo" in str(s) for s in p.find_all("script")) for p in pages.values()]
    assert holds == [0, 0, 1, 0, 0, 0, 0]


def test_a_widget_without_data_for_the_book_says_what_it_needs(tmp_path):
    widget = shown(**{"application/vnd.jupyter.widget-view+json": {}, "text__plain": "VBox(...)"})
    cells = [v4.new_markdown_cell("# 03 · What lives?"), code("w", [widget])]
    run = make_run(tmp_path, **{"03_third": cells})
    page = (build_book(run, tmp_path / "notebooks").folder / "03_third.html").read_text()
    text = page.split("<main")[1].split("</main>")[0]
    assert "run this cell in JupyterLab" in text
    assert "VBox" not in text


# -- nothing from outside, nothing that runs -------------------------------------------------------


@each_page
def test_a_page_asks_for_nothing(pages, name, book):
    page = pages[name]
    sources = [e.get("src") or e.get("data") or e.get("srcset") for e in page.find_all(True)]
    assert [s for s in sources if s and not s.startswith("data:")] == []
    assert [e["href"] for e in page.find_all("link")] == ["data:,"]
    style = "".join(s.get_text() for s in page.find_all("style"))
    assert re.findall(r"url\(|@import|@font-face", style) == []
    scripts = "".join(s.get_text() for s in page.find_all("script", type=None))
    assert re.findall(r"https?:|\bfetch\(|XMLHttpRequest|\bimport\(|\beval\(", scripts) == []


@each_page
def test_the_policy_lets_only_our_own_scripts_run(pages, name):
    policy = pages[name].find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split("style-src")[0]
    for script in pages[name].find_all("script", type=None):
        digest = b64encode(sha256(script.string.encode()).digest()).decode()
        assert digest in policy


@each_page
def test_what_comes_from_data_stays_text(pages, name):
    page = pages[name]
    assert "taken" not in "".join(s.get_text() for s in page.find_all("script", type=None))
    assert page.find(onclick=True) is None
    assert len(page.find_all("script", type="application/json")) == 1 + (name == "02_second")


def test_html_of_an_output_keeps_plain_elements_only():
    html = (
        '<style>p {}</style><p style="x" onclick="y">a<iframe src="https://z"></iframe></p>'
        '<img src="https://z/1.png" alt="b"><custom-thing>c</custom-thing><a href="#">d</a>'
    )
    assert html_block(html, "t") == '<div class="html"><p>a</p><img alt="b"/>cd</div>\n'


def test_terminal_colours_become_classes_and_the_rest_of_a_stream_stays_text(tmp_path):
    cells = [v4.new_markdown_cell("# 03 · What?"), code("x", [said("\x1b[31mred\x1b[0m <i>")])]
    run = make_run(tmp_path, **{"03_third": cells})
    text = (build_book(run, tmp_path / "notebooks").folder / "03_third.html").read_text()
    assert '<span class="ansi-red-fg">red</span> &lt;i&gt;' in text


# -- search, links, colours ------------------------------------------------------------------------


@each_page
def test_every_page_can_search_all_sections(pages, name):
    index = json.loads(pages[name].find(id="index").string)
    found = {(index["pages"][p][0], anchor) for p, anchor, _, text in index["sections"]
             if "zanzibar" in text}  # fmt: skip
    assert found == {("02_second.html", "the-explorer")}
    whole = " ".join(text for *_, text in index["sections"])
    assert ALT in whole
    assert "check(answer)" in whole


@pytest.mark.parametrize(
    ("url", "leads_to"),
    [
        ("02_second.ipynb", "02_second.html"),
        ("glossary.md#Self-Attention", "glossary.html#self-attention"),
        ("#A-Place", "#a-place"),
        ("https://example.org/a#B", "https://example.org/a#B"),
        ("../README.md", "../../../README.md"),
        ("09_unwritten.ipynb", "../../../notebooks/09_unwritten.ipynb"),
        ("javascript:alert(1)", "#"),
    ],
)
def test_links_of_a_notebook_lead_to_pages_where_there_are_some(url, leads_to):
    place = Place(Path("r/notebooks"), Path("r/runs/x/book"), ["02_second", "glossary"])
    assert resolve(url, place) == leads_to


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_every_text_colour_can_be_read_on_every_ground(colours):
    texts = [name for name in colours if name not in ("paper", "soft", "line", "mark")]
    low = {
        (text, ground): round(contrast(colours[text], colours[ground]), 2)
        for text in texts
        for ground in ("paper", "soft")
        if contrast(colours[text], colours[ground]) < 4.5
    }
    assert low == {}
    assert contrast(colours["ink"], colours["mark"]) >= 4.5


def test_contrast_is_that_of_the_guidelines():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


# -- writing it ------------------------------------------------------------------------------------


def test_a_second_book_takes_the_place_of_the_first(tmp_path):
    book = make_book(tmp_path)
    (book.folder / "stale.html").write_text("old")
    again = build_book(book.folder.parent, tmp_path / "notebooks", scripts=tmp_path / "scripts")
    assert sorted(again.folder.iterdir()) == sorted(again.files)


def test_only_executed_notebooks_that_still_have_a_source_become_pages(tmp_path):
    run = make_run(tmp_path)
    (tmp_path / "notebooks" / "01_first.ipynb").unlink()
    (run / "notebooks" / "02_second.failed.ipynb").write_text("{}")
    names = [file.stem for file in build_book(run, tmp_path / "notebooks").files]
    assert names == ["index", "02_second", "verdicts", "glossary", "reference"]


def test_a_run_folder_without_notebooks_is_told_of_with_the_next_step(tmp_path, capsys):
    assert cli.main(["book", str(tmp_path)]) == 2
    assert "run `mmer study` first" in capsys.readouterr().err


def test_the_command_prints_where_the_book_is(tmp_path, capsys, monkeypatch):
    run = make_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["book", str(run)]) == 0
    assert capsys.readouterr().out.startswith(f"{run / 'book' / 'index.html'}  (7 pages, ")
