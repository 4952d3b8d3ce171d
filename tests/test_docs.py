"""The pages in docs/: their code compiles, and every command, option and argument exists."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest
import typer

import mmer_lib.cli.commands  # noqa: F401  which adds all commands
from mmer_lib.cli.shell import app

PAGES = sorted((Path(__file__).resolve().parents[1] / "docs").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    found = [m for page in PAGES for m in BLOCK.findall(page.read_text(encoding="utf-8"))]
    return [text for kind, text in found if kind == language]


def commands(program: str) -> list[list[str]]:
    """The words of every line of a shell block that runs ``program``."""
    lines = [line for text in blocks("bash") for line in text.splitlines()]
    return [w for line in lines if (w := shlex.split(line, comments=True))[:1] == [program]]


def test_there_is_something_to_test():
    assert PAGES
    assert blocks("python")
    assert len(commands("mmer")) >= 3
    assert len(commands("dask")) >= 3


@pytest.mark.parametrize("words", commands("mmer"), ids=" ".join)
def test_every_option_of_our_commands_exists(words):
    command = typer.main.get_command(app).commands[words[1]]
    known = {option for p in command.params for option in p.opts}
    assert {w for w in words if w.startswith("--")} <= known


@pytest.mark.parametrize("words", commands("dask"), ids=" ".join)
def test_every_option_of_dasks_commands_exists(words):
    pytest.importorskip("distributed")
    module = importlib.import_module(f"distributed.cli.dask_{words[1]}")
    known = {o for p in module.main.params for o in (*p.opts, *p.secondary_opts)}
    assert {w for w in words if w.startswith("--")} <= known


@pytest.mark.parametrize("text", blocks("python"), ids=lambda text: text.splitlines()[0])
def test_python_compiles_and_asks_only_for_what_there_is(text):
    """Names are imported and arguments bound, but for libraries that are not installed here."""
    tree = ast.parse(text)
    names: dict[str, object] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("mmer_lib"):
            module = importlib.import_module(str(node.module))
            names |= {alias.name: getattr(module, alias.name) for alias in node.names}
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    checked = [call for call in calls if call.func.id in names]
    assert {call.func.id for call in checked} >= {"Plan", "run_plan", "ResultStore"}
    for call in checked:
        given = {str(k.arg): None for k in call.keywords}
        inspect.signature(names[call.func.id]).bind(*call.args, **given)


def test_environment_variables_for_certificates_name_settings_of_dask():
    pytest.importorskip("distributed")
    import dask
    import distributed  # noqa: F401  which brings its settings

    text = "\n".join(blocks("bash"))
    roles = re.search(r"for role in ([A-Z ]+);", text)[1].split()
    named = set(re.findall(r"DASK_(DISTRIBUTED__COMM__TLS__[A-Z_${}a-z]+?)=", text))
    assert len(named) == 3
    for name in named:
        for role in roles:
            key = name.replace("${role}", role).lower().replace("__", ".")
            assert dask.config.get(key.replace("_", "-"), "missing") != "missing"


def test_links_of_the_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).exists()
