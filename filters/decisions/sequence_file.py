"""The file of a sequence's decisions: a head, the pictures' bytes, a checksum. docs/decisions.md has the syntax.

```
 version 2, 3   each picture by itself: sizes, then the bytes of each; any one can be decoded alone
 version 4      pictures that are coded together, one arithmetic code for all; QPs that the network may be told
```
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
from vvc_nnr.filters.decisions.joint_coding import JointDecoder
from vvc_nnr.filters.inference.choice import Precision
from vvc_nnr.filters.networks.told_qp import QpAnchor, QpRule
from vvc_nnr.sequences.frame import ChromaFormat, VideoFormat

DECISIONS_VERSION, BOUND_VERSION, JOINT_VERSION = 2, 3, 4
"""The second says what the decisions were made with, which the first, of older files, does not; the third has pictures
that are coded together."""
MAX_CANDIDATES = 7
"""QPs that a network may be told beside that of its own rule."""
_ANCHORS: tuple[QpAnchor, ...] = ("slice", "first", "qp", "told")
_ANCHOR_BITS = 2
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
        _write_made_with(writer, made_with)
    _write_format(writer, format, len(payloads))
    for payload in payloads:
        writer.ue(len(payload), _SIZE_ORDER, "size")
    return _sealed(writer, b"".join(payloads))


def joint_sequence(
    data: bytes, n_pictures: int, format: VideoFormat, made_with: MadeWith, candidates: Sequence[QpRule] = ()
) -> bytes:
    """The file of a sequence whose pictures are coded together.

    Args:
        data: What a `JointEncoder` wrote.
        n_pictures: Of how many pictures.
        format: Of the pictures.
        made_with: Network, QP and precision.
        candidates: The QPs that the network may be told beside its own, as rules that a decoder can follow.

    Raises:
        InputError: If a side is above 65,536 samples, there are too many candidates, or one is by a QP that a decoder
            does not know.
    """
    check_candidates(candidates)
    if unknown := [each.text for each in candidates if each.anchor not in _ANCHORS]:
        raise InputError(f"QP candidate {unknown[0]}: no decoder knows that QP; must be slice, first, +5, or a QP")
    writer = BitWriter()
    writer.u(JOINT_VERSION, 8, "version")
    _write_made_with(writer, made_with)
    writer.ue(len(candidates), 0, "number of candidates")
    for each in candidates:
        writer.u(_ANCHORS.index(each.anchor), _ANCHOR_BITS, "anchor")
        writer.ie(each.offset, 2, "offset")
    _write_format(writer, format, n_pictures)
    return _sealed(writer, data)


def check_candidates(candidates: Sequence[QpRule]) -> None:
    """Raises InputError for too many candidates, or one that is there twice."""
    if len(candidates) > MAX_CANDIDATES or len(set(candidates)) < len(candidates):
        texts = ", ".join(each.text for each in candidates)
        raise InputError(f"QP candidates {texts}: must be at most {MAX_CANDIDATES}, each once")


def _write_made_with(writer: BitWriter, made_with: MadeWith) -> None:
    network = made_with.network_sha256[:_NETWORK_BYTES]
    writer.u(int.from_bytes(network, "big"), 8 * _NETWORK_BYTES, "network")
    writer.flag(made_with.qp is not None, "has QP")
    writer.u(made_with.qp or 0, _QP_BITS, "QP")
    writer.u(get_args(Precision).index(made_with.precision), _PRECISION_BITS, "precision")


def _write_format(writer: BitWriter, format: VideoFormat, n_pictures: int) -> None:
    writer.u(format.width - 1, _SIDE_BITS, "width")
    writer.u(format.height - 1, _SIDE_BITS, "height")
    writer.u(_CHROMA_FORMATS.index(format.chroma_format), 2, "chroma format")
    writer.ue(n_pictures, _COUNT_ORDER, "number of pictures")


def _sealed(writer: BitWriter, body: bytes) -> bytes:
    """Head and body with a checksum."""
    writer.align()
    data = writer.getvalue() + body
    return data + zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "big")


@dataclass(frozen=True, slots=True)
class DecisionSequence:
    """A file of decisions, whole and checked, its pictures not decoded yet.

    Attributes:
        width: Luma samples per row of the pictures.
        height: Luma rows.
        chroma_format: Theirs.
        payloads: The bytes of each picture's decisions; of pictures that are coded together those of all, in one.
        made_with: Network, QP and precision, of the network's hash the beginning; None of older files.
        n_joint: How many pictures are coded together; None: each is coded by itself.
        candidates: The QPs that the network may be told beside its own.
    """

    width: int
    height: int
    chroma_format: ChromaFormat
    payloads: tuple[bytes, ...]
    made_with: MadeWith | None = None
    n_joint: int | None = None
    candidates: tuple[QpRule, ...] = ()

    @property
    def n_pictures(self) -> int:
        """How many pictures they are for."""
        return len(self.payloads) if self.n_joint is None else self.n_joint

    def check_made_with(self, other: MadeWith) -> None:
        """Checks that a decoder has what the decisions were made with, as far as the file says it.

        Raises:
            InputError: If it has another network, QP or precision.
        """
        difference = self.made_with.difference(other) if self.made_with is not None else None
        if difference is not None:
            raise InputError(f"decisions made with {difference}: filter with what they were made with")


class DecisionReader:
    """Decodes the pictures of a file of decisions one after the other.

    Args:
        sequence: The file.
    """

    def __init__(self, sequence: DecisionSequence) -> None:
        self._sequence = sequence
        self._n_read = 0
        self._joint: JointDecoder | None = None

    def picture(self, format: VideoFormat) -> Decisions:
        """The decisions of the next picture, given its format.

        Raises:
            InputError: If the decisions are for other pictures.
            BitstreamError: If their bytes are damaged; of pictures that are coded together that is known at the last.
        """
        known, index = self._sequence, self._n_read
        if (format.width, format.height, format.chroma_format) != (known.width, known.height, known.chroma_format):
            raise InputError(
                f"decisions for pictures of {known.width}x{known.height}, {':'.join(known.chroma_format)}; "
                f"these are {format.width}x{format.height}, {':'.join(format.chroma_format)}"
            )
        self._n_read += 1
        if known.n_joint is None:
            return decode_decisions(known.payloads[index], format)
        if self._joint is None:
            self._joint = JointDecoder(known.payloads[0], format, 1 + len(known.candidates))
        found = self._joint.picture()
        if self._n_read == known.n_joint:
            self._joint.check_end()
        return found


def parse_sequence(data: bytes) -> DecisionSequence:
    """The sequence of a file's bytes.

    Raises:
        UnsupportedError: If the file is of another version.
        BitstreamError: If it is damaged, cut or too long.
    """
    reader = BitReader(data)
    version = reader.u(8, "version")
    if version not in (DECISIONS_VERSION, BOUND_VERSION, JOINT_VERSION):
        raise UnsupportedError(
            f"decisions of version {version}: this program reads versions {DECISIONS_VERSION} to {JOINT_VERSION}"
        )
    if zlib.crc32(data[:-_CHECKSUM_BYTES]).to_bytes(_CHECKSUM_BYTES, "big") != data[-_CHECKSUM_BYTES:]:
        raise BitstreamError("the checksum of the decisions is wrong: the file is damaged, cut or too long")
    made_with = _read_made_with(reader) if version != DECISIONS_VERSION else None
    candidates = _read_candidates(reader) if version == JOINT_VERSION else ()
    width, height = (reader.u(_SIDE_BITS, side) + 1 for side in ("width", "height"))
    chroma_format = _CHROMA_FORMATS[reader.u(2, "chroma format")]
    if version == JOINT_VERSION:
        n_pictures = reader.ue(_COUNT_ORDER, "number of pictures")
        reader.align("head")
        body = bytes(reader.rest())[:-_CHECKSUM_BYTES]
        if body and not n_pictures:
            raise BitstreamError(f"decisions for no picture, and {len(body)} bytes of them", field="number of pictures")
        return DecisionSequence(width, height, chroma_format, (body,), made_with, n_pictures, candidates)
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


def _read_candidates(reader: BitReader) -> tuple[QpRule, ...]:
    n_candidates = reader.ue(0, "number of candidates")
    if n_candidates > MAX_CANDIDATES:
        raise reader.error(f"{n_candidates} candidates, at most {MAX_CANDIDATES}", "number of candidates")
    found = []
    for _ in range(n_candidates):
        anchor, offset = reader.u(_ANCHOR_BITS, "anchor"), reader.ie(2, "offset")
        try:
            found.append(QpRule(_ANCHORS[anchor], offset))
        except (IndexError, InputError) as error:
            raise reader.error(f"anchor {anchor} and offset {offset} are none that is written", "offset") from error
    return tuple(found)


def _sizes(reader: BitReader) -> list[int]:
    """The size of each picture's payload; a number of pictures that the data cannot hold ends with the data."""
    n_pictures = reader.ue(_COUNT_ORDER, "number of pictures")
    return [reader.ue(_SIZE_ORDER, "size") for _ in range(n_pictures)]
