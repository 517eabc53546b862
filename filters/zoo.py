"""Networks by what a user calls them: the ones that ship with this package, files, modules of one's own.

```
 inloop-lop            a bundled network                     its architecture and layout are in the file, or the class
 lop.safetensors       a file of this package
 model.onnx            a graph with its weights              the layout: --layout, else the file's metadata
 nets.py:make          what a function of a user's makes     the layout: --layout, else the module's attribute
 b.pt, arch nets.py:make         the same with the weights of a file
 b.nnc, model.nnc      any of them, coded
```
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, TypeVar, cast

import numpy as np
import torch
from torch import nn

from vvc_nnr.bitstream.number_formats import FloatBits, NamedArrays
from vvc_nnr.coding.update import apply_update
from vvc_nnr.errors import BitstreamError, InputError, shown_names
from vvc_nnr.files import check_regular_file, naming, read_bytes, text_of_name
from vvc_nnr.filters.bundled import FEATURE_LEVELS_KEY, network_path, no_network, zoo_path
from vvc_nnr.filters.networks.autoencoder import Autoencoder
from vvc_nnr.filters.networks.context_autoencoder import BundledAutoencoder, ContextAutoencoder
from vvc_nnr.filters.networks.dncnn import dncnn_of
from vvc_nnr.filters.networks.factory import as_module, class_name, is_factory, module_made_by
from vvc_nnr.filters.networks.foreign import check_finite, declared_layout, with_tensors
from vvc_nnr.filters.networks.in_loop import InLoopFilter, InLoopNetwork, LadderFilter
from vvc_nnr.filters.networks.layout import LAYOUT_KEY, Layout
from vvc_nnr.filters.networks.onnx_network import OnnxNetwork
from vvc_nnr.filters.networks.told_qp import DEFAULT_RULE, QP_RULE_KEY, parse_rule
from vvc_nnr.json_text import parse_json
from vvc_nnr.model.container import Tensor
from vvc_nnr.model.safetensors import (
    Biases,
    StoredNetwork,
    float_bytes,
    parse_network,
    uniform_bytes,
)
from vvc_nnr.network_file import (
    ONNX_SUFFIX,
    NetworkArrays,
    all_tensors,
    decoded_arrays,
    is_nnc,
    read_arrays,
    read_network_file,
    stored_network,
)
from vvc_nnr.options import DEFAULT_MAX_ELEMENTS, thread_count
from vvc_nnr.roles.by_module import module_roles
from vvc_nnr.roles.roles import exact_names

Network: TypeAlias = InLoopNetwork | BundledAutoencoder
Arch: TypeAlias = str | nn.Module | Callable[[], object]
"""What makes the module of a file's tensors."""
_Module = TypeVar("_Module", bound=nn.Module)

ARCHITECTURES: dict[str, type[Network]] = {
    "inloop-filter": InLoopFilter,
    "ladder-filter": LadderFilter,
    "autoencoder": Autoencoder,
    "context-autoencoder": ContextAutoencoder,
}
FLOAT = "float32"
LOOP_FILTERS_KEY = "loop_filters"
"""Metadata of an in-loop filter that says which in-loop filters the codec runs before it: "all" or "none"."""
MAX_WIDTH = 4096
MAX_BLOCKS = 256


@dataclass(frozen=True, slots=True, eq=False)
class LoadedNetwork:
    """A network ready to run.

    Attributes:
        name: Its name in the zoo, the file's name without suffix, or the function's that made it.
        network: The module, in evaluation mode.
        path: The file it came from.
        n_bytes: Size of that file; of a module without one, of its weights as a float32 file.
        coding: How the file holds its weights: "NNC", "uniform" with its bits, or "float32".
        metadata: What the file says about the network, such as its architecture.
        layout: How pictures go into it; None for an autoencoder.
        sha256: Of all that its output follows from: the file, and what was said beside it.
    """

    name: str
    network: nn.Module
    path: Path
    n_bytes: int
    coding: str
    metadata: Mapping[str, str]
    layout: Layout | None
    sha256: str

    @property
    def is_coded(self) -> bool:
        """Whether its weights are a reconstruction: the network as trained is not in the file."""
        return self.coding == "NNC" or (self.coding != FLOAT and not self.is_bundled)

    @property
    def is_bundled(self) -> bool:
        """Whether it comes with this package; its uniform files are the networks as they ship."""
        return zoo_path(self.name) == self.path

    @property
    def file_metadata(self) -> dict[str, str]:
        """What a file of these weights says, so that it is read again: a bundled architecture, else the layout."""
        if isinstance(self.network, Network):
            return network_metadata(self.network)
        return {} if self.layout is None else {LAYOUT_KEY: self.layout.text}


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """A network that went through a compressed file.

    Attributes:
        network: The module with the weights that the file gives.
        original_bytes: Size of the float32 file.
        compressed_bytes: Size of the compressed file.
    """

    network: nn.Module
    original_bytes: int
    compressed_bytes: int


