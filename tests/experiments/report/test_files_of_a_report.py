"""The command, its formats, and what a user gets wrong."""

from __future__ import annotations

import builtins
import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import openpyxl
import pytest

from vvc_nnr.errors import InputError
from vvc_nnr.experiments import load
from vvc_nnr.experiments.cli.main import main
from vvc_nnr.experiments.report.sections import read_sections
from vvc_nnr.experiments.report.write import number_format, sheet_name, to_workbook
from vvc_nnr.experiments.tables.latex import to_latex
from vvc_nnr.experiments.tables.table import CellWarning, Column, Table, to_markdown

Run = Callable[..., str]
ODD = Table(
    "=1+1 & <b>",
    (Column("Class", text=True), Column("Sequence", text=True), Column("Y", "%", digits=2, signed=True), Column("N")),
    (
        ("=1+1", "https://example.org", -1.234, 3),
        ("Overall", "mean", float("inf"), None),
        ("日本 é \\x_{y}", "", "7", 0),
    ),
    ("@note #1 100 %",),
    (CellWarning(0, 2, "the curves cross"),),
)


def test_every_format_by_its_suffix(results: Path, run: Run, tmp_path: Path) -> None:
    for suffix, start in (
        (".html", b"<!DOCTYPE html>"),
        (".md", b"**"),
        (".csv", b"# "),
        (".tex", b"% Needs \\usepackage{booktabs,graphicx}"),
        (".xlsx", b"PK"),
    ):
        out = tmp_path / f"report{suffix}"
        answer = json.loads(run("report", results, "-o", out, "--json"))
        assert out.read_bytes().startswith(start)
        assert answer["n_bytes"] == out.stat().st_size
        assert answer["n_tables"] > 10
        assert (answer["path"], answer["n_pictures"]) == (str(out), 0)
    text = run("report", results, "-o", tmp_path / "odd.name", "--format", "markdown")
    assert "tables of tool-by-tool, end-to-end, model-zoo" in text
    assert (tmp_path / "odd.name").read_bytes() == (tmp_path / "report.md").read_bytes()


def test_markdown_and_csv_have_the_numbers_of_the_rows(results: Path, run: Run, tmp_path: Path) -> None:
    run("report", results, "-o", tmp_path / "r.csv")
    text = (tmp_path / "r.csv").read_text()
    blocks = text.split("# BD-rate (pchip) of rep, uniform8 against all filters\n")
    table = [line for line in blocks[1].split("\n\n")[0].splitlines() if not line.startswith("#")]
    lines = list(csv.DictReader(io.StringIO("\n".join(table))))
    assert lines[0]["Sequence"] == "Cactus"
    assert float(lines[0]["Y [%]"]) == pytest.approx(100 * (2 ** (-0.34 / 2.5) - 1), abs=1e-3)
    run("report", results, "-o", tmp_path / "r.md")
    assert to_markdown(ODD).count("(a)") == 2
    n_tables = 2 + 3 * 2 + 3  # of the codec, rep and post, against each anchor
    assert (tmp_path / "r.md").read_text().count("| Overall without D | mean ") == n_tables


def test_an_experiment_refuses_a_report_without_format_before_it_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["experiment", "tool-by-tool", "--out", str(tmp_path / "out"), "--report", "r.docx"]) == 2
    assert "no format of a report has this suffix" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_runs_that_are_not_finished_make_reports(results: Path, run: Run, tmp_path: Path) -> None:
    """Cut after its head, after some rows, and in the middle of one."""
    for name in ("tool_by_tool.tsv", "end_to_end.tsv", "model_zoo.tsv"):
        path = results / name
        lines = path.read_bytes().splitlines(keepends=True)
        n_head = sum(line.startswith(b"#") for line in lines) + 1
        for content in (lines[:n_head], lines[: n_head + 2], [*lines[: n_head + 5], lines[-1][:9]]):
            path.write_bytes(b"".join(content))
            run("report", results, "-o", tmp_path / "r.html")
            run("report", results, "-o", tmp_path / "r.xlsx")


