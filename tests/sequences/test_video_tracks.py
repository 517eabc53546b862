"""Video files as cameras, editors and archives write them: tracks, directions, flags, and pictures that change."""

from __future__ import annotations

import struct
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.sequences.frame import VideoFormat
from vvc_nnr.sequences.source import open_source, open_sources
from vvc_nnr.sequences.video import probe_video, read_video

PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25")
X264 = ("-pix_fmt", "yuv420p", "-c:v", "libx264", "-bf", "2")


@pytest.fixture
def clip(tmp_path, ffmpeg):
    """Six pictures of 64x48 in H.264."""
    ffmpeg(*PICTURE, "-frames:v", 6, *X264, tmp_path / "clip.mp4")
    return tmp_path / "clip.mp4"


@pytest.fixture
def decoded(ffmpeg):
    """The samples of FFmpeg's own rawvideo; further options choose and filter."""

    def run(path, *options) -> bytes:
        return ffmpeg("-i", path, *options, "-fps_mode", "passthrough", "-f", "rawvideo", "-")

    return run


def samples(path, **options) -> bytes:
    return b"".join(frame.tobytes() for frame in read_video(path, **options))


def tags_first(data: bytes) -> bytes:
    """An MP4 whose tags, and so its cover picture, stand before its tracks."""

    def boxes(part: bytes):
        at = 0
        while at < len(part):
            length, kind = struct.unpack(">I4s", part[at : at + 8])
            yield kind, part[at : at + length]
            at += length

    out = b""
    for kind, box in boxes(data):
        if kind == b"moov":
            inner = sorted(boxes(box[8:]), key=lambda item: {b"mvhd": 0, b"udta": 1}.get(item[0], 2))
            box = box[:8] + b"".join(part for _, part in inner)
        out += box
    return out


def with_aperture(data: bytes, size, centre, unit=1) -> bytes:
    """A file whose `moov` stands last, with a clean aperture in its first sample description."""
    values = (size[0] * unit, unit, size[1] * unit, unit, int(centre[0] * unit), unit, int(centre[1] * unit), unit)
    box = struct.pack(">I4sIIIIiIiI", 40, b"clap", *values)
    out, at = bytearray(data), 0
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", None):
        while kind is not None and out[at + 4 : at + 8] != kind:
            at += int.from_bytes(out[at : at + 4], "big")
        length = int.from_bytes(out[at : at + 4], "big")
        out[at : at + 4] = (length + len(box)).to_bytes(4, "big")
        end, at = at + length, at + (16 if kind == b"stsd" else 8)
    return bytes(out[:end]) + box + bytes(out[end:])


@pytest.mark.parametrize(
    ("size", "centre", "unit"),
    [((64, 48), (0, 0), 1), ((50, 40), (1, -2), 1), ((48, 30), (-8, 9), 1), ((52, 41), (0, 0.5), 2)],
)
def test_a_clean_aperture_is_obeyed(tmp_path, ffmpeg, decoded, size, centre, unit):
    path = tmp_path / "a.mov"
    ffmpeg(*PICTURE, "-frames:v", 2, "-pix_fmt", "yuv422p10le", "-c:v", "prores_ks", path)
    path.write_bytes(with_aperture(path.read_bytes(), size, centre, unit))
    assert samples(path) == decoded(path)
    assert (open_source(path).format.width, open_source(path).format.height) == size


@pytest.mark.parametrize(
    ("size", "centre"), [((51, 40), (0, 0)), ((80, 48), (0, 0)), ((50, 40), (20, 0)), ((0, 48), (0, 0))]
)
def test_an_aperture_beside_the_samples_is_refused(tmp_path, ffmpeg, size, centre):
    path = tmp_path / "a.mov"
    ffmpeg(*PICTURE, "-frames:v", 1, "-pix_fmt", "yuv422p10le", "-c:v", "prores_ks", path)
    path.write_bytes(with_aperture(path.read_bytes(), size, centre))
    with pytest.raises(UnsupportedError, match=rf"a\.mov: states a clean aperture of {size[0]}x{size[1]} in 64x48"):
        open_source(path)


def with_pixel_crop(data: bytes, **crop: int) -> bytes:
    """A Matroska file whose element of colours became a window."""
    at = data.index(b"\x55\xb0")
    n_bytes = 3 + (data[at + 2] & 0x7F)
    names = {"left": b"\x54\xcc", "right": b"\x54\xdd", "top": b"\x54\xbb", "bottom": b"\x54\xaa"}
    window = b"".join(names[side] + b"\x81" + bytes([value]) for side, value in crop.items())
    void = n_bytes - len(window) - 2
    return data[:at] + window + b"\xec" + bytes([0x80 | void]) + bytes(void) + data[at + n_bytes :]


