"""What the benchmark measures: rows of coding and decoding whole networks, of low rates, and of bins per second."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
from nnc_networks import Network, n_values, one_matrix
from peer import Peer, PeerError

from vvc_nnr import _kernels
from vvc_nnr.bitstream.qp import step_size
from vvc_nnr.compress import compress, decompress
from vvc_nnr.kernels.entropy_coding import TensorInput, decode_payload, encode_payload
from vvc_nnr.kernels.tensor_params import TensorParams
from vvc_nnr.options import Search
from vvc_nnr.quantize.dependent import quantize_indices

Codec = Literal["peer", "ours"]
Action = Literal["encode", "decode"]

WORKER = Path(__file__).with_name("nnc_worker.py")
PEER_QP = -32
# The finest steps that the format has, to meet an error closely.
FINE_DENSITY, FINE_QPS = 7, (-1600, 200)
LOW_RATE_BITS = (1.0, 1.5, 2.0)
LAMBDAS: dict[Search, tuple[float | None, ...]] = {
    "fast": (0.0, None, 0.75, 1.0, 2.0),
    "thorough": (None, 0.75, 0.85, 1.05),
}
BIN_STEPS = (2.0**-4, 2.0**-6, 2.0**-8)


@dataclass(frozen=True, slots=True)
class Settings:
    """How much is measured, and with which Python the peer runs (empty: without it)."""

    peer_python: str
    n_runs: int = 3
    n_threads: tuple[int, ...] = (1, 2)

    def python(self, codec: Codec) -> str:
        """The interpreter of a codec."""
        return sys.executable if codec == "ours" else self.peer_python


@dataclass(frozen=True, slots=True)
class CodingRow:
    """One codec on one network. Times of encoding and decoding; `speedup` is the peer's median time by this one."""

    network: str
    action: Action
    codec: Codec
    file_of: Codec
    version: str
    n_threads: int
    n_values: int
    n_bytes: int
    mse: float | None
    median_s: float
    min_s: float
    cpu_s: float
    n_runs: int
    peak_models: float
    speedup: float | None
    load_average: float


@dataclass(frozen=True, slots=True)
class LowRateRow:
    """Bits per weight at the peer's error, and the processor time per weight of encoding in one thread."""

    wanted_bits: float
    peer_qp: int
    peer_bits: float
    peer_mse: float
    search: Search
    lambda_rd: str
    bits: float
    saved_percent: float
    encode_ns: float


@dataclass(frozen=True, slots=True)
class BinsRow:
    """Millions of bins per second of one tensor in one thread."""

    n_bins: int
    bits_per_bin: float
    scan_order: int
    n_entry_points: int
    encode_mbins_s: float
    decode_mbins_s: float
    load_average: float


def coding_rows(name: str, network: Network, folder: Path, settings: Settings) -> Iterator[CodingRow]:
    """Both codecs on a network: each encodes, and each decodes both files. Results must be the same values.

    Raises:
        PeerError: If a codec fails, or the two decode one file to different values.
    """
    source = folder / "network.npz"
    np.savez(source, allow_pickle=False, **network)
    bench = _NetworkBench(name, n_values(network), source, folder, settings)
    network.clear()
    codecs: tuple[Codec, ...] = ("peer", "ours") if settings.peer_python else ("ours",)
    encoded = [row for codec in codecs for row in bench.rows("encode", codec, codec)]
    decoded = [row for file_of in codecs for codec in codecs for row in bench.rows("decode", codec, file_of)]
    mse_of = {row.file_of: row.mse for row in decoded}
    rows = [replace(row, mse=mse_of[row.file_of]) for row in encoded] + decoded
    yield from (replace(row, speedup=speedup(row, rows)) for row in rows)


def speedup(row: CodingRow, rows: list[CodingRow]) -> float | None:
    """How often faster than the peer on its own file; None without the peer."""
    peers = [r for r in rows if (r.action, r.codec, r.file_of) == (row.action, "peer", "peer")]
    return peers[0].median_s / row.median_s if peers else None


@dataclass(frozen=True, slots=True)
class _NetworkBench:
    name: str
    n_values: int
    source: Path
    folder: Path
    settings: Settings

    def rows(self, action: Action, codec: Codec, file_of: Codec) -> Iterator[CodingRow]:
        """One per number of threads; the peer gets as many as there may be."""
        digests = self.folder / f"{file_of}.digest"
        for n_threads in self.settings.n_threads if codec == "ours" else (max(self.settings.n_threads),):
            load = os.getloadavg()[0]
            options = {"qp": PEER_QP} if codec == "peer" else {}
            found = self._ask(action, codec, file_of, options, n_threads)
            if action == "decode":
                if digests.exists() and digests.read_text() != found["sha256"]:
                    raise PeerError(f"{self.name}: the file of {file_of} decodes differently")
                digests.write_text(found["sha256"])
            model_bytes = 4 * self.n_values
            peak = found["peak_bytes"] - (model_bytes if action == "decode" else 0)
            yield CodingRow(
                network=self.name, action=action, codec=codec, file_of=file_of, version=found["version"],
                n_threads=n_threads, n_values=self.n_values, n_bytes=found["n_bytes"], mse=found["mse"],
                median_s=median(found["times_s"]), min_s=min(found["times_s"]), cpu_s=median(found["cpu_s"]),
                n_runs=len(found["times_s"]), peak_models=peak / model_bytes, speedup=None, load_average=load,
            )  # fmt: skip

    def _ask(self, action: Action, codec: Codec, file_of: Codec, options: dict[str, Any], n_threads: int) -> Any:
        request = {
            "codec": codec, "action": action, "network": str(self.source), "options": options,
            "stream": str(self.folder / f"{file_of}.nnc"), "n_threads": n_threads, "n_runs": self.settings.n_runs,
        }  # fmt: skip
        command = [self.settings.python(codec), str(WORKER), json.dumps(request)]
        environment = os.environ | ({"PYTHONPATH": ""} if codec == "peer" else {})
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise PeerError(f"{codec}, {action} of {self.name}: {done.stderr.strip()[-2000:]}")
        return json.loads(done.stdout)


