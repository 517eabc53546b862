from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.sequences.frame import VideoFormat
from vvc_nnr.sequences.images import frame_to_rgb
from vvc_nnr.sequences.video import probe_video, read_video
from vvc_nnr.sequences.y4m import Y4mWriter
from vvc_nnr.sequences.yuv import read_yuv


def samples_of(format):
    """The format without what does not change samples."""
    return replace(format, colour_range=None, pixel_aspect=None)


@pytest.fixture
def coded(tmp_path, ffmpeg, random_frame):
    """Codes random pictures without loss by ffmpeg; returns the file and the pictures."""

    def code(format: VideoFormat, pix_fmt: str, n_pictures: int = 3):
        frames = [random_frame(format, seed) for seed in range(n_pictures)]
        with Y4mWriter(tmp_path / "in.y4m", format) as writer:
            for frame in frames:
                writer.write(frame)
        path = tmp_path / "coded.mkv"
        ffmpeg("-i", tmp_path / "in.y4m", "-c:v", "ffv1", "-strict", "-2", "-pix_fmt", pix_fmt, path)
        return path, frames

    return code


@pytest.mark.parametrize(
    ("bit_depth", "chroma_format", "pix_fmt"),
    [
        (8, "400", "gray"), (10, "400", "gray10le"), (8, "420", "yuv420p"), (10, "420", "yuv420p10le"),
        (9, "422", "yuv422p9le"), (12, "444", "yuv444p12le"), (16, "420", "yuv420p16le"),
    ],
)  # fmt: skip
def test_planar_pictures_are_exact(coded, bit_depth, chroma_format, pix_fmt):
    format = VideoFormat(37, 23, bit_depth, chroma_format, Fraction(30000, 1001))
    path, frames = coded(format, pix_fmt)
    assert samples_of(probe_video(path).format) == format
    assert [frame.tobytes() for frame in read_video(path)] == [frame.tobytes() for frame in frames]


def test_start_and_count(coded):
    path, frames = coded(VideoFormat(16, 16), "yuv420p", 5)
    for start, count in [(0, 2), (2, 2), (4, 9), (7, 1), (1, 0)]:
        expected = [frame.tobytes() for frame in frames[start : start + count]]
        assert [frame.tobytes() for frame in read_video(path, start, count)] == expected


@pytest.mark.parametrize(
    ("pix_fmt", "codec", "bit_depth", "chroma_format"),
    [
        ("nv12", "rawvideo", 8, "420"), ("yuyv422", "rawvideo", 8, "422"), ("yuva444p", "ffv1", 8, "444"),
        ("yuv420p10be", "rawvideo", 10, "420"), ("yuv411p", "ffv1", 8, "422"), ("yuv440p", "ffv1", 8, "444"),
        ("bgr0", "ffv1", 8, "444"), ("gbrp10le", "ffv1", 10, "444"), ("pal8", "rawvideo", 8, "444"),
        ("ya8", "rawvideo", 8, "400"), ("yuvj420p", "mjpeg", 8, "420"),
    ],
)  # fmt: skip
def test_others_become_the_nearest_planar_one(tmp_path, ffmpeg, pix_fmt, codec, bit_depth, chroma_format):
    path = tmp_path / "x.nut"
    picture = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-frames:v", "2")
    ffmpeg(*picture, "-pix_fmt", pix_fmt, "-c:v", codec, "-strict", "-2", path)
    probed = samples_of(probe_video(path).format)
    assert probed == VideoFormat(64, 48, bit_depth, chroma_format, Fraction(25))
    frames = list(read_video(path))
    assert len(frames) == 2
    assert all(frame.format(probed.fps) == probed for frame in frames)


def test_a_repacked_format_keeps_its_samples(tmp_path, ffmpeg):
    path, raw = tmp_path / "x.nut", tmp_path / "x.yuv"
    picture = ("-f", "lavfi", "-i", "testsrc2=size=64x48", "-frames:v", "2", "-vf", "format=yuv420p")
    ffmpeg(*picture, "-pix_fmt", "nv12", "-c:v", "rawvideo", path)
    ffmpeg(*picture, "-f", "rawvideo", raw)
    expected = [frame.tobytes() for frame in read_yuv(raw, VideoFormat(64, 48))]
    assert [frame.tobytes() for frame in read_video(path)] == expected


