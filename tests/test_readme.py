"""What the README and the documents say can be typed in as it stands."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest
import torch

from vvc_nnr.experiments.cli.main import COMMANDS, FAMILIES, Asked, asked_command, parsed

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])


def blocks(text: str, language: str) -> list[str]:
    """The contents of the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_setting_up_takes_two_lines() -> None:
    lines = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert len(lines) == 2
    assert lines[0].endswith("vvc-nnr demo")
    assert lines[1].endswith("pytest -n auto")


def test_examples_in_python_give_what_they_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks(README, "python")), {}, "README.md", "README.md", 0)
    assert len(examples.examples) > 15
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    failed, _ = doctest.DocTestRunner().run(examples)
    torch.set_num_threads(n_threads)
    assert failed == 0


def test_every_command_has_an_example_that_parses() -> None:
    examples = [line for block in blocks(README, "sh") for line in block.splitlines() if line.startswith("vvc-nnr ")]
    shown = {shlex.split(example)[1] for example in examples}
    for example in examples:
        asked = asked_command(shlex.split(example)[1:])
        assert isinstance(asked, Asked)
        parsed(asked)
    commands = {name for name in COMMANDS if " " not in name} | set(FAMILIES)
    assert shown | {"demo"} == set(commands)
    assert all(f"`{command}`" in README for command in commands)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", path.read_text())
    missing = [t for t in targets if not t.startswith("https://") and not (path.parent / t).exists()]
    assert missing == []


def test_the_document_of_conventions_has_the_names_of_the_code() -> None:
    text = (ROOT / "docs" / "conventions.md").read_text()
    code = (ROOT / "codec" / "encoders.py").read_text()
    for parameters in (
        "IntraPeriod=1:GOPSize=1:IntraQPOffset=0:MCTF=0:BIM=0",
        ":MTProfile=0:MaxParallelFrames=0:Verbosity=5:SEIDecodedPictureHash=md5",
    ):
        assert parameters in text
        assert parameters in code
    for name in ("`all`", "`deblock-sao`", "`none`", "`file`", "`optimised`", "`payload`", "vvc_nnr.uniform"):
        assert name in text
