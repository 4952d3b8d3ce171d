"""A bidirectional GRU on a CPU whose steps are one compiled loop, gradients by hand.

With gates r, z, n of Cho et al. (2014) as ``torch.nn.GRU`` computes them,

    h' = (1 - z) n + z h,   n = tanh(a_n + r (W_n h + b_n)),   r, z = sigmoid(a + W h + b),

the inputs' share a is one matrix product over all steps and sequences, and so are the gradients of
the weights; only W h runs step by step. Nothing is approximated: output and gradients are those of
torch's own module but for rounding. Padding is not computed.

- N: the real steps of all sequences, one sequence after the other; ``lengths`` (B,) of them each;
- data (N, F), gates (N, 2, 3h) of r, z, n; the second direction goes from the last step back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

COMPILED = (torch.float32, torch.float64)  # what loops are there for
_LOOPS = ContextVar("loops", default=True)
NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def has_loop(x: Tensor) -> bool:
    """Whether a compiled loop works on ``x``; a compiler of torch's is given what it can read."""
    looped = x.device.type == "cpu" and x.dtype in COMPILED and _LOOPS.get()
    return looped and not (torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"))


@contextmanager
def torch_alone() -> Iterator[None]:
    """Torch's own operations in place of compiled loops: for what sees no others, as a counter."""
    before = _LOOPS.set(False)
    try:
        yield
    finally:
        _LOOPS.reset(before)


def packed_gru(gru: nn.GRU, data: Tensor, lengths: Tensor) -> Tensor:
    """What ``gru`` gives for sequences one after the other: (N, F), (B,) int64 -> (N, 2h).

    ``gru`` has one layer and two directions; everything is on a CPU, in float32 or float64.
    """
    weights = [getattr(gru, name + way) for name in NAMES for way in ("", "_reverse")]
    out: Tensor = _Recurrence.apply(data, lengths, *weights)  # (N, 2, h)
    return out.flatten(1)


class _Recurrence(torch.autograd.Function):
    """(N, 2, h) of data (N, F), lengths (B,) and, for each direction, what ``NAMES`` says."""

    @staticmethod
    def forward(ctx: Any, data: Tensor, lengths: Tensor, *weights: Tensor) -> Tensor:
        from mmer_lib.kernels import gru_forward  # numba is imported where it is used

        w_in = torch.cat(weights[:2])  # (6h, F)
        w, b_in, b = (torch.stack(weights[i : i + 2]) for i in (2, 4, 6))  # (2, 3h, h), (2, 3h)
        h, steps = w.shape[2], len(data)
        gates = (data @ w_in.T).view(steps, 2, 3 * h)
        out, recurrent = data.new_empty(steps, 2, h), data.new_empty(steps, 2, h)
        order = lengths.argsort(descending=True)
        given = (gates, w.transpose(1, 2).contiguous(), b_in, b, lengths, order, out, recurrent)
        gru_forward(*(x.numpy() for x in given))
        ctx.save_for_backward(data, w_in, w, gates, lengths, order, out, recurrent)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from mmer_lib.kernels import gru_backward

        data, w_in, w, gates, lengths, order, out, recurrent = ctx.saved_tensors
        h = w.shape[2]
        to_gates, to_n, before = (torch.empty_like(x) for x in (gates, recurrent, recurrent))
        made = (to_gates, to_n, before)
        given = (grad.contiguous(), gates, w, lengths, order, out, recurrent, *made)
        gru_backward(*(x.numpy() for x in given))
        grad_w = to_gates.permute(1, 2, 0) @ before.transpose(0, 1)  # (2, 3h, h)
        grad_b = to_gates.sum(dim=0)  # (2, 3h)
        to_gates[..., 2 * h :] = to_n  # now of the inputs' share
        both = to_gates.flatten(1)  # (N, 6h)
        grad_w_in = both.T @ data  # (6h, F)
        to_data = both @ w_in if ctx.needs_input_grad[0] else None  # (N, F)
        grads = (*grad_w_in.chunk(2), *grad_w, *both.sum(dim=0).chunk(2), *grad_b)
        return to_data, None, *grads
