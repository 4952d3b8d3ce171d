"""Configurations of equal size: how many parameters a fusion has, and which width gives a budget.

A comparison of mechanisms is fair when they have about as many parameters as each other. The
budget that counts here is that of the fusion alone: encoders are the same for all, and the head
follows the number of vectors. Models are built on torch's meta device, so that nothing is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from mmer_lib.corpora.base import Corpus
from mmer_lib.corpora.batches import Part
from mmer_lib.errors import check_number, check_whole
from mmer_lib.fusion import FUSIONS, build_fusion
from mmer_lib.model import (
    ModelConfig,
    Recognizer,
    count_parameters,
    list_names,
    parse_configuration,
)
from mmer_lib.recurrence import torch_alone

CROSS = 348_480  # parameters of the paper's six cross-attentions at D = 120
LARGEST = 10**9  # budget
ZOO = tuple(f"{fusion}-AVT" for fusion in FUSIONS)


def fusion_parameters(name: str, corpus: Corpus | None = None) -> int:
    """How many parameters the fusion of configuration ``name`` trains, without encoders and head.

    ``corpus`` sets the number of classes, which counts where a fusion classifies; without one the
    paper's sizes hold. Raises ``InputError`` for a name that is no configuration.
    """
    config = _sized(name, corpus)
    with torch.device("meta"):
        return count_parameters(build_fusion(config.fusion, config.for_fusion()))


def matched(name: str, parameters: int, corpus: Corpus | None = None) -> str:
    """``name`` with the ``inner`` whose fusion has nearest to ``parameters``: "mult-AVT,inner=48".

    ``inner`` is a multiple of the number of heads, and one that ``name`` gives is replaced. Where
    the fusion's own width is as near as any, or no width is free, there is none in the answer. Of
    two widths that are equally near, the smaller one is taken.

    Raises ``InputError`` if ``parameters`` is no whole number of 1 .. 10^9.
    """
    budget = check_whole("parameters", parameters, 1, LARGEST)
    config, plain = parse_configuration(name), _without_inner(name)
    if not FUSIONS[config.fusion].resizable:
        return name
    steps = _steps_to(plain, config.heads, budget, corpus)
    near = [plain, *(f"{plain},inner={k * config.heads}" for k in (steps - 1, steps) if k)]
    return min(near, key=lambda given: abs(fusion_parameters(given, corpus) - budget))


def budget_frame(
    parameters: int = CROSS,
    names: Iterable[str] = ZOO,
    corpus: Corpus | None = None,
    within: float | None = None,
) -> pd.DataFrame:
    """Every configuration at its width nearest to a budget of fusion parameters, a row each.

    Columns: name (as :func:`matched` gives it), fusion_parameters and parameters (of the fusion and
    of the whole model, both counted), departure (%, of fusion_parameters from the budget).
    ``within`` leaves out what departs by more than so many percent.
    """
    budget = check_whole("parameters", parameters, 1, LARGEST)
    if within is not None:
        check_number("within", within, lambda x: x >= 0, "a percentage of at least 0")
    records = []
    for name in list_names(names):
        fitted = matched(name, budget, corpus)
        count = fusion_parameters(fitted, corpus)
        departure = 100 * (count - budget) / budget
        if within is None or abs(departure) <= within:
            records.append((fitted, count, _all_parameters(fitted, corpus), departure))
    columns = ["name", "fusion_parameters", "parameters", "departure"]
    return pd.DataFrame(records, columns=columns)


def _sized(name: str, corpus: Corpus | None) -> ModelConfig:
    config = parse_configuration(name)
    return config if corpus is None else config.for_corpus(corpus)


def _all_parameters(name: str, corpus: Corpus | None) -> int:
    with torch.device("meta"):
        return count_parameters(Recognizer(_sized(name, corpus)))


def _without_inner(name: str) -> str:
    """``name`` without its switch ``inner``."""
    head, *switches = name.split(",")
    return ",".join([head, *(s for s in switches if s.partition("=")[0].strip() != "inner")])


def _steps_to(plain: str, heads: int, budget: int, corpus: Corpus | None) -> int:
    """The least k for which inner = k * heads reaches the budget; wider is never smaller."""

    def reaches(k: int) -> bool:
        return fusion_parameters(f"{plain},inner={k * heads}", corpus) >= budget

    low, high = 0, 1  # low does not reach it, or is 0
    while not reaches(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def _attention_products(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **__: object
) -> int:
    """Operations of Q K^T and of its product with V: (B, H, Tq, d), (B, H, Ts, d), twice."""
    batch, heads, asked, width = query
    return 2 * batch * heads * asked * key[2] * (width + value[3])


# The fused attention of CPUs, which torch's own counter does not know.
FUSED = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_products}


@contextmanager
def counted_products() -> Iterator[FlopCounterMode]:
    """Count the operations of matrix products, those that compiled loops would hide included."""
    with torch_alone(), FlopCounterMode(display=False, custom_mapping=FUSED) as counter:
        yield counter


def cost_frame(names: Iterable[str], corpus: Corpus, utterances: int = 32) -> pd.DataFrame:
    """What configurations cost on a corpus: a row each, in the order given.

    Columns: ``name``, ``fusion_parameters``, ``parameters`` (trained in all) and ``megaflops``: a
    million floating-point operations of matrix products in one forward pass, for an utterance,
    as the mean over the first ``utterances`` in one batch (padding included, but for that of the
    recurrent layers). Element-wise operations are not counted.
    """
    rows = np.arange(min(utterances, len(corpus)))
    found = []
    for name in list_names(names):
        config = parse_configuration(name).for_corpus(corpus)
        model = Recognizer(config).eval()
        part = Part(corpus, rows, config.modalities, None, config.pad_to, config.dtype)
        with torch.no_grad(), counted_products() as counter:
            model(part.collate(rows), need_weights=False)
        found.append(
            {
                "name": name,
                "fusion_parameters": count_parameters(model.fusion),
                "parameters": count_parameters(model),
                "megaflops": counter.get_total_flops() / len(rows) / 1e6,
            }
        )
    return pd.DataFrame(found)
