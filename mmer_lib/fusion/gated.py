"""Cross-attention behind gates: what was read of the others may be turned down, or off.

- sequences[m] (B, T_m, D) with masks[m] (B, T_m) bool, True = data;
- a gate is a number in [0, 1], or a softmax over choices, made from features themselves.

The mechanisms are made so that one setting of their gates gives something simpler back: ``iaca``
becomes self or cross, ``se_cross`` a scaled cross, ``gated`` its primary modality alone.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmer_lib.fusion.attention import CrossFusion, CrossTied, MultiHeadAttention, SelfFusion
from mmer_lib.fusion.base import QUERIES, Fused, Fusion, FusionConfig, Masks, Pair, Sequences
from mmer_lib.pooling import masked_mean

TEMPERATURE = 0.1  # of iaca's gates: they choose rather than mix
REDUCTION = 60  # r of se_cross: how many channels share one hidden unit
ROUNDS = 2  # of gated


class IncongruityAware(Fusion):
    """Incongruity-aware cross-attention, IACA (Praveen & Alam 2024): trust the other, or oneself.

    For a pair (m, n), s = MHA_m(e_m, e_m, e_m) and c = MHA_mn(e_m, e_n, e_n). Stage 1, at every
    frame: w = softmax((W_mn c + b_mn) / 0.1), x = w_1 s + w_2 c, v_mn = mean_t x. Stage 2, in the
    spirit of the paper: a = softmax over the pairs of u . v_mn / 0.1, and v_mn <- n a_mn v_mn with
    n the number of present vectors, so that equal scores change nothing. With stage 1 forced to
    cross and u = 0 this is ``cross``; forced to self, it gives the vectors of ``self``, each M - 1
    times. M * M attentions + M (M - 1) 2 (D + 1) + D parameters.

    Missing modalities: where n is missing, v_mn is that of self (the gate has no choice) and stays
    present; it is absent where m is missing. ``residual`` adds the query behind stage 1.

    ``gates``: "cross" (B, n) is the mean of w_2 over real frames, "vectors" (B, n) is a, pairs in
    the order of ``cross``. ``aux["audio_video"]`` (B, Tq) is w_2 at every frame.

    Deviation: no ReLU behind stage 1. Stage 2 has no bias, which its softmax would cancel.
    """

    least: ClassVar[int] = 2
    queries: ClassVar[tuple[str, ...]] = QUERIES
    residuals: ClassVar[tuple[bool, ...]] = (False, True)
    resizable: ClassVar[bool] = True
    cross_kind: ClassVar[type[CrossFusion]] = CrossFusion

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        self.own = SelfFusion(config)
        self.cross = self.cross_kind(config)
        self.pairs = self.cross.pairs
        self.n_vectors = len(self.pairs)
        self.frame_gates = nn.ModuleDict(
            {"_".join(p): nn.Linear(config.width, 2) for p in self.pairs}
        )
        self.vector_gate = nn.Linear(config.width, 1, bias=False)

    def forward(
        self,
        sequences: Sequences,
        masks: Masks,
        need_weights: bool = False,
        asking: tuple[Sequences, Masks] | None = None,
    ) -> Fused:
        """(B, T_m, D) and (B, T_m) of every modality -> ``Fused`` with a vector for each pair."""
        asks, ask_masks = asking or (sequences, masks)
        outputs, weights = self._attend(sequences, masks, need_weights, asks, ask_masks)
        vectors, present, means, frames = [], [], [], {}
        for q, s in self.pairs:
            there = torch.stack([masks[q].any(dim=1), masks[s].any(dim=1)], dim=1)  # (B, 2)
            w = _choose(self.frame_gates[f"{q}_{s}"](outputs[q, s]), there.unsqueeze(1))
            x = w[..., :1] * outputs[q, q] + w[..., 1:] * outputs[q, s]  # (B, Tq, D)
            if self.config.residual:
                x = x + asks[q]
            vectors.append(masked_mean(x, ask_masks[q]))  # (B, D)
            means.append(masked_mean(w[..., 1:], ask_masks[q]))  # (B, 1)
            present.append(ask_masks[q].any(dim=1) & there.any(dim=1))  # (B,)
            frames[f"{q}_{s}"] = w[..., 1] * ask_masks[q]  # (B, Tq)
        whole = torch.stack(present, dim=1)  # (B, n)
        scaled, chosen = self._weigh(torch.stack(vectors, dim=1), whole)
        gates = {"cross": torch.cat(means, dim=1), "vectors": chosen}
        return Fused(scaled, whole, weights, gates, aux=frames)

    def _attend(
        self,
        sequences: Sequences,
        masks: Masks,
        need_weights: bool,
        asks: Sequences,
        ask_masks: Masks,
    ) -> tuple[dict[Pair, Tensor], dict[Pair, Tensor]]:
        """Outputs (B, Tq, D) and maps (B, H, Tq, Ts) of every pair, a modality with itself too."""
        outputs, weights = {}, {}
        for part in (self.own, self.cross):
            for (q, s), owner in zip(part.pairs, part.owners, strict=True):
                attend = part.attentions[owner]
                outputs[q, s], w = attend(asks[q], sequences[s], masks[s], need_weights)
                if w is not None:
                    weights[q, s] = w * ask_masks[q][:, None, :, None]
        return outputs, weights

    def _weigh(self, vectors: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Stage 2: (B, n, D), (B, n) -> the same vectors scaled, and a (B, n)."""
        chosen = _choose(self.vector_gate(vectors).squeeze(2), present) * present  # (B, n)
        scale = present.sum(dim=1, keepdim=True) * chosen
        return vectors * scale.unsqueeze(2), chosen


