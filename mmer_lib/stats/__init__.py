"""From a table of runs to a verdict that can be trusted.

The table has one row a run: ``configuration``, ``fold``, ``seed`` and any scores that are shares in
[0, 1]. Everything is a share: one point is 0.01. A difference is always a - b.

- ``comparison``: two configurations, planned pairs, all pairs, each alone;
- ``ranks``: mean ranks over folds and the critical difference, for a picture;
- ``components``, ``planning``: how much is fold and how much is seed, and how many would settle it;
- ``teaching``: what the usual tests (``usual``) would have said;
- ``calibration``: how often every test is wrong, on studies of known truth (``simulation``);
- ``predictions``: recalls with intervals, confusions, baselines, reliability;
- ``epochs``: what choosing the epoch on the test part would have bought.
"""

from __future__ import annotations

from mmer_lib.stats.calibration import (
    SCENARIOS,
    Scenario,
    calibrate,
    calibrate_family,
    error_table,
    measure,
    measured,
    refresh_measured,
)
from mmer_lib.stats.comparison import (
    ESTIMANDS,
    Comparison,
    compare,
    compare_all,
    compare_groups,
    compare_planned,
    planned_pairs,
    summary,
)
from mmer_lib.stats.components import Components, variance_components
from mmer_lib.stats.epochs import gather_histories, select_epochs, selection
from mmer_lib.stats.evidence import VERDICTS, decide, holm, judge
from mmer_lib.stats.planning import DESIGNS, Goal, Planning, plan, powers
from mmer_lib.stats.predictions import (
    baselines,
    gather_predictions,
    mean_confusion,
    recall_intervals,
    reliability,
)
from mmer_lib.stats.ranks import Ranks, critical_difference, judge_ranks, rank_configurations
from mmer_lib.stats.simulation import CrossValidation, Design
from mmer_lib.stats.tables import COUNTS, KEYS, STUDY, fold_means
from mmer_lib.stats.teaching import habits
from mmer_lib.stats.usual import DEFAULT, TESTS

__all__ = [
    "COUNTS", "DEFAULT", "DESIGNS", "ESTIMANDS", "KEYS", "SCENARIOS", "STUDY", "TESTS",
    "VERDICTS", "Comparison", "Components", "CrossValidation", "Design", "Goal", "Planning",
    "Ranks", "Scenario", "baselines", "calibrate", "calibrate_family", "compare", "compare_all",
    "compare_groups", "compare_planned", "critical_difference", "decide", "error_table",
    "fold_means", "gather_histories", "gather_predictions", "habits", "holm", "judge",
    "judge_ranks", "mean_confusion", "measure", "measured", "plan", "planned_pairs", "powers",
    "rank_configurations", "recall_intervals", "refresh_measured", "reliability", "select_epochs",
    "selection", "summary", "variance_components",
]  # fmt: skip
