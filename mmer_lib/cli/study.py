"""``mmer study``: run the notebooks, write the book, print the verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmer_lib.cli.shell import app, complain, example, say
from mmer_lib.cli.stop import on_stop
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
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Execute those that are up to date, too.")
    ] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Write the outputs back into notebooks/.")
    ] = False,
) -> int:
    """Run the notebooks; write the book; print the verdicts.

    The notebooks are those in ./notebooks if there are any, else those that came with the package:
    these are copied into the run folder first.

    A notebook is executed again when its code, its parameters, its data or the library have
    changed, or when it was stopped or failed. Finished runs of models are found in the store.
    """
    from mmer_lib.pipeline import StudyError, run_study
    from mmer_lib.pipeline.source import find_source

    told = Told(_short(find_source(None, out, profile).run), fresh)
    on_stop(told.kept)
    try:
        done = run_study(
            profile, settings or [], only or [], out, refresh, say=told, jobs=jobs, fresh=fresh
        )
    except StudyError as error:
        return complain(f"{error}. {told.kept()}", 1)
    if told.current:
        say(f"\n{len(told.current)} were up to date: --fresh executes them again")
    _describe_study(done)
    return 0


class Told:
    """Shows what a study says, and remembers which notebooks are finished."""

    def __init__(self, run: Path, fresh: bool) -> None:
        self.run, self.fresh = run, fresh
        self.finished: list[str] = []
        self.current: list[str] = []

    def __call__(self, line: str) -> None:
        """Show a line."""
        say(line)
        stem, _, what = line.partition(" … ")
        if what == "up to date":
            self.current.append(stem)
        elif what.endswith(" s"):
            self.finished.append(stem)

    def kept(self) -> str:
        """What stays, and how to go on."""
        done = len(self.finished) + len(self.current)
        names = "1 notebook is" if done == 1 else f"{done} notebooks are"
        again = "the same command without --fresh" if self.fresh else "the same command"
        return f"{names} finished in {self.run}, trained models are in their store; {again} goes on"


def _describe_study(done: Study) -> None:
    from mmer_lib.book import build_book

    book = build_book(done.folder, figures=done.figures)
    say(f"\nbook       {_short(book.index)}  (open it in a browser)")
    clone = all(Path(name).exists() for name in ("Makefile", "notebooks"))
    opened = "make lab" if clone else f"jupyter lab {_short(done.folder)}"
    say(f"notebooks  {_short(done.folder / 'notebooks')}  (open them with `{opened}`)")
    say(f"figures    {_short(done.figures)}")
    say(f"store      {_short(done.store)}")
    if done.verdicts:
        import pandas as pd

        say(f"verdicts   {_short(done.verdicts)}\n")
        say(verdict_table(pd.read_csv(done.verdicts)))


def _short(path: Path) -> Path:
    """``path`` from where we are, if it is below."""
    here, there = Path.cwd().resolve(), path.resolve()
    return there.relative_to(here) if there.is_relative_to(here) else path
