"""The manifest: what this package adds to a stream so that damage is noticed and tensors come back as they were.

It is text in the topology unit, whose content other decoders pass over: compact JSON,

    {"vvc_nnr":"e-f()q+:b8","metadata":{"architecture":"..."},"tied":[[7,"head.weight","embedding.weight"]],"#":"..."}

    vvc_nnr   what the data units do not say of the tensors, in their order
    metadata  what the sender says of the network, texts by name
    tied      tensors that are not coded since another one is the same: place among all, name, name of the coded one; of
              copies, which are no longer the same when one is changed, its place among the coded ones
    graph     how an ONNX model without its tensors was made shorter ("deflate", "lzma"), and its bytes; it stands in
              front of the manifest
    base      SHA-256 of the state that an update is for, its first 32 digits
    #         SHA-256 of the whole stream without these digits: its first 4 bytes in base 85, of long streams 8

Tensors are told by items, equal ones that follow each other by one:

    e         number format, a letter of `LETTERS`; "-": what the data unit says, int32 or float32
    *         coded as the integers that its bits are
    =         its data unit, of raw floats, holds its values as they are
    3         how many tensors; 1 if it is left out
    (2,0)     shape, where that is not the coded one
    +         takes two data units, low and high halves
    :b8       kind and number of its bytes in the raw unit, which is the last data unit

Items in brackets come as many times as the number behind them says: [m:s132-()]64.

Tensors behind the last item are what their data units say. All keys but the first and the last may be absent.

Older manifests have a number in place of the items, their version, and keys for each of these; they are read:

    vvc_nnr   1, or 2 if it has one of the keys graph and raw; 3 in short streams
    units     number of data units in the stream; not in version 3, whose checksum tells
    formats   number format to runs of tensors: first, count, first, count, ...; the others are int32 or float32
    shapes    tensor to its shape, where that is not the coded one
    wide      tensors that take two data units
    raw       tensors that have bytes in the raw unit, in order: place, kind, bytes
    onnx      the model, deflated, as base64 text
    sha256    the checksum, its first 32 hexadecimal digits, in version 3 its first 8

Tensors are counted from 0 in the order of their data units.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from vvc_nnr.bitstream.data_unit_syntax import MAX_N_DIMENSIONS
from vvc_nnr.bitstream.graph import PackedGraph
from vvc_nnr.bitstream.number_formats import BITS_OF, BITS_SUFFIX, NUMBER_FORMATS, VALUES_SUFFIX
from vvc_nnr.bitstream.packing import Packing
from vvc_nnr.errors import BitstreamError, UnsupportedError, shown
from vvc_nnr.json_text import parse_json


@dataclass(frozen=True, slots=True)
class TieEntry:
    """What the manifest says of a tensor that another one stands for.

    Args:
        place: Where it comes among all tensors, from 0.
        name: Its name.
        source: The name of the tensor that is the same; of a copy, which has memory of its own, the place of the tensor
            that is coded among those that are.
    """

    place: int
    name: str
    source: str | int


OLD_VERSIONS = (1, 2, 3)
SHORT_OLD_VERSION = 3
# Product of the dimensions of an empty array, zeros left out: what numpy can address.
MAX_EMPTY_VOLUME = 1 << 56
# Digits of the checksum, of a short stream and of others: in base 85, which has 32 bits as five, and in older manifests
# hexadecimal; and the keys that they stand behind.
DIGITS, OLD_DIGITS = (5, 10), (8, 32)
_BEGIN = b'{"vvc_nnr":'
_KEY = b'"#":"'
_KEYS = {_KEY: DIGITS, b'"sha256":"': OLD_DIGITS}
_END = b'"}\0'
# What a manifest ends with.
MAX_TAIL_BYTES = max(len(key) + max(digits) for key, digits in _KEYS.items()) + len(_END)

LETTERS = {
    "bool": "?",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float16": "e",
    "bfloat16": "g",
    "float32": "f",
    "float64": "d",
    "float8_e4m3fn": "m",
    "float8_e4m3fnuz": "M",
    "float8_e5m2": "n",
    "float8_e5m2fnuz": "N",
    "float8_e8m0fnu": "x",
}
"""Number formats as letters, those of Python's module struct; and others for bfloat16 and float8."""
_FORMATS = {letter: name for name, letter in LETTERS.items()}
_SUFFIXES = {"": "", "*": BITS_SUFFIX, "=": VALUES_SUFFIX}
_ITEM = re.compile(
    r"(?:(?P<letter>[?bBhHiIqQegfdmMnNx])(?P<suffix>[*=]?)|-)(?P<count>[0-9]{0,18})"
    r"(?:\((?P<shape>(?:[0-9]{1,18}(?:,[0-9]{1,18})*)?)\))?(?P<wide>\+?)(?::(?P<kind>[spblo])(?P<n_bytes>[0-9]{1,18}))?"
)
_GROUP = re.compile(r"\[(?P<row>[^\[\]]+)\](?P<times>[0-9]{1,18})")
# So many items are looked for that come again.
MAX_GROUP = 16


