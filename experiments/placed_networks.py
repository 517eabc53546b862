"""The networks of the in-loop experiment: where each stands, what it costs, and the float network it was coded from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.in_loop_rows import NetworkRow, Weights
from vvc_nnr.experiments.tool_by_tool import NETWORK_OF
from vvc_nnr.files import read_bytes
from vvc_nnr.filters.complexity import complexity
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.zoo import LOOP_FILTERS_KEY, LoadedNetwork, load_network

_PLACES: Mapping[str, LoopFilters] = {"all": "all", "none": "none"}


@dataclass(frozen=True, slots=True)
class PlacedNetwork:
    """A network ready to run in its place.

    Attributes:
        row: Its name, place and cost.
        network: The module.
    """

    row: NetworkRow
    network: InLoopNetwork


def place_networks(
    names: Sequence[str], replacements: Sequence[str] = (), originals: Sequence[str] = ()
) -> list[PlacedNetwork]:
    """The networks in the order of their names, each original right after the file that it was coded to.

    Args:
        names: Names of the zoo, or files.
        replacements: Those of them (as in `names`, or by the file's name without suffix) that take the place of the
            codec's in-loop filters. The others stand where their file says, else after all in-loop filters.
        originals: Names or files of float networks, each paired with the network of the same name, or NAME=FILE.

    Raises:
        InputError: If a network cannot be used, two have one name, or an option names none of them.
        BitstreamError: If a file is damaged.
        UnsupportedError: If a file holds something that this package does not read.
    """
    if not names:
        raise InputError("no network: name at least one")
    loaded = {given: load_network(given) for given in names}
    by_name: dict[str, LoadedNetwork] = {}
    for given, network in loaded.items():
        if network.name in by_name:
            raise InputError(f"{given}: another network is called {network.name} too; rename one of the files")
        by_name[network.name] = network
    replacing = {loaded[given].name if given in loaded else given for given in replacements}
    if unknown := replacing - set(by_name):
        raise InputError(f"replacement {', '.join(sorted(unknown))}: is none of the networks {', '.join(by_name)}")
    pairs = dict(_paired(original, by_name) for original in originals)
    placed: list[PlacedNetwork] = []
    for name, network in by_name.items():
        place = "none" if name in replacing else _place(network)
        placed.append(_placed(name, "file", place, network))
        if name in pairs:
            _check_pair(network, pairs[name])
            placed.append(_placed(name, "original", place, pairs[name]))
    return placed


def _paired(original: str, networks: Mapping[str, LoadedNetwork]) -> tuple[str, LoadedNetwork]:
    """The name of the network that was coded, and the float network that it was coded from."""
    name, equals, file = original.partition("=")
    if equals and name in networks:
        return name, load_network(file)
    found = load_network(original)
    if found.name not in networks:
        known = ", ".join(networks)
        raise InputError(f"original {original}: no network is called {found.name} ({known}); say NAME={original}")
    return found.name, found


def _check_pair(coded: LoadedNetwork, original: LoadedNetwork) -> None:
    if type(coded.network) is not type(original.network) or coded.network.config != original.network.config:
        raise InputError(f"{original.path}: its network has another shape than that of {coded.path}")


def _place(network: LoadedNetwork) -> LoopFilters:
    """Where a network stands by its file's word, else by the name of a bundled one, else after all in-loop filters."""
    said = network.metadata.get(LOOP_FILTERS_KEY, "")
    if not said:
        return "none" if network.name == NETWORK_OF["none"] else "all"
    if said not in _PLACES:
        raise InputError(f"{network.path}: {LOOP_FILTERS_KEY} {said[:80]!r} in its metadata: must be all or none")
    return _PLACES[said]


def _placed(name: str, weights: Weights, place: LoopFilters, loaded: LoadedNetwork) -> PlacedNetwork:
    if not isinstance(loaded.network, InLoopNetwork):
        raise InputError(f"{loaded.path}: holds no in-loop filter")
    cost = complexity(loaded.network)
    digest = hashlib.sha256(read_bytes(loaded.path)).hexdigest()[:16]
    size = (loaded.coding, loaded.n_bytes, cost.n_parameters, cost.kmac_per_luma_sample)
    return PlacedNetwork(NetworkRow(name, weights, digest, place, *size), loaded.network)
