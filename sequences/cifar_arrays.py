"""CIFAR-10 in the arrays of a `.npz` or `.npy` file, under the names that people give them.

| images and labels | part |
| --- | --- |
| `images` and `labels`, `data` and `labels`, `x` and `y`, `arr_0` and `arr_1` | not said |
| `x_train` and `y_train`, `train_images` and `train_labels`; the same with `test` | train, test |

Capitals do not count, labels need not be there, and other arrays are passed over. Images are integers 0 to 255 of
shape (N, 32, 32, 3) or (N, 3, 32, 32). Fractions are refused: whether they are 0 to 1 or normalised, and how they
were rounded, no one can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.npy import parse_npy

_NAMES = (
    *(("", "images", "labels"), ("", "data", "labels"), ("", "x", "y"), ("", "arr_0", "arr_1")),
    *((part, f"x_{part}", f"y_{part}") for part in ("train", "test")),
    *((part, f"{part}_images", f"{part}_labels") for part in ("train", "test")),
)


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
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


def arrays_of_npz(names: tuple[str, ...], read: Callable[[str], bytes], where: str) -> list[Arrays]:
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
    return [
        _arrays(
            part, x.removesuffix(".npy"), read_npy(read(x), x, where), read_npy(read(y), y, where) if y else None, where
        )
        for part, x, y in found
    ]


def arrays_of_npy(data: bytes, where: str) -> Arrays:
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


def _arrays(part: str, name: str, images: NDArray[Any], labels: NDArray[Any] | None, where: str) -> Arrays:
    rgb = _images(images, f"{where}: {name}")
    if labels is not None and labels.shape == (len(rgb), 1):
        labels = labels[:, 0]
    if labels is not None and labels.shape != (len(rgb),):
        raise InputError(f"{where}: wrong size, {len(rgb)} images and labels {labels.shape}")
    return Arrays(part, name, rgb, labels)


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
