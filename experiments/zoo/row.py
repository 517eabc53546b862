"""What a row of the model zoo is: a network, the task that it is scored on, and where its weights come from."""

from __future__ import annotations

import copy
import fnmatch
import importlib
import importlib.util
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vvc_nnr.bitstream.number_formats import NamedArrays
from vvc_nnr.calibrate.samples import Calibration
from vvc_nnr.errors import InputError, VvcNnrError
from vvc_nnr.experiments.pictures import BUNDLED, DATA_VARIABLE, bundled_paths, data_folder
from vvc_nnr.experiments.zoo.codec_worker import make_torchvision_importable
from vvc_nnr.model.torch import as_torch, named_arrays
from vvc_nnr.roles.by_module import module_roles
from vvc_nnr.roles.roles import TensorRole
from vvc_nnr.sequences.images import image_files, read_image
from vvc_nnr.sequences.listing import list_files

WeightsOrigin = Literal["published", "bundled", "trained here", "random"]
"""Where a network's weights come from; "random": real layout, no task."""
Picture = NDArray[np.uint8]
WEIGHTS = Path(__file__).parent / "weights"
CALIBRATION_FOLDER, CALIBRATION_SET = "calibration", "bsds500/train"
DATA_SETS = ("set12", "classic5", "dncnn", CALIBRATION_SET)
"""What networks of the zoo are made of and scored on, of the data folder, besides `colour_files`."""
COMPRESSAI = "--no-deps compressai pytorch-msssim torch-geometric, then what they ask for but numpy"
"""CompressAI asks for a numpy below 2 and works with later ones."""


class NotHereError(VvcNnrError):
    """Weights, data or a package of a row are not there; the message says which, and where they would be looked for."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """The scores of a network; those that its task does not have are None.

    Attributes:
        accuracy_percent: Share of right answers: classes, or characters.
        average_precision_percent: Mean over classes of the mean over IoU thresholds 0.5 to 0.95.
        pixel_accuracy_percent: Share of pixels of the right class.
        iou: Mean intersection over union of the classes.
        dice: Dice coefficient.
        bpp: Bits per pixel of pictures that the network codes.
        psnr_db: PSNR of pictures that the network restores or codes.
    """

    accuracy_percent: float | None = None
    average_precision_percent: float | None = None
    pixel_accuracy_percent: float | None = None
    iou: float | None = None
    dice: float | None = None
    bpp: float | None = None
    psnr_db: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A network that is there.

    Attributes:
        arrays: Its tensors.
        roles: Their roles, None: names tell them.
        weights: Where they come from.
        data: What it is scored on, "" if it is not.
        evaluate: Its scores with given tensors; None: the row has no task.
        module: The network, if it is a torch module.
    """

    arrays: NamedArrays
    roles: Mapping[str, TensorRole] | None
    weights: WeightsOrigin
    data: str = ""
    evaluate: Callable[[NamedArrays], Metrics] | None = None
    module: nn.Module | None = None


class Row(Protocol):
    """One network of the zoo."""

    @property
    def name(self) -> str:
        """Its name in the table."""

    def load(self, folder: Path | None) -> Subject:
        """The network with its task.

        Args:
            folder: The user's folder of weights and data sets.

        Raises:
            NotHereError: If weights, data or a package are not there.
            InputError, BitstreamError: If they cannot be read.
        """


@runtime_checkable
class CalibratedRow(Protocol):
    """A row whose network can be compressed by what it does to pictures."""

    def calibration(self, folder: Path | None) -> Calibration:
        """Pictures to compress by, other than those that the network is scored on.

        Args:
            folder: The user's folder of weights and data sets.

        Raises:
            NotHereError: If there are none.
            InputError: If they cannot be read.
        """


def module_subject(
    module: nn.Module,
    weights: WeightsOrigin,
    data: str = "",
    evaluate: Callable[[Any], Metrics] | None = None,
) -> Subject:
    """The subject of a torch module.

    Args:
        module: With its weights.
        weights: Where they come from.
        data: What it is scored on.
        evaluate: The scores of a module in evaluation mode, called without gradients.
    """
    arrays = named_arrays(module)
    roles = module_roles(module, arrays)
    if evaluate is None:
        return Subject(arrays, roles, weights, data, module=module)
    return Subject(arrays, roles, weights, data, lambda given: _evaluated(module, given, evaluate), module)


def _evaluated(module: nn.Module, arrays: NamedArrays, evaluate: Callable[[Any], Metrics]) -> Metrics:
    """The scores of a copy of the module with other tensors."""
    other = copy.deepcopy(module).eval()
    other.load_state_dict(as_torch(arrays))
    with torch.no_grad():
        return evaluate(other)


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
        raise NotHereError(f"weights are there, the data set is not: a folder {name} must lie beside them")
    return folder / name


def pictures_in(folder: Path | None, name: str) -> list[NDArray[np.uint8]]:
    """The pictures of a data set that is a folder of images, RGB.

    Raises:
        NotHereError: If it is not there.
    """
    return [read_image(path) for path in image_files(data_set(folder, name))]


def colour_pictures(multiple: int) -> tuple[list[Picture], str]:
    """RGB pictures with sides cut to a multiple, and what they are: the Kodak pictures, else scikit-image's."""
    paths, words = colour_files()
    return [cut_sides(read_image(path), multiple) for path in paths], words


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


def cut_sides(picture: Picture, multiple: int) -> Picture:
    """The picture from its first row and column on, its sides cut to a multiple."""
    height, width = (side // multiple * multiple for side in picture.shape[:2])
    return picture[:height, :width]


def import_optional(name: str, install: str) -> ModuleType:
    """A module of an optional package.

    Args:
        name: The module, such as "torchvision.models".
        install: What `pip install` takes to get it.

    Raises:
        NotHereError: If it is not there or does not import.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            make_torchvision_importable()
            return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NotHereError(f"{name.split('.')[0]} cannot be imported ({reason}): pip install {install}") from error
