"""The real encoder and decoder on cuts of photographs, and what happens when either of them is given trouble."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from fractions import Fraction

import imageio_ffmpeg
import numpy as np
import pytest

from vvc_nnr.codec.nal import SUFFIX_SEI, nal_units, picture_units
from vvc_nnr.codec.vvc import VvcEncoder, VvcOptions, decode_vvc, encoder_version
from vvc_nnr.errors import BitstreamError, ExternalToolError, InputError, UnsupportedError
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.metrics import psnr_db

OPTIONS = VvcOptions(qp=37, n_threads=1)
MD5_FIELD = re.compile(r"\[MD5:([0-9a-f]{32}),([0-9a-f]{32}),([0-9a-f]{32})\]")

LOOKALIKE = """
import os, subprocess, sys
from pathlib import Path
real, mode, calls, arguments = {real!r}, {mode!r}, Path({calls!r}), sys.argv[1:]
if "-version" in arguments:
    os.execv(real, [real, *arguments])
n_earlier = calls.read_text().count("x") if calls.exists() else 0
calls.open("a").write("x")
if mode == "exit 1":
    sys.exit("Error: no licence for Tuesdays")
done = subprocess.run([real, *arguments], input=sys.stdin.buffer.read(), capture_output=True, check=True)
log, target = done.stdout.decode(), Path(arguments[-1])
stream = target.read_bytes()
if mode == "wrong qp":
    log = log.replace("QP 37", "QP 38")
if mode == "no log":
    log = ""
if mode == "writes nothing" or (mode == "writes nothing at first" and n_earlier == 0):
    target.unlink()
if mode == "empty file":
    target.write_bytes(b"")
if mode == "drops a picture":
    target.write_bytes(stream[: stream.rfind(bytes([0, 0, 0, 1, 0, 161]))])
if mode == "drops a hash":
    target.write_bytes(stream[: stream.rfind(bytes([0, 0, 1, 0, 193]))])
if mode == "damages a picture":
    at = stream.rfind(bytes([0, 0, 1, 0, 193])) - 3
    target.write_bytes(stream[:at] + bytes([stream[at] ^ 1]) + stream[at + 1 :])
sys.stdout.write(log)
"""


@pytest.fixture(scope="module")
def small(real_pictures):
    """Three different pictures as one small stream, and what it decodes to."""
    stream = VvcEncoder(OPTIONS).encode(real_pictures(3)).stream
    return stream, samples(decode_vvc(stream))


@pytest.fixture
def lookalike(tmp_path, monkeypatch):
    """Puts a program in the encoder's place that works like it, but for one thing; returns its list of calls."""
    real, calls = imageio_ffmpeg.get_ffmpeg_exe(), tmp_path / "calls"

    def install(mode):
        script = tmp_path / "ffmpeg"
        script.write_text(f"#!{sys.executable} -SE\n{LOOKALIKE.format(real=real, mode=mode, calls=str(calls))}")
        script.chmod(0o755)
        monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(script))
        return calls

    encoder_version.cache_clear()
    yield install
    encoder_version.cache_clear()


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


# ---------------------------------------------------------------- what is coded


@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize("chroma_format", ["400", "420"])
@pytest.mark.parametrize(("width", "height"), [(48, 32), (33, 27), (5, 3)])
def test_sizes_depths_and_formats(real_pictures, width, height, chroma_format, bit_depth):
    (frame,) = real_pictures(1, width, height, chroma_format=chroma_format, bit_depth=bit_depth)
    coded = VvcEncoder(VvcOptions(qp=12, n_threads=1)).encode([frame], Fraction(24000, 1001))
    assert coded.format == VideoFormat(width, height, bit_depth, chroma_format, Fraction(24000, 1001))
    (decoded,) = decode_vvc(coded.stream, width=width, height=height)
    assert decoded.format() == VideoFormat(width, height, 10, "420")
    assert luma_psnr_db(frame, decoded) > 40
    if chroma_format == "400":
        assert all((p == 512).all() for p in decoded.planes[1:])


def test_chunks_keep_different_pictures_in_order(real_pictures):
    frames = real_pictures(9)
    coded = VvcEncoder(VvcOptions(qp=27, n_threads=1)).encode(frames)
    decoded = list(decode_vvc(coded.stream))
    assert [p.poc for p in coded.pictures] == list(range(9))
    assert {p.qp for p in coded.pictures} == {27}
    assert len(picture_units(coded.stream)) == len(decoded) == 9
    gains = [[luma_psnr_db(frame, picture) for frame in frames] for picture in decoded]
    assert np.argmax(gains, axis=1).tolist() == list(range(9))
    assert np.diagonal(gains).min() > 32


