"""The numbers that the use-case paper prints, as printed, to stand beside ours."""

from __future__ import annotations

from dataclasses import dataclass

from vvc_nnr.experiments.tables.means import OVERALL

PAPER_NOTE = (
    "Rows 'paper' quote H. Moon and J.-G. Kim, Compressed Representation of Neural Networks for Use Cases of "
    "Video/Image Compression in MPEG-NNR."
)


@dataclass(frozen=True, slots=True)
class PaperScores:
    """One row of the paper's Table 2 (dB) or 3 (SSIM); texts keep the printed digits."""

    in_loop_filter: str
    original: str
    reconstructed: str


@dataclass(frozen=True, slots=True)
class PaperRate:
    """One column of the paper's Table 4."""

    label: str
    bpp: str
    psnr_db: str
    ssim: str


PAPER_ORIGINAL_KB = 781
PAPER_COMPRESSED_KB = 204
"""Table 1: float32, and 8 bits per weight."""

PAPER_PSNR_DB = {
    "B": PaperScores("34.23", "34.29", "34.27"),
    "C": PaperScores("33.28", "33.41", "33.39"),
    "D": PaperScores("33.02", "33.19", "33.18"),
    OVERALL: PaperScores("33.52", "33.73", "33.71"),
}
"""Table 2: mean of QP 32 and 37, VTM 1.0, all intra."""

PAPER_SSIM = {
    "B": PaperScores("0.9588", "0.9591", "0.9589"),
    "C": PaperScores("0.9612", "0.9653", "0.9641"),
    "D": PaperScores("0.9631", "0.9674", "0.9665"),
    OVERALL: PaperScores("0.9610", "0.9639", "0.9631"),
}
"""Table 3: as Table 2."""

PAPER_END_TO_END = (
    PaperRate("JPEG", "4.3", "28.244", "0.812"),
    PaperRate("CNN-AE", "4.3", "29.121", "0.8541"),
    PaperRate("reconstructed CNN-AE", "4.3", "29.103", "0.8534"),
)
"""Table 4: 1,000 images of CIFAR-10."""
