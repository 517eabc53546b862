"""Networks as files: the ones that ship with this package by name, any other by path; and what they cost."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vvc_nnr.coding.update import apply_update
from vvc_nnr.errors import BitstreamError, InputError
from vvc_nnr.files import check_regular_file, naming
from vvc_nnr.filters.bundled import FEATURE_LEVELS_KEY, network_path, zoo_names
from vvc_nnr.filters.networks.autoencoder import Autoencoder
from vvc_nnr.filters.networks.in_loop import InLoopFilter, InLoopNetwork, LadderFilter
from vvc_nnr.filters.networks.packing import N_LUMA_PLANES, N_PLANES
from vvc_nnr.json_text import parse_json
from vvc_nnr.model.container import Tensor
from vvc_nnr.model.safetensors import (
    Biases,
    StoredNetwork,
    float_bytes,
    parse_network,
    uniform_bytes,
)
from vvc_nnr.network_file import decoded_arrays, is_nnc, read_network_file, stored_network
from vvc_nnr.options import DEFAULT_MAX_ELEMENTS, thread_count

Network: TypeAlias = InLoopNetwork | Autoencoder

ARCHITECTURES: dict[str, type[Network]] = {
    "inloop-filter": InLoopFilter,
    "ladder-filter": LadderFilter,
    "autoencoder": Autoencoder,
}
LOOP_FILTERS_KEY = "loop_filters"
"""Metadata of an in-loop filter that says which in-loop filters the codec runs before it: "all" or "none"."""
MAX_WIDTH = 4096
MAX_BLOCKS = 256


@dataclass(frozen=True, slots=True)
class LoadedNetwork:
    """A network ready to run.

    Attributes:
        name: Its name in the zoo, or the file's name without suffix.
        network: The module, in evaluation mode.
        path: The file it came from.
        n_bytes: Size of that file.
        coding: How the file holds its weights: "NNC", "uniform" with its bits, or "float32".
        metadata: What the file says about the network, such as its architecture.
    """

    name: str
    network: Network
    path: Path
    n_bytes: int
    coding: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """A network that went through a compressed file.

    Attributes:
        network: The module with the weights that the file gives.
        original_bytes: Size of the float32 file.
        compressed_bytes: Size of the compressed file.
    """

    network: Network
    original_bytes: int
    compressed_bytes: int


def load_network(name_or_path: str | Path) -> LoadedNetwork:
    """A network of the zoo by its name, or a network file of any kind by its path.

    Raises:
        InputError: If there is no such name or file, or the file holds a network of another architecture.
        BitstreamError: If the file is damaged.
        UnsupportedError: If the file holds something that this package does not read.
    """
    path = _find(name_or_path)
    stored = read_network_file(path)
    coding = "NNC" if is_nnc(path) else "float32" if stored.bits is None else f"uniform{stored.bits}"
    network = build_network(stored, str(path))
    return LoadedNetwork(path.stem, network, path, stored.n_bytes, coding, stored.metadata)


def load_inloop_filter(name_or_path: str | Path) -> InLoopNetwork:
    """An in-loop filter; raises as `load_network`, and InputError for a network of another kind."""
    network = load_network(name_or_path).network
    if not isinstance(network, InLoopNetwork):
        raise InputError(f"{name_or_path}: holds an {_architecture(network)}; must be an in-loop filter")
    return network


def network_of_nnc(data: bytes, where: str, update: bytes | None = None) -> InLoopNetwork:
    """An in-loop filter from the bytes of its coded file.

    Args:
        data: The coded network.
        where: How errors name it.
        update: A coded update of it.

    Raises:
        BitstreamError: If the bytes are damaged, or the update is not for this network.
        UnsupportedError: If they hold what this package does not read.
        InputError: If it is no in-loop filter of this package.
    """
    with naming(where):
        arrays = decoded_arrays(data, DEFAULT_MAX_ELEMENTS, thread_count(None))
        if update is not None:
            arrays = replace(arrays, arrays=dict(apply_update(arrays.arrays, update).arrays))
    network = build_network(stored_network(arrays, where), where)
    if not isinstance(network, InLoopNetwork):
        raise InputError(f"{where}: holds an autoencoder; must be an in-loop filter")
    return network


def load_autoencoder(name_or_path: str | Path) -> Autoencoder:
    """An autoencoder; raises as `load_network`, and InputError for a network of another kind."""
    network = load_network(name_or_path).network
    if not isinstance(network, Autoencoder):
        raise InputError(f"{name_or_path}: holds an {_architecture(network)}; must be an autoencoder")
    return network


def build_network(stored: StoredNetwork, where: str) -> Network:
    """The module that a file's metadata and tensors make; memory grows with the tensors, whatever metadata claims.

    Args:
        stored: What the file holds.
        where: How errors name the file.

    Raises:
        InputError: If the metadata names no architecture of this package, or the tensors do not fit it.
    """
    architecture = stored.metadata.get("architecture", "")
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise InputError(f"{where}: architecture {architecture!r} in its metadata; this package has {known}")
    with torch.device("meta"):
        network = _constructed(architecture, stored.metadata.get("config", ""), where)
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    _check_tensors(expected, {name: array.shape for name, array in stored.tensors.items()}, where)
    state = {name: torch.from_numpy(stored.tensors[name].copy()) for name in expected}
    _check_dtypes(network, state, where)
    network.load_state_dict(state, assign=True)
    if isinstance(network, InLoopNetwork):
        network.feature_levels = stored.metadata.get(FEATURE_LEVELS_KEY)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval()


def network_tensors(network: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a module as arrays."""
    return {name: value.detach().cpu().contiguous().numpy() for name, value in network.state_dict().items()}


