"""Forms of a tensor that loses nothing: coded integers, and bytes that go as they are into the raw unit of a stream.

    split     floats: exponents are coded as integers; signs and mantissas, which hold no pattern, go as they are
    palette   few different values: their places in a sorted table are coded as integers; the table goes as it is
    bytes     all as it is: short tensors, and what no coder makes smaller
    lzma      all by LZMA: patterns that repeat
    outliers  floats whose other values take levels: the few huge, infinite and NaN ones

A form has integers for a data unit (none: a stand-in of one 0) and bytes for the raw unit. All numbers of several bytes
are little endian.

The bytes of *split*: number of mantissa bits kept (u8), how zeros are kept (u8), centre of the exponents (u16), then of
each value sign and kept mantissa bits, the sign above: first all lowest bytes, then the next ones, then bit by bit,
eight values a byte, what is left, the lowest bit first. The integer of a value is its exponent less the centre. Zeros
are kept like other values (0), or have integer 0 and no bits but their signs, which are all plus (1) or follow, eight a
byte (2); the integers of other values from 0 on are then one more.

The bytes of *outliers*: their places, ascending (u32), then their values. They are zeros in the data unit.

The bytes of *palette*: centre (u16), then the sorted values in their own bytes. The integer is the place less the
centre.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from vvc_nnr import _kernels
from vvc_nnr.bitstream.float8 import FLOAT8
from vvc_nnr.bitstream.manifest import RawKind
from vvc_nnr.bitstream.number_formats import Array, FloatBits, from_bits, itemsize_of_format, plain_array
from vvc_nnr.bitstream.packing import lzma_bytes, unpacked
from vvc_nnr.errors import BitstreamError

Bits: TypeAlias = NDArray[Any]

# Mantissa bits of the floats that are split, by their names.
MANTISSA_BITS = {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}
MANTISSA_BITS |= {name: layout.mantissa_bits for name, layout in FLOAT8.items() if layout.mantissa_bits}
MAX_PALETTE = 1 << 12
# So many different ones among few values are too many: of a whole palette used evenly, 906 of 1,024 would differ.
_FEW, _MANY_OF_FEW = 1024, 1000
# So many values tell what the others are like; tensors of no more than SMALL are looked at as a whole.
SAMPLE, SMALL, _PIECES = 1 << 14, 1 << 14, 4
# Forms of all values.
KINDS: tuple[RawKind, ...] = tuple(kind for kind in get_args(RawKind) if kind != "outliers")
# Odd numbers that make words of values, and the share of different runs below which some repeat.
_REPEATS = 0.98
# Values in a run that the kernel looks at. By chance a run comes again that takes less than so many bits more than the
# number of a place; a value counts as so many at least.
_RUN, _CHANCE_BITS, _LEAST_BITS = 4, 10, 0.25
# LZMA takes about half a second for so many values.
_QUICK_VALUES = 1 << 17
_ODD, _HALF_WORD = 0x9E3779B97F4A7C15, 29
# Above this share of zeros they are told apart from other values.
_MANY_ZEROS = 1 / 16
_SIGNED_ZEROS = 2
_SPLIT_HEAD, _PALETTE_HEAD = struct.Struct("<BBH"), struct.Struct("<H")
_FIELD = "the raw unit"


@dataclass(frozen=True, slots=True, eq=False)
class ExactForm:
    """A tensor without loss.

    Attributes:
        kind: Which form it is.
        integers: What is coded, int32, flat; None if nothing is.
        raw: What goes as it is.
    """

    kind: RawKind
    integers: NDArray[np.int32] | None
    raw: bytes


def bits_of(array: Array | FloatBits) -> Bits:
    """The values of a tensor as unsigned integers of their size, flat, in C order and native byte order."""
    plain = plain_array(array)
    native = np.ascontiguousarray(plain, dtype=plain.dtype.newbyteorder("="))
    return native.reshape(-1).view(f"u{native.itemsize}")


def sampled(bits: Bits) -> Bits:
    """Pieces of values from all over a tensor, up to `SAMPLE` of them; all of a small one."""
    if len(bits) <= SMALL:
        return bits
    length = min(SAMPLE, len(bits) // 8) // _PIECES
    starts = [place * (len(bits) - length) // (_PIECES - 1) for place in range(_PIECES)]
    return np.concatenate([bits[start : start + length] for start in starts])


def values_of(bits: Bits, like: Array | FloatBits) -> Array | FloatBits:
    """Values of a tensor's number format from their bits, flat."""
    if isinstance(like, FloatBits):
        return FloatBits(bits, like.number_format)
    return bits.view(like.dtype.newbyteorder("="))


