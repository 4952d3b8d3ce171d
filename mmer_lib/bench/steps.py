"""One training step and one evaluation at the paper's sizes, ours beside the plain way.

Random features, batch 32: text 128 x 300, video 32 x 2048, audio 1000 x 120. Memory is the peak of
a process that takes two steps, above what it held before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch.nn import functional as F

from mmer_lib.bench.baseline import build_plain, plain_name
from mmer_lib.bench.measure import (
    Say,
    Settings,
    in_fresh_process,
    one_thread,
    peak_of,
    take_in_turn,
)
from mmer_lib.corpora.batches import Batch
from mmer_lib.model import ModelConfig, Recognizer, parse_configuration
from mmer_lib.train import forward

NAMES = ("self-AVT@released,double=false", "cross-AVT@released,double=false")
WAYS = ("plain", "ours")


def bench_steps(
    settings: Settings, say: Say, names: tuple[str, ...] = NAMES, memory: bool = True
) -> pd.DataFrame:
    """One row a configuration: seconds of both ways, and how many times faster ours is.

    Columns: ``configuration``, ``train_plain``, ``train_ours``, ``train_ratio``, likewise ``eval``,
    and with ``memory`` ``mb_plain``, ``mb_ours``, ``mb_share``.
    """
    rows = []
    for name in names:
        say(f"{name}: time of {settings.repeats} steps each")
        row = {"configuration": name} | _time_ways(name, settings)
        if memory:
            say(f"{name}: memory")
            given = (settings.batch_size, settings.device)
            row |= {f"mb_{w}": in_fresh_process(measure_memory, name, w, *given) for w in WAYS}
            row["mb_share"] = row["mb_ours"] / row["mb_plain"]
        rows.append(row)
    return pd.DataFrame(rows)


def make_batch(config: ModelConfig, size: int) -> Batch:
    """Random features of the configuration's shapes, without padding."""
    rng = torch.Generator().manual_seed(0)
    shapes = {m: (size, config.lengths[m], config.features[m]) for m in config.modalities}
    return Batch(
        {m: torch.randn(s, dtype=config.dtype, generator=rng) for m, s in shapes.items()},
        {m: torch.ones(s[:2], dtype=torch.bool) for m, s in shapes.items()},
        torch.randint(config.classes, (size,), generator=rng),
        torch.arange(size),
    )


def train_step(
    model: Recognizer, optimizer: torch.optim.Optimizer, batch: Batch, amp: bool = False
) -> None:
    """One step on the cross-entropy of a batch."""
    model.train()
    optimizer.zero_grad(set_to_none=True)
    F.cross_entropy(forward(model, batch, amp).logits, batch.labels).backward()
    optimizer.step()


class Steps:
    """A model with its optimiser and a batch, ready to take steps."""

    def __init__(self, model: Recognizer, batch: Batch, amp: bool = False) -> None:
        self.model, self.batch, self.amp = model, batch, amp
        self.optimizer = torch.optim.Adam(model.parameters())

    def train(self) -> None:
        """One step of Adam."""
        train_step(self.model, self.optimizer, self.batch, self.amp)

    def take_two(self) -> None:
        """Two steps: in the second, Adam's state is there."""
        self.train()
        self.train()

    @torch.no_grad()
    def eval(self) -> None:
        """One forward pass."""
        self.model.eval()
        forward(self.model, self.batch, self.amp)


class Way(Steps):
    """Ours, or the plain way in the released code's precision, at the paper's sizes."""

    def __init__(self, name: str, way: str, batch_size: int, device: str = "cpu") -> None:
        ours = Recognizer(parse_configuration(name if way == "ours" else plain_name(name)))
        model = ours if way == "ours" else build_plain(plain_name(name), ours)
        super().__init__(model.to(device), make_batch(model.config, batch_size).to(device))


def _time_ways(name: str, settings: Settings) -> dict[str, Any]:
    """Medians of both ways, taken in turn."""
    ways = {way: Way(name, way, settings.batch_size, settings.device) for way in WAYS}
    work = {f"{t}_{w}": getattr(ways[w], t) for t in ("train", "eval") for w in WAYS}
    return _with_ratios(take_in_turn(work, settings.repeats, settings.device))


def _with_ratios(seconds: Mapping[str, float]) -> dict[str, Any]:
    """``train_plain``, ``train_ours``, ``train_ratio``, and so on."""
    row: dict[str, Any] = {}
    for what in ("train", "eval"):
        plain, ours = seconds[f"{what}_plain"], seconds[f"{what}_ours"]
        row |= {f"{what}_plain": plain, f"{what}_ours": ours, f"{what}_ratio": plain / ours}
    return row


def measure_memory(name: str, way: str, batch_size: int, device: str = "cpu") -> float:
    """MB at the peak of two training steps, above what was held before; see ``peak_of``."""
    with one_thread():
        one = Way(name, way, batch_size, device)
        return peak_of(one.take_two, device)
