"""Who may do and write what, where several processes, on one machine or more, share a folder.

A *lock* is an advisory one of the system (``flock``) on a small file. It belongs to the process
that took it, and the kernel frees it when that process dies, however it dies: no clock decides
whether somebody is still alive. The file goes when the lock is given back, so whoever gets a lock
looks whether the file that it is on still has its name.

- :func:`claim`: the right to do something, such as a run; whoever comes later goes on.
- :func:`beside`: the right to fill a hidden place, and :func:`settle`, which makes it appear
  under its name: whole, also after power was lost. What a dead writer left there is removed.
- :func:`check_folder`: whether a folder can do all of this.

Where there is no ``flock`` (Windows) everybody gets every lock: one process at a time there.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from mmer_lib.errors import InputError

_LOCKS = find_spec("fcntl") is not None  # Windows has none
if _LOCKS:
    import fcntl

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, or none for this user or process
_CLAIMS = "claims"
_NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)  # some file systems cannot, of folders


# -- claims ----------------------------------------------------------------------------------------


@contextmanager
def claim(folder: Path, name: str) -> Iterator[bool]:
    """Whether this process alone may do ``name`` until the end of the block; never waits.

    The lock is on ``folder/claims/name``. Raises ``InputError`` where there are no locks, and
    ``OSError`` where ``folder`` cannot be written.
    """
    (folder / _CLAIMS).mkdir(exist_ok=True)
    with _locked(folder / _CLAIMS / name, wait=False) as mine:
        yield mine


def is_claimed(folder: Path, name: str) -> bool:
    """Whether somebody is at ``name`` now."""
    with claim(folder, name) as mine:
        return not mine


def claimant(folder: Path, name: str) -> str:
    """Who has a claim, such as "process 4711 on lab3"; "" where that is not known."""
    try:
        return (folder / _CLAIMS / name).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


# -- what appears whole ----------------------------------------------------------------------------


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A hidden path beside ``target`` that is nobody else's in the block; nothing is there yet.

    Waits for others who fill it. What is left there is removed afterwards.
    """
    hidden = target.with_name(f".{target.name}")
    with _locked(_lock_of(hidden), wait=True):
        remove(hidden)
        try:
            yield hidden
        finally:
            remove(hidden)


def settle(hidden: Path, target: Path) -> None:
    """Rename a file or folder when all of it is on the disk; the name is, too, afterwards.

    A file replaces ``target``; a folder does not, unless that is empty.
    """
    if hidden.is_dir():
        for file in hidden.iterdir():
            _sync(file)
        _sync(hidden)
        hidden.rename(target)
    else:
        _sync(hidden)
        hidden.replace(target)
    _sync(target.parent)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn whatever keeps the block from writing in ``folder`` into one line: ``InputError``."""
    try:
        yield
    except OSError as error:
        remedy = "Choose another folder"
        if error.errno in _FULL:
            remedy = (
                "Free space there and give the same command again: it goes on from there, and "
                "nothing was left by half"
            )
        why = error.strerror or error
        raise InputError(f"cannot write to {folder}: {why}. {remedy}") from error


def tidy(folder: Path) -> None:
    """Remove what dead processes left in ``folder``: hidden places that were not settled, claims.

    Whatever a living process is at has its lock, and stays.
    """
    for lock in folder.glob(".*.lock"):
        with _locked(lock, wait=False) as mine:
            if mine:
                remove(lock.with_suffix(""))
    for file in folder.glob(f"{_CLAIMS}/*"):
        is_claimed(folder, file.name)  # if it is not, it is removed by being looked at


def _lock_of(hidden: Path) -> Path:
    return hidden.with_name(f"{hidden.name}.lock")


def remove(path: Path) -> None:
    """A file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # folders cannot be opened there
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


# -- locks -----------------------------------------------------------------------------------------


