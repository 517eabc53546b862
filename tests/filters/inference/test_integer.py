from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from vvc_nnr import InputError, compress
from vvc_nnr.filters.bundled import network_path
from vvc_nnr.filters.inference import native
from vvc_nnr.filters.inference.choice import chosen_backend
from vvc_nnr.filters.inference.native import (
    FeatureLevels,
    NativeBackend,
    convolutions,
    filter_by_numpy,
    kernel_of,
    levels_text,
    measure_levels,
    numbers_of,
    parse_levels,
    to_integers,
    with_feature_levels,
)
from vvc_nnr.filters.inference.runner import Runner
from vvc_nnr.filters.networks.in_loop import InLoopFilter, LadderFilter
from vvc_nnr.filters.networks.planes import PackedGrid, sample_scale
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


@pytest.mark.parametrize(("height", "width"), [(13, 21), (1, 1), (40, 17)])
def test_numpy_gives_the_same_bits(network, height, width):
    """Readable, and for processors without the kernel."""
    planes = np.random.default_rng(6).random((6, height, width), np.float32) * 1.2 - 0.1
    levels = [each.rounded() for each in measure_levels(network, [(torch.from_numpy(planes)[None], 37)])]
    integer = to_integers(network, levels)
    kernel = kernel_of(integer, network.n_blocks)
    for qp in (0, 37, 63):
        by_kernel = kernel.run(planes, numbers_of(integer, (qp - 32) / 10), (qp - 32) * 400.0, True)
        np.testing.assert_array_equal(filter_by_numpy(integer, planes, qp), by_kernel)


def test_levels_of_a_file_come_back(network, planes):
    levels = [each.rounded() for each in measure_levels(network, [(torch.from_numpy(planes)[None], 37)])]
    for got, expected in zip(parse_levels(levels_text(levels), network), levels, strict=True):
        for name in ("step", "zero", "mean"):
            np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))


def test_rounded_levels_still_span_the_range():
    random = np.random.default_rng(7)
    lowest, highest = -random.random(1000) * 10, random.random(1000) * 10
    exact = FeatureLevels.of_range(lowest, highest, (lowest + highest) / 2)
    rounded = exact.rounded()
    assert (rounded.step >= exact.step).all()
    assert (rounded.step <= exact.step * 1.01).all()
    assert ((0 - rounded.zero) * rounded.step <= lowest + 1.1 * rounded.step).all()
    assert ((255 - rounded.zero) * rounded.step >= highest - 1.1 * rounded.step).all()


@pytest.mark.parametrize("text", ["", "00000", "\\", "ä", "~" * 500])
def test_texts_that_are_no_levels(network, text):
    with pytest.raises(InputError, match="feature levels"):
        parse_levels(text, network)


def test_a_file_with_levels_is_the_same_network_and_needs_no_measuring(monkeypatch, tmp_path):
    path = network_path("inloop-vlop")
    data = with_feature_levels(path.read_bytes())
    (tmp_path / "own.nnc").write_bytes(data)
    assert 600 < len(data) - path.stat().st_size < 750
    monkeypatch.setattr(native, "measured_levels", None)
    loaded, plain = (load_inloop_filter(each) for each in (tmp_path / "own.nnc", path))
    for name, value in plain.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])
    assert "levels of the file" in NativeBackend(loaded).description


def test_the_same_bits_on_every_machine():
    """Run this under other instruction sets (see CONTRIBUTING.md): the bytes are part of the format."""
    network = load_inloop_filter("inloop-vlop")
    widths = [conv.in_channels for conv in convolutions(network)[1:]]
    levels = [FeatureLevels(np.full(n, 2.0**-5), np.full(n, 100.0), np.zeros(n)) for n in widths]
    network.feature_levels = levels_text(levels)
    planes = np.random.default_rng(8).random((6, 20, 30)).astype(np.float32)
    for portable in (False, True):
        output = NativeBackend(network, portable=portable).run(planes, 37)
        assert hashlib.md5(output.tobytes()).hexdigest() == "dd683b28987582315af1e2ee7d0dbd79"


def test_only_own_files_take_levels():
    with pytest.raises(InputError, match="architecture"):
        with_feature_levels(compress({"a": np.ones((2, 2), np.float32)}))
