"""Tables in the layout of JVET, warnings beside numbers, and tables as a page has them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from vvc_nnr.errors import InputError, ShapeError
from vvc_nnr.experiments.charts import BarChart, PointChart, chart_notes
from vvc_nnr.experiments.records.rows import NetworkRow, ToolRow, frame_of
from vvc_nnr.experiments.report.page import chart_svg, table_view
from vvc_nnr.experiments.report.sections import read_sections, tool_section
from vvc_nnr.experiments.tables import bd_rate_tables as jvet
from vvc_nnr.experiments.tables.bd_rate_tables import sequence_savings
from vvc_nnr.experiments.tables.latex import to_latex
from vvc_nnr.experiments.tables.means import tool_results
from vvc_nnr.experiments.tables.stored import read_images, read_tools
from vvc_nnr.experiments.tables.table import (
    CellWarning,
    Column,
    Table,
    mark_of,
    to_csv,
    to_markdown,
    warning_text,
)

TABLE = Table(
    "T",
    (Column("Class", text=True), Column("Sequence", text=True), Column("Y", "%", digits=2, signed=True)),
    (("B", "Cactus", -1.0), ("Class B", "mean", -1.0), ("paper", "", "-0.5"), ("D", "x" * 40, None)),
    ("A note.",),
    (CellWarning(0, 2, "the curves cross"), CellWarning(1, 2, "the curves cross"), CellWarning(3, 2, "no value")),
)


def jvet_tables(rows: Sequence[ToolRow], networks: Sequence[NetworkRow]) -> list[Table]:
    results = tool_results(frame_of(rows, ToolRow), networks)
    return list(jvet.jvet_tables(results, sequence_savings(results, "pchip"), "pchip", ()).values())


def test_tool_by_tool_in_the_layout_of_jvet(tool_rows: list[ToolRow], tool_networks: Sequence[NetworkRow]) -> None:
    """The curves are straight, 2.5 dB for a factor of 2 in rate: 0.34 dB after uniform8 in Cactus and so on."""
    tables = {table.title.partition(") of ")[2]: table for table in jvet_tables(tool_rows, tool_networks)}
    assert list(tables)[:4] == [
        "codec, deblock+SAO against all filters",
        "codec, no filter against all filters",
        "rep, original against all filters",
        "rep, original against deblock+SAO",
    ]
    assert "post, NNC QP -32 against all filters" in tables
    assert "post, NNC QP -32 against deblock+SAO" not in tables
    table = tables["rep, uniform8 against all filters"]
    assert [row[:2] for row in table.rows] == [
        ("B", "Cactus"),
        ("Class B", "mean"),
        ("D", "BasketballPass"),
        ("Class D", "mean"),
        ("Overall without D", "mean"),
    ]
    saved = {name: 100 * (2 ** (-gain_db / 2.5) - 1) for name, gain_db in (("Cactus", 0.34), ("BasketballPass", 0.24))}
    assert table.rows[0][2:6] == (*[pytest.approx(saved["Cactus"], abs=1e-3)] * 4,)
    assert table.rows[0][6:] == (pytest.approx(100), pytest.approx(500))
    assert tables["rep, uniform8 against deblock+SAO"].rows[0][6:] == (None, None)
    assert table.rows[4][2:6] == table.rows[0][2:6]
    assert table.notes[0].startswith("Overall without D: the mean of the other classes' sequences, as in JVET's")
    assert "Overall (N) in other tables is of all N sequences" in table.notes[0]
    assert [column.title for column in table.columns[2:]] == [
        "Y [%]",
        "Cb [%]",
        "Cr [%]",
        "YUV [%]",
        "EncT [%]",
        "DecT [%]",
    ]


def test_two_numbers_called_overall_say_what_they_are_of(results: Path) -> None:
    """JVET's leaves out class D; charts and the other tables have all sequences."""
    section = next(each for each in read_sections(results) if each.name == "tool-by-tool")
    assert all("luma BD-rate without classes D against" in finding.label for finding in section.findings)
    notes = {group.title: group.note for group in section.charts}
    assert "mean of all 2 sequences" in notes["Complexity against gain"]
    assert "mean of all 2 sequences" in notes["The network in the stream"]
    bars = next(group.charts[0] for group in section.charts if group.title == "BD-rate per class")
    assert isinstance(bars, BarChart)
    assert bars.groups[-1] == "Overall without D"


