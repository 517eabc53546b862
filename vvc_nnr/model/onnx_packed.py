"""Constants of ONNX whose values take fewer than eight bits, several of them in a byte: as arrays, and packed again.

    type in ONNX             as an array
    INT2, INT4               int8
    UINT2, UINT4             uint8
    FLOAT4E2M1               float8_e4m3fn, which has every value of it, the negative zero among them
    FLOAT6E2M3, FLOAT6E3M2   the same

The first value is in the lowest bits, and the last byte is filled up with zeros. In `int32_data` there is a byte in
each entry, but of FLOAT6 a value.

Source: the comments of TensorProto in onnx.proto; OCP Microscaling Formats (MX) Specification 1.0 for the floats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.float8 import nearest_codes
from vvc_nnr.bitstream.number_formats import Array, FloatBits, plain_array
from vvc_nnr.errors import BitstreamError, as_damage, shown

Codes: TypeAlias = NDArray[np.uint8]
_FLOAT8 = "float8_e4m3fn"


@dataclass(frozen=True, slots=True)
class PackedFormat:
    """A type of values of fewer than eight bits.

    Attributes:
        bits: Of a value.
        number_format: Of the array that holds such values.
        mantissa_bits: Of floats, whose exponents have a bias that makes 1.0 the middle; None of integers.
    """

    bits: int
    number_format: str
    mantissa_bits: int | None = None


PACKED_FORMATS = {
    "INT2": PackedFormat(2, "int8"),
    "UINT2": PackedFormat(2, "uint8"),
    "INT4": PackedFormat(4, "int8"),
    "UINT4": PackedFormat(4, "uint8"),
    "FLOAT4E2M1": PackedFormat(4, _FLOAT8, 1),
    "FLOAT6E2M3": PackedFormat(6, _FLOAT8, 3),
    "FLOAT6E3M2": PackedFormat(6, _FLOAT8, 2),
}
"""Such types by their names in ONNX."""


def packed_bytes(told: PackedFormat, n_values: int) -> int:
    """Bytes of so many values."""
    return -(-n_values * told.bits // 8)


def unpacked_array(told: PackedFormat, tensor: Any) -> Array | FloatBits:
    """The values of a `TensorProto` of such a type.

    Raises:
        BitstreamError: If there are not as many as its shape says.
    """
    codes = _codes(told, tensor)
    if told.mantissa_bits is not None:
        return FloatBits(_float8_of_codes(told)[codes], _FLOAT8)
    if told.number_format == "uint8":
        return codes
    spare = 8 - told.bits
    return np.asarray((codes << spare).view(np.int8) >> spare)


def is_plainly_packed(told: PackedFormat, tensor: Any) -> bool:
    """Whether packing the values of a `TensorProto` again gives its bytes: no bit is set behind the last."""
    codes = _codes(told, tensor)
    stored = _stored_bytes(told, tensor)
    return stored is None or stored.tobytes() == _packed_codes(told, codes)


def packed_array(name: str, told: PackedFormat, array: Array | FloatBits) -> bytes:
    """The inverse of `unpacked_array`: the bytes of such values.

    Args:
        name: The tensor's.
        told: Its type.
        array: Its values, of the number format that `told` says.

    Raises:
        BitstreamError: If the type lacks one of them.
    """
    plain = np.ascontiguousarray(plain_array(array)).reshape(-1)
    codes: NDArray[Any] = plain.view(np.uint8)
    if told.mantissa_bits is not None:
        codes = _codes_of_float8(told)[codes]
        is_outside = codes > 0xFF
    elif told.number_format == "int8":
        is_outside = (plain < -(1 << told.bits - 1)) | (plain >= 1 << told.bits - 1)
    else:
        is_outside = codes >= 1 << told.bits
    if is_outside.any():
        wrong = plain[np.argmax(is_outside)]
        value = f"the float8 bits {wrong:#04x}" if told.mantissa_bits is not None else str(wrong)
        raise BitstreamError(
            f"tensor {shown(repr(name))} holds {value}, which its type of {told.bits} bits in the graph lacks",
            field="topology_data",
        )
    return _packed_codes(told, (codes & (1 << told.bits) - 1).astype(np.uint8))


def _stored_bytes(told: PackedFormat, tensor: Any) -> Codes | None:
    """The bytes of several values each; None where each has an entry of its own."""
    if tensor.raw_data:
        return np.frombuffer(tensor.raw_data, np.uint8)
    entries = np.array(tensor.int32_data, np.int64)
    return None if told.bits == 6 else entries.astype(np.uint8)


def _codes(told: PackedFormat, tensor: Any) -> Codes:
    """The bits of each value, in the tensor's shape."""
    shape = tuple(tensor.dims)
    n_values = math.prod(shape)
    with as_damage(f"tensor {shown(repr(tensor.name))} is damaged"):
        stored = _stored_bytes(told, tensor)
        if stored is None:
            codes = np.array(tensor.int32_data, np.int64).astype(np.uint8) & np.uint8((1 << told.bits) - 1)
            return codes.reshape(shape)
        n_bytes = packed_bytes(told, n_values)
        if len(stored) != n_bytes:
            raise BitstreamError(
                f"tensor {shown(repr(tensor.name))} is damaged: it has {len(stored)} bytes, {n_values} values of "
                f"{told.bits} bits take {n_bytes}"
            )
        if told.bits == 6:
            bits = np.unpackbits(stored, bitorder="little")[: n_values * told.bits].reshape(-1, told.bits)
            return np.packbits(bits, axis=1, bitorder="little").reshape(shape)
        places = np.arange(0, 8, told.bits, dtype=np.uint8)
        each = (stored[:, None] >> places) & np.uint8((1 << told.bits) - 1)
        return np.ascontiguousarray(each.reshape(-1)[:n_values]).reshape(shape)


def _packed_codes(told: PackedFormat, codes: Codes) -> bytes:
    flat = codes.reshape(-1)
    if told.bits == 6:
        bits = np.unpackbits(flat[:, None], axis=1, bitorder="little")[:, : told.bits]
        return np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    n_in_byte = 8 // told.bits
    filled = np.concatenate([flat, np.zeros(-len(flat) % n_in_byte, np.uint8)]).reshape(-1, n_in_byte)
    places = np.arange(0, 8, told.bits, dtype=np.uint8)
    joined: Codes = np.bitwise_or.reduce(filled << places, axis=1)
    return joined.tobytes()


@cache
def _float8_of_codes(told: PackedFormat) -> Codes:
    """The bits of float8_e4m3fn that have the value of each code of such a float."""
    assert told.mantissa_bits is not None
    codes = np.arange(1 << told.bits)
    sign, magnitude = codes >> told.bits - 1, codes & (1 << told.bits - 1) - 1
    exponent, mantissa = magnitude >> told.mantissa_bits, magnitude & (1 << told.mantissa_bits) - 1
    bias = (1 << told.bits - 2 - told.mantissa_bits) - 1
    whole = mantissa + (exponent > 0) * (1 << told.mantissa_bits)
    sizes = whole * 2.0 ** (np.maximum(exponent, 1) - bias - told.mantissa_bits)
    return nearest_codes(np.where(sign, -sizes, sizes).astype(np.float32), _FLOAT8)


@cache
def _codes_of_float8(told: PackedFormat) -> NDArray[np.uint16]:
    """The code of such a float that has the value of each of the bits of float8_e4m3fn; 0xFFFF where there is none."""
    found = np.full(1 << 8, 0xFFFF, np.uint16)
    found[_float8_of_codes(told)] = np.arange(1 << told.bits)
    return found
