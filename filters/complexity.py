"""What a filter costs, counted on the module that runs: nothing here is taken from a name or a card."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vvc_nnr.filters.networks.foreign import declared_layout, own_copy
from vvc_nnr.filters.networks.layout import RUNS, Layout
from vvc_nnr.filters.networks.onnx_network import OnnxNetwork, feeds
from vvc_nnr.filters.zoo import n_parameters
from vvc_nnr.model.onnx_proto import import_onnx

_SIDE = 64
"""Samples per row and column of the planes that are counted."""


@dataclass(frozen=True, slots=True)
class Complexity:
    """The cost of a filter.

    Attributes:
        kmac_per_luma_sample: Thousand multiplications with addition per luma sample of a 4:2:0 picture, chroma's
            included: those of convolutions and matrix products. Biases, activations and sums are not counted.
        n_parameters: Weights and biases.
    """

    kmac_per_luma_sample: float
    n_parameters: int


def complexity(network: nn.Module, layout: Layout | None = None) -> Complexity:
    """The cost of a filter, from a forward pass over shapes alone: no sample is computed.

    Every convolution and matrix product that runs is counted, whichever layer or function asks for it. The pass is one
    over real samples where a module of a user's own cannot be run over shapes.

    Args:
        network: The filter.
        layout: How pictures go into it; None: as it says itself. Samples that patches read twice count once.
    """
    layout = layout or declared_layout(network)
    height, width = layout.patch or (layout.align * -(-_SIDE // layout.align) + 2 * layout.overlap,) * 2
    n_luma = height * width * layout.n_luma_per_sample
    shapes: list[tuple[int, ...]] = [(1, layout.n_inputs, height, width)]
    shapes += [(1,)] if layout.qp == "scalar" else []
    n_mac = _macs_of_graph(network, shapes) if isinstance(network, OnnxNetwork) else _macs_of_module(network, shapes)
    runs = sum(1 if "y" in run else 0.25 for run in RUNS[layout.planes])  # a chroma plane is a quarter of luma
    return Complexity(runs * n_mac / n_luma / 1000, n_parameters(network))


def _macs_of_module(network: nn.Module, shapes: list[tuple[int, ...]]) -> float:
    for device in ("meta", "cpu"):
        try:
            own = own_copy(network, device)
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                own(*(torch.zeros(shape, device=device) for shape in shapes))
        except Exception:  # of a user's module: of what cannot be done with shapes, or what does not fit
            if device == "cpu":
                raise
        else:
            return float(counter.get_total_flops()) / 2  # it counts a multiplication and an addition as two
    raise AssertionError


def _macs_of_graph(network: OnnxNetwork, shapes: list[tuple[int, ...]]) -> float:
    """Multiplications of an ONNX model's convolutions and matrix products, for inputs of some shapes."""
    onnx = import_onnx()
    model = onnx.load_from_string(network.model())
    fed = feeds(network.graph_inputs, [np.zeros(shape, np.float32) for shape in shapes])
    for given in model.graph.input:
        if given.name in fed:
            for dim, length in zip(given.type.tensor_type.shape.dim, fed[given.name].shape, strict=False):
                dim.dim_value = length
    del model.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes_of = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    shapes_of |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    n_mac = 0
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            per_place = math.prod(shapes_of[node.input[1]][1:])
            places = node.output[0] if node.op_type == "Conv" else node.input[0]
            n_mac += math.prod(shapes_of.get(places, [0])) * per_place
        elif node.op_type in ("MatMul", "Gemm"):
            n_mac += math.prod(shapes_of.get(node.output[0], [0])) * shapes_of.get(node.input[0], [0])[-1]
    return n_mac
