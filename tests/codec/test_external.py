"""Programs on the PATH, played by scripts that understand the same command lines.

The scripts that succeed run the real encoder and decoder of this package behind VTM's and vvenc's options, so
a wrong option, depth or size shows in the pictures.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vvc_nnr.codec.command_lines import EncoderJob, vtm_arguments, vvenc_arguments
from vvc_nnr.codec.external import ExternalEncoder
from vvc_nnr.codec.external_decoder import ExternalDecoder, read_decoded
from vvc_nnr.codec.vvc import VvcEncoder, VvcOptions, decode_vvc
from vvc_nnr.codec.vvc_stream import read_vvc_stream
from vvc_nnr.errors import BitstreamError, ExternalToolError, InputError, UnsupportedError
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.y4m import Y4mWriter
from vvc_nnr.sequences.yuv import YuvWriter

OPTIONS = VvcOptions(qp=37, n_threads=1)

COMMON = """\
import sys
from fractions import Fraction
from pathlib import Path
arguments = sys.argv[1:]
with open({calls!r}, "a") as calls:
    print(*arguments, sep="\\x1f", file=calls)
def value(*names):
    for name in names:
        if name in arguments:
            return arguments[arguments.index(name) + 1]
    sys.exit(f"missing option: {{names}}")
"""
ENCODE = """
from vvc_nnr.codec.vvc import VvcEncoder, VvcOptions
from vvc_nnr.sequences.frame import VideoFormat
from vvc_nnr.sequences.yuv import read_yuv
def encode(raw, width, height, fps, qp, n_pictures, target):
    format = VideoFormat(width, height, 10, "420", Fraction(fps))
    frames = list(read_yuv(Path(raw), format))
    assert len(frames) == n_pictures
    coded = VvcEncoder(VvcOptions(qp=qp, n_threads=1)).encode(frames, format.fps)
    Path(target).write_bytes(coded.stream)
    return coded.pictures
"""
VTM = """
assert Path(value("-c")).read_text() == "IntraPeriod : 1\\n"
assert value("-o") == "/dev/null"
assert {{"--InputBitDepth=10", "--InternalBitDepth=10", "--SEIDecodedPictureHash=1"}} <= set(arguments)
print("VVCSoftware: VTM Encoder Version 23.0 [Linux]")
size = int(value("-wdt")), int(value("-hgt"))
pictures = encode(value("-i"), *size, value("-fr"), int(value("-q")), int(value("-f")), value("-b"))
for p in pictures:
    print(f"POC    {{p.poc}} LId:  0 TId: 0 ( IDR_N_LP, I-SLICE, QP {{p.qp}} )     {{p.n_bits}} bits [Y 9 dB")
"""
VVENC = """
assert value("--format") == "yuv420_10"
print("vvencapp: Fraunhofer VVC Encoder ver. 1.13.1 [Linux]", file=sys.stderr)
size = [int(n) for n in value("--size").split("x")]
n_pictures = int(value("--frames"))
pictures = encode(value("--input"), *size, value("--fps"), int(value("--qp")), n_pictures, value("--output"))
for p in pictures:
    print(f"POC     {{p.poc}} TId: 0 (       CRA, I-SLICE, QP {{p.qp}})      {{p.n_bits}} bits [Y 9 dB")
"""
DECODE = """
from vvc_nnr.codec.vvc import decode_vvc
from vvc_nnr.sequences.y4m import Y4mWriter
frames = list(decode_vvc(Path(value("-b"))))[{drop}:]
with Y4mWriter(Path(value("-o")), frames[0].format()) as writer:
    for frame in frames:
        writer.write(frame)
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Installs scripts as programs; returns a function (name, body) -> file of the calls made."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def install(name, body, **fields):
        calls = tmp_path / f"{name}.calls"
        script = folder / name
        text = (COMMON + body).format(calls=str(calls), **fields)
        script.write_text(f"#!{sys.executable}\n{text}")
        script.chmod(0o755)
        return calls

    return install


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "encoder_intra_vtm.cfg"
    path.write_text("IntraPeriod : 1\n")
    return path


