"""Tables as LaTeX to paste into a paper: one, or several with the notes that they share once behind them."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Sequence

from vvc_nnr.experiments.tables.table import Table, cell_texts, one_line, with_columns, without_shared_notes

NEEDED = "% Needs \\usepackage{booktabs,graphicx} in the preamble.\n"
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
} | {character: "\\" + character for character in "&%$#_{}"}
_QUOTED = re.compile(r"""(?<![\w'"])(['"])(?=\S)([^'"]*)\1(?![\w'"])""")
_MINUS = re.compile(r"(?<![\w.+-])-(?=\.?\d|inf\b)|(?<=\s)-(?=\s)")
_MAX_ROWS = 32
"""Of a table on a page; longer ones come in parts, since a float cannot be broken."""
_MAX_LINES = 46
"""Of rows and notes on a page."""
_NOTE_LETTERS = 85
"""In a line of notes."""
_MANY_COLUMNS = 8
_MIN_HEAD = 9
"""Letters of a head's line, where the cells below are shorter."""
_TABLES_BEFORE_CLEARING = 8
"""LaTeX holds some tens of floats back, and then gives up."""
_OF_THE_PAPER = re.compile(r"^Table (\d): (.)(.*)")
_SMALL = r"\footnotesize\raggedright\sloppy"
_FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"


def to_latex(table: Table) -> str:
    """The table as LaTeX `table` environments (one for each `_MAX_ROWS` rows), notes below in small print."""
    return NEEDED + _body(table)


def to_latex_page(tables: Sequence[Table]) -> str:
    """Several tables as LaTeX; notes that tables share come once, after the last table."""
    own, shared = without_shared_notes(tables)
    parts = [NEEDED]
    for number, table in enumerate(own, start=1):
        is_last_of_some = number % _TABLES_BEFORE_CLEARING == 0 or number == len(own)
        parts.append(_body(table) + ("\\clearpage\n" if is_last_of_some else ""))
    if shared:
        notes = (rf"{latex_text(note)}\par" for note in shared)
        parts.append("\n".join([f"{{{_SMALL}", r"\textbf{Notes of several tables}\par", *notes, "}"]) + "\n")
    return "\n".join(parts)


def latex_text(text: str) -> str:
    """A text as LaTeX prints it: characters escaped, quotes paired, hyphens that are minus signs as these."""
    parts, end, line = list[str](), 0, one_line(text)
    for found in _QUOTED.finditer(line):
        parts += [_escaped(line[end : found.start()]), "``", _escaped(found[2]), "''"]
        end = found.end()
    return "".join([*parts, _escaped(line[end:])])


def _escaped(text: str) -> str:
    escaped = "".join(_ESCAPES.get(character, character) for character in _MINUS.sub("\0", text))
    return escaped.replace("--", "-{}-").replace("\0", "$-$")


def _body(table: Table) -> str:
    """The parts of a table; its notes stand in the last one where there is space on the page, else behind it."""
    shown = _without_empty_columns(table)
    cells, heads = list(_cells(shown)), list(_heads(shown))
    n_parts = max(1, math.ceil(len(cells) / _MAX_ROWS))
    notes = [rf"{latex_text(note)}\par" for note in shown.notes]
    n_lines = len(cells) % _MAX_ROWS + sum(math.ceil(len(note) / _NOTE_LETTERS) for note in notes)
    floats = []
    for part in range(n_parts):
        rows = range(part * _MAX_ROWS, min((part + 1) * _MAX_ROWS, len(cells)))
        here = dict.fromkeys(warning for (row, _), warning in shown.marked_warnings().items() if row in rows)
        below = [" ".join(rf"\textsuperscript{{{mark}}}~{latex_text(text)}." for mark, text in here) + r"\par"] * bool(
            here
        )
        below += notes if part == n_parts - 1 and n_lines <= _MAX_LINES else []
        which = f", part {part + 1} of {n_parts}" if n_parts > 1 else ""
        floats.append(_float(shown, [" & ".join(heads), *(" & ".join(cells[row]) for row in rows)], below, which))
    if notes and n_lines > _MAX_LINES:
        floats.append("\n".join([f"{{{_SMALL}", *notes, "}"]) + "\n")
    return "\n".join(floats)


def _float(table: Table, lines: Sequence[str], below: Sequence[str], which: str) -> str:
    """One `table` environment: head and rows, and what stands below."""
    remarks = [rf"\textbf{{{latex_text(remark)}}}" for remark in table.remarks]
    title = _OF_THE_PAPER.sub(
        lambda found: f"{found[2].upper()}{found[3]} (Table {found[1]} of Moon and Kim)", table.title
    )
    head, *rows = (rf"{line} \\" for line in lines)
    parts = [
        r"\begin{table}[!htbp]",
        r"\centering\sloppy",
        rf"\caption{{{' '.join([latex_text(title) + which, *remarks])}}}",
        r"\smallskip\small",
        *([r"\setlength{\tabcolsep}{3pt}"] if len(table.columns) > _MANY_COLUMNS else []),
        _FITTED,
        rf"\begin{{tabular}}{{{''.join('l' if column.text else 'r' for column in table.columns)}}}",
        r"\toprule",
        head,
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}}",
        *([rf"\par\smallskip{_SMALL}", *below] if below else []),
        r"\end{table}",
    ]
    return "\n".join(parts) + "\n"


def _without_empty_columns(table: Table) -> Table:
    """The table without columns that have nothing in any row."""
    kept = [place for place in range(len(table.columns)) if any(row[place] not in (None, "") for row in table.rows)]
    return with_columns(table, kept) if table.rows else table


def _cells(table: Table) -> Iterator[list[str]]:
    """The cells, the mark of a warning above what it is about."""
    marks = table.marked_warnings()
    for row, texts in enumerate(cell_texts(table)):
        found = [_after_break(latex_text(text)) for text in texts]
        for column in range(len(found)):
            if (row, column) in marks:
                found[column] += rf"\textsuperscript{{{marks[row, column][0]}}}"
        yield found


def _heads(table: Table) -> Iterator[str]:
    """The titles, each in lines about as wide as the cells below."""
    texts = cell_texts(table)
    for place, column in enumerate(table.columns):
        width = max(_MIN_HEAD, max((len(row[place]) for row in texts), default=0))
        lines = textwrap.wrap(one_line(column.title), width, break_long_words=False, break_on_hyphens=False)
        stacked = r"\\".join(_after_break(latex_text(line)) for line in lines)
        yield stacked if len(lines) < 2 else rf"\shortstack[{'l' if column.text else 'r'}]{{{stacked}}}"


def _after_break(text: str) -> str:
    """A text that may follow a line break, which takes a star or bracket as its own."""
    return "{}" + text if text.startswith(("[", "*")) else text
