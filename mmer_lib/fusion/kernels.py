"""Two loops over attention weights that torch has no single operation for, compiled by numba.

They work in place on ``weights`` (n, Tq, Ts), rows that sum to one. Dropout is kept in the sign: a
weight that is dropped is stored as its negative, so that no second array of that size is needed.
float32 and float64; one thread.
"""

from __future__ import annotations

import numpy as np
from numba import njit

TOP = 1 << 32  # one more than the largest lot


@njit(cache=True)
def seed_lanes(seed: int, n: int) -> np.ndarray:
    """The states of ``n`` generators, none of them zero: (n,) uint32.

    SplitMix64 (Steele, Lea & Flood 2014), as Vigna (2014) advises to start xorshift generators.
    """
    lanes = np.empty(n, np.uint32)
    state = np.uint64(seed)
    for j in range(n):
        state += np.uint64(0x9E3779B97F4A7C15)
        z = state
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        lanes[j] = np.uint32((z ^ (z >> np.uint64(31))) >> np.uint64(32)) | np.uint32(1)
    return lanes


@njit(cache=True, fastmath=True)
def drop_and_average(weights, share, lanes, dropped, mean):  # type: ignore[no-untyped-def]
    """mean (n, Ts) = the rows that are kept of weights (n, Tq, Ts), by their share (n, Tq).

    Every weight is dropped with probability ``dropped`` / 2^32 (nothing is scaled): the lot of
    column j comes from ``lanes[j]`` (at least Ts), a xorshift generator (Marsaglia 2003) each.
    """
    n, tq, ts = weights.shape
    for i in range(n):
        mean[i] = 0
        for t in range(tq):
            row, part = weights[i, t], share[i, t]
            for j in range(ts):
                lot = lanes[j]
                lot = np.uint32(lot ^ np.uint32(lot << np.uint32(13)))
                lot = np.uint32(lot ^ np.uint32(lot >> np.uint32(17)))
                lot = np.uint32(lot ^ np.uint32(lot << np.uint32(5)))
                lanes[j] = lot
                signed = row[j] if lot >= dropped else -row[j]
                mean[i, j] += part * max(signed, part * 0)
                row[j] = signed


@njit(cache=True, fastmath=True)
def push_back(weights, share, grad, out):  # type: ignore[no-untyped-def]
    """out (n, Tq, Ts): the gradient of the scores, from that of mean, grad (n, Ts).

    Through the mean over rows, dropout (in the sign of ``weights``) and softmax.
    """
    n, tq, ts = weights.shape
    for i in range(n):
        for t in range(tq):
            row, into, part = weights[i, t], out[i, t], share[i, t]
            common = part * 0
            for j in range(ts):
                common += max(row[j], part * 0) * grad[i, j]
            for j in range(ts):
                into[j] = part * (max(row[j], part * 0) * grad[i, j] - abs(row[j]) * common)
