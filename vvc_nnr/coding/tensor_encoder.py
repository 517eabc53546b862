"""One tensor to NNC data units: with or without loss, whichever form is shortest, outliers apart."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.data_unit import DataUnit, PayloadType
from vvc_nnr.bitstream.float8 import FLOAT8
from vvc_nnr.bitstream.manifest import RawKind
from vvc_nnr.bitstream.number_formats import (
    BITS_OF,
    INTEGER_FORMATS,
    INTEGERS,
    VALUES_SUFFIX,
    Array,
    FloatBits,
    as_int32,
    coded_shape,
    exact_float32,
    finite_float32,
    itemsize_of,
    may_lose,
    nearest_float32,
    nonzero,
    numpy_values,
    shape_of,
)
from vvc_nnr.bitstream.qp import step_size
from vvc_nnr.coding.exact_forms import (
    MANTISSA_BITS,
    SMALL,
    Bits,
    ExactForm,
    bits_of,
    estimated_bytes,
    exact_form,
    may_repeat,
    outliers_form,
    sampled,
    table_size,
    values_of,
)
from vvc_nnr.coding.float_encoder import (
    MAX_CODEBOOK_SIZE,
    are_joined,
    are_levels_joined,
    clipped,
    encode_by_exact_codebook,
    encode_floats,
    search_levels,
    weak_rows_db,
)
from vvc_nnr.coding.local_scaling import LocalScaling, encode_scaled
from vvc_nnr.coding.own_steps import OwnSteps, follows_spread
from vvc_nnr.coding.tensor_job import (
    EncodedTensor,
    TensorJob,
    encode_integers,
    scan_order_of_floats,
    unit_of,
    with_unary_length,
)
from vvc_nnr.coding.unit_coding import PartIndices, encode_indices, make_params
from vvc_nnr.options import CompressOptions
from vvc_nnr.quantize.codebooks import are_so_few, codebook_bits, least_codebook_bits, n_different_of_part
from vvc_nnr.quantize.dependent import (
    levels_of,
    row_errors,
)
from vvc_nnr.quantize.quality import MIN_QUALITY_DB
from vvc_nnr.quantize.snr import WEAK_DB, few_apart, ordinary, snr_db
from vvc_nnr.quantize.step_choice import (
    MAX_LEVEL,
    Quantiser,
    choose_quantiser,
    exact_qp,
    on_finest_grid,
)
from vvc_nnr.roles.roles import EXACT

# Raw floats have words of so many bytes.
WORD_BYTES = 4
# Forms that are estimated to be no longer than this times the shortest one are tried on a part of a tensor, and on all
# of it those that then are no longer than the second times that.
NEAR, SAME = 1.02, 1.003
# Forms of float8, which are near each other, are tried on all of so many values.
NEAR_VALUES = 1 << 20
# LZMA is tried if deflate at its fastest makes no more than this times the shortest other form (`_may_be_lzma`).
MAX_DEFLATED = 1.05
# Integers take raw bytes only from so many bytes on, and where they are then no longer than this share.
RAW_PAYS_BYTES, CLEARLY = 256, 0.99
# No loss may take so much of what a loss takes, and so many bytes more, as a codebook does, one for so many values.
EXACT_PAYS, EXACT_BYTES, MIN_EXACT_VALUES = 1.1, 16, 16
# Signs and exponents of floats without loss take so many bits, besides their mantissas.
SPLIT_BITS = 3
# What a value of a codebook takes at least, by far gaps as of floats.
MEMBER_BYTES = 2
# Values of a codebook that are off by no more keep 24 dB each.
NEAR_SHARE = 2.0**-4
# So many values tell whether all are on a grid, and so few nearly always that they are not.
GRID_SAMPLE, GRID_FEW = 1024, 64
# Floats that deflate is tried on first.
SHORT = 2048
# So many floats are shorter with raw bytes than by their bits, whatever a raw unit takes.
FEW = 512
# Of larger tensors no other form is kept in memory.
FACTS_VALUES = 4096
# The QP nearest to a step leaves so much less at most. So few values err by what single roundings happen to be.
QP_ROUNDING_DB, FEW_ROUNDINGS = 1.0, 64


def with_own_step(job: TensorJob, steps: OwnSteps | None) -> TensorJob:
    """The job with the QP that follows from the tensor's spread, or to be exact where no step is fine enough."""
    if steps is None:
        return job
    least_db = _least_db(math.prod(shape_of(job.array)), steps.expected_db.get(job.name, -math.inf))
    rule = EXACT if job.name in steps.exact else job.rule
    return job.with_step(steps.qps.get(job.name), rule, least_db)


