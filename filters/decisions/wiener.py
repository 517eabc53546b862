"""An adaptive Wiener filter behind a network: the encoder fits its coefficients to the picture, the decoder reads them.

A network is one for all pictures; what this picture needs besides is a short linear filter. To a sample f of the
network's output comes a weighted sum of differences to its neighbours, and to those of the decoded picture d:

```
 y = clip(f + ((sum of coefficient * term + half) >> shift))

                 luma                           chroma         term, p and its opposite -p in a diamond around f
 pairs           12, diamond of radius 3        6, radius 2    f(p) + f(-p) - 2 f
 clipped pairs    6, radius 2                                  clip(f(p) - f) + clip(f(-p) - f), to +-2**clip_log2
 decoded pairs    6, radius 2                                  d(p) + d(-p) - 2 f
 decoded          1                             1              d - f
```
Luma has up to eight sets of coefficients, for blocks of 4x4 samples by their activity: smooth areas first, each set for
a range of activity classes; chroma has one. All is computed in whole numbers.

In the bins of a picture the filters come after its decisions (docs/decisions.md); encoder and decoder walk through them
together.

Sources: C.-Y. Tsai et al., Adaptive loop filtering for video coding, IEEE JSTSP 7(6), 2013, for the filter, its sets
and the diamond; J. Taquet et al., Non-linear adaptive loop filter, PCS 2019, for clipped differences.

The encoder looks for the sets, coefficients and shift of least squared error + lambda x bits. Correlations of the terms
with each other (A) and with the error that the network leaves (b) are summed once for each activity class; those of a
range of classes are their sums. Coefficients k then change the squared error by k'Ak - 2k'b. They are found one after
the other, each the best whole number given the rest and the bits that it takes, for all ranges and shifts at once; the
ranges by dynamic programming.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import InputError, ShapeError
from vvc_nnr.filters import _kernels
from vvc_nnr.filters.decisions.adaptive_bins import BinCoder, Context, code_number, expecting
from vvc_nnr.sequences.frame import Plane

BLOCK = 4
"""Side of the blocks whose activity is taken, in samples."""
N_CLASSES = 8
SHIFTS = (5, 6, 7)
"""A coefficient is a whole multiple of 2**-shift."""
MAX_COEFFICIENT = 127
MAX_CLIP_LOG2 = 15
_FIRST_THRESHOLD = 288
"""Activity of 3x3 blocks from which on class 1 begins, at 10 bit: a mean of 2 code values; each class doubles it."""

PAIR, CLIPPED_PAIR, DECODED_PAIR, DECODED = range(4)
Term = tuple[int, int, int]
"""What kind, and how many rows down and columns to the right."""


def _diamond(kind: int, radius: int) -> tuple[Term, ...]:
    """One of each two opposite places in a diamond, row by row from the top."""
    rows, columns = range(-radius, 1), range(-radius, radius + 1)
    return tuple((kind, y, x) for y in rows for x in columns if abs(y) + abs(x) <= radius and (y, x) < (0, 0))


LUMA_TERMS = (
    *_diamond(PAIR, 3),
    *_diamond(CLIPPED_PAIR, 2),
    *_diamond(DECODED_PAIR, 2),
    (DECODED, 0, 0),
)
CHROMA_TERMS = (*_diamond(PAIR, 2), (DECODED, 0, 0))


def terms_of(component: int) -> tuple[Term, ...]:
    """The terms of a component: 0 for luma, 1 and 2 for Cb and Cr."""
    return CHROMA_TERMS if component else LUMA_TERMS


def n_classes_of(component: int) -> int:
    """How many activity classes a component's blocks fall into."""
    return 1 if component else N_CLASSES


