"""From the units of a stream to what the reference codec needs, and whole streams to levels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from reference_contexts import TensorParams
from reference_payload import DecodedPayload, TensorInput, decode_payload, encode_payload

from vvc_nnr.bitstream.data_unit import DataUnit, PayloadType, UnitPart
from vvc_nnr.bitstream.parameter_sets import ParameterSets
from vvc_nnr.bitstream.units import read_units


@dataclass(frozen=True, slots=True)
class Base:
    """What a decoder keeps of a tensor between updates: last levels, and 1 where any update was not zero."""

    levels: np.ndarray[Any, Any] | None = None
    history: np.ndarray[Any, Any] | None = None


@dataclass(frozen=True, slots=True)
class DecodedUnit:
    """A data unit with the reference decoder's result."""

    unit: DataUnit
    parts: tuple[UnitPart, ...]
    params: tuple[TensorParams, ...]
    payload: DecodedPayload
    sets: ParameterSets

    def reencoded(self) -> bytes:
        """The payload that the reference encoder makes of the same indices and choices."""
        qps, tensors = self.payload.qps, self.payload.tensors
        rows = zip(self.params, tensors, qps, strict=True)
        inputs = [TensorInput(params, tensor.indices, tensor.choices, qp) for params, tensor, qp in rows]
        return encode_payload(inputs, self.sets.qp_density).data

    def values(self) -> dict[str, np.ndarray[Any, Any]]:
        """Name to values: int32 or float32 arrays in their shapes."""
        rows = zip(self.parts, self.payload.tensors, self.payload.qps, strict=True)
        return {part.name: self._values(part, tensor.levels, qp) for part, tensor, qp in rows}

    def _values(self, part: UnitPart, levels: np.ndarray[Any, Any], qp: int | None) -> np.ndarray[Any, Any]:
        if part.codebook is not None:
            levels = np.array(part.codebook.values)[levels + part.codebook.zero_offset]
        shaped = levels.reshape(part.dimensions)
        if qp is None:
            return shaped.astype(np.int32)
        step = step_size(qp + self.sets.quantization_parameter, self.sets.qp_density)
        return np.asarray(np.float32(step) * shaped.astype(np.float32), np.float32)


def step_size(qp: int, qp_density: int) -> float:
    """The quantisation step of a QP."""
    k = 1 << qp_density
    return float((k + (qp & (k - 1))) * 2.0 ** ((qp >> qp_density) - qp_density))


def tensor_params(unit: DataUnit, part: UnitPart, sets: ParameterSets, base: Base | None = None) -> TensorParams:
    """What the reference codec has to know of one tensor of a unit."""
    base = base or Base()
    parent = unit.parent
    is_temporal = parent is not None and parent.temporal_context_modeling_flag
    return TensorParams(
        n_rows=part.n_rows,
        n_columns=part.n_columns,
        dq_flag=unit.uses_dq,
        unary_length=unit.unary_length,
        scan_order=part.scan_order,
        codebook_size=len(part.codebook.values) if part.codebook else None,
        codebook_zero_offset=part.codebook.zero_offset if part.codebook else 0,
        row_skip_allowed=sets.general_profile_idc == 1,
        parent_present=parent is not None,
        temporal=base.levels if is_temporal else None,
        history=base.history,
    )


def decode_units(data: bytes, bases: Mapping[str, Base] | None = None) -> Iterator[DecodedUnit]:
    """The data units of a stream with a codeword, decoded by the reference."""
    for placed in read_units(data):
        unit, sets = placed.unit, placed.parameter_sets
        if not isinstance(unit, DataUnit) or unit.nnr_compressed_data_unit_payload_type is PayloadType.RAW_FLOAT:
            continue
        parts = unit.parts()
        params = tuple(tensor_params(unit, part, sets, (bases or {}).get(part.name)) for part in parts)
        payload = decode_payload(bytes(unit.payload), params, unit.has_qp, sets.qp_density)
        yield DecodedUnit(unit, parts, params, payload, sets)
