"""The command inspect: the tensors of a network file, and what coding did to them or may do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tyro.conf import Positional, UseAppendAction

from vvc_nnr.bitstream.number_formats import Array, FloatBits, itemsize_of, number_format_of, numpy_values
from vvc_nnr.codec.sei import SUFFIXES, standard_of
from vvc_nnr.coding.coded_network import weak_line
from vvc_nnr.coding.encoder import expected_snrs_db
from vvc_nnr.coding.inspection import Inspection, TensorReport, as_json
from vvc_nnr.compress import inspect
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli.common import Command, Outcome
from vvc_nnr.experiments.cli.kinds import door, named, one_for_each
from vvc_nnr.experiments.tables.table import Cell, Column, Table, to_markdown
from vvc_nnr.files import naming, read_bytes
from vvc_nnr.filters.bundled import network_path
from vvc_nnr.model.container import FLOAT_DTYPES, NAMES_OF_BITS, float32_size
from vvc_nnr.model.onnx_packed import PACKED_FORMATS
from vvc_nnr.model.safetensors import StoredTensor, describe_network, read_uniform_metadata
from vvc_nnr.network_file import NNC_SUFFIX, NetworkArrays, common_prefix, kind_of_file, plain_bytes, read_arrays
from vvc_nnr.options import CompressOptions
from vvc_nnr.quantize.snr import WEAK_DB
from vvc_nnr.roles.by_name import named_roles
from vvc_nnr.roles.roles import RULES, TensorRole, override_roles

ROLE = door(named(str, "PATTERN=ROLE"), "PATTERN=ROLE")
_BIN_KINDS = ("significance", "sign", "greater", "remainder", "others")
# Keys that a line tells.
_SHOWN = 20
_STEP_WORDS = {"qp": "QP", "nonweight_qp": "non-weight QP", "values": "relative", "exact": "exact"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingFlags:
    """Coded networks (.nnc).

    Attributes:
        max_elements: Refuse networks of more values; default: 2^28, or 64 for each byte of the file.
        threads: Threads; default: one per processor.
    """

    max_elements: int | None = None
    threads: int | None = None

    def check_unused(self, path: Path) -> None:
        """Raises InputError if a file that is not coded is to be read with them."""
        if self != ReadingFlags():
            raise InputError(f"{path}: --max-elements and --threads are for {NNC_SUFFIX} files")


@dataclass(frozen=True, kw_only=True)
class Inspect(Command):
    """List the tensors of a network file.

    Attributes:
        input: Network file of any kind, told by its content, the name of a bundled network, or a VVC stream (.266) that
            carries networks.
        reading: Coded networks (.nnc).
        bins: Bits by kind of bin (.nnc).
        original: Network file it was made from, or the name of a bundled network, for the MSE (.nnc).
        key: Where in a checkpoint of torch the state dict is, keys joined by dots; default: where it usually is; of a
            .nnc file: in its --original.
        strip_prefix: Prefix that is taken off names, such as module.; of a .nnc file: off those of its --original.
        role_of: Role of the tensors whose names fit, such as '*.gamma=gdn'.
        qp: QP for the SNR that is expected before coding; default: each tensor's own.
    """

    input: Positional[str]
    bins: bool = False
    original: str | None = None
    key: str | None = None
    strip_prefix: str = ""
    role_of: UseAppendAction[tuple[Annotated[tuple[str, str], ROLE], ...]] = ()
    qp: int | None = None
    reading: ReadingFlags = field(default_factory=ReadingFlags)

    def run(self) -> Outcome:
        """The tensors as a table.

        Raises:
            InputError: If the file cannot be opened, or an option does not fit it.
            BitstreamError, UnsupportedError: If it cannot be read.
        """
        path = network_path(self.input)
        kind = kind_of_file(path)
        if kind == "nnc":
            return inspect_nnc(path, self)
        if is_video_stream(path):
            return inspect_stream(path, self)
        if self.bins or self.original:
            raise InputError(f"{path}: --bins and --original are for {NNC_SUFFIX} files")
        self.reading.check_unused(path)
        role_of, options = one_for_each("--role-of")(self.role_of), CompressOptions(qp=self.qp)
        if kind == "safetensors" and self.key is None and not self.strip_prefix:
            return inspect_plain(path, role_of, options)
        network = read_arrays(path, key=self.key, strip_prefix=self.strip_prefix)
        return inspect_arrays(network, path, role_of, options)


def inspect_plain(path: Path, role_of: Mapping[str, str], options: CompressOptions | None = None) -> Outcome:
    """The tensors of a safetensors file, with their roles unless the uniform quantiser made levels of them.

    Args:
        path: The file.
        role_of: Pattern of names to role.
        options: For which the SNR of coded tensors is told; None: the defaults.

    Raises:
        InputError: If the file cannot be opened, or a role does not exist or fits no name.
        BitstreamError, UnsupportedError: If it cannot be read.
    """
    options = options or CompressOptions()
    network = read_arrays(path)
    tensors, uniform = describe_network(path), read_uniform_metadata(path)
    if uniform is not None and (role_of or options.qp is not None):
        raise InputError(
            f"{path}: holds levels of the uniform quantiser, which have no roles and no QP: take --role-of, --qp away"
        )
    roles = override_roles(named_roles(network.arrays), role_of) if uniform is None else {}
    float_size = float32_size(network.arrays, network.metadata)
    payload_bytes = sum(t.n_bytes for t in tensors)
    notes = [
        f"File: {network.n_bytes} bytes, {payload_bytes} of them tensors, the rest names, shapes and ranges.",
        f"As a float32 file: {float_size} bytes, ratio {float_size / network.n_bytes:.2f}.",
        *(f"{key}: {value}" for key, value in sorted(network.metadata.items())),
    ]
    bits, biases = (uniform.bits, uniform.biases) if uniform else (None, None)
    data = {"bits": bits, "biases": biases, "metadata": network.metadata, "float32_bytes": float_size}
    expected = expected_snrs_db(network.arrays, roles, options) if roles else {}
    return _outcome(path, tensors, roles, expected, notes, data | {"n_bytes": network.n_bytes})


def inspect_arrays(network: NetworkArrays, path: Path, role_of: Mapping[str, str], options: CompressOptions) -> Outcome:
    """The tensors of a network file of any kind but safetensors, with their roles.

    Args:
        network: What the file holds.
        path: The file.
        role_of: Pattern of names to role.
        options: For which the SNR of coded tensors is told.

    Raises:
        InputError: If a role does not exist or fits no name.
    """
    roles = override_roles(network.roles or named_roles(network.arrays), role_of)
    packed = _packed_types(network)
    tensors = [_described(name, array, packed.get(name)) for name, array in network.arrays.items()]
    data = {
        "n_bytes": network.n_bytes,
        "float32_bytes": float32_size(network.arrays, network.metadata),
        "left_out": list(network.left_out),
    }
    expected = expected_snrs_db(network.arrays, roles, options)
    n_spared = sum(
        math.prod(each.shape) * itemsize_of(network.arrays[each.name]) - each.n_bytes
        for each in tensors
        if each.name in packed
    )
    return _outcome(path, tensors, roles, expected, _notes(network, n_spared), data)


def _packed_types(network: NetworkArrays) -> dict[str, str]:
    """The ONNX types of the tensors of an ONNX model of which several values share a byte, by name."""
    if network.graph is None:
        return {}
    from vvc_nnr.model.onnx_graph import packed_types

    return packed_types(network.graph, network.arrays)


def _notes(network: NetworkArrays, n_spared: int) -> list[str]:
    """Lines below the table; tensors take so many bytes less than their arrays."""
    notes = [f"File: {network.n_bytes} bytes, {plain_bytes(network.arrays) - n_spared} of them tensors."]
    if network.graph is not None:
        notes.append(f"Graph: {len(network.graph)} bytes; it travels with the tensors.")
    return notes + left_out_notes(network.left_out) + prefix_notes(network.arrays)


def prefix_notes(names: Iterable[str]) -> list[str]:
    """One line on a prefix that a wrapper of torch gave all names, none if there is none."""
    prefix = common_prefix(names)
    return [f"all names begin with {prefix}, --strip-prefix {prefix} takes it off"] if prefix else []


def left_out_notes(left_out: Sequence[str]) -> list[str]:
    """One line on what a file holds beside the network, none if that is nothing."""
    if not left_out:
        return []
    more = f" and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
    return [f"Not part of the network, and not coded: {', '.join(left_out[:_SHOWN])}{more}."]


def _outcome(
    path: Path,
    tensors: Sequence[StoredTensor],
    roles: Mapping[str, TensorRole],
    expected: Mapping[str, float],
    notes: Sequence[str],
    data: Mapping[str, Any],
) -> Outcome:
    columns = [Column("Tensor", text=True), Column("Shape", text=True), Column("Type", text=True)]
    columns += [Column(head, text=True) for head in ("Role", "Told by", "Coded by") if roles]
    columns += [Column("Expected SNR", "dB", digits=1)] if roles else []
    columns += [Column("Size", "bit/element"), Column("Size", "byte"), Column("Min"), Column("Max")]
    rows = tuple(_cells(tensor, roles.get(tensor.name), expected.get(tensor.name)) for tensor in tensors)
    weak = {name: ratio for name, ratio in expected.items() if ratio < WEAK_DB}
    warning = [f"Warning: {weak_line(weak)}."] if weak else []
    table = Table(path.name, tuple(columns), rows, (*notes, *warning))
    listed = [_json(tensor, roles.get(tensor.name), expected.get(tensor.name)) for tensor in tensors]
    return Outcome(to_markdown(table).rstrip(), {"file": str(path)} | dict(data) | {"tensors": listed})


def _cells(tensor: StoredTensor, role: TensorRole | None, expected_db: float | None) -> tuple[Cell, ...]:
    shape = " x ".join(str(side) for side in tensor.shape) or "scalar"
    told = (str(role.role), role.reason, _words(role, tensor), expected_db) if role else ()
    ends = _significant(tensor.minimum), _significant(tensor.maximum)
    return (tensor.name, shape, tensor.dtype, *told, tensor.bits, tensor.n_bytes, *ends)


def _words(role: TensorRole, tensor: StoredTensor) -> str:
    """How a tensor of a role is coded, in a few words."""
    if tensor.dtype not in FLOAT_DTYPES:
        return "exact"
    rule = RULES[role.role]
    return _STEP_WORDS[rule.step] + (", never zero" if rule.keeps_sign else "")


def _json(tensor: StoredTensor, role: TensorRole | None, expected_db: float | None) -> dict[str, Any]:
    told = {"role": str(role.role), "told_by": role.reason, "expected_snr_db": expected_db} if role else {}
    return asdict(tensor) | {"shape": list(tensor.shape)} | told


def _described(name: str, array: Array | FloatBits, packed_type: str | None) -> StoredTensor:
    """A tensor of a file of another kind, in the words of safetensors; of an ONNX model with its type, if packed."""
    number_format = number_format_of(name, array)
    plain, bits = np.asarray(numpy_values(array)), 8 * itemsize_of(array)
    dtype = "BOOL" if number_format == "bool" else NAMES_OF_BITS.get(number_format) or _short(number_format)
    if packed_type is not None:
        dtype, bits = _short(packed_type), PACKED_FORMATS[packed_type].bits
    with np.errstate(invalid="ignore"):
        ends = (float(plain.min()), float(plain.max())) if plain.size else (None, None)
    return StoredTensor(name, plain.shape, dtype, bits, -(-plain.size * bits // 8), *ends)


def _short(number_format: str) -> str:
    return number_format.upper().replace("FLOAT", "F").replace("UINT", "U").replace("INT", "I")


def note_on(path: Path) -> str:
    """One line on whether damage of a coded file would have been noticed.

    Raises:
        BitstreamError, UnsupportedError: If the file cannot be read.
        InputError: If it cannot be opened.
    """
    with naming(path):
        return _verdict(inspect(read_bytes(path)))


def inspect_nnc(path: Path, command: Inspect) -> Outcome:
    """The tensors of a coded file as a table.

    Raises:
        BitstreamError, UnsupportedError: If the file cannot be read.
        InputError: If it or the original cannot be opened, have no tensor in common, or a role is given.
    """
    for flag, is_given in (("--role-of", bool(command.role_of)), ("--qp", command.qp is not None)):
        if is_given:
            raise InputError(f"{path}: {flag} is for networks that are not coded; take it away")
    for flag, is_given in (("--key", command.key is not None), ("--strip-prefix", bool(command.strip_prefix))):
        if is_given and command.original is None:
            raise InputError(f"{path}: {flag} is for networks that are not coded, or with --original; take it away")
    original = None
    if command.original is not None:
        place = network_path(command.original)
        original = read_arrays(place, key=command.key, strip_prefix=command.strip_prefix).arrays
    data = read_bytes(path)
    limits = command.reading
    with naming(path):
        report = inspect(data, original, bins=command.bins, max_elements=limits.max_elements, n_threads=limits.threads)
    return Outcome(table_of(path.name, report), {"file": str(path)} | as_json(report))


def is_video_stream(path: Path) -> bool:
    """Whether a file is a coded video by its suffix; names that other things have too must begin with a start code."""
    if path.suffix.lower() not in SUFFIXES:
        return False
    if path.suffix.lower() not in (".bin", ".bit"):
        return True
    with naming(path):
        return read_bytes(path)[:4].lstrip(b"\0")[:1] == b"\1"


def inspect_stream(path: Path, command: Inspect) -> Outcome:
    """The filters that a coded video carries, and the tensors of each.

    Raises:
        BitstreamError, UnsupportedError: If the stream or a network in it cannot be read.
        InputError: If the stream cannot be opened, or an option is for other files.
    """
    from vvc_nnr.filters.in_stream import carried_filters, networks_inside  # here: it imports torch

    of_networks = (command.bins, command.original, command.role_of, command.strip_prefix)
    if any(of_networks) or command.key is not None or command.qp is not None:
        raise InputError(
            f"{path}: --bins, --original, --key, --strip-prefix, --role-of and --qp are for networks "
            "(vvc-nnr sei extract)"
        )
    limits = command.reading
    with naming(path):
        stream = read_bytes(path)
        lines = carried_filters(stream, standard_of(path))
        inside = networks_inside(stream, standard_of(path))
        reports = {
            name: inspect(data, max_elements=limits.max_elements, n_threads=limits.threads)
            for name, data in inside.items()
        }
    text = "\n".join([f"{path.name}: carries {each}" for each in lines] or [f"{path.name}: carries no filter"])
    tables = [table_of(f"{path.name}, {name}", report) for name, report in reports.items()]
    networks = [{"network": name} | as_json(report) for name, report in reports.items()]
    return Outcome("\n\n".join([text, *tables]), {"file": str(path), "filters": lines, "networks": networks})


def table_of(title: str, report: Inspection) -> str:
    """A report as a Markdown table with its notes; columns that say nothing are left out."""
    has_bins = any(tensor.bin_bits for tensor in report.tensors)
    has_error = any(tensor.mse is not None for tensor in report.tensors)
    columns = [
        Column("Tensor", text=True),
        Column("Shape", text=True),
        Column("Type", text=True),
        Column("Coded as", text=True),
        Column("QP"),
        Column("Step"),
        Column("Size", "byte"),
        Column("Size", "bit/value", digits=3),
    ]
    columns += [Column(kind.capitalize(), "%", digits=1) for kind in _BIN_KINDS if has_bins]
    columns += [Column("MSE"), Column("SNR", "dB", digits=2)] if has_error else []
    rows = tuple(_coded_row(tensor, has_bins, has_error) for tensor in report.tensors)
    return to_markdown(Table(title, tuple(columns), rows, tuple(_coded_notes(report)))).rstrip()


def _coded_row(tensor: TensorReport, has_bins: bool, has_error: bool) -> tuple[str | int | float | None, ...]:
    shape = " x ".join(map(str, tensor.shape)) or "scalar"
    size = tensor.size_bytes
    cells: list[str | int | float | None] = [tensor.name, shape, tensor.number_format, _tools(tensor), tensor.qp]
    cells += [_significant(tensor.step), size, tensor.bits_per_value]
    if has_bins:
        total = sum(tensor.bin_bits.values())
        cells += [100 * tensor.bin_bits.get(kind, 0.0) / total if total else None for kind in _BIN_KINDS]
    return (*cells, _significant(tensor.mse), tensor.snr_db) if has_error else tuple(cells)


def _significant(value: float | None) -> str | None:
    """A number whose magnitude nobody knows, in six digits."""
    return None if value is None else f"{value:.6g}"


def _tools(tensor: TensorReport) -> str:
    """Payload type and tools of a tensor in a few words."""
    words = [tensor.payload_type]
    words += ["DQ"] if tensor.dq else []
    words += [f"scan {tensor.scan_order}"] if tensor.scan_order else []
    words += ["local scaling"] if tensor.scaling_qp is not None else []
    words += [f"{tensor.codebook_size} codes"] if tensor.codebook_size is not None else []
    words += [f"{tensor.n_estimator_sets} sets"] if tensor.n_estimator_sets is not None else []
    return ", ".join([*words, "update"] if tensor.is_update else words)


def _coded_notes(report: Inspection) -> list[str]:
    sizes: dict[str, int] = {}
    for unit in report.units:
        sizes[unit.kind] = sizes.get(unit.kind, 0) + unit.size_bytes
    parts = ", ".join(f"{kind} {size}" for kind, size in sizes.items())
    headers = sum(tensor.header_bytes for tensor in report.tensors)
    per_value = f", {8 * report.size_bytes / report.n_values:.3f} bit/value" if report.n_values else ""
    nothing = "" if report.tensors else ", in which nothing changes"
    return [
        *([f"An update, for the network that it was made from{nothing}."] if report.is_update else []),
        f"File: {report.size_bytes} bytes for {report.n_values} values{per_value}.",
        f"Units: {parts} bytes; headers of data units {headers}.",
        f"Profile {report.profile}, QP density {report.qp_density}.",
        _verdict(report),
        *_same_notes(report.same),
        *(f"Not understood: {text}." for text in report.skipped),
        *(f"{key}: {value}" for key, value in sorted(report.metadata.items())),
    ]


def _same_notes(same: Mapping[str, str]) -> list[str]:
    """One line on tensors that are not coded since others are the same, none if there are none."""
    if not same:
        return []
    more = f" and {len(same) - _SHOWN} more" if len(same) > _SHOWN else ""
    pairs = [f"{name} is {source}" for name, source in same.items()]
    return [f"Coded once, under one name: {', '.join(pairs[:_SHOWN])}{more}."]


def _verdict(report: Inspection) -> str:
    if report.is_verifiable:
        return "Checked: number of units and checksum are right."
    return "Not verifiable: the file has no manifest, so a missing unit would not be noticed."
