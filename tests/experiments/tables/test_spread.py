"""Standard deviations and confidence intervals, held against scipy and against the means of the other tables."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from vvc_nnr.experiments.records.provenance import Conventions
from vvc_nnr.experiments.records.rows import ImageRow, NetworkRow, ToolRow, frame_of
from vvc_nnr.experiments.records.settings import LastRun
from vvc_nnr.experiments.tables.spread import Spread
from vvc_nnr.experiments.tables.stored import StoredImages, tool_tables
from vvc_nnr.experiments.tables.table import Cell, Table


def test_a_spread_is_that_of_scipy() -> None:
    values = [0.3, -0.1, 0.25, 0.7, 0.05]
    found = Spread.of([*values, math.inf, math.nan, None])
    assert found is not None
    assert (found.n, found.mean) == (5, pytest.approx(np.mean(values)))
    assert found.standard_deviation == pytest.approx(np.std(values, ddof=1))
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_few_values_have_no_interval() -> None:
    assert Spread.of([]) is None
    assert Spread.of([1.0]) == Spread(1, 1.0, None, None, None)
    two = Spread.of([1.0, 2.0])
    assert two is not None
    assert (two.standard_deviation, two.low, two.high) == (pytest.approx(math.sqrt(0.5)), None, None)
    same = Spread.of([1.0, 1.0, 1.0])
    assert same == Spread(3, 1.0, 0.0, 1.0, 1.0)


def rows_of(table: Table, **where: Cell) -> list[dict[str, Cell]]:
    heads = [column.head for column in table.columns]
    every = [dict(zip(heads, row, strict=True)) for row in table.rows]
    return [row for row in every if all(row[head] == value for head, value in where.items())]


def test_gains_and_bd_rates_over_sequences(tool_rows: list[ToolRow], tool_networks: tuple[NetworkRow, ...]) -> None:
    third = [
        replace(row, sequence="Third", psnr_y_db=row.psnr_y_db + (0.2 if row.network else 0))
        for row in tool_rows
        if row.sequence == "Cactus"
    ]
    tables = tool_tables([*tool_rows, *third], tool_networks, tool_networks, Conventions())
    spread = tables["spread_over_sequences"]
    about: dict[str, Cell] = {"Network": "post", "Weights": "uniform8", "Against": "all filters"}
    for qp in (22, 27, 32, 37):
        (row,) = rows_of(spread, **about, Measure="PSNR gain [dB]", QP=str(qp), Plane="Y")
        (gain,) = rows_of(tables["gain_per_qp"], **about, QP=qp)
        assert (row["n"], row["Mean"]) == (3, pytest.approx(gain["Y"]))
    (row,) = rows_of(spread, **about, Measure="BD-rate [%]", Plane="Y")
    (overall,) = rows_of(tables["bd_rate"], **about, Class="Overall (3)")
    own = [each["Y"] for each in rows_of(tables["bd_rate_per_sequence"], **about)]
    interval = stats.ttest_1samp(own, 0).confidence_interval(0.95)
    assert row["Mean"] == pytest.approx(overall["Y"])
    assert row["Standard deviation"] == pytest.approx(np.std(own, ddof=1))
    assert (row["95 % from"], row["95 % to"]) == (pytest.approx(interval.low), pytest.approx(interval.high))
    trained = rows_of(spread, Network="post", Weights="uniform8", Against="weights as trained", Measure="BD-rate [%]")
    (coded,) = rows_of(tables["coded_weights"], Network="post", Weights="uniform8", Class="Overall (3)")
    assert [each["Mean"] for each in trained if each["Plane"] == "Y"] == [pytest.approx(coded["Y"])]


def test_table_4_is_compared_image_by_image(image_rows: list[ImageRow], autoencoders: tuple[NetworkRow, ...]) -> None:
    tables = StoredImages(tuple(image_rows), Conventions().to_header(), LastRun(), autoencoders, autoencoders).tables()
    spread, table4 = tables["spread_over_images"], tables["table4_end_to_end"]
    shown = [row for row in rows_of(table4) if row["To CNN-AE"] is not None and row["At the rate of"] != "paper"]
    assert shown
    frame = frame_of(image_rows, ImageRow)
    coded = {
        name: rows.set_index("image")["psnr_db"] for name, rows in frame[frame["method"] == "cnn-ae"].groupby("weights")
    }
    for row in shown:
        about = {head: row[head] for head in ("At the rate of", "Method", "Setting")}
        (found,) = rows_of(spread, **about, Measure="PSNR [dB]")
        assert found["n"] == row["Images"]
        assert found["Mean"] == pytest.approx(row["To CNN-AE"])
        if row["Setting"] in coded:
            differences = coded[str(row["Setting"])] - coded["original"]
            assert found["Standard deviation"] == pytest.approx(differences.std())
