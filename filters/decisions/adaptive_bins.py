"""A binary arithmetic coder for short messages: hundreds of bins, contexts that count, the fewest bytes.

Here a context's probability moves by 1/2, 1/3, 1/4, ... of its error, down to 1/64: at first it is the mean of what it
saw. Of all numbers in the last interval the bytes are the shortest one. The arithmetic coder of network files, made for
millions of bins, takes 2 to 11 % more bits for a picture's decisions, and always two bytes to end.

Source: H. Howard and J. Vitter, Practical Implementations of Arithmetic Coding, 1992, for coding by intervals; the
interval is kept as a whole number of any length, so that no carry has to be handled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

PROBABILITY_BITS = 16
RANGE_BITS = 32
_ONE = 1 << PROBABILITY_BITS
_LEAST = _ONE >> 9
_MOST = _ONE - _LEAST
_SLOWEST = 64
_EXPECTED_WEIGHT = 8


@dataclass(slots=True)
class Context:
    """A probability that learns.

    Attributes:
        p_one: Probability of a 1, in units of 2**-16.
        weight: How many bins it stands for; the next one counts as one more.
    """

    p_one: int = _ONE // 2
    weight: int = 1

    def update(self, bin: int) -> None:
        """Learns one bin."""
        if self.weight < _SLOWEST:
            self.weight += 1
        moved = self.p_one + ((bin << PROBABILITY_BITS) - self.p_one) // self.weight
        self.p_one = _LEAST if moved < _LEAST else _MOST if moved > _MOST else moved


def expecting(p_64ths: int) -> Context:
    """A context that begins with a probability measured on photographs, which counts as eight bins."""
    return Context(p_64ths << (PROBABILITY_BITS - 6), _EXPECTED_WEIGHT)


class BinCoder(Protocol):
    """Either side of the coder: what is written one way is read the same way."""

    def code(self, context: Context, bin: int = 0) -> int:
        """Codes a bin by its context; the decoder ignores `bin`. Returns the bin."""


def code_number(coder: BinCoder, number: int, n_bits: int) -> int:
    """Codes a number of bits of even odds, the most significant first; returns it."""
    found = 0
    for shift in reversed(range(n_bits)):
        found = found << 1 | coder.code(Context(), number >> shift & 1)
    return found


class BinCounter:
    """Counts the bits that bins would take, and lets no context learn.

    Attributes:
        n_bits: So far.
    """

    def __init__(self) -> None:
        self.n_bits = 0.0

    def code(self, context: Context, bin: int = 0) -> int:
        """Counts a bin."""
        self.n_bits -= math.log2((context.p_one if bin else _ONE - context.p_one) / _ONE)
        return bin


class BinEncoder:
    """Writes bins."""

    def __init__(self) -> None:
        self._low = 0
        self._range = 1 << RANGE_BITS
        self._n_bits = RANGE_BITS

    def code(self, context: Context, bin: int = 0) -> int:
        """Appends a bin."""
        ones = (self._range >> PROBABILITY_BITS) * context.p_one
        if bin:
            self._range = ones
        else:
            self._low += ones
            self._range -= ones
        shift = RANGE_BITS + 1 - self._range.bit_length()
        self._low <<= shift
        self._range <<= shift
        self._n_bits += shift
        context.update(bin)
        return bin

    def finish(self) -> bytes:
        """The shortest bytes that decode to the bins, given zeros behind them."""
        first, last = self._low, self._low + self._range - 1
        n_zeros = ((first - 1) ^ last).bit_length() - 1 if first else self._n_bits
        roundest = last >> n_zeros << n_zeros  # the number of first..last with the most zero bits at its end
        n_padding = -self._n_bits % 8
        return (roundest << n_padding).to_bytes((self._n_bits + n_padding) // 8, "big").rstrip(b"\x00")


class BinDecoder:
    """Reads bins; behind the data it reads zeros for ever.

    Args:
        data: What a `BinEncoder` wrote.
    """

    def __init__(self, data: bytes) -> None:
        self._bits = int.from_bytes(data, "big")
        self._n_left = 8 * len(data)
        self._range = 1 << RANGE_BITS
        self._value = 0
        self._value = self._take(RANGE_BITS)

    def code(self, context: Context, bin: int = 0) -> int:
        """The next bin."""
        ones = (self._range >> PROBABILITY_BITS) * context.p_one
        found = int(self._value < ones)
        if found:
            self._range = ones
        else:
            self._value -= ones
            self._range -= ones
        shift = RANGE_BITS + 1 - self._range.bit_length()
        self._value = self._value << shift | self._take(shift)
        self._range <<= shift
        context.update(found)
        return found

    def _take(self, n_bits: int) -> int:
        """The next bits of the data, zeros behind it."""
        self._n_left -= n_bits
        shifted = self._bits >> self._n_left if self._n_left >= 0 else self._bits << -self._n_left
        return shifted & ((1 << n_bits) - 1)
