"""Training: which epoch is kept, when it stops, what it never sees, and the same bits again."""

from __future__ import annotations

import inspect
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from small import learnable_corpus, small_config
from torch.nn import functional as F

from mmer_lib import train as train_module
from mmer_lib.corpora import Corpus, Ragged
from mmer_lib.corpora.batches import Batch, Part
from mmer_lib.errors import InputError
from mmer_lib.losses import drop_one, extra_loss
from mmer_lib.model import Recognizer
from mmer_lib.sweep import make_parts
from mmer_lib.train import (
    FitResult,
    Predictions,
    TrainConfig,
    _seeded,
    build_model,
    fit,
    predict,
)

QUICK = TrainConfig(epochs=4, batch_size=8, lr=1e-2)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return learnable_corpus(40, seed=1)


def prepare(corpus: Corpus, name: str = "cross-AT") -> tuple[Recognizer, dict[str, Part]]:
    config = small_config(name, corpus)
    return build_model(config, seed=0), make_parts(config, corpus.folds("random", 4)[0], corpus)


def fitted(corpus: Corpus, config: TrainConfig = QUICK, seed: int = 0, **options) -> FitResult:
    model, parts = prepare(corpus)
    return fit(model, parts["train"], parts["dev"], config, seed, **options)


def assert_same_bits(one: FitResult, other: FitResult) -> None:
    pd.testing.assert_frame_equal(timeless(one), timeless(other), check_exact=True)
    assert one.best_epoch == other.best_epoch
    assert all(torch.equal(one.state[k], value) for k, value in other.state.items())


def timeless(result: FitResult) -> pd.DataFrame:
    return result.history.drop(columns="seconds")


class Script:
    """Stands in for ``predict``: development accuracy and loss of each epoch as written here."""

    def __init__(self, accuracies: list[float], losses: list[float] | None = None) -> None:
        losses = losses or [1.0] * len(accuracies)
        self.scores = list(zip(accuracies, losses, strict=True))
        self.weights: list[torch.Tensor] = []  # of the classifier, after every epoch

    def __call__(self, model: Recognizer, part: Part, amp: bool = False) -> SimpleNamespace:
        accuracy, loss = self.scores[len(self.weights)]
        self.weights.append(model.classifier.weight.detach().clone())
        return SimpleNamespace(accuracy=accuracy, loss=loss)


def follow(script: Script, monkeypatch, corpus: Corpus, **settings) -> tuple[Recognizer, FitResult]:
    monkeypatch.setattr(train_module, "predict", script)
    model, parts = prepare(corpus)
    config = TrainConfig(epochs=len(script.scores), batch_size=16, **settings)
    return model, fit(model, parts["train"], parts["dev"], config)


# Which epoch is kept, and when it stops


def test_the_first_epoch_with_the_best_development_accuracy_is_kept(monkeypatch, corpus):
    script = Script([0.2, 0.7, 0.5, 0.7, 0.6])
    model, result = follow(script, monkeypatch, corpus)
    assert result.best_epoch == 2
    assert torch.equal(result.state["classifier.weight"], script.weights[1])
    assert torch.equal(model.classifier.weight, script.weights[1])
    assert result.history["dev_accuracy"].tolist() == [0.2, 0.7, 0.5, 0.7, 0.6]


def test_training_stops_after_patience_epochs_without_a_better_one(monkeypatch, corpus):
    script = Script([0.2, 0.4, 0.3, 0.5, 0.5, 0.5, 0.5, 0.9, 0.9])
    _, result = follow(script, monkeypatch, corpus, patience=3)
    assert len(result.history) == 7  # three after the fourth; the equal ones are no better
    assert result.best_epoch == 4


def test_the_published_patience_is_ten_epochs(monkeypatch, corpus):
    _, result = follow(Script([0.5] + [0.4] * 15), monkeypatch, corpus)
    assert (len(result.history), result.best_epoch) == (11, 1)


def test_selection_by_loss_keeps_the_epoch_of_the_smallest_loss(monkeypatch, corpus):
    script = Script([0.9, 0.1, 0.9], losses=[0.8, 0.3, 0.5])
    _, result = follow(script, monkeypatch, corpus, select="loss")
    assert result.best_epoch == 2


def test_the_learning_rate_falls_when_the_loss_stands_still(monkeypatch, corpus):
    script = Script([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], losses=[1.0, 0.9, 0.9, 0.9, 0.9, 0.9])
    _, result = follow(script, monkeypatch, corpus, lr=1e-2, lr_patience=2, lr_factor=0.1)
    # after epochs 3, 4 and 5 the loss is no better than in 2: one more than patience
    assert result.history["lr"].tolist() == pytest.approx([1e-2] * 5 + [1e-3])


