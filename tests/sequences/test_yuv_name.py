from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvc_nnr.errors import InputError
from vvc_nnr.sequences.yuv import PartialFormat, format_from_name, parse_fps, parse_yuv_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BasketballPass_416x240_50fps_8bit_420.yuv", (416, 240, 8, "420", 50)),
        ("BasketballPass_416x240_50.yuv", (416, 240, None, None, 50)),
        ("Tango2_3840x2160_60fps_10bit_420.yuv", (3840, 2160, 10, "420", 60)),
        ("Campfire_3840x2160_30fps_10bit_bt709_420_videoRange.yuv", (3840, 2160, 10, "420", 30)),
        ("/data/x_100x50_25fps/BQMall_832x480_60.yuv", (832, 480, None, None, 60)),
        ("ParkScene_1920x1080_24", (1920, 1080, None, None, 24)),
        ("clip_1920x1080_29.97_422_12b.yuv", (1920, 1080, 12, "422", Fraction(30000, 1001))),
        ("clip_1920x1080p59.94.yuv", (1920, 1080, None, None, Fraction(60000, 1001))),
        ("rec_1280x720_yuv444p10le.yuv", (1280, 720, 10, "444", None)),
        ("rec_1280x720_420.yuv", (1280, 720, None, "420", None)),
        ("rec_1280x720_10bit_420.yuv", (1280, 720, 10, "420", None)),
        ("rec_1280X720_400_16bits_120hz.yuv", (1280, 720, 16, "400", 120)),
        ("SlideShow.yuv", (None, None, None, None, None)),
        ("tiny_8x6_420.yuv", (8, 6, None, "420", None)),
        ("x264_crf20.yuv", (None, None, None, None, None)),
        ("", (None, None, None, None, None)),
        ("x_yuv444_416x240.yuv", (416, 240, None, "444", None)),
        ("Hurdles_1920x1080p_50_10b_pq_709_ct2020_420_rev1.yuv", (1920, 1080, 10, "420", 50)),
        ("MissionControlClip3_1920x1080_60p_8b444.yuv", (1920, 1080, 8, "444", 60)),
        ("BQ_1920x1080_60_down_960x540.yuv", (960, 540, None, None, 60)),
        ("something_2160p60_8_420_more.yuv", (3840, 2160, 8, "420", 60)),
        ("something_1080p50.yuv", (1920, 1080, None, None, 50)),
        ("foreman_qcif.yuv", (176, 144, None, None, None)),
        ("foreman_4cif_30fps_444p.yuv", (704, 576, None, "444", 30)),
        ("x_352*288_24.yuv", (352, 288, None, None, 24)),
        ("x_1080p_1920x800_25.yuv", (1920, 800, None, None, 25)),
        ("x_1080p_960x540_25.yuv", (None, None, None, None, 25)),
        ("x_416x240_60_10_420.yuv", (416, 240, 10, "420", 60)),
        ("x_416x240_60_10.yuv", (416, 240, None, None, 60)),
        ("x_416x240_P420_10le.yuv", (416, 240, 10, "420", None)),
        ("x_416x240_422p10le.yuv", (416, 240, 10, "422", None)),
        ("x_416x240_i420.yuv", (416, 240, None, "420", None)),
        ("x_416x240_i010.yuv", (416, 240, 10, "420", None)),
        ("x_416x240_gray12le.yuv", (416, 240, 12, "400", None)),
        ("x_416x240_yuvj422p.yuv", (416, 240, None, "422", None)),
        ("x_416x240_2997fps_12bpc.yuv", (416, 240, 12, None, Fraction(30000, 1001))),
        ("x_416x240_59_94fps.yuv", (416, 240, None, None, Fraction(60000, 1001))),
        ("x_416x240_29,97.yuv", (416, 240, None, None, Fraction(30000, 1001))),
        ("x_416x240_5994_10bit.yuv", (416, 240, 10, None, Fraction(60000, 1001))),
        ("x-1920x1080@60-HLG.yuv", (1920, 1080, None, None, 60)),
        ("x.416x240.50.8bit.yuv", (416, 240, 8, None, 50)),
        ("take7.416x240_29.97p.i444.8b.yuv", (416, 240, 8, "444", Fraction(30000, 1001))),
        ("x.12bpc.416x240_24.400.yuv", (416, 240, 12, "400", 24)),
        ("x_416x240_4:2:2_10bit.yuv", (416, 240, 10, "422", None)),
        ("Traffic_2560x1600_30_12bit_444_crop.yuv", (2560, 1600, 12, "444", 30)),
        ("x_416x240_12.5.yuv", (416, 240, None, None, Fraction(25, 2))),
        ("x_416x240_709_10b_420.yuv", (416, 240, 10, "420", None)),
        ("x.416x240.59.94.10bit.yuv", (416, 240, 10, None, Fraction(60000, 1001))),
        ("10bit_x_416x240.yuv", (416, 240, 10, None, None)),
        ("x_416x240yuv420p10le.yuv", (416, 240, 10, "420", None)),
        ("graycat_rgbworld_416x240.yuv", (416, 240, None, None, None)),
        ("x_416x240_8b_10b.yuv", (416, 240, None, None, None)),
        ("x_416x240_10-bit_422.yuv", (416, 240, 10, "422", None)),
        ("x_416x240_50_16_bits.yuv", (416, 240, 16, None, 50)),
        ("x_416x240_50fps_bit12_420.yuv", (416, 240, 12, "420", 50)),
        ("x_416x240_bitdepth10.yuv", (416, 240, 10, None, None)),
        ("bit-depth-14_x_416x240.yuv", (416, 240, 14, None, None)),
        ("x_416x240_8bit_10.yuv", (416, 240, 8, None, None)),
        ("orbit9_416x240_50_rabbit_8.yuv", (416, 240, None, None, 50)),
    ],
)
def test_names(name, expected):
    width, height, bit_depth, chroma_format, fps = expected
    assert format_from_name(name) == PartialFormat(width, height, bit_depth, chroma_format, fps)


