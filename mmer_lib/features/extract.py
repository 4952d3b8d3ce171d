"""Many clips to tracks, in order: cached, side by side, with progress; unreadable ones reported.

Classical features are computed in worker processes, one clip at a time; networks encode batches in
this process, clips of like length together. Either way tracks come out one after the other, so
that a corpus of any size can be written with little memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from mmer_lib.errors import check_whole
from mmer_lib.features.base import Clip, Extractor, Track, Unreadable
from mmer_lib.features.cache import TrackCache, content_digest
from mmer_lib.workers import in_order

_WINDOW = 64  # clips that a network sees together, to sort them by length
_ROUND = 8  # clips a worker takes at a time


@dataclass(frozen=True)
class Failure:
    """A clip that could not be read, and why."""

    clip: Clip
    reason: str


Outcome = Track | Failure | None  # None: there is no clip


def extract(
    extractor: Extractor,
    clips: Sequence[Clip | None],
    cache: Path | None = None,
    jobs: int = 1,
    strict: bool = False,
) -> Iterator[Outcome]:
    """What becomes of each clip, in order; the work is done as the iterator is read.

    With a ``cache`` folder finished tracks are kept and found again. ``strict`` raises the first
    ``Unreadable`` instead of handing it out as a ``Failure``.
    """
    check_whole("jobs", jobs, at_least=1)
    store = None if cache is None else TrackCache(cache, extractor.recipe(), extractor.width)
    one = _extract_batch if extractor.batched else _extract_each
    rounds = _cut(clips, _WINDOW if extractor.batched else _ROUND)
    alone = jobs == 1 or extractor.batched
    work = partial(one, extractor, store)
    for outcomes in map(work, rounds) if alone else _beside(work, rounds, extractor, jobs):
        for outcome in outcomes:
            if strict and isinstance(outcome, Failure):
                raise Unreadable(outcome.reason)
            yield outcome


def _cut(clips: Sequence[Clip | None], size: int) -> Iterator[list[Clip | None]]:
    """Rounds of at most ``size`` clips."""
    left = iter(clips)
    while some := list(islice(left, size)):
        yield some


def _beside(
    work: Callable[[list[Clip | None]], list[Outcome]],
    rounds: Iterator[list[Clip | None]],
    extractor: Extractor,
    jobs: int,
) -> Iterator[list[Outcome]]:
    """Rounds of clips through ``work``, in order, in worker processes."""

    def name(some: list[Clip | None]) -> str:
        return f"the clips from {next((clip.where() for clip in some if clip), 'none')} on"

    return in_order(work, rounds, jobs, (__name__, type(extractor).__module__), name)


def _extract_each(
    extractor: Extractor, store: TrackCache | None, clips: list[Clip | None]
) -> list[Outcome]:
    """One clip after the other."""
    outcomes: list[Outcome] = []
    for clip in clips:
        outcomes += _extract_batch(extractor, store, [clip])
    return outcomes


def _extract_batch(
    extractor: Extractor, store: TrackCache | None, clips: list[Clip | None]
) -> list[Outcome]:
    """Cached tracks as they are; what is missing is read, and encoded together."""
    outcomes: list[Outcome] = [None] * len(clips)
    keys: dict[int, str] = {}
    media: dict[int, Any] = {}
    for i, clip in enumerate(clips):
        if clip is None:
            continue
        try:
            keys[i] = content_digest(clip)
            outcomes[i] = None if store is None else store.get(keys[i])
            if outcomes[i] is None:
                media[i] = extractor.read(clip)
        except Unreadable as error:
            outcomes[i] = Failure(clip, str(error))
    tracks = extractor.encode(list(media.values())) if media else []
    for i, track in zip(media, tracks, strict=True):
        outcomes[i] = track
        if store is not None:
            store.put(keys[i], track)
    return outcomes
