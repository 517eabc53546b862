"""Bits in the logs of VTM, HM, vvencapp and x265, in the order of output."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from vvc_nnr.codec.encoder_logs import EncoderLog, read_encoder_log
from vvc_nnr.errors import InputError

VTM = """VVCSoftware: VTM Encoder Version 23.13 [Linux][GCC 12.2.0][64 bit] [SIMD=AVX2]
Real     Format                        : 64x48 50Hz
POC    0 LId:  0 TId: 0 ( IDR_N_LP, I-SLICE, QP 32 )       1000 bits [Y 36.6308 dB    U 1 dB    V 1 dB]
POC    2 LId:  0 TId: 0 ( TRAIL, B-SLICE, QP 33 )       300 bits [Y 36.6308 dB    U 1 dB    V 1 dB]
POC    1 LId:  0 TId: 1 ( TRAIL, B-SLICE, QP 34 )       20 bits [Y 36.6308 dB    U 1 dB    V 1 dB]
POC    0 LId:  0 TId: 0 ( IDR_N_LP, I-SLICE, QP 32 )       1100 bits [Y 36.6308 dB    U 1 dB    V 1 dB]
"""
SUMMARY = """
SUMMARY --------------------------------------------------------
\tTotal Frames |   Bitrate     Y-PSNR    U-PSNR    V-PSNR    YUV-PSNR
\t        4    a      30.2500   37.2148   33.4493   33.8644   35.6765
"""
HM = """HM software: Encoder Version [16.20] (including RExt)[Linux][GCC 9][64 bit]
POC    0 TId: 0 ( I-SLICE, nQP 37 QP 37 )       5000 bits [Y 36.6308 dB    U 1 dB    V 1 dB] [ET     0 ] [L0 ] [L1 ]
POC    1 TId: 0 ( I-SLICE, nQP 37 QP 37 )       6000 bits [Y 36.6308 dB    U 1 dB    V 1 dB] [ET     0 ] [L0 ] [L1 ]
"""
VVENC = """vvencapp: VVenC, the Fraunhofer H.266/VVC Encoder, version 1.15.0-dev [Linux][GCC 12.2.0]
vvenc [info]: Real Format                            : 64x48  yuv420p10  25 Hz  SDR  3 frames
vvenc [info]:\tTotal Frames |   Bitrate     Y-PSNR    U-PSNR    V-PSNR    YUV-PSNR   
vvenc [info]:\t        3    a      83.7333   37.2148   33.4493   33.8644   35.6765
"""
X265 = """raw  [info]: 64x48 fps 25000/1000 i420p8 frames 0 - 2 of 3
x265 [info]: HEVC encoder version 4.3+49-020d7054
x265 [info]: frame I:      3, Avg QP:29.00  kb/s: 117.67

encoded 3 frames in 0.04s (81.63 fps), 117.67 kb/s, Avg QP:29.00
"""
X265_CSV = """Layer , Encode Order, Type, POC, QP, Bits, Scenecut
0, 0, I-SLICE,    0, 29.00,       4728, 1
0, 1, P-SLICE,    2, 29.00,       688, 0
0, 2, B-SLICE,    1, 29.00,       104, 0

Summary
Command, Date/Time, Elapsed Time, FPS, Bitrate
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (VTM + SUMMARY, EncoderLog("VTM 23.13", 4, 2420, (1000, 20, 300, 1100))),
        (HM, EncoderLog("HM 16.20", 2, 11000, (5000, 6000))),
        (VVENC, EncoderLog("vvenc 1.15.0-dev", 3, 10048, None)),
        (X265, EncoderLog("x265 4.3+49-020d7054", 3, 14120, None)),
        (X265_CSV, EncoderLog("x265", 3, 5520, (4728, 104, 688))),
        (X265_CSV.replace("\\n", "\\r\\n"), EncoderLog("x265", 3, 5520, (4728, 104, 688))),
        ("Real Format : 64x48 50Hz" + SUMMARY, EncoderLog("", 4, 2420, None)),
    ],
)
def test_bits_of_a_log(text: str, expected: EncoderLog, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(text)
    assert read_encoder_log(tmp_path / "log") == expected


def test_a_rate_needs_the_pictures_per_second(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(SUMMARY)
    with pytest.raises(InputError, match=r"kbit/s alone.*give them \(fps\)"):
        read_encoder_log(tmp_path / "log")
    assert read_encoder_log(tmp_path / "log", Fraction(50)).n_bits == 2420


@pytest.mark.parametrize("text", ["", "no log", "\0\xff", X265_CSV.replace("4728", "x")])
def test_what_is_no_log_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="log"):
        read_encoder_log(tmp_path / "log")
