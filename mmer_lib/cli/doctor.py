"""``mmer doctor``: what works here, what is missing, and the line that mends it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from mmer_lib.cli.shell import app, example


@app.command(epilog=example("mmer doctor --store runs/sweep"))
def doctor(
    store: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Try the file system of this store, too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for programs.")] = False,
) -> int:
    """Tell what works here, what is missing, and the line that mends it.

    Exit status 1 if something is broken that is needed; what is optional may be absent. Where
    `mmer` itself does not start, `python -m mmer_lib.doctor` does the same.
    """
    from mmer_lib.doctor import as_json as in_json
    from mmer_lib.doctor import examine, is_well, report

    checks = examine(store)
    width = max(60, min(100, shutil.get_terminal_size((100, 24)).columns))
    typer.echo(in_json(checks) if as_json else report(checks, width))
    return 0 if is_well(checks) else 1
