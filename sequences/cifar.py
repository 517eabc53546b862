"""CIFAR-10 from each of the forms it is found in.

| form | what |
| --- | --- |
| python batches | `data_batch_1` to `_5` and `test_batch`: one of them, a folder or the `.tar.gz` of them |
| binary batches | the same with `.bin` files: 3073 bytes per image, label then RGB planes |
| `.npz`, `.npy` | arrays under the names that people give them, see below; a `.npy` file has no labels |
| images | a folder or `.zip` of `[train/ or test/][<class>/]<name>.png` or `.jpg` |

Names of arrays, capitals do not count, other arrays are passed over, which the log says of pictures:

| images and labels | part |
| --- | --- |
| `images` and `labels`, `data` and `labels`, `x` and `y`, `arr_0` and `arr_1` | not said |
| `x_train` and `y_train`, `train_images` and `train_labels`; the same with `test` | train, test |

Images are integers 0 to 255 of shape (N, 32, 32, 3) or (N, 3, 32, 32). Fractions are refused: whether they are 0 to 1
or normalised, and how they were rounded, no one can tell.

Labels are class numbers or names, and need not be there: images in no folder of a class have labels if a file
`trainLabels.csv` gives them. A folder may hold the published `.tar.gz` instead of what is in it.

Of two copies of a batch or image in different folders one is taken, and the log says so; two batches of one name
that differ are refused. The log names batches that are missing; a set without any image is refused. Archives are
read in memory: nothing in them is written anywhere.

Python batches are pickles, which name functions for the reader to call. Here the few names that stored arrays and
byte strings need lead to inert stand-ins, and every other name is refused: nothing is run.

Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009;
cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import os
import pickle
import pickletools
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.npy import parse_npy
from vvc_nnr.sequences.images import decode_image
from vvc_nnr.sequences.listing import (
    Members,
    has_suffix,
    is_archive,
    list_files,
    open_members,
    printable_name,
    read_limited,
)

_LABEL_DTYPES = ("u1", "i1", "i4", "i8")


def read_python_batch(data: bytes, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images uint8 (N, 32, 32, 3) and labels int64 (N,) of one batch.

    Args:
        data: The file's bytes.
        where: Its name, for messages.

    Raises:
        BitstreamError: If it is no pickle of a CIFAR-10 batch, or names anything but arrays and bytes.
        InputError: If its images are not 32x32 RGB or not as many as its labels.
    """
    batch = _unpickle(data, where)
    if not isinstance(batch, dict):
        raise BitstreamError(f"{where}: holds a {type(batch).__name__}, a CIFAR-10 batch is a dictionary")
    if any(key in batch for key in (b"fine_labels", "fine_labels", b"coarse_labels", "coarse_labels")):
        raise InputError(f"{where}: is a batch of CIFAR-100, which has 100 classes; must be one of CIFAR-10")
    images = _pickled_images(_entry(batch, "data", where), where)
    labels = _labels(_entry(batch, "labels", where), where)
    if len(images) != len(labels):
        raise InputError(f"{where}: wrong size, {len(images)} images and {len(labels)} labels")
    return images, labels


def _unpickle(data: bytes, where: str) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on escapes in texts of old pickles
            _check_memo(data)
            return _ArrayUnpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # damaged pickles end in almost any exception
        raise BitstreamError(f"{where}: is no readable CIFAR-10 batch: {error}") from error


def _check_memo(data: bytes) -> None:
    """Refuse an index that would make the C reader allocate a table of that length."""
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("PUT", "LONG_BINPUT") and (argument or 0) > len(data):
            raise pickle.UnpicklingError(f"memo index {argument}")


class _StoredArray:
    """What a pickle says of an array: shape, dtype name and raw bytes, all unchecked."""

    def __init__(self, shape: object = None, dtype: object = None, raw: object = None) -> None:
        self.shape, self.dtype, self.raw = shape, dtype, raw
        self.is_fortran: object = False

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.is_fortran, self.raw = state


class _StoredDtype:
    """What a pickle says of a dtype: its name, such as `u1`."""

    def __init__(self, name: object, *_: object) -> None:
        self.name = name.decode("ascii") if isinstance(name, bytes) else name

    def __setstate__(self, state: object) -> None:
        """Byte order and structure are not needed."""


