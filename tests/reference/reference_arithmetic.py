"""The arithmetic coder of NNC, slow and readable: what the kernels have to equal in bytes and in state."""

from __future__ import annotations

from dataclasses import dataclass

from vvc_nnr.errors import BitstreamError

RANGE_START = 510
RANGE_BLOCK_ROW = 256

# Width of the part of the range that the less probable bin gets; row (range >> 5) & 7, column abs(total >> 7).
RANGE_LPS_ROWS = """
128,112,97,84,74,65,57,50,45,39,34,30,27,23,20,18,15,14,12,11,10,9,7,7,5,5,4,4,3,3,2,2
142,125,108,93,82,72,63,56,50,43,38,33,30,26,22,20,17,16,13,12,11,10,8,8,6,6,5,5,3,3,2,2
156,137,119,103,90,79,70,61,55,48,42,37,33,28,24,22,19,17,15,13,12,11,9,9,6,6,5,5,4,4,2,2
171,150,130,112,99,87,76,67,60,52,46,40,36,31,27,24,21,19,16,15,13,12,10,10,7,7,6,6,4,4,3,3
185,162,141,121,107,94,82,73,65,56,50,43,39,34,29,26,22,21,17,16,14,13,11,11,8,8,6,6,4,4,3,3
199,175,152,131,115,101,89,78,70,61,54,47,42,36,31,28,24,22,19,17,15,14,12,12,8,8,7,7,5,5,3,3
213,187,163,140,123,108,95,84,75,65,58,50,45,39,33,30,26,24,20,18,16,15,13,13,9,9,7,7,5,5,3,3
228,200,174,150,132,116,102,90,80,70,62,54,48,42,36,32,28,26,22,20,18,16,14,14,10,10,8,8,6,6,4,4
"""
RANGE_LPS = tuple(tuple(map(int, row.split(","))) for row in RANGE_LPS_ROWS.split())

# Step of an estimator by its own height, before the shift of its set.
ADAPTATION = (
    2512, 2288, 2064, 1840, 1616, 1392, 1168, 944, 720, 560, 464, 368, 272, 208, 144, 80,
    64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 0,
)  # fmt: skip

# (shift of the fast estimator, shift of the slow one, total at the start, fast estimator at the start)
ESTIMATOR_SETS = (
    (5, 4, 0, 0),
    (5, 4, -1310, -41),
    (5, 4, 3039, 95),
    (4, 5, 0, 0),
    (6, 6, 962, 30),
    (6, 6, 3039, 95),
    (6, 6, -673, -21),
    (7, 5, 0, 0),
    (7, 5, 962, 30),
)


class Context:
    """An adaptive probability: two estimators in the log domain, `a` with 8 and `c` with 12 bits of scale."""

    __slots__ = ("a", "c", "shift_a", "shift_c")

    def __init__(self, estimator_set: int = 0) -> None:
        self.shift_a, self.shift_c, total, self.a = ESTIMATOR_SETS[estimator_set]
        self.c = total - 16 * self.a

    @property
    def total(self) -> int:
        """The joint state in [-4096, 4095]; not negative: 1 is the more probable bin."""
        return 16 * self.a + self.c

    @property
    def state(self) -> tuple[int, int]:
        """Both estimators, for comparison with another implementation."""
        return self.a, self.c

    def range_lps(self, interval: int) -> int:
        """Width that the less probable bin gets of an interval of 256 to 511."""
        return RANGE_LPS[(interval >> 5) & 7][abs(self.total >> 7)]

    def update(self, bin_value: int) -> None:
        """Move both estimators towards the bin."""
        sign = 1 if bin_value else -1
        self.a += sign * (ADAPTATION[16 + ((sign * self.a) >> 3)] >> self.shift_a)
        self.c += sign * (ADAPTATION[16 + ((sign * self.c) >> 7)] >> self.shift_c)


@dataclass(frozen=True, slots=True)
class EncoderState:
    """Where an encoder stands: the exact lower end of its interval, its width, and the shifts so far."""

    low: int
    range: int
    n_shifts: int


