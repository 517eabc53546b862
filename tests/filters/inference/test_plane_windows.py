from __future__ import annotations

import numpy as np
import pytest

from vvc_nnr.errors import UnsupportedError, VvcNnrError
from vvc_nnr.filters.inference.tiles import Tile, empty_like, write_samples
from vvc_nnr.filters.networks.layout import Layout
from vvc_nnr.filters.networks.planes import PackedGrid, check_format, pack, sample_scale, unpack

SIZES = [(40, 24), (39, 23), (1, 1), (2, 7), (131, 5)]
FORMATS = [(8, "420"), (10, "420"), (16, "420"), (8, "400"), (10, "400")]


def windows(height, width):
    yield 0, 0, height, width
    top, left = height // 2, width // 3
    yield top, left, height - top, width - left
    yield 0, left, (height + 1) // 2, 1


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize(("bit_depth", "chroma_format"), FORMATS)
def test_windows_are_cut_from_the_packed_picture(random_frame, width, height, bit_depth, chroma_format, portable):
    frame = random_frame(width, height, bit_depth, chroma_format)
    whole = pack(frame).astype(np.float32) / np.float32(sample_scale(bit_depth))
    for top, left, n_high, n_wide in windows(*whole.shape[1:]):
        planes = PackedGrid(frame, sample_scale(bit_depth), portable).read((top, left, n_high, n_wide))
        np.testing.assert_array_equal(planes, whole[:, top : top + n_high, left : left + n_wide])


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize(("bit_depth", "chroma_format"), FORMATS)
def test_values_are_rounded_half_to_even_and_clipped(random_frame, width, height, bit_depth, chroma_format, portable):
    frame = random_frame(width, height, bit_depth, chroma_format)
    scale, peak = sample_scale(bit_depth), (1 << bit_depth) - 1
    shape = pack(frame).shape
    rng = np.random.default_rng(3)
    # Quarters of a sample hit the midpoints; a tenth of the values lie outside the range.
    values = (rng.integers(-peak // 4, 4 * peak + peak // 4, shape) / 4 / scale).astype(np.float32)
    expected = unpack(np.clip(np.rint(values * np.float32(scale)), 0, peak).astype(np.uint16), frame)
    out = empty_like(frame)
    for top, left, n_high, n_wide in reversed(list(windows(*shape[1:]))):
        read = (max(0, top - 1), left, shape[1] - max(0, top - 1), shape[2] - left)
        tile = Tile((top, left, n_high, n_wide), read)
        part = values[:, read[0] :, read[1] :]
        write_samples(part, tile, out, scale, portable=portable)
    assert out.format(30) == frame.format(30)
    for a, b in zip(out.planes, expected.planes, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("plane", range(6))
@pytest.mark.parametrize("chroma_format", ["400", "420"])
def test_a_value_that_is_no_number_is_noticed_on_every_plane(random_frame, value, plane, chroma_format):
    frame = random_frame(13, 9, 10, chroma_format)
    values = np.full((6, 5, 7), 0.5, np.float32)
    whole = Tile((0, 0, 5, 7), (0, 0, 5, 7))
    write_samples(values, whole, empty_like(frame), 1023)
    values[plane, 4, 6] = value
    with pytest.raises(VvcNnrError, match="not finite"):
        write_samples(values, whole, empty_like(frame), 1023)


def test_huge_values_are_clipped(random_frame):
    out = empty_like(random_frame(4, 4))
    write_samples(np.full((6, 2, 2), 3e38, np.float32), Tile((0, 0, 2, 2), (0, 0, 2, 2)), out, 1023)
    assert all((plane == 1023).all() for plane in out.planes)


def test_planes_that_are_no_whole_arrays(random_frame):
    frame = random_frame(40, 24)
    turned = type(frame)(tuple(np.asfortranarray(p) for p in frame.planes), 10, "420")
    read = [PackedGrid(each, 1023).read((0, 0, 12, 20)) for each in (turned, frame)]
    np.testing.assert_array_equal(*read)


@pytest.mark.parametrize("window", [(0, 0, 13, 20), (-1, 0, 2, 2), (0, 19, 1, 2), (0, 0, 0, 1)])
def test_a_window_outside_the_picture_is_refused(random_frame, window):
    with pytest.raises(ValueError, match="window inside"):
        PackedGrid(random_frame(40, 24), 1023).read(window)


@pytest.mark.parametrize("chroma_format", ["422", "444"])
def test_other_formats_are_refused(random_frame, chroma_format):
    with pytest.raises(UnsupportedError, match="4:2:0 and 4:0:0"):
        check_format(random_frame(16, 16, 8, chroma_format), Layout("yuv420-packed"))
