"""Every command with file names, terminals and locales that nobody here has."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vvc_nnr.experiments.cli.main import main
from vvc_nnr.experiments.tables.stored import load
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.y4m import Y4mWriter, read_y4m

pytestmark = pytest.mark.usefixtures("torch_alone")

NOT_UTF8 = os.fsdecode(b"\xff\xe9")
NAMES = [
    "a:b", "file:x", "-o", "--", "a%03d%s", "a\nb\r", "q'\"`$x\\", " s  p ", NOT_UTF8, "ü€😀", "[a]*?{b}",
    "\x1b[31m\x07", "~", "#=&;|<>", "x" * 240, "ä" * 120, ".hidden", "$(x)",
]  # fmt: skip
IN_FOLDERS = ["a:b\n%03d", NOT_UTF8 + "\x1b[31m", "ü€😀'\"`$\\", "x" * 240, "-o"]


def quiet(*argv: str | Path) -> None:
    """Runs a command, which must succeed."""
    assert main([str(word) for word in argv]) == 0, argv


def write_y4m(path: Path, frame: Frame) -> None:
    with Y4mWriter(path, frame.format(30)) as writer:
        writer.write(frame)


@pytest.mark.parametrize("name", NAMES)
def test_commands_for_files(name, frames, networks, tmp_path, monkeypatch):
    """Relative names, as a shell in that folder gives them; those that begin with a dash stand after ./"""
    monkeypatch.chdir(tmp_path)
    small = frames[0].cropped(32, 16)

    def named(suffix: str) -> str:
        return ("./" if name.startswith("-") else "") + name + suffix

    write_y4m(Path(named("y.y4m")), small)
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(named("p.png"), format="png")
    quiet("encode", named("p.png"), "--qp", "40", "-o", named("p.266"))
    quiet("encode", named("y.y4m"), "--qp", "40", "-o", named(".266"))
    quiet("decode", named(".266"), "-o", named("d.y4m"))
    Path(named(".safetensors")).write_bytes((networks / "rep.safetensors").read_bytes())
    model = ("--model", named(".safetensors"), "--qp", "40", "--backend", "torch")
    encoder = ("--original", named("y.y4m"), "--decisions-out", named(".dec"))
    quiet("filter", named("d.y4m"), *model, "-o", named("f.y4m"), *encoder)
    quiet("filter", named(".266"), *model, "-o", named("g.y4m"), "--decisions", named(".dec"))
    pictures = [next(read_y4m(Path(named(suffix)))).planes[0] for suffix in ("f.y4m", "g.y4m")]
    assert np.array_equal(*pictures)
    quiet("compress", named(".safetensors"), "-o", named(".nnc"))
    for suffix in (".pt", "b.safetensors"):
        quiet("decompress", named(".nnc"), "-o", named(suffix))
    for suffix in (".safetensors", ".nnc", ".pt"):
        quiet("inspect", named(suffix))
        quiet("inspect", named(suffix), "--json")
    assert not [each for each in os.listdir() if each.endswith(".part")]


def test_experiments_and_reports(frames, rgb, networks, tmp_path, monkeypatch):
    """Several names at once: as sequences, as images, and as the folder of results."""
    monkeypatch.chdir(tmp_path)
    for folder in ("sequences", "images"):
        Path(folder).mkdir()
    for name in IN_FOLDERS:
        write_y4m(Path("sequences", f"{name}.y4m"), frames[0].cropped(32, 32))
        Image.fromarray(rgb[:32, :32]).save(Path("images", f"{name}.png"), format="png")
    results = f"./a\nb:{NOT_UTF8}"
    _experiments(networks, results)
    for suffix in (".html", ".md", ".csv", ".tex", ".xlsx"):
        quiet("report", results, "-o", f"{results}{suffix}")
    assert "ü€😀" in Path(f"{results}.html").read_bytes().decode()


def _experiments(networks: Path, results: str) -> None:
    common = ("--sequences", "sequences", "--qps", "37", "--out", results, "--cache", "ca:che", "--threads", "1")
    rep, post = networks / "rep.safetensors", networks / "post.safetensors"
    tool = ("--networks", post, rep, "--compress", "uniform8", "--decisions", "wiener", "--backend", "torch")
    quiet("experiment", "tool-by-tool", *common, *tool)
    quiet("experiment", "tool-by-tool", *common, *tool)  # goes on, with the rows as they were read
    quiet(
        "experiment", "end-to-end", "--images", "images", "--networks", networks / "small.safetensors", "--out", results
    )


def test_training(rgb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = Path(f"./{NOT_UTF8}:\n")
    data.mkdir()
    for place, name in enumerate(("a:b", NOT_UTF8, "%03d", "x" * 250)):
        Image.fromarray(np.tile(np.roll(rgb, 40 * place, 1), (3, 2, 1))).save(data / f"{name}.png", format="png")
    common = ("--data", data, "--out", "./r:\n" + NOT_UTF8, "--steps", "1", "--batch-size", "1", "--device", "cpu")
    quiet("train", "inloop", *common, "--channels", "8", "--blocks", "1", "--qps", "37")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("word", ["ü€😀", NOT_UTF8, "\x1b[31m"])
def test_terminals_that_lack_letters(word, encoding, networks, tmp_path, monkeypatch):
    """What cannot be shown is an escape, on both streams, and no error of its own."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict"))
    path = tmp_path / f"{word}.safetensors"
    path.write_bytes((networks / "rep.safetensors").read_bytes())
    assert main(["inspect", str(path)]) == 0
    assert main(["inspect", f"{path}x"]) == 2
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        shown = stream.buffer.getvalue().decode(encoding)
        assert "rep" not in shown
        assert shown.startswith("vvc-nnr: error:" if stream is sys.stderr else "**")
        assert not set(shown) & {"\x1b", *NOT_UTF8}
    assert word.encode(encoding, "backslashreplace").decode(encoding).replace("\x1b", r"\x1b") in shown


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
    ],
    ids=["C", "without UTF-8 mode", "ascii output"],
)
def test_locales(locale, networks, tmp_path):
    for word in ("ü€", NOT_UTF8):
        (tmp_path / f"{word}.safetensors").write_bytes((networks / "rep.safetensors").read_bytes())
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    code = (
        "import sys; from vvc_nnr.experiments.cli.main import main; names = [n for n in sys.argv[1:]]\n"
        "codes = [main(['compress', n, '-o', n.replace('.safe', 'b.safe')]) for n in names]\n"
        "sys.exit(codes != [0, 0])"
    )
    names = [os.fsencode(tmp_path / f"{word}.safetensors") for word in ("ü€", NOT_UTF8)]
    done = subprocess.run(
        [sys.executable, "-c", code, *names], capture_output=True, check=False, env=environment | locale
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / f"{NOT_UTF8}b.safetensors").exists()
    assert (tmp_path / "ü€b.safetensors").exists()


