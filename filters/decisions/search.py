"""The encoder's side of decisions: the strengths, scales and block size of least squared error + lambda x bits.

For a block whose correction has the energy A = sum(r^2) and the match B = sum(r e) with the error e = original -
decoded, a scale s changes the squared error by s^2 A - 2 s B: one pass over the samples serves all scales. Rounding and
clipping are left out there, but not in the last word: whatever does not lower the cost of the true output is
switched off. Wiener filters are fitted to what that leaves, and have to lower its true cost, too.

Source: Sullivan and Wiegand, Rate-distortion optimization for video compression, IEEE SPM 15(6), 1998.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.codec.configuration import check_qp
from vvc_nnr.filters.decisions.block_decisions import (
    BLOCK_SIZES,
    MAX_STRENGTH,
    SCALES,
    STRENGTH_UNIT,
    UNIT_CHOICE,
    Correction,
    Decisions,
    apply_decisions,
    block_sides,
    check_correction,
    switched_off,
)
from vvc_nnr.filters.decisions.coding import STRENGTH_BITS, encode_decisions
from vvc_nnr.filters.decisions.joint_coding import ComponentDecisions, History, component_of
from vvc_nnr.filters.decisions.wiener import fitted, wiener_filtered
from vvc_nnr.sequences.frame import Frame, Plane
from vvc_nnr.sequences.metrics import check_same_format

_STRENGTHS = np.arange(1, MAX_STRENGTH + 1, dtype=np.float64) * STRENGTH_UNIT
_N_PASSES = 3
_FIRST_COSTS_BITS = np.where(np.arange(len(SCALES)) == UNIT_CHOICE, 0.3, 4.0)
_PRIOR_COUNT = 0.4
Moments = NDArray[np.float64]
"""(2, rows, columns): energy and match of each block of a component."""


def bit_weight(qp: int, bit_depth: int) -> float:
    """Lambda: the squared error, in samples of the bit depth, that one bit is worth.

    0.57 * 2^((QP - 12) / 3), times 4 for each bit above 8, as VTM has it for intra pictures.

    Raises:
        InputError: If the QP is not 0 to 63.

    Source: VTM, EncSlice::calculateLambda.
    """
    check_qp(qp)
    return float(0.57 * 2 ** ((qp + 6 * (bit_depth - 8) - 12) / 3))


def decide(
    original: Frame, decoded: Frame, correction: Correction, qp: int, history: History | None = None
) -> Decisions:
    """The decisions of least cost, never of more than those of a picture that is not filtered.

    Args:
        original: What the encoder was given.
        decoded: What it made of it, of the same format.
        correction: What the network adds to the decoded picture at full strength.
        qp: The QP that the picture was coded with.
        history: Of the pictures that it is coded together with; None: it is coded by itself.

    Raises:
        ShapeError: If the three are not of one format.
        InputError: If the QP is out of range.
    """
    lambda_ = bit_weight(qp, decoded.bit_depth)
    check_same_format(original, decoded)
    check_correction(decoded, correction)
    smallest = min(BLOCK_SIZES)
    sides = block_sides(decoded.chroma_format, smallest)
    components = zip(original.planes, decoded.planes, correction, sides, strict=True)
    moments = [_block_moments(*component) for component in components]
    merged = {size: [_merged(m, size // smallest) for m in moments] for size in BLOCK_SIZES}
    n_bits = _n_bits if history is None else history.n_bits
    found = [_of_block_size(size, each, lambda_, history, n_bits) for size, each in merged.items()]
    if history is not None:
        found.append(_as_before(history, merged, lambda_))
    best = min(found, key=lambda candidate: candidate.cost)
    return _without_losses(best.decisions, original, decoded, correction, lambda_, n_bits)


def decide_among(
    original: Frame, decoded: Frame, corrections: Sequence[Correction], qp: int, history: History
) -> Decisions:
    """The decisions of least cost over the QPs that a network may be told; raises as `decide`.

    Args:
        original: What the encoder was given.
        decoded: What it made of it, of the same format.
        corrections: What the network adds, for each of the candidates.
        qp: The QP that the picture was coded with.
        history: Of the pictures before.
    """
    lambda_ = bit_weight(qp, decoded.bit_depth)
    found = []
    for candidate, correction in enumerate(corrections):
        decisions = decide(original, decoded, correction, qp, history)
        chosen = replace(decisions, qp_candidate=candidate if any(decisions.strengths) else 0)
        output = apply_decisions(decoded, correction, chosen)
        error = sum(_squared_error(o, p) for o, p in zip(original.planes, output.planes, strict=True))
        found.append(_Candidate(chosen, error + lambda_ * history.n_bits(chosen)))
    return min(found, key=lambda each: each.cost).decisions


def with_wiener_filters(
    decisions: Decisions,
    original: Frame,
    decoded: Frame,
    correction: Correction,
    qp: int,
    history: History | None = None,
) -> Decisions:
    """The decisions with the Wiener filters behind them that are worth their bits.

    Args:
        decisions: What `decide` gave; filters that they have are replaced.
        original: What the encoder was given.
        decoded: What it made of it, of the same format.
        correction: What the network adds to the decoded picture at full strength.
        qp: The QP that the picture was coded with.
        history: Of the pictures that it is coded together with; None: it is coded by itself.

    Raises:
        ShapeError: If they do not fit together.
        InputError: If the QP is out of range.
    """
    lambda_ = bit_weight(qp, decoded.bit_depth)
    check_same_format(original, decoded)
    decisions = replace(decisions, wieners=())
    count = _n_bits if history is None else history.n_bits
    output = apply_decisions(decoded, correction, decisions)
    n_bits = count(decisions)
    for c, (o, f, d) in enumerate(zip(original.planes, output.planes, decoded.planes, strict=True)):
        last = None if history is None else history.last_wiener(c)
        options = [(0.0, decisions, n_bits)]
        for wiener in (fitted(o, f, d, c, decoded.bit_depth, qp, lambda_), *([] if last is None else [last])):
            longer = replace(decisions, wieners=(*decisions.wieners[:c], wiener, *decisions.wieners[c + 1 :]))
            change = _squared_error(o, wiener_filtered(f, d, decoded.bit_depth, wiener)) - _squared_error(o, f)
            n_longer = count(longer)
            options.append((change + lambda_ * (n_longer - n_bits), longer, n_longer))
        _, decisions, n_bits = min(options, key=lambda option: option[0])
    return decisions


@dataclass(frozen=True, slots=True)
class _Candidate:
    decisions: Decisions
    cost: float


def _block_moments(original: Plane, decoded: Plane, correction: NDArray[np.float32], side: tuple[int, int]) -> Moments:
    """Energy and match of each block: float32 down a block's columns, float64 across."""
    height, width = side
    rows = range(0, decoded.shape[0], height)
    columns = np.arange(0, decoded.shape[1], width)
    sums = np.empty((2, len(rows), decoded.shape[1]), np.float32)
    for i, top in enumerate(rows):
        block_row = slice(top, top + height)
        values = correction[block_row]
        error = np.subtract(original[block_row], decoded[block_row], dtype=np.float32)
        np.einsum("yx,yx->x", values, values, out=sums[0, i])
        np.einsum("yx,yx->x", values, error, out=sums[1, i])
    return np.add.reduceat(sums, columns, axis=2, dtype=np.float64)


