from __future__ import annotations

import csv
import io
import math

import pytest

from vvc_nnr.errors import ShapeError
from vvc_nnr.experiments.tables.table import Column, Table, to_csv, to_latex, to_markdown, to_markdown_page

TABLE = Table(
    "50 % of A_1",
    (
        Column("Name", text=True),
        Column("N"),
        Column("Gain", "dB", digits=2, signed=True),
        Column("PSNR", "dB"),
    ),
    (("a|b & c", 7, 0.126, math.inf), ("x\x1b[31m\ny", None, -0.0001, "30.1"), ("", 12345, 1 / 3, 2.0)),
    ("Uses #1 & {braces} ~ ^ \\ <x>.",),
)


def test_markdown_is_aligned() -> None:
    assert to_markdown(TABLE) == (
        "**50 % of A_1**\n"
        "\n"
        "| Name     |     N | Gain [dB] | PSNR [dB] |\n"
        "| -------- | ----: | --------: | --------: |\n"
        "| a\\|b & c |     7 |     +0.13 |       inf |\n"
        "| x?[31m y |     - |     +0.00 |      30.1 |\n"
        "|          | 12345 |     +0.33 |     2.000 |\n"
        "\n"
        "- Uses #1 & {braces} ~ ^ \\ <x>.\n"
    )


def test_csv_has_unrounded_numbers() -> None:
    text = to_csv(TABLE)
    assert text.startswith("# 50 % of A_1\n# Uses #1 & {braces} ~ ^ \\ <x>.\nName,N,Gain [dB],PSNR [dB]\n")
    rows = list(csv.reader(io.StringIO("".join(text.splitlines(keepends=True)[2:]))))
    assert rows[1] == ["a|b & c", "7", "0.126", "inf"]
    assert rows[2] == ["x?[31m y", "", "-0.0001", "30.1"]
    assert float(rows[3][2]) == 1 / 3


def test_latex_is_escaped() -> None:
    assert to_latex(TABLE) == (
        "\\begin{table}\n"
        "\\centering\n"
        "\\caption{50 \\% of A\\_1}\n"
        "\\begin{tabular}{lrrr}\n"
        "\\toprule\n"
        "Name & N & Gain [dB] & PSNR [dB] \\\\\n"
        "\\midrule\n"
        "a\\textbar{}b \\& c & 7 & +0.13 & inf \\\\\n"
        "x?[31m y & - & +0.00 & 30.1 \\\\\n"
        " & 12345 & +0.33 & 2.000 \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\par\\medskip\\footnotesize\n"
        "Uses \\#1 \\& \\{braces\\} \\textasciitilde{} \\textasciicircum{} \\textbackslash{} "
        "\\textless{}x\\textgreater{}.\\par\n"
        "\\end{table}\n"
    )


def test_empty_table() -> None:
    table = Table("none", (Column("A"),), ())
    assert to_markdown(table) == "**none**\n\n|   A |\n| --: |\n"
    assert to_csv(table) == "# none\nA\n"
    assert "\\footnotesize" not in to_latex(table)


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ShapeError, match="a row of 1 cells, 2 columns"):
        Table("t", (Column("A"), Column("B")), (("x",),))


def test_notes_that_tables_share_come_once_at_the_end() -> None:
    column = (Column("N"),)
    tables = [
        Table("A", column, ((1,),), ("of A", "shared", "also shared")),
        Table("B", column, (), ("also shared", "of B", "shared")),
        Table("C", column, (), ("twice", "twice")),
    ]
    text = to_markdown_page(tables)
    assert text.endswith("\n- twice\n- twice\n\n**Notes**\n\n- shared\n- also shared\n")
    assert text.count("shared") == 2
    assert text.index("- of A") < text.index("**B**") < text.index("- of B") < text.index("**C**")
    assert to_markdown_page([tables[0]]) == to_markdown(tables[0])
