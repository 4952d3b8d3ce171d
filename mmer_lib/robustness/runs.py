"""The tracks, and doing one of them for the stored runs of a plan, side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from mmer_lib.corpora.base import Corpus
from mmer_lib.corpora.batches import Part
from mmer_lib.corpora.shared import SharedCorpus, share
from mmer_lib.errors import InputError, check_whole, unknown
from mmer_lib.faithfulness import check_frames, deletion_check, deletion_means
from mmer_lib.integrity import read_signed, sign, spec_key
from mmer_lib.maps import (
    check_joint,
    check_maps,
    check_query,
    entropy_frame,
    own_mass,
    partner_swap,
)
from mmer_lib.model import ModelConfig, Recognizer
from mmer_lib.robustness.changes import (
    check_positions,
    check_several,
    frame_loss,
    missing_modalities,
    swap_sensitivity,
    swapped_partners,
)
from mmer_lib.robustness.tables import about, records
from mmer_lib.store import SEMANTICS, ResultStore, write_json
from mmer_lib.sweep import PRELOAD, one_thread, restore
from mmer_lib.train import build_model
from mmer_lib.workers import as_finished

_PRELOAD = (*PRELOAD, __name__, "sklearn.model_selection")  # folds are drawn with that
TRACK_VERSION = 1  # raised when a track would give other numbers than before


@dataclass(frozen=True)
class Track:
    """What is measured on a model's test part with a seed, and which models cannot be asked."""

    measure: Callable[[Recognizer, Part, int], pd.DataFrame]
    check: Callable[[ModelConfig], None]


def _mean(frame: pd.DataFrame, *by: str) -> pd.DataFrame:
    """Means of the numbers over utterances and heads, and n: how many utterances."""
    groups = frame.groupby(list(by), sort=False) if by else frame.groupby(lambda _: 0)
    numbers = frame.columns.difference(["id", "label", "head", *by], sort=False)
    return groups[list(numbers)].mean().assign(n=groups["id"].nunique()).reset_index(drop=not by)


def _deletion(model: Recognizer, part: Part, seed: int) -> pd.DataFrame:
    return deletion_means(deletion_check(model, part, seed=seed))


def _check_maps(config: ModelConfig) -> None:
    check_maps(build_model(config, seed=0))


def _check_deletion(config: ModelConfig) -> None:
    check_frames(config)
    _check_maps(config)


def _check_own(config: ModelConfig) -> None:
    check_joint(build_model(config, seed=0))


def _check_map_swap(config: ModelConfig) -> None:
    check_query(config)
    _check_maps(config)


TRACKS: dict[str, Track] = {
    "missing": Track(lambda m, part, _: missing_modalities(m, part), check_several),
    "loss": Track(lambda m, part, seed: frame_loss(m, part, seed=seed), check_positions),
    "swap": Track(swapped_partners, check_several),
    "asker": Track(lambda m, part, seed: _mean(swap_sensitivity(m, part, None, seed)), check_query),
    "map_swap": Track(
        lambda m, part, seed: _mean(partner_swap(m, part, None, seed), "query", "source"),
        _check_map_swap,
    ),
    "entropy": Track(
        lambda m, part, _: _mean(entropy_frame(m, part, part.rows), "query", "source"), _check_maps
    ),
    "own_mass": Track(lambda m, part, _: _mean(own_mass(m, part, part.rows), "query"), _check_own),
    "deletion": Track(_deletion, _check_deletion),
}


def run_track(
    track: str,
    table: pd.DataFrame,
    store: ResultStore,
    corpus: Corpus,
    seed: int = 0,
    jobs: int = 1,
) -> pd.DataFrame:
    """One of ``TRACKS`` on the test part of every run of ``table`` (rows of the store's table).

    Columns: those of the run (key, configuration, fold, seed, ...), then those of the track, for
    ``asker``, ``map_swap``, ``entropy``, ``own_mass`` and ``deletion`` means over utterances (n).
    Runs of configurations that the track refuses are left out (``refusals`` says why).

    ``seed`` is the track's: what is lost, and who is whose partner. ``jobs`` processes of one
    thread. What was measured lies in the folder ``tracks`` of the store and is not measured again.

    Raises ``InputError`` for an unknown track, a table without a run that it can be asked, and as
    ``restore``.
    """
    check_whole("seed", seed, at_least=0)
    check_whole("jobs", jobs, at_least=1)
    refused = refusals(track, table, store)
    runs = [run for run in records(table) if run["configuration"] not in refused]
    if not runs:
        raise InputError(next(iter(refused.values()), f"track {track}: the table has no run"))
    setting = {"track": track, "seed": seed, "version": TRACK_VERSION, "semantics": SEMANTICS}
    folder = store.path / "tracks"
    files = {run["key"]: folder / f"{run['key']}-{spec_key(setting)}.json" for run in runs}
    todo = {key: file for key, file in files.items() if not file.is_file()}
    if todo:
        folder.mkdir(exist_ok=True)
        _measure_all(track, todo, store, corpus, seed, jobs)
    return pd.concat([about(run, _read(files[run["key"]])) for run in runs], ignore_index=True)


def refusals(track: str, table: pd.DataFrame, store: ResultStore) -> dict[str, str]:
    """Configurations of ``table`` that cannot be asked by a track, and why."""
    if track not in TRACKS:
        raise unknown("track", track, TRACKS)
    refused = {}
    for run in records(table.drop_duplicates("configuration")):
        stored = store.run(run["key"])["specification"]["configuration"]
        config = ModelConfig(**{**stored, "modalities": tuple(stored["modalities"])})
        try:
            TRACKS[track].check(config)
        except InputError as error:
            refused[run["configuration"]] = str(error)
    return refused


def _measure_all(
    track: str, todo: dict[str, Path], store: ResultStore, corpus: Corpus, seed: int, jobs: int
) -> None:
    """Measure and write what is not there, in this process or in ``jobs`` others."""
    quiet = True if os.environ.get("TQDM_DISABLE") else None  # None: where there is no terminal
    with share(corpus) if jobs > 1 else nullcontext(corpus) as given:
        measure = partial(_measure, track, store.path.resolve(), seed, given)
        if jobs == 1:
            done: Iterator[None] = map(measure, todo.items())
        else:
            done = as_finished(measure, todo.items(), jobs, _PRELOAD, _name)
        for _ in tqdm(done, total=len(todo), unit="run", disable=quiet):
            pass


def _measure(
    track: str, path: Path, seed: int, corpus: Corpus | SharedCorpus, run: tuple[str, Path]
) -> None:
    """One run (its key, and the file for it), measured and written."""
    key, file = run
    opened = corpus.open() if isinstance(corpus, SharedCorpus) else corpus
    with one_thread():
        model, parts = restore(ResultStore(path), key, opened)
        found = TRACKS[track].measure(model, parts["test"], seed)
    write_json(file, sign({"rows": found.to_dict("list")}))


def _name(run: tuple[str, Path]) -> str:
    return f"run {run[0]}"


def _read(file: Path) -> pd.DataFrame:
    try:
        return pd.DataFrame(read_signed(file)["rows"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is damaged: remove it and it is measured again") from error
