"""The exercises: each check tells right from wrong and says why; an edition without solutions."""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from scipy import stats

from mmer_lib import cli, teaching
from mmer_lib.errors import InputError
from mmer_lib.pipeline import run_study
from mmer_lib.stats import compare
from mmer_lib.teaching.base import is_open
from mmer_lib.teaching.student import student_edition, write_student_edition

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))

WHO = np.array([*"aicdeh", *"bc", *"aaaaibfg"])  # who speaks in train, dev and test
FOLD = SimpleNamespace(train=np.arange(6), dev=np.array([6, 7]), test=np.arange(8, 16))
COUNTS = {"calm": 10, "angry": 60, "sad": 20, "glad": 10}
ROWS = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.1, 0.4]])
THREE = np.array([[1.0, 4.0], [3.0, 4.0], [8.0, 1.0]])
POOLED = [4.0, 3.0, math.sqrt(13), math.sqrt(3)]
DEV, TEST = [0.5, 0.62, 0.6, 0.62, 0.5], [0.4, 0.58, 0.65, 0.61, 0.55]
NAMES = ["self-A", "self-AT", "cross-AT", "cross-AV", "cross-AVT-nosp"]
ROW = np.array([0.05, 0.45, 0.30, 0.10, 0.10, 0, 0, 0])
GAPS = np.array(
    [[1.1, 1.6, 0.6], [-0.6, 0.0, -0.9], [1.4, 0.8, 1.7], [0.3, -0.3, 0.9], [0.7, 1.3, 0.4]]
)
TABLE = np.array([[90, 8, 2], [20, 28, 2], [6, 2, 2]])
OTHERS = [0.78, 0.74, 0.80, 0.71, 0.77]
CORPORA = pd.DataFrame(
    [(6, "different", "different"), (5, "different", "equivalent"),
     (-9, "different", "equivalent"), (1, "inconclusive", "inconclusive")],
    index=[*"abcd"], columns=["cross - self", "verdict", "verdict on the query"],
)  # fmt: skip
READING = {"a": "query pays", "b": "pays for another reason", "c": "self pays", "d": "not known"}
WEIGHTS = np.array([[[0.4, 0.4, 0.1, 0.1, 0, 0, 0, 0], [0.1, 0.1, 0.8, 0, 0, 0, 0, 0]],
                    [[0.3, 0.1, 0.6, 0, 0, 0, 0, 0], [0.5, 0.4, 0.1, 0, 0, 0, 0, 0]]])  # fmt: skip
SCORE = {("own", "sp"): 0.55, ("own", "concat"): 0.57, ("other", "sp"): 0.95,
         ("other", "concat"): 0.81}  # fmt: skip
LOST, LEFT = [0.0, 0.2, 0.8], [0.8, 0.7, 0.4]
FOLDS = pd.DataFrame({"x": [0.9, 0.1, 0.8], "y": [0.8, 0.6, 0.7], "z": [0.7, 0.5, 0.6]})
RANKS = {"x": 5 / 3, "y": 5 / 3, "z": 8 / 3}
CAMERA = ((0.86, 0.50), (0.80, 0.78))


def mean_of_real_frames(x, mask):
    weight = mask.unsqueeze(-1).to(x.dtype)
    return (x * weight).sum(dim=1) / weight.sum(dim=1)


def attend(q, k, v, mask, scale=None, axis=-1, padding=-math.inf):
    scores = q @ k.T / (scale or math.sqrt(q.shape[-1]))
    return scores.masked_fill(~mask, padding).softmax(dim=axis) @ v


def evenness(row, mask):
    some = row[row > 0]
    return -(some * np.log(some)).sum() / np.log(mask.sum())


def interval(values, factor, df=None, share=0.975):
    half = stats.t.ppf(share, df or len(values) - 1) * values.std(ddof=1) * math.sqrt(factor)
    return values.mean() - half, values.mean() + half


MEANS = GAPS.mean(axis=1)
LOW, HIGH = interval(MEANS, 1 / 5 + 1 / 4)
ERROR = MEANS.std(ddof=1) * math.sqrt(0.45)
P_LEFT, P_RIGHT = stats.t.sf((0.6 + 1) / ERROR, 4), stats.t.cdf((0.6 - 1) / ERROR, 4)
P_DIFFERENCE = 2 * stats.t.sf(0.6 / ERROR, 4)

