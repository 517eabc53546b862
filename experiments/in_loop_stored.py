"""What a folder holds of the in-loop experiment: tables made from its rows and settings alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.bd_rate import Interpolation
from vvc_nnr.experiments.in_loop_gain_tables import coded_variants, gain_table, weights_table, worse_table
from vvc_nnr.experiments.in_loop_means import in_loop_results
from vvc_nnr.experiments.in_loop_rows import InLoopRow, NetworkRow
from vvc_nnr.experiments.in_loop_savings import sequence_savings
from vvc_nnr.experiments.in_loop_tables import (
    bd_rate_table,
    complexity_table,
    curve_table,
    doubt_table,
    network_bits_table,
    sequence_table,
)
from vvc_nnr.experiments.markup import Table
from vvc_nnr.experiments.notes import TIME_NOTE, bd_rate_note, in_loop_notes
from vvc_nnr.experiments.provenance import Conventions
from vvc_nnr.experiments.results import MIN_QPS_FOR_BD_RATE
from vvc_nnr.experiments.run_folder import RunFiles
from vvc_nnr.experiments.settings import fault_of_json
from vvc_nnr.experiments.tsv import read_rows
from vvc_nnr.json_text import parse_json

IN_LOOP_ROWS, IN_LOOP_NETWORKS, IN_LOOP_SETTINGS = "in_loop.tsv", "in_loop_networks.tsv", "in_loop.json"
IN_LOOP_FILES = RunFiles(
    IN_LOOP_ROWS,
    IN_LOOP_SETTINGS,
    (
        *("in_loop_complexity", "in_loop_gain_per_qp", "in_loop_worse", "in_loop_coded_weights", "in_loop_doubts"),
        *("in_loop_bd_rate", "in_loop_bd_rate_of_mean_curves", "in_loop_bd_rate_with_network_bits"),
        "in_loop_bd_rate_per_sequence",
    ),
)


@dataclass(frozen=True, slots=True)
class StoredInLoop:
    """An in-loop run.

    Attributes:
        rows: Those that the last run asked for.
        networks: The networks of the last run.
        header: Where the rows come from, and their conventions.
        interpolation: How its BD-rates are computed.
    """

    rows: tuple[InLoopRow, ...]
    networks: tuple[NetworkRow, ...]
    header: dict[str, str]
    interpolation: Interpolation

    def tables(self) -> dict[str, Table]:
        """The tables by file name."""
        return in_loop_tables(self.rows, self.networks, Conventions.from_header(self.header), self.interpolation)


def read_in_loop(folder: Path) -> StoredInLoop:
    """The in-loop run of a folder, without what earlier runs added for more sequences, QPs, pictures or networks.

    Raises:
        InputError: If rows or settings cannot be read.
    """
    found = read_rows(folder / IN_LOOP_ROWS, InLoopRow)
    networks = read_rows(folder / IN_LOOP_NETWORKS, NetworkRow).rows
    settings = _settings(folder / IN_LOOP_SETTINGS)
    qps, limit, names = settings["qps"], settings["max_pictures"], settings["sequences"]
    used = {(row.network, row.weights, row.network_sha256, row.loop_filters) for row in networks}
    rows = tuple(
        row
        for row in found.rows
        if row.sequence in names
        and row.qp in qps
        and (limit is None or row.picture < limit)
        and (row.method == "codec" or (row.network, row.weights, row.network_sha256, row.loop_filters) in used)
    )
    return StoredInLoop(rows, networks, found.header, settings["interpolation"])


def in_loop_tables(
    rows: Sequence[InLoopRow],
    networks: Sequence[NetworkRow],
    conventions: Conventions,
    interpolation: Interpolation = "pchip",
) -> dict[str, Table]:
    """The tables of a run by file name; BD-rates where there are four QPs.

    Raises:
        InputError: If two rows about the same thing differ.
    """
    results = in_loop_results(rows, networks)
    common = in_loop_notes(conventions, results)
    tables = {"in_loop_complexity": complexity_table(results, (TIME_NOTE, *common))}
    savings = sequence_savings(results, interpolation) if len(results.qps) >= MIN_QPS_FOR_BD_RATE else {}
    if savings:
        notes = (bd_rate_note(results, interpolation), *common)
        tables["in_loop_bd_rate"] = bd_rate_table(results, savings, (TIME_NOTE, *notes))
        tables["in_loop_bd_rate_of_mean_curves"] = curve_table(results, interpolation, notes)
        tables["in_loop_bd_rate_with_network_bits"] = network_bits_table(results, savings, notes)
        tables["in_loop_bd_rate_per_sequence"] = sequence_table(results, savings, notes)
        if coded_variants(results):
            tables["in_loop_coded_weights"] = weights_table(results, savings, interpolation, notes)
        doubts = doubt_table(results, savings)
        if doubts.rows:
            tables["in_loop_doubts"] = doubts
    tables["in_loop_gain_per_qp"] = gain_table(results, common)
    tables["in_loop_worse"] = worse_table(results, savings, common)
    return tables


def _settings(path: Path) -> dict[str, Any]:
    """What the last run asked for, checked."""
    try:
        settings = dict(parse_json(path.read_bytes())["settings"])
        found = {key: settings[key] for key in ("qps", "max_pictures", "sequences", "interpolation")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        fault = fault_of_json(error)
        raise InputError(f"{path}: no settings of an in-loop run: {fault}; run it into another folder") from error
    for key, kinds in (("qps", list), ("max_pictures", (int, type(None))), ("sequences", list)):
        if not isinstance(found[key], kinds):
            raise InputError(f"{path}: {key} {found[key]!r}: run the experiment again")
    if found["interpolation"] not in get_args(Interpolation):
        raise InputError(f"{path}: interpolation {found['interpolation']!r}: must be one of {get_args(Interpolation)}")
    return found
