"""The structure of a JPEG file: its segments and scans, and whether its scans hold all samples that it states.

libjpeg fills what a scan lacks and goes on, and Pillow does not tell. Here a file is decoded once more with bytes put
in behind each stretch of entropy-coded data: a decoder that had all it needs passes over them, one that ran out of
data makes other samples of them.

Source: ITU-T T.81, annexes B (segments) and G (progressive scans).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from vvc_nnr.errors import BitstreamError

_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN = 0xD8, 0xD9, 0xDA
_RESTARTS = range(0xD0, 0xD8)
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD9))
_JPEG_LS = 0xF7
_FRAMES = (*(0xC0 + i for i in range(16) if i not in (4, 8, 12)), _JPEG_LS)
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)
_ARITHMETIC = (0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_HIERARCHICAL = (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF)
_RESTART_MARKER = re.compile(rb"(?=\xff[\xd0-\xd7])")
_OTHER_DATA = bytes.fromhex("5ac3197e2b64d18f") * 8


@dataclass(frozen=True, slots=True)
class Segment:
    """A marker with what belongs to it.

    Attributes:
        marker: Its second byte.
        content: What follows the length; empty for markers without one.
        data_start: Where a scan's entropy-coded data begin in the file, in bytes; for others where the segment ends.
        data_end: Where they end.
    """

    marker: int
    content: bytes
    data_start: int
    data_end: int


def segments(data: bytes) -> Iterator[Segment]:
    """Yields the segments of a JPEG file up to EOI, without it; what follows EOI is not looked at.

    Raises:
        BitstreamError: If they do not lead from SOI to EOI.
    """
    if data[:2] != bytes((0xFF, _START_OF_IMAGE)):
        raise BitstreamError("not a JPEG: no SOI marker", offset_bytes=0)
    position = 2
    while True:
        position = _past_fill_bytes(data, position)
        marker = _marker(data, position)
        if marker == _END_OF_IMAGE:
            return
        position += 2
        if marker in _WITHOUT_LENGTH:
            yield Segment(marker, b"", position, position)
            continue
        length_bytes = int.from_bytes(data[position : position + 2], "big")
        start, end = position + 2, position + length_bytes
        if length_bytes < 2 or end > len(data):
            raise BitstreamError(f"segment of {length_bytes} bytes", field="JPEG", offset_bytes=position)
        position = _end_of_scan(data, end) if marker == _START_OF_SCAN else end
        yield Segment(marker, data[start:end], end, position)


def payload_bytes(data: bytes) -> int:
    """How many bytes of a JPEG file are entropy-coded data: its scans with stuffing, without any header.

    Raises:
        BitstreamError: If the file's segments do not lead from SOI to EOI.
    """
    return sum(each.data_end - each.data_start for each in segments(data))


def check_scans(data: bytes) -> None:
    """Checks that the scans hold all samples. With arithmetic coding only that there is a scan for each.

    Args:
        data: A JPEG file that Pillow decodes.

    Raises:
        BitstreamError: If they do not, or the file is damaged.
    """
    found = list(segments(data))
    frame = _frame(found)
    _check_coefficients(frame, [each.content for each in found if each.marker == _START_OF_SCAN])
    if frame.marker not in _ARITHMETIC and _samples(data) != _samples(_with_other_data(data, found)):
        raise BitstreamError("its scans hold fewer samples than its header states: it is cut short or damaged")


def unusual_kind(data: bytes) -> str | None:
    """What a JPEG file is that few decoders take, such as `12 bits per sample`; None if that is not the reason.

    Args:
        data: The file, or its beginning.
    """
    try:
        frame = next((each for each in segments(data) if each.marker in _FRAMES), None)
    except BitstreamError:
        return None
    if frame is None or len(frame.content) < 6:
        return None
    precision_bits, n_components = frame.content[0], frame.content[5]
    if frame.marker == _JPEG_LS:
        return "JPEG-LS coding"
    if precision_bits != 8:
        return f"{precision_bits} bits per sample"
    if frame.marker in _HIERARCHICAL:
        return "hierarchical coding"
    if frame.content[1:3] == b"\0\0":
        return "a height that only its end states (DNL)"
    return f"{n_components} samples per pixel" if n_components not in (1, 3) else None


def stated_height(data: bytes) -> int:
    """Rows of the picture by the header of its frame.

    Raises:
        BitstreamError: If it has none.
    """
    return int.from_bytes(_frame(list(segments(data))).content[1:3], "big")


def _frame(found: list[Segment]) -> Segment:
    frame = next((each for each in found if each.marker in _FRAMES), None)
    if frame is None or len(frame.content) < 6 + 3 * frame.content[5]:
        raise BitstreamError("it has no header of a frame", field="JPEG")
    return frame


def _check_coefficients(frame: Segment, scans: list[bytes]) -> None:
    """Refuses a picture of which a component, or in a progressive one a coefficient or its last bit, is in no scan."""
    precise: dict[int, set[int]] = {identifier: set() for identifier in frame.content[6 : 6 + 3 * frame.content[5] : 3]}
    for scan in scans:
        n_components = scan[0] if scan else 0
        first, last, bits = scan[1 + 2 * n_components : 4 + 2 * n_components]
        is_whole = frame.marker not in _PROGRESSIVE
        for identifier in scan[1 : 1 + 2 * n_components : 2]:
            if is_whole or bits & 15 == 0:
                precise.setdefault(identifier, set()).update(range(64) if is_whole else range(first, last + 1))
    lacking = [identifier for identifier, there in precise.items() if len(there) < 64]
    if lacking:
        raise BitstreamError(
            f"component {lacking[0]} is not whole in its {len(scans)} scans: it is cut short or damaged"
        )


def _with_other_data(data: bytes, found: list[Segment]) -> bytes:
    """The file with bytes put in behind each stretch of entropy-coded data."""
    pieces, done = [], 0
    for each in found:
        if each.data_end > each.data_start:
            stretches = _RESTART_MARKER.split(data[each.data_start : each.data_end])
            pieces += [data[done : each.data_start], *(stretch + _OTHER_DATA for stretch in stretches)]
            done = each.data_end
    return b"".join((*pieces, data[done:]))


def _samples(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        return image.tobytes()


def _past_fill_bytes(data: bytes, position: int) -> int:
    while data[position : position + 2] == b"\xff\xff":
        position += 1
    return position


def _marker(data: bytes, position: int) -> int:
    if position + 2 > len(data) or data[position] != 0xFF:
        raise BitstreamError("no JPEG marker", field="JPEG", offset_bytes=position)
    return data[position + 1]


def _end_of_scan(data: bytes, position: int) -> int:
    """Where the next marker is that is neither byte stuffing nor a restart."""
    while (position := data.find(0xFF, position)) >= 0 and position + 1 < len(data):
        if data[position + 1] != 0 and data[position + 1] not in _RESTARTS:
            return position
        position += 2
    raise BitstreamError("the scan has no end: the file is cut short", field="JPEG", offset_bytes=len(data))
