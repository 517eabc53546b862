from __future__ import annotations

import os
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.sequences.cifar import load_cifar10
from vvc_nnr.sequences.frame import VideoFormat
from vvc_nnr.sequences.images import image_files, rgb_to_frame
from vvc_nnr.sequences.listing import list_files
from vvc_nnr.sequences.source import open_source, open_sources, open_writer


def write(path, format, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_writer(path, format) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def same(frames, others) -> bool:
    return [frame.tobytes() for frame in frames] == [frame.tobytes() for frame in others]


@pytest.mark.parametrize("name", ["x.y4m", "x_12x10_50fps_10bit_422.yuv", "X_12x10_50fps_10bit_422.YUV"])
def test_what_is_written_is_read_again_and_again(tmp_path, random_frame, name):
    format = VideoFormat(12, 10, 10, "422", Fraction(50))
    frames = [random_frame(format, seed) for seed in range(3)]
    source = open_source(write(tmp_path / name, format, frames))
    assert (source.format, source.n_pictures, source.ctc_class) == (format, 3, "D")
    assert source.name == name.rsplit(".", 1)[0]
    assert same(source.frames(), frames)
    assert same(source.frames(), frames)
    assert same(source.frames(1, 1), frames[1:2])


def test_catalogue_fills_what_the_name_leaves_out(tmp_path):
    path = tmp_path / "ParkRunning3.yuv"
    path.write_bytes(bytes(2 * VideoFormat(3840, 2160, 10).picture_bytes))
    source = open_source(path)
    assert source.format == VideoFormat(3840, 2160, 10, "420", Fraction(50))
    assert (source.name, source.ctc_class, source.n_pictures) == ("ParkRunning3", "A2", 2)


def test_race_horses_of_two_classes(tmp_path, random_frame):
    for size in [(832, 480), (416, 240)]:
        format = VideoFormat(*size)
        write(tmp_path / f"RaceHorses_{size[0]}x{size[1]}_30.yuv", format, [random_frame(format)])
    assert [(s.name, s.ctc_class) for s in open_sources(tmp_path)] == [
        ("RaceHorses", "D"),
        ("RaceHorsesC", "C"),
    ]


def test_options_go_before_the_name(tmp_path, random_frame):
    format = VideoFormat(12, 10, 10, "444", Fraction(25))
    path = write(tmp_path / "x.yuv", format, [random_frame(format)]).rename(tmp_path / "x_6x5_8bit_420_50fps.yuv")
    source = open_source(path, width=12, height=10, bit_depth=10, chroma_format="444", fps=Fraction(25))
    assert source.format == format


def test_yuv_without_a_size_asks_for_it(tmp_path):
    (tmp_path / "x.yuv").write_bytes(bytes(96))
    with pytest.raises(InputError, match=r"x\.yuv: picture size not known"):
        open_source(tmp_path / "x.yuv")
    assert open_source(tmp_path / "x.yuv", width=8, height=8).format == VideoFormat(8, 8)
    with pytest.raises(InputError, match="at least 1"):
        open_source(tmp_path / "x.yuv", width=0, height=8)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "x_8x8_16x16.yuv",
            {"width": 8, "height": 8},
            r"2 picture sizes \(8x8, 16x16\); give width and height \(--size\)",
        ),
        ("x_8x8_8bit_10bit.yuv", {"bit_depth": 8}, r"2 bit depths \(8, 10\); give bit_depth \(--bit-depth\)"),
        (
            "x_8x8_420_444.yuv",
            {"chroma_format": "420"},
            r"2 chroma formats \(420, 444\); give chroma_format \(--chroma-format\)",
        ),
        ("x_8x8_30fps_60hz.yuv", {"fps": Fraction(30)}, r"2 picture rates \(30, 60\); give fps \(--fps\)"),
        ("mono_lake_8x8.yuv", {"chroma_format": "420"}, "'mono' in its name may state a chroma format"),
        ("shot_444_8x8.yuv", {"chroma_format": "420"}, "'444' in its name may state a chroma format"),
        ("x_8x8_12bpp.yuv", {"bit_depth": 8}, "'12bpp' in its name may state a bit depth"),
        ("x_8x8_25_50.yuv", {"fps": Fraction(50)}, r"2 picture rates \(25, 50\); give fps \(--fps\)"),
        (
            "x_p60_8x8.yuv",
            {"fps": Fraction(60)},
            r"'p60' in its name may state a picture rate, or not; give fps \(--fps\)",
        ),
        ("x_8x8_32bit.yuv", {"bit_depth": 8}, "bit depth 32: must be 8 to 16"),
    ],
)
def test_what_a_name_leaves_open_is_asked_for(tmp_path, name, options, message):
    (tmp_path / name).write_bytes(bytes(384))
    with pytest.raises(InputError, match=message):
        open_source(tmp_path / name)
    assert open_source(tmp_path / name, **options).n_pictures == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [("x_8x8_full.yuv", "'full' in its name may state a colour range"), ("x_8x8_yuvj420p_tvrange.yuv", "2 colour")],
)
def test_a_range_that_a_name_leaves_open_is_settled_by_another_name(tmp_path, name, message):
    (tmp_path / name).write_bytes(bytes(96))
    with pytest.raises(InputError, match=message):
        open_source(tmp_path / name)


