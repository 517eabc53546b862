from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvc_nnr.experiments.tables.bd_rate import BdRate, Interpolation, Point, bd_psnr_db, bd_rate_percent, gain_curve

# kodim01-12 at preset faster: all in-loop filters, and deblocking with SAO
ALL: list[Point] = [(420.9, 42.665), (253.1, 39.033), (138.9, 35.612), (69.5, 32.470)]
DEBLOCK_SAO: list[Point] = [(419.5, 42.523), (252.0, 38.856), (138.1, 35.429), (68.8, 32.316)]
METHODS: list[Interpolation] = ["pchip", "akima"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("percent", [10.0, -10.0, 100.0])
def test_a_shifted_rate_is_its_shift(method: Interpolation, percent: float) -> None:
    test = [(rate * (1 + percent / 100), quality) for rate, quality in ALL]
    result = bd_rate_percent(ALL, test, method)
    assert result.value_percent == pytest.approx(percent, abs=1e-9)
    assert result.warnings == ()


@pytest.mark.parametrize("method", METHODS)
def test_a_shifted_quality_is_its_shift(method: Interpolation) -> None:
    result = bd_psnr_db(ALL, [(rate, quality + 0.21) for rate, quality in ALL], method)
    assert result.value_db == pytest.approx(0.21, abs=1e-9)
    assert result.warnings == ()


@pytest.mark.parametrize("method", METHODS)
def test_a_curve_against_itself_is_zero(method: Interpolation) -> None:
    assert bd_rate_percent(ALL, ALL, method) == BdRate(pytest.approx(0, abs=1e-12))
    assert bd_psnr_db(ALL, ALL, method).value_db == pytest.approx(0, abs=1e-12)


def test_the_price_of_vtm_1_filters() -> None:
    """Of the mean curve; the mean of the pictures' BD-rates is +2.48 %."""
    assert bd_rate_percent(ALL, DEBLOCK_SAO).value_percent == pytest.approx(2.48, abs=0.15)


@given(
    steps=st.lists(st.tuples(st.floats(1.1, 3), st.floats(0.5, 4)), min_size=4, max_size=6),
    factor=st.floats(0.8, 1.25),
)
def test_swapping_the_curves_inverts_the_ratio(steps: list[tuple[float, float]], factor: float) -> None:
    rate, quality, anchor = 100.0, 30.0, []
    for ratio, step_db in steps:
        rate, quality = rate * ratio, quality + step_db
        anchor.append((rate, quality))
    test = [(rate * factor, quality + 0.1) for rate, quality in anchor]
    there, back = bd_rate_percent(anchor, test).value_percent, bd_rate_percent(test, anchor).value_percent
    assert there is not None
    assert back is not None
    assert (1 + there / 100) * (1 + back / 100) == pytest.approx(1, abs=1e-9)


def test_the_order_of_points_does_not_matter() -> None:
    assert bd_rate_percent(ALL[::-1], DEBLOCK_SAO) == bd_rate_percent(ALL, DEBLOCK_SAO)


@pytest.mark.parametrize(
    ("test", "warning"),
    [
        ([(100, 34), (150, 38), (200, 37), (400, 42)], "test: not monotone"),
        ([(100, 41), (150, 43), (200, 46), (400, 50)], "overlap by 9 %, less than half"),
        ([(70, 32), (140, 36), (250, 39), (420, 41)], "the curves cross"),
        ([(70, 32), (140, 36), (420, 43)], "test: 3 points, fewer than 4"),
        ([(70, 32), (420, 43)], "test: 2 points, fewer than 4"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_warningful_curves_have_a_value_and_a_warning(test: list[Point], warning: str, method: Interpolation) -> None:
    result = bd_rate_percent(ALL, test, method)
    assert result.value_percent is not None
    assert math.isfinite(result.value_percent)
    assert any(warning in text for text in result.warnings), result.warnings


def test_less_than_half_never_prints_as_half() -> None:
    anchor = [(100.0, 30.0), (200.0, 33.0), (400.0, 36.0), (800.0, 40.0)]
    test = [(100.0, 35.01), (200.0, 36.0), (400.0, 38.0), (800.0, 40.0)]
    assert bd_rate_percent(anchor, test).warnings[0] == "the curves overlap by 49 %, less than half"


@pytest.mark.parametrize(
    ("test", "warning"),
    [
        ([], "needs two points"),
        ([(100, 34)], "needs two points"),
        ([(100, 34), (100, 34), (200, 37), (400, 42)], "two points at one rate or one quality"),
        ([(100, 34), (150, 34), (200, 37), (400, 42)], "two points at one rate or one quality"),
        ([(1, 10), (2, 11), (3, 12), (4, 13)], "do not overlap"),
        ([(0, 34), (150, 36), (200, 37), (400, 42)], "not positive"),
        ([(100, 34), (150, 36), (200, 37), (400, math.inf)], "not finite"),
        ([(100, math.nan), (150, 36), (200, 37), (400, 42)], "not finite"),
        ([(math.nan, 33), (150, 36), (200, 37), (400, 42)], "not positive"),
    ],
)
def test_curves_without_a_value_say_why(test: list[Point], warning: str) -> None:
    result = bd_rate_percent(ALL, test)
    assert result.value_percent is None
    assert warning in result.warnings[-1]


def test_bd_psnr_without_a_value_says_why() -> None:
    assert bd_psnr_db(ALL, [(-1, 3), (5, 4)]).value_db is None
    far = bd_psnr_db(ALL, [(1, 10), (2, 11), (3, 12), (4, 13)])
    assert far.value_db is None
    assert far.warnings == ("no value: the curves do not overlap",)


def test_gain_curve_has_bd_psnr_as_its_mean() -> None:
    rates, gains_db = gain_curve(DEBLOCK_SAO, ALL, n_steps=2001)
    assert rates[0] == pytest.approx(69.5)
    assert rates[-1] == pytest.approx(419.5)
    assert sum(gains_db) / len(gains_db) == pytest.approx(bd_psnr_db(DEBLOCK_SAO, ALL).value_db, abs=1e-3)
    assert gain_curve(ALL, []) == ([], [])
