"""Steps that follow the spread of the tensors: what a network is quantised by where no QP is given.

A layer's output errs by the share that its weights err by, whatever their scale:

    noise of a layer = D / sigma**2        D: mean squared error of its weights, sigma: their spread

One more bit for each of its n weights makes that a quarter. So at a given number of bits for the whole network, the sum
over its layers is least where all have the same noise per weight,

    D / (sigma**2 n) = c        SNR of a tensor = quality + 10 log10(n_mean / n)

with one c, or one quality in dB, for all: small layers get finer steps, since they cost little. n_mean is the size of
the tensor that the average weight is in. Source: reverse water-filling over layers whose noise adds up. Measured noise
of trained networks adds: errors of early layers weigh more than those of late ones, the last one aside, and those of
vectors more than their number tells.

What the values of a tensor share, such as running means about 1000, says nothing of what they differ by. Where it is
larger, they have to keep MIN_QUALITY_DB of their differences too, and a tensor is judged by those.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.qp import qp_limits, qp_of_step, step_size
from vvc_nnr.quantize.snr import (
    difference_power,
    ordinary,
    row_powers,
    sample_places,
)

# Mean squared error in squared steps: dependent quantisation (measured at 3 bits and more), and uniform.
DEPENDENT_ERROR, UNIFORM_ERROR = 0.25, 1 / 12
# A quality that is searched for lies between these, as long as that keeps a size. No tensor is meant to fall below the
# first unless that is asked for; the default's quality falls to LEAST_QUALITY_DB where that takes nearly all the bytes.
MIN_QUALITY_DB, MAX_QUALITY_DB, LEAST_QUALITY_DB = 14.0, 72.0, 0.0
# What each tensor keeps where MIN_QUALITY_DB of all takes more than the default may, and this does not.
NARROW_DB = 11.0
# What a search for a size goes down to, where next to nothing of a tensor is left, and up to, beyond float32's digits;
# and where no step is fine enough, so that all is exact.
LOWEST_QUALITY_DB, HIGHEST_QUALITY_DB, EXACT_QUALITY_DB = -40.0, 160.0, 1000.0
# Power of the mean over rows: 1 is the mean square of all values, 0 the geometric mean of the rows' mean squares.
ROW_POWER = 0.5
# Rows of less than this share of the mean square are dead.
DEAD_ROW = 1e-4
# A part's spread moves the step of all by no more.
MAX_LESS_DB = 9.0
# float32 has no finer steps than this share of a value.
RESOLUTION = 2.0**-24
# Neither have numbers of 16 bits of this share of the spread, by their mantissa bits: values above the spread, and most
# below it, are rounded to what they were.
LEAST_STEP_BITS = {"float16": 12, "bfloat16": 9}
# No ordinary value is that many times the spread.
MAX_RATIO = 64.0
# A tensor of fewer values is taken for Gaussian.
MIN_SAMPLE_SIZE = 512
QUALITY_TOLERANCE_DB = 0.02
# A finer step of the largest tensor may cost the others so much.
MAX_LOSS_OF_OTHERS_DB = 1.5
FILLING_ROUNDS = 8
# Steps at which the bits of a sample are counted, as octaves below its spread, coarse to fine.
OCTAVES = np.arange(-3.0, 5.0)
# Bits per value that dependent quantisation takes beyond those of a uniform quantiser of twice its step, by the latter;
# and with a search that weighs bits. Measured on weights of three trained networks, at five scales.
MORE_AT = (0.0, 1.15, 1.6, 1.95, 2.65, 3.3, 4.6, 7.0)
MORE_BITS = (0.0, 0.37, 0.3, 0.27, 0.18, 0.12, 0.05, 0.0)
MORE_SEARCHED = (0.0, 0.07, 0.2, 0.27, 0.18, 0.12, 0.05, 0.0)
# Values whose bits grow by more than this per octave have no grid: at fine steps it is one bit, which samples miss.
SMOOTH_SLOPE = 0.9
DB_PER_OCTAVE = 20 * math.log10(2)


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """How large the values of a tensor are, and what they take.

    Attributes:
        n_values: How many they are.
        rms: Root of the mean square of ordinary values, rows weighed by ROW_POWER; above zero.
        bits: Bits per value of a uniform quantiser, whose step is OCTAVES below `rms`; None: as of Gaussian values.
        kept_db: SNR in dB that dependent quantisation leaves ordinary values at half those steps; None likewise.
        deviation: Root of the mean square of what they differ by; None: they have no offset, or `rms` is that.
        finest: A step below which float32 has no values; 0: none is too fine.
        least_step: One that leaves no more to gain, since the tensor's number format has fewer digits; 0: float32.
        n_axes: Of the tensor.
        candidate_db: How far those of its values spread less than all that make the new state of a recurrent layer.
    """

    n_values: int
    rms: float
    bits: NDArray[np.float64] | None
    kept_db: NDArray[np.float64] | None = None
    deviation: float | None = None
    finest: float = 0.0
    n_axes: int = 1
    candidate_db: float = 0.0
    least_step: float = 0.0

    def step_at(self, snr_db: float, error: float = DEPENDENT_ERROR) -> float:
        """The step that leaves an SNR.

        Args:
            snr_db: The SNR.
            error: The quantiser's mean squared error in squared steps.
        """
        return self.rms * math.pow(10, -snr_db / 20) / math.sqrt(error)

    def coarsest(self, least_db: float, error: float = DEPENDENT_ERROR) -> float:
        """The step that leaves ordinary values, as far as a sample tells, and differences beside an offset an SNR."""
        step = self.step_at(least_db, error)
        if self.kept_db is not None:
            octave = float(np.interp(least_db, self.kept_db, OCTAVES))
            octave += max(least_db - float(self.kept_db[-1]), 0.0) / DB_PER_OCTAVE
            step = self.rms * 2.0**-octave / (4 * math.sqrt(error))
        if self.deviation is not None:
            step = min(step, self.deviation * math.pow(10, -least_db / 20) / math.sqrt(error))
        return step

    def snr_at(self, step: float, error: float = DEPENDENT_ERROR) -> float:
        """The SNR that a step leaves, that of differences beside an offset."""
        fine_db = 20 * math.log10((self.deviation or self.rms) / step / math.sqrt(error))
        if self.kept_db is None or self.deviation is not None:
            return fine_db
        octave = math.log2(self.rms / step / (4 * math.sqrt(error)))
        beyond = max(octave - float(OCTAVES[-1]), 0.0)
        return float(np.interp(octave, OCTAVES, self.kept_db)) + DB_PER_OCTAVE * beyond

    def bits_at(self, step: float, *, is_searched: bool = True) -> float:
        """Bits of the whole tensor at a step of dependent quantisation.

        Args:
            step: The step.
            is_searched: At low rates the search weighs bits, as that of this package does.
        """
        bits = self.uniform_bits_at(2 * step) / self.n_values
        return self.n_values * (bits + _interpolated(bits, MORE_AT, MORE_SEARCHED if is_searched else MORE_BITS))

    def uniform_bits_at(self, step: float) -> float:
        """Bits of the whole tensor at a step of a uniform quantiser."""
        octave = math.log2(self.rms / step)
        if self.bits is None:
            return self.n_values * 0.5 * math.log2(1 + 2 * math.pi * math.e * 4.0**octave)
        slope = max(float(self.bits[-1] - self.bits[-2]), 0.0)
        slope = 1.0 if slope > SMOOTH_SLOPE else slope
        beyond = max(octave - float(OCTAVES[-1]), 0.0)
        return self.n_values * (float(np.interp(octave, OCTAVES, self.bits)) + slope * beyond)


def _interpolated(x: float, places: Sequence[float], values: Sequence[float]) -> float:
    """What `np.interp` gives of one number, which takes that ten times as long."""
    right = bisect.bisect_right(places, x)
    if right in (0, len(places)):
        return values[0] if right == 0 else values[-1]
    left = right - 1
    slope = (values[right] - values[left]) / (places[right] - places[left])
    return slope * (x - places[left]) + values[left]


def spread_of(values: NDArray[np.float32], *, is_added: bool = False) -> Spread | None:
    """The spread of a tensor; None if all values are zero.

    Args:
        values: float32, any shape, finite; rows are those of the first axis.
        is_added: It is added to something, as biases are: beside an offset only the differences count.
    """
    plain = ordinary(values)
    rms = _rms(plain)
    if rms == 0:
        return None
    power = difference_power(values, plain)
    finest = RESOLUTION * rms if power else 0.0
    deviation = math.sqrt(power) if power else None
    if is_added and deviation is not None:
        plain, rms, deviation = plain - plain.mean(dtype=np.float64).astype(np.float32), deviation, None
    if values.size < MIN_SAMPLE_SIZE:
        return Spread(values.size, rms, None, None, deviation, finest, values.ndim)
    sample = _sample(plain, rms)
    return Spread(values.size, rms, _bits(sample), _kept_db(sample), deviation, finest, values.ndim)


def less_spread_db(values: NDArray[np.float32], part: NDArray[np.float32]) -> float:
    """How far a part spreads less than all, in dB, within MAX_LESS_DB either way; 0 if either is nothing but zeros.

    Args:
        values: float32, any shape, finite; rows are those of the first axis.
        part: Some of its rows or columns.
    """
    whole, own = _rms(ordinary(values)), _rms(ordinary(part))
    if whole == 0 or own == 0:
        return 0.0
    return max(-MAX_LESS_DB, min(20 * math.log10(whole / own), MAX_LESS_DB))


def _rms(values: NDArray[np.float32]) -> float:
    """Root of the mean square, rows weighed by ROW_POWER: few large rows do not set the step of the others."""
    power = row_powers(values)
    alive = power[power > DEAD_ROW * power.mean()]
    if not alive.size:
        return 0.0
    largest = float(alive.max())
    mean = float(np.mean((alive / largest) ** ROW_POWER))
    return math.sqrt(largest) * math.pow(mean, 0.5 / ROW_POWER)


def _sample(values: NDArray[np.float32], rms: float) -> NDArray[np.float64]:
    """Some of the values, in units of `rms`."""
    flat = values.reshape(-1)
    return np.clip(flat[sample_places(flat.size)].astype(np.float64) / rms, -MAX_RATIO, MAX_RATIO)


def _bits(sample: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy of a sample at steps OCTAVES below 1, in bits per value."""
    levels = np.rint(sample * np.exp2(OCTAVES)[:, None]).astype(np.int64)
    return np.array([_entropy(row) for row in levels])


