"""Local scaling: the rows of a weight are divided by scales, which travel with it in a block and multiply it again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.data_unit import DataUnit, ParameterTypes, PayloadType
from vvc_nnr.bitstream.number_formats import (
    Array,
    FloatBits,
    finite_float32,
    may_lose,
    nearest_in_format,
    number_format_of,
    shape_of,
)
from vvc_nnr.bitstream.qp import qp_of_step, step_size
from vvc_nnr.coding.unit_coding import PartIndices, encode_indices, encode_parts, make_params
from vvc_nnr.options import CompressOptions
from vvc_nnr.quantize.dependent import levels_of, quantize_indices
from vvc_nnr.quantize.row_scales import LOOK_AHEAD, AxisPowers, axis_powers, row_scales
from vvc_nnr.quantize.snr import outlier_limit
from vvc_nnr.roles.roles import Rule

# What a scaling is called: the tensor's name and this, as the reference software has it.
SUFFIX = "_scaling"
# Steps of the smallest scale. Levels of dependent quantisation are less than two steps off, and none may be zero.
# Scales need no more: rows are divided by what the decoder will have.
LEAST_STEPS = 4


@dataclass(frozen=True, slots=True, eq=False)
class LocalScaling:
    """The scales of a tensor's rows, as they are coded.

    Attributes:
        name: Their name in the stream.
        qp: Their QP.
        indices: k, int32, one for each row (slice along the first axis).
        scales: What decoding gives of them, float32, above zero.
        dq_flag: Dependent quantisation, of scales and tensor alike.
    """

    name: str
    qp: int
    indices: NDArray[np.int32]
    scales: NDArray[np.float32]
    dq_flag: bool

    def divided(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """A tensor's rows divided by their scales.

        Args:
            values: float32, as many slices along the first axis as there are scales.
        """
        with np.errstate(over="ignore"):
            found: NDArray[np.float32] = values / self._columns(values.ndim)
        return found

    def multiplied(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows times their scales in float32, as a decoder has them.

        Args:
            values: float32, as many slices along the first axis as there are scales.
        """
        with np.errstate(over="ignore"):
            found: NDArray[np.float32] = values * self._columns(values.ndim)
        return found

    def divided_as(self, array: Array | FloatBits) -> Array | FloatBits:
        """A tensor of any float format with its rows divided, in that format: what its spread is measured of."""
        values = finite_float32(array)
        assert values is not None
        found = self.divided(values)
        if isinstance(array, FloatBits):
            return nearest_in_format(found, array.number_format)
        with np.errstate(over="ignore"):
            return found.astype(array.dtype)

    def unit_of(self, unit: DataUnit) -> DataUnit:
        """A FLOAT unit of the tensor as a block with these scales."""
        return block_of(unit, self.name, dq_flag=self.dq_flag)

    def _columns(self, n_axes: int) -> NDArray[np.float32]:
        return self.scales.reshape(-1, *[1] * (n_axes - 1))


def block_of(unit: DataUnit, scaling_name: str, *, dq_flag: bool) -> DataUnit:
    """A unit of one tensor as a block that has scales, too; without its payload."""
    (name,) = unit.topology_elem_id_list
    return DataUnit(
        PayloadType.BLOCK,
        (name, scaling_name),
        unit.tensor_dimension_list,
        b"",
        node_id=unit.node_id,
        dq_flag=dq_flag,
        cabac_unary_length_minus1=unit.cabac_unary_length_minus1,
        compressed_parameter_types=ParameterTypes.LS,
        scan_order=unit.scan_order,
    )


