"""What coding leaves of a tensor: signal over noise, of its ordinary values, of its differences, of its rows.

Outliers, values octaves above all others, do not count for the others. What the values of a tensor share, such as
running means about 1000, says nothing of what they differ by: where it is larger, the differences are judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vvc_nnr import _kernels

# Below so many dB a tensor counts as lost, and is named.
WEAK_DB = 10.0
# Root mean square of a row in steps from which on that is out of the question: errors stay below two steps. A part of
# what an error may be, for float32's rounding.
STRONG_STEPS, SURELY = 8.0, 0.99
# Rows (slices along the first axis) below WEAK_DB count where they are more than this share of those with a mean square
# above DARK_ROW times the largest row's, which is float32's resolution, and have so many values or more.
WEAK_ROWS_SHARE, DARK_ROW, MIN_ROW_SIZE = 0.1, 2.0**-48, 8
# Values that are so many octaves above all others, and few (a share) or alike (distinct values), are outliers.
OUTLIER_GAP_OCTAVES, OUTLIER_SHARE, OUTLIER_KINDS = 6, 0.01, 4
_EXPONENT_BIAS = 127
# A mean of values, or of the rows or columns of a matrix that has so many, is an offset if less than this share of the
# mean square is left without it, but more than float32's rounding of the offset leaves.
OFFSET_SHARE, MIN_MEANS, ROUNDING = 0.5, 16, 2.0**-21
# A part of a tensor that leaves more than this share has no offset.
SURE_SHARE = 0.75
SAMPLE_SIZE = 4096
# Errors are summed in blocks of so many values.
BLOCK_VALUES = 1 << 15


def snr_db(values: NDArray[np.float32], decoded: NDArray[Any], step: float = 1.0) -> float:
    """Signal-to-noise ratio of a decoded tensor in dB, inf if exact.

    The signal is that of all values or of ordinary ones, whichever is less; of either what they differ by, if they have
    an offset.

    Args:
        values: float32, any shape, finite.
        decoded: Of the same number of values: floats, or levels.
        step: What multiplies them.
    """
    return snr_of_errors_db(values, lambda limit: _squared_error(values, decoded, step, limit))


def snr_of_errors_db(values: NDArray[np.float32], squared_error_below: Callable[[float], float]) -> float:
    """The same by squared errors.

    Args:
        values: float32, any shape, finite.
        squared_error_below: Sum of the squared errors of the values that are smaller than a limit.
    """
    return signal_of(values).snr_db(squared_error_below)


@dataclass(frozen=True, slots=True)
class Signal:
    """What errors of a tensor are held against.

    Attributes:
        energy: `signal_energy` of all values.
        has_offset: That is what they differ by.
        limit: Its `outlier_limit`.
        ordinary_energy: `signal_energy` of ordinary values, of which there are others if the limit is finite.
    """

    energy: float
    has_offset: bool
    limit: float
    ordinary_energy: float

    def snr_db(self, squared_error_below: Callable[[float], float]) -> float:
        """What `snr_of_errors_db` gives."""
        all_db = _ratio_db(self.energy, squared_error_below(math.inf))
        if self.limit == math.inf or all_db == math.inf:
            return all_db
        return min(all_db, _ratio_db(self.ordinary_energy, squared_error_below(self.limit)))


def signal_of(values: NDArray[np.float32]) -> Signal:
    """What errors of a tensor, float32 of any shape and finite, are held against."""
    power, limit = difference_power(values, values), outlier_limit(values)
    energy = sum_of_squares(values.reshape(-1)) if power is None else power * values.size
    plain = values if limit == math.inf else np.where(np.abs(values) < limit, values, np.float32(0))
    return Signal(energy, power is not None, limit, energy if plain is values else signal_energy(values, plain))


def signal_energy(values: NDArray[np.float32], plain: NDArray[np.float32]) -> float:
    """Sum of squares of ordinary values, or of what they differ by.

    Args:
        values: float32, any shape, finite.
        plain: Those that count, zeros in place of the others.
    """
    power = difference_power(values, plain)
    if power is not None:
        return power * values.size
    flat = plain.reshape(-1)
    return sum_of_squares(flat)


def weak_tensors_db(
    tensors: Mapping[str, NDArray[np.float32]], decoded: Mapping[str, NDArray[np.float32]]
) -> dict[str, float]:
    """The SNR of the tensors that keep less than WEAK_DB of themselves, by name.

    Args:
        tensors: Those that are looked at; NaN and infinite values are where all came back as they were.
        decoded: What came of them, and perhaps of others.
    """
    lossy = {
        name: values for name, values in tensors.items() if not np.array_equal(values, decoded[name], equal_nan=True)
    }
    found = {name: snr_db(values, decoded[name]) for name, values in lossy.items()}
    return {name: ratio for name, ratio in found.items() if ratio < WEAK_DB}


def is_surely_kept(values: NDArray[np.float32], squared_error: float, *, by_rows: bool = True) -> bool:
    """Whether a tensor and its rows keep WEAK_DB wherever an error falls; False too beside outliers or an offset.

    Args:
        values: float32, any shape, at least one, finite.
        squared_error: Sum of squared errors, or more.
        by_rows: Many weak rows count too.
    """
    return 10 ** (WEAK_DB / 10) * squared_error < sure_energy(values, by_rows=by_rows)


def sure_energy(values: NDArray[np.float32], *, by_rows: bool = True, signal: Signal | None = None) -> float:
    """What 10 dB more than a squared error must be below, so that it `is_surely_kept`; 0 if that is never sure.

    Args:
        values: float32, any shape, at least one, finite.
        by_rows: Many weak rows count too.
        signal: Its `signal_of`; None: not known.
    """
    signal = signal_of(values) if signal is None else signal
    if signal.limit < math.inf or signal.has_offset:
        return 0.0
    powers = row_powers(values)
    energies = powers * (values.size / powers.size)
    if by_rows and _has_rows(values):
        alive = np.sort(energies[powers > DARK_ROW * powers.max()])
        energies = alive[: int(WEAK_ROWS_SHARE * alive.size) + 1]
    return SURELY * float(energies.sum())


def weak_rows(values: NDArray[np.float32], step: float) -> NDArray[np.intp]:
    """The rows that a step may leave less than WEAK_DB, however levels are chosen; none if they are too few to count.

    Args:
        values: float32, any shape, finite; rows are those of the first axis.
        step: Quantisation step.
    """
    none = np.zeros(0, np.intp)
    if not _has_rows(values):
        return none
    power = row_powers(values)
    is_alive = power > DARK_ROW * power.max(initial=0.0)
    found = np.flatnonzero(is_alive & (power < (STRONG_STEPS * step) ** 2))
    return found if found.size > WEAK_ROWS_SHARE * np.count_nonzero(is_alive) else none


def rows_snr_db(values: NDArray[np.float32], row_errors: NDArray[np.float64], rows: NDArray[np.intp]) -> float:
    """Signal-to-noise ratio in dB, all together, of those of some rows that keep less than WEAK_DB.

    Args:
        values: float32, of two dimensions or more, finite.
        row_errors: Sums of squared errors of all rows.
        rows: What `weak_rows` gives, no zero rows among them.

    Returns:
        inf if they are too few to count.
    """
    power = row_powers(values)
    noise = row_errors[rows] * values.shape[0] / values.size
    signal = power[rows]
    is_weak = signal < 10 ** (WEAK_DB / 10) * noise
    n_alive = np.count_nonzero(power > DARK_ROW * power.max(initial=0.0))
    if np.count_nonzero(is_weak) <= WEAK_ROWS_SHARE * n_alive:
        return math.inf
    return 10 * math.log10(float(signal[is_weak].sum()) / float(noise[is_weak].sum()))


def row_powers(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean square of each row, a slice along the first axis; of vectors that of all.

    Args:
        values: float32, any shape, at least one value.
    """
    rows = rows_of(values)
    found: NDArray[np.float64] = _kernels.row_energies(np.ascontiguousarray(rows)) / max(1, rows.shape[1])
    return found


