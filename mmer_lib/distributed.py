"""The runs of a plan on a Dask cluster: workers on other machines, one run at a time each.

``mmer sweep ... --scheduler tcp://HOST:PORT`` leads here. Every worker process that the scheduler
knows, now or later, is looked at once before it is given a run:

- *versions* of all that decides a number must be those of this process, or it gets no run;
- the *store*: this process leaves a file with a random word in it. A worker that reads that word
  under the same path, and may write there, writes its runs itself; else they are sent back whole
  and written here;
- the *corpus*: a worker that finds the same fingerprint under the same path maps that folder. The
  others are sent its files, once each, a piece at a time for all of them together.

Runs are handed out here, not by the scheduler: each to one worker by name, in the order of the
sweep. So no worker has a second run waiting, or a second one beside it in another thread, and it is
known which run a dead worker had. That one is done again by another worker, once.

The numbers are those of a sweep on this machine: a run takes one thread, whoever runs it.

Security: Dask sends pickled Python. Whoever reaches the scheduler's port can run code as you on
every worker. Keep it in a trusted network, or use ``tls://`` with certificates of your own, which
Dask reads from its configuration (``distributed.comm.tls``).
"""

from __future__ import annotations

import asyncio
import pickle
import platform
import re
import secrets
import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import Lock
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, NamedTuple

import mmer_lib
from mmer_lib.errors import InputError

if TYPE_CHECKING:
    from distributed import Client, Future, Worker

    from mmer_lib.corpora import Corpus
    from mmer_lib.store import ResultStore
    from mmer_lib.sweep import Run

    Execute = Callable[[Run, Corpus, ResultStore], str]

Say = Callable[[str], None]

EXTRA = "pip install 'mmer[distributed]'"
_ADDRESS = re.compile(r"(tcp|tls)://[^/\s]+:\d+")
_REACH = 5.0  # seconds to reach the scheduler
_LOOK = 1.0  # seconds after which it is looked who has come and who is gone
_FETCH = 60.0  # seconds to fetch a result that is there
_SEEN = 60.0  # seconds until a shared folder shows here what was written there
_LIVES = 2  # workers that may die at the same run
_PIECE = 16 * 2**20  # bytes of the corpus that are sent at a time


def on_cluster(
    execute: Execute,
    runs: Iterable[Run],
    corpus: Corpus,
    store: ResultStore,
    scheduler: str,
    say: Say = lambda _: None,
) -> Generator[str, None, None]:
    """``execute(run, corpus, store)`` of every run by the workers of a cluster; yields keys.

    ``execute`` is a function of a module. ``say`` is told in a line who works and how, and whom is
    waited for: where there is no worker, one may still come. What ``execute`` raises is raised
    here. When this ends in any way, no run that waits is begun; one that a worker has begun, it
    finishes. Raises ``InputError`` where the scheduler cannot be reached or is lost, for workers
    with other versions that are there at the start (a note a worker), and for a run at which two
    workers died.
    """
    from mmer_lib.corpora.shared import share

    with closing(connect(scheduler)) as client, share(corpus) as shared, _marked(store) as word:
        errand = Errand(word, store.path.resolve(), shared.folder, shared.fingerprint)
        team = _Team(client, scheduler, execute, errand, store, say)
        try:
            yield from team.keys(runs)
        finally:
            team.dismiss()


