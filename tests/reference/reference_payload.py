"""The payload of one data unit, both ways: the tensors of the unit in one codeword, and its entry points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from reference_arithmetic import ArithmeticDecoder, ArithmeticEncoder, Context, DecoderState, EncoderState
from reference_contexts import TensorParams, make_contexts
from reference_tensor import (
    CodedTensor,
    IntArray,
    Mark,
    TensorChoices,
    Walk,
    block_rows,
    decode_segments,
    decode_tensor,
    encode_tensor,
)


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """What a header says about a block row but the first: `offset_bits` counts from the entry before."""

    value: int
    dq_state: int
    offset_bits: int


@dataclass(frozen=True, slots=True)
class TensorInput:
    """A tensor to encode; `qp` is the difference to the parameter set's QP, None for integer tensors."""

    params: TensorParams
    indices: IntArray
    choices: TensorChoices = field(default_factory=TensorChoices)
    qp: int | None = None


@dataclass(frozen=True, slots=True)
class EncodedPayload:
    """A codeword, the entry points of each tensor, and the states before the terminate bin."""

    data: bytes
    entry_points: tuple[tuple[EntryPoint, ...], ...]
    state: EncoderState
    contexts: tuple[list[Context], ...]


@dataclass(frozen=True, slots=True)
class DecodedPayload:
    """The tensors of a codeword, their QPs, their entry points, and the state before the terminate bin."""

    tensors: tuple[CodedTensor, ...]
    qps: tuple[int | None, ...]
    entry_points: tuple[tuple[EntryPoint, ...], ...]
    state: DecoderState


def encode_payload(tensors: Sequence[TensorInput], qp_density: int = 2) -> EncodedPayload:
    """The codeword of a data unit.

    Args:
        tensors: In coding order.
        qp_density: Number of QP steps per octave as a power of two; the QP takes 6 + qp_density bits.
    """
    encoder = ArithmeticEncoder()
    marks, contexts = [], []
    for tensor in tensors:
        if tensor.qp is not None:
            n_bits = 6 + qp_density
            encoder.bypass_bins(tensor.qp & ((1 << n_bits) - 1), n_bits)
        tensor_marks, tensor_contexts = encode_tensor(encoder, tensor.params, tensor.indices, tensor.choices)
        marks.append(tensor_marks)
        contexts.append(tensor_contexts)
    state = encoder.state
    data = encoder.finish()
    entry_points = tuple(_entry_points([_windowed(data, mark) for mark in m]) for m in marks)
    return EncodedPayload(data, entry_points, state, tuple(contexts))


def decode_payload(
    data: bytes, tensors: Sequence[TensorParams], has_qp: bool = True, qp_density: int = 2
) -> DecodedPayload:
    """The tensors of a codeword.

    Raises:
        BitstreamError: If the codeword breaks the format.
    """
    decoder = ArithmeticDecoder(data)
    decoded, qps = [], []
    for params in tensors:
        qps.append(_decode_qp(decoder, 6 + qp_density) if has_qp else None)
        decoded.append(decode_tensor(decoder, params))
    state = decoder.state
    decoder.finish()
    entry_points = tuple(_entry_points(t.marks) for t in decoded)
    return DecodedPayload(tuple(decoded), tuple(qps), entry_points, state)


def decode_from_entry_points(
    data: bytes, params: TensorParams, choices: TensorChoices, first: Mark, entry_points: Sequence[EntryPoint]
) -> IntArray:
    """Levels of a tensor of several block rows, each row read on its own from its entry point, last row first."""
    marks = [first]
    for entry in entry_points:
        marks.append(Mark(marks[-1].position_bits + entry.offset_bits, entry.dq_state, entry.value))
    indices = np.zeros((params.n_rows, params.n_columns), np.int64)
    levels = np.zeros_like(indices)
    for mark, segments in reversed(list(zip(marks, block_rows(params), strict=True))):
        decoder = ArithmeticDecoder.at_entry_point(data, mark.position_bits, mark.value)
        walk = Walk(params, choices)
        walk.state = mark.dq_state
        decode_segments(decoder, make_contexts(params, choices.estimator_sets), walk, segments, indices, levels)
    return levels


def _decode_qp(decoder: ArithmeticDecoder, n_bits: int) -> int:
    value = decoder.bypass_bins(n_bits)
    return value - (1 << n_bits) if value >> (n_bits - 1) else value


def _windowed(data: bytes, mark: Mark) -> Mark:
    """The mark of an encoder as a decoder sees it: the first position + 9 bits of the codeword, less the low."""
    n_bits = mark.position_bits + 9
    head = int.from_bytes(data, "big") >> (8 * len(data) - n_bits)
    return replace(mark, value=head - mark.value)


def _entry_points(marks: Sequence[Mark]) -> tuple[EntryPoint, ...]:
    return tuple(EntryPoint(b.value, b.dq_state, b.position_bits - a.position_bits) for a, b in pairwise(marks))
