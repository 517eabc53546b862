"""The other end of `peer_worker.py`: the reference software as an object, in a process of its own."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORKER = Path(__file__).with_name("peer_worker.py")


class PeerError(Exception):
    """What the peer raised, or that its process ended."""


class Peer:
    """A running peer; use it in a `with` block.

    Args:
        python: The interpreter of an environment with nncodec 2.1.3.
        n_threads: Threads of its torch.
    """

    def __init__(self, python: str, n_threads: int = 1) -> None:
        environment = os.environ | {"VVC_NNR_PEER_THREADS": str(n_threads), "PYTHONPATH": ""}
        self.process = subprocess.Popen(
            [python, str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:  # on a busy machine; its answers are there
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def decompress(self, data: bytes) -> tuple[dict[str, NDArray[Any]], float]:
        """Arrays by name, and the time in seconds."""
        packed, seconds = self._ask("decompress", data)
        return _unpacked(packed), seconds

    def compress(self, arrays: Mapping[str, NDArray[Any]], options: dict[str, Any]) -> tuple[bytes, float]:
        """A stream, and the time in seconds."""
        packed = {name: ("array", str(a.dtype), a.shape, a.tobytes()) for name, a in arrays.items()}
        data, seconds = self._ask("compress", packed, options)
        return data, seconds

    def start_updates(self) -> None:
        """Makes the peer forget all updates."""
        self._ask("start_updates")

    def decompress_update(self, data: bytes) -> dict[str, NDArray[Any]]:
        """Differences by name, after those of the updates before."""
        return _unpacked(self._ask("decompress_update", data))

    def _ask(self, function: str, *arguments: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = pickle.dumps((function, arguments), protocol=4)
        self.process.stdin.write(struct.pack("<q", len(request)) + request)
        self.process.stdin.flush()
        head = self.process.stdout.read(8)
        if len(head) < 8:
            raise PeerError(f"the peer's process ended with code {self.process.wait()}")
        is_right, result = pickle.loads(self.process.stdout.read(struct.unpack("<q", head)[0]))
        if not is_right:
            raise PeerError(result)
        return result


def _unpacked(arrays: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    return {name: np.frombuffer(a[3], a[1]).reshape(a[2]) for name, a in arrays.items()}
