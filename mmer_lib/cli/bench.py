"""``mmer bench``: how long a step takes, beside the plain way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mmer_lib.cli.shell import app, example
from mmer_lib.errors import InputError, check_whole


@app.command(epilog=example("mmer bench --repeats 3 --json runs/bench.json"))
def bench(
    repeats: Annotated[int, typer.Option(help="Steps of each way; medians are shown.")] = 5,
    batch_size: Annotated[int, typer.Option(help="Utterances a step.")] = 32,
    written: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Keep the table, too.")
    ] = None,
) -> None:
    """Time a training step and an evaluation at the paper's sizes.

    Ours is held against the released code's way: float64, torch's own modules, weights formed.
    About two minutes and 3 GB of memory.
    """
    from mmer_lib.bench import bench_steps, describe_machine

    check_whole("repeats", repeats, at_least=1)
    check_whole("batch-size", batch_size, at_least=1)
    if written is not None and not written.parent.is_dir():
        raise InputError(f"--json {written}: there is no folder {written.parent}; make it first")
    table = bench_steps(repeats=repeats, batch_size=batch_size, say=_tell)
    machine = describe_machine()
    typer.echo("\n".join(f"{key}: {value}" for key, value in machine.items()) + "\n")
    typer.echo(table.round(3).set_index("configuration").T.to_string())
    if written is not None:
        report = {"machine": machine, "steps": table.to_dict("records")}
        written.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        typer.echo(f"\n{written}")


def _tell(text: str) -> None:
    typer.echo(text, err=True)
