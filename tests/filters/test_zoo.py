from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from torch import nn

from vvc_nnr.coding.update import compress_update
from vvc_nnr.compress import compress
from vvc_nnr.errors import BitstreamError, InputError, VvcNnrError
from vvc_nnr.filters.bundled import ZOO, network_path, zoo_names
from vvc_nnr.filters.inference.runner import filter_frame
from vvc_nnr.filters.networks.autoencoder import Autoencoder, decode_pictures, encode_pictures
from vvc_nnr.filters.networks.context_autoencoder import ContextAutoencoder
from vvc_nnr.filters.networks.in_loop import RUNGS, InLoopFilter, InLoopNetwork
from vvc_nnr.filters.networks.told_qp import DEFAULT_RULE
from vvc_nnr.filters.picture_codecs import BundledCodec
from vvc_nnr.filters.zoo import (
    build_network,
    filter_of_nnc,
    load_autoencoder,
    load_filter,
    load_inloop_filter,
    load_network,
    n_parameters,
    network_metadata,
    network_tensors,
    reconstruct,
    uniform_network_bytes,
)
from vvc_nnr.model.safetensors import StoredNetwork, float_bytes, uniform_bytes, write_float, write_uniform
from vvc_nnr.network_file import read_states
from vvc_nnr.sequences.metrics import psnr_db as psnr


@pytest.fixture
def saved(filter_network, tmp_path):
    """Writes an in-loop filter's file, with its tensors and metadata changed; returns the path."""

    def save(tensors=None, metadata=None, without=()):
        network = filter_network()
        all_tensors = {k: v for k, v in {**network_tensors(network), **(tensors or {})}.items() if k not in without}
        path = tmp_path / "network.safetensors"
        write_float(path, all_tensors, {**network_metadata(network), **(metadata or {})})
        return path

    return save


def same(left, right):
    left, right = left.state_dict(), right.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


# ---------------------------------------------------------------- the networks that ship


@pytest.mark.parametrize("name", zoo_names())
def test_bundled_networks_load(name):
    loaded = load_network(name)
    assert (loaded.name, loaded.path.stem) == (name, name)
    assert loaded.n_bytes == loaded.path.stat().st_size <= 2 << 20
    assert not loaded.network.training
    assert all(torch.isfinite(p).all() for p in loaded.network.parameters())
    kinds = {"inloop": InLoopNetwork, "autoencoder": Autoencoder, "context": ContextAutoencoder}
    assert isinstance(loaded.network, kinds[name.partition("-")[0]])


def test_the_names_of_the_bundled_networks():
    ladder = ["inloop-hop", "inloop-hop-replacement", "inloop-lop", "inloop-lop-replacement"]
    others = [
        "autoencoder-1.8bpp",
        "autoencoder-4.2bpp",
        "context-autoencoder",
        "inloop-postfilter",
        "inloop-replacement",
    ]
    assert zoo_names() == sorted([*ladder, *others, "inloop-lop-ra", "inloop-vlop", "inloop-vlop-ra"])


@pytest.mark.parametrize(
    ("name", "rung", "most_bytes", "loop_filters"),
    [
        ("inloop-vlop", "vlop", 15_000, "all"),
        ("inloop-lop", "lop", 40_000, "all"),
        ("inloop-hop", "hop", 250_000, "all"),
        ("inloop-lop-replacement", "lop", 40_000, "none"),
        ("inloop-vlop-ra", "vlop", 15_000, "all"),
        ("inloop-lop-ra", "lop", 40_000, "all"),
        ("inloop-hop-replacement", "hop", 250_000, "none"),
    ],
)
def test_the_ladder_ships_as_coded_files(name, rung, most_bytes, loop_filters):
    loaded = load_network(name)
    assert loaded.path.suffix == ".nnc"
    assert loaded.n_bytes <= most_bytes
    assert loaded.network.config == RUNGS[rung]
    assert loaded.metadata["loop_filters"] == loop_filters


def test_the_context_autoencoder_codes_photographs_at_each_rate():
    loaded = load_network("context-autoencoder")
    assert loaded.n_bytes <= 1_000_000
    pictures = np.stack([skimage.data.astronaut()[y : y + 32, 60:92] for y in (0, 40, 200)])
    before = (0.0, 0)
    for rate in range(loaded.network.config["n_rates"]):
        codec = BundledCodec(loaded.network, rate)
        coded = codec.code(pictures)
        psnr_db = np.mean(
            [psnr(pictures[i].ravel()[None], coded[i].picture.ravel()[None], bit_depth=8) for i in range(3)]
        )
        n_bytes = sum(each.n_bytes for each in coded)
        assert (psnr_db, n_bytes) > before
        before = (psnr_db, n_bytes)
    assert psnr_db > 38
    assert n_bytes < 3 * 1024 * 5 // 8


