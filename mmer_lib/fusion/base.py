"""What every fusion is: encoded sequences of the modalities in, n vectors an utterance out.

- sequences[m] (B, T_m, D) with masks[m] (B, T_m) bool, True = data; a modality without a real step
  is missing; padding may hold any finite number;
- vectors (B, n, D') with present (B, n) bool: False where a vector has nothing to say, because a
  modality that it needs is missing.

Three switches are orthogonal to the fusion, where it has the part that they change: ``residual``
adds the query to what attention gives, so that content of the asking modality passes too;
``query`` says who asks (``own``: as defined; ``shuffled``: another utterance asks, so that nothing
of this utterance but the source is seen; ``uniform``: nobody, all frames weigh the same); how the
vectors are pooled is said by the model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

Pair = tuple[str, str]  # (query, source)
Sequences = Mapping[str, Tensor]  # modality -> (B, T_m, D)
Masks = Mapping[str, Tensor]  # modality -> (B, T_m) bool
QUERIES = ("own", "shuffled", "uniform")


@dataclass(frozen=True)
class FusionConfig:
    """Sizes and switches of a fusion; the defaults are the paper's."""

    modalities: tuple[str, ...]
    width: int = 120  # D
    heads: int = 6
    dropout: float = 0.0  # on attention weights
    inner: int = 0  # width inside the fusion; 0: the fusion's own
    depth: int = 0  # layers; 0: the fusion's own
    residual: bool = False
    query: str = "own"  # one of QUERIES
    classes: int = 7  # read by fusions that classify before they fuse
    hidden: int = 60


@dataclass(frozen=True)
class Fused:
    """What a fusion gives: n vectors an utterance, and what it looked at if asked.

    ``weights`` maps (query, source) to (B, H, Tq, Ts), zero on padding. ``gates`` and ``aux`` are
    what a fusion wants to show, (B, ...) each. ``losses`` are scalars that training may add.
    ``logits`` (B, C) stand in for the classifier where a fusion has one of its own.
    """

    vectors: Tensor  # (B, n, D')
    present: Tensor  # (B, n) bool
    weights: dict[Pair, Tensor] = field(default_factory=dict)
    gates: dict[str, Tensor] = field(default_factory=dict)
    aux: dict[str, Tensor] = field(default_factory=dict)
    losses: dict[str, Tensor] = field(default_factory=dict)
    logits: Tensor | None = None


class Fusion(nn.Module, ABC):
    """A fusion of the modalities of ``config``. Subclasses set ``n_vectors`` before they end."""

    least: ClassVar[int] = 1  # modalities it needs
    queries: ClassVar[tuple[str, ...]] = ("own",)  # which of QUERIES it knows
    residuals: ClassVar[tuple[bool, ...]] = (False,)
    layered: ClassVar[bool] = False  # does ``depth`` mean anything?
    resizable: ClassVar[bool] = False  # does ``inner`` mean anything?
    classifies: ClassVar[bool] = False  # gives logits of its own: no classifier follows

    n_vectors: int

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def vector_width(self) -> int:
        """D', the width of each vector."""
        return self.config.width

    @abstractmethod
    def forward(
        self,
        sequences: Sequences,
        masks: Masks,
        need_weights: bool = False,
        asking: tuple[Sequences, Masks] | None = None,
    ) -> Fused:
        """Vectors of a batch. ``asking``: the sequences that ask in place of the own ones."""
