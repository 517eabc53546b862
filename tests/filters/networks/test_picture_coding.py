from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
import torch

from vvc_nnr.errors import BitstreamError, InputError, ShapeError, VvcNnrError
from vvc_nnr.filters.bundled import zoo_names
from vvc_nnr.filters.networks.autoencoder import (
    COST_STEPS,
    RUN_PICTURES,
    CodedRun,
    decode_pictures,
    encode_pictures,
)
from vvc_nnr.filters.zoo import load_autoencoder, network_metadata, network_tensors
from vvc_nnr.model.safetensors import write_float

DECODER = """
import sys
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
from vvc_nnr.filters.networks.autoencoder import CodedRun, decode_pictures
from vvc_nnr.filters.zoo import load_autoencoder
network, folder, n, width, height = *map(Path, sys.argv[1:3]), *map(int, sys.argv[3:])
run = CodedRun(n, (folder / "run.bin").read_bytes())
np.save(folder / "decoded.npy", decode_pictures(load_autoencoder(network), [run], width, height))
"""


def patches(n, height=32, width=32):
    picture = skimage.data.astronaut()
    corners = [(17 * i % 400, 29 * i % 400) for i in range(n)]
    return np.stack([picture[y : y + height, x : x + width] for y, x in corners])


def reconstruction(network, pictures):
    """What the decoder must give, straight from the network, without any bytes."""
    tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        latent = torch.round(network.analyse(tensor)).clamp(-127, 127)
        output = torch.round(network.synthesise(latent).clamp(0, 1) * 255)
    return output.permute(0, 2, 3, 1).to(torch.uint8).numpy()


def close(left, right):
    """Equal but for rounding: convolutions of other batch sizes may differ in the last float bit."""
    assert left.dtype == right.dtype == np.uint8
    assert left.shape == right.shape
    assert np.abs(left.astype(int) - right).max() <= 1
    assert np.mean(left != right) < 0.01


@pytest.mark.parametrize(("height", "width"), [(32, 32), (4, 4), (8, 20)])
def test_the_decoder_gives_the_reconstruction(autoencoder, height, width):
    network, pictures = autoencoder(), patches(5, height, width)
    streams = encode_pictures(network, pictures)
    close(decode_pictures(network, streams, width, height), reconstruction(network, pictures))


def test_the_decoder_starts_from_files_in_a_process_of_its_own(autoencoder, tmp_path):
    network, pictures = autoencoder(), patches(3)
    write_float(tmp_path / "network.safetensors", network_tensors(network), network_metadata(network))
    (run,) = encode_pictures(network, pictures)
    (tmp_path / "run.bin").write_bytes(run.data)
    command = [sys.executable, "-c", DECODER, tmp_path / "network.safetensors", tmp_path, "3", "32", "32"]
    subprocess.run([str(c) for c in command], check=True, timeout=120, cwd=tmp_path)
    close(np.load(tmp_path / "decoded.npy"), reconstruction(network, pictures))


def test_streams_hold_all_that_the_decoder_gets(autoencoder):
    """The decoder's network loses its encoder and its prior: nothing but the bytes can carry the picture."""
    network, pictures = autoencoder(), patches(4)
    streams = encode_pictures(network, pictures)
    other = autoencoder()
    with torch.no_grad():
        for parameter in [*other.encoder.parameters(), *other.prior.parameters()]:
            parameter.fill_(math.nan)
    close(decode_pictures(other, streams, 32, 32), reconstruction(network, pictures))


def test_pictures_share_a_stream_and_what_each_takes_does_not_depend_on_another(autoencoder):
    network, pictures = autoencoder(), patches(4)
    (together,) = encode_pictures(network, pictures)
    alone = [encode_pictures(network, pictures[i : i + 1])[0] for i in range(4)]
    assert [run.costs[0] for run in alone] == list(together.costs)
    assert len(together.data) == pytest.approx(sum(together.costs) / (8 * COST_STEPS), abs=1)
    assert sum(len(run.data) for run in alone) >= len(together.data)
    close(decode_pictures(network, alone, 32, 32), decode_pictures(network, [together], 32, 32))


