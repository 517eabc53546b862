"""Steps that follow the spread of the tensors: what a network is quantised by where no QP is given.

A layer's output errs by the share that its weights err by, whatever their scale:

    noise of a layer = D / sigma**2        D: mean squared error of its weights, sigma: their spread

One more bit for each of its n weights makes that a quarter. So at a given number of bits for the whole network, the sum
over its layers is least where all have the same noise per weight,

    D / (sigma**2 n) = c        SNR of a tensor = quality + 10 log10(n_mean / n)

with one c, or one quality in dB, for all: small layers get finer steps, since they cost little. n_mean is the size of
the tensor that the average weight is in. Source: reverse water-filling over layers whose noise adds up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.qp import qp_limits, qp_of_step, step_size

# Mean squared error in squared steps: dependent quantisation (measured at 3 bits and more), and uniform.
DEPENDENT_ERROR, UNIFORM_ERROR = 0.25, 1 / 12
# Below so many dB a tensor counts as lost, and is named.
WEAK_DB = 10.0
# Mean absolute value in steps from which on that is out of the question: errors stay below two steps.
STRONG_STEPS = 8.0
# The default's quality lies between these, and no tensor is meant to fall below the first unless that is asked for.
MIN_QUALITY_DB, MAX_QUALITY_DB = 14.0, 72.0
# What a search for a size goes down to, where next to nothing of a tensor is left, and up to, beyond float32's digits;
# and where no step is fine enough, so that all is exact.
LOWEST_QUALITY_DB, HIGHEST_QUALITY_DB, EXACT_QUALITY_DB = -40.0, 160.0, 1000.0
# Rows (slices along the first axis) below WEAK_DB count where they are more than this share of those with a mean square
# above DARK_ROW times the largest row's, and have so many values or more.
WEAK_ROWS_SHARE, DARK_ROW, MIN_ROW_SIZE = 0.1, 1e-9, 8
# Power of the mean over rows: 1 is the mean square of all values, 0 the geometric mean of the rows' mean squares.
ROW_POWER = 0.25
# Rows of less than this share of the mean square are dead.
DEAD_ROW = 1e-4
# Values that are so many octaves above all others, and few (a share) or alike (distinct values), are outliers.
OUTLIER_GAP_OCTAVES, OUTLIER_SHARE, OUTLIER_KINDS = 6, 0.01, 4
_EXPONENT_BIAS = 127
# No ordinary value is that many times the spread.
MAX_RATIO = 64.0
SAMPLE_SIZE = 4096
# A tensor of fewer values is taken for Gaussian.
MIN_SAMPLE_SIZE = 512
QUALITY_TOLERANCE_DB = 0.02
# Steps at which the bits of a sample are counted, as octaves below its spread, coarse to fine.
OCTAVES = np.arange(-3.0, 5.0)


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """How large the values of a tensor are, and what they take.

    Attributes:
        n_values: How many they are.
        rms: Root of the mean square of ordinary values, rows weighed by ROW_POWER; above zero.
        bits: Bits per value of a uniform quantiser, whose step is OCTAVES below `rms`; None: as of Gaussian values.
    """

    n_values: int
    rms: float
    bits: NDArray[np.float64] | None

    def step_at(self, snr_db: float, error: float = DEPENDENT_ERROR) -> float:
        """The step that leaves an SNR, by a quantiser of a mean squared error of `error` squared steps."""
        return self.rms * math.pow(10, -snr_db / 20) / math.sqrt(error)

    def snr_at(self, step: float, error: float = DEPENDENT_ERROR) -> float:
        """The inverse of `step_at`."""
        return 20 * math.log10(self.rms / step / math.sqrt(error))

    def bits_at(self, step: float) -> float:
        """Bits of the whole tensor at a step of a uniform quantiser (dependent quantisation: at twice its step)."""
        octave = math.log2(self.rms / step)
        if self.bits is None:
            return self.n_values * 0.5 * math.log2(1 + 2 * math.pi * math.e * 4.0**octave)
        slope = min(max(float(self.bits[-1] - self.bits[-2]), 0.0), 1.0)
        beyond = max(octave - float(OCTAVES[-1]), 0.0)
        return self.n_values * (float(np.interp(octave, OCTAVES, self.bits)) + slope * beyond)


def spread_of(values: NDArray[np.float32]) -> Spread | None:
    """The spread of a tensor; None if all values are zero.

    Args:
        values: float32, any shape, finite; rows are those of the first axis.
    """
    plain = ordinary(values)
    rms = _rms(plain)
    if rms == 0:
        return None
    return Spread(values.size, rms, _bits(plain, rms) if values.size >= MIN_SAMPLE_SIZE else None)


# Errors are summed in blocks of so many values.
BLOCK_VALUES = 1 << 15


def ordinary(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The values with outliers as zeros: those above a wide gap that are few, or almost all alike, as masks are.

    Args:
        values: float32, any shape, finite.
    """
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    largest = np.float32(max(float(flat.max(initial=0.0)), -float(flat.min(initial=0.0))))
    sample = np.append(flat[_places(flat.size)], largest)
    if not _gaps(_exponent_counts(sample)).size:
        return values  # what has no gap in a part has none in the whole
    counts = _exponent_counts(flat)
    limit = math.inf
    for bottom in _gaps(counts)[::-1]:
        beyond = math.ldexp(1.0, int(bottom) - _EXPONENT_BIAS)
        is_few = int(counts[bottom:].sum()) <= max(1.0, OUTLIER_SHARE * flat.size)
        if is_few or np.unique(np.abs(flat[np.abs(flat) >= beyond])).size <= OUTLIER_KINDS:
            limit = beyond
    return values if limit == math.inf else np.where(np.abs(values) < limit, values, np.float32(0))


