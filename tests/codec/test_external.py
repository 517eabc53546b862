"""Programs on the PATH, played by scripts that understand the same command lines.

The scripts that succeed run the real encoder and decoder of this package behind VTM's and vvenc's options, so
a wrong option, depth or size shows in the pictures.
"""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from stand_ins import calls_of, frames, same

from vvc_nnr.codec.decoder import ExternalDecoder, decode_vvc
from vvc_nnr.codec.encoders import VvcEncoder, vtm_arguments, vvencapp_arguments
from vvc_nnr.codec.sequence import EncoderJob, VvcOptions
from vvc_nnr.errors import ExternalToolError, InputError, UnsupportedError
from vvc_nnr.sequences.frame import VideoFormat

OPTIONS = VvcOptions(qp=37, n_threads=1)

ENCODE = """
from vvc_nnr.codec.encoders import VvcEncoder
from vvc_nnr.codec.sequence import VvcOptions
from vvc_nnr.sequences.frame import VideoFormat
from vvc_nnr.sequences.yuv import read_yuv
def encode(raw, width, height, fps, qp, n_pictures, target, step=1):
    format = VideoFormat(width, height, 10, "420", Fraction(fps))
    frames = list(read_yuv(Path(raw), format))
    assert len(frames) == n_pictures
    coded = VvcEncoder(VvcOptions(qp=qp, n_threads=1)).encode(frames[::step], format.fps)
    Path(target).write_bytes(coded.stream)
    return coded.pictures
"""
VTM = """
assert "TemporalSubsampleRatio : 8" in Path(value("-c")).read_text()
step = 1 if "--TemporalSubsampleRatio=1" in arguments else 8
assert value("-o") == "/dev/null"
assert {{"--InputBitDepth=10", "--InternalBitDepth=10", "--SEIDecodedPictureHash=1"}} <= set(arguments)
print("VVCSoftware: VTM Encoder Version 23.0 [Linux]")
size = int(value("-wdt")), int(value("-hgt"))
pictures = encode(value("-i"), *size, value("-fr"), int(value("-q")), int(value("-f")), value("-b"), step)
for p in pictures:
    print(f"POC    {{p.poc}} LId:  0 TId: 0 ( IDR_N_LP, I-SLICE, QP {{p.qp}} )     {{p.n_bits}} bits [Y 9 dB")
"""
VVENC = """
known = "input size fps format frames output preset qp qpa threads intraperiod decodedpicturehash verbosity additional"
for option in arguments[::2]:
    if option not in ["--" + name for name in known.split()]:
        print(f"vvencapp [error]: Unknown option `{{option}}'")
        print("vvenc [warning]: a\\nvvenc [warning]: b\\nvvenc [warning]: c")
        sys.exit(1)
assert value("--format") == "yuv420_10"
print("vvencapp: Fraunhofer VVC Encoder ver. 1.13.1 [Linux]", file=sys.stderr)
size = [int(n) for n in value("--size").split("x")]
n_pictures = int(value("--frames"))
pictures = encode(value("--input"), *size, value("--fps"), int(value("--qp")), n_pictures, value("--output"))
for p in pictures:
    print(f"POC     {{p.poc}} TId: 0 (       CRA, I-SLICE, QP {{p.qp}})      {{p.n_bits}} bits [Y 9 dB")
"""


def test_vtm_stands_in_for_the_encoder(programs, config):
    calls = programs("EncoderAppStatic", ENCODE + VTM)
    source = frames(2, 35, 19)
    coded = VvcEncoder(OPTIONS, encoder="vtm", config=config).encode(source, Fraction(50))
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
    coded = VvcEncoder(OPTIONS, encoder="vvencapp").encode(iter(source), Fraction(30000, 1001))
    assert [int(c[c.index("--frames") + 1]) for c in calls_of(calls)] == [4, 1]
    assert [p.poc for p in coded.pictures] == [0, 1, 2, 3, 4]
    assert coded.encoder == "VVC Encoder ver. 1.13.1"
    assert coded.stream == VvcEncoder(OPTIONS).encode(source, Fraction(30000, 1001)).stream


