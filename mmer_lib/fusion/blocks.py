"""What the transformer fusions share: a pre-norm block, and sizes inside a fusion.

- z (B, Tq, I) the sequence that asks and is carried on, source (B, Ts, I) the sequence that is
  read, mask (B, Ts) bool, True = data; I is the fusion's inner width;
- a sequence carries its own content along (the residual of every block), so that, unlike in the
  paper's fusions, what asks also passes.

Pre-norm as in Xiong et al. (2020). Time order is left to the encoders: no positions are added.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmer_lib.fusion.attention import MultiHeadAttention
from mmer_lib.fusion.base import FusionConfig, Masks, Pair

PAPER_WIDTH = 120  # D at which the widths inside the fusions are given


class Block(nn.Module):
    """z <- z + MHA(LN z, LN source); z <- z + W_2 relu(W_1 LN z), with W_1 (fI, I).

    One normalisation serves query and source, as in MulT's code. With ``expansion`` f there are
    4 I (I + 1) + 4 I + 2 f I^2 + (f + 1) I numbers, of which 2 I (I + 1) less if ``uniform``; with
    f = 0 the second step is left out: 4 I (I + 1) + 2 I.
    """

    def __init__(
        self, width: int, heads: int, dropout: float, expansion: int = 1, uniform: bool = False
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads, dropout, uniform=uniform)
        self.feed = feed_forward(width, expansion) if expansion else None

    def forward(
        self, z: Tensor, source: Tensor, source_mask: Tensor, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """(B, Tq, I), (B, Ts, I), (B, Ts) -> z (B, Tq, I), weights (B, H, Tq, Ts) or None.

        A source without a real step adds nothing: z goes on by its residual.
        """
        query = self.norm(z)
        read = query if source is z else self.norm(source)
        out, weights = self.attention(query, read, source_mask, need_weights)
        z = z + out * source_mask.any(dim=1)[:, None, None]
        return (z if self.feed is None else z + self.feed(z)), weights


class Stack(nn.Module):
    """Blocks one behind the other, which all read the same source, or each its own input."""

    def __init__(self, blocks: list[Block]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(
        self, z: Tensor, source: Tensor | None, source_mask: Tensor, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """As a block; ``source`` None: z reads itself. The weights are those of the last block."""
        weights = None
        for block in self.blocks:
            z, weights = block(z, z if source is None else source, source_mask, need_weights)
        return z, weights


def feed_forward(width: int, expansion: int) -> nn.Sequential:
    """LN, then two linear layers with a ReLU between, ``expansion`` times as wide inside."""
    wide = expansion * width
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, wide), nn.ReLU(), nn.Linear(wide, width)
    )


def inner_sizes(config: FusionConfig, published: int) -> tuple[int, int]:
    """Width inside a fusion, and its heads.

    ``config.inner`` with ``config.heads``, which must divide it. Where ``inner`` is 0: the
    ``published`` width in proportion to D / 120, with as many heads, up to ``config.heads``, as
    divide it: of 6 heads, 4 at a width of 44.
    """
    if config.inner:
        return config.inner, config.heads
    inner = max(2, round(published * config.width / PAPER_WIDTH))
    return inner, next(h for h in range(config.heads, 0, -1) if inner % h == 0)


def projections(config: FusionConfig, inner: int) -> nn.ModuleDict:
    """A linear layer D -> I for every modality: M I (D + 1) numbers."""
    return nn.ModuleDict({m: nn.Linear(config.width, inner) for m in config.modalities})


def has_data(modalities: tuple[str, ...], masks: Masks) -> Tensor:
    """Which modalities are there: (B, M) bool."""
    return torch.stack([masks[m].any(dim=1) for m in modalities], dim=1)


def shown(maps: Mapping[Pair, Tensor | None], masks: Masks) -> dict[Pair, Tensor]:
    """The maps (B, H, Tq, Ts) that were asked for, zero where the query is padding."""
    return {
        (query, source): w * masks[query][:, None, :, None]
        for (query, source), w in maps.items()
        if w is not None
    }
