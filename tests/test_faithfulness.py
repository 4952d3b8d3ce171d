"""The deletion check: exact on models made by hand, clear on a planted truth, zero by chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from scipy.stats import ttest_1samp
from small import (
    CLASSES,
    small_config,
    small_corpus,
    small_model,
    small_table,
    whole_part,
)
from torch import Tensor, nn

from mmer_lib.corpora import Corpus, Ragged
from mmer_lib.corpora.batches import Batch, Part, pair_up
from mmer_lib.corpora.synthetic import synthetic
from mmer_lib.errors import InputError
from mmer_lib.faithfulness import (
    _Source,
    deletion_check,
    deletion_means,
    deletion_summary,
    read_frames,
    say_deletion,
)
from mmer_lib.fusion import Fused
from mmer_lib.model import Output, Recognizer, parse_configuration
from mmer_lib.sweep import make_parts
from mmer_lib.train import TrainConfig, build_model, fit, predict

PAIRS = (("audio", "audio"), ("text", "audio"), ("audio", "text"))


class Reader(nn.Module):
    """A frame is [how much it is looked at, what it says for each class]; logits are the sums.

    What is looked at is therefore not what is read: a map of this model may be wrong about it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.config = parse_configuration("cross-AT")
        self.unused = nn.Parameter(torch.zeros(1))
        self.fusion = lambda *_, **__: Fused(self.unused, self.unused, {PAIRS[0]: self.unused})

    def forward(self, batch: Batch, need_weights: bool = False) -> Output:
        logits: Tensor = sum(x[:, :, 1:].sum(dim=1) for x in batch.sequences.values())
        weights = {}
        for query, source in PAIRS:
            looks = batch.sequences[source][:, None, None, :, 0]  # (B, 1, 1, Ts)
            looks = looks / looks.sum(dim=-1, keepdim=True).clamp(min=1e-9)
            weights[query, source] = looks.expand(-1, 2, batch.masks[query].shape[1], -1)
        return Output(logits, Fused(torch.zeros(1), torch.zeros(1), weights), batch.masks)


def said_corpus(looks: list[list[int]], says: list[list[list[float]]]) -> Corpus:
    """Audio frames with these looks (n, T) and words (n, T, C); text is one frame of nothing."""
    audio = [
        np.column_stack([look, say]).astype(np.float32)
        for look, say in zip(looks, says, strict=True)
    ]
    text = [np.array([[1, 0, 0, 0]], np.float32)] * len(looks)
    features = {"audio": Ragged.from_list(audio, 4), "text": Ragged.from_list(text, 4)}
    return Corpus("said", CLASSES, small_table(len(looks)), features)


def part_of(corpus: Corpus, **options) -> Part:
    return Part(corpus, np.arange(len(corpus)), ("audio", "text"), **options)


def test_a_cut_answers_as_the_whole_part_with_that_modality_changed():
    """The same bits, also where the frames are changed before and another utterance asks."""
    corpus = small_corpus(12)
    model = small_model("cross-AVT", corpus)
    rows = np.arange(12)
    first = Part(corpus, rows, corpus.modalities, partners=pair_up(corpus, rows, 0))
    part = first.with_change(lambda modality, row, frames: frames[::-1])
    cuts = {row: np.array([0]) for row in range(12) if len(corpus.features["audio"][row]) > 1}

    def cut(modality: str, row: int, frames: np.ndarray) -> np.ndarray:
        mine = modality == "audio" and row in cuts
        return np.delete(frames, cuts[row], axis=0) if mine else frames

    batch = part.with_change(cut).collate(part.rows)
    batch = replace(batch, partner=part.collate(part.rows).partner)
    with torch.no_grad():
        expected = model(batch).logits.softmax(dim=-1).double().numpy()
    source = _Source(model, part, "audio", part.rows, [])
    np.testing.assert_array_equal(source.answers(cuts), expected)
    assert (source.answers({}) != expected).any()


SAYS = [[4.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 2.0]]  # of three frames, for three classes
WHOLE = softmax([4.0, 1.0, 2.0])


