"""The pure part of the benchmark of any network: draws of quantisation noise, and the table."""

from __future__ import annotations

import math

import numpy as np
import pytest
from any_network import LARGEST_CHANGE, Row, factors_of_draws, mean_and_spread, snr_db, table_of


def test_the_first_draw_is_the_network_as_it_is() -> None:
    factors = factors_of_draws(10)
    assert factors[0] == 1.0
    assert len(set(factors)) == 10
    assert all(abs(factor - 1) <= LARGEST_CHANGE for factor in factors)
    assert factors_of_draws(3) == factors[:3]


def test_bytes_are_of_the_first_draw_and_snrs_the_mean_of_all() -> None:
    assert mean_and_spread([(100, 20.0), (104, 26.0)]) == (100, 23.0, pytest.approx(math.sqrt(18)))
    assert mean_and_spread([(100, 20.0)]) == (100, 20.0, 0.0)


def test_a_row_has_the_spread_beside_each_snr() -> None:
    row = Row("net", "GRU", 5, 90, 20.0, 1.5, 80, 21.0, 2.5, 70, 60.0, None, None)
    line = next(line for line in table_of([row]).splitlines() if line.startswith("| net"))
    assert [cell.strip() for cell in line.split("|")[4:10]] == ["90", "20.0", "1.5", "80", "21.0", "2.5"]


def test_an_output_of_another_shape_has_no_snr() -> None:
    assert math.isnan(snr_db([[np.ones(3)]], [[np.ones(2)]]))
    assert snr_db([[np.ones(3)]], [[np.ones(3)]]) == math.inf
