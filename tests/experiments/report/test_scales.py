from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvc_nnr.experiments.report.scales import Scale, round_step, scale_of, tick_texts


def test_values_lie_in_proportion() -> None:
    scale = Scale(10, 20, 100, 300)
    assert [scale.place(v) for v in (10, 15, 20)] == [100, 200, 300]
    log = Scale(1, 100, 0, 2, logarithmic=True)
    assert [log.place(v) for v in (1, 10, 100)] == pytest.approx([0, 1, 2])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.booleans())
def test_every_value_is_inside_and_ticks_are_round(values: list[float], with_zero: bool) -> None:
    scale = scale_of(values, 0, 100, with_zero=with_zero)
    assert all(0 <= scale.place(value) <= 100 for value in values)
    assert not with_zero or scale.low <= 0 <= scale.high
    ticks = scale.ticks(6)
    assert 1 <= len(ticks) <= 8
    assert all(0 <= scale.place(tick) <= 100.001 for tick in ticks)


@given(st.lists(st.floats(1e-3, 1e9), min_size=1))
def test_logarithmic_scales_leave_out_what_has_no_logarithm(values: list[float]) -> None:
    scale = scale_of([*values, 0.0, -1.0, math.inf], 0, 100, logarithmic=True)
    assert scale.low > 0
    assert all(0 <= scale.place(value) <= 100 for value in values)
    assert all(scale.low <= tick <= scale.high for tick in scale.ticks(6))


def test_nothing_to_draw_still_makes_a_scale() -> None:
    assert scale_of([], 0, 1).ticks(5)
    assert scale_of([math.inf], 0, 1, logarithmic=True).low > 0


@pytest.mark.parametrize(("step", "rounded"), [(1, 1), (1.1, 2), (0.021, 0.025), (30, 50), (60, 100), (0.001, 0.001)])
def test_steps_are_round(step: float, rounded: float) -> None:
    assert round_step(step) == pytest.approx(rounded)


def test_ticks_have_the_digits_that_they_need() -> None:
    assert tick_texts([-0.5, 0.0, 0.5]) == ["-0.5", "0.0", "0.5"]
    assert tick_texts([30.0, 32.5]) == ["30.0", "32.5"]
    assert tick_texts([-15.0, -10.0]) == ["-15", "-10"]
    assert tick_texts([0.5, 1.0, 20.0], logarithmic=True) == ["0.5", "1", "20"]
