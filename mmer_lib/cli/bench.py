"""``mmer bench``: how long things take, beside the plain way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmer_lib.cli.files import check_places, write_json
from mmer_lib.cli.shell import app, example, say
from mmer_lib.cli.stop import on_stop
from mmer_lib.errors import InputError, check_whole, unknown

if TYPE_CHECKING:
    import pandas as pd

# Part -> the function of mmer_lib.plots that draws its table, also the file's name; its alt text.
FIGURES = {
    "growth": (
        "growth",
        "CPU seconds of a training step and peak memory, on logarithmic axes, over frames of "
        "audio, utterances a step, modalities and runs, with fitted exponents, for self- and "
        "cross-attention, our way and torch's own modules",
    ),
    "zoo": (
        "zoo_cost",
        "Bars of every fusion: parameters, matrix products, milliseconds of a training step and "
        "peak memory, beside what the encoders alone cost",
    ),
}


@app.command(epilog=example("mmer bench steps --repeats 3 --json runs/bench.json"))
def bench(
    parts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PART ...]", help="One or more, or all. [default: steps]"),
    ] = None,
    repeats: Annotated[int, typer.Option(help="Of what is timed; medians are shown.")] = 5,
    batch_size: Annotated[int, typer.Option(help="Utterances a step.")] = 32,
    device: Annotated[
        str, typer.Option(help="cpu; of steps, grid and gpu cuda or cuda:N.")
    ] = "cpu",
    written: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Keep the tables, too.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw growth and zoo there.")
    ] = None,
) -> None:
    """Time ours beside the released code's way: float64, torch's modules, weights formed.

    \b
    steps   a training step and an evaluation at the paper's sizes: 2 minutes, 3 GB
    epoch   an epoch on utterances as long as IEMOCAP's: 5 minutes, 8 GB
    grid    what the paper's study costs: an epoch of each configuration, 5 minutes
    growth  time and memory over lengths, batch, modalities, runs: 15 minutes, 5 GB
    zoo     what every fusion costs at the size of an average utterance
    sweep   two processes beside one, start-up, memory: 10 minutes, 5 GB
    study   the import, the help, and the studies ci and quick: 15 minutes, 2 cores
    gpu     steps and runs of the paper's grid, 1 to 8 at once: --device cuda only
    """
    from mmer_lib.bench import PARTS, Settings, check_device, describe_machine
    from mmer_lib.provenance import provenance
    from mmer_lib.sweep import same_bits

    chosen = _parts_of(device) if "all" in (parts or []) else parts or ["steps"]
    for part in chosen:
        if part not in PARTS:
            raise unknown("part of the bench", part, [*PARTS, "all"])
        if part not in _parts_of(device):
            raise InputError(f"{part} is not measured with --device {device}: {_other(device)}")
    check_device(device)
    check_whole("repeats", repeats, at_least=1)
    check_whole("batch-size", batch_size, at_least=1)
    check_places(written, figures)
    machine = describe_machine(device)
    say("\n".join(f"{key}: {value}" for key, value in machine.items()))
    report: dict[str, object] = {"machine": machine, "made": provenance()}
    on_stop(lambda: _what_is_measured(chosen, [*report], written))
    for part in chosen:
        with same_bits(device):
            table = PARTS[part](Settings(repeats, batch_size, device), _tell)
        say(f"\n{part}\n{_shown(table)}")
        report[part] = json.loads(table.to_json(orient="records", double_precision=15))
        if written is not None:  # after each, so that a long bench that is stopped leaves some
            write_json(report, written)
        _draw(part, table, figures)
    if written is not None:
        say(f"\n{written}")


def _what_is_measured(chosen: list[str], report: list[str], written: Path | None) -> str:
    """The last words: the parts whose tables are there, and the command for the others."""
    done = [part for part in chosen if part in report]
    left = [part for part in chosen if part not in report]
    told = f"{', '.join(done)} measured" if done else "no part was measured to its end"
    kept = f", in {written}" if done and written else ""
    return f"{told}{kept}; `mmer bench {' '.join(left)}` measures the rest" if left else told + kept


def _parts_of(device: str) -> list[str]:
    """What can be measured on a device, in the order of the table of parts."""
    from mmer_lib.bench import ON_CUDA, PARTS

    return [part for part in PARTS if (part in ON_CUDA if device != "cpu" else part != "gpu")]


def _other(device: str) -> str:
    return "add --device cuda" if device == "cpu" else f"{', '.join(_parts_of(device))} are"


def _draw(part: str, table: pd.DataFrame, folder: Path | None) -> None:
    """The figure of a part, where it has one and a folder is given."""
    if folder is None or part not in FIGURES:
        return
    from mmer_lib import plots

    name, alt = FIGURES[part]
    say(plots.save(getattr(plots, name)(table), name, folder, alt))


def _shown(table: pd.DataFrame) -> str:
    """Few rows stand side by side, many below each other."""
    table = table.round(3)
    first = table.columns[0]
    return table.set_index(first).T.to_string() if len(table) < 4 else table.to_string(index=False)


def _tell(text: str) -> None:
    say(text, err=True)
