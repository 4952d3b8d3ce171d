"""Modality-invariant and modality-specific representations (MISA, Hazarika et al. 2020).

- e_m (B, D) mean of a modality's real frames; u_m (B, I) its projection;
- private p_m and shared s_m (B, I), values in (0, 1);
- three losses over a batch, computed on utterances that have the modalities concerned.
"""

from __future__ import annotations

from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmer_lib.fusion.base import Fused, Fusion, FusionConfig, Masks, Sequences
from mmer_lib.fusion.blocks import Block, has_data
from mmer_lib.pooling import EPS, masked_mean

MOMENTS = 5  # orders that the central moment discrepancy compares


class Misa(Fusion):
    """MISA (Hazarika et al. 2020, sections 3.3 to 3.5, and its code).

    u_m = LN(relu(W_m e_m)); private p_m = sigmoid(P_m u_m), shared s_m = sigmoid(S u_m) with one S
    for all. The 2 M of them read each other in one transformer block, feed-forward four times as
    wide: vectors [p_1' .. p_M', s_1' .. s_M']. ``losses``: ``similarity`` of the shared ones
    (central moment discrepancy, mean over pairs), ``difference`` (private and shared of a modality,
    and private ones of two, orthogonal; sum), ``reconstruction`` of u_m by R_m (p_m + s_m) (mean).
    R_m serves the last alone: train with ``losses=misa=...``, or R_m stays as it started.

    Parameters: M I (D + 3) + (2 M + 1) I (I + 1) + 12 I^2 + 13 I; 320,280 at I = D = 120.
    Both vectors of a modality need that modality alone. ``aux``: ``private`` and ``shared``
    (B, M, I) before the block, ``tokens`` (B, H, 2 M, 2 M) its weights.

    Deviation: the mean of the frames stands for the final states of the recurrent encoders.
    Deviation: the block is pre-norm, with ``config.heads`` heads in place of two; the losses are
    not weighted against each other; the head is the protocol's.
    """

    least: ClassVar[int] = 2
    queries: ClassVar[tuple[str, ...]] = ("own", "uniform")
    resizable: ClassVar[bool] = True

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        names, inner = config.modalities, config.inner or config.width
        self.n_vectors = 2 * len(names)
        self.project = nn.ModuleDict(
            {
                m: nn.Sequential(nn.Linear(config.width, inner), nn.ReLU(), nn.LayerNorm(inner))
                for m in names
            }
        )
        self.private = nn.ModuleDict({m: nn.Linear(inner, inner) for m in names})
        self.shared = nn.Linear(inner, inner)
        self.decode = nn.ModuleDict({m: nn.Linear(inner, inner) for m in names})
        uniform = config.query == "uniform"
        self.block = Block(inner, config.heads, config.dropout, expansion=4, uniform=uniform)

    @property
    def vector_width(self) -> int:
        """I"""
        return self.shared.out_features

    def forward(
        self,
        sequences: Sequences,
        masks: Masks,
        need_weights: bool = False,
        asking: tuple[Sequences, Masks] | None = None,
    ) -> Fused:
        """(B, T_m, D) and (B, T_m) of every modality -> private, then shared, (B, 2 M, I)."""
        names = self.config.modalities
        there = has_data(names, masks)  # (B, M)
        u = [self.project[m](masked_mean(sequences[m], masks[m])) for m in names]
        private = [self.private[m](x).sigmoid() for m, x in zip(names, u, strict=True)]
        shared = [self.shared(x).sigmoid() for x in u]
        tokens, present = torch.stack(private + shared, dim=1), there.repeat(1, 2)  # (B, 2 M, I)
        vectors, weights = self.block(tokens, tokens, present, need_weights)
        half = len(names)
        aux = {"private": tokens[:, :half], "shared": tokens[:, half:]}
        aux |= {} if weights is None else {"tokens": weights * present[:, None, :, None]}
        losses = {
            "similarity": similarity(shared, there),
            "difference": difference(private, shared, there),
            "reconstruction": self._reconstruction(u, private, shared, there),
        }
        return Fused(vectors, present, aux=aux, losses=losses)

    def _reconstruction(
        self, u: list[Tensor], private: list[Tensor], shared: list[Tensor], there: Tensor
    ) -> Tensor:
        """Mean squared error of u_m, over utterances that have m; mean over m."""
        terms = []
        for i, m in enumerate(self.config.modalities):
            error = (self.decode[m](private[i] + shared[i]) - u[i]).square().mean(dim=1)  # (B,)
            terms.append(batch_mean(error.unsqueeze(1), there[:, i]))
        return torch.stack(terms).mean()


def similarity(shared: list[Tensor], there: Tensor) -> Tensor:
    """Central moment discrepancy (Zellinger et al. 2017) of M vectors (B, I), mean over pairs."""
    pairs = combinations(range(len(shared)), 2)
    terms = [moment_distance(shared[i], shared[j], there[:, i] & there[:, j]) for i, j in pairs]
    return torch.stack(terms).mean()


def moment_distance(x: Tensor, y: Tensor, keep: Tensor) -> Tensor:
    """Sum over orders of the distance between the moments of x and y (B, I), rows of ``keep``.

    The first order is the mean, the others are central. 0 where no row is kept.
    """
    mean_x, mean_y = batch_mean(x, keep), batch_mean(y, keep)
    total = distance(mean_x, mean_y)
    for order in range(2, MOMENTS + 1):
        moments = [batch_mean((v - c) ** order, keep) for v, c in ((x, mean_x), (y, mean_y))]
        total = total + distance(*moments)
    return total


def distance(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distance (), with a gradient of 0 where x = y."""
    return torch.linalg.vector_norm(x - y)


def difference(private: list[Tensor], shared: list[Tensor], there: Tensor) -> Tensor:
    """Sum of ``overlap`` of private with shared, and of the private ones in pairs."""
    each = range(len(private))
    terms = [overlap(private[i], shared[i], there[:, i]) for i in each]
    terms += [
        overlap(private[i], private[j], there[:, i] & there[:, j]) for i, j in combinations(each, 2)
    ]
    return torch.stack(terms).sum()


def overlap(x: Tensor, y: Tensor, keep: Tensor) -> Tensor:
    """Mean square of X^T Y (I, I), rows centred over the batch and of length one."""
    rows = [unit((v - batch_mean(v, keep)) * keep.unsqueeze(1)) for v in (x, y)]
    return (rows[0].T @ rows[1]).square().mean()


def unit(x: Tensor) -> Tensor:
    """Vectors (..., I) of length one, those near zero shorter: no infinite gradient there."""
    return x / (x.square().sum(dim=-1, keepdim=True) + EPS).sqrt()


def batch_mean(x: Tensor, keep: Tensor) -> Tensor:
    """Mean over the rows of ``keep``: (B, I), (B,) -> (I,); 0 where none is kept."""
    return masked_mean(x.unsqueeze(0), keep.unsqueeze(0)).squeeze(0)
