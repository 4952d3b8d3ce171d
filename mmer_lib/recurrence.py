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
    return looped and not torch.compiler.is_compiling()


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
    weights = [torch.stack([getattr(gru, n), getattr(gru, f"{n}_reverse")]) for n in NAMES]
    out: Tensor = _Recurrence.apply(data, *weights, lengths)  # (N, 2, h)
    return out.flatten(1)


class _Recurrence(torch.autograd.Function):
    """(N, 2, h) of data (N, F), w_in (2, 3h, F), w (2, 3h, h), b_in and b (2, 3h), lengths (B,)."""

    @staticmethod
    def forward(
        ctx: Any, data: Tensor, w_in: Tensor, w: Tensor, b_in: Tensor, b: Tensor, lengths: Tensor
    ) -> Tensor:
        from mmer_lib.kernels import gru_forward  # numba is imported where it is used

        n, steps = w.shape[2], len(data)
        gates = (data @ w_in.flatten(0, 1).T).view(steps, 2, 3 * n)
        out, recurrent = data.new_empty(steps, 2, n), data.new_empty(steps, 2, n)
        w_t = w.transpose(1, 2).contiguous()
        given = (gates, w_t, b_in.contiguous(), b.contiguous(), lengths, out, recurrent)
        gru_forward(*(x.numpy() for x in given))
        ctx.save_for_backward(data, w_in, w, gates, lengths, out, recurrent)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from mmer_lib.kernels import gru_backward

        data, w_in, w, gates, lengths, out, recurrent = ctx.saved_tensors
        n = w.shape[2]
        to_gates, to_n, before = (torch.empty_like(x) for x in (gates, recurrent, recurrent))
        given = (grad.contiguous(), gates, w, lengths, out, recurrent, to_gates, to_n, before)
        gru_backward(*(x.numpy() for x in given))
        grad_w = to_gates.permute(1, 2, 0) @ before.transpose(0, 1)  # (2, 3h, h)
        grad_b = to_gates.sum(dim=0)
        to_gates[..., 2 * n :] = to_n  # now of the inputs' share
        both = to_gates.flatten(1)  # (N, 6h)
        grad_in = (both.T @ data).view_as(w_in)  # (2, 3h, F)
        to_data = both @ w_in.flatten(0, 1) if ctx.needs_input_grad[0] else None  # (N, F)
        return to_data, grad_in, grad_w, to_gates.sum(dim=0), grad_b, None
