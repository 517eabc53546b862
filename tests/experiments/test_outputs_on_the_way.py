"""Outputs that are no files: standard output, pipes, process substitution, devices."""

from __future__ import annotations

import contextlib
import io
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from vvc_nnr.experiments.cli.main import main


@pytest.fixture
def stream(y4m: Path, tmp_path: Path) -> Path:
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["encode", str(y4m), "--qp", "40", "-o", str(tmp_path / "in.266")]) == 0
    return tmp_path / "in.266"


def argv_of(command: str, networks: Path, tmp_path: Path) -> list[str]:
    words = command.format(d=tmp_path, net=networks / "rep.safetensors")
    return words.split()


COMMANDS = {
    "encode {d}/in.y4m --qp 40": ".266",
    "decode {d}/in.266": ".y4m",
    "filter {d}/in.266 --model {net} --qp 40 --backend torch": ".y4m",
    "compress {net} --method nnc": ".nnc",
    "compress {net} --method uniform8": ".safetensors",
    "decompress {net}": ".safetensors",
}


@pytest.mark.usefixtures("stream")
@pytest.mark.parametrize("command", COMMANDS)
def test_standard_output_gets_the_bytes_and_nothing_else(command, networks, tmp_path, capfdbinary):
    argv = argv_of(command, networks, tmp_path)
    right = tmp_path / f"right{COMMANDS[command]}"
    assert main([*argv, "-o", str(right)]) == 0
    assert capfdbinary.readouterr().err == b""
    for name in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        assert main([*argv, "-o", name, *(["--json"] if name == "-" else [])]) == 0
        out, err = capfdbinary.readouterr()
        assert out == right.read_bytes()
        assert err.startswith(b"{" if name == "-" else name.encode() if name[1] != "d" else b"/dev/")


@pytest.mark.usefixtures("stream")
@pytest.mark.parametrize("command", COMMANDS)
def test_pipes_get_the_bytes(command, networks, tmp_path, capsys):
    """A FIFO, and what a shell makes of >(...)."""
    argv = argv_of(command, networks, tmp_path)
    right = tmp_path / f"right{COMMANDS[command]}"
    assert main([*argv, "-o", str(right)]) == 0
    fifo = tmp_path / f"fifo{COMMANDS[command]}"
    os.mkfifo(fifo)
    assert _read_while(lambda: main([*argv, "-o", str(fifo)]), fifo) == right.read_bytes()
    reading, writing = os.pipe()
    capsys.readouterr()

    def into_pipe() -> int:
        code = main([*argv, "-o", f"/dev/fd/{writing}"])
        os.close(writing)
        return code

    assert _read_while(into_pipe, reading) == right.read_bytes()
    assert capsys.readouterr().out.startswith(f"/dev/fd/{writing}: ")
    assert main([*argv, "-o", "/dev/null"]) == 0


def _read_while(work: Callable[[], int], place: Path | int) -> bytes:
    """What comes out of a pipe while `work` writes into it."""
    found: list[bytes] = []

    def read() -> None:
        with open(place, "rb") as file:
            found.append(file.read())

    reader = threading.Thread(target=read)
    reader.start()
    assert work() == 0
    reader.join()
    return found[0]


def test_two_outputs_in_one_pipe_are_refused(stream, y4m, networks, capfdbinary):
    options = ("--model", networks / "rep.safetensors", "--qp", "40", "--original", y4m)
    argv = ["filter", stream, *options, "-o", "-", "--decisions-out", "/dev/stdout"]
    assert main([str(word) for word in argv]) == 2
    out, err = capfdbinary.readouterr()
    assert (out, err.count(b"\n")) == (b"", 1)
    assert b"two outputs would go there" in err


def test_a_report_for_standard_output_needs_its_format(tmp_path, capfdbinary):
    assert main(["report", str(tmp_path), "-o", "-"]) == 2
    assert b"--format" in capfdbinary.readouterr().err


def test_a_pipe_that_nobody_reads_any_more_ends_it_quietly(stream, capfdbinary):
    reading, writing = os.pipe()
    os.close(reading)
    assert main(["decode", str(stream), "-o", f"/dev/fd/{writing}"]) == 141
    os.close(writing)
    print("more")
    assert capfdbinary.readouterr() == (b"more\n", b"")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("encode - --qp 40 -o x.266", "'-' is for standard output alone"),
        ("filter - --model inloop-hop --qp 32 -o x.y4m", "INPUT: '-' is for .* standard input is not read: write it"),
        ("filter a.y4m - --model inloop-hop --qp 32 --out-dir x", "standard input is not read"),
        ("score a.y4m -", "DECODED: '-' is for .* standard input is not read"),
        ("inspect -", "-: standard input is not read; write it to a file first"),
        ("decode x.266 -o x.y4m --fps 1e5000", "out of range"),
        ("decode x.266 -o x.y4m --fps 1e999999999", "is no number"),
        ("decode x.266 -o x.y4m --fps -1", "expected one argument|is no number"),
        ("decode x.266 -o x.y4m --size 99999x1", "no size"),
        (f"encode x.y4m -o x.266 --qp {'9' * 5000}", "must be a whole number, 0 to 63"),
        (f"compress x.pt -o x.nnc --qp {'9' * 5000}", "at most 18 digits"),
        ("compress x.pt -o x.nnc --lambda-rd inf", "must be finite"),
        ("encode x.y4m -o x.266 --qp 40 --threads 100000", "1 to 256"),
        ("encode x.y4m -o x.266 --qp 40 --pictures 99999999999", "at most 2147483647"),
        ("train inloop --data x --out y --learning-rate nan", "must be finite"),
        ("experiment model-zoo --out y --qps 1,2,9999999999999999999999", "at most 18 digits"),
    ],
)
def test_values_pass_a_door(words, said, capsys):
    assert main(words.split()) == 2
    err = capsys.readouterr().err
    assert re.search(said, err)
    assert len(err) < 300
    assert err.count("\n") == 1


def test_what_lies_beside_an_output_needs_a_file(networks, tmp_path, capfdbinary):
    options = ("--method", "nnc", "--calibrate", tmp_path, "--max-loss-db", "1", "--finetune")
    argv = ["compress", networks / "rep.safetensors", "-o", "/dev/stdout", *options]
    assert main([str(word) for word in argv]) == 2
    assert b"must be a file" in capfdbinary.readouterr().err


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_what_is_no_name(name, capsys):
    assert main(["decode", "x.266", "-o", name]) == 2
    assert "is no name of a file" in capsys.readouterr().err
