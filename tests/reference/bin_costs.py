"""Bits that the values of a tensor take, by kind of bin, from the kernels' own record of the coder's intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vvc_nnr import _kernels
from vvc_nnr.kernels.tensor_params import TensorChoices, TensorParams, require_status

# First contexts of the signs and of the greater flags.
SIGN_CONTEXTS, GREATER_CONTEXTS = 48, 53


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