@given(name=st.text(alphabet="x0123456789_.-pfsbit", max_size=40))
def test_any_name_is_read_without_an_error(name):
    fields = format_from_name(name)
    assert fields.fps is None or fields.fps > 0
    assert (fields.width is None) == (fields.height is None)


@pytest.mark.parametrize("text", ["0", "0/5", "-5", "abc", "", "30/0", "nan", "1e999999999"])
def test_rates_that_are_none(text):
    with pytest.raises(InputError, match="picture rate"):
        parse_fps(text)


@pytest.mark.parametrize(
    "word",
    [
        *("nv12", "nv21", "nv16", "nv24", "yv12", "yvu420p", "yuv420sp", "p010", "p010le", "p016", "p210", "p410"),
        *("yvu", "imc4"),
        *("uyvy422", "uyvy", "yuyv", "yuyv422", "yuy2", "yvyu", "v210", "v410", "y210le", "y410", "ayuv", "ayuv64le"),
        *("rgb", "rgb24", "bgr24", "rgb48le", "gbrp", "gbrp10le", "gbrap", "rgba", "bgra", "argb", "bgr0", "0rgb"),
        *("10be", "12bitbe", "yuv420p10be", "p10be", "gray10be", "yuva420p", "yuva444p10le", "ya8", "gray8a"),
        *("yuv411p", "yuv410p", "yuv440p", "411", "yuv420p10msb", "yuv444p10msble", "422p25", "1080i", "tff"),
        *("interlaced", "bayer_rggb8", "pal8", "xyz12le", "grayf32", "x2rgb10le", "yuv9"),
        *("60i", "50i", "59.94i", "5994i", "interlace", "float32", "fp16", "f32le", "big-endian", "semi-planar"),
        *("16bit_420_be", "420_16bit_msb", "10bit_yuv422_be", "interleaved"),
        *("msb_10bit", "10bit_packed", "yuva", "tiled", "float", "semi_planar"),
    ],
)
def test_other_layouts_are_noticed(word):
    assert parse_yuv_name(f"x_416x240_{word}.yuv").unreadable
    assert parse_yuv_name(f"x_416x240_50_{word.upper()}.yuv").unreadable


def test_other_layouts_are_noticed_behind_a_size_or_a_depth():
    assert parse_yuv_name("x_1920x1080i_50.yuv").unreadable
    assert parse_yuv_name("x_1920x1080i50.yuv").unreadable
    assert parse_yuv_name("x_1920x1080_i50.yuv").unreadable
    assert parse_yuv_name("x_1920x1080_10bit_be.yuv").unreadable
    assert not parse_yuv_name("to_be_1920x1080.yuv").unreadable


