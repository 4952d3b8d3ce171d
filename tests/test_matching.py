"""Configurations of equal size, against counts of real models and a search of all widths."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from small import small_corpus
from torch import nn

from mmer_lib.corpora import Corpus, Ragged
from mmer_lib.errors import InputError
from mmer_lib.fusion import FUSIONS
from mmer_lib.matching import (
    CROSS,
    ZOO,
    budget_frame,
    cost_frame,
    fusion_parameters,
    matched,
)
from mmer_lib.model import Recognizer, parse_configuration

SMALL = "width=12,heads=3,hidden=5"
FREE = [name for name, kind in FUSIONS.items() if kind.resizable]
FIXED = [name for name, kind in FUSIONS.items() if not kind.resizable]


def numbers(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_is_counted_is_what_a_real_model_has(fusion):
    corpus = small_corpus()
    row = budget_frame(1_500, [f"{fusion}-AVT,{SMALL}"], corpus).iloc[0]
    model = Recognizer(parse_configuration(row["name"]).for_corpus(corpus))
    assert fusion_parameters(row["name"], corpus) == numbers(model.fusion)
    assert row["fusion_parameters"] == numbers(model.fusion)
    assert row["parameters"] == numbers(model)


def test_counting_draws_no_random_number():
    before = torch.get_rng_state()
    budget_frame(1_500, [f"{fusion}-AVT,{SMALL}" for fusion in FUSIONS])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("self-AVT", 174_240), ("cross-AVT", 348_480), ("cross-AT", 116_160), ("mean-AVT", 0),
     ("cross-AVT,inner=60", 6 * (3 * 60 * 121 + 120 * 61)),
     ("cross-AVT@released,query=uniform", 174_240)],
)  # fmt: skip
def test_published_sizes(name, parameters):
    assert fusion_parameters(name) == parameters


def test_the_classes_of_a_corpus_count_where_a_fusion_classifies():
    three = small_corpus()
    assert fusion_parameters("late-AVT") - fusion_parameters("late-AVT", three) == 3 * 4 * 61
    assert fusion_parameters("cross-AVT", three) == fusion_parameters("cross-AVT")


@pytest.mark.parametrize("fusion", FREE)
@pytest.mark.parametrize("budget", [1, 4_321])
def test_no_other_width_is_nearer_to_the_budget(fusion, budget):
    name = f"{fusion}-AVT,{SMALL}"
    counts = [fusion_parameters(f"{name},inner=3")]
    while counts[-1] < 2 * budget:  # wider ones are further away than nothing
        counts.append(fusion_parameters(f"{name},inner={3 * len(counts) + 3}"))
    assert counts == sorted(counts)  # what the search relies on
    found = fusion_parameters(matched(name, budget))
    nearest = min([fusion_parameters(name), *counts], key=lambda count: abs(count - budget))
    assert abs(found - budget) == abs(nearest - budget)


def test_a_width_worked_by_hand():
    # an attention has 3 I (12 + 1) + 12 (I + 1) numbers; three: 2,331 with I = 15, 2,790 with 18
    assert matched(f"self-AVT,{SMALL}", 2_500) == f"self-AVT,{SMALL},inner=15"
    assert matched(f"self-AVT,{SMALL}", 2_600) == f"self-AVT,{SMALL},inner=18"


@pytest.mark.parametrize("budget", [700, 1_001, 50_000])
def test_a_match_matches_itself(budget):
    once = matched(f"cross-AT,{SMALL}", budget)
    assert once.count("inner") == 1
    assert matched(once, budget) == once


@pytest.mark.parametrize("name", ["cross-AVT", "cross-AVT,inner=60", "cross-AVT, inner = 6"])
def test_the_fusions_own_width_needs_no_switch_where_it_fits(name):
    assert matched(name, CROSS) == "cross-AVT"


def test_everything_else_in_a_name_is_kept():
    name = "self-AVT-nosp@released,inner=12,masks=true,heads=4"
    assert matched(name, 174_240 // 2) == "self-AVT-nosp@released,masks=true,heads=4,inner=60"


@pytest.mark.parametrize("fusion", FIXED)
def test_without_a_free_width_a_name_is_returned_as_it_is(fusion):
    assert matched(f"{fusion}-AVT,width=24", 10_000) == f"{fusion}-AVT,width=24"


def test_the_table_has_every_fusion_with_its_measured_size_and_departure():
    frame = budget_frame(5_000, [f"{name},{SMALL}" for name in ZOO])
    assert list(frame) == ["name", "fusion_parameters", "parameters", "departure"]
    assert [name.split("-")[0] for name in frame["name"]] == list(FUSIONS)
    assert list(frame["fusion_parameters"]) == [fusion_parameters(n) for n in frame["name"]]
    expected = (frame["fusion_parameters"] / 5_000 - 1) * 100
    assert frame["departure"].tolist() == pytest.approx(expected.tolist())
    assert (frame["parameters"] > frame["fusion_parameters"]).all()


def test_the_default_budget_is_that_of_cross():
    frame = budget_frame(names=["cross-AVT", "self_x2-AVT", "self-AVT,inner=12"])
    assert frame["fusion_parameters"].tolist() == [348_480, 348_480, 348_120]
    assert frame["parameters"].iloc[0] == 885_127  # of the controlled model
    assert frame["departure"].iloc[0] == 0


def test_what_departs_by_more_can_be_left_out():
    names = ["self-AVT", "mean-AVT", "late-AVT", "cross-AVT"]
    assert budget_frame(names=names, within=6.5)["name"].tolist() == [
        "self-AVT,inner=240",
        "cross-AVT",
    ]
    nothing = budget_frame(names=["mean-AVT"], within=0)
    assert nothing.empty
    assert list(nothing) == list(budget_frame(names=names))


@pytest.mark.parametrize("budget", [0, -5, 2.5, "many", True, 10**10])
def test_a_budget_that_is_none_is_told(budget):
    with pytest.raises(InputError, match=r"parameters=.*: a whole number of 1 .. 1000000000"):
        matched("cross-AVT", budget)


@pytest.mark.parametrize("within", [-1, "near", float("nan")])
def test_a_departure_that_is_none_is_told(within):
    with pytest.raises(InputError, match=r"within=.*: a percentage of at least 0"):
        budget_frame(names=["cross-AVT"], within=within)


def test_a_wrong_name_is_told_as_everywhere():
    with pytest.raises(InputError, match="did you mean 'cross'"):
        matched("crss-AVT", CROSS)
    with pytest.raises(InputError, match="write one name as"):
        budget_frame(names="cross-AVT")


def test_the_cost_of_attention_is_its_matrix_products_counted_by_hand():
    """Self and cross of two modalities with B utterances of 4 and 6 frames, D = 12."""
    sequences = {m: [np.ones((n, 3), np.float32)] * 2 for m, n in (("audio", 4), ("text", 6))}
    table = pd.DataFrame({"id": ["a", "b"], "label": [0, 1]})
    features = {m: Ragged.from_list(x, 3) for m, x in sequences.items()}
    corpus = Corpus("even", ("x", "y"), table, features)
    sizes = ",width=12,heads=3,hidden=5"
    costs = cost_frame([f"{f}-AT{sizes}" for f in ("mean", "self", "cross")], corpus)
    mean, own, other = costs["megaflops"] * 1e6

    def attention(asks: int, read: int) -> int:
        frames = 2 * 12 * 12 * (asks + read)  # queries and keys
        weights = 2 * 12 * asks * read + 2 * 3 * asks * read  # scores, their mean over who asks
        return frames + weights + 2 * 3 * read * 12 + 2 * 2 * 12 * 12  # read, values, output

    assert own - mean == attention(4, 4) + attention(6, 6)
    assert other - mean == attention(4, 6) + attention(6, 4)
    assert costs["parameters"].tolist() == sorted(costs["parameters"])
    assert costs["fusion_parameters"].tolist() == [0, 2 * 4 * 12 * 13, 2 * 4 * 12 * 13]
