"""The cast: who speaks, with which voice, behind which face."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mmer_lib.corpora.staged.face import Shape, shade


@dataclass(frozen=True)
class Person:
    """A speaker: a voice variant of eSpeak NG with its habits, and a face."""

    name: str  # s01, s02, ...
    variant: str  # a voice and a variant, as in en-us+f3
    pitch: float  # semitones above the variant's own pitch
    rate: float  # words a minute when neutral
    shape: Shape


def cast(speakers: int) -> list[Person]:
    """That many people, higher and lower voices in turn: a session has one of each.

    Beyond ten the voices and faces come again, lower, slower and in darker colours.
    """
    people = []
    for i in range(speakers):
        again, who = divmod(i, len(_CAST))
        variant, pitch, rate, shape = _CAST[who]
        shirt, backdrop = (shade(c, 0.8**again) for c in (shape.shirt, shape.backdrop))
        face = replace(shape, shirt=shirt, backdrop=backdrop)
        name, pitch, rate = f"s{i + 1:02d}", pitch - 0.7 * again, rate * 0.98**again
        people.append(Person(name, variant, pitch, rate, face))
    return people


# Voice, semitones, words a minute, and the face: skin, hair, iris, shirt, backdrop, style, ...
_CAST: tuple[tuple[str, float, float, Shape], ...] = (
    (
        "en-us+f2", 0.0, 182,
        Shape((247, 212, 186), (196, 140, 70), (70, 120, 170), (196, 84, 96), (214, 228, 236),
              "long", width=17.6, chin=20.2),
    ),
    (
        "en-us+m3", 0.0, 176,
        Shape((232, 186, 150), (70, 44, 30), (90, 66, 40), (60, 104, 150), (226, 222, 208),
              "short", width=19.4, chin=21.4, brow=2.5),
    ),
    (
        "en+f3", 1.0, 190,
        Shape((150, 100, 72), (34, 24, 24), (60, 38, 26), (226, 176, 60), (206, 222, 208),
              "curls", width=18.2, chin=20.0),
    ),
    (
        "en+m1", -1.0, 170,
        Shape((120, 78, 56), (26, 20, 20), (50, 32, 24), (90, 140, 96), (222, 214, 226),
              "bald", width=18.8, chin=21.2, brow=2.4, beard=True),
    ),
    (
        "en-us+f4", -1.0, 172,
        Shape((238, 198, 160), (30, 26, 32), (64, 44, 34), (120, 90, 160), (230, 226, 204),
              "fringe", width=18.6, chin=19.6),
    ),
    (
        "en-us+m7", 1.0, 186,
        Shape((246, 206, 180), (190, 92, 44), (80, 130, 110), (84, 96, 112), (212, 226, 220),
              "short", width=18.2, chin=21.0, glasses=True),
    ),
    (
        "en+f1", 0.0, 178,
        Shape((226, 178, 140), (96, 60, 40), (110, 84, 40), (70, 150, 150), (234, 216, 210),
              "bun", width=17.8, chin=20.6, glasses=True),
    ),
    (
        "en+m4", 0.5, 182,
        Shape((206, 156, 116), (48, 36, 32), (70, 50, 36), (170, 70, 60), (208, 216, 230),
              "fringe", width=19.6, chin=20.8, brow=2.6),
    ),
    (
        "en-us+f5", -0.5, 186,
        Shape((244, 214, 196), (172, 172, 178), (90, 120, 140), (60, 80, 130), (220, 224, 206),
              "curls", width=18.4, chin=19.8),
    ),
    (
        "en-us+m8", 0.0, 168,
        Shape((236, 196, 168), (206, 180, 110), (76, 120, 160), (96, 130, 70), (228, 214, 224),
              "short", width=18.6, chin=22.0, beard=True),
    ),
)  # fmt: skip