def estimated_bytes(form: ExactForm) -> float:
    """What a form takes at least, about, by the entropy of its integers behind the signs of their neighbours."""
    if form.integers is None:
        return len(form.raw)
    return _kernels.integer_bits(form.integers) / 8 + len(form.raw)


def may_repeat(bits: Bits) -> bool:
    """Whether runs of four values come again: by one in 16 of them, of many in 64, chosen by what they are.

    Where values are so few that runs of four do by chance, those of large tensors are as long as tell; smaller ones are
    left to LZMA, which is slow, but may be a percent shorter there.
    """
    if not _runs_come_again(bits):
        return False
    if len(bits) <= _QUICK_VALUES:
        return True
    counts = np.unique(sampled(bits), return_counts=True)[1]
    shares = counts / counts.sum()
    bits_per_value = -float((shares * np.log2(shares)).sum())
    length = (math.log2(len(bits)) + _CHANCE_BITS) / max(bits_per_value, _LEAST_BITS)
    return length <= _RUN or _runs_come_again(_joined_runs(bits, math.ceil(length) - _RUN))


def _runs_come_again(bits: Bits) -> bool:
    n_runs, n_different = _kernels.chosen_runs(bits)
    return n_different < _REPEATS * n_runs


def _joined_runs(bits: Bits, more: int) -> Bits:
    """For each value but the last ones a number that stands for it and so many behind it, or some more."""
    found, length = bits.astype(np.uint64), 1
    while length <= more and len(found) > length:
        first = found[:-length] * np.uint64(_ODD)
        found = (first ^ first >> np.uint64(_HALF_WORD)) + found[length:]
        length *= 2
    return found


def exact_form(bits: Bits, kind: RawKind, number_format: str) -> ExactForm | None:
    """A tensor in a form; None if it has none of that kind.

    Args:
        bits: What `bits_of` gives, one value or more.
        kind: The form.
        number_format: Such as "float32" or "int64".
    """
    if kind == "split":
        return split_form(bits, number_format) if number_format in MANTISSA_BITS else None
    if kind == "palette":
        return palette_form(bits)
    return bytes_form(bits) if kind == "bytes" else lzma_form(bits)


def bits_of_form(
    kind: RawKind, raw: bytes | memoryview, integers: NDArray[np.int32], number_format: str, n: int
) -> Bits:
    """The bits of a tensor from its form.

    Args:
        kind: The form.
        raw: Its bytes.
        integers: What was coded beside them.
        number_format: That of the tensor.
        n: Number of its values.

    Raises:
        BitstreamError: If they do not fit together.
    """
    itemsize = itemsize_of_format(number_format)
    if kind == "split":
        if number_format not in MANTISSA_BITS:
            raise _damaged(f"{number_format} has nothing to split")
        return joined_floats(integers.reshape(-1), raw, number_format)
    if kind == "palette":
        return looked_up(integers.reshape(-1), raw, itemsize)
    return plain_values(raw, kind, n, itemsize)


