"""Tables in the layout of JVET, doubts beside numbers, and tables as a page has them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vvc_nnr.errors import InputError, ShapeError
from vvc_nnr.experiments.records.in_loop_rows import InLoopRow
from vvc_nnr.experiments.records.provenance import Conventions
from vvc_nnr.experiments.records.rows import ToolRow
from vvc_nnr.experiments.records.settings import LastRun
from vvc_nnr.experiments.report.in_loop_section import in_loop_section
from vvc_nnr.experiments.report.sections import read_sections
from vvc_nnr.experiments.report.table_view import table_view
from vvc_nnr.experiments.tables.doubts import doubt_text
from vvc_nnr.experiments.tables.in_loop_stored import read_in_loop
from vvc_nnr.experiments.tables.stored import read_images, read_tools
from vvc_nnr.experiments.tables.table import Column, Doubt, Table, mark_of, to_csv, to_latex, to_markdown
from vvc_nnr.experiments.tables.tool_jvet import tool_jvet_tables

CONVENTIONS = Conventions(seeds="1")
TABLE = Table(
    "T",
    (Column("Class", text=True), Column("Sequence", text=True), Column("Y", "%", digits=2, signed=True)),
    (("B", "Cactus", -1.0), ("Class B", "mean", -1.0), ("paper", "", "-0.5"), ("D", "x" * 40, None)),
    ("A note.",),
    (Doubt(0, 2, "the curves cross"), Doubt(1, 2, "the curves cross"), Doubt(3, 2, "no value")),
)


def test_tool_by_tool_in_the_layout_of_jvet(tool_rows: list[ToolRow]) -> None:
    """The curves are straight, 2.5 dB for a factor of 2 in rate: 0.49 dB of the reconstructed network and so on."""
    tables = tool_jvet_tables(tool_rows, CONVENTIONS)
    assert [table.title.partition(") ")[2] for table in tables.values()] == [
        "of rep against all filters",
        "of rep against deblock+SAO",
        "of post against all filters",
    ]
    table = tables["jvet_1"]
    assert [row[:2] for row in table.rows] == [
        ("B", "Cactus"),
        ("Class B", "mean"),
        ("D", "BasketballPass"),
        ("Class D", "mean"),
        ("Overall", "mean"),
    ]
    saved = {name: 100 * (2 ** (-gain_db / 2.5) - 1) for name, gain_db in (("Cactus", 0.34), ("BasketballPass", 0.24))}
    assert table.rows[0][2:] == (*[pytest.approx(saved["Cactus"], abs=1e-3)] * 4, None, None)
    assert table.rows[4][2:6] == pytest.approx([sum(saved.values()) / 2] * 4, abs=1e-3)
    assert [column.title for column in table.columns[2:]] == [
        "Y [%]",
        "Cb [%]",
        "Cr [%]",
        "YUV [%]",
        "EncT [%]",
        "DecT [%]",
    ]


def test_grey_sequences_have_no_chroma(tool_rows: list[ToolRow]) -> None:
    grey = [replace(row, psnr_cb_db=None, psnr_cr_db=None, ssim_cb=None, ssim_cr=None) for row in tool_rows]
    row = tool_jvet_tables(grey, CONVENTIONS)["jvet_1"].rows[0]
    assert row[3:5] == (None, None)
    assert row[5] == pytest.approx(row[2])


def test_in_loop_in_the_layout_of_jvet(results: Path, in_loop_rows: list[InLoopRow]) -> None:
    tables = in_loop_section(read_in_loop(results), LastRun()).jvet_tables
    assert ["Wiener" in table.title for table in tables.values()] == [True, False, False]
    overall = next(iter(tables.values())).rows[-1]
    assert overall[2:6] == pytest.approx([-20] * 4, abs=0.01)
    assert overall[6:] == (pytest.approx(100), pytest.approx(5000))


def test_doubts_stand_beside_their_numbers(tool_rows: list[ToolRow]) -> None:
    two = [row for row in tool_rows if row.qp in (22, 37)]
    table = tool_jvet_tables(two, CONVENTIONS)["jvet_1"]
    few = "anchor: 2 points, fewer than 4; test: 2 points, fewer than 4"
    assert table.doubts[0] == Doubt(0, 2, few)
    assert {doubt.row for doubt in table.doubts} == {0, 1, 2, 3, 4}
    assert doubt_text([("a", ["x"]), ("b", []), ("c", ["x", "y"])], is_mean=True) == "x (a, c); y (c)"
    assert doubt_text([(name, ["x"]) for name in "abcde"], is_mean=True) == "x (a, b, c and 2 more)"
    assert doubt_text([], is_mean=True) == ""


def test_doubts_in_every_format() -> None:
    assert "| -1.00 (a) |" in to_markdown(TABLE)
    assert "- (a) the curves cross.\n- (b) no value.\n- A note.\n" in to_markdown(TABLE)
    assert "# Doubt about row 4, Y [%]: no value.\n" in to_csv(TABLE)
    assert r"-1.00\textsuperscript{a}" in to_latex(TABLE)
    with pytest.raises(ShapeError, match="row 4"):
        replace(TABLE, doubts=(Doubt(4, 0, "x"),))


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
    assert view.doubts == (("a", "the curves cross"), ("b", "no value"))
    assert view.notes == ()


def test_a_report_shows_what_the_last_run_asked_for(results: Path) -> None:
    assert {row.qp for row in read_tools(results).rows} == {22, 27, 32, 37}
    content = {"settings": {"qps": [22, 37], "max_pictures": 1}, "provenance": {}, "shown": ["Cactus"]}
    (results / "tool_by_tool.json").write_text(str(content).replace("'", '"'))
    shown = read_tools(results)
    assert {(row.sequence, row.qp, row.picture) for row in shown.rows} == {("Cactus", 22, 0), ("Cactus", 37, 0)}
    assert shown.jvet_tables() == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"settings": 1, "provenance": {}}', "[" * 100_000])
def test_damaged_settings_are_refused(results: Path, text: str) -> None:
    (results / "end_to_end.json").write_text(text)
    with pytest.raises(InputError, match=r"end_to_end\.json"):
        read_images(results)


def test_every_experiment_has_its_section(results: Path) -> None:
    sections = {section.name: section for section in read_sections(results)}
    assert list(sections) == ["in-loop", "tool-by-tool", "end-to-end", "model-zoo"]
    for section in sections.values():
        assert section.findings
        assert section.charts
        assert section.tables
    assert sections["in-loop"].findings[0].value == "-20.00"
    assert [finding.value for finding in sections["model-zoo"].findings] == ["10.00", "15.00"]
    assert sections["model-zoo"].findings[1].doubt
    # -29.5 + 32 dB at the nearest rate of JPEG's payload
    assert sections["end-to-end"].findings[0].value == "+2.500"


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_sections(tmp_path / "none")
    with pytest.raises(InputError, match="holds no results"):
        read_sections(tmp_path)
