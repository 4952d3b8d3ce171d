"""The embedded corpus: three modalities, a known truth, seconds to train on.

Fixed random codebooks give every emotion, every key and the ask mark a pattern of F numbers in
every modality. All other frames are noise. Each utterance is one of three kinds:

- *additive*: in each modality three frames show an emotion - the true one with probability
  ``agreement``, else one drawn at random. Modalities vote; nothing has to be looked up.
- *cross-binding*: the ``asker`` modality shows a key in one frame; another, the ``holder``, shows
  one event for every key, each the sum of a key pattern and the pattern of an emotion, at random
  frames. The label is the emotion stored under the asked key. A query from the asker into the
  holder finds it; neither modality alone can tell which of the events counts.
- *self-binding*: the same look-up with the holder asking itself; the asking frame carries the key
  and the ask mark, so that it is not mistaken for an event.

``Corpus.utterances`` carries the kind, asker and holder, ``Corpus.events`` every planted frame,
so that attention maps can be checked against the truth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd

from mmer_lib.corpora.base import MODALITIES, Corpus, Ragged
from mmer_lib.errors import InputError, check_number, check_whole, unknown

# The seven classes of the paper's IEMOCAP task; further classes are numbered.
EMOTIONS = ("angry", "excited", "happy", "sad", "frustrated", "surprise", "neutral")
CODEBOOK_SEED = 2022  # of the patterns: the same in every synthetic corpus of the same width
EVENT = ["id", "modality", "frame", "role", "key", "value"]  # the columns of an event
SHOWN = 3  # frames that show the emotion of an additive utterance, in each modality


@dataclass(frozen=True)
class Codebook:
    """Patterns of unit-variance numbers: every emotion, key and the ask mark in every modality."""

    emotions: dict[str, np.ndarray]  # modality -> (C, F)
    keys: dict[str, np.ndarray]  # modality -> (n_keys, F)
    ask: dict[str, np.ndarray]  # modality -> (F,)
    speakers: dict[str, np.ndarray]  # modality -> (n_speakers, F)


def codebook(classes: int, keys: int, speakers: int, features: int) -> Codebook:
    """The fixed patterns; a pattern does not depend on how many others there are."""

    def patterns(kind: int, n: int) -> dict[str, np.ndarray]:
        return {
            modality: np.stack(
                [
                    np.random.default_rng([CODEBOOK_SEED, kind, m, i]).standard_normal(features)
                    for i in range(n)
                ]
            )
            for m, modality in enumerate(MODALITIES)
        }

    ask = {modality: rows[0] for modality, rows in patterns(2, 1).items()}
    return Codebook(patterns(0, classes), patterns(1, keys), ask, patterns(3, speakers))


def synthetic(
    utterances: int = 1500,
    cross_binding: float = 0.5,
    self_binding: float = 0.0,
    agreement: float = 0.6,
    classes: int = 7,
    keys: int = 2,
    asker: str = "text",
    holder: str = "audio",
    features: int = 16,
    noise: float = 0.3,
    shortest: int = 6,
    longest: int = 9,
    speakers: int = 10,
    speaker_shift: float = 0.1,
    missing: float = 0.0,
    seed: int = 0,
) -> Corpus:
    """The embedded corpus with a planted truth (runs in a second, needs nothing).

    ``cross_binding`` and ``self_binding`` are the shares of those kinds, the rest is additive;
    ``asker`` and ``holder`` are modalities, or ``any``: drawn anew for every utterance (a harder
    corpus: the look-up must be learned for every pair);
    ``noise`` and ``speaker_shift`` are standard deviations where patterns have 1; lengths are
    uniform in ``shortest`` .. ``longest`` frames, each modality on its own; ``missing`` is the
    probability that a modality has no frames (never all of them).

    Raises ``InputError`` for an option outside its range.
    """
    shares = {"cross_binding": cross_binding, "self_binding": self_binding}
    _check_shares(shares, agreement=agreement, missing=missing)
    pairs = _role_pairs(asker, holder)
    _check_sizes(utterances, classes, keys, features, shortest, longest, speakers)
    _check_deviations(noise=noise, speaker_shift=speaker_shift)
    check_whole("synthetic: seed", seed, at_least=0)
    rng = np.random.default_rng(seed)
    book = codebook(classes, keys, speakers, features)
    table = _plan_table(rng, utterances, shares, pairs, classes, speakers)
    sequences: dict[str, list[np.ndarray]] = {m: [] for m in MODALITIES}
    events: list[dict[str, Any]] = []
    for row in table.itertuples():
        lengths = rng.integers(shortest, longest + 1, size=len(MODALITIES))
        frames = _draw_noise(rng, row, lengths, book, noise, speaker_shift)
        if row.kind == "additive":
            planted = _show_emotion(rng, row, frames, book, agreement)
        else:
            planted = _store_and_ask(rng, row, frames, book)
        absent = _choose_missing(rng, missing)
        for modality, x in frames.items():
            sequences[modality].append(x[:0] if modality in absent else x)
        events += [event for event in planted if event["modality"] not in absent]
    features_of = {m: Ragged.from_list(sequences[m], features) for m in MODALITIES}
    recipe = {m: {"features": "planted patterns in noise", "rate": None} for m in MODALITIES}
    names = EMOTIONS[:classes] + tuple(f"emotion {i + 1}" for i in range(len(EMOTIONS), classes))
    return Corpus(
        "synthetic", names, table, features_of, recipe, pd.DataFrame(events, columns=EVENT)
    )


def _plan_table(
    rng: np.random.Generator,
    n: int,
    shares: dict[str, float],
    pairs: list[tuple[str, str]],
    classes: int,
    speakers: int,
) -> pd.DataFrame:
    """Kind, asker, holder, label and speaker of every utterance, in random order."""
    counts = {kind.replace("_", "-"): round(share * n) for kind, share in shares.items()}
    kinds = [kind for kind, count in counts.items() for _ in range(count)][:n]
    kinds += ["additive"] * (n - len(kinds))
    rows = []
    for i, kind in enumerate(rng.permutation(kinds)):
        asker, holder = pairs[rng.integers(len(pairs))]
        if kind == "self-binding":
            asker = holder
        if kind == "additive":
            asker = holder = ""
        rows.append(
            {
                "id": f"u{i:05d}",
                "label": int(rng.integers(classes)),
                "speaker": f"s{int(rng.integers(speakers)) + 1:02d}",
                "dialogue": "",
                "kind": str(kind),
                "asker": asker,
                "holder": holder,
            }
        )
    table = pd.DataFrame(rows)
    turn = table.groupby("speaker").cumcount() // 12  # a dialogue is twelve turns of a speaker
    table["dialogue"] = table["speaker"] + "-d" + (turn + 1).astype(str).str.zfill(2)
    return table


def _draw_noise(
    rng: np.random.Generator,
    row: Any,
    lengths: np.ndarray,
    book: Codebook,
    noise: float,
    speaker_shift: float,
) -> dict[str, np.ndarray]:
    """Frames (T, F) in which nothing happens yet: noise, shifted by who speaks."""
    speaker = int(str(row.speaker).removeprefix("s")) - 1
    frames = {}
    for modality, length in zip(MODALITIES, lengths, strict=True):
        voice = book.speakers[modality][speaker]  # (F,)
        frames[modality] = noise * rng.standard_normal((int(length), len(voice)))
        frames[modality] += speaker_shift * voice
    return frames


def _show_emotion(
    rng: np.random.Generator,
    row: Any,
    frames: dict[str, np.ndarray],
    book: Codebook,
    agreement: float,
) -> list[dict[str, Any]]:
    """Add an emotion to ``SHOWN`` frames of each modality; returns the events."""
    events = []
    for modality, x in frames.items():
        n_classes = len(book.emotions[modality])
        shown = row.label if rng.random() < agreement else int(rng.integers(n_classes))
        for t in sorted(rng.choice(len(x), SHOWN, replace=False)):
            x[t] += book.emotions[modality][shown]
            events.append(_event(row.id, modality, t, "emotion", None, shown))
    return events


def _store_and_ask(
    rng: np.random.Generator, row: Any, frames: dict[str, np.ndarray], book: Codebook
) -> list[dict[str, Any]]:
    """Store one (key, emotion) event a key in the holder, ask for one; returns the events."""
    x = frames[row.holder]
    n_keys, n_classes = len(book.keys[row.holder]), len(book.emotions[row.holder])
    asked = int(rng.integers(n_keys))
    values = rng.integers(n_classes, size=n_keys)
    values[asked] = row.label
    times = rng.choice(len(x), n_keys + (row.asker == row.holder), replace=False)
    events = []
    for key, (value, t) in enumerate(zip(values, times[:n_keys], strict=True)):
        x[t] += book.keys[row.holder][key] + book.emotions[row.holder][value]
        role = "answer" if key == asked else "decoy"
        events.append(_event(row.id, row.holder, t, role, key, value))
    if row.asker == row.holder:
        t = times[-1]
        x[t] += book.keys[row.asker][asked] + book.ask[row.asker]
    else:
        t = rng.integers(len(frames[row.asker]))
        frames[row.asker][t] += book.keys[row.asker][asked]
    events.append(_event(row.id, row.asker, t, "ask", asked, None))
    return events


def _event(
    utterance: str, modality: str, frame: int, role: str, key: int | None, value: int | None
) -> dict[str, Any]:
    numbers = [-1 if n is None else int(n) for n in (key, value)]  # -1: none; stays integer
    return dict(zip(EVENT, (utterance, modality, int(frame), role, *numbers), strict=True))


def _choose_missing(rng: np.random.Generator, missing: float) -> set[str]:
    """Modalities to leave out, never all."""
    absent = {
        m for m, u in zip(MODALITIES, rng.random(len(MODALITIES)), strict=True) if u < missing
    }
    return absent if len(absent) < len(MODALITIES) else absent - {rng.choice(MODALITIES)}


def _role_pairs(asker: str, holder: str) -> list[tuple[str, str]]:
    """The (asker, holder) pairs to draw from."""
    for role, modality in {"asker": asker, "holder": holder}.items():
        if modality not in (*MODALITIES, "any"):
            raise unknown(f"modality for {role}:", modality, (*MODALITIES, "any"))
    pairs = [
        (a, h)
        for a, h in permutations(MODALITIES, 2)
        if asker in (a, "any") and holder in (h, "any")
    ]
    if not pairs:
        raise InputError(
            f"synthetic: asker and holder are both {asker!r}; they must differ "
            f"(self_binding is the share in which the holder asks itself)"
        )
    return pairs


def _check_shares(shares: dict[str, float], **others: float) -> None:
    for name, share in {**shares, **others}.items():
        check_number(f"synthetic: {name}", share, lambda x: 0 <= x <= 1, "a share in [0, 1]")
    if sum(shares.values()) > 1:
        given = " + ".join(f"{k}={v}" for k, v in shares.items())
        raise InputError(
            f"synthetic: {given} is more than 1: the two shares cannot exceed the whole"
        )


def _check_deviations(**given: float) -> None:
    for name, deviation in given.items():
        check_number(
            f"synthetic: {name}", deviation, lambda x: 0 <= x < math.inf, "a number of at least 0"
        )


def _check_sizes(
    utterances: int,
    classes: int,
    keys: int,
    features: int,
    shortest: int,
    longest: int,
    speakers: int,
) -> None:
    given = {"utterances": utterances, "keys": keys, "features": features, "speakers": speakers}
    given |= {"shortest": shortest, "longest": longest}
    for name, value in given.items():
        check_whole(f"synthetic: {name}", value, at_least=1)
    check_whole("synthetic: classes", classes, at_least=2)
    needed = max(SHOWN, keys + 1)
    if not needed <= shortest <= longest:
        raise InputError(
            f"synthetic: shortest={shortest}, longest={longest}: "
            f"expected {needed} (frames that {keys} keys need) <= shortest <= longest"
        )
