"""Tables as a LaTeX document that pdflatex takes as it stands."""

from __future__ import annotations

from collections.abc import Sequence

from vvc_nnr.experiments.markup import Table, latex_cells, latex_notes, latex_remarks, latex_text

_HEAD = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage[a4paper,landscape,margin=15mm]{geometry}
\usepackage{booktabs,longtable}
\setlength{\tabcolsep}{4pt}
\setlength{\parindent}{0pt}
\LTleft=0pt
\begin{document}
\footnotesize
"""
_TAIL = "\\end{document}\n"
_LAST_KNOWN = "\u017f"
"""Letters up to here (Latin) have a meaning in this document; others become question marks."""


def to_latex_document(tables: Sequence[Table]) -> str:
    """A document with one long table after the other; doubts are letters above the numbers that they concern."""
    body = "\n\\bigskip\n".join(_long_table(table) for table in tables)
    return _HEAD + _known(body) + _TAIL


def _long_table(table: Table) -> str:
    heads = " & ".join(latex_text(column.title) for column in table.columns) + r" \\"
    lines = [
        rf"\begin{{longtable}}{{{''.join('l' if column.text else 'r' for column in table.columns)}}}",
        *_across(table, [rf"\textbf{{{latex_text(table.title)}}}", *latex_remarks(table)]),
        r"\toprule",
        heads,
        r"\midrule",
        r"\endfirsthead",
        r"\toprule",
        heads,
        r"\midrule",
        r"\endhead",
        r"\bottomrule",
        r"\endlastfoot",
        *(" & ".join(cells) + r" \\" for cells in latex_cells(table)),
        r"\end{longtable}",
        *latex_notes(table),
    ]
    return "\n".join(lines) + "\n"


def _across(table: Table, texts: Sequence[str]) -> list[str]:
    """Lines over all columns."""
    return [rf"\multicolumn{{{len(table.columns)}}}{{l}}{{{text}}} \\" for text in texts]


def _known(text: str) -> str:
    return "".join(letter if letter <= _LAST_KNOWN else "?" for letter in text)
