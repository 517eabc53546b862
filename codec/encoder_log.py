"""The per-picture lines that VVC encoders print: VTM, vvencapp and libvvenc share their form.

POC    0 LId:  0 TId: 0 ( IDR_N_LP, I-SLICE, QP 37 )     398392 bits [Y 36.6308 dB ...     (VTM)
POC    0 TId: 0 ( I-SLICE, nQP 37 QP 37 )     398392 bits [Y 36.6308 dB ...            (early VTM)
POC     0 TId: 0 (  IDR_N_LP, I-SLICE, QP 32)            23320 bits [Y 30.7334 dB ...     (vvenc)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PICTURE = re.compile(
    r"POC\s+([0-9]{1,12})\s[^(]*\(\s*(?:\w+,\s*)?([IPBipb])-SLICE,"
    r"\s*(?:nQP\s+-?[0-9]{1,3}\s+)?QP\s+(-?[0-9]{1,3})\s*\)\s*([0-9]{1,15})\s+bits"
)


@dataclass(frozen=True, slots=True)
class LoggedPicture:
    """One picture of an encoder's log.

    Attributes:
        poc: Picture order count.
        slice_type: "I", "P" or "B".
        qp: The picture's QP.
        n_bits: Its size in bits: slices, parameter sets and delimiters with start codes, SEI not counted.
    """

    poc: int
    slice_type: str
    qp: int
    n_bits: int


def parse_encoder_log(text: str) -> list[LoggedPicture]:
    """The pictures of a log in the order they are printed; lines of other kinds are passed over."""
    matches = (_PICTURE.search(line) for line in text.splitlines())
    return [LoggedPicture(int(m[1]), m[2].upper(), int(m[3]), int(m[4])) for m in matches if m]
