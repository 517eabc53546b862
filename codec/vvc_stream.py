"""A VVC byte stream as its pictures: size and window of each, which are output, and in what order.

Decoders tell none of this: FFmpeg drops damaged pictures without a word. So the pictures that must come out are
derived here from the picture headers (ITU-T H.266, clauses 7.3.2.8, 8.1.1, 8.3.1 and C.5.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from vvc_nnr.codec.nal import (
    ACCESS_UNIT_DELIMITER,
    GDR,
    IDR_TYPES,
    INTRA_TYPES,
    LAST_SLICE_TYPE,
    PARAMETER_SET_ID_BITS,
    PICTURE_HEADER,
    PPS,
    RADL,
    RASL,
    SPS,
    HashType,
    NalUnit,
    PictureUnit,
    nal_units,
    picture_units,
    remove_emulation_prevention,
)
from vvc_nnr.codec.vvc_pps import PictureParameters, read_pps
from vvc_nnr.codec.vvc_sps import SequenceParameters, SyntaxReader, Window, read_sps, skip_alf, skip_boundaries
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.files import read_bytes
from vvc_nnr.sequences.frame import ChromaFormat, VideoFormat

_HEADER_BYTES = 256
"""More than a picture header needs up to where it is read; the rest of its NAL unit may be a whole slice."""


@dataclass(frozen=True, slots=True)
class StreamPicture:
    """One coded picture of a stream.

    Attributes:
        unit: Its place in the stream, its NAL unit type and its hash.
        coded_width: Luma samples per row before the window is applied.
        coded_height: Luma rows before the window is applied.
        window: What its conformance window cuts off.
        format: What is output of it; 30 pictures per second where the stream gives no rate.
        sequence: Number of its coded layer video sequence, which begins at each picture that needs no earlier one.
        poc: Picture order count within its sequence.
        is_field: Whether it is one field of an interlaced video.
        is_output: Whether a decoder outputs it. Pictures that lean on ones before the stream's beginning are not.
        in_loop_filters: The in-loop filters that its parameter sets have on: "deblocking", "SAO", "ALF"; None where
            they are not read (pictures in tiles).
        is_recovering: Whether it lies before the recovery point of a gradual refresh that has begun.
        temporal_layer: Its temporal sublayer, 0 to 6; no picture of a lower one is predicted from it.
    """

    unit: PictureUnit
    coded_width: int
    coded_height: int
    window: Window
    format: VideoFormat
    is_field: bool
    sequence: int
    poc: int
    is_output: bool
    in_loop_filters: tuple[str, ...] | None = None
    is_recovering: bool = False
    temporal_layer: int = 0

    @property
    def coded_format(self) -> VideoFormat:
        """Size, bit depth and chroma format before the window is applied."""
        return VideoFormat(self.coded_width, self.coded_height, self.format.bit_depth, self.format.chroma_format)


@dataclass(frozen=True)
class VvcStream:
    """A byte stream and what its headers say.

    Attributes:
        data: The byte stream.
        pictures: Its coded pictures in decoding order, at least one of them output.
    """

    data: bytes
    pictures: tuple[StreamPicture, ...]

    @cached_property
    def output_order(self) -> tuple[int, ...]:
        """Indices into `pictures` of those that are output, in the order of output."""
        shown = [index for index, picture in enumerate(self.pictures) if picture.is_output]
        return tuple(sorted(shown, key=lambda index: (self.pictures[index].sequence, self.pictures[index].poc)))

    @property
    def first(self) -> StreamPicture:
        """The first picture that is output."""
        return self.pictures[self.output_order[0]]

    @property
    def new_beginnings(self) -> tuple[int, ...]:
        """Indices of pictures after the first that follow an end of sequence, or begin one of another format."""
        pairs = enumerate(pairwise(self.pictures), start=1)
        return tuple(i for i, (a, b) in pairs if b.unit.is_first or (a.sequence != b.sequence and not _are_alike(a, b)))

    @cached_property
    def hashed(self) -> frozenset[int]:
        """Indices of the pictures that must have a hash: one of their stream has, where streams were put together.

        A stream begins where a sequence begins and its parameter sets come with it. Pictures between the begin of a
        gradual refresh and its recovery point may lack one: VTM writes none for them, since they depend on where
        decoding began.
        """
        begins = [
            i
            for i, (a, b) in enumerate(pairwise(self.pictures), start=1)
            if b.unit.has_sps and a.sequence != b.sequence
        ]
        spans = [range(a, b) for a, b in pairwise((0, *begins, len(self.pictures)))]
        are_hashed = (i for span in spans if any(self.pictures[i].unit.digests for i in span) for i in span)
        return frozenset(i for i in are_hashed if self.pictures[i].unit.digests or not self.pictures[i].is_recovering)

    @property
    def hash_types(self) -> tuple[HashType | None, ...]:
        """The kind of hash of each picture that is output, in the order of output."""
        return tuple(self.pictures[index].unit.hash_type for index in self.output_order)

    def access_unit(self, index: int) -> bytes:
        """The bytes of a picture's access unit, up to the next one's."""
        begins = [picture.unit.begin_bytes for picture in self.pictures[index : index + 2]]
        return self.data[begins[0] : begins[1] if len(begins) == 2 else len(self.data)]

    def parts(self, begins: Sequence[int]) -> list[tuple[bytes, tuple[int, ...]]]:
        """The stream cut before some of its pictures into streams that decode alone.

        Args:
            begins: Indices of pictures that begin a sequence, ascending, without 0.

        Returns:
            The bytes of each part that outputs pictures, with the parameter sets that it needs, and the indices of
            those pictures in the order of output.
        """
        found = []
        for begin, end in zip((0, *begins), (*begins, len(self.pictures)), strict=True):
            begin_bytes = self.pictures[begin].unit.begin_bytes if begin else 0
            end_bytes = self.pictures[end].unit.begin_bytes if end < len(self.pictures) else len(self.data)
            shown = tuple(index for index in self.output_order if begin <= index < end)
            if shown:
                found.append((_with_parameter_sets(self.data, begin_bytes, end_bytes), shown))
        return found


def read_vvc_stream(stream: bytes | Path) -> VvcStream:
    """What the headers of a byte stream, or of a file that holds one, say.

    Raises:
        InputError: If the file cannot be read.
        BitstreamError: If the stream is damaged, holds no picture, or begins with one that needs others.
        UnsupportedError: If the stream has more than one layer.
    """
    data = read_bytes(stream) if isinstance(stream, Path) else stream
    pictures = _stream_pictures(data)
    if not pictures:
        raise BitstreamError("the stream holds no picture")
    if not any(picture.is_output for picture in pictures):
        raise BitstreamError("the stream holds no picture that is output")
    return VvcStream(data, tuple(pictures))


def stream_chroma_format(stream: bytes) -> ChromaFormat:
    """The chroma format of a byte stream's pictures, by its sequence parameter sets; no picture is looked at.

    Raises:
        BitstreamError: If the stream is damaged, or has no sequence parameter set.
        UnsupportedError: If the stream has more than one layer, or pictures of several chroma formats.
    """
    found = {
        read_sps(remove_emulation_prevention(nal.payload), nal.offset_bytes)[1].chroma_format
        for nal in nal_units(stream)
        if nal.nal_unit_type == SPS
    }
    if not found:
        raise BitstreamError("the stream has no sequence parameter set")
    if len(found) > 1:
        names = " and ".join(":".join(each) for each in sorted(found))
        raise UnsupportedError(f"pictures of {names} in one stream: one filter does not fit all")
    return found.pop()


def changed_format(first: VideoFormat, other: VideoFormat) -> str | None:
    """What differs between two pictures of a stream, as text; None if they have one format."""
    changes = []
    if (first.width, first.height) != (other.width, other.height):
        changes.append(f"size from {first.width}x{first.height} to {other.width}x{other.height}")
    if first.bit_depth != other.bit_depth:
        changes.append(f"bit depth from {first.bit_depth} to {other.bit_depth}")
    if first.chroma_format != other.chroma_format:
        changes.append(f"chroma format from {':'.join(first.chroma_format)} to {':'.join(other.chroma_format)}")
    return " and ".join(changes) or None


_STATED = {
    "fps": "rate",
    "colour_range": "colour range",
    "pixel_aspect": "pixel aspect",
    "chroma_location": "chroma siting",
}
"""What a stream may state of its pictures besides their format, and what it is called."""


def changed_statements(stream: VvcStream) -> dict[str, str]:
    """What pictures state otherwise than the first one that is output, by field of `VideoFormat`, as text."""
    changes = {}
    for field, name in _STATED.items():
        first = getattr(stream.first.format, field)
        values = (getattr(stream.pictures[index].format, field) for index in stream.output_order)
        number, other = next(((n, value) for n, value in enumerate(values) if value != first), (0, first))
        if number:
            changes[field] = f"picture {number} changes the {name} from {first or 'none'} to {other or 'none'}"
    return changes


def check_one_size(stream: VvcStream) -> None:
    """Checks that all pictures that are output have one size, so that they can be cropped to another.

    Raises:
        InputError: If they have not.
    """
    first = stream.first.format
    for number, index in enumerate(stream.output_order):
        other = stream.pictures[index].format
        if (other.width, other.height) != (first.width, first.height):
            changed = changed_format(first, other)
            raise InputError(f"picture {number} changes the {changed}: no one size fits all, give none")


def check_one_format(stream: VvcStream) -> None:
    """Checks that all pictures that are output are frames of one size, bit depth and chroma format, as in one file.

    Raises:
        InputError: If they differ.
        UnsupportedError: If they are fields of an interlaced video.
    """
    if stream.first.is_field:
        raise UnsupportedError("its pictures are fields of an interlaced video; only progressive pictures are written")
    for number, index in enumerate(stream.output_order):
        changed = changed_format(stream.first.format, stream.pictures[index].format)
        if changed is not None:
            advice = "one file holds one format; in Python `decode_vvc` yields each"
            raise InputError(f"picture {number} changes the {changed}: {advice}")


def _are_alike(a: StreamPicture, b: StreamPicture) -> bool:
    return (a.coded_format, a.window) == (b.coded_format, b.window)


def _with_parameter_sets(data: bytes, begin_bytes: int, end_bytes: int) -> bytes:
    """A part of a stream, behind its delimiter the earlier parameter sets that its first access unit lacks."""
    part = data[begin_bytes:end_bytes]
    own = set()
    for unit in nal_units(part):
        if unit.nal_unit_type <= LAST_SLICE_TYPE:
            break
        own.add(_parameter_set_key(unit))
    earlier = {_parameter_set_key(unit): unit for unit in nal_units(data[:begin_bytes])} if begin_bytes else {}
    sets = b"".join(
        b"\x00\x00\x01" + data[unit.offset_bytes : unit.offset_bytes + 2] + unit.payload
        for key, unit in earlier.items()
        if key is not None and key not in own
    )
    first = next(nal_units(part))
    is_delimiter = first.nal_unit_type == ACCESS_UNIT_DELIMITER
    place = first.offset_bytes + 2 + len(first.payload) if is_delimiter else 0
    return part[:place] + sets + part[place:]


def _parameter_set_key(unit: NalUnit) -> tuple[int, int] | None:
    """What tells a parameter set from others: type and identifier; None for other units."""
    id_bits = PARAMETER_SET_ID_BITS.get(unit.nal_unit_type)
    return (unit.nal_unit_type, unit.payload[0] >> (8 - id_bits)) if id_bits and unit.payload else None


@dataclass(frozen=True, slots=True)
class _Header:
    """A picture header's values.

    Attributes:
        poc_lsb: The low bits of the picture order count.
        msb_cycle: The high bits, None if they follow from earlier pictures.
        recovery_poc_cnt: Pictures until a gradual decoding refresh is complete, None if the picture starts none.
        is_reference: Whether other pictures may refer to it.
        is_output: ph_pic_output_flag.
    """

    poc_lsb: int
    msb_cycle: int | None
    recovery_poc_cnt: int | None
    is_reference: bool
    is_output: bool


def _stream_pictures(data: bytes) -> list[StreamPicture]:
    units = {unit.offset_bytes: unit for unit in picture_units(data)}
    sequence_sets: dict[int, SequenceParameters] = {}
    picture_sets: dict[int, PictureParameters] = {}
    order = _Order()
    pictures = []
    for nal in nal_units(data):
        if nal.nal_unit_type == SPS:
            sps_id, sps = read_sps(remove_emulation_prevention(nal.payload), nal.offset_bytes)
            sequence_sets[sps_id] = sps
        elif nal.nal_unit_type == PPS:
            pps_id, pps = read_pps(remove_emulation_prevention(nal.payload), nal.offset_bytes)
            picture_sets[pps_id] = pps
        elif nal.offset_bytes in units:
            unit = units[nal.offset_bytes]
            header, pps, sps = _read_header(nal, picture_sets, sequence_sets)
            place = order.place(unit, header, nal.temporal_id, 1 << sps.log2_max_poc_lsb)
            pictures.append(replace(_stream_picture(unit, pps, sps, place), temporal_layer=nal.temporal_id))
    return pictures


def _stream_picture(unit: PictureUnit, pps: PictureParameters, sps: SequenceParameters, place: _Place) -> StreamPicture:
    pps.check_size(sps)
    window = pps.window(sps)
    format = VideoFormat(
        pps.width - window.left - window.right,
        pps.height - window.top - window.bottom,
        sps.bit_depth,
        sps.chroma_format,
        colour_range=sps.vui.colour_range,
        chroma_location=sps.vui.chroma_location,
        pixel_aspect=sps.vui.pixel_aspect,
    )
    if sps.fps is not None:
        format = replace(format, fps=sps.fps)
    is_field = sps.pictures_are == "fields"
    filters = None
    if pps.tools is not None:
        named = {"deblocking": pps.tools.has_deblocking, "SAO": sps.tools.has_sao, "ALF": sps.tools.has_alf}
        filters = tuple(name for name, is_on in named.items() if is_on)
    return StreamPicture(
        unit,
        pps.width,
        pps.height,
        window,
        format,
        is_field,
        place.sequence,
        place.poc,
        place.is_output,
        filters,
        place.is_recovering,
    )


def _read_header(
    nal: NalUnit, picture_sets: dict[int, PictureParameters], sequence_sets: dict[int, SequenceParameters]
) -> tuple[_Header, PictureParameters, SequenceParameters]:
    """picture_header_structure() up to ph_pic_output_flag, of a picture header or of a slice that carries one."""
    r = SyntaxReader(remove_emulation_prevention(nal.payload[:_HEADER_BYTES]), nal.offset_bytes)
    if nal.nal_unit_type != PICTURE_HEADER:
        r.flag("sh_picture_header_in_slice_header_flag")
    is_random_access, is_non_reference = r.flags("ph_gdr_or_irap_pic_flag", "ph_non_ref_pic_flag")
    is_gdr = is_random_access and r.flag("ph_gdr_pic_flag")
    if r.flag("ph_inter_slice_allowed_flag"):
        r.flag("ph_intra_slice_allowed_flag")
    pps_id = r.number("ph_pic_parameter_set_id", at_most=63)
    pps = picture_sets.get(pps_id)
    sps = sequence_sets.get(pps.sps_id) if pps is not None else None
    if pps is None or sps is None:
        raise r.error(f"the parameter sets {pps_id} of a picture are not there", "ph_pic_parameter_set_id")
    poc_lsb = r.u(sps.log2_max_poc_lsb, "ph_pic_order_cnt_lsb")
    recovery_poc_cnt = r.number("ph_recovery_poc_cnt") if is_gdr else None
    r.u(sps.n_extra_header_bits, "ph_extra_bit")
    has_cycle = sps.poc_msb_cycle_bits > 0 and r.flag("ph_poc_msb_cycle_present_flag")
    msb_cycle = r.u(sps.poc_msb_cycle_bits, "ph_poc_msb_cycle_val") if has_cycle else None
    is_output = True
    if pps.has_output_flag and not is_non_reference:
        _skip_filters(r, pps, sps)
        is_output = r.flag("ph_pic_output_flag")
    return _Header(poc_lsb, msb_cycle, recovery_poc_cnt, not is_non_reference, is_output), pps, sps


def _skip_filters(r: SyntaxReader, pps: PictureParameters, sps: SequenceParameters) -> None:
    """Passes over what a picture header holds between its picture order count and ph_pic_output_flag."""
    if sps.tools.has_alf and not pps.is_one_tile:
        if pps.tools is None:
            raise r.error("a picture parameter set that breaks the syntax", "pps_alf_info_in_ph_flag")
        if pps.tools.in_header.alf:
            skip_alf(r, sps, "ph")
    if sps.tools.has_lmcs and r.flag("ph_lmcs_enabled_flag"):
        r.u(2, "ph_lmcs_aps_id")
        if sps.chroma_format != "400":
            r.flag("ph_chroma_residual_scale_flag")
    if sps.tools.has_scaling_lists and r.flag("ph_explicit_scaling_list_enabled_flag"):
        r.u(3, "ph_scaling_list_aps_id")
    if sps.tools.has_header_boundaries and r.flag("ph_virtual_boundaries_present_flag"):
        skip_boundaries(r, "ph")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a picture belongs; the fields are those of `StreamPicture`."""

    sequence: int
    poc: int
    is_output: bool
    is_recovering: bool