def low_rate_rows(n_weights: int, settings: Settings) -> Iterator[LowRateRow]:
    """Our bits with rate terms at the peer's error, at about 1, 1.5 and 2 bits per weight."""
    network = one_matrix(n_weights)
    with Peer(settings.peer_python) as peer:
        for wanted in LOW_RATE_BITS:
            peer_qp = largest(_is_above(network, wanted), -60, 0)
            data, _ = peer.compress(network, {"qp": peer_qp})
            peer_bits, peer_mse = 8 * len(data) / n_weights, _mse(network, peer.decompress(data)[0])
            for search, lambda_rd in ((s, value) for s, values in LAMBDAS.items() for value in values):
                options: dict[str, Any] = {"qp_density": FINE_DENSITY, "lambda_rd": lambda_rd, "search": search}
                qp, n_bits = _at_mse(network, options, peer_mse)
                encode = partial(compress, network, qp=qp, n_threads=1, **options)
                encode_s = _shortest_s(encode, settings.n_runs, time.process_time)
                name = "default" if lambda_rd is None else f"{lambda_rd:g}"
                bits = n_bits / n_weights
                yield LowRateRow(
                    wanted, peer_qp, peer_bits, peer_mse, search, name, bits, 100 * (1 - bits / peer_bits),
                    1e9 * encode_s / n_weights,
                )  # fmt: skip


def _is_above(network: Network, wanted_bits: float) -> Callable[[int], bool]:
    """Tells of a QP if it takes at least so many bits per weight."""
    n_bytes = wanted_bits * n_values(network) / 8
    return lambda qp: len(compress(network, qp=qp, lambda_rd=0.0)) >= n_bytes


def _at_mse(network: Network, options: dict[str, Any], mse: float) -> tuple[int, float]:
    """QP and bits of our stream at an error, these between the two nearest of the format's finest steps."""

    def coded(qp: int) -> tuple[float, float]:
        data = compress(network, qp=qp, **options)
        return _mse(network, decompress(data)), 8.0 * len(data)

    qp = largest(lambda qp: coded(qp)[0] <= mse, *FINE_QPS)
    return qp, at_error(mse, coded(qp), coded(qp + 1))


def at_error(mse: float, below: tuple[float, float], above: tuple[float, float]) -> float:
    """Bits at an error, linear in its logarithm between two points of error and bits."""
    share = math.log(mse / below[0]) / math.log(above[0] / below[0])
    return below[1] + share * (above[1] - below[1])


def largest(is_right: Callable[[int], bool], low: int, high: int) -> int:
    """The largest number from low to high for which something holds that holds up to it and not beyond."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if is_right(middle) else (low, middle - 1)
    return low


def _mse(network: Network, decoded: dict[str, Any]) -> float:
    return float(np.mean([np.mean((network[n].astype(np.float64) - decoded[n]) ** 2) for n in network]))


def bins_rows(n_weights: int, settings: Settings) -> Iterator[BinsRow]:
    """One matrix with small to large levels, in one thread: one codeword in order, and from its entry points."""
    (weights,) = one_matrix(n_weights).values()
    for step in BIN_STEPS:
        for scan_order in (0, 4):
            n_rows, n_columns = weights.shape
            params = TensorParams(n_rows, n_columns, dq_flag=True, unary_length=11, scan_order=scan_order)
            indices = quantize_indices(weights, params, step_size(PEER_QP, 2) * step / BIN_STEPS[-1]).indices
            yield _bins_row(params, indices, settings)


def _bins_row(params: TensorParams, indices: np.ndarray[Any, np.dtype[np.int32]], settings: Settings) -> BinsRow:
    load = os.getloadavg()[0]
    record = _kernels.record_bins(params.layout(), indices, None, 1, False)
    n_bins = int(record.n_bins.sum()) + record.n_bypass
    encoded = encode_payload([TensorInput(params, indices)])
    given = [TensorInput(params, indices, encoded.choices[0])]
    entries = [encoded.entry_points[0] or None]

    def decode() -> Any:
        return decode_payload(
            encoded.data, [params], max_elements=params.n_values, has_qp=False, output="indices", entry_points=entries
        )

    if not np.array_equal(decode()[0].numbers, indices):
        raise PeerError("a tensor decodes differently")
    encode_s = _shortest_s(lambda: encode_payload(given), settings.n_runs)
    decode_s = _shortest_s(decode, settings.n_runs)
    return BinsRow(
        n_bins, 8 * len(encoded.data) / n_bins, params.scan_order, len(encoded.entry_points[0]),
        n_bins / encode_s / 1e6, n_bins / decode_s / 1e6, load,
    )  # fmt: skip


def _shortest_s(work: Callable[[], Any], n_runs: int, clock: Callable[[], float] = time.perf_counter) -> float:
    times_s = []
    for _ in range(n_runs):
        start = clock()
        work()
        times_s.append(clock() - start)
    return min(times_s)