@pytest.mark.parametrize(
    ("word", "expected"),
    [("videoRange", "limited"), ("full_range", "full"), ("yuvj420p", "full"), ("Limited-Range", "limited")],
)
def test_ranges(word, expected):
    assert parse_yuv_name(f"x_416x240_{word}.yuv").colour_ranges == (expected,)


def test_words_that_may_be_free_text_or_not():
    assert parse_yuv_name("x_416x240_50_420_10.yuv").unsure_depth == ("10",)
    assert parse_yuv_name("x_416x240_50_10.yuv").unsure_depth == ("10",)
    assert parse_yuv_name("x_416x240_50_22.yuv").unsure_depth == ()
    assert parse_yuv_name("x_416x240_50_10_8bit.yuv").unsure_depth == ()
    assert parse_yuv_name("x_416x240_hdr10.yuv").unsure_depth == ("hdr10",)
    assert parse_yuv_name("x_416x240_50_bd12_420.yuv").unsure_depth == ("bd12",)
    assert parse_yuv_name("x_416x240_hdr10_10bit.yuv").unsure_depth == ()
    assert parse_yuv_name("x_416x240_y_only.yuv").unsure_chroma == ("yonly",)
    assert parse_yuv_name("mono_416x240.yuv").unsure_chroma == ("mono",)
    assert parse_yuv_name("mono_416x240_420.yuv").unsure_chroma == ()


@pytest.mark.parametrize("word", ["hdr10", "hdr_10", "HDR-10", "23.976fps_hdr_10"])
def test_hdr10_may_be_a_depth(word):
    assert parse_yuv_name(f"x_416x240_{word}.yuv").unsure_depth == ("hdr10",)


@pytest.mark.parametrize("name", ["x_416x240_25_50", "x_cif_25_50", "x_416x240_25_50fps", "x_416x240_p25_50_420"])
def test_a_second_rate_is_not_passed_over(name):
    assert parse_yuv_name(f"{name}.yuv").rates == (25, 50)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        *(("x_p60_416x240", "p60"), ("p2997_416x240", "p2997"), ("x_416x240_37", "37"), ("x_416x240_300_420", "300")),
        *(("x_416x240_8bit_50", "50"), ("x_416x240_420_24", "24"), ("x_416x240_yuv420p_5994", "5994")),
        *(("x_416x240_10_420", "10"), ("x_416x240_8", "8")),
    ],
)
def test_words_that_may_be_a_rate(name, word):
    named = parse_yuv_name(f"{name}.yuv")
    assert named.unsure_rate == (word,)
    assert named.rates == ()
    assert parse_yuv_name(f"{name}_120hz.yuv").unsure_rate == ()


def test_a_bare_number_behind_the_size_may_be_a_depth_as_well():
    assert parse_yuv_name("x_416x240_10_420.yuv").unsure_depth == ("10",)


@pytest.mark.parametrize(
    "name", ["x_fps50_416x240", "x_fps_50_416x240", "x_416x240_50_fps_420", "x_416x240_framerate-50", "x_416x240_50 Hz"]
)
def test_rates_with_their_unit_as_a_word_of_its_own(name):
    assert parse_yuv_name(f"{name}.yuv").rates == (50,)


@pytest.mark.parametrize(
    "name", ["416x240_stride8", "stride_512_416x240", "416x240_pitch512", "416x240_alpha", "yuv420p_alpha_416x240"]
)
def test_rows_with_a_stride_and_alpha_planes_are_noticed(name):
    assert parse_yuv_name(f"x_{name}.yuv").unreadable


def test_full_is_a_range_behind_what_the_samples_are_and_else_unsure():
    assert parse_yuv_name("x_416x240_420_full.yuv").colour_ranges == ("full",)
    assert parse_yuv_name("x_10bit_limited_416x240.yuv").colour_ranges == ("limited",)
    assert parse_yuv_name("x_416x240_50_full.yuv").unsure_range == ("full",)
    assert parse_yuv_name("x_416x240_50_full_tvrange.yuv").unsure_range == ()


@pytest.mark.parametrize(
    "name",
    ["alpha_416x240", "alphabet_416x240_noalpha", "full_hd_416x240", "pitch_416x240", "take_25_416x240", "p7_416x240"],
)
def test_free_text_stays_free(name):
    named = parse_yuv_name(f"{name}_50fps_8bit_420.yuv")
    assert (named.unreadable, named.unsure_range, named.colour_ranges) == ((), (), ())
    assert (named.rates, named.bit_depths, named.chroma_formats) == ((50,), (8,), ("420",))
