from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from vvc_nnr.errors import InputError
from vvc_nnr.filters.inference.choice import missing_for
from vvc_nnr.filters.inference.runner import Runner, filter_frame

SIDE_BY_SIDE = "onnxruntime"

needs_threads = pytest.mark.skipif(bool(missing_for(SIDE_BY_SIDE)), reason=missing_for(SIDE_BY_SIDE))


def assert_near(left, right):
    assert left.format(30) == right.format(30)
    for a, b in zip(left.planes, right.planes, strict=True):
        difference = np.abs(a.astype(int) - b)
        assert difference.max() <= 1
        assert np.count_nonzero(difference) <= 0.002 * a.size + 1


@needs_threads
@pytest.mark.parametrize("tile", [None, 32])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_sequences_come_in_order_each_with_its_qp_and_size(filter_network, random_frame, tile, n_threads):
    network = filter_network()
    pictures = [(random_frame(40 + 8 * (i % 3), 32, seed=i), 20 + i) for i in range(8)]
    runner = Runner(network, backend=SIDE_BY_SIDE, tile=tile, n_threads=n_threads)
    filtered = list(runner.filter_frames(iter(pictures)))
    assert len(filtered) == 8
    for (frame, qp), got in zip(pictures, filtered, strict=True):
        assert_near(got, filter_frame(network, frame, qp))
        assert_near(runner.filter_frame(frame, qp), got)


def test_a_sequence_is_read_as_it_is_filtered(filter_network, random_frame):
    read = []

    def pictures():
        for i in range(50):
            read.append(i)
            yield random_frame(16, 16), 32

    filtered = Runner(filter_network(), backend="torch").filter_frames(pictures())
    next(filtered)
    assert len(read) <= 3
    filtered.close()


@needs_threads
def test_one_picture_keeps_all_threads_busy(filter_network, random_frame, monkeypatch):
    runner = Runner(filter_network(), backend=SIDE_BY_SIDE, n_threads=2)
    both = threading.Barrier(2, timeout=20)
    original = runner._compute.run

    def run(planes, qp):
        both.wait()
        return original(planes, qp)

    monkeypatch.setattr(runner._compute, "run", run)
    runner.filter_frame(random_frame(64, 64), 32)


def test_an_error_in_a_sequence_reaches_the_caller(filter_network, random_frame):
    pictures = [(random_frame(16, 16), 32), (random_frame(16, 16), 64), (random_frame(16, 16), 32)]
    filtered = Runner(filter_network(), backend="torch").filter_frames(pictures)
    next(filtered)
    with pytest.raises(InputError, match="QP 64"):
        list(filtered)


@pytest.mark.parametrize("qp", [32.5, 32.0, "32", True, np.float32(32)])
def test_a_qp_is_a_whole_number(filter_network, random_frame, qp):
    frame, runner = random_frame(16, 16), Runner(filter_network(), backend="torch")
    for refused in (
        lambda: runner.filter_frame(frame, qp),
        lambda: runner.corrections(frame, qp),
        lambda: list(runner.filter_frames([(frame, qp)])),
    ):
        with pytest.raises(InputError, match=r"^QP .*: must be a whole number, 0 to 63$"):
            refused()
    assert runner.filter_frame(frame, np.int64(32)).tobytes() == runner.filter_frame(frame, 32).tobytes()


def test_a_tile_too_small_is_known_at_once(filter_network):
    with pytest.raises(InputError, match="at least 16"):
        Runner(filter_network(), tile=8)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_description_names_backend_version_and_precision(filter_network, precision):
    runner = Runner(filter_network(), backend="torch", precision=precision)
    assert runner.description.startswith("torch 2.")
    assert runner.description.endswith(f"on cpu, {precision}")
    assert runner.backend == "torch"


@pytest.mark.parametrize("layout", [None, "planes=y,output=residual"])
def test_what_the_network_gives_is_rounded_to_more_bits(filter_network, random_frame, layout):
    """By the same real numbers: to 12 bit they are off by an eighth of a step of 10 bit at most."""
    network = filter_network() if layout is None else torch.nn.Conv2d(1, 1, 3, padding=1)
    if layout is not None:
        torch.nn.init.normal_(network.weight, std=0.01)
    frame = random_frame(22, 17, bit_depth=10)
    narrow, wide, widest = (
        Runner(network, layout=layout, backend="torch", output_bit_depth=depth) for depth in (None, 12, 16)
    )
    added = narrow.corrections(frame, 32)
    for runner, step in ((narrow, 1), (wide, 4), (widest, 64)):
        filtered = runner.filter_frame(frame, 32)
        assert filtered.bit_depth == 10 + step.bit_length() - 1
        for plane, values, got in zip(frame.planes, added, filtered.planes, strict=True):
            exact = np.clip((plane + values.astype(np.float64)) * step, 0, 1024 * step - 1)
            assert np.abs(got - exact).max() <= 0.5 + 0.01 * step**0.5
    with pytest.raises(InputError, match="output_bit_depth: 8; must be at least the picture's 10"):
        Runner(network, layout=layout, backend="torch", output_bit_depth=8).filter_frame(frame, 32)
    with pytest.raises(InputError, match="output_bit_depth: 17; must be 8 to 16"):
        Runner(network, layout=layout, backend="torch", output_bit_depth=17)
