"""What the command compress says of constants that are kept exact."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from vvc_nnr.experiments.cli.main import main


def test_constants_that_are_much_of_a_network_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, output = str(tmp_path / "model.safetensors"), str(tmp_path / "model.nnc")
    random = np.random.default_rng(0)
    save_file({name: random.normal(size=(9, 7)).astype(np.float32) for name in ("a.anchors", "a.weight")}, model)
    assert main(["compress", model, "-o", output]) == 0
    assert "kept exact: 1 constants of 252 bytes; the largest is a.anchors, which" in capsys.readouterr().out
    assert main(["compress", model, "-o", output, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["constant_bytes"] == 252
    for options in (["--role-of", "a.anchors=weight"], ["--lossless"], ["--roles", "off"]):
        assert main(["compress", model, "-o", output, *options]) == 0
        assert "kept exact" not in capsys.readouterr().out
