"""Moving pictures out of photographs: a camera that pans, zooms and turns over one, parts of others before it.

A filter for inter pictures must see hundreds of scenes with clean originals; few clips that one may train on are clean.
What moves here is real detail, reduced (so that traces of a photograph's own coding vanish) and sampled anew for each
picture at fractions of a sample, as a camera does. Objects cover and uncover what is behind them. The shutter of half
of the scenes is open for a part of the time between two pictures (motion blur), the light of some changes, and some
have the noise of a sensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import InputError
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.images import rgb_to_frame

Photograph = NDArray[np.uint8]
_Floats = NDArray[np.float32]

_SUPERSAMPLING = 2
"""Samples are means of this many in each direction, so that none aliases."""

_SHUTTER_STEPS = 5
"""Moments that a picture with an open shutter is the mean of."""

_PEAK = 255


@dataclass(frozen=True, slots=True)
class SceneOptions:
    """The shape of the scenes, and how often what happens.

    Attributes:
        width: Luma samples per row, a multiple of 16.
        height: Luma rows, a multiple of 16.
        n_pictures: Pictures of a scene.
        bit_depth: Bits per sample, 8 to 16.
        max_speed: Largest motion, in luma samples from one picture to the next.
        static_share: Share of scenes whose camera stands still.
        blurred_share: Share of scenes with motion blur.
        noisy_share: Share of scenes with the noise of a sensor.
        max_noise: Its largest standard deviation, of 255.
        bright_share: Share of scenes that become brighter or darker.
        max_objects: Largest number of things that move before the camera.
    """

    width: int = 256
    height: int = 160
    n_pictures: int = 33
    bit_depth: int = 10
    max_speed: float = 12.0
    static_share: float = 0.15
    blurred_share: float = 0.5
    noisy_share: float = 0.2
    max_noise: float = 2.0
    bright_share: float = 0.2
    max_objects: int = 3

    def check(self) -> None:
        """Raises InputError if there can be no such scene."""
        for name, side in (("width", self.width), ("height", self.height)):
            if side < 16 or side % 16:
                raise InputError(f"{name} {side}: must be a multiple of 16, and at least 16")
        if self.n_pictures < 1:
            raise InputError(f"pictures {self.n_pictures}: must be at least 1")


@dataclass(frozen=True, slots=True)
class _Path:
    """Where a window over a photograph is at each moment; rates are per picture.

    Attributes:
        start: Its middle (x, y) in the photograph, in luma samples of the scene.
        speed: Its motion.
        acceleration: The change of that.
        angle: Its turn in radian.
        turning: The change of that.
        scale: Samples of the photograph for one of the scene.
        zooming: The change of its logarithm.
        sway: Size of the swaying of a hand.
        phase: Where it begins in that.
    """

    start: NDArray[np.float64]
    speed: NDArray[np.float64]
    acceleration: NDArray[np.float64]
    angle: float
    turning: float
    scale: float
    zooming: float
    sway: NDArray[np.float64]
    phase: float

    def matrix(self, moment: float, width: int, height: int) -> NDArray[np.float64]:
        """The affine map (2, 3) from samples of a scene of this size, supersampled, to those of the photograph."""
        zoom = float(np.exp(self.zooming * moment)) * self.scale / _SUPERSAMPLING
        angle = self.angle + self.turning * moment
        turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        sway = self.sway * np.sin(0.9 * moment + self.phase + np.array([0.0, 1.3]))
        travelled = self.speed * moment + self.acceleration * moment**2 / 2 + sway
        middle = (self.start + travelled) * self.scale
        corner = middle - turn @ np.array([(width - 1) / 2, (height - 1) / 2])
        return np.column_stack([turn, corner])


@dataclass(frozen=True, slots=True)
class _Layer:
    """A photograph under a moving window, and which part of the scene shows it.

    Attributes:
        photograph: The picture.
        window: How its texture moves against the scene.
        outline: The object's shape, 0 to 1, in the middle of a plane of the scene's size; None: the whole scene.
        place: How the shape moves over the scene.
    """

    photograph: Photograph
    window: _Path
    outline: _Floats | None = None
    place: _Path | None = None


def moving_scene(photographs: Sequence[Photograph], options: SceneOptions, rng: np.random.Generator) -> Iterator[Frame]:
    """A scene, picture by picture.

    Args:
        photographs: RGB (H, W, 3): the first is the background, the objects are made of the others.
        options: Its shape, and what may happen.
        rng: Source of all random choices; the same one makes the same scene.

    Yields:
        4:2:0 pictures.

    Raises:
        InputError: If the options are out of range, or there is no photograph.
    """
    options.check()
    if not photographs:
        raise InputError("a moving scene is made of at least one photograph, got none")
    layers = [_Layer(photographs[0], _camera(photographs[0], options, rng))]
    others = photographs[1:] or photographs[:1]
    for _ in range(int(rng.integers(options.max_objects + 1))):
        layers.append(_object(others[int(rng.integers(len(others)))], options, rng))
    shutter = float(rng.uniform(0.2, 0.6)) if rng.random() < options.blurred_share else 0.0
    noise = float(rng.uniform(0.3, options.max_noise)) if rng.random() < options.noisy_share else 0.0
    light = float(rng.uniform(-0.004, 0.004)) if rng.random() < options.bright_share else 0.0
    for index in range(options.n_pictures):
        rgb = _exposed(layers, index, shutter, options) * np.float32(1 + light * index)
        if noise:
            rgb += rng.normal(0, noise, rgb.shape).astype(np.float32)
        yield rgb_to_frame(rgb.round().clip(0, _PEAK).astype(np.uint8), "420", options.bit_depth)


def _camera(photograph: Photograph, options: SceneOptions, rng: np.random.Generator) -> _Path:
    """A path that begins near the middle of a photograph."""
    height, width = photograph.shape[:2]
    scale = float(rng.uniform(1.4, 2.2))
    scale = min(scale, 0.9 * width / options.width, 0.9 * height / options.height)
    speed, acceleration = np.zeros((2, 2))
    turning = zooming = 0.0
    sway = np.zeros(2)
    if rng.random() >= options.static_share:
        speed = _velocity(options.max_speed, rng)
        acceleration = rng.normal(0, 0.02, 2) * np.linalg.norm(speed) / 4
        turning = float(rng.normal(0, 0.006)) * (rng.random() < 0.4)
        zooming = float(rng.normal(0, 0.008)) * (rng.random() < 0.4)
        sway = rng.uniform(0, 1, 2) * (rng.random() < 0.5)
    room = np.maximum(0, np.array([width, height]) / scale - [options.width, options.height])
    middle = np.array([width, height]) / scale / 2 + room * rng.uniform(-0.5, 0.5, 2)
    angle = float(rng.normal(0, 0.05))
    return _Path(middle, speed, acceleration, angle, turning, scale, zooming, sway, float(rng.uniform(0, 6)))


def _object(photograph: Photograph, options: SceneOptions, rng: np.random.Generator) -> _Layer:
    """Something with the texture of a photograph that crosses the scene."""
    still = SceneOptions(options.width, options.height, static_share=1.0)
    window = _camera(photograph, still, rng)
    size = np.array([options.width, options.height])
    start = size * rng.uniform(-0.4, 0.4, 2)
    speed = _velocity(options.max_speed, rng)
    turning = float(rng.normal(0, 0.01)) * (rng.random() < 0.3)
    place = _Path(start, speed, np.zeros(2), 0.0, turning, 1.0, float(rng.normal(0, 0.005)), np.zeros(2), 0.0)
    return _Layer(photograph, window, _outline(options, rng), place)


def _velocity(most: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Samples per picture in x and y: slow ones are as frequent as fast ones, and x is the larger."""
    speed = float(np.exp(rng.uniform(np.log(0.1), np.log(most))))
    direction = rng.uniform(0, 2 * np.pi)
    return speed * np.array([np.cos(direction), 0.6 * np.sin(direction)])


