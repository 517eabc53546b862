"""Incremental updates: the difference of two states of a network, coded in the light of the updates before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.data_unit import DataUnit, NodeId, ParentNode, ParentType, PayloadType
from vvc_nnr.bitstream.number_formats import (
    BITS_OF,
    Array,
    FloatBits,
    NamedArrays,
    as_float32,
    coded_shape,
    dtype_of,
    finite_float32,
    from_float32,
    in_format,
    is_float,
    may_lose,
    number_format_of,
    numpy_values,
    plain_array,
    shape_of,
)
from vvc_nnr.bitstream.parameter_sets import ModelParameterSet
from vvc_nnr.bitstream.stream import Buffer, CodedTensor, read_stream
from vvc_nnr.bitstream.ties import Tie, copies_of, find_ties, with_copies
from vvc_nnr.bitstream.units import StartUnit, TopologyUnit, write_units
from vvc_nnr.coding.coded_network import CodedNetwork, warn_of
from vvc_nnr.coding.decoder import check_size, decode_update, restored
from vvc_nnr.coding.encoder import PLAIN_FORMATS, KnownTensors, coded_network, encode_all, encode_changed, write_network
from vvc_nnr.coding.own_steps import OwnSteps, follows_spread
from vvc_nnr.coding.size_search import code_by_spread
from vvc_nnr.coding.tensor_encoder import with_own_step
from vvc_nnr.coding.tensor_job import USUAL_UNARY_LENGTH_MINUS1, EncodedTensor, TensorJob, make_job
from vvc_nnr.coding.unit_coding import TensorPast
from vvc_nnr.errors import BitstreamError, InputError, ShapeError, UnsupportedError, shown_names
from vvc_nnr.model.torch import named_arrays
from vvc_nnr.options import CompressOptions, check_max_elements, thread_count
from vvc_nnr.parallel import Progress, run_all
from vvc_nnr.quantize.snr import WEAK_DB, snr_db

_DIGEST_DIGITS = 32


@dataclass(frozen=True, slots=True, eq=False)
class TensorState:
    """A tensor between two updates.

    Args:
        values: The tensor, bfloat16 and float8 as float32.
        number_format: Its number format.
        levels: int32, what multiplied the step in its last update; None before the first, and for integers.
        history: uint8, 1 where any update was not zero; None like `levels`.
        depth: Number of updates that changed it.
    """

    values: Array
    number_format: str
    levels: NDArray[np.int32] | None = None
    history: NDArray[np.uint8] | None = None
    depth: int = 0

    @property
    def past(self) -> TensorPast:
        """What coding its next update depends on."""
        return TensorPast(self.levels, self.history)

    def copied(self) -> TensorState:
        """The same with values of its own."""
        return replace(self, values=self.values.copy())


@dataclass(frozen=True, slots=True, eq=False)
class BaseState:
    """A network between two updates; sender and receiver hold equal ones, and nothing else is shared.

    `vvc_nnr.load_into` gives a torch module the state's tensors. `arrays` are the weights, as `decompress` gives them:
    bfloat16 and float8 as float32.

    Args:
        tensors: Each tensor by name, with what coding its next update depends on: its values, number format and last
            levels, where it was ever changed, and how often. No function of this module changes them.
    """

    tensors: Mapping[str, TensorState] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Any) -> BaseState:
        """The state of a network without any update: a torch module, or a map of names to arrays or torch tensors.

        Raises:
            InputError: If it is neither, or a number format cannot be coded.
        """
        arrays = named_arrays(model)
        sources = {tie.name: tie.source for tie in find_ties(arrays)}
        tensors: dict[str, TensorState] = {}
        for name, array in arrays.items():
            source = tensors.get(sources.get(name, ""))
            tensors[name] = source or TensorState(_values(array), number_format_of(name, array))
        return cls(tensors)

    @property
    def arrays(self) -> dict[str, Array]:
        """The tensors' values by name, the weights after the last update; bfloat16 and float8 as float32."""
        return {name: tensor.values for name, tensor in self.tensors.items()}

    @property
    def exact_arrays(self) -> NamedArrays:
        """The tensors in their number formats by name, tied ones the same array; bfloat16 and float8 by their bits."""
        made = {id(tensor): in_format(tensor.values, tensor.number_format) for tensor in self.tensors.values()}
        return {name: made[id(tensor)] for name, tensor in self.tensors.items()}

    def digest(self) -> str:
        """A checksum of everything that an update depends on."""
        total = hashlib.sha256()
        for name, tensor in self.tensors.items():
            head = [name, tensor.number_format, tensor.values.shape, tensor.depth, tensor.levels is None]
            total.update(json.dumps(head).encode())
            for array in (tensor.values, tensor.levels, tensor.history):
                total.update(b"" if array is None else np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return total.hexdigest()[:_DIGEST_DIGITS]


@dataclass(frozen=True, slots=True)
class UpdateContexts:
    """What the probabilities of an update follow beside the update itself.

    Args:
        temporal: The levels of the last update.
        history: Where any update was, where that is shorter.
    """

    temporal: bool = True
    history: bool = True


BOTH_CONTEXTS = UpdateContexts()


def _values(array: Array | FloatBits) -> Array:
    values = numpy_values(array)
    return values if isinstance(array, FloatBits) else np.array(values, dtype=values.dtype.newbyteorder("="))


def compress_update(
    base: BaseState | Any,
    new: Any,
    *,
    options: CompressOptions | None = None,
    contexts: UpdateContexts = BOTH_CONTEXTS,
    brief: bool = False,
    progress: Progress | None = None,
) -> tuple[bytes, BaseState]:
    """What turns one state of a network into another, and the state that a receiver then has.

    The next update is to be made from that state, not from `new`: what this one lost is in the next difference.

    Args:
        base: The state that the receiver has; a model counts as one without any update before.
        new: The wanted state: the same names, shapes and number formats.
        options: QPs and quality are those of differences, roles play no part; not lossless, no codebooks, exact
            float64, QPs by size or thorough search. Differences that come back with less than 10 dB are named in a
            logged warning.
        contexts: What its probabilities follow.
        brief: Fewest bytes: tensors have their places in the base as names, and there is no manifest. What carries
            the update must then tell itself whether it is whole, and for this base.
        progress: Called with the values coded so far and their total.

    Returns:
        The update, a stream in which a tensor without any change does not occur, and `apply_update` of it.

    Raises:
        InputError: If an option has no effect, the states do not fit together, or a value cannot be coded.
        ShapeError: If a tensor's shape is another.
    """
    found, state = code_update(
        base, new, options or CompressOptions(), contexts=contexts, brief=brief, progress=progress
    )
    warn_of(found)
    return found.data, state


def code_update(
    base: BaseState | Any,
    new: Any,
    options: CompressOptions,
    *,
    contexts: UpdateContexts = BOTH_CONTEXTS,
    brief: bool = False,
    progress: Progress | None = None,
) -> tuple[CodedNetwork, BaseState]:
    """An update with what is known of its tensors, and the state that a receiver then has; nothing is logged.

    Args:
        base: The state that the receiver has; a model counts as one without any update before.
        new: The wanted state: the same names, shapes and number formats.
        options: QPs and quality are those of differences, roles play no part.
        contexts: What its probabilities follow.
        brief: Fewest bytes: tensors have their places in the base as names, and there is no manifest. What carries
            the update must then tell itself whether it is whole, and for this base.
        progress: Called with the values coded so far and their total.

    Returns:
        The update, in which differences that come back with less than 10 dB are named, and `apply_update` of it.

    Raises:
        InputError: If an option has no effect, the states do not fit together, or a value cannot be coded.
        ShapeError: If a tensor's shape is another.
    """
    _check_options(options)
    state, wanted = _as_state(base), named_arrays(new)
    options.check_names(state.tensors)
    _check_same(state, wanted)
    ties = _common_ties(state, wanted, options, brief=brief)
    tied, places = {tie.name for tie in ties}, {name: place for place, name in enumerate(state.tensors)}
    names = [name for name in state.tensors if name not in tied]
    shapes = [state.tensors[name].values.shape for name in names]
    mps = ModelParameterSet(mps_qp_density=options.qp_density, mps_parent_signalling_enabled_flag=True)
    digest, known = state.digest(), KnownTensors()

    def job(name: str, steps: OwnSteps | None) -> TensorJob:
        made = _job(name, places[name], state, wanted[name], options, contexts)
        return with_own_step(replace(made, unary_length_minus1=None if brief else USUAL_UNARY_LENGTH_MINUS1), steps)

    def coded(steps: OwnSteps | None) -> CodedNetwork:
        units = encode_changed(lambda at: job(names[at], steps), names, steps, known, shapes, options, progress)
        if brief:
            data = _brief_stream(state, mps, dict(zip(names, units, strict=True)), ties)
        else:
            changed = {name for name, tensor in zip(names, units, strict=True) if tensor.units}
            data = write_network(shapes, units, mps, base=digest, ties=_changed_ties(ties, changed))
        return coded_network(data, names, units, steps).with_copies(copies_of(ties))

    def size_bytes(steps: OwnSteps, other: CompressOptions) -> int:
        stepped = list(steps.qps)
        sizes = [state.tensors[name].values.shape for name in stepped]
        units = encode_all(lambda at: job(stepped[at], steps), sizes, other, None)
        return sum(tensor.size_bytes for tensor in units)

    differences = _float_differences(state, names, wanted) if follows_spread(options) else None
    found = coded(None) if differences is None else code_by_spread(differences, {}, options, coded, size_bytes)
    n_elements = sum(tensor.values.size for tensor in state.tensors.values())
    after = apply_update(state, found.data, max_elements=2 * n_elements + len(names), n_threads=options.n_threads)
    return replace(found, weak_db=_weak_db(found.weak_db, difference_snrs_db(state, after, wanted))), after


def _common_ties(state: BaseState, wanted: NamedArrays, options: CompressOptions, *, brief: bool) -> tuple[Tie, ...]:
    """The tensors that are the same as another one in both states; those of brief updates share memory."""
    shared = find_ties(wanted)
    ties = shared if brief else with_copies(wanted, shared, options.qp_per_tensor)
    return tuple(tie for tie in ties if _are_equal(state.tensors[tie.name], state.tensors[tie.source]))


def _changed_ties(ties: Sequence[Tie], changed: Collection[str]) -> tuple[Tie, ...]:
    """The ties of tensors that are changed by the tensors of these names, which are coded."""
    found, names = [], set(changed)
    for tie in ties:
        if tie.source in names:
            found.append(tie)
            names.add(tie.name)
    return tuple(found)


def _brief_stream(
    state: BaseState, mps: ModelParameterSet, coded: Mapping[str, EncodedTensor], ties: Sequence[Tie]
) -> bytes:
    """The units of tensors that changed without a manifest, each named by its place where no tensor has that name.

    Raises:
        InputError: If one is of a kind that only a manifest can tell.
    """
    units: list[DataUnit] = []
    for place, (name, old) in enumerate(state.tensors.items()):
        found = coded.get(name)
        if found is None or not found.units:
            continue
        (unit, *others), digits = found.units, str(place)
        is_tied = any(name == tie.source for tie in ties)
        if others or found.raw or is_tied or found.number_format not in PLAIN_FORMATS:
            kind = "shared by two names" if is_tied else old.number_format
            raise InputError(
                f"tensor {name!r} ({kind}, shape {old.values.shape}): a brief update holds differences of float32 and "
                "int32, of tensors that have one name; make one that is not brief"
            )
        units.append(replace(unit, topology_elem_id_list=(name if digits in state.tensors else digits,)))
    return b"".join(write_units([StartUnit(), mps, TopologyUnit(topology_data=b"\0"), *units]))


def _check_options(options: CompressOptions) -> None:
    """Raises InputError if an option is given that has no effect on updates."""
    idle = {
        "float64": options.float64 != "float32",
        "codebook": options.codebook != "off",
        "role_of": bool(options.role_of),
        "qp_by_size": options.qp_by_size,
        "lossless": options.lossless,
        "search": options.search != "fast",
        "local_scaling": options.local_scaling,
    }
    found = [name for name, is_given in idle.items() if is_given]
    if found:
        raise InputError(f"{', '.join(found)}: not possible in updates; take it away, or compress the network anew")


def _weak_db(coded_db: Mapping[str, float], snrs_db: Mapping[str, float]) -> dict[str, float]:
    """SNR of the differences that keep less than WEAK_DB, as a whole or in many rows, by name.

    Args:
        coded_db: Of those that do so as they were coded.
        snrs_db: Of all, as the receiver's number formats round them, as a whole.
    """
    found = {name: ratio_db for name, ratio_db in snrs_db.items() if ratio_db < WEAK_DB}
    return {**coded_db, **found}


def difference_snrs_db(base: BaseState | Any, after: BaseState, new: Any) -> dict[str, float]:
    """The signal-to-noise ratio in dB of the differences of each float tensor that changed, by name; inf if exact.

    Args:
        base: The state before an update.
        after: That after it.
        new: What was wanted.
    """
    state, wanted = _as_state(base), named_arrays(new)
    differences = _float_differences(state, list(state.tensors), wanted)
    found = {}
    for name, difference in differences.items():
        values = np.asarray(difference)
        if values.any():
            with np.errstate(invalid="ignore"):  # infinity less infinity
                received = after.tensors[name].values.astype(np.float64) - state.tensors[name].values
            found[name] = snr_db(values, np.where(np.isfinite(received), received, 0))
    return found


def _float_differences(state: BaseState, names: Sequence[str], wanted: NamedArrays) -> NamedArrays:
    """What is to be added to each float tensor, float32."""
    floats = [name for name in names if may_lose(state.tensors[name].number_format)]
    return {name: _difference(name, state.tensors[name], numpy_values(wanted[name])) for name in floats}


def _check_same(state: BaseState, wanted: NamedArrays) -> None:
    """Raises InputError or ShapeError unless all names, shapes and number formats are those of the state."""
    if state.tensors.keys() != wanted.keys():
        odd = sorted(state.tensors.keys() ^ wanted.keys())
        raise InputError(f"an update cannot add or remove tensors: {shown_names(map(repr, odd))}")
    for name, old in state.tensors.items():
        found, shape = number_format_of(name, wanted[name]), shape_of(wanted[name])
        if found not in (old.number_format, dtype_of(old.number_format)):
            raise InputError(f"tensor {name!r}: {found}, the base has {old.number_format}")
        if not may_lose(old.number_format) and not _can_hold(old.number_format, numpy_values(wanted[name])):
            raise InputError(
                f"tensor {name!r}: the base has {old.number_format}, which cannot hold all values of the new state: "
                f"round them to {old.number_format} first"
            )
        if shape != old.values.shape:
            raise ShapeError(f"tensor {name!r}: shape {shape}, the base has {old.values.shape}")


def _can_hold(number_format: str, values: Array) -> bool:
    """Whether a float8 format has all values; true of other number formats."""
    if not is_float(number_format):
        return True
    return np.array_equal(numpy_values(in_format(values, number_format)), values, equal_nan=True)


def _as_state(base: BaseState | Any) -> BaseState:
    return base if isinstance(base, BaseState) else BaseState.of(base)


def _job(
    name: str,
    place: int,
    state: BaseState,
    new: Array | FloatBits,
    options: CompressOptions,
    contexts: UpdateContexts,
) -> TensorJob:
    """What there is to code for a tensor.

    Raises:
        InputError: If a difference cannot be coded.
    """
    old = state.tensors[name]
    job = make_job(name, _difference(name, old, numpy_values(new)), state.tensors, options)
    is_temporal = contexts.temporal and old.levels is not None
    parent = ParentNode(ParentType.ID, temporal_context_modeling_flag=is_temporal)
    return replace(
        job,
        node_id=NodeId(0, place, old.depth + 1),
        parent=parent,
        past=replace(old.past, history=old.history if contexts.history else None),
    )


def _difference(name: str, old: TensorState, new: Array) -> Array:
    """What is to be added: float32, or signed integers modulo the range of the tensor's own, or of float8's bits."""
    if not may_lose(old.number_format):
        now, before = (plain_array(in_format(array, old.number_format)) for array in (new, old.values))
        return _integer_difference(now, before, old.number_format)
    precise = np.float64 if old.number_format == "float64" else np.float32
    with np.errstate(over="ignore", invalid="ignore"):
        difference = new.astype(precise, copy=False) - old.values.astype(precise, copy=False)
        unchanged = ~np.isfinite(difference) & ((new == old.values) | (np.isnan(new) & np.isnan(old.values)))
        difference = np.where(unchanged, precise(0), difference)
    values = as_float32(name, difference, "updates hold finite differences only; compress the network anew")
    if finite_float32(difference) is None:
        raise InputError(
            f"tensor {name!r}: differences of up to {np.abs(difference).max():.3g} are too small for float32, in which "
            "updates are coded; compress the network anew"
        )
    return values


def _integer_difference(new: Array, old: Array, number_format: str) -> Array:
    if number_format == "bool":
        return np.asarray(new ^ old)
    difference = np.atleast_1d(new) - np.atleast_1d(old)
    signed: Array = difference.view(f"int{8 * difference.itemsize}")
    return signed.reshape(new.shape)


def apply_update(
    base: BaseState | Any, data: Buffer, *, max_elements: int | None = None, n_threads: int | None = None
) -> BaseState:
    """The state of a network after an update.

    Args:
        base: The state before it; a model counts as one without any update before.
        data: The update.
        max_elements: Most values that are decoded, of all tensors together.
        n_threads: Threads; None: one per processor.

    Raises:
        BitstreamError: If the update is damaged, or not for this state.
        UnsupportedError: If it is legal, but needs what this package does not implement.
        InputError: If an option is out of range.
    """
    check_max_elements(max_elements)
    state, stream = _as_state(base), read_stream(data)
    if stream.manifest is not None and stream.manifest.base not in ("", state.digest()):
        raise BitstreamError(
            "the update is for another state of the network: it needs the base and all updates since, from the first",
            field="the manifest",
        )
    if not stream.is_update:
        raise BitstreamError("the stream is no update, decompress reads it", field="parent_node_id_present_flag")
    check_size(stream, max_elements)
    names = [_name_in(state, tensor) for tensor in stream.tensors]
    if len(set(names)) < len(names):
        raise BitstreamError("two updates of one tensor", field="topology_elem_id")
    changed = run_all(
        lambda tensor: _updated(tensor, state),
        [replace(tensor, name=name) for tensor, name in zip(stream.tensors, names, strict=True)],
        [tensor.n_elements for tensor in stream.tensors],
        thread_count(n_threads),
    )
    tensors = {**state.tensors, **dict(zip(names, changed, strict=True))}
    for tie in stream.ties:
        own, source = (state.tensors.get(name) for name in (tie.name, tie.source))
        if own is None or source is None or not _are_equal(own, source):
            raise BitstreamError(f"tensor {tie.name!r} of the base is not {tie.source!r}", field="the manifest")
        tensors[tie.name] = tensors[tie.source].copied() if tie.is_copy else tensors[tie.source]
    return BaseState(tensors)


def _name_in(state: BaseState, tensor: CodedTensor) -> str:
    """What the base calls a tensor of an update, which may be named by its place, as its identity says it too."""
    node = tensor.data_units[0].node_id
    if tensor.name in state.tensors or node is None or tensor.name != str(node.parameter_id):
        return tensor.name
    return next(islice(state.tensors, node.parameter_id, None), tensor.name)


def _are_equal(a: TensorState, b: TensorState) -> bool:
    """Whether two tensors are the same, so that an update of one is one of the other."""
    if a is b:
        return True
    pairs = ((a.values, b.values), (a.levels, b.levels), (a.history, b.history))
    return (a.number_format, a.depth) == (b.number_format, b.depth) and all(
        first is second or (first is not None and second is not None and _same_bits(first, second))
        for first, second in pairs
    )


def _same_bits(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def _updated(tensor: CodedTensor, state: BaseState) -> TensorState:
    """A tensor after an update of it.

    Raises:
        BitstreamError, UnsupportedError: If the update is not for it, or its payload breaks the format.
    """
    old = state.tensors.get(tensor.name)
    if old is None:
        raise BitstreamError(f"the base has no tensor {tensor.name!r}", field="topology_elem_id")
    _check(tensor, old)
    past = old.past if len(tensor.units) == 1 else TensorPast()
    decoded = [
        decode_update(unit, placed.parameter_sets, past, unit.n_elements)
        for unit, placed in zip(tensor.data_units, tensor.units, strict=True)
    ]
    difference = restored(tensor, tuple(part.values for part in decoded))
    levels = decoded[0].levels
    if not may_lose(old.number_format) or levels is None:
        return TensorState(_sum(old, difference), old.number_format, old.levels, old.history, old.depth + 1)
    levels = levels.reshape(old.values.shape)
    history = (levels != 0).view(np.uint8)
    history = history if old.history is None else history | old.history
    return TensorState(_sum(old, difference), old.number_format, levels, history, old.depth + 1)


def _check(tensor: CodedTensor, old: TensorState) -> None:
    """Raises unless the data units are for a tensor in this state."""
    unit = tensor.data_units[0]
    is_outliers = tensor.raw is not None and tensor.raw[0] == "outliers" and tensor.number_format == "float32"
    if tensor.has_values or (tensor.raw is not None and not is_outliers):
        message = f"tensor {tensor.name!r}: an update has no raw bytes but for outliers of float32"
        raise BitstreamError(message, field="the manifest")
    if unit.is_block or (unit.parent is not None and unit.parent.parent_node_id_type is not ParentType.ID):
        raise UnsupportedError(f"tensor {tensor.name!r}: updates of blocks, and parents that are given by a hash")
    shape, coded = old.values.shape, unit.tensor_dimension_list
    if coded_shape(shape) != coded or 0 in shape:
        raise BitstreamError(f"an update of shape {coded} for {tensor.name!r} of shape {shape}", field="dimensions")
    is_integer = unit.nnr_compressed_data_unit_payload_type is PayloadType.INT
    is_bits = tensor.number_format in BITS_OF.values()
    if (is_integer and not is_bits) == may_lose(old.number_format):
        raise BitstreamError(f"tensor {tensor.name!r} is {old.number_format}, its update is not", field="payload type")
    if unit.parent is None or not unit.parent.temporal_context_modeling_flag:
        return
    if old.levels is None:
        raise BitstreamError(f"tensor {tensor.name!r}: there was no update before", field="temporal contexts")
    if unit.node_id is not None and unit.node_id.put_node_depth != old.depth + 1:
        message = f"update {unit.node_id.put_node_depth} of {tensor.name!r}, {old.depth + 1} is the next"
        raise BitstreamError(message, field="put_node_depth")


def _sum(old: TensorState, difference: Array) -> Array:
    """A tensor's values with a difference added, in its number format."""
    if old.number_format == "bool":
        return np.asarray(old.values ^ difference.astype(bool).reshape(old.values.shape))
    if not may_lose(old.number_format):
        before = plain_array(in_format(old.values, old.number_format))
        integers: Array = np.atleast_1d(before) + np.atleast_1d(difference).astype(before.dtype)
        bits = integers.reshape(old.values.shape)
        return numpy_values(FloatBits(bits, old.number_format)) if is_float(old.number_format) else bits
    precise = np.float64 if old.number_format == "float64" else np.float32
    with np.errstate(over="ignore"):
        total = np.asarray(old.values.astype(precise) + difference.reshape(old.values.shape))
    rounded = total if old.number_format == "float64" else from_float32(total, old.number_format)
    return np.where(np.isfinite(old.values), rounded, old.values)
