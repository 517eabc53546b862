"""Networks from files of all kinds with nothing lost: number formats, shapes, order, and roles where the kind has them.

The first bytes of a file tell its kind, its name only where they do not.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from vvc_nnr.bitstream.number_formats import (
    Array,
    FloatBits,
    NamedArrays,
    exact_float32,
    in_format,
    itemsize_of,
    plain_array,
    shape_of,
)
from vvc_nnr.bitstream.stream import Buffer, read_stream
from vvc_nnr.bitstream.ties import with_ties
from vvc_nnr.coding.decoder import decode_network
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError, shown, shown_name
from vvc_nnr.files import HEAD_BYTES, check_no_pointer, is_stream, naming, open_input, read_bytes
from vvc_nnr.json_text import parse_json
from vvc_nnr.model.container import Tensor, parse_container
from vvc_nnr.model.foreign_kinds import check_content, check_folder, check_name, is_of_paddle, may_be_onnx
from vvc_nnr.model.safetensors import StoredNetwork, as_stored_float, parse_exact, parse_network, write_exact
from vvc_nnr.options import check_max_elements, thread_count
from vvc_nnr.roles.roles import TensorRole

NNC_SUFFIX = ".nnc"
NNC_SUFFIXES = (NNC_SUFFIX, ".nnr")
"""Of coded networks; the second is what VTM's decoder writes."""
TORCH_SUFFIXES = (".pt", ".pth")
ONNX_SUFFIX = ".onnx"
SAFETENSORS_SUFFIX = ".safetensors"
FileKind = Literal["nnc", "torch", "onnx", "safetensors", "index", "npz", "npy", "hdf5", "gguf"]
_KEYED_KINDS: tuple[FileKind, ...] = ("torch", "index")
"""Files in which a key may tell where the network is."""
_STARTS: tuple[tuple[bytes, FileKind], ...] = (
    (b"\x00\x04\x02", "nnc"),
    (b"GGUF", "gguf"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"\x93NUMPY", "npy"),
    (b"\x80\x02", "torch"),
    (b"\x80\x04", "torch"),
)
_ZIP_NAME_AT = 30
# What an archive of Keras 3 may begin with; its weights are HDF5.
_KERAS_MEMBERS = (b"metadata.json", b"config.json", b"model.weights.h5")
# A ModelProto starts with its ir_version, field number 1.
_ONNX_START = b"\x08"
# Of a safetensors header, by the library that reads it.
_MAX_HEADER_BYTES = 100_000_001
_KIND_BY_SUFFIX: Mapping[str, FileKind] = {
    **{
        ".nnr": "nnc",
        NNC_SUFFIX: "nnc",
        SAFETENSORS_SUFFIX: "safetensors",
        ONNX_SUFFIX: "onnx",
        ".npz": "npz",
        ".npy": "npy",
        ".gguf": "gguf",
    },
    **dict.fromkeys((*TORCH_SUFFIXES, ".bin", ".ckpt", ".tar", ".th"), "torch"),
    **dict.fromkeys((".h5", ".hdf5", ".keras"), "hdf5"),
}
_NAME_OF_KIND: Mapping[FileKind, str] = {
    **{"nnc": "a coded network", "torch": "a checkpoint of torch", "onnx": "an ONNX model", "npz": "a .npz file"},
    **{"safetensors": "a safetensors file", "index": "an index of shards", "hdf5": "HDF5", "gguf": "GGUF"},
    "npy": "a .npy file",
}
READ_KINDS = (
    *(".nnc", ".safetensors", "a checkpoint of torch", ".onnx", ".npz", ".npy", "HDF5", "GGUF"),
    "an index of shards",
)
# What torch's DataParallel, torch.compile and FSDP put before names.
WRAPPER_PREFIXES = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_module.")
PLAIN_SUFFIXES = (SAFETENSORS_SUFFIX, *TORCH_SUFFIXES, ONNX_SUFFIX)


