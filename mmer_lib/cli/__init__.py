"""The command ``mmer``: the study, corpora, sweeps, comparisons and stores from a shell.

Whatever is slow to import is imported inside a command, so that ``mmer --help`` answers at once.
"""

from mmer_lib.cli import study, book, corpora, runs, stores, notebooks, bench  # noqa: I001
from mmer_lib.cli.shell import main, repeat_flags

__all__ = [
    "bench", "book", "corpora", "main", "notebooks", "repeat_flags", "runs", "stores", "study",
]  # fmt: skip
