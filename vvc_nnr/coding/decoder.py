"""Data units to tensors: one tensor, and all of a stream."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.data_unit import DataUnit, PartKind, PayloadType, UnitPart
from vvc_nnr.bitstream.number_formats import (
    BITS_SUFFIX,
    VALUES_SUFFIX,
    Array,
    dtype_of,
    from_bits,
    from_float32,
    from_int32,
    itemsize_of_format,
)
from vvc_nnr.bitstream.parameter_sets import ParameterSets
from vvc_nnr.bitstream.stream import CodedTensor, Stream
from vvc_nnr.bitstream.units import PlacedUnit
from vvc_nnr.coding.exact_forms import bits_of_form, plain_values, with_outliers
from vvc_nnr.coding.unit_coding import TensorPast, coded_step, decode_unit, payload_of
from vvc_nnr.errors import BitstreamError, UnsupportedError
from vvc_nnr.kernels.entropy_coding import DecodedTensor, Output, decode_payloads
from vvc_nnr.options import element_limit
from vvc_nnr.parallel import BATCH_ELEMENTS, Progress, run_all

G_SUFFIX = "_G"


@dataclass(frozen=True, slots=True, eq=False)
class DecodedUpdate:
    """One tensor of an update.

    Args:
        values: int32 or float32, the difference.
        levels: int32, what multiplied the step; None of floats that were not quantised.
    """

    values: Array
    levels: NDArray[np.int32] | None


def decode_arrays(unit: DataUnit, sets: ParameterSets, max_elements: int, n_threads: int = 1) -> dict[str, Array]:
    """The tensors of a unit by name, int32 or float32, in their shapes.

    Of a block: the weight with its scaling applied (and G and H multiplied), and its vectors.

    Raises:
        BitstreamError: If the payload breaks the format, or holds more than `max_elements` values.
    """
    if unit.nnr_compressed_data_unit_payload_type is PayloadType.RAW_FLOAT:
        return {unit.topology_elem_id_list[0]: _raw_floats(unit, max_elements)}
    decoded = decode_unit(unit, sets, output=_output_of(unit), max_elements=max_elements, n_threads=n_threads)
    return _arrays_of(unit, sets, decoded)


def _output_of(unit: DataUnit) -> Output:
    return "levels" if unit.codebook is not None or not unit.has_qp else "values"


def _arrays_of(unit: DataUnit, sets: ParameterSets, decoded: tuple[DecodedTensor, ...]) -> dict[str, Array]:
    """The tensors of a unit by name from what was decoded of it."""
    parts, as_levels = unit.parts(), _output_of(unit) == "levels"
    arrays = [_array(part, tensor, sets, as_levels) for part, tensor in zip(parts, decoded, strict=True)]
    if unit.is_block:
        return _combined(unit, parts, arrays)
    return {parts[0].name: arrays[0]}


def decode_update(unit: DataUnit, sets: ParameterSets, past: TensorPast, max_elements: int) -> DecodedUpdate:
    """The tensor of a unit of an update.

    Raises:
        BitstreamError: If the payload breaks the format, or holds more than `max_elements` values.
    """
    if unit.nnr_compressed_data_unit_payload_type is PayloadType.RAW_FLOAT:
        return DecodedUpdate(_raw_floats(unit, max_elements), None)
    (part,) = unit.parts()
    (tensor,) = decode_unit(unit, sets, past, output="levels", max_elements=max_elements)
    levels: NDArray[np.int32] = tensor.numbers.reshape(part.dimensions)
    return DecodedUpdate(_array(part, tensor, sets, True), levels)


def _raw_floats(unit: DataUnit, max_elements: int) -> NDArray[np.float32]:
    if unit.n_elements > max_elements:
        raise BitstreamError(f"{unit.n_elements} values; the limit is {max_elements}", field="tensor_dimensions")
    return np.frombuffer(unit.payload, "<f4").astype(np.float32).reshape(unit.tensor_dimension_list)


def _array(part: UnitPart, tensor: DecodedTensor, sets: ParameterSets, as_levels: bool) -> Array:
    """One tensor in its shape; levels become values unless it is a tensor of integers."""
    numbers: NDArray[Any] = tensor.numbers.reshape(part.dimensions)
    if not as_levels or tensor.qp is None:
        return numbers
    if part.codebook is not None:
        members = np.array(part.codebook.values, np.int32)
        numbers = members[numbers + part.codebook.zero_offset]
    step = np.float32(coded_step(tensor.qp, sets))
    with np.errstate(over="ignore"):
        values: NDArray[np.float32] = np.multiply(numbers, step, dtype=np.float32)
    return values


def _combined(unit: DataUnit, parts: tuple[UnitPart, ...], arrays: list[Array]) -> dict[str, Array]:
    """The tensors that a block stands for, the weight first."""
    by_kind = {part.kind: (part.name, array) for part, array in zip(parts, arrays, strict=True)}
    scaling = by_kind.pop(PartKind.SCALING, None)
    if PartKind.G in by_kind:
        (name, g), (_, h) = by_kind.pop(PartKind.G), by_kind.pop(PartKind.H)
        name = name.removesuffix(G_SUFFIX)
    else:
        (name, g), h = by_kind.pop(PartKind.WEIGHT), None
    if scaling is not None:
        g = _scaled_rows(unit, g, scaling[1])
    with np.errstate(over="ignore", invalid="ignore"):
        weight = g if h is None else _product(unit, g, h)
    others = dict(by_kind.values())
    if name in others or len(others) < len(by_kind):
        raise BitstreamError(f"two tensors of a block are called {name!r}", field="topology_elem_id")
    return {name: weight} | others


def _scaled_rows(unit: DataUnit, weight: Array, scaling: Array) -> Array:
    if weight.shape[0] != scaling.size:
        raise BitstreamError(f"{scaling.size} scalings for {weight.shape[0]} rows", field="tensor_dimensions")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(weight * scaling.reshape(-1, *[1] * (weight.ndim - 1)), np.float32)


def _product(unit: DataUnit, g: Array, h: Array) -> Array:
    if math.prod((g.shape[0], h.shape[1])) != math.prod(unit.tensor_dimension_list):
        raise BitstreamError("the product of G and H has another size than the weight", field="tensor_dimensions")
    return np.asarray(g @ h, np.float32).reshape(unit.tensor_dimension_list)


# A tensor of fewer values is not worth the work of several threads.
SPLIT_ELEMENTS = 1 << 20
# Tensors of so many values are decoded side by side: what they are decoded to stays in memory at once.
TOGETHER_ELEMENTS = 1 << 22


def check_size(stream: Stream, max_elements: int | None) -> None:
    """Raises BitstreamError if the tensors of a stream, copies among them, have more values than allowed."""
    n_elements = stream.n_elements
    n_bytes = sum(placed.size_bytes for tensor in stream.tensors for placed in tensor.units)
    n_bytes += sum(len(tensor.raw[1]) for tensor in stream.tensors if tensor.raw is not None)
    limit = element_limit(max_elements, n_bytes)
    if n_elements > limit:
        raise BitstreamError(
            f"{n_elements} values; max_elements allows {limit}: give more (--max-elements) if you trust the file",
            field="tensor_dimensions",
        )


def decode_network(
    stream: Stream, max_elements: int | None, n_threads: int, progress: Progress | None = None
) -> dict[str, Array]:
    """Tensors by name of a stream that is a network of its own.

    Raises:
        BitstreamError: If a payload breaks the format, or there are more values than allowed.
        UnsupportedError: If the stream is an update.
    """
    if stream.is_update:
        raise UnsupportedError(
            "the stream is an update: apply it to what it updates (vvc-nnr update apply, apply_update in Python)"
        )
    check_size(stream, max_elements)
    return decode_tensors(stream.tensors, n_threads, progress)


def decode_tensors(
    tensors: tuple[CodedTensor, ...], n_threads: int, progress: Progress | None = None
) -> dict[str, Array]:
    """Tensors by name: those that would keep one thread at work alone by all threads, then the others side by side.

    Raises:
        BitstreamError: If a payload breaks the format, or two tensors have one name.
    """
    sizes = [tensor.n_elements for tensor in tensors]
    alone = _split_tensors(tensors, n_threads)
    left = set(range(len(tensors))) - set(alone)
    # What has entry points fills the lanes by itself.
    by_itself = {place for place in left if any(unit.entry_points for unit in tensors[place].data_units)}
    others = [*([place] for place in sorted(by_itself)), *_batches(sizes, left - by_itself, n_threads)]
    n_done, n_total = 0, sum(sizes)
    found: dict[int, dict[str, Array]] = {}
    for place in alone:
        found[place] = decode_tensor(tensors[place], n_threads)
        n_done += sizes[place]
        if progress:
            progress(n_done, n_total)
    report = progress and (lambda n, _: progress(n_done + n, n_total))
    batches = [[tensors[place] for place in batch] for batch in others]
    n_in_batches = [sum(sizes[place] for place in batch) for batch in others]
    for batch, decoded in zip(others, run_all(_decode_batch, batches, n_in_batches, n_threads, report), strict=True):
        found.update(zip(batch, decoded, strict=True))
    return _merged(found[place] for place in range(len(tensors)))


def _batches(sizes: Sequence[int], places: Iterable[int], n_threads: int) -> list[list[int]]:
    """Places of tensors that are decoded side by side, those of like sizes together."""
    ordered = sorted(places, key=lambda place: (-sizes[place], place))
    share = sum(sizes[place] for place in ordered) // (1 if n_threads == 1 else 2 * n_threads)
    most = min(TOGETHER_ELEMENTS, max(share, BATCH_ELEMENTS))
    batches: list[list[int]] = []
    n_in_last = 0
    for place in ordered:
        if not batches or n_in_last + sizes[place] > most:
            batches.append([])
            n_in_last = 0
        batches[-1].append(place)
        n_in_last += sizes[place]
    return batches


def _split_tensors(tensors: Sequence[CodedTensor], n_threads: int) -> list[int]:
    """Places of the tensors that are more than a thread's share of what is left, the largest first."""
    places: list[int] = []
    n_left = sum(tensor.n_elements for tensor in tensors)
    for place in sorted(range(len(tensors)), key=lambda place: -tensors[place].n_elements):
        tensor = tensors[place]
        if tensor.n_elements < SPLIT_ELEMENTS or tensor.n_elements * n_threads <= n_left:
            break
        if len(tensor.units) == 1 and tensor.data_units[0].entry_points:
            places.append(place)
            n_left -= tensor.n_elements
    return places