# Made by hand


def test_the_drop_is_what_the_answer_loses_without_the_attended_frame():
    corpus = said_corpus([[1, 7, 2], [9, 1, 1]], [SAYS, SAYS])  # labels 0 and 1
    frame = deletion_check(Reader(), part_of(corpus), draws=1).set_index(["id", "target"])
    assert set(frame["source"]) == {"audio"}  # a text of one frame cannot be cut
    assert set(frame["removed"]) == {1}
    assert set(frame["frames"]) == {3}
    without = {"u0": softmax([4.0, 0.0, 2.0]), "u1": softmax([0.0, 1.0, 2.0])}
    for name, label in (("u0", 0), ("u1", 1)):
        for target, watched in (("true", label), ("predicted", 0)):
            row = frame.loc[(name, target)]
            assert row["probability"] == pytest.approx(WHOLE[watched], rel=1e-5)
            dropped = WHOLE[watched] - without[name][watched]
            assert row["drop_attended"] == pytest.approx(dropped, rel=1e-4)
            assert row["difference"] == row["drop_attended"] - row["drop_random"]


def test_the_random_drop_is_near_the_mean_over_all_frames():
    corpus = said_corpus([[1, 7, 2]], [SAYS])
    frame = deletion_check(Reader(), part_of(corpus), draws=400)
    true = frame[frame["target"] == "true"].iloc[0]
    each = [WHOLE[0] - softmax(np.delete(SAYS, t, axis=0).sum(axis=0))[0] for t in range(3)]
    assert true["drop_random"] == pytest.approx(np.mean(each), abs=0.06)
    assert each[1] < 0  # a frame whose loss helps: drops have a sign
    assert true["drop_attended"] == pytest.approx(each[1], rel=1e-4)


def test_as_many_frames_are_cut_as_the_share_says_but_never_all():
    lengths = [2, 4, 20]
    corpus = said_corpus([[1] * t for t in lengths], [[SAYS[0]] * t for t in lengths])
    for share, removed in ((0.1, [1, 1, 2]), (0.5, [1, 2, 10]), (0.95, [1, 3, 19])):
        frame = deletion_check(Reader(), part_of(corpus), share=share, draws=1)
        frame = frame[frame["target"] == "true"]
        assert frame["removed"].tolist() == removed
        left = softmax(np.outer(np.subtract(lengths, removed), SAYS[0]), axis=1)
        whole = softmax(np.outer(lengths, SAYS[0]), axis=1)
        expected = (whole - left)[np.arange(3), corpus.labels]
        np.testing.assert_allclose(frame["drop_attended"], expected, atol=1e-6)
        np.testing.assert_allclose(frame["difference"], 0, atol=1e-6)  # all frames say the same


def test_equal_weights_are_cut_by_chance_not_in_their_order():
    n = 300
    corpus = said_corpus([[1, 1, 1]] * n, [SAYS] * n)
    frame = deletion_check(Reader(), part_of(corpus), draws=1)
    assert frame.groupby("target")["drop_attended"].nunique().min() > 2
    summary = deletion_summary(frame).set_index(["target", "source"])
    assert abs(summary.loc[("predicted", "audio"), "difference"]) < 0.1


def test_an_utterance_has_random_cuts_of_its_own():
    corpus = said_corpus([[1, 1, 1]] * 20, [SAYS] * 20)
    together = deletion_check(Reader(), part_of(corpus), draws=2, seed=5)
    alone = deletion_check(Reader(), part_of(corpus), np.array([7]), draws=2, seed=5)
    same = together[together["id"] == "u7"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, same)
    other = deletion_check(Reader(), part_of(corpus), draws=2, seed=6)
    assert not together["drop_random"].equals(other["drop_random"])


