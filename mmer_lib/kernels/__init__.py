"""Loops that torch has no operation for, compiled by numba: a GRU's steps, averaged attention.

What they change: nothing is written to memory that only the next operation would read, nothing is
computed on padding, and a loop over time costs no Python. What they do not change: the numbers,
but for rounding. Oracles in the tests are ``torch.nn.GRU`` and ``torch.nn.MultiheadAttention``.

float32 and float64, one thread, arrays contiguous. Compiled on first use and kept on disk, see
``compiled``.
"""

from mmer_lib.kernels.attention import TOP, average_weights, push_back
from mmer_lib.kernels.gru import gru_backward, gru_forward
from mmer_lib.kernels.products import add_product, padded
from mmer_lib.kernels.vectors import BITS

__all__ = [
    "BITS", "TOP", "add_product", "average_weights", "gru_backward", "gru_forward", "padded",
    "push_back",
]  # fmt: skip
