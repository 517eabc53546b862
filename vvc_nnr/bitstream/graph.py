"""The graph of a network in its stream: an ONNX model without its tensors, in the topology unit.

By default the unit stays of unknown format, and the graph is in its text, in front of the manifest: made shorter, then
seven bits a character (`as_text` in `packing.py`). So the reference software, which passes over that text, decodes the
tensors.

By the standard the unit has storage format 2 and holds the ONNX model itself (protobuf), deflated; the manifest follows
it. The reference software refuses that format. Older files have the model as it is, with the manifest as the last entry
of its metadata, or deflated and as base64 in the manifest; they are read.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from vvc_nnr.bitstream.packing import Packing, as_text, from_text, packed, unpacked
from vvc_nnr.bitstream.units import TopologyUnit
from vvc_nnr.errors import BitstreamError, UnsupportedError

GraphCarriage = Literal["manifest", "onnx"]
ONNX_FORMAT = 2
DEFLATE = 1
# Of which the unit holds a text: unknown, PyTorch, TensorFlow.
_TEXT_FORMATS = (0, 3, 4)
# Key of the manifest among an ONNX model's metadata, in older files.
MANIFEST_KEY = "vvc_nnr"
# Of a graph, unless it has no more than so many times the bytes that it takes in the stream.
MAX_GRAPH_BYTES = 1 << 28
MAX_INFLATION = 64
_FIELD = "topology_data"


@dataclass(frozen=True)
class Graph:
    """An ONNX model whose tensors are coded beside it.

    Args:
        model: The serialised model.
        carriage: "manifest": so that the reference software decodes the tensors; "onnx": by the standard.
    """

    model: bytes
    carriage: GraphCarriage = "manifest"

    @cached_property
    def shorter(self) -> tuple[bytes, Packing]:
        """The model made shorter, once for all streams that it is tried in, and how: LZMA takes its time."""
        return (zlib.compress(self.model, 9), "deflate") if self.carriage == "onnx" else packed(self.model)


@dataclass(frozen=True, slots=True)
class PackedGraph:
    """A graph in front of the manifest.

    Args:
        packing: How it was made shorter.
        n_bytes: Its bytes as it was.
    """

    packing: Packing
    n_bytes: int


def pack_graph(graph: Graph | None) -> tuple[bytes, PackedGraph | None]:
    """What stands in front of the manifest, and what the manifest says of it; nothing by the standard's way.

    Raises:
        UnsupportedError: If a reader would refuse it for its size.
    """
    if graph is None:
        return b"", None
    shorter, packing = graph.shorter
    _check_written(len(graph.model), len(shorter))
    if graph.carriage == "onnx":
        return shorter, None
    return as_text(shorter), PackedGraph(packing, len(graph.model))


def unpack_graph(text: bytes, told: PackedGraph) -> bytes:
    """The inverse of `pack_graph` by the manifest's way.

    Raises:
        BitstreamError: If it is damaged, or too large for what it takes.
    """
    shorter = from_text(text, _FIELD)
    if _is_too_large(told.n_bytes, len(shorter)):
        raise BitstreamError(_too_large(told.n_bytes, len(shorter)), field=_FIELD)
    return unpacked(shorter, told.packing, told.n_bytes, _FIELD)


def topology_unit(text: bytes, graph: Graph | None) -> TopologyUnit:
    """The topology unit of a text: what `pack_graph` gave, and the manifest."""
    if graph is None or graph.carriage == "manifest":
        return TopologyUnit(topology_data=text)
    return TopologyUnit(ONNX_FORMAT, DEFLATE, text)


def graph_of_text(text: str) -> bytes:
    """The graph that older files have as base64 text.

    Raises:
        BitstreamError: If it is none.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise BitstreamError("the graph is no base64 text", field="the manifest") from None
    return _inflated(data)


def graph_of_unit(unit: TopologyUnit) -> bytes | None:
    """The ONNX model in a topology unit, in older files with the manifest among its metadata; None if it holds none.

    Raises:
        BitstreamError: If it does not inflate.
    """
    if unit.topology_storage_format != ONNX_FORMAT:
        return None
    is_deflated = unit.topology_compression_format == DEFLATE
    return _inflated(unit.topology_data) if is_deflated else unit.topology_data


def check_end(unit: TopologyUnit) -> None:
    """Checks that what a topology unit without a manifest holds ends where the unit does.

    Raises:
        BitstreamError: If bytes follow, as those of a damaged manifest, or a deflated graph is damaged.
    """
    is_deflated, text = unit.topology_compression_format == DEFLATE, unit.topology_data
    goes_on = unit.topology_storage_format in _TEXT_FORMATS and not is_deflated and b"\0" in text[:-1]
    if unit.topology_storage_format == ONNX_FORMAT and is_deflated:
        inflate = zlib.decompressobj()
        _inflated(text, inflate)
        goes_on = bool(inflate.unused_data)
    if goes_on:
        raise BitstreamError("bytes follow its end, where a damaged manifest may be", field=_FIELD)


def without_manifest(model: bytes, start: int) -> bytes:
    """The ONNX model of an older file without the manifest that is the last entry of its metadata.

    Args:
        model: The serialised model.
        start: Where the manifest begins in it.
    """
    text = _varint(len(model) - start)
    key = MANIFEST_KEY.encode()
    # A StringStringEntryProto: key, field number 1, and value, 2; in a ModelProto it is field number 14.
    head = b"\x0a" + _varint(len(key)) + key + b"\x12" + text
    head = b"\x72" + _varint(len(head) + len(model) - start) + head
    return model[: start - len(head)] if model[:start].endswith(head) else model


def _varint(value: int) -> bytes:
    """A number as protocol buffers store it."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _inflated(data: bytes, inflate: zlib._Decompress | None = None) -> bytes:
    inflate, limit = inflate or zlib.decompressobj(), max(MAX_GRAPH_BYTES, MAX_INFLATION * len(data))
    try:
        found = inflate.decompress(data, limit)
    except zlib.error:
        raise BitstreamError("the graph does not inflate", field=_FIELD) from None
    if not inflate.eof:
        raise BitstreamError(f"the graph is cut off or beyond {limit} bytes", field=_FIELD)
    return found


def _check_written(n_bytes: int, n_shorter: int) -> None:
    if _is_too_large(n_bytes, n_shorter):
        raise UnsupportedError(f"{_too_large(n_bytes, n_shorter)}: make its constants tensors of a main graph")


def _is_too_large(n_bytes: int, n_shorter: int) -> bool:
    return n_bytes > max(MAX_GRAPH_BYTES, MAX_INFLATION * n_shorter)


def _too_large(n_bytes: int, n_shorter: int) -> str:
    most = max(MAX_GRAPH_BYTES, MAX_INFLATION * n_shorter)
    return f"the graph has {n_bytes} bytes without its tensors; {most} are the most where it takes {n_shorter}"
