"""``mmer study``: run the notebooks, write the book, print the verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmer_lib.cli.shell import app, complain, example
from mmer_lib.cli.tables import verdict_table

if TYPE_CHECKING:
    from mmer_lib.pipeline import Study


@app.command(
    epilog=example("mmer study --set '*.corpus=runs/corpora/mine' 03.seeds=3 --out runs/mine")
)
def study(
    profile: Annotated[str, typer.Option(help="Sizes: quick, ci or paper.")] = "quick",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NOTEBOOK.PARAM=VALUE ...", help="Parameters to change."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NN ...", help="These notebooks alone.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run folder. [default: runs/PROFILE]")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Notebooks at the same time.")] = 2,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Write the outputs back into notebooks/.")
    ] = False,
) -> int:
    """Run the notebooks; write the book; print the verdicts.

    The notebooks are those in ./notebooks if there are any, else those that came with the package:
    these are copied into the run folder first.
    """
    from mmer_lib.pipeline import StudyError, run_study

    try:
        done = run_study(profile, settings or [], only or [], out, refresh, jobs=jobs)
    except StudyError as error:
        return complain(str(error), 1)
    _describe_study(done)
    return 0


def _describe_study(done: Study) -> None:
    from mmer_lib.book import build_book

    book = build_book(done.folder, figures=done.figures)
    typer.echo(f"\nbook       {_short(book.index)}  (open it in a browser)")
    clone = all(Path(name).exists() for name in ("Makefile", "notebooks"))
    opened = "make lab" if clone else f"jupyter lab {_short(done.folder)}"
    typer.echo(f"notebooks  {_short(done.folder / 'notebooks')}  (open them with `{opened}`)")
    typer.echo(f"figures    {_short(done.figures)}")
    typer.echo(f"store      {_short(done.store)}")
    if done.verdicts:
        import pandas as pd

        typer.echo(f"verdicts   {_short(done.verdicts)}\n")
        typer.echo(verdict_table(pd.read_csv(done.verdicts)))


def _short(path: Path) -> Path:
    """``path`` from where we are, if it is below."""
    here, there = Path.cwd().resolve(), path.resolve()
    return there.relative_to(here) if there.is_relative_to(here) else path
