"""Is attention an explanation here? Remove what is attended, and see what the model says then.

For an utterance and each modality that is read, k of its frames are cut out of the features: those
with the largest abar (H, Ts), averaged over heads and over the pairs that read the modality, or k
others at random. If the frames that are looked at are those that count, the probability of the
answer falls further than after a random cut. That is the deletion check of saliency (Samek et al.
2017; DeYoung et al. 2020: comprehensiveness) applied to attention (Jain & Wallace 2019; Wiegreffe
& Pinter 2019 on what such a check can show).

The number is a statement on one trained model and its maps. It may be near zero although maps lie
on the right frames: where several frames say the same, no cut of one of them hurts. The encoders
are recurrent: a cut frame is gone, but its neighbours may have been read in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from mmer_lib.corpora.base import MODALITIES
from mmer_lib.corpora.batches import Part
from mmer_lib.errors import InputError, check_number, check_whole
from mmer_lib.fusion import Pair
from mmer_lib.maps import check_time, iterate_maps
from mmer_lib.model import ModelConfig, Recognizer
from mmer_lib.stats import judge
from mmer_lib.stats.evidence import check_level
from mmer_lib.stats.tables import free_folds, name_folds, need_columns, overlap
from mmer_lib.train import EVAL_BATCH

Cuts = Mapping[int, np.ndarray]  # row of the corpus -> frames that are cut out, (k,)
TARGETS = ("true", "predicted")  # the class whose probability is watched
ABOUT = ["id", "source", "frames", "removed", "target", "probability"]
DROPS = ["drop_attended", "drop_random", "difference"]
TIED = 5  # decimals of a weight, relative to the largest: closer ones are ordered by chance
MARGIN = 0.01  # of the equivalence test: not read here


def deletion_check(
    model: Recognizer,
    part: Part,
    rows: np.ndarray | None = None,
    share: float = 0.1,
    draws: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Cut the most attended frames of each modality, and as many at random ``draws`` times.

    A row an utterance of ``rows`` (default: the whole part), modality that is read (``source``) and
    ``target``: the class whose probability is watched, the true one or the one predicted with all
    frames there. Columns: id, source, frames (there are), removed (k = ``share`` of them, rounded,
    at least 1), target, probability (with all frames), drop_attended, drop_random (mean over
    draws), difference (attended - random). Sources with one frame are left out.

    A cut frame neither is read nor asks; where another utterance asks, that one stays whole.
    Equal weights are ordered by chance, so that uniform attention gives a random cut.

    Raises ``InputError`` for a model without attention, or one to which a step is no frame.
    """
    check_number("share", share, lambda x: 0 < x < 1, "a share between 0 and 1")
    check_whole("draws", draws, at_least=1)
    check_whole("seed", seed, at_least=0)
    check_frames(model.config)
    rows = part.rows if rows is None else rows
    looked = {row: read_frames(maps) for row, maps in iterate_maps(model, part, rows)}
    pieces = []
    for name in part.modalities:
        weights = {r: w[name] for r, w in looked.items() if name in w and len(w[name]) > 1}
        if weights:
            source = _Source(model, part, name, np.array(list(weights)), list(weights.values()))
            pieces.append(_compare_cuts(source, share, draws, seed))
    return pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame(columns=ABOUT + DROPS)


def check_frames(config: ModelConfig) -> None:
    """Raise ``InputError`` unless every step behind the encoders is a frame that could be cut."""
    check_time(config)
    if not config.masks:
        raise InputError(
            f"{config.name!r} reads padding as data, so that a frame which is cut is replaced by "
            f"one of padding: use masks=true"
        )


def read_frames(maps: Mapping[Pair, np.ndarray]) -> dict[str, np.ndarray]:
    """How much each frame of a source is read: (Ts,), mean over queries, heads and its pairs."""
    by_source: dict[str, list[np.ndarray]] = {}
    for (_, source), weights in maps.items():
        by_source.setdefault(source, []).append(weights.mean(axis=(0, 1)))
    return {source: np.mean(means, axis=0) for source, means in by_source.items()}


@dataclass(frozen=True)
class _Source:
    """A modality whose frames are cut, in utterances ``rows`` (n,) that read it by ``weights``."""

    model: Recognizer
    part: Part
    name: str
    rows: np.ndarray
    weights: list[np.ndarray]  # (Ts,) each

    @torch.no_grad()
    def answers(self, cuts: Cuts) -> np.ndarray:
        """Class probabilities (n, C) without the frames ``cuts``."""

        def cut(modality: str, row: int, frames: np.ndarray) -> np.ndarray:
            return np.delete(frames, cuts[row], axis=0) if row in cuts else frames

        device = next(self.model.parameters()).device
        alone = replace(self.part, partners=None, modalities=(self.name,)).with_change(cut)
        pieces = []
        for start in range(0, len(self.rows), EVAL_BATCH):
            chunk = self.rows[start : start + EVAL_BATCH]
            whole, short = self.part.collate(chunk), alone.collate(chunk)
            frames = whole.sequences | short.sequences, whole.masks | short.masks
            batch = replace(whole, sequences=frames[0], masks=frames[1])
            logits = self.model(batch.to(device)).logits
            pieces.append(logits.softmax(dim=-1).double().cpu().numpy())
        return np.concatenate(pieces)


