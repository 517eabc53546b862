"""Decisions as bytes: of one picture, and of a sequence in one file (a head, the sizes, each picture, a checksum).

A picture's are binary arithmetic coding, with contexts from the blocks to the left and above.

docs/decisions.md has the syntax. Encoder and decoder walk through it together: a `BinCoder` is either of them.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, get_args

import numpy as np

from vvc_nnr.bitstream.bits import BitReader, BitWriter
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.filters.decisions.adaptive_bins import BinCoder, BinDecoder, BinEncoder, Context, code_number, expecting
from vvc_nnr.filters.decisions.block_decisions import (
    BLOCK_SIZES,
    MAX_STRENGTH,
    SCALES,
    UNIT_CHOICE,
    Decisions,
    block_grid,
)
from vvc_nnr.filters.decisions.wiener import MOST_BINS, WienerFilter, code_filters
from vvc_nnr.filters.inference.choice import Precision
from vvc_nnr.sequences.frame import ChromaFormat, VideoFormat

STRENGTH_BITS = (MAX_STRENGTH - 1).bit_length()
_N_BELOW = UNIT_CHOICE
_N_ABOVE = len(SCALES) - 1 - UNIT_CHOICE
_MOST_BINS_PER_BLOCK = 1 + max(_N_BELOW, _N_ABOVE)
_MOST_BITS_PER_BIN = 10
"""No context gives a bin less than about 2**-9."""
LUMA_DIFFERS_64THS = (13, 26, 39)
CHROMA_DIFFERS_64THS = (6, 17, 37)
_IS_ABOVE_64THS = (2, 8, 30, 55, 62)
"""What contexts expect at first, measured on photographs."""
Rows: TypeAlias = list[list[int]]


class MapContexts:
    """The contexts of the maps of luma, or of both chroma components.

    Attributes:
        differs: Whether a block has another scale than 1, by how many of its two neighbours have.
        is_above: Whether that scale is above 1, by the sum of the neighbours' sides, -2 to 2.
        is_farther: Whether it is farther from 1 than the nearest such scale, the second, ..., below 1 and above 1.
    """

    def __init__(self, differs_64ths: Sequence[int]) -> None:
        self.differs = [expecting(p) for p in differs_64ths]
        self.is_above = [expecting(p) for p in _IS_ABOVE_64THS]
        self.is_farther = [[Context() for _ in range(n - 1)] for n in (_N_BELOW, _N_ABOVE)]


def encode_decisions(decisions: Decisions) -> bytes:
    """The bytes of a picture's decisions; none at all for those that `switched_off` gives.

    The map of a component that is off is not coded; the decoder gives it the scale 1 throughout.
    """
    coder = BinEncoder()
    _code_block_size(coder, BLOCK_SIZES.index(decisions.block_size))
    _code_components(coder, list(decisions.strengths), [choices.tolist() for choices in decisions.choices])
    code_filters(coder, list(decisions.wieners))
    return coder.finish()


def decode_decisions(data: bytes, format: VideoFormat) -> Decisions:
    """A picture's decisions of its bytes.

    Args:
        data: What `encode_decisions` gave.
        format: The picture's; its size and chroma format count.

    Raises:
        BitstreamError: If the bytes are not those that `encode_decisions` gives for any decisions of such a picture.
    """
    n_maps = len(format.plane_shapes)
    coder = BinDecoder(data[: _most_bytes(format) + 1])
    block_size = BLOCK_SIZES[_code_block_size(coder, 0)]
    n_rows, n_columns = block_grid(format.width, format.height, block_size)
    strengths = [0] * n_maps
    maps = [[[UNIT_CHOICE] * n_columns for _ in range(n_rows)] for _ in range(n_maps)]
    _code_components(coder, strengths, maps)
    wieners: list[WienerFilter | None] = [None] * n_maps
    code_filters(coder, wieners)
    choices = tuple(np.array(rows, np.uint8) for rows in maps)
    decisions = Decisions(block_size, tuple(strengths), choices, tuple(wieners))
    if encode_decisions(decisions) != data:
        raise BitstreamError(
            f"the {len(data)} bytes are not those of any decisions for {format.width}x{format.height}: damaged or cut"
        )
    return decisions


def _most_bytes(format: VideoFormat) -> int:
    """More than the decisions of any picture of this size take."""
    n_rows, n_columns = block_grid(format.width, format.height, min(BLOCK_SIZES))
    n_blocks = n_rows * n_columns * len(format.plane_shapes)
    return 16 + (n_blocks * _MOST_BINS_PER_BLOCK + MOST_BINS) * _MOST_BITS_PER_BIN // 8


def _code_block_size(coder: BinCoder, index: int) -> int:
    """Codes which of the two block sizes the picture has."""
    return coder.code(Context(), 1 - index) ^ 1


def _code_components(coder: BinCoder, strengths: list[int], maps: list[Rows]) -> None:
    """Codes strengths and maps, which a decoder overwrites in place."""
    off, plain = Context(), Context()
    luma, chroma = MapContexts(LUMA_DIFFERS_64THS), MapContexts(CHROMA_DIFFERS_64THS)
    for c, rows in enumerate(maps):
        if coder.code(off, int(strengths[c] == 0)):
            strengths[c] = 0
            continue
        strengths[c] = 1 + code_number(coder, strengths[c] - 1, STRENGTH_BITS)
        is_plain = all(choice == UNIT_CHOICE for row in rows for choice in row)
        if not coder.code(plain, int(is_plain)):
            code_map(coder, luma if c == 0 else chroma, rows)


def code_map(coder: BinCoder, contexts: MapContexts, rows: Rows) -> None:
    """Codes a map row by row; blocks outside the picture count as blocks of scale 1."""
    above = [UNIT_CHOICE] * len(rows[0])
    for row in rows:
        left = UNIT_CHOICE
        for x, choice in enumerate(row):
            left = row[x] = _code_choice(coder, contexts, left, above[x], choice)
        above = row


def _code_choice(coder: BinCoder, contexts: MapContexts, left: int, above: int, choice: int) -> int:
    """Codes one block's choice: whether it is that of scale 1, on which side of it, and how far."""
    sides = _side(left), _side(above)
    if not coder.code(contexts.differs[abs(sides[0]) + abs(sides[1])], int(choice != UNIT_CHOICE)):
        return UNIT_CHOICE
    is_above = coder.code(contexts.is_above[2 + sum(sides)], int(choice > UNIT_CHOICE))
    distance = 1
    for context in contexts.is_farther[is_above]:
        if not coder.code(context, int(abs(choice - UNIT_CHOICE) > distance)):
            break
        distance += 1
    return UNIT_CHOICE + distance if is_above else UNIT_CHOICE - distance


