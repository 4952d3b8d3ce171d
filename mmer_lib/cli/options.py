"""Options that several commands share, with their help: what is run, on which folds, how large."""

from __future__ import annotations

from typing import Annotated

import typer

Models = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME ...", help="Configurations. [default: the paper's grid]"),
]
Table = Annotated[
    str | None, typer.Option(help="Instead: A paper, B masks, C zoo, D factorial, E controls.")
]
Protocol = Annotated[
    str, typer.Option(help="published, random, by-speaker, by-dialogue or by-session.")
]
Folds = Annotated[int, typer.Option(help="Folds (ignored by published).")]
Seeds = Annotated[int, typer.Option(help="Runs a fold.")]
BatchSize = Annotated[int, typer.Option(help="Utterances a step.")]
Pool = Annotated[
    int, typer.Option(help="Batches drawn together and sorted by length: less padding.")
]
Width = Annotated[int, typer.Option(help="Width of the sequences, D.")]
Heads = Annotated[int, typer.Option(help="Attention heads, H.")]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Instead of --jobs: a Dask cluster, tcp://HOST:PORT."),
]
