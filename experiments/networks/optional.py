"""Packages that only some rows need: imported when such a row runs, and a word to the user when they are not there."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from types import ModuleType
from typing import Any

import torch

from vvc_nnr.experiments.networks.row import NotHereError

COMPRESSAI = "--no-deps compressai pytorch-msssim torch-geometric, then what they ask for but numpy"
"""CompressAI asks for a numpy below 2 and works with later ones."""
# Kernels that torchvision's Python looks for beside a torch of another build (a CPU wheel from elsewhere, say).
_TORCHVISION_KERNELS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[Any] = []


def import_optional(name: str, install: str) -> ModuleType:
    """A module of an optional package.

    Args:
        name: The module, such as "torchvision.models".
        install: What `pip install` takes to get it.

    Raises:
        NotHereError: If it is not there or does not import.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _declare_torchvision_kernels()
            return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NotHereError(f"{name.split('.')[0]} cannot be imported ({reason}): pip install {install}") from error


def _declare_torchvision_kernels() -> None:
    """Lets torchvision import beside a torch that its own kernels were not built for; they are not needed here."""
    if _declared or importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for schema in _TORCHVISION_KERNELS:
            library.define(schema)
        _declared.append(library)
