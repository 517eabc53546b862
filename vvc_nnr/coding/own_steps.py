"""The QPs that a network's tensors get from their own spread, where no QP is given, at a quality or within a size."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace

import numpy as np

from vvc_nnr.bitstream.float8 import FLOAT8
from vvc_nnr.bitstream.number_formats import (
    Array,
    FloatBits,
    NamedArrays,
    finite_float32,
    may_lose,
    nearest_float32,
    number_format_of,
    shape_of,
)
from vvc_nnr.bitstream.qp import qp_limits, step_size
from vvc_nnr.errors import InputError, shown
from vvc_nnr.options import DEFAULT_QP, DEFAULT_VECTOR_QP, CompressOptions, thread_count
from vvc_nnr.parallel import run_all
from vvc_nnr.quantize.quality import (
    DEPENDENT_ERROR,
    EXACT_QUALITY_DB,
    HIGHEST_QUALITY_DB,
    LEAST_STEP_BITS,
    LOWEST_QUALITY_DB,
    MAX_QUALITY_DB,
    MIN_QUALITY_DB,
    NARROW_DB,
    QUALITY_TOLERANCE_DB,
    UNIFORM_ERROR,
    Spread,
    Spreads,
    less_spread_db,
    nearest_qp,
    spread_of,
)
from vvc_nnr.quantize.snr import WEAK_DB, few_apart
from vvc_nnr.roles.roles import Rule

_log = logging.getLogger(__name__)
# Tensors that a warning names.
_SHOWN = 5
# A file of a given size: how many are tried, and from what share of it on it will do.
MAX_CANDIDATES, NEAR_SHARE = 16, 0.99
# Sizes jump, and may fall where quality rises: what is tried above the lowest quality that is known not to fit.
ABOVE_DB = (0.25, 0.5, 1.0)
# The default takes so much of what the reference software's steps would, by an estimate that is good to one or, at few
# bits per value, three per cent; less what a file has beside its tensors, more for what that software has beside each.
BUDGET_SHARE, LOW_BUDGET_SHARE, LOW_BITS = 0.992, 0.962, 3.3
# Weights that take so much more or less than samples tell, as runs of zeros do: then coding tells what the reference
# software's steps take, of which the default has another share, and what its own do, at so many more qualities.
ESTIMATE_TOLERANCE, CODED_BUDGET_SHARE, MAX_CORRECTIONS, FULL_SHARE = 0.03, 0.99, 3, 0.99
# All but very large networks are held against that software's whole file; what is tried, also of small ones, and how
# little the tensors of these may take.
MAX_HELD_CORRECTIONS, MAX_SMALL_CORRECTIONS, HELD_FULL_SHARE, HELD_AIM, SMALL_SHARE = 3, 8, 0.997, 0.9985, 0.4
# One that loses nothing at all may take so much of it.
EXACT_SHARE = 1.25
# Large levels take that software less.
HIGH_BUDGET_SHARE, HIGH_BITS = 0.977, 9.0
FILE_BYTES, FILE_SHARE, TENSOR_BYTES = 400, 0.08, 20
# Beside the integer weights of a quantised network a small error of a float moves what is quantised after it over a
# border. So floats there get a share of the bytes of integers more, which these are shorter by than deflated.
BESIDE_SHARE = 0.00035
# And where the network is held against that software's file so many bits a value more, 20 dB, if that file has room.
BESIDE_BITS, MAX_BESIDE = 10 / 3, 3
# Added to the SNR of the first weights in a network's order and taken from that of the last, in between in proportion:
# errors of early layers pass through all others. Those of the last are evened out by none.
EARLY_DB, LAST_DB = 3.0, 10.0
# Added to that of biases, norms and other vectors, which cost next to nothing.
VECTOR_DB = 9.0


@dataclass(frozen=True, slots=True)
class OwnSteps:
    """Steps that follow the spread of the tensors.

    Attributes:
        quality_db: SNR of the tensor that the average weight is in.
        qps: Tensor to QP.
        expected_db: Tensor to the SNR that its QP is expected to leave.
        exact: Tensors that need a finer step than there is, and so are exact.
    """

    quality_db: float
    qps: Mapping[str, int]
    expected_db: Mapping[str, float]
    exact: frozenset[str]


def follows_spread(options: CompressOptions) -> bool:
    """Whether the steps of weights follow from the tensors' own spread: no option says them, or `quality` does."""
    by_option = options.qp is not None or options.bitdepth is not None or options.qp_by_size
    return not (by_option or options.lossless or options.roles == "off")


