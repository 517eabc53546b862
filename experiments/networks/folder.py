"""The user's folder of published weights and data sets, each data set in a folder of its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.experiments.networks.row import NotHereError
from vvc_nnr.sequences.images import image_files, read_image


def find_weights(folder: Path | None, pattern: str) -> Path | None:
    """The first file in the folder that fits a shell pattern, None if there is none."""
    return next(iter(sorted(folder.glob(pattern))), None) if folder is not None else None


def data_set(folder: Path | None, name: str) -> Path:
    """The folder of a data set.

    Raises:
        NotHereError: If it is not there.
    """
    if folder is None or not (folder / name).is_dir():
        raise NotHereError(f"weights are there, the data set is not: a folder {name} beside them is wanted")
    return folder / name


def pictures_in(folder: Path | None, name: str) -> list[NDArray[np.uint8]]:
    """The pictures of a data set that is a folder of images, RGB.

    Raises:
        NotHereError: If it is not there.
    """
    return [read_image(path) for path in image_files(data_set(folder, name))]
