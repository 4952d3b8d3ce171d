"""Selection honesty: what choosing the epoch on the test part would have bought.

A history has one row an epoch of a run: ``configuration, fold, seed, epoch, dev_accuracy,
test_accuracy``. Test accuracy is there for runs trained with ``TrainConfig(score_test=True)``,
which looks at the test part and decides nothing by it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from mmer_lib.errors import InputError
from mmer_lib.stats.tables import name_folds, need_columns

HISTORY = ("configuration", "fold", "seed", "epoch", "dev_accuracy", "test_accuracy")


def gather_histories(table: pd.DataFrame, read: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
    """The history of every run of ``table``, in its order; a column ``best_epoch`` is kept.

    ``read`` gives a run's epochs by its ``key``, as ``ResultStore.history`` does.
    """
    need_columns(table, ("key", "configuration", "fold", "seed"), "the table of runs")
    names = [name for name in ("configuration", "seed", "best_epoch") if name in table]
    about = table[names].assign(fold=name_folds(table)).reset_index(drop=True)
    parts = [
        read(key).assign(**{str(name): value for name, value in about.loc[i].items()})
        for i, key in enumerate(table["key"])
    ]
    return pd.concat(parts, ignore_index=True)


def select_epochs(histories: pd.DataFrame) -> pd.DataFrame:
    """Each run's test accuracy under three rules: a row a run, ready for ``summary``, ``compare``.

    Columns: ``configuration, fold, seed``; test accuracy ``chosen`` (the first epoch with the best
    development accuracy, or a column ``best_epoch``), ``last`` (no choice) and ``best`` (the best
    on test, a habit of several public systems); ``inflation`` = best - chosen; the epochs
    ``epoch_chosen``, ``epoch_last``, ``epoch_best``.

    Raises ``InputError`` for missing columns, accuracies that are missing or no shares, and epochs
    given twice.
    """
    need_columns(histories, HISTORY[:-1], "the table of epochs")
    if "test_accuracy" not in histories:
        raise InputError(
            "the histories have no test_accuracy: train with TrainConfig(score_test=True)"
        )
    _check_epochs(histories)
    ordered = histories.sort_values("epoch", kind="stable").reset_index(drop=True)
    runs = ordered.groupby(["configuration", "fold", "seed"], sort=False)
    picked = {
        "chosen": runs["dev_accuracy"].idxmax(),
        "last": runs["epoch"].idxmax(),
        "best": runs["test_accuracy"].idxmax(),
    }
    if "best_epoch" in ordered:
        kept = ordered[ordered["epoch"] == ordered["best_epoch"]]
        keys = ["configuration", "fold", "seed"]
        picked["chosen"] = kept.reset_index().set_index(keys)["index"].reindex(picked["last"].index)
        if picked["chosen"].isna().any():
            raise InputError("best_epoch names an epoch that its run's history does not have")
    found = pd.DataFrame(
        {name: ordered.loc[rows, "test_accuracy"].to_numpy() for name, rows in picked.items()},
        index=picked["last"].index,
    )
    found["inflation"] = found["best"] - found["chosen"]
    for name, rows in picked.items():
        found[f"epoch_{name}"] = ordered.loc[rows, "epoch"].to_numpy()
    return found.reset_index().sort_values(["configuration", "fold", "seed"], ignore_index=True)


def selection(histories: pd.DataFrame) -> pd.DataFrame:
    """``select_epochs`` by configuration: means over folds of seed means, a row each.

    Columns: ``configuration, chosen, last, best, inflation, largest_inflation`` (of a run),
    ``n_runs``, ``n_epochs`` (mean length of a run).
    """
    runs = select_epochs(histories)
    groups = runs.groupby("configuration", sort=False)
    scores = ["chosen", "last", "best", "inflation"]
    folds = runs.groupby(["configuration", "fold"], sort=False)[scores].mean()
    found = folds.groupby(level="configuration", sort=False).mean()
    found["largest_inflation"] = groups["inflation"].max()
    found["n_runs"] = groups.size()
    found["n_epochs"] = groups["epoch_last"].mean()
    order = histories["configuration"].drop_duplicates()
    return found.loc[order].reset_index()


def _check_epochs(histories: pd.DataFrame) -> None:
    for column in ("dev_accuracy", "test_accuracy"):
        values = histories[column].to_numpy(np.float64)
        wrong = ~((values >= 0) & (values <= 1))  # NaN is wrong too
        if wrong.any():
            first = histories.iloc[int(wrong.argmax())]
            raise InputError(
                f"{column} of {first['configuration']}, fold {first['fold']}, seed "
                f"{first['seed']}, epoch {first['epoch']} is {first[column]:g}: expected a share "
                f"in [0, 1] ({wrong.sum()} such epochs)"
            )
    if histories.duplicated(["configuration", "fold", "seed", "epoch"]).any():
        raise InputError("an epoch of a run is in the histories more than once: use one study")
