"""``mmer sweep`` and ``mmer compare``: train configurations, judge pairs of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmer_lib.cli import options
from mmer_lib.cli.shell import app, example, say
from mmer_lib.cli.stop import on_stop
from mmer_lib.cli.tables import score_table, verdict_table
from mmer_lib.errors import InputError, unknown

if TYPE_CHECKING:
    import pandas as pd

    from mmer_lib.corpora import Corpus
    from mmer_lib.store import ResultStore


@app.command(
    epilog=example("mmer sweep synthetic --models self-AT cross-AT --seeds 1 --store runs/sweep")
)
def sweep(
    corpus: Annotated[str, typer.Argument(help="A corpus folder, or NAME[,OPTION=VALUE...].")],
    store: Annotated[Path, typer.Option(metavar="DIR", help="The result store.")],
    models: options.Models = None,
    table: options.Table = None,
    protocol: options.Protocol = "random",
    folds: options.Folds = 5,
    seeds: options.Seeds = 10,
    epochs: Annotated[int, typer.Option(help="At most.")] = 100,
    patience: Annotated[int, typer.Option(help="Epochs without a better one.")] = 10,
    lr: Annotated[float, typer.Option(help="Adam's learning rate.")] = 1e-3,
    batch_size: options.BatchSize = 32,
    pool: options.Pool = 1,
    width: options.Width = 120,
    heads: options.Heads = 6,
    jobs: Annotated[int, typer.Option(help="Worker processes.")] = 1,
    scheduler: options.Scheduler = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    amp: Annotated[bool, typer.Option("--amp", help="Matrix products in bfloat16.")] = False,
    compiled: Annotated[
        bool, typer.Option("--compile", help="The model by torch.compile.")
    ] = False,
    losses: Annotated[
        str, typer.Option(metavar="NAME=WEIGHT,...", help="Besides cross-entropy.")
    ] = "",
    metric: Annotated[str, typer.Option(help="The score that is printed.")] = "balanced_accuracy",
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Move damaged runs aside in the store and run them again."),
    ] = False,
) -> None:
    """Train configurations on every fold and seed.

    Finished runs are kept in the store and never run again; damaged ones are told of and left out
    of the table. Sweeps at the same time, also on machines that share the store's disk, share its
    runs; one that was killed goes on from there.
    """
    from mmer_lib import stats
    from mmer_lib.corpora import load_corpus
    from mmer_lib.corpora.folds import worst_leakage
    from mmer_lib.distributed import connect
    from mmer_lib.metrics import METRICS
    from mmer_lib.store import ResultStore
    from mmer_lib.sweep import Plan, run_plan
    from mmer_lib.train import TrainConfig

    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    if scheduler is not None:
        connect(scheduler).close()  # whether it is there is told of first
    data = load_corpus(corpus)
    sizes = {"width": width, "heads": heads}
    plan = Plan(
        data,
        choose_configurations(data, models, table, sizes),
        protocol,
        folds,
        seeds,
        train=TrainConfig(
            epochs,
            patience,
            lr,
            batch_size=batch_size,
            losses=losses,
            device=device,
            pool=pool,
            amp=amp,
            compile=compiled,
        ),
        model=sizes,
    )
    keys = [run.key for run in plan.runs()]  # what cannot be run is told of before a store is made
    kept = ResultStore(store)
    on_stop(lambda: _how_far(keys, kept))
    runs = run_plan(plan, kept, jobs, repair=repair, scheduler=scheduler)
    say(score_table(stats.summary(runs, metric), metric))
    drawn = worst_leakage(data.folds(protocol, folds))
    say(f"\nIn the worst fold ({protocol}) {drawn.sentence()}")
    pairs = [f"{a}:{b}" for a, b in stats.planned_pairs(runs["configuration"].unique())]
    if pairs:
        say(f"\nNext: mmer compare {store} --pairs {' '.join(pairs)}")


def _how_far(keys: list[str], store: ResultStore) -> str:
    done = sum(key in store for key in keys)
    return f"{done} of {len(keys)} runs are in {store.path}; the same command goes on"


def choose_configurations(
    data: Corpus, models: list[str] | None, table: str | None, sizes: dict[str, int]
) -> tuple[str, ...]:
    """Those named, those of a table, or what the corpus allows of the paper's grid."""
    from mmer_lib.experiments import list_table
    from mmer_lib.model import PAPER_GRID, usable

    if table and models:
        raise InputError("--models and --table: name the configurations once")
    if table:
        letters = "".join(m[0].upper() for m in data.modalities)
        return tuple(list_table(table.upper(), letters, sizes))
    return tuple(models or usable(PAPER_GRID, data))


@app.command(epilog=example("mmer compare runs/sweep --pairs cross-AT:self-AT --margin 0.01"))
def compare(
    store: Annotated[Path, typer.Argument(help="A result store, of `mmer sweep` or a study.")],
    pairs: Annotated[
        list[str] | None,
        typer.Option(metavar="A:B ...", help="[default: every cross-X with its self-X]"),
    ] = None,
    metric: Annotated[str, typer.Option(help="A score of the table.")] = "balanced_accuracy",
    margin: Annotated[float, typer.Option(help="What would not matter; 0.01 is a point.")] = 0.01,
    alpha: Annotated[float, typer.Option(help="Error rate of the tests.")] = 0.05,
    plan: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only the runs of this plan, e.g. sweep or grid."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for programs.")] = False,
) -> None:
    """Judge pairs: different, equivalent, or not shown?"""
    from mmer_lib import stats
    from mmer_lib.store import ResultStore

    runs = _runs_of_one_study(ResultStore(store, create=False), plan)
    wanted = [_read_pair(text) for text in pairs or []]
    wanted = wanted or stats.planned_pairs(runs["configuration"].unique())
    if not wanted:
        names = ", ".join(runs["configuration"].unique())
        raise InputError(f"no cross-X with a self-X beside it: name --pairs A:B out of {names}")
    estimand = "new data" if runs["fold"].nunique() > 1 else "new seeds"
    verdicts = stats.compare_planned(runs, wanted, metric, margin, alpha, estimand)
    if as_json:
        say(verdicts.to_json(orient="records", indent=1, double_precision=15))
        return
    say(verdict_table(verdicts) + "\n")
    for sentence in verdicts["sentence"]:
        say(sentence)


def _runs_of_one_study(store: ResultStore, plan: str | None) -> pd.DataFrame:
    """The runs of ``plan``, or all runs, if they can be compared.

    Raises ``InputError`` that names the plans, if there is more than one study in the store.
    """
    runs = store.to_frame() if plan is None else store.plan(plan)
    for column, several in {
        "semantics": "semantics (versions of mmer to which a configuration meant other models)",
        "study": "studies",
    }.items():
        if runs[column].nunique() > 1:
            raise InputError(
                f"{store.path} holds runs of {runs[column].nunique()} {several}, which cannot be "
                f"compared with each other: choose one with --plan {' or '.join(store.plans())}"
            )
    return runs


def _read_pair(text: str) -> tuple[str, str]:
    a, colon, b = text.partition(":")
    if not (a and colon and b):
        raise InputError(f"--pairs {text!r}: write A:B, e.g. cross-AT:self-AT")
    return a, b