@contextmanager
def _locked(file: Path, wait: bool) -> Iterator[bool]:
    """Whether the lock on ``file`` is ours in the block; with ``wait`` it always is."""
    descriptor = _take(file, wait)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            with suppress(OSError):
                file.unlink()  # while it is ours: whoever waits for it sees that it has gone
            os.close(descriptor)


def _take(file: Path, wait: bool) -> int | None:
    """The open file of a lock that is ours now, or None if it is another's."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(descriptor, file, wait):
                os.close(descriptor)
                return None
            if _is_there(file, descriptor):
                with suppress(OSError):  # it only says whose it is
                    whose = f"process {os.getpid()} on {socket.gethostname()}"
                    os.truncate(descriptor, os.write(descriptor, whose.encode()))
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, file: Path, wait: bool) -> bool:
    if not _LOCKS:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        file.unlink(missing_ok=True)
        raise _lacks(file.parent, "file locks", error.strerror) from error
    return True


def _is_there(file: Path, descriptor: int) -> bool:
    """Whether the file that is locked still has its name: who had the lock may have removed it."""
    try:
        ours, named = os.fstat(descriptor), file.stat()
    except FileNotFoundError:
        return False
    # Some network file systems answer from memory: one for the name, another for an open file.
    return ours.st_nlink > 0 and os.path.samestat(ours, named)


# -- abilities -------------------------------------------------------------------------------------


def check_folder(folder: Path) -> None:
    """Raise ``InputError`` unless ``folder`` can do what is needed so that nothing is lost.

    Needed are: a file that is made only if there is none, locks that exclude each other, a folder
    that can be renamed, a file that replaces another, one that is mapped into memory (as workers
    read a corpus), and a new name that is seen at once. Only this machine is asked. Where several
    share the folder, their locks must exclude each other, too, as those of NFS do (see flock(2));
    where one sees new names late, it may execute a run that another has done, and the first one
    stays.

    Raises ``OSError`` where ``folder`` cannot be written.
    """
    with beside(folder / "check") as place:
        place.mkdir()
        for ability, works in _ABILITIES.items():
            try:
                good, why = works(place), None
            except OSError as error:
                if error.errno in (*_FULL, errno.EACCES, errno.EROFS):
                    raise
                good, why = False, error.strerror
            if not good:
                raise _lacks(folder, ability, why)


def _makes_only_new(place: Path) -> bool:
    (place / "new").touch(exist_ok=False)
    try:
        (place / "new").touch(exist_ok=False)
    except FileExistsError:
        return True
    return False


def _locks_exclude(place: Path) -> bool:
    with _locked(place / "lock", wait=False) as one, _locked(place / "lock", wait=False) as two:
        return one and not (two and _LOCKS)


def _renames_folders(place: Path) -> bool:
    (place / "from").mkdir()
    (place / "from" / "file").write_text("kept")
    (place / "from").rename(place / "to")
    return not (place / "from").exists() and (place / "to" / "file").read_text() == "kept"


def _replaces_files(place: Path) -> bool:
    for name in ("old", "newer"):
        (place / name).write_text(name)
    (place / "newer").replace(place / "old")
    return not (place / "newer").exists() and (place / "old").read_text() == "newer"


def _maps_files(place: Path) -> bool:
    with (place / "old").open("rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                return mapped[:] == b"newer"
        except ValueError:
            return False


def _sees_at_once(place: Path) -> bool:
    return {file.name for file in place.iterdir()} == {"new", "to", "old"}


_ABILITIES = {
    "files that are made only where there is none": _makes_only_new,
    "file locks that exclude each other": _locks_exclude,
    "renaming of folders": _renames_folders,
    "replacing of files": _replaces_files,
    "memory-mapped files": _maps_files,
    "lists of files that are up to date": _sees_at_once,
}


def _lacks(folder: Path, ability: str, why: str | None) -> InputError:
    told = f" ({why})" if why else ""
    return InputError(
        f"the file system of {folder} lacks {ability}{told}, so that results could be lost: "
        f"choose a folder on a local disk"
    )
