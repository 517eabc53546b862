"""The command score: how alike decoded pictures are to their originals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tqdm import tqdm
from tyro.conf import Positional

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli.common import Command, Outcome
from vvc_nnr.experiments.cli.kinds import BIT_DEPTH, NATURAL
from vvc_nnr.experiments.cli.pictures import RawFlags, VideoFlags, original_of, source_of
from vvc_nnr.sequences.metrics import (
    MS_SSIM_SIDE,
    PEAK_WORDS,
    SSIM_WINDOW,
    Peak,
    PictureScores,
    mean_scores,
    score_sequence,
)
from vvc_nnr.sequences.source import Source

_HEADS = ("PSNR Y", "Cb", "Cr", "YUV", "SSIM Y", "Cb", "Cr", "MS-SSIM Y", "Cb", "Cr")
_DIGITS = (4, 4, 4, 4, 6, 6, 6, 6, 6, 6)


@dataclass(frozen=True, kw_only=True)
class Score(Command):
    """Print PSNR, SSIM and MS-SSIM of decoded pictures against their originals, plane by plane.

    Attributes:
        original: The pictures before coding: .yuv, .y4m, video or image.
        decoded: The pictures to score, one or several files of as many pictures and the same size.
        psnr_peak: Peak of PSNR.
        per_picture: Print each picture's scores too.
        original_bit_depth: Bits per sample of an original that is raw .yuv, 8 to 16.
        original_stream: Of an original with several videos the one of this index among all streams (ffprobe's #0:N).
        raw: Raw .yuv files (else taken from a name like x_416x240_50fps_8bit_420.yuv).
        video: Video files.
    """

    original: Positional[Path]
    decoded: Positional[tuple[Path, ...]]
    psnr_peak: Peak = "vtm"
    per_picture: bool = False
    original_bit_depth: Annotated[int | None, BIT_DEPTH] = None
    original_stream: Annotated[int | None, NATURAL] = None
    raw: RawFlags = field(default_factory=RawFlags)
    video: VideoFlags = field(default_factory=VideoFlags)

    def run(self) -> Outcome:
        """Scores each file.

        Raises:
            InputError: If files do not fit together, or an option does not fit them.
            BitstreamError, UnsupportedError: If a file cannot be read.
        """
        if not self.decoded:
            raise InputError(f"{self.original}: there is nothing to hold against it; name decoded files behind it")
        original = original_of(self.original, self.raw, self.original_bit_depth, self.original_stream)
        sources = [source_of(path, self.raw, self.video) for path in self.decoded]
        found = {path: self._scores(original, each) for path, each in zip(self.decoded, sources, strict=True)}
        lines = []
        for path, pictures in found.items():
            if self.per_picture:
                lines += [(f"  picture {index}", each) for index, each in enumerate(pictures)]
            lines.append((str(path), mean_scores(pictures)))
        notes = [
            f"Means over pictures ({len(next(iter(found.values())))}); PSNR in dB, YUV: (6 Y + Cb + Cr) / 8.",
            f"PSNR peak: {PEAK_WORDS[self.psnr_peak]}.",
        ]
        notes += score_notes([mean_scores(each) for each in found.values()])
        text = "\n".join([score_table(lines), "", *notes])
        outside = {path: each.n_outside_edit_list for path, each in zip(self.decoded, sources, strict=True)}
        data = [self._data(path, pictures, outside[path]) for path, pictures in found.items()]
        return Outcome(text, {"original": str(self.original), "psnr_peak": self.psnr_peak, "decoded": data})

    def _scores(self, original: Source, decoded: Source) -> list[PictureScores]:
        scores = score_sequence(original, decoded, peak=self.psnr_peak)
        bar = tqdm(scores, desc=decoded.path.name, unit="picture", total=decoded.n_pictures, disable=None, leave=False)
        return list(bar)

    def _data(self, path: Path, pictures: Sequence[PictureScores], n_outside: int) -> dict[str, object]:
        each = {"pictures": [score_data(picture) for picture in pictures]} if self.per_picture else {}
        outside = {"n_pictures_outside_edit_list": n_outside} if n_outside else {}
        return {"file": str(path), "n_pictures": len(pictures), **score_data(mean_scores(pictures)), **outside, **each}


def score_table(rows: Sequence[tuple[str, PictureScores]]) -> str:
    """Names and scores as lines of text, below a line of heads."""
    width = max(len(name) for name, _ in rows)
    lines = [("", _HEADS), *((name, _cells(scores)) for name, scores in rows)]
    return "\n".join(f"{name:{width}}  {_columns(cells)}".rstrip() for name, cells in lines)


def score_notes(rows: Sequence[PictureScores]) -> list[str]:
    """Why scores are missing: SSIM of a plane that is there, MS-SSIM of luma."""
    missing = {
        ("SSIM", SSIM_WINDOW): any(
            psnr_db is not None and found is None
            for each in rows
            for psnr_db, found in zip((each.psnr_db.y, each.psnr_db.cb, each.psnr_db.cr), each.ssim, strict=True)
        ),
        ("MS-SSIM", MS_SSIM_SIDE): any(each.ms_ssim[0] is None for each in rows),
    }
    return [
        f"{name} '-': the plane is not there, or smaller than {side} samples either way."
        for (name, side), is_missing in missing.items()
        if is_missing
    ]


def score_data(scores: PictureScores) -> dict[str, object]:
    """The scores for --json, under the names of the columns of results."""
    return {**scores.by_column(), "psnr_yuv_db": scores.yuv_psnr_db}


def _cells(scores: PictureScores) -> tuple[str, ...]:
    psnr_y, cb, cr, *others = scores.by_column().values()
    values = (psnr_y, cb, cr, scores.yuv_psnr_db, *others)
    return tuple("-" if value is None else f"{value:.{n}f}" for value, n in zip(values, _DIGITS, strict=True))


def _columns(cells: Sequence[str]) -> str:
    return "  ".join(f"{cell:>{max(len(head), 8)}}" for cell, head in zip(cells, _HEADS, strict=True))
