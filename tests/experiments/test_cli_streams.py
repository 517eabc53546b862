"""The commands `decode` and `filter` on VVC streams that others made."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import pytest

from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.nal import SUFFIX_SEI, nal_units
from vvc_nnr.experiments.cli.main import main
from vvc_nnr.sequences.y4m import read_y4m, read_y4m_header

Encode = Callable[..., Path]


@pytest.fixture
def encode(tmp_path: Path) -> Encode:
    """Makes a stream by libvvenc of two pictures of a moving test picture."""

    def make(name: str, params: str = "", size: str = "64x48", n_pictures: int = 2) -> Path:
        path = tmp_path / name
        source = f"-f lavfi -i testsrc2=size={size}:rate=24000/1001 -frames:v {n_pictures} -pix_fmt yuv420p10le"
        settings = f"IntraPeriod=1:GOPSize=1:MCTF=0:BIM=0:SEIDecodedPictureHash=md5:{params}".rstrip(":")
        coding = f"-c:v libvvenc -preset faster -qp 37 -threads 1 -vvenc-params {settings} -f vvc -y".split()
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source.split(), *coding, str(path)]
        subprocess.run(command, check=True, capture_output=True)
        return path

    return make


def test_rate_and_range_of_a_stream_are_written(encode: Encode, tmp_path: Path) -> None:
    stream, target = encode("full.266", "Range=full"), tmp_path / "out.y4m"
    network = ("--model", "inloop-vlop", "--qp", "37")
    for command in (["decode"], ["filter", *network]):
        assert main([command[0], str(stream), *command[1:], "-o", str(target)]) == 0
        format = read_y4m_header(target)
        assert (format.fps, format.colour_range) == (Fraction(24000, 1001), "full")
        assert main([command[0], str(stream), *command[1:], "-o", str(target), "--fps", "50"]) == 0
        assert read_y4m_header(target).fps == 50
        assert len(list(read_y4m(target))) == 2


def test_a_size_that_cuts_more_than_padding_is_said(
    encode: Encode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream, target = encode("a.266", n_pictures=1), tmp_path / "out.y4m"
    warning = "--size 50x48 cuts 14 columns and 0 rows of its pictures of 64x48, more than encoders pad (at most 7)"
    for command in (["decode"], ["filter", "--model", "inloop-vlop", "--qp", "37"]):
        words = [command[0], str(stream), *command[1:], "-o", str(target)]
        assert main([*words, "--size", "50x48"]) == 0
        assert f"a.266: warning: {warning}" in capsys.readouterr().out
        assert main([*words, "--size", "50x48", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["warnings"] == [warning]
        assert main([*words, "--size", "57x41", "--json"]) == 0
        assert "warnings" not in json.loads(capsys.readouterr().out)


def test_windows_and_depths_are_written(encode: Encode, tmp_path: Path) -> None:
    target = tmp_path / "out.y4m"
    for params in ("ConformanceWindowMode=3:ConfWinLeft=8:ConfWinTop=2", "InternalBitDepth=8", "ChromaFormatIDC=400"):
        stream = encode("a.266", params)
        assert main(["decode", str(stream), "-o", str(target)]) == 0
        written = [(f.tobytes(), f.bit_depth, f.chroma_format) for f in read_y4m(target)]
        assert written == [(f.tobytes(), f.bit_depth, f.chroma_format) for f in decode_vvc(stream)]


@pytest.mark.parametrize(
    ("params", "size", "change"),
    [
        ("", "32x48", "size from 64x48 to 32x48"),
        ("InternalBitDepth=8", "64x48", "bit depth from 10 to 8"),
        ("ChromaFormatIDC=400", "64x48", "chroma format from 4:2:0 to 4:0:0"),
    ],
)
def test_a_change_of_format_is_refused_in_one_line(
    encode: Encode, tmp_path: Path, capsys: pytest.CaptureFixture[str], params: str, size: str, change: str
) -> None:
    joined = tmp_path / "joined.266"
    joined.write_bytes(encode("a.266").read_bytes() + encode("b.266", params, size).read_bytes())
    commands = (["decode"], ["filter", "--model", "inloop-vlop", "--qp", "37"], ["decode", "--size", "32x32"])
    more = ["sei", "insert", "--network", "inloop-vlop"]
    for command in commands if "chroma" in change else (*commands, more):  # of chroma formats insert says more
        target = tmp_path / ("out.266" if command is more else "out.y4m")
        assert main([*command, str(joined), "-o", str(target)]) == 2
        error = capsys.readouterr().err.strip()
        assert f"{joined}: picture 2 changes the {change}" in error
        assert len(error.splitlines()) == 1
        assert not target.exists()


def test_what_changes_on_the_way_and_a_file_states_once_is_said(
    encode: Encode, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    joined, target = tmp_path / "joined.266", str(tmp_path / "out.y4m")
    second = encode("b.266", "FrameRate=50:FrameScale=1:Range=full:AspectRatioInfoPresent=1:AspectRatioIdc=2")
    joined.write_bytes(encode("a.266").read_bytes() + second.read_bytes())
    for command in (["decode"], ["filter", "--model", "inloop-vlop", "--qp", "37"]):
        for rate in ([], ["--fps", "25"]):
            caplog.clear()
            assert main([*command, str(joined), "-o", target, *rate]) == 0
            said = [record.getMessage() for record in caplog.records if "changes the" in record.getMessage()]
            assert [("rate from 24000/1001 to 50" in each) for each in said] == [True, False, False][len(rate) // 2 :]
            assert all(each.startswith(f"{joined}: picture 2 changes the ") for each in said)
            assert "colour range" in said[-2]
            assert "pixel aspect from none to 12/11" in said[-1]


def test_verified_pictures_are_counted(encode: Encode, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hashed = encode("a.266").read_bytes()
    bare = b"".join(
        b"\0\0\1" + hashed[u.offset_bytes : u.offset_bytes + 2] + u.payload
        for u in nal_units(hashed)
        if u.nal_unit_type != SUFFIX_SEI
    )
    path, target = tmp_path / "b.266", str(tmp_path / "out.y4m")
    cases = [
        (hashed, "all verified by MD5", 2, "MD5"),
        (bare, "not verified: the stream has no picture hashes", 0, None),
        (hashed + bare, "2 of 4 verified by MD5", 2, "MD5"),
    ]
    for data, text, n_verified, kind in cases:
        path.write_bytes(data)
        assert main(["decode", str(path), "-o", target]) == 0
        assert text in capsys.readouterr().out
        assert main(["decode", str(path), "-o", target, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["n_verified"], found["picture_hash"]) == (n_verified, kind)
        assert sum(each != "no" for each in found["verified"]) == n_verified
        assert main(["filter", str(path), "--model", "inloop-vlop", "--qp", "37", "-o", target]) == 0
        assert text in capsys.readouterr().out


def test_8_bit_streams_in_containers_are_refused(
    encode: Encode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """FFmpeg 8 decodes them wrongly; 10 bit goes through as it is in the stream."""
    for params, code in (("InternalBitDepth=8", 2), ("Verbosity=0", 0)):
        stream, video, target = encode("a.266", params), tmp_path / "a.mp4", tmp_path / "out.y4m"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "vvc", "-i", str(stream), "-c", "copy"]
        subprocess.run([*command, str(video)], check=True, capture_output=True)
        assert main(["filter", str(video), "--model", "inloop-vlop", "--qp", "37", "-o", str(target)]) == code
        assert ("8-bit VVC, which this FFmpeg decodes wrongly" in capsys.readouterr().err) == (code == 2)
