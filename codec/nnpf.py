"""Neural-network post-filter SEI messages: what filters a stream carries (NNPFC), and when they run (NNPFA).

ITU-T H.274, clauses 8.28.1 and 8.28.2 (fourth edition). Attributes have the names of the syntax elements without
`nnpfc_` and `nnpfa_`. The syntax stands here once: reader and writer walk through it together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar

from vvc_nnr.bitstream.bits import BitReader, BitWriter
from vvc_nnr.codec.sei import SeiMessage
from vvc_nnr.errors import InputError

NNPFC, NNPFA = 210, 211
"""Payload types of the characteristics and the activation of a filter."""

MODE_NNC, MODE_URI = 0, 1
"""nnpfc_mode_idc: an ISO/IEC 15938-17 bitstream in the message, or a place where the filter is."""

NNC_TAG_URI = "tag:iso.org,2023:15938-17"
"""Says of a filter elsewhere that its file is an ISO/IEC 15938-17 bitstream."""

VISUAL_QUALITY, CHROMA_UPSAMPLING, RESOLUTION_UPSAMPLING, FRAME_RATE_UPSAMPLING = 1, 2, 4, 8
BIT_DEPTH_UPSAMPLING, COLOURISATION, TEMPORAL_EXTRAPOLATION, SPATIAL_EXTRAPOLATION = 16, 32, 64, 128
"""Bits of nnpfc_purpose."""

AUXILIARY_STRENGTH, AUXILIARY_PROMPT, AUXILIARY_SEED = 1, 2, 4
"""Bits of nnpfc_auxiliary_inp_idc."""

INTEGER_SAMPLES = 1
"""nnpfc_inp_format_idc and nnpfc_out_format_idc: 0 are real numbers of 0 to 1, 1 integers."""

ORDER_LUMA, ORDER_CHROMA, ORDER_ALL, ORDER_PHASES = 0, 1, 2, 3
"""nnpfc_inp_order_idc: luma; chroma; luma, Cb and Cr; four luma planes of half the size, Cb and Cr."""

LEGAL_IDS = (range(256), range(512, 1 << 31))
"""nnpfc_id and nnpfa_target_id; all other values are reserved, and decoders ignore messages with them."""

PADDING_FIXED = 4
"""nnpfc_padding_type: 0 zeros, 1 replicated, 2 reflected, 3 wrapped, 4 values of the message."""

BINARY_PARAMETERS = 2
_MAX_PREFIX_BITS = 32
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Bits:
    """Bits of no known meaning: how many, and their value as one number."""

    n_bits: int
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NnpfCharacteristics:
    """An NNPFC message: a filter, or an update of one, with all that must be known to run it.

    What the syntax does not call for under the other values must have its default.

    Attributes:
        purpose: What it is for: the sum of VISUAL_QUALITY and its like.
        id: Number by which NNPFA names it, of LEGAL_IDS; others are read and written too, as later editions may have.
        base_flag: Whether it is a base filter; else an update of the base of this number.
        mode_idc: Where it is: MODE_NNC or MODE_URI.
        tag_uri: Of MODE_URI: the format of the file.
        uri: Of MODE_URI: the file.
        property_present_flag: Whether the fields from here to `reserved_metadata_extension` are there.
        num_input_pics_minus1: Pictures that it takes, less 1.
        input_pic_filtering_flag: Of several pictures: which of them it filters.
        absent_input_pic_zero_flag: Of several: whether zeros stand for one that is not there.
        out_sub_c_flag: Of chroma up-sampling: 4:4:4 instead of 4:2:2.
        out_colour_format_idc: Of colourisation: chroma format of the output.
        pic_width_num_minus1: Of other sizes: numerator of the ratio of widths, less 1.
        pic_width_denom_minus1: Its denominator, less 1.
        pic_height_num_minus1: Numerator of the ratio of heights, less 1.
        pic_height_denom_minus1: Its denominator, less 1.
        interpolated_pics: Of other rates: pictures put between each two.
        extrapolated_pics_minus1: Of temporal extrapolation: how many pictures, less 1.
        spatial_extrapolation_offsets: Of spatial extrapolation: samples left, right, on top and at the bottom.
        component_last_flag: Whether channels are the last dimension of its tensors.
        inp_format_idc: 0 real numbers, 1 integers.
        auxiliary_inp_idc: More inputs: the sum of AUXILIARY_STRENGTH and its like.
        inband_prompt_flag: Whether the prompt is here.
        prompt: Text for the filter.
        inband_seed_flag: Whether the seed is here.
        seed: Of random numbers in the filter, 16 bits.
        inp_order_idc: Which planes go in: ORDER_LUMA and its like.
        inp_tensor_luma_bitdepth_minus8: Of integers.
        inp_tensor_chroma_bitdepth_minus8: Of integers.
        out_format_idc: As inp_format_idc.
        out_order_idc: As inp_order_idc.
        out_tensor_luma_bitdepth_minus8: Of integers.
        out_tensor_chroma_bitdepth_minus8: Of integers.
        separate_colour_description_present_flag: Whether the output has colours of its own.
        colour_primaries: Of H.273.
        transfer_characteristics: Of H.273.
        matrix_coeffs: Of H.273.
        full_range_flag: Whether the output has full range.
        chroma_loc_info_present_flag: Whether the place of chroma samples is here.
        chroma_sample_loc_type_frame: Where chroma samples are in the output.
        overlap: Samples by which input patches overlap on each side.
        constant_patch_size_flag: Whether patches have the one size that follows.
        patch_width_minus1: Width of all patches, less 1.
        patch_height_minus1: Height of all patches, less 1.
        extended_patch_width_cd_delta_minus1: Patch widths with their overlaps are multiples of this plus 1.
        extended_patch_height_cd_delta_minus1: Heights likewise.
        padding_type: What stands outside the picture.
        luma_padding_val: Of PADDING_FIXED.
        cb_padding_val: Of PADDING_FIXED.
        cr_padding_val: Of PADDING_FIXED.
        complexity_info_present_flag: Whether the five fields that follow are there.
        parameter_type_idc: 0 integers, 1 floats, 2 binary.
        log2_parameter_bit_length_minus3: Bits of a parameter: 8 << this, at most.
        num_parameters_idc: Parameters: at most 2048 << this.
        num_kmac_operations_idc: Thousands of multiply-and-adds for a sample, at most.
        total_kilobyte_size: Size of the parameters as they are stored without compression.
        metadata_extension_num_bits: Bits of what follows but its alignment, 0 if nothing does.
        application_purpose_tag_uri_present_flag: Of purpose 0: whether a purpose of other people's is named.
        application_purpose_tag_uri: Its name.
        scan_type_idc: Of other sizes.
        for_human_viewing_idc: How fit the output is for people.
        for_machine_analysis_idc: How fit it is for machines.
        reserved_metadata_extension: The bits that are left of the extension, as one number.
        payload_byte: Of MODE_NNC: the bitstream.
        payload_extension: Bits behind what is known here; None: none.
    """

    payload_type: ClassVar[int] = NNPFC
    prefix: ClassVar[str] = "nnpfc_"

    purpose: int = VISUAL_QUALITY
    id: int = 0
    base_flag: bool = True
    mode_idc: int = MODE_NNC
    tag_uri: str = ""
    uri: str = ""
    property_present_flag: bool = False
    num_input_pics_minus1: int = 0
    input_pic_filtering_flag: tuple[bool, ...] = ()
    absent_input_pic_zero_flag: bool = False
    out_sub_c_flag: bool = False
    out_colour_format_idc: int = 0
    pic_width_num_minus1: int = 0
    pic_width_denom_minus1: int = 0
    pic_height_num_minus1: int = 0
    pic_height_denom_minus1: int = 0
    interpolated_pics: tuple[int, ...] = ()
    extrapolated_pics_minus1: int = 0
    spatial_extrapolation_offsets: tuple[int, ...] = ()
    component_last_flag: bool = False
    inp_format_idc: int = 0
    auxiliary_inp_idc: int = 0
    inband_prompt_flag: bool = False
    prompt: str = ""
    inband_seed_flag: bool = False
    seed: int = 0
    inp_order_idc: int = ORDER_LUMA
    inp_tensor_luma_bitdepth_minus8: int = 0
    inp_tensor_chroma_bitdepth_minus8: int = 0
    out_format_idc: int = 0
    out_order_idc: int = ORDER_LUMA
    out_tensor_luma_bitdepth_minus8: int = 0
    out_tensor_chroma_bitdepth_minus8: int = 0
    separate_colour_description_present_flag: bool = False
    colour_primaries: int = 0
    transfer_characteristics: int = 0
    matrix_coeffs: int = 0
    full_range_flag: bool = False
    chroma_loc_info_present_flag: bool = False
    chroma_sample_loc_type_frame: int = 0
    overlap: int = 0
    constant_patch_size_flag: bool = False
    patch_width_minus1: int = 0
    patch_height_minus1: int = 0
    extended_patch_width_cd_delta_minus1: int = 0
    extended_patch_height_cd_delta_minus1: int = 0
    padding_type: int = 0
    luma_padding_val: int = 0
    cb_padding_val: int = 0
    cr_padding_val: int = 0
    complexity_info_present_flag: bool = False
    parameter_type_idc: int = 0
    log2_parameter_bit_length_minus3: int = 0
    num_parameters_idc: int = 0
    num_kmac_operations_idc: int = 0
    total_kilobyte_size: int = 0
    metadata_extension_num_bits: int = 0
    application_purpose_tag_uri_present_flag: bool = False
    application_purpose_tag_uri: str = ""
    scan_type_idc: int = 0
    for_human_viewing_idc: int = 0
    for_machine_analysis_idc: int = 0
    reserved_metadata_extension: int = 0
    payload_byte: bytes = b""
    payload_extension: Bits | None = None

    def message(self) -> SeiMessage:
        """The message as its bytes.

        Raises:
            InputError: If a value does not fit its field, or has a field under no such other values.
        """
        return SeiMessage(NNPFC, _written(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class NnpfActivation:
    """An NNPFA message: from which picture on a filter runs, or no longer does.

    Attributes:
        target_id: Number of the filter.
        cancel_flag: Whether it stops; then nothing follows.
        persistence_flag: Whether it runs for later pictures of the coded layer video sequence too.
        target_base_flag: Whether the base runs; else its last update.
        no_prev_clvs_flag: Whether its inputs are not from earlier sequences.
        no_foll_clvs_flag: Of persistence: whether its inputs are not from later sequences.
        output_flag: Which of the pictures that it makes are output.
        is_first_edition: Whether the message ends here, as those of the first edition do.
        prompt_update_flag: Whether there is a new prompt.
        prompt: The prompt.
        seed_update_flag: Whether there is a new seed.
        seed: The seed.
        selected_input_flag: Whether the input pictures are shifted.
        num_input_pic_shift: By how many.
        payload_extension: Bits behind what is known here; None: none.
    """

    payload_type: ClassVar[int] = NNPFA
    prefix: ClassVar[str] = "nnpfa_"

    target_id: int = 0
    cancel_flag: bool = False
    persistence_flag: bool = False
    target_base_flag: bool = False
    no_prev_clvs_flag: bool = False
    no_foll_clvs_flag: bool = False
    output_flag: tuple[bool, ...] = ()
    is_first_edition: bool = False
    prompt_update_flag: bool = False
    prompt: str = ""
    seed_update_flag: bool = False
    seed: int = 0
    selected_input_flag: bool = False
    num_input_pic_shift: int = 0
    payload_extension: Bits | None = None

    def message(self) -> SeiMessage:
        """The message as its bytes.

        Raises:
            InputError: If a value does not fit its field, or has a field under no such other values.
        """
        return SeiMessage(NNPFA, _written(self))


NnpfMessage: TypeAlias = NnpfCharacteristics | NnpfActivation


def is_reserved_id(filter_id: int) -> bool:
    """Whether decoders ignore the messages of a filter for its number, which H.274 reserves."""
    return not any(filter_id in legal for legal in LEGAL_IDS)


def check_filter_id(filter_id: int) -> None:
    """Raises InputError for a number that H.274 reserves."""
    if is_reserved_id(filter_id):
        legal = " or ".join(f"{ids[0]} to {ids[-1]}" for ids in LEGAL_IDS)
        raise InputError(
            f"number {filter_id} of a filter (filter_id, --filter-id): H.274 reserves it, and decoders ignore such "
            f"filters; must be {legal}"
        )


def parse_nnpf(message: SeiMessage) -> NnpfMessage | None:
    """What an NNPFC or NNPFA message says; None of a message of another type.

    Raises:
        BitstreamError: If the payload ends too early or breaks the syntax, as those of older drafts may.
    """
    if message.payload_type == NNPFC:
        return NnpfCharacteristics(**_read(message, NnpfCharacteristics.prefix))
    if message.payload_type == NNPFA:
        return NnpfActivation(**_read(message, NnpfActivation.prefix))
    return None


def present_fields(message: NnpfMessage) -> dict[str, Any]:
    """The values that a message's syntax calls for, in its order, under the standard's names."""
    walk = _Writing(message)
    _walk(walk, message.payload_type)
    return {f"{message.prefix}{name}": getattr(message, name) for name in walk.touched}


class _Walk(Protocol):
    """A reader or a writer on its way through the syntax; each step is one syntax element, and gives its value."""

    def u(self, n_bits: int, name: str) -> int: ...
    def ue(self, name: str) -> int: ...
    def flag(self, name: str) -> bool: ...
    def text(self, name: str) -> str: ...
    def flags(self, name: str, count: int | None = None) -> None: ...
    def numbers(self, name: str, count: int, *, is_signed: bool = False) -> None: ...
    def rest(self, name: str) -> None: ...
    def has_ended(self, name: str) -> bool: ...


def _walk(c: _Walk, payload_type: int) -> None:
    if payload_type == NNPFC:
        _walk_characteristics(c)
    else:
        _walk_activation(c)


def _walk_characteristics(c: _Walk) -> None:
    purpose = c.u(16, "purpose")
    c.ue("id")
    c.flag("base_flag")
    mode = c.ue("mode_idc")
    if mode == MODE_URI:
        c.text("tag_uri")
        c.text("uri")
    if c.flag("property_present_flag"):
        _walk_pictures(c, purpose)
        inp_order = _walk_tensors(c)
        _walk_patches(c, purpose, inp_order)
        if c.flag("complexity_info_present_flag"):
            _walk_complexity(c)
        if n_bits := c.ue("metadata_extension_num_bits"):
            _walk_metadata(c, purpose, n_bits)
    if mode == MODE_NNC:
        c.rest("payload_byte")


def _walk_pictures(c: _Walk, purpose: int) -> None:
    n_more = c.ue("num_input_pics_minus1")
    if n_more:
        c.flags("input_pic_filtering_flag", n_more + 1)
        c.flag("absent_input_pic_zero_flag")
    if purpose & CHROMA_UPSAMPLING:
        c.flag("out_sub_c_flag")
    if purpose & COLOURISATION:
        c.u(2, "out_colour_format_idc")
    if purpose & RESOLUTION_UPSAMPLING:
        for name in ("pic_width_num", "pic_width_denom", "pic_height_num", "pic_height_denom"):
            c.ue(f"{name}_minus1")
    if purpose & FRAME_RATE_UPSAMPLING:
        c.numbers("interpolated_pics", n_more)
    if purpose & TEMPORAL_EXTRAPOLATION:
        c.ue("extrapolated_pics_minus1")
    if purpose & SPATIAL_EXTRAPOLATION:
        c.numbers("spatial_extrapolation_offsets", 4, is_signed=True)


def _walk_tensors(c: _Walk) -> int:
    """What goes in and what comes out; returns nnpfc_inp_order_idc."""
    c.flag("component_last_flag")
    inp_format, auxiliary = c.ue("inp_format_idc"), c.ue("auxiliary_inp_idc")
    if auxiliary & AUXILIARY_PROMPT and c.flag("inband_prompt_flag"):
        c.text("prompt")
    if auxiliary & AUXILIARY_SEED and c.flag("inband_seed_flag"):
        c.u(16, "seed")
    inp_order = c.ue("inp_order_idc")
    _walk_bit_depths(c, "inp", inp_format, inp_order)
    out_format, out_order = c.ue("out_format_idc"), c.ue("out_order_idc")
    _walk_bit_depths(c, "out", out_format, out_order)
    if c.flag("separate_colour_description_present_flag"):
        c.u(8, "colour_primaries")
        c.u(8, "transfer_characteristics")
        if out_format == INTEGER_SAMPLES:
            c.u(8, "matrix_coeffs")
            c.flag("full_range_flag")
    if out_order != ORDER_LUMA and c.flag("chroma_loc_info_present_flag"):
        c.ue("chroma_sample_loc_type_frame")
    return inp_order


def _walk_bit_depths(c: _Walk, side: str, sample_format: int, order: int) -> None:
    if sample_format != INTEGER_SAMPLES:
        return
    if order != ORDER_CHROMA:
        c.ue(f"{side}_tensor_luma_bitdepth_minus8")
    if order != ORDER_LUMA:
        c.ue(f"{side}_tensor_chroma_bitdepth_minus8")


def _walk_patches(c: _Walk, purpose: int, inp_order: int) -> None:
    is_constant = True
    if not purpose & SPATIAL_EXTRAPOLATION:
        c.ue("overlap")
        is_constant = c.flag("constant_patch_size_flag")
    for side in ("width", "height"):
        c.ue(f"patch_{side}_minus1" if is_constant else f"extended_patch_{side}_cd_delta_minus1")
    if c.ue("padding_type") == PADDING_FIXED:
        if inp_order != ORDER_CHROMA:
            c.ue("luma_padding_val")
        if inp_order != ORDER_LUMA:
            c.ue("cb_padding_val")
            c.ue("cr_padding_val")


def _walk_complexity(c: _Walk) -> None:
    if c.u(2, "parameter_type_idc") != BINARY_PARAMETERS:
        c.u(2, "log2_parameter_bit_length_minus3")
    c.u(6, "num_parameters_idc")
    c.ue("num_kmac_operations_idc")
    c.ue("total_kilobyte_size")


def _walk_metadata(c: _Walk, purpose: int, n_bits: int) -> None:
    """The extension; its bits do not count the alignment in front of a text."""
    if purpose == 0:
        n_bits -= 1
        if c.flag("application_purpose_tag_uri_present_flag"):
            n_bits -= 8 * (len(c.text("application_purpose_tag_uri").encode()) + 1)
    if purpose & (RESOLUTION_UPSAMPLING | SPATIAL_EXTRAPOLATION):
        n_bits -= 2
        c.u(2, "scan_type_idc")
    c.u(2, "for_human_viewing_idc")
    c.u(2, "for_machine_analysis_idc")
    c.u(n_bits - 4, "reserved_metadata_extension")


def _walk_activation(c: _Walk) -> None:
    c.ue("target_id")
    if c.flag("cancel_flag"):
        return
    is_persistent = c.flag("persistence_flag")
    c.flag("target_base_flag")
    c.flag("no_prev_clvs_flag")
    if is_persistent:
        c.flag("no_foll_clvs_flag")
    c.flags("output_flag")
    if c.has_ended("is_first_edition"):
        return
    if c.flag("prompt_update_flag"):
        c.text("prompt")
    if c.flag("seed_update_flag"):
        c.u(16, "seed")
    if c.flag("selected_input_flag"):
        c.ue("num_input_pic_shift")


class _Reading:
    """Takes the values from a payload."""

    def __init__(self, payload: bytes, prefix: str) -> None:
        self._r = BitReader(payload)
        self._prefix = prefix
        self.values: dict[str, Any] = {}

    def u(self, n_bits: int, name: str) -> int:
        if n_bits < 0:
            raise self._r.error(f"{-n_bits} bits too few are announced", self._prefix + name)
        value = self._r.u(n_bits, self._prefix + name)
        return self._kept(name, value) if n_bits else 0

    def ue(self, name: str) -> int:
        return self._kept(name, self._r.ue(0, self._prefix + name, _MAX_PREFIX_BITS))

    def flag(self, name: str) -> bool:
        return self._kept(name, self._r.flag(self._prefix + name))

    def text(self, name: str) -> str:
        self._align()
        return self._kept(name, self._r.st(self._prefix + name))

    def flags(self, name: str, count: int | None = None) -> None:
        n_flags = self._r.ue(0, f"{self._prefix}num_{name}", _MAX_PREFIX_BITS) if count is None else count
        self._check_count(n_flags, name)
        self._kept(name, tuple(self._r.flag(self._prefix + name) for _ in range(n_flags)))

    def numbers(self, name: str, count: int, *, is_signed: bool = False) -> None:
        self._check_count(count, name)
        read = self._r.ie if is_signed else self._r.ue
        self._kept(name, tuple(read(0, self._prefix + name) for _ in range(count)))

    def rest(self, name: str) -> None:
        self._align()
        self._kept(name, bytes(self._r.rest()))

    def has_ended(self, name: str) -> bool:
        """Whether nothing but the trailing bits is left."""
        n_bits = self._r.remaining_bits
        has_ended = n_bits == 0 or (n_bits < 8 and self._r.u(n_bits, name) == 1 << (n_bits - 1))
        self._r.position_bits += self._r.remaining_bits - n_bits
        return self._kept(name, has_ended)

    def end(self) -> None:
        """Reads the extension and the trailing bits of the payload."""
        n_bits, is_aligned = self._r.remaining_bits, self._r.is_aligned
        if n_bits == 0:
            return
        value = self._r.u(n_bits, "payload_extension")
        n_trailing = (value & -value).bit_length()
        if n_trailing == 0 or n_trailing > 8:
            raise self._r.error("no bit equal to one in the last byte", "payload_bit_equal_to_one")
        if n_bits > n_trailing or is_aligned:
            self.values["payload_extension"] = Bits(n_bits - n_trailing, value >> n_trailing)

    def _kept(self, name: str, value: _Value) -> _Value:
        self.values[name] = value
        return value

    def _check_count(self, count: int, name: str) -> None:
        if count > self._r.remaining_bits:
            raise self._r.error(f"{count} values, and {self._r.remaining_bits} bits are left", self._prefix + name)

    def _align(self) -> None:
        if self._r.u(-self._r.position_bits % 8, "alignment_zero_bit"):
            raise self._r.error("must be zero", f"{self._prefix}alignment_zero_bit")


class _Writing:
    """Takes the values from a message, and knows which of them the syntax called for."""

    def __init__(self, message: NnpfMessage) -> None:
        self._message = message
        self._w = BitWriter()
        self.touched: list[str] = []

    def u(self, n_bits: int, name: str) -> int:
        value: int = self._value(name) if n_bits else 0
        if n_bits < 0:
            raise InputError(f"{self._named(name)}: {-n_bits} bits too few are announced for the fields before it")
        self._w.u(value, n_bits, self._named(name))
        return value

    def ue(self, name: str) -> int:
        value: int = self._value(name)
        self._w.ue(value, 0, self._named(name), _MAX_PREFIX_BITS)
        return value

    def flag(self, name: str) -> bool:
        value: bool = self._value(name)
        self._w.flag(value, self._named(name))
        return value

    def text(self, name: str) -> str:
        self._align()
        value: str = self._value(name)
        self._w.st(value, self._named(name))
        return value

    def flags(self, name: str, count: int | None = None) -> None:
        values = self._counted(name, count)
        if count is None:
            self._w.ue(len(values), 0, self._named(name), _MAX_PREFIX_BITS)
        for value in values:
            self._w.flag(value, self._named(name))

    def numbers(self, name: str, count: int, *, is_signed: bool = False) -> None:
        write = self._w.ie if is_signed else self._w.ue
        for value in self._counted(name, count):
            write(value, 0, self._named(name))

    def rest(self, name: str) -> None:
        self._align()
        self._w.raw(self._value(name))

    def has_ended(self, name: str) -> bool:
        has_ended: bool = getattr(self._message, name)
        return has_ended

    def payload(self) -> bytes:
        """All that was written, with the extension and the trailing bits."""
        extension = self._message.payload_extension
        if extension is not None:
            self._w.u(extension.value, extension.n_bits, "payload_extension")
        if extension is not None or self._w.position_bits % 8:
            self._w.align()
        return self._w.getvalue()

    def _named(self, name: str) -> str:
        return self._message.prefix + name

    def _value(self, name: str) -> Any:
        self.touched.append(name)
        return getattr(self._message, name)

    def _counted(self, name: str, count: int | None) -> Sequence[Any]:
        values: Sequence[Any] = self._value(name)
        if count is not None and len(values) != count:
            raise InputError(f"{self._named(name)}: {len(values)} values, the other fields ask for {count}")
        return values

    def _align(self) -> None:
        self._w.u(0, -self._w.position_bits % 8, "alignment_zero_bit")


def _read(message: SeiMessage, prefix: str) -> dict[str, Any]:
    reading = _Reading(message.payload, prefix)
    _walk(reading, message.payload_type)
    reading.end()
    return reading.values


def _written(message: NnpfMessage) -> bytes:
    writing = _Writing(message)
    _walk(writing, message.payload_type)
    known = {*writing.touched, "payload_extension", "is_first_edition"}
    for field in fields(message):
        if field.name not in known and getattr(message, field.name) != field.default:
            raise InputError(f"{message.prefix}{field.name}: the other fields leave no place for it")
    if "payload_byte" in known and message.payload_extension is not None:
        raise InputError("payload_extension: nothing follows the bytes of a network")
    return writing.payload()
