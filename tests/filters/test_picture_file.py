"""Pictures of an autoencoder as one file: what comes back, what is refused, and how."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from vvc_nnr.errors import BitstreamError, InputError, ShapeError, UnsupportedError
from vvc_nnr.filters.networks import autoencoder as autoencoder_module
from vvc_nnr.filters.networks.autoencoder import CodedRun, LatentCoder
from vvc_nnr.filters.networks.context_coding import ContextCoder
from vvc_nnr.filters.picture_codecs import BundledCodec
from vvc_nnr.filters.picture_file import (
    PictureFile,
    PictureRun,
    code_by_file,
    decode_picture_file,
    encode_picture_file,
    network_id,
)
from vvc_nnr.filters.zoo import load_network, network_metadata, network_tensors
from vvc_nnr.model.safetensors import write_float
from vvc_nnr.sequences.images import png_bytes

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "context-autoencoders.md"


@pytest.fixture
def loaded(context_network, tmp_path):
    """Loads a small autoencoder with a context prior from a file of that name."""

    def make(name="small", seed=0):
        network = context_network(seed)
        path = tmp_path / f"{name}.safetensors"
        write_float(path, network_tensors(network), network_metadata(network))
        return load_network(path)

    return make


def pictures(*sizes):
    photograph = skimage.data.astronaut()
    return [photograph[7 * i : 7 * i + height, 9 * i : 9 * i + width] for i, (height, width) in enumerate(sizes)]


def resealed(body):
    return body + zlib.crc32(body).to_bytes(4, "big")


@pytest.mark.parametrize("rate", [0, 1])
def test_pictures_of_any_size_come_back(loaded, rate):
    network = loaded()
    given = pictures((8, 12), (8, 12), (5, 3), (1, 1), (8, 12))
    data = encode_picture_file(network, given, rate=rate)
    found = decode_picture_file(data, network)
    assert [each.shape for each in found] == [each.shape for each in given]
    codec = BundledCodec(network.network, rate)
    for picture, decoded in zip(given, found, strict=True):
        (coded,) = codec.code(picture[None])
        assert np.abs(coded.picture.astype(int) - decoded).max() <= 1
    assert PictureFile.from_bytes(data).to_bytes() == data


def test_pictures_of_one_size_share_a_stream(loaded):
    network = loaded()
    given = [*257 * pictures((8, 12)), *pictures((5, 3), (8, 12))]
    file = PictureFile.from_bytes(encode_picture_file(network, given))
    assert [run.n_pictures for run in file.runs] == [256, 1, 1, 1]
    assert file.n_pictures == len(given)


def test_what_a_picture_takes_is_its_part_of_a_file_of_a_full_run(loaded, monkeypatch):
    network, given = loaded(), np.stack(pictures((8, 8), (8, 8), (8, 8)))
    codec = BundledCodec(network.network, 1)
    longer = [each.n_bytes for each in code_by_file(network.name, codec, given)]
    monkeypatch.setattr(autoencoder_module, "RUN_PICTURES", 3)
    full = [each.n_bytes for each in code_by_file(network.name, codec, given)]
    assert sum(full) == pytest.approx(len(encode_picture_file(network, list(given), rate=1)), abs=3)
    assert 0 < sum(full) - sum(longer) < 50
    assert full == [code_by_file(network.name, codec, picture[None])[0].n_bytes for picture in given]
    monkeypatch.setattr(autoencoder_module, "RUN_PICTURES", 1)
    alone = [each.n_bytes for each in code_by_file(network.name, codec, given)]
    assert alone == [len(encode_picture_file(network, [picture], rate=1)) for picture in given]


def test_the_factorised_autoencoders_are_coded_too(autoencoder, tmp_path):
    network = autoencoder()
    write_float(tmp_path / "old.safetensors", network_tensors(network), network_metadata(network))
    old, given = load_network(tmp_path / "old.safetensors"), pictures((9, 8))
    (found,) = decode_picture_file(encode_picture_file(old, given), old)
    assert found.shape == given[0].shape
    with pytest.raises(InputError, match="rate 1: must be 0"):
        encode_picture_file(old, given, rate=1)


def test_an_empty_file_holds_no_picture(loaded):
    assert decode_picture_file(encode_picture_file(loaded(), []), loaded()) == []


def test_another_network_is_refused_by_name(loaded):
    data = encode_picture_file(loaded("harbour"), pictures((4, 4)))
    with pytest.raises(InputError, match=r"coded by the network harbour .*, not by other"):
        decode_picture_file(data, loaded("other", seed=1))
    assert len(decode_picture_file(data, loaded("renamed"))) == 1


def test_networks_that_are_none_are_refused():
    with pytest.raises(InputError, match="inloop-vlop: holds no autoencoder of this package"):
        encode_picture_file(load_network("inloop-vlop"), pictures((4, 4)))


def test_bad_pictures_are_refused(loaded):
    for shape in ((4, 4), (4, 4, 4), (0, 4, 3)):
        with pytest.raises(ShapeError, match="must"):
            encode_picture_file(loaded(), [np.zeros(shape, np.uint8)])


def test_every_damage_is_noticed(loaded):
    network = loaded()
    data = encode_picture_file(network, pictures((4, 8), (4, 4)))
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            with pytest.raises((BitstreamError, UnsupportedError)):
                decode_picture_file(bytes(changed), network)
        with pytest.raises(BitstreamError):
            decode_picture_file(data[:position], network)


def test_mutated_headers_with_a_right_checksum_are_read_or_refused(loaded):
    """Ten thousand: what the checksum does not catch is a forger's work."""
    network = loaded()
    data = encode_picture_file(network, pictures((4, 8), (4, 4), (4, 4)))
    rng = np.random.default_rng(5)
    n_read = 0
    for _ in range(10_000):
        body = bytearray(data[:-4])
        for _ in range(rng.integers(1, 4)):
            match rng.integers(3):
                case 0:
                    body[rng.integers(len(body))] = rng.integers(256)
                case 1:
                    del body[rng.integers(len(body)) :][: rng.integers(1, 5)]
                case _:
                    body[rng.integers(len(body)) : 0] = rng.bytes(2)
            body = body or bytearray(1)
        try:
            PictureFile.from_bytes(resealed(bytes(body)))
            n_read += 1
        except (BitstreamError, UnsupportedError):
            pass
    assert 0 < n_read < 10_000