@pytest.mark.parametrize("word", ["nv12", "stride8", "alpha", "10be", "1080i", "yuva420p", "v210", "rgb24"])
def test_layouts_that_are_not_read_are_refused_by_their_name(tmp_path, word):
    path = tmp_path / f"x_8x8_{word}.yuv"
    path.write_bytes(bytes(96))
    with pytest.raises(UnsupportedError, match=rf"its name says '{word}'"):
        open_source(path, width=8, height=8, bit_depth=8, chroma_format="420")
    if word != "1080i":
        with pytest.raises(InputError, match=f"its name says layout {word}"):
            open_writer(path, VideoFormat(8, 8))


def test_nothing_is_written_under_a_name_that_says_something_else(tmp_path):
    for name in ("x_8x6.yuv", "x_10bit.yuv", "x_444.yuv"):
        with pytest.raises(InputError, match="choose another name"):
            open_writer(tmp_path / name, VideoFormat(8, 8))
    with pytest.raises(InputError, match="says colour range full, the pictures are limited"):
        open_writer(tmp_path / "x_fullRange.yuv", VideoFormat(8, 8, colour_range="limited"))
    film = VideoFormat(8, 8, fps=Fraction(24000, 1001))
    for word in ("59fps", "24fps", "50_60fps"):
        with pytest.raises(InputError, match=r"its name says picture rate .*, the pictures are 24000/1001"):
            open_writer(tmp_path / f"x_8x8_{word}.yuv", film)
    assert list(tmp_path.iterdir()) == []
    for word in ("23.976fps", "2398fps", "24000-1001fps", "take2"):
        open_writer(tmp_path / f"x_8x8_{word}.yuv", film)
    open_writer(tmp_path / "x_8x8_50fps_8bit_420.yuv", VideoFormat(8, 8))
    open_writer(tmp_path / "x_fullRange.yuv", VideoFormat(8, 8))


def test_yuv_size_that_does_not_fit(tmp_path):
    (tmp_path / "x_8x8.yuv").write_bytes(bytes(97))
    with pytest.raises(InputError, match=r"97 bytes are no whole number of 8x8 8 bit 420 pictures of 96 bytes"):
        open_source(tmp_path / "x_8x8.yuv")


def test_wrong_bit_depth_is_noticed_both_ways(tmp_path, random_frame):
    ten, eight = VideoFormat(16, 16, 10), VideoFormat(16, 16)
    path = write(tmp_path / "ten_16x16.yuv", ten, [random_frame(ten)])
    with pytest.raises(InputError, match="wrong bit depth"):
        open_source(path)
    assert open_source(path, bit_depth=10).n_pictures == 1
    path = write(tmp_path / "eight_16x16.yuv", eight, [random_frame(eight, seed) for seed in range(2)])
    path = path.rename(tmp_path / "eight_16x16_10bit.yuv")
    with pytest.raises(InputError, match="wrong bit depth"):
        list(open_source(path).frames())
    path = write(tmp_path / "x.y4m", ten, [random_frame(ten)])
    with pytest.raises(InputError, match="wrong bit depth: 8 asked for, the file has 10"):
        open_source(path, bit_depth=8)


