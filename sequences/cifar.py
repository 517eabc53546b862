"""CIFAR-10 from each of the forms it is found in.

| form | what |
| --- | --- |
| python batches | `data_batch_1` to `_5` and `test_batch`: one of them, a folder or the `.tar.gz` of them |
| binary batches | the same with `.bin` files: 3073 bytes per image, label then RGB planes |
| `.npz` | `images` uint8 (N, 32, 32, 3) and `labels`, numbers 0..9 or class names |
| images | a folder or `.zip` of `[train/ or test/]<class>/<name>.png` or `.jpg` |

Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009;
cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import io
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError, VvcNnrError
from vvc_nnr.files import open_input
from vvc_nnr.npy import parse_npy
from vvc_nnr.sequences.cifar_pickle import read_python_batch
from vvc_nnr.sequences.images import decode_image

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
Split: TypeAlias = Literal["all", "train", "test"]

_RECORD_BYTES = 1 + 3 * 32 * 32
_MAX_MEMBER_BYTES = 256 << 20  # all 60,000 images are 184 MB
_BATCH_NAME = re.compile(r"(?:data_batch_\d+|test_batch)(\.bin)?")
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_ARCHIVE_ERRORS = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, RuntimeError, ValueError),
)


@dataclass(frozen=True, slots=True, eq=False)
class CifarImages:
    """CIFAR-10 images and their classes.

    Attributes:
        images: RGB, uint8 (N, 32, 32, 3).
        labels: Class numbers 0..9 in the order of `CIFAR10_CLASSES`, int64 (N,).
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def load_cifar10(path: Path | str, split: Split = "all") -> CifarImages:
    """The images at `path` in the order of their batches or file names, the training set first.

    Args:
        path: A file or folder in one of the forms above.
        split: "train" or "test" needs batches or images in `train/` and `test/` folders.

    Raises:
        InputError: If nothing of the kind is there, or a file or image has the wrong size.
        BitstreamError: If a file is damaged, or a python batch holds more than numbers and names.
    """
    path = Path(path)
    with _opened(path) as members:
        if path.suffix.lower() == ".npz":
            if split != "all":
                raise InputError(f"{path}: an .npz file has no {split} part; load all of it")
            return _from_npz(members, path)
        chosen = [name for name in _batches_or_images(members.names) if split in ("all", _split_of(name))]
        if not chosen:
            part = "CIFAR-10 batch or image" if split == "all" else f"{split} part of CIFAR-10"
            raise InputError(f"{path}: holds no {part}; see the forms that are read in the documentation")
        parts = {name: _read_part(name, members.read(name), f"{path}/{name}") for name in chosen}
    ordered = [parts[name] for name in sorted(parts, key=lambda name: (_split_of(name) == "test", name))]
    return CifarImages(
        np.concatenate([part.images for part in ordered]), np.concatenate([part.labels for part in ordered])
    )


@dataclass(frozen=True, slots=True)
class _Members:
    """The files in a folder or archive: names with forward slashes, in the order they are best read."""

    names: list[str]
    read: Callable[[str], bytes]


@contextmanager
def _opened(path: Path) -> Iterator[_Members]:
    """The members at `path`; what damaged archives raise becomes BitstreamError."""
    if path.is_dir():
        yield _folder_members(path)
        return
    with open_input(path) as file:
        magic = file.read(4)
    try:
        if magic == b"PK\x03\x04":
            with zipfile.ZipFile(path) as archive:
                yield _zip_members(archive)
        elif magic[:2] == b"\x1f\x8b" or path.suffix.lower() == ".tar":
            with tarfile.open(path) as archive_tar:
                yield _tar_members(archive_tar)
        else:
            yield _single_member(path)
    except VvcNnrError:
        raise
    except _ARCHIVE_ERRORS as error:
        raise BitstreamError(f"{path}: cannot be unpacked: {error}") from error


def _folder_members(root: Path) -> _Members:
    names = [file.relative_to(root).as_posix() for file in sorted(root.rglob("*")) if file.is_file()]

    def read(name: str) -> bytes:
        with open_input(root / name) as file:
            return file.read(_MAX_MEMBER_BYTES)

    return _Members(names, read)


def _single_member(path: Path) -> _Members:
    """A single batch, python or binary by its suffix, whatever else its name is."""
    name = path.name
    if not _BATCH_NAME.fullmatch(name):
        name = "data_batch_0.bin" if path.suffix.lower() == ".bin" else "data_batch_0"
    with open_input(path) as file:
        data = file.read(_MAX_MEMBER_BYTES)
    return _Members([name], lambda _: data)


