"""What choosing the epoch on the test part would have bought."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mmer_lib import stats
from mmer_lib.errors import InputError


def history(
    dev: list[float], test: list[float], name: str = "self-A", fold: int = 0, seed: int = 0
) -> pd.DataFrame:
    """The epochs of one run."""
    epochs = np.arange(1, len(dev) + 1)
    rows = {"epoch": epochs, "dev_accuracy": dev, "test_accuracy": test}
    return pd.DataFrame(rows).assign(configuration=name, fold=fold, seed=seed)


def worked() -> pd.DataFrame:
    """Three runs of one configuration on two folds, one of another, four or five epochs."""
    return pd.concat(
        [
            history([0.5, 0.7, 0.7, 0.6], [0.4, 0.5, 0.9, 0.6]),
            history([0.5, 0.6, 0.7, 0.9], [0.4, 0.6, 0.5, 0.6], seed=1),
            history([0.9, 0.1, 0.1, 0.1, 0.1], [0.2, 0.3, 0.4, 0.5, 0.3], fold=1),
            history([0.1, 0.2], [0.3, 0.2], name="cross-A"),
        ]
    )


def test_histories_are_gathered_run_by_run_with_their_names() -> None:
    table = pd.DataFrame(
        {"key": ["x", "y"], "configuration": ["a", "b"], "fold": [0, 1], "seed": [2, 3],
         "best_epoch": [2, 1]}
    )  # fmt: skip
    epochs = {key: pd.DataFrame({"epoch": [1, 2], "dev_accuracy": 0.5}) for key in "xy"}
    found = stats.gather_histories(table, epochs.__getitem__)
    assert list(found["configuration"]) == ["a", "a", "b", "b"]
    assert list(found["fold"]) == [0, 0, 1, 1]
    assert list(found["best_epoch"]) == [2, 2, 1, 1]


def test_three_rules_by_hand() -> None:
    found = stats.select_epochs(worked()).query("configuration == 'self-A'")
    assert list(found["chosen"]) == [0.5, 0.6, 0.2]  # the first of equally good epochs
    assert list(found["last"]) == [0.6, 0.6, 0.3]
    assert list(found["best"]) == [0.9, 0.6, 0.5]
    assert list(found["inflation"]) == pytest.approx([0.4, 0.0, 0.3])
    assert list(found["epoch_chosen"]) == [2, 4, 1]
    assert list(found["epoch_last"]) == [4, 4, 5]
    assert list(found["epoch_best"]) == [3, 2, 4]


def test_a_configuration_is_the_mean_over_folds_of_seed_means() -> None:
    found = stats.selection(worked()).set_index("configuration")
    assert list(found.index) == ["self-A", "cross-A"]
    assert found.loc["self-A", "chosen"] == pytest.approx(((0.5 + 0.6) / 2 + 0.2) / 2)
    assert found.loc["self-A", "inflation"] == pytest.approx((0.2 + 0.3) / 2)
    assert found.loc["self-A", "largest_inflation"] == pytest.approx(0.4)
    assert (found.loc["self-A", "n_runs"], found.loc["cross-A", "n_runs"]) == (3, 1)


def test_peeking_never_loses_and_row_order_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    table = pd.concat(
        history(list(rng.random(9)), list(rng.random(9)), fold=k, seed=s)
        for k in range(3) for s in range(3)
    )  # fmt: skip
    found = stats.select_epochs(table)
    assert (found["inflation"] >= 0).all()
    shuffled = stats.select_epochs(table.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(found, shuffled)


def test_the_epoch_that_was_kept_overrules_the_best_on_development() -> None:
    table = worked().query("configuration == 'self-A' and fold == 0 and seed == 0")
    found = stats.select_epochs(table.assign(best_epoch=3)).iloc[0]
    assert (found["chosen"], found["epoch_chosen"]) == (0.9, 3)
    with pytest.raises(InputError, match="does not have"):
        stats.select_epochs(table.assign(best_epoch=9))


def test_what_is_selected_is_a_table_of_runs_for_comparisons() -> None:
    rng = np.random.default_rng(1)
    table = pd.concat(
        history(list(rng.random(5)), list(rng.random(5)), name, k, s)
        for name in ("self-A", "cross-A") for k in range(4) for s in range(2)
    )  # fmt: skip
    runs = stats.select_epochs(table)
    honest = stats.compare(runs, "cross-A", "self-A", metric="chosen")
    assert (honest.n_folds, honest.n_seeds) == (4, 2)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (lambda: worked().drop(columns="test_accuracy"), r"TrainConfig\(score_test=True\)"),
        (lambda: worked().drop(columns="epoch"), "no column 'epoch'"),
        (lambda: worked().assign(test_accuracy=np.nan), "epoch 1 is nan"),
        (lambda: worked().assign(dev_accuracy=58.0), "is 58: expected a share"),
        (lambda: pd.concat([worked(), worked()]), "more than once"),
        (lambda: worked().iloc[:0], "is empty"),
    ],
)
def test_histories_that_tell_nothing_of_the_test_part_are_refused(
    table: object, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        stats.select_epochs(table())  # type: ignore[operator]
