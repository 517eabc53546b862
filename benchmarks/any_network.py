"""Trained networks of all kinds: bytes and output SNR, beside the reference software and others.

    python benchmarks/any_network.py WHEELS --peer /path/to/python [--draws 10] [--only NAME ...] [--json out.json]
        [--sensitivity synthetic|inputs]
    python benchmarks/any_network.py --packages        # what to download into WHEELS

Whole files at default options, graph and integers included, beside the float tensors by NNCodec 2.1.3 (`--peer` or
VVC_NNR_PEER; QP -32, non-weight QP -75) plus the graph with all else by zlib at level 9, floats as fp16 + xz, and ONNX
Runtime's dynamic int8 of ONNX models. The output SNR is the mean over outputs and inputs of noise over signal, in dB.

One file is one draw of quantisation noise. `--draws` codes each network that often by both, its weights times factors
within 5 %, which are taken out again before it is run; the first is 1, and bytes are its. SNRs are then means in dB,
with their standard deviations beside them: what differs by less than a few of these, over the root of the number of
draws, is chance.

`--sensitivity` has files of this package with steps by what noise in each tensor does to the outputs on synthetic
inputs, or on four inputs of the network's kind. Outputs are measured on eight others.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import lzma
import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from package_networks import NETWORKS, Network, Outputs, load, run_onnx
from peer import Peer

from vvc_nnr.compress import decompress
from vvc_nnr.experiments.tables.table import Column, Table, to_markdown

DRAWS_SEED, LARGEST_CHANGE = 5, 0.05
PEER_OPTIONS = {"qp": -32, "nonweight_qp": -75, "use_dq": True, "row_skipping": True}
Floats = Mapping[str, NDArray[Any]]
MeasuredOn = Literal["synthetic", "inputs"]


@dataclass(frozen=True, slots=True)
class Row:
    """A network by all codecs; None where one was not tried or failed. Spreads are standard deviations over draws."""

    network: str
    kind: str
    n_values: int
    peer_bytes: int | None
    peer_snr_db: float | None
    peer_spread_db: float | None
    n_bytes: int
    snr_db: float
    spread_db: float
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


def factors_of_draws(n_draws: int) -> list[float]:
    """What weights are multiplied by in each draw, 1 in the first."""
    rng = np.random.default_rng(DRAWS_SEED)
    return [1.0, *(1 + rng.uniform(-LARGEST_CHANGE, LARGEST_CHANGE, n_draws - 1)).tolist()]


def row_of(
    name: str, network: Network, peer: Peer | None, n_draws: int = 1, sensitivity: MeasuredOn | None = None
) -> Row:
    """What all codecs make of a network."""
    floats, factors = network.floats, factors_of_draws(n_draws)
    half = {name: array.astype(np.float16) for name, array in floats.items()}
    packed = lzma.compress(b"".join(array.tobytes() for array in half.values()), preset=9)
    theirs = None if peer is None else [_by_peer(network, factor, peer) for factor in factors]
    ours = [_by_this_package(network, factor, sensitivity) for factor in factors]
    int8 = _by_onnx_runtime(network) if network.is_onnx else None
    return Row(
        name, network.source.kind, sum(array.size for array in floats.values()),
        *(mean_and_spread(theirs) if theirs else (None, None, None)),
        *mean_and_spread(ours), len(packed), _output_snr_db(network, half),
        int8[0] if int8 else None, int8[1] if int8 else None,
    )  # fmt: skip


def mean_and_spread(draws: Sequence[tuple[int, float]]) -> tuple[int, float, float]:
    """Bytes of the first draw; mean and standard deviation of the SNRs in dB."""
    snrs = [ratio for _, ratio in draws]
    spread = float(np.std(snrs, ddof=1)) if len(snrs) > 1 and np.isfinite(snrs).all() else 0.0
    return draws[0][0], float(np.mean(snrs)), spread


def _output_snr_db(network: Network, changed: Floats) -> float:
    return snr_db(network.reference, network.outputs(changed))


def _by_this_package(network: Network, factor: float, sensitivity: MeasuredOn | None) -> tuple[int, float]:
    data = network.coded(factor, sensitivity)
    decoded = {name: value for name, value in decompress(data).items() if name in network.floats}
    return len(data), _output_snr_db(network, network.times(1 / factor, decoded))


def _by_peer(network: Network, factor: float, peer: Peer) -> tuple[int, float]:
    plain = {name: np.atleast_1d(array).astype(np.float32) for name, array in network.floats.items()}
    data, _ = peer.compress(network.times(factor, plain), PEER_OPTIONS)
    decoded = network.times(1 / factor, peer.decompress(data)[0])
    return len(data) + network.graph_bytes, _output_snr_db(network, decoded)


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


def table_of(rows: Sequence[Row], sensitivity: MeasuredOn | None = None) -> str:
    """The rows in Markdown."""
    title = "Default options" if sensitivity is None else f"Steps by sensitivity, {sensitivity}"
    columns = [Column("Network", text=True), Column("Kind", text=True), Column("Values")]
    for codec in ("NNCodec", "vvc_nnr"):
        columns += [Column(codec, "byte"), Column(codec, "dB", digits=1), Column("±", "dB", digits=1)]
    for codec in ("fp16 + xz", "int8"):
        columns += [Column(codec, "byte"), Column(codec, "dB", digits=1)]
    cells = tuple(tuple(asdict(row).values()) for row in rows)
    return to_markdown(Table(title, tuple(columns), cells, ()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", nargs="?", type=Path)
    parser.add_argument("--peer", default=os.environ.get("VVC_NNR_PEER"))
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--packages", action="store_true")
    parser.add_argument("--draws", type=int, default=1, help="files of each network by both codecs")
    parser.add_argument("--sensitivity", choices=get_args(MeasuredOn), help="steps by what noise does to outputs")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    if asked.packages or asked.wheels is None:
        print("\n".join(sorted({source.package for source in NETWORKS.values()})))
        return 0
    if asked.json and not asked.json.parent.is_dir():
        parser.error(f"--json: {asked.json.parent} is no folder")
    torch.set_num_threads(1)
    rows = []
    for name in asked.only:
        print(name, file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            network = load(NETWORKS[name], asked.wheels, Path(folder))
            with Peer(asked.peer) if asked.peer else contextlib.nullcontext() as peer:
                rows.append(row_of(name, network, peer, asked.draws, asked.sensitivity))
        print(table_of(rows[-1:], asked.sensitivity), file=sys.stderr)
        if asked.json:
            asked.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    print(table_of(rows, asked.sensitivity))
    return 0


if __name__ == "__main__":
    sys.exit(main())
