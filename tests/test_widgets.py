"""The explorers without a browser: a control moves, the picture and what it says follow."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mmer_lib.stats import compare
from mmer_lib.widgets import verdict_explorer

PAIRS = [("cross-AT", "self-AT"), ("cross-AV", "self-AV")]


@pytest.fixture
def table() -> pd.DataFrame:
    """Five folds x two seeds; cross-AT is ten points ahead, cross-AV level."""
    rng = np.random.default_rng(0)
    gaps = {"self-AT": 0.0, "cross-AT": 0.1, "self-AV": 0.0, "cross-AV": 0.0}
    rows = [
        {"configuration": name, "fold": k, "seed": s, "accuracy": 0.6 + gap + rng.normal(0, 0.01)}
        for name, gap in gaps.items()
        for k in range(5)
        for s in range(2)
    ]
    return pd.DataFrame(rows)


def explorer(table):
    box = verdict_explorer(table, PAIRS, "accuracy")
    pair, margin, confidence, picture, said = box.children
    return pair, margin, confidence, picture, said


def test_it_opens_on_the_verdict_of_the_first_pair(table):
    *_, picture, said = explorer(table)
    verdict = compare(table, *PAIRS[0], "accuracy").verdict
    assert f'data-verdict="{verdict}"' in said.value
    assert bytes(picture.value).startswith(b"\x89PNG")


@pytest.mark.parametrize("margin", [0.5, 2.0, 10.0])
def test_the_margin_moves_the_verdict_as_compare_does(table, margin):
    pair, slider, _, picture, said = explorer(table)
    pair.value = PAIRS[1]
    before = picture.value
    slider.value = margin
    verdict = compare(table, *PAIRS[1], "accuracy", margin=margin / 100).verdict
    assert f'data-verdict="{verdict}" data-margin="{margin:.1f}"' in said.value
    assert picture.value != before


def test_the_confidence_reaches_the_sentence(table):
    _, _, confidence, _, said = explorer(table)
    confidence.value = 80.0
    assert "80 % interval" in said.value


def test_every_control_has_a_label_and_a_class_of_its_own(table):
    controls = explorer(table)[:3]
    assert all(control.description for control in controls)
    assert [c._dom_classes[-1] for c in controls] == ["e2e-pair", "e2e-margin", "e2e-confidence"]


def test_names_from_a_table_are_text_and_not_markup(table):
    table["configuration"] = table["configuration"].replace("cross-AT", "<b>cross-AT")
    *_, said = verdict_explorer(table, [("<b>cross-AT", "self-AT")], "accuracy").children
    assert "<b>" not in said.value
    assert "&lt;b&gt;cross-AT" in said.value
