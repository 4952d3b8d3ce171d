"""Loops that torch has no operation for, compiled by numba: a GRU's steps, averaged attention.

What they change: nothing is written to memory that only the next operation would read, nothing is
computed on padding, and a loop over time costs no Python. What they do not change: the numbers,
but for rounding. Oracles in the tests are ``torch.nn.GRU`` and ``torch.nn.MultiheadAttention``.

float32 and float64, one thread, arrays contiguous. Compiled on first use and kept on disk by numba,
so all of it stands in one file: numba compiles a function anew when its own file has changed, and
does not look at others.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from mmer_lib.places import cache_folder, is_writable

TOP = 1 << 32  # one more than the largest lot of `drop`

_CACHE = cache_folder() / "compiled"
# Where neither can be written each process compiles for itself.
_KEPT = bool(os.environ.get("NUMBA_CACHE_DIR")) or is_writable(_CACHE)


def _compiler(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """numba's ``njit`` that keeps what it compiles in $NUMBA_CACHE_DIR, else in our cache folder.

    By itself numba would write beside this file, which may be in an installed package.
    """
    numbas: Any = config

    def compiled(function: Callable[..., Any]) -> Any:
        numbas.CACHE_DIR, before = numbas.CACHE_DIR or str(_CACHE), numbas.CACHE_DIR
        try:
            return njit(cache=_KEPT, **options)(function)
        finally:
            numbas.CACHE_DIR = before

    return compiled


# numpy's division, since Python's asks for zero at every element; NaN and infinity are respected.
_compiled = _compiler(fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy")
_in_order = _compiler(fastmath={"contract"}, error_model="numpy")


# -- exp, sigmoid and tanh as loops that vectorise -------------------------------------------------
# exp(x) = 2^k exp(r), |r| <= ln(2) / 2. Adding 1.5 * 2^(bits of the fraction) rounds x / ln(2) to
# the whole number k and leaves its bits lowest, from where they are moved into an exponent. ln(2)
# is subtracted in two parts, of which the first is so short that its product with k is exact (Cody
# & Waite 1980); exp(r) is a Taylor series. math.exp would be called element by element.

SHIFT32, SHIFT64 = np.float32(1.5 * 2**23), 1.5 * 2.0**52
HIGH32, HIGH64 = np.float32(355 / 512), float.fromhex("0x1.62e42p-1")
LOW32, LOW64 = np.float32(math.log(2) - 355 / 512), float.fromhex("0x1.fdf473de6af28p-22")


@_in_order
def _exp32(x):  # type: ignore[no-untyped-def]
    f = np.float32
    x = min(max(x, f(-87)), f(88))
    shifted = f(x * f(1 / math.log(2)) + SHIFT32)
    k = shifted - SHIFT32
    r = x - k * HIGH32
    r = r - k * LOW32
    p = f(1 / 120) + r * (f(1 / 720) + r * f(1 / 5040))
    p = f(1) + r * (f(1) + r * (f(1 / 2) + r * (f(1 / 6) + r * (f(1 / 24) + r * p))))
    exponent = np.int32(shifted.view(np.int32) + np.int32(127))
    return p * np.int32(exponent << np.int32(23)).view(np.float32)


@_in_order
def _exp64(x):  # type: ignore[no-untyped-def]
    x = min(max(x, -708.0), 709.0)
    shifted = np.float64(x * (1 / math.log(2)) + SHIFT64)
    k = shifted - SHIFT64
    r = x - k * HIGH64
    r = r - k * LOW64
    p = 1 / 39916800 + r * (1 / 479001600 + r / 6227020800)
    p = 1 / 40320 + r * (1 / 362880 + r * (1 / 3628800 + r * p))
    p = 1 / 24 + r * (1 / 120 + r * (1 / 720 + r * (1 / 5040 + r * p)))
    p = 1 + r * (1 + r * (1 / 2 + r * (1 / 6 + r * p)))
    exponent = np.int64(shifted.view(np.int64) + np.int64(1023))
    return p * np.int64(exponent << np.int64(52)).view(np.float64)


def exp(x: Any) -> Any:
    """e^x in the type of x, for compiled loops; 0 and infinity are cut to the nearest number."""


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x) in the type of x, for compiled loops."""


