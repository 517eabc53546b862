"""The user's folder of published weights and data sets, each data set in a folder of its name."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.networks.row import NotHereError
from vvc_nnr.sequences.images import image_files, read_image
from vvc_nnr.sequences.listing import list_files


def find_weights(folder: Path | None, pattern: str) -> Path | None:
    """The first file in the folder that fits a shell pattern, None if there is none; hidden files do not count.

    Raises:
        InputError: If there is only a broken link, or the folder cannot be listed.
    """
    if folder is None or not folder.is_dir():
        return None
    listing = list_files(folder, lambda name: fnmatch.fnmatchcase(name, pattern), enter=False)
    broken = fnmatch.filter(listing.left_out.broken, pattern)
    if broken and not listing.paths:
        raise InputError(f"{folder / broken[0]}: is a link to nothing; mend or remove it")
    return listing.paths[0] if listing.paths else None


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
