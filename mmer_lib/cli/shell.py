"""The app, how it is run, and what every command shares.

A user's mistake is one line on standard error and exit status 2; a notebook that fails is status
1; Ctrl-C is 130. Anything else is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import typer

from mmer_lib.errors import InputError, printable

LISTS = ("--models", "--pairs", "--set", "--only")  # take several values after one flag


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
app.add_typer(corpus_app, name="corpus")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    given += ["--help"] * (given in ([], ["corpus"]))
    try:
        status = app(repeat_flags(given), prog_name="mmer", standalone_mode=False)
    except InputError as error:
        return complain(str(error), 2)
    except typer.TyperException as error:  # how the command line itself was used
        return complain(f"{error.format_message()} See `{_command(error)} --help`", error.exit_code)
    except KeyboardInterrupt:
        status = 130
    if status == 130:
        return complain(
            "stopped. What is finished is kept: the same command goes on from there", 130
        )
    return int(status or 0)


def _command(error: typer.TyperException) -> str:
    """The command that was used wrongly, such as ``mmer corpus make``."""
    context = getattr(error, "ctx", None)
    return "mmer" if context is None else str(context.command_path)


def complain(message: str, status: int) -> int:
    """One line on standard error; the exit status."""
    say(f"mmer: {' '.join(message.split())}", err=True)
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
