"""Which pictures of a stream are output, in what order and format: real encodings, and headers changed bit by bit."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from fractions import Fraction

import imageio_ffmpeg
import numpy as np
import pytest

from vvc_nnr.codec import decoder, vvc_sps
from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.encoders import VvcEncoder
from vvc_nnr.codec.nal import nal_units, remove_emulation_prevention
from vvc_nnr.codec.sequence import VvcOptions
from vvc_nnr.codec.vvc_pps import PictureParameters, read_pps
from vvc_nnr.codec.vvc_sps import SyntaxReader, Window, read_sps
from vvc_nnr.codec.vvc_stream import check_one_format, read_vvc_stream
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.sequences.frame import Frame, VideoFormat

TRAIL, RADL, RASL, CRA, GDR, SPS, PPS, AUD, EOS, SUFFIX_SEI = 0, 2, 3, 9, 10, 15, 16, 20, 21, 24
OPTIONS = VvcOptions(37, n_threads=1)


def bits_of(data):
    return "".join(f"{byte:08b}" for byte in data)


def bytes_of(bits):
    bits = bits + "0" * (-len(bits) % 8)
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


def ue(value):
    code = f"{value + 1:b}"
    return "0" * (len(code) - 1) + code


def protected(rbsp):
    out = bytearray()
    for byte in rbsp:
        if out[-2:] == b"\x00\x00" and byte <= 3:
            out.append(3)
        out.append(byte)
    return bytes(out)


def nal(kind, payload=b""):
    return b"\x00\x00\x01" + bytes((0, kind << 3 | 1)) + payload


def encoded(tmp_path, params, *, size="64x48", n_pictures=1, options=()):
    """A stream by libvvenc of a moving test picture; `params` override what stands before them."""
    target = tmp_path / "a.266"
    source = f"-f lavfi -i testsrc2=size={size}:rate=24000/1001 -frames:v {n_pictures} -pix_fmt yuv420p10le"
    coding = "-c:v libvvenc -preset faster -qp 37 -threads 1 -vvenc-params"
    params = f"IntraPeriod=1:GOPSize=1:MCTF=0:BIM=0:SEIDecodedPictureHash=md5:{params}"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source.split(), *options, *coding.split()]
    subprocess.run([*command, params, "-f", "vvc", "-y", str(target)], check=True, capture_output=True)
    return target.read_bytes()


def decoded_by_program(path):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-threads", "1", "-f", "vvc", "-i", str(path)]
    command += ["-fps_mode", "passthrough", "-f", "rawvideo", "-"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def samples(stream, **options):
    return [frame.tobytes() for frame in decode_vvc(stream, **options)]


# ---------------------------------------------------------------- what a stream states


@pytest.mark.parametrize(
    ("params", "field", "value"),
    [
        ("Range=full", "colour_range", "full"),
        ("Range=limited:ColourPrimaries=bt709", "colour_range", "limited"),
        ("Verbosity=0", "colour_range", None),
        ("SarWidth=4:SarHeight=3:AspectRatioIdc=255:VuiParametersPresent=1", "pixel_aspect", Fraction(4, 3)),
        ("AspectRatioIdc=14:VuiParametersPresent=1", "pixel_aspect", Fraction(4, 3)),
        ("ChromaFormatIDC=400", "chroma_format", "400"),
        ("InternalBitDepth=8", "bit_depth", 8),
        ("Verbosity=0", "fps", Fraction(24000, 1001)),
        ("HrdParametersPresent=1:Verbosity=0", "fps", Fraction(24000, 1001)),
    ],
)
def test_formats_of_real_streams(tmp_path, params, field, value):
    stream = read_vvc_stream(encoded(tmp_path, params))
    assert getattr(stream.first.format, field) == value


def pps_bits(offsets=None, size=(64, 48)):
    window = "0" if offsets is None else "1" + "".join(map(ue, offsets))
    return f"{5:06b}{2:04b}0" + ue(size[0]) + ue(size[1]) + window + "0" + "1" + "0" + "1"


@pytest.mark.parametrize(
    ("chroma_format", "window"),
    [
        ("400", Window(1, 2, 3, 4)),
        ("420", Window(2, 4, 6, 8)),
        ("422", Window(2, 4, 3, 4)),
        ("444", Window(1, 2, 3, 4)),
    ],
)
def test_offsets_count_chroma_samples(tmp_path, chroma_format, window):
    pps_id, pps = read_pps(bytes_of(pps_bits((1, 2, 3, 4))))
    assert pps_id == 5
    assert pps == PictureParameters(2, 64, 48, (1, 2, 3, 4), has_output_flag=True, is_one_tile=False)
    assert pps.window(changed_sps(tmp_path, chroma_format=chroma_format)) == window


def changed_sps(tmp_path, **changes):
    """The values of a real sequence parameter set, some of them others."""
    units = nal_units(encoded(tmp_path, "ConformanceWindowMode=3:ConfWinLeft=8:ConfWinTop=2"))
    payload = next(u.payload for u in units if u.nal_unit_type == SPS)
    sps = read_sps(remove_emulation_prevention(payload))[1]
    return vvc_sps.SequenceParameters(**{f: getattr(sps, f) for f in sps.__slots__} | changes)


def test_the_window_of_the_sequence_is_for_pictures_of_its_size(tmp_path):
    sps = changed_sps(tmp_path)
    assert sps.window == Window(8, 0, 2, 0)
    assert read_pps(bytes_of(pps_bits()))[1].window(sps) == sps.window
    assert read_pps(bytes_of(pps_bits(size=(32, 48))))[1].window(sps) == Window()


@pytest.mark.parametrize("offsets", [(16, 16, 0, 0), (0, 0, 24, 0), (0, 0, 0, 1 << 20)])
def test_windows_that_leave_nothing(tmp_path, offsets):
    sps = changed_sps(tmp_path)
    with pytest.raises(BitstreamError, match=r"window leaves nothing|must be at most"):
        read_pps(bytes_of(pps_bits(offsets)))[1].window(sps)


@pytest.mark.parametrize(("size", "fault"), [((64, 56), "at most 64x48"), ((68, 48), "multiples of 8")])
def test_pictures_that_the_sequence_does_not_allow(tmp_path, size, fault):
    with pytest.raises(BitstreamError, match=fault):
        read_pps(bytes_of(pps_bits(size=size)))[1].check_size(changed_sps(tmp_path))
    with pytest.raises(BitstreamError, match="multiples of 32"):
        read_pps(bytes_of(pps_bits()))[1].check_size(changed_sps(tmp_path, min_block_size=32))


@pytest.mark.parametrize("decode", [decode_vvc, lambda stream: decoder.ExternalDecoder("vvdecapp").decode(stream)])
def test_pictures_are_refused_by_the_memory_that_their_headers_state(tmp_path, monkeypatch, decode):
    monkeypatch.setattr(decoder, "find_program", lambda names: tmp_path / names[0])
    stream = read_vvc_stream(encoded(tmp_path, "Verbosity=0"))
    huge = replace(stream.first, coded_width=1 << 14, coded_height=1 << 14)
    size = (1 << 28) * 3 // 2 * 2
    with pytest.raises(
        UnsupportedError, match=f"picture 0 of 16384x16384 takes {size} bytes, must be at most 481296384"
    ):
        list(decode(replace(stream, pictures=(huge,))))


@pytest.mark.parametrize(
    ("start", "points", "is_right"),
    [
        (0, [(0, 0)] * 37, True),
        (0, [(0, 0)] * 38, False),
        (-38, [(0, 0)], True),
        (-39, [(0, 0)], False),
        (10, [(3, 0)], True),
        (10, [(27, 0)], False),
        (10, [(3, 60)], False),
    ],
)
def test_tables_of_chroma_qps_stay_inside_of_all_qps(start, points, is_right):
    signed = ue(2 * start - 1 if start > 0 else -2 * start)
    bits = "01" + signed + ue(len(points) - 1) + "".join(ue(step) + ue(other) for step, other in points)
    reader = SyntaxReader(bytes_of(bits))
    if is_right:
        assert vvc_sps._read_chroma_qp(reader, 10) is False
    else:
        with pytest.raises(BitstreamError, match="chroma QPs must stay in -12 to 63"):
            vvc_sps._read_chroma_qp(reader, 10)


@pytest.mark.parametrize("chroma_format", ["400", "420", "422", "444"])
def test_planes_inside_the_window(tmp_path, chroma_format):
    """A decoder that gives each sample its own value, in every chroma format."""
    stream = read_vvc_stream(encoded(tmp_path, "Verbosity=0"))
    sps = changed_sps(tmp_path, chroma_format=chroma_format)
    window = PictureParameters(0, 64, 48, (2, 1, 3, 4), has_output_flag=False, is_one_tile=True).window(sps)
    format = VideoFormat(64, 48, 10, chroma_format)
    inside = (64 - window.left - window.right, 48 - window.top - window.bottom)
    changed = replace(stream.first, window=window, format=VideoFormat(*inside, 10, chroma_format))
    planes = tuple(np.arange(h * w, dtype=np.uint16).reshape(h, w) % 1024 for h, w in format.plane_shapes)
    coded = Frame(planes, 10, chroma_format)
    shown = decoder._windowed(coded, changed)
    luma = coded.planes[0][window.top : 48 - window.bottom, window.left : 64 - window.right]
    np.testing.assert_array_equal(shown.planes[0], luma)
    for plane, whole in zip(shown.planes[1:], coded.planes[1:], strict=True):
        np.testing.assert_array_equal(plane, whole[3 : whole.shape[0] - 4, 2 : whole.shape[1] - 1])


# ---------------------------------------------------------------- gradual decoding refresh


def places(rbsp, monkeypatch):
    """Where each syntax element of a sequence parameter set begins, in bits."""
    found = {}

    class Recorder(SyntaxReader):
        __slots__ = ()

        def flag(self, field):
            found[field] = self.position_bits
            return super().flag(field)

        def u(self, n_bits, field):
            found[field] = self.position_bits
            return super().u(n_bits, field)

    monkeypatch.setattr(vvc_sps, "SyntaxReader", Recorder)
    read_sps(rbsp)
    monkeypatch.undo()
    return found


def with_gradual_refreshes(stream, recovery_poc_cnt, monkeypatch):
    """The stream's CRA pictures as GDR pictures, the picture before the first of them left out.

    The count takes three bits; the order counts get five more, so that all behind them stays at its bit in a byte.
    """
    out, began = [], False
    for unit in nal_units(stream):
        bits, kind = bits_of(remove_emulation_prevention(unit.payload)), unit.nal_unit_type
        if kind == SPS:
            place = places(bytes_of(bits), monkeypatch)
            gdr, lsb = place["sps_gdr_enabled_flag"], place["sps_log2_max_pic_order_cnt_lsb_minus4"]
            more = f"{int(bits[lsb : lsb + 4], 2) + 5:04b}"
            bits = bits[:gdr] + "1" + bits[gdr + 1 : lsb] + more + bits[lsb + 4 :]
        elif kind == CRA:
            assert bits[:2] == "11"
            began, end = True, 6 + (bits[4] == "1")
            assert bits[end - 1] == "1"  # picture parameter set 0
            poc = int(bits[end : end + 8], 2)
            bits = bits[:3] + "1" + bits[4:end] + f"{poc:013b}" + ue(recovery_poc_cnt) + bits[end + 8 :]
            kind = GDR
        elif kind < 12:
            out = [u for u in out if u[4] >> 3 in (SPS, PPS)]
            continue
        if began or kind in (SPS, PPS):
            out.append(nal(kind, protected(bytes_of(bits))))
    return b"".join(out)


@pytest.mark.parametrize("recovery_poc_cnt", [1, 2])
def test_pictures_before_the_recovery_point_are_not_output(real_pictures, tmp_path, monkeypatch, recovery_poc_cnt):
    whole = VvcEncoder(OPTIONS).encode(real_pictures(4, 32, 32)).stream
    stream = with_gradual_refreshes(whole, recovery_poc_cnt, monkeypatch)
    known = read_vvc_stream(stream)
    assert [p.unit.nal_unit_type for p in known.pictures] == [GDR] * 3
    assert [p.is_output for p in known.pictures] == [False, True, True]
    path = tmp_path / "gdr.266"
    path.write_bytes(stream)
    assert b"".join(samples(stream)) == decoded_by_program(path)
    assert samples(stream) == samples(whole)[2:]


def test_pictures_that_recover_may_lack_a_hash(real_pictures, monkeypatch):
    """As VTM writes them; any other picture may not."""
    whole = VvcEncoder(OPTIONS).encode(real_pictures(4, 32, 32)).stream
    stream = with_gradual_refreshes(whole, 1, monkeypatch)
    kept = list(nal_units(stream))
    assert [u.nal_unit_type for u in kept][-2:] == [GDR, SUFFIX_SEI]
    bare = stream[: kept[-1].offset_bytes - 3]
    known = read_vvc_stream(bare)
    assert (known.hashed, known.hash_types) == ({0, 1}, ("md5", None))
    assert samples(bare) == samples(stream)


# ---------------------------------------------------------------- headers made by hand


@pytest.fixture(scope="module")
def sps(tmp_path_factory):
    """A real sequence parameter set of identifier 0; its order counts have eight bits."""
    stream = encoded(tmp_path_factory.mktemp("sps"), "ALF=0")
    return next(nal(SPS, u.payload) for u in nal_units(stream) if u.nal_unit_type == SPS)


PPS_BITS = f"{0:06b}{0:04b}0" + ue(64) + ue(48) + "0" + "0" + "0" + "1"
PPS_WITH_OUTPUT_FLAG = f"{0:06b}{0:04b}0" + ue(64) + ue(48) + "0" + "0" + "1" + "1"


def pps_unit(bits):
    return nal(PPS, protected(bytes_of(bits + "1")))


def slice_of(kind, poc_lsb, *, reference=True, end="1", own_header=False):
    """A slice with its picture header, of which `end` follows the order count; or both as units of their own."""
    access_point = 7 <= kind <= GDR
    bits = ("1" if access_point else "0") + ("0" if reference else "1")
    bits += (("1" if kind == GDR else "0") if access_point else "") + "0" + ue(0) + f"{poc_lsb:08b}" + end
    if own_header:
        return nal(19, protected(bytes_of(bits + "1"))) + nal(kind, b"\x40\x80")
    return nal(kind, protected(bytes_of("1" + bits + "1")))


def placed(data):
    return [(p.sequence, p.poc, p.is_output) for p in read_vvc_stream(data).pictures]


@pytest.mark.parametrize("own_header", [False, True])
def test_order_counts_pass_their_largest_value_both_ways(sps, own_header):
    lsbs = [250, 2, 254, 4, 130, 5, 120]
    pictures = [slice_of(CRA if i == 0 else TRAIL, lsb, own_header=own_header) for i, lsb in enumerate(lsbs)]
    found = placed(sps + pps_unit(PPS_BITS) + b"".join(pictures))
    assert [poc for _, poc, _ in found] == [250, 258, 254, 260, 386, 517 - 256, 376]
    stream = read_vvc_stream(sps + pps_unit(PPS_BITS) + b"".join(pictures))
    assert [stream.pictures[i].poc for i in stream.output_order] == sorted(poc for _, poc, _ in found)


def test_leading_and_unreferenced_pictures_do_not_count(sps):
    """The order count is told from the last reference picture of the lowest sublayer that leads nothing."""
    pictures = [
        (slice_of(CRA, 100), 100),
        (slice_of(RASL, 90), 90),
        (slice_of(RADL, 95), 95),
        (slice_of(TRAIL, 220, reference=False), 220),
        (slice_of(TRAIL, 240), 240 - 256),
    ]
    found = placed(sps + pps_unit(PPS_BITS) + b"".join(data for data, _ in pictures))
    assert [poc for _, poc, _ in found] == [poc for _, poc in pictures]
    assert [is_output for *_, is_output in found] == [True, False, True, True, True]


def test_pictures_that_their_header_keeps_back(sps):
    units = [slice_of(8, 0, end="1"), slice_of(TRAIL, 1, end="0"), slice_of(TRAIL, 2, reference=False, end="0")]
    found = placed(sps + pps_unit(PPS_WITH_OUTPUT_FLAG) + b"".join(units))
    assert [is_output for *_, is_output in found] == [True, False, True]
    with pytest.raises(BitstreamError, match="no picture that is output"):
        read_vvc_stream(sps + pps_unit(PPS_WITH_OUTPUT_FLAG) + slice_of(8, 0, end="0"))


def test_sequences_and_parameter_sets_of_one_identifier(sps):
    small = pps_unit(PPS_BITS.replace(ue(64), ue(32), 1))
    data = sps + pps_unit(PPS_BITS) + slice_of(8, 0) + sps + small + slice_of(8, 0) + slice_of(TRAIL, 1)
    stream = read_vvc_stream(data)
    assert [p.format.width for p in stream.pictures] == [64, 32, 32]
    assert [p.sequence for p in stream.pictures] == [0, 1, 1]
    assert stream.new_beginnings == (1,)


@pytest.mark.parametrize("kind", [TRAIL, RADL, RASL])
def test_what_follows_an_end_of_sequence_must_be_an_access_point(sps, kind):
    data = sps + pps_unit(PPS_BITS) + slice_of(8, 0) + nal(EOS) + slice_of(kind, 1)
    with pytest.raises(BitstreamError, match="needs earlier ones"):
        read_vvc_stream(data)


@pytest.mark.parametrize("idr", [7, 8])
def test_a_rasl_picture_behind_an_idr_is_not_dropped_without_a_word(sps, idr):
    data = sps + pps_unit(PPS_BITS) + slice_of(CRA, 0) + slice_of(idr, 0) + slice_of(TRAIL, 1) + slice_of(RASL, 2)
    with pytest.raises(BitstreamError, match="a RASL picture behind an IDR picture"):
        read_vvc_stream(data)


# ---------------------------------------------------------------- beginnings, ends and changes


@pytest.fixture(scope="module")
def open_gops(tmp_path_factory):
    """A stream whose second random access point is a CRA picture with RASL pictures, and where its unit begins."""
    params = "IntraPeriod=16:GOPSize=16:DecodingRefreshType=cra"
    stream = encoded(tmp_path_factory.mktemp("open"), params, size="48x32", n_pictures=40)
    cra = next(p for p in read_vvc_stream(stream).pictures if p.unit.nal_unit_type == CRA)
    return stream, cra.unit.begin_bytes


def test_leading_pictures_are_output_only_where_what_they_need_is_there(open_gops):
    stream, begin = open_gops
    whole = read_vvc_stream(stream)
    n_skipped = sum(p.unit.nal_unit_type == RASL for p in whole.pictures)
    assert n_skipped > 0
    assert len(whole.output_order) == len(whole.pictures) == 40
    assert (
        len(read_vvc_stream(stream[begin:]).output_order) == len(read_vvc_stream(stream[begin:]).pictures) - n_skipped
    )
    ended = stream[:begin] + nal(EOS) + stream[begin:]
    assert len(read_vvc_stream(ended).output_order) == 40 - n_skipped
    assert samples(ended) == samples(stream[:begin]) + samples(stream[begin:])
    assert set(samples(ended)) <= set(samples(stream))


def test_a_stream_that_begins_in_the_middle_is_refused(open_gops):
    stream, _ = open_gops
    second = read_vvc_stream(stream).pictures[1].unit.begin_bytes
    sets = b"".join(nal(u.nal_unit_type, u.payload) for u in nal_units(stream) if u.nal_unit_type in (SPS, PPS))
    rest = stream[second + 6 :]
    assert stream[second + 4] >> 3 == AUD
    with pytest.raises(BitstreamError, match="begins with a picture that needs earlier ones"):
        list(decode_vvc(sets + rest))
    with pytest.raises(BitstreamError, match="parameter sets 0 of a picture are not there"):
        list(decode_vvc(rest))


def test_an_end_of_sequence_inside_an_access_unit(open_gops):
    stream, begin = open_gops
    delimiter = next(u for u in nal_units(stream[begin:]) if u.nal_unit_type != AUD).offset_bytes - 4
    with pytest.raises(BitstreamError, match="access unit without a picture"):
        read_vvc_stream(stream[: begin + delimiter] + nal(EOS) + stream[begin + delimiter :])


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    """Streams of one or two pictures of different sizes, bit depths and chroma formats."""
    folder = tmp_path_factory.mktemp("formats")
    settings = {
        "plain": ("Verbosity=0", "64x48"),
        "small": ("Verbosity=0", "32x48"),
        "8 bit": ("InternalBitDepth=8", "64x48"),
        "grey": ("ChromaFormatIDC=400", "64x48"),
        "window": ("ConformanceWindowMode=3:ConfWinLeft=16", "64x48"),
    }
    return {name: encoded(folder, params, size=size, n_pictures=2) for name, (params, size) in settings.items()}


@pytest.mark.parametrize(
    ("second", "change"),
    [
        ("small", "size from 64x48 to 32x48"),
        ("8 bit", "bit depth from 10 to 8"),
        ("grey", "chroma format from 4:2:0 to 4:0:0"),
        ("window", "size from 64x48 to 48x48"),
    ],
)
def test_formats_that_change_in_mid_stream(formats, second, change):
    first = formats["plain"]
    for end in (b"", nal(EOS)):
        stream = first + end + formats[second] + end + first
        assert samples(stream) == samples(first) + samples(formats[second]) + samples(first)
        with pytest.raises(InputError, match=f"picture 2 changes the {change}"):
            check_one_format(read_vvc_stream(stream))
        if "size" in change:
            with pytest.raises(InputError, match=f"picture 2 changes the {change}: no one size"):
                next(decode_vvc(stream, width=16, height=16))


@pytest.mark.parametrize("name", ["plain", "8 bit"])
def test_parameter_sets_outlive_a_sequence(formats, name):
    """The second picture, a CRA picture, after an end of sequence and without parameter sets of its own."""
    units = list(nal_units(formats[name]))
    second = [i for i, u in enumerate(units) if u.nal_unit_type == AUD][1]
    rest = [u for u in units[second:] if u.nal_unit_type not in (SPS, PPS)]
    assert any(u.nal_unit_type == CRA for u in rest)
    first, rest = (b"".join(nal(u.nal_unit_type, u.payload) for u in us) for us in (units[:second], rest))
    assert samples(first + nal(EOS) + rest) == samples(formats[name])
    ((whole, _), (part, shown)) = read_vvc_stream(first + nal(EOS) + rest).parts((1,))
    assert (whole, shown) == (first + nal(EOS), (1,))
    assert [u.nal_unit_type for u in nal_units(part)][:3] == [AUD, SPS, PPS]


def test_streams_with_and_without_hashes_joined(formats):
    first = formats["plain"]
    bare = b"".join(
        nal(u.nal_unit_type, u.payload) for u in nal_units(formats["small"]) if u.nal_unit_type != SUFFIX_SEI
    )
    stream = read_vvc_stream(first + bare)
    assert stream.hash_types == ("md5", "md5", None, None)
    assert stream.hashed == {0, 1}
    assert samples(stream) == samples(first) + samples(formats["small"])


def test_fields_are_no_frames_for_a_file(formats, monkeypatch):
    stream = formats["plain"]
    unit = next(u for u in nal_units(formats["plain"]) if u.nal_unit_type == SPS)
    bits = bits_of(remove_emulation_prevention(unit.payload))
    place = places(bytes_of(bits), monkeypatch)["sps_field_seq_flag"]
    changed = protected(bytes_of(bits[:place] + "1" + bits[place + 1 :]))
    known = read_vvc_stream(stream.replace(unit.payload, changed))
    assert known.first.is_field
    with pytest.raises(UnsupportedError, match="fields of an interlaced video"):
        check_one_format(known)
    assert not read_vvc_stream(formats["plain"]).first.is_field


# ---------------------------------------------------------------- a decoder in trouble


def test_a_race_of_the_decoders_threads_is_decoded_again_on_one(formats, monkeypatch):
    """FFmpeg on several threads gave another picture; only the second of two, so the first must not come twice."""
    stream = formats["plain"]
    expected = samples(stream)
    honest = decoder._decode_uncropped
    calls = []

    def racing(known, n_threads):
        calls.append(n_threads)
        for number, (frame, index) in enumerate(honest(known, 1)):
            if n_threads != 1 and number == 1:
                frame.planes[0][3, 3] ^= 1
            yield frame, index

    monkeypatch.setattr(decoder, "_decode_uncropped", racing)
    assert samples(stream) == expected
    assert calls == [0, 1]
    calls.clear()
    assert samples(stream, check=False) == expected
    assert calls == [1]


def test_noise_is_decoded_the_same_each_time():
    """FFmpeg's threads race on such pictures."""
    rng = np.random.default_rng(1)
    planes = tuple(rng.integers(0, 1024, shape).astype(np.uint16) for shape in ((96, 32), (48, 16), (48, 16)))
    stream = VvcEncoder(VvcOptions(0)).encode([Frame(planes, 10, "420")]).stream
    assert len({samples(stream, check=check)[0] for check in (True, False) for _ in range(20)}) == 1


def test_an_old_ffmpeg_does_not_decode_8_bit(formats, monkeypatch):
    monkeypatch.setattr(decoder, "_FIRST_RIGHT_LIBAVCODEC", 1000)
    with pytest.raises(UnsupportedError, match="8-bit VVC needs ffmpeg 9 or newer"):
        list(decode_vvc(formats["8 bit"]))


def test_8_bit_pictures_are_verified_too(formats):
    stream = bytearray(formats["8 bit"])
    stream[stream.index(b"\xc1\x84\x32\x00") + 10] ^= 4
    with pytest.raises(BitstreamError, match="picture 0 does not match its MD5"):
        list(decode_vvc(bytes(stream)))
    cut = read_vvc_stream(formats["8 bit"]).pictures[1].unit.offset_bytes + 40
    with pytest.raises(BitstreamError):
        list(decode_vvc(formats["8 bit"][:cut]))
