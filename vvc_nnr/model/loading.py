"""A coded network into a torch module: everything is checked before anything is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vvc_nnr.bitstream.number_formats import Array
from vvc_nnr.errors import InputError
from vvc_nnr.model.torch import as_torch, is_module

_SHOWN = 5


def load_arrays(module: Any, arrays: Mapping[str, Array], formats: Mapping[str, str]) -> None:
    """Gives a module the tensors of a coded network.

    Args:
        module: A torch module with the same names, shapes and number formats; tables that it does not have yet (empty
            tensors, as of an entropy model) may have any shape that it takes.
        arrays: What `decompress` returns.
        formats: Name to number format, for tensors that were bfloat16.

    Raises:
        InputError: If it is no module, or names, shapes or number formats do not fit. It is as it was then.
    """
    if not is_module(module):
        raise InputError(f"load_into: a torch module is wanted, got {type(module).__name__}")
    state = module.state_dict()
    _check_names(state, arrays)
    tensors = as_torch(arrays, formats)
    for name, tensor in tensors.items():
        _check_tensor(name, state[name], tensor)
    before = {name: tensor.clone() for name, tensor in state.items()}
    try:
        module.load_state_dict(tensors)
    except Exception as error:
        if all(before[name].shape == tensor.shape for name, tensor in module.state_dict().items()):
            module.load_state_dict(before)
        raise InputError(f"load_into: the module does not take its tensors: {error}") from error


def _check_names(state: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    missing = [name for name in state if name not in arrays]
    unknown = [name for name in arrays if name not in state]
    faults = [("the file lacks", missing), ("the module lacks", unknown)]
    told = [f"{what} {len(names)}: {', '.join(map(repr, names[:_SHOWN]))}" for what, names in faults if names]
    if told:
        raise InputError(f"load_into: names do not fit; {'; '.join(told)}")


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