def _least_db(n_values: int, expected_db: float) -> float:
    """What a tensor has to keep whose step is expected to leave so much.

    A few values keep MIN_QUALITY_DB even where the others have to do with less: it takes them a byte or two.
    """
    if expected_db >= (WEAK_DB if n_values <= FEW_ROUNDINGS else MIN_QUALITY_DB - QP_ROUNDING_DB):
        return MIN_QUALITY_DB
    return WEAK_DB if expected_db >= WEAK_DB else -math.inf


def encode_tensor(job: TensorJob, options: CompressOptions) -> EncodedTensor:
    """A tensor in data units.

    Raises:
        InputError: If a value cannot be coded.
    """
    if math.prod(shape_of(job.array)) == 0 and job.parent is not None:
        return EncodedTensor((), job.number_format)
    if math.prod(shape_of(job.array)) == 0:
        stand_in = encode_integers(job, job.name, np.zeros(1, np.int32), options)
        return EncodedTensor((stand_in,), job.number_format)
    if job.number_format in INTEGERS and job.parent is None:
        return _encode_own_integers(job, options)
    if job.number_format in INTEGER_FORMATS:
        return _encode_exactly(job, job.number_format, options)
    if options.lossless or job.rule == EXACT or not may_lose(job.number_format):
        return _encode_bit_exact(job, options)
    values = _finite_values(job)
    if values is None:
        is_odd = _is_mostly_finite(job.array)
        return _with_exact_outliers(job, options) or replace(_encode_bit_exact(job, options), by_outliers=is_odd)
    if job.rule is not None and job.rule.keeps_sign and not np.array_equal(values != 0, nonzero(job.array)):
        return _encode_bit_exact(job, options)
    if job.scaling is not None:
        return _encode_scaled(job, job.scaling, values, options)
    quantiser = choose_quantiser(job.name, values, options, job.rule, job.own_qp)
    if quantiser is None or quantiser.max_level is not None:
        apart = _with_exact_outliers(job, options)
        if apart is not None:
            return apart
    if quantiser is None:
        return replace(_encode_bit_exact(job, options), by_outliers=ordinary(values) is not values)
    unit, weak_db, joins_levels = encode_floats(job, values, quantiser, options)
    if quantiser.by_role and job.rule is not None and job.rule.of_smallest > 0 == job.rule.of_largest:
        weak_db = None  # each value keeps its size, whatever they differ by
    lossy = EncodedTensor((unit,) if unit else (), job.number_format, weak_db, joins_levels=joins_levels)
    return _exact_if_shorter(job, values, lossy, quantiser, options) if _may_be_exact(job, options) else lossy


def _finite_values(job: TensorJob) -> NDArray[np.float32] | None:
    """What `finite_float32` gives of a tensor."""
    if job.facts is None or job.facts.is_finite is None:
        values = finite_float32(job.array)
        if job.facts is not None:
            job.facts.is_finite = values is not None
        return values
    return nearest_float32(job.array) if job.facts.is_finite else None


def _encode_scaled(
    job: TensorJob, scaling: LocalScaling, values: NDArray[np.float32], options: CompressOptions
) -> EncodedTensor:
    """A float tensor as a block: its rows divided by their scales, and these."""
    rows, alone = scaling.divided(values), replace(job, scaling=None)
    quantiser = choose_quantiser(job.name, rows, options, job.rule, job.own_qp)
    if quantiser is None:
        return _encode_bit_exact(alone, options)
    quantiser = replace(quantiser, use_dq=scaling.dq_flag)
    step = step_size(quantiser.qp, options.qp_density)
    plain = unit_of(job, job.name, PayloadType.FLOAT, coded_shape(values.shape), options)
    unit = scaling.unit_of(replace(plain, scan_order=scan_order_of_floats(rows, step, options)))
    params = make_params(unit, unit.parts()[-1], row_skip_allowed=options.row_skipping)
    found = search_levels(clipped(rows, quantiser, step), params, quantiser, options)
    unit = with_unary_length(unit, found.indices) if job.unary_length_minus1 == "fitting" else unit
    indices = PartIndices(found.indices, quantiser.qp, found.skipped_rows)
    unit = encode_scaled(unit, scaling, indices, options, n_threads=job.n_threads)
    levels = levels_of(found.indices, params, found.skipped_rows).reshape(rows.shape)
    decoded = scaling.multiplied(np.multiply(levels, np.float32(step), dtype=np.float32))
    found_db = snr_db(values, decoded)
    if found_db >= WEAK_DB:  # what rows keep is no matter of their scales
        found_db = weak_rows_db(rows, row_errors(rows, found, params, step), step)
    weak_db = found_db if found_db < WEAK_DB else None
    joins_levels = are_levels_joined(values, lambda: decoded)
    lossy = EncodedTensor((unit,), job.number_format, weak_db, joins_levels=joins_levels, is_scaled=True)
    return _exact_if_shorter(alone, values, lossy, quantiser, options) if _may_be_exact(job, options) else lossy


