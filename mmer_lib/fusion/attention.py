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
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmer_lib.errors import InputError
from mmer_lib.fusion.base import QUERIES, Fused, Fusion, FusionConfig, Masks, Pair, Sequences
from mmer_lib.fusion.mean_attention import Weights, mean_attention
from mmer_lib.pooling import masked_mean


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention in H heads (Vaswani et al. 2017, eq. 1 and section 3.2.2).

    Parameters are named, shaped and initialised as in ``torch.nn.MultiheadAttention``, so that a
    state dict of one fits the other: 4 D (D + 1) numbers. With another ``inner`` width I they are
    3 I (D + 1) + D (I + 1). ``uniform``: queries and keys are zero and not there, so that every
    real step weighs the same: I (D + 1) + D (I + 1).
    """

    def __init__(
        self, width: int, heads: int, dropout: float = 0.0, inner: int = 0, uniform: bool = False
    ) -> None:
        super().__init__()
        inner = inner or width
        if inner % heads:
            raise InputError(
                f"width={inner} cannot be split into heads={heads} of equal size: choose a "
                f"multiple of {heads}, or other heads"
            )
        self.heads = heads
        self.dropout = dropout
        self.uniform = uniform
        rows = inner if uniform else 3 * inner  # of W_q, W_k, W_v
        self.in_proj_weight = nn.Parameter(torch.empty(rows, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(rows))
        self.out_proj = nn.Linear(inner, width)
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
        bias = only_real(torch.zeros_like(source_mask, dtype=q.dtype), source_mask)
        return self.mix(q, k, v, bias, source_mask, need_weights)

    def mean(self, query: Tensor, source: Tensor, asked: Tensor, read: Tensor) -> Tensor:
        """``masked_mean`` of the output, by the shorter way of ``mean_attention``: (B, D).

        ``asked`` and ``read`` (B,): how many frames of query and source are real, from the first
        on. The two ways differ by rounding, and in dropout's random numbers.
        """
        out = self.out_proj
        weights = Weights(self.in_proj_weight, self.in_proj_bias, out.weight, out.bias)
        rate = self.dropout if self.training else 0.0
        return mean_attention(query, source, asked, read, weights, self.heads, rate)

    def mix(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, real: Tensor, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """softmax(q k^T / sqrt(I / H) + bias) v, projected: (B, Tq, D), weights (B, H, Tq, Ts).

        ``bias`` (B, Ts) as :func:`only_real` makes it with ``real`` (B, Ts).
        """
        v = v * real[:, None, :, None]
        bias = bias[:, None, None, :]  # (B, 1, 1, Ts)
        if need_weights:
            scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) + bias  # (B, H, Tq, Ts)
            weights = scores.softmax(dim=-1) * real[:, None, None, :]
            mixed = F.dropout(weights, self.dropout, self.training) @ v  # (B, H, Tq, I/H)
        else:
            weights = None
            rate = self.dropout if self.training else 0.0
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=rate)
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), weights  # (B, Tq, D)

    def project(self, query: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, Tq, I/H), keys and values (B, H, Ts, I/H)."""
        if self.uniform:
            v = self._split(F.linear(source, self.in_proj_weight, self.in_proj_bias))
            return v.new_zeros(*v.shape[:2], query.shape[1], v.shape[3]), torch.zeros_like(v), v
        w_q, w_k, w_v = self.in_proj_weight.chunk(3)
        b_q, b_k, b_v = self.in_proj_bias.chunk(3)
        return (
            self._split(F.linear(query, w_q, b_q)),
            self._split(F.linear(source, w_k, b_k)),
            self._split(F.linear(source, w_v, b_v)),
        )

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, T, I) -> (B, H, T, I/H)


def only_real(bias: Tensor, real: Tensor) -> Tensor:
    """What is added to the scores (B, Ts), -inf where a step is not real.

    All zero where there is no real step at all, because softmax over nothing is NaN.
    """
    return bias.masked_fill(~real, -math.inf).masked_fill(~real.any(dim=1, keepdim=True), 0.0)


