"""Named tensors to a stream of units and back, many tensors at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from vvc_nnr.bitstream.data_unit import DataUnit, ParameterTypes, PayloadType
from vvc_nnr.bitstream.graph import (
    DEFLATE,
    Graph,
    check_end,
    graph_of_text,
    graph_of_unit,
    pack_graph,
    topology_unit,
    unpack_graph,
    without_manifest,
)
from vvc_nnr.bitstream.manifest import (
    Manifest,
    RawKind,
    TieEntry,
    checksum,
    fits_coded,
    is_manifest,
    read_manifest,
    start_of_manifest,
    write_manifest,
)
from vvc_nnr.bitstream.number_formats import (
    BITS_OF,
    FLOATS,
    INTEGER_FORMATS,
    NUMBER_FORMATS,
    VALUES_SUFFIX,
    WIDE_FORMATS,
    itemsize_of_format,
)
from vvc_nnr.bitstream.parameter_sets import ModelParameterSet, ParameterSets
from vvc_nnr.bitstream.ties import Tie
from vvc_nnr.bitstream.units import (
    OpaqueUnit,
    PlacedUnit,
    StartUnit,
    TopologyUnit,
    Unit,
    read_units,
    write_unit,
    write_units,
)
from vvc_nnr.errors import BitstreamError, UnsupportedError

# Shorter streams have a shorter checksum.
SHORT_STREAM_BYTES = 4096

Buffer: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class CodedTensor:
    """A tensor of a stream, not decoded yet.

    Args:
        name: Its name; of a block the first.
        units: Its data unit, or those of its low and high halves, with their places in the stream.
        data_units: The same as headers and payloads.
        number_format: What it was before, None if the stream does not say.
        shape: Its shape, which may differ from the coded one; of a block that of the weight.
        raw: Its bytes in the raw unit, and what they are; None if it has none.
    """

    name: str
    units: tuple[PlacedUnit, ...]
    data_units: tuple[DataUnit, ...]
    number_format: str | None
    shape: tuple[int, ...]
    raw: tuple[RawKind, memoryview] | None = None

    @property
    def has_values(self) -> bool:
        """Whether the payload of its data unit is its values as they are, in its number format."""
        return self.number_format is not None and self.number_format.endswith(VALUES_SUFFIX)

    @property
    def n_elements(self) -> int:
        """Values of all its data units together, and of the weight that G and H of a block are multiplied to."""
        if self.raw is not None or self.has_values:
            return max(math.prod(self.shape), 1)
        n_in_products = sum(math.prod(unit.tensor_dimension_list) for unit in self.data_units if unit.has_product)
        return sum(unit.n_elements for unit in self.data_units) + n_in_products


@dataclass(frozen=True, slots=True)
class Stream:
    """What a stream holds.

    Args:
        units: All units.
        manifest: Its manifest; None if it has none, so that lost units would not be noticed.
        tensors: Its tensors.
        skipped: Units that were not understood.
    """

    units: tuple[PlacedUnit, ...]
    manifest: Manifest | None
    tensors: tuple[CodedTensor, ...]
    skipped: tuple[PlacedUnit, ...]

    @property
    def is_verifiable(self) -> bool:
        """A manifest was there, and the stream agrees with it."""
        return self.manifest is not None

    @property
    def is_update(self) -> bool:
        """Whether it is a difference from a base: a tensor names a parent, or there is none where they may do so."""
        if self.tensors:
            return any(unit.parent is not None for tensor in self.tensors for unit in tensor.data_units)
        sets = (placed.unit for placed in self.units if isinstance(placed.unit, ModelParameterSet))
        return any(mps.mps_parent_signalling_enabled_flag for mps in sets)

    @property
    def formats(self) -> dict[str, str]:
        """Name to number format of the tensors, tied ones too, where the stream says it."""
        told = {tensor.name: tensor.number_format for tensor in self.tensors if tensor.number_format is not None}
        found = {name: number_format.split()[0] for name, number_format in told.items()}
        for tie in self.ties:
            if tie.source in found:
                found[tie.name] = found[tie.source]
        return found

    @property
    def graph(self) -> bytes | None:
        """The ONNX model without its tensors that the topology unit holds, None if there is none.

        Raises:
            BitstreamError: If it is damaged.
        """
        units = [placed.unit for placed in self.units if isinstance(placed.unit, TopologyUnit)]
        if self.manifest and self.manifest.graph:
            return unpack_graph(next(map(_before_manifest, units)), self.manifest.graph)
        if self.manifest and self.manifest.old_graph:
            return graph_of_text(self.manifest.old_graph)
        for unit in units:
            graph = graph_of_unit(unit)
            if graph is not None:
                is_old = self.manifest is not None and unit.topology_compression_format != DEFLATE
                return without_manifest(graph, start_of_manifest(graph)) if is_old else graph
        return None

    @property
    def ties(self) -> tuple[Tie, ...]:
        """Tensors that are not coded since another one stands for them."""
        return tuple(_tie(entry, self.tensors) for entry in self.manifest.ties) if self.manifest else ()

    @property
    def n_elements(self) -> int:
        """Values of all tensors, copies among them."""
        sizes = {tensor.name: tensor.n_elements for tensor in self.tensors}
        copied = sum(sizes[tie.source] for tie in self.ties if tie.is_copy)
        return sum(sizes.values()) + copied


def _tie(entry: TieEntry, tensors: Sequence[CodedTensor]) -> Tie:
    """A tie from what the manifest says of it.

    Raises:
        BitstreamError: If it is a copy of no tensor of the stream.
    """
    if isinstance(entry.source, str):
        return Tie(entry.place, entry.name, entry.source)
    if entry.source >= len(tensors):
        message = f"tensor {entry.name!r} is a copy of tensor {entry.source}, of {len(tensors)}"
        raise BitstreamError(message, field="the manifest")
    return Tie(entry.place, entry.name, tensors[entry.source].name, is_copy=True)


def _before_manifest(unit: TopologyUnit) -> bytes:
    return unit.topology_data[: start_of_manifest(unit.topology_data)]


def write_stream(
    data_units: Sequence[DataUnit],
    mps: ModelParameterSet,
    manifest: Manifest,
    graph: Graph | None = None,
    raw: bytes = b"",
) -> bytes:
    """A stream with its manifest.

    Args:
        data_units: In order.
        mps: What they were coded with.
        manifest: Without the checksum.
        graph: The network's graph, if it has one.
        raw: Bytes of tensors for the raw unit, which is last: the reference software reads nothing behind one.

    Raises:
        InputError: If a field does not fit its bits.
        UnsupportedError: If the graph is too large.
    """
    units = [*data_units, *([_raw_unit(raw, data_units)] if raw else [])]
    before, packed = pack_graph(graph)
    pieces = list(write_units([StartUnit(), mps, TopologyUnit(), *units]))
    is_short = sum(map(len, pieces)) + len(before) < SHORT_STREAM_BYTES
    text, digits_at, n_digits = write_manifest(replace(manifest, graph=packed), is_short=is_short)
    topology = b"".join(write_unit(topology_unit(before + text, graph), ParameterSets()))
    split = len(topology) - len(text) + digits_at
    before, after = topology[:split], topology[split + n_digits :]
    digits = checksum([*pieces[:2], before, after, *pieces[3:]], n_digits)
    return b"".join([*pieces[:2], before, digits, after, *pieces[3:]])


def _raw_unit(raw: bytes, others: Sequence[DataUnit]) -> DataUnit:
    """Bytes as a unit of floats as they are, under a name that no tensor has."""
    names = {name for unit in others for name in unit.topology_elem_id_list}
    name = "vvc_nnr.raw"
    while name in names:
        name += "_"
    words = raw + bytes(-len(raw) % 4)
    return DataUnit(PayloadType.RAW_FLOAT, (name,), (len(words) // 4,), words, node_id=None)


def with_metadata(data: bytes, metadata: Mapping[str, str]) -> bytes:
    """A stream with more texts in its manifest; its data units stay as they are.

    Args:
        data: The whole stream.
        metadata: Texts by name; they take the place of those of the same names.

    Raises:
        BitstreamError: If the stream breaks the format.
        UnsupportedError: If it was not written by this package: what is in it might be lost.
    """
    stream = read_stream(data)
    data_units = [placed.unit for placed in stream.units if isinstance(placed.unit, DataUnit)]
    mps = next((placed.unit for placed in stream.units if isinstance(placed.unit, ModelParameterSet)), None)
    if stream.manifest is not None and mps is not None and stream.graph is None:
        told = replace(stream.manifest, metadata={**stream.manifest.metadata, **metadata})
        found = write_stream(data_units, mps, told)
        if _beside_topology(found) == _beside_topology(data):
            return found
    raise UnsupportedError("texts can be put into coded networks that this package wrote, and without a graph")


def _beside_topology(data: Buffer) -> list[bytes]:
    """The units of a stream as bytes, that of the topology as none, which older manifests have otherwise."""
    placed = ((each.unit, data[each.offset_bytes : each.offset_bytes + each.size_bytes]) for each in read_units(data))
    return [b"" if isinstance(unit, TopologyUnit) else bytes(piece) for unit, piece in placed]


def read_stream(data: Buffer, *, skip_unsupported: bool = False) -> Stream:
    """The units and tensors of a stream, held against its manifest; payloads are not decoded.

    Args:
        data: The whole stream.
        skip_unsupported: Leave out what this package does not implement.

    Raises:
        BitstreamError: If the stream breaks the format, or does not agree with its manifest.
        UnsupportedError: If it needs what this package does not implement.
    """
    units = tuple(read_units(data))
    n_data_units = sum(isinstance(placed.unit, DataUnit) for placed in units)
    manifest = _find_manifest(data, units, n_data_units)
    skipped = tuple(placed for placed in units if isinstance(placed.unit, OpaqueUnit))
    if skipped and not skip_unsupported:
        raise UnsupportedError(_describe(skipped[0]))
    coded = [placed for placed in units if isinstance(placed.unit, DataUnit)]
    tensors = tuple(_tensors(coded, manifest or Manifest()))
    return Stream(units, manifest, tensors, skipped)


def _describe(placed: PlacedUnit) -> str:
    assert isinstance(placed.unit, OpaqueUnit)
    return f"unit of type {placed.unit.nnr_unit_type} at byte {placed.offset_bytes}: {placed.unit.reason}"


def _find_manifest(data: Buffer, units: Sequence[PlacedUnit], n_data_units: int) -> Manifest | None:
    """The manifest of a stream, None if it has none.

    Raises:
        BitstreamError: If it is damaged, in the wrong place, or missing together with its unit.
    """
    found: list[PlacedUnit] = []
    sets = [placed.unit for placed in units if isinstance(placed.unit, ModelParameterSet)]
    is_update = any(mps.mps_parent_signalling_enabled_flag for mps in sets)
    wants_topology = bool(sets) and sets[-1].topology_carriage_flag
    for placed in units:
        if is_manifest(_body(placed.unit)):
            found.append(placed)
        elif isinstance(placed.unit, TopologyUnit):
            check_end(placed.unit)
            if is_update and placed.unit.topology_data.strip(b"\0"):
                raise BitstreamError(
                    "the topology unit of an update is neither empty nor a manifest, as one is that was damaged",
                    offset_bytes=placed.offset_bytes,
                )
    if wants_topology and not any(isinstance(placed.unit, TopologyUnit) for placed in units):
        raise BitstreamError("the model parameter set announces a topology unit, and there is none", field="stream")
    if len(found) > 1 or any(isinstance(placed.unit, OpaqueUnit) for placed in found):
        raise BitstreamError("a manifest in the wrong place, or two of them", offset_bytes=found[-1].offset_bytes)
    return read_manifest(data, found[0].offset_bytes, found[0].size_bytes, n_data_units) if found else None


def _body(unit: Unit) -> bytes | memoryview:
    """Where a manifest could be, also after its unit's type was damaged."""
    if isinstance(unit, TopologyUnit):
        return unit.topology_data
    return unit.body if isinstance(unit, OpaqueUnit) else b""