def _kept_db(sample: NDArray[np.float64]) -> NDArray[np.float64]:
    """SNR of a sample by dependent quantisation at half those steps, as of a uniform quantiser of the same error."""
    steps = np.exp2(-OCTAVES)[:, None] * math.sqrt(DEPENDENT_ERROR / UNIFORM_ERROR) / 2
    noise = np.square(sample - steps * np.rint(sample / steps)).mean(1)
    power = float(np.square(sample).mean())
    return np.maximum.accumulate(10 * np.log10(power / np.maximum(noise, np.finfo(np.float64).tiny)))


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
        n_quantised: Values of integer matrices of 8 bits beside them, the weights of a quantised network.
        least_db: What ordinary values of each keep, in dB, or the quality if that is less.
    """

    weights: Mapping[str, Spread]
    vectors: Mapping[str, Spread]
    offsets_db: Mapping[str, float]
    n_quantised: int = 0
    least_db: float = MIN_QUALITY_DB
    _known: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def by_sensitivity(self, sensitivities: Mapping[str, float], share: float = 1.0) -> Spreads:
        """The same with offsets that follow from what noise in each tensor does to the outputs.

        With D_t the mean squared error of tensor t, S_t its sensitivity and n_t its size, the sum of S_t D_t is least
        at a given number of bits where S_t D_t = c n_t, c the same for all. The quality is then that of the outputs:
        the sum is one at 0 dB. Tensors without a sensitivity keep their offsets relative to the mean of the others.

        Args:
            sensitivities: Noise power of the outputs over their own for a mean squared error of 1, by name.
            share: How far offsets go, in dB, from those without sensitivities (0) to those that follow from them (1).
        """
        sizes = {name: spread.n_values for name, spread in (self.weights or self.vectors).items()}
        n_all = sum(spread.n_values for spread in self.all.values())
        n_mean_db = 10 * _mean([(size, math.log10(size)) for size in sizes.values()])
        to_outputs_db = 10 * math.log10(n_all) - n_mean_db if n_all else 0.0
        measured = {
            name: 10 * math.log10(sensitivities[name] * spread.rms**2) + to_outputs_db
            for name, spread in self.all.items()
            if sensitivities.get(name, 0.0) * spread.rms**2 > 0
        }
        shifts = [(self[name].n_values, own - self.offsets_db.get(name, 0.0)) for name, own in measured.items()]
        shift = _mean(shifts)
        offsets = {name: self.offsets_db.get(name, 0.0) + shift for name in self.all}
        measured = {name: offsets[name] + share * (own - offsets[name]) for name, own in measured.items()}
        return replace(self, offsets_db=offsets | measured, least_db=NARROW_DB)

    def qps_at(self, quality_db: float, qp_density: int, least_db: float | None = None) -> dict[str, int]:
        """The QPs of dependent quantisation at a quality, whatever float32 has of values that fine."""
        steps = self._step_array(quality_db, DEPENDENT_ERROR, least_db)
        return dict(zip(self.all, nearest_qps(steps, qp_density).tolist(), strict=True))

    def bits_at(self, quality_db: float, qp_density: int) -> float:
        """What they take at a quality by dependent quantisation, with steps of QPs."""
        return self.bits_of(self.qps_at(quality_db, qp_density), qp_density)

    def bits_of(self, qps: Mapping[str, int], qp_density: int) -> float:
        """What they take by dependent quantisation at given QPs."""
        known: dict[tuple[str, int], float] = self._known.setdefault(qp_density, {})
        found = 0.0
        for key in qps.items():
            bits = known.get(key)
            if bits is None:
                bits = known[key] = self[key[0]].bits_at(step_size(key[1], qp_density))
            found += bits
        return found

    @property
    def all(self) -> dict[str, Spread]:
        """Those of weights and of vectors, by name."""
        if "all" not in self._known:
            self._known["all"] = {**self.weights, **self.vectors}
        found: dict[str, Spread] = self._known["all"]
        return found

    def __getitem__(self, name: str) -> Spread:
        found = self.weights.get(name)
        return self.vectors[name] if found is None else found

    def steps_at(self, quality_db: float, error: float, least_db: float | None = None) -> dict[str, float]:
        """The step of each tensor where the tensor that the average weight is in has `quality_db`.

        Args:
            quality_db: The quality.
            error: The quantiser's mean squared error in squared steps.
            least_db: What ordinary values of each keep, in dB; None: `self.least_db`, or the quality if that is less.
        """
        return dict(zip(self.all, self._step_array(quality_db, error, least_db).tolist(), strict=True))

    def _step_array(self, quality_db: float, error: float, least_db: float | None) -> NDArray[np.float64]:
        """What `steps_at` gives, in the order of `all`."""
        by_size, offsets, rms, least_steps = self._arrays()
        least_db = min(self.least_db, quality_db) if least_db is None else least_db
        key = ("coarsest", least_db, error)
        if key not in self._known:
            self._known[key] = np.array([spread.coarsest(least_db, error) for spread in self.all.values()])
        wanted = rms * np.power(10.0, -(quality_db + by_size + offsets) / 20) / math.sqrt(error)
        found: NDArray[np.float64] = np.maximum(np.minimum(wanted, self._known[key]), least_steps)
        return found

    def _arrays(self) -> tuple[NDArray[np.float64], ...]:
        """Of each tensor, in the order of `all`: SNR by its size and its place, in dB; its spread; its least step."""
        if "arrays" not in self._known:
            sizes = [spread.n_values for spread in (self.weights or self.vectors).values()]
            total = sum(sizes)
            log_mean = sum(size * math.log10(size) for size in sizes) / total if total else 0.0
            spreads = self.all
            columns = (
                [10 * (log_mean - math.log10(spread.n_values)) for spread in spreads.values()],
                [self.offsets_db.get(name, 0.0) for name in spreads],
                [spread.rms for spread in spreads.values()],
                [spread.least_step for spread in spreads.values()],
            )
            self._known["arrays"] = tuple(np.array(column, np.float64) for column in columns)
        found: tuple[NDArray[np.float64], ...] = self._known["arrays"]
        return found

    def quality_of(
        self, bits: float, qp_density: int, low: float = MIN_QUALITY_DB, high: float = MAX_QUALITY_DB
    ) -> float:
        """The quality at which they take so many bits, in dB; within `low` and `high`."""
        return highest_quality_db(lambda quality_db: self.bits_at(quality_db, qp_density) <= bits, low, high)

    def least_db_within(self, bits: float, qp_density: int) -> float:
        """What each tensor keeps at least in the default, in dB, where that may take so many bits."""
        if self.least_db < MIN_QUALITY_DB:
            return self.least_db
        wide, narrow = (
            self.bits_of(self.qps_at(quality_db, qp_density, least_db), qp_density)
            for quality_db, least_db in ((MIN_QUALITY_DB, MIN_QUALITY_DB), (LEAST_QUALITY_DB, NARROW_DB))
        )
        return NARROW_DB if narrow <= bits < wide else MIN_QUALITY_DB

    def qps_within(self, bits: float, qp_density: int, least_db: float) -> tuple[float, dict[str, int]]:
        """The quality, and the QPs near it that leave the least noise, of so many bits; all keep `least_db`.

        QPs are far apart for a tensor with most of the weights. So it is tried at its own QP and at the next finer one,
        with the others at what that leaves, unless they lose much by it: the outputs then suffer more than is told.
        """

        @cache
        def qps_at(quality_db: float) -> dict[str, int]:
            return self.qps_at(quality_db, qp_density, least_db)

        @cache
        def bits_at(quality_db: float) -> float:
            return self.bits_of(qps_at(quality_db), qp_density)

        def within(fixed: dict[str, int]) -> float:
            def fits(quality_db: float) -> bool:
                free = {name: qps_at(quality_db)[name] for name in fixed}
                own_bits = bits_at(quality_db) - self.bits_of(free, qp_density) + self.bits_of(fixed, qp_density)
                return own_bits <= bits

            return highest_quality_db(fits, LEAST_QUALITY_DB, MAX_QUALITY_DB)

        quality_db = within({})
        wanted, plain = self.steps_at(quality_db, DEPENDENT_ERROR, least_db), qps_at(quality_db)
        largest = max(plain, key=lambda name: self[name].n_values, default=None)
        candidates = [plain]
        if largest is not None:
            fixed = {largest: max(plain[largest] - 1, qp_limits(qp_density)[0])}
            others_db = within(fixed)
            if others_db > quality_db - MAX_LOSS_OF_OTHERS_DB:
                candidates.append(qps_at(others_db) | fixed)
        filled = [self._filled(qps, wanted, bits, qp_density) for qps in candidates]
        filled = [qps for qps in filled if self.bits_of(qps, qp_density) <= bits] or [plain]

        def noise(qps: Mapping[str, int]) -> float:
            steps = {name: step_size(qp, qp_density) for name, qp in qps.items()}
            return sum(self[name].n_values * (step / wanted[name]) ** 2 for name, step in steps.items())

        return quality_db, min(filled, key=noise)

    def _filled(
        self, qps: Mapping[str, int], wanted: Mapping[str, float], bits: float, qp_density: int
    ) -> dict[str, int]:
        """The QPs, one finer for the most coarsely rounded tensors as long as the bits last, FILLING_ROUNDS times.

        What is left of the bits since a large tensor's next finer step takes more makes all others finer.
        """
        found, left, lowest = dict(qps), bits - self.bits_of(qps, qp_density), qp_limits(qp_density)[0]
        names, known = list(found), self._known[qp_density]
        wanted_steps = np.array([wanted[name] for name in names])

        def bits_of(key: tuple[str, int]) -> float:
            found_bits: float | None = known.get(key)
            return self.bits_of(dict([key]), qp_density) if found_bits is None else found_bits

        for _ in range(FILLING_ROUNDS):
            before = dict(found)
            ratios = wanted_steps / step_sizes(np.array(list(before.values()), np.int64), qp_density)
            for place in np.argsort(ratios, kind="stable").tolist():
                name = names[place]
                finer = max(before[name] - 1, lowest)
                if step_size(finer, qp_density) < self[name].least_step:
                    continue
                more = bits_of((name, finer)) - bits_of((name, before[name]))
                if more <= left:
                    found[name], left = finer, left - more
            if found == before:
                break
        return found


def _mean(weighed: Sequence[tuple[float, float]]) -> float:
    """The mean of values (second) by their weights (first); 0 without any."""
    total = sum(weight for weight, _ in weighed)
    return sum(weight * value for weight, value in weighed) / total if total else 0.0


def highest_quality_db(fits: Callable[[float], bool], low: float, high: float) -> float:
    """The highest quality that fits, in dB, to QUALITY_TOLERANCE_DB; the lowest if none does."""
    while high - low > QUALITY_TOLERANCE_DB:
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def nearest_qp(step: float, qp_density: int) -> int:
    """The QP within the limits whose step is nearest to a given one, on a logarithmic scale."""
    low, high = qp_limits(qp_density)
    if step <= step_size(low, qp_density):
        return low
    coarse = qp_of_step(step, qp_density)
    fine = max(coarse - 1, low)
    return fine if step**2 < step_size(coarse, qp_density) * step_size(fine, qp_density) else min(coarse, high)


def nearest_qps(steps: NDArray[np.float64], qp_density: int) -> NDArray[np.int64]:
    """The same of several steps above zero, any shape."""
    low, high = qp_limits(qp_density)
    mantissas, exponents = np.frexp(steps)
    k = 1 << qp_density
    above = (exponents - 1.0) * k + np.ceil((2 * mantissas - 1) * k)
    coarse = np.clip(above, low, high).astype(np.int64)
    fine = np.maximum(coarse - 1, low)
    is_finer = steps**2 < step_sizes(coarse, qp_density) * step_sizes(fine, qp_density)
    found: NDArray[np.int64] = np.where(steps <= step_size(low, qp_density), low, np.where(is_finer, fine, coarse))
    return found


def step_sizes(qps: NDArray[np.int64], qp_density: int) -> NDArray[np.float64]:
    """The steps of several QPs, as `step_size` gives each."""
    k = 1 << qp_density
    found: NDArray[np.float64] = np.ldexp((k + (qps & (k - 1))).astype(np.float64), (qps >> qp_density) - qp_density)
    return found