@pytest.mark.parametrize("level", [0, 16, 128, 255])
def test_flat_8_bit_pictures_are_not_taken_for_16_bit(tmp_path, level):
    (tmp_path / "x_16x16.yuv").write_bytes(bytes([level]) * 384)
    assert open_source(tmp_path / "x_16x16.yuv").format.bit_depth == 8


def test_options_that_contradict_a_header_are_refused(tmp_path, random_frame):
    path = write(tmp_path / "x.y4m", VideoFormat(8, 8), [random_frame(VideoFormat(8, 8))])
    for options in [{"width": 9}, {"height": 9}, {"chroma_format": "444"}]:
        with pytest.raises(InputError, match="asked for, the file has"):
            open_source(path, **options)
    assert open_source(path, width=8, fps=Fraction(24)).format.fps == 24


@pytest.mark.parametrize("fps", [0, -1, 29.97, "25"])
@pytest.mark.parametrize("name", ["x.y4m", "x_8x8.yuv", "x.png"])
def test_rates_that_are_none_are_refused_for_every_kind_of_file(tmp_path, random_frame, name, fps):
    if name == "x.png":
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    else:
        write(tmp_path / name, VideoFormat(8, 8), [random_frame(VideoFormat(8, 8))])
    with pytest.raises(InputError, match=rf"{name}: .* pictures per second: must be"):
        open_source(tmp_path / name, fps=fps)


@pytest.mark.parametrize("options", [{"bit_depth": 0}, {"bit_depth": 17}, {"chroma_format": "440"}])
def test_an_image_becomes_nothing_that_is_not_a_format(tmp_path, options):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"x\.png: (bit depth|chroma format) .*: must be"):
        open_source(tmp_path / "x.png", **options)


def test_image_is_a_sequence_of_one_picture(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    Image.fromarray(rgb).save(tmp_path / "x.png")
    source = open_source(tmp_path / "x.png")
    stated = VideoFormat(9, 7, colour_range="limited", chroma_location="left")
    assert (source.format, source.n_pictures) == (stated, 1)
    assert same(source.frames(), [rgb_to_frame(rgb)])
    assert list(source.frames(start=1)) == list(source.frames(count=0)) == []
    source = open_source(tmp_path / "x.png", bit_depth=10, chroma_format="444")
    assert same(source.frames(), [rgb_to_frame(rgb, "444", 10)])
    assert source.format.holding(next(source.frames())) == source.format
    assert source.format.chroma_location is None


def test_folder_gives_each_file_in_order_and_tells_equal_names_apart(tmp_path, random_frame):
    format = VideoFormat(8, 8, 10)
    write(tmp_path / "b" / "same.y4m", format, [random_frame(format)])
    write(tmp_path / "a" / "same.y4m", format, [random_frame(format)])
    write(tmp_path / "c_8x8.yuv", format, [random_frame(format)])
    write(tmp_path / ".hidden" / "x.y4m", format, [random_frame(format)])
    Image.new("RGB", (5, 5)).save(tmp_path / "d.png")
    Image.new("RGB", (6, 4)).save(tmp_path / "e.jpg")
    (tmp_path / "notes.txt").touch()
    sources = open_sources(tmp_path, bit_depth=10, fps=Fraction(24))
    assert [source.name for source in sources] == ["a/same.y4m", "b/same.y4m", "c_8x8", "d", "e"]
    assert {source.format.bit_depth for source in sources} == {10}
    assert {source.format.fps for source in sources} == {24}
    assert [(s.format.width, s.format.height) for s in sources[3:]] == [(5, 5), (6, 4)]


def test_path_that_tells_equal_names_apart_is_no_other_ones_name(tmp_path, random_frame):
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "x.jpg")
    write(tmp_path / "x.png.y4m", VideoFormat(8, 8), [random_frame(VideoFormat(8, 8))])
    assert [source.name for source in open_sources(tmp_path)] == ["x.jpg", "x.png", "x.png.y4m"]


