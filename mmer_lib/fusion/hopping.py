"""Attentive modality hopping: two modalities ask the third, then the next, and so on.

- sequences[m] (B, T_m, D) with masks[m] (B, T_m) -> one vector (B, D) a modality;
- a hop replaces the vector of its target by a weighted mean of the target's frames.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmer_lib.fusion.base import Fused, Fusion, FusionConfig, Masks, Pair, Sequences
from mmer_lib.pooling import masked_mean

HOPS = 12
FIRST_HOPS = ("video", "audio", "text")  # the targets of the released model's first hops


class ModalityHopping(Fusion):
    """Attentive modality hopping, AMH (Yoon et al. 2020), 12 hops; ``depth`` is their number.

    v_m starts as the mean over time. Hop k has the target m = video, audio, text in turn, and
    q = W_k [v_n for n other than m] + b_k; a = softmax_s(q . e_ms); v_m <- sum_s a_s e_ms.
    After one hop, the other two are still at their means. Every hop has weights of its own:
    hops * ((M - 1) D^2 + D) parameters, hops * (D^2 + D) for one modality or two.

    Subsets: of two modalities, each asks the other in turn; one asks itself. A missing modality
    enters the query as zeros, so that b_k alone asks where all others are missing; v_m is present
    where m is, and its frames are read by whoever is left.

    ``weights`` of (n, m) are (B, K, 1, Tm), one row for each of the K hops that read m, as n asks
    as a whole, and zero where n is missing. A pair that no hop uses is not there.

    There is no ``query`` switch: the vectors that ask are those that are kept, and uniform hops
    would leave each at its mean, which is ``mean``.

    Deviation: the paper starts from last hidden states, audio's with prosody beside it. Dropout
    acts on the hop's weights. The start of W_k is that of ``torch.nn.Linear``.
    """

    layered: ClassVar[bool] = True

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        self.n_vectors = len(config.modalities)
        ring = [m for m in FIRST_HOPS if m in config.modalities]
        ring += [m for m in config.modalities if m not in ring]
        self.targets = [ring[k % len(ring)] for k in range(config.depth or HOPS)]
        asking = max(1, len(ring) - 1)
        self.hops = nn.ModuleList(
            [nn.Linear(asking * config.width, config.width) for _ in self.targets]
        )

    def others(self, target: str) -> tuple[str, ...]:
        """Who asks ``target``: all others, itself where there are none."""
        return tuple(m for m in self.config.modalities if m != target) or (target,)

    def forward(
        self,
        sequences: Sequences,
        masks: Masks,
        need_weights: bool = False,
        asking: tuple[Sequences, Masks] | None = None,
    ) -> Fused:
        """(B, T_m, D) and (B, T_m) of every modality -> ``Fused`` with a vector for each."""
        vectors = {m: masked_mean(sequences[m], masks[m]) for m in self.config.modalities}
        weights: dict[Pair, Tensor] = {}
        for target, hop in zip(self.targets, self.hops, strict=True):
            others = self.others(target)
            query = hop(torch.cat([vectors[m] for m in others], dim=1))  # (B, D)
            vectors[target], row = self._read(query, sequences[target], masks[target])
            if need_weights:
                _add_row(weights, target, row, {m: masks[m] for m in others})
        present = [masks[m].any(dim=1) for m in vectors]
        stacked = torch.stack(list(vectors.values()), dim=1)  # (B, M, D)
        return Fused(stacked, torch.stack(present, dim=1), weights)

    def _read(self, query: Tensor, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D), (B, T, D), (B, T) -> weighted mean (B, D) and its weights (B, T).

        Both are zeros where nothing is there.
        """
        allowed = mask | ~mask.any(dim=1, keepdim=True)  # softmax of nothing: NaN
        scores = (source @ query.unsqueeze(2)).squeeze(2)  # (B, T)
        row = scores.masked_fill(~allowed, -math.inf).softmax(dim=1) * mask
        kept = F.dropout(row, self.config.dropout, self.training)
        return (kept.unsqueeze(1) @ source).squeeze(1), row


def _add_row(weights: dict[Pair, Tensor], target: str, row: Tensor, masks: Masks) -> None:
    """Add a hop's row (B, Ts) to the weights of all pairs that it serves."""
    for m, mask in masks.items():
        shown = (row * mask.any(dim=1, keepdim=True))[:, None, None, :]  # (B, 1, 1, Ts)
        before = weights.get((m, target))
        weights[m, target] = shown if before is None else torch.cat([before, shown], dim=1)