@dataclass(frozen=True, slots=True, eq=False)
class NetworkArrays:
    """A network as a file gives it.

    Attributes:
        arrays: Its tensors in their number formats, by name and in order.
        metadata: Texts that were stored with it, those of a graph included.
        n_bytes: Size of the file.
        graph: An ONNX model without its tensors, None of other kinds.
        roles: Roles that the file's own structure tells.
        left_out: What else the file holds, which is not part of the network.
    """

    arrays: NamedArrays
    metadata: dict[str, str]
    n_bytes: int
    graph: bytes | None = None
    roles: Mapping[str, TensorRole] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def all_tensors(network: NetworkArrays) -> NetworkArrays:
    """A network whose small constants are tensors too, behind the others, and no longer in its graph."""
    if network.graph is None:
        return network
    from vvc_nnr.model.onnx_graph import without_constants

    graph, arrays = without_constants(network.graph, network.arrays)
    return replace(network, graph=graph, arrays=arrays)


def read_states(
    base: Path, new: Path, *, key: str | None = None, strip_prefix: str = ""
) -> tuple[NetworkArrays, NetworkArrays]:
    """Two states of a network from their files, as `states_of_update` gives them.

    Args:
        base: The file of the state before.
        new: That of the state after.
        key: As of `read_arrays`, in those of the two files that have keys.
        strip_prefix: Prefix that is taken off the names of those whose names begin with it.

    Raises:
        InputError: If a file cannot be read, an option fits neither, or the states do not fit together.
        BitstreamError, UnsupportedError: If one is damaged, or holds something that this package does not read.
    """
    paths = (base, new)
    takes_key = [kind_of_file(path) in _KEYED_KINDS for path in paths]
    keys = [key if takes or not any(takes_key) else None for takes in takes_key]
    networks = [read_arrays(path, key=own) for path, own in zip(paths, keys, strict=True)]
    begin = [any(name.startswith(strip_prefix) for name in network.arrays) for network in networks]
    stripped = []
    for path, network, begins in zip(paths, networks, begin, strict=True):
        with naming(path):
            stripped.append(without_prefix(network, strip_prefix if begins or not any(begin) else ""))
    with naming(new):
        return states_of_update(stripped[0], stripped[1])


def states_of_update(base: NetworkArrays, new: NetworkArrays) -> tuple[NetworkArrays, NetworkArrays]:
    """Two states of a network with all that an update can carry as tensors.

    What only a graph says is the same in both: a state without a graph has the base's small constants.

    Raises:
        InputError: If their graphs differ, which no update can carry.
        BitstreamError: If a graph is damaged.
    """
    whole, wanted = all_tensors(base), all_tensors(new)
    if whole.graph is not None and wanted.graph is not None:
        from vvc_nnr.model.onnx_graph import difference_of_graphs

        difference = difference_of_graphs(whole.graph, wanted.graph)
        if difference:
            raise InputError(
                f"the ONNX models differ in more than tensors ({difference}), which an update cannot carry: compress "
                "the new one anew"
            )
    elif whole.graph is not None:
        kept = {name: array for name, array in whole.arrays.items() if name not in base.arrays}
        wanted = replace(wanted, arrays={**kept, **wanted.arrays})
    return whole, wanted


def file_kind(data: bytes, path: Path | str) -> FileKind:
    """What a file is by its first bytes; by its name only if these do not tell.

    Args:
        data: The file, or its first `HEAD_BYTES`.
        path: Its name.

    Raises:
        BitstreamError: If it is not the file itself, but what Git LFS leaves in its place.
        UnsupportedError: If it is of a known kind that is not read.
    """
    kind = told_kind(data, path)
    if kind is None and data:
        check_name(path)
    return kind or _KIND_BY_SUFFIX.get(Path(path).suffix.lower(), "safetensors")


