"""Other codecs' files beside an autoencoder: what is written comes back, rates rise, payloads are parts of files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from vvc_nnr.codec.image_formats import (
    RATES,
    ImageCoding,
    ImageFormat,
    encode_at_bpp,
    encode_set,
    encoder_version,
    image_codings,
)
from vvc_nnr.errors import BitstreamError, InputError, ShapeError, UnsupportedError
from vvc_nnr.sequences.metrics import psnr_db

FORMATS: tuple[ImageFormat, ...] = ("jpeg", "webp", "avif", "jpeg2000", "jpegxl")


def coding(format: ImageFormat, rate: str = "file") -> ImageCoding:
    try:
        encoder_version(format)
    except InputError as error:
        pytest.skip(str(error))
    return ImageCoding(format, rate)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def rgb() -> NDArray[np.uint8]:
    return np.ascontiguousarray(skimage.data.astronaut()[20:117, 180:241])


@pytest.mark.parametrize("format", FORMATS)
def test_a_curve_rises_in_rate_and_quality_and_each_file_comes_back(
    format: ImageFormat, rgb: NDArray[np.uint8]
) -> None:
    found = coding(format)
    points = []
    for quality in found.curve:
        data = found.encode(rgb, quality)
        assert data == found.encode(rgb, quality)
        points.append((len(data), psnr_db(rgb, found.decode(data), bit_depth=8)))
    assert points == sorted(points)
    assert points[0][1] < 33
    if format in ("jpeg", "webp"):
        assert found.curve[0] == found.qualities[0]  # all rates of the format reach as low
    assert points[-1][1] > 36
    assert len({found.setting(quality) for quality in found.curve}) == len(found.curve)
    assert encoder_version(format)[-1].isdigit()


@pytest.mark.parametrize(
    ("format", "said"),
    [("webp", "quality 60, method 6"), ("avif", "quality 60, 4:4:4, speed 0"), ("jpegxl", "distance 9.1, effort 9")],
)
def test_the_best_effort_is_another_file_of_the_same_quality(
    format: ImageFormat, said: str, rgb: NDArray[np.uint8]
) -> None:
    usual = coding(format)
    best = replace(usual, effort="best")
    assert best.setting(60) == said == f"{usual.setting(60)}, {said.rpartition(', ')[2]}"
    data = best.encode(rgb[:48, :48], 60)
    assert data != usual.encode(rgb[:48, :48], 60)
    assert data == best.encode(rgb[:48, :48], 60)
    assert best.decode(data).shape == (48, 48, 3)
    assert replace(coding("jpeg"), effort="best").setting(60) == "quality 60, 4:4:4"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("size", [(11, 11), (12, 35), (1, 40), (3, 2)])
def test_small_and_odd_sizes(format: ImageFormat, size: tuple[int, int], rgb: NDArray[np.uint8]) -> None:
    found, small = coding(format), rgb[: size[0], : size[1]]
    for quality in (found.qualities[0], found.qualities[-1]):
        assert found.decode(found.encode(small, quality)).shape == small.shape
    assert psnr_db(small, found.decode(found.encode(small, found.qualities[-1])), bit_depth=8) > 25


@pytest.mark.parametrize("format", ["webp", "avif"])
def test_a_payload_is_the_file_without_its_container(format: ImageFormat, rgb: NDArray[np.uint8]) -> None:
    found = coding(format, "payload")
    small, large = (found.encode(rgb, quality) for quality in (20, 90))
    overheads = [len(data) - found.counted_bytes(data) for data in (small, large)]
    assert 0 < overheads[0] <= overheads[1] + 8 < 400
    assert abs(overheads[0] - overheads[1]) <= 8
    for damaged in (small[:-5], b"x" + small[1:]):
        with pytest.raises(BitstreamError):
            found.counted_bytes(damaged)


@pytest.mark.parametrize("format", FORMATS)
def test_damage_ends_in_our_errors(format: ImageFormat, rgb: NDArray[np.uint8]) -> None:
    found = coding(format)
    data = found.encode(rgb[:32, :32], found.curve[2])
    rng = np.random.default_rng(0)
    n_refused = 0
    for _ in range(60):
        damaged = bytearray(data[: rng.integers(0, len(data))])
        if len(damaged) > 8:
            damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        try:
            found.decode(bytes(damaged))
        except (BitstreamError, UnsupportedError):
            n_refused += 1
    assert n_refused > 20
    with pytest.raises(BitstreamError):
        found.decode(b"no picture at all")


def test_the_rate_of_a_set_is_met_from_below(rgb: NDArray[np.uint8]) -> None:
    images = [rgb[:32, :32], rgb[32:80, :40]]
    found = coding("webp", "payload")
    rates_bpp = {q: encode_set(found, images, q).mean_bpp for q in found.qualities}
    target = (rates_bpp[1] + rates_bpp[100]) / 2
    coded = encode_at_bpp(found, images, target)
    assert coded.mean_bpp == rates_bpp[coded.quality] <= target < rates_bpp[coded.quality + 1]
    assert [found.decode(data).shape for data in coded.streams] == [image.shape for image in images]
    with pytest.raises(InputError, match=r"WebP, payload at 0.01 bpp: quality 1 already needs"):
        encode_at_bpp(found, images, 0.01)
    with pytest.raises(InputError, match="no image to encode"):
        encode_set(found, [], 50)


def test_formats_are_named_once_and_counted_in_each_way() -> None:
    assert [each.name for each in image_codings(("jpeg", "webp"))] == [
        "jpeg-file", "jpeg-optimised", "jpeg-payload", "webp-file", "webp-payload",
    ]  # fmt: skip
    assert set(RATES) == set(FORMATS)
    with pytest.raises(InputError, match="image format 'gif': must be one of jpeg, webp"):
        image_codings(("gif",))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="jpeg must be there once"):
        image_codings(("jpeg", "jpeg"))
    with pytest.raises(InputError, match="JPEG 2000 rate 'payload': must be one of file"):
        ImageCoding("jpeg2000", "payload")


def test_what_cannot_be_coded_is_refused(rgb: NDArray[np.uint8]) -> None:
    found = coding("webp")
    with pytest.raises(InputError, match="WebP quality 0: must be quality 1 to quality 100"):
        found.encode(rgb, 0)
    with pytest.raises(ShapeError, match=r"an image must be uint8 \(H, W, 3\), got uint8 \(97, 61\)"):
        found.encode(rgb[..., 0], 50)
    with pytest.raises(InputError, match="an image of 16384x1 cannot be WebP"):
        found.encode(np.zeros((1, 16384, 3), np.uint8), 50)


def test_a_missing_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "imagecodecs", None)
    with pytest.raises(InputError, match=r"JPEG XL needs imagecodecs: pip install 'vvc-nnr\[image-codecs\]'"):
        image_codings(("jpegxl",))
    monkeypatch.setattr("PIL.features.check", lambda _: False)
    with pytest.raises(InputError, match="this Pillow has no AVIF"):
        image_codings(("avif",))
