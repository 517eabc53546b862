"""Fetching public test data: resumable, with a progress bar, checked by size and SHA-256.

Bytes go to `<target>.part`, which is renamed when it is complete and right. Who writes to it holds a lock on it,
which ends with its process: others that want the same file wait, then find it there or go on with what is left.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import logging
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vvc_nnr.errors import InputError, OutputError
from vvc_nnr.files import make_folder, open_input

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CIFAR10_BYTES = 170498071
CIFAR10_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
KODAK_URL = "https://r0k.us/graphics/kodak/kodak/"
KODAK_SHA256 = {
    "kodim01.png": "a56e27cbf5f843c048b6af1d6e090760e9c92fadba88b7dee0205918a37523bd",
    "kodim02.png": "4f4b74a79237e311d72cad958237b5f7088d8bce1c82305ebefe1a70e3022dfd",
    "kodim03.png": "e25ca1ff2f0c0cb5fdfd5f9b0a0bb21ac4c3de3c84a67f35b09a85d3306249db",
    "kodim04.png": "e3b946107c5d3441c022f678d0c3caf1e224d81b1604ba840a4f88e562de61aa",
    "kodim05.png": "10349e963c5c813d327852f82c1795fa4148d69fedffc4c589bee458e3ac3d53",
    "kodim06.png": "363510303b715d4cbc384e1ce227e466b613a09e1b71ae985882bf8e7fbd9b18",
    "kodim07.png": "b77d3f006f42414bb242222e0482e750c0fb9e5ee8d4bed2f6f11c5605fe54a4",
    "kodim08.png": "ba23983c76b4832ee0e8af0592664756841a16779acd69f792e268fb6d13d6e7",
    "kodim09.png": "6a4361c2fc194feb4edaa9f9a4a0620fb9943e460ac7fdf037fb0f6dd6607a7d",
    "kodim10.png": "9dfb70f5867c29ff9ed6313683f19b3d867849e40fbc0c4c54a4a89df341cf23",
    "kodim11.png": "7936814b58b5387fce2e4e2488b4ec830dadd95fa9520f358ddb30990b50f2b6",
    "kodim12.png": "d78c37c2f04f23761ed2367dd77e2db584ddd4c3950833fecf89f199a8126980",
    "kodim13.png": "bc34a3ce58dea09dce1704c997171602de90cb34d0c8503a988b77f473d39b08",
    "kodim14.png": "55a94550ff18f3246c4074fd32b77b0c74447c26b6ad274d564d999c0450ba6e",
    "kodim15.png": "7538cbb80cb9103606c48b806eae57d56c885c7f90b9b3be70a41160f9cbb683",
    "kodim16.png": "a89c7268ccd4718ba424a99fc4643c572cf692ca6eae887185ceb4e9f11d2e54",
    "kodim17.png": "37afcc89fbdcb76d9518e04b2fc011027e2f4cd14b3b2f83cefd721641a47c5b",
    "kodim18.png": "1a9258c365988961d87a0598725b609139c303ad48a5aad6c503c3b1a87849aa",
    "kodim19.png": "b7450b264b1b0a411390d8931b112c27905a992520fc90569dc4b920aa32bbdc",
    "kodim20.png": "3b46c71e3b92a563820ba32936be8330c586c41f938efd94be938386aae4328a",
    "kodim21.png": "ac958597c82073f6bb65129c68f72b651db5b9efd82e11547d07350214bc268b",
    "kodim22.png": "1cee58eb1f2d9c7ebb254d208a03c783ce6cf2c4d8c2cf45e235dd23b4ce1b29",
    "kodim23.png": "e3111a2fd4da24af15d6459ef9eacfe54106b38e27b4a21821b75c3f5d2d5baf",
    "kodim24.png": "1071c68372cc5a01435c2c225a5cf7d4bb803846ec08bb6b3d6721b156d7cb96",
}

_CHUNK_BYTES = 1 << 18
_TIMEOUT_S = 30
_GZIP_SUFFIXES = (".gz", ".tgz")
_GZIP_WINDOW_BITS = 47
"""zlib's word for a gzip or zlib header."""

_log = logging.getLogger(__name__)


def fetch_cifar10(folder: Path | str, progress: bool = True) -> Path:
    """The path of `cifar-10-python.tar.gz` (170 MB) in `folder`, fetched if missing; raises as `download`."""
    target = Path(folder) / "cifar-10-python.tar.gz"
    return download(CIFAR10_URL, target, size_bytes=CIFAR10_BYTES, sha256=CIFAR10_SHA256, progress=progress)


