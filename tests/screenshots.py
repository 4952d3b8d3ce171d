"""Take the screenshots of the book that stand in ``figures/``: ``python tests/screenshots.py``.

Needs the book of a finished study (``make book``), playwright and a browser.
"""

from __future__ import annotations

from pathlib import Path

from browser import chromium, opened

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "runs" / "quick" / "book"
FIGURES = ROOT / "figures"
WINDOW = {"width": 1280, "height": 860}
# figure -> page, what stands at the top of the window ("" is the page's own top), colours
SHOTS = {
    "book_index": ("index.html", "", "light"),
    "book_attention": ("04_attention_maps.html", '.explorer[data-kind="attention"]', "light"),
    "book_verdict": ("05_comparison.html", '.explorer[data-kind="verdict"]', "dark"),
}


def main() -> None:
    with chromium() as browser:
        for name, (page, place, colours) in SHOTS.items():
            with opened(browser, viewport=WINDOW, color_scheme=colours) as one:
                shown = one.go(BOOK / page)
                if place:
                    shown.evaluate(SCROLL, place)
                shown.wait_for_timeout(300)
                shown.screenshot(path=FIGURES / f"{name}.png")


SCROLL = "at => window.scrollBy(0, document.querySelector(at).getBoundingClientRect().top - 24)"

if __name__ == "__main__":
    main()
