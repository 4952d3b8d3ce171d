"""The explorers without a browser: a control moves, the picture and what it says follow."""

from __future__ import annotations

from base64 import b64decode
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
import soundfile

from mmer_lib.corpora import Corpus
from mmer_lib.corpora.media import Extraction, Listing, build_corpus
from mmer_lib.features.base import Clip, Unreadable
from mmer_lib.stats import compare
from mmer_lib.widgets import read_recording, utterance_explorer, verdict_explorer

PAIRS = [("cross-AT", "self-AT"), ("cross-AV", "self-AV")]


@pytest.fixture
def table() -> pd.DataFrame:
    """Five folds x two seeds; cross-AT is ten points ahead, cross-AV level."""
    rng = np.random.default_rng(0)
    gaps = {"self-AT": 0.0, "cross-AT": 0.1, "self-AV": 0.0, "cross-AV": 0.0}
    rows = [
        {"configuration": name, "fold": k, "seed": s, "accuracy": 0.6 + gap + rng.normal(0, 0.01)}
        for name, gap in gaps.items()
        for k in range(5)
        for s in range(2)
    ]
    return pd.DataFrame(rows)


def explorer(table):
    box = verdict_explorer(table, PAIRS, "accuracy")
    pair, margin, confidence, picture, said = box.children
    return pair, margin, confidence, picture, said


def test_it_opens_on_the_verdict_of_the_first_pair(table):
    *_, picture, said = explorer(table)
    verdict = compare(table, *PAIRS[0], "accuracy").verdict
    assert f'data-verdict="{verdict}"' in said.value
    assert bytes(picture.value).startswith(b"\x89PNG")


@pytest.mark.parametrize("margin", [0.5, 2.0, 10.0])
def test_the_margin_moves_the_verdict_as_compare_does(table, margin):
    pair, slider, _, picture, said = explorer(table)
    pair.value = PAIRS[1]
    before = picture.value
    slider.value = margin
    verdict = compare(table, *PAIRS[1], "accuracy", margin=margin / 100).verdict
    assert f'data-verdict="{verdict}" data-margin="{margin:.1f}"' in said.value
    assert picture.value != before


def test_the_confidence_reaches_the_sentence(table):
    _, _, confidence, _, said = explorer(table)
    confidence.value = 80.0
    assert "80 % interval" in said.value


def test_every_control_has_a_label_and_a_class_of_its_own(table):
    controls = explorer(table)[:3]
    assert all(control.description for control in controls)
    assert [c._dom_classes[-1] for c in controls] == ["e2e-pair", "e2e-margin", "e2e-confidence"]


def test_names_from_a_table_are_text_and_not_markup(table):
    table["configuration"] = table["configuration"].replace("cross-AT", "<b>cross-AT")
    *_, said = verdict_explorer(table, [("<b>cross-AT", "self-AT")], "accuracy").children
    assert "<b>" not in said.value
    assert "&lt;b&gt;cross-AT" in said.value


# -- utterances ------------------------------------------------------------------------------------


@pytest.fixture
def tones(tmp_path) -> Corpus:
    """Five utterances of two classes: tones of a second, said to hold two words each."""
    root = tmp_path / "media"
    root.mkdir()
    for i in range(5):
        tone = 0.5 * np.sin(2 * np.pi * 200 * (i + 1) * np.arange(16000) / 16000)
        soundfile.write(root / f"u{i}.wav", tone, 16000)
    ids = [f"u{i}" for i in range(5)]
    spoken = {"id": ids, "start": 0.1, "end": 0.8, "word": [f"<{name}>" for name in ids]}
    pd.DataFrame(spoken).to_csv(root / "words.csv", index=False)
    table = pd.DataFrame({"id": ids, "label": [0, 1, 0, 1, 1], "text": spoken["word"]})
    clips = [Clip(root / f"{name}.wav") for name in ids]
    listing = Listing("tones", ("low", "high"), table, {"audio": clips}, root, portable=True)
    return build_corpus(listing, tmp_path / "corpus", Extraction("logmel", cache=str(tmp_path)))


def test_choosing_a_class_and_an_utterance_shows_reads_and_plays_it(tones):
    kind, place, picture, said = utterance_explorer(tones).children
    before = picture.value
    assert 'data-id="u0" data-class="low"' in said.value
    kind.value = "high"
    place.value = 2
    assert 'data-id="u4" data-class="high"' in said.value
    assert "&lt;u4&gt;" in said.value
    assert picture.value != before
    sound = said.value.split("base64,")[1].split('"')[0]
    heard, rate = soundfile.read(BytesIO(b64decode(sound)))
    assert rate == 16000
    assert np.abs(np.fft.rfft(heard)).argmax() == 1000


def test_the_slider_ends_at_the_last_utterance_of_the_class(tones):
    kind, place, _, said = utterance_explorer(tones).children
    assert place.max == 1
    kind.value = "high"
    assert place.max == 2
    place.value = 2
    kind.value = "low"
    assert (place.value, place.max) == (1, 1)
    assert 'data-id="u2"' in said.value


def test_a_recording_is_read_from_where_the_corpus_says(tones):
    seen = read_recording(tones, 3)
    assert len(seen["waveform"]) == 16000
    assert seen["words"]["word"].tolist() == ["<u3>"]
    assert seen["pictures"] is None
    assert seen["events"] is None


def test_a_medium_that_is_gone_is_told_of(tones):
    tones.clip("audio", 1).path.unlink()
    with pytest.raises(Unreadable, match=r"u1\.wav"):
        read_recording(tones, 1)
