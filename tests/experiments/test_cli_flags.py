"""Flags of a library's options: their names, their help, and errors that say them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
from tyro.conf import UseAppendAction

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli.flags import HIDDEN, Flags, HelpAsked, parse
from vvc_nnr.experiments.cli.kinds import door, named, whole_number


@dataclass(frozen=True, slots=True)
class Options:
    """Options of some library.

    Attributes:
        n_steps: How many steps, see `run`. More is slower. Default: as many as fit.
        by_name: Numbers by name.
        use_it: It is used.
        data: Where from.
        inner: Nobody's business.
    """

    n_steps: int | None = None
    by_name: Mapping[str, int] = field(default_factory=dict)
    use_it: bool = True
    data: str = "x"
    inner: int = 3

    def __post_init__(self) -> None:
        if self.n_steps is not None and self.n_steps > 9:
            raise InputError(f"n_steps: {self.n_steps}, must be at most 9")


PAIR = Annotated[tuple[str, int], door(named(whole_number, "NAME=N"), "NAME=N")]
FLAGS = Flags(
    Options,
    names={"n_steps": "steps", "by_name": "by", "use_it": "it"},
    kinds={"by_name": UseAppendAction[tuple[PAIR, ...]], "inner": HIDDEN},
    converted={"by_name": dict},
)


@dataclass(frozen=True, kw_only=True)
class Work:
    """Work.

    Attributes:
        options: How it works.
    """

    options: Annotated[Options, FLAGS.arg] = field(default_factory=Options)


def made(*words: str) -> Options:
    return parse(Work, words, prog="work", examples=["work"]).options


def test_what_is_typed_is_an_instance_of_the_library() -> None:
    assert made() == Options()
    words = ("--steps", "4", "--by", "a=b=3", "--by", "c=-1", "--no-it", "--data=y")
    assert made(*words) == Options(4, {"a=b": 3, "c": -1}, False, "y")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--steps", "10"], "--steps: 10, must be at most 9"),
        (["--steps", "1.5"], "--steps: '1.5' must be a whole number"),
        (["--by", "a"], "--by: 'a' must be NAME=N"),
        (["--inner", "4"], "unknown: --inner"),
        (["--stepps", "4"], "perhaps --steps was meant"),
        (["--data"], "--data"),
        (["--data", "a", "b"], "unknown: b; --data takes one value (see"),
    ],
)
def test_what_is_wrong_is_one_line(words: list[str], said: str) -> None:
    with pytest.raises(InputError) as caught:
        made(*words)
    assert said in str(caught.value)
    assert str(caught.value).endswith("(see work --help)")


def test_help_is_the_first_sentence_and_the_default() -> None:
    with pytest.raises(HelpAsked) as caught:
        made("--help")
    text = " ".join(caught.value.text.split())
    assert "How it works: --steps N How many steps, see run. Default: as many as fit." in text
    assert "--no-it Do without: it is used." in text
    assert "inner" not in text


def test_messages_name_flags_and_leave_paths_alone() -> None:
    assert FLAGS.in_flags("n_steps, data: too much") == "--steps, --data: too much"
    assert FLAGS.in_flags("a/data/n_steps.nnc: data n_steps, use_it=False") == (
        "a/data/n_steps.nnc: data --steps, --no-it"
    )
    assert FLAGS.in_flags("some data: n_steps") == "some data: --steps"


def test_without_docstrings_commands_run_and_help_says_what_it_lacks(tmp_path: Path) -> None:
    code = "sys.exit(main(sys.argv[1:]) or main(['compress', '-h']))"
    run = f"import sys; from vvc_nnr.experiments.cli.main import main; {code}"
    np.savez(tmp_path / "x.npz", w=np.ones((4, 4), np.float32))
    words = ["compress", tmp_path / "x.npz", "-o", tmp_path / "x.nnc"]
    said = subprocess.run([sys.executable, "-B", "-OO", "-c", run, *words], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")
    assert (tmp_path / "x.nnc").exists()
    assert "  --fold-batch-norms\n" in said.stdout
    assert said.stdout.endswith("note: python -OO takes away what is said of the options; run without it\n")
