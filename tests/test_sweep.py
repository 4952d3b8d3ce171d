"""Plans and runs: nothing is computed twice, and the numbers depend on the run alone."""

from __future__ import annotations

import os
import pickle
import re
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields, replace
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small import SIZES, learnable_corpus

from mmer_lib import metrics, sweep
from mmer_lib.corpora import Corpus, Ragged, load_corpus
from mmer_lib.corpora.shared import SharedCorpus, share
from mmer_lib.errors import InputError
from mmer_lib.integrity import spec_key
from mmer_lib.model import parse_configuration
from mmer_lib.store import ResultStore
from mmer_lib.sweep import Plan, estimate_cost, in_working_order, restore, run_plan
from mmer_lib.train import TrainConfig, predict

TRAIN = TrainConfig(epochs=2, batch_size=16, lr=1e-2)
NAMES = ("self-T", "cross-AT@released")


def make_plan(corpus: Corpus, **changed: Any) -> Plan:
    given = {"configurations": NAMES, "n_folds": 2, "seeds": 1, "train": TRAIN, "model": SIZES}
    return Plan(corpus, **{**given, **changed})


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return learnable_corpus(36, seed=2, missing=0.1)


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory) -> tuple[ResultStore, pd.DataFrame]:
    """Two configurations on two folds, run once for all tests that only read."""
    store = ResultStore(tmp_path_factory.mktemp("finished") / "store")
    return store, run_plan(make_plan(corpus), store)


def keys(plan: Plan) -> list[str]:
    return [run.key for run in plan.runs()]


def changed_frames(corpus: Corpus) -> Corpus:
    """One number of one modality is another."""
    text = corpus.features["text"]
    values = text.values.copy()
    values[0, 0] += 1e-3
    return replace(corpus, features={**corpus.features, "text": Ragged(values, text.offsets)})


# What is run


def test_a_plan_is_every_configuration_on_every_fold_with_every_seed(corpus):
    runs = make_plan(corpus, seeds=3).runs()
    cells = [(run.fold.index, run.config.name, run.seed) for run in runs]
    assert cells == [(f, c, s) for f in range(2) for c in NAMES for s in range(3)]
    assert len({run.key for run in runs}) == 12
    assert len({run.study for run in runs}) == 1


def test_folds_that_are_drawn_otherwise_make_another_study(corpus, monkeypatch):
    """As by another version of scikit-learn: runs of both are not to be compared."""
    plan = make_plan(corpus)
    folds = corpus.folds(plan.protocol, plan.n_folds, plan.fold_seed)
    ours = {run.study for run in plan.runs()}
    moved = [replace(fold, dev=fold.test, test=fold.dev) for fold in folds]
    monkeypatch.setattr(type(corpus), "folds", lambda *_: moved)
    theirs = {run.study for run in plan.runs()}
    assert len(ours) == len(theirs) == 1
    assert ours != theirs


def test_finished_runs_are_never_run_again(corpus, finished, monkeypatch):
    store, table = finished

    def refuse(*_args: Any) -> str:
        raise AssertionError("a finished run was run again")

    monkeypatch.setattr(sweep, "execute", refuse)
    pd.testing.assert_frame_equal(run_plan(make_plan(corpus), store), table)


