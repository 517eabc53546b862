"""Floats of 8 bits: which values their bits stand for, and which bits are nearest to a value.

    format             sign  exponent  mantissa  bias  bits that are no finite value
    float8_e4m3fn       1       4         3        7   7F, FF: NaN
    float8_e4m3fnuz     1       4         3        8   80: NaN; no negative zero
    float8_e5m2         1       5         2       15   7C, FC: infinity; 7D to 7F, FD to FF: NaN
    float8_e5m2fnuz     1       5         2       16   80: NaN; no negative zero
    float8_e8m0fnu      0       8         0      127   FF: NaN; no zero

Exponents of 0 are those of zero and subnormal values, but in float8_e8m0fnu, whose values are powers of two. Every
value is one of bfloat16, too, and each NaN has a bfloat16 of its own here, so that bits survive as float32.

Source: OCP 8-bit Floating Point Specification (OFP8) 1.0 for e4m3 and e5m2; "8-bit Numerical Formats for Deep Neural
Networks" (B. Noune et al., 2022) for fnuz; OCP Microscaling Formats (MX) Specification 1.0 for e8m0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

_N_CODES, _N_WORDS = 1 << 8, 1 << 16
_SIGN, _QUIET_NAN = 0x8000, 0x7FC0


@dataclass(frozen=True, slots=True)
class Float8:
    """How the bits of such a format are laid out.

    Attributes:
        mantissa_bits: Bits of the mantissa.
        bias: What exponents are less by.
        has_infinity: Infinities and NaNs of several bits, as in IEEE 754.
        is_unsigned_zero: The bits of a negative zero are the only NaN.
        is_power: Bits are an exponent alone, without sign and zero.
    """

    mantissa_bits: int
    bias: int
    has_infinity: bool = False
    is_unsigned_zero: bool = False
    is_power: bool = False


FLOAT8 = {
    "float8_e4m3fn": Float8(3, 7),
    "float8_e4m3fnuz": Float8(3, 8, is_unsigned_zero=True),
    "float8_e5m2": Float8(2, 15, has_infinity=True),
    "float8_e5m2fnuz": Float8(2, 16, is_unsigned_zero=True),
    "float8_e8m0fnu": Float8(0, 127, is_power=True),
}
"""Such formats by the names that torch has for them."""


@cache
def values_of_codes(name: str) -> NDArray[np.float32]:
    """The values of all 256 bits of a format, float32; NaNs differ by their bits."""
    words = np.array([_word(FLOAT8[name], code) for code in range(_N_CODES)], np.uint32)
    found = (words << 16).view(np.float32)
    found.flags.writeable = False
    return found


def _word(layout: Float8, code: int) -> int:
    """The bfloat16 of some bits."""
    if layout.is_power:
        return _QUIET_NAN if code == _N_CODES - 1 else _word_of(2.0 ** (code - layout.bias))
    sign, magnitude = code >> 7 << 15, code & 0x7F
    if layout.is_unsigned_zero and code == 0x80:
        return _SIGN | _QUIET_NAN
    if layout.has_infinity and magnitude >= 0x7C:
        return sign | 0x7F80 | (magnitude & 3) << 5
    if not (layout.has_infinity or layout.is_unsigned_zero) and magnitude == 0x7F:
        return sign | _QUIET_NAN
    exponent, mantissa = magnitude >> layout.mantissa_bits, magnitude & (1 << layout.mantissa_bits) - 1
    whole = mantissa + (exponent > 0) * (1 << layout.mantissa_bits)
    return sign | _word_of(whole * 2.0 ** (max(exponent, 1) - layout.bias - layout.mantissa_bits))


def _word_of(value: float) -> int:
    """The upper half of a float32."""
    return int(np.float32(value).view(np.uint32)) >> 16


def nearest_codes(values: NDArray[np.float32], name: str) -> NDArray[np.uint8]:
    """The bits of a format that are nearest to values, ties to even bits.

    What would be infinite is the largest finite value of its sign, but for infinity itself where the format has it. A
    NaN that the format has keeps its bits, others become its first one.

    Args:
        values: float32, any shape.
        name: Of `FLOAT8`.
    """
    bits = np.ascontiguousarray(values).view(np.uint32).reshape(np.shape(values))
    # Rounding to odd keeps what the second rounding needs to know of the bits that go first.
    words = (bits >> np.uint32(16)) | ((bits & np.uint32(0xFFFF)) != 0)
    codes: NDArray[np.uint8] = np.asarray(_codes_of_words(name)[words], np.uint8)
    return codes


@cache
def _codes_of_words(name: str) -> NDArray[np.uint8]:
    """The nearest bits of every bfloat16."""
    layout, table = FLOAT8[name], values_of_codes(name)
    own = (table.view(np.uint32) >> 16).astype(np.int64)
    words = (np.arange(_N_WORDS, dtype=np.uint32) << 16).view(np.float32)
    finite = np.flatnonzero(np.isfinite(table[: _N_CODES if layout.is_power else 128]))
    sizes = table[finite].astype(np.float64)
    wanted = np.where(np.isnan(words), 0, np.abs(words)).astype(np.float64)
    if layout.is_power:
        wanted = np.where(np.signbit(words), 0, wanted)
    middles = (sizes[1:] + sizes[:-1]) / 2
    below, above = np.searchsorted(middles, wanted, "left"), np.searchsorted(middles, wanted, "right")
    codes = np.where(below % 2, above, below)
    is_minus = np.signbit(words) & (not layout.is_power) & ~((codes == 0) & layout.is_unsigned_zero)
    codes = np.where(np.isnan(words), np.flatnonzero(np.isnan(table))[0], codes | is_minus.astype(np.int64) << 7)
    is_odd = ~np.isfinite(table)
    codes[own[is_odd]] = np.flatnonzero(is_odd)
    found: NDArray[np.uint8] = codes.astype(np.uint8)
    found.flags.writeable = False
    return found
