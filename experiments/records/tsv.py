r"""Rows of a dataclass as a TSV file that a killed run leaves readable and a later run continues.

A file is `# key: value` lines (provenance), one line of column names, then one line per row. Everything
after the column names is a row, whatever it starts with. In texts a tab, line feed, carriage return and
backslash are written `\t`, `\n`, `\r` and `\\`; infinity is `inf`, None is an empty cell, floats are the
shortest decimal that reads back to the same value. A last line without its line feed is the torn end of a
killed run: reading drops it, continuing writes over it.
"""

from __future__ import annotations

import codecs
import contextlib
import math
import os
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, Protocol, Self, TypeAlias, TypeVar

from vvc_nnr.errors import InputError, OutputError
from vvc_nnr.experiments.records.rows import RangeError
from vvc_nnr.files import read_bytes, write_file

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from vvc_nnr.experiments.records.rows import KeyedRow

    class _KeyedDataclass(DataclassInstance, KeyedRow, Protocol): ...


RowT = TypeVar("RowT", bound="DataclassInstance")
KeyedT = TypeVar("KeyedT", bound="_KeyedDataclass")
"""A row that knows what it is about."""
_Parser: TypeAlias = Callable[[str], object]

MUST_MATCH = ("version", "psnr_peak", "averaging", "rate")
"""Header keys that have to agree before a run may continue a file."""

_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_UNESCAPES = {escaped: plain for plain, escaped in _ESCAPES.items()}
_INTEGER = re.compile(r"-?[0-9]+", re.ASCII)
_FLOAT = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class RowTable(Generic[RowT]):
    """What a file of rows holds: its header and its rows, in the order of the file."""

    header: dict[str, str]
    rows: tuple[RowT, ...]


def read_rows(path: Path, row_type: type[RowT]) -> RowTable[RowT]:
    """The header and rows of a TSV file; a torn last line is dropped.

    Raises:
        InputError: If the file cannot be read or is malformed; it names the file, line and column.
    """
    return _parse(path, read_bytes(path), row_type)[0]


def rows_to_continue(path: Path, row_type: type[RowT], header: Mapping[str, str]) -> tuple[RowT, ...]:
    """The rows of a file that a run with this header may continue; none if there is no file. Nothing is written.

    Raises:
        InputError: If the file cannot be read or is malformed, or was made under other conventions.
    """
    if not path.exists():
        return ()
    data = read_bytes(path)
    if not data:
        return ()
    table, _ = _parse(path, data, row_type)
    _check_header(path, table.header, header)
    return table.rows


def write_rows(path: Path, row_type: type[RowT], header: Mapping[str, str], rows: Iterable[RowT]) -> None:
    """Writes a file of rows, all of it or nothing; one of that name is replaced.

    Raises:
        OutputError: If it cannot be written.
        ValueError: As `RowWriter.append`.
    """
    write_file(path, _head(row_type, header) + _lines(rows))


class RowWriter(Generic[RowT]):
    """Appends rows to a TSV file, or continues one; a context manager, one at a time: a run locks its folder.

    Args:
        path: The file; its folder must exist.
        row_type: The dataclass of the rows.
        header: Provenance for a new file. A file that is continued keeps its own; the keys of `MUST_MATCH`
            have to agree with it.

    Attributes:
        path: The file.
        row_type: The dataclass of the rows.
        header: Its header.
        existing: The rows that were in the file already.

    Raises:
        InputError: If the file cannot be written or is malformed, or was made under other conventions.
    """

    def __init__(self, path: Path, row_type: type[RowT], header: Mapping[str, str]) -> None:
        self.path = path
        self.row_type = row_type
        if not (path.exists() and read_bytes(path)):
            write_file(path, _head(row_type, header))
        try:
            self._file = path.open("r+b", buffering=0)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
        try:
            table, self._end_bytes = _parse(path, read_bytes(path), row_type)
            _check_header(path, table.header, header)
            self._file.truncate(self._end_bytes)
        except OSError as error:
            self._file.close()
            raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
        except BaseException:
            self._file.close()
            raise
        self.header = table.header
        self.existing = table.rows

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, rows: Iterable[RowT]) -> None:
        """Write rows to the file at once; after it returns a kill of this process loses none of them.

        Raises:
            OutputError: If they cannot be written (a full disk); the file is then as it was before.
            ValueError: If a value has no place in a file: NaN or minus infinity.
        """
        data = memoryview(_lines(rows))
        end_bytes = self._end_bytes + len(data)
        try:
            self._file.seek(self._end_bytes)
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._end_bytes)
            raise OutputError(f"{self.path}: cannot be written: {error.strerror}") from error
        self._end_bytes = end_bytes

    def replace(self, rows: Sequence[RowT]) -> None:
        """Writes the file anew with other rows, all of it or nothing; its header stays.

        Raises:
            OutputError: If it cannot be written; the file is then as it was before.
            ValueError: As `append`.
        """
        write_rows(self.path, self.row_type, self.header, rows)
        self._file.close()
        try:
            self._file = self.path.open("r+b", buffering=0)
            self._end_bytes = self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror}") from error
        self.existing = tuple(rows)


def _check_header(path: Path, old: Mapping[str, str], new: Mapping[str, str]) -> None:
    for key in MUST_MATCH:
        got, wanted = old.get(key, ""), new.get(key, "")
        if got != wanted:
            raise InputError(f"{path}: holds results under {key} {got!r}, this run has {wanted!r}: use another folder")


def _head(row_type: type[RowT], header: Mapping[str, str]) -> bytes:
    comments = [f"# {_escape(key)}: {_escape(value)}\n" for key, value in header.items()]
    columns = "\t".join(field.name for field in fields(row_type)) + "\n"
    return ("".join(comments) + columns).encode("utf-8", "surrogateescape")


