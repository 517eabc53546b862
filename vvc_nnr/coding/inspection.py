"""What a stream is made of: units, tensors, QPs, bytes per tensor and bits per kind of bin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vvc_nnr import _kernels
from vvc_nnr.bitstream.data_unit import DataUnit, PartKind, PayloadType
from vvc_nnr.bitstream.number_formats import BITS_OF, Array, NamedArrays, numpy_values
from vvc_nnr.bitstream.stream import Buffer, CodedTensor, Stream, read_stream
from vvc_nnr.bitstream.units import OpaqueUnit, PlacedUnit, StartUnit, TopologyUnit
from vvc_nnr.coding.decoder import check_size, decode_tensor
from vvc_nnr.coding.unit_coding import coded_step, decode_unit, make_params
from vvc_nnr.errors import InputError, ShapeError, UnsupportedError, shown_names
from vvc_nnr.kernels.entropy_coding import DecodedTensor, qps_of
from vvc_nnr.kernels.tensor_params import TensorParams
from vvc_nnr.options import thread_count
from vvc_nnr.parallel import run_all
from vvc_nnr.quantize.snr import snr_db, sum_of_squares

_NAMES = {StartUnit: "STR", TopologyUnit: "TPL", DataUnit: "NDU"}
# First context of each kind of bin; the greater flags end where the remainder begins.
_SIGN, _GREATER = 48, 53
# Names that an error tells.
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class UnitReport:
    """A unit: its type's name, where it starts and its size."""

    kind: str
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class TensorReport:
    """A tensor, or a block with all its tensors.

    Attributes:
        name: Its name; of a block the weight's.
        shape: Its shape.
        number_format: What it decodes to; of an update "float", "integer" or "bool", since its base alone tells more.
        payload_type: INT, FLOAT, RAW_FLOAT or BLOCK.
        qp: With that of the parameter sets; of a block that of its weight, or of G; None if it has none.
        step: Its quantisation step.
        size_bytes: Its units, headers included, and its bytes in the raw unit.
        header_bytes: The part of them before the payload.
        bits_per_value: From all of them; None of an empty tensor.
        dq: Dependent quantisation.
        scan_order: 0 to 4.
        n_entry_points: Places where decoding can start beside the first.
        codebook_size: Values of its codebook, None without one.
        scaling_qp: QP of the scales of its rows, with that of the parameter sets; None if it has none.
        is_update: It is a difference.
        bin_bits: Kind of bin to bits of the payload, estimated by the coder's own cost model; empty if not asked for.
        n_estimator_sets: Contexts with an estimator other than the default; None if not asked for.
        mse: Mean squared error against the original; None if that is not known.
        snr_db: Signal-to-noise ratio against the original in dB, of ordinary values alone if that is lower; None if it
            is not known, or the tensor is exact.
    """

    name: str
    shape: tuple[int, ...]
    number_format: str
    payload_type: str
    qp: int | None
    step: float | None
    size_bytes: int
    header_bytes: int
    bits_per_value: float | None
    dq: bool
    scan_order: int
    n_entry_points: int
    codebook_size: int | None
    scaling_qp: int | None
    is_update: bool
    bin_bits: Mapping[str, float]
    n_estimator_sets: int | None
    mse: float | None
    snr_db: float | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a stream is made of.

    Attributes:
        size_bytes: All of it.
        is_verifiable: It has a manifest and agrees with it; otherwise a unit may be missing without a trace.
        is_update: It is a difference from a base.
        profile: 0 or 1.
        qp_density: QP steps per octave as a power of two.
        units: All units in order.
        tensors: All tensors in order.
        skipped: What was not understood.
        metadata: What the sender said of the network.
        same: Tensors that are not coded since another one is the same, and which that is.
    """

    size_bytes: int
    is_verifiable: bool
    is_update: bool
    profile: int
    qp_density: int
    units: tuple[UnitReport, ...]
    tensors: tuple[TensorReport, ...]
    skipped: tuple[str, ...]
    metadata: Mapping[str, str]
    same: Mapping[str, str] = field(default_factory=dict)

    @property
    def n_values(self) -> int:
        """Values of all tensors."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)


def inspect_stream(
    data: Buffer, original: NamedArrays | None, *, bins: bool, max_elements: int | None, n_threads: int | None
) -> Inspection:
    """What a stream is made of, with errors against an original and bits by kind of bin where asked for.

    Args and errors are those of `vvc_nnr.inspect`.
    """
    stream = read_stream(data, skip_unsupported=True)
    if stream.is_update:
        _check_no_network_needed(original, bins)
    if original is not None:
        _check_names([tensor.name for tensor in stream.tensors], original)
    if bins or original:
        check_size(stream, max_elements)
    reports = run_all(
        lambda tensor: _tensor_report(tensor, original, bins),
        stream.tensors,
        [tensor.n_elements if bins or original else 1 for tensor in stream.tensors],
        thread_count(n_threads),
    )
    last = stream.units[-1].parameter_sets
    units = tuple(UnitReport(_kind(placed), placed.offset_bytes, placed.size_bytes) for placed in stream.units)
    return Inspection(
        len(data),
        stream.is_verifiable,
        stream.is_update,
        last.general_profile_idc,
        last.model().mps_qp_density,
        units,
        tuple(reports),
        _skipped(stream),
        _metadata(stream),
        {tie.name: tie.source for tie in stream.ties},
    )


