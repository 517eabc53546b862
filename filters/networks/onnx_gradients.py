"""An ONNX model as operations of torch, through which gradients go; the runtime that filters has none.

Each operator of a plain convolutional filter is one entry of a table. Among them are those of whole numbers by which a
graph for pictures of any size computes sides, pads and places from the shapes of its own tensors. What all of these
compute is held against ONNX Runtime on a picture before anything is learnt through it, so that an operator that means
something else in another version of ONNX is refused.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vvc_nnr.errors import UnsupportedError, shown
from vvc_nnr.filters.networks.onnx_network import OnnxNetwork, feeds
from vvc_nnr.model.onnx_proto import import_onnx

TOLERANCE = 1e-3
"""How far from ONNX Runtime's an output may be, as a share of the largest one."""
_Attributes: TypeAlias = Mapping[str, Any]
_Inputs: TypeAlias = Sequence[Any]
_Operator: TypeAlias = Callable[[_Inputs, _Attributes], Any]
_MOST_NAMED = 3


class DifferentiableOnnx(OnnxNetwork):
    """The same network, its weights under the same names, computed by torch.

    Args:
        network: The network; its weights are copied.

    Raises:
        UnsupportedError: If its graph has an operator that is not known here, which the error names.
    """

    def __init__(self, network: OnnxNetwork) -> None:
        own = {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
        super().__init__(network.graph, {**network._fixed, **own})
        graph = import_onnx().load_from_string(self.model()).graph
        to_array = import_onnx().numpy_helper.to_array
        unknown = sorted({node.op_type for node in graph.node} - OPERATORS.keys() - {"Constant"})
        if unknown:
            named = ", ".join(shown(each, 40) for each in unknown[:_MOST_NAMED])
            raise UnsupportedError(
                f"no gradients go through the operator{'s' if len(unknown) > 1 else ''} {named} of this ONNX model; "
                f"known are {', '.join(sorted(OPERATORS))}"
            )
        names = {name for name, _ in self.named_parameters()}
        kept = [each for each in graph.initializer if each.name not in names]
        self._constants = {each.name: torch.from_numpy(np.array(to_array(each))) for each in kept}
        self._nodes = []
        for node in graph.node:
            attributes = {each.name: import_onnx().helper.get_attribute_value(each) for each in node.attribute}
            if node.op_type == "ConstantOfShape" and "value" in attributes:
                attributes["value"] = torch.from_numpy(np.array(to_array(attributes["value"])))
            if node.op_type != "Constant":
                self._nodes.append((node.op_type, tuple(node.input), tuple(node.output), attributes))
            elif node.output[0] not in names:
                self._constants[node.output[0]] = _constant(attributes, to_array)
        self._output = graph.output[0].name

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the graph gives first, for planes and QPs as its network takes them, with gradients."""
        if all(each.shape and not isinstance(each.shape[0], int) for each in self.graph_inputs):
            return self._of_batch(*inputs)
        return torch.cat(
            [self._of_batch(*(each[place : place + 1] for each in inputs)) for place in range(len(inputs[0]))]
        )

    def _of_batch(self, *inputs: Tensor) -> Tensor:
        values: dict[str, Any] = {"": None, **self._constants, **dict(self.named_parameters())}
        values |= feeds(self.graph_inputs, inputs)
        for operator, names, outputs, attributes in self._nodes:
            made = OPERATORS[operator]([values[name] for name in names], attributes)
            several = made if isinstance(made, tuple) else (made,)
            values.update(zip(outputs, several, strict=False))
        return cast(Tensor, values[self._output])


def differentiable(network: nn.Module, *inputs: Tensor) -> nn.Module:
    """The network itself; of an ONNX model one that gradients go through, held against ONNX Runtime.

    Args:
        network: The network.
        inputs: What it is run on for that.

    Raises:
        UnsupportedError: If there is none, or it gives something else.
    """
    if not isinstance(network, OnnxNetwork):
        return network
    found = DifferentiableOnnx(network).eval()
    expected = network(*inputs)
    try:
        with torch.no_grad():
            given = found(*inputs)
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        raise UnsupportedError(
            f"torch does not run the operators of this ONNX model: {' '.join(str(error).split())[:160]}"
        ) from error
    limit = TOLERANCE * float(expected.abs().max())
    if given.shape != expected.shape or not float((given - expected).abs().max()) <= limit:
        raise UnsupportedError("the operators of this ONNX model give other samples in torch than in ONNX Runtime")
    return found


def _constant(attributes: _Attributes, to_array: Callable[[Any], Any]) -> Tensor:
    (value,) = attributes.values()
    return torch.from_numpy(np.array(to_array(value) if hasattr(value, "dims") else value))


def _ints(value: Tensor | Sequence[int] | None) -> list[int]:
    return [] if value is None else [int(each) for each in value]


def _floats(value: Tensor | None) -> list[float]:
    """Constants that an operator takes as numbers, to which no gradient goes."""
    return [] if value is None else [float(each) for each in value.detach()]


def _number(value: Tensor | float) -> float:
    """A constant that an operator takes as a number, to which no gradient goes."""
    return float(value.detach() if isinstance(value, Tensor) else value)


def _given(inputs: _Inputs, place: int) -> Any:
    return inputs[place] if len(inputs) > place else None


def _sides(attributes: _Attributes, n_axes: int) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and pads (begins, then ends) of a convolution or pooling."""
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise ValueError(f"auto_pad {attributes['auto_pad']!r}")
    strides, dilations = (_ints(attributes.get(name)) or [1] * n_axes for name in ("strides", "dilations"))
    return strides, dilations, _ints(attributes.get("pads")) or [0] * 2 * n_axes


def _conv(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    picture, weight = inputs[:2]
    strides, dilations, pads = _sides(attributes, weight.ndim - 2)
    half = len(pads) // 2
    if pads[:half] != pads[half:]:
        picture, pads = functional.pad(picture, _torch_pads(pads)), [0] * len(pads)
    run = {3: functional.conv1d, 4: functional.conv2d}[weight.ndim]
    return run(picture, weight, _given(inputs, 2), strides, pads[:half], dilations, int(attributes.get("group", 1)))


def _conv_transpose(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    strides, dilations, pads = _sides(attributes, 2)
    if pads[:2] != pads[2:] or "output_shape" in attributes:
        raise ValueError("ConvTranspose with pads that differ, or an output_shape")
    more, group = _ints(attributes.get("output_padding")) or [0, 0], int(attributes.get("group", 1))
    picture, weight = inputs[:2]
    return functional.conv_transpose2d(picture, weight, _given(inputs, 2), strides, pads[:2], more, group, dilations)


def _torch_pads(pads: Sequence[int]) -> list[int]:
    """Pads of the last axis first, as torch has them."""
    half = len(pads) // 2
    return [each for axis in reversed(range(half)) for each in (pads[axis], pads[half + axis])]


def _pad(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    pads = _ints(inputs[1] if len(inputs) > 1 else attributes["pads"])
    mode = {b"constant": "constant", b"reflect": "reflect", b"edge": "replicate"}[attributes.get("mode", b"constant")]
    if _given(inputs, 3) is not None:
        axes, n_axes = [axis % inputs[0].ndim for axis in _ints(inputs[3])], inputs[0].ndim
        every = [0] * (2 * n_axes)
        for place, axis in enumerate(axes):
            every[axis], every[n_axes + axis] = pads[place], pads[len(axes) + place]
        pads = every
    if mode == "constant":
        value = _given(inputs, 2)
        filling = float(attributes.get("value", 0.0)) if value is None else _number(value)
        return functional.pad(inputs[0], _torch_pads(pads), value=filling)
    half = len(pads) // 2
    if any(pads[:2]) or any(pads[half : half + 2]):
        raise ValueError("Pad of other axes than rows and columns")
    return functional.pad(inputs[0], _torch_pads([*pads[2:half], *pads[half + 2 :]]), mode=mode)


def _slice(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    found = inputs[0]
    starts = _ints(_given(inputs, 1)) or _ints(attributes.get("starts"))
    ends = _ints(_given(inputs, 2)) or _ints(attributes.get("ends"))
    axes = _ints(_given(inputs, 3)) or _ints(attributes.get("axes")) or list(range(len(starts)))
    steps = _ints(_given(inputs, 4)) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 0:  # which torch has no slices of
            places = torch.arange(*slice(start, end, step).indices(found.shape[axis]))
            found = found.index_select(axis, places)
        else:
            chosen = [slice(None)] * found.ndim
            chosen[axis] = slice(start, end, step)
            found = found[tuple(chosen)]
    return cast(Tensor, found)


def _split(inputs: _Inputs, attributes: _Attributes) -> tuple[Tensor, ...]:
    axis = int(attributes.get("axis", 0))
    sizes = _ints(_given(inputs, 1)) or _ints(attributes.get("split"))
    if not sizes:
        n = int(attributes["num_outputs"])
        return torch.chunk(inputs[0], n, axis)
    return torch.split(inputs[0], sizes, axis)


def _reshape(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    before, wanted = inputs[0], _ints(inputs[1])
    if not attributes.get("allowzero", 0):
        wanted = [before.shape[axis] if side == 0 else side for axis, side in enumerate(wanted)]
    return cast(Tensor, before.reshape(wanted))


def _depth_to_space(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    block = int(attributes["blocksize"])
    if attributes.get("mode", b"DCR") == b"CRD":
        return functional.pixel_shuffle(inputs[0], block)
    n, channels, height, width = inputs[0].shape
    parts = inputs[0].reshape(n, block, block, channels // block**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return cast(Tensor, parts.reshape(n, channels // block**2, height * block, width * block))


def _space_to_depth(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    block = int(attributes["blocksize"])
    n, channels, height, width = inputs[0].shape
    parts = inputs[0].reshape(n, channels, height // block, block, width // block, block).permute(0, 3, 5, 1, 2, 4)
    return cast(Tensor, parts.reshape(n, channels * block**2, height // block, width // block))


def _batch_norm(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    picture, scale, shift, mean, variance = inputs[:5]
    eps = float(attributes.get("epsilon", 1e-5))
    return functional.batch_norm(picture, mean.detach(), variance.detach(), scale, shift, eps=eps)


def _clip(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    low, high = (_given(inputs, place) for place in (1, 2))
    low, high = (attributes.get(name, bound) for name, bound in (("min", low), ("max", high)))
    least, most = (bound if given is None else _number(given) for given, bound in ((low, -math.inf), (high, math.inf)))
    return torch.clamp(inputs[0], least, most)


def _prelu(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    return torch.where(inputs[0] >= 0, inputs[0], inputs[0] * inputs[1])


def _gemm(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    first, second = (
        each.T if int(attributes.get(name, 0)) else each
        for each, name in zip(inputs[:2], ("transA", "transB"), strict=True)
    )
    product = float(attributes.get("alpha", 1.0)) * (first @ second)
    third = _given(inputs, 2)
    return cast(Tensor, product if third is None else product + float(attributes.get("beta", 1.0)) * third)


def _reduce_mean(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    axes = _ints(_given(inputs, 1)) or _ints(attributes.get("axes")) or list(range(inputs[0].ndim))
    return cast(Tensor, inputs[0].mean(dim=axes, keepdim=bool(attributes.get("keepdims", 1))))


def _unsqueeze(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    found = inputs[0]
    for axis in sorted(_ints(_given(inputs, 1)) or _ints(attributes.get("axes"))):
        found = found.unsqueeze(axis)
    return cast(Tensor, found)


def _squeeze(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    axes = _ints(_given(inputs, 1)) or _ints(attributes.get("axes"))
    return cast(Tensor, inputs[0].squeeze(axes) if axes else inputs[0].squeeze())


def _shape(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    start, end = attributes.get("start", 0), attributes.get("end")
    return torch.tensor(inputs[0].shape[start:end], dtype=torch.int64)


def _gather(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    found, places = inputs[:2]
    axis = int(attributes.get("axis", 0)) % found.ndim
    flat = torch.where(places < 0, places + found.shape[axis], places).long().flatten()
    shape = (*found.shape[:axis], *places.shape, *found.shape[axis + 1 :])
    return cast(Tensor, found.index_select(axis, flat).reshape(shape))


def _constant_of_shape(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    value = attributes.get("value", torch.zeros(1))
    return value.reshape(()).expand(_ints(inputs[0]))  # type: ignore[no-any-return]


def _cast(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    to = import_onnx().helper.tensor_dtype_to_np_dtype(int(attributes["to"]))
    return cast(Tensor, inputs[0].to(torch.from_numpy(np.empty(0, to)).dtype))


def _div(inputs: _Inputs, _: _Attributes) -> Tensor:
    whole = not any(each.is_floating_point() for each in inputs)
    return torch.div(inputs[0], inputs[1], rounding_mode="trunc" if whole else None)


def _mod(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    run = torch.fmod if int(attributes.get("fmod", 0)) else torch.remainder
    return run(inputs[0], inputs[1])


def _expand(inputs: _Inputs, _: _Attributes) -> Tensor:
    return inputs[0].expand(np.broadcast_shapes(inputs[0].shape, tuple(_ints(inputs[1]))))  # type: ignore[no-any-return]


def _pool(inputs: _Inputs, attributes: _Attributes) -> tuple[list[int], list[int], list[int], list[int]]:
    """Kernel, strides, dilations and pads of a pooling whose pads are the same on both sides."""
    kernel = _ints(attributes["kernel_shape"])
    strides, dilations, pads = _sides(attributes, len(kernel))
    half = len(kernel)
    if half != 2 or pads[:half] != pads[half:] or int(attributes.get("ceil_mode", 0)):
        raise ValueError("pooling of other than two axes, with pads that differ, or ceil_mode")
    return kernel, strides, dilations, pads[:half]


def _max_pool(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    kernel, strides, dilations, pads = _pool(inputs, attributes)
    return functional.max_pool2d(inputs[0], kernel, strides, pads, dilations)


def _average_pool(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    kernel, strides, dilations, pads = _pool(inputs, attributes)
    if any(each != 1 for each in dilations):
        raise ValueError("AveragePool with dilations")
    counts_pads = bool(attributes.get("count_include_pad", 0))
    return functional.avg_pool2d(inputs[0], kernel, strides, pads, count_include_pad=counts_pads)


def _resize(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    found, scales, sizes = inputs[0], _floats(_given(inputs, 2)), _ints(_given(inputs, 3))
    mode, corners = _resize_mode(attributes)
    axes = [axis % found.ndim for axis in _ints(attributes.get("axes")) or range(found.ndim)]
    by = dict(zip(axes, scales or sizes, strict=True))
    kept = [1.0] * 2 if scales else [*found.shape[:2]]
    if [by.get(axis, side) for axis, side in enumerate(kept)] != kept:
        raise ValueError("Resize of other axes than rows and columns")
    if scales:
        factors = (by.get(2, 1.0), by.get(3, 1.0))
        return functional.interpolate(found, scale_factor=factors, mode=mode, align_corners=corners)
    sides = [int(by.get(axis, found.shape[axis])) for axis in (2, 3)]
    return functional.interpolate(found, sides, mode=mode, align_corners=corners)


def _resize_mode(attributes: _Attributes) -> tuple[str, bool | None]:
    """Torch's mode of interpolation and align_corners for those of ONNX."""
    names = {"mode": b"nearest", "coordinate_transformation_mode": b"half_pixel", "nearest_mode": b""}
    mode, places, nearest = (attributes.get(name, default).decode() for name, default in names.items())
    found = _RESIZE_MODES.get((mode, places))
    cuts = int(attributes.get("antialias", 0)) or int(attributes.get("exclude_outside", 0))
    keeps = attributes.get("keep_aspect_ratio_policy", b"stretch") != b"stretch"
    if found is None or cuts or keeps or (found == "nearest" and nearest != "floor"):
        raise ValueError(f"Resize by {mode}, {places} {nearest}, or with what antialias and its like ask for")
    return found, None if mode == "nearest" else places == "align_corners"


_RESIZE_MODES: Mapping[tuple[str, str], str] = {
    ("nearest", "asymmetric"): "nearest",
    **{
        (mode, places): its
        for mode, its in {"nearest": "nearest-exact", "linear": "bilinear", "cubic": "bicubic"}.items()
        for places in ("half_pixel", "pytorch_half_pixel")
    },
    ("linear", "align_corners"): "bilinear",
    ("cubic", "align_corners"): "bicubic",
}
"""Of ONNX's mode and coordinate_transformation_mode torch's."""


def _hard_sigmoid(inputs: _Inputs, attributes: _Attributes) -> Tensor:
    slope, offset = float(attributes.get("alpha", 0.2)), float(attributes.get("beta", 0.5))
    return (slope * inputs[0] + offset).clamp(0, 1)  # type: ignore[no-any-return]


OPERATORS: Mapping[str, _Operator] = {
    "Abs": lambda given, _: torch.abs(given[0]),
    "Add": lambda given, _: given[0] + given[1],
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Ceil": lambda given, _: torch.ceil(given[0]),
    "Clip": _clip,
    "Concat": lambda given, how: torch.cat(list(given), dim=int(how["axis"])),
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Div": _div,
    "Elu": lambda given, how: functional.elu(given[0], float(how.get("alpha", 1.0))),
    "Equal": lambda given, _: given[0] == given[1],
    "Erf": lambda given, _: torch.erf(given[0]),
    "Exp": lambda given, _: torch.exp(given[0]),
    "Expand": _expand,
    "Floor": lambda given, _: torch.floor(given[0]),
    "Gather": _gather,
    "Gelu": lambda given, how: functional.gelu(given[0], approximate=how.get("approximate", b"none").decode()),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda given, _: given[0].mean(dim=(2, 3), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda given, _: functional.hardswish(given[0]),
    "Identity": lambda given, _: given[0],
    "LeakyRelu": lambda given, how: functional.leaky_relu(given[0], float(how.get("alpha", 0.01))),
    "MatMul": lambda given, _: given[0] @ given[1],
    "Max": lambda given, _: functools.reduce(torch.maximum, given),
    "MaxPool": _max_pool,
    "Min": lambda given, _: functools.reduce(torch.minimum, given),
    "Mod": _mod,
    "Mul": lambda given, _: given[0] * given[1],
    "Neg": lambda given, _: -given[0],
    "PRelu": _prelu,
    "Pad": _pad,
    "Pow": lambda given, _: torch.pow(given[0], given[1]),
    "ReduceMean": _reduce_mean,
    "Relu": lambda given, _: torch.relu(given[0]),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Sigmoid": lambda given, _: torch.sigmoid(given[0]),
    "Slice": _slice,
    "Softplus": lambda given, _: functional.softplus(given[0]),
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Sqrt": lambda given, _: torch.sqrt(given[0]),
    "Squeeze": _squeeze,
    "Sub": lambda given, _: given[0] - given[1],
    "Tanh": lambda given, _: torch.tanh(given[0]),
    "Transpose": lambda given, how: given[0].permute(_ints(how["perm"])),
    "Unsqueeze": _unsqueeze,
    "Where": lambda given, _: torch.where(given[0], given[1], given[2]),
}
"""What each operator computes, of its inputs and attributes."""