def test_decoded_pictures_have_the_md5_of_the_encoders_log(real_pictures, tmp_path):
    coded = VvcEncoder(OPTIONS, tmp_path).encode(real_pictures(6, 64, 48, bit_depth=10))
    logs = [json.loads(path.read_text())["log"] for path in tmp_path.rglob("*.json")]
    logged = [list(MD5_FIELD.findall(log)) for log in sorted(logs, key=len, reverse=True)]
    assert [len(pictures) for pictures in logged] == [4, 2]
    decoded = [
        tuple(hashlib.md5(p.astype("<u2").tobytes()).hexdigest() for p in frame.planes)
        for frame in decode_vvc(coded.stream)
    ]
    assert decoded == logged[0] + logged[1]


def test_bits_are_those_of_all_units_but_the_hashes(real_pictures):
    coded = VvcEncoder(OPTIONS).encode(real_pictures(5))
    units = zip(nal_units(coded.stream), parts(coded.stream), strict=True)
    assert coded.n_bits == sum(8 * len(data) for unit, data in units if unit.nal_unit_type != SUFFIX_SEI)


def test_bits_do_not_depend_on_the_threads(real_pictures):
    frames = real_pictures(2, 418, 270)
    streams = {VvcEncoder(VvcOptions(qp=32, n_threads=n)).encode(frames).stream for n in (1, 2, 4)}
    assert len(streams) == 1


def test_options_reach_the_encoder(real_pictures):
    frames = real_pictures(1, 128, 96)
    options = [
        VvcOptions(32),
        VvcOptions(33),
        VvcOptions(32, preset="medium"),
        VvcOptions(32, loop_filters="deblock-sao"),
        VvcOptions(32, loop_filters="none"),
        VvcOptions(32, sao="preset"),
    ]
    encoded = [VvcEncoder(o).encode(frames) for o in options]
    pictures = [tuple(samples(decode_vvc(e.stream))) for e in encoded]
    assert len(set(pictures)) == len(options)
    assert [e.pictures[0].qp for e in encoded] == [32, 33, 32, 32, 32, 32]


def test_the_ends_of_the_qp_range(real_pictures):
    frames = real_pictures(1)
    fine, coarse = (VvcEncoder(VvcOptions(qp)).encode(frames) for qp in (0, 63))
    assert fine.n_bits > 10 * coarse.n_bits
    (decoded,) = decode_vvc(fine.stream)
    assert luma_psnr_db(frames[0], decoded) > 55


def noise(rng, width, height):
    shapes = VideoFormat(width, height, 10).plane_shapes
    return Frame(tuple(rng.integers(0, 1024, shape).astype(np.uint16) for shape in shapes), 10, "420")


@pytest.mark.parametrize("qp", [0, 9, 22])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (8, 8), (16, 16), (17, 31), (64, 64), (130, 70)])
def test_noise_that_exceeds_the_encoders_buffer(width, height, qp):
    """Two such pictures around one that fits."""
    rng = np.random.default_rng(qp)
    flat = noise(rng, width, height)
    flat = flat._with(np.full_like(plane, 300) for plane in flat.planes)
    frames = [noise(rng, width, height), flat, noise(rng, width, height)]
    coded = VvcEncoder(VvcOptions(qp, n_threads=1)).encode(frames)
    assert [p.poc for p in coded.pictures] == [0, 1, 2]
    assert {p.qp for p in coded.pictures} == {qp}
    decoded = list(decode_vvc(coded.stream, width=width, height=height))
    assert len(decoded) == 3
    limit_db = {0: 58, 9: 46, 22: 32}[qp]
    for frame, picture in zip(frames, decoded, strict=True):
        assert psnr_db(frame.planes[0], picture.planes[0], bit_depth=10) > limit_db
    plain = {(p.width, p.height) for p in decode_vvc(coded.stream)}
    assert plain == {(max(16, width + width % 2), max(16, height + height % 2))}


def test_a_picture_that_fits_is_coded_as_before(real_pictures):
    """The canvas is for those alone that need one."""
    fits = real_pictures(1, 64, 64, bit_depth=10)
    alone = VvcEncoder(VvcOptions(3, n_threads=1)).encode(fits).stream
    both = VvcEncoder(VvcOptions(3, n_threads=1)).encode([*fits, noise(np.random.default_rng(0), 64, 64)]).stream
    assert both.startswith(alone)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (7680, 4320)])
def test_large_noise_at_qp_0(width, height):
    frame = noise(np.random.default_rng(0), width, height)
    (decoded,) = decode_vvc(VvcEncoder(VvcOptions(0)).encode([frame]).stream)
    assert psnr_db(frame.planes[0], decoded.planes[0], bit_depth=10) > 58


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"qp": -1}, "QP -1"),
        ({"qp": 64}, "QP 64"),
        ({"preset": "fastest"}, "preset 'fastest'"),
        ({"loop_filters": "some"}, "loop filters 'some'"),
        ({"n_threads": 0}, "0 threads"),
        ({"sao": "off"}, "SAO 'off'"),
    ],
)
def test_options_out_of_range(change, named):
    with pytest.raises(InputError, match=named):
        VvcOptions(**{"qp": 32, **change})


def test_no_picture():
    with pytest.raises(InputError, match="no picture to encode"):
        VvcEncoder(OPTIONS).encode([])