def test_a_plan_that_was_cut_short_goes_on_where_it_stopped(corpus, tmp_path, monkeypatch):
    store, executed = ResultStore(tmp_path), []
    plan, real = make_plan(corpus, train=replace(TRAIN, epochs=1)), sweep.execute

    def interrupted(run: Any, *rest: Any) -> str:
        if len(executed) == 2:
            raise KeyboardInterrupt
        executed.append(run.key)
        return real(run, *rest)

    monkeypatch.setattr(sweep, "execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, store)
    assert store.keys() == sorted(executed) == sorted(keys(plan)[:2])
    monkeypatch.setattr(
        sweep, "execute", lambda run, *rest: executed.append(run.key) or real(run, *rest)
    )
    assert len(run_plan(plan, store)) == 4
    assert executed == keys(plan)


def elsewhere(monkeypatch: Any, do: Callable[[], Any]) -> list[str]:
    """Let something be done while others are waited for; returns what is executed here."""
    executed, real, waited = [], sweep.execute, []

    def wait(_seconds: float) -> None:
        waited.append(1)
        assert len(waited) == 1
        do()

    def execute(run: Any, *rest: Any) -> str:
        executed.append(run.key)
        return real(run, *rest)

    monkeypatch.setattr(sweep, "sleep", wait)
    monkeypatch.setattr(sweep, "execute", execute)
    return executed


def test_a_run_that_another_process_is_at_is_waited_for(corpus, finished, tmp_path, monkeypatch):
    store, plan = ResultStore(tmp_path), make_plan(corpus)
    first, *others = plan.runs()
    with ExitStack() as another:
        assert another.enter_context(store.claim(first.key))

        def finish() -> None:
            shutil.copytree(finished[0].path / first.key, tmp_path / first.key)
            another.close()

        executed = elsewhere(monkeypatch, finish)
        table = run_plan(plan, store)
    assert executed == [run.key for run in others]
    assert table["key"].tolist() == keys(plan)


def test_a_run_whose_process_has_died_is_taken_over(corpus, tmp_path, monkeypatch):
    store, plan = ResultStore(tmp_path), make_plan(corpus)
    first, *others = plan.runs()
    with ExitStack() as another:
        assert another.enter_context(store.claim(first.key))
        executed = elsewhere(monkeypatch, another.close)
        run_plan(plan, store)
    assert executed == [run.key for run in (*others, first)]
    assert list((tmp_path / "claims").iterdir()) == []


def test_a_run_that_another_process_has_finished_meanwhile_is_not_executed(
    corpus, finished, tmp_path, monkeypatch
):
    store, plan = ResultStore(tmp_path), make_plan(corpus)
    executed, real = [], sweep.execute

    def execute(run: Any, *rest: Any) -> str:
        executed.append(run.key)
        for key in keys(plan)[1:]:  # all others are done elsewhere
            shutil.copytree(finished[0].path / key, tmp_path / key)
        return real(run, *rest)

    monkeypatch.setattr(sweep, "execute", execute)
    assert run_plan(plan, store)["key"].tolist() == keys(plan)
    assert executed == keys(plan)[:1]


def test_more_seeds_add_runs_and_repeat_none(corpus):
    few, many = keys(make_plan(corpus, seeds=1)), keys(make_plan(corpus, seeds=2))
    assert set(few) < set(many)


# What decides the numbers


def test_the_key_changes_with_everything_that_decides_the_numbers(corpus):
    turned = corpus.utterances.assign(speaker=corpus.utterances["speaker"].to_numpy()[::-1])
    variants: dict[str, dict[str, Any]] = {
        "as it is": {},
        "protocol": {"protocol": "by-speaker"},
        "n_folds": {"n_folds": 3},
        "fold_seed": {"fold_seed": 1},
        "width": {"model": {**SIZES, "width": 24}},
        "hidden": {"model": {**SIZES, "hidden": 6}},
        "dropout": {"model": {**SIZES, "attention_dropout": 0.2}},
        "frames": {"corpus": changed_frames(corpus)},
        "speakers": {"corpus": replace(corpus, utterances=turned)},
    }
    other = {
        "epochs": 3, "patience": 3, "lr": 0.1, "lr_patience": 3, "lr_factor": 0.5,
        "batch_size": 3, "select": "loss", "score_test": True, "losses": "supcon=0.1",
        "device": "cuda", "pool": 2, "compile": True, "amp": True,
    }  # fmt: skip
    assert set(other) == {f.name for f in fields(TrainConfig)}
    variants |= {k: {"train": replace(TRAIN, **{k: value})} for k, value in other.items()}
    variants["amp"]["configurations"] = NAMES[:1]  # the released one computes in float64
    found = {}
    for what, change in variants.items():
        found[what] = set(keys(make_plan(change.pop("corpus", corpus), **change)))
    for (one, its), (another, others) in combinations(found.items(), 2):
        assert not its & others, f"{one} and {another} share a key"


def test_the_key_changes_with_the_meaning_of_a_run(corpus, monkeypatch):
    before = keys(make_plan(corpus))
    monkeypatch.setattr(sweep, "SEMANTICS", sweep.SEMANTICS + 1)
    assert not set(before) & set(keys(make_plan(corpus)))


def test_the_key_can_be_made_again_from_what_the_run_keeps(corpus, finished):
    for run in make_plan(corpus).runs():
        assert spec_key(finished[0].run(run.key)["specification"]) == run.key


def test_the_key_does_not_change_with_what_decides_no_number(corpus, tmp_path):
    before = keys(make_plan(corpus))
    first, second = (make_plan(corpus, train=replace(TRAIN, device=f"cuda:{i}")) for i in (0, 1))
    assert keys(first) == keys(second)  # two of a kind
    assert keys(make_plan(corpus, seeds=np.int64(1), fold_seed=np.int64(0))) == before
    assert keys(make_plan(corpus, model={k: np.int64(v) for k, v in SIZES.items()})) == before
    assert keys(make_plan(load_corpus(corpus.save(tmp_path / "corpus")))) == before
    alone = keys(make_plan(corpus, configurations=NAMES[:1]))
    assert set(alone) < set(before)  # whoever else is in the plan


def test_the_number_of_jobs_changes_no_bit(corpus, finished, tmp_path):
    alone, table = finished
    together = ResultStore(tmp_path)
    other = run_plan(make_plan(corpus), together, jobs=2)
    pd.testing.assert_frame_equal(
        other.drop(columns="seconds"), table.drop(columns="seconds"), check_exact=True
    )
    for key in table["key"]:
        for part in ("dev", "test"):
            for name, value in vars(alone.predictions(key, part)).items():
                np.testing.assert_array_equal(value, getattr(together.predictions(key, part), name))
        for name, weight in alone.weights(key).items():
            np.testing.assert_array_equal(weight, together.weights(key)[name])
        one, two = (s.history(key).drop(columns="seconds") for s in (alone, together))
        pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_workers_are_sent_where_the_corpus_lies_and_not_its_frames(corpus, tmp_path, monkeypatch):
    """What is sent does not grow with the frames; a corpus in memory is written for the time."""
    sent: list[bytes] = []

    def here(function: Any, items: list[Any], *_: Any) -> Any:
        for item in items:
            sent.append(pickle.dumps((function, item)))
            yield function(item)

    monkeypatch.setattr(sweep, "as_finished", here)
    store = ResultStore(tmp_path)
    run_plan(make_plan(corpus), store, jobs=2)
    frames = sum(ragged.values.nbytes for ragged in corpus.features.values())
    assert len(sent) == 4
    assert max(map(len, sent)) < frames / 2
    shared = pickle.loads(sent[0])[0].args[0]
    assert not shared.folder.exists()  # any more
    saved = load_corpus(corpus.save(tmp_path / "corpus"))
    with share(saved) as there:
        assert there.folder == saved.path.resolve()
    assert saved.path.is_dir()


def test_a_worker_opens_a_corpus_once_and_maps_its_frames(corpus, tmp_path):
    shared = SharedCorpus(corpus.save(tmp_path / "corpus"), corpus.fingerprint)
    opened = shared.open()
    assert SharedCorpus(shared.folder, shared.fingerprint).open() is opened
    scaled = sweep.make_parts(make_plan(opened).runs()[1].config, opened.folds()[0], opened)
    for ragged in scaled["train"].corpus.features.values():
        assert isinstance(ragged.values, np.memmap)


# In which order


def test_side_by_side_folds_stay_together_and_costly_runs_go_first(corpus):
    names = ("self-T", "cross-AVT", "self-AVT", "self-VT")
    runs = make_plan(corpus, configurations=names, seeds=2).runs()
    ordered = in_working_order(runs, corpus)
    assert sorted(run.key for run in ordered) == sorted(run.key for run in runs)
    cells = [(run.fold.index, run.config.name, run.seed) for run in ordered]
    costs = {run.config.name: estimate_cost(run.config, corpus) for run in runs}
    dear = sorted(names, key=costs.__getitem__, reverse=True)
    assert dear[-2:] == ["self-VT", "self-T"]
    assert cells == [(fold, name, seed) for fold in range(2) for name in dear for seed in range(2)]


def test_the_cost_of_a_run_is_that_of_its_steps_and_pairs(corpus):
    """By hand: T = 4, 10, 5 steps of audio, video, text in the mean; Tq Ts / 200 a pair."""
    lengths = {"audio": 4, "video": 10, "text": 5}
    features = {m: Ragged.from_list([np.zeros((t, 6))] * len(corpus), 6)
                for m, t in lengths.items()}  # fmt: skip
    even = replace(corpus, features=features, events=None)
    by_hand = {
        "self-T": 5 + 25 / 200,
        "self-AVT": 19 + (16 + 100 + 25) / 200,
        "cross-AT": 9 + (20 + 20) / 200,
        "cross-AVT": 19 + 2 * (40 + 20 + 50) / 200,
        "mbt-AVT": 19 + 19**2 / 200,  # a fusion that names no pairs
    }
    for name, expected in by_hand.items():
        config = parse_configuration(name, **SIZES).for_corpus(even)
        assert estimate_cost(config, even) == pytest.approx(expected), name


def test_padding_that_is_computed_counts(corpus):
    masked, padded = (
        parse_configuration(name, **SIZES).for_corpus(corpus)
        for name in ("self-AVT", "self-AVT@released")
    )
    assert estimate_cost(padded, corpus) > estimate_cost(masked, corpus)


def test_the_threads_of_torch_are_as_before_afterwards(finished):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with sweep.one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_configurations_are_paired_by_seed_and_fold(corpus):
    seeds = {(r.fold.index, r.seed, r.config.name): sweep._seed(r)
             for r in make_plan(corpus, seeds=2).runs()}  # fmt: skip
    for fold in range(2):
        for seed in range(2):
            assert len({seeds[fold, seed, name] for name in NAMES}) == 1
    assert len(set(seeds.values())) == 4


def test_a_worker_notices_that_the_corpus_folder_holds_another_corpus(corpus, tmp_path):
    folder = corpus.save(tmp_path / "corpus")
    assert SharedCorpus(folder, corpus.fingerprint).open().path == folder
    with pytest.raises(InputError, match=f"not {'0' * 16} as planned: load it again"):
        SharedCorpus(folder, "0" * 16).open()


# What is kept


def test_predictions_are_kept_for_every_utterance_of_the_fold(corpus, finished):
    store, table = finished
    ids = corpus.utterances["id"].to_numpy()
    for run in make_plan(corpus).runs():
        for part in ("dev", "test"):
            rows = getattr(run.fold, part)
            kept = store.predictions(run.key, part)
            assert kept.ids.tolist() == ids[rows].tolist()
            assert kept.labels.tolist() == corpus.labels[rows].tolist()
            assert kept.probabilities.shape == (len(rows), 3)
            np.testing.assert_allclose(kept.probabilities.sum(axis=1), 1, atol=1e-5)
    own = table.query("configuration == 'self-T'")["key"]
    tested = [name for key in own for name in store.predictions(key).ids]
    assert sorted(tested) == sorted(ids)  # the test parts tile the corpus


def test_the_table_says_what_was_run_and_how_well(corpus, finished):
    store, table = finished
    for run, row in zip(make_plan(corpus).runs(), table.to_dict("records"), strict=True):
        fold = run.fold
        expected = {
            "key": run.key, "configuration": run.config.name, "fold": fold.index, "seed": 0,
            "n_train": len(fold.train), "n_dev": len(fold.dev), "n_test": len(fold.test),
            "corpus": "synthetic", "fingerprint": corpus.fingerprint, "protocol": "random",
            "n_folds": 2, "fold_seed": 0, "classes": 3, "fusion": run.config.fusion,
        }  # fmt: skip
        assert {name: row[name] for name in expected} == expected
        kept, history = store.predictions(run.key), store.history(run.key)
        for metric, value in metrics.scores(kept.labels, kept.probabilities).items():
            assert row[metric] == value
        best = history["dev_accuracy"].idxmax()
        assert (row["best_epoch"], row["epochs"]) == (history["epoch"][best], len(history))
        assert row["dev_accuracy"] == pytest.approx(history["dev_accuracy"][best])
        assert row["parameters"] == sum(w.size for w in store.weights(run.key).values())
    assert table["modalities"].tolist() == ["T", "AT", "T", "AT"]
    assert (table["seconds"] > 0).all()


def test_a_run_tells_its_settings_versions_and_leakage(corpus, finished):
    store, table = finished
    about = store.run(table["key"][1])
    assert about["specification"]["configuration"]["masks"] is False  # cross-AT@released
    assert about["specification"]["train"]["lr"] == TRAIN.lr
    assert about["provenance"]["packages"]["torch"] == version("torch")
    assert about["leakage"].startswith("the learning part (train and dev) and test share ")
    assert about["row"]["diverged"] is False


@pytest.mark.parametrize("which", [0, 1])
def test_a_restored_model_gives_the_predictions_that_were_kept(corpus, finished, which):
    store, table = finished
    key = table["key"][which]
    model, parts = restore(store, key, corpus)
    assert not model.training
    assert model.config.name == table["configuration"][which]
    for part in ("dev", "test"):
        kept, again = store.predictions(key, part), predict(model, parts[part])
        assert again.ids.tolist() == kept.ids.tolist()
        np.testing.assert_array_equal(again.probabilities, kept.probabilities)


def test_a_run_is_not_restored_on_another_corpus(corpus, finished):
    store, table = finished
    with pytest.raises(
        InputError, match=r"was trained on corpus 'synthetic' .* not on 'synthetic'"
    ):
        restore(store, table["key"][0], changed_frames(corpus))


@pytest.mark.parametrize("part", ["dev", "test"])
def test_a_run_whose_fold_is_drawn_otherwise_now_is_not_restored(
    corpus, finished, monkeypatch, part
):
    store, table = finished
    real = Corpus.folds

    def turned(self: Corpus, *args: Any) -> list[Any]:
        return [replace(f, **{part: getattr(f, part)[::-1]}) for f in real(self, *args)]

    monkeypatch.setattr(Corpus, "folds", turned)
    with pytest.raises(InputError, match=f"had other utterances in {part} than fold 0 has here"):
        restore(store, table["key"][0], corpus)


def test_a_run_that_diverged_is_marked_in_the_table(corpus, tmp_path, monkeypatch):
    real = sweep.fit
    monkeypatch.setattr(sweep, "fit", lambda *args: replace(real(*args), diverged=True))
    table = run_plan(make_plan(corpus, configurations=["self-T"]), ResultStore(tmp_path))
    assert table["diverged"].tolist() == [True, True]


def test_on_cuda_only_kernels_that_give_the_same_bits_are_used_and_later_as_before(monkeypatch):
    def settings() -> tuple[bool, ...]:
        tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        filled = torch.utils.deterministic.fill_uninitialized_memory
        return (*tf32, filled, torch.are_deterministic_algorithms_enabled())

    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = settings()
    with sweep.same_bits("cpu"):
        assert settings() == before
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with sweep.same_bits("cuda:0"):
        assert settings() == (False, False, False, True)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert settings() == before


def test_scoring_the_test_part_every_epoch_only_adds_a_column(corpus, finished, tmp_path):
    store, table = finished
    watched = ResultStore(tmp_path)
    train = replace(TRAIN, score_test=True)
    run_plan(make_plan(corpus, configurations=["self-T"], train=train), watched)
    plain = table.query("configuration == 'self-T'")["key"]
    for two, one in zip(watched.to_frame()["key"], plain, strict=True):
        row, history = watched.run(two)["row"], watched.history(two)
        assert history["test_accuracy"][row["best_epoch"] - 1] == pytest.approx(row["accuracy"])
        pd.testing.assert_frame_equal(
            history.drop(columns=["test_accuracy", "seconds"]),
            store.history(one).drop(columns="seconds"),
        )
        np.testing.assert_array_equal(
            watched.predictions(two).probabilities, store.predictions(one).probabilities
        )


def test_the_store_remembers_a_plan_by_name(corpus, finished):
    store, table = finished
    pd.testing.assert_frame_equal(store.plan("sweep"), table)
    part = run_plan(make_plan(corpus, configurations=NAMES[:1]), store, name="text-alone")
    pd.testing.assert_frame_equal(store.plan("text-alone"), part)
    pd.testing.assert_frame_equal(store.plan("sweep"), table)
    assert part["configuration"].unique().tolist() == ["self-T"]


# What is refused, before the first run


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"configurations": ()}, "the plan names no configuration"),
        ({"configurations": ("self-T", "self-T")}, "the plan names 'self-T' twice"),
        ({"configurations": ("self-T", "slef-A")}, "'slef': did you mean 'self'"),
        ({"configurations": ("self-T", "cross-A")}, "needs 2 modalities or more"),
        ({"configurations": ("self-T", "self-A,heads=5")}, "cannot be split into heads=5"),
        ({"model": {"widht": 3}}, "'widht': did you mean 'width'"),
        ({"model": {"width": 9, "heads": 3}}, "width=9 must be even"),
        ({"configurations": "self-T"}, "write one name as ('self-T',)"),
        ({"configurations": None}, "configurations=None: a sequence of names expected"),
        ({"configurations": ("self-T", None)}, "None is no configuration"),
        ({"seeds": 0}, "seeds=0: a whole number of at least 1 expected"),
        ({"seeds": "3"}, "seeds='3': a whole number of at least 1 expected"),
        ({"seeds": 1.5}, "seeds=1.5: a whole number of at least 1 expected"),
        ({"train": {"epochs": 3}}, "the plan's train is of type dict: a TrainConfig expected"),
        ({"model": "width=12"}, "the plan's model is of type str: a dict of switches expected"),
        ({"protocol": "by-speakr"}, "'by-speakr': did you mean 'by-speaker'"),
        ({"protocol": "published"}, "has no published split"),
        ({"n_folds": 1}, "n_folds=1: a whole number of at least 2 expected"),
        ({"n_folds": "5"}, "n_folds='5': a whole number of at least 2 expected"),
        ({"n_folds": 99}, "99 folds asked for"),
        ({"fold_seed": -1}, "fold_seed=-1: a whole number of 0 .. 4294967295 expected"),
        ({"fold_seed": 0.5}, "fold_seed=0.5: a whole number"),
    ],
)
def test_a_plan_that_cannot_be_run_is_told_before_the_first_run(corpus, tmp_path, change, message):
    store = ResultStore(tmp_path)
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        run_plan(make_plan(corpus, **change), store)
    assert "\n" not in str(raised.value)
    assert [file.name for file in Path(tmp_path).iterdir()] == ["store.json"]


