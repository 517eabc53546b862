"""The Wiener filter sample by sample, as the module's head says it, against the kernel; its parts' ranges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from vvc_nnr.errors import InputError, ShapeError
from vvc_nnr.filters.decisions.wiener import (
    CHROMA_TERMS,
    LUMA_TERMS,
    MAX_COEFFICIENT,
    N_CLASSES,
    SHIFTS,
    WienerFilter,
    activity_classes,
    wiener_filtered,
)
from vvc_nnr.sequences.frame import Frame, Plane

MakeFrame = Callable[..., Frame]
MakeWiener = Callable[..., WienerFilter]
SIZES = [(1, 1), (3, 2), (4, 4), (5, 9), (67, 33), (130, 18)]


def repeated(plane: Plane, y: int, x: int) -> int:
    """A sample of a plane whose border is repeated outwards."""
    return int(plane[min(max(y, 0), plane.shape[0] - 1), min(max(x, 0), plane.shape[1] - 1)])


def naive_classes(plane: Plane, bit_depth: int) -> NDArray[np.int64]:
    height, width = plane.shape
    blocks = np.zeros((-(-height // 4), -(-width // 4)), int)
    for y, x in np.ndindex(height, width):
        sides = [(0, -1, 0, 1), (-1, 0, 1, 0)]
        second = [
            2 * int(plane[y, x]) - repeated(plane, y + a, x + b) - repeated(plane, y + c, x + d) for a, b, c, d in sides
        ]
        blocks[y // 4, x // 4] += abs(second[0]) + abs(second[1])
    classes = np.zeros_like(blocks)
    for y, x in np.ndindex(blocks.shape):
        activity = sum(repeated(blocks, y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1))
        limits = [144 * 2 * 2**k * 2**bit_depth // 1024 for k in range(N_CLASSES - 1)]
        classes[y, x] = sum(activity >= limit for limit in limits)
    return classes


def naive_filtered(filtered: Plane, decoded: Plane, bit_depth: int, wiener: WienerFilter) -> Plane:
    is_luma = len(wiener.set_of_class) > 1
    classes = naive_classes(filtered, bit_depth)
    clip = 2**wiener.clip_log2
    out = np.empty_like(filtered)
    for y, x in np.ndindex(filtered.shape):
        f, total = int(filtered[y, x]), 0
        chosen = wiener.set_of_class[classes[y // 4, x // 4]] if is_luma else 0
        for k, (kind, dy, dx) in zip(
            wiener.coefficients[chosen].tolist(), LUMA_TERMS if is_luma else CHROMA_TERMS, strict=True
        ):
            plane = filtered if kind < 2 else decoded
            a, b = repeated(plane, y + dy, x + dx) - f, repeated(plane, y - dy, x - dx) - f
            if kind == 1:
                a, b = (max(-clip, min(clip, each)) for each in (a, b))
            total += k * (a if kind == 3 else a + b)
        value = f + (total + 2 ** (wiener.shift - 1)) // 2**wiener.shift
        out[y, x] = max(0, min(value, 2**bit_depth - 1))
    return out


def graded(plane: Plane) -> Plane:
    """Contrast that rises from left to right, so that all classes are there."""
    shades = plane * np.linspace(0, 1, plane.shape[1]) ** 3
    return shades.astype(plane.dtype)


@pytest.mark.parametrize("component", [0, 1])
@pytest.mark.parametrize("bit_depth", [8, 10, 16])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_kernel_sample_by_sample(
    random_frame: MakeFrame, random_wiener: MakeWiener, width: int, height: int, bit_depth: int, component: int
) -> None:
    filtered, decoded = (graded(random_frame(width, height, bit_depth, "400", seed).planes[0]) for seed in (1, 2))
    wiener = random_wiener(component, seed=width, full=True)
    expected = naive_filtered(filtered, decoded, bit_depth, wiener)
    assert width < 60 or (expected != filtered).mean() > 0.5
    for portable in (False, True):
        np.testing.assert_array_equal(
            wiener_filtered(filtered, decoded, bit_depth, wiener, portable=portable), expected
        )


def test_the_largest_sums_do_not_overflow() -> None:
    """A black sample amid white ones, and the other way round; the sums are clipped to one sample beside them."""
    row = np.full((1, len(LUMA_TERMS)), MAX_COEFFICIENT, np.int16)
    wiener = WienerFilter(5, 15, (0,) * N_CLASSES, row)
    amid = np.full((9, 9), 65535, np.uint16)
    decoded = amid.copy()
    amid[4, 4] = 0
    for f, d in ((amid, decoded), (65535 - amid, 65535 - decoded)):
        np.testing.assert_array_equal(wiener_filtered(f, d, 16, wiener), naive_filtered(f, d, 16, wiener))


def test_zeros_leave_the_picture(random_frame: MakeFrame) -> None:
    filtered, decoded = (random_frame(50, 40, 10, "400", seed).planes[0] for seed in (1, 2))
    wiener = WienerFilter(6, 4, (0,) * N_CLASSES, np.zeros((1, len(LUMA_TERMS)), np.int16))
    np.testing.assert_array_equal(wiener_filtered(filtered, decoded, 10, wiener), filtered)


def test_planes_need_not_be_contiguous(random_frame: MakeFrame, random_wiener: MakeWiener) -> None:
    filtered, decoded = (random_frame(80, 60, 10, "400", seed).planes[0] for seed in (1, 2))
    wiener = random_wiener(0)
    parts = filtered[::2, 3::3], decoded[::2, 3::3]
    expected = wiener_filtered(*(np.ascontiguousarray(part) for part in parts), 10, wiener)
    np.testing.assert_array_equal(wiener_filtered(*parts, 10, wiener), expected)


@pytest.mark.parametrize("bit_depth", [8, 10, 12])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_classes(random_frame: MakeFrame, width: int, height: int, bit_depth: int) -> None:
    ramp = graded(random_frame(width, height, bit_depth, "400").planes[0])
    np.testing.assert_array_equal(activity_classes(ramp, bit_depth), naive_classes(ramp, bit_depth))


def test_every_class_is_there(random_frame: MakeFrame) -> None:
    ramp = graded(random_frame(400, 40, 10, "400").planes[0])
    assert set(activity_classes(ramp, 10).ravel()) == set(range(N_CLASSES))
    assert not activity_classes(ramp, 10, 1).any()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"shift": 4}, InputError, "a shift of 4: must be one of"),
        ({"clip_log2": 16}, InputError, "a clip_log2 of 16"),
        ({"clip_log2": -1}, InputError, "a clip_log2 of -1"),
        ({"set_of_class": (0,)}, InputError, "a clip_log2 of 4: must be 0 to 0"),
        ({"set_of_class": (0, 0)}, InputError, "must be 1 or 8"),
        ({"set_of_class": (1,) * 8}, InputError, "0 first, rising by one"),
        ({"set_of_class": (0, 0, 1, 1, 0, 0, 0, 0)}, InputError, "rising by one"),
        ({"set_of_class": (0, 0, 2, 2, 2, 2, 2, 2)}, InputError, "rising by one"),
        ({"set_of_class": (0, 0, 0, 0, 0, 0, 0, 1)}, ShapeError, r"want int16 \(2, 25\)"),
        ({"set_of_class": (0,), "clip_log2": 0}, ShapeError, r"want int16 \(1, 7\)"),
        ({"coefficients": np.zeros((1, 25), np.int32)}, ShapeError, r"int32 \(1, 25\): want int16"),
        ({"coefficients": np.full((1, 25), 128, np.int16)}, InputError, "must be -127 to 127"),
        ({"coefficients": np.full((1, 25), -32768, np.int16)}, InputError, "must be -127 to 127"),
    ],
)
def test_values_out_of_range(changes: dict[str, object], error: type[Exception], message: str) -> None:
    good = {"shift": 6, "clip_log2": 4, "set_of_class": (0,) * 8, "coefficients": np.zeros((1, 25), np.int16)}
    WienerFilter(**good)  # type: ignore[arg-type]
    with pytest.raises(error, match=message):
        WienerFilter(**good | changes)  # type: ignore[arg-type]


def test_planes_that_do_not_fit(random_frame: MakeFrame, random_wiener: MakeWiener) -> None:
    a, b = random_frame(20, 20, 10, "400").planes[0], random_frame(20, 18, 10, "400").planes[0]
    for other in (b, a.astype(np.uint8)):
        with pytest.raises(ShapeError, match="differ"):
            wiener_filtered(a, other, 10, random_wiener(0))
    with pytest.raises(InputError, match="uint8 samples of 10 bit"):
        wiener_filtered(a.astype(np.uint8), a.astype(np.uint8), 10, random_wiener(0))


def test_the_terms_are_those_of_the_table() -> None:
    assert [sum(kind == each for each, _, _ in LUMA_TERMS) for kind in range(4)] == [12, 6, 6, 1]
    assert [sum(kind == each for each, _, _ in CHROMA_TERMS) for kind in range(4)] == [6, 0, 0, 1]
    assert SHIFTS == (5, 6, 7)
