"""All commands, in the order of the help."""

from mmer_lib.cli import study, book, corpora, runs, stores, plan, notebooks, bench, doctor  # noqa: I001
from mmer_lib.cli.shell import run

__all__ = [
    "bench", "book", "corpora", "doctor", "notebooks", "plan", "run", "runs", "stores", "study",
]  # fmt: skip