@pytest.mark.parametrize("crop", [{"left": 8, "right": 6}, {"top": 4, "bottom": 10}, {"left": 2, "bottom": 2}])
def test_matroskas_window_is_obeyed(tmp_path, ffmpeg, decoded, crop):
    path = tmp_path / "a.mkv"
    colours = ("-color_range", "tv", "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709")
    ffmpeg(*PICTURE, "-frames:v", 2, "-pix_fmt", "yuv420p", *colours, "-c:v", "ffv1", path)
    whole = path.read_bytes()
    path.write_bytes(with_pixel_crop(whole, **crop))
    assert samples(path) == decoded(path)
    path.write_bytes(with_pixel_crop(whole, left=3))
    with pytest.raises(UnsupportedError, match="crops from 3, 0 on, where no chroma sample begins"):
        open_source(path)
    path.write_bytes(with_pixel_crop(whole, right=5))  # FFmpeg's command line would cut 6
    assert (open_source(path).format.width, open_source(path).format.height) == (59, 48)
    path.write_bytes(with_pixel_crop(whole, left=40, right=24))
    with pytest.raises(BitstreamError):
        open_source(path)


@pytest.mark.parametrize(("codec", "metadata"), [("libx264", "h264_metadata"), ("libx265", "hevc_metadata")])
@pytest.mark.parametrize("left", [2, 4, 18])
def test_windows_of_codecs_begin_at_any_column(tmp_path, ffmpeg, decoded, codec, metadata, left):
    """FFmpeg's library keeps columns left of the window, so that rows are aligned, unless it is told not to."""
    path = tmp_path / "a.mkv"
    window = f"{metadata}=crop_left={left}:crop_right=6:crop_top=2:crop_bottom=8"
    ffmpeg(*PICTURE, "-frames:v", 2, "-pix_fmt", "yuv420p", "-c:v", codec, "-bsf:v", window, path)
    assert samples(path) == decoded(path)
    assert open_source(path).format.width == 64 - left - 6


@pytest.mark.parametrize("name", ["art.mp4", "art.mkv", "art.mov"])
def test_cover_art_is_no_video(tmp_path, ffmpeg, clip, name):
    Image.new("RGB", (32, 32), (200, 30, 30)).save(tmp_path / "cover.jpg")
    art = tmp_path / name
    if name == "art.mkv":
        ffmpeg("-i", clip, "-attach", tmp_path / "cover.jpg", "-metadata:s:t", "mimetype=image/jpeg", "-c", "copy", art)
    else:
        ffmpeg(*("-i", tmp_path / "cover.jpg", "-i", clip, "-map", 1, "-map", 0, "-c", "copy"),
               *("-disposition:v:1", "attached_pic", "-movflags", "+faststart", art))  # fmt: skip
    if name == "art.mp4":
        art.write_bytes(tags_first(art.read_bytes()))
    assert samples(art) == samples(clip)
    assert open_source(art).format.width == 64


def test_a_song_with_a_cover_is_no_video(tmp_path, ffmpeg):
    Image.new("RGB", (32, 32)).save(tmp_path / "cover.png")
    song = tmp_path / "song.m4v"
    ffmpeg(*("-f", "lavfi", "-i", "sine=duration=0.1", "-i", tmp_path / "cover.png", "-map", 0, "-map", 1),
           *("-c:v", "copy", "-c:a", "aac", "-disposition:v", "attached_pic", "-f", "mp4", song))  # fmt: skip
    with pytest.raises(BitstreamError, match="no video stream, only cover pictures"):
        probe_video(song)


@pytest.mark.parametrize("name", ["two.mp4", "two.mkv", "two.ts"])
def test_of_several_videos_one_is_chosen(tmp_path, ffmpeg, decoded, clip, name):
    two = tmp_path / name
    second = ("-f", "lavfi", "-i", "testsrc=size=32x32:rate=25", "-f", "lavfi", "-i", "sine=duration=0.2")
    maps = ("-map", 0, "-map", 2, "-map", 1, "-c:a", "aac", "-frames:v", 4)
    ffmpeg("-i", clip, *second, *maps, *X264, two)
    with pytest.raises(
        InputError, match=r"holds 2 videos \(0: h264 64x48, 2: h264 32x32\); give stream \(--stream N\)"
    ):
        open_source(two)
    for index, width in ((0, 64), (2, 32)):
        source = open_source(two, stream=index)
        assert source.format.width == width
        assert b"".join(frame.tobytes() for frame in source.frames()) == decoded(two, "-map", f"0:{index}")
    for index in (1, 3):
        with pytest.raises(InputError, match=f"stream {index} is no video"):
            open_source(two, stream=index)


