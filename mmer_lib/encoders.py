"""From the features of one modality to a sequence of width D.

A front end, then a bidirectional GRU (D / 2 a direction), after Rajan et al. (2022):

- ``"none"``: the features go straight into the GRU (the published text encoder);
- ``"project"``: a linear map F -> D of every frame (ours: keeps time, keeps masks);
- ``"convolve"``: a convolution over three neighbouring frames, F -> D;
- ``"mix"``: the released code's convolution of kernel 1 whose channels are the TIME positions.
  Every output step is a learned mix of all input steps, so that time, padding masks and
  time-aligned attention maps lose their meaning behind it; the input length is fixed.

x (B, T, F) with mask (B, T) bool, True = data -> (B, T', D) with mask (B, T').
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmer_lib.errors import InputError, unknown
from mmer_lib.recurrence import has_loop, packed_gru

FRONTS = ("none", "project", "convolve", "mix")


@dataclass(frozen=True)
class EncoderConfig:
    """One modality's encoder; ``mix`` = (T in, T out) of the time-mixing convolution."""

    features: int  # F
    width: int = 120  # D
    front: str = "project"
    mix: tuple[int, int] = (0, 0)
    input_dropout: float = 0.0  # on the features while training
    gru_dropout: float = 0.0  # on the GRU's output while training


class SequenceEncoder(nn.Module):
    """Front end + bidirectional GRU that never reads padding (unless all of it is called data)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        if config.front not in FRONTS:
            raise unknown("encoder front", config.front, FRONTS)
        if config.width % 2:
            raise InputError(f"width={config.width} must be even: half for each direction of a GRU")
        self.config = config
        self.input_dropout = nn.Dropout(config.input_dropout)
        self.front, features = _build_front(config)
        self.gru = nn.GRU(features, config.width // 2, batch_first=True, bidirectional=True)
        self.gru_dropout = nn.Dropout(config.gru_dropout)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, F), (B, T) -> (B, T', D), (B, T'); padding steps come out as zeros."""
        x = self.input_dropout(x)
        if self.config.front == "mix":
            x = self.front(x)  # (B, T_out, F): the channels of this convolution are time steps
            mask = mask.any(dim=1, keepdim=True).expand(x.shape[:2])  # all of it, or missing
        elif self.config.front == "convolve":
            x = (x * mask.unsqueeze(-1)).transpose(1, 2)  # (B, F, T), zeros beyond the ends
            x = self.front(x).transpose(1, 2)  # (B, T, D)
        else:
            return self.gru_dropout(run_gru(self.gru, x, mask, self.front)), mask
        return self.gru_dropout(run_gru(self.gru, x, mask)), mask


def run_gru(gru: nn.GRU, x: Tensor, mask: Tensor, front: nn.Module | None = None) -> Tensor:
    """A bidirectional GRU over real steps only: (B, T, F), (B, T) -> (B, T, D), zeros on padding.

    Padding follows what is real, as in batches, and the backward direction starts at the last real
    step. A sequence without a real step gives zeros. ``front`` maps single frames before that.

    On a CPU the steps are those of ``mmer_lib.recurrence``, which differ from torch's module by
    rounding. Under autocast a GRU stays in the precision of its parameters: the loop for a CPU has
    no other, and a GPU's steps of this width take ten times as long in half of it.
    """
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        with torch.autocast(device, enabled=False):
            return run_gru(gru, x.to(gru.all_weights[0][0].dtype), mask, front)
    if has_loop(x):
        return _run_compiled(gru, x, mask, front)
    x = x if front is None else front(x)
    if bool(mask.all()):
        out: Tensor = gru(x)[0]
        return out
    real = mask.sum(dim=1)
    lengths = real.clamp(min=1).cpu()
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
    out, _ = nn.utils.rnn.pad_packed_sequence(gru(packed)[0], True, total_length=x.shape[1])
    return out * mask.unsqueeze(-1)  # (B, T, D)


def _run_compiled(gru: nn.GRU, x: Tensor, mask: Tensor, front: nn.Module | None) -> Tensor:
    """``run_gru`` by the loop for a CPU, which is given real frames alone."""
    lengths, frames = mask.sum(dim=1), x.flatten(0, 1)  # (B,), (B * T, F)
    if bool(mask.all()):
        out = packed_gru(gru, frames if front is None else front(frames), lengths)
        return out.view(*x.shape[:2], -1)
    real = mask.flatten().nonzero().squeeze(1)  # (N,)
    data = frames.index_select(0, real)
    out = packed_gru(gru, data if front is None else front(data), lengths)  # (N, D)
    padded = out.new_zeros(len(frames), out.shape[1]).index_copy(0, real, out)
    return padded.view(*x.shape[:2], -1)


def _build_front(config: EncoderConfig) -> tuple[nn.Module, int]:
    """The front end and the number of features behind it."""
    if config.front == "project":
        return nn.Linear(config.features, config.width), config.width
    if config.front == "convolve":
        return nn.Conv1d(config.features, config.width, kernel_size=3, padding=1), config.width
    if config.front == "mix":
        return nn.Conv1d(*config.mix, kernel_size=1), config.features
    return nn.Identity(), config.features
