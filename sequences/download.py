"""Fetching public test data: resumable, with a progress bar, checked by size and SHA-256."""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vvc_nnr.errors import InputError

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

    A download that breaks off leaves `<target>.part`, and the next call goes on from there.

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
    if target.is_file() and _fault(target, size_bytes, sha256) is None:
        return target
    part = target.with_name(target.name + ".part")
    _make_folder(part.parent)
    try:
        _fetch(url, part, size_bytes, progress)
        fault = _fault(part, size_bytes, sha256)
        if fault:
            part.unlink()
            raise InputError(f"{url}: {fault}; it was removed, try again or download it by hand to {target}")
        os.replace(part, target)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(f"{url}: download failed: {reason}; run again to go on where it stopped") from error
    return target


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"{folder}: is a file, a folder is wanted") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error.strerror}; a folder is wanted") from error


def _fault(path: Path, size_bytes: int | None, sha256: str | None) -> str | None:
    """What is wrong with the file, None if nothing."""
    got_bytes = path.stat().st_size
    if size_bytes is not None and got_bytes != size_bytes:
        return f"got {got_bytes} bytes, want {size_bytes}"
    if sha256 is not None:
        with open(path, "rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
        if got != sha256:
            return f"got SHA-256 {got}, want {sha256}"
    return None


def _fetch(url: str, part: Path, size_bytes: int | None, progress: bool) -> None:
    """Append what is missing of `url` to `part`."""
    have_bytes = part.stat().st_size if part.exists() else 0
    if size_bytes is not None and have_bytes >= size_bytes:
        return
    headers = {"Range": f"bytes={have_bytes}-"} if have_bytes else {}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have_bytes:
            return  # nothing is left to send; the checks decide
        raise
    with response:
        is_resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        _append(response, part, have_bytes if is_resumed else 0, progress)


def _append(response: Any, part: Path, have_bytes: int, progress: bool) -> None:
    left_bytes = int(response.headers.get("Content-Length") or 0)
    total_bytes = have_bytes + left_bytes if left_bytes else None
    with (
        open(part, "ab" if have_bytes else "wb") as file,
        tqdm(
            desc=part.stem, total=total_bytes, initial=have_bytes, unit="B", unit_scale=True,
            disable=None if progress else True, file=sys.stderr,
        ) as bar,
    ):  # fmt: skip
        while chunk := response.read(_CHUNK_BYTES):
            file.write(chunk)
            bar.update(len(chunk))
    if total_bytes is not None and part.stat().st_size != total_bytes:
        raise OSError(f"the connection ended after {part.stat().st_size} of {total_bytes} bytes")
