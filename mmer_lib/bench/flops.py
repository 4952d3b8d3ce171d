"""Floating-point operations of the matrix products of a step: 2 n k m for (n, k) times (k, m).

Those that torch dispatches are counted; recurrent layers by formula, as torch takes one step after
the other. A bidirectional GRU of h units a direction that reads F features has 2 * 2 * 3h (F + h) a
step; learning takes the same again for the gradients of its weights, and for those of what it
reads, as far as there are any. Element-wise operations are not counted.
"""

from __future__ import annotations

from copy import deepcopy

from torch import Tensor, nn

from mmer_lib.bench.measure import one_thread
from mmer_lib.bench.steps import Steps
from mmer_lib.corpora.batches import Batch
from mmer_lib.encoders import SequenceEncoder
from mmer_lib.matching import counted_products
from mmer_lib.model import Recognizer


def count_flops(model: Recognizer, batch: Batch, learn: bool = False) -> int:
    """Of one evaluation of ``batch``, or with ``learn`` of a training step; both without padding.

    It is counted on the CPU, on a copy, whatever the device of the model is. Encoders must look at
    each frame alone before their GRU (``convolve`` does not).
    """
    counted = deepcopy(model).cpu()
    fronts = {m: _Front(encoder) for m, encoder in counted.encoders.items()}  # type: ignore[arg-type]
    counted.encoders = nn.ModuleDict(fronts)
    one = Steps(counted, batch.to("cpu"))
    with one_thread(), counted_products() as counter:
        if learn:
            one.train()
        else:
            one.eval()
    return int(counter.get_total_flops()) + sum(f.recurrent(learn) for f in fronts.values())


class _Front(nn.Module):
    """An encoder whose GRU is left out, in the shapes and with the gradients of the whole."""

    def __init__(self, encoder: SequenceEncoder) -> None:
        super().__init__()
        self.same = encoder
        self.steps = 0

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, F), (B, T) -> (B, T', D), (B, T')."""
        x = self.same.front(self.same.input_dropout(x))  # (B, T', F')
        self.steps = x.shape[0] * x.shape[1]
        out = x.mean(dim=-1, keepdim=True).expand(*x.shape[:2], 2 * self.same.gru.hidden_size)
        return out, mask.any(dim=1, keepdim=True).expand(x.shape[:2])

    def recurrent(self, learn: bool) -> int:
        """What the GRU would do for the batch seen last."""
        gru, reads = self.same.gru, self.same.gru.input_size
        pairs = reads + gru.hidden_size
        if learn:
            learned = any(True for _ in self.same.front.parameters())
            pairs += pairs + gru.hidden_size + reads * learned
        return 2 * 2 * 3 * gru.hidden_size * pairs * self.steps
