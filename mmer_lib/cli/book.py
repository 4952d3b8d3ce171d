"""``mmer book``: the executed notebooks as pages that need only a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmer_lib.cli.shell import app, example, say
from mmer_lib.cli.stop import on_stop


@app.command(epilog=example("mmer book runs/quick"))
def book(
    run: Annotated[
        Path, typer.Argument(metavar="RUN_FOLDER", help="The folder of a finished study.")
    ] = Path("runs/quick"),
) -> None:
    """Write the executed notebooks of a study as a book.

    It goes to RUN_FOLDER/book/index.html and needs nothing but a browser.
    """
    from mmer_lib.book import build_book

    on_stop(lambda: f"{run / 'book'} is as it was before; the same command writes it anew")
    written = build_book(run)
    size = sum(file.stat().st_size for file in written.files)
    say(f"{written.index}  ({len(written.files)} pages, {size / 1e6:.1f} MB)")
