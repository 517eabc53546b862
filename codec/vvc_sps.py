"""Sequence parameter sets of VVC: size, window, depth, rate and colour of the pictures that refer to them.

Syntax elements have the names of ITU-T H.266, clauses 7.3.2.4 and 7.3.3 to 7.3.9; H.274 has the VUI.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias, get_args

from vvc_nnr.bitstream.bits import BitReader
from vvc_nnr.errors import BitstreamError
from vvc_nnr.sequences.frame import CHROMA_SHIFTS, ChromaFormat, ChromaLocation, ColourRange

_CHROMA_FORMATS: tuple[ChromaFormat, ...] = ("400", "420", "422", "444")
_CONSTRAINT_BITS = 71
_EXTENDED_SAMPLE_ASPECT = 255
_SAMPLE_ASPECTS = (
    *((1, 1), (12, 11), (10, 11), (16, 11), (40, 33), (24, 11), (20, 11), (32, 11)),
    *((80, 33), (18, 11), (15, 11), (64, 33), (160, 99), (4, 3), (3, 2), (2, 1)),
)
"""Width and height of a sample by vui_aspect_ratio_idc, from 1 on."""

MAX_SUBPICTURES = 1 << 12
_MAX_QP = 63
_MAX_TICKS = 1_000_000_000
"""Seconds for one picture that are no rate any more, and which no file format takes."""

PictureKind: TypeAlias = Literal["frames", "fields"]


@dataclass(frozen=True, slots=True)
class Window:
    """Luma samples to cut off at each side of a coded picture."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0


@dataclass(frozen=True, slots=True)
class Vui:
    """What a sequence says of how its samples are meant; None where it does not say.

    Attributes:
        colour_range: "limited" or "full".
        chroma_location: Where the chroma samples of 4:2:0 are.
        pixel_aspect: Width of a sample over its height.
    """

    colour_range: ColourRange | None = None
    chroma_location: ChromaLocation | None = None
    pixel_aspect: Fraction | None = None


@dataclass(frozen=True, slots=True)
class ReferenceList:
    """A list of reference pictures, as far as headers depend on it.

    Attributes:
        n_entries: Pictures in it.
        n_long_term: Those of them that are long-term reference pictures.
        lsb_in_header: Whether headers give the order counts of those.
    """

    n_entries: int
    n_long_term: int
    lsb_in_header: bool


@dataclass(frozen=True, slots=True)
class SequenceTools:
    """What the tools of a sequence put into the headers of pictures and slices.

    Attributes:
        has_partition_override: Whether headers may have partition constraints of their own.
        has_dual_tree: Whether intra slices have a partition for chroma.
        has_joint_cbcr: Whether there are joint chroma residuals.
        has_sao: Whether there is sample adaptive offset.
        has_alf: Whether there is an adaptive loop filter.
        has_ccalf: Whether it works across components.
        has_lmcs: Whether there is luma mapping.
        is_weighted: Whether there is weighted prediction.
        has_long_term: Whether there are long-term reference pictures.
        is_inter_layer: Whether other layers may be referred to.
        has_idr_lists: Whether slices of IDR pictures have reference lists.
        lists: The reference lists 0 and the lists 1 that headers may choose from.
        has_temporal_mvp: Whether motion is predicted from other pictures.
        has_bdof_control: Whether picture headers may switch BDOF off.
        has_dmvr_control: Whether they may switch DMVR off.
        has_fullpel_mmvd: Whether they may restrict MMVD to whole samples.
        has_prof_control: Whether they may switch PROF off.
        has_scaling_lists: Whether there are explicit scaling lists.
        has_header_boundaries: Whether picture headers may list virtual boundaries.
    """

    has_partition_override: bool
    has_dual_tree: bool
    has_joint_cbcr: bool
    has_sao: bool
    has_alf: bool
    has_ccalf: bool
    has_lmcs: bool
    is_weighted: bool
    has_long_term: bool
    is_inter_layer: bool
    has_idr_lists: bool
    lists: tuple[tuple[ReferenceList, ...], tuple[ReferenceList, ...]]
    has_temporal_mvp: bool
    has_bdof_control: bool
    has_dmvr_control: bool
    has_fullpel_mmvd: bool
    has_prof_control: bool
    has_scaling_lists: bool
    has_header_boundaries: bool


