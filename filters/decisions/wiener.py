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

Sources: C.-Y. Tsai et al., Adaptive loop filtering for video coding, IEEE JSTSP 7(6), 2013, for the filter, its sets
and the diamond; J. Taquet et al., Non-linear adaptive loop filter, PCS 2019, for clipped differences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import InputError, ShapeError
from vvc_nnr.filters import _kernels
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
