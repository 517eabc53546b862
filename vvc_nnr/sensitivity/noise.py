"""How much noise in one tensor at a time brings to a network's outputs.

    sensitivity of a tensor = (noise power of an output / its power, mean over outputs) / D

with D the mean squared error of the tensor's values. Small errors act on the outputs linearly, so that noise of one
level tells what another does, and independent ones of several tensors add up. That is checked: the same noise at two
levels, LEVEL_STEP_DB apart, must give the same sensitivity, or other levels are tried.

Each output counts the same, whatever its scale and size: its power is that over all batches.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from vvc_nnr.bitstream.number_formats import (
    Array,
    FloatBits,
    NamedArrays,
    from_float32,
    in_format,
    nearest_float32,
    number_format_of,
)
from vvc_nnr.errors import InputError, shown
from vvc_nnr.parallel import Progress
from vvc_nnr.quantize.quality import Spread
from vvc_nnr.quantize.snr import outlier_limit

SEED = 1
Outputs: TypeAlias = Mapping[str, Array]
"""The float outputs of one batch by name."""
# Noise below the tensor's spread in dB, and what is tried where its effect is not linear: finer, then coarser.
LEVEL_STEP_DB = 10.0
FIRST_LEVELS_DB = (30.0, 40.0, 20.0, 10.0)
# Sensitivities at two levels that differ by no more are one.
LINEAR_DB = 1.5
# Draws that are compared at two levels; draws in all, and the standard error of their mean, relative, that will do.
N_COMPARED, MIN_DRAWS, MAX_DRAWS, ENOUGH = 2, 3, 12, 0.25


class Runner(Protocol):
    """Runs a network on the batches that it was given."""

    def outputs(self, changed: NamedArrays) -> Iterator[Outputs]:
        """The float outputs of each batch with some tensors changed, in the order of the batches.

        Raises:
            InputError: If the network cannot be run.
        """


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What noise in a tensor does to the outputs.

    Attributes:
        per_mse: Noise power over power, mean over outputs, for a mean squared error of 1; 0 if nothing reaches them.
        output_snr_db: Of the outputs where noise in this tensor is 30 dB below its spread; inf if nothing reaches them.
        level_db: The finer of the two levels that it was measured at, in dB below the spread.
        is_linear: Whether both levels told the same.
        n_draws: Over how many draws of noise it is the mean.
    """

    per_mse: float
    output_snr_db: float
    level_db: float
    is_linear: bool
    n_draws: int


@dataclass(frozen=True, slots=True, eq=False)
class OutputMeter:
    """A network's outputs, against which changed ones are measured.

    Attributes:
        runner: Runs it.
        references: Its outputs in each batch.
        energies: Sum of the squares of each output over all batches, above zero.
    """

    runner: Runner
    references: tuple[Outputs, ...]
    energies: Mapping[str, float]

    def noise_share(self, changed: NamedArrays) -> float:
        """Noise power over power, mean over outputs, with some tensors changed; infinite beside NaN.

        Raises:
            InputError: If an output gets another shape.
        """
        noise = dict.fromkeys(self.energies, 0.0)
        for reference, outputs in zip(self.references, self.runner.outputs(changed), strict=True):
            for name in noise:
                noise[name] += _squared_difference(name, reference[name], outputs[name])
        shares = [noise[name] / energy for name, energy in self.energies.items()]
        found = sum(shares) / len(shares)
        return found if math.isfinite(found) else math.inf

    def snr_db(self, changed: NamedArrays) -> float:
        """The SNR of the outputs with some tensors changed, in dB; inf if they are the same, -inf beside NaN."""
        share = self.noise_share(changed)
        return math.inf if share == 0 else -10 * math.log10(share) if share < math.inf else -math.inf


def _squared_difference(name: str, before: Array, after: Array) -> float:
    if before.shape != after.shape:
        raise InputError(
            f"sensitivity: output {shown(name, 200)!r} has the shape {before.shape} or {after.shape} as weights "
            "change, like a list of detections: measure a network that ends before it"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.square(np.subtract(before, after, dtype=np.float64)).sum())


def output_meter(runner: Runner) -> OutputMeter:
    """The meter of a network.

    Raises:
        InputError: If it cannot be run, has no output of floats that is other than zero, one has NaN or infinite values
            or is another at each run.
    """
    references = tuple(runner.outputs({}))
    again = tuple(runner.outputs({}))
    energies: dict[str, float] = {}
    for place, (first, second) in enumerate(zip(references, again, strict=True)):
        for name, values in first.items():
            if not np.isfinite(values).all():
                raise InputError(
                    f"sensitivity: output {shown(name, 200)!r} has NaN or infinite values on batch {place}: give "
                    "inputs that the network is made for"
                )
            energy = float(np.square(values, dtype=np.float64).sum())
            energies[name] = energies.get(name, 0.0) + energy
            if _squared_difference(name, values, second[name]) > energy * SAME_SHARE:
                raise InputError(
                    f"sensitivity: output {shown(name, 200)!r} is another at each run: a network that draws random "
                    "numbers cannot be measured"
                )
    energies = {name: energy for name, energy in energies.items() if energy > 0}
    if not energies:
        raise InputError(
            "sensitivity: the network has no output of real floats that is other than zero, by which noise could be "
            "measured: tensors or arrays, not complex ones"
        )
    return OutputMeter(runner, references, energies)


