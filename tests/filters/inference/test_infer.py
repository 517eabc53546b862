from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vvc_nnr.errors import InputError, UnsupportedError, VvcNnrError
from vvc_nnr.filters.inference.runner import Runner, filter_frame
from vvc_nnr.filters.networks.in_loop import InLoopFilter
from vvc_nnr.filters.networks.planes import pack
from vvc_nnr.sequences.frame import Frame


def real_valued(network, frame, tile):
    added = Runner(network, backend="torch", tile=tile).corrections(frame, 37)
    return np.concatenate([(values + plane).ravel() for values, plane in zip(added, frame.planes, strict=True)]) / 1023


def same(left, right):
    assert left.format(30) == right.format(30)
    for a, b in zip(left.planes, right.planes, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("width", "height"), [(96, 64), (97, 51), (33, 130), (1, 1), (2, 40)])
@pytest.mark.parametrize("tile", [16, 17, 46, 96, 512])
def test_tiles_give_what_the_whole_picture_gives(filter_network, random_frame, width, height, tile):
    network, frame = filter_network(), random_frame(width, height)
    whole, tiled = real_valued(network, frame, None), real_valued(network, frame, tile)
    assert np.abs(whole - tiled).max() < 1e-5
    assert np.abs(whole - np.concatenate([plane.ravel() for plane in frame.planes]) / 1023).max() > 0.01


def test_tiles_without_their_margin_would_differ(filter_network, random_frame, monkeypatch):
    network, frame = filter_network(), random_frame(96, 96)  # three tiles a side: those at borders read on inside
    whole = real_valued(network, frame, None)
    monkeypatch.setattr(InLoopFilter, "receptive_radius", network.receptive_radius - 1)
    assert np.abs(whole - real_valued(network, frame, 32)).max() > 1e-5


@pytest.mark.parametrize("bit_depth", [8, 9, 10, 16])
@pytest.mark.parametrize("chroma_format", ["400", "420"])
@pytest.mark.parametrize(("width", "height"), [(40, 24), (39, 23)])
def test_pictures_keep_their_format(filter_network, random_frame, width, height, bit_depth, chroma_format):
    network, frame = filter_network(), random_frame(width, height, bit_depth, chroma_format)
    filtered = filter_frame(network, frame, 32)
    assert filtered.format(30) == frame.format(30)
    assert any((a != b).any() for a, b in zip(filtered.planes, frame.planes, strict=True))
    same(filter_frame(InLoopFilter(8, 1), frame, 32, tile=16), frame)


def test_the_output_is_the_networks_rounded_and_clipped(filter_network, random_frame):
    network, frame = filter_network(), random_frame(48, 32)
    planes = torch.from_numpy(pack(frame).astype(np.float32))[None] / 1023
    with torch.no_grad():
        output = network(planes, torch.tensor([27.0]))[0].double().numpy() * 1023
    assert output.min() < 0
    assert output.max() > 1023
    difference = pack(filter_frame(network, frame, 27, tile=None)) - np.clip(output, 0, 1023)
    assert np.abs(difference).max() < 0.5 + 1e-3


def test_grey_is_filtered_like_420_with_flat_chroma(filter_network, random_frame):
    network, grey = filter_network(), random_frame(38, 22, 10, "400")
    flat = np.full((11, 19), 512, np.uint16)
    colour = Frame((grey.planes[0], flat, flat), 10, "420")
    np.testing.assert_array_equal(
        filter_frame(network, grey, 32).planes[0], filter_frame(network, colour, 32).planes[0]
    )


def test_the_same_picture_at_8_and_10_bit(filter_network, photographs):
    network = filter_network()
    (frame,) = photographs(1, 64, 48)
    at_8 = filter_frame(network, frame, 32)
    at_10 = filter_frame(network, frame.to_bit_depth(10), 32)
    for a, b in zip(at_8.planes, at_10.planes, strict=True):
        assert np.abs(a.astype(float) - np.minimum(b / 4, 255)).max() <= 0.75


@pytest.mark.parametrize("tile", [32, 64])
def test_memory_is_bounded_by_the_tile(filter_network, random_frame, tile):
    network = filter_network()
    sizes = []
    network.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[2:]))
    filter_frame(network, random_frame(400, 300), 32, tile=tile)
    assert max(max(size) for size in sizes) <= tile // 2 + 2 * network.receptive_radius
    assert len(set(sizes)) == 1
    assert len(sizes) == math.ceil(400 / tile) * math.ceil(300 / tile)


@pytest.mark.parametrize("chroma_format", ["422", "444"])
def test_other_chroma_formats_are_refused(filter_network, random_frame, chroma_format):
    with pytest.raises(UnsupportedError, match="4:2:0 and 4:0:0"):
        filter_frame(filter_network(), random_frame(16, 16, 8, chroma_format), 32)


@pytest.mark.parametrize("qp", [-1, 64, 1000])
def test_a_qp_out_of_range(filter_network, random_frame, qp):
    with pytest.raises(InputError, match=f"QP {qp}: must be 0 to 63"):
        filter_frame(filter_network(), random_frame(16, 16), qp)


@pytest.mark.parametrize("qp", [0, 63])
def test_the_ends_of_the_qp_range(filter_network, random_frame, qp):
    filter_frame(filter_network(), random_frame(16, 16), qp)


@pytest.mark.parametrize("tile", [-16, 0, 15])
def test_a_tile_too_small(filter_network, random_frame, tile):
    with pytest.raises(InputError, match="at least 16"):
        filter_frame(filter_network(), random_frame(16, 16), 32, tile=tile)


@pytest.mark.parametrize("device", ["tpu", "cuda:x", ""])
def test_a_device_that_is_not_there(filter_network, random_frame, device):
    with pytest.raises(InputError, match="is not available"):
        filter_frame(filter_network(), random_frame(16, 16), 32, device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(filter_network, random_frame):
    with pytest.raises(InputError, match="'cuda' is not available"):
        filter_frame(filter_network(), random_frame(16, 16), 32, device="cuda")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38])
@pytest.mark.parametrize("layer", ["head", "tail"])
def test_weights_that_overflow_are_an_error(filter_network, random_frame, value, layer):
    network = filter_network()
    with torch.no_grad():
        getattr(network, layer).weight.fill_(value)
    with pytest.raises(VvcNnrError, match="not finite"):
        filter_frame(network, random_frame(16, 16), 32)


def test_a_network_in_training_mode_is_filtered_with_all_the_same(filter_network, random_frame):
    network, frame = filter_network(), random_frame(16, 16)
    expected = filter_frame(network, frame, 32)
    same(filter_frame(network.train(), frame, 32), expected)