def test_the_learning_rate_follows_the_loss_even_where_accuracy_selects(monkeypatch, corpus):
    script = Script([0.1, 0.2, 0.3, 0.4], losses=[1.0, 2.0, 2.0, 2.0])
    _, result = follow(script, monkeypatch, corpus, lr=1e-2, lr_patience=0)
    assert result.history["lr"].tolist() == pytest.approx([1e-2, 1e-2, 1e-3, 1e-4])


def test_a_run_that_diverges_late_keeps_what_was_best_before(monkeypatch, corpus):
    script = Script([0.3, 0.6, 0.2, 0.9], losses=[1.0, 1.0, float("nan"), 1.0])
    model, result = follow(script, monkeypatch, corpus)
    assert (len(result.history), result.best_epoch, result.diverged) == (3, 2, True)
    assert torch.equal(model.classifier.weight, script.weights[1])


def test_a_run_that_diverges_at_once_is_told(corpus):
    with pytest.raises(InputError, match="'cross-AT': the development loss is not a number"):
        fitted(corpus, TrainConfig(epochs=2, lr=1e30))


# What training sees


def test_the_same_seed_gives_the_same_bits(corpus):
    torch.manual_seed(1)
    one = fitted(corpus)
    torch.manual_seed(2)  # whatever was drawn before
    assert_same_bits(one, fitted(corpus))


def test_the_random_stream_of_the_caller_is_left_as_it_was(corpus):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert not fitted(corpus).diverged
    assert torch.equal(torch.get_rng_state(), before)


def test_training_draws_what_a_seeded_torch_draws(corpus):
    """The bits are those of ``torch.manual_seed``, so that dropout can be followed by hand."""
    with _seeded(7, "cpu"):
        drawn = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(3), drawn)


def test_another_seed_gives_another_run(corpus):
    one, other = fitted(corpus, seed=0), fitted(corpus, seed=1)
    assert not torch.equal(one.state["classifier.weight"], other.state["classifier.weight"])


class Recorded(Part):
    """A part that notes the rows of every batch it gives."""

    def collate(self, rows: np.ndarray) -> Batch:
        self.__dict__.setdefault("seen", []).append(rows.tolist())
        return super().collate(rows)


def test_every_epoch_sees_every_utterance_once_in_a_new_random_order(corpus):
    model, parts = prepare(corpus)
    train = Recorded(**vars(parts["train"]))
    fit(model, train, parts["dev"], TrainConfig(epochs=2, batch_size=8))
    half = len(train.seen) // 2
    first, second = ([row for rows in part for row in rows]
                     for part in (train.seen[:half], train.seen[half:]))  # fmt: skip
    assert sorted(first) == sorted(second) == train.rows.tolist()
    assert len({tuple(first), tuple(second), tuple(train.rows)}) == 3


def test_fit_has_no_argument_for_the_test_part():
    assert list(inspect.signature(fit).parameters) == [
        "model", "train", "dev", "config", "seed", "watch",
    ]  # fmt: skip


def test_other_test_utterances_change_no_bit_of_the_training(corpus):
    fold = corpus.folds("random", 4)[0]
    features = {}
    for m, ragged in corpus.features.items():
        frames = [x * (-9 if i in fold.test else 1) for i, x in enumerate(ragged)]
        features[m] = Ragged.from_list(frames, ragged.width)
    table = corpus.utterances.copy()
    table.loc[fold.test, "label"] = 0
    other = Corpus(corpus.name, corpus.classes, table, features)
    results = []
    for given in (corpus, other):
        config = small_config("cross-AT", given)
        parts = make_parts(config, fold, given)
        results.append(fit(build_model(config, 0), parts["train"], parts["dev"], QUICK))
    assert_same_bits(*results)


def test_watching_the_test_part_adds_a_column_and_changes_nothing_else(corpus):
    _, parts = prepare(corpus)
    watched = fitted(corpus, watch=lambda m: {"test_accuracy": predict(m, parts["test"]).accuracy})
    plain = fitted(corpus)
    assert set(watched.history) - set(plain.history) == {"test_accuracy"}
    history = watched.history.drop(columns="test_accuracy")
    assert_same_bits(replace(watched, history=history), plain)


