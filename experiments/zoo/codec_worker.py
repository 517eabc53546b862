"""One network through one codec in a process of its own: bytes, times, memory, and the tensors that come back.

Runs under the Python of this package or of the reference software, and needs numpy beside the codec. Takes a JSON
object from standard input and prints one:

    codec      "ours" or "peer"
    network    .npz file of the tensors
    decoded    .npz file that is written
    options    arguments of the codec
    roles      role of each tensor by name (ours)

    encode_s, decode_s   processor time of one run each, all threads (there is one)
    peak_bytes           most memory of the process beyond what it had before coding
    n_bytes              of the stream
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
STATUS, PEAK_RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes() -> int | None:
    """Most memory since `reset_peak`, None where the system does not tell."""
    if not STATUS.exists():
        return None
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def reset_peak() -> None:
    """Forgets the peak so far, where the system can."""
    with contextlib.suppress(OSError):
        PEAK_RESET.write_text("5")


@cache
def make_torchvision_importable() -> Any:
    """Declares torchvision's operators without kernels where it does not import beside this torch, which asks for them.

    Returns:
        What has declared them, which the cache keeps for as long as the process lives. None where nothing is needed.
    """
    if importlib.util.find_spec("torchvision") is None:
        return None
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        import torch

        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for schema in SCHEMAS:
            library.define(schema)
        return library
    return None


def import_peer() -> Any:
    """The peer's module of streams."""
    import torch

    make_torchvision_importable()
    torch.set_num_threads(1)
    from nncodec import nnc

    return nnc


def code_with_ours(network: dict[str, Any], request: dict[str, Any]) -> tuple[bytes, dict[str, Any], float, float]:
    """Stream, decoded tensors, and both times."""
    from vvc_nnr.coding.encoder import compress_arrays
    from vvc_nnr.compress import decompress
    from vvc_nnr.options import CompressOptions
    from vvc_nnr.roles.roles import Role, TensorRole

    roles = {name: TensorRole(Role(role), "the row") for name, role in request["roles"].items()}
    start = time.process_time()
    data = compress_arrays(network, CompressOptions(n_threads=1, **request["options"]), roles=roles)
    middle = time.process_time()
    decoded = decompress(data, n_threads=1)
    return data, decoded, middle - start, time.process_time() - middle


def code_with_peer(network: dict[str, Any], request: dict[str, Any]) -> tuple[bytes, dict[str, Any], float, float]:
    """Stream, decoded tensors, and both times."""
    nnc = import_peer()
    start = time.process_time()
    data = bytes(nnc.compress(network, bitstream_path=None, return_bitstream=True, **request["options"]))
    middle = time.process_time()
    decoded = nnc.decompress(bytearray(data), verbose=False)
    return data, decoded, middle - start, time.process_time() - middle


def main() -> None:
    """Codes in a temporary folder, since the peer leaves files; what the peer prints goes to standard error."""
    request = json.load(sys.stdin)
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with np.load(request["network"]) as file:
        network = {name: file[name] for name in file.files}
    place = Path(request["decoded"]).parent
    with tempfile.TemporaryDirectory(dir=place) as folder, contextlib.chdir(folder):
        code = code_with_ours if request["codec"] == "ours" else code_with_peer
        reset_peak()
        before = peak_bytes()
        data, decoded, encode_s, decode_s = code(network, request)
        after = peak_bytes()
    np.savez(request["decoded"], **decoded)
    memory = None if before is None or after is None else after - before
    json.dump({"encode_s": encode_s, "decode_s": decode_s, "peak_bytes": memory, "n_bytes": len(data)}, answer)
    answer.close()


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file, which has modules of the same names as packages
    main()
