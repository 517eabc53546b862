from __future__ import annotations

import dataclasses
import errno
import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.rows import (
    MAX_COUNT,
    ImageRow,
    NetworkRow,
    ToolRow,
    check_ranges,
    frame_of,
    unique_rows,
)
from vvc_nnr.experiments.records.tsv import RowWriter, read_rows, rows_to_continue
from vvc_nnr.files import AtomicFile

HEADER = {"version": "1", "command": "run\t--out x", "psnr_peak": "vtm", "seeds": ""}


@dataclass(frozen=True, slots=True)
class SizeRow:
    """A kind of rows of its own, with a rule."""

    network: str
    original_bytes: int
    compressed_bytes: int
    method: str
    bits: int
    n_parameters: int

    def __post_init__(self) -> None:
        check_ranges(self, {"original_bytes": (1, MAX_COUNT)})

    @property
    def key(self) -> tuple[str | int, ...]:
        return (self.network, self.method, self.bits)


SIZE = SizeRow("net", 800, 200, "uniform8", 8, 100)
IMAGE = ImageRow("cat", "jpeg-file", "q50", "none", "", 100, 0.78125, 30.5, 0.9, None)

TEXTS = st.text(max_size=8) | st.sampled_from(["\t", "\n", "\r", "\\", "\\t", "#", "\x85", "\u2028", ""])
SCORES = st.floats(min_value=0, allow_nan=False)
SSIMS = st.floats(min_value=-1, max_value=1)
SHARES = st.floats(min_value=0, max_value=1)
TIMES = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
COUNTS = st.integers(min_value=1, max_value=10**12)


@st.composite
def tool_rows(draw: st.DrawFn) -> ToolRow:
    way = draw(st.sampled_from(["codec", "full", "decisions", "wiener"]))
    network = "" if way == "codec" else draw(TEXTS.filter(bool))
    weights = "none" if way == "codec" else draw(st.sampled_from(["original", "file", "uniform8", "nnc:-32"]))
    n_decision_bits = draw(COUNTS) if way in ("decisions", "wiener") else 0
    chroma = SCORES | st.none()
    return ToolRow(
        draw(TEXTS), draw(TEXTS), draw(COUNTS), draw(COUNTS), draw(COUNTS), 10, draw(st.integers(0, 63)),
        draw(st.sampled_from(["all", "deblock-sao", "none"])), way, network, weights, draw(TEXTS), draw(COUNTS),
        n_decision_bits,
        draw(SCORES), draw(chroma), draw(chroma), *(draw(SSIMS) for _ in range(3)),
        *(draw(SHARES | st.none()) for _ in range(3)), draw(TIMES | st.none()), draw(TIMES),
    )  # fmt: skip


@given(rows=st.lists(tool_rows(), max_size=4, unique_by=lambda row: row.key), value=TEXTS, n_torn=st.integers(0, 400))
def test_rows_come_back_and_a_torn_line_costs_itself_only(rows: list[ToolRow], value: str, n_torn: int) -> None:
    header = HEADER | {"note": value}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.tsv"
        with RowWriter(path, ToolRow, header) as writer:
            head_bytes = path.stat().st_size
            writer.append(rows)
        table = read_rows(path, ToolRow)
        assert table.rows == tuple(rows)
        assert table.header == header

        data = path.read_bytes()
        cut = max(head_bytes, len(data) - n_torn)
        path.write_bytes(data[:cut])
        kept = read_rows(path, ToolRow).rows
        assert kept == tuple(rows[: data[:cut].count(b"\n") - data[:head_bytes].count(b"\n")])
        with RowWriter(path, ToolRow, header) as writer:
            assert writer.existing == kept
            writer.append(rows[len(kept) :])
        assert path.read_bytes() == data