class AttentionFusion(Fusion):
    """One attention for every (query, source) pair, averaged over the query's time.

    A pair that is named twice has two attentions; pairs for which ``owner`` gives the same name
    share one. ``weights`` of a pair named twice hold the heads of both, one after the other.
    """

    queries: ClassVar[tuple[str, ...]] = QUERIES
    residuals: ClassVar[tuple[bool, ...]] = (False, True)
    resizable: ClassVar[bool] = True

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        self.pairs = self.choose_pairs(config.modalities)
        self.n_vectors = len(self.pairs)
        self.owners = [self.owner(pair, self.pairs[:i]) for i, pair in enumerate(self.pairs)]
        sizes = (config.width, config.heads, config.dropout, config.inner)
        uniform = config.query == "uniform"
        self.attentions = nn.ModuleDict(
            {name: MultiHeadAttention(*sizes, uniform) for name in dict.fromkeys(self.owners)}
        )

    @staticmethod
    def choose_pairs(modalities: tuple[str, ...]) -> list[Pair]:
        """Who asks whom, a vector each."""
        raise NotImplementedError

    @staticmethod
    def owner(pair: Pair, earlier: list[Pair]) -> str:
        """The name of the attention that serves ``pair``."""
        copy = earlier.count(pair)
        return "_".join(pair) + (f"_{copy + 1}" if copy else "")

    def forward(
        self,
        sequences: Sequences,
        masks: Masks,
        need_weights: bool = False,
        asking: tuple[Sequences, Masks] | None = None,
    ) -> Fused:
        """(B, T_m, D) and (B, T_m) of every modality -> ``Fused`` with a vector for each pair."""
        asks, ask_masks = asking or (sequences, masks)
        read = {m: mask.sum(dim=1) for m, mask in masks.items()}  # (B,)
        asked = {m: mask.sum(dim=1) for m, mask in ask_masks.items()} if asking else read
        vectors, present = [], []
        weights: dict[Pair, Tensor] = {}
        for (query, source), owner in zip(self.pairs, self.owners, strict=True):
            attend = cast(MultiHeadAttention, self.attentions[owner])
            if need_weights or attend.uniform:
                out, w = attend(asks[query], sequences[source], masks[source], need_weights)
                vector = masked_mean(out, ask_masks[query])  # (B, D)
            else:
                given = (asks[query], sequences[source], asked[query], read[source])
                vector, w = attend.mean(*given), None
            if self.config.residual:
                vector = vector + masked_mean(asks[query], ask_masks[query])
            vectors.append(vector)
            present.append((asked[query] > 0) & (read[source] > 0))  # (B,)
            if w is not None:
                w = w * ask_masks[query][:, None, :, None]
                again = (query, source) in weights
                weights[query, source] = torch.cat([weights[query, source], w], 1) if again else w
        return Fused(torch.stack(vectors, dim=1), torch.stack(present, dim=1), weights)


class SelfFusion(AttentionFusion):
    """Every modality reads itself: M attentions, M vectors (Rajan et al. 2022)."""

    @staticmethod
    def choose_pairs(modalities: tuple[str, ...]) -> list[Pair]:
        """(m, m)"""
        return [(m, m) for m in modalities]


class CrossFusion(AttentionFusion):
    """Every modality reads every other: M (M - 1) attentions, vectors (Rajan et al. 2022)."""

    least: ClassVar[int] = 2

    @staticmethod
    def choose_pairs(modalities: tuple[str, ...]) -> list[Pair]:
        """(query, source), different ones"""
        return [(query, source) for query in modalities for source in modalities if query != source]


class SelfCrossFusion(AttentionFusion):
    """Both sets of vectors: M * M attentions (Rajan et al. 2022)."""

    @staticmethod
    def choose_pairs(modalities: tuple[str, ...]) -> list[Pair]:
        """those of self, then those of cross"""
        return SelfFusion.choose_pairs(modalities) + CrossFusion.choose_pairs(modalities)


class SelfTwice(AttentionFusion):
    """Two self-attentions a modality: for three modalities as many parameters and vectors as cross.

    A control: if cross is better than self only because it is larger, so is this.
    """

    @staticmethod
    def choose_pairs(modalities: tuple[str, ...]) -> list[Pair]:
        """(m, m), each twice"""
        return SelfFusion.choose_pairs(modalities) * 2


class CrossTied(CrossFusion):
    """Cross-attention in which both directions of a pair share one attention.

    For three modalities it has as many parameters as self, and the vectors of cross.
    """

    @staticmethod
    def owner(pair: Pair, earlier: list[Pair]) -> str:
        """one of both directions"""
        return "_".join(pair[::-1] if pair[::-1] in earlier else pair)


class SelfCrossTied(SelfCrossFusion):
    """Both sets of vectors; the two directions of a cross pair share one attention."""

    @staticmethod
    def owner(pair: Pair, earlier: list[Pair]) -> str:
        """one of both directions"""
        return CrossTied.owner(pair, earlier)