def load_network(
    name_or_path: str | Path, *, arch: Arch | None = None, layout: Layout | str | None = None
) -> LoadedNetwork:
    """A network by what a user calls it.

    Args:
        name_or_path: A name of the zoo, a network file of any kind, or FILE.py:NAME, a function that makes the module
            with its weights.
        arch: What makes the module of a file's tensors: FILE.py:NAME, a function or class without arguments, a module
            (which is copied), or "dncnn"; None: the file says it.
        layout: How pictures go into it; None: as the module or the file says.

    Raises:
        InputError: If there is no such name or file, no module can be made of it, or no one says its layout.
        BitstreamError: If the file is damaged.
        UnsupportedError: If the file holds something that this package does not read.
    """

    def declared(network: nn.Module, metadata: Mapping[str, str], where: str) -> Layout | None:
        check_finite(network, where)
        return None if isinstance(network, BundledAutoencoder) else declared_layout(network, layout, metadata, where)

    return _loaded(str(name_or_path), arch, declared)


def load_codec(name_or_path: str | Path, *, arch: Arch | None = None) -> LoadedNetwork:
    """A network in the place of a whole codec, an autoencoder: it has no layout, RGB pictures go in.

    Args:
        name_or_path: As for `load_network`; FILE.py:NAME may make an object around modules, too.
        arch: As for `load_network`.

    Raises:
        InputError, BitstreamError, UnsupportedError: As `load_network`.
    """
    return _loaded(str(name_or_path), arch, lambda *_: None)


def own_network(
    name: str, network: nn.Module, layout: Layout | str | None = None, origin: str | Path = ""
) -> LoadedNetwork:
    """A module of the user's own, as trained.

    Args:
        name: What rows call it.
        network: The module, or an exported program.
        layout: How pictures go into it; None: as its attribute `layout` says.
        origin: Where it comes from, for messages.

    Raises:
        InputError: If no one says its layout.
    """
    origin = str(origin) or name
    with naming(origin):
        network = as_module(network)
    return _as_trained(name, network, declared_layout(network, layout, where=origin), origin)


def own_codec(name: str, network: object) -> LoadedNetwork:
    """An autoencoder of the user's own, as trained: a module, or an object around some.

    Args:
        name: What rows call it.
        network: The module or object.

    Raises:
        InputError: If it is neither.
    """
    return _as_trained(name, as_module(network), None, name)


def _loaded(
    name: str, arch: Arch | None, layout_of: Callable[[nn.Module, Mapping[str, str], str], Layout | None]
) -> LoadedNetwork:
    """A network by its name; its layout is that of the module, its file's metadata and its name in messages."""
    if is_factory(name):
        if arch is not None:
            raise InputError(
                f"{name}: makes its module itself; omit arch, or name the file of weights that arch is for"
            )
        network = module_made_by(name)
        return _as_trained(name.rpartition(":")[2], network, layout_of(network, {}, name), name)
    path = _find(name)
    if arch is None and (graph := _with_graph(path)) is not None:
        network = OnnxNetwork(cast(bytes, graph.graph), graph.arrays)
        coding, n_bytes, metadata = "NNC" if is_nnc(path) else FLOAT, graph.n_bytes, graph.metadata
    else:
        stored = read_network_file(path)
        network = network_of(stored, arch, str(path), _constants(path, stored))
        coding, n_bytes, metadata = _coding(path, stored), stored.n_bytes, dict(stored.metadata)
    layout = layout_of(network, metadata, str(path))
    digest = hashlib.sha256(read_bytes(path))
    if not isinstance(network, Network):
        digest.update(_said_beside(arch if isinstance(arch, str | None) else class_name(network), layout))
    return LoadedNetwork(text_of_name(path.stem), network, path, n_bytes, coding, metadata, layout, digest.hexdigest())


