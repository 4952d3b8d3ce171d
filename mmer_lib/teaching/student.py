"""The student edition: the notebooks without their solutions, in a folder of their own.

A cell tagged ``solution`` becomes a stub: ``name = ...`` for every name that it assigns and a later
cell uses; a function keeps its first line and its docstring. Outputs from the first solution on are
cleared, and where the notebooks say ``"../figures"`` the edition says ``"figures"``: whatever it
writes stays in its folder. All else is as it was, and the edition runs from top to end unanswered.
"""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterable, Iterator
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mmer_lib.errors import InputError
from mmer_lib.pipeline.notebooks import read_notebooks, write_notebook

# What is assigned inside of these stays inside.
_OWN_NAMES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp,
    ast.SetComp, ast.DictComp, ast.GeneratorExp)  # fmt: skip


def write_student_edition(source: Path, dest: Path) -> list[Path]:
    """Write the notebooks of ``source`` without solutions, and what they need to run, to ``dest``.

    Returns the notebooks. Raises ``InputError`` for a ``dest`` that holds anything or cannot be
    written, and for a folder without notebooks; then nothing is written.
    """
    _check_empty(dest)
    notebooks = read_notebooks(source)
    editions = {n.path.name: student_edition(n.node, n.path.name) for n in notebooks.values()}
    return _write(source, dest, editions)


def write_copy(source: Path, dest: Path) -> list[Path]:
    """Write the notebooks of ``source`` as they are, and what they need to run, to ``dest``.

    Returns the notebooks. Errors as those of ``write_student_edition``.
    """
    _check_empty(dest)
    notebooks = read_notebooks(source)
    return _write(source, dest, {n.path.name: n.node for n in notebooks.values()})


def _write(source: Path, dest: Path, editions: dict[str, Any]) -> list[Path]:
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{dest.name}-", dir=dest.parent) as beside:
            _fill(Path(beside), source, editions)
            dest.mkdir(exist_ok=True)
            for made in sorted(Path(beside).iterdir()):
                made.replace(dest / made.name)
    except OSError as error:
        raise InputError(f"cannot write {dest}: {error.strerror}. Choose another folder") from error
    return [dest / name for name in editions]


def _check_empty(dest: Path) -> None:
    """Raise ``InputError`` unless ``dest`` is free or an empty folder."""
    if dest.is_symlink() or (dest.exists() and not dest.is_dir()):
        raise InputError(f"{dest} is there and is no folder: choose another one")
    if dest.is_dir() and any(dest.iterdir()):
        raise InputError(f"{dest} is not empty: choose a new folder, or empty this one first")


def _fill(folder: Path, source: Path, editions: dict[str, Any]) -> None:
    """The edition, the summaries that its notebooks read, and the pages beside them."""
    for name, node in editions.items():
        write_notebook(node, folder / name)
    for page in sorted(source.glob("*.md")):
        shutil.copyfile(page, folder / page.name)
    if (source / "summaries").is_dir():
        shutil.copytree(source / "summaries", folder / "summaries")


def student_edition(node: Any, name: str = "notebook") -> Any:
    """A notebook's node with stubs in place of its solutions, the source left as it is.

    Raises ``InputError`` for a cell that is no Python; ``name`` is how the notebook is called then.
    """
    edition = deepcopy(node)
    edition.metadata.pop("mmer", None)  # it tells of outputs that are no longer all there
    code = [cell for cell in edition.cells if cell.cell_type == "code"]
    trees = [_parse(cell.source, f"{name}, cell {n}") for n, cell in enumerate(code, start=1)]
    solved = [_has_tag(cell, "solution") for cell in code]
    for n, cell in enumerate(code):
        if solved[n]:
            later = (t for t, hidden in zip(trees[n:], solved[n:], strict=True) if not hidden)
            cell.source = stub(trees[n], _used_names(later))
        if any(solved[: n + 1]):
            cell.outputs, cell.execution_count = [], None
        if _has_tag(cell, "parameters"):
            cell.source = cell.source.replace('"../', '"')
    return edition


def stub(tree: ast.Module, wanted: set[str]) -> str:
    """The code of a solution cell with the answers taken out; ``wanted`` are the names to keep."""
    lines = ["# Your answer."]
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef) and statement.name in wanted:
            lines += (
                ["", "", _empty_function(statement)] if lines[1:] else [_empty_function(statement)]
            )
            continue
        if isinstance(statement, ast.Import | ast.ImportFrom):
            names = {alias.asname or alias.name for alias in statement.names}
            lines += [ast.unparse(statement)] * bool(names & wanted)
            continue
        open_names = dict.fromkeys(n for n in _assigned_names(statement) if n in wanted)
        lines += [f"{n} = ..." for n in open_names if f"{n} = ..." not in lines]
    return "\n".join(lines)


def _empty_function(function: ast.FunctionDef) -> str:
    """Its first line, its docstring and ``...``."""
    kept = deepcopy(function)
    told = kept.body[:1] if ast.get_docstring(kept) is not None else []
    kept.body = [*told, ast.Expr(ast.Constant(...))]
    kept.decorator_list = []
    return ast.unparse(ast.fix_missing_locations(kept))


def _parse(source: str, where: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise InputError(
            f"{where} is no plain Python: {error.msg} (line {error.lineno})"
        ) from error


def _assigned_names(node: ast.AST) -> Iterator[str]:
    """Names that a statement gives a value, in order; those inside functions are their own."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    if not isinstance(node, _OWN_NAMES):
        for child in ast.iter_child_nodes(node):
            yield from _assigned_names(child)


def _used_names(trees: Iterable[ast.AST]) -> set[str]:
    """Names that code reads."""
    nodes = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name))
    return {node.id for node in nodes if isinstance(node.ctx, ast.Load)}


def _has_tag(cell: Any, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])
