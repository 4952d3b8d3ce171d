"""``mmer corpus``: build, import and inspect corpora."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mmer_lib.cli.describe import blocks_fit, describe
from mmer_lib.cli.shell import corpus_app, example, say
from mmer_lib.cli.stop import on_stop
from mmer_lib.errors import InputError, printable, unknown

_FEATURES = "FEATURES"
_FEATURES_HELP = "NAME[,OPTION=VALUE...] as `mmer corpus features` lists, or none."
FLAGS = ("audio", "video", "text", "jobs", "device", "cache", "strict")
_TOLD = FLAGS[:5]  # by `mmer corpus list`
PLACES = ("path", "dest")  # what a corpus source reads and writes: arguments here, not options


@corpus_app.command(
    "make",
    epilog=example("mmer corpus make iemocap RELEASE runs/corpora/iemocap --text minilm --jobs 2"),
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
    audio: Annotated[str | None, typer.Option(metavar=_FEATURES, help=_FEATURES_HELP)] = None,
    video: Annotated[str | None, typer.Option(metavar=_FEATURES, help="Likewise.")] = None,
    text: Annotated[str | None, typer.Option(metavar=_FEATURES, help="Likewise.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Worker processes. [default: 1]")] = None,
    device: Annotated[str | None, typer.Option(help="Of networks. [default: cpu]")] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Finished features. [default: $MMER_CACHE or ~/.cache/mmer]"
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first file that cannot be read.")
    ] = False,
) -> None:
    """Write a corpus folder from a source.

    Features that are finished are kept: the same command goes on where it stopped. A file that
    cannot be read counts as missing and is listed in DEST/unreadable.csv.
    """
    from mmer_lib.corpora import CORPORA, corpus_options, read_options
    from mmer_lib.corpora.folder import check_free
    from mmer_lib.places import cache_folder

    if name not in CORPORA:
        raise unknown("corpus", name, CORPORA)
    known = corpus_options(name)
    given: dict[str, Any] = dict(_read_option(text) for text in settings or [])
    flags = {"audio": audio, "video": video, "text": text, "jobs": jobs, "device": device,
             "cache": cache and str(cache), "strict": strict or None}  # fmt: skip
    given.update(_check_flags(name, known, given, flags))
    dest = _assign_places(name, places, given, reads="path" in known)
    check_free(dest)
    kept = cache_folder(given.get("cache", "")) if "cache" in known else None
    on_stop(lambda: _what_is_kept(dest, kept))
    if "dest" in known:
        made = CORPORA[name](**read_options(name, {**given, "dest": dest}))
    else:
        made = CORPORA[name](**read_options(name, given))
        made.save(dest)
    say(f"{dest}: {len(made)} utterances, {', '.join(made.modalities)}")
    for note in made.notes:
        say(f"note: {printable(note)}")
    say(f"Look at it with `mmer corpus info {dest}`")


def _what_is_kept(dest: Path, cache: Path | None) -> str:
    """The last words of ``mmer corpus make``; ``cache`` is None where there is none."""
    if dest.exists():  # it came into its place whole
        return f"{dest} is whole; look at it with `mmer corpus info {dest}`"
    if cache is None:
        return f"nothing was written to {dest}; the same command begins anew"
    kept = f"features that are finished are kept in {cache}"
    return f"nothing was written to {dest}, {kept}; the same command goes on"


def _check_flags(
    name: str, known: Mapping[str, Any], given: Mapping[str, Any], flags: Mapping[str, Any]
) -> dict[str, Any]:
    """The flags that were given, if the source takes them and ``--set`` does not say them too."""
    chosen = {flag: value for flag, value in flags.items() if value is not None}
    for flag in chosen:
        if flag not in known:
            raise InputError(
                f"--{flag}: {name} takes no such option, its features are finished. "
                f"`mmer corpus list` names the options"
            )
        if flag in given:
            raise InputError(f"--{flag} and --set {flag}=...: say it once")
    return chosen


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
    """Classes, speakers, lengths, recipes, folds and their leaks."""
    from mmer_lib.corpora import load_corpus

    for block in describe(load_corpus(corpus), folds, blocks_fit(sys.stdout)):
        say(block + "\n")


@corpus_app.command("list", epilog=example("mmer corpus list"))
def list_corpora() -> None:
    """Every source, with its options and their defaults."""
    from textwrap import fill

    from mmer_lib.corpora import CORPORA, corpus_options

    for name, source in CORPORA.items():
        known = corpus_options(name)
        say(f"{name}: {(source.__doc__ or '').splitlines()[0].replace('``', '')}")
        say(f"    mmer corpus make {name} {'SOURCE ' if 'path' in known else ''}DEST")
        flags = [f"--{k} {p.default or 'FOLDER'}" for k, p in known.items() if k in _TOLD]
        options = [f"{k}={p.default}" for k, p in known.items() if k not in (*PLACES, *FLAGS)]
        for lead, told in (("", flags), ("--set ", options)):
            if told:
                indent = " " * (4 + len(lead))
                text = fill(" ".join(told), 100, initial_indent=indent, subsequent_indent=indent)
                say(f"    {lead}{text.lstrip()}")


@corpus_app.command("features", epilog=example("mmer corpus features"))
def list_features() -> None:
    """Every way to make features from media, with its options."""
    from textwrap import fill

    from mmer_lib.features.registry import EXTRACTORS, example

    for modality, kinds in EXTRACTORS.items():
        say(f"--{modality}")
        for name, kind in kinds.items():
            say(f"  {name}: {(kind.__doc__ or '').splitlines()[0].replace('``', '')}")
            say(fill(example(name, kind), 100, initial_indent="      ",
                            subsequent_indent="      ", break_long_words=False))  # fmt: skip
