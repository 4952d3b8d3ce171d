"""How long many runs take on W workers: the schedule of a sweep, played through in numbers alone.

One run at a time a worker; whoever is free takes the next run in order, as ``sweep`` does. A
worker is ready ``startup`` seconds after it was ordered. It dies at a constant rate (exponential
times between deaths): then its run is lost and is the next to be begun, by somebody else, and a new
worker comes ``startup`` seconds later. A run at which two workers died would end a real sweep,
which the same command takes up again: here it goes on, and is counted.

What is known of such a schedule without failures (Graham 1969): with the longest run p_max and P
seconds in all, it ends within P / W + (1 - 1/W) p_max after start-up, and, where the costly runs
go first, within 4/3 - 1/(3 W) times the best there is.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from mmer_lib.errors import InputError, check_number, check_whole

Floats = npt.NDArray[np.float64]

WORKERS = (1, 2, 4, 8, 16, 32, 64, 125, 250, 500)
_LIVES = 2  # workers that may die at one run before a real sweep ends


@dataclass(frozen=True)
class Conditions:
    """Seconds until a worker is ready; deaths an hour of a worker's life."""

    startup: float = 0.0
    failures: float = 0.0

    def __post_init__(self) -> None:
        for name in ("startup", "failures"):
            check_number(name, getattr(self, name), lambda x: 0 <= x < np.inf, "0 or more")


@dataclass(frozen=True)
class Schedule:
    """What came of it, in seconds."""

    workers: int
    wall: float  # from the order of the workers to the end of the last run
    useful: float  # of finished runs, all workers together
    lost: float  # of runs whose worker died
    deaths: int
    stops: int  # runs at which two workers died

    @property
    def speedup(self) -> float:
        """How many times sooner than the runs one after the other."""
        return self.useful / self.wall

    @property
    def utilisation(self) -> float:
        """Share of the workers' time that went into runs that were finished."""
        return self.speedup / self.workers


def simulate(
    seconds: npt.ArrayLike, workers: int, conditions: Conditions | None = None, seed: int = 0
) -> Schedule:
    """Runs of so many ``seconds`` (n,), in that order, on so many workers.

    ``seed`` draws who dies when. Raises ``InputError`` for no run, or seconds that are negative or
    not finite.
    """
    given = np.asarray(seconds, dtype=np.float64)
    if given.ndim != 1 or not len(given) or not np.all(np.isfinite(given) & (given >= 0)):
        raise InputError(
            "seconds of runs: a list of one or more finite numbers, 0 or more expected"
        )
    check_whole("workers", workers, at_least=1)
    return _play(given.tolist(), workers, conditions or Conditions(), np.random.default_rng(seed))


def _play(
    seconds: list[float], workers: int, conditions: Conditions, rng: np.random.Generator
) -> Schedule:
    """Event after event: a worker is free (no run), has finished its run, or died at it."""
    life = 3600 / conditions.failures if conditions.failures else np.inf
    left, died_at = deque(range(len(seconds))), [0] * len(seconds)
    # (when, worker, its run or -1, whether it died); equal times: the lower number goes first
    events = [(conditions.startup, w, -1, False) for w in range(workers)]
    finished, lost, deaths, wall, idle = 0, 0.0, 0, 0.0, list[int]()
    while finished < len(seconds):
        now, worker, run, died = heapq.heappop(events)
        if died:
            left.appendleft(run)
            died_at[run] += 1
            deaths += 1
            heapq.heappush(events, (now + conditions.startup, worker, -1, False))
        else:
            finished += run >= 0
            wall = now if run >= 0 else wall
            idle.append(worker)
        while idle and left:
            free, run = idle.pop(), left.popleft()
            dies = rng.exponential(life) if life < np.inf else np.inf
            lost += dies if dies < seconds[run] else 0.0
            end = now + min(dies, seconds[run])
            heapq.heappush(events, (end, free, run, dies < seconds[run]))
    stops = sum(n >= _LIVES for n in died_at)
    return Schedule(workers, wall, float(sum(seconds)), lost, deaths, stops)


def scaling(
    seconds: npt.ArrayLike,
    workers: Sequence[int] = WORKERS,
    conditions: Conditions | None = None,
    repeats: int = 1,
) -> pd.DataFrame:
    """A row a number of workers: means over ``repeats`` draws of who dies when.

    Columns: ``workers``, ``seconds`` (wall time), ``speedup``, ``utilisation`` and ``idle`` (shares
    of the workers' time), ``deaths``, ``stops`` (runs at which two died). Idle is all that goes
    into no run: start-up, and waiting for others at the end.
    """
    check_whole("repeats", repeats, at_least=1)
    rows = []
    for n in workers:
        played = [simulate(seconds, n, conditions, seed) for seed in range(repeats)]
        wall = float(np.mean([one.wall for one in played]))
        rows.append(
            {
                "workers": n,
                "seconds": wall,
                "speedup": played[0].useful / wall,
                "utilisation": played[0].useful / wall / n,
                "idle": 1 - float(np.mean([(s.useful + s.lost) / s.wall / n for s in played])),
                "deaths": float(np.mean([one.deaths for one in played])),
                "stops": float(np.mean([one.stops for one in played])),
            }
        )
    return pd.DataFrame(rows)


def draw_epochs(
    n: int, mean: float, patience: int, rng: np.random.Generator, at_most: int = 100
) -> npt.NDArray[np.int64]:
    """Epochs of n runs that stop early: evenly from ``patience`` + 1 to as far above ``mean``.

    A run cannot stop sooner. A mean that is not above that, or would pass ``at_most``, leaves less
    spread, or none.
    """
    check_number("epochs", mean, lambda x: 1 <= x <= at_most, f"1 .. {at_most}")
    spread = max(0, int(min(mean - patience - 1, at_most - mean)))
    whole = round(mean)
    return rng.integers(whole - spread, whole + spread + 1, size=n)