@pytest.mark.parametrize("n_before", [1, 4])
def test_pictures_of_different_formats(real_pictures, n_before):
    frames = [*real_pictures(n_before), *real_pictures(1, 36, 26)]
    with pytest.raises(InputError, match="pictures differ in format"):
        VvcEncoder(OPTIONS).encode(iter(frames))


# ---------------------------------------------------------------- the cache


def test_a_cache_hit_is_byte_equal_and_runs_no_encoder(real_pictures, tmp_path, lookalike):
    frames = real_pictures(5)
    first = VvcEncoder(OPTIONS, tmp_path).encode(frames)
    calls = lookalike("exit 1")
    again = VvcEncoder(VvcOptions(qp=37, n_threads=2), tmp_path).encode(frames)
    assert (first.cached, again.cached) == (False, True)
    assert (again.stream, again.pictures, again.encode_s) == (first.stream, first.pictures, first.encode_s)
    assert again.encode_cpu_s == first.encode_cpu_s
    assert 0 < first.encode_cpu_s < 60
    assert not calls.exists()


def test_the_cache_tells_pictures_and_options_apart(real_pictures, tmp_path):
    frames = real_pictures(2)
    VvcEncoder(OPTIONS, tmp_path).encode(frames[:1])
    others = [
        VvcEncoder(OPTIONS, tmp_path).encode(frames[1:]),
        VvcEncoder(OPTIONS, tmp_path).encode(frames),
        VvcEncoder(OPTIONS, tmp_path).encode(frames[:1], Fraction(60)),
        VvcEncoder(VvcOptions(36), tmp_path).encode(frames[:1]),
        VvcEncoder(VvcOptions(37, "fast"), tmp_path).encode(frames[:1]),
        VvcEncoder(VvcOptions(37, loop_filters="none"), tmp_path).encode(frames[:1]),
    ]
    assert not any(coded.cached for coded in others)


@pytest.mark.parametrize("suffix", [".266", ".json"])
def test_a_damaged_cache_entry_is_encoded_again(real_pictures, tmp_path, suffix):
    frames = real_pictures(1)
    first = VvcEncoder(OPTIONS, tmp_path).encode(frames)
    (path,) = tmp_path.rglob(f"*{suffix}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    again = VvcEncoder(OPTIONS, tmp_path).encode(frames)
    assert (again.stream, again.cached) == (first.stream, False)
    assert VvcEncoder(OPTIONS, tmp_path).encode(frames).cached


# ---------------------------------------------------------------- an encoder in trouble


@pytest.mark.parametrize(
    ("mode", "reason", "n_calls"),
    [
        ("exit 1", "exit code 1; last lines: Error: no licence for Tuesdays", 1),
        ("writes nothing", "it wrote nothing", 2),
        ("empty file", "it wrote nothing", 2),
        ("no log", "0 of 2 pictures in its log", 2),
        ("wrong qp", r"coded at QP \[38, 38\], asked for 37", 2),
        ("drops a picture", "1 of 2 pictures decoded", 2),
        ("drops a hash", "a picture without an MD5 SEI", 2),
        ("damages a picture", "does not decode", 2),
    ],
)
def test_an_encoder_that_fails(real_pictures, tmp_path, lookalike, mode, reason, n_calls):
    calls = lookalike(mode)
    with pytest.raises(ExternalToolError, match=reason) as caught:
        VvcEncoder(OPTIONS, tmp_path / "cache").encode(real_pictures(2))
    assert caught.value.exit_code == (1 if mode == "exit 1" else 0)
    assert len(calls.read_text()) == n_calls
    assert not (tmp_path / "cache").exists()


def test_a_silent_failure_is_tried_once_more(real_pictures, lookalike):
    frames = real_pictures(2)
    expected = VvcEncoder(OPTIONS).encode(frames)
    calls = lookalike("writes nothing at first")
    assert VvcEncoder(OPTIONS).encode(frames).stream == expected.stream
    assert len(calls.read_text()) == 2


def test_an_encoder_that_is_not_there(real_pictures, tmp_path, monkeypatch, lookalike):
    frames = real_pictures(1)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(tmp_path / "gone"))
    with pytest.raises(ExternalToolError, match="no ffmpeg binary"):
        VvcEncoder(OPTIONS).encode(frames)


# ---------------------------------------------------------------- streams of others


def test_random_access_streams_come_in_display_order(real_pictures):
    base = real_pictures(1, 96, 64)[0].to_bit_depth(10)
    frames = [base._with(np.roll(p, 2 * i, axis=1) for p in base.planes) for i in range(10)]
    source = "-f rawvideo -pix_fmt yuv420p10le -s 96x64 -r 30 -i pipe:0"
    coding = "-c:v libvvenc -preset faster -qp 27 -qpa 0 -threads 1 -vvenc-params SEIDecodedPictureHash=md5"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source.split(), *coding.split(), "-f", "vvc", "-"]
    stream = subprocess.run(command, input=b"".join(samples(frames)), capture_output=True, check=True).stdout
    assert not all(unit.is_intra for unit in picture_units(stream))
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