def _side(choice: int) -> int:
    return (choice > UNIT_CHOICE) - (choice < UNIT_CHOICE)


DECISIONS_VERSION, BOUND_VERSION = 2, 3
"""The second says what the decisions were made with, which the first, of older files, does not."""
_NETWORK_BYTES = 8
_QP_BITS, _PRECISION_BITS = 6, 2
_CHROMA_FORMATS = get_args(ChromaFormat)
_SIDE_BITS = 16
_COUNT_ORDER = 4
_SIZE_ORDER = 6
_CHECKSUM_BYTES = 4


@dataclass(frozen=True, slots=True)
class MadeWith:
    """What decisions were made with: with anything else they are another's, and do harm.

    Attributes:
        network_sha256: SHA-256 of the network's file.
        qp: The QP that the network was told for all pictures; None: they differ, by the headers of a stream.
        precision: What the network was computed in.
    """

    network_sha256: bytes
    qp: int | None
    precision: Precision

    def difference(self, other: MadeWith) -> str | None:
        """What differs from what a decoder has, as text; None if nothing does."""
        found = []
        ours, theirs = (each.network_sha256[:_NETWORK_BYTES].hex() for each in (self, other))
        if ours != theirs:
            found.append(f"a network of SHA-256 {ours}..., got {theirs}...")
        if self.qp != other.qp:
            words = ["the QPs of the slices" if each.qp is None else f"QP {each.qp}" for each in (self, other)]
            found.append(f"{words[0]}, got {words[1]}")
        if self.precision != other.precision:
            found.append(f"precision {self.precision}, got {other.precision}")
        return "; ".join(found) or None


