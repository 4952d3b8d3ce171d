"""The experiments: which configurations a table holds, grids of corpora, summaries."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from small import SIZES

from mmer_lib import cli
from mmer_lib.corpora import load_corpus
from mmer_lib.errors import InputError
from mmer_lib.experiments import (
    FACTORS,
    TABLES,
    list_table,
    main_effects,
    read_summary,
    run_grid,
    track_grid,
    triangle,
    write_summary,
)
from mmer_lib.fusion import FUSIONS
from mmer_lib.matching import fusion_parameters
from mmer_lib.model import PAPER_GRID, parse_configuration
from mmer_lib.stats import compare, compare_groups
from mmer_lib.store import ResultStore
from mmer_lib.sweep import Plan
from mmer_lib.train import TrainConfig

QUICK = TrainConfig(epochs=1, batch_size=64)
FEW = {"utterances": 60, "classes": 3, "features": 4}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("letters", ["AVT", "AT", "VT"])
def test_every_name_of_a_table_is_a_configuration_of_these_modalities(table, letters):
    for name in list_table(table, letters):
        config = parse_configuration(name)
        own = "".join(m[0].upper() for m in config.modalities)
        assert set(own) <= set(letters)
        assert table == "A" or own == letters


def test_table_a_is_the_papers_grid():
    assert tuple(list_table("A")) == PAPER_GRID
    assert list_table("A", "AT") == ["self-A", "self-T", "self-AT", "cross-AT"]


def test_table_b_has_equal_parameters_at_each_depth():
    counts = [fusion_parameters(name) for name in list_table("B")]
    assert counts[:3] == [58_440] * 3
    assert len(set(counts[3:])) == 1


def test_table_c_is_near_the_parameters_of_cross_where_a_fusion_can_be():
    counts = {name: fusion_parameters(name) for name in list_table("C")}
    far = {name for name, n in counts.items() if abs(n / 348_480 - 1) > 0.0725}
    assert far == {"mean-AVT", "late-AVT"}
    fused = {parse_configuration(name).fusion for name in counts}
    assert set(FUSIONS) - fused == {"selfcross_tied", "joint_self", "joint_cross"}


def test_the_sizes_of_a_plan_decide_which_widths_match():
    sizes = {"width": 32, "heads": 4}
    budget = fusion_parameters("cross-AVT,width=32,heads=4")
    for name in list_table("C", sizes=sizes):
        assert "width" not in name
        if "inner" in name:
            assert abs(fusion_parameters(f"{name},width=32,heads=4") / budget - 1) < 0.15


def test_table_d_crosses_three_factors_and_table_e_three_queries():
    configs = [parse_configuration(name) for name in list_table("D")]
    cells = {(c.fusion, c.residual, c.pooling) for c in configs}
    assert len(cells) == len(configs) == 8
    assert len({fusion_parameters(name) for name in list_table("D")}) == 1
    asked = [(c.fusion, c.query) for c in map(parse_configuration, list_table("E"))]
    every = [(f, q) for f in ("self", "cross") for q in ("own", "uniform", "shuffled")]
    assert asked == [*every, ("mean", "own")]


@pytest.mark.parametrize(
    ("table", "letters", "told"),
    [("F", "AVT", "unknown table 'F'"), ("B", "A", "two modalities needed, not 'A'")],
)
def test_a_table_that_cannot_be_is_told(table, letters, told):
    with pytest.raises(InputError, match=told):
        list_table(table, letters)


def test_the_triangle_holds_every_pair_of_shares_that_fits():
    cells = triangle(4)
    assert len(cells) == 15
    assert all(c["cross_binding"] + c["self_binding"] <= 1 for c in cells)
    assert len({tuple(c.values()) for c in cells}) == 15


def test_a_grid_runs_every_cell_once_and_says_which(tmp_path):
    cells = [{**FEW, "cross_binding": 0.0}, {**FEW, "cross_binding": 1.0}]
    plan = Plan(load_corpus("synthetic", **FEW), ("self-AT", "cross-AT"), n_folds=2, seeds=1,
                train=QUICK, model=SIZES)  # fmt: skip
    store = ResultStore(tmp_path / "store")
    runs = run_grid(cells, plan, store)
    assert runs.groupby("cross_binding").size().to_dict() == {0.0: 4, 1.0: 4}
    assert runs["fingerprint"].nunique() == 2
    again = run_grid(cells, plan, store)
    assert again["key"].tolist() == runs["key"].tolist()
    assert len(store.to_frame()) == 8


def test_a_track_follows_the_runs_of_every_cell_with_its_options(tmp_path):
    cells = [{**FEW, "cross_binding": share} for share in (0.0, 1.0)]
    plan = Plan(load_corpus("synthetic", **FEW), ("cross-AT", "mean-AT"), n_folds=2, seeds=1,
                train=QUICK, model=SIZES)  # fmt: skip
    store = ResultStore(tmp_path / "store")
    runs = run_grid(cells, plan, store)
    found = track_grid("entropy", runs, cells, store)
    cross = runs[runs["configuration"] == "cross-AT"]  # means have no maps: left out
    assert dict(zip(found["key"], found["cross_binding"], strict=True)) == dict(
        zip(cross["key"], cross["cross_binding"], strict=True)
    )
    with pytest.raises(InputError, match="give the cells of the grid"):
        track_grid("entropy", runs, [{**FEW, "cross_binding": 0.5}], store)


def factorial_runs() -> pd.DataFrame:
    """Scores of table D: another asks: + .3; residual: + .1; both: + .1 more; by fold: + .01."""
    rows = []
    for name in list_table("D"):
        config = parse_configuration(name)
        other, residual = config.fusion == "cross", config.residual
        score = 0.2 + 0.3 * other + 0.1 * residual + 0.1 * (other and residual)
        rows += [(name, fold, 0, score + 0.01 * fold) for fold in range(3)]
    return pd.DataFrame(rows, columns=["configuration", "fold", "seed", "balanced_accuracy"])


def test_a_main_effect_is_the_mean_with_a_choice_less_that_without_it():
    levels = main_effects(factorial_runs().assign(regime="one"), ["regime"])
    means = levels.groupby(["factor", "configuration"])["balanced_accuracy"].mean().unstack()
    effects = (means["with"] - means["without"])[list(FACTORS)]
    np.testing.assert_allclose(effects, [0.35, 0.15, 0.0], atol=1e-12)
    assert len(levels) == 3 * 2 * 3  # factors, levels, folds


def test_main_effects_are_judged_as_one_family():
    noise = np.random.default_rng(0).normal(0, 0.01, 24)
    runs = factorial_runs()
    levels = main_effects(runs.assign(balanced_accuracy=runs["balanced_accuracy"] + noise))
    found = compare_groups(levels, [("with", "without")], "factor")
    assert found.set_index("factor")["verdict"].to_dict()["another modality asks"] == "different"
    assert (found["p_holm"] >= found["p_difference"]).all()


def test_a_factorial_that_lacks_a_cell_has_no_main_effects():
    runs = factorial_runs()
    with pytest.raises(InputError, match="expected the eight cells of table D"):
        main_effects(runs[runs["configuration"] != "cross-AVT"])


def test_a_summary_of_a_track_counts_runs_and_rows_apart_and_keeps_the_settings(tmp_path):
    plan = Plan(load_corpus("synthetic", **FEW), ("self-AT",), n_folds=2, seeds=3, train=QUICK)
    track = pd.DataFrame({
        "key": ["x", "x", "y"], "configuration": "self-AT", "fold": [0, 0, 1], "seed": 0,
        "share": [0.0, 0.5, 0.0], "balanced_accuracy": 0.5, "seconds": [2.0, 2.0, 3.0],
    })  # fmt: skip
    _, about = read_summary(write_summary(track, tmp_path / "x.csv", ["share"], "a command", plan))
    assert (about["runs"], about["rows"], about["seconds of training in all"]) == (2, 3, 5)
    assert about["settings"]["seeds"] == 3
    assert about["settings"]["train"]["epochs"] == QUICK.epochs


def test_a_summary_serves_comparisons_as_the_runs_do(tmp_path):
    plan = Plan(load_corpus("synthetic", **FEW), ("self-AT", "cross-AT"), n_folds=3, seeds=1,
                train=QUICK, model=SIZES)  # fmt: skip
    runs = run_grid([FEW], plan, ResultStore(tmp_path / "store"))
    file = write_summary(runs, tmp_path / "summaries" / "x.csv", list(FEW), "a command")
    kept, about = read_summary(file)
    assert about["made by"] == "a command"
    assert about["runs"] == len(runs) == len(kept)
    one, other = (compare(t, "cross-AT", "self-AT", "accuracy") for t in (runs, kept))
    assert np.isclose(one.difference, other.difference, atol=1e-6)
    assert one.verdict == other.verdict


def test_a_summary_without_its_record_is_refused(tmp_path):
    pd.DataFrame({"a": [1]}).to_csv(tmp_path / "x.csv")
    with pytest.raises(InputError, match=r"x\.json is missing"):
        read_summary(tmp_path / "x.csv")


def test_a_table_is_one_command(tmp_path, capsys):
    corpus = "synthetic,utterances=60,classes=3,features=4"
    sizes = ["--folds", "2", "--seeds", "1", "--epochs", "1", "--width", "8", "--heads", "2"]
    store = str(tmp_path / "store")
    assert cli.main(["sweep", corpus, "--table", "b", *sizes, "--store", store]) == 0
    assert "joint_cross-AVT,depth=2" in capsys.readouterr().out


def test_a_table_and_models_together_are_refused(capsys, tmp_path):
    given = ["sweep", "synthetic", "--table", "B", "--models", "self-A", "--store", str(tmp_path)]
    assert cli.main(given) == 2
    assert "name the configurations once" in capsys.readouterr().err