def split_form(bits: Bits, float_format: str) -> ExactForm:
    """Floats as coded exponents, and signs and mantissas as they are.

    Args:
        bits: What `bits_of` gives, one value or more.
        float_format: One of `MANTISSA_BITS`.
    """
    mantissa_bits = MANTISSA_BITS[float_format]
    layout = _Layout(8 * bits.itemsize, mantissa_bits)
    used = int(np.bitwise_or.reduce(bits)) & ((1 << mantissa_bits) - 1)
    dropped = (used & -used).bit_length() - 1 if used else mantissa_bits
    sample = bits[:: max(1, len(bits) // SAMPLE)]
    skips_zeros = int(np.count_nonzero(layout.are_zero(sample))) > _MANY_ZEROS * len(sample)
    is_zero = layout.are_zero(bits) if skips_zeros else np.zeros(0, np.bool_)
    counted = sample[~layout.are_zero(sample)] if skips_zeros else sample
    centre = int(np.bincount(layout.exponents(counted), minlength=1).argmax())
    kept = bits[~is_zero] if skips_zeros else bits
    is_minus = bits[is_zero] != 0 if skips_zeros else is_zero
    signs = np.packbits(is_minus, bitorder="little").tobytes() if is_minus.any() else b""
    head = _SPLIT_HEAD.pack(mantissa_bits - dropped, skips_zeros + bool(signs), centre)
    exponents, raw = _kernels.split_floats(kept, mantissa_bits, dropped, centre, head)
    if skips_zeros:
        exponents += exponents >= 0
        whole = np.zeros(len(bits), np.int32)
        whole[~is_zero] = exponents
        exponents = whole
    return ExactForm("split", exponents, raw + signs if signs else raw)


def joined_floats(integers: NDArray[np.int32], raw: bytes | memoryview, float_format: str) -> Bits:
    """The inverse of `split_form`.

    Raises:
        BitstreamError: If there are more or fewer bytes than the values take, or an exponent is out of range.
    """
    if len(raw) < _SPLIT_HEAD.size:
        raise _damaged("its head is cut off")
    kept, zeros, centre = _SPLIT_HEAD.unpack_from(raw)
    mantissa_bits, dtype = MANTISSA_BITS[float_format], np.dtype(f"u{itemsize_of_format(float_format)}")
    if kept > mantissa_bits or zeros > _SIGNED_ZEROS:
        raise _damaged("its head is none")
    skips_zeros, has_signs = zeros > 0, zeros == _SIGNED_ZEROS
    coded = integers[integers != 0] if skips_zeros else integers
    n_zeros = len(integers) - len(coded)
    n_planes_bytes = len(raw) - _SPLIT_HEAD.size - ((n_zeros + 7) // 8 if has_signs else 0)
    if n_planes_bytes < 0:
        raise _damaged("it is cut off")
    if n_planes_bytes != (kept + 1) // 8 * len(coded) + (kept + 1) % 8 * ((len(coded) + 7) // 8):
        raise _damaged("it has another number of bytes than its values take")
    planes = np.frombuffer(raw, np.uint8, n_planes_bytes, _SPLIT_HEAD.size)
    bits = np.empty(len(coded), dtype)
    coded = np.ascontiguousarray(coded, np.int32)
    if not _kernels.join_floats(coded, planes, mantissa_bits, mantissa_bits - kept, centre, skips_zeros, bits):
        raise _damaged("an exponent is out of range")
    if not skips_zeros:
        return bits
    whole = np.zeros(len(integers), dtype)
    whole[integers != 0] = bits
    if has_signs:
        signs = np.frombuffer(raw[len(raw) - (n_zeros + 7) // 8 :], np.uint8)
        is_minus = np.unpackbits(signs, count=n_zeros, bitorder="little")
        whole[integers == 0] = is_minus.astype(dtype) << dtype.type(8 * dtype.itemsize - 1)
    return whole


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where sign, exponent and mantissa of a float lie."""

    n_bits: int
    mantissa_bits: int

    def exponents(self, bits: Bits) -> NDArray[np.int32]:
        """int32, from 0."""
        mask = (1 << self.n_bits - 1 - self.mantissa_bits) - 1
        found: NDArray[np.int32] = (bits >> bits.dtype.type(self.mantissa_bits)).astype(np.int32) & np.int32(mask)
        return found

    def are_zero(self, bits: Bits) -> NDArray[np.bool_]:
        """Where a value is zero of either sign."""
        found: NDArray[np.bool_] = bits << bits.dtype.type(1) == 0
        return found


def palette_form(bits: Bits) -> ExactForm | None:
    """Values as places in a table of them; None if there are too many different ones."""
    if bits.itemsize > 2 and len(np.unique(bits[:: max(1, len(bits) // _FEW)][:_FEW])) > _MANY_OF_FEW:
        return None
    found = _palette(bits)
    if found is None:
        return None
    table, places, counts = found
    centre = int(counts.argmax())
    integers = places - np.int32(centre)
    plain = table.astype(table.dtype.newbyteorder("<"), copy=False)
    return ExactForm("palette", integers, _PALETTE_HEAD.pack(centre) + plain.tobytes())


def _palette(bits: Bits) -> tuple[Bits, NDArray[np.int32], NDArray[np.int64]] | None:
    """The different values, sorted, the place of each value, and how many of each there are; None: too many differ."""
    if bits.itemsize > 2:
        table, places, counts = np.unique(bits, return_inverse=True, return_counts=True)
        return (table, places.reshape(-1).astype(np.int32), counts) if len(table) <= MAX_PALETTE else None
    if bits.itemsize > 1 and len(bits) < SMALL:
        ordered = np.sort(bits, kind="stable")
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        if len(starts) > MAX_PALETTE:
            return None
        table, found_counts = ordered[starts], np.append(starts[1:], len(bits)) - starts
    else:
        all_counts = np.bincount(bits, minlength=1 << 8 * bits.itemsize)
        is_there = all_counts != 0
        if np.count_nonzero(is_there) > MAX_PALETTE:
            return None
        places = np.flatnonzero(is_there)
        table, found_counts = places.astype(bits.dtype), all_counts[places]
    place_of = np.empty(1 << 8 * bits.itemsize, np.int32)
    place_of[table] = np.arange(len(table), dtype=np.int32)
    return table, place_of[bits], found_counts


def table_size(form: ExactForm, itemsize: int) -> int:
    """How many different values a palette has, by the bytes of one."""
    return (len(form.raw) - _PALETTE_HEAD.size) // itemsize


def looked_up(integers: NDArray[np.int32], raw: bytes | memoryview, itemsize: int) -> Bits:
    """The inverse of `palette_form`.

    Raises:
        BitstreamError: If a place is not in the table, or that is no whole number of values.
    """
    n_table_bytes = len(raw) - _PALETTE_HEAD.size
    if n_table_bytes <= 0 or n_table_bytes % itemsize:
        raise _damaged("its table is cut off")
    (centre,) = _PALETTE_HEAD.unpack_from(raw)
    table = np.frombuffer(raw, f"<u{itemsize}", offset=_PALETTE_HEAD.size).astype(f"u{itemsize}")
    places = integers.astype(np.int64) + centre
    if len(places) and not 0 <= int(places.min()) <= int(places.max()) < len(table):
        raise _damaged("a place is not in its table")
    found: Bits = table[places]
    return found


def outliers_form(bits: Bits, apart: NDArray[np.bool_]) -> ExactForm:
    """Values that are kept apart, without the others.

    Args:
        bits: What `bits_of` gives of all values.
        apart: Where they are, flat.
    """
    places = np.flatnonzero(apart)
    return ExactForm("outliers", None, places.astype("<u4").tobytes() + _plain_bytes(bits[places]))


def with_outliers(values: Array, raw: bytes | memoryview, number_format: str) -> Array:
    """Decoded values with the outliers in their places.

    Args:
        values: Of the number format; bfloat16 and float8 as float32.
        raw: What `outliers_form` made.
        number_format: A float format.

    Raises:
        BitstreamError: If the bytes are no whole number of outliers, or places do not ascend or lead out of the tensor.
    """
    itemsize = itemsize_of_format(number_format)
    n, rest = divmod(len(raw), 4 + itemsize)
    places = np.frombuffer(raw, "<u4", count=n).astype(np.int64)
    if rest or not n or (np.diff(places) <= 0).any() or places[-1] >= values.size:
        raise _damaged("its places are not those of values")
    bits = np.frombuffer(raw, f"<u{itemsize}", offset=4 * n).astype(f"u{itemsize}")
    found = np.array(values, order="C")
    found.reshape(-1)[places] = from_bits(bits, number_format)
    return found


def bytes_form(bits: Bits) -> ExactForm:
    """Values as they are."""
    return ExactForm("bytes", None, _plain_bytes(bits))


def lzma_form(bits: Bits) -> ExactForm:
    """Values by LZMA."""
    return ExactForm("lzma", None, lzma_bytes(_plain_bytes(bits), of_bytes=bits.itemsize == 1))


def plain_values(raw: bytes | memoryview, kind: RawKind, n_values: int, itemsize: int) -> Bits:
    """The inverse of `bytes_form` and `lzma_form`.

    Raises:
        BitstreamError: If they give another number of values.
    """
    n_bytes = n_values * itemsize
    plain = bytes(raw) if kind == "bytes" else unpacked(raw, "lzma", n_bytes, _FIELD)
    if len(plain) != n_bytes:
        raise _damaged(f"it has {len(plain)} bytes; its values take {n_bytes}")
    return np.frombuffer(plain, f"<u{itemsize}").astype(f"u{itemsize}")


def _plain_bytes(bits: Bits) -> bytes:
    return bits.astype(bits.dtype.newbyteorder("<"), copy=False).tobytes()


def _damaged(message: str) -> BitstreamError:
    return BitstreamError(message, field=_FIELD)
