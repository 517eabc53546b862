"""The networks that a user names: in-loop filters in their places, autoencoders in the place of the whole codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.rows import NetworkPlace
from vvc_nnr.experiments.records.weights import FILE, ORIGINAL, Compression
from vvc_nnr.filters.networks.autoencoder import Autoencoder
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.zoo import LOOP_FILTERS_KEY, LoadedNetwork, load_network

PAPER_NETWORKS = ("inloop-replacement", "inloop-postfilter")
"""The bundled networks of the paper's size, in the place of all in-loop filters and after them."""
_REPLACEMENT = PAPER_NETWORKS[0]
_PLACES: Mapping[str, NetworkPlace] = {"all": "all", "none": "none"}


@dataclass(frozen=True, slots=True, eq=False)
class GivenNetwork:
    """A network as a user gives it.

    Attributes:
        name: What rows call it.
        given: What its file holds.
        original: The network as trained that the file was coded from, if that is at hand.
        place: What the codec runs before it.

    Raises:
        InputError: If the two networks differ in shape.
    """

    name: str
    given: LoadedNetwork
    original: LoadedNetwork | None
    place: NetworkPlace

    def __post_init__(self) -> None:
        a, b = self.given, self.original
        if b and (type(a.network) is not type(b.network) or a.network.config != b.network.config):
            raise InputError(f"{b.path}: its network has another shape than that of {a.path}")

    @property
    def trained(self) -> LoadedNetwork | None:
        """The network as trained; None if a coded file (.nnc) is all there is."""
        if self.original is None and self.given.coding == "NNC":
            return None
        return self.original or self.given

    def weights(self, compressions: Sequence[Compression]) -> list[str]:
        """What rows call its weights, in the order of the tables: as trained, as the coded file has them, compressed.

        Of a coded file alone it is what the file has: without the network as trained there is nothing to compress.
        """
        if self.trained is None:
            return [FILE]
        return [ORIGINAL, *([FILE] if self.original else []), *(each.text for each in compressions)]


def given_filters(
    names: Sequence[str], replacements: Sequence[str] = (), originals: Sequence[str] = ()
) -> list[GivenNetwork]:
    """In-loop filters in the order of their names.

    Args:
        names: Names of the zoo, or files.
        replacements: Those of them (as in `names`, or by the file's name without suffix) that take the place of the
            codec's in-loop filters. The others stand where their file says, else after all in-loop filters.
        originals: Names or files of networks as trained, each paired with the coded network of the same name, or
            NAME=FILE.

    Raises:
        InputError: If a network cannot be used, two have one name, or an option names none of them.
        BitstreamError: If a file is damaged.
        UnsupportedError: If a file holds something that this package does not read.
    """
    loaded = _by_name(names)
    as_given = dict(zip(names, loaded, strict=True))
    replacing = {as_given.get(given, given) for given in replacements}
    if unknown := replacing - set(loaded):
        raise InputError(f"replacement {', '.join(sorted(unknown))}: is none of the networks {', '.join(loaded)}")
    pairs = _pairs(originals, loaded)
    for network in (*loaded.values(), *pairs.values()):
        if not isinstance(network.network, InLoopNetwork):
            raise InputError(f"{network.path}: holds no in-loop filter")
    return [
        GivenNetwork(name, network, pairs.get(name), "none" if name in replacing else _place(network))
        for name, network in loaded.items()
    ]


def given_autoencoders(names: Sequence[str], originals: Sequence[str] = ()) -> list[GivenNetwork]:
    """Autoencoders in the order of their names; arguments and errors as for `given_filters`."""
    loaded = _by_name(names)
    pairs = _pairs(originals, loaded)
    for network in (*loaded.values(), *pairs.values()):
        if not isinstance(network.network, Autoencoder):
            raise InputError(f"{network.path}: holds no autoencoder")
    return [GivenNetwork(name, network, pairs.get(name), "codec") for name, network in loaded.items()]


def _by_name(names: Sequence[str]) -> dict[str, LoadedNetwork]:
    if not names:
        raise InputError("no network: name at least one")
    found: dict[str, LoadedNetwork] = {}
    for given in names:
        network = load_network(given)
        if names.count(given) > 1:
            raise InputError(f"{given}: is named {names.count(given)} times; name each network once")
        if network.name in found:
            raise InputError(f"{given}: another network is called {network.name} too; rename one of the files")
        found[network.name] = network
    return found


def _pairs(originals: Sequence[str], networks: Mapping[str, LoadedNetwork]) -> dict[str, LoadedNetwork]:
    """The networks that were coded, by name, and those that they were coded from."""
    pairs: dict[str, LoadedNetwork] = {}
    for original in originals:
        name, found = _paired(original, networks)
        if name in pairs:
            raise InputError(f"original {original}: {name} has another original too; give it one")
        pairs[name] = found
    return pairs


def _paired(original: str, networks: Mapping[str, LoadedNetwork]) -> tuple[str, LoadedNetwork]:
    """The name of the network that was coded, and the network that it was coded from."""
    name, equals, file = original.partition("=")
    if equals and name in networks:
        return name, load_network(file)
    found = load_network(original)
    if found.name not in networks:
        known = ", ".join(networks)
        raise InputError(f"original {original}: no network is called {found.name} ({known}); say NAME={original}")
    return found.name, found


def _place(network: LoadedNetwork) -> NetworkPlace:
    """Where a network stands by its file's word, else by the name of a bundled one, else after all in-loop filters."""
    said = network.metadata.get(LOOP_FILTERS_KEY, "")
    if not said:
        return "none" if network.name == _REPLACEMENT else "all"
    if said not in _PLACES:
        raise InputError(f"{network.path}: {LOOP_FILTERS_KEY} {said[:80]!r} in its metadata: must be all or none")
    return _PLACES[said]