def frames(n_pictures, width=32, height=24, *, chroma_format="420", bit_depth=8, seed=3):
    rng = np.random.default_rng(seed)
    format = VideoFormat(width, height, bit_depth, chroma_format)
    smooth = [np.add.outer(np.arange(h), np.arange(w)) % 64 + 64 for h, w in format.plane_shapes]
    return [
        Frame(
            tuple((s + rng.integers(0, 9, s.shape)).astype(format.dtype) for s in smooth),
            bit_depth,
            chroma_format,
        )
        for _ in range(n_pictures)
    ]


def same(left, right):
    assert [f.format() for f in left] == [f.format() for f in right]
    for a, b in zip(left, right, strict=True):
        for x, y in zip(a.planes, b.planes, strict=True):
            np.testing.assert_array_equal(x, y)


def calls_of(file):
    return [line.split("\x1f") for line in file.read_text().splitlines()]


def test_vtm_stands_in_for_the_encoder(programs, config):
    calls = programs("EncoderAppStatic", ENCODE + VTM)
    source = frames(2, 35, 19)
    coded = ExternalEncoder(OPTIONS, "vtm", config).encode(source, Fraction(50))
    builtin = VvcEncoder(OPTIONS).encode(source, Fraction(50))
    assert (coded.stream, coded.pictures, coded.format) == (builtin.stream, builtin.pictures, builtin.format)
    assert coded.format == VideoFormat(35, 19, 8, "420", Fraction(50))
    assert coded.encoder == "VTM Encoder Version 23.0"
    assert not coded.cached
    assert coded.encode_s > 0
    assert coded.encode_cpu_s > 0
    assert len(calls_of(calls)) == 1
    same(
        list(decode_vvc(coded.stream, width=35, height=19)),
        list(decode_vvc(builtin.stream, width=35, height=19)),
    )


def test_vvencapp_gets_at_most_four_pictures_per_process(programs):
    calls = programs("vvencapp", ENCODE + VVENC)
    source = frames(5, 16, 16, bit_depth=10)
    coded = ExternalEncoder(OPTIONS, "vvencapp").encode(iter(source), Fraction(30000, 1001))
    assert [int(c[c.index("--frames") + 1]) for c in calls_of(calls)] == [4, 1]
    assert [p.poc for p in coded.pictures] == [0, 1, 2, 3, 4]
    assert coded.encoder == "VVC Encoder ver. 1.13.1"
    assert coded.stream == VvcEncoder(OPTIONS).encode(source, Fraction(30000, 1001)).stream


