"""What is said: sentences from a small grammar, which know the words that carry their emotion.

A sentence is a *frame* around a *clause*. Clauses tell of something good, bad or plain in everyday
life, a handful for each topic. Frames come in three kinds:

- *own* frames hold words that one emotion alone uses: their emotion can be read;
- *shared* frames fit neighbouring emotions (anger and frustration, happiness and excitement, ...):
  they narrow the choice, no more;
- *plain* frames carry no emotion.

Good and bad clauses are shared as well: anger, sadness and frustration tell of the same mishaps.
In a frame ``{}`` stands for the clause and ``[...]`` marks the words that carry the emotion.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from mmer_lib.errors import unknown


@dataclass(frozen=True)
class Sentence:
    """A text with the characters [from, to) of the words that carry its emotion."""

    text: str
    emotion: str
    spans: tuple[tuple[int, int], ...]  # empty for neutral
    clear: bool  # its words belong to this emotion alone


TOPICS: dict[str, dict[str, tuple[str, ...]]] = {
    "school": {
        "good": ("we passed the test", "the teacher liked my essay", "my project won first prize"),
        "bad": ("I failed the test", "my essay got lost", "they cancelled the school trip"),
        "plain": ("the lesson starts at nine", "the test is on page four", "we read in room two"),
    },
    "football": {
        "good": ("our team won the match", "I scored a goal", "the coach picked me"),
        "bad": ("we lost the final", "somebody took my boots", "the match was called off"),
        "plain": ("practice is on Tuesday", "the match has two halves", "the ball is in the shed"),
    },
    "kitchen": {
        "good": ("the bread came out well", "grandma baked a cake", "dinner is ready early"),
        "bad": ("the soup is burnt", "the cake fell on the floor", "someone ate my lunch"),
        "plain": ("the plates are on the table", "we need some milk", "the oven is set to low"),
    },
    "pets": {
        "good": ("our cat came home", "the puppy learned to sit", "we can keep the kitten"),
        "bad": ("the dog ate my shoe", "our rabbit is ill", "the parrot flew away"),
        "plain": ("the dog sleeps downstairs", "the cat eats at six", "the fish tank holds water"),
    },
    "travel": {
        "good": ("we got the window seats", "the sea is right outside", "the trip is tomorrow"),
        "bad": ("the train left without us", "my bag is gone", "the flight is late"),
        "plain": ("the bus leaves at ten", "the map is in the car", "the hotel has three floors"),
    },
    "music": {
        "good": ("the choir wants me to sing", "our band plays on Friday", "I got the solo"),
        "bad": ("my guitar string broke", "the concert is off", "nobody came to the show"),
        "plain": ("the song has four parts", "choir meets after lunch", "the piano is upstairs"),
    },
    "phone": {
        "good": ("my phone works again", "my cousin called today", "you sent me the photos"),
        "bad": ("my phone fell in the water", "the screen is cracked", "the photos are gone"),
        "plain": ("the charger is by the door", "my number ends in seven", "the phone is on mute"),
    },
    "garden": {
        "good": ("the roses are out", "we picked ripe berries", "the tree house is finished"),
        "bad": ("the frost killed the roses", "somebody cut the tree", "the snails ate it all"),
        "plain": (
            "the hose is behind the wall",
            "the beans grow in rows",
            "the gate opens inwards",
        ),
    },
    "party": {
        "good": ("everybody came to my party", "you brought me a gift", "we danced all night"),
        "bad": ("nobody came to my party", "they forgot my birthday", "the party was ruined"),
        "plain": ("the party begins at eight", "there are twelve chairs", "the cups are in a box"),
    },
    "weather": {
        "good": ("the sun is out again", "it snowed all night", "we can swim in the lake"),
        "bad": ("the storm broke our tent", "it rained on our picnic", "the snow has melted"),
        "plain": ("it is cloudy in the north", "the wind comes from the west", "it is ten degrees"),
    },
    "work": {
        "good": ("I got the job", "the boss thanked us all", "we have the week off"),
        "bad": ("I lost my job", "they changed the plan again", "the printer is broken"),
        "plain": (
            "the meeting is in the hall",
            "the form has two pages",
            "the desk is by the wall",
        ),
    },
    "friends": {
        "good": ("my best friend is back", "you kept your promise", "we are neighbours now"),
        "bad": ("my best friend moved away", "you broke your promise", "they left me out"),
        "plain": ("my friend lives next door", "we walk the same way", "her name starts with an A"),
    },
}

# Emotion -> (which clauses, frames). Every marked word is used by one emotion alone.
OWN: dict[str, tuple[str, tuple[str, ...]]] = {
    "angry": (
        "bad",
        (
            "I am so [angry] that {}!",
            "{}, and I am [furious]!",
            "How [dare] you, {}!",
            "It makes me [mad] that {}!",
            "I am [outraged], {}!",
            "{}, and that is an [insult]!",
        ),
    ),
    "excited": (
        "good",
        (
            "I am so [excited], {}!",
            "[Hooray], {}!",
            "I am [thrilled] that {}!",
            "{}, this is [awesome]!",
            "I could [jump for joy], {}!",
            "[Yes], [yes], {}!",
        ),
    ),
    "happy": (
        "good",
        (
            "I am so [happy] that {}.",
            "It makes me [smile] that {}.",
            "I am [glad] that {}.",
            "How [lovely] that {}.",
            "{}, and I feel [content].",
            "{}, and that [warms my heart].",
        ),
    ),
    "sad": (
        "bad",
        (
            "I am so [sad] that {}.",
            "It makes me [cry] that {}.",
            "{}, and I feel [lonely].",
            "{}, and I am [heartbroken].",
            "I feel [miserable], {}.",
            "With a [heavy heart] I say that {}.",
        ),
    ),
    "frustrated": (
        "bad",
        (
            "I am so [frustrated] that {}.",
            "{}, and I am [fed up].",
            "I keep [trying], but {}.",
            "{}, I am [stuck].",
            "It is [hopeless], {}.",
            "I [give up], {}.",
        ),
    ),
    "surprise": (
        "any",
        (
            "[Wow], {}!",
            "I am [amazed] that {}!",
            "{}, what a [surprise]!",
            "[Oh my], {}?",
            "I am [astonished], {}!",
            "{}, I had [no idea]!",
        ),
    ),
}

# Emotions that share a frame -> (which clauses, frames).
SHARED: dict[tuple[str, ...], tuple[str, tuple[str, ...]]] = {
    ("angry", "frustrated"): ("bad", ("[Not again], {}!", "I have [had enough], {}!")),
    ("excited", "happy"): ("good", ("How [great] that {}!", "{}, [I love it]!")),
    ("frustrated", "sad"): ("bad", ("I [wish] it were not so, {}.", "[Why me], {}.")),
    ("excited", "surprise"): ("good", ("[Guess what], {}!", "I [can't believe it], {}!")),
    ("angry", "surprise"): ("bad", ("[What], {}?", "[Seriously], {}?")),
}

PLAIN = (
    "I think {}.",
    "As you know, {}.",
    "They told me that {}.",
    "{}, as far as I know.",
    "It says here that {}.",
    "By the way, {}.",
    "{}, I suppose.",
    "Today {}.",
)

EMOTIONS = (*OWN, "neutral")  # the seven classes of the paper's IEMOCAP task, in its order


def sentences(emotion: str, topic: str, clear: bool = True) -> list[Sentence]:
    """All sentences of an emotion about a topic; ``clear``: from its own frames, not shared ones.

    Raises ``InputError`` for an unknown emotion or topic.
    """
    if emotion not in EMOTIONS:
        raise unknown("emotion", emotion, EMOTIONS)
    if topic not in TOPICS:
        raise unknown("topic", topic, TOPICS)
    return [
        build(frame, clause, emotion, clear)
        for tone, frames in _frames(emotion, clear)
        for frame in frames
        for clause in _clauses(topic, tone)
    ]


def write(emotion: str, topic: str, clear: bool, rng: np.random.Generator) -> Sentence:
    """One of them at random."""
    choice = sentences(emotion, topic, clear)
    return choice[int(rng.integers(len(choice)))]


def _frames(emotion: str, clear: bool) -> list[tuple[str, tuple[str, ...]]]:
    if emotion == "neutral":
        return [("plain", PLAIN)]
    if clear:
        return [OWN[emotion]]
    return [frames for group, frames in SHARED.items() if emotion in group]


def _clauses(topic: str, tone: str) -> tuple[str, ...]:
    clauses = TOPICS[topic]
    return clauses["good"] + clauses["bad"] if tone == "any" else clauses[tone]


def build(frame: str, clause: str, emotion: str, clear: bool = True) -> Sentence:
    """A frame around a clause: brackets become spans, the first letter a capital.

    >>> build("I am so [glad] that {}.", "we won", "happy").spans
    ((8, 12),)
    """
    marked = frame.replace("{}", clause)
    text, spans = "", []
    for piece in re.split(r"(\[[^]]*\])", marked):
        words = piece.strip("[]")
        if piece.startswith("["):
            spans.append((len(text), len(text) + len(words)))
        text += words
    return Sentence(text[0].upper() + text[1:], emotion, tuple(spans), clear)