def _exponent_counts(flat: NDArray[np.float32]) -> NDArray[np.int64]:
    """How many values have each exponent of float32; zeros and the like have none."""
    counts = np.bincount((flat.view(np.uint32) >> 23 & 0xFF).astype(np.uint8), minlength=256)
    counts[0] = 0
    return counts


def _gaps(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The exponents that begin what lies above a gap."""
    present = np.flatnonzero(counts)
    return present[1:][np.diff(present) > OUTLIER_GAP_OCTAVES]


def _places(n: int) -> NDArray[np.int64]:
    """Places of a sample, spread evenly but not in step with rows."""
    if n <= SAMPLE_SIZE:
        return np.arange(n)
    return (np.arange(SAMPLE_SIZE) * n + (np.arange(SAMPLE_SIZE) * 40503) % n) // SAMPLE_SIZE


def _rms(values: NDArray[np.float32]) -> float:
    """Root of the mean square, rows weighed by ROW_POWER: few large rows do not set the step of the others."""
    rows = values.reshape(values.shape[0], -1) if values.ndim > 1 else values.reshape(1, -1)
    power = np.einsum("ij,ij->i", rows, rows, dtype=np.float64) / max(1, rows.shape[1])
    alive = power[power > DEAD_ROW * power.mean()]
    if not alive.size:
        return 0.0
    largest = float(alive.max())
    mean = float(np.mean((alive / largest) ** ROW_POWER))
    return math.sqrt(largest) * math.pow(mean, 0.5 / ROW_POWER)


def _bits(values: NDArray[np.float32], rms: float) -> NDArray[np.float64]:
    """Entropy of a sample at steps OCTAVES below `rms`, in bits per value."""
    flat = values.reshape(-1)
    sample = np.clip(flat[_places(flat.size)].astype(np.float64) / rms, -MAX_RATIO, MAX_RATIO)
    levels = np.rint(sample * np.exp2(OCTAVES)[:, None]).astype(np.int64)
    return np.array([_entropy(row) for row in levels])


def _entropy(levels: NDArray[np.int64]) -> float:
    counts = np.bincount(levels - levels.min())
    share = counts[counts > 0] / levels.size
    return float(-(share * np.log2(share)).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Spreads:
    """Those of a network whose steps follow from them.

    Attributes:
        weights: Of tensors that are coded as weights, by name.
        vectors: Of biases, norms and other vectors, by name.
        offsets_db: What is added to the SNR of a tensor, by name.
    """

    weights: Mapping[str, Spread]
    vectors: Mapping[str, Spread]
    offsets_db: Mapping[str, float]

    def bits_at(self, quality_db: float, qp_density: int) -> float:
        """What they take at a quality by dependent quantisation, with steps of QPs."""
        targets = self.snrs_db(quality_db)
        found = {**self.weights, **self.vectors}
        qps = {name: nearest_qp(found[name].step_at(snr_db), qp_density) for name, snr_db in targets.items()}
        return sum(found[name].bits_at(2 * step_size(qp, qp_density)) for name, qp in qps.items())

    def snrs_db(self, quality_db: float) -> dict[str, float]:
        """What each tensor's SNR is to be, in dB, where the tensor that the average weight is in has `quality_db`."""
        sizes = [spread.n_values for spread in (self.weights or self.vectors).values()]
        total = sum(sizes)
        log_mean = sum(size * math.log10(size) for size in sizes) / total if total else 0.0

        def wanted(name: str, spread: Spread) -> float:
            by_size = quality_db + 10 * (log_mean - math.log10(spread.n_values))
            return max(by_size + self.offsets_db.get(name, 0.0), min(MIN_QUALITY_DB, quality_db))

        return {name: wanted(name, spread) for name, spread in {**self.weights, **self.vectors}.items()}

    def quality_of(
        self, bits: float, qp_density: int, low: float = MIN_QUALITY_DB, high: float = MAX_QUALITY_DB
    ) -> float:
        """The quality at which they take so many bits, in dB; within `low` and `high`."""
        while high - low > QUALITY_TOLERANCE_DB:
            middle = (low + high) / 2
            low, high = (middle, high) if self.bits_at(middle, qp_density) <= bits else (low, middle)
        return low


def nearest_qp(step: float, qp_density: int) -> int:
    """The QP within the limits whose step is nearest to a given one, on a logarithmic scale."""
    low, high = qp_limits(qp_density)
    if step <= step_size(low, qp_density):
        return low
    coarse = qp_of_step(step, qp_density)
    fine = max(coarse - 1, low)
    return fine if step**2 < step_size(coarse, qp_density) * step_size(fine, qp_density) else min(coarse, high)


def weak_tensors_db(
    tensors: Mapping[str, NDArray[np.float32]], decoded: Mapping[str, NDArray[np.float32]]
) -> dict[str, float]:
    """The SNR of the tensors that keep less than WEAK_DB of themselves, by name; those of `tensors` are looked at."""
    found = {name: snr_db(values, decoded[name]) for name, values in tensors.items()}
    return {name: ratio for name, ratio in found.items() if ratio < WEAK_DB}


def is_surely_strong(values: NDArray[np.float32], step: float) -> bool:
    """Whether a tensor without outliers keeps far more than WEAK_DB at a step, however its levels are chosen.

    Args:
        values: float32, any shape, at least one, finite.
        step: Quantisation step.
    """
    flat = values.reshape(-1)
    mean_steps = float(np.abs(flat[_places(flat.size)]).mean(dtype=np.float64)) / step
    largest = max(float(flat.max()), -float(flat.min())) / step
    return mean_steps > STRONG_STEPS and largest <= MAX_RATIO * mean_steps


def snr_db(values: NDArray[np.float32], decoded: NDArray[Any], step: float = 1.0) -> float:
    """Signal-to-noise ratio of a decoded tensor in dB, that of its ordinary values if that is lower; inf if exact.

    Args:
        values: float32, any shape, finite.
        decoded: Of the same number of values: floats, or levels.
        step: What multiplies them.
    """
    plain = ordinary(values)
    found = _ratio_db(values, values, decoded, step)
    return found if plain is values or found == math.inf else min(found, _ratio_db(values, plain, decoded, step))


def weak_rows(values: NDArray[np.float32], step: float) -> NDArray[np.intp]:
    """The rows that a step may leave less than WEAK_DB, however levels are chosen; none if they are too few to count.

    Args:
        values: float32, any shape, finite; rows are those of the first axis.
        step: Quantisation step.
    """
    none = np.zeros(0, np.intp)
    if values.ndim < 2 or values.shape[0] < 2 or values.size < MIN_ROW_SIZE * values.shape[0]:
        return none
    power = _row_powers(values)
    is_alive = power > DARK_ROW * power.max(initial=0.0)
    found = np.flatnonzero(is_alive & (power < (STRONG_STEPS * step) ** 2))
    return found if found.size > WEAK_ROWS_SHARE * np.count_nonzero(is_alive) else none


def rows_snr_db(values: NDArray[np.float32], decoded: NDArray[Any], rows: NDArray[np.intp], step: float = 1.0) -> float:
    """Signal-to-noise ratio in dB, all together, of those of some rows that keep less than WEAK_DB.

    Args:
        values: float32, of two dimensions or more, finite.
        decoded: Of the same number of values: floats, or levels.
        rows: What `weak_rows` gives, no zero rows among them.
        step: What multiplies `decoded`.

    Returns:
        inf if they are too few to count.
    """
    power = _row_powers(values)
    originals, found = (array.reshape(values.shape[0], -1) for array in (values, decoded))
    n_parts = -(-rows.size * originals.shape[1] // BLOCK_VALUES)
    parts = np.array_split(rows, min(rows.size, n_parts))
    noise = np.concatenate([_row_powers(originals[part] - found[part] * np.float64(step)) for part in parts])
    signal = power[rows]
    is_weak = signal < 10 ** (WEAK_DB / 10) * noise
    n_alive = np.count_nonzero(power > DARK_ROW * power.max(initial=0.0))
    if np.count_nonzero(is_weak) <= WEAK_ROWS_SHARE * n_alive:
        return math.inf
    return 10 * math.log10(float(signal[is_weak].sum()) / float(noise[is_weak].sum()))


def _row_powers(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Mean square of each row."""
    rows = values.reshape(values.shape[0], -1)
    found: NDArray[np.float64] = np.einsum("ij,ij->i", rows, rows, dtype=np.float64) / rows.shape[1]
    return found


def _ratio_db(values: NDArray[np.float32], counted: NDArray[np.float32], decoded: NDArray[Any], step: float) -> float:
    """SNR of the values that count, in blocks that stay in the cache; `counted` has zeros for the others."""
    flat, kept, found = values.reshape(-1), counted.reshape(-1), decoded.reshape(-1)
    signal = noise = 0.0
    for start in range(0, flat.size, BLOCK_VALUES):
        part = slice(start, start + BLOCK_VALUES)
        own = kept[part].astype(np.float64)
        error = flat[part] - found[part] * np.float64(step)
        if counted is not values:
            error[kept[part] != flat[part]] = 0.0
        signal, noise = signal + float(own @ own), noise + float(error @ error)
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