def default_steps(spreads: Spreads, options: CompressOptions) -> OwnSteps:
    """The steps at the quality that is asked for, or with about the bytes of the reference software at its QPs."""
    if options.quality is not None:
        return steps_at(spreads, options.quality, options)
    return _steps_within(_budget_bits(spreads), spreads, options)


def _steps_within(
    budget_bits: float, spreads: Spreads, options: CompressOptions, least_db: float | None = None
) -> OwnSteps:
    """The best steps with which the tensors take so many bits, by samples, and keep so much; None: by the bits."""
    if least_db is None:
        least_db = spreads.least_db_within(budget_bits, options.qp_density)
    quality_db, qps = spreads.qps_within(budget_bits, options.qp_density, least_db)
    return steps_at(spreads, quality_db, options, least_db, qps if options.use_dq else None)


def _budget_bits(spreads: Spreads) -> float:
    """What the tensors may take together, by samples."""
    bits = 8.0 * BESIDE_SHARE * spreads.n_quantised
    for spread in spreads.all.values():
        own = spread.bits_at(step_size(_reference_qp(spread), 2), is_searched=False)
        is_high = spread.n_axes > 1 and own > HIGH_BITS * spread.n_values
        share = HIGH_BUDGET_SHARE if is_high else BUDGET_SHARE
        bits += own * (LOW_BUDGET_SHARE if own < LOW_BITS * spread.n_values else share) + 8 * TENSOR_BYTES
    return bits - min(8 * FILE_BYTES, FILE_SHARE * bits)


def _reference_qp(spread: Spread) -> int:
    """That of the reference software at density 2, which has a fine step for all of one axis."""
    return DEFAULT_QP if spread.n_axes > 1 else DEFAULT_VECTOR_QP


def steps_at(
    spreads: Spreads,
    quality_db: float,
    options: CompressOptions,
    least_db: float | None = None,
    near: Mapping[str, int] | None = None,
) -> OwnSteps:
    """The steps of tensors of known spread at a quality in dB.

    Where no step is as fine as a small tensor's, the finest one does if it leaves the quality, of the default at least
    NARROW_DB; if not, it is exact.

    Args:
        spreads: Those of the tensors.
        quality_db: The quality.
        options: How they are coded.
        least_db: What each keeps, as in `Spreads.steps_at`.
        near: QPs near those of the quality, to be taken instead.
    """
    error = DEPENDENT_ERROR if options.use_dq else UNIFORM_ERROR
    density = options.qp_density
    steps, low = spreads.steps_at(quality_db, error, least_db), step_size(qp_limits(density)[0], density)
    wanted_db = quality_db if least_db is None else max(quality_db, NARROW_DB)
    steps = {
        name: max(step, low) if spreads[name].snr_at(low, error) >= wanted_db else step for name, step in steps.items()
    }
    fine_enough = {name: step for name, step in steps.items() if step >= max(low, spreads[name].finest)}
    qps = {name: near[name] if near else nearest_qp(step, density) for name, step in fine_enough.items()}
    expected = {name: spreads[name].snr_at(step_size(qp, density), error) for name, qp in qps.items()}
    return OwnSteps(quality_db, qps, expected, frozenset(steps.keys() - qps.keys()))


def measured_spreads(
    arrays: Mapping[str, Array | FloatBits],
    rules: Mapping[str, Rule],
    options: CompressOptions,
) -> Spreads:
    """The spreads of the tensors whose steps no option gives; exact tensors have none, as those of infinite values are.

    Args:
        arrays: The tensors.
        rules: What each may lose; those without a rule go by their number of dimensions.
        options: Of which `qp_per_tensor` and `nonweight_qp` leave tensors out.
    """
    kinds = {name: _kind(name, array, rules.get(name), options) for name, array in arrays.items()}
    wanted = {"qp", "nonweight_qp"} if options.nonweight_qp == "fine" else {"qp"}
    names = [name for name, kind in kinds.items() if kind in wanted and name not in options.qp_per_tensor]
    found = run_all(
        lambda name: _spread(arrays[name], rules.get(name)),
        names,
        [math.prod(shape_of(arrays[name])) for name in names],
        thread_count(options.n_threads),
    )
    spreads = {name: spread for name, spread in zip(names, found, strict=True) if spread is not None}
    weights = {name: spread for name, spread in spreads.items() if kinds[name] == "qp"}
    vectors = {name: spread for name, spread in spreads.items() if kinds[name] != "qp"}
    n_quantised = sum(math.prod(shape_of(array)) for name, array in arrays.items() if _is_quantised(name, array))
    return Spreads(weights, vectors, _offsets_db(weights, vectors, rules, n_quantised), n_quantised)


