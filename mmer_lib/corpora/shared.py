"""A corpus for worker processes: they are sent where it lies, and map it; its pages are shared.

Nothing of the features is sent, and a worker opens a corpus once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

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
def share(corpus: Corpus) -> Iterator[SharedCorpus]:
    """``corpus`` in its folder, which is written for the time being if it has none."""
    kept = corpus.path is not None
    with nullcontext() if kept else tempfile.TemporaryDirectory(prefix="mmer-") as parent:
        folder = corpus.path or corpus.save(Path(str(parent)) / "corpus")
        yield SharedCorpus(folder.resolve(), corpus.fingerprint)


@lru_cache(maxsize=1)
def _open(folder: Path, fingerprint: str) -> Corpus:
    corpus = read_corpus(folder)
    if corpus.fingerprint != fingerprint:
        raise InputError(
            f"{folder} holds corpus {corpus.fingerprint}, not {fingerprint} as planned: "
            f"load it again and repeat this"
        )
    return corpus
