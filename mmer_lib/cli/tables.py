"""Tables as the command line prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def score_table(summary: pd.DataFrame, metric: str) -> str:
    """Mean and interval of each configuration, in %."""
    import pandas as pd

    columns: dict[str, Any] = {
        "configuration": summary["configuration"],
        f"{metric.replace('_', ' ')}, %": (100 * summary["mean"]).map("{:.1f}".format),
        "95 % interval": _intervals(summary, "{:.1f}"),
        "folds": summary["n_folds"],
        "seeds": summary["n_seeds"],
    }
    return pd.DataFrame(columns).to_string(index=False)


def verdict_table(verdicts: pd.DataFrame) -> str:
    """The comparisons of ``stats.compare_planned``, a line each, differences in points."""
    import pandas as pd

    columns: dict[str, Any] = {
        "a": verdicts["a"],
        "b": verdicts["b"],
        "a - b, points": (100 * verdicts["difference"]).map("{:+.1f}".format),
        "interval": _intervals(verdicts, "{:+.1f}"),
        "p (Holm)": verdicts["p_holm"].map("{:.3f}".format),
        "p equivalence": verdicts["p_equivalence"].map("{:.3f}".format),
        "verdict": verdicts["verdict"],
    }
    return pd.DataFrame(columns).to_string(index=False)


def _intervals(table: pd.DataFrame, form: str) -> list[str]:
    """``low .. high`` in hundredths; nothing where there is none (one fold)."""
    bounds = zip(100 * table["low"], 100 * table["high"], strict=True)
    return ["" if a != a else f"{form.format(a)} .. {form.format(b)}" for a, b in bounds]
