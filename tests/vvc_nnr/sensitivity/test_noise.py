"""What noise in a tensor does to outputs: of linear networks, where it is known, and of others."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from vvc_nnr.bitstream.number_formats import NamedArrays, nearest_float32
from vvc_nnr.errors import InputError
from vvc_nnr.quantize.quality import spread_of
from vvc_nnr.sensitivity.noise import Noise, Outputs, measured_sensitivities, output_meter

RNG = np.random.default_rng(4)
WEIGHTS = RNG.normal(0, 0.1, (24, 40)).astype(np.float32)
INPUTS = [RNG.normal(0, 2, (8, 24)), RNG.normal(0, 1, (4, 24))]


class Linear:
    """x @ w, and the same times a small factor as an output of its own; `bent` makes something else of the first."""

    def __init__(self, bent=lambda y: y) -> None:
        self.bent = bent

    def outputs(self, changed: NamedArrays) -> Iterator[Outputs]:
        w = nearest_float32(changed.get("w", WEIGHTS)).astype(np.float64)
        for x in INPUTS:
            yield {"y": self.bent(x @ w), "small": 1e-3 * (x @ w)}


def sensitivity(runner, arrays=None):
    arrays = {"w": WEIGHTS} if arrays is None else arrays
    spreads = {name: spread_of(nearest_float32(array)) for name, array in arrays.items()}
    return measured_sensitivities(output_meter(runner), arrays, spreads)["w"]


def test_a_linear_layer_answers_as_its_inputs_tell() -> None:
    found = sensitivity(Linear())
    inputs = sum(float(np.square(x).sum()) for x in INPUTS)
    outputs = sum(float(np.square(x @ WEIGHTS.astype(np.float64)).sum()) for x in INPUTS)
    assert found.is_linear
    assert found.per_mse == pytest.approx(40 * inputs / outputs, rel=0.15)  # both outputs weigh the same
    assert found.output_snr_db == pytest.approx(30, abs=1.5)
    assert found == sensitivity(Linear())


@pytest.mark.parametrize("number_format", ["float16", "float64"])
def test_number_formats_tell_the_same(number_format: str) -> None:
    found = sensitivity(Linear(), {"w": WEIGHTS.astype(number_format)})
    assert found.per_mse == pytest.approx(sensitivity(Linear()).per_mse, rel=0.05)


def test_noise_is_finer_where_outputs_bend() -> None:
    bent = sensitivity(Linear(lambda y: np.tanh(4 * np.sin(20 * y))))
    assert bent.level_db > 40
    assert bent.is_linear


def test_noise_is_coarser_where_outputs_are_rounded() -> None:
    rounded = sensitivity(Linear(lambda y: np.round(y * 8) / 8))
    assert rounded.per_mse > 0
    stepped = Linear(lambda y: np.round(y * 8) / 8)
    stepped.outputs = lambda changed: ({"y": out["y"]} for out in Linear(stepped.bent).outputs(changed))  # type: ignore
    assert 0 < sensitivity(stepped).per_mse < math.inf


def test_what_reaches_no_output_has_none() -> None:
    class Deaf(Linear):
        def outputs(self, changed: NamedArrays) -> Iterator[Outputs]:
            return super().outputs({})

    found = sensitivity(Deaf())
    assert found.per_mse == 0
    assert found.output_snr_db == math.inf


def test_zeros_outliers_and_what_is_not_finite_get_no_noise() -> None:
    values = WEIGHTS.copy()
    values[0, :5], values[1, 0], values[2, 0] = 0, 1e9, math.inf
    spread = spread_of(np.where(np.isfinite(values), values, 0))
    noisy, mse = Noise("w", values, spread).draw(0, 30)
    changed = noisy != values
    assert not changed[0, :5].any()
    assert not changed[1, 0]
    assert not changed[2, 0]
    assert changed[3:].all()
    difference = np.where(changed, noisy, 0).astype(np.float64) - np.where(changed, values, 0)
    assert mse == pytest.approx(np.square(difference).mean())


class Odd(Linear):
    def __init__(self, odd) -> None:
        super().__init__()
        self.odd = odd

    def outputs(self, changed: NamedArrays) -> Iterator[Outputs]:
        for number, outputs in enumerate(super().outputs(changed)):
            yield {"y": self.odd(outputs["y"], number, bool(changed))}


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (lambda y, number, _: np.where(number, np.nan, y), "output 'y' has NaN or infinite values on batch 1"),
        (lambda y, *_: y + np.random.default_rng().normal(size=y.shape), "another at each run"),
        (lambda y, *_: 0 * y, "no output of real floats that is other than zero"),
        (lambda y, _, is_noisy: y[:-1] if is_noisy else y, r"has the shape \(8, 40\) or \(7, 40\)"),
        (lambda y, _, is_noisy: y * np.nan if is_noisy else y, "noise in tensor 'w' makes outputs NaN"),
    ],
)
def test_outputs_that_tell_nothing_are_refused(odd, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sensitivity(Odd(odd))
