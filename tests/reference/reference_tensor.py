"""One tensor in bins, both ways: prologue, values in scan order, block rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from reference_arithmetic import RANGE_BLOCK_ROW, ArithmeticDecoder, ArithmeticEncoder, Context
from reference_contexts import (
    TensorParams,
    contexts_with_set,
    make_contexts,
    row_skip_context,
    set_flag_context,
)
from reference_values import NEXT_STATE, Surroundings, decode_value, encode_value, level_of

from vvc_nnr.errors import BitstreamError

IntArray = np.ndarray[Any, np.dtype[np.int64]]
Segment = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class TensorChoices:
    """What an encoder is free to choose, and a decoder reads from the prologue.

    Args:
        row_skip_flag: Whether each row says that it is empty.
        skipped_rows: The rows that are empty and not coded.
        history_flag: Whether significance follows the history map.
        estimator_sets: Context to set, for the sets above 0.
    """

    row_skip_flag: bool = False
    skipped_rows: frozenset[int] = frozenset()
    history_flag: bool = False
    estimator_sets: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mark:
    """A place where a decoder can enter: position in bits, DQ state, and the coder's 8-bit window or exact low."""

    position_bits: int
    dq_state: int
    value: int


@dataclass(frozen=True, slots=True)
class CodedTensor:
    """A decoded tensor.

    Args:
        indices: k, int64, (n_rows, n_columns).
        levels: What multiplies the step, same shape.
        choices: What the prologue said.
        marks: Where block rows begin, the first included; empty without block rows.
        contexts: All contexts at the end.
    """

    indices: IntArray
    levels: IntArray
    choices: TensorChoices
    marks: tuple[Mark, ...]
    contexts: list[Context]


def block_rows(params: TensorParams) -> list[list[Segment]]:
    """The segments (row, first column, end column) of each block row in coding order; one block row without blocks."""
    n_rows, n_columns = params.n_rows, params.n_columns
    if params.used_scan_order == 0:
        return [[(row, 0, n_columns) for row in range(n_rows)]]
    side = 4 << params.used_scan_order
    return [
        [
            (row, left, min(left + side, n_columns))
            for left in range(0, n_columns, side)
            for row in range(top, min(top + side, n_rows))
        ]
        for top in range(0, n_rows, side)
    ]


class Walk:
    """Goes through a tensor in coding order and keeps what follows from the values: DQ state and neighbour."""

    def __init__(self, params: TensorParams, choices: TensorChoices) -> None:
        self.params = params
        self.choices = choices
        self.state = 0
        self.neighbour = 0

    def positions(self, segments: list[Segment]) -> Iterator[tuple[int, int, Surroundings]]:
        """Row, column and surroundings of each coded value; the caller calls `step` with the value in between."""
        for row, left, end in segments:
            if row in self.choices.skipped_rows:
                self._skip()
                continue
            for column in range(left, end):
                yield row, column, self._surroundings(row * self.params.n_columns + column)

    def step(self, k: int) -> None:
        """Go past the value that `positions` gave last."""
        self.neighbour = k
        if self.params.dq_flag:
            self.state = NEXT_STATE[self.state][k & 1]

    def _skip(self) -> None:
        """Go past one segment of an empty row: as many even values as the *whole* row has."""
        if self.params.dq_flag:
            for _ in range(self.params.n_columns):
                self.state = NEXT_STATE[self.state][0]

    def _surroundings(self, place: int) -> Surroundings:
        temporal, history = self.params.temporal, self.params.history
        base = 0 if temporal is None else int(temporal.reshape(-1)[place])
        is_history = self.choices.history_flag and history is not None and bool(history.reshape(-1)[place])
        return Surroundings(self.state, self.neighbour, base, is_history)


