"""Notebooks in JupyterLab, in a real browser: all cells run, and an explorer obeys the keyboard.

JupyterLab runs on a copy of the executed ``ci`` study, with settings and a kernel of its own, and
is reached over loopback alone. Skipped where there is no browser.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, find_chromium
from ci_study import finish_ci_study

SECONDS = 1000  # of playwright's milliseconds
# notebook -> (class of a control, key, class of its sentence, what of its state must change)
EXPLORERS = {
    "02_attention": ("e2e-temperature", "ArrowRight", "e2e-qkv", "temperature"),
    "04_attention_maps": ("e2e-head", "ArrowRight", "e2e-attention", "head"),
    "05_comparison": ("e2e-pair", "ArrowRight", "e2e-verdict", "pair"),
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab on a copy of the executed notebooks and their store."""
    find_chromium()
    own = tmp_path_factory.mktemp("lab")
    shutil.copytree(finish_ci_study(), own / "root" / "runs" / "ci")
    (own / "root" / "notebooks").mkdir()
    for name in EXPLORERS:
        shutil.copy(own / "root/runs/ci/notebooks" / f"{name}.ipynb", own / "root/notebooks")
    port = find_port()
    log = (own / "log").open("w", encoding="utf-8")
    server = subprocess.Popen(
        command(own / "root", port), env=environment(own), stdout=log, stderr=log,
        start_new_session=True,
    )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}/api", server, own / "log")
        yield f"http://127.0.0.1:{port}/lab/tree/notebooks"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
        log.close()


def command(root: Path, port: int) -> list[str]:
    """JupyterLab without a token: for this test, on loopback, and gone with it."""
    options = [
        "--no-browser", "--expose-app-in-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=",
        f"--ServerApp.root_dir={root}",
    ]  # fmt: skip
    return [sys.executable, "-m", "jupyterlab", *options]


def environment(own: Path) -> dict[str, str]:
    """Nothing of the user's own profile, and no news toast over the page."""
    apputils = own / "settings" / "@jupyterlab" / "apputils-extension"
    apputils.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    (apputils / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    return os.environ | {k: str(own / v) for k, v in folders.items()} | {"OMP_NUM_THREADS": "1"}


def find_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as one:
        yield one


def open_notebook(browser: Any, url: str) -> Any:
    """A page with the notebook open and its kernel waiting."""
    page = browser.new_page(viewport={"width": 1200, "height": 1600})
    page.set_default_timeout(120 * SECONDS)
    page.goto(f"{url}?reset")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    page.wait_for_function(
        "() => window.jupyterapp?.shell.currentWidget?.context?.sessionContext?.session?.kernel"
        "?.status === 'idle'"
    )
    return page


@pytest.mark.parametrize("name", EXPLORERS)
def test_a_notebook_runs_in_jupyterlab_and_its_explorer_obeys_the_keyboard(browser, lab, name):
    control, key, sentence, state = EXPLORERS[name]
    page = open_notebook(browser, f"{lab}/{name}.ipynb")
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    assert page.evaluate(ERRORS) == []
    scroll_to(page, f".{control}")
    picture = page.locator(f".widget-box:has(.{control}) img").first
    before = picture.get_attribute("src"), read_state(page, sentence, state)
    handle = page.locator(f".{control} .noUi-handle, .{control} select, .{control} input").first
    handle.focus()
    handle.press(key)
    page.wait_for_function(
        "([s, k, v]) => document.querySelector(`.${s} [data-${k}]`)?.dataset[k] !== v",
        arg=[sentence, state, before[1]],
    )
    page.wait_for_function(
        "([c, v]) => document.querySelector(`.widget-box:has(.${c}) img`).src !== v",
        arg=[control, before[0]],
    )
    page.close()


ERRORS = """() => [...window.jupyterapp.shell.currentWidget.content.model.cells]
  .flatMap((cell, i) => cell.type !== 'code' ? [] : cell.toJSON().outputs
    .filter(o => o.output_type === 'error').map(o => `cell ${i + 1}: ${o.ename}: ${o.evalue}`))"""


def read_state(page: Any, sentence: str, state: str) -> str:
    return str(page.locator(f".{sentence} [data-{state}]").first.get_attribute(f"data-{state}"))


def scroll_to(page: Any, selector: str) -> None:
    """JupyterLab keeps only the cells near the window in its page: go down until it is there."""
    cells = page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets.length")
    for i in range(cells):
        if page.locator(selector).count():
            page.locator(selector).first.scroll_into_view_if_needed()
            return
        page.evaluate(
            "i => window.jupyterapp.shell.currentWidget.content.scrollToItem(i, 'start')", i
        )
        page.wait_for_timeout(200)
    raise AssertionError(f"no {selector} in the notebook")
