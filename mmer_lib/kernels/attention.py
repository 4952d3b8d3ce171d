"""Attention that is only averaged, forth and back: see ``mmer_lib.fusion.mean_attention``.

A block is what some query frames of a head, one vector of them, say of all its sources: (Ts,
lanes). So what is computed for a source is computed for all of the vector, however few sources
there are; places behind the last query count nothing. Dropout draws a lot for every weight, from
generators of each query's own (xorshift, Marsaglia 2003). They are started from a seed alone, so
that the backward pass draws the same lots anew and no weight has to be kept.
"""

from __future__ import annotations

import math

import numpy as np

from mmer_lib.kernels.compiled import compiled, part
from mmer_lib.kernels.functions import exp
from mmer_lib.kernels.products import add_product, clear, whole_vectors
from mmer_lib.kernels.vectors import (
    keep,
    lanes,
    larger,
    load,
    load_some,
    numbered,
    spread,
    store,
    store_some,
    total,
    upper_half,
)

TOP = 1 << 32  # one more than the largest lot


@compiled
def average_weights(q, k, asked, read, norm, mean, seed, dropped):  # type: ignore[no-untyped-def]
    """mean (B, H, Ts) of the rows of softmax(q k^T / sqrt(d)) after dropout, zero before.

    q (B, Tq, H, d) and k (B, Ts, H, d), of which the first ``asked`` (B,) and ``read`` (B,) frames
    are real. Into ``norm`` (B, H, 2, Tq) goes of each row its largest score, and one over the sum
    of exponentials above it. A weight is dropped with probability ``dropped`` / 2^32.
    """
    heads, width = q.shape[2:]
    size, most = lanes(q), read.max()
    asks = np.zeros((width, size), q.dtype)
    scores, sums = np.empty((most, size), q.dtype), np.empty((most, size), q.dtype)
    for i, sources in enumerate(read):
        for h in range(heads):
            clear(sums[:sources])
            for first in range(0, asked[i] if sources else 0, size):
                count = min(size, asked[i] - first)
                _turn(q, i, first, count, h, asks)
                _compare(k[i, :sources, h], asks, scores)
                top, whole = _exponentials(scores, sources)
                store_some(norm, (i, h, 0, first), top, count)
                store_some(norm, (i, h, 1, first), 1.0 / whole, count)
                share = load_some(norm, (i, h, 1, first), count)  # nothing behind the last
                lots = start_lots(q, seed, i * heads + h, first)
                _add_up(scores, sources, share, lots, dropped, sums)
            share = share_of(asked[i], dropped)
            for j in range(sources):
                mean[i, h, j] = total(load(sums, (j, 0))) * share


@compiled
def push_back(q, k, asked, read, norm, grad, grad_q, grad_k, seed, dropped):  # type: ignore[no-untyped-def]
    """Gradients of q and k, in their shapes, from ``grad`` (B, H, Ts), that of mean.

    The rest as ``average_weights`` was given it, and left it. What is not real is left as it was.
    """
    heads, width = q.shape[2:]
    size, most, wide = lanes(q), read.max(), whole_vectors(q, width)
    root = q.dtype.type(1 / math.sqrt(width))
    asks, to_asks = np.zeros((width, size), q.dtype), np.empty((width, size), q.dtype)
    weights, kept = np.empty((most, size), q.dtype), np.empty((most, size), q.dtype)
    queries, to_keys = np.zeros((size, wide), q.dtype), np.empty((most, wide), q.dtype)
    for i, sources in enumerate(read):
        for h in range(heads):
            keys, along = k[i, :sources, h], share_of(asked[i], dropped)
            clear(to_keys[:sources])
            for first in range(0, asked[i] if sources else 0, size):
                count = min(size, asked[i] - first)
                _turn(q, i, first, count, h, asks)
                _compare(keys, asks, weights)
                top = load_some(norm, (i, h, 0, first), count)
                share = load_some(norm, (i, h, 1, first), count)
                lots = start_lots(q, seed, i * heads + h, first)
                for j in range(sources):
                    store(weights, (j, 0), exp(load(weights, (j, 0)) - top) * share)
                _push(weights, grad[i, h, :sources], along, lots, dropped, kept)
                for t in range(count):
                    for c in range(width):
                        queries[t, c] = asks[c, t]
                add_product(to_keys[:sources], kept, queries[:count])
                clear(to_asks)
                add_product(to_asks, keys.T, kept[:sources])
                for t in range(count):
                    for c in range(width):
                        grad_q[i, first + t, h, c] = to_asks[c, t] * root
            for j in range(sources):
                for c in range(width):
                    grad_k[i, j, h, c] = to_keys[j, c]


