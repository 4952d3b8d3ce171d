"""Attention whose output is averaged over the query's time, without what the average throws away.

With w_hs = mean_t dropout(softmax(q k^T))_hts, the average of a head's output is
sum_s w_hs (W_v e_s + b_v)_h. So values are projected once an utterance instead of once a frame,
and no product of weights and values is formed. Nothing is approximated: output and gradients are
those of ``MultiHeadAttention`` followed by ``masked_mean`` but for rounding.

On a CPU a loop compares some query frames of a head with all its sources at a time, so that their
scores stay in its cache; padding is left out; and no weight is kept for the backward pass, which
forms them anew. So memory grows with Tq + Ts, not with Tq * Ts. What is not given is the map
itself, and dropout's random numbers come from generators of its own, started from torch's. For the
rest gradients are written out: of short sequences torch's bookkeeping took most of the time.

- query (B, Tq, D), source (B, Ts, D), of which it makes q and k (B, T, H, d) in H heads;
- asked (B,), read (B,) int64: how many of the frames are real, from the first on; 0: missing.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mmer_lib.recurrence import has_loop


class Weights(NamedTuple):
    """The parameters of ``MultiHeadAttention``, with I = H d numbers in all heads."""

    w_in: Tensor  # (3 I, D): of queries, keys and values
    b_in: Tensor  # (3 I,)
    w_out: Tensor  # (D, I)
    b_out: Tensor  # (D,)


def mean_attention(
    query: Tensor, source: Tensor, asked: Tensor, read: Tensor, weights: Weights, heads: int,
    rate: float = 0.0,
) -> Tensor:  # fmt: skip
    """Attention's output averaged over real query frames, dropout at ``rate``: (B, D).

    Zero where the query is missing; where the source is, it is the bias of the output. It can be
    differentiated once.
    """
    if has_loop(query):
        out: Tensor = _MeanAttention.apply(query, source, asked, read, *weights, heads, rate)
        return out
    return plain_mean_attention(query, source, asked, read, weights, heads, rate)


def plain_mean_attention(
    query: Tensor, source: Tensor, asked: Tensor, read: Tensor, weights: Weights, heads: int,
    rate: float,
) -> Tensor:  # fmt: skip
    """The same in torch's operations: on other devices, in half precision, for a compiler."""
    w_q, w_k, w_v = weights.w_in.chunk(3)
    b_q, b_k, b_v = weights.b_in.chunk(3)
    q = F.linear(query, w_q, b_q).unflatten(-1, (heads, -1))  # (B, Tq, H, d)
    k = F.linear(source, w_k, b_k).unflatten(-1, (heads, -1))  # (B, Ts, H, d)
    w = plain_mean_weights(q, k, asked, read, rate)  # (B, H, Ts)
    _, values = _read(w, source, w_v, b_v)
    return F.linear(values, weights.w_out, weights.b_out) * (asked > 0)[:, None]  # (B, D)


def plain_mean_weights(q: Tensor, k: Tensor, asked: Tensor, read: Tensor, rate: float) -> Tensor:
    """Weights after dropout at ``rate``, averaged over real query frames: (B, H, Ts).

    Zero on padding, and where query or source is missing.
    """
    real = torch.arange(k.shape[1], device=k.device) < read[:, None]  # (B, Ts)
    counts = torch.arange(q.shape[1], device=q.device) < asked[:, None]  # (B, Tq)
    bias = q.new_zeros(real.shape).masked_fill(~real & (read > 0)[:, None], -torch.inf)
    q, k = q.transpose(1, 2) / math.sqrt(q.shape[3]), k.permute(0, 2, 3, 1)
    weights = (q @ k + bias[:, None, None, :]).softmax(dim=-1)  # (B, H, Tq, Ts)
    share = counts.to(q.dtype) / asked.clamp(min=1)[:, None]  # (B, Tq)
    mean = share[:, None, None, :] @ F.dropout(weights, rate)  # (B, H, 1, Ts)
    return mean.squeeze(2) * real[:, None, :]


def _read(w: Tensor, source: Tensor, w_v: Tensor, b_v: Tensor) -> tuple[Tensor, Tensor]:
    """What weights (B, H, Ts) take of the source (H, B, D), and its values in all heads (B, I)."""
    heads = w.shape[1]
    taken = (w @ source).transpose(0, 1)  # (H, B, D)
    values = taken @ w_v.unflatten(0, (heads, -1)).transpose(1, 2)  # (H, B, d)
    bias = b_v.unflatten(0, (heads, -1)) * w.sum(dim=2, keepdim=True)  # (B, H, d)
    return taken, (values.transpose(0, 1) + bias).flatten(1)


