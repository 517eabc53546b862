"""The decisions of all pictures of a sequence in one file: a head, the sizes, each picture's bytes, a checksum.

docs/decisions.md has the syntax.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from vvc_nnr.bitstream.bits import BitReader, BitWriter
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.filters.decisions.block_decisions import Decisions
from vvc_nnr.filters.decisions.coding import decode_decisions, encode_decisions
from vvc_nnr.sequences.frame import ChromaFormat, VideoFormat

VERSION = 2
_CHROMA_FORMATS = get_args(ChromaFormat)
_SIDE_BITS = 16
_COUNT_ORDER = 4
_SIZE_ORDER = 6
_CHECKSUM_BYTES = 4


def encode_sequence(pictures: Sequence[Decisions], format: VideoFormat) -> bytes:
    """The file of a sequence's decisions.

    Args:
        pictures: One after the other.
        format: Of the pictures; size and chroma format are written, so that a decoder notices others.

    Raises:
        InputError: If a side is above 65,536 samples.
    """
    payloads = [encode_decisions(picture) for picture in pictures]
    writer = BitWriter()
    writer.u(VERSION, 8, "version")
    writer.u(format.width - 1, _SIDE_BITS, "width")
    writer.u(format.height - 1, _SIDE_BITS, "height")
    writer.u(_CHROMA_FORMATS.index(format.chroma_format), 2, "chroma format")
    writer.ue(len(payloads), _COUNT_ORDER, "number of pictures")
    for payload in payloads:
        writer.ue(len(payload), _SIZE_ORDER, "size")
    writer.align()
    data = writer.getvalue() + b"".join(payloads)
    return data + zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "big")


@dataclass(frozen=True, slots=True)
class DecisionSequence:
    """A file of decisions, whole and checked, its pictures not decoded yet.

    Attributes:
        width: Luma samples per row of the pictures.
        height: Luma rows.
        chroma_format: Theirs.
        payloads: The bytes of each picture's decisions.
    """

    width: int
    height: int
    chroma_format: ChromaFormat
    payloads: tuple[bytes, ...]

    def picture(self, index: int, format: VideoFormat) -> Decisions:
        """The decisions of one picture, given its format.

        Raises:
            InputError: If the decisions are for other pictures.
            BitstreamError: If the picture's bytes are damaged.
        """
        if (format.width, format.height, format.chroma_format) != (self.width, self.height, self.chroma_format):
            raise InputError(
                f"decisions for pictures of {self.width}x{self.height}, {':'.join(self.chroma_format)}; "
                f"these are {format.width}x{format.height}, {':'.join(format.chroma_format)}"
            )
        return decode_decisions(self.payloads[index], format)


def parse_sequence(data: bytes) -> DecisionSequence:
    """The sequence of a file's bytes.

    Raises:
        UnsupportedError: If the file is of another version.
        BitstreamError: If it is damaged, cut or too long.
    """
    reader = BitReader(data)
    version = reader.u(8, "version")
    if version != VERSION:
        raise UnsupportedError(f"decisions of version {version}: this program reads version {VERSION}")
    if zlib.crc32(data[:-_CHECKSUM_BYTES]).to_bytes(_CHECKSUM_BYTES, "big") != data[-_CHECKSUM_BYTES:]:
        raise BitstreamError("the checksum of the decisions is wrong: the file is damaged, cut or too long")
    width, height = (reader.u(_SIDE_BITS, side) + 1 for side in ("width", "height"))
    chroma_format = _CHROMA_FORMATS[reader.u(2, "chroma format")]
    sizes = _sizes(reader)
    reader.align("sizes")
    body = bytes(reader.rest())[:-_CHECKSUM_BYTES]
    if sum(sizes) != len(body):
        raise BitstreamError(f"sizes of {sum(sizes)} bytes in all, and {len(body)} are there", field="sizes")
    ends = list(itertools.accumulate(sizes))
    payloads = tuple(body[end - size : end] for size, end in zip(sizes, ends, strict=True))
    return DecisionSequence(width, height, chroma_format, payloads)


def _sizes(reader: BitReader) -> list[int]:
    """The size of each picture's payload; a number of pictures that the data cannot hold ends with the data."""
    n_pictures = reader.ue(_COUNT_ORDER, "number of pictures")
    return [reader.ue(_SIZE_ORDER, "size") for _ in range(n_pictures)]