@dataclass(frozen=True, slots=True)
class SequenceParameters:
    """A sequence parameter set (SPS), as far as this package needs it.

    Attributes:
        chroma_format: "400", "420", "422" or "444".
        bit_depth: Bits per sample, 8 to 16.
        max_width: Luma samples per row of the largest picture.
        max_height: Luma rows of the largest picture.
        min_block_size: Luma samples across the smallest coding block; sizes of pictures are multiples of it and of 8.
        window: The conformance window of pictures of that size.
        log2_max_poc_lsb: Bits of ph_pic_order_cnt_lsb.
        poc_msb_cycle_bits: Bits of ph_poc_msb_cycle_val, 0 if it is never there.
        n_extra_header_bits: Reserved bits in each picture header.
        n_extra_slice_bits: Reserved bits in each slice header.
        subpicture_id_bits: Bits of sh_subpic_id, 0 if it is never there.
        first_subpicture: Coding tree units per row and rows of the first subpicture, None if there is only one.
        tools: What headers hold for its tools.
        fps: Pictures per second, None if the sequence does not say.
        pictures_are: "fields" if each picture is one field of an interlaced video.
        vui: How the samples are meant.
    """

    chroma_format: ChromaFormat
    bit_depth: int
    max_width: int
    max_height: int
    min_block_size: int
    window: Window
    log2_max_poc_lsb: int
    poc_msb_cycle_bits: int
    n_extra_header_bits: int
    n_extra_slice_bits: int
    subpicture_id_bits: int
    first_subpicture: tuple[int, int] | None
    tools: SequenceTools
    fps: Fraction | None
    pictures_are: PictureKind
    vui: Vui