class _Order:
    """Gives each picture, in decoding order, its place."""

    def __init__(self) -> None:
        self._sequence = -1
        self._previous_poc = 0  # of the last picture of the lowest sublayer that others may refer to
        self._begins_anew = False  # NoOutputBeforeRecoveryFlag of the last random access point
        self._is_behind_idr = False  # whether that is an IDR picture
        self._recovery_poc: int | None = None

    def place(self, unit: PictureUnit, header: _Header, temporal_id: int, max_lsb: int) -> _Place:
        """The next picture's place.

        Raises:
            BitstreamError: If the stream, or what follows the end of a sequence, begins with a picture that needs
                earlier ones; or a RASL picture is where the standard has none (clause 7.4.2.2).
        """
        kind = unit.nal_unit_type
        is_access_point = kind in INTRA_TYPES or kind == GDR
        if unit.is_first and not is_access_point:
            message = "the stream begins with a picture that needs earlier ones: its beginning was cut off"
            raise BitstreamError(message, field="nal_unit_type", offset_bytes=unit.offset_bytes)
        if kind == RASL and self._is_behind_idr:
            message = (
                "a RASL picture behind an IDR picture, which no stream has: the CRA picture that it leads is missing"
            )
            raise BitstreamError(message, field="nal_unit_type", offset_bytes=unit.offset_bytes)
        begins = kind in IDR_TYPES or (is_access_point and unit.is_first)
        self._sequence += begins
        poc = self._poc(header, max_lsb, begins=begins)
        if temporal_id == 0 and header.is_reference and kind not in (RADL, RASL):
            self._previous_poc = poc
        if is_access_point:
            self._begins_anew = begins
            self._is_behind_idr = kind in IDR_TYPES
            self._recovery_poc = None if header.recovery_poc_cnt is None else poc + header.recovery_poc_cnt
        is_recovering = self._recovery_poc is not None and poc < self._recovery_poc
        is_lost = self._begins_anew and (kind == RASL or is_recovering)
        return _Place(self._sequence, poc, header.is_output and not is_lost, is_recovering)

    def _poc(self, header: _Header, max_lsb: int, *, begins: bool) -> int:
        if header.msb_cycle is not None:
            return header.msb_cycle * max_lsb + header.poc_lsb
        if begins:
            return header.poc_lsb
        previous_lsb = self._previous_poc % max_lsb
        msb = self._previous_poc - previous_lsb
        if header.poc_lsb < previous_lsb and previous_lsb - header.poc_lsb >= max_lsb // 2:
            msb += max_lsb
        elif header.poc_lsb > previous_lsb and header.poc_lsb - previous_lsb > max_lsb // 2:
            msb -= max_lsb
        return msb + header.poc_lsb
