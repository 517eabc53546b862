"""The encoder's side of the Wiener filter: sets, coefficients and shift of least squared error + lambda x bits.

Correlations of the terms with each other (A) and with the error that the network leaves (b) are summed once for each
activity class; those of a range of classes are their sums. Coefficients k then change the squared error by k'Ak - 2k'b.
They are found one after the other, each the best whole number given the rest and the bits that it takes, for all ranges
and shifts at once; the ranges by dynamic programming.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.filters.decisions.wiener import (
    BLOCK,
    CLIPPED_PAIR,
    DECODED,
    MAX_CLIP_LOG2,
    MAX_COEFFICIENT,
    PAIR,
    SHIFTS,
    Term,
    WienerFilter,
    activity_classes,
    n_classes_of,
    terms_of,
)
from vvc_nnr.sequences.frame import Plane

_ROWS = 32  # of samples at a time, whole blocks
_REACH = 3
_N_SWEEPS = 4
_ZERO_BITS = 0.6
_RIDGE = 1e-6
_SET_BITS = 2.0
_Doubles = NDArray[np.float64]
_Range: TypeAlias = tuple[int, int]
"""First and last of the activity classes of a set."""


def fitted(
    original: Plane, filtered: Plane, decoded: Plane, component: int, bit_depth: int, qp: int, lambda_: float
) -> WienerFilter:
    """The filter of one component; whether it is worth its bits is for the caller to find out.

    Args:
        original: What the encoder was given, (height, width).
        filtered: The network's output as decided.
        decoded: The decoded picture, of the same size and type.
        component: 0 for luma, 1 and 2 for Cb and Cr.
        bit_depth: Of the samples.
        qp: The QP of the picture: sets how far clipped differences reach.
        lambda_: The squared error that a bit is worth.
    """
    clip_log2 = int(np.clip(round(qp / 6 - 2) + bit_depth - 10, 0, MAX_CLIP_LOG2)) if component == 0 else 0
    n_classes = n_classes_of(component)
    a, b = _correlations(original, filtered, decoded, terms_of(component), 1 << clip_log2, bit_depth, n_classes)
    ranges = [(first, last) for first in range(n_classes) for last in range(first, n_classes)]
    sums = _Sums(
        np.stack([a[first : last + 1].sum(axis=0) for first, last in ranges]),
        np.stack([b[first : last + 1].sum(axis=0) for first, last in ranges]),
    )
    found = [_of_shift(shift, ranges, sums, lambda_) for shift in SHIFTS]
    best = min(found, key=lambda candidate: candidate.cost)
    return WienerFilter(best.shift, clip_log2, best.set_of_class, best.coefficients.astype(np.int16))


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """Of each range of classes: A (ranges, terms, terms) and b (ranges, terms)."""

    a: _Doubles
    b: _Doubles


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    shift: int
    set_of_class: tuple[int, ...]
    coefficients: _Doubles
    cost: float


def _of_shift(shift: int, ranges: list[_Range], sums: _Sums, lambda_: float) -> _Candidate:
    """The best sets and coefficients with one shift."""
    coefficients, costs = _worth_their_bits(sums, _whole_coefficients(sums, shift, lambda_), shift, lambda_)
    found = _best_partition(dict(zip(ranges, costs.tolist(), strict=True)))
    chosen = [ranges.index(each) for each in found]
    set_of_class = tuple(i for i, (first, last) in enumerate(found) for _ in range(first, last + 1))
    return _Candidate(shift, set_of_class, coefficients[chosen], float(costs[chosen].sum()))


def _correlations(
    original: Plane,
    filtered: Plane,
    decoded: Plane,
    terms: tuple[Term, ...],
    clip: int,
    bit_depth: int,
    n_classes: int,
) -> tuple[_Doubles, _Doubles]:
    """A (classes, terms, terms) and b (classes, terms)."""
    classes = activity_classes(filtered, bit_depth, n_classes)
    sums = np.zeros((n_classes, len(terms) + 1, len(terms) + 1))
    for rows, values in _term_values(original, filtered, decoded, terms, clip):
        blocks = classes[rows].ravel()
        order = np.argsort(blocks, kind="stable")
        values = values[:, order].reshape(len(values), -1)
        ends = np.searchsorted(blocks[order], np.arange(n_classes + 1)) * BLOCK * BLOCK
        for c, (first, last) in enumerate(itertools.pairwise(ends)):
            of_class = values[:, first:last]
            sums[c] += of_class @ of_class.T
    return sums[:, :-1, :-1], sums[:, :-1, -1]


def _term_values(
    original: Plane, filtered: Plane, decoded: Plane, terms: tuple[Term, ...], clip: int
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Some rows of blocks at a time: which, and the terms and last the error, (terms + 1, blocks, 16)."""
    height, width = filtered.shape
    f_all, d_all = (np.pad(plane.astype(np.float32), _REACH, mode="edge") for plane in (filtered, decoded))
    n_columns = -(-width // BLOCK)
    for top in range(0, height, _ROWS):
        n_rows = min(_ROWS, height - top)
        n_blocks = -(-n_rows // BLOCK)
        values = np.zeros((len(terms) + 1, n_blocks * BLOCK, n_columns * BLOCK), np.float32)

        def shifted(plane: NDArray[np.float32], y: int, x: int, top: int = top, n: int = n_rows) -> NDArray[np.float32]:
            return plane[top + _REACH + y : top + _REACH + y + n, _REACH + x : _REACH + x + width]

        f = shifted(f_all, 0, 0)
        for value, (kind, y, x) in zip(values[:-1], terms, strict=True):
            if kind == DECODED:
                term = shifted(d_all, 0, 0) - f
            elif kind == CLIPPED_PAIR:
                term = np.clip(shifted(f_all, y, x) - f, -clip, clip)
                term += np.clip(shifted(f_all, -y, -x) - f, -clip, clip)
            else:
                plane = f_all if kind == PAIR else d_all
                term = shifted(plane, y, x) + shifted(plane, -y, -x)
                term -= 2 * f
            value[:n_rows, :width] = term
        values[-1, :n_rows, :width] = original[top : top + n_rows].astype(np.float32) - f
        blocks = values.reshape(len(values), n_blocks, BLOCK, n_columns, BLOCK).swapaxes(2, 3)
        yield slice(top // BLOCK, top // BLOCK + n_blocks), blocks.reshape(len(values), -1, BLOCK * BLOCK)


def _whole_coefficients(sums: _Sums, shift: int, lambda_: float) -> _Doubles:
    """Whole coefficients of least cost, one coordinate after the other, of all ranges at once (ranges, terms)."""
    n_terms = sums.b.shape[1]
    step = 2.0**-shift
    strengths = np.einsum("rtt->r", sums.a) / n_terms
    a = sums.a + (_RIDGE * strengths + 1e-9)[:, None, None] * np.eye(n_terms)
    k = np.rint(np.linalg.solve(a, sums.b[:, :, None])[:, :, 0] / step)
    k = np.clip(k, -MAX_COEFFICIENT, MAX_COEFFICIENT)
    a *= step**2
    slope = np.einsum("rij,rj->ri", a, k) - step * sums.b
    for _ in range(_N_SWEEPS):
        before = k.copy()
        for t in range(n_terms):
            curve = a[:, t, t]
            ideal = k[:, t] - slope[:, t] / curve
            tried = np.array([np.zeros_like(ideal), np.floor(ideal), np.ceil(ideal), k[:, t]])
            moves = np.clip(tried, -MAX_COEFFICIENT, MAX_COEFFICIENT) - k[:, t]
            costs = curve * moves**2 + 2 * moves * slope[:, t] + lambda_ * _coefficient_bits(k[:, t] + moves)
            move = np.take_along_axis(moves, costs.argmin(axis=0)[None], axis=0)[0]
            slope += a[:, :, t] * move[:, None]
            k[:, t] += move
        if np.array_equal(before, k):
            break
    return k


def _coefficient_bits(k: _Doubles) -> _Doubles:
    """About how many bits whole coefficients take: little for a zero, else Exp-Golomb and a sign."""
    magnitudes = np.maximum(np.abs(k), 1)
    bits: _Doubles = np.where(k == 0, _ZERO_BITS, 2 * np.floor(np.log2(magnitudes)) + 3)
    return bits


def _worth_their_bits(sums: _Sums, k: _Doubles, shift: int, lambda_: float) -> tuple[_Doubles, _Doubles]:
    """The coefficients, zeros where leaving the samples alone is better, and their costs (ranges,)."""
    w = k * 2.0**-shift
    changes = np.einsum("ri,rij,rj->r", w, sums.a, w) - 2 * np.einsum("ri,ri->r", w, sums.b)
    costs = changes + lambda_ * (_coefficient_bits(k).sum(axis=1) + _SET_BITS)
    return np.where((costs < 0)[:, None], k, 0.0), np.where(costs < 0, costs, lambda_ * _SET_BITS)


def _best_partition(costs: dict[_Range, float]) -> list[_Range]:
    """The ranges (first, last) of classes, one after the other, whose costs sum to the least."""
    best: list[tuple[float, list[_Range]]] = [(0.0, [])]
    for last in sorted({last for _, last in costs}):
        ways = [(best[first][0] + costs[first, last], [*best[first][1], (first, last)]) for first in range(last + 1)]
        best.append(min(ways, key=lambda way: way[0]))
    return best[-1][1]