def _as_trained(name: str, network: nn.Module, layout: Layout | None, origin: str) -> LoadedNetwork:
    """A module with the weights that it has."""
    weights = float_bytes(network_tensors(network), {})
    digest = hashlib.sha256(weights + _said_beside(origin if is_factory(origin) else None, layout)).hexdigest()
    return LoadedNetwork(name, network.eval(), Path(origin), len(weights), FLOAT, {}, layout, digest)


def reloaded(like: LoadedNetwork, path: Path) -> LoadedNetwork:
    """The same network with the tensors of another file, such as a coded one.

    Raises:
        InputError: If they are not those of such a network.
        BitstreamError, UnsupportedError: If the file cannot be read.
    """
    stored = read_network_file(path)
    network = with_tensors(like.network, stored.tensors, str(path), _constants(path, stored))
    digest = hashlib.sha256(read_bytes(path))
    if not isinstance(network, Network):
        digest.update(_said_beside(None, like.layout))
    coding, metadata = _coding(path, stored), dict(stored.metadata)
    return LoadedNetwork(
        text_of_name(path.stem), network, path, stored.n_bytes, coding, metadata, like.layout, digest.hexdigest()
    )


def _constants(path: Path, stored: StoredNetwork) -> Set[str]:
    """The tensors of a file that the graph of an ONNX model keeps: a module need not have them."""
    graph = _with_graph(path)
    return frozenset() if graph is None else stored.tensors.keys() - graph.arrays.keys()


def _with_graph(path: Path) -> NetworkArrays | None:
    """What a file holds that has the graph of an ONNX model in it, None for all other files."""
    if path.suffix.lower() != ONNX_SUFFIX and not is_nnc(path):
        return None
    arrays = read_arrays(path)
    return None if arrays.graph is None else arrays


def _coding(path: Path, stored: StoredNetwork) -> str:
    return "NNC" if is_nnc(path) else FLOAT if stored.bits is None else f"uniform{stored.bits}"


def _said_beside(factory: str | None, layout: Layout | None) -> bytes:
    """What a network's output follows from beside its weights: the text of its function's file, and its layout."""
    source = read_bytes(Path(factory.rpartition(":")[0])) if factory and is_factory(factory) else b""
    return f"{factory and factory.rpartition(':')[2]} {layout and layout.text}\0".encode() + source


def load_filter(
    name_or_path: str | Path, *, arch: Arch | None = None, layout: Layout | str | None = None
) -> LoadedNetwork:
    """A network that filters pictures; raises as `load_network`, and InputError for an autoencoder."""
    loaded = load_network(name_or_path, arch=arch, layout=layout)
    if loaded.layout is None:
        raise InputError(f"{name_or_path}: holds {_kind(loaded.network)}; must be an in-loop filter")
    return loaded


def load_inloop_filter(name_or_path: str | Path) -> InLoopNetwork:
    """A filter of the bundled architectures; raises as `load_network`, and InputError for a network of another kind."""
    name = str(name_or_path)
    if is_factory(name):
        network = load_network(name).network
    else:
        path = _find(name)
        network = build_network(read_network_file(path), str(path))
    if not isinstance(network, InLoopNetwork):
        raise InputError(f"{name_or_path}: holds {_kind(network)}; must be an in-loop filter")
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
    return _inloop_network(_updated(data, where, update), where)


def filter_of_nnc(
    data: bytes, where: str, update: bytes | None = None, layout: Layout | str | None = None
) -> nn.Module:
    """A filter from the bytes of its coded file alone, which declares its layout: a bundled shape, or a graph of ONNX.

    Args:
        data: The coded network.
        where: How errors name it.
        update: A coded update of it.
        layout: How pictures go into a graph; None: as the file says.

    Raises:
        BitstreamError: If the bytes are damaged, or the update is not for this network.
        UnsupportedError: If they hold what this package does not read, or ONNX Runtime cannot run the graph.
        InputError: If it is no filter, or no one says its layout.
    """
    return filter_of_arrays(_updated(data, where, update), where, layout)


