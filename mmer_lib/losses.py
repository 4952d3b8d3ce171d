"""Losses that training may add to cross-entropy, each with a weight: ``contrastive=0.1,misa=0.3``.

- an ``Output`` of a batch: logits (B, C), ``fused.vectors`` (B, n, D') with ``present`` (B, n);
- labels (B,);
- ``dropped``: the ``Output`` of the same batch with one modality less, see ``drop_one``.

``contrastive`` in the spirit of Fan (2025), ``supcon`` after Khosla et al. (2020, eq. 2),
``missing_view`` in the spirit of Sun et al. (2022), ``misa`` what the fusion itself gives (Hazarika
et al. 2020). All but ``missing_view`` are means over utterances that have what they need, and 0
where none has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmer_lib.corpora.batches import Batch
from mmer_lib.errors import InputError, check_number, unknown
from mmer_lib.fusion.misa import Misa, unit
from mmer_lib.model import Output, Recognizer
from mmer_lib.pooling import concatenate

TEMPERATURE = 0.1  # tau of both contrastive losses

Loss = Callable[[Output, Tensor, Output | None], Tensor]


def contrastive(output: Output, labels: Tensor, dropped: Output | None = None) -> Tensor:
    """Vectors of one utterance are near each other, and far from those of the others.

    For every two of the n vectors, u_i and u_j (B, D') of length one, S = u_i u_j^T / tau and
    1/2 [CE(S, I) + CE(S^T, I)] in nats; mean over pairs. ln B where all vectors coincide.
    Utterances that lack one of the two are left out.
    """
    vectors, present = unit(output.fused.vectors), output.fused.present
    terms = []
    for i, j in combinations(range(vectors.shape[1]), 2):
        both = present[:, i] & present[:, j]
        if both.any():
            terms.append(_matching(vectors[both, i], vectors[both, j]))
    return torch.stack(terms).mean() if terms else 0 * vectors.sum()


def _matching(x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of finding one's own row in the other, both ways: (B, D'), (B, D') -> ()."""
    scores = x @ y.T / TEMPERATURE  # (B, B)
    own = torch.arange(len(x), device=x.device)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


def supcon(output: Output, labels: Tensor, dropped: Output | None = None) -> Tensor:
    """Utterances of one class are near each other (Khosla et al. 2020, eq. 2, the outer sum).

    HCAM (Dutta & Ganapathy 2023) adds such a loss to cross-entropy for emotions.

    z (B, n D') are the vectors one after the other, zeros where not present, of length one. For an
    utterance i with others P(i) of its class: -mean_{p in P(i)} log softmax_{a != i}(z_i z_a^T /
    tau)_p; mean over utterances that have others. ln(B - 1) where all coincide.

    Deviation: no projection head; the vectors themselves are drawn together.
    """
    fused = output.fused
    known = fused.present.any(dim=1)
    z, labels = unit(concatenate(fused.vectors, fused.present)[known]), labels[known]
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    alike = (labels[:, None] == labels) & ~itself  # (B, B)
    count = alike.sum(dim=1)
    if not count.any():
        return 0 * fused.vectors.sum()
    log_share = (z @ z.T / TEMPERATURE).masked_fill(itself, -math.inf).log_softmax(dim=1)
    each = -torch.where(alike, log_share, 0).sum(dim=1) / count.clamp(min=1)  # (B,)
    return each[count > 0].mean()


def missing_view(output: Output, labels: Tensor, dropped: Output | None = None) -> Tensor:
    """KL(p || p') of the classes, p from all modalities (a constant), p' with one dropped.

    Mean over all utterances; one with a single modality drops none, so that its two views differ by
    dropout of the network alone.

    Deviation: Sun et al. draw hidden representations together; classes are what every fusion has.

    Raises ``InputError`` without the other view.
    """
    if dropped is None:
        raise InputError("losses=missing_view: the output of the batch after drop_one is needed")
    known = output.logits.detach().log_softmax(dim=-1)
    found = dropped.logits.log_softmax(dim=-1)
    return F.kl_div(found, known, reduction="batchmean", log_target=True)


def misa(output: Output, labels: Tensor, dropped: Output | None = None) -> Tensor:
    """The sum of the fusion's own losses."""
    own = output.fused.losses.values()
    return torch.stack(list(own)).sum() if own else 0 * output.fused.vectors.sum()


LOSSES: dict[str, Loss] = {
    "contrastive": contrastive,
    "supcon": supcon,
    "missing_view": missing_view,
    "misa": misa,
}


def extra_loss(
    output: Output, labels: Tensor, weights: Mapping[str, float], dropped: Output | None = None
) -> Tensor:
    """Sum of the losses named in ``weights``, each times its weight: (). At least one is named."""
    terms = [weight * LOSSES[name](output, labels, dropped) for name, weight in weights.items()]
    return torch.stack(terms).sum()


def parse_losses(text: str) -> dict[str, float]:
    """``"contrastive=0.1,misa=0.3"`` -> ``{"contrastive": 0.1, "misa": 0.3}``, sorted by name.

    Raises ``InputError`` for a name that is not known or given twice, and for a weight that is no
    number above 0.
    """
    if not isinstance(text, str):
        raise InputError(f"losses={text!r}: text such as contrastive=0.1,misa=0.3 expected")
    weights: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, given = (word.strip() for word in part.partition("="))
        if name not in LOSSES:
            raise unknown("loss", name, LOSSES)
        if name in weights:
            raise InputError(f"losses={text!r}: {name} is given twice")
        weights[name] = _weight(name, given)
    return dict(sorted(weights.items()))


def check_losses(weights: Mapping[str, float], model: Recognizer) -> None:
    """Raises ``InputError`` for a loss that would be 0 with this model, whatever it does."""
    name = model.config.name
    if "contrastive" in weights and model.fusion.n_vectors < 2:
        raise InputError(f"losses=contrastive: {name!r} has one vector, so there is no pair")
    if "missing_view" in weights and len(model.config.modalities) < 2:
        raise InputError(f"losses=missing_view: {name!r} has one modality, so none can be dropped")
    if "misa" in weights and not isinstance(model.fusion, Misa):
        raise InputError(f"losses=misa: {name!r} has no such losses; use the fusion misa")


def _weight(name: str, given: str) -> float:
    wanted = "a weight above 0, as in contrastive=0.1,"
    try:
        weight = float(given)
    except ValueError:
        raise InputError(f"losses: {name}={given!r}: {wanted} expected") from None
    return check_number(f"losses: {name}", weight, lambda x: 0 < x < math.inf, wanted)


def write_losses(weights: Mapping[str, float]) -> str:
    """What ``parse_losses`` reads: one text for the same weights, however they were written."""
    return ",".join(f"{name}={weight!r}" for name, weight in sorted(weights.items()))


def drop_one(batch: Batch, rng: np.random.Generator) -> Batch:
    """The batch with one of its modalities missing in every utterance, at random.

    The frames become zeros and padding. An utterance that has a single modality keeps it; who asks
    in its place stays as it is.
    """
    there = np.stack([mask.any(dim=1).cpu().numpy() for mask in batch.masks.values()], axis=1)
    lots = np.where(there, rng.random(there.shape), -1.0)  # (B, M)
    chosen = np.where(there.sum(axis=1) > 1, lots.argmax(axis=1), -1)  # (B,)
    sequences, masks = {}, {}
    for i, (m, mask) in enumerate(batch.masks.items()):
        kept = torch.from_numpy(chosen != i).to(mask.device)  # (B,)
        sequences[m] = batch.sequences[m] * kept[:, None, None].to(batch.sequences[m].dtype)
        masks[m] = mask & kept[:, None]
    return replace(batch, sequences=sequences, masks=masks)
