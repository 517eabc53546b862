"""All tensors of a network to one stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vvc_nnr.bitstream.data_unit_fields import NodeId
from vvc_nnr.bitstream.graph import Graph
from vvc_nnr.bitstream.manifest import Manifest, RawPart, Tie, find_ties
from vvc_nnr.bitstream.number_formats import (
    FLOAT64_BITS,
    WIDE_FORMATS,
    Array,
    Bfloat16Bits,
    NamedArrays,
    format_of,
    shape_of,
)
from vvc_nnr.bitstream.parameter_sets import ModelParameterSet
from vvc_nnr.bitstream.stream import write_stream
from vvc_nnr.coding.tensor_encoder import EncodedTensor, TensorJob, encode_tensor
from vvc_nnr.errors import InputError
from vvc_nnr.options import CompressOptions, thread_count
from vvc_nnr.parallel import Progress, run_all
from vvc_nnr.quantize.step_choice import size_offsets
from vvc_nnr.roles.by_name import named_roles
from vvc_nnr.roles.roles import RULES, Rule, TensorRole, override_roles

# What a data unit says itself.
_PLAIN_FORMATS = ("int32", "float32")
# What a raw unit takes beside its bytes, and how many it can hold.
RAW_UNIT_BYTES = 80
MAX_RAW_BYTES = (1 << 31) - (1 << 12)


def compress_arrays(
    arrays: NamedArrays,
    options: CompressOptions,
    progress: Progress | None = None,
    metadata: Mapping[str, str] | None = None,
    roles: Mapping[str, TensorRole] | None = None,
    graph: Graph | None = None,
) -> bytes:
    """A stream of all tensors, tied ones once.

    Args:
        arrays: The tensors.
        options: How they are coded.
        progress: Called with the values coded so far and their total.
        metadata: Texts that travel with them.
        roles: What the tensors are, by name; None: what their names tell.
        graph: The network's graph, if it has one.

    Raises:
        InputError: If an option, a name, a number format or a value cannot be coded.
    """
    options.check_names(arrays)
    check_metadata(metadata or {})
    rules = tensor_rules(roles, arrays, options)
    ties = find_ties(arrays)
    tied = {tie.name for tie in ties}
    jobs = [
        replace(make_job(name, array, place, arrays, options), rule=rules.get(name))
        for place, (name, array) in enumerate(arrays.items())
        if name not in tied
    ]
    shapes = [shape_of(job.array) for job in jobs]
    coded = encode_all(jobs.__getitem__, shapes, options, progress)
    mps = ModelParameterSet(mps_qp_density=options.qp_density)
    return write_network(shapes, coded, mps, metadata=metadata, ties=ties, graph=graph)


def tensor_rules(
    roles: Mapping[str, TensorRole] | None, arrays: NamedArrays, options: CompressOptions
) -> dict[str, Rule]:
    """What each tensor may lose; empty without roles.

    Args:
        roles: What the tensors are, by name; None: what their names tell.
        arrays: The tensors.
        options: How they are coded.

    Raises:
        InputError: If an option for roles is given without roles, or is none.
    """
    if options.roles == "off":
        if options.role_of or options.qp_by_size:
            raise InputError('role_of, qp_by_size: have no effect with roles="off"')
        return {}
    found = override_roles(named_roles(arrays) if roles is None else roles, options.role_of)
    rules = {name: RULES[told.role] for name, told in found.items()}
    if not options.qp_by_size:
        return rules
    sizes = {name: math.prod(shape_of(arrays[name])) for name, rule in rules.items() if rule.step == "qp"}
    offsets = size_offsets(sizes, options.qp_density)
    return rules | {name: replace(rules[name], qp_offset=offset) for name, offset in offsets.items()}


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Raises InputError unless metadata maps texts to texts."""
    if not isinstance(metadata, Mapping) or not all(
        isinstance(k, str) and isinstance(v, str) for k, v in metadata.items()
    ):
        raise InputError("metadata: must be a map of texts to texts")
    try:
        "".join((*metadata, *metadata.values())).encode()
    except UnicodeEncodeError:
        raise InputError("metadata: half of a surrogate pair cannot be coded") from None