def told_kind(data: bytes, path: Path | str) -> FileKind | None:
    """As `file_kind`; None if the first bytes do not tell, nor the name of an ONNX model, which has no first bytes."""
    check_no_pointer(data)
    check_content(data)
    # First, since the length of its header may be the start of another kind: 640 is 80 02, of a pickle.
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") < _MAX_HEADER_BYTES:
        return "safetensors"
    for start, kind in _STARTS:
        if data.startswith(start) and not (kind == "torch" and is_of_paddle(path)):
            return kind
    if data.startswith(b"PK\x03\x04"):
        # Of a checkpoint the first record lies in a folder, data.pkl or a tensor; .npz has arrays only.
        name = data[_ZIP_NAME_AT : _ZIP_NAME_AT + int.from_bytes(data[26:28], "little")]
        return "hdf5" if name in _KERAS_MEMBERS else "npz" if name.endswith(b".npy") else "torch"
    suffix = Path(path).suffix.lower()
    if data.lstrip()[:1] == b"{" and suffix == ".json":
        return "index"
    is_onnx = data[:1] == _ONNX_START and suffix not in _KIND_BY_SUFFIX and may_be_onnx(data, path)
    return "onnx" if suffix == ONNX_SUFFIX or is_onnx else None


def kind_of_file(path: Path | str) -> FileKind:
    """What a file is; of a pipe or a device, which could not be read again, by its name.

    Raises:
        InputError: If it cannot be read.
        BitstreamError: If it is a pointer of Git LFS.
        UnsupportedError: If it is of a known kind that is not read.
    """
    if is_special(path):
        with naming(path):
            check_folder(path)
        return file_kind(b"", path)
    with open_input(path) as file, naming(path):
        return file_kind(file.read(HEAD_BYTES), path)


def check_coded(data: Buffer) -> None:
    """Raises BitstreamError if bytes that should be a coded stream are a file of another kind."""
    kind = told_kind(bytes(data[:HEAD_BYTES]), "")
    if kind not in (None, "nnc"):
        raise BitstreamError(f"is {_NAME_OF_KIND[kind]}, no coded stream ({NNC_SUFFIX})")


@contextmanager
def _telling_kinds(path: Path | str, data: bytes) -> Iterator[None]:
    """Says what is read, of a file that is no safetensors file, nor is called one."""
    try:
        yield
    except BitstreamError as error:
        if Path(path).suffix.lower() == SAFETENSORS_SUFFIX or not data:
            raise
        raise BitstreamError(
            f"no network file that is read: must be {', '.join(READ_KINDS)}; neither its first bytes nor its name tell "
            f"which ({error})"
        ) from error


def is_nnc(path: Path | str) -> bool:
    """Whether a name is that of a coded network."""
    return Path(path).suffix.lower() in NNC_SUFFIXES


def read_arrays(
    path: Path | str,
    *,
    key: str | None = None,
    strip_prefix: str = "",
    max_elements: int | None = None,
    n_threads: int | None = None,
) -> NetworkArrays:
    """The network in a file of any kind, told by its content.

    Kinds are .nnc, safetensors and an index of such shards, checkpoints of torch and an index of them, ONNX, .npz and
    .npy (one tensor, called as the file is without its suffix), and with their packages HDF5 and GGUF. Arrays of text
    are left out.

    Args:
        path: The file.
        key: Where in a checkpoint of torch the state dict is: keys joined by dots; None: where it usually is.
        strip_prefix: What is taken off the names that begin with it, such as "module.".
        max_elements: Most values that are decoded of a coded network.
        n_threads: Threads for decoding; None: one per processor.

    Raises:
        InputError: If the file cannot be read, an option is out of range, or a package for its kind is not installed.
        BitstreamError: If its content is damaged, or a coded network is larger than `max_elements`.
        UnsupportedError: If it holds something that this package does not read.
    """
    with naming(path):
        check_folder(path)
    data = read_bytes(path)
    with naming(path):
        kind = file_kind(data, path)
    if key is not None and kind not in _KEYED_KINDS:
        raise InputError(f"{path}: a key is for checkpoints of torch; this is {_NAME_OF_KIND[kind]}")
    with naming(path):
        if kind == "nnc":
            check_max_elements(max_elements)
            network = decoded_arrays(data, max_elements, thread_count(n_threads))
        elif kind == "index":
            network = _sharded(Path(path), data, key)
        else:
            network = _plain_network(path, data, kind, key)
        return without_prefix(network, strip_prefix)


