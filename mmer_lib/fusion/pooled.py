"""Fusions that see every modality as one vector, its mean over time: no frame is looked at.

- sequences[m] (B, T_m, D) with masks[m] (B, T_m) -> mm(e_m) (B, D), zeros where m is missing.

``mean`` asks whether attention is of use at all, ``late`` whether features must meet before they
are classified, ``lmf`` and ``vec_cross`` whether their means suffice where they do meet.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmer_lib.fusion.base import Fused, Fusion, FusionConfig, Masks, Sequences
from mmer_lib.pooling import masked_mean

RANK = 4  # of lmf


class MeanFusion(Fusion):
    """The means themselves: recurrent encoders and no attention, 0 parameters.

    Karas et al. (2022) ask the sister question, recurrence or cross-attention. Vector m is present
    where m is. Of two modalities x and y, statistical pooling then makes
    [(x + y) / 2 ; abs(x - y) / sqrt 2].
    """

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        self.n_vectors = len(config.modalities)

    def forward(
        self,
        sequences: Sequences,
        masks: Masks,
        need_weights: bool = False,
        asking: tuple[Sequences, Masks] | None = None,
    ) -> Fused:
        """(B, T_m, D) and (B, T_m) of every modality -> ``Fused`` with a vector for each."""
        vectors = [masked_mean(sequences[m], masks[m]) for m in self.config.modalities]
        present = [masks[m].any(dim=1) for m in self.config.modalities]
        return Fused(torch.stack(vectors, dim=1), torch.stack(present, dim=1))  # (B, M, D), (B, M)


class LateFusion(MeanFusion):
    """Every modality is classified alone; a learned mix of their probabilities is the answer.

    p = sum_m softmax(w)_m softmax(Linear(Linear(mm(e_m)))), logits = log p: decision-level fusion
    (Snoek et al. 2005). M ((D + 1) h + (h + 1) C + 1) parameters, h the hidden width. w starts at
    zero, the plain average. There is nothing between the two linear layers, as in the paper's head.

    A missing modality is left out of the softmax over w; where all are, each answers from its
    biases. ``gates["mix"]`` (B, M) are the shares. ``vectors`` are the means, for whoever wants
    them: ``logits`` are the answer.
    """

    least: ClassVar[int] = 2  # the mix of one has no weight to learn
    classifies: ClassVar[bool] = True

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        width, hidden, classes = config.width, config.hidden, config.classes
        self.heads = nn.ModuleDict(
            {
                m: nn.Sequential(nn.Linear(width, hidden), nn.Linear(hidden, classes))
                for m in config.modalities
            }
        )
        self.mix = nn.Parameter(torch.zeros(len(config.modalities)))  # w

    def forward(
        self,
        sequences: Sequences,
        masks: Masks,
        need_weights: bool = False,
        asking: tuple[Sequences, Masks] | None = None,
    ) -> Fused:
        """(B, T_m, D) and (B, T_m) of every modality -> ``Fused`` with logits (B, C)."""
        means = super().forward(sequences, masks)
        counted = means.present | ~means.present.any(dim=1, keepdim=True)  # (B, M)
        share = self.mix.expand(counted.shape).masked_fill(~counted, -math.inf).log_softmax(dim=1)
        parts = zip(self.config.modalities, means.vectors.unbind(1), strict=True)
        alone = [self.heads[m](x) for m, x in parts]
        scores = torch.stack(alone, dim=1).log_softmax(dim=2)  # (B, M, C)
        logits = (share.unsqueeze(2) + scores).logsumexp(dim=1)  # (B, C)
        return Fused(means.vectors, means.present, gates={"mix": share.exp()}, logits=logits)


class LowRankFusion(MeanFusion):
    """Low-rank multimodal fusion (Liu et al. 2018): the tensor of all products, never formed.

    z = sum_r w_r prod_m ([1 ; mm(e_m)] F_m^r) + b, r = 1 .. 4, is the contraction of the outer
    product of all [1 ; mm(e_m)] with a tensor of rank 4. One vector z of width 2 D, as many numbers
    as statistical pooling gives. M 4 (D + 1) 2D + 4 + 2D parameters.

    A missing modality enters as [1 ; 0]: the 1 keeps the products of those that are left. z is
    present where any modality is.

    Deviation: every F_m^r starts by Xavier's rule as a matrix of its own, and w_r at 1; the paper
    knows no missing modality.
    """

    @property
    def vector_width(self) -> int:
        """D' = 2 D"""
        return 2 * self.config.width

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        self.n_vectors = 1
        sizes = (RANK, config.width + 1, self.vector_width)
        self.factors = nn.ParameterDict(
            {m: nn.Parameter(torch.empty(sizes)) for m in config.modalities}
        )
        for factor in self.factors.values():
            for matrix in factor:
                nn.init.xavier_normal_(matrix)
        self.weight = nn.Parameter(torch.ones(RANK))  # w
        self.bias = nn.Parameter(torch.zeros(self.vector_width))

    def forward(
        self,
        sequences: Sequences,
        masks: Masks,
        need_weights: bool = False,
        asking: tuple[Sequences, Masks] | None = None,
    ) -> Fused:
        """(B, T_m, D) and (B, T_m) of every modality -> ``Fused`` with one vector (B, 1, 2D)."""
        means = super().forward(sequences, masks)
        extended = F.pad(means.vectors, (1, 0), value=1.0)  # (B, M, D + 1)
        # Not .values(): a ParameterDict sorts its keys.
        ordered = [self.factors[m] for m in self.config.modalities]
        factors = torch.stack(ordered)  # (M, R, D + 1, 2D)
        product = torch.einsum("bmi,mrio->bmro", extended, factors).prod(dim=1)  # (B, R, 2D)
        z = torch.einsum("r,bro->bo", self.weight, product) + self.bias  # (B, 2D)
        return Fused(z.unsqueeze(1), means.present.any(dim=1, keepdim=True))