def test_mutated_pictures_with_a_right_checksum_decode_or_are_refused(loaded):
    network = loaded()
    file = PictureFile.from_bytes(encode_picture_file(network, pictures((4, 4), (4, 4))))
    (run,) = file.runs
    rng = np.random.default_rng(6)
    for _ in range(100):
        stream = bytearray(run.data)
        stream[rng.integers(len(stream))] = rng.integers(256)
        changed = PictureRun(run.width, run.height, int(rng.integers(3)), int(rng.integers(1, 4)), bytes(stream))
        data = PictureFile(file.network_name, file.network_id, (changed,)).to_bytes()
        try:
            found = decode_picture_file(data, network)
            assert [each.shape for each in found] == changed.n_pictures * [(4, 4, 3)]
        except BitstreamError:
            pass


def test_forged_counts_take_no_memory(loaded):
    head = b"VNAE\x02" + network_id(loaded().network) + b"\x00"
    with pytest.raises(BitstreamError, match="65535 pictures of 4x4: must be 1 to 256 in run"):
        PictureFile.from_bytes(resealed(head + bytes([1, 4, 4, 0, 0xFF, 0xFF, 0x03, 0])))
    with pytest.raises(BitstreamError, match="0 pictures of 4x4: must be 1 to 256 in run"):
        PictureFile.from_bytes(resealed(head + bytes([1, 4, 4, 0, 0, 0])))
    with pytest.raises(BitstreamError, match=r"2 pictures of 512x509: must be 1 to 1 in run"):
        PictureFile.from_bytes(resealed(head + bytes([1, 0x80, 4, 0xFD, 3, 0, 2, 0])))
    with pytest.raises(BitstreamError, match="of which"):
        PictureFile.from_bytes(resealed(head + b"\xff\xff\xff\xff\x7f" + 100 * bytes([4, 4, 0, 1, 0])))
    with pytest.raises(BitstreamError, match="65535 bytes, of which 0 are there in streams"):
        PictureFile.from_bytes(resealed(head + bytes([1, 4, 4, 0, 1, 0xFF, 0xFF, 0x03])))
    with pytest.raises(BitstreamError, match="must have 1 to"):
        PictureFile.from_bytes(resealed(head + bytes([1, 0xFF, 0xFF, 0x7F, 0xFF, 0x7F, 0, 1, 0])))
    with pytest.raises(BitstreamError, match="sides of at most"):
        PictureFile.from_bytes(resealed(head + bytes([1, 0x81, 0x80, 0x01, 1, 0, 1, 0])))
    with pytest.raises(BitstreamError, match="more than 5 bytes"):
        PictureFile.from_bytes(resealed(head + b"\xff" * 6))
    with pytest.raises(BitstreamError, match="behind the last stream"):
        PictureFile.from_bytes(resealed(head + b"\x00\x00"))
    for version in (1, 3):
        with pytest.raises(UnsupportedError, match=f"version {version} of the picture file: must be 2; encode the pic"):
            PictureFile.from_bytes(resealed(bytes([*b"VNAE", version]) + head[5:]))


