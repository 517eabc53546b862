"""OpenVINO on the processor (extra `openvino`)."""

from __future__ import annotations

import sys
import threading
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import nn

from vvc_nnr.filters.inference.choice import Precision
from vvc_nnr.filters.inference.onnxruntime import to_onnx
from vvc_nnr.filters.networks.layout import Layout
from vvc_nnr.filters.networks.onnx_network import OnnxNetwork, planes_place

# Importing OpenVINO else starts a process that reports the import to its makers over the network; it uses a stub then.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
import openvino  # noqa: E402

_HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}
_Shape: TypeAlias = tuple[int, ...]


class OpenVinoBackend:
    """One thread for each call, `n_threads` calls at a time.

    The model is compiled for one shape, which is a fifth faster than for any; the last one is kept.

    Args:
        network: The filter.
        layout: How pictures go into it.
        precision: Set in any case: left alone, OpenVINO takes bfloat16 where the processor has it.
        n_threads: How many calls may run at a time.
    """

    def __init__(
        self, network: nn.Module, layout: Layout, precision: Precision = "float32", n_threads: int = 1
    ) -> None:
        self._core = _core()
        # The first call fills a table of OpenVINO's; two threads that make it at once wait for each other for ever.
        openvino.Type.f32.to_dtype()
        self._model = to_onnx(network, layout)
        self._planes = 0
        if isinstance(network, OnnxNetwork):
            self._planes = planes_place(network.graph_inputs, layout.n_inputs)
        self._settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": n_threads,
            "NUM_STREAMS": n_threads,
            "ENABLE_CPU_PINNING": False,
        }
        self._lock = threading.Lock()
        self._compiled: tuple[_Shape, Any] | None = None
        self._local = threading.local()
        self.n_parallel = n_threads
        self.description = f"openvino {openvino.__version__.partition('-')[0]}"

    def run(self, planes: NDArray[np.float32], qp: float | None) -> NDArray[np.float32]:
        """The network's output (C', H', W') for planes (C, H, W), not clipped; valid until this thread calls again."""
        feeds = {self._planes: planes[None]}
        if qp is not None:
            feeds[1 - self._planes] = np.array([qp], np.float32)
        request = self._request(planes.shape)
        outputs = request.infer(feeds, share_inputs=True, share_outputs=True)
        output: NDArray[np.float32] = outputs[0][0]
        return output

    def _request(self, shape: _Shape) -> Any:
        """The calling thread's own inference request for a shape."""
        compiled = self._compiled_for(shape)
        if getattr(self._local, "compiled", None) is not compiled:
            self._local.compiled, self._local.request = compiled, compiled.create_infer_request()
        return self._local.request

    def _compiled_for(self, shape: _Shape) -> Any:
        with self._lock:
            if self._compiled is None or self._compiled[0] != shape:
                model = self._core.read_model(self._model)
                others = list(model.inputs)
                planes = others.pop(self._planes)
                model.reshape({planes: [1, *shape], **{each: [1] * len(each.partial_shape) for each in others}})
                self._compiled = shape, self._core.compile_model(model, "CPU", self._settings)
            return self._compiled[1]


@cache
def _core() -> Any:
    """The one core of the process, which lives until its end.

    The CPU plugin gives the thread that loads it a stack for signal handlers, and takes it back in the thread that
    drops the last model. Where these are two, the next signal (Ctrl-C) would run on a stack that is gone: a crash.
    """
    return openvino.Core()
