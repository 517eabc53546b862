"""Networks as safetensors files: float32, or quantised by the papers' uniform quantiser.

A quantised file is a plain safetensors file: its float tensors are replaced by integer levels, and one
metadata string, `vvc_nnr.uniform`, holds their ranges. Integer and bool tensors are always exact.
Reading trusts nothing: the header is checked against the size of the file (`container.py`), the quantisation
metadata against the tensors, both before an array is made. The string is JSON:

    {"version":1,"bits":8,"biases":"quantised","tensors":{"conv0.weight":[-0.41,0.37],...}}

Levels of 8 and 16 bit are stored as U8 and U16 tensors in their own shape. At other depths they are packed
into a flat U8 tensor, and the shape follows the range: `"conv0.weight":[-0.41,0.37,[64,5,3,3]]`.
Numbers are the shortest decimals that round to the float32 range.

Where rows have ranges of their own, or quantised tensors other number formats than float32, the version is 2:

    {"version":2,...,"tensors":{"conv0.weight":["rows"],...},"formats":{"conv0.weight":"F16"}}

A text, in place of the two ends, holds those of each row as base64 of float32 pairs, little endian. "F16", "BF16"
and "F64" are what the values become once they are restored; tensors that are not named are float32.

Float tensors that must come back bit for bit, such as an entropy model's tables, are stored as they are and named in a
list, `"exact":["scale_table"]`; a file without any has no such list.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, TypeGuard, cast, get_args

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.number_formats import (
    NNC_KEEPS_THEM,
    FloatBits,
    from_float32,
    in_format,
    may_lose,
    nearest_float32,
    numpy_values,
)
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError, shown
from vvc_nnr.files import naming, read_bytes, write_file
from vvc_nnr.json_text import parse_json
from vvc_nnr.model.container import (
    FLOAT_DTYPES,
    RawTensor,
    Tensor,
    container_bytes,
    element_bits,
    exact_array,
    parse_container,
    reshaped,
    stored_array,
)
from vvc_nnr.quantize.snr import few_apart
from vvc_nnr.quantize.uniform import (
    UniformRows,
    UniformTensor,
    check_bits,
    check_range,
    level_dtype,
    pack_levels,
    packed_bytes,
    quantize_rows,
    quantize_uniform,
    unpack_levels,
)

Biases: TypeAlias = Literal["quantised", "float"]
Ranges: TypeAlias = Literal["tensor", "row"]

UNIFORM_KEY = "vvc_nnr.uniform"
UNIFORM_VERSION, ROWS_VERSION = 1, 2
OTHER_FORMATS = ("F16", "BF16", "F64")
"""Of tensors that come back as another format than float32."""
_FORMAT_NAMES = {2: "F16", 8: "F64"}  # by the bytes of a value
MAX_DIMENSIONS = 64
NATIVE_BITS = (8, 16)
"""Depths whose levels are plain U8 and U16 tensors; all others are packed."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredRange:
    """What the metadata says of one quantised tensor.

    Attributes:
        minimum: Value of level 0, a float32 number; of rows, the least.
        maximum: Value of the highest level, a float32 number; of rows, the largest.
        shape: The tensor's shape if its levels are packed, None if the stored tensor has it.
        rows: Both of each row, float32, (n_rows, 2); None if the tensor has one range.
    """

    minimum: float
    maximum: float
    shape: tuple[int, ...] | None
    rows: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class UniformMetadata:
    """All quantisation metadata of a file.

    Attributes:
        bits: Bits per level of every quantised tensor, 1 to 16.
        biases: Whether biases are quantised too, or kept as they are.
        ranges: One entry per quantised tensor.
        formats: Number formats by their safetensors names, of quantised tensors that are not float32.
        exact: Float tensors that are stored as they are; biases that `biases` keeps are not named.
    """

    bits: int
    biases: Biases
    ranges: Mapping[str, StoredRange]
    formats: Mapping[str, str] = field(default_factory=dict)
    exact: frozenset[str] = frozenset()


