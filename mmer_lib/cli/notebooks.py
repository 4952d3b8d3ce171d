"""``mmer notebooks``: the notebooks for somebody else, or to be changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmer_lib.cli.shell import app, example, say
from mmer_lib.cli.stop import on_stop
from mmer_lib.errors import InputError


@app.command(epilog=example("mmer notebooks --student course"))
def notebooks(
    student: Annotated[
        Path | None,
        typer.Option(metavar="DEST", help="A new folder for the edition without solutions."),
    ] = None,
    copy: Annotated[
        Path | None, typer.Option(metavar="DEST", help="A new folder for all of them as they are.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The notebooks. [default: ./notebooks, else the package's]"
        ),
    ] = None,
) -> None:
    """Write the notebooks without the solutions of their exercises, or copy them to change them.

    What they need to run is written beside them; what the students' write stays in DEST. `mmer
    study` runs those in ./notebooks, where there are any.
    """
    from mmer_lib.pipeline.source import find_folder
    from mmer_lib.teaching.student import write_copy, write_student_edition

    folder = source or find_folder()
    if student and not copy:
        on_stop(lambda: _what_is_there(student))
        made = write_student_edition(folder, student)
        say(f"{len(made)} notebooks without solutions in {student}")
    elif copy and not student:
        on_stop(lambda: _what_is_there(copy))
        made = write_copy(folder, copy)
        say(f"{len(made)} notebooks in {copy}")
    else:
        raise InputError("give one of --student DEST and --copy DEST")
    say(f"next: jupyter lab {made[0].parent}")


def _what_is_there(dest: Path) -> str:
    """The last words: files are moved into a folder that may be there, so some may be."""
    if dest.is_dir() and any(dest.iterdir()):
        return f"{dest} may not be whole; empty it, and the same command begins anew"
    return f"nothing was written to {dest}; the same command begins anew"
