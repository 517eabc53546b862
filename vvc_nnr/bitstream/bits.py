"""Reading and writing the descriptors that unit headers are made of; knows bits, and no syntax."""

from __future__ import annotations

import struct

from vvc_nnr.errors import BitstreamError, InputError

# Exp-Golomb codes may grow by this many zero bits before they are taken for damage.
MAX_PREFIX_BITS = 40
_STEP_BYTES = 256


class BitReader:
    """A cursor over part of a buffer, most significant bit first.

    Every method names the field that it reads, for the error. None reads past `end_bytes`.

    Args:
        data: The whole buffer; errors give offsets in it.
        start_bytes: Where to start.
        end_bytes: Where to stop, the end of the buffer by default.
    """

    __slots__ = ("_data", "_end_bits", "position_bits")

    def __init__(
        self, data: bytes | bytearray | memoryview, start_bytes: int = 0, end_bytes: int | None = None
    ) -> None:
        self._data = memoryview(data)
        end = len(self._data) if end_bytes is None else end_bytes
        if not 0 <= start_bytes <= end <= len(self._data):
            raise ValueError(f"bytes {start_bytes} to {end} of a buffer of {len(self._data)}")
        self.position_bits = 8 * start_bytes
        self._end_bits = 8 * end

    @property
    def remaining_bits(self) -> int:
        """Bits that are left."""
        return self._end_bits - self.position_bits

    @property
    def is_aligned(self) -> bool:
        """Whether the next bit begins a byte."""
        return self.position_bits % 8 == 0

    def error(self, message: str, field: str) -> BitstreamError:
        """A BitstreamError at the byte that is read next."""
        return BitstreamError(message, field=field, offset_bytes=self.position_bits >> 3)

    def u(self, n_bits: int, field: str) -> int:
        """Unsigned integer of `n_bits` bits.

        Raises:
            BitstreamError: If fewer bits are left.
        """
        start, end = self.position_bits, self.position_bits + n_bits
        if end > self._end_bits:
            raise self.error(f"{n_bits} bits must follow and {self.remaining_bits} are left", field)
        self.position_bits = end
        window = int.from_bytes(self._data[start >> 3 : (end + 7) >> 3], "big")
        return (window >> (-end & 7)) & ((1 << n_bits) - 1)

    def flag(self, field: str) -> bool:
        """One bit.

        Raises:
            BitstreamError: If none is left.
        """
        at = self.position_bits
        if at >= self._end_bits:
            raise self.error("1 bit must follow and none is left", field)
        self.position_bits = at + 1
        return self._data[at >> 3] << (at & 7) & 0x80 != 0

    def i(self, n_bits: int, field: str) -> int:
        """Two's complement integer of `n_bits` bits."""
        value = self.u(n_bits, field)
        return value - (1 << n_bits) if value >> (n_bits - 1) else value

    def ue(self, order: int, field: str, max_prefix_bits: int = MAX_PREFIX_BITS) -> int:
        """Exp-Golomb code of an order, below 2 ** (order + max_prefix_bits + 1).

        Raises:
            BitstreamError: If the data ends, or the prefix is longer than `max_prefix_bits` zeros.
        """
        start = self.position_bits
        if start < self._end_bits and self._data[start >> 3] << (start & 7) & 0x80:
            return self.u(1 + order, field) - (1 << order)
        n_zeros = self._count_zeros(max_prefix_bits + 1)
        if n_zeros > max_prefix_bits:
            self.position_bits += n_zeros
            raise self.error(f"a number has a prefix of more than {max_prefix_bits} zero bits", field)
        code = self.u(2 * n_zeros + 1 + order, field)  # the one before the number counts 2 ** (order + n_zeros)
        return code - (1 << order)

    def ie(self, order: int, field: str) -> int:
        """Signed Exp-Golomb code: 1, -1, 2, -2, ... are the codes 1, 2, 3, 4, ..."""
        code = self.ue(order, field)
        return (code + 1) >> 1 if code & 1 else -(code >> 1)

    def st(self, field: str) -> str:
        """UTF-8 text that ends with a zero byte.

        Raises:
            BitstreamError: If it does not start at a byte, has no end, or is no UTF-8.
        """
        if not self.is_aligned:
            raise self.error("text does not start at a byte", field)
        start = self.position_bits >> 3
        end = self._find_zero(start)
        if end < 0:
            raise self.error("text has no terminating zero byte", field)
        try:
            text = str(self._data[start:end], "utf-8")
        except UnicodeDecodeError as error:
            raise self.error(f"text is no UTF-8 ({error.reason})", field) from None
        self.position_bits = 8 * (end + 1)
        return text

    def flt(self, field: str) -> float:
        """IEEE float32, four bytes from the least significant; may start at any bit."""
        return float(struct.unpack("<f", self.u(32, field).to_bytes(4, "big"))[0])

    def align(self, field: str) -> None:
        """Skip the padding to the next byte, at least one bit and at most eight, whatever its value."""
        self.u(8 - self.position_bits % 8, field)

    def rest(self) -> memoryview:
        """All bytes that are left, not copied; the cursor has to be at a byte."""
        if not self.is_aligned:
            raise ValueError(f"the rest of the data starts at bit {self.position_bits}, which begins no byte")
        start, self.position_bits = self.position_bits, self._end_bits
        return self._data[start >> 3 : self._end_bits >> 3]

    def _count_zeros(self, n_most: int) -> int:
        """Zero bits that come next, up to `n_most` or the end of the data; the cursor stays."""
        start = self.position_bits
        end = min(start + n_most, self._end_bits)
        window = int.from_bytes(self._data[start >> 3 : (end + 7) >> 3], "big") >> (-end & 7)
        n_bits = end - start
        return n_bits - (window & ((1 << n_bits) - 1)).bit_length()

    def _find_zero(self, start_bytes: int) -> int:
        """Place of the next zero byte, -1 if there is none; looks at a few bytes at a time, since texts are short."""
        end = self._end_bits >> 3
        for begin in range(start_bytes, end, _STEP_BYTES):
            found = bytes(self._data[begin : min(begin + _STEP_BYTES, end)]).find(0)
            if found >= 0:
                return begin + found
        return -1


