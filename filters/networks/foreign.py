"""Networks of the user's own: modules that take the tensors of files, and declare how pictures go in."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Mapping, Set
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import nn

from vvc_nnr.errors import InputError, shown, shown_names
from vvc_nnr.filters.networks.factory import class_name
from vvc_nnr.filters.networks.layout import LAYOUT_KEY, RUNS, Layout, parse_layout
from vvc_nnr.filters.networks.onnx_network import FLOAT32, OnnxNetwork

_Array: TypeAlias = np.ndarray[Any, Any]
_Module = TypeVar("_Module", bound=nn.Module)


def own_copy(network: _Module, device: str | None = None, dtype: torch.dtype | None = None) -> _Module:
    """A deep copy of a module in evaluation mode.

    What torch warns of while it copies scripted modules (whose weights then are no leaves) and exported programs is no
    matter to the user, and passed over.

    Args:
        network: The module.
        device: Where the copy is; None: where the module is.
        dtype: Of its floats; None: their own.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return copy.deepcopy(network).to(device=device, dtype=dtype).eval()


def with_tensors(
    network: _Module, tensors: Mapping[str, _Array], where: str, constants: Set[str] = frozenset()
) -> _Module:
    """A copy of a module with the tensors of a file in the place of its own.

    Args:
        network: The module.
        tensors: All of its parameters and buffers by name; where the module has a tensor of no values, of any shape.
            A prefix that all names have beyond the module's own ("module." of `DataParallel`) is no part of them.
        where: How errors name the file.
        constants: Those of the tensors that the module need not have.

    Raises:
        InputError: If they are not those of such a module.
    """
    changed = own_copy(network)
    own = changed.state_dict()
    tensors = _without_prefix(tensors, set(own))
    missing, unknown = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own) - constants)
    if missing or unknown:
        lacks, has = (shown_names(names, 3, 220) or "none" for names in (missing, unknown))
        raise InputError(f"{where}: does not fit its module: missing {lacks}, unknown {has}")
    for name, value in own.items():
        if value.numel() and tuple(value.shape) != tensors[name].shape:
            raise InputError(f"{where}: tensor {name} is {tensors[name].shape}, the module has {tuple(value.shape)}")
    try:
        changed.load_state_dict({name: torch.from_numpy(np.array(tensors[name])) for name in own})
    except RuntimeError as error:  # a tensor of no values, such as a table that is not made yet, that is to have some
        raise InputError(f"{where}: the module does not take its tensors: {' '.join(str(error).split())}") from error
    return changed.eval()


def _without_prefix(tensors: Mapping[str, _Array], names: Set[str]) -> Mapping[str, _Array]:
    """The tensors under a module's names if all of theirs are those behind one prefix that ends in a dot."""
    longest = max(tensors, key=len, default="")
    prefix = longest[: max(0, len(longest) - max(map(len, names), default=0))]
    if not prefix.endswith(".") or {prefix + name for name in names} != set(tensors):
        return tensors
    return {name: tensors[prefix + name] for name in names}


def check_finite(network: nn.Module, where: str) -> None:
    """Raises InputError for weights that are NaN or infinite, which some backends would hide.

    Args:
        network: The network.
        where: How errors name it.
    """
    for name, weights in network.named_parameters():
        if not bool(torch.isfinite(weights).all()):
            raise InputError(f"{where}: tensor {shown(name)} has weights that are not finite (NaN, infinity): damaged")


def declared_layout(
    network: nn.Module, given: Layout | str | None = None, metadata: Mapping[str, str] | None = None, where: str = ""
) -> Layout:
    """How pictures go into a network: as the user says, else the module, else its file.

    Args:
        network: The module; its attribute `layout` is a `Layout` or the text of one. The size of an ONNX model's input
            is that of its graph.
        given: By the user.
        metadata: What the network's file says.
        where: How errors name the network.

    Raises:
        InputError: If no one says it, or it is no layout.
    """
    name = where or type(network).__name__
    for found in (given, getattr(network, "layout", None), (metadata or {}).get(LAYOUT_KEY)):
        if found is None:
            continue
        if not isinstance(found, Layout | str):
            raise InputError(f"{name}: its attribute layout is a {type(found).__name__}, must be a Layout or its text")
        try:
            return _in_graphs_size(network, parse_layout(found) if isinstance(found, str) else found)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    raise InputError(
        f"{name}: no layout says how pictures go in ({_what_it_takes(network)}); give one (--layout, such as "
        f"planes={'|'.join(RUNS)}), for what load_filter returns Runner(loaded.network, layout=loaded.layout), or the "
        "module an attribute layout"
    )


