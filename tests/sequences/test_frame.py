from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvc_nnr.errors import InputError, ShapeError
from vvc_nnr.sequences.frame import Frame, VideoFormat


@pytest.mark.parametrize(
    ("chroma_format", "shapes"),
    [
        ("400", ((5, 7),)),
        ("420", ((5, 7), (3, 4), (3, 4))),
        ("422", ((5, 7), (5, 4), (5, 4))),
        ("444", ((5, 7), (5, 7), (5, 7))),
    ],
)
def test_odd_sizes_round_chroma_up(chroma_format, shapes):
    format = VideoFormat(7, 5, 8, chroma_format)
    assert format.plane_shapes == shapes
    assert format.picture_bytes == sum(h * w for h, w in shapes)
    assert VideoFormat(7, 5, 9, chroma_format).picture_bytes == 2 * format.picture_bytes


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 0},
        {"height": -1},
        {"bit_depth": 7},
        {"bit_depth": 17},
        {"chroma_format": "411"},
        {"fps": 0},
        {"colour_range": "tv"},
        {"chroma_location": "centre"},
        {"pixel_aspect": 0},
    ],
)
def test_format_refuses_values_outside_its_ranges(wrong):
    with pytest.raises(InputError):
        VideoFormat(**{"width": 8, "height": 8, **wrong})


@pytest.mark.parametrize(
    ("planes", "bit_depth", "chroma_format"),
    [
        ((), 8, "400"),
        ((np.zeros((4, 4), np.uint8),), 8, "420"),
        ((np.zeros((4, 4), np.uint8),), 10, "400"),
        ((np.zeros((4, 4), np.uint16),), 8, "400"),
        ((np.zeros((4, 4, 3), np.uint8),), 8, "400"),
        ((np.zeros((5, 4), np.uint8), np.zeros((2, 2), np.uint8), np.zeros((3, 2), np.uint8)), 8, "420"),
    ],
)
def test_frame_refuses_planes_that_do_not_follow_from_its_format(planes, bit_depth, chroma_format):
    with pytest.raises(ShapeError):
        Frame(planes, bit_depth, chroma_format)


def test_format_says_the_rate_that_is_given(random_frame):
    frame = random_frame(VideoFormat(6, 4, 10))
    assert frame.format(25) == frame.format(Fraction(25)) == VideoFormat(6, 4, 10, fps=Fraction(25))
    assert isinstance(frame.format(25).fps, Fraction)
    with pytest.raises(TypeError, match="fps"):
        frame.format()
    with pytest.raises(InputError, match=r"29\.97 pictures per second"):
        frame.format(29.97)


def test_bit_depth_down_rounds_and_clips():
    frame = Frame((np.array([[0, 1, 2, 5, 6, 1021, 1022, 1023]], np.uint16),), 10, "400")
    assert frame.to_bit_depth(8).planes[0].tolist() == [[0, 0, 1, 1, 2, 255, 255, 255]]
    assert frame.to_bit_depth(8).planes[0].dtype == np.uint8


@given(low=st.integers(8, 16), high=st.integers(8, 16), seed=st.integers(0, 9))
def test_bit_depth_up_and_down_again_is_exact(random_frame, low, high, seed):
    low, high = min(low, high), max(low, high)
    frame = random_frame(VideoFormat(6, 4, low), seed)
    again = frame.to_bit_depth(high).to_bit_depth(low)
    assert again.format(30) == frame.format(30)
    assert again.tobytes() == frame.tobytes()


@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    more=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    chroma_format=st.sampled_from(["400", "420", "422", "444"]),
)
def test_pad_then_crop_is_exact(random_frame, size, more, chroma_format):
    frame = random_frame(VideoFormat(*size, 10, chroma_format))
    padded = frame.padded(size[0] + more[0], size[1] + more[1])
    assert (padded.width, padded.height) == (size[0] + more[0], size[1] + more[1])
    assert (padded.planes[0][:, -1] == padded.planes[0][:, size[0] - 1]).all()
    assert padded.cropped(*size).tobytes() == frame.tobytes()


def test_pad_and_crop_refuse_the_wrong_direction(random_frame):
    frame = random_frame(VideoFormat(8, 8))
    with pytest.raises(ShapeError):
        frame.padded(7, 9)
    with pytest.raises(ShapeError):
        frame.cropped(9, 7)
