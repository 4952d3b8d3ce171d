"""Exponents are found again in tables made with them; operations are those counted by hand."""

from __future__ import annotations

import json
from math import isnan

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mmer_lib import plots
from mmer_lib.bench import Settings, bench_growth, bench_zoo
from mmer_lib.bench.flops import count_flops
from mmer_lib.bench.growth import Sizes, add_exponents, fit_exponent
from mmer_lib.bench.loads import Load
from mmer_lib.bench.steps import make_batch
from mmer_lib.cli import main
from mmer_lib.errors import InputError
from mmer_lib.model import Recognizer, parse_configuration
from mmer_lib.recurrence import torch_alone

SHORT = {"audio": 8, "video": 5, "text": 6}
TINY = Sizes((8, 16), (1, 2), ("A", "AV"), (2,), SHORT, 6, utterances=20, epochs=1)
ONCE = Settings(repeats=1, batch_size=2)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def be_quiet(text: str) -> None:
    pass


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.5, 2.0])
def test_the_exponent_of_a_power_is_found_exactly(exponent):
    sizes = [125, 250, 500, 1000, 2000]
    slope, error = fit_exponent(sizes, [3 * size**exponent for size in sizes])
    assert slope == pytest.approx(exponent, abs=1e-12)
    assert error == pytest.approx(0, abs=1e-7)


def test_only_the_upper_part_is_fitted():
    sizes = [10, 20, 40, 80, 160]
    values = [7.0, 7.0, 40.0**2, 80.0**2, 160.0**2]  # flat below a quarter of the largest
    assert fit_exponent(sizes, values)[0] == pytest.approx(2)


def test_the_standard_error_is_that_of_a_line_fitted_by_numpy():
    sizes, values = np.array([40.0, 60, 80, 120, 160]), np.array([2.0, 3.3, 3.9, 6.5, 7.6])
    (slope, _), covariance = np.polyfit(np.log(sizes), np.log(values), 1, cov=True)
    assert fit_exponent(sizes, values) == pytest.approx((slope, covariance[0, 0] ** 0.5))


def test_two_sizes_have_a_slope_without_error_and_one_has_none():
    slope, error = fit_exponent([2, 4], [1, 2])
    assert slope == pytest.approx(1)
    assert isnan(error)
    assert isnan(fit_exponent([2], [1])[0])


def test_every_series_has_its_own_exponent():
    table = grown()
    found = table.set_index(["grows", "fusion", "way"])["seconds_exponent"]
    assert found["audio", "self", "ours"].unique() == pytest.approx(1)
    assert found["audio", "cross", "plain"].unique() == pytest.approx(2)


def grown() -> pd.DataFrame:
    """Ours grows by 1, the plain way by 2, in every panel."""
    table = pd.DataFrame(
        [
            {"grows": grows, "size": size, "fusion": fusion, "way": way, "mb": 40 + size,
             "configuration": f"{fusion}-AVT", "seconds": 0.01 * size**power}
            for grows in ("audio", "batch", "modalities", "runs")
            for size in (1, 2, 4, 8)
            for fusion in ("self", "cross")
            for way, power in (("ours", 1), ("plain", 2))
        ]
    )  # fmt: skip
    return add_exponents(add_exponents(table, "seconds"), "mb")


def test_growth_has_a_row_a_size_of_every_series_with_time_above_zero():
    table = bench_growth(ONCE, be_quiet, TINY, memory=False)
    assert list(table.columns) == ["grows", "size", "fusion", "configuration", "way", "seconds",
                                   "seconds_exponent", "seconds_error"]  # fmt: skip
    assert (table["seconds"] > 0).all()
    counts = table.groupby("grows", sort=False).size().to_dict()
    assert counts == {"audio": 8, "batch": 8, "modalities": 6, "runs": 2}
    assert set(table.loc[table["size"] == 1, "configuration"]) == {
        "self-A", "self-AVT", "cross-AVT"}  # fmt: skip


def test_the_plain_way_is_left_out_where_its_weights_would_fill_the_memory():
    few = Sizes((8, 16), (), (), (), SHORT, most_weights=2 * 6 * 8 * 8)
    table = bench_growth(Settings(repeats=1, batch_size=8), be_quiet, few, memory=False)
    plain = table[table["way"] == "plain"]
    assert plain[["size", "fusion"]].values.tolist() == [[8, "self"], [8, "cross"]]


def test_memory_is_that_of_a_process_of_its_own_and_holds_the_weights_that_are_formed():
    weights = 2 * 6 * 512 * 512 * 4 / 1e6  # MB of float32
    assert weights < Load("self-A", 2, {"audio": 512}, "plain").megabytes() < 20 * weights


def test_both_ways_of_a_load_are_the_same_model():
    ours, plain = (Load("cross-AV", 2, SHORT, way).steps().model for way in ("ours", "plain"))
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in plain.parameters())
    assert next(plain.parameters()).dtype == next(ours.parameters()).dtype


