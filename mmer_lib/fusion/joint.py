"""ONE attention over the frames of all modalities; only a mask says who may read whom.

- the frames [audio; video; text] (B, T_a + T_v + T_t, D) share the same queries, keys and values,
  and a learned vector of D numbers, added to each frame, says of which modality it is;
- the mask is one of blocks: ``joint_self`` reads the own modality, ``joint_cross`` the others,
  ``joint`` all of them. Nothing else differs, neither parameters nor their start: the fairest form
  of the question whether cross-attention is preferable to self-attention.

A layer, for a frame t of modality m that may read the modalities R(m), n_r real frames each:

    score(t, s) = q_t . k_s / sqrt(I / H) - log n_r(s),  softmax over all real s of all r in R(m).

Without the -log n a modality of many frames wins by their number: with it, where q . k is equal
everywhere, every modality that may be read gets the same mass whatever its length.

Concatenated sequences with modality embeddings: Sun et al. (2019, VideoBERT) among others; no work
is followed in particular. Tied and masked this way it is an instrument of this study.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmer_lib.errors import InputError
from mmer_lib.fusion.attention import MultiHeadAttention, only_real
from mmer_lib.fusion.base import QUERIES, Fused, Fusion, FusionConfig, Masks, Pair, Sequences
from mmer_lib.pooling import masked_mean

START = 0.02  # deviation of the embeddings at the start: small beside encoded frames


class JointLayer(nn.Module):
    """Attention whose keys come from several modalities: 4 D (D + 1) + M D parameters.

    ``reads[m]`` names the modalities R(m). As all frames of m read the same keys, those that they
    may not read are left out rather than masked: the same numbers for less work.
    """

    def __init__(self, config: FusionConfig, reads: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__()
        self.reads = dict(reads)
        sizes = (config.width, config.heads, config.dropout, config.inner)
        self.attention = MultiHeadAttention(*sizes, config.query == "uniform")
        self.embedding = nn.ParameterDict(
            {m: nn.Parameter(START * torch.randn(config.width)) for m in reads}
        )

    def forward(
        self, asks: Sequences, sequences: Sequences, masks: Masks, need_weights: bool = False
    ) -> tuple[dict[str, Tensor], dict[Pair, Tensor]]:
        """What every asking frame reads, (B, Tq_m, D) a modality, and (B, H, Tq_m, Ts) a block.

        Where nothing can be read, the weights are zero and the output is the projection's bias.
        """
        parts = {
            m: self.attention.project(asks[m] + tag, sequences[m] + tag)
            for m, tag in self.embedding.items()
        }  # queries, keys, values of a modality, (B, H, T_m, I/H)
        outputs: dict[str, Tensor] = {}
        blocks: dict[Pair, Tensor] = {}
        for m, sources in self.reads.items():
            keys = torch.cat([parts[s][1] for s in sources], dim=2)  # (B, H, Ts, I/H)
            values = torch.cat([parts[s][2] for s in sources], dim=2)
            real = torch.cat([masks[s] for s in sources], dim=1)  # (B, Ts)
            bias = count_bias([masks[s] for s in sources], keys.dtype)
            q = parts[m][0]
            outputs[m], weights = self.attention.mix(q, keys, values, bias, real, need_weights)
            if weights is not None:
                split = weights.split([masks[s].shape[1] for s in sources], dim=3)
                blocks.update({(m, s): w for s, w in zip(sources, split, strict=True)})
        return outputs, blocks


def count_bias(masks: list[Tensor], dtype: torch.dtype) -> Tensor:
    """What is added to the scores: -log(real frames of the key's modality), -inf on padding.

    (B, T_s) each -> (B, sum of T_s); all zero where there is no real frame at all, because
    softmax over nothing is NaN.
    """
    counts = [mask.sum(dim=1, keepdim=True).clamp(min=1).to(dtype) for mask in masks]  # (B, 1)
    bias = torch.cat([(-n.log()).expand(k.shape) for n, k in zip(counts, masks, strict=True)], 1)
    return only_real(bias, torch.cat(masks, dim=1))  # (B, Ts)


class JointFusion(Fusion):
    """Every frame reads the frames of all modalities; the mean over m's time is vector m.

    Parameters: depth (4 D (D + 1) + M D), with ``inner`` I depth (3 I (D + 1) + D (I + 1) + M D):
    58,440 a layer for three modalities. ``depth`` (default 1) layers have an attention and
    embeddings each. Between two layers the frames that asked are added, x <- x + layer(x); what the
    last one gives stands alone as in the paper's models, unless ``residual`` is on. There is no
    normalisation and no feed-forward part.

    ``weights`` holds the last layer's blocks (query, source); a row sums to one over all sources
    of its query together. ``aux["own_mass"]`` (B,), formed with them, is the part of the rows on
    the own block, mean over heads and real queries; where q . k says nothing it is 1 / (number of
    modalities that are there). Vector m is present where m asks and there is a frame it may read.
    """

    queries: ClassVar[tuple[str, ...]] = QUERIES
    residuals: ClassVar[tuple[bool, ...]] = (False, True)
    layered: ClassVar[bool] = True
    resizable: ClassVar[bool] = True

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        depth = config.depth or 1
        if depth > 1 and config.query == "shuffled":
            raise InputError(
                f"query=shuffled with depth={depth}: a layer reads the frames that asked in the "
                f"one before, so they must be the own ones: use depth=1"
            )
        self.n_vectors = len(config.modalities)
        self.reads = {m: self.choose_sources(m, config.modalities) for m in config.modalities}
        self.layers = nn.ModuleList([JointLayer(config, self.reads) for _ in range(depth)])

    @staticmethod
    def choose_sources(query: str, modalities: tuple[str, ...]) -> tuple[str, ...]:
        """R(query): all"""
        return modalities

    def forward(
        self,
        sequences: Sequences,
        masks: Masks,
        need_weights: bool = False,
        asking: tuple[Sequences, Masks] | None = None,
    ) -> Fused:
        """(B, T_m, D) and (B, T_m) of every modality -> ``Fused`` with a vector for each."""
        x = sequences
        for number, layer in enumerate(self.layers, start=1):
            last = number == len(self.layers)
            asks, ask_masks = asking or (x, masks)
            out, weights = layer(asks, x, masks, need_weights and last)
            keep = self.config.residual or not last
            x = {m: asks[m] + out[m] if keep else out[m] for m in self.reads}
        vectors = [masked_mean(x[m], ask_masks[m]) for m in self.reads]  # (B, D) each
        weights = {(q, s): w * ask_masks[q][:, None, :, None] for (q, s), w in weights.items()}
        aux = {"own_mass": self._own_mass(weights, ask_masks)} if need_weights else {}
        present = self._present(masks, ask_masks)
        return Fused(torch.stack(vectors, dim=1), present, weights, aux=aux)

    def _present(self, masks: Masks, ask_masks: Masks) -> Tensor:
        there = {m: masks[m].any(dim=1) for m in self.reads}  # (B,)
        readable = [torch.stack([there[s] for s in r]).any(dim=0) for r in self.reads.values()]
        asked = [ask_masks[m].any(dim=1) for m in self.reads]
        return torch.stack(asked, dim=1) & torch.stack(readable, dim=1)  # (B, M)

    def _own_mass(self, weights: dict[Pair, Tensor], ask_masks: Masks) -> Tensor:
        rows = torch.stack([ask_masks[m].sum(dim=1) for m in self.reads]).sum(dim=0)  # (B,)
        own = [weights[m, m].sum(dim=(2, 3)).mean(dim=1) for m in self.reads if (m, m) in weights]
        return torch.stack(own or [torch.zeros_like(rows)]).sum(dim=0) / rows.clamp(min=1)


class JointSelf(JointFusion):
    """Every frame reads its own modality only: ONE self-attention that all modalities share."""

    @staticmethod
    def choose_sources(query: str, modalities: tuple[str, ...]) -> tuple[str, ...]:
        """R(query): itself"""
        return (query,)


class JointCross(JointFusion):
    """Every frame reads the other modalities only, all of them in one softmax.

    Deviation from ``cross``: there a pair of modalities has a softmax and a vector of its own;
    here the modalities compete, and there is one vector for each that asks. An utterance with one
    modality has nothing to read, hence no vector.
    """

    least: ClassVar[int] = 2

    @staticmethod
    def choose_sources(query: str, modalities: tuple[str, ...]) -> tuple[str, ...]:
        """R(query): the others"""
        return tuple(m for m in modalities if m != query)