def test_cached_encoding_runs_no_program_until_something_changes(programs, config, tmp_path):
    calls = programs("EncoderApp", ENCODE + VTM)
    cache = tmp_path / "cache"
    source = frames(1)
    first = VvcEncoder(OPTIONS, cache, encoder="vtm", config=config).encode(source)
    again = VvcEncoder(OPTIONS, cache, encoder="vtm", config=config).encode(source)
    assert (again.stream, again.pictures, again.encoder) == (first.stream, first.pictures, first.encoder)
    assert (first.cached, again.cached, len(calls_of(calls))) == (False, True, 1)
    assert not VvcEncoder(VvcOptions(qp=38, n_threads=1), cache, encoder="vtm", config=config).encode(source).cached
    assert not VvcEncoder(OPTIONS, cache, encoder="vtm", config=config).encode(frames(1, seed=4)).cached
    programs("EncoderApp", ENCODE + VTM + "# another version")
    assert not VvcEncoder(OPTIONS, cache, encoder="vtm", config=config).encode(source).cached


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("print('ERROR: Unknown option'); sys.exit(7)", "EncoderApp failed; exit code 7; .*Unknown option"),
        (
            "print('EncoderApp [error]: Unknown option x\\n' + 4 * 'Warning: no error, harmless\\n'); sys.exit(1)",
            r"exit code 1; log: EncoderApp \[error\]: Unknown option x \| Warning",
        ),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "failed; exit code -9"),
        ("pass", "it wrote nothing"),
        ("Path(value('-b')).touch()", "it wrote nothing"),
        ("Path(value('-b')).write_bytes(b'x')", "0 of 2 pictures in its log"),
        (ENCODE + VTM.replace("for p in pictures", "for p in pictures[1:]"), "1 of 2 pictures in its log"),
        (ENCODE + VTM.replace("I-SLICE", "B-SLICE"), "it coded inter pictures: give it a configuration for all intra"),
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
        VvcEncoder(OPTIONS, tmp_path / "cache", encoder="vtm", config=config).encode(frames(2))
    assert caught.value.command[0].endswith("EncoderApp")
    assert list(work.iterdir()) == []
    assert not (tmp_path / "cache").exists()


def test_programs_that_are_missing_or_cannot_start(programs, config, tmp_path):
    with pytest.raises(ExternalToolError, match="none of EncoderApp, EncoderAppStatic is on the PATH"):
        VvcEncoder(OPTIONS, encoder="vtm", config=config)
    with pytest.raises(ExternalToolError, match="none of vvdecapp is on the PATH"):
        ExternalDecoder("vvdecapp")
    programs("vvencapp", "pass")
    encoder = VvcEncoder(OPTIONS, encoder="vvencapp")
    (tmp_path / "bin" / "vvencapp").write_text("#!/no/such/interpreter\n")
    with pytest.raises(ExternalToolError, match="vvencapp cannot be started"):
        encoder.encode(frames(1))


def test_pictures_that_cannot_be_encoded(programs, config):
    programs("EncoderApp", "pass")
    encoder = VvcEncoder(OPTIONS, encoder="vtm", config=config)
    with pytest.raises(InputError, match="no picture"):
        encoder.encode([])
    with pytest.raises(InputError, match="differ in format"):
        encoder.encode([*frames(1), *frames(1, 34, 24)])
    with pytest.raises(UnsupportedError, match="4:4:4"):
        encoder.encode(frames(1, chroma_format="444"))
    with pytest.raises(UnsupportedError, match="12 bit"):
        encoder.encode(frames(1, bit_depth=12))


def test_temporary_folder_that_cannot_be_made(programs, config, monkeypatch, tmp_path):
    programs("EncoderApp", "pass")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(InputError, match=r"missing.*: No such file"):
        VvcEncoder(OPTIONS, encoder="vtm", config=config).encode(frames(1))


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
    line = vtm_arguments(replace(options, preset="faster"), job)
    assert line[:6] == ["-i", "in.yuv", "-b", "out.266", "-o", os.devnull]
    assert line[6:16] == ["-wdt", "416", "-hgt", "240", "-fr", "30", "-f", "3", "-q", "22"]
    assert {a for a in line if "ALF" in a or "SAO" in a or "Deblocking" in a} == vtm
    line = vvencapp_arguments(options, job)
    pairs = dict(zip(line[::2], line[1::2], strict=True))
    assert pairs["--additional"] == "IntraQPOffset=0:MCTF=0:BIM=0" + vvenc
    assert (pairs["--size"], pairs["--fps"], pairs["--qp"]) == ("416x240", "30000/1001", "22")
    assert (pairs["--preset"], pairs["--threads"], pairs["--qpa"]) == ("slow", "3", "0")


def test_sao_as_the_preset_has_it():
    options = VvcOptions(22, sao="preset")
    job = EncoderJob(Path("in.yuv"), Path("out.266"), 416, 240, Fraction(30), 3)
    assert vvencapp_arguments(options, job)[-1] == "IntraQPOffset=0:MCTF=0:BIM=0:ALF=1:CCALF=1"
    with pytest.raises(InputError, match="VTM has no presets"):
        vtm_arguments(options, job)
    with pytest.raises(InputError, match="preset slow: VTM has no presets; leave it out"):
        vtm_arguments(VvcOptions(22, "slow"), job)
