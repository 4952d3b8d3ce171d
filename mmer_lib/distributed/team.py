"""The side that has the plan: who may work, who is at which run, and what comes back.

Here is also decided what a worker is told: see ``worker`` for what it does with it.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeAlias

from mmer_lib.distributed.worker import (
    Errand,
    Sight,
    forget,
    look_around,
    perform,
    receive,
    unpack,
    versions,
)
from mmer_lib.errors import InputError

if TYPE_CHECKING:
    from distributed import Client, Future

    from mmer_lib.corpora import Corpus
    from mmer_lib.store import ResultStore
    from mmer_lib.sweep import Run

Say = Callable[[str], None]
Execute: TypeAlias = "Callable[[Run, Corpus, ResultStore], str]"

_LOOK = 1.0  # seconds after which it is looked who has come and who is gone
_FETCH = 60.0  # seconds to fetch a result that is there
_SEEN = 60.0  # seconds until a shared folder shows here what was written there
_LIVES = 2  # workers that may die at the same run
_PIECE = 16 * 2**20  # bytes of the corpus that are sent at a time


@dataclass
class _Task:
    """A run, how many workers died at it, and what is held while one is at it."""

    run: Run
    deaths: int = 0
    held: ExitStack = field(default_factory=ExitStack)


class Team:
    """The workers of a cluster, each with the task it is at (None: idle), and the tasks left.

    Workers that see the store claim their runs there. For the others this process does, so that
    several sweeps that write into one store share the runs, whoever sees it.
    """

    def __init__(
        self,
        client: Client,
        scheduler: str,
        execute: Execute,
        errand: Errand,
        store: ResultStore,
        say: Say,
    ) -> None:
        self.client, self.scheduler, self.execute = client, scheduler, execute
        self.errand, self.store, self.say = errand, store, say
        self.workers: dict[str, _Task | None] = {}
        self.refused: set[str] = set()
        self.sending: set[str] = set()  # those that do not see the store
        self.by_others: deque[str] = deque()  # keys of runs that another sweep has finished
        self.left: deque[_Task] = deque()
        self.under_way: dict[str, tuple[str, _Task, Future]] = {}  # by the future's key
        self.answers: SimpleQueue[Future] = SimpleQueue()
        self.next_look = 0.0
        self.begun = self.waiting = False

    def keys(self, runs: Iterable[Run]) -> Iterator[str]:
        """The key of every run as it is finished and in the store."""
        self.left += map(_Task, runs)
        while self.left or self.under_way or self.by_others:
            self.look()
            self.give_out()
            while self.by_others:
                yield self.by_others.popleft()
            with suppress(Empty):
                key = self.collect(self.answers.get(timeout=_LOOK))
                if key is not None:
                    yield key

    def look(self) -> None:
        """Who has come, who is gone?"""
        if monotonic() < self.next_look:
            return
        try:
            present = set(self.client.nthreads())
        except (OSError, ValueError) as error:
            raise self.lost_scheduler() from error
        for address in set(self.workers) - present:
            self.bury(address)
        self.refused &= present
        new = sorted(present - set(self.workers) - self.refused)
        if new:
            self.workers |= dict.fromkeys(self.welcome(new))
        if not self.workers and not self.waiting:
            command = f"dask worker {self.scheduler} --nthreads 1"
            self.say(f"waiting for a worker; `{command}` starts one")
        self.waiting = not self.workers
        self.begun = self.begun or bool(self.workers)
        self.next_look = monotonic() + _LOOK

    def give_out(self) -> None:
        """A run for everybody who is idle."""
        for address, task in self.workers.items():
            if task is None and (chosen := self.choose(address)):
                self.give(address, chosen)

    def choose(self, address: str) -> _Task | None:
        """The next run for a worker; what other sweeps are at is put off."""
        if address not in self.sending:
            return self.left.popleft() if self.left else None
        for _ in range(len(self.left)):
            task = self.left.popleft()
            mine = task.held.enter_context(self.store.claim(task.run.key))
            if mine and task.run.key not in self.store:
                return task
            task.held.close()
            if mine:
                self.by_others.append(task.run.key)
            else:
                self.left.append(task)
        return None

    def give(self, address: str, task: _Task) -> None:
        """Send a task to this worker and no other."""
        self.workers[address] = task
        key = f"mmer-{task.run.key}-{self.errand.word}-{task.deaths}"
        message = pickle.dumps((self.execute, task.run))  # which the scheduler need not understand
        future = self.client.submit(
            perform, self.errand, message, key=key, workers=[address], pure=False
        )
        self.under_way[key] = address, task, future
        future.add_done_callback(self.answers.put)

    def collect(self, future: Future) -> str | None:
        """The key of a run that is finished; None if there is nothing, or it must be done again."""
        from distributed import KilledWorker

        if future.key not in self.under_way:
            return None  # of a worker that is buried
        address, task, _ = self.under_way[future.key]
        try:
            if future.cancelled():
                raise self.lost_scheduler()
            answer = future.result(timeout=_FETCH)
        except (KilledWorker, OSError):  # TimeoutError is one, of a worker that just died
            answer = None
        except Exception as error:
            if not isinstance(error, InputError):
                error.add_note(f"On worker {address}")
            raise
        if answer is None:
            self.bury(address)
            return None
        del self.under_way[future.key]
        self.workers[address] = None
        with task.held:
            if answer.files is None:
                self.wait_until_seen(answer.key, address)
            else:
                self.store.adopt(answer.key, answer.files)
        return answer.key

    def wait_until_seen(self, key: str, address: str) -> None:
        """Until the store shows a run here that a worker wrote; network file systems take time."""
        until = monotonic() + _SEEN
        while key not in self.store:
            if monotonic() > until:
                raise InputError(
                    f"worker {address} wrote run {key} into {self.store.path}, and it does not "
                    f"appear here: run the same command again, or choose a --store that workers "
                    f"do not see"
                )
            sleep(0.05)

    def bury(self, address: str) -> None:
        """Forget a worker that is gone; its run is done again, once."""
        task = self.workers.pop(address)
        self.sending.discard(address)  # another one may come under its address
        if task is None:
            return
        task.held.close()
        for key in [k for k, (_, its, _) in self.under_way.items() if its is task]:
            self.under_way.pop(key)[2].cancel()
        task.deaths += 1
        if task.deaths == _LIVES:
            raise InputError(
                f"{task.run.name}: {_LIVES} workers died at it, the last one {address}. Where "
                f"memory or time is short, give workers more of it. What is finished is kept"
            )
        self.left.appendleft(task)

    def lost_scheduler(self) -> InputError:
        """What to say when the scheduler is gone."""
        return InputError(
            f"the scheduler {self.scheduler} is gone. What is finished is kept: "
            f"start it again, and repeat this"
        )

    def dismiss(self) -> None:
        """Let nothing more begin, and leave no corpus behind."""
        with suppress(OSError, ValueError):
            for _, task, future in self.under_way.values():
                task.held.close()
                future.cancel()
            if self.client.status == "running":
                self.client.run(forget, self.errand.word, on_error="ignore")

    # -- whom to give runs -------------------------------------------------------------------------

    def ask(self, workers: list[str], function: Callable[..., Any], *given: Any) -> dict[str, Any]:
        """What ``function`` gives on each of ``workers``; those that are gone are left out."""
        answers = self.client.run(function, *given, workers=workers, on_error="return")
        for address, answer in answers.items():
            if isinstance(answer, Exception) and not isinstance(answer, (OSError, ImportError)):
                answer.add_note(f"On worker {address}")
                raise answer
        return {a: answer for a, answer in answers.items() if not isinstance(answer, OSError)}

    def welcome(self, new: list[str]) -> list[str]:
        """Those of ``new`` that may work, with all that they need."""
        mine, told = versions(), self.ask(new, versions)
        lines = {a: line for a, its in told.items() if (line := _difference(mine, its))}
        self.refuse(lines, len(told))
        good = [address for address in told if address not in lines]
        sights = self.ask(good, look_around, self.errand) if good else {}
        lacking = [address for address, sight in sights.items() if not sight.corpus]
        if lacking:
            self.send_corpus(lacking)
            sights |= self.ask(lacking, unpack, self.errand)
        self.sending |= {address for address, sight in sights.items() if not sight.store}
        if sights:
            self.say(_describe(list(sights.values())))
        return list(sights)

    def refuse(self, lines: dict[str, str], among: int) -> None:
        """Tell of workers with other versions: before the first run, nothing is begun."""
        if not lines:
            return
        if self.begun:
            for address, line in lines.items():
                self.say(f"not used: worker {address}: {line}")
            self.refused |= set(lines)
            return
        error = InputError(
            f"{len(lines)} of {among} workers have other versions than this machine, so their "
            f"numbers could differ; nothing was run. Install the same there:"
        )
        for address, line in lines.items():
            error.add_note(f"{address}: {line}")
        raise error

    def send_corpus(self, workers: list[str]) -> None:
        """The files of the corpus, a piece at a time to all of ``workers``."""
        self.say(f"sending the corpus to {_count(len(workers), 'worker')}")
        for file in sorted(f for f in self.errand.corpus.iterdir() if f.is_file()):
            with file.open("rb") as stream:
                while True:
                    start, piece = stream.tell(), stream.read(_PIECE)
                    if start and not piece:
                        break
                    self.ask(workers, receive, self.errand.word, file.name, start, piece)
                    if len(piece) < _PIECE:
                        break


def _difference(mine: dict[str, str], its: dict[str, str] | Exception) -> str:
    """``torch 2.12.0, here 2.13.0``, or nothing."""
    if isinstance(its, Exception):
        return f"mmer cannot be imported there ({its})"
    names = [name for name in mine if its.get(name) != mine[name]]
    return "; ".join(f"{name} {its.get(name, 'unknown')}, here {mine[name]}" for name in names)


def _describe(sights: list[Sight]) -> str:
    """``2 workers write into the store, 1 worker sends results here; all see the corpus``."""
    able, sent = sum(sight.store for sight in sights), sum(not sight.corpus for sight in sights)
    kinds = [(able, "write{} into the store"), (len(sights) - able, "send{} results here")]
    parts = [f"{_count(n, 'worker')} {told.format('s' * (n == 1))}" for n, told in kinds if n]
    corpus = f"the corpus was sent to {_count(sent, 'worker')}" if sent else "the corpus is there"
    return f"{', '.join(parts)}; {corpus}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
