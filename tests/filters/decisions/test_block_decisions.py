from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vvc_nnr.errors import InputError, ShapeError
from vvc_nnr.filters.decisions.block_decisions import (
    BLOCK_SIZES,
    MAX_STRENGTH,
    SCALES,
    UNIT_CHOICE,
    Correction,
    Decisions,
    apply_decisions,
    block_grid,
    switched_off,
)
from vvc_nnr.sequences.frame import CHROMA_SHIFTS, Frame

MakeFrame = Callable[..., Frame]


def random_correction(frame: Frame, seed: int = 0, strength: float = 20) -> Correction:
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(0, strength, plane.shape).astype(np.float32) for plane in frame.planes)


def random_decisions(frame: Frame, block_size: int, seed: int = 0) -> Decisions:
    rng = np.random.default_rng(seed)
    grid = block_grid(frame.width, frame.height, block_size)
    strengths = tuple(int(s) for s in rng.integers(1, MAX_STRENGTH + 1, len(frame.planes)))
    maps = tuple(rng.integers(0, len(SCALES), grid).astype(np.uint8) for _ in frame.planes)
    return Decisions(block_size, strengths, maps)


def sample_by_sample(frame: Frame, correction: Correction, decisions: Decisions) -> Frame:
    """The rule as it is written down: float32, a product, a sum, one rounding half to even."""
    dx, dy = CHROMA_SHIFTS.get(frame.chroma_format, (0, 0))
    peak = (1 << frame.bit_depth) - 1
    planes = []
    for c, plane in enumerate(frame.planes):
        shifts = (dy, dx) if c else (0, 0)
        output = np.empty_like(plane)
        for y, x in np.ndindex(plane.shape):
            block = decisions.choices[c][
                (y << shifts[0]) // decisions.block_size, (x << shifts[1]) // decisions.block_size
            ]
            scale = np.float32(decisions.strengths[c] / 16 * SCALES[block])
            value = np.float32(plane[y, x]) + scale * correction[c][y, x]
            output[y, x] = min(max(round(float(value)), 0), peak)
        planes.append(output)
    return Frame(tuple(planes), frame.bit_depth, frame.chroma_format)


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
@pytest.mark.parametrize(
    ("width", "height", "bit_depth", "chroma_format"),
    [
        (130, 67, 10, "420"),
        (129, 65, 8, "420"),
        (1, 1, 10, "420"),
        (70, 40, 12, "400"),
        (67, 66, 10, "444"),
        (66, 67, 10, "422"),
    ],
)
def test_each_block_is_filtered_as_decided(
    random_frame: MakeFrame, width: int, height: int, bit_depth: int, chroma_format: str, block_size: int
) -> None:
    frame = random_frame(width, height, bit_depth, chroma_format)
    correction, decisions = random_correction(frame), random_decisions(frame, block_size)
    expected = sample_by_sample(frame, correction, decisions)
    for a, b in zip(apply_decisions(frame, correction, decisions).planes, expected.planes, strict=True):
        np.testing.assert_array_equal(a, b)


def test_switched_off_leaves_the_picture(random_frame: MakeFrame) -> None:
    frame = random_frame(130, 67)
    off = switched_off(frame)
    assert off.is_off
    for a, b in zip(apply_decisions(frame, random_correction(frame), off).planes, frame.planes, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_picture_is_off_where_strengths_or_maps_say_so() -> None:
    maps = tuple(np.full((2, 2), c, np.uint8) for c in (0, UNIT_CHOICE, 0))
    assert Decisions(64, (16, 0, 3), maps).is_off
    assert not Decisions(64, (16, 1, 3), maps).is_off


ONE = np.zeros((1, 1), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((32, (0,), (ONE,)), InputError, "blocks of 32: must be one of"),
        ((64, (0, 0, 0), (ONE,)), ShapeError, "3 strengths and 1 maps"),
        ((64, (0, 0), (ONE, ONE)), ShapeError, "want 1 or 3"),
        ((64, (33,), (ONE,)), InputError, "must be 0 to 32"),
        ((64, (-1,), (ONE,)), InputError, "must be 0 to 32"),
        ((64, (1,), (ONE[0],)), ShapeError, "want uint8"),
        ((64, (1,), (ONE.astype(np.int64),)), ShapeError, "want uint8"),
        ((64, (1, 1, 1), (ONE, ONE, np.zeros((2, 1), np.uint8))), ShapeError, "all equal"),
        ((64, (1,), (ONE + len(SCALES),)), InputError, "choices must be below"),
    ],
)
def test_decisions_that_make_no_sense(
    arguments: tuple[int, tuple[int, ...], tuple[np.ndarray, ...]], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        Decisions(*arguments)


def test_decisions_for_another_picture(random_frame: MakeFrame) -> None:
    frame, other = random_frame(130, 67), random_frame(130, 64)
    with pytest.raises(ShapeError, match=r"3 maps \(1, 3\), want 3 maps \(2, 3\)"):
        apply_decisions(frame, random_correction(frame), random_decisions(other, 64))
    with pytest.raises(ShapeError, match="want 3 maps"):
        apply_decisions(frame, random_correction(frame), random_decisions(random_frame(130, 67, 10, "400"), 64))


def test_a_correction_for_another_picture(random_frame: MakeFrame) -> None:
    frame = random_frame(130, 67)
    wrong = random_correction(random_frame(130, 64)), tuple(p.astype(np.float64) for p in random_correction(frame))
    for correction in wrong:
        with pytest.raises(ShapeError, match="want float32 planes"):
            apply_decisions(frame, correction, switched_off(frame))  # type: ignore[arg-type]
