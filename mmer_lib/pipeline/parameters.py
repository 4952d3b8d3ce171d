"""The parameters of the notebooks, and the settings that a user gives for them.

The cell tagged ``parameters`` of a notebook holds nothing but annotated literals with a help::

    protocol: str = "random"  # how folds are drawn (choices: published | random)

Papermill would take any name and any value, log the unknown ones and run with the default. So
every ``NOTEBOOK.PARAM=VALUE`` is checked here, for all notebooks, before the first kernel starts.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmer_lib.errors import InputError, unknown

KINDS: dict[str, tuple[type, str]] = {
    "str": (str, "text"),
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "bool": (bool, "true or false"),
    "list": (list, 'a list such as ["self-AVT", "cross-AVT"]'),
    "dict": (dict, 'a mapping such as {"width": 32}'),
}
Settings = dict[str, dict[str, Any]]  # notebook -> parameter -> value


@dataclass(frozen=True)
class Parameter:
    """One entry of a parameters cell; ``choices`` are the texts its help allows, if any."""

    name: str
    kind: str  # a key of KINDS
    default: Any
    help: str
    choices: tuple[str, ...] = ()

    def convert(self, text: str, where: str) -> Any:
        """``text`` as a value of this parameter; ``where`` opens the ``InputError`` if it is none.

        >>> Parameter("seeds", "int", 2, "runs a fold").convert("3", "03.seeds")
        3
        """
        python_type, expected = KINDS[self.kind]
        value = text if self.kind == "str" else _literal(text)
        if python_type is float and type(value) is int:
            value = float(value)
        if type(value) is not python_type or not _is_plain(value):
            raise InputError(f"{where}={text!r}: {expected} expected ({self.help})")
        if self.choices and value not in self.choices:
            raise unknown(f"value of {where}:", value, self.choices)
        return value


def _is_plain(value: Any) -> bool:
    """Whether a notebook can be given it as it is: what JSON knows, and finite numbers."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError, RecursionError):
        return False


def _literal(text: str) -> Any:
    """``text`` read as JSON or as a Python literal; None if it is neither."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):  # the last: nested deeply
            continue
    return {"true": True, "false": False}.get(text.lower())


def read_parameters(source: str, where: str) -> dict[str, Parameter]:
    """The entries of a parameters cell by name.

    Raises ``InputError`` for a line that is not ``name: type = literal  # help``.
    """
    try:
        body, comments = ast.parse(source).body, _comments(source)
    except (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise InputError(f"{where}: its parameters cell is not Python: {error}") from error
    entries = [_read_entry(node, comments, where) for node in body]
    return {entry.name: entry for entry in entries}


def _read_entry(node: ast.stmt, comments: Mapping[int, str], where: str) -> Parameter:
    match node:
        case ast.AnnAssign(ast.Name(name), ast.Name(kind), ast.expr() as given) if kind in KINDS:
            try:
                default = ast.literal_eval(given)
            except (ValueError, RecursionError, MemoryError):
                default = None
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            help_text = next((comments[n] for n in lines if n in comments), "")
            if type(default) is KINDS[kind][0] and help_text:
                return Parameter(name, kind, default, help_text, _choices(help_text))
    raise InputError(
        f"{where}: line {node.lineno} of its parameters cell is not `name: type = literal  # help` "
        f"with a type of {', '.join(KINDS)}"
    )


def _comments(source: str) -> dict[int, str]:
    """Line number -> the comment on that line."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = (t for t in tokens if t.type == tokenize.COMMENT)
    return {t.start[0]: t.string.removeprefix("#").strip() for t in found}


def _choices(help_text: str) -> tuple[str, ...]:
    listed = re.search(r"\(choices: ([^)]*)\)", help_text)
    return tuple(c.strip() for c in listed[1].split("|")) if listed else ()


def find_notebooks(target: str, stems: Sequence[str]) -> list[str]:
    """The notebooks that ``target`` names: a number ("03" or "3"), a stem ("03_training"), or "*".

    Raises ``InputError`` for one that is not there.
    """
    if target == "*":
        return list(stems)
    number = target.zfill(2) + "_" if target.isdigit() else None
    found = [s for s in stems if s == target or (number and s.startswith(number))]
    if not found:
        raise unknown("notebook", target, [*stems, "*"])
    return found


def read_settings(
    given: Iterable[str], notebooks: Mapping[str, Mapping[str, Parameter]]
) -> Settings:
    """Checked values from ``NOTEBOOK.PARAM=VALUE`` texts; a named notebook wins over ``*``.

    Raises ``InputError`` for a text of another form, a notebook or parameter that is not there
    (with the nearest name), and a value of the wrong type or outside the choices.
    """
    settings: Settings = {stem: {} for stem in notebooks}
    for text in sorted(given, key=lambda text: not text.startswith("*.")):  # stable: * first
        target, name, value = _split_setting(text)
        having = [s for s in find_notebooks(target, list(notebooks)) if name in notebooks[s]]
        if not having:
            asked = find_notebooks(target, list(notebooks))
            whose = "any notebook" if target == "*" else asked[0]
            known = dict.fromkeys(known for stem in asked for known in notebooks[stem])
            raise unknown(f"parameter of {whose}:", name, known)
        for stem in having:
            parameter = notebooks[stem][name]
            settings[stem][name] = parameter.convert(value, f"{target}.{name}")
    return settings


def _can_be_written(text: str) -> bool:
    """Whether a notebook can hold it: bytes of a shell that are no text come as half characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _split_setting(text: str) -> tuple[str, str, str]:
    if not _can_be_written(text):
        raise InputError(f"--set {text!r}: bytes that are no UTF-8; expected text")
    left, equals, value = text.partition("=")
    target, dot, name = left.partition(".")
    if not (equals and dot and target and name):
        raise InputError(
            f"--set {text!r}: write NOTEBOOK.PARAM=VALUE, e.g. 03.seeds=3 or '*.corpus=PATH'"
        )
    return target.strip(), name.strip(), value