def test_eight_utterances_can_be_learned_by_heart(corpus):
    config = small_config("self-AVT", corpus)
    model = build_model(config, 0)
    eight = Part(corpus, np.arange(8), config.modalities)
    result = fit(model, eight, eight, TrainConfig(epochs=60, patience=60, lr=1e-2))
    assert predict(model, eight).accuracy == 1.0
    assert result.history["train_loss"].iloc[-1] < 0.05


def test_the_history_has_a_row_an_epoch(corpus):
    history = fitted(corpus).history
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    assert list(history) == ["epoch", "lr", "train_loss", "dev_loss", "dev_accuracy", "seconds"]
    assert (history["seconds"] > 0).all()


def test_the_model_holds_the_kept_epoch_afterwards(corpus):
    model, parts = prepare(corpus)
    result = fit(model, parts["train"], parts["dev"], QUICK)
    kept = result.history["dev_accuracy"].iloc[result.best_epoch - 1]
    assert predict(model, parts["dev"]).accuracy == kept == result.history["dev_accuracy"].max()


# Predictions


def test_predictions_are_the_softmax_in_the_order_of_the_part(corpus):
    model, _ = prepare(corpus)
    part = Part(corpus, np.array([9, 3, 30, 4, 5]), model.config.modalities)
    scored = predict(model, part, batch_size=2)
    assert scored.ids.tolist() == corpus.utterances["id"].iloc[part.rows].tolist()
    assert scored.labels.tolist() == corpus.labels[part.rows].tolist()
    with torch.no_grad():
        expected = model.eval()(part.collate(part.rows)).logits.softmax(dim=1)
    np.testing.assert_allclose(scored.probabilities, expected, atol=1e-6)
    assert scored.probabilities.dtype == np.float32


def test_loss_and_accuracy_are_those_of_the_predictions(corpus):
    model, parts = prepare(corpus)
    scored = predict(model, parts["dev"])
    logits = torch.from_numpy(scored.probabilities).log()
    labels = torch.from_numpy(scored.labels)
    assert scored.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert scored.accuracy == (logits.argmax(1) == labels).float().mean().item()


def test_a_wrong_answer_given_with_certainty_has_a_finite_loss():
    sure = Predictions(np.array(["a"]), np.array([1]), np.array([[1.0, 0.0]], np.float32))
    assert 80 < sure.loss < 100
    assert sure.accuracy == 0.0


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs=0: a whole number of at least 1"),
        ({"epochs": 2.5}, "epochs=2.5: a whole number"),
        ({"epochs": True}, "epochs=True: a whole number"),
        ({"batch_size": "8"}, "batch_size='8': a whole number"),
        ({"patience": 0}, "patience=0"),
        ({"batch_size": -1}, "batch_size=-1"),
        ({"lr_patience": -1}, "lr_patience=-1: a whole number of at least 0"),
        ({"lr": 0.0}, "lr=0.0: a number above 0"),
        ({"lr": "0.1"}, "lr='0.1': a number above 0 expected"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"lr": float("inf")}, "lr=inf"),
        ({"lr_factor": 1.0}, "lr_factor=1.0: a number between 0 and 1"),
        ({"select": "acuracy"}, "unknown selection rule 'acuracy': did you mean 'accuracy'"),
        ({"lr_factor": None}, "lr_factor=None: a number between 0 and 1"),
        ({"losses": "contrast=1"}, "unknown loss 'contrast': did you mean 'contrastive'"),
        ({"losses": "misa=0"}, "losses: misa=0.0: a weight above 0"),
        ({"losses": None}, "losses=None: text such as contrastive=0.1"),
        ({"device": "gpu"}, "device='gpu': cpu, cuda or cuda:N expected"),
        ({"device": "mps"}, "device='mps': cpu, cuda or cuda:N expected"),
        ({"device": "meta"}, "device='meta': cpu, cuda or cuda:N expected"),
        ({"device": None}, "device=None: cpu, cuda or cuda:N expected"),
    ],
)
def test_settings_out_of_range_are_told_in_one_line(settings, message):
    with pytest.raises(InputError, match=message) as raised:
        TrainConfig(**settings)
    assert "\n" not in str(raised.value)


