"""Named arrays from what a user calls a model: a torch module, or a map of names to torch tensors or arrays.

Nothing here imports torch: whoever has a torch object has imported it.
"""

from __future__ import annotations

import copy
import importlib
import logging
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from vvc_nnr.bitstream.number_formats import (
    BITS_DTYPES,
    FLOATS,
    INTEGERS,
    Array,
    FloatBits,
    NamedArrays,
    nearest_in_format,
    plain_array,
)
from vvc_nnr.errors import InputError, UnsupportedError, shown_names

# What torch calls the state that a module gives and takes in a way of its own.
_EXTRA_STATE = "_extra_state"
# In the names of what quantised modules of torch have in place of weights, and what is said of such modules.
PACKED = "_packed_params"
QUANTISED_MODULE = (
    "a quantised module (torch.ao), which packs its weights with their scales: compress the module as it was before "
    "it was quantised"
)
_SHOWN = 5
_log = logging.getLogger(__name__)


def named_arrays(model: Any) -> NamedArrays:
    """The tensors of a model by name, in its order; arrays and tensors in main memory are not copied.

    Args:
        model: A torch module (its `state_dict()` counts), or a map of names to arrays, numbers or torch tensors.

    Raises:
        InputError: If it is neither, a name is no text, or a value is no array.

    What modules keep by `get_extra_state` and is no tensor is left out; a logged warning names it.
    """
    state = model.state_dict() if is_module(model) else model
    if not isinstance(state, Mapping):
        raise InputError(f"got {type(model).__name__}; must be a torch module or a map of names to arrays")
    opaque = [name for name, value in state.items() if _is_opaque(name, value)]
    if opaque:
        _log.warning(
            "left out, since it is no tensor and modules keep it in a way of their own (get_extra_state): %s",
            shown_names(opaque, _SHOWN),
        )
        state = {name: value for name, value in state.items() if name not in opaque}
    made: dict[object, Array | FloatBits] = {}
    return {_checked_name(name): _as_one_array(name, value, made) for name, value in state.items()}


def _is_opaque(name: Any, value: Any) -> bool:
    """Whether it is what a module gives by `get_extra_state`, and no tensor."""
    is_array = is_tensor(value) or isinstance(value, np.ndarray | FloatBits)
    return isinstance(name, str) and name.rpartition(".")[2] == _EXTRA_STATE and not is_array


def _as_one_array(name: str, value: Any, made: dict[object, Array | FloatBits]) -> Array | FloatBits:
    """One tensor as an array: the same array for all tensors of the same memory, wherever that is."""
    if not is_tensor(value) or _refusal(value):
        return as_array(name, value)
    key = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
    if not value.data_ptr() or key not in made:
        made[key] = as_array(name, value)
    return made[key]


def as_array(name: str, value: Any) -> Array | FloatBits:
    """One tensor as an array.

    Raises:
        InputError: If it is no array.
    """
    if is_tensor(value):
        return _from_torch(name, value)
    if isinstance(value, FloatBits):
        return value
    if _is_of_quantised_module(name, value):
        raise InputError(f"tensor {name!r}: is of {QUANTISED_MODULE}")
    if not isinstance(value, np.ndarray | np.generic | bool | int | float):
        raise InputError(f"tensor {name!r}: a {type(value).__name__} is no array")
    if isinstance(value, np.ma.MaskedArray):
        raise InputError(f"tensor {name!r}: is masked, and a mask is not coded; give its values (`.filled(0)`)")
    array = np.asarray(value)
    bits_dtype = BITS_DTYPES.get(array.dtype.name)
    return array if bits_dtype is None else FloatBits(array.view(bits_dtype), array.dtype.name)


def _is_of_quantised_module(name: str, value: Any) -> bool:
    """Whether it is what modules of torch.ao keep beside packed weights, or these."""
    torch = sys.modules.get("torch")
    is_packed = torch is not None and isinstance(value, torch.dtype | torch.ScriptObject)
    return is_packed or (PACKED in name and not is_tensor(value))


