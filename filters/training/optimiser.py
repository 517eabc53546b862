"""What makes steps of gradients: AdamW for all parameters, or Muon for the kernels of the convolutions.

Muon moves each weight matrix along the orthogonal matrix that is nearest to its averaged gradient, so that no direction
of it learns faster than another (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024). A
convolution's matrix is (n_out, n_in x height x width). torch.optim.Muon, from 2.9 on, finds that matrix in bfloat16,
which processors without that format emulate: half of the time of a step. Here it is float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from vvc_nnr.errors import InputError

OptimiserName: TypeAlias = Literal["adamw", "muon"]
BETAS = (0.9, 0.99)
MOMENTUM = 0.95
QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of p(x) = ax + bx^3 + cx^5, which five times over takes singular values of 0.01 to 1 to 0.7 to 1.2."""
N_ITERATIONS = 5
RMS_OF_ADAMW = 0.2
"""Root mean square of AdamW's updates at a learning rate of 1: with it, both take the same rate (Liu et al., 2025)."""
_MAX_STEPS = 1 << 40
# What the optimisers note of each parameter.
_AVERAGES = {"AdamW": {"step", "exp_avg", "exp_avg_sq"}, "Muon": {"momentum_buffer"}}


class Muon(torch.optim.Optimizer):
    """Muon for kernels of convolutions, float32, whatever their memory layout.

    Args:
        kernels: Parameters of two or more dimensions.
        weight_decay: Decay of weights, times the learning rate.
    """

    def __init__(self, kernels: Iterable[nn.Parameter], weight_decay: float) -> None:
        super().__init__(kernels, {"lr": 1e-3, "weight_decay": weight_decay, "momentum": MOMENTUM})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Moves the kernels that have gradients; their averages have Nesterov's look ahead."""
        assert closure is None
        for group in self.param_groups:
            momentum, rate = group["momentum"], group["lr"]
            for kernel in group["params"]:
                if kernel.grad is None:
                    continue
                if not self.state[kernel]:
                    self.state[kernel]["momentum_buffer"] = torch.zeros_like(kernel.grad)
                average = self.state[kernel]["momentum_buffer"].lerp_(kernel.grad, 1 - momentum)
                matrix = kernel.grad.lerp(average, momentum).flatten(1)
                kernel.mul_(1 - rate * group["weight_decay"])
                size = rate * RMS_OF_ADAMW * math.sqrt(max(matrix.shape))
                kernel.add_(orthogonal(matrix).view(kernel.shape), alpha=-size)


def orthogonal(matrix: Tensor) -> Tensor:
    """The orthogonal matrix that is about nearest: all singular values between about 0.7 and 1.2.

    By Newton-Schulz iterations of degree five (Jordan et al.); what is zero stays so.

    Args:
        matrix: (n, m), float32.
    """
    found = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    found = found / found.norm().clamp(min=1e-7)
    a, b, c = QUINTIC
    for _ in range(N_ITERATIONS):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.T if matrix.shape[0] > matrix.shape[1] else found


class Optimiser:
    """One optimiser or two that share a learning rate.

    Args:
        name: "adamw", or "muon" for convolutions with AdamW for all other parameters.
        network: What to train; it must not move to another device afterwards.
        weight_decay: Decay of weights, times the learning rate.

    Raises:
        InputError: If its name is unknown.
    """

    def __init__(self, name: OptimiserName, network: nn.Module, weight_decay: float) -> None:
        check_optimiser(name)
        kernels = [p for p in network.parameters() if p.ndim == 4] if name == "muon" else []
        others = [p for p in network.parameters() if not any(p is kernel for kernel in kernels)]
        self._parts: list[torch.optim.Optimizer] = []
        if others:
            self._parts.append(torch.optim.AdamW(others, weight_decay=weight_decay, betas=BETAS))
        if kernels:
            self._parts.append(Muon(kernels, weight_decay))
        self._network = network

    def clear(self) -> None:
        """Forgets all gradients."""
        self._network.zero_grad(set_to_none=True)

    def step(self, learning_rate: float) -> None:
        """Moves all parameters along their gradients; Muon's updates have the size of AdamW's at the same rate."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate
            part.step()

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
    """Raises InputError for an optimiser that is unknown."""
    if name not in get_args(OptimiserName):
        raise InputError(f"optimiser {name!r}: must be one of {', '.join(get_args(OptimiserName))}")
