"""The results of the experiments: one flat row per picture and method."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, TypeVar

from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.errors import InputError

ToolMethod: TypeAlias = Literal["anchor", "original", "reconstructed"]
ZooMethod: TypeAlias = Literal["original", "vvc_nnr", "calibrated", "nncodec"]
ImageMethod: TypeAlias = Literal["jpeg-file", "jpeg-optimised", "jpeg-payload", "cnn-ae", "reconstructed-cnn-ae"]


Ranges: TypeAlias = Mapping[str, tuple[float, float]]
"""Lowest and highest value of fields by name, both allowed."""

MAX_COUNT, MAX_FINITE = 1 << 62, sys.float_info.max
PICTURE_RANGES: Ranges = {
    "picture": (0, MAX_COUNT),
    "width": (1, MAX_COUNT),
    "height": (1, MAX_COUNT),
    "bit_depth": (8, 16),
    "qp": (0, 63),
    "n_bits": (0, MAX_COUNT),
    # At 10 bit the peak of VTM, 1020, is below the largest error, 1023.
    **dict.fromkeys(("psnr_y_db", "psnr_cb_db", "psnr_cr_db"), (-0.1, math.inf)),
}
"""Of what all rows about pictures of sequences have."""
_SSIM_RANGE = (-1.0, 1.0)


class RangeError(ValueError):
    """A field of a row that is out of its range.

    Args:
        field: Its name.
        message: What it is and what it must be.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def check_ranges(row: object, ranges: Ranges) -> None:
    """Refuses a row with a number out of its range; None is no number.

    Raises:
        RangeError: Naming the first such field.
    """
    for name, (low, high) in ranges.items():
        value = getattr(row, name)
        if value is not None and not low <= value <= high:
            most = f"{low:g} to {high:g}" if high < MAX_COUNT else f"at least {low:g}"
            raise RangeError(name, f"{name} is {value}, must be {most}" + (" and finite" if high == MAX_FINITE else ""))


@dataclass(frozen=True, slots=True)
class ToolRow:
    """One picture of the tool-by-tool experiment.

    Attributes:
        sequence: Name of the sequence.
        ctc_class: Class of the common test conditions: "A1", "A2", "B", "C", "D", "E" or "F".
        picture: Number of the picture in the sequence, from 0.
        width: Luma samples per row.
        height: Luma rows.
        bit_depth: Bits per sample that the scores were taken at.
        qp: QP of the encoding.
        loop_filters: The in-loop filters that the codec ran.
        method: "anchor" (no network), "original" or "reconstructed" (network as trained, or as decoded).
        network: Name of the network, empty for the anchor.
        n_bits: Bits of the coded picture; the network's own bits are not among them.
        psnr_y_db: PSNR of luma in dB, inf for identical planes.
        psnr_cb_db: PSNR of Cb in dB, None for a picture without chroma.
        psnr_cr_db: PSNR of Cr in dB, None for a picture without chroma.
        ssim_y: SSIM of luma.
        ssim_cb: SSIM of Cb, None for a picture without chroma.
        ssim_cr: SSIM of Cr, None for a picture without chroma.

    Raises:
        ValueError: If a number is out of its range, or the network's name does not go with the method.
    """

    sequence: str
    ctc_class: str
    picture: int
    width: int
    height: int
    bit_depth: int
    qp: int
    loop_filters: LoopFilters
    method: ToolMethod
    network: str
    n_bits: int
    psnr_y_db: float
    psnr_cb_db: float | None
    psnr_cr_db: float | None
    ssim_y: float
    ssim_cb: float | None
    ssim_cr: float | None

    def __post_init__(self) -> None:
        if (self.method == "anchor") != (self.network == ""):
            raise ValueError(f"method {self.method!r} with network {self.network!r}: only the anchor has none")
        check_ranges(self, {**PICTURE_RANGES, **dict.fromkeys(("ssim_y", "ssim_cb", "ssim_cr"), _SSIM_RANGE)})

    @property
    def key(self) -> tuple[str | int, ...]:
        """What this row is about; a run writes each key once."""
        return (self.sequence, self.picture, self.qp, self.loop_filters, self.method, self.network)


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image of the end-to-end experiment.

    Attributes:
        image: Name of the image.
        method: JPEG by one of its three rates, or the autoencoder as trained or as decoded.
        setting: JPEG's quality (and subsampling), or the name of the network.
        n_bytes: Bytes that are counted for the image.
        bpp: Bits per pixel, 8 * n_bytes / (width * height).
        psnr_db: PSNR in dB over the three channels together, peak 255, inf for identical images.
        ssim: SSIM, mean over the three channels.

    Raises:
        ValueError: If a number is out of its range.
    """

    image: str
    method: ImageMethod
    setting: str
    n_bytes: int
    bpp: float
    psnr_db: float
    ssim: float

    def __post_init__(self) -> None:
        ranges: Ranges = {"n_bytes": (0, MAX_COUNT), "bpp": (0, MAX_FINITE), "psnr_db": (0, math.inf)}
        check_ranges(self, {**ranges, "ssim": _SSIM_RANGE})

    @property
    def key(self) -> tuple[str | int, ...]:
        """What this row is about; a run writes each key once."""
        return (self.image, self.method, self.setting)


@dataclass(frozen=True, slots=True)
class SizeRow:
    """The size of one network before and after compression.

    Attributes:
        network: Name of the network.
        original_bytes: Size of the float32 file.
        compressed_bytes: Size of the compressed file.
        method: How it was compressed, such as "uniform8".
        bits: Bits per weight.
        n_parameters: Weights and biases.

    Raises:
        ValueError: If a number is out of its range.
    """

    network: str
    original_bytes: int
    compressed_bytes: int
    method: str
    bits: int
    n_parameters: int

    def __post_init__(self) -> None:
        sizes = dict.fromkeys(("original_bytes", "compressed_bytes", "bits"), (1, MAX_COUNT))
        check_ranges(self, {**sizes, "n_parameters": (0, MAX_COUNT)})

    @property
    def key(self) -> tuple[str | int, ...]:
        """What this row is about; a run writes each key once."""
        return (self.network, self.method, self.bits)


@dataclass(frozen=True, slots=True)
class ZooCoding:
    """How a network of the model zoo is coded; see `ZooRow`."""

    method: ZooMethod
    qp: int = 0
    max_loss_db: float | None = None

    @property
    def key(self) -> tuple[str | int | float, ...]:
        """Its part of a row's key."""
        return (self.method, self.qp, self.max_loss_db or 0.0)

    @property
    def label(self) -> str:
        """Codec and setting in a few words."""
        match self.method:
            case "original":
                return self.method
            case "calibrated":
                return f"vvc_nnr, calibrated, {self.max_loss_db or 0.0:g} dB"
        return f"{self.method}, QP {self.qp}"


