"""Damage that FFmpeg conceals: an error for an original, unless the user allows it, and then the log says so."""

from __future__ import annotations

import re

import numpy as np
import pytest

from vvc_nnr.errors import BitstreamError
from vvc_nnr.sequences.containers import check_container_end
from vvc_nnr.sequences.source import open_source
from vvc_nnr.sequences.video import probe_video, read_video

N_PICTURES = 12
FILES = {
    "h264.mp4": ("-c:v", "libx264", "-bf", "0"),
    "h264.mkv": ("-c:v", "libx264", "-bf", "2"),
    "h264.ts": ("-c:v", "libx264", "-bf", "0"),
    "h264.264": ("-c:v", "libx264", "-bf", "0"),
    "hevc.mp4": ("-c:v", "libx265", "-x265-params", "log-level=none"),
    "mpeg4.avi": ("-c:v", "mpeg4"),
    "mpeg2.mpg": ("-c:v", "mpeg2video"),
    "mjpeg.avi": ("-c:v", "mjpeg"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-cpu-used", "8"),
    "av1.mp4": ("-c:v", "libsvtav1", "-preset", "12"),
    "ffv1.mkv": ("-c:v", "ffv1", "-level", "3", "-slicecrc", "1"),
    "prores.mov": ("-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"),
    "png.mov": ("-c:v", "png", "-pix_fmt", "rgb24"),
}
MUST_NOTICE = {
    **{"h264.mp4": 3, "h264.mkv": 3, "h264.ts": 3, "h264.264": 3, "mpeg4.avi": 9, "mpeg2.mpg": 9, "mjpeg.avi": 2},
    **{"av1.mp4": 5, "ffv1.mkv": 12, "prores.mov": 2, "png.mov": 12},
}
"""Of twelve damaged files how many FFmpeg can tell at least; HEVC's and VP9's entropy codes have nothing to check."""


@pytest.fixture(scope="module", params=FILES)
def video(request, tmp_path_factory, ffmpeg):
    path = tmp_path_factory.mktemp("video") / request.param
    picture = ("-f", "lavfi", "-i", "testsrc2=size=128x96:rate=25", "-frames:v", N_PICTURES, "-pix_fmt", "yuv420p")
    ffmpeg(*picture, *FILES[request.param], path)
    return path


def samples(path, **options):
    return [frame.tobytes() for frame in read_video(path, **options)]


def test_damage_inside_is_never_passed_over_where_the_decoder_notices(video, tmp_path, caplog):
    """Sixteen random bytes in the middle third: BitstreamError, or FFmpeg itself decodes without a complaint."""
    good = video.read_bytes()
    n_noticed, noticed = 0, []
    for seed in range(12):
        print(f"{video.name}, seed {seed}")
        rng = np.random.default_rng(seed)
        bad = bytearray(good)
        at = len(good) // 3 + int(rng.integers(0, len(good) // 3))
        bad[at : at + 16] = rng.bytes(16)
        path = tmp_path / video.name
        path.write_bytes(bad)
        caplog.clear()
        try:
            strict = samples(path)
        except BitstreamError as error:
            n_noticed += 1
            noticed.append(str(error))
            continue
        assert samples(path, allow_damaged=True) == strict
        assert "damaged" not in caplog.text
    assert all("FFmpeg cannot decode it" in text or "truncated" in text for text in noticed)
    assert all(("--allow-damaged" in text) == ("at picture" in text or "truncated" in text) for text in noticed)
    assert n_noticed >= MUST_NOTICE.get(video.name, 0)


def test_a_file_that_was_cut_off_is_never_taken_for_a_short_one(video, tmp_path):
    """But a transport stream that was cut between two of its packets of 188 bytes is a legal one."""
    data, path = video.read_bytes(), tmp_path / video.name
    for tenths in range(3, 10):
        path.write_bytes(data[: len(data) * tenths // 10 // 188 * 188 + 100])
        with pytest.raises(BitstreamError):
            samples(path)


def test_the_undamaged_file_has_nothing_to_say(video, caplog):
    source = open_source(video)
    assert len(list(source.frames())) == N_PICTURES
    assert source.n_pictures in (None, N_PICTURES)
    check_container_end(video)
    assert "damaged" not in caplog.text


def test_allowed_damage_is_said_once_and_read_to_the_end(tmp_path, ffmpeg, caplog):
    path = tmp_path / "x.avi"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=128x96:rate=25", "-frames:v", N_PICTURES, "-c:v", "mpeg4", path)
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 4, len(data) * 3 // 4, len(data) // 16):
        data[at : at + 8] = bytes(range(at % 200, at % 200 + 8))
    path.write_bytes(data)
    with pytest.raises(BitstreamError, match="FFmpeg cannot decode it at picture"):
        samples(path)
    source = open_source(path, allow_damaged=True)
    caplog.clear()
    assert len(list(source.frames())) >= N_PICTURES - 2
    assert caplog.text.count("damaged at picture") == 1


def test_pictures_that_the_container_promises_and_lacks(tmp_path, ffmpeg, caplog):
    """An AVI with the last picture in its index, but no longer in its data."""
    path = tmp_path / "x.avi"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-frames:v", 6, "-c:v", "ffv1", path)
    data = path.read_bytes()
    last = data.rindex(b"00dc", 0, data.rindex(b"idx1"))
    path.write_bytes(data[:last] + b"JUNK" + data[last + 4 :])
    with pytest.raises(BitstreamError, match="promises 6 coded pictures, 5 are there"):
        samples(path)
    assert len(samples(path, count=3)) == 3
    assert len(samples(path, allow_damaged=True)) == 5
    assert "promises 6" in caplog.text


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("empty_places.avi", ("-vf", r"select=not(eq(mod(n\,3)\,1))", "-fps_mode", "vfr", "-c:v", "mpeg4")),
        ("packed.avi", ("-c:v", "libxvid", "-bf", 2)),
        ("hidden.webm", ("-c:v", "libvpx", "-auto-alt-ref", 1, "-lag-in-frames", 8)),
        ("slices.mkv", ("-c:v", "ffv1", "-slices", 4, "-level", 3)),
        ("open_gop.ts", ("-c:v", "libx264", "-x264-params", "open-gop=1:keyint=5:bframes=3")),
    ],
)
def test_legal_but_unusual_videos_are_not_called_damaged(tmp_path, ffmpeg, caplog, name, options):
    """Empty places in an AVI, two pictures in one packet, packets without a picture, slices, open groups."""
    path = tmp_path / name
    picture = ("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25", "-frames:v", 20, "-pix_fmt", "yuv420p")
    ffmpeg(*picture, *options, path)
    assert b"".join(samples(path)) == ffmpeg("-i", path, "-fps_mode", "passthrough", "-f", "rawvideo", "-")
    assert "damaged" not in caplog.text


@pytest.mark.parametrize(("name", "tail"), [("x.ivf", None), ("x.mp4", b"moov"), ("x.obu", None)])
def test_an_error_of_the_last_picture_of_av1_is_heard(tmp_path, ffmpeg, name, tail):
    """libdav1d tells of it only if it may not look ahead."""
    path = tmp_path / name
    picture = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-frames:v", 6, "-pix_fmt", "yuv420p")
    ffmpeg(*picture, "-c:v", "libaom-av1", "-cpu-used", 8, "-crf", 50, path)
    whole = path.read_bytes()
    n_heard, end = 0, whole.rindex(tail) - 4 if tail else len(whole)
    for at in range(end - 24, end):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            assert len(samples(path)) == 6
        except BitstreamError as error:
            n_heard += "at picture 5 in the order of coding" in str(error)
    assert n_heard


def test_a_coded_picture_of_which_nothing_comes_is_damage(tmp_path, ffmpeg):
    """Each of AV1's shows one picture; in place of the third the file has a delimiter alone, which is no error."""
    path = tmp_path / "x.ivf"
    picture = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-frames:v", 4, "-pix_fmt", "yuv420p")
    ffmpeg(*picture, "-c:v", "libaom-av1", "-cpu-used", 8, "-g", 1, path)
    data, at, places = path.read_bytes(), 32, list[int]()
    while at < len(data):
        places.append(at)
        at += 12 + int.from_bytes(data[at : at + 4], "little")
    empty = b"\x12\x00"
    unit = len(empty).to_bytes(4, "little") + data[places[2] + 4 : places[2] + 12] + empty
    path.write_bytes(data[: places[2]] + unit + data[places[3] :])
    with pytest.raises(BitstreamError, match="holds 4 pictures to be seen, of which 3 can be decoded; allow_damaged"):
        samples(path)
    assert len(samples(path, allow_damaged=True)) == 3


@pytest.mark.parametrize("n_lost_bytes", [1, 2, 3, 10, 50, 400])
def test_a_sequence_of_jpeg_pictures_that_was_cut_off(tmp_path, ffmpeg, n_lost_bytes):
    path = tmp_path / "x.mjpeg"
    picture = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-frames:v", 4, "-pix_fmt", "yuvj420p")
    ffmpeg(*picture, "-c:v", "mjpeg", path)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(5000))
    assert len(samples(path)) == 4
    path.write_bytes(whole[:-n_lost_bytes])
    with pytest.raises(BitstreamError, match="truncated"):
        samples(path)
    assert 3 <= len(samples(path, allow_damaged=True)) <= 4