def _plain_network(path: Path | str, data: bytes, kind: FileKind, key: str | None) -> NetworkArrays:
    """The network in a file that is not coded."""
    if kind == "torch":
        from vvc_nnr.model.torch_file import parse_checkpoint

        checkpoint = parse_checkpoint(data, key)
        return NetworkArrays(checkpoint.arrays, {}, checkpoint.n_bytes, left_out=checkpoint.left_out)
    if kind == "onnx":
        from vvc_nnr.model.onnx import parse_onnx
        from vvc_nnr.model.onnx_graph import graph_metadata

        model = parse_onnx(path, data)
        return NetworkArrays(model.arrays, graph_metadata(model.graph), model.n_bytes, model.graph, model.roles)
    if kind == "hdf5":
        from vvc_nnr.model.archives import hdf5_arrays

        arrays, left_out = hdf5_arrays(data)
        return NetworkArrays(arrays, {}, len(data), left_out=left_out)
    if kind == "gguf":
        from vvc_nnr.model.archives import gguf_arrays

        return NetworkArrays(gguf_arrays(path), {}, len(data))
    if kind in ("npz", "npy"):
        from vvc_nnr.model.archives import npy_array, npz_arrays

        arrays = npz_arrays(data) if kind == "npz" else {Path(path).stem: npy_array(data)}
        texts = tuple(name for name, array in arrays.items() if plain_array(array).dtype.kind == "U")
        numbers = {name: array for name, array in arrays.items() if name not in texts}
        return NetworkArrays(numbers, {}, len(data), left_out=texts)
    with _telling_kinds(path, data):
        tensors, metadata, n_bytes = parse_exact(data)
    return NetworkArrays(tensors, metadata, n_bytes)


def _sharded(path: Path, data: bytes, key: str | None) -> NetworkArrays:
    """The network that an index spreads over files beside it, in the order of the index.

    Raises:
        InputError: If one of them cannot be read.
        BitstreamError: If it is no index, or a file lacks a tensor that it names.
    """
    places = parse_json(data).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise BitstreamError('no index of shards: must have a "weight_map" of names to files')
    found: dict[str, NamedArrays] = {}
    left_out: list[str] = []
    n_bytes = len(data)
    for file in dict.fromkeys(places.values()):
        if Path(file).name != file or file in ("", ".", ".."):
            raise BitstreamError(f"the file {shown(repr(file))} is not beside the index", field="weight_map")
        shard = path.with_name(file)
        content = read_bytes(shard)
        with naming(shard):
            kind = file_kind(content, shard)
        if kind not in ("safetensors", "torch"):
            raise UnsupportedError(f"{shown(repr(file))} is {_NAME_OF_KIND[kind]}; must be safetensors or of torch")
        with naming(shard):
            network = _plain_network(shard, content, kind, key)
        found[file] = network.arrays
        left_out += [*network.left_out, *(f"{file}: {name}" for name in network.arrays if places.get(name) != file)]
        n_bytes += network.n_bytes
    missing = [name for name, file in places.items() if name not in found[file]]
    if missing:
        raise BitstreamError(f"{places[missing[0]]} has no tensor {shown(repr(missing[0]), 200)}", field="weight_map")
    arrays = {name: found[file][name] for name, file in places.items()}
    return NetworkArrays(arrays, {}, n_bytes, left_out=tuple(left_out))


def common_prefix(names: Iterable[str]) -> str:
    """The prefix that wrappers of torch gave all names, such as "module." or "_orig_mod."; "" if there is none."""
    known = list(names)
    found = ""
    while known:
        more = next((p for p in WRAPPER_PREFIXES if all(name.startswith(found + p) for name in known)), "")
        if not more:
            break
        found += more
    return found


def without_prefix(network: NetworkArrays, prefix: str) -> NetworkArrays:
    """A network with a prefix taken off the names that begin with it; "": as it is.

    Raises:
        InputError: If none does, or two tensors would have one name; if its graph knows the names.
    """
    if not prefix:
        return network
    if network.graph is not None:
        raise InputError("a prefix of names cannot be taken off: the graph of an ONNX model knows them")
    names = {name: name.removeprefix(prefix) for name in network.arrays}
    if all(name == short for name, short in names.items()):
        first = next(iter(names), None)
        raise InputError(f"no name begins with the prefix {prefix!r}; the first is {first!r}")
    if len(set(names.values())) < len(names):
        raise InputError(f"two tensors would have one name without the prefix {prefix!r}")
    return replace(network, arrays={names[name]: array for name, array in network.arrays.items()})


