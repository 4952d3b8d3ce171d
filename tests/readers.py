"""Every reader of files and texts of others, with inputs that it takes: what the fuzz tests spoil.

A ``Reader`` is given a folder with (spoilt) files, and either refuses it by ``InputError`` or gives
something that its ``check`` finds right. Readers of texts get theirs in a file ``*.arg``.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any
from unicodedata import category

import numpy as np
import pandas as pd
from mutations import Files, mutate, write_members

from mmer_lib.corpora.base import MODALITIES, Corpus, Ragged, blake2b
from mmer_lib.corpora.media import Listing
from mmer_lib.errors import InputError

PARTS = ("train", "dev", "test")


@dataclass(frozen=True)
class Reader:
    """How a reader is called, inputs that it takes, and what must be true of what it gives."""

    name: str
    valid: Callable[[], list[Files]]
    read: Callable[[Path], Any]
    check: Callable[[Any], None]
    seal: Callable[[Files, Random], Files] | None = None  # what an author would make agree again

    def spoil(self, files: Files, choose: Random) -> Files:
        """A spoilt copy of an input; hashes in it are right again in half of the cases."""
        spoilt = mutate(files, choose)
        return self.seal(spoilt, choose) if self.seal and choose.randrange(2) else spoilt


def write_files(files: Files, folder: Path) -> None:
    """The files below ``folder``."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def read_files(folder: Path) -> Files:
    """All files below ``folder``."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def made_by(write: Callable[[Path], Any]) -> Files:
    """The files that ``write`` leaves in a folder."""
    with TemporaryDirectory() as folder:
        write(Path(folder))
        return read_files(Path(folder))


def npy(array: Any) -> bytes:
    stream = BytesIO()
    np.save(stream, np.asarray(array), allow_pickle=False)
    return stream.getvalue()


def npz(arrays: dict[str, Any]) -> bytes:
    return write_members({f"{name}.npy": npy(array) for name, array in arrays.items()})


# -- what must be true -----------------------------------------------------------------------------


def check_corpus(corpus: Corpus) -> None:
    """What everything that takes a corpus relies on."""
    n = len(corpus)
    assert n > 0
    assert len(set(corpus.classes)) == len(corpus.classes) >= 2
    assert all(isinstance(name, str) and name for name in corpus.classes)
    assert corpus.labels.shape == (n,)
    assert 0 <= corpus.labels.min() <= corpus.labels.max() < len(corpus.classes)
    ids = corpus.utterances["id"]
    assert all(isinstance(name, str) and name for name in ids)
    assert ids.is_unique
    assert isinstance(corpus.utterances.index, pd.RangeIndex)
    for modality in corpus.modalities:
        ragged = corpus.features[modality]
        assert len(ragged) == n
        assert ragged.width >= 1
        assert (ragged.lengths >= 0).all()
        assert sum(len(frames) for frames in ragged) == len(ragged.values)
    json.dumps([corpus.name, corpus.classes, corpus.notes], ensure_ascii=False).encode()
    corpus.utterances.to_csv(index=False).encode()
    assert len(corpus.fingerprint) == 16
    use_corpus(corpus)


def use_corpus(corpus: Corpus) -> None:
    """What `mmer corpus info`, a model and a sweep ask of a corpus."""
    from mmer_lib.cli import describe

    for told in (describe.class_counts(corpus), describe.modality_table(corpus)):
        assert len(told.to_string())
    for text in (describe.groups(corpus), describe.histograms(corpus), describe.recipes(corpus)):
        assert text
    for modality in corpus.modalities:
        padded = corpus.recipe.get(modality, {}).get("padded_length")
        assert padded is None or int(padded) >= 1
        padding = corpus.recipe.get(modality, {}).get("padding")
        assert padding is None or np.array(padding, np.float32).shape == (
            corpus.features[modality].width,
        )
        corpus.clip(modality, 0)
    assert len(corpus.take(np.array([0]))) == 1
    if corpus.published is not None or corpus.known("split") is not None:
        answer_of(lambda: corpus.folds("published"))


def answer_of(ask: Callable[[], Any]) -> Any:
    """What is answered, or None where it is refused in one line."""
    try:
        return ask()
    except InputError as error:
        refusal = str(error)
    assert one_line(refusal), f"no line to show: {refusal[:300]!r}"
    return None


def check_listing(listing: Listing) -> None:
    """As of a corpus, before features are made."""
    table = listing.utterances
    n = len(table)
    assert n > 0
    assert table["label"].between(0, len(listing.classes) - 1).all()
    assert table["id"].is_unique
    assert all(isinstance(name, str) and name for name in table["id"])
    table.to_csv(index=False).encode()
    for clips in listing.clips.values():
        assert len(clips) == n
        for clip in clips:
            if clip is not None and clip.path is not None:
                assert clip.path.absolute().is_relative_to(listing.root.absolute())
                assert 0 <= clip.start < np.inf
                assert clip.end is None or clip.start < clip.end < np.inf
    for column in ("valence", "activation", "dominance"):
        if column in table:
            assert np.isfinite(table[column]).all()


def one_line(message: str) -> bool:
    """Whether a message is one line of bearable length that a terminal shows as it is."""
    hidden = (c for c in message if category(c) in _HIDDEN and c not in _JOIN)
    return 0 < len(message) <= 2000 and not any(hidden)


_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, marks, halves, ends of lines
_JOIN = "\u200c\u200d"  # joiners of letters: what scripts and emoji need is let through


# -- corpora ---------------------------------------------------------------------------------------


def a_corpus(extras: bool) -> Corpus:
    rng = np.random.default_rng(0)
    n = 6
    table = pd.DataFrame(
        {
            "id": [f"u{i}" for i in range(n)],
            "label": [0, 1, 2, 0, 1, 2],
            "speaker": ["s1", "s2", "s1", "s2", None, "s3"],
            "dialogue": ["d1", "d1", "d2", "d2", "d3", "d3"],
            "split": ["train", "train", "train", "dev", "test", "test"],
            "text": ["We won!", "Well, no.", "é", None, 'a "b"', "c\nd"],
        }
    )
    features = {
        m: Ragged.from_list([rng.standard_normal((i % 3 + 1, w)) for i in range(n)], w)
        for m, w in (("audio", 3), ("text", 2))
    }
    if not extras:
        return Corpus("plain", ("calm", "glad", "cross"), table, features)
    recipe = {"audio": {"features": "x", "rate": 100.0, "padded_length": 5, "padding": [0.0] * 3}}
    events = pd.DataFrame(
        {"id": ["u0", "u1"], "modality": ["audio", "text"], "frame": [0, 1], "role": ["a", "b"],
         "key": [1, 2], "value": [0, 1]}
    )  # fmt: skip
    published = pd.DataFrame({"id": table["id"], "fold01": table["split"], "fold02": ["train"] * 6})
    clips = pd.DataFrame(
        {"id": ["u0", "u1"], "modality": ["audio", "audio"], "path": ["a/u0.wav", "a/u1.wav"],
         "start": [0.0, 1.5], "end": [1.0, None], "half": ["", "left"]}
    )  # fmt: skip
    return Corpus(
        "full", ("calm", "glad", "cross"), table, features, recipe, events, published, ("note",),
        clips, Path("media"),
    )  # fmt: skip


def corpus_folders() -> list[Files]:
    return [made_by(lambda f, e=e: a_corpus(e).save(f / "c")) for e in (False, True)]


def seal_corpus(files: Files, choose: Random) -> Files:
    """``corpus.json`` vouches for the tables and arrays as they are, as far as they can be read."""
    with suppress(Exception):
        about = json.loads(files["c/corpus.json"])
        about["tables"] = {
            name[2:]: blake2b(content) for name, content in files.items() if name.endswith(".csv")
        }
        for modality in about["hashes"].keys() - {"utterances"}:
            with suppress(Exception):
                kinds = ("values", "offsets")
                arrays = [BytesIO(files[f"c/{modality}.{kind}.npy"]) for kind in kinds]
                about["hashes"][modality] = blake2b(*map(np.load, arrays))
        return {**files, "c/corpus.json": json.dumps(about).encode()}
    return files


def read_corpus_folder(folder: Path) -> Corpus:
    from mmer_lib.corpora.folder import read_corpus

    return read_corpus(folder / "c")


def published_folds() -> list[Files]:
    """One fold with indices and the embedding beside, and one with vectors."""
    rng = np.random.default_rng(0)

    def write(text: str) -> Files:
        files = {"source/W_embedding.npy": npy(rng.standard_normal((9, 2)).astype(np.float32))}
        for part, n in zip(PARTS, (4, 2, 2), strict=True):
            at = f"source/fold01/{part}_"
            files[at + "label.npy"] = npy(np.arange(n) % 3)
            files[at + "audio_mfcc.npy"] = npy(rng.standard_normal((n, 5, 3)).astype(np.float32))
            files[at + "audio_seqN.npy"] = npy(np.arange(n) % 5 + 1)
            files[at + "video.npy"] = npy(rng.standard_normal((n, 3, 2)))
            files[at + "video_seqN.npy"] = npy(np.arange(n) % 4)
            indices = rng.integers(0, 9, (n, 4))
            if text != "vectors":
                files[at + "nlp_trans.npy"] = npy(indices)
            if text != "indices":
                vectors = rng.standard_normal((n, 4, 2)).astype(np.float32)
                files[at + "text.npy"] = npy(vectors)
        return files

    return [write(text) for text in ("indices", "vectors", "both")]


def read_folds(folder: Path) -> Corpus:
    from mmer_lib.corpora.processed import processed

    return processed(folder / "source", folder / "made")


def mmsa_data(aligned: bool) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    made: dict[str, Any] = {}
    for split, ratings in {"train": [-2.4, 0.0, 1.5], "valid": [-0.4], "test": [0.6, -3.0]}.items():
        n = len(ratings)
        one: dict[str, Any] = {
            "raw_text": [f"words {i}" for i in range(n)],
            "id": np.array([f"{split}v$_${i}" for i in range(n)]),
            "regression_labels": np.array(ratings, np.float32),
            "annotations": [("Neutral", "Positive", "Negative")[int(np.sign(r))] for r in ratings],
            "text_bert": np.ones((n, 3, 4), np.float32),
        }
        for kind, width in (("text", 3), ("audio", 2), ("vision", 2)):
            steps = 4 if aligned or kind == "text" else 5
            one[kind] = rng.standard_normal((n, steps, width)).astype(np.float32)
        if not aligned:
            one["audio_lengths"] = [i + 1 for i in range(n)]
            one["vision_lengths"] = np.arange(1, n + 1)
        made[split] = one
    return made


def mmsa_files() -> list[Files]:
    return [
        {"data.pkl": pickle.dumps(mmsa_data(aligned), protocol)}
        for aligned in (False, True)
        for protocol in (2, 4)
    ]


def read_mmsa(folder: Path) -> Corpus:
    from mmer_lib.corpora.mmsa import mmsa

    return mmsa(folder / "data.pkl", folder / "made")


def pickles() -> list[Files]:
    content = {
        "numbers": [0, -1, 255, 2**31, 10**40, 2.5, True, None], "text": ["cöd€", "a\nb"],
        "nested": [{"b": ()}, (1, 2, 3, (4,))], "bytes": b"\x00\xff", "F": np.asfortranarray(
            np.arange(6.0).reshape(2, 3)),
        "turned": np.arange(8).reshape(2, 2, 2).transpose(1, 0, 2),
        "words": np.array(["ab", "cöd"]), "objects": np.array(["x", None, 3], dtype=object),
        "scalars": [np.float32(2.5), np.str_("word")], "truth": np.array([True, False]),
    }  # fmt: skip
    return [{"data.pkl": pickle.dumps(content, protocol)} for protocol in range(6)]


def read_pickle(folder: Path) -> tuple[Path, Any]:
    from mmer_lib.corpora.unpickle import load_plain

    return folder / "data.pkl", load_plain(folder / "data.pkl")


class _NoNames(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError("a name")


def check_pickle(found: tuple[Path, Any]) -> None:
    """Where the file names nothing, pickle itself must read the same (as far as text of now)."""
    file, read = found
    _check_plain(read)
    content, agrees = file.read_bytes(), True
    if any(code in content for code in (b"U", b"T", b"S")):  # text of Python 2: ours are bytes
        return
    with suppress(Exception):  # a name, or what pickle refuses: it knows more than we, and less
        other = _NoNames(BytesIO(content)).load()
        agrees = _alike(read, other)
    assert agrees, "pickle itself reads something else"


def _check_plain(value: Any) -> None:
    """Containers, text, numbers and arrays all through; visited once, as they may be shared."""
    seen: set[int] = set()
    left = [value]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, dict):
            assert type(one) is dict
            left += [*one, *one.values()]
        elif isinstance(one, list | tuple):
            assert type(one) in (list, tuple)
            left += one
        elif isinstance(one, np.ndarray):
            one[:1].tolist() if one.ndim else one.tolist()
        else:
            assert one is None or isinstance(one, bool | int | float | str | bytes | np.generic)


def _alike(a: Any, b: Any) -> bool:
    """Whether two values are the same all through; a pair that was compared is not again."""
    seen: set[tuple[int, int]] = set()
    left = [(a, b)]
    while left:
        one, other = left.pop()
        if (id(one), id(other)) in seen:
            continue
        seen.add((id(one), id(other)))
        if isinstance(other, bytes | bytearray):  # long ones stay in the file, as an array
            if bytes(one) != bytes(other):
                return False
        elif type(one) is not type(other):
            return False
        elif isinstance(one, dict):
            if list(one) != list(other):
                return False
            left += [(one[key], other[key]) for key in one]
        elif isinstance(one, list | tuple):
            if len(one) != len(other):
                return False
            left += zip(one, other, strict=True)
        elif one != other and one == one:
            return False
    return True


MANIFEST = """audio,video,text,label,speaker,dialogue,split,id,start,end
audio/a1.wav,video/a1.mp4,We won!,happy,Ana,d1,train,one,0,1.5
audio/a1.wav,,"Well, no.",sad,Ben,d1,dev,two,1.5,2
,video/a3.mp4,,happy,Ana,d2,test,three,,
,,words/a4.txt,angry,,,,four,,
"""


def manifests() -> list[Files]:
    media = dict.fromkeys(("m/audio/a1.wav", "m/video/a1.mp4", "m/video/a3.mp4"), b"")
    return [{"m/mine.csv": MANIFEST.encode(), "m/words/a4.txt": b"Leave me alone.\n", **media}]


def read_table(folder: Path) -> Listing:
    from mmer_lib.corpora.manifest import read_manifest

    return read_manifest(folder / "m" / "mine.csv")


def releases() -> list[Files]:
    from miniature_iemocap import name_utterances, write_labels, write_transcript

    def write(folder: Path) -> None:
        session = folder / "IEMOCAP_full_release" / "Session1"
        utterances = name_utterances("Ses01F_impro01", ("ang", "exc", "sad", "neu"))
        write_labels(session, "Ses01F_impro01", utterances)
        write_transcript(session, "Ses01F_impro01", utterances)

    return [{k: v for k, v in made_by(write).items() if "Categorical" not in k}]


def read_release(folder: Path) -> Listing:
    from mmer_lib.corpora.iemocap import read_iemocap

    return read_iemocap(folder)


MELD = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,"
    "EndTime\n"
    '1,"also I was, ""the point"" person",Ann,neutral,neutral,0,0,8,21,"0:16:16,059","0:16:21,7"\n'
    '2,You must\u2019ve had it.,The Boss,surprise,positive,0,1,8,21,"00:16:21,940","00:16:23,442"\n'
    '3,That I did.,Ann,anger,negative,1,0,8,21,"00:16:23,442","00:16:26,389"\n'
)


def meld_tables() -> list[Files]:
    content = MELD.encode()
    tables = {"train_sent_emo.csv": content, "dev_sent_emo.csv": content}
    return [{**tables, "train_splits/dia0_utt0.mp4": b""}]


def read_meld_tables(folder: Path) -> Listing:
    from mmer_lib.corpora.meld import read_meld

    return read_meld(folder)


def acted_files() -> list[Files]:
    sexes = (
        b"ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,Caucasian,Not Hispanic\n1002,21,Female,x,y\n"
    )
    names = ("1001_DFA_ANG_XX.wav", "1002_IEO_SAD_HI.wav", "1001_IEO_HAP_LO.wav")
    return [{"VideoDemographics.csv": sexes, **{f"AudioWAV/{n}": b"" for n in names}}]


def read_acted(folder: Path) -> Listing:
    from mmer_lib.corpora.acted import read_crema_d

    return read_crema_d(folder)


def mosi_archives() -> list[Files]:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, n in (("train", 4), ("test", 3)):
        arrays[f"{split}_label"] = (np.arange(n) % 2).astype(np.int8)
        arrays[f"{split}_video_id"] = np.array([f"{split}{i // 2}" for i in range(n)])
        arrays[f"{split}_pos"] = np.arange(n, dtype=np.int16)
        arrays[f"{split}_transcript"] = np.array([f"WORDS {i}" for i in range(n)])
        for name, width in (("text", 3), ("audio", 2), ("visual", 2)):
            arrays[f"{split}_{name}"] = rng.standard_normal((n, width)).astype(np.float32)
    return [{"mosi.npz": npz(arrays)}]


def read_mosi(folder: Path) -> Corpus:
    from mmer_lib.corpora.mosi import mosi

    return mosi(folder / "mosi.npz", context=1)


def mmmo_archives() -> list[Files]:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, ratings in (("train", [1.0, 3.5]), ("valid", [2.5, 4.0]), ("test", [1.5, 4.5])):
        arrays[f"{split}_y"] = np.array(ratings, np.float32)
        for name, width in (("audio", 3), ("visual", 2), ("text", 4)):
            if (split, name) != ("train", "text"):
                made = rng.uniform(1, 2, (len(ratings), 4, width)).astype(np.float32)
                arrays[f"{split}_{name}"] = made
    return [{"mmmo.npz": npz(arrays)}]


def read_mmmo(folder: Path) -> Corpus:
    from mmer_lib.corpora.mmmo import mmmo

    return mmmo(folder / "mmmo.npz")


def own_frames() -> list[Files]:
    rng = np.random.default_rng(0)
    files = {
        "mine/utterances.csv": b"id,label,speaker,split\na,sad,Ana,train\nb,glad,Ben,\nc,sad,,dev\n"
    }
    for name in "abc":
        files[f"mine/audio/{name}.npy"] = npy(rng.standard_normal((3, 2)).astype(np.float32))
    files["mine/text/a.npy"] = npy(rng.standard_normal((1, 4)))
    return [files]


def read_own_frames(folder: Path) -> Corpus:
    from mmer_lib.corpora.frames import frames

    return frames(folder / "mine")


def frame_archives() -> list[Files]:
    rng = np.random.default_rng(0)
    arrays = {
        "id": np.array(["a", "b", "c"]), "label": np.array([0, 1, 0]),
        "speaker": np.array(["x", "y", ""]), "split": np.array(["train", "dev", "test"]),
        "audio_values": rng.standard_normal((5, 2)).astype(np.float32),
        "audio_lengths": np.array([2, 0, 3]),
    }  # fmt: skip
    return [{"mine.npz": npz(arrays)}]


def read_frame_archive(folder: Path) -> Corpus:
    from mmer_lib.corpora.frames import frames

    return frames(folder / "mine.npz")


# -- features --------------------------------------------------------------------------------------

RECIPE = {"name": "mfcc"}
TRACK = "0123456789abcdef"


def cached_tracks() -> list[Files]:
    from safetensors.numpy import save

    arrays = {
        "values": np.ones((3, 2), np.float32), "times": np.arange(3.0),
        "faceless": np.array([1]),
    }  # fmt: skip
    spans = {"spans": np.array([[0, 1], [1, 2], [2, 3]])}
    return [{"track.safetensors": save(arrays)}, {"track.safetensors": save(arrays | spans)}]


def read_cached(folder: Path) -> Any:
    from mmer_lib.features.cache import TrackCache

    cache = TrackCache(folder / "cache", RECIPE, width=2)
    file = cache.folder / TRACK[:2] / f"{TRACK}.safetensors"
    file.parent.mkdir(parents=True)
    (folder / "track.safetensors").rename(file)
    return cache.get(TRACK)


def check_track(track: Any) -> None:
    """An entry that is not whole is none; any other one can be used as it is."""
    if track is None:
        return
    assert track.values.dtype == np.float32
    assert track.values.shape[1:] == (2,)
    assert np.isfinite(track.values).all()
    assert track.times.shape == track.values.shape[:1]
    assert track.times.dtype == np.float64
    assert 0 <= track.faceless <= len(track)
    if track.spans is not None:
        assert track.spans.dtype == np.int64
        assert track.spans.shape == (len(track), 2)
    track.pooled(2)
    track.first(1)


def word_files() -> list[Files]:
    return [
        {"words.txt": b"the 0.1 -0.2 3\n. . . 1 2 3\ncaf\xc3\xa9 0 1e-3 5\n"},
        {"words.txt": b"3 2\nthe 0.1 -0.2\na 1 2\nb 3 4\n"},
    ]


def read_words(folder: Path) -> Any:
    from mmer_lib.features.wordfile import word_table

    (file,) = folder.glob("words.*")
    table = word_table(file)
    return table, [table.find(word) for word in ("the", ". . .", "café", "a", "b", "", "\ud800")]


def check_words(found: Any) -> None:
    table, vectors = found
    assert table.entries >= 1
    assert table.width >= 1
    for vector in vectors:
        if vector is not None:
            assert vector.shape == (table.width,)
            assert vector.dtype == np.float32
            assert np.isfinite(vector).all()


def word_archives() -> list[Files]:
    words = np.array(["the", "a", "b"])
    vectors = np.arange(6.0).reshape(3, 2)
    return [{"words.npz": npz({"words": words, "vectors": vectors})}]


# -- results ---------------------------------------------------------------------------------------

KEYS = ("0123456789abcdef", "fedcba9876543210")


def stores() -> list[Files]:
    from mmer_lib.store import ResultStore, StoredPredictions

    def write(folder: Path) -> None:
        store = ResultStore(folder / "store")
        history = pd.DataFrame({"epoch": [1, 2], "dev_loss": [0.5, 0.25]})
        parts = {
            part: StoredPredictions(
                np.array([f"{part}-é", "b"]), np.array([1, 0]), np.array([[0.25, 0.75], [0.5, 0.5]])
            )
            for part in ("dev", "test")
        }
        weights = {"classifier.weight": np.arange(6.0).reshape(2, 3)}
        for seed, key in enumerate(KEYS):
            row = {"study": "s", "configuration": "self-T", "fold": 0, "seed": seed,
                   "accuracy": 0.5}  # fmt: skip
            store.write(key, {"row": row, "classes": ["a", "b"]}, history, parts, weights)
        store.note_plan("sweep", list(KEYS))

    return [made_by(write)]


def read_store(folder: Path) -> dict[str, Any]:
    """Everything that can be asked of a store; each answer may be a refusal of its own."""
    from mmer_lib.store import ResultStore

    store = ResultStore(folder / "store", create=False)
    asked: dict[str, Callable[[], Any]] = {
        "frame": store.to_frame, "plans": store.plans, "plan": lambda: store.plan("sweep"),
    }  # fmt: skip
    for key in KEYS:
        asked |= {
            f"run {key}": lambda key=key: store.run(key),
            f"classes {key}": lambda key=key: store.classes(key),
            f"history {key}": lambda key=key: store.history(key),
            f"dev {key}": lambda key=key: store.predictions(key, "dev"),
            f"test {key}": lambda key=key: store.predictions(key, "test"),
            f"weights {key}": lambda key=key: store.weights(key),
        }
    answers = {name: answer_of(ask) for name, ask in asked.items()}
    return {name: answer for name, answer in answers.items() if answer is not None}


def check_store(answers: dict[str, Any]) -> None:
    for name, answer in answers.items():
        if name.startswith(("dev ", "test ")):
            n = len(answer.ids)
            assert answer.ids.dtype.kind == "U"
            assert answer.labels.shape == (n,)
            assert answer.labels.dtype.kind in "iu"
            assert answer.probabilities.ndim == 2
            assert len(answer.probabilities) == n
            assert answer.probabilities.dtype.kind == "f"
            answer.ids.tolist()
        elif name.startswith("weights"):
            assert all(isinstance(array, np.ndarray) for array in answer.values())
        elif name.startswith("classes"):
            assert all(isinstance(one, str) for one in answer)


# -- notebooks and texts ---------------------------------------------------------------------------

CELL = """corpus: str = "synthetic"  # a name
seeds: int = 2  # runs a fold
lr: float = 0.01  # Adam's
quick: bool = True  # or not
models: list = ["self-AVT"]  # configurations
sizes: dict = {"width": 32}  # overrides
protocol: str = "random"  # how (choices: published | random)
"""


def settings_texts() -> list[Files]:
    given = (
        "03.seeds=3", "*.corpus=runs/corpora/mine", "03.lr=1e-3", "03_training.quick=false",
        '03.models=["self-AT", "cross-AT"]', "03.sizes={'width': 32}", "*.protocol=random",
    )  # fmt: skip
    return [{"cell.py": CELL.encode(), "set.arg": text.encode()} for text in given]


def read_settings_text(folder: Path) -> Any:
    from mmer_lib.pipeline.parameters import read_parameters, read_settings

    cell = (
        (folder / "cell.py").read_text("utf-8", "surrogateescape")
        if (folder / "cell.py").exists()
        else CELL
    )
    text = _argument(folder, "set.arg")
    parameters = read_parameters(cell, "03_training.ipynb")
    return parameters, read_settings([text], {"03_training": parameters})


def _argument(folder: Path, name: str) -> str:
    """As Python gives a command's argument: bytes that are no UTF-8 as lone surrogates."""
    file = folder / name
    return file.read_bytes().decode("utf-8", "surrogateescape") if file.exists() else ""


