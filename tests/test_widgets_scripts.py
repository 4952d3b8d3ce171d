"""The book's explorers in a real browser: keyboard and pointer move them, their numbers fit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from browser import Opened, chromium, opened, violations
from explorers import KINDS, PAIRS, runs_table, show, trained

from mmer_lib import maps, widgets
from mmer_lib.book.theme import DARK, LIGHT, contrast
from mmer_lib.plots.mechanism import attend
from mmer_lib.plots.reading import row_entropy
from mmer_lib.stats import compare

THEMES = {
    name: "; ".join(f"--{what}: {colour}" for what, colour in colours.items())
    for name, colours in (("light", LIGHT), ("dark", DARK))
}
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>:root {{ {theme} }} body {{ background: var(--paper); color: var(--ink); }}
section {{ background: var(--soft); padding: 1rem; }}</style></head>
<body><main><h1>{title}</h1><section class="explorer" data-kind="{kind}" aria-label="{title}">
<p>{text}</p><div class="stage"></div><script type="application/json">{data}</script></section>
</main><script>{common}</script><script>{script}</script><script>mmer.start()</script></body></html>
"""
# What every text of a canvas is written in, and what stood in its place before.
WATCH_TEXT = """() => {
  const write = CanvasRenderingContext2D.prototype.fillText;
  window.written = [];
  CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
    const at = this.getTransform().transformPoint({ x, y });
    const [r, g, b, a] = this.getImageData(at.x, at.y, 1, 1).data;
    const hex = (c) => Math.round(c).toString(16).padStart(2, "0");
    const paper = getComputedStyle(document.querySelector("section")).backgroundColor;
    const under = paper.match(/\\d+/g)
      .map((p, i) => hex(p * (1 - a / 255) + [r, g, b][i] * a / 255));
    window.written.push([text, this.fillStyle, "#" + under.join("")]);
    write.call(this, text, x, y);
  };
  window.dispatchEvent(new Event("resize"));
  return window.written;
}"""
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """A page a kind and theme, as the book writes them."""
    folder, written = tmp_path_factory.mktemp("pages"), {}
    for kind in KINDS:
        book = show(kind).book
        data = json.dumps(book.data).replace("</", "<\\/")
        for theme, colours in THEMES.items():
            written[kind, theme] = folder / f"{kind}_{theme}.html"
            written[kind, theme].write_text(
                PAGE.format(
                    title=book.title, text=book.text, kind=kind, data=data, theme=colours,
                    common=widgets.script(), script=widgets.script(kind),
                )
            )  # fmt: skip
    return written


@pytest.fixture
def one(browser: Any) -> Iterator[Opened]:
    with opened(browser, viewport={"width": 900, "height": 900}) as page:
        yield page


def state(page: Any) -> dict[str, str]:
    """What stands in the stage's ``data-*`` attributes."""
    return page.evaluate("() => ({...document.querySelector('.stage').dataset})")


def pixels(page: Any) -> str:
    return page.evaluate("() => document.querySelector('canvas').toDataURL()")


def put(page: Any, name: str, value: object) -> None:
    """Set a control as its user would, in one step."""
    page.evaluate(
        "([name, value]) => { const c = document.querySelector('.e2e-' + name); c.value = value;"
        " c.dispatchEvent(new Event('input')); }",
        [name, str(value)],
    )


@each_kind
@pytest.mark.parametrize("theme", THEMES)
def test_a_page_opens_without_a_request_or_an_error_and_axe_finds_nothing_grave(
    one, pages, kind, theme
):
    page = one.go(pages[kind, theme])
    assert one.problems == []
    assert one.requests == []
    label = page.get_attribute("canvas", "aria-label")
    assert len(label) > 40
    assert page.inner_text("[aria-live]") in label
    assert violations(page) == []


@each_kind
def test_dark_and_light_pages_draw_in_their_own_colours(one, pages, kind):
    light = pixels(one.go(pages[kind, "light"]))
    assert pixels(one.go(pages[kind, "dark"])) != light


@each_kind
@pytest.mark.parametrize("theme", THEMES)
def test_every_text_in_a_picture_can_be_read(one, pages, kind, theme):
    written = one.go(pages[kind, theme]).evaluate(WATCH_TEXT)
    assert len(written) > 5
    low = [(text, c, ground) for text, c, ground in written if contrast(c, ground) < 4.5]
    assert low == []


