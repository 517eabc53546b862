"""What every way to compute a filter looks like from outside."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

BackendName: TypeAlias = Literal["torch", "torch-compile", "onnxruntime", "openvino", "native"]
Precision: TypeAlias = Literal["float32", "bfloat16", "int8"]


class Backend(Protocol):
    """One network, made ready once and kept; the size of its input and the QP may change from call to call."""

    @property
    def description(self) -> str:
        """What computes, with its version."""

    @property
    def n_parallel(self) -> int:
        """How many threads may call `run` at a time."""

    def run(self, planes: NDArray[np.float32], qp: float | None) -> NDArray[np.float32]:
        """The network's output.

        Args:
            planes: (C, H, W), contiguous, as the network takes them; a QP plane is among them.
            qp: The network's second input, None if it has none.

        Returns:
            (C', H', W'), not clipped; valid until the same thread calls again.
        """