def filter_of_arrays(coded: NetworkArrays, where: str, layout: Layout | str | None = None) -> nn.Module:
    """A filter of decoded tensors, as `filter_of_nnc` makes it; arguments and errors as there."""
    if coded.graph is None:
        return _inloop_network(coded, where)
    with naming(where):
        network = OnnxNetwork(coded.graph, coded.arrays)
        check_finite(network, where)
        network.layout = declared_layout(network, layout, coded.metadata, where)
    return network.eval()


def _updated(data: bytes, where: str, update: bytes | None) -> NetworkArrays:
    """The tensors of a coded file, after an update if there is one, which may be of constants that a graph keeps."""
    with naming(where):
        coded = decoded_arrays(data, DEFAULT_MAX_ELEMENTS, thread_count(None))
        if update is None:
            return coded
        whole = all_tensors(coded)
        return replace(whole, arrays=dict(apply_update(whole.arrays, update).arrays))


def _inloop_network(coded: NetworkArrays, where: str) -> InLoopNetwork:
    network = build_network(stored_network(coded, where), where)
    if not isinstance(network, InLoopNetwork):
        raise InputError(f"{where}: holds an autoencoder; must be an in-loop filter")
    return network


def with_arrays(network: _Module, arrays: NamedArrays, where: str) -> _Module:
    """A copy of a filter with the tensors of a file, as an update has changed them; raises as `with_tensors`."""
    own = {name: np.asarray(array) for name, array in arrays.items() if not isinstance(array, FloatBits)}
    return with_tensors(network, own, where, frozenset(own) - network.state_dict().keys())


def load_autoencoder(name_or_path: str | Path) -> Autoencoder:
    """An autoencoder with a factorised prior; raises as `load_network`, and InputError for other networks."""
    network = load_network(name_or_path).network
    if not isinstance(network, Autoencoder):
        raise InputError(f"{name_or_path}: holds {_kind(network)}; must be an autoencoder with a factorised prior")
    return network


def network_of(stored: StoredNetwork, arch: Arch | None, where: str, constants: Set[str] = frozenset()) -> nn.Module:
    """The module of a file's tensors, float32.

    Args:
        stored: What the file holds.
        arch: As for `load_network`.
        where: How errors name the file.
        constants: Tensors that a module of FILE.py:NAME need not have.

    Raises:
        InputError: If there is none, or the tensors do not fit it.
    """
    if arch == "dncnn":
        return dncnn_of(stored.tensors, where)
    if arch is None and stored.metadata.get("architecture") not in ARCHITECTURES:
        advice = "for a network of your own say what makes its module (arch, --arch FILE.py:NAME)"
        raise InputError(f"{_unknown_architecture(stored, where)}; {advice}")
    if arch is None or arch == stored.metadata.get("architecture"):
        return build_network(stored, where)
    if not isinstance(arch, str):
        return with_tensors(_module_of(arch), stored.tensors, where, constants)
    if not is_factory(arch):
        raise InputError(f"arch {arch}: must be dncnn or FILE.py:NAME, or none if the file names its architecture")
    return with_tensors(module_made_by(arch), stored.tensors, where, constants)


def _module_of(arch: Arch) -> nn.Module:
    """The module that an object of the caller's is or makes."""
    if not isinstance(arch, nn.Module) and not callable(arch):
        raise InputError(f"arch is a {type(arch).__name__}: must be FILE.py:NAME, dncnn, or what makes a module")
    with naming(f"arch {getattr(arch, '__name__', type(arch).__name__)}"):
        return as_module(arch if isinstance(arch, nn.Module) else arch())


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
        raise InputError(f"{_unknown_architecture(stored, where)}; must be a network of this package")
    with torch.device("meta"):
        network = constructed(architecture, stored.metadata.get("config", ""), where)
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    _check_tensors(expected, {name: array.shape for name, array in stored.tensors.items()}, where)
    state = {name: torch.from_numpy(stored.tensors[name].copy()) for name in expected}
    _check_dtypes(network, state, where)
    network.load_state_dict(state, assign=True)
    if isinstance(network, InLoopNetwork):
        network.feature_levels = stored.metadata.get(FEATURE_LEVELS_KEY)
        with naming(where):
            network.qp_rule = parse_rule(stored.metadata.get(QP_RULE_KEY, DEFAULT_RULE.text))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval()


