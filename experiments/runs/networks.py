"""The networks that a user names, each once with all of its weights: as trained, as coded files have them, compressed.

A network is told by what it is, not by what its file is called: a coded file is one of the weights of the network that
its values come from, whatever the names; networks of one name that differ are called by their folders too. New coded
files lie in the folder of results, so that a run which goes on reads them again instead of coding anew, and so that
they can be used by themselves.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn
from tqdm import tqdm

import vvc_nnr
from vvc_nnr.calibrate.compress_calibrated import compress_calibrated
from vvc_nnr.calibrate.samples import Calibration
from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.compress import compress
from vvc_nnr.errors import InputError, UnsupportedError, VvcNnrError
from vvc_nnr.experiments.records.rows import NetworkPlace, NetworkRow
from vvc_nnr.experiments.records.weights import ORIGINAL, Compression, files_weights, parse_compression
from vvc_nnr.files import naming, read_bytes, text_of_name, write_file
from vvc_nnr.filters.adaptation.base_filter import AdaptedBase
from vvc_nnr.filters.adaptation.options import DEFAULT_FREE, FreePart
from vvc_nnr.filters.adaptation.tuned_filter import TunedFilter
from vvc_nnr.filters.bundled import zoo_path
from vvc_nnr.filters.complexity import complexity
from vvc_nnr.filters.inference.runner import check_fits
from vvc_nnr.filters.networks.factory import class_name, is_factory
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.networks.layout import Layout
from vvc_nnr.filters.networks.onnx_network import OnnxNetwork
from vvc_nnr.filters.picture_codecs import PictureCodec, picture_codec, with_network
from vvc_nnr.filters.training.calibration_pictures import (
    FILTER_CROP_SIDE,
    IN_LOOP_QPS,
    CropOptions,
    check_inloop_crops,
    codec_calibration,
    crop_options,
    inloop_calibration,
)
from vvc_nnr.filters.zoo import (
    LOOP_FILTERS_KEY,
    LoadedNetwork,
    load_codec,
    load_network,
    n_parameters,
    network_tensors,
    reloaded,
    uniform_network_bytes,
)
from vvc_nnr.model.safetensors import float_bytes
from vvc_nnr.network_file import ONNX_SUFFIX
from vvc_nnr.sequences.images import image_files

PAPER_NETWORKS = ("inloop-replacement", "inloop-postfilter")
"""The bundled networks of the paper's size, in the place of all in-loop filters and after them."""
BOTH_MODES: tuple[Compression, ...] = (parse_compression("uniform8"), parse_compression("nnc"))
"""The compressions that every table shows unless others are asked for."""
MAX_CHANGE = 0.5
"""Of a coded file: how far its weights may be from those of the network that it was coded from, as a share of their
norm. Trained twice, networks of one shape are about 1.4 apart."""
_NAME = re.compile(r"[\w][\w.+-]*")
_REPLACEMENT = PAPER_NETWORKS[0]
_PLACES: Mapping[str, NetworkPlace] = {"all": "all", "none": "none"}


@dataclass(frozen=True, slots=True, eq=False)
class GivenNetwork:
    """A network as a user gives it.

    Attributes:
        name: What rows call it.
        trained: The network as trained; None if coded files are all there is.
        files: Coded files of it.
        place: What the codec runs before it.
        codec: Of an autoencoder, what codes pictures by it; None for a filter.

    Raises:
        InputError: If a file holds a network of another shape.
    """

    name: str
    trained: LoadedNetwork | None
    files: tuple[LoadedNetwork, ...]
    place: NetworkPlace
    codec: PictureCodec | None = None

    def __post_init__(self) -> None:
        for file in self.files:
            if self.trained is not None and _shapes(file) != _shapes(self.trained):
                raise InputError(f"{self.trained.path}: its network has another shape than that of {file.path}")

    @property
    def any_state(self) -> LoadedNetwork:
        """The network with one of its weights, whichever are there."""
        return self.trained or self.files[0]

    @property
    def file_weights(self) -> list[str]:
        """What rows call the weights of its coded files."""
        return files_weights([file.name for file in self.files]) if self.files else []

    def weights(self, compressions: Sequence[Compression]) -> list[str]:
        """What rows call its weights, in the order of the tables: as trained, as coded files have them, compressed.

        Without the network as trained there is nothing to compress: it is what the files have.
        """
        if self.trained is None:
            return self.file_weights
        return [ORIGINAL, *self.file_weights, *(each.text for each in compressions)]