class _StandIn:
    """A callable that the pickle may call but, having no dictionary, not equip."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., object]) -> None:
        self._make = make

    def __call__(self, *arguments: object) -> object:
        return self._make(*arguments)


def _encoded(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes stored as {encoding!r}")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        place = (module.replace("numpy.core", "numpy._core"), name)
        if place == ("numpy", "ndarray"):
            return "ndarray"
        if place == ("numpy", "dtype"):
            return _StandIn(_StoredDtype)
        if place == ("numpy._core.multiarray", "_reconstruct"):
            return _StandIn(lambda *_: _StoredArray())
        if place == ("numpy._core.numeric", "_frombuffer"):
            return _StandIn(lambda raw, dtype, shape, order: _StoredArray(shape, dtype, raw))
        if place == ("_codecs", "encode"):
            return _StandIn(_encoded)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no CIFAR-10 batch needs")


def _entry(batch: dict[object, object], key: str, where: str) -> object:
    for spelling in (key.encode(), key):
        if spelling in batch:
            return batch[spelling]
    raise BitstreamError(f"{where}: has no entry {key!r}", field="dictionary")


def _pickled_images(stored: object, where: str) -> NDArray[np.uint8]:
    flat = _array(stored, ("u1",), "data", where)
    if flat.ndim != 2 or flat.shape[1] != 3 * 32 * 32:
        raise InputError(f"{where}: wrong size, its data are {flat.shape}, CIFAR-10's are (N, 3072)")
    return np.ascontiguousarray(flat.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _labels(stored: object, where: str) -> NDArray[np.int64]:
    if isinstance(stored, _StoredArray):
        values = _array(stored, _LABEL_DTYPES, "labels", where).tolist()
    else:
        values = stored
    if not isinstance(values, list) or not all(type(v) is int and 0 <= v <= 9 for v in values):
        raise BitstreamError(f"{where}: its labels are not a list of numbers 0 to 9", field="labels")
    return np.array(values, np.int64)


def _array(stored: object, dtypes: tuple[str, ...], field: str, where: str) -> NDArray[Any]:
    if not isinstance(stored, _StoredArray) or not isinstance(stored.dtype, _StoredDtype):
        raise BitstreamError(f"{where}: holds no array", field=field)
    name, raw, shape = stored.dtype.name, stored.raw, stored.shape
    if name not in dtypes or stored.is_fortran or not isinstance(raw, bytes | bytearray):
        raise BitstreamError(f"{where}: holds no plain array of {' or '.join(dtypes)}", field=field)
    try:
        return np.frombuffer(raw, f"<{name}").reshape(shape)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError) as error:
        raise BitstreamError(f"{where}: {len(raw)} bytes do not fill an array {shape}", field=field) from error


_NAMES = (
    *(("", "images", "labels"), ("", "data", "labels"), ("", "x", "y"), ("", "arr_0", "arr_1")),
    *((part, f"x_{part}", f"y_{part}") for part in ("train", "test")),
    *((part, f"{part}_images", f"{part}_labels") for part in ("train", "test")),
)


@dataclass(frozen=True, slots=True, eq=False)
class CifarArrays:
    """Images of one part of the data set as a file has them.

    Attributes:
        part: "train", "test" or "" if the names do not tell.
        name: Name of the array of images.
        images: uint8 (N, 32, 32, 3).
        labels: What the file says of the classes, (N,); None if it says nothing.
    """

    part: str
    name: str
    images: NDArray[np.uint8]
    labels: NDArray[Any] | None


def arrays_of_npz(names: tuple[str, ...], read: Callable[[str], bytes], where: str) -> list[CifarArrays]:
    """The images of a `.npz` file, the training set first.

    Args:
        names: Its members, such as `images.npy`.
        read: The content of a member.
        where: Its name, for messages.

    Raises:
        InputError: If it holds no array of images under a known name, or arrays of wrong shapes or types.
        BitstreamError: If an array is damaged.
    """
    fields = {name.removesuffix(".npy").lower(): name for name in names}
    found = [(part, fields[x], fields.get(y)) for part, x, y in _NAMES if x in fields]
    if not found:
        others = ", ".join(repr(x) for x in list(dict.fromkeys(x for _, x, _ in _NAMES))[1:])
        raise InputError(f"{where}: has no array 'images' (nor {others}); it holds {', '.join(fields) or 'nothing'}")
    parts = [part for part, _, _ in found]
    if len(set(parts)) < len(parts) or ("" in parts and len(parts) > 1):
        names_found = ", ".join(x.removesuffix(".npy") for _, x, _ in found)
        raise InputError(
            f"{where}: has several arrays of images ({names_found}); keep one, or one each of train and test"
        )
    _tell_of_other_pictures(set(fields.values()) - {name for _, *pair in found for name in pair}, read, where)
    return [
        _arrays(
            part, x.removesuffix(".npy"), read_npy(read(x), x, where), read_npy(read(y), y, where) if y else None, where
        )
        for part, x, y in found
    ]


def _tell_of_other_pictures(names: Iterable[str], read: Callable[[str], bytes], where: str) -> None:
    """Names arrays of the log that hold pictures too and are passed over."""
    shapes = {}
    for name in names:
        with contextlib.suppress(BitstreamError, UnsupportedError):  # texts, or objects, which nobody asked for
            shapes[name.removesuffix(".npy")] = parse_npy(read(name)).shape
    others = [f"{name} {shape}" for name, shape in sorted(shapes.items()) if len(shape) == 4]
    if others:
        _log.warning("left out of %s: more pictures (%s), under a name that is not known", where, ", ".join(others))


def arrays_of_npy(data: bytes, where: str) -> CifarArrays:
    """The images of a `.npy` file, without labels; raises as `arrays_of_npz`."""
    return _arrays("", "its array", read_npy(data, "its array", where), None, where)


def read_npy(data: bytes, name: str, where: str) -> NDArray[Any]:
    """One array.

    Raises:
        BitstreamError: If it is damaged.
        UnsupportedError: If it holds pickled objects or records.
    """
    try:
        return parse_npy(data)
    except (BitstreamError, UnsupportedError) as error:
        raise error.prefixed(f"{where}: {name.removesuffix('.npy')}") from error


def _arrays(part: str, name: str, images: NDArray[Any], labels: NDArray[Any] | None, where: str) -> CifarArrays:
    rgb = _images(images, f"{where}: {name}")
    if labels is not None and labels.shape == (len(rgb), 1):
        labels = labels[:, 0]
    if labels is not None and labels.shape != (len(rgb),):
        raise InputError(f"{where}: wrong size, {len(rgb)} images and labels {labels.shape}")
    return CifarArrays(part, name, rgb, labels)


def _images(images: NDArray[Any], where: str) -> NDArray[np.uint8]:
    if images.ndim != 4 or images.shape[1:] not in ((32, 32, 3), (3, 32, 32)):
        raise InputError(
            f"{where}: wrong size, {images.dtype} {images.shape}; must be (N, 32, 32, 3) or (N, 3, 32, 32)"
        )
    if images.dtype.kind not in "iu":
        raise InputError(
            f"{where}: is {images.dtype}; must be whole numbers 0 to 255, such as uint8: scale and round it"
        )
    if images.dtype != np.uint8 and images.size and not (images.min() >= 0 and images.max() <= 255):
        raise InputError(f"{where}: has values {images.min()} to {images.max()}; must be 0 to 255")
    if images.shape[1:] == (3, 32, 32):
        images = images.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images, np.uint8)


CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
PUBLISHED_ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")
Split: TypeAlias = Literal["all", "train", "test"]

_log = logging.getLogger(__name__)

_RECORD_BYTES = 1 + 3 * 32 * 32
_BATCH_NAME = re.compile(r"(?:data_batch_\d+|test_batch)(\.bin)?")
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_LABEL_FILES = ("trainlabels.csv", "train_labels.csv", "labels.csv")
_COMPANIONS = ("batches.meta", "batches.meta.txt", "readme.html")
_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_PARQUET = (
    "is parquet, as Hugging Face has CIFAR-10, which is not read; take the published archive (vvc-nnr fetch cifar10), "
    "or write .npz: numpy.savez('x.npz', images=numpy.stack([numpy.asarray(each) for each in dataset['img']]))"
)
_N_NAMES_SHOWN = 3


@dataclass(frozen=True, slots=True, eq=False)
class CifarImages:
    """CIFAR-10 images and their classes.

    Attributes:
        images: RGB, uint8 (N, 32, 32, 3).
        labels: Class numbers 0..9 in the order of `CIFAR10_CLASSES`, int64 (N,); None if not all are known.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None


