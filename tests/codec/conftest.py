from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
import skimage.data
from stand_ins import COMMON

from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.images import rgb_to_frame


@pytest.fixture(scope="session")
def real_pictures() -> Callable[..., list[Frame]]:
    """Makes pictures, all different, cut from photographs."""
    photographs = [skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee()]

    def make(
        n: int, width: int = 34, height: int = 26, *, chroma_format: str = "420", bit_depth: int = 8
    ) -> list[Frame]:
        frames = []
        for i in range(n):
            top, left = 20 + 13 * (i // 3), 30 + 17 * (i // 3)
            patch = photographs[i % 3][top : top + height, left : left + width]
            frame = rgb_to_frame(np.ascontiguousarray(patch), bit_depth=bit_depth)
            frames.append(Frame(frame.planes[:1], bit_depth, "400") if chroma_format == "400" else frame)
        return frames

    return make


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
