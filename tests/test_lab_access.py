"""JupyterLab runs code for whoever reaches it: this machine alone, and with the token alone."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_lab_browser import environment, find_port, wait_for

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def command() -> list[str]:
    """What ``make lab`` starts, after ``jupyter``."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (line,) = re.findall(r"^lab:.*\n\t(?:@)?\$\(BIN\)/jupyter (.*)$", makefile, re.MULTILINE)
    return shlex.split(line)


def test_lab_listens_on_this_machine_alone(command):
    assert command[:2] == ["lab", "notebooks"]
    assert [word for word in command if "ip=" in word.lower()] == ["--ip=127.0.0.1"]


@pytest.mark.parametrize(
    "word", ["token", "password", "auth", "allow", "origin", "xsrf", "no-", "--config", "$"]
)
def test_nothing_of_its_command_takes_a_lock_away(command, word):
    assert [given for given in command if word in given] == []


def test_no_file_of_the_repository_starts_jupyter_without_a_token():
    """But for the test of notebooks in a browser, whose server goes with it."""
    texts = [ROOT / "Makefile", ROOT / "README.md", *(ROOT / "mmer_lib").rglob("*.py")]
    found = [
        file.name
        for file in texts
        if re.search(r"token\s*=\s*['\"]?(\s|$)|NotebookApp\.token", file.read_text("utf-8"), re.M)
    ]
    assert found == []


@pytest.fixture(scope="module")
def server(tmp_path_factory, command) -> Iterator[tuple[int, str]]:
    """Port and log of a JupyterLab as ``make lab`` starts it, without a browser."""
    own = tmp_path_factory.mktemp("lab")
    (own / "notebooks").mkdir()
    port = find_port()
    more = ["--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0"]
    with (own / "log").open("w", encoding="utf-8") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "jupyter", *command, *more], cwd=own, env=environment(own),
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            wait_for(f"http://127.0.0.1:{port}/login", started, own / "log")
            yield port, (own / "log").read_text(encoding="utf-8")
        finally:
            os.killpg(started.pid, signal.SIGTERM)
            started.wait(30)


def status(port: int, path: str, token: str = "") -> int:
    headers = {"Authorization": f"token {token}"} if token else {}
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_request_without_the_token_is_refused_and_one_with_it_is_not(server):
    port, log = server
    (token,) = set(re.findall(r"[?&]token=([0-9a-f]{32,})", log))
    for path in ("/api/contents", "/api/kernels", "/api/sessions", "/api/terminals"):
        assert status(port, path) == 403, path
        assert status(port, path, "0" * len(token)) == 403, path
        assert status(port, path, token) == 200, path


def test_other_addresses_of_this_machine_do_not_answer(server):
    """127.0.0.2 is this machine as well, but not the address that it listens on."""
    port, _ = server
    with socket.socket() as s:
        s.settimeout(5)
        assert s.connect_ex(("127.0.0.1", port)) == 0
    if sys.platform != "linux":
        pytest.skip("only Linux has 127.0.0.2 without setting it up")
    with socket.socket() as s:
        s.settimeout(5)
        assert s.connect_ex(("127.0.0.2", port)) != 0
