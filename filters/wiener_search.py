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

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.filters.wiener import (
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


def fitted(
    original: Plane, filtered: Plane, decoded: Plane, component: int, bit_depth: int, qp: int, lambda_: float
) -> WienerFilter | None:
    """The filter of one component, or None where none seems worth its bits.

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
    terms = terms_of(component)
    n_classes = n_classes_of(component)
    a, b = _correlations(original, filtered, decoded, terms, 1 << clip_log2, bit_depth, n_classes)
    ranges = [(first, last) for first in range(n_classes) for last in range(first, n_classes)]
    whole_a = np.stack([a[first : last + 1].sum(axis=0) for first, last in ranges])
    whole_b = np.stack([b[first : last + 1].sum(axis=0) for first, last in ranges])
    best: _Partition | None = None
    for shift in SHIFTS:
        coefficients = _whole_coefficients(whole_a, whole_b, shift, lambda_)
        costs = _costs(whole_a, whole_b, coefficients, shift, lambda_)
        found = _best_partition(n_classes, dict(zip(ranges, costs, strict=True)))
        sets = np.stack([coefficients[ranges.index(r)] for r in found])
        cost = sum(costs[ranges.index(r)] for r in found)
        if best is None or cost < best.cost:
            set_of_class = tuple(i for i, (first, last) in enumerate(found) for _ in range(first, last + 1))
            best = _Partition(WienerFilter(shift, clip_log2, set_of_class, sets.astype(np.int16)), cost)
    assert best is not None
    return best.wiener if best.wiener.coefficients.any() and best.cost < 0 else None


@dataclass(frozen=True, slots=True)
class _Partition:
    wiener: WienerFilter
    cost: float


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
        for value, (kind, y, x) in zip(values, terms, strict=False):
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


def _whole_coefficients(a: _Doubles, b: _Doubles, shift: int, lambda_: float) -> _Doubles:
    """Whole coefficients of least cost, one coordinate after the other, of many problems at once (problems, terms)."""
    n_terms = b.shape[1]
    step = 2.0**-shift
    strengths = np.einsum("ptt->p", a) / n_terms
    ridge = (_RIDGE * strengths + 1e-9)[:, None, None] * np.eye(n_terms)
    k = np.rint(np.linalg.solve(a + ridge, b[:, :, None])[:, :, 0] / step)
    k = np.clip(k, -MAX_COEFFICIENT, MAX_COEFFICIENT)
    a, b = (a + ridge) * step**2, b * step
    slope = np.einsum("pij,pj->pi", a, k) - b
    for _ in range(_N_SWEEPS):
        before = k.copy()
        for t in range(n_terms):
            curve = a[:, t, t]
            ideal = k[:, t] - slope[:, t] / curve
            tried = np.clip([np.zeros_like(ideal), np.floor(ideal), np.ceil(ideal), k[:, t]], -127, MAX_COEFFICIENT)
            moves = tried - k[:, t]
            costs = curve * moves**2 + 2 * moves * slope[:, t] + lambda_ * coefficient_bits(tried)
            move = np.take_along_axis(moves, costs.argmin(axis=0)[None], axis=0)[0]
            slope += a[:, :, t] * move[:, None]
            k[:, t] += move
        if np.array_equal(before, k):
            break
    return k


def coefficient_bits(k: _Doubles) -> _Doubles:
    """About how many bits whole coefficients take: little for a zero, else Exp-Golomb and a sign."""
    magnitudes = np.maximum(np.abs(k), 1)
    bits: _Doubles = np.where(k == 0, _ZERO_BITS, 2 * np.floor(np.log2(magnitudes)) + 3)
    return bits


def _costs(a: _Doubles, b: _Doubles, k: _Doubles, shift: int, lambda_: float) -> _Doubles:
    """The change of the squared error + lambda x bits; coefficients that are not worth it become zeros."""
    w = k * 2.0**-shift
    changes = np.einsum("pi,pij,pj->p", w, a, w) - 2 * np.einsum("pi,pi->p", w, b)
    costs: _Doubles = changes + lambda_ * (coefficient_bits(k).sum(axis=1) + _SET_BITS)
    is_off = costs >= 0
    k[is_off] = 0
    costs[is_off] = lambda_ * _SET_BITS
    return costs


def _best_partition(n_classes: int, costs: dict[tuple[int, int], float]) -> list[tuple[int, int]]:
    """The ranges (first, last) of classes, one after the other, whose costs sum to the least."""
    best: list[tuple[float, list[tuple[int, int]]]] = [(0.0, [])]
    for last in range(n_classes):
        ways = [(best[first][0] + costs[first, last], [*best[first][1], (first, last)]) for first in range(last + 1)]
        best.append(min(ways, key=lambda way: way[0]))
    return best[-1][1]