def _metadata(stream: Stream) -> Mapping[str, str]:
    """What the sender said of the network, in its graph too."""
    said = stream.manifest.metadata if stream.manifest else {}
    if stream.graph is None:
        return said
    from vvc_nnr.model.onnx_graph import graph_metadata

    return graph_metadata(stream.graph) | dict(said)


def _check_no_network_needed(original: NamedArrays | None, bins: bool) -> None:
    """Raises UnsupportedError if something is asked for that an update does not tell."""
    for name, is_given in (("original", original is not None), ("bins", bins)):
        if is_given:
            raise UnsupportedError(
                f"{name}: not of an update, whose differences are decoded in the light of its base; apply it (vvc-nnr "
                "update apply, apply_update), and compare what that gives; or take the option away"
            )


def _check_names(names: Sequence[str], original: NamedArrays) -> None:
    """Raises InputError if the original has none of the stream's tensors."""
    if not names or any(name in original for name in names):
        return
    has, wanted = (shown_names(map(repr, some), _SHOWN, 220) or "none" for some in (original, names))
    raise InputError(
        f"the original has no tensor of the name of one in the stream: it has {has}, wanted are such as {wanted}; "
        "give the network that the stream was made from"
    )


def _kind(placed: PlacedUnit) -> str:
    unit = placed.unit
    if isinstance(unit, OpaqueUnit):
        return f"type {unit.nnr_unit_type}"
    return _NAMES.get(type(unit), "MPS" if hasattr(unit, "mps_qp_density") else "LPS")


def _skipped(stream: Stream) -> tuple[str, ...]:
    opaque = [placed.unit for placed in stream.skipped]
    return tuple(f"type {u.nnr_unit_type}: {u.reason}" for u in opaque if isinstance(u, OpaqueUnit))


def _tensor_report(tensor: CodedTensor, original: NamedArrays | None, bins: bool) -> TensorReport:
    unit, sets = tensor.data_units[0], tensor.units[0].parameter_sets
    n_raw = 0 if tensor.raw is None else len(tensor.raw[1])
    size = sum(placed.size_bytes for placed in tensor.units) + n_raw
    scaling_qp, qp = _qps(tensor.units[0], unit)
    kind = unit.nnr_compressed_data_unit_payload_type
    bin_bits, n_sets = _bin_bits(tensor) if bins and unit.parent is None and unit.has_codeword else ({}, None)
    n_values = math.prod(tensor.shape)
    mse, ratio_db = _error(tensor, original)
    return TensorReport(
        name=tensor.name,
        shape=tensor.shape,
        number_format=_number_format(tensor, kind, is_update=unit.parent is not None),
        payload_type=kind.name,
        qp=None if qp is None else qp + sets.quantization_parameter,
        scaling_qp=None if scaling_qp is None else scaling_qp + sets.quantization_parameter,
        step=None if qp is None else coded_step(qp, sets),
        size_bytes=size,
        header_bytes=size - n_raw - sum(len(u.payload) for u in tensor.data_units),
        bits_per_value=8 * size / n_values if n_values else None,
        dq=unit.uses_dq,
        scan_order=unit.scan_order,
        n_entry_points=len(unit.entry_points),
        codebook_size=len(unit.codebook.values) if unit.codebook else None,
        is_update=unit.parent is not None,
        bin_bits=bin_bits,
        n_estimator_sets=n_sets,
        mse=mse,
        snr_db=ratio_db,
    )


def _number_format(tensor: CodedTensor, kind: PayloadType, *, is_update: bool) -> str:
    """What a tensor decodes to, as far as the stream tells."""
    found, is_integer = tensor.number_format, kind is PayloadType.INT
    if is_update and found != "bool":
        return "integer" if is_integer and found not in BITS_OF.values() else "float"
    return found or ("int32" if is_integer else "float32")