@dataclass(frozen=True, slots=True, eq=False)
class WienerFilter:
    """The filter of one component of a picture.

    Attributes:
        shift: Coefficients are multiples of 2**-shift; one of `SHIFTS`.
        clip_log2: Clipped differences are kept within +-2**clip_log2 code values, 0 to 15; chroma has none
            of them and 0.
        set_of_class: The set of each activity class: 0 first, each the same as the one before or the next.
        coefficients: int16 (sets, terms), -127 to 127; a set of zeros leaves its blocks alone.

    Raises:
        InputError: If a value is out of its range.
        ShapeError: If the coefficients are not those of as many sets and terms.
    """

    shift: int
    clip_log2: int
    set_of_class: tuple[int, ...]
    coefficients: NDArray[np.int16]

    def __post_init__(self) -> None:
        if self.shift not in SHIFTS:
            raise InputError(f"a shift of {self.shift}: must be one of {SHIFTS}")
        most_clip_log2 = MAX_CLIP_LOG2 if any(kind == CLIPPED_PAIR for kind, _, _ in self.terms) else 0
        if not 0 <= self.clip_log2 <= most_clip_log2:
            raise InputError(f"a clip_log2 of {self.clip_log2}: must be 0 to {most_clip_log2}")
        steps = np.diff(self.set_of_class, prepend=0)
        if len(self.set_of_class) not in (1, N_CLASSES) or steps[0] != 0 or not set(steps) <= {0, 1}:
            raise InputError(f"sets {self.set_of_class} of classes: must be 1 or {N_CLASSES}, 0 first, rising by one")
        wanted = (self.set_of_class[-1] + 1, len(self.terms))
        if self.coefficients.dtype != np.int16 or self.coefficients.shape != wanted:
            got = f"{self.coefficients.dtype} {self.coefficients.shape}"
            raise ShapeError(f"coefficients {got}: want int16 {wanted} (sets, terms)")
        if max(self.coefficients.max(), -int(self.coefficients.min())) > MAX_COEFFICIENT:
            raise InputError(f"coefficients must be -{MAX_COEFFICIENT} to {MAX_COEFFICIENT}")

    @property
    def terms(self) -> tuple[Term, ...]:
        """What the coefficients weigh: luma's terms, or those of a chroma component, which has one class."""
        return CHROMA_TERMS if len(self.set_of_class) == 1 else LUMA_TERMS


def wiener_filtered(
    filtered: Plane, decoded: Plane, bit_depth: int, wiener: WienerFilter, *, portable: bool = False
) -> Plane:
    """One component behind the network and its Wiener filter.

    Args:
        filtered: The network's output as decided, uint8 or uint16 (height, width).
        decoded: The decoded picture's plane, of the same size and type.
        bit_depth: Of the samples, 8 to 16.
        wiener: The component's filter.
        portable: Without the processor's wider instructions; the result is the same.

    Raises:
        ShapeError: If the planes differ.
        InputError: If the samples have fewer bits than that.
    """
    if bit_depth > 8 * filtered.itemsize:
        raise InputError(f"{filtered.dtype} samples of {bit_depth} bit")
    if (filtered.dtype, filtered.shape) != (decoded.dtype, decoded.shape):
        raise ShapeError(f"planes {filtered.dtype} {filtered.shape} and {decoded.dtype} {decoded.shape} differ")
    classes = activity_classes(filtered, bit_depth, len(wiener.set_of_class))
    return _kernels.wiener(
        np.ascontiguousarray(filtered),
        np.ascontiguousarray(decoded),
        np.array(wiener.set_of_class, np.uint8)[classes],
        np.ascontiguousarray(wiener.coefficients),
        wiener.terms,
        1 << wiener.clip_log2,
        wiener.shift,
        (1 << bit_depth) - 1,
        portable,
    )


def activity_classes(plane: Plane, bit_depth: int, n_classes: int = N_CLASSES) -> NDArray[np.uint8]:
    """The class of each block of 4x4 samples by the mean second difference in it and the eight blocks around it.

    Args:
        plane: uint8 or uint16 (height, width).
        bit_depth: Of the samples, 8 to 16.
        n_classes: 1 puts all blocks into class 0.

    Returns:
        (rows, columns) of blocks; those at the right and bottom may be cut off. The border's blocks are repeated
        outwards.
    """
    blocks = -(-plane.shape[0] // BLOCK), -(-plane.shape[1] // BLOCK)
    if n_classes == 1:
        return np.zeros(blocks, np.uint8)
    activity = np.pad(_kernels.block_activity(np.ascontiguousarray(plane)), 1, mode="edge")
    for axis in (0, 1):
        n = activity.shape[axis] - 2
        activity = sum(activity.take(range(i, i + n), axis) for i in range(3))  # type: ignore[assignment]
    thresholds = (_FIRST_THRESHOLD << np.arange(n_classes - 1)) << bit_depth >> 10
    return np.searchsorted(thresholds, activity, side="right").astype(np.uint8)


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
        filters[component] = code_filter(coder, chroma if component else luma, component, wiener)


def code_filter(
    coder: BinCoder, contexts: WienerContexts, component: int, wiener: WienerFilter | None
) -> WienerFilter | None:
    """Codes the filter of one component, or that it has none; a decoder ignores `wiener`. Returns it."""
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
