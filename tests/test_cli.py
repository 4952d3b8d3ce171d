"""The command line: what is printed, and one line with status 2 for every mistake."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from forge import reseal
from real_data import real_data

from mmer_lib import book, cli, pipeline
from mmer_lib.cli.describe import PLAIN, blocks_fit, histograms
from mmer_lib.cli.shell import repeat_flags
from mmer_lib.cli.tables import score_table
from mmer_lib.corpora import CORPORA, Corpus, Ragged, load_corpus
from mmer_lib.corpora.folds import worst_leakage
from mmer_lib.errors import InputError
from mmer_lib.features.registry import EXTRACTORS
from mmer_lib.integrity import spec_key
from mmer_lib.store import ResultStore

SIZES = ["--epochs", "2", "--width", "8", "--heads", "2", "--seeds", "1", "--folds", "3"]
COMMANDS = [
    [], ["study"], ["corpus"], ["corpus", "make"], ["corpus", "info"], ["corpus", "list"],
    ["sweep"], ["compare"], ["store"], ["store", "list"], ["store", "verify"], ["store", "repair"],
    ["plan"], ["notebooks"], ["book"], ["bench"], ["doctor"],
]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """A corpus folder of 60 utterances, three classes."""
    folder = tmp_path_factory.mktemp("corpora") / "small"
    return load_corpus("synthetic", utterances=60, classes=3, features=4).save(folder)


@pytest.fixture(scope="module")
def store(corpus, tmp_path_factory) -> Path:
    """What a sweep of three configurations over three folds left."""
    folder = tmp_path_factory.mktemp("stores") / "store"
    models = ["--models", "self-AT", "cross-AT", "self-T"]
    assert cli.main(["sweep", str(corpus), *models, *SIZES, "--store", str(folder)]) == 0
    return folder


@pytest.fixture
def mistake(capsys):
    """Runs arguments that are wrong, and gives the one line that says so."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        assert cli.main([str(a) for a in arguments]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        (line,) = told.err.splitlines()
        assert line.startswith("mmer: ")
        return line

    return run


# -- the command itself ----------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_ends_with_an_example_of_its_command(command, capsys):
    assert cli.main([*command, "--help"]) == 0
    *_, heading, example = capsys.readouterr().out.rstrip().splitlines()
    assert heading.strip() == "Example:"
    assert example.strip().startswith(" ".join(["mmer", *command]))


def test_the_command_alone_shows_its_help(capsys):
    assert cli.main([]) == 0
    assert "study" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["studdy"], "No such command 'studdy'"),
        (["study", "now"], "unexpected extra argument"),
        (["sweep", "synthetic"], "Missing option '--store'. See `mmer sweep --help`"),
        (["corpus", "info"], "See `mmer corpus info --help`"),
        (["compare", "x", "--margin", "wide"], "Invalid value for '--margin'"),
    ],
)
def test_a_wrong_use_is_told_in_one_line(mistake, arguments, told):
    assert told in mistake(*arguments)


def test_several_values_may_follow_one_flag():
    given = ["sweep", "x", "--models", "a", "b", "--folds", "5", "--set", "c=1", "d=2", "--json"]
    assert repeat_flags(given) == [
        "sweep", "x", "--models", "a", "--models", "b", "--folds", "5",
        "--set", "c=1", "--set", "d=2", "--json",
    ]  # fmt: skip


def test_a_defect_keeps_its_traceback(monkeypatch):
    def broken(*_: object, **options: object) -> None:
        raise KeyError("a defect of ours")

    monkeypatch.setattr(pipeline, "run_study", broken)
    with pytest.raises(KeyError):
        cli.main(["study"])


