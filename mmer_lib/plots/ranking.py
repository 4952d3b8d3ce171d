"""The order of all configurations: mean ranks and the critical difference."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from mmer_lib.metrics import label as metric_label
from mmer_lib.plots.style import INK, dress, figure_of, fusion_colour, own_axes
from mmer_lib.stats import Ranks

ABOVE = 27  # points between the axis and the bar of the critical difference


def critical_difference(ranks: Ranks, ax: Axes | None = None) -> Axes:
    """Demsar's diagram: mean ranks (1 is best), bars join what lies within the critical difference.

    ``ranks`` are those of ``stats.rank_configurations``. A picture of the order and not a test:
    verdicts are those of ``stats.compare_all``.
    """
    from scikit_posthocs import critical_difference_diagram  # heavy

    k, groups = len(ranks.mean_ranks), len(ranks.groups())
    ax = own_axes(ax, (8.4, 1.9 + 0.2 * groups + 0.26 * (k + 1) / 2))
    critical_difference_diagram(
        ranks.mean_ranks, _near(ranks), ax=ax, text_h_margin=0.02 * k,
        label_fmt_left="{label}  {rank:.1f}", label_fmt_right="{rank:.1f}  {label}",
        color_palette={name: fusion_colour(str(name)) for name in ranks.mean_ranks.index},
        label_props={"fontsize": 9}, marker_props={"s": 20}, elbow_props={"linewidth": 1.1},
        crossbar_props={"color": INK, "linewidth": 3.2, "solid_capstyle": "round"},
    )  # fmt: skip
    _bar_of(ax, ranks)
    scored = f" in {metric_label(ranks.metric)}" if ranks.metric else ""
    ax.set_xticks(range(1, k + 1))
    ax.set_xlim(0.9, k + 0.1)
    title = "Which cannot be told apart? Bars join ranks within the critical difference (CD)"
    dress(
        ax,
        title,
        f"mean rank over {ranks.n_blocks} folds{scored} (1 is best)",
        spines=False,
        lift=46,
    )
    ax.spines["top"].set_visible(True)
    ax.xaxis.set_label_position("bottom")
    return ax


def _near(ranks: Ranks) -> pd.DataFrame:
    """1 where two mean ranks are within the critical difference, 0 elsewhere."""
    values = ranks.mean_ranks.to_numpy(np.float64)
    near = abs(values[:, None] - values) < ranks.critical_difference
    names = ranks.mean_ranks.index
    return pd.DataFrame(near.astype(float), index=names, columns=names)


def _bar_of(ax: Axes, ranks: Ranks) -> None:
    """The critical difference to scale, above the numbers of the axis, from rank 1 on."""
    ends = np.array([1.0, 1.0 + ranks.critical_difference])
    above = ScaledTranslation(0, ABOVE / 72, figure_of(ax).dpi_scale_trans)
    bar = Line2D(
        ends, np.zeros(2), color=INK, linewidth=1.6, marker="|", markersize=9, clip_on=False,
        transform=ax.transData + above,
    )  # fmt: skip
    ax.add_artist(bar)
    ax.annotate(
        f"CD = {ranks.critical_difference:.2f}", (float(ends.mean()), 0), (0, ABOVE + 4),
        textcoords="offset points", ha="center", va="bottom", fontsize=9, color=INK,
    )  # fmt: skip
