"""The pictures of an experiment whose user names none: the data folder's, else those that scikit-image carries."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

from vvc_nnr.errors import InputError
from vvc_nnr.sequences.cifar import load_cifar10
from vvc_nnr.sequences.images import image_files, read_image
from vvc_nnr.sequences.source import Source, open_source, open_sources

DATA_VARIABLE = "VVC_NNR_DATA"
DEFAULT_DATA = Path("../shared/data")
BUNDLED = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
"""Photographs inside the scikit-image package."""
PATCH = 32
PATCH_REDUCTIONS = (3, 4)


@dataclass(frozen=True, slots=True, eq=False)
class SmallPictures:
    """Equally sized RGB pictures with a name each.

    Attributes:
        images: uint8 (N, H, W, 3).
        names: One per picture.
        origin: What they are, for the notes of a table.
    """

    images: NDArray[np.uint8]
    names: tuple[str, ...]
    origin: str

    def first(self, count: int | None) -> SmallPictures:
        """The first `count` pictures, None for all."""
        return SmallPictures(self.images[:count], self.names[:count], self.origin)


def data_folder() -> Path | None:
    """The folder of test data that VVC_NNR_DATA names (default ../shared/data), None if there is none."""
    folder = Path(os.environ.get(DATA_VARIABLE, DEFAULT_DATA))
    return folder if folder.is_dir() else None


def default_sources() -> list[Source]:
    """The Kodak pictures and clips of the data folder, else the photographs inside scikit-image."""
    folder = data_folder()
    names = [name for name in ("kodak", "clips") if folder is not None and (folder / name).is_dir()]
    if folder is not None and names:
        return [source for name in names for source in open_sources(folder / name)]
    return bundled_sources()


def bundled_sources() -> list[Source]:
    """The photographs inside scikit-image, each a sequence of one 8-bit 4:2:0 picture."""
    return [open_source(path) for path in _bundled_paths()]


def default_small_pictures() -> SmallPictures:
    """The 1,000 lossless CIFAR-10 images of the data folder, else patches of the photographs inside scikit-image."""
    folder = data_folder()
    path = folder / "cifar10" / "cifar10_lossless_1000.npz" if folder is not None else None
    return cifar_pictures(path, None) if path is not None and path.is_file() else bundled_patches()


def cifar_pictures(path: Path, count: int | None) -> SmallPictures:
    """The first `count` CIFAR-10 images of a file or folder, None for all.

    Raises:
        InputError: If they cannot be read.
        BitstreamError: If a file is damaged.
    """
    images = load_cifar10(path).images[:count]
    names = tuple(f"{path.stem}_{i:05d}" for i in range(len(images)))
    return SmallPictures(images, names, f"{len(images)} CIFAR-10 images of {path.name}")


def bundled_patches() -> SmallPictures:
    """32x32 patches that tile the photographs inside scikit-image, reduced 3 and 4 times to look like CIFAR-10."""
    patches: list[NDArray[np.uint8]] = []
    names: list[str] = []
    for path in _bundled_paths():
        picture = read_image(path)
        for reduction in PATCH_REDUCTIONS:
            size = (picture.shape[1] // reduction, picture.shape[0] // reduction)
            small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
            for top in range(0, small.shape[0] - PATCH + 1, PATCH):
                for left in range(0, small.shape[1] - PATCH + 1, PATCH):
                    patches.append(small[top : top + PATCH, left : left + PATCH])
                    names.append(f"{path.stem}_reduced{reduction}_{top}_{left}")
    return SmallPictures(np.stack(patches), tuple(names), f"{len(names)} patches of photographs in scikit-image")


def _bundled_paths() -> list[Path]:
    folder = Path(skimage.data.__file__).parent
    present = {path.name: path for path in image_files(folder)}
    missing = [name for name in BUNDLED if name not in present]
    if missing:
        raise InputError(f"scikit-image does not carry {', '.join(missing)}: install scikit-image 0.24 or newer")
    return [present[name] for name in BUNDLED]
