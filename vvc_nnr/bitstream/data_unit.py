"""Compressed data units: a tensor, or the tensors of a block. Field names are those of ISO/IEC 15938-17."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

DEFAULT_UNARY_LENGTH_MINUS1 = 9
MAX_SCAN_ORDER = 4


class ParentType(IntEnum):
    """How a data unit names the unit that it updates."""

    ID = 0
    SHA256 = 1
    SHA512 = 2


@dataclass(frozen=True, slots=True)
class NodeId:
    """What names a node of the update tree: device, tensor, and the number of updates before it."""

    device_id: int = 0
    parameter_id: int = 0
    put_node_depth: int = 0


@dataclass(frozen=True, slots=True)
class ParentNode:
    """The node that a data unit is the difference to.

    Args:
        parent_node_id_type: By identity or by hash.
        temporal_context_modeling_flag: Contexts follow the parent's levels.
        parent_device_id: Device, for an identity.
        parent_parameter_id: Tensor, for an identity where the data unit itself has no NodeId; else None.
        parent_put_node_depth: Depth, likewise.
        parent_node_payload_hash: The 32 or 64 bytes of a hash.
    """

    parent_node_id_type: ParentType = ParentType.ID
    temporal_context_modeling_flag: bool = False
    parent_device_id: int = 0
    parent_parameter_id: int | None = None
    parent_put_node_depth: int | None = None
    parent_node_payload_hash: bytes = b""


@dataclass(frozen=True, slots=True)
class Codebook:
    """Strictly increasing integers that multiply the step; index k of the payload means `values[k + zero_offset]`.

    Args:
        egk: Order of the Exp-Golomb codes of the gaps, 0 to 15.
        zero_offset: Index of the value that k = 0 means.
        values: The integers, int32.
    """

    egk: int
    zero_offset: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """Where a block row but the first starts in the codeword.

    Args:
        value: The 8-bit window of the arithmetic decoder there.
        dq_state: State of dependent quantisation, 0 without it.
        offset_bits: Position after that of the block row before.
    """

    value: int
    dq_state: int
    offset_bits: int


class PayloadType(IntEnum):
    """What a data unit holds: integers, quantised floats, floats as they are, or the tensors of a block."""

    INT = 0
    FLOAT = 1
    RAW_FLOAT = 2
    BLOCK = 3


class ParameterTypes(IntFlag):
    """What a block holds besides its weight, or (DC) in place of it."""

    NONE = 0
    DC = 1
    LS = 2
    BN = 4
    BI = 8


class PartKind(IntEnum):
    """The role of one tensor of a data unit, in coding order; a tensor outside a block is a weight."""

    SCALING = 0
    BIAS = 1
    BN_BETA = 2
    BN_GAMMA = 3
    BN_MEAN = 4
    BN_VAR = 5
    WEIGHT = 6
    G = 7
    H = 8


_HEADER_ORDER = (
    PartKind.WEIGHT, PartKind.G, PartKind.H, PartKind.SCALING,
    PartKind.BN_BETA, PartKind.BN_GAMMA, PartKind.BN_MEAN, PartKind.BN_VAR, PartKind.BIAS,
)  # fmt: skip


def count_entry_points(scan_order: int, n_rows: Sequence[int]) -> int:
    """Entry points of matrices of so many rows each."""
    side = 4 << scan_order
    return sum(-(-n // side) - 1 for n in n_rows) if scan_order else 0


@dataclass(frozen=True, slots=True)
class UnitPart:
    """One tensor of a data unit.

    Args:
        kind: Its role.
        name: Its name, "" where the unit has only a number.
        dimensions: Its shape.
        scan_order: The scan order that counts: 0 for a vector, a single row or a single column.
        codebook: Its codebook.
    """

    kind: PartKind
    name: str
    dimensions: tuple[int, ...]
    scan_order: int
    codebook: Codebook | None

    @property
    def n_rows(self) -> int:
        """First dimension."""
        return self.dimensions[0]

    @property
    def n_columns(self) -> int:
        """Product of the other dimensions."""
        return math.prod(self.dimensions[1:])

    @property
    def n_elements(self) -> int:
        """Product of all dimensions."""
        return math.prod(self.dimensions)


@dataclass(frozen=True, slots=True)
class DataUnit:
    """Header and payload of a compressed data unit.

    Args:
        nnr_compressed_data_unit_payload_type: What it holds.
        topology_elem_id_list: Names: of the tensor, or of the tensors of a block, in the order of the header (weight
            or G and H, scaling, batch norm's beta, gamma, mean, variance, bias).
        tensor_dimension_list: Shape of the tensor, in a block of the weight.
        payload: The codeword, or the floats of RAW_FLOAT; what a reader gives is a view of its input.
        topology_elem_id_index_list: Numbers in place of names, if the model's parameter set says so.
        node_id: Place in the update tree (profile 1).
        parent: What the values are the difference to (profile 1, if the parameter set allows parents).
        codebook: Codebook of the weight, or of G.
        codebook_h: Codebook of H.
        dq_flag: Dependent quantisation; not in RAW_FLOAT, without effect on INT, not together with a codebook.
        nnr_decompressed_data_format: Number format that the sender suggests, if any.
        cabac_unary_length_minus1: Number of greater flags less one; None: not in the header, 9.
        compressed_parameter_types: What a block holds.
        decomposition_rank: Columns of G and rows of H, if there are.
        g_number_of_rows: Rows of G.
        scan_order: 0 row by row, 1 to 4 in blocks of 8 to 64; the blocks need more than one row and column.
        entry_points: One for each block row but the first.
    """

    nnr_compressed_data_unit_payload_type: PayloadType
    topology_elem_id_list: tuple[str, ...]
    tensor_dimension_list: tuple[int, ...]
    payload: bytes | memoryview
    topology_elem_id_index_list: tuple[int, ...] = ()
    node_id: NodeId | None = field(default_factory=NodeId)
    parent: ParentNode | None = None
    codebook: Codebook | None = None
    codebook_h: Codebook | None = None
    dq_flag: bool = False
    nnr_decompressed_data_format: int | None = None
    cabac_unary_length_minus1: int | None = 10
    compressed_parameter_types: ParameterTypes = ParameterTypes.NONE
    decomposition_rank: int = 0
    g_number_of_rows: int = 0
    scan_order: int = 0
    entry_points: tuple[EntryPoint, ...] = ()

    @property
    def is_block(self) -> bool:
        """Whether it may hold several tensors."""
        return self.nnr_compressed_data_unit_payload_type is PayloadType.BLOCK

    @property
    def has_codeword(self) -> bool:
        """Whether the payload is entropy coded."""
        return self.nnr_compressed_data_unit_payload_type is not PayloadType.RAW_FLOAT

    @property
    def has_qp(self) -> bool:
        """Whether every tensor of the payload starts with its QP."""
        return self.nnr_compressed_data_unit_payload_type in (PayloadType.FLOAT, PayloadType.BLOCK)

    @property
    def uses_dq(self) -> bool:
        """Whether the levels follow from dependent quantisation; integers are coded as they are in any case."""
        return self.dq_flag and self.has_qp

    @property
    def unary_length(self) -> int:
        """Number of greater flags."""
        minus1 = self.cabac_unary_length_minus1
        return (DEFAULT_UNARY_LENGTH_MINUS1 if minus1 is None else minus1) + 1

    @property
    def n_elements(self) -> int:
        """Values of all tensors of the unit together, exact however large the dimensions are."""
        if not self.compressed_parameter_types:
            return math.prod(self.tensor_dimension_list)
        return sum(math.prod(dimensions) for _, dimensions in self._kinds())

    def with_payload(self, payload: bytes, entry_points: tuple[EntryPoint, ...]) -> DataUnit:
        """The same header with another payload. `dataclasses.replace` takes several times as long."""
        return self._with(payload, self.cabac_unary_length_minus1, entry_points)

    def with_unary_length_minus1(self, cabac_unary_length_minus1: int | None) -> DataUnit:
        """The same unit with another number of greater flags."""
        return self._with(self.payload, cabac_unary_length_minus1, self.entry_points)

    def _with(
        self,
        payload: bytes | memoryview,
        cabac_unary_length_minus1: int | None,
        entry_points: tuple[EntryPoint, ...],
    ) -> DataUnit:
        return DataUnit(
            self.nnr_compressed_data_unit_payload_type,
            self.topology_elem_id_list,
            self.tensor_dimension_list,
            payload,
            self.topology_elem_id_index_list,
            self.node_id,
            self.parent,
            self.codebook,
            self.codebook_h,
            self.dq_flag,
            self.nnr_decompressed_data_format,
            cabac_unary_length_minus1,
            self.compressed_parameter_types,
            self.decomposition_rank,
            self.g_number_of_rows,
            self.scan_order,
            entry_points,
        )

    def parts(self) -> tuple[UnitPart, ...]:
        """The tensors of the unit in coding order, which in a block differs from the order of their names."""
        if not self.compressed_parameter_types:
            name = self.topology_elem_id_list[0] if self.topology_elem_id_list else ""
            return (self._part(PartKind.WEIGHT, name, self.tensor_dimension_list),)
        names = dict(zip(self._header_kinds(), self.topology_elem_id_list, strict=False))
        return tuple(self._part(kind, names.get(kind, ""), dimensions) for kind, dimensions in self._kinds())

    def faults(self) -> str | None:
        """What about the fields contradicts itself; None if nothing does."""
        shape = self.tensor_dimension_list
        if not shape or min(shape) < 1:
            return f"dimensions {shape}: must be one or more, none of them zero"
        if self.compressed_parameter_types and not self.is_block:
            return f"compressed_parameter_types {int(self.compressed_parameter_types)} outside a block"
        if self.has_product and (
            min(self.decomposition_rank, self.g_number_of_rows) < 1 or math.prod(shape) % self.g_number_of_rows
        ):
            return f"G of {self.g_number_of_rows} x {self.decomposition_rank} values does not fit a weight of {shape}"
        n_names = len(self.topology_elem_id_index_list or self.topology_elem_id_list)
        if n_names != len(self._header_kinds()):
            return f"number of names {n_names}, of tensors {len(self._header_kinds())}: must be equal"
        if self.codebook and not self.has_qp:
            return "a codebook for integers or raw floats"
        if (self.codebook_h is not None) != (self.codebook is not None and self.has_product):
            return "a codebook of H goes with G and its codebook"
        if len(self.entry_points) != self.n_entry_points:
            return f"{len(self.entry_points)} entry points; must be {self.n_entry_points}"
        if not self.has_codeword and len(self.payload) != 4 * math.prod(shape):
            return f"{len(self.payload)} bytes of raw floats for {math.prod(shape)} values"
        return None

    @property
    def n_entry_points(self) -> int:
        """How many entry points the header has: one for each block row but the first.

        A single column has them too, though its payload is coded row by row; there they mean nothing.
        """
        n_rows = (
            (self.g_number_of_rows, self.decomposition_rank) if self.has_product else self.tensor_dimension_list[:1]
        )
        return count_entry_points(self.scan_order, n_rows)

    @property
    def has_product(self) -> bool:
        """Whether two thin matrices stand for the weight."""
        types = self.compressed_parameter_types
        return bool(types and types & ParameterTypes.DC)

    def _header_kinds(self) -> list[PartKind]:
        if not self.compressed_parameter_types:
            return [PartKind.WEIGHT]
        present = {kind for kind, _ in self._kinds()}
        return [kind for kind in _HEADER_ORDER if kind in present]

    def _kinds(self) -> list[tuple[PartKind, tuple[int, ...]]]:
        """Roles and shapes in coding order."""
        shape, types = self.tensor_dimension_list, self.compressed_parameter_types
        if not types:
            return [(PartKind.WEIGHT, shape)]
        vector = shape[:1]
        kinds = [PartKind.SCALING] if types & ParameterTypes.LS else []
        kinds += [PartKind.BIAS] if types & ParameterTypes.BI else []
        if types & ParameterTypes.BN:
            kinds += [PartKind.BN_BETA, PartKind.BN_GAMMA, PartKind.BN_MEAN, PartKind.BN_VAR]
        vectors = [(kind, vector) for kind in kinds]
        if not self.has_product:
            return [*vectors, (PartKind.WEIGHT, shape)]
        rows, rank = self.g_number_of_rows, self.decomposition_rank
        return [*vectors, (PartKind.G, (rows, rank)), (PartKind.H, (rank, math.prod(shape) // max(rows, 1)))]

    def _part(self, kind: PartKind, name: str, dimensions: tuple[int, ...]) -> UnitPart:
        is_matrix = dimensions[0] > 1 and math.prod(dimensions[1:]) > 1
        is_weight = kind >= PartKind.WEIGHT
        codebook = self.codebook_h if kind is PartKind.H else self.codebook if is_weight else None
        return UnitPart(kind, name, dimensions, self.scan_order if is_weight and is_matrix else 0, codebook)