def is_packed(bits: int) -> bool:
    """True if levels of that depth are packed into flat U8 tensors."""
    return bits not in NATIVE_BITS


def is_bias(name: str, n_dimensions: int) -> bool:
    """True for a tensor of at most one dimension whose name ends in "bias"."""
    return n_dimensions <= 1 and name.endswith("bias")


def metadata_to_json(metadata: UniformMetadata) -> str:
    """The metadata as the file stores it, tensors in order of their names."""
    tensors = {name: _entry(metadata.ranges[name]) for name in sorted(metadata.ranges)}
    is_plain = not metadata.formats and all(stored.rows is None for stored in metadata.ranges.values())
    version = UNIFORM_VERSION if is_plain else ROWS_VERSION
    formats = {} if is_plain else {"formats": {name: metadata.formats[name] for name in sorted(metadata.formats)}}
    exact = {"exact": sorted(metadata.exact)} if metadata.exact else {}
    plain = {"version": version, "bits": metadata.bits, "biases": metadata.biases, "tensors": tensors}
    content = plain | formats | exact
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def metadata_from_json(text: str) -> UniformMetadata:
    """The inverse of `metadata_to_json`, for untrusted text.

    Raises:
        BitstreamError: If the text is no such metadata.
        UnsupportedError: If its version is neither 1 nor 2.
    """
    try:
        content = parse_json(text)
    except BitstreamError as error:
        raise _damaged(str(error)) from error
    if not isinstance(content, dict) or not _is_int(content.get("version")):
        raise _damaged("no version")
    if content["version"] not in (UNIFORM_VERSION, ROWS_VERSION):
        known = f"only {UNIFORM_VERSION} and {ROWS_VERSION} are read"
        raise UnsupportedError(f"{UNIFORM_KEY} version {content['version']}: {known}")
    has_rows = content["version"] == ROWS_VERSION
    bits, biases = _bits(content.get("bits")), _biases(content.get("biases"))
    tensors = content.get("tensors")
    if not isinstance(tensors, dict):
        raise _damaged(f"tensors is {type(tensors).__name__}, must be an object")
    ranges = {name: _stored_range(name, entry, bits, has_rows=has_rows) for name, entry in tensors.items()}
    formats = _formats(content.get("formats", {}), ranges) if has_rows else {}
    return UniformMetadata(bits, biases, ranges, formats, _exact_names(content.get("exact", []), ranges))


def _exact_names(value: object, ranges: Mapping[str, StoredRange]) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _damaged("exact: must be a list of names")
    both = [name for name in value if name in ranges]
    if both:
        raise _damaged(f"{shown(both[0])} has a range and is exact")
    return frozenset(value)


def _formats(value: object, ranges: Mapping[str, StoredRange]) -> dict[str, str]:
    if not isinstance(value, dict) or not all(found in OTHER_FORMATS for found in value.values()):
        raise _damaged(f"formats: must map tensors to {' or '.join(OTHER_FORMATS)}")
    unknown = [name for name in value if name not in ranges]
    if unknown:
        raise _damaged(f"a format of {shown(unknown[0])}, which has no range")
    return dict(value)


def _entry(stored: StoredRange) -> list[str | float | list[int]]:
    ends: list[str | float | list[int]] = [_shortest(stored.minimum), _shortest(stored.maximum)]
    if stored.rows is not None:
        ends = [base64.b64encode(stored.rows.astype("<f4").tobytes()).decode()]
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


