"""A filter as an ONNX model, which ONNX Runtime and OpenVINO read."""

from __future__ import annotations

import io
import warnings
from copy import deepcopy

import torch

from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.networks.packing import N_PLANES

INPUTS = ("planes", "qp")
OPSET = 17


def to_onnx(network: InLoopNetwork) -> bytes:
    """The network with inputs `planes` (1, 6, H, W) and `qp` (1,), both float32, for any H and W.

    The package `onnx` has to be there. A network in bfloat16 is no part of this: each runtime lowers the precision
    itself.
    """
    own = deepcopy(network).cpu().float().eval()
    example = (torch.zeros(1, N_PLANES, 16, 24), torch.tensor([32.0]))
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's newer exporter needs one more package for the same graph
        torch.onnx.export(
            own,
            example,
            file,  # type: ignore[arg-type]  # this exporter takes streams too
            input_names=list(INPUTS),
            output_names=["filtered"],
            dynamic_axes={"planes": {2: "height", 3: "width"}, "filtered": {2: "height", 3: "width"}},
            opset_version=OPSET,
            dynamo=False,
        )
    return file.getvalue()
