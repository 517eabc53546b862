"""Messages of errors: one short line of printable characters, whatever a file put into them."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import pytest

from vvc_nnr.errors import (
    BitstreamError,
    ExternalToolError,
    InputError,
    OutputError,
    ShapeError,
    UnsupportedError,
    VvcNnrError,
    shown,
    shown_names,
)
from vvc_nnr.files import AtomicFile, make_folder, naming


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("as it is: é 日本", "as it is: é 日本"),
        ("\x1b[2J\n\t\0\x9b", r"\x1b[2J\n\t\x00\x9b"),
        ("\u202e\u2028\udc81", r"\u202e\u2028\udc81"),
        ("", ""),
    ],
)
def test_what_does_not_print_is_escaped(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_long_texts_lose_their_middle() -> None:
    assert shown("a" * 80) == "a" * 80
    assert shown("a" * 500 + "b" * 500, 9) == "aaaaaa ... bbb"
    assert len(shown("\0" * 10**6, 80)) < 90
    assert shown("\0" * 8, 9) == r"\x00"
    assert shown("a\0b", 6) == r"a\x00b"


def test_listed_names_are_whole() -> None:
    names = [f"StatefulPartitionedCall/functional_1/conv2d_{n}/{'x' * 60}/ReadVariableOp:0" for n in range(7)]
    assert shown_names(names) == f"{', '.join(names[:3])} and 4 more"
    assert shown_names(names, 2) == f"{names[0]}, {names[1]} and 5 more"
    assert shown_names(names[:1]) == names[0]
    assert shown_names([]) == ""
    assert shown_names(["a\n", "b"]) == r"a\n, b"
    assert shown_names(["x" * 1000, "b"], n_characters=90) == f"{'x' * 60} ... {'x' * 30} and 1 more"


@pytest.mark.parametrize("kind", [VvcNnrError, InputError, BitstreamError, UnsupportedError, ShapeError])
def test_no_message_is_long_or_odd(kind: type[VvcNnrError]) -> None:
    error = kind("path.nnc: " + "\x1b[31m" * 10**5 + ": do this")
    assert str(error).isprintable()
    assert len(str(error)) < 710
    assert str(error).startswith("path.nnc: ")
    assert str(error).endswith(": do this")
    assert len(str(kind("x" * 10**6))) < 800


def test_a_file_is_named_and_nothing_is_lost() -> None:
    error = BitstreamError("too short", field="width", offset_bytes=7)
    named = error.prefixed("x\n.nnc")
    assert str(named) == "x\\n.nnc: too short in width at byte 7"
    assert (type(named), named.field, named.offset_bytes) == (BitstreamError, "width", 7)
    assert str(error) == "too short in width at byte 7"
    for again in (copy.copy(named), pickle.loads(pickle.dumps(named))):
        assert (str(again), again.field, again.offset_bytes) == (str(named), "width", 7)
    tool = ExternalToolError("failed", command=["vvenc"], exit_code=3, log="a\nb").prefixed("y")
    assert str(BitstreamError("x" * 5000).prefixed("p" * 3000)).startswith("p" * 3000 + ": xx")
    assert (tool.command, tool.exit_code, tool.log) == (("vvenc",), 3, "a\nb")


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("", "failed; exit code 1"),
        ("a\n\nb\nc\nd\n", "failed; exit code 1; log: b | c | d"),
        (
            "x error: Unknown option\nno error warning\na\nb\n",
            "failed; exit code 1; log: x error: Unknown option | a | b",
        ),
        ("error 1\nfailed 2\nERROR 3\nlast", "failed; exit code 1; log: error 1 | failed 2 | last"),
        ("a\nerror 1", "failed; exit code 1; log: error 1 | a"),
    ],
)
def test_lines_that_name_an_error_come_first(log: str, told: str) -> None:
    assert str(ExternalToolError("failed", exit_code=1, log=log)) == told


@pytest.mark.parametrize("name", ["a.nnc", "odd\n\udc81\x1b.nnc", "long" * 100, "\x1b" * 250 + ".nnc"])
def test_naming(name: str) -> None:
    with pytest.raises(BitstreamError) as caught, naming(Path(name)):
        raise BitstreamError("damaged", field="shape", offset_bytes=3)
    assert (caught.value.field, caught.value.offset_bytes) == ("shape", 3)
    once = str(caught.value)
    assert once.startswith(f"{shown(name, 700)}: damaged")
    for error in (InputError(f"{name}: no such file"), UnsupportedError(f"{name}: what?")):
        with pytest.raises(type(error)) as again, naming(Path(name)):
            raise error
        assert again.value is error
        assert error.__cause__ is None


def test_what_cannot_be_written_is_named_and_not_what_is_read() -> None:
    for write in (_to_full_disk, lambda: make_folder(Path(os.devnull))):
        with (
            pytest.raises(OutputError, match=r"^/dev/(full|null): cannot be (written|made)"),
            naming(Path("input.y4m")),
        ):
            write()


def _to_full_disk() -> None:
    with AtomicFile("/dev/full") as file:
        file.write(b"x")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("file", "file: cannot be made: {folder}/file is none and must be a folder; name another place"),
        ("file/a/b", "file/a/b: cannot be made: {folder}/file is none and must be a folder; name another place"),
        ("link", "link: cannot be made: {folder}/link is none and must be a folder; name another place"),
    ],
)
def test_a_folder_that_cannot_be_made_says_what_is_in_the_way(tmp_path: Path, path: str, said: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "else")
    with pytest.raises(OutputError) as caught:
        make_folder(tmp_path / path)
    assert str(caught.value) == f"{tmp_path}/{said.format(folder=tmp_path)}"