def test_who_asks_in_place_of_an_utterance_stays_whole():
    corpus = small_corpus(10)
    model = small_model("cross-AT,query=shuffled", corpus)
    seen: list[Batch] = []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    plain = whole_part(model, corpus)
    part = Part(**{**vars(plain), "partners": pair_up(corpus, plain.rows, 0)})
    deletion_check(model, part, draws=1)
    cut = []
    for batch in seen:  # utterances with one frame of a source are not in its batches
        rows = batch.rows.numpy()
        asking, own = plain.collate(part.partners[rows]), plain.collate(rows)
        for m in ("audio", "text"):
            assert torch.equal(batch.partner.sequences[m], asking.sequences[m])
        cut.append([int(own.masks[m].sum() > batch.masks[m].sum()) for m in ("audio", "text")])
    maps, whole, audio, text = [0, 0], [0, 0], [1, 0], [0, 1]
    assert cut == [maps, whole, audio, audio, whole, text, text]


def test_what_is_read_is_averaged_over_queries_heads_and_pairs():
    rng = np.random.default_rng(0)
    maps = {pair: rng.random((2, 4, 3 if pair[1] == "audio" else 5)) for pair in PAIRS}
    read = read_frames(maps)
    both = maps["audio", "audio"], maps["text", "audio"]
    by_hand = [
        np.mean([w[h, q, t] for w in both for h in (0, 1) for q in range(4)]) for t in (0, 1, 2)
    ]
    np.testing.assert_allclose(read["audio"], by_hand)
    assert read["text"].shape == (5,)


# From utterances to a number


