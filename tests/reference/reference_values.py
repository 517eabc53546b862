"""One value in bins, both ways, and the states of dependent quantisation."""

from __future__ import annotations

from dataclasses import dataclass

from reference_arithmetic import ArithmeticDecoder, ArithmeticEncoder, Context
from reference_contexts import (
    N_REMAINDER,
    TensorParams,
    greater_context,
    remainder_context,
    sign_context,
    significance_context,
)

from vvc_nnr.errors import BitstreamError

# Next state by state and parity of k.
NEXT_STATE = ((0, 2), (7, 5), (1, 3), (6, 4), (2, 0), (5, 7), (3, 1), (4, 6))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What chooses the contexts of a value: DQ state, last coded k, base level, and history bit."""

    state: int
    neighbour: int
    base: int
    history: bool


def level_of(k: int, state: int) -> int:
    """The multiple of the step that index k means in a state of dependent quantisation (without it: k itself)."""
    return 2 * k - (k > 0) * (state & 1) + (k < 0) * (state & 1)


def index_of(level: int, state: int) -> int:
    """The index of a level in a state of dependent quantisation; the inverse of `level_of`."""
    magnitude = (abs(level) + (state & 1)) >> 1
    return -magnitude if level < 0 else magnitude


def encode_value(
    encoder: ArithmeticEncoder, contexts: list[Context], params: TensorParams, at: Surroundings, k: int
) -> None:
    """Write one index."""
    if params.codebook_size == 1:
        return
    encoder.context_bin(contexts[significance_context(at.state, at.neighbour, at.base, at.history)], k != 0)
    if k == 0:
        return
    is_negative = k < 0
    if params.implied_sign() is None:
        encoder.context_bin(contexts[sign_context(at.neighbour, at.base)], is_negative)
    limit = params.limit(is_negative)
    for place in range(params.unary_length):
        if place + 1 == limit:
            return
        context = contexts[greater_context(params.unary_length, place, is_negative, at.base)]
        encoder.context_bin(context, abs(k) > place + 1)
        if abs(k) == place + 1:
            return
    _encode_remainder(encoder, contexts, params, limit, abs(k) - params.unary_length - 1)


def _encode_remainder(
    encoder: ArithmeticEncoder, contexts: list[Context], params: TensorParams, limit: int | None, remainder: int
) -> None:
    base, position = 0, 0
    while limit is None or params.unary_length + 1 + base + (1 << position) <= limit:
        is_more = remainder >= base + (1 << position)
        encoder.context_bin(contexts[remainder_context(params, position)], is_more)
        if not is_more:
            break
        base += 1 << position
        position += 1
    encoder.bypass_bins(remainder - base, position)


def decode_value(decoder: ArithmeticDecoder, contexts: list[Context], params: TensorParams, at: Surroundings) -> int:
    """The next index."""
    if params.codebook_size == 1:
        return 0
    if not decoder.context_bin(contexts[significance_context(at.state, at.neighbour, at.base, at.history)]):
        return 0
    implied = params.implied_sign()
    is_negative = implied
    if is_negative is None:
        is_negative = bool(decoder.context_bin(contexts[sign_context(at.neighbour, at.base)]))
    magnitude = _decode_magnitude(decoder, contexts, params, at.base, is_negative)
    return -magnitude if is_negative else magnitude


def _decode_magnitude(
    decoder: ArithmeticDecoder, contexts: list[Context], params: TensorParams, base: int, is_negative: bool
) -> int:
    limit = params.limit(is_negative)
    for place in range(params.unary_length):
        if place + 1 == limit:
            return place + 1
        context = contexts[greater_context(params.unary_length, place, is_negative, base)]
        if not decoder.context_bin(context):
            return place + 1
    magnitude = params.unary_length + 1 + _decode_remainder(decoder, contexts, params, limit)
    if limit is not None and magnitude > limit:
        raise BitstreamError(f"index {magnitude} lies outside the codebook, whose limit is {limit}")
    return magnitude


def _decode_remainder(
    decoder: ArithmeticDecoder, contexts: list[Context], params: TensorParams, limit: int | None
) -> int:
    base, position = 0, 0
    while limit is None or params.unary_length + 1 + base + (1 << position) <= limit:
        if not decoder.context_bin(contexts[remainder_context(params, position)]):
            break
        base += 1 << position
        position += 1
        if position == N_REMAINDER:
            raise BitstreamError(f"the prefix of a remainder has more than {N_REMAINDER - 1} ones")
    return base + decoder.bypass_bins(position)
