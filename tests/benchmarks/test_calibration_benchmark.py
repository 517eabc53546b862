"""The pure part of the benchmark of calibrated compression: sizes at equal loss, table, plot."""

from __future__ import annotations

from dataclasses import replace

import pytest
from calibration_rows import Row, plot, reference_size_at, size_at, table

OURS = Row("calibrated", "lambda_rd 1e-11", 500, 5.0, 29.8, 0.2, 0.19, 60.0)
THEIRS = [
    Row("NNCodec, dependent", "QP -40", 2000, 20.0, 29.95, 0.05, None, 3.0),
    Row("NNCodec, dependent", "QP -36", 1000, 10.0, 29.8, 0.2, None, 3.0),
    Row("NNCodec, uniform", "QP -38", 1800, 18.0, 29.95, 0.05, None, 3.0),
    Row("NNCodec, uniform", "QP -34", 800, 8.0, 29.6, 0.4, None, 3.0),
]


def test_a_size_between_two_rows_is_theirs_on_logarithmic_scales() -> None:
    assert size_at(THEIRS[:2], 0.1) == pytest.approx((2000 * 1000) ** 0.5)
    assert size_at(THEIRS[:2], 0.2) == pytest.approx(1000)


@pytest.mark.parametrize("loss_db", [0.04, 0.3, 0.0, -0.1])
def test_no_size_beyond_the_rows(loss_db: float) -> None:
    assert size_at(THEIRS[:2], loss_db) is None


def test_rows_that_lose_nothing_do_not_count() -> None:
    assert size_at([THEIRS[0], replace(THEIRS[1], loss_db=-0.01)], 0.05) is None


def test_the_reference_is_the_best_of_its_files() -> None:
    beaten = replace(THEIRS[1], size_bytes=1900, loss_db=0.3)
    assert reference_size_at([*THEIRS, beaten], 0.05) == pytest.approx(1800)
    assert reference_size_at([*THEIRS, beaten], 0.1) == pytest.approx((1800 * 1000) ** 0.5)
    assert reference_size_at([*THEIRS, beaten], 0.2) == pytest.approx(1000)
    assert reference_size_at(THEIRS, 0.04) is None
    assert reference_size_at([OURS], 0.1) is None


def test_the_table_has_every_row_and_the_share_of_ours() -> None:
    lines = table([OURS, *THEIRS]).splitlines()
    assert len(lines) == 2 + 5
    assert lines[2].endswith("| 0.2000 | 0.1900 | 60 | 50.0 |")
    assert lines[3] == "| NNCodec, dependent | QP -40 | 2,000 | 20.00 | 29.950 | 0.0500 |  | 3 |  |"


def test_the_plot_has_a_line_for_each_method() -> None:
    axes = plot([Row("float32", "-", 10000, 100.0, 30.0, 0.0, None, 0.0), OURS, *THEIRS], "net").axes[0]
    assert axes.get_legend_handles_labels()[1] == ["float32", "calibrated", "NNCodec, dependent", "NNCodec, uniform"]
    assert axes.lines[1].get_xdata() == [5.0]