def _zip_members(archive: zipfile.ZipFile) -> _Members:
    def read(name: str) -> bytes:
        _check_member_size(name, archive.getinfo(name).file_size)
        return archive.read(name)

    return _Members([info.filename for info in archive.infolist() if not info.is_dir()], read)


def _tar_members(archive: tarfile.TarFile) -> _Members:
    files = {info.name: info for info in archive if info.isfile()}

    def read(name: str) -> bytes:
        _check_member_size(name, files[name].size)
        file = archive.extractfile(files[name])
        assert file is not None, name
        return file.read()

    return _Members(list(files), read)


def _check_member_size(name: str, n_bytes: int) -> None:
    if n_bytes > _MAX_MEMBER_BYTES:
        raise BitstreamError(f"{name} would unpack to {n_bytes} bytes; no part of CIFAR-10 is that large")


def _batches_or_images(names: list[str]) -> list[str]:
    """The python batches among the names, else the binary batches, else the images."""
    batches = [name for name in names if _BATCH_NAME.fullmatch(PurePosixPath(name).name)]
    python = [name for name in batches if not name.endswith(".bin")]
    return python or batches or [name for name in names if name.lower().endswith(_IMAGE_SUFFIXES)]


def _split_of(name: str) -> str:
    """The part of the data set that a member belongs to; empty if its name does not tell."""
    file = PurePosixPath(name)
    if _BATCH_NAME.fullmatch(file.name):
        return "test" if file.name.startswith("test") else "train"
    return next((part for part in file.parts if part in ("train", "test")), "")


def _read_part(name: str, data: bytes, where: str) -> CifarImages:
    if name.lower().endswith(_IMAGE_SUFFIXES):
        return _image_part(name, data, where)
    if name.endswith(".bin"):
        return _binary_part(data, where)
    return CifarImages(*read_python_batch(data, where))


def _binary_part(data: bytes, where: str) -> CifarImages:
    if not data or len(data) % _RECORD_BYTES:
        raise InputError(f"{where}: wrong size, {len(data)} bytes are no whole number of {_RECORD_BYTES}-byte images")
    records = np.frombuffer(data, np.uint8).reshape(-1, _RECORD_BYTES)
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return CifarImages(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), _checked_labels(records[:, 0], where))


def _image_part(name: str, data: bytes, where: str) -> CifarImages:
    label = _class_number(PurePosixPath(name).parent.name)
    if label is None:
        raise InputError(f"{where}: lies in no folder of a CIFAR-10 class ({', '.join(CIFAR10_CLASSES)})")
    image = decode_image(io.BytesIO(data), where)
    if image.shape != (32, 32, 3):
        raise InputError(f"{where}: wrong size {image.shape[1]}x{image.shape[0]}, CIFAR-10's images are 32x32")
    return CifarImages(image[None], np.array([label], np.int64))


def _class_number(word: str) -> int | None:
    if word in CIFAR10_CLASSES:
        return CIFAR10_CLASSES.index(word)
    return int(word) if re.fullmatch("[0-9]", word) else None


def _from_npz(members: _Members, path: Path) -> CifarImages:
    images, labels = (_npy(members, field, path) for field in ("images", "labels"))
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (32, 32, 3):
        raise InputError(f"{path}: wrong size, images are {images.dtype} {images.shape}, want uint8 (N, 32, 32, 3)")
    if labels.shape != images.shape[:1]:
        raise InputError(f"{path}: wrong size, {len(images)} images and labels {labels.shape}")
    return CifarImages(images, _checked_labels(labels, str(path)))


def _npy(members: _Members, field: str, path: Path) -> NDArray[Any]:
    if f"{field}.npy" not in members.names:
        raise InputError(f"{path}: has no array {field!r}; it holds {', '.join(members.names)}")
    try:
        return parse_npy(members.read(f"{field}.npy"))
    except (BitstreamError, UnsupportedError) as error:
        raise error.prefixed(f"{path}: {field}") from error


def _checked_labels(labels: NDArray[Any], where: str) -> NDArray[np.int64]:
    """Class numbers from numbers or class names."""
    if labels.dtype.kind == "U":
        numbers = [_class_number(str(label)) for label in labels]
    else:
        numbers = [int(v) if labels.dtype.kind in "iu" and 0 <= v <= 9 else None for v in labels]
    if None in numbers:
        raise BitstreamError(f"{where}: label {labels[numbers.index(None)]} is no CIFAR-10 class", field="labels")
    return np.array(numbers, np.int64)
