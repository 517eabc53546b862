"""Picture parameter sets of VVC: size, window and tools of the pictures that refer to them, and how they are divided.

Syntax elements and variables have the names of ITU-T H.266, clauses 6.5.1, 7.3.2.5 and 7.4.3.5.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vvc_nnr.codec.vvc_sps import (
    MAX_SUBPICTURES,
    SequenceParameters,
    SyntaxReader,
    Window,
    read_offsets,
    read_size,
    window_of,
)
from vvc_nnr.errors import BitstreamError

_MAX_SLICES = 1 << 14


@dataclass(frozen=True, slots=True)
class PictureTools:
    """What a picture parameter set says of the headers of slices, and their first QP.

    Attributes:
        has_cabac_init: Whether slices choose tables of the arithmetic coder.
        default_active: Reference pictures of a list that are used where a slice does not say.
        has_rpl1_idx: Whether lists 1 are chosen on their own.
        is_weighted: Whether P slices have weights.
        is_biweighted: Whether B slices have.
        init_qp: The QP that those of slices differ from.
        has_qp_delta: Whether coding units have QPs of their own.
        has_chroma_qp_offsets: Whether they have chroma QPs of their own.
        has_deblocking: Whether blocks are deblocked unless a slice says otherwise.
        partition: How pictures are divided; None: one tile, one slice.
        in_header: What picture headers say in the place of slice headers.
    """

    has_cabac_init: bool
    default_active: tuple[int, int]
    has_rpl1_idx: bool
    is_weighted: bool
    is_biweighted: bool
    init_qp: int
    has_qp_delta: bool
    has_chroma_qp_offsets: bool
    has_deblocking: bool
    partition: Partition | None
    in_header: InPictureHeader


@dataclass(frozen=True, slots=True)
class InPictureHeader:
    """What the headers of pictures in tiles or slices say once for all of their slices.

    Attributes:
        lists: The lists of reference pictures.
        alf: The parameters of the adaptive loop filter.
        weights: The weights of prediction.
        qp: The QP.
    """

    lists: bool = False
    alf: bool = False
    weights: bool = False
    qp: bool = False


@dataclass(frozen=True, slots=True)
class PictureParameters:
    """A picture parameter set (PPS), as far as this package needs it.

    Attributes:
        sps_id: The sequence parameter set that it refers to.
        width: Luma samples per coded row.
        height: Coded luma rows.
        offsets: Its own conformance window (left, right, top, bottom) in chroma samples, None if it has none.
        has_output_flag: Whether picture headers may say that a picture is not output.
        is_one_tile: Whether pictures have one tile and one slice.
        tools: What it says of headers; None where it breaks the syntax behind the values above.
    """

    sps_id: int
    width: int
    height: int
    offsets: tuple[int, int, int, int] | None
    has_output_flag: bool
    is_one_tile: bool
    tools: PictureTools | None = None

    def window(self, sps: SequenceParameters) -> Window:
        """The conformance window of pictures with these parameters.

        Raises:
            BitstreamError: If it leaves nothing of the picture.
        """
        if self.offsets is not None:
            window = window_of(self.offsets, sps.chroma_format)
        elif (self.width, self.height) == (sps.max_width, sps.max_height):
            window = sps.window
        else:
            window = Window()
        if window.left + window.right >= self.width or window.top + window.bottom >= self.height:
            message = f"the conformance window leaves nothing of a picture of {self.width}x{self.height}"
            raise BitstreamError(message, field="conf_win_offset")
        return window

    def check_size(self, sps: SequenceParameters) -> None:
        """Checks that pictures with these parameters are whole blocks and no larger than the sequence allows.

        Raises:
            BitstreamError: If they are not.
        """
        unit = max(8, sps.min_block_size)
        if self.width % unit or self.height % unit:
            message = f"pictures of {self.width}x{self.height}, must be multiples of {unit}"
        elif self.width > sps.max_width or self.height > sps.max_height:
            most = f"{sps.max_width}x{sps.max_height}"
            message = f"pictures of {self.width}x{self.height}, must be at most {most}, as their sequence states"
        else:
            return
        raise BitstreamError(message, field="pps_pic_width_in_luma_samples")


def read_pps(rbsp: bytes, offset_bytes: int = 0) -> tuple[int, PictureParameters]:
    """The identifier and the values of a picture parameter set.

    Args:
        rbsp: The bytes of its NAL unit without header and emulation prevention.
        offset_bytes: Where the NAL unit is in its stream, for errors.

    Raises:
        BitstreamError: If the data ends too early or breaks the syntax.
    """
    r = SyntaxReader(rbsp, offset_bytes)
    pps_id, parameters = _read_picture_parameters(r)
    try:
        return pps_id, replace(parameters, tools=_read_picture_tools(r, parameters))
    except BitstreamError:  # no picture hangs on what follows
        return pps_id, parameters


def _read_picture_parameters(r: SyntaxReader) -> tuple[int, PictureParameters]:
    pps_id, sps_id = r.u(6, "pps_pic_parameter_set_id"), r.u(4, "pps_seq_parameter_set_id")
    r.flag("pps_mixed_nalu_types_in_pic_flag")
    width, height = read_size(r, "pps_pic_width_in_luma_samples", "pps_pic_height_in_luma_samples")
    offsets = read_offsets(r, "pps_conf_win_offset") if r.flag("pps_conformance_window_flag") else None
    if r.flag("pps_scaling_window_explicit_signalling_flag"):
        r.signed("pps_scaling_win_offset", 4)
    has_output_flag, is_one_tile = r.flags("pps_output_flag_present_flag", "pps_no_pic_partition_flag")
    return pps_id, PictureParameters(sps_id, width, height, offsets, has_output_flag, is_one_tile)


def _read_picture_tools(r: SyntaxReader, parameters: PictureParameters) -> PictureTools:
    """The picture parameter set from pps_subpic_id_mapping_present_flag on."""
    is_divided = not parameters.is_one_tile
    if r.flag("pps_subpic_id_mapping_present_flag"):
        n_subpictures = 1 + (r.number("pps_num_subpics_minus1", at_most=MAX_SUBPICTURES - 1) if is_divided else 0)
        r.u(n_subpictures * (1 + r.number("pps_subpic_id_len_minus1", at_most=15)), "pps_subpic_id")
    partition = _read_partition(r, parameters) if is_divided else None
    has_cabac_init = r.flag("pps_cabac_init_present_flag")
    first, second = (1 + r.number("pps_num_ref_idx_default_active_minus1", at_most=14) for _ in range(2))
    has_rpl1_idx, is_weighted, is_biweighted = r.flags(
        "pps_rpl1_idx_present_flag", "pps_weighted_pred_flag", "pps_weighted_bipred_flag"
    )
    if r.flag("pps_ref_wraparound_enabled_flag"):
        r.number("pps_pic_width_minus_wraparound_offset")
    init_qp = 26 + r.ie(0, "pps_init_qp_minus26")
    has_qp_delta = r.flag("pps_cu_qp_delta_enabled_flag")
    has_offsets, has_lists = r.flag("pps_chroma_tool_offsets_present_flag"), False
    if has_offsets:
        has_lists = _read_chroma_offsets(r)
    has_deblocking = _read_deblocking(r, has_chroma_offsets=has_offsets, is_divided=is_divided)
    in_header = _read_in_header(r, is_weighted=is_weighted or is_biweighted) if is_divided else InPictureHeader()
    return PictureTools(
        has_cabac_init, (first, second), has_rpl1_idx, is_weighted, is_biweighted, init_qp, has_qp_delta, has_lists,
        has_deblocking, partition, in_header,
    )  # fmt: skip


def _read_in_header(r: SyntaxReader, *, is_weighted: bool) -> InPictureHeader:
    has_lists = r.flag("pps_rpl_info_in_ph_flag")
    _, has_alf = r.flags("pps_sao_info_in_ph_flag", "pps_alf_info_in_ph_flag")
    has_weights = is_weighted and has_lists and r.flag("pps_wp_info_in_ph_flag")
    return InPictureHeader(has_lists, has_alf, has_weights, r.flag("pps_qp_delta_info_in_ph_flag"))


def _read_chroma_offsets(r: SyntaxReader) -> bool:
    """Passes over the offsets; returns whether blocks may have some of their own."""
    r.signed("pps_chroma_qp_offset", 2)
    is_joint = r.flag("pps_joint_cbcr_qp_offset_present_flag")
    if is_joint:
        r.signed("pps_joint_cbcr_qp_offset_value")
    r.flag("pps_slice_chroma_qp_offsets_present_flag")
    has_lists = r.flag("pps_cu_chroma_qp_offset_list_enabled_flag")
    if has_lists:
        for _ in range(1 + r.number("pps_chroma_qp_offset_list_len_minus1", at_most=5)):
            r.signed("pps_chroma_qp_offset_list", 3 if is_joint else 2)
    return has_lists


def _read_deblocking(r: SyntaxReader, *, has_chroma_offsets: bool, is_divided: bool) -> bool:
    if not r.flag("pps_deblocking_filter_control_present_flag"):
        return True
    may_override, is_disabled = r.flags(
        "pps_deblocking_filter_override_enabled_flag", "pps_deblocking_filter_disabled_flag"
    )
    if is_divided and may_override:
        r.flag("pps_dbf_info_in_ph_flag")
    if not is_disabled:
        r.signed("pps_deblocking_offset", 6 if has_chroma_offsets else 2)
    return not is_disabled


@dataclass(frozen=True, slots=True)
class Partition:
    """How a picture is divided into tiles and slices.

    Attributes:
        n_tiles: Number of tiles.
        has_rectangles: Whether slices are rectangles; else they are runs of tiles.
        slice_places: Column and row of the first coding tree unit of each rectangular slice; empty if subpictures have
            one slice each.
    """

    n_tiles: int
    has_rectangles: bool
    slice_places: tuple[tuple[int, int], ...]

    def address_bits(self, first_subpicture: tuple[int, int] | None) -> int:
        """Bits of sh_slice_address in the first slice of a picture.

        Args:
            first_subpicture: Coding tree units per row and rows of the first subpicture, None if there is only one.
        """
        if not self.has_rectangles:
            return (self.n_tiles - 1).bit_length()
        n_slices = len(self.slice_places)
        if first_subpicture is not None:
            width, height = first_subpicture
            n_slices = sum(x < width and y < height for x, y in self.slice_places)
        return max(0, n_slices - 1).bit_length()


def _read_partition(r: SyntaxReader, parameters: PictureParameters) -> Partition:
    """The picture parameter set from pps_log2_ctu_size_minus5 to pps_loop_filter_across_slices_enabled_flag."""
    ctu_size = 32 << r.u(2, "pps_log2_ctu_size_minus5")
    columns, rows = -(-parameters.width // ctu_size), -(-parameters.height // ctu_size)
    n_columns = 1 + r.number("pps_num_exp_tile_columns_minus1", at_most=columns - 1)
    n_rows = 1 + r.number("pps_num_exp_tile_rows_minus1", at_most=rows - 1)
    widths = _read_sizes(r, "pps_tile_column_width_minus1", n_columns, columns)
    heights = _read_sizes(r, "pps_tile_row_height_minus1", n_rows, rows)
    n_tiles = len(widths) * len(heights)
    has_rectangles = n_tiles == 1
    if n_tiles > 1:
        _, has_rectangles = r.flags("pps_loop_filter_across_tiles_enabled_flag", "pps_rect_slice_flag")
    is_one_each = has_rectangles and r.flag("pps_single_slice_per_subpic_flag")
    places = _read_slices(r, widths, heights) if has_rectangles and not is_one_each else []
    if len(places) != 1:
        r.flag("pps_loop_filter_across_slices_enabled_flag")
    return Partition(n_tiles, has_rectangles, tuple(places))


def _read_sizes(r: SyntaxReader, field: str, count: int, total: int) -> list[int]:
    """Sizes that are listed, the last of which is repeated until the total is reached.

    Raises:
        BitstreamError: If those that are listed are more than the total.
    """
    sizes = [1 + r.number(field) for _ in range(count)]
    rest = total - sum(sizes)
    if rest < 0:
        raise r.error(f"coding tree units of {sum(sizes)} in all, there are {total}", field)
    whole, remainder = divmod(rest, sizes[-1])
    return sizes + [sizes[-1]] * whole + [remainder] * (remainder > 0)


def _read_slices(r: SyntaxReader, widths: Sequence[int], heights: Sequence[int]) -> list[tuple[int, int]]:
    """Rectangular slices of tiles, or of rows of a tile: column and row of the first coding tree unit of each."""
    n_columns, n_rows = len(widths), len(heights)
    left, top = ([0, *itertools.accumulate(sizes)] for sizes in (widths, heights))
    n_slices = 1 + r.number("pps_num_slices_in_pic_minus1", at_most=_MAX_SLICES - 1)
    has_deltas = n_slices > 2 and r.flag("pps_tile_idx_delta_present_flag")
    places: list[tuple[int, int]] = []
    tile, n_across, n_down = 0, 1, 1
    while len(places) < n_slices:
        if not 0 <= tile < n_columns * n_rows:
            raise r.error(f"a slice begins with tile {tile} of {n_columns * n_rows}", "pps_num_slices_in_pic_minus1")
        row, column = divmod(tile, n_columns)
        places.append((left[column], top[row]))
        if len(places) == n_slices:
            break
        n_across = 1 + (r.number("pps_slice_width_in_tiles_minus1") if column < n_columns - 1 else 0)
        if row == n_rows - 1:
            n_down = 1
        elif has_deltas or column == 0:
            n_down = 1 + r.number("pps_slice_height_in_tiles_minus1")
        if n_across == n_down == 1 and heights[row] > 1:
            n_listed = r.number("pps_num_exp_slices_in_tile", at_most=heights[row] - 1)
            if n_listed:
                sizes = _read_sizes(r, "pps_exp_slice_height_in_ctus_minus1", n_listed, heights[row])
                places += [(left[column], top[row] + below) for below in itertools.accumulate(sizes[:-1])]
        if has_deltas:
            if len(places) < n_slices:
                tile += r.ie(0, "pps_tile_idx_delta_val")
        else:
            tile += n_across
            if tile % n_columns == 0:
                tile += (n_down - 1) * n_columns
    if len(places) > n_slices:
        raise r.error(f"{len(places)} slices in tiles, must be {n_slices}", "pps_num_exp_slices_in_tile")
    return places