def _qps(placed: PlacedUnit, unit: DataUnit) -> tuple[int | None, int | None]:
    """The QPs of the scales of rows and of the weight in a payload, each None if it has none.

    Raises:
        BitstreamError: If vectors of a block, which stand before its weight, break the format.
    """
    if not unit.has_qp:
        return None, None
    is_edition_2 = placed.parameter_sets.general_profile_idc == 1
    vectors = [part for part in unit.parts() if part.kind < PartKind.WEIGHT]
    qps = qps_of(
        bytes(unit.payload) if vectors else bytes(unit.payload[:16]),
        [make_params(unit, part, row_skip_allowed=is_edition_2) for part in vectors],
        placed.parameter_sets.qp_density,
    )
    return (qps[0] if vectors and vectors[0].kind is PartKind.SCALING else None), qps[-1]


def _bin_bits(tensor: CodedTensor) -> tuple[dict[str, float], int]:
    """Bits by kind of bin, and the number of estimators that were chosen, of a tensor or all tensors of a block."""
    total: dict[str, float] = {}
    n_sets = 0
    for unit, placed in zip(tensor.data_units, tensor.units, strict=True):
        decoded = decode_unit(unit, placed.parameter_sets, output="indices", max_elements=unit.n_elements)
        is_edition_2 = placed.parameter_sets.general_profile_idc == 1
        for part, found in zip(unit.parts(), decoded, strict=True):
            params = make_params(unit, part, row_skip_allowed=is_edition_2)
            for kind, bits in _bits_of(params, found).items():
                total[kind] = total.get(kind, 0.0) + bits
            n_sets += int(np.count_nonzero(_sets_of(found)))
        total["others"] = total.get("others", 0.0) + 8 * len(unit.payload)
    total["others"] -= sum(bits for kind, bits in total.items() if kind != "others")
    return total, n_sets


def _bits_of(params: TensorParams, decoded: DecodedTensor) -> dict[str, float]:
    sets = _sets_of(decoded)
    record = _kernels.record_bins(params.layout(), decoded.numbers, decoded.choices.skipped_rows, 1, False)
    cost = np.take_along_axis(record.cost_bits, sets[:, None].astype(np.intp), 1)[:, 0]
    remainder = _GREATER + 4 * params.unary_length
    return {
        "significance": float(cost[:_SIGN].sum()),
        "sign": float(cost[_SIGN:_GREATER].sum()),
        "greater": float(cost[_GREATER:remainder].sum()),
        "remainder": float(cost[remainder:].sum()) + float(record.n_bypass),
    }


def _sets_of(decoded: DecodedTensor) -> NDArray[np.uint8]:
    sets = decoded.choices.estimator_sets
    assert sets is not None
    return sets


def _error(tensor: CodedTensor, original: NamedArrays | None) -> tuple[float | None, float | None]:
    """Mean squared error and SNR in dB of a tensor; None without an original, and of updates and products.

    Raises:
        ShapeError: If the original has another shape.
    """
    if original is None or tensor.name not in original or any(u.parent or u.has_product for u in tensor.data_units):
        return None, None
    was = original[tensor.name]
    before = numpy_values(was)
    after: Array = decode_tensor(tensor)[tensor.name]
    if before.shape != after.shape:
        raise ShapeError(f"tensor {tensor.name!r}: shape {after.shape}, the original has {before.shape}")
    if not after.size:
        return 0.0, None
    if _are_same(before, after):
        return 0.0, None
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.subtract(before, after, dtype=np.float64).reshape(-1)
    mse = sum_of_squares(error) / error.size
    with np.errstate(over="ignore"):
        plain = before.astype(np.float32), after.astype(np.float32)  # as it was coded
    is_finite = math.isfinite(mse) and all(np.isfinite(values).all() for values in plain)
    ratio_db = snr_db(*plain) if is_finite else math.inf
    return mse, ratio_db if math.isfinite(ratio_db) else None


def _are_same(before: Array, after: Array) -> bool:
    """Whether all values are the same; NaNs are, wherever both have one."""
    is_float = before.dtype.kind == "f" and after.dtype.kind == "f"
    return np.array_equal(before, after, equal_nan=is_float)


def as_json(report: Inspection) -> dict[str, Any]:
    """The same as plain maps, lists, texts and numbers."""
    return {
        "size_bytes": report.size_bytes,
        "is_verifiable": report.is_verifiable,
        "is_update": report.is_update,
        "profile": report.profile,
        "qp_density": report.qp_density,
        "n_values": report.n_values,
        "units": [{"kind": u.kind, "offset_bytes": u.offset_bytes, "size_bytes": u.size_bytes} for u in report.units],
        "tensors": [_tensor_json(tensor) for tensor in report.tensors],
        "skipped": list(report.skipped),
        "metadata": dict(report.metadata),
        "same": dict(report.same),
    }


def _tensor_json(tensor: TensorReport) -> dict[str, Any]:
    plain = {name: getattr(tensor, name) for name in TensorReport.__dataclass_fields__}
    return plain | {"shape": list(tensor.shape), "bin_bits": dict(tensor.bin_bits)}