def test_golden_file(tmp_path: Path) -> None:
    path = tmp_path / "images.tsv"
    with RowWriter(path, ImageRow, {"version": "1", "command": "a\nb"}) as writer:
        about = ("tab\there", "cnn-ae", "#net", "nnc:-32", "ab")
        writer.append([IMAGE, ImageRow(*about, 1, 0.1, math.inf, 1.0, None, operating_point=3, effort=2)])  # type: ignore[arg-type]
    assert path.read_text() == (
        "# version: 1\n"
        "# command: a\\nb\n"
        "image\tmethod\tsetting\tweights\tnetwork_sha256\tn_bytes\tbpp\tpsnr_db\tssim\tms_ssim\toperating_point\teffort\n"
        "cat\tjpeg-file\tq50\tnone\t\t100\t0.78125\t30.5\t0.9\t\t\t0\n"
        "tab\\there\tcnn-ae\t#net\tnnc:-32\tab\t1\t0.1\tinf\t1.0\t\t3\t2\n"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["images.tsv"]


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = _file(tmp_path, SIZE)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_rows(path, SizeRow).rows == (SIZE,)


def test_the_mark_that_editors_put_before_utf8_is_read_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    other = dataclasses.replace(IMAGE, image="dog")
    with RowWriter(path, ImageRow, HEADER) as writer:
        writer.append([IMAGE])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    table = read_rows(path, ImageRow)
    assert (table.rows, dict(table.header)) == ((IMAGE,), HEADER)
    with RowWriter(path, ImageRow, HEADER) as writer:
        writer.append([other])
    assert read_rows(path, ImageRow).rows == (IMAGE, other)


def test_numpy_scalars_are_written_as_numbers(tmp_path: Path) -> None:
    row = ImageRow("cat", "jpeg-file", "q50", "none", "", np.int64(100), np.float64(0.5), np.float64(np.inf), 0.9, None)  # type: ignore[arg-type]
    assert read_rows(_file(tmp_path, row), ImageRow).rows == (row,)


def test_non_utf8_names_survive(tmp_path: Path) -> None:
    row = SizeRow(os.fsdecode(b"net\xff"), 8, 2, "uniform8", 8, 1)
    assert read_rows(_file(tmp_path, row), SizeRow).rows == (row,)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"\t800\t", b"\t8oo\t", r"line 6, column 2 \(original_bytes\): '8oo' is no whole number"),
        (b"\t800\t", b"\t8_0\t", r"column 2 \(original_bytes\): '8_0' is no whole number"),
        (b"\t800\t", b"\t" + b"9" * 5000 + b"\t", r"column 2 \(original_bytes\)"),
        (b"\t800\t", b"\t", "line 6: 5 columns, wanted 6"),
        (b"\t800\t", b"\t0\t", "line 6, column 2 \\(original_bytes\\): original_bytes is 0, must be at least 1"),
        (b"net\t", b"n\\et\t", r"column 1 \(network\): '\\\\e' is no escape"),
        (b"net\t", b"net\\\t", r"column 1 \(network\): '\\\\' is no escape"),
        (b"uniform8\t8", b"\n", "line 6: 4 columns, wanted 6"),
        (b"network\t", b"", "line 5: no results of this kind, must be the columns network original_bytes"),
        (b"# version", b"version", "line 1: no results of this kind"),
        (b"run\\t", b"run\\x", r"line 2: '\\\\x' is no escape"),
    ],
)
def test_malformed_file_names_line_and_column(tmp_path: Path, old: bytes, new: bytes, message: str) -> None:
    path = _file(tmp_path, SIZE)
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    with pytest.raises(InputError, match=rf"net\.tsv .*{message}"):
        read_rows(path, SizeRow)
    with pytest.raises(InputError, match=message):
        RowWriter(path, SizeRow, HEADER)


@pytest.mark.parametrize("number", ["nan", "-inf", "Infinity", "1e999", "1_0.5", "0x1p3", " 1", "", "½"])
def test_numbers_that_are_none(tmp_path: Path, number: str) -> None:
    path = _file(tmp_path, IMAGE)
    path.write_text(path.read_text().replace("30.5", number))
    with pytest.raises(InputError, match=r"line 6, column 8 \(psnr_db\): .* is no number"):
        read_rows(path, ImageRow)


def test_unknown_choice_lists_the_choices(tmp_path: Path) -> None:
    path = _file(tmp_path, IMAGE)
    path.write_text(path.read_text().replace("jpeg-file", "jpeg"))
    with pytest.raises(InputError, match=r"column 2 \(method\): 'jpeg' is none of jpeg-file, jpeg-opt"):
        read_rows(path, ImageRow)


