"""Explorers for the notebooks: a few controls, and one picture that follows them.

Each is live in JupyterLab, a figure of ``mmer_lib.plots`` without a kernel, and a script of its own
in the book: see ``base``.
"""

from __future__ import annotations

from mmer_lib.widgets.attention import attention_explorer, read_map
from mmer_lib.widgets.base import MIME, SCRIPTED, Explorer, script
from mmer_lib.widgets.folds import count_parts, fold_explorer
from mmer_lib.widgets.pooling import pooling_explorer
from mmer_lib.widgets.qkv import qkv_playground
from mmer_lib.widgets.recording import read_recording, utterance_explorer
from mmer_lib.widgets.verdict import verdict_explorer
from mmer_lib.widgets.zoo import gather_costs, zoo_explorer

__all__ = [
    "MIME", "SCRIPTED", "Explorer", "attention_explorer", "count_parts", "fold_explorer",
    "gather_costs", "pooling_explorer", "qkv_playground", "read_map", "read_recording", "script",
    "utterance_explorer", "verdict_explorer", "zoo_explorer",
]  # fmt: skip