_ZOO_RANGES: Ranges = {
    "n_parameters": (0, MAX_COUNT),
    "original_bytes": (1, MAX_COUNT),
    "n_bytes": (1, MAX_COUNT),
    **dict.fromkeys(("max_loss_db", "encode_s", "decode_s", "memory_mib", "bpp"), (0, MAX_FINITE)),
    **dict.fromkeys(("accuracy_percent", "average_precision_percent", "pixel_accuracy_percent"), (0, 100)),
    **dict.fromkeys(("iou", "dice"), (0, 1)),
    "psnr_db": (-MAX_FINITE, math.inf),
}


@dataclass(frozen=True, slots=True)
class ZooRow:
    """One network of the model zoo, as it was or through one codec.

    Attributes:
        network: Its name.
        method: "original", "vvc_nnr", "calibrated" (this codec by what the network does to pictures) or "nncodec".
        qp: The codec's QP of weights, 0 where that is not how it was coded.
        max_loss_db: Loss of PSNR that calibration was to keep to on pictures of its own, None for the others.
        weights: Where the weights come from.
        data: What the network was scored on, empty if it was not.
        n_parameters: Values of all tensors.
        original_bytes: Bytes of all tensors in their number formats.
        n_bytes: Size of the coded file, None for the original.
        encode_s: Processor time of encoding, one thread, None for the original.
        decode_s: Time of decoding, likewise.
        memory_mib: Most memory of the codec, None if it is not known.
        accuracy_percent: See `networks.row.Metrics`, as for the scores that follow.
        average_precision_percent: See there.
        pixel_accuracy_percent: See there.
        iou: See there.
        dice: See there.
        bpp: See there.
        psnr_db: See there.
        fault: Names of scores that are NaN or infinite, empty if none is.

    Raises:
        ValueError: If a number is out of its range.
    """

    network: str
    method: ZooMethod
    qp: int
    max_loss_db: float | None
    weights: str
    data: str
    n_parameters: int
    original_bytes: int
    n_bytes: int | None
    encode_s: float | None
    decode_s: float | None
    memory_mib: float | None
    accuracy_percent: float | None
    average_precision_percent: float | None
    pixel_accuracy_percent: float | None
    iou: float | None
    dice: float | None
    bpp: float | None
    psnr_db: float | None
    fault: str

    def __post_init__(self) -> None:
        check_ranges(self, _ZOO_RANGES)

    @property
    def key(self) -> tuple[str | int | float, ...]:
        """What this row is about; a run writes each key once."""
        return (self.network, *self.coding.key)

    @property
    def coding(self) -> ZooCoding:
        """How the network was coded."""
        return ZooCoding(self.method, self.qp, self.max_loss_db)


class KeyedRow(Protocol):
    """A row that knows what it is about."""

    @property
    def key(self) -> tuple[str | int | float, ...]:
        """What the row is about."""
        ...


KeyedRowT = TypeVar("KeyedRowT", bound=KeyedRow)


def unique_rows(rows: Iterable[KeyedRowT]) -> list[KeyedRowT]:
    """The rows in their order, repeated ones once.

    Raises:
        InputError: If two rows about the same thing differ (results of two runs in one file).
    """
    seen: dict[tuple[str | int | float, ...], KeyedRowT] = {}
    for row in rows:
        first = seen.setdefault(row.key, row)
        if first != row:
            raise InputError(f"two different results for {row.key}: keep the rows of one run only")
    return list(seen.values())
