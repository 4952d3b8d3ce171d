"""A corpus in words and small tables, for ``mmer corpus info``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from mmer_lib.errors import printable

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from mmer_lib.corpora import Corpus

BLOCKS = " ▁▂▃▄▅▆▇█"
PLAIN = " .:-=+*#@"  # where a terminal knows no blocks
_BINS = 32
_MANY = 16  # speakers beyond which only a summary is told


def blocks_fit(stream: IO[str]) -> bool:
    """Whether ``stream`` can write block characters."""
    try:
        BLOCKS.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def describe(data: Corpus, folds: int, blocks: bool = True) -> Iterator[str]:
    """The description, a block of lines at a time."""
    yield f"{data.name}: {len(data)} utterances, fingerprint {data.fingerprint}"
    yield _plain(class_counts(data))
    yield groups(data)
    yield _plain(modality_table(data))
    yield histograms(data, BLOCKS if blocks else PLAIN)
    yield recipes(data)
    yield from fold_tables(data, folds)
    if data.notes:
        yield "\n".join(f"note: {printable(note)}" for note in data.notes)


def _plain(table: pd.DataFrame) -> str:
    return table.to_string(index=False)


def class_counts(data: Corpus) -> pd.DataFrame:
    """A row a class."""
    import numpy as np
    import pandas as pd

    counts = np.bincount(data.labels, minlength=len(data.classes))
    shares = [f"{100 * n / len(data):.1f} %" for n in counts]
    return pd.DataFrame({"class": data.classes, "utterances": counts, "share": shares})


def groups(data: Corpus) -> str:
    """How many speakers, dialogues and sessions; utterances of each class a speaker, if few."""
    lines = []
    for column in ("speaker", "dialogue", "session"):
        names = data.known(column)
        if names is None:
            lines.append(f"{column}s: not stated")
            continue
        stated = names[names != ""]
        sizes = sorted(_counts(stated).values())
        blank = f"; {len(names) - len(stated)} utterances name none" * (len(stated) < len(names))
        lines.append(
            f"{column}s: {len(sizes)} with {sizes[0]} to {sizes[-1]} utterances each{blank}"
        )
    table = _speaker_table(data)
    return "\n".join(lines) + ("" if table is None else "\n\n" + table)


def _counts(names: np.ndarray) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return found


def _speaker_table(data: Corpus) -> str | None:
    import numpy as np
    import pandas as pd

    names = data.known("speaker")
    if names is None or len(set(names)) > _MANY:
        return None
    labels = np.array(data.classes, dtype=object)[data.labels]
    table = pd.crosstab(names, pd.Categorical(labels, categories=data.classes), dropna=False)
    return table.rename_axis(index="speaker", columns=None).reset_index().to_string(index=False)


def modality_table(data: Corpus) -> pd.DataFrame:
    """A row a modality; lengths are in frames, of the utterances that have it."""
    import numpy as np
    import pandas as pd

    rows = []
    for modality in data.modalities:
        lengths = data.features[modality].lengths
        there = lengths[lengths > 0]
        quantiles = np.quantile(there, [0, 0.25, 0.5, 0.75, 1]) if len(there) else np.zeros(5)
        rate = data.recipe.get(modality, {}).get("rate")
        rows.append(
            {
                "modality": modality,
                "features": data.features[modality].width,
                "frames a second": "unknown" if rate is None else f"{rate:g}",
                "frames (min, quartiles, max)": " ".join(f"{q:.0f}" for q in quantiles),
                "missing": int((lengths == 0).sum()),
            }
        )
    return pd.DataFrame(rows)


def histograms(data: Corpus, marks: str = BLOCKS) -> str:
    """Lengths of each modality as one line of bars, the tallest bar the commonest length."""
    import numpy as np

    lines = []
    for modality in data.modalities:
        lengths = data.features[modality].lengths
        lengths = lengths[lengths > 0]
        if not len(lengths):
            continue
        low, high = int(lengths.min()), int(lengths.max())
        counts, _ = np.histogram(lengths, min(_BINS, high - low + 1), (low, high + 1))
        lines.append(f"{modality:>8}  {low:>5} {bars(counts, marks)} {high} frames")
    return "lengths, from the shortest to the longest\n" + "\n".join(lines)


def bars(counts: np.ndarray, marks: str = BLOCKS) -> str:
    """One character a count; what is there at all is seen.

    >>> bars([0, 1, 8, 4])
    ' ▁█▄'
    """
    steps = len(marks) - 1
    return "".join(marks[-(-int(n) * steps // max(1, int(max(counts))))] for n in counts)


def recipes(data: Corpus) -> str:
    """How the features were made, and the hashes of what decides a result."""
    lines = []
    for modality in data.modalities:
        about: dict[str, Any] = data.recipe.get(modality, {})
        padded = about.get("padded_length")
        longest = "" if padded is None else f", at most {padded} frames"
        lines.append(f"{modality}: {printable(about.get('features', 'not stated'))}{longest}")
    lines += [f"hash of {part}: {digest}" for part, digest in data.hashes.items()]
    return "\n".join(lines)


def fold_tables(data: Corpus, folds: int) -> Iterator[str]:
    """For each protocol the parts of its folds, the classes of the test parts, and what leaks."""
    import numpy as np
    import pandas as pd

    from mmer_lib.corpora.folds import possible_protocols, worst_leakage

    for protocol in possible_protocols(data, folds):
        made = data.folds(protocol, folds)
        parts = pd.DataFrame(
            {
                "fold": [fold.index + 1 for fold in made],
                "train": [len(fold.train) for fold in made],
                "dev": [len(fold.dev) for fold in made],
                "test": [len(fold.test) for fold in made],
            }
        )
        counts = [np.bincount(data.labels[f.test], minlength=len(data.classes)) for f in made]
        tested = pd.DataFrame(counts, columns=list(data.classes))
        note = f" ({made[0].note})" if made[0].note else ""
        worst = "the one fold" if len(made) == 1 else f"the worst of {len(made)} folds"
        leak = f"{protocol}, {worst}: {worst_leakage(made).sentence()}{note}"
        told = "utterances of each part, and of each class in the test part"
        table = _plain(pd.concat([parts, tested], axis=1))
        yield f"{leak}\n{told}\n{table}"
