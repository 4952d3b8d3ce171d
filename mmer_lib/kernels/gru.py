"""A bidirectional GRU, forth and back: see ``mmer_lib.recurrence`` for formulas and layout."""

from __future__ import annotations

import numpy as np

from mmer_lib.kernels.compiled import compiled, part
from mmer_lib.kernels.functions import sigmoid, tanh
from mmer_lib.kernels.products import add_product, clear, padded, whole_vectors
from mmer_lib.kernels.vectors import lanes, load, load_some, store, store_some

TOGETHER = 8  # sequences that are worked on from end to end, so that memory is read as it stands


@compiled
def gru_forward(gates, w, b_in, b, lengths, order, out, recurrent):  # type: ignore[no-untyped-def]
    """From the inputs' share ``gates`` (N, 2, 3h), without its bias, to states ``out`` (N, 2, h).

    ``gates`` are then r, z and n themselves, and ``recurrent`` (N, 2, h) is W_n h + b_n. ``w``
    (2, h, 3h), ``b_in`` and ``b`` (2, 3h), ``lengths`` (B,). Direction 1 goes from each sequence's
    last frame to its first.
    """
    h, starts = out.shape[2], np.cumsum(lengths) - lengths
    wide, size = whole_vectors(out, 3 * h), lanes(out)
    biases, b_n = np.zeros(wide, out.dtype), np.zeros(wide, out.dtype)
    states = np.zeros((TOGETHER, wide), out.dtype)
    room = np.zeros((TOGETHER, wide + size), out.dtype)  # W h + b of a step; more may be read
    for way in range(2):
        weights = padded(w[way])
        for j in range(2 * h):
            biases[j] = b[way, j] + b_in[way, j]
        for j in range(h):
            biases[2 * h + j], b_n[j] = b[way, 2 * h + j], b_in[way, 2 * h + j]
        for first in range(0, len(order), TOGETHER):
            some = order[first : first + TOGETHER]
            clear(states)
            there = len(some)  # sequences that have this step: the first ones
            for s in range(lengths[some[0]]):
                while lengths[some[there - 1]] <= s:
                    there -= 1
                for i in range(there):
                    for j in range(0, wide, size):
                        store(room, (i, j), load(biases, (j,)))
                if s:
                    add_product(room[:there], states, weights)
                for i in range(there):
                    o = some[i]
                    here = starts[o] + (s if way == 0 else lengths[o] - 1 - s)
                    _step(gates, room, b_n, states, out, recurrent, (here, way), i)


@part
def _step(gates, room, b_n, states, out, recurrent, at, i):  # type: ignore[no-untyped-def]
    """One sequence, one step: the frame and direction ``at``, of which row i of ``room`` is."""
    h, (here, way) = out.shape[2], at
    for j in range(0, h, lanes(out)):
        left, at_z, at_n = h - j, h + j, 2 * h + j
        r = sigmoid(load_some(gates, (here, way, j), left) + load(room, (i, j)))
        z = sigmoid(load_some(gates, (here, way, at_z), left) + load(room, (i, at_z)))
        own = load(room, (i, at_n))
        n = tanh(load_some(gates, (here, way, at_n), left) + load(b_n, (j,)) + r * own)
        state = n + z * (load(states, (i, j)) - n)
        store_some(gates, (here, way, j), r, left)
        store_some(gates, (here, way, at_z), z, left)
        store_some(gates, (here, way, at_n), n, left)
        store_some(recurrent, (here, way, j), own, left)
        store_some(out, (here, way, j), state, left)
        store(states, (i, j), state)


@compiled
def gru_backward(grad, gates, w, lengths, order, out, recurrent, to_gates, to_n, before):  # type: ignore[no-untyped-def]
    """From the gradient of the states, ``grad`` (N, 2, h), to those of what they are made of.

    ``to_gates`` (N, 2, 3h): of W h + b; ``to_n`` (N, 2, h): of the inputs' share of n (those of r
    and z are the same as of W h + b). ``before`` (N, 2, h): the states before. ``w`` (2, 3h, h);
    the rest as ``gru_forward`` left it.
    """
    h, starts = out.shape[2], np.cumsum(lengths) - lengths
    # gradient of a state from the steps after it, and what a step pushes back to the one before
    back = np.empty((TOGETHER, whole_vectors(out, h)), out.dtype)
    pushed = np.empty((TOGETHER, 3 * h), out.dtype)
    for way in range(2):
        weights = padded(w[way])
        for first in range(0, len(order), TOGETHER):
            some = order[first : first + TOGETHER]
            clear(back)
            there = 0
            for s in range(lengths[some[0]] - 1, -1, -1):
                while there < len(some) and lengths[some[there]] > s:
                    there += 1
                for i in range(there):
                    o = some[i]
                    here = starts[o] + (s if way == 0 else lengths[o] - 1 - s)
                    known = here - 1 if way == 0 else here + 1
                    _step_back(
                        grad, gates, out, recurrent, to_gates, to_n, before, back, pushed,
                        (here, way), known if s else -1, i,
                    )  # fmt: skip
                if s:
                    add_product(back[:there], pushed, weights)


@part
def _step_back(grad, gates, out, recurrent, to_gates, to_n, before, back, pushed, at, known, i):  # type: ignore[no-untyped-def]
    """One sequence, one step; row i of ``back`` is left with what goes to the state before by z.

    That state is of the frame ``known``, -1 where there is none.
    """
    h, (here, way) = out.shape[2], at
    for j in range(0, h, lanes(out)):
        left = h - j
        state = load_some(out, (known, way, j), left if known >= 0 else 0)
        own = load(back, (i, j)) + load_some(grad, (here, way, j), left)
        r = load_some(gates, (here, way, j), left)
        z = load_some(gates, (here, way, h + j), left)
        n = load_some(gates, (here, way, 2 * h + j), left)
        of_z = own * (state - n) * z * (1.0 - z)
        of_n = own * (1.0 - z) * (1.0 - n * n)
        of_r = of_n * load_some(recurrent, (here, way, j), left) * r * (1.0 - r)
        store_some(before, (here, way, j), state, left)
        store_some(to_n, (here, way, j), of_n, left)
        store(back, (i, j), own * z)
        for gate, of_gate in enumerate((of_r, of_z, of_n * r)):
            store_some(to_gates, (here, way, gate * h + j), of_gate, left)
            store_some(pushed, (i, gate * h + j), of_gate, left)
