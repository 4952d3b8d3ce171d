"""Synthetic pairing: what is joined, what is independent, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmer_lib.corpora import Corpus, Ragged
from mmer_lib.corpora.paired import ALIASES, class_name, paired
from mmer_lib.errors import InputError

SOURCES: dict[str, tuple[str, tuple[str, ...], list[int]]] = {
    # modality -> name, classes, utterances of each class
    "audio": ("voices", ("neutral", "calm", "happy", "sad", "angry"), [6, 4, 5, 3, 4]),
    "video": ("faces", ("anger", "happiness", "neutral", "sadness"), [3, 7, 5, 9]),
    "text": ("lines", ("joy", "sadness", "neutral", "anger", "fear"), [8, 2, 9, 6, 4]),
}
SMALLEST = {"angry": 3, "happy": 5, "neutral": 5, "sad": 2}


def source(modality: str) -> Corpus:
    """Frames hold the row and the class, so that an utterance can be followed."""
    name, classes, sizes = SOURCES[modality]
    labels = np.repeat(np.arange(len(classes)), sizes)
    n = len(labels)
    table = pd.DataFrame(
        {
            "id": [f"{name}-{i}" for i in range(n)],
            "label": labels,
            "speaker": [f"{name}-speaker-{i % 4}" for i in range(n)],
            "dialogue": [f"{name}-dialogue-{i % 5}" for i in range(n)],
            "text": [f"{name} say {i}" for i in range(n)],
            "split": "train",
        }
    )
    frames = [np.full((1 + i % 3, 2), i, np.float32) for i in range(n)]
    features = {modality: Ragged.from_list(frames, 2)}
    return Corpus(name, classes, table, features, {modality: {"features": name, "rate": None}})


@pytest.fixture
def folders(tmp_path) -> dict[str, str]:
    return {m: str(source(m).save(tmp_path / m)) for m in SOURCES}


def test_an_utterance_is_made_of_recordings_of_its_class(folders):
    made = paired(**folders)
    for modality in SOURCES:
        corpus = source(modality)
        rows = [corpus.find(name) for name in made.utterances[f"{modality}_id"]]
        given = [class_name(corpus.classes[label]) for label in corpus.labels[rows]]
        assert given == [made.classes[label] for label in made.labels]
        for row, frames in zip(rows, made.features[modality], strict=True):
            np.testing.assert_array_equal(frames, corpus.features[modality][row])


def test_a_class_has_as_many_utterances_as_the_smallest_source_each_used_once(folders):
    made = paired(**folders)
    counts = dict(zip(made.classes, np.bincount(made.labels).tolist(), strict=True))
    assert counts == SMALLEST
    for modality in SOURCES:
        assert made.utterances[f"{modality}_id"].is_unique


def test_speakers_are_of_the_audio_and_words_of_the_text(folders):
    made = paired(**folders).utterances
    voices, lines = source("audio").utterances, source("text").utterances
    assert (
        made["speaker"].tolist() == voices.set_index("id").loc[made["audio_id"], "speaker"].tolist()
    )
    for column in ("dialogue", "text"):
        told = lines.set_index("id").loc[made["text_id"], column].tolist()
        assert made[column].tolist() == told
    assert "split" not in made


def test_the_name_and_the_notes_say_what_it_is(folders):
    made = paired(**folders)
    assert made.name == "synthetic pairing of voices, faces and lines"
    assert made.notes[0].startswith("Synthetic pairing of real recordings")
    assert "audio of voices: 15 of 22 utterances used; classes left out: calm (4)." in made.notes
    assert "text of lines: 15 of 29 utterances used; classes left out: fearful (4)." in made.notes


def test_two_sources_are_enough(folders):
    made = paired(audio=folders["audio"], video=folders["video"])
    assert made.modalities == ("audio", "video")
    assert made.name == "synthetic pairing of voices and faces"
    assert "text" not in made.utterances


def test_the_seed_decides_and_another_partner_leaves_the_draw_as_it_is(folders):
    first, again, other = (paired(**folders, seed=seed) for seed in (1, 1, 2))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    alone = paired(audio=folders["audio"], text=folders["text"], seed=1).utterances
    happy = first.utterances[first.labels == first.classes.index("happy")]
    # happy is 5 of the audio whoever the partners are
    assert happy["audio_id"].tolist() == alone.loc[alone["label"] == 1, "audio_id"].tolist()


def test_modalities_are_independent_given_the_label(folders):
    """Over many seeds every pair of recordings of a class is drawn equally often."""
    counts = np.zeros((4, 6))
    voices, lines = source("audio"), source("text")
    angry = {m: [c.find(i) for i in c.utterances["id"][c.labels == k]]
             for m, c, k in (("audio", voices, 4), ("text", lines, 3))}  # fmt: skip
    for seed in range(200):
        made = paired(audio=folders["audio"], text=folders["text"], seed=seed).utterances
        for row in made[made["label"] == 0].itertuples():
            voice, line = voices.find(row.audio_id), lines.find(row.text_id)
            counts[angry["audio"].index(voice), angry["text"].index(line)] += 1
    expected = counts.sum() / counts.size  # 4 pairs a seed on 24 cells
    assert counts.sum() == 200 * 4
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_an_utterance_without_the_modality_is_not_drawn(tmp_path, folders):
    corpus = source("audio")
    frames = list(corpus.features["audio"])
    lost = int(np.flatnonzero(corpus.labels == 3)[0])  # one of three sad ones
    frames[lost] = frames[lost][:0]
    corpus.features["audio"] = Ragged.from_list(frames, 2)
    audio = str(corpus.save(tmp_path / "with-gaps"))
    made = paired(audio=audio, video=folders["video"])
    assert (made.labels == made.classes.index("sad")).sum() == 2
    assert corpus.utterances["id"][lost] not in set(made.utterances["audio_id"])


@pytest.mark.parametrize(
    ("given", "name"),
    [("Joy", "happy"), ("anger", "angry"), ("fear", "fearful"), ("surprise", "surprised"),
     ("Sadness", "sad"), ("excited", "excited"), ("frustrated", "frustrated")],
)  # fmt: skip
def test_names_of_classes_are_compared_by_what_they_mean(given, name):
    assert class_name(given) == name


def test_no_name_means_two_classes():
    names = [name for given in ALIASES.values() for name in given]
    assert len(names) == len(set(names))
    assert all(one in given for one, given in ALIASES.items())


def refused(*words: str, **options) -> None:
    with pytest.raises(InputError) as caught:
        paired(**options)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_what_cannot_be_paired_is_refused(tmp_path, folders):
    refused("0 corpus folders given; at least two")
    refused("1 corpus folders given", audio=folders["audio"])
    refused("has no video", audio=folders["audio"], video=folders["text"])
    refused("is not a corpus folder", audio=folders["audio"], text=str(tmp_path))
    refused("seed=-1", seed=-1, **folders)


def test_sources_that_share_no_classes_are_refused_with_what_they_have(tmp_path, folders):
    corpus = source("text")
    other = Corpus(
        "other", ("up", "down", "charm", "joy", "odd"), corpus.utterances, corpus.features
    )
    folder = str(other.save(tmp_path / "other"))
    refused("1 shared classes", "charm, down, happy, odd, up", audio=folders["audio"], text=folder)


def test_a_pairing_can_be_saved_and_opened(tmp_path, folders):
    from mmer_lib.corpora.folder import read_corpus

    made = paired(**folders)
    assert read_corpus(Path(made.save(tmp_path / "pairs"))).fingerprint == made.fingerprint