def _merged(groups: Iterable[dict[str, Array]]) -> dict[str, Array]:
    """All tensors in one map.

    Raises:
        BitstreamError: If two of them have one name, as those of blocks may.
    """
    merged: dict[str, Array] = {}
    for group in groups:
        for name, array in group.items():
            if name in merged:
                raise BitstreamError(f"two tensors are called {name!r}", field="topology_elem_id")
            merged[name] = array
    return merged


def decode_tensor(tensor: CodedTensor, n_threads: int = 1) -> dict[str, Array]:
    """A tensor by its name in its number format and shape; of a block, all its tensors.

    Raises:
        BitstreamError: If a payload breaks the format.
    """
    if tensor.has_values:
        return {tensor.name: _values(tensor)}
    return _put_together(tensor, [_decode_unit(placed, n_threads) for placed in tensor.units])


def _decode_batch(tensors: Sequence[CodedTensor]) -> list[dict[str, Array]]:
    """What `decode_tensor` gives of each tensor; their data units are decoded side by side.

    Raises:
        BitstreamError: If a payload breaks the format.
    """
    coded = [
        (unit, placed.parameter_sets)
        for tensor in tensors
        for placed in tensor.units
        if (unit := _codeword(tensor, placed)) is not None
    ]
    payloads = [payload_of(unit, sets, output=_output_of(unit), max_elements=unit.n_elements) for unit, sets in coded]
    decoded = iter(zip(coded, decode_payloads(payloads), strict=True))

    def arrays_of(tensor: CodedTensor, placed: PlacedUnit) -> dict[str, Array]:
        if _codeword(tensor, placed) is None:
            return _decode_unit(placed, 1)
        (unit, sets), numbers = next(decoded)
        return _arrays_of(unit, sets, numbers)

    return [
        {tensor.name: _values(tensor)}
        if tensor.has_values
        else _put_together(tensor, [arrays_of(tensor, placed) for placed in tensor.units])
        for tensor in tensors
    ]