def test_overall_is_of_classes_d_and_f_where_there_are_no_others(
    tool_rows: list[ToolRow], tool_networks: Sequence[NetworkRow]
) -> None:
    small = [replace(row, ctc_class="F" if row.ctc_class == "B" else row.ctc_class) for row in tool_rows]
    table = jvet_tables(small, tool_networks)[2]
    both = [row[2] for row in table.rows if row[1] in ("Cactus", "BasketballPass")]
    assert table.rows[-1][:2] == ("Overall", "mean")
    assert table.rows[-1][2] == pytest.approx(sum(both) / 2)
    assert not any("without" in note for note in table.notes)


def test_grey_sequences_have_no_chroma(tool_rows: list[ToolRow], tool_networks: Sequence[NetworkRow]) -> None:
    grey = [replace(row, psnr_cb_db=None, psnr_cr_db=None, ssim_cb=None, ssim_cr=None) for row in tool_rows]
    row = jvet_tables(grey, tool_networks)[2].rows[0]
    assert row[3:5] == (None, None)
    assert row[5] == pytest.approx(row[2])


def test_what_a_codec_would_run_comes_first(decided: Path) -> None:
    section = tool_section(read_tools(decided))
    tables = section.jvet_tables
    assert ["Wiener" in table.title for table in tables.values()] == [True, False, False]
    overall = next(iter(tables.values())).rows[-1]
    assert overall[2:6] == pytest.approx([-20] * 4, abs=0.01)
    assert overall[6:] == (pytest.approx(100), pytest.approx(5000))
    assert [finding.value for finding in section.findings] == ["-20.00"]


def test_warnings_stand_beside_their_numbers(tool_rows: list[ToolRow], tool_networks: Sequence[NetworkRow]) -> None:
    two = [row for row in tool_rows if row.qp in (22, 37)]
    table = jvet_tables(two, tool_networks)[0]
    few = "anchor: 2 points, fewer than 4; test: 2 points, fewer than 4"
    assert table.warnings[0] == CellWarning(0, 2, few)
    assert {warning.row for warning in table.warnings} == {0, 1, 2, 3, 4}
    assert warning_text([("a", ["x"]), ("b", []), ("c", ["x", "y"])], is_mean=True) == "x (a, c); y (c)"
    assert warning_text([(name, ["x"]) for name in "abcde"], is_mean=True) == "x (a, b, c and 2 more)"
    assert warning_text([], is_mean=True) == ""


def test_warnings_in_every_format() -> None:
    assert "| -1.00 (a) |" in to_markdown(TABLE)
    assert "- (a) the curves cross.\n- (b) no value.\n- A note.\n" in to_markdown(TABLE)
    assert "# Warning about row 4, Y [%]: no value.\n" in to_csv(TABLE)
    assert r"$-$1.00\textsuperscript{a}" in to_latex(TABLE)
    with pytest.raises(ShapeError, match="row 4"):
        replace(TABLE, warnings=(CellWarning(4, 0, "x"),))


def test_marks_never_end() -> None:
    assert [mark_of(n) for n in (0, 25, 26, 27, 51, 52, 701, 702)] == ["a", "z", "aa", "ab", "az", "ba", "zz", "aaa"]


def test_rows_of_a_page() -> None:
    view = table_view(TABLE, ["A note."])
    assert [row.kind for row in view.rows] == ["", "total", "quoted", "group"]
    assert [row.cells[2].value for row in view.rows] == [-1.0, -1.0, -0.5, None]
    assert [row.cells[2].mark for row in view.rows] == ["a", "a", "", "b"]
    assert [cell.has_slot for cell in view.rows[2].cells] == [False, False, True]
    assert view.n_mark_letters == 1
    assert view.rows[3].cells[1].kind == "long"
    assert view.warnings == (("a", "the curves cross"), ("b", "no value"))
    assert view.notes == ()


