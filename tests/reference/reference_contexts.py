"""Which context a bin uses, and which contexts carry an estimator set in the prologue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from reference_arithmetic import Context

SIGNIFICANCE = 0
SIGNIFICANCE_TEMPORAL = 24
SIGNIFICANCE_HISTORY = 40
SIGN = 48
SIGN_TEMPORAL = 51
GREATER = 53
N_REMAINDER = 31


@dataclass(frozen=True, slots=True)
class TensorParams:
    """What header and base tell about one tensor before its payload is read.

    Args:
        n_rows: First dimension.
        n_columns: Product of the others, 1 for a vector.
        dq_flag: Dependent quantisation.
        unary_length: Number of greater flags, 1 to 256.
        scan_order: 0 to 4; counts as 0 if there is one row or one column.
        codebook_size: Number of codebook entries, None without a codebook.
        codebook_zero_offset: Index of the entry that k = 0 means.
        row_skip_allowed: Profile 1.
        parent_present: A parent node is named, so that the history flag is in the prologue.
        temporal: Base levels, n_rows * n_columns values, if temporal contexts are on.
        history: 1 where an earlier update was not zero; None counts as all zero.
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
    temporal: np.ndarray[Any, Any] | None = None
    history: np.ndarray[Any, Any] | None = None

    @property
    def is_matrix(self) -> bool:
        """More than one row and more than one column."""
        return self.n_rows > 1 and self.n_columns > 1

    @property
    def has_row_skip_flag(self) -> bool:
        """The prologue begins with the row-skip flag (and the history flag, if there is a parent)."""
        return self.row_skip_allowed and self.is_matrix and self.codebook_size != 1

    @property
    def used_scan_order(self) -> int:
        """The scan order that counts."""
        return self.scan_order if self.is_matrix else 0

    def limit(self, is_negative: bool) -> int | None:
        """Largest abs(k) on one side of zero, None without a codebook."""
        if self.codebook_size is None:
            return None
        return self.codebook_zero_offset if is_negative else self.codebook_size - 1 - self.codebook_zero_offset

    def implied_sign(self) -> bool | None:
        """Whether every coded value is negative (True) or positive (False); None: the sign is coded."""
        if self.codebook_size is None:
            return None
        if self.codebook_zero_offset == 0:
            return False
        return True if self.codebook_zero_offset == self.codebook_size - 1 else None


def remainder_context(params: TensorParams, position: int) -> int:
    """Context of one prefix bin of the remainder."""
    return GREATER + 4 * params.unary_length + position


def n_contexts(params: TensorParams) -> int:
    """How many contexts the numbering spans."""
    return GREATER + 4 * params.unary_length + 37


def set_flag_context(params: TensorParams) -> int:
    """Context of the flags that say whether an estimator set follows."""
    return GREATER + 4 * params.unary_length + 34


def row_skip_context(params: TensorParams) -> int:
    """Context of the flags of empty rows."""
    return GREATER + 4 * params.unary_length + 36


def make_contexts(params: TensorParams, sets: dict[int, int]) -> list[Context]:
    """All contexts of a tensor, in set 0 unless told otherwise."""
    return [Context(sets.get(index, 0)) for index in range(n_contexts(params))]


def contexts_with_set(params: TensorParams, history_flag: bool) -> Iterator[int]:
    """The contexts whose estimator set is coded, in the order of the prologue."""
    n_states = 8 if params.dq_flag else 1
    size, is_temporal = params.codebook_size, params.temporal is not None
    if size != 1:
        yield from range(SIGNIFICANCE, SIGNIFICANCE + 3 * n_states)
        if is_temporal:
            yield from range(SIGNIFICANCE_TEMPORAL, SIGNIFICANCE_TEMPORAL + 2 * n_states)
        if history_flag:
            yield from range(SIGNIFICANCE_HISTORY, SIGNIFICANCE_HISTORY + n_states)
    if params.implied_sign() is None:
        yield from range(SIGN, SIGN + (5 if is_temporal else 3))
    yield from _magnitude_contexts_with_set(params, is_temporal)


def _magnitude_contexts_with_set(params: TensorParams, is_temporal: bool) -> Iterator[int]:
    n_flags = 2 * params.unary_length
    n_greater, n_greater_temporal, n_remainder = n_flags, n_flags, N_REMAINDER
    if params.codebook_size is not None:
        limit = max(params.codebook_zero_offset, params.codebook_size - 1 - params.codebook_zero_offset)
        n_greater = min(n_flags, 2 * limit)
        n_greater_temporal = min(n_flags, max(0, 2 * (limit - 1)))
        n_remainder = sum(params.unary_length - 1 + (2 << a) - 1 < limit for a in range(N_REMAINDER))
    yield from range(GREATER, GREATER + n_greater)
    if is_temporal:
        yield from range(GREATER + n_flags, GREATER + n_flags + n_greater_temporal)
    yield from (remainder_context(params, a) for a in range(n_remainder))


def _side(neighbour: int) -> int:
    return 0 if neighbour == 0 else 1 if neighbour < 0 else 2


def significance_context(state: int, neighbour: int, base: int, history: bool) -> int:
    """Context of "k is not zero"."""
    if history:
        return SIGNIFICANCE_HISTORY + state
    if base:
        return SIGNIFICANCE_TEMPORAL + 2 * state + (abs(base) > 1)
    return SIGNIFICANCE + 3 * state + _side(neighbour)


def sign_context(neighbour: int, base: int) -> int:
    """Context of "k is negative"."""
    if base:
        return SIGN_TEMPORAL + (base > 0)
    return SIGN + _side(neighbour)


def greater_context(unary_length: int, place: int, is_negative: bool, base: int) -> int:
    """Context of "abs(k) > place + 1"."""
    if base:
        return GREATER + 2 * unary_length + 2 * place + (abs(base) < place)
    return GREATER + 2 * place + is_negative
