"""Packages that only some rows need: imported when such a row runs, and a word to the user when they are not there."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from types import ModuleType

from vvc_nnr.experiments.zoo.row import NotHereError
from vvc_nnr.experiments.zoo.torchvision_operators import declare_operators

COMPRESSAI = "--no-deps compressai pytorch-msssim torch-geometric, then what they ask for but numpy"
"""CompressAI asks for a numpy below 2 and works with later ones."""


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
            _make_torchvision_importable()
            return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NotHereError(f"{name.split('.')[0]} cannot be imported ({reason}): pip install {install}") from error


def _make_torchvision_importable() -> None:
    """Its kernels are not needed here, which it does not import without."""
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        declare_operators()
