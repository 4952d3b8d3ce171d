"""From corpus rows to padded tensors: train-only scaling, masks, batches.

A ``Batch`` holds for each modality ``sequences`` (B, T, F) and ``masks`` (B, T) bool, True = data.
T is the longest sequence of the batch, or the fixed length asked for by ``pad_to`` (longer
sequences are cut, as the released features are).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mmer_lib.corpora.base import Corpus, Ragged
from mmer_lib.errors import InputError

# (modality, row of the corpus, frames (T, F)) -> frames (T', F); T' = 0: the modality is missing.
Change = Callable[[str, int, np.ndarray], np.ndarray]


TOGETHER = 1 << 18  # numbers that a scaler looks at together: 2 MB of float64


@dataclass(frozen=True)
class Batch:
    """Padded sequences with their masks, labels (B,) int64 and corpus rows (B,) int64."""

    sequences: dict[str, Tensor]
    masks: dict[str, Tensor]
    labels: Tensor
    rows: Tensor
    partner: Batch | None = None  # other utterances, which ask in place of these

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on ``device``."""
        return Batch(
            {m: x.to(device) for m, x in self.sequences.items()},
            {m: x.to(device) for m, x in self.masks.items()},
            self.labels.to(device),
            self.rows.to(device),
            None if self.partner is None else self.partner.to(device),
        )


@dataclass(frozen=True)
class Scaler:
    """Mean and standard deviation of every feature, (F,) float32 a modality.

    A modality that is in neither is left as it is.
    """

    mean: dict[str, np.ndarray]
    std: dict[str, np.ndarray]

    @classmethod
    def fit(cls, corpus: Corpus, rows: np.ndarray, modalities: tuple[str, ...]) -> Scaler:
        """Statistics over the real frames of ``rows`` - the training part, nothing else.

        A constant feature keeps its scale. Raises ``InputError`` if a frame is not finite.
        """
        corpus.require(modalities)
        mean, std = {}, {}
        for modality in modalities:
            mean[modality], std[modality] = _moments(corpus.features[modality], rows)
            if not np.isfinite(mean[modality]).all():
                feature = int(np.flatnonzero(~np.isfinite(mean[modality]))[0])
                raise InputError(
                    f"corpus {corpus.name!r}, {modality}: feature {feature} is NaN or infinite in "
                    f"the training part. Mend or drop these frames"
                )
        return cls(mean, std)

    def apply(self, modality: str, frames: np.ndarray) -> np.ndarray:
        """(…, F) -> (…, F) with mean 0 and deviation 1 over the training part."""
        scaled: np.ndarray = (frames - self.mean[modality]) / self.std[modality]
        return scaled


