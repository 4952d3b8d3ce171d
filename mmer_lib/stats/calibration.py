"""How often the tests are wrong: measured on studies whose truth is known.

``calibrate`` simulates thousands of studies of two equally good configurations and asks every test
of ``usual.TESTS``. ``measure`` does so in every one of ``SCENARIOS``; what it found is kept beside
this module in ``measured.csv``, written by ``refresh_measured`` and read by ``measured``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from mmer_lib.errors import InputError
from mmer_lib.stats.evidence import check_level, check_share, judge
from mmer_lib.stats.ranks import critical_difference
from mmer_lib.stats.simulation import CrossValidation, Design
from mmer_lib.stats.tables import Floats
from mmer_lib.stats.usual import DEFAULT, TESTS, Evidence

MEASURED = Path(__file__).with_name("measured.csv")
N_STUDIES = 2000  # a share near .05 then has a standard error of .005
N_MEASURED = 10_000  # for the table that comes with the package: .002
SEED = 20220209
FAMILY = 8  # configurations compared pair by pair where family-wise errors are measured


@dataclass(frozen=True)
class Scenario:
    """Studies to simulate, and the gaps in shares that matter there.

    ``margin`` is that of equivalence, ``gap`` the true difference that power is measured at. The
    cross-validations have a tenth of the paper's utterances, so theirs are wider.
    """

    design: Design | CrossValidation
    margin: float = 0.01
    gap: float = 0.02


FAINT = CrossValidation(n_utterances=500, n_features=20, signal=0.15)

# Three sizes of fold x configuration, real cross-validation, and that with its folds drawn three
# times; see ``simulation``.
SCENARIOS: dict[str, Scenario] = {
    "small": Scenario(Design(interaction=0.0035)),
    "medium": Scenario(Design(interaction=0.0055)),
    "large": Scenario(Design(interaction=0.009)),
    "overlap, 200": Scenario(CrossValidation(n_utterances=200), margin=0.05, gap=0.10),
    "overlap, 500": Scenario(CrossValidation(n_utterances=500), margin=0.05, gap=0.10),
    "overlap, 500 faint": Scenario(FAINT, margin=0.05, gap=0.10),
    "repeats, 500 faint": Scenario(replace(FAINT, n_repeats=3), margin=0.05, gap=0.10),
}


def calibrate(
    design: Design | CrossValidation,
    n_studies: int = N_STUDIES,
    seed: int = 0,
    margin: float = 0.01,
    gap: float = 0.02,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """What every test says in ``n_studies`` simulated studies: a row a test, shares of studies.

    Columns: ``test``, ``replicates``;
    ``false_positives``: significant where there is no difference; ``power``: where it is ``gap``;
    ``silent``: not significant where it is ``margin``, which a habit calls "comparable";
    ``coverage``: the 1 - alpha interval holds the truth;
    ``false_equivalent``: equivalence claimed at a difference of exactly ``margin``, the hardest;
    ``power_equivalence``: the same claim at no difference. NaN where a test has no such answer.

    Raises ``InputError`` for a
    number of studies below 100, and a margin, gap or alpha out of range.
    """
    check_share("margin", margin)
    check_share("gap", gap)
    check_level(alpha)
    if n_studies < 100:
        raise InputError(f"n_studies={n_studies}: rates of errors need at least 100 studies")
    same = design.simulate(n_studies, np.random.default_rng(seed))
    at_margin, apart = same.shifted(margin), same.shifted(gap)
    rows = []
    for test in TESTS.values():
        null, edge, real = (
            test.run(studies, margin, alpha) for studies in (same, at_margin, apart)
        )
        rows.append(
            {
                "test": test.name,
                "replicates": test.replicates,
                "false_positives": _share(null, "p_difference", alpha),
                "power": _share(real, "p_difference", alpha),
                "silent": 1 - _share(edge, "p_difference", alpha),
                "coverage": _coverage(null),
                "false_equivalent": _share(edge, "p_equivalence", alpha),
                "power_equivalence": _share(null, "p_equivalence", alpha),
            }
        )
    return pd.DataFrame(rows).assign(margin=margin, gap=gap, studies=n_studies, seed=seed)


def calibrate_family(
    design: Design,
    n_configurations: int = FAMILY,
    n_studies: int = N_STUDIES,
    seed: int = 0,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """All pairs of equally good configurations: how often is any pair called different?

    Columns ``test``, ``false_positives`` (family-wise), ``studies``, ``seed``. Raises
    ``InputError`` for fewer than two configurations.
    """
    check_level(alpha)
    if n_configurations < 2:
        raise InputError(f"n_configurations={n_configurations}: pairs need at least 2")
    rng = np.random.default_rng(seed)
    scores = design.scores(n_studies, n_configurations, rng)  # (R, C, K, S)
    rates = {
        "Holm over paired t, all runs": _any_holm(scores, "runs", alpha),
        "Friedman + Nemenyi, all runs": _any_nemenyi(scores, alpha),
        f"Holm over {DEFAULT}": _any_holm(scores, "folds", alpha),
    }
    found = pd.DataFrame(list(rates.items()), columns=["test", "false_positives"])
    return found.assign(studies=n_studies, seed=seed)


def measure(n_studies: int = N_MEASURED, seed: int = SEED) -> pd.DataFrame:
    """``calibrate`` in every one of ``SCENARIOS``, and family-wise errors, in one long table.

    The first column is ``scenario``; "8 configurations" are the family-wise rows.
    """
    parts = [
        calibrate(case.design, n_studies, seed, case.margin, case.gap).assign(scenario=name)
        for name, case in SCENARIOS.items()
    ]
    family = calibrate_family(Design(), FAMILY, n_studies, seed)
    table = pd.concat([*parts, family.assign(scenario=f"{FAMILY} configurations")])
    return table[["scenario", *table.columns.drop("scenario")]].reset_index(drop=True)


def measured() -> pd.DataFrame:
    """What ``measure`` found when ``refresh_measured`` was last called; its seed is a column."""
    return pd.read_csv(MEASURED)


def refresh_measured() -> Path:
    """Measure again and write the table that comes with the package; a minute."""
    measure().to_csv(MEASURED, index=False, float_format="%.4f", lineterminator="\n")
    return MEASURED


def error_table(table: pd.DataFrame | None = None) -> pd.DataFrame:
    """The README's table, a row a test: error rates in words such as ".15 / .25 / .39".

    Columns: false positives in the three designs, their range under cross-validation, power at two
    points, and the habit's fallacy: how often a true gap of one point is "not significant".
    ``table`` is that of :func:`measure`; by default the one that comes with the package.
    """
    table = measured() if table is None else table
    rows = []
    for name in TESTS:
        designs, overlap = split_scenarios(table[table["test"] == name])
        rows.append(
            {
                "test": name,
                "false positives": _slashed(designs["false_positives"]),
                "with overlap": _ranged(overlap["false_positives"]),
                "power at 2 points": _slashed(designs["power"]),
                "silent at 1 point": _slashed(designs["silent"]),
                "false equivalence": _slashed(designs["false_equivalent"]),
                "power of equivalence": _slashed(designs["power_equivalence"]),
            }
        )
    return pd.DataFrame(rows)


def split_scenarios(rates: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of designs with independent folds, and rows of cross-validations drawn once."""
    kind = rates["scenario"].str.split(",").str[0]
    return rates[~kind.isin(["overlap", "repeats"])], rates[kind == "overlap"]