def test_stream_is_for_video_files(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    with pytest.raises(InputError, match="is for video files"):
        open_source(tmp_path / "x.png", stream=0)
    with pytest.raises(InputError, match="this is a folder"):
        open_sources(tmp_path, stream=0)


@pytest.mark.parametrize(
    ("pixel_format", "codec"),
    [("yuv420p", "libx264"), ("yuv444p10le", "libx264"), ("gray", "ffv1"), ("yuv420p", "mjpeg")],
)
@pytest.mark.parametrize(
    "turn", [(90,), (180,), (-90,), (0, "-display_hflip"), (0, "-display_vflip"), (90, "-display_hflip")]
)
def test_pictures_are_turned_upright(tmp_path, ffmpeg, decoded, pixel_format, codec, turn):
    plain, turned = tmp_path / "plain.mov", tmp_path / "turned.mov"
    plain = plain.with_suffix(".mkv") if codec == "ffv1" else plain
    turned = turned.with_suffix(plain.suffix)
    full = ("-color_range", "pc") if codec == "mjpeg" else ()
    ffmpeg(*PICTURE, "-frames:v", 2, "-vf", "setsar=4/3", "-pix_fmt", pixel_format, *full, "-c:v", codec, plain)
    ffmpeg("-display_rotation", *turn, "-i", plain, "-c", "copy", turned)
    format = probe_video(turned).format
    upright = abs(turn[0]) != 90
    assert (format.width, format.height) == ((64, 48) if upright else (48, 64))
    assert format.pixel_aspect == (Fraction(4, 3) if upright else Fraction(3, 4))
    assert samples(turned) == decoded(turned)


def test_turns_that_cannot_be_made_are_refused(tmp_path, ffmpeg, clip):
    ffmpeg("-display_rotation", 30, "-i", clip, "-c", "copy", tmp_path / "x.mp4")
    with pytest.raises(UnsupportedError, match="turned by"):
        probe_video(tmp_path / "x.mp4")
    ffmpeg(*PICTURE, "-frames:v", 1, "-pix_fmt", "yuv422p", "-c:v", "libx264", tmp_path / "plain.mp4")
    ffmpeg("-display_rotation", 90, "-i", tmp_path / "plain.mp4", "-c", "copy", tmp_path / "x.mp4")
    with pytest.raises(UnsupportedError, match="4:2:2 is to be shown on its side"):
        probe_video(tmp_path / "x.mp4")


@pytest.mark.parametrize("colour_range", ["limited", "full"])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le", "yuv422p", "gray"])
def test_range_and_pixel_aspect_are_kept(tmp_path, ffmpeg, colour_range, pixel_format):
    path = tmp_path / "x.mkv"
    range_word = {"limited": "tv", "full": "pc"}[colour_range]
    filters = f"setsar=40/33,format={pixel_format},setrange={range_word}"
    ffmpeg(*PICTURE, "-frames:v", 1, "-vf", filters, "-color_range", range_word, "-c:v", "ffv1", path)
    format = probe_video(path).format
    assert (format.colour_range, format.pixel_aspect) == (colour_range, Fraction(40, 33))


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", ("-flags", "+ildct+ilme")),
        ("mpeg2video", ("-flags", "+ildct+ilme")),
        ("prores_ks", ("-flags", "+ildct")),
        ("ffv1", ("-field_order", "tt")),
        ("rawvideo", ("-field_order", "bb")),
    ],
)
def test_interlaced_pictures_are_refused(tmp_path, ffmpeg, codec, options):
    """By the flag of the pictures, or by the container's where the codec has none."""
    path = tmp_path / ("x.mov" if codec in ("prores_ks", "rawvideo") else "x.mkv")
    pixel_format = {"prores_ks": "yuv422p10le", "rawvideo": "yuyv422"}.get(codec, "yuv420p")
    filters = ("-vf", "tinterlace=interleave_top,setfield=tff", "-pix_fmt", pixel_format)
    ffmpeg(*PICTURE, "-frames:v", 2, *filters, "-c:v", codec, *options, path)
    with pytest.raises(UnsupportedError, match="interlaced"):
        probe_video(path)