def _compare_cuts(source: _Source, share: float, draws: int, seed: int) -> pd.DataFrame:
    """The rows of one source. Every utterance has a random stream of its own."""
    at = MODALITIES.index(source.name)
    streams = [np.random.default_rng([seed, at, int(row)]) for row in source.rows]
    lengths = np.array([len(w) for w in source.weights])
    counts = np.clip(np.rint(share * lengths).astype(int), 1, lengths - 1)  # (n,)
    some = list(zip(source.rows, streams, source.weights, counts, strict=True))
    whole = source.answers({})  # (n, C)
    attended = whole - source.answers({row: _attended(w, rng)[:k] for row, rng, w, k in some})
    random = np.zeros_like(whole)
    for _ in range(draws):
        cuts = {row: rng.permutation(len(w))[:k] for row, rng, w, k in some}
        random += (whole - source.answers(cuts)) / draws
    corpus = source.part.corpus
    where = {"id": corpus.utterances["id"].to_numpy(dtype=str)[source.rows], "source": source.name}
    where |= {"frames": lengths, "removed": counts}
    watched = {"true": corpus.labels[source.rows], "predicted": whole.argmax(axis=1)}
    pieces = []
    for target, classes in watched.items():
        of = np.arange(len(classes)), classes
        drops = (attended[of], random[of], attended[of] - random[of])
        said = {"target": target, "probability": whole[of], **dict(zip(DROPS, drops, strict=True))}
        pieces.append(pd.DataFrame(where | said))
    return pd.concat(pieces, ignore_index=True)


def _attended(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Frames (Ts,) from the most to the least attended; those that tie in random order."""
    rank = np.round(weights / weights.max(), TIED)
    return np.lexsort((rng.random(len(rank)), -rank))


def deletion_means(checked: pd.DataFrame) -> pd.DataFrame:
    """Means of a deletion check over utterances: a row a target and source, and source ``all``.

    ``all`` is the mean over the sources that an utterance has. Columns: target, source, n
    (utterances), drop_attended, drop_random, difference.
    """
    both = _with_all(checked, ["target"])
    groups = both.groupby(["target", "source"], sort=False)
    return groups[DROPS].mean().assign(n=groups["id"].nunique()).reset_index()


def _with_all(checked: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The rows of a check, after those of the mean over an utterance's sources."""
    whole = checked.groupby([*by, "id"], as_index=False, sort=False)[DROPS].mean()
    return pd.concat([whole.assign(source="all"), checked], ignore_index=True)


def deletion_summary(checked: pd.DataFrame, alpha: float = 0.05) -> pd.DataFrame:
    """Does a cut of attended frames take more from the answer than a random one?

    ``checked``: ``deletion_check``, also several with the columns configuration, fold and seed; or
    the means of many runs, as the track ``deletion`` gives them. A row a configuration (where they
    are named), target and source; source ``all`` is the mean over those that an utterance has.
    Columns: configuration, target, source, units, n, drop_attended, drop_random, difference, low,
    high (its 1 - alpha interval), p.

    With several folds, the t test is over fold means, with the correction for training parts that
    overlap (see ``stats.compare``): a statement on new data, and models trained like these. With
    one it is over utterances, averaged over seeds, or over the runs where only means are there: a
    statement on these models, or on these data.

    Raises ``InputError`` for missing columns, and where there are not two of such units.
    """
    need_columns(checked, ["target", "source", *DROPS], "the frame of a deletion check")
    check_level(alpha)
    groups = [c for c in ("configuration", "target") if c in checked]
    if "id" in checked:
        runs = ("fold", "fold_seed", "seed", "n_train", "n_dev", "n_test")
        checked = _with_all(checked, [*groups, *(c for c in runs if c in checked)])
    records = []
    for names, one in checked.groupby([*groups, "source"], sort=False):
        records.append(dict(zip([*groups, "source"], names, strict=True)) | _judge(one, alpha))
    return pd.DataFrame(records)


def _judge(drops: pd.DataFrame, alpha: float) -> dict[str, object]:
    """Mean drops, and the interval of their difference over folds, utterances or runs."""
    by_fold = "fold" in drops and name_folds(drops).nunique() > 1
    units, unit = ("utterances", "id") if "id" in drops else ("runs", "seed")
    need_columns(drops, [unit], "the frame of a deletion check")
    names = name_folds(drops) if by_fold else drops[unit]
    means = drops.groupby(names)[DROPS].mean()
    if len(means) < 2:
        raise InputError(f"a deletion check over {len(means)} of its {units} has no interval")
    extra, df = (overlap(drops), free_folds(drops)) if by_fold else (0.0, len(means) - 1)
    judged = judge(means["difference"].to_numpy(), 1 / len(means) + extra, MARGIN, alpha, df)
    return {
        "units": "folds" if by_fold else units,
        "n": len(means),
        **{name: float(means[name].mean()) for name in DROPS},
        "low": float(judged["low"]),
        "high": float(judged["high"]),
        "p": float(judged["p_difference"]),
    }


def say_deletion(summary: pd.DataFrame, target: str = "true") -> str:
    """The summary's row for all sources in words, for one configuration."""
    row = summary[(summary["target"] == target) & (summary["source"] == "all")]
    if len(row) != 1:
        raise InputError(
            f"{len(row)} rows of the summary are on the {target} class and all sources: expected "
            f"one, so choose a configuration"
        )
    one = row.iloc[0]
    points = {name: 100 * float(one[name]) for name in (*DROPS, "low", "high")}
    verdict = "attention points at what counts"
    if one["low"] <= 0:
        verdict = "it cannot be told from chance" if one["high"] >= 0 else "it points elsewhere"
    return (
        f"Cutting the most attended frames takes {points['drop_attended']:.1f} points from the "
        f"probability of the {target} class, cutting others at random "
        f"{points['drop_random']:.1f}: {points['difference']:+.1f} ({points['low']:+.1f} to "
        f"{points['high']:+.1f}, {one['n']} {one['units']}), so {verdict}."
    )