def _tensors(units: Sequence[PlacedUnit], manifest: Manifest) -> Iterator[CodedTensor]:
    """The tensors of data units, as the manifest groups them.

    Raises:
        BitstreamError: If it does not fit them, or a name occurs twice.
        UnsupportedError: If tensors have numbers in place of names.
    """
    names: set[str] = set()
    raw = _raw_parts(units, manifest)
    units = units[:-1] if raw else units
    n_used = place = 0
    while n_used < len(units):
        n_units = 2 if place in manifest.wide else 1
        tensor = _tensor(tuple(units[n_used : n_used + n_units]), manifest, place, raw.get(place))
        for name in (name for unit in tensor.data_units for name in unit.topology_elem_id_list):
            if name in names:
                raise BitstreamError(f"two tensors are called {name!r}", field="topology_elem_id")
            names.add(name)
        yield tensor
        n_used += n_units
        place += 1


def _raw_parts(units: Sequence[PlacedUnit], manifest: Manifest) -> dict[int, tuple[RawKind, memoryview]]:
    """The bytes of each tensor in the raw unit, by its place.

    Raises:
        BitstreamError: If there is no such unit, or it has fewer bytes.
    """
    if not manifest.raw:
        return {}
    unit = units[-1].unit if units else None
    n_bytes = sum(part.n_bytes for part in manifest.raw)
    if (
        not isinstance(unit, DataUnit)
        or unit.nnr_compressed_data_unit_payload_type is not PayloadType.RAW_FLOAT
        or not n_bytes <= len(unit.payload) < n_bytes + 4
    ):
        raise BitstreamError(f"the last data unit has not the {n_bytes} raw bytes", field="the manifest")
    payload, start, found = memoryview(unit.payload), 0, {}
    for part in manifest.raw:
        found[part.place] = part.kind, payload[start : start + part.n_bytes]
        start += part.n_bytes
    return found


