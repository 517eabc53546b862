"""Networks from files of all kinds as tensors to compute with: floats as float32, and how a file was quantised."""

from __future__ import annotations

from pathlib import Path

from vvc_nnr.bitstream.number_formats import Array, Bfloat16Bits, exact_float32
from vvc_nnr.errors import UnsupportedError
from vvc_nnr.files import naming
from vvc_nnr.model.any_file import NNC_SUFFIX, ONNX_SUFFIX, TORCH_SUFFIXES, read_arrays, telling_suffixes
from vvc_nnr.model.container import Tensor
from vvc_nnr.model.safetensors import StoredNetwork, as_stored_float, read_network
from vvc_nnr.options import DEFAULT_MAX_ELEMENTS

OTHER_SUFFIXES = (NNC_SUFFIX, *TORCH_SUFFIXES, ONNX_SUFFIX)
"""Of files that are no safetensors files and hold no levels of the uniform quantiser."""


def read_network_file(
    path: Path | str, *, max_elements: int = DEFAULT_MAX_ELEMENTS, n_threads: int | None = None
) -> StoredNetwork:
    """The network in a file of any kind, with the metadata that it was stored with.

    Args:
        path: The file.
        max_elements: Most values that are decoded of a coded network.
        n_threads: Threads for decoding; None: one per processor.

    Raises:
        InputError: If the file cannot be read, an option is out of range, or a package for its kind is not installed.
        BitstreamError: If its content is damaged, or a coded network is larger than `max_elements`.
        UnsupportedError: If it holds something that this package does not read, or a value beyond float32.
    """
    if Path(path).suffix.lower() not in OTHER_SUFFIXES:
        with telling_suffixes(path):
            return read_network(path)
    network = read_arrays(path, max_elements=max_elements, n_threads=n_threads)
    with naming(path):
        tensors = {name: _stored(name, array) for name, array in network.arrays.items()}
    return StoredNetwork(tensors, network.metadata, None, None, network.n_bytes, network.left_out)


def _stored(name: str, array: Array | Bfloat16Bits) -> Tensor:
    plain = exact_float32(array) if isinstance(array, Bfloat16Bits) else array
    assert plain is not None  # every bfloat16 is a float32
    return as_stored_float(name, plain, UnsupportedError) if plain.dtype.kind == "f" else plain
