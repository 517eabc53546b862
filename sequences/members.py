"""The files in a folder, `.zip`, `.tar` or `.tar.gz`, read into memory one by one: nothing is written anywhere.

What an archive says of itself is not believed: what would unpack to more than the limits is refused before it is
read, names are never used as paths, and links are followed only to files in the same archive.
"""

from __future__ import annotations

import gzip
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from vvc_nnr.errors import BitstreamError, UnsupportedError, VvcNnrError
from vvc_nnr.files import open_input
from vvc_nnr.sequences.listing import IsTaken, LeftOut, choose_names, list_files

MAX_MEMBER_BYTES = 256 << 20
MAX_TOTAL_BYTES = 2 << 30
MAX_MEMBERS = 1_000_000

_ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_GZIP_MAGIC = b"\x1f\x8b"
_OTHER_ARCHIVES = {
    b"BZh": ".bz2",
    b"\xfd7zXZ": ".xz",
    b"7z\xbc\xaf\x27\x1c": ".7z",
    b"Rar!": ".rar",
    b"\x28\xb5\x2f\xfd": ".zst",
}
_ARCHIVE_ERRORS = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, IndexError, KeyError, OSError, RuntimeError, ValueError),
)


@dataclass(frozen=True, slots=True)
class Members:
    """The files of one kind in a folder or archive.

    Attributes:
        names: With forward slashes, in the order they are best read.
        left_out: The others.
        read: The content of a file by its name; raises InputError or BitstreamError.
    """

    names: tuple[str, ...]
    left_out: LeftOut
    read: Callable[[str], bytes]


def is_archive(path: Path) -> bool:
    """Whether a file is an archive that `open_members` reads.

    Raises:
        InputError: If it cannot be read.
        UnsupportedError: If it is an archive of another kind.
    """
    with open_input(path) as file:
        magic = file.read(8)
    for other, suffix in _OTHER_ARCHIVES.items():
        if magic.startswith(other):
            raise UnsupportedError(f"{path}: is a {suffix} archive; unpack it and name the folder")
    return magic.startswith((*_ZIP_MAGICS, _GZIP_MAGIC)) or path.suffix.lower() == ".tar"


@contextmanager
def open_members(path: Path, is_taken: IsTaken) -> Iterator[Members]:
    """The files of a folder or archive, while the `with` block lasts.

    Args:
        path: The folder or archive.
        is_taken: Which files to take.

    Raises:
        InputError: If it cannot be read.
        BitstreamError: If the archive is damaged or would unpack to too much; from the block as well.
    """
    if os.path.isdir(path):
        yield _folder_members(path, is_taken)
        return
    try:
        with open_input(path) as file:
            if file.read(4) in _ZIP_MAGICS:
                size_bytes = os.fstat(file.fileno()).st_size
                with zipfile.ZipFile(file) as archive:
                    yield _zip_members(archive, size_bytes, is_taken)
            else:
                file.seek(0)
                yield from _tar_members_of(file, is_taken)
    except VvcNnrError:
        raise
    except _ARCHIVE_ERRORS as error:
        raise BitstreamError(f"{path}: cannot be unpacked: {error}") from error


def read_limited(path: Path) -> bytes:
    """A file of at most `MAX_MEMBER_BYTES`.

    Raises:
        InputError: If it cannot be read.
        BitstreamError: If it is larger.
    """
    with open_input(path) as file:
        data = file.read(MAX_MEMBER_BYTES + 1)
    _check_size(str(path), len(data))
    return data


def _folder_members(folder: Path, is_taken: IsTaken) -> Members:
    listing = list_files(folder, is_taken)
    names = tuple(path.relative_to(folder).as_posix() for path in listing.paths)
    return Members(names, listing.left_out, lambda name: read_limited(folder / name))


def _zip_members(archive: zipfile.ZipFile, size_bytes: int, is_taken: IsTaken) -> Members:
    # Some Windows tools write backslashes. Of two files of one name the later one counts, as in every unpacker.
    files = {info.filename.replace("\\", "/"): info for info in archive.infolist() if info.filename.strip("/")}
    files = {name: info for name, info in files.items() if not name.endswith("/")}
    links = [name for name, info in files.items() if stat.S_ISLNK(info.external_attr >> 16)]
    names, left_out = _chosen(files, links, is_taken)
    _check_total(files[name].file_size for name in names)

    def read(name: str) -> bytes:
        _check_size(name, files[name].file_size)
        if files[name].compress_size > size_bytes:  # zipfile asks for that much memory
            raise BitstreamError(
                f"{name}: states {files[name].compress_size} packed bytes of {size_bytes} in the archive"
            )
        if files[name].compress_type not in _ZIP_METHODS:  # LZMA among them, whose header asks for memory at will
            method = files[name].compress_type
            raise UnsupportedError(f"{name}: is packed by method {method}; must be stored or deflated: pack it anew")
        return archive.read(files[name])

    return Members(names, left_out, read)


def _tar_members_of(file: BinaryIO, is_taken: IsTaken) -> Iterator[Members]:
    is_gzip = file.read(2) == _GZIP_MAGIC
    file.seek(0)
    plain = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if is_gzip else file
    with tarfile.open(fileobj=cast(BinaryIO, _LimitedReads(plain)), mode="r:") as archive:
        yield _tar_members(archive, is_taken)


def _tar_members(archive: tarfile.TarFile, is_taken: IsTaken) -> Members:
    files: dict[str, tarfile.TarInfo] = {}
    links = []
    total_bytes = 0
    for n_before, info in enumerate(archive):
        total_bytes += info.size
        if n_before >= MAX_MEMBERS or info.size < 0 or total_bytes > MAX_TOTAL_BYTES:
            raise BitstreamError(f"{info.name}: too much in the archive, or a negative size", field="header")
        target = files.get(str(PurePosixPath(info.linkname))) if info.islnk() else None
        if info.isfile() or target is not None:
            files[str(PurePosixPath(info.name))] = target or info
        elif info.islnk() or info.issym():
            links.append(info.name)
    names, left_out = _chosen([*files, *links], links, is_taken)

    def read(name: str) -> bytes:
        _check_size(name, files[name].size)
        file = archive.extractfile(files[name])
        assert file is not None, name
        return file.read()

    return Members(names, left_out, read)


def _chosen(names: Iterable[str], links: list[str], is_taken: IsTaken) -> tuple[tuple[str, ...], LeftOut]:
    taken, left_out = choose_names(names, is_taken)
    followed = [name for name in taken if name not in set(links)]
    return tuple(followed), replace(left_out, links=tuple(name for name in taken if name in set(links)))


def _check_size(name: str, n_bytes: int) -> None:
    if n_bytes > MAX_MEMBER_BYTES:
        raise BitstreamError(f"{name}: has or unpacks to {n_bytes} bytes; must be at most {MAX_MEMBER_BYTES}")


def _check_total(sizes: Iterable[int]) -> None:
    n_bytes = sum(sizes)
    if n_bytes > MAX_TOTAL_BYTES:
        raise BitstreamError(f"the archive would unpack to {n_bytes} bytes; must be at most {MAX_TOTAL_BYTES}")


class _LimitedReads:
    """A file of which nothing large is read at once: tarfile reads headers of any stated size into memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.tell, self.seek = file.tell, file.seek

    def read(self, n_bytes: int) -> bytes:
        """At most `n_bytes` bytes, 0 to `MAX_MEMBER_BYTES`."""
        if not 0 <= n_bytes <= MAX_MEMBER_BYTES:
            raise BitstreamError(f"a header or file of {n_bytes} bytes", field="archive")
        return self._file.read(n_bytes)
