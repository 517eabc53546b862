"""The networks that a user names, each with all of its weights: as trained, as its coded file has them, compressed.

The new files lie in the folder of results, so that a run which goes on reads them again instead of coding anew, and
so that they can be used by themselves.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

import vvc_nnr
from vvc_nnr.calibrate.calibration import Calibration
from vvc_nnr.calibrate.compress_calibrated import compress_calibrated
from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.compress import compress
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.rows import NetworkPlace, NetworkRow
from vvc_nnr.experiments.records.weights import FILE, ORIGINAL, Compression, parse_compression
from vvc_nnr.files import AtomicFile, naming, read_bytes
from vvc_nnr.filters.networks.autoencoder import Autoencoder
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.training.calibration_pictures import (
    IN_LOOP_QPS,
    CropOptions,
    autoencoder_calibration,
    inloop_calibration,
    patches,
)
from vvc_nnr.filters.zoo import (
    LOOP_FILTERS_KEY,
    LoadedNetwork,
    Network,
    complexity,
    load_network,
    n_parameters,
    network_metadata,
    network_tensors,
)
from vvc_nnr.model.safetensors import float_bytes, uniform_bytes
from vvc_nnr.sequences.images import image_files

PAPER_NETWORKS = ("inloop-replacement", "inloop-postfilter")
"""The bundled networks of the paper's size, in the place of all in-loop filters and after them."""
BOTH_MODES: tuple[Compression, ...] = (parse_compression("uniform8"), parse_compression("nnc"))
"""The compressions that every table shows unless others are asked for."""
_REPLACEMENT = PAPER_NETWORKS[0]
_PLACES: Mapping[str, NetworkPlace] = {"all": "all", "none": "none"}
_CROP_SIDE = 128


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
    pairs = dict(_paired(original, loaded) for original in originals)
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
    pairs = dict(_paired(original, loaded) for original in originals)
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
        if network.name in found:
            raise InputError(f"{given}: another network is called {network.name} too; rename one of the files")
        found[network.name] = network
    return found


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


@dataclass(frozen=True, slots=True)
class CodingOptions:
    """How networks are compressed in an experiment.

    Attributes:
        compressions: What each network as trained is stored with, in the order of the tables.
        folder: Where the coded files go; they are read from there if they are there already.
        photographs: Folder of the photographs that "calibrated" looks at; None where no compression is of that kind.
    """

    compressions: Sequence[Compression]
    folder: Path
    photographs: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class NetworkState:
    """A network with one kind of weights, ready to run.

    Attributes:
        row: Its name, weights, place and cost.
        network: The module.
    """

    row: NetworkRow
    network: Network


def check_photographs(compressions: Sequence[Compression], photographs: Path | None) -> None:
    """Refuses calibrated compression without photographs, before anything runs.

    Raises:
        InputError: If photographs are missing or not there.
    """
    if any(each.kind == "calibrated" for each in compressions):
        if photographs is None:
            raise InputError("compression calibrated: needs photographs to compress by (--calibrate DIR)")
        image_files(photographs)


def network_states(networks: Sequence[GivenNetwork], options: CodingOptions) -> list[NetworkState]:
    """The networks with all of their weights, each of them in the order of `GivenNetwork.weights`.

    Args:
        networks: The networks.
        options: The compressions, and where the coded files go.

    Raises:
        InputError: If a compression cannot be had, or a file not be written.
    """
    bar = tqdm(networks, desc="networks", unit="network", disable=None)
    return [state for network in bar for state in _states(network, options)]


def _states(network: GivenNetwork, options: CodingOptions) -> Iterator[NetworkState]:
    trained = network.trained
    if trained is None:
        yield _state(network, FILE, network.given, None)
        return
    original_bytes = trained.n_bytes if trained.coding == "float32" else len(_float_bytes(trained.network))
    yield _state(network, ORIGINAL, trained, original_bytes)
    if network.original is not None:
        yield _state(network, FILE, network.given, original_bytes)
    for compression in options.compressions:
        coded = load_network(_coded_file(network.name, trained, network.place, compression, options))
        yield _state(network, compression.text, coded, original_bytes)


def _state(network: GivenNetwork, weights: str, loaded: LoadedNetwork, original_bytes: int | None) -> NetworkState:
    module = loaded.network
    kmac = complexity(module).kmac_per_luma_sample if isinstance(module, InLoopNetwork) else None
    n_bytes = original_bytes if weights == ORIGINAL and original_bytes is not None else loaded.n_bytes
    digest = hashlib.sha256(read_bytes(loaded.path)).hexdigest()[:16]
    size = (loaded.coding, n_bytes, original_bytes, n_parameters(module), kmac)
    return NetworkState(NetworkRow(network.name, weights, digest, network.place, *size), module)


def _float_bytes(network: Network) -> bytes:
    return float_bytes(network_tensors(network), network_metadata(network))


def _coded_file(
    name: str, trained: LoadedNetwork, place: NetworkPlace, compression: Compression, options: CodingOptions
) -> Path:
    """The coded file of a network, made if it is not there."""
    key = hashlib.sha256(f"{vvc_nnr.__version__} {compression.text} {place} ".encode())
    key.update(_float_bytes(trained.network))
    if compression.kind == "calibrated":
        for path in _photographs(options):
            key.update(read_bytes(path))
    plain = "".join(letter if (letter.isalnum() and letter.isascii()) or letter in "._-" else "-" for letter in name)
    suffix = ".safetensors" if compression.kind == "uniform" else ".nnc"
    text = compression.text.replace(":", "_")
    path = options.folder / f"{plain}_{text}_{key.hexdigest()[:12]}{suffix}"
    if not path.exists():
        with naming(trained.path):
            data = _coded_bytes(trained.network, place, compression, options)
        with AtomicFile(path) as file:
            file.write(data)
    return path


def _coded_bytes(network: Network, place: NetworkPlace, compression: Compression, options: CodingOptions) -> bytes:
    metadata: Mapping[str, str] = network_metadata(network)
    if compression.bits is not None:
        return uniform_bytes(network_tensors(network), metadata, compression.bits)
    if place != "codec":
        metadata = {**metadata, LOOP_FILTERS_KEY: place}
    if compression.qp is not None:
        return compress(network, qp=compression.qp, metadata=metadata)
    found = compress_calibrated(
        network,
        _calibration(network, place, _photographs(options)),
        max_loss_db=compression.max_loss_db,
        max_bytes=compression.max_bytes,
        metadata=metadata,
        report=_tell,
    )
    return found.data


def _tell(line: str) -> None:
    """Calibration takes minutes: each candidate is told to who watches."""
    if sys.stderr.isatty():
        tqdm.write(line, file=sys.stderr)


def _photographs(options: CodingOptions) -> list[Path]:
    check_photographs(options.compressions, options.photographs)
    assert options.photographs is not None
    return image_files(options.photographs)


def _calibration(network: Network, place: NetworkPlace, photographs: Sequence[Path]) -> Calibration:
    """What a network gets to be compressed by: coded crops for a filter, patches for an autoencoder."""
    if isinstance(network, Autoencoder):
        return autoencoder_calibration(*patches(photographs, None))
    before: LoopFilters = "none" if place == "none" else "all"
    return inloop_calibration(photographs, IN_LOOP_QPS, before, CropOptions(side=_CROP_SIDE))
