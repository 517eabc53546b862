"""All tensors of a network to one stream."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vvc_nnr.bitstream.data_unit_fields import NodeId
from vvc_nnr.bitstream.graph import Graph
from vvc_nnr.bitstream.manifest import Manifest, Tie, find_ties
from vvc_nnr.bitstream.number_formats import (
    FLOAT64_BITS,
    WIDE_FORMATS,
    Array,
    Bfloat16Bits,
    NamedArrays,
    as_float32,
    coded_shape,
    format_of,
    shape_of,
)
from vvc_nnr.bitstream.parameter_sets import ModelParameterSet
from vvc_nnr.bitstream.qp import step_size
from vvc_nnr.bitstream.stream import write_stream
from vvc_nnr.coding.own_steps import OwnSteps, follows_spread, measured_spreads, steps_at, wanted_quality_db
from vvc_nnr.coding.tensor_encoder import EncodedTensor, TensorJob, encode_tensor, with_own_step
from vvc_nnr.errors import InputError, shown
from vvc_nnr.options import CompressOptions, thread_count
from vvc_nnr.parallel import Progress, run_all
from vvc_nnr.quantize.quality import (
    MAX_QUALITY_DB,
    MIN_QUALITY_DB,
    QUALITY_TOLERANCE_DB,
    WEAK_DB,
    Spreads,
)
from vvc_nnr.quantize.step_choice import size_offsets
from vvc_nnr.roles.by_name import named_roles
from vvc_nnr.roles.roles import RULES, Rule, TensorRole, override_roles

_log = logging.getLogger(__name__)
# Tensors that a warning names.
_SHOWN = 5
# A file of a given size: how many are tried, and from what share of it on it will do.
MAX_CANDIDATES, NEAR_SHARE = 6, 0.99
# What a data unit says itself.
_PLAIN_FORMATS = ("int32", "float32")


@dataclass(frozen=True, slots=True)
class CodedNetwork:
    """A network in a stream.

    Attributes:
        data: The stream.
        quality_db: Of the steps that follow from the tensors' own spread (`coding.own_steps`); None: none do.
        weak_db: SNR of the tensors that keep less than `quality.WEAK_DB`, by name.
    """

    data: bytes
    quality_db: float | None
    weak_db: Mapping[str, float]


def compress_arrays(
    arrays: NamedArrays,
    options: CompressOptions,
    progress: Progress | None = None,
    metadata: Mapping[str, str] | None = None,
    roles: Mapping[str, TensorRole] | None = None,
    graph: Graph | None = None,
) -> bytes:
    """The stream of `code_network`; tensors that lose most of themselves are named in a logged warning."""
    coded = code_network(arrays, options, progress, metadata, roles, graph)
    warn_of_weak(coded.weak_db)
    return coded.data


def warn_of_weak(weak_db: Mapping[str, float]) -> None:
    """Logs the names of tensors that keep less than WEAK_DB."""
    if weak_db:
        _log.warning("%s", weak_line(weak_db))


def weak_line(weak_db: Mapping[str, float]) -> str:
    """What is said of tensors that keep less than WEAK_DB, the worst first."""
    worst = sorted(weak_db, key=weak_db.__getitem__)
    named = ", ".join(f"{shown(name, 60)} ({weak_db[name]:.1f} dB)" for name in worst[:_SHOWN])
    more = f" and {len(worst) - _SHOWN} more" if len(worst) > _SHOWN else ""
    return (
        f"{len(worst)} tensors keep a signal-to-noise ratio of less than {WEAK_DB:.0f} dB: {named}{more}; "
        "give a higher quality, or a finer QP (qp, qp_per_tensor, for vectors nonweight_qp)"
    )


def code_network(
    arrays: NamedArrays,
    options: CompressOptions,
    progress: Progress | None = None,
    metadata: Mapping[str, str] | None = None,
    roles: Mapping[str, TensorRole] | None = None,
    graph: Graph | None = None,
) -> CodedNetwork:
    """A stream of all tensors, tied ones once.

    Args:
        arrays: The tensors.
        options: How they are coded.
        progress: Called with the values coded so far and their total.
        metadata: Texts that travel with them.
        roles: What the tensors are, by name; None: what their names tell.
        graph: The network's graph, if it has one.

    Raises:
        InputError: If an option, a name, a number format or a value cannot be coded, or a size cannot be kept.
    """
    options.check_names(arrays)
    check_metadata(metadata or {})
    told = named_roles(arrays) if roles is None else roles
    rules = tensor_rules(told, arrays, options)
    ties = find_ties(arrays)
    tied = {tie.name for tie in ties}
    own = {name: array for name, array in arrays.items() if name not in tied}
    mps = ModelParameterSet(mps_qp_density=options.qp_density)
    places = {name: place for place, name in enumerate(arrays)}
    jobs = {
        name: replace(make_job(name, array, places[name], arrays, options), rule=rules.get(name))
        for name, array in own.items()
    }
    shapes = [shape_of(array) for array in own.values()]

    def coded(steps: OwnSteps | None) -> CodedNetwork:
        own_jobs = [with_own_step(job, steps) for job in jobs.values()]
        units = encode_all(own_jobs.__getitem__, shapes, options, progress)
        data = write_network(shapes, units, mps, metadata=metadata, ties=ties, graph=graph)
        return CodedNetwork(data, steps.quality_db if steps else None, weak_tensors(jobs, units))

    return code_by_spread(own, rules, options, coded) if follows_spread(options) else coded(None)


def code_by_spread(
    arrays: NamedArrays,
    rules: Mapping[str, Rule],
    options: CompressOptions,
    coded: Callable[[OwnSteps], CodedNetwork],
) -> CodedNetwork:
    """A network with steps that follow from the spread of its tensors, at the quality or size that is asked for.

    Args:
        arrays: The tensors, or differences.
        rules: What each may lose; those without a rule go by their number of dimensions.
        options: What is asked for.
        coded: The network with some steps.

    Raises:
        InputError: If a value cannot be coded, or a size cannot be kept.
    """
    spreads = measured_spreads(arrays, rules, options)
    limit = options.max_bytes
    if options.bits_per_weight is not None:
        limit = int(options.bits_per_weight * sum(math.prod(shape_of(array)) for array in arrays.values()) / 8)
    if limit is None:
        return coded(steps_at(spreads, wanted_quality_db(spreads, options), options))
    return best_within(
        limit, spreads, options.qp_density, lambda quality_db: coded(steps_at(spreads, quality_db, options))
    )


def expected_snrs_db(
    arrays: NamedArrays, roles: Mapping[str, TensorRole], options: CompressOptions
) -> dict[str, float]:
    """The SNR that a QP or the tensors' own steps would leave, in dB, of those whose steps no role sets, by name.

    Args:
        arrays: The tensors; those with values that cannot be coded are left out.
        roles: What they are.
        options: How they would be coded.
    """
    rules = tensor_rules(roles, arrays, options)
    spreads = measured_spreads({n: a for n, a in arrays.items() if _is_finite(n, a)}, rules, options)
    if follows_spread(options):
        return dict(steps_at(spreads, wanted_quality_db(spreads, options), options).expected_db)
    weight_step, vector_step = (step_size(qp, options.qp_density) for qp in (options.weight_qp, options.vector_qp))
    own = {name: spread.snr_at(weight_step) for name, spread in spreads.weights.items()}
    return own | {name: spread.snr_at(vector_step) for name, spread in spreads.vectors.items()}


def _is_finite(name: str, array: Array | Bfloat16Bits) -> bool:
    try:
        return not format_of(name, array).startswith(("float", "bfloat")) or as_float32(name, array) is not None
    except InputError:
        return False


def weak_tensors(names: Iterable[str], coded: Sequence[EncodedTensor]) -> dict[str, float]:
    """SNR of the tensors that keep less than WEAK_DB, by name."""
    found = zip(names, coded, strict=True)
    return {name: tensor.weak_db for name, tensor in found if tensor.weak_db is not None}


def best_within(
    limit_bytes: int, spreads: Spreads, qp_density: int, candidate: Callable[[float], CodedNetwork]
) -> CodedNetwork:
    """The network of the highest quality that takes no more than a size.

    Args:
        limit_bytes: The size.
        spreads: Of its tensors, which tell where to look.
        qp_density: QP steps per octave as a power of two.
        candidate: The network at a quality in dB.

    Raises:
        InputError: If it cannot be kept.
    """
    lowest = candidate(MIN_QUALITY_DB)
    spare_bits = 8 * (limit_bytes - len(lowest.data))
    if spare_bits < 0:
        raise InputError(f"max_bytes: {limit_bytes} cannot be kept; the smallest file is {len(lowest.data)} bytes")
    best, bits = lowest, spreads.bits_at(MIN_QUALITY_DB, qp_density)
    low, high = MIN_QUALITY_DB, MAX_QUALITY_DB
    quality_db = spreads.quality_of(bits + spare_bits, qp_density)
    for _ in range(MAX_CANDIDATES):
        found = candidate(quality_db)
        if len(found.data) <= limit_bytes:
            best, low = found, quality_db
        else:
            high = quality_db
        is_near = len(best.data) >= NEAR_SHARE * limit_bytes
        if is_near or high - low < QUALITY_TOLERANCE_DB or low >= MAX_QUALITY_DB - QUALITY_TOLERANCE_DB:
            break
        spare_bits = 8 * (limit_bytes - len(found.data))
        aimed = spreads.quality_of(spreads.bits_at(quality_db, qp_density) + spare_bits, qp_density)
        quality_db = aimed if low < aimed < high else (low + high) / 2
    return best


def tensor_rules(roles: Mapping[str, TensorRole], arrays: NamedArrays, options: CompressOptions) -> dict[str, Rule]:
    """What each tensor may lose; empty without roles.

    Args:
        roles: What the tensors are, by name.
        arrays: The tensors.
        options: How they are coded.

    Raises:
        InputError: If an option for roles is given without roles, or is none.
    """
    if options.roles == "off":
        if options.role_of or options.qp_by_size:
            raise InputError('role_of, qp_by_size: have no effect with roles="off"')
        return {}
    found = override_roles(roles, options.role_of)
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