def _moments(ragged: Ragged, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of every feature over the frames of ``rows``, an utterance at a time."""
    n = 0
    mean = np.zeros(ragged.width)
    squares = np.zeros(ragged.width)
    for length, own, around in _moments_of_each(ragged, rows):
        shift = own - mean  # Chan, Golub & LeVeque (1983): stable, and memory stays small
        squares += around + shift**2 * n * length / (n + length)
        mean += shift * length / (n + length)
        n += length
    std = np.sqrt(squares / max(n, 1))
    std[std < 1e-8] = 1.0
    return mean.astype(np.float32), std.astype(np.float32)


def _moments_of_each(
    ragged: Ragged, rows: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Of each utterance that has frames: how many, their mean (F,), squares around it (F,).

    Utterances of one length are worked on together, some MB at a time: many are short.
    """
    rows = rows[ragged.lengths[rows] > 0]
    taken = np.cumsum(ragged.lengths[rows]) * ragged.width // TOGETHER
    for some in np.split(rows, np.flatnonzero(np.diff(taken)) + 1):
        lengths = ragged.lengths[some]
        mean, around = np.empty((2, len(some), ragged.width))
        for length in np.unique(lengths):
            alike = np.flatnonzero(lengths == length)
            frames = ragged.offsets[some[alike], None] + np.arange(length)
            x = ragged.values[frames].astype(np.float64)  # (n, T, F)
            mean[alike] = x.mean(axis=1)
            around[alike] = ((x - mean[alike, None]) ** 2).sum(axis=1)
        yield from zip(lengths.tolist(), mean, around, strict=True)


@dataclass(frozen=True)
class Part:
    """Rows of a corpus as a model reads them: which modalities, how scaled, how padded.

    ``change`` gives other frames in place of an utterance's own, before they are scaled and padded;
    where another utterance asks, its frames are changed likewise. It cannot write into what it is
    given.
    """

    corpus: Corpus
    rows: np.ndarray  # (n,) int64
    modalities: tuple[str, ...]
    scaler: Scaler | None = None
    pad_to: Mapping[str, int] | None = None  # modality -> fixed length; others: longest of batch
    dtype: torch.dtype = torch.float32
    partners: np.ndarray | None = None  # (rows of the corpus,): who asks for each, see `pair_up`
    change: Change | None = None

    def __post_init__(self) -> None:
        self.corpus.require(self.modalities)
        if not len(self.rows):
            raise InputError(f"a part of corpus {self.corpus.name!r} has no utterance")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def longest(self) -> int:
        """Frames of the longest sequence of any modality, at least 1; a change is not counted."""
        frames = [int(self.corpus.features[m].lengths[self.rows].max()) for m in self.modalities]
        padded = [(self.pad_to or {}).get(m, 1) for m in self.modalities]
        return max(1, *frames, *padded)

    def batches(
        self, size: int, rng: np.random.Generator | None = None, pool: int = 1
    ) -> Iterator[Batch]:
        """All rows once, ``size`` at a time: in random order with ``rng``, else as they stand.

        ``pool`` batches at a time are drawn together, sorted by length before they are cut, and all
        batches shuffled: so each holds utterances of similar length, and little of it is padding.
        What is computed for an utterance does not change, only who is in a batch with whom: those
        of its own length out of ``pool * size`` drawn at random, others in every epoch.
        """
        order = self.rows if rng is None else rng.permutation(self.rows)
        if rng is not None and pool > 1:
            cut = self._cut_by_length(order, size, pool)
            cut = [cut[i] for i in rng.permutation(len(cut))]
        else:
            cut = _cut(order, size)
        return (self.collate(rows) for rows in cut)

    def _cut_by_length(self, order: np.ndarray, size: int, pool: int) -> list[np.ndarray]:
        """Batches of ``order``, sorted within every ``pool * size`` of it."""
        frames = np.sum([self.corpus.features[m].lengths for m in self.modalities], axis=0)
        pools = [rows[np.argsort(frames[rows], kind="stable")] for rows in _cut(order, pool * size)]
        return [rows for one in pools for rows in _cut(one, size)]

    def with_change(self, change: Change) -> Part:
        """The same part with ``change`` on top of what is changed already."""
        first = self.change
        if first is None:
            return replace(self, change=change)
        return replace(self, change=lambda m, row, x: change(m, row, first(m, row, x)))

    def collate(self, rows: np.ndarray) -> Batch:
        """The utterances ``rows`` (row numbers of the corpus) as one batch."""
        partner = None
        if self.partners is not None:
            partner = replace(self, partners=None).collate(self.partners[rows])
        sequences, masks = {}, {}
        for modality in self.modalities:
            sequences[modality], masks[modality] = self._pad(modality, rows)
        labels = torch.from_numpy(self.corpus.labels[rows])
        at = torch.from_numpy(np.asarray(rows, np.int64))
        return Batch(sequences, masks, labels, at, partner)

    def _pad(self, modality: str, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """(B, T, F) and (B, T): frames gathered in one go, then the padding frame outside."""
        ragged = self.corpus.features[modality]
        if self.change is not None:
            ragged = self._changed(self.change, modality, rows)
            rows = np.arange(len(rows))
        lengths = ragged.lengths[rows]
        longest = (self.pad_to or {}).get(modality, max(1, int(lengths.max())))
        steps = np.arange(longest)
        mask = steps < lengths[:, None]  # (B, T)
        at = ragged.offsets[rows][:, None] + steps
        x = np.zeros((len(rows), longest, ragged.width), np.float32)  # (B, T, F)
        x[mask] = ragged.values[at[mask]]
        if self.scaler is not None and modality in self.scaler.mean:
            x[mask] = self.scaler.apply(modality, x[mask])
        padding = self.corpus.recipe.get(modality, {}).get("padding")
        if padding is not None:
            x[~mask] = np.asarray(padding, np.float32)
        return torch.from_numpy(x).to(self.dtype), torch.from_numpy(mask)

    def _changed(self, change: Change, modality: str, rows: np.ndarray) -> Ragged:
        """The frames of ``rows`` after the change, one after the other."""
        ragged = self.corpus.features[modality]
        sequences = []
        for row in map(int, rows):
            own = ragged[row].view()
            own.flags.writeable = False
            frames = np.asarray(change(modality, row, own))
            if frames.ndim != 2 or frames.shape[1] != ragged.width:
                raise InputError(
                    f"a change of {modality} made frames of shape {frames.shape} of row {row}: "
                    f"(frames, {ragged.width}) expected"
                )
            sequences.append(frames)
        return Ragged.from_list(sequences, ragged.width)


def _cut(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def pair_up(corpus: Corpus, rows: np.ndarray, seed: int, alike: tuple[str, ...] = ()) -> np.ndarray:
    """For each of ``rows`` another of them, at random, each taken once: (rows of the corpus,).

    ``alike``: modalities of which both must have the same ones; a row that finds no partner then
    gets itself. What it says of other rows means nothing. Raises ``InputError`` for fewer than two
    rows.
    """
    if len(rows) < 2:
        raise InputError(f"corpus {corpus.name!r}: {len(rows)} utterance has no other to pair with")
    rng = np.random.default_rng(seed)
    partners = np.arange(len(corpus))
    kind = np.zeros(len(rows), np.int64)
    for modality in alike:
        kind = 2 * kind + (corpus.features[modality].lengths[rows] > 0)
    for one in np.unique(kind):
        order = rng.permutation(rows[kind == one])
        partners[order] = np.roll(order, 1)
    return partners