def _offsets_db(
    weights: Mapping[str, Spread], vectors: Mapping[str, Spread], rules: Mapping[str, Rule], n_quantised: int
) -> dict[str, float]:
    """What is added to the SNR of each tensor for its kind and its place in the network, in the order of `rules`.

    Floats beside a quantised network's own weights do not tell their places. Weights of recurrent layers keep the SNR
    of what makes the new state; those of the state get no finer step than those of the layer's input, and are no last
    layer. A weight that stands for copies is in all their places, and keeps what it does in the best of them.
    """
    found = dict.fromkeys(vectors, VECTOR_DB) | {name: spread.candidate_db for name, spread in weights.items()}
    places = {name: place for place, name in enumerate(rules)}
    copies = {copy: name for name in weights if name in rules for copy in rules[name].copies}
    ordered = [copies.get(name, name) for name in sorted((*weights, *copies), key=lambda name: places.get(name, 0))]
    candidates = {name: rules[name].candidate for name in weights if name in rules}
    of_state = {name: told.input_weight for name, told in candidates.items() if told and told.input_weight in weights}
    if n_quantised <= sum(spread.n_values for spread in weights.values()):
        last = max(1, len(ordered) - 1)
        by_place = [EARLY_DB * (1 - 2 * place / last) for place in range(len(ordered))]
        if len(ordered) > 1:
            by_place[max((at for at, name in enumerate(ordered) if name not in of_state), default=last)] += LAST_DB
        best: dict[str, float] = {}
        for name, more_db in zip(ordered, by_place, strict=True):
            best[name] = max(more_db, best.get(name, -math.inf))
        for name, more_db in best.items():
            found[name] += more_db
    for name, other in of_state.items():
        own, of_input = weights[name], weights[other]
        same_step_db = 20 * math.log10(own.rms / of_input.rms) + 10 * math.log10(own.n_values / of_input.n_values)
        found[name] = min(found[name], found[other] + same_step_db)
    return found


def _is_quantised(name: str, array: Array | FloatBits) -> bool:
    return len(shape_of(array)) > 1 and number_format_of(name, array) in ("int8", "uint8", *FLOAT8)


def _spread(array: Array | FloatBits, rule: Rule | None) -> Spread | None:
    values = finite_float32(array)
    if values is None and (odd := few_apart(nearest_float32(array))) is not None:
        values = np.where(odd, np.float32(0), nearest_float32(array))
    if values is None:
        return None
    spread = spread_of(values, is_added=rule is not None and rule.is_added)
    if spread is not None and (least_bits := LEAST_STEP_BITS.get(number_format_of("", array))):
        spread = replace(spread, least_step=spread.rms * 2.0**-least_bits)
    if spread is None or rule is None or rule.candidate is None:
        return spread
    return replace(spread, candidate_db=less_spread_db(values, rule.candidate.of(values)))


def _kind(name: str, array: Array | FloatBits, rule: Rule | None, options: CompressOptions) -> str:
    """Where the step of a tensor comes from; "exact" of empty ones and what its format or an option keeps exact."""
    shape, number_format = shape_of(array), number_format_of(name, array)
    if (
        not math.prod(shape)
        or not may_lose(number_format)
        or (number_format == "float64" and options.float64 == "exact")
    ):
        return "exact"
    if rule is None:
        return "qp" if len(shape) > 1 else "nonweight_qp"
    return rule.step


