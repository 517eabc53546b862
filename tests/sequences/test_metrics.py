from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vvc_nnr.errors import InputError, ShapeError
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.metrics import (
    PlaneScores,
    check_comparable,
    frame_ms_ssim,
    frame_psnr_db,
    frame_ssim,
    ms_ssim,
    psnr_db,
    score_sequence,
    ssim,
    ssim_rgb,
    yuv_psnr_db,
)
from vvc_nnr.sequences.source import open_source


def noisy(plane, seed=0, sigma=8.0, top=255):
    noise = np.random.default_rng(seed).normal(0, sigma, plane.shape)
    return np.clip(plane + noise, 0, top).astype(plane.dtype)


@pytest.mark.parametrize(
    ("bit_depth", "peak", "full_scale"),
    [
        (8, "vtm", 255), (8, "full", 255), (10, "vtm", 1020), (10, "full", 1023),
        (16, "vtm", 65280), (16, "full", 65535),
    ],
)  # fmt: skip
def test_psnr_of_an_error_of_one_is_the_peak(bit_depth, peak, full_scale):
    plane = np.full((4, 4), 7, np.uint8 if bit_depth == 8 else np.uint16)
    expected = pytest.approx(20 * math.log10(full_scale))
    assert psnr_db(plane, plane + 1, bit_depth=bit_depth, peak=peak) == expected


@given(
    planes=hnp.arrays(np.uint16, (2, 5, 7), elements=st.integers(0, 65535)),
    bit_depth=st.sampled_from([10, 12, 16]),
)
def test_psnr_agrees_with_scikit_image_at_full_peak(planes, bit_depth):
    a, b = planes >> (16 - bit_depth)
    if (a == b).all():
        assert psnr_db(a, b, bit_depth=bit_depth, peak="full") == math.inf
    else:
        theirs = peak_signal_noise_ratio(a.astype(float), b.astype(float), data_range=2**bit_depth - 1)
        assert psnr_db(a, b, bit_depth=bit_depth, peak="full") == pytest.approx(theirs, abs=1e-9)
        assert psnr_db(a, b, bit_depth=bit_depth) == psnr_db(b, a, bit_depth=bit_depth)


def test_psnr_does_not_wrap_and_is_not_capped():
    black, white = np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)
    assert psnr_db(black, white, bit_depth=8) == psnr_db(white, black, bit_depth=8) == 0
    nearly = np.zeros((2000, 2000), np.uint16)
    nearly[0, 0] = 1
    assert psnr_db(np.zeros_like(nearly), nearly, bit_depth=16) == pytest.approx(
        20 * math.log10(65280) + 10 * math.log10(4e6)
    )
    assert psnr_db(black, black, bit_depth=8) == math.inf


def test_psnr_refuses_what_does_not_fit():
    a = np.zeros((4, 4), np.uint8)
    with pytest.raises(ShapeError, match=r"\(4, 4\) and \(4, 3\)"):
        psnr_db(a, a[:, :3], bit_depth=8)
    with pytest.raises(ShapeError, match="without samples"):
        psnr_db(a[:0], a[:0], bit_depth=8)
    with pytest.raises(InputError, match="must be vtm or full"):
        psnr_db(a, a, bit_depth=8, peak="1023")


def test_scores_of_frames(random_frame):
    format = VideoFormat(24, 24, 10)
    a, b = random_frame(format, 0), random_frame(format, 1)
    mixed = Frame((a.planes[0], b.planes[1], a.planes[2]), 10, "420")
    scores = frame_psnr_db(a, mixed)
    assert scores == PlaneScores(math.inf, psnr_db(a.planes[1], b.planes[1], bit_depth=10), math.inf)
    assert frame_psnr_db(a, mixed, peak="full").cb == pytest.approx(scores.cb + 20 * math.log10(1023 / 1020))
    assert frame_ssim(a, mixed).y == pytest.approx(1)
    assert frame_ssim(a, mixed).cb == ssim(a.planes[1], b.planes[1], bit_depth=10) < 0.5
    grey = Frame(a.planes[:1], 10, "400")
    assert frame_psnr_db(grey, grey) == PlaneScores(math.inf, None, None)
    for other, said in [
        (grey, "chroma format: 4:2:0 and 4:0:0; must be alike"),
        (random_frame(VideoFormat(24, 22, 10)), "size: 24x24 and 24x22; must be alike"),
        (
            random_frame(VideoFormat(24, 24, 12)),
            "bit depth: 10 and 12 bit; must be alike, as by to_bit_depth(12) of the first",
        ),
        (
            random_frame(VideoFormat(24, 24, 8)),
            "bit depth: 10 and 8 bit; must be alike, as by to_bit_depth(10) of the second",
        ),
    ]:
        for score in (frame_psnr_db, frame_ssim):
            with pytest.raises(ShapeError) as caught:
                score(a, other)
            assert str(caught.value) == f"pictures differ in {said}"


def test_yuv_psnr_is_the_weighted_mean():
    assert yuv_psnr_db(PlaneScores(40.0, 44.0, 48.0)) == pytest.approx((6 * 40 + 44 + 48) / 8)
    assert yuv_psnr_db(PlaneScores(40.0, 44.0, 48.0), weights=(4, 1, 1)) == pytest.approx((4 * 40 + 44 + 48) / 6)
    assert yuv_psnr_db(PlaneScores(40.0, math.inf, 48.0)) == math.inf
    assert yuv_psnr_db(PlaneScores(40.0, math.inf, 48.0), weights=(1, 0, 0)) == 40
    assert yuv_psnr_db(PlaneScores(40.0, None, None)) == 40


