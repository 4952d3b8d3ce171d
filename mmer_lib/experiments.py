"""The study's experiments as lists of configurations, and grids of embedded corpora to run them on.

The tables, each for the modalities and sizes of a corpus:

- A: the paper's presets;
- B: the mask-only test: one attention over all modalities, equal parameters, only the mask differs;
- C: the zoo of published fusions, each with the inner width nearest the parameters of ``cross``;
- D: the factorial query {own, other} x residual {off, on} x pooling {sp, concat};
- E: the controls: who asks is nobody (uniform), somebody else (shuffled), or there is no attention.

A grid runs one plan on embedded corpora that differ in one or two options, and a robustness track
may follow its runs. The tidy tables are small and may be kept beside the notebooks as a summary,
with a record of how they were made. ``main_effects`` reads table D: one factor at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from mmer_lib.corpora import Corpus, load_corpus
from mmer_lib.errors import InputError, unknown
from mmer_lib.fusion import FUSIONS
from mmer_lib.matching import fusion_parameters, matched
from mmer_lib.metrics import METRICS
from mmer_lib.model import PAPER_GRID, ModelConfig, parse_configuration
from mmer_lib.provenance import SOURCE, describe_file, describe_sources, provenance
from mmer_lib.robustness import run_track
from mmer_lib.store import SEMANTICS, ResultStore
from mmer_lib.sweep import Plan, run_plan

NOT_IN_ZOO = ("selfcross_tied", "joint_self", "joint_cross")  # variants that other tables show
QUERIES_OF_CONTROL = ("", ",query=uniform", ",query=shuffled")


def paper_table(letters: str = "AVT", sizes: str = "") -> tuple[str, ...]:
    """Table A: the paper's fourteen configurations, as far as the modalities go."""
    names = [n for n in PAPER_GRID if set(n.split("-")[1]) <= set(letters)]
    return tuple(n + sizes for n in names)


def mask_table(letters: str = "AVT", sizes: str = "") -> tuple[str, ...]:
    """Table B: own block, other blocks, all blocks; one layer and two."""
    masks = ("joint_self", "joint_cross", "joint")
    return tuple(f"{m}-{letters}{depth}{sizes}" for depth in ("", ",depth=2") for m in masks)


def zoo_table(letters: str = "AVT", sizes: str = "") -> tuple[str, ...]:
    """Table C: every fusion, with the inner width nearest the parameters of cross-attention.

    Fusions without a free width are there as they are; ``matching.budget_frame`` shows the counts.
    """
    budget = fusion_parameters(f"cross-{letters}{sizes}")
    names = [name for name in FUSIONS if name not in NOT_IN_ZOO]
    return tuple(matched(f"{name}-{letters}{sizes}", budget) for name in names)


def factorial_table(letters: str = "AVT", sizes: str = "") -> tuple[str, ...]:
    """Table D: the eight cells; self has as many attentions and vectors as cross."""
    return tuple(
        f"{fusion}-{letters}{pooling}{residual}{sizes}"
        for fusion in ("self_x2", "cross")
        for pooling in ("", "-nosp")
        for residual in ("", ",residual=true")
    )


def control_table(letters: str = "AVT", sizes: str = "") -> tuple[str, ...]:
    """Table E: self and cross with their own query, with none, with another's; and means alone."""
    asked = [f"{f}-{letters}{q}{sizes}" for f in ("self", "cross") for q in QUERIES_OF_CONTROL]
    return (*asked, f"mean-{letters}{sizes}")


TABLES: dict[str, Callable[[str, str], tuple[str, ...]]] = {
    "A": paper_table,
    "B": mask_table,
    "C": zoo_table,
    "D": factorial_table,
    "E": control_table,
}


def list_table(
    table: str, letters: str = "AVT", sizes: Mapping[str, int] | None = None
) -> list[str]:
    """The configurations of a table for these modalities.

    ``sizes``, such as ``{"width": 32, "heads": 4}``, are those that a plan gives to all of them;
    equal numbers of parameters depend on them. Raises ``InputError`` for an unknown table, or
    fewer than two modalities.
    """
    if table not in TABLES:
        raise unknown("table", table, TABLES)
    if len(letters) < 2:
        raise InputError(f"table {table} compares fusions: two modalities needed, not {letters!r}")
    written = "".join(f",{key}={value}" for key, value in (sizes or {}).items())
    return [name.replace(written, "") for name in TABLES[table](letters, written)]


# -- grids of embedded corpora ---------------------------------------------------------------------


def run_grid(
    cells: Iterable[Mapping[str, Any]],
    plan: Plan,
    store: ResultStore,
    jobs: int = 1,
    name: str = "grid",
) -> pd.DataFrame:
    """The runs of ``plan`` on the embedded corpus with the options of every cell.

    ``plan.corpus`` is replaced. Returns the tidy table of runs with the options as columns.
    """
    tables = []
    for cell in cells:
        corpus = _embed(*cell.items())
        runs = run_plan(replace(plan, corpus=corpus), store, jobs, _plan_name(name, cell))
        tables.append(runs.assign(**cell))
    grid = pd.concat(tables, ignore_index=True)
    left_out = {k: v for table in tables for k, v in table.attrs.get("left_out", {}).items()}
    grid.attrs = {"left_out": left_out} if left_out else {}
    return grid


@lru_cache(maxsize=4)
def _embed(*options: tuple[str, Any]) -> Corpus:
    """The corpus of a cell, made once for its runs and the tracks that follow them."""
    return load_corpus("synthetic", **dict(options))


def _plan_name(name: str, cell: Mapping[str, Any]) -> str:
    """Letters, digits, _ and - only: what a store calls a plan."""
    return re.sub(r"[^\w-]", "_", "-".join([name, *(f"{k}_{v}" for k, v in cell.items())]))