def _merged(moments: Moments, factor: int) -> Moments:
    """The moments of blocks of a larger size."""
    for axis in (1, 2):
        moments = np.add.reduceat(moments, np.arange(0, moments.shape[axis], factor), axis=axis)
    return moments


def _of_block_size(
    block_size: int,
    moments: Sequence[Moments],
    lambda_: float,
    history: History | None,
    n_bits: Callable[[Decisions], float],
) -> _Candidate:
    """The best decisions with blocks of one size; their cost is over that of a picture that is not filtered."""
    if history is None:
        found = [_of_component(m, lambda_) for m in moments]
    else:
        found = [_of_component_after(history, c, block_size, m, lambda_) for c, m in enumerate(moments)]
    decisions = Decisions(block_size, tuple(f.strength for f in found), tuple(f.choices for f in found))
    return _Candidate(decisions, sum(f.change for f in found) + lambda_ * n_bits(decisions))


def _as_before(history: History, moments: Mapping[int, Sequence[Moments]], lambda_: float) -> _Candidate:
    """The decisions of the picture before."""
    before = history.before
    changes = (_change_by(component_of(before, c), m) for c, m in enumerate(moments[before.block_size]))
    return _Candidate(before, sum(changes) + lambda_ * history.n_bits(before))


@dataclass(frozen=True, slots=True)
class _Component:
    strength: int
    choices: NDArray[np.uint8]
    change: float
    n_bits: float