def _in_graphs_size(network: nn.Module, layout: Layout) -> Layout:
    """The layout with the fixed size of an ONNX model's input."""
    if not isinstance(network, OnnxNetwork):
        return layout
    n_inputs, n_given = len(network.graph_inputs), 1 + (layout.qp == "scalar")
    if n_inputs != n_given:
        raise InputError(
            f"the ONNX model has {n_inputs} input{'' if n_inputs == 1 else 's'} ({network.input_shapes}), the layout "
            f"{layout.text} gives it {n_given}: planes, and the QP with qp=scalar; others cannot be given"
        )
    n_pictures, _, *sides = network.planes_input(layout.n_inputs).shape or (None, None)
    if isinstance(n_pictures, int) and n_pictures != 1:
        raise InputError(
            f"the ONNX model takes {n_pictures} pictures at a time ({network.input_shapes}), must take 1 or "
            "any number: export it again with one picture, or with a dynamic first axis"
        )
    fixed = [side for side in sides if isinstance(side, int)]
    if len(fixed) != 2 or layout.patch == (fixed[0], fixed[1]):
        return layout
    height, width = fixed
    if layout.patch is not None:
        raise InputError(f"layout: patch {layout.patch}, the ONNX model takes {(height, width)} (height, width)")
    return replace(layout, patch=(height, width))


def misfit(network: nn.Module, layout: Layout, sides: tuple[int, int], said: str) -> InputError:
    """The error of a layout that does not fit its network, with both shapes.

    Args:
        network: The network.
        layout: Its layout.
        sides: Height and width of what it was given.
        said: What came of it.
    """
    second = " and a number (1,)" if layout.qp == "scalar" else ""
    given = f"(1, {layout.n_inputs}, {sides[0]}, {sides[1]}){second}"
    name = class_name(network)
    if other := _other_number_format(network):
        return InputError(f"{name}: {other}, and must take float32: let it do so (float()); given float32: {said}")
    if (needed := _required_inputs(network)) and len(needed) > 1 + (layout.qp == "scalar"):
        said = (
            f"its forward needs {', '.join(needed)}; a layout gives one tensor of planes, and the QP with qp=scalar: "
            "other inputs, such as maps of partitions or predictions, cannot be given"
        )
    return InputError(f"layout {layout.text} of {name}: gives the network {given}, {_what_it_takes(network)}; {said}")


def check_output(network: nn.Module, layout: Layout, sides: tuple[int, int], shape: tuple[int, ...]) -> None:
    """Raises InputError for an output of another shape than the layout says.

    Args:
        network: The network.
        layout: Its layout.
        sides: Height and width of what it was given.
        shape: Of its output, without the batch dimension; it may lack the margin that the layout's overlap is.
    """
    (height, width), margin, n_planes = sides, layout.overlap, layout.n_planes
    inner = (n_planes, height - 2 * margin, width - 2 * margin)
    if shape not in (inner, (n_planes, height, width)):
        must = " or ".join(dict.fromkeys(str((1, *each)) for each in (inner, (n_planes, height, width))))
        kept = " (planes that stay, by keep, too: return what went in)" if layout.keep else ""
        raise misfit(network, layout, sides, f"it returned {(1, *shape)}, must be {must}{kept}")


def _other_number_format(network: nn.Module) -> str:
    """The number format that a network takes, as it seems, if that is none that it is given; else empty."""
    if isinstance(network, OnnxNetwork):
        others = [each for each in network.graph_inputs if each.number_format != FLOAT32]
        return f"its graph takes {others[0].number_format} (its input {shown(others[0].name)})" if others else ""
    formats = [values.dtype for values in network.parameters() if values.dtype in (torch.float16, torch.bfloat16)]
    return f"takes {str(formats[0]).removeprefix('torch.')}, as its weights are" if formats else ""


def _required_inputs(network: nn.Module) -> list[str]:
    """Names of what its forward must be given, none where that is not known."""
    try:
        parameters = inspect.signature(network.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [each.name for each in parameters if each.kind in kinds and each.default is inspect.Parameter.empty]


def said_by(error: Exception) -> str:
    """What went wrong in a user's module, in a few words: its kind of error and text; of this package's the text."""
    text = " ".join(str(error).split())[:160]
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


def _what_it_takes(network: nn.Module) -> str:
    """What the first layer tells of the input."""
    if isinstance(network, OnnxNetwork):
        return f"its graph takes {network.input_shapes}"
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    return "it has no convolution" if first is None else f"its first convolution takes {first.in_channels} planes"
