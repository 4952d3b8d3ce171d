"""Reading transcripts, finding their words, and vectors of words without a network."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmer_lib.errors import InputError
from mmer_lib.features.base import Clip, Unreadable
from mmer_lib.features.text import Hashed, WordVectors, read_words, words
from mmer_lib.features.wordfile import word_table


def spoken(text: str) -> list[str]:
    return [text[a:b] for a, b in words(text)]


def text_file(tmp_path, content: bytes) -> Clip:
    path = tmp_path / "line.txt"
    path.write_bytes(content)
    return Clip(path)


def vectors_file(tmp_path, content: str | bytes, name: str = "vectors.txt") -> str:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


GLOVE = "the 1 2 3\n. . . 4 5 6\ndo 0.5 0 -1e-2\nn't 7 8 9\nhappy -1 -2 -3\n! 1 1 1\nI 2 2 2\n"


# --- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-mark", "utf-16-be-mark", "cp1252"]
)
def test_a_transcript_reads_the_same_in_every_encoding(tmp_path, encoding):
    text = "“Café?” – it’s… naïve"
    marks = {"utf-16-le-mark": b"\xff\xfe", "utf-16-be-mark": b"\xfe\xff"}
    content = marks.get(encoding, b"") + text.encode(encoding.removesuffix("-mark"))
    assert read_words(text_file(tmp_path, content)) == text


def test_windows_quotes_that_were_read_as_latin_1_are_mended():
    assert read_words(Clip(words="it\x92s \x93so\x94\x85")) == "it’s “so”…"


def test_composed_and_decomposed_accents_are_one_text():
    assert read_words(Clip(words="cafe\u0301")) == "café"


def test_odd_white_space_becomes_single_blanks():
    assert read_words(Clip(words=" \ufeffoh\u00a0my\r\n\t\u2003 god\u200b ")) == "oh my god"


@given(st.text())
def test_reading_what_was_read_changes_nothing(text):
    try:
        once = read_words(Clip(words=text))
    except Unreadable:
        return
    assert read_words(Clip(words=once)) == once


@pytest.mark.parametrize("content", [b"", b" \r\n\t ", "\ufeff\u00a0".encode()])
def test_a_transcript_without_words_is_unreadable(tmp_path, content):
    clip = text_file(tmp_path, content)
    with pytest.raises(Unreadable, match="no words") as told:
        read_words(clip)
    assert str(told.value).startswith(str(clip.path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"oh\x00my", "no plain text"),
        ("oh my".encode("utf-16-le"), "no plain text"),  # without its mark
        (b"\x89PNG\r\n\x1a\n\x00\x00", "no plain text"),
        (b"oh \x81\x8d", "no text in UTF-8, UTF-16"),  # undefined in Windows-1252, too
        (b"\xff\xfeo", "no text in UTF-8, UTF-16"),  # half a UTF-16 character
        (b"a" * (2**24 + 1), "larger than 16 MB"),
    ],
)
def test_a_file_that_is_no_text_is_unreadable(tmp_path, content, reason):
    with pytest.raises(Unreadable, match=reason):
        read_words(text_file(tmp_path, content))


def test_a_missing_transcript_is_unreadable(tmp_path):
    with pytest.raises(Unreadable, match="No such file"):
        read_words(Clip(tmp_path / "nowhere.txt"))


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't go!", ["Don't", "go", "!"]),
        ("rock’n’roll 'em goin'", ["rock’n’roll", "'", "em", "goin", "'"]),
        ("What?! Oh... no—stop!!!", ["What", "?", "!", "Oh", "...", "no", "—", "stop", "!!!"]),
        ("At 10:30, 1,000.50 for 2nd.", ["At", "10:30", ",", "1,000.50", "for", "2nd", "."]),
        ("naïve Ωμέγα мир 你好", ["naïve", "Ωμέγα", "мир", "你好"]),
        ("हिन्दी", ["हिन्दी"]),  # its vowel signs are combining marks
        ("snake_case a-b", ["snake", "_", "case", "a", "-", "b"]),
    ],
)
def test_words_numbers_and_punctuation_are_told_apart(text, expected):
    assert spoken(text) == expected


@given(st.text())
def test_spans_are_in_order_and_leave_out_nothing_but_blanks(text):
    spans = words(text)
    ends = [0, *(b for _, b in spans)]
    starts = [*(a for a, _ in spans), len(text)]
    assert all(a < b for a, b in spans)
    assert not "".join(text[e:s] for e, s in zip(ends, starts, strict=True)).strip()


# --- hashed --------------------------------------------------------------------------------------


def hashed(text: str, **options) -> np.ndarray:
    return Hashed(**options).encode([text])[0].values


def test_hashed_gives_a_row_of_unit_length_and_a_span_for_each_word():
    text = "Oh my God, he's lost it."
    track = Hashed(size=48).encode([text])[0]
    assert track.values.shape == (len(spoken(text)), 48)
    assert np.allclose(np.linalg.norm(track.values, axis=1), 1)
    assert [text[a:b] for a, b in track.spans] == spoken(text)
    assert np.isnan(track.times).all()


def test_a_hashed_word_is_the_sum_of_the_signs_of_its_ngrams():
    from hashlib import blake2b

    def signs(gram):
        digest = blake2b(gram.encode(), salt=bytes(8)).digest()
        bits = "".join(f"{byte:08b}" for byte in digest)
        return np.array([1 if bit == "1" else -1 for bit in bits[:10]])

    grams = ["<he", "hey", "ey>", "<hey", "hey>", "<hey>", "<hey>"]  # of 3, 4 and 5, and itself
    expected = sum(signs(gram) for gram in grams)
    assert np.allclose(hashed("Hey", size=10), expected / np.linalg.norm(expected))


def test_hashed_is_the_same_in_another_process_with_other_hashes_of_python():
    code = "from mmer_lib.features.text import Hashed; import sys; sys.stdout.buffer.write("
    code += "Hashed(size=520).encode(['so happy, so sad!'])[0].values.tobytes())"
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    other = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    assert other.stdout == hashed("so happy, so sad!", size=520).tobytes()


def test_words_of_similar_spelling_get_similar_vectors():
    near, word, far = hashed("unhappily unhappy table", size=256)
    assert near @ word > 0.4 > 0.2 > abs(far @ word)


def test_unrelated_words_are_at_right_angles_on_average():
    rows = hashed("joy anger fear disgust quiet zebra lamp moon bottle knife", size=2048)
    cosines = (rows @ rows.T)[np.triu_indices(len(rows), 1)]
    assert abs(cosines.mean()) < 0.01


def test_capitals_change_no_hashed_vector():
    assert np.array_equal(hashed("HAPPY"), hashed("happy"))


@pytest.mark.parametrize("size", [1, 2])
def test_signs_that_cancel_still_give_a_vector(size):
    rows = hashed(" ".join(f"w{i}" for i in range(50)), size=size)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1)


def test_the_longest_keeps_the_first_words(tmp_path):
    kinds = [Hashed, lambda **k: WordVectors(source=vectors_file(tmp_path, GLOVE), **k)]
    for kind in kinds:
        full, cut = (kind(longest=n).encode(["the happy ! I"])[0] for n in (None, 2))
        assert np.array_equal(cut.values, full.values[:2])
        assert cut.spans.tolist() == [[0, 3], [4, 9]]


@pytest.mark.parametrize("options", [{"size": 0}, {"size": 2.5}, {"longest": 0}])
def test_bad_options_of_hashed_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        Hashed(**options)


# --- files of vectors ----------------------------------------------------------------------------


def test_vectors_are_those_of_the_file(tmp_path):
    vectors = WordVectors(source=vectors_file(tmp_path, GLOVE))
    track = vectors.encode(["the happy do !"])[0]
    expected = [[1, 2, 3], [-1, -2, -3], [0.5, 0, -0.01], [1, 1, 1]]
    assert np.array_equal(track.values, np.array(expected, np.float32))
    assert vectors.width == 3


@pytest.mark.parametrize("end", ["\n", " \n", "\r\n"])
def test_a_header_line_and_odd_line_ends_change_nothing(tmp_path, end):
    plain = WordVectors(source=vectors_file(tmp_path, GLOVE)).encode(["the happy"])[0]
    content = "7 3\n" + GLOVE.replace("\n", end)
    headed = WordVectors(source=vectors_file(tmp_path, content, "headed.vec"))
    assert headed.width == 3
    assert np.array_equal(headed.encode(["the happy"])[0].values, plain.values)


def test_an_npz_gives_the_same_as_text(tmp_path):
    names = ["the", "do", "n't", "the"]
    numbers = np.array([[1, 2, 3], [0.5, 0, -0.01], [7, 8, 9], [0, 0, 0]], np.float64)
    np.savez(tmp_path / "v.npz", words=np.array(names), vectors=numbers)
    text = WordVectors(source=vectors_file(tmp_path, GLOVE)).encode(["the don't"])[0]
    array = WordVectors(source=str(tmp_path / "v.npz")).encode(["the don't"])[0]
    assert np.array_equal(array.values, text.values)
    assert np.array_equal(array.spans, text.spans)


def test_a_word_with_blanks_is_split_from_the_right(tmp_path):
    table = word_table(tmp_path / vectors_file(tmp_path, GLOVE))
    assert table.find(". . .").tolist() == [4, 5, 6]
    assert table.find(".") is None


def test_of_a_word_that_comes_twice_the_first_line_counts(tmp_path):
    table = word_table(tmp_path / vectors_file(tmp_path, "a 1 2\nb 3 4\na 5 6\n"))
    assert table.find("a").tolist() == [1, 2]


def test_words_are_found_in_lower_case_and_as_they_stand(tmp_path):
    vectors = WordVectors(source=vectors_file(tmp_path, GLOVE))
    values = vectors.encode(["THE I !!!"])[0].values
    assert values.tolist() == [[1, 2, 3], [2, 2, 2], [1, 1, 1]]


@pytest.mark.parametrize("text", ["I Don't", "I don’t"])
def test_a_contraction_is_cut_as_in_the_treebank(tmp_path, text):
    track = WordVectors(source=vectors_file(tmp_path, GLOVE)).encode([text])[0]
    assert [text[a:b] for a, b in track.spans] == ["I", text[2:4], text[4:]]
    assert track.values[2].tolist() == [7, 8, 9]


def test_a_contraction_that_the_file_knows_stays_whole(tmp_path):
    source = vectors_file(tmp_path, "don't 1 2\ndo 3 4\nn't 5 6\n")
    assert WordVectors(source=source).encode(["don't"])[0].values.tolist() == [[1, 2]]


def test_an_unknown_word_gets_zeros_and_is_told(tmp_path):
    vectors = WordVectors(source=vectors_file(tmp_path, GLOVE))
    assert vectors.encode(["the sesquipedalian ?"])[0].values[1:].tolist() == [[0] * 3] * 2
    assert vectors.unknown("the sesquipedalian ?") == ["sesquipedalian", "?"]


def test_every_word_of_a_larger_file_finds_its_own_vector(tmp_path):
    numbers = np.random.default_rng(0).standard_normal((3000, 4)).astype(np.float32)
    names = [f"w{i * 7919 % 3000}" for i in range(3000)]
    lines = (
        f"{n} {' '.join(map(repr, map(float, v)))}\n" for n, v in zip(names, numbers, strict=True)
    )
    table = word_table(tmp_path / vectors_file(tmp_path, "".join(lines)))
    assert all(np.array_equal(table.find(n), v) for n, v in zip(names, numbers, strict=True))


def test_the_recipe_holds_the_content_and_not_the_name(tmp_path):
    one = WordVectors(source=vectors_file(tmp_path, GLOVE, "one.txt"))
    two = WordVectors(source=vectors_file(tmp_path, GLOVE, "two.txt"))
    other = WordVectors(source=vectors_file(tmp_path, GLOVE + "x 1 2 3\n", "other.txt"))
    assert one.recipe() == two.recipe() != other.recipe()
    assert str(tmp_path) not in str(one.recipe())


def test_a_file_that_changes_is_read_again(tmp_path):
    source = vectors_file(tmp_path, "a 1 2\n")
    before = WordVectors(source=source).encode(["a"])[0].values.tolist()
    vectors_file(tmp_path, "a 3 4 5\n")
    assert before == [[1, 2]]
    assert WordVectors(source=source).encode(["a"])[0].values.tolist() == [[3, 4, 5]]


def test_extractors_of_text_can_be_sent_to_another_process(tmp_path):
    vectors = WordVectors(source=vectors_file(tmp_path, GLOVE))
    vectors.encode(["the"])
    assert pickle.loads(pickle.dumps(vectors)) == vectors
    assert pickle.loads(pickle.dumps(Hashed())) == Hashed()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "empty"),
        ("\n\n", "first line holds no word"),
        ("3 2\n", "empty"),
        ("the cat sat\n", "first line holds no word"),
        ("a 1 2 3\nb 1 2\n", "line 2: 2 numbers after the word, 3 expected"),
        ("a 1 2 3\nb 1 2 3 4\n", "line 2: 4 numbers after the word, 3 expected"),
        ("3 2\na 1 2\nb 3 4\n", "announces 3 words, and 2 follow"),
        (b"\x1f\x8b\x08\x08 1 2", "binary or packed"),
        (b"a\x00b 1 2\n", "binary or packed"),
    ],
)
def test_a_damaged_file_of_vectors_is_refused_in_one_line(tmp_path, content, reason):
    source = vectors_file(tmp_path, content)
    with pytest.raises(InputError, match=reason) as told:
        WordVectors(source=source).recipe()
    assert source in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("bad", ["x", "nan", "inf"])
def test_a_vector_that_is_no_number_is_refused_with_its_word(tmp_path, bad):
    vectors = WordVectors(source=vectors_file(tmp_path, f"a 1 2\nodd 1 {bad}\n"))
    with pytest.raises(InputError, match="the vector of 'odd'"):
        vectors.encode(["odd"])


def test_a_missing_file_of_vectors_is_refused_at_once(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        WordVectors(source=str(tmp_path / "glove.txt"))


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"words": np.array(["a"])}, "vectors"),
        ({"words": np.array(["a"]), "vectors": np.ones((2, 3))}, "shape"),
        ({"words": np.array([1]), "vectors": np.ones((1, 3))}, "expected text"),
        ({"words": np.array(["a"]), "vectors": np.full((1, 3), np.nan)}, "NaN"),
        ({"words": np.array([], "U1"), "vectors": np.ones((0, 3))}, "not empty"),
    ],
)
def test_an_npz_of_other_arrays_is_refused(tmp_path, arrays, reason):
    np.savez(tmp_path / "v.npz", **arrays)
    with pytest.raises(InputError, match=reason):
        WordVectors(source=str(tmp_path / "v.npz")).recipe()


def test_a_damaged_npz_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"not a plain \.npz"):
        WordVectors(source=vectors_file(tmp_path, b"PK\x03\x04 no zip", "v.npz")).recipe()


class _Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_a_hostile_npz_is_refused_and_runs_nothing(tmp_path):
    marker = tmp_path / "ran"
    np.savez(tmp_path / "v.npz", words=np.array([_Hostile(marker)]), vectors=np.ones((1, 3)))
    with pytest.raises(InputError, match="pickled Python objects"):
        WordVectors(source=str(tmp_path / "v.npz")).recipe()
    assert not marker.exists()
