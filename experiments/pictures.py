"""The pictures of an experiment whose user names none: the data folder's, else those that scikit-image carries."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

from vvc_nnr.errors import InputError
from vvc_nnr.sequences.cifar import load_cifar10
from vvc_nnr.sequences.images import IMAGE_SUFFIXES, read_image
from vvc_nnr.sequences.listing import has_suffix, list_files
from vvc_nnr.sequences.metrics import SSIM_WINDOW
from vvc_nnr.sequences.source import SUFFIXES, Source, open_source, open_sources

DATA_VARIABLE = "VVC_NNR_DATA"
DEFAULT_DATA = Path("../shared/data")
TEST_IMAGES = Path("cifar10", "cifar10_lossless_1000.npz")
FETCHED_CIFAR10 = "cifar-10-python.tar.gz"
N_TEST_IMAGES = 1000
_MOST_NAMED = 8
BUNDLED = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
"""Photographs inside the scikit-image package."""
PATCH = 32
PATCH_REDUCTIONS = (3, 4)


@dataclass(frozen=True, slots=True, eq=False)
class SmallPictures:
    """RGB pictures with a name each.

    Attributes:
        images: uint8 (H, W, 3) each.
        names: One per picture.
        origin: What they are, for a person.
    """

    images: tuple[NDArray[np.uint8], ...]
    names: tuple[str, ...]
    origin: str

    def first(self, count: int | None) -> SmallPictures:
        """The first `count` pictures, None for all."""
        if count is None or count >= len(self.names):
            return self
        return SmallPictures(self.images[:count], self.names[:count], f"the first {count} of {self.origin}")


def data_folder() -> Path | None:
    """The folder of test data: what the variable VVC_NNR_DATA names, else ../shared/data; None if it is not there."""
    folder = Path(os.environ.get(DATA_VARIABLE) or DEFAULT_DATA)
    return folder if folder.is_dir() else None


def default_sources() -> list[Source]:
    """The Kodak pictures and clips of the data folder, else the photographs inside scikit-image."""
    folder = data_folder()
    present = [folder / name for name in ("kodak", "clips") if (folder / name).is_dir()] if folder else []
    return [source for path in present for source in open_sources(path)] or bundled_sources()


def bundled_sources() -> list[Source]:
    """The photographs inside scikit-image, each a sequence of one 8-bit 4:2:0 picture."""
    return [open_source(path) for path in bundled_paths()]


def default_small_pictures() -> SmallPictures:
    """1,000 CIFAR-10 images of the data folder, else patches of the photographs inside scikit-image."""
    folder = data_folder()
    if folder is None:
        return bundled_patches()
    if (folder / TEST_IMAGES).is_file():
        return small_pictures(folder / TEST_IMAGES)
    fetched = folder / TEST_IMAGES.parent / FETCHED_CIFAR10
    return small_pictures(fetched).first(N_TEST_IMAGES) if fetched.is_file() else bundled_patches()


def small_pictures(path: Path) -> SmallPictures:
    """The CIFAR-10 images of a file or folder, or the image files of a folder as they are.

    Of the data set as `vvc-nnr fetch cifar10` brings it, these are the 10,000 images of its test part.

    Raises:
        InputError: If they cannot be read, or it is a picture or video.
        BitstreamError: If a file is damaged.
        UnsupportedError: If an image file has more than 8 bits per sample.
    """
    if (path / FETCHED_CIFAR10).is_file():
        path = path / FETCHED_CIFAR10
    if path.is_dir() and list_files(path, has_suffix(IMAGE_SUFFIXES), enter=False).paths:
        return _image_folder(path)
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        raise InputError(f"{path}: is one picture or video; must be a folder of images, or CIFAR-10")
    try:
        images = _cifar10(path)
    except InputError:
        if not (path.is_dir() and list_files(path, has_suffix(IMAGE_SUFFIXES)).paths):
            raise
        return _image_folder(path)  # in folders, as CIFAR-10 may be, but of other sizes
    names = tuple(f"{path.name.partition('.')[0]}_{i:05d}" for i in range(len(images)))
    return SmallPictures(tuple(images), names, f"{len(images)} CIFAR-10 images of {path.name}")


def _image_folder(path: Path) -> SmallPictures:
    listing = list_files(path, has_suffix(IMAGE_SUFFIXES))
    listing.left_out.tell(path)
    images = tuple(read_image(file) for file in listing.paths)
    check_small_pictures(images, [str(file) for file in listing.paths])
    names = tuple(file.relative_to(path).as_posix() for file in listing.paths)
    return SmallPictures(images, names, f"{len(images)} images of {path.name}")


def check_small_pictures(pictures: Sequence[NDArray[np.uint8]], places: Sequence[str]) -> None:
    """Checks that pictures (H, W, 3) can be coded and scored; `places` name them.

    Raises:
        InputError: If some cannot; it names them all, as far as a message has room.
    """
    sizes = {place: picture.shape[:2] for place, picture in zip(places, pictures, strict=True)}
    small = [f"{place}: is {w}x{h}" for place, (h, w) in sizes.items() if min(h, w) < SSIM_WINDOW]
    if small:
        raise InputError(_all_small(small, f"sides must be at least {SSIM_WINDOW} for SSIM"))


def _all_small(found: Sequence[str], must: str) -> str:
    """A message of pictures that are too small, all of them in it or counted."""
    named = "; ".join(found[:_MOST_NAMED])
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    them = "it, or take it" if len(found) == 1 else "them, or take them"
    return f"{named}{more}, {must}; enlarge {them} out of the folder"


def _cifar10(path: Path) -> NDArray[np.uint8]:
    if path.name == FETCHED_CIFAR10:
        return load_cifar10(path, "test").images
    return load_cifar10(path).images


def bundled_patches() -> SmallPictures:
    """32x32 patches that tile the photographs inside scikit-image, reduced 3 and 4 times to look like CIFAR-10."""
    patches: list[NDArray[np.uint8]] = []
    names: list[str] = []
    for path in bundled_paths():
        picture = read_image(path)
        for reduction in PATCH_REDUCTIONS:
            size = (picture.shape[1] // reduction, picture.shape[0] // reduction)
            small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
            for top in range(0, small.shape[0] - PATCH + 1, PATCH):
                for left in range(0, small.shape[1] - PATCH + 1, PATCH):
                    patches.append(small[top : top + PATCH, left : left + PATCH])
                    names.append(f"{path.stem}_reduced{reduction}_{top}_{left}")
    return SmallPictures(tuple(patches), tuple(names), f"{len(names)} patches of photographs in scikit-image")


def bundled_paths() -> list[Path]:
    """The files of the photographs inside scikit-image.

    Raises:
        InputError: If it does not carry them.
    """
    folder = Path(skimage.data.__file__).parent
    present = {path.name: path for path in list_files(folder, BUNDLED.__contains__, enter=False).paths}
    missing = [name for name in BUNDLED if name not in present]
    if missing:
        raise InputError(f"scikit-image does not carry {', '.join(missing)}: install scikit-image 0.24 or newer")
    return [present[name] for name in BUNDLED]
