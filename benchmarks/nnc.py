"""This codec beside the reference software NNCodec: bytes, error, time and memory on the same tensors.

    python benchmarks/nnc.py --peer /path/to/python [--case alexnet ...] [--runs 3] [--threads 1 2] [--json out.json]

The peer runs in an environment of its own, given by the Python that has nncodec 2.1.3 (default: `VVC_NNR_PEER`; without
it, only this codec is measured). Each measurement of a network is a process of its own. Cases:

    alexnet       61.1 million weights in the shapes of AlexNet
    batchnorm10m  3 x 3 convolutions of 10 million weights, with batch norms
    scaling       10^4 to 10^7 weights (--huge: 10^8), and 10^3 and, without the peer, 10^4 tensors of 32
    lowrate       bits per weight at equal error, at about 1, 1.5 and 2 bits
    bins          bins per second of one thread
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nnc_measure import (
    PEER_QP,
    BinsRow,
    CodingRow,
    LowRateRow,
    Settings,
    bins_rows,
    coding_rows,
    low_rate_rows,
)
from nnc_networks import OURS_ONLY, networks
from peer import PeerError

from vvc_nnr.errors import VvcNnrError
from vvc_nnr.experiments.records.provenance import gather_provenance
from vvc_nnr.experiments.records.tsv import RowWriter
from vvc_nnr.experiments.tables.table import Column, Table, to_markdown
from vvc_nnr.files import AtomicFile

CASES = ("alexnet", "batchnorm10m", "scaling", "lowrate", "bins")
LOW_RATE_WEIGHTS = 10**6
BINS_WEIGHTS = 10**7


@dataclass(frozen=True, slots=True)
class Result:
    """The rows of a case, all of one kind."""

    case: str
    rows: tuple[Any, ...]


def measure(case: str, settings: Settings, *, huge: bool) -> Result:
    """The rows of a case."""
    if case == "lowrate":
        return Result(case, tuple(low_rate_rows(LOW_RATE_WEIGHTS, settings)) if settings.peer_python else ())
    if case == "bins":
        return Result(case, tuple(bins_rows(BINS_WEIGHTS, settings)))
    rows: list[CodingRow] = []
    for name, make in networks(huge=huge)[case].items():
        print(f"{case}: {name}", file=sys.stderr)
        chosen = replace(settings, peer_python="") if name in OURS_ONLY else settings
        with tempfile.TemporaryDirectory() as folder:
            rows += coding_rows(name, make(), Path(folder), chosen)
    return Result(case, tuple(rows))


def table(result: Result, notes: Sequence[str]) -> Table:
    """The rows of a case as people read them."""
    makers: dict[str, Callable[[Iterable[Any]], Table]] = {"lowrate": low_rate_table, "bins": bins_table}
    made = makers.get(result.case, coding_table)(result.rows)
    return Table(f"{result.case}: {made.title}", made.columns, made.rows, (*made.notes, *notes))


def coding_table(rows: Iterable[CodingRow]) -> Table:
    """Sizes, errors, times and memory of whole networks."""
    columns = (
        Column("Network", text=True), Column("", text=True), Column("Codec", text=True), Column("File of", text=True),
        Column("Threads"), Column("Bytes"), Column("MSE", text=True), Column("Median", "s", digits=4),
        Column("Fastest", "s", digits=4), Column("CPU", "s", digits=4), Column("Per value", "ns", digits=1),
        Column("Memory", "models", digits=2),
        Column("Faster than peer", "times", digits=1),
    )  # fmt: skip
    cells = tuple(
        (
            r.network, r.action, r.codec, r.file_of, r.n_threads, r.n_bytes, "" if r.mse is None else f"{r.mse:.5e}",
            r.median_s, r.min_s, r.cpu_s, 1e9 * r.median_s / r.n_values, r.peak_models, r.speedup,
        )
        for r in rows
    )  # fmt: skip
    notes = (
        f"Peer: dependent quantisation, QP {PEER_QP}, else its defaults. Ours: defaults. Times are of compress and "
        "decompress in one process, files not included (CPU: median over the runs, all threads); faster: the peer's "
        "median on its own file by ours.",
        "Memory: the peak beyond the network (4 bytes a value) and, when decoding, the stream, in the first run; "
        "noise of some MB, so it says nothing of small networks.",
    )
    return Table("size, error, time and memory", columns, cells, notes)


def low_rate_table(rows: Iterable[LowRateRow]) -> Table:
    """Bits at equal error."""
    columns = (
        Column("Wanted", "bits/weight", digits=1), Column("Peer's QP"), Column("Peer", "bits/weight", digits=4),
        Column("Peer's MSE", text=True), Column("Our search", text=True), Column("lambda_rd", text=True),
        Column("Ours", "bits/weight", digits=4), Column("Saved", "%", digits=2, signed=True),
        Column("Encode", "ns/weight", digits=1),
    )  # fmt: skip
    cells = tuple(
        (
            r.wanted_bits, r.peer_qp, r.peer_bits, f"{r.peer_mse:.5e}", r.search, r.lambda_rd, r.bits, r.saved_percent,
            r.encode_ns,
        )
        for r in rows
    )  # fmt: skip
    note = (
        f"One Laplacian matrix of {LOW_RATE_WEIGHTS:,} weights. Ours is at the peer's error, interpolated "
        "between two neighbours of the format's finest steps (128 an octave). Encode: processor time of compress in "
        "one thread, fastest run."
    )
    return Table("bits at equal error", columns, cells, (note,))


def bins_table(rows: Iterable[BinsRow]) -> Table:
    """Speed of the arithmetic coder with its contexts."""
    columns = (
        Column("Bins"), Column("Bits per bin", digits=3), Column("Scan order"), Column("Entry points"),
        Column("Encode", "Mbins/s", digits=1), Column("Decode", "Mbins/s", digits=1), Column("Load", digits=2),
    )  # fmt: skip
    cells = tuple(
        (r.n_bins, r.bits_per_bin, r.scan_order, r.n_entry_points, r.encode_mbins_s, r.decode_mbins_s, r.load_average)
        for r in rows
    )
    note = (
        f"One Laplacian matrix of {BINS_WEIGHTS:,} weights with dependent quantisation, one thread, fastest run, "
        "bypass bins counted. Scan order 0 is one codeword in order; scan order 4 is decoded from its entry points. "
        "Encoding is with given indices and estimators."
    )
    return Table("bins per second", columns, cells, (note,))


def provenance(peer_python: str) -> dict[str, str]:
    """Version, commit, machine and its load."""
    load = " ".join(f"{average:.2f}" for average in os.getloadavg())
    return gather_provenance().to_header() | {"load_average": load, "peer": "yes" if peer_python else "no"}


def write_tsv(folder: Path, result: Result, header: dict[str, str]) -> None:
    """The rows of a case, `nnc_<case>.tsv`, in place of older ones."""
    if not result.rows:
        return
    path = folder / f"nnc_{result.case}.tsv"
    path.unlink(missing_ok=True)
    with RowWriter(path, type(result.rows[0]), header) as writer:
        writer.append(result.rows)


def write_json(path: Path, results: Iterable[Result], header: dict[str, str]) -> None:
    """All cases with their provenance."""
    cases = {result.case: [asdict(row) for row in result.rows] for result in results}
    with AtomicFile(path) as file:
        file.write(json.dumps({"provenance": header, "cases": cases}, indent=1).encode())


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default=os.environ.get("VVC_NNR_PEER", ""), help="Python that has nncodec 2.1.3")
    parser.add_argument("--case", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of this codec")
    parser.add_argument("--huge", action="store_true", help="scaling up to 10^8 weights")
    parser.add_argument("--json", type=Path, help="file for all rows")
    parser.add_argument("--tsv", type=Path, help="folder for one file per case")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints each table when it is ready, and writes the files that were asked for."""
    options = build_parser().parse_args(argv)
    settings = Settings(options.peer, max(1, options.runs), tuple(options.threads))
    header = provenance(options.peer)
    print("\n".join(f"# {key}: {value}" for key, value in header.items()) + "\n", flush=True)
    results = []
    try:
        for case in options.case:
            results.append(measure(case, settings, huge=options.huge))
            load = f"Load average afterwards: {os.getloadavg()[0]:.2f}."
            print(to_markdown(table(results[-1], [load])), flush=True)
            if options.tsv:
                write_tsv(options.tsv, results[-1], header)
            if options.json:
                write_json(options.json, results, header)
    except (PeerError, VvcNnrError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