@dataclass(frozen=True, slots=True)
class CodedNetwork:
    """A network in a stream.

    Attributes:
        data: The stream.
        quality_db: Of the steps that follow from the tensors' own spread (`coding.own_steps`); None: none do.
        weak_db: SNR of the tensors that keep less than `quality.WEAK_DB`, as a whole or in many rows, by name.
        by_outliers: Tensors that keep huge, infinite or NaN values, or all of theirs, exactly, for no step does for
            those and the others.
        sizes_bytes: Payloads and raw bytes of each tensor, by name, without `more_bytes`.
        exact: Tensors that are exact, or as near as the finest step, though they have one, since that is no longer.
        input_bytes: Size of the file that it was made from, or of a safetensors file of its tensors; None: not known.
        joined: Tensors of few different values of which two come out alike.
        more_bytes: What tensors of few different values take more, so that none is lost; the budget is for the others.
        scaled: Tensors whose rows have scales, which other decoders may give apart; None: not asked for.
        float8: Tensors of float8 that are exact although an option says what floats may lose.
    """

    data: bytes
    quality_db: float | None
    weak_db: Mapping[str, float]
    by_outliers: tuple[str, ...] = ()
    sizes_bytes: Mapping[str, int] = field(default_factory=dict)
    exact: frozenset[str] = frozenset()
    input_bytes: int | None = None
    joined: tuple[str, ...] = ()
    more_bytes: int = 0
    scaled: tuple[str, ...] | None = None
    float8: tuple[str, ...] = ()

    def with_copies(self, copies: Mapping[str, Sequence[str]]) -> CodedNetwork:
        """The same, in which what is said of a tensor is said of its copies too.

        Args:
            copies: The copies of tensors, by their names.
        """
        if not copies:
            return self

        def both(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(each for name in names for each in (name, *copies.get(name, ())))

        return replace(
            self,
            weak_db={each: ratio_db for name, ratio_db in self.weak_db.items() for each in both((name,))},
            by_outliers=both(self.by_outliers),
            joined=both(self.joined),
            scaled=None if self.scaled is None else both(self.scaled),
            float8=both(self.float8),
        )

    @property
    def growth_bytes(self) -> int:
        """How much larger the stream is than its input; 0 if it is not."""
        return 0 if self.input_bytes is None else max(0, len(self.data) - self.input_bytes)


@dataclass(frozen=True, slots=True)
class Sensitivities:
    """What noise in each tensor does to a network's outputs.

    Attributes:
        per_mse: Noise power of the outputs over their own for a mean squared error of 1, by name; 0 if it is not known.
        share: How far a tensor's SNR goes, in dB, from what spread, size and place tell (0) to what these tell (1).
    """

    per_mse: Mapping[str, float]
    share: float = 1.0

    def with_copies(self, copies: Mapping[str, Sequence[str]]) -> Sensitivities:
        """The same where noise in a tensor is noise in its copies too.

        Args:
            copies: The copies of tensors, by their names.
        """
        summed = {name: sum(self.per_mse.get(each, 0.0) for each in (name, *others)) for name, others in copies.items()}
        return replace(self, per_mse={**self.per_mse, **summed})


@dataclass(frozen=True, slots=True)
class Held:
    """The file of a network by the reference software, which the default is to take.

    Attributes:
        n_bytes: Its size.
        share: 1: the default takes that, 0: what its tensors take, in between in proportion.
        is_small: Whether it may take more where its tensors would lose too much else.
    """

    n_bytes: int
    share: float
    is_small: bool


def warn_of(coded: CodedNetwork) -> None:
    """Logs what the user of a coded network is to know of its tensors, and of its size."""
    lines = [
        weak_line(coded.weak_db) if coded.weak_db else "",
        outliers_line(coded.by_outliers) if coded.by_outliers else "",
        joined_line(coded.joined) if coded.joined else "",
        "" if coded.scaled is None else scaled_line(coded.scaled),
        float8_line(coded.float8) if coded.float8 else "",
        growth_line(coded) if coded.growth_bytes else "",
    ]
    for line in filter(None, lines):
        _log.warning("%s", line)


def growth_line(coded: CodedNetwork) -> str:
    """What is said of a stream that is larger than its input."""
    return f"{coded.growth_bytes} bytes larger than the input, of {coded.input_bytes} bytes"


def listed(names: Sequence[str], notes: Mapping[str, str] | None = None) -> str:
    """The first names, each with its note if there are any, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(shown(name, 60) + (f" ({notes[name]})" if notes else "") for name in names[:_SHOWN]) + more


def _counted(names: Sized, one: str, many: str) -> str:
    """Tensors and what they do: of one, of many."""
    return f"1 tensor {one}" if len(names) == 1 else f"{len(names)} tensors {many}"


def float8_line(names: Sequence[str]) -> str:
    """What is said of tensors that are exact whatever an option says, and what to do."""
    are = _counted(names, "of float8 is exact", "of float8 are exact")
    them = "it make it" if len(names) == 1 else "them make them"
    return (
        f"{are}, whatever step, quality or size is given: {listed(names)}; to quantise {them} float16 or float32 first"
    )


def scaled_line(names: Sequence[str]) -> str:
    """What is said of tensors that have scales of rows, or that none has."""
    if not names:
        return (
            "local scaling: no tensor has scales for its rows: of none it can be told that the next weight takes its "
            "rows so unlike that scales pay"
        )
    return (
        f"{_counted(names, 'has', 'have')} a scale for each row: {listed(names)}; other decoders, as the reference "
        "software, may give it apart, as NAME_scaling, which the rows of NAME must be multiplied by"
    )


def joined_line(names: Sequence[str]) -> str:
    """What is said of tensors of few different values of which two come out alike, and what to do."""
    have = _counted(names, "of few different values has", "of few different values have")
    finer = "a finer QP (of one tensor qp_per_tensor), or none and no quality or size, which keeps them apart"
    return f"{have} some that come out alike: {listed(names)}; give {finer}"


def outliers_line(names: Sequence[str]) -> str:
    """What is said of tensors whose outliers are exact, and what to do."""
    have = _counted(names, "has", "have")
    exact = "it is exact" if len(names) == 1 else "they are exact"
    return (
        f"{have} huge, infinite or NaN values beside which no step does for the others: {listed(names)}; {exact}, in "
        "bytes that other decoders may not read: clip these values if they are a fault"
    )


def weak_line(weak_db: Mapping[str, float]) -> str:
    """What is said of tensors that keep less than WEAK_DB, and what to do."""
    finer = "a finer QP (of one tensor qp_per_tensor, of vectors nonweight_qp)"
    return f"{weak_names(weak_db)}; give a higher quality, or {finer}"


def weak_names(weak_db: Mapping[str, float]) -> str:
    """The names of tensors that keep less than WEAK_DB, the worst first."""
    worst = sorted(weak_db, key=weak_db.__getitem__)
    named = listed(worst, {name: f"{ratio_db:.1f} dB" for name, ratio_db in weak_db.items()})
    kept = f"a signal-to-noise ratio of less than {WEAK_DB:.0f} dB, as a whole or in many rows"
    return f"{_counted(worst, 'keeps', 'keep')} {kept}: {named}"


def code_by_spread(
    arrays: NamedArrays,
    rules: Mapping[str, Rule],
    options: CompressOptions,
    coded: Callable[[OwnSteps], CodedNetwork],
    size_bytes: Callable[[OwnSteps, CompressOptions], int],
    held: Held | None = None,
    sensitivities: Sensitivities | None = None,
) -> CodedNetwork:
    """A network with steps that follow from the spread of its tensors, at the quality or size that is asked for.

    Args:
        arrays: The tensors, or differences.
        rules: What each may lose; those without a rule go by their number of dimensions.
        options: What is asked for.
        coded: The network with some steps.
        size_bytes: What the tensors that have steps take together, with other options.
        held: The file of the network by the reference software; None: the default goes by what its tensors take.
        sensitivities: What noise in each tensor does to the outputs (`Spreads.by_sensitivity`); None: steps follow
            from spread, size and place alone.

    Raises:
        InputError: If a value cannot be coded, or a size cannot be kept.
    """
    spreads = measured_spreads(arrays, rules, options)
    if sensitivities is not None:
        spreads = spreads.by_sensitivity(sensitivities.per_mse, sensitivities.share)
    limit = size_limit(arrays, options)
    if limit is None:
        by_default = None
        if held is None or held.share < 1:
            by_default = _code_by_default(spreads, options, coded, size_bytes)
        by_file = _code_held(spreads, options, coded, held, by_default) if held and spreads.all else None
        return by_file or by_default or _code_by_default(spreads, options, coded, size_bytes)
    found = best_within(
        limit, spreads, options.qp_density, lambda quality_db: coded(steps_at(spreads, quality_db, options))
    )
    if len(found.data) > limit:
        asked = f"max_bytes: {limit} cannot be kept"
        if options.bits_per_weight is not None:
            asked = f"bits_per_weight: {options.bits_per_weight:g}, which is {limit} bytes, cannot be kept"
        raise InputError(f"{asked}; the smallest file is {len(found.data)} bytes")
    return found


def size_limit(arrays: NamedArrays, options: CompressOptions) -> int | None:
    """The size in bytes that is asked for; None if none is."""
    if options.bits_per_weight is None:
        return options.max_bytes
    return int(options.bits_per_weight * sum(math.prod(shape_of(array)) for array in arrays.values()) / 8)


def _code_by_default(
    spreads: Spreads,
    options: CompressOptions,
    coded: Callable[[OwnSteps], CodedNetwork],
    size_bytes: Callable[[OwnSteps, CompressOptions], int],
) -> CodedNetwork:
    """The network by `default_steps`, or where samples misjudge its weights by steps whose bytes are told by coding."""
    steps = default_steps(spreads, options)
    found = coded(steps)
    if options.quality is not None or not options.use_dq or not _are_misjudged(spreads, steps, found, options):
        return found
    reference = {name: _reference_qp(spread) for name, spread in spreads.all.items()}
    density = options.qp_density
    qps = {name: nearest_qp(step_size(qp, 2), density) for name, qp in reference.items()}
    plain = replace(options, lambda_rd=0.0, search="fast")
    n_bytes = size_bytes(OwnSteps(steps.quality_db, qps, {}, frozenset()), plain) + TENSOR_BYTES * len(qps)
    limit_bytes = CODED_BUDGET_SHARE * n_bytes + BESIDE_SHARE * spreads.n_quantised
    limit_bytes -= min(FILE_BYTES, FILE_SHARE * limit_bytes)

    def own_bytes(network: CodedNetwork) -> int:
        return sum(network.sizes_bytes[name] for name in spreads.all)

    best, budget_bits = found, spreads.bits_of(steps.qps, density)
    for _ in range(MAX_CORRECTIONS):
        if FULL_SHARE * limit_bytes <= own_bytes(best) <= limit_bytes:
            break
        budget_bits *= limit_bytes / own_bytes(found)
        found = coded(_steps_within(budget_bits, spreads, options))
        best = max(best, found, key=lambda each: _within(own_bytes(each), limit_bytes))
    return best


def _code_held(
    spreads: Spreads,
    options: CompressOptions,
    coded: Callable[[OwnSteps], CodedNetwork],
    held: Held,
    as_large: CodedNetwork | None,
) -> CodedNetwork | None:
    """A network in a file that is about as large as the reference software's, and no larger.

    Where that cannot be, the tensors of a small one keep SMALL_SHARE of what they take by default; a larger one has no
    such file (None). Where other tensors, which are exact, take more than those that have steps, what these may take
    does not follow from it, but for what it leaves (`_finer_beside`). None too where that file would be no good to a
    tensor. `as_large` is the network as one that is not held; None: the share is 1.
    """
    steps = default_steps(spreads, options)
    found = by_default = coded(steps)

    def own_bytes(network: CodedNetwork) -> int:
        return sum(network.sizes_bytes[name] for name in spreads.all)

    if found.by_outliers:
        return None
    if sum(found.sizes_bytes.values()) > 2 * own_bytes(found):
        return _finer_beside(spreads, options, coded, held, steps, found)
    beside = len(found.data) - own_bytes(found)
    wanted_bytes = (
        held.n_bytes if as_large is None else held.share * held.n_bytes + (1 - held.share) * len(as_large.data)
    )
    limit_bytes = max(round(wanted_bytes) + found.more_bytes, beside + round(SMALL_SHARE * own_bytes(found)))
    if found.exact >= spreads.all.keys() and len(found.data) <= EXACT_SHARE * limit_bytes:
        return found
    best, budget_bits = found, spreads.bits_of(steps.qps, options.qp_density)
    least_db = spreads.least_db_within(_budget_bits(spreads), options.qp_density) if held.is_small else None
    for _ in range(MAX_SMALL_CORRECTIONS if held.is_small else MAX_HELD_CORRECTIONS):
        if HELD_FULL_SHARE * limit_bytes <= len(best.data) <= limit_bytes:
            break
        budget_bits *= HELD_AIM * (limit_bytes - beside) / own_bytes(found)
        before, steps = steps, _steps_within(budget_bits, spreads, options, least_db)
        if steps.qps == before.qps:
            break
        found = coded(steps)
        best = max(best, found, key=lambda each: _within(len(each.data), limit_bytes))
    is_good = best.weak_db.keys() <= by_default.weak_db.keys() and (held.is_small or len(best.data) <= limit_bytes)
    return best if is_good else None


def _finer_beside(
    spreads: Spreads,
    options: CompressOptions,
    coded: Callable[[OwnSteps], CodedNetwork],
    held: Held,
    steps: OwnSteps,
    found: CodedNetwork,
) -> CodedNetwork:
    """A network whose floats lie beside more bytes of integers, finer by what is left of the reference software's file.

    There all integers are deflated, here they are coded, which may save more than all floats take.
    """
    n_values = sum(spread.n_values for spread in spreads.all.values())
    budget_bits = spreads.bits_of(steps.qps, options.qp_density)
    left_bytes = held.share * (held.n_bytes - len(found.data))
    more_bits = min(BESIDE_BITS * n_values, 8 * HELD_FULL_SHARE * left_bytes)
    for _ in range(MAX_BESIDE if more_bits > 0 else 0):
        finer = coded(_steps_within(budget_bits + more_bits, spreads, options))
        if len(finer.data) <= held.n_bytes and finer.weak_db.keys() <= found.weak_db.keys():
            return finer
        more_bits /= 2
    return found


def _within(n_bytes: int, limit_bytes: float) -> float:
    """What is higher the better a size uses a limit up: up to it the size, above it less than any such."""
    return n_bytes if n_bytes <= limit_bytes else -n_bytes


def _are_misjudged(spreads: Spreads, steps: OwnSteps, found: CodedNetwork, options: CompressOptions) -> bool:
    """Whether the tensors of which samples were taken have another size than those tell, outliers aside."""
    names = [name for name in steps.qps if spreads[name].bits is not None]
    told_bytes = spreads.bits_of({name: steps.qps[name] for name in names}, options.qp_density) / 8
    missed_bytes = abs(sum(found.sizes_bytes[name] for name in names) - told_bytes)
    is_beyond = missed_bytes > ESTIMATE_TOLERANCE * told_bytes + TENSOR_BYTES * len(names)
    return is_beyond and not any(name in spreads.all for name in found.by_outliers)


def best_within(
    limit_bytes: int, spreads: Spreads, qp_density: int, candidate: Callable[[float], CodedNetwork]
) -> CodedNetwork:
    """The network of the highest quality that takes no more than a size; the smallest where none does.

    Below the default's qualities, and above them, it looks only where the size is for no other.

    Args:
        limit_bytes: The size.
        spreads: Of its tensors, which tell where to look.
        qp_density: QP steps per octave as a power of two.
        candidate: The network at a quality in dB.
    """
    low, high = MIN_QUALITY_DB, MAX_QUALITY_DB
    quality_db = low
    best = candidate(quality_db)
    if len(best.data) > limit_bytes:
        low, high, quality_db = LOWEST_QUALITY_DB, MIN_QUALITY_DB, LOWEST_QUALITY_DB
        best = candidate(quality_db)
    elif _aimed(best, limit_bytes, spreads, qp_density, quality_db, high) >= high - QUALITY_TOLERANCE_DB:
        high = HIGHEST_QUALITY_DB
        exact = candidate(EXACT_QUALITY_DB)
        if len(exact.data) <= limit_bytes:
            return exact
    if len(best.data) > limit_bytes:
        return best
    found, is_aimed = best, True
    for _ in range(MAX_CANDIDATES):
        aimed = _aimed(found, limit_bytes, spreads, qp_density, quality_db, high) if is_aimed else low
        width = high - low
        quality_db = aimed if low < aimed < high else (low + high) / 2
        found = candidate(quality_db)
        if len(found.data) <= limit_bytes:
            best, low = found, quality_db
        else:
            high = quality_db
        if len(best.data) >= NEAR_SHARE * limit_bytes:
            return best
        if high - low < QUALITY_TOLERANCE_DB:
            break
        # An estimate that misses by much will do so again.
        is_aimed = not is_aimed or high - low < width / 2
    for more_db in ABOVE_DB if high < HIGHEST_QUALITY_DB else ():
        found = candidate(high + more_db)
        if len(found.data) <= limit_bytes:
            best = found
    return best


def _aimed(
    found: CodedNetwork, limit_bytes: int, spreads: Spreads, qp_density: int, quality_db: float, high: float
) -> float:
    """The quality that is expected to use up a size, from the network at another quality; no more than `high`."""
    bits = spreads.bits_at(quality_db, qp_density) + 8 * (limit_bytes - len(found.data))
    return spreads.quality_of(
        bits, qp_density, LOWEST_QUALITY_DB if quality_db < MIN_QUALITY_DB else MIN_QUALITY_DB, high
    )