def check_settings(found: Any) -> None:
    """Every value is what its parameter says, and papermill writes it down as that value."""
    import ast

    from mmer_lib.pipeline.parameters import KINDS

    parameters, settings = found
    for name, value in settings["03_training"].items():
        assert type(value) is KINDS[parameters[name].kind][0]
        from papermill.translators import PythonTranslator

        try:
            code = PythonTranslator.codify({name: value}, "Parameters")
        except ValueError as error:  # pragma: no cover - told of below
            raise AssertionError(f"papermill cannot write {value!r}") from error
        body = ast.parse(code).body
        assert len(body) == 1, code
        assert isinstance(body[0], ast.Assign)
        assert ast.literal_eval(body[0].value) == value, code


def notebooks() -> list[Files]:
    cells = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# 01"},
        {"cell_type": "code", "id": "b", "metadata": {"tags": ["parameters"]}, "source": CELL,
         "outputs": [], "execution_count": None},
        {"cell_type": "code", "id": "c", "metadata": {}, "source": "1 + 1", "execution_count": 1,
         "outputs": [{"output_type": "stream", "name": "stdout", "text": "2"}]},
    ]  # fmt: skip
    node = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}
    return [{"01_data.ipynb": json.dumps(node).encode()}]


def read_notebook_files(folder: Path) -> Any:
    from mmer_lib.pipeline.notebooks import normalise, read_notebooks

    found = read_notebooks(folder)
    return {stem: (one.parameters, normalise(one.node)) for stem, one in found.items()}