def given_filters(
    names: Sequence[str],
    replacements: Sequence[str] = (),
    originals: Sequence[str] = (),
    archs: Sequence[str] = (),
    layouts: Sequence[str] = (),
    modules: Sequence[LoadedNetwork] = (),
) -> list[GivenNetwork]:
    """In-loop filters in the order of their names, each once with all of its weights.

    Args:
        names: Names of the zoo, files, or FILE.py:NAME; NAME= before one of the user's own says what rows call it.
        replacements: Those of them (as in `names`, or by the network's name) that take the place of the codec's
            in-loop filters. The others stand where their file says, else after all in-loop filters.
        originals: Names or files of networks as trained, each paired with the coded network of the same name, or
            NAME=FILE.
        archs: What makes the modules of files that do not say it: FILE.py:NAME or "dncnn" for all that are no bundled
            networks, NAME=FILE.py:NAME for one (of those of one name A/NAME=FILE.py:NAME, A its folder).
        layouts: How pictures go into networks that are no bundled ones, likewise.
        modules: Networks of the caller's own beside those.

    Raises:
        InputError: If a network cannot be used, is there twice, or an option names none of them.
        BitstreamError: If a file is damaged.
        UnsupportedError: If a file holds something that this package does not read.
    """

    def load(name: str) -> LoadedNetwork:
        layout = _said(layouts, name, for_all=zoo_path(_typed(name).network) is None)
        return _typed(name).of(load_network(_typed(name).network, arch=_arch_of(name, archs), layout=layout))

    _check_typed(names)
    _check_named("layout", layouts, names, originals)
    _check_named("arch", archs, names, originals)
    own = [name for name in _files(names, originals) if zoo_path(_typed(name).network) is None]
    _check_of_use("layout", layouts, own)
    _check_of_use("arch", archs, [name for name in _files(names, originals) if not _says_itself(name)])
    found = _grouped([*map(load, names), *modules], originals, load)
    for network in found:
        if network.any_state.layout is None:
            raise InputError(f"{network.any_state.path}: holds no in-loop filter")
        for state in (network.trained, *network.files):
            if state is not None and state.layout is not None and not isinstance(state.network, InLoopNetwork):
                with naming(state.path):
                    check_fits(state.network, state.layout)
    known = {each: network.name for network in found for each in _called(network)}
    known |= {name: known[path] for name in names if (path := str(name)) in known}
    replacing = {known.get(given, given) for given in replacements}
    if unknown := replacing - {network.name for network in found}:
        names_there = ", ".join(network.name for network in found)
        raise InputError(f"replacement {', '.join(sorted(unknown))}: is none of the networks {names_there}")
    return [replace(each, place="none" if each.name in replacing else _place(each.any_state)) for each in found]


def given_autoencoders(
    names: Sequence[str],
    originals: Sequence[str] = (),
    archs: Sequence[str] = (),
    modules: Sequence[LoadedNetwork] = (),
    stride: int | None = None,
) -> list[GivenNetwork]:
    """Autoencoders in the order of their names, each once with all of its weights, and tried on a picture.

    Args:
        names: As for `given_filters`; so are the others.
        originals: Names or files of networks as trained.
        archs: What makes the modules of files that do not say it.
        modules: Networks of the caller's own (`own_codec`) beside those.
        stride: As for `picture_codec`.

    Raises:
        InputError, BitstreamError, UnsupportedError: As `given_filters`; and if one is no autoencoder.
    """

    def load(name: str) -> LoadedNetwork:
        return _typed(name).of(load_codec(_typed(name).network, arch=_arch_of(name, archs)))

    _check_typed(names)
    _check_named("arch", archs, names, originals)
    _check_of_use("arch", archs, [name for name in _files(names, originals) if not _says_itself(name)])
    found = _grouped([*map(load, names), *modules], originals, load)
    return [replace(network, place="codec", codec=_codec_of(network, stride)) for network in found]


