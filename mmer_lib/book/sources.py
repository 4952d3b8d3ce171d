"""What the library offers, read from its source: names, how they are called, what they say.

Nothing is imported: the modules are parsed, so that a book is written without torch.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent

LIBRARY = Path(__file__).resolve().parents[1]
# What a reader of the notebooks, or a program that uses the library, may call; the rest serves it.
MODULES = (
    "corpora", "corpora.batches", "corpora.folds", "features.registry", "features.base",
    "features.extract", "encoders", "fusion", "fusion.base", "pooling", "model", "losses", "train",
    "matching", "maps", "faithfulness", "store", "claims", "integrity", "audit", "provenance",
    "sweep", "distributed", "schedule", "experiments", "robustness", "metrics", "stats", "paper",
    "plots", "widgets", "teaching", "pipeline", "book", "doctor", "options", "errors", "extras",
    "places",
)  # fmt: skip
WIDE = 88  # characters of a call in one line
MOST = 14  # lines of a constant that are shown
Function = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Entry:
    """A function, class, method or constant: its code without body, and its docstring."""

    name: str
    code: str
    text: str
    members: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Module:
    """A module of the library, ``corpora.batches``, with what it says and offers."""

    name: str
    text: str
    entries: tuple[Entry, ...]


@cache
def read_modules() -> tuple[Module, ...]:
    """The modules of ``MODULES``; what two of them offer stands with the first."""
    told: set[tuple[str, str]] = set()
    found = []
    for name in MODULES:
        places = [place for place in _public(name) if place not in told]
        told.update(places)
        entries = (_entry(*place) for place in places)
        text = ast.get_docstring(_parse(name)) or ""
        found.append(Module(name, text, tuple(e for e in entries if e)))
    return tuple(found)


def _public(module: str) -> list[tuple[str, str]]:
    """(module that defines it, name) of all in ``__all__``, else of all functions and classes."""
    tree = _parse(module)
    exported = _exported(tree)
    if exported is None:
        public = (n for n in tree.body if isinstance(n, (*Function, ast.ClassDef)))
        return [(module, n.name) for n in public if not n.name.startswith("_")]
    return [_find(module, name) for name in exported]


def _exported(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def _find(module: str, name: str) -> tuple[str, str]:
    """Where a name that ``module`` offers is defined."""
    for node in _parse(module).body:
        if isinstance(node, ast.ImportFrom) and name in [a.asname or a.name for a in node.names]:
            return _find(str(node.module).removeprefix("mmer_lib."), name)
    return module, name


def _entry(module: str, name: str) -> Entry | None:
    """What is known of a name; None if it is but an alias of another."""
    source, tree = _source(module), _parse(module)
    for node in tree.body:
        if isinstance(node, (*Function, ast.ClassDef)) and node.name == name:
            return _describe(node, source)
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if name in map(ast.unparse, targets):
                return Entry(name, _shown(source, node), "")
    return None


def _describe(node: ast.AST, source: str) -> Entry:
    text = ast.get_docstring(node) or ""  # type: ignore[arg-type]
    if isinstance(node, ast.ClassDef):
        methods = (n for n in node.body if isinstance(n, Function) and not n.name.startswith("_"))
        return Entry(
            node.name, _class(node, source), text, tuple(_describe(m, source) for m in methods)
        )
    assert isinstance(node, Function)
    return Entry(node.name, _call(node), text)


def _class(node: ast.ClassDef, source: str) -> str:
    """How it is made; of a dataclass its fields with their comments."""
    lines = source.splitlines()
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            return "class " + _call(method, node.name)
    bases = f"({', '.join(map(ast.unparse, node.bases))})" if node.bases else ""
    fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and _is_public(n.target)]
    shown = [line for n in fields for line in lines[n.lineno - 1 : n.end_lineno]]
    return "\n".join([f"class {node.name}{bases}{':' if shown else ''}", *shown])


def _is_public(target: ast.expr) -> bool:
    return not ast.unparse(target).startswith("_")


def _call(node: ast.FunctionDef | ast.AsyncFunctionDef, made: str = "") -> str:
    """How a function is called, with types and defaults; a property as an attribute.

    ``made`` is the class whose ``__init__`` it is.
    """
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and not made else ""
    marks = [ast.unparse(d) for d in node.decorator_list]
    if any(mark.endswith("property") for mark in marks):
        return f"{node.name}: {returns.removeprefix(' -> ')}"
    given = list(_arguments(node.args, bound="staticmethod" not in marks))
    name = made or node.name
    call = f"{name}({', '.join(given)}){returns}"
    if len(call) <= WIDE:
        return call
    return "\n".join([f"{name}(", *(f"    {one}," for one in given), f"){returns}"])


def _arguments(arguments: ast.arguments, bound: bool) -> Iterator[str]:
    """Each argument with its type and default, in order; ``self`` is left out."""
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    for one, default in zip(plain, defaults, strict=True):
        if not (bound and one is plain[0] and one.arg in ("self", "cls")):
            yield _argument(one, default)
    if arguments.vararg or arguments.kwonlyargs:
        yield "*" + (_argument(arguments.vararg, None) if arguments.vararg else "")
    for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _argument(one, default)
    if arguments.kwarg:
        yield "**" + _argument(arguments.kwarg, None)


def _argument(one: ast.arg, default: ast.expr | None) -> str:
    kind = f": {ast.unparse(one.annotation)}" if one.annotation else ""
    equals = " = " if kind else "="
    return one.arg + kind + (f"{equals}{ast.unparse(default)}" if default is not None else "")


def _shown(source: str, node: ast.stmt) -> str:
    """A constant as it is written, cut if it is long."""
    lines = source.splitlines()[node.lineno - 1 : node.end_lineno]
    if len(lines) > MOST:
        lines = [*lines[: MOST - 2], "    ...", lines[-1]]
    return dedent("\n".join(line.removesuffix("  # fmt: skip") for line in lines))


@cache
def _parse(module: str) -> ast.Module:
    return ast.parse(_source(module))


@cache
def _source(module: str) -> str:
    path = LIBRARY.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.read_text(encoding="utf-8")
