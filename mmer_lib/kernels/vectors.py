"""Vectors as a type of compiled code.

LLVM makes vectors of loops by itself, but each time a loop is met it looks whether arrays overlap
and how many numbers there are, which takes longer than ten frames do. So vectors are a type here:
as wide as a register of the processor, with the operators of numbers. A number that meets a vector
counts in each of its places. Nothing here can be called from Python.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from mmer_lib.kernels.compiled import part

# Of a function with this, what it returns is the type of the result, and what writes instructions.
instructions: Any = intrinsic

BITS = 512 if get_host_cpu_features().get("avx512f") else 256
_I32, _I64 = ir.IntType(32), ir.IntType(64)


class Vector(types.Type):
    """Some numbers of one type in a register, in compiled code alone."""

    def __init__(self, dtype: Any, lanes: int) -> None:
        self.dtype, self.lanes = dtype, lanes
        super().__init__(name=f"Vector({dtype}, {lanes})")


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        number = manager[kind.dtype].get_value_type()
        super().__init__(manager, kind, ir.VectorType(number, kind.lanes))


def vector_of(array: Any) -> Vector:
    """The type of a vector of an array's numbers."""
    return Vector(array.dtype, BITS // array.dtype.bitwidth)


_OPERATIONS = {  # of floating numbers, of whole ones
    operator.add: ("fadd", "add"), operator.sub: ("fsub", "sub"), operator.mul: ("fmul", "mul"),
    operator.truediv: ("fdiv", ""), operator.xor: ("", "xor"), operator.or_: ("", "or_"),
    operator.lshift: ("", "shl"), operator.rshift: ("", "lshr"),
}  # fmt: skip


def _teach(operation: Any, floating: str, whole: str) -> None:
    """An operator of two vectors, or of a vector and a number."""

    def typed(context: Any) -> Any:
        def of(a: Any, b: Any) -> Any:
            return next((kind for kind in (a, b) if isinstance(kind, Vector)), None)

        return of

    def lowered(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        kind = signature.return_type
        written = zip(given, signature.args, strict=True)
        a, b = (spread_value(context, builder, value, of, kind) for value, of in written)
        return getattr(builder, floating if isinstance(kind.dtype, types.Float) else whole)(a, b)

    type_callable(operation)(typed)
    for kinds in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(operation, *kinds)(lowered)


for _operation, _names in _OPERATIONS.items():
    _teach(_operation, *_names)


def spread_value(context: Any, builder: Any, value: Any, of: Any, kind: Vector) -> Any:
    """A number in each place of a vector of ``kind``; a vector as it is."""
    if isinstance(of, Vector):
        return value
    nothing = ir.Constant(context.get_value_type(kind), ir.Undefined)
    first = builder.insert_element(nothing, context.cast(builder, value, of, kind.dtype), _I32(0))
    everywhere = ir.Constant(ir.VectorType(_I32, kind.lanes), [0] * kind.lanes)
    return builder.shuffle_vector(first, nothing, everywhere)


def place_of(context: Any, builder: Any, of: Any, array: Any, indices: Any, index: Any) -> Any:
    """Where a vector begins in an array."""
    held = context.make_array(of)(context, builder, array)
    numbers = zip(cgutils.unpack_tuple(builder, index), indices, strict=True)
    at = [context.cast(builder, number, kind, types.intp) for number, kind in numbers]
    vector = context.get_value_type(vector_of(of))
    return builder.bitcast(
        cgutils.get_item_pointer(context, builder, of, held, at), vector.as_pointer()
    )


def _first(context: Any, builder: Any, count: Any, lanes: int) -> Any:
    """A mask of the first places of a vector."""
    kind = Vector(types.int32, lanes)
    counts = spread_value(context, builder, count, types.int64, kind)
    return builder.icmp_signed("<", ir.Constant(counts.type, list(range(lanes))), counts)


def _masked(builder: Any, name: str, vector: Any, result: Any, kinds: list[Any]) -> Any:
    """LLVM's load or store of some places of a vector."""
    number = "f32" if vector.element == ir.FloatType() else "f64"
    called = f"llvm.masked.{name}.v{vector.count}{number}.p0"
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, kinds), called)


@instructions
def lanes(typing: Any, array: Any) -> Any:
    """How many numbers of an array stand in a vector."""
    return types.int64(array), lambda *_: _I64(vector_of(array).lanes)


@instructions
def spread(typing: Any, number: Any, array: Any) -> Any:
    """A number in each place of a vector, in the type of an array."""
    kind = vector_of(array)
    return kind(number, array), lambda context, builder, signature, given: spread_value(
        context, builder, given[0], number, kind
    )