# check -> (answers that are right, what it is asked about)
RIGHT = {
    "padding": ((4, 9, 16), 5, [8, 8, 6, 9], 16),
    "shared_speakers": (3, WHO, FOLD),
    "masked_mean": (mean_of_real_frames,),
    "chance": (0.6, 0.25, COUNTS),
    "attention": (attend,),
    "mixture": (ROWS.mean(dim=0), ROWS),
    "order": ("same", "permuted", "same"),
    "statistics": (POOLED, THREE),
    "attention_size": (58_080, 174_240, 348_480 / 1_820_132),
    "kept_epoch": (0.58, 0.07, DEV, TEST),
    "lookup": (["cross-AT", "cross-AVT-nosp"], NAMES),
    "lift": (0.75, 0.75 / 0.4, ROW, 5, [1, 2]),
    "evenness": (evenness,),
    "deletion": (0.31, "cannot tell", 0.80, 0.45, OTHERS),
    "interval": (LOW, HIGH, GAPS),
    "equivalence": (max(P_LEFT, P_RIGHT), "inconclusive", GAPS, 1.0),
    "two_accuracies": (0.75, 0.5533, 0.5533, TABLE),
    "controls": (READING, CORPORA),
    "own_mass": (0.575, 0.5, WEIGHTS),
    "main_effect": (0.32, -0.16, SCORE),
    "area": (0.6, 0.75, LOST, LEFT),
    "mean_ranks": (RANKS, FOLDS),
    "camera": (0.06 / 0.34, *CAMERA),
}
ANSWERS = dict.fromkeys(RIGHT, 1) | {
    "padding": 2, "chance": 2, "order": 3, "attention_size": 3, "kept_epoch": 2, "lift": 2,
    "deletion": 2, "interval": 2, "equivalence": 2, "two_accuracies": 3,
    "own_mass": 2, "main_effect": 2, "area": 2,
}  # fmt: skip
each_check = pytest.mark.parametrize("name", RIGHT)


def ask(name: str, *answers) -> str:
    """The line that a check says of ``answers``; those left out are right."""
    known = RIGHT[name]
    check = getattr(teaching, f"check_{name}")
    return repr(check(*answers, *known[len(answers) :]))


# -- what is right ---------------------------------------------------------------------------------


def test_every_check_of_the_package_is_tested_here():
    assert {f"check_{name}" for name in RIGHT} == {n for n in dir(teaching) if n[:6] == "check_"}


@each_check
def test_the_right_answer_is_right_and_told_why_in_one_line(name):
    said = ask(name)
    assert re.fullmatch(r"Right: .{20,}\.\)?", said)


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("padding", ([4, 9, 16], np.int64(5))),
        ("padding", (torch.zeros(4, 9, 16).shape, torch.tensor(5))),
        ("shared_speakers", (np.array([3.0]),)),
        ("masked_mean", (lambda x, m: torch.stack([x[i, m[i]].mean(0) for i in range(3)]),)),
        ("masked_mean", (lambda x, m: mean_of_real_frames(x, m).tolist(),)),
        ("chance", (0.6 + 1e-9, torch.tensor(0.25))),
        ("attention", (lambda q, k, v, m: attend(q, k[m], v[m], m[m]),)),
        ("attention", (lambda q, k, v, m: torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=m[None].expand(len(q), -1)),)),
        ("mixture", (ROWS.mean(dim=0).numpy(),)),
        ("mixture", (pd.Series([0.6, 0.15, 0.25]),)),
        ("mixture", (ROWS.clone().requires_grad_().mean(dim=0),)),
        ("order", (" Same", "PERMUTED", "same")),
        ("statistics", ([POOLED],)),
        ("statistics", (np.round(POOLED, 3),)),
        ("attention_size", (58_080.0, np.int32(174_240), 0.1915)),
        ("kept_epoch", (np.float32(0.58), 0.07)),
        ("lookup", ({"cross-AVT-nosp", "cross-AT"},)),
        ("lookup", (np.array(["cross-AT", "cross-AVT-nosp"]),)),
        ("lift", (np.array(0.75), 1.88)),
        ("evenness", (lambda r, m: -(r[r > 0] * r[r > 0].log()).sum() / m.sum().log(),)),
        ("evenness", (lambda r, m: -(r[r > 0] * np.log2(r[r > 0])).sum() / np.log2(m.sum()),)),
        ("interval", (round(LOW, 3), round(HIGH, 3))),
        ("two_accuracies", (0.75, torch.tensor(0.55333), 0.5533)),
        ("controls", ({name: told.upper() for name, told in READING.items()},)),
        ("own_mass", (torch.tensor(WEIGHTS)[..., :2].sum(-1).mean(), 1 / 2)),
        ("mean_ranks", (FOLDS.rank(axis=1, ascending=False).mean(),)),
        ("mean_ranks", ({"z": 2.67, "y": 1.67, "x": np.float32(5 / 3)},)),
        ("camera", (0.176,)),
    ],
)  # fmt: skip
def test_an_equal_answer_in_another_dress_is_right_too(name, answers):
    assert ask(name, *answers).startswith("Right: ")