def _codec_of(network: GivenNetwork, stride: int | None) -> PictureCodec:
    """What codes pictures, tried with each of the weights that the user has given."""
    states = [state for state in (network.trained, *network.files) if state is not None]
    codecs = []
    for state in states:
        try:
            codecs.append(picture_codec(state.network, stride=stride))
        except VvcNnrError as error:
            said = str(error) if "no autoencoder" in str(error) else f"holds no autoencoder: {error}"
            raise InputError(f"{state.path}: {said}") from error
    return codecs[0]


@dataclass(frozen=True, slots=True)
class _Typed:
    """A network as it was typed: what it is, and what rows shall call it if that was said."""

    network: str
    name: str = ""

    def of(self, loaded: LoadedNetwork) -> LoadedNetwork:
        """The loaded network under the name that was said."""
        return replace(loaded, name=self.name) if self.name else loaded


def _typed(text: str) -> _Typed:
    """A network, or NAME=NETWORK; a file whose name has the sign in it is that file."""
    name, equals, network = text.partition("=")
    file = text.rpartition(":")[0] if is_factory(text) else text
    return _Typed(network, name) if equals and not Path(file).exists() else _Typed(text)


def _check_typed(names: Sequence[str]) -> None:
    """Raises InputError for a name that rows cannot have, and for one of a bundled network."""
    for text in names:
        typed = _typed(text)
        if typed.network == text:
            continue
        if not _NAME.fullmatch(typed.name) or not typed.network:
            raise InputError(f"network {text}: must be a network, or NAME=NETWORK, NAME of letters, digits and . _ + -")
        if bundled := [each for each in (typed.name, typed.network) if zoo_path(each) is not None]:
            raise InputError(f"network {text}: {bundled[0]} is a bundled network's name; NAME= is for your own")


def _own_name(name: str) -> str:
    """What a network is called: as was said, else its file without suffix, or the function that makes it."""
    typed = _typed(name)
    made_by = typed.network.rpartition(":")[2] if is_factory(typed.network) else Path(typed.network).stem
    return typed.name or made_by


def _names_of(name: str) -> list[str]:
    """What NAME=VALUE may call a network: what was typed, or its own name behind ever fewer of its folders."""
    if (typed := _typed(name)).name:
        return [typed.name]
    folders = Path(name).absolute().parent.parts
    return [name, *("/".join([*folders[place:], _own_name(name)]) for place in range(len(folders) + 1))]


def _check_named(option: str, texts: Sequence[str], names: Sequence[str], originals: Sequence[str]) -> None:
    """Raises InputError for a NAME=VALUE whose name is none of the networks'."""
    given = _files(names, originals)
    known = {each for name in given for each in _names_of(name)}
    for text in texts:
        if not _is_general(text) and not any(text.startswith(f"{name}=") for name in known):
            there = ", ".join(dict.fromkeys(_own_name(name) for name in names)) or "none"
            raise InputError(f"{option} {text}: no network is called {text.partition('=')[0]}; there are: {there}")


def _check_of_use(option: str, texts: Sequence[str], takers: Sequence[str]) -> None:
    """Raises InputError for a value without a network's name, which is for all of them, if none takes it."""
    for text in texts:
        if _is_general(text) and not takers:
            raise InputError(f"{option} {text}: each of the networks says its own; omit it, or say NAME={text}")


