"""Networks from files of all kinds with nothing lost: number formats, shapes, order, and roles where the kind has them.

The file's name tells the kind: coded (.nnc), torch (.pt, .pth), ONNX, all others safetensors.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from vvc_nnr.bitstream.manifest import with_ties
from vvc_nnr.bitstream.number_formats import (
    Array,
    Bfloat16Bits,
    NamedArrays,
    bfloat16_bits,
    exact_float32,
    itemsize_of,
    shape_of,
)
from vvc_nnr.bitstream.stream import Stream, read_stream
from vvc_nnr.coding.decoder import decode_network
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.files import is_stream, naming, read_bytes
from vvc_nnr.model.container import Tensor
from vvc_nnr.model.safetensors import StoredNetwork, as_stored_float, read_exact, read_network, write_exact
from vvc_nnr.options import DEFAULT_MAX_ELEMENTS, check_max_elements, thread_count
from vvc_nnr.roles.roles import TensorRole

NNC_SUFFIX = ".nnc"
NNC_SUFFIXES = (NNC_SUFFIX, ".nnr")
"""The second is that of the files that VTM's decoder writes of the networks in a stream."""
TORCH_SUFFIXES = (".pt", ".pth")
ONNX_SUFFIX = ".onnx"
SAFETENSORS_SUFFIX = ".safetensors"
PLAIN_SUFFIXES = (SAFETENSORS_SUFFIX, *TORCH_SUFFIXES, ONNX_SUFFIX)