def load_cifar10(path: Path | str, split: Split = "all") -> CifarImages:
    """The images at `path` in the order of their batches or file names, the training set first.

    The log names what a folder or archive holds besides, copies that were left out, and images that are there
    more than once.

    Args:
        path: A file or folder in one of the forms above.
        split: "train" or "test" needs batches, arrays or images whose names or folders say so.

    Raises:
        InputError: If nothing of the kind is there, or a file or image has the wrong size.
        BitstreamError: If a file is damaged, or a python batch holds more than numbers and names.
        UnsupportedError: If it is an archive of another kind.
    """
    path = Path(path)
    named = _named_parts(path, split)
    if not named:
        part = "CIFAR-10 batch or image" if split == "all" else f"{split} part of CIFAR-10"
        if path.is_dir() and any(list_files(path, has_suffix((".parquet",))).paths):
            raise InputError(f"{path}: {_PARQUET}")
        advice = "an archive or .npz in it must be given itself" if path.is_dir() else "give batches, arrays or images"
        raise InputError(f"{path}: holds no {part}; {advice}")
    _tell_of_repeated_images(named, path)
    parts = list(named.values())
    if not any(len(part.images) for part in parts):
        raise InputError(f"{path}: holds no image: {', '.join(named)} has none; must have one at least")
    labels = [part.labels for part in parts if part.labels is not None]
    return CifarImages(
        np.concatenate([part.images for part in parts]),
        np.concatenate(labels) if len(labels) == len(parts) else None,
    )


