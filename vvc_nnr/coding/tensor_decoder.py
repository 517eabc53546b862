"""A data unit to named arrays of int32 or float32; blocks become the tensors that they stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.data_unit import DataUnit, PartKind, PayloadType, UnitPart
from vvc_nnr.bitstream.number_formats import Array
from vvc_nnr.bitstream.parameter_sets import ParameterSets
from vvc_nnr.coding.unit_coding import TensorPast, coded_step, decode_unit
from vvc_nnr.errors import BitstreamError
from vvc_nnr.kernels.entropy_coding import DecodedTensor, Output

SCALING_SUFFIX, G_SUFFIX = "_scaling", "_G"


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
    parts = unit.parts()
    as_levels = unit.codebook is not None or not unit.has_qp
    output: Output = "levels" if as_levels else "values"
    decoded = decode_unit(unit, sets, output=output, max_elements=max_elements, n_threads=n_threads)
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
