"""The process of the reference software, with a stand-in for its package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_it_needs_one_file_of_this_package(tmp_path: Path) -> None:
    tools = tmp_path / "nncodec" / "nnc_core" / "hdsp"
    tools.mkdir(parents=True)
    for folder in (tools, *list(tools.parents)[:2]):
        (folder / "__init__.py").touch()
    (tmp_path / "nncodec" / "nnc.py").touch()
    (tools / "hdsp_tool.py").write_text("class HdspTool: pass\n")
    (tmp_path / "vvc_nnr.py").write_text("raise ImportError('this package in the process of the reference software')\n")
    command = [sys.executable, "-c", "import peer_worker; print(peer_worker._import_peer()[0].__name__)"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "benchmarks")])}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("nncodec.nnc\n", "")
