from __future__ import annotations

import platform
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

import vvc_nnr
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records import provenance
from vvc_nnr.experiments.records.provenance import Conventions, gather_provenance


def test_provenance_names_program_and_machine() -> None:
    found = gather_provenance(["/some/where/vvc-nnr", "demo", "--out", "my results"], device="cuda:0")
    assert found.version == vvc_nnr.__version__
    assert found.command == "vvc-nnr demo --out 'my results'"
    assert found.device == "cuda:0"
    assert found.cpu
    assert found.n_cores >= 1
    assert platform.python_version() in found.platform
    assert datetime.fromisoformat(found.date).tzinfo is not None
    header = found.to_header()
    assert header["n_cores"] == str(found.n_cores)
    assert list(header)[:3] == ["version", "git_commit", "command"]


def test_default_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["prog", "a b"])
    assert gather_provenance().command == "prog 'a b'"


def test_commit_of_a_checkout_only(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        options = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", "-C", str(tmp_path), *options, *words], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q")
    site_packages = tmp_path / "site-packages"
    site_packages.mkdir()
    (tmp_path / "pyproject.toml").write_text("a")
    assert provenance._git_commit(tmp_path) == ""  # no commit yet
    git("add", ".")
    git("commit", "-q", "--no-verify", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert provenance._git_commit(tmp_path) == commit
    assert provenance._git_commit(site_packages) == ""
    (tmp_path / "pyproject.toml").write_text("b")
    assert provenance._git_commit(tmp_path) == f"{commit}-dirty"


def test_a_command_that_is_not_there_has_no_output() -> None:
    assert provenance._output(["no-such-program-at-all"]) == ""
    assert provenance._output([sys.executable, "-c", "raise SystemExit('x')"]) == ""


def test_conventions_round_trip() -> None:
    conventions = Conventions("full", rate="bits")
    assert Conventions.from_header(conventions.to_header() | {"other": "x"}) == conventions


def test_conventions_of_a_bad_header() -> None:
    header = Conventions().to_header()
    with pytest.raises(InputError, match="psnr_peak 'odd'"):
        Conventions.from_header(header | {"psnr_peak": "odd"})
    del header["averaging"], header["rate"]
    with pytest.raises(InputError, match="has no averaging, rate"):
        Conventions.from_header(header)