def test_rgb_video_becomes_limited_bt709(tmp_path, ffmpeg):
    path = tmp_path / "x.mkv"
    picture = (
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=64x48",
        "-frames:v",
        "1",
        "-vf",
        "format=rgb24,format=gbrp",
    )
    ffmpeg(*picture, "-c:v", "ffv1", path)
    rgb = np.frombuffer(ffmpeg(*picture, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"), np.uint8).reshape(48, 64, 3)
    (frame,) = read_video(path)
    error = frame_to_rgb(frame).astype(int) - rgb
    assert np.abs(error).mean() < 1
    assert np.abs(error).max() <= 4


@pytest.mark.parametrize(
    ("pix_fmt", "depth", "limit"),
    [
        ("rgb24", 8, 0.51), ("gbrp", 8, 0.51), ("gbrp9le", 9, 0.5), ("gbrp10le", 10, 0.5), ("gbrp12be", 12, 0.5),
        ("gbrap12le", 12, 0.5), ("rgb48le", 16, 0.5), ("bgr48be", 16, 0.5), ("rgba64le", 16, 0.5),
    ],
)  # fmt: skip
def test_each_sample_of_rgb_is_rounded_once_at_every_depth(tmp_path, ffmpeg, pix_fmt, depth, limit):
    peak, step = (1 << depth) - 1, 1 << (depth - 8)
    rgb = np.random.default_rng(0).integers(0, peak + 1, (16, 32, 3))
    rgb[0, 0], rgb[0, 1] = peak, 0
    alpha = np.full((16, 32, 1), peak)
    is_planar = pix_fmt.startswith("gbr")
    channels = "gbra" if is_planar else pix_fmt
    stored = np.concatenate([rgb, alpha], axis=2)[
        :, :, ["rgba".index(each) for each in channels[: 3 + ("a" in pix_fmt)]]
    ]
    stored = stored.transpose(2, 0, 1) if is_planar else stored
    dtype = np.uint8 if depth == 8 else ">u2" if pix_fmt.endswith("be") else "<u2"
    (tmp_path / "x.raw").write_bytes(stored.astype(dtype).tobytes())
    raw = ("-f", "rawvideo", "-pix_fmt", pix_fmt, "-s", "32x16", "-i", tmp_path / "x.raw")
    ffmpeg(*raw, "-c:v", "rawvideo", "-pix_fmt", pix_fmt, tmp_path / "x.nut")
    (frame,) = read_video(tmp_path / "x.nut")
    red, green, blue = rgb.transpose(2, 0, 1) / peak
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    expected = (
        (219 * luma + 16) * step,
        (224 * (blue - luma) / 1.8556 + 128) * step,
        (224 * (red - luma) / 1.5748 + 128) * step,
    )
    assert frame.bit_depth == depth
    assert [plane[0, :2].tolist() for plane in frame.planes] == [[235 * step, 16 * step], *[[128 * step] * 2] * 2]
    for plane, exact in zip(frame.planes, expected, strict=True):
        assert np.abs(plane - exact).max() <= limit + 1e-6


def test_damaged_and_wrong_files(tmp_path, coded):
    with pytest.raises(InputError, match="no such file"):
        probe_video(tmp_path / "missing.mp4")
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(BitstreamError, match="FFmpeg cannot decode it"):
        probe_video(tmp_path / "noise.mp4")
    (tmp_path / "empty.mkv").touch()
    with pytest.raises(BitstreamError):
        next(read_video(tmp_path / "empty.mkv"))
    path, frames = coded(VideoFormat(64, 64), "yuv420p")
    data = path.read_bytes()
    for cut in range(0, len(data), len(data) // 25):
        path.write_bytes(data[:cut])
        try:
            n_pictures = len(list(read_video(path)))
        except BitstreamError:
            continue
        assert n_pictures <= len(frames)


def test_sound_alone_is_no_video(tmp_path, ffmpeg):
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.1", tmp_path / "x.mkv")
    with pytest.raises(BitstreamError, match="no video stream"):
        probe_video(tmp_path / "x.mkv")


def test_real_clip(data_folder):
    path = data_folder / "clips" / "carphone_pristine.mp4"
    probe = probe_video(path)
    assert samples_of(probe.format) == VideoFormat(176, 144, fps=Fraction(30000, 1001))
    assert sum(1 for _ in read_video(path)) == probe.n_pictures == 120


def test_a_list_of_other_files_is_no_video(tmp_path, ffmpeg):
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=32x32:rate=25", "-frames:v", 2, "-c:v", "mpeg4", tmp_path / "video.mp4")
    path = tmp_path / "list.mp4"
    path.write_text("ffconcat version 1.0\nfile video.mp4\n")
    with pytest.raises(UnsupportedError, match=r"list.mp4: is a list of other files \(concat\); give the videos"):
        list(read_video(path))


@pytest.mark.parametrize("last", [1, 256, 511, 512, 5120])
def test_how_long_the_last_picture_is_shown_does_not_change_the_rate(tmp_path, last):
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as container:
        track = container.add_stream("mpeg4", rate=25)
        track.width, track.height, track.pix_fmt, track.time_base = 64, 64, "yuv420p", Fraction(1, 12800)
        for time in (0, 512, 1024, 1536, 2560):
            picture = av.VideoFrame.from_ndarray(np.zeros((96, 64), np.uint8), format="yuv420p")
            picture.pts, picture.time_base = time, Fraction(1, 12800)
            container.mux(track.encode(picture))
        container.mux(track.encode())
    written, wanted = (
        struct.pack(">7I", 3, 3, 512, 1, *ends) for ends in ((1024, 1, 512), (512, 1, last))
    )  # how many pictures, and for how long each
    data = path.read_bytes()
    assert data.count(written) == 1
    path.write_bytes(data.replace(written, wanted))
    assert probe_video(path).format.fps == 25


def test_an_empty_video_is_told_as_such(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"")
    with pytest.raises(BitstreamError, match=r"x\.mp4: the file is empty; must be a video"):
        probe_video(tmp_path / "x.mp4")
