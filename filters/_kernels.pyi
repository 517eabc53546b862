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
