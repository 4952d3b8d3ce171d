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
# figure -> page, the explorer at the top of the window, colours, what its controls are set to
SHOTS: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "book_index": ("index.html", "", "light", {}),
    "book_attention": ("04_attention_maps.html", "attention", "light", {"step": "5"}),
    "book_verdict": ("05_comparison.html", "verdict", "dark", {"pair": "1", "margin": "4"}),
}


def main() -> None:
    with chromium() as browser:
        for name, (page, kind, colours, chosen) in SHOTS.items():
            with opened(browser, viewport=WINDOW, color_scheme=colours) as one:
                shown = one.go(BOOK / page)
                if kind:
                    shown.evaluate(MOVE, [f'.explorer[data-kind="{kind}"]', chosen])
                shown.wait_for_timeout(300)
                shown.screenshot(path=FIGURES / f"{name}.png")


MOVE = """([place, chosen]) => {
  const explorer = document.querySelector(place);
  for (const [name, value] of Object.entries(chosen)) {
    const control = explorer.querySelector(`.e2e-${name}`);
    control.value = value;
    control.dispatchEvent(new Event("input"));
  }
  scrollBy({ top: explorer.getBoundingClientRect().top - 14, behavior: "instant" });
}"""

if __name__ == "__main__":
    main()
