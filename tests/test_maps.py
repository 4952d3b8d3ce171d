"""Attention maps: what is cut, what is averaged, and that no head and no memory is hidden."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small import PADDED, SIZES, learnable_corpus, randomize, small_corpus, small_model, whole_part

from mmer_lib import maps
from mmer_lib.corpora import Corpus
from mmer_lib.corpora.batches import Batch, Part, pair_up
from mmer_lib.errors import InputError
from mmer_lib.maps import (
    attention_frame,
    attention_maps,
    entropy_frame,
    event_mass,
    gives_maps,
    own_mass,
    partner_swap,
)
from mmer_lib.model import Recognizer


def build(name: str, corpus: Corpus) -> tuple[Recognizer, Part]:
    """A model with random parameters, none zero, and all utterances as it reads them."""
    model = small_model(name, corpus)
    randomize(model).eval()
    return model, whole_part(model, corpus)


@pytest.mark.parametrize("name", ["self-AVT", "cross-AVT", "selfcross-AVT"])
def test_maps_have_the_real_frames_and_rows_that_sum_to_one(name):
    corpus = small_corpus(8, missing=True)
    model, part = build(name, corpus)
    for row in range(8):
        found = attention_maps(model, part, row)
        lengths = {m: corpus.features[m].lengths[row] for m in corpus.modalities}
        pairs = [(q, s) for q, s in model.fusion.pairs if lengths[q] and lengths[s]]
        assert list(found) == pairs
        for (query, source), weights in found.items():
            assert weights.shape == (SIZES["heads"], lengths[query], lengths[source])
            np.testing.assert_allclose(weights.sum(axis=2), 1, atol=1e-5)


def test_a_map_does_not_depend_on_who_else_is_in_the_batch():
    corpus = small_corpus(8)
    model, part = build("cross-AT", corpus)
    frame = attention_frame(model, part, np.arange(8))
    for row in (0, 5):
        own = frame[frame["id"] == f"u{row}"].query("query == 'text'")["weight"]
        alone = attention_maps(model, part, row)["text", "audio"]
        np.testing.assert_allclose(own, alone.ravel(), atol=1e-6)


def test_masks_behind_a_time_mixing_encoder_decide_what_is_cut():
    corpus = small_corpus(8, missing=True, padded=True)
    model, part = build("cross-AT@released,masks=true", corpus)
    mixed = PADDED["audio"] // 2  # audio goes from 20 to 10 steps, all of it data or missing
    for row in range(8):
        text = corpus.features["text"].lengths[row]
        found = attention_maps(model, part, row)
        if not text or not corpus.features["audio"].lengths[row]:
            assert not found
            continue
        assert found["audio", "text"].shape[1:] == (mixed, text)
        assert found["text", "audio"].shape[1:] == (text, mixed)
        for weights in found.values():
            np.testing.assert_allclose(weights.sum(axis=2), 1, atol=1e-5)


def test_without_masks_padding_is_data_and_stays():
    corpus = small_corpus(4, padded=True)
    model, part = build("cross-AT@released,time_mixing=false", corpus)
    for weights in attention_maps(model, part, 0).values():
        assert sorted(weights.shape[1:]) == sorted([PADDED["audio"], PADDED["text"]])
        np.testing.assert_allclose(weights.sum(axis=2), 1, atol=1e-5)


def test_maps_of_utterances_that_have_none_are_an_empty_frame():
    corpus = small_corpus(8, missing=True)
    model, part = build("self-T", corpus)
    silent = np.flatnonzero(corpus.features["text"].lengths == 0)
    frame = attention_frame(model, part, silent)
    assert len(frame) == 0
    assert list(frame) == list(attention_frame(model, part, np.arange(8)))


@pytest.mark.parametrize("name", ["self-A", "cross-AT", "joint-AVT"])
def test_entropy_is_one_where_attention_is_uniform(name):
    corpus = small_corpus(6)
    model, part = build(f"{name},query=uniform", corpus)
    frame = entropy_frame(model, part, np.arange(6))
    assert len(frame)
    np.testing.assert_allclose(frame["entropy"], 1, atol=1e-5)


def test_a_fusion_without_attention_has_no_maps():
    model, part = build("late-AVT", small_corpus(6))
    assert not gives_maps(model)
    assert gives_maps(build("joint-AVT", small_corpus(6))[0])
    with pytest.raises(InputError, match="'late-AVT': late has no attention maps to look at"):
        attention_maps(model, part, 0)


# Who asks


def shuffled(part: Part, seed: int = 0) -> Part:
    return replace(part, partners=pair_up(part.corpus, part.rows, seed))


@pytest.mark.parametrize("name", ["self-AVT", "cross-AVT"])
def test_a_map_has_the_frames_of_who_asks_and_of_who_is_read(name):
    corpus = small_corpus(8)
    model, part = build(f"{name},query=shuffled", corpus)
    part = shuffled(part)
    for row, partner in enumerate(part.partners):
        for (query, source), weights in attention_maps(model, part, row).items():
            asked = corpus.features[query].lengths[partner]
            assert weights.shape[1:] == (asked, corpus.features[source].lengths[row])
            np.testing.assert_allclose(weights.sum(axis=2), 1, atol=1e-5)


def test_the_move_of_the_maps_is_the_total_variation_of_abar():
    corpus = small_corpus(8)
    model, part = build("cross-AT", corpus)
    frame = partner_swap(model, part, seed=3).set_index(["id", "query", "source", "head"])["moved"]
    assert len(frame) == 8 * 2 * SIZES["heads"]
    asked = shuffled(part, seed=3)
    for row in range(8):
        after = attention_maps(model, asked, row)
        for (query, source), before in attention_maps(model, part, row).items():
            both = before.mean(axis=1), after[query, source].mean(axis=1)
            for head, (one, other) in enumerate(zip(*both, strict=True)):
                moved = max(0.0, *(np.cumsum(np.sort(one - other)[::-1])))  # the best set of frames
                assert frame[f"u{row}", query, source, head] == pytest.approx(moved, abs=1e-6)
    assert frame.max() > 0.01


def test_maps_that_nobody_steers_do_not_move():
    model, part = build("cross-AVT,query=uniform", small_corpus(8))
    assert partner_swap(model, part)["moved"].max() < 1e-6


def test_own_sequences_ask_first_whatever_the_model_was_trained_with():
    corpus = small_corpus(8)
    model, part = build("cross-AT,query=shuffled", corpus)
    frame = partner_swap(model, part, seed=1)
    pd.testing.assert_frame_equal(partner_swap(model, shuffled(part, seed=1), seed=1), frame)
    assert frame["moved"].max() > 0.01


def test_partners_that_ask_have_the_same_modalities_and_who_finds_none_is_left_out():
    corpus = small_corpus(16, missing=True)  # each subset of modalities twice, one of them nothing
    model, part = build("cross-AVT", corpus)
    several = {f"u{i}" for i in (0, 1, 2, 7, 8, 9, 10, 15)}  # with two modalities or more
    assert set(partner_swap(model, part)["id"]) == several
    assert set(partner_swap(model, part, np.array([0, 1, 8]))["id"]) == {"u0", "u8"}
    lonely = np.array([0, 1, 2, 7])
    with pytest.raises(InputError, match="no two utterances have the same modalities"):
        partner_swap(model, part, lonely)


@pytest.mark.parametrize("name", ["late-AVT", "mbt-AVT", "joint-AVT,depth=2"])
def test_a_model_whose_query_cannot_be_replaced_is_told(name):
    model, part = build(name, small_corpus(8))
    with pytest.raises(InputError, match=r"'.*': nobody else can ask, as query=shuffled"):
        partner_swap(model, part)


# One attention over all modalities


def test_the_own_mass_is_that_of_the_rows_on_the_own_block():
    corpus = small_corpus(16, missing=True)
    model, part = build("joint-AVT", corpus)
    frame = own_mass(model, part, np.arange(16)).set_index(["id", "query", "head"])
    for row in range(16):
        there = [m for m in corpus.modalities if corpus.features[m].lengths[row]]
        found = attention_maps(model, part, row)
        for query in there:
            for head in range(SIZES["heads"]):
                mass = [sum(step) for step in found[query, query][head]]
                known = frame.loc[(f"u{row}", query, head)]
                assert known["mass"] == pytest.approx(np.mean(mass), rel=1e-5)
                assert known["present"] == len(there)
                assert known["chance"] == 1 / len(there)
                assert known["lift"] == pytest.approx(np.mean(mass) * len(there), rel=1e-5)
    assert len(frame) == 2 * 12 * SIZES["heads"]  # 12 modalities in eight utterances


def test_scores_that_say_nothing_give_the_own_mass_its_chance_value():
    corpus = small_corpus(16, missing=True)  # of other lengths, so that the count must not matter
    model, part = build("joint-AVT,query=uniform", corpus)
    frame = own_mass(model, part, np.arange(16))
    np.testing.assert_allclose(frame["lift"], 1, rtol=1e-5)
    assert set(frame["present"]) == {1, 2, 3}


def test_a_mask_that_leaves_no_choice_leaves_no_chance():
    corpus = small_corpus(8)
    own = own_mass(*build("joint_self-AVT", corpus), np.arange(8))
    np.testing.assert_allclose(own[["mass", "chance", "lift"]], 1, rtol=1e-5)
    others = own_mass(*build("joint_cross-AVT", corpus), np.arange(8))
    assert not others[["mass", "chance"]].any(axis=None)
    assert others["lift"].isna().all()
    assert set(others["present"]) == {2}


def test_attentions_of_their_own_have_no_share_of_a_whole():
    model, part = build("cross-AVT", small_corpus(8))
    with pytest.raises(InputError, match="what audio reads sums to 2, not 1"):
        own_mass(model, part, part.rows)


# Mass on planted events


def masses_by_hand(
    model: Recognizer, part: Part, corpus: Corpus
) -> dict[tuple[str, str], np.ndarray]:
    """(id, role) -> mass of every head on the events of that role, text asking audio."""
    found = {}
    for i, name in enumerate(corpus.utterances["id"]):
        weights = attention_maps(model, part, i)["text", "audio"]
        events = corpus.events[corpus.events["id"] == name]
        for role in ("answer", "decoy"):
            frames = events[events["role"] == role]["frame"]
            found[name, role] = np.mean([weights[:, :, t].mean(axis=1) for t in frames], axis=0)
    return found


@pytest.fixture(scope="module")
def bound() -> tuple[Recognizer, Part, Corpus, pd.DataFrame]:
    corpus = learnable_corpus(30, cross_binding=1.0, keys=3)
    model, part = build("cross-AT", corpus)
    return model, part, corpus, event_mass(model, part)


def test_the_mass_is_that_of_the_frames_averaged_over_heads(bound):
    model, part, corpus, frame = bound
    by_hand = masses_by_hand(model, part, corpus)
    assert len(frame) == 2 * 30
    for row in frame.itertuples():
        heads = by_hand[row.id, row.role]
        assert row.mass == pytest.approx(heads.mean(), rel=1e-5)
        assert row.best_head_mass == pytest.approx(heads[row.best_head], rel=1e-5)
        length = corpus.features["audio"].lengths[corpus.find(row.id)]
        assert row.chance == 1 / length
        assert row.lift == pytest.approx(row.mass * length)
    assert frame["asked"].all()
    assert set(zip(frame["query"], frame["source"], strict=True)) == {("text", "audio")}


def test_the_best_head_is_the_one_that_prefers_answers_to_decoys_most(bound):
    model, part, corpus, frame = bound
    by_hand = masses_by_hand(model, part, corpus)
    gains = [by_hand[name, "answer"] - by_hand[name, "decoy"] for name in corpus.utterances["id"]]
    assert set(frame["best_head"]) == {np.mean(gains, axis=0).argmax()}


def test_a_frame_among_several_modalities_has_less_by_chance(bound):
    corpus = bound[2]
    model, part = build("joint-AT,query=uniform", corpus)
    frame = event_mass(model, part)
    np.testing.assert_allclose(frame["lift"], 1, rtol=1e-5)
    lengths = corpus.features["audio"].lengths[[corpus.find(name) for name in frame["id"]]]
    np.testing.assert_allclose(frame["chance"], 1 / (2 * lengths))


def test_one_head_that_looks_up_is_not_hidden_among_others(bound, monkeypatch):
    _, part, corpus, _ = bound
    answers = corpus.events[corpus.events["role"] == "answer"].set_index("id")["frame"]

    def planted(_model: object, _part: Part, rows: np.ndarray):
        for row in rows:
            length = corpus.features["audio"].lengths[row]
            weights = np.full((6, 1, length), 1 / length)
            weights[4] = np.arange(length) == answers.iloc[row]  # head 4 alone finds the answer
            yield int(row), {("text", "audio"): weights}

    monkeypatch.setattr(maps, "iterate_maps", planted)
    frame = event_mass(bound[0], part).groupby("role")[["mass", "best_head", "best_head_mass"]]
    assert frame.mean().loc["answer", ["best_head", "best_head_mass"]].tolist() == [4, 1]
    assert frame.mean().loc["decoy", "best_head_mass"] == 0
    assert frame.mean().loc["answer", "mass"] < 0.4


def test_no_utterance_with_a_look_up_gives_an_empty_frame_with_all_columns(bound):
    model, part, _, frame = bound
    empty = event_mass(model, part, np.array([], dtype=np.int64))
    assert list(empty) == list(frame)
    assert len(empty) == 0


def test_a_corpus_without_look_ups_and_a_model_without_time_are_told(bound):
    corpus = learnable_corpus(12, cross_binding=0.0)
    model, part = build("cross-AT", corpus)
    with pytest.raises(InputError, match="has no planted look-up events"):
        event_mass(model, part)
    model, part = build("cross-AT@released", bound[2])
    with pytest.raises(InputError, match="mixes time positions in its encoders"):
        event_mass(model, part)


# Memory


class Counted(Part):
    """A part that notes the size of every batch it gives."""

    def collate(self, rows: np.ndarray) -> Batch:
        self.__dict__.setdefault("sizes", []).append(len(rows))
        return super().collate(rows)


@pytest.mark.parametrize("name", ["selfcross-AVT", "selfcross-AVT@released"])
def test_the_weights_of_a_batch_stay_below_the_bound(name, monkeypatch):
    corpus = small_corpus(12, padded=True)
    model, part = build(name, corpus)
    rows = np.arange(12)
    expected = attention_frame(model, part, rows)
    longest = part.pad_to["audio"] if part.pad_to else corpus.features["audio"].lengths.max()
    one = SIZES["heads"] * longest**2 * model.config.dtype.itemsize
    for bound, size in ((5 * one + 1, 5), (one - 1, 1), (1 << 26, 12)):
        monkeypatch.setattr(maps, "WEIGHTS_BYTES", int(bound))
        counted = Counted(**vars(part))
        pd.testing.assert_frame_equal(attention_frame(model, counted, rows), expected, atol=1e-6)
        assert max(counted.sizes) == size
