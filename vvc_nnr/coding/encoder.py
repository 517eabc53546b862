"""Networks and single tensors to NNC data units: number format, QP, scan order, codebook, kernels; then one stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.data_unit import DataUnit, NodeId, ParentNode, PayloadType
from vvc_nnr.bitstream.graph import Graph
from vvc_nnr.bitstream.manifest import Manifest, Tie, find_ties
from vvc_nnr.bitstream.number_formats import (
    BITS_OF,
    FLOAT64_BITS,
    INTEGER_FORMATS,
    INTEGERS,
    LOSSLESS_CODES_THEM,
    WIDE_FORMATS,
    Array,
    Bfloat16Bits,
    NamedArrays,
    as_float32,
    as_int32,
    coded_shape,
    exact_float32,
    itemsize_of,
    nonzero,
    number_format_of,
    shape_of,
)
from vvc_nnr.bitstream.parameter_sets import ModelParameterSet
from vvc_nnr.bitstream.qp import step_size
from vvc_nnr.bitstream.stream import write_stream
from vvc_nnr.coding.unit_coding import TensorPast, encode_indices, make_params
from vvc_nnr.errors import InputError
from vvc_nnr.kernels.tensor_params import TensorParams
from vvc_nnr.options import CompressOptions, thread_count
from vvc_nnr.parallel import Progress, run_all
from vvc_nnr.quantize.codebooks import codebook_bits, make_codebook
from vvc_nnr.quantize.dependent import FAST, THOROUGH, UNIFORM, QuantizedTensor, quantize_indices
from vvc_nnr.quantize.step_choice import (
    MAX_LEVEL,
    Quantiser,
    choose_quantiser,
    exact_qp,
    size_offsets,
    with_signs,
)
from vvc_nnr.quantize.thorough import quantize_thoroughly
from vvc_nnr.roles.by_name import named_roles
from vvc_nnr.roles.roles import EXACT, RULES, Rule, TensorRole, override_roles

# A block row should have this many values before another decoder is started for it.
MIN_BLOCK_ROW_ELEMENTS = 1 << 14
# Numbers of block rows, the best first: what two threads of 16 decoders each share, or one, or half of one.
WANTED_BLOCK_ROWS = (32, 16, 8)
MAX_CODEBOOK_SIZE = 1 << 12


@dataclass(frozen=True, slots=True, eq=False)
class TensorJob:
    """A tensor to be coded.

    Args:
        name: Its name.
        high_name: The name of its high half, if it needs one.
        array: Its values; those of an update are differences.
        number_format: How they are to be coded, one of `number_formats.NUMBER_FORMATS`.
        node_id: Its place in the update tree.
        parent: What it is the difference to.
        past: What an update knows of the tensor before.
        n_threads: Threads for its block rows.
        rule: What the tensor may lose; None: what its number of dimensions says.
    """

    name: str
    high_name: str
    array: Array | Bfloat16Bits
    number_format: str
    node_id: NodeId
    parent: ParentNode | None = None
    past: TensorPast | None = None
    n_threads: int = 1
    rule: Rule | None = None


@dataclass(frozen=True, slots=True)
class EncodedTensor:
    """The data units of a tensor.

    Args:
        units: One, low and high half of integers that need two, or none: an update without any change.
        number_format: As which they were coded, one of `number_formats.NUMBER_FORMATS`.
    """

    units: tuple[DataUnit, ...]
    number_format: str


def encode_tensor(job: TensorJob, options: CompressOptions) -> EncodedTensor:
    """A tensor in data units.

    Raises:
        InputError: If a value cannot be coded.
    """
    if math.prod(shape_of(job.array)) == 0 and job.parent is not None:
        return EncodedTensor((), job.number_format)
    if math.prod(shape_of(job.array)) == 0:
        stand_in = _encode_integers(job, job.name, np.zeros(1, np.int32), options)
        return EncodedTensor((stand_in,), job.number_format)
    if job.number_format in INTEGER_FORMATS:
        return _encode_exactly(job, job.number_format, options)
    if options.lossless or job.rule == EXACT:
        return _encode_bit_exact(job, options)
    values = as_float32(job.name, job.array, "" if job.parent else LOSSLESS_CODES_THEM)
    if job.rule is not None and job.rule.keeps_sign and not np.array_equal(values != 0, nonzero(job.array)):
        return _encode_exactly(job, BITS_OF[job.number_format], options)
    quantiser = choose_quantiser(job.name, values, options, job.rule)
    if quantiser is None:
        return _encode_exactly(job, BITS_OF[job.number_format], options)
    unit = _encode_floats(job, values, quantiser, options)
    return EncodedTensor((unit,) if unit else (), job.number_format)


def _encode_bit_exact(job: TensorJob, options: CompressOptions) -> EncodedTensor:
    """A float tensor that loses nothing: as levels if they give every bit and are shorter, else by its bits."""
    values = exact_float32(job.array)
    limit = min(MAX_LEVEL, 1 << 8 * itemsize_of(job.array) - 3)
    qp = None if values is None else exact_qp(values, options.qp_density, limit)
    if values is None or qp is None:
        return _encode_exactly(job, BITS_OF[job.number_format], options)
    unit = _encode_floats(job, values, Quantiser(qp, use_dq=False, by_role=True), options)
    return EncodedTensor((unit,) if unit else (), job.number_format)


def _encode_exactly(job: TensorJob, number_format: str, options: CompressOptions) -> EncodedTensor:
    """Integers, or floats by their bits."""
    parts = as_int32(job.array, number_format)
    is_unchanged = job.parent is not None and number_format in INTEGERS and not any(part.any() for part in parts)
    named = [] if is_unchanged else zip((job.name, job.high_name), parts, strict=False)
    return EncodedTensor(tuple(_encode_integers(job, name, part, options) for name, part in named), number_format)


def scan_order_of(shape: tuple[int, ...], options: CompressOptions) -> int:
    """The scan order of a tensor: 0 unless it has several rows and columns."""
    n_rows, n_columns = shape[0], math.prod(shape[1:])
    if n_rows == 1 or n_columns == 1:
        return 0
    if options.scan_order != "auto":
        return options.scan_order
    for n_wanted, order in product(WANTED_BLOCK_ROWS, (4, 3, 2, 1)):
        side = 4 << order
        if n_rows > (n_wanted - 1) * side and side * n_columns >= MIN_BLOCK_ROW_ELEMENTS:
            return order
    return 0


def _encode_integers(job: TensorJob, name: str, values: NDArray[np.int32], options: CompressOptions) -> DataUnit:
    unit = _unit(job, name, PayloadType.INT, coded_shape(values.shape), options)
    return encode_indices(unit, values, None, options, job.past, n_threads=job.n_threads)


def _encode_floats(
    job: TensorJob, values: NDArray[np.float32], quantiser: Quantiser, options: CompressOptions
) -> DataUnit | None:
    """The data unit of a float tensor; None of an update without any change."""
    unit = _unit(job, job.name, PayloadType.FLOAT, coded_shape(values.shape), options)
    step = step_size(quantiser.qp, options.qp_density)
    if quantiser.max_level is not None:
        largest = np.float32(quantiser.max_level * step)
        values = np.clip(values, -largest, largest)
    is_plain = job.parent is None and not quantiser.by_role and not quantiser.keeps_sign
    wants_codebook = options.codebook != "off" and values.ndim > 1 and is_plain
    book = _by_codebook(unit, values, quantiser.qp, options) if wants_codebook else None
    if book is not None and options.codebook == "force":
        return book
    unit = replace(unit, dq_flag=quantiser.use_dq)
    params = replace(make_params(unit, unit.parts()[0], job.past), row_skip_allowed=options.row_skipping)
    found = _search(values, params, quantiser, options)
    if job.parent is not None and not found.indices.any():
        return None
    indices = with_signs(found.indices, values) if quantiser.keeps_sign else found.indices
    plain = encode_indices(unit, indices, quantiser.qp, options, job.past, found.skipped_rows, job.n_threads)
    return plain if book is None else min(plain, book, key=_size_bytes)


def _search(
    values: NDArray[np.float32], params: TensorParams, quantiser: Quantiser, options: CompressOptions
) -> QuantizedTensor:
    """The indices of a float tensor, by the search that its options ask for."""
    step = step_size(quantiser.qp, options.qp_density)
    is_thorough = options.search == "thorough" and quantiser.use_dq
    low_rate = (THOROUGH if is_thorough else FAST) if quantiser.use_dq else UNIFORM
    chosen = low_rate.lambda_of(values, step) if options.lambda_rd is None else options.lambda_rd
    lambda_rd = 0.0 if quantiser.by_role else chosen
    if not is_thorough or lambda_rd == 0:
        return quantize_indices(values, params, step, lambda_rd)
    sets = None if options.param_opt else np.zeros(params.layout().n_contexts, np.uint8)
    return quantize_thoroughly(values, params, step, lambda_rd, estimator_sets=sets)


def _by_codebook(unit: DataUnit, values: NDArray[np.float32], qp: int, options: CompressOptions) -> DataUnit | None:
    """The tensor by a codebook of its uniform levels; None if it has too many."""
    params = make_params(unit, unit.parts()[0])
    levels = quantize_indices(values, params, step_size(qp, options.qp_density)).indices
    found = make_codebook(levels, MAX_CODEBOOK_SIZE)
    if found is None:
        return None
    codebook, indices = found
    return encode_indices(replace(unit, codebook=codebook), indices, qp, options)


def _unit(job: TensorJob, name: str, kind: PayloadType, shape: tuple[int, ...], options: CompressOptions) -> DataUnit:
    """A data unit without its payload."""
    return DataUnit(
        kind, (name,), shape, b"", node_id=job.node_id, parent=job.parent, scan_order=scan_order_of(shape, options)
    )  # fmt: skip


def _size_bytes(unit: DataUnit) -> int:
    """Payload and codebook."""
    return len(unit.payload) + (codebook_bits(unit.codebook) // 8 if unit.codebook else 0)


# What a data unit says itself.
_PLAIN_FORMATS = ("int32", "float32")


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
    number_format = number_format_of(name, array)
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
    present = [(shape, tensor) for shape, tensor in zip(shapes, coded, strict=True) if tensor.units]
    odd = {place: shape for place, (shape, _) in enumerate(present) if coded_shape(shape) != shape}
    formats = {
        place: tensor.number_format
        for place, (shape, tensor) in enumerate(present)
        if tensor.number_format not in _PLAIN_FORMATS or 0 in shape
    }
    wide = frozenset(place for place, (_, tensor) in enumerate(present) if len(tensor.units) == 2)
    units = [unit for _, tensor in present for unit in tensor.units]
    return write_stream(units, mps, Manifest(len(units), formats, odd, wide, base, metadata or {}, ties), graph)