@part
def share_of(asked, dropped):  # type: ignore[no-untyped-def]
    """What a weight that is kept counts in the mean of ``asked`` rows."""
    return TOP / (max(asked, 1) * (TOP - float(dropped)))


@part
def _turn(q, i, first, count, h, asks):  # type: ignore[no-untyped-def]
    """Some queries (n, d) of a head over sqrt(d) as ``asks`` (d, lanes), zeros behind them."""
    width = q.shape[3]
    root = q.dtype.type(1 / math.sqrt(width))
    clear(asks)
    for t in range(count):
        for c in range(width):
            asks[c, t] = q[i, first + t, h, c] * root


@part
def _compare(keys, asks, scores):  # type: ignore[no-untyped-def]
    """scores (>= Ts, lanes) = keys (Ts, d) @ asks (d, lanes)"""
    clear(scores[: len(keys)])
    add_product(scores[: len(keys)], keys, asks)


@part
def _exponentials(scores, sources):  # type: ignore[no-untyped-def]
    """Scores become exp(scores - top), of each column's largest; that one, and their sum."""
    top = load(scores, (0, 0))
    for j in range(1, sources):
        top = larger(top, load(scores, (j, 0)))
    whole = spread(0.0, scores)
    for j in range(sources):
        one = exp(load(scores, (j, 0)) - top)
        store(scores, (j, 0), one)
        whole = whole + one
    return top, whole


@part
def _add_up(scores, sources, share, lots, dropped, sums):  # type: ignore[no-untyped-def]
    """Add to ``sums`` (>= Ts, lanes) what is kept of scores times share."""
    for j in range(sources):
        weight = load(scores, (j, 0)) * share
        if dropped:
            lots = draw(lots)
            weight = keep(weight, lots, dropped)
        store(sums, (j, 0), load(sums, (j, 0)) + weight)


@part
def _push(weights, grad, along, lots, dropped, to_scores):  # type: ignore[no-untyped-def]
    """The gradient of scores from that of the mean weights of their rows, grad (Ts,)."""
    common = spread(0.0, weights)
    for j in range(len(grad)):
        pushed = load(weights, (j, 0)) * (grad[j] * along)
        if dropped:
            lots = draw(lots)
            pushed = keep(pushed, lots, dropped)
        common = common + pushed
        store(to_scores, (j, 0), pushed)
    for j in range(len(grad)):
        pushed = load(to_scores, (j, 0)) - load(weights, (j, 0)) * common
        store(to_scores, (j, 0), pushed)


@part
def start_lots(array, seed, row, first):  # type: ignore[no-untyped-def]
    """The states of the generators of a vector's queries, of which the first is number ``first``.

    None is zero, and none depends on how wide a vector is; every ``row`` has others. SplitMix64
    (Steele, Lea & Flood 2014), as Vigna (2014) advises to start xorshift generators.
    """
    step = np.uint64(0x9E3779B97F4A7C15)
    state = _mix(np.uint64(seed) + np.uint64(row) * step)
    return upper_half(_mix((numbered(array) + np.uint64(first)) * step + state)) | np.uint32(1)


@part
def _mix(z):  # type: ignore[no-untyped-def]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@part
def draw(lots):  # type: ignore[no-untyped-def]
    """The next lot of every generator."""
    lots = lots ^ (lots << np.uint32(13))
    lots = lots ^ (lots >> np.uint32(17))
    return lots ^ (lots << np.uint32(5))
