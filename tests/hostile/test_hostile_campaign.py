"""Hostile streams by the thousand with the installed kernels, and by a few hundred with sanitizers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_trial import Trials

CAMPAIGN = Path(__file__).with_name("hostile_campaign.py")


def test_hostile_streams_do_no_harm() -> None:
    trials = Trials()
    trials.run(range(4000))
    assert trials.outcomes["decoded"] > 100
    assert trials.outcomes["BitstreamError"] > 1000
    assert trials.outcomes["UnsupportedError"] > 50


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_hostile_streams_under_sanitizers() -> None:
    command = [sys.executable, CAMPAIGN, "--count", "2000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("2000 streams")
