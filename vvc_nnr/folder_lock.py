"""One run at a time in a folder: a lock that says who holds it and that no crash leaves behind.

The lock is a file `.lock` in the folder, which the system locks for the process that has it open (`flock`; over NFS
Linux makes a lock of the server of it). It says who holds it, goes when the run ends, and counts for nothing when its
process is gone, however it ended. Where a file system has no such locks, the file itself is the lock: it is made by
whoever comes first, and one that a crash left on another machine has to be removed by hand.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from vvc_nnr.errors import InputError, OutputError
from vvc_nnr.files import make_folder

LOCK = ".lock"
_HELD = (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
_MAX_HOLDER_BYTES = 400


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Holds a folder for this run; it is made if need be, and goes again if it is empty at the end.

    Args:
        folder: Where the run writes.

    Raises:
        InputError: If another run holds it (the message says which), or the folder cannot be made or written.
    """
    made = _make(folder)
    try:
        number = _acquire(folder / LOCK)
        try:
            yield
        finally:
            _release(folder / LOCK, number)
    finally:
        for each in made:
            with contextlib.suppress(OSError):  # it holds something now
                each.rmdir()


def _make(folder: Path) -> list[Path]:
    """Makes a folder; returns those that are new, the innermost first."""
    missing = []
    for each in (folder, *folder.parents):
        if each.exists():
            break
        missing.append(each)
    make_folder(folder)
    return missing


def _acquire(path: Path) -> int:
    """The open lock file, held, with this process's name in it."""
    while True:
        number, is_new = _open(path)
        try:
            is_locked = _lock(number)
            if is_locked and not _is_at(path, number):
                os.close(number)  # its holder has just ended and taken the file away
                continue
            if not is_locked and not is_new:
                _check_gone(path, number)
                os.close(number)
                continue
        except OSError as error:
            holder = _holder(number)
            os.close(number)
            if error.errno in _HELD:
                raise _held(path, holder) from None
            raise InputError(f"{path}: cannot be locked: {error.strerror}") from error
        except InputError:
            os.close(number)
            raise
        _write_holder(number)
        return number


def _open(path: Path) -> tuple[int, bool]:
    """The lock file, and whether this process has just made it."""
    try:
        with contextlib.suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666), False
    except OSError as error:
        raise OutputError(f"{path.parent}: cannot be written: {error.strerror}") from error


def _lock(number: int) -> bool:
    """Locks an open file for this process; False where the system cannot.

    Raises:
        OSError: If another process holds it.
    """
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def _check_gone(path: Path, number: int) -> None:
    """Removes a lock file whose holder is gone, where the file itself is the lock.

    Raises:
        InputError: If its holder may still be there.
    """
    holder = _holder(number)
    if not _is_stale(holder):
        raise InputError(f"{_held(path, holder)}; if that process is gone, remove {path}")
    path.unlink(missing_ok=True)


def _is_stale(holder: str) -> bool:
    """Whether a lock file's holder is a process of this machine that is gone."""
    words = holder.split()
    if sys.platform == "win32" or words[:1] != ["process"] or socket.gethostname() not in words:
        return False
    try:
        os.kill(int(words[1]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, IndexError, OverflowError):
        return False
    return False


def _is_at(path: Path, number: int) -> bool:
    try:
        there, here = path.stat(), os.fstat(number)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _write_holder(number: int) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    text = f"process {os.getpid()} on {socket.gethostname()} since {since}\n"
    with contextlib.suppress(OSError):  # a full disk: the lock holds without a name
        os.ftruncate(number, 0)
        os.pwrite(number, text.encode(), 0) if hasattr(os, "pwrite") else os.write(number, text.encode())


def _holder(number: int) -> str:
    try:
        return os.read(number, _MAX_HOLDER_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _held(path: Path, holder: str) -> InputError:
    who = " ".join("".join(letter if letter.isprintable() else " " for letter in holder).split())
    return InputError(
        f"{path.parent}: another run is writing it ({who or 'its process is not known'}): "
        "wait for its end, or use another folder"
    )


def _release(path: Path, number: int) -> None:
    """Takes the file away while it is still held, so that no one else's goes."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            os.close(number)  # an open file cannot be removed there
            path.unlink()
        elif _is_at(path, number):
            path.unlink()
    if sys.platform != "win32":
        os.close(number)
