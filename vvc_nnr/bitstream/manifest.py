"""The manifest: what this package adds to a stream so that damage is noticed and tensors come back as they were.

It is text in the topology unit, whose content other decoders pass over: compact JSON,

    {"vvc_nnr":2,"units":3,"formats":{"float16":[0,2]},"shapes":{"1":[]},"wide":[2],"metadata":{"architecture":"..."},
     "tied":[[7,"head.weight","embedding.weight"]],"base":"...","sha256":"..."}

    vvc_nnr   version of the manifest: 1, or 2 if it has one of the keys graph and raw; 3 in short streams
    units     number of data units in the stream; not in version 3, whose checksum tells
    formats   number format to runs of tensors: first, count, first, count, ...; the others are int32 or float32
    shapes    tensor to its shape, where that is not the coded one
    wide      tensors that take two data units, low and high halves
    metadata  what the sender says of the network, texts by name
    tied      tensors that are not coded since another one is the same: place among all, name, name of the coded one
    graph     how an ONNX model without its tensors was made shorter ("deflate", "lzma"), and its bytes; it stands in
              front of the manifest
    raw       tensors that have bytes in the raw unit, which is the last data unit, in order: place, kind, bytes
    onnx      in older files: that model, deflated, as base64 text
    base      SHA-256 of the state that an update is for, its first 32 digits
    sha256    SHA-256 of the whole stream without these 32 digits, its first 32 digits; in version 3, 8 of them

Tensors are counted from 0 in the order of their data units. All but the first two and the last may be absent.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from vvc_nnr.bitstream.data_unit_syntax import MAX_N_DIMENSIONS
from vvc_nnr.bitstream.graph import PackedGraph
from vvc_nnr.bitstream.number_formats import NUMBER_FORMATS, Array, Bfloat16Bits, NamedArrays
from vvc_nnr.bitstream.packing import Packing
from vvc_nnr.errors import BitstreamError, UnsupportedError, shown
from vvc_nnr.json_text import parse_json


@dataclass(frozen=True, slots=True)
class Tie:
    """A tensor that another one stands for.

    Args:
        place: Where it comes among all tensors, from 0.
        name: Its name.
        source: The name of the tensor that is coded.
    """

    place: int
    name: str
    source: str


def find_ties(arrays: NamedArrays) -> tuple[Tie, ...]:
    """The tensors that share memory, shape and number format with an earlier one, in order."""
    first: dict[object, str] = {}
    ties: list[Tie] = []
    for place, (name, array) in enumerate(arrays.items()):
        plain = array.bits if isinstance(array, Bfloat16Bits) else array
        if not plain.size:
            continue
        key = (plain.__array_interface__["data"][0], plain.shape, plain.strides, plain.dtype, type(array))
        source = first.setdefault(key, name)
        if source != name:
            ties.append(Tie(place, name, source))
    return tuple(ties)


def with_ties(arrays: Mapping[str, Array], ties: tuple[Tie, ...]) -> dict[str, Array]:
    """All tensors in their order, tied ones among them.

    Raises:
        BitstreamError: If a tie has no source, or a name or place that another tensor has.
    """
    if not ties:
        return dict(arrays)
    order = list(arrays.items())
    for tie in ties:
        if tie.source not in arrays or tie.name in arrays or tie.place > len(order):
            raise BitstreamError(f"tensor {tie.name!r} cannot be tied to {tie.source!r}", field="the manifest")
        order.insert(tie.place, (tie.name, arrays[tie.source]))
    if len(dict(order)) != len(order):
        raise BitstreamError("two tensors have one name", field="the manifest")
    return dict(order)


MANIFEST_VERSIONS = (1, 2, 3)
SHORT_VERSION = 3
# Product of the dimensions of an empty array, zeros left out: what numpy can address.
MAX_EMPTY_VOLUME = 1 << 56
# Of the checksum; of a short stream so many, as a CRC-32 has.
DIGEST_DIGITS, SHORT_DIGEST_DIGITS = 32, 8
_BEGIN = b'{"vvc_nnr":'
_DIGEST_KEY = b'"sha256":"'
_END = b'"}\0'
_HEX = frozenset(b"0123456789abcdef")


RawKind = Literal["split", "palette", "bytes", "lzma", "outliers"]
"""What the bytes of a tensor in the raw unit are (`vvc_nnr.coding.exact_forms`)."""


@dataclass(frozen=True, slots=True)
class RawPart:
    """Bytes of a tensor in the raw unit.

    Args:
        place: Of the tensor.
        kind: What they are.
        n_bytes: How many.
    """

    place: int
    kind: RawKind
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of a manifest but for the checksum.

    Args:
        n_units: Number of data units.
        formats: Tensor to number format, where it is not what the data unit says.
        shapes: Tensor to shape, where it is not the coded one.
        wide: Tensors of two data units.
        base: Digest of the state that an update is for, "" if the stream is no update.
        metadata: What the sender says of the network.
        ties: Tensors that another one stands for.
        graph: The network's graph in front of the manifest, None if it is not there.
        raw: Tensors with bytes in the raw unit, in the order of these.
        old_graph: The graph as text of an older file, "" if it is not here.
    """

    n_units: int
    formats: Mapping[int, str] = field(default_factory=dict)
    shapes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    wide: frozenset[int] = frozenset()
    base: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    ties: tuple[Tie, ...] = ()
    graph: PackedGraph | None = None
    raw: tuple[RawPart, ...] = ()
    old_graph: str = ""


