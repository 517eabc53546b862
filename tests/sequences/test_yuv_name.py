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
        ("x_416x240_24000-1001fps.yuv", (416, 240, None, None, Fraction(24000, 1001))),
        ("x_416x240_24000_1001.yuv", (416, 240, None, None, Fraction(24000, 1001))),
        ("x_416x240_60000_1001p_10_420.yuv", (416, 240, 10, "420", Fraction(60000, 1001))),
        ("30000-1001 Hz 416x240.yuv", (416, 240, None, None, Fraction(30000, 1001))),
        ("x_1000_1001x240_50.yuv", (1001, 240, None, None, 50)),
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
        *(("x_416x240_10_420", "10"), ("x_416x240_8", "8"), ("x_416x240_23976-1001fps", "23976over1001fps")),
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
    assert parse_yuv_name("x_416x240_420_pc.yuv").colour_ranges == ("full",)
    assert parse_yuv_name("x_416x240_8bit_tv.yuv").colour_ranges == ("limited",)
    assert parse_yuv_name("x_416x240_50_tv.yuv").unsure_range == ("tv",)
    assert parse_yuv_name("tv_416x240_50.yuv").unsure_range == ()


@pytest.mark.parametrize(
    "name",
    ["alpha_416x240", "alphabet_416x240_noalpha", "full_hd_416x240", "pitch_416x240", "take_25_416x240", "p7_416x240"],
)
def test_free_text_stays_free(name):
    named = parse_yuv_name(f"{name}_50fps_8bit_420.yuv")
    assert (named.unreadable, named.unsure_range, named.colour_ranges) == ((), (), ())
    assert (named.rates, named.bit_depths, named.chroma_formats) == ((50,), (8,), ("420",))