def encode_tensor(
    encoder: ArithmeticEncoder, params: TensorParams, indices: IntArray, choices: TensorChoices
) -> tuple[tuple[Mark, ...], list[Context]]:
    """Write a tensor; where its block rows begin (value: the exact low), and its contexts at the end.

    Args:
        encoder: The codeword so far.
        params: What the header says.
        indices: k, any shape of n_rows * n_columns values.
        choices: Row skip, history and estimator sets.
    """
    k = indices.reshape(params.n_rows, params.n_columns)
    contexts = make_contexts(params, {})
    _encode_prologue(encoder, contexts, params, choices)
    contexts = make_contexts(params, choices.estimator_sets)
    walk, marks, rows = Walk(params, choices), [], block_rows(params)
    for segments in rows:
        if len(rows) > 1:
            contexts, walk.neighbour = make_contexts(params, choices.estimator_sets), 0
            encoder.set_range(RANGE_BLOCK_ROW)
            marks.append(Mark(encoder.n_shifts, walk.state, encoder.low))
        for row, column, at in walk.positions(segments):
            encode_value(encoder, contexts, params, at, int(k[row, column]))
            walk.step(int(k[row, column]))
    return tuple(marks), contexts


def _encode_prologue(
    encoder: ArithmeticEncoder, contexts: list[Context], params: TensorParams, choices: TensorChoices
) -> None:
    if params.has_row_skip_flag:
        if params.parent_present:
            encoder.bypass_bin(int(choices.history_flag))
        encoder.bypass_bin(int(choices.row_skip_flag))
        if choices.row_skip_flag:
            for row in range(params.n_rows):
                encoder.context_bin(contexts[row_skip_context(params)], row in choices.skipped_rows)
    for index in contexts_with_set(params, choices.history_flag):
        estimator_set = choices.estimator_sets.get(index, 0)
        encoder.context_bin(contexts[set_flag_context(params)], estimator_set > 0)
        if estimator_set:
            encoder.bypass_bins(estimator_set - 1, 3)


def decode_tensor(decoder: ArithmeticDecoder, params: TensorParams) -> CodedTensor:
    """Read a tensor."""
    choices = _decode_prologue(decoder, make_contexts(params, {}), params)
    indices = np.zeros((params.n_rows, params.n_columns), np.int64)
    levels = np.zeros_like(indices)
    contexts = make_contexts(params, choices.estimator_sets)
    walk, marks, rows = Walk(params, choices), [], block_rows(params)
    for segments in rows:
        if len(rows) > 1:
            contexts, walk.neighbour = make_contexts(params, choices.estimator_sets), 0
            decoder.set_range(RANGE_BLOCK_ROW)
            marks.append(Mark(decoder.state.position_bits, walk.state, decoder.value >> 7))
        decode_segments(decoder, contexts, walk, segments, indices, levels)
    return CodedTensor(indices, levels, choices, tuple(marks), contexts)


def decode_segments(
    decoder: ArithmeticDecoder,
    contexts: list[Context],
    walk: Walk,
    segments: list[Segment],
    indices: IntArray,
    levels: IntArray,
) -> None:
    """Read one block row into both arrays."""
    for row, column, at in walk.positions(segments):
        k = decode_value(decoder, contexts, walk.params, at)
        level = level_of(k, at.state) if walk.params.dq_flag else k
        if not -(2**31) <= level < 2**31:
            raise BitstreamError(f"level {level} exceeds 32 bits")
        indices[row, column] = k
        levels[row, column] = level
        walk.step(k)


def _decode_prologue(decoder: ArithmeticDecoder, contexts: list[Context], params: TensorParams) -> TensorChoices:
    history_flag = row_skip_flag = False
    skipped: frozenset[int] = frozenset()
    if params.has_row_skip_flag:
        history_flag = params.parent_present and bool(decoder.bypass_bin())
        row_skip_flag = bool(decoder.bypass_bin())
        if row_skip_flag:
            context = contexts[row_skip_context(params)]
            skipped = frozenset(row for row in range(params.n_rows) if decoder.context_bin(context))
    sets = {}
    for index in contexts_with_set(params, history_flag):
        if decoder.context_bin(contexts[set_flag_context(params)]):
            sets[index] = 1 + decoder.bypass_bins(3)
    return TensorChoices(row_skip_flag, skipped, history_flag, sets)
