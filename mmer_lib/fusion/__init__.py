"""Fusions by name: ``build_fusion("cross", ("audio", "text"), width=120, heads=6)``.

A fusion is a module with ``n_vectors`` and
``forward(sequences, masks, need_weights=False) -> Fused``; see :mod:`mmer_lib.fusion.attention`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from mmer_lib.errors import unknown
from mmer_lib.fusion.attention import (
    Fused,
    MultiHeadAttention,
    Pair,
    build_cross,
    build_self,
    build_selfcross,
)

__all__ = ["FUSIONS", "Fused", "MultiHeadAttention", "Pair", "build_fusion"]

FUSIONS: dict[str, Callable[[tuple[str, ...], int, int, float], nn.Module]] = {
    "self": build_self,
    "cross": build_cross,
    "selfcross": build_selfcross,
}


def build_fusion(
    name: str, modalities: tuple[str, ...], width: int, heads: int, dropout: float = 0.0
) -> nn.Module:
    """A registered fusion for these modalities. Raises ``InputError`` for an unknown name."""
    if name not in FUSIONS:
        raise unknown("fusion", name, FUSIONS)
    return FUSIONS[name](modalities, width, heads, dropout)
