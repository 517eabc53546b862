from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import settings

from vvc_nnr.options import thread_count
from vvc_nnr.sequences.frame import Frame

# No deadline: a busy machine is no failure. The same examples every time, unless others are looked for on purpose
# (HYPOTHESIS_PROFILE=explore): what passed on one machine passes on the next.
settings.register_profile("explore", deadline=None)
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))
if "PYTEST_XDIST_WORKER" in os.environ:  # a process for each core: more threads of each would only wait
    os.environ.setdefault("OMP_NUM_THREADS", "1")
MAX_PROCESSES = 6
"""Of the tests, whatever cores there are: each takes about a gigabyte."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many processes `-n auto` has."""
    return min(thread_count(None), MAX_PROCESSES)


@pytest.fixture(scope="session")
def real_pictures() -> Callable[..., list[Frame]]:
    """Makes pictures, all different, cut from photographs."""
    import skimage.data  # here: the tests of the coding need numpy alone

    from vvc_nnr.sequences.images import rgb_to_frame

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