def test_a_run_in_a_locale_without_letters(frames, rgb, networks, tmp_path, monkeypatch):
    """Its rows are all in its tables, and it goes on in another locale."""
    monkeypatch.chdir(tmp_path)
    names = {"ü€": 32, NOT_UTF8: 40}
    for folder in ("sequences", "images"):
        Path(folder).mkdir()
    for name, size in names.items():
        write_y4m(Path("sequences", f"{name}.y4m"), frames[0].cropped(size, 32))
        Image.fromarray(rgb[:size, :32]).save(Path("images", f"{name}.png"), format="png")
    for source, name in (("rep", "ä"), ("small", "ö")):
        Path(f"{name}.safetensors").write_bytes((networks / f"{source}.safetensors").read_bytes())
    common = ("--compress", "uniform8", "--out", "results")
    tool = ("--sequences", "sequences", "--networks", "ä.safetensors", "--qps", "37", "--cache", "cache")
    commands = [
        ("experiment", "tool-by-tool", *common, *tool, "--decisions", "wiener", "--backend", "torch"),
        ("experiment", "end-to-end", *common, "--images", "images", "--networks", "ö.safetensors", "--formats", "webp"),
    ]
    code = (
        "import sys; from vvc_nnr.experiments.cli.main import main; words = sys.argv[1:]; at = words.index('and')\n"
        "sys.exit(main(words[:at]) or main(words[at + 1 :]))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [*commands[0], "and", *commands[1]]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert b"not all is in the tables" not in done.stderr
    stored = load("results")
    assert stored.tools is not None
    assert stored.images is not None
    assert {row.sequence for row in stored.tools.rows} == set(names)
    assert {row.image for row in stored.images.rows} == {f"{name}.png" for name in names}
    assert {row.network for row in stored.networks.itertuples()} == {"ä", "ö"}
    assert (stored.tools.remarks, stored.images.remarks) == ((), ())
    rows = Path("results", "end_to_end.tsv").read_bytes()
    quiet(*commands[1])
    assert Path("results", "end_to_end.tsv").read_bytes() == rows


def test_a_notebook_s_backend_of_plots():
    environment = os.environ | {"MPLBACKEND": "module://not_installed.backend_inline"}
    code = (
        "import os; from vvc_nnr.experiments.cli.main import COMMANDS, command_class\n"
        "[command_class(name) for name in COMMANDS]; print(os.environ['MPLBACKEND'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{environment['MPLBACKEND']}\n", "")


def test_a_warning_is_one_line_whatever_it_names():
    code = (
        "import logging; from vvc_nnr.experiments.cli.main import main; main(['--version'])\n"
        "logging.getLogger('vvc_nnr.a').warning('%s: %s', 'x\\n\\x1b[31my', 'lost')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "WARNING vvc_nnr.a: x\\n\\x1b[31my: lost\n"
