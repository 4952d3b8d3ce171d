"""``mmer notebooks``: the notebooks for somebody else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmer_lib.cli.shell import app, example, say
from mmer_lib.cli.stop import on_stop


@app.command(epilog=example("mmer notebooks --student course"))
def notebooks(
    student: Annotated[
        Path, typer.Option(metavar="DEST", help="A new folder for the edition without solutions.")
    ],
    source: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The notebooks. [default: the repository's]")
    ] = None,
) -> None:
    """Write the notebooks without the solutions of their exercises.

    What they need to run is written beside them; what they write stays in DEST.
    """
    from mmer_lib.pipeline.study import find_folder
    from mmer_lib.teaching.student import write_student_edition

    on_stop(lambda: _what_is_there(student))
    made = write_student_edition(source or find_folder(), student)
    say(f"{len(made)} notebooks without solutions in {student}")
    say(f"next: jupyter lab {student}")


def _what_is_there(student: Path) -> str:
    """The last words: files are moved into a folder that may be there, so some may be."""
    if student.is_dir() and any(student.iterdir()):
        return f"{student} may not be whole; empty it, and the same command begins anew"
    return f"nothing was written to {student}; the same command begins anew"
