"""The safetensors container: named arrays and strings to bytes and back.

Written here, since the library puts metadata in random order and equal networks should be equal files.
Read by the library, which holds the whole header against the size of the data before any array is made.
Source: the format section of the safetensors README.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import safetensors
from numpy.typing import NDArray

from vvc_nnr.bitstream.number_formats import BITS_DTYPES, FloatBits, numpy_values, plain_array, shape_of
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError, as_damage
from vvc_nnr.json_text import parse_json

Tensor: TypeAlias = NDArray[Any]

# Floats of which levels can be made.
FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")
# Floats that numpy lacks, and their number formats.
BITS_FORMATS = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}
NAMES_OF_BITS = {number_format: name for name, number_format in BITS_FORMATS.items()}
_DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "|u1"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1"},
    **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1"},
    **{name: np.dtype(BITS_DTYPES[own]).newbyteorder("<").str for name, own in BITS_FORMATS.items()},
}
_STORED_DTYPES = {np.dtype(v): k for k, v in _DTYPES.items() if k not in (*BITS_FORMATS, "BOOL")}
_STORED_DTYPES[np.dtype(bool)] = "BOOL"


@dataclass(frozen=True, slots=True, eq=False)
class RawTensor:
    """One tensor as the library hands it out: checked against the file's size, nothing else.

    Attributes:
        dtype: Its safetensors type name, such as "F32".
        shape: Its shape.
        data: Its elements, little endian.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes | bytearray


def container_bytes(tensors: Mapping[str, Tensor | FloatBits], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file: header size (8 bytes), JSON header padded to 8 bytes, tensors by falling alignment.

    The header names tensors in the order that they are given in, and so lie those of one alignment behind it.

    Raises:
        InputError: If a tensor's type or name cannot be stored, or the metadata is no map of strings.
    """
    order, text, _ = _laid_out(_stored(tensors), metadata)
    plain = (plain_array(t) for t in (tensors[name] for name in order))
    return b"".join([len(text).to_bytes(8, "little"), text, *map(_little_endian, plain)])


def container_size(tensors: Mapping[str, Tensor | FloatBits], metadata: Mapping[str, str]) -> int:
    """Bytes of a safetensors file of these tensors, as `container_bytes` makes it.

    Raises:
        InputError: As `container_bytes`.
    """
    _, text, n_bytes = _laid_out(_stored(tensors), metadata)
    return 8 + len(text) + n_bytes


def _stored(tensors: Mapping[str, Tensor | FloatBits]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each tensor."""
    return {name: (_stored_dtype(name, tensor), shape_of(tensor)) for name, tensor in tensors.items()}


def float32_size(tensors: Mapping[str, Tensor | FloatBits], metadata: Mapping[str, str]) -> int:
    """Bytes of a safetensors file of these tensors with floats of all widths as float32, names and shapes included.

    They are in order of their names, as in `vvc_nnr.model.safetensors.float_bytes`. A tensor of several names counts
    once for each, as such a file has it.

    Raises:
        InputError: As `container_bytes`.
    """
    stored = {name: (_dtype_as_float32(name, tensor), shape_of(tensor)) for name, tensor in tensors.items()}
    _, text, n_bytes = _laid_out(dict(sorted(stored.items())), metadata)
    return 8 + len(text) + n_bytes


def _laid_out(
    stored: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]
) -> tuple[list[str], bytes, int]:
    """Names in the order of their data, the header, and the bytes of all tensors, from their types and shapes."""
    if not all(isinstance(k, str) and isinstance(v, str) for k, v in metadata.items()):
        raise InputError("metadata must map strings to strings")
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    itemsizes = {name: np.dtype(_DTYPES[dtype]).itemsize for name, (dtype, _) in stored.items()}
    order = sorted(stored, key=lambda name: -itemsizes[name])
    offsets, offset = {}, 0
    for name in order:
        end = offset + itemsizes[name] * math.prod(stored[name][1])
        offsets[name], offset = [offset, end], end
    for name, (dtype, shape) in stored.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets[name]}
    return order, _encoded(header), offset


