from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from vvc_nnr.errors import InputError, UnsupportedError, VvcNnrError
from vvc_nnr.filters.decisions.block_decisions import correction_by
from vvc_nnr.filters.inference.runner import Runner, filter_frame
from vvc_nnr.filters.networks.in_loop import InLoopFilter
from vvc_nnr.sequences.frame import Frame

MakeNetwork = Callable[..., InLoopFilter]
MakeFrame = Callable[..., Frame]


@pytest.mark.parametrize("tile", [32, None])
@pytest.mark.parametrize(
    ("width", "height", "bit_depth", "chroma_format"),
    [(70, 38, 10, "420"), (33, 21, 8, "420"), (17, 40, 12, "400"), (1, 1, 10, "420")],
)
def test_the_correction_rounded_is_what_the_filter_does(
    filter_network: MakeNetwork,
    random_frame: MakeFrame,
    width: int,
    height: int,
    bit_depth: int,
    chroma_format: str,
    tile: int | None,
) -> None:
    network, frame = filter_network(), random_frame(width, height, bit_depth, chroma_format)
    correction = correction_by(Runner(network, backend="torch", tile=tile), frame, 30)
    filtered = filter_frame(network, frame, 30, tile=tile)
    assert any((a != b).any() for a, b in zip(frame.planes, filtered.planes, strict=True))
    for values, before, after in zip(correction, frame.planes, filtered.planes, strict=True):
        assert values.dtype == np.float32
        sum_ = np.clip(before + values.astype(np.float64), 0, (1 << bit_depth) - 1)
        assert np.abs(sum_ - after).max() < 0.501


@pytest.mark.parametrize("qp", [-1, 64])
def test_a_qp_out_of_range(filter_network: MakeNetwork, random_frame: MakeFrame, qp: int) -> None:
    with pytest.raises(InputError, match=f"QP {qp}: must be 0 to 63"):
        correction_by(Runner(filter_network(), backend="torch"), random_frame(16, 16), qp)


def test_other_chroma_formats_are_refused(filter_network: MakeNetwork, random_frame: MakeFrame) -> None:
    with pytest.raises(UnsupportedError, match="4:2:0 and 4:0:0"):
        correction_by(Runner(filter_network(), backend="torch"), random_frame(16, 16, 8, "444"), 32)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_overflow_are_an_error(filter_network: MakeNetwork, random_frame: MakeFrame, value: float) -> None:
    network = filter_network()
    with torch.no_grad():
        network.tail.weight.fill_(value)
    with pytest.raises(VvcNnrError, match="not finite"):
        correction_by(Runner(network, backend="torch"), random_frame(16, 16), 32)
