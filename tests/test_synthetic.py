"""The embedded corpus: what is planted is there, and the label follows from it alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mmer_lib.corpora import MODALITIES, Corpus, load_corpus
from mmer_lib.corpora.synthetic import EMOTIONS, SHOWN, codebook, synthetic
from mmer_lib.errors import InputError

SILENT = {"noise": 0.0, "speaker_shift": 0.0}  # nothing but what is planted
MIXED = {"cross_binding": 0.3, "self_binding": 0.3, "asker": "any", "holder": "any"}


def events_of(corpus: Corpus, **wanted: str) -> pd.DataFrame:
    """Events joined with their utterances, those of some kind or role."""
    joined = corpus.events.merge(corpus.utterances, on="id")
    for column, value in wanted.items():
        joined = joined[joined[column] == value]
    assert len(joined)
    return joined


def test_the_kinds_have_their_shares_exactly():
    corpus = synthetic(400, cross_binding=0.25, self_binding=0.15)
    counts = corpus.utterances["kind"].value_counts().to_dict()
    assert counts == {"cross-binding": 100, "self-binding": 60, "additive": 240}


def test_the_kinds_are_in_random_order():
    kinds = synthetic(200, cross_binding=0.5).utterances["kind"].to_numpy()
    assert 70 < (kinds[1:] != kinds[:-1]).sum() < 130


@pytest.mark.parametrize("agreement", [0.0, 0.6, 1.0])
def test_a_modality_shows_the_label_as_often_as_agreement_says(agreement):
    corpus = synthetic(1000, cross_binding=0.0, agreement=agreement, classes=5)
    shown = events_of(corpus, role="emotion").drop_duplicates(["id", "modality"])
    assert len(shown) == 3 * 1000
    expected = agreement + (1 - agreement) / 5
    error = np.sqrt(expected * (1 - expected) / len(shown))
    rate = (shown["value"] == shown["label"]).mean()
    assert abs(rate - expected) <= 4 * error


def test_additive_utterances_show_one_emotion_in_three_frames_of_each_modality():
    corpus = synthetic(50, cross_binding=0.0)
    groups = corpus.events.groupby(["id", "modality"])
    assert set(groups.size()) == {SHOWN}
    assert set(groups["frame"].nunique()) == {SHOWN}
    assert set(groups["value"].nunique()) == {1}
    assert len(groups) == 150
    assert set(corpus.events["key"]) == {-1}


def test_without_noise_the_frames_are_the_planted_patterns_and_nothing_else():
    corpus = synthetic(120, keys=3, **MIXED, **SILENT)
    book = codebook(classes=7, keys=3, speakers=10, features=16)
    expected = {m: np.zeros_like(corpus.features[m].values) for m in MODALITIES}
    row_of = {name: i for i, name in enumerate(corpus.utterances["id"])}
    for event in events_of(corpus).itertuples():
        frame = expected[event.modality][
            corpus.features[event.modality].offsets[row_of[event.id]] + event.frame
        ]
        if event.value >= 0:
            frame += book.emotions[event.modality][event.value]
        if event.key >= 0:
            frame += book.keys[event.modality][event.key]
        if event.role == "ask" and event.asker == event.holder:
            frame += book.ask[event.modality]
    for m in MODALITIES:
        np.testing.assert_allclose(corpus.features[m].values, expected[m], atol=1e-5)


def test_the_label_is_the_value_stored_under_the_asked_key():
    corpus = synthetic(300, keys=3, **MIXED)
    bound = events_of(corpus)
    bound = bound[bound["kind"] != "additive"]
    for _, events in bound.groupby("id"):
        ask, answer = (events[events["role"] == role] for role in ("ask", "answer"))
        decoys = events[events["role"] == "decoy"]
        assert (len(ask), len(answer), len(decoys)) == (1, 1, 2)
        assert answer["value"].item() == answer["label"].item()
        assert answer["key"].item() == ask["key"].item()
        assert sorted([ask["key"].item(), *decoys["key"]]) == [0, 1, 2]
        assert ask["modality"].item() == ask["asker"].item()
        assert {*answer["modality"], *decoys["modality"]} == {ask["holder"].item()}
        stored = pd.concat([answer, decoys])
        assert stored["frame"].nunique() == 3
        own = ask["asker"].item() == ask["holder"].item()
        assert own == (ask["kind"].item() == "self-binding")
        assert not own or ask["frame"].item() not in set(stored["frame"])


def test_neither_the_asked_key_nor_a_decoy_tells_the_label():
    corpus = synthetic(2000, cross_binding=1.0, classes=4)
    asks, decoys = events_of(corpus, role="ask"), events_of(corpus, role="decoy")
    by_key = asks.groupby("key")["label"].value_counts(normalize=True)
    assert by_key.sub(0.25).abs().max() < 0.05
    assert abs((decoys["value"] == decoys["label"]).mean() - 0.25) < 0.04


def test_asker_and_holder_are_those_asked_for():
    corpus = synthetic(60, cross_binding=1.0, asker="video", holder="text")
    assert set(corpus.utterances["asker"]) == {"video"}
    assert set(corpus.utterances["holder"]) == {"text"}


def test_in_self_binding_the_holder_asks_itself():
    corpus = synthetic(40, cross_binding=0.0, self_binding=1.0, asker="text", holder="audio")
    assert set(corpus.utterances["asker"]) == set(corpus.utterances["holder"]) == {"audio"}
    assert set(corpus.events["modality"]) == {"audio"}


def test_numbers_of_numpy_are_numbers():
    made = synthetic(np.int64(30), noise=np.float32(0.5), seed=np.uint8(3))
    assert made.fingerprint == synthetic(30, noise=0.5, seed=3).fingerprint


def test_any_draws_every_pair_of_different_modalities():
    corpus = synthetic(300, cross_binding=1.0, asker="any", holder="any")
    pairs = set(zip(corpus.utterances["asker"], corpus.utterances["holder"], strict=True))
    assert pairs == {(a, h) for a in MODALITIES for h in MODALITIES if a != h}


def test_lengths_classes_features_and_speakers_are_those_asked_for():
    corpus = synthetic(300, classes=9, features=5, shortest=4, longest=6, speakers=3)
    assert corpus.widths == dict.fromkeys(MODALITIES, 5)
    for m in MODALITIES:
        assert set(corpus.features[m].lengths) == {4, 5, 6}
    assert corpus.classes == (*EMOTIONS, "emotion 8", "emotion 9")
    assert set(corpus.labels) == set(range(9))
    assert set(corpus.utterances["speaker"]) == {"s01", "s02", "s03"}
    turns = corpus.utterances.groupby("dialogue")["speaker"].agg(["nunique", "size"])
    assert turns["nunique"].max() == 1
    assert turns["size"].max() == 12


def test_noise_and_speaker_shift_are_standard_deviations():
    corpus = synthetic(300, noise=0.5, speaker_shift=0.0, shortest=40, longest=40)
    planted = set(
        zip(corpus.events["id"], corpus.events["modality"], corpus.events["frame"], strict=True)
    )
    rest = [
        frame
        for i, name in enumerate(corpus.utterances["id"][:50])
        for t, frame in enumerate(corpus.features["audio"][i])
        if (name, "audio", t) not in planted
    ]
    assert np.std(rest) == pytest.approx(0.5, rel=0.03)
    shifted = synthetic(300, noise=0.5, speaker_shift=1.0, shortest=40, longest=40)
    moved = shifted.features["audio"].values - corpus.features["audio"].values
    book = codebook(classes=7, keys=2, speakers=10, features=16)
    speakers = shifted.utterances["speaker"].str[1:].astype(int) - 1
    expected = np.repeat(book.speakers["audio"][speakers], 40, axis=0)
    np.testing.assert_allclose(moved, expected, atol=1e-5)


@pytest.mark.parametrize("missing", [0.3, 1.0])
def test_modalities_are_missing_as_often_as_asked_but_never_all(missing):
    corpus = synthetic(600, missing=missing, **MIXED)
    absent = np.stack([corpus.features[m].lengths == 0 for m in MODALITIES])
    assert not absent.all(axis=0).any()
    spared = missing**3 / 3  # where all three were drawn, one is put back
    assert absent.mean() == pytest.approx(missing - spared, abs=0.03)


def test_what_is_missing_has_no_events():
    corpus = synthetic(200, missing=0.4, **MIXED)
    row_of = {name: i for i, name in enumerate(corpus.utterances["id"])}
    for event in corpus.events.itertuples():
        assert event.frame < corpus.features[event.modality].lengths[row_of[event.id]]


def test_a_corpus_without_a_single_event_still_has_the_columns_of_events():
    corpora = [synthetic(1, cross_binding=1.0, missing=1.0, seed=seed) for seed in range(8)]
    empty = [corpus for corpus in corpora if corpus.events.empty]
    assert empty  # only the third modality was left
    assert empty[0].take(np.array([0])).events.columns.tolist() == [
        "id", "modality", "frame", "role", "key", "value",
    ]  # fmt: skip


def test_the_same_seed_gives_the_same_corpus_and_another_seed_another():
    one, same, other = (synthetic(50, seed=seed, **MIXED) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(one.utterances, same.utterances)
    pd.testing.assert_frame_equal(one.events, same.events)
    assert one.fingerprint == same.fingerprint != other.fingerprint
    for m in MODALITIES:
        np.testing.assert_array_equal(one.features[m].values, same.features[m].values)


def test_the_patterns_are_the_same_whatever_the_seed_of_the_corpus():
    shown = []
    for seed in (0, 1):
        corpus = synthetic(80, cross_binding=0.0, seed=seed, **SILENT)
        event = events_of(corpus, modality="audio", value=2).iloc[0]
        i = corpus.utterances["id"].tolist().index(event["id"])
        shown.append(corpus.features["audio"][i][event["frame"]])
    np.testing.assert_array_equal(*shown)


def test_a_pattern_does_not_depend_on_how_many_others_there_are():
    small, large = codebook(2, 1, 1, 8), codebook(9, 5, 12, 8)
    for m in MODALITIES:
        np.testing.assert_array_equal(small.emotions[m], large.emotions[m][:2])
        np.testing.assert_array_equal(small.keys[m], large.keys[m][:1])
        np.testing.assert_array_equal(small.ask[m], large.ask[m])


def test_no_two_patterns_are_alike():
    book = codebook(7, 3, 4, 16)
    patterns = np.concatenate(
        [np.atleast_2d(kind[m]) for kind in vars(book).values() for m in MODALITIES]
    )
    alike = np.corrcoef(patterns) - np.eye(len(patterns))
    assert np.abs(alike).max() < 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cross_binding": 1.2}, r"cross_binding=1.2: a share in \[0, 1\] expected"),
        ({"self_binding": -0.1}, r"self_binding=-0.1: a share in \[0, 1\] expected"),
        ({"agreement": float("nan")}, "agreement=nan: a share"),
        ({"missing": 2}, "missing=2: a share"),
        ({"missing": None}, "missing=None: a share"),
        ({"cross_binding": 0.7, "self_binding": 0.4}, "cannot exceed the whole"),
        ({"utterances": 0}, "synthetic: utterances=0: a whole number of at least 1 expected"),
        ({"utterances": 60.5}, "utterances=60.5: a whole number"),
        ({"utterances": True}, "utterances=True: a whole number"),
        ({"keys": 0}, "keys=0: a whole number of at least 1"),
        ({"features": 0}, "features=0: a whole number of at least 1"),
        ({"speakers": 0}, "speakers=0: a whole number of at least 1"),
        ({"longest": 9.5}, "longest=9.5: a whole number"),
        ({"classes": 1}, "classes=1: a whole number of at least 2"),
        ({"shortest": 2}, "expected 3 .* <= shortest <= longest"),
        ({"keys": 6}, "expected 7 .frames that 6 keys need"),
        ({"shortest": 9, "longest": 8}, "shortest=9, longest=8"),
        ({"noise": -1}, "noise=-1: a number of at least 0"),
        ({"noise": None}, "noise=None: a number of at least 0"),
        ({"noise": float("nan")}, "noise=nan: a number of at least 0"),
        ({"speaker_shift": float("inf")}, "speaker_shift=inf: a number of at least 0"),
        ({"seed": -1}, "seed=-1: a whole number of at least 0"),
        ({"seed": 0.5}, "seed=0.5: a whole number"),
        ({"asker": "odio"}, "unknown modality for asker: 'odio': did you mean 'audio'"),
        ({"holder": "txt"}, "unknown modality for holder: 'txt': did you mean 'text'"),
        ({"asker": "audio", "holder": "audio"}, "asker and holder are both 'audio'"),
        ({"utterance": 5}, "unknown option of corpus 'synthetic': 'utterance': did you mean"),
        ({"classes": "many"}, "corpus 'synthetic': classes='many' is not a whole number"),
    ],
)
def test_an_option_out_of_range_is_told_in_one_line(options, message):
    with pytest.raises(InputError, match=message) as raised:
        load_corpus("synthetic", **options)
    assert "\n" not in str(raised.value)


def test_options_may_stand_in_the_specification():
    corpus = load_corpus("synthetic,utterances=20,cross_binding=1,classes=3")
    assert (len(corpus), len(corpus.classes)) == (20, 3)
    assert set(corpus.utterances["kind"]) == {"cross-binding"}