def sum_of_squares(flat: NDArray[np.floating[Any]]) -> float:
    """In float64, and by this thread alone, other than a product by BLAS.

    Args:
        flat: One dimension.
    """
    return float(np.einsum("i,i->", flat, flat, dtype=np.float64))


def ordinary(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The values with outliers as zeros.

    Args:
        values: float32, any shape, finite.
    """
    limit = outlier_limit(values)
    return values if limit == math.inf else np.where(np.abs(values) < limit, values, np.float32(0))


def outlier_limit(values: NDArray[np.float32]) -> float:
    """The size from which on values are outliers, above a wide gap and few, or almost all alike, as masks; inf: none.

    Args:
        values: float32, any shape, finite.
    """
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    if not _kernels.has_exponent_gap(flat, SAMPLE_SIZE, OUTLIER_GAP_OCTAVES):
        return math.inf  # what has no gap in a part has none in the whole
    counts = _exponent_counts(flat)
    limit = math.inf
    for bottom in _gaps(counts)[::-1]:
        beyond = math.ldexp(1.0, int(bottom) - _EXPONENT_BIAS)
        is_few = int(counts[bottom:].sum()) <= max(1.0, OUTLIER_SHARE * flat.size)
        if is_few or np.unique(np.abs(flat[np.abs(flat) >= beyond])).size <= OUTLIER_KINDS:
            limit = beyond
    return limit


def few_apart(values: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Where outliers, infinite values and NaN are; None if there are none, or they are no few.

    Args:
        values: float32, any shape.
    """
    apart = ~np.isfinite(values)
    apart |= np.abs(values) >= outlier_limit(np.where(apart, np.float32(0), values))
    n_apart = int(np.count_nonzero(apart))
    return apart if 0 < n_apart <= max(1.0, OUTLIER_SHARE * values.size) else None


def difference_power(values: NDArray[np.float32], plain: NDArray[np.float32]) -> float | None:
    """Mean square of what ordinary values differ by beside their offset; None if they have none."""
    rows = rows_of(values) if plain is values else values[plain == values].reshape(1, -1)
    row_places = sample_places(rows.shape[0], 4 * MIN_MEANS)
    column_places = sample_places(rows.shape[1], SAMPLE_SIZE // row_places.size)
    if _least_share(rows[row_places[:, None], column_places]) > SURE_SHARE:
        return None
    share = _least_share(rows)
    if share > OFFSET_SHARE:
        return None
    return share * float(row_powers(rows).mean())


def _least_share(rows: NDArray[np.float32]) -> float:
    """What part of the mean square is left without the mean of all values, or those of rows or columns; 1: nothing is.

    Args:
        rows: float32, two dimensions, at least one value.
    """
    n_rows, n_columns = rows.shape
    shift = np.float64(rows[0, 0])
    squares, row_sums, column_sums = _kernels.difference_sums(rows, float(shift))
    mean_square, mean = squares / rows.size, float(row_sums.sum()) / rows.size
    power = mean_square + 2 * shift * mean + shift**2
    found = [(mean_square - mean**2, rows.size)]
    if n_rows >= MIN_MEANS:
        found.append((mean_square - float(np.square(column_sums / n_rows).mean()), n_rows))
    if n_columns >= MIN_MEANS and n_rows > 1:
        found.append((mean_square - float(np.square(row_sums / n_columns).mean()), n_columns))
    shares = [left / power * n / (n - 1) for left, n in found if n > 1 and left > ROUNDING**2 * power]
    return min(shares, default=1.0)


def _exponent_counts(flat: NDArray[np.float32]) -> NDArray[np.int64]:
    """How many values have each exponent of float32; zeros and the like have none."""
    counts = np.bincount((flat.view(np.uint32) >> 23 & 0xFF).astype(np.uint8), minlength=256)
    counts[0] = 0
    return counts


def _gaps(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The exponents that begin what lies above a gap."""
    present = np.flatnonzero(counts)
    return present[1:][np.diff(present) > OUTLIER_GAP_OCTAVES]


def sample_places(n: int, size: int = SAMPLE_SIZE) -> NDArray[np.int64]:
    """Places of a sample, spread evenly but not in step with rows."""
    if n <= size:
        return np.arange(n)
    return (np.arange(size) * n + (np.arange(size) * 40503) % n) // size


def rows_of(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The slices along the first axis; one of vectors."""
    return values.reshape(values.shape[0], -1) if values.ndim > 1 else values.reshape(1, -1)


def _has_rows(values: NDArray[np.float32]) -> bool:
    """Whether there are several, each of which can be weak."""
    return values.ndim > 1 and values.shape[0] > 1 and values.size >= MIN_ROW_SIZE * values.shape[0]


def _squared_error(values: NDArray[np.float32], decoded: NDArray[Any], step: float, limit: float) -> float:
    """Sum over the values below a limit, in blocks that stay in the cache."""
    flat, found = values.reshape(-1), decoded.reshape(-1)
    noise = 0.0
    for start in range(0, flat.size, BLOCK_VALUES):
        part = slice(start, start + BLOCK_VALUES)
        error = flat[part] - found[part] * np.float64(step)
        if limit < math.inf:
            error[np.abs(flat[part]) >= limit] = 0.0
        noise += sum_of_squares(error)
    return noise


def _ratio_db(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return round(10 * math.log10(signal / noise), 6) + 0.0 if signal else -math.inf  # never -0.0