def fetch_kodak(folder: Path | str, progress: bool = True) -> list[Path]:
    """The paths of the 24 Kodak images (15 MB) in `folder`, fetched if missing; raises as `download`."""
    return [
        download(KODAK_URL + name, Path(folder) / name, size_bytes=None, sha256=sha256, progress=progress)
        for name, sha256 in KODAK_SHA256.items()
    ]


def download(url: str, target: Path, *, size_bytes: int | None, sha256: str | None, progress: bool = True) -> Path:
    """The path `target`, whose content is that of `url`; nothing is fetched if it is there already.

    A download that breaks off leaves `<target>.part`, and the next call goes on from there. Several processes
    may ask for one file at once: one fetches it, the others wait.

    Args:
        url: An http or https address.
        target: Where the file goes; its folder is made if needed.
        size_bytes: Its size in bytes; None if unknown.
        sha256: Its SHA-256 in hexadecimal digits; None if unknown.
        progress: Whether to show a bar on stderr where that is a terminal.

    Raises:
        InputError: If the server or the disk fails, the folder cannot be made, or the content is not what was expected.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url}: only http and https addresses are downloaded")
    if os.path.isdir(target):
        raise InputError(f"{target}: is a folder; the file of this name from {url} has no place")
    wanted = _Wanted(url, target, size_bytes, sha256, progress)
    if wanted.is_there():
        return target
    part = target.with_name(target.name + ".part")
    make_folder(part.parent)
    with _locked(part) as file:
        if wanted.is_there():  # fetched by another process while this one waited
            file.truncate(0)
            return target
        _complete(wanted, file)
        if sys.platform == "win32":
            file.close()  # no open file is renamed there
        try:
            os.replace(part, target)
        except OSError as error:
            raise _unwritable(target, error) from error
    return target


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The arguments of `download`."""

    url: str
    target: Path
    size_bytes: int | None
    sha256: str | None
    progress: bool

    def is_there(self) -> bool:
        if not self.target.is_file():
            return False
        with open_input(self.target) as file:
            return self.fault(file) is None

    def fault(self, file: BufferedRandom | BufferedReader) -> str | None:
        """What is wrong with a file, None if nothing."""
        got_bytes = os.fstat(file.fileno()).st_size
        if self.size_bytes is not None and got_bytes != self.size_bytes:
            return f"got {got_bytes} bytes, want {self.size_bytes}"
        if self.sha256 is not None:
            file.seek(0)
            got = hashlib.file_digest(file, "sha256").hexdigest()
            if got != self.sha256:
                return f"got SHA-256 {got}, want {self.sha256}"
        return None

    def is_known_right(self, file: BufferedRandom) -> bool:
        return (self.size_bytes is not None or self.sha256 is not None) and self.fault(file) is None


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path}: cannot be written: {error.strerror or error}; make room or choose another folder, then run again"
    )


@contextmanager
def _locked(part: Path) -> Iterator[BufferedRandom]:
    """The file, made if needed, for reading and writing by this process alone; removed at the end if empty.

    Raises:
        InputError: If the system refuses.
    """
    try:
        file = _open_locked(part)
    except OSError as error:
        raise _unwritable(part, error) from error
    try:
        yield file
    finally:
        with suppress(OSError):  # what a full disk refused cannot be flushed either
            if not file.closed and os.fstat(file.fileno()).st_size == 0 and _is_still(part, file):
                part.unlink()
        with suppress(OSError):
            file.close()


def _open_locked(part: Path) -> BufferedRandom:
    while True:
        with ExitStack() as closing:
            file = closing.enter_context(open(part, "r+b", opener=_open_or_make))
            _lock(file, part)
            if _is_still(part, file):  # and no other process renamed or removed it before the lock was free
                closing.pop_all()
                return file


def _open_or_make(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o666)


def _lock(file: BufferedRandom, part: Path) -> None:
    """Waits until no other process has the lock; where there are no locks, does nothing."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.warning("%s: another process fetches it; waiting", part.with_suffix(""))
            fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
            raise


def _is_still(path: Path, file: BufferedRandom) -> bool:
    """Whether the open file is the one of that name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _complete(wanted: _Wanted, file: BufferedRandom) -> None:
    """Fetches what the file lacks, and all of it anew if what was there before turns out to be wrong."""
    is_old = os.fstat(file.fileno()).st_size > 0
    while True:
        try:
            fault = _fetched_fault(wanted, file)
        except urllib.error.URLError as error:
            raise InputError(_unreachable(wanted, error)) from error
        except (OSError, http.client.HTTPException) as error:
            raise InputError(f"{wanted.url}: download failed: {error}; run again to go on where it stopped") from error
        if fault is None:
            return
        file.truncate(0)
        if not is_old:
            by_hand = f"it was removed, try again or download it by hand to {wanted.target}"
            raise InputError(f"{wanted.url}: {fault}; {by_hand}")
        is_old = False


