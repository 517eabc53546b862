from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vvc_nnr.errors import BitstreamError, InputError, ShapeError, UnsupportedError
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.y4m import Y4mWriter, count_y4m_pictures, read_y4m, read_y4m_header
from vvc_nnr.sequences.yuv import read_yuv

formats = st.builds(
    VideoFormat,
    width=st.integers(1, 17),
    height=st.integers(1, 17),
    bit_depth=st.integers(8, 16),
    chroma_format=st.sampled_from(["400", "420", "422", "444"]),
    fps=st.sampled_from([Fraction(50), Fraction(30000, 1001)]),
    colour_range=st.sampled_from([None, "limited", "full"]),
    pixel_aspect=st.sampled_from([None, Fraction(1), Fraction(4, 3)]),
)
counts = st.none() | st.integers(0, 4)


def write(path, format, frames):
    with Y4mWriter(path, format) as writer:
        for frame in frames:
            writer.write(frame)


def test_golden_bytes(tmp_path):
    path = tmp_path / "x.y4m"
    format = VideoFormat(3, 1, 8, "420", Fraction(30000, 1001))
    luma, chroma = np.array([[65, 66, 67]], np.uint8), np.array([[68, 69]], np.uint8)
    write(path, format, [Frame((luma, chroma, chroma), 8, "420")] * 2)
    header = b"YUV4MPEG2 W3 H1 F30000:1001 Ip C420\n"
    assert path.read_bytes() == header + 2 * b"FRAME\nABCDEDE"


@settings(max_examples=60)
@given(format=formats, n_pictures=st.integers(0, 3), start=st.integers(0, 4), count=counts)
def test_round_trip(tmp_path_factory, random_frame, format, n_pictures, start, count):
    path = tmp_path_factory.getbasetemp() / "round_trip.y4m"
    frames = [random_frame(format, seed) for seed in range(n_pictures)]
    write(path, format, frames)
    assert read_y4m_header(path) == format
    assert count_y4m_pictures(path) == n_pictures
    wanted = frames[start:] if count is None else frames[start : start + count]
    read = list(read_y4m(path, start, count))
    assert [frame.tobytes() for frame in read] == [frame.tobytes() for frame in wanted]
    assert all(format.holding(frame) == format for frame in read)


@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize("location", [None, "left", "center", "top_left", "top", "bottom_left", "bottom"])
def test_each_chroma_location_is_written_and_read_again(tmp_path, bit_depth, location):
    format = VideoFormat(4, 2, bit_depth, chroma_location=location)
    write(tmp_path / "x.y4m", format, [])
    assert read_y4m_header(tmp_path / "x.y4m") == format