def parse_container(data: bytes) -> tuple[dict[str, RawTensor], dict[str, str]]:
    """The tensors in the order of the file, and the metadata, of untrusted bytes.

    Raises:
        BitstreamError: If they are no safetensors file.
    """
    if not data:
        raise BitstreamError("no safetensors file: the file is empty")
    with as_damage("no safetensors file"):
        entries = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    raw = {name: RawTensor(e["dtype"], tuple(e["shape"]), e["data"]) for name, e in entries}
    header_bytes = int.from_bytes(data[:8], "little")
    try:
        header = parse_json(data[8 : 8 + header_bytes])
    except BitstreamError as error:
        raise BitstreamError(f"no safetensors header: {error}", offset_bytes=8) from error
    metadata = header.get("__metadata__") or {}
    return {name: raw[name] for name in header if name in raw}, metadata


def stored_array(name: str, entry: RawTensor) -> Tensor:
    """The stored elements in native byte order; BF16 and F8 widened to float32.

    Raises:
        BitstreamError: If a BOOL is neither 0 nor 1.
        UnsupportedError: If NumPy has no such type or no such shape.
    """
    return numpy_values(exact_array(name, entry))


def exact_array(name: str, entry: RawTensor) -> Tensor | FloatBits:
    """As `stored_array`, but BF16 and F8 as their bits."""
    dtype = np.dtype(_DTYPES[known_dtype(name, entry)])
    flat = np.frombuffer(entry.data, dtype).astype(dtype.newbyteorder("="))
    if entry.dtype in BITS_FORMATS:
        return FloatBits(reshaped(name, flat, entry.shape), BITS_FORMATS[entry.dtype])
    if entry.dtype == "BOOL":
        if flat.max(initial=0) > 1:
            raise BitstreamError(f"tensor {name} is BOOL and holds a byte that is not 0 or 1")
        flat = flat.astype(np.bool_)
    return reshaped(name, flat, entry.shape)


def known_dtype(name: str, entry: RawTensor) -> str:
    """The entry's type name; raises UnsupportedError if this program does not read it."""
    if entry.dtype not in _DTYPES:
        raise UnsupportedError(f"tensor {name} is {entry.dtype}: this program reads {', '.join(_DTYPES)}")
    return entry.dtype


def element_bits(name: str, entry: RawTensor) -> int:
    """Bits of one stored element; raises UnsupportedError if this program does not read its type."""
    return 8 * np.dtype(_DTYPES[known_dtype(name, entry)]).itemsize


def reshaped(name: str, flat: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The elements in an untrusted shape of their size; raises UnsupportedError if NumPy cannot hold it."""
    try:
        return flat.reshape(shape)
    except (ValueError, OverflowError) as error:
        raise UnsupportedError(f"tensor {name} has {len(shape)} dimensions {shape[:8]}: {error}") from error


def _stored_dtype(name: str, tensor: Tensor | FloatBits) -> str:
    if name == "__metadata__":
        raise InputError("a tensor cannot be called __metadata__: rename it")
    if isinstance(tensor, FloatBits):
        return NAMES_OF_BITS[tensor.number_format]
    stored = _STORED_DTYPES.get(tensor.dtype.newbyteorder("<"))
    if stored is None:
        raise InputError(f"tensor {name}: {tensor.dtype} cannot be stored, only float, integer and bool")
    return stored


def _dtype_as_float32(name: str, tensor: Tensor | FloatBits) -> str:
    if isinstance(tensor, FloatBits) or tensor.dtype.kind == "f":
        return "F32"
    return _stored_dtype(name, tensor)


def _little_endian(tensor: Tensor) -> bytes:
    return tensor.astype(tensor.dtype.newbyteorder("<"), copy=False).tobytes()


def _encoded(header: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"a name or a metadata string is no Unicode text: {error.reason}") from error
    return text + b" " * (-len(text) % 8)