def _unreachable(wanted: _Wanted, error: urllib.error.URLError) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{wanted.url}: download failed: {error}; try again later or download it by hand to {wanted.target}"
    words = "run again when the server can be reached, or download it by hand to"
    return f"{wanted.url}: download failed: {error.reason}; {words} {wanted.target}"


def _fetched_fault(wanted: _Wanted, file: BufferedRandom) -> str | None:
    """Appends what the file lacks; returns what is wrong with it then.

    Raises:
        OSError: If the connection fails; what is in the file can be gone on with.
        InputError: If the disk fails or the server sends a web page.
    """
    have_bytes = os.fstat(file.fileno()).st_size
    if have_bytes and wanted.is_known_right(file):
        return None
    if wanted.size_bytes is not None and have_bytes >= wanted.size_bytes:
        file.truncate(0)
        have_bytes = 0
    try:
        response = _opened(wanted.url, have_bytes)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have_bytes:
            return wanted.fault(file)  # nothing is left to send
        raise
    with response:
        _refuse_web_page(wanted.url, response)
        if response.status == http.HTTPStatus.PARTIAL_CONTENT and not _continues(response, have_bytes):
            return "the server sent another part of the file than it was asked for"
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            file.truncate(0)
        cut = _append(response, wanted, file)
    if cut and not wanted.is_known_right(file):
        raise ConnectionError(cut)
    return wanted.fault(file)


def _opened(url: str, have_bytes: int) -> Any:
    headers = {"Range": f"bytes={have_bytes}-"} if have_bytes else {}
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S)


def _continues(response: Any, have_bytes: int) -> bool:
    """Whether a part of the file is the one asked for, as sent and not packed."""
    stated = re.match(r"bytes (\d{1,20})-", response.headers.get("Content-Range") or f"bytes {have_bytes}-")
    return stated is not None and int(stated[1]) == have_bytes and not _is_packed(response)


def _is_packed(response: Any) -> bool:
    """Whether the server packed the file on the way; many say so of files that are `.gz` themselves."""
    encoding = (response.headers.get("Content-Encoding") or "").lower()
    is_gzip_file = urllib.parse.urlsplit(response.url).path.lower().endswith(_GZIP_SUFFIXES)
    return encoding in ("gzip", "x-gzip", "deflate") and not is_gzip_file


def _refuse_web_page(url: str, response: Any) -> None:
    if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise InputError(f"{url}: the server sent a web page, not the file; is there a login or proxy on the way?")


def _append(response: Any, wanted: _Wanted, file: BufferedRandom) -> str:
    """Appends what the server sends; returns in words how it was cut off, empty if it was not."""
    have_bytes = file.seek(0, os.SEEK_END)
    stated_bytes = None if _is_packed(response) else response.length
    total_bytes = wanted.size_bytes if stated_bytes is None else have_bytes + stated_bytes
    with tqdm(
        desc=wanted.target.name, total=total_bytes, initial=have_bytes, unit="B", unit_scale=True,
        disable=None if wanted.progress else True, file=sys.stderr,
    ) as bar:  # fmt: skip
        for chunk in _chunks(response):
            _write(file, chunk, wanted.target)
            have_bytes += len(chunk)
            bar.update(len(chunk))
            if wanted.size_bytes is not None and have_bytes > wanted.size_bytes:
                return ""  # wrong, and perhaps without end
    if total_bytes is not None and have_bytes < total_bytes:
        return f"the connection ended after {have_bytes} of {total_bytes} bytes"
    return ""


def _write(file: BufferedRandom, chunk: bytes, target: Path) -> None:
    try:
        file.write(chunk)
        file.flush()
    except OSError as error:
        raise _unwritable(target, error) from error


def _chunks(response: Any) -> Iterator[bytes]:
    """What the server sends, unpacked if it packed the file on the way."""
    if not _is_packed(response):
        while chunk := response.read(_CHUNK_BYTES):
            yield chunk
        return
    unpacker = zlib.decompressobj(_GZIP_WINDOW_BITS)
    while packed := response.read(_CHUNK_BYTES):
        while packed:
            try:
                yield unpacker.decompress(packed, _CHUNK_BYTES)
            except zlib.error as error:
                raise ConnectionError(f"what the server packed cannot be unpacked: {error}") from error
            packed = unpacker.unconsumed_tail
    yield unpacker.flush()
    if not unpacker.eof:
        raise ConnectionError("the connection ended in what the server packed")
