"""Floats to NNC data units by levels of one step: search, codebooks, and what is left of the values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.data_unit import DataUnit, PayloadType
from vvc_nnr.bitstream.number_formats import (
    coded_shape,
)
from vvc_nnr.bitstream.qp import qp_limits, step_size
from vvc_nnr.coding.tensor_job import (
    EncodedTensor,
    TensorFacts,
    TensorJob,
    payload_bytes,
    scan_order_of_floats,
    unit_of,
    with_unary_length,
)
from vvc_nnr.coding.unit_coding import encode_indices, make_params
from vvc_nnr.kernels.tensor_params import TensorParams
from vvc_nnr.options import CompressOptions
from vvc_nnr.quantize.codebooks import are_few, codebook_bits, exact_codebook, make_codebook
from vvc_nnr.quantize.dependent import (
    FAST,
    THOROUGH,
    UNIFORM,
    QuantizedTensor,
    levels_of,
    quantize_indices,
    row_errors,
    sum_weights_of,
)
from vvc_nnr.quantize.rate_distortion import quantize_thoroughly
from vvc_nnr.quantize.snr import WEAK_DB, rows_snr_db, signal_of, sure_energy, weak_rows
from vvc_nnr.quantize.step_choice import (
    MAX_STEPS,
    Quantiser,
    with_signs,
)

MAX_CODEBOOK_SIZE = 1 << 12
# Tensors of no more different values, each of which occurs so often on average, are levels: none is to be lost.
MAX_LEVELS, LEVEL_REPEATS = 16, 4
# Octaves of finer QPs that are tried where a QP leaves too little; a rounding there is a quarter of what it was.
FINER_OCTAVES = 2


def encode_floats(
    job: TensorJob, values: NDArray[np.float32], quantiser: Quantiser, options: CompressOptions
) -> tuple[DataUnit | None, float | None, bool]:
    """The data unit of a float tensor, None of an update without any change; its SNR if weak; if it joins levels.

    Args:
        job: The tensor.
        values: What is coded of it, float32 of its shape.
        quantiser: Its QP, and how levels are chosen.
        options: How it is coded.
    """
    step, original = step_size(quantiser.qp, options.qp_density), values
    scan_order = scan_order_of_floats(values, step, options)
    shape, kind = coded_shape(values.shape), PayloadType.FLOAT
    unit = unit_of(job, job.name, kind, shape, options, scan_order, dq_flag=quantiser.use_dq)
    values = clipped(values, quantiser, step)
    params = make_params(unit, unit.parts()[0], job.past, row_skip_allowed=options.row_skipping)
    found, quantiser, weak_db = _search_as_finely(job, original, values, params, quantiser, options)
    is_plain = job.parent is None and not quantiser.by_role and not quantiser.keeps_sign
    wants_codebook = options.codebook != "off" and values.ndim > 1 and is_plain
    book = _by_codebook(replace(unit, dq_flag=False), values, quantiser.qp, options) if wants_codebook else None
    joins_levels = (
        job.parent is None
        and job.is_judged
        and are_levels_joined(original, lambda: levels_of(found.indices, params, found.skipped_rows), job.facts)
    )
    if book is not None and options.codebook == "force":
        return book, weak_db, joins_levels
    if job.parent is not None and not found.indices.any():
        return None, weak_db, joins_levels
    indices = with_signs(found.indices, values) if quantiser.keeps_sign else found.indices
    unit = with_unary_length(unit, indices) if job.unary_length_minus1 == "fitting" else unit
    # Rows that must not be skipped are a choice of the encoder, of which the header says nothing.
    known = params if options.row_skipping else None
    plain = encode_indices(
        unit, indices, quantiser.qp, options, job.past, found.skipped_rows, job.n_threads, params=known
    )
    return plain if book is None else min(plain, book, key=payload_bytes), weak_db, joins_levels


def encode_by_exact_codebook(
    job: TensorJob, values: NDArray[np.float32], options: CompressOptions, most_bytes: float
) -> EncodedTensor | None:
    """A float tensor of few different values without loss; None if no codebook that is that short gives them.

    Args:
        job: The tensor.
        values: Its values, float32.
        options: How it is coded.
        most_bytes: What the codebook may take at most.
    """
    found = exact_codebook(values, options.qp_density, MAX_CODEBOOK_SIZE)
    if found is None:
        return None
    qp, codebook, places = found
    if codebook_bits(codebook) > 8 * most_bytes:
        return None
    unit = replace(unit_of(job, job.name, PayloadType.FLOAT, coded_shape(values.shape), options), codebook=codebook)
    unit = with_unary_length(unit, places) if job.unary_length_minus1 == "fitting" else unit
    return EncodedTensor((encode_indices(unit, places, qp, options, n_threads=job.n_threads),), job.number_format)


def are_levels_joined(
    values: NDArray[np.float32], coded: Callable[[], NDArray[Any]], facts: TensorFacts | None = None
) -> bool:
    """Whether two values of a tensor that has few of them, and often, come out alike."""
    has_few = facts.has_few_levels if facts is not None else None
    if has_few is None:
        has_few = _has_few_levels(values)
        if facts is not None:
            facts.has_few_levels = has_few
    return has_few and are_joined(values, coded())


def _has_few_levels(values: NDArray[np.float32]) -> bool:
    if values.size < LEVEL_REPEATS or not are_few(values, MAX_LEVELS):
        return False
    return 1 < np.unique(values).size <= min(MAX_LEVELS, values.size // LEVEL_REPEATS)


def are_joined(values: NDArray[np.float32], coded: NDArray[Any]) -> bool:
    """Whether one coded value stands for two different ones."""
    order = np.lexsort((values.reshape(-1), coded.reshape(-1)))
    before, after = values.reshape(-1)[order], coded.reshape(-1)[order]
    return bool(np.any((before[1:] != before[:-1]) & (after[1:] == after[:-1])))


def _search_as_finely(
    job: TensorJob,
    original: NDArray[np.float32],
    values: NDArray[np.float32],
    params: TensorParams,
    quantiser: Quantiser,
    options: CompressOptions,
) -> tuple[QuantizedTensor, Quantiser, float | None]:
    """The indices of a float tensor, how they were found, and its SNR if weak.

    Where a step of its own leaves less than it is meant to, as single roundings of few values may, a finer one is.
    """
    # The rule of a role that keeps signs or slices (gamma of GDN) says itself what rows may lose.
    by_rows = job.rule is None or not (job.rule.keeps_sign or job.rule.of_smallest_slice or job.rule.step != "qp")
    is_own = job.own_qp is not None and not quantiser.by_role and quantiser.max_level is None
    density, least_db = options.qp_density, job.least_db if is_own else -math.inf
    lowest = max(qp_limits(density)[0], quantiser.qp - (FINER_OCTAVES << density))
    while True:
        found = search_levels(values, params, quantiser, options)
        if not job.is_judged:
            return found, quantiser, None
        step = step_size(quantiser.qp, density)
        weak_db, is_kept = _weak_db(original, by_rows, found, params, step, least_db, job.facts)
        finer = quantiser.qp - 1
        if is_kept or finer < lowest or float(np.abs(values).max()) > MAX_STEPS * step_size(finer, density):
            return found, quantiser, weak_db
        quantiser = replace(quantiser, qp=finer)


def _weak_db(
    values: NDArray[np.float32],
    by_rows: bool,
    found: QuantizedTensor,
    params: TensorParams,
    step: float,
    least_db: float,
    facts: TensorFacts | None,
) -> tuple[float | None, bool]:
    """The SNR of a tensor, or of many of its rows if below WEAK_DB; and whether all keep `least_db`."""
    errors = row_errors(values, found, params, step)
    as_weak_db = max(least_db, WEAK_DB)
    signal = signal_of(values) if facts is None or facts.signal is None else facts.signal
    if facts is not None:
        facts.signal = signal
    if found.row_errors is not None:
        known = {} if facts is None else facts.sure_energy
        if by_rows not in known:
            known[by_rows] = sure_energy(values, by_rows=by_rows, signal=signal)
        if 10 ** (as_weak_db / 10) * float(errors.sum()) < known[by_rows]:
            return None, True

    def squared_error_below(limit: float) -> float:
        own = errors if limit == math.inf else row_errors(values, found, params, step, limit)
        return float(own.sum())

    found_db = signal.snr_db(squared_error_below)
    is_kept = found_db >= least_db
    if found_db >= WEAK_DB and by_rows:
        found_db = weak_rows_db(values, errors, step)
    return (found_db if found_db < WEAK_DB else None), is_kept


def weak_rows_db(values: NDArray[np.float32], errors: NDArray[np.float64], step: float) -> float:
    """The SNR of the rows that keep less than WEAK_DB, all together; inf if they are too few to count."""
    rows = weak_rows(values, step)
    return rows_snr_db(values, errors, rows) if rows.size else math.inf


def search_levels(
    values: NDArray[np.float32], params: TensorParams, quantiser: Quantiser, options: CompressOptions
) -> QuantizedTensor:
    """The indices of a float tensor, by the search that its options ask for."""
    step = step_size(quantiser.qp, options.qp_density)
    is_thorough = options.search == "thorough" and quantiser.use_dq
    low_rate = (THOROUGH if is_thorough else FAST) if quantiser.use_dq else UNIFORM
    chosen = low_rate.lambda_of(values, step) if options.lambda_rd is None else options.lambda_rd
    lambda_rd = 0.0 if quantiser.by_role else chosen
    if not is_thorough or lambda_rd == 0:
        weighs_sums = quantiser.weighs_sums and lambda_rd == 0
        return quantize_indices(
            values, params, step, lambda_rd, sum_weights=sum_weights_of(values.shape) if weighs_sums else None
        )
    sets = None if options.param_opt else np.zeros(params.layout().n_contexts, np.uint8)
    return quantize_thoroughly(values, params, step, lambda_rd, estimator_sets=sets)


def clipped(values: NDArray[np.float32], quantiser: Quantiser, step: float) -> NDArray[np.float32]:
    """The values within the largest level of a quantiser that has one."""
    if quantiser.max_level is None:
        return values
    largest = np.float32(quantiser.max_level * step)
    return np.clip(values, -largest, largest)


def _by_codebook(unit: DataUnit, values: NDArray[np.float32], qp: int, options: CompressOptions) -> DataUnit | None:
    """The tensor by a codebook of its uniform levels; None if it has too many."""
    params = make_params(unit, unit.parts()[0])
    levels = quantize_indices(values, params, step_size(qp, options.qp_density)).indices
    found = make_codebook(levels, MAX_CODEBOOK_SIZE)
    if found is None:
        return None
    codebook, indices = found
    return encode_indices(replace(unit, codebook=codebook), indices, qp, options)