# Bits that a writer holds back, so that short fields do not become bytes one by one.
_MANY_PENDING_BITS = 256


class BitWriter:
    """Collects bits, most significant first. Values that a field cannot hold raise InputError."""

    __slots__ = ("_bytes", "_n_pending", "_pending")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._pending = 0
        self._n_pending = 0

    @property
    def position_bits(self) -> int:
        """Bits so far."""
        return 8 * len(self._bytes) + self._n_pending

    def u(self, value: int, n_bits: int, field: str) -> None:
        """Unsigned integer of `n_bits` bits.

        Raises:
            InputError: If the value is negative or too large.
        """
        if not 0 <= value < 1 << n_bits:
            raise InputError(f"{field}: {value} does not fit in {n_bits} bits, 0 to {(1 << n_bits) - 1} do")
        self._pending = self._pending << n_bits | value
        self._n_pending += n_bits
        if self._n_pending >= _MANY_PENDING_BITS:
            self._write_pending()

    def flag(self, value: bool, field: str) -> None:
        """One bit."""
        self._pending = self._pending << 1 | bool(value)
        self._n_pending += 1

    def _write_pending(self) -> None:
        """Move whole bytes out of what is pending."""
        n_left = self._n_pending % 8
        self._bytes += (self._pending >> n_left).to_bytes(self._n_pending // 8, "big")
        self._pending &= (1 << n_left) - 1
        self._n_pending = n_left

    def i(self, value: int, n_bits: int, field: str) -> None:
        """Two's complement integer of `n_bits` bits."""
        half = 1 << (n_bits - 1)
        if not -half <= value < half:
            raise InputError(f"{field}: {value} does not fit in {n_bits} bits, {-half} to {half - 1} do")
        self.u(value & (2 * half - 1), n_bits, field)

    def ue(self, value: int, order: int, field: str, max_prefix_bits: int = MAX_PREFIX_BITS) -> None:
        """Exp-Golomb code of an order.

        Raises:
            InputError: If the value is negative, or so large that a reader would take it for damage.
        """
        n_zeros = ((value >> order) + 1).bit_length() - 1
        if value < 0 or n_zeros > max_prefix_bits:
            limit = (1 << (order + max_prefix_bits + 1)) - (1 << order) - 1
            raise InputError(f"{field}: {value} cannot be coded, 0 to {limit} can")
        self.u(value + (1 << order), 2 * n_zeros + 1 + order, field)

    def ie(self, value: int, order: int, field: str) -> None:
        """Signed Exp-Golomb code."""
        self.ue(2 * value - 1 if value > 0 else -2 * value, order, field)

    def st(self, text: str, field: str) -> None:
        """UTF-8 text and a zero byte, at a byte.

        Raises:
            InputError: If the text holds a zero character or a lone surrogate.
        """
        try:
            encoded = text.encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(f"{field}: {text!r} cannot be written as UTF-8") from None
        if 0 in encoded:
            raise InputError(f"{field}: {text!r} holds a zero character, which would end it")
        self.raw(encoded + b"\0")

    def flt(self, value: float, field: str) -> None:
        """IEEE float32, four bytes from the least significant."""
        try:
            packed = struct.pack("<f", value)
        except OverflowError:
            raise InputError(f"{field}: {value} is too large for a float32") from None
        self.u(int.from_bytes(packed, "big"), 32, field)

    def align(self) -> None:
        """A one and zeros to the next byte; a whole byte if the position is at one already."""
        n_bits = 8 - self._n_pending % 8
        self.u(1 << (n_bits - 1), n_bits, "align")

    def raw(self, data: bytes) -> None:
        """Whole bytes, at a byte."""
        self._write_pending()
        if self._n_pending:
            raise ValueError(f"bytes are to be written at bit {self.position_bits}, which begins no byte")
        self._bytes += data

    def getvalue(self) -> bytes:
        """All bytes; the position has to be at a byte."""
        self._write_pending()
        if self._n_pending:
            raise ValueError(f"the data ends at bit {self.position_bits}, which begins no byte")
        return bytes(self._bytes)
