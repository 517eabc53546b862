"""Networks from files of both kinds: safetensors, and coded (.nnc). The file's name tells them apart."""

from __future__ import annotations

from pathlib import Path

from vvc_nnr.errors import UnsupportedError
from vvc_nnr.files import naming, read_bytes
from vvc_nnr.model.safetensors import StoredNetwork, as_stored_float, read_network
from vvc_nnr.network_decoder import decode_network
from vvc_nnr.options import DEFAULT_MAX_ELEMENTS, check_max_elements, thread_count
from vvc_nnr.stream import read_stream
from vvc_nnr.ties import with_ties

NNC_SUFFIX = ".nnc"


def is_nnc(path: Path | str) -> bool:
    """Whether a file holds a coded network, by its name."""
    return Path(path).suffix.lower() == NNC_SUFFIX


def read_network_file(
    path: Path | str, *, max_elements: int = DEFAULT_MAX_ELEMENTS, n_threads: int | None = None
) -> StoredNetwork:
    """The network in a safetensors file or a coded one, with the metadata that it was stored with.

    Args:
        path: The file.
        max_elements: Most values that are decoded of a coded network.
        n_threads: Threads for decoding; None: one per processor.

    Raises:
        InputError: If the file cannot be read, or an option is out of range.
        BitstreamError: If its content is damaged, or a coded network is larger than `max_elements`.
        UnsupportedError: If it holds something that this package does not read.
    """
    if not is_nnc(path):
        return read_network(path)
    check_max_elements(max_elements)
    threads = thread_count(n_threads)
    data = read_bytes(path)
    with naming(path):
        return parse_nnc(data, max_elements, threads)


def parse_nnc(data: bytes, max_elements: int, n_threads: int) -> StoredNetwork:
    """The network in the bytes of a coded file; raises as `read_network_file` does for its content."""
    stream = read_stream(data)
    arrays = with_ties(decode_network(stream.tensors, max_elements, n_threads), stream.ties)
    tensors = {
        name: as_stored_float(name, array, UnsupportedError) if array.dtype.kind == "f" else array
        for name, array in arrays.items()
    }
    metadata = dict(stream.manifest.metadata) if stream.manifest else {}
    return StoredNetwork(tensors, metadata, None, None, len(data))
