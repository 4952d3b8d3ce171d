"""Fusions by name: ``build_fusion("cross", FusionConfig(("audio", "text"), width=120, heads=6))``.

See :mod:`mmer_lib.fusion.base` for what a fusion is given and gives.
"""

from __future__ import annotations

from mmer_lib.errors import InputError, check_whole, unknown
from mmer_lib.fusion.attention import (
    CrossFusion,
    CrossTied,
    MultiHeadAttention,
    SelfCrossFusion,
    SelfCrossTied,
    SelfFusion,
    SelfTwice,
)
from mmer_lib.fusion.base import QUERIES, Fused, Fusion, FusionConfig, Pair
from mmer_lib.fusion.gated import (
    GatedCross,
    IncongruityAware,
    IncongruityAwareTied,
    SqueezedCross,
)
from mmer_lib.fusion.hopping import ModalityHopping
from mmer_lib.fusion.joint import JointCross, JointFusion, JointSelf
from mmer_lib.fusion.misa import Misa
from mmer_lib.fusion.pooled import LateFusion, LowRankFusion, MeanFusion, VectorCrossFusion
from mmer_lib.fusion.transformers import (
    BottleneckTransformer,
    EfficientTransformer,
    HierarchicalTransformer,
    MulT,
)

__all__ = [
    "FUSIONS", "QUERIES", "Fused", "Fusion", "FusionConfig", "MultiHeadAttention", "Pair",
    "build_fusion",
]  # fmt: skip

FUSIONS: dict[str, type[Fusion]] = {
    # the paper
    "self": SelfFusion,
    "cross": CrossFusion,
    "selfcross": SelfCrossFusion,
    # the paper's, with other numbers of parameters
    "self_x2": SelfTwice,
    "cross_tied": CrossTied,
    "selfcross_tied": SelfCrossTied,
    # one attention, only its mask differs
    "joint_self": JointSelf,
    "joint_cross": JointCross,
    "joint": JointFusion,
    # of vectors, no frame is looked at
    "mean": MeanFusion,
    "late": LateFusion,
    "lmf": LowRankFusion,
    "vec_cross": VectorCrossFusion,
    # transformer blocks, which carry what asks along
    "mult": MulT,
    "mbt": BottleneckTransformer,
    "emt": EfficientTransformer,
    "hct": HierarchicalTransformer,
    # modalities ask in turn; gates decide what of the others counts
    "amh": ModalityHopping,
    "iaca": IncongruityAware,
    "iaca_tied": IncongruityAwareTied,
    "se_cross": SqueezedCross,
    "gated": GatedCross,
    # private and shared halves, with losses of their own
    "misa": Misa,
}


LARGEST = 1 << 16  # of any size: beyond it no machine could hold the fusion


def build_fusion(name: str, config: FusionConfig) -> Fusion:
    """A registered fusion.

    Raises ``InputError`` for an unknown name, modalities that are too few or named twice, or a
    switch that the fusion does not have.
    """
    if name not in FUSIONS:
        raise unknown("fusion", name, FUSIONS)
    kind, given = FUSIONS[name], config.modalities
    if not given or len(set(given)) < len(given):
        raise InputError(f"modalities={given}: at least one expected, and each only once")
    if len(given) < kind.least:
        raise InputError(
            f"{name} fuses {kind.least} modalities or more, not {given[0]} alone: use self"
        )
    _check_switches(name, kind, config)
    return kind(config)


def _check_switches(name: str, kind: type[Fusion], config: FusionConfig) -> None:
    if config.query not in QUERIES:
        raise unknown("choice for query:", config.query, QUERIES)
    if config.query not in kind.queries:
        raise InputError(f"query={config.query}: {name} knows {' and '.join(kind.queries)} only")
    if config.residual not in kind.residuals:
        raise InputError(f"residual=true: {name} has no such switch; leave it out")
    for switch, has in (("inner", kind.resizable), ("depth", kind.layered)):
        given = check_whole(switch, getattr(config, switch), at_least=0)
        if given > LARGEST:
            raise InputError(f"{switch}={given}: at most {LARGEST} expected")
        if given and not has:
            raise InputError(f"{switch}={given}: {name} has no such size; leave it out")
