from __future__ import annotations

import numpy as np
import pytest
import torch

from vvc_nnr.filters.inference.choice import chosen_backend
from vvc_nnr.filters.inference.integer import FeatureLevels, convolutions, measure_levels, to_integers
from vvc_nnr.filters.inference.native import NativeBackend, kernel_of, numbers_of
from vvc_nnr.filters.inference.runner import Runner
from vvc_nnr.filters.networks.in_loop import InLoopFilter, LadderFilter
from vvc_nnr.filters.networks.packing import sample_scale
from vvc_nnr.filters.networks.planes import PackedGrid
from vvc_nnr.filters.zoo import load_inloop_filter


def randomised(network, seed=3):
    """Random QP slopes and a tail that corrects by a few code values; a channel that is always zero in each layer."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("tail.weight", "shift.weight")):
                parameter.normal_(0, 0.1)
        for conv in convolutions(network)[:-1]:
            conv.weight[1], conv.bias[1] = 0, 0
    return network.eval()


NETWORKS = {
    "ladder": lambda: randomised(LadderFilter(16, 2)),
    "ladder of an odd width": lambda: randomised(LadderFilter(10, 1)),
    "in-loop": lambda: randomised(InLoopFilter(8, 3)),
    "trained": lambda: load_inloop_filter("inloop-postfilter"),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    return NETWORKS[request.param]()


@pytest.fixture
def planes(photographs):
    return PackedGrid(photographs(1, 118, 70)[0].to_bit_depth(10), sample_scale(10)).read((0, 0, 35, 59))


def by_torch(network, planes, qp):
    with torch.no_grad():
        return network(torch.from_numpy(planes)[None], torch.tensor([float(qp)]))[0].numpy()


def signal_to_error_db(network, planes, qp, output):
    expected = by_torch(network, planes, qp)
    correction, error = expected - planes, output - expected
    return 10 * np.log10(np.mean(correction.astype(float) ** 2) / np.mean(error.astype(float) ** 2))


@pytest.mark.parametrize("qp", [22, 32, 42])
def test_the_correction_keeps_its_shape(network, planes, qp):
    assert signal_to_error_db(network, planes, qp, NativeBackend(network).run(planes, qp)) > 12


@pytest.mark.parametrize(("height", "width"), [(35, 59), (1, 1), (2, 16), (40, 17), (3, 48), (7, 97)])
def test_wide_instructions_give_the_same_bits(network, height, width):
    planes = np.random.default_rng(5).random((6, height, width), np.float32) * 1.2 - 0.1
    fast, portable = NativeBackend(network), NativeBackend(network, portable=True)
    for qp in (0, 37, 63):
        np.testing.assert_array_equal(fast.run(planes, qp), portable.run(planes, qp))


def test_the_kernel_computes_the_integer_network(planes):
    network = NETWORKS["ladder"]()
    qp, strength = 37, 0.5
    levels = measure_levels(network, [(torch.from_numpy(planes)[None], qp)])
    integer = to_integers(network, levels)

    def convolve(layer, features):
        scale, bias = layer.at(strength)
        zero = layer.zero[:, None, None]
        padded = np.pad(features - zero, ((0, 0), (1, 1), (1, 1))) + zero
        weights = torch.from_numpy(layer.weights.astype(float))
        sums = torch.nn.functional.conv2d(torch.from_numpy(padded)[None], weights)[0].numpy()
        return sums * scale[:, None, None] + bias[:, None, None]

    def quantised(values, level):
        step, zero = level.step[:, None, None], level.zero[:, None, None]
        return np.clip(np.rint(values / step + zero), 0, 255)

    features = np.maximum(convolve(integer.layers[0], np.rint((planes.astype(float) - 0.5) * 16368)), 0)
    stream = features
    for block in range(2):
        hidden = convolve(integer.layers[1 + 2 * block], quantised(stream, integer.levels[2 * block]))
        stream = stream + convolve(integer.layers[2 + 2 * block], quantised(hidden, integer.levels[1 + 2 * block]))
    deep = np.maximum(convolve(integer.layers[5], quantised(stream, integer.levels[4])) + features, 0)
    expected = planes + convolve(integer.layers[6], quantised(deep, integer.levels[5]))

    kernel, numbers = kernel_of(integer, 2), numbers_of(integer, strength)
    # In float64 here: a few levels round the other way, each worth a few hundredths of a code value around it.
    error = np.abs(kernel.run(planes, numbers, 0.0, False) - expected)
    assert np.median(error) < 1e-3 / 1023
    assert error.max() < 0.3 / 1023


def test_levels_span_the_range_and_hold_zero():
    levels = FeatureLevels.of_range(np.array([-1.0, 0.5, 0.0, -3.0]), np.array([1.0, 2.0, 0.0, -1.0]), np.zeros(4))
    np.testing.assert_allclose(levels.step, np.array([2, 2, 2, 3]) / 255)
    np.testing.assert_array_equal(levels.zero, [128, 0, 0, 255])


def test_sums_of_the_first_layer_stay_in_32_bits():
    network = NETWORKS["in-loop"]()
    with torch.no_grad():
        network.head.weight.fill_(0.37)
    head = to_integers(network, measure_levels(network, [(torch.rand(1, 6, 8, 8), 32)])).layers[0]
    assert np.abs(head.weights).sum(axis=(1, 2, 3)).max() * 12800 < 2**31
    assert np.abs(head.weights).max() > 1000


def test_hooks_are_taken_away():
    network = NETWORKS["ladder"]()
    measure_levels(network, [(torch.rand(1, 6, 8, 8), 32)])
    assert not any(conv._forward_pre_hooks for conv in convolutions(network))


def test_the_runner_takes_it_by_the_name_of_its_precision(photographs):
    assert chosen_backend("auto", "int8") == "native"
    (frame,) = photographs(1, 75, 51)
    network = load_inloop_filter("inloop-postfilter")
    runner = Runner(network, precision="int8", n_threads=2)
    assert runner.description.startswith("native (")
    assert runner.description.endswith("), int8")
    once, again = runner.filter_frame(frame, 37), next(iter(runner.filter_frames([(frame, 37)])))
    for a, b in zip(once.planes, again.planes, strict=True):  # tiles and whole: integers, so the same
        np.testing.assert_array_equal(a, b)
