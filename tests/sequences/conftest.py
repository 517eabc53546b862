from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from vvc_nnr.sequences.frame import Frame, VideoFormat


@pytest.fixture(scope="session")
def random_frame() -> Callable[..., Frame]:
    """Makes a picture of random samples over the whole range of its bit depth."""

    def make(format: VideoFormat, seed: int = 0) -> Frame:
        rng = np.random.default_rng(seed)
        planes = tuple(
            rng.integers(0, 1 << format.bit_depth, shape, dtype=np.uint16).astype(format.dtype)
            if format.bit_depth < 16
            else rng.integers(0, 65536, shape).astype(np.uint16)
            for shape in format.plane_shapes
        )
        return Frame(planes, format.bit_depth, format.chroma_format)

    return make


@pytest.fixture(scope="session")
def ffmpeg() -> Callable[..., bytes]:
    """Runs ffmpeg with the given arguments and returns its stdout."""

    def run(*arguments: str | Path) -> bytes:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout

    return run


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real test data; tests that need it are skipped where it is absent."""
    root = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("VVC_NNR_DATA", root.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no test data folder (VVC_NNR_DATA)")
    return folder
