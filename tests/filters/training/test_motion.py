"""Moving scenes out of photographs: the same seed makes the same scene, and motion is what it says."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from vvc_nnr.errors import InputError
from vvc_nnr.filters.training.motion import SceneOptions, moving_scene

STILL = SceneOptions(
    width=64, height=48, n_pictures=3, static_share=1, blurred_share=0, noisy_share=0, bright_share=0, max_objects=0
)


@pytest.fixture(scope="module")
def photographs():
    rng = np.random.default_rng(5)
    return [rng.integers(0, 256, (180, 240, 3), dtype=np.uint8) for _ in range(3)]


def lumas(photographs, options, seed=0):
    frames = list(moving_scene(photographs, options, np.random.default_rng(seed)))
    return np.stack([frame.planes[0].astype(float) for frame in frames])


def test_a_scene_has_the_shape_that_was_asked_for(photographs):
    frames = list(moving_scene(photographs, SceneOptions(96, 64, 5, bit_depth=10), np.random.default_rng(1)))
    assert [(f.width, f.height, f.bit_depth, f.chroma_format) for f in frames] == [(96, 64, 10, "420")] * 5


@pytest.mark.parametrize("seed", range(4))
def test_the_same_seed_makes_the_same_scene(photographs, seed):
    options = SceneOptions(64, 48, 3, noisy_share=1)
    first, second = (lumas(photographs, options, seed) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, lumas(photographs, options, seed + 100))


def test_a_camera_that_stands_still_sees_one_picture(photographs):
    pictures = lumas(photographs, STILL)
    assert (pictures == pictures[0]).all()


def test_noise_is_of_each_picture(photographs):
    pictures = lumas(photographs, replace(STILL, noisy_share=1, max_noise=4.0), seed=2)
    assert 0.2 < np.std(pictures[1] - pictures[0]) < 4 * 4 * np.sqrt(2)


def test_speed_is_in_samples_of_the_scene(photographs):
    """The luma of a scene that only pans is the one before, moved by no more than the largest speed."""
    smooth = [cv2.GaussianBlur(photograph, (0, 0), 5) for photograph in photographs]
    options = SceneOptions(
        96, 64, 2, max_speed=4, static_share=0, blurred_share=0, noisy_share=0, bright_share=0, max_objects=0
    )
    for seed in range(6):
        first, second = lumas(smooth, options, seed)
        (dx, dy), _ = cv2.phaseCorrelate(first, second, cv2.createHanningWindow((96, 64), cv2.CV_64F))
        assert np.hypot(dx, dy) < 4 + 2, seed  # a hand's sway and a turn come on top


def test_objects_cover_the_background(photographs):
    black, white = np.zeros((180, 240, 3), np.uint8), np.full((180, 240, 3), 255, np.uint8)
    assert lumas([black, white], STILL).max() == 64  # black at 10 bit
    assert max(lumas([black, white], replace(STILL, max_objects=3), seed).max() for seed in range(4)) == 940


@pytest.mark.parametrize(
    ("options", "word"),
    [(SceneOptions(60, 48), "width 60"), (SceneOptions(64, 0), "height 0"), (SceneOptions(n_pictures=0), "pictures 0")],
)
def test_no_scene_of_a_shape_that_cannot_be(photographs, options, word):
    with pytest.raises(InputError, match=word):
        next(moving_scene(photographs, options, np.random.default_rng(0)))


def test_no_scene_without_a_photograph():
    with pytest.raises(InputError, match="at least one photograph"):
        next(moving_scene([], SceneOptions(), np.random.default_rng(0)))
