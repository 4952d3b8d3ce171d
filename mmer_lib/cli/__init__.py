"""The command ``mmer``: the study, corpora, sweeps and comparisons from a shell.

Whatever is slow to import is imported inside a command, so that ``mmer --help`` answers at once.
"""

from mmer_lib.cli import study, book, corpora, runs, plan, notebooks, bench  # noqa: I001
from mmer_lib.cli.shell import main, repeat_flags

__all__ = [
    "bench", "book", "corpora", "main", "notebooks", "plan", "repeat_flags", "runs", "study",
]  # fmt: skip
