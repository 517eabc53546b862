"""Temporary files and folders, and the removal of those that a killed process left.

Each carries a mark of this machine in its name and is locked (`flock`) as long as its process lives, since the system
frees a lock at its process's death. So what has the mark and can be locked is ours and nobody's, and the next process
that writes in the same folder removes it. Where the system cannot lock, the name has no mark and nothing is removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from vvc_nnr.errors import OutputError

FILE_SUFFIX = ".part"
FOLDER_PREFIX = "vvc_nnr_"
_NO_MARK = "x"
_MAX_NAME_BYTES = 255
_MODE = 0o666
_TRIES = 100


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder for temporary files, which is removed at the end of the block with all that it holds.

    Raises:
        OutputError: If it cannot be made.
    """
    place = _place()
    remove_leftovers(place)
    path, number = _new_folder(place)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if number is not None:
            os.close(number)


def open_temporary_file(target: Path) -> tuple[Path, int]:
    """A new file beside `target` for bytes that are to go there, open for writing; closing it unlocks it.

    Returns:
        Its path, and its number as an open file.

    Raises:
        OSError: If it cannot be made.
    """
    remove_leftovers(target.parent)
    for _ in range(_TRIES):
        path = _beside(target, _machine())
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
        if not _lock(number, wait=True):
            unmarked = _beside(target, _NO_MARK)
            os.rename(path, unmarked)
            return unmarked, number
        if _is_at(path, number):
            return path, number
        os.close(number)  # taken for a leftover before it was locked
    raise OSError(f"no temporary file can be made beside {target}")


@cache
def remove_leftovers(folder: Path) -> None:
    """Removes what killed processes of this machine and user left in a folder; looks there once per process."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for path in [Path(entry.path) for entry in entries if _is_marked(entry.name)]:
            with contextlib.suppress(OSError):
                _remove_if_dead(path)


def _new_folder(place: Path) -> tuple[Path, int | None]:
    """A new folder, and its number as an open file where it is locked."""
    try:
        for _ in range(_TRIES):
            path = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{_machine()}_", dir=place))
            number = _open_folder(path)
            if number is None or not _lock(number, wait=True):
                if number is not None:
                    os.close(number)
                unmarked = path.with_name(f"{FOLDER_PREFIX}{_NO_MARK}_{secrets.token_hex(4)}")
                return path.rename(unmarked), None
            if _is_at(path, number):
                return path, number
            os.close(number)  # taken for a leftover before it was locked
    except OSError as error:
        raise OutputError(f"{place}: no temporary folder can be made there: {error.strerror}") from error
    raise OutputError(f"{place}: no temporary folder can be made there")


def _place() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise OutputError(
            f"no folder for temporary files can be written; name one in TMPDIR: {error.strerror}"
        ) from None


def _open_folder(path: Path) -> int | None:
    return None if sys.platform == "win32" else os.open(path, os.O_RDONLY)


def _beside(target: Path, mark: str) -> Path:
    """A hidden name beside `target` that begins like it, as far as names may be long."""
    end = f".{mark}_{secrets.token_hex(4)}{FILE_SUFFIX}"
    begin = os.fsencode(target.name)[: _MAX_NAME_BYTES - 1 - len(end)]
    return target.with_name(f".{os.fsdecode(begin)}{end}")


@cache
def _machine() -> str:
    """What tells this machine from others that may use the same disk."""
    return hashlib.sha256(f"vvc_nnr on {socket.gethostname()}".encode()).hexdigest()[:8]


def _is_marked(name: str) -> bool:
    mark = re.escape(_machine())
    file, folder = rf"\..*\.{mark}_[0-9a-f]{{8}}{re.escape(FILE_SUFFIX)}", rf"{FOLDER_PREFIX}{mark}_[a-z0-9_]{{8}}"
    return re.fullmatch(f"{file}|{folder}", name, re.DOTALL) is not None


def _remove_if_dead(path: Path) -> None:
    """Removes a marked file or folder of this user's, unless a process holds its lock."""
    if sys.platform == "win32":
        return
    about = path.lstat()
    is_folder = stat.S_ISDIR(about.st_mode)
    if about.st_uid != os.geteuid() or not (is_folder or stat.S_ISREG(about.st_mode)):
        return
    number = os.open(path, os.O_NOFOLLOW | (os.O_RDONLY if is_folder else os.O_RDWR))
    try:
        if _lock(number) and _is_at(path, number):
            shutil.rmtree(path) if is_folder else path.unlink()
    finally:
        os.close(number)


def _lock(number: int, *, wait: bool = False) -> bool:
    """Locks an open file for this process; False where the system cannot, or another has it and `wait` is off."""
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _is_at(path: Path, number: int) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(number))
    except FileNotFoundError:
        return False
