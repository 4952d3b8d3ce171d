"""Fold protocols: what each promises, what leaks, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmer_lib.corpora import PARTS, PROTOCOLS, Corpus, Fold, Ragged
from mmer_lib.corpora.folds import measure_leakage, possible_protocols, worst_leakage
from mmer_lib.errors import InputError

COLUMNS = ("speaker", "dialogue", "session")
GROUPED = tuple(f"by-{column}" for column in COLUMNS)


def corpus_of(labels: list[int], distinct: bool = True, **columns: object) -> Corpus:
    """One frame an utterance: its row number, or its label where not ``distinct``."""
    n = len(labels)
    table = pd.DataFrame({"id": [f"u{i}" for i in range(n)], "label": labels})
    published = columns.pop("published", None)
    if isinstance(published, dict):
        published = pd.DataFrame({"id": table["id"], **published})
    frames = np.arange(n) if distinct else np.array(labels)
    audio = Ragged(frames[:, None].astype(np.float32), np.arange(n + 1))
    table = table.assign(**columns)
    return Corpus("little", ("a", "b", "c"), table, {"audio": audio}, published=published)


def talk(n: int = 60, speakers: int = 6, seed: int = 0) -> Corpus:
    """Speakers of unequal size, each with dialogues of her own."""
    rng = np.random.default_rng(seed)
    who = np.sort(rng.permutation(np.r_[np.arange(speakers), rng.integers(speakers, size=n)])[:n])
    speaker = [f"s{i}" for i in who]
    dialogue = [f"{s}-{i // 3}" for i, s in enumerate(speaker)]
    labels = rng.integers(3, size=n).tolist()
    return corpus_of(labels, speaker=speaker, dialogue=dialogue, session=speaker)


def sessions() -> Corpus:
    """Five sessions of two speakers, of unequal size and unequal classes."""
    rng = np.random.default_rng(3)
    sizes = [9, 30, 14, 50, 21]
    session = np.repeat([f"Session{i}" for i in range(1, 6)], sizes)
    speaker = [f"{s}{rng.choice(['F', 'M'])}" for s in session]
    labels = rng.choice(3, size=sum(sizes), p=[0.7, 0.25, 0.05]).tolist()
    return corpus_of(labels, speaker=speaker, session=session)


def parts(fold: Fold) -> list[np.ndarray]:
    return [fold.train, fold.dev, fold.test]


@st.composite
def corpora(draw) -> Corpus:
    n = draw(st.integers(12, 60))
    speakers = draw(st.lists(st.integers(0, 9), min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    groups = {column: [f"{column}{i}" for i in speakers] for column in COLUMNS}
    return corpus_of(labels, **groups)


def units(corpus: Corpus, protocol: str) -> int:
    if protocol == "random":
        return len(corpus)
    return corpus.utterances[protocol.removeprefix("by-")].nunique()


# -- what every protocol promises ------------------------------------------------------------------


@settings(max_examples=60, deadline=None, derandomize=True)
@given(corpora(), st.sampled_from(["random", *GROUPED]), st.integers(2, 5), st.integers(0, 99))
def test_parts_tile_the_corpus_and_tests_tile_it_once(corpus, protocol, n_folds, seed):
    assume(units(corpus, protocol) >= max(n_folds, 3))
    folds = corpus.folds(protocol, n_folds, seed)
    assert len(folds) == n_folds
    for fold in folds:
        assert sorted(np.concatenate(parts(fold))) == list(range(len(corpus)))
        assert all(len(part) for part in parts(fold))
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(corpus)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(corpora(), st.integers(2, 5), st.integers(0, 99))
def test_no_speaker_is_in_two_parts_of_a_by_speaker_fold(corpus, n_folds, seed):
    assume(units(corpus, "by-speaker") >= max(n_folds, 3))
    speakers = corpus.utterances["speaker"].to_numpy()
    for fold in corpus.folds("by-speaker", n_folds, seed):
        train, dev, test = (set(speakers[part]) for part in parts(fold))
        assert not (train | dev) & test
        assert fold.leakage.speakers == 0
        assert not train & dev or (len(train | dev) == 1 and "one group" in fold.note)


def test_no_dialogue_is_in_two_parts_of_a_by_dialogue_fold():
    corpus = talk()
    dialogues = corpus.utterances["dialogue"].to_numpy()
    for fold in corpus.folds("by-dialogue", 4, 0):
        owners = [set(dialogues[part]) for part in parts(fold)]
        assert sum(map(len, owners)) == len(set(dialogues))


@pytest.mark.parametrize(
    ("protocol", "column", "n"), [("by-session", "session", 5), ("by-speaker", "speaker", 10)]
)
def test_as_many_folds_as_groups_leave_one_group_out_each(protocol, column, n):
    corpus = sessions()
    owners = corpus.utterances[column].to_numpy()
    left_out = [set(owners[fold.test]) for fold in corpus.folds(protocol, n, 0)]
    assert [len(groups) for groups in left_out] == [1] * n
    assert set.union(*left_out) == set(owners)


@pytest.mark.parametrize("protocol", ["random", *GROUPED])
def test_the_same_seed_gives_the_same_folds_and_another_seed_others(protocol):
    def rows(seed: int) -> list[list[int]]:
        return [part.tolist() for fold in talk().folds(protocol, 3, seed) for part in parts(fold)]

    assert rows(7) == rows(7)
    assert rows(7) != rows(8)


def test_random_folds_keep_the_shares_of_the_classes():
    labels = [0] * 60 + [1] * 30 + [2] * 10
    for fold in corpus_of(labels).folds("random", 5, 0):
        assert np.bincount(np.array(labels)[fold.test]).tolist() == [12, 6, 2]


def test_the_dev_part_is_an_eighth_of_what_is_not_test():
    for fold in corpus_of([0, 1] * 50).folds("random", 5, 0):
        assert len(fold.dev) == len(np.r_[fold.train, fold.dev]) / 8


def test_a_class_too_rare_to_spread_is_no_obstacle():
    folds = corpus_of([0] * 20 + [1] * 20 + [2]).folds("random", 5, 0)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(41))


def test_as_many_folds_as_speakers_leave_one_out():
    corpus = talk(speakers=6)
    for fold in corpus.folds("by-speaker", 6, 0):
        assert corpus.utterances["speaker"][fold.test].nunique() == 1


def test_two_speakers_leave_one_to_learn_from_and_the_fold_says_so():
    corpus = corpus_of([0, 1] * 10, speaker=["x"] * 10 + ["y"] * 10)
    for fold in corpus.folds("by-speaker", 2, 0):
        assert "one group" in fold.note
        assert fold.leakage.speakers == 0
        assert len(fold.dev)


# -- published splits ------------------------------------------------------------------------------


def test_a_published_split_is_taken_as_it_is():
    split = ["train"] * 6 + ["dev"] * 2 + ["test"] * 4
    (fold,) = corpus_of([0, 1] * 6, split=split).folds("published", n_folds=5)
    assert [part.tolist() for part in parts(fold)] == [[*range(6)], [6, 7], [*range(8, 12)]]
    assert fold.n_folds == 1


def test_utterances_in_no_published_part_are_in_none():
    split = ["train"] * 6 + ["dev"] * 2 + ["test"] * 3 + [""]
    (fold,) = corpus_of([0, 1] * 6, split=split).folds("published")
    assert 11 not in np.concatenate(parts(fold))


def test_a_dev_part_that_was_not_published_is_carved_from_train():
    split = ["train"] * 40 + ["test"] * 20
    dialogue = [f"d{i // 4}" for i in range(60)]
    corpus = corpus_of([0, 1] * 30, split=split, dialogue=dialogue)
    (fold,) = corpus.folds("published", seed=3)
    assert fold.test.tolist() == list(range(40, 60))
    assert sorted(np.r_[fold.train, fold.dev]) == list(range(40))
    assert not {dialogue[i] for i in fold.dev} & {dialogue[i] for i in fold.train}
    assert "no dev part was published" in fold.note


def test_published_folds_are_taken_as_they_are():
    folds = {"fold01": ["train", "train", "dev", "test"], "fold02": ["test", "dev", "train", ""]}
    first, second = corpus_of([0, 1, 0, 1], published=folds).folds("published")
    assert [part.tolist() for part in parts(first)] == [[0, 1], [2], [3]]
    assert [part.tolist() for part in parts(second)] == [[2], [1], [0]]
    assert (first.n_folds, second.index) == (2, 1)


# -- leakage ---------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10_000))
def test_leakage_is_what_a_slow_count_finds(seed):
    rng = np.random.default_rng(seed)
    n = 30
    columns = {
        "speaker": [f"s{i}" for i in rng.integers(8, size=n)],
        "dialogue": [f"d{i}" if i else "" for i in rng.integers(60, size=n)],  # "" = not known
        "text": [f"words {i}" for i in rng.integers(20, size=n)],
    }
    corpus = corpus_of(rng.integers(3, size=n).tolist(), distinct=False, **columns)
    learn, test = np.split(rng.permutation(n), [20])
    leakage = measure_leakage(corpus, learn, test)

    def shared(column: str) -> int:
        values = {v for v in columns[column] if v}
        return sum(
            any(columns[column][i] == v for i in learn)
            and any(columns[column][i] == v for i in test)
            for v in values
        )

    assert leakage.speakers == shared("speaker")
    unsure = not all(columns["dialogue"])
    assert leakage.dialogues == (None if unsure else shared("dialogue"))
    assert leakage.transcripts == shared("text")
    audio = corpus.features["audio"]
    same = [any(np.array_equal(audio[i], audio[j]) for j in learn) for i in test]
    assert leakage.duplicates == sum(same)


def test_the_dev_part_counts_as_learning():
    split = ["train", "train", "dev", "test"]
    corpus = corpus_of([0, 1, 0, 1], split=split, speaker=["a", "b", "c", "c"])
    assert corpus.folds("published")[0].leakage.speakers == 1


def test_what_the_corpus_does_not_say_cannot_be_known():
    leakage = corpus_of([0, 1, 2] * 5, speaker=[np.nan] * 15).folds("random", 3, 0)[0].leakage
    assert (leakage.speakers, leakage.dialogues, leakage.transcripts) == (None, None, None)
    assert "cannot be known: speakers, dialogues, transcripts" in leakage.sentence()
    assert "0 duplicated utterances" in leakage.sentence()


def test_random_folds_leak_speakers_and_by_speaker_folds_do_not():
    corpus = talk()
    assert corpus.folds("random", 3, 0)[0].leakage.speakers == 6
    sentence = corpus.folds("by-speaker", 3, 0)[0].leakage.sentence()
    assert sentence.startswith("the learning part (train and dev) and test share 0 speakers")


def test_one_duplicate_in_the_last_fold_is_seen_in_the_worst_of_all():
    """An utterance that is listed twice under two names, as in a release that was merged."""
    corpus = corpus_of([0, 1, 0, 1] * 5, speaker=[f"s{i % 5}" for i in range(20)])
    folds = corpus.folds("random", 4, 0)
    twice = int(folds[-1].test[0]), int(folds[-1].train[0])
    frames = [corpus.features["audio"][twice[0] if i == twice[1] else i] for i in range(20)]
    copied = replace(corpus, features={"audio": Ragged.from_list(frames, frames[0].shape[1])})
    counts = [fold.leakage.duplicates for fold in copied.folds("random", 4, 0)]
    assert counts[-1] == 1
    assert worst_leakage(copied.folds("random", 4, 0)).duplicates == 1
    assert worst_leakage(folds).duplicates == 0
    assert worst_leakage(folds).speakers == max(fold.leakage.speakers for fold in folds)


def test_what_one_fold_cannot_know_is_not_known_of_all():
    folds = corpus_of([0, 1] * 6, speaker=[*("abc" * 3), "", "b", "c"]).folds("random", 3, 0)
    assert worst_leakage(folds).speakers is None


def test_what_is_blank_outside_of_learning_and_test_does_not_matter():
    corpus = corpus_of([0, 1] * 4, speaker=["x", "y", "x", "z", "x", "y", "z", None])
    learn, test = np.arange(4), np.arange(4, 7)
    assert measure_leakage(corpus, learn, test).speakers == 3
    assert measure_leakage(corpus, learn, np.r_[test, 7]).speakers is None


# -- what the training part lacks ------------------------------------------------------------------


def with_text(lengths: list[int], **columns: object) -> Corpus:
    corpus = corpus_of([0, 1] * (len(lengths) // 2), **columns)
    text = Ragged.from_list([np.ones((n, 2)) for n in lengths], 2)
    return replace(corpus, features={**corpus.features, "text": text})


UNTRAINED = (
    "no utterance of the training part has text: what a model makes of it in dev and test is "
    "untrained"
)


def test_a_fold_says_which_modality_its_training_part_never_shows():
    split = ["train"] * 4 + ["dev"] * 2 + ["test"] * 2
    (fold,) = with_text([0] * 4 + [3] * 4, split=split).folds("published")
    assert fold.note == UNTRAINED
    (fold,) = with_text([0] * 3 + [3] * 5, split=split).folds("published")
    assert fold.note == ""


def test_both_notes_of_a_fold_are_kept():
    (fold,) = with_text([0] * 6 + [3] * 2, split=["train"] * 6 + ["test"] * 2).folds("published")
    assert fold.note == f"no dev part was published: drawn from train; {UNTRAINED}"


# -- what is refused -------------------------------------------------------------------------------


def test_an_unknown_protocol_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'by-speaker'"):
        talk().folds("by-speakers")


@pytest.mark.parametrize("protocol", [p for p in PROTOCOLS if p != "published"])
@pytest.mark.parametrize("n_folds", [1, 0, -3])
def test_fewer_than_two_folds_are_refused(protocol, n_folds):
    with pytest.raises(InputError, match="at least 2"):
        talk().folds(protocol, n_folds)


def test_more_folds_than_speakers_are_refused_with_both_numbers():
    with pytest.raises(InputError, match=r"7 folds asked for, .* only 6 speakers"):
        talk(speakers=6).folds("by-speaker", 7)


def test_more_folds_than_utterances_are_refused():
    with pytest.raises(InputError, match="only 4 utterances"):
        corpus_of([0, 1, 0, 1]).folds("random", 5)


@pytest.mark.parametrize("column", ["speaker", "dialogue"])
def test_groups_that_the_corpus_lacks_are_refused(column):
    with pytest.raises(InputError, match=f"no {column} column"):
        corpus_of([0, 1] * 6).folds(f"by-{column}", 2)


@pytest.mark.parametrize("blank", [None, "", "  "])
def test_blank_cells_are_no_group_of_their_own(blank):
    corpus = corpus_of([0, 1] * 6, speaker=["x", "y", "z"] * 3 + [blank] * 3)
    with pytest.raises(InputError, match="the speaker of 3 of 12 utterances is blank"):
        corpus.folds("by-speaker", 2)
    assert possible_protocols(corpus) == ["random"]
    leakage = corpus.folds("random", 2)[0].leakage
    assert leakage.speakers is None
    assert "cannot be known: speakers" in leakage.sentence()


def test_blank_cells_do_not_forbid_a_published_split():
    split = ["train"] * 4 + ["dev"] * 2 + ["test"] * 2
    corpus = corpus_of([0, 1] * 4, split=split, speaker=["x"] * 4 + [None] * 4)
    (fold,) = corpus.folds("published")
    assert (len(fold.train), len(fold.test), fold.leakage.speakers) == (4, 2, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_folds": "5"}, "n_folds='5': a whole number of at least 2 expected"),
        ({"n_folds": 2.5}, "n_folds=2.5: a whole number"),
        ({"n_folds": None}, "n_folds=None: a whole number"),
        ({"seed": "1"}, "seed of the folds='1': a whole number of 0 .. 4294967295 expected"),
        ({"seed": 0.5}, "seed of the folds=0.5"),
        ({"seed": 2**32}, "seed of the folds=4294967296"),
    ],
)
def test_numbers_that_are_not_whole_are_refused(given, message):
    with pytest.raises(InputError, match=re.escape(message)):
        talk().folds("random", **given)


def test_whole_numbers_of_numpy_are_whole_numbers():
    plain = talk().folds("random", 3, 7)
    for fold, same in zip(talk().folds("random", np.int64(3), np.uint32(7)), plain, strict=True):
        assert fold.test.tolist() == same.test.tolist()
        assert type(fold.seed) is int


def test_a_published_protocol_needs_a_published_split():
    with pytest.raises(InputError, match="no published split"):
        talk().folds("published")


@pytest.mark.parametrize("missing", PARTS)
def test_a_part_with_no_utterance_is_refused_by_name(missing):
    other = "train" if missing != "train" else "test"
    cells = [part if part != missing else other for part in PARTS]
    corpus = corpus_of([0, 1, 0], published={"fold01": cells})
    with pytest.raises(InputError, match=f"the {missing} part of fold 0"):
        corpus.folds("published")


def test_folds_that_are_asked_for_again_are_those_that_were_drawn():
    corpus = talk()
    first = corpus.folds("by-speaker", 3, 1)
    assert all(a is b for a, b in zip(corpus.folds("by-speaker", 3, 1), first, strict=True))
    others = [("by-speaker", 3, 2), ("by-speaker", 4, 1), ("random", 3, 1)]
    for asked in others:
        assert corpus.folds(*asked)[0] is not first[0]
    corpus.folds("by-speaker", 3, 1).pop()
    assert len(corpus.folds("by-speaker", 3, 1)) == 3


def test_what_is_refused_is_refused_after_folds_were_drawn():
    corpus = talk()
    corpus.folds("by-speaker", 3)
    with pytest.raises(InputError):
        corpus.folds("by-speaker", 3.0)
