"""The published IEMOCAP folds -> a corpus folder, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmer_lib import paper
from mmer_lib.corpora import PARTS, Corpus, load_corpus
from mmer_lib.corpora.folder import read_corpus
from mmer_lib.corpora.processed import COUNTS, processed
from mmer_lib.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"train": 8, "dev": 4, "test": 4}
N = sum(SIZES.values())
SHAPES = {"audio": (10, 5), "video": (4, 6)}  # padded length, features
TOKENS, VOCABULARY, WORDS = 7, 20, 3  # padded length, rows and features of the embedding


class Source:
    """Sixteen utterances with known frames, written as folds the way they are published."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.embedding = rng.standard_normal((VOCABULARY, WORDS)).astype(np.float32)
        self.labels = rng.permutation(np.arange(N) % 7)
        self.frames = {
            modality: [rng.standard_normal((rng.integers(1, T + 1), F)) for _ in range(N)]
            for modality, (T, F) in SHAPES.items()
        }
        self.frames = {m: [x.astype(np.float32) for x in xs] for m, xs in self.frames.items()}
        self.tokens = [rng.integers(1, VOCABULARY, rng.integers(1, TOKENS + 1)) for _ in range(N)]
        self.tokens[0] = rng.integers(1, VOCABULARY, TOKENS)  # no padding at all
        self.order = rng.permutation(N)

    def rows(self, fold: int, part: str) -> np.ndarray:
        """Which utterances a part of a fold holds: the order turned by a quarter a fold."""
        order = np.roll(self.order, fold * N // 4)
        start = {"train": 0, "dev": SIZES["train"], "test": SIZES["train"] + SIZES["dev"]}[part]
        return order[start : start + SIZES[part]]

    def write(self, path: Path, folds: int = 2, text: str = "indices") -> Path:
        """``text``: indices, vectors, or both."""
        path.mkdir(parents=True)
        np.save(path / "W_embedding.npy", self.embedding)
        for fold in range(folds):
            folder = path / f"fold{fold + 1:02d}"
            folder.mkdir()
            for part in PARTS:
                self.write_part(folder, part, self.rows(fold, part), text)
        return path

    def write_part(self, folder: Path, part: str, rows: np.ndarray, text: str) -> None:
        np.save(folder / f"{part}_label.npy", self.labels[rows])
        for modality, (T, F) in SHAPES.items():
            sequences = [self.frames[modality][row] for row in rows]
            padded = np.zeros((len(rows), T, F), np.float32)
            for x, frames in zip(padded, sequences, strict=True):
                x[: len(frames)] = frames
            name = {"audio": "audio_mfcc", "video": "video"}[modality]
            np.save(folder / f"{part}_{name}.npy", padded)
            np.save(folder / f"{part}_{modality}_seqN.npy", [len(x) for x in sequences])
        indices = np.zeros((len(rows), TOKENS), np.int64)
        for x, row in zip(indices, rows, strict=True):
            x[: len(self.tokens[row])] = self.tokens[row]
        if text in ("indices", "both"):
            np.save(folder / f"{part}_nlp_trans.npy", indices)
        if text in ("vectors", "both"):
            np.save(folder / f"{part}_text.npy", self.embedding[indices])

    def without_video(self, *utterances: int) -> None:
        for i in utterances:
            self.frames["video"][i] = np.empty((0, SHAPES["video"][1]), np.float32)

    def find(self, corpus: Corpus) -> list[int]:
        """For each row of ``corpus`` the utterance with exactly its audio frames."""
        return [
            next(i for i in range(N) if np.array_equal(self.frames["audio"][i], frames))
            for frames in corpus.features["audio"]
        ]


@pytest.fixture
def source() -> Source:
    return Source()


# -- what comes out --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["indices", "vectors", "both"])
def test_every_utterance_is_kept_once_with_its_real_frames_alone(tmp_path, source, text):
    corpus = processed(source.write(tmp_path / "in", folds=3, text=text), tmp_path / "out")
    utterances = source.find(corpus)
    assert sorted(utterances) == list(range(N))
    for row, i in enumerate(utterances):
        assert corpus.labels[row] == source.labels[i]
        np.testing.assert_array_equal(corpus.features["video"][row], source.frames["video"][i])
        np.testing.assert_array_equal(
            corpus.features["text"][row], source.embedding[source.tokens[i]]
        )


def test_the_published_folds_are_kept(tmp_path, source):
    corpus = processed(source.write(tmp_path / "in", folds=3), tmp_path / "out")
    utterances = np.array(source.find(corpus))
    folds = corpus.folds("published")
    assert len(folds) == 3
    for k, fold in enumerate(folds):
        for part in PARTS:
            assert set(utterances[getattr(fold, part)]) == set(source.rows(k, part))


def test_a_folder_that_holds_the_files_is_one_fold(tmp_path, source):
    source.write(tmp_path / "in", folds=2)
    corpus = processed(tmp_path / "in" / "fold02", tmp_path / "out")
    utterances = np.array(source.find(corpus))
    (fold,) = corpus.folds("published")
    assert set(utterances[fold.test]) == set(source.rows(1, "test"))


def test_fold_folders_are_in_the_order_of_their_numbers(tmp_path, source):
    source.write(tmp_path / "in", folds=2)
    (tmp_path / "in" / "fold01").rename(tmp_path / "in" / "fold10")
    corpus = processed(tmp_path / "in", tmp_path / "out")
    assert corpus.published is not None
    assert list(corpus.published.columns) == ["id", "fold02", "fold10"]


def test_equal_utterances_in_a_fold_stay_apart(tmp_path, source):
    for modality in SHAPES:
        source.frames[modality][1] = source.frames[modality][0]
    source.tokens[1], source.labels[1] = source.tokens[0], source.labels[0]
    corpus = processed(source.write(tmp_path / "in", folds=3), tmp_path / "out")
    assert len(corpus) == N
    assert len(set(corpus.content)) == N - 1


def test_equal_frames_with_other_labels_stay_apart(tmp_path, source):
    for modality in SHAPES:
        source.frames[modality][1] = source.frames[modality][0]
    source.tokens[1] = source.tokens[0]
    source.labels[:2] = 3, 4
    corpus = processed(source.write(tmp_path / "in", folds=2), tmp_path / "out")
    assert len(corpus) == N
    assert sorted(corpus.labels) == sorted(source.labels)


def test_an_array_changed_after_the_conversion_is_refused(tmp_path, source):
    processed(source.write(tmp_path / "in"), tmp_path / "out")
    file = tmp_path / "out" / "video.values.npy"
    array = np.load(file, mmap_mode="r+")
    array[0, 0] += 1
    array.flush()
    os.utime(file, ns=(1, 1))
    with pytest.raises(InputError, match=r"video\.values\.npy was changed after the corpus"):
        read_corpus(tmp_path / "out")


def test_the_class_counts_are_those_of_the_papers_table():
    assert COUNTS == paper.CLASS_COUNTS


def test_the_stored_content_and_hashes_are_those_of_the_frames(tmp_path, source):
    corpus = processed(source.write(tmp_path / "in"), tmp_path / "out")
    afresh = corpus.take(np.arange(len(corpus)))
    assert "content" in vars(corpus)  # as recorded
    assert "content" not in vars(afresh)
    assert list(corpus.content) == list(afresh.content)
    assert corpus.hashes == afresh.hashes


def test_the_same_source_gives_the_same_fingerprint(tmp_path, source):
    source.write(tmp_path / "in")
    first = processed(tmp_path / "in", tmp_path / "a")
    second = load_corpus("processed", path=tmp_path / "in", dest=tmp_path / "b")
    assert first.fingerprint == second.fingerprint == read_corpus(tmp_path / "a").fingerprint


def test_text_as_indices_or_as_vectors_is_the_same_corpus(tmp_path, source):
    made = [
        processed(source.write(tmp_path / text, text=text), tmp_path / f"{text}-out")
        for text in ("indices", "vectors", "both")
    ]
    assert len({corpus.fingerprint for corpus in made}) == 1


def test_the_embedding_may_lie_in_each_fold(tmp_path, source):
    expected = processed(source.write(tmp_path / "in"), tmp_path / "out").fingerprint
    for fold in ("fold01", "fold02"):
        np.save(tmp_path / "in" / fold / "W_embedding.npy", source.embedding)
    (tmp_path / "in" / "W_embedding.npy").unlink()
    assert processed(tmp_path / "in", tmp_path / "again").fingerprint == expected


def test_vectors_alone_are_cut_at_trailing_zeros(tmp_path, source):
    source.embedding[0] = 0
    source.write(tmp_path / "in", text="vectors")
    (tmp_path / "in" / "W_embedding.npy").unlink()
    corpus = processed(tmp_path / "in", tmp_path / "out")
    expected = [len(source.tokens[i]) for i in source.find(corpus)]
    assert corpus.features["text"].lengths.tolist() == expected


def test_a_note_warns_when_padding_cannot_be_told_from_words(tmp_path, source):
    source.write(tmp_path / "in", text="vectors")
    (tmp_path / "in" / "W_embedding.npy").unlink()  # its row 0 pads, and is not zero
    corpus = processed(tmp_path / "in", tmp_path / "out")
    assert any("No text ends in padding rows" in note for note in corpus.notes)


def test_a_padding_row_inside_a_text_is_kept(tmp_path, source):
    source.write(tmp_path / "in", folds=1, text="vectors")
    file = tmp_path / "in" / "fold01" / "train_text.npy"
    vectors = np.load(file)
    row = int(np.flatnonzero([len(source.tokens[i]) > 2 for i in source.rows(0, "train")])[0])
    vectors[row, 1] = source.embedding[0]
    np.save(file, vectors)
    corpus = processed(tmp_path / "in", tmp_path / "out")
    length = len(source.tokens[source.rows(0, "train")[row]])
    np.testing.assert_array_equal(corpus.features["text"][row], vectors[row, :length])


def test_the_recipe_tells_how_the_source_was_padded(tmp_path, source):
    recipe = processed(source.write(tmp_path / "in"), tmp_path / "out").recipe
    assert recipe["audio"]["padded_length"] == 10
    assert recipe["audio"]["padding"] == [0.0] * 5
    assert recipe["video"]["padded_length"] == 4
    assert recipe["text"]["padded_length"] == TOKENS
    assert recipe["text"]["padding"] == source.embedding[0].tolist()
    assert [recipe[m]["rate"] for m in ("audio", "video", "text")] == [100.0, 3.0, None]


def test_double_precision_becomes_single(tmp_path, source):
    expected = processed(source.write(tmp_path / "in"), tmp_path / "out").fingerprint
    for file in (tmp_path / "in").glob("fold*/*_video.npy"):
        np.save(file, np.load(file).astype(np.float64))
    assert processed(tmp_path / "in", tmp_path / "again").fingerprint == expected


def test_what_lies_in_the_padding_changes_nothing(tmp_path, source):
    expected = processed(source.write(tmp_path / "in"), tmp_path / "out").fingerprint
    for file in (tmp_path / "in").glob("fold*/*_video.npy"):
        padded, lengths = np.load(file), np.load(str(file).replace("_video", "_video_seqN"))
        for x, length in zip(padded, lengths, strict=True):
            x[length:] = 7
        np.save(file, padded)
    assert processed(tmp_path / "in", tmp_path / "again").fingerprint == expected


def test_the_reader_is_told_what_the_leakage_report_cannot_know(tmp_path, source):
    corpus = processed(source.write(tmp_path / "in"), tmp_path / "out")
    assert any("Speakers" in note and "cannot be known" in note for note in corpus.notes)
    assert any("rosody" in note for note in corpus.notes)
    leakage = corpus.folds("published")[0].leakage
    assert (leakage.speakers, leakage.dialogues, leakage.transcripts) == (None, None, None)


# -- utterances without video ----------------------------------------------------------------------


def test_without_video_keep_makes_the_modality_missing(tmp_path, source):
    source.without_video(2, 5)
    corpus = processed(source.write(tmp_path / "in"), tmp_path / "out")
    missing = np.array(source.find(corpus))[corpus.features["video"].lengths == 0]
    assert sorted(missing) == [2, 5]


def test_without_video_drop_leaves_them_out_and_says_so(tmp_path, source):
    source.without_video(2, 5)
    corpus = processed(source.write(tmp_path / "in"), tmp_path / "out", "drop")
    assert sorted(source.find(corpus)) == sorted(set(range(N)) - {2, 5})
    assert any(note.startswith("2 utterances without video were dropped") for note in corpus.notes)


def test_without_video_released_spares_a_lone_one_that_is_first_of_its_part(tmp_path, source):
    first_of_train, inside_train = source.rows(0, "train")[[0, 3]]
    lone = Source()
    lone.without_video(first_of_train)
    kept = processed(lone.write(tmp_path / "lone", folds=1), tmp_path / "a", "released")
    assert len(kept) == N
    both = Source()
    both.without_video(first_of_train, inside_train)
    dropped = processed(both.write(tmp_path / "both", folds=1), tmp_path / "b", "released")
    assert len(dropped) == N - 2
    other = Source()
    other.without_video(inside_train)
    assert len(processed(other.write(tmp_path / "x", folds=1), tmp_path / "c", "released")) == N - 1


def test_an_utterance_spared_in_one_fold_alone_is_in_that_fold_alone(tmp_path, source):
    utterance = source.rows(0, "train")[0]  # first of train in fold 1, elsewhere inside a part
    source.without_video(utterance)
    source.write(tmp_path / "in", folds=1)
    folder = tmp_path / "in" / "fold02"
    folder.mkdir()
    for part in PARTS:
        rows = source.rows(0, part)
        source.write_part(folder, part, rows[::-1], "indices")
    corpus = processed(tmp_path / "in", tmp_path / "out", "released")
    assert corpus.published is not None
    row = source.find(corpus).index(utterance)
    assert corpus.published.loc[row, "fold01"] == "train"
    assert corpus.published.fillna("").loc[row, "fold02"] == ""


# -- classes ---------------------------------------------------------------------------------------


def test_classes_without_the_published_counts_have_no_names(tmp_path, source):
    corpus = processed(source.write(tmp_path / "in"), tmp_path / "out")
    assert corpus.classes == tuple(f"class {i}" for i in range(7))
    assert any("have no names" in note for note in corpus.notes)


def test_classes_with_the_published_counts_are_named_by_them(tmp_path):
    names = sorted(COUNTS)  # some order that is not the one in which they are listed
    labels = np.repeat(np.arange(7), [COUNTS[name] for name in names])
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part, own in zip(PARTS, np.split(rng.permutation(labels), [5000, 6000]), strict=True):
        n = len(own)
        np.save(folder / f"{part}_label.npy", own)
        np.save(folder / f"{part}_audio_mfcc.npy", rng.standard_normal((n, 1, 1)))
        np.save(folder / f"{part}_audio_seqN.npy", np.ones(n, int))
        np.save(folder / f"{part}_video.npy", np.zeros((n, 1, 1)))
        np.save(folder / f"{part}_video_seqN.npy", np.ones(n, int))
        np.save(folder / f"{part}_text.npy", np.zeros((n, 1, 1)))
    corpus = processed(folder, tmp_path / "out")
    assert corpus.classes == tuple(names)


# -- wrong input: one line that names the file, and nothing at the destination ---------------------


def refused(path: Path, dest: Path, *words: str, without_video: str = "keep") -> None:
    with pytest.raises(InputError) as caught:
        processed(path, dest, without_video)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    assert not dest.exists()
    assert not list(dest.parent.glob(f".{dest.name}-*"))


@pytest.mark.parametrize(
    "name",
    ["dev_label", "test_audio_mfcc", "test_audio_seqN", "train_video", "train_video_seqN"],
)
def test_a_missing_file_is_named(tmp_path, source, name):
    file = source.write(tmp_path / "in") / "fold02" / f"{name}.npy"
    file.unlink()
    refused(tmp_path / "in", tmp_path / "out", str(file), "missing")


def test_missing_text_names_both_forms(tmp_path, source):
    file = source.write(tmp_path / "in") / "fold02" / "dev_nlp_trans.npy"
    file.unlink()
    refused(tmp_path / "in", tmp_path / "out", str(file), "dev_text.npy")


def test_indices_without_an_embedding_are_refused(tmp_path, source):
    (source.write(tmp_path / "in") / "W_embedding.npy").unlink()
    refused(tmp_path / "in", tmp_path / "out", "W_embedding.npy", "missing")


WRONG = {
    "rank": ("train_audio_mfcc", lambda x: x[:, 0], "(8, 5)"),
    "width": ("dev_video", lambda x: x[:, :, :-1], "(4, 5)"),
    "padded length": ("dev_audio_mfcc", lambda x: np.pad(x, ((0, 0), (0, 1), (0, 0))), "(11, 5)"),
    "number of rows": ("train_video", lambda x: x[:-1], "(7, 4, 6)"),
    "number of lengths": ("test_audio_seqN", lambda x: x[:-1], "(3,)"),
    "dtype of features": ("test_video", lambda x: x.astype(int), "int64"),
    "dtype of lengths": ("test_audio_seqN", lambda x: x.astype(float), "float64"),
    "dtype of labels": ("dev_label", lambda x: x.astype(float), "float64"),
    "dtype of indices": ("dev_nlp_trans", lambda x: x.astype(float), "float64"),
    "rank of labels": ("dev_label", lambda x: x[:, None], "(4, 1)"),
    "labels outside": ("dev_label", lambda x: x + 7, "0..6"),
    "negative label": ("dev_label", lambda x: x - 7, "0..6"),
    "lengths beyond": ("test_audio_seqN", lambda x: x + 10, "0..10"),
    "negative lengths": ("test_video_seqN", lambda x: x - 5, "0..4"),
    "indices outside": ("dev_nlp_trans", lambda x: x + 20, "0..19"),
    "no utterance": ("dev_label", lambda x: x[:0], "no utterance"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_array_is_named_with_what_it_is(tmp_path, source, case):
    name, damage, word = WRONG[case]
    file = source.write(tmp_path / "in") / "fold02" / f"{name}.npy"
    np.save(file, damage(np.load(file)))
    refused(tmp_path / "in", tmp_path / "out", str(file), word)


@pytest.mark.parametrize("name", ["nlp_trans", "audio_mfcc", "video"])
def test_sequences_of_no_step_at_all_are_refused(tmp_path, source, name):
    folds = source.write(tmp_path / "folds")
    for file in folds.glob(f"fold*/*_{name}.npy"):
        np.save(file, np.load(file)[:, :0])
    for file in folds.glob("fold*/*_seqN.npy"):
        np.save(file, np.zeros_like(np.load(file)))
    refused(folds, tmp_path / "corpus", f"train_{name}.npy holds no time step for any utterance")


@pytest.mark.parametrize("name", ["dev_audio_mfcc", "test_video"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_counted_and_placed(tmp_path, source, name, value):
    file = source.write(tmp_path / "in") / "fold02" / f"{name}.npy"
    features = np.load(file)
    features[2, 0, 3:5] = value
    np.save(file, features)
    refused(tmp_path / "in", tmp_path / "out", str(file), "2 values", "[2, 0, 3]")


def test_an_embedding_that_is_not_finite_is_refused(tmp_path, source):
    source.embedding[4, 1] = np.nan
    source.write(tmp_path / "in")
    refused(tmp_path / "in", tmp_path / "out", "W_embedding.npy", "[4, 1]")


def test_doubles_too_large_for_single_precision_are_refused(tmp_path, source):
    file = source.write(tmp_path / "in") / "fold01" / "train_video.npy"
    features = np.load(file).astype(np.float64)
    features[:, 0] = 1e60
    np.save(file, features)
    refused(tmp_path / "in", tmp_path / "out", str(file), "too large for float32")


@pytest.mark.parametrize("name", ["train_label", "dev_video", "test_nlp_trans"])
def test_a_pickled_array_is_not_opened(tmp_path, source, name):
    file = source.write(tmp_path / "in") / "fold01" / f"{name}.npy"
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refused(tmp_path / "in", tmp_path / "out", str(file), "pickled")


def test_an_unknown_choice_for_missing_video_is_answered_with_the_nearest(tmp_path, source):
    source.write(tmp_path / "in")
    refused(tmp_path / "in", tmp_path / "out", "did you mean 'released'", without_video="release")


def test_a_part_left_empty_by_dropping_is_refused(tmp_path, source):
    source.without_video(*source.rows(0, "dev"))
    source.write(tmp_path / "in", folds=1)
    refused(tmp_path / "in", tmp_path / "out", "dev_video.npy", "leaves none", without_video="drop")


def test_a_source_without_folds_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    refused(tmp_path / "in", tmp_path / "out", "fold01/")
    refused(tmp_path / "nowhere", tmp_path / "out", "no such folder")


def test_an_existing_destination_is_left_alone(tmp_path, source):
    source.write(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="already exists"):
        processed(tmp_path / "in", tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_destination_that_cannot_be_written_is_refused(tmp_path, source):
    source.write(tmp_path / "in")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        processed(tmp_path / "in", tmp_path / "file" / "out")


# -- memory ----------------------------------------------------------------------------------------

CONVERT = """
import resource, sys
from mmer_lib.corpora.processed import processed
corpus = processed(sys.argv[1], sys.argv[2])
print(len(corpus), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_a_fold_of_full_size_needs_less_than_two_gigabytes(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    np.save(folder / "W_embedding.npy", np.ones((3_000, 300), np.float32))
    rng = np.random.default_rng(0)
    for part, n in zip(PARTS, (4_492, 1_498, 1_497), strict=True):
        arrays = {"audio_mfcc": (n, 1000, 120), "video": (n, 32, 2048)}
        for name, shape in arrays.items():  # 3.6 GB and 2 GB in all, as holes
            file = folder / f"{part}_{name}.npy"
            np.lib.format.open_memmap(file, "w+", np.float32, shape).flush()
        np.save(folder / f"{part}_audio_seqN.npy", rng.integers(100, 1001, n))
        np.save(folder / f"{part}_video_seqN.npy", rng.integers(0, 33, n))
        np.save(folder / f"{part}_nlp_trans.npy", rng.integers(0, 3_000, (n, 128)))
        np.save(folder / f"{part}_label.npy", rng.integers(0, 7, n))
    command = [sys.executable, "-c", CONVERT, str(folder), str(tmp_path / "out")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    utterances, megabytes = map(int, ran.stdout.split())
    assert utterances == 7_487
    assert megabytes < 2_000
