"""A bidirectional GRU for long sequences on a CPU: both directions in one loop, gradients by hand.

With gates r, z, n of Cho et al. (2014) as ``torch.nn.GRU`` computes them,

    h' = (1 - z) n + z h,   n = tanh(a_n + r (W_n h + b_n)),   r, z = sigmoid(a + W h + b),

the inputs' share a is one matrix product over all steps, and so are the gradients of the weights;
only W h runs step by step. Nothing is approximated: output and gradients are those of torch's own
module but for rounding. Sequences that have ended are left out of the products.

- a (2, T, B, 3h): the inputs' share of r, z, n; direction 1 runs from each sequence's end;
- alive[t]: how many of the B sequences, sorted by length, still have a step t.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def bidirectional_gru(gru: nn.GRU, x: Tensor, lengths: Tensor) -> Tensor:
    """What ``gru`` gives for right-padded sequences: (B, T, F), (B,) -> (B, T, 2h), padding zeros.

    ``lengths`` are at least 1. ``gru`` has one layer, two directions and ``batch_first``.
    """
    order = lengths.argsort(descending=True, stable=True)
    lengths, steps = lengths[order], torch.arange(x.shape[1], device=x.device)
    alive = (lengths > steps[:, None]).sum(dim=1).tolist()
    turn = torch.where(steps[:, None] < lengths, lengths - 1 - steps[:, None], steps[:, None])
    w_in, w, b_in, b = (
        torch.stack([getattr(gru, name), getattr(gru, f"{name}_reverse")])
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    )
    x = x[order].transpose(0, 1)  # (T, B, F)
    both = torch.stack([x, _Turn.apply(x, turn)]).flatten(1, 2)  # (2, T B, F)
    a = torch.baddbmm(b_in[:, None], both, w_in.transpose(1, 2))  # (2, T B, 3h)
    ahead, back = _Recurrence.apply(a.unflatten(1, x.shape[:2]), w, b, alive)  # (T, B, h) each
    out = torch.cat([ahead, _Turn.apply(back, turn)], dim=-1).transpose(0, 1)  # (B, T, 2h)
    return out[order.argsort()]


class _Turn(torch.autograd.Function):
    """x (T, B, n) in the order of steps turn (T, B), which undoes itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, turn: Tensor) -> Tensor:
        ctx.save_for_backward(turn)
        return x[turn, torch.arange(x.shape[1], device=x.device)]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (turn,) = ctx.saved_tensors
        return grad[turn, torch.arange(grad.shape[1], device=grad.device)], None


class _Recurrence(torch.autograd.Function):
    """h (2, T, B, h) of a, w (2, 3h, h), b (2, 3h) and alive; zeros where a sequence has ended."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, w: Tensor, b: Tensor, alive: list[int]) -> Tensor:
        _, steps, batch, n3 = a.shape
        n = n3 // 3
        h = a.new_zeros(2, steps + 1, batch, n)
        rz, new = a.new_zeros(2, steps, batch, 2 * n), a.new_zeros(2, steps, batch, n)
        recurrent = torch.zeros_like(new)  # W_n h + b_n
        w_t, b = w.transpose(1, 2).contiguous(), b[:, None, :]
        for t, m in enumerate(alive):
            gates = torch.baddbmm(b, h[:, t, :m], w_t)  # (2, m, 3h)
            r_z, c, q = rz[:, t, :m], new[:, t, :m], recurrent[:, t, :m]
            torch.add(a[:, t, :m, : 2 * n], gates[..., : 2 * n], out=r_z).sigmoid_()
            q.copy_(gates[..., 2 * n :])
            torch.addcmul(a[:, t, :m, 2 * n :], r_z[..., :n], q, out=c).tanh_()
            torch.lerp(c, h[:, t, :m], r_z[..., n:], out=h[:, t + 1, :m])
        ctx.save_for_backward(w, h, rz, new, recurrent)
        ctx.alive = alive
        return h[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        w, h, rz, new, recurrent = ctx.saved_tensors
        n, before, back = new.shape[-1], h[:, :-1], torch.zeros_like(h[:, 0])  # of the state
        r, z = rz.split(n, dim=-1)
        to_z = (before - new).mul_(z).mul_(1 - z)
        to_n = (1 - z).mul_(1 - new.square())
        to_r = recurrent * r * (1 - r)
        gates = new.new_zeros(*new.shape[:-1], 3 * n)  # gradients: of W h + b, and below of a_n
        to_a = torch.zeros_like(new)
        for t in range(len(ctx.alive) - 1, -1, -1):
            m = ctx.alive[t]
            d, g = back[:, :m], gates[:, t, :m]
            d += grad[:, t, :m]
            d_n = torch.mul(d, to_n[:, t, :m], out=to_a[:, t, :m])
            torch.mul(d_n, to_r[:, t, :m], out=g[..., :n])
            torch.mul(d, to_z[:, t, :m], out=g[..., n : 2 * n])
            torch.mul(d_n, r[:, t, :m], out=g[..., 2 * n :])
            d *= z[:, t, :m]
            d += torch.bmm(g, w)
        flat = gates.flatten(1, 2)  # (2, T B, 3h)
        grad_w = flat.transpose(1, 2) @ before.flatten(1, 2)
        return torch.cat([gates[..., : 2 * n], to_a], dim=-1), grad_w, flat.sum(dim=1), None