def _files(names: Sequence[str], originals: Sequence[str]) -> list[str]:
    """All that may name a network: originals are a name, or behind NAME=."""
    return [*names, *originals, *(file for _, equals, file in (each.partition("=") for each in originals) if equals)]


def _says_itself(name: str) -> bool:
    """Whether a network says what makes its module."""
    network = _typed(name).network
    return zoo_path(network) is not None or is_factory(network) or Path(network).suffix.lower() == ONNX_SUFFIX


def _arch_of(name: str, archs: Sequence[str]) -> str | None:
    """What the options say makes the module of a file; None for what says it itself."""
    return _said(archs, name, for_all=not _says_itself(name))


def _grouped(
    loaded: Sequence[LoadedNetwork], originals: Sequence[str], load: Callable[[str], LoadedNetwork]
) -> list[GivenNetwork]:
    """Each network once: those as trained, and the coded files with the one that they come from."""
    if not loaded:
        raise InputError("no network: name at least one")
    for place, network in enumerate(loaded):
        if same := [other for other in loaded[:place] if network.sha256 == other.sha256]:
            first = f", first as {same[0].path}" if same[0].path != network.path else ""
            raise InputError(f"{network.path}: this network is given twice{first}; name it once")
    said = _pairs(originals, loaded, load)
    trained = [network for network in loaded if not network.is_coded]
    groups: dict[str, tuple[LoadedNetwork | None, list[LoadedNetwork]]] = {}
    for network in loaded:
        if not network.is_coded and network.name not in said:
            groups.setdefault(network.sha256, (network, []))
            continue
        source = said.get(network.name) or _source_of(network, trained)
        key = network.sha256 if source is None else source.sha256
        groups.setdefault(key, (source, []))[1].append(network)
    given = {network.sha256 for network in loaded}
    found = [
        GivenNetwork(
            files[0].name if source is None or (source.sha256 not in given and len(files) == 1) else source.name,
            source,
            tuple(files),
            "all",
        )
        for source, files in groups.values()
    ]
    return _with_own_names(found)


def _source_of(coded: LoadedNetwork, trained: Sequence[LoadedNetwork]) -> LoadedNetwork | None:
    """The network as trained whose weights a coded file's are near to."""
    changes = {_change(coded, other): other for other in trained if _shapes(other) == _shapes(coded)}
    nearest = min(changes, default=MAX_CHANGE + 1)
    return changes[nearest] if nearest <= MAX_CHANGE else None


def _change(coded: LoadedNetwork, original: LoadedNetwork) -> float:
    theirs = network_tensors(original.network)
    both = [(value, theirs[name]) for name, value in network_tensors(coded.network).items() if value.dtype.kind == "f"]
    difference = sum(float(np.square(a.astype(np.float64) - b).sum()) for a, b in both)
    energy = sum(float(np.square(b.astype(np.float64)).sum()) for _, b in both)
    return float(np.sqrt(difference / energy)) if energy else float(difference > 0)


def _shapes(network: LoadedNetwork) -> object:
    shapes = {name: tuple(value.shape) for name, value in network.network.state_dict().items()}
    return type(network.network).__name__, shapes


def _with_own_names(networks: list[GivenNetwork]) -> list[GivenNetwork]:
    """The networks, those of one name called by as many folders of their paths as tell them apart."""
    names = [network.name for network in networks]
    n_parts = 1
    while len(set(names)) < len(names):
        n_parts += 1
        twice = [name for name in names if names.count(name) > 1]
        longer = [_longer(each, n_parts) if name in twice else name for each, name in zip(networks, names, strict=True)]
        if longer == names:
            longer = [f"{name}-{place}" if name in twice else name for place, name in enumerate(names, 1)]
        names = longer
    return [replace(network, name=name) for network, name in zip(networks, names, strict=True)]


def _longer(network: GivenNetwork, n_parts: int) -> str:
    path = network.any_state.path.absolute()
    return "/".join([*path.parent.parts[-n_parts + 1 :], network.any_state.name])