@each_kind
def test_in_a_narrow_window_the_picture_scrolls_and_nothing_else_is_cut_off(browser, pages, kind):
    with opened(browser, viewport={"width": 400, "height": 800}) as narrow:
        page = narrow.go(pages[kind, "light"])
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert page.locator(".scroll").evaluate("box => box.scrollWidth > box.clientWidth")
        for control in page.locator(".stage :is(input, select, output, .said)").all():
            box = control.bounding_box()
            assert box["x"] + box["width"] <= 400, control.get_attribute("class")


@each_kind
def test_every_control_has_a_label_and_follows_the_keyboard(one, pages, kind):
    page = one.go(pages[kind, "light"])
    count = page.locator(".stage input, .stage select").count()
    assert count
    for i in range(count):
        control = page.locator(".stage input, .stage select").nth(i)
        tag = control.evaluate("c => c.type")
        assert control.evaluate("c => c.labels.length > 0 || c.hasAttribute('aria-label')")
        if control.evaluate("c => c.tagName === 'SELECT' && c.options.length < 2"):
            continue
        before = state(page), pixels(page)
        control.focus()
        keys = {"checkbox": ["Space"], "range": ["Home", "End"], "number": 8 * ["ArrowDown"]}
        for key in keys.get(tag, ["End", "Home", "ArrowDown"]):
            page.keyboard.press(key)
            if state(page) != before[0] and pixels(page) != before[1]:
                break
        else:
            pytest.fail(f"{control.get_attribute('class')}: state or picture stays")
        if tag == "checkbox":
            page.keyboard.press("Space")  # where all keys are masked, no value counts
    assert one.problems == []


def test_the_palettes_are_matplotlibs(one, pages):
    page = one.go(pages["qkv", "light"])
    for name in ("cividis", "viridis"):
        for share in np.linspace(0, 1, 23):
            given = page.evaluate("([n, s]) => mmer[n](s)", [name, float(share)])
            mine = np.array([int(x) for x in given[4:-1].split(",")])
            theirs = 255 * np.array(mpl.colormaps[name](float(share))[:3])
            assert abs(mine - theirs).max() < 15, (name, share)  # of 255: none can see it


def test_decoded_numbers_are_those_that_were_packed(one, pages):
    page = one.go(pages["qkv", "light"])
    numbers = np.random.default_rng(0).uniform(0, 2, (3, 4))
    packed = widgets.base.pack(numbers)
    call = "p => Array.from(mmer.decode(p.data, p.shape), (x) => x * p.scale / 255)"
    np.testing.assert_allclose(
        np.reshape(page.evaluate(call, packed), (3, 4)), numbers, atol=2 / 255
    )


# -- numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.1, 1.0, 3.3])
def test_the_playground_computes_what_the_library_does(one, pages, temperature):
    page = one.go(pages["qkv", "light"])
    q, k, v = (np.array(x) for x in (widgets.qkv.QUERIES, widgets.qkv.KEYS, widgets.qkv.VALUES))
    q[0, 1], k[2, 0], v[3, 1] = -4.5, 9.0, 2.5
    for name, value in {"q12": -4.5, "k31": 9, "v42": 2.5, "temperature": temperature}.items():
        put(page, name, value)
    page.uncheck(".e2e-mask2")
    found = attend(q, k, v, temperature, [True, False, True, True])
    told = state(page)
    np.testing.assert_allclose(json.loads(told["weights"]), found.weights, atol=1e-12)
    np.testing.assert_allclose(json.loads(told["output"]), found.output, atol=1e-12)
    for j in (1, 3, 4):
        page.uncheck(f".e2e-mask{j}")
    assert not np.any(json.loads(state(page)["output"]))
    assert "No key may be read" in page.inner_text("[aria-live]")