@pytest.mark.parametrize("data", [b"\x00\xff" * 50, b"\n", b"# only: comments\n", b"no line feed"])
def test_other_files_are_refused_and_kept(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "other.tsv"
    path.write_bytes(data)
    with pytest.raises(InputError, match="no results of this kind"):
        RowWriter(path, SizeRow, HEADER)
    assert path.read_bytes() == data


def test_paths_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.tsv: no such file"):
        read_rows(tmp_path / "gone.tsv", SizeRow)
    with pytest.raises(InputError, match="cannot be written"):
        RowWriter(tmp_path / "no-folder" / "rows.tsv", SizeRow, HEADER)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be written: there is no folder .*; make it"):
        RowWriter(tmp_path / "file" / "rows.tsv", SizeRow, HEADER)
    with pytest.raises(InputError, match="is a folder; must be a file"):
        RowWriter(tmp_path, SizeRow, HEADER)


def test_continuing_under_other_conventions_is_refused(tmp_path: Path) -> None:
    path = _file(tmp_path, SIZE)
    with pytest.raises(InputError, match="under psnr_peak 'vtm', this run has 'full': use another folder"):
        RowWriter(path, SizeRow, HEADER | {"psnr_peak": "full"})
    with RowWriter(path, SizeRow, HEADER | {"command": "another"}) as writer:
        assert writer.existing == (SIZE,)
    assert read_rows(path, SizeRow).header == HEADER


class _FullDisk:
    """A file on a disk with room for a few more bytes."""

    def __init__(self, path: Path, room_bytes: int) -> None:
        self._file = path.open("r+b", buffering=0)
        self._room_bytes = room_bytes
        self.seek, self.truncate, self.close = self._file.seek, self._file.truncate, self._file.close

    def write(self, data: memoryview) -> int:
        n_bytes = min(len(data), self._room_bytes)
        if n_bytes == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._room_bytes -= n_bytes
        return self._file.write(data[:n_bytes]) or 0


def test_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _file(tmp_path, SIZE)
    before = path.read_bytes()
    with RowWriter(path, SizeRow, HEADER) as writer:
        real = writer._file
        monkeypatch.setattr(writer, "_file", _FullDisk(path, room_bytes=10))
        with pytest.raises(InputError, match=r"net\.tsv: cannot be written: No space left"):
            writer.append([SIZE])
        real.close()
    assert path.read_bytes() == before


def test_full_disk_leaves_no_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(self: AtomicFile, data: bytes) -> None:
        raise InputError(f"{self.path}: cannot be written: {os.strerror(errno.ENOSPC)}")

    monkeypatch.setattr(AtomicFile, "write", write)
    with pytest.raises(InputError, match="No space left"):
        RowWriter(tmp_path / "rows.tsv", SizeRow, HEADER)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_no_row_with_nan_is_written(tmp_path: Path, value: float) -> None:
    path = _file(tmp_path, IMAGE)
    with (
        RowWriter(path, ImageRow, HEADER) as writer,
        pytest.raises(ValueError, match=f"psnr_db is {value}, must be at least 0"),
    ):
        writer.append([ImageRow("dog", "cnn-ae", "net", "file", "ab", 1, 1.0, value, 1.0, None)])
    assert read_rows(path, ImageRow).rows == (IMAGE,)


def test_a_field_of_another_type_is_a_programming_error(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Odd:
        value: list[int]

    with pytest.raises(TypeError, match="rows cannot hold"):
        RowWriter(tmp_path / "odd.tsv", Odd, {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"way": "codec"}, "way 'codec' with network 'rep'"),
        ({"network": ""}, "way 'full' with network ''"),
        ({"weights": "reconstructed"}, "must be original, file or a compression"),
        ({"n_bits": -1}, "n_bits is -1, must be at least 0"),
        ({"height": 0}, "height is 0, must be at least 1"),
        ({"encode_s": float("inf")}, "encode_s is inf, must be at least 0 and finite"),
        ({"ms_ssim_y": 1.5}, "ms_ssim_y is 1.5, must be 0 to 1"),
    ],
)
def test_rows_that_cannot_be(tool_rows: list[ToolRow], changes: dict[str, object], message: str) -> None:
    row = next(row for row in tool_rows if row.network)
    values = {name: getattr(row, name) for name in ToolRow.__slots__} | changes
    with pytest.raises(ValueError, match=message):
        ToolRow(**values)
    with pytest.raises(ValueError, match="at least 0"):
        ImageRow("a", "cnn-ae", "n", "file", "", 1, -0.5, 1.0, 1.0, None)
    with pytest.raises(ValueError, match="with weights 'none'"):
        ImageRow("a", "cnn-ae", "n", "none", "", 1, 0.5, 1.0, 1.0, None)
    with pytest.raises(ValueError, match="at least 1"):
        NetworkRow("n", "file", "", "all", "NNC", 0, None, 1, 1.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("qp", "64"), ("bit_depth", "99"), ("picture", "-1"), ("n_bits", "-8"), ("psnr_y_db", "-300"), ("ssim_cb", "5")],
)
def test_a_value_out_of_its_range_names_line_and_column(
    tool_rows: list[ToolRow], tmp_path: Path, name: str, value: str
) -> None:
    path = tmp_path / "rows.tsv"
    with RowWriter(path, ToolRow, HEADER) as writer:
        writer.append(tool_rows[:3])
    lines = path.read_text().splitlines(keepends=True)
    column = lines[-4].rstrip("\n").split("\t").index(name)
    cells = lines[-2].split("\t")
    lines[-2] = "\t".join([*cells[:column], value, *cells[column + 1 :]])
    path.write_text("".join(lines))
    number = len(lines) - 1
    with pytest.raises(
        InputError, match=rf"rows\.tsv line {number}, column {column + 1} \({name}\): {name} is {value}"
    ):
        read_rows(path, ToolRow)


