"""Decisions of one picture as bytes, by binary arithmetic coding with contexts from the blocks to the left and above.

docs/decisions.md has the syntax. Encoder and decoder walk through it together: a `BinCoder` is either of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from vvc_nnr.errors import BitstreamError
from vvc_nnr.filters.decisions.adaptive_bins import BinCoder, BinDecoder, BinEncoder, Context, code_number, expecting
from vvc_nnr.filters.decisions.block_decisions import (
    BLOCK_SIZES,
    MAX_STRENGTH,
    SCALES,
    UNIT_CHOICE,
    Decisions,
    block_grid,
)
from vvc_nnr.filters.decisions.wiener import MOST_BINS, WienerFilter, code_filters
from vvc_nnr.sequences.frame import VideoFormat

STRENGTH_BITS = (MAX_STRENGTH - 1).bit_length()
_N_BELOW = UNIT_CHOICE
_N_ABOVE = len(SCALES) - 1 - UNIT_CHOICE
_MOST_BINS_PER_BLOCK = 1 + max(_N_BELOW, _N_ABOVE)
_MOST_BITS_PER_BIN = 10
"""No context gives a bin less than about 2**-9."""
LUMA_DIFFERS_64THS = (13, 26, 39)
CHROMA_DIFFERS_64THS = (6, 17, 37)
_IS_ABOVE_64THS = (2, 8, 30, 55, 62)
"""What contexts expect at first, measured on photographs."""
Rows: TypeAlias = list[list[int]]


class MapContexts:
    """The contexts of the maps of luma, or of both chroma components.

    Attributes:
        differs: Whether a block has another scale than 1, by how many of its two neighbours have.
        is_above: Whether that scale is above 1, by the sum of the neighbours' sides, -2 to 2.
        is_farther: Whether it is farther from 1 than the nearest such scale, the second, ..., below 1 and above 1.
    """

    def __init__(self, differs_64ths: Sequence[int]) -> None:
        self.differs = [expecting(p) for p in differs_64ths]
        self.is_above = [expecting(p) for p in _IS_ABOVE_64THS]
        self.is_farther = [[Context() for _ in range(n - 1)] for n in (_N_BELOW, _N_ABOVE)]


def encode_decisions(decisions: Decisions) -> bytes:
    """The bytes of a picture's decisions; none at all for those that `switched_off` gives.

    The map of a component that is off is not coded; the decoder gives it the scale 1 throughout.
    """
    coder = BinEncoder()
    _code_block_size(coder, BLOCK_SIZES.index(decisions.block_size))
    _code_components(coder, list(decisions.strengths), [choices.tolist() for choices in decisions.choices])
    code_filters(coder, list(decisions.wieners))
    return coder.finish()


def decode_decisions(data: bytes, format: VideoFormat) -> Decisions:
    """A picture's decisions of its bytes.

    Args:
        data: What `encode_decisions` gave.
        format: The picture's; its size and chroma format count.

    Raises:
        BitstreamError: If the bytes are not those that `encode_decisions` gives for any decisions of such a picture.
    """
    n_maps = len(format.plane_shapes)
    coder = BinDecoder(data[: _most_bytes(format) + 1])
    block_size = BLOCK_SIZES[_code_block_size(coder, 0)]
    n_rows, n_columns = block_grid(format.width, format.height, block_size)
    strengths = [0] * n_maps
    maps = [[[UNIT_CHOICE] * n_columns for _ in range(n_rows)] for _ in range(n_maps)]
    _code_components(coder, strengths, maps)
    wieners: list[WienerFilter | None] = [None] * n_maps
    code_filters(coder, wieners)
    choices = tuple(np.array(rows, np.uint8) for rows in maps)
    decisions = Decisions(block_size, tuple(strengths), choices, tuple(wieners))
    if encode_decisions(decisions) != data:
        raise BitstreamError(
            f"the {len(data)} bytes are not those of any decisions for {format.width}x{format.height}: damaged or cut"
        )
    return decisions


def _most_bytes(format: VideoFormat) -> int:
    """More than the decisions of any picture of this size take."""
    n_rows, n_columns = block_grid(format.width, format.height, min(BLOCK_SIZES))
    n_blocks = n_rows * n_columns * len(format.plane_shapes)
    return 16 + (n_blocks * _MOST_BINS_PER_BLOCK + MOST_BINS) * _MOST_BITS_PER_BIN // 8


def _code_block_size(coder: BinCoder, index: int) -> int:
    """Codes which of the two block sizes the picture has."""
    return coder.code(Context(), 1 - index) ^ 1


def _code_components(coder: BinCoder, strengths: list[int], maps: list[Rows]) -> None:
    """Codes strengths and maps, which a decoder overwrites in place."""
    off, plain = Context(), Context()
    luma, chroma = MapContexts(LUMA_DIFFERS_64THS), MapContexts(CHROMA_DIFFERS_64THS)
    for c, rows in enumerate(maps):
        if coder.code(off, int(strengths[c] == 0)):
            strengths[c] = 0
            continue
        strengths[c] = 1 + code_number(coder, strengths[c] - 1, STRENGTH_BITS)
        is_plain = all(choice == UNIT_CHOICE for row in rows for choice in row)
        if not coder.code(plain, int(is_plain)):
            code_map(coder, luma if c == 0 else chroma, rows)


def code_map(coder: BinCoder, contexts: MapContexts, rows: Rows) -> None:
    """Codes a map row by row; blocks outside the picture count as blocks of scale 1."""
    above = [UNIT_CHOICE] * len(rows[0])
    for row in rows:
        left = UNIT_CHOICE
        for x, choice in enumerate(row):
            left = row[x] = _code_choice(coder, contexts, left, above[x], choice)
        above = row


def _code_choice(coder: BinCoder, contexts: MapContexts, left: int, above: int, choice: int) -> int:
    """Codes one block's choice: whether it is that of scale 1, on which side of it, and how far."""
    sides = _side(left), _side(above)
    if not coder.code(contexts.differs[abs(sides[0]) + abs(sides[1])], int(choice != UNIT_CHOICE)):
        return UNIT_CHOICE
    is_above = coder.code(contexts.is_above[2 + sum(sides)], int(choice > UNIT_CHOICE))
    distance = 1
    for context in contexts.is_farther[is_above]:
        if not coder.code(context, int(abs(choice - UNIT_CHOICE) > distance)):
            break
        distance += 1
    return UNIT_CHOICE + distance if is_above else UNIT_CHOICE - distance


def _side(choice: int) -> int:
    return (choice > UNIT_CHOICE) - (choice < UNIT_CHOICE)
