"""The command ``mmer``: the study, corpora, sweeps and comparisons from a shell.

A user's mistake is one line on standard error and exit status 2; a notebook that fails is status
1; Ctrl-C is 130. Anything else is a defect of ours and keeps its traceback. Whatever is slow to
import is imported inside a command, so that ``mmer --help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmer_lib.errors import InputError, unknown

if TYPE_CHECKING:
    import pandas as pd

    from mmer_lib.corpora import Corpus
    from mmer_lib.pipeline import Study
    from mmer_lib.store import ResultStore

PLACES = ("path", "dest")  # what a corpus source reads and writes: arguments here, not options
LISTS = ("--models", "--pairs", "--set", "--only")  # take several values after one flag


def _example(command: str) -> str:
    """The last lines of a help; the mark in front keeps click from breaking them anew."""
    return f"\b\nExample:\n  {command}"


app = typer.Typer(
    name="mmer",
    help="Is cross-attention preferable to self-attention for multi-modal emotion recognition?",
    epilog=_example("mmer study"),
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
corpus_app = typer.Typer(
    help="Build, import and inspect corpora.",
    epilog=_example("mmer corpus info synthetic"),
    rich_markup_mode=None,
)
app.add_typer(corpus_app, name="corpus")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    given += ["--help"] * (given in ([], ["corpus"]))
    try:
        status = app(repeat_flags(given), prog_name="mmer", standalone_mode=False)
    except InputError as error:
        return _complain(str(error), 2)
    except typer.TyperException as error:  # how the command line itself was used
        return _complain(
            f"{error.format_message()} See `{_command(error)} --help`", error.exit_code
        )
    except KeyboardInterrupt:
        status = 130
    if status == 130:
        return _complain(
            "stopped. What is finished is kept: the same command goes on from there", 130
        )
    return int(status or 0)


def _command(error: typer.TyperException) -> str:
    """The command that was used wrongly, such as ``mmer corpus make``."""
    context = getattr(error, "ctx", None)
    return "mmer" if context is None else str(context.command_path)


def _complain(message: str, status: int) -> int:
    typer.echo(f"mmer: {' '.join(message.split())}", err=True)
    return status


def repeat_flags(arguments: Sequence[str], flags: Iterable[str] = LISTS) -> list[str]:
    """Several values after one flag, as click reads them.

    >>> repeat_flags(["sweep", "--models", "self-T", "cross-AT", "--folds", "5"])
    ['sweep', '--models', 'self-T', '--models', 'cross-AT', '--folds', '5']
    """
    repeated: list[str] = []
    known, flag = set(flags), ""
    for argument in arguments:
        if argument.startswith("-"):
            flag = argument if argument in known else ""
        elif flag and repeated[-1] != flag:
            repeated.append(flag)
        repeated.append(argument)
    return repeated


# -- study -----------------------------------------------------------------------------------------


@app.command(
    epilog=_example("mmer study --set '*.corpus=runs/corpora/mine' 03.seeds=3 --out runs/mine")
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
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Write the outputs back into notebooks/.")
    ] = False,
) -> int:
    """Run the notebooks; print the verdicts."""
    from mmer_lib.pipeline import StudyError, run_study

    try:
        done = run_study(profile, settings or [], only or [], out, refresh)
    except StudyError as error:
        return _complain(str(error), 1)
    _describe_study(done)
    return 0


def _describe_study(done: Study) -> None:
    typer.echo(f"\nnotebooks  {_short(done.folder / 'notebooks')}  (open them with `make lab`)")
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


# -- corpus ----------------------------------------------------------------------------------------


@corpus_app.command(
    "make",
    epilog=_example("mmer corpus make synthetic runs/corpora/lookups --set cross_binding=1"),
)
def make_corpus(
    name: Annotated[str, typer.Argument(help="A source that `mmer corpus list` names.")],
    places: Annotated[
        list[str],
        typer.Argument(metavar="[SOURCE] DEST", help="What to read, if anything, and the folder."),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OPTION=VALUE ...", help="Options of the source."),
    ] = None,
) -> None:
    """Write a corpus folder from a source."""
    from mmer_lib.corpora import CORPORA, convert_options, corpus_options

    if name not in CORPORA:
        raise unknown("corpus", name, CORPORA)
    known = corpus_options(name)
    given: dict[str, Any] = dict(_read_option(text) for text in settings or [])
    dest = _assign_places(name, places, given, reads="path" in known)
    if dest.exists():
        raise InputError(f"{dest} already exists: remove it or choose another destination")
    if "dest" in known:
        made = CORPORA[name](**convert_options(name, {**given, "dest": dest}))
    else:
        made = CORPORA[name](**convert_options(name, given))
        made.save(dest)
    typer.echo(f"{dest}: {len(made)} utterances, {', '.join(made.modalities)}")
    typer.echo(f"Look at it with `mmer corpus info {dest}`")


def _assign_places(name: str, places: list[str], given: dict[str, Any], reads: bool) -> Path:
    """The destination; the source, where ``name`` reads one, becomes the option ``path``."""
    usage = f"mmer corpus make {name} {'SOURCE ' if reads else ''}DEST"
    if len(places) != 1 + reads:
        plural = "s" if reads else ""
        raise InputError(f"{len(places)} given, {1 + reads} place{plural} expected: `{usage}`")
    for word in set(PLACES) & set(given):
        raise InputError(f"--set {word}=...: not an option here, it has its own place: `{usage}`")
    if reads:
        given["path"] = places[0]
    return Path(places[-1])


def _read_option(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(
            f"--set {text!r}: write OPTION=VALUE; `mmer corpus list` names the options"
        )
    return key.strip(), value.strip()


@corpus_app.command("info", epilog=_example("mmer corpus info synthetic,cross_binding=1"))
def show_corpus(
    corpus: Annotated[str, typer.Argument(help="A corpus folder, or NAME[,OPTION=VALUE...].")],
    folds: Annotated[int, typer.Option(help="Folds of the protocols that are reported.")] = 5,
) -> None:
    """Classes, lengths, speakers, and what the folds leak."""
    from mmer_lib.corpora import load_corpus

    data = load_corpus(corpus)
    typer.echo(f"{data.name}: {len(data)} utterances, fingerprint {data.fingerprint}\n")
    for table in (_class_counts(data), _modality_table(data)):
        typer.echo(table.to_string(index=False) + "\n")
    for column in ("speaker", "dialogue"):
        names = data.known(column)
        typer.echo(f"{column}s: {'not stated' if names is None else len(set(names))}")
    typer.echo("")
    for line in _leakage_lines(data, folds):
        typer.echo(line)
    for note in data.notes:
        typer.echo(f"note: {note}")


def _class_counts(data: Corpus) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    counts = np.bincount(data.labels, minlength=len(data.classes))
    shares = [f"{100 * n / len(data):.1f} %" for n in counts]
    return pd.DataFrame({"class": data.classes, "utterances": counts, "share": shares})


def _modality_table(data: Corpus) -> pd.DataFrame:
    """A row a modality; lengths are in frames, of the utterances that have it."""
    import numpy as np
    import pandas as pd

    rows = []
    for modality in data.modalities:
        lengths = data.features[modality].lengths
        there = lengths[lengths > 0]
        quantiles = np.quantile(there, [0, 0.25, 0.5, 0.75, 1]) if len(there) else np.zeros(5)
        rate = data.recipe.get(modality, {}).get("rate")
        rows.append(
            {
                "modality": modality,
                "features": data.features[modality].width,
                "frames a second": "unknown" if rate is None else f"{rate:g}",
                "frames (min, quartiles, max)": " ".join(f"{q:.0f}" for q in quantiles),
                "missing": int((lengths == 0).sum()),
            }
        )
    return pd.DataFrame(rows)


def _leakage_lines(data: Corpus, folds: int) -> list[str]:
    from mmer_lib.corpora.folds import possible_protocols

    lines = []
    for protocol in possible_protocols(data, folds):
        first = data.folds(protocol, folds)[0]
        note = f" ({first.note})" if first.note else ""
        lines.append(f"{protocol}, fold 1 of {first.n_folds}: {first.leakage.sentence()}{note}")
    return lines


@corpus_app.command("list", epilog=_example("mmer corpus list"))
def list_corpora() -> None:
    """Every source, with its options and their defaults."""
    from textwrap import fill

    from mmer_lib.corpora import CORPORA, corpus_options

    for name, source in CORPORA.items():
        known = corpus_options(name)
        typer.echo(f"{name}: {(source.__doc__ or '').splitlines()[0].replace('``', '')}")
        typer.echo(f"    mmer corpus make {name} {'SOURCE ' if 'path' in known else ''}DEST")
        options = [f"{k}={p.default}" for k, p in known.items() if k not in PLACES]
        if options:
            indent = " " * 10
            told = fill(" ".join(options), 100, initial_indent=indent, subsequent_indent=indent)
            typer.echo(f"    --set {told.lstrip()}")


# -- sweep and compare -----------------------------------------------------------------------------


@app.command(
    epilog=_example("mmer sweep synthetic --models self-AT cross-AT --seeds 1 --store runs/sweep")
)
def sweep(
    corpus: Annotated[str, typer.Argument(help="A corpus folder, or NAME[,OPTION=VALUE...].")],
    store: Annotated[Path, typer.Option(metavar="DIR", help="The result store.")],
    models: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME ...", help="Configurations. [default: the paper's grid]"),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="published, random, by-speaker or by-dialogue.")
    ] = "random",
    folds: Annotated[int, typer.Option(help="Folds (ignored by published).")] = 5,
    seeds: Annotated[int, typer.Option(help="Runs a fold.")] = 10,
    epochs: Annotated[int, typer.Option(help="At most.")] = 100,
    patience: Annotated[int, typer.Option(help="Epochs without a better one.")] = 10,
    lr: Annotated[float, typer.Option(help="Adam's learning rate.")] = 1e-3,
    batch_size: Annotated[int, typer.Option(help="Utterances a step.")] = 32,
    width: Annotated[int, typer.Option(help="Width of the sequences, D.")] = 120,
    heads: Annotated[int, typer.Option(help="Attention heads, H.")] = 6,
    jobs: Annotated[int, typer.Option(help="Worker processes.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    metric: Annotated[str, typer.Option(help="The score that is printed.")] = "balanced_accuracy",
) -> None:
    """Train configurations on every fold and seed.

    Finished runs are kept in the store and never run again.
    """
    from mmer_lib import stats
    from mmer_lib.corpora import load_corpus
    from mmer_lib.metrics import METRICS
    from mmer_lib.model import PAPER_GRID, usable
    from mmer_lib.store import ResultStore
    from mmer_lib.sweep import Plan, run_plan
    from mmer_lib.train import TrainConfig

    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    data = load_corpus(corpus)
    plan = Plan(
        data,
        tuple(models or usable(PAPER_GRID, data)),
        protocol,
        folds,
        seeds,
        train=TrainConfig(epochs, patience, lr, batch_size=batch_size, device=device),
        model={"width": width, "heads": heads},
    )
    plan.runs()  # what cannot be run is told of before a store is made
    runs = run_plan(plan, ResultStore(store), jobs)
    typer.echo(score_table(stats.summary(runs, metric), metric))
    pairs = [f"{a}:{b}" for a, b in stats.planned_pairs(runs["configuration"].unique())]
    if pairs:
        typer.echo(f"\nNext: mmer compare {store} --pairs {' '.join(pairs)}")


@app.command(epilog=_example("mmer compare runs/sweep --pairs cross-AT:self-AT --margin 0.01"))
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
        typer.echo(verdicts.to_json(orient="records", indent=1, double_precision=15))
        return
    typer.echo(verdict_table(verdicts) + "\n")
    for sentence in verdicts["sentence"]:
        typer.echo(sentence)


def _runs_of_one_study(store: ResultStore, plan: str | None) -> pd.DataFrame:
    """The runs of ``plan``, or all runs, if they can be compared.

    Raises ``InputError`` that names the plans, if there is more than one study in the store.
    """
    runs = store.to_frame() if plan is None else store.plan(plan)
    if runs["study"].nunique() > 1:
        names = sorted(file.stem for file in store.path.glob("plans/*.json"))
        raise InputError(
            f"{store.path} holds runs of {runs['study'].nunique()} studies, which cannot be "
            f"compared with each other: choose one with --plan {' or '.join(names)}"
        )
    return runs


def _read_pair(text: str) -> tuple[str, str]:
    a, colon, b = text.partition(":")
    if not (a and colon and b):
        raise InputError(f"--pairs {text!r}: write A:B, e.g. cross-AT:self-AT")
    return a, b


# -- tables ----------------------------------------------------------------------------------------


def score_table(summary: pd.DataFrame, metric: str) -> str:
    """Mean and interval of each configuration, in %."""
    import pandas as pd

    columns: dict[str, Any] = {
        "configuration": summary["configuration"],
        f"{metric.replace('_', ' ')}, %": (100 * summary["mean"]).map("{:.1f}".format),
        "95 % interval": _intervals(summary, "{:.1f}"),
        "folds": summary["n_folds"],
        "seeds": summary["n_seeds"],
    }
    return pd.DataFrame(columns).to_string(index=False)


def verdict_table(verdicts: pd.DataFrame) -> str:
    """The comparisons of ``stats.compare_planned``, a line each, differences in points."""
    import pandas as pd

    columns: dict[str, Any] = {
        "a": verdicts["a"],
        "b": verdicts["b"],
        "a - b, points": (100 * verdicts["difference"]).map("{:+.1f}".format),
        "interval": _intervals(verdicts, "{:+.1f}"),
        "p (Holm)": verdicts["p_holm"].map("{:.3f}".format),
        "p equivalence": verdicts["p_equivalence"].map("{:.3f}".format),
        "verdict": verdicts["verdict"],
    }
    return pd.DataFrame(columns).to_string(index=False)


def _intervals(table: pd.DataFrame, form: str) -> list[str]:
    """``low .. high`` in hundredths; nothing where there is none (one fold)."""
    bounds = zip(100 * table["low"], 100 * table["high"], strict=True)
    return ["" if a != a else f"{form.format(a)} .. {form.format(b)}" for a, b in bounds]


if __name__ == "__main__":
    sys.exit(main())
