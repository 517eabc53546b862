"""The QP of each picture of a VVC stream, out of its headers, which is what a post-filter is told of the quality.

A picture's QP is that of its first slice: 26 + pps_init_qp_minus26 + ph_qp_delta or sh_qp_delta (ITU-T H.266,
clauses 7.3.2.5, 7.3.2.8, 7.3.7 and 7.4.8). Its other slices and its coding units may differ from it; they are not read.
"""

from __future__ import annotations

from dataclasses import dataclass

from vvc_nnr.codec.nal import (
    GDR,
    IDR_TYPES,
    INTRA_TYPES,
    LAST_SLICE_TYPE,
    PICTURE_HEADER,
    PPS,
    RESERVED_SLICE_TYPES,
    SPS,
    NalUnit,
    nal_units,
    remove_emulation_prevention,
)
from vvc_nnr.codec.vvc_pps import PictureParameters, PictureTools, read_pps
from vvc_nnr.codec.vvc_sps import (
    ReferenceList,
    SequenceParameters,
    SyntaxReader,
    read_reference_list,
    read_sps,
    skip_alf,
    skip_boundaries,
    skip_tree,
)
from vvc_nnr.codec.vvc_stream import VvcStream
from vvc_nnr.errors import BitstreamError

_HEADER_BYTES = 4096
"""More than the headers of a slice with two lists of reference pictures and their weights need."""

_MAX_QP = 63
_B, _P, _I = 0, 1, 2


@dataclass(frozen=True, slots=True)
class _Sets:
    """The parameter sets of a picture."""

    sps: SequenceParameters
    pps: PictureParameters
    tools: PictureTools


@dataclass(frozen=True, slots=True)
class _PictureHeader:
    """What slice headers depend on in the header of their picture.

    Attributes:
        lists: The lists of reference pictures of all of its slices, None if slices have their own.
        qp: The QP of all of its slices, None if slices have their own.
    """

    sets: _Sets
    may_be_inter: bool
    has_lmcs: bool
    has_scaling_list: bool
    has_temporal_mvp: bool
    lists: tuple[ReferenceList, ReferenceList] | None
    qp: int | None


def picture_qps(stream: VvcStream) -> tuple[int, ...]:
    """The QP of the first slice of each picture in decoding order, -48 to 63, negative only above 8 bit.

    Raises:
        BitstreamError: If a header breaks the syntax.
    """
    sequence_sets: dict[int, SequenceParameters] = {}
    picture_sets: dict[int, PictureParameters] = {}
    header: _PictureHeader | None = None
    qps: list[int] = []
    for nal in nal_units(stream.data):
        kind = nal.nal_unit_type
        if kind == SPS:
            sps_id, sps = read_sps(remove_emulation_prevention(nal.payload), nal.offset_bytes)
            sequence_sets[sps_id] = sps
        elif kind == PPS:
            pps_id, pps = read_pps(remove_emulation_prevention(nal.payload), nal.offset_bytes)
            picture_sets[pps_id] = pps
        elif kind == PICTURE_HEADER:
            header = _read_picture_header(_syntax(nal), picture_sets, sequence_sets)
        elif kind <= LAST_SLICE_TYPE and kind not in RESERVED_SLICE_TYPES:
            r = _syntax(nal)
            in_slice = r.flag("sh_picture_header_in_slice_header_flag")
            if in_slice:
                header = _read_picture_header(r, picture_sets, sequence_sets)
            if header is not None:
                qps.append(_read_qp(r, header, kind, in_slice=in_slice))
                header = None  # the QP of a picture is that of its first slice
    if len(qps) != len(stream.pictures):
        raise BitstreamError(f"QPs of {len(qps)} pictures, and the stream holds {len(stream.pictures)}")
    return tuple(qps)


def output_qps(stream: VvcStream) -> tuple[int, ...]:
    """The QP of the first slice of each picture that is output, in that order, 0 where it is negative.

    Raises:
        BitstreamError: If a header breaks the syntax.
    """
    qps = picture_qps(stream)
    return tuple(max(0, qps[index]) for index in stream.output_order)


