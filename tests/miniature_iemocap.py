"""A little IEMOCAP: the layout, names and file formats of the full release, invented contents.

A session has two dialogues, one in which the woman wears the markers and one in which the man
does; an utterance of each code in ``codes`` in each. The sound of an utterance is a tone. In the
picture the wearer of the markers is red on the left, the other one blue on the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

CODES = ("ang", "exc", "hap", "sad", "fru", "sur", "neu", "xxx")
WORDS = {
    "ang": "Anger", "exc": "Excited", "hap": "Happiness", "sad": "Sadness", "fru": "Frustration",
    "sur": "Surprise", "neu": "Neutral", "fea": "Fear", "dis": "Disgust", "oth": "Other",
}  # fmt: skip
WORN = {"impro01": "F", "script01_1": "M"}  # dialogue -> who wears the markers
SECONDS, PAUSE = 0.3, 0.1  # of an utterance, between two
PICTURES = 10  # a second
RED, BLUE = (200, 30, 30), (30, 30, 200)


def write_iemocap(
    folder: Path,
    sessions: Sequence[int] = (1, 2, 3, 4, 5),
    codes: Sequence[str] = CODES,
    video: bool = True,
    audio: bool = True,
    transcripts: bool = True,
) -> Path:
    """Write the release below ``folder`` and return its own folder, ``IEMOCAP_full_release``."""
    root = folder / "IEMOCAP_full_release"
    for number in sessions:
        session = root / f"Session{number}"
        for setting, letter in WORN.items():
            dialogue = f"Ses{number:02d}{letter}_{setting}"
            utterances = name_utterances(dialogue, codes)
            write_labels(session, dialogue, utterances)
            if transcripts:
                write_transcript(session, dialogue, utterances)
            if audio:
                write_sounds(session, dialogue, utterances)
            if video:
                write_film(session / "dialog" / "avi" / "DivX" / f"{dialogue}.avi", len(codes))
    return root


def name_utterances(dialogue: str, codes: Sequence[str]) -> dict[str, str]:
    """id -> code: the woman and the man in turn."""
    return {f"{dialogue}_{'FM'[i % 2]}{i // 2:03d}": code for i, code in enumerate(codes)}


def times(place: int) -> tuple[float, float]:
    """Start and end of the utterance at this place of its dialogue, in seconds."""
    start = PAUSE + place * (SECONDS + PAUSE)
    return start, start + SECONDS


def write_labels(session: Path, dialogue: str, utterances: dict[str, str]) -> None:
    """As in the release: first all that she says, then all that he says."""
    order = sorted(enumerate(utterances.items()), key=lambda item: item[1][0])
    blocks = [label_block(name, code, *times(place)) for place, (name, code) in order]
    text = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n" + "\n".join(blocks)
    write(session / "dialog" / "EmoEvaluation" / f"{dialogue}.txt", text.encode())
    # What raters wrote one by one lies in folders beside, under names that begin alike.
    apart = session / "dialog" / "EmoEvaluation" / "Categorical"
    write(apart / f"{dialogue}_e1_cat.txt", f"{dialogue}_F000 :Neutral state; ()\n".encode())


def label_block(name: str, code: str, start: float, end: float) -> str:
    """Two of three raters say the label; the actor says something else."""
    said = WORDS.get(code, "Neutral")
    others = ("Anger", "Sadness") if code == "xxx" else (f"{said}; Other", "Neutral; Fear")
    third = "Sadness" if code == "neu" else others[1]
    actor = f"{name.rpartition('_')[2][0]}1"
    return (
        f"[{start:.4f} - {end:.4f}]\t{name}\t{code}\t[2.5000, 3.0000, 3.5000]\n"
        f"C-E1:\t{said};\t()\n"
        f"C-E2:\t{others[0]};\t(tense, a little {said.lower()})\n"
        f"C-E4:\t{third};\t()\n"
        f"C-{actor}:\tSurprise;\t()\n"
        f"A-E1:\tval 2; act 3; dom  3;\t()\n"
        f"A-E2:\tval 3; act 3; dom  4;\t(calm)\n"
        f"A-{actor}:\tval 5; act ; dom  1;\t()\n"
    )


def write_transcript(session: Path, dialogue: str, utterances: dict[str, str]) -> None:
    lines = [
        f"{name} [{start:08.4f}-{end:08.4f}]: {sentence(name)}"
        for place, name in enumerate(utterances)
        for start, end in [times(place)]
    ]
    text = "\n".join(lines) + "\n"
    write(session / "dialog" / "transcriptions" / f"{dialogue}.txt", text.encode())


def sentence(name: str) -> str:
    """What is said in an utterance."""
    return f"This is what {name.rpartition('_')[2]} says."


def write_sounds(session: Path, dialogue: str, utterances: dict[str, str]) -> None:
    import soundfile

    folder = session / "sentences" / "wav" / dialogue
    folder.mkdir(parents=True, exist_ok=True)
    clock = np.arange(int(SECONDS * 16000)) / 16000
    for place, name in enumerate(utterances):
        tone = 0.3 * np.sin(2 * np.pi * (120 + 40 * place) * clock)
        soundfile.write(folder / f"{name}.wav", tone, 16000, subtype="PCM_16")


def write_film(file: Path, utterances: int) -> None:
    """Two people side by side, 96 x 64 in all, for as long as the dialogue goes on."""
    import av

    file.parent.mkdir(parents=True, exist_ok=True)
    picture = np.empty((64, 96, 3), np.uint8)
    picture[:, :48], picture[:, 48:] = RED, BLUE
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=PICTURES)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(int(PICTURES * (times(utterances - 1)[1] + PAUSE)) + 1):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
