"""What is to be coded of a tensor, what it became, and what all ways of coding share: units, scan orders, integers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vvc_nnr import _kernels
from vvc_nnr.bitstream.data_unit import DEFAULT_UNARY_LENGTH_MINUS1, DataUnit, NodeId, ParentNode, PayloadType
from vvc_nnr.bitstream.number_formats import (
    FLOAT64_BITS,
    INTEGERS,
    WIDE_FORMATS,
    Array,
    FloatBits,
    coded_shape,
    number_format_of,
)
from vvc_nnr.coding.exact_forms import ExactForm
from vvc_nnr.coding.local_scaling import LocalScaling
from vvc_nnr.coding.unit_coding import TensorPast, encode_indices
from vvc_nnr.errors import InputError
from vvc_nnr.options import CompressOptions
from vvc_nnr.quantize.codebooks import codebook_bits
from vvc_nnr.quantize.snr import Signal
from vvc_nnr.roles.roles import Rule

# Greater flags less one that levels are searched by, as the reference software has them.
USUAL_UNARY_LENGTH_MINUS1 = 10
# Up to so many levels have no statistics to tell another number.
_TINY = 64
# A block row should have this many values before another decoder is started for it.
MIN_BLOCK_ROW_ELEMENTS = 1 << 14
# Those of integers, which take nearly all their bits, so that learning their contexts anew costs more.
MIN_INTEGER_BLOCK_ROW_ELEMENTS = 1 << 18
# Blocks mix rows, whose scales the coder then cannot follow. They may cost so much, told by a part of a block row where
# the scales of rows differ by so many bits.
MAX_BLOCK_COST, SCALES_DIFFER_BITS = 1.01, 0.05
SCAN_SAMPLE, SCALE_COLUMNS = 1 << 15, 512
# Numbers of block rows, the best first: what two threads of 16 decoders each share, or one, or half of one.
WANTED_BLOCK_ROWS = (32, 16, 8)
# What the manifest takes for a tensor with raw bytes, a raw unit beside its bytes, and the header of a high half.
RAW_ENTRY_BYTES, RAW_UNIT_BYTES, HIGH_UNIT_BYTES = 8, 25, 14


@dataclass(slots=True, eq=False)
class TensorFacts:
    """What is found once of a tensor, and asked for at each of its steps.

    Attributes:
        is_finite: Whether `finite_float32` gives its values; None: not known yet.
        n_different: Its `codebooks.n_different_of_part`.
        sure_energy: Its `quality.sure_energy`, with and without rows.
        signal: What its errors are held against.
        has_few_levels: Whether it has a few values, each of which comes often.
        by_codebook: The tensor by a codebook, that codebook's bits, the finest step that gives the values, and whether
            they are near; None if there is none.
        bit_exact: The tensor without loss.
    """

    is_finite: bool | None = None
    n_different: int | None = None
    sure_energy: dict[bool, float] = field(default_factory=dict)
    signal: Signal | None = None
    has_few_levels: bool | None = None
    by_codebook: tuple[EncodedTensor, int, float, bool] | None = None
    bit_exact: EncodedTensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TensorJob:
    """A tensor to be coded.

    Args:
        name: Its name.
        high_name: The name of its high half, if it needs one.
        array: Its values; those of an update are differences.
        number_format: How they are to be coded, one of `number_formats.NUMBER_FORMATS`.
        node_id: Its place in the update tree; None: not in one.
        parent: What it is the difference to.
        past: What an update knows of the tensor before.
        n_threads: Threads for its block rows.
        rule: What the tensor may lose; None: what its number of dimensions says.
        own_qp: The QP that follows from its spread; None: that of the options.
        unary_length_minus1: Greater flags of its values less one; None: 9, which its unit need not say; "fitting": what
            its indices tell.
        least_db: SNR that its own step is meant to leave; where single values happen to leave less, a finer one does.
        facts: What is known of it, for one that is coded at several steps; None: nothing is kept.
        is_judged: Whether what it keeps is told; of a size alone it need not be.
        scaling: Scales of its rows, which are divided by them; None: it has none.
    """

    name: str
    high_name: str
    array: Array | FloatBits
    number_format: str
    node_id: NodeId | None = None
    parent: ParentNode | None = None
    past: TensorPast | None = None
    n_threads: int = 1
    rule: Rule | None = None
    own_qp: int | None = None
    unary_length_minus1: int | Literal["fitting"] | None = "fitting"
    least_db: float = -math.inf
    facts: TensorFacts | None = None
    is_judged: bool = True
    scaling: LocalScaling | None = None

    def with_step(self, own_qp: int | None, rule: Rule | None, least_db: float) -> TensorJob:
        """The same with a step of its own. `dataclasses.replace` takes several times as long."""
        return TensorJob(
            self.name,
            self.high_name,
            self.array,
            self.number_format,
            self.node_id,
            self.parent,
            self.past,
            self.n_threads,
            rule,
            own_qp,
            self.unary_length_minus1,
            least_db,
            self.facts,
            self.is_judged,
            self.scaling,
        )


@dataclass(frozen=True, slots=True)
class EncodedTensor:
    """The data units of a tensor.

    Args:
        units: One, low and high half of integers that need two, or none: an update without any change.
        number_format: As which they were coded, one of `number_formats.NUMBER_FORMATS`.
        weak_db: Its SNR, or that of many of its rows, if it is below `quality.WEAK_DB`, else None.
        raw: What goes as it is, beside its unit.
        otherwise: The tensor without raw bytes, if that is known.
        by_outliers: Its outliers, or all its values, are exact, since no step does for them and its other values.
        is_exact: It is exact, or as near as the finest step, since that is no longer, or its few levels would be lost.
        joins_levels: Two of its few different values come out alike.
        more_bytes: What it takes more than with loss, so that its few levels stay apart.
        is_scaled: Its rows have scales, which other decoders may give apart.
    """

    units: tuple[DataUnit, ...]
    number_format: str
    weak_db: float | None = None
    raw: ExactForm | None = None
    otherwise: EncodedTensor | None = None
    by_outliers: bool = False
    is_exact: bool = False
    joins_levels: bool = False
    more_bytes: int = 0
    is_scaled: bool = False

    @property
    def keeps_outliers_alone(self) -> bool:
        """Whether its outliers are exact and its other values are quantised."""
        return self.by_outliers and self.raw is not None and self.raw.kind == "outliers"

    @property
    def size_bytes(self) -> int:
        """Payloads, codebooks and raw bytes, and what a high half has beside its payload."""
        if len(self.units) == 1 and self.raw is None:
            return payload_bytes(self.units[0])
        n_raw = 0 if self.raw is None else len(self.raw.raw) + RAW_ENTRY_BYTES
        high = self.units[1:]
        names = sum(HIGH_UNIT_BYTES + len(unit.topology_elem_id_list[0].encode()) for unit in high)
        return sum(map(payload_bytes, self.units)) + n_raw + names


def make_job(name: str, array: Array | FloatBits, names: Mapping[str, Any], options: CompressOptions) -> TensorJob:
    """What there is to do for a tensor.

    Raises:
        InputError: If its name or number format cannot be coded.
    """
    if "\0" in name or any(0xD800 <= ord(letter) < 0xE000 for letter in name):
        raise InputError(f"tensor {name!r}: a name cannot hold a zero character or half of a surrogate pair")
    number_format = number_format_of(name, array)
    if number_format == "float64" and options.float64 == "exact":
        number_format = FLOAT64_BITS
    high = _unused_name(f"{name}.high", names) if number_format in (*WIDE_FORMATS, "float64") else ""
    return TensorJob(name, high, array, number_format)


def _unused_name(name: str, names: Mapping[str, Any]) -> str:
    while name in names:
        name += "_"
    return name


def encode_integers(
    job: TensorJob,
    name: str,
    values: NDArray[np.int32],
    options: CompressOptions,
    *,
    param_opt: bool | None = None,
) -> DataUnit:
    """Integers in a data unit; estimators are chosen as the options say, unless it is said here."""
    unit = unit_of(job, name, PayloadType.INT, coded_shape(values.shape), options)
    if job.number_format in INTEGERS and not options.lossless:
        order = scan_order_of(unit.tensor_dimension_list, options, MIN_INTEGER_BLOCK_ROW_ELEMENTS)
        unit = replace(unit, scan_order=order)
    unit = with_unary_length(unit, values) if job.unary_length_minus1 == "fitting" else unit
    return encode_indices(unit, values, None, options, job.past, n_threads=job.n_threads, param_opt=param_opt)


def unit_of(
    job: TensorJob,
    name: str,
    kind: PayloadType,
    shape: tuple[int, ...],
    options: CompressOptions,
    scan_order: int | None = None,
    *,
    dq_flag: bool = False,
) -> DataUnit:
    """A data unit without its payload; its scan order is that of its shape if none is given."""
    return DataUnit(
        kind,
        (name,),
        shape,
        b"",
        node_id=job.node_id,
        parent=job.parent,
        dq_flag=dq_flag,
        cabac_unary_length_minus1=USUAL_UNARY_LENGTH_MINUS1
        if job.unary_length_minus1 == "fitting"
        else job.unary_length_minus1,
        scan_order=scan_order_of(shape, options) if scan_order is None else scan_order,
    )


def with_unary_length(unit: DataUnit, indices: NDArray[np.int32]) -> DataUnit:
    """The unit with as many greater flags as pay for its indices."""
    found = unary_length_minus1_of(indices)
    return unit if found == unit.cabac_unary_length_minus1 else unit.with_unary_length_minus1(found)


def payload_bytes(unit: DataUnit) -> int:
    """Payload and codebook, and of a block the names behind the first."""
    if unit.codebook is None and len(unit.topology_elem_id_list) == 1:
        return len(unit.payload)
    names = sum(len(name.encode()) + 1 for name in unit.topology_elem_id_list[1:])
    return len(unit.payload) + (-(-codebook_bits(unit.codebook) // 8) if unit.codebook else 0) + names


def scan_order_of(shape: tuple[int, ...], options: CompressOptions, min_elements: int = MIN_BLOCK_ROW_ELEMENTS) -> int:
    """The scan order of a tensor: 0 unless it has several rows and columns.

    Args:
        shape: Its shape.
        options: A given scan order comes first.
        min_elements: The least that a block row must have.
    """
    n_rows, n_columns = shape[0], math.prod(shape[1:])
    if n_rows == 1 or n_columns == 1:
        return 0
    if options.scan_order != "auto":
        return options.scan_order
    for n_wanted, order in product(WANTED_BLOCK_ROWS, (4, 3, 2, 1)):
        side = 4 << order
        if n_rows > (n_wanted - 1) * side and side * n_columns >= min_elements:
            return order
    return 0


def scan_order_of_floats(values: NDArray[np.float32], step: float, options: CompressOptions) -> int:
    """The scan order of a tensor by `scan_order_of`, 0 where blocks cost too much, since its rows differ in scale.

    Args:
        values: The tensor.
        step: That of its quantiser.
        options: A given scan order comes first.
    """
    order = scan_order_of(coded_shape(values.shape), options)
    if order == 0 or options.scan_order != "auto":
        return order
    rows, side = values.reshape(values.shape[0], -1), 4 << order
    if _mixed_scales_bits(rows, side, step) < SCALES_DIFFER_BITS:
        return order
    begin = len(rows) // side // 2 * side
    part = rows[begin : begin + side, : max(side, SCAN_SAMPLE // side)]
    levels = np.clip(np.rint(part / np.float32(step)), -(1 << 20), 1 << 20).astype(np.int32)
    unit = DataUnit(PayloadType.FLOAT, ("",), levels.shape, b"")
    by_row, by_block = (
        len(encode_indices(replace(unit, scan_order=each), levels, 0, options).payload) for each in (0, order)
    )
    return order if by_block <= MAX_BLOCK_COST * by_row else 0


def _mixed_scales_bits(rows: NDArray[np.float32], side: int, step: float) -> float:
    """What a value takes more, at most, if the rows of a block row share one scale instead of having each its own."""
    part = rows[: len(rows) // side * side, :SCALE_COLUMNS]
    scales = np.sqrt(np.einsum("ij,ij->i", part, part, dtype=np.float64) / part.shape[1])
    scales = np.maximum(scales, step / 2).reshape(-1, side)
    return float(np.mean(np.log2(scales.mean(axis=1)) - np.log2(scales).mean(axis=1)))


def unary_length_minus1_of(indices: NDArray[np.int32]) -> int | None:
    """The number of greater flags less one that codes indices in about the fewest bits; None: the default.

    A flag has contexts to be set up and learnt; what is above the flags is an escape, a prefix in contexts and a suffix
    in bypass bins. So few flags are shorter in small tensors, and in those of large or even magnitudes; the entropy of
    all bins tells the best number.

    Args:
        indices: int32, any shape.
    """
    default = DEFAULT_UNARY_LENGTH_MINUS1 + 1
    best = _kernels.best_unary_length(np.ascontiguousarray(indices, np.int32), default, _TINY)
    return None if best == default else best - 1