@pytest.mark.parametrize("data", [b"", b"\x00" * 40, b"\xff" * 40, b"some bytes"])
def test_a_size_that_the_bytes_cannot_fill_is_noticed_early(loaded, monkeypatch, data):
    network, n_strips = loaded(), []
    strip = ContextCoder._strip

    def counted(coder, known, rate, group, half, rows):
        n_strips.append(rows)
        return strip(coder, known, rate, group, half, rows)

    monkeypatch.setattr(ContextCoder, "_strip", counted)
    forged = tuple(PictureRun(4096, 4096, 0, 1, data) for _ in range(100))
    file = PictureFile(network.name, network_id(network.network), forged)
    with pytest.raises(BitstreamError, match="does not decode"):
        decode_picture_file(file.to_bytes(), network)
    assert len(n_strips) == 1


def test_the_factorised_decoder_notices_it_too(autoencoder):
    codec = BundledCodec(autoencoder())
    with pytest.raises(BitstreamError, match="does not decode"):
        codec.decode(100 * [CodedRun(1, bytes(40))], 2048, 2048)


def test_pictures_of_the_first_symbol_alone_come_back(context_network, autoencoder):
    """Their shortest bytes are none at all, which only so many symbols may have."""
    coder = ContextCoder(context_network())
    latents = np.full((1, 7, 9, 40), -127, np.int32)
    run = coder.encode(latents, 0)
    assert run.data == bytes(len(run.data)) != b""
    np.testing.assert_array_equal(coder.decode(run, 9, 40, 0), latents)
    factorised = LatentCoder(autoencoder().frequencies.numpy())
    first = np.full((6, 30, 30), -127, np.int32)
    data = factorised.encode(first)
    assert data == bytes(len(data)) != b""
    np.testing.assert_array_equal(factorised.decode(data, 30, 30), first)


def test_the_example_of_the_document_runs(tmp_path, monkeypatch):
    (example,) = re.findall(r"^```py\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for name, picture in zip(("a.png", "b.png"), pictures((12, 8), (5, 3)), strict=True):
        (tmp_path / name).write_bytes(png_bytes(picture))
    found = {}
    exec(example, found)
    assert [each.shape for each in found["decoded"]] == [(12, 8, 3), (5, 3, 3)]
    assert (tmp_path / "pictures.vnae").read_bytes() == found["data"]