def network_metadata(network: Network) -> dict[str, str]:
    """The metadata from which `build_network` makes the module again."""
    return {"architecture": _architecture(network), "config": json.dumps(network.config)}


def reconstruct(network: Network, bits: int = 8, biases: Biases = "quantised") -> Reconstruction:
    """The network as a decoder gets it: written with the papers' uniform quantiser, and read back from those bytes.

    Raises:
        InputError: If bits or biases are out of range, or a weight is NaN or infinite.
    """
    tensors, metadata = network_tensors(network), network_metadata(network)
    original = float_bytes(tensors, metadata)
    compressed = uniform_bytes(tensors, metadata, bits, biases)
    decoded = build_network(parse_network(compressed), "the compressed network")
    return Reconstruction(decoded, len(original), len(compressed))


def n_parameters(network: nn.Module) -> int:
    """Number of trained weights and biases."""
    return sum(parameter.numel() for parameter in network.parameters())


def _find(name_or_path: str | Path) -> Path:
    path = network_path(name_or_path)
    if os.path.exists(path) and not os.path.isdir(path):
        check_regular_file(path)
    else:
        raise InputError(f"{name_or_path}: no such file, and no network of the zoo ({', '.join(zoo_names())})")
    return path


def _architecture(network: Network) -> str:
    return next(name for name, kind in ARCHITECTURES.items() if isinstance(network, kind))


def _constructed(architecture: str, config_json: str, where: str) -> Network:
    """The module of a config, with each number checked: the text is untrusted."""
    try:
        config = parse_json(config_json)
    except BitstreamError as error:
        raise InputError(f"{where}: its config is no JSON: {config_json[:80]!r}") from error
    names = set(ARCHITECTURES[architecture]().config)
    if not isinstance(config, dict) or set(config) != names:
        raise InputError(f"{where}: its config must have {', '.join(sorted(names))}, got {str(config)[:80]}")
    for name, value in config.items():
        limit = MAX_BLOCKS if name == "n_blocks" else MAX_WIDTH
        if type(value) is not int or not 0 < value <= limit:
            raise InputError(f"{where}: {name} in its config is {str(value)[:80]}, must be 1 to {limit}")
    return ARCHITECTURES[architecture](**config)


def _check_tensors(expected: Mapping[str, tuple[int, ...]], got: Mapping[str, tuple[int, ...]], where: str) -> None:
    missing, extra = sorted(set(expected) - set(got)), sorted(set(got) - set(expected))
    if missing or extra:
        raise InputError(f"{where}: not a network of this architecture: missing {missing[:3]}, unknown {extra[:3]}")
    for name, shape in expected.items():
        if got[name] != shape:
            raise InputError(f"{where}: tensor {name} is {got[name]}, its architecture wants {shape}")


def _check_dtypes(network: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    for name, wanted in network.state_dict().items():
        if state[name].dtype != wanted.dtype:
            raise InputError(f"{where}: tensor {name} is {state[name].dtype}, its architecture wants {wanted.dtype}")


HALF_SIDE = 64
"""Half-size samples per row and column of the picture that is counted."""


@dataclass(frozen=True, slots=True)
class Complexity:
    """The cost of a filter.

    Attributes:
        kmac_per_luma_sample: Thousand multiplications with addition per luma sample of a 4:2:0 picture, chroma's
            included: those of convolutions and matrix products. Biases, activations and sums are not counted.
        n_parameters: Weights and biases.
    """

    kmac_per_luma_sample: float
    n_parameters: int


def complexity(network: InLoopNetwork) -> Complexity:
    """The cost of a filter, from a forward pass over shapes alone: no sample is computed.

    Every convolution and matrix product that runs is counted, whichever layer or function asks for it.
    """
    shapes = copy.deepcopy(network).to("meta")
    planes = torch.empty((1, N_PLANES, HALF_SIDE, HALF_SIDE), device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shapes(planes, torch.empty(1, device="meta"))
    n_luma = N_LUMA_PLANES * HALF_SIDE**2
    n_mac = counter.get_total_flops() / 2  # it counts a multiplication and an addition as two
    return Complexity(n_mac / n_luma / 1000, n_parameters(network))
