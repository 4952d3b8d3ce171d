"""The result store: one folder a run, there whole or not at all. Imports no torch.

    store/
      store.json                 what this folder is
      plans/<name>.json          the keys of the plan run last under that name
      <key>/run.json             what decided the numbers, and the scores
            history.csv          one row an epoch
            predictions.npz      ids, labels (n,), probabilities (n, C) of dev and test
            weights.safetensors  the parameters of the kept epoch
      claims/<key>               a run that a process is at (see ``claims``)

The key is a hash of everything that decides a run's numbers, so a finished run is found again
and never computed twice. A file that cannot be read is told of by name, with what to remove.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from mmer_lib import claims
from mmer_lib.claims import beside, remove, settle, writing
from mmer_lib.errors import InputError, check_path, unknown

FORMAT = 1
STORED_PARTS = ("dev", "test")
KEY = re.compile("[0-9a-f]{16}")
_SORTED_BY = ["study", "configuration", "fold", "seed"]  # columns that every run has
_DAMAGE = (  # what reading a damaged file may raise
    OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, ZlibError, SafetensorError,
)  # fmt: skip
SEMANTICS = 2  # raised when the same configuration would give other numbers than before


@dataclass(frozen=True)
class StoredPredictions:
    """One part as a run left it: ids (n,) str, labels (n,) int64, probabilities (n, C)."""

    ids: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray


def spec_key(spec: Mapping[str, Any]) -> str:
    """16 hex digits of a JSON-able specification; the order of its keys does not matter."""
    text = json.dumps(spec, sort_keys=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


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
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{marker} is damaged: {self.path} is not a usable store") from error
        if found != FORMAT:
            raise InputError(f"{marker} has format {found}, this version reads {FORMAT}")

    def _create(self, marker: Path) -> None:
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(marker, {"format": FORMAT, "what": "mmer result store"})

    def __contains__(self, key: str) -> bool:
        return KEY.fullmatch(str(key)) is not None and (self.path / key / "run.json").is_file()

    def keys(self) -> list[str]:
        """Of all finished runs, sorted."""
        return sorted(file.parent.name for file in self.path.glob("[0-9a-f]" * 16 + "/run.json"))

    def write(
        self,
        key: str,
        run: Mapping[str, Any],
        history: pd.DataFrame,
        parts: Mapping[str, Any],
        weights: Mapping[str, np.ndarray],
    ) -> None:
        """Add a finished run: filled beside and renamed, so nobody ever sees half of it.

        ``parts`` maps "dev" and "test" to predictions. A run that is already there stays.
        """
        if not KEY.fullmatch(key):
            raise InputError(f"{key!r} is no key of a run: 16 hex digits expected")
        arrays = {
            f"{part}_{name}": getattr(predictions, name)
            for part, predictions in parts.items()
            for name in ("ids", "labels", "probabilities")
        }
        archive = BytesIO()
        np.savez_compressed(archive, allow_pickle=False, **arrays)
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        files = {  # in memory first: then a full disk is one plain error
            "history.csv": history.to_csv(index=False).encode(),
            "predictions.npz": archive.getvalue(),
            "weights.safetensors": save(dict(weights)),
            "run.json": _render({**run, "key": key, "created": stamp}),
        }
        with writing(self.path), beside(self.path / key) as folder:
            if key in self:
                return
            folder.mkdir()
            for name, content in files.items():
                (folder / name).write_bytes(content)
            remove(self.path / key)  # what lies there without its run.json is no run
            settle(folder, self.path / key)

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
        ``weights`` do, for a file that is missing or damaged.
        """
        with self._open(key, "run.json") as file:
            loaded: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            for column in _SORTED_BY:
                loaded["row"][column]
        return loaded

    def classes(self, key: str) -> list[str]:
        """The names of a run's classes, in the order of its probabilities."""
        about = self.run(key)
        with self._open(key, "run.json"):
            return list(about["classes"])

    def history(self, key: str) -> pd.DataFrame:
        """One row an epoch of a run."""
        with self._open(key, "history.csv") as file:
            return pd.read_csv(file)

    @contextmanager
    def _open(self, key: str, name: str) -> Iterator[Path]:
        """A file of a finished run, to be read in the block that follows."""
        if key not in self:
            raise InputError(f"{self.path} has no finished run {key!r}")
        folder = self.path / key
        with _told(folder / name, f"remove the folder {folder} and the sweep runs it again"):
            yield folder / name

    def predictions(self, key: str, part: str = "test") -> StoredPredictions:
        """What a run said of the utterances of its ``dev`` or ``test`` part."""
        if part not in STORED_PARTS:
            raise unknown("part", part, STORED_PARTS)
        with (
            self._open(key, "predictions.npz") as file,
            file.open("rb") as stream,  # numpy would leave open what is no archive
            np.load(stream, allow_pickle=False) as arrays,
        ):
            return StoredPredictions(
                arrays[f"{part}_ids"], arrays[f"{part}_labels"], arrays[f"{part}_probabilities"]
            )

    def weights(self, key: str) -> dict[str, np.ndarray]:
        """The parameters of a run's kept epoch, by name."""
        with self._open(key, "weights.safetensors") as file:
            loaded: dict[str, np.ndarray] = load_file(file)
        return loaded

    def to_frame(self, keys: list[str] | None = None) -> pd.DataFrame:
        """The tidy table, one row a run: those of ``keys`` in their order, or all, sorted.

        Columns: key, study (hash of all that the runs of one plan share), corpus, configuration,
        fold, seed, the scores on test, and the settings. Raises ``InputError`` for an empty store.
        """
        asked = self.keys() if keys is None else keys
        rows = [self.run(key)["row"] | {"key": key} for key in asked]
        if not rows:
            raise InputError(f"{self.path} holds no finished run yet: run `mmer sweep` first")
        table = pd.DataFrame(rows)
        if keys is None:
            table = table.sort_values(_SORTED_BY)
        return table.reset_index(drop=True)

    def note_plan(self, name: str, keys: list[str]) -> None:
        """Remember the runs of the plan that was run last under ``name``, letters and hyphens."""
        if not re.fullmatch(r"\w[\w-]*", name):
            raise InputError(f"plan name {name!r}: expected letters, digits, _ and - only")
        with writing(self.path):
            (self.path / "plans").mkdir(exist_ok=True)
            write_json(self.path / "plans" / f"{name}.json", {"keys": keys})

    def plans(self) -> list[str]:
        """The names of the plans that were run."""
        return sorted(file.stem for file in self.path.glob("plans/*.json"))

    def plan(self, name: str) -> pd.DataFrame:
        """The rows of the plan run last under ``name``, as ``to_frame`` gives them.

        Raises ``InputError`` if no plan of that name was run.
        """
        if name not in self.plans():
            raise unknown(f"plan in store {self.path}:", name, self.plans())
        file = self.path / "plans" / f"{name}.json"
        with _told(file, "remove it and run the plan again, what is finished stays"):
            keys = [str(key) for key in json.loads(file.read_text(encoding="utf-8"))["keys"]]
        return self.to_frame(keys)


@contextmanager
def _told(file: Path, remedy: str) -> Iterator[None]:
    """Turn whatever a missing or damaged ``file`` raises into one line that says what to do."""
    try:
        yield
    except _DAMAGE as error:
        raise InputError(f"{file} is missing or damaged: {remedy}") from error


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """JSON that is there whole or not at all. Raises ``InputError`` if it cannot be written."""
    with writing(file.parent), beside(file) as hidden:
        hidden.write_bytes(_render(content))
        settle(hidden, file)


def _render(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()