def _called(network: GivenNetwork) -> list[str]:
    """What a user may call a network: its name, or that of one of its files, or a path."""
    states = [*([network.trained] if network.trained else []), *network.files]
    return [network.name, *(name for state in states for name in (state.name, str(state.path)))]


def _said(texts: Sequence[str], name: str, *, for_all: bool) -> str | None:
    """What an option of values, or NAME=VALUE, says for one network; a name with more of its folders goes first."""
    for called in _names_of(name):
        if own := [text.removeprefix(f"{called}=") for text in texts if text.startswith(f"{called}=")]:
            return own[-1]
    general = [text for text in texts if _is_general(text)]
    if len(general) > 1:
        raise InputError(f"{general[0]}, {general[1]}: both are for all networks; say NAME={general[1]}")
    return general[0] if general and for_all else None


def _is_general(text: str) -> bool:
    """Whether it is a layout (NAME=VALUE,...), FILE.py:NAME or dncnn without a network's name before it."""
    _, equals, rest = text.partition("=")
    return not equals or ("=" not in rest.partition(",")[0] and not is_factory(rest) and rest != "dncnn")


def _pairs(
    originals: Sequence[str], networks: Sequence[LoadedNetwork], load: Callable[[str], LoadedNetwork]
) -> dict[str, LoadedNetwork]:
    """The networks that coded files come from, by the names of the files."""
    pairs: dict[str, LoadedNetwork] = {}
    for original in originals:
        name, found = _paired(original, networks, load)
        if name in pairs:
            raise InputError(f"original {original}: {name} has another original too; give it one")
        pairs[name] = found
    return pairs


