"""Log lines of the three encoders, as they print them."""

from __future__ import annotations

import pytest

from vvc_nnr.codec.programs import LoggedPicture, parse_encoder_log

VTM = """\
VVCSoftware: VTM Encoder Version 23.0 [Linux][GCC 11.4.0][64 bit] [SIMD=AVX2]
 started @ Wed Jul 19 15:18:01 2023
POC    0 LId:  0 TId: 0 ( IDR_N_LP, I-SLICE, QP 37 )     398392 bits [Y 36.6308 dB    U 46.5007 dB]
POC   16 LId:  0 TId: 1 ( STSA, b-SLICE, QP 34 )        200 bits [Y 51.2117 dB    U 999.9900 dB]
POC    1 LId:  0 TId: 0 ( TRAIL, P-SLICE, QP -4 ) 7 bits
Total Frames |   Bitrate     Y-PSNR    U-PSNR    V-PSNR    YUV-PSNR
"""
EARLY_VTM = "POC    3 TId: 0 ( I-SLICE, nQP 37 QP 38 )     398392 bits [Y 36.6308 dB    U 46.5007 dB]"
VVENC = """\
Configuration warning: ALFSpeed would disable ALF for the given GOP configuration, disabling ALFSpeed!

POC     0 TId: 0 (  IDR_N_LP, I-SLICE, QP 32)            23320 bits [Y 30.7334 dB    U 29.6373 dB]
POC     1 TId: 0 (       CRA, I-SLICE, QP 32)            23312 bits [Y 30.6797 dB    U 29.6910 dB]
vvenc [info]:\tTotal Frames |   Bitrate     Y-PSNR    U-PSNR    V-PSNR    YUV-PSNR
"""


def test_vtm_lines():
    assert parse_encoder_log(VTM) == [
        LoggedPicture(0, "I", 37, 398392),
        LoggedPicture(16, "B", 34, 200),
        LoggedPicture(1, "P", -4, 7),
    ]


def test_early_vtm_lines_give_the_qp_used():
    assert parse_encoder_log(EARLY_VTM) == [LoggedPicture(3, "I", 38, 398392)]


def test_vvenc_lines():
    assert parse_encoder_log(VVENC) == [LoggedPicture(0, "I", 32, 23320), LoggedPicture(1, "I", 32, 23312)]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "POC",
        "POC 0 ( I-SLICE, QP 32 )",
        "POC 0 TId: 0 ( I-SLICE, QP x ) 12 bits",
        "POC    0 LId:  0 TId: 0 ( IDR_N_LP, I-SLICE, QP 37 ) [DT  0.012] [L0] [L1] [MD5:bf12,(OK)]",
    ],
)
def test_other_lines_are_passed_over(line):
    assert parse_encoder_log(line) == []


@pytest.mark.parametrize("cut", range(0, len(EARLY_VTM), 7))
def test_a_log_that_was_cut_short_gives_whole_pictures_only(cut):
    text = VVENC + EARLY_VTM[:cut]
    assert len(parse_encoder_log(text)) == 2 + (" bits" in EARLY_VTM[:cut])


@pytest.mark.parametrize("number", ["9" * 5000, "\u0663"])
def test_numbers_that_no_encoder_prints_are_passed_over(number: str) -> None:
    line = "POC {} TId: 0 ( IDR_N_LP, I-SLICE, QP 32 ) {} bits"
    assert parse_encoder_log(line.format(number, 5)) == []
    assert parse_encoder_log(line.format(5, number)) == []
