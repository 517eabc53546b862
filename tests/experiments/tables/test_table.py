from __future__ import annotations

import csv
import io
import math
import re

import pytest

from vvc_nnr.errors import ShapeError
from vvc_nnr.experiments.tables.latex import latex_text, to_latex, to_latex_page
from vvc_nnr.experiments.tables.table import CellWarning, Column, Table, to_csv, to_markdown, to_markdown_page

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
        "% Needs \\usepackage{booktabs,graphicx} in the preamble.\n"
        "\\begin{table}[!htbp]\n"
        "\\centering\\sloppy\n"
        "\\caption{50 \\% of A\\_1}\n"
        "\\smallskip\\small\n"
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n"
        "\\begin{tabular}{lrrr}\n"
        "\\toprule\n"
        "Name & N & Gain [dB] & PSNR [dB] \\\\\n"
        "\\midrule\n"
        "a\\textbar{}b \\& c & 7 & +0.13 & inf \\\\\n"
        "x?[31m y & - & +0.00 & 30.1 \\\\\n"
        " & 12345 & +0.33 & 2.000 \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}}\n"
        "\\par\\smallskip\\footnotesize\\raggedright\\sloppy\n"
        "Uses \\#1 \\& \\{braces\\} \\textasciitilde{} \\textasciicircum{} \\textbackslash{} "
        "\\textless{}x\\textgreater{}.\\par\n"
        "\\end{table}\n"
    )


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("-1.27", "$-$1.27"),
        ("NNC QP -24, -inf, -.5", "NNC QP $-$24, $-$inf, $-$.5"),
        ("255 << (bit depth - 8)", r"255 \textless{}\textless{} (bit depth $-$ 8)"),
        ("inloop-vlop, 2026-11-30, v-1, 8-bit", "inloop-vlop, 2026-11-30, v-1, 8-bit"),
        ("SAO is on in 'all filters' and \"none\".", "SAO is on in ``all filters'' and ``none''."),
        (
            "the sequences' BD-rates and the anchor's; '-': none",
            "the sequences' BD-rates and the anchor's; ``-'': none",
        ),
        ('5" and --out', "5'' and -{}-out"),
    ],
)
def test_latex_has_minus_signs_and_quotes(text: str, printed: str) -> None:
    assert latex_text(text) == printed


def test_latex_of_many_rows_comes_in_parts_that_fit_on_a_page() -> None:
    columns = (Column("Name", text=True), Column("Empty", text=True), Column("N"))
    rows = tuple((f"r{number}", "", number) for number in range(70))
    warnings = (CellWarning(1, 2, "low"), CellWarning(69, 2, "high"))
    text = to_latex(Table("Table 2: many", columns, rows, ("One note.",), warnings))
    parts = text.split("\\begin{table}")[1:]
    assert [part.count("\nr") for part in parts] == [32, 32, 6]
    assert ["low." in part for part in parts] == [True, False, False]
    assert ["high." in part for part in parts] == ["One note." in part for part in parts] == [False, False, True]
    assert "\\caption{Many (Table 2 of Moon and Kim), part 2 of 3}" in parts[1]
    assert "Empty" not in text  # a column without anything
    wide = to_latex(Table("t", (Column("Rate change", "%"),), ((1.0,), ("[x]",))))
    assert "\\shortstack[r]{Rate\\\\change\\\\{}[\\%]}" in wide
    assert "{}[x]" in wide  # not the distance of a line break


def test_latex_of_several_tables_has_shared_notes_once_and_lets_floats_go() -> None:
    tables = [Table(f"t{number}", (Column("A"),), ((number,),), ("shared", f"own {number}")) for number in range(17)]
    text = to_latex_page(tables)
    assert text.count("shared") == text.count("Needs") == 1
    assert all(text.count(f"own {number}\\par\n") == 1 for number in range(17))
    assert text.index("\\end{table}") > text.index("own 0")
    assert text.count("\\clearpage") == 3


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


def test_latex_breaks_tables_that_would_be_tiny_into_blocks_of_columns() -> None:
    """What names the rows stands in each block, groups stay whole, and warnings stand below their numbers."""
    names = (Column("Network", text=True), Column("QP"))
    configurations = ("AI", "RA", "LDB")
    groups = [Column(f"{name} {plane}", "%", digits=2, group=name) for name in configurations for plane in "YCcVED"]
    rows = tuple((f"a network {row}", 22, *(float(100 * row + place) for place in range(18))) for row in range(4))
    warnings = (CellWarning(0, 2, "first"), CellWarning(3, 19, "last"))
    text = to_latex(Table("t", (*names, *groups), rows, ("A note.",), warnings))
    blocks = re.findall(r"\\begin\{tabular\}\{(\w+)\}\n\\toprule\n(.*)\n", text)
    assert [kinds for kinds, _ in blocks] == ["lr" + 6 * "r"] * 3
    for (_, head), group in zip(blocks, configurations, strict=True):
        assert head.startswith("Network & QP & ")
        assert head.count(group) == 6
    assert text.count(r"\begin{table}") == 1
    assert all(f"& {value}.00" in text for value in (0, 17, 317))
    assert text.count("a network 3 & 22 &") == 3
    assert r"\textsuperscript{a}~first. \textsuperscript{b}~last." in text
    many = to_latex(Table("t", (*names, *groups), 6 * rows, (), warnings))
    parts = many.split(r"\begin{table}")[1:]
    assert [part.count(r"\begin{tabular}") for part in parts] == [1, 1, 1]
    assert ["first" in part for part in parts] == [True, False, False]
    long = to_latex(Table("t", (Column("n", text=True), *groups), (("x" * 200, *rows[0][2:]),)))
    assert long.count(r"\begin{tabular}") == 1  # no space beside the name
