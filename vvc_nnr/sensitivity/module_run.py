"""Torch modules run with other weights than they have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vvc_nnr.bitstream.number_formats import Array, FloatBits, NamedArrays, numpy_values
from vvc_nnr.calibrate.samples import Sample
from vvc_nnr.errors import InputError, VvcNnrError, shown
from vvc_nnr.model.torch import copied_module
from vvc_nnr.sensitivity.noise import SEED, Outputs


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """What a module is called with.

    Attributes:
        arguments: By place.
        keywords: By name.
    """

    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]


def calls_of(given: Any) -> list[Call]:
    """The calls in a list of batches: tensors or arrays, tuples of arguments, maps of keyword arguments, or `Sample`s.

    Raises:
        InputError: If there is none, or a value is empty, NaN or infinite.
    """
    if not isinstance(given, list | tuple) or not given:
        kind = f"an empty {type(given).__name__}" if isinstance(given, list | tuple) else type(given).__name__
        raise InputError(
            f"sensitivity: got {shown(repr(given), 60) if isinstance(given, str) else kind}; must be a list of what "
            "the module is called with: tensors, tuples of arguments, or maps of keyword arguments"
        )
    return [_call(batch) for batch in given]


def _call(batch: Any) -> Call:
    inputs = batch.inputs if isinstance(batch, Sample) else batch
    if isinstance(inputs, Mapping):
        return Call((), {str(name): _argument(value) for name, value in inputs.items()})
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    if not any(isinstance(each, Tensor | np.ndarray) for each in arguments):
        raise InputError(f"sensitivity: a batch is a tensor, a tuple or a map of them, got {type(inputs).__name__}")
    return Call(tuple(map(_argument, arguments)), {})


def _argument(value: Any) -> Any:
    """A tensor as it is run, float32 if it has floats; other values as they are."""
    found = torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
    if not isinstance(found, Tensor):
        return found
    if not found.numel() or (found.is_floating_point() and not bool(torch.isfinite(found).all())):
        raise InputError("sensitivity: a batch is empty, or has NaN or infinite values")
    return found.float() if found.is_floating_point() else found


class ModuleRunner:
    """A copy of a module, in evaluation mode and in float32, that is run on batches.

    Args:
        module: The module; it is not changed.
        calls: The batches.

    Raises:
        UnsupportedError: If it cannot be copied.
    """

    def __init__(self, module: nn.Module, calls: Sequence[Call]) -> None:
        with torch.inference_mode(False):  # a copy whose values may be changed, whatever mode the caller has set
            self._network: nn.Module = copied_module(module).eval().float()
        self._calls = calls
        self._tensors: dict[str, Tensor] = {
            **dict(self._network.named_parameters(remove_duplicate=False)),
            **dict(self._network.named_buffers(remove_duplicate=False)),
        }

    def outputs(self, changed: NamedArrays) -> Iterator[Outputs]:
        """The float outputs of each batch with some tensors changed, as `Runner.outputs`."""
        before = {name: self._tensor(name).detach().clone() for name in changed}
        try:
            self._set({name: _as_tensor(array) for name, array in changed.items()})
            for place, call in enumerate(self._calls):
                yield self._run(place, call)
        finally:
            self._set(before)

    def _tensor(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise InputError(
                f"sensitivity: {shown(name, 200)!r} is in the state of the module, but no parameter or buffer of it"
            )
        return self._tensors[name]

    def _set(self, values: Mapping[str, Tensor]) -> None:
        with torch.inference_mode(False), torch.no_grad():
            for name, value in values.items():
                self._tensor(name).copy_(value.reshape(self._tensor(name).shape))

    def _run(self, place: int, call: Call) -> Outputs:
        try:
            with torch.no_grad(), torch.random.fork_rng():
                torch.manual_seed(SEED)
                returned = self._network(*call.arguments, **call.keywords)
        except VvcNnrError:
            raise
        except Exception as error:  # whatever the network's own code raises
            told = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise InputError(f"sensitivity: the network cannot be run on batch {place}: {shown(told, 300)}") from error
        return {name: tensor.detach().cpu().double().numpy() for name, tensor in _floats("output", returned)}


def _as_tensor(array: Array | FloatBits) -> Tensor:
    values = numpy_values(array)
    return torch.from_numpy(np.array(values))


def _floats(name: str, returned: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors of floats in what a network returns: tensors, maps, tuples and lists, one in another."""
    if isinstance(returned, Tensor):
        if returned.is_floating_point():
            yield name, returned
    elif isinstance(returned, Mapping):
        for key, value in returned.items():
            yield from _floats(f"{name}.{key}", value)
    elif isinstance(returned, tuple | list):
        for place, value in enumerate(returned):
            yield from _floats(f"{name}.{place}", value)
