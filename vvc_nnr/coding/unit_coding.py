"""Between data units and the kernels' door: what header and base say of a tensor, and its payload both ways."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.data_unit import DataUnit, EntryPoint, PartKind, UnitPart
from vvc_nnr.bitstream.parameter_sets import ParameterSets
from vvc_nnr.bitstream.qp import step_size
from vvc_nnr.errors import BitstreamError
from vvc_nnr.kernels.entropy_coding import (
    DecodedTensor,
    Output,
    Payload,
    TensorInput,
    decode_payload,
    encode_payload,
)
from vvc_nnr.kernels.tensor_params import TensorChoices, TensorParams
from vvc_nnr.options import CompressOptions


@dataclass(frozen=True, slots=True, eq=False)
class TensorPast:
    """What an update knows of a tensor from the updates before.

    Args:
        levels: int32, what multiplied the step in the last one, any shape; None if there was none.
        history: uint8, 1 where any of them was not zero; None if there was none.
    """

    levels: NDArray[np.int32] | None = None
    history: NDArray[np.uint8] | None = None


def make_params(
    unit: DataUnit, part: UnitPart, past: TensorPast | None = None, *, row_skip_allowed: bool = True
) -> TensorParams:
    """What the kernels have to know of one tensor of a unit."""
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
        row_skip_allowed=row_skip_allowed,
        parent_present=parent is not None,
        temporal=past.levels if past and is_temporal else None,
        history=past.history if past else None,
    )


def encode_indices(
    unit: DataUnit,
    indices: NDArray[np.int32],
    qp: int | None,
    options: CompressOptions,
    past: TensorPast | None = None,
    skipped_rows: NDArray[np.uint8] | None = None,
    n_threads: int = 1,
    param_opt: bool | None = None,
    params: TensorParams | None = None,
) -> DataUnit:
    """A unit of one tensor with its indices coded.

    Args:
        unit: The unit without its payload.
        indices: k, int32.
        qp: Their QP, None for integers.
        options: Row skip and estimators.
        past: The tensor before the update.
        skipped_rows: Rows that must be coded as skipped, None: free.
        n_threads: Threads for its block rows.
        param_opt: In place of that of the options; None: that.
        params: What `make_params` gives of it, perhaps with another number of greater flags; None: it is made.
    """
    parts = [PartIndices(indices, qp, skipped_rows)]
    known = None if params is None else [params.with_unary_length(unit.unary_length)]
    return encode_parts(unit, parts, options, past, n_threads=n_threads, param_opt=param_opt, params=known)


@dataclass(frozen=True, slots=True, eq=False)
class PartIndices:
    """The indices of one tensor of a unit.

    Args:
        indices: k, int32.
        qp: Their QP, None for integers.
        skipped_rows: Rows that must be coded as skipped, None: free.
    """

    indices: NDArray[np.int32]
    qp: int | None
    skipped_rows: NDArray[np.uint8] | None = None


def encode_parts(
    unit: DataUnit,
    parts: Sequence[PartIndices],
    options: CompressOptions,
    past: TensorPast | None = None,
    n_threads: int = 1,
    param_opt: bool | None = None,
    params: Sequence[TensorParams] | None = None,
) -> DataUnit:
    """A unit with the indices of its tensors coded.

    Args:
        unit: The unit without its payload.
        parts: Those of its tensors, in coding order.
        options: Row skip and estimators.
        past: The tensor before the update.
        n_threads: Threads for block rows.
        param_opt: In place of that of the options; None: that.
        params: What `make_params` gives of each; None: they are made.
    """
    is_chosen = options.param_opt if param_opt is None else param_opt
    if params is None:
        params = [make_params(unit, part, past) for part in unit.parts()]
    inputs = []
    for of_part, own in zip(params, parts, strict=True):
        sets = None if is_chosen else np.zeros(of_part.layout().n_contexts, np.uint8)
        choices = TensorChoices(None if options.row_skipping else False, own.skipped_rows, estimator_sets=sets)
        inputs.append(TensorInput(of_part, own.indices, choices, own.qp))
    encoded = encode_payload(inputs, options.qp_density, n_threads=n_threads)
    return unit.with_payload(encoded.data, tuple(each for of in encoded.entry_points for each in of))


def decode_unit(
    unit: DataUnit,
    sets: ParameterSets,
    past: TensorPast | None = None,
    *,
    output: Output,
    max_elements: int,
    n_threads: int = 1,
) -> tuple[DecodedTensor, ...]:
    """The tensors of a unit that has a codeword.

    Args:
        unit: Header and payload.
        sets: What it was read with.
        past: The tensor before the update.
        output: Indices, levels, or float32 products; codebooks have to be looked up afterwards.
        max_elements: Most values.
        n_threads: Threads for its block rows.

    Raises:
        BitstreamError: If the payload breaks the format.
    """
    payload = payload_of(unit, sets, past, output=output, max_elements=max_elements)
    return decode_payload(
        payload.data,
        payload.tensors,
        max_elements=max_elements,
        has_qp=payload.has_qp,
        qp_density=payload.qp_density,
        output=output,
        step_of=payload.step_of,
        entry_points=payload.entry_points,
        n_threads=n_threads,
    )


def payload_of(
    unit: DataUnit, sets: ParameterSets, past: TensorPast | None = None, *, output: Output, max_elements: int
) -> Payload:
    """What there is to decode of a unit that has a codeword; arguments as for `decode_unit`."""
    parts = unit.parts()
    return Payload(
        bytes(unit.payload),
        [make_params(unit, part, past, row_skip_allowed=sets.general_profile_idc == 1) for part in parts],
        max_elements,
        unit.has_qp,
        sets.qp_density,
        output,
        lambda qp: coded_step(qp, sets),
        _entries_by_part(unit, parts),
    )


def coded_step(qp: int, sets: ParameterSets) -> float:
    """The step of a coded QP, to which that of the parameter sets is added; rounded to float32.

    Raises:
        BitstreamError: If it is no normal float32.
    """
    whole = qp + sets.quantization_parameter
    octave = whole >> sets.qp_density
    if not -126 <= octave < 126:
        raise BitstreamError(f"QP {whole} of density {sets.qp_density} has no step in float32", field="QP")
    return float(np.float32(step_size(whole, sets.qp_density)))


def _entries_by_part(unit: DataUnit, parts: tuple[UnitPart, ...]) -> list[list[EntryPoint] | None]:
    """The entry points of each tensor, None where it is decoded in order."""
    entries = iter(unit.entry_points)
    by_part: list[list[EntryPoint] | None] = []
    for part in parts:
        has_entries = unit.scan_order > 0 and part.kind >= PartKind.WEIGHT
        n_entries = math.ceil(part.n_rows / (4 << unit.scan_order)) - 1 if has_entries else 0
        own = list(islice(entries, n_entries))
        by_part.append(own if own and part.scan_order else None)
    return by_part