def _outline(options: SceneOptions, rng: np.random.Generator) -> _Floats:
    """A rounded shape of random lobes, its edge a sample or two wide, in a plane of the supersampled scene."""
    height, width = _SUPERSAMPLING * options.height, _SUPERSAMPLING * options.width
    radius = float(rng.uniform(0.08, 0.3)) * height
    lobes = rng.normal(0, 0.15, (2, 4)) / np.arange(1, 5)
    angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    waves = np.arange(1, 5)[:, None] * angles
    radii = radius * np.clip(1 + lobes[0] @ np.cos(waves) + lobes[1] @ np.sin(waves), 0.3, 2)
    stretch = float(rng.uniform(0.7, 2))
    points = np.column_stack([width / 2 + stretch * radii * np.cos(angles), height / 2 + radii * np.sin(angles)])
    plane = np.zeros((height, width), np.float32)
    cv2.fillPoly(plane, [points.round().astype(np.int32)], 1.0, lineType=cv2.LINE_8)
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), float(rng.uniform(0.7, 1.6))), np.float32)


def _exposed(layers: Sequence[_Layer], index: int, shutter: float, options: SceneOptions) -> _Floats:
    """One picture (H, W, 3): what is seen at a moment, or the mean over the time that the shutter is open."""
    moments = index + shutter * np.arange(_SHUTTER_STEPS) / _SHUTTER_STEPS if shutter else np.array([float(index)])
    seen = np.stack([_seen(layers, float(moment), options) for moment in moments]).mean(axis=0, dtype=np.float32)
    size = (options.width, options.height)
    return np.asarray(cv2.resize(seen, size, interpolation=cv2.INTER_AREA), np.float32)


def _seen(layers: Sequence[_Layer], moment: float, options: SceneOptions) -> _Floats:
    """The supersampled scene at a moment."""
    height, width = _SUPERSAMPLING * options.height, _SUPERSAMPLING * options.width
    scene = np.zeros((height, width, 3), np.float32)
    for layer in layers:
        if layer.outline is None or layer.place is None:
            scene = _warped(layer.photograph, layer.window.matrix(moment, width, height), (width, height))
            continue
        # The object carries its texture along: both are sampled by the inverse of where it is now.
        place = _placed(layer.place, moment, width, height)
        texture = np.vstack([layer.window.matrix(0, width, height), [0, 0, 1]]) @ np.vstack([place, [0, 0, 1]])
        there = _warped(layer.outline, place, (width, height), cv2.BORDER_CONSTANT)[..., None]
        if not there.any():
            continue
        scene += there * (_warped(layer.photograph, texture[:2], (width, height)) - scene)
    return scene


def _placed(path: _Path, moment: float, width: int, height: int) -> NDArray[np.float64]:
    """The map (2, 3) from the supersampled scene to the plane of an object's outline."""
    angle, zoom = path.turning * moment, float(np.exp(path.zooming * moment))
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = _SUPERSAMPLING * (path.start + path.speed * moment)
    return np.column_stack([turn, middle - turn @ (middle + shift)])


def _warped(
    picture: Photograph | _Floats,
    matrix: NDArray[np.float64],
    size: tuple[int, int],
    border: int = cv2.BORDER_REFLECT_101,
) -> _Floats:
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(picture.astype(np.float32), matrix, size, flags=flags, borderMode=border), np.float32
    )