def test_streams_are_as_long_as_the_tables_say(autoencoder):
    network, pictures = autoencoder(), patches(6)
    tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        latents = torch.round(network.analyse(tensor)).clamp(-127, 127).long().flatten(2).numpy() + 127
    shares = network.frequencies.numpy().astype(float) / 65536
    (run,) = encode_pictures(network, pictures)
    all_bits = 0
    for latent, cost in zip(latents, run.costs, strict=True):
        bits = -np.log2(np.take_along_axis(shares, latent, axis=1)).sum()
        assert cost / COST_STEPS == pytest.approx(bits, abs=0.01)
        all_bits += bits
    assert all_bits - 8 < 8 * len(run.data) < all_bits + 10


def test_more_pictures_than_a_run(autoencoder):
    network, pictures = autoencoder(), patches(RUN_PICTURES + 3, 4, 4)
    runs = encode_pictures(network, pictures)
    assert [run.n_pictures for run in runs] == [RUN_PICTURES, 3]
    close(decode_pictures(network, runs, 4, 4), reconstruction(network, pictures))


def test_no_pictures(autoencoder):
    assert encode_pictures(autoencoder(), np.zeros((0, 32, 32, 3), np.uint8)) == []
    assert decode_pictures(autoencoder(), [], 32, 32).shape == (0, 32, 32, 3)


@pytest.mark.parametrize(
    "pictures",
    [
        np.zeros((1, 32, 32, 3), np.float32),
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((1, 32, 32, 4), np.uint8),
        np.zeros((1, 3, 32, 32), np.uint8),
        np.zeros((1, 30, 32, 3), np.uint8),
        np.zeros((1, 32, 33, 3), np.uint8),
        np.zeros((1, 0, 32, 3), np.uint8),
    ],
)
def test_pictures_of_another_form(autoencoder, pictures):
    with pytest.raises(ShapeError):
        encode_pictures(autoencoder(), pictures)


@pytest.mark.parametrize("size", [(0, 32), (32, 0), (30, 32), (32, 30), (-4, 32), (2, 2)])
def test_sizes_that_cannot_be_decoded(autoencoder, size):
    with pytest.raises(ShapeError, match="positive multiples of 4"):
        decode_pictures(autoencoder(), [CodedRun(1, b"")], *size)


def test_a_network_without_tables(autoencoder):
    network = autoencoder()
    network.frequencies.zero_()
    with pytest.raises(InputError, match="was the network trained to its end"):
        encode_pictures(network, patches(1))
    with pytest.raises(InputError, match="was the network trained to its end"):
        decode_pictures(network, [CodedRun(1, b"")], 32, 32)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_overflow_are_an_error(autoencoder, value):
    network = autoencoder()
    runs = encode_pictures(network, patches(1))
    with torch.no_grad():
        network.encoder[1].weight.fill_(value)
        network.decoder[0].weight.fill_(value)
    with pytest.raises(VvcNnrError, match="not finite"):
        encode_pictures(network, patches(1))
    with pytest.raises(VvcNnrError, match="not finite"):
        decode_pictures(network, runs, 32, 32)


def test_damaged_streams_raise_bitstream_errors_only(autoencoder):
    network = autoencoder()
    stream = encode_pictures(network, patches(2, 8, 8))[0].data
    rng = np.random.default_rng(0)
    damaged = [stream[:n] for n in range(len(stream))] + [rng.bytes(int(n)) for n in rng.integers(0, 40, 60)]
    for bit in range(8 * len(stream)):
        flipped = bytearray(stream)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    n_refused = 0
    for each in damaged:
        try:
            assert decode_pictures(network, [CodedRun(2, each)], 8, 8).shape == (2, 8, 8, 3)
        except BitstreamError:
            n_refused += 1
    assert 0 < n_refused < len(damaged)


@pytest.mark.parametrize("name", [name for name in zoo_names() if name.startswith("autoencoder")])
def test_bundled_networks_code_photographs(name):
    network, pictures = load_autoencoder(name), patches(8)
    close(decode_pictures(network, encode_pictures(network, pictures), 32, 32), reconstruction(network, pictures))
