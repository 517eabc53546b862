"""The files of a user's folder or archive: one list for all commands, and words for what of the folder is left out.

| left out | what |
| --- | --- |
| hidden | names that begin with a dot, and what systems put beside files: `__MACOSX`, `Thumbs.db`, `@eaDir`, ... |
| partial | downloads that are not finished: `x.png.part`, `x.png.crdownload`, and `x.yuv` beside `x.yuv.aria2` |
| unknown | files of another kind, and what is no file: pipes, sockets, devices |
| repeated | links to a file or folder that is in the list already |
| upward | links to a folder above them, which have no end |
| broken | links to nothing |
| links | links in archives but hard links to a file of the archive |
| folders | sub-folders where only the files directly in a folder are taken |

Linked folders are entered. A file that several links lead to is in the list once, under its own name if it has
one there. An empty file is not left out: whoever reads it refuses it by name, as any damaged one.

The order is that of the code points in the parts of the paths, whatever the locale.

Members of a `.zip`, `.tar` or `.tar.gz` are read into memory one by one: nothing is written anywhere. What an archive
says of itself is not believed: what would unpack to more than the limits is refused before it is read, names are never
used as paths, and links are followed only to files in the same archive.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import logging
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO, TypeAlias, cast

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError, VvcNnrError
from vvc_nnr.files import open_input

_log = logging.getLogger(__name__)

IsTaken: TypeAlias = Callable[[str], bool]
"""Whether a file is of the wanted kind, by its name without folders."""

_SYSTEM_NAMES = frozenset(
    {
        *("__macosx", "icon\r"),  # macOS
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),  # Windows
        *("@eadir", "#recycle", "lost+found"),  # NAS and Linux
    }
)
_PARTIAL_SUFFIXES = (".part", ".partial", ".crdownload", ".download", ".opdownload", ".filepart", ".!ut", ".!qb")
_ARIA2_SUFFIX = ".aria2"
_N_NAMES_SHOWN = 3
_WORDS = {
    "hidden": ("hidden file", "hidden files"),
    "partial": ("partial download", "partial downloads"),
    "unknown": ("of unknown kind", "of unknown kind"),
    "repeated": ("link to what is there already", "links to what is there already"),
    "upward": ("link to a folder above it", "links to folders above them"),
    "broken": ("broken link", "broken links"),
    "links": ("link that is not followed", "links that are not followed"),
    "folders": ("folder that is not entered", "folders that are not entered"),
}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What of a folder or archive is left out: names with forward slashes, by the reasons of this module."""

    hidden: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    upward: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(self))

    def __str__(self) -> str:
        """Such as `3 hidden files, 1 of unknown kind (notes.txt)`."""
        reasons = [(each.name, getattr(self, each.name)) for each in fields(self)]
        return ", ".join(_counted(reason, names) for reason, names in reasons if names)

    def tell(self, where: Path | str) -> None:
        """Says aloud, in one line of the log, what was left out of `where`; nothing if nothing was."""
        if self:
            _log.warning("left out of %s: %s", printable_name(str(where)), self)


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a folder.

    Attributes:
        folder: The folder.
        paths: Those of the wanted kind, each below `folder`.
        left_out: The others.
    """

    folder: Path
    paths: tuple[Path, ...]
    left_out: LeftOut

    def words_if_empty(self) -> str:
        """What to add to a refusal of a folder without files: what was left out, or nothing."""
        return f"; left out: {self.left_out}" if self.left_out else ""


def list_files(folder: Path, is_taken: IsTaken, *, enter: bool = True) -> Listing:
    """The files of a folder and, unless `enter` is false, of the folders in it.

    Args:
        folder: The folder; what lies above it may be hidden.
        is_taken: Which files to take.
        enter: Whether folders and links to folders in it are entered.

    Raises:
        InputError: If there is no such folder, or one in it cannot be listed.
    """
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: {'is a file, must be a folder' if os.path.exists(folder) else 'no such folder'}")
    walk = _Walk(folder, is_taken, enter)
    walk.run()
    paths = tuple(folder / name for name in sorted(walk.taken, key=_parts))
    return Listing(
        folder, paths, LeftOut(**{why: tuple(sorted(names, key=_parts)) for why, names in walk.left_out.items()})
    )


def distinct_files(paths: Sequence[Path], besides: Sequence[Path] = ()) -> list[Path]:
    """The files whose bytes are not those of one before, nor of `besides`; the log names the others.

    So no picture is trained on under one name and tested with under another.

    Raises:
        InputError: If a file cannot be read.
    """
    n_of_size = Counter(_size_bytes(path) for path in {*besides, *paths})

    def identity(path: Path) -> bytes:
        return _digest(path) if n_of_size[_size_bytes(path)] > 1 else os.fsencode(path)

    first = {identity(path): path for path in reversed(besides)}
    distinct, copies = [], []
    for path in paths:
        before = first.setdefault(identity(path), path)
        if before is path and path not in besides:
            distinct.append(path)
        elif before.resolve() != path.resolve():
            copies.append(f"{printable_name(path.name)} equals {printable_name(before.name)}")
    if copies:
        words = "1 copy" if len(copies) == 1 else f"{len(copies)} copies"
        _log.warning("left out of %s: %s (%s)", printable_name(str(paths[0].parent)), words, _shown(copies))
    return distinct


def list_folders(folder: Path) -> list[Path]:
    """The folders and links to folders directly in a folder but hidden ones, by name.

    Raises:
        InputError: If it cannot be listed.
    """
    visible = [folder / entry.name for entry in _entries(folder) if not is_hidden(entry.name)]
    return [path for path in visible if path.is_dir()]


def choose_names(names: Iterable[str], is_taken: IsTaken) -> tuple[list[str], LeftOut]:
    """The names of an archive's files that are taken, in their order, and what is left out, as in a folder."""
    left_out: dict[str, list[str]] = {"hidden": [], "partial": [], "unknown": []}
    taken: list[str] = []
    for name in names:
        reason = _reason(name, is_taken)
        (taken if reason is None else left_out[reason]).append(name)
    return taken, LeftOut(**{reason: tuple(found) for reason, found in left_out.items()})


