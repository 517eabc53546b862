"""The quality at which a network takes the bytes that it may: those asked for, or about the reference software's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from vvc_nnr.bitstream.number_formats import NamedArrays, shape_of
from vvc_nnr.bitstream.qp import step_size
from vvc_nnr.coding.coded_network import CodedNetwork
from vvc_nnr.coding.own_steps import OwnSteps, Sensitivities, measured_spreads, steps_at
from vvc_nnr.errors import InputError
from vvc_nnr.options import DEFAULT_QP, DEFAULT_VECTOR_QP, CompressOptions
from vvc_nnr.quantize.quality import (
    EXACT_QUALITY_DB,
    HIGHEST_QUALITY_DB,
    LOWEST_QUALITY_DB,
    MAX_QUALITY_DB,
    MIN_QUALITY_DB,
    QUALITY_TOLERANCE_DB,
    Spread,
    Spreads,
    nearest_qp,
)
from vvc_nnr.roles.roles import Rule

# A file of a given size: how many are tried, and from what share of it on it will do.
MAX_CANDIDATES, NEAR_SHARE = 16, 0.99
# Sizes jump, and may fall where quality rises: what is tried above the lowest quality that is known not to fit.
ABOVE_DB = (0.25, 0.5, 1.0)
# The default takes so much of what the reference software's steps would, by an estimate that is good to one or, at few
# bits per value, three per cent; less what a file has beside its tensors, more for what that software has beside each.
BUDGET_SHARE, LOW_BUDGET_SHARE, LOW_BITS = 0.992, 0.962, 3.3
# Large levels take that software less.
HIGH_BUDGET_SHARE, HIGH_BITS = 0.977, 9.0
FILE_BYTES, FILE_SHARE, TENSOR_BYTES = 400, 0.08, 20
# Beside the integer weights of a quantised network a small error of a float moves what is quantised after it over a
# border. So floats there get a share of the bytes of integers more, which these are shorter by than deflated.
BESIDE_SHARE = 0.00035
# And where the network is held against that software's file so many bits a value more, 20 dB, if that file has room.
BESIDE_BITS, MAX_BESIDE = 10 / 3, 3
# Weights that take so much more or less than samples tell, as runs of zeros do: then coding tells what the reference
# software's steps take, of which the default has another share, and what its own do, at so many more qualities.
ESTIMATE_TOLERANCE, CODED_BUDGET_SHARE, MAX_CORRECTIONS, FULL_SHARE = 0.03, 0.99, 3, 0.99
# All but very large networks are held against that software's whole file; what is tried, also of small ones, and how
# little the tensors of these may take.
MAX_HELD_CORRECTIONS, MAX_SMALL_CORRECTIONS, HELD_FULL_SHARE, HELD_AIM, SMALL_SHARE = 3, 8, 0.997, 0.9985, 0.4
# One that loses nothing at all may take so much of it.
EXACT_SHARE = 1.25


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
        made = by_file or by_default or _code_by_default(spreads, options, coded, size_bytes)
        return made if options.quality is not None else replace(made, quality_db=None)
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