class ChannelAttention(nn.Module):
    """Attention among the channels of two vectors: 3 I (D + 1) + D (I + 1) parameters."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, inner) for _ in range(3))
        self.out = nn.Linear(inner, width)
        self.dropout = dropout

    def forward(self, query: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D), (B, D) -> output (B, D), map (B, I, I) whose rows sum to one."""
        q, k, v = self.query(query), self.key(source), self.value(source)  # (B, I) each
        scores = q.unsqueeze(2) * k.unsqueeze(1) / math.sqrt(q.shape[1])  # (B, I, I)
        weights = scores.softmax(dim=2)
        mixed = F.dropout(weights, self.dropout, self.training) @ v.unsqueeze(2)  # (B, I, 1)
        return self.out(mixed.squeeze(2)), weights


class VectorCrossFusion(Fusion):
    """Cross-attention between mean vectors, in the spirit of Despotovic et al. (2024).

    For every ordered pair, with q of mm(e_m) and k, v of mm(e_n), linear maps with biases:
    o = W_o softmax(q k^T / sqrt I) v + b_o. The softmax runs over CHANNELS, an I x I map; frames
    are gone before it, so their order is irrelevant. I = D unless ``inner`` says else;
    M (M - 1) (3 I (D + 1) + D (I + 1)) parameters, as many as ``cross``.

    A vector is present where both modalities of its pair are. ``aux["channels_m_n"]`` (B, I, I) are
    the maps, if asked for: their axes are channels, so they are no ``weights``. ``residual`` adds
    mm(e_m). There is no query=uniform: equal weights over channels would leave one number a pair.

    Deviation: known from a description only; that every pair has maps of its own, their biases and
    the output projection follow ``cross`` here.
    """

    least: ClassVar[int] = 2
    queries: ClassVar[tuple[str, ...]] = ("own", "shuffled")
    residuals: ClassVar[tuple[bool, ...]] = (False, True)
    resizable: ClassVar[bool] = True

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        names = config.modalities
        self.pairs = [(query, source) for query in names for source in names if query != source]
        self.n_vectors = len(self.pairs)
        sizes = (config.width, config.inner or config.width, config.dropout)
        self.attentions = nn.ModuleDict(
            {f"{q}_{s}": ChannelAttention(*sizes) for q, s in self.pairs}
        )

    def forward(
        self,
        sequences: Sequences,
        masks: Masks,
        need_weights: bool = False,
        asking: tuple[Sequences, Masks] | None = None,
    ) -> Fused:
        """(B, T_m, D) and (B, T_m) of every modality -> ``Fused`` with a vector for each pair."""
        asks, ask_masks = asking or (sequences, masks)
        vectors, present = [], []
        aux: dict[str, Tensor] = {}
        for query, source in self.pairs:
            asked = masked_mean(asks[query], ask_masks[query])  # (B, D)
            read = masked_mean(sequences[source], masks[source])
            out, channels = self.attentions[f"{query}_{source}"](asked, read)
            vectors.append(out + asked if self.config.residual else out)
            present.append(ask_masks[query].any(dim=1) & masks[source].any(dim=1))  # (B,)
            if need_weights:
                aux[f"channels_{query}_{source}"] = channels
        return Fused(torch.stack(vectors, dim=1), torch.stack(present, dim=1), aux=aux)