def encode_sequence(pictures: Sequence[Decisions], format: VideoFormat, made_with: MadeWith | None = None) -> bytes:
    """The file of a sequence's decisions.

    Args:
        pictures: One after the other.
        format: Of the pictures; size and chroma format are written, so that a decoder notices others.
        made_with: Network, QP and precision; written, so that a decoder notices others. None: not known.

    Raises:
        InputError: If a side is above 65,536 samples.
    """
    payloads = [encode_decisions(picture) for picture in pictures]
    writer = BitWriter()
    writer.u(DECISIONS_VERSION if made_with is None else BOUND_VERSION, 8, "version")
    if made_with is not None:
        network = made_with.network_sha256[:_NETWORK_BYTES]
        writer.u(int.from_bytes(network, "big"), 8 * _NETWORK_BYTES, "network")
        writer.flag(made_with.qp is not None, "has QP")
        writer.u(made_with.qp or 0, _QP_BITS, "QP")
        writer.u(get_args(Precision).index(made_with.precision), _PRECISION_BITS, "precision")
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
        made_with: Network, QP and precision, of the network's hash the beginning; None of older files.
    """

    width: int
    height: int
    chroma_format: ChromaFormat
    payloads: tuple[bytes, ...]
    made_with: MadeWith | None = None

    def check_made_with(self, other: MadeWith) -> None:
        """Checks that a decoder has what the decisions were made with, as far as the file says it.

        Raises:
            InputError: If it has another network, QP or precision.
        """
        difference = self.made_with.difference(other) if self.made_with is not None else None
        if difference is not None:
            raise InputError(f"decisions made with {difference}: filter with what they were made with")

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
    if version not in (DECISIONS_VERSION, BOUND_VERSION):
        raise UnsupportedError(
            f"decisions of version {version}: this program reads version {DECISIONS_VERSION} and {BOUND_VERSION}"
        )
    if zlib.crc32(data[:-_CHECKSUM_BYTES]).to_bytes(_CHECKSUM_BYTES, "big") != data[-_CHECKSUM_BYTES:]:
        raise BitstreamError("the checksum of the decisions is wrong: the file is damaged, cut or too long")
    made_with = _read_made_with(reader) if version == BOUND_VERSION else None
    width, height = (reader.u(_SIDE_BITS, side) + 1 for side in ("width", "height"))
    chroma_format = _CHROMA_FORMATS[reader.u(2, "chroma format")]
    sizes = _sizes(reader)
    reader.align("sizes")
    body = bytes(reader.rest())[:-_CHECKSUM_BYTES]
    if sum(sizes) != len(body):
        raise BitstreamError(f"sizes of {sum(sizes)} bytes in all, and {len(body)} are there", field="sizes")
    ends = list(itertools.accumulate(sizes))
    payloads = tuple(body[end - size : end] for size, end in zip(sizes, ends, strict=True))
    return DecisionSequence(width, height, chroma_format, payloads, made_with)


def _read_made_with(reader: BitReader) -> MadeWith:
    network = reader.u(8 * _NETWORK_BYTES, "network").to_bytes(_NETWORK_BYTES, "big")
    has_qp, qp, precision = reader.flag("has QP"), reader.u(_QP_BITS, "QP"), reader.u(_PRECISION_BITS, "precision")
    if precision >= len(get_args(Precision)) or (qp and not has_qp):
        raise reader.error(f"precision {precision} and QP {qp} are none that is written", "precision")
    return MadeWith(network, qp if has_qp else None, get_args(Precision)[precision])


def _sizes(reader: BitReader) -> list[int]:
    """The size of each picture's payload; a number of pictures that the data cannot hold ends with the data."""
    n_pictures = reader.ue(_COUNT_ORDER, "number of pictures")
    return [reader.ue(_SIZE_ORDER, "size") for _ in range(n_pictures)]