def has_suffix(suffixes: Collection[str]) -> IsTaken:
    """Takes files with one of the suffixes, which are lower-case and begin with a dot; files may have capitals."""
    return lambda name: PurePath(name).suffix.lower() in suffixes


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name, without folders before it, is hidden or one that a system made."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def printable_name(name: str) -> str:
    """The name for a line of text: control characters and bytes that are no text are shown as escapes."""
    return name if name.isprintable() else ascii(name)[1:-1]


def _reason(name: str, is_taken: IsTaken) -> str | None:
    """Why a file is left out, by its name with folders; None if it is taken."""
    file = PurePosixPath(name)
    if any(is_hidden(part) for part in file.parts):
        return "hidden"
    if name.lower().endswith((*_PARTIAL_SUFFIXES, _ARIA2_SUFFIX)):
        return "partial"
    return None if is_taken(file.name) else "unknown"


def _counted(reason: str, names: tuple[str, ...]) -> str:
    words = f"{len(names)} {_WORDS[reason][len(names) > 1]}"
    if reason == "hidden":
        return words
    return f"{words} ({_shown([printable_name(name) for name in names])})"


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_N_NAMES_SHOWN]) + (", ..." if len(names) > _N_NAMES_SHOWN else "")


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _digest(path: Path) -> bytes:
    with open_input(path) as file:
        return hashlib.file_digest(file, "sha256").digest()


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(name).parts


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror}") from error


@dataclass(slots=True)
class _Walk:
    """One way through a folder: first what is really there, then what its links lead to, then the links there.

    Names are relative to the folder, with forward slashes; `real` paths are free of links.
    """

    folder: Path
    is_taken: IsTaken
    enter: bool
    taken: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=lambda: {each.name: [] for each in fields(LeftOut)})
    real_files: set[str] = field(default_factory=set)
    real_folders: set[str] = field(default_factory=set)
    links: list[tuple[str, str]] = field(default_factory=list)  # name, and real path of the folder that it is in

    def run(self) -> None:
        self._folder("", os.path.realpath(self.folder))
        while self.links:
            links, self.links = sorted(self.links, key=lambda link: _parts(link[0])), []
            for name, real_folder in links:
                self._link(name, real_folder)

    def _folder(self, name: str, real: str) -> None:
        """Takes in a folder and the folders in it, and notes its links."""
        waiting = [(name, real)]
        while waiting:
            name, real = waiting.pop()
            if real in self.real_folders:
                self.left_out["repeated"].append(name)
                continue
            self.real_folders.add(real)
            entries = _entries(self.folder / name)
            unfinished = {e.name.removesuffix(_ARIA2_SUFFIX) for e in entries if e.name.endswith(_ARIA2_SUFFIX)}
            for entry in entries:
                below = f"{name}/{entry.name}" if name else entry.name
                if is_hidden(entry.name):
                    self.left_out["hidden"].append(below)
                elif entry.name in unfinished:
                    self.left_out["partial"].append(below)
                elif entry.is_symlink():
                    self.links.append((below, real))
                elif not entry.is_dir():
                    self._file(below, os.path.join(real, entry.name), entry.is_file())
                elif self.enter:
                    waiting.append((below, os.path.join(real, entry.name)))
                else:
                    self.left_out["folders"].append(below)

    def _file(self, name: str, real: str, is_regular: bool) -> None:
        reason = _reason(name, self.is_taken) if is_regular else "unknown"
        if reason is None and real in self.real_files:
            reason = "repeated"
        if reason is None:
            self.real_files.add(real)
            self.taken.append(name)
        else:
            self.left_out[reason].append(name)

    def _link(self, name: str, real_folder: str) -> None:
        path = self.folder / name
        if not _leads_somewhere(path):
            self.left_out["broken"].append(name)
            return
        real = os.path.realpath(path)
        if not path.is_dir():
            self._file(name, real, path.is_file())
        elif not self.enter:
            self.left_out["folders"].append(name)
        elif any(_is_above(real, each) for each in (real_folder, os.path.realpath(self.folder))):
            self.left_out["upward"].append(name)
        else:
            self._folder(name, real)


def _leads_somewhere(link: Path) -> bool:
    try:
        link.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise InputError(f"{link}: cannot be followed: {error.strerror}") from error
    return True


def _is_above(real: str, other: str) -> bool:
    """Whether a real path is the other one or a folder above it."""
    return Path(other).is_relative_to(real)


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
