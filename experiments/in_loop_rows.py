"""The results of the in-loop experiment: a row per picture and way to filter it, and one per network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.experiments.rows import MAX_COUNT, MAX_FINITE, PICTURE_RANGES, check_ranges

InLoopMethod: TypeAlias = Literal["codec", "full", "decisions", "wiener"]
"""The codec alone; a network at full strength everywhere; a network as the encoder decides, block by block; the same
with Wiener filters fitted to each picture behind it."""
DECIDED_METHODS: tuple[InLoopMethod, ...] = ("decisions", "wiener")
"""Those whose decisions are coded and counted."""
FINAL_METHOD: InLoopMethod = "wiener"
"""What a codec would run."""
Weights: TypeAlias = Literal["none", "file", "original"]
"""No network; a network as its file has it; the float network that the file was coded from."""


@dataclass(frozen=True, slots=True)
class InLoopRow:
    """One picture of the in-loop experiment.

    Attributes:
        sequence: Name of the sequence.
        ctc_class: Class of the common test conditions: "A1", "A2", "B", "C", "D", "E" or "F".
        picture: Number of the picture in the sequence, from 0.
        width: Luma samples per row.
        height: Luma rows.
        bit_depth: Bits per sample that the scores were taken at.
        qp: QP of the encoding.
        loop_filters: The in-loop filters that the codec ran.
        method: Who filters.
        network: Name of the network, empty for the codec alone.
        weights: Which weights of the network.
        network_sha256: The first 16 hex digits of its file's SHA-256, empty for the codec alone.
        n_bits: Bits of the coded picture; neither decisions nor the network are among them.
        n_decision_bits: Bits of the coded decisions.
        psnr_y_db: PSNR of luma in dB, inf for identical planes.
        psnr_cb_db: PSNR of Cb in dB, None for a picture without chroma.
        psnr_cr_db: PSNR of Cr in dB, None for a picture without chroma.
        encode_s: Processor time of the whole encoder, None where a cached encoding does not know its own.
        decode_s: Processor time of the whole decoder.

    Raises:
        ValueError: If a number is out of its range, or method, network and weights do not go together.
    """

    sequence: str
    ctc_class: str
    picture: int
    width: int
    height: int
    bit_depth: int
    qp: int
    loop_filters: LoopFilters
    method: InLoopMethod
    network: str
    weights: Weights
    network_sha256: str
    n_bits: int
    n_decision_bits: int
    psnr_y_db: float
    psnr_cb_db: float | None
    psnr_cr_db: float | None
    encode_s: float | None
    decode_s: float

    def __post_init__(self) -> None:
        is_codec = self.method == "codec"
        if is_codec != (self.network == "") or is_codec != (self.weights == "none"):
            raise ValueError(f"method {self.method!r} with network {self.network!r} and weights {self.weights!r}")
        if self.n_decision_bits and self.method not in DECIDED_METHODS:
            raise ValueError(f"{self.n_decision_bits} bits of decisions with method {self.method!r}")
        times = dict.fromkeys(("encode_s", "decode_s"), (0, MAX_FINITE))
        check_ranges(self, {**PICTURE_RANGES, **times, "n_decision_bits": (0, MAX_COUNT)})

    @property
    def key(self) -> tuple[str | int, ...]:
        """What this row is about; a run writes each key once."""
        picture = (self.sequence, self.picture, self.qp, self.loop_filters)
        return (*picture, self.method, self.network, self.weights, self.network_sha256)


@dataclass(frozen=True, slots=True)
class NetworkRow:
    """What one network costs; counted, not claimed.

    Attributes:
        network: Its name.
        weights: Which weights.
        network_sha256: The first 16 hex digits of its file's SHA-256.
        loop_filters: What the codec runs before it: "all", or "none" where it takes their place.
        coding: How the file holds the weights: "NNC", "float32" or "uniform" with its bits.
        n_bytes: Size of the whole file.
        n_parameters: Weights and biases.
        kmac_per_luma_sample: Thousand multiplications with addition per luma sample, see `filters.complexity`.

    Raises:
        ValueError: If a number is out of its range, or there are no weights.
    """

    network: str
    weights: Weights
    network_sha256: str
    loop_filters: LoopFilters
    coding: str
    n_bytes: int
    n_parameters: int
    kmac_per_luma_sample: float

    def __post_init__(self) -> None:
        if self.weights == "none":
            raise ValueError("a network has weights")
        ranges = {"n_bytes": (1, MAX_COUNT), "n_parameters": (0, MAX_COUNT)}
        check_ranges(self, {**ranges, "kmac_per_luma_sample": (0, MAX_FINITE)})

    @property
    def key(self) -> tuple[str | int, ...]:
        """What this row is about; a run writes each key once."""
        return (self.network, self.weights, self.network_sha256, self.loop_filters)