@instructions
def load(typing: Any, array: Any, index: Any) -> Any:
    """The numbers of an array from an index on."""

    def write(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        loaded = builder.load(place_of(context, builder, array, given[0], index, given[1]))
        loaded.align = array.dtype.bitwidth // 8  # a vector may start at any number
        return loaded

    return vector_of(array)(array, index), write


@instructions
def _load_first(typing: Any, array: Any, index: Any, count: Any) -> Any:
    """The first ``count`` numbers from an index on, zeros behind them."""
    kind = vector_of(array)

    def write(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = place_of(context, builder, array, given[0], index, given[1])
        vector, mask = context.get_value_type(kind), _first(context, builder, given[2], kind.lanes)
        some = _masked(builder, "load", vector, vector, [place.type, _I32, mask.type, vector])
        size = _I32(array.dtype.bitwidth // 8)
        return builder.call(some, [place, size, mask, ir.Constant(vector, None)])

    return kind(array, index, types.int64), write


@instructions
def store(typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """A vector into an array from an index on."""

    def write(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = place_of(context, builder, array, given[0], index, given[1])
        builder.store(given[2], place).align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, index, vector), write


@instructions
def _store_first(typing: Any, array: Any, index: Any, vector: Any, count: Any) -> Any:
    """The first ``count`` numbers of a vector into an array from an index on."""

    def write(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = place_of(context, builder, array, given[0], index, given[1])
        held, mask = given[2].type, _first(context, builder, given[3], vector.lanes)
        kinds = [held, place.type, _I32, mask.type]
        some = _masked(builder, "store", held, ir.VoidType(), kinds)
        builder.call(some, [given[2], place, _I32(array.dtype.bitwidth // 8), mask])
        return context.get_dummy_value()

    return types.void(array, index, vector, types.int64), write


@part
def load_some(array, index, count):  # type: ignore[no-untyped-def]
    """As many numbers of an array as there are, ``count``, and as have place; zeros behind them."""
    return load(array, index) if count >= lanes(array) else _load_first(array, index, count)


@part
def store_some(array, index, vector, count):  # type: ignore[no-untyped-def]
    """The first ``count`` numbers of a vector, or all that it has."""
    if count >= lanes(array):  # not every processor has instructions for a part of a vector
        store(array, index, vector)
    else:
        _store_first(array, index, vector, count)


def _chosen(comparison: str, a: Any, b: Any) -> Any:
    """The type and the instructions of a choice between two numbers in each place."""

    def write(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        other = spread_value(context, builder, given[1], b, a)
        return builder.select(builder.fcmp_ordered(comparison, other, given[0]), other, given[0])

    return a(a, b), write


@instructions
def larger(typing: Any, a: Any, b: Any) -> Any:
    """The larger number in each place; that of ``a`` where one of both is none."""
    return _chosen(">", a, b)


@instructions
def smaller(typing: Any, a: Any, b: Any) -> Any:
    """The smaller number in each place; that of ``a`` where one of both is none."""
    return _chosen("<", a, b)


@instructions
def two_to(typing: Any, shifted: Any) -> Any:
    """2^k, of which k is in the lowest bits of a number, as ``exp`` leaves it there."""
    wide = shifted.dtype.bitwidth
    fraction, least = (23, -127) if wide == 32 else (52, -1023)

    def write(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        whole = ir.VectorType(ir.IntType(wide), shifted.lanes)
        k = builder.bitcast(given[0], whole)
        exponent = builder.sub(k, ir.Constant(whole, [least] * shifted.lanes))
        bits = builder.shl(exponent, ir.Constant(whole, [fraction] * shifted.lanes))
        return builder.bitcast(bits, given[0].type)

    return shifted(shifted), write


@instructions
def total(typing: Any, vector: Any) -> Any:
    """The sum of a vector's numbers: of its halves first."""

    def write(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        some, count = given[0], vector.lanes
        while count > 1:
            count //= 2
            kind = ir.VectorType(_I32, count)
            halves = (ir.Constant(kind, list(range(n, n + count))) for n in (0, count))
            a, b = (builder.shuffle_vector(some, some, half) for half in halves)
            some = builder.fadd(a, b)
        return builder.extract_element(some, _I32(0))

    return vector.dtype(vector), write


@instructions
def numbered(typing: Any, array: Any) -> Any:
    """1, 2, 3, ... as whole numbers of 64 bits, as many as an array has in a vector."""
    kind = Vector(types.uint64, vector_of(array).lanes)

    def write(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return ir.Constant(context.get_value_type(kind), list(range(1, kind.lanes + 1)))

    return kind(array), write


@instructions
def upper_half(typing: Any, vector: Any) -> Any:
    """The upper 32 of 64 bits of whole numbers."""
    kind = Vector(types.uint32, vector.lanes)

    def write(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        down = ir.Constant(given[0].type, [32] * kind.lanes)
        return builder.trunc(builder.lshr(given[0], down), context.get_value_type(kind))

    return kind(vector), write


@instructions
def keep(typing: Any, vector: Any, lots: Any, least: Any) -> Any:
    """The numbers whose lot is not below ``least``, zeros for the others."""

    def write(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        below = spread_value(context, builder, given[2], least, lots)
        kept = builder.icmp_unsigned(">=", given[1], below)
        return builder.select(kept, given[0], ir.Constant(given[0].type, None))

    return vector(vector, lots, least), write
