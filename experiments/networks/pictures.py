"""Pictures for the tasks of the zoo: the data folder's, or those that scikit-image carries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.experiments.networks.row import NotHereError
from vvc_nnr.experiments.pictures import BUNDLED, DATA_VARIABLE, bundled_paths, data_folder
from vvc_nnr.sequences.images import image_files, read_image

Picture = NDArray[np.uint8]
CALIBRATION_FOLDER, CALIBRATION_SET = "calibration", "bsds500/train"
DATA_SETS = ("set12", "classic5", "dncnn", CALIBRATION_SET)
"""What networks of the zoo are made of and scored on, of the data folder, besides `colour_files`."""


def colour_pictures(multiple: int) -> tuple[list[Picture], str]:
    """RGB pictures with sides cut to a multiple, and what they are: the Kodak pictures, else scikit-image's."""
    paths, words = colour_files()
    return [_cut(read_image(path), multiple) for path in paths], words


def colour_files() -> tuple[list[Path], str]:
    """The files of these pictures, and what they are."""
    folder = data_folder()
    kodak = folder / "kodak" if folder else None
    if kodak is not None and kodak.is_dir():
        return image_files(kodak), "Kodak"
    return bundled_paths(), f"{len(BUNDLED)} pictures of scikit-image"


def grey_pictures(folder_name: str) -> list[Picture]:
    """The grey pictures of a folder of the data folder.

    Raises:
        NotHereError: If it is not there.
    """
    return [read_image(path)[..., 0] for path in image_files(data_path(folder_name))]


def calibration_photographs(folder: Path | None) -> list[Path]:
    """Photographs to compress by, none of which a network is scored on.

    Args:
        folder: The user's folder, whose folder `calibration` comes first.

    Raises:
        NotHereError: If there are none.
    """
    own = None if folder is None else folder / CALIBRATION_FOLDER
    if own is not None and own.is_dir():
        return image_files(own)
    try:
        return image_files(data_path(CALIBRATION_SET))
    except NotHereError as error:
        raise NotHereError(f"no photographs to compress by: no folder {CALIBRATION_FOLDER} of yours, {error}") from None


def data_set_here(name: str) -> Path | None:
    """A file or folder of the data folder, None if it is not there."""
    folder = data_folder()
    return folder / name if folder is not None and (folder / name).exists() else None


def data_path(name: str) -> Path:
    """A file or folder of the data folder.

    Raises:
        NotHereError: If it is not there.
    """
    found = data_set_here(name)
    if found is None:
        raise NotHereError(f"no {name} in the data folder ({DATA_VARIABLE})")
    return found


def _cut(picture: Picture, multiple: int) -> Picture:
    height, width = (side // multiple * multiple for side in picture.shape[:2])
    return picture[:height, :width]
