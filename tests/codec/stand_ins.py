"""Pictures, and scripts that stand in for programs on the PATH and understand the same command lines."""

from __future__ import annotations

import numpy as np

from vvc_nnr.sequences.frame import Frame, VideoFormat

COMMON = """\
import sys
from fractions import Fraction
from pathlib import Path
arguments = sys.argv[1:]
with open({calls!r}, "a") as calls:
    print(*arguments, sep="\\x1f", file=calls)
def value(*names):
    for name in names:
        if name in arguments:
            return arguments[arguments.index(name) + 1]
    sys.exit(f"missing option: {{names}}")
"""


def frames(n_pictures, width=32, height=24, *, chroma_format="420", bit_depth=8, seed=3):
    rng = np.random.default_rng(seed)
    format = VideoFormat(width, height, bit_depth, chroma_format)
    smooth = [np.add.outer(np.arange(h), np.arange(w)) % 64 + 64 for h, w in format.plane_shapes]
    return [
        Frame(
            tuple((s + rng.integers(0, 9, s.shape)).astype(format.dtype) for s in smooth),
            bit_depth,
            chroma_format,
        )
        for _ in range(n_pictures)
    ]


def same(left, right):
    assert [f.format(30) for f in left] == [f.format(30) for f in right]
    for a, b in zip(left, right, strict=True):
        for x, y in zip(a.planes, b.planes, strict=True):
            np.testing.assert_array_equal(x, y)


def calls_of(file):
    return [line.split("\x1f") for line in file.read_text().splitlines()]