def is_manifest(data: bytes | memoryview) -> bool:
    """Whether the body of a unit is a manifest, or was one before it was damaged."""
    head, tail = bytes(data[:256]), bytes(data[-len(_END) - DIGEST_DIGITS - len(_DIGEST_KEY) :])
    return _BEGIN in head or _DIGEST_KEY in tail


def start_of_manifest(text: bytes) -> int:
    """Where the manifest starts in the text of a topology unit; -1 if it does not."""
    return text.rfind(_BEGIN)


def write_manifest(manifest: Manifest, *, is_short: bool = False) -> tuple[bytes, int, int]:
    """The text with its terminating zero and zeros for the checksum; where in it that starts, and its digits.

    Args:
        manifest: What it says.
        is_short: Of a short stream: version 3.
    """
    version = SHORT_VERSION if is_short else MANIFEST_VERSIONS[bool(manifest.graph or manifest.raw)]
    n_digits = SHORT_DIGEST_DIGITS if is_short else DIGEST_DIGITS
    content: dict[str, Any] = {"vvc_nnr": version} | ({} if is_short else {"units": manifest.n_units})
    if manifest.formats:
        content["formats"] = _runs(manifest.formats)
    if manifest.shapes:
        content["shapes"] = {str(place): list(shape) for place, shape in manifest.shapes.items()}
    if manifest.wide:
        content["wide"] = sorted(manifest.wide)
    if manifest.metadata:
        content["metadata"] = dict(manifest.metadata)
    if manifest.ties:
        content["tied"] = [[tie.place, tie.name, tie.source] for tie in manifest.ties]
    if manifest.graph:
        content["graph"] = [manifest.graph.packing, manifest.graph.n_bytes]
    if manifest.raw:
        content["raw"] = [[part.place, part.kind, part.n_bytes] for part in manifest.raw]
    if manifest.old_graph:
        content["onnx"] = manifest.old_graph
    if manifest.base:
        content["base"] = manifest.base
    text = json.dumps(content | {"sha256": "0" * n_digits}, separators=(",", ":"))
    return text.encode() + b"\0", len(text) - len(_END) + 1 - n_digits, n_digits


def digest(pieces: Iterable[bytes | memoryview]) -> bytes:
    """The checksum of the pieces of a stream, as hexadecimal digits."""
    total = hashlib.sha256()
    for piece in pieces:
        total.update(piece)
    return total.hexdigest()[:DIGEST_DIGITS].encode()


def read_manifest(
    data: bytes | bytearray | memoryview, unit_offset_bytes: int, unit_size_bytes: int, n_data_units: int
) -> Manifest:
    """The manifest in a topology unit of a stream, held against the stream's checksum and number of data units.

    Raises:
        BitstreamError: If the stream or the manifest is damaged.
        UnsupportedError: If it is of a later version.
    """
    view = memoryview(data)
    end = unit_offset_bytes + unit_size_bytes
    first = end - len(_END) - n_digest_digits(bytes(view[unit_offset_bytes:end]))
    found = bytes(view[first : end - len(_END)])
    if first < unit_offset_bytes or not set(found) <= _HEX or bytes(view[end - len(_END) : end]) != _END:
        raise _damaged("it does not end with a checksum", unit_offset_bytes)
    if digest([view[:first], view[first + len(found) :]])[: len(found)] != found:
        raise _damaged("the checksum of the stream is wrong: bytes were changed, lost or added", unit_offset_bytes)
    start = start_of_manifest(bytes(view[unit_offset_bytes:end]))
    if start < 0:
        raise _damaged("it has no beginning", unit_offset_bytes)
    manifest, is_short = _parse(bytes(view[unit_offset_bytes + start : end - 1]), unit_offset_bytes, n_data_units)
    if is_short != (len(found) == SHORT_DIGEST_DIGITS):
        raise _damaged("its checksum has another number of digits than its version", unit_offset_bytes)
    return manifest


def n_digest_digits(text: bytes) -> int:
    """The digits of the checksum that a manifest ends with."""
    end = len(text) - len(_END) - SHORT_DIGEST_DIGITS
    return SHORT_DIGEST_DIGITS if text[:end].endswith(_DIGEST_KEY) else DIGEST_DIGITS


def _damaged(message: str, offset: int) -> BitstreamError:
    return BitstreamError(message, field="the manifest", offset_bytes=offset)