def _paired(
    original: str, networks: Sequence[LoadedNetwork], load: Callable[[str], LoadedNetwork]
) -> tuple[str, LoadedNetwork]:
    """The name of the network that was coded, and the network that it was coded from."""
    names = [network.name for network in networks]
    name, equals, file = original.partition("=")
    name = text_of_name(name)
    if equals and name in names:
        return name, load(file)
    found = load(original)
    if found.name not in names:
        known = ", ".join(names)
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
        n_crops: Crops of them that it follows; None: as many as `compress_by_pictures` does.
        accept_small: Crops may be smaller than what an output depends on.
    """

    compressions: Sequence[Compression]
    folder: Path
    photographs: Path | None = None
    n_crops: int | None = None
    accept_small: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class NetworkState:
    """A network with one kind of weights, ready to run.

    Attributes:
        row: Its name, weights, place and cost.
        network: The module.
        layout: How pictures go into it; None for an autoencoder.
        codec: What codes pictures by an autoencoder; None for a filter.
        path: The file that has these weights.
    """

    row: NetworkRow
    network: nn.Module
    layout: Layout | None
    codec: PictureCodec | None
    path: Path

    def adapted_base(self) -> AdaptedBase:
        """The weights as those that an update is for, which a decoder finds by their hash."""
        return AdaptedBase(read_bytes(self.path), "hash", self.network, self.layout)


def check_photographs(
    compressions: Sequence[Compression],
    photographs: Path | None,
    n_crops: int | None = None,
    *,
    accept_small: bool = False,
) -> None:
    """Refuses calibrated compression without photographs, and photographs without it, before anything runs.

    Raises:
        InputError: If photographs are missing, not there, or of no use, or so is the number of crops.
    """
    if n_crops is not None and photographs is None:
        raise InputError(f"n_crops: {n_crops}, are crops of photographs to compress by; give them (--calibrate DIR)")
    if accept_small and photographs is None:
        raise InputError("accept_small: is of crops of photographs to compress by; give them (--calibrate DIR)")
    if n_crops is not None and n_crops < 1:
        raise InputError(f"n_crops: {n_crops}, must be at least 1")
    if any(each.kind == "calibrated" for each in compressions):
        if photographs is None:
            raise InputError("compression calibrated: needs photographs to compress by (--calibrate DIR)")
        image_files(photographs)
    elif photographs is not None:
        raise InputError("photographs (--calibrate DIR): no compression is calibrated; add it to the list (--compress)")


def check_calibrations(networks: Sequence[GivenNetwork], options: CodingOptions) -> None:
    """Refuses networks that a calibrated compression cannot take, all of them before the first is compressed.

    Args:
        networks: The networks.
        options: The compressions; what is coded already is let through.

    Raises:
        InputError: If no gradients go through a network, or its crops are smaller than what an output depends on.
    """
    for network in networks:
        open_ones = [
            compression
            for compression in options.compressions
            if compression.kind == "calibrated"
            and network.trained is not None
            and not _coded_path(network, network.trained, compression, options).exists()
        ]
        if network.trained is None or not open_ones:
            continue
        layout = network.trained.layout
        with naming(network.trained.path):
            _check_gradients(network, network.trained, open_ones[0])
            if network.codec is None and layout is not None and not options.accept_small:
                check_inloop_crops(network.trained.network, _photographs(options), _crops_of(options), layout)


def _check_gradients(given: GivenNetwork, trained: LoadedNetwork, compression: Compression) -> None:
    if isinstance(trained.network, OnnxNetwork):
        raise InputError(
            f"compression {compression.text}: no gradients go through the graph of an ONNX model; say what makes its "
            f"torch module (--arch {given.name}=FILE.py:NAME), or take this compression away"
        )


def adapted_base(
    network: GivenNetwork, compressions: Sequence[Compression], free: Sequence[FreePart] = DEFAULT_FREE
) -> str:
    """Which weights of a network an update is for: the last ones that an ISO/IEC 15938-17 file has.

    Raises:
        InputError: If there are none, or the network cannot be tuned to a sequence.
        UnsupportedError: If it cannot since no gradients go through it, or a message does not say its layout.
    """
    state = network.any_state
    try:
        TunedFilter.of(state.network, state.layout).free_tensors(free)
    except (InputError, UnsupportedError) as error:
        raise type(error)(f"{network.name}: cannot be adapted to a sequence: {error}") from error
    files = zip(network.file_weights, network.files, strict=True)
    coded = [weights for weights, file in files if file.coding == "NNC"]
    coded += [each.text for each in compressions if network.trained is not None and each.kind != "uniform"]
    if not coded:
        raise InputError(f"{network.name}: an update is for a coded network; add nnc to the list (--compress)")
    return coded[-1]


def network_states(
    networks: Sequence[GivenNetwork], options: CodingOptions, counted: Sequence[NetworkRow] = ()
) -> list[NetworkState]:
    """The networks with all of their weights, each of them in the order of `GivenNetwork.weights`.

    Args:
        networks: The networks.
        options: The compressions, and where the coded files go.
        counted: The same networks as another process has them: their operations are not counted again.

    Raises:
        InputError: If a compression cannot be had, or a file not be written.
    """
    bar = tqdm(networks, desc="networks", unit="network", disable=None)
    kmac = {row.network: row.kmac_per_luma_sample for row in counted}
    return [state for network in bar for state in _states(network, options, kmac)]


def _states(
    network: GivenNetwork, options: CodingOptions, known_kmac: Mapping[str, float | None]
) -> Iterator[NetworkState]:
    first, trained = network.any_state, network.trained
    if network.name in known_kmac:
        kmac = known_kmac[network.name]
    else:
        kmac = complexity(first.network, first.layout).kmac_per_luma_sample if first.layout is not None else None
    original_bytes = None if trained is None else len(_float_bytes(trained))
    if trained is not None:
        yield _state(network, ORIGINAL, trained, original_bytes, kmac)
    for weights, file in zip(network.file_weights, network.files, strict=True):
        yield _state(network, weights, file, original_bytes, kmac)
    if trained is None:
        return
    for compression in options.compressions:
        coded = reloaded(trained, _coded_file(network, trained, compression, options))
        yield _state(network, compression.text, coded, original_bytes, kmac)


def _state(
    network: GivenNetwork, weights: str, loaded: LoadedNetwork, original_bytes: int | None, kmac: float | None
) -> NetworkState:
    module, layout = loaded.network, loaded.layout
    n_bytes = original_bytes if weights == ORIGINAL and original_bytes is not None else loaded.n_bytes
    size = (loaded.coding, n_bytes, original_bytes, n_parameters(module), kmac)
    row = NetworkRow(network.name, weights, loaded.sha256[:16], network.place, *size, class_name(module))
    return NetworkState(
        row, module, layout, network.codec and with_network(network.codec, module), loaded.path.absolute()
    )


def _float_bytes(network: LoadedNetwork) -> bytes:
    return float_bytes(network_tensors(network.network), network.file_metadata)


def _coded_file(
    network: GivenNetwork, trained: LoadedNetwork, compression: Compression, options: CodingOptions
) -> Path:
    """The coded file of a network, made if it is not there."""
    path = _coded_path(network, trained, compression, options)
    if not path.exists():
        with naming(trained.path):
            data = _coded_bytes(network, trained, compression, options)
        write_file(path, data)
    return path


def _coded_path(
    network: GivenNetwork, trained: LoadedNetwork, compression: Compression, options: CodingOptions
) -> Path:
    """Where the coded file of a network is or will be, by the content of all that it is made from."""
    name, place = network.name, network.place
    key = hashlib.sha256(f"{vvc_nnr.__version__} {compression.text} {place} ".encode())
    key.update(_float_bytes(trained))
    if compression.kind == "calibrated":
        key.update(b"" if options.n_crops is None else f"{options.n_crops} crops ".encode())
        for path in _photographs(options):
            key.update(read_bytes(path))
    suffix = ".safetensors" if compression.kind == "uniform" else ".nnc"
    text = compression.text.replace(":", "_")
    return options.folder / f"{plain_name(name)}_{text}_{key.hexdigest()[:12]}{suffix}"


def plain_name(name: str) -> str:
    """A name as a part of a file's; what tells two of them apart has to follow."""
    return "".join(letter if (letter.isalnum() and letter.isascii()) or letter in "._-" else "-" for letter in name)


