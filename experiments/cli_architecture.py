"""The module that computes with a network file's tensors: named by the file, or by --arch."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import torch
from torch import nn

from vvc_nnr.errors import InputError
from vvc_nnr.filters.dncnn import dncnn_of
from vvc_nnr.filters.zoo import build_network
from vvc_nnr.model.folding import fold_batch_norms, traced_pairs
from vvc_nnr.model.safetensors import StoredNetwork


def network_of(stored: StoredNetwork, arguments: argparse.Namespace) -> nn.Module:
    """The module of a file's tensors, its batch norms folded if that is asked for.

    Raises:
        InputError: If there is none, the tensors do not fit it, or it has no batch norm to fold.
    """
    network = _network(stored, arguments)
    if not arguments.fold_batch_norms:
        return network
    if not traced_pairs(network):
        raise InputError("--fold-batch-norms: no batch norm of the network directly and alone follows a layer")
    folded: nn.Module = fold_batch_norms(network)
    return folded


def _network(stored: StoredNetwork, arguments: argparse.Namespace) -> nn.Module:
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
