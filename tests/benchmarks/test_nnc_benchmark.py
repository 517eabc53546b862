"""The pure parts of the benchmark against the reference software: networks, searches, tables. Nothing is timed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nnc_worker
import numpy as np
import pytest
from nnc import Result, build_parser, table, write_json, write_tsv
from nnc_measure import BinsRow, CodingRow, LowRateRow, at_error, largest, speedup
from nnc_networks import ALEXNET, laplacian, n_values, networks, one_matrix, tiny_tensors

from vvc_nnr.experiments.records.tsv import read_rows
from vvc_nnr.experiments.tables.table import to_markdown

PEER_ROW = CodingRow("net", "decode", "peer", "peer", "2.1.3", 2, 1000, 500, 1e-6, 3.0, 2.5, 2.9, 3, 4.0, None, 0.5)
OUR_ROW = replace(PEER_ROW, codec="ours", median_s=0.5, peak_models=0.1)
LOW_RATE_ROW = LowRateRow(1.0, -20, 1.1, 1e-4, "thorough", "default", 1.0, 9.1, 90.0)
BINS_ROW = BinsRow(1000, 0.5, 4, 15, 100.0, 150.0, 0.5)


def test_laplacian_has_its_deviation_and_is_the_same_each_time() -> None:
    values = [laplacian(np.random.default_rng(1), (300, 400), 0.02) for _ in range(2)]
    assert values[0].dtype == np.float32
    assert np.array_equal(*values)
    assert values[0].std() == pytest.approx(0.02, rel=0.02)
    assert abs(values[0].mean()) < 2e-4


def test_networks_have_the_sizes_that_they_are_called_by() -> None:
    n_alexnet = sum(int(np.prod(shape)) + shape[0] for shape, _, _ in ALEXNET.values())
    assert n_alexnet == 61_100_840
    assert n_values(networks()["batchnorm10m"]["batchnorm10m"]()) == pytest.approx(1e7, rel=0.02)
    assert [n_values(one_matrix(10**e)) for e in (4, 5)] == [10**4, 10**5]
    assert n_values(tiny_tensors(10)) == 320
    assert len(networks(huge=True)["scaling"]) == len(networks()["scaling"]) + 1


@pytest.mark.parametrize("limit", [-7, -3, 0, 5])
def test_largest(limit: int) -> None:
    assert largest(lambda number: number <= limit, -7, 5) == limit


def test_bits_at_an_error() -> None:
    assert at_error(2.0, (1.0, 300.0), (4.0, 100.0)) == pytest.approx(200.0)


def test_error_and_digest_are_of_all_values() -> None:
    network = {"a": np.zeros(3, np.float32), "b": np.ones((1, 1), np.float32)}
    decoded = {"b": np.full((1, 1), 3, np.float32), "a": np.zeros(3, np.float32)}
    assert nnc_worker.mean_squared_error(network, decoded) == 1
    assert nnc_worker.digest(network) == nnc_worker.digest(dict(reversed(network.items())))
    assert nnc_worker.digest(network) != nnc_worker.digest(decoded)


def test_speedup_is_over_the_peer_on_its_own_file() -> None:
    rows = [PEER_ROW, replace(PEER_ROW, file_of="ours", median_s=9.0), OUR_ROW]
    assert speedup(OUR_ROW, rows) == 6
    assert speedup(OUR_ROW, [OUR_ROW]) is None


@pytest.mark.parametrize(
    ("case", "row"), [("alexnet", OUR_ROW), ("alexnet", PEER_ROW), ("lowrate", LOW_RATE_ROW), ("bins", BINS_ROW)]
)
def test_rows_become_tables_and_files(tmp_path: Path, case: str, row: CodingRow | LowRateRow | BinsRow) -> None:
    result = Result(case, (row,))
    assert to_markdown(table(result, ["a note"])).startswith(f"**{case}: ")
    write_tsv(tmp_path, result, {"version": "1"})
    assert read_rows(tmp_path / f"nnc_{case}.tsv", type(row)).rows == (row,)
    write_json(tmp_path / "all.json", [result], {"version": "1"})
    assert '"provenance"' in (tmp_path / "all.json").read_text()


def test_options() -> None:
    options = build_parser().parse_args(["--case", "bins", "--threads", "1"])
    assert (list(options.case), options.threads, options.runs) == (["bins"], [1], 3)