def _coded_bytes(
    given: GivenNetwork, trained: LoadedNetwork, compression: Compression, options: CodingOptions
) -> bytes:
    network, metadata, place = trained.network, trained.file_metadata, given.place
    if compression.bits is not None:
        return uniform_network_bytes(network, metadata, compression.bits)
    if place != "codec":
        metadata = {**metadata, LOOP_FILTERS_KEY: place}
    if compression.kind == "nnc":
        return compress(network, qp=compression.qp, metadata=metadata)
    _check_gradients(given, trained, compression)
    found = compress_calibrated(
        network,
        _calibration(given, trained.layout, options),
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
    check_photographs(options.compressions, options.photographs, options.n_crops)
    assert options.photographs is not None
    return image_files(options.photographs)


def _calibration(network: GivenNetwork, layout: Layout | None, options: CodingOptions) -> Calibration:
    """What a network gets to be compressed by: coded crops for a filter, pictures for an autoencoder."""
    photographs = _photographs(options)
    if network.codec is not None:
        return codec_calibration(network.codec, photographs, options.n_crops)
    assert layout is not None
    before: LoopFilters = "none" if network.place == "none" else "all"
    calibration = inloop_calibration(photographs, IN_LOOP_QPS, before, _crops_of(options), layout)
    return replace(calibration, accepts_small=True) if options.accept_small else calibration


def _crops_of(options: CodingOptions) -> CropOptions:
    """Which crops a filter is calibrated by."""
    return crop_options(options.n_crops, FILTER_CROP_SIDE)