def test_the_interval_that_is_right_is_that_of_the_library():
    """By runs whose differences are the gaps, on folds of equal size."""
    rows = [
        {"configuration": c, "fold": f, "seed": s, "balanced_accuracy": 0.5 + sign * gap / 100,
         "n_train": 350, "n_dev": 50, "n_test": 100}
        for (f, s), gap in np.ndenumerate(GAPS)
        for c, sign in (("a", 1), ("b", 0))
    ]  # fmt: skip
    found = compare(pd.DataFrame(rows), "a", "b")
    said = ask("interval", 100 * found.low, 100 * found.high)
    assert said.startswith("Right: ")
    assert ask("equivalence", found.p_equivalence).startswith("Right: ")


# -- what is wrong, by name ------------------------------------------------------------------------

WRONG = {
    "padding": [
        (((4, 16, 9),), "time comes second"),
        (((9, 4, 16),), "batch comes first"),
        (((4, 9),), "the shape of the mask"),
        (((4, 31, 16),), "T is not the sum"),
        (((4, 6, 16),), "cut frames off"),
        (((4, 9, 16), 31), "counts the real frames"),
        (((4, 9, 16), 80), "padded numbers"),
        (((4, 9, 16), 3), "what the shortest sequence lacks"),
        (((4, 9, 16), 36), "all frames of the batch"),
    ],
    "shared_speakers": [
        ((2,), "leaves out dev"),
        ((1,), "leaves out train"),
        ((6,), "each speaker once"),
        ((4,), "never tested"),
        ((0,), "turn rows into speakers"),
        ((9,), "every speaker of the fold"),
        ((5,), "every speaker of the test part"),
    ],
    "masked_mean": [
        ((lambda x, m: x.mean(dim=1),), "mean over padding"),
        ((lambda x, m: (x * m.unsqueeze(-1)).mean(dim=1),), "still counted"),
        ((lambda x, m: (x * m.unsqueeze(-1)).sum(dim=1),), "divide it by their number"),
        ((lambda x, m: x.mean(dim=2),), "averages over features"),
        ((lambda x, m: x.mean(dim=0),), "averages over the batch"),
        ((lambda x, m: mean_of_real_frames(x, ~m),), "wrong way round"),
        ((lambda x, m: x[m].mean(dim=0).expand(3, -1),), "keep utterances apart"),
        ((lambda x, m: (x * m.unsqueeze(-1)).sum(dim=1) / m.sum(),), "counts each alone"),
        ((lambda x, m: x[~m].zero_() if x.mul_(m.unsqueeze(-1)) is None else x.sum(1),), "changes"),
        ((lambda x, m: mean_of_real_frames(x, m)[:2],), "an array of shape (2, 2) instead of"),
    ],
    "chance": [
        ((0.25,), "guessing evenly"),
        ((0.42,), "guessing by the shares"),
        ((60,), "That is a count"),
        ((0.6, 0.6), "plain accuracy again"),
        ((0.6, 1.0), "largest class alone"),
        ((0.6, 0.0), "always found"),
        ((0.6, 25), "in percent"),
        ((0.6, 0.15), "is 1, not its share"),
        ((0.59, 0.25), "rounded too far"),
        ((0.006, 0.25), "a hundredth of"),
    ],
    "attention": [
        ((lambda q, k, v, m: attend(q, k, v, m, axis=0),), "over the queries"),
        ((lambda q, k, v, m: attend(q, k, v, m, scale=1.0, axis=0),), "and the scale is forgotten"),
        ((lambda q, k, v, m: attend(q, k, v, m, scale=1.0),), "The scale is forgotten"),
        ((lambda q, k, v, m: attend(q, k, v, m, scale=4.0),), "Divided by D"),
        ((lambda q, k, v, m: attend(q, k, v, m, scale=0.5),), "Multiplied by sqrt(D)"),
        ((lambda q, k, v, m: attend(q, k, v, m, scale=math.sqrt(5)),), "number of frames"),
        ((lambda q, k, v, m: attend(q, k, v, m) / 2,), "The weights are scaled"),
        ((lambda q, k, v, m: q @ k.T / 2 @ v,), "no softmax"),
        ((lambda q, k, v, m: attend(q, k, torch.eye(5), m),), "Those are the weights"),
        ((lambda q, k, v, m: attend(q, k, k, m),), "The keys are mixed"),
        ((lambda q, k, v, m: attend(q, k, v, m | True),), "mask is not used"),
        ((lambda q, k, v, m: ((q @ k.T / 2).softmax(1) * m) @ v,), "after the softmax"),
        ((lambda q, k, v, m: attend(q, k, v, m, padding=0.0),), "exp(0) is 1"),
        (
            (lambda q, k, v, m: attend(q, k, v, m if m.all() else ~m),),
            "wrong way round",
        ),
        ((lambda q, k, v, m: attend(q, k, v, ~m),), "wrong way round"),
        ((lambda q, k, v, m: (0 * q @ k.T).log().softmax(1) @ v,), "NaN"),
        ((lambda q, k, v, m: v.mean(dim=0).expand(3, -1),), "uniform attention"),
        (
            (lambda q, k, v, m: attend(q, k * m[:, None], v * m[:, None], m | True),),
            "yet it takes weight",
        ),
    ],
    "mixture": [
        ((ROWS.mean(dim=1),), "averages over the source"),
        ((ROWS.sum(dim=1),), "adds up a row"),
        ((ROWS.sum(dim=0),), "divided by Tq"),
        ((ROWS.prod(dim=0),), "not multiplied"),
        ((ROWS[-1],), "last query alone"),
        ((ROWS[0],), "first query alone"),
        ((ROWS.max(dim=0).values,), "largest weight"),
        ((torch.full((3,), 1 / 3),), "uniform attention"),
    ],
    "order": [
        (("permuted",), "takes its value along"),
        (("same", "same"), "answered alone"),
        (("same", "permuted", "permuted"), "then they are averaged"),
    ],
    "statistics": [
        (([*POOLED[2:], *POOLED[:2]],), "the order of the released code"),
        (([4, 3, *THREE.std(axis=0)],), "divides by n - 1"),
        (([4, 3, 13, 3],), "variance: take its root"),
        (([4, 3, *THREE.var(axis=0)],), "variance over n"),
        (([*THREE.std(axis=0), 4, 3],), "Deviation first"),
        (([*THREE.mean(axis=1), *THREE.std(axis=1, ddof=1)],), "pools within each vector"),
        (([4, 3],), "mean alone"),
        ((THREE.ravel(),), "concatenation"),
        (([POOLED[:2], POOLED[2:]],), "in two rows"),
    ],
    "attention_size": [
        ((57_600,), "biases are missing"),
        ((43_560,), "output has a map of its own"),
        ((43_200,), "output's map and the biases"),
        ((348_480,), "Heads share the width"),
        ((9_680,), "do not divide by H"),
        ((14_520,), "one of the four"),
        ((58_080, 348_480), "self-AVT has attentions, too"),
        ((58_080, 116_160), "of how many"),
        ((58_080, 58_080), "how many pairs"),
        ((58_080, 522_720), "Nobody asks themselves"),
        ((58_080, 3), "how many parameters"),
        ((58_080, 0), "ordered pair"),
        ((58_080, 174_240, 0.0957), "surplus"),
        ((58_080, 174_240, 0.2117), "self-AVT's"),
        ((58_080, 174_240, 0.2368), "whole model"),
        ((58_080, 174_240, 19.15), "in percent"),
    ],
    "kept_epoch": [
        ((0.62,), "development score"),
        ((0.65,), "no say"),
        ((0.61,), "A tie"),
        ((0.55,), "last epoch"),
        ((np.mean(TEST),), "one epoch is kept"),
        ((0.58, 0.65), "by how much"),
        ((0.58, 0.03), "Compare test with test"),
        ((0.58, 0.04), "dev against test"),
        ((0.58, 0.10), "not with the last"),
        ((0.58, 0.0), "best on dev"),
        ((0.58, -0.07), "wrong sign"),
    ],
    "lookup": [
        ((["self-AT", "cross-AT", "cross-AVT-nosp"],), "audio alone has chosen"),
        ((["cross-AT", "cross-AV", "cross-AVT-nosp"],), "one of them is not there"),
        ((["cross-AT"],), "cross-AVT-nosp is missing"),
        (([],), "cross-AT is missing"),
        ((["cros-AT"],), "did you mean 'cross-AT'"),
    ],
    "lift": [
        ((0.375,), "mass is their sum"),
        ((0.45,), "its largest frame"),
        ((0.25,), "elsewhere"),
        ((0.75, 3.0), "over the padded row"),
        ((0.75, 3.75), "for one frame"),
        ((0.75, 0.35), "a difference"),
        ((0.75, 0.4), "divide the mass by it"),
        ((0.75, 0.4 / 0.75), "Upside down"),
        ((0.75, 0.75), "That is the mass"),
    ],
    "evenness": [
        ((lambda r, m: evenness(r, m) * np.log2(m.sum()),), "in bits"),
        ((lambda r, m: evenness(r, m) * np.log(m.sum()),), "divide by log of the number"),
        ((lambda r, m: -evenness(r, m),), "The sign"),
        ((lambda r, m: evenness(r, m) * np.log2(m.sum()) / m.sum(),), "by its logarithm"),
        ((lambda r, m: evenness(r, m) * np.log(2),), "Two bases"),
        ((lambda r, m: evenness(r, m) / np.log(2),), "Two bases"),
        ((lambda r, m: 1 - evenness(r, m),), "should give 1"),
        ((lambda r, m: -(r * np.log(r)).sum() / np.log(m.sum()),), "0 log 0"),
        ((lambda r, m: -(r * r.log()).sum() / m.sum().log(),), "0 log 0"),
        ((lambda r, m: evenness(r, np.ones(len(r))),), "padded length"),
        ((lambda r, m: evenness(r, r > 0),), "frames with weight"),
        ((lambda r, m: math.nan,), "no answer for a plain row"),
    ],
    "deletion": [
        ((0.35,), "the whole drop"),
        ((0.04,), "by chance"),
        ((0.26,), "worst draw"),
        ((0.35 / 0.04,), "A ratio"),
        ((0.45,), "a probability"),
        ((-0.31,), "wrong sign"),
        ((0.31, "wrong place"), "no cut of one of them hurts"),
        ((0.31, "explains"), "no more than"),
        ((0.31, "yes"), "unknown word 'yes'"),
    ],
    "interval": [
        (interval(GAPS.ravel(), 1 / 15), "Runs are taken for replicates"),
        (interval(GAPS.ravel(), 0.45), "spread is that of runs"),
        (interval(MEANS, 1 / 5), "training parts overlap"),
        (interval(MEANS, 1 / 4), "two parts"),
        (interval(MEANS, 0.45, df=1e9), "1.96"),
        (interval(MEANS, 0.45, df=5), "not K"),
        (interval(MEANS, 0.45, share=0.95), "90 % interval"),
        (interval(MEANS, 1.0), "spread of folds"),
        (interval(MEANS, 0.45**2), "under the root"),
        (interval(MEANS, 0.45 * 4 / 5), "ddof=1"),
        ((HIGH, LOW), "low is above high"),
    ],
    "equivalence": [
        ((P_DIFFERENCE,), "test of a difference"),
        ((min(P_LEFT, P_RIGHT),), "the easier"),
        ((P_LEFT + P_RIGHT,), "added"),
        ((2 * P_RIGHT,), "one-sided"),
        ((1 - P_RIGHT,), "other tail"),
        ((stats.t.cdf(-0.4 / (ERROR * 2 / 3), 4),), "Not corrected"),
        ((P_RIGHT, "equivalent"), "Not significant is not the same"),
        ((P_RIGHT, "different"), "the test of a difference has p = 0.2"),
        ((P_RIGHT, "different but within the margin"), "the test of a difference has p"),
        ((P_RIGHT, "inconclusiv"), "did you mean 'inconclusive'"),
    ],
    "two_accuracies": [
        ((0.5533,), "Swapped"),
        ((0.6155,), "mean precision"),
        ((120,), "a count"),
        ((0.75, 0.75), "plain accuracy again"),
        ((0.75, 0.6155), "by column"),
        ((0.75, 0.5533, 0.75), "swapped"),
    ],
    "controls": [
        ((READING | {"d": "query pays"},), "d: a verdict that is inconclusive says nothing"),
        ((READING | {"d": "pays for another reason"},), "whatever the size of the difference"),
        ((READING | {"b": "query pays"},), "b: cross-attention is ahead, but look at the second"),
        ((READING | {"c": "pays for another reason"},), "c: the first column comes first"),
        ((READING | {"c": "query pays"},), "here self-attention is ahead"),
        ((READING | {"a": "pays for another reason"},), "a: cross-attention is ahead, and a"),
        (({"a": "query pays"},), "no answer for b"),
        ((READING | {"a": "query"},), "unknown word 'query'"),
    ],
    "own_mass": [
        ((0.2875,), "mass is their sum"),
        ((1.15,), "added up: average"),
        ((2.3,), "Heads and queries are added up"),
        ((0.5,), "head 1 alone"),
        ((0.65,), "head 2 alone"),
        ((0.425,), "the other block"),
        ((57.5,), "in percent"),
        ((0.575, 2 / 8), "its share of the frames"),
        ((0.575, 1 / 8), "one frame"),
        ((0.575, 0.575), "what the weights say"),
    ],
    "main_effect": [
        ((0.40,), "with sp alone"),
        ((0.24,), "with concat alone"),
        ((0.64,), "added: a main effect is their mean"),
        ((-0.06,), "the effect of pooling"),
        ((-0.32,), "The wrong way round"),
        ((0.32, 0.16), "The wrong way round"),
        ((0.32, -0.08), "Halved: here"),
        ((0.32, 0.08), "Halved, and the wrong way round"),
        ((0.32, -0.06), "how does it change"),
    ],
    "area": [
        ((np.mean(LEFT),), "the mean of the points"),
        ((0.48,), "Not divided by the width"),
        ((0.65,), "taken as equal"),
        ((0.725,), "from the left"),
        ((0.475,), "from the right"),
        ((0.6, 0.5), "the last score over the first"),
        ((0.6, 0.6), "That is the area"),
        ((0.6, 0.8 / 0.6), "Upside down"),
        ((0.6, 0.25), "the share that is lost"),
    ],
    "mean_ranks": [
        (({"x": 7 / 3, "y": 7 / 3, "z": 4 / 3},), "1 was given to the worst"),
        (({"x": 2.5, "y": 1, "z": 2.5},), "ranks of the mean scores"),
        (({"x": 2, "y": 1, "z": 2},), "ranks of the mean scores"),
        (({"x": 5, "y": 5, "z": 8},), "sums of ranks"),
        (({"x": 1, "y": 2, "z": 3},), "medians"),
        (({"x": 0.6, "y": 0.7, "z": 0.6},), "mean scores: rank them"),
        (({"x": 5 / 3, "y": 5 / 3},), "no answer for z"),
    ],
    "camera": [
        ((0.28 / 0.34,), "the share with a video"),
        ((0.06 / 0.28,), "of odds"),
        ((0,), "Only the second score"),
        ((1,), "Only the first score"),
        ((0.06,), "what p is ahead by"),
        ((0.28,), "what q is ahead by"),
        ((0.5,), "not equal"),
    ],
}


