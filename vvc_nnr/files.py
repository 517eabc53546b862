"""Opening a user's file, and writing one that is whole or not there."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError

_TORN = re.compile(r"\..+\.[0-9a-f]{8}\.part", re.DOTALL)
"""Names of unfinished files, see `AtomicFile`."""


def open_input(path: Path | str) -> BufferedReader:
    """The file opened for reading bytes.

    Raises:
        InputError: If it is missing, a folder or not readable.
    """
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, a file is wanted") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def read_bytes(path: Path | str) -> bytes:
    """A whole file.

    Raises:
        InputError: If it cannot be read.
    """
    with open_input(path) as file:
        return file.read()


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Puts the file's name before what is wrong with its content, if it does not stand there."""
    try:
        yield
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error
    except BitstreamError as error:
        raise BitstreamError(f"{path}: {error}") from error
    except UnsupportedError as error:
        raise UnsupportedError(f"{path}: {error}") from error


def remove_torn_files(folder: Path) -> None:
    """Removes what `AtomicFile` left in a folder when its process was killed; only for who holds the folder alone.

    Args:
        folder: The folder; it need not be there.
    """
    if folder.is_dir():
        for path in folder.iterdir():
            if _TORN.fullmatch(path.name):
                path.unlink(missing_ok=True)


def remaining_bytes(file: BufferedReader) -> int:
    """How many bytes of an open regular file are left to read."""
    return os.fstat(file.fileno()).st_size - file.tell()


class AtomicFile:
    """A file that appears under its name only when it is complete.

    Bytes go to a temporary name in the same folder, which is renamed when the `with` block ends and removed
    when it raises. A device or pipe (such as /dev/stdout) is written directly.

    Args:
        path: The final name; a file of that name is replaced.

    Raises:
        InputError: From `with`, `write` or the block's end, if the system refuses (full disk, no folder).
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        target = self.path.resolve()
        self._target = target
        self._direct = target.exists() and not target.is_file() and not target.is_dir()
        self._written = target if self._direct else target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        self._file: BinaryIO | None = None

    def __enter__(self) -> AtomicFile:
        if self._target.is_dir():
            raise InputError(f"{self.path}: is a folder, a file name is wanted")
        try:
            self._file = open(self._written, "wb")
        except OSError as error:
            raise self._refused(error) from error
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
            self._close()
            if kind is None and not self._direct:
                os.replace(self._written, self._target)
        except OSError as failure:
            if kind is None:
                raise self._refused(failure) from failure
        finally:
            if not self._direct:
                self._written.unlink(missing_ok=True)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _refused(self, error: OSError) -> InputError:
        return InputError(f"{self.path}: cannot be written: {error.strerror}")
