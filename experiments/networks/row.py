"""What a row of the model zoo is: a network, the task that it is scored on, and where its weights come from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import nn

from vvc_nnr.bitstream.number_formats import NamedArrays
from vvc_nnr.calibrate.calibration import Calibration
from vvc_nnr.errors import VvcNnrError
from vvc_nnr.model.torch import as_torch, named_arrays
from vvc_nnr.roles.by_module import module_roles
from vvc_nnr.roles.roles import TensorRole

Weights = Literal["published", "bundled", "trained here", "random"]
"""Where a network's weights come from; "random": real layout, no task."""


class NotHereError(VvcNnrError):
    """Weights, data or a package of a row are not there; the message says which, and where they would be looked for."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """The scores of a network; those that its task does not have are None.

    Attributes:
        accuracy_percent: Share of right answers: classes, or characters.
        average_precision_percent: Mean over classes of the mean over IoU thresholds 0.5 to 0.95.
        pixel_accuracy_percent: Share of pixels of the right class.
        iou: Mean intersection over union of the classes.
        dice: Dice coefficient.
        bpp: Bits per pixel of pictures that the network codes.
        psnr_db: PSNR of pictures that the network restores or codes.
    """

    accuracy_percent: float | None = None
    average_precision_percent: float | None = None
    pixel_accuracy_percent: float | None = None
    iou: float | None = None
    dice: float | None = None
    bpp: float | None = None
    psnr_db: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A network that is there.

    Attributes:
        arrays: Its tensors.
        roles: Their roles, None: names tell them.
        weights: Where they come from.
        data: What it is scored on, "" if it is not.
        evaluate: Its scores with given tensors; None: the row has no task.
        module: The network, if it is a torch module.
    """

    arrays: NamedArrays
    roles: Mapping[str, TensorRole] | None
    weights: Weights
    data: str = ""
    evaluate: Callable[[NamedArrays], Metrics] | None = None
    module: nn.Module | None = None


class Row(Protocol):
    """One network of the zoo."""

    @property
    def name(self) -> str:
        """Its name in the table."""

    def load(self, folder: Path | None) -> Subject:
        """The network with its task.

        Args:
            folder: The user's folder of weights and data sets.

        Raises:
            NotHereError: If weights, data or a package are not there.
            InputError, BitstreamError: If they cannot be read.
        """


@runtime_checkable
class CalibratedRow(Protocol):
    """A row whose network can be compressed by what it does to pictures."""

    def calibration(self, folder: Path | None) -> Calibration:
        """Pictures to compress by, other than those that the network is scored on.

        Args:
            folder: The user's folder of weights and data sets.

        Raises:
            NotHereError: If there are none.
            InputError: If they cannot be read.
        """


def module_subject(
    module: nn.Module,
    weights: Weights,
    data: str = "",
    evaluate: Callable[[Any], Metrics] | None = None,
) -> Subject:
    """The subject of a torch module.

    Args:
        module: With its weights.
        weights: Where they come from.
        data: What it is scored on.
        evaluate: The scores of a module in evaluation mode, called without gradients.
    """
    arrays = named_arrays(module)
    roles = module_roles(module, arrays)
    if evaluate is None:
        return Subject(arrays, roles, weights, data, module=module)
    return Subject(arrays, roles, weights, data, lambda given: _evaluated(module, given, evaluate), module)


def _evaluated(module: nn.Module, arrays: NamedArrays, evaluate: Callable[[Any], Metrics]) -> Metrics:
    """The scores of a copy of the module with other tensors."""
    other = copy.deepcopy(module).eval()
    other.load_state_dict(as_torch(arrays))
    with torch.no_grad():
        return evaluate(other)
