"""QPs out of slice headers, against those that encoders log."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from test_nal import DELIMITER, nal

from vvc_nnr.codec.encoders import VvcEncoder
from vvc_nnr.codec.programs import ffmpeg_executable, parse_encoder_log
from vvc_nnr.codec.sequence import VvcOptions
from vvc_nnr.codec.slice_qp import picture_qps
from vvc_nnr.codec.vvc_stream import VvcStream, read_vvc_stream
from vvc_nnr.errors import BitstreamError

DATA = Path(os.environ.get("VVC_NNR_DATA", "../shared/data"))
RANDOM_ACCESS = "IntraPeriod=16:GOPSize=16:MCTF=0:BIM=0:Verbosity=5:SEIDecodedPictureHash=md5"


def coded_by_libvvenc(frames, folder, params, qp=32, preset="faster"):
    """The stream and the QPs in its log, by order count."""
    raw, coded = folder / "in.yuv", folder / "out.266"
    raw.write_bytes(b"".join(frame.to_bit_depth(10).tobytes() for frame in frames))
    size = f"{frames[0].width}x{frames[0].height}"
    command = [ffmpeg_executable(), "-v", "debug", "-f", "rawvideo", "-pix_fmt", "yuv420p10le", "-s", size]
    command += ["-i", str(raw), "-c:v", "libvvenc", "-preset", preset, "-qp", str(qp), "-qpa", "0"]
    command += ["-vvenc-params", params, "-threads", "1", "-y", "-f", "vvc", str(coded)]
    log = subprocess.run(command, check=True, capture_output=True, text=True, errors="replace").stdout
    return coded.read_bytes(), {picture.poc: picture.qp for picture in parse_encoder_log(log)}


@pytest.mark.parametrize(
    ("params", "preset"),
    [
        (RANDOM_ACCESS, "faster"),
        (RANDOM_ACCESS, "medium"),
        (RANDOM_ACCESS + ":ALF=0:CCALF=0", "fast"),
    ],
)
def test_random_access_by_libvvenc(real_pictures, tmp_path, params, preset):
    stream, logged = coded_by_libvvenc(real_pictures(17, 64, 48), tmp_path, params, preset=preset)
    known = read_vvc_stream(stream)
    qps = picture_qps(known)
    first = min(picture.poc for picture in known.pictures)
    assert len(set(qps)) > 3
    assert {picture.poc - first: qp for picture, qp in zip(known.pictures, qps, strict=True)} == logged


@pytest.mark.parametrize("qp", [0, 22, 37, 63])
def test_intra_pictures(real_pictures, qp):
    coded = VvcEncoder(VvcOptions(qp, n_threads=1)).encode(real_pictures(2))
    assert picture_qps(read_vvc_stream(coded.stream)) == (qp, qp)


QPS = {
    "ra16": (35, 35, 42, 45, 46, 47, 47, 46, 47, 47, 45, 46, 47, 47, 46, 47, 47),
    "ldp": (37, 46, 45, 46, 45),
    "c400": (38, 38),
    "d8": (38, 38),
    "rprx": (37, 46, 45, 46, 45, 46, 45, 46),
}


@pytest.mark.skipif(not (DATA / "streams").exists(), reason="the streams of VTM are not here")
@pytest.mark.parametrize("name", QPS)
def test_streams_of_vtm(name):
    assert picture_qps(read_vvc_stream(DATA / "streams" / f"{name}.266")) == QPS[name]


def test_sets_that_are_not_there_and_pictures_without_slices(real_pictures):
    known = read_vvc_stream(VvcEncoder(VvcOptions(37, n_threads=1)).encode(real_pictures(1)).stream)
    without = VvcStream(known.data[known.pictures[0].unit.offset_bytes - 3 :], known.pictures)
    with pytest.raises(BitstreamError, match="parameter sets 0 of a picture are not there"):
        picture_qps(without)
    with pytest.raises(BitstreamError, match="QPs of 0 pictures, and the stream holds 1"):
        picture_qps(VvcStream(nal(DELIMITER), known.pictures))
