"""Fusions made of transformer blocks: MulT, bottlenecks, EMT, and a hierarchy with a primary.

- sequences[m] (B, T_m, D) are projected to an inner width I: x_m (B, T_m, I);
- out come the vectors (B, n, D'), each a masked mean over time.

The original sizes do not fit one protocol: widths, layers and heads are chosen so that the four
have about as many parameters as the paper's cross-attention (348,480 for three modalities at
D = 120). All leave time order to the encoders and add no positions. ``query=uniform`` takes queries
and keys out of every attention. The residual is part of a block and no switch; as it carries on
what asks, a shuffled partner has a place in MulT alone, where it replaces the target.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from mmer_lib.fusion.base import QUERIES, Fused, Fusion, FusionConfig, Masks, Pair, Sequences
from mmer_lib.fusion.blocks import Block, Stack, has_data, inner_sizes, projections, shown
from mmer_lib.pooling import masked_mean


class BlockFusion(Fusion):
    """Projections to the inner width, and blocks of that width."""

    queries: ClassVar[tuple[str, ...]] = ("own", "uniform")
    resizable: ClassVar[bool] = True
    published: ClassVar[int]  # inner width at D = 120
    layers: ClassVar[int] = 1  # where depth is 0

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        self.inner, self.heads = inner_sizes(config, self.published)
        self.depth = config.depth or self.layers
        self.project = projections(config, self.inner)

    def block(self, expansion: int = 1, times: int = 1) -> Block:
        """A block of the inner width, or of ``times`` it."""
        uniform = self.config.query == "uniform"
        return Block(times * self.inner, self.heads, self.config.dropout, expansion, uniform)

    def for_each(self, expansion: int = 1) -> nn.ModuleDict:
        """A block for every modality in every layer, ``audio_0`` and so on."""
        names = [f"{m}_{layer}" for m in self.config.modalities for layer in range(self.depth)]
        return nn.ModuleDict({name: self.block(expansion) for name in names})

    def projected(self, sequences: Sequences) -> dict[str, Tensor]:
        """x_m (B, T_m, I)"""
        return {m: self.project[m](sequences[m]) for m in self.config.modalities}

    @property
    def vector_width(self) -> int:
        """I, unless the fusion says otherwise."""
        return self.inner


class MulT(BlockFusion):
    """Multimodal transformer (Tsai et al. 2019, section 3, and its code).

    For every ordered pair z_mn starts as x_m and reads the other modality, ``depth`` times:
    z_mn <- Block_mn(z_mn; x_n), with the low-level x_n as keys every time. Per target, self blocks
    on the concatenation: y_m = Block_m([z_mn]_n). Then v = [mm(y_m)]_m, v <- v + W_2 relu(W_1 v),
    and v is cut into M vectors of width (M - 1) I. Feed-forward layers are as wide as their input.

    Parameters, with W = (M - 1) I and V = M W: M I (D + 1) + 2 V (V + 1)
    + depth (M (M - 1) (6 I (I + 1) + 4 I) + M (6 W (W + 1) + 4 W)); 370,260 at D = 120, I = 44.

    A vector needs its target alone; a source that is missing adds nothing. With ``query=shuffled``
    z_mn starts as the partner's x_m, and a vector needs a source of its own utterance, too.
    ``weights`` are those of the last layer: of (m, n) the cross block, of (m, m) the self block.

    Deviation: the masked mean over time; the original takes the last step, which may be padding.
    Deviation: one layer of every block, feed-forward layers that are not four times as wide, no
    positions nor factor sqrt(I) on x_m, no normalisation behind the last layer, no dropout but on
    attention; the projections have biases.
    """

    queries: ClassVar[tuple[str, ...]] = QUERIES
    least: ClassVar[int] = 2
    layered: ClassVar[bool] = True
    published: ClassVar[int] = 44

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        names, others = config.modalities, len(config.modalities) - 1
        self.n_vectors = len(names)
        pairs = [f"{m}_{n}" for m in names for n in names if m != n]
        self.cross = nn.ModuleDict({pair: self.stack() for pair in pairs})
        self.own = nn.ModuleDict({m: self.stack(others) for m in names})
        wide = len(names) * others * self.inner  # V
        self.mix = nn.Sequential(nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, wide))

    def stack(self, times: int = 1) -> Stack:
        """``depth`` blocks, ``times`` as wide as the inner width."""
        return Stack([self.block(times=times) for _ in range(self.depth)])

    @property
    def vector_width(self) -> int:
        """(M - 1) I"""
        return (len(self.config.modalities) - 1) * self.inner

    def forward(
        self,
        sequences: Sequences,
        masks: Masks,
        need_weights: bool = False,
        asking: tuple[Sequences, Masks] | None = None,
    ) -> Fused:
        """(B, T_m, D) and (B, T_m) of every modality -> a vector (B, (M - 1) I) for each."""
        asks, ask_masks = asking or (sequences, masks)
        starts, sources = self.projected(asks), self.projected(sequences)
        maps: dict[Pair, Tensor | None] = {}
        means = []
        for m, start in starts.items():
            crossed = []
            for n in (n for n in sources if n != m):
                z, maps[m, n] = self.cross[f"{m}_{n}"](start, sources[n], masks[n], need_weights)
                crossed.append(z)
            y = torch.cat(crossed, dim=-1)  # (B, T_m, W)
            y, maps[m, m] = self.own[m](y, None, ask_masks[m], need_weights)
            means.append(masked_mean(y, ask_masks[m]))
        present = has_data(self.config.modalities, ask_masks)  # (B, M)
        if asking is not None:
            present = present & self._has_source(masks)
        v = torch.stack(means, dim=1) * present.unsqueeze(-1)  # (B, M, W)
        v = v + self.mix(v.flatten(1)).view_as(v)
        return Fused(v, present, shown(maps, ask_masks))

    def _has_source(self, masks: Masks) -> Tensor:
        """Is one of the others there, for each target? (B, M)"""
        there = has_data(self.config.modalities, masks).long()
        return there.sum(dim=1, keepdim=True) > there


class BottleneckTransformer(BlockFusion):
    """Bottleneck transformer (Nagrani et al. 2021, eq. 8 and 9, and its code).

    Modalities meet in four learned tokens z alone, in each of ``depth`` layers (2):
    [x_m; z_m] <- Block_m([x_m; z]) for every m, then z <- mean_m z_m over modalities that are
    there. Of the last layer mm(LN x_m) is kept: M vectors of width I. What one modality says
    reaches another after two layers, not after one.

    Parameters: M I (D + 1) + 4 I + 2 I + depth M (6 I (I + 1) + 4 I); 372,960 at D = 120, I = 96.
    A vector needs its own modality alone. ``aux["bottleneck_m"]`` (B,) is the attention mass of
    m's frames on the tokens, in the last layer.

    Deviation: the masked mean over time in place of class tokens; feed-forward layers as wide as
    their input, with ReLU; the encoders stand for the layers before fusion; no positions.
    """

    layered: ClassVar[bool] = True
    published: ClassVar[int] = 96
    layers: ClassVar[int] = 2
    tokens: ClassVar[int] = 4

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        self.n_vectors = len(config.modalities)
        self.bottleneck = nn.Parameter(0.02 * torch.randn(self.tokens, self.inner))
        self.blocks = self.for_each()
        self.norm = nn.LayerNorm(self.inner)

    def forward(
        self,
        sequences: Sequences,
        masks: Masks,
        need_weights: bool = False,
        asking: tuple[Sequences, Masks] | None = None,
    ) -> Fused:
        """(B, T_m, D) and (B, T_m) of every modality -> a vector (B, I) for each."""
        names = self.config.modalities
        x, present = self.projected(sequences), has_data(names, masks)
        z = self.bottleneck.expand(len(present), -1, -1)  # (B, 4, I)
        aux: dict[str, Tensor] = {}
        for layer in range(self.depth):
            tokens = []
            for m in names:
                block = self.blocks[f"{m}_{layer}"]
                x[m], own, mass = self._exchange(block, x[m], z, masks[m], need_weights)
                tokens.append(own.flatten(1))
                aux |= {} if mass is None else {f"bottleneck_{m}": mass}
            z = masked_mean(torch.stack(tokens, dim=1), present).view_as(z)
        vectors = [masked_mean(self.norm(x[m]), masks[m]) for m in names]
        return Fused(torch.stack(vectors, dim=1), present, aux=aux)

    def _exchange(
        self, block: nn.Module, x: Tensor, z: Tensor, mask: Tensor, need_weights: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """One modality with the tokens: x (B, T, I), z (B, 4, I), mass on the tokens (B,)."""
        steps = x.shape[1]
        both = torch.cat([x, z], dim=1)  # (B, T + 4, I)
        allowed = torch.cat([mask, mask.new_ones(z.shape[:2])], dim=1)
        out, weights = block(both, both, allowed, need_weights)
        mass = None
        if weights is not None:
            onto = weights[:, :, :steps, steps:].sum(dim=-1).mean(dim=1)  # (B, T)
            mass = masked_mean(onto.unsqueeze(-1), mask).squeeze(-1)
        return out[:, :steps], out[:, steps:], mass


class EfficientTransformer(BlockFusion):
    """Efficient multimodal transformer (Sun et al. 2022, section 3.3, and its code).

    Context G (M rows) starts as the means mm(x_m), a row for each modality. In each of ``depth``
    layers (2), for every m at once: x_m' = Block(x_m; G), and G_m = Block(Block(G; x_m)) reads x_m,
    then itself. G <- sum_m a_m G_m with a = softmax over m of u^T tanh(W G_m + b), G_m flattened.
    The 2 M vectors are the rows of G and mm(x_m'): without the latter, the last layer's x_m' would
    change nothing. No frame asks another frame, so that cost is linear in T.

    Parameters, with V = M I: M I (D + 1) + V (V + 2) + depth M (16 I (I + 1) + 10 I); 358,680 at
    D = 120, I = 56. The row of G and the mean of a modality need that modality alone.
    ``gates["context"]`` (B, M) is a of the last layer, ``aux["context_m"]`` (B, H, M, T_m) where
    the rows of G look in m.

    Deviation: the original's frames also ask each other, which is quadratic in T; its
    feed-forward layers are gated and wider; its pooling over modalities is one a layer, and has a
    bias that softmax takes out; no positions.
    """

    least: ClassVar[int] = 2
    layered: ClassVar[bool] = True
    published: ClassVar[int] = 56
    layers: ClassVar[int] = 2

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        self.n_vectors = 2 * len(config.modalities)
        self.to_frames = self.for_each()
        self.to_context = self.for_each(expansion=0)
        self.within = self.for_each()
        wide = len(config.modalities) * self.inner  # V
        self.score = nn.Sequential(nn.Linear(wide, wide), nn.Tanh(), nn.Linear(wide, 1, bias=False))

    def forward(
        self,
        sequences: Sequences,
        masks: Masks,
        need_weights: bool = False,
        asking: tuple[Sequences, Masks] | None = None,
    ) -> Fused:
        """(B, T_m, D) and (B, T_m) of every modality -> rows of G, then means, (B, 2 M, I)."""
        names = self.config.modalities
        x, there = self.projected(sequences), has_data(names, masks)
        context = torch.stack([masked_mean(x[m], masks[m]) for m in names], dim=1)  # (B, M, I)
        aux: dict[str, Tensor] = {}
        for layer in range(self.depth):
            candidates = []
            for m in names:
                name, old = f"{m}_{layer}", x[m]
                x[m], _ = self.to_frames[name](old, context, there)
                read, w = self.to_context[name](context, old, masks[m], need_weights)
                candidates.append(self.within[name](read, read, there)[0])
                aux |= {} if w is None else {f"context_{m}": w}
            context, share = self._pool(torch.stack(candidates, dim=1), there)
        means = [masked_mean(x[m], masks[m]) for m in names]
        vectors = torch.cat([context, torch.stack(means, dim=1)], dim=1)  # (B, 2 M, I)
        return Fused(vectors, there.repeat(1, 2), gates={"context": share}, aux=aux)

    def _pool(self, candidates: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """A context for each modality (B, M, M, I) -> one (B, M, I), and their shares (B, M)."""
        allowed = there | ~there.any(dim=1, keepdim=True)  # softmax of nothing: NaN
        scores = self.score(candidates.flatten(2)).squeeze(-1)  # (B, M)
        share = scores.masked_fill(~allowed, -torch.inf).softmax(dim=1)
        return (share[:, :, None, None] * candidates).sum(dim=1), share


class HierarchicalTransformer(BlockFusion):
    """A primary modality reads auxiliary ones, in the spirit of HCT-DMG (Wang et al. 2023).

    s = M softmax(g) scales the modalities, x_m <- s_m x_m, with one learned number g_m for each:
    equal numbers scale by 1. The modality of the largest is the primary p, the others are
    auxiliary, in falling order a_1, a_2 (of equals the first named is first, as at the start). Then
    (1) x_m <- Block_m(x_m); (2) the auxiliaries ask each other, h_i = Block_i(x_{a_i}; x_{a_j});
    (3) the primary asks them in turn, u <- Block_i'(u; h_i) from u = x_p; (4) u <- Block(u). The M
    vectors are mm(u), mm(h_1), mm(h_2). Blocks of (2) to (4) belong to the roles, not to
    modalities, so that all are trained whoever is primary. Two auxiliaries: four readings across
    modalities, where all pairs would be six.

    Parameters, of the M + (M - 1) [M > 2] + (M - 1) + 1 blocks with feed-forward layers four times
    as wide: M I (D + 1) + M + blocks (12 I^2 + 13 I); 373,623 at D = 120, I = 60.

    A vector needs the modality of its own role; who is primary is one choice for all utterances,
    and one without the primary keeps h_1 and h_2. ``gates["scale"]`` (B, M) is s.
    ``weights``: (m, m) of (1), pairs of (2) and (3).

    Deviation: only a description was at hand: that there is a learned gate, a primary and a
    hierarchy; the order and kind of blocks is ours.
    """

    least: ClassVar[int] = 2
    published: ClassVar[int] = 60

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        names = config.modalities
        self.n_vectors = len(names)
        self.gate = nn.Parameter(torch.zeros(len(names)))
        self.own = nn.ModuleDict({m: self.block(4) for m in names})
        auxiliary = len(names) - 1
        self.across = nn.ModuleList(self.block(4) for _ in range(auxiliary if auxiliary > 1 else 0))
        self.primary = nn.ModuleList(self.block(4) for _ in range(auxiliary))
        self.last = self.block(4)

    def ranked(self) -> list[str]:
        """The modalities, primary first."""
        logits = dict(zip(self.config.modalities, self.gate.tolist(), strict=True))
        return sorted(logits, key=lambda m: -logits[m])

    def forward(
        self,
        sequences: Sequences,
        masks: Masks,
        need_weights: bool = False,
        asking: tuple[Sequences, Masks] | None = None,
    ) -> Fused:
        """(B, T_m, D) and (B, T_m) of every modality -> a vector (B, I) for each role."""
        names = self.config.modalities
        scale = len(names) * self.gate.softmax(dim=0)  # (M,)
        x = self.projected(sequences)
        maps: dict[Pair, Tensor | None] = {}
        for m, s in zip(names, scale, strict=True):
            scaled = s * x[m]
            x[m], maps[m, m] = self.own[m](scaled, scaled, masks[m], need_weights)
        first, *others = self.ranked()
        h = self._among(others, x, masks, need_weights, maps)
        u = x[first]
        for block, a in zip(self.primary, others, strict=True):
            u, maps[first, a] = block(u, h[a], masks[a], need_weights)
        h[first] = self.last(u, u, masks[first])[0]
        vectors = [masked_mean(h[m], masks[m]) for m in (first, *others)]
        present = has_data((first, *others), masks)
        gates = {"scale": scale.expand(len(u), -1)}
        return Fused(torch.stack(vectors, dim=1), present, shown(maps, masks), gates)

    def _among(
        self,
        others: list[str],
        x: dict[str, Tensor],
        masks: Masks,
        need_weights: bool,
        maps: dict[Pair, Tensor | None],
    ) -> dict[str, Tensor]:
        """h of the auxiliaries, (B, T_a, I) each: every one has read the next of them."""
        h = {a: x[a] for a in others}
        turned = [*others[1:], *others[:1]]
        for block, a, b in zip(self.across, others, turned, strict=False):
            h[a], maps[a, b] = block(x[a], x[b], masks[b], need_weights)
        return h
