"""Nobody fooled: what is not known before the end decides nothing, and the same is the same.

Every test here compares runs bit by bit: a run whose test part is poisoned, shifted, scaled or
longer with the same run untouched; a run after whatever else was done with one in a new process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small import SIZES, learnable_corpus

from mmer_lib import metrics, sweep
from mmer_lib.corpora import Corpus, Fold, Ragged
from mmer_lib.corpora.batches import Scaler
from mmer_lib.corpora.manifest import manifest
from mmer_lib.corpora.media import Extraction
from mmer_lib.features.base import Clip
from mmer_lib.features.text import Hashed, WordVectors
from mmer_lib.store import ResultStore
from mmer_lib.sweep import Plan, Run, execute, make_parts
from mmer_lib.train import TrainConfig

ROOT = Path(sweep.__file__).parents[1]
TRAIN = TrainConfig(epochs=5, patience=2, batch_size=8, lr=1e-2, lr_patience=0)
LOSSES = "contrastive=0.2,supcon=0.2,missing_view=0.3"
CASES: dict[str, tuple[str, dict[str, Any]]] = {  # a configuration, and what is set in training
    "self": ("self-AVT", {}),
    "cross": ("cross-AVT", {}),
    "cross, released": ("cross-AVT@released", {}),
    "self, released": ("self-AT@released", {}),
    "lengths sorted": ("cross-AT", {"pool": 4}),
    "selected by loss": ("self-AT", {"select": "loss"}),
    "more losses": ("cross-AVT", {"losses": LOSSES}),
    "another asks": ("cross-AT,query=shuffled", {}),
    "test scored": ("cross-AT", {"score_test": True}),
    "test scored, released": ("cross-AT@released", {"score_test": True, "select": "loss"}),
    "bfloat16": ("self-AT", {"amp": True}),
}
each_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Of sources that were padded to a length known beforehand, as the released features are."""
    made = learnable_corpus(48, seed=3, missing=0.1)
    padded = {m: {**made.recipe.get(m, {}), "padded_length": 9} for m in made.modalities}
    return replace(made, recipe=padded)


def one_run(corpus: Corpus, case: str) -> Run:
    name, settings = CASES[case]
    train = replace(TRAIN, **settings)
    return Plan(corpus, (name,), "random", 4, 1, train=train, model=SIZES).runs()[0]


@pytest.fixture(scope="module")
def clean(corpus, tmp_path_factory) -> Callable[[str], tuple[Run, ResultStore]]:
    """Every case, run once on the corpus as it is."""
    store = ResultStore(tmp_path_factory.mktemp("clean") / "store")

    def get(case: str) -> tuple[Run, ResultStore]:
        run = one_run(corpus, case)
        if run.key not in store:
            execute(run, corpus, store)
        return run, store

    return get


def with_test_frames(
    corpus: Corpus, fold: Fold, change: Callable[[np.ndarray], np.ndarray], labels: bool = False
) -> Corpus:
    """The corpus with other frames in the test part of a fold; and with one label there."""
    rows = set(fold.test.tolist())
    features = {
        m: Ragged.from_list(
            [change(x) if i in rows else np.asarray(x) for i, x in enumerate(ragged)],
            ragged.width,
        )
        for m, ragged in corpus.features.items()
    }
    table = corpus.utterances.copy()
    if labels:
        table.loc[fold.test, "label"] = 0
    return replace(corpus, features=features, utterances=table)


def assert_same_training(key: str, one: ResultStore, other: ResultStore, called: str = "") -> None:
    """Weights, history and what is said of the development part, bit by bit.

    ``called``: the key of the run in the other store, if it was planned on another corpus.
    """
    second_key = called or key
    weights, others = one.weights(key), other.weights(second_key)
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        assert weight.tobytes() == others[name].tobytes(), name
    first, second = (
        s.history(k).drop(columns=["seconds", "test_accuracy"], errors="ignore")
        for s, k in ((one, key), (other, second_key))
    )
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    for name, value in vars(one.predictions(key, "dev")).items():
        np.testing.assert_array_equal(value, getattr(other.predictions(second_key, "dev"), name))
    for column in ("best_epoch", "epochs", "dev_accuracy", "diverged", "parameters"):
        assert one.run(key)["row"][column] == other.run(second_key)["row"][column], column


def plan_and_execute(corpus: Corpus, case: str, store: ResultStore) -> str:
    """As a sweep on another corpus: planned on it, too. The key of its run."""
    run = one_run(corpus, case)
    return execute(run, corpus, store)


def probabilities_of(key: str, store: ResultStore) -> np.ndarray:
    """The probabilities of the test part."""
    return store.predictions(key, "test").probabilities


# -- the test part ---------------------------------------------------------------------------------