def _syntax(nal: NalUnit) -> SyntaxReader:
    return SyntaxReader(remove_emulation_prevention(nal.payload[:_HEADER_BYTES]), nal.offset_bytes)


def _sets(
    r: SyntaxReader,
    pps_id: int,
    picture_sets: dict[int, PictureParameters],
    sequence_sets: dict[int, SequenceParameters],
) -> _Sets:
    pps = picture_sets.get(pps_id)
    sps = sequence_sets.get(pps.sps_id) if pps is not None else None
    if pps is None or sps is None:
        raise r.error(f"the parameter sets {pps_id} of a picture are not there", "ph_pic_parameter_set_id")
    if pps.tools is None:
        raise r.error(f"the picture parameter set {pps_id} breaks the syntax", "ph_pic_parameter_set_id")
    return _Sets(sps, pps, pps.tools)


def _read_picture_header(
    r: SyntaxReader, picture_sets: dict[int, PictureParameters], sequence_sets: dict[int, SequenceParameters]
) -> _PictureHeader:
    """picture_header_structure() up to ph_joint_cbcr_sign_flag."""
    is_random_access, is_non_reference = r.flags("ph_gdr_or_irap_pic_flag", "ph_non_ref_pic_flag")
    is_gdr = is_random_access and r.flag("ph_gdr_pic_flag")
    may_be_inter = r.flag("ph_inter_slice_allowed_flag")
    may_be_intra = not may_be_inter or r.flag("ph_intra_slice_allowed_flag")
    sets = _sets(r, r.number("ph_pic_parameter_set_id", at_most=63), picture_sets, sequence_sets)
    sps, pps = sets.sps, sets.pps
    r.u(sps.log2_max_poc_lsb, "ph_pic_order_cnt_lsb")
    if is_gdr:
        r.number("ph_recovery_poc_cnt")
    r.u(sps.n_extra_header_bits, "ph_extra_bit")
    if sps.poc_msb_cycle_bits and r.flag("ph_poc_msb_cycle_present_flag"):
        r.u(sps.poc_msb_cycle_bits, "ph_poc_msb_cycle_val")
    in_header = sets.tools.in_header
    if in_header.alf and sps.tools.has_alf:
        skip_alf(r, sps, "ph")
    has_lmcs = sps.tools.has_lmcs and r.flag("ph_lmcs_enabled_flag")
    if has_lmcs:
        r.u(2, "ph_lmcs_aps_id")
        if sps.chroma_format != "400":
            r.flag("ph_chroma_residual_scale_flag")
    has_scaling_list = sps.tools.has_scaling_lists and r.flag("ph_explicit_scaling_list_enabled_flag")
    if has_scaling_list:
        r.u(3, "ph_scaling_list_aps_id")
    if sps.tools.has_header_boundaries and r.flag("ph_virtual_boundaries_present_flag"):
        skip_boundaries(r, "ph")
    if pps.has_output_flag and not is_non_reference:
        r.flag("ph_pic_output_flag")
    lists = _read_reference_lists(r, sets) if in_header.lists else None
    has_temporal_mvp = False
    overrides = sps.tools.has_partition_override and r.flag("ph_partition_constraints_override_flag")
    if may_be_intra:
        _skip_intra_partitions(r, sets, overrides=overrides)
    if may_be_inter:
        has_temporal_mvp = _skip_motion(r, sets, lists, overrides=overrides)
    qp = _qp(r, sets, "ph_qp_delta") if in_header.qp else None
    if sps.tools.has_joint_cbcr:
        r.flag("ph_joint_cbcr_sign_flag")
    return _PictureHeader(sets, may_be_inter, has_lmcs, has_scaling_list, has_temporal_mvp, lists, qp)


def _skip_intra_partitions(r: SyntaxReader, sets: _Sets, *, overrides: bool) -> None:
    if overrides:
        skip_tree(r, "ph", "intra_slice_luma")
        if sets.sps.tools.has_dual_tree:
            skip_tree(r, "ph", "intra_slice_chroma")
    _skip_subdivisions(r, sets.tools, "intra_slice")


