"""One measurement in a process of its own: a codec codes or decodes a network several times.

Runs under the Python of this package or of the peer (see `peer_worker.py`) and needs numpy beside the codec. Takes a
JSON object as its argument and prints one:

    codec      "ours" or "peer"
    action     "encode" or "decode"
    network    .npz file; decoded values are compared with it
    stream     file that is written or read
    options    arguments of the codec's compress
    n_threads  threads of the codec; the peer's torch gets as many
    n_runs     repetitions

    times_s    of each run
    cpu_s      of each run, of all threads: says more than times_s on a busy machine
    peak_bytes beyond what was in use before the first run, with the network or the stream loaded
    n_bytes    of the stream
    mse        over all values (decode)
    sha256     of the decoded values, or of the stream
    version    of the codec
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

STATUS, PEAK_RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes() -> int:
    """Most memory that this process ever used, or since `reset_peak`.

    Linux lets a child inherit the `ru_maxrss` of its parent; its own figure is in `/proc`.
    """
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << (0 if sys.platform == "darwin" else 10)


def reset_peak() -> None:
    """Forgets the peak so far, where the system can."""
    with contextlib.suppress(OSError):
        PEAK_RESET.write_text("5")


def load_network(path: str) -> dict[str, Any]:
    """Arrays by name."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def our_codec(request: dict[str, Any]) -> tuple[Callable[[Any], bytes], Callable[[Any], Any], str]:
    """compress, decompress and version of this package."""
    import vvc_nnr
    from vvc_nnr.compress import compress, decompress

    n_threads, options = request["n_threads"], request["options"]
    return (
        lambda network: compress(network, n_threads=n_threads, **options),
        lambda data: decompress(data, n_threads=n_threads),
        vvc_nnr.__version__,
    )


def peer_codec(request: dict[str, Any]) -> tuple[Callable[[Any], bytes], Callable[[Any], Any], str]:
    """compress, decompress and version of the peer."""
    os.environ["VVC_NNR_PEER_THREADS"] = str(request["n_threads"])
    from peer_worker import _import_peer

    nnc, _ = _import_peer()
    return (
        lambda network: nnc.compress(network, bitstream_path=None, return_bitstream=True, **request["options"]),
        lambda data: nnc.decompress(data, verbose=False),
        version("nncodec"),
    )


def timed_runs(run: Callable[[Any], Any], given: Any, n_runs: int) -> tuple[Any, dict[str, Any]]:
    """The last result; the times of all runs, and the peak of memory in the first beyond what was in use before."""
    reset_peak()
    before_bytes = peak_bytes()
    result, times_s, cpu_s, peak = None, [], [], 0
    for _ in range(n_runs):
        result = None
        start, cpu_start = time.perf_counter(), time.process_time()
        result = run(given)
        times_s.append(time.perf_counter() - start)
        cpu_s.append(time.process_time() - cpu_start)
        peak = peak or peak_bytes() - before_bytes
    return result, {"times_s": times_s, "cpu_s": cpu_s, "peak_bytes": peak}


def mean_squared_error(network: dict[str, Any], decoded: dict[str, Any]) -> float:
    """Over all values of all tensors."""
    total, n_values = 0.0, 0
    for name, array in network.items():
        error = np.subtract(array, decoded[name], dtype=np.float64).reshape(-1)
        total += float(error @ error)
        n_values += error.size
    return total / n_values


def digest(decoded: dict[str, Any]) -> str:
    """SHA-256 of names and values."""
    found = hashlib.sha256()
    for name in sorted(decoded):
        found.update(name.encode())
        found.update(np.ascontiguousarray(decoded[name]))
    return found.hexdigest()


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """What was asked for."""
    compress, decompress, codec_version = (our_codec if request["codec"] == "ours" else peer_codec)(request)
    path = Path(request["stream"])
    if request["action"] == "encode":
        result, times = timed_runs(compress, load_network(request["network"]), request["n_runs"])
        data = bytes(result)
        path.write_bytes(data)
        found = {"sha256": hashlib.sha256(data).hexdigest(), "mse": None}
    else:
        data = bytearray(path.read_bytes())
        decoded, times = timed_runs(decompress, data, request["n_runs"])
        found = {"sha256": digest(decoded), "mse": mean_squared_error(load_network(request["network"]), decoded)}
    return found | times | {"n_bytes": len(data), "version": codec_version}


def main() -> None:
    """Measures in a temporary folder, since the peer leaves files; what the peer prints goes to standard error."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        json.dump(measure(json.loads(sys.argv[1])), answer)
    answer.close()


if __name__ == "__main__":
    main()
