"""How far an input of a network can change its output, measured where no one says it.

A cell of the input (`align` samples high and wide, so that every phase of a strided network is in it) is changed, and
what changes in the output is looked at. The change is large, several are tried, and one of them is NaN where that goes
through every operation: a ReLU that happens to be off then hides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Run: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.floating]]
"""The network on (C, height, width)."""
SIDES = (32, 64, 128, 256)
"""Of the pictures that are tried, until two agree; a network that reaches across the largest counts as one that needs
whole pictures. Taps of one layer that lie further from each other than half of that are not seen."""
_N_TRIES = 3
_TOLERANCE = 1e-6


def measured_reach(run: Run, n_inputs: int, align: int = 1) -> float:
    """Samples of the input's planes, infinite for a network that looks at whole pictures or at where it is in them.

    Args:
        run: The network; it is run on pictures whose sides are multiples of `align`.
        n_inputs: Channels that it takes.
        align: What the sides must be multiples of.
    """
    rng = np.random.default_rng(0)
    before: int | None = None
    for side in SIDES:
        cells = max(3, side // align) | 1
        picture = rng.uniform(0, 1, (n_inputs, cells * align, cells * align)).astype(np.float32)
        reach = _reach_in(run, picture, cells // 2 * align, align, rng)
        if reach == before and reach < cells // 2 * align:
            return reach if _is_same_everywhere(run, picture, reach, align) else math.inf
        before = reach
    return math.inf


def _reach_in(run: Run, picture: NDArray[np.float32], begin: int, align: int, rng: np.random.Generator) -> int:
    cell = slice(begin, begin + align)
    before = run(picture)
    touched = np.zeros(picture.shape[1:], bool)
    for change in (*rng.uniform(-100, 100, _N_TRIES), math.nan):
        other = picture.copy()
        other[:, cell, cell] += change * rng.uniform(0.5, 1, (len(picture), align, align)).astype(np.float32)
        after = run(other)
        limit = _TOLERANCE * (1 + np.abs(before).max())
        touched |= ~(np.abs(after - before) <= limit).all(axis=0)
    rows, columns = np.flatnonzero(touched.any(axis=1)), np.flatnonzero(touched.any(axis=0))
    if not len(rows):
        return 0
    ends = begin + align - 1
    return int(max(0, begin - rows[0], rows[-1] - ends, begin - columns[0], columns[-1] - ends))


def _is_same_everywhere(run: Run, picture: NDArray[np.float32], reach: int, align: int) -> bool:
    """Whether a part of a picture gives what the picture gives there, apart from the part's borders."""
    whole, part = run(picture), run(np.ascontiguousarray(picture[:, align:, align:]))
    inner = slice(reach, part.shape[1])
    expected = whole[:, align:, align:][:, inner, inner]
    return bool(np.allclose(part[:, inner, inner], expected, rtol=1e-4, atol=1e-4 * (1 + np.abs(expected).max())))
