"""The part of the command inspect for coded networks (.nnc): units, tensors, bits, and errors against the original."""

from __future__ import annotations

import argparse
from pathlib import Path

from vvc_nnr.coding.inspection import Inspection, TensorReport, as_json
from vvc_nnr.compress import inspect
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli_common import Outcome
from vvc_nnr.experiments.markup import Column, Table, to_markdown
from vvc_nnr.experiments.naming import naming
from vvc_nnr.files import read_bytes
from vvc_nnr.filters.zoo import zoo_path
from vvc_nnr.network_file import read_arrays

_BIN_KINDS = ("significance", "sign", "greater", "remainder", "others")


def network_path(name_or_path: str) -> Path:
    """The file of a bundled network by its name, else of a path."""
    return zoo_path(name_or_path) or Path(name_or_path)


def note_on(path: Path) -> str:
    """One line on whether damage of a coded file would have been noticed.

    Raises:
        BitstreamError, UnsupportedError: If the file cannot be read.
        InputError: If it cannot be opened.
    """
    with naming(path):
        return _verdict(inspect(read_bytes(path)))


def inspect_nnc(path: Path, arguments: argparse.Namespace) -> Outcome:
    """The tensors of a coded file as a table.

    Raises:
        BitstreamError, UnsupportedError: If the file cannot be read.
        InputError: If it or the original cannot be opened, have no tensor in common, or a role is given.
    """
    if arguments.role_of:
        raise InputError(f"{path}: --role-of is for networks that are not coded, a coded one has no roles")
    original = read_arrays(network_path(arguments.original)).arrays if arguments.original else None
    data = read_bytes(path)
    with naming(path):
        report = inspect(
            data, original, bins=arguments.bins, max_elements=arguments.max_elements, n_threads=arguments.threads
        )
    return Outcome(table_of(path.name, report), {"file": str(path)} | as_json(report))


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
        Column("Step", digits=8),
        Column("Size", "byte"),
        Column("Size", "bit/value", digits=3),
    ]
    columns += [Column(kind.capitalize(), "%", digits=1) for kind in _BIN_KINDS if has_bins]
    columns += [Column("MSE", digits=10)] if has_error else []
    rows = tuple(_row(tensor, has_bins, has_error) for tensor in report.tensors)
    return to_markdown(Table(title, tuple(columns), rows, tuple(_notes(report)))).rstrip()


def _row(tensor: TensorReport, has_bins: bool, has_error: bool) -> tuple[str | int | float | None, ...]:
    shape = " x ".join(map(str, tensor.shape)) or "scalar"
    size = tensor.size_bytes
    cells: list[str | int | float | None] = [tensor.name, shape, tensor.number_format, _tools(tensor), tensor.qp]
    cells += [tensor.step, size, tensor.bits_per_value]
    if has_bins:
        total = sum(tensor.bin_bits.values())
        cells += [100 * tensor.bin_bits.get(kind, 0.0) / total if total else None for kind in _BIN_KINDS]
    return (*cells, tensor.mse) if has_error else tuple(cells)


def _tools(tensor: TensorReport) -> str:
    """Payload type and tools of a tensor in a few words."""
    words = [tensor.payload_type]
    words += ["DQ"] if tensor.dq else []
    words += [f"scan {tensor.scan_order}"] if tensor.scan_order else []
    words += [f"{tensor.codebook_size} codes"] if tensor.codebook_size is not None else []
    words += [f"{tensor.n_estimator_sets} sets"] if tensor.n_estimator_sets is not None else []
    return ", ".join([*words, "update"] if tensor.is_update else words)


def _notes(report: Inspection) -> list[str]:
    sizes: dict[str, int] = {}
    for unit in report.units:
        sizes[unit.kind] = sizes.get(unit.kind, 0) + unit.size_bytes
    parts = ", ".join(f"{kind} {size}" for kind, size in sizes.items())
    headers = sum(tensor.header_bytes for tensor in report.tensors)
    per_value = f", {8 * report.size_bytes / report.n_values:.3f} bit/value" if report.n_values else ""
    return [
        f"File: {report.size_bytes} bytes for {report.n_values} values{per_value}.",
        f"Units: {parts} bytes; headers of data units {headers}.",
        f"Profile {report.profile}, QP density {report.qp_density}.",
        _verdict(report),
        *(f"Not understood: {text}." for text in report.skipped),
        *(f"{key}: {value}" for key, value in sorted(report.metadata.items())),
    ]


def _verdict(report: Inspection) -> str:
    if report.is_verifiable:
        return "Checked: number of units and checksum are right."
    return "Not verifiable: the file has no manifest, so a missing unit would not be noticed."