def names_of_configurations() -> list[Files]:
    names = (
        "self-AVT", "cross-AT", "selfcross-AVT", "cross-AVT-nosp@released,masks=true",
        "self-T,width=32,heads=4,attention_dropout=0.2,scale=audio", "joint-AV,depth=2,inner=8",
    )  # fmt: skip
    return [{"name.arg": name.encode()} for name in names]


def read_configuration(folder: Path) -> Any:
    from mmer_lib.model import parse_configuration

    return parse_configuration(_argument(folder, "name.arg"))


def check_configuration(config: Any) -> None:
    assert 1 <= config.width * config.heads * config.hidden < 2**63
    assert config.modalities
    assert config.for_fusion().modalities == config.modalities


def specifications() -> list[Files]:
    texts = (
        "mfcc", "mfcc,deltas=false,longest=10", "logmel,bands=64", "dct,size=64,crop=face", "none",
        "hog", "hashed,width=64", "prosody", "glove:vectors.txt,longest=128", "auto",
    )  # fmt: skip
    return [{"spec.arg": text.encode()} for text in texts]


def read_specification(folder: Path) -> Any:
    from mmer_lib.features.registry import build_extractor

    text = _argument(folder, "spec.arg")
    asked = [answer_of(partial(build_extractor, modality, text)) for modality in MODALITIES]
    built = [one for one in asked if one is not None and "source" not in vars(one)]
    json.dumps([one.recipe() for one in built], allow_nan=False)
    return [(one.width, one.describe()) for one in built]


