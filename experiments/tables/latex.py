"""Tables as LaTeX to paste into a paper: one, or several with the notes that they share once behind them."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

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
_LINE_PT, _LETTER_PT, _GAP_PT = 345.0, 4.6, 6.0
"""Of the class `article`: a line, a letter of \\small, and what is between two of many columns."""
_LEAST_SCALE = 0.65
"""Of letters in wide tables, 6 points; what is wider is broken into blocks of columns."""
_BLOCK_LINES = 2
"""Head and space of a block, in rows."""
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
    floats = list(_floats(_blocks(shown)))
    notes = [rf"{latex_text(note)}\par" for note in shown.notes]
    n_lines = _n_lines(floats[-1]) + sum(math.ceil(len(note) / _NOTE_LETTERS) for note in notes)
    parts = []
    for number, blocks in enumerate(floats, start=1):
        marks = dict.fromkeys(mark for block in blocks for mark in block.warnings())
        here = [rf"\textsuperscript{{{mark}}}~{latex_text(text)}." for mark, text in marks]
        below = [" ".join(here) + r"\par"] * bool(here)
        below += notes if number == len(floats) and n_lines <= _MAX_LINES else []
        which = f", part {number} of {len(floats)}" if len(floats) > 1 else ""
        parts.append(_float(shown, blocks, below, which))
    if notes and n_lines > _MAX_LINES:
        parts.append("\n".join([f"{{{_SMALL}", *notes, "}"]) + "\n")
    return "\n".join(parts)


@dataclass(frozen=True, slots=True)
class _Block:
    """Some columns and rows of a table, as many as fit."""

    table: Table
    columns: tuple[int, ...]
    rows: range

    def lines(self) -> Iterator[str]:
        """The environment `tabular` with them."""
        heads, cells = list(_heads(self.table)), list(_cells(self.table))
        kinds = "".join("l" if self.table.columns[place].text else "r" for place in self.columns)
        yield from (_FITTED, rf"\begin{{tabular}}{{{kinds}}}", r"\toprule")
        yield " & ".join(heads[place] for place in self.columns) + r" \\"
        yield r"\midrule"
        for row in self.rows:
            yield " & ".join(cells[row][place] for place in self.columns) + r" \\"
        yield from (r"\bottomrule", r"\end{tabular}}")

    def warnings(self) -> list[tuple[str, str]]:
        """Marks and texts of the warnings in it."""
        marked = self.table.marked_warnings()
        return [warning for (row, column), warning in marked.items() if row in self.rows and column in self.columns]


def _n_lines(blocks: Sequence[_Block]) -> int:
    """The rows of blocks below each other, each block's head but that of the first among them."""
    return sum(len(block.rows) + _BLOCK_LINES for block in blocks) - _BLOCK_LINES


def _floats(blocks: Iterable[_Block]) -> Iterator[list[_Block]]:
    """The blocks that stand together on a page."""
    together: list[_Block] = []
    for block in blocks:
        if together and _n_lines([*together, block]) > _MAX_ROWS:
            yield together
            together = []
        together.append(block)
    yield together


def _blocks(table: Table) -> Iterator[_Block]:
    """The table in blocks of columns that are no wider than is readable, and of rows that fit on a page."""
    for columns in _column_blocks(table):
        for start in range(0, max(1, len(table.rows)), _MAX_ROWS):
            yield _Block(table, columns, range(start, min(start + _MAX_ROWS, len(table.rows))))


def _column_blocks(table: Table) -> list[tuple[int, ...]]:
    """The columns of each block: those that name the rows in each, and of the others about as many; groups stay whole.

    Where those that name the rows leave no space, all stay together.
    """
    widths = [_LETTER_PT * letters + _GAP_PT for letters in _letters(table)]
    most = _LINE_PT / _LEAST_SCALE
    names = _n_naming(table)
    numbers = groupby(range(names, len(widths)), key=lambda place: table.columns[place].group or place)
    groups = [tuple(group) for _, group in numbers]
    space = most - sum(widths[:names])
    wide = [sum(widths[place] for place in group) for group in groups]
    if sum(wide) <= space or not groups or max(wide) > space:
        return [tuple(range(len(widths)))]
    each = sum(wide) / math.ceil(sum(wide) / space)
    blocks: list[tuple[int, ...]] = []
    filled = math.inf
    for group, width in zip(groups, wide, strict=True):
        if filled + width / 2 > each or filled + width > space:
            blocks.append(tuple(range(names)))
            filled = 0
        blocks[-1] += group
        filled += width
    return blocks


def _n_naming(table: Table) -> int:
    """How many columns at the left name the rows: texts, and whole numbers such as QPs."""
    for place, column in enumerate(table.columns):
        if not column.text and any(isinstance(row[place], float) for row in table.rows):
            return place
    return len(table.columns)


def _float(table: Table, blocks: Sequence[_Block], below: Sequence[str], which: str) -> str:
    """One `table` environment: blocks below each other, and what stands below them."""
    remarks = [rf"\textbf{{{latex_text(remark)}}}" for remark in table.remarks]
    title = _OF_THE_PAPER.sub(
        lambda found: f"{found[2].upper()}{found[3]} (Table {found[1]} of Moon and Kim)", table.title
    )
    parts = [
        r"\begin{table}[!htbp]",
        r"\centering\sloppy",
        rf"\caption{{{' '.join([latex_text(title) + which, *remarks])}}}",
        r"\smallskip\small",
        *([r"\setlength{\tabcolsep}{3pt}"] if max(len(block.columns) for block in blocks) > _MANY_COLUMNS else []),
    ]
    for number, block in enumerate(blocks):
        parts += [r"\par\medskip"] * bool(number) + list(block.lines())
    parts += [*([rf"\par\smallskip{_SMALL}", *below] if below else []), r"\end{table}"]
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
    for column, lines in zip(table.columns, _head_lines(table), strict=True):
        stacked = r"\\".join(_after_break(latex_text(line)) for line in lines)
        yield stacked if len(lines) < 2 else rf"\shortstack[{'l' if column.text else 'r'}]{{{stacked}}}"


def _head_lines(table: Table) -> Iterator[list[str]]:
    for column, longest in zip(table.columns, _longest_cells(table), strict=True):
        title = one_line(column.title)
        yield textwrap.wrap(title, max(_MIN_HEAD, longest), break_long_words=False, break_on_hyphens=False)


def _longest_cells(table: Table) -> list[int]:
    """Letters of the longest cell of each column."""
    texts = cell_texts(table)
    return [max((len(row[place]) for row in texts), default=0) for place in range(len(table.columns))]


def _letters(table: Table) -> Iterator[int]:
    """Letters in the longest line of each column, its head among them."""
    for lines, longest in zip(_head_lines(table), _longest_cells(table), strict=True):
        yield max(longest, *map(len, lines), 0)


def _after_break(text: str) -> str:
    """A text that may follow a line break, which takes a star or bracket as its own."""
    return "{}" + text if text.startswith(("[", "*")) else text
