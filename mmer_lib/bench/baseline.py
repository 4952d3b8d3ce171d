"""The plain way: the same model of torch's own modules, which form every attention weight.

It works as the released code of Rajan et al. (2022) does: float64, ``nn.GRU`` and
``nn.MultiheadAttention(need_weights=True)``, no padding masks. Weights can be shared with ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmer_lib.fusion.attention import AttentionFusion, MultiHeadAttention
from mmer_lib.fusion.base import Fused, Masks, Sequences
from mmer_lib.model import Recognizer, parse_configuration
from mmer_lib.pooling import masked_mean


def plain_name(name: str) -> str:
    """The configuration in the released code's precision: ``self-AVT@released,double=true``."""
    head = name.split(",")[0].split("@")[0]
    return f"{head}@released,double=true"


def build_plain(name: str, like: Recognizer | None = None) -> Recognizer:
    """``name`` at the paper's sizes, of torch's own modules; with the parameters of ``like``."""
    model = Recognizer(parse_configuration(name))
    if like is not None:
        model.load_state_dict(like.state_dict())
    for modality, encoder in model.encoders.items():
        model.encoders[modality] = _PlainEncoder(encoder)
    model.fusion = _PlainAttention(model.fusion)  # type: ignore[arg-type, assignment]
    return model


class _PlainEncoder(nn.Module):
    """The same layers, run by torch; without masks, as the released code has none."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.same = encoder

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, F), (B, T) -> (B, T', D), (B, T')."""
        x = self.same.front(self.same.input_dropout(x))  # type: ignore[operator]
        out = self.same.gru(x)[0]  # type: ignore[operator]
        return self.same.gru_dropout(out), mask.any(1, keepdim=True).expand(out.shape[:2])  # type: ignore[operator]


class _PlainAttention(nn.Module):
    """Every pair by ``nn.MultiheadAttention`` with its weights formed, then the mean over time."""

    def __init__(self, fusion: AttentionFusion) -> None:
        super().__init__()
        self.pairs, self.owners = fusion.pairs, fusion.owners
        self.n_vectors = fusion.n_vectors
        self.attentions = nn.ModuleDict({n: _to_torch(a) for n, a in fusion.attentions.items()})

    def forward(
        self, sequences: Sequences, masks: Masks, need_weights: bool = False, asking: None = None
    ) -> Fused:
        """As ``AttentionFusion``, for whole sequences."""
        vectors = []
        for (query, source), owner in zip(self.pairs, self.owners, strict=True):
            q, s = sequences[query], sequences[source]
            out, _ = self.attentions[owner](q, s, s, need_weights=True)
            vectors.append(masked_mean(out, masks[query]))
        fused = torch.stack(vectors, dim=1)  # (B, n, D)
        return Fused(fused, torch.ones(fused.shape[:2], dtype=torch.bool, device=fused.device))


def _to_torch(ours: nn.Module) -> nn.MultiheadAttention:
    """torch's module with the parameters of ours."""
    assert isinstance(ours, MultiHeadAttention)
    width, kind = ours.out_proj.out_features, ours.in_proj_weight.dtype
    theirs = nn.MultiheadAttention(width, ours.heads, ours.dropout, batch_first=True, dtype=kind)
    theirs.load_state_dict(ours.state_dict())
    return theirs