def _tensor(
    units: tuple[PlacedUnit, ...], manifest: Manifest, place: int, raw: tuple[RawKind, memoryview] | None
) -> CodedTensor:
    data_units = tuple(placed.unit for placed in units if isinstance(placed.unit, DataUnit))
    first = data_units[0]
    if first.topology_elem_id_index_list:
        raise UnsupportedError("tensors that have numbers in place of names")
    coded = first.tensor_dimension_list
    shape = manifest.shapes.get(place, coded)
    tensor = CodedTensor(first.topology_elem_id_list[0], units, data_units, manifest.formats.get(place), shape, raw)
    if place in manifest.shapes and not tensor.has_values and not fits_coded(shape, coded, raw is not None):
        raise BitstreamError(f"a tensor of shape {shape} was coded as {coded}", field="the manifest")
    if not _fits_format(tensor, is_wide=place in manifest.wide):
        raise BitstreamError(f"tensor {tensor.name!r} is not coded as {tensor.number_format}", field="the manifest")
    return tensor


def _fits_format(tensor: CodedTensor, is_wide: bool) -> bool:
    """Whether the data units of a tensor can hold its number format."""
    kinds = {unit.nnr_compressed_data_unit_payload_type for unit in tensor.data_units}
    if tensor.has_values:
        return kinds == {PayloadType.RAW_FLOAT} and _has_payload_of_values(tensor) and not (is_wide or tensor.raw)
    shapes = {unit.tensor_dimension_list for unit in tensor.data_units}
    if tensor.raw is not None:
        return not is_wide and _fits_raw(tensor, tensor.raw[0])
    if is_wide:
        is_pair = len(tensor.units) == 2 and len(shapes) == 1
        return is_pair and kinds == {PayloadType.INT} and tensor.number_format in WIDE_FORMATS
    if tensor.number_format is None:
        return True
    if kinds == {PayloadType.INT}:
        return tensor.number_format in INTEGER_FORMATS or 0 in tensor.shape
    if kinds == {PayloadType.BLOCK}:
        types = tensor.data_units[0].compressed_parameter_types
        return types in (ParameterTypes.NONE, ParameterTypes.LS) and tensor.number_format in FLOATS
    return kinds <= {PayloadType.FLOAT, PayloadType.RAW_FLOAT} and tensor.number_format in FLOATS


