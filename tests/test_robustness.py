"""Missing, lost, swapped, incongruous: exact on voters made by hand, then on stored runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from small import (
    CLASSES,
    SIZES,
    learnable_corpus,
    randomize,
    small_corpus,
    small_model,
    small_table,
)
from small import whole_part as whole
from torch import Tensor, nn

from mmer_lib import metrics
from mmer_lib.corpora import MODALITIES, Corpus, Ragged
from mmer_lib.corpora.batches import Batch, Part, pair_up
from mmer_lib.errors import InputError
from mmer_lib.faithfulness import deletion_summary
from mmer_lib.fusion import Fused
from mmer_lib.model import Output, parse_configuration
from mmer_lib.robustness import (
    SHARES,
    TRACKS,
    frame_loss,
    incongruity,
    incongruity_table,
    kept_frames,
    loss_area,
    missing_modalities,
    refusals,
    run_track,
    runs,
    swap_sensitivity,
    swapped_partners,
)
from mmer_lib.stats import compare
from mmer_lib.store import ResultStore, StoredPredictions
from mmer_lib.sweep import Plan, restore, run_plan
from mmer_lib.train import TrainConfig

SCORES = list(metrics.METRICS)


class Voter(nn.Module):
    """Logits are the sum of all frames of all modalities; who asks adds nothing of its own."""

    def __init__(self, name: str = "cross-AVT") -> None:
        super().__init__()
        self.config = parse_configuration(name)
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, batch: Batch) -> Output:
        return Output(self.votes(batch), Fused(self.unused, self.unused), batch.masks)

    def votes(self, batch: Batch) -> Tensor:
        given = [x.sum(dim=1) for x in batch.sequences.values()]  # (B, C) each, padding is zero
        return torch.stack(given).sum(dim=0)


class Asked(Voter):
    """The logits are those of who asks."""

    def votes(self, batch: Batch) -> Tensor:
        return super().votes(batch.partner or batch)


def voting_corpus(n: int = 12, without_audio: int = 0) -> Corpus:
    """Audio shouts the label; video says it in even rows; text whispers the next class, always.

    The first ``without_audio`` utterances have no audio.
    """
    label = np.arange(n) % 3
    says = {"audio": label, "video": np.where(np.arange(n) % 2, (label + 2) % 3, label)}
    says["text"] = (label + 1) % 3
    strength = {"audio": 4.0, "video": 2.0, "text": 1.0}
    features = {}
    for m, said in says.items():
        frames = [strength[m] * np.eye(3, dtype=np.float32)[[c]] for c in said]
        if m == "audio":
            frames[:without_audio] = [x[:0] for x in frames[:without_audio]]
        features[m] = Ragged.from_list(frames, 3)
    return Corpus("votes", CLASSES, small_table(n), features)


def part_of(corpus: Corpus, **options: Any) -> Part:
    return Part(corpus, np.arange(len(corpus)), corpus.modalities, **options)


# Missing modalities


def test_the_loudest_modality_that_is_there_decides():
    frame = missing_modalities(Voter(), part_of(voting_corpus())).set_index("present")
    assert frame.index.tolist() == ["AVT", "AV", "AT", "VT", "A", "V", "T"]
    expected = {"A": 1.0, "V": 0.5, "T": 0.0}
    for present, row in frame.iterrows():
        assert row["accuracy"] == row["balanced_accuracy"] == expected[str(present)[0]]
        assert row["n_present"] == len(str(present))
    assert not frame["silent"].any()


def test_two_modalities_have_three_subsets_and_utterances_may_fall_silent():
    corpus = voting_corpus(without_audio=3)
    part = Part(corpus, np.arange(12), ("audio", "text"))
    frame = missing_modalities(Voter("cross-AT"), part).set_index("present")
    assert frame.index.tolist() == ["AT", "A", "T"]
    assert frame["silent"].to_dict() == {"AT": 0, "A": 0.25, "T": 0}
    assert frame.loc["AT", "accuracy"] == 0.75  # three have only text, which is wrong
    assert (
        frame.loc["A", "accuracy"] == 9 / 12 + 1 / 12
    )  # silence says class 0, right once in three


def test_a_subset_is_what_a_corpus_without_the_others_gives():
    corpus = small_corpus(16, missing=True)
    model = small_model("cross-AVT", corpus)
    randomize(model).eval()
    frame = missing_modalities(model, whole(model, corpus)).set_index("present")
    empty = Ragged.from_list([np.zeros((0, 10))] * 16, 10)
    blind = replace(corpus, features={**corpus.features, "video": empty})
    part = whole(model, blind)
    assert (
        frame.loc["AT", SCORES].to_dict()
        == missing_modalities(model, part).loc[0, SCORES].to_dict()
    )


def test_one_modality_alone_cannot_be_missing():
    corpus = small_corpus(6)
    model = small_model("self-T", corpus)
    for track in (missing_modalities, swapped_partners):
        with pytest.raises(InputError, match="'self-T' reads text alone"):
            track(model, whole(model, corpus))


# Lost frames


def test_a_share_is_lost_on_average_and_one_frame_stays():
    for share in (0.0, 0.3, 0.9):
        kept = [kept_frames(0, share, "audio", row, 50).mean() for row in range(200)]
        assert 1 - np.mean(kept) == pytest.approx(share, abs=0.02)
        assert all(kept_frames(0, share, "text", row, 1).all() for row in range(50))
    assert kept_frames(0, 0.5, "video", 3, 0).shape == (0,)


def test_what_is_lost_stays_lost_and_depends_on_seed_row_and_modality():
    few, many = (kept_frames(0, share, "audio", 5, 40) for share in (0.3, 0.6))
    assert not (many & ~few).any()
    assert many.sum() < few.sum()
    for other in ((1, "audio", 5), (0, "video", 5), (0, "audio", 6)):
        seed, modality, row = other
        assert not np.array_equal(
            kept_frames(seed, 0.5, modality, row, 40), kept_frames(0, 0.5, "audio", 5, 40)
        )


def needle_corpus(n: int = 60, length: int = 8) -> tuple[Corpus, np.ndarray]:
    """One frame, at random, says the label; where it is."""
    at = np.random.default_rng(0).integers(length, size=n)
    frames = np.zeros((n, length, 3), np.float32)
    frames[np.arange(n), at, np.arange(n) % 3] = 1
    audio = Ragged.from_list(list(frames), 3)
    return Corpus("needle", CLASSES, small_table(n), {"audio": audio}), at


def test_the_curve_falls_as_the_one_frame_that_counts_is_lost():
    corpus, at = needle_corpus()
    curve = frame_loss(Voter("self-A"), part_of(corpus), seed=4)
    assert curve["share"].tolist() == list(SHARES)
    for row in curve.itertuples():
        kept = [kept_frames(4, row.share, "audio", i, 8) for i in range(60)]
        found = [k[t] or i % 3 == 0 for i, (k, t) in enumerate(zip(kept, at, strict=True))]
        assert row.accuracy == pytest.approx(np.mean(found))  # without it, class 0 is answered
        assert row.lost == pytest.approx(1 - np.mean(kept))
    assert curve["accuracy"].iloc[0] == 1
    assert curve["accuracy"].iloc[-1] < 0.6


def test_no_loss_gives_the_scores_of_the_intact_part():
    corpus = small_corpus(20, missing=True)
    model = small_model("cross-AVT", corpus)
    part = whole(model, corpus)
    first = frame_loss(model, part, shares=(0.0, 0.5)).iloc[0]
    intact = missing_modalities(model, part).iloc[0]
    assert first[SCORES].to_dict() == intact[SCORES].to_dict()
    assert first["lost"] == 0


def test_the_area_is_the_mean_score_over_the_shares():
    share = np.array(SHARES)
    straight = pd.DataFrame({"share": share, "lost": share, "accuracy": 0.8 - 0.5 * share})
    flat = straight.assign(accuracy=0.3)
    both = pd.concat(
        [straight.assign(configuration="a", fold=0), flat.assign(configuration="b", fold=1)]
    )
    area = loss_area(both.sample(frac=1, random_state=0)).set_index("configuration")
    assert area.loc["a", "accuracy"] == pytest.approx(0.8 - 0.5 * 0.45)
    assert area.loc["a", "kept_accuracy"] == pytest.approx((0.8 - 0.5 * 0.45) / 0.8)
    assert area.loc["b", ["fold", "accuracy", "kept_accuracy"]].tolist() == pytest.approx(
        [1, 0.3, 1]
    )
    assert loss_area(straight)["accuracy"].item() == pytest.approx(area.loc["a", "accuracy"])


def test_curves_that_cannot_be_told_apart_are_told():
    curve = pd.DataFrame({"share": [0.0, 0.5], "accuracy": [1.0, 0.5]})
    with pytest.raises(InputError, match="keep the columns that tell runs apart"):
        loss_area(pd.concat([curve, curve]))
    with pytest.raises(InputError, match=r"a curve has the shares \[0.0\]"):
        loss_area(curve.head(1))
    with pytest.raises(InputError, match="expected what frame_loss gives"):
        loss_area(pd.DataFrame({"present": ["A"]}))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cross-AT@released", {}, "weighs frames by their position"),
        ("cross-AT", {"shares": (0.5, 1.0)}, r"share=1.0: a share in \[0, 1\)"),
        ("cross-AT", {"seed": -1}, "seed=-1: a whole number of at least 0"),
    ],
)
def test_losses_that_make_no_sense_are_told(name, options, message):
    corpus = small_corpus(6, padded=True)
    model = small_model(name, corpus)
    with pytest.raises(InputError, match=message):
        frame_loss(model, whole(model, corpus), **options)


# Swapped partners


def test_a_swap_costs_what_the_modality_decides():
    corpus = voting_corpus(30)
    frame = swapped_partners(Voter(), part_of(corpus), seed=2).set_index("swapped")
    assert frame.index.tolist() == ["nothing", *MODALITIES]
    partners = pair_up(corpus, np.arange(30), 2)
    right = (corpus.labels[partners] == corpus.labels).mean()  # audio shouts the partner's label
    assert frame["accuracy"].tolist() == [1, pytest.approx(right), 1, 1]
    assert frame["accuracy_drop"].tolist() == [0, pytest.approx(1 - right), 0, 0]
    assert frame["n_swapped"].tolist() == [0, 30, 30, 30]
    assert right < 0.6


def test_only_who_has_a_modality_swaps_it():
    corpus = voting_corpus(30, without_audio=6)
    frame = swapped_partners(Voter(), part_of(corpus)).set_index("swapped")
    assert frame["n_swapped"].to_dict() == {"nothing": 0, "audio": 24, "video": 30, "text": 30}
    two = Part(corpus, np.array([0, 10]), MODALITIES)  # audio has nobody to swap with
    assert swapped_partners(Voter(), two).set_index("swapped").loc["audio", "n_swapped"] == 0


def test_the_move_is_the_total_variation_between_the_askers():
    corpus = voting_corpus(30)
    frame = swap_sensitivity(Asked(), part_of(corpus), seed=2)
    partners = pair_up(corpus, np.arange(30), 2)
    said = sum(corpus.features[m].values for m in MODALITIES)  # one frame each
    p, q = softmax(said, axis=1), softmax(said[partners], axis=1)
    np.testing.assert_allclose(frame["moved"], 0.5 * abs(p - q).sum(axis=1), atol=1e-6)
    label = corpus.labels
    np.testing.assert_allclose(frame["true_drop"], (p - q)[np.arange(30), label], atol=1e-6)
    assert frame["changed"].tolist() == (label != label[partners]).tolist()
    assert frame["id"].tolist() == corpus.utterances["id"].tolist()


@pytest.mark.parametrize(
    ("name", "moves"),
    [("cross-AT,query=uniform", False), ("cross-AT,query=uniform,residual=true", True),
     ("cross-AT", True), ("self-AVT", True), ("joint-AVT,query=shuffled", True)],
)  # fmt: skip
def test_only_what_an_asker_steers_moves(name, moves):
    corpus = small_corpus(12)
    model = small_model(name, corpus)
    randomize(model).eval()
    frame = swap_sensitivity(model, whole(model, corpus))
    assert (frame["moved"].max() > 1e-3) == moves
    assert frame["moved"].between(0, 1).all()


def test_a_model_without_a_query_has_no_asker():
    corpus = small_corpus(6)
    model = small_model("mean-AT", corpus)
    with pytest.raises(InputError, match="'mean-AT': nobody else can ask, as query=shuffled: mean"):
        swap_sensitivity(model, whole(model, corpus))


# Incongruity


def answers(*predicted: int, labels: tuple[int, ...] = (0, 1, 2, 0, 1, 2)) -> StoredPredictions:
    ids = np.array([f"u{i}" for i in range(len(labels))])
    return StoredPredictions(ids, np.array(labels), np.eye(3)[list(predicted)])


def test_the_strata_are_those_of_agreement_whether_right_or_not():
    audio, video, text = (
        answers(0, 0, 2, 0, 1, 0),
        answers(0, 0, 2, 1, 1, 1),
        answers(0, 0, 1, 2, 0, 2),
    )
    fused = answers(0, 1, 2, 1, 1, 2)
    frame = incongruity(fused, {"A": audio, "V": video, "T": text}).set_index("stratum")
    assert frame.index.tolist() == ["all agree", "two agree", "none agree"]
    assert frame["n"].tolist() == [2, 2, 2]  # rows 0, 1; rows 2, 4; rows 3, 5
    assert frame["share"].tolist() == pytest.approx([1 / 3] * 3)
    assert frame["accuracy"].tolist() == [1, 1, 0.5]
    assert frame["unimodal_accuracy"].tolist() == pytest.approx([1 / 2, 2 / 3, 1 / 3])


def test_two_models_agree_or_do_not_and_an_empty_stratum_has_no_score():
    one, other = answers(0, 1, 2, 0, 0, 0), answers(0, 1, 2, 0, 0, 0)
    frame = incongruity(one, {"A": one, "T": other}).set_index("stratum")
    assert frame["n"].to_dict() == {"all agree": 6, "none agree": 0}
    assert frame.loc["none agree", [*SCORES, "unimodal_accuracy"]].isna().all()
    assert frame.loc["all agree", "accuracy"] == pytest.approx(4 / 6)


def test_other_utterances_and_other_numbers_of_models_are_told():
    one = answers(0, 1, 2, 0, 0, 0)
    other = replace(one, ids=one.ids[::-1])
    with pytest.raises(InputError, match="the model of T answered other utterances"):
        incongruity(one, {"A": one, "T": other})
    with pytest.raises(InputError, match="1 uni-modal models given, 2 or 3 expected"):
        incongruity(one, {"A": one})


# Stored runs

NAMES = ("self-A", "self-T", "cross-AT", "late-AT", "joint-AT")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return learnable_corpus(36, seed=2, missing=0.1)


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory) -> tuple[ResultStore, pd.DataFrame]:
    store = ResultStore(tmp_path_factory.mktemp("finished") / "store")
    train = TrainConfig(epochs=1, batch_size=16, lr=1e-2)
    plan = Plan(corpus, NAMES, n_folds=3, seeds=1, train=train, model=SIZES)
    return store, run_plan(plan, store)


DIRECT: dict[str, Callable[..., pd.DataFrame]] = {
    "missing": missing_modalities,
    "loss": frame_loss,
    "swap": swapped_partners,
}


@pytest.mark.parametrize("track", DIRECT)
def test_a_track_gives_what_its_function_gives_for_every_run(track, corpus, finished):
    store, table = finished
    frame = run_track(track, table, store, corpus)
    several = [n for n in NAMES if track == "loss" or n.endswith("AT")]
    assert frame["configuration"].unique().tolist() == several
    for run in table[table["configuration"].isin(several)].itertuples():
        model, parts = restore(store, run.key, corpus)
        expected = DIRECT[track](model, parts["test"])
        found = frame[frame["key"] == run.key]
        assert found[["fold", "seed", "n_test"]].drop_duplicates().values.tolist() == [
            [run.fold, run.seed, run.n_test]
        ]
        pd.testing.assert_frame_equal(found[expected.columns].reset_index(drop=True), expected)


@pytest.mark.parametrize("track", TRACKS)
def test_what_was_measured_is_not_measured_again(track, corpus, finished, monkeypatch):
    store, table = finished
    first = run_track(track, table, store, corpus)

    def refuse(*_: Any) -> None:
        raise AssertionError("a run was measured again")

    monkeypatch.setattr(runs, "restore", refuse)
    pd.testing.assert_frame_equal(run_track(track, table, store, corpus), first)
    with pytest.raises(AssertionError, match="measured again"):
        run_track(track, table, store, corpus, seed=1)
    assert store.keys() == sorted(table["key"])  # what is kept there is no run


def test_a_measuring_that_was_cut_short_goes_on(corpus, finished, monkeypatch):
    store, table = finished
    measured: list[str] = []
    real = runs.restore

    def count(store: ResultStore, key: str, corpus: Corpus) -> Any:
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(key)
        return real(store, key, corpus)

    monkeypatch.setattr(runs, "restore", count)
    with pytest.raises(KeyboardInterrupt):
        run_track("loss", table, store, corpus, seed=9)
    monkeypatch.setattr(runs, "restore", lambda s, key, c: measured.append(key) or real(s, key, c))
    run_track("loss", table, store, corpus, seed=9)
    assert measured == table["key"].tolist()


@pytest.mark.slow
def test_processes_side_by_side_give_the_same_numbers(corpus, finished):
    store, table = finished
    some = table[table["configuration"] == "cross-AT"]
    one = run_track("swap", some, store, corpus, seed=3)
    for file in (store.path / "tracks").glob("*.json"):
        file.unlink()
    pd.testing.assert_frame_equal(run_track("swap", some, store, corpus, seed=3, jobs=2), one)


def test_configurations_that_a_track_refuses_are_left_out_with_a_reason(corpus, finished):
    store, table = finished
    assert set(refusals("missing", table, store)) == {"self-A", "self-T"}
    assert set(refusals("asker", table, store)) == {"late-AT"}
    assert set(refusals("deletion", table, store)) == {"late-AT"}
    assert set(refusals("own_mass", table, store)) == {"late-AT"}
    assert "late has no attention maps" in refusals("entropy", table, store)["late-AT"]
    with pytest.raises(InputError, match="'self-A' reads audio alone"):
        run_track("missing", table[table["configuration"] == "self-A"], store, corpus)
    with pytest.raises(InputError, match="unknown track 'mising': did you mean 'missing'"):
        run_track("mising", table, store, corpus)


def test_areas_and_deletions_of_runs_can_be_judged(corpus, finished):
    store, table = finished
    areas = loss_area(run_track("loss", table, store, corpus))
    assert len(areas) == len(table)
    assert compare(areas, "cross-AT", "self-A", "accuracy").n_folds == 3
    checked = run_track("deletion", table, store, corpus)
    summary = deletion_summary(checked[checked["configuration"] == "cross-AT"])
    assert set(summary["source"]) == {"all", "audio", "text"}
    assert set(summary["units"]) == {"folds"}


def test_another_corpus_and_a_damaged_file_are_told(corpus, finished, tmp_path):
    store, table = finished
    other = learnable_corpus(36, seed=3)
    with pytest.raises(InputError, match="was trained on corpus 'synthetic'"):
        run_track("swap", table, store, other, seed=5)
    run_track("swap", table, store, corpus, seed=6)
    file = newest(store.path / "tracks")
    file.write_text("")
    with pytest.raises(InputError, match="json is damaged: remove it and it is measured again"):
        run_track("swap", table, store, corpus, seed=6)
    file.unlink()
    run_track("swap", table, store, corpus, seed=6)


def newest(folder: Path) -> Path:
    return max(folder.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)


def test_strata_of_runs_are_those_of_the_uni_modal_runs_on_the_same_fold(finished):
    store, table = finished
    frame = incongruity_table(store, table)
    assert set(frame["configuration"]) == {"cross-AT", "late-AT", "joint-AT"}
    assert (frame.groupby("key")["n"].sum() == 12).all()  # a third of 36
    for run in table[table["configuration"] == "cross-AT"].itertuples():
        same = table[table["fold"] == run.fold].set_index("configuration")["key"]
        others = {letter: store.predictions(same[f"self-{letter}"]) for letter in "AT"}
        expected = incongruity(store.predictions(run.key), others)
        found = frame[frame["key"] == run.key][expected.columns].reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected)


def test_strata_without_the_uni_modal_runs_are_told(finished):
    store, table = finished
    with pytest.raises(InputError, match=r"no run of 'self-T' on fold 0 with seed 0: add it"):
        incongruity_table(store, table[table["configuration"] != "self-T"])
    with pytest.raises(InputError, match="has no run with two modalities or more"):
        incongruity_table(store, table[table["configuration"] == "self-T"])