def test_cached_encoding_runs_no_program_until_something_changes(programs, config, tmp_path):
    calls = programs("EncoderApp", ENCODE + VTM)
    cache = tmp_path / "cache"
    source = frames(1)
    first = ExternalEncoder(OPTIONS, "vtm", config, cache).encode(source)
    again = ExternalEncoder(OPTIONS, "vtm", config, cache).encode(source)
    assert (again.stream, again.pictures, again.encoder) == (first.stream, first.pictures, first.encoder)
    assert (first.cached, again.cached, len(calls_of(calls))) == (False, True, 1)
    assert not ExternalEncoder(VvcOptions(qp=38, n_threads=1), "vtm", config, cache).encode(source).cached
    assert not ExternalEncoder(OPTIONS, "vtm", config, cache).encode(frames(1, seed=4)).cached
    programs("EncoderApp", ENCODE + VTM + "# another version")
    assert not ExternalEncoder(OPTIONS, "vtm", config, cache).encode(source).cached


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
    ("body", "message"),
    [
        ("print('ERROR: Unknown option'); sys.exit(7)", "EncoderApp failed; exit code 7; .*Unknown option"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "failed; exit code -9"),
        ("pass", "it wrote nothing"),
        ("Path(value('-b')).touch()", "it wrote nothing"),
        ("Path(value('-b')).write_bytes(b'x')", "0 of 2 pictures in its log"),
        (ENCODE + VTM.replace("for p in pictures", "for p in pictures[1:]"), "1 of 2 pictures in its log"),
        (ENCODE + VTM.replace("I-SLICE", "B-SLICE"), "it coded inter pictures: give it an all-intra"),
        (ENCODE + VTM.replace("QP {{p.qp}}", "QP 29"), r"coded at QP \[29, 29\], asked for 37"),
        (VTM.replace("encode(", "fake("), "failed; exit code 1"),
        (
            "print(*(f'POC {{i}} TId: 0 ( I-SLICE, QP 37 ) 9 bits' for i in (0, 1)), sep='\\n')\n"
            "Path(value('-b')).write_bytes(b'x')",
            "is no VVC stream",
        ),
        (
            "print(*(f'POC {{i}} TId: 0 ( I-SLICE, QP 37 ) 9 bits' for i in (0, 1)), sep='\\n')\n"
            "Path(value('-b')).write_bytes(b'\\0\\0\\1\\0\\1\\x80')",
            "1 of 2 pictures in its stream",
        ),
        (
            "print(*(f'POC {{i}} TId: 0 ( I-SLICE, QP 37 ) 9 bits' for i in (0, 1)), sep='\\n')\n"
            "Path(value('-b')).write_bytes(2 * b'\\0\\0\\1\\0\\1\\x80')",
            "a picture without an MD5 SEI",
        ),
    ],
)
def test_encoders_that_fail(programs, config, tmp_path, monkeypatch, body, message):
    programs("EncoderApp", body)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(work))
    with pytest.raises(ExternalToolError, match=message) as caught:
        ExternalEncoder(OPTIONS, "vtm", config, tmp_path / "cache").encode(frames(2))
    assert caught.value.command[0].endswith("EncoderApp")
    assert list(work.iterdir()) == []
    assert not (tmp_path / "cache").exists()


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


def test_programs_that_are_missing_or_cannot_start(programs, config, tmp_path):
    with pytest.raises(ExternalToolError, match="none of EncoderApp, EncoderAppStatic is on the PATH"):
        ExternalEncoder(OPTIONS, "vtm", config)
    with pytest.raises(ExternalToolError, match="none of vvdecapp is on the PATH"):
        ExternalDecoder("vvdecapp")
    programs("vvencapp", "pass")
    encoder = ExternalEncoder(OPTIONS, "vvencapp")
    encoder.executable.write_text("#!/no/such/interpreter\n")
    with pytest.raises(ExternalToolError, match="vvencapp cannot be started"):
        encoder.encode(frames(1))


def test_options_that_do_not_fit(config):
    with pytest.raises(InputError, match="VTM needs its configuration file"):
        ExternalEncoder(OPTIONS, "vtm")
    with pytest.raises(InputError, match="takes no configuration file"):
        ExternalEncoder(OPTIONS, "vvencapp", config)
    with pytest.raises(InputError, match="no such configuration file"):
        ExternalEncoder(OPTIONS, "vtm", config.with_name("no.cfg"))
    with pytest.raises(InputError, match="encoder 'x265'"):
        ExternalEncoder(OPTIONS, "x265")
    with pytest.raises(InputError, match="decoder 'vvencapp'"):
        ExternalDecoder("vvencapp")


def test_pictures_that_cannot_be_encoded(programs, config):
    programs("EncoderApp", "pass")
    encoder = ExternalEncoder(OPTIONS, "vtm", config)
    with pytest.raises(InputError, match="no picture"):
        encoder.encode([])
    with pytest.raises(InputError, match="differ in format"):
        encoder.encode([*frames(1), *frames(1, 34, 24)])
    with pytest.raises(UnsupportedError, match="4:4:4"):
        encoder.encode(frames(1, chroma_format="444"))
    with pytest.raises(UnsupportedError, match="12 bit"):
        encoder.encode(frames(1, bit_depth=12))


