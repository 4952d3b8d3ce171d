"""Whole stores looked at: every byte of every run, its scores made again, and what to do.

    for one in verify(store):
        print(one.key, one.what)     # damaged runs alone
    set_aside(store, [one.key])      # and the sweep that made it runs it again

A run is made again as far as it holds what is needed: its key from its specification, its hashes
from its files, its scores from its predictions, and what else stands in its row of the table. Not
so the scores of other semantics, which another version may have computed otherwise; and that the
predictions are those of the weights is for ``sweep.restore`` to show, which needs the corpus.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from mmer_lib import metrics
from mmer_lib.errors import InputError
from mmer_lib.integrity import RECORD, Damage, Extra, check_extra, read_file, read_run, read_signed
from mmer_lib.store import SEMANTICS, ResultStore

# Entries of the specification -> the column of the table that says the same.
_SAID_TWICE = {
    "corpus": "fingerprint", "protocol": "protocol", "n_folds": "n_folds",
    "fold_seed": "fold_seed", "fold": "fold", "seed": "seed", "semantics": "semantics",
}  # fmt: skip

_NOTES = {  # folder of a store -> what to do about a damaged file in it
    "plans": "remove it and run the plan again, what is finished stays",
    "tracks": "remove it and it is measured again",
}
_COUNTED = ("configuration", "fold", "seed")


@dataclass(frozen=True)
class Finding:
    """A run that is not as it was written: its key, its name if that can be read, what is wrong.

    Also of other files of a store, ``key`` being their place in it. ``mend``: whether a run must be
    run again; ``remedy`` says what else is to be done, and is empty for a run.
    """

    key: str
    name: str
    what: str
    mend: bool = False
    remedy: str = ""

    def sentence(self) -> str:
        """One line, with the remedy where it is not that of all runs (``ResultStore.remedy``)."""
        named = f" ({self.name})" if self.name else ""
        return f"{self.key}{named}: {self.what}" + (f"; {self.remedy}" if self.remedy else "")


def verify(store: ResultStore, keys: Iterable[str] | None = None) -> Iterator[Finding]:
    """The damaged ones of ``keys`` (all by default; what is not there is passed over).

    Every file is read. Progress goes to standard error, quietly where there is no terminal.
    """
    chosen = store.keys() if keys is None else [key for key in keys if key in store]
    quiet = True if os.environ.get("TQDM_DISABLE") else None  # None: where there is no terminal
    for key in tqdm(chosen, desc="verify", unit="run", disable=quiet, leave=False):
        try:
            check_run(store, key)
        except Extra as extra:
            remedy = "move that elsewhere, the numbers are sound"
            yield Finding(key, _name(store, key), str(extra), remedy=remedy)
        except Damage as damage:
            yield Finding(key, _name(store, key), str(damage), mend=True)


def verify_notes(store: ResultStore) -> Iterator[Finding]:
    """What else is damaged in a store: its plans, and what tracks measured on its runs."""
    for kind, remedy in _NOTES.items():
        for file in sorted((store.path / kind).glob("*.json")):
            try:
                read_signed(file)
            except Damage as damage:
                yield Finding(f"{kind}/{file.name}", "", str(damage), remedy=remedy)


def check_run(store: ResultStore, key: str) -> None:
    """Raise ``Damage`` unless a run is as it was written and its row is what its files say."""
    folder = store.path / key
    about = read_run(folder)
    for name in about["files"]:
        read_file(folder, about, name)
    try:
        told, made = about["row"], _make_row(store, key, about)
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise Damage(
            f"its files are not those of a run ({' '.join(str(error).split())})"
        ) from error
    for name, value in made.items():
        if not _same(told.get(name), value):
            raise Damage(f"{RECORD} says {name} {told.get(name)}, its files say {value}")
    check_extra(folder, about)


def _make_row(store: ResultStore, key: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """What of a row of the table can be made again from the specification and the files."""
    dev, test = (store.predictions(key, part) for part in ("dev", "test"))
    history = store.history(key)
    spec = about["specification"]
    scores = metrics.scores(test.labels, test.probabilities)
    if spec["semantics"] != SEMANTICS:
        scores = {}
    return {column: spec[name] for name, column in _SAID_TWICE.items()} | {
        "configuration": spec["configuration"]["name"],
        "fusion": spec["configuration"]["fusion"],
        **{name: score for name, score in scores.items() if name in about["row"]},  # no later ones
        "dev_accuracy": metrics.accuracy(dev.labels, dev.probabilities.argmax(axis=1)),
        "n_dev": len(dev.labels),
        "n_test": len(test.labels),
        "epochs": len(history),
        "classes": len(about["classes"]),
    }  # fmt: skip


def _same(told: Any, made: Any) -> bool:
    """Equal, or numbers that differ by no more than another order of additions may make."""
    if isinstance(told, float) and isinstance(made, float):
        return math.isclose(told, made, rel_tol=1e-9) or (math.isnan(told) and math.isnan(made))
    return bool(told == made)


def _name(store: ResultStore, key: str) -> str:
    """What a reader knows a run by, if its ``run.json`` is whole."""
    try:
        row = read_signed(store.path / key / RECORD)["row"]
        return f"{row['configuration']}, fold {row['fold']}, seed {row['seed']}"
    except (Damage, KeyError, TypeError):
        return ""


def set_aside(store: ResultStore, keys: Iterable[str]) -> list[Path]:
    """Move runs to the folder ``damaged`` of their store, where they are no runs any more.

    Nothing is deleted. Returns where each lies now; raises ``InputError`` if one cannot be moved.
    """
    moved = []
    for key in keys:
        place = store.path / "damaged"
        n = 1
        while (place / f"{key}-{n}").exists():
            n += 1
        try:
            place.mkdir(exist_ok=True)
            moved.append((store.path / key).rename(place / f"{key}-{n}"))
        except OSError as error:
            raise InputError(
                f"cannot move {store.path / key} to {place}: {error.strerror}. Move it by hand"
            ) from error
    return moved


def describe_store(store: ResultStore) -> pd.DataFrame:
    """What a store holds: a row a plan, and one for the runs that are in no plan, if there are any.

    Columns: ``plan``; ``runs`` ("8", or "6 of 8" where some are damaged or gone);
    ``configurations``, ``folds``, ``seeds``: how many; ``corpus``, ``semantics``, ``mmer``: which;
    ``MB``. Raises ``InputError`` for a damaged plan.
    """
    plans = {name: store.plan_keys(name) for name in store.plans()}
    planned = {key for keys in plans.values() for key in keys}
    rest = sorted({*store.keys()} - planned)
    groups = plans | ({"-": rest} if rest else {})
    return pd.DataFrame([_describe_runs(store, name, keys) for name, keys in groups.items()])


def _describe_runs(store: ResultStore, plan: str, keys: list[str]) -> dict[str, Any]:
    damaged = store.damaged(keys)
    whole = [store.run(key) for key in keys if key not in damaged]
    rows = [about["row"] for about in whole]

    def which(values: Iterable[Any]) -> str:
        return ", ".join(sorted({str(value) for value in values}))

    return {
        "plan": plan,
        "runs": f"{len(whole)} of {len(keys)}" if damaged else str(len(keys)),
        **{f"{what}s": len({row[what] for row in rows}) for what in _COUNTED},
        "corpus": which(row["corpus"] for row in rows),
        "semantics": which(row["semantics"] for row in rows),
        "mmer": which(about["provenance"]["mmer"] for about in whole),
        "MB": round(sum(_bytes(store.path / key) for key in keys) / 1e6, 2),
    }


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*") if file.is_file())
