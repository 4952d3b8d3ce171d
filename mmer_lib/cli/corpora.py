"""``mmer corpus``: build, import and inspect corpora."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmer_lib.cli.shell import corpus_app, example
from mmer_lib.errors import InputError, unknown

if TYPE_CHECKING:
    import pandas as pd

    from mmer_lib.corpora import Corpus

PLACES = ("path", "dest")  # what a corpus source reads and writes: arguments here, not options


@corpus_app.command(
    "make",
    epilog=example("mmer corpus make synthetic runs/corpora/lookups --set cross_binding=1"),
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
    from mmer_lib.corpora import CORPORA, corpus_options, read_options

    if name not in CORPORA:
        raise unknown("corpus", name, CORPORA)
    known = corpus_options(name)
    given: dict[str, Any] = dict(_read_option(text) for text in settings or [])
    dest = _assign_places(name, places, given, reads="path" in known)
    if dest.exists():
        raise InputError(f"{dest} already exists: remove it or choose another destination")
    if "dest" in known:
        made = CORPORA[name](**read_options(name, {**given, "dest": dest}))
    else:
        made = CORPORA[name](**read_options(name, given))
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


@corpus_app.command("info", epilog=example("mmer corpus info synthetic,cross_binding=1"))
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


@corpus_app.command("list", epilog=example("mmer corpus list"))
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