def track_grid(
    track: str,
    runs: pd.DataFrame,
    cells: Iterable[Mapping[str, Any]],
    store: ResultStore,
    jobs: int = 1,
) -> pd.DataFrame:
    """A track of ``robustness.run_track`` on the runs of every cell, with its options as columns.

    ``runs`` is what ``run_grid`` gave for ``cells``; other columns of it are not kept. Raises
    ``InputError`` for a cell that ``runs`` does not have.
    """
    tables = []
    for cell in cells:
        here = (runs[list(cell)] == pd.Series(cell)).all(axis=1)
        if not here.any():
            raise InputError(f"track {track}: no run of {cell}: give the cells of the grid")
        corpus = _embed(*cell.items())
        tables.append(run_track(track, runs[here], store, corpus, jobs=jobs).assign(**cell))
    return pd.concat(tables, ignore_index=True)


def triangle(steps: int) -> list[dict[str, float]]:
    """Shares of cross-modal and within-modality look-ups that add up to at most one.

    >>> triangle(1)
    [{'cross_binding': 0.0, 'self_binding': 0.0}, {'cross_binding': 0.0, 'self_binding': 1.0}, \
{'cross_binding': 1.0, 'self_binding': 0.0}]
    """
    return [
        {"cross_binding": i / steps, "self_binding": j / steps}
        for i in range(steps + 1)
        for j in range(steps + 1 - i)
    ]


# -- the factorial, one factor at a time -----------------------------------------------------------

FACTORS: dict[str, Callable[[ModelConfig], bool]] = {  # of table D: is it the second level?
    "another modality asks": lambda config: config.fusion == "cross",
    "residual": lambda config: config.residual,
    "vectors side by side": lambda config: config.pooling == "concat",
}


def main_effects(runs: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """The runs of table D, averaged over two factors at a time: a row a factor, level, fold, seed.

    ``by``: columns that tell data sets apart. Columns: those, ``factor`` (of ``FACTORS``),
    ``configuration`` ("with" or "without" it), fold, seed, the sizes of the parts, accuracy,
    balanced_accuracy, macro_f1: means over the four cells of the level. For
    ``stats.compare_groups(..., [("with", "without")], [*by, "factor"])``, which makes one family of
    all.

    Raises ``InputError`` unless every level has four configurations.
    """
    configs = {name: parse_configuration(name) for name in runs["configuration"].unique()}
    kept = [*by, "fold", "seed", *(c for c in ("n_train", "n_dev", "n_test") if c in runs)]
    scores = [c for c in METRICS if c in runs]
    pieces = []
    for factor, second in FACTORS.items():
        level = {name: "with" if second(config) else "without" for name, config in configs.items()}
        if sorted(level.values()) != ["with"] * 4 + ["without"] * 4:
            raise InputError(
                f"{factor}: the levels are {level}: expected the eight cells of table D"
            )
        named = runs.assign(configuration=runs["configuration"].map(level), factor=factor)
        groups = named.groupby([*kept, "factor", "configuration"], sort=False)
        pieces.append(groups[scores].mean().reset_index())
    return pd.concat(pieces, ignore_index=True)


# -- summaries that travel with the notebooks ------------------------------------------------------

_KEPT = (
    "configuration", "fusion", "fold", "seed", "protocol", "n_folds", "n_train", "n_dev", "n_test",
    "accuracy", "balanced_accuracy", "macro_f1", "parameters", "epochs", "seconds",
)  # fmt: skip


def write_summary(
    runs: pd.DataFrame, file: Path, extra: Sequence[str], how: str, plan: Plan | None = None
) -> Path:
    """Keep what comparisons need of a table of runs or a track, and beside it how it was made.

    ``extra``: further columns, such as the options of a grid. ``how``: the command. ``plan``: what
    was run, for its settings (of a grid: without the corpus, which ``extra`` tells).
    """
    columns = list(dict.fromkeys([*extra, *(c for c in _KEPT if c in runs)]))
    file.parent.mkdir(parents=True, exist_ok=True)
    runs[columns].round(6).to_csv(file, index=False)
    one_each = ["key"] if "key" in runs else ["configuration", "fold", "seed", *extra]
    trained = runs.drop_duplicates(one_each)
    about = {
        "made by": how,
        "runs": len(trained),
        "rows": len(runs),
        "settings": _settings(plan) if plan else {},
        "semantics of runs": SEMANTICS,
        "of": describe_sources(runs) if {*SOURCE, "key"} <= {*runs} else [],
        "made": provenance(),
        "columns": columns,
    }
    if "seconds" in trained:
        about["seconds of training in all"] = round(float(trained["seconds"].sum()))
    if runs.attrs.get("left_out"):
        about["damaged runs left out"] = runs.attrs["left_out"]
    file.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return file


def _settings(plan: Plan) -> dict[str, Any]:
    """What of a plan decides its numbers, but for the corpus and the configurations."""
    return {
        "protocol": plan.protocol,
        "folds": plan.n_folds,
        "seeds": plan.seeds,
        "model": dict(plan.model),
        "train": {k: v for k, v in asdict(plan.train).items() if k != "device"},
    }


def read_summary(file: str | Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A summary and how it was made; ``source`` names its file and hash, for figures of it.

    The table has the same in its ``attrs``. Raises ``InputError`` if one of the two files is
    missing.
    """
    path = Path(file)
    about = path.with_suffix(".json")
    for one in (path, about):
        if not one.is_file():
            raise InputError(
                f"{one} is missing: restore the repository's notebooks/summaries, or compute it"
            )
    table, source = pd.read_csv(path), describe_file(path)
    table.attrs["source"] = source
    return table, json.loads(about.read_text(encoding="utf-8")) | {"source": source}
