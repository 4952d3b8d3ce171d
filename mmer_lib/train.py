"""Training one model on one fold, and scoring it: Rajan et al. (2022) and their released code.

Adam, cross-entropy, the learning rate divided by ten when the development loss stands still; the
epoch with the best development accuracy is kept (the first of equals), and training stops after
``patience`` epochs without a better one. The test part is not an argument of ``fit``.

``losses`` may add others to the cross-entropy, weighted (see ``mmer_lib.losses``). The losses in
the history are cross-entropies all the same, so that they can be compared.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from mmer_lib.corpora.batches import Batch, Part
from mmer_lib.errors import InputError, check_number, check_whole, unknown
from mmer_lib.losses import check_losses, drop_one, extra_loss, parse_losses, write_losses
from mmer_lib.model import ModelConfig, Output, Recognizer

SELECT = ("accuracy", "loss")
EVAL_BATCH, EVAL_FRAMES = 256, 1 << 15  # utterances, and frames of a modality, scored together


@dataclass(frozen=True)
class TrainConfig:
    """The published settings; ``epochs`` only bounds a run that keeps improving."""

    epochs: int = 100
    patience: int = 10
    lr: float = 1e-3
    lr_patience: int = 10
    lr_factor: float = 0.1
    batch_size: int = 32
    select: str = "accuracy"  # on development; the released code reduces lr by loss all the same
    score_test: bool = False  # the released code scores the test part after every epoch
    device: str = "cpu"
    pool: int = 1  # batches that are drawn together and sorted by length; 1: of any length
    losses: str = ""  # added to cross-entropy, with weights: "contrastive=0.1,misa=0.3"
    amp: bool = False  # matrix products in bfloat16, see `forward`
    compile: bool = False  # the model's forward by torch.compile, see `compile_forward`

    def __post_init__(self) -> None:
        if self.select not in SELECT:
            raise unknown("selection rule", self.select, SELECT)
        whole = {"epochs": 1, "patience": 1, "batch_size": 1, "lr_patience": 0, "pool": 1}
        checked: dict[str, float] = {
            name: check_whole(name, getattr(self, name), least) for name, least in whole.items()
        }
        checked["lr"] = check_number("lr", self.lr, lambda x: 0 < x < math.inf, "a number above 0")
        checked["lr_factor"] = check_number(
            "lr_factor", self.lr_factor, lambda x: 0 < x < 1, "a number between 0 and 1"
        )
        for name, value in checked.items():  # plain numbers, so that a run's key can be made
            object.__setattr__(self, name, value)
        object.__setattr__(self, "losses", write_losses(parse_losses(self.losses)))
        if not isinstance(self.device, str) or not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise InputError(f"device={self.device!r}: cpu, cuda or cuda:N expected")
        for name in ("amp", "compile"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name}={getattr(self, name)!r}: true or false expected")


@dataclass(frozen=True)
class FitResult:
    """``history``: one row an epoch; ``state``: the parameters of ``best_epoch`` (from 1).

    ``diverged``: the development loss was no finite number in the last row; that ended the run,
    and what is kept is the best of the epochs before.
    """

    history: pd.DataFrame
    best_epoch: int
    state: dict[str, Tensor]
    diverged: bool = False


@dataclass(frozen=True)
class Predictions:
    """What a model says of n utterances: ids (n,), labels (n,), probabilities (n, C) float32."""

    ids: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float((self.probabilities.argmax(axis=1) == self.labels).mean())

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        right = self.probabilities[np.arange(len(self.labels)), self.labels]
        return float(-np.log(np.maximum(right, np.finfo(np.float32).tiny)).mean())


def fit(
    model: Recognizer,
    train: Part,
    dev: Part,
    config: TrainConfig = TrainConfig(),
    seed: int = 0,
    watch: Callable[[Recognizer], dict[str, float]] | None = None,
) -> FitResult:
    """Train ``model`` in place; afterwards it holds the parameters of the best epoch.

    ``seed`` fixes the order of batches and dropout; torch's own random stream goes on afterwards
    as if nothing had been drawn. ``watch`` may add numbers to every row of the history (test
    scores, say); nothing is decided by them.

    Raises ``InputError`` for a CUDA device that is not there, for a loss that means nothing to this
    model, and if the development loss is not finite from the first epoch on; where that happens
    later, the result is marked ``diverged``.
    """
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device={config.device!r}: this torch sees no CUDA device; use cpu")
    check_losses(parse_losses(config.losses), model)
    check_precision(config, model.config)
    model.to(config.device)
    if config.compile:
        compile_forward(model, train, config)
    with _seeded(seed, config.device):
        return _fit(model, train, dev, config, np.random.default_rng(seed), watch)


def _fit(
    model: Recognizer,
    train: Part,
    dev: Part,
    config: TrainConfig,
    rng: np.random.Generator,
    watch: Callable[[Recognizer], dict[str, float]] | None,
) -> FitResult:
    """The epochs of ``fit``."""
    # fused: a fifth of the time where there are many small parameters; it differs by rounding
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, patience=config.lr_patience, factor=config.lr_factor
    )
    rows: list[dict[str, Any]] = []
    best: tuple[float, int, dict[str, Tensor]] = (-np.inf, 0, {})
    diverged = False
    for epoch in range(1, config.epochs + 1):
        started = time.perf_counter()
        train_loss = _train_epoch(model, train, optimizer, config, rng)
        scored = predict(model, dev, amp=config.amp)
        row = {"epoch": epoch, "lr": optimizer.param_groups[0]["lr"], "train_loss": train_loss}
        schedule.step(scored.loss)
        row |= {"dev_loss": scored.loss, "dev_accuracy": scored.accuracy}
        row |= watch(model) if watch else {}
        rows.append(row | {"seconds": time.perf_counter() - started})
        diverged = not np.isfinite(scored.loss)
        if diverged:
            break  # what was best so far stands
        score = scored.accuracy if config.select == "accuracy" else -scored.loss
        if score > best[0]:
            state = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
            best = (score, epoch, state)
        elif epoch - best[1] >= config.patience:
            break
    if not best[2]:
        raise InputError(
            f"{model.config.name!r}: the development loss is not a number from the first epoch on. "
            f"Look at the features' scale, or lower lr={config.lr}"
        )
    model.load_state_dict(best[2])
    return FitResult(pd.DataFrame(rows), best[1], best[2], diverged)


def _train_epoch(
    model: Recognizer,
    train: Part,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    rng: np.random.Generator,
) -> float:
    """One pass over the training part; the mean cross-entropy of its utterances in nats."""
    model.train()
    total = 0.0
    weights = parse_losses(config.losses)
    lots = rng.spawn(1)[0] if "missing_view" in weights else None  # the order stays as without it
    for batch in train.batches(config.batch_size, rng, config.pool):
        batch = batch.to(config.device)
        output = forward(model, batch, config.amp)
        loss = F.cross_entropy(output.logits, batch.labels)
        objective = loss
        if weights:
            dropped = None
            if lots is not None:
                dropped = forward(model, drop_one(batch, lots), config.amp)
            objective = loss + extra_loss(output, batch.labels, weights, dropped)
        optimizer.zero_grad(set_to_none=True)
        objective.backward()
        optimizer.step()
        total += loss.item() * len(batch.labels)
    return total / len(train)


def forward(model: Recognizer, batch: Batch, amp: bool = False) -> Output:
    """What ``model`` says of a batch; with ``amp`` its matrix products are in bfloat16.

    What comes out is in the model's own precision all the same, so that losses and probabilities
    are computed in it. bfloat16 has the exponents of float32: no gradient becomes zero, and none
    has to be scaled, as those of float16 do.
    """
    if not amp:
        output: Output = model(batch)
        return output
    with torch.autocast(batch.labels.device.type, torch.bfloat16):
        output = model(batch)
    fused = replace(
        output.fused,
        vectors=output.fused.vectors.float(),
        losses={name: loss.float() for name, loss in output.fused.losses.items()},
    )
    return replace(output, logits=output.logits.float(), fused=fused)


def check_precision(config: TrainConfig, model: ModelConfig) -> None:
    """Raises ``InputError`` where ``amp`` would change nothing."""
    if config.amp and model.double:
        raise InputError(
            f"amp: {model.name!r} computes in float64, where it has no effect: add double=false"
        )


def compile_forward(model: Recognizer, part: Part, config: TrainConfig) -> None:
    """Compile ``model.forward``, in place, and try it; names of parameters stay.

    Encoders are left as they are: a compiler would unroll the steps of their recurrent layers.

    Raises ``InputError`` where it cannot be compiled; a CPU needs a C++ compiler.
    """
    for encoder in model.encoders.values():
        encoder.forward = torch.compiler.disable(encoder.forward)
    model.compile(dynamic=True)
    # Imported here, as they take seconds to load.
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import InductorError

    batch = part.collate(part.rows[: config.batch_size]).to(config.device)
    try:
        with torch.no_grad():
            forward(model.eval(), batch, config.amp)
    except (TorchDynamoException, InductorError) as error:
        why = next(iter(str(error).split("\n")), "")[:200]
        raise InputError(
            f"compile: torch.compile failed ({type(error).__name__}: {why}); a CPU needs a C++ "
            f"compiler (g++), CUDA needs triton. Install what is missing, or leave --compile out"
        ) from error


@torch.no_grad()
def predict(
    model: Recognizer, part: Part, batch_size: int = EVAL_BATCH, amp: bool = False
) -> Predictions:
    """Class probabilities of every utterance of ``part``, in its order; dropout off.

    Batches are smaller where utterances are long, so that memory stays as it is in training.
    """
    model.eval()
    batch_size = max(1, min(batch_size, EVAL_FRAMES // part.longest))
    device = next(model.parameters()).device
    probabilities = [
        forward(model, batch.to(device), amp).logits.softmax(dim=-1).float().cpu().numpy()
        for batch in part.batches(batch_size)
    ]
    ids = part.corpus.utterances["id"].to_numpy(dtype=str)[part.rows]
    return Predictions(ids, part.corpus.labels[part.rows], np.concatenate(probabilities))


def build_model(config: ModelConfig, seed: int) -> Recognizer:
    """A recognizer whose starting parameters are fixed by ``seed``."""
    with _seeded(seed, "cpu"):
        return Recognizer(config)


@contextmanager
def _seeded(seed: int, device: str) -> Iterator[None]:
    """The generators of the CPU and of ``device`` started from ``seed``, later as before.

    ``torch.manual_seed`` would start those of all devices anew and leave them so.
    """
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        for one in cuda:
            with torch.cuda.device(one):
                torch.cuda.manual_seed(seed)
        yield