def check_specification(built: Any) -> None:
    assert all(1 <= width <= 10**6 and text for width, text in built)


def corpus_texts() -> list[Files]:
    texts = (
        "synthetic,utterances=12,features=4,longest=5", "synthetic,cross_binding=1,utterances=24",
        "staged,seed=2",
    )  # fmt: skip
    return [{"corpus.arg": text.encode()} for text in texts]


def read_corpus_text(folder: Path) -> Any:
    """The options of a corpus as text; nothing is made of them."""
    from mmer_lib.corpora import CORPORA, read_options
    from mmer_lib.options import split_specification

    name, options = split_specification(_argument(folder, "corpus.arg"))
    if name not in CORPORA:
        raise InputError("unknown")
    return read_options(name, options)


def always(_: Any) -> None:
    """Nothing more to ask than that it was read."""


def _all() -> Iterator[Reader]:
    yield Reader("corpus folder", corpus_folders, read_corpus_folder, check_corpus, seal_corpus)
    yield Reader("published folds", published_folds, read_folds, check_corpus)
    yield Reader("mmsa", mmsa_files, read_mmsa, check_corpus)
    yield Reader("pickle", pickles, read_pickle, check_pickle)
    yield Reader("manifest", manifests, read_table, check_listing)
    yield Reader("iemocap", releases, read_release, check_listing)
    yield Reader("meld", meld_tables, read_meld_tables, check_listing)
    yield Reader("crema-d", acted_files, read_acted, check_listing)
    yield Reader("mosi", mosi_archives, read_mosi, check_corpus)
    yield Reader("mmmo", mmmo_archives, read_mmmo, check_corpus)
    yield Reader("frames folder", own_frames, read_own_frames, check_corpus)
    yield Reader("frames archive", frame_archives, read_frame_archive, check_corpus)
    yield Reader("feature cache", cached_tracks, read_cached, check_track)
    yield Reader("word vectors", word_files, read_words, check_words)
    yield Reader("word archive", word_archives, read_words, check_words)
    yield Reader("store", stores, read_store, check_store)
    yield Reader("parameters", settings_texts, read_settings_text, check_settings)
    yield Reader("notebook", notebooks, read_notebook_files, always)
    yield Reader("configuration", names_of_configurations, read_configuration, check_configuration)
    yield Reader("feature options", specifications, read_specification, check_specification)
    yield Reader("corpus options", corpus_texts, read_corpus_text, always)


READERS = {reader.name: reader for reader in _all()}
