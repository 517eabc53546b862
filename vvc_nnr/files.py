"""Opening a user's file, and writing one that is whole or not there; temporary files and folders.

Each temporary one carries a mark of this machine in its name and is locked (`flock`) as long as its process lives,
since the system frees a lock at its process's death. So what has the mark and can be locked is ours and nobody's, and
the next process that writes in the same folder removes it. Where the system cannot lock, the name has no mark and
nothing is removed.
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
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from vvc_nnr.errors import BitstreamError, InputError, OutputError, VvcNnrError, shown_name

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
            try:
                number = _open_folder(path)
            except FileNotFoundError:
                continue  # taken for a leftover before it was opened
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


_MAX_LINKS = 40
# Of a file's name in a message: as many as stand before the gap of the longest.
_TELLING_CHARACTERS = 400
_MAX_SHORT_NAME_BYTES = 200
_STANDARD_FILES = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_NUMBERED_FILE = re.compile(r"(?:/dev|/proc/([^/]+))/fd/([0-9]{1,9})")


def open_input(path: Path | str) -> BufferedReader:
    """The file opened for reading bytes.

    Raises:
        InputError: If it is missing, a folder or not readable.
    """
    try:
        return open(path, "rb")
    except FileNotFoundError:
        if str(path) == "-":
            raise InputError("-: standard input is not read; write it to a file first, or name it /dev/stdin") from None
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; must be a file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # a zero in it, or letters that no name can have
        raise InputError(f"{str(path)!r}: cannot be the name of a file: {error}") from error


def check_regular_file(path: Path | str) -> None:
    """Refuses what cannot be read again and again.

    Raises:
        InputError: If there is no such file, or it is a folder, a pipe or a device.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # as in `open_input`
        raise InputError(f"{str(path)!r}: cannot be the name of a file: {error}") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}: is a folder; must be a file")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: is a pipe or device, and must be read more than once; write it to a file first")


def read_bytes(path: Path | str) -> bytes:
    """A whole file.

    Raises:
        InputError: If it cannot be read.
    """
    with open_input(path) as file:
        return file.read()


# Of a file, so that its kind is told.
HEAD_BYTES = 512
_LFS_START = b"version https://git-lfs.github.com/spec"


def check_no_pointer(head: bytes) -> None:
    """Raises BitstreamError if the first bytes of a file are those that Git LFS leaves in the place of another."""
    if head.startswith(_LFS_START):
        raise BitstreamError("is a Git LFS pointer, not the file itself: fetch that (git lfs pull)")


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Puts the file's name before what is wrong with its content, if it does not stand there."""
    try:
        yield
    except OutputError:
        raise
    except VvcNnrError as error:
        if str(error).startswith(shown_name(str(path))[:_TELLING_CHARACTERS]):
            raise
        raise error.prefixed(str(path)) from error


def make_folder(folder: Path) -> Path:
    """The folder, made if need be.

    Raises:
        OutputError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        places = (folder, *folder.parents)
        in_the_way = next((each for each in places if os.path.lexists(each) and not os.path.isdir(each)), None)
        if in_the_way is None:
            raise OutputError(f"{folder}: cannot be made: {error.strerror}; must be a folder") from error
        raise OutputError(
            f"{folder}: cannot be made: {in_the_way} is none and must be a folder; name another place"
        ) from error
    return folder


def check_folder(folder: Path) -> None:
    """Makes a folder if need be, and refuses one that no file can be written in before there is work to be lost.

    Raises:
        OutputError: If it cannot be made or written.
    """
    try:
        with tempfile.TemporaryFile(dir=make_folder(folder)):
            pass
    except OSError as error:
        raise OutputError(f"{folder}: no file can be written there: {error.strerror}; name another place") from error


def remaining_bytes(file: BufferedReader) -> int:
    """How many bytes of an open regular file are left to read."""
    return os.fstat(file.fileno()).st_size - file.tell()


def is_stream(path: Path | str) -> bool:
    """Whether what is written there cannot be taken back: a device, a pipe, or an open file such as /dev/stdout."""
    if open_file_number(path) is not None:
        return True
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def open_file_number(path: Path | str) -> int | None:
    """The number of the open file of this process that a path such as /dev/stdout or /dev/fd/63 stands for, or None."""
    text = os.fspath(path)
    for _ in range(_MAX_LINKS):
        if text in _STANDARD_FILES:
            return _STANDARD_FILES[text]
        if found := _NUMBERED_FILE.fullmatch(text):
            return int(found[2]) if found[1] in (None, "self", "thread-self", str(os.getpid())) else None
        if not os.path.islink(text):
            return None
        text = os.path.join(os.path.dirname(text), os.readlink(text))
    return None


def text_of_name(name: str) -> str:
    r"""A file's name as text, the same in every locale: its bytes as UTF-8, surrogates for what is none.

    Python reads a name by the locale, so that `é` is two surrogates where that is ASCII. Rows, settings and tables
    have this text; `name_of_text` makes the name of it again.
    """
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def name_of_text(text: str) -> str:
    """The name of a file that `text_of_name` made the text of, as this locale has it."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