def test_a_picture_of_a_jpeg_sequence_that_was_cut_off(tmp_path, ffmpeg, caplog):
    """FFmpeg warns of it and makes up the rest."""
    path = tmp_path / "x.mjpeg"
    picture = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-frames:v", 4, "-pix_fmt", "yuvj420p")
    ffmpeg(*picture, "-c:v", "mjpeg", path)
    whole = path.read_bytes()
    end = whole.index(b"\xff\xd9")
    path.write_bytes(whole[: end - 50] + whole[end + 2 :])
    with pytest.raises(BitstreamError, match=r"at picture 0 .*: EOI missing, emulating; allow_damaged"):
        samples(path)
    assert len(samples(path, allow_damaged=True)) == 4
    assert "EOI missing" in caplog.text


def test_a_damaged_first_picture_is_noticed_when_the_file_is_opened(tmp_path, ffmpeg):
    path = tmp_path / "x.mov"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-frames:v", 2, "-c:v", "png", path)
    data = bytearray(path.read_bytes())
    at = data.index(b"IDAT") + 200
    data[at : at + 4] = b"\xff\x00\xff\x00"
    path.write_bytes(data)
    with pytest.raises(BitstreamError, match="at picture 0"):
        probe_video(path)


@pytest.mark.parametrize("name", ["x.mp4", "x.mov", "x.mkv", "x.webm", "x.avi", "x.ogv"])
def test_where_containers_end(tmp_path, ffmpeg, name):
    codec = {"x.webm": ("-c:v", "libvpx"), "x.ogv": ("-c:v", "libtheora")}.get(name, ("-c:v", "libx264", "-bf", "0"))
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=64x48:rate=25",
        "-frames:v",
        3,
        "-pix_fmt",
        "yuv420p",
        *codec,
        tmp_path / name,
    )
    check_container_end(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    for cut in (1, 20, 300):
        (tmp_path / name).write_bytes(data[:-cut])
        with pytest.raises(BitstreamError, match="truncated, its container ends at byte"):
            check_container_end(tmp_path / name)
    for n_bytes in range(64):  # nothing else is ever raised
        (tmp_path / name).write_bytes(data[:n_bytes])
        try:
            check_container_end(tmp_path / name)
        except BitstreamError:
            continue


def test_what_stands_behind_a_container_is_no_damage(tmp_path, ffmpeg):
    for name in ("x.mp4", "x.avi", "x.mkv"):
        picture = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-frames:v", 3, "-pix_fmt", "yuv420p")
        ffmpeg(*picture, "-c:v", "mpeg4", tmp_path / name)
        expected = samples(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        for behind in (bytes(50), b"SEFT trailer of a phone, of no length"):
            (tmp_path / name).write_bytes(data + behind)
            check_container_end(tmp_path / name)
            if name != "x.mkv":
                assert samples(tmp_path / name) == expected


def test_a_live_recording_has_no_stated_end(tmp_path, ffmpeg):
    picture = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-frames:v", 3)
    ffmpeg(*picture, "-c:v", "libvpx", "-live", 1, tmp_path / "x.webm")
    ffmpeg(
        *picture, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "frag_keyframe+empty_moov", tmp_path / "x.mp4"
    )
    for name in ("x.webm", "x.mp4"):
        assert len(samples(tmp_path / name)) == 3


def _fragments(tmp_path, ffmpeg, flags):
    path = tmp_path / "x.mp4"
    picture = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-f", "lavfi", "-i", "sine", "-frames:v", 20)
    coding = ("-c:v", "libx264", "-g", 5, "-pix_fmt", "yuv420p", "-c:a", "aac", "-shortest")
    ffmpeg(*picture, *coding, "-movflags", flags, path)
    return path


@pytest.mark.parametrize(
    "flags",
    [
        "frag_keyframe+empty_moov",
        "frag_keyframe",
        "frag_every_frame+empty_moov+default_base_moof",
        "cmaf",
        "frag_keyframe+delay_moov",
        "hybrid_fragmented",
    ],
)
def test_fragments_of_each_kind_are_whole(tmp_path, ffmpeg, flags):
    path = _fragments(tmp_path, ffmpeg, flags)
    assert len(samples(path)) == 20
    check_container_end(path)
    for behind in (bytes(50), b"SEFT trailer of a phone, of no length"):
        path.write_bytes(path.read_bytes() + behind)
        check_container_end(path)


def test_no_picture_of_a_fragment_is_lost_in_silence(tmp_path, ffmpeg):
    """One bit in a list of pictures, its sizes, names, numbers and times."""
    path = _fragments(tmp_path, ffmpeg, "frag_keyframe+empty_moov")
    whole = path.read_bytes()
    lists = [at - 4 for at in range(len(whole)) if whole.startswith(b"moof", at)]
    assert len(lists) == 4
    for seed in range(60):
        print(f"seed {seed}")
        rng = np.random.default_rng(seed)
        bad, at = bytearray(whole), lists[rng.integers(4)]
        bad[at + int(rng.integers(int.from_bytes(whole[at : at + 4], "big") + 8))] ^= 1 << int(rng.integers(8))
        path.write_bytes(bad)
        try:
            assert len(samples(path)) == 20
        except BitstreamError:
            continue


@pytest.mark.parametrize(
    ("name", "place", "value", "said"),
    [
        (b"mfhd", -4, b"\1\0\0\x10", "holds b'mfhd' of 16777232 bytes"),
        (b"traf", 0, b"tra&", "holds b'tra&' of"),
        (b"trun", 8, b"\0\0\0\3", "its 3 pictures take"),
        (b"moof", 0, b"moof"[::-1], "b'foom' at byte"),
        (b"moof", 0, b"moov", "2 boxes moov"),
        (b"mdat", 0, b"mda4", "b'mda4' at byte"),
        (b"tfdt", 8, b"\0\0\x10\0", "the times of its fragments go back"),
    ],
)
def test_a_damaged_list_of_a_fragment_is_named(tmp_path, ffmpeg, name, place, value, said):
    path = _fragments(tmp_path, ffmpeg, "frag_keyframe+empty_moov")
    whole = path.read_bytes()
    at = whole.index(name, whole.index(b"moof", whole.index(b"moof") + 1)) + place
    path.write_bytes(whole[:at] + value + whole[at + len(value) :])
    with pytest.raises(BitstreamError, match=re.escape(said) + ".*--allow-damaged"):
        samples(path)


@pytest.mark.parametrize("share", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_a_live_recording_that_ends_within_a_picture(tmp_path, ffmpeg, caplog, share):
    """The demuxer reads a small file whole when it is opened, and complains of its end only then."""
    whole = tmp_path / "live.mkv"
    picture = ("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25", "-frames:v", 10, "-pix_fmt", "yuv420p")
    ffmpeg(*picture, "-c:v", "ffv1", "-live", "1", whole)
    assert len(samples(whole)) == 10
    assert not caplog.messages
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    with pytest.raises(BitstreamError, match="File ended prematurely; allow_damaged"):
        samples(cut)
    assert 0 < len(samples(cut, allow_damaged=True)) < 10
    assert any("damaged" in message for message in caplog.messages)
    assert "File ended prematurely" in open_source(cut, allow_damaged=True).damage()


def test_damage_is_noticed_each_time_and_in_each_file(tmp_path, ffmpeg):
    """PyAV by itself passes over a message that is the same as the last one, of whatever file."""
    whole = tmp_path / "live.mkv"
    picture = ("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25", "-frames:v", 10, "-pix_fmt", "yuv420p")
    ffmpeg(*picture, "-c:v", "ffv1", "-live", "1", whole)
    for name in ("first.mkv", "second.mkv"):
        (tmp_path / name).write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    for name in ("first.mkv", "second.mkv", "second.mkv"):
        with pytest.raises(BitstreamError, match=f"{name}: .*File ended prematurely"):
            samples(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "codec"), [("x.ogv", "libtheora"), ("vp8.ivf", "libvpx"), ("vp9.ivf", "libvpx-vp9"), ("x.flv", "libx264")]
)
def test_a_file_that_ends_within_its_last_picture(tmp_path, ffmpeg, name, codec):
    """Also where the codec has nothing to check and the container counts the picture."""
    path = tmp_path / name
    picture = ("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25", "-frames:v", 6, "-pix_fmt", "yuv420p")
    ffmpeg(*picture, "-c:v", codec, path)
    whole = path.read_bytes()
    assert len(samples(path)) == 6
    for n_lost_bytes in (40, len(whole) // 4):
        path.write_bytes(whole[:-n_lost_bytes])
        with pytest.raises(BitstreamError):
            samples(path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.vob", "-c:v mpeg2video"),
        ("x.asf", "-c:v wmv2"),
        ("x.mjpeg", "-pix_fmt yuvj420p -c:v mjpeg"),
        ("x.nut", "-c:v ffv1"),
        ("x.f4v", "-c:v libx264"),
        ("x.3g2", "-c:v mpeg4"),
        ("x.m1v", "-c:v mpeg1video"),
        ("x.h263", "-s 128x96 -c:v h263"),
        ("x.obu", "-c:v libaom-av1 -cpu-used 8"),
        ("annex_b.obu", "-c:v libaom-av1 -cpu-used 8 -strict experimental"),
    ],
)
def test_files_of_rarer_suffixes(tmp_path, ffmpeg, name, options):
    """Read as FFmpeg reads them, whole or not at all."""
    path = tmp_path / name
    picture = ("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25", "-frames:v", 6, "-pix_fmt", "yuv420p")
    ffmpeg(*picture, *options.split(), path)
    whole = path.read_bytes()
    if name == "annex_b.obu":
        whole = in_temporal_units(whole)
        path.write_bytes(whole)
    assert b"".join(samples(path)) == ffmpeg("-i", path, "-fps_mode", "passthrough", "-f", "rawvideo", "-")
    for share in (0.5, 0.8):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(BitstreamError):
            samples(path)


def in_temporal_units(stream: bytes) -> bytes:
    """A low-overhead AV1 stream as a length-delimited one: each temporal unit is one frame unit of its OBUs."""

    def leb128(value: int) -> bytes:
        return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + leb128(value >> 7)

    def sized(data: bytes) -> bytes:
        return leb128(len(data)) + data

    units: list[bytes] = []
    at = 0
    while at < len(stream):
        kind, begin = stream[at], at + 1
        size = shift = 0
        while True:
            byte = stream[begin]
            size, shift, begin = size | (byte & 0x7F) << shift, shift + 7, begin + 1
            if byte < 0x80:
                break
        if kind >> 3 == 2:  # a temporal delimiter
            units.append(b"")
        units[-1] += sized(bytes([kind & ~2]) + stream[begin : begin + size])
        at = begin + size
    return b"".join(sized(sized(unit)) for unit in units)


def test_every_page_of_an_ogg_file_is_held_against_the_mark_of_the_last(tmp_path, ffmpeg):
    path = tmp_path / "x.ogv"
    picture = ("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25", "-frames:v", 6, "-pix_fmt", "yuv420p")
    ffmpeg(*picture, "-c:v", "libtheora", "-page_duration", 1, path)
    whole = path.read_bytes()
    pages = [at for at in range(1, len(whole)) if whole.startswith(b"OggS", at)]
    assert len(pages) > 3
    for at in pages:
        path.write_bytes(whole[:at])
        with pytest.raises(BitstreamError, match="truncated"):
            check_container_end(path)
    for good in (whole, whole * 2, whole + b"ID3 tag"):
        path.write_bytes(good)
        check_container_end(path)
