"""Incongruity: scores apart for utterances on which the uni-modal models agree, and do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mmer_lib.errors import InputError
from mmer_lib.metrics import METRICS, scores
from mmer_lib.model import LETTERS
from mmer_lib.robustness.tables import about, records
from mmer_lib.store import ResultStore, StoredPredictions
from mmer_lib.train import Predictions

Answers = Predictions | StoredPredictions
UNIMODAL = {letter: f"self-{letter}" for letter in LETTERS}  # who says whether modalities agree
STRATA = {3: ("all agree", "two agree", "none agree"), 2: ("all agree", "none agree")}


def incongruity(answers: Answers, unimodal: Mapping[str, Answers]) -> pd.DataFrame:
    """Scores apart for utterances on which the uni-modal models agree, and do not.

    ``unimodal`` maps each modality (or its letter) to the answers of its model on the same
    utterances; what counts is whether these say the same, not whether they are right. A row a
    stratum: stratum (all agree, two agree, none agree; without the middle one for two models), n,
    share, accuracy, balanced_accuracy (over the classes that occur in it), macro_f1, and
    unimodal_accuracy (mean of the uni-modal models there). Scores of an empty stratum are NaN.

    Raises ``InputError`` for other than two or three models, and for other utterances.
    """
    if len(unimodal) not in STRATA:
        raise InputError(f"incongruity: {len(unimodal)} uni-modal models given, 2 or 3 expected")
    for name, one in unimodal.items():
        if not np.array_equal(one.ids, answers.ids):
            raise InputError(
                f"incongruity: the model of {name} answered other utterances: take the runs of the "
                f"same fold"
            )
    said = np.sort([one.probabilities.argmax(axis=1) for one in unimodal.values()], axis=0)
    different = 1 + (np.diff(said, axis=0) != 0).sum(axis=0)  # (n,) how many answers there are
    right = np.mean([_right(one) for one in unimodal.values()], axis=0)  # (n,)
    names = STRATA[len(unimodal)]
    rows = []
    for count, stratum in enumerate(names, start=1):
        inside = different == count
        row = {"stratum": stratum, "n": int(inside.sum()), "share": float(inside.mean())}
        row |= _score_some(answers, inside)
        rows.append(row | {"unimodal_accuracy": right[inside].mean() if inside.any() else np.nan})
    return pd.DataFrame(rows)


def _right(answers: Answers) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = answers.probabilities.argmax(axis=1) == answers.labels
    return found


def _score_some(answers: Answers, inside: np.ndarray) -> dict[str, float]:
    if not inside.any():
        return dict.fromkeys(METRICS, np.nan)
    return scores(answers.labels[inside], answers.probabilities[inside])


def incongruity_table(
    store: ResultStore, table: pd.DataFrame, unimodal: Mapping[str, str] = UNIMODAL
) -> pd.DataFrame:
    """``incongruity`` of every run of ``table`` with two modalities or more, on its test part.

    ``unimodal`` names for each letter the configuration that speaks for its modality: its run of
    the same study, fold and seed is taken, so that it must be in ``table`` too. A configuration is
    judged by the modalities that it reads. Columns: those of the run, then those of
    ``incongruity``. Needs neither models nor corpus.

    Raises ``InputError`` for a uni-modal run that is not there.
    """
    speaks = {(*_cell(run), run["configuration"]): run["key"] for run in records(table)}
    pieces = []
    for run in records(table):
        if len(run["modalities"]) < 2:
            continue
        others = {}
        for letter in run["modalities"]:
            key = speaks.get((*_cell(run), unimodal.get(letter, "")))
            if key is None:
                raise InputError(
                    f"incongruity: no run of {unimodal.get(letter, letter)!r} on fold "
                    f"{run['fold']} with seed {run['seed']}: add it to the plan"
                )
            others[letter] = store.predictions(key)
        pieces.append(about(run, incongruity(store.predictions(run["key"]), others)))
    if not pieces:
        raise InputError("incongruity: the table has no run with two modalities or more")
    return pd.concat(pieces, ignore_index=True)


def _cell(run: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a run shares with those that it is compared with."""
    return run["study"], run["fold"], run["seed"]
