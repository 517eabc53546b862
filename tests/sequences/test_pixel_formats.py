"""Pixel formats of videos: which keep every sample, what others become, and alpha that would be lost."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from vvc_nnr.errors import UnsupportedError
from vvc_nnr.sequences.frame import VideoFormat
from vvc_nnr.sequences.images import frame_to_rgb
from vvc_nnr.sequences.video import probe_video, read_video
from vvc_nnr.sequences.yuv import read_yuv

PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25")


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
    probed = replace(probe_video(path).format, colour_range=None, pixel_aspect=None)
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


def test_an_alpha_channel_must_be_opaque(tmp_path, ffmpeg):
    for name, codec, pixel_format in (
        *(("a.mkv", "ffv1", "yuva420p"), ("b.mkv", "ffv1", "yuva444p10le"), ("c.mov", "png", "rgba")),
        *(("d.mov", "prores_ks", "yuva444p10le"), ("e.mov", "qtrle", "argb"), ("f.mkv", "ffv1", "gbrap")),
    ):
        path = tmp_path / name
        ffmpeg(*PICTURE, "-frames:v", 1, "-pix_fmt", pixel_format, "-c:v", codec, path)
        assert len(list(read_video(path))) == 1
        filters = "format=yuva444p,colorchannelmixer=aa=0.99"
        ffmpeg(*PICTURE, "-frames:v", 1, "-vf", filters, "-pix_fmt", pixel_format, "-c:v", codec, path)
        with pytest.raises(UnsupportedError, match="transparent samples"):
            probe_video(path)


@pytest.mark.parametrize(
    ("pixel_format", "bits"), [("gbrap", 8), ("gbrap12le", 12), ("gbrap16le", 16), ("yuva444p10le", 10)]
)
def test_alpha_is_looked_at_as_it_is_stored(tmp_path, ffmpeg, pixel_format, bits):
    """FFmpeg's converter rounds alpha, and leaves samples of 98 columns behind."""
    planes = np.random.default_rng(0).integers(0, 1 << bits, (4, 66, 98)).astype(np.uint16 if bits > 8 else np.uint8)
    raw, path = tmp_path / "x.raw", tmp_path / "x.mkv"
    for lowest in ((1 << bits) - 1, (1 << bits) - 2):
        planes[3] = (1 << bits) - 1
        planes[3, 40, 97] = lowest
        raw.write_bytes(planes.tobytes())
        ffmpeg("-f", "rawvideo", "-pix_fmt", pixel_format, "-s", "98x66", "-i", raw, "-c:v", "ffv1", path)
        if lowest == (1 << bits) - 1:
            assert all(len(list(read_video(path))) == 1 for _ in range(5))
        else:
            with pytest.raises(UnsupportedError, match="transparent samples"):
                probe_video(path)


def test_conversions_that_change_samples_are_said(tmp_path, ffmpeg, caplog):
    for pixel_format, words in (
        *(("yuv420p", ""), ("nv12", ""), ("yuyv422", ""), ("yuv420p10be", ""), ("gray10be", "")),
        *(("rgb24", "converted to yuv444p by the matrix of BT.709"), ("yuv411p", "converted to yuv422p")),
        *(("yuv440p", "converted to yuv444p"), ("monow", "converted to gray")),
    ):
        caplog.clear()
        ffmpeg(*PICTURE, "-frames:v", 1, "-pix_fmt", pixel_format, "-c:v", "rawvideo", tmp_path / "x.nut")
        probe_video(tmp_path / "x.nut")
        assert words in caplog.text
        assert bool(words) == bool(caplog.records), pixel_format
    for pixel_format in ("gbrpf32le", "xyz12le"):
        ffmpeg(*PICTURE, "-frames:v", 1, "-pix_fmt", pixel_format, "-c:v", "rawvideo", tmp_path / "x.nut")
        with pytest.raises(UnsupportedError, match=f"pixel format {pixel_format}"):
            probe_video(tmp_path / "x.nut")


@pytest.mark.parametrize("pixel_format", ["nv12", "nv21", "uyvy422", "yuyv422", "yvyu422", "y210le", "yuv422p10be"])
def test_repacked_formats_keep_every_sample(tmp_path, ffmpeg, pixel_format):
    """Against the raw bytes, taken apart by hand."""
    path = tmp_path / "x.nut"
    ffmpeg(*PICTURE, "-frames:v", 1, "-pix_fmt", pixel_format, "-c:v", "rawvideo", path)
    raw = ffmpeg("-i", path, "-c", "copy", "-f", "rawvideo", "-")
    if pixel_format.startswith("nv"):
        luma, chroma = raw[: 64 * 48], raw[64 * 48 :]
        expected = luma + (chroma[::2] + chroma[1::2] if pixel_format == "nv12" else chroma[1::2] + chroma[::2])
    elif pixel_format.endswith("be"):
        expected = np.frombuffer(raw, ">u2").astype("<u2").tobytes()
    else:
        order = {"uyvy422": (1, 3, 0, 2), "yuyv422": (0, 2, 1, 3), "yvyu422": (0, 2, 3, 1), "y210le": (0, 2, 1, 3)}
        dtype = "<u2" if pixel_format == "y210le" else "u1"
        words = np.frombuffer(raw, dtype).reshape(-1, 4) >> (6 if dtype == "<u2" else 0)
        y0, y1, cb, cr = (words[:, place] for place in order[pixel_format])
        expected = np.stack([y0, y1], 1).tobytes() + cb.tobytes() + cr.tobytes()
    assert b"".join(frame.tobytes() for frame in read_video(path)) == expected