@pytest.mark.parametrize(
    ("name", "answers", "reason"),
    [(name, answers, reason) for name, cases in WRONG.items() for answers, reason in cases],
)
def test_a_usual_wrong_answer_is_told_what_is_wrong_with_it(name, answers, reason):
    said = ask(name, *answers)
    assert said.startswith("Not yet: ")
    assert reason in said
    assert "\n" not in said


def test_a_mistake_that_cannot_be_told_from_the_right_answer_here_is_no_mistake():
    """All speakers of the test part are known: counting them is right."""
    fold = SimpleNamespace(train=FOLD.train, dev=FOLD.dev, test=FOLD.test[3:6])
    assert teaching.check_shared_speakers(3, WHO, fold).right


def test_a_verdict_follows_from_both_tests():
    """Gaps as small as these are equivalent, at a margin that is wide enough."""
    verdicts = {
        1.0: "inconclusive", 3.0: "equivalent"
    }  # fmt: skip
    for margin, verdict in verdicts.items():
        p = stats.t.cdf((0.6 - margin) / ERROR, 4)
        assert teaching.check_equivalence(p, verdict, GAPS, margin).right
    shifted = GAPS + 5
    p = stats.t.cdf((5.6 - 9) / ERROR, 4)
    verdict = "different but within the margin"
    assert teaching.check_equivalence(p, verdict, shifted, 9.0).right
    assert not teaching.check_equivalence(p, "different", shifted, 9.0).right


