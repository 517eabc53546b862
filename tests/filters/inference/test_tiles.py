from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvc_nnr.errors import InputError
from vvc_nnr.filters.inference.tiles import half_side, tiles_of

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


def test_a_side_in_luma_samples():
    assert half_side(512, 100, 100) == 256
    assert half_side(None, 100, 200) == 200
    with pytest.raises(InputError, match="tile of 15 luma samples: must be at least 16"):
        half_side(15, 100, 100)
