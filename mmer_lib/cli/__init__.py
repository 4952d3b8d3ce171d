"""The command ``mmer``: the study, corpora, sweeps and comparisons from a shell.

Whatever is slow to import is imported inside a command, so that ``mmer --help`` answers at once.
"""

from mmer_lib.cli import study, corpora, runs  # noqa: I001  in the order of `mmer --help`
from mmer_lib.cli.shell import main, repeat_flags

__all__ = ["corpora", "main", "repeat_flags", "runs", "study"]