def test_a_stream_without_pictures(programs, tmp_path):
    programs("vvdecapp", "pass")
    with pytest.raises(BitstreamError):
        list(ExternalDecoder("vvdecapp").decode(b""))
    with pytest.raises(InputError, match=r"none\.266: no such file"):
        list(ExternalDecoder("vvdecapp").decode(tmp_path / "none.266"))


def test_temporary_folder_that_cannot_be_made(programs, config, monkeypatch, tmp_path):
    programs("EncoderApp", "pass")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(InputError, match=r"missing.*: No such file"):
        ExternalEncoder(OPTIONS, "vtm", config).encode(frames(1))


@pytest.mark.parametrize(
    ("loop_filters", "vtm", "vvenc"),
    [
        ("all", {"--DeblockingFilterDisable=0", "--SAO=1", "--ALF=1", "--CCALF=1"}, ":SAO=1:ALF=1:CCALF=1"),
        ("deblock-sao", {"--SAO=1", "--ALF=0", "--CCALF=0"}, ":SAO=1:ALF=0:CCALF=0"),
        (
            "none",
            {"--DeblockingFilterDisable=1", "--SAO=0", "--ALF=0", "--CCALF=0"},
            ":LoopFilterDisable=1:EDO=0:SAO=0:ALF=0:CCALF=0",
        ),
    ],
)
def test_loop_filters_on_the_command_lines(loop_filters, vtm, vvenc):
    options = VvcOptions(qp=22, preset="slow", loop_filters=loop_filters, n_threads=3)
    job = EncoderJob(Path("in.yuv"), Path("out.266"), 416, 240, Fraction(30000, 1001), 3)
    line = vtm_arguments(options, Path("a.cfg"), job)
    assert line[:8] == ["-c", "a.cfg", "-i", "in.yuv", "-b", "out.266", "-o", os.devnull]
    assert line[8:18] == ["-wdt", "416", "-hgt", "240", "-fr", "30", "-f", "3", "-q", "22"]
    assert {a for a in line if "ALF" in a or "SAO" in a or "Deblocking" in a} == vtm
    line = vvenc_arguments(options, job)
    pairs = dict(zip(line[::2], line[1::2], strict=True))
    assert pairs["--additional"] == "IntraQPOffset=0:MCTF=0:BIM=0" + vvenc
    assert (pairs["--size"], pairs["--fps"], pairs["--qp"]) == ("416x240", "30000/1001", "22")
    assert (pairs["--preset"], pairs["--threads"], pairs["--qpa"]) == ("slow", "3", "0")


def test_sao_as_the_preset_has_it():
    options = VvcOptions(22, sao="preset")
    job = EncoderJob(Path("in.yuv"), Path("out.266"), 416, 240, Fraction(30), 3)
    assert vvenc_arguments(options, job)[-1] == "IntraQPOffset=0:MCTF=0:BIM=0:ALF=1:CCALF=1"
    with pytest.raises(InputError, match="VTM has no presets"):
        vtm_arguments(options, Path("a.cfg"), job)


def test_output_of_any_decoder(tmp_path):
    source = frames(3, bit_depth=10)
    format = source[0].format()
    raw, y4m = tmp_path / "a.yuv", tmp_path / "a.Y4M"
    for path, writer in ((raw, YuvWriter(raw, format)), (y4m, Y4mWriter(y4m, format))):
        with writer:
            for frame in source:
                writer.write(frame)
        same(list(read_decoded(path, format, 3)), source)
        with pytest.raises(InputError, match="holds 3 pictures, the sequence has 4"):
            read_decoded(path, format, 4)
    with pytest.raises(InputError, match="holds 32x24 420 pictures, the sequence has 64x24 420"):
        read_decoded(y4m, VideoFormat(64, 24, 10), 3)
    with pytest.raises(InputError, match="no whole number"):
        read_decoded(raw, VideoFormat(34, 24, 10), 3)
    with pytest.raises(InputError, match="no such file"):
        read_decoded(tmp_path / "b.yuv", format, 3)