def test_two_results_about_the_same_thing_name_both_lines(tmp_path: Path) -> None:
    path = _file(tmp_path, IMAGE)
    line = path.read_text().splitlines(keepends=True)[-1]
    path.write_text(path.read_text() + line)
    assert read_rows(path, ImageRow).rows == (IMAGE, IMAGE)
    path.write_text(path.read_text() + line.replace("30.5", "31.5"))
    with pytest.raises(InputError, match=r"net\.tsv line 8, column 8 \(psnr_db\): another result than line 6"):
        read_rows(path, ImageRow)


def test_a_file_torn_in_the_middle_names_the_line(tmp_path: Path) -> None:
    path = _file(tmp_path, IMAGE)
    line = path.read_text().splitlines(keepends=True)[-1]
    path.write_text(path.read_text() + line.replace("dog", "cat")[:9] + line.replace("dog", "cow"))
    with pytest.raises(InputError, match=r"net\.tsv line 7: \d+ columns, wanted 12"):
        read_rows(path, ImageRow)
    path.write_bytes(path.read_bytes()[:-40] + b"\0" * 40 + b"\n")
    with pytest.raises(InputError, match=r"net\.tsv line 7"):
        read_rows(path, ImageRow)


def test_what_a_run_may_continue_is_known_before_it_writes(tmp_path: Path) -> None:
    path = _file(tmp_path, SIZE)
    path.write_bytes(path.read_bytes() + b"torn")
    before = path.read_bytes()
    assert rows_to_continue(path, SizeRow, HEADER) == (SIZE,)
    with pytest.raises(InputError, match="use another folder"):
        rows_to_continue(path, SizeRow, HEADER | {"version": "9"})
    assert path.read_bytes() == before
    assert rows_to_continue(tmp_path / "none.tsv", SizeRow, HEADER) == ()
    assert sorted(tmp_path.iterdir()) == [path]


def test_unique_rows() -> None:
    other = SizeRow("net", 800, 201, "uniform8", 8, 100)
    key = ["network", "method", "bits"]
    assert len(unique_rows(frame_of([SIZE, SIZE], SizeRow), key)) == 1
    with pytest.raises(InputError, match=r"two different results for \('net', 'uniform8', 8\)"):
        unique_rows(frame_of([SIZE, other], SizeRow), key)


def test_a_frame_has_the_columns_of_the_rows_in_their_types(tool_rows: list[ToolRow]) -> None:
    grey = [dataclasses.replace(row, psnr_cb_db=None, psnr_cr_db=None) for row in tool_rows]
    frame = frame_of(grey, ToolRow)
    assert list(frame.columns) == list(ToolRow.__slots__)
    assert {column: str(frame[column].dtype) for column in ("qp", "psnr_y_db", "psnr_cb_db", "ms_ssim_y")} == {
        "qp": "int64", "psnr_y_db": "float64", "psnr_cb_db": "float64", "ms_ssim_y": "float64",
    }  # fmt: skip
    assert frame["psnr_cb_db"].isna().all()
    assert list(frame["network"]) == [row.network for row in grey]
    assert list(frame_of([], ToolRow).columns) == list(ToolRow.__slots__)
    alone = NetworkRow("n", "file", "ab", "all", "NNC", 100, None, 10, 1.0)
    assert frame_of([alone], NetworkRow)["original_bytes"].isna().all()


def _file(folder: Path, row: SizeRow | ImageRow) -> Path:
    path = folder / "net.tsv"
    with RowWriter(path, type(row), HEADER) as writer:
        writer.append([row])
    return path