@pytest.mark.parametrize(
    ("margin", "confidence", "folds"),
    [(1.0, 95.0, 5), (0.1, 99.5, 2), (10.0, 80.0, 3), (2.5, 90.0, 4)],
)  # fmt: skip
def test_the_verdict_and_its_intervals_are_those_of_compare(one, pages, margin, confidence, folds):
    page, table = one.go(pages["verdict", "light"]), runs_table()
    for i, pair in enumerate(PAIRS):
        put(page, "pair", i)
        chosen = {"margin": margin, "confidence": confidence, "folds": folds - 1}
        for name, value in chosen.items():
            put(page, name, value)
        told = state(page)
        runs = table[table["fold"] < folds]
        mine = compare(runs, *pair, "accuracy", margin / 100, 1 - confidence / 100)
        assert told["verdict"] == mine.verdict
        expected = {
            "low": mine.low, "high": mine.high, "lowE": mine.low_equivalence,
            "highE": mine.high_equivalence, "left": mine.left, "right": mine.right,
            "differ": mine.p_difference, "same": mine.p_equivalence,
        }  # fmt: skip
        for name, value in expected.items():
            assert float(told[name]) == pytest.approx(value, rel=1e-6, abs=1e-10), name


def test_a_dragged_query_gets_the_librarys_answer(one, pages):
    page = one.go(pages["pooling", "light"])
    before, box = state(page), page.locator("canvas").bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.move(box["x"] + 90, box["y"] + 90)
    assert state(page) == before, "a pointer that only passes drags nothing"
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 300)
    page.mouse.up()
    told = state(page)
    assert (told["x"], told["y"]) != (before["x"], before["y"])
    queries = [[float(told["x"]), float(told["y"])], *widgets.pooling.QUERIES[1:]]
    found = attend(queries, widgets.pooling.FRAMES, widgets.pooling.FRAMES)
    np.testing.assert_allclose(np.fromstring(told["answer"], sep=" "), found.output[0], atol=1e-4)
    mean = np.fromstring(told["mean"], sep=" ")
    np.testing.assert_allclose(mean, found.output.mean(axis=0), atol=1e-4)


def test_the_row_under_the_pointer_is_shown_with_the_librarys_numbers(one, pages):
    page = one.go(pages["attention", "light"])
    put(page, "model", "cross-AVT")
    put(page, "head", 2)
    box = page.locator("canvas").bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 44 + 249)  # the lowest row of the map
    told = state(page)
    model, part = trained()["cross-AVT"]
    weights = maps.attention_maps(model, part, 0)[told["query"], told["source"]][1]
    assert int(told["step"]) == len(weights) - 1
    last = weights[-1]
    assert float(told["weight"]) == pytest.approx(float(last.max()), abs=float(weights.max()) / 255)
    assert float(told["entropy"]) == pytest.approx(float(row_entropy(last)), abs=0.01)
    assert float(told["padding"]) == 0


def test_padding_that_a_model_reads_is_told(one, pages):
    page = one.go(pages["attention", "light"])
    name = "cross-AVT@released,time_mixing=false"
    put(page, "model", name)
    told = state(page)
    model, part = trained()[name]
    weights = maps.attention_maps(model, part, 0)[told["query"], told["source"]].mean(axis=0)
    real = int(part.corpus.features[told["source"]].lengths[0])
    assert float(told["padding"]) == pytest.approx(float(weights[0, real:].sum()), abs=0.01)


def test_pointing_at_a_dot_chooses_its_fusion(one, pages):
    page = one.go(pages["zoo", "light"])
    sweep = """() => {
        const canvas = document.querySelector('canvas'), box = canvas.getBoundingClientRect();
        const stage = document.querySelector('.stage'), seen = new Set();
        for (let x = 0; x < box.width; x += 8) for (let y = 0; y < box.height; y += 8) {
            const at = { clientX: box.left + x, clientY: box.top + y };
            canvas.dispatchEvent(new PointerEvent('pointermove', at));
            seen.add(stage.dataset.fusion);
        }
        return [...seen];
    }"""
    assert set(page.evaluate(sweep)) == {"self-AT", "cross-AT", "mult-AT", "mean-AT"}


def test_a_fold_tells_what_leaks(one, pages):
    page = one.go(pages["folds", "light"])
    assert json.loads(state(page)["leaks"])["speakers"] > 0
    put(page, "protocol", "by-speaker")
    assert json.loads(state(page)["leaks"])["speakers"] == 0
    assert "share 0 speakers" in page.inner_text("[aria-live]")