def test_runs_that_were_cut_off_before_their_networks_were_coded_make_reports(
    results: Path, run: Run, tmp_path: Path
) -> None:
    for name in ("tool_by_tool", "end_to_end"):
        (results / f"{name}_networks.tsv").unlink()
        lines = (results / f"{name}.tsv").read_bytes().splitlines(keepends=True)
        n_head = sum(line.startswith(b"#") for line in lines) + 1
        (results / f"{name}.tsv").write_bytes(b"".join(lines[:n_head]))
    run("report", results, "-o", tmp_path / "r.html")
    assert set(load(results).tables()) >= {"table1_size", "table4_end_to_end"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "-o", "r.html"], "nowhere: no such folder"),
        ([".", "-o", "r.html"], "holds no results of an experiment"),
        (["results", "-o", "r.docx"], "no format of a report has this suffix"),
        (["results", "-o", "r.html", "--crop", "0x3"], "no size like"),
        (["results", "-o", "none/r.html"], "cannot be written"),
    ],
)
def test_wrong_input_is_refused(
    results: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(results.parent)
    before = sorted(results.parent.rglob("*"))
    assert main(["report", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert sorted(results.parent.rglob("*")) == before


def test_a_spreadsheet_has_numbers_formats_and_warnings(results: Path) -> None:
    data = to_workbook({"odd": ODD}, read_sections(results))
    sheet = openpyxl.load_workbook(io.BytesIO(data))["odd"]
    assert sheet.freeze_panes == "C4"
    assert [cell.value for cell in sheet[3]] == ["Class", "Sequence", "Y [%]", "N"]
    assert (sheet["C4"].value, sheet["C4"].data_type, sheet["C4"].number_format) == (-1.234, "n", "+0.00;-0.00;0.00")
    assert (sheet["D4"].value, sheet["D4"].number_format) == (3, "0")
    assert sheet["C4"].comment.text == "Warning: the curves cross."
    assert [sheet[place].data_type for place in ("A1", "A4", "B4")] == ["s", "s", "s"]  # neither formulas nor links
    assert sheet["B4"].hyperlink is None
    assert (sheet["C5"].value, sheet["D5"].value, sheet["A5"].font.bold) == ("inf", None, True)
    assert sheet["A8"].value == "@note #1 100 %"


def test_a_spreadsheet_begins_with_the_layout_of_jvet(results: Path, run: Run, tmp_path: Path) -> None:
    run("report", results, "-o", tmp_path / "r.xlsx")
    book = openpyxl.load_workbook(tmp_path / "r.xlsx")
    first = book.worksheets[0]
    assert [cell.value for cell in first[3]] == [
        "Class", "Sequence", "Y [%]", "Cb [%]", "Cr [%]", "YUV [%]", "EncT [%]", "DecT [%]",
    ]  # fmt: skip
    assert [row[1].value for row in first.iter_rows(min_row=4, max_row=8)] == [
        "Cactus", "mean", "BasketballPass", "mean", "mean",
    ]  # fmt: skip
    assert first["C8"].value == pytest.approx(-8.996, abs=1e-3)  # rep after uniform8; class D is not in Overall
    assert "provenance" in book.sheetnames
    texts = [cell.value for row in book["provenance"].iter_rows() for cell in row]
    assert "vvc-nnr experiment" in texts


def test_sheets_have_names_that_spreadsheets_take() -> None:
    assert sheet_name("a/b[c]:*?'", 1) == "a-b-c-----"
    long = sheet_name("x" * 40, 12)
    assert len(long) == 31
    assert long.endswith("~12")
    assert number_format(Column("h", digits=0)) == "0"


def test_without_its_package_a_spreadsheet_says_what_to_install(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: object, **named: object) -> object:
        if name.startswith("xlsxwriter"):
            raise ImportError(name)
        return real(name, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["report", str(results), "-o", str(results / "r.xlsx")]) == 2
    assert "pip install vvc-nnr[report]" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"\[report\]"):
        to_workbook({}, [])


def test_latex_is_a_table_environment_each(results: Path, run: Run, tmp_path: Path) -> None:
    run("report", results, "-o", tmp_path / "r.tex")
    text = (tmp_path / "r.tex").read_text()
    names = {name for section in read_sections(results) for name in section.all_tables}
    n_tables = text.count(r"\begin{table}") - len(re.findall(r", part (?!1 )\d+ of", text))
    assert n_tables == len(names)
    assert text.count("PSNR peak: 255 ") == 1  # a note that tables share
    odd = to_latex(ODD)
    assert r"$-$1.23\textsuperscript{a}" in odd
    assert r"\textbackslash{}x\_\{y\}" in odd


def test_latex_compiles_without_a_line_that_is_too_wide(results: Path, run: Run, tmp_path: Path) -> None:
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("no pdflatex on the PATH")
    run("report", results, "-o", tmp_path / "r.tex")
    known = replace(ODD, rows=ODD.rows[:2])
    (tmp_path / "odd.tex").write_text(to_latex(known) + to_latex(known))
    head = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n"
    (tmp_path / "all.tex").write_text(f"{head}\\input{{odd.tex}}\\input{{r.tex}}\\end{{document}}\n")
    command = [program, "-interaction=nonstopmode", "-halt-on-error", "-draftmode", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    log = (tmp_path / "all.log").read_text(errors="replace")
    assert not re.findall(r"Overfull.*|.*too large.*", log)
