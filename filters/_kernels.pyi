from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Sample = TypeVar("_Sample", np.uint8, np.uint16)
_Window = tuple[int, int, int, int]

def read_window(
    luma: NDArray[_Sample],
    chroma: tuple[NDArray[_Sample], NDArray[_Sample]] | None,
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
    luma: NDArray[_Sample],
    chroma: tuple[NDArray[_Sample], NDArray[_Sample]] | None,
    portable: bool,
) -> bool: ...
def has_vnni() -> bool: ...

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