def test_a_report_shows_what_the_last_run_asked_for(results: Path) -> None:
    assert {row.qp for row in read_tools(results).rows} == {22, 27, 32, 37}
    path = results / "tool_by_tool.json"
    content = json.loads(path.read_text())
    content["settings"] |= {"qps": [22, 37], "max_pictures": 1}
    path.write_text(json.dumps(content | {"shown": ["Cactus"]}))
    shown = read_tools(results)
    assert {(row.sequence, row.qp, row.picture) for row in shown.rows} == {("Cactus", 22, 0), ("Cactus", 37, 0)}
    assert shown.savings(shown.results()) == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"settings": 1, "provenance": {}}', "[" * 100_000])
def test_damaged_settings_are_refused(results: Path, text: str) -> None:
    (results / "end_to_end.json").write_text(text)
    with pytest.raises(InputError, match=r"end_to_end\.json"):
        read_images(results)


def test_every_experiment_has_its_section(results: Path) -> None:
    sections = {section.name: section for section in read_sections(results)}
    assert list(sections) == ["tool-by-tool", "end-to-end", "model-zoo"]
    for section in sections.values():
        assert section.findings
        assert section.charts
        assert section.tables
    assert [finding.value for finding in sections["model-zoo"].findings] == ["10.00", "15.00"]
    assert sections["model-zoo"].findings[1].warning
    # -29.5 + 32 dB at the nearest rate of JPEG's payload
    assert sections["end-to-end"].findings[0].value == "+2.500"


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_sections(tmp_path / "none")
    with pytest.raises(InputError, match="holds no results"):
        read_sections(tmp_path)


def test_charts_say_what_is_along_their_axes_and_have_the_range_of_their_points(results: Path) -> None:
    section = read_sections(results)[0]
    charts = [chart for group in section.charts for chart in (*group.charts, *group.more)]
    bars = [chart for chart in charts if isinstance(chart, BarChart)]
    assert bars
    assert all(chart.quantity.startswith("BD-rate") for chart in bars)
    (operations,) = (chart for chart in charts if chart.title == "Luma BD-rate against operations")
    assert isinstance(operations, PointChart)
    costs = [x for series in operations.series for x, _ in series.points]
    low, high = operations.x.includes
    assert low < min(costs) <= max(costs) < high <= 2 * max(costs)
    (series,) = operations.series
    assert series.label == "full strength, NNC QP -32"  # said once, not beside each point
    assert series.names == ("rep", "post")
    (note,) = operations.notes
    assert note.startswith("Not drawn, since of each network the last weights are compared: rep, original; rep, uni")


def test_charts_have_the_warnings_of_their_numbers(results: Path) -> None:
    """A letter beside each, as in tables; and what has no number says why."""
    stored = read_tools(results)
    rows = tuple(
        replace(row, psnr_y_db=row.psnr_y_db - 1) if row.qp == 22 and row.network == "post" else row
        for row in stored.rows
        if row.loop_filters == "all"
    )
    networks = tuple(row for row in stored.networks if row.network == "post")
    section = tool_section(replace(stored, rows=rows, networks=networks, all_networks=networks))
    operations, classes, stream, pairs = (group.charts for group in section.charts)
    (series,) = operations[0].series
    (text,) = series.warnings
    assert text.endswith("the curves cross (Cactus, BasketballPass)")
    assert chart_notes(operations[0])[-1] == f"(a) {text}."
    assert "post (a)" in chart_svg(operations[0])
    assert classes[0].bars[0].label == "Y"
    assert all("the curves cross" in warning for warning in classes[0].bars[0].warnings)
    assert set(classes[0].bars[1].warnings) == {""}
    assert re.search(r">-?\+?[\d.]+ \(a\)<", chart_svg(classes[0]))
    assert "(warning: " in chart_svg(classes[0])
    assert all("the curves cross" in warning for warning in stream[0].bars[0].warnings)
    curves, gains = pairs
    assert not any(note.startswith("Warning") for note in curves.notes)
    assert any(note.startswith("Warning about the gain of post, original; ") for note in gains.notes)
    unknown = tuple(replace(row, kmac_per_luma_sample=None) for row in networks)
    section = tool_section(replace(stored, rows=rows, networks=unknown, all_networks=unknown))
    assert "since their operations are not known: post, NNC QP -32." in section.charts[0].charts[0].notes[0]