def test_every_bundled_network_has_a_card():
    assert all((ZOO / f"{name}.md").is_file() for name in zoo_names())


@pytest.mark.parametrize("name", zoo_names())
def test_cards_say_how_large_the_file_beside_them_is(name):
    assert f"{network_path(name).stat().st_size:,} bytes" in (ZOO / f"{name}.md").read_text()


@pytest.mark.parametrize("name", ["inloop-lop-ra", "inloop-vlop-ra"])
def test_networks_for_inter_pictures_carry_levels_for_integers_and_are_told_the_qp_by_the_default_rule(name):
    assert load_network(name).network.feature_levels
    assert load_filter(name).layout.qp_rule == DEFAULT_RULE


@pytest.mark.parametrize("name", [n for n in zoo_names() if n.startswith("inloop")])
def test_bundled_filters_run_at_8_bit(name, photographs):
    (frame,) = photographs(1, 64, 48)
    filtered = filter_frame(reconstruct(load_inloop_filter(name)).network, frame, 37)
    assert filtered.format(30) == frame.format(30)


@pytest.mark.parametrize("name", [n for n in zoo_names() if n.startswith("autoencoder")])
def test_bundled_autoencoders_run_at_8_bit(name):
    network = reconstruct(load_autoencoder(name)).network
    pictures = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    assert decode_pictures(network, encode_pictures(network, pictures), 8, 8).shape == pictures.shape


# ---------------------------------------------------------------- files


def test_a_network_comes_back_from_its_file(filter_network, autoencoder, tmp_path):
    for network in (filter_network(), filter_network(5, 3), autoencoder()):
        path = tmp_path / "a.safetensors"
        write_float(path, network_tensors(network), network_metadata(network))
        loaded = load_network(path)
        assert type(loaded.network) is type(network)
        assert loaded.network.config == network.config
        assert (loaded.name, loaded.path, loaded.n_bytes) == ("a", path, path.stat().st_size)
        assert same(loaded.network, network)


def test_a_file_is_independent_of_the_memory_format(filter_network):
    network = filter_network()
    plain = float_bytes(network_tensors(network), network_metadata(network))
    network.to(memory_format=torch.channels_last)
    assert float_bytes(network_tensors(network), network_metadata(network)) == plain


def test_names_and_files_that_are_not_there(tmp_path):
    for missing in ("inloop-nothing", tmp_path / "none.safetensors", tmp_path, ""):
        with pytest.raises(InputError, match="no such file, and no network of the zoo"):
            load_network(missing)


def test_a_pipe_and_a_name_that_no_file_can_have(tmp_path):
    os.mkfifo(tmp_path / "pipe.nnc")
    with pytest.raises(InputError, match="is a pipe or device"):
        load_inloop_filter(tmp_path / "pipe.nnc")
    with pytest.raises(InputError, match="no such file, and no network of the zoo"):
        load_inloop_filter("x" * 300)


def test_damaged_files(saved):
    path = saved()
    data = path.read_bytes()
    for damaged in (b"", b"junk", data[:100], data[:-1], data + b"x"):
        path.write_bytes(damaged)
        with pytest.raises(BitstreamError, match=r"network\.safetensors"):
            load_network(path)


def test_a_network_of_another_kind(saved, autoencoder, tmp_path):
    with pytest.raises(InputError, match="holds an inloop-filter; must be an autoencoder"):
        load_autoencoder(saved())
    network = autoencoder()
    write_float(tmp_path / "a.safetensors", network_tensors(network), network_metadata(network))
    with pytest.raises(InputError, match="holds an autoencoder; must be an in-loop filter"):
        load_inloop_filter(tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="holds a context-autoencoder; must be an autoencoder with a factorised prior"):
        load_autoencoder("context-autoencoder")


@pytest.mark.parametrize("architecture", ["", "resnet", "Inloop-Filter", "inloop-filter "])
def test_an_unknown_architecture(saved, architecture):
    with pytest.raises(InputError, match=r"architecture .* this package has inloop-filter, ladder-filter, autoencoder"):
        load_network(saved(metadata={"architecture": architecture}))


