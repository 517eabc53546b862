"""The module that computes with a network file's tensors: named by the file, or by --arch."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from vvc_nnr.bitstream.number_formats import FLOATS
from vvc_nnr.errors import InputError
from vvc_nnr.filters.networks.dncnn import dncnn_of
from vvc_nnr.filters.zoo import build_network
from vvc_nnr.folding.norm_pairs import find_norm_pairs
from vvc_nnr.folding.torch_norms import fold_batch_norms
from vvc_nnr.model.safetensors import StoredNetwork
from vvc_nnr.model.torch import copied_module

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def with_folded_norms(network: nn.Module) -> nn.Module:
    """A copy of a network with its batch norms folded.

    Raises:
        InputError: If it has none that can be folded.
    """
    found = find_norm_pairs(network)
    if not (found.pairs or found.kept):
        raise InputError("--fold-batch-norms: no batch norm of the network directly and alone follows a layer")
    folded: nn.Module = fold_batch_norms(network)
    return folded


def network_of(stored: StoredNetwork, arguments: argparse.Namespace) -> nn.Module:
    """The module of a file's tensors, float32.

    Raises:
        InputError: If there is none, or the tensors do not fit it.
    """
    where, arch = str(arguments.input), arguments.arch
    if arch == "dncnn":
        return dncnn_of(stored.tensors, where)
    if arch is None or arch == stored.metadata.get("architecture"):
        return build_network(stored, where)
    if ":" not in arch:
        raise InputError(f"--arch {arch}: dncnn or FILE.py:NAME is wanted, or none if the file names its architecture")
    network = _user_network(arch)
    try:
        network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in stored.tensors.items()})
    except RuntimeError as error:
        raise InputError(f"{where}: does not fit --arch {arch}: {' '.join(str(error).split())}") from None
    return network.eval()


def in_formats(network: AnyModule, formats: Mapping[str, str]) -> AnyModule:
    """A copy of a network whose float tensors have the number formats of a file.

    Args:
        network: The network.
        formats: Names of its tensors to number formats, as of `vvc_nnr.bitstream.number_formats`.

    Raises:
        UnsupportedError: If it cannot be copied.
    """
    changed: AnyModule = copied_module(network)
    for name, tensor in changed.state_dict(keep_vars=True).items():
        if tensor.is_floating_point() and formats.get(name) in FLOATS:
            tensor.data = tensor.data.to(getattr(torch, formats[name]))
    return changed


def _user_network(arch: str) -> nn.Module:
    """What a function in a file of the user's makes."""
    path, _, name = arch.rpartition(":")
    spec = importlib.util.spec_from_file_location("user_architecture", path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise InputError(f"--arch {arch}: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        network = getattr(module, name)()
    except Exception as error:
        raise InputError(f"--arch {arch}: {type(error).__name__}: {error}") from None
    if not isinstance(network, nn.Module):
        raise InputError(f"--arch {arch}: makes a {type(network).__name__}, a torch module is wanted")
    return network