def _has_payload_of_values(tensor: CodedTensor) -> bool:
    """Whether the payload of its data unit has as many bytes as its values take, filled up to whole words."""
    n_bytes = math.prod(tensor.shape) * itemsize_of_format(tensor.number_format or "float32")
    return 0 < n_bytes <= len(tensor.data_units[0].payload) < n_bytes + 4


def _fits_raw(tensor: CodedTensor, kind: RawKind) -> bool:
    """Whether the data unit of a tensor with raw bytes has an integer or a float for each value, or is a stand-in."""
    unit, n_values = tensor.data_units[0], math.prod(tensor.shape)
    is_float = unit.nnr_compressed_data_unit_payload_type is PayloadType.FLOAT
    if kind == "outliers":
        has_all = unit.n_elements == n_values > 0
        return len(tensor.units) == 1 and is_float and not unit.is_block and has_all and tensor.number_format in FLOATS
    if unit.nnr_compressed_data_unit_payload_type is not PayloadType.INT:
        return False
    if kind == "split" and tensor.number_format not in (*FLOATS, *BITS_OF.values()):
        return False
    known = tensor.number_format is None or tensor.number_format in NUMBER_FORMATS
    return known and n_values > 0 and unit.n_elements == (n_values if kind in ("split", "palette") else 1)
