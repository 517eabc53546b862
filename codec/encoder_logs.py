"""What the log of an encoder says of the bits of its pictures: VTM, HM, vvenc (vvencapp, libvvenc) and x265.

Read are, the first that a log has:

    POC    0 LId:  0 TId: 0 ( IDR_N_LP, I-SLICE, QP 37 )     398392 bits [Y 36.6308 dB ...     (VTM, HM, vvencapp)
    Layer , Encode Order, Type, POC, QP, Bits, ...                                             (x265 --csv, level 1 up)
    Total Frames |   Bitrate     Y-PSNR ...                                                    (VTM, HM, vvencapp)
    encoded 3 frames in 0.04s (81.63 fps), 117.67 kb/s, Avg QP:29.00                           (x265)

The last two have a rate alone, rounded by the encoder, from which bits follow by the number of pictures per second.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vvc_nnr.codec.programs import LoggedPicture, parse_encoder_log
from vvc_nnr.errors import InputError
from vvc_nnr.files import naming, read_bytes

_ENCODERS = {
    "VTM": re.compile(r"VTM Encoder Version\s*\[?([\w.+-]+)"),
    "HM": re.compile(r"HM software: Encoder Version\s*\[?([\w.+-]+)"),
    "vvenc": re.compile(r"(?:VVenC|Fraunhofer)[^\n]{0,80}?\bver(?:sion|\.)\s*\[?([\w.+-]+)"),
    "x265": re.compile(r"x265 \[info\]: HEVC encoder version ([\w.+-]+)"),
}
_SUMMARY = re.compile(
    r"Total Frames \|\s+Bitrate[^\n]*\n(?:vvenc \[\w+\]:)?\s*([0-9]{1,9})\s+[aA]\s+([0-9]{1,12}(?:\.[0-9]{1,9})?)\s"
)
_X265_SUMMARY = re.compile(r"encoded ([0-9]{1,9}) frames in [^\n]{1,60}?, ([0-9]{1,12}(?:\.[0-9]{1,9})?) kb/s")
_RATES = (
    re.compile(r"Real\s+Format\s*:[^\n]{0,80}?([0-9]{1,6}(?:\.[0-9]{1,6})?)\s*Hz"),
    re.compile(r"\bfps ([0-9]{1,9}/[1-9][0-9]{0,8}) i4"),
    re.compile(r"Stream #[^\n]{1,300}?, ([0-9]{1,6}(?:\.[0-9]{1,6})?) fps,"),
)


_RANDOM_ACCESS = ("IDR", "CRA", "BLA", "GDR")
"""How the types of random access pictures begin."""


@dataclass(frozen=True, slots=True)
class EncoderLog:
    """What a log says.

    Attributes:
        encoder: Name and version of the encoder, empty if the log does not tell.
        n_pictures: How many pictures were coded.
        n_bits: Bits of all of them.
        pictures: Each picture in the order of output, None where the log has the sum alone.
        access_point_qps: Of each the QP of the random access point before it in the order of coding, likewise.
    """

    encoder: str
    n_pictures: int
    n_bits: int
    pictures: tuple[LoggedPicture, ...] | None = None
    access_point_qps: tuple[int, ...] | None = None

    @property
    def picture_bits(self) -> tuple[int, ...] | None:
        """Bits of each picture in the order of output, None where the log has the sum alone."""
        return None if self.pictures is None else tuple(picture.n_bits for picture in self.pictures)


def read_encoder_log(path: Path, fps: Fraction | None = None) -> EncoderLog:
    """The bits in a log file.

    Args:
        path: The log, as the encoder printed it, or the CSV file of x265.
        fps: Pictures per second, for a log that has a rate alone; None: as the log says.

    Raises:
        InputError: If the file cannot be read, holds no bits, a line of a picture that is not understood, pictures
            whose order of output is not sure, or a rate without the number of pictures per second.
    """
    text = read_bytes(path).decode("utf-8", "replace")
    encoder = next((f"{name} {m[1]}" for name, pattern in _ENCODERS.items() if (m := pattern.search(text))), "")
    with naming(path):
        pictures = parse_encoder_log(text)
    if not pictures:
        pictures = _x265_pictures(path, text)
        encoder = encoder or ("x265" if pictures else "")
    if pictures:
        with naming(path):
            order = _order_of_output(pictures)
        in_output = tuple(pictures[index] for index in order)
        known = _access_point_qps(pictures)
        n_bits = sum(picture.n_bits for picture in pictures)
        return EncoderLog(encoder, len(pictures), n_bits, in_output, tuple(known[index] for index in order))
    found = _last(_SUMMARY, text) or _last(_X265_SUMMARY, text)
    if found is None:
        raise InputError(
            f"{path}: no bits of pictures in it; must be the whole log of VTM, HM, vvencapp or x265, or x265's CSV file"
        )
    rate = fps if fps is not None else _stated_rate(text)
    if rate is None:
        raise InputError(f"{path}: has kbit/s alone, and pictures per second are not known; give them (fps)")
    n_pictures, kbps = int(found[1]), Fraction(found[2])
    return EncoderLog(encoder, n_pictures, round(kbps * 1000 * n_pictures / rate))


def _access_point_qps(pictures: Iterable[LoggedPicture]) -> list[int]:
    """Of each picture the QP of the last random access point, or intra picture where a log has no types, up to it."""
    found: list[int] = []
    for picture in pictures:
        is_point = picture.nal_type.startswith(_RANDOM_ACCESS) if picture.nal_type else picture.slice_type == "I"
        found.append(picture.qp if is_point or not found else found[-1])
    return found


def _order_of_output(pictures: Sequence[LoggedPicture]) -> list[int]:
    """Indices in the order of output: by coded sequences, within each by rising picture order count.

    A sequence begins with each IDR picture, and with another random access picture (CRA, GDR) whose count is not above
    all before it, as where logs of parts are joined. Where a log has no types (HM, x265) it begins with each intra
    picture of count 0. The pictures that lead it (RADL, RASL) are coded behind it, have lower counts, down to below 0,
    and belong to it.

    Raises:
        InputError: If the counts do not fit the types, so that the order is not sure.
    """
    sequences: list[dict[int, int]] = []
    access = None
    for index, picture in enumerate(pictures):
        if _begins_sequence(picture, sequences[-1] if sequences else {}):
            sequences.append({})
        elif not sequences:
            raise InputError(f"begins with {_named(picture)}; must begin with an IDR picture or CRA")
        elif picture.poc in sequences[-1]:
            raise InputError(f"{_named(picture)} is the second one of its count, and no sequence begins in between")
        elif access and not _may_follow(picture, access):
            raise InputError(f"{_named(picture)} cannot be coded behind {_named(access)}; lines are lost or mixed")
        if picture.nal_type.startswith(_RANDOM_ACCESS):
            access = picture
        sequences[-1][picture.poc] = index
    return [index for places in sequences for _, index in sorted(places.items())]


def _begins_sequence(picture: LoggedPicture, before: Mapping[int, int]) -> bool:
    """Whether a picture is the first of a sequence in the order of coding; `before` has those of the last one."""
    if not picture.nal_type:
        return picture.slice_type == "I" and picture.poc == 0
    if picture.nal_type.startswith("IDR"):
        return True
    return picture.nal_type.startswith(_RANDOM_ACCESS) and picture.poc <= max(before, default=picture.poc)


def _may_follow(picture: LoggedPicture, access: LoggedPicture) -> bool:
    """Whether it may be coded behind the last random access picture: leading ones have lower counts, others higher."""
    is_leading = picture.nal_type in ("RADL", "RASL")
    return picture.poc < access.poc if is_leading else picture.poc > access.poc


def _named(picture: LoggedPicture) -> str:
    return f"POC {picture.poc} ({picture.nal_type or picture.slice_type + '-slice'})"


def _x265_pictures(path: Path, text: str) -> list[LoggedPicture]:
    """The pictures of x265's CSV file; none if it is no such file."""
    lines = text.splitlines()
    head = [cell.strip() for cell in lines[0].split(",")] if lines else []
    if not {"Encode Order", "Type", "POC", "QP", "Bits"} <= set(head):
        return []
    found = []
    for number, cells in enumerate(csv.reader(lines[1:], skipinitialspace=True), start=2):
        if len(cells) < 2 or not cells[head.index("Encode Order")].strip().isdigit():
            continue  # the summary of all pictures below them
        if len(cells) < len(head) - 1:
            raise InputError(f"{path} line {number}: {len(cells)} cells, must be {len(head)}: it was cut short")
        row = dict(zip(head, (cell.strip() for cell in cells), strict=False))
        try:
            found.append(
                LoggedPicture(int(row["POC"]), row["Type"][:1].upper(), round(float(row["QP"])), int(row["Bits"]))
            )
        except ValueError as error:
            raise InputError(f"{path} line {number}: no picture of x265's CSV file: {error}") from error
    return found


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for found in pattern.finditer(text):  # noqa: B007
        pass
    return found


def _stated_rate(text: str) -> Fraction | None:
    found = next((m for pattern in _RATES if (m := pattern.search(text))), None)
    return Fraction(found[1]) if found and Fraction(found[1]) > 0 else None