def decoded_arrays(data: Buffer, max_elements: int | None, n_threads: int) -> NetworkArrays:
    """The network in the bytes of a coded file; raises as `read_arrays` does for its content."""
    stream = read_stream(data)
    arrays = with_ties(decode_network(stream, max_elements, n_threads), stream.ties)
    metadata = dict(stream.manifest.metadata) if stream.manifest else {}
    network = NetworkArrays(_in_formats(arrays, stream.formats), metadata, len(data), stream.graph)
    if network.graph is None:
        return network
    from vvc_nnr.model.onnx_graph import graph_metadata, graph_roles

    roles = graph_roles(network.graph, network.arrays)
    return replace(network, roles=roles, metadata=graph_metadata(network.graph) | metadata)


def stored_metadata(path: Path | str) -> dict[str, str]:
    """The metadata of a coded or safetensors file, read without decoding its tensors; none of other kinds, or pipes.

    Raises:
        InputError: If it cannot be read.
        BitstreamError, UnsupportedError: If the file is damaged or of a later version.
    """
    if is_special(path) or not (is_nnc(path) or kind_of_file(path) == "safetensors"):
        return {}
    with naming(path):
        data = read_bytes(path)
        if not is_nnc(path):
            with _telling_kinds(path, data):
                return parse_container(data)[1]
        manifest = read_stream(data).manifest
        return dict(manifest.metadata) if manifest else {}


def onnx_network(model: Any) -> NetworkArrays:
    """The network of an ONNX `ModelProto`, which is not changed.

    Raises:
        InputError: If values of it are in other files.
        BitstreamError: If a constant is damaged.
        UnsupportedError: If two constants of a graph have one name, or those that stay in the graph are beyond 2 GiB.
    """
    from vvc_nnr.model.onnx import take_apart
    from vvc_nnr.model.onnx_graph import graph_metadata
    from vvc_nnr.model.onnx_proto import check_all_is_there

    check_all_is_there(model)
    copy = type(model)()
    copy.CopyFrom(model)
    found = take_apart(copy, model.ByteSize())
    return NetworkArrays(found.arrays, graph_metadata(found.graph), found.n_bytes, found.graph, found.roles)


def write_arrays(path: Path | str, network: NetworkArrays) -> int:
    """Writes a network as safetensors, torch checkpoint or ONNX model, by the file's name; returns its size in bytes.

    Raises:
        InputError: If there is no such kind, it lacks a number format or the network its graph, or a package is not
            installed, or the file cannot be written.
        UnsupportedError: If weights are in the graph, and the kind has none.
    """
    check_plain_suffix(path)
    suffix = Path(path).suffix.lower()
    if suffix != ONNX_SUFFIX:
        network = _without_graph(path, network)
    if suffix in TORCH_SUFFIXES:
        from vvc_nnr.model.torch_file import write_checkpoint

        return write_checkpoint(path, network.arrays)
    if suffix == ONNX_SUFFIX:
        from vvc_nnr.model.onnx import write_onnx
        from vvc_nnr.model.onnx_graph import with_metadata

        if network.graph is None:
            raise InputError(f"{path}: the network has no graph, only tensors: write .safetensors or .pt")
        return write_onnx(path, with_metadata(network.graph, network.metadata), network.arrays)
    return write_exact(path, network.arrays, network.metadata)


def check_plain_suffix(path: Path | str) -> None:
    """Raises InputError unless a network that is not coded can be written under that name, or it is a device."""
    if Path(path).suffix.lower() not in PLAIN_SUFFIXES and not is_special(path):
        raise InputError(
            f"{path}: a network that is not coded is a {', '.join(PLAIN_SUFFIXES[:-1])} or {PLAIN_SUFFIXES[-1]} file; "
            "change the name"
        )


def is_special(path: Path | str) -> bool:
    """Whether it is no file, but a device, a pipe or a folder, whose name tells nothing."""
    return is_stream(path) or os.path.isdir(path)


