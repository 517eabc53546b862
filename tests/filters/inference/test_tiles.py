from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvc_nnr.errors import InputError
from vvc_nnr.filters.inference.tiles import check_tile, tiles_for, tiles_of
from vvc_nnr.filters.networks.layout import Layout

sides = st.integers(1, 70)


@given(height=sides, width=sides, side=st.integers(8, 80), radius=st.integers(0, 12), at_least=st.integers(1, 5))
def test_tiles_write_everything_once_and_read_all_that_reaches_it(height, width, side, radius, at_least):
    tiles = tiles_of(height, width, side, radius, at_least=at_least)
    written = np.zeros((height, width), int)
    for tile in tiles:
        top, left, n_high, n_wide = tile.written
        assert 0 < n_high <= side
        assert 0 < n_wide <= side
        written[top : top + n_high, left : left + n_wide] += 1
        read_top, read_left, read_high, read_wide = tile.read
        assert 0 <= read_top <= max(0, top - radius)
        assert 0 <= read_left <= max(0, left - radius)
        assert min(height, top + n_high + radius) <= read_top + read_high <= height
        assert min(width, left + n_wide + radius) <= read_left + read_wide <= width
        assert tile.place == (top - read_top, left - read_left)
    assert (written == 1).all()
    assert len({tile.read[2:] for tile in tiles}) == 1


def test_there_are_as_many_tiles_as_threads():
    assert len(tiles_of(540, 960, 1024, 9)) == 1
    assert [tile.written for tile in tiles_of(540, 960, 1024, 9, at_least=2)] == [(0, 0, 270, 960), (270, 0, 270, 960)]
    assert len(tiles_of(540, 960, 500, 9, at_least=4)) == 4
    assert len(tiles_of(1, 8, 100, 2, at_least=4)) == 1


def test_a_tile_too_small():
    check_tile(16)
    check_tile(None)
    with pytest.raises(InputError, match="tile of 15 luma samples: must be at least 16"):
        check_tile(15)


@given(
    height=sides,
    width=sides,
    side=st.integers(1, 80),
    reach=st.integers(0, 12),
    align=st.sampled_from([1, 2, 4, 8]),
    at_least=st.integers(1, 5),
)
def test_tiles_of_a_strided_network_lie_as_in_the_whole_picture(height, width, side, reach, align, at_least):
    layout = Layout("y", align=align)
    found = tiles_for(layout, reach, height, width, side, at_least=at_least)
    written = np.zeros((height, width), int)
    full = [align * -(-length // align) for length in (height, width)]
    for tile in found:
        top, left, n_high, n_wide = tile.written
        written[top : top + n_high, left : left + n_wide] += 1
        assert not any(length % align for length in tile.read)
        for begin, length, first, n, whole in zip(
            tile.written[:2], tile.written[2:], tile.read[:2], tile.read[2:], full, strict=True
        ):
            assert first <= max(0, begin - reach)
            assert first + n >= min(whole, begin + length + reach)
            assert first >= 0
            assert first + n <= whole
    assert (written == 1).all()


def test_patches_write_everything_once():
    layout = Layout("yuv420-packed", patch=(72, 72), overlap=4)
    found = tiles_for(layout, 0, 100, 130, 10)
    assert [tile.read for tile in found] == [(top, left, 64, 64) for top in (0, 64) for left in (0, 64, 128)]
    assert found[-1].written == (64, 128, 36, 2)


def test_a_network_that_sees_the_whole_picture_gets_no_tiles():
    layout = Layout("y")
    assert len(tiles_for(layout, math.inf, 40, 60, 60, at_least=4)) == 1
    with pytest.raises(InputError, match=r"planes of 60x40 are larger than a tile's 59"):
        tiles_for(layout, math.inf, 40, 60, 59)