def connect(scheduler: str) -> Client:
    """A client of the scheduler at an address such as ``tcp://login1:8786``.

    Raises ``InputError`` without the extra, for what is no address, and where nobody answers.
    """
    if not isinstance(scheduler, str) or not _ADDRESS.fullmatch(scheduler):
        raise InputError(
            f"scheduler={scheduler!r}: tcp://HOST:PORT or tls://HOST:PORT expected, as "
            f"`dask scheduler` prints it"
        )
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError(f"a cluster needs Dask: {EXTRA}, here and on every worker") from error
    try:
        with ThreadPoolExecutor(1) as own:  # as a notebook has an event loop in this thread
            found = own.submit(asyncio.run, _identify(scheduler)).result()
    except (OSError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        certificates = " and the certificates in Dask's configuration, distributed.comm.tls"
        raise InputError(
            f"no Dask scheduler answers at {scheduler}: check the address"
            f"{certificates if scheduler.startswith('tls') else ''} (`dask scheduler` starts one "
            f"and prints it)"
        ) from error
    if "Scheduler" not in found:
        raise InputError(f"{scheduler} is a {found}: give the address of the scheduler")
    return Client(scheduler, timeout=_REACH, name="mmer", set_as_default=False)


async def _identify(scheduler: str) -> str:
    """What answers there. ``Client`` alone would wait for ever for one that says nothing."""
    from distributed import Security, rpc

    given = Security().get_connection_args("client")
    async with asyncio.timeout(_REACH), rpc(scheduler, connection_args=given) as there:
        return str((await there.identity())["type"])


@contextmanager
def _marked(store: ResultStore) -> Iterator[str]:
    """A random word, which can be read in the store's folder by all who see it."""
    word = secrets.token_hex(8)
    mark = store.path / f".seen-{word}"
    mark.write_text(word, encoding="utf-8")
    try:
        yield word
    finally:
        mark.unlink(missing_ok=True)


@dataclass(frozen=True)
class Errand:
    """What all runs of a sweep share; ``word`` names the sweep and marks its store."""

    word: str
    store: Path
    corpus: Path
    fingerprint: str


# -- this side -------------------------------------------------------------------------------------


@dataclass
class _Task:
    """A run, and how many workers died at it."""

    run: Run
    deaths: int = 0


class _Team:
    """The workers of a cluster, each with the task it is at (None: idle), and the tasks left."""

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
        self.left: deque[_Task] = deque()
        self.under_way: dict[str, tuple[str, _Task, Future]] = {}  # by the future's key
        self.answers: SimpleQueue[Future] = SimpleQueue()
        self.next_look = 0.0
        self.begun = self.waiting = False

    def keys(self, runs: Iterable[Run]) -> Iterator[str]:
        """The key of every run as it is finished and in the store."""
        self.left += map(_Task, runs)
        while self.left or self.under_way:
            self.look()
            self.give_out()
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
            if task is None and self.left:
                self.give(address, self.left.popleft())

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
        address = self.under_way[future.key][0]
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
        if task is None:
            return
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
            for _, _, future in self.under_way.values():
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
    """``3 workers: 2 write into the store, 1 sends results here; ...``."""
    kinds = {True: "write into the store", False: "send results here"}
    ordered = sorted((sight.store for sight in sights), reverse=True)
    parts = [f"{len(list(same))} {kinds[kind]}" for kind, same in groupby(ordered)]
    sent = sum(not sight.corpus for sight in sights)
    corpus = f"the corpus was sent to {sent}" if sent else "all see the corpus"
    return f"{_count(len(sights), 'worker')}: {', '.join(parts)}; {corpus}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


# -- a worker's side -------------------------------------------------------------------------------


class Sight(NamedTuple):
    """Whether a worker sees the store and the corpus."""

    store: bool
    corpus: bool


class Answer(NamedTuple):
    """The key of a finished run; its files, where it could not be written into the store."""

    key: str
    files: dict[str, bytes] | None


@dataclass
class _Place:
    """Where a sweep finds things in this process."""

    store: Path | None
    corpus: Path
    scratch: Path


_PLACES: dict[str, _Place] = {}  # by the word of a sweep
_ALONE = Lock()  # two runs in one process would change each other's number of threads


def versions() -> dict[str, str]:
    """What decides a number, and must be the same everywhere."""
    from mmer_lib.store import SEMANTICS

    return {
        "mmer": mmer_lib.__version__,
        "semantics of runs": str(SEMANTICS),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "Python": platform.python_version(),
    }


def look_around(errand: Errand, dask_worker: Worker) -> Sight:
    """What this worker sees of a sweep; it remembers that."""
    sight = Sight(_may_write(errand), _sees_corpus(errand))
    scratch = Path(dask_worker.local_directory)
    _PLACES[errand.word] = _Place(errand.store if sight.store else None, errand.corpus, scratch)
    return sight


def _sees_corpus(errand: Errand) -> bool:
    """Whether the corpus lies here under the same path."""
    from mmer_lib.corpora.shared import SharedCorpus

    try:
        SharedCorpus(errand.corpus, errand.fingerprint).open()
    except (InputError, OSError):
        return False
    return True


def _may_write(errand: Errand) -> bool:
    """Whether the store is the same folder here, and can be written."""
    from mmer_lib.store import ResultStore

    try:
        seen = (errand.store / f".seen-{errand.word}").read_text(encoding="utf-8")
        ResultStore(errand.store, create=False).check_writable()
    except (InputError, OSError):
        return False
    return seen == errand.word


def receive(word: str, name: str, start: int, piece: bytes, dask_worker: Worker) -> None:
    """A piece of a file of the corpus."""
    file = _sent(word, Path(dask_worker.local_directory)) / Path(name).name
    file.parent.mkdir(exist_ok=True)
    with file.open("r+b" if start else "wb") as stream:
        stream.seek(start)
        stream.write(piece)


def _sent(word: str, scratch: Path) -> Path:
    return scratch / f"mmer-{word}"


def unpack(errand: Errand) -> Sight:
    """Open the corpus that was sent, which reads all of it again and compares the hashes."""
    from mmer_lib.corpora.shared import SharedCorpus

    place = _PLACES[errand.word]
    place.corpus = _sent(errand.word, place.scratch)
    SharedCorpus(place.corpus, errand.fingerprint).open()
    return Sight(place.store is not None, False)


def perform(errand: Errand, message: bytes) -> Answer | None:
    """A run; None where this process knows nothing of the sweep, as it was started anew."""
    from mmer_lib.corpora.shared import SharedCorpus
    from mmer_lib.store import ResultStore

    place = _PLACES.get(errand.word)
    if place is None:
        return None
    with _ALONE:
        execute, run = pickle.loads(message)
        corpus = SharedCorpus(place.corpus, errand.fingerprint).open()
        if place.store is not None:
            return Answer(execute(run, corpus, ResultStore(place.store)), None)
        with TemporaryDirectory(prefix="mmer-", dir=place.scratch) as folder:
            own = ResultStore(folder)
            key = execute(run, corpus, own)
            return Answer(key, own.files(key))


def forget(word: str) -> None:
    """The sweep is over: remove what was sent."""
    place = _PLACES.pop(word, None)
    if place is not None:
        shutil.rmtree(_sent(word, place.scratch), ignore_errors=True)