def test_the_operations_of_a_model_without_attention_are_those_counted_by_hand():
    """B = 2: audio is projected (120 -> 12), text is not; GRUs of 6 units; a head of 24 -> 5 -> 7.

    Learning: weights once more; what a layer reads once more, if it has a gradient.
    """
    config = parse_configuration("mean-AT,width=12,heads=3,hidden=5")
    model = Recognizer(config)
    given = make_batch(config, 2)
    frames, words = 2 * 1000, 2 * 128
    front, head = 2 * 120 * 12 * frames, 2 * 2 * (24 * 5 + 5 * 7)
    gru = 2 * 2 * 18 * ((12 + 6) * frames + (300 + 6) * words)
    assert count_flops(model, given) == front + gru + head
    gradients = 2 * 2 * 18 * ((12 + 6) * frames + 6 * words)
    assert count_flops(model, given, learn=True) == 2 * front + 2 * gru + gradients + 3 * head


def test_the_formula_of_recurrent_layers_is_what_torchs_own_modules_do():
    ours = Load("mean-AT,width=12,heads=3,hidden=5", 2, SHORT).steps()
    with torch_alone(), FlopCounterMode(display=False) as counter:
        F.cross_entropy(ours.model.train()(ours.batch).logits, ours.batch.labels).backward()
    spared = 2 * 2 * 2 * (2 * 18 * 6)  # gradients of the state before the first step
    counted = count_flops(ours.model, ours.batch, learn=True)
    assert counted - spared == counter.get_total_flops()


def test_the_zoo_has_a_row_a_configuration_with_its_costs():
    names = ("mean-AVT", "cross-AVT")
    table = bench_zoo(ONCE, be_quiet, names, SHORT, memory=False)
    assert list(table.columns) == ["configuration", "fusion_parameters", "parameters", "megaflops",
                                   "train_megaflops", "train_ms", "eval_ms"]  # fmt: skip
    assert table["configuration"].tolist() == list(names)
    assert table["fusion_parameters"].tolist() == [0, 348_480]
    assert (table.drop(columns=["configuration", "fusion_parameters"]) > 0).all(axis=None)
    assert table["megaflops"].is_monotonic_increasing


def test_a_growth_figure_has_two_rows_and_names_the_exponents():
    figure = plots.growth(grown())
    assert len(figure.axes) == 8
    told = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert told[0] == "self, our way: 1.00 ± 0.00"
    assert told[1] == "self, torch's own modules: 2.00 ± 0.00"
    drawn = figure.axes[0].get_lines()[0]
    assert drawn.get_ydata() == pytest.approx([0.01, 0.02, 0.04, 0.08])
    assert to_hex(drawn.get_color()) == plots.FUSION_COLOURS["self"].lower()


def test_a_growth_figure_without_memory_has_one_row():
    table = grown().drop(columns=["mb", "mb_exponent", "mb_error"])
    assert len(plots.growth(table).axes) == 4


def priced() -> pd.DataFrame:
    return pd.DataFrame(
        {"configuration": ["cross-AVT", "mean-AVT", "self-AVT"], "train_ms": [3.0, 1.0, 2.0],
         "fusion_parameters": [348_480, 0, 174_240], "megaflops": [60.0, 40.0, 50.0]}
    )  # fmt: skip


def test_a_zoo_figure_puts_the_cheapest_to_train_above_and_marks_what_all_pay():
    figure = plots.zoo_cost(priced())
    parameters, _, train = figure.axes
    assert [tick.get_text() for tick in parameters.get_yticklabels()] == ["cross", "self", "mean"]
    assert [bar.get_width() for bar in train.patches] == [3, 2, 1]
    assert parameters.patches[0].get_width() == pytest.approx(348.48)
    assert list(train.get_lines()[0].get_xdata()) == [1, 1]


def test_tables_without_their_columns_are_refused():
    with pytest.raises(InputError, match="growth table without column seconds"):
        plots.growth(grown().drop(columns="seconds"))
    with pytest.raises(InputError, match="zoo table without column train_ms"):
        plots.zoo_cost(priced().drop(columns="train_ms"))


def test_a_file_in_place_of_the_folder_is_told_before_anything_is_measured(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["bench", "zoo", "--figures", str(tmp_path / "file")]) == 2
    assert "that is a file, a folder expected" in capsys.readouterr().err


def test_the_command_draws_the_parts_that_have_a_figure(tmp_path, monkeypatch, capsys):
    from mmer_lib import bench

    monkeypatch.setitem(bench.PARTS, "zoo", lambda settings, say: priced())
    monkeypatch.setitem(bench.PARTS, "growth", lambda settings, say: grown())
    asked = ["bench", "zoo", "growth", "--figures", str(tmp_path), "--json", str(tmp_path / "b")]
    assert main(asked) == 0
    assert {file.name for file in tmp_path.iterdir()} == {"zoo_cost.png", "growth.png", "b"}
    kept = pd.DataFrame(json.loads((tmp_path / "b").read_text())["growth"])
    assert len(plots.growth(kept).axes) == 8
    assert "zoo_cost.png" in capsys.readouterr().out
