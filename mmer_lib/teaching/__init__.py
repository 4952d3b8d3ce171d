"""The exercises of the notebooks: checks that say why an answer is wrong, and a student edition.

A check takes an answer and says one line (``base``). There is a module of checks for each subject:
``data`` (notebooks 00, 01), ``attention`` (02), ``training`` (03), ``maps`` (04), ``verdicts``
(05), ``conditions`` (06), ``zoo`` (07). ``student`` writes the notebooks without their solutions.
"""

from mmer_lib.teaching.attention import (
    check_attention,
    check_mixture,
    check_order,
    check_statistics,
)
from mmer_lib.teaching.base import Reply
from mmer_lib.teaching.conditions import check_controls, check_main_effect, check_own_mass
from mmer_lib.teaching.data import (
    check_chance,
    check_masked_mean,
    check_padding,
    check_shared_speakers,
)
from mmer_lib.teaching.maps import check_deletion, check_evenness, check_lift
from mmer_lib.teaching.training import check_attention_size, check_kept_epoch, check_lookup
from mmer_lib.teaching.verdicts import check_equivalence, check_interval, check_two_accuracies
from mmer_lib.teaching.zoo import check_area, check_camera, check_mean_ranks

__all__ = [
    "Reply", "check_area", "check_attention", "check_attention_size", "check_camera",
    "check_chance", "check_controls", "check_deletion", "check_equivalence", "check_evenness",
    "check_interval", "check_kept_epoch", "check_lift", "check_lookup", "check_main_effect",
    "check_masked_mean", "check_mean_ranks", "check_mixture", "check_order", "check_own_mass",
    "check_padding", "check_shared_speakers", "check_statistics", "check_two_accuracies",
]  # fmt: skip
