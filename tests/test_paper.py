"""The published numbers hang together."""

from __future__ import annotations

import numpy as np
import pytest

from mmer_lib import metrics, paper


def test_the_grid_has_the_papers_fourteen_configurations_once_each() -> None:
    table = paper.published_table()
    assert tuple(table["configuration"]) == paper.CONFIGURATIONS
    assert len(set(paper.CONFIGURATIONS)) == 14
    assert set(table["fusion"]) == {"self", "cross", "selfcross"}


def test_grid_and_ablation_agree_where_both_publish_a_configuration() -> None:
    for name in paper._GRID.keys() & paper._ABLATION.keys():
        weighted, _, unweighted, _ = paper._ABLATION[name]
        assert paper._GRID[name] == pytest.approx((100 * weighted, 100 * unweighted))


def test_published_scores_are_shares_and_only_the_ablation_has_deviations() -> None:
    table = paper.published_table()
    scores = table[["paper_weighted", "paper_unweighted"]].to_numpy()
    assert ((scores > 0.3) & (scores < 0.7)).all()
    known = table["sd_weighted"].notna()
    np.testing.assert_array_equal(known, table["sd_unweighted"].notna())
    np.testing.assert_array_equal(known, table["source"] == paper.ABLATION)


def test_a_modality_alone_has_no_pooling_over_vectors() -> None:
    table = paper.published_table()
    alone = table["modalities"].str.len() == 1
    np.testing.assert_array_equal(alone, table["pooling"] == "none")
    nosp = table["configuration"].str.endswith("-nosp")
    np.testing.assert_array_equal(nosp, table["pooling"] == "concat")


def test_class_counts_add_up_to_the_published_number_of_utterances() -> None:
    counts = paper.class_counts()
    assert counts["utterances"].sum() == 7487
    assert counts["share"].sum() == pytest.approx(1)
    assert counts["emotion"].iloc[0] == "frustrated"


def test_majority_scores_equal_those_of_a_predictor_that_always_says_the_largest_class() -> None:
    labels = np.repeat(np.arange(7), list(paper.CLASS_COUNTS.values()))
    predicted = np.full(len(labels), np.bincount(labels).argmax())
    for name, value in paper.majority_scores().items():
        assert metrics.METRICS[name](labels, predicted, 7) == pytest.approx(value)


def test_reading_the_paper_as_released_code_swaps_its_two_columns() -> None:
    table = paper.published_table().set_index("configuration")
    released = metrics.read_table(table, "released code").loc["self-AVT"]
    literature = metrics.read_table(table, "literature").loc["self-AVT"]
    assert (released["balanced_accuracy"], released["accuracy"]) == (0.587, 0.642)
    assert (literature["accuracy"], literature["balanced_accuracy"]) == (0.587, 0.642)
    assert released["balanced_accuracy_sd"] == literature["accuracy_sd"] == 0.022


def test_earlier_systems_carry_both_scores_a_source_and_the_withdrawn_numbers() -> None:
    table = paper.earlier_systems()
    assert (table["accuracy"] > table["balanced_accuracy"]).all()
    assert (table["source"] != "").all()
    amh = table[table["system"] == "AMH"].iloc[0]
    assert (amh["accuracy"], amh["balanced_accuracy"]) == (0.617, 0.547)
    assert "precision" in amh["note"]


def test_the_papers_best_model_is_behind_the_best_earlier_one_or_ahead_by_the_reading() -> None:
    found = metrics.compare_readings(paper.published_table(), paper.earlier_systems())
    rows = found[(found["configuration"] == "self-AVT") & (found["system"] == "AMH")]
    plain = rows.set_index("metric").loc["accuracy"]
    assert (plain["literature"], plain["released_code"], plain["earlier"]) == (0.587, 0.642, 0.617)
    assert (plain["literature_says"], plain["released_code_says"]) == ("behind", "ahead")
    assert not rows.set_index("metric").loc["balanced_accuracy", "changes"]
    assert found.loc[found["changes"], "metric"].eq("accuracy").all()
