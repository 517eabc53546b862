"""Bits in the logs of VTM, HM, vvencapp and x265, in the order of output."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from vvc_nnr.codec.encoder_logs import read_encoder_log
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
        (VTM + SUMMARY, ("VTM 23.13", 4, 2420, (1000, 20, 300, 1100))),
        (HM, ("HM 16.20", 2, 11000, (5000, 6000))),
        (VVENC, ("vvenc 1.15.0-dev", 3, 10048, None)),
        (X265, ("x265 4.3+49-020d7054", 3, 14120, None)),
        (X265_CSV, ("x265", 3, 5520, (4728, 104, 688))),
        (X265_CSV.replace("\\n", "\\r\\n"), ("x265", 3, 5520, (4728, 104, 688))),
        ("Real Format : 64x48 50Hz" + SUMMARY, ("", 4, 2420, None)),
    ],
)
def test_bits_of_a_log(text: str, expected: tuple[object, ...], tmp_path: Path) -> None:
    (tmp_path / "log").write_text(text)
    found = read_encoder_log(tmp_path / "log")
    assert (found.encoder, found.n_pictures, found.n_bits, found.picture_bits) == expected


def test_pictures_come_with_the_qp_of_the_access_point_that_they_are_coded_behind(tmp_path: Path) -> None:
    lines = [
        "POC 0 TId: 0 ( IDR_N_LP, I-SLICE, QP 30 ) 9 bits [Y",
        "POC 4 LId:  0 TId: 0 ( CRA, I-SLICE, QP 31 ) 9 bits [Y",
        "POC 2 TId: 1 ( RASL, B-SLICE, QP 35 ) 9 bits [Y",
        "POC 6 TId: 2 ( TRAIL, B-SLICE, QP 36 ) 9 bits [Y",
    ]
    (tmp_path / "log").write_text("\n".join(lines))
    found = read_encoder_log(tmp_path / "log")
    assert found.pictures is not None
    told = [(each.poc, each.slice_type, each.qp, each.temporal_layer) for each in found.pictures]
    assert told == [(0, "I", 30, 0), (2, "B", 35, 1), (4, "I", 31, 0), (6, "B", 36, 2)]
    assert found.access_point_qps == (30, 31, 31, 31)


def test_a_rate_needs_the_pictures_per_second(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(SUMMARY)
    with pytest.raises(InputError, match=r"kbit/s alone.*give them \(fps\)"):
        read_encoder_log(tmp_path / "log")
    assert read_encoder_log(tmp_path / "log", Fraction(50)).n_bits == 2420


def _log(*pictures: str) -> str:
    """A log of pictures such as "15 IDR_W_RADL", each of 100 bits and its place in the order of coding."""
    lines = []
    for place, picture in enumerate(pictures):
        poc, nal_type, *end = picture.split()
        kind = "I" if nal_type.startswith(("IDR", "CRA", "I")) else "B"
        named = "" if nal_type in ("I", "B") else f"{nal_type}, "
        lines.append(f"POC {poc:>4} TId: 0 ({named}{kind}-SLICE, QP 24{' '.join(end)})  {100 + place} bits [Y 40.1 dB]")
    return "\n".join(lines)


RADL = ("3 IDR_W_RADL , TF 1", "1 RADL", "0 RADL", "2 RADL", "4 STSA")
"""As vvencapp begins in random access: its first picture is not the first one that is shown."""
OPEN = ("0 IDR_N_LP", "4 CRA", "2 RASL", "1 RASL", "3 RADL", "6 TRAIL", "5 TRAIL")


@pytest.mark.parametrize(
    ("pictures", "order"),
    [
        (RADL, (2, 1, 3, 0, 4)),
        ((*RADL, "7 IDR_W_RADL", "5 RADL", "6 RADL", "8 TRAIL"), (2, 1, 3, 0, 4, 6, 7, 5, 8)),
        ((*RADL, *RADL), (2, 1, 3, 0, 4, 7, 6, 8, 5, 9)),
        ((*RADL, "0 IDR_N_LP", "1 TRAIL"), (2, 1, 3, 0, 4, 5, 6)),
        (OPEN, (0, 3, 2, 4, 1, 6, 5)),
        ((*OPEN, *OPEN), (0, 3, 2, 4, 1, 6, 5, 7, 10, 9, 11, 8, 13, 12)),
        ((*OPEN, "2 CRA", "1 RASL", "0 RASL", "3 TRAIL"), (0, 3, 2, 4, 1, 6, 5, 9, 8, 7, 10)),
        (("0 IDR_N_LP", "1 TRAIL", "2 GDR", "3 TRAIL"), (0, 1, 2, 3)),
        (("0 I", "4 B", "2 B", "0 I", "-2 B", "-1 B", "1 B"), (0, 2, 1, 4, 5, 3, 6)),
        (("0 I", "4 I", "2 B", "0 I", "1 I"), (0, 2, 1, 3, 4)),
    ],
)
def test_leading_pictures_belong_to_the_picture_that_they_lead(
    pictures: tuple[str, ...], order: tuple[int, ...], tmp_path: Path
) -> None:
    (tmp_path / "log").write_text(_log(*pictures))
    assert read_encoder_log(tmp_path / "log").picture_bits == tuple(100 + place for place in order)


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        (("4 TRAIL", "5 TRAIL"), r"begins with POC 4 \(TRAIL\); must begin with an IDR"),
        (("4 I", "0 I"), r"begins with POC 4 \(I-slice\)"),
        (("0 IDR_N_LP", "1 TRAIL", "1 TRAIL"), r"POC 1 \(TRAIL\) is the second one of its count"),
        ((*RADL, "0 RADL"), r"POC 0 \(RADL\) is the second one"),
        (("0 I", "1 B", "0 B"), r"POC 0 \(B-slice\) is the second one"),
        (("3 IDR_W_RADL", "0 TRAIL"), r"POC 0 \(TRAIL\) cannot be coded behind POC 3 \(IDR_W_RADL\)"),
        (("3 IDR_W_RADL", "4 RADL"), r"POC 4 \(RADL\) cannot be coded behind POC 3"),
    ],
)
def test_pictures_whose_order_is_not_sure_are_refused(pictures: tuple[str, ...], said: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(_log(*pictures))
    with pytest.raises(InputError, match=rf"^{tmp_path}/log: {said}"):
        read_encoder_log(tmp_path / "log")


def test_closed_groups_of_x265_begin_at_0_again(tmp_path: Path) -> None:
    rows = ["0, I-SLICE, 0", "1, P-SLICE, 1", "2, I-SLICE, 0", "3, b-SLICE, -1", "4, i-SLICE, 2", "5, b-SLICE, 1"]
    table = [f"0, {row}, 30.00, {100 + place}, 0" for place, row in enumerate(rows)]
    (tmp_path / "log").write_text("\n".join([X265_CSV.splitlines()[0], *table, "", "Summary"]))
    assert read_encoder_log(tmp_path / "log").picture_bits == (100, 101, 103, 102, 105, 104)


def test_a_row_of_x265_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(X265_CSV.replace("0, 2, B-SLICE,    1, 29.00,       104, 0", "0, 2, B-SLICE,    1"))
    with pytest.raises(InputError, match=r"log line 4: 4 cells, must be 7: it was cut short"):
        read_encoder_log(tmp_path / "log")


@pytest.mark.parametrize("text", ["", "no log", "\0\xff", X265_CSV.replace("4728", "x")])
def test_what_is_no_log_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="log"):
        read_encoder_log(tmp_path / "log")
