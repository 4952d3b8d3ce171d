"""A load: a configuration with utterances of chosen lengths, whose steps are timed and weighed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from mmer_lib.bench.baseline import build_plain
from mmer_lib.bench.measure import in_fresh_process, one_thread, peak_of
from mmer_lib.bench.steps import Steps, make_batch
from mmer_lib.fusion import MultiHeadAttention
from mmer_lib.model import Recognizer, parse_configuration

PAPER = {"audio": 1000, "video": 32, "text": 128}  # frames, after the released code's padding
AVERAGE = {"audio": 450, "video": 14, "text": 15}  # of an utterance of IEMOCAP, 4.5 s


@dataclass(frozen=True)
class Load:
    """``batch_size`` utterances without padding; ``way``: ours, or plain in the same precision."""

    name: str
    batch_size: int
    lengths: Mapping[str, int]
    way: str = "ours"

    def steps(self) -> Steps:
        """The model with random parameters, and the batch with random features."""
        config = replace(parse_configuration(self.name), lengths=dict(self.lengths))
        model = Recognizer(config)
        model = model if self.way == "ours" else build_plain(self.name, model)
        return Steps(model, make_batch(config, self.batch_size))

    def megabytes(self) -> float:
        """At the peak of two training steps, above model and batch, in a process of their own."""
        return float(in_fresh_process(weigh, asdict(self)))


def weigh(fields: dict[str, Any]) -> float:
    """``Load(**fields)`` in this process; what is loaded once, at the first step, is not in it."""
    load = Load(**fields)
    with one_thread():
        _load_kernels(load)
        return peak_of(load.steps().take_two)


def _load_kernels(load: Load) -> None:
    """A small step, and what long sequences use, so that it is compiled and in memory."""
    replace(load, batch_size=2, lengths=dict.fromkeys(load.lengths, 2)).steps().train()
    x, real = torch.ones(1, 2, 2), torch.tensor([2])
    MultiHeadAttention(2, 1, dropout=0.1).mean(x, x, real, real).sum().backward()