def _named_parts(path: Path, split: Split) -> dict[str, CifarImages]:
    """Batches, arrays or images by their names, in order."""
    if not os.path.isdir(path) and not is_archive(path):
        return _single_file(path, split)
    if path.suffix.lower() == ".npz":
        with open_members(path, lambda _: True) as members:
            return _of_arrays(arrays_of_npz(members.names, members.read, str(path)), path, split)
    with open_members(path, _is_known) as members:
        archive = _published_archive(path, members)
        if archive is None:
            return _of_members(path, members, split)
    return _named_parts(archive, split)


def _single_file(path: Path, split: Split) -> dict[str, CifarImages]:
    """One `.npy` file, or one batch, python or binary by its suffix, whatever else its name is."""
    if path.suffix.lower() in _IMAGE_SUFFIXES:
        raise InputError(f"{path}: is one image; give the folder that holds the folders of the classes")
    data = read_limited(path)
    if data.startswith(b"PAR1"):
        raise InputError(f"{path}: {_PARQUET}")
    if path.suffix.lower() == ".npy":
        return _of_arrays([arrays_of_npy(data, str(path))], path, split)
    name = path.name
    if not _BATCH_NAME.fullmatch(name):
        name = "data_batch_0.bin" if path.suffix.lower() == ".bin" else "data_batch_0"
    if split not in ("all", _split_of(name)):
        return {}
    return {path.name: _read_batch(name, data, str(path))}


def _of_arrays(arrays: Sequence[CifarArrays], path: Path, split: Split) -> dict[str, CifarImages]:
    chosen = [each for each in arrays if split in ("all", each.part)]
    if not chosen:
        raise InputError(f"{path}: an .npz file of {arrays[0].name} has no {split} part; load all of it")
    return {
        each.name: CifarImages(each.images, None if each.labels is None else _checked_labels(each.labels, str(path)))
        for each in chosen
    }


def _published_archive(folder: Path, members: Members) -> Path | None:
    """The archive in a folder that holds nothing else of CIFAR-10, as a download leaves it."""
    archives = [name for name in members.names if PurePosixPath(name).name in PUBLISHED_ARCHIVES]
    if not os.path.isdir(folder) or not archives or _batches_or_images(members.names):
        return None
    return folder / archives[0]