def naive_ssim(a, b, data_range):
    """Mean SSIM from its definition, one window after the other."""
    x = np.arange(-5, 6)
    g = np.exp(-(x**2) / (2 * 1.5**2))
    w = np.outer(g, g) / g.sum() ** 2
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    whole, structure = [], []
    for i in range(a.shape[0] - 10):
        for j in range(a.shape[1] - 10):
            p, q = a[i : i + 11, j : j + 11].astype(float), b[i : i + 11, j : j + 11].astype(float)
            mp, mq = (w * p).sum(), (w * q).sum()
            vp, vq, cov = (
                (w * (p - mp) ** 2).sum(),
                (w * (q - mq) ** 2).sum(),
                (w * (p - mp) * (q - mq)).sum(),
            )
            structure.append((2 * cov + c2) / (vp + vq + c2))
            whole.append(structure[-1] * (2 * mp * mq + c1) / (mp**2 + mq**2 + c1))
    return np.mean(whole), np.mean(structure)


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_ssim_is_its_definition(bit_depth):
    a = data.camera()[200:224, 200:230].astype(np.uint16) << (bit_depth - 8)
    b = noisy(a, sigma=8 << (bit_depth - 8), top=(1 << bit_depth) - 1)
    expected, _ = naive_ssim(a, b, 2**bit_depth - 1)
    assert ssim(a, b, bit_depth=bit_depth) == pytest.approx(expected, abs=1e-9)
    assert ssim(a, a, bit_depth=bit_depth) == pytest.approx(1)


def test_ssim_rgb_is_the_mean_of_the_channels():
    a = data.astronaut()[:32, :32]
    b = noisy(a)
    theirs = structural_similarity(
        a, b, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert ssim_rgb(a, b) == pytest.approx(theirs, abs=1e-12)


def test_ssim_refuses_what_does_not_fit():
    small = np.zeros((10, 40), np.uint8)
    with pytest.raises(ShapeError, match="at least 11"):
        ssim(small, small, bit_depth=8)
    with pytest.raises(ShapeError, match="differ in shape"):
        ssim(small, small[:, 1:], bit_depth=8)
    with pytest.raises(ShapeError, match=r"\(H, W, 3\)"):
        ssim_rgb(np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.uint8))


def test_ms_ssim_is_its_definition():
    """On a picture whose scales are small enough to be done window by window from the second scale on."""
    a = data.camera()[100:276, 100:277]
    b = noisy(a, sigma=20)
    weights = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    expected, p, q = 1.0, a.astype(float), b.astype(float)
    for scale, weight in enumerate(weights):
        whole, structure = naive_ssim(p, q, 255)
        expected *= (whole if scale == 4 else structure) ** weight
        if p.shape[1] % 2:
            p, q = (np.hstack([x, x[:, -1:]]) for x in (p, q))
        p, q = (x.reshape(x.shape[0] // 2, 2, -1, 2).mean((1, 3)) if scale < 4 else x for x in (p, q))
    assert ms_ssim(a, b, bit_depth=8) == pytest.approx(expected, abs=1e-9)


def test_ms_ssim_at_its_ends():
    a = data.camera()[:180, :200]
    assert ms_ssim(a, a, bit_depth=8) == pytest.approx(1)
    assert ms_ssim(a, 255 - a, bit_depth=8) == 0
    low, high = ms_ssim(a, noisy(a, sigma=40), bit_depth=8), ms_ssim(a, noisy(a, sigma=4), bit_depth=8)
    assert 0 < low < high < 1
    with pytest.raises(ShapeError, match="at least 176"):
        ms_ssim(a[:175], a[:175], bit_depth=8)


def test_ms_ssim_of_a_picture_is_that_of_its_planes_that_are_large_enough() -> None:
    rng = np.random.default_rng(3)
    planes = [rng.integers(0, 1024, shape, dtype=np.uint16) for shape in ((352, 360), (176, 180), (176, 180))]
    worse = [np.clip(plane.astype(int) + 40, 0, 1023).astype(np.uint16) for plane in planes]
    a, b = Frame(tuple(planes), 10, "420"), Frame(tuple(worse), 10, "420")
    assert frame_ms_ssim(a, b) == tuple(ms_ssim(x, y, bit_depth=10) for x, y in zip(planes, worse, strict=True))
    small = Frame(
        tuple(plane[:200, :200] for plane in planes[:1]) + tuple(p[:100, :100] for p in planes[1:]), 10, "420"
    )
    assert frame_ms_ssim(small, small) == (pytest.approx(1), None, None)
    grey = Frame((planes[0],), 10, "400")
    assert frame_ms_ssim(grey, grey) == (pytest.approx(1), None, None)
    with pytest.raises(ShapeError, match="pictures differ in chroma format"):
        frame_ms_ssim(a, grey)


@pytest.mark.parametrize(("ranges", "is_said"), [(("LIMITED", "FULL"), True), (("FULL", "FULL"), False)])
def test_colour_ranges_that_contradict_each_other_are_told(tmp_path, caplog, ranges, is_said):
    for name, colour_range in zip(("a", "b"), ranges, strict=True):
        header = f"YUV4MPEG2 W32 H32 F25:1 C420jpeg XCOLORRANGE={colour_range}\nFRAME\n".encode()
        (tmp_path / f"{name}.y4m").write_bytes(header + bytes(1536))
    (scores,) = score_sequence(open_source(tmp_path / "a.y4m"), open_source(tmp_path / "b.y4m"))
    assert scores.psnr_db.y == math.inf
    assert ("states colour range" in caplog.text) == is_said


def test_padded_sizes_are_told_where_they_are_cut():
    with pytest.raises(InputError, match=r"if odd sides .* crop the pictures to 151x203 \(decode or filter --size "):
        check_comparable(VideoFormat(151, 203), VideoFormat(152, 204))
