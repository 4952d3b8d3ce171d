"""The result store: one folder a run, there whole or not at all. Imports no torch.

    store/
      store.json                 what this folder is
      plans/<name>.json          the keys of the plan run last under that name
      <key>/run.json             what decided the numbers, the scores, and hashes of the rest
            history.csv          one row an epoch
            predictions.npz      ids, labels (n,), probabilities (n, C) of dev and test
            weights.safetensors  the parameters of the kept epoch
      claims/<key>               a run that a process is at (see ``claims``)
      damaged/<key>-<n>/         runs that ``audit.set_aside`` moved away

The key is a hash of everything that decides a run's numbers, so a finished run is found again
and never computed twice. What is not as it was written is never read (see ``integrity``): such a
run is left out of every table, and told of by name, with what mends it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mmer_lib import claims
from mmer_lib.arrayfiles import unpack_arrays
from mmer_lib.claims import beside, settle, writing
from mmer_lib.errors import InputError, check_path, notify, unknown
from mmer_lib.integrity import (
    RECORD,
    Damage,
    read_file,
    read_run,
    read_signed,
    render,
    seal,
    sign,
)

FORMAT = 2
STORED_PARTS = ("dev", "test")
KEY = re.compile("[0-9a-f]{16}")
_SORTED_BY = {"study": str, "configuration": str, "fold": int, "seed": int}  # every run has them
_DAMAGE = (  # what reading a damaged file may raise
    OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, SafetensorError,
)  # fmt: skip
SEMANTICS = 3  # raised when the same configuration would give other numbers than before


@dataclass(frozen=True)
class StoredPredictions:
    """One part as a run left it: ids (n,) str, labels (n,) int64, probabilities (n, C)."""

    ids: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray

    def __post_init__(self) -> None:
        kinds = [array.dtype.kind for array in (self.ids, self.labels, self.probabilities)]
        shape = self.probabilities.shape
        if len(shape) != 2 or {self.ids.shape, self.labels.shape} != {shape[:1]}:
            raise InputError(
                f"predictions of shapes {self.ids.shape}, {self.labels.shape}, {shape}"
            )
        if kinds[0] not in "UO" or kinds[1] not in "iu" or kinds[2] != "f":
            raise InputError(
                f"predictions of kinds {', '.join(kinds)}; text, integers, floats expected"
            )


class ResultStore:
    """A folder of finished runs; created if it is not there.

    Raises ``InputError`` if ``path`` is a folder of something else, or cannot be written.
    """

    def __init__(self, path: str | Path, create: bool = True) -> None:
        self.path = check_path("store", path)
        marker = self.path / "store.json"
        if marker.is_file():
            self._check_marker(marker)
        elif self._is_something_else():
            raise InputError(
                f"{self.path} is not a result store (no store.json in it): "
                f"choose the --store folder of `mmer sweep`, or an empty one"
            )
        elif not create:
            raise InputError(f"{self.path}: no result store there. Make one with `mmer sweep`")
        else:
            self._create(marker)

    def _is_something_else(self) -> bool:
        """Whether something lies there that is no store, nor one that is being made."""
        if not self.path.is_dir():
            return self.path.exists()
        theirs = {file.name for file in self.path.iterdir()} - {".store.json", ".store.json.lock"}
        return bool(theirs) and not (self.path / "store.json").is_file()

    def _check_marker(self, marker: Path) -> None:
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))["format"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{marker} is damaged: {self.path} is not a usable store") from error
        if found != FORMAT:
            raise InputError(
                f"{marker} has format {found}, this version reads {FORMAT}: choose another folder"
            )

    def _create(self, marker: Path) -> None:
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(marker, {"format": FORMAT, "what": "mmer result store"})

    def __contains__(self, key: str) -> bool:
        """Whether there is a run, be it damaged."""
        return KEY.fullmatch(str(key)) is not None and (self.path / key).is_dir()

    def keys(self) -> list[str]:
        """Of all runs, damaged ones included, sorted."""
        return sorted(path.name for path in self.path.glob("[0-9a-f]" * 16) if path.is_dir())

    def write(
        self,
        key: str,
        run: Mapping[str, Any],
        history: pd.DataFrame,
        parts: Mapping[str, Any],
        weights: Mapping[str, np.ndarray],
    ) -> None:
        """Add a finished run: filled beside and renamed, so nobody ever sees half of it.

        ``run`` has the ``specification`` that ``key`` is the hash of, and a ``row`` of the table;
        ``parts`` maps "dev" and "test" to predictions. A run that is already there stays.

        Raises ``InputError`` for predictions that are Python objects: nobody could read them.
        """
        if not KEY.fullmatch(key):
            raise InputError(f"{key!r} is no key of a run: 16 hex digits expected")
        arrays = {
            f"{part}_{name}": getattr(predictions, name)
            for part, predictions in parts.items()
            for name in ("ids", "labels", "probabilities")
        }
        for name, array in arrays.items():  # numpy 2.0 has no flag for it
            if np.asarray(array).dtype.hasobject:
                raise InputError(
                    f"{name} are Python objects: numbers expected, or text (dtype str)"
                )
        archive = BytesIO()
        np.savez_compressed(archive, **arrays)
        files = {  # in memory first: then a full disk is one plain error
            "history.csv": history.to_csv(index=False).encode(),
            "predictions.npz": archive.getvalue(),
            "weights.safetensors": save(dict(weights)),
        }
        self.adopt(key, files | {RECORD: render(seal({**run, "key": key}, files))})

    def adopt(self, key: str, files: Mapping[str, bytes]) -> None:
        """Add a finished run as its files, such as another store has; what is there stays."""
        with writing(self.path), beside(self.path / key) as folder:
            if key in self:
                return
            folder.mkdir()
            for name, content in files.items():
                (folder / Path(name).name).write_bytes(content)
            settle(folder, self.path / key)

    def files(self, key: str) -> dict[str, bytes]:
        """A finished run as its files, to be written into another store by ``adopt``."""
        with self._told(key):
            folder = self.path / key
            about = read_run(folder)
            whole = {name: read_file(folder, about, name) for name in about["files"]}
            return whole | {RECORD: (folder / RECORD).read_bytes()}

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether this process alone is at a run until the end of the block; never waits.

        Who has a claim looks once more whether the store holds the run by now:

            with store.claim(key) as mine:
                if mine and key not in store: ...

        Raises ``InputError`` where the store cannot be written.
        """
        with ExitStack() as stack:
            with writing(self.path):
                mine = stack.enter_context(claims.claim(self.path, key))
            yield mine

    def check_writable(self) -> None:
        """Raise ``InputError`` unless runs can be written here and none is lost."""
        with writing(self.path):
            claims.check_folder(self.path)

    def tidy(self) -> None:
        """Remove what processes that died have left here; what living ones are at stays."""
        with writing(self.path):
            claims.tidy(self.path)
            claims.tidy(self.path / "plans")

    def run(self, key: str) -> dict[str, Any]:
        """What decided a run and what came out.

        Raises ``InputError`` for an unknown key and, as ``history``, ``predictions`` and
        ``weights`` do, for a run that is not as it was written.
        """
        with self._told(key):
            return self._read_run(key)

    def _read_run(self, key: str) -> dict[str, Any]:
        about = read_run(self.path / key)
        row = about.get("row")
        if not isinstance(row, dict) or any(
            type(row.get(column)) is not kind for column, kind in _SORTED_BY.items()
        ):
            raise Damage(f"{RECORD} lacks the row of the table")
        return about

    def classes(self, key: str) -> list[str]:
        """The names of a run's classes, in the order of its probabilities."""
        about = self.run(key)
        with self._told(key):
            return [name + "" for name in about["classes"]]  # text, each

    def history(self, key: str) -> pd.DataFrame:
        """One row an epoch of a run."""
        with self._opened(key, "history.csv") as content:
            return pd.read_csv(content)

    def predictions(self, key: str, part: str = "test") -> StoredPredictions:
        """What a run said of the utterances of its ``dev`` or ``test`` part."""
        if part not in STORED_PARTS:
            raise unknown("part", part, STORED_PARTS)
        names = [f"{part}_{name}" for name in ("ids", "labels", "probabilities")]
        with self._opened(key, "predictions.npz") as content:
            arrays = unpack_arrays(content, names)
            return StoredPredictions(*(arrays[name] for name in names))

    def weights(self, key: str) -> dict[str, np.ndarray]:
        """The parameters of a run's kept epoch, by name."""
        with self._opened(key, "weights.safetensors") as content:
            loaded: dict[str, np.ndarray] = load(content.getvalue())
        return loaded

    @contextmanager
    def _opened(self, key: str, name: str) -> Iterator[BytesIO]:
        """The content of a file of a run, to be read in the block that follows."""
        with self._told(key):
            folder = self.path / key
            yield BytesIO(read_file(folder, read_run(folder), name))

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        """Turn whatever reading a damaged run raises into one line that says what mends it."""
        if key not in self:
            raise InputError(f"{self.path} has no finished run {key!r}")
        try:
            yield
        except _DAMAGE as error:
            what = str(error) if isinstance(error, Damage) else "its content is not that of a run"
            raise InputError(f"run {key} is damaged, {what}: {self.remedy}") from error

    @property
    def remedy(self) -> str:
        """What mends damaged runs."""
        return f"`mmer store repair {self.path}`, then run the sweep or study again"

    def damaged(self, keys: Iterable[str] | None = None) -> dict[str, str]:
        """What is wrong with those of ``keys``, by default of all, that are not whole.

        As far as ``run.json`` and the sizes tell, which is cheap; ``audit.verify`` reads all.
        """
        return self._look(self.keys() if keys is None else keys)[1]

    def _look(self, keys: Iterable[str]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """What is told of the whole ones of ``keys``, and what is wrong with the others."""
        whole, damaged = {}, {}
        for key in keys:
            try:
                whole[key] = self._read_run(key)
            except Damage as damage:
                damaged[key] = str(damage)
        return whole, damaged

    def to_frame(self, keys: list[str] | None = None) -> pd.DataFrame:
        """The tidy table, one row a run: those of ``keys`` in their order, or all, sorted.

        Columns: key, study (hash of all that the runs of one plan share), corpus, configuration,
        fold, seed, the scores on test, and the settings. Damaged runs are left out: a ``Notice``
        says so, and ``attrs["left_out"]`` of the table has their keys and what is wrong, for the
        comparisons to tell. Raises ``InputError`` if no run is left.
        """
        asked = self.keys() if keys is None else keys
        whole, left_out = self._look(asked)
        told = f"{self.path}: {_describe_damage(left_out, len(asked))}"
        rows = [whole[key]["row"] | {"key": key} for key in asked if key in whole]
        if not rows and left_out:
            raise InputError(f"{told}: {self.remedy}")
        if not rows:
            raise InputError(f"{self.path} holds no finished run yet: run `mmer sweep` first")
        table = pd.DataFrame(rows)
        if keys is None:
            table = table.sort_values(list(_SORTED_BY))
        if left_out:
            table.attrs["left_out"] = left_out
            notify(f"{told}. Left out of this table: {self.remedy}")
        return table.reset_index(drop=True)

    def note_plan(self, name: str, keys: list[str]) -> None:
        """Remember the runs of the plan that was run last under ``name``, letters and hyphens."""
        if not re.fullmatch(r"\w[\w-]*", name):
            raise InputError(f"plan name {name!r}: expected letters, digits, _ and - only")
        with writing(self.path):
            (self.path / "plans").mkdir(exist_ok=True)
            write_json(self.path / "plans" / f"{name}.json", sign({"keys": keys}))

    def plans(self) -> list[str]:
        """The names of the plans that were run."""
        return sorted(file.stem for file in self.path.glob("plans/*.json"))

    def plan(self, name: str) -> pd.DataFrame:
        """The rows of the plan run last under ``name``, as ``to_frame`` gives them.

        Raises ``InputError`` if no plan of that name was run.
        """
        return self.to_frame(self.plan_keys(name))

    def plan_keys(self, name: str) -> list[str]:
        """The keys of the plan run last under ``name``; raises as ``plan``."""
        if name not in self.plans():
            raise unknown(f"plan in store {self.path}:", name, self.plans())
        file = self.path / "plans" / f"{name}.json"
        try:
            return [str(key) for key in read_signed(file)["keys"]]
        except (Damage, KeyError, TypeError) as error:
            raise InputError(
                f"{file} is damaged: remove it and run the plan again, what is finished stays"
            ) from error


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """JSON that is there whole or not at all. Raises ``InputError`` if it cannot be written."""
    with writing(file.parent), beside(file) as hidden:
        hidden.write_bytes(render(content))
        settle(hidden, file)


def _describe_damage(found: Mapping[str, str], n: int, most: int = 3) -> str:
    """Damaged runs in words: "2 of 8 runs are damaged (KEY: predictions.npz is missing; ...)"."""
    named = [f"{key}: {what}" for key, what in found.items()][:most]
    more = f"; and {len(found) - most} more" if len(found) > most else ""
    runs = f"{len(found)} of {n} runs {'is' if len(found) == 1 else 'are'} damaged"
    return f"{runs} ({'; '.join(named)}{more})"
