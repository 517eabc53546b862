"""What turns gradients into steps: AdamW for all parameters, or Muon for the kernels of the convolutions.

Muon moves each weight matrix along the orthogonal matrix that is nearest to its averaged gradient, so that no
direction of it learns faster than another (Jordan et al., "Muon: An optimizer for hidden layers in neural networks",
2024). A convolution's matrix is (n_out, n_in x height x width).
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import nn

from vvc_nnr.errors import InputError

OptimiserName: TypeAlias = Literal["adamw", "muon"]
BETAS = (0.9, 0.99)
_MAX_STEPS = 1 << 40
# What torch's optimisers note of each parameter.
_AVERAGES = {"AdamW": {"step", "exp_avg", "exp_avg_sq"}, "Muon": {"momentum_buffer"}}


def has_muon() -> bool:
    """Whether this torch has Muon, which came with 2.9."""
    return hasattr(torch.optim, "Muon")


class Optimiser:
    """One optimiser or two that share a learning rate.

    Args:
        name: "adamw", or "muon" for convolutions with AdamW for all other parameters.
        network: What to train; it must not move to another device afterwards.
        weight_decay: Decay of weights, times the learning rate.

    Raises:
        InputError: If this torch has no Muon, or its name is unknown.
    """

    def __init__(self, name: OptimiserName, network: nn.Module, weight_decay: float) -> None:
        check_optimiser(name)
        self._kernels = [p for p in network.parameters() if p.ndim == 4] if name == "muon" else []
        others = [p for p in network.parameters() if not any(p is kernel for kernel in self._kernels)]
        # Muon takes matrices only, and those of channels-last kernels are no views: they get a matrix of their own
        self._matrices = [nn.Parameter(kernel.detach().flatten(1).clone()) for kernel in self._kernels]
        self._parts: list[torch.optim.Optimizer] = []
        if others:
            self._parts.append(torch.optim.AdamW(others, weight_decay=weight_decay, betas=BETAS))
        if self._matrices:
            muon = torch.optim.Muon(self._matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            self._parts.append(muon)
        self._network = network

    def clear(self) -> None:
        """Forgets all gradients."""
        self._network.zero_grad(set_to_none=True)

    def step(self, learning_rate: float) -> None:
        """Moves all parameters along their gradients; Muon's updates have the size of AdamW's at the same rate."""
        with torch.no_grad():
            for kernel, matrix in zip(self._kernels, self._matrices, strict=True):
                matrix.copy_(kernel.flatten(1))
                matrix.grad = None if kernel.grad is None else kernel.grad.flatten(1)
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate
            part.step()
        with torch.no_grad():
            for kernel, matrix in zip(self._kernels, self._matrices, strict=True):
                kernel.copy_(matrix.view_as(kernel))

    def state_dict(self) -> list[dict[str, Any]]:
        """What `load_state_dict` goes on from."""
        return [part.state_dict() for part in self._parts]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """Takes up the averages of a run that was cut off.

        Raises:
            ValueError: If they are those of another network or optimiser, or a part of them is missing.
        """
        for part, saved in zip(self._parts, state, strict=True):
            _check_averages(part, saved)
            part.load_state_dict(saved)


def _check_averages(part: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Raises ValueError or another error unless a state is one of that optimiser: torch would take it as it is.

    Settings must be the same but for the learning rate, which each step sets; averages must be all there.
    """
    for own, other in zip(part.state_dict()["param_groups"], saved["param_groups"], strict=True):
        different = [key for key in own if key != "lr" and own[key] != other[key]]
        if different:
            raise ValueError(f"the optimiser's {', '.join(different)} differ")
    parameters = [parameter for group in part.param_groups for parameter in group["params"]]
    names = _AVERAGES[type(part).__name__]
    for place, averages in saved["state"].items():
        shape = parameters[place].shape
        if averages.keys() != names or any(averages[name].shape not in (shape, ()) for name in names):
            raise ValueError(f"the optimiser's averages of parameter {place} are not those of its shape")
        if "step" in names and not 0 < float(averages["step"]) < _MAX_STEPS:
            raise ValueError(f"the optimiser's step of parameter {place} is {float(averages['step'])}")


def check_optimiser(name: str) -> None:
    """Raises InputError for an optimiser that is unknown or that this torch does not have."""
    if name not in get_args(OptimiserName):
        raise InputError(f"optimiser {name!r}: must be one of {', '.join(get_args(OptimiserName))}")
    if name == "muon" and not has_muon():
        raise InputError(f"torch {torch.__version__} has no Muon, which came with 2.9; choose the optimiser adamw")
