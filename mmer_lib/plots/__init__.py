"""Every figure of the study: frames and arrays in, one ``Axes`` or a ``Figure`` of panels out.

A title says what to look at. Scores and differences come in as shares and are drawn in % and
points. Functions for one panel take an ``ax`` to draw into. Nothing here changes matplotlib's
settings or calls ``show``; ``save`` writes the PNG.
"""

from __future__ import annotations

from mmer_lib.plots.answers import recalls, reliability
from mmer_lib.plots.attention import (
    attention_grid,
    attention_heads,
    attention_map,
    event_mass,
    pooling_identity,
)
from mmer_lib.plots.corpus import class_balance, fold_parts, leakage, lengths, utterance
from mmer_lib.plots.evidence import components, habits, power
from mmer_lib.plots.mechanism import pooling_view, qkv_steps
from mmer_lib.plots.ranking import critical_difference
from mmer_lib.plots.reading import attention_reading
from mmer_lib.plots.recording import recording
from mmer_lib.plots.regimes import phase_diagram, regimes
from mmer_lib.plots.runs import epoch_choice, rain_clouds
from mmer_lib.plots.saving import save
from mmer_lib.plots.scaling import scaling
from mmer_lib.plots.scores import confusion, score_bars, training_curves
from mmer_lib.plots.speed import growth, zoo_cost
from mmer_lib.plots.style import (
    FUSION_COLOURS,
    MODALITY_COLOURS,
    VERDICT_COLOURS,
    fusion_colour,
    split_name,
)
from mmer_lib.plots.verdicts import forest, paired_folds, posterior, verdict
from mmer_lib.plots.zoo import cost, loss_curves, subsets

__all__ = [
    "FUSION_COLOURS", "MODALITY_COLOURS", "VERDICT_COLOURS", "attention_grid", "attention_heads",
    "attention_map", "attention_reading", "class_balance", "components", "confusion", "cost",
    "critical_difference", "epoch_choice", "event_mass", "fold_parts", "forest", "fusion_colour",
    "growth", "habits", "leakage", "lengths", "loss_curves", "paired_folds", "phase_diagram",
    "pooling_identity", "pooling_view", "posterior", "power", "qkv_steps", "rain_clouds", "recalls",
    "recording", "regimes", "reliability", "save", "scaling", "score_bars", "split_name", "subsets",
    "training_curves", "utterance", "verdict", "zoo_cost",
]  # fmt: skip
