"""FILE.py:NAME as a user writes it: what is made, what may be imported, and what is told when it fails."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path

import pytest
from torch import nn

from vvc_nnr.errors import InputError
from vvc_nnr.filters.networks.factory import factory_file, is_factory, made_by, module_made_by

NETS = """
from __future__ import annotations
from dataclasses import dataclass
import torch
from beside import width

print("loaded")

@dataclass
class Config:
    width: int = width

class Net(torch.nn.Module):
    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config or Config()
        self.conv = torch.nn.Conv2d(1, self.config.width, 3)

def make():
    print("made")
    return Net()

def fails():
    x = 1
    return torch.zeros(2) @ torch.zeros(3)

def ends():
    raise SystemExit("no")

def nothing():
    pass

def needs(width):
    return Net(Config(width))

network = Net()
number = 3
"""


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("width = 5\n")
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    return path


def test_a_function_or_class_makes_a_new_network_each_time(
    nets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(nets.parent)
    for text in (f"{nets}:make", f"{nets}:Net", "nets.py:make"):
        before = list(sys.path)
        first, second = module_made_by(text), module_made_by(text)
        assert first is not second
        assert isinstance(first, nn.Module)
        assert first.get_submodule("conv").weight.shape == (5, 1, 3, 3)
        assert sys.path == before
        assert factory_file(text).resolve() == nets
        pickle.loads(pickle.dumps(copy.deepcopy(first)))
    out, err = capsys.readouterr()
    assert out == ""
    assert "made" in err


def test_a_changed_file_is_run_anew(nets: Path) -> None:
    made_by(f"{nets}:make")
    nets.write_text(NETS.replace("Conv2d(1", "Conv2d(2"))
    assert module_made_by(f"{nets}:make").get_submodule("conv").weight.shape == (5, 2, 3, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fails", r"nets.py:fails: RuntimeError in line 25: .*must match|nets.py:fails: RuntimeError in line 25"),
        ("ends", "nets.py:ends: SystemExit in line 28: no"),
        ("nothing", "returns nothing; must return a network"),
        ("needs", "TypeError: .*missing 1 required positional argument: 'width'"),
        ("absent", "has no absent; it has "),
        ("network", "network is a Net; must be FILE.py:NAME"),
        ("number", "number is a int; must be FILE.py:NAME"),
        ("Config", "nets.py:Config: is a Config; must be a torch module, or have some as attributes"),
    ],
)
def test_what_fails_is_told_by_name_and_line(nets: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        module_made_by(f"{nets}:{name}")


def test_files_that_do_not_load(tmp_path: Path) -> None:
    broken, absent = tmp_path / "broken.py", tmp_path / "absent.py"
    broken.write_text("x = 1\ndef f(:\n")
    with pytest.raises(InputError, match="SyntaxError in line 2"):
        made_by(f"{broken}:f")
    broken.write_text("x = 1\nimport no_such_module\n")
    with pytest.raises(InputError, match="ModuleNotFoundError in line 2: No module named 'no_such_module'"):
        made_by(f"{broken}:f")
    with pytest.raises(InputError, match="no such file"):
        made_by(f"{absent}:f")
    for text in ("nets.py", "nets.pt:make", "nets.py:", "nets.py:1x", ":make"):
        assert not is_factory(text)
        with pytest.raises(InputError, match=r"must be FILE\.py:NAME"):
            made_by(text)