def _share(found: Evidence, name: str, alpha: float) -> float:
    """How many studies reject; NaN for a test without this p value."""
    return float((found[name] < alpha).mean()) if name in found else np.nan


def _coverage(found: Evidence) -> float:
    if "low" not in found:
        return np.nan
    return float(((found["low"] <= 0) & (found["high"] >= 0)).mean())


def _any_holm(scores: Floats, replicates: str, alpha: float) -> float:
    """Studies in which Holm rejects at least once, which its smallest p value decides."""
    _, c, k, s = scores.shape
    means = scores.mean(axis=3) if replicates == "folds" else scores.reshape(*scores.shape[:2], -1)
    factor = 1 / k + 1 / (k - 1) if replicates == "folds" else 1 / (k * s)
    smallest = np.ones(len(scores))
    for i, j in combinations(range(c), 2):
        p = judge(means[:, i] - means[:, j], factor, 0.01, alpha)["p_difference"]
        smallest = np.minimum(smallest, p)
    return float((smallest * c * (c - 1) / 2 < alpha).mean())


def _any_nemenyi(scores: Floats, alpha: float) -> float:
    """Studies in which two mean ranks over all runs differ by the critical difference."""
    r, c, k, s = scores.shape
    ranks = stats.rankdata(scores.reshape(r, c, k * s), axis=1).mean(axis=2)  # (R, C)
    limit = critical_difference(c, k * s, alpha)
    return float((np.ptp(ranks, axis=1) > limit).mean())


def _texts(rates: pd.Series[float]) -> Iterator[str]:
    for rate in rates:
        yield "-" if np.isnan(rate) else f"{rate:.2f}".removeprefix("0")


def _slashed(rates: pd.Series[float]) -> str:
    return "-" if rates.isna().all() else " / ".join(_texts(rates))


def _ranged(rates: pd.Series[float]) -> str:
    ends = list(dict.fromkeys(_texts(rates.sort_values().iloc[[0, -1]])))
    return " - ".join(ends)
