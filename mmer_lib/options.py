"""Options written as text (``name,size=64,crop=face``) turned into typed arguments.

A function's or dataclass's signature is the one list of its options. A parameter that is itself a
dataclass of options (annotated so) opens up: its fields are options of the whole.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from inspect import Parameter, signature
from typing import Any, Union, get_args, get_origin, get_type_hints

from mmer_lib.errors import InputError, unknown

_WORDS = {bool: "true or false", int: "a whole number", float: "a number"}


def split_specification(text: str) -> tuple[str, dict[str, str]]:
    """``"mfcc,deltas=false"`` -> ``("mfcc", {"deltas": "false"})``.

    Raises ``InputError`` for a part without ``=``.
    """
    head, *pairs = text.split(",")
    given = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise InputError(f"{pair!r} in {text!r}: write {head},OPTION=VALUE")
        given[key.strip()] = value.strip()
    return head.strip(), given


def options_of(target: Callable[..., Any]) -> dict[str, Parameter]:
    """Option -> parameter (annotation and default), those of nested dataclasses included."""
    found: dict[str, Parameter] = {}
    for name, parameter in signature(target, eval_str=True).parameters.items():
        if is_dataclass(parameter.annotation):
            found.update(_fields(parameter))
        else:
            found[name] = parameter
    return found


def _fields(nested: Parameter) -> Iterator[tuple[str, Parameter]]:
    hints = get_type_hints(nested.annotation)
    for one in fields(nested.annotation):
        default = getattr(nested.default, one.name)
        yield (
            one.name,
            Parameter(
                one.name, Parameter.KEYWORD_ONLY, default=default, annotation=hints[one.name]
            ),
        )


def convert_options(
    kind: str, target: Callable[..., Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments of ``target`` from options given as text or already typed.

    Raises ``InputError`` that begins with ``kind`` for an option that is unknown or of another
    type.
    """
    known, arguments = options_of(target), {}
    for key, value in given.items():
        if key not in known:
            raise unknown(f"option of {kind}:", key, known)
        arguments[key] = convert(f"{kind}: {key}", value, known[key].annotation)
    for name, parameter in signature(target, eval_str=True).parameters.items():
        if is_dataclass(parameter.annotation) and not isinstance(parameter.annotation, str):
            inside = [one.name for one in fields(parameter.annotation)]
            chosen = {key: arguments.pop(key) for key in inside if key in arguments}
            if chosen:
                arguments[name] = replace(parameter.default, **chosen)
    return arguments


def convert(where: str, value: Any, annotation: Any) -> Any:
    """``value`` as ``annotation`` asks: bool, int, float, or one of these or None; else as it is.

    >>> convert("longest", "none", int | None)
    """
    if not isinstance(value, str):
        return value
    kinds = _kinds(annotation)
    if type(None) in kinds and value.lower() == "none":
        return None
    if str in kinds:
        return value
    for kind in (k for k in (bool, int, float) if k in kinds):
        try:
            return _read(value, kind)
        except (ValueError, KeyError):
            expected = _WORDS[kind] + (", or none" if type(None) in kinds else "")
            raise InputError(f"{where}={value!r} is not {expected}") from None
    return value


def _kinds(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (Union, types.UnionType):
        return get_args(annotation)
    return (annotation,)


def _read(value: str, kind: type) -> Any:
    return {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
