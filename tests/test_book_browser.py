"""The book in a real browser: every page from disk, nothing asked for, everything by keyboard.

A small book made here, and the book of runs/quick or runs/ci, where a study has been run.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browser import chromium, opened, violations
from small_book import ATTACK, make_book

from mmer_lib.book import build_book

ROOT = Path(__file__).resolve().parents[1]
PIXELS = "canvas => canvas.toDataURL()"
HIDDEN_FORMULAS = """() => [...document.querySelectorAll("math")].filter(m => {
  const box = m.getBoundingClientRect();
  return !m.closest("details:not([open])") && (box.width < 2 || box.height < 5);
}).map(m => m.getAttribute("alttext"))"""
ALIKE = (".code", "td", "pre")  # many, and slow to look at
FOLLOW = """() => {
  window.reached = new Set();
  document.addEventListener("focusin", (event) => window.reached.add(event.target));
}"""
MISSED = """() => [...document.querySelectorAll(
  "a[href], button, input, select, textarea, summary, audio[controls], [tabindex='0']")]
  .filter(e => e.checkVisibility() && !window.reached.has(e)).map(e => e.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    return make_book(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The book of a study that was run here, written elsewhere."""
    runs = [ROOT / "runs" / name for name in ("quick", "ci")]
    run = next((r for r in runs if any(r.glob("notebooks/[0-9][0-9]_*[!d].ipynb"))), None)
    if run is None:
        pytest.skip("no study was run here: `mmer study` leaves one in runs/quick")
    copy = tmp_path_factory.mktemp("runs") / run.name
    copy.mkdir()
    for name in ("notebooks", "verdicts.csv", "figures"):
        if (run / name).exists():
            (copy / name).symlink_to(run / name)
    return build_book(copy, ROOT / "notebooks")


def move_by_keyboard(page, section) -> bool:
    """Whether the picture of an explorer changes when one of its controls is moved."""
    canvas = section.locator("canvas").first
    for control in section.locator("input, select").all():
        before = canvas.evaluate(PIXELS)
        control.focus()
        for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "Space"):
            page.keyboard.press(key)
            if canvas.evaluate(PIXELS) != before:
                return True
    return False


def reach_all(page) -> list[str]:
    """The controls of a page that Tab does not reach, from its top to its end."""
    page.evaluate(FOLLOW)
    for _ in range(2000):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
    return page.evaluate(MISSED)


# -- a small book ----------------------------------------------------------------------------------


def test_every_page_opens_from_disk_without_a_request_or_a_complaint(browser, book):
    with opened(browser) as one:
        for file in book.files:
            page = one.go(file)
            assert page.title() != "taken"
            assert page.evaluate(HIDDEN_FORMULAS) == []
        assert one.requests == []
        assert [p for p in one.problems if "Content Security Policy" not in p] == []


def test_formulas_take_room_and_the_picture_has_its_size(browser, book):
    with opened(browser) as one:
        page = one.go(book.folder / "01_first.html")
        assert page.locator("math").count() == 2
        assert page.locator("math[display=block]").bounding_box()["height"] > 25
        assert page.locator("#fig-01_line img").evaluate("i => i.naturalWidth") > 300


def test_a_transcript_with_a_script_in_it_stays_text(browser, book):
    with opened(browser) as one:
        page = one.go(book.folder / "01_first.html")
        # in a table, in what was printed, in where a figure comes from
        assert page.get_by_text(ATTACK).count() == 3
        assert page.locator("b", has_text="hm").count() == 0
        page.locator("#query").fill("onclick")
        page = one.go(book.folder / "verdicts.html")
        assert ATTACK in page.locator(".sentences").inner_text()


def test_what_html_brings_along_cannot_run(browser, book, tmp_path):
    """Were something to slip through the cleaning, the policy would stop it."""
    text = (book.folder / "glossary.html").read_text()
    planted = (
        "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">"
    )
    (tmp_path / "planted.html").write_text(text.replace("</main>", planted + "</main>"))
    with opened(browser) as one:
        page = one.go(tmp_path / "planted.html")
        assert page.title().startswith("Glossary")
        assert any("Content Security Policy" in problem for problem in one.problems)


def test_the_canvas_of_an_explorer_follows_its_control_by_keyboard(browser, book):
    with opened(browser) as one:
        page = one.go(book.folder / "02_second.html")
        assert move_by_keyboard(page, page.locator("section.explorer"))
        assert page.locator(".stage").get_attribute("data-value") == "2"


def test_tab_reaches_every_control(browser, book):
    with opened(browser) as one:
        for name in ("01_first", "02_second", "verdicts"):
            assert reach_all(one.go(book.folder / f"{name}.html")) == [], name


def test_the_first_tab_leads_past_the_sidebar(browser, book):
    with opened(browser) as one:
        page = one.go(book.folder / "01_first.html")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"


def test_the_current_page_is_in_view_in_a_low_window(browser, book):
    low = {"width": 1200, "height": 240}
    with opened(browser, viewport=low) as one:
        page = one.go(book.folder / "glossary.html")
        assert page.locator('#pages [aria-current="page"]').bounding_box()["y"] < low["height"]
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"


def test_a_hint_opens_by_keyboard(browser, book):
    with opened(browser) as one:
        page = one.go(book.folder / "01_first.html")
        hint = page.locator("details", has_text="Hint")
        hint.locator("summary").focus()
        page.keyboard.press("Enter")
        assert hint.get_by_text("Think of").is_visible()


def test_search_by_keyboard_finds_a_page_and_opens_it(browser, book):
    with opened(browser) as one:
        page = one.go(book.folder / "index.html")
        page.keyboard.press("/")
        page.keyboard.type("Zanzib control")
        assert page.locator("#found").inner_text() == "1 section"
        assert "Move the zanzibar control" in page.locator("#results").inner_text()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.wait_for_url("**/02_second.html#the-explorer")
        assert one.problems == []


def test_search_finds_a_function_in_the_reference(browser, book):
    with opened(browser) as one:
        page = one.go(book.index)
        page.locator("#query").fill("stats.variance_components")
        hit = page.locator("#results a").first
        assert hit.locator("b").inner_text() == "Reference › stats.variance_components"
        hit.click()
        page.wait_for_url("**/reference.html#stats.variance_components")
        assert one.problems == []


def test_a_search_ends_with_escape_and_tells_when_nothing_is_found(browser, book):
    with opened(browser) as one:
        page = one.go(book.folder / "index.html")
        page.locator("#query").fill("qwertz")
        assert "Nothing found" in page.locator("#found").inner_text()
        assert not page.locator("#pages").is_visible()
        page.keyboard.press("Escape")
        assert page.locator("#pages").is_visible()


def test_the_chosen_theme_is_remembered_from_page_to_page(browser, book):
    ground = "getComputedStyle(document.body).backgroundColor"
    with opened(browser, color_scheme="light") as one:
        page = one.go(book.index)
        light = page.evaluate(ground)
        page.locator("#theme").focus()
        page.keyboard.press("Enter")
        dark = page.evaluate(ground)
        assert dark != light
        assert page.locator("#theme").get_attribute("aria-pressed") == "true"
        assert one.go(book.folder / "glossary.html").evaluate(ground) == dark
    with opened(browser, color_scheme="dark") as one:
        assert one.go(book.index).evaluate(ground) == dark


def test_paper_is_white_and_shows_the_text_alone(browser, book):
    with opened(browser, color_scheme="dark") as one:
        page = one.go(book.folder / "01_first.html")
        page.emulate_media(media="print", color_scheme="dark")
        assert (
            page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        )
        assert not page.locator("header.side").is_visible()
        page.goto((book.folder / "02_second.html").as_uri())
        assert not page.locator(".explorer .controls").is_visible()
        assert page.pdf()[:4] == b"%PDF"


def test_a_narrow_window_has_no_sideways_scrolling_and_a_menu(browser, book):
    with opened(browser, viewport={"width": 360, "height": 700}) as one:
        for file in book.files:
            page = one.go(file)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, file.name
        assert not page.locator("#pages").is_visible()
        page.locator("#menu").focus()
        page.keyboard.press("Enter")
        assert page.locator("#pages").is_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, book, theme):
    with opened(browser, color_scheme=theme) as one:
        found = {file.stem: violations(one.go(file)) for file in book.files}
        assert {name: what for name, what in found.items() if what} == {}


# -- the book of a study ---------------------------------------------------------------------------


def test_pages_of_a_study_are_below_three_megabytes(real):
    sizes = {file.name: file.stat().st_size for file in real.files}
    assert {name: size for name, size in sizes.items() if size >= 3_000_000} == {}


def test_pages_of_a_study_ask_for_nothing_show_their_formulas_and_move(browser, real):
    with opened(browser) as one:
        for file in real.files:
            page = one.go(file)
            assert page.evaluate(HIDDEN_FORMULAS) == []
            for section in page.locator("section.explorer:has(canvas)").all():
                assert move_by_keyboard(page, section), section.get_attribute("aria-label")
        assert one.requests == []
        assert one.problems == []


@pytest.mark.parametrize(("theme", "rule"), [("light", ""), ("dark", "color-contrast")])
def test_axe_finds_nothing_serious_in_pages_of_a_study(browser, real, theme, rule):
    """Colours in both themes, all the rest once; code and cells were looked at above."""
    with opened(browser, color_scheme=theme) as one:
        found = {file.stem: violations(one.go(file), *ALIKE, rule=rule) for file in real.files}
        assert {name: what for name, what in found.items() if what} == {}


def test_pages_of_a_study_fit_a_narrow_window_and_tab_reaches_every_control(browser, real):
    with opened(browser, viewport={"width": 400, "height": 800}) as one:
        for file in real.files:
            page = one.go(file)
            assert page.evaluate("document.documentElement.scrollWidth") <= 400, file.name
            assert reach_all(page) == [], file.name


def test_links_of_a_study_lead_to_pages_and_places(real):
    texts = {file.name: file.read_text(encoding="utf-8") for file in real.files}
    names = {name: set(re.findall(r'\bid="([^"]+)"', text)) for name, text in texts.items()}
    broken = []
    for page, text in texts.items():
        for file, anchor in re.findall(r'<a [^>]*href="([\w.-]*\.html)?(?:#([^"]*))?"', text):
            target = names.get(file or page)
            if target is None or (anchor and anchor not in target):
                broken.append(f"{page}: {file}#{anchor}")
    assert broken == []
