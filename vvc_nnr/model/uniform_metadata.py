"""The one JSON string that turns the integers of a safetensors file back into a network.

It stands in the file's metadata under `vvc_nnr.uniform`:

    {"version":1,"bits":8,"biases":"quantised","tensors":{"conv0.weight":[-0.41,0.37],...}}

Levels of 8 and 16 bit are stored as U8 and U16 tensors in their own shape. At other depths they are packed
into a flat U8 tensor, and the shape follows the range: `"conv0.weight":[-0.41,0.37,[64,5,3,3]]`.
Numbers are the shortest decimals that round to the float32 range.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeGuard, cast, get_args

import numpy as np

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError, shown
from vvc_nnr.json_text import parse_json
from vvc_nnr.quantize.uniform import check_bits, check_range

Biases: TypeAlias = Literal["quantised", "float"]

UNIFORM_KEY = "vvc_nnr.uniform"
UNIFORM_VERSION = 1
MAX_DIMENSIONS = 64
NATIVE_BITS = (8, 16)
"""Depths whose levels are plain U8 and U16 tensors; all others are packed."""


@dataclass(frozen=True, slots=True)
class StoredRange:
    """What the metadata says of one quantised tensor.

    Attributes:
        minimum: Value of level 0, a float32 number.
        maximum: Value of the highest level, a float32 number.
        shape: The tensor's shape if its levels are packed, None if the stored tensor has it.
    """

    minimum: float
    maximum: float
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class UniformMetadata:
    """All quantisation metadata of a file.

    Attributes:
        bits: Bits per level of every quantised tensor, 1 to 16.
        biases: Whether biases are quantised too, or float32.
        ranges: One entry per quantised tensor.
    """

    bits: int
    biases: Biases
    ranges: Mapping[str, StoredRange]


def is_packed(bits: int) -> bool:
    """True if levels of that depth are packed into flat U8 tensors."""
    return bits not in NATIVE_BITS


def is_bias(name: str, n_dimensions: int) -> bool:
    """True for a tensor of at most one dimension whose name ends in "bias"."""
    return n_dimensions <= 1 and name.endswith("bias")


def metadata_to_json(metadata: UniformMetadata) -> str:
    """The metadata as the file stores it, tensors in order of their names."""
    tensors = {name: _entry(metadata.ranges[name]) for name in sorted(metadata.ranges)}
    content = {"version": UNIFORM_VERSION, "bits": metadata.bits, "biases": metadata.biases, "tensors": tensors}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def metadata_from_json(text: str) -> UniformMetadata:
    """The inverse of `metadata_to_json`, for untrusted text.

    Raises:
        BitstreamError: If the text is no such metadata.
        UnsupportedError: If its version is not 1.
    """
    try:
        content = parse_json(text)
    except BitstreamError as error:
        raise _damaged(str(error)) from error
    if not isinstance(content, dict) or not _is_int(content.get("version")):
        raise _damaged("no version")
    if content["version"] != UNIFORM_VERSION:
        raise UnsupportedError(f"{UNIFORM_KEY} version {content['version']}: only {UNIFORM_VERSION} is read")
    bits, biases = _bits(content.get("bits")), _biases(content.get("biases"))
    tensors = content.get("tensors")
    if not isinstance(tensors, dict):
        raise _damaged(f"tensors is {type(tensors).__name__}, must be an object")
    ranges = {name: _stored_range(name, entry, bits) for name, entry in tensors.items()}
    return UniformMetadata(bits, biases, ranges)


def _entry(stored: StoredRange) -> list[float | list[int]]:
    ends: list[float | list[int]] = [_shortest(stored.minimum), _shortest(stored.maximum)]
    return ends if stored.shape is None else [*ends, list(stored.shape)]


def _shortest(value: float) -> float:
    """A float64 with few digits that rounds to the same float32; the value itself where there is none."""
    short = float(str(np.float32(value)))
    return short if np.float32(short) == np.float32(value) else value


def _bits(value: object) -> int:
    if not _is_int(value):
        raise _damaged(f"bits is {shown(repr(value))}")
    try:
        check_bits(value)
    except InputError as error:
        raise _damaged(str(error)) from error
    return value


def _biases(value: object) -> Biases:
    for choice in get_args(Biases):
        if value == choice:
            return cast(Biases, choice)
    raise _damaged(f"biases is {shown(repr(value))}, must be one of {', '.join(get_args(Biases))}")


def _stored_range(name: str, entry: object, bits: int) -> StoredRange:
    if not isinstance(entry, list) or len(entry) != (3 if is_packed(bits) else 2):
        raise _damaged(f"{name}: must be [minimum, maximum{', shape' if is_packed(bits) else ''}]")
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in entry[:2]):
        raise _damaged(f"{name}: its range is no pair of numbers")
    try:
        minimum, maximum = (_nearest_float32(end) for end in entry[:2])
        check_range(minimum, maximum)
    except (InputError, OverflowError) as error:
        raise _damaged(f"{name}: {error}") from error
    shape = _shape(name, entry[2]) if is_packed(bits) else None
    return StoredRange(minimum, maximum, shape)


def _nearest_float32(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(float(value)))


def _shape(name: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MAX_DIMENSIONS:
        raise _damaged(f"{name}: its shape is no list of at most {MAX_DIMENSIONS} sizes")
    if not all(_is_int(size) and 0 <= size < 1 << 48 for size in value):
        raise _damaged(f"{name}: shape {shown(repr(value))} has a size that is no integer from 0 to 2**48 - 1")
    return tuple(value)


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _damaged(message: str) -> BitstreamError:
    return BitstreamError(message, field=f"metadata {UNIFORM_KEY}")
