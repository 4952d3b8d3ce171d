"""Attention whose output is averaged over the query's time, without what the average throws away.

With w_hs = mean_t dropout(softmax(q k^T))_hts, the average of a head's output is
sum_s w_hs (W_v e_s + b_v)_h. So values are projected once an utterance instead of once a frame,
and no product of weights and values is formed. Nothing is approximated: output and gradients are
those of ``MultiHeadAttention`` followed by ``masked_mean`` but for rounding.

On a CPU a few heads of an utterance, or a few query frames of a head, are worked on together, so
that their scores stay in its cache; padding is left out; and no weight is kept for the backward
pass, which forms them anew. So memory grows with Tq + Ts, not with Tq * Ts. What is not given is
the map itself, and dropout's random numbers come from generators of its own, started from torch's.

- q (B, H, Tq, d), k (B, H, Ts, d): queries, already over sqrt(d), and keys of H heads;
- asked (B,), read (B,) int64: how many of the frames are real, from the first on; 0: missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mmer_lib.recurrence import COMPILED

IN_CACHE = 1 << 18  # scores that are worked on together: 1 MB of float32


def mean_weights(q: Tensor, k: Tensor, asked: Tensor, read: Tensor, rate: float = 0.0) -> Tensor:
    """Attention weights after dropout at ``rate``, averaged over real query frames: (B, H, Ts).

    Shapes as above. Zero on padding, and where query or source is missing. Differentiable once, for
    q and k.
    """
    if q.device.type == "cpu" and q.dtype in COMPILED and not torch.compiler.is_compiling():
        w: Tensor = _MeanWeights.apply(q, k, asked.tolist(), read.tolist(), rate)
        return w
    return plain_mean_weights(q, k, asked, read, rate)


def plain_mean_weights(q: Tensor, k: Tensor, asked: Tensor, read: Tensor, rate: float) -> Tensor:
    """The same in torch's operations: on other devices, in half precision, for a compiler."""
    real = torch.arange(k.shape[2], device=k.device) < read[:, None]  # (B, Ts)
    counts = torch.arange(q.shape[2], device=q.device) < asked[:, None]  # (B, Tq)
    bias = q.new_zeros(real.shape).masked_fill(~real & (read > 0)[:, None], -torch.inf)
    weights = (q @ k.transpose(2, 3) + bias[:, None, None, :]).softmax(dim=-1)  # (B, H, Tq, Ts)
    share = counts.to(q.dtype) / asked.clamp(min=1)[:, None]  # (B, Tq)
    mean = share[:, None, None, :] @ F.dropout(weights, rate)  # (B, H, 1, Ts)
    return mean.squeeze(2) * real[:, None, :]


class _MeanWeights(torch.autograd.Function):
    """``mean_weights`` on a CPU, a few heads at a time."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, asked: list[int], read: list[int], rate: float
    ) -> Tensor:
        from mmer_lib.kernels import average_weights  # numba is imported where it is used

        mean, norm = k.new_zeros(k.shape[:3]), q.new_empty(q.shape[:3])
        ctx.lots = _lots(rate)
        ctx.asked, ctx.read, ctx.rate = asked, read, rate
        for part, at, rows, scores in _scores(q, k, asked, read):
            given = (scores.numpy(), norm[at].numpy(), mean[at].numpy(), rows.start)
            average_weights(*given, *ctx.lots(part))
        ctx.save_for_backward(q, k, norm)
        return mean.mul_(_share(q, asked, rate))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from mmer_lib.kernels import push_back

        q, k, norm = ctx.saved_tensors
        grad = grad * _share(q, ctx.asked, ctx.rate)
        grad_q = q.new_zeros(q.transpose(2, 3).shape)  # (B, H, d, Tq): products are faster so
        grad_k = k.new_zeros(k.transpose(2, 3).shape)
        for part, at, rows, scores in _scores(q, k, ctx.asked, ctx.read):
            given = (scores.numpy(), norm[at].numpy(), grad[at].numpy(), rows.start)
            push_back(*given, *ctx.lots(part))
            sources = scores.shape[2]
            keys, queries = k[at][:, :sources].transpose(1, 2), q[at][:, rows].transpose(1, 2)
            grad_q[at][..., rows] = torch.bmm(keys, scores.transpose(1, 2))
            grad_k[at][..., :sources] += torch.bmm(queries, scores)
        return grad_q.transpose(2, 3), grad_k.transpose(2, 3), None, None, None


Part = tuple[int, tuple[int, slice], slice, Tensor]


def _scores(q: Tensor, k: Tensor, asked: list[int], read: list[int]) -> Iterator[Part]:
    """Scores (n, rows, Ts) of some heads and query frames of an utterance, real frames alone.

    With a number of their own (n of them are taken), where these heads are, and which rows. They
    stand where those before stood.
    """
    heads = q.shape[1]
    room, part = q.new_empty(0), 0
    for i, (queries, sources) in enumerate(zip(asked, read, strict=True)):
        if not queries * sources:
            continue
        high = min(queries, max(1, IN_CACHE // sources))
        wide = min(heads, max(1, IN_CACHE // (high * sources)))
        if wide * high * sources > len(room):
            room = q.new_empty(wide * high * sources)
        for first, row in product(range(0, heads, wide), range(0, queries, high)):
            at = (i, slice(first, min(first + wide, heads)))
            rows = slice(row, min(row + high, queries))
            shape = (at[1].stop - first, rows.stop - row, sources)
            scores = room[: math.prod(shape)].view(shape)
            torch.bmm(q[at][:, rows], k[at][:, :sources].transpose(1, 2), out=scores)
            yield part, at, rows, scores
            part += shape[0]


def _share(q: Tensor, asked: list[int], rate: float) -> Tensor:
    """What every query frame counts in the mean, where dropout is made up for: (B, 1, 1)."""
    return (q.new_tensor(asked).clamp(min=1) * (1 - rate)).reciprocal()[:, None, None]


def _lots(rate: float) -> Any:
    """The last arguments of the kernels: seed, part, and what is below is dropped."""
    from mmer_lib.kernels import TOP

    seed = np.uint64(int(torch.randint(1 << 62, ())) if rate else 0)
    dropped = np.uint32(min(TOP - 1, round(rate * TOP)))
    return lambda part: (seed, part, dropped)
