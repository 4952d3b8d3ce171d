"""The result store: a run is there whole or not at all, and comes back as it was written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from forge import change_predictions, reseal

from mmer_lib.errors import InputError, Notice
from mmer_lib.integrity import read_signed, render, sign, spec_key
from mmer_lib.store import ResultStore, StoredPredictions

SPEC = {"seed": 0, "fold": {"index": 0}}
KEY = spec_key(SPEC)
HISTORY = pd.DataFrame({"epoch": [1, 2], "dev_loss": [0.1 + 0.2, 1 / 3]})
WEIGHTS = {"classifier.weight": np.arange(6, dtype=np.float64).reshape(2, 3) / 7}
PARTS = {
    part: StoredPredictions(
        np.array([f"{part}-é", "007"]), np.array([1, 0]), np.array([[0.25, 0.75], [0.5, 0.5]])
    )
    for part in ("dev", "test")
}


def row(configuration: str = "self-T", fold: int = 0, seed: int = 0, study: str = "s") -> dict:
    return {"study": study, "configuration": configuration, "fold": fold, "seed": seed}


def write(store: ResultStore, key: str = KEY, **changed) -> None:
    given = {"run": {"row": row()}, "history": HISTORY, "parts": PARTS, "weights": WEIGHTS}
    given |= changed
    given["run"] = {"specification": SPEC, **given["run"]}
    store.write(key, **given)


def write_rows(store: ResultStore, rows: list[dict]) -> list[str]:
    keys = [spec_key(about) for about in rows]
    for key, about in zip(keys, rows, strict=True):
        write(store, key, run={"specification": about, "row": about})
    return keys


def names(folder: Path) -> set[str]:
    """Everything in a folder, hidden or not."""
    return {file.name for file in folder.iterdir()}


# What is written comes back


def test_a_run_comes_back_as_it_was_written(tmp_path):
    store = ResultStore(tmp_path / "runs")
    write(store, run={"row": row(), "note": "as it was"})
    again = ResultStore(tmp_path / "runs")
    assert again.run(KEY)["note"] == "as it was"
    assert again.run(KEY)["row"] == row()
    pd.testing.assert_frame_equal(again.history(KEY), HISTORY, check_exact=True)
    for part, predictions in PARTS.items():
        for name, value in vars(again.predictions(KEY, part)).items():
            np.testing.assert_array_equal(value, getattr(predictions, name))
    np.testing.assert_array_equal(
        again.weights(KEY)["classifier.weight"], WEIGHTS["classifier.weight"]
    )
    assert names(tmp_path / "runs" / KEY) == {
        "run.json", "history.csv", "predictions.npz", "weights.safetensors",
    }  # fmt: skip


def test_predictions_are_those_of_test_unless_asked_otherwise(tmp_path):
    store = ResultStore(tmp_path)
    write(store)
    assert store.predictions(KEY).ids[0] == "test-é"
    with pytest.raises(InputError, match="unknown part 'tset': did you mean 'test'"):
        store.predictions(KEY, "tset")


def test_a_key_is_the_hash_of_a_specification_whatever_the_order_of_its_keys():
    one = spec_key({"seed": 1, "fold": {"index": 0, "protocol": "random"}})
    assert one == spec_key({"fold": {"protocol": "random", "index": 0}, "seed": 1})
    assert one != spec_key({"seed": 2, "fold": {"index": 0, "protocol": "random"}})
    assert len(one) == 16
    assert int(one, 16) >= 0


def test_the_table_has_a_row_a_run_sorted_or_in_the_order_asked_for(tmp_path):
    store = ResultStore(tmp_path)
    rows = [row("self-T", 1, 0), row("cross-AT", 0, 1), row("self-T", 0, 0), row("cross-AT", 0, 0)]
    keys = write_rows(store, rows)
    table = store.to_frame()
    columns = ["configuration", "fold", "seed"]
    assert table[columns].to_numpy().tolist() == [
        ["cross-AT", 0, 0], ["cross-AT", 0, 1], ["self-T", 0, 0], ["self-T", 1, 0],
    ]  # fmt: skip
    assert table["key"].tolist() == [keys[3], keys[1], keys[2], keys[0]]
    assert store.keys() == sorted(keys)
    assert store.to_frame(keys[:3])["key"].tolist() == keys[:3]


def test_a_plan_is_found_again_by_its_name_and_the_later_one_wins(tmp_path):
    store = ResultStore(tmp_path)
    first, second, third = write_rows(store, [row(fold=0), row(fold=1), row(fold=2)])
    store.note_plan("grid", [second, first])
    store.note_plan("run", [second])  # its file is plans/run.json, which is no run
    assert store.plan("grid")["key"].tolist() == [second, first]
    assert store.plan("run")["key"].tolist() == [second]
    store.note_plan("grid", [third])
    assert ResultStore(tmp_path).plan("grid")["key"].tolist() == [third]
    assert store.keys() == sorted([first, second, third])
    with pytest.raises(InputError, match="'grd': did you mean 'grid'"):
        store.plan("grd")


# Whole or not at all


def test_objects_of_python_are_never_pickled(tmp_path):
    ids = np.array(["a", None], dtype=object)
    parts = {"dev": StoredPredictions(ids, np.zeros(2, np.int64), np.full((2, 2), 0.5, np.float32))}
    with pytest.raises(InputError, match="dev_ids are Python objects"):
        write(ResultStore(tmp_path), parts=parts)
    assert not (tmp_path / KEY).exists()


def test_predictions_hold_their_arrays_and_nothing_else(tmp_path):
    write(ResultStore(tmp_path))
    with np.load(tmp_path / KEY / "predictions.npz") as arrays:
        assert {name.partition("_")[2] for name in arrays} == {"ids", "labels", "probabilities"}


class Failure(Exception):
    """Something that goes wrong in the middle of writing."""


@pytest.mark.parametrize("step", range(4))
def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch, step):
    store, real, written = ResultStore(tmp_path), Path.write_bytes, []

    def fail(file: Path, content: bytes) -> None:
        real(file, content[: len(content) // 2])
        if len(written) == step:
            raise Failure
        written.append(file.name)

    with monkeypatch.context() as changed:
        changed.setattr(Path, "write_bytes", fail)
        with pytest.raises(Failure):
            write(store)
    assert len(written) == step
    assert names(tmp_path) == {"store.json"}
    assert KEY not in store
    write(store)
    assert store.run(KEY)["key"] == KEY


def test_a_half_written_folder_is_no_run(tmp_path):
    store = ResultStore(tmp_path)
    write(store)
    half = tmp_path / f".{'f' * 16}"  # as a killed process leaves it
    half.mkdir()
    (half / "run.json").write_text("{")
    assert store.keys() == [KEY]
    assert "f" * 16 not in store
    assert ResultStore(tmp_path).to_frame()["key"].tolist() == [KEY]


def test_a_run_that_is_already_there_stays(tmp_path):
    store = ResultStore(tmp_path)
    write(store, run={"row": row(), "note": "first"})
    write(store, run={"row": row(), "note": "second"})
    assert store.run(KEY)["note"] == "first"
    assert names(tmp_path) == {"store.json", KEY}


def test_a_store_that_another_process_is_making_is_a_store(tmp_path, monkeypatch):
    """It appears between two looks: first no marker, then a folder with something in it."""
    real = Path.is_file

    def late(file: Path) -> bool:
        if file.name == "store.json" and not (tmp_path / "plans").exists():
            (tmp_path / "plans").mkdir()
            file.write_text('{"format": 1}')
            return False
        return real(file)

    monkeypatch.setattr(Path, "is_file", late)
    assert ResultStore(tmp_path).keys() == []


def test_a_store_whose_making_was_cut_short_is_made_again(tmp_path):
    for name in (".store.json", ".store.json.lock"):
        (tmp_path / name).write_text("{")
    ResultStore(tmp_path)
    assert names(tmp_path) == {"store.json"}


def test_a_run_is_adopted_from_another_store_byte_for_byte_and_one_that_is_there_stays(tmp_path):
    theirs, ours = ResultStore(tmp_path / "theirs"), ResultStore(tmp_path / "ours")
    write(theirs, run={"row": row(), "note": "theirs"})
    files = theirs.files(KEY)
    assert files.keys() == names(theirs.path / KEY)
    ours.adopt(KEY, files)
    assert ours.files(KEY) == files
    assert ours.path.joinpath(KEY).stat().st_mode & 0o755 == 0o755
    other = spec_key({"seed": 1})
    write(ours, other, run={"specification": {"seed": 1}, "row": row(seed=1), "note": "ours"})
    ours.adopt(other, files)
    assert ours.run(other)["note"] == "ours"
    assert names(ours.path) == {"store.json", KEY, other}


def test_files_that_are_adopted_stay_in_the_folder_of_their_run(tmp_path):
    store = ResultStore(tmp_path / "store")
    store.adopt(KEY, {"../../outside.json": b"{}", "run.json": b"{}"})
    assert names(tmp_path) == {"store"}
    assert names(store.path / KEY) == {"outside.json", "run.json"}


def test_a_run_can_be_read_by_others(tmp_path):
    store = ResultStore(tmp_path)
    write(store)
    assert (tmp_path / KEY).stat().st_mode & 0o755 == 0o755


# What is refused


def test_a_folder_of_something_else_is_no_store_and_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"is not a result store .no store.json in it."):
        ResultStore(tmp_path)
    assert names(tmp_path) == {"thesis.tex"}
    with pytest.raises(InputError, match=r"thesis\.tex is not a result store"):
        ResultStore(tmp_path / "thesis.tex")


def test_an_empty_folder_becomes_a_store(tmp_path):
    ResultStore(tmp_path)
    assert names(tmp_path) == {"store.json"}


def test_reading_does_not_make_a_store(tmp_path):
    with pytest.raises(InputError, match="no result store there"):
        ResultStore(tmp_path / "typo", create=False)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"what": "else"}', "\x00"])
def test_a_damaged_marker_is_told(tmp_path, content):
    (tmp_path / "store.json").write_text(content)
    with pytest.raises(InputError, match="is damaged"):
        ResultStore(tmp_path)


def test_a_store_of_another_format_is_told(tmp_path):
    (tmp_path / "store.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(InputError, match="has format 99, this version reads 2: choose another"):
        ResultStore(tmp_path)


def test_a_destination_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"Not a directory\. (Give|Choose) another"):
        ResultStore(tmp_path / "file" / "store")


def test_a_store_that_has_become_read_only_can_be_read_but_not_written(tmp_path, monkeypatch):
    store = ResultStore(tmp_path)
    write(store)

    def refuse(path, flags, mode=0o777, **_options) -> int:
        if flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied")
        return real(path, flags, mode)

    real = os.open
    monkeypatch.setattr(os, "open", refuse)
    assert ResultStore(tmp_path, create=False).run(KEY)["key"] == KEY
    attempts = (
        store.check_writable,
        lambda: write(store, "f" * 16),
        lambda: store.claim(KEY).__enter__(),
        lambda: store.note_plan("grid", [KEY]),
    )
    for attempt in attempts:
        with pytest.raises(InputError, match=r"cannot write to .*: Permission denied. Choose anot"):
            attempt()


def test_checking_that_a_store_is_writable_leaves_nothing(tmp_path):
    ResultStore(tmp_path).check_writable()
    assert names(tmp_path) == {"store.json"}


def test_what_dead_processes_left_is_removed_and_nothing_else(tmp_path):
    store = ResultStore(tmp_path)
    (tmp_path / "plans").mkdir()
    left = [".check", f".{KEY}", ".corpus-1", "plans/.grid.json"]
    for name in left:  # as killed processes leave it
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
        (tmp_path / f"{name}.lock").touch()
    (tmp_path / ".mine").touch()
    store.tidy()
    assert names(tmp_path) == {"store.json", "plans", ".mine"}
    assert names(tmp_path / "plans") == set()


def test_a_run_is_claimed_by_one_at_a_time(tmp_path):
    store = ResultStore(tmp_path)
    with store.claim(KEY) as mine, store.claim(KEY) as again, store.claim("f" * 16) as other:
        assert (mine, again, other) == (True, False, True)


def test_an_unknown_key_and_an_empty_table_are_told(tmp_path):
    store = ResultStore(tmp_path)
    for read in (store.run, store.history, store.predictions, store.weights):
        with pytest.raises(InputError, match="has no finished run 'nope'"):
            read("nope")
    with pytest.raises(InputError, match="holds no finished run yet"):
        store.to_frame()
    write(store)
    with pytest.raises(InputError, match="holds no finished run yet"):
        store.to_frame([])


@pytest.mark.parametrize("key", ["../x", f"../{KEY}", KEY.upper(), KEY + "0", "", f"{KEY}/"])
def test_a_key_that_is_none_is_refused_even_where_a_run_lies_there(tmp_path, key):
    write(ResultStore(tmp_path / "other"))
    store = ResultStore(tmp_path / "runs")
    write(store)
    (tmp_path / "x").mkdir()
    for folder in (tmp_path / "x", tmp_path / KEY, tmp_path / "runs" / KEY.upper()):
        folder.mkdir(exist_ok=True)
        (folder / "run.json").write_text((tmp_path / "runs" / KEY / "run.json").read_text())
    assert key not in store
    with pytest.raises(InputError, match="has no finished run"):
        store.run(key)
    with pytest.raises(InputError, match="is no key of a run: 16 hex digits expected"):
        write(store, key)


READERS = {
    "run.json": lambda store: store.run(KEY),
    "history.csv": lambda store: store.history(KEY),
    "predictions.npz": lambda store: store.predictions(KEY),
    "weights.safetensors": lambda store: store.weights(KEY),
}


JUNK = [b"", b"\x00\x01", b"{", b"[]", b"not what it was", b"PK\x03\x04 cut short"]
DAMAGE = [(name, junk) for name in READERS for junk in (*JUNK, None)]  # None: not there at all


@pytest.mark.parametrize(("name", "content"), DAMAGE)
def test_a_run_with_a_damaged_file_is_named_with_what_mends_it(tmp_path, name, content):
    store = ResultStore(tmp_path)
    write(store)
    file = tmp_path / KEY / name
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    for read in (READERS[name], lambda store: store.to_frame()):
        with pytest.raises(InputError) as raised:
            read(store)
        told = str(raised.value)
        assert KEY in told
        assert f"{name} " in told
        remedy = f": `mmer store repair {tmp_path}`, then run the sweep or study again"
        assert told.endswith(remedy)
        assert "\n" not in told


@pytest.mark.parametrize("name", READERS)
def test_a_file_in_which_a_byte_is_another_is_never_read(tmp_path, name):
    store = ResultStore(tmp_path)
    write(store)
    file = tmp_path / KEY / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=f"is damaged, {name} is not as it was written: `mmer"):
        READERS[name](store)


def test_a_damaged_run_is_left_out_of_the_table_which_says_so(tmp_path):
    store = ResultStore(tmp_path)
    lost, kept, gone = write_rows(store, [row(fold=0), row(fold=1), row(fold=2)])
    store.note_plan("grid", [lost, kept, gone])
    (tmp_path / lost / "weights.safetensors").unlink()
    shutil.rmtree(tmp_path / gone)
    expected = f"3 runs are damaged .{lost}: weights.safetensors is missing; {gone}: run.json is"
    with pytest.warns(Notice, match=f"2 of {expected} missing.. Left out of this table: `mmer"):
        table = store.plan("grid")
    assert table["key"].tolist() == [kept]
    assert list(table.attrs["left_out"]) == [lost, gone]
    with pytest.warns(Notice, match="1 of 2 runs is damaged"):
        assert store.to_frame()["key"].tolist() == [kept]
    assert store.damaged([kept, lost]) == {lost: "weights.safetensors is missing"}
    assert store.damaged() == store.damaged([kept, lost])


def test_a_whole_table_leaves_nothing_out_and_says_nothing(tmp_path):
    store = ResultStore(tmp_path)
    write(store)
    assert store.to_frame().attrs == {}
    assert store.damaged() == {}


def test_a_notice_names_the_line_of_the_user_and_not_of_the_library(tmp_path):
    """IPython forgets what a cell was told when it runs again, and only that."""
    store = ResultStore(tmp_path)
    lost, _ = write_rows(store, [row(fold=0), row(fold=1)])
    (tmp_path / lost / "run.json").unlink()
    with pytest.warns(Notice) as told:
        store.to_frame()
    assert told[0].filename == __file__


def test_pickled_predictions_are_neither_read_nor_recommended(tmp_path):
    store = ResultStore(tmp_path)
    write(store)
    change_predictions(tmp_path / KEY, test_ids=np.array([{}], dtype=object))
    reseal(tmp_path / KEY)
    with pytest.raises(InputError, match="is damaged, its content is not that of a run") as raised:
        store.predictions(KEY)
    assert "pickle" not in str(raised.value).replace(str(tmp_path), "")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"row": {"study": "s"}}, "run.json lacks the row of the table"),
        ({"row": 3}, "run.json lacks the row of the table"),
        ({"specification": {"seed": 1}}, "the key of its specification is"),
        ({"specification": None}, "the key of its specification is"),
        ({"key": "../elsewhere"}, "it is run ../elsewhere, moved here"),
        ({"files": {}}, "run.json knows of no history.csv"),
        ({"files": {"history.csv": 3}}, "run.json lacks what every run has"),
    ],
)
def test_a_run_whose_record_was_signed_anew_is_still_found(tmp_path, wrong, told):
    store = ResultStore(tmp_path)
    write(store)
    file = tmp_path / KEY / "run.json"
    file.write_bytes(render(sign(read_signed(file) | wrong)))
    read = store.history if "files" in wrong else store.run
    with pytest.raises(InputError, match=f"run {KEY} is damaged, {re.escape(told)}"):
        read(KEY)


def test_a_run_in_the_folder_of_another_is_damaged(tmp_path):
    store = ResultStore(tmp_path)
    write(store)
    (tmp_path / KEY).rename(tmp_path / ("f" * 16))
    with pytest.raises(InputError, match=f"run {'f' * 16} is damaged, it is run {KEY}, moved"):
        store.run("f" * 16)


def test_runs_of_older_semantics_stay_readable_and_say_so(tmp_path):
    store = ResultStore(tmp_path)
    old, new = write_rows(store, [{**row(), "semantics": n} for n in (1, 2)])
    assert store.to_frame([old, new])["semantics"].tolist() == [1, 2]
    for key in (old, new):
        assert store.predictions(key).ids.tolist() == PARTS["test"].ids.tolist()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"keys": 3}', '{"keys": []}'])
def test_a_damaged_plan_is_named_with_what_to_remove(tmp_path, content):
    store = ResultStore(tmp_path)
    write(store)
    store.note_plan("grid", [KEY])
    file = tmp_path / "plans" / "grid.json"
    file.write_text(content)
    with pytest.raises(InputError, match="is damaged: remove it and run the plan again"):
        store.plan("grid")


def test_a_store_that_is_no_path_is_refused():
    with pytest.raises(InputError, match="store=None: the path of a file or folder expected"):
        ResultStore(None)


def test_the_judging_half_opens_a_store_without_torch():
    code = "import sys, mmer_lib.store; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
