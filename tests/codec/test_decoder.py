"""Decoding by FFmpeg and by programs on the PATH: whole, damaged and foreign streams."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace

import av
import imageio_ffmpeg
import numpy as np
import pytest
from stand_ins import calls_of, frames, same

from vvc_nnr.codec import decoder
from vvc_nnr.codec.decoder import ExternalDecoder, decode_vvc
from vvc_nnr.codec.encoders import VvcEncoder
from vvc_nnr.codec.nal import INTRA_TYPES, SUFFIX_SEI, nal_units, picture_units
from vvc_nnr.codec.sequence import VvcOptions
from vvc_nnr.codec.vvc_stream import read_vvc_stream
from vvc_nnr.errors import BitstreamError, ExternalToolError, InputError, UnsupportedError
from vvc_nnr.sequences.metrics import psnr_db

OPTIONS = VvcOptions(qp=37, n_threads=1)

DECODE = """
from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.sequences.y4m import Y4mWriter
frames = list(decode_vvc(Path(value("-b"))))[{drop}:]
with Y4mWriter(Path(value("-o")), frames[0].format(30)) as writer:
    for frame in frames:
        writer.write(frame)
"""


@pytest.fixture(scope="module")
def small(real_pictures):
    """Three different pictures as one small stream, and what it decodes to."""
    stream = VvcEncoder(OPTIONS).encode(real_pictures(3)).stream
    return stream, samples(decode_vvc(stream))


def samples(frames):
    return [frame.tobytes() for frame in frames]


def decoded_or_refused(stream):
    """The decoded samples, None if the stream is refused; any other exception fails the test."""
    try:
        return samples(decode_vvc(bytes(stream)))
    except (BitstreamError, UnsupportedError):
        return None


def parts(stream):
    """The NAL units of a stream as bytes with their start codes."""
    begins = [u.offset_bytes - 3 for u in nal_units(stream)]
    begins = [b - (stream[b - 1 : b] == b"\x00") for b in begins]
    return [stream[b:e] for b, e in zip(begins, [*begins[1:], len(stream)], strict=True)]


def luma_psnr_db(source, decoded):
    return psnr_db(source.to_bit_depth(10).planes[0], decoded.planes[0], bit_depth=10)


# ---------------------------------------------------------------- streams of others


def test_random_access_streams_come_in_display_order(real_pictures):
    base = real_pictures(1, 96, 64)[0].to_bit_depth(10)
    frames = [base._with(np.roll(p, 2 * i, axis=1) for p in base.planes) for i in range(10)]
    source = "-f rawvideo -pix_fmt yuv420p10le -s 96x64 -r 30 -i pipe:0"
    coding = "-c:v libvvenc -preset faster -qp 27 -qpa 0 -threads 1 -vvenc-params SEIDecodedPictureHash=md5"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source.split(), *coding.split(), "-f", "vvc", "-"]
    stream = subprocess.run(command, input=b"".join(samples(frames)), capture_output=True, check=True).stdout
    assert not all(unit.nal_unit_type in INTRA_TYPES for unit in picture_units(stream))
    decoded = list(decode_vvc(stream))
    gains = [[luma_psnr_db(frame, picture) for frame in frames] for picture in decoded]
    assert np.argmax(gains, axis=1).tolist() == list(range(10))


def test_a_stream_from_a_file(small, tmp_path):
    stream, expected = small
    path = tmp_path / "a.266"
    path.write_bytes(stream)
    assert samples(decode_vvc(path)) == expected


def test_files_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "none.266", tmp_path):
        with pytest.raises(InputError, match=re.escape(str(path))):
            next(decode_vvc(path))


@pytest.mark.parametrize("data", [b"", b"\x00\x00\x01", b"RIFF....WAVE", b"\x00\x00\x00\x01\x00\xa9\x28"])
def test_what_is_no_stream(data):
    with pytest.raises(BitstreamError):
        list(decode_vvc(data))


def test_a_wrong_hash_matters_only_where_it_is_checked(small):
    stream, expected = small
    damaged = bytearray(stream)
    damaged[stream.index(b"\xc1\x84\x32\x00") + 10] ^= 4
    with pytest.raises(BitstreamError, match="picture 0 does not match its MD5"):
        list(decode_vvc(bytes(damaged)))
    assert samples(decode_vvc(bytes(damaged), check=False)) == expected


def test_a_lost_hash_is_noticed_where_others_are_there(small):
    units = parts(small[0])
    with pytest.raises(BitstreamError, match="picture 1 has no hash SEI, others have"):
        list(decode_vvc(b"".join(units[:9] + units[10:])))


def test_streams_without_hashes_decode(small):
    stream, expected = small
    plain = b"".join(d for u, d in zip(nal_units(stream), parts(stream), strict=True) if u.nal_unit_type != SUFFIX_SEI)
    assert samples(decode_vvc(plain)) == expected


# ---------------------------------------------------------------- damaged streams


def test_a_stream_cut_short_gives_the_pictures_that_are_whole_or_an_error(small):
    stream, expected = small
    slices_end = [i for i in range(len(stream)) if stream[i:].startswith(b"\x00\x00\x01\x00\xc1")]
    for n_bytes in range(len(stream)):
        got = decoded_or_refused(stream[:n_bytes])
        if got is not None:
            assert got == expected[: sum(n_bytes >= end for end in slices_end)]
            assert got
    begins = [unit.begin_bytes for unit in picture_units(stream)]
    assert [decoded_or_refused(stream[:n]) for n in begins] == [None, expected[:1], expected[:2]]


def test_the_first_slice_of_a_larger_picture_cut_short(real_pictures):
    stream = VvcEncoder(VvcOptions(32)).encode(real_pictures(1, 418, 270)).stream
    (unit,) = picture_units(stream)
    for n_bytes in np.linspace(unit.offset_bytes + 2, stream.rindex(b"\x00\x00\x01") - 2, 20).astype(int):
        with pytest.raises(BitstreamError):
            list(decode_vvc(stream[:n_bytes]))


def flipped(stream, offset, bit):
    data = bytearray(stream)
    data[offset] ^= 1 << bit
    return data


def test_bit_flips_at_the_beginning_and_in_every_unit_header(small):
    stream, expected = small
    headers = {u.offset_bytes + i for u in nal_units(stream) for i in range(-3, 4)}
    for offset in sorted(headers | set(range(64))):
        for bit in range(8):
            assert decoded_or_refused(flipped(stream, offset, bit)) in (expected, None), (offset, bit)


def test_every_type_of_the_first_slice(small):
    stream, expected = small
    offset = picture_units(stream)[0].offset_bytes + 1
    for value in range(256):
        damaged = bytearray(stream)
        damaged[offset] = value
        assert decoded_or_refused(damaged) in (expected, None), value


def test_lost_doubled_and_swapped_units(small):
    stream, expected = small
    units = parts(stream)
    for i in range(len(units)):
        assert decoded_or_refused(b"".join(units[:i] + units[i + 1 :])) in (expected, None), i
        assert decoded_or_refused(b"".join([*units[:i], units[i], *units[i:]])) in (expected, None), i
        for j in range(i + 1, len(units)):
            swapped = units.copy()
            swapped[i], swapped[j] = swapped[j], swapped[i]
            assert decoded_or_refused(b"".join(swapped)) in (expected, None), (i, j)


def test_bursts_of_damage(small):
    stream, expected = small
    rng = np.random.default_rng(5)
    for _ in range(400):
        begin, size = int(rng.integers(len(stream))), int(rng.integers(1, 90))
        burst = bytes(size) if rng.integers(2) else rng.bytes(size)
        damaged = stream[:begin] + burst + stream[begin + size :]
        assert decoded_or_refused(damaged) in (expected, None), (begin, size)


@pytest.mark.slow
def test_every_bit_flip_and_every_header_byte(real_pictures):
    stream = VvcEncoder(OPTIONS).encode(real_pictures(6)).stream
    expected = samples(decode_vvc(stream))
    for offset in range(len(stream)):
        for bit in range(8):
            assert decoded_or_refused(flipped(stream, offset, bit)) in (expected, None), (offset, bit)
    for offset in [u.offset_bytes + i for u in nal_units(stream) for i in (0, 1)]:
        for value in range(256):
            damaged = bytearray(stream)
            damaged[offset] = value
            assert decoded_or_refused(damaged) in (expected, None), (offset, value)


# ---------------------------------------------------------------- programs on the PATH


@pytest.mark.parametrize(
    ("name", "tool"), [("DecoderApp", "vtm"), ("DecoderAppStatic", "vtm"), ("vvdecapp", "vvdecapp")]
)
def test_decoders_stand_in_for_ours(programs, tmp_path, name, tool):
    stream = VvcEncoder(OPTIONS).encode(frames(2, 35, 19)).stream
    calls = programs(name, DECODE, drop=0)
    path = tmp_path / "a.266"
    path.write_bytes(stream)
    expected = list(decode_vvc(stream, width=35, height=19))
    same(list(ExternalDecoder(tool).decode(stream, width=35, height=19)), expected)
    same(list(ExternalDecoder(tool).decode(path)), list(decode_vvc(stream)))
    assert calls_of(calls)[0][4:] == (["-d", "0"] if tool == "vtm" else ["-dph"])


def test_a_decoder_runs_once_for_each_format_of_a_stream(programs):
    """Its file has one header, so that pictures of a second size in it would be read as others."""
    parts = [VvcEncoder(OPTIONS).encode(frames(2, *size)).stream for size in ((32, 24), (48, 24), (48, 24))]
    calls = programs("vvdecapp", DECODE, drop=0)
    same(list(ExternalDecoder("vvdecapp").decode(b"".join(parts))), [f for p in parts for f in decode_vvc(p)])
    assert len(calls_of(calls)) == 2
    with pytest.raises(InputError, match="picture 2 changes the size from 32x24 to 48x24: no one size"):
        list(ExternalDecoder("vvdecapp").decode(b"".join(parts), width=16, height=16))


def test_a_size_that_changes_inside_a_sequence(programs):
    stream = read_vvc_stream(VvcEncoder(OPTIONS).encode(frames(2, 32, 24)).stream)
    first, second = stream.pictures
    changed = replace(second, format=replace(second.format, width=16), sequence=first.sequence)
    calls = programs("vvdecapp", DECODE, drop=0)
    with pytest.raises(UnsupportedError, match="picture 1 changes the size from 32x24 to 16x24 inside a sequence"):
        list(ExternalDecoder("vvdecapp").decode(replace(stream, pictures=(first, changed))))
    assert not calls.exists()


def test_a_decoder_that_does_not_crop(programs):
    stream = VvcEncoder(OPTIONS).encode(frames(1, 34, 26)).stream
    programs("vvdecapp", DECODE.replace("[{drop}:]", "; frames = [f.padded(40, 32) for f in frames]"))
    with pytest.raises(ExternalToolError, match="vvdecapp wrote a picture of 40x32, its headers say 34x26"):
        list(ExternalDecoder("vvdecapp").decode(stream))


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (
            "print('***ERROR*** A decoding mismatch'); sys.exit(1)",
            ExternalToolError,
            "exit code 1; .*mismatch",
        ),
        ("pass", ExternalToolError, "vvdecapp wrote nothing"),
        ("Path(value('-o')).touch()", ExternalToolError, "vvdecapp wrote nothing"),
        ("Path(value('-o')).write_bytes(b'raw samples, no header')", BitstreamError, "YUV4MPEG2|end of line"),
        (DECODE.replace("{drop}", "1"), BitstreamError, "1 of 2 pictures decoded"),
    ],
)
def test_decoders_that_fail(programs, tmp_path, monkeypatch, body, error, message):
    stream = VvcEncoder(OPTIONS).encode(frames(2, 16, 16)).stream
    programs("vvdecapp", body)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(work))
    with pytest.raises(error, match=message):
        list(ExternalDecoder("vvdecapp").decode(stream))
    assert list(work.iterdir()) == []


def test_a_stream_without_pictures(programs, tmp_path):
    programs("vvdecapp", "pass")
    with pytest.raises(BitstreamError):
        list(ExternalDecoder("vvdecapp").decode(b""))
    with pytest.raises(InputError, match=r"none\.266: no such file"):
        list(ExternalDecoder("vvdecapp").decode(tmp_path / "none.266"))


def test_a_decoder_that_there_is_not():
    with pytest.raises(InputError, match="decoder 'vvencapp': must be one of vtm, vvdecapp"):
        ExternalDecoder("vvencapp")


def test_a_stream_that_ffmpeg_refuses_is_told_by_picture_and_reason(small, monkeypatch):
    """Without FFmpeg's number of the error."""
    decoded = decoder._decoded

    def refusing(context, packet):
        if packet is not None and packet.pts == 2:
            raise av.error.InvalidDataError(1094995529, "Invalid data found when processing input")
        return decoded(context, packet)

    monkeypatch.setattr(decoder, "_decoded", refusing)
    with pytest.raises(BitstreamError) as caught:
        list(decode_vvc(small[0]))
    said = "picture 2 does not decode (invalid data found when processing input): the VVC stream is damaged"
    assert str(caught.value) == said
