"""Digests of what a training starts from: weights and files, by which one run is told from another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from vvc_nnr.files import read_bytes


def weights_sha256(network: nn.Module) -> str:
    """SHA-256 of a module's parameters and buffers with their names, shapes and number formats."""
    found = hashlib.sha256()
    for name, value in network.state_dict().items():
        tensor = value.detach().cpu().contiguous().numpy()
        found.update(f"{name} {tensor.shape} {tensor.dtype}\0".encode() + tensor.tobytes())
    return found.hexdigest()


def files_sha256(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files by their names; one that is there twice under one name has a number behind it.

    Raises:
        InputError: If one cannot be read.
    """
    found: dict[str, str] = {}
    for path in paths:
        name, number = path.name, 2
        while name in found:
            name, number = f"{path.name} ({number})", number + 1
        found[name] = hashlib.sha256(read_bytes(path)).hexdigest()
    return found


def pictures_sha256(pictures: Iterable[NDArray[np.uint8]]) -> str:
    """SHA-256 of pictures in their order, with their shapes."""
    found = hashlib.sha256()
    for picture in pictures:
        found.update(f"{picture.shape}\0".encode() + picture.tobytes())
    return found.hexdigest()