def _stored_range(name: str, entry: object, bits: int, *, has_rows: bool) -> StoredRange:
    is_rows = has_rows and isinstance(entry, list) and bool(entry) and isinstance(entry[0], str)
    ends = ["rows"] if is_rows else ["minimum", "maximum"]
    parts = [*ends, "shape"] if is_packed(bits) else ends
    if not isinstance(entry, list) or len(entry) != len(parts):
        raise _damaged(f"{name}: must be [{', '.join(parts)}]")
    shape = _shape(name, entry[-1]) if is_packed(bits) else None
    if is_rows:
        rows = _rows(name, entry[0])
        return StoredRange(float(rows[:, 0].min()), float(rows[:, 1].max()), shape, rows)
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in entry[:2]):
        raise _damaged(f"{name}: its range is no pair of numbers")
    try:
        minimum, maximum = (_nearest_float32(end) for end in entry[:2])
        check_range(minimum, maximum)
    except (InputError, OverflowError) as error:
        raise _damaged(f"{name}: {error}") from error
    return StoredRange(minimum, maximum, shape)


def _rows(name: str, text: str) -> NDArray[np.float32]:
    """The ranges of rows, at least one."""
    try:
        data = base64.b64decode(text.encode(), validate=True)
    except (ValueError, UnicodeEncodeError) as error:
        raise _damaged(f"{name}: the ranges of its rows are no base64") from error
    if not data or len(data) % 8:
        raise _damaged(f"{name}: the ranges of its rows take {len(data)} bytes, must be 8 for each")
    rows = np.frombuffer(data, "<f4").astype(np.float32).reshape(-1, 2)
    if not np.isfinite(rows).all() or (rows[:, 0] > rows[:, 1]).any():
        raise _damaged(f"{name}: the ranges of its rows must be finite and in order")
    return rows


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


@dataclass(frozen=True, slots=True, eq=False)
class StoredNetwork:
    """A network as a file gives it.

    Attributes:
        tensors: Name to array. Floating-point tensors are float32 (dequantised where they were levels),
            integer and bool tensors as they were stored.
        metadata: The user's own metadata, such as the architecture; quantisation metadata is not in it.
        bits: Bits per level of the uniform quantiser, None in a float or coded file.
        biases: Whether biases were quantised by it, None in a float or coded file.
        n_bytes: Size of the whole file.
        left_out: What else the file holds, which is not part of the network.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    bits: int | None
    biases: Biases | None
    n_bytes: int
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """How one tensor is stored.

    Attributes:
        name: Its name.
        shape: Its shape after reading.
        dtype: The stored type by its safetensors name, such as "F32" or "U8".
        bits: Bits per element as stored.
        n_bytes: Its size in the file, header not counted.
        minimum: Its smallest value, None if it is empty.
        maximum: Its largest value, None if it is empty.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    bits: int
    n_bytes: int
    minimum: float | None
    maximum: float | None


def read_network(path: Path | str) -> StoredNetwork:
    """The network in a float or uniformly quantised safetensors file.

    Raises:
        InputError: If the file cannot be read.
        BitstreamError: If its content is damaged.
        UnsupportedError: If it holds a type, size or version that this package does not read.
    """
    with naming(path):
        return parse_network(read_bytes(path))


def parse_network(data: bytes) -> StoredNetwork:
    """The network in the bytes of a safetensors file; raises as `read_network` does for its content."""
    raw, metadata = parse_container(data)
    uniform = _uniform_metadata(raw, metadata)
    tensors = {name: _restored(name, entry, uniform) for name, entry in raw.items()}
    own = {key: value for key, value in metadata.items() if key != UNIFORM_KEY}
    bits, biases = (uniform.bits, uniform.biases) if uniform else (None, None)
    return StoredNetwork(tensors, own, bits, biases, len(data))


def parse_exact(data: bytes) -> tuple[dict[str, Tensor | FloatBits], dict[str, str], int]:
    """Tensors in their number formats, metadata and size of a file's bytes; levels of a quantised file as float32.

    Raises:
        BitstreamError, UnsupportedError: As `parse_network`.
    """
    raw, metadata = parse_container(data)
    if UNIFORM_KEY in metadata:
        uniform, stored = _uniform_metadata(raw, metadata), parse_network(data)
        assert uniform is not None  # its key is there
        exact = {
            name: _as_before(tensor, uniform.formats.get(name))
            if name in uniform.ranges
            else exact_array(name, raw[name])
            for name, tensor in stored.tensors.items()
        }
        return exact, stored.metadata, stored.n_bytes
    return {name: exact_array(name, entry) for name, entry in raw.items()}, metadata, len(data)


