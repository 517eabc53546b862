from typing import Any

import numpy as np
from numpy.typing import NDArray

_Samples = NDArray[Any]  # uint8 or uint16, all planes of a call alike
_Window = tuple[int, int, int, int]

def read_window(
    luma: _Samples,
    chroma: tuple[_Samples, _Samples] | None,
    window: _Window,
    scale: float,
    flat: float,
    portable: bool,
) -> NDArray[np.float32]: ...
def write_window(
    values: NDArray[np.float32],
    place: tuple[int, int],
    window: _Window,
    scale: float,
    peak: float,
    luma: _Samples,
    chroma: tuple[_Samples, _Samples] | None,
    portable: bool,
) -> bool: ...
def wiener(
    filtered: _Samples,
    decoded: _Samples,
    sets: NDArray[np.uint8],
    coefficients: NDArray[np.int16],
    terms: tuple[tuple[int, int, int], ...],
    clip: int,
    shift: int,
    peak: int,
    portable: bool,
) -> _Samples: ...
def block_activity(samples: _Samples) -> NDArray[np.int32]: ...
def integer_instructions() -> str: ...

class IntegerFilter:
    def __init__(
        self,
        n_channels: int,
        n_blocks: int,
        has_qp_plane: bool,
        layers: list[tuple[int, int, NDArray[np.int32], NDArray[np.uint8] | None]],
    ) -> None: ...
    def run(
        self, planes: NDArray[np.float32], numbers: list[NDArray[np.float32]], qp_level: float, portable: bool
    ) -> NDArray[np.float32]: ...
