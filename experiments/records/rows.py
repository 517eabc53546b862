"""The results of the experiments: the columns of each file of rows, with their units and rules; rows as data frames."""

from __future__ import annotations

import math
import sys
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from vvc_nnr.codec.configuration import CONFIGURATIONS, ConfigName
from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.weights import NO_WEIGHTS, is_adapted, is_file, is_weights, weights_title
from vvc_nnr.filters.adaptation.options import Measure

if TYPE_CHECKING:
    import pandas as pd
    from _typeshed import DataclassInstance

Way: TypeAlias = Literal["codec", "full", "decisions", "wiener"]
"""The codec alone; a network at full strength everywhere; a network as the encoder decides, block by block; the same
with Wiener filters fitted to each picture behind it."""
DECIDED_WAYS: tuple[Way, ...] = ("decisions", "wiener")
"""Those whose decisions are coded and counted."""
NetworkPlace: TypeAlias = Literal["all", "none", "codec"]
ZooMethod: TypeAlias = Literal["original", "vvc_nnr", "calibrated", "nncodec"]
ImageMethod: TypeAlias = Literal[
    "jpeg-file", "jpeg-optimised", "jpeg-payload", "webp-file", "webp-payload", "avif-file", "avif-payload",
    "jpeg2000-file", "jpegxl-file", "cnn-ae", "cnn-ae-estimate",
]  # fmt: skip
AUTOENCODER_METHODS: tuple[ImageMethod, ...] = ("cnn-ae", "cnn-ae-estimate")
"""Autoencoders by the bytes that they write, and those whose rate is an estimate; all others are formats of files."""
Axes: TypeAlias = Mapping[str, str | int | None]
"""What a row is about by the axes of a plan: sequences, QPs, images, networks."""
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
    """One picture of the tool-by-tool experiment, filtered one way.

    Attributes:
        sequence: Name of the sequence.
        ctc_class: Class of the common test conditions: "A1", "A2", "B", "C", "D", "E" or "F".
        picture: Number of the picture in the sequence, from 0.
        width: Luma samples per row.
        height: Luma rows.
        bit_depth: Bits per sample that the scores were taken at.
        qp: QP of the encoding.
        loop_filters: The in-loop filters that the codec ran.
        way: Who filters after those.
        network: Name of the network, empty for the codec alone.
        weights: Which weights of the network: "original" as trained, "file" as a given coded file has them, a
            compression that they went through, such as "uniform8" or "nnc:-32", or "adapted" with the sequence's
            update; "none" for the codec alone.
        network_sha256: The first 16 hex digits of the SHA-256 of the file that has these weights, of adapted ones of
            the file and the update; empty for the codec.
        n_bits: Bits of the coded picture; neither decisions nor the network are among them.
        n_decision_bits: Bits of the coded decisions, Wiener filters included.
        psnr_y_db: PSNR of luma in dB, inf for identical planes.
        psnr_cb_db: PSNR of Cb in dB, None for a picture without chroma.
        psnr_cr_db: PSNR of Cr in dB, None for a picture without chroma.
        ssim_y: SSIM of luma.
        ssim_cb: SSIM of Cb, None for a picture without chroma.
        ssim_cr: SSIM of Cr, None for a picture without chroma.
        ms_ssim_y: MS-SSIM of luma, None for a plane that is too small for five scales.
        ms_ssim_cb: MS-SSIM of Cb, None without chroma or for a plane that is too small.
        ms_ssim_cr: MS-SSIM of Cr, None without chroma or for a plane that is too small.
        encode_s: Processor time of the whole encoder, None where a cached encoding does not know its own.
        decode_s: Processor time of the whole decoder, None where the pictures were decoded elsewhere.
        config: The coding configuration: all intra, random access or low delay B.
        slice_type: "I", "P" or "B"; empty where the pictures were decoded elsewhere.
        temporal_layer: Temporal sublayer of the picture, None likewise.
        slice_qp: QP of the picture's first slice, None likewise.
        network_qp: QP that the network is told; None for the codec alone.

    Raises:
        ValueError: If a number is out of its range, or way, network and weights do not go together.
    """

    sequence: str
    ctc_class: str
    picture: int
    width: int
    height: int
    bit_depth: int
    qp: int
    loop_filters: LoopFilters
    way: Way
    network: str
    weights: str
    network_sha256: str
    n_bits: int
    n_decision_bits: int
    psnr_y_db: float
    psnr_cb_db: float | None
    psnr_cr_db: float | None
    ssim_y: float
    ssim_cb: float | None
    ssim_cr: float | None
    ms_ssim_y: float | None
    ms_ssim_cb: float | None
    ms_ssim_cr: float | None
    encode_s: float | None
    decode_s: float | None
    config: ConfigName = "ai"
    slice_type: Literal["I", "P", "B", ""] = ""
    temporal_layer: int | None = None
    slice_qp: int | None = None
    network_qp: int | None = None

    def __post_init__(self) -> None:
        is_codec = self.way == "codec"
        if is_codec != (self.network == "") or is_codec != (self.weights == NO_WEIGHTS):
            raise ValueError(f"way {self.way!r} with network {self.network!r} and weights {self.weights!r}")
        if not is_codec and not is_weights(self.weights):
            raise ValueError(f"weights {self.weights!r}: must be original, file or a compression such as uniform8")
        if self.n_decision_bits and self.way not in DECIDED_WAYS:
            raise ValueError(f"{self.n_decision_bits} bits of decisions with way {self.way!r}")
        times = dict.fromkeys(("encode_s", "decode_s"), (0, MAX_FINITE))
        scores = dict.fromkeys(("ssim_y", "ssim_cb", "ssim_cr"), _SSIM_RANGE)
        ms_ssim = dict.fromkeys(("ms_ssim_y", "ms_ssim_cb", "ms_ssim_cr"), (0, 1))
        told: Ranges = {"temporal_layer": (0, 6), "slice_qp": (-48, 63), "network_qp": (0, 63)}
        check_ranges(self, {**PICTURE_RANGES, **times, **scores, **ms_ssim, **told, "n_decision_bits": (0, MAX_COUNT)})

    @property
    def key(self) -> tuple[str | int, ...]:
        """What this row is about; a run writes each key once."""
        picture = (self.config, self.sequence, self.picture, self.qp, self.loop_filters)
        return (*picture, self.way, self.network, self.weights, self.network_sha256)

    @property
    def axes(self) -> Axes:
        """Where it is on the axes of a plan."""
        configuration = CONFIGURATIONS[self.config].title
        place: dict[str, str | int | None] = {"sequences": self.sequence, "configurations": configuration}
        return {**place, "QPs": self.qp, "networks": self.network or None}