@pytest.mark.parametrize(
    ("pix_fmt", "bit_depth", "chroma_format"),
    [
        ("gray", 8, "400"), ("gray10le", 10, "400"), ("gray16le", 16, "400"),
        ("yuv420p", 8, "420"), ("yuv420p10le", 10, "420"), ("yuv420p16le", 16, "420"),
        ("yuv422p", 8, "422"), ("yuv422p12le", 12, "422"),
        ("yuv444p", 8, "444"), ("yuv444p9le", 9, "444"),
    ],
)  # fmt: skip
def test_reads_what_ffmpeg_writes_and_ffmpeg_reads_what_we_write(tmp_path, ffmpeg, pix_fmt, bit_depth, chroma_format):
    theirs, raw, ours = tmp_path / "theirs.y4m", tmp_path / "theirs.yuv", tmp_path / "ours.y4m"
    picture = "testsrc2=size=48x32:rate=24000/1001,format=yuv444p,crop=37:23:exact=1"
    ffmpeg("-f", "lavfi", "-i", picture, "-frames:v", "3", "-pix_fmt", pix_fmt, "-strict", "-1", theirs)
    ffmpeg("-i", theirs, "-f", "rawvideo", "-pix_fmt", pix_fmt, raw)
    siting = "center" if pix_fmt == "yuv420p" else None
    format = VideoFormat(37, 23, bit_depth, chroma_format, Fraction(24000, 1001), None, siting, Fraction(1))
    assert replace(read_y4m_header(theirs), colour_range=None) == format
    frames = list(read_y4m(theirs))
    assert b"".join(frame.tobytes() for frame in frames) == raw.read_bytes()
    assert [frame.tobytes() for frame in frames] == [frame.tobytes() for frame in read_yuv(raw, format)]
    write(ours, format, frames)
    assert ffmpeg("-i", ours, "-f", "rawvideo", "-pix_fmt", pix_fmt, "-") == raw.read_bytes()
    with av.open(str(ours)) as container:
        assert container.streams.video[0].average_rate == format.fps


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"W4 H2", VideoFormat(4, 2)),
        (
            b"W4 H2 F0:0 Ip A1:1 C420jpeg XYSCSS=420JPEG XCOLORRANGE=LIMITED",
            VideoFormat(4, 2, 8, "420", Fraction(30), "limited", "center", Fraction(1)),
        ),
        (b"W4 H2 F25:1 I? C420paldv", VideoFormat(4, 2, fps=Fraction(25), chroma_location="top_left")),
        (b"W4 H2 XYSCSS=420MPEG2 A0:0 XLENGTH=9", VideoFormat(4, 2, chroma_location="left")),
        (
            b"W4 H2 A40:33 XCOLORRANGE=FULL C420p10 XYSCSS=420P10",
            VideoFormat(4, 2, 10, colour_range="full", pixel_aspect=Fraction(40, 33)),
        ),
        (b"W4 H2 XYSCSS=444P12", VideoFormat(4, 2, 12, "444")),
        (b"W4 H2 H2 C420 XYSCSS=420JPEG", VideoFormat(4, 2, chroma_location="center")),
        (b"C420 H2 W4", VideoFormat(4, 2)),
        (b"W4 H2 Cmono12", VideoFormat(4, 2, 12, "400")),
        (b"W4 H2 C444p16", VideoFormat(4, 2, 16, "444")),
    ],
)
def test_headers(tmp_path, header, expected):
    (tmp_path / "x.y4m").write_bytes(b"YUV4MPEG2 " + header + b"\n")
    assert read_y4m_header(tmp_path / "x.y4m") == expected
    assert list(read_y4m(tmp_path / "x.y4m")) == []


