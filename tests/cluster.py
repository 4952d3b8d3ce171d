"""A Dask cluster of processes of its own on the loopback device, for tests.

No nanny: a worker that is killed stays dead, so that its run has to go elsewhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmer_lib.distributed import connect

ROOT = Path(__file__).resolve().parents[1]


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """What ``condition`` gives, once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"nothing came within {seconds} seconds")


class Cluster:
    """A scheduler, on a port that the system chooses, and the workers that were started."""

    def __init__(self, folder: Path, *more: str) -> None:
        self.folder = folder
        self.workers: dict[str, subprocess.Popen[bytes]] = {}  # by name
        file = folder / "scheduler.json"
        self.scheduler = self._start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file), *more
        )
        self.address = until(lambda: _address(file))

    def add(self, name: str, *more: str) -> subprocess.Popen[bytes]:
        """Start a worker of one thread."""
        self.workers[name] = self._start(
            "worker", self.address, "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny",
            "--name", name, "--local-directory", str(self.folder / name), *more,
        )  # fmt: skip
        return self.workers[name]

    def wait_for(self, n: int) -> list[str]:
        """The addresses of ``n`` workers, as soon as the scheduler knows that many and no more."""

        def known() -> list[str]:
            workers = list(client.nthreads())
            return workers if len(workers) == n else []

        with connect(self.address) as client:
            return until(known)

    def remove(self, name: str) -> None:
        """End a worker."""
        process = self.workers.pop(name)
        process.kill()
        process.wait()

    def _start(self, what: str, *given: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}  # as anywhere
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *given, "--no-dashboard"]
        with (self.folder / f"{what}.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=self.folder, env={**environment, "PYTHONPATH": path},
                stdout=log, stderr=log,
            )  # fmt: skip

    def stop(self) -> None:
        """End all of it."""
        processes = [*self.workers.values(), self.scheduler]
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def _address(file: Path) -> str:
    """What the scheduler has written of itself, if it has."""
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError):
        return ""


@contextmanager
def cluster(folder: Path, *names: str) -> Iterator[Cluster]:
    """A scheduler and workers with these names."""
    made = Cluster(folder)
    try:
        for name in names:
            made.add(name)
        yield made
    finally:
        made.stop()