# Two runs with the same weights may differ by this share, since sums in threads may.
SAME_SHARE = 1e-8


def measured_sensitivities(
    meter: OutputMeter, arrays: NamedArrays, spreads: Mapping[str, Spread], progress: Progress | None = None
) -> dict[str, Sensitivity]:
    """What noise in each tensor does to the outputs, by name.

    Args:
        meter: Of the network.
        arrays: Its tensors.
        spreads: Those of the tensors that are measured.
        progress: Called with the tensors measured so far and their number.
    """
    found = {}
    for place, (name, spread) in enumerate(spreads.items()):
        if progress is not None:
            progress(place, len(spreads))
        found[name] = _sensitivity(meter, name, Noise(name, arrays[name], spread), spread)
    if progress is not None:
        progress(len(spreads), len(spreads))
    return found


class Noise:
    """Noise for a tensor, in its number format.

    It is where the quantiser's is: values that are zero, outliers, infinite values and NaN come back as they are.

    Args:
        name: The tensor's name, by which draws differ.
        array: The tensor, of floats.
        spread: How large its values are.
    """

    def __init__(self, name: str, array: Array | FloatBits, spread: Spread) -> None:
        self._key, self._format = zlib.crc32(name.encode()), number_format_of(name, array)
        self._values = nearest_float32(array)
        finite = np.where(np.isfinite(self._values), self._values, np.float32(0))
        self._is_noisy = (finite != 0) & (np.abs(finite) < outlier_limit(finite))
        self._deviation = min(spread.rms, spread.deviation or spread.rms)

    def draw(self, number: int, level_db: float) -> tuple[Array | FloatBits, float]:
        """The tensor with a draw of noise so far below its spread, and the mean squared error of its values."""
        rng = np.random.default_rng([SEED, self._key, number])
        pattern = rng.standard_normal(self._values.shape, np.float32)
        pattern *= np.float32(self._deviation * 10 ** (-level_db / 20))
        wanted = np.where(self._is_noisy, self._values + pattern, self._values)
        noisy = from_float32(wanted, self._format)
        error = np.subtract(nearest_float32(noisy), self._values, where=self._is_noisy, out=np.zeros_like(pattern))
        mse = float(np.square(error, dtype=np.float64).mean())
        return in_format(noisy, self._format), mse


def _sensitivity(meter: OutputMeter, name: str, noise: Noise, spread: Spread) -> Sensitivity:
    known: dict[tuple[int, float], float] = {}

    def per_mse(number: int, level_db: float) -> float:
        if (number, level_db) not in known:
            array, mse = noise.draw(number, level_db)
            known[number, level_db] = meter.noise_share({name: array}) / mse if mse else 0.0
        return known[number, level_db]

    def compared(level_db: float) -> float:
        return sum(per_mse(number, level_db) for number in range(N_COMPARED))

    least_off_db, level_db = math.inf, None
    for coarse_db in FIRST_LEVELS_DB:
        off_db = _apart_db(compared(coarse_db), compared(coarse_db + LEVEL_STEP_DB))
        if off_db < least_off_db:
            least_off_db, level_db = off_db, coarse_db + LEVEL_STEP_DB
        if off_db <= LINEAR_DB:
            break
    if level_db is None:
        coarsest = FIRST_LEVELS_DB[-1]
        level_db = next((level for level in sorted(FIRST_LEVELS_DB) if 0 < compared(level) < math.inf), coarsest)
        if not 0 < compared(level_db) < math.inf:
            _check_bounded(name, known)
            return Sensitivity(0.0, math.inf, level_db, True, N_COMPARED)
    draws = [per_mse(number, level_db) for number in range(MIN_DRAWS)]
    while len(draws) < MAX_DRAWS and _standard_error(draws) > ENOUGH * np.mean(draws):
        draws.append(per_mse(len(draws), level_db))
    finite = [each for each in draws if each < math.inf]
    mean = sum(finite) / len(finite)
    share = mean * spread.rms**2 / 1000
    snr_db = -10 * math.log10(share) if share > 0 else math.inf
    return Sensitivity(mean, snr_db, level_db, least_off_db <= LINEAR_DB, len(draws))


def _check_bounded(name: str, known: Mapping[tuple[int, float], float]) -> None:
    if any(each == math.inf for each in known.values()):
        raise InputError(
            f"sensitivity: noise in tensor {shown(name, 200)!r} makes outputs NaN or infinite, however small it is: "
            "give inputs that the network is made for"
        )


def _apart_db(coarse: float, fine: float) -> float:
    """How far two sensitivities are apart; infinite if one is zero or infinite."""
    if not (0 < coarse < math.inf and 0 < fine < math.inf):
        return math.inf
    return abs(10 * math.log10(fine / coarse))


def _standard_error(draws: Sequence[float]) -> float:
    """Of their mean; 0 beside infinite ones, which more draws do not mend."""
    if math.inf in draws:
        return 0.0
    return float(np.std(draws, ddof=1)) / math.sqrt(len(draws))