def read_uniform_metadata(path: Path | str) -> UniformMetadata | None:
    """Bits, biases and ranges of a quantised file, None of another; raises as `read_network` does."""
    with naming(path):
        return _uniform_metadata(*parse_container(read_bytes(path)))


def write_exact(path: Path | str, tensors: Mapping[str, Tensor | FloatBits], metadata: Mapping[str, str]) -> int:
    """Writes a file with every tensor in its number format, all of it or nothing, and returns its size in bytes.

    Raises:
        InputError: If a type cannot be stored, metadata is no map of strings, or the file cannot be written.
    """
    _check_keys(metadata)
    return write_file(path, container_bytes(tensors, metadata))


def describe_network(path: Path | str) -> list[StoredTensor]:
    """How each tensor of a file is stored, in order of their names; raises as `read_network` does."""
    with naming(path):
        raw, metadata = parse_container(read_bytes(path))
        uniform = _uniform_metadata(raw, metadata)
        return [_described(name, raw[name], uniform) for name in sorted(raw)]


def write_float(path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> int:
    """Writes the file of `float_bytes` with tensors in their own order, all or nothing, and returns its size in bytes.

    Raises:
        InputError: As `float_bytes`, or if the file cannot be written.
    """
    _check_keys(metadata)
    return write_file(path, container_bytes(_as_float32(tensors), metadata))


def write_uniform(
    path: Path | str,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    bits: int = 8,
    biases: Biases = "quantised",
    exact: Collection[str] = (),
) -> int:
    """Writes the file of `uniform_bytes`, all of it or nothing, and returns its size in bytes.

    Raises:
        InputError: As `uniform_bytes`, or if the file cannot be written.
    """
    return write_file(path, uniform_bytes(tensors, metadata, bits, biases, exact=exact))


def float_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file with every floating-point tensor as float32 and all others exact, in order of their names.

    So equal networks are equal bytes, by which they are told.

    Raises:
        InputError: If a type cannot be stored, a float is beyond float32, or metadata is no map of strings.
    """
    _check_keys(metadata)
    exact = _as_float32(tensors)
    names = sorted(exact, key=lambda name: (-exact[name].dtype.itemsize, name))
    return container_bytes({name: exact[name] for name in names}, metadata)


def uniform_bytes(
    tensors: Mapping[str, Tensor | FloatBits],
    metadata: Mapping[str, str],
    bits: int = 8,
    biases: Biases = "quantised",
    ranges: Ranges = "tensor",
    exact: Collection[str] = (),
) -> bytes:
    """A safetensors file with floating-point tensors as levels between their minima and maxima.

    Args:
        tensors: Name to array; half floats and float64 come back as such, float8 is stored as it is.
        metadata: The user's own strings, stored as they are.
        bits: Bits per level, 1 to 16.
        biases: "float" keeps biases (at most one dimension, name ending in "bias") as they are.
        ranges: "tensor": one minimum and maximum for a tensor, as in the papers. "row": one for each of its rows
            (output channels) if it has several.
        exact: Names of float tensors that must come back bit for bit, as `vvc_nnr.roles.roles.exact_names` tells them.
            They are stored as they are, unless their levels give every bit. So are vectors with a few outliers where
            rows have ranges.

    Raises:
        InputError: As `float_bytes`; also for NaN and infinity, and for options out of range.
    """
    check_bits(bits)
    _check_keys(metadata)
    for name, value, kind in (("biases", biases, Biases), ("ranges", ranges, Ranges)):
        if value not in get_args(kind):
            raise InputError(f"{name} {value!r}: must be one of {', '.join(get_args(kind))}")
    stored: dict[str, Tensor | FloatBits] = {}
    found: dict[str, StoredRange] = {}
    kept: set[str] = set()
    formats: dict[str, str] = {}
    for name, tensor in tensors.items():
        plain = numpy_values(tensor)
        is_float8 = isinstance(tensor, FloatBits) and not may_lose(tensor.number_format)
        if plain.dtype.kind != "f" or is_float8 or (biases == "float" and is_bias(name, plain.ndim)):
            stored[name] = tensor
            continue
        is_exact = name in exact or (ranges == "row" and _is_vector_with_outliers(tensor))
        if is_exact and not _gives_every_bit(plain, bits, by_row=ranges == "row"):
            stored[name] = tensor
            kept.add(name)
            continue
        stored[name], found[name] = _levels_and_range(name, plain, bits, by_row=ranges == "row")
        other = "BF16" if isinstance(tensor, FloatBits) else _FORMAT_NAMES.get(tensor.dtype.itemsize)
        if other is not None:
            formats[name] = other
    uniform = metadata_to_json(UniformMetadata(bits, biases, found, formats, frozenset(kept)))
    return container_bytes(stored, {**metadata, UNIFORM_KEY: uniform})


def _has_rows(tensor: Tensor) -> bool:
    """Whether rows are several, and of several values, so that ranges of their own are worth it."""
    return tensor.ndim > 1 and tensor.size > tensor.shape[0] > 1


def _is_vector_with_outliers(tensor: Tensor | FloatBits) -> bool:
    """Whether a tensor without rows has a few values that would set the step of all others."""
    values = nearest_float32(tensor)
    return not _has_rows(values) and few_apart(values) is not None


def _gives_every_bit(tensor: Tensor, bits: int, *, by_row: bool) -> bool:
    """Whether the levels of a tensor restore all of its values, as of a few values on a grid."""
    try:
        levels = quantize_rows(tensor, bits) if by_row and _has_rows(tensor) else quantize_uniform(tensor, bits)
    except InputError:
        return False
    return levels.dequantize().astype(tensor.dtype).tobytes() == tensor.tobytes()


def _levels_and_range(name: str, tensor: Tensor, bits: int, *, by_row: bool) -> tuple[Tensor, StoredRange]:
    try:
        whole = quantize_uniform(tensor, bits)
        rows = quantize_rows(tensor, bits) if by_row and _has_rows(tensor) else None
    except InputError as error:
        raise InputError(f"tensor {name}: {error}: {NNC_KEEPS_THEM}") from error
    ends = (whole.minimum, whole.maximum)
    shape = tensor.shape if is_packed(bits) else None
    levels = whole.levels if rows is None else rows.levels
    packed = pack_levels(levels, bits) if is_packed(bits) else levels
    return packed, StoredRange(*ends, shape, None if rows is None else rows.ranges)


def _as_float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as stored without levels: floats as float32 (NaN and infinity kept), others unchanged."""
    return {
        name: as_stored_float(name, tensor, InputError) if tensor.dtype.kind == "f" else tensor
        for name, tensor in tensors.items()
    }


def _check_keys(metadata: Mapping[str, str]) -> None:
    if UNIFORM_KEY in metadata:
        raise InputError(f"metadata key {UNIFORM_KEY} is reserved: choose another")


def _uniform_metadata(raw: Mapping[str, RawTensor], metadata: Mapping[str, str]) -> UniformMetadata | None:
    """The quantisation metadata, checked against the tensors it speaks of; None in a float file."""
    if UNIFORM_KEY not in metadata:
        return None
    uniform = metadata_from_json(metadata[UNIFORM_KEY])
    for name, stored in uniform.ranges.items():
        if name not in raw:
            raise BitstreamError(f"the metadata has a range for {name}, the file no such tensor")
        _check_levels(name, raw[name], stored, uniform.bits)
    for name in sorted(uniform.exact):
        if name not in raw or raw[name].dtype not in FLOAT_DTYPES:
            raise BitstreamError(f"the metadata names {shown(name)} as exact, the file has no such float tensor")
    for name, entry in raw.items():
        is_float_bias = uniform.biases == "float" and is_bias(name, len(entry.shape))
        is_kept = is_float_bias or name in uniform.exact
        if entry.dtype in FLOAT_DTYPES and name not in uniform.ranges and not is_kept:
            raise BitstreamError(f"tensor {name} is float in a quantised file")
    return uniform


def _check_levels(name: str, entry: RawTensor, stored: StoredRange, bits: int) -> None:
    wanted = "U8" if stored.shape is not None or level_dtype(bits) == np.uint8 else "U16"
    if entry.dtype != wanted:
        raise BitstreamError(f"tensor {name} is {entry.dtype}, its {bits} bit levels must be {wanted}")
    if stored.shape is None:
        return
    n_bytes = packed_bytes(math.prod(stored.shape), bits)
    if entry.shape != (n_bytes,):
        raise BitstreamError(f"tensor {name} is {entry.shape}, its {bits} bit levels need ({n_bytes},)")


def _restored(name: str, entry: RawTensor, uniform: UniformMetadata | None) -> Tensor:
    """The tensor as the user sees it."""
    stored = uniform.ranges.get(name) if uniform else None
    array = stored_array(name, entry)
    if uniform is None or stored is None:
        return as_stored_float(name, array, UnsupportedError) if array.dtype.kind == "f" else array
    if stored.shape is not None:
        levels = unpack_levels(array, math.prod(stored.shape), uniform.bits)
        array = reshaped(name, levels, stored.shape)
    if stored.rows is None:
        values = UniformTensor(array, stored.minimum, stored.maximum, uniform.bits).dequantize()
    elif array.ndim < 2 or array.shape[0] != len(stored.rows):
        raise BitstreamError(f"tensor {name} has shape {array.shape}, the metadata ranges of {len(stored.rows)} rows")
    else:
        values = UniformRows(array, stored.rows, uniform.bits).dequantize()
    return _in_format(values, uniform.formats.get(name))


def _as_before(values: Tensor, format_name: str | None) -> Tensor | FloatBits:
    """Restored float32 values in the format that the tensor had before it was quantised."""
    if format_name is None:
        return values
    if format_name == "BF16":
        return in_format(values, "bfloat16")
    return values.astype(np.float16 if format_name == "F16" else np.float64)


def _in_format(values: NDArray[np.float32], format_name: str | None) -> NDArray[np.float32]:
    """The float32 values as a half float rounds them; for float64, which holds them all, as they are."""
    if format_name in (None, "F64"):
        return values
    rounded = from_float32(values, "float16" if format_name == "F16" else "bfloat16")
    return np.asarray(rounded, np.float32)


def as_stored_float(name: str, array: Tensor, error: type[InputError] | type[UnsupportedError]) -> Tensor:
    """The array rounded to float32; an error of that type if a finite value is beyond it."""
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.asarray(array, dtype=np.float32)
    if not np.array_equal(np.isinf(rounded), np.isinf(array)):
        raise error(f"tensor {name} has a value beyond float32: {NNC_KEEPS_THEM}")
    return rounded


def _described(name: str, entry: RawTensor, uniform: UniformMetadata | None) -> StoredTensor:
    values = stored_array(name, entry) if uniform is None else _restored(name, entry, uniform)
    is_levels = uniform is not None and name in uniform.ranges
    bits = uniform.bits if uniform is not None and is_levels else element_bits(name, entry)
    if not values.size:
        return StoredTensor(name, values.shape, entry.dtype, bits, len(entry.data), None, None)
    with np.errstate(invalid="ignore"):
        ends = float(values.min()), float(values.max())
    return StoredTensor(name, values.shape, entry.dtype, bits, len(entry.data), *ends)
