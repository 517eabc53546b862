"""The reference software NNCodec 2.1.3 as a black box: a process that answers requests on its standard input.

It runs under the Python of an environment that has it (`VVC_NNR_PEER`), in a temporary folder, since it leaves files
where it runs. A request and an answer are each an 8-byte size, little endian, and a pickle: `(function, arguments)`
and `(True, result)` or `(False, message)`, with arrays as `("array", dtype, shape, bytes)`, since the two ends have
different versions of numpy. `benchmarks/peer.py` is the other end. Of this package it needs one file.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, BinaryIO

OPERATORS = Path(__file__).resolve().parents[1] / "experiments" / "zoo"
"""Folder of `codec_worker.py`, which needs nothing else of the package."""


def _import_peer() -> tuple[Any, Any]:
    """The peer's stream module and its tool for history mode."""
    import torch

    sys.path.append(str(OPERATORS))
    from codec_worker import make_torchvision_importable

    sys.path.pop()  # modules there have the names of packages
    make_torchvision_importable()
    torch.set_num_threads(int(os.environ.get("VVC_NNR_PEER_THREADS", "1")))
    from nncodec import nnc
    from nncodec.nnc_core.hdsp.hdsp_tool import HdspTool

    return nnc, HdspTool


class Worker:
    """What can be asked of the peer."""

    def __init__(self) -> None:
        self.nnc, self.history_tool = _import_peer()
        self.start_updates()

    def decompress(self, data: bytes) -> tuple[dict[str, Any], float]:
        """Arrays by name, and the time in seconds."""
        start = time.perf_counter()
        found = self.nnc.decompress(bytearray(data), verbose=False)
        return _packed(found), time.perf_counter() - start

    def compress(self, arrays: dict[str, Any], options: dict[str, Any]) -> tuple[bytes, float]:
        """A stream, and the time in seconds."""
        start = time.perf_counter()
        data = self.nnc.compress(_unpacked(arrays), bitstream_path=None, return_bitstream=True, **options)
        return bytes(data), time.perf_counter() - start

    def start_updates(self) -> None:
        """Forgets all updates."""
        self.base = {"parameters": {}, "put_node_depth": {}, "device_id": 0, "parameter_id": {}}
        self.history = self.history_tool(True)

    def decompress_update(self, data: bytes) -> dict[str, Any]:
        """Differences by name, after those of the updates before."""
        found = self.nnc.decompress(
            bytearray(data),
            approx_param_base=self.base,
            update_base_param=True,
            hdsp_tool=self.history,
            verbose=False,
        )
        self.history.add_data_to_hist(found)
        return _packed(found)


def _packed(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: ("array", str(a.dtype), a.shape, a.tobytes()) for name, a in arrays.items()}


def _unpacked(arrays: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    return {name: np.frombuffer(a[3], a[1]).reshape(a[2]).copy() for name, a in arrays.items()}


def _read(stream: BinaryIO) -> Any:
    head = stream.read(8)
    return pickle.loads(stream.read(struct.unpack("<q", head)[0])) if head else None


def main() -> None:
    """Answers requests until the input ends; whatever the peer prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        worker = Worker()
        while (request := _read(sys.stdin.buffer)) is not None:
            function, arguments = request
            try:
                answer = True, getattr(worker, function)(*arguments)
            except Exception as error:
                answer = False, f"{type(error).__name__}: {error}"
            data = pickle.dumps(answer, protocol=4)
            answers.write(struct.pack("<q", len(data)) + data)
            answers.flush()


if __name__ == "__main__":
    main()
