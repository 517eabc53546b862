"""Networks to NNC streams: what each tensor may lose, ties, one step or one by spread, and the manifest."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TypeAlias

from vvc_nnr.bitstream.float8 import FLOAT8
from vvc_nnr.bitstream.graph import Graph
from vvc_nnr.bitstream.manifest import Manifest, RawPart, TieEntry
from vvc_nnr.bitstream.number_formats import NamedArrays, number_format_of, shape_of
from vvc_nnr.bitstream.parameter_sets import ModelParameterSet
from vvc_nnr.bitstream.qp import MAX_QP_DENSITY, step_size
from vvc_nnr.bitstream.stream import write_stream
from vvc_nnr.bitstream.ties import Tie, copies_of, find_ties, with_copies
from vvc_nnr.coding.coded_network import CodedNetwork, warn_of
from vvc_nnr.coding.local_scaling import local_scalings
from vvc_nnr.coding.own_steps import OwnSteps, Sensitivities, follows_spread, measured_spreads
from vvc_nnr.coding.reference_size import held_share, is_small, reference_bytes
from vvc_nnr.coding.size_search import Held, code_by_spread, default_steps, size_limit
from vvc_nnr.coding.tensor_encoder import as_values, encode_tensor, with_own_step, without_loss
from vvc_nnr.coding.tensor_job import (
    RAW_UNIT_BYTES,
    USUAL_UNARY_LENGTH_MINUS1,
    EncodedTensor,
    TensorFacts,
    TensorJob,
    make_job,
)
from vvc_nnr.errors import InputError
from vvc_nnr.model.container import container_size
from vvc_nnr.options import CompressOptions, element_limit, thread_count
from vvc_nnr.parallel import Progress, run_all
from vvc_nnr.quantize.quality import HIGHEST_QUALITY_DB, Spread
from vvc_nnr.quantize.step_choice import size_offsets
from vvc_nnr.roles.by_name import named_roles
from vvc_nnr.roles.gates import Candidate, candidates_by_name
from vvc_nnr.roles.roles import RULES, Role, Rule, TensorRole, override_roles, strictest_rule

# How many bytes a raw unit can hold.
MAX_RAW_BYTES = (1 << 31) - (1 << 12)

_log = logging.getLogger(__name__)

# Where less of a size that is asked for is used, QPs closer together are tried. The reference software reads them all.
DEFAULT_QP_DENSITY, USED_SHARE = 2, 0.95

# What a data unit says itself.
PLAIN_FORMATS = ("int32", "float32")


def compress_arrays(
    arrays: NamedArrays,
    options: CompressOptions,
    progress: Progress | None = None,
    metadata: Mapping[str, str] | None = None,
    roles: Mapping[str, TensorRole] | None = None,
    graph: Graph | None = None,
    input_bytes: int | None = None,
) -> bytes:
    """The stream of `code_network`.

    Tensors that lose most of themselves, those exact by outliers, and a stream larger than its input are logged.
    """
    coded = code_network(arrays, options, progress, metadata, roles, graph, input_bytes)
    warn_of(coded)
    return coded.data


def code_network(
    arrays: NamedArrays,
    options: CompressOptions,
    progress: Progress | None = None,
    metadata: Mapping[str, str] | None = None,
    roles: Mapping[str, TensorRole] | None = None,
    graph: Graph | None = None,
    input_bytes: int | None = None,
    sensitivities: Sensitivities | None = None,
) -> CodedNetwork:
    """A stream of all tensors, tied ones and copies once.

    Args:
        arrays: The tensors.
        options: How they are coded.
        progress: Called with the values coded so far and their total.
        metadata: Texts that travel with them; those that the graph has travel in it.
        roles: What the tensors are, by name; None: what their names tell.
        graph: The network's graph, if it has one.
        input_bytes: Size of the file that they are from; None: that of a safetensors file of them.
        sensitivities: What steps follow from; None: from spread, size and place alone.

    Raises:
        InputError: If an option, a name, a number format or a value cannot be coded, or a size cannot be kept.
    """
    options.check_names(arrays)
    _check_named_steps(arrays, options)
    check_metadata(metadata or {})
    metadata = _beyond_graph(metadata or {}, graph)
    ties = with_copies(arrays, find_ties(arrays), options.qp_per_tensor)
    copies = copies_of(ties)
    rules = rules_with_copies(tensor_rules(roles, arrays, options), copies)
    sensitivities = sensitivities and sensitivities.with_copies(copies)
    tied = {tie.name for tie in ties}
    own = {name: array for name, array in arrays.items() if name not in tied}
    mps = ModelParameterSet(mps_qp_density=options.qp_density)
    jobs = {
        name: replace(make_job(name, array, arrays, options), rule=rules.get(name), facts=TensorFacts())
        for name, array in own.items()
    }
    scalings = local_scalings(own, rules, options, arrays) if options.local_scaling else {}
    jobs |= {name: replace(jobs[name], scaling=scaling) for name, scaling in scalings.items()}
    divided = own | {name: scaling.divided_as(own[name]) for name, scaling in scalings.items()}
    shapes = [shape_of(array) for array in own.values()]

    names, known = list(jobs), KnownTensors()
    float8 = tuple(name for name, job in jobs.items() if job.number_format in FLOAT8)
    asked = (options.qp, options.bitdepth, options.quality, options.bits_per_weight, options.max_bytes)
    is_lossy_asked = any(each is not None for each in asked)
    by_default = replace(options, local_scaling=False) == CompressOptions(
        n_threads=options.n_threads, search=options.search
    )
    share = held_share(own) if by_default else 0.0

    @cache
    def plain_bytes() -> int | None:
        return None if graph else container_size(arrays, metadata or {})

    def coded(steps: OwnSteps | None) -> CodedNetwork:
        def job(place: int) -> TensorJob:
            return with_own_step(jobs[names[place]], steps)

        report = None if share and known else progress  # of other candidates few tensors are coded anew
        units = encode_changed(job, names, steps, known, shapes, options, report)
        data = write_network(shapes, units, mps, metadata=metadata, ties=ties, graph=graph)
        if len(names) == 1 and (alone := as_values(job(0), units[0], options, len(data))):
            whole = write_network(shapes, [alone], mps, metadata=metadata, ties=ties, graph=graph)
            # What the reference software does not read is for files that would grow.
            is_free = alone.number_format == "float32" or options.lossless or len(data) > (plain_bytes() or math.inf)
            if is_free and len(whole) <= len(data):
                units, data = [alone], whole
        told_bytes = plain_bytes() if input_bytes is None else input_bytes
        if told_bytes is not None and len(data) > told_bytes:
            exact = [without_loss(job(at), tensor, options) for at, tensor in enumerate(units)]
            shorter = [min(pair, key=lambda each: each.size_bytes) for pair in zip(units, exact, strict=True)]
            for tried in (list(_within_raw_unit(each)) for each in (shorter, exact)):
                whole = write_network(shapes, tried, mps, metadata=metadata, ties=ties, graph=graph)
                units, data = (tried, whole) if len(whole) < len(data) else (units, data)
        found = coded_network(data, names, units, steps, told_bytes, may_scale=options.local_scaling)
        found = replace(found, float8=float8) if is_lossy_asked else found
        return found.with_copies(copies)

    def size_bytes(steps: OwnSteps, other: CompressOptions) -> int:
        stepped = list(steps.qps)
        sizes = [shape_of(own[name]) for name in stepped]
        usual = {
            name: replace(jobs[name], unary_length_minus1=USUAL_UNARY_LENGTH_MINUS1, is_judged=False)
            for name in stepped
        }
        units = encode_all(lambda place: with_own_step(usual[stepped[place]], steps), sizes, other, None)
        return sum(tensor.size_bytes for tensor in units)

    if not follows_spread(options):
        return coded(None)
    if not share:
        found = code_by_spread(divided, rules, options, coded, size_bytes, None, sensitivities)
        limit_bytes = size_limit(own, options)
        if limit_bytes is None or not _may_use_more(found, limit_bytes, options):
            return found
        # Where one tensor has nearly all values, its next finer QP may take more than is left.
        denser = replace(options, qp_density=MAX_QP_DENSITY)
        finer = code_network(arrays, denser, None, metadata, roles, graph, input_bytes, sensitivities)
        return finer if len(found.data) < len(finer.data) <= limit_bytes else found
    # Texts and ties, which the reference software does not keep, are no reason for coarser weights.
    shared = tuple(tie for tie in ties if not tie.is_copy)
    texts = len(write_network([], [], mps, metadata=metadata, ties=shared)) - len(write_network([], [], mps))
    most = reference_bytes(own, graph.model if graph else None, thread_count(options.n_threads)) + texts
    held = Held(min(most, plain_bytes() or most), share, is_small(own))
    return code_by_spread(divided, rules, options, coded, size_bytes, held, sensitivities)


def _check_named_steps(arrays: NamedArrays, options: CompressOptions) -> None:
    """Raises InputError if a tensor of float8 is given a step."""
    for name in options.qp_per_tensor:
        number_format = number_format_of(name, arrays[name])
        if number_format in FLOAT8:
            raise InputError(
                f"qp_per_tensor: {name!r} is {number_format}, which is always exact: take it away, or make it float16"
            )


def _may_use_more(found: CodedNetwork, limit_bytes: int, options: CompressOptions) -> bool:
    """Whether a size is left unused that QPs closer together could use; where those are given they stay as they are."""
    has_qps = options.qp_density != DEFAULT_QP_DENSITY or options.qp_per_tensor or options.nonweight_qp != "fine"
    is_exact = found.quality_db is None or found.quality_db >= HIGHEST_QUALITY_DB
    return not (has_qps or is_exact) and len(found.data) < USED_SHARE * limit_bytes


def coded_network(
    data: bytes,
    names: Sequence[str],
    units: Sequence[EncodedTensor],
    steps: OwnSteps | None,
    input_bytes: int | None = None,
    *,
    may_scale: bool = False,
) -> CodedNetwork:
    """A stream with what is known of its tensors, and of the size of what it was made from.

    Args:
        data: The stream.
        names: Its tensors.
        units: What each became.
        steps: Those that follow from spread; None: none do.
        input_bytes: Size of what it was made from; None: not known.
        may_scale: Local scaling was asked for.
    """
    exact = tuple(name for name, tensor in zip(names, units, strict=True) if tensor.by_outliers)
    sizes = {name: tensor.size_bytes - tensor.more_bytes for name, tensor in zip(names, units, strict=True)}
    whole = frozenset(name for name, tensor in zip(names, units, strict=True) if tensor.is_exact)
    joined = tuple(name for name, tensor in zip(names, units, strict=True) if tensor.joins_levels)
    apart = frozenset(name for name, tensor in zip(names, units, strict=True) if tensor.keeps_outliers_alone)
    return CodedNetwork(
        data,
        steps.quality_db if steps else None,
        weak_tensors(names, units),
        exact,
        sizes,
        whole,
        input_bytes,
        joined,
        sum(tensor.more_bytes for tensor in units),
        tuple(name for name, tensor in zip(names, units, strict=True) if tensor.is_scaled) if may_scale else None,
        apart=apart,
    )


def expected_snrs_db(
    arrays: NamedArrays, roles: Mapping[str, TensorRole], options: CompressOptions
) -> dict[str, float]:
    """The SNR that a QP or the tensors' own steps would leave, in dB, of those whose steps no role sets, by name.

    Args:
        arrays: The tensors.
        roles: What they are.
        options: How they would be coded.
    """
    rules = tensor_rules(roles, arrays, options)
    spreads = measured_spreads(arrays, rules, options)
    if follows_spread(options):
        return dict(default_steps(spreads, options).expected_db)
    weight_step, vector_step = (step_size(qp, options.qp_density) for qp in (options.weight_qp, options.vector_qp))
    own = {name: spread.snr_at(weight_step) for name, spread in spreads.weights.items()}
    return own | {name: spread.snr_at(vector_step) for name, spread in spreads.vectors.items()}


def spreads_of(
    arrays: NamedArrays, roles: Mapping[str, TensorRole] | None, options: CompressOptions
) -> dict[str, Spread]:
    """The spread of each tensor whose step follows from it, by name; of tied ones of the first alone.

    Args:
        arrays: The tensors.
        roles: What they are; None: what their names tell.
        options: How they would be coded.

    Raises:
        InputError: If an option for roles cannot be used.
    """
    tied = {tie.name for tie in find_ties(arrays)}
    own = {name: array for name, array in arrays.items() if name not in tied}
    return measured_spreads(own, tensor_rules(roles, arrays, options), options).all


def weak_tensors(names: Iterable[str], coded: Sequence[EncodedTensor]) -> dict[str, float]:
    """SNR of the tensors that keep less than WEAK_DB, by name."""
    found = zip(names, coded, strict=True)
    return {name: tensor.weak_db for name, tensor in found if tensor.weak_db is not None}


def tensor_rules(
    roles: Mapping[str, TensorRole] | None, arrays: NamedArrays, options: CompressOptions
) -> dict[str, Rule]:
    """What each tensor may lose; empty without roles, and where none may lose anything.

    Args:
        roles: What the tensors are, by name; None: what their names tell.
        arrays: The tensors.
        options: How they are coded.

    Raises:
        InputError: If an option for roles is given without roles, or is none.
    """
    if options.lossless and not options.role_of and not options.qp_by_size:
        return {}
    if options.roles == "off":
        if options.role_of or options.qp_by_size:
            raise InputError('role_of, qp_by_size: have no effect with roles="off"')
        return {}
    found = override_roles(named_roles(arrays) if roles is None else roles, options.role_of)
    candidates = candidates_by_name({name: shape_of(array) for name, array in arrays.items()})
    rules = {name: _rule(told, candidates.get(name)) for name, told in found.items()}
    if not options.qp_by_size:
        return rules
    sizes = {name: math.prod(shape_of(arrays[name])) for name, rule in rules.items() if rule.step == "qp"}
    offsets = size_offsets(sizes, options.qp_density)
    return rules | {name: replace(rules[name], qp_offset=offset) for name, offset in offsets.items()}


def rules_with_copies(rules: Mapping[str, Rule], copies: Mapping[str, tuple[str, ...]]) -> dict[str, Rule]:
    """The rules, of a tensor that has copies the strictest of all of them.

    Args:
        rules: What each tensor may lose; empty: nothing says it.
        copies: The copies of tensors, by their names.
    """
    found = dict(rules)
    for name, others in copies.items():
        known = [rules[each] for each in (name, *others) if each in rules]
        if known:
            found[name] = replace(strictest_rule(known), copies=others)
    return found


def _rule(told: TensorRole, by_name: Candidate | None) -> Rule:
    """The rule of a role; of weights with the candidate that the operator or else the name tells, and as gates."""
    rule = RULES[told.role]
    if told.role is not Role.WEIGHT:
        return rule
    return replace(rule, candidate=told.candidate or by_name, is_gate=told.is_gate)


def _beyond_graph(metadata: Mapping[str, str], graph: Graph | None) -> Mapping[str, str]:
    """The texts that a graph does not hold itself."""
    if graph is None or not metadata:
        return metadata
    from vvc_nnr.model.onnx_graph import graph_metadata

    own = graph_metadata(graph.model)
    return {key: text for key, text in metadata.items() if own.get(key) != text}


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
        job, own_threads = job_of(place), n_threads if sizes[place] * n_threads > n_total else 1
        return encode_tensor(job if own_threads == job.n_threads else replace(job, n_threads=own_threads), options)

    return run_all(encode, range(len(shapes)), sizes, n_threads, progress)


KnownTensors: TypeAlias = dict[str, tuple[int | None, bool, EncodedTensor]]
"""Name to the QP of a tensor's own step, whether it is exact, and what came of it."""