def tanh(x: Any) -> Any:
    """2 sigmoid(2 x) - 1 in the type of x, for compiled loops; exact to rounding of 1, not of x."""


@overload(exp, inline="always")
def _exp(x):  # type: ignore[no-untyped-def]
    return (lambda x: _exp32(x)) if x is types.float32 else (lambda x: _exp64(x))


@overload(sigmoid, inline="always")
def _sigmoid(x):  # type: ignore[no-untyped-def]
    if x is types.float32:
        return lambda x: np.float32(1) / (np.float32(1) + _exp32(-x))
    return lambda x: 1.0 / (1.0 + _exp64(-x))


@overload(tanh, inline="always")
def _tanh(x):  # type: ignore[no-untyped-def]
    if x is types.float32:
        two = np.float32(2)
        return lambda x: two / (np.float32(1) + _exp32(-two * x)) - np.float32(1)
    return lambda x: 2.0 / (1.0 + _exp64(-2.0 * x)) - 1.0


# -- products of small matrices --------------------------------------------------------------------
# Of the three loops of a product LLVM vectorises the innermost alone, and then reads and writes
# each sum once a step. So a tile of sums that stays in registers, four rows of two vectors, is
# written in LLVM's own language: what is loaded counts four times or twice, and sums are written
# once. Each row is summed in the same order, whatever other rows there are.

ROWS = 4
VECTOR = 512 if get_host_cpu_features().get("avx512f") else 256  # bits


def _tile_of(rows: int) -> Any:
    """``tile(out, x, w, i, j)``: out += x @ w in ``rows`` rows from i on, a tile wide from j on."""

    @intrinsic
    def tile(typing: Any, out: Any, x: Any, w: Any, i: Any, j: Any) -> Any:
        return types.void(out, x, w, types.int64, types.int64), partial(_write_tile, rows)

    return tile