@pytest.mark.parametrize(
    ("padding", "said"), [(-math.inf, "no answer (NaN)"), (-1e9, "still reads padding")]
)
def test_an_attention_that_is_right_hears_what_it_does_where_nothing_is_real(padding, said):
    answer = ask("attention", lambda q, k, v, m: attend(q, k, v, m, padding=padding))
    assert answer.startswith("Right: ")
    assert said in answer
    guarded = ask("attention", lambda q, k, v, m: torch.nan_to_num(attend(q, k, v, m)))
    assert "gives zeros" in guarded


# -- no answer, and rubbish ------------------------------------------------------------------------


@each_check
def test_an_open_answer_is_asked_for_whichever_of_several_it_is(name):
    for place in range(ANSWERS[name]):
        answers = [*RIGHT[name][:place], ...]
        assert ask(name, *answers) == "Your turn: replace the ... above."
    assert ask(name, [..., 1.0]) == "Your turn: replace the ... above."


def stub_with_a_docstring(x, mask):
    """Frames and mask -> means."""
    ...


def test_a_function_is_open_while_its_body_is_and_no_longer_when_it_reads_anything():
    assert is_open(stub_with_a_docstring)
    assert is_open(lambda x, mask: ...)
    assert not is_open(mean_of_real_frames)
    assert not is_open(lambda x, mask: x)
    assert not is_open(lambda: 5.5)
    assert ask("masked_mean", stub_with_a_docstring).startswith("Your turn")