@each_case
def test_a_poisoned_test_part_changes_no_bit_of_training(
    case, corpus, clean, tmp_path, monkeypatch
):
    """Its frames are not numbers, its labels are wrong: whatever reads them shows it."""
    run, store = clean(case)
    poisoned = with_test_frames(corpus, run.fold, lambda x: np.full_like(x, np.nan), labels=True)
    monkeypatch.setattr(metrics, "scores", lambda labels, probabilities: {})  # of what is no number
    other = ResultStore(tmp_path / "store")
    execute(run, poisoned, other)
    assert_same_training(run.key, store, other)
    there = np.array([any(len(corpus.features[m][i]) for m in run.config.modalities)
                      for i in run.fold.test])  # fmt: skip
    assert there.any()
    assert np.isnan(probabilities_of(run.key, other)[there]).all(), "it was read in the end"
    if run.train.score_test:
        was, is_now = (s.history(run.key)["test_accuracy"].to_numpy() for s in (store, other))
        assert (was < 1).all()
        assert (is_now == 1).all(), "shown after each epoch: the first class is the largest NaN"


@each_case
def test_a_shifted_test_part_changes_its_own_scores_alone(case, corpus, clean, tmp_path):
    run, store = clean(case)
    moved = with_test_frames(corpus, run.fold, lambda x: 50 - 7 * np.asarray(x))
    other = ResultStore(tmp_path / "store")
    key = plan_and_execute(moved, case, other)
    assert_same_training(run.key, store, other, key)
    assert not np.array_equal(probabilities_of(run.key, store), probabilities_of(key, other))


def longer(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, 3 + x, 5 - x, 2 * x])


@pytest.mark.parametrize("case", [c for c, (name, _) in CASES.items() if "@" not in name])
def test_longer_test_utterances_change_no_bit_of_training(case, tmp_path):
    """Where padding is masked. What is not masked is padded to a length of the whole corpus."""
    plain = learnable_corpus(48, seed=3, missing=0.1)
    grown = with_test_frames(plain, one_run(plain, case).fold, longer)
    assert any(grown.features[m].lengths.max() > x.lengths.max() for m, x in plain.features.items())
    one, other = ResultStore(tmp_path / "plain"), ResultStore(tmp_path / "grown")
    key, grown_key = plan_and_execute(plain, case, one), plan_and_execute(grown, case, other)
    assert_same_training(key, one, other, grown_key)
    assert not np.array_equal(probabilities_of(key, one), probabilities_of(grown_key, other))


@pytest.mark.parametrize("case", [c for c, (name, _) in CASES.items() if "@" in name])
def test_released_padding_cuts_longer_test_utterances_where_the_source_was_padded(
    case, corpus, clean, tmp_path
):
    run, store = clean(case)
    other = ResultStore(tmp_path / "store")
    key = plan_and_execute(with_test_frames(corpus, run.fold, longer), case, other)
    assert_same_training(run.key, store, other, key)


class Touched(AssertionError):
    """A frame of the test part was read too early."""


class Guard:
    """Minds frames of the test part, until it is told that training is over."""

    def __init__(self, corpus: Corpus, fold: Fold) -> None:
        self.over, self.reads = False, 0
        self.corpus = replace(corpus, features={
            m: Ragged(self._guarded(ragged, fold), ragged.offsets)
            for m, ragged in corpus.features.items()
        })  # fmt: skip

    def _guarded(self, ragged: Ragged, fold: Fold) -> np.ndarray:
        values = np.array(ragged.values).view(Guarded)
        values.secret = np.zeros(len(values), bool)
        for i in fold.test:
            values.secret[ragged.offsets[i] : ragged.offsets[i + 1]] = True
        values.guard = self
        return values

    def read(self, secret: np.ndarray) -> None:
        if secret.any():
            self.reads += 1
            if not self.over:
                raise Touched


class Guarded(np.ndarray):
    """Frames that tell their guard which of them are read, in whatever way."""

    secret: np.ndarray
    guard: Guard

    def __getitem__(self, index):
        rows = index[0] if isinstance(index, tuple) else index
        self.guard.read(self.secret[rows])
        return self.view(np.ndarray)[index]

    def __array_function__(self, function, types, args, kwargs):
        self.guard.read(self.secret)
        return super().__array_function__(function, types, args, kwargs)

    def __array_ufunc__(self, *args, **kwargs):
        self.guard.read(self.secret)
        return NotImplemented


@each_case
def test_frames_of_the_test_part_are_read_when_training_is_over_and_not_before(
    case, corpus, tmp_path, monkeypatch
):
    run = one_run(corpus, case)
    guard = Guard(corpus, run.fold)
    real = sweep.fit

    def fit_then_open(*given: Any) -> Any:
        fitted = real(*given)
        assert guard.reads == 0
        guard.over = True
        return fitted

    monkeypatch.setattr(sweep, "fit", fit_then_open)
    store = ResultStore(tmp_path / "store")
    if run.train.score_test:
        with pytest.raises(Touched):
            execute(run, guard.corpus, store)
        assert store.keys() == []
        return
    execute(run, guard.corpus, store)
    assert guard.over
    assert guard.reads > 0


