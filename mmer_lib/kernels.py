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
    """How many numbers of a type stand in a vector of 256 bits."""
    return 256 // int(kind.bitwidth)


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
    """out (m, J) += x (m, K) @ w (K, J) for small matrices; J as ``padded`` makes it.

    The numbers of a row stand one after the other; rows may be apart.
    """
    m = len(x)
    fours = m - m % ROWS
    for j in range(0, w.shape[1], tile_width(w)):
        for i in range(0, fours, ROWS):
            _tile(out, x, w, i, j)
        for i in range(fours, m):
            _row(out, x, w, i, j)


# -- a bidirectional GRU: see recurrence.py for the formulas and the layout ------------------------


@_compiled
def gru_forward(gates, w, b, sizes, out, recurrent):  # type: ignore[no-untyped-def]
    """From the inputs' share ``gates`` (N, 2, 3h) to states ``out`` (N, 2, h).

    ``gates`` are then r, z and n themselves, and ``recurrent`` (N, 2, h) is W_n h + b_n. ``w``
    (2, h, 3h), ``b`` (2, 3h). Steps t = 0 .. T - 1 have ``sizes[t]`` sequences, one after the other
    in N, the longest first; direction 1 goes from the last step to the first.
    """
    h, steps = out.shape[2], len(sizes)
    starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
    zero = np.zeros(h, out.dtype)
    for way in range(2):
        weights = padded(w[way])
        room = np.zeros((sizes[0], weights.shape[1]), out.dtype)  # W h + b of a step
        for s in range(steps):
            t = s if way == 0 else steps - 1 - s
            u = t - 1 if way == 0 else t + 1  # the step before
            old = 0 if s == 0 else min(sizes[t], sizes[u])  # sequences that have a step before
            for i in range(sizes[t]):
                room[i, : 3 * h] = b[way]
            add_product(room[:old], out[starts[u] : starts[u] + old, way], weights)
            for i in range(sizes[t]):
                here = starts[t] + i
                state = out[starts[u] + i, way] if i < old else zero
                _step(gates[here, way], room[i], state, out[here, way], recurrent[here, way])


@_compiled
def _step(gates, share, state, out, recurrent):  # type: ignore[no-untyped-def]
    """One sequence, one step. Loops over few arrays each, as LLVM vectorises only these."""
    h = len(state)
    r, z, n = gates[:h], gates[h : 2 * h], gates[2 * h :]
    for j in range(2 * h):
        gates[j] = sigmoid(gates[j] + share[j])
    for j in range(h):
        recurrent[j] = share[2 * h + j]
    for j in range(h):
        n[j] = tanh(n[j] + r[j] * recurrent[j])
    for j in range(h):
        out[j] = n[j] + z[j] * (state[j] - n[j])


@_compiled
def gru_backward(grad, gates, w, sizes, out, recurrent, to_gates, to_n, before):  # type: ignore[no-untyped-def]
    """From the gradient of the states, ``grad`` (N, 2, h), to those of what they are made of.

    ``to_gates`` (N, 2, 3h): of W h + b; ``to_n`` (N, 2, h): of the inputs' share of n (those of r
    and z are the same as of W h + b). ``before`` (N, 2, h): the states before. ``w`` (2, 3h, h);
    the rest as ``gru_forward`` left it.
    """
    h, steps = out.shape[2], len(sizes)
    starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
    for way in range(2):
        weights = padded(w[way])
        # gradient of a state from the steps after it
        back = np.zeros((sizes[0], weights.shape[1]), out.dtype)
        for s in range(steps - 1, -1, -1):
            t = s if way == 0 else steps - 1 - s
            u = t - 1 if way == 0 else t + 1
            old = 0 if s == 0 else min(sizes[t], sizes[u])
            for i in range(sizes[t]):
                here = starts[t] + i
                if i < old:
                    before[here, way] = out[starts[u] + i, way]
                else:
                    before[here, way] = 0
                _step_back(
                    back[i, :h], grad[here, way], gates[here, way], before[here, way],
                    recurrent[here, way], to_gates[here, way], to_n[here, way],
                )  # fmt: skip
            first = starts[t]
            add_product(back[:old], to_gates[first : first + old, way], weights)


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
# Dropout draws a lot for every weight, from a generator for each column of each head (xorshift,
# Marsaglia 2003). They are started from a seed alone, so that the backward pass draws the same lots
# anew and no weight has to be kept.