def _may_be_exact(job: TensorJob, options: CompressOptions) -> bool:
    """Whether a tensor is to be exact where that is no longer: no option says its step, and it is no update.

    What is coded to know the reference software's size (greater flags as that has them) is not.
    """
    is_default = follows_spread(options) and options.codebook == "off" and job.name not in options.qp_per_tensor
    return is_default and job.parent is None and job.unary_length_minus1 == "fitting"


def _exact_if_shorter(
    job: TensorJob, values: NDArray[np.float32], lossy: EncodedTensor, quantiser: Quantiser, options: CompressOptions
) -> EncodedTensor:
    """A tensor without loss where that takes hardly more than with loss: of few different values, or on a coarse grid.

    Few values that no step gives are those of the finest step that are nearest to them. Where levels would be lost it
    may take more, unless a quality or a size is asked for.
    """
    most = EXACT_PAYS * lossy.size_bytes + min(EXACT_BYTES, values.size // MIN_EXACT_VALUES)
    is_asked = any(each is not None for each in (options.quality, options.bits_per_weight, options.max_bytes))
    keeps_levels = lossy.joins_levels and not is_asked
    forms = [_on_coarse_grid(job, values, quantiser, options)]
    n_different = _n_different(job, values)
    if are_so_few(n_different, values.size, min(MAX_CODEBOOK_SIZE, lossy.size_bytes // MEMBER_BYTES)):
        limit_bytes = math.inf if keeps_levels else most
        forms.append(_near_by_codebook(job, values, lossy, quantiser, options, limit_bytes))
    found = min((form for form in forms if form), key=lambda form: form.size_bytes, default=None)
    if _takes_all_digits(lossy, job):
        exact = job.facts.bit_exact if job.facts is not None else None
        if exact is None:
            exact = _encode_bit_exact(job, options)
        if job.facts is not None and values.size <= FACTS_VALUES:
            job.facts.bit_exact = exact
        if exact.size_bytes < CLEARLY * min(each.size_bytes for each in (lossy, found) if each):
            return replace(exact, otherwise=lossy, is_exact=True)
    if found is not None and found.size_bytes <= most:
        return replace(found, is_exact=True)
    if not keeps_levels:
        return lossy
    exact = found or _encode_bit_exact(job, options)
    return replace(exact, is_exact=True, more_bytes=max(0, exact.size_bytes - lossy.size_bytes))


def _n_different(job: TensorJob, values: NDArray[np.float32]) -> int:
    """What `n_different_of_part` gives of a tensor."""
    known = job.facts.n_different if job.facts is not None else None
    found = n_different_of_part(values) if known is None else known
    if job.facts is not None:
        job.facts.n_different = found
    return found


def _near_by_codebook(
    job: TensorJob,
    values: NDArray[np.float32],
    lossy: EncodedTensor,
    quantiser: Quantiser,
    options: CompressOptions,
    most_bytes: float,
) -> EncodedTensor | None:
    """Few different values by a codebook, exact or as near as the finest step; None if that is coarser than theirs.

    None, too, if the codebook alone takes more than so many bytes.
    """
    known = job.facts.by_codebook if job.facts is not None else None
    if known is None:
        known = _by_near_codebook(job, values, options, step_size(quantiser.qp, options.qp_density), most_bytes)
    if known is None:
        return None
    if job.facts is not None and values.size <= FACTS_VALUES:
        job.facts.by_codebook = known
    found, n_codebook_bits, step, is_near = known
    if step > step_size(quantiser.qp, options.qp_density) or n_codebook_bits > 8 * most_bytes:
        return None
    return replace(found, weak_db=None if is_near else lossy.weak_db)


def _by_near_codebook(
    job: TensorJob, values: NDArray[np.float32], options: CompressOptions, coarsest: float, most_bytes: float
) -> tuple[EncodedTensor, int, float, bool] | None:
    """What `TensorFacts.by_codebook` has; None where it would be of no use at a step."""
    near, step = on_finest_grid(values, options.qp_density)
    if step > coarsest:
        return None
    positive = near + np.float32(0)  # zeros are
    if values.size <= FACTS_VALUES:  # that its codebook is too long is soon seen
        qp = exact_qp(positive, options.qp_density)
        if qp is None or least_codebook_bits(near, step_size(qp, options.qp_density)) > 8 * most_bytes + 1:
            return None
    if are_joined(values, near):
        return None
    found = encode_by_exact_codebook(job, positive, options, most_bytes)
    if found is None:
        return None
    codebook = found.units[0].codebook
    assert codebook is not None
    is_near = bool(np.all(np.abs(near - values) <= NEAR_SHARE * np.abs(values)))
    return found, codebook_bits(codebook), step, is_near


def _on_coarse_grid(
    job: TensorJob, values: NDArray[np.float32], quantiser: Quantiser, options: CompressOptions
) -> EncodedTensor | None:
    """A float tensor by a step that gives all values and is no finer than what loses some; None if there is none."""
    flat, coarser = values.reshape(-1), 2.0 ** math.ceil(math.log2(step_size(quantiser.qp, options.qp_density)))
    if any(value % coarser for value in flat[:4].tolist()):
        return None
    qp = None
    for part in (flat[:GRID_SAMPLE], flat):
        qp = None if quantiser.by_role else exact_qp(part + np.float32(0), options.qp_density)
        if qp is None or qp < quantiser.qp:
            return None
    assert qp is not None
    unit, *_ = encode_floats(job, values, Quantiser(qp, use_dq=False, by_role=True), options)
    return EncodedTensor((unit,) if unit else (), job.number_format)


def _with_exact_outliers(job: TensorJob, options: CompressOptions) -> EncodedTensor | None:
    """A float tensor with its few outliers in raw bytes, and zeros in their places; exact if it is short.

    None if it has no few outliers, or no step does for the others either.
    """
    values = nearest_float32(job.array)
    is_possible = job.parent is None or job.number_format == "float32"
    apart = few_apart(values) if is_possible else None
    if apart is None:
        return None
    if values.size <= FEW:
        return replace(_encode_bit_exact(job, options), by_outliers=True)
    rest = np.where(apart, np.float32(0), values)
    job = replace(job, facts=None)
    quantiser = choose_quantiser(job.name, rest, options, job.rule, job.own_qp) if rest.any() else None
    if quantiser is None:
        return None
    unit, weak_db, _ = encode_floats(job, rest, quantiser, options)
    raw = outliers_form(bits_of(job.array), apart.reshape(-1))
    found = EncodedTensor((unit,), job.number_format, weak_db, raw, by_outliers=True) if unit else None
    if found is None or not _may_be_exact(job, options) or not _takes_all_digits(found, job):
        return found
    exact = replace(_encode_bit_exact(job, options), by_outliers=True)
    return min(exact, found, key=lambda each: each.size_bytes)


def _takes_all_digits(coded: EncodedTensor, job: TensorJob) -> bool:
    """Whether a float tensor takes what it may take without loss, as where the coarsest step is too fine for it."""
    n_bits = MANTISSA_BITS[job.number_format] + SPLIT_BITS
    return 8 * coded.size_bytes > n_bits * math.prod(shape_of(job.array))


def _encode_own_integers(job: TensorJob, options: CompressOptions) -> EncodedTensor:
    """An integer tensor as other decoders read it, or with raw bytes if that is clearly shorter, or it would grow.

    With `lossless` the shortest.
    """

    def plain(part: TensorJob) -> EncodedTensor:
        return coded if part is job else _encode_exactly(part, part.number_format, options)

    coded = _encode_exactly(job, job.number_format, options)
    if not options.lossless and coded.size_bytes <= RAW_PAYS_BYTES:
        return coded
    n_bytes = math.prod(shape_of(job.array)) * itemsize_of(job.array)
    is_strict = options.lossless or coded.size_bytes > n_bytes
    if not is_strict and not _may_pay(job, options):
        return coded
    found = _shortest(job, plain, options)
    return found if found.size_bytes < coded.size_bytes * (1 if is_strict else CLEARLY) else coded


def _may_pay(job: TensorJob, options: CompressOptions) -> bool:
    """Whether a part of an integer tensor is shorter with raw bytes; true of small ones."""
    sample = sampled(bits_of(job.array))
    if len(sample) == math.prod(shape_of(job.array)):
        return True
    part = replace(job, array=values_of(sample, job.array), n_threads=1, facts=None)
    found = _shortest(part, lambda whole: _encode_exactly(whole, whole.number_format, options), options)
    return found.raw is not None


def _is_mostly_finite(array: Array | FloatBits) -> bool:
    """Whether less than half of the values are NaN or infinite, and some are."""
    values = numpy_values(array)
    n_odd = values.size - int(np.count_nonzero(np.isfinite(values)))
    return 0 < 2 * n_odd < values.size


def _shortest(
    job: TensorJob, plain: Callable[[TensorJob], EncodedTensor | None], options: CompressOptions
) -> EncodedTensor:
    """The shortest of a tensor as other decoders read it, and its forms with raw bytes.

    Forms of large tensors are chosen by a part of it, but of a million values of float8, whose forms are near each
    other, and of floats whose runs come again, which may be far apart. LZMA, which is slow, is tried where it may be
    shorter.

    Args:
        job: The tensor.
        plain: Codes it, or a part of it, as other decoders read it; None where that is known to be longer.
        options: How it is coded.
    """
    bits = bits_of(job.array)
    repeats = job.number_format in MANTISSA_BITS and may_repeat(bits)
    is_near = job.number_format in FLOAT8 and len(bits) <= NEAR_VALUES
    sample = bits if repeats or is_near else sampled(bits)
    part = (
        job if len(sample) == len(bits) else replace(job, array=values_of(sample, job.array), n_threads=1, facts=None)
    )
    as_ever = plain(part)
    share = len(bits) / len(sample)
    forms = _promising(_forms(job, sample, ("split", "palette", "bytes")), share, bits.itemsize)
    coded = [form for form in forms if form.integers is not None]
    is_clear = part is not job and as_ever is None and len(coded) == 1
    if is_clear and not _may_be_lzma(sample, estimated_bytes(coded[0]), job.number_format, repeats):
        return _shortest_form(job, bits, (coded[0].kind, "bytes"), options)
    tried = [*([as_ever] if as_ever else []), *(_of_form(part, form, options) for form in forms)]
    if _may_be_lzma(sample, min(each.size_bytes for each in tried), job.number_format, repeats):
        tried += [_of_form(part, form, options) for form in _forms(job, sample, ("lzma",))]
    found = min(tried, key=lambda each: each.size_bytes)
    if part is job:
        return found if found is as_ever else replace(found, otherwise=as_ever)
    sizes = [_whole_bytes(each.raw, each.size_bytes, share) for each in tried]
    near = [each for each, size in zip(tried, sizes, strict=True) if size <= SAME * min(sizes)]
    whole = plain(job) if as_ever in near else None
    kinds = [each.raw.kind for each in near if each.raw]
    if whole and not kinds:
        return whole
    found = _shortest_form(job, bits, kinds, options)
    return min(whole, found, key=lambda each: each.size_bytes) if whole else found


def _shortest_form(job: TensorJob, bits: Bits, kinds: Sequence[RawKind], options: CompressOptions) -> EncodedTensor:
    """The shortest of some forms with raw bytes; split or the bytes of a tensor that has none of them."""
    forms = _forms(job, bits, [kind for kind in kinds if kind != "bytes"])
    has_bytes = "bytes" in kinds or not forms
    if not forms and "bytes" not in kinds:
        forms = _forms(job, bits, ("split",))
    tried = [_of_form(job, form, options) for form in forms]
    if has_bytes and all(each.size_bytes > bits.nbytes for each in tried):
        tried += [_of_form(job, form, options) for form in _forms(job, bits, ("bytes",))]
    return min(tried, key=lambda each: each.size_bytes)


def _forms(job: TensorJob, bits: Bits, kinds: Sequence[RawKind]) -> list[ExactForm]:
    """Values of a tensor in forms with raw bytes."""
    number_format = job.number_format.split()[0]
    forms = (exact_form(bits, kind, number_format) for kind in kinds)
    return [form for form in forms if form is not None]


def _promising(forms: list[ExactForm], share: float, itemsize: int) -> list[ExactForm]:
    """Those forms of a part of a tensor that may be the shortest of all of it, and what takes no time.

    Args:
        forms: Of the part.
        share: How many times as many values the tensor has.
        itemsize: Bytes of a value.
    """
    sizes = [_whole_bytes(form, estimated_bytes(form) + _missed_bytes(form, share, itemsize), share) for form in forms]
    is_short = len(forms[0].raw) <= FEW
    return [
        f for f, size in zip(forms, sizes, strict=True) if is_short or f.integers is None or size <= NEAR * min(sizes)
    ]


def _missed_bytes(form: ExactForm, share: float, itemsize: int) -> float:
    """What the entropy of a part that holds many different values is too low by (G. A. Miller, 1955)."""
    if form.kind != "palette" or form.integers is None or share == 1:
        return 0.0
    return (table_size(form, itemsize) - 1) / (2 * math.log(2)) / 8


def _whole_bytes(form: ExactForm | None, n_bytes: float, share: float) -> float:
    """What all of a tensor takes if a part of it takes n_bytes: a table does not grow."""
    n_table = len(form.raw) if form is not None and form.kind == "palette" else 0
    return share * (n_bytes - n_table) + n_table


def _may_be_lzma(bits: Bits, n_bytes: float, number_format: str, repeats: bool) -> bool:
    """Whether LZMA may make less than n_bytes of values, by deflate at its fastest; of many floats by a part.

    Of floats whose runs come again, as those of a Fourier transform do, it often does: deflate sees no farther back
    than 32 KiB. So it does of float8, since it follows the exponents of neighbours.
    """
    if number_format in FLOAT8:
        return True
    if number_format in MANTISSA_BITS and len(bits) > 2 * SHORT:
        if repeats:
            return True
        part = bits[:SHORT]
        return len(zlib.compress(part.tobytes(), 1)) * len(bits) <= MAX_DEFLATED * n_bytes * len(part)
    return len(zlib.compress(bits.tobytes(), 1)) <= MAX_DEFLATED * n_bytes


def _of_form(job: TensorJob, form: ExactForm, options: CompressOptions) -> EncodedTensor:
    if form.integers is None and job.parent is None and job.past is None and job.unary_length_minus1 == "fitting":
        payload = _stand_in_payload(options.row_skipping, options.param_opt)
        unit = replace(unit_of(job, job.name, PayloadType.INT, (1,), options, 0), cabac_unary_length_minus1=None)
        unit = replace(unit, payload=payload)
        return EncodedTensor((unit,), job.number_format.split()[0], raw=form)
    shape = coded_shape(shape_of(job.array))
    integers = np.zeros(1, np.int32) if form.integers is None else form.integers.reshape(shape)
    pays = integers.size <= SMALL or job.number_format in FLOAT8
    unit = encode_integers(job, job.name, integers, options, param_opt=options.param_opt and pays)
    return EncodedTensor((unit,), job.number_format.split()[0], raw=replace(form, integers=None))


@cache
def _stand_in_payload(row_skipping: bool, param_opt: bool) -> bytes:
    """That of the integer 0 in one dimension of 1, with the default's greater flags."""
    unit = DataUnit(PayloadType.INT, ("",), (1,), b"", cabac_unary_length_minus1=None)
    options = CompressOptions(row_skipping=row_skipping, param_opt=param_opt)
    return bytes(encode_indices(unit, np.zeros(1, np.int32), None, options).payload)


def _encode_bit_exact(job: TensorJob, options: CompressOptions) -> EncodedTensor:
    """A float tensor that loses nothing: as levels if they give every bit, so that other decoders have its values.

    With `lossless` whatever is shortest.
    """
    levels = _exact_levels(job, options)

    def plain(part: TensorJob) -> EncodedTensor | None:
        found = levels if part is job else _exact_levels(part, options)
        if found is None and bits_of(part.array).size > FEW:
            return None  # bits are longer than other forms
        return _encode_as_other_decoders_read(part, found, options)

    if job.parent is None and (options.lossless or levels is None):
        return _shortest(job, plain, options)
    return _encode_as_other_decoders_read(job, levels, options)


def _encode_as_other_decoders_read(
    job: TensorJob, found: tuple[NDArray[np.float32], int] | None, options: CompressOptions
) -> EncodedTensor:
    """A float tensor that loses nothing, as its levels, with a codebook where that is shorter, or by its bits."""
    if found is None:
        return _encode_exactly(job, BITS_OF[job.number_format], options)
    values, qp = found
    unit, *_ = encode_floats(job, values, Quantiser(qp, use_dq=False, by_role=True), options)
    by_levels = EncodedTensor((unit,) if unit else (), job.number_format)
    by_codebook = encode_by_exact_codebook(job, values, options, by_levels.size_bytes) if job.parent is None else None
    return min((each for each in (by_codebook, by_levels) if each), key=lambda each: each.size_bytes)


def as_values(job: TensorJob, coded: EncodedTensor, options: CompressOptions, limit_bytes: int) -> EncodedTensor | None:
    """The only tensor of a stream with its values as they are; None where an option says what it may lose.

    The reference software reads floats of 32 bits so, but nothing behind such a unit, and fails at some that stand
    behind others.

    Args:
        job: The tensor.
        coded: What was made of it.
        options: How it was coded.
        limit_bytes: What they must take less than; None is returned where they do not.
    """
    number_format = job.number_format.split()[0]
    is_by_bits = coded.number_format in BITS_OF.values() or coded.raw is not None
    is_exact = (
        options.lossless
        or job.rule == EXACT
        or not may_lose(number_format)
        or is_by_bits
        or _may_be_exact(job, options)
    )
    is_plain = number_format == "float32"
    if not is_exact or not 0 < math.prod(shape_of(job.array)) * itemsize_of(job.array) < limit_bytes:
        return None
    bits = bits_of(job.array)
    payload = bits.astype(bits.dtype.newbyteorder("<"), copy=False).tobytes()
    payload += bytes(-len(payload) % WORD_BYTES)
    shape = coded_shape(shape_of(job.array)) if is_plain else (len(payload) // WORD_BYTES,)
    unit = DataUnit(PayloadType.RAW_FLOAT, (job.name,), shape, payload, node_id=None, cabac_unary_length_minus1=None)
    told = number_format + ("" if is_plain else VALUES_SUFFIX)
    return EncodedTensor((unit,), told, by_outliers=coded.by_outliers)


def without_loss(job: TensorJob, coded: EncodedTensor, options: CompressOptions) -> EncodedTensor:
    """A tensor in its shortest form without loss, which other decoders may not read: for files that would grow.

    What was made of it where that has such a form, or an option says what it may lose.

    Args:
        job: The tensor.
        coded: What was made of it.
        options: How it was coded.
    """
    is_integer = job.number_format in INTEGERS and job.parent is None
    if coded.raw or options.lossless or math.prod(shape_of(job.array)) == 0:
        return coded
    if not is_integer and (job.number_format in INTEGER_FORMATS or not _may_be_exact(job, options)):
        return coded
    kept = {name: getattr(options, name) for name in ("qp_density", "row_skipping", "param_opt", "scan_order")}
    exact = encode_tensor(job, CompressOptions(lossless=True, **kept))
    otherwise = coded if exact.raw else None
    return replace(exact, otherwise=otherwise, by_outliers=coded.by_outliers, is_exact=not is_integer)


def _exact_levels(job: TensorJob, options: CompressOptions) -> tuple[NDArray[np.float32], int] | None:
    """A float tensor as float32, and the QP whose levels give every bit of it; None if there is none."""
    limit = min(MAX_LEVEL, 1 << 8 * itemsize_of(job.array) - 3)
    bits = bits_of(job.array)
    part = exact_float32(values_of(bits[:: max(1, len(bits) // GRID_FEW)], job.array))
    if part is None or exact_qp(part, options.qp_density, limit) is None:
        return None  # what a part has no grid for the whole has none for
    values = exact_float32(job.array)
    qp = None if values is None else exact_qp(values, options.qp_density, limit)
    return None if values is None or qp is None else (values, qp)


def _encode_exactly(job: TensorJob, number_format: str, options: CompressOptions) -> EncodedTensor:
    """Integers, or floats by their bits."""
    parts = as_int32(job.array, number_format)
    is_unchanged = job.parent is not None and number_format in INTEGERS and not any(part.any() for part in parts)
    named = [] if is_unchanged else zip((job.name, job.high_name), parts, strict=False)
    return EncodedTensor(tuple(encode_integers(job, name, part, options) for name, part in named), number_format)
