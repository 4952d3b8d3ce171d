"""Products of small matrices, and what they need of a matrix.

A tile is some rows of one vector, whose sums stay in registers: each vector that is loaded counts
once for every row, and sums are read and written once. Each row is summed in the same order,
whatever other rows there are.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from mmer_lib.kernels.compiled import compiled, part
from mmer_lib.kernels.vectors import (
    instructions,
    lanes,
    place_of,
    spread,
    spread_value,
    store,
    vector_of,
)


def _tile_of(rows: int) -> Any:
    """``tile(out, x, w, i, j)``: out += x @ w in ``rows`` rows from i on, a vector from j on."""

    @instructions
    def tile(typing: Any, out: Any, x: Any, w: Any, i: Any, j: Any) -> Any:
        return types.void(out, x, w, types.int64, types.int64), partial(_write_tile, rows)

    return tile


def _write_tile(rows: int, context: Any, builder: Any, signature: Any, given: Any) -> Any:
    """The instructions of a tile, where its call stands."""
    (out_kind, x_kind, w_kind, *_), (out, x, w, i, j) = signature.args, given
    kind, pair = vector_of(out_kind), types.UniTuple(types.int64, 2)
    number = context.get_value_type(out_kind.dtype).as_pointer()

    def place(of: Any, array: Any, row: Any, column: Any) -> Any:
        index = context.make_tuple(builder, pair, (row, column))
        return place_of(context, builder, of, array, pair, index)

    def vector(where: Any) -> Any:
        loaded = builder.load(where)
        loaded.align = kind.dtype.bitwidth // 8
        return loaded

    down = [builder.add(i, ir.IntType(64)(r)) for r in range(rows)]
    places = [place(out_kind, out, row, j) for row in down]
    sums = [cgutils.alloca_once_value(builder, vector(where)) for where in places]
    depth = builder.extract_value(context.make_array(w_kind)(context, builder, w).shape, 0)
    with cgutils.for_range(builder, depth) as loop:
        weights = vector(place(w_kind, w, loop.index, j))
        for row, held in zip(down, sums, strict=True):
            one = builder.load(builder.bitcast(place(x_kind, x, row, loop.index), number))
            one = spread_value(context, builder, one, kind.dtype, kind)
            more = builder.fmul(one, weights, ("contract",))
            builder.store(builder.fadd(builder.load(held), more, ("contract",)), held)
    for held, where in zip(sums, places, strict=True):
        builder.store(builder.load(held), where).align = kind.dtype.bitwidth // 8
    return context.get_dummy_value()


_tile8, _tile4, _tile2, _tile1 = (_tile_of(rows) for rows in (8, 4, 2, 1))


@compiled
def add_product(out, x, w):  # type: ignore[no-untyped-def]
    """out (m, J) += x (>= m, K) @ w (K, J) for small matrices; J as ``padded`` makes it.

    The numbers of a row of ``out`` and ``w`` stand one after the other; rows may be apart.
    """
    m = len(out)
    for j in range(0, w.shape[1], lanes(w)):
        i = 0
        while i + 8 <= m:
            _tile8(out, x, w, i, j)
            i += 8
        if m - i >= 4:
            _tile4(out, x, w, i, j)
            i += 4
        if m - i >= 2:
            _tile2(out, x, w, i, j)
            i += 2
        if m > i:
            _tile1(out, x, w, i, j)


@part
def clear(matrix):  # type: ignore[no-untyped-def]
    """Zeros in a matrix that is some vectors wide. As a slice it would take seconds to compile."""
    for i in range(len(matrix)):
        for j in range(0, matrix.shape[1], lanes(matrix)):
            store(matrix, (i, j), spread(0.0, matrix))


@compiled
def padded(matrix):  # type: ignore[no-untyped-def]
    """The matrix (K, J) with columns of zeros, until it is a whole number of vectors wide."""
    rows, columns = matrix.shape
    wide = np.zeros((rows, whole_vectors(matrix, columns)), matrix.dtype)
    for i in range(rows):
        for j in range(columns):
            wide[i, j] = matrix[i, j]
    return wide


@part
def whole_vectors(array, count):  # type: ignore[no-untyped-def]
    """The numbers in as many vectors as ``count`` of them need."""
    return -(-count // lanes(array)) * lanes(array)