def test_a_file_without_metadata(tmp_path):
    write_float(tmp_path / "a.safetensors", {"x": np.zeros(3, np.float32)}, {})
    with pytest.raises(InputError, match="architecture ''"):
        load_network(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "config",
    [
        "",
        "{",
        "null",
        "[]",
        "3",
        '"n_channels"',
        "{}",
        '{"n_channels": 8}',
        '{"n_channels": 8, "n_blocks": 2, "n_more": 1}',
        '{"n_channels": 8, "n_blocks": "2"}',
        '{"n_channels": 8, "n_blocks": 2.0}',
        '{"n_channels": 8, "n_blocks": null}',
        '{"n_channels": 8, "n_blocks": true}',
        '{"n_channels": true, "n_blocks": 2}',
        '{"n_channels": 8, "n_blocks": 0}',
        '{"n_channels": 8, "n_blocks": -2}',
        '{"n_channels": 8, "n_blocks": 257}',
        '{"n_channels": 8, "n_blocks": 1000000000000}',
        '{"n_channels": 8, "n_blocks": 1e400}',
        '{"n_channels": 8, "n_blocks": NaN}',
        '{"n_channels": 8, "n_blocks": ' + "9" * 5000 + "}",
        '{"n_channels": 4097, "n_blocks": 2}',
        '{"n_channels": 8, "n_blocks": [2]}',
        "[" * 100_000,
    ],
)
def test_hostile_configs(saved, config):
    with pytest.raises(InputError, match=r"network\.safetensors: .*config"):
        load_network(saved(metadata={"config": config}))


@pytest.mark.parametrize("config", [{"n_channels": 4096, "n_blocks": 256}, {"n_channels": 8, "n_blocks": 256}])
def test_a_config_larger_than_its_tensors_takes_no_memory(saved, config):
    with pytest.raises(InputError, match="not a network of this architecture"):
        load_network(saved(metadata={"config": json.dumps(config)}))


def test_a_config_that_does_not_fit_the_tensors(saved):
    with pytest.raises(InputError, match=r"tensor head\.weight is \(8, 7, 3, 3\), its architecture wants \(9, 7"):
        load_network(saved(metadata={"config": '{"n_channels": 9, "n_blocks": 2}'}))


@pytest.mark.parametrize("shape", [(), (9,), (8, 1), (2, 4), (0,)])
def test_a_tensor_of_another_shape(saved, shape):
    with pytest.raises(InputError, match=r"tensor head\.bias is "):
        load_network(saved({"head.bias": np.zeros(shape, np.float32)}))


def test_missing_and_unknown_tensors(saved):
    with pytest.raises(InputError, match=r"missing tail\.bias, unknown none"):
        load_network(saved(without=["tail.bias"]))
    with pytest.raises(InputError, match=r"missing none, unknown tail\.gain"):
        load_network(saved({"tail.gain": np.zeros(1, np.float32)}))


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, bool]
)
def test_a_tensor_of_another_type(saved, dtype):
    with pytest.raises(InputError, match=r"tensor head\.bias is .*, its architecture wants torch\.float32"):
        load_network(saved({"head.bias": np.zeros(8, dtype)}))


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int32])
def test_entropy_tables_of_another_type(autoencoder, dtype):
    network = autoencoder()
    tensors = {**network_tensors(network), "frequencies": np.ones((6, 255), dtype)}
    with pytest.raises(InputError, match="tensor frequencies is"):
        build_network(StoredNetwork(tensors, network_metadata(network), None, None, 0), "a file")


def test_entropy_tables_that_do_not_sum_up(autoencoder):
    network = autoencoder()
    tensors = {**network_tensors(network), "frequencies": np.ones((6, 255), np.uint16)}
    loaded = build_network(StoredNetwork(tensors, network_metadata(network), None, None, 0), "a file")
    with pytest.raises(InputError, match="sum to 2"):
        encode_pictures(loaded, np.zeros((1, 4, 4, 3), np.uint8))


def test_nan_weights_load_and_are_noticed_when_they_run(saved, random_frame):
    path = saved({"tail.bias": np.full(6, math.nan, np.float32)})
    with pytest.raises(VvcNnrError, match="not finite"):
        filter_frame(load_inloop_filter(path), random_frame(16, 16), 32)


def test_a_loaded_network_can_be_changed(saved):
    network = load_network(saved()).network
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert not same(network, load_network(saved()).network)


# ---------------------------------------------------------------- the papers' quantiser


@pytest.mark.parametrize("biases", ["quantised", "float"])
def test_the_8_bit_reconstruction_is_what_its_file_holds(filter_network, tmp_path, biases):
    network = filter_network()
    rebuilt = reconstruct(network, 8, biases)
    tensors, metadata = network_tensors(network), network_metadata(network)
    n_bytes = write_uniform(tmp_path / "8.safetensors", tensors, metadata, 8, biases)
    assert rebuilt.compressed_bytes == n_bytes
    assert same(rebuilt.network, load_network(tmp_path / "8.safetensors").network)
    original = float_bytes(tensors, metadata)
    assert rebuilt.original_bytes == len(original)
    assert torch.equal(rebuilt.network.head.bias, network.head.bias) == (biases == "float")


