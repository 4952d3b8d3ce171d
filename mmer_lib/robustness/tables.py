"""Tables of runs, as the store gives them, and what was found for each run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mmer_lib.stats.tables import need_columns

ABOUT = (
    "key", "study", "corpus", "fingerprint", "configuration", "fusion", "modalities", "fold",
    "seed", "protocol", "n_folds", "fold_seed", "n_train", "n_dev", "n_test", "parameters",
)  # fmt: skip


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The runs of a table, as the store gives it."""
    need_columns(
        table, ["key", "study", "configuration", "modalities", "fold", "seed"], "the table"
    )
    return [{str(k): v for k, v in run.items()} for run in table.to_dict("records")]


def about(run: Mapping[str, Any], found: pd.DataFrame) -> pd.DataFrame:
    """What was found, behind the columns that say of which run."""
    known = {name: run[name] for name in ABOUT if name in run}
    return pd.concat([pd.DataFrame([known] * len(found)), found.reset_index(drop=True)], axis=1)