def make_job(
    name: str, array: Array | Bfloat16Bits, place: int, names: Mapping[str, Any], options: CompressOptions
) -> TensorJob:
    """What there is to do for a tensor.

    Raises:
        InputError: If its name or number format cannot be coded.
    """
    if "\0" in name or any(0xD800 <= ord(letter) < 0xE000 for letter in name):
        raise InputError(f"tensor {name!r}: a name cannot hold a zero character or half of a surrogate pair")
    number_format = format_of(name, array)
    if number_format == "float64" and options.float64 == "exact":
        number_format = FLOAT64_BITS
    high = _unused_name(f"{name}.high", names) if number_format in (*WIDE_FORMATS, "float64") else ""
    return TensorJob(name, high, array, number_format, NodeId(0, place))


def _unused_name(name: str, names: Mapping[str, Any]) -> str:
    while name in names:
        name += "_"
    return name


def encode_all(
    job_of: Callable[[int], TensorJob],
    shapes: Sequence[tuple[int, ...]],
    options: CompressOptions,
    progress: Progress | None,
) -> list[EncodedTensor]:
    """The data units of each tensor.

    Args:
        job_of: What there is to do for a tensor, asked for when its turn has come, by several threads.
        shapes: The tensors' shapes.
        options: What was chosen.
        progress: Called with the values coded so far and their total.
    """
    sizes = [math.prod(shape) for shape in shapes]
    n_threads, n_total = thread_count(options.n_threads), sum(sizes)

    def encode(place: int) -> EncodedTensor:
        # One that is more than a thread's share takes the others' time when they have nothing left to do.
        is_large = sizes[place] * n_threads > n_total
        return encode_tensor(replace(job_of(place), n_threads=n_threads if is_large else 1), options)

    return run_all(encode, range(len(shapes)), sizes, n_threads, progress)


def write_network(
    shapes: Sequence[tuple[int, ...]],
    coded: Sequence[EncodedTensor],
    mps: ModelParameterSet,
    *,
    base: str = "",
    metadata: Mapping[str, str] | None = None,
    ties: tuple[Tie, ...] = (),
    graph: Graph | None = None,
) -> bytes:
    """A stream of coded tensors, with what their data units do not say of them in its manifest.

    Args:
        shapes: The tensors' shapes.
        coded: The tensors; those without data units are left out.
        mps: What they were coded with.
        base: Digest of the state that an update is for.
        metadata: What the sender says of the network.
        ties: Tensors that another one stands for.
        graph: The network's graph, if it has one.
    """
    kept = _within_raw_unit(coded)
    present = [(shape, tensor) for shape, tensor in zip(shapes, kept, strict=True) if tensor.units]
    odd = {
        place: shape for place, (shape, tensor) in enumerate(present) if tensor.units[0].tensor_dimension_list != shape
    }
    formats = {
        place: tensor.number_format
        for place, (shape, tensor) in enumerate(present)
        if tensor.number_format not in _PLAIN_FORMATS or 0 in shape or tensor.raw
    }
    raw = tuple(
        RawPart(place, tensor.raw.kind, len(tensor.raw.raw))
        for place, (_, tensor) in enumerate(present)
        if tensor.raw is not None
    )
    wide = frozenset(place for place, (_, tensor) in enumerate(present) if len(tensor.units) == 2)
    units = [unit for _, tensor in present for unit in tensor.units]
    manifest = Manifest(len(units), formats, odd, wide, base, metadata or {}, ties, raw=raw)
    return write_stream(units, mps, manifest, graph, b"".join(t.raw.raw for _, t in present if t.raw is not None))


def _within_raw_unit(coded: Sequence[EncodedTensor]) -> Sequence[EncodedTensor]:
    """The tensors, those without raw bytes if a raw unit does not pay or cannot hold more."""
    saved = sum(each.otherwise.size_bytes - each.size_bytes for each in coded if each.raw and each.otherwise)
    if saved < RAW_UNIT_BYTES and all(each.otherwise for each in coded if each.raw):
        return [each.otherwise or each for each in coded]
    n_bytes = sum(len(each.raw.raw) for each in coded if each.raw is not None)
    if n_bytes > MAX_RAW_BYTES:
        raise InputError(
            f"the tensors take {n_bytes} bytes that are kept as they are; {MAX_RAW_BYTES} are the most of a file: "
            "give the network in parts"
        )
    return coded