@each_check
@pytest.mark.parametrize(
    "rubbish",
    [None, "text", math.nan, math.inf, True, [], [[1.0], [2.0, 3.0]], np.zeros((2, 0)), {"a": 1},
     object(), 12345.678, np.array(["a"]),
     lambda *a: a and None, lambda *a: 1 / 0, lambda *a: "text"],
    ids=lambda r: f"{type(r).__name__}-{str(r)[:8]}" if not callable(r) else "function",
)  # fmt: skip
def test_rubbish_is_told_in_one_line_and_never_ends_in_a_traceback(name, rubbish):
    for place in range(ANSWERS[name]):
        said = ask(name, *RIGHT[name][:place], rubbish)
        assert re.fullmatch(r"Not yet: .{15,}", said), said


def test_what_a_function_raises_is_told():
    said = ask("masked_mean", lambda x, mask: x @ mask)
    assert said.startswith("Not yet: your function ends in RuntimeError: ")
    assert "takes 1 positional argument" in ask("attention", lambda q: q)


def test_a_function_that_forgets_to_return_is_told_so():
    def forgets(x, mask):
        x.mean(dim=1)

    assert "`return ...`" in ask("masked_mean", forgets)


def test_an_answer_is_not_changed_by_its_check():
    share = ROWS.mean(dim=0)
    before = share.clone()
    ask("mixture", share)
    assert share.equal(before)