def _parse(text: bytes, offset: int, n_data_units: int) -> tuple[Manifest, bool]:
    """The manifest, and whether it is that of a short stream."""
    try:
        content = parse_json(text)
    except BitstreamError as error:
        raise _damaged(f"it is {error}", offset) from None
    if content.get("vvc_nnr") not in MANIFEST_VERSIONS:
        known = ", ".join(map(str, MANIFEST_VERSIONS))
        raise UnsupportedError(f"manifest of version {shown(repr(content.get('vvc_nnr')))}; {known} are known")
    is_short = content["vvc_nnr"] == SHORT_VERSION
    if not is_short and content.get("units") != n_data_units:
        raise _damaged(f"the stream has {n_data_units} data units of {shown(repr(content.get('units')))}", offset)
    try:
        return _checked(content, n_data_units), is_short
    except (TypeError, ValueError, AttributeError):
        raise _damaged("a value has the wrong type or range", offset) from None


def _checked(content: dict[str, Any], n_units: int) -> Manifest:
    """The manifest from its JSON.

    Raises:
        TypeError, ValueError, AttributeError: If it is none.
    """
    shapes = {int(place): tuple(map(_count, shape)) for place, shape in content.get("shapes", {}).items()}
    wide = frozenset(map(_count, content.get("wide", [])))
    base, metadata, old_graph = content.get("base", ""), content.get("metadata", {}), content.get("onnx", "")
    if (
        not isinstance(base, str)
        or not isinstance(old_graph, str)
        or not all(isinstance(value, str) for value in metadata.values())
    ):
        raise ValueError
    "".join((*metadata, *metadata.values())).encode()  # half a surrogate pair is a ValueError
    if any(len(shape) > MAX_N_DIMENSIONS for shape in shapes.values()):
        raise ValueError
    raw = tuple(map(_raw_part, content.get("raw", [])))
    n_tensors = n_units - len(wide) - bool(raw)
    formats = _from_runs(content.get("formats", {}), n_tensors)
    with_raw = [part.place for part in raw]
    if any(not 0 <= place < n_tensors for place in (*shapes, *wide, *with_raw)) or len(set(with_raw)) < len(raw):
        raise ValueError
    graph = _packed_graph(*content["graph"]) if "graph" in content else None
    ties = tuple(map(_tie, content.get("tied", [])))
    return Manifest(n_units, formats, shapes, wide, base, metadata, ties, graph, raw, old_graph)


def _packed_graph(packing: Any, n_bytes: Any) -> PackedGraph:
    if packing not in get_args(Packing):
        raise ValueError
    return PackedGraph(packing, _count(n_bytes))


def _raw_part(entry: list[Any]) -> RawPart:
    """A part of the raw unit from its JSON.

    Raises:
        TypeError, ValueError: If it is none.
    """
    place, kind, n_bytes = entry
    if kind not in get_args(RawKind):
        raise ValueError
    return RawPart(_count(place), kind, _count(n_bytes))


def _tie(entry: list[Any]) -> Tie:
    """A tie from its JSON.

    Raises:
        TypeError, ValueError: If it is none.
    """
    place, name, source = entry
    if not isinstance(name, str) or not isinstance(source, str):
        raise ValueError
    name.encode()
    return Tie(_count(place), name, source)


def _count(value: Any) -> int:
    """The value if it is a whole number from 0.

    Raises:
        ValueError: Otherwise.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 62:
        raise ValueError
    return value


def _runs(formats: Mapping[int, str]) -> dict[str, list[int]]:
    """Per format first, count, first, count, ... of its tensors."""
    runs: dict[str, list[int]] = {}
    for place in sorted(formats):
        run = runs.setdefault(formats[place], [])
        if run and run[-2] + run[-1] == place:
            run[-1] += 1
        else:
            run += [place, 1]
    return runs


def _from_runs(runs: Mapping[str, Sequence[Any]], n_tensors: int) -> dict[int, str]:
    """The inverse of `_runs`.

    Raises:
        ValueError: If a run leads past the last tensor or overlaps another, or a format is unknown.
    """
    formats: dict[int, str] = {}
    for name, run in runs.items():
        if name not in NUMBER_FORMATS or len(run) % 2:
            raise ValueError
        for first, count in zip(map(_count, run[::2]), map(_count, run[1::2]), strict=True):
            if first + count > n_tensors or any(place in formats for place in range(first, first + count)):
                raise ValueError
            formats.update(dict.fromkeys(range(first, first + count), name))
    return formats


def fits_coded(shape: tuple[int, ...], coded: tuple[int, ...], has_raw: bool) -> bool:
    """Whether a shape of the manifest belongs to a tensor that was coded in another: without dimensions, or empty.

    One with bytes in the raw unit may have any shape, if nothing else was coded but a stand-in.
    """
    if not has_raw and shape and 0 not in shape:
        return False
    return coded == (1,) and math.prod(max(1, n) for n in shape) < MAX_EMPTY_VOLUME