def encode_changed(
    job_of: Callable[[int], TensorJob],
    names: Sequence[str],
    steps: OwnSteps | None,
    known: KnownTensors,
    shapes: Sequence[tuple[int, ...]],
    options: CompressOptions,
    progress: Progress | None,
) -> list[EncodedTensor]:
    """The data units of each tensor, as `encode_all` gives them; those whose steps are as before are not coded anew.

    Args:
        job_of: What there is to do for a tensor, by its place.
        names: The tensors' names.
        steps: Their own steps.
        known: What came of the last candidate, which takes this one's place; empty before the first.
        shapes: The tensors' shapes.
        options: What was chosen.
        progress: Called with the values coded so far, of those that are, and their total.
    """
    wanted = [(steps.qps.get(name), name in steps.exact) if steps else (None, False) for name in names]
    places = [at for at, name in enumerate(names) if name not in known or known[name][:2] != wanted[at]]
    made = encode_all(lambda at: job_of(places[at]), [shapes[at] for at in places], options, progress)
    known.update({names[at]: (*wanted[at], tensor) for at, tensor in zip(places, made, strict=True)})
    return [known[name][2] for name in names]


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
        ties: Tensors that another one stands for; those that stand for copies are among the coded ones.
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
        if tensor.number_format not in PLAIN_FORMATS or 0 in shape or tensor.raw
    }
    wide = frozenset(place for place, (_, tensor) in enumerate(present) if len(tensor.units) == 2)
    raw = tuple(
        RawPart(place, tensor.raw.kind, len(tensor.raw.raw))
        for place, (_, tensor) in enumerate(present)
        if tensor.raw is not None
    )
    units = [unit for _, tensor in present for unit in tensor.units]
    places = {tensor.units[0].topology_elem_id_list[0]: place for place, (_, tensor) in enumerate(present)}
    entries = tuple(TieEntry(t.place, t.name, places[t.source] if t.is_copy else t.source) for t in ties)
    manifest = Manifest(formats, odd, wide, base, metadata or {}, entries, raw=raw)
    data = write_stream(units, mps, manifest, graph, b"".join(t.raw.raw for _, t in present if t.raw is not None))
    n_copied = sum(math.prod(present[places[tie.source]][0]) for tie in ties if tie.is_copy)
    n_elements = sum(math.prod(shape) for shape, _ in present) + n_copied
    if n_elements > element_limit(None, len(data)):
        _log.warning(
            "%d values in %d bytes are read only where the limit of values is raised to that", n_elements, len(data)
        )
    return data


def _within_raw_unit(coded: Sequence[EncodedTensor]) -> Sequence[EncodedTensor]:
    """The tensors, those without raw bytes if a raw unit does not pay.

    Raises:
        InputError: If it cannot hold all bytes.
    """
    with_raw = [each for each in coded if each.raw is not None]
    saved = sum(each.otherwise.size_bytes - each.size_bytes for each in with_raw if each.otherwise)
    if saved < RAW_UNIT_BYTES and all(each.otherwise for each in with_raw):
        return [each.otherwise or each for each in coded]
    n_bytes = sum(len(each.raw.raw) for each in with_raw if each.raw is not None)
    if n_bytes > MAX_RAW_BYTES:
        have = "1 tensor has" if len(with_raw) == 1 else f"{len(with_raw)} tensors have"
        raise InputError(
            f"{have} {n_bytes} bytes that are kept as they are; {MAX_RAW_BYTES} are the most of "
            "a file: code the network in parts"
        )
    return coded