def as_torch(arrays: Mapping[str, Array | FloatBits], formats: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Decoded arrays as torch tensors in their original number formats; tied ones share their memory.

    Args:
        arrays: What `decompress` returns, or bfloat16 and float8 by their bits.
        formats: Name to number format, for the tensors that were bfloat16 or float8 and are float32 here.

    Raises:
        InputError: If torch is not installed, or lacks a number format.
    """
    torch, formats = import_torch(), formats or {}
    made: dict[int, Any] = {}
    for name, array in arrays.items():
        if id(array) not in made:
            made[id(array)] = _torch_tensor(torch, array, formats.get(name, ""))
    return {name: made[id(array)] for name, array in arrays.items()}


def _torch_tensor(torch: Any, array: Array | FloatBits, number_format: str) -> Any:
    if number_format in BITS_DTYPES and not isinstance(array, FloatBits):
        array = nearest_in_format(np.asarray(array, np.float32), number_format)
    plain = plain_array(array)
    plain = plain.view(np.int16) if plain.dtype == np.uint16 and isinstance(array, FloatBits) else plain
    try:
        tensor = torch.from_numpy(_writable(np.ascontiguousarray(plain)).reshape(plain.shape))
    except TypeError as error:
        raise InputError(f"torch cannot hold a tensor: {error}") from None
    if not isinstance(array, FloatBits):
        return tensor
    if not hasattr(torch, array.number_format):
        raise InputError(f"torch {torch.__version__} has no {array.number_format}: install a newer one")
    return tensor.view(getattr(torch, array.number_format))


def _writable(array: Array) -> Array:
    """The array, or a copy of one that is read-only, as those of an ONNX model are: torch knows no such tensors."""
    return array if array.flags.writeable else array.copy()


def import_torch() -> Any:
    """The module torch.

    Raises:
        InputError: If it is not installed.
    """
    try:
        return importlib.import_module("torch")
    except ImportError:
        raise InputError("torch is not installed") from None


def is_module(model: Any) -> bool:
    """Whether it is a torch module; does not import torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def is_tensor(value: Any) -> bool:
    """Whether it is a torch tensor; does not import torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _checked_name(name: Any) -> str:
    if not isinstance(name, str):
        raise InputError(f"the name of a tensor must be text, got {name!r}")
    return name


def _from_torch(name: str, tensor: Any) -> Array | FloatBits:
    torch = sys.modules["torch"]
    refusal = _refusal(tensor)
    if refusal:
        raise InputError(f"tensor {name!r}: {refusal}")
    plain = tensor.detach().cpu()
    number_format = str(plain.dtype).removeprefix("torch.")
    bits_dtype = BITS_DTYPES.get(number_format)
    if bits_dtype is not None:
        signed = torch.int16 if bits_dtype is np.uint16 else torch.int8
        return FloatBits(plain.contiguous().view(signed).numpy().view(bits_dtype), number_format)
    try:
        array: Array = plain.resolve_neg().numpy()
    except TypeError:
        known = ", ".join((*INTEGERS, *FLOATS))
        raise InputError(f"tensor {name!r}: cannot code {plain.dtype}, only {known}: convert it first") from None
    except RuntimeError as error:
        raise InputError(f"tensor {name!r}: torch does not give its values: {error}") from error
    return array


def _refusal(tensor: Any) -> str | None:
    """Why a torch tensor cannot be an array whatever its values are, None if it can."""
    torch = sys.modules["torch"]
    if torch.nn.parameter.is_lazy(tensor):
        return "has no shape yet, it is of a lazy module: run that once first"
    if tensor.is_nested:
        return "nested, it has no one shape: pad it, or give its parts names of their own"
    if type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        return f"a {type(tensor).__name__} is no plain tensor: make it one first"
    if tensor.is_meta:
        return "has no values, it is on the device meta: load the network first"
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return "is inside a transform such as vmap: compress the network outside it"
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_complex():
        return "sparse, quantised and complex torch tensors cannot be coded: make it dense and real first"
    if tensor.numel() and not tensor.untyped_storage().nbytes():
        return "has no values, its memory was given back: gather the network first"
    return None


def load_arrays(module: Any, arrays: Mapping[str, Array] | NamedArrays, formats: Mapping[str, str]) -> None:
    """Gives a module the tensors of a coded network.

    Args:
        module: A torch module with the same names, shapes and number formats; tables that it does not have yet (empty
            tensors, as of an entropy model) may have any shape that it takes.
        arrays: What `decompress` returns, or bfloat16 and float8 by their bits.
        formats: Name to number format, for the tensors that were bfloat16 or float8 and are float32 here.

    Raises:
        InputError: If it is no module, or names, shapes or number formats do not fit. It is as it was then.
    """
    if not is_module(module):
        raise InputError(f"load_into: must be a torch module, got {type(module).__name__}")
    whole = module.state_dict()
    opaque = {name: value for name, value in whole.items() if _is_opaque(name, value)}
    state = {name: value for name, value in whole.items() if name not in opaque}
    _check_names(state, arrays)
    tensors = as_torch(arrays, formats)
    for name, tensor in tensors.items():
        _check_tensor(name, state[name], tensor)
    _tell_of_broken_ties(state, tensors)
    given_memory = _without_meta(module)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items() if name not in opaque} | opaque
    try:
        module.load_state_dict({name: opaque[name] if name in opaque else tensors[name] for name in whole})
    except Exception as error:
        if all(before[name].shape == tensor.shape for name, tensor in module.state_dict().items() if name in arrays):
            module.load_state_dict(before)
        for part, kind, own, tensor in given_memory:
            getattr(part, kind)[own] = tensor
        raise InputError(f"load_into: the module does not take its tensors: {error}") from error


def _without_meta(module: Any) -> list[tuple[Any, str, str, Any]]:
    """Gives memory to the tensors of a module's state that are on the device meta, tied ones the same.

    Returns:
        What was replaced: module, the map of it ("_parameters", "_buffers"), name and tensor.
    """
    torch = import_torch()
    made: dict[int, Any] = {}
    replaced = []
    for part in module.modules():
        for kind in ("_parameters", "_buffers"):
            for own, tensor in getattr(part, kind).items():
                if tensor is None or not tensor.is_meta or own in part._non_persistent_buffers_set:
                    continue
                if id(tensor) not in made:
                    memory = torch.empty_like(tensor, device="cpu")
                    is_parameter = isinstance(tensor, torch.nn.Parameter)
                    made[id(tensor)] = torch.nn.Parameter(memory, tensor.requires_grad) if is_parameter else memory
                replaced.append((part, kind, own, tensor))
    for part, kind, own, tensor in replaced:
        getattr(part, kind)[own] = made[id(tensor)]
    return replaced


def _check_names(state: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    missing = [name for name in state if name not in arrays]
    unknown = [name for name in arrays if name not in state]
    faults = [("the network lacks", missing), ("the module lacks", unknown)]
    told = [f"{what} {len(names)}: {shown_names(map(repr, names), _SHOWN, 250)}" for what, names in faults if names]
    if told:
        raise InputError(f"load_into: names do not fit; {'; '.join(told)}")


def _tell_of_broken_ties(state: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
    """Logs a warning of tensors that are one in a module, which gets the last of them, and differ in the file."""
    torch, last = import_torch(), dict[tuple[Any, ...], str]()
    for name, own in state.items():
        has_memory = type(own) in (torch.Tensor, torch.nn.Parameter) and own.layout is torch.strided and not own.is_meta
        if not has_memory or own.is_nested or not own.numel():
            continue
        key = (own.device, own.data_ptr(), own.dtype, tuple(own.shape), own.stride())
        if key in last and not _are_same(tensors[name], tensors[last[key]]):
            _log.warning(
                "%r and %r are one tensor in the module and differ in the network: it gets %r", last[key], name, name
            )
        last[key] = name


def _are_same(a: Any, b: Any) -> bool:
    """Whether two tensors hold the same bits."""
    if a is b:
        return True
    unsigned = import_torch().uint8
    return bool((a.contiguous().reshape(-1).view(unsigned) == b.contiguous().reshape(-1).view(unsigned)).all())


def _check_tensor(name: str, own: Any, tensor: Any) -> None:
    if own.is_nested:
        raise InputError(f"load_into: tensor {name!r} of the module is nested, it has no one shape")
    if own.dtype != tensor.dtype:
        wanted = str(tensor.dtype).removeprefix("torch.")
        raise InputError(
            f"load_into: tensor {name!r} is {tensor.dtype}, the module's {own.dtype}: make it {wanted} first"
        )
    if own.shape != tensor.shape and own.numel():
        raise InputError(f"load_into: tensor {name!r} is {tuple(tensor.shape)}, the module's {tuple(own.shape)}")


def copied_module(module: Any) -> Any:
    """A deep copy of a torch module; tensors in its attributes that hang on a graph of gradients are cut off there.

    Raises:
        UnsupportedError: If it holds something that cannot be copied.
    """
    torch = sys.modules["torch"]
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedError(
            f"a {type(module).__name__} (ScriptModule) does not show its layers: give the module itself"
        )
    computed = [v for part in module.modules() for v in vars(part).values() if is_tensor(v) and not v.is_leaf]
    try:
        with torch.inference_mode(False):
            return copy.deepcopy(module, {id(value): value.detach().clone() for value in computed})
    except Exception as error:  # whatever the module's own parts raise
        raise UnsupportedError(f"the module cannot be copied: {' '.join(str(error).split())[:300]}") from error
