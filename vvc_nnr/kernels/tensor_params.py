"""What the kernels take and say: what header and base tell of a tensor, what its encoder may choose, how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vvc_nnr import _kernels
from vvc_nnr.bitstream.data_unit import MAX_SCAN_ORDER
from vvc_nnr.errors import BitstreamError, InputError

OUT_OF_MEMORY = 8
MESSAGES = {
    1: "the codeword ends before the tensor",
    2: "a coded value is out of the range of its type or codebook",
    3: "an entry point does not agree with the codeword",
    4: "a block row cannot begin where the codeword is",
    5: "the codeword goes on after the last tensor",
    6: "the stop bit after the last tensor is missing",
    7: "bytes follow the codeword",
}


def require_status(status: int, offset_bytes: int | None = None) -> None:
    """Nothing if a kernel ended well.

    Args:
        status: What it returned.
        offset_bytes: Where in the payload it ended.

    Raises:
        BitstreamError: If the payload broke the format.
        MemoryError: If there was not enough memory.
    """
    if status == OUT_OF_MEMORY:
        raise MemoryError("no memory for a tensor")
    if status:
        raise BitstreamError(MESSAGES[status], field="payload", offset_bytes=offset_bytes)


MAX_UNARY_LENGTH = 256
# A product of dimensions beyond this cannot be addressed.
MAX_VALUES = 1 << 56


@dataclass(frozen=True, slots=True, eq=False)
class TensorParams:
    """What is known about a tensor before its payload is read.

    Attributes:
        n_rows: First dimension.
        n_columns: Product of the others, 1 for a vector.
        dq_flag: Dependent quantisation.
        unary_length: Number of greater flags, 1 to 256.
        scan_order: 0 row by row, 1 to 4 in blocks of 8, 16, 32, 64; counts as 0 with one row or one column.
        codebook_size: Number of codebook entries, None without a codebook.
        codebook_zero_offset: Index of the entry that k = 0 means.
        row_skip_allowed: Profile 1.
        parent_present: A parent node is named, so that the history flag is in the prologue.
        temporal: Base levels, int32, n_rows * n_columns values, if temporal contexts are on.
        history: 1 where an earlier update was not zero, n_rows * n_columns values; None counts as all zero.
    """

    n_rows: int
    n_columns: int
    dq_flag: bool
    unary_length: int
    scan_order: int = 0
    codebook_size: int | None = None
    codebook_zero_offset: int = 0
    row_skip_allowed: bool = True
    parent_present: bool = False
    temporal: NDArray[np.int32] | None = None
    history: NDArray[np.uint8] | NDArray[np.bool_] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix that is coded."""
        return self.n_rows, self.n_columns

    @property
    def n_values(self) -> int:
        """n_rows * n_columns."""
        return self.n_rows * self.n_columns

    @property
    def is_block_scan(self) -> bool:
        """The scan order counts: it is above 0, and there are several rows and columns."""
        return self.scan_order > 0 and self.n_rows > 1 and self.n_columns > 1

    def with_unary_length(self, unary_length: int) -> TensorParams:
        """The same with another number of greater flags."""
        if unary_length == self.unary_length:
            return self
        return TensorParams(
            self.n_rows,
            self.n_columns,
            self.dq_flag,
            unary_length,
            self.scan_order,
            self.codebook_size,
            self.codebook_zero_offset,
            self.row_skip_allowed,
            self.parent_present,
            self.temporal,
            self.history,
        )

    def problem(self) -> str | None:
        """What makes these parameters impossible, None if nothing does."""
        return self._size_problem() or self._codebook_problem() or self._base_problem()

    def _size_problem(self) -> str | None:
        is_matrix = self.n_rows >= 1 and self.n_columns >= 1 and self.n_values <= MAX_VALUES
        if is_matrix and 1 <= self.unary_length <= MAX_UNARY_LENGTH and 0 <= self.scan_order <= MAX_SCAN_ORDER:
            return None
        for name, value, low, high in (
            ("n_rows", self.n_rows, 1, MAX_VALUES),
            ("n_columns", self.n_columns, 1, MAX_VALUES),
            ("n_rows * n_columns", self.n_values, 1, MAX_VALUES),
            ("unary_length", self.unary_length, 1, MAX_UNARY_LENGTH),
            ("scan_order", self.scan_order, 0, MAX_SCAN_ORDER),
        ):
            if not low <= value <= high:
                return f"{name} {value}: {low} to {high} is possible"
        return None

    def _codebook_problem(self) -> str | None:
        if self.codebook_size is None:
            return None
        if self.dq_flag:
            return "a codebook with dependent quantisation"
        if not 1 <= self.codebook_size <= 1 << 31:
            return f"a codebook of {self.codebook_size} entries"
        if not 0 <= self.codebook_zero_offset < self.codebook_size:
            return f"codebook zero offset {self.codebook_zero_offset} of {self.codebook_size} entries"
        return None

    def _base_problem(self) -> str | None:
        if self.temporal is not None and (self.temporal.size != self.n_values or self.temporal.dtype != np.int32):
            return f"{self.temporal.size} base levels ({self.temporal.dtype}); must be {self.n_values} of int32"
        if self.history is not None and self.history.size != self.n_values:
            return f"a history map of {self.history.size} values for {self.n_values}"
        return None

    def layout(self, use_history: bool = False) -> _kernels.Layout:
        """The same for the kernels; the parameters must have no `problem`."""
        codebook = None
        if self.codebook_size is not None:
            codebook = self.codebook_zero_offset, self.codebook_size - 1 - self.codebook_zero_offset
        return _kernels.Layout(  # by place, which is faster
            self.n_rows,
            self.n_columns,
            self.unary_length,
            4 << self.scan_order if self.scan_order else 0,
            self.dq_flag,
            self.row_skip_allowed,
            self.parent_present,
            codebook,
            None if self.temporal is None else np.ascontiguousarray(self.temporal),
            None if self.history is None else as_mask(self.history),
            use_history,
        )


