"""What the end-to-end experiment runs: autoencoders with each of their weights, and files of picture formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vvc_nnr.codec.image_formats import ImageFormat, JpegSubsampling, image_codings
from vvc_nnr.experiments.records.weights import Compression, check_once
from vvc_nnr.experiments.runs.networks import (
    BOTH_MODES,
    CodingOptions,
    GivenNetwork,
    check_photographs,
    given_autoencoders,
)
from vvc_nnr.experiments.tables.stored import CODED_FOLDER
from vvc_nnr.filters.zoo import LoadedNetwork

NETWORKS = ("autoencoder-1.8bpp", "autoencoder-4.2bpp")
FORMATS: tuple[ImageFormat, ...] = ("jpeg", "webp", "avif", "jpeg2000")
"""What comes with Pillow."""


@dataclass(frozen=True, slots=True)
class EndToEndOptions:
    """What the experiment runs.

    Attributes:
        networks: Autoencoders: names of the zoo, files, or FILE.py:NAME, what makes a network of your own.
        archs: What makes the modules of files that do not say it: FILE.py:NAME for all, NAME=FILE.py:NAME for one.
        originals: Networks as trained that some of the files were coded from, each by the same name or as NAME=FILE.
        compressions: What each network as trained is stored with and decoded from.
        photographs: Folder of photographs for the compression "calibrated".
        n_crops: Crops of them that it follows, and at least as many that measure its loss: fewer are sooner done.
            Default: 48, of autoencoders of your own 24.
        formats: Whose files stand beside them: jpeg, webp, avif, jpeg2000, jpegxl.
        subsampling: Chroma format of JPEG and AVIF.
        stride: What the sides of a network's pictures must be multiples of; default: as it says, else found by trying.

    Raises:
        InputError: If a compression or format is named twice, a format's encoder is not
            installed, or photographs are missing.
    """

    networks: Sequence[str] = NETWORKS
    archs: Sequence[str] = ()
    originals: Sequence[str] = ()
    compressions: tuple[Compression, ...] = BOTH_MODES
    photographs: Path | None = None
    n_crops: int | None = None
    formats: tuple[ImageFormat, ...] = FORMATS
    subsampling: JpegSubsampling = "444"
    stride: int | None = None

    def __post_init__(self) -> None:
        check_once(self.compressions)
        check_photographs(self.compressions, self.photographs, self.n_crops)
        image_codings(self.formats, self.subsampling)

    def given(self, modules: Sequence[LoadedNetwork] = ()) -> list[GivenNetwork]:
        """The autoencoders, and those of the caller's own beside them; raises as `given_autoencoders`."""
        return given_autoencoders(self.networks, self.originals, self.archs, modules, self.stride)

    def coding(self, folder: Path) -> CodingOptions:
        """How the networks are compressed, with their files in a folder of results."""
        return CodingOptions(self.compressions, folder / CODED_FOLDER, self.photographs, self.n_crops)
