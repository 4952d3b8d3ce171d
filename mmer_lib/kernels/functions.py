"""exp, sigmoid and tanh of vectors; ``math`` has them of single numbers alone.

exp(x) = 2^k exp(r), |r| <= ln(2) / 2. Adding 1.5 * 2^(bits of the fraction) rounds x / ln(2) to
the whole number k and leaves its bits lowest, from where they are moved into an exponent. ln(2)
is subtracted in two parts, of which the first is so short that its product with k is exact (Cody
& Waite 1980); exp(r) is a Taylor series.
"""

from __future__ import annotations

import math
from typing import Any

from numba import types
from numba.extending import overload

from mmer_lib.kernels.compiled import part
from mmer_lib.kernels.vectors import larger, smaller, two_to

SHIFT32, SHIFT64 = 1.5 * 2.0**23, 1.5 * 2.0**52
HIGH32, HIGH64 = 355 / 512, float.fromhex("0x1.62e42p-1")
LOW32, LOW64 = math.log(2) - 355 / 512, float.fromhex("0x1.fdf473de6af28p-22")


@part
def _reduce(x, shift, high, low):  # type: ignore[no-untyped-def]
    """r of x, and k in the lowest bits of a number."""
    shifted = x * (1 / math.log(2)) + shift
    k = shifted - shift
    r = x - k * high
    return r - k * low, shifted


@part
def _exp32(x):  # type: ignore[no-untyped-def]
    r, shifted = _reduce(smaller(larger(x, -64.0), 88.0), SHIFT32, HIGH32, LOW32)
    p = 1 / 120 + r * (1 / 720 + r * (1 / 5040))
    p = 1 + r * (1 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + r * p))))
    return p * two_to(shifted)


@part
def _exp64(x):  # type: ignore[no-untyped-def]
    r, shifted = _reduce(smaller(larger(x, -512.0), 709.0), SHIFT64, HIGH64, LOW64)
    p = 1 / 39916800 + r * (1 / 479001600 + r * (1 / 6227020800))
    p = 1 / 40320 + r * (1 / 362880 + r * (1 / 3628800 + r * p))
    p = 1 / 24 + r * (1 / 120 + r * (1 / 720 + r * (1 / 5040 + r * p)))
    p = 1 + r * (1 + r * (1 / 2 + r * (1 / 6 + r * p)))
    return p * two_to(shifted)


def exp(x: Any) -> Any:
    """e^x of a vector, between e^-64 and e^88 in float32, e^-512 and e^709 in float64.

    Smaller ones, times a gradient, would soon be too small for a normal number, and with those a
    processor is many times as slow.
    """


@overload(exp, inline="always")
def _exp(x):  # type: ignore[no-untyped-def]
    return (lambda x: _exp32(x)) if x.dtype is types.float32 else (lambda x: _exp64(x))


@part
def sigmoid(x):  # type: ignore[no-untyped-def]
    """1 / (1 + e^-x)"""
    return 1.0 / (1.0 + exp(x * -1.0))


@part
def tanh(x):  # type: ignore[no-untyped-def]
    """2 sigmoid(2 x) - 1; exact to rounding of 1, not of x."""
    return 2.0 / (1.0 + exp(x * -2.0)) - 1.0
