"""The real encoder and decoder on cuts of photographs, and what happens when either of them is given trouble."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from fractions import Fraction

import imageio_ffmpeg
import numpy as np
import pytest

from vvc_nnr.codec import encoders as libvvenc
from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.encoders import VvcEncoder
from vvc_nnr.codec.nal import SUFFIX_SEI, nal_units, picture_units
from vvc_nnr.codec.sequence import VvcOptions
from vvc_nnr.codec.vvc_stream import read_vvc_stream
from vvc_nnr.errors import ExternalToolError, InputError
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

    return install


def samples(frames):
    return [frame.tobytes() for frame in frames]


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
    assert decoded.format(30) == VideoFormat(width, height, 10, "420")
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


def test_no_picture():
    with pytest.raises(InputError, match="no picture to encode"):
        VvcEncoder(OPTIONS).encode([])


@pytest.mark.parametrize("n_before", [1, 4])
def test_pictures_of_different_formats(real_pictures, n_before):
    frames = [*real_pictures(n_before), *real_pictures(1, 36, 26)]
    with pytest.raises(InputError, match="pictures differ in format"):
        VvcEncoder(OPTIONS).encode(iter(frames))


# ---------------------------------------------------------------- the cache


def test_a_cache_hit_is_byte_equal_and_runs_no_encoder(real_pictures, tmp_path, lookalike, monkeypatch):
    frames = real_pictures(5)
    monkeypatch.setattr(libvvenc, "_ffmpeg_sha256", lambda: "the same build")
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
        ("exit 1", "exit code 1; log: Error: no licence for Tuesdays", 1),
        ("writes nothing", "it wrote nothing", 2),
        ("empty file", "it wrote nothing", 2),
        ("no log", "0 of 2 pictures in its log", 2),
        ("wrong qp", r"coded at QP \[38, 38\], asked for 37", 2),
        ("drops a picture", "1 of 2 pictures in its stream", 2),
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


@pytest.mark.parametrize("has_cache", [False, True])
def test_an_encoder_that_is_not_there(real_pictures, tmp_path, monkeypatch, has_cache):
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(tmp_path / "gone"))
    with pytest.raises(ExternalToolError, match=r"(no ffmpeg binary|cannot be run): .*No such file.*gone"):
        VvcEncoder(OPTIONS, tmp_path / "cache" if has_cache else None).encode(real_pictures(1))


def test_what_is_stated_of_the_pictures_changes_none_of_them_even_on_a_canvas():
    noise = np.random.default_rng(7).integers(0, 1 << 10, (48, 32), dtype=np.uint16)
    frame = Frame((noise[:32], noise[32:40].reshape(16, 16), noise[40:].reshape(16, 16)), 10, "420")
    stated = VideoFormat(32, 32, pixel_aspect=Fraction(4, 3), colour_range="full")
    streams = [VvcEncoder(VvcOptions(0)).encode([frame], stated=each).stream for each in (None, stated)]
    formats = [read_vvc_stream(stream).first.format for stream in streams]
    assert [each.pixel_aspect for each in formats] == [None, Fraction(4, 3)]
    assert [each.colour_range for each in formats] == [None, "full"]
    (plain,), (other,) = (list(decode_vvc(stream)) for stream in streams)
    assert plain.tobytes() == other.tobytes()
