"""The study in its ``ci`` profile, into ``runs/ci``: what is up to date there is not run again."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CI = ROOT / "runs" / "ci"


def run_ci_study() -> subprocess.CompletedProcess[str]:
    """One call of the command."""
    command = [sys.executable, "-m", "mmer_lib.cli", "study", "--profile", "ci"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def finish_ci_study() -> Path:
    """The run folder of a study that is up to date."""
    done = run_ci_study()
    deadline = time.monotonic() + 600
    while "another study" in done.stderr and time.monotonic() < deadline:
        time.sleep(2)  # another file of tests runs it at the same time
        done = run_ci_study()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return CI