def test_linked_folder_is_entered_and_what_is_left_out_is_said(tmp_path, caplog):
    (tmp_path / "real").mkdir()
    (tmp_path / "set").mkdir()
    for name in ("real/a.png", "set/own.png", "set/._own.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "set" / "kodak").symlink_to(tmp_path / "real")
    assert [source.name for source in open_sources(tmp_path / "set")] == ["a", "own"]
    assert f"left out of {tmp_path / 'set'}: 1 hidden file" in caplog.text
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.png").symlink_to("gone")
    with pytest.raises(InputError, match=r"holds no sequence .*left out: 1 broken link \(a\.png\)"):
        open_sources(tmp_path / "none")


def test_file_alone_is_a_list_of_one(tmp_path, random_frame):
    path = write(tmp_path / "x.y4m", VideoFormat(8, 8), [random_frame(VideoFormat(8, 8))])
    assert open_sources(path) == [open_source(path)] == [open_source(str(path))]


@pytest.mark.parametrize("suffix", [".266", ".H266", ".vvc", ".bit", ".bin"])
def test_a_stream_is_to_be_decoded_first(tmp_path, suffix):
    (tmp_path / f"x{suffix}").write_bytes(b"\0\0\1")
    with pytest.raises(InputError, match=r"is a VVC stream by its name.*decode it first \(vvc-nnr decode\)$"):
        open_source(tmp_path / f"x{suffix}")


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        open_source(tmp_path / "missing.y4m")
    with pytest.raises(InputError, match="no such file"):
        open_sources(tmp_path / "missing")
    with pytest.raises(InputError, match="is a folder"):
        open_source(tmp_path)
    with pytest.raises(InputError, match="holds no sequence"):
        open_sources(tmp_path)
    (tmp_path / "x.doc").touch()
    with pytest.raises(InputError, match=r"unknown suffix '\.doc'"):
        open_source(tmp_path / "x.doc")
    with pytest.raises(InputError, match=r"as \.y4m or \.yuv"):
        open_writer(tmp_path / "x.mp4", VideoFormat(8, 8))
    (tmp_path / "x.mp4").touch()
    with pytest.raises(BitstreamError):
        open_source(tmp_path / "x.mp4")


def test_a_pipe_is_refused_since_pictures_are_read_again(tmp_path):
    os.mkfifo(tmp_path / "x.y4m")
    for open_it in (open_source, open_sources):
        with pytest.raises(InputError, match=r"x.y4m: is a pipe or device, .*; write it to a file first"):
            open_it(tmp_path / "x.y4m")


@pytest.mark.parametrize("reader", [open_source, open_sources, list_files, load_cifar10, image_files])
@pytest.mark.parametrize("name", ["x" * 300 + ".y4m", "\0.y4m", "\ud800.y4m"])
def test_names_that_no_file_can_have(tmp_path, reader, name):
    options = (lambda _: True,) if reader is list_files else ()
    with pytest.raises(InputError, match=r"\.y4m"):
        reader(tmp_path / name, *options)


def test_negative_range_is_refused(tmp_path, random_frame):
    source = open_source(write(tmp_path / "x.y4m", VideoFormat(8, 8), [random_frame(VideoFormat(8, 8))]))
    for start, count in [(-1, None), (0, -1)]:
        with pytest.raises(InputError, match="0 or more"):
            source.frames(start, count)


def test_video_is_a_source(tmp_path, ffmpeg):
    path = tmp_path / "clip.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-frames:v", "5", "-c:v", "mpeg4", path)
    source = open_source(path)
    stated = VideoFormat(64, 48, fps=Fraction(25), pixel_aspect=Fraction(1))
    assert (source.format, source.n_pictures) == (stated, 5)
    frames = list(source.frames())
    assert len(frames) == 5
    assert same(source.frames(2, 2), frames[2:4])


def test_real_images(data_folder):
    sources = open_sources(data_folder / "kodak")
    assert [source.name for source in sources] == [f"kodim{n:02d}" for n in range(1, 13)]
    assert {source.ctc_class for source in sources} == {"C"}
    assert sources[3].format.holding(next(sources[3].frames())) == sources[3].format
