"""Who says what, and what voice, face and words show: the truth of a staged corpus.

Two people at a time (a *session*) talk in scenes of some lines about one topic. Each line has a
label. It is *congruent* (voice, face and words express it) or *sarcasm* (voice and face do, the
words say another emotion). What a modality is to express it shows clearly with the probability
``clarity``; else it shows nothing (neutral) or only a weak form, half and half. At least one of the
modalities that carry the label is clear, so that every line can be solved, but not from every
modality.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mmer_lib.corpora.base import MODALITIES, blake2b
from mmer_lib.corpora.staged.expression import FACES
from mmer_lib.corpora.staged.people import Person, cast
from mmer_lib.corpora.staged.script import EMOTIONS, TOPICS, Sentence, write
from mmer_lib.corpora.staged.voice import MANNERS
from mmer_lib.errors import check_number, check_whole
from mmer_lib.features.text import words

KINDS = ("congruent", "sarcasm")
VERSION = 1  # raised when the code makes other media of the same plan
LINES = (5, 9)  # of a scene: at least, at most
WEAK = 0.4  # of the full strength
_PLEASANT, _UNPLEASANT = ("excited", "happy"), ("angry", "sad", "frustrated")


@dataclass(frozen=True)
class Staging:
    """The options of a staged corpus. Raises ``InputError`` for one outside its range."""

    utterances: int = 700
    speakers: int = 10
    congruence: float = 1.0  # share of lines whose words say what voice and face express
    clarity: float = 0.8  # probability that a modality shows clearly what it is to express
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole("staged: utterances", self.utterances, at_least=1)
        check_whole("staged: speakers", self.speakers, at_least=1, at_most=99)
        for name in ("congruence", "clarity"):
            given = getattr(self, name)
            check_number(f"staged: {name}", given, lambda x: 0 <= x <= 1, "a share in [0, 1]")
        check_whole("staged: seed", self.seed, at_least=0)

    @property
    def digest(self) -> str:
        """16 hex digits: equal where the media are equal."""
        people = [repr(person) for person in cast(self.speakers)]
        lines = [repr(line) for line in plan(self)]
        return blake2b(repr((VERSION, MANNERS, FACES, people, lines)).encode())


@dataclass(frozen=True)
class Line:
    """An utterance as planned; ``emotion`` and ``strength`` are by modality."""

    id: str
    label: str
    speaker: str
    dialogue: str
    session: str
    topic: str
    kind: str  # one of KINDS
    sentence: Sentence
    emotion: dict[str, str]  # what each modality shows
    strength: dict[str, float]  # how much: 0 .. 1
    force: float  # how strongly the speaker feels: the strength of a clear modality
    stressed: tuple[int, int] | None  # characters that the voice stresses
    apex: float  # when the face is fullest, as a share of the duration
    drift: tuple[float, float, float]  # of this line's pitch (semitones), rate (factor), dB
    seed: int  # of the noise in voice and face


def plan(staging: Staging) -> list[Line]:
    """All lines, scene by scene."""
    rng = np.random.default_rng(staging.seed)
    n = staging.utterances
    labels = rng.permutation(np.resize(EMOTIONS, n))
    sarcasms = round((1 - staging.congruence) * n)
    kinds = rng.permutation([KINDS[1]] * sarcasms + [KINDS[0]] * (n - sarcasms))
    lines: list[Line] = []
    scene = 0
    while len(lines) < n:
        scene += 1
        many = min(int(rng.integers(LINES[0], LINES[1] + 1)), n - len(lines))
        session, pair = _session(scene, staging.speakers)
        topic = str(rng.choice(list(TOPICS)))
        for turn in range(many):
            speaker = pair[turn % len(pair)]
            i = len(lines)
            place = {
                "id": f"scene{scene:03d}_{turn + 1:02d}_{speaker.name}",
                "speaker": speaker.name,
                "dialogue": f"scene{scene:03d}",
                "session": session,
                "topic": topic,
            }
            lines.append(_line(rng, place, str(labels[i]), str(kinds[i]), staging.clarity))
    return lines


def _session(scene: int, speakers: int) -> tuple[str, list[Person]]:
    """Scenes go round the sessions; a session is two people (one, if their number is odd)."""
    people = cast(speakers)
    number = (scene - 1) % ((speakers + 1) // 2)
    return f"session{number + 1}", people[2 * number : 2 * number + 2]


def _line(
    rng: np.random.Generator, place: dict[str, Any], label: str, kind: str, clarity: float
) -> Line:
    said = _another(rng, label) if kind == "sarcasm" else label
    force = float(rng.uniform(0.75, 1.0))
    levels = _levels(rng, kind, clarity)
    emotion, strength = {}, {}
    for modality, level in levels.items():
        meant = said if modality == "text" else label
        emotion[modality] = meant if level else "neutral"
        strength[modality] = force * level if emotion[modality] != "neutral" else 0.0
    sentence = write(emotion["text"], place["topic"], levels["text"] == 1, rng)
    return Line(
        **place,
        label=label,
        kind=kind,
        sentence=sentence,
        emotion=emotion,
        strength=strength,
        force=force,
        stressed=_stressed(rng, sentence) if strength["audio"] else None,
        apex=float(rng.uniform(0.3, 0.7)),
        drift=(float(rng.normal(0, 0.7)), float(np.exp(rng.normal(0, 0.04))), float(rng.normal())),
        seed=int(rng.integers(2**31)),
    )


def _levels(rng: np.random.Generator, kind: str, clarity: float) -> dict[str, float]:
    """1 (clear), WEAK or 0 (nothing) for each modality."""
    levels = {}
    for modality in MODALITIES:
        clear, weak = rng.random(2)
        levels[modality] = 1.0 if clear < clarity else WEAK if weak < 0.5 else 0.0
    if kind == "sarcasm":
        levels["text"] = 1.0  # or it would be none
    carriers = MODALITIES if kind == "congruent" else ("audio", "video")
    saved = str(rng.choice(carriers))
    if not any(levels[m] == 1 for m in carriers):
        levels[saved] = 1.0
    return levels


def _another(rng: np.random.Generator, label: str) -> str:
    """What the words of sarcasm say: an emotion of the other side, as far as there are sides."""
    if label in _UNPLEASANT:
        return str(rng.choice(_PLEASANT))
    if label in _PLEASANT:
        return str(rng.choice(_UNPLEASANT))
    return str(rng.choice([e for e in EMOTIONS if e not in (label, "neutral")]))


def _stressed(rng: np.random.Generator, sentence: Sentence) -> tuple[int, int]:
    """The words that carry the emotion; where none does, the longest word or a neighbour."""
    if sentence.spans:
        return sentence.spans[int(rng.integers(len(sentence.spans)))]
    spans = sorted(words(sentence.text), key=lambda span: span[0] - span[1])
    return spans[int(rng.integers(min(2, len(spans))))]


def describe(line: Line) -> dict[str, Any]:
    """A line as a row of the table: what is known of it, the truth included."""
    truth: dict[str, Any] = {f"emotion_{m}": line.emotion[m] for m in MODALITIES}
    truth |= {f"strength_{m}": round(line.strength[m], 4) for m in MODALITIES}
    known = {
        name: value
        for name, value in asdict(line).items()
        if name in ("id", "label", "speaker", "dialogue", "session", "topic", "kind")
    }
    return {**known, "strength": round(line.force, 4), **truth}
