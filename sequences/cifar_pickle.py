"""CIFAR-10's python batches, which are pickles, read without running anything that they name.

A pickle names functions for the reader to call. Here the few names that stored arrays and byte strings need
lead to inert stand-ins of this file, and every other name is refused.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import BitstreamError, InputError

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
    images = _images(_entry(batch, "data", where), where)
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


def _images(stored: object, where: str) -> NDArray[np.uint8]:
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