def read_sps(rbsp: bytes, offset_bytes: int = 0) -> tuple[int, SequenceParameters]:
    """The identifier and the values of a sequence parameter set.

    Args:
        rbsp: The bytes of its NAL unit without header and emulation prevention.
        offset_bytes: Where the NAL unit is in its stream, for errors.

    Raises:
        BitstreamError: If the data ends too early or breaks the syntax.
    """
    r = SyntaxReader(rbsp, offset_bytes)
    sps_id, vps_id = r.u(4, "sps_seq_parameter_set_id"), r.u(4, "sps_video_parameter_set_id")
    n_sublayers = 1 + r.u(3, "sps_max_sublayers_minus1")
    chroma_format = _CHROMA_FORMATS[r.u(2, "sps_chroma_format_idc")]
    ctu_size = 32 << r.u(2, "sps_log2_ctu_size_minus5")
    has_hrd = r.flag("sps_ptl_dpb_hrd_params_present_flag")
    if has_hrd:
        _skip_profile(r, n_sublayers)
    r.flag("sps_gdr_enabled_flag")
    if r.flag("sps_ref_pic_resampling_enabled_flag"):
        r.flag("sps_res_change_in_clvs_allowed_flag")
    max_width, max_height = read_size(r, "sps_pic_width_max_in_luma_samples", "sps_pic_height_max_in_luma_samples")
    has_window = r.flag("sps_conformance_window_flag")
    window = window_of(read_offsets(r, "sps_conf_win_offset"), chroma_format) if has_window else Window()
    id_bits, first_subpicture = 0, None
    if r.flag("sps_subpic_info_present_flag"):
        width_ctus, height_ctus = -(-max_width // ctu_size), -(-max_height // ctu_size)
        id_bits, first_subpicture = _read_subpictures(r, width_ctus, height_ctus)
    bit_depth = 8 + r.number("sps_bitdepth_minus8", at_most=8)
    r.flags("sps_entropy_coding_sync_enabled_flag", "sps_entry_point_offsets_present_flag")
    log2_max_poc_lsb = 4 + r.u(4, "sps_log2_max_pic_order_cnt_lsb_minus4")
    has_cycle = r.flag("sps_poc_msb_cycle_flag")
    cycle_bits = 1 + r.number("sps_poc_msb_cycle_len_minus1", at_most=31) if has_cycle else 0
    extra = [r.flag("sps_extra_ph_bit_present_flag") for _ in range(8 * r.u(2, "sps_num_extra_ph_bytes"))]
    extra_slice = r.u(8 * r.u(2, "sps_num_extra_sh_bytes"), "sps_extra_sh_bit_present_flag").bit_count()
    if has_hrd:
        _skip_buffer_sizes(r, n_sublayers)
    min_block_size = 4 << r.number("sps_log2_min_luma_coding_block_size_minus2", at_most=4)
    tools = _read_tools(r, chroma_format, bit_depth, ctu_size, vps_id, log2_max_poc_lsb)
    fps = _read_timing(r, n_sublayers) if has_hrd and r.flag("sps_timing_hrd_params_present_flag") else None
    fields = r.flag("sps_field_seq_flag")
    vui = _read_vui(r) if r.flag("sps_vui_parameters_present_flag") else Vui()
    _check_end(r)
    return sps_id, SequenceParameters(
        chroma_format=chroma_format,
        bit_depth=bit_depth,
        max_width=max_width,
        max_height=max_height,
        min_block_size=min_block_size,
        window=window,
        log2_max_poc_lsb=log2_max_poc_lsb,
        poc_msb_cycle_bits=cycle_bits,
        n_extra_header_bits=sum(extra),
        n_extra_slice_bits=extra_slice,
        subpicture_id_bits=id_bits,
        first_subpicture=first_subpicture,
        tools=tools,
        fps=fps,
        pictures_are="fields" if fields else "frames",
        vui=vui,
    )


class SyntaxReader(BitReader):
    """A bit reader with the descriptors of H.266; each names the syntax element that it reads.

    Args:
        rbsp: The bytes of a NAL unit without its header and without emulation prevention.
        offset_bytes: Where the NAL unit is in its stream, for errors.
    """

    __slots__ = ("_offset_bytes",)

    def __init__(self, rbsp: bytes, offset_bytes: int = 0) -> None:
        super().__init__(rbsp)
        self._offset_bytes = offset_bytes

    def error(self, message: str, field: str) -> BitstreamError:
        """A BitstreamError at the NAL unit that is read."""
        return BitstreamError(message, field=field, offset_bytes=self._offset_bytes)

    def flags(self, *fields: str) -> list[bool]:
        """One bit per name."""
        return [self.flag(field) for field in fields]

    def number(self, field: str, at_most: int = 1 << 16) -> int:
        """An unsigned Exp-Golomb code, ue(v)."""
        value = self.ue(0, field, max_prefix_bits=32)
        if value > at_most:
            raise self.error(f"{value}, must be at most {at_most}", field)
        return value

    def numbers(self, *fields: str) -> list[int]:
        """One unsigned Exp-Golomb code per name; these may be as large as 32 bits allow."""
        return [self.number(field, at_most=(1 << 32) - 1) for field in fields]

    def signed(self, field: str, count: int = 1) -> None:
        """Passes over signed Exp-Golomb codes, se(v)."""
        for _ in range(count):
            self.ue(0, field, max_prefix_bits=32)


def read_size(r: SyntaxReader, width_field: str, height_field: str) -> tuple[int, int]:
    """Luma samples per row and rows of a picture."""
    width, height = r.number(width_field), r.number(height_field)
    if not (width and height):
        raise r.error(f"a picture of {width}x{height}", width_field)
    return width, height


def read_offsets(r: SyntaxReader, field: str) -> tuple[int, int, int, int]:
    """A window's left, right, top and bottom, in chroma samples."""
    left, right, top, bottom = (r.number(field) for _ in range(4))
    return left, right, top, bottom


def window_of(offsets: tuple[int, int, int, int], chroma_format: ChromaFormat) -> Window:
    """The window in luma samples; offsets count chroma samples."""
    dx, dy = CHROMA_SHIFTS.get(chroma_format, (0, 0))
    left, right, top, bottom = offsets
    return Window(left << dx, right << dx, top << dy, bottom << dy)


def _align(r: SyntaxReader, field: str) -> None:
    r.u(-r.position_bits % 8, field)


def _skip_profile(r: SyntaxReader, n_sublayers: int) -> None:
    """profile_tier_level()."""
    r.u(16, "general_profile_idc")
    r.flags("ptl_frame_only_constraint_flag", "ptl_multilayer_enabled_flag")
    if r.flag("gci_present_flag"):
        r.u(_CONSTRAINT_BITS, "general_constraints_info")
        r.u(r.u(8, "gci_num_additional_bits"), "gci_reserved_bit")
    _align(r, "gci_alignment_zero_bit")
    has_level = [r.flag("ptl_sublayer_level_present_flag") for _ in range(n_sublayers - 1)]
    _align(r, "ptl_reserved_zero_bit")
    r.u(8 * sum(has_level), "sublayer_level_idc")
    r.u(32 * r.u(8, "ptl_num_sub_profiles"), "general_sub_profile_idc")


def _read_subpictures(r: SyntaxReader, width_ctus: int, height_ctus: int) -> tuple[int, tuple[int, int] | None]:
    """Passes over the subpictures; returns the bits of their identifiers, and the size of the first of several."""
    n_subpictures = 1 + r.number("sps_num_subpics_minus1", at_most=MAX_SUBPICTURES - 1)
    first = None
    if n_subpictures > 1:
        x_bits, y_bits = (width_ctus - 1).bit_length(), (height_ctus - 1).bit_length()
        independent, same_size = r.flags("sps_independent_subpics_flag", "sps_subpic_same_size_flag")
        for i in range(n_subpictures):
            if not same_size or i == 0:
                if i > 0:
                    r.u(x_bits + y_bits, "sps_subpic_ctu_top_left")
                if i < n_subpictures - 1:
                    size = 1 + r.u(x_bits, "sps_subpic_width_minus1"), 1 + r.u(y_bits, "sps_subpic_height_minus1")
                    first = first or size
            if not independent:
                r.flags("sps_subpic_treated_as_pic_flag", "sps_loop_filter_across_subpic_enabled_flag")
    id_bits = 1 + r.number("sps_subpic_id_len_minus1", at_most=15)
    if r.flag("sps_subpic_id_mapping_explicitly_signalled_flag") and r.flag("sps_subpic_id_mapping_present_flag"):
        r.u(id_bits * n_subpictures, "sps_subpic_id")
    return id_bits, first


def _skip_buffer_sizes(r: SyntaxReader, n_sublayers: int) -> None:
    """dpb_parameters()."""
    for_each = n_sublayers > 1 and r.flag("sps_sublayer_dpb_params_flag")
    for _ in range(n_sublayers if for_each else 1):
        r.numbers("dpb_max_dec_pic_buffering_minus1", "dpb_max_num_reorder_pics", "dpb_max_latency_increase_plus1")


def _read_partitions(r: SyntaxReader, chroma_format: ChromaFormat) -> tuple[bool, bool]:
    """Passes over partition constraints; returns whether headers may override them, and whether chroma has its own."""
    has_override = r.flag("sps_partition_constraints_override_enabled_flag")
    skip_tree(r, "sps", "intra_slice_luma")
    has_dual_tree = chroma_format != "400" and r.flag("sps_qtbtt_dual_tree_intra_flag")
    if has_dual_tree:
        skip_tree(r, "sps", "intra_slice_chroma")
    skip_tree(r, "sps", "inter_slice")
    return has_override, has_dual_tree


def skip_tree(r: SyntaxReader, prefix: str, where: str) -> None:
    """Passes over the constraints on one partition tree."""
    r.number(f"{prefix}_log2_diff_min_qt_min_cb_{where}")
    if r.number(f"{prefix}_max_mtt_hierarchy_depth_{where}"):
        r.numbers(f"{prefix}_log2_diff_max_bt_min_qt_{where}", f"{prefix}_log2_diff_max_tt_min_qt_{where}")


def _read_tools(
    r: SyntaxReader, chroma_format: ChromaFormat, bit_depth: int, ctu_size: int, vps_id: int, log2_max_poc_lsb: int
) -> SequenceTools:
    """Partition constraints and tools."""
    has_chroma = chroma_format != "400"
    has_override, has_dual_tree = _read_partitions(r, chroma_format)
    has_64 = ctu_size > 32 and r.flag("sps_max_luma_transform_size_64_flag")
    has_skip = r.flag("sps_transform_skip_enabled_flag")
    if has_skip:
        r.number("sps_log2_transform_skip_max_size_minus2")
        r.flag("sps_bdpcm_enabled_flag")
    if r.flag("sps_mts_enabled_flag"):
        r.flags("sps_explicit_mts_intra_enabled_flag", "sps_explicit_mts_inter_enabled_flag")
    has_lfnst = r.flag("sps_lfnst_enabled_flag")
    has_joint_cbcr = has_chroma and _read_chroma_qp(r, bit_depth)
    has_sao = r.flag("sps_sao_enabled_flag")
    has_alf = r.flag("sps_alf_enabled_flag")
    has_ccalf = has_alf and has_chroma and r.flag("sps_ccalf_enabled_flag")
    has_lmcs = r.flag("sps_lmcs_enabled_flag")
    is_weighted = any(r.flags("sps_weighted_pred_flag", "sps_weighted_bipred_flag"))
    has_long_term = r.flag("sps_long_term_ref_pics_flag")
    is_inter_layer = vps_id > 0 and r.flag("sps_inter_layer_prediction_enabled_flag")
    has_idr_lists = r.flag("sps_idr_rpl_present_flag")
    lists: list[tuple[ReferenceList, ...]] = []
    for _ in range(1 if r.flag("sps_rpl1_same_as_rpl0_flag") else 2):
        n_lists = r.number("sps_num_ref_pic_lists", at_most=64)
        read = (
            read_reference_list(r, is_weighted, has_long_term, is_inter_layer, log2_max_poc_lsb) for _ in range(n_lists)
        )
        lists.append(tuple(read))
    temporal, bdof, dmvr, fullpel, prof = _read_inter_tools(r)
    r.flags("sps_isp_enabled_flag", "sps_mrl_enabled_flag", "sps_mip_enabled_flag")
    if has_chroma:
        r.flag("sps_cclm_enabled_flag")
    if chroma_format == "420":
        r.flags("sps_chroma_horizontal_collocated_flag", "sps_chroma_vertical_collocated_flag")
    has_palette = r.flag("sps_palette_enabled_flag")
    has_act = chroma_format == "444" and not has_64 and r.flag("sps_act_enabled_flag")
    if has_skip or has_palette:
        r.number("sps_min_qp_prime_ts")
    if r.flag("sps_ibc_enabled_flag"):
        r.number("sps_six_minus_max_num_ibc_merge_cand")
    if r.flag("sps_ladf_enabled_flag"):
        _skip_luma_adaptive_deblocking(r)
    has_scaling = r.flag("sps_explicit_scaling_list_enabled_flag")
    if has_lfnst and has_scaling:
        r.flag("sps_scaling_matrix_for_lfnst_disabled_flag")
    if has_act and has_scaling and r.flag("sps_scaling_matrix_for_alternative_colour_space_disabled_flag"):
        r.flag("sps_scaling_matrix_designated_colour_space_flag")
    r.flags("sps_dep_quant_enabled_flag", "sps_sign_data_hiding_enabled_flag")
    return SequenceTools(
        has_partition_override=has_override,
        has_dual_tree=has_dual_tree,
        has_joint_cbcr=has_joint_cbcr,
        has_sao=has_sao,
        has_alf=has_alf,
        has_ccalf=has_ccalf,
        has_lmcs=has_lmcs,
        is_weighted=is_weighted,
        has_long_term=has_long_term,
        is_inter_layer=is_inter_layer,
        has_idr_lists=has_idr_lists,
        lists=(lists[0], lists[-1]),
        has_temporal_mvp=temporal,
        has_bdof_control=bdof,
        has_dmvr_control=dmvr,
        has_fullpel_mmvd=fullpel,
        has_prof_control=prof,
        has_scaling_lists=has_scaling,
        has_header_boundaries=_has_header_boundaries(r),
    )


def _read_chroma_qp(r: SyntaxReader, bit_depth: int) -> bool:
    """Passes over the tables of chroma QPs, which must stay inside of all QPs; returns sps_joint_cbcr_enabled_flag."""
    is_joint, is_same = r.flags("sps_joint_cbcr_enabled_flag", "sps_same_qp_table_for_chroma_flag")
    least_qp = -6 * (bit_depth - 8)
    for _ in range(1 if is_same else 3 if is_joint else 2):
        luma_qp = chroma_qp = 26 + r.ie(0, "sps_qp_table_start_minus26")
        n_points = 1 + r.number("sps_num_points_in_qp_table_minus1", at_most=62)
        for _ in range(n_points):
            step, difference = r.numbers("sps_delta_qp_in_val_minus1", "sps_delta_qp_diff_val")
            luma_qp, chroma_qp = luma_qp + step + 1, chroma_qp + (step ^ difference)
            if not (least_qp <= luma_qp - step - 1 and max(luma_qp, chroma_qp) <= _MAX_QP):
                message = f"a table of chroma QPs must stay in {least_qp} to {_MAX_QP}"
                raise r.error(message, "sps_delta_qp_in_val_minus1")
    return is_joint


def read_reference_list(
    r: SyntaxReader,
    is_weighted: bool,
    has_long_term: bool,
    is_inter_layer: bool,
    log2_max_poc_lsb: int,
    *,
    in_header: bool = False,
) -> ReferenceList:
    """ref_pic_list_struct(), of a parameter set or of a header."""
    n_entries = r.number("num_ref_entries", at_most=29)
    lsb_in_header = in_header or (has_long_term and n_entries > 0 and r.flag("ltrp_in_header_flag"))
    n_long_term = 0
    for i in range(n_entries):
        if is_inter_layer and r.flag("inter_layer_ref_pic_flag"):
            r.number("ilrp_idx")
        elif not has_long_term or r.flag("st_ref_pic_flag"):
            if r.number("abs_delta_poc_st") or not (is_weighted and i):
                r.flag("strp_entry_sign_flag")
        else:
            n_long_term += 1
            r.u(0 if lsb_in_header else log2_max_poc_lsb, "rpls_poc_lsb_lt")
    return ReferenceList(n_entries, n_long_term, lsb_in_header)


def _read_inter_tools(r: SyntaxReader) -> tuple[bool, bool, bool, bool, bool]:
    """Passes over inter tools; returns whether headers control temporal MVP, BDOF, DMVR, whole-sample MMVD and PROF."""
    r.flag("sps_ref_wraparound_enabled_flag")
    has_temporal = r.flag("sps_temporal_mvp_enabled_flag")
    if has_temporal:
        r.flag("sps_sbtmvp_enabled_flag")
    has_amvr = r.flag("sps_amvr_enabled_flag")
    has_bdof = r.flag("sps_bdof_enabled_flag") and r.flag("sps_bdof_control_present_in_ph_flag")
    r.flag("sps_smvd_enabled_flag")
    has_dmvr = r.flag("sps_dmvr_enabled_flag") and r.flag("sps_dmvr_control_present_in_ph_flag")
    has_fullpel = r.flag("sps_mmvd_enabled_flag") and r.flag("sps_mmvd_fullpel_only_enabled_flag")
    n_merge = 6 - r.number("sps_six_minus_max_num_merge_cand", at_most=5)
    r.flag("sps_sbt_enabled_flag")
    has_prof = False
    if r.flag("sps_affine_enabled_flag"):
        r.number("sps_five_minus_max_num_subblock_merge_cand")
        r.flag("sps_6param_affine_enabled_flag")
        if has_amvr:
            r.flag("sps_affine_amvr_enabled_flag")
        has_prof = r.flag("sps_affine_prof_enabled_flag") and r.flag("sps_prof_control_present_in_ph_flag")
    r.flags("sps_bcw_enabled_flag", "sps_ciip_enabled_flag")
    if n_merge >= 2 and r.flag("sps_gpm_enabled_flag") and n_merge >= 3:
        r.number("sps_max_num_merge_cand_minus_max_num_gpm_cand")
    r.number("sps_log2_parallel_merge_level_minus2")
    return has_temporal, has_bdof, has_dmvr, has_fullpel, has_prof


def _skip_luma_adaptive_deblocking(r: SyntaxReader) -> None:
    n_more = 1 + r.u(2, "sps_num_ladf_intervals_minus2")
    r.signed("sps_ladf_lowest_interval_qp_offset")
    for _ in range(n_more):
        r.signed("sps_ladf_qp_offset")
        r.number("sps_ladf_delta_threshold_minus1")


def _has_header_boundaries(r: SyntaxReader) -> bool:
    """Whether virtual boundaries come in picture headers: they are enabled and not listed here."""
    if not r.flag("sps_virtual_boundaries_enabled_flag"):
        return False
    if not r.flag("sps_virtual_boundaries_present_flag"):
        return True
    skip_boundaries(r, "sps")
    return False


def skip_alf(r: SyntaxReader, sps: SequenceParameters, prefix: str) -> None:
    """Passes over the parameters of the adaptive loop filter in a header of a picture ("ph") or a slice ("sh")."""
    if not r.flag(f"{prefix}_alf_enabled_flag"):
        return
    r.u(3 * r.u(3, f"{prefix}_num_alf_aps_ids_luma"), f"{prefix}_alf_aps_id_luma")
    if sps.chroma_format != "400" and any(r.flags(f"{prefix}_alf_cb_enabled_flag", f"{prefix}_alf_cr_enabled_flag")):
        r.u(3, f"{prefix}_alf_aps_id_chroma")
    if sps.tools.has_ccalf:
        for component in ("cb", "cr"):
            if r.flag(f"{prefix}_alf_cc_{component}_enabled_flag"):
                r.u(3, f"{prefix}_alf_cc_{component}_aps_id")


def skip_boundaries(r: SyntaxReader, prefix: str) -> None:
    """Passes over the positions of vertical, then horizontal virtual boundaries."""
    for axis in ("x", "y"):
        for _ in range(r.number(f"{prefix}_num_virtual_boundaries_{axis}", at_most=3)):
            r.number(f"{prefix}_virtual_boundary_pos_{axis}_minus1")


def _read_timing(r: SyntaxReader, n_sublayers: int) -> Fraction | None:
    """Pictures per second by general_timing_hrd_parameters() and ols_timing_hrd_parameters()."""
    n_units, per_second = r.u(32, "num_units_in_tick"), r.u(32, "time_scale")
    n_kinds = sum(r.flags("general_nal_hrd_params_present_flag", "general_vcl_hrd_params_present_flag"))
    n_buffers, has_sub_units = 0, False
    if n_kinds:
        r.flag("general_same_pic_timing_in_all_ols_flag")
        has_sub_units = r.flag("general_du_hrd_params_present_flag")
        r.u(8 * has_sub_units, "tick_divisor_minus2")
        r.u(8 + 4 * has_sub_units, "bit_rate_scale")
        n_buffers = 1 + r.number("hrd_cpb_cnt_minus1", at_most=31)
    for_each = n_sublayers > 1 and r.flag("sps_sublayer_cpb_params_present_flag")
    n_ticks = 1
    for _ in range(n_sublayers if for_each else 1):
        if r.flag("fixed_pic_rate_general_flag") or r.flag("fixed_pic_rate_within_cvs_flag"):
            n_ticks = 1 + r.number("elemental_duration_in_tc_minus1", at_most=2047)
        elif n_kinds and n_buffers == 1:
            r.flag("low_delay_hrd_flag")
        for _ in range(n_kinds * n_buffers):
            r.numbers("bit_rate_value_minus1", "cpb_size_value_minus1")
            if has_sub_units:
                r.numbers("cpb_size_du_value_minus1", "bit_rate_du_value_minus1")
            r.flag("cbr_flag")
    if not (per_second and n_units):
        return None
    return Fraction(per_second, n_units * n_ticks).limit_denominator(_MAX_TICKS) or None


def _read_vui(r: SyntaxReader) -> Vui:
    """vui_payload()."""
    size_bytes = 1 + r.number("sps_vui_payload_size_minus1", at_most=1023)
    _align(r, "sps_vui_alignment_zero_bit")
    end_bits = r.position_bits + 8 * size_bytes
    vui = _read_vui_parameters(r)
    if r.position_bits > end_bits:
        raise r.error(f"the VUI is longer than its {size_bytes} bytes", "sps_vui_payload_size_minus1")
    r.u(end_bits - r.position_bits, "vui_reserved_payload_extension_data")
    return vui


def _read_vui_parameters(r: SyntaxReader) -> Vui:
    is_progressive, is_interlaced = r.flags("vui_progressive_source_flag", "vui_interlaced_source_flag")
    r.flags("vui_non_packed_constraint_flag", "vui_non_projected_constraint_flag")
    pixel_aspect = _read_pixel_aspect(r) if r.flag("vui_aspect_ratio_info_present_flag") else None
    if r.flag("vui_overscan_info_present_flag"):
        r.flag("vui_overscan_appropriate_flag")
    colour_range: ColourRange | None = None
    if r.flag("vui_colour_description_present_flag"):
        r.u(24, "vui_colour_primaries")
        colour_range = "full" if r.flag("vui_full_range_flag") else "limited"
    location = 6
    if r.flag("vui_chroma_loc_info_present_flag"):
        location = r.number("vui_chroma_sample_loc_type", at_most=6)
        if not is_progressive or is_interlaced:
            r.number("vui_chroma_sample_loc_type_bottom_field", at_most=6)
    locations = (*get_args(ChromaLocation), None)
    return Vui(colour_range, locations[location], pixel_aspect)


def _read_pixel_aspect(r: SyntaxReader) -> Fraction | None:
    r.flag("vui_aspect_ratio_constant_flag")
    index = r.u(8, "vui_aspect_ratio_idc")
    if index == _EXTENDED_SAMPLE_ASPECT:
        width, height = r.u(16, "vui_sar_width"), r.u(16, "vui_sar_height")
    elif 1 <= index <= len(_SAMPLE_ASPECTS):
        width, height = _SAMPLE_ASPECTS[index - 1]
    else:
        return None
    return Fraction(width, height) if width and height else None


def _check_end(r: SyntaxReader) -> None:
    """Checks that the set ends here, which it does only where all of it was understood."""
    if r.flag("sps_extension_flag"):
        return
    is_end = r.flag("rbsp_stop_one_bit") and r.remaining_bits < 8
    if not is_end or r.u(r.remaining_bits, "rbsp_alignment_zero_bit"):
        raise r.error("the set does not end where it must", "rbsp_trailing_bits")
