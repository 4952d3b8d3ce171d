"""Every byte of a run counts: whatever is changed, cut, added or taken away is found."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from forge import change_predictions, reseal
from hypothesis import given, settings
from hypothesis import strategies as st
from small import SIZES, learnable_corpus

from mmer_lib import audit, metrics
from mmer_lib.audit import check_run, describe_store, set_aside, verify, verify_notes
from mmer_lib.errors import InputError, Notice
from mmer_lib.integrity import Damage, read_run, read_signed, render, sign, spec_key
from mmer_lib.robustness import run_track
from mmer_lib.store import SEMANTICS, ResultStore
from mmer_lib.sweep import Plan, restore, run_plan
from mmer_lib.train import TrainConfig

FILES = ("history.csv", "predictions.npz", "run.json", "weights.safetensors")
CORPUS = learnable_corpus(36, seed=2)
PLAN = Plan(CORPUS, ("self-T", "cross-AT"), n_folds=2, seeds=1,
            train=TrainConfig(epochs=1, batch_size=16), model=SIZES)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a store of four runs, for tests that copy it or only read."""
    folder = tmp_path_factory.mktemp("finished") / "store"
    run_plan(PLAN, ResultStore(folder))
    return folder


@pytest.fixture
def store(finished, tmp_path) -> ResultStore:
    """A copy of it that may be damaged."""
    return ResultStore(shutil.copytree(finished, tmp_path / "store"))


def first(store: ResultStore) -> Path:
    """The folder of a run."""
    return store.path / store.keys()[0]


# What is damaged is found


def test_what_was_written_is_whole(finished):
    store = ResultStore(finished)
    assert len(store.keys()) == 4
    assert list(verify(store)) == []


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(FILES), data=st.data())
def test_a_byte_that_becomes_another_anywhere_is_found(finished, name, data):
    store = ResultStore(finished)
    file = first(store) / name
    content = file.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda n: n != content[place]))
    try:
        file.write_bytes(content[:place] + bytes([byte]) + content[place + 1 :])
        with pytest.raises(Damage, match=name):
            check_run(store, file.parent.name)
    finally:
        file.write_bytes(content)


def test_every_single_byte_of_the_record_counts(finished, tmp_path):
    """Blanks, which change no content, become tabs."""
    whole = first(ResultStore(finished))
    folder = shutil.copytree(whole, tmp_path / whole.name)
    file = folder / "run.json"
    content = file.read_bytes()
    unseen = []
    for place, byte in enumerate(content):
        other = bytes([byte ^ (0x29 if byte == 0x20 else 1)])
        file.write_bytes(content[:place] + other + content[place + 1 :])
        try:
            read_run(folder)
            unseen.append(place)
        except Damage:
            pass
    assert unseen == []
    file.write_bytes(content)
    assert read_run(folder)["key"] == folder.name


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from(FILES), data=st.data())
def test_a_file_that_was_cut_or_grew_is_found_before_it_is_read(finished, name, data):
    store = ResultStore(finished)
    file = first(store) / name
    content = file.read_bytes()
    cut = content[: data.draw(st.integers(0, len(content) - 1))]
    changed = data.draw(st.sampled_from([cut, content + b"\n", content + cut[:1] + b"\0"]))
    try:
        file.write_bytes(changed)
        assert list(store.damaged()) == [file.parent.name]
    finally:
        file.write_bytes(content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(content=st.dictionaries(st.text().filter(lambda name: name != "digest"), JSON))
def test_what_was_signed_is_read_again(content, tmp_path_factory):
    file = tmp_path_factory.mktemp("signed") / "x.json"
    file.write_bytes(render(sign(content)))
    assert repr(read_signed(file)) == repr(content)  # NaN is not equal to itself


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"3", b"{}", b"\xff", b'{"digest": "x"}', b"[" * 100_000],
    ids=lambda raw: repr(raw[:20]),
)
def test_what_nobody_signed_is_damaged(tmp_path, raw):
    file = tmp_path / "x.json"
    file.write_bytes(raw)
    with pytest.raises(Damage, match=r"x\.json is not as it was written"):
        read_signed(file)


def test_blanks_that_change_no_content_are_found_too(tmp_path):
    file = tmp_path / "x.json"
    for text in ("{}", '{"a": 1.0, "b": "\\u00e9"}'):
        written = render(sign(json.loads(text)))
        others = [written.replace(b" ", b"\t"), written.rstrip(), written.replace(b"\n", b"\r\n"),
                  written.replace(b'"digest"', b'"digest": 0, "digest"')]  # fmt: skip
        for other in others:
            file.write_bytes(other)
            with pytest.raises(Damage):
                read_signed(file)