@dataclass(frozen=True, slots=True, eq=False)
class TensorChoices:
    """What an encoder may choose; a decoder reads it from the prologue. None leaves the choice to this package.

    Attributes:
        row_skip_flag: Whether each row says that it is empty. None: if a row is.
        skipped_rows: 1 for each row that is not coded, uint8, n_rows. All of them must be zero. None: every row of
            zeros, but no row at all in a block scan with dependent quantisation, where a skipped row takes the
            trellis elsewhere than its zeros would: there the quantiser decides.
        history_flag: Whether significance follows the history map. None: if that is shorter.
        estimator_sets: Estimator set of each context, uint8, 0 to 8. None: the cheapest.
    """

    row_skip_flag: bool | None = None
    skipped_rows: NDArray[np.uint8] | None = None
    history_flag: bool | None = None
    estimator_sets: NDArray[np.uint8] | None = None


def as_mask(values: NDArray[Any]) -> NDArray[np.uint8]:
    """1 where a value is not zero, contiguous."""
    if values.dtype == np.uint8 and values.flags.c_contiguous:
        return values
    return np.ascontiguousarray(values != 0).view(np.uint8)


def choose(
    params: TensorParams,
    indices: NDArray[np.int32],
    choices: TensorChoices,
    *,
    n_threads: int = 1,
    portable: bool = False,
    layout: _kernels.Layout | None = None,
) -> TensorChoices:
    """The choices with every None filled in, from the bins that will be coded.

    Args:
        params: Without a problem.
        indices: int32, contiguous, n_rows * n_columns values.
        choices: What is fixed already.
        n_threads: Threads for the block rows, 1 to 64. The choices are the same.
        portable: Use no instruction set extension.
        layout: What `params.layout()` gives; None: it is made.
    """
    layout = params.layout() if layout is None else layout
    row_skip, rows = _choose_rows(params, layout, indices, choices)
    with_history = choices.history_flag
    if params.history is None or not params.parent_present or not layout.has_row_skip_flag:
        if with_history:
            raise InputError("history mode: a matrix with a parent and a history map is needed")
        with_history = False
    coded_rows = rows if row_skip else None
    sets = choices.estimator_sets
    if sets is not None:
        check_sets(sets, params.layout(True) if with_history else layout)
    if sets is None or with_history is None:
        tried = [False, True] if with_history is None else [with_history]
        layouts = {h: params.layout(True) if h else layout for h in tried}
        records = {h: _kernels.record_bins(layouts[h], indices, coded_rows, n_threads, portable) for h in tried}
        for record in records.values():
            require_status(record.status)
        with_history = min(tried, key=lambda h: _cost_bits(records[h])) if len(tried) > 1 else tried[0]
        sets = records[with_history].sets if sets is None else sets
    return TensorChoices(row_skip, rows, with_history, sets)


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
            raise InputError(f"skipped_rows: must be {params.n_rows} uint8, set for empty rows only")
        rows = np.ascontiguousarray(rows != 0).view(np.uint8)
    elif params.dq_flag and params.is_block_scan:
        rows = np.zeros(params.n_rows, np.uint8)
    else:
        rows = _kernels.empty_rows(layout, indices)[1]
    row_skip = bool(rows.any()) if choices.row_skip_flag is None else True
    return row_skip, rows if row_skip else None


def check_sets(sets: NDArray[np.uint8], layout: _kernels.Layout) -> None:
    """Raises InputError unless there is a known estimator set for each context."""
    if sets.shape != (layout.n_contexts,) or sets.dtype != np.uint8 or int(sets.max()) > 8:
        raise InputError(f"estimator_sets: must be {layout.n_contexts} uint8 from 0 to 8")


def _cost_bits(record: _kernels.BinRecord) -> float:
    return float(np.take_along_axis(record.cost_bits, record.sets[:, None].astype(np.intp), 1).sum())