@_compiled
def average_weights(scores, norm, mean, row, seed, part, dropped):  # type: ignore[no-untyped-def]
    """Add to mean (n, >= Ts) the rows of softmax(scores) (n, rows, Ts) that dropout keeps.

    ``scores`` are those of n heads for query frames ``row`` and on; they are used up. Into ``norm``
    (n, Tq) goes the logarithm of the sum of each row's exponentials. A weight is dropped with
    probability ``dropped`` / 2^32; nothing is scaled. ``part``: a number of these scores' own,
    other heads or rows have others; n of them are taken.
    """
    n, rows, sources = scores.shape
    # Plain 0 and 1 would make float64 of what they meet, of which a vector holds half as many.
    nothing, one = scores.dtype.type(0), scores.dtype.type(1)
    for i in range(n):
        total = mean[i, :sources]
        lanes = _start_lanes(seed, part + i, sources) if dropped else np.empty(0, np.uint32)
        for t in range(rows):
            weights = scores[i, t]
            top = largest(weights)
            whole = _exponentials(weights, top)
            norm[i, row + t] = top + np.log(whole)
            share = one / whole
            if dropped:
                _draw(lanes)
                for j in range(sources):
                    total[j] += weights[j] * share if lanes[j] >= dropped else nothing
            else:
                for j in range(sources):
                    total[j] += weights[j] * share


@_compiled
def push_back(scores, norm, grad, row, seed, part, dropped):  # type: ignore[no-untyped-def]
    """``scores`` as given to ``average_weights`` become their gradient, from that of mean, grad.

    ``kept`` is the gradient of a row's weights.
    """
    n, rows, sources = scores.shape
    kept, nothing = np.empty(sources, scores.dtype), scores.dtype.type(0)
    for i in range(n):
        kept[:] = grad[i, :sources]
        lanes = _start_lanes(seed, part + i, sources) if dropped else np.empty(0, np.uint32)
        for t in range(rows):
            weights = scores[i, t]
            _weights(weights, norm[i, row + t])
            if dropped:
                _draw(lanes)
                for j in range(sources):
                    kept[j] = grad[i, j] if lanes[j] >= dropped else nothing
            common = nothing
            for j in range(sources):
                common += weights[j] * kept[j]
            for j in range(sources):
                weights[j] *= kept[j] - common


@_compiled
def _start_lanes(seed, part, n):  # type: ignore[no-untyped-def]
    """The states of ``n`` generators, none of them zero: (n,) uint32.

    SplitMix64 (Steele, Lea & Flood 2014), as Vigna (2014) advises to start xorshift generators.
    """
    lanes = np.empty(n, np.uint32)
    state = _mix(np.uint64(seed) + np.uint64(part) * np.uint64(0x9E3779B97F4A7C15))
    for j in range(n):
        state += np.uint64(0x9E3779B97F4A7C15)
        lanes[j] = np.uint32(_mix(state) >> np.uint64(32)) | np.uint32(1)
    return lanes


@_compiled
def _mix(z):  # type: ignore[no-untyped-def]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@_compiled
def _draw(lanes):  # type: ignore[no-untyped-def]
    """The next lot of every generator, in place."""
    for j in range(len(lanes)):
        lot = lanes[j]
        lot = np.uint32(lot ^ np.uint32(lot << np.uint32(13)))
        lot = np.uint32(lot ^ np.uint32(lot >> np.uint32(17)))
        lanes[j] = np.uint32(lot ^ np.uint32(lot << np.uint32(5)))


def largest(row: Any) -> Any:
    """The largest of a row, for compiled loops; NaN if there is one whose sign bit is not set.

    LLVM vectorises the maximum of whole numbers and not that of others, so bits are compared: those
    of a float are in its order once all but the sign bit are turned over where it is set.
    """


@overload(largest, inline="always")
def _largest(row):  # type: ignore[no-untyped-def]
    if row.dtype is types.float32:
        return lambda row: _largest32(row.view(np.int32))
    return lambda row: _largest64(row.view(np.int64))


@_compiled
def _largest32(bits):  # type: ignore[no-untyped-def]
    whole = np.int32
    top = whole(-(2**31))
    for j in range(len(bits)):
        top = max(top, whole(bits[j] ^ ((bits[j] >> whole(31)) & whole(2**31 - 1))))
    return whole(top ^ ((top >> whole(31)) & whole(2**31 - 1))).view(np.float32)


@_compiled
def _largest64(bits):  # type: ignore[no-untyped-def]
    whole = np.int64
    top = whole(-(2**63))
    for j in range(len(bits)):
        top = max(top, whole(bits[j] ^ ((bits[j] >> whole(63)) & whole(2**63 - 1))))
    return whole(top ^ ((top >> whole(63)) & whole(2**63 - 1))).view(np.float64)


@_compiled
def _exponentials(row, top):  # type: ignore[no-untyped-def]
    """exp(row - top) in place, and their sum."""
    whole = row.dtype.type(0)
    for j in range(len(row)):
        row[j] = exp(row[j] - top)
        whole += row[j]
    return whole


@_compiled
def _weights(row, norm):  # type: ignore[no-untyped-def]
    for j in range(len(row)):
        row[j] = exp(row[j] - norm)
