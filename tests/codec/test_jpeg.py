"""JPEG and its three rates."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageFile

from vvc_nnr.codec.image_formats import ImageCoding, decode_jpeg, encode_at_bpp, encode_jpeg, encode_set
from vvc_nnr.errors import BitstreamError, InputError, ShapeError, UnsupportedError
from vvc_nnr.sequences.jpeg import payload_bytes

DATA = Path(os.environ.get("VVC_NNR_DATA", "../shared/data"))
CIFAR = DATA / "cifar10" / "cifar10_lossless_1000.npz"
PUBLISHED = [  # subsampling, quality, file, optimised and payload in bpp, mean PSNR in dB
    ("444", 10, 5.59, 2.93, 0.59, 23.84),
    ("444", 30, 6.29, 3.74, 1.32, 27.69),
    ("444", 50, 6.79, 4.29, 1.83, 29.46),
    ("444", 75, 7.73, 5.26, 2.75, 32.10),
    ("444", 90, 9.61, 7.07, 4.49, 36.45),
    ("420", 50, 6.46, 3.96, 1.52, 28.33),
    ("420", 75, 7.20, 4.73, 2.24, 30.51),
    ("420", 90, 8.67, 6.14, 3.60, 33.83),
]


@pytest.fixture(scope="module")
def patches():
    """Twelve 32x32 patches of a photograph that ships with scikit-image."""
    picture = skimage.data.astronaut()
    return [np.ascontiguousarray(picture[y : y + 32, x : x + 32]) for y in (0, 128, 256) for x in range(0, 512, 128)]


def psnr_db(reference, decoded):
    return 10 * np.log10(255**2 / np.mean((reference.astype(np.float64) - decoded) ** 2))


def progressive(rgb, **options):
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=75, **options)
    return file.getvalue()


@pytest.mark.skipif(not CIFAR.exists(), reason="needs the CIFAR-10 test images")
@pytest.mark.parametrize(("subsampling", "quality", "file", "optimised", "payload", "psnr"), PUBLISHED)
def test_measured_rates_and_quality(subsampling, quality, file, optimised, payload, psnr):
    with np.load(CIFAR) as archive:
        images = archive["images"][:250]
    for rate, expected_bpp in (("file", file), ("optimised", optimised), ("payload", payload)):
        coded = encode_set(ImageCoding("jpeg", rate, subsampling), images, quality)
        assert coded.mean_bpp == pytest.approx(expected_bpp, abs=0.0051)
        decoded = [decode_jpeg(stream) for stream in coded.streams]
        mean_db = np.mean([psnr_db(image, d) for image, d in zip(images, decoded, strict=True)])
        assert mean_db == pytest.approx(psnr, abs=0.0051)


def test_optimised_tables_change_the_bytes_and_not_the_picture(patches):
    for patch in patches:
        standard, optimised = encode_jpeg(patch, 60), encode_jpeg(patch, 60, optimise=True)
        assert len(optimised) < len(standard)
        np.testing.assert_array_equal(decode_jpeg(standard), decode_jpeg(optimised))


def test_header_with_standard_tables_is_the_same_for_every_image(patches):
    files = [encode_jpeg(patch, 60) for patch in patches]
    headers = {data[: len(data) - payload_bytes(data) - 2] for data in files}
    assert len(headers) == 1
    assert len(headers.pop()) == 623


def test_rates_of_one_image(patches):
    patch = patches[5]
    n_pixels = patch.shape[0] * patch.shape[1]
    assert encode_set(ImageCoding("jpeg", "file"), [patch], 40).mean_bpp == 8 * len(encode_jpeg(patch, 40)) / n_pixels
    optimised = encode_jpeg(patch, 40, optimise=True)
    assert encode_set(ImageCoding("jpeg", "optimised"), [patch], 40).mean_bpp == 8 * len(optimised) / n_pixels
    assert encode_set(ImageCoding("jpeg", "payload"), [patch], 40).mean_bpp == 8 * payload_bytes(optimised) / n_pixels


@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
def test_odd_files_keep_their_shape(subsampling):
    rgb = skimage.data.astronaut()[:17, :33]
    decoded = decode_jpeg(encode_jpeg(rgb, 95, subsampling))
    assert decoded.shape == rgb.shape
    assert psnr_db(rgb, decoded) > 30


def test_payload_of_a_hand_made_file():
    segment = b"\xff\xe0\x00\x04ab"
    scan = b"\xff\xda\x00\x03x"
    data = b"\xff\xd8" + segment + scan + b"12\xff\x00\xff\xd03" + segment + scan + b"4567" + b"\xff\xd9"
    assert payload_bytes(data) == 7 + 4


def test_payload_of_several_scans_and_of_restart_markers(patches):
    patch = patches[3]
    whole = progressive(patch, progressive=True)
    assert whole.count(b"\xff\xda") > 1
    assert 0 < payload_bytes(whole) < len(whole) - 300
    plain, restarting = progressive(patch), progressive(patch, restart_marker_blocks=1)
    n_restarts = sum(restarting.count(bytes((0xFF, 0xD0 + i))) for i in range(8))
    assert n_restarts > 0
    assert payload_bytes(restarting) >= payload_bytes(plain) + 2 * n_restarts


@pytest.mark.parametrize("rate", ["file", "optimised", "payload"])
def test_target_rate_finds_the_best_quality_of_all(patches, rate):
    rates_bpp = {q: encode_set(ImageCoding("jpeg", rate), patches, q).mean_bpp for q in range(1, 101)}
    for target in np.linspace(rates_bpp[1], rates_bpp[100] + 0.1, 7):
        found = encode_at_bpp(ImageCoding("jpeg", rate), patches, target)
        assert found.mean_bpp == max(r for r in rates_bpp.values() if r <= target)
        assert rates_bpp[found.quality] == found.mean_bpp


@pytest.mark.parametrize(("width", "height"), [(1, 1), (8, 8), (17, 33), (257, 3), (320, 160)])
@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
def test_noise_at_every_quality_in_optimised_tables(width, height, subsampling):
    rng = np.random.default_rng(width)
    before = ImageFile.MAXBLOCK
    for black_and_white in (False, True):
        noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        image = np.where(noise < 128, 0, 255).astype(np.uint8) if black_and_white else noise
        for quality in (*range(1, 100, 9), *range(85, 101)):
            optimised = encode_jpeg(image, quality, subsampling, optimise=True)
            standard = encode_jpeg(image, quality, subsampling)
            np.testing.assert_array_equal(decode_jpeg(optimised), decode_jpeg(standard))
    assert before == ImageFile.MAXBLOCK


def test_threads_that_encode_noise_restore_pillows_buffer():
    before = ImageFile.MAXBLOCK
    noise = [np.random.default_rng(i).integers(0, 256, (200, 200, 3), dtype=np.uint8) for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        files = list(pool.map(lambda image: encode_jpeg(image, 100, optimise=True), noise))
    assert files == [encode_jpeg(image, 100, optimise=True) for image in noise]
    assert before == ImageFile.MAXBLOCK


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (7680, 4320)])
def test_large_noise_at_quality_100(width, height):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert decode_jpeg(encode_jpeg(noise, 100, optimise=True)).shape == noise.shape


def test_mean_rate_counts_each_image_alike():
    picture = skimage.data.astronaut()
    small, large = picture[:16, :16], picture[:64, :64]
    coded = encode_set(ImageCoding("jpeg", "file"), [small, large], 50)
    expected = (8 * len(coded.streams[0]) / 256 + 8 * len(coded.streams[1]) / 4096) / 2
    assert coded.mean_bpp == pytest.approx(expected)


def test_unreachable_rate_names_what_quality_one_needs(patches):
    least = encode_set(ImageCoding("jpeg", "file"), patches, 1).mean_bpp
    with pytest.raises(InputError, match=rf"quality 1, 4:4:4 already needs {least:.2f} bpp"):
        encode_at_bpp(ImageCoding("jpeg", "file"), patches, 1.0)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_image(image):
    with pytest.raises(ShapeError, match="uint8"):
        encode_jpeg(image, 50)


def test_options_out_of_range(patches):
    with pytest.raises(InputError, match="quality 0: must be 1 to 100"):
        encode_jpeg(patches[0], 0)
    with pytest.raises(InputError, match="quality 101"):
        encode_jpeg(patches[0], 101)
    with pytest.raises(InputError, match="subsampling '411'"):
        encode_jpeg(patches[0], 50, "411")
    with pytest.raises(InputError, match="rate 'header'"):
        ImageCoding("jpeg", "header")
    with pytest.raises(InputError, match="no image"):
        encode_set(ImageCoding("jpeg", "file"), [], 50)
    with pytest.raises(InputError, match="65501x1 cannot be a JPEG"):
        encode_jpeg(np.zeros((1, 65501, 3), np.uint8), 50)


def test_grey_becomes_rgb_and_cmyk_is_unsupported():
    grey = decode_jpeg(progressive(np.full((8, 8), 90, np.uint8)))
    assert grey.shape == (8, 8, 3)
    assert set(grey.reshape(-1).tolist()) == {90}
    file = io.BytesIO()
    Image.new("CMYK", (8, 8)).save(file, "JPEG")
    with pytest.raises(UnsupportedError, match="CMYK"):
        decode_jpeg(file.getvalue())


def test_a_header_that_claims_billions_of_pixels(patches):
    data = bytearray(encode_jpeg(patches[0], 50))
    size = data.index(b"\xff\xc0") + 5
    data[size : size + 4] = b"\xff\x00\xff\x00"
    with pytest.raises(UnsupportedError, match="too large"):
        decode_jpeg(bytes(data))
    data[size : size + 4] = b"\x27\x10\x27\x10"
    with pytest.raises(UnsupportedError, match="too large"):
        decode_jpeg(bytes(data))


def test_png_is_no_jpeg():
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    for function in (decode_jpeg, payload_bytes):
        with pytest.raises(BitstreamError):
            function(file.getvalue())


def test_every_truncation_and_many_bit_flips_end_in_a_value_or_our_errors():
    data = encode_jpeg(skimage.data.astronaut()[:8, :8], 20, optimise=True)
    flips = [(position, 1 << bit) for position in range(len(data)) for bit in (0, 3, 7)]
    damaged = [data[:size] for size in range(len(data))]
    damaged += [data[:p] + bytes((data[p] ^ mask,)) + data[p + 1 :] for p, mask in flips]
    n_failures = {decode_jpeg: 0, payload_bytes: 0}
    for candidate in damaged:
        for function in n_failures:
            try:
                function(candidate)
            except (BitstreamError, UnsupportedError):
                n_failures[function] += 1
    assert n_failures[decode_jpeg] > len(data) // 2
    assert n_failures[payload_bytes] >= len(data)


def test_errors_of_pillow_keep_their_cause():
    with pytest.raises(BitstreamError) as caught:
        decode_jpeg(b"\xff\xd8\xff")
    assert caught.value.__cause__ is not None
