"""The fold explorer: who is in train, dev and test, which classes, and what leaks.

Data for the book: ``classes`` and ``protocols``: name -> a list of folds, each with ``parts``
(utterances of train, dev, test), ``classes`` (part x class counts), ``groups`` (kind -> ``names``,
``counts`` a row a group, ``all``: how many groups there are) and ``leakage`` (kind -> count, or
None where it cannot be known).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from mmer_lib import plots
from mmer_lib.corpora import Corpus
from mmer_lib.corpora.base import PARTS
from mmer_lib.corpora.folds import Fold, possible_protocols
from mmer_lib.errors import InputError
from mmer_lib.plots.corpus import order_groups
from mmer_lib.widgets.base import Book, Drawn, Explorer, chooser, explore, whole_slider

GROUPS = ("speaker", "dialogue", "session")
SHOWN = 60  # groups in the book's picture
FOLDS = 10  # of a protocol, in the book


def fold_explorer(
    data: Corpus, protocols: Sequence[str] = (), folds: int = 5, seed: int = 0
) -> Explorer:
    """Choose a protocol and a fold: who is in which part, the classes of each, and what leaks.

    ``protocols`` are those that the corpus allows unless given. Controls: ``e2e-protocol``,
    ``e2e-fold``, ``e2e-group``; the sentence ``e2e-folds``. Raises as ``Corpus.folds``.
    """
    names = list(protocols) or possible_protocols(data, folds)
    if not names:
        raise InputError(f"corpus {data.name!r} allows no protocol with {folds} folds: ask for 2")
    drawn = {name: data.folds(name, folds, seed) for name in names}
    kinds = [kind for kind in GROUPS if data.known(kind) is not None] or ["speaker"]
    most = max(map(len, drawn.values()))
    controls: dict[str, Any] = {
        "protocol": chooser("protocol", names),
        "fold": whole_slider("fold", 1, 1, most),
        "group": chooser("show every", kinds),
    }

    def settle(moved: str) -> None:
        last = len(drawn[controls["protocol"].value])
        controls["fold"].value = min(controls["fold"].value, last)
        controls["fold"].max = max(2, last)

    def draw(protocol: str, fold: int, group: str) -> Drawn:
        one = drawn[protocol][min(fold, len(drawn[protocol])) - 1]
        title = f"{protocol}, fold {one.index + 1} of {one.n_folds}: who is in which part?"
        figure = plots.fold_parts(**count_parts(data, one, group), group=group, title=title)
        sizes = ", ".join(f"{len(getattr(one, part))} {part}" for part in PARTS)
        said = f"{protocol}, fold {one.index + 1} of {one.n_folds}: {sizes} utterances; "
        note = f" {one.note}." if one.note else ""
        state = {"protocol": protocol, "fold": one.index + 1, "group": group}
        return Drawn(figure, f"{said}{one.leakage.sentence()}.{note}", state)

    settle("protocol")
    text = "Which speakers or dialogues are in train, dev and test, and what the parts share."
    book = Book("folds", "Fold and leakage explorer", text, _payload(data, drawn, kinds))
    return explore(controls, draw, "folds", book, settle)


def count_parts(data: Corpus, fold: Fold, group: str = "speaker") -> dict[str, Any]:
    """What ``plots.fold_parts`` draws of a fold: utterances by group and by class in each part.

    Groups that the corpus does not name are an empty table.
    """
    part = np.full(len(data), "", dtype=object)
    for name in PARTS:
        part[getattr(fold, name)] = name
    used = part != ""  # a published fold may leave some out
    label = np.array(data.classes, dtype=object)[data.labels[used]]
    classes = pd.crosstab(label, part[used]).reindex(list(data.classes), fill_value=0)
    groups, known = pd.DataFrame(columns=list(PARTS)), data.known(group)
    if known is not None:
        groups = pd.crosstab(known[used], part[used]).reindex(columns=list(PARTS), fill_value=0)
    return {
        "groups": groups.rename_axis(index=None, columns=None),
        "classes": classes.reindex(columns=list(PARTS), fill_value=0).rename_axis(None),
        "leakage": asdict(fold.leakage),
    }


def _payload(data: Corpus, drawn: dict[str, list[Fold]], kinds: list[str]) -> dict[str, Any]:
    return {
        "classes": list(data.classes),
        "kinds": kinds,
        "names": list(drawn),  # in this order: JSON in a notebook is sorted
        "protocols": {
            name: [_fold_payload(data, fold, kinds) for fold in folds[:FOLDS]]
            for name, folds in drawn.items()
        },
    }


def _fold_payload(data: Corpus, fold: Fold, kinds: list[str]) -> dict[str, Any]:
    groups, counts = {}, count_parts(data, fold)
    for kind in kinds:
        found = count_parts(data, fold, kind)["groups"]
        shown = order_groups(found, SHOWN)
        groups[kind] = {
            "names": [str(name) for name in shown.index],
            "counts": shown.to_numpy(int).tolist(),
            "all": len(found),
        }
    return {
        "parts": [len(getattr(fold, part)) for part in PARTS],
        "classes": counts["classes"].to_numpy(int).T.tolist(),
        "groups": groups,
        "leakage": counts["leakage"],
        "says": f"{fold.leakage.sentence()}.",
    }