PUBLISHED = """
720p5994_stockholm_ter  1280x720  -  -  60000/1001
mobcal_720p5994  1280x720  -  -  60000/1001
CatRobot1_3840x2160p_60_10_709_420  3840x2160  10  420  60
Tango2_3840x2160_60fps_10bit_420  3840x2160  10  420  60
FoodMarket4_3840x2160_60fps_10bit_420  3840x2160  10  420  60
Campfire_3840x2160_30fps_bt709_420_videoRange  3840x2160  -  420  30
Campfire_3840x2160_30fps_10bit_bt709_420_videoRange  3840x2160  10  420  30
CatRobot_3840x2160_60fps_10bit_420_jvet  3840x2160  10  420  60
DaylightRoad2_3840x2160_60fps_10bit_420  3840x2160  10  420  60
ParkRunning3_3840x2160_50fps_10bit_420  3840x2160  10  420  50
MarketPlace_1920x1080_60fps_10bit_420  1920x1080  10  420  60
RitualDance_1920x1080_60fps_10bit_420  1920x1080  10  420  60
Cactus_1920x1080_50  1920x1080  -  -  50
Cactus_1920x1080_50fps_8bit_420  1920x1080  8  420  50
BasketballDrive_1920x1080_50  1920x1080  -  -  50
BQTerrace_1920x1080_60  1920x1080  -  -  60
Kimono1_1920x1080_24  1920x1080  -  -  24
ParkScene_1920x1080_24  1920x1080  -  -  24
BasketballDrill_832x480_50  832x480  -  -  50
BQMall_832x480_60  832x480  -  -  60
PartyScene_832x480_50  832x480  -  -  50
RaceHorses_832x480_30  832x480  -  -  30
RaceHorsesC_832x480_30  832x480  -  -  30
BasketballPass_416x240_50  416x240  -  -  50
BQSquare_416x240_60  416x240  -  -  60
BlowingBubbles_416x240_50  416x240  -  -  50
RaceHorses_416x240_30  416x240  -  -  30
FourPeople_1280x720_60  1280x720  -  -  60
Johnny_1280x720_60  1280x720  -  -  60
KristenAndSara_1280x720_60  1280x720  -  -  60
BasketballDrillText_832x480_50  832x480  -  -  50
ArenaOfValor_1920x1080_60_8bit_420  1920x1080  8  420  60
ArenaOfValor_1920x1080_60fps_8bit_420  1920x1080  8  420  60
ChinaSpeed_1024x768_30  1024x768  -  -  30
SlideEditing_1280x720_30  1280x720  -  -  30
SlideShow_1280x720_20  1280x720  -  -  20
Traffic_2560x1600_30_crop  2560x1600  -  -  30
NebutaFestival_2560x1600_60_10bit_crop  2560x1600  10  -  60
Drums100_3840x2160_100fps_10bit_420_jvet  3840x2160  10  420  100
ToddlerFountain2_3840x2160p_60_10_709_420  3840x2160  10  420  60
Rollercoaster2_3840x2160p_60_10_709_420  3840x2160  10  420  60
DaylightRoad_3840x2160p_60_10_709_420  3840x2160  10  420  60
TrafficFlow_3840x2160_30fps_10bit_420_jvet  3840x2160  10  420  30
Hurdles_1920x1080p_50_10b_pq_709_ct2020_420_rev1  1920x1080  10  420  50
Market3_1920x1080p_50_10b_pq_709_ct2020_420_rev1  1920x1080  10  420  50
ShowGirl2Teaser_1920x1080p_25_10b_pq_709_ct2020_420_rev1  1920x1080  10  420  25
FireEaterClip4000r1_1920x1080p_25_10b_pq_P3_ct2020_420_rev1  1920x1080  10  420  25
DayStreet_1920x1080_60p_10bit_420_hlg  1920x1080  10  420  60
foreman_cif  352x288  -  -  -
akiyo_qcif  176x144  -  -  -
bus_cif  352x288  -  -  -
city_4cif  704x576  -  -  -
harbour_4cif_60fps  704x576  -  -  60
soccer_704x576_60  704x576  -  -  60
foreman_352x288_30  352x288  -  -  30
foreman_cif_30  352x288  -  -  30
720p50_mobcal_ter  1280x720  -  -  50
in_to_tree_420_720p50  1280x720  -  420  50
old_town_cross_420_720p50  1280x720  -  420  50
ducks_take_off_1080p50  1920x1080  -  -  50
crowd_run_1080p50  1920x1080  -  -  50
park_joy_1080p50  1920x1080  -  -  50
in_to_tree_1080p50  1920x1080  -  -  50
crowd_run_2160p50  3840x2160  -  -  50
ducks_take_off_444_720p50  1280x720  -  444  50
park_joy_422_720p50  1280x720  -  422  50
blue_sky_1080p25  1920x1080  -  -  25
pedestrian_area_1080p25  1920x1080  -  -  25
riverbed_1080p25  1920x1080  -  -  25
station2_1080p25  1920x1080  -  -  25
west_wind_easy_1080p  1920x1080  -  -  -
aspen_1080p  1920x1080  -  -  -
controlled_burn_1080p  1920x1080  -  -  -
life_1080p30  1920x1080  -  -  30
Netflix_Aerial_4096x2160_60fps_10bit_420  4096x2160  10  420  60
Netflix_DrivingPOV_1280x720_60fps_8bit_420_120f  1280x720  8  420  60
ElFuente_3840x2160_60fps_8bit_420  3840x2160  8  420  60
Beauty_1920x1080_120fps_420_8bit_YUV  1920x1080  8  420  120
Beauty_3840x2160_120fps_420_10bit_YUV  3840x2160  10  420  120
ReadySteadyGo_3840x2160_120fps_420_8bit_YUV  3840x2160  8  420  120
CityAlley_3840x2160_50fps_10bit_420  3840x2160  10  420  50
FlowerFocus_3840x2160_50fps_10bit_YUV_RAW  3840x2160  10  -  50
Twilight_3840x2160_50fps_420_10bit_YUV  3840x2160  10  420  50
Bund_Nightscape_3840x2160_30fps_420_8bit_YUV  3840x2160  8  420  30
Construction_Field_3840x2160_30fps_420_10bit_YUV  3840x2160  10  420  30
Bund_Nightscape_3840x2160_30fps_10bit_420  3840x2160  10  420  30
Library_3840x2160_30fps_444_10bit_YUV  3840x2160  10  444  30
Wood_3840x2160_30fps_420_8bit_YUV  3840x2160  8  420  30
aspen_1080p_60f  1920x1080  -  -  -
Vertical_Bayshore_270x480_2997  270x480  -  -  30000/1001
BoxingPractice_3840x2160_5994fps_10bit_420  3840x2160  10  420  60000/1001
SolLevanteDragons_3840x2160_24fps_10bit_420  3840x2160  10  420  24
SolLevanteDragons_3840x2160_24fps_10bit  3840x2160  10  -  24
MountainBike_3840x2160_30fps_10bit_420  3840x2160  10  420  30
NocturneDance_3840x2160_60fps_10bit_420  3840x2160  10  420  60
PierSeaSide_3840x2160_2997fps_10bit_420_v2  3840x2160  10  420  30000/1001
WalkingInStreet_1920x1080_30fps_8bit_420  1920x1080  8  420  30
GregoryScarf_1080x1920_30fps  1080x1920  -  -  30
Riverbed_1920x1080_25fps_8bit  1920x1080  8  -  25
FountainSky_480x270_30fps  480x270  -  -  30
old_town_cross_1280x720_50  1280x720  -  -  50
BalloonFestival_1920x1080p_24_10b_pq_709_ct2020_420_rev1  1920x1080  10  420  24
GarageExit_1920x1080_60_10bit  1920x1080  10  -  60
Traffic_3840x2048_60  3840x2048  -  -  60
EBURainFruits_3840x2160_50_10bit_420  3840x2160  10  420  50
EBULupoCandlelight_1920x1080_50_10bit  1920x1080  10  -  50
sc_flyingGraphics_1920x1080_60_8bit_444  1920x1080  8  444  60
MissionControlClip3_1920x1080_60_8bit_420  1920x1080  8  420  60
Robot_1920x1080_30_8bit_444  1920x1080  8  444  30
WebBrowsing_1280x720_30_8bit_444  1280x720  8  444  30
AerialCrowd2_3840x2160p_30_10_709_420  3840x2160  10  420  30
Crosswalk1_4096x2160_60_10_709_420  4096x2160  10  420  60
BuildingHall2_3840x2160_50fps_10bit_420  3840x2160  10  420  50
Tango_4096x2160_60_10bit_420  4096x2160  10  420  60
SVT_1920x1080_50p_10bit_420  1920x1080  10  420  50
SVT01_Smithy_3840x2160_50fps_10bit  3840x2160  10  -  50
mother-daughter_cif  352x288  -  -  -
hall_monitor_cif  352x288  -  -  -
container_qcif_15fps  176x144  -  -  15
ice_4cif_30  704x576  -  -  30
big_buck_bunny_1080p24  1920x1080  -  -  24
elephants_dream_1080p24  1920x1080  -  -  24
speed_bag_1080p  1920x1080  -  -  -
snow_mnt_1080p  1920x1080  -  -  -
tears_of_steel_1080p  1920x1080  -  -  -
BlueSky_1920x1088_25  1920x1088  -  -  25
Mobisode2_832x480_30  832x480  -  -  30
vidyo1_720p_60fps  1280x720  -  -  60
vidyo3_1280x720_60  1280x720  -  -  60
KristenAndSara_1280x720_60p  1280x720  -  -  60
"""
"""Names of the sequences of JVET, MPEG, xiph.org, AOM, UVG, SJTU and Netflix; then size, depth, chroma format, rate."""