# -- what is fitted --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cross-AVT", "cross-AVT@released", "self-AV,scale=all"])
@pytest.mark.parametrize("part", ["dev", "test"])
def test_the_scaler_knows_the_training_part_alone(corpus, name, part):
    plan = Plan(corpus, (name,), "random", 4, 1, model=SIZES)
    run = plan.runs()[0]
    moved = {"dev": replace(run.fold, test=run.fold.dev), "test": run.fold}[part]
    other = with_test_frames(corpus, moved, lambda x: 1e3 * np.asarray(x) + 5)
    one, two = (make_parts(run.config, run.fold, c)["train"].scaler for c in (corpus, other))
    assert one.mean.keys() == set(run.config.scaled)
    for m in run.config.scaled:
        assert one.mean[m].tobytes() == two.mean[m].tobytes()
        assert one.std[m].tobytes() == two.std[m].tobytes()
        everything = Scaler.fit(other, np.arange(len(corpus)), (m,))
        assert not np.allclose(one.mean[m], everything.mean[m]), "rows matter here"


def test_features_of_an_utterance_know_no_other_utterance(tmp_path):
    """No table of words, no scale and no filler is made of a corpus: more of it changes nothing."""
    (tmp_path / "vectors.txt").write_text("good 1 2\nday 3 4\nnew 5 6\nwords 7 8\n")
    old, new = ["good day", "good unheard of day"], ["new words", "quite other words here"]
    for extractor in (Hashed(), WordVectors(source=str(tmp_path / "vectors.txt"))):
        alone = tracks(extractor, old)
        before, behind = tracks(extractor, old + new)[:2], tracks(extractor, new + old)[2:]
        for a, b, c in zip(alone, before, behind, strict=True):
            assert a.tobytes() == b.tobytes() == c.tobytes()


def tracks(extractor: Any, texts: list[str]) -> list[np.ndarray]:
    return [t.values for t in extractor.encode([extractor.read(Clip(words=t)) for t in texts])]


def test_a_corpus_that_grows_keeps_the_frames_that_it_had(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    rng = np.random.default_rng(0)
    for i in range(6):
        loud = 0.05 * (1 + 3 * (i > 3))
        soundfile.write(tmp_path / f"{i}.wav", loud * rng.standard_normal(8000), 16000)
    made = []
    for n in (4, 6):
        rows = [f"u{i},{'ab'[i % 2]},{i}.wav,say {'abcdef'[i]}" for i in range(n)]
        (tmp_path / f"{n}.csv").write_text("id,label,audio,text\n" + "\n".join(rows) + "\n")
        extraction = Extraction(cache=str(tmp_path / f"cache{n}"))
        made.append(manifest(tmp_path / f"{n}.csv", tmp_path / f"corpus{n}", extraction))
    small, large = made
    for m in small.modalities:
        for i in range(4):
            assert small.features[m][i].tobytes() == large.features[m][i].tobytes()


# -- the same is the same --------------------------------------------------------------------------

SAME = ("cross", "cross, released", "more losses")


def disturb(corpus: Corpus) -> None:
    """Whatever may have run before in a process."""
    torch.manual_seed(99)
    torch.rand(1000)
    np.random.seed(5)  # noqa: NPY002  the state that nobody should read
    torch.set_num_threads(2)
    model = sweep.build_model(one_run(corpus, "another asks").config, 7)
    parts = make_parts(model.config, corpus.folds("random", 3, 8)[1], corpus)
    sweep.fit(model, parts["train"], parts["dev"], replace(TRAIN, epochs=1), 8)


def test_order_and_what_ran_before_change_no_bit(corpus, clean, tmp_path):
    threads = torch.get_num_threads()
    other = ResultStore(tmp_path / "store")
    try:
        for case in reversed(SAME):
            run, store = clean(case)
            disturb(corpus)
            execute(run, corpus, other)
            assert_same_training(run.key, store, other)
            np.testing.assert_array_equal(*(probabilities_of(run.key, s) for s in (store, other)))
    finally:
        torch.set_num_threads(threads)


def test_a_process_of_its_own_with_other_threads_and_hashes_changes_no_bit(corpus, clean, tmp_path):
    corpus.save(tmp_path / "corpus")
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from test_blindness import *\n"
        "from mmer_lib.corpora import load_corpus\n"
        "from mmer_lib.workers import as_finished\n"
        "corpus = load_corpus(sys.argv[1] + '/corpus')\n"
        "print(torch.get_num_threads())\n"
        "store = ResultStore(sys.argv[1] + '/s')\n"
        "for case in SAME: execute(one_run(corpus, case), corpus, store)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "12345"}
    env |= {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2\n", "it had two threads outside of runs"
    for case in SAME:
        run, store = clean(case)
        other = ResultStore(tmp_path / "s")
        assert_same_training(run.key, store, other)
        np.testing.assert_array_equal(*(probabilities_of(run.key, s) for s in (store, other)))


def test_two_jobs_in_another_order_change_no_bit(corpus, clean, tmp_path):
    other = ResultStore(tmp_path / "store")
    for case in SAME[:2]:
        name, _ = CASES[case]
        plan = Plan(corpus, ("self-T", name), "random", 4, 2, train=TRAIN, model=SIZES)
        sweep.run_plan(plan, other, jobs=2, name=f"plan-{SAME.index(case)}")
        run, store = clean(case)
        assert_same_training(run.key, store, other)
        np.testing.assert_array_equal(*(probabilities_of(run.key, s) for s in (store, other)))
