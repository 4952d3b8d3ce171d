"""Attention whose output is averaged over the query's time, without what the average throws away.

With w_hs = mean_t dropout(softmax(q k^T))_hts, the average of a head's output is
sum_s w_hs (W_v e_s + b_v)_h. So values are projected once an utterance instead of once a frame,
and no product of weights and values is formed. Nothing is approximated: output and gradients are
those of ``MultiHeadAttention`` followed by ``masked_mean`` but for rounding.

On a CPU a loop compares some query frames of a head with all its sources at a time, so that their
scores stay in its cache; padding is left out; and no weight is kept for the backward pass, which
forms them anew. So memory grows with Tq + Ts, not with Tq * Ts. What is not given is the map
itself, and dropout's random numbers come from generators of its own, started from torch's.

- q (B, Tq, H, d), k (B, Ts, H, d): queries and keys of H heads;
- asked (B,), read (B,) int64: how many of the frames are real, from the first on; 0: missing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mmer_lib.recurrence import has_loop


def mean_weights(q: Tensor, k: Tensor, asked: Tensor, read: Tensor, rate: float = 0.0) -> Tensor:
    """Attention weights after dropout at ``rate``, averaged over real query frames: (B, H, Ts).

    Shapes as above. Zero on padding, and where query or source is missing. Differentiable once, for
    q and k.
    """
    if has_loop(q):
        w: Tensor = _MeanWeights.apply(q.contiguous(), k.contiguous(), asked, read, rate)
        return w
    return plain_mean_weights(q, k, asked, read, rate)


def plain_mean_weights(q: Tensor, k: Tensor, asked: Tensor, read: Tensor, rate: float) -> Tensor:
    """The same in torch's operations: on other devices, in half precision, for a compiler."""
    real = torch.arange(k.shape[1], device=k.device) < read[:, None]  # (B, Ts)
    counts = torch.arange(q.shape[1], device=q.device) < asked[:, None]  # (B, Tq)
    bias = q.new_zeros(real.shape).masked_fill(~real & (read > 0)[:, None], -torch.inf)
    q, k = q.transpose(1, 2) / math.sqrt(q.shape[3]), k.permute(0, 2, 3, 1)
    weights = (q @ k + bias[:, None, None, :]).softmax(dim=-1)  # (B, H, Tq, Ts)
    share = counts.to(q.dtype) / asked.clamp(min=1)[:, None]  # (B, Tq)
    mean = share[:, None, None, :] @ F.dropout(weights, rate)  # (B, H, 1, Ts)
    return mean.squeeze(2) * real[:, None, :]


class _MeanWeights(torch.autograd.Function):
    """``mean_weights`` on a CPU, q and k one after the other in memory."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, asked: Tensor, read: Tensor, rate: float) -> Tensor:
        from mmer_lib.kernels import average_weights  # numba is imported where it is used

        heads = q.shape[2]
        norm = q.new_empty(len(q), heads, q.shape[1])
        mean = k.new_zeros(len(k), heads, k.shape[1])
        ctx.lots = _lots(rate)
        given = (q, k, asked, read, norm, mean)
        average_weights(*(x.detach().numpy() for x in given), *ctx.lots)
        ctx.save_for_backward(q, k, asked, read, norm)
        ctx.share = 1 / (asked.clamp(min=1) * (1 - rate)).to(q.dtype)[:, None, None]  # of a weight
        return mean.mul_(ctx.share)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from mmer_lib.kernels import push_back

        q, k = ctx.saved_tensors[:2]
        grad_q, grad_k = torch.zeros_like(q), torch.zeros_like(k)
        given = (*ctx.saved_tensors, grad * ctx.share, grad_q, grad_k)
        push_back(*(x.detach().numpy() for x in given), *ctx.lots)
        return grad_q, grad_k, None, None, None


def _lots(rate: float) -> tuple[np.uint64, np.uint32]:
    """The last arguments of the kernels: a seed, and below which number a lot drops its weight."""
    from mmer_lib.kernels import TOP

    seed = np.uint64(int(torch.randint(1 << 62, (), device="cpu")) if rate else 0)
    return seed, np.uint32(min(TOP - 1, round(rate * TOP)))