@pytest.mark.parametrize("start_s", [0.05, 0.1, 0.15])
def test_an_edit_list_is_obeyed(tmp_path, ffmpeg, decoded, clip, start_s):
    ffmpeg("-ss", start_s, "-i", clip, "-c", "copy", tmp_path / "cut.mp4")
    source = open_source(tmp_path / "cut.mp4")
    frames = list(source.frames())
    assert b"".join(frame.tobytes() for frame in frames) == decoded(tmp_path / "cut.mp4")
    assert source.n_pictures == len(frames) < 6


def test_pictures_outside_of_an_edit_list_are_counted(tmp_path, ffmpeg, clip, caplog):
    """Those before its beginning, which must be decoded, and those behind its end, which FFmpeg's index has not."""
    assert probe_video(clip).n_outside_edit_list == 0
    assert not caplog.records
    ffmpeg(*PICTURE, "-frames:v", 40, *X264, "-g", 10, "-bf", 0, tmp_path / "whole.mp4")
    ffmpeg("-ss", 0.28, "-i", tmp_path / "whole.mp4", "-c", "copy", tmp_path / "cut.mp4")
    source = open_source(tmp_path / "cut.mp4")
    assert (source.n_pictures, source.n_outside_edit_list) == (33, 7)
    assert "7 pictures are coded and outside of its edit list" in caplog.text
    data = bytearray((tmp_path / "whole.mp4").read_bytes())
    at = data.index(b"elst") + 12  # behind version and count: how long the first edit is
    data[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") // 2).to_bytes(4, "big")
    (tmp_path / "ended.mp4").write_bytes(data)
    source = open_source(tmp_path / "ended.mp4")
    assert (source.n_pictures, source.n_outside_edit_list) == (20, 20) == (len(list(source.frames())), 20)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("start_s", [0.3, 0.5, 0.7, 0.9])
def test_a_cut_at_an_open_group_has_the_pictures_of_the_whole(tmp_path, ffmpeg, codec, start_s):
    """But for the first ones, where its edit list shows pictures that lean on what was cut off: these do not come."""
    params = {
        "libx264": ("-x264-params", "open-gop=1:keyint=10:min-keyint=10:bframes=3:scenecut=0"),
        "libx265": ("-x265-params", "open-gop=1:keyint=10:min-keyint=10:bframes=3:scenecut=0:log-level=none"),
    }
    source = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=30", "-frames:v", 40, "-pix_fmt", "yuv420p")
    ffmpeg(*source, "-c:v", codec, *params[codec], tmp_path / "whole.mp4")
    ffmpeg("-ss", start_s, "-i", tmp_path / "whole.mp4", "-c", "copy", tmp_path / "cut.mp4")
    whole, cut = ([f.tobytes() for f in read_video(tmp_path / name)] for name in ("whole.mp4", "cut.mp4"))
    n_due = 40 - round(30 * start_s)
    assert n_due - 4 < len(cut) <= n_due
    assert probe_video(tmp_path / "cut.mp4").n_pictures == (n_due if len(cut) == n_due else None)
    assert cut == whole[-len(cut) :]


def test_a_varying_rate_is_said(tmp_path, ffmpeg, clip, caplog):
    probe_video(clip)
    assert not caplog.records
    filters = ("-vf", r"select=not(eq(mod(n\,5)\,3))", "-fps_mode", "vfr")
    ffmpeg(*PICTURE, "-frames:v", 20, *filters, *X264, tmp_path / "x.mp4")
    assert probe_video(tmp_path / "x.mp4").n_pictures == 20
    assert "varying intervals" in caplog.text


@pytest.mark.parametrize("suffix", ["h264", "264", "avi"])
@pytest.mark.parametrize("fps", [30, Fraction(60000, 1001)])
def test_a_raw_stream_has_the_rate_that_it_states(tmp_path, ffmpeg, suffix, fps):
    source = f"testsrc2=size=64x48:rate={fps}"
    ffmpeg("-f", "lavfi", "-i", source, "-frames:v", 3, *X264, "-bf", "0", tmp_path / f"clip.{suffix}")
    assert probe_video(tmp_path / f"clip.{suffix}").format.fps == fps


@pytest.mark.parametrize("name", ["x.mkv", "x.webm", "x.ts", "x.avi", "x.flv", "x.nut", "x.mp4", "x.mov", "live.mp4"])
def test_a_varying_rate_is_the_mean_in_each_container(tmp_path, ffmpeg, caplog, name):
    """Of ten pictures of 25 a second every fifth is left out: eight at 0 to 8 of these, seven intervals."""
    codec = ("-c:v", "libvpx", "-b:v", "1M", "-auto-alt-ref", 1, "-lag-in-frames", 8) if name == "x.webm" else X264
    options = ("-bf", 0, *(("-movflags", "frag_keyframe+empty_moov") if name == "live.mp4" else ()))
    if name in ("x.mkv", "x.ts"):
        options = ("-bf", 2)
    for n_pictures, filters in ((12, ()), (8, ("-vf", r"select=not(eq(mod(n\,5)\,3))", "-fps_mode", "passthrough"))):
        ffmpeg(*PICTURE, "-frames:v", n_pictures, *filters, *codec, *options, tmp_path / name)
        fps = probe_video(tmp_path / name).format.fps
        assert len(list(read_video(tmp_path / name))) == n_pictures
        assert caplog.text.count("varying intervals") == (n_pictures == 8)
        assert fps == 25 if n_pictures == 12 else abs(fps - Fraction(7 * 25, 9)) < 0.03


@pytest.mark.parametrize("name", ["x.ts", "x.mpg", "x.mkv"])
def test_times_that_begin_anew_are_no_varying_rate(tmp_path, ffmpeg, caplog, name):
    ffmpeg(*PICTURE, "-frames:v", 6, "-c:v", "mpeg2video", tmp_path / name)
    (tmp_path / name).write_bytes(2 * (tmp_path / name).read_bytes())
    assert probe_video(tmp_path / name).format.fps == 25
    assert not caplog.messages


def test_pictures_that_change_on_the_way_are_refused(tmp_path, ffmpeg):
    parts = []
    for index, (size, pixel_format) in enumerate([("64x48", "yuv420p"), ("32x32", "yuv420p"), ("64x48", "yuv422p")]):
        part = tmp_path / f"{index}.264"
        picture = ("-f", "lavfi", "-i", f"testsrc2=size={size}", "-frames:v", 2)
        ffmpeg(*picture, "-pix_fmt", pixel_format, "-c:v", "libx264", part)
        parts.append(part.read_bytes())
    for other, words in ((parts[1], "64x48 yuv420p, then 32x32 yuv420p"), (parts[2], "yuv420p, then 64x48 yuv422p")):
        (tmp_path / "x.264").write_bytes(parts[0] + other)
        with pytest.raises(UnsupportedError, match=f"picture 2 differs from the first: .*{words}"):
            list(read_video(tmp_path / "x.264"))


def test_an_alpha_layer_is_refused(tmp_path, ffmpeg):
    ffmpeg(*PICTURE, "-frames:v", 1, "-pix_fmt", "yuva420p", "-c:v", "libvpx-vp9", tmp_path / "x.webm")
    with pytest.raises(UnsupportedError, match="alpha layer"):
        probe_video(tmp_path / "x.webm")


@pytest.mark.parametrize("name", ["a:b.mp4", "%03d.mp4", "pipe:0.mp4", "é.mp4"])
def test_names_are_only_names(tmp_path, clip, name):
    assert samples(clip.rename(tmp_path / name))


def test_tags_in_any_encoding(tmp_path, ffmpeg, clip):
    ffmpeg("-i", clip, "-c", "copy", "-metadata", "title=XXXXYYYY", "-metadata:s:v", "title=ZZZZ", tmp_path / "x.mkv")
    data = (
        (tmp_path / "x.mkv").read_bytes().replace(b"XXXXYYYY", b"caf\xe9 \x8c\xfcz").replace(b"ZZZZ", b"\xff\xfe\xe9 ")
    )
    (tmp_path / "x.mkv").write_bytes(data)
    assert samples(tmp_path / "x.mkv") == samples(clip)


def test_mkv_and_avi_formats_stay_plain(tmp_path, ffmpeg):
    ffmpeg(*PICTURE, "-frames:v", 1, "-pix_fmt", "yuv420p", "-c:v", "ffv1", tmp_path / "x.avi")
    assert probe_video(tmp_path / "x.avi").format.holding(next(read_video(tmp_path / "x.avi"))) == VideoFormat(
        64, 48, 8, "420", Fraction(25), None, None, Fraction(1)
    )


def test_two_readers_at_once(clip):
    """Messages of one file's damage must not be taken for the other's."""
    both = zip(read_video(clip), read_video(clip), strict=True)
    assert all((a.planes[0] == b.planes[0]).all() and isinstance(a.planes[0], np.ndarray) for a, b in both)
