from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvc_nnr.errors import UnsupportedError
from vvc_nnr.filters.networks.planes import pack, sample_scale, unpack
from vvc_nnr.sequences.frame import Frame


def same(left, right):
    assert left.format(30) == right.format(30)
    for a, b in zip(left.planes, right.planes, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_order_of_the_planes():
    luma = np.arange(16, dtype=np.uint8).reshape(4, 4)
    frame = Frame((luma, np.full((2, 2), 100, np.uint8), np.full((2, 2), 200, np.uint8)), 8, "420")
    packed = pack(frame)
    assert packed.dtype == np.uint16
    assert packed[:, 0, 0].tolist() == [0, 1, 4, 5, 100, 200]
    assert packed[:, 1, 1].tolist() == [10, 11, 14, 15, 100, 200]


@given(
    width=st.integers(1, 9),
    height=st.integers(1, 9),
    bit_depth=st.sampled_from([8, 10, 16]),
    chroma_format=st.sampled_from(["400", "420"]),
)
def test_unpacking_gives_the_picture_back(random_frame, width, height, bit_depth, chroma_format):
    frame = random_frame(width, height, bit_depth, chroma_format)
    packed = pack(frame)
    assert packed.shape == (6, -(-height // 2), -(-width // 2))
    same(unpack(packed, frame), frame)


def test_odd_sizes_repeat_the_last_row_and_column(random_frame):
    frame = random_frame(5, 3)
    packed = pack(frame)
    luma = frame.planes[0]
    assert packed[1, :, 2].tolist() == [luma[0, 4], luma[2, 4]]
    assert packed[2, 1].tolist() == luma[2, ::2].tolist()
    assert packed[3, 1, 2] == luma[2, 4]


@pytest.mark.parametrize("bit_depth", [8, 10, 16])
def test_grey_pictures_have_flat_chroma_of_half_the_range(random_frame, bit_depth):
    packed = pack(random_frame(4, 4, bit_depth, "400"))
    assert (packed[4:] == 1 << (bit_depth - 1)).all()


@pytest.mark.parametrize(("chroma_format", "named"), [("422", "4:2:2"), ("444", "4:4:4")])
def test_other_chroma_formats_are_refused(random_frame, chroma_format, named):
    with pytest.raises(UnsupportedError, match=named):
        pack(random_frame(4, 4, 8, chroma_format))


def test_the_same_light_is_the_same_value_at_every_depth():
    assert [sample_scale(b) for b in (8, 10, 12, 16)] == [255.75, 1023.0, 4092.0, 65472.0]
    assert {(1 << (b - 1)) / sample_scale(b) for b in range(8, 17)} == {512 / 1023}
