"""What extractors made of pretrained networks share: options, loading, layers and batches.

B items of T steps, D wide; ``layer`` is "last", a number (0 is what enters the first layer) or
"mean", the mean of what all layers give. Networks run in float32 and only forwards.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmer_lib.errors import InputError, check_whole
from mmer_lib.features.base import Extractor
from mmer_lib.features.checkpoints import Checkpoint, find_checkpoint, load_model

if TYPE_CHECKING:
    from torch import Tensor

_DEVICE = re.compile(r"cpu|cuda(:\d+)?")


@dataclass(frozen=True, kw_only=True)
class Network(Extractor):
    """What the extractors of all modalities share. Nothing is loaded before it is needed."""

    batched: ClassVar[bool] = True
    source: str  # a folder, or a name on the hub
    layer: str = "last"  # "last", "mean" or a number
    device: str = "cpu"  # "cpu", "cuda" or "cuda:N"
    batch: int = 16  # items that the network sees together

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", str(self.layer))
        if not re.fullmatch(r"last|mean|\d{1,4}", self.layer):
            raise InputError(f"layer={self.layer!r}: last, mean or a number from 0 on expected")
        if not _DEVICE.fullmatch(self.device):
            raise InputError(f"device={self.device!r}: cpu, cuda or cuda:N expected")
        check_whole("batch", self.batch, at_least=1)
        if self.longest is not None:
            check_whole("longest", self.longest, at_least=1)

    @property
    def checkpoint(self) -> Checkpoint:
        """Where the network lies. Raises ``InputError`` if there is none, or not of this kind."""
        found = find_checkpoint(self.source)
        self.check_kind(found)
        layers = getattr(found.config, "num_hidden_layers", None)
        if self.layer.isdigit() and layers is not None and int(self.layer) > layers:
            raise InputError(f"layer={self.layer}: the {found.kind} network has layers 0..{layers}")
        return found

    def check_kind(self, checkpoint: Checkpoint) -> None:
        """Raise ``InputError`` if the network is not for this modality."""

    @property
    def width(self) -> int:
        """F, the width of the network's layers."""
        return int(self.checkpoint.config.hidden_size)

    @property
    def rate(self) -> float | None:
        """Frames a second; None for words."""
        return None

    def recipe(self) -> dict[str, Any]:
        """Everything that decides the numbers: hashes of weights, never a path or a device."""
        found = self.checkpoint
        return {
            "name": f"pretrained {self.modality}",
            "model": found.kind,
            "content": found.digest,
            "layer": self.layer,
            "longest": self.longest,
        }

    def of_layers(self) -> str:
        """The layer as ``describe`` tells it."""
        named = {"last": "the last layer", "mean": "the mean of all layers"}
        return f"{named.get(self.layer, 'layer ' + self.layer)} of {self.checkpoint.kind}"

    def states(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        """What the chosen layers give; several for the mean."""
        import torch

        model = load_model(self.checkpoint, self.device)
        inputs = {name: tensor.to(self.device) for name, tensor in inputs.items()}
        try:
            with torch.inference_mode(), _exact(self.device), _quiet_masks():
                outputs = model(**inputs, output_hidden_states=self.layer != "last")
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"batch={self.batch}: {self.device} has too little memory; give a smaller batch"
            ) from error
        if self.layer == "last":
            return [outputs.last_hidden_state]
        states = list(outputs.hidden_states)
        if self.layer == "mean":
            return states[1:]
        if int(self.layer) >= len(states):
            raise InputError(f"layer={self.layer}: the network has layers 0..{len(states) - 1}")
        return [states[int(self.layer)]]

    def sequences(self, inputs: dict[str, Tensor]) -> np.ndarray:
        """(B, T, D) float32: the chosen layer, or the mean."""
        import torch

        return torch.stack(self.states(inputs)).mean(dim=0).cpu().numpy()


def _exact(device: str) -> AbstractContextManager[None]:
    """Convolutions in full float32 on a GPU, so that numbers hardly depend on the device."""
    import torch

    if device == "cpu":
        return nullcontext()
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )


@contextmanager
def _quiet_masks() -> Iterator[None]:
    """WavLM hands torch a mask of bool beside one of numbers, which is right and warned of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask", UserWarning)
        yield


def groups(lengths: Sequence[int], most: int, mixed: bool) -> Iterator[list[int]]:
    """Indices of items of like length, at most ``most`` together; of equal length if not mixed."""
    group: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        differs = bool(group) and lengths[i] != lengths[group[0]]
        if len(group) == most or (differs and not mixed):
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def padded(items: Sequence[np.ndarray], filler: float) -> tuple[Tensor, Tensor]:
    """(B, T) with ``filler`` after the end, and its mask (B, T), 1 = data."""
    import torch

    shape = len(items), max(map(len, items))
    values, mask = np.full(shape, filler, items[0].dtype), np.zeros(shape, np.int64)
    for row, item in enumerate(items):
        values[row, : len(item)], mask[row, : len(item)] = item, 1
    return torch.from_numpy(values), torch.from_numpy(mask)