class _MeanAttention(torch.autograd.Function):
    """``mean_attention`` on a CPU."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, source: Tensor, asked: Tensor, read: Tensor,
        w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor, heads: int, rate: float,
    ) -> Tensor:  # fmt: skip
        w_q, w_k, w_v = w_in.unflatten(0, (3, -1))
        b_q, b_k, b_v = b_in.unflatten(0, (3, -1))
        q = F.linear(query, w_q, b_q).unflatten(2, (heads, -1))  # (B, Tq, H, d)
        k = F.linear(source, w_k, b_k).unflatten(2, (heads, -1))  # (B, Ts, H, d)
        lots = draw_lots(rate)
        w, norm = average(q, k, asked, read, lots)  # (B, H, Ts)
        taken, values = _read(w, source, w_v, b_v)
        there = (asked > 0)[:, None]
        kept = (query, source, asked, read, w_in, b_in, w_out, there, q, k, w, norm, taken, values)
        ctx.save_for_backward(*kept)
        ctx.lots = lots
        return F.linear(values, w_out, b_out) * there

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, source, asked, read, w_in, b_in, w_out, there, *made = ctx.saved_tensors
        q, k, w, norm, taken, values = made
        heads = q.shape[2]
        w_q, w_k, w_v = w_in.unflatten(0, (3, -1))
        b_v = b_in.unflatten(0, (3, heads, -1))[2]  # (H, d)
        grad = grad * there
        to_values = (grad @ w_out).unflatten(1, (heads, -1))  # (B, H, d)
        by_head = to_values.transpose(0, 1)  # (H, B, d)
        to_taken = (by_head @ w_v.unflatten(0, (heads, -1))).transpose(0, 1)  # (B, H, D)
        to_w = to_taken @ source.transpose(1, 2)  # (B, H, Ts)
        to_w += (to_values * b_v).sum(dim=2, keepdim=True)
        to_q, to_k = push(q, k, asked, read, norm, to_w, ctx.lots)
        to_q, to_k = to_q.flatten(0, 1).flatten(1), to_k.flatten(0, 1).flatten(1)  # (B T, I)
        to_query = to_q @ w_q
        to_source = (w.transpose(1, 2) @ to_taken).flatten(0, 1).addmm_(to_k, w_k)
        to_w_in = torch.empty_like(w_in)
        of_q, of_k, of_v = to_w_in.unflatten(0, (3, -1))
        torch.mm(to_q.T, query.flatten(0, 1), out=of_q)
        torch.mm(to_k.T, source.flatten(0, 1), out=of_k)
        torch.bmm(by_head.transpose(1, 2), taken, out=of_v.unflatten(0, (heads, -1)))
        of_b_v = (to_values * w.sum(dim=2, keepdim=True)).sum(dim=0).flatten()
        to_b_in = torch.cat([to_q.sum(dim=0), to_k.sum(dim=0), of_b_v])
        to_parameters = (to_w_in, to_b_in, grad.T @ values, grad.sum(dim=0))
        to_sequences = (to_query.view_as(query), to_source.view_as(source))
        return *to_sequences, None, None, *to_parameters, None, None


Lots = tuple[np.uint64, np.uint32]


def draw_lots(rate: float) -> Lots:
    """The last arguments of the loops: a seed, and below which number a lot drops its weight."""
    from mmer_lib.kernels import TOP

    seed = torch.randint(1 << 62, (), device="cpu").item() if rate else 0
    return np.uint64(seed), np.uint32(min(TOP - 1, round(rate * TOP)))


def average(q: Tensor, k: Tensor, asked: Tensor, read: Tensor, lots: Lots) -> tuple[Tensor, Tensor]:
    """What ``plain_mean_weights`` gives, (B, H, Ts), and what :func:`push` needs of the scores."""
    from mmer_lib.kernels import average_weights  # numba is imported where it is used

    heads = q.shape[2]
    norm = q.new_empty(len(q), heads, 2, q.shape[1])
    mean = k.new_zeros(len(k), heads, k.shape[1])
    average_weights(*(x.numpy() for x in (q, k, asked, read, norm, mean)), *lots)
    return mean, norm


def push(
    q: Tensor, k: Tensor, asked: Tensor, read: Tensor, norm: Tensor, grad: Tensor, lots: Lots
) -> tuple[Tensor, Tensor]:
    """Gradients of q and k from that of their averaged weights, ``grad`` (B, H, Ts)."""
    from mmer_lib.kernels import push_back

    made = torch.zeros_like(q), torch.zeros_like(k)
    push_back(*(x.numpy() for x in (q, k, asked, read, norm, grad, *made)), *lots)
    return made