def many_checked(n: int = 6, folds: int = 1) -> pd.DataFrame:
    """Checks of n utterances a fold with two sources each."""
    rng = np.random.default_rng(0)
    rows = [
        {"id": f"u{fold}-{i}", "fold": fold, "source": source, "frames": 5, "removed": 1,
         "target": target, "probability": 0.5, "drop_attended": (a := rng.random()),
         "drop_random": (b := 0.1 * rng.random()), "difference": a - b}
        for fold in range(folds) for i in range(n) for source in ("audio", "text")
        for target in ("true", "predicted")
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_with_one_fold_the_interval_is_the_paired_t_over_utterances():
    checked = many_checked()
    summary = deletion_summary(checked).set_index(["target", "source"])
    assert len(summary) == 2 * 3
    true = checked[checked["target"] == "true"]
    audio = true[true["source"] == "audio"]["difference"]
    values = {"audio": audio, "all": true.groupby("id")["difference"].mean()}
    for source, expected in values.items():
        test = ttest_1samp(expected, 0)
        row = summary.loc[("true", source)]
        assert (row["units"], row["n"]) == ("utterances", 6)
        assert row["difference"] == pytest.approx(expected.mean())
        interval = test.confidence_interval(0.95)
        np.testing.assert_allclose(row[["low", "high"]].astype(float), interval)
        assert row["p"] == pytest.approx(test.pvalue)
    assert summary["difference"].to_numpy() == pytest.approx(
        (summary["drop_attended"] - summary["drop_random"]).to_numpy()
    )


def test_with_several_folds_it_is_the_corrected_t_over_fold_means():
    checked = many_checked(folds=4)
    row = deletion_summary(checked).set_index(["target", "source"]).loc[("true", "all")]
    true = checked[checked["target"] == "true"]
    means = true.groupby("fold")["difference"].mean()
    assert (row["units"], row["n"]) == ("folds", 4)
    wider = np.sqrt((1 / 4 + 1 / 3) * 4)  # tested on a fourth, learned from three
    plain = ttest_1samp(means, 0).confidence_interval(0.95)
    assert row["high"] - row["low"] == pytest.approx(wider * (plain.high - plain.low))
    assert row["difference"] == pytest.approx(means.mean())


def test_the_means_of_runs_give_the_same_intervals_as_their_utterances():
    checked = many_checked(folds=3).assign(seed=0)
    means = pd.concat(
        [deletion_means(one).assign(fold=fold, seed=0) for fold, one in checked.groupby("fold")]
    )
    assert set(means["n"]) == {6}
    order = ["target", "source"]
    one, other = (
        deletion_summary(table).sort_values(order, ignore_index=True) for table in (checked, means)
    )
    pd.testing.assert_frame_equal(one, other)
    single = deletion_summary(pd.concat([means, means.assign(seed=1)]).query("fold == 0"))
    assert set(single["units"]) == {"runs"}


def test_configurations_are_summed_up_apart():
    one = many_checked().assign(configuration="a")
    both = pd.concat([one, one.assign(configuration="b", difference=0.0)])
    summary = deletion_summary(both).set_index(["configuration", "target", "source"])["difference"]
    assert (summary["b"] == 0).all()
    assert (summary["a"] > 0.1).all()
    with pytest.raises(InputError, match=r"2 rows of the summary .* choose a configuration"):
        say_deletion(deletion_summary(both))


@pytest.mark.parametrize(
    ("difference", "words"),
    [(0.2, "attention points at what counts"), (0.0, "it cannot be told from chance"),
     (-0.2, "it points elsewhere")],
)  # fmt: skip
def test_the_sentence_says_which_side_of_zero_the_interval_lies(difference, words):
    spread = np.linspace(-0.01, 0.01, 24)
    checked = many_checked().assign(difference=difference + spread)
    assert words in say_deletion(deletion_summary(checked))


def test_one_utterance_has_no_interval():
    with pytest.raises(InputError, match="a deletion check over 1 of its utterances"):
        deletion_summary(many_checked(1))


# Trained: is attention an explanation here?


@pytest.fixture(scope="module")
def lookups() -> Corpus:
    return synthetic(600, cross_binding=1.0, classes=3, features=8, longest=7)


def trained(name: str, corpus: Corpus) -> tuple[Recognizer, Part]:
    config = small_config(name, corpus)
    model = build_model(config, 0)
    parts = make_parts(config, corpus.folds("random", 4)[0], corpus)
    fit(model, parts["train"], parts["dev"], TrainConfig(epochs=12, lr=1e-2))
    return model, parts["test"]


def test_on_planted_look_ups_attention_that_looks_up_is_an_explanation(lookups):
    model, part = trained("cross-AT", lookups)
    assert predict(model, part).accuracy > 0.85
    summary = deletion_summary(deletion_check(model, part)).set_index(["target", "source"])
    for target in ("true", "predicted"):
        assert summary.loc[(target, "all"), "low"] > 0.15
        assert summary.loc[(target, "audio"), "low"] > 0.25  # the holder of the answer


def test_attention_that_looks_nowhere_is_none(lookups):
    model, part = trained("cross-AT,query=uniform", lookups)
    assert predict(model, part).accuracy > 0.5  # it has learned: a third by chance
    summary = deletion_summary(deletion_check(model, part))
    assert (summary["low"] < 0.02).all()
    assert (summary["high"] > -0.02).all()
    assert (summary["difference"].abs() < 0.04).all()
    assert "cannot be told from chance" in say_deletion(summary)


# What makes no sense


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cross-AT@released", "mixes time positions in its encoders"),
        ("cross-AT,masks=false", "reads padding as data"),
        ("late-AT", "late has no attention maps to look at"),
    ],
)
def test_a_model_whose_frames_cannot_be_cut_is_told(name, message):
    corpus = small_corpus(6, padded=True)
    model = small_model(name, corpus)
    with pytest.raises(InputError, match=message) as raised:
        deletion_check(model, whole_part(model, corpus))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"share": 0.0}, "share=0.0: a share between 0 and 1"), ({"share": 1}, "share=1"),
     ({"draws": 0}, "draws=0: a whole number of at least 1"), ({"seed": -1}, "seed=-1")],
)  # fmt: skip
def test_settings_out_of_range_are_told(options, message):
    corpus = said_corpus([[1, 2]], [SAYS[:2]])
    with pytest.raises(InputError, match=message):
        deletion_check(Reader(), part_of(corpus), **options)


def test_utterances_with_nothing_to_cut_give_an_empty_frame_with_all_columns():
    corpus = said_corpus([[1], [1, 2]], [SAYS[:1], SAYS[:2]])
    empty = deletion_check(Reader(), part_of(corpus), np.array([0]))
    assert len(empty) == 0
    assert list(empty) == list(deletion_check(Reader(), part_of(corpus)))
