"""Pooling under masks: over time, and over the vectors of the modalities.

- x (B, T, D) sequences with mask (B, T) bool, True = data;
- vectors (B, n, D) with present (B, n) bool, False = the vector's modality is missing.

Statistical pooling after Rajan et al. (2022): mean and standard deviation (n - 1)
across the modality vectors, concatenated.
"""

from __future__ import annotations

import torch
from torch import Tensor

POOLINGS = ("sp", "concat", "mean")
EPS = 1e-6  # under the root: sqrt has an infinite gradient at 0, where all vectors are equal


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over real steps: (B, T, D), (B, T) -> (B, D).

    A sequence without a real step gets zeros: its caller must mark the vector as not present.
    """
    weight = mask.unsqueeze(-1).to(x.dtype)  # (B, T, 1)
    return (x * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)  # (B, D)


def statistical_pool(
    vectors: Tensor, present: Tensor, eps: float = EPS, std_first: bool = False
) -> Tensor:
    """Mean and standard deviation (n - 1) across present vectors: (B, n, D), (B, n) -> (B, 2D).

    The deviation of a single vector is undefined; it is sqrt(eps) here, and so is that of none,
    whose mean is 0. ``std_first`` gives [std ; mean], the order of the released code.
    """
    weight = present.unsqueeze(-1).to(vectors.dtype)  # (B, n, 1)
    count = weight.sum(dim=1)  # (B, 1)
    mean = (vectors * weight).sum(dim=1) / count.clamp(min=1)  # (B, D)
    centred = (vectors - mean.unsqueeze(1)) * weight  # (B, n, D)
    variance = centred.square().sum(dim=1) / (count - 1).clamp(min=1) + eps  # (B, D)
    tiny = torch.finfo(variance.dtype).tiny  # with eps = 0: no infinite gradient where it is 0
    std = variance.clamp(min=tiny).sqrt()  # (B, D)
    return torch.cat([std, mean] if std_first else [mean, std], dim=-1)  # (B, 2D)


def concatenate(vectors: Tensor, present: Tensor) -> Tensor:
    """Vectors one after the other, zeros where not present: (B, n, D), (B, n) -> (B, n * D)."""
    return (vectors * present.unsqueeze(-1).to(vectors.dtype)).flatten(start_dim=1)


def mean_pool(vectors: Tensor, present: Tensor) -> Tensor:
    """Mean of the present vectors: (B, n, D), (B, n) -> (B, D)."""
    return masked_mean(vectors, present)
