"""From a release on disk to a verdict without writing code, on a miniature IEMOCAP."""

from __future__ import annotations

import pytest
from miniature_iemocap import write_iemocap

from mmer_lib import cli
from mmer_lib.corpora import load_corpus

SIZES = ["--seeds", "1", "--epochs", "2", "--width", "8", "--heads", "2", "--batch-size", "8"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("iemocap")
    release = write_iemocap(folder)
    features = ["--audio", "logmel,bands=8", "--video", "dct,crop=whole,coefficients=9"]
    options = [*features, "--text", "hashed,size=16", "--cache", str(folder / "cache")]
    assert cli.main(["corpus", "make", "iemocap", str(release), str(folder / "c"), *options]) == 0
    return folder / "c"


def test_the_release_becomes_a_corpus_of_three_modalities_and_five_sessions(corpus):
    data = load_corpus(corpus)
    assert data.modalities == ("audio", "video", "text")
    assert data.utterances["session"].nunique() == 5
    assert all((data.features[m].lengths > 0).all() for m in data.modalities)


def test_one_session_is_left_out_at_a_time_and_a_verdict_is_reached(corpus, tmp_path, capsys):
    store, models = str(tmp_path / "store"), ["--models", "self-AVT", "cross-AVT"]
    folds = ["--protocol", "by-session", "--folds", "5"]
    assert cli.main(["sweep", str(corpus), *models, *folds, *SIZES, "--store", store]) == 0
    capsys.readouterr()
    assert cli.main(["compare", store, "--pairs", "cross-AVT:self-AVT"]) == 0
    told = capsys.readouterr().out
    assert "new sessions like these" in told