def edit_text(before: str, after: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        file = folder / "run.json"
        text = file.read_text(encoding="utf-8")
        assert before in text
        file.write_text(text.replace(before, after, 1), encoding="utf-8")

    return edit


def edit_row(**changed: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        reseal(folder, row=read_signed(folder / "run.json")["row"] | changed)

    return edit


def turn_answers(folder: Path) -> None:
    """All answers of the test part are right, and all hashes fit."""
    with np.load(folder / "predictions.npz") as arrays:
        right = np.eye(3)[arrays["test_labels"]]
    change_predictions(folder, test_probabilities=right)
    reseal(folder)


def other_record(folder: Path) -> None:
    """The record of another run."""
    (other,) = sorted(folder.parent.glob("[0-9a-f]" * 16))[1:2]
    shutil.copy(other / "run.json", folder)


def other_seed(folder: Path) -> None:
    spec = read_signed(folder / "run.json")["specification"]
    reseal(folder, specification=spec | {"seed": 99})


def drop_arrays(folder: Path) -> None:
    np.savez_compressed(folder / "predictions.npz", other=np.zeros(3))
    reseal(folder)


TAMPERING: dict[str, tuple[Callable[[Path], object], str]] = {
    **{f"no {name}": (lambda f, n=name: (f / n).unlink(), f"{name} is missing") for name in FILES},
    **{
        f"a folder for {name}": (
            lambda f, n=name: ((f / n).unlink(), (f / n).mkdir()),
            name,
        )
        for name in FILES
    },
    "score edited": (edit_text('"accuracy": 0.', '"accuracy": 1.'), "run.json is not as it was"),
    "score edited, hashes fit": (edit_row(accuracy=0.999), "run.json says accuracy 0.999, its"),
    "score gone, hashes fit": (edit_row(macro_f1=None), "run.json says macro_f1 None, its files"),
    "name edited, hashes fit": (edit_row(configuration="self-A"), "says configuration self-A"),
    "fold edited, hashes fit": (edit_row(fold=7), "says fold 7, its files say"),
    "dev score edited, hashes fit": (edit_row(dev_accuracy=1.0), "says dev_accuracy 1.0, its"),
    "epochs edited, hashes fit": (edit_row(epochs=9), "says epochs 9, its files say 1"),
    "semantics edited, hashes fit": (edit_row(semantics=1), "says semantics 1, its files say"),
    "answers edited, hashes fit": (turn_answers, "its files say"),
    "arrays gone, hashes fit": (drop_arrays, "its files are not those of a run"),
    "record of another run": (other_record, "moved here from its folder"),
    "seed edited, hashes fit": (other_seed, "the key of its specification is"),
}  # fmt: skip


@pytest.mark.parametrize("how", TAMPERING)
def test_tampering_is_found_and_named(store, how):
    tamper, told = TAMPERING[how]
    folder = first(store)
    tamper(folder)
    (one,) = verify(store)
    assert (one.key, one.mend) == (folder.name, True)
    assert told in one.what
    assert "\n" not in one.sentence()


def test_a_run_in_a_folder_of_another_name_is_found(store):
    folder = first(store)
    folder.rename(folder.with_name("f" * 16))
    (one,) = verify(store)
    assert one.key == "f" * 16
    assert f"it is run {folder.name}" in one.what


def test_a_file_that_does_not_belong_is_told_but_needs_no_new_run(store):
    (first(store) / "notes.txt").write_text("look at this")
    (first(store) / ".DS_Store").write_text("of a file manager")
    (one,) = verify(store)
    assert not one.mend
    assert "(cross-AT, fold" in one.sentence() or "(self-T, fold" in one.sentence()
    assert one.sentence().endswith("; move that elsewhere, the numbers are sound")
    assert "notes.txt does not belong to it" in one.what
    assert ".DS_Store" not in one.what
    assert store.damaged() == {}


@pytest.mark.parametrize("kind", ["plans", "tracks"])
def test_damaged_plans_and_tracks_are_found_with_what_to_do(store, kind):
    several = store.to_frame().query("configuration == 'cross-AT'")
    run_track("missing", several, store, CORPUS)
    assert list(verify_notes(store)) == []
    file = next((store.path / kind).glob("*.json"))
    file.write_bytes(file.read_bytes().replace(b'"', b"'", 1))
    (one,) = verify_notes(store)
    assert one.sentence().startswith(f"{kind}/{file.name}: {file.name} is not as it was written; ")
    assert not one.mend
    assert "remove it and " in one.remedy


def test_verify_looks_at_those_that_are_asked_for_and_there(store):
    for key in store.keys():  # noqa: SIM118
        (store.path / key / "history.csv").unlink()
    asked = [*store.keys()[:2], "e" * 16]
    assert [one.key for one in verify(store, asked)] == asked[:2]


def test_a_score_that_a_later_version_added_is_no_damage(store, monkeypatch):
    monkeypatch.setitem(metrics.METRICS, "new", metrics.accuracy)
    assert list(verify(store)) == []
    monkeypatch.setitem(metrics.METRICS, "accuracy", lambda *_: 0.5)
    assert len(list(verify(store))) == 4


def test_a_score_may_differ_by_the_order_of_additions_only():
    assert audit._same(0.1 + 0.2, 0.3)
    assert audit._same(math.nan, math.nan)
    assert not audit._same(0.3, 0.3 + 1e-6)
    assert not audit._same(0.3, math.nan)


# What is damaged is mended


def test_what_is_set_aside_is_kept_whole_and_never_in_the_way(store):
    key = first(store).name
    before = {name: (store.path / key / name).read_bytes() for name in FILES}
    places = []
    for _ in range(2):
        places += set_aside(store, [key])
        assert key not in store
        run_plan(PLAN, store)
    assert [place.name for place in places] == [f"{key}-1", f"{key}-2"]
    assert {name: (places[0] / name).read_bytes() for name in FILES} == before
    assert len(store.keys()) == 4


def test_a_run_that_cannot_be_moved_is_told(store):
    (store.path / "damaged").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot move .* Move it by hand"):
        set_aside(store, [first(store).name])
    assert len(store.keys()) == 4


def test_a_sweep_leaves_damaged_runs_alone_and_out_of_its_table(store):
    folder = first(store)
    (folder / "history.csv").unlink()
    with pytest.warns(Notice, match=f"{folder.name}: history.csv is missing"):
        table = run_plan(PLAN, store)
    assert len(table) == 3
    assert folder.name not in set(table["key"])
    assert sorted(file.name for file in folder.iterdir()) == sorted({*FILES} - {"history.csv"})


def test_a_sweep_that_repairs_gives_the_table_that_was(store, finished):
    """Also what only reading every byte finds, and what a cut record hides."""
    before = ResultStore(finished).plan("sweep")
    one, two, three = (store.path / key for key in store.keys()[:3])
    (one / "run.json").unlink()
    turn_answers(two)
    content = bytearray((three / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (three / "weights.safetensors").write_bytes(content)
    after = run_plan(PLAN, store, repair=True)
    pd.testing.assert_frame_equal(
        after.drop(columns="seconds"), before.drop(columns="seconds"), check_exact=True
    )
    assert list(verify(store)) == []
    aside = {path.name for path in (store.path / "damaged").iterdir()}
    assert aside == {f"{path.name}-1" for path in (one, two, three)}


def test_repairing_what_is_whole_runs_nothing(store, monkeypatch):
    def refuse(*_: object) -> str:
        raise AssertionError("a whole run was run again")

    monkeypatch.setattr("mmer_lib.sweep.execute", refuse)
    assert len(run_plan(PLAN, store, repair=True)) == 4
    assert not (store.path / "damaged").exists()


# What a store tells of itself


def test_a_store_tells_its_plans_and_what_is_in_none(store):
    alone = store.to_frame().query("configuration == 'self-T'")["key"].tolist()
    store.note_plan("alone", [*alone, "e" * 16])
    (store.path / "plans" / "sweep.json").unlink()
    table = describe_store(store).set_index("plan")
    assert table["runs"].to_dict() == {"alone": "2 of 3", "-": "2"}
    counted = table.loc["-", ["configurations", "folds", "seeds"]]
    assert counted.tolist() == [1, 2, 1]
    assert table["semantics"].tolist() == [str(SEMANTICS)] * 2
    assert (table["MB"] > 0).all()


def test_a_store_without_runs_tells_an_empty_table(tmp_path):
    assert describe_store(ResultStore(tmp_path)).empty


# Semantics


def test_a_model_of_other_semantics_is_not_restored_but_read(store, monkeypatch):
    folder = first(store)
    about = read_signed(folder / "run.json")
    spec = about["specification"] | {"semantics": SEMANTICS - 1}
    old = folder.with_name(spec_key(spec))
    folder.rename(old)
    row = about["row"] | {"semantics": SEMANTICS - 1}
    reseal(old, specification=spec, row=row, key=old.name)
    monkeypatch.setitem(metrics.METRICS, "accuracy", lambda *_: 0.5)  # as it may be some day
    assert [one for one in verify(store) if one.key == old.name] == []
    assert len(store.predictions(old.name).ids)
    with pytest.raises(InputError, match=f"has semantics {SEMANTICS - 1}, this version builds"):
        restore(store, old.name, CORPUS)
