"""Trained networks of all kinds at default options: bytes and output SNR, beside the reference software and others.

    python benchmarks/any_network.py WHEELS --peer /path/to/python [--only NAME ...] [--json out.json]
    python benchmarks/any_network.py --packages        # what to download into WHEELS

Whole files at default options, graph and integers included, beside the float tensors by NNCodec 2.1.3 (`--peer` or
VVC_NNR_PEER; QP -32, non-weight QP -75) plus the graph with all else by zlib at level 9, floats as fp16 + xz, and ONNX
Runtime's dynamic int8 of ONNX models. The output SNR is the mean over outputs and inputs of noise over signal, in dB.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from package_networks import NETWORKS, Network, Outputs, load, run_onnx
from peer import Peer

from vvc_nnr.compress import decompress
from vvc_nnr.experiments.tables.table import Column, Table, to_markdown

PEER_OPTIONS = {"qp": -32, "nonweight_qp": -75, "use_dq": True, "row_skipping": True}
Floats = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Row:
    """A network by all codecs; None where one was not tried or failed."""

    network: str
    kind: str
    n_values: int
    peer_bytes: int | None
    peer_snr_db: float | None
    n_bytes: int
    snr_db: float
    half_bytes: int
    half_snr_db: float
    int8_bytes: int | None
    int8_snr_db: float | None


def snr_db(reference: Outputs, outputs: Outputs) -> float:
    """Mean over outputs of noise over signal, in dB; inf if they are the same, NaN if a shape changed."""
    shares = []
    for before, after in zip(reference, outputs, strict=True):
        for x, y in zip(before, after, strict=True):
            if np.shape(x) != np.shape(y):
                return math.nan
            signal = float(np.square(x, dtype=np.float64).mean())
            if signal > 0:
                shares.append(float(np.square(np.subtract(x, y, dtype=np.float64)).mean()) / signal)
    mean = float(np.mean(shares))
    return math.inf if mean == 0 else -10 * math.log10(mean)


def row_of(name: str, network: Network, peer: Peer | None) -> Row:
    """What all codecs make of a network."""
    floats, data = network.floats, network.coded()
    plain = {name: np.atleast_1d(array).astype(np.float32) for name, array in floats.items()}
    half = {name: array.astype(np.float16) for name, array in floats.items()}
    packed = lzma.compress(b"".join(array.tobytes() for array in half.values()), preset=9)
    theirs = None if peer is None else _by_peer(network, plain, peer)
    decoded = {name: value for name, value in decompress(data).items() if name in floats}
    int8 = _by_onnx_runtime(network) if network.is_onnx else None
    return Row(
        name, network.source.kind, sum(array.size for array in floats.values()),
        theirs[0] if theirs else None, theirs[1] if theirs else None,
        len(data), _output_snr_db(network, decoded), len(packed), _output_snr_db(network, half),
        int8[0] if int8 else None, int8[1] if int8 else None,
    )  # fmt: skip


def _output_snr_db(network: Network, changed: Floats) -> float:
    return snr_db(network.reference, network.outputs(changed))


def _by_peer(network: Network, plain: Floats, peer: Peer) -> tuple[int, float]:
    data, _ = peer.compress(plain, PEER_OPTIONS)
    return len(data) + network.graph_bytes, _output_snr_db(network, peer.decompress(data)[0])


def _by_onnx_runtime(network: Network) -> tuple[int, float] | None:
    """None where ONNX Runtime does not quantise or run the model."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = network.path.with_name("int8.onnx")
    try:
        quantize_dynamic(network.path, path, weight_type=QuantType.QUInt8)
        return path.stat().st_size, snr_db(network.reference, run_onnx(str(path), network.inputs))
    except Exception as error:  # whatever it meets in a graph
        print(f"onnxruntime: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
        return None


def table_of(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    columns = [Column("Network", text=True), Column("Kind", text=True), Column("Values")]
    for codec in ("NNCodec", "vvc_nnr", "fp16 + xz", "int8"):
        columns += [Column(codec, "byte"), Column(codec, "dB", digits=1)]
    cells = tuple(tuple(asdict(row).values()) for row in rows)
    return to_markdown(Table("Default options", tuple(columns), cells, ()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", nargs="?", type=Path)
    parser.add_argument("--peer", default=os.environ.get("VVC_NNR_PEER"))
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--packages", action="store_true")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    if asked.packages or asked.wheels is None:
        print("\n".join(sorted({source.package for source in NETWORKS.values()})))
        return 0
    torch.set_num_threads(1)
    rows = []
    for name in asked.only:
        print(name, file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            network = load(NETWORKS[name], asked.wheels, Path(folder))
            rows.append(_with_peer(asked.peer, lambda peer, name=name, network=network: row_of(name, network, peer)))
        print(table_of(rows[-1:]), file=sys.stderr)
    print(table_of(rows))
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return 0


def _with_peer(python: str | None, measure: Callable[[Peer | None], Row]) -> Row:
    if not python:
        return measure(None)
    with Peer(python) as peer:
        return measure(peer)


if __name__ == "__main__":
    sys.exit(main())
