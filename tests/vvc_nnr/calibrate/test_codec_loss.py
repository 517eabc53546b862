"""Rate and distortion of a codec before and after compression."""

from __future__ import annotations

import pytest

from vvc_nnr.calibrate.codec_loss import RateDistortionLoss, codec_cost
from vvc_nnr.calibrate.samples import OperatingPoint

LOW, HIGH = OperatingPoint(1.0, 30.0, 65.0, 0.01), OperatingPoint(4.0, 41.0, 5.0, 0.16)


def test_the_worst_operating_point_counts() -> None:
    after = (OperatingPoint(1.01, 30.1, 64.0, 0.01), OperatingPoint(3.9, 40.8, 5.2, 0.16))
    loss = RateDistortionLoss((LOW, HIGH), after)
    assert loss.loss_db == pytest.approx(0.2)
    assert loss.rate_rise_percent == pytest.approx(1.0)


def test_cost_is_rate_and_weighted_error_in_bits_of_the_middle() -> None:
    assert codec_cost([LOW]) == pytest.approx(1.0 + 0.01 * 65)
    assert codec_cost([LOW, HIGH]) == pytest.approx((2 * (1.0 + 0.65) + 0.5 * (4.0 + 0.8)) / 2)
    assert codec_cost([LOW, HIGH], rate_weight=0) == pytest.approx((2 * 0.65 + 0.5 * 0.8) / 2)


def test_more_bits_for_fewer_errors_cost_nothing_at_the_slope_of_the_weight() -> None:
    finer = OperatingPoint(1.1, 30.7, 55.0, 0.01)
    assert RateDistortionLoss((LOW,), (finer,)).cost_bpp == pytest.approx(0, abs=1e-12)
