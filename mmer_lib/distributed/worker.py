"""What a worker of the cluster does: tell its versions, look around, receive a corpus, run.

The scheduler's process reads the names of these functions, so that importing this module imports
nothing heavy. A run comes pickled, and is unpickled by its worker alone.
"""

from __future__ import annotations

import pickle
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import mmer_lib
from mmer_lib.errors import InputError

if TYPE_CHECKING:
    from distributed import Worker


@dataclass(frozen=True)
class Errand:
    """What all runs of a sweep share; ``word`` names the sweep and marks its store."""

    word: str
    store: Path
    corpus: Path
    fingerprint: str


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
    try:
        file.parent.mkdir(exist_ok=True)
        with file.open("r+b" if start else "wb") as stream:
            stream.seek(start)
            stream.write(piece)
    except OSError as error:
        raise InputError(
            f"a worker cannot keep the corpus in {file.parent}: {error.strerror}. Start it with "
            f"another --local-directory, or put the corpus where all workers see it"
        ) from error


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
