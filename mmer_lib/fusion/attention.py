"""The paper's fusions: self-attention, cross-attention, or both (Rajan et al. 2022).

- sequences[m] (B, T_m, D) encoded modalities with masks[m] (B, T_m) bool, True = data;
- every attention has a query modality (who asks) and a source modality (who is read);
- its output, averaged over the query's time, is one vector (B, D).

Because the temporal mean follows attention directly, such a vector is a weighted pooling of the
SOURCE's frames: mean_t MHA(q, s)_t = W_o concat_h(sum_s abar_hs (W_v e_s + b_v)) + b_o with abar
the attention rows averaged over query time. The query chooses weights; its content never passes.

Deviation: the paper knows no missing modality. Here a pair's vector is dropped when its query or
its source is missing. Of an utterance without text, cross-AT then has no vector at all and
answers from its biases alone, whereas self-AT still has audio's, and cross-AVT has two of six
vectors where self-AVT has two of three: on such utterances this handicaps cross against self.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmer_lib.errors import InputError
from mmer_lib.pooling import masked_mean

Pair = tuple[str, str]  # (query, source)


@dataclass(frozen=True)
class Fused:
    """What a fusion gives: n vectors an utterance, and what it looked at if asked.

    ``present`` (B, n) is False where a vector's modality is missing; ``weights`` maps
    (query, source) to (B, H, Tq, Ts), zero on padding.
    """

    vectors: Tensor  # (B, n, D)
    present: Tensor  # (B, n) bool
    weights: dict[Pair, Tensor] = field(default_factory=dict)
    gates: dict[str, Tensor] = field(default_factory=dict)
    aux: dict[str, Tensor] = field(default_factory=dict)


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention in H heads (Vaswani et al. 2017, eq. 1 and section 3.2.2).

    Parameters are named, shaped and initialised as in ``torch.nn.MultiheadAttention``, so that a
    state dict of one fits the other: 4 D (D + 1) numbers.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise InputError(f"width={width} cannot be split into heads={heads} of equal size")
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))  # rows of W_q, W_k, W_v
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, query: Tensor, source: Tensor, source_mask: Tensor, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """(B, Tq, D), (B, Ts, D), (B, Ts) -> output (B, Tq, D), weights (B, H, Tq, Ts) or None.

        Weights are zero on padding; where a source has no real step they are all zero and the
        output is the bias of the output projection: mark it as not present.
        """
        q, k, v = self.project(query, source)
        allowed = source_mask[:, None, None, :]  # (B, 1, 1, Ts)
        allowed = allowed | ~source_mask.any(dim=1)[:, None, None, None]  # softmax of nothing: NaN
        if need_weights:
            scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, Tq, Ts)
            weights = scores.masked_fill(~allowed, -math.inf).softmax(dim=-1)
            weights = weights * source_mask[:, None, None, :]
            mixed = F.dropout(weights, self.dropout, self.training) @ v  # (B, H, Tq, D/H)
        else:
            weights = None
            rate = self.dropout if self.training else 0.0
            v = v * source_mask[:, None, :, None]
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=rate)
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), weights  # (B, Tq, D)

    def project(self, query: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, Tq, D/H), keys and values (B, H, Ts, D/H)."""
        w_q, w_k, w_v = self.in_proj_weight.chunk(3)
        b_q, b_k, b_v = self.in_proj_bias.chunk(3)
        return (
            self._split(F.linear(query, w_q, b_q)),
            self._split(F.linear(source, w_k, b_k)),
            self._split(F.linear(source, w_v, b_v)),
        )

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, T, D) -> (B, H, T, D/H)


class AttentionFusion(nn.Module):
    """One attention for every (query, source) pair, averaged over the query's time."""

    def __init__(self, pairs: list[Pair], width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.pairs = pairs
        self.attentions = nn.ModuleDict(
            {
                f"{query}_{source}": MultiHeadAttention(width, heads, dropout)
                for query, source in pairs
            }
        )

    @property
    def n_vectors(self) -> int:
        """Vectors an utterance: one for each pair."""
        return len(self.pairs)

    def forward(
        self,
        sequences: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        need_weights: bool = False,
    ) -> Fused:
        """(B, T_m, D) and (B, T_m) of every modality -> ``Fused`` with a vector for each pair."""
        vectors, present, weights = [], [], {}
        for query, source in self.pairs:
            attend = self.attentions[f"{query}_{source}"]
            out, w = attend(sequences[query], sequences[source], masks[source], need_weights)
            vectors.append(masked_mean(out, masks[query]))  # (B, D)
            present.append(masks[query].any(dim=1) & masks[source].any(dim=1))  # (B,)
            if w is not None:
                weights[query, source] = w * masks[query][:, None, :, None]
        return Fused(torch.stack(vectors, dim=1), torch.stack(present, dim=1), weights)


def self_pairs(modalities: tuple[str, ...]) -> list[Pair]:
    """Every modality reads itself."""
    return [(m, m) for m in modalities]


def cross_pairs(modalities: tuple[str, ...]) -> list[Pair]:
    """Every modality reads every other one."""
    return [(query, source) for query in modalities for source in modalities if query != source]


def build_self(modalities: tuple[str, ...], width: int, heads: int, dropout: float) -> nn.Module:
    """M attentions, M vectors."""
    return AttentionFusion(self_pairs(modalities), width, heads, dropout)


def build_cross(modalities: tuple[str, ...], width: int, heads: int, dropout: float) -> nn.Module:
    """M (M - 1) attentions and vectors. Raises ``InputError`` for a single modality."""
    if len(modalities) < 2:
        raise InputError(
            f"cross-attention needs two modalities or more, not {modalities[0]} alone: use self"
        )
    return AttentionFusion(cross_pairs(modalities), width, heads, dropout)


def build_selfcross(
    modalities: tuple[str, ...], width: int, heads: int, dropout: float
) -> nn.Module:
    """Both sets: M * M attentions and vectors."""
    pairs = self_pairs(modalities) + cross_pairs(modalities)
    return AttentionFusion(pairs, width, heads, dropout)