RawKind = Literal["split", "palette", "bytes", "lzma", "outliers"]
"""What the bytes of a tensor in the raw unit are (`vvc_nnr.coding.exact_forms`)."""


_KINDS = {kind[0]: kind for kind in get_args(RawKind)}


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
        formats: Tensor to number format, where it is not what the data unit says.
        shapes: Tensor to shape, where it is not the coded one.
        wide: Tensors of two data units.
        base: Digest of the state that an update is for, "" if the stream is no update.
        metadata: What the sender says of the network.
        ties: Tensors that another one stands for.
        graph: The network's graph in front of the manifest, None if it is not there.
        raw: Tensors with bytes in the raw unit, in the order of these, which is that of the tensors.
        old_graph: The graph as text of an older file, "" if it is not here.
    """

    formats: Mapping[int, str] = field(default_factory=dict)
    shapes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    wide: frozenset[int] = frozenset()
    base: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    ties: tuple[TieEntry, ...] = ()
    graph: PackedGraph | None = None
    raw: tuple[RawPart, ...] = ()
    old_graph: str = ""


def is_manifest(data: bytes | memoryview) -> bool:
    """Whether the body of a unit is a manifest, or was one before it was damaged."""
    head, tail = bytes(data[:256]), bytes(data[-MAX_TAIL_BYTES:])
    if _BEGIN in head or b'"sha256":"' in tail or _digits_at(tail)[1] in DIGITS:
        return True
    starts = (len(tail) - len(_END) - n_digits - len(_KEY) for n_digits in DIGITS)
    has_key = any(_is_near(tail[max(start, 0) :], _KEY) for start in starts)
    return _is_near(head, _BEGIN) or (tail.endswith(_END) and has_key)


def _is_near(text: bytes, wanted: bytes) -> bool:
    """Whether a text begins with most letters of another one."""
    n_alike = sum(a == b for a, b in zip(text, wanted, strict=False))
    return 2 * n_alike > len(wanted)


def start_of_manifest(text: bytes) -> int:
    """Where the manifest starts in the text of a topology unit; -1 if it does not."""
    return text.rfind(_BEGIN)


def write_manifest(manifest: Manifest, *, is_short: bool = False) -> tuple[bytes, int, int]:
    """The text with its terminating zero and zeros for the checksum; where in it that starts, and its digits.

    Args:
        manifest: What it says.
        is_short: Of a short stream, which has a short checksum.
    """
    n_digits = min(DIGITS) if is_short else max(DIGITS)
    content: dict[str, Any] = {"vvc_nnr": _items(manifest)}
    if manifest.metadata:
        content["metadata"] = dict(manifest.metadata)
    if manifest.ties:
        content["tied"] = [[tie.place, tie.name, tie.source] for tie in manifest.ties]
    if manifest.graph:
        content["graph"] = [manifest.graph.packing, manifest.graph.n_bytes]
    if manifest.base:
        content["base"] = manifest.base
    text = json.dumps(content | {"#": "0" * n_digits}, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b"\0", len(text) - len(_END) + 1 - n_digits, n_digits


def _items(manifest: Manifest) -> str:
    """What the manifest says of tensors, equal ones in a row as one item."""
    raw = {part.place: f":{part.kind[0]}{part.n_bytes}" for part in manifest.raw}
    assert list(raw) == sorted(raw)  # as their bytes are
    items: list[tuple[str, int, str]] = []
    end = 0
    for place in sorted({*manifest.formats, *manifest.shapes, *manifest.wide, *raw}):
        shape = f"({','.join(map(str, manifest.shapes[place]))})" if place in manifest.shapes else ""
        head = _format_item(manifest.formats[place]) if place in manifest.formats else "-"
        tail = shape + "+" * (place in manifest.wide) + raw.get(place, "")
        items += [("-", place - end, "")] * (place > end)
        n_before = items.pop()[1] if items and items[-1][::2] == (head, tail) else 0
        items.append((head, n_before + 1, tail))
        end = place + 1
    return _grouped([f"{head}{count if count > 1 else ''}{tail}" for head, count, tail in items])


def _grouped(items: Sequence[str]) -> str:
    """Items as one text, rows of them that come again at once by brackets where that is shorter."""
    found: list[str] = []
    at = 0
    while at < len(items):
        n_items, n_times, saved = 1, 1, 0
        for n in range(1, min(MAX_GROUP, (len(items) - at) // 2) + 1):
            if items[at + n] != items[at]:
                continue
            row, times = items[at : at + n], 1
            while items[at + times * n : at + (times + 1) * n] == row:
                times += 1
            shorter = (times - 1) * sum(map(len, row)) - len(f"[]{times}")
            if shorter > saved:
                n_items, n_times, saved = n, times, shorter
        text = "".join(items[at : at + n_items])
        found.append(f"[{text}]{n_times}" if n_times > 1 else text)
        at += n_items * n_times
    return "".join(found)


def _format_item(number_format: str) -> str:
    """A number format as a letter and what it is coded as."""
    plain = number_format.split()[0]
    return LETTERS[plain] + next(sign for sign, suffix in _SUFFIXES.items() if plain + suffix == number_format)


def _digits_at(text: bytes) -> tuple[int, int]:
    """Where in a text the checksum of its manifest starts, and its digits; 0 if it has none."""
    end = len(text) - len(_END)
    for key, all_digits in _KEYS.items():
        for n_digits in all_digits:
            if text[:end].endswith(key, 0, max(end - n_digits, 0)):
                return end - n_digits, n_digits
    return end, 0


def checksum(pieces: Iterable[bytes | memoryview], n_digits: int) -> bytes:
    """The checksum of the pieces of a stream, as so many digits."""
    total = hashlib.sha256()
    for piece in pieces:
        total.update(piece)
    return total.hexdigest()[:n_digits].encode() if n_digits in OLD_DIGITS else _in_base_85(total.digest(), n_digits)


def _in_base_85(data: bytes, n_digits: int) -> bytes:
    return base64.b85encode(data[: n_digits // 5 * 4])


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
    text = bytes(view[unit_offset_bytes:end])
    at, n_digits = _digits_at(text)
    if not n_digits or not text.endswith(_END):
        raise _damaged("it does not end with a checksum", unit_offset_bytes)
    first = unit_offset_bytes + at
    if checksum([view[:first], view[first + n_digits :]], n_digits) != text[at : at + n_digits]:
        raise _damaged("the checksum of the stream is wrong: bytes were changed, lost or added", unit_offset_bytes)
    start = start_of_manifest(text)
    if start < 0:
        raise _damaged("it has no beginning", unit_offset_bytes)
    return _parse(text[start:-1], n_digits, unit_offset_bytes, n_data_units)


def _damaged(message: str, offset: int) -> BitstreamError:
    return BitstreamError(message, field="the manifest", offset_bytes=offset)


def _parse(text: bytes, n_digits: int, offset: int, n_data_units: int) -> Manifest:
    try:
        content = parse_json(text)
    except BitstreamError as error:
        raise _damaged(f"it is {error}", offset) from None
    told = content.get("vvc_nnr")
    if not isinstance(told, str) and told not in OLD_VERSIONS:
        known = ", ".join(map(str, OLD_VERSIONS))
        raise UnsupportedError(f"manifest of version {shown(repr(told))}; {known} are known, and texts")
    right = DIGITS if isinstance(told, str) else OLD_DIGITS[:1] if told == SHORT_OLD_VERSION else OLD_DIGITS[1:]
    if n_digits not in right:
        raise _damaged("its checksum has another number of digits than its version", offset)
    if not isinstance(told, str) and told != SHORT_OLD_VERSION and content.get("units") != n_data_units:
        raise _damaged(f"the stream has {n_data_units} data units of {shown(repr(content.get('units')))}", offset)
    try:
        return _checked(content, n_data_units)
    except (TypeError, ValueError, AttributeError):
        raise _damaged("a value has the wrong type or range", offset) from None


def _checked(content: dict[str, Any], n_units: int) -> Manifest:
    """The manifest from its JSON.

    Raises:
        TypeError, ValueError, AttributeError: If it is none.
    """
    told = content["vvc_nnr"]
    tensors = _of_items(told, n_units) if isinstance(told, str) else _of_old_keys(content, n_units)
    base, metadata, old_graph = content.get("base", ""), content.get("metadata", {}), content.get("onnx", "")
    if (
        not isinstance(base, str)
        or not isinstance(old_graph, str)
        or not all(isinstance(value, str) for value in metadata.values())
    ):
        raise ValueError
    "".join((*metadata, *metadata.values())).encode()  # half a surrogate pair is a ValueError
    graph = _packed_graph(*content["graph"]) if "graph" in content else None
    ties = tuple(map(_tie, content.get("tied", [])))
    found = replace(tensors, base=base, metadata=metadata, ties=ties, graph=graph, old_graph=old_graph)
    _check_places(found, n_units)
    return found


def _check_places(manifest: Manifest, n_units: int) -> None:
    """Raises ValueError if tensors that it tells of are not among so many data units."""
    n_tensors = n_units - len(manifest.wide) - bool(manifest.raw)
    with_raw = [part.place for part in manifest.raw]
    places = (*manifest.formats, *manifest.shapes, *manifest.wide, *with_raw)
    if any(not 0 <= place < n_tensors for place in places) or len(set(with_raw)) < len(with_raw):
        raise ValueError
    if any(len(shape) > MAX_N_DIMENSIONS for shape in manifest.shapes.values()):
        raise ValueError


def _of_items(text: str, n_units: int) -> Manifest:
    """What items say of tensors, of which there are no more than data units.

    Raises:
        ValueError: If they are none, or tell of more tensors.
    """
    formats: dict[int, str] = {}
    shapes: dict[int, tuple[int, ...]] = {}
    wide: set[int] = set()
    raw: list[RawPart] = []
    first = 0
    for item in _each_item(text):
        end = first + int(item["count"] or 1)
        if not first < end <= n_units:
            raise ValueError
        places = range(first, end)
        if item["letter"]:
            formats |= dict.fromkeys(places, _FORMATS[item["letter"]] + _SUFFIXES[item["suffix"]])
        if item["shape"] is not None:
            shapes |= dict.fromkeys(places, tuple(map(int, filter(None, item["shape"].split(",")))))
        if item["wide"]:
            wide |= {*places}
        if item["kind"]:
            raw += [RawPart(place, _KINDS[item["kind"]], int(item["n_bytes"])) for place in places]
        first = end
    if any(name.endswith(BITS_SUFFIX) and name not in BITS_OF.values() for name in formats.values()):
        raise ValueError
    return Manifest(formats, shapes, frozenset(wide), raw=tuple(raw))


def _each_item(text: str) -> Iterator[re.Match[str]]:
    """The items of a text one by one, those in brackets again and again.

    Raises:
        ValueError: If there is anything else.
    """
    at = 0
    while at < len(text):
        group = _GROUP.match(text, at)
        row: list[re.Match[str]] = []
        at, end = (group.start("row"), group.end("row")) if group else (at, at + 1)
        while at < end:
            item = _ITEM.match(text, at)
            if item is None:
                raise ValueError
            row.append(item)
            at = item.end()
        for _ in range(int(group["times"]) if group else 1):
            yield from row
        at = group.end() if group else at


def _of_old_keys(content: dict[str, Any], n_units: int) -> Manifest:
    """What the keys of an older manifest say of tensors.

    Raises:
        TypeError, ValueError, AttributeError: If it is none.
    """
    shapes = {int(place): tuple(map(_count, shape)) for place, shape in content.get("shapes", {}).items()}
    raw = tuple(map(_raw_part, content.get("raw", [])))
    return Manifest(
        _from_runs(content.get("formats", {}), n_units),
        shapes,
        frozenset(map(_count, content.get("wide", []))),
        raw=raw,
    )


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


def _tie(entry: list[Any]) -> TieEntry:
    """A tie from its JSON.

    Raises:
        TypeError, ValueError: If it is none.
    """
    place, name, source = entry
    if not isinstance(name, str):
        raise ValueError
    name.encode()
    return TieEntry(_count(place), name, source if isinstance(source, str) else _count(source))


def _count(value: Any) -> int:
    """The value if it is a whole number from 0.

    Raises:
        ValueError: Otherwise.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 62:
        raise ValueError
    return value


def _from_runs(runs: Mapping[str, Sequence[Any]], n_tensors: int) -> dict[int, str]:
    """Tensor to number format, of first, count, first, count, ... per format.

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
