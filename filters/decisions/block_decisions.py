"""What an encoder decides about a filtered picture, block by block, and how a decoder carries it out.

```
 component c, block b:   output = clip(round(decoded + strength[c] / 16 * SCALES[choice[c][b]] * correction))
```
Then comes a component's Wiener filter, if it has one, see wiener.py. The decoder knows all of it from coded bytes
alone, see coding.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import InputError, ShapeError
from vvc_nnr.filters.decisions.wiener import N_CLASSES, WienerFilter, n_classes_of, wiener_filtered
from vvc_nnr.filters.inference.runner import Runner
from vvc_nnr.sequences.frame import CHROMA_SHIFTS, ChromaFormat, Frame, Plane

Correction: TypeAlias = tuple[NDArray[np.float32], ...]
"""One plane (height, width) per component of a picture, in its sample values: filtered minus decoded."""


def correction_by(runner: Runner, frame: Frame, qp: int) -> Correction:
    """The network's correction of a picture, real-valued, in the size and chroma format of the picture.

    Args:
        runner: The filter.
        frame: A decoded picture of 8 to 16 bit, any size.
        qp: The QP that it was coded with, 0 to 63.

    Raises:
        UnsupportedError: For a chroma format that the network's layout does not go with.
        InputError: If the QP is out of range, or the layout does not fit.
        VvcNnrError: If the network gives NaN or infinity.
    """
    return runner.corrections(frame, qp)


BLOCK_SIZES = (64, 128)
"""Sides of a block in luma samples, from which a picture takes one."""
SCALES = (0.0, 0.5, 0.75, 1.0, 1.25, 1.5)
"""What a block may multiply its component's strength by; index 0 switches the filter off."""
UNIT_CHOICE = SCALES.index(1.0)
STRENGTH_UNIT = 1 / 16
MAX_STRENGTH = 32


@dataclass(frozen=True, slots=True, eq=False)
class Decisions:
    """One picture's decisions.

    Attributes:
        block_size: Side of a block in luma samples, one of `BLOCK_SIZES`.
        strengths: Per component, the strength of the correction in units of 1/16, 0 to 32; 0 switches it off.
        choices: Per component, indices into `SCALES`, uint8 (rows, columns) of blocks. All components of a picture have
            the same number of blocks, since blocks of subsampled chroma are smaller.
        wieners: Per component, the Wiener filter behind it, or None; an empty tuple is all None.
        qp_candidate: Which of the QPs that the encoder could choose from the network was told, by its place among them.

    Raises:
        InputError: If a value is out of its range.
        ShapeError: If the components do not fit together.
    """

    block_size: int
    strengths: tuple[int, ...]
    choices: tuple[NDArray[np.uint8], ...]
    wieners: tuple[WienerFilter | None, ...] = ()
    qp_candidate: int = 0

    def __post_init__(self) -> None:
        if not self.wieners:
            object.__setattr__(self, "wieners", (None,) * len(self.strengths))
        if self.block_size not in BLOCK_SIZES:
            raise InputError(f"blocks of {self.block_size}: must be one of {BLOCK_SIZES}")
        if len(self.strengths) != len(self.choices) or len(self.choices) not in (1, 3):
            raise ShapeError(f"{len(self.strengths)} strengths and {len(self.choices)} maps: want 1 or 3 of both")
        if any(not 0 <= strength <= MAX_STRENGTH for strength in self.strengths):
            raise InputError(f"strengths {self.strengths}: must be 0 to {MAX_STRENGTH}")
        shapes = {choices.shape for choices in self.choices}
        if len(shapes) != 1 or self.choices[0].ndim != 2 or any(c.dtype != np.uint8 for c in self.choices):
            raise ShapeError(
                f"maps {[f'{c.dtype} {c.shape}' for c in self.choices]}: want uint8 (rows, columns), all equal"
            )
        if any(choices.max(initial=0) >= len(SCALES) for choices in self.choices):
            raise InputError(f"choices must be below {len(SCALES)}")
        got = [len(w.set_of_class) if w else None for w in self.wieners]
        if len(got) != len(self.choices) or any(n not in (None, n_classes_of(c)) for c, n in enumerate(got)):
            raise ShapeError(f"Wiener filters of {got} classes: want {N_CLASSES} for luma and 1 for Cb and Cr")

    @property
    def is_off(self) -> bool:
        """Whether no sample of the picture is filtered."""
        is_corrected = any(s and c.any() for s, c in zip(self.strengths, self.choices, strict=True))
        return not is_corrected and not any(wiener and wiener.coefficients.any() for wiener in self.wieners)

    def scales(self, component: int) -> NDArray[np.float32]:
        """What each block of a component multiplies the correction by, (rows, columns)."""
        factors = np.array(SCALES, np.float32) * np.float32(self.strengths[component] * STRENGTH_UNIT)
        return factors[self.choices[component]]