# -- the student edition ---------------------------------------------------------------------------

SOLUTION = '''from math import sqrt

import numpy as np
helper = [n for n in range(3)]
low, high = helper[0], sqrt(4)
for step in helper:
    total = step
def double(x, times=2):
    """Twice x."""
    inside = x * times
    return inside
def unused(x):
    return x
'''
CHECK = "assert low is ... or low == 0\nprint(low, high, total, np.pi, double(1))"


def made_up(*cells) -> nbformat.NotebookNode:
    """A notebook with a title, a parameters cell, and ``cells`` of (source, tag)."""
    node = new_notebook(metadata={"mmer": {"code": "abc"}})
    node.cells.append(new_markdown_cell("# 01 · A question?"))
    told = 'seed: int = 1  # of chance\nstore: str = "../runs/store"  # where runs are'
    for n, (source, tag) in enumerate([(told, "parameters"), *cells], start=1):
        cell = new_code_cell(source, metadata={"tags": [tag]} if tag else {}, execution_count=n)
        cell.outputs = [new_output("stream", text="out\n")]
        node.cells.append(cell)
    for n, cell in enumerate(node.cells):
        cell.id = f"01-{n:02}"
    return node


@pytest.fixture
def source(tmp_path) -> Path:
    """A folder with one notebook with an exercise, a summary, a page and a file of no use."""
    folder = tmp_path / "notebooks"
    (folder / "summaries").mkdir(parents=True)
    (folder / "summaries" / "zoo.csv").write_text("a\n1\n")
    (folder / "glossary.md").write_text("# Words\n")
    (folder / "notes.txt").write_text("mine")
    node = made_up(("before = 1", ""), (SOLUTION, "solution"), (CHECK, "check"), ("before", ""))
    nbformat.write(node, folder / "01_data.ipynb")
    return folder


def test_a_solution_becomes_a_stub_of_the_names_that_are_used_later():
    node = made_up((SOLUTION, "solution"), (CHECK, "check"))
    assert student_edition(node).cells[2].source == (
        "# Your answer.\nimport numpy as np\nlow = ...\nhigh = ...\ntotal = ...\n\n\n"
        'def double(x, times=2):\n    """Twice x."""\n    ...'
    )


def test_names_that_only_another_solution_uses_are_left_to_the_student():
    node = made_up(("a = 1\nb = 2", "solution"), ("c = a", "solution"), ("print(b, c)", "check"))
    cells = student_edition(node).cells
    assert [c.source for c in cells[2:4]] == ["# Your answer.\nb = ...", "# Your answer.\nc = ..."]


def test_outputs_are_cleared_from_the_first_solution_on_and_all_else_stays():
    node = made_up(("before = 1", ""), ("a = 1", "solution"), ("print(a)", "check"))
    edition = student_edition(node)
    assert [len(c.outputs) for c in edition.cells[1:]] == [1, 1, 0, 0]
    assert [c.execution_count for c in edition.cells[1:]] == [1, 2, None, None]
    assert edition.cells[2] == node.cells[2]
    assert edition.cells[4].source == node.cells[4].source
    assert node.cells[3].source == "a = 1", "the full edition is left as it is"
    assert "mmer" not in edition.metadata


def test_a_cell_that_is_no_python_is_refused_by_its_number():
    with pytest.raises(InputError, match=r"01_data, cell 2 is no plain Python: .*line 1"):
        student_edition(made_up(("%matplotlib inline", "")), "01_data")


