"""What every fusion of the zoo costs at the size of an average utterance of IEMOCAP.

The controlled model at the paper's sizes in float32, one thread; a batch of utterances of 4.5 s:
450 frames of audio, 14 of video, 15 words, random features, no padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from mmer_lib.bench.flops import count_flops
from mmer_lib.bench.loads import AVERAGE, Load
from mmer_lib.bench.measure import Say, Settings, take_in_turn
from mmer_lib.bench.steps import Steps
from mmer_lib.matching import ZOO
from mmer_lib.model import count_parameters


def bench_zoo(
    settings: Settings,
    say: Say,
    names: Sequence[str] = ZOO,
    lengths: Mapping[str, int] = AVERAGE,
    memory: bool = True,
) -> pd.DataFrame:
    """A row a configuration, in the order given.

    Columns: ``configuration``; ``fusion_parameters``, ``parameters`` (trained in all);
    ``megaflops`` and ``train_megaflops``, a million operations of matrix products an utterance in
    an evaluation and in a training step (recurrent layers included); ``train_ms`` and ``eval_ms``
    an utterance; with ``memory`` ``mb`` at the peak of a training step, above model and batch.
    """
    batch = settings.batch_size
    loads = {name: Load(name, batch, lengths) for name in names}
    steps = {name: load.steps() for name, load in loads.items()}
    say(f"zoo: operations of {len(loads)} configurations")
    rows = [_count(name, one, batch) for name, one in steps.items()]
    table = pd.DataFrame(rows)
    for what in ("train", "eval"):
        say(f"zoo: time to {what}")
        seconds = take_in_turn({n: getattr(s, what) for n, s in steps.items()}, settings.repeats)
        table[f"{what}_ms"] = [1000 * seconds[name] / batch for name in names]
    if memory:
        say("zoo: memory, each in a process of its own")
        table["mb"] = [load.megabytes() for load in loads.values()]
    return table


def _count(name: str, steps: Steps, batch: int) -> dict[str, object]:
    """Parameters and operations."""
    model = steps.model
    return {
        "configuration": name,
        "fusion_parameters": count_parameters(model.fusion),
        "parameters": count_parameters(model),
        "megaflops": count_flops(model, steps.batch) / batch / 1e6,
        "train_megaflops": count_flops(model, steps.batch, learn=True) / batch / 1e6,
    }