def short_name(name: str) -> str:
    """A name that leaves room for what is added to it: itself, or its beginning with a hash of the whole."""
    data = name.encode("utf-8", "surrogatepass")
    if len(data) <= _MAX_SHORT_NAME_BYTES:
        return name
    end = f"-{hashlib.sha256(data).hexdigest()[:8]}"
    return data[: _MAX_SHORT_NAME_BYTES - len(end)].decode("utf-8", "ignore") + end


class AtomicFile:
    """A file that appears under its name only when it is complete.

    Bytes go to a temporary file in the same folder, which is renamed when the `with` block ends and removed when it
    raises. A device, pipe or open file (/dev/null, a FIFO, /dev/stdout, /dev/fd/63) gets its bytes at once.

    Args:
        path: The final name; a file of that name is replaced.

    Raises:
        OutputError: From `with`, `write` or the block's end, if the system refuses (full disk, no folder).
    """

    def __init__(self, path: Path | str) -> None:
        self.path = self._target = Path(path)
        self._temporary: Path | None = None
        self._file: BinaryIO | None = None

    def __enter__(self) -> AtomicFile:
        if os.path.isdir(self.path):
            raise OutputError(f"{self.path}: is a folder; must be a file name")
        try:
            self._open()
        except BaseException as error:
            self._discard()
            if isinstance(error, OSError | ValueError):
                raise self._refused(error) from error
            raise
        return self

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        if self._file is None:
            raise RuntimeError(f"{self.path}: write() is only possible inside the with block")
        try:
            self._file.write(data)
        except OSError as error:
            raise self._refused(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except OSError as failure:
            raise self._refused(failure) from failure
        finally:
            self._discard()

    def _open(self) -> None:
        number = open_file_number(self.path)
        if number is not None:
            self._file = os.fdopen(os.dup(number), "wb")
        elif is_stream(self.path):
            self._file = open(self.path, "wb")  # noqa: SIM115
        else:
            self._target = Path(os.path.realpath(self.path)) if self.path.is_symlink() else self.path
            with contextlib.suppress(FileNotFoundError):
                self._target.lstat()  # a name that is too long is known now, not when all is written
            self._temporary, number = open_temporary_file(self._target)
            self._file = os.fdopen(number, "wb")

    def _finish(self) -> None:
        """Writes out what is left, and gives the file its name."""
        assert self._file is not None
        self._file.flush()
        os.close(os.dup(self._file.fileno()))  # some systems tell here that the disk is full
        if self._temporary is not None:
            if sys.platform == "win32":
                self._file.close()
            os.replace(self._temporary, self._target)
            self._temporary = None

    def _discard(self) -> None:
        """Closes the file, and removes it if it has no name."""
        file, self._file = self._file, None
        temporary, self._temporary = self._temporary, None
        with contextlib.suppress(OSError), contextlib.ExitStack() as rest:
            if file is not None:
                rest.callback(file.close)  # last: this frees the lock
            if temporary is not None:
                temporary.unlink(missing_ok=True)

    def _refused(self, error: OSError | ValueError) -> OutputError:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        folder = self._target.parent
        if isinstance(error, FileNotFoundError | NotADirectoryError) and not os.path.isdir(folder):
            reason = f"there is no folder {folder}; make it, or name another place"
        return OutputError(f"{self.path}: cannot be written: {reason}")


def write_file(path: Path | str, data: bytes | memoryview) -> int:
    """Writes a file, all of it or nothing, and returns its size in bytes; a file of that name is replaced.

    Raises:
        OutputError: If the system refuses (full disk, no folder).
    """
    with AtomicFile(path) as file:
        file.write(data)
    return len(data)