def _of_members(path: Path, members: Members, split: Split) -> dict[str, CifarImages]:
    found = _batches_or_images(members.names)
    _refuse_cifar_100(path, [*members.names, *members.left_out.unknown], found)
    data = _without_copies(found, members.read, path)
    label_files = [name for name in members.names if _is_label_file(PurePosixPath(name).name)]
    is_quiet = {*found, *label_files, *(name for name in members.names if PurePosixPath(name).name in _COMPANIONS)}
    others = tuple(name for name in members.names if name not in is_quiet)
    replace(members.left_out, unknown=(*members.left_out.unknown, *others)).tell(path)
    chosen = [name for name in data if split in ("all", _split_of(name))]
    _tell_of_missing_batches(chosen, split, path)
    labels = _labels_by_id(members.read(label_files[0]), f"{path}/{label_files[0]}") if label_files else {}
    ordered = sorted(chosen, key=lambda name: (_split_of(name) == "test", name))
    return {
        name: _read_batch(name, data[name](), f"{path}/{name}")
        if _is_batch(name)
        else _read_image(name, data[name](), f"{path}/{name}", labels)
        for name in ordered
    }


def _tell_of_missing_batches(names: Sequence[str], split: Split, path: Path) -> None:
    there = {PurePosixPath(name).name.removesuffix(".bin") for name in names if _is_batch(name)}
    missing = [name for name in _BATCHES if name not in there and split in ("all", _split_of(name))]
    if there and missing:
        n_all = len(_BATCHES) if split == "all" else len(missing) + len(there)
        words = f"{len(missing)} of {n_all} batches {'is' if len(missing) == 1 else 'are'} missing"
        _log.warning("%s: %s (%s)", printable_name(str(path)), words, ", ".join(missing))


def _is_known(name: str) -> bool:
    """Whether a file, by its name without folders, is or goes with CIFAR-10."""
    return (
        _is_batch(name)
        or name.lower().endswith(_IMAGE_SUFFIXES)
        or _is_label_file(name)
        or name in _COMPANIONS
        or name in PUBLISHED_ARCHIVES
    )


def _is_batch(name: str) -> bool:
    return _BATCH_NAME.fullmatch(PurePosixPath(name).name) is not None


def _is_label_file(name: str) -> bool:
    return name.lower() in _LABEL_FILES


def _batches_or_images(names: Iterable[str]) -> list[str]:
    """The python batches among the names, else the binary batches, else the images."""
    names = list(names)
    batches = [name for name in names if _is_batch(name)]
    python = [name for name in batches if not name.endswith(".bin")]
    return python or batches or [name for name in names if name.lower().endswith(_IMAGE_SUFFIXES)]