def switched_off(frame: Frame) -> Decisions:
    """The decisions that leave a picture as it is."""
    grid = block_grid(frame.width, frame.height, BLOCK_SIZES[0])
    maps = tuple(np.full(grid, UNIT_CHOICE, np.uint8) for _ in frame.planes)
    return Decisions(BLOCK_SIZES[0], (0,) * len(maps), maps)


def block_grid(width: int, height: int, block_size: int) -> tuple[int, int]:
    """Rows and columns of blocks of a picture, given its luma size; blocks at the right and bottom may be cut off."""
    return -(-height // block_size), -(-width // block_size)


def block_sides(chroma_format: ChromaFormat, block_size: int) -> tuple[tuple[int, int], ...]:
    """Height and width of a block in the samples of each component."""
    luma = (block_size, block_size)
    if chroma_format == "400":
        return (luma,)
    dx, dy = CHROMA_SHIFTS[chroma_format]
    chroma = (block_size >> dy, block_size >> dx)
    return (luma, chroma, chroma)


def apply_decisions(decoded: Frame, correction: Correction, decisions: Decisions) -> Frame:
    """The picture with each block of each component filtered as decided, and each component by its Wiener filter.

    Args:
        decoded: The decoded picture.
        correction: What the network adds to it at full strength.
        decisions: The encoder's decisions for a picture of this size and chroma format.

    Raises:
        ShapeError: If they do not fit the picture.
    """
    check_correction(decoded, correction)
    sides = block_sides(decoded.chroma_format, decisions.block_size)
    grid = block_grid(decoded.width, decoded.height, decisions.block_size)
    if len(decisions.choices) != len(sides) or decisions.choices[0].shape != grid:
        got = f"{len(decisions.choices)} maps {decisions.choices[0].shape}"
        picture = f"{decoded.width}x{decoded.height} {decoded.chroma_format}"
        raise ShapeError(f"decisions with {got}, want {len(sides)} maps {grid} for {picture}")
    planes = []
    for c, (plane, values, side) in enumerate(zip(decoded.planes, correction, sides, strict=True)):
        filtered = _filtered(plane, values, decisions.scales(c), side, (1 << decoded.bit_depth) - 1)
        wiener = decisions.wieners[c]
        planes.append(filtered if wiener is None else wiener_filtered(filtered, plane, decoded.bit_depth, wiener))
    return Frame(tuple(planes), decoded.bit_depth, decoded.chroma_format)


def check_correction(decoded: Frame, correction: Correction) -> None:
    """Raise ShapeError unless the correction has one float32 plane for each of the picture's, of its size."""
    got = [(str(values.dtype), values.shape) for values in correction]
    if got != [("float32", plane.shape) for plane in decoded.planes]:
        raise ShapeError(f"a correction of {got}, want float32 planes {[plane.shape for plane in decoded.planes]}")


def _filtered(
    plane: Plane, correction: NDArray[np.float32], scales: NDArray[np.float32], side: tuple[int, int], peak: int
) -> Plane:
    """One plane, a row of blocks at a time, which stays in the processor's cache."""
    if not scales.any():
        return plane
    height, width = side
    output = np.empty_like(plane)
    for row, row_scales in enumerate(scales):
        rows = slice(row * height, (row + 1) * height)
        samples = correction[rows] * np.repeat(row_scales, width)[: plane.shape[1]]
        samples += plane[rows]
        output[rows] = np.clip(np.rint(samples, out=samples), 0, peak, out=samples)
    return output
