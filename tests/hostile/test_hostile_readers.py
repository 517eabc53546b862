"""Damaged inputs by the hundred through every reader of the package; the campaign does it by the hundred thousand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).with_name("reader_campaign.py")
COUNT = 200


@pytest.mark.skipif(sys.platform != "linux", reason="bounds memory as Linux does")
def test_damaged_inputs_do_no_harm() -> None:
    command = [sys.executable, CAMPAIGN, "--together", "--count", str(COUNT)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    print(done.stdout)  # the seeds, where it fails
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    lines = done.stdout.splitlines()
    assert len(lines) > 25
    assert all(line.endswith("faults: none") for line in lines)