def _choose(scores: Tensor, there: Tensor) -> Tensor:
    """softmax(scores / 0.1) over the last dimension, among those that are there (all, if none)."""
    allowed = there | ~there.any(dim=-1, keepdim=True)
    return (scores / TEMPERATURE).masked_fill(~allowed, -math.inf).softmax(dim=-1)


class IncongruityAwareTied(IncongruityAware):
    """``iaca`` in which both directions of a pair share one cross-attention.

    M + M (M - 1) / 2 attentions, the gates as before: for three modalities near ``cross`` in size.
    """

    cross_kind: ClassVar[type[CrossFusion]] = CrossTied


class SqueezedCross(CrossFusion):
    """``cross`` with squeeze-and-excitation, in the spirit of Liu, James & Nathwani (2023).

    Of a pair's attended features o (B, Tq, D): s = sigmoid(W_2 relu(W_1 mean_t o)), v = mean_t o s,
    a gate a channel, with h = D / r hidden units, r = 60, one at least. Then a gate a pair of the
    same make, from each vector's mean over channels: n -> k = n / 2 -> n. All parameters of the
    gates at zero: exactly 0.25 x ``cross``.

    n attentions + n ((D + 1) h + (h + 1) D) + (n + 1) k + (k + 1) n parameters, n = M (M - 1).
    A vector is present as in ``cross``; an absent one enters the gate over pairs as 0. ``residual``
    adds the query before the gates, which then scale it, too.
    ``gates``: "channels" (B, n, D), "pairs" (B, n).

    Deviation: the ReLU is leaky (slope 0.01), as one of two hidden units that is never active would
    take half of its gate's parameters with it.
    """

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        hidden = max(1, round(config.width / REDUCTION))
        self.channel_gates = nn.ModuleDict(
            {"_".join(pair): _excitation(config.width, hidden) for pair in self.pairs}
        )
        self.pair_gate = _excitation(self.n_vectors, max(1, self.n_vectors // 2))

    def forward(
        self,
        sequences: Sequences,
        masks: Masks,
        need_weights: bool = False,
        asking: tuple[Sequences, Masks] | None = None,
    ) -> Fused:
        """(B, T_m, D) and (B, T_m) of every modality -> ``Fused`` with a vector for each pair."""
        fused = super().forward(sequences, masks, need_weights, asking)
        each = zip(self.channel_gates.values(), fused.vectors.unbind(dim=1), strict=True)
        channels = torch.stack([gate(vector) for gate, vector in each], dim=1)  # (B, n, D)
        vectors = channels * fused.vectors  # a gate is the same at every frame: so before the mean
        pairs = self.pair_gate(vectors.mean(dim=2) * fused.present)  # (B, n)
        gates = {"channels": channels, "pairs": pairs}
        return replace(fused, vectors=vectors * pairs.unsqueeze(2), gates=gates)


def _excitation(size: int, hidden: int) -> nn.Sequential:
    """Gates (B, size) from what was squeezed (B, size)."""
    return nn.Sequential(
        nn.Linear(size, hidden), nn.LeakyReLU(), nn.Linear(hidden, size), nn.Sigmoid()
    )


class GatedBlock(nn.Module):
    """H = MHA(P, X, X), G = sigmoid(P W + b), S = (H W_a + b_a) * G, P <- LN(P + S).

    One attention + 2 D (D + 1) + 2 D parameters.
    """

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        width, uniform = config.width, config.query == "uniform"
        self.attend = MultiHeadAttention(width, config.heads, config.dropout, config.inner, uniform)
        self.gate = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, p: Tensor, x: Tensor, x_mask: Tensor, reads: Tensor, need_weights: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """P (B, Tq, D), X (B, Ts, D), its mask, who reads it (B,) -> P, G, weights.

        S is 0 where ``reads`` is False: P is normalised and nothing else.
        """
        h, weights = self.attend(p, x, x_mask, need_weights)
        gate = self.gate(p).sigmoid() * reads[:, None, None]  # (B, Tq, D)
        return self.norm(p + self.value(h) * gate), gate, weights


class GatedCross(Fusion):
    """Gated cross-attention (Zong et al. 2024, equations second-hand): a primary modality reads.

    P starts as the sequence of text, of the first modality where the configuration has no text;
    every other one X in turn changes it: P <- LN(P + S), see :class:`GatedBlock`. All others once
    is a round; ``depth`` rounds, 2 by default, with weights of their own. The one vector is
    mean_t P. Gates at 0: the others have no influence at all on P, not even by their absence.
    depth (M - 1) (4 D (D + 1) + 2 D (D + 1) + 2 D) parameters.

    Missing modalities: an utterance without its primary takes the first of the others that is there
    (order of the configuration) for P. A modality that is missing, or is P, is not read: S = 0.
    The vector is present where any modality is.

    ``gates[source]`` (B, rounds, D) is the mean gate over real frames. ``weights`` are those of the
    primary, (primary, source): the heads of one round after the other; zero where another is P.
    ``query=uniform``: nobody chooses frames, P is still gated and kept. There is no ``shuffled``,
    as P is content here and not only a question.

    Deviation: two rounds (they make it as large as ``cross``).
    """

    least: ClassVar[int] = 2
    queries: ClassVar[tuple[str, ...]] = ("own", "uniform")
    layered: ClassVar[bool] = True
    resizable: ClassVar[bool] = True

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        self.n_vectors = 1
        self.primary = "text" if "text" in config.modalities else config.modalities[0]
        self.sources = tuple(m for m in config.modalities if m != self.primary)
        rounds = range(1, 1 + (config.depth or ROUNDS))
        self.steps = [(m, f"{m}_{k}") for k in rounds for m in self.sources]
        self.blocks = nn.ModuleDict({name: GatedBlock(config) for _, name in self.steps})

    def forward(
        self,
        sequences: Sequences,
        masks: Masks,
        need_weights: bool = False,
        asking: tuple[Sequences, Masks] | None = None,
    ) -> Fused:
        """(B, T_m, D) and (B, T_m) of every modality -> ``Fused`` with one vector."""
        p, mask, is_primary = self._start(sequences, masks)
        gates: dict[str, list[Tensor]] = {m: [] for m in self.sources}
        maps: dict[str, list[Tensor]] = {m: [] for m in self.sources}
        own = masks[self.primary]  # (B, Tp)
        for m, name in self.steps:
            reads = masks[m].any(dim=1) & ~is_primary[m]  # (B,)
            p, gate, w = self.blocks[name](p, sequences[m], masks[m], reads, need_weights)
            gates[m].append(masked_mean(gate, mask))  # (B, D)
            if w is not None:
                maps[m].append(w[:, :, : own.shape[1]] * own[:, None, :, None])
        return Fused(
            masked_mean(p, mask).unsqueeze(1),  # (B, 1, D)
            mask.any(dim=1, keepdim=True),  # (B, 1)
            {(self.primary, m): torch.cat(w, dim=1) for m, w in maps.items() if w},
            {m: torch.stack(gate, dim=1) for m, gate in gates.items()},
        )

    def _start(
        self, sequences: Sequences, masks: Masks
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """P (B, Tq, D), its mask (B, Tq), and of every other modality where it is P (B,)."""
        p, mask, is_primary = sequences[self.primary], masks[self.primary], {}
        for m in self.sources:
            is_primary[m] = ~mask.any(dim=1) & masks[m].any(dim=1)
            if is_primary[m].any():
                steps = max(p.shape[1], masks[m].shape[1])
                take = is_primary[m][:, None]
                mask = torch.where(take, _padded(masks[m], steps), _padded(mask, steps))
                other, p = _padded(sequences[m], steps), _padded(p, steps)
                p = torch.where(take.unsqueeze(2), other, p)
        return p, mask, is_primary


def _padded(x: Tensor, steps: int) -> Tensor:
    """(B, T) or (B, T, D) with T lengthened to ``steps``, by zeros."""
    missing = steps - x.shape[1]
    return F.pad(x, (0, 0, 0, missing) if x.dim() == 3 else (0, missing))