@pytest.mark.parametrize("bits", [1, 5, 8, 16])
def test_reconstructed_weights_are_within_half_a_level(filter_network, bits):
    network = filter_network()
    rebuilt = reconstruct(network, bits).network
    for name, value in network.named_parameters():
        step = (value.max() - value.min()) / ((1 << bits) - 1)
        assert (rebuilt.get_parameter(name) - value).abs().max() <= 0.51 * step
    assert len(torch.unique(rebuilt.head.weight)) <= 1 << bits


def test_a_reconstructed_filter_runs(filter_network, random_frame):
    network, frame = filter_network(16), random_frame(40, 30)
    expected, got = (filter_frame(n, frame, 32) for n in (network, reconstruct(network, 16).network))
    change, difference = (np.abs(expected.planes[0].astype(int) - other.planes[0]) for other in (frame, got))
    assert difference.max() <= 0.02 * change.max()
    assert filter_frame(reconstruct(network).network, frame, 32).format(30) == frame.format(30)


class Hyperprior(nn.Module):
    """The names of a CompressAI model: a table of scales, and the integers that were made of it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.gaussian_conditional = nn.Module()
        self.gaussian_conditional.register_buffer("scale_table", torch.logspace(-1, 2.4, 64))
        self.gaussian_conditional.register_buffer("_quantized_cdf", torch.arange(64, dtype=torch.int32))


def test_an_entropy_models_tables_are_no_weights_of_the_quantiser():
    network = Hyperprior()
    rebuilt = reconstruct(network).network
    assert torch.equal(rebuilt.gaussian_conditional.scale_table, network.gaussian_conditional.scale_table)
    assert not torch.equal(rebuilt.conv.weight, network.conv.weight)


@pytest.mark.parametrize("name", [n for n in zoo_names() if not n.startswith("context")])
def test_bundled_networks_are_quantised_as_ever(name):
    loaded = load_network(name)
    metadata = loaded.file_metadata
    plain = uniform_bytes(network_tensors(loaded.network), metadata)
    assert uniform_network_bytes(loaded.network, metadata) == plain


def test_a_reconstructed_autoencoder_keeps_its_entropy_tables(autoencoder):
    network = autoencoder()
    rebuilt = reconstruct(network, 4).network
    assert torch.equal(rebuilt.frequencies, network.frequencies)
    assert not same(rebuilt, network)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    assert decode_pictures(rebuilt, encode_pictures(rebuilt, pictures), 8, 8).shape == pictures.shape


def test_the_size_ratio_of_the_papers_filter():
    rebuilt = reconstruct(InLoopFilter())
    assert n_parameters(rebuilt.network) == 192_198
    assert rebuilt.original_bytes / rebuilt.compressed_bytes > 3.83


@pytest.mark.parametrize("bits", [0, 17])
def test_bits_out_of_range(filter_network, bits):
    with pytest.raises(InputError):
        reconstruct(filter_network(), bits)


def test_weights_that_cannot_be_quantised(filter_network):
    network = filter_network()
    with torch.no_grad():
        network.tail.bias[0] = math.inf
    with pytest.raises(InputError, match=r"tail\.bias"):
        reconstruct(network)


def test_an_update_of_a_graph_changes_small_constants_too(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")

    def saved_model(name, bias):
        weight = np.random.default_rng(0).normal(0, 0.1, (6, 6, 3, 3)).astype(np.float32)
        tensors = {"w": weight, "b": np.full(6, bias, np.float32)}
        sides = [1, 6, "h", "w"]
        places = [onnx.helper.make_tensor_value_info(each, onnx.TensorProto.FLOAT, sides) for each in "xy"]
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1] * 4)],
            "graph",
            places[:1],
            places[1:],
            [onnx.numpy_helper.from_array(tensor, each) for each, tensor in tensors.items()],
        )
        opset = [onnx.helper.make_opsetid("", 17)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / name)
        return tmp_path / name

    coded = compress(saved_model("base.onnx", 0.5), lossless=True)
    (tmp_path / "base.nnc").write_bytes(coded)
    base, new = read_states(tmp_path / "base.nnc", saved_model("new.onnx", 0.75))
    update, _ = compress_update(base.arrays, new.arrays)
    layout = "planes=yuv420-packed,qp=none"
    picture = torch.zeros(1, 6, 8, 8)
    before, after = (filter_of_nnc(coded, "here", each, layout)(picture) for each in (None, update))
    assert torch.allclose(before, torch.tensor(0.5))
    assert torch.allclose(after, torch.tensor(0.75), atol=1e-4)


def test_a_word_that_is_no_network_is_answered_by_those_that_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^inloop-lob: no such file, and no network of the zoo \(.*inloop-lop, "):
        network_path("inloop-lob")
    (tmp_path / "inloop-lob").write_bytes(b"")
    assert network_path("inloop-lob") == Path("inloop-lob")
    assert network_path("inloop-lob.pt") == Path("inloop-lob.pt")  # whoever reads it says that it is not there