def _without_copies(names: Sequence[str], read: Callable[[str], bytes], path: Path) -> dict[str, Callable[[], bytes]]:
    """Ways to read the parts by name; of equal ones in several folders the first, which the log says.

    Raises:
        InputError: If two batches of one name differ.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        groups.setdefault(_identity(name), []).append(name)
    kept: dict[str, Callable[[], bytes]] = {}
    copies = []
    for group in groups.values():
        different: dict[bytes, str] = {}
        for name in sorted(group, key=lambda name: (name.count("/"), name)):
            data = read(name) if len(group) > 1 else b""
            if data in different:
                copies.append((different[data], name))
                continue
            different[data] = name
            kept[name] = partial(read, name)
        if len(different) > 1 and _is_batch(group[0]):
            raise InputError(
                f"{path}: holds different batches {' and '.join(different.values())}; name the folder of one"
            )
    if copies:
        _log.warning("%s: %s", printable_name(str(path)), _counted(copies, "copy is left out", "copies are left out"))
    return kept


def _identity(name: str) -> tuple[str, ...]:
    """What two files have in common that may be copies of one: batch, or part, class and name of an image."""
    file = PurePosixPath(name)
    return (file.name,) if _is_batch(name) else (_split_of(name), file.parent.name, file.name)


def _counted(pairs: Sequence[tuple[str, str]], one: str, several: str) -> str:
    shown = ", ".join(
        f"{printable_name(second)} equals {printable_name(first)}" for first, second in pairs[:_N_NAMES_SHOWN]
    )
    more = ", ..." if len(pairs) > _N_NAMES_SHOWN else ""
    return f"{len(pairs)} {one if len(pairs) == 1 else several} ({shown}{more})"


def _tell_of_repeated_images(parts: Mapping[str, CifarImages], path: Path) -> None:
    """Names images of equal samples in the log: they count twice, or are trained on and tested with."""
    first: dict[bytes, str] = {}
    repeated = []
    for name, part in parts.items():
        for place, image in enumerate(part.images):
            here = name if len(part.images) == 1 else f"{name}[{place}]"
            before = first.setdefault(image.tobytes(), here)
            if before != here:
                repeated.append((before, here))
    if repeated:
        words = _counted(repeated, "image is there more than once", "images are there more than once")
        _log.warning("%s: %s", printable_name(str(path)), words)


def _refuse_cifar_100(path: Path, names: Iterable[str], found: Sequence[str]) -> None:
    words = (path.name, *names)
    if not found and any(re.search(r"cifar-?100|fine_label_names", word, re.IGNORECASE) for word in words):
        raise InputError(f"{path}: holds CIFAR-100, which has 100 classes; must be CIFAR-10")


def _split_of(name: str) -> str:
    """The part of the data set that a member belongs to; empty if its name does not tell."""
    file = PurePosixPath(name)
    if _is_batch(name):
        return "test" if file.name.startswith("test") else "train"
    return next((part for part in file.parts if part in ("train", "test")), "")


def _read_batch(name: str, data: bytes, where: str) -> CifarImages:
    return _binary_part(data, where) if name.endswith(".bin") else CifarImages(*read_python_batch(data, where))


def _binary_part(data: bytes, where: str) -> CifarImages:
    if not data or len(data) % _RECORD_BYTES:
        raise InputError(f"{where}: wrong size, {len(data)} bytes are no whole number of {_RECORD_BYTES}-byte images")
    records = np.frombuffer(data, np.uint8).reshape(-1, _RECORD_BYTES)
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return CifarImages(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), _checked_labels(records[:, 0], where))


def _read_image(name: str, data: bytes, where: str, label_by_id: Mapping[str, int]) -> CifarImages:
    file = PurePosixPath(name)
    label = _class_number(file.parent.name)
    if label is None and _split_of(name) != "test":
        label = label_by_id.get(file.stem)
    if label is None and file.parent.name not in ("train", "test"):
        raise InputError(
            f"{where}: lies in no folder of a CIFAR-10 class ({', '.join(CIFAR10_CLASSES)}), "
            "and no trainLabels.csv above it tells its class"
        )
    image = decode_image(io.BytesIO(data), where)
    if image.shape != (32, 32, 3):
        raise InputError(f"{where}: wrong size {image.shape[1]}x{image.shape[0]}, CIFAR-10's images are 32x32")
    return CifarImages(image[None], None if label is None else np.array([label], np.int64))


def _labels_by_id(data: bytes, where: str) -> dict[str, int]:
    """Class numbers by the names of images without suffix, from lines `id,label` under a line of heads."""
    try:
        rows = [row for row in csv.reader(io.StringIO(data.decode("utf-8-sig")), strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BitstreamError(f"{where}: cannot be read: {error}") from error
    labels = {}
    for row in rows[1:]:
        number = _class_number(row[1].strip()) if len(row) == 2 else None
        if number is None:
            raise BitstreamError(f"{where}: line {','.join(row)[:80]!r} is no id and CIFAR-10 class", field="labels")
        labels[PurePosixPath(row[0].strip()).stem] = number
    return labels


def _class_number(word: str) -> int | None:
    if word in CIFAR10_CLASSES:
        return CIFAR10_CLASSES.index(word)
    return int(word) if re.fullmatch("[0-9]", word) else None


def _checked_labels(labels: NDArray[Any], where: str) -> NDArray[np.int64]:
    """Class numbers from numbers or class names."""
    if labels.dtype.kind == "U":
        numbers = [_class_number(str(label)) for label in labels]
    else:
        numbers = [int(v) if labels.dtype.kind in "iu" and 0 <= v <= 9 else None for v in labels]
    if None in numbers:
        raise BitstreamError(f"{where}: label {labels[numbers.index(None)]} is no CIFAR-10 class", field="labels")
    return np.array(numbers, np.int64)
