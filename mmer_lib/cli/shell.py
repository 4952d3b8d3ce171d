"""The app, how it is run, and what every command shares.

A user's mistake is one line on standard error and exit status 2; a notebook that fails is status
1; Ctrl-C, or SIGTERM, is 130 (``mmer_lib.cli.stop``). Anything else is a defect of ours and keeps
its traceback.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from mmer_lib.errors import InputError, Notice, printable

LISTS = (
    "--models",
    "--pairs",
    "--set",
    "--only",
    "--workers",
)  # take several values after one flag


def example(command: str) -> str:
    """The last lines of a help; the mark in front keeps click from breaking them anew."""
    return f"\b\nExample:\n  {command}"


app = typer.Typer(
    name="mmer",
    help="Is cross-attention preferable to self-attention for multi-modal emotion recognition?",
    epilog=example("mmer study"),
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
corpus_app = typer.Typer(
    help="Build, import and inspect corpora.",
    epilog=example("mmer corpus info synthetic"),
    rich_markup_mode=None,
)
store_app = typer.Typer(
    help="Look into result stores: what they hold, whether they are whole.",
    epilog=example("mmer store verify runs/quick/store"),
    rich_markup_mode=None,
)
app.add_typer(corpus_app, name="corpus")
app.add_typer(store_app, name="store")


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit status; Ctrl-C comes out as it is, or as 130."""
    given = list(arguments)
    given += ["--help"] * (given in ([], ["corpus"], ["store"]))
    try:
        with _notices_told():
            status = app(repeat_flags(given), prog_name="mmer", standalone_mode=False)
    except InputError as error:
        return complain(str(error), 2, getattr(error, "__notes__", ()))
    except typer.TyperException as error:  # how the command line itself was used
        return complain(f"{error.format_message()} See `{_command(error)} --help`", error.exit_code)
    return int(status or 0)


@contextmanager
def _notices_told() -> Iterator[None]:
    """Inside, a ``Notice`` is a line on standard error, like a mistake; other warnings stay."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", Notice)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, Notice):
                complain(str(message), 0)
            else:
                usual(message, category, *where, **more)

        warnings.showwarning = show
        yield


def _command(error: typer.TyperException) -> str:
    """The command that was used wrongly, such as ``mmer corpus make``."""
    context = getattr(error, "ctx", None)
    return "mmer" if context is None else str(context.command_path)


def complain(message: str, status: int, details: Iterable[str] = ()) -> int:
    """One line on standard error, and one for each of ``details``; the exit status."""
    say(f"mmer: {' '.join(message.split())}", err=True)
    for detail in details:
        say(f"  {detail}", err=True)
    return status


def say(text: object, err: bool = False) -> None:
    """Print lines. Names in them come from files of others: a terminal must show, not obey them."""
    typer.echo(printable(str(text), lines=True), err=err)


def repeat_flags(arguments: Sequence[str], flags: Iterable[str] = LISTS) -> list[str]:
    """Several values after one flag, as click reads them.

    >>> repeat_flags(["sweep", "--models", "self-T", "cross-AT", "--folds", "5"])
    ['sweep', '--models', 'self-T', '--models', 'cross-AT', '--folds', '5']
    """
    repeated: list[str] = []
    known, flag = set(flags), ""
    for argument in arguments:
        if argument.startswith("-"):
            flag = argument if argument in known else ""
        elif flag and repeated[-1] != flag:
            repeated.append(flag)
        repeated.append(argument)
    return repeated
