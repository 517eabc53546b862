"""What the end-to-end experiment runs: autoencoders with each of their weights, and files of picture formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from vvc_nnr.codec.image_formats import FormatEffort, ImageCoding, ImageFormat, JpegSubsampling, image_codings
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.weights import Compression, check_once
from vvc_nnr.experiments.runs.networks import (
    BOTH_MODES,
    CodingOptions,
    GivenNetwork,
    check_photographs,
    given_autoencoders,
)
from vvc_nnr.experiments.tables.stored import CODED_FOLDER
from vvc_nnr.files import naming
from vvc_nnr.filters.networks.context_autoencoder import ContextAutoencoder
from vvc_nnr.filters.networks.context_coding import check_effort
from vvc_nnr.filters.picture_codecs import BundledCodec, PictureCodec, highest_rate
from vvc_nnr.filters.zoo import LoadedNetwork

NETWORKS = ("autoencoder-1.8bpp", "autoencoder-4.2bpp")
FORMATS: tuple[ImageFormat, ...] = ("jpeg", "webp", "avif", "jpeg2000")
"""What comes with Pillow."""


class OperatingPoint(NamedTuple):
    """A network at one of its rates.

    Attributes:
        codec: What codes pictures there.
        number: Which of its operating points; None of a network that has none.
        effort: How long its encoder searches.
    """

    codec: PictureCodec
    number: int | None
    effort: int


@dataclass(frozen=True, slots=True)
class EndToEndOptions:
    """What the experiment runs.

    Attributes:
        networks: Autoencoders: names of the zoo, files, or FILE.py:NAME, what makes a network of your own.
            NAME=NETWORK says what the tables call one of your own, as in mine=nets.py:make.
        archs: What makes the modules of files that do not say it: FILE.py:NAME for all, NAME=FILE.py:NAME for one.
        originals: Networks as trained that some of the files were coded from, each by the same name or as NAME=FILE.
        compressions: What each network as trained is stored with and decoded from.
        photographs: Folder of photographs for the compression "calibrated".
        n_crops: Crops of them that it follows, and at least as many that measure its loss: fewer are sooner done.
            Default: 48, of autoencoders of your own 24.
        formats: Whose files stand beside them: jpeg, webp, avif, jpeg2000, jpegxl.
        subsampling: Chroma format of JPEG and AVIF.
        formats_effort: How long encoders of formats try: as they do by themselves, or "best": AVIF at speed 0, WebP by
            method 6, JPEG XL at effort 9.
        stride: What the sides of a network's pictures must be multiples of; default: as it says, else found by trying.
        rates: Operating points of networks that have several, from 0 at the lowest rate on. Default: all.
        effort: How long the encoders of networks with a context prior search for fewer bits, 0 to 3.

    Raises:
        InputError: If a compression, format or rate is named twice, a format's encoder is not
            installed, photographs are missing, or the effort is out of range.
    """

    networks: Sequence[str] = NETWORKS
    archs: Sequence[str] = ()
    originals: Sequence[str] = ()
    compressions: tuple[Compression, ...] = BOTH_MODES
    photographs: Path | None = None
    n_crops: int | None = None
    formats: tuple[ImageFormat, ...] = FORMATS
    subsampling: JpegSubsampling = "444"
    formats_effort: FormatEffort = "usual"
    stride: int | None = None
    rates: Sequence[int] | None = None
    effort: int = 0

    def __post_init__(self) -> None:
        check_once(self.compressions)
        check_photographs(self.compressions, self.photographs, self.n_crops)
        self.codings()
        check_effort(self.effort)
        if self.rates is not None and (not self.rates or len(set(self.rates)) < len(self.rates)):
            raise InputError(f"rates {', '.join(map(str, self.rates)) or 'none'}: each must be there once")

    def codings(self) -> list[ImageCoding]:
        """Each format with each of its rates; raises as `image_codings`."""
        return image_codings(self.formats, self.subsampling, self.formats_effort)

    def given(self, modules: Sequence[LoadedNetwork] = ()) -> list[GivenNetwork]:
        """The autoencoders, and those of the caller's own beside them.

        Raises:
            InputError, BitstreamError, UnsupportedError: As `given_autoencoders`; and if none of them has the operating
                points or the search that is asked for.
        """
        networks = given_autoencoders(self.networks, self.originals, self.archs, modules, self.stride)
        has_points = False
        for network in networks:
            with naming(network.any_state.path):
                has_points |= self.points_of(network.codec)[0].number is not None
        if not has_points and (self.rates is not None or self.effort):
            asked = f"effort {self.effort}" if self.rates is None else f"rates {', '.join(map(str, self.rates))}"
            raise InputError(f"{asked}: none of the networks has operating points, such as context-autoencoder has")
        return networks

    def points_of(self, codec: PictureCodec | None) -> list[OperatingPoint]:
        """The operating points at which a network is run, in their order; of one that has none, itself.

        Raises:
            InputError: If it has no such point.
        """
        assert codec is not None
        if not isinstance(codec, BundledCodec) or not isinstance(codec.network, ContextAutoencoder):
            return [OperatingPoint(codec, None, 0)]
        numbers = range(highest_rate(codec.network) + 1) if self.rates is None else sorted(self.rates)
        return [OperatingPoint(replace(codec, rate=each, effort=self.effort), each, self.effort) for each in numbers]

    def coding(self, folder: Path) -> CodingOptions:
        """How the networks are compressed, with their files in a folder of results."""
        return CodingOptions(self.compressions, folder / CODED_FOLDER, self.photographs, self.n_crops)