def local_scalings(
    arrays: Mapping[str, Array | FloatBits],
    rules: Mapping[str, Rule],
    options: CompressOptions,
    names: Mapping[str, Any],
) -> dict[str, LocalScaling]:
    """The scales of those tensors that they pay for, by name.

    Args:
        arrays: The tensors.
        rules: What each may lose; those without a rule go by their number of dimensions.
        options: How they are coded.
        names: All names that are taken.
    """
    places = {name: place for place, name in enumerate(rules)}
    weights = [name for name, array in arrays.items() if _is_weight(name, array, rules.get(name), options)]
    powers: dict[str, AxisPowers] = {}
    for name in sorted(weights, key=lambda name: places.get(name, 0)):
        values = finite_float32(arrays[name])
        if values is not None:
            powers[name] = axis_powers(values)
    found: dict[str, LocalScaling] = {}
    ordered = list(powers)
    for place, name in enumerate(ordered):
        behind = [powers[other] for other in ordered[place + 1 : place + 1 + LOOK_AHEAD]]
        wanted = row_scales(powers[name], behind, powers[ordered[place - 1]] if place else None)
        values = None if wanted is None else finite_float32(arrays[name])
        if wanted is None or values is None:
            continue
        scaling = coded_scaling(name, wanted, values.shape, options, names)
        divided = finite_float32(scaling.divided_as(arrays[name]))
        if divided is not None and outlier_limit(divided) == math.inf:
            found[name] = scaling
    return found


def _is_weight(name: str, array: Array | FloatBits, rule: Rule | None, options: CompressOptions) -> bool:
    """Whether a tensor is a weight that is quantised, and whose rows are no matter of its role."""
    number_format = number_format_of(name, array)
    if (
        len(shape_of(array)) < 2
        or not may_lose(number_format)
        or (number_format == "float64" and options.float64 == "exact")
    ):
        return False
    return rule is None or (rule.step == "qp" and not rule.of_smallest_slice)


def coded_scaling(
    name: str, wanted: NDArray[np.float64], shape: tuple[int, ...], options: CompressOptions, names: Mapping[str, Any]
) -> LocalScaling:
    """Scales near the wanted ones, as they are coded.

    Args:
        name: Of the tensor.
        wanted: One for each row, float64, above zero; their geometric mean is about 1, and none is above 2**20.
        shape: Of the tensor.
        options: How it is coded.
        names: All names that are taken.
    """
    qp = qp_of_step(float(wanted.min()) / LEAST_STEPS, options.qp_density)
    step = step_size(qp, options.qp_density)
    is_named = name in options.qp_per_tensor
    dq_flag = options.use_dq and (options.bitdepth is None or is_named)
    scaling_name = name + SUFFIX
    while scaling_name in names:
        scaling_name += "_"
    unit = block_of(DataUnit(PayloadType.FLOAT, (name,), shape, b""), scaling_name, dq_flag=dq_flag)
    params = make_params(unit, unit.parts()[0])
    indices = quantize_indices(wanted.astype(np.float32), params, step).indices
    scales = (levels_of(indices, params) * np.float32(step)).astype(np.float32).reshape(-1)
    return LocalScaling(scaling_name, qp, indices.reshape(-1), scales, dq_flag)


def encode_scaled(
    unit: DataUnit,
    scaling: LocalScaling,
    rows: PartIndices,
    options: CompressOptions,
    *,
    n_threads: int = 1,
) -> DataUnit:
    """A block of scales and what they multiply.

    Args:
        unit: What `LocalScaling.unit_of` gives.
        scaling: The scales.
        rows: The indices of the divided rows.
        options: Row skip and estimators.
        n_threads: Threads for block rows.
    """
    parts = [PartIndices(scaling.indices, scaling.qp), rows]
    return encode_parts(unit, parts, options, n_threads=n_threads)


def scaling_bits(scaling: LocalScaling, options: CompressOptions) -> int:
    """About what scales take in a block, with their name."""
    unit = DataUnit(PayloadType.FLOAT, (scaling.name,), scaling.scales.shape, b"", dq_flag=scaling.dq_flag)
    coded = encode_indices(unit, scaling.indices, scaling.qp, options)
    return 8 * (len(coded.payload) + len(scaling.name.encode()) + 1)
