"""The study as a function: ``run_study("quick")`` executes the ordered notebooks."""

from __future__ import annotations

from mmer_lib.pipeline.execute import StudyError
from mmer_lib.pipeline.study import PROFILES, Study, run_study

__all__ = ["PROFILES", "Study", "StudyError", "run_study"]
