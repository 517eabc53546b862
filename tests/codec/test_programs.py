"""Log lines of the three encoders, as they print them."""

from __future__ import annotations

import pytest

from vvc_nnr.codec.programs import LoggedPicture, parse_encoder_log
from vvc_nnr.errors import InputError

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
        LoggedPicture(0, "I", 37, 398392, "IDR_N_LP", 0),
        LoggedPicture(16, "B", 34, 200, "STSA", 1),
        LoggedPicture(1, "P", -4, 7, "TRAIL", 0),
    ]


def test_early_vtm_lines_give_the_qp_used():
    assert parse_encoder_log(EARLY_VTM) == [LoggedPicture(3, "I", 38, 398392, "", 0)]


def test_vvenc_lines():
    assert parse_encoder_log(VVENC) == [
        LoggedPicture(0, "I", 32, 23320, "IDR_N_LP", 0),
        LoggedPicture(1, "I", 32, 23312, "CRA", 0),
    ]


@pytest.mark.parametrize("end", [", TF 0", ", TF 12", " TF 1, x 3.5", ""])
def test_what_stands_behind_the_qp_does_not_matter(end: str) -> None:
    line = f"POC    15 TId: 0 (IDR_W_RADL, I-SLICE, QP 24{end})      16360 bits [Y 40.1999 dB    U 43.3981 dB ]"
    assert parse_encoder_log(line) == [LoggedPicture(15, "I", 24, 16360, "IDR_W_RADL", 0)]


@pytest.mark.parametrize(
    "line", ["", "POC", "Poc 3", "GdrPocStart : 3", "Warning: the picture of POC 3 is late", "EPOC 3", "POC order"]
)
def test_other_lines_are_passed_over(line: str) -> None:
    assert parse_encoder_log(line) == []


@pytest.mark.parametrize(
    "line",
    [
        "POC 0 ( I-SLICE, QP 32 )",
        "POC 0 TId: 0 ( I-SLICE, QP x ) 12 bits",
        "POC 0 TId: 0 ( I-SLICE, QP 32 12 bits",
        "vvenc [verbose]: POC 0 TId: 0 ( SI-SLICE, QP 32 ) 12 bits",
        "POC    0 LId:  0 TId: 0 ( IDR_N_LP, I-SLICE, QP 37 ) [DT  0.012] [L0] [L1] [MD5:bf12,(OK)]",
        "POC " + "9" * 5000 + " TId: 0 ( IDR_N_LP, I-SLICE, QP 32 ) 5 bits",
        "POC 5 TId: 0 ( IDR_N_LP, I-SLICE, QP 32 ) " + "9" * 5000 + " bits",
        "POC 5 TId: 0 ( IDR_N_LP, I-SLICE, QP 32 ) \u0663 bits",
    ],
)
def test_a_line_of_a_picture_that_is_not_understood_is_named(line: str) -> None:
    with pytest.raises(
        InputError, match=r"^log line 6: '(?:vvenc \[verbose\]: )?POC [05 9].*no whole picture.*must be"
    ):
        parse_encoder_log(VVENC + line)


@pytest.mark.parametrize("cut", range(0, len(EARLY_VTM), 7))
def test_the_last_line_of_a_log_that_was_cut_short_is_refused_or_whole(cut: int) -> None:
    text = VVENC + EARLY_VTM[:cut]
    if cut > len("POC    ") and " bits" not in EARLY_VTM[:cut]:
        with pytest.raises(InputError, match="log line 6"):
            parse_encoder_log(text)
    else:
        assert len(parse_encoder_log(text)) == 2 + (" bits" in EARLY_VTM[:cut])
