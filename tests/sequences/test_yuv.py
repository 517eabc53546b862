from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vvc_nnr.errors import InputError, ShapeError
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.yuv import YuvWriter, count_yuv_pictures, read_yuv

formats = st.builds(
    VideoFormat,
    width=st.integers(1, 17),
    height=st.integers(1, 17),
    bit_depth=st.integers(8, 16),
    chroma_format=st.sampled_from(["400", "420", "422", "444"]),
)
counts = st.none() | st.integers(0, 4)


def write(path, format, *frames):
    with YuvWriter(path, format) as writer:
        for frame in frames:
            writer.write(frame)


def test_golden_bytes_of_an_odd_sized_10_bit_picture(tmp_path):
    luma = np.array([[1, 2, 3], [256, 512, 1023]], np.uint16)
    chroma = np.array([[4, 5]], np.uint16)
    path = tmp_path / "x.yuv"
    write(path, VideoFormat(3, 2, 10), Frame((luma, chroma, chroma + 2), 10, "420"))
    assert path.read_bytes().hex() == "01000200030000010002ff030400050006000700"


@settings(max_examples=60)
@given(format=formats, n_pictures=st.integers(1, 3), start=st.integers(0, 4), count=counts)
def test_round_trip(tmp_path_factory, random_frame, format, n_pictures, start, count):
    path = tmp_path_factory.getbasetemp() / "round_trip.yuv"
    frames = [random_frame(format, seed) for seed in range(n_pictures)]
    write(path, format, *frames)
    assert count_yuv_pictures(path, format) == n_pictures
    wanted = frames[start:] if count is None else frames[start : start + count]
    read = list(read_yuv(path, format, start, count))
    assert [frame.tobytes() for frame in read] == [frame.tobytes() for frame in wanted]
    assert all(frame.format(30) == format for frame in read)


def test_one_picture_is_read_at_a_time(tmp_path, random_frame):
    """The reader is still at the first picture when the file gets a new second one."""
    format = VideoFormat(64, 64)
    path = tmp_path / "x.yuv"
    path.write_bytes(bytes(300 * format.picture_bytes))
    frames = read_yuv(path, format)
    next(frames)
    with open(path, "r+b") as file:
        file.seek(200 * format.picture_bytes)
        file.write(random_frame(format).tobytes())
    assert [frame.planes[0].any() for frame in frames].index(True) == 199


def test_planes_are_writable(tmp_path):
    (tmp_path / "x.yuv").write_bytes(bytes(96))
    (frame,) = read_yuv(tmp_path / "x.yuv", VideoFormat(8, 8))
    frame.planes[0][0, 0] = 1


@pytest.mark.parametrize("n_bytes", [95, 97, 1])
def test_size_that_is_no_whole_number_of_pictures(tmp_path, n_bytes):
    (tmp_path / "x.yuv").write_bytes(bytes(n_bytes))
    with pytest.raises(InputError, match=r"x\.yuv: .* no whole number"):
        count_yuv_pictures(tmp_path / "x.yuv", VideoFormat(8, 8))
    with pytest.raises(InputError, match="no whole number"):
        next(read_yuv(tmp_path / "x.yuv", VideoFormat(8, 8)))


def test_empty_and_missing_files(tmp_path):
    (tmp_path / "x.yuv").touch()
    with pytest.raises(InputError, match="is empty"):
        count_yuv_pictures(tmp_path / "x.yuv", VideoFormat(8, 8))
    with pytest.raises(InputError, match="no such file"):
        count_yuv_pictures(tmp_path / "y.yuv", VideoFormat(8, 8))


def test_sample_above_the_bit_depth_is_named(tmp_path):
    format = VideoFormat(4, 4, 10, "400")
    samples = np.full(32, 1023, "<u2")
    samples[20] = 1024
    (tmp_path / "x.yuv").write_bytes(samples.tobytes())
    frames = read_yuv(tmp_path / "x.yuv", format)
    assert next(frames).planes[0].max() == 1023
    with pytest.raises(InputError, match=r"picture 1 holds a sample of 1024, above 1023: wrong bit depth"):
        next(frames)


@pytest.mark.parametrize("wrong", [VideoFormat(8, 6), VideoFormat(8, 8, 10), VideoFormat(8, 8, 8, "444")])
def test_writer_refuses_another_format_and_leaves_nothing(tmp_path, random_frame, wrong):
    format = VideoFormat(8, 8)
    with pytest.raises(ShapeError, match=r"the file holds 8x8 8 bit 420"):
        write(tmp_path / "x.yuv", format, random_frame(format), random_frame(wrong))
    assert list(tmp_path.iterdir()) == []


def test_writer_refuses_samples_above_the_bit_depth(tmp_path):
    frame = Frame((np.full((2, 2), 1024, np.uint16),), 10, "400")
    with pytest.raises(InputError, match="wrong bit depth"):
        write(tmp_path / "x.yuv", frame.format(30), frame)
    assert list(tmp_path.iterdir()) == []
