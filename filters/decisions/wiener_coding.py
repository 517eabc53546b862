"""A picture's Wiener filters as bins, after its decisions. docs/decisions.md has the syntax.

Encoder and decoder walk through it together, as in decision_coding.py.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from vvc_nnr.filters.decisions.adaptive_bins import BinCoder, Context, code_number, expecting
from vvc_nnr.filters.decisions.wiener import (
    CLIPPED_PAIR,
    DECODED,
    DECODED_PAIR,
    LUMA_TERMS,
    MAX_CLIP_LOG2,
    MAX_COEFFICIENT,
    N_CLASSES,
    PAIR,
    SHIFTS,
    Term,
    WienerFilter,
    n_classes_of,
    terms_of,
)

CLIP_BITS = MAX_CLIP_LOG2.bit_length()
MAX_PREFIX = MAX_COEFFICIENT.bit_length() - 1
"""The longest prefix of a magnitude ends without a 0, so that no magnitude is above `MAX_COEFFICIENT`."""
MOST_BINS = (N_CLASSES + 2) * (3 + len(SHIFTS) + CLIP_BITS + len(LUMA_TERMS) * (2 + 2 * MAX_PREFIX))
"""More than the filters of a picture take."""

Group: TypeAlias = tuple[int, int]
"""Terms that share contexts: their kind and the square of their distance."""
_Starts: TypeAlias = dict[Group, tuple[int, int, tuple[int, ...]]]
LUMA_64THS: _Starts = {
    (PAIR, 1): (5, 33, (53, 46, 40, 18, 9, 9)),
    (PAIR, 2): (7, 50, (49, 44, 28, 9, 6, 6)),
    (PAIR, 4): (7, 39, (46, 40, 15, 6, 6, 6)),
    (PAIR, 5): (33, 6, (17, 6, 6, 6, 6, 6)),
    (PAIR, 9): (32, 7, (20, 8, 6, 6, 6, 6)),
    (CLIPPED_PAIR, 1): (34, 15, (54, 46, 30, 15, 6, 6)),
    (CLIPPED_PAIR, 2): (31, 11, (52, 51, 36, 14, 9, 9)),
    (CLIPPED_PAIR, 4): (29, 21, (51, 48, 29, 25, 10, 10)),
    (DECODED_PAIR, 1): (7, 13, (57, 48, 38, 14, 6, 6)),
    (DECODED_PAIR, 2): (9, 25, (47, 36, 19, 10, 10, 10)),
    (DECODED_PAIR, 4): (8, 42, (41, 30, 8, 6, 6, 6)),
    (DECODED, 0): (12, 7, (62, 61, 51, 43, 28, 9)),
}
"""What the contexts of luma's coefficients expect at first: a zero, a negative one, that a prefix goes on; measured on
photographs."""
CHROMA_64THS: _Starts = {
    (PAIR, 1): (10, 2, (62, 53, 18, 6, 6, 6)),
    (PAIR, 2): (34, 45, (32, 11, 8, 6, 6, 6)),
    (PAIR, 4): (26, 56, (35, 8, 6, 6, 6, 6)),
    (DECODED, 0): (36, 21, (62, 57, 40, 23, 6, 6)),
}
"""The same for Cb and Cr."""


class CoefficientContexts:
    """The contexts of a group's coefficients.

    Args:
        zero_64ths: How probable a zero is at first.
        negative_64ths: How probable a negative one is.
        longer_64ths: How probable it is that a prefix goes on, after 0, 1, ... bins.
    """

    def __init__(self, zero_64ths: int, negative_64ths: int, longer_64ths: tuple[int, ...]) -> None:
        self.is_zero = expecting(zero_64ths)
        self.is_negative = expecting(negative_64ths)
        self.is_longer = [expecting(p) for p in longer_64ths]


class WienerContexts:
    """The contexts of luma's filter, or of both chroma components'.

    Attributes:
        has_none: Whether a component has no filter.
        is_below: Whether the shift is below 7, below 6.
        is_new_set: Whether a class begins a new set.
        is_off: Whether a set of luma is all zeros.
        coefficients: By group.
    """

    def __init__(self, starts: _Starts) -> None:
        self.has_none = Context()
        self.is_below = [Context() for _ in SHIFTS[1:]]
        self.is_new_set = Context()
        self.is_off = Context()
        self.coefficients = {group: CoefficientContexts(*start) for group, start in starts.items()}


def code_filters(coder: BinCoder, filters: list[WienerFilter | None]) -> None:
    """Codes the filters of a picture's components, which a decoder overwrites in place."""
    luma, chroma = WienerContexts(LUMA_64THS), WienerContexts(CHROMA_64THS)
    for component, wiener in enumerate(filters):
        filters[component] = _code_filter(coder, chroma if component else luma, component, wiener)


def _code_filter(
    coder: BinCoder, contexts: WienerContexts, component: int, wiener: WienerFilter | None
) -> WienerFilter | None:
    if coder.code(contexts.has_none, int(wiener is None)):
        return None
    terms, n_classes = terms_of(component), n_classes_of(component)
    shift = _code_shift(coder, contexts, wiener.shift if wiener else SHIFTS[-1])
    clip_log2 = code_number(coder, wiener.clip_log2 if wiener else 0, CLIP_BITS) if component == 0 else 0
    sets = [0]
    for c in range(1, n_classes):
        begins = wiener is not None and wiener.set_of_class[c] != wiener.set_of_class[c - 1]
        sets.append(sets[-1] + coder.code(contexts.is_new_set, int(begins)))
    n_sets = sets[-1] + 1
    coefficients = wiener.coefficients.tolist() if wiener else [[0] * len(terms) for _ in range(n_sets)]
    for row in coefficients:
        if component or not coder.code(contexts.is_off, int(not any(row))):
            _code_set(coder, contexts, terms, row)
    return WienerFilter(shift, clip_log2, tuple(sets), np.array(coefficients, np.int16))


def _code_shift(coder: BinCoder, contexts: WienerContexts, shift: int) -> int:
    """Codes the shift from the largest downwards."""
    found = SHIFTS[-1]
    for context in contexts.is_below:
        if not coder.code(context, int(shift < found)):
            break
        found -= 1
    return found


def _code_set(coder: BinCoder, contexts: WienerContexts, terms: tuple[Term, ...], row: list[int]) -> None:
    """Codes the coefficients of a set, which a decoder overwrites in place."""
    for t, (kind, dy, dx) in enumerate(terms):
        row[t] = _code_coefficient(coder, contexts.coefficients[kind, dy * dy + dx * dx], row[t])


def _code_coefficient(coder: BinCoder, contexts: CoefficientContexts, k: int) -> int:
    """Codes whether it is zero; its sign; how many bits its magnitude has behind the first; these bits."""
    if coder.code(contexts.is_zero, int(k == 0)):
        return 0
    is_negative = coder.code(contexts.is_negative, int(k < 0))
    n_bits = 0
    for context in contexts.is_longer:
        if not coder.code(context, int(abs(k).bit_length() - 1 > n_bits)):
            break
        n_bits += 1
    magnitude = 1 << n_bits | code_number(coder, abs(k) & ((1 << n_bits) - 1), n_bits)
    return -magnitude if is_negative else magnitude
