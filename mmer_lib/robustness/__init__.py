"""What a trained model still knows at test time when something is missing, lost or swapped.

Nothing is trained here; every track changes the test part alone, and gives the usual scores:

- ``missing_modalities``: only some of the modalities are there (all 7 subsets of three; Deng 2025
  and Sun et al. 2022 in the reading list);
- ``frame_loss``: a share of all frames is lost at random; ``loss_area`` is the mean over the curve;
- ``swapped_partners``: one modality comes from another utterance: what does the answer rest on?
- ``swap_sensitivity``: another utterance only ASKS: how far do the probabilities move? For models
  without a residual all that can change is where their own frames are read;
- ``incongruity``: scores apart for utterances on which the uni-modal models agree or do not
  (Wang et al. 2023, Praveen & Alam 2024).

``run_track`` does one of these for the stored runs of a plan, side by side; ``incongruity_table``
does the last of them. A track refuses in one line what makes no sense for a model.
"""

from __future__ import annotations

from mmer_lib.robustness.changes import (
    SHARES,
    frame_loss,
    kept_frames,
    loss_area,
    missing_modalities,
    swap_sensitivity,
    swapped_partners,
)
from mmer_lib.robustness.runs import TRACKS, Track, refusals, run_track
from mmer_lib.robustness.strata import STRATA, UNIMODAL, incongruity, incongruity_table

__all__ = [
    "SHARES", "STRATA", "TRACKS", "UNIMODAL", "Track", "frame_loss", "incongruity",
    "incongruity_table", "kept_frames", "loss_area", "missing_modalities", "refusals", "run_track",
    "swap_sensitivity", "swapped_partners",
]  # fmt: skip