def _of_component(moments: Moments, lambda_: float) -> _Component:
    """The cheapest of: off, one strength throughout, a map. `change` is of the squared error, bits are estimated."""
    plain = np.full(moments.shape[1:], UNIT_CHOICE, np.uint8)
    totals = moments.sum(axis=(1, 2))
    changes = _changes(totals, _STRENGTHS)
    best = int(changes.argmin())
    ways = [
        _Component(0, plain, 0.0, 0.0),
        _Component(best + 1, plain, float(changes[best]), STRENGTH_BITS),
        _with_map(moments, lambda_),
    ]
    return min(ways, key=lambda way: way.change + lambda_ * way.n_bits)


def _of_component_after(
    history: History, component: int, block_size: int, moments: Moments, lambda_: float
) -> _Component:
    """The cheapest of those, and of what the component had in pictures before."""
    plain, mapped = int(_changes(moments.sum(axis=(1, 2)), _STRENGTHS).argmin()) + 1, _with_map(moments, lambda_)
    options = [
        *history.known(component, block_size),
        ComponentDecisions(0),
        ComponentDecisions(plain),
        ComponentDecisions(mapped.strength, mapped.choices),
    ]
    bits = [history.component_bits(component, block_size, each) for each in options]
    ways = [
        _Component(each.strength, each.whole(moments.shape[1:]), _change_by(each, moments), n_bits)
        for each, n_bits in zip(options, bits, strict=True)
    ]
    return min(ways, key=lambda way: way.change + lambda_ * way.n_bits)


def _change_by(component: ComponentDecisions, moments: Moments) -> float:
    """What a component's decisions do to the squared error."""
    scales = np.array(SCALES)[component.whole(moments.shape[1:])] * (component.strength * STRENGTH_UNIT)
    return float((scales**2 * moments[0] - 2 * scales * moments[1]).sum())


def _with_map(moments: Moments, lambda_: float) -> _Component:
    """Strength and choices that suit each other and the bits that such choices take."""
    costs_bits = _FIRST_COSTS_BITS
    scales = np.multiply.outer(_STRENGTHS, np.array(SCALES))
    for _ in range(_N_PASSES):
        costs = _changes(moments, scales) + lambda_ * costs_bits[:, None, None]  # (strengths, scales, rows, columns)
        best = int(costs.min(axis=1).sum(axis=(1, 2)).argmin())
        choices = costs[best].argmin(axis=0)
        counts = np.bincount(choices.ravel(), minlength=len(SCALES)) + _PRIOR_COUNT
        costs_bits = -np.log2(counts / counts.sum())
    chosen = scales[best][choices]
    change = float((chosen**2 * moments[0] - 2 * chosen * moments[1]).sum())
    return _Component(best + 1, choices.astype(np.uint8), change, STRENGTH_BITS + float(costs_bits[choices].sum()))


def _changes(moments: NDArray[np.float64], scales: NDArray[np.float64]) -> NDArray[np.float64]:
    """What scales do to the squared error: (*scales, *blocks) of moments (2, *blocks)."""
    energy, match = moments
    changes: NDArray[np.float64] = np.multiply.outer(scales**2, energy) - np.multiply.outer(2 * scales, match)
    return changes


def _n_bits(decisions: Decisions) -> float:
    return 8 * len(encode_decisions(decisions))


def _without_losses(
    decisions: Decisions,
    original: Frame,
    decoded: Frame,
    correction: Correction,
    lambda_: float,
    count: Callable[[Decisions], float],
) -> Decisions:
    """The decisions without the components whose output, rounded and clipped, is not worth its bits."""
    output = apply_decisions(decoded, correction, decisions)
    pairs = zip(original.planes, decoded.planes, output.planes, strict=True)
    changes = [_squared_error(o, after) - _squared_error(o, before) for o, before, after in pairs]
    n_bits = count(decisions)
    for component in np.argsort(changes)[::-1]:
        if changes[component] + lambda_ * n_bits >= 0:  # else it is worth more than all bits together
            without = _switched_off(decisions, int(component))
            n_without = count(without)
            if changes[component] + lambda_ * (n_bits - n_without) >= 0:
                decisions, n_bits, changes[component] = without, n_without, 0.0
    off = switched_off(decoded)
    is_worth = sum(changes) + lambda_ * n_bits < lambda_ * count(off)
    return decisions if is_worth else off


def _switched_off(decisions: Decisions, component: int) -> Decisions:
    strengths, choices = list(decisions.strengths), list(decisions.choices)
    strengths[component] = 0
    choices[component] = np.full_like(choices[component], UNIT_CHOICE)
    return Decisions(decisions.block_size, tuple(strengths), tuple(choices))


def _squared_error(a: Plane, b: Plane) -> float:
    difference = np.subtract(a, b, dtype=np.float64)
    return float(np.einsum("yx,yx->", difference, difference))