def _write_tile(rows: int, context: Any, builder: Any, signature: Any, given: Any) -> Any:
    """The instructions of a tile, where its call stands."""
    out, x, w = (
        context.make_array(kind)(context, builder, array)
        for kind, array in zip(signature.args[:3], given[:3], strict=True)
    )
    kind, whole = signature.args[0].dtype, ir.IntType(64)
    size, lanes, number = kind.bitwidth // 8, _lanes(kind), context.get_data_type(kind)
    vector, fused = ir.VectorType(number, lanes), ("contract",)

    def place(array: Any, row: Any, column: Any, kind: Any) -> Any:
        down = builder.mul(row, builder.extract_value(array.strides, 0))
        offset = builder.add(down, builder.mul(column, whole(size)))
        start = builder.ptrtoint(array.data, whole)
        return builder.inttoptr(builder.add(start, offset), kind.as_pointer())

    def load(*where: Any) -> Any:
        loaded = builder.load(place(*where))
        loaded.align = size  # of a number: a vector may start anywhere
        return loaded

    def spread(one: Any) -> Any:
        nothing = ir.Constant(vector, ir.Undefined)
        first = builder.insert_element(nothing, one, whole(0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        return builder.shuffle_vector(first, nothing, everywhere)

    down = [builder.add(given[3], whole(r)) for r in range(rows)]
    along = [builder.add(given[4], whole(c)) for c in (0, lanes)]
    sums = {
        (i, j): cgutils.alloca_once_value(builder, load(out, i, j, vector))
        for i, j in product(down, along)
    }
    with cgutils.for_range(builder, builder.extract_value(w.shape, 0)) as loop:
        weights = {j: load(w, loop.index, j, vector) for j in along}
        inputs = {i: spread(load(x, i, loop.index, number)) for i in down}
        for (i, j), place_of in sums.items():
            more = builder.fmul(inputs[i], weights[j], fused)
            builder.store(builder.fadd(builder.load(place_of), more, fused), place_of)
    for (i, j), place_of in sums.items():
        builder.store(builder.load(place_of), place(out, i, j, vector)).align = size
    return context.get_dummy_value()


def _lanes(kind: Any) -> int:
    """How many numbers of a type stand in a vector."""
    return VECTOR // int(kind.bitwidth)


_tile, _row = _tile_of(ROWS), _tile_of(1)


def tile_width(array: Any) -> Any:
    """How many columns a tile has, for compiled loops; the type of ``array`` decides."""


@overload(tile_width, inline="always")
def _tile_width(array):  # type: ignore[no-untyped-def]
    columns = 2 * _lanes(array.dtype)
    return lambda array: columns


@_compiled
def padded(matrix):  # type: ignore[no-untyped-def]
    """The matrix (K, J) with columns of zeros, until tiles cover it."""
    rows, columns = matrix.shape
    tiles = -(-columns // tile_width(matrix))
    wide = np.zeros((rows, tiles * tile_width(matrix)), matrix.dtype)
    wide[:, :columns] = matrix
    return wide


@_compiled
def add_product(out, x, w):  # type: ignore[no-untyped-def]
    """out (m, J) += x (>= m, K) @ w (K, J) for small matrices; J as ``padded`` makes it.

    The numbers of a row stand one after the other; rows may be apart.
    """
    m = len(out)
    fours = m - m % ROWS
    for j in range(0, w.shape[1], tile_width(w)):
        for i in range(0, fours, ROWS):
            _tile(out, x, w, i, j)
        for i in range(fours, m):
            _row(out, x, w, i, j)


# -- a bidirectional GRU: see recurrence.py for the formulas and the layout ------------------------

TOGETHER = 8  # sequences that are worked on from end to end, so that memory is read as it stands


@_compiled
def gru_forward(gates, w, b_in, b, lengths, out, recurrent):  # type: ignore[no-untyped-def]
    """From the inputs' share ``gates`` (N, 2, 3h), without its bias, to states ``out`` (N, 2, h).

    ``gates`` are then r, z and n themselves, and ``recurrent`` (N, 2, h) is W_n h + b_n. ``w``
    (2, h, 3h), ``b_in`` and ``b`` (2, 3h), ``lengths`` (B,). Direction 1 goes from each sequence's
    last frame to its first.
    """
    h, order, starts = out.shape[2], longest_first(lengths), starts_of(lengths)
    for way in range(2):
        weights, biases = padded(w[way]), b[way].copy()
        biases[: 2 * h] += b_in[way, : 2 * h]
        states = np.zeros((TOGETHER, h), out.dtype)
        room = np.zeros((TOGETHER, weights.shape[1]), out.dtype)  # W h + b of a step
        for first in range(0, len(order), TOGETHER):
            some = order[first : first + TOGETHER]
            states[:] = 0
            there = len(some)  # sequences that have this step: the first ones
            for s in range(lengths[some[0]]):
                while lengths[some[there - 1]] <= s:
                    there -= 1
                for i in range(there):
                    room[i, : 3 * h] = biases
                if s:
                    add_product(room[:there], states, weights)
                for i in range(there):
                    o = some[i]
                    here = starts[o] + (s if way == 0 else lengths[o] - 1 - s)
                    _step(
                        gates[here, way], room[i], b_in[way], states[i], out[here, way],
                        recurrent[here, way],
                    )  # fmt: skip


@_compiled
def longest_first(lengths):  # type: ignore[no-untyped-def]
    """The order of sequences in which those that have a step t are the first ones: (B,)."""
    return np.argsort(-lengths, kind="mergesort")


@_compiled
def starts_of(lengths):  # type: ignore[no-untyped-def]
    """Where each sequence begins: (B,)."""
    return np.cumsum(lengths) - lengths


@_compiled
def _step(gates, share, b_in, state, out, recurrent):  # type: ignore[no-untyped-def]
    """One sequence, one step. Loops over few arrays each, as LLVM vectorises only these."""
    h = len(state)
    r, z, n, b_n = gates[:h], gates[h : 2 * h], gates[2 * h :], b_in[2 * h :]
    for j in range(2 * h):
        gates[j] = sigmoid(gates[j] + share[j])
    for j in range(h):
        recurrent[j] = share[2 * h + j]
    for j in range(h):
        n[j] = tanh(n[j] + b_n[j] + r[j] * recurrent[j])
    for j in range(h):
        out[j] = n[j] + z[j] * (state[j] - n[j])
    state[:] = out


@_compiled
def gru_backward(grad, gates, w, lengths, out, recurrent, to_gates, to_n, before):  # type: ignore[no-untyped-def]
    """From the gradient of the states, ``grad`` (N, 2, h), to those of what they are made of.

    ``to_gates`` (N, 2, 3h): of W h + b; ``to_n`` (N, 2, h): of the inputs' share of n (those of r
    and z are the same as of W h + b). ``before`` (N, 2, h): the states before. ``w`` (2, 3h, h);
    the rest as ``gru_forward`` left it.
    """
    h, order, starts = out.shape[2], longest_first(lengths), starts_of(lengths)
    for way in range(2):
        weights = padded(w[way])
        # gradient of a state from the steps after it
        back = np.empty((TOGETHER, weights.shape[1]), out.dtype)
        pushed = np.empty((TOGETHER, 3 * h), out.dtype)
        for first in range(0, len(order), TOGETHER):
            some = order[first : first + TOGETHER]
            back[:] = 0
            there = 0
            for s in range(lengths[some[0]] - 1, -1, -1):
                while there < len(some) and lengths[some[there]] > s:
                    there += 1
                for i in range(there):
                    o = some[i]
                    here = starts[o] + (s if way == 0 else lengths[o] - 1 - s)
                    if s:
                        before[here, way] = out[here - 1 if way == 0 else here + 1, way]
                    else:
                        before[here, way] = 0
                    _step_back(
                        back[i, :h], grad[here, way], gates[here, way], before[here, way],
                        recurrent[here, way], to_gates[here, way], to_n[here, way],
                    )  # fmt: skip
                    pushed[i] = to_gates[here, way]
                if s:
                    add_product(back[:there], pushed, weights)


@_compiled
def _step_back(back, grad, gates, before, recurrent, to_gates, to_n):  # type: ignore[no-untyped-def]
    """One sequence, one step; ``back`` is left with what goes to the state before by z."""
    h = len(back)
    r, z, n = gates[:h], gates[h : 2 * h], gates[2 * h :]
    to_r, to_z, to_product = to_gates[:h], to_gates[h : 2 * h], to_gates[2 * h :]
    one = to_n.dtype.type(1)
    for j in range(h):
        back[j] += grad[j]
    for j in range(h):
        to_z[j] = back[j] * (before[j] - n[j]) * z[j] * (one - z[j])
    for j in range(h):
        to_n[j] = back[j] * (one - z[j]) * (one - n[j] * n[j])
    for j in range(h):
        to_r[j] = to_n[j] * recurrent[j] * r[j] * (one - r[j])
    for j in range(h):
        to_product[j] = to_n[j] * r[j]
    for j in range(h):
        back[j] *= z[j]


# -- attention that is only averaged: see fusion/mean_attention.py ---------------------------------
# A block is what some query frames of a head say of all its sources: (Ts, wide), so that the
# innermost loops run over query frames, a whole number of vectors, however few sources there are;
# columns behind the last frame count nothing. Dropout draws a lot for every weight, from generators
# of each column's own (xorshift, Marsaglia 2003). They are started from a seed alone, so that the
# backward pass draws the same lots anew and no weight has to be kept.

WIDE = 64  # query frames of a block at most; half of it where no more are left


@_compiled
def average_weights(q, k, asked, read, norm, mean, seed, dropped):  # type: ignore[no-untyped-def]
    """Add to mean (B, H, Ts) the rows of softmax(q k^T / sqrt(d)) that dropout keeps.

    q (B, Tq, H, d) and k (B, Ts, H, d), of which the first ``asked`` (B,) and ``read`` (B,) frames
    are real. Into ``norm`` (B, H, Tq) goes the logarithm of the sum of each row's exponentials. A
    weight is dropped with probability ``dropped`` / 2^32; nothing is scaled.
    """
    kind = q.dtype
    heads, width = q.shape[2:]
    room, turned = np.empty(read.max() * WIDE, kind), np.empty(width * WIDE, kind)
    tops, sums, lots = np.empty(WIDE, kind), np.empty(WIDE, kind), np.empty(WIDE, np.uint32)
    for i, sources in enumerate(read):
        for h in range(heads):
            for first in range(0, asked[i] if sources else 0, WIDE):
                count = min(WIDE, asked[i] - first)
                wide = wide_for(count)
                asks, scores = as_rows(turned, width, wide), as_rows(room, sources, wide)
                top, share, lanes = tops[:wide], sums[:wide], lots[:wide]
                _turn(q[i, first : first + count, h], asks)
                _compare(k[i, :sources, h], asks, scores)
                _softmax(scores, top, share)
                _note(top, share, norm[i, h, first : first + count])
                if dropped:
                    _start_lanes(lanes, seed, (i * heads + h) * q.shape[1] + first)
                _add_up(scores, share, lanes, dropped, mean[i, h])


@_compiled
def push_back(q, k, asked, read, norm, grad, grad_q, grad_k, seed, dropped):  # type: ignore[no-untyped-def]
    """Gradients of q and k, in their shapes, from ``grad`` (B, H, Ts), that of mean.

    The rest as ``average_weights`` was given it, and left it. What is not real is left as it was.
    """
    kind, most = q.dtype, read.max()
    heads, width = q.shape[2:]
    room, room_kept = np.empty(most * WIDE, kind), np.empty(most * WIDE, kind)
    turned, turned_grad = np.empty(width * WIDE, kind), np.empty(width * WIDE, kind)
    keys, to_keys = np.empty((width, most), kind), padded(np.empty((most, width), kind))
    queries = padded(np.empty((WIDE, width), kind))
    sums, norms, lots = np.empty(WIDE, kind), np.empty(WIDE, kind), np.empty(WIDE, np.uint32)
    for i, sources in enumerate(read):
        for h in range(heads):
            for j in range(sources):
                keys[:, j] = k[i, j, h]
            to_keys[:sources] = 0
            for first in range(0, asked[i] if sources else 0, WIDE):
                count = min(WIDE, asked[i] - first)
                wide = wide_for(count)
                asks, to_asks = as_rows(turned, width, wide), as_rows(turned_grad, width, wide)
                weights, kept = as_rows(room, sources, wide), as_rows(room_kept, sources, wide)
                common, own, lanes = sums[:wide], norms[:wide], lots[:wide]
                _turn(q[i, first : first + count, h], asks)
                _compare(k[i, :sources, h], asks, weights)
                own[:count], own[count:] = norm[i, h, first : first + count], 0
                if dropped:
                    _start_lanes(lanes, seed, (i * heads + h) * q.shape[1] + first)
                _form_weights(weights, own)
                _push(weights, grad[i, h], lanes, dropped, kept, common)
                queries[:wide, :width] = asks.T
                add_product(to_keys[:sources], kept, queries[:wide])
                to_asks[:] = 0
                add_product(to_asks, keys[:, :sources], kept)
                _turn_back(to_asks, grad_q[i, first : first + count, h])
            grad_k[i, :sources, h] = to_keys[:sources, :width]


@_compiled
def wide_for(count):  # type: ignore[no-untyped-def]
    """How many columns a block of ``count`` query frames has."""
    return WIDE if count > WIDE // 2 else WIDE // 2


@_compiled
def as_rows(room, rows, columns):  # type: ignore[no-untyped-def]
    """The first numbers of an array as (rows, columns), one row after the other in memory."""
    return room[: rows * columns].reshape(rows, columns)


@_compiled
def _turn(q, asks):  # type: ignore[no-untyped-def]
    """Queries (n, d) over sqrt(d) as ``asks`` (d, wide), zeros behind them."""
    n, width = q.shape
    root = q.dtype.type(1 / math.sqrt(width))
    for c in range(width):
        for t in range(n):
            asks[c, t] = q[t, c] * root
        asks[c, n:] = 0


@_compiled
def _compare(k, asks, scores):  # type: ignore[no-untyped-def]
    """scores (Ts, wide) = k (Ts, d) @ asks (d, wide)"""
    scores[:] = 0
    add_product(scores, k, asks)


@_compiled
def _softmax(scores, top, whole):  # type: ignore[no-untyped-def]
    """scores (Ts, wide) become exp(scores - top), of which ``whole`` is the sum over Ts."""
    sources, wide = scores.shape
    top[:] = scores[0]
    for j in range(1, sources):
        for t in range(wide):
            top[t] = scores[j, t] if scores[j, t] > top[t] else top[t]
    whole[:] = 0
    for j in range(sources):
        for t in range(wide):
            scores[j, t] = exp(scores[j, t] - top[t])
            whole[t] += scores[j, t]


@_compiled
def _note(top, whole, norm):  # type: ignore[no-untyped-def]
    """Logarithms of the sums of exponentials into norm (n,); ``whole`` becomes what each counts."""
    one = whole.dtype.type(1)  # a plain 1 would make float64 of what it meets
    for t in range(len(norm)):
        norm[t] = top[t] + np.log(whole[t])
        whole[t] = one / whole[t]
    whole[len(norm) :] = 0


@_compiled
def _add_up(scores, share, lanes, dropped, mean):  # type: ignore[no-untyped-def]
    """Add to ``mean`` what is kept of each row of scores (Ts, wide), times share (wide,)."""
    sources, wide = scores.shape
    nothing = scores.dtype.type(0)
    for j in range(sources):
        total = nothing
        if dropped:
            _draw(lanes)
            for t in range(wide):
                total += scores[j, t] * share[t] if lanes[t] >= dropped else nothing
        else:
            for t in range(wide):
                total += scores[j, t] * share[t]
        mean[j] += total


@_compiled
def _form_weights(scores, norm):  # type: ignore[no-untyped-def]
    """scores (Ts, wide) become exp(scores - norm)."""
    sources, wide = scores.shape
    for j in range(sources):
        for t in range(wide):
            scores[j, t] = exp(scores[j, t] - norm[t])


@_compiled
def _push(weights, grad, lanes, dropped, to_scores, common):  # type: ignore[no-untyped-def]
    """The gradient of scores (Ts, wide) from that of what each row counts, grad (>= Ts,)."""
    sources, wide = weights.shape
    nothing = weights.dtype.type(0)
    common[:] = 0
    for j in range(sources):
        along = grad[j]
        if dropped:
            _draw(lanes)
            for t in range(wide):
                to_scores[j, t] = weights[j, t] * along if lanes[t] >= dropped else nothing
        else:
            for t in range(wide):
                to_scores[j, t] = weights[j, t] * along
        for t in range(wide):
            common[t] += to_scores[j, t]
    for j in range(sources):
        for t in range(wide):
            to_scores[j, t] -= weights[j, t] * common[t]


@_compiled
def _turn_back(to_asks, grad):  # type: ignore[no-untyped-def]
    """The gradient of queries (n, d) from that of ``asks`` (d, wide)."""
    n, width = grad.shape
    root = grad.dtype.type(1 / math.sqrt(width))
    for t in range(n):
        for c in range(width):
            grad[t, c] = to_asks[c, t] * root


@_compiled
def _start_lanes(lanes, seed, part):  # type: ignore[no-untyped-def]
    """The states (wide,) of generators, none of them zero; every ``part`` has others.

    SplitMix64 (Steele, Lea & Flood 2014), as Vigna (2014) advises to start xorshift generators.
    """
    state = _mix(np.uint64(seed) + np.uint64(part) * np.uint64(0x9E3779B97F4A7C15))
    for t in range(len(lanes)):
        state += np.uint64(0x9E3779B97F4A7C15)
        lanes[t] = np.uint32(_mix(state) >> np.uint64(32)) | np.uint32(1)


@_compiled
def _mix(z):  # type: ignore[no-untyped-def]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@_compiled
def _draw(lanes):  # type: ignore[no-untyped-def]
    """The next lot of every generator, in place."""
    for t in range(len(lanes)):
        lot = lanes[t]
        lot = np.uint32(lot ^ np.uint32(lot << np.uint32(13)))
        lot = np.uint32(lot ^ np.uint32(lot >> np.uint32(17)))
        lanes[t] = np.uint32(lot ^ np.uint32(lot << np.uint32(5)))
