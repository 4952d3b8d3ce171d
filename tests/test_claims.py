"""Locks that die with their process, names that appear whole, and folders that can have neither."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from mmer_lib import claims
from mmer_lib.claims import beside, check_folder, claim, claimant, is_claimed, settle, tidy
from mmer_lib.errors import InputError
from mmer_lib.workers import in_new_process

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")


def names(folder: Path) -> set[str]:
    """Everything below a folder, hidden or not."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def appear(target: Path, fill: Callable[[Path], Any]) -> None:
    with beside(target) as hidden:
        fill(hidden)
        settle(hidden, target)


# Processes that hold something


def hold_claim(folder: Path, pipe: Connection) -> None:
    with claim(folder, "run") as mine:
        pipe.send(mine)
        pipe.recv()


def hold_place(folder: Path, pipe: Connection) -> None:
    with beside(folder / "thing") as hidden:
        hidden.mkdir()
        (hidden / "half").write_text("never finished")
        pipe.send(True)
        pipe.recv()


@contextmanager
def another(what: Callable[[Path, Connection], None], folder: Path) -> Iterator[Any]:
    """A process that says what it got, and goes on until it is sent something, or killed."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=what, args=(folder, theirs))
    process.start()
    try:
        yield process, ours
    finally:
        process.kill()
        process.join()


# Claims


def test_a_claim_is_had_by_one_at_a_time_and_leaves_nothing(tmp_path):
    with claim(tmp_path, "run") as mine, claim(tmp_path, "run") as again:
        assert mine
        assert not again
        with claim(tmp_path, "other") as other:
            assert other
        assert names(tmp_path) == {"claims", "claims/run"}
    assert names(tmp_path) == {"claims"}
    with claim(tmp_path, "run") as mine:
        assert mine


def test_a_claim_is_given_back_when_its_work_fails(tmp_path):
    with pytest.raises(KeyError), claim(tmp_path, "run"):
        raise KeyError
    assert names(tmp_path) == {"claims"}


def test_a_claim_says_whose_it_is(tmp_path):
    assert claimant(tmp_path, "run") == ""
    with claim(tmp_path, "run"):
        assert claimant(tmp_path, "run").startswith(f"process {os.getpid()} on ")


def test_another_process_keeps_its_claim_until_it_gives_it_back(tmp_path):
    with another(hold_claim, tmp_path) as (process, pipe):
        assert pipe.recv() is True
        assert is_claimed(tmp_path, "run")
        assert claimant(tmp_path, "run").startswith(f"process {process.pid} on ")
        tidy(tmp_path)
        assert is_claimed(tmp_path, "run")
        pipe.send("go")
        process.join()
        assert names(tmp_path) == {"claims"}


def test_the_claim_of_a_killed_process_is_free_and_what_it_left_can_be_removed(tmp_path):
    with another(hold_claim, tmp_path) as (process, pipe):
        assert pipe.recv() is True
        process.kill()
        process.join()
    assert names(tmp_path) == {"claims", "claims/run"}
    with claim(tmp_path, "run") as mine:
        assert mine
        assert claimant(tmp_path, "run").startswith(f"process {os.getpid()} on ")
    assert names(tmp_path) == {"claims"}


def test_who_locked_a_file_that_was_removed_meanwhile_takes_the_new_one(tmp_path, monkeypatch):
    """Between opening and locking, the owner gives back and a third one takes: a new file."""
    real = os.open
    opened: list[int] = []
    with ExitStack() as owner, ExitStack() as third:
        owner.enter_context(claim(tmp_path, "run"))

        def late(file: Path, *rest: Any) -> int:
            descriptor = real(file, *rest)
            if not opened:
                opened.append(descriptor)
                owner.close()
                assert third.enter_context(claim(tmp_path, "run"))
            return descriptor

        monkeypatch.setattr(os, "open", late)
        with claim(tmp_path, "run") as mine:
            assert not mine  # though the file that it opened first is locked by nobody
        assert (tmp_path / "claims" / "run").exists()


def race(folder: Path, log: Path) -> None:
    """Take claims and places for ever; note who else had them, and how often they were ours."""
    drawn, doomed = random.Random(os.getpid()), log.with_name("doomed")
    while True:
        if drawn.random() < 0.02:
            tidy(folder)
        name = drawn.choice("ab")
        with claim(folder, name) as mine:
            if mine:
                holder = folder / f"{name}.holder"
                before = int(holder.read_text() or 0) if holder.exists() else 0
                if before and f" {before} " not in doomed.read_text():
                    note(log, f"{name} is of two\n")
                holder.write_text(str(os.getpid()))
                note(log, ".")
                holder.write_text("0")
        with beside(folder / "thing") as hidden:
            hidden.mkdir()  # fails if somebody else is there
            (hidden / "half").touch()


def note(log: Path, text: str) -> None:
    with log.open("a") as stream:
        stream.write(text)


def start_racer(folder: Path, log: Path) -> int:
    child = os.fork()
    if not child:
        try:
            race(folder, log)
        finally:
            note(log, f"{traceback.format_exc()}\n")
            os._exit(1)
    return child


def race_and_kill(folder: Path, log: Path, kills: int) -> list[int]:
    """Three racers, one killed after the other at random times and replaced; how each ended."""
    drawn, ends = random.Random(0), []
    log.with_name("doomed").touch()
    racers = [start_racer(folder, log) for _ in range(3)]
    while len(ends) < kills:
        time.sleep(drawn.uniform(0, 0.02))
        place = drawn.randrange(len(racers))
        note(log.with_name("doomed"), f" {racers[place]} ")
        os.kill(racers[place], signal.SIGKILL)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(racers[place], 0)[1]))
        racers[place] = start_racer(folder, log)
    for racer in racers:
        os.kill(racer, signal.SIGKILL)
        os.waitpid(racer, 0)
    return ends


def test_no_two_living_processes_ever_have_the_same_claim_or_place(tmp_path):
    folder, log = tmp_path / "folder", tmp_path / "log"
    folder.mkdir()
    ends = in_new_process(race_and_kill, folder, log, 100)
    assert set(log.read_text()) == {"."}, log.read_text().strip(".")
    assert ends == [-signal.SIGKILL] * 100
    assert len(log.read_text()) > 100
    tidy(folder)
    assert names(folder) <= {"claims", "a.holder", "b.holder"}


def test_without_locks_of_the_system_everybody_gets_every_claim(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "_LOCKS", False)
    with claim(tmp_path, "run") as one, claim(tmp_path, "run") as two:
        assert one
        assert two
    check_folder(tmp_path)
    assert names(tmp_path) == {"claims"}


# What appears whole


def test_a_file_and_a_folder_appear_under_their_names_and_nothing_else_stays(tmp_path):
    for target in (tmp_path / "file", tmp_path / "folder"):
        with beside(target) as hidden:
            inside = hidden
            if target.name == "folder":
                hidden.mkdir()
                inside = hidden / "file"
            inside.write_text("whole")
            assert not target.exists()
            settle(hidden, target)
    assert names(tmp_path) == {"file", "folder", "folder/file"}
    appear(tmp_path / "file", lambda hidden: hidden.write_text("newer"))
    assert (tmp_path / "file").read_text() == "newer"


def test_a_folder_does_not_replace_another(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").touch()
    with pytest.raises(OSError, match="not empty"):
        appear(tmp_path / "folder", lambda hidden: hidden.mkdir())
    assert names(tmp_path) == {"folder", "folder/kept"}


def test_what_was_not_settled_is_gone(tmp_path):
    def write_half(hidden: Path) -> None:
        hidden.write_text("half")
        raise KeyError

    with pytest.raises(KeyError):
        appear(tmp_path / "file", write_half)
    assert names(tmp_path) == set()


def test_what_a_killed_writer_left_is_removed_and_a_living_one_is_left_alone(tmp_path):
    with another(hold_place, tmp_path) as (process, pipe):
        assert pipe.recv() is True
        tidy(tmp_path)
        left = {".thing", ".thing/half", ".thing.lock"}
        assert names(tmp_path) == left
        process.kill()
        process.join()
    assert names(tmp_path) == left
    tidy(tmp_path)
    assert names(tmp_path) == set()


def test_a_new_writer_takes_the_place_of_a_killed_one(tmp_path):
    with another(hold_place, tmp_path) as (process, pipe):
        assert pipe.recv() is True
        process.kill()
        process.join()
    with beside(tmp_path / "thing") as hidden:
        assert not hidden.exists()
        hidden.write_text("whole")
        settle(hidden, tmp_path / "thing")
    assert names(tmp_path) == {"thing"}


def test_a_writer_waits_for_another_who_is_at_it(tmp_path):
    with another(hold_place, tmp_path) as (_, pipe):
        assert pipe.recv() is True
        signal.signal(signal.SIGALRM, lambda *_: pipe.send("go"))
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with beside(tmp_path / "thing") as hidden:
            assert not pipe.poll()
            assert not hidden.exists()


def test_all_is_on_the_disk_before_its_name_is_and_then_the_name(tmp_path, monkeypatch):
    """What would be lost with the power: the order of flushes and renames."""
    done: list[tuple[str, str]] = []
    path_of = {}
    real_open, real_sync = os.open, os.fsync

    def opened(path: Any, *rest: Any) -> int:
        descriptor = real_open(path, *rest)
        path_of[descriptor] = Path(path).name
        return descriptor

    def synced(descriptor: int) -> None:
        done.append(("sync", path_of[descriptor]))
        real_sync(descriptor)

    def renamed(self: Path, target: Path) -> None:
        done.append(("rename", target.name))
        os.rename(self, target)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "fsync", synced)
    for name in ("rename", "replace"):
        monkeypatch.setattr(Path, name, renamed)

    def fill(hidden: Path) -> None:
        hidden.mkdir()
        for name in ("a", "b"):
            (hidden / name).touch()

    appear(tmp_path / "folder", fill)
    assert sorted(done[:2]) == [("sync", "a"), ("sync", "b")]
    name = tmp_path.name
    assert done[2:] == [("sync", ".folder"), ("rename", "folder"), ("sync", name)]
    done.clear()
    appear(tmp_path / "file", lambda hidden: hidden.touch())
    assert done == [("sync", ".file"), ("rename", "file"), ("sync", name)]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_that_cannot_flush_is_no_reason_to_stop(tmp_path, monkeypatch, code):
    fail_with(monkeypatch, os, "fsync", code)
    appear(tmp_path / "file", lambda hidden: hidden.write_text("whole"))
    assert names(tmp_path) == {"file"}


def test_a_disk_that_fails_to_flush_is_told_and_the_name_does_not_appear(tmp_path, monkeypatch):
    fail_with(monkeypatch, os, "fsync", errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        appear(tmp_path / "file", lambda hidden: hidden.write_text("perhaps"))
    assert names(tmp_path) == set()


# Folders


def fail_with(monkeypatch: Any, holder: Any, name: str, code: int) -> None:
    def fail(*_args: Any, **_options: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(holder, name, fail)


def test_a_folder_that_can_do_all_is_left_as_it_was(tmp_path):
    check_folder(tmp_path)
    assert names(tmp_path) == set()


def touch_anyway(monkeypatch: Any) -> None:
    monkeypatch.setattr(Path, "touch", lambda self, **_: self.write_text(""))


def no_locks(monkeypatch: Any) -> None:
    fail_with(monkeypatch, claims.fcntl, "flock", errno.ENOLCK)


def locks_for_all(monkeypatch: Any) -> None:
    monkeypatch.setattr(claims.fcntl, "flock", lambda *_: None)


def no_renaming(monkeypatch: Any) -> None:
    fail_with(monkeypatch, Path, "rename", errno.EXDEV)


def renaming_by_copy(monkeypatch: Any) -> None:
    monkeypatch.setattr(Path, "rename", lambda self, target: shutil.copytree(self, target))


def no_replacing(monkeypatch: Any) -> None:
    fail_with(monkeypatch, Path, "replace", errno.EEXIST)


def no_mapping(monkeypatch: Any) -> None:
    fail_with(monkeypatch, claims.mmap, "mmap", errno.ENODEV)


def old_lists(monkeypatch: Any) -> None:
    real = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: (f for f in real(self) if f.name != "to"))


@pytest.mark.parametrize(
    ("missing", "ability"),
    [
        (touch_anyway, "files that are made only where there is none"),
        (no_locks, "file locks (No locks available)"),
        (locks_for_all, "file locks that exclude each other"),
        (no_renaming, "renaming of folders (Invalid cross-device link)"),
        (renaming_by_copy, "renaming of folders"),
        (no_replacing, "replacing of files (File exists)"),
        (no_mapping, "memory-mapped files (No such device)"),
        (old_lists, "lists of files that are up to date"),
    ],
)
def test_an_ability_that_is_missing_is_named_with_the_folder_to_choose(
    tmp_path, monkeypatch, missing, ability
):
    with monkeypatch.context() as changed:
        missing(changed)
        with pytest.raises(InputError) as raised:
            check_folder(tmp_path)
    assert str(raised.value) == (
        f"the file system of {tmp_path} lacks {ability}, so that results could be lost: "
        f"choose a folder on a local disk"
    )
    tidy(tmp_path)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_lacks_no_ability(tmp_path, monkeypatch, code):
    with monkeypatch.context() as changed:
        fail_with(changed, Path, "write_text", code)
        with pytest.raises(OSError, match=os.strerror(code)):
            check_folder(tmp_path)
    assert names(tmp_path) == set()