def point_name(network: str, operating_point: int | None, effort: int = 0) -> str:
    """What tables call a network at one of its operating points, such as "context-autoencoder@3, effort 2"."""
    point = "" if operating_point is None else f"@{operating_point}"
    return network + point + (f", effort {effort}" if effort else "")


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image of the end-to-end experiment.

    Attributes:
        image: Name of the image.
        method: A format of files by which of their bytes count, or an autoencoder.
        setting: The format's quality (and subsampling), or the name of the network.
        weights: Which weights of the network, as `ToolRow.weights`; "none" for files.
        network_sha256: The first 16 hex digits of the SHA-256 of the file that has these weights, empty for files.
        n_bytes: Bytes that are counted for the image, or as many as they are estimated to be; of an autoencoder of this
            package, those that it takes in a file of many images of its size (`code_by_file`).
        bpp: Bits per pixel, 8 * n_bytes / (width * height).
        psnr_db: PSNR in dB over the three channels together, peak 255, inf for identical images.
        ssim: SSIM, mean over the three channels.
        ms_ssim: MS-SSIM, mean over the three channels, None for an image too small for five scales.
        operating_point: Of a network that has several rates which one, from 0; None for all others.
        effort: How long its encoder searched, 0 to 3; 0 for all others.

    Raises:
        ValueError: If a number is out of its range, or method and weights do not go together.
    """

    image: str
    method: ImageMethod
    setting: str
    weights: str
    network_sha256: str
    n_bytes: int
    bpp: float
    psnr_db: float
    ssim: float
    ms_ssim: float | None
    operating_point: int | None = None
    effort: int = 0

    def __post_init__(self) -> None:
        if (self.method in AUTOENCODER_METHODS) != is_weights(self.weights):
            raise ValueError(f"method {self.method!r} with weights {self.weights!r}")
        ranges: Ranges = {"n_bytes": (0, MAX_COUNT), "bpp": (0, MAX_FINITE), "psnr_db": (0, math.inf)}
        points = dict.fromkeys(("operating_point", "effort"), (0, MAX_COUNT))
        check_ranges(self, {**ranges, **points, "ssim": _SSIM_RANGE, "ms_ssim": (0, 1)})

    @property
    def key(self) -> tuple[str, ImageMethod, str, str, str, int | None, int]:
        """What this row is about; a run writes each key once."""
        about = (self.image, self.method, self.setting, self.weights, self.network_sha256)
        return (*about, self.operating_point, self.effort)

    @property
    def axes(self) -> Axes:
        """Where it is on the axes of a plan."""
        return {"images": self.image, "networks": self.setting if self.method in AUTOENCODER_METHODS else None}


@dataclass(frozen=True, slots=True)
class NetworkRow:
    """What one network costs with one kind of weights; counted, not claimed.

    Attributes:
        network: Its name.
        weights: Which weights, as `ToolRow.weights`.
        network_sha256: The first 16 hex digits of the SHA-256 of the file that has them.
        place: What the codec runs before it: "all", or "none" where it takes the place of the in-loop filters;
            "codec" for an autoencoder, which takes the place of the whole codec.
        coding: How the file holds the weights: "NNC", "float32" or "uniform" with its bits.
        n_bytes: Size of the whole file.
        original_bytes: Size of the network as trained as a float32 file; None if only a coded file is at hand.
        n_parameters: Weights and biases.
        kmac_per_luma_sample: Thousand multiplications with addition per luma sample, counted in a forward pass; None
            for an autoencoder.
        architecture: Name of the module's class; autoencoders of one make a curve together.

    Raises:
        ValueError: If a number is out of its range, or the weights are unknown.
    """

    network: str
    weights: str
    network_sha256: str
    place: NetworkPlace
    coding: str
    n_bytes: int
    original_bytes: int | None
    n_parameters: int
    kmac_per_luma_sample: float | None
    architecture: str = ""

    def __post_init__(self) -> None:
        if not is_weights(self.weights):
            raise ValueError(f"weights {self.weights!r}: must be original, file or a compression such as uniform8")
        counts = dict.fromkeys(("n_bytes", "original_bytes", "n_parameters"), (1, MAX_COUNT))
        check_ranges(self, {**counts, "kmac_per_luma_sample": (0, MAX_FINITE)})

    @property
    def key(self) -> tuple[str | int, ...]:
        """What this row is about; a run writes each key once."""
        return (self.network, self.weights, self.network_sha256, self.place)

    @property
    def title(self) -> str:
        """What tables call these weights: "original", "file (NNC)", or their compression."""
        title = weights_title(self.weights)
        return f"{title} ({self.coding})" if is_file(self.weights) else title


@dataclass(frozen=True, slots=True)
class UpdateRow:
    """What tuning a network to one sequence costs a stream at one QP.

    Attributes:
        config: The coding configuration.
        sequence: Name of the sequence.
        network: Name of the network.
        weights: "adapted" by the one update of all QPs, or "adapted-each" by that of this QP.
        qp: The QP of the stream.
        measure: The PSNR by which a gain is worth bits.
        network_sha256: As `ToolRow.network_sha256` of the rows with these weights.
        base: Which weights of the network the update changes.
        n_pictures: Pictures of the sequence that were coded.
        n_filter_bytes: Bytes of the messages that a stream needs for the network as it is.
        n_update_bytes: Bytes of the message with the update, which comes on top.
        file: The update's, in the folder of coded networks.

    Raises:
        ValueError: If a number is out of its range.
    """

    config: ConfigName
    sequence: str
    network: str
    weights: str
    qp: int
    measure: Measure
    network_sha256: str
    base: str
    n_pictures: int
    n_filter_bytes: int
    n_update_bytes: int
    file: str

    def __post_init__(self) -> None:
        counts = dict.fromkeys(("n_pictures", "n_filter_bytes", "n_update_bytes"), (1, MAX_COUNT))
        check_ranges(self, {**counts, "qp": PICTURE_RANGES["qp"]})
        if not is_adapted(self.weights):
            raise ValueError(f"weights {self.weights!r}: must be adapted")
        if self.measure not in typing.get_args(Measure):
            raise ValueError(f"measure {self.measure!r}: must be {' or '.join(typing.get_args(Measure))}")

    @property
    def key(self) -> tuple[str | int, ...]:
        """What this row is about; a run writes each key once."""
        return (self.config, self.sequence, self.network, self.weights, self.qp)

    @property
    def rows_key(self) -> tuple[str | int, ...]:
        """What the rows that were measured with it have."""
        return (*self.key, self.network_sha256)


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
        accuracy_percent: Top-1 accuracy or characters right, None if it is no such task.
        average_precision_percent: Mean average precision of boxes over IoU 0.5 to 0.95, None if it detects nothing.
        pixel_accuracy_percent: Pixels of the right class, None if it segments nothing.
        iou: Mean intersection over union, 0 to 1, None likewise.
        dice: Dice coefficient, 0 to 1, None likewise.
        bpp: Bits per pixel of a picture codec, None for other networks.
        psnr_db: PSNR of its pictures in dB, None if it makes none.
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
    def axes(self) -> Axes:
        """Where it is on the axes of a plan."""
        return {"networks": self.network}

    @property
    def coding(self) -> ZooCoding:
        """How the network was coded."""
        return ZooCoding(self.method, self.qp, self.max_loss_db)


class KeyedRow(Protocol):
    """A row that knows what it is about, and where it is on the axes of a plan."""

    @property
    def key(self) -> tuple[str | int | float | None, ...]:
        """What the row is about."""
        ...

    @property
    def axes(self) -> Axes:
        """Its place on each axis, None for nowhere."""
        ...


def frame_of(rows: Iterable[DataclassInstance], row_type: type[DataclassInstance]) -> pd.DataFrame:
    """The rows as a data frame; None is NaN in a column of floats, NA in one of whole numbers.

    Args:
        rows: Rows of one kind, in any number.
        row_type: Their dataclass, which gives the columns and their types.
    """
    import pandas as pd

    hints = typing.get_type_hints(row_type)
    names = [field.name for field in fields(row_type)]
    found = list(rows)
    columns = {name: pd.Series([getattr(row, name) for row in found], dtype=_dtype(hints[name])) for name in names}
    return pd.DataFrame(columns)


def unique_rows(rows: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """The rows in their order, repeated ones once.

    Args:
        rows: Rows of one kind.
        key: The columns that say what a row is about.

    Raises:
        InputError: If two rows about the same thing differ (results of two runs in one file).
    """
    once = rows.drop_duplicates()
    twice = once[once.duplicated(key)]
    if len(twice):
        about = next(twice[key].astype(object).itertuples(index=False, name=None))
        raise InputError(f"two different results for {about}: keep the rows of one run only")
    return once.reset_index(drop=True)


def _dtype(hint: Any) -> str:
    """The type of a column, from the annotation of its field."""
    kinds = typing.get_args(hint) or (hint,)
    if float in kinds:
        return "float64"
    if int in kinds:
        return "Int64" if type(None) in kinds else "int64"
    return "object"
