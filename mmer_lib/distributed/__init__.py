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
import re
import secrets
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from mmer_lib.claims import beside, writing
from mmer_lib.distributed.team import Execute, Say, Team
from mmer_lib.distributed.worker import Errand
from mmer_lib.errors import InputError

if TYPE_CHECKING:
    from distributed import Client

    from mmer_lib.corpora import Corpus
    from mmer_lib.store import ResultStore
    from mmer_lib.sweep import Run

EXTRA = "pip install 'mmer[distributed]'"
_ADDRESS = re.compile(r"(tcp|tls)://[^/\s]+:\d+")
_REACH = 5.0  # seconds to reach the scheduler

__all__ = ["EXTRA", "connect", "on_cluster"]


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
        team = Team(client, scheduler, execute, errand, store, say)
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
    with ExitStack() as stack:
        with writing(store.path):
            mark = stack.enter_context(beside(store.path / f"seen-{word}"))
            mark.write_text(word, encoding="utf-8")
        yield word