def test_a_modality_that_the_corpus_lacks_is_told_before_the_first_run(corpus):
    silent = replace(corpus, features={"text": corpus.features["text"]})
    with pytest.raises(InputError, match="has no audio: it has text"):
        make_plan(silent).runs()


@pytest.mark.parametrize("jobs", [0, 1.5, None])
def test_a_number_of_jobs_that_is_none_is_refused(corpus, finished, jobs):
    with pytest.raises(InputError, match=f"jobs={jobs}: a whole number of at least 1 expected"):
        run_plan(make_plan(corpus), finished[0], jobs=jobs)


def test_a_name_where_a_corpus_is_expected_is_told():
    with pytest.raises(InputError, match="the plan's corpus is of type str: a Corpus, as load_cor"):
        make_plan("synthetic")


def test_a_store_that_cannot_be_written_is_told_before_the_first_run(corpus, tmp_path, monkeypatch):
    store = ResultStore(tmp_path)

    def refuse() -> None:
        raise InputError("cannot write")

    def fail(*_args: Any) -> str:
        raise AssertionError("a run was started")

    monkeypatch.setattr(store, "check_writable", refuse)
    monkeypatch.setattr(sweep, "execute", fail)
    with pytest.raises(InputError, match="cannot write"):
        run_plan(make_plan(corpus), store)


def test_building_on_the_meta_device_is_only_a_check_of_sizes(corpus):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    run = make_plan(corpus).runs()[0]
    assert torch.equal(torch.get_rng_state(), before)
    assert run.config == parse_configuration(NAMES[0], **SIZES).for_corpus(corpus)
