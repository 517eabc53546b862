from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.sequences.frame import VideoFormat
from vvc_nnr.sequences.video import probe_video, read_video
from vvc_nnr.sequences.y4m import Y4mWriter


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