def test_numbers_of_numpy_are_kept_as_plain_numbers():
    config = TrainConfig(epochs=np.int64(3), lr=np.float64(0.5), lr_patience=np.uint8(2))
    assert config == TrainConfig(epochs=3, lr=0.5, lr_patience=2)
    assert (type(config.epochs), type(config.lr)) == (int, float)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_a_cuda_device_that_is_not_there_is_told(corpus):
    with pytest.raises(InputError, match="device='cuda': this torch sees no CUDA device; use cpu"):
        fitted(corpus, TrainConfig(device="cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_nearly_the_numbers_of_the_cpu(corpus):
    on_cpu, on_cuda = (fitted(corpus, TrainConfig(epochs=1, device=d)) for d in ("cpu", "cuda"))
    assert {value.device.type for value in on_cuda.state.values()} == {"cpu"}
    assert on_cuda.history["train_loss"][0] == pytest.approx(
        on_cpu.history["train_loss"][0], rel=0.2
    )


def test_the_published_settings_are_the_default():
    assert TrainConfig() == TrainConfig(
        patience=10, lr=1e-3, lr_patience=10, lr_factor=0.1, batch_size=32, select="accuracy"
    )


# Losses beside cross-entropy


def by_hand(corpus: Corpus, name: str, objective) -> Recognizer:
    """The loop of training, two epochs of it, as it would be written at a desk."""
    model, parts = prepare(corpus, name)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, fused=True)
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    for _ in range(2):
        model.train()
        lots = rng.spawn(1)[0]
        for batch in parts["train"].batches(8, rng):
            loss = objective(model, batch, lots)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def cross_entropy(model: Recognizer, batch: Batch, lots: np.random.Generator) -> torch.Tensor:
    return F.cross_entropy(model(batch).logits, batch.labels)


def with_extra_losses(model: Recognizer, batch: Batch, lots: np.random.Generator) -> torch.Tensor:
    output = model(batch)
    dropped = model(drop_one(batch, lots))
    weights = {"contrastive": 0.1, "missing_view": 0.2, "misa": 0.3}
    extra = extra_loss(output, batch.labels, weights, dropped)
    return F.cross_entropy(output.logits, batch.labels) + extra


@pytest.mark.parametrize(
    ("name", "losses", "objective"),
    [
        ("cross-AT", "", cross_entropy),
        ("misa-AT", "contrastive=0.1,missing_view=0.2,misa=0.3", with_extra_losses),
    ],
)
def test_training_equals_its_loop_written_by_hand(monkeypatch, corpus, name, losses, objective):
    monkeypatch.setattr(train_module, "predict", Script([0.1, 0.2]))
    model, parts = prepare(corpus, name)
    config = TrainConfig(epochs=2, batch_size=8, lr=1e-2, losses=losses)
    result = fit(model, parts["train"], parts["dev"], config)
    expected = by_hand(corpus, name, objective).state_dict()
    assert all(torch.equal(value, expected[k]) for k, value in result.state.items())


@pytest.mark.parametrize("losses", ["contrastive=0.1", "supcon=0.1", "missing_view=1", "misa=0.3"])
def test_an_extra_loss_changes_the_training_and_its_seed_fixes_it(corpus, losses):
    states = []
    for given in ("", losses, losses):
        model, parts = prepare(corpus, "misa-AT")
        config = replace(QUICK, epochs=1, losses=given)
        states.append(fit(model, parts["train"], parts["dev"], config).state)
    same = [torch.equal(value, states[1][k]) for k, value in states[0].items()]
    assert not all(same)
    assert all(torch.equal(value, states[2][k]) for k, value in states[1].items())


def test_the_order_of_training_is_the_same_with_a_dropped_view(corpus):
    seen = []
    for losses in ("", "missing_view=0.1"):
        model, parts = prepare(corpus)
        train = Recorded(**vars(parts["train"]))
        fit(model, train, parts["dev"], replace(QUICK, epochs=2, losses=losses))
        seen.append(train.seen)
    assert seen[0] == seen[1]


def test_the_history_shows_cross_entropy_whatever_is_added(corpus):
    model, parts = prepare(corpus)
    whole = replace(QUICK, epochs=1, batch_size=len(parts["train"]))  # one step: losses before it
    losses = []
    for added in ("", "contrastive=5"):
        model, parts = prepare(corpus)
        history = fit(model, parts["train"], parts["dev"], replace(whole, losses=added)).history
        losses.append(history["train_loss"][0])
    assert losses[0] == losses[1]


def test_a_loss_that_means_nothing_to_the_model_is_told(corpus):
    with pytest.raises(InputError, match="losses=misa: 'cross-AT' has no such losses"):
        fitted(corpus, replace(QUICK, losses="misa=1"))


def test_the_same_losses_are_the_same_settings_however_they_are_written():
    one, other = TrainConfig(losses="misa=0.30,supcon=1"), TrainConfig(losses="supcon=1.0, misa=.3")
    assert one == other
    assert TrainConfig().losses == ""