def test_an_edition_holds_all_that_the_notebooks_need(source, tmp_path):
    made = write_student_edition(source, tmp_path / "deep" / "course")
    names = sorted(p.name for p in (tmp_path / "deep" / "course").iterdir())
    assert names == ["01_data.ipynb", "glossary.md", "summaries"]
    assert (made[0].parent / "summaries" / "zoo.csv").read_text() == "a\n1\n"
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["course"]
    assert '"runs/store"' in nbformat.read(made[0], as_version=4).cells[1].source


def test_an_edition_runs_from_top_to_end_while_nothing_is_answered(source, tmp_path):
    folder = tmp_path / "course"
    write_student_edition(source, folder)
    (executed,) = run_study(
        notebooks=folder, out=tmp_path / "run", say=lambda *a, **k: None
    ).executed
    (checked,) = tagged(executed, "check")
    assert "Ellipsis Ellipsis Ellipsis" in said_by(checked)


@pytest.mark.parametrize("there", ["full", "file", "link", "source"])
def test_a_place_that_is_taken_is_refused_and_left_alone(source, tmp_path, there, capsys):
    dest = source if there == "source" else tmp_path / there
    if there == "full":
        dest.mkdir()
        (dest / "mine.txt").write_text("mine")
    elif there == "file":
        dest.write_text("mine")
    elif there == "link":
        dest.symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["notebooks", "--student", str(dest), "--source", str(source)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is not empty" in line if dest.is_dir() else "is no folder" in line
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_is_filled_and_the_next_step_is_told(source, tmp_path, capsys):
    dest = tmp_path / "course"
    dest.mkdir()
    assert cli.main(["notebooks", "--student", str(dest), "--source", str(source)]) == 0
    assert (dest / "01_data.ipynb").is_file()
    assert f"next: jupyter lab {dest}" in capsys.readouterr().out


def test_a_source_without_notebooks_leaves_nothing_behind(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    dest = tmp_path / "course"
    assert cli.main(["notebooks", "--student", str(dest), "--source", str(tmp_path / "empty")]) == 2
    assert "no notebook there" in capsys.readouterr().err
    assert not dest.exists()


def test_a_notebook_that_cannot_be_turned_leaves_nothing_half_written(source, tmp_path):
    nbformat.write(made_up(("%matplotlib inline", "")), source / "02_more.ipynb")
    with pytest.raises(InputError, match="02_more"):
        write_student_edition(source, tmp_path / "course")
    assert not (tmp_path / "course").exists()


# -- the committed notebooks -----------------------------------------------------------------------


def tagged(path: Path, tag: str) -> list[nbformat.NotebookNode]:
    cells = nbformat.read(path, as_version=4).cells
    return [c for c in cells if tag in c.metadata.get("tags", [])]


def said_by(cell: nbformat.NotebookNode) -> str:
    return "".join(
        o.get("text", "") + o.get("data", {}).get("text/plain", "") for o in cell.outputs
    )


each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@each_notebook
def test_every_solution_of_the_full_edition_is_right(path):
    wrong = {
        c.id: said_by(c) for c in tagged(path, "check") if not said_by(c).startswith("Right: ")
    }
    assert wrong == {}, "refresh the notebooks, or mend the solution"


@each_notebook
def test_every_notebook_has_exercises(path):
    least = 1 if path.stem.startswith("00") else 2
    counts = {tag: len(tagged(path, tag)) for tag in ("solution", "check")}
    told = f"{path.stem} ends in no exercises yet: two or three, see mmer_lib.teaching"
    assert min(counts.values()) >= least, told


@each_notebook
def test_no_solution_takes_a_name_that_the_notebook_had_before(path):
    """Its stub would put `...` in the place of what later cells read."""
    node = nbformat.read(path, as_version=4)
    plain = [c.source for c in node.cells if c.cell_type == "code" and not c.metadata.get("tags")]
    known = set(re.findall(r"^(\w+)(?:, \w+)* = ", "\n".join(plain), re.MULTILINE))
    stubs = [c.source for c in tagged_of(student_edition(node, path.stem), "solution")]
    opened = set(re.findall(r"^(\w+) = \.\.\.$", "\n".join(stubs), re.MULTILINE))
    assert opened & known == set()


def tagged_of(node: nbformat.NotebookNode, tag: str) -> list[nbformat.NotebookNode]:
    return [c for c in node.cells if tag in c.metadata.get("tags", [])]


@pytest.mark.slow
def test_the_student_edition_of_the_course_runs_and_waits_for_answers(tmp_path):
    folder = tmp_path / "course" / "notebooks"
    write_student_edition(ROOT / "notebooks", folder)
    done = run_study("ci", notebooks=folder, out=tmp_path / "run", say=lambda *a, **k: None)
    said = {f"{p.stem} {c.id}": said_by(c) for p in done.executed for c in tagged(p, "check")}
    assert {k: s for k, s in said.items() if s != "Your turn: replace the ... above."} == {}