def test_what_is_noted_beside_a_mistake_is_told_in_lines_of_their_own(monkeypatch, capsys):
    def refused(*_: object, **options: object) -> None:
        error = InputError("two workers are other:")
        error.add_note("tcp://a: torch 1")
        error.add_note("tcp://b: torch 2")
        raise error

    monkeypatch.setattr(pipeline, "run_study", refused)
    assert cli.main(["study"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told == ["mmer: two workers are other:", "  tcp://a: torch 1", "  tcp://b: torch 2"]


def test_ctrl_c_ends_with_a_line_that_says_how_to_go_on(monkeypatch, capsys):
    def stopped(*_: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run_study", stopped)
    assert cli.main(["study"]) == 130
    told = capsys.readouterr().err
    assert told.startswith("mmer: stopped: 0 notebooks are finished in runs/quick, trained models")


def test_a_reader_who_leaves_early_sees_no_traceback():
    command = f"{sys.executable} -m mmer_lib.cli corpus list | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("synthetic: ")
    assert done.stderr == ""


# -- study -----------------------------------------------------------------------------------------


def test_a_notebook_that_fails_is_one_line_and_status_1(monkeypatch, capsys):
    def failing(*_: object, **options: object) -> None:
        raise pipeline.StudyError("03_training, cell 4: ValueError: no")

    monkeypatch.setattr(pipeline, "run_study", failing)
    assert cli.main(["study"]) == 1
    assert capsys.readouterr().err == (
        "mmer: 03_training, cell 4: ValueError: no. 0 notebooks are finished in runs/quick, "
        "trained models are in their store; the same command goes on\n"
    )


def test_a_study_is_given_what_was_asked_and_says_where_to_look(monkeypatch, tmp_path, capsys):
    asked = []

    def run_study(*arguments: object, **options: object) -> pipeline.Study:
        asked.append((*arguments, options["jobs"], options["fresh"]))
        return pipeline.Study(tmp_path, [], tmp_path / "figures", tmp_path / "store", None)

    def build_book(run: Path, figures: Path) -> book.Book:
        return book.Book(run / "book", [run / "book" / "index.html"])

    monkeypatch.setattr(pipeline, "run_study", run_study)
    monkeypatch.setattr(book, "build_book", build_book)
    monkeypatch.chdir(tmp_path)
    arguments = ["--profile", "ci", "--set", "03.a=1", "*.b=2", "--only", "03", "05", "--out", "x"]
    assert cli.main(["study", *arguments]) == 0
    assert asked == [("ci", ["03.a=1", "*.b=2"], ["03", "05"], Path("x"), False, 2, False)]
    printed = capsys.readouterr().out.split()
    assert {"book/index.html", "notebooks", "figures", "store"} <= set(printed)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("03.seed=3", "unknown parameter of 03_training: 'seed': did you mean 'seeds'?"),
        ("03.protocol=randon", "did you mean 'random'?"),
        ("*.corpus=sintetic", "did you mean 'synthetic'?"),
        ("03.epochs=many", "a whole number expected"),
    ],
)
def test_a_wrong_setting_of_the_real_notebooks_is_told_before_they_run(
    mistake, setting, told, tmp_path
):
    assert told in mistake("study", "--set", setting, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


# -- corpus ----------------------------------------------------------------------------------------


def test_corpus_list_names_every_source_with_its_options(capsys):
    assert cli.main(["corpus", "list"]) == 0
    listed = capsys.readouterr().out
    for line in ("make synthetic DEST", "make processed SOURCE DEST", "cross_binding=0.5"):
        assert line in listed


def test_a_corpus_is_made_with_options_and_told_of(tmp_path, capsys):
    made = tmp_path / "made"
    options = ["--set", "utterances=30", "classes=3"]
    assert cli.main(["corpus", "make", "synthetic", str(made), *options]) == 0
    assert f"{made}: 30 utterances, audio, video, text" in capsys.readouterr().out
    assert len(load_corpus(made)) == 30


def test_a_corpus_is_made_from_its_source(tmp_path, capsys):
    made = tmp_path / "made"
    source = real_data("mosi/mosi.npz")
    assert cli.main(["corpus", "make", "mosi", str(source), str(made), "--set", "context=1"]) == 0
    assert "2199 utterances" in capsys.readouterr().out
    assert load_corpus(made).features["text"].lengths.max() == 3


def test_a_source_that_streams_is_given_its_destination(monkeypatch, tmp_path, corpus):
    asked = []

    def streaming(path: str, dest: str, keep: bool = True) -> Corpus:
        asked.append((path, dest, keep))
        return load_corpus(corpus)

    monkeypatch.setitem(CORPORA, "streaming", streaming)
    made = tmp_path / "made"
    assert cli.main(["corpus", "make", "streaming", "s", str(made), "--set", "keep=false"]) == 0
    assert asked == [("s", made, False)]
    assert not made.exists(), "it was for the source to write"


def test_a_source_that_cannot_be_read_is_told_and_leaves_nothing(mistake, tmp_path):
    (tmp_path / "features.npz").touch()
    assert "features.npz" in mistake(
        "corpus", "make", "mosi", tmp_path / "features.npz", tmp_path / "made"
    )
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["sintetic", "d"], "did you mean 'synthetic'?"),
        (["synthetic", "s", "d"], "1 place expected: `mmer corpus make synthetic DEST`"),
        (["mosi", "d"], "2 places expected: `mmer corpus make mosi SOURCE DEST`"),
        (["mosi", "nowhere.npz", "d"], "nowhere.npz"),
        (["synthetic", "d", "--set", "utterence=3"], "did you mean 'utterances'?"),
        (["synthetic", "d", "--set", "utterances=x"], "not a whole number"),
        (["synthetic", "d", "--set", "utterances"], "write OPTION=VALUE"),
        (["mosi", "s", "d", "--set", "path=x"], "it has its own place"),
    ],
)
def test_a_corpus_that_cannot_be_made_leaves_nothing(
    mistake, arguments, told, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert told in mistake("corpus", "make", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_is_never_written_over_another(mistake, corpus):
    before = sorted(corpus.iterdir())
    assert "already exists" in mistake("corpus", "make", "synthetic", corpus)
    assert sorted(corpus.iterdir()) == before


def test_corpus_info_tells_classes_lengths_and_leaks(corpus, capsys):
    assert cli.main(["corpus", "info", str(corpus), "--folds", "3"]) == 0
    told = capsys.readouterr().out
    data = load_corpus(corpus)
    assert f"60 utterances, fingerprint {data.fingerprint}" in told
    assert "speakers: 10 with" in told
    for protocol in ("random", "by-speaker", "by-dialogue"):
        leak = worst_leakage(data.folds(protocol, 3)).sentence()
        assert f"{protocol}, the worst of 3 folds: {leak}" in told
    for part, digest in data.hashes.items():
        assert f"hash of {part}: {digest}" in told


def test_corpus_info_counts_classes_in_every_speaker_and_fold(corpus, capsys):
    assert cli.main(["corpus", "info", str(corpus), "--folds", "3"]) == 0
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    data = load_corpus(corpus)
    for speaker, rows in data.utterances.groupby("speaker"):
        counts = np.bincount(rows["label"], minlength=len(data.classes))
        assert [speaker, *map(str, counts)] in told
    for fold in data.folds("by-speaker", 3):
        sizes = [fold.index + 1, len(fold.train), len(fold.dev), len(fold.test)]
        counts = np.bincount(data.labels[fold.test], minlength=len(data.classes))
        assert [*map(str, sizes), *map(str, counts)] in told


def test_corpus_info_draws_lengths_as_bars():
    lengths = [5] * 4 + [6] * 2 + [9]
    sequences = [np.zeros((n, 1), np.float32) for n in lengths]
    table = pd.DataFrame({"id": map(str, range(7)), "label": [0, 1, 0, 1, 0, 1, 0]})
    data = Corpus("x", ("a", "b"), table, {"text": Ragged.from_list(sequences, 1)})
    assert "text      5 █▄  ▂ 9 frames" in histograms(data)
    assert "text      5 @=  : 9 frames" in histograms(data, PLAIN)


@pytest.mark.parametrize(("encoding", "fit"), [("utf-8", True), ("ascii", False), (None, False)])
def test_blocks_are_drawn_only_where_the_terminal_knows_them(encoding, fit):
    class Stream:
        pass

    stream = Stream()
    stream.encoding = encoding
    assert blocks_fit(stream) is fit


# -- features from media ---------------------------------------------------------------------------


@pytest.fixture
def recordings(tmp_path) -> Path:
    """A manifest of four tones with lines; the last file is cut off."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for i in range(4):
        tone = 0.3 * np.sin(2 * np.pi * 200 * (i + 1) * np.arange(8000) / 16000)
        soundfile.write(folder / f"{i}.wav", tone, 16000)
    cut = folder / "3.wav"
    cut.write_bytes(cut.read_bytes()[:-9000])
    rows = [f"{i}.wav,line number {i},{'ab'[i % 2]}" for i in range(4)]
    (folder / "all.csv").write_text("\n".join(["audio,text,label", *rows]))
    return folder / "all.csv"


def make_recordings(recordings: Path, dest: Path, *more: str) -> list[str]:
    return ["corpus", "make", "manifest", str(recordings), str(dest), "--cache",
            str(dest.parent / "cache"), *more]  # fmt: skip


def test_corpus_make_takes_features_by_name_and_tells_what_could_not_be_read(
    recordings, tmp_path, capsys
):
    features = ["--audio", "logmel,bands=8", "--text", "hashed,size=16", "--jobs", "2"]
    assert cli.main(make_recordings(recordings, tmp_path / "corpus", *features)) == 0
    assert "1 of 4 clips could not be read" in capsys.readouterr().out
    corpus = load_corpus(tmp_path / "corpus")
    assert corpus.widths == {"audio": 8, "text": 16}
    assert corpus.features["audio"].lengths[3] == 0


def test_corpus_make_strict_stops_at_the_first_unreadable_file(recordings, tmp_path, mistake):
    told = mistake(*make_recordings(recordings, tmp_path / "corpus", "--strict"))
    assert "3.wav" in told
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--audio", "mfc"], "did you mean 'mfcc'"),
        (["--video", "dct"], "has no video"),
        (["--jobs", "0"], "jobs=0"),
        (["--set", "audio=mfcc", "--audio", "mfcc"], "say it once"),
        (["--text", "hf:nobody/nothing-at-all"], "nobody/nothing-at-all"),
    ],
)
def test_features_that_cannot_be_made_are_told_of(recordings, tmp_path, mistake, more, told):
    assert told in mistake(*make_recordings(recordings, tmp_path / "corpus", *more))
    assert not (tmp_path / "corpus").exists()


def test_features_of_a_source_that_has_them_finished_are_refused(mistake, tmp_path):
    told = mistake("corpus", "make", "synthetic", tmp_path / "corpus", "--audio", "mfcc")
    assert "--audio: synthetic takes no such option" in told


def test_corpus_features_lists_every_extractor(capsys):
    assert cli.main(["corpus", "features"]) == 0
    told = capsys.readouterr().out
    for name in (name for kinds in EXTRACTORS.values() for name in kinds):
        assert f"  {name}: " in told


def test_corpus_info_of_something_else_is_told(mistake, tmp_path):
    assert "not a corpus folder" in mistake("corpus", "info", tmp_path)


# -- sweep and compare -----------------------------------------------------------------------------


def test_a_sweep_prints_scores_and_the_next_command(corpus, store, capsys):
    """The same sweep again: nothing is left to run, and the table is there."""
    models = ["--models", "self-AT", "cross-AT", "self-T"]
    assert cli.main(["sweep", str(corpus), *models, *SIZES, "--store", str(store)]) == 0
    printed = capsys.readouterr().out
    assert [n for n in ("self-AT", "cross-AT", "self-T") if n not in printed] == []
    assert printed.rstrip().endswith(f"mmer compare {store} --pairs cross-AT:self-AT")
    leak = worst_leakage(load_corpus(str(corpus)).folds("random", 3)).sentence()
    assert f"In the worst fold (random) {leak}" in printed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--models", "self-ATX"], "self-ATX"),
        (["--models", "sefl-AT"], "sefl"),
        (["--models", "self-AT@relesed"], "did you mean 'released'?"),
        (["--protocol", "randon"], "did you mean 'random'?"),
        (["--protocol", "published"], "no published split"),
        (["--protocol", "by-speaker", "--folds", "11"], "only 10 speakers"),
        (["--metric", "acuracy"], "did you mean 'accuracy'?"),
        (["--seeds", "0"], "seeds=0"),
        (["--lr", "-1"], "lr=-1"),
        (["--heads", "7"], "heads"),
        (["--scheduler", "login1:8786"], "tcp://HOST:PORT or tls://HOST:PORT expected"),
    ],
)
def test_a_sweep_that_cannot_be_run_is_told_and_makes_no_store(
    mistake, corpus, tmp_path, arguments, told
):
    store = tmp_path / "store"
    assert told in mistake("sweep", corpus, *SIZES, *arguments, "--store", store)
    assert not store.exists()


def test_compare_prints_a_line_a_pair_and_a_sentence(store, capsys):
    assert cli.main(["compare", str(store), "--pairs", "cross-AT:self-AT", "self-T:self-AT"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["cross-AT", "self-AT"]
    assert lines[2].split()[:2] == ["self-T", "self-AT"]
    assert [line.split(",")[0] for line in lines[4:]] == [
        "cross-AT against self-AT", "self-T against self-AT",
    ]  # fmt: skip


def test_compare_takes_the_papers_pairs_unless_told(store, capsys):
    assert cli.main(["compare", str(store), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["a"], row["b"], row["n_folds"]) == ("cross-AT", "self-AT", 3)
    assert row["difference"] == pytest.approx(row["mean_a"] - row["mean_b"])


# What programs read. A name may be added; taking one away or renaming it breaks them.
JSON_FIELDS = [
    "a", "b", "metric", "estimand", "margin", "alpha", "n_folds", "n_seeds", "n_repeats", "mean_a",
    "mean_b", "differences", "difference", "se", "df", "low", "high", "low_equivalence",
    "high_equivalence", "t", "p_difference", "t_plain", "p_plain", "p_holm", "p_equivalence",
    "smallest_margin", "left", "inside", "right", "verdict", "caveats", "sentence",
]  # fmt: skip


def test_json_keeps_its_fields(store, capsys):
    assert cli.main(["compare", str(store), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert set(row) == set(JSON_FIELDS)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--pairs", "cross-AT"], "write A:B"),
        (["--pairs", "cross-AT:self-TA"], "unknown configuration 'self-TA'"),
        (["--metric", "acuracy"], "did you mean 'accuracy'?"),
        (["--margin", "0"], "margin"),
        (["--plan", "sweeep"], "did you mean 'sweep'?"),
    ],
)
def test_a_wrong_comparison_is_told(mistake, store, arguments, told):
    assert told in mistake("compare", store, *arguments)


def test_a_store_that_is_not_there_is_told_and_not_made(mistake, tmp_path):
    assert "no result store there" in mistake("compare", tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_runs_of_two_studies_are_not_compared_unless_one_is_chosen(mistake, corpus, tmp_path):
    store = str(tmp_path / "store")
    for seeds in ("2", "3"):
        command = ["sweep", str(corpus), "--models", "self-T", "self-A", *SIZES, "--store", store]
        assert cli.main([*command, "--folds", seeds]) == 0
    told = mistake("compare", store, "--pairs", "self-T:self-A")
    assert "2 studies" in told
    assert "--plan sweep" in told
    assert cli.main(["compare", store, "--pairs", "self-T:self-A", "--plan", "sweep"]) == 0


def test_runs_of_two_semantics_are_not_compared_and_told_apart(mistake, store, tmp_path):
    copy = ResultStore(shutil.copytree(store, tmp_path / "store"))
    folder = copy.path / copy.keys()[0]
    about = copy.run(folder.name)
    spec = about["specification"] | {"semantics": 1}
    old = folder.rename(folder.with_name(spec_key(spec)))
    reseal(old, specification=spec, row=about["row"] | {"semantics": 1}, key=old.name)
    told = mistake("compare", copy.path, "--pairs", "cross-AT:self-AT")
    assert "holds runs of 2 semantics (versions of mmer to which" in told
    assert "cannot be compared with each other: choose one with --plan sweep" in told
    assert cli.main(["store", "verify", str(copy.path)]) == 0


# -- stores ----------------------------------------------------------------------------------------


@pytest.fixture
def damaged(store, tmp_path) -> tuple[Path, str]:
    """A copy of the store in which a run of cross-AT is damaged, and its key."""
    copy = ResultStore(shutil.copytree(store, tmp_path / "store"))
    key = copy.to_frame().query("configuration == 'cross-AT' and fold == 1")["key"].item()
    (copy.path / key / "history.csv").write_text("cut")
    return copy.path, key


def test_a_whole_store_is_verified_with_status_0(store, capsys):
    assert cli.main(["store", "verify", str(store)]) == 0
    assert capsys.readouterr().out == f"{store}: 9 runs, all whole\n"


def test_a_damaged_run_is_a_line_with_the_remedy_and_status_1(damaged, capsys):
    store, key = damaged
    assert cli.main(["store", "verify", str(store)]) == 1
    told = capsys.readouterr()
    assert told.out.startswith(f"{key} (cross-AT, fold 1, seed 0): history.csv has 3 bytes, ")
    assert told.out.count("\n") == 1
    remedy = f"Next: `mmer store repair {store}`, then run the sweep or study again"
    assert told.err == f"\n{store}: 1 of 9 runs damaged. {remedy}\n"


@pytest.mark.parametrize("command", ["list", "verify", "repair"])
def test_what_is_no_store_is_status_2(mistake, tmp_path, command):
    assert "no result store there" in mistake("store", command, tmp_path / "typo")
    (tmp_path / "thesis.tex").write_text("mine")
    assert "is not a result store" in mistake("store", command, tmp_path)


def test_a_store_without_a_run_says_so(tmp_path, capsys):
    ResultStore(tmp_path)
    for command in ("list", "verify"):
        assert cli.main(["store", command, str(tmp_path)]) == 0
        assert f"{tmp_path} holds no run yet" in capsys.readouterr().out


def test_a_store_lists_its_plans(store, damaged, capsys):
    assert cli.main(["store", "list", str(store)]) == 0
    head, sweep = capsys.readouterr().out.splitlines()
    assert head.split() == [
        "plan", "runs", "configurations", "folds", "seeds", "corpus", "semantics", "mmer", "MB",
    ]  # fmt: skip
    assert sweep.split()[:6] == ["sweep", "9", "3", "3", "1", "synthetic"]
    assert cli.main(["store", "list", str(damaged[0])]) == 0
    told = capsys.readouterr().out
    assert "sweep 8 of 9" in told
    assert told.endswith(f"Damaged runs are in it. Next: mmer store verify {damaged[0]}\n")


def test_a_comparison_never_goes_on_as_if_a_damaged_run_had_not_been(damaged, capsys):
    """Where one side lacks it, there is none; where it is of another pair, both streams say so."""
    store, key = damaged
    assert cli.main(["compare", str(store), "--pairs", "cross-AT:self-AT"]) == 2
    notice, refusal = capsys.readouterr().err.splitlines()
    assert notice.startswith(f"mmer: {store}: 1 of 9 runs is damaged ({key}: history.csv has 3 ")
    assert f"Left out of this table: `mmer store repair {store}`" in notice
    assert "not paired: cross-AT lacks fold 1 seed 0" in refusal
    assert cli.main(["compare", str(store), "--pairs", "self-T:self-AT"]) == 0
    told = capsys.readouterr()
    assert told.err == notice + "\n"
    assert f"Incomplete: 1 damaged run is left out of the table ({key}), see `mmer" in told.out


def test_a_sweep_leaves_a_damaged_run_out_unless_it_repairs(corpus, store, damaged, capsys):
    folder, key = damaged
    models = ["--models", "self-AT", "cross-AT", "self-T"]
    sweep = ["sweep", str(corpus), *models, *SIZES]
    capsys.readouterr()
    assert cli.main([*sweep, "--store", str(folder)]) == 0
    assert f"1 of 9 runs is damaged ({key}" in capsys.readouterr().err
    assert cli.main([*sweep, "--store", str(store)]) == 0
    whole = capsys.readouterr().out.splitlines()
    assert cli.main([*sweep, "--store", str(folder), "--repair"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[:4] == whole[:4]
    assert "damaged" not in told.err
    assert (folder / "damaged" / f"{key}-1").is_dir()


def test_repair_moves_damaged_runs_aside_for_whoever_made_them(damaged, capsys):
    store, key = damaged
    assert cli.main(["store", "repair", str(store)]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{key} (cross-AT, fold 1, seed 0): history.csv has 3 bytes")
    assert f"1 run moved to {store / 'damaged'}" in told
    assert (store / "damaged" / f"{key}-1" / "history.csv").read_text() == "cut"
    assert cli.main(["store", "repair", str(store)]) == 0
    assert capsys.readouterr().out == f"{store}: nothing to mend\n"


def test_an_interval_that_cannot_be_known_is_left_out():
    row = {"configuration": "self-T", "mean": 0.5, "n_folds": 1, "n_seeds": 1}
    summary = pd.DataFrame([{**row, "low": float("nan"), "high": float("nan")}])
    assert "nan" not in score_table(summary, "accuracy")
