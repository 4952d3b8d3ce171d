"""``mmer plan``: what a study takes, before it is begun."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmer_lib.cli import options
from mmer_lib.cli.files import check_places, write_json
from mmer_lib.cli.runs import choose_configurations
from mmer_lib.cli.shell import app, example, say
from mmer_lib.errors import check_number, check_whole

if TYPE_CHECKING:
    import pandas as pd

    from mmer_lib.bench.outlook import Sample, Study
    from mmer_lib.schedule import Conditions

ALT = (
    "Speed-up over workers on logarithmic axes with the ideal line, and beside it the share of "
    "the workers' time in which they have no run, a line a study: the more runs a study has, the "
    "longer it follows the ideal line"
)
WORKERS = [1, 8, 32, 128]


@app.command(epilog=example("mmer plan synthetic --models self-AT cross-AT --workers 1 8 64"))
def plan(
    corpus: Annotated[
        str | None,
        typer.Argument(help="As of `mmer sweep`. [default: noise with the sizes of IEMOCAP]"),
    ] = None,
    models: options.Models = None,
    table: options.Table = None,
    protocol: options.Protocol = "random",
    folds: options.Folds = 5,
    seeds: options.Seeds = 10,
    epochs: Annotated[float, typer.Option(help="Of a run, in the mean.")] = 30,
    batch_size: options.BatchSize = 32,
    pool: options.Pool = 16,
    width: options.Width = 120,
    heads: options.Heads = 6,
    workers: Annotated[
        list[int] | None,
        typer.Option(metavar="N ...", help="How many at a time. [default: 1 8 32 128]"),
    ] = None,
    startup: Annotated[float, typer.Option(help="Seconds until a worker is ready.")] = 30,
    failures: Annotated[float, typer.Option(help="How often a worker dies, a day.")] = 0,
    bench: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Measured before: --json of this, or of bench grid."),
    ] = None,
    written: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Keep all numbers, too.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw speed-up and idle time there.")
    ] = None,
) -> None:
    """Tell runs, core-hours, memory and wall time, from seconds measured here.

    With a corpus or configurations: of your plan. With neither: of the paper's grid, the zoo, and
    leaving one speaker out. An epoch of each configuration is measured, which takes minutes.
    """
    from mmer_lib.bench import outlook
    from mmer_lib.corpora import load_corpus
    from mmer_lib.schedule import Conditions
    from mmer_lib.sweep import Plan

    check_places(written, figures)
    counts = [check_whole("workers", n, at_least=1) for n in workers or WORKERS]
    check_number("epochs", epochs, lambda x: 1 <= x <= 100, "1 .. 100")
    conditions = Conditions(startup, failures / 24)
    sizes = {"width": width, "heads": heads}
    data = None if corpus is None else load_corpus(corpus)
    studies = outlook.known_studies(seeds, sizes)
    if data is not None or models or table:
        like, scale = (studies[0].plan.corpus, studies[0].scale) if data is None else (data, 1.0)
        names = choose_configurations(like, models, table, sizes)
        own = Plan(like, names, protocol, folds, seeds, model=sizes)
        studies = [outlook.Study("yours", own, scale)]
    for study in studies:
        replace(study.plan, seeds=1).runs()  # what cannot be run is told of before it is measured
    sample = outlook.Sample(data, sizes, batch_size, pool)
    measured = _measure(studies, sample, bench, written)
    told = outlook.foresee(studies, measured, counts, conditions, epochs)
    say(_shown(told, counts))
    say(_assumed(epochs, sample, conditions))
    if written is not None:
        _keep(written, sample, measured, told)
        say(f"\n{written}")
    if figures is not None:
        drawn = studies if data is not None or models or table else _sizes_of(studies, sizes)
        _draw(drawn, measured, conditions, epochs, figures)


def _sizes_of(studies: Sequence[Study], sizes: dict[str, int]) -> list[Study]:
    """The studies that are drawn: the paper's, those of many more runs."""
    from mmer_lib.bench import outlook

    return [studies[0], studies[2], outlook.many_runs(sizes)]


