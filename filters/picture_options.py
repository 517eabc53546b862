"""How a network file is compressed by pictures: the options of `compress_by_pictures`; needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.errors import InputError

MAX_HOURS = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureOptions:
    """How a network file is compressed by what the network does to pictures.

    Attributes:
        max_loss_db: The smallest file within this loss of PSNR, in dB; a gain is within any loss.
        max_rate_rise_percent: Autoencoder, with max_loss_db: by how much its pictures' bits may rise at any operating
            point. Default: 10 times max_loss_db, as 0.3 % for 0.03 dB.
        max_bytes: The least loss within this size of the file, in bytes; one of the two limits is needed.
        arch: What makes the module: "dncnn", or FILE.py:NAME, a function without arguments. Default: as the file says.
        layout: Filter of your own: how decoded pictures go into it, such as planes=y,output=residual. Default: as the
            module or the file says.
        noise_sigma: The network removes noise of this deviation (of 0 to 255).
        jpeg_quality: The network repairs JPEG pictures of this quality, 1 to 100.
        loop_filters: Filter: what it comes after. Default: as the file says, else all.
        qps: Filter: QPs of the pictures that the codec makes. Default: 22,27,32,37.
        cifar: Autoencoder: CIFAR-10 training images in any of their forms, mixed in by half.
        fold_batch_norms: Batch norms are folded into the layers before them.
        finetune: Train on, with the bits in the loss, and compress again; the better of the two files counts.
        data: Photographs to train on, without those that measure the loss. Default: the ones that calibrate.
        hours: How long to train on, about. Default: 1.
        n_crops: Crops that the compression follows. Default: 48.
        accept_small: Crops may be smaller than what an output depends on, as with global pooling and attention.

    Raises:
        InputError: If there is no limit or two, or an option is out of range or without the one that it belongs to.
    """

    max_loss_db: float | None = None
    max_rate_rise_percent: float | None = None
    max_bytes: int | None = None
    arch: str | None = None
    layout: str | None = None
    noise_sigma: float | None = None
    jpeg_quality: int | None = None
    loop_filters: LoopFilters | None = None
    qps: Sequence[int] | None = None
    cifar: Path | None = None
    fold_batch_norms: bool = False
    finetune: bool = False
    data: Path | None = None
    hours: float | None = None
    n_crops: int | None = None
    accept_small: bool = False

    def check(self) -> None:
        """Raises InputError if the options do not fit together."""
        if (self.max_loss_db is None) == (self.max_bytes is None):
            raise InputError("calibration: one of max_loss_db and max_bytes must be given")
        if self.max_rate_rise_percent is not None and self.max_loss_db is None:
            raise InputError("max_rate_rise_percent: only with max_loss_db")
        if not self.finetune and (self.data is not None or self.hours is not None):
            raise InputError("data, hours only with finetune")
        if self.hours is not None and not 0 < self.hours <= MAX_HOURS:
            raise InputError(f"hours: {self.hours}, must be above 0 and at most {MAX_HOURS:g}")
        if self.n_crops is not None and self.n_crops < 1:
            raise InputError(f"n_crops: {self.n_crops}, must be at least 1")
        if self.noise_sigma is not None and self.jpeg_quality is not None:
            raise InputError("noise_sigma, jpeg_quality: must be one of them")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise InputError(f"jpeg_quality: {self.jpeg_quality}, must be 1 to 100")
        if self.noise_sigma is not None and not 0 < self.noise_sigma <= 255:
            raise InputError(f"noise_sigma: {self.noise_sigma}, must be above 0 and at most 255")
