"""Arrays in numpy's own format (`.npy`) that nobody vouches for: plain numbers and texts, and no more than are there.

numpy's reader makes the array that a header asks for before it looks for the values.

Source: numpy.lib.format, "Format Version 1.0" to "3.0" (NEP 1).
"""

from __future__ import annotations

import ast
import math
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import BitstreamError, UnsupportedError, shown
from vvc_nnr.files import open_input, remaining_bytes

_MAGIC = b"\x93NUMPY"
_SIZE_BYTES_OF_VERSION = {1: 2, 2: 4, 3: 4}
_MAX_HEADER_BYTES = 10_000
_MAX_DIMENSIONS = 32
# Product of the sides of an array without values, zeros left out: what numpy can address.
_MAX_EMPTY_VOLUME = 1 << 40
_PLAIN = re.compile(r"[<>|=](?:b1|[iu][1248]|f[248]|c8|c16|U[1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """What a file says of its array, checked against the file's size.

    Attributes:
        dtype: Of the values, in the byte order of the file.
        shape: Of the array.
        order: "C" or "F", the order of the values.
        offset_bytes: Where the values start.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: str
    offset_bytes: int


def parse_npy(data: bytes) -> NDArray[Any]:
    """The array in the bytes of a `.npy` file, read-only.

    Raises:
        BitstreamError: If they are none, are cut off or go on behind the array, or a text has a character that is none.
        UnsupportedError: If its values are objects or records, or its version is unknown.
    """
    header = _header(data, len(data))
    flat = np.frombuffer(data, header.dtype, math.prod(header.shape), header.offset_bytes)
    if header.dtype.kind == "U" and flat.size:
        points = flat.view(np.dtype(np.uint32).newbyteorder(header.dtype.byteorder))
        if points.max() > sys.maxunicode:
            raise _damaged(f"a text with the character {points.max():#x}; must be at most {sys.maxunicode:#x}")
    return flat.reshape(header.shape, order="F" if header.order == "F" else "C")


def map_npy(path: Path | str) -> NDArray[Any]:
    """The array in a `.npy` file, its values read when they are used; read-only.

    Raises:
        InputError: If the file cannot be read.
        BitstreamError, UnsupportedError: As `parse_npy`, with the file's name.
    """
    with open_input(path) as file:
        n_bytes = remaining_bytes(file)
        head = file.read(_MAX_HEADER_BYTES + len(_MAGIC) + 2 + 4)
        try:
            header = _header(head, n_bytes)
        except (BitstreamError, UnsupportedError) as error:
            raise error.prefixed(str(path)) from error
        if 0 in header.shape:
            return np.empty(header.shape, header.dtype)
        return np.memmap(
            file, header.dtype, "r", header.offset_bytes, header.shape, "F" if header.order == "F" else "C"
        )


def _header(head: bytes, n_bytes: int) -> NpyHeader:
    """The header in the first bytes of a file of so many."""
    size_bytes = _SIZE_BYTES_OF_VERSION.get(head[len(_MAGIC)] if len(head) > len(_MAGIC) else 0)
    if not head.startswith(_MAGIC):
        raise _damaged(f"no .npy file: it begins with {shown(repr(head[:6]))}")
    if size_bytes is None:
        raise UnsupportedError(f"a .npy file of version {head[len(_MAGIC) :][:1].hex() or 'none'}: 1 to 3 are read")
    begin = len(_MAGIC) + 2 + size_bytes
    length = int.from_bytes(head[begin - size_bytes : begin], "little")
    if len(head) < begin or length > min(_MAX_HEADER_BYTES, n_bytes - begin):
        raise _damaged(f"a header of {length} bytes in a file of {n_bytes}")
    dtype, shape, order = _described(head[begin : begin + length].decode("latin1"))
    n_values_bytes = dtype.itemsize * math.prod(shape)
    if begin + length + n_values_bytes != n_bytes:
        raise _damaged(
            f"{dtype} {shown(str(shape))} takes {n_values_bytes} bytes, {n_bytes - begin - length} are there"
        )
    return NpyHeader(dtype, shape, order, begin + length)


def _described(text: str) -> tuple[np.dtype[Any], tuple[int, ...], str]:
    """Type, shape and order from the Python literal that a header is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ast.literal_eval(text.strip())
    except Exception as error:  # the parser's own kinds, by what stands there
        raise _damaged(f"no header of a .npy file: {shown(repr(text))}") from error
    if not isinstance(found, dict) or found.keys() != {"descr", "fortran_order", "shape"}:
        raise _damaged(f"no header of a .npy file: {shown(repr(text))}")
    descr, is_fortran, shape = found["descr"], found["fortran_order"], found["shape"]
    if not isinstance(descr, str) or not _PLAIN.fullmatch(descr):
        raise UnsupportedError(f"an array of {shown(repr(descr))}: plain numbers and texts of Unicode are read")
    if not isinstance(is_fortran, bool) or not isinstance(shape, tuple) or len(shape) > _MAX_DIMENSIONS:
        raise _damaged(f"no header of a .npy file: {shown(repr(text))}")
    if not all(type(side) is int and side >= 0 for side in shape):
        raise _damaged(f"shape {shown(repr(shape))}")
    if math.prod(max(1, side) for side in shape) >= _MAX_EMPTY_VOLUME:
        raise _damaged(f"shape {shown(repr(shape))} is larger than any file")
    return np.dtype(descr), shape, "F" if is_fortran else "C"


def _damaged(message: str) -> BitstreamError:
    return BitstreamError(message, field="header")