def network_tensors(network: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a module as arrays."""
    return {name: value.detach().cpu().contiguous().numpy() for name, value in network.state_dict().items()}


def uniform_network_bytes(
    network: nn.Module, metadata: Mapping[str, str], bits: int = 8, biases: Biases = "quantised"
) -> bytes:
    """A network's file by the papers' uniform quantiser; what must be exact by its role is left as it is.

    Raises:
        InputError: As `uniform_bytes`.
    """
    tensors: NamedArrays = {**network_tensors(network)}
    return uniform_bytes(tensors, metadata, bits, biases, exact=exact_names(module_roles(network, tensors)))


def network_metadata(network: Network) -> dict[str, str]:
    """The metadata from which `build_network` makes a bundled module again."""
    said = {"architecture": _architecture(network), "config": json.dumps(network.config)}
    if isinstance(network, BundledAutoencoder) or network.qp_rule == DEFAULT_RULE:
        return said
    return said | {QP_RULE_KEY: network.qp_rule.text}


def reconstruct(network: nn.Module, bits: int = 8, biases: Biases = "quantised") -> Reconstruction:
    """The network as a decoder gets it: written with the papers' uniform quantiser, and read back from those bytes.

    Raises:
        InputError: If bits or biases are out of range, or a weight is NaN or infinite.
    """
    tensors, metadata = network_tensors(network), network_metadata(network) if isinstance(network, Network) else {}
    original = float_bytes(tensors, metadata)
    compressed = uniform_network_bytes(network, metadata, bits, biases)
    decoded = with_tensors(network, parse_network(compressed).tensors, "the compressed network")
    return Reconstruction(decoded, len(original), len(compressed))


def n_parameters(network: nn.Module) -> int:
    """Number of trained weights and biases."""
    if isinstance(network, OnnxNetwork):
        return network.n_parameters
    return sum(parameter.numel() for parameter in network.parameters())


def _find(name_or_path: str | Path) -> Path:
    path = network_path(name_or_path)
    if os.path.exists(path) and not os.path.isdir(path):
        check_regular_file(path)
    else:
        raise no_network(name_or_path)
    return path


def _unknown_architecture(stored: StoredNetwork, where: str) -> str:
    found = stored.metadata.get("architecture", "")
    return f"{where}: architecture {found!r} in its metadata; this package has {', '.join(ARCHITECTURES)}"


def _architecture(network: nn.Module) -> str:
    known = (name for name, kind in ARCHITECTURES.items() if isinstance(network, kind))
    return next(known, type(network).__name__)


def _kind(network: nn.Module) -> str:
    """Such as "an inloop-filter"."""
    found = _architecture(network)
    return f"{'an' if found[0] in 'aeiouAEIOU' else 'a'} {found}"


def constructed(architecture: str, config_json: str, where: str) -> Network:
    """The module of a config, with each number checked: the text is untrusted.

    Args:
        architecture: One of `ARCHITECTURES`.
        config_json: Its arguments, a JSON object.
        where: How errors name the file.

    Raises:
        InputError: If the text is no such config, or a number is out of range.
    """
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
        lacks, has = (shown_names(names, 3, 220) or "none" for names in (missing, extra))
        raise InputError(f"{where}: not a network of this architecture: missing {lacks}, unknown {has}")
    for name, shape in expected.items():
        if got[name] != shape:
            raise InputError(f"{where}: tensor {name} is {got[name]}, its architecture wants {shape}")


def _check_dtypes(network: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    for name, wanted in network.state_dict().items():
        if state[name].dtype != wanted.dtype:
            raise InputError(f"{where}: tensor {name} is {state[name].dtype}, its architecture wants {wanted.dtype}")