def _skip_motion(
    r: SyntaxReader, sets: _Sets, lists: tuple[ReferenceList, ReferenceList] | None, *, overrides: bool
) -> bool:
    """Passes over partitions, switches and weights of inter slices; returns ph_temporal_mvp_enabled_flag."""
    sps = sets.sps.tools
    if overrides:
        skip_tree(r, "ph", "inter_slice")
    _skip_subdivisions(r, sets.tools, "inter_slice")
    has_temporal_mvp = sps.has_temporal_mvp and r.flag("ph_temporal_mvp_enabled_flag")
    if has_temporal_mvp and lists is not None:
        from_first = lists[1].n_entries == 0 or r.flag("ph_collocated_from_l0_flag")
        if lists[0 if from_first else 1].n_entries > 1:
            r.number("ph_collocated_ref_idx", at_most=14)
    if sps.has_fullpel_mmvd:
        r.flag("ph_mmvd_fullpel_only_flag")
    if lists is None or lists[1].n_entries:
        r.flag("ph_mvd_l1_zero_flag")
        if sps.has_bdof_control:
            r.flag("ph_bdof_disabled_flag")
        if sps.has_dmvr_control:
            r.flag("ph_dmvr_disabled_flag")
    if sps.has_prof_control:
        r.flag("ph_prof_disabled_flag")
    if sets.tools.in_header.weights:
        _skip_weight_table(r, sets, lists, n_active=None)
    return has_temporal_mvp


def _skip_subdivisions(r: SyntaxReader, tools: PictureTools, where: str) -> None:
    if tools.has_qp_delta:
        r.number(f"ph_cu_qp_delta_subdiv_{where}")
    if tools.has_chroma_qp_offsets:
        r.number(f"ph_cu_chroma_qp_offset_subdiv_{where}")


def _read_qp(r: SyntaxReader, header: _PictureHeader, kind: int, *, in_slice: bool) -> int:
    """slice_header() behind the picture header up to sh_qp_delta; returns the slice's QP."""
    if header.qp is not None:
        return header.qp
    sps, tools = header.sets.sps, header.sets.tools
    r.u(sps.subpicture_id_bits, "sh_subpic_id")
    _skip_address(r, header.sets)
    slice_type = r.number("sh_slice_type", at_most=_I) if header.may_be_inter else _I
    if kind in INTRA_TYPES or kind == GDR:
        r.flag("sh_no_output_of_prior_pics_flag")
    if sps.tools.has_alf and not tools.in_header.alf:
        skip_alf(r, sps, "sh")
    if header.has_lmcs and not in_slice:
        r.flag("sh_lmcs_used_flag")
    if header.has_scaling_list and not in_slice:
        r.flag("sh_explicit_scaling_list_used_flag")
    lists = header.lists or (ReferenceList(0, 0, False),) * 2
    if header.lists is None and (kind not in IDR_TYPES or sps.tools.has_idr_lists):
        lists = _read_reference_lists(r, header.sets)
    n_active = _read_active(r, tools, slice_type, lists)
    if slice_type != _I:
        _skip_prediction(r, header, slice_type, n_active)
    return _qp(r, header.sets, "sh_qp_delta")


def _qp(r: SyntaxReader, sets: _Sets, field: str) -> int:
    """The QP that a field gives as a difference."""
    qp = sets.tools.init_qp + r.ie(0, field)
    lowest = -6 * (sets.sps.bit_depth - 8)
    if not lowest <= qp <= _MAX_QP:
        raise r.error(f"a slice QP of {qp}, must be {lowest} to {_MAX_QP}", field)
    return qp


def _skip_address(r: SyntaxReader, sets: _Sets) -> None:
    """Passes over sh_slice_address, the reserved bits behind it, and sh_num_tiles_in_slice_minus1."""
    partition = sets.tools.partition
    address = 0
    if partition is not None:
        address = r.u(partition.address_bits(sets.sps.first_subpicture), "sh_slice_address")
    r.u(sets.sps.n_extra_slice_bits, "sh_extra_bit")
    if partition is not None and not partition.has_rectangles and partition.n_tiles - address > 1:
        r.number("sh_num_tiles_in_slice_minus1")


