"""What an encoder chooses by the bins that it is going to code: skipped rows, history mode, estimator sets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vvc_nnr import _kernels
from vvc_nnr.errors import InputError
from vvc_nnr.kernel_status import require_status
from vvc_nnr.tensor_params import TensorChoices, TensorParams

# First contexts of the signs and of the greater flags.
SIGN_CONTEXTS, GREATER_CONTEXTS = 48, 53


def choose(
    params: TensorParams,
    indices: NDArray[np.int32],
    choices: TensorChoices,
    *,
    n_threads: int = 1,
    portable: bool = False,
) -> TensorChoices:
    """The choices with every None filled in, from the bins that will be coded.

    Args:
        params: Without a problem.
        indices: int32, contiguous, n_rows * n_columns values.
        choices: What is fixed already.
        n_threads: Threads for the block rows, 1 to 64. The choices are the same.
        portable: Use no instruction set extension.
    """
    layout = params.layout()
    row_skip, rows = _choose_rows(params, layout, indices, choices)
    with_history = choices.history_flag
    if params.history is None or not params.parent_present or not layout.has_row_skip_flag:
        if with_history:
            raise InputError("history mode: a matrix with a parent and a history map is needed")
        with_history = False
    coded_rows = rows if row_skip else None
    sets = choices.estimator_sets
    if sets is not None:
        _check_sets(sets, params.layout(bool(with_history)))
    if sets is None or with_history is None:
        tried = [False, True] if with_history is None else [with_history]
        records = {h: _kernels.record_bins(params.layout(h), indices, coded_rows, n_threads, portable) for h in tried}
        for record in records.values():
            require_status(record.status)
        with_history = min(tried, key=lambda h: _cost_bits(records[h])) if len(tried) > 1 else tried[0]
        sets = records[with_history].sets if sets is None else sets
    return TensorChoices(row_skip, rows, with_history, sets)


def bits_by_kind(params: TensorParams, indices: NDArray[np.int32], choices: TensorChoices) -> dict[str, float]:
    """Bits that the values of a tensor take, by kind of bin, without its prologue.

    Args:
        params: Without a problem.
        indices: int32, contiguous, n_rows * n_columns values.
        choices: All made, as in an `EncodedPayload` or a `DecodedTensor`.

    Returns:
        significance, sign, greater, remainder (prefixes) and bypass: ideal code lengths of the coder's own intervals.
    """
    layout = params.layout(bool(choices.history_flag))
    rows = choices.skipped_rows if choices.row_skip_flag else None
    record = _kernels.record_bins(layout, indices, rows, 1, False)
    require_status(record.status)
    assert choices.estimator_sets is not None
    costs = np.take_along_axis(record.cost_bits, choices.estimator_sets[:, None].astype(np.intp), 1)[:, 0]
    ends = (SIGN_CONTEXTS, GREATER_CONTEXTS, GREATER_CONTEXTS + 4 * params.unary_length)
    significance, sign, greater, remainder = (float(part.sum()) for part in np.split(costs, ends))
    return {
        "significance": significance,
        "sign": sign,
        "greater": greater,
        "remainder": remainder,
        "bypass": float(record.n_bypass),
    }


def _choose_rows(
    params: TensorParams, layout: _kernels.Layout, indices: NDArray[np.int32], choices: TensorChoices
) -> tuple[bool, NDArray[np.uint8] | None]:
    is_free = choices.skipped_rows is None or not choices.skipped_rows.any()
    if not layout.has_row_skip_flag or choices.row_skip_flag is False:
        if choices.row_skip_flag or not is_free:
            raise InputError("skipped rows: a matrix in profile 1 is needed, and row_skip_flag must not be off")
        return False, None
    if choices.skipped_rows is not None:
        rows = choices.skipped_rows
        if rows.shape != (params.n_rows,) or rows.dtype != np.uint8 or indices[rows != 0].any():
            raise InputError(f"skipped_rows: {params.n_rows} uint8 are wanted, set for empty rows only")
        rows = np.ascontiguousarray(rows != 0).view(np.uint8)
    elif params.dq_flag and params.is_block_scan:
        rows = np.zeros(params.n_rows, np.uint8)
    else:
        rows = _kernels.empty_rows(layout, indices)[1]
    row_skip = bool(rows.any()) if choices.row_skip_flag is None else True
    return row_skip, rows if row_skip else None


def _check_sets(sets: NDArray[np.uint8], layout: _kernels.Layout) -> None:
    if sets.shape != (layout.n_contexts,) or sets.dtype != np.uint8 or int(sets.max()) > 8:
        raise InputError(f"estimator_sets: {layout.n_contexts} uint8 from 0 to 8 are wanted")


def _cost_bits(record: _kernels.BinRecord) -> float:
    return float(np.take_along_axis(record.cost_bits, record.sets[:, None].astype(np.intp), 1).sum())
