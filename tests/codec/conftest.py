from __future__ import annotations

import sys

import pytest
from stand_ins import COMMON


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Installs scripts as programs; returns a function (name, body) -> file of the calls made."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def install(name, body, **fields):
        calls = tmp_path / f"{name}.calls"
        script = folder / name
        text = (COMMON + body).format(calls=str(calls), **fields)
        script.write_text(f"#!{sys.executable}\n{text}")
        script.chmod(0o755)
        return calls

    return install


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "encoder_intra_vtm.cfg"
    path.write_text("IntraPeriod : 1\nTemporalSubsampleRatio : 8\n")
    return path