def with_folded_norms(network: NetworkArrays) -> NetworkArrays:
    """A network with its batch norms folded into the layers before them, as its graph tells.

    Raises:
        InputError: If it has no graph, or no norm can be folded.
        BitstreamError: If its tensors do not fit the graph, or a norm not its layer.
    """
    if network.graph is None:
        raise InputError(
            "batch norms cannot be folded: tensors alone do not tell which layer a norm follows; "
            "an .onnx file does, or in Python vvc_nnr.fold_batch_norms(module)"
        )
    from vvc_nnr.model.onnx_norms import fold_arrays

    folded = fold_arrays(network.graph, network.arrays, network.n_bytes)
    return replace(network, arrays=folded.arrays, graph=folded.graph, roles=folded.roles)


def plain_bytes(arrays: NamedArrays) -> int:
    """Bytes of all values in their number formats, tied tensors once."""
    sizes = {id(array): itemsize_of(array) * math.prod(shape_of(array)) for array in arrays.values()}
    return sum(sizes.values())


def _in_formats(arrays: Mapping[str, Array], formats: Mapping[str, str]) -> NamedArrays:
    """The arrays with those that were bfloat16 or float8 as such again; tied ones stay one array."""
    found = {id(array): in_format(array, formats.get(name, "")) for name, array in arrays.items()}
    return {name: found[id(array)] for name, array in arrays.items()}


def read_network_file(path: Path | str, *, key: str | None = None, strip_prefix: str = "") -> StoredNetwork:
    """The network in a file of any kind as float32, with the metadata that it was stored with.

    Args:
        path: The file.
        key: As for `read_arrays`.
        strip_prefix: As for `read_arrays`.

    Raises:
        InputError: If the file cannot be read, or a package for its kind is not installed.
        BitstreamError: If its content is damaged, or a coded network is too large.
        UnsupportedError: If it holds something that this package does not read, a value beyond float32, or weights in
            the graph of an ONNX model.
    """
    if key is None and not strip_prefix and kind_of_file(path) == "safetensors":
        data = read_bytes(path)
        with naming(path), _telling_kinds(path, data):
            return parse_network(data)
    return stored_network(read_arrays(path, key=key, strip_prefix=strip_prefix), path)


def stored_network(network: NetworkArrays, where: Path | str) -> StoredNetwork:
    """A network as a torch module takes it: float32, with the metadata stored with it.

    Args:
        network: What a file holds.
        where: How errors name the file.

    Raises:
        UnsupportedError: If it holds a value beyond float32, or weights in the graph of an ONNX model.
    """
    network = _without_graph(where, network)
    with naming(where):
        tensors = {name: _stored(name, array) for name, array in network.arrays.items()}
    return StoredNetwork(tensors, network.metadata, None, None, network.n_bytes, network.left_out)


def _without_graph(path: Path | str, network: NetworkArrays) -> NetworkArrays:
    """A network with the constants that its graph has kept among its tensors.

    Raises:
        UnsupportedError: If it is not all there without its graph.
    """
    if network.graph is None:
        return network
    from vvc_nnr.model.onnx_graph import graph_constants

    with naming(path):
        kept = graph_constants(network.graph, network.arrays)
    return replace(network, arrays=network.arrays | kept, graph=None)


def lost_with_graph(graph: bytes) -> str:
    """What is not kept of an ONNX model where its tensors are written without its graph, as a note tells it.

    Args:
        graph: The model without the tensors that left it, serialised.
    """
    from vvc_nnr.model.onnx_graph import text_constants

    names = text_constants(graph)
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    texts = f" and its constants of text ({shown_name(names[0])}{more})" if names else ""
    are = "are" if names else "is"
    return (
        f"the graph of the ONNX model{texts} {are} not kept, so that no .onnx can be made of it; {NNC_SUFFIX} keeps all"
    )


def _stored(name: str, array: Array | FloatBits) -> Tensor:
    plain = exact_float32(array) if isinstance(array, FloatBits) else array
    assert plain is not None  # every bfloat16 and float8 is a float32
    return as_stored_float(name, plain, UnsupportedError) if plain.dtype.kind == "f" else plain
