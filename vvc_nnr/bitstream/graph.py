"""The graph of a network in its stream: an ONNX model without its tensors, in the topology unit.

By the standard the unit has storage format 2 and holds the ONNX model itself (protobuf); the manifest is then an entry
of the model's metadata, the last one, so that its text still ends the unit. The reference software refuses that format.
The other way its decoder works: the unit stays of unknown format, and the graph is in the manifest, deflated and as
base64 text.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import Literal

from vvc_nnr.bitstream.units import TopologyUnit
from vvc_nnr.errors import BitstreamError

GraphCarriage = Literal["onnx", "manifest"]
ONNX_FORMAT = 2
DEFLATE = 1
MANIFEST_KEY = "vvc_nnr"
# Of an inflated graph.
MAX_GRAPH_BYTES = 1 << 28
# ModelProto.metadata_props, StringStringEntryProto.key and .value: field numbers 14, 1 and 2, all length-delimited.
_METADATA_TAG, _KEY_TAG, _VALUE_TAG = b"\x72", b"\x0a", b"\x12"


@dataclass(frozen=True, slots=True)
class Graph:
    """An ONNX model whose tensors are coded beside it.

    Args:
        model: The serialised model.
        carriage: "onnx": by the standard; "manifest": so that the reference software decodes the tensors.
    """

    model: bytes
    carriage: GraphCarriage = "onnx"


def topology_unit(manifest: bytes, graph: Graph | None) -> TopologyUnit:
    """The topology unit that ends with a manifest's text, and has the graph in front if that is the standard's way."""
    if graph is None or graph.carriage == "manifest":
        return TopologyUnit(topology_data=manifest)
    return TopologyUnit(topology_storage_format=ONNX_FORMAT, topology_data=graph.model + _metadata_entry(manifest))


def graph_text(graph: Graph | None) -> str:
    """The graph as the manifest has it, "" if it is not there."""
    return "" if graph is None or graph.carriage == "onnx" else base64.b64encode(zlib.compress(graph.model, 9)).decode()


def graph_of_text(text: str) -> bytes:
    """The inverse of `graph_text`.

    Raises:
        BitstreamError: If it is none.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise BitstreamError("the graph is no base64 text", field="the manifest") from None
    return _inflated(data)


def graph_of_unit(unit: TopologyUnit) -> bytes | None:
    """The ONNX model in a topology unit, its manifest still among its metadata; None if it holds none.

    Raises:
        BitstreamError: If it does not inflate.
    """
    if unit.topology_storage_format != ONNX_FORMAT:
        return None
    is_deflated = unit.topology_compression_format == DEFLATE
    return _inflated(unit.topology_data) if is_deflated else unit.topology_data


def _inflated(data: bytes) -> bytes:
    inflate = zlib.decompressobj()
    try:
        found = inflate.decompress(data, MAX_GRAPH_BYTES)
    except zlib.error:
        raise BitstreamError("the graph does not inflate", field="topology_data") from None
    if not inflate.eof:
        raise BitstreamError(f"the graph is cut off or beyond {MAX_GRAPH_BYTES} bytes", field="topology_data")
    return found


def _metadata_entry(text: bytes) -> bytes:
    """An entry of an ONNX model's metadata with the text as its value, at its very end."""
    entry = _field(_KEY_TAG, MANIFEST_KEY.encode()) + _field(_VALUE_TAG, text)
    return _field(_METADATA_TAG, entry)


def _field(tag: bytes, content: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    return tag + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])