def test_frame_line_may_have_parameters(tmp_path):
    (tmp_path / "x.y4m").write_bytes(b"YUV4MPEG2 W2 H1 Cmono\nFRAME Ip Xabc\nabFRAME\ncd")
    assert [frame.tobytes() for frame in read_y4m(tmp_path / "x.y4m")] == [b"ab", b"cd"]


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", BitstreamError, "x.y4m: the file is empty"),
        (b"YUV4MPEG2 W4 H2\r\nFRAME\r\n" + bytes(12), BitstreamError, "ends with CR LF, must be LF alone.* in header"),
        (b"YUV4MPEG2 W4 H2\nFRAME\r\n" + bytes(12), BitstreamError, "ends with CR LF.* in FRAME line"),
        (b"YUV4MPEG2 W4 H2 F30:0\n", BitstreamError, "F30:0 is no picture rate; must be as in F25:1, or F0:0"),
        (b"YUV4MPEG2 W4 H2 F0:1\n", BitstreamError, "F0:1 is no picture rate"),
        (b"YUV4MPEG2 W4 H2 A4:0\n", BitstreamError, "A4:0 is no pixel aspect; must be as in"),
        (b"YUV4MPEG2 W4 H2 C420p10\nFRAME\n" + bytes(12), BitstreamError, "says C420p10, two bytes .* have one:"),
        (b"YUV4MPEG2 W4 H2 C420p10" + 3 * (b"\nFRAME\n" + bytes(11)) + b"\n", BitstreamError, "pictures have one:"),
        (b"YUV4MPEG2 W4 H2\nFRAME\n" + bytes(24), BitstreamError, "says C420, one byte .* have two:"),
        (b"YUV4MPEG2 W4 H2 Cmono" + 3 * (b"\nFRAME\n" + bytes(15)) + b"\n", BitstreamError, "pictures have two:"),
        (b"RIFF....\n", BitstreamError, "starts with"),
        (b"YUV4MPEG2 W4 H2", BitstreamError, "no end of line"),
        (b"YUV4MPEG2 W4 H2" + b" X" * 4000 + b"\n", BitstreamError, "no end of line"),
        (b"YUV4MPEG2 H2\n", BitstreamError, "picture size"),
        (b"YUV4MPEG2 W0 H2\n", BitstreamError, "picture size"),
        (b"YUV4MPEG2 W4 F25:1\n", BitstreamError, "has no H, which gives"),
        (b"YUV4MPEG2 H4 F25:1\n", BitstreamError, "has no W, which gives"),
        (b"YUV4MPEG2 W99999999 H2\n", BitstreamError, "W99999999 is too large, sides of at most 999999"),
        (b"YUV4MPEG2 W-4 H2\n", BitstreamError, "picture size"),
        (b"YUV4MPEG2 W4 H2 F25\n", BitstreamError, "picture rate"),
        (b"YUV4MPEG2 W4 H2 It\n", UnsupportedError, "interlaced"),
        (b"YUV4MPEG2 W4 H2 C411\n", UnsupportedError, "C411"),
        (b"YUV4MPEG2 W4 H2 C444alpha\n", UnsupportedError, "C444alpha"),
        (b"YUV4MPEG2 W4 H2 C420p17\n", UnsupportedError, "C420p17"),
        (b"YUV4MPEG2 W4 H2 C420p10be\n", UnsupportedError, "C420p10be"),
        (b"YUV4MPEG2 W4 H2 C440\n", UnsupportedError, "C440"),
        (b"YUV4MPEG2 W4 H2 XYSCSS=411\n", UnsupportedError, "XYSCSS=411"),
        (b"YUV4MPEG2 W4 H2 C422 XYSCSS=444\n", BitstreamError, "contradict each other"),
        (b"YUV4MPEG2 W4 H2 W8\n", BitstreamError, "two values for W"),
        (b"YUV4MPEG2 W4 H2 A4/3\n", BitstreamError, "pixel aspect"),
        (b"YUV4MPEG2 W4 H2 XCOLORRANGE=TV\n", BitstreamError, "must be one of FULL, LIMITED"),
        (b"YUV4MPEG2 W4 H2 R90\n", UnsupportedError, "unknown tag 'R90'"),
        (b"YUV4MPEG2 W4 H2 Im\nFRAME Itii\n" + bytes(12), UnsupportedError, "interlaced"),
        (b"YUV4MPEG2 W4 H2\nFRAME It\n" + bytes(12), UnsupportedError, "interlaced picture"),
        (b"YUV4MPEG2 W4 H2\nFRAME W8\n" + bytes(12), UnsupportedError, "unknown tag 'W8' in a FRAME line"),
        (b"YUV4MPEG2 W4 H2\nFRAME\n" + bytes(11), BitstreamError, "truncated, 11 of 12"),
        (b"YUV4MPEG2 W999999 H999999 C444p16\nFRAME\n", BitstreamError, "truncated"),
        (b"YUV4MPEG2 W4 H2\nFRAME\n" + bytes(12) + b"FRA", BitstreamError, "no end of line"),
        (b"YUV4MPEG2 W4 H2\nFRAME\n" + bytes(12) + b"\n", BitstreamError, "must be 'FRAME'"),
        (b"YUV4MPEG2 W2 H1 Cmono10\nFRAME\n\x00\x04\x00\x00", BitstreamError, "wrong bit depth"),
    ],
)
def test_damaged_files(tmp_path, data, error, message):
    (tmp_path / "x.y4m").write_bytes(data)
    with pytest.raises(error, match=message):
        list(read_y4m(tmp_path / "x.y4m"))


@settings(max_examples=150)
@given(cut=st.integers(0, 200), position=st.integers(0, 199), bit=st.integers(0, 7))
def test_each_cut_and_bit_flip_ends_in_pictures_or_a_stated_error(tmp_path_factory, random_frame, cut, position, bit):
    path = tmp_path_factory.getbasetemp() / "hostile.y4m"
    format = VideoFormat(5, 3, 10)
    write(path, format, [random_frame(format, seed) for seed in range(2)])
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1 << bit
    path.write_bytes(data[: len(data) - cut] if cut < len(data) else b"")
    try:
        n_pictures = len(list(read_y4m(path)))
    except (BitstreamError, UnsupportedError):
        return
    assert n_pictures == count_y4m_pictures(path)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_y4m_header(tmp_path / "x.y4m")


def test_writer_refuses_another_format_and_leaves_nothing(tmp_path, random_frame):
    with pytest.raises(ShapeError):
        write(tmp_path / "x.y4m", VideoFormat(8, 8), [random_frame(VideoFormat(8, 8, 10))])
    assert list(tmp_path.iterdir()) == []
