"""Chromium for the tests that need a real browser, with no way out of this machine.

Where playwright or a browser is missing, ``chromium`` skips the test and says which.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def find_chromium() -> str:
    """The path of a browser, or a skipped test."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser found: install one of {', '.join(NAMES)} to test in it")
    return found


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser of playwright."""
    path = find_chromium()
    reason = "playwright is not installed: pip install playwright to test in a browser"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Opened:
    """A page that is open: what it asked for beyond itself, and what went wrong in it."""

    page: Any
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def go(self, target: Path | str) -> Any:
        """Open a file, or a file with ``#anchor``, and return playwright's page."""
        url = target.resolve().as_uri() if isinstance(target, Path) else target
        self.page.goto(url)
        self.requests = [r for r in self.requests if r != url.split("#")[0]]
        return self.page


@contextmanager
def opened(browser: Any, **settings: Any) -> Iterator[Opened]:
    """A fresh context in which every request to a network is refused and every request counted."""
    context = browser.new_context(**settings)
    context.route(lambda url: url.startswith(("http:", "https:", "ws")), lambda r: r.abort())
    one = Opened(context.new_page())
    one.page.on("request", lambda r: r.url.startswith("data:") or one.requests.append(r.url))
    one.page.on("pageerror", lambda error: one.problems.append(str(error)))
    one.page.on("console", lambda m: m.type in ("error", "warning") and one.problems.append(m.text))
    try:
        yield one
    finally:
        context.close()


def violations(page: Any, *leave_out: str, rule: str = "") -> list[str]:
    """What axe-core calls serious or critical on a page: rule (of one, or all), and places."""
    reason = "axe-playwright-python is not installed: pip install it to check accessibility"
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=reason)
    options: dict[str, Any] = {"resultTypes": ["violations"], "preload": False}
    if rule:
        options["runOnly"] = [rule]
    found = (
        axe.Axe()
        .run(page, {"exclude": [[place] for place in leave_out or (".nothing",)]}, options)
        .response["violations"]
    )
    grave = [v for v in found if v["impact"] in ("serious", "critical")]
    return [f"{v['id']}: {[n['html'][:200] for n in v['nodes'][:3]]}" for v in grave]