def _lines(rows: Iterable[RowT]) -> bytes:
    return "".join(map(_line, rows)).encode("utf-8", "surrogateescape")


def _line(row: RowT) -> str:
    return "\t".join(_format(getattr(row, field.name)) for field in fields(row)) + "\n"


def _format(value: object) -> str:
    if isinstance(value, float) and (math.isnan(value) or value == -math.inf):
        raise ValueError(f"{value} is no result")
    # float() and int(): a numpy scalar's repr is "np.float64(1.0)"
    match value:
        case None:
            return ""
        case str():
            return _escape(value)
        case float():
            return repr(float(value))
        case _:
            return str(value)


def _escape(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)


def _unescape(text: str) -> str:
    def plain(found: re.Match[str]) -> str:
        if found[0] not in _UNESCAPES:
            raise ValueError(f"{found[0]!r} is no escape")
        return _UNESCAPES[found[0]]

    return re.sub(r"\\.?", plain, text)


def _parse(path: Path, data: bytes, row_type: type[RowT]) -> tuple[RowTable[RowT], int]:
    """The rows, and where in the file the last whole line ends, in bytes."""
    end_bytes = data.rfind(b"\n") + 1
    text = data[:end_bytes].removeprefix(codecs.BOM_UTF8)  # some editors write that mark
    lines = text.decode("utf-8", "surrogateescape").split("\n")[:-1]
    lines = [line.removesuffix("\r") for line in lines]
    n_comments = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    columns = [field.name for field in fields(row_type)]
    if lines[n_comments : n_comments + 1] != ["\t".join(columns)]:
        raise InputError(
            f"{path} line {n_comments + 1}: no results of this kind, must be the columns {' '.join(columns)}; "
            "results of an earlier version are not read: run the experiment again in another folder"
        )
    parsers = _parsers(row_type)
    header = dict(_comment(path, i, line) for i, line in enumerate(lines[:n_comments], start=1) if ":" in line)
    body = enumerate(lines[n_comments + 1 :], start=n_comments + 2)
    rows = tuple(_row(path, number, line, row_type, parsers) for number, line in body)
    _check_one_result_each(path, rows, n_comments + 2)
    return RowTable(header, rows), end_bytes


def _check_one_result_each(path: Path, rows: tuple[RowT, ...], first_line: int) -> None:
    """Refuses two rows about the same thing that differ; the same row twice says nothing new."""
    seen: dict[object, tuple[int, RowT]] = {}
    for line, row in enumerate(rows, start=first_line):
        key = getattr(row, "key", None)
        if key is None:
            return
        first_at, first = seen.setdefault(key, (line, row))
        if row != first:
            names = [field.name for field in fields(row)]
            place, name = next(
                (place, name) for place, name in enumerate(names, 1) if getattr(row, name) != getattr(first, name)
            )
            raise InputError(
                f"{path} line {line}, column {place} ({name}): another result than line {first_at} about the same "
                "thing; keep one of the two lines"
            )


def _comment(path: Path, number: int, line: str) -> tuple[str, str]:
    key, _, value = line.removeprefix("#").partition(":")
    try:
        return _unescape(key.strip()), _unescape(value.removeprefix(" "))
    except ValueError as error:
        raise InputError(f"{path} line {number}: {error}") from error


def _row(path: Path, number: int, line: str, row_type: type[RowT], parsers: dict[str, _Parser]) -> RowT:
    cells = line.split("\t")
    if len(cells) != len(parsers):
        raise InputError(f"{path} line {number}: {len(cells)} columns, wanted {len(parsers)}")
    values = []
    for column, ((name, parse), cell) in enumerate(zip(parsers.items(), cells, strict=True), start=1):
        try:
            values.append(parse(cell))
        except ValueError as error:
            raise InputError(f"{path} line {number}, column {column} ({name}): {error}") from error
    try:
        return row_type(*values)
    except RangeError as error:
        column = list(parsers).index(error.field) + 1
        raise InputError(f"{path} line {number}, column {column} ({error.field}): {error}") from error
    except ValueError as error:
        raise InputError(f"{path} line {number}: {error}") from error


def _parsers(row_type: type[RowT]) -> dict[str, _Parser]:
    hints = typing.get_type_hints(row_type)
    return {field.name: _parser(hints[field.name]) for field in fields(row_type)}


def _parser(hint: object) -> _Parser:
    """The reader of one cell, from the annotation of its field."""
    plain: dict[object, _Parser] = {str: _unescape, int: _parse_int, float: _parse_float}
    if hint in plain:
        return plain[hint]
    if typing.get_origin(hint) is Literal:
        return _choice(typing.get_args(hint))
    if isinstance(hint, types.UnionType) and types.NoneType in typing.get_args(hint):
        inner = _parser(next(arg for arg in typing.get_args(hint) if arg is not types.NoneType))
        return lambda cell: None if cell == "" else inner(cell)
    raise TypeError(f"rows cannot hold {hint}")


def _parse_int(cell: str) -> int:
    if not _INTEGER.fullmatch(cell):
        raise ValueError(f"{cell!r} is no whole number")
    return int(cell)


def _parse_float(cell: str) -> float:
    if cell == "inf":
        return math.inf
    if not _FLOAT.fullmatch(cell) or math.isinf(float(cell)):
        raise ValueError(f"{cell!r} is no number")
    return float(cell)


def _choice(choices: tuple[str, ...]) -> _Parser:
    def parse(cell: str) -> str:
        if cell not in choices:
            raise ValueError(f"{cell!r} is none of {', '.join(choices)}")
        return cell

    return parse