@pytest.mark.parametrize("line", PUBLISHED.split("\n")[1:-1])
def test_published_names(line):
    name, size, depth, chroma_format, rate = line.split()
    named = parse_yuv_name(f"{name}.yuv")
    assert [f"{width}x{height}" for width, height in named.sizes] == [size]
    assert named.bit_depths == (() if depth == "-" else (int(depth),))
    assert named.chroma_formats == (() if chroma_format == "-" else (chroma_format,))
    assert named.rates == (() if rate == "-" else (Fraction(rate),))
    unsure = (named.unsure_depth, named.unsure_chroma, named.unsure_rate, named.unsure_range, named.unreadable)
    assert not any(unsure)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        *(("720p5994", "60000/1001"), ("1080p2997", "30000/1001"), ("1080p23976", "24000/1001"), ("720p50fps", "50")),
        *(("1080p59_94", "60000/1001"), ("1080p59.94", "60000/1001"), ("2160p60hz", "60"), ("480p12.5", "25/2")),
    ],
)
def test_rates_behind_numbers_of_lines(text, rate):
    assert parse_yuv_name(f"x_{text}_ter.yuv").rates == (Fraction(rate),)


@pytest.mark.parametrize("word", ["720p599x", "1080p5000", "720p10le", "1080p999"])
def test_what_stands_behind_numbers_of_lines_and_is_no_rate_is_not_passed_over(word):
    assert parse_yuv_name(f"x_{word}.yuv").unsure_rate == (word,)


def test_colours_may_stand_between_a_bare_depth_and_the_chroma_format():
    for colours in ("709", "bt2020_pq", "P3_ct2020", "rec709_hlg"):
        assert parse_yuv_name(f"x_416x240p_60_10_{colours}_420.yuv").bit_depths == (10,)
    assert parse_yuv_name("x_416x240p_60_10_709.yuv").unsure_depth == ("10",)
    assert parse_yuv_name("x_416x240p_60_10_take_420.yuv").unsure_depth == ("10",)
