"""What the usual tests say of a table, and refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from studies import A, B, simulate_table

from mmer_lib import stats
from mmer_lib.errors import InputError


def predictions_of(table: pd.DataFrame, n: int = 40) -> pd.DataFrame:
    """Two classes, n utterances a fold; each run is right on as many as its score says."""
    parts = []
    for i, run in enumerate(table.itertuples()):
        rng = np.random.default_rng([run.fold, run.seed, i])
        labels = np.random.default_rng(run.fold).integers(2, size=n)
        right = rng.random(n) < run.balanced_accuracy
        ids = [f"{run.fold}-{u}" for u in range(n)]
        shared = {"configuration": run.configuration, "fold": run.fold, "seed": run.seed}
        said = {"id": ids, "label": labels, "predicted": np.where(right, labels, 1 - labels)}
        parts.append(pd.DataFrame(shared | said | {"confidence": 0.7}))
    return pd.concat(parts, ignore_index=True)


def test_every_test_answers_beside_its_measured_rates() -> None:
    table = simulate_table(0)
    found = stats.habits(table, A, B, predictions=predictions_of(table))
    assert list(found["test"]) == list(stats.TESTS)
    assert set(found["says"]) <= {"different", "not significant"}
    assert (found["false_positives_low"] <= found["false_positives_high"]).all()
    assert found[["overlap_low", "overlap_high"]].notna().all(axis=None)
    assert list(found.loc[found["default"], "test"]) == [stats.DEFAULT]
    assert (found.loc[~found["default"], "flaw"] != "").all()
    alone = found.set_index("test").loc["paired t, all runs"]
    scores = table.pivot(index=["fold", "seed"], columns="configuration")["balanced_accuracy"]
    assert alone["p"] == pytest.approx(scipy_stats.ttest_rel(scores[A], scores[B]).pvalue)


def test_mcnemar_counts_the_utterances_that_only_one_side_got_right() -> None:
    table = simulate_table(0, folds=2, seeds=2)
    said = predictions_of(table).sample(frac=1, random_state=0)  # any order
    found = stats.habits(table, A, B, predictions=said).set_index("test")
    right = said.assign(right=said["label"] == said["predicted"])
    wide = right.pivot(index=["fold", "seed", "id"], columns="configuration", values="right")
    wins, losses = (wide[A] & ~wide[B]).sum(), (wide[B] & ~wide[A]).sum()
    expected = (wins - losses) ** 2 / (wins + losses)
    assert found.loc["McNemar, seeds pooled", "statistic"] == pytest.approx(expected)


def test_without_predictions_mcnemar_says_nothing_and_the_others_do() -> None:
    found = stats.habits(simulate_table(0), A, B).set_index("test")
    assert found.loc["McNemar, seeds pooled", "says"] == ""
    assert np.isnan(found.loc["McNemar, seeds pooled", "p"])
    assert (found.drop("McNemar, seeds pooled")["says"] != "").all()


def test_almost_stochastic_order_has_an_answer_and_no_p_value() -> None:
    found = stats.habits(simulate_table(0), A, B).set_index("test")
    row = found.loc["almost stochastic order, eps < .5"]
    assert np.isnan(row["p"])
    assert row["says"] == ("different" if row["statistic"] < 0.5 else "not significant")


def test_rates_may_be_measured_on_ones_own_design() -> None:
    table = simulate_table(0)
    rates = stats.calibrate(stats.Design(), n_studies=200).assign(scenario="mine")
    found = stats.habits(table, A, B, rates=rates).set_index("test")
    expected = rates.set_index("test")["false_positives"]
    pd.testing.assert_series_equal(found["false_positives_high"], expected, check_names=False)
    assert found["overlap_high"].isna().all()


def missing_run() -> pd.DataFrame:
    table = simulate_table(0)
    return table[(table["fold"] != 2) | (table["seed"] != 3)]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (missing_run, "every seed in every fold"),
        (lambda: simulate_table(folds=1), "1 fold"),
        (lambda: simulate_table().query("configuration != 'self-AVT' or fold != 2"),
         "self-AVT lacks fold 2 seed 0"),
    ],
)  # fmt: skip
def test_tables_the_usual_tests_cannot_read_are_refused(table: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        stats.habits(table(), A, B)  # type: ignore[operator]


def test_predictions_of_other_utterances_or_runs_are_refused() -> None:
    table = simulate_table(0, folds=2, seeds=2)
    said = predictions_of(table)
    with pytest.raises(InputError, match="same utterances"):
        stats.habits(table, A, B, predictions=said.iloc[1:])
    with pytest.raises(InputError, match="no column 'label'"):
        stats.habits(table, A, B, predictions=said.drop(columns="label"))
    with pytest.raises(InputError, match="of \\(1, 2\\) folds x seeds"):
        stats.habits(table, A, B, predictions=said[said["fold"] == 0])
    with pytest.raises(InputError, match="alpha=0"):
        stats.habits(table, A, B, alpha=0)
