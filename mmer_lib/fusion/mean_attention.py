"""Attention whose output is averaged over the query's time, without what the average throws away.

With w_hs = mean_t dropout(softmax(q k^T / sqrt(d)))_hts, the average of a head's output is
sum_s w_hs (W_v e_s + b_v)_h. So values are projected once an utterance instead of once a frame,
no product of weights and values is formed, and the backward pass has two products over (Tq, Ts)
instead of four. Nothing is approximated: output and gradients are those of ``MultiHeadAttention``
followed by ``masked_mean`` but for rounding. What is not given is the map itself.

- q (N, Tq, d), k (N, Ts, d): queries and keys of N = B * H heads, q already over sqrt(d);
- bias (N, Ts): added to the scores, -inf where a step is not real; None: all are;
- share (N, Tq): what each query frame counts in the mean, zero on padding.

On a CPU the N heads are worked off a few at a time, so that their scores stay in its cache, and
dropout comes from generators of its own, started from torch's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

IN_CACHE = 1 << 18  # scores that are worked on together: 1 MB of float32


def mean_weights(
    q: Tensor, k: Tensor, bias: Tensor | None, share: Tensor, rate: float = 0.0
) -> Tensor:
    """Attention weights after dropout at ``rate``, averaged over query frames: (N, Ts).

    Shapes as above. Differentiable once, for q and k.
    """
    if _has_kernels(q):
        w: Tensor = _MeanWeights.apply(q, k, bias, share, rate)
        return w
    scores = torch.bmm(q, k.transpose(1, 2))
    weights = (scores if bias is None else scores + bias[:, None, :]).softmax(dim=-1)
    return torch.bmm(share[:, None, :], F.dropout(weights, rate)).squeeze(1)


def _has_kernels(q: Tensor) -> bool:
    """Whether the loops of a CPU can be used: not in half precision, nor seen by a compiler."""
    whole = q.dtype in (torch.float32, torch.float64)
    return q.device.type == "cpu" and whole and not torch.compiler.is_compiling()


class _MeanWeights(torch.autograd.Function):
    """``mean_weights`` on a CPU, a few heads at a time."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, bias: Tensor | None, share: Tensor, rate: float
    ) -> Tensor:
        (n, tq, _), ts = q.shape, k.shape[1]
        learn = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        blocks = _blocks(n, tq, ts)
        weights = q.new_empty(n if learn else blocks[0].stop, tq, ts)
        mean = q.new_empty(n, ts)
        drop = _Dropout(rate, ts) if rate else None
        for at in blocks:
            a = weights[at] if learn else weights[: at.stop - at.start]
            torch.bmm(q[at], k[at].transpose(1, 2), out=a)
            if bias is not None:
                a += bias[at, None, :]
            torch.softmax(a, dim=-1, out=a)
            if drop is None:
                torch.bmm(share[at, None, :], a, out=mean[at, None, :])
            else:
                drop(a, share[at], mean[at])
        ctx.save_for_backward(q, k, share, weights)
        ctx.kept = 1 - rate
        return mean.div_(1 - rate)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from mmer_lib.fusion.kernels import push_back

        q, k, share, weights = ctx.saved_tensors
        grad = grad / ctx.kept
        grad_q, grad_k = torch.empty_like(q), torch.empty_like(k)
        blocks = _blocks(*weights.shape)
        room = torch.empty_like(weights[blocks[0]])
        for at in blocks:
            scores = room[: at.stop - at.start]
            push_back(weights[at].numpy(), share[at].numpy(), grad[at].numpy(), scores.numpy())
            torch.bmm(scores, k[at], out=grad_q[at])
            torch.bmm(scores.transpose(1, 2), q[at], out=grad_k[at])
        return grad_q, grad_k, None, None, None


def _blocks(n: int, tq: int, ts: int) -> list[slice]:
    """Slices of ``range(n)``, as many heads each as stay in the cache."""
    step = max(1, IN_CACHE // (tq * ts))
    return [slice(i, min(n, i + step)) for i in range(0, n, step)]


class _Dropout:
    """Drops weights in place, in their sign, and averages what is left."""

    def __init__(self, rate: float, columns: int) -> None:
        from mmer_lib.fusion import kernels  # numba is imported where it is used

        self.kernels = kernels
        self.dropped = np.uint32(round(rate * kernels.TOP))
        self.lanes = kernels.seed_lanes(int(torch.randint(1 << 62, ())), columns)

    def __call__(self, weights: Tensor, share: Tensor, mean: Tensor) -> None:
        arrays = (weights.numpy(), share.numpy(), self.lanes, self.dropped, mean.numpy())
        self.kernels.drop_and_average(*arrays)