class ArithmeticEncoder:
    """Writes one codeword. `low` is exact (a Python integer), so no carry needs any care."""

    def __init__(self) -> None:
        self.low = 0
        self.range = RANGE_START
        self.n_shifts = 0

    @property
    def state(self) -> EncoderState:
        """A copy of the state."""
        return EncoderState(self.low, self.range, self.n_shifts)

    def context_bin(self, context: Context, bin_value: int) -> None:
        """Code an adaptive bin and update its context."""
        range_lps = context.range_lps(self.range)
        if bin_value == (context.total >= 0):
            self.range -= range_lps
        else:
            self.low += self.range - range_lps
            self.range = range_lps
        while self.range < 256:
            self.range <<= 1
            self._shift()
        context.update(bin_value)

    def bypass_bin(self, bin_value: int) -> None:
        """Code a bin at one bit."""
        self._shift()
        self.low += bin_value * self.range

    def bypass_bins(self, value: int, n_bits: int) -> None:
        """Code an unsigned value in bypass bins, most significant first."""
        for place in reversed(range(n_bits)):
            self.bypass_bin((value >> place) & 1)

    def set_range(self, interval: int) -> None:
        """Shrink the interval, as at the start of a block row."""
        self.range = interval

    def finish(self) -> bytes:
        """The codeword: terminate bin 1, all bits that are not known to the decoder, stop bit, padding."""
        self.range -= 2
        self.low += self.range
        for _ in range(7):
            self._shift()
        n_bits = self.n_shifts + 9 - 8
        bits = ((self.low >> 8) & ((1 << n_bits) - 1)) << 1 | 1
        n_padding = -(n_bits + 1) % 8
        return (bits << n_padding).to_bytes((n_bits + 1 + n_padding) // 8, "big")

    def _shift(self) -> None:
        self.low <<= 1
        self.n_shifts += 1


@dataclass(frozen=True, slots=True)
class DecoderState:
    """Where a decoder stands. Its position in bits is the encoder's number of shifts at the same bin."""

    value: int
    range: int
    need: int
    n_consumed_bytes: int

    @property
    def position_bits(self) -> int:
        """Position as entry points count it."""
        return 8 * self.n_consumed_bytes - 8 + self.need


class ArithmeticDecoder:
    """Reads one codeword; never a byte past its end (BitstreamError)."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._consumed = 0
        self.range = RANGE_START
        self.need = -8
        self.value = self._next_byte() << 8
        self.value |= self._next_byte()

    @classmethod
    def at_entry_point(cls, data: bytes, position_bits: int, value: int) -> ArithmeticDecoder:
        """A decoder at the start of a block row.

        Args:
            data: The whole codeword.
            position_bits: Position of the entry from the start of the codeword.
            value: The 8-bit window of the entry point.
        """
        self = cls.__new__(cls)
        self._data = data
        self._consumed = (position_bits + 16) // 8
        if not 2 <= self._consumed <= len(data):
            raise BitstreamError(f"an entry point lies at bit {position_bits} of {8 * len(data)}")
        self.range = RANGE_BLOCK_ROW
        self.need = position_bits + 8 - 8 * self._consumed
        n_ahead = -1 - self.need
        ahead = data[self._consumed - 1] & ((1 << n_ahead) - 1)
        self.value = value << 7 | ahead << (7 - n_ahead)
        return self

    @property
    def state(self) -> DecoderState:
        """A copy of the state."""
        return DecoderState(self.value, self.range, self.need, self._consumed)

    def context_bin(self, context: Context) -> int:
        """The next adaptive bin; updates its context."""
        range_lps = context.range_lps(self.range)
        bin_value = int(context.total >= 0)
        self.range -= range_lps
        if self.value >> 7 >= self.range:
            self.value -= self.range << 7
            self.range = range_lps
            bin_value = 1 - bin_value
        while self.range < 256:
            self.range <<= 1
            self._shift()
        context.update(bin_value)
        return bin_value

    def bypass_bin(self) -> int:
        """The next bin of one bit."""
        self._shift()
        bin_value = int(self.value >= self.range << 7)
        self.value -= bin_value * (self.range << 7)
        return bin_value

    def bypass_bins(self, n_bits: int) -> int:
        """The next unsigned value in bypass bins, most significant first."""
        value = 0
        for _ in range(n_bits):
            value = value << 1 | self.bypass_bin()
        return value

    def set_range(self, interval: int) -> None:
        """Shrink the interval, as at the start of a block row; the value has to lie inside."""
        if self.value >> 7 >= interval:
            raise BitstreamError("the codeword lies outside the interval at a block row")
        self.range = interval

    def finish(self) -> None:
        """Check the end: terminate bin 1, stop bit and padding, and no byte behind.

        Raises:
            BitstreamError: If one of them is wrong.
        """
        self.range -= 2
        if self.value < self.range << 7:
            raise BitstreamError("the terminate bin of a codeword is 0")
        last = (self._data[self._consumed - 1] << (8 + self.need)) & 255
        if last != 0x80 or self._consumed != len(self._data):
            raise BitstreamError("a codeword does not end where its unit ends")

    def _shift(self) -> None:
        self.value <<= 1
        self.need += 1
        if self.need == 0:
            self.value += self._next_byte()
            self.need = -8

    def _next_byte(self) -> int:
        if self._consumed >= len(self._data):
            raise BitstreamError("a codeword ends too early", offset_bytes=len(self._data))
        self._consumed += 1
        return self._data[self._consumed - 1]
