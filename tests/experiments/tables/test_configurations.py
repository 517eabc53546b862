"""Tables of several coding configurations: side by side, and gains per temporal layer, from hand-made rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.charts import final_variants, layer_chart
from vvc_nnr.experiments.plots import charts_figure
from vvc_nnr.experiments.records.provenance import Conventions
from vvc_nnr.experiments.records.rows import NetworkRow, ToolRow, frame_of
from vvc_nnr.experiments.records.settings import LastRun
from vvc_nnr.experiments.tables.means import tool_results
from vvc_nnr.experiments.tables.stored import StoredTools

GAINS_DB = {"Cactus": (0.1, 0.3, 0.5), "BasketballPass": (0.2, 0.4, 0.4)}
"""Of the intra picture and of one picture in each of two temporal layers."""


@pytest.fixture
def networks(tool_networks: tuple[NetworkRow, ...]) -> tuple[NetworkRow, ...]:
    return tuple(row for row in tool_networks if row.network == "post" and row.weights == "original")


@pytest.fixture
def intra(tool_rows: list[ToolRow]) -> list[ToolRow]:
    """All filters alone and one network behind them."""
    return [row for row in tool_rows if row.loop_filters == "all" and row.weights in ("none", "original")]


@pytest.fixture
def inter(intra: list[ToolRow]) -> list[ToolRow]:
    """Three pictures of each sequence at each QP: an intra picture and two of temporal layers."""
    rows = []
    for row in (each for each in intra if each.picture == 0):
        for picture, (slice_type, layer) in enumerate((("I", 0), ("B", 0), ("B", 3))):
            gain_db = GAINS_DB[row.sequence][picture] if row.network else 0
            level_db = 40 - (row.qp - 22) * 0.5
            rows.append(
                replace(
                    row, config="ra", picture=picture, slice_type=slice_type, temporal_layer=layer,
                    psnr_y_db=level_db + gain_db, n_bits=row.n_bits // (1 + picture), slice_qp=row.qp + 3 * picture - 3,
                    network_qp=row.qp if row.network else None,
                )
            )  # fmt: skip
    return rows


def stored(rows: list[ToolRow], networks: tuple[NetworkRow, ...]) -> StoredTools:
    header = Conventions(loop_filters="as they are", encoder="an encoder").to_header()
    return StoredTools(tuple(rows), header, LastRun(), networks, networks, "pchip")


def test_gains_per_temporal_layer(inter: list[ToolRow], networks: tuple[NetworkRow, ...]) -> None:
    table = stored(inter, networks).tables()["gain_per_layer_ra"]
    heads = [column.head for column in table.columns]
    rows = [dict(zip(heads, row, strict=True)) for row in table.rows]
    assert [(row["QP"], row["Layer"]) for row in rows[:4]] == [(22, "intra"), (22, "0"), (22, "3"), (27, "intra")]
    for row, gain_db in zip(rows[:3], (0.15, 0.35, 0.45), strict=True):
        assert row["Y"] == pytest.approx(gain_db)
        assert (row["Pictures"], row["QP told"]) == (2, 22)
    assert [row["Slice QP"] for row in rows[:3]] == [19, 22, 25]
    assert table.title == "PSNR gain per temporal layer, random access"
    results = stored(inter, networks).results()
    chart = layer_chart(results, final_variants(results))
    (series,) = chart.series
    assert chart.y.label == "luma PSNR gain, mean over QPs [dB]"
    assert chart.notes == ()  # nothing is left out
    (note,) = layer_chart(results, []).notes
    assert note == "Not drawn, since a codec would run the last weights, in the strongest way: post, original."
    twice = [*inter, *(replace(row, network="same") for row in inter if row.network)]
    results = stored(twice, (*networks, replace(networks[0], network="same"))).results()
    (note,) = layer_chart(results, final_variants(results)).notes
    assert note == "Curves on each other, within 0.0015 dB: post, original | same, original."
    assert chart.x.names == ((-1.0, "intra"), (0.0, "0"), (3.0, "3"))
    assert [chart.x.text(x) for x, _ in series.points] == [f"temporal layer {name}" for name in ("intra", "0", "3")]
    axes = charts_figure("Temporal layers", [chart]).axes[0]
    axes.figure.canvas.draw()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["intra", "0", "3"]
    assert [x for x, _ in series.points] == [-1, 0, 3]
    assert [y for _, y in series.points] == pytest.approx([0.15, 0.35, 0.45])


def test_pictures_without_layers_have_an_empty_table(inter: list[ToolRow], networks: tuple[NetworkRow, ...]) -> None:
    """As those that were decoded elsewhere."""
    unknown = [replace(row, slice_type="", temporal_layer=None, slice_qp=None) for row in inter]
    found = stored(unknown, networks)
    assert found.tables()["gain_per_layer_ra"].rows == ()
    assert not layer_chart(found.results(), final_variants(found.results())).series


def test_rates_are_those_of_the_whole_sequence(inter: list[ToolRow], networks: tuple[NetworkRow, ...]) -> None:
    results = stored(inter, networks).results()
    for qp, (kbit, _) in zip(results.qps, results.curve(["Cactus"], results.variants[0], "y"), strict=True):
        of_codec = [row for row in inter if (row.sequence, row.qp, row.way) == ("Cactus", qp, "codec")]
        assert kbit == pytest.approx(sum(row.n_bits for row in of_codec) / 3 / 1000)


def test_configurations_stand_side_by_side(
    intra: list[ToolRow], inter: list[ToolRow], networks: tuple[NetworkRow, ...]
) -> None:
    low_delay = [replace(row, config="ldb") for row in inter if row.sequence == "Cactus"]
    found = stored([*intra, *inter, *low_delay], networks)
    tables = found.tables()
    table = tables["bd_rate_configurations"]
    heads = [column.head for column in table.columns]
    assert heads[4:10] == ["AI Y", "AI Cb", "AI Cr", "AI YUV", "AI EncT", "AI DecT"]
    assert [head for head in heads if head.endswith(" Y")] == ["AI Y", "RA Y", "LDB Y"]
    rows = {row[3]: dict(zip(heads, row, strict=True)) for row in table.rows}
    assert list(rows) == ["Class B", "Class D", "Overall without D"]
    for config, suffix in (("AI", ""), ("RA", "_ra"), ("LDB", "_ldb")):
        single = tables[f"bd_rate{suffix}"]
        of_class = {row[4]: row[5] for row in single.rows}
        assert rows["Class B"][f"{config} Y"] == of_class["B (1)"]
        assert rows["Overall without D"][f"{config} Y"] == of_class["B (1)"]  # without class D
    assert rows["Class D"]["LDB Y"] is None
    alone = stored(intra, networks).tables()
    assert "bd_rate_configurations" not in alone
    assert alone == {name: tables[name] for name in alone}


def test_rows_of_two_configurations_make_no_means(
    intra: list[ToolRow], inter: list[ToolRow], networks: tuple[NetworkRow, ...]
) -> None:
    with pytest.raises(InputError, match="rows of the configurations ai, ra: take those of one at a time"):
        tool_results(frame_of([*intra, *inter], ToolRow), networks)


def test_configurations_side_by_side_have_the_warnings_beside_the_numbers(
    intra: list[ToolRow], inter: list[ToolRow], networks: tuple[NetworkRow, ...]
) -> None:
    crossing = [
        replace(row, n_bits=row.n_bits * 3) if (row.sequence, row.qp, row.network) == ("Cactus", 37, "post") else row
        for row in inter
    ]
    table = stored([*intra, *crossing], networks).tables()["bd_rate_configurations"]
    marked = {(table.rows[each.row][3], table.columns[each.column].head): each.text for each in table.warnings}
    assert marked["Class B", "RA Y"].endswith("the curves cross")
    assert marked["Overall without D", "RA Y"] == marked["Class B", "RA Y"]
    assert ("Class B", "AI Y") not in marked


def test_the_papers_numbers_stand_beside_all_intra_alone(
    intra: list[ToolRow], inter: list[ToolRow], networks: tuple[NetworkRow, ...]
) -> None:
    tables = stored([*intra, *inter], networks).tables()
    for name in ("table2_psnr", "table3_ssim"):
        assert any(row[1] == "paper" for row in tables[name].rows)
        assert not any(row[1] == "paper" for row in tables[f"{name}_ra"].rows)
        assert not any("Moon" in note for note in tables[f"{name}_ra"].notes)