@dataclass(frozen=True, slots=True, eq=False)
class NetworkArrays:
    """A network as a file gives it.

    Attributes:
        arrays: Its tensors in their number formats, by name and in order.
        metadata: Texts that were stored with it.
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


@contextmanager
def telling_suffixes(path: Path | str) -> Iterator[None]:
    """Says that the suffix chose the reader of a file that is no safetensors file, nor is called one."""
    try:
        yield
    except BitstreamError as error:
        suffix = Path(path).suffix
        if suffix.lower() == SAFETENSORS_SUFFIX:
            raise
        others = f"{', '.join((*TORCH_SUFFIXES, ONNX_SUFFIX))} or {NNC_SUFFIX}"
        raise BitstreamError(
            f"{error}; the suffix decides, and {suffix!r} is read as {SAFETENSORS_SUFFIX}: "
            f"rename the file if it is {others}"
        ) from error


def is_nnc(path: Path | str) -> bool:
    """Whether a file holds a coded network, by its name."""
    return Path(path).suffix.lower() in NNC_SUFFIXES


def read_arrays(
    path: Path | str, *, max_elements: int = DEFAULT_MAX_ELEMENTS, n_threads: int | None = None
) -> NetworkArrays:
    """The network in a file of any kind.

    Args:
        path: The file.
        max_elements: Most values that are decoded of a coded network.
        n_threads: Threads for decoding; None: one per processor.

    Raises:
        InputError: If the file cannot be read, an option is out of range, or a package for its kind is not installed.
        BitstreamError: If its content is damaged, or a coded network is larger than `max_elements`.
        UnsupportedError: If it holds something that this package does not read.
    """
    suffix = Path(path).suffix.lower()
    if is_nnc(path):
        check_max_elements(max_elements)
        threads = thread_count(n_threads)
        data = read_bytes(path)
        with naming(path):
            return decoded_arrays(data, max_elements, threads)
    if suffix in TORCH_SUFFIXES:
        from vvc_nnr.model.torch_file import read_checkpoint

        checkpoint = read_checkpoint(path)
        return NetworkArrays(checkpoint.arrays, {}, checkpoint.n_bytes, left_out=checkpoint.left_out)
    if suffix == ONNX_SUFFIX:
        from vvc_nnr.model.onnx import read_onnx

        model = read_onnx(path)
        return NetworkArrays(model.arrays, {}, model.n_bytes, model.graph, model.roles)
    with telling_suffixes(path):
        tensors, metadata, n_bytes = read_exact(path)
    return NetworkArrays(tensors, metadata, n_bytes)


def decoded_arrays(data: bytes, max_elements: int, n_threads: int) -> NetworkArrays:
    """The network in the bytes of a coded file; raises as `read_arrays` does for its content."""
    stream = read_stream(data)
    arrays = with_ties(decode_network(stream.tensors, max_elements, n_threads), stream.ties)
    metadata = dict(stream.manifest.metadata) if stream.manifest else {}
    network = NetworkArrays(_with_bfloat16(arrays, stream), metadata, len(data), stream.graph)
    if network.graph is None:
        return network
    from vvc_nnr.model.onnx import graph_roles

    return replace(network, roles=graph_roles(network.graph, network.arrays))


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
        _check_without_graph(path, network)
    if suffix in TORCH_SUFFIXES:
        from vvc_nnr.model.torch_file import write_checkpoint

        return write_checkpoint(path, network.arrays)
    if suffix == ONNX_SUFFIX:
        from vvc_nnr.model.onnx import write_onnx

        if network.graph is None:
            raise InputError(f"{path}: the network has no graph, only tensors: write .safetensors or .pt")
        return write_onnx(path, network.graph, network.arrays)
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
    from vvc_nnr.folding.onnx_norms import fold_arrays

    folded = fold_arrays(network.graph, network.arrays, network.n_bytes)
    return replace(network, arrays=folded.arrays, graph=folded.graph, roles=folded.roles)


def plain_bytes(arrays: NamedArrays) -> int:
    """Bytes of all values in their number formats, tied tensors once."""
    sizes = {id(array): itemsize_of(array) * math.prod(shape_of(array)) for array in arrays.values()}
    return sum(sizes.values())


def _with_bfloat16(arrays: Mapping[str, Array], stream: Stream) -> NamedArrays:
    """The arrays with those that were bfloat16 as such again; tied ones stay one array."""
    formats = stream.formats
    narrow = {id(a): Bfloat16Bits(bfloat16_bits(a)) for name, a in arrays.items() if formats.get(name) == "bfloat16"}
    return {name: narrow.get(id(array), array) for name, array in arrays.items()}


OTHER_SUFFIXES = (*NNC_SUFFIXES, *TORCH_SUFFIXES, ONNX_SUFFIX)
"""Of files that are no safetensors files and hold no levels of the uniform quantiser."""


def read_network_file(path: Path | str) -> StoredNetwork:
    """The network in a file of any kind as a torch module takes it: float32, with the metadata stored with it.

    Raises:
        InputError: If the file cannot be read, or a package for its kind is not installed.
        BitstreamError: If its content is damaged.
        UnsupportedError: If it holds something that this package does not read, a value beyond float32, or weights in
            the graph of an ONNX model.
    """
    if Path(path).suffix.lower() not in OTHER_SUFFIXES:
        with telling_suffixes(path):
            return read_network(path)
    return stored_network(read_arrays(path), path)


def stored_network(network: NetworkArrays, where: Path | str) -> StoredNetwork:
    """A network as a torch module takes it: float32, with the metadata stored with it.

    Args:
        network: What a file holds.
        where: How errors name the file.

    Raises:
        UnsupportedError: If it holds a value beyond float32, or weights in the graph of an ONNX model.
    """
    _check_without_graph(where, network)
    with naming(where):
        tensors = {name: _stored(name, array) for name, array in network.arrays.items()}
    return StoredNetwork(tensors, network.metadata, None, None, network.n_bytes, network.left_out)


def _check_without_graph(path: Path | str, network: NetworkArrays) -> None:
    """Raises UnsupportedError if the network is not all there without its graph."""
    if network.graph is None:
        return
    from vvc_nnr.model.onnx import check_only_tensors_matter

    with naming(path):
        check_only_tensors_matter(network.graph)


def _stored(name: str, array: Array | Bfloat16Bits) -> Tensor:
    plain = exact_float32(array) if isinstance(array, Bfloat16Bits) else array
    assert plain is not None  # every bfloat16 is a float32
    return as_stored_float(name, plain, UnsupportedError) if plain.dtype.kind == "f" else plain
