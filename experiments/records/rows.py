"""The results of the experiments: one flat row per picture and method."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, TypeVar

from vvc_nnr.codec.vvc import LoopFilters
from vvc_nnr.errors import InputError

ToolMethod: TypeAlias = Literal["anchor", "original", "reconstructed"]
ZooMethod: TypeAlias = Literal["original", "vvc_nnr", "calibrated", "nncodec"]
ImageMethod: TypeAlias = Literal["jpeg-file", "jpeg-optimised", "jpeg-payload", "cnn-ae", "reconstructed-cnn-ae"]


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
        ValueError: If a count or size is negative, or the network's name does not go with the method.
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
        if min(self.picture, self.n_bits) < 0 or min(self.width, self.height) < 1:
            raise ValueError("picture and n_bits must be at least 0, width and height at least 1")

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
        ValueError: If the rate is negative.
    """

    image: str
    method: ImageMethod
    setting: str
    n_bytes: int
    bpp: float
    psnr_db: float
    ssim: float

    def __post_init__(self) -> None:
        if self.n_bytes < 0 or self.bpp < 0:
            raise ValueError("n_bytes and bpp must be at least 0")

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
        ValueError: If a size is not positive.
    """

    network: str
    original_bytes: int
    compressed_bytes: int
    method: str
    bits: int
    n_parameters: int

    def __post_init__(self) -> None:
        if min(self.original_bytes, self.compressed_bytes) < 1:
            raise ValueError("original_bytes and compressed_bytes must be at least 1")

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
        ValueError: If a size is not positive.
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
        if self.original_bytes < 1 or (self.n_bytes is not None and self.n_bytes < 1):
            raise ValueError("original_bytes and n_bytes must be at least 1")

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
