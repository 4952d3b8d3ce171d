"""A corpus for worker processes: they are sent where it lies, and map it; its pages are shared.

Nothing of the features is sent, and a worker opens a corpus once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from mmer_lib.claims import beside, writing
from mmer_lib.corpora.base import Corpus
from mmer_lib.corpora.folder import read_corpus
from mmer_lib.errors import InputError


@dataclass(frozen=True)
class SharedCorpus:
    """Where a corpus lies, and its fingerprint."""

    folder: Path
    fingerprint: str

    def open(self) -> Corpus:
        """The corpus, opened once a process.

        Raises ``InputError`` if the folder holds another one than when it was shared.
        """
        return _open(self.folder, self.fingerprint)


@contextmanager
def share(corpus: Corpus, place: Path | None = None) -> Iterator[SharedCorpus]:
    """``corpus`` in its folder, which is written for the time being if it has none.

    Then it is hidden in ``place``, where ``claims.tidy`` finds it if this process is killed, or
    among the temporary files of the system.
    """
    if corpus.path is not None:
        yield SharedCorpus(corpus.path.resolve(), corpus.fingerprint)
        return
    with _hidden_in(place) if place else TemporaryDirectory(prefix="mmer-") as parent:
        folder = corpus.save(Path(parent) / "corpus")
        yield SharedCorpus(folder.resolve(), corpus.fingerprint)


@contextmanager
def _hidden_in(place: Path) -> Iterator[Path]:
    """A new folder that is nobody else's."""
    with ExitStack() as stack:
        with writing(place):
            hidden = stack.enter_context(beside(place / f"corpus-{uuid4().hex}"))
            hidden.mkdir()
        yield hidden


@lru_cache(maxsize=1)
def _open(folder: Path, fingerprint: str) -> Corpus:
    corpus = read_corpus(folder)
    if corpus.fingerprint != fingerprint:
        raise InputError(
            f"{folder} holds corpus {corpus.fingerprint}, not {fingerprint} as planned: "
            f"load it again and repeat this"
        )
    return corpus