def _measure(
    studies: Sequence[Study], sample: Sample, bench: Path | None, written: Path | None
) -> pd.DataFrame:
    """Every configuration of the studies: as measured before, else measured now, and kept."""
    import pandas as pd

    from mmer_lib.bench import outlook

    known = outlook.read_measured(bench, sample.about) if bench else pd.DataFrame()
    there = set() if known.empty else set(known["configuration"])
    names = dict.fromkeys(n for study in studies for n in study.plan.configurations)
    for row in sample.measure([name for name in names if name not in there], _tell):
        known = pd.concat([known, pd.DataFrame([row])], ignore_index=True)
        if written is not None:  # after each, so that --bench can go on from there
            _keep(written, sample, known)
    return known


def _tell(text: str) -> None:
    say(text, err=True)


# -- what is printed -------------------------------------------------------------------------------


def _shown(told: pd.DataFrame, counts: Sequence[int]) -> str:
    """A line a study, a column a number of workers."""
    import pandas as pd

    rows = []
    for _, its in told.groupby("study", sort=False):
        one, walls = its.iloc[0], its.set_index("workers")["seconds"]
        row: dict[str, Any] = {
            "study": one["study"],
            "runs": f"{one['runs']} = {one['configurations']} x {one['folds']} x {one['seeds']}",
            "core-hours": f"{one['core_hours']:,.2g}" if one["core_hours"] < 10
            else f"{one['core_hours']:,.0f}",
            "GB a worker": "?" if one["mb"] != one["mb"] else f"{one['mb'] / 1000:.1f}",
        }  # fmt: skip
        row |= {_workers(n): duration(walls[n]) for n in dict.fromkeys(counts)}
        if its["deaths"].any():
            row["deaths"] = f"{its['deaths'].iloc[-1]:.0f}"
        rows.append(row)
    return pd.DataFrame(rows).to_string(index=False)


def _workers(n: int) -> str:
    return "1 worker" if n == 1 else f"{n} workers"


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``6.4 h``, ``20.9 d``.

    >>> [duration(s) for s in (40, 720, 23040, 1805760)]
    ['40 s', '12 min', '6.4 h', '20.9 d']
    """
    for unit, size, form in (("d", 86400, ".1f"), ("h", 3600, ".1f"), ("min", 60, ".0f")):
        if seconds >= 2 * size or (unit == "h" and seconds >= 5400):
            return f"{seconds / size:{form}} {unit}"
    return f"{seconds:.0f} s"


def _assumed(epochs: float, sample: Sample, conditions: Conditions) -> str:
    """What the numbers rest on."""
    from mmer_lib.bench.outlook import PATIENCE, SAMPLE

    noise = "noise with the lengths of IEMOCAP" if sample.corpus is None else "the corpus"
    deaths = (
        f"dies {conditions.failures * 24:g} times a day" if conditions.failures else "never dies"
    )
    return "\n".join(
        [
            "",
            "runs         configurations x folds x seeds",
            f"seconds      of an epoch on at most {SAMPLE} utterances of {noise}, one thread of "
            f"this machine, batch {sample.batch_size}, pool {sample.pool}",
            f"epochs       {epochs:g} a run in the mean: a guess. Patience {PATIENCE} stops a run "
            f"when it stops; --epochs changes it, and all times with it",
            "memory       of a process that trains the largest; pages of the corpus come on top, "
            "once a machine",
            f"workers      as fast as this core, one run at a time, ready after "
            f"{conditions.startup:g} s; one {deaths}. Wall times are of a simulated schedule",
        ]
    )


def _keep(
    file: Path, sample: Sample, measured: pd.DataFrame, told: pd.DataFrame | None = None
) -> None:
    """What was measured, and in the end what follows, for programs and for --bench."""
    from mmer_lib.bench import describe_machine
    from mmer_lib.provenance import provenance

    kept: dict[str, Any] = {"machine": describe_machine(), "made": provenance()}
    kept["about"] = sample.about
    for name, table in (("epochs", measured), ("studies", told)):
        if table is not None:
            rows = table.to_json(orient="records", double_precision=15)
            kept[name] = json.loads(rows)
    write_json(kept, file)


def _draw(
    studies: Sequence[Study],
    measured: pd.DataFrame,
    conditions: Conditions,
    epochs: float,
    folder: Path,
) -> None:
    """Speed-up and idle time over workers."""
    from mmer_lib import plots
    from mmer_lib.bench import outlook
    from mmer_lib.schedule import WORKERS as COUNTS

    table = outlook.foresee(studies, measured, COUNTS, conditions, epochs)
    say(plots.save(plots.scaling(table), "scaling", folder, ALT))
