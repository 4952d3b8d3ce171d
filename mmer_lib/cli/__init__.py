"""The command ``mmer``: the study, corpora, sweeps, comparisons and stores from a shell.

Whatever is slow to import is imported inside a command, so that ``mmer --help`` answers at once;
and nothing is before signals are minded, so that Ctrl-C is never answered with a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmer_lib.cli.stop import STATUS, end_stopped, stoppable

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; after a signal the process ends here."""
    with stoppable() as stopping:
        try:
            from mmer_lib.cli.commands import run

            status = run(sys.argv[1:] if arguments is None else arguments)
        except KeyboardInterrupt:
            stopping.stopped.set()
            status = STATUS
        except Exception:
            if stopping.came is None:
                raise  # a defect of ours
            status = STATUS  # what a library made of the interrupt
        return end_stopped(stopping) if status == STATUS or stopping.came else status