def _read_reference_lists(r: SyntaxReader, sets: _Sets) -> tuple[ReferenceList, ReferenceList]:
    """ref_pic_lists()."""
    sps, found = sets.sps, []
    is_from_sps, index = False, 0
    for i, known in enumerate(sps.tools.lists):
        is_told = i == 0 or sets.tools.has_rpl1_idx  # else list 1 follows list 0
        if not known:
            is_from_sps = False
        elif is_told:
            is_from_sps = r.flag("rpl_sps_flag")
        if is_from_sps:
            if is_told:
                index = r.u((len(known) - 1).bit_length(), "rpl_idx")
            if index >= len(known):
                raise r.error(f"list {index} of {len(known)}", "rpl_idx")
            chosen = known[index]
        else:
            t = sps.tools
            chosen = read_reference_list(
                r, t.is_weighted, t.has_long_term, t.is_inter_layer, sps.log2_max_poc_lsb, in_header=True
            )
        for _ in range(chosen.n_long_term):
            if chosen.lsb_in_header:
                r.u(sps.log2_max_poc_lsb, "poc_lsb_lt")
            if r.flag("delta_poc_msb_cycle_present_flag"):
                r.numbers("delta_poc_msb_cycle_lt")
        found.append(chosen)
    return found[0], found[1]


def _read_active(
    r: SyntaxReader, tools: PictureTools, slice_type: int, lists: tuple[ReferenceList, ReferenceList]
) -> tuple[int, int]:
    """How many pictures of each list the slice uses."""
    used = {_B: 2, _P: 1, _I: 0}[slice_type]
    overrides = any(each.n_entries > 1 for each in lists[:used]) and r.flag("sh_num_ref_idx_active_override_flag")
    active = [0, 0]
    for i, each in enumerate(lists[:used]):
        if not overrides:
            active[i] = min(each.n_entries, tools.default_active[i])
        elif each.n_entries > 1:
            active[i] = 1 + r.number("sh_num_ref_idx_active_minus1", at_most=14)
        else:
            active[i] = 1
    return active[0], active[1]


def _skip_prediction(r: SyntaxReader, header: _PictureHeader, slice_type: int, n_active: tuple[int, int]) -> None:
    """Passes over what P and B slices have before their QP."""
    tools = header.sets.tools
    if tools.has_cabac_init:
        r.flag("sh_cabac_init_flag")
    if header.has_temporal_mvp and header.lists is None:
        from_first = slice_type == _P or r.flag("sh_collocated_from_l0_flag")
        if n_active[0 if from_first else 1] > 1:
            r.number("sh_collocated_ref_idx", at_most=14)
    is_weighted = (slice_type == _P and tools.is_weighted) or (slice_type == _B and tools.is_biweighted)
    if is_weighted and not tools.in_header.weights:
        _skip_weight_table(r, header.sets, header.lists, n_active)


def _skip_weight_table(
    r: SyntaxReader,
    sets: _Sets,
    lists: tuple[ReferenceList, ReferenceList] | None,
    n_active: tuple[int, int] | None,
) -> None:
    """pred_weight_table(); in a picture header, where no pictures are active yet, it says how many weights it has."""
    has_chroma = sets.sps.chroma_format != "400"
    r.number("luma_log2_weight_denom", at_most=7)
    if has_chroma:
        r.signed("delta_chroma_log2_weight_denom")
    for i in range(2 if sets.tools.is_biweighted else 1):
        if n_active is not None:
            count = n_active[i]
        elif i == 0 or (lists is not None and lists[1].n_entries):
            count = r.number(f"num_l{i}_weights", at_most=15)
        else:
            count = 0
        _skip_weights(r, count, has_chroma=has_chroma)


def _skip_weights(r: SyntaxReader, count: int, *, has_chroma: bool) -> None:
    luma = [r.flag("luma_weight_flag") for _ in range(count)]
    chroma = [has_chroma and r.flag("chroma_weight_flag") for _ in range(count if has_chroma else 0)]
    for i in range(count):
        if luma[i]:
            r.signed("delta_luma_weight", 2)
        if has_chroma and chroma[i]:
            r.signed("delta_chroma_weight", 4)