def _codeword(tensor: CodedTensor, placed: PlacedUnit) -> DataUnit | None:
    """A data unit of a tensor if it has a codeword."""
    unit = placed.unit
    return unit if isinstance(unit, DataUnit) and unit.has_codeword and not tensor.has_values else None


def _put_together(tensor: CodedTensor, decoded: list[dict[str, Array]]) -> dict[str, Array]:
    """A tensor by its name from what its data units hold; of a block, all its tensors."""
    if tensor.data_units[0].is_block:
        (arrays,) = decoded
        if tensor.number_format is None:
            return arrays
        return arrays | {tensor.name: restored(tensor, (arrays[tensor.name],))}
    halves = tuple(array for arrays in decoded for array in arrays.values())
    return {tensor.name: restored(tensor, halves)}


def _values(tensor: CodedTensor) -> Array:
    """A tensor whose data unit holds its values as they are."""
    own = (tensor.number_format or "").removesuffix(VALUES_SUFFIX)
    n_values, itemsize = math.prod(tensor.shape), itemsize_of_format(own)
    payload = tensor.data_units[0].payload[: n_values * itemsize]
    return from_bits(plain_values(payload, "bytes", n_values, itemsize), own).reshape(tensor.shape)


def _decode_unit(placed: PlacedUnit, n_threads: int) -> dict[str, Array]:
    assert isinstance(placed.unit, DataUnit)
    return decode_arrays(placed.unit, placed.parameter_sets, placed.unit.n_elements, n_threads)


def restored(tensor: CodedTensor, halves: tuple[Array, ...]) -> Array:
    """Decoded int32 or float32 arrays in the number format and shape of the tensor."""
    is_integer = tensor.data_units[0].nnr_compressed_data_unit_payload_type is PayloadType.INT
    number_format = tensor.number_format or ("int32" if is_integer else "float32")
    if tensor.raw is not None:
        kind, raw = tensor.raw
        if kind == "outliers":
            return with_outliers(from_float32(halves[0], number_format), raw, number_format).reshape(tensor.shape)
        own = number_format.removesuffix(BITS_SUFFIX)
        return from_bits(bits_of_form(kind, raw, halves[0], own, math.prod(tensor.shape)), own).reshape(tensor.shape)
    if 0 in tensor.shape:
        return np.empty(tensor.shape, dtype_of(number_format))
    array = from_int32(halves, number_format) if is_integer else from_float32(halves[0], number_format)
    return array.reshape(tensor.shape)
