"""Options of every command that reads pictures, encodes or filters them; and the command fetch, which brings some."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from tyro.conf import Positional, UseAppendAction

from vvc_nnr.codec.encoders import EncoderName
from vvc_nnr.codec.sequence import Sao
from vvc_nnr.experiments.cli.common import Command, Outcome
from vvc_nnr.experiments.cli.flags import HIDDEN, Flags
from vvc_nnr.experiments.cli.kinds import BIT_DEPTH, FOLDER, NATURAL, POSITIVE, SIZE, Texts, door, share_of_work
from vvc_nnr.filters.inference.choice import BackendName, Precision
from vvc_nnr.sequences.download import fetch_cifar10, fetch_kodak
from vvc_nnr.sequences.frame import ChromaFormat
from vvc_nnr.sequences.source import Source, open_source, open_sources
from vvc_nnr.units import ExecutorOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFlags:
    """Raw .yuv files (else taken from a name like x_416x240_50fps_8bit_420.yuv).

    Attributes:
        size: Luma samples per row and rows.
        bit_depth: Bits per sample, 8 to 16.
        chroma_format: Chroma format.
        fps: Pictures per second.
    """

    size: Annotated[tuple[int, int] | None, SIZE] = None
    bit_depth: Annotated[int | None, BIT_DEPTH] = None
    chroma_format: ChromaFormat | None = None
    fps: Fraction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFlags:
    """Video files.

    Attributes:
        stream: Of several videos in the file the one of this index among all streams, as ffprobe shows it (#0:N).
        allow_damaged: Take damaged pictures as FFmpeg conceals them; results say so.
    """

    stream: Annotated[int | None, NATURAL] = None
    allow_damaged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderFlags:
    """The VVC encoder.

    Attributes:
        encoder: libvvenc comes with this package; VTM's EncoderApp and vvencapp are looked for on the PATH.
        sao: SAO in the filter sets that have it: on, or as libvvenc's preset has it (faster: off).
        vtm_config: VTM's cfg/encoder_intra_vtm.cfg; given again, further files behind it.
        encoder_argument: A further argument for VTM or vvencapp, as in --encoder-argument=--LMCSEnable=0.
    """

    encoder: EncoderName = "libvvenc"
    sao: Sao = "on"
    vtm_config: UseAppendAction[tuple[Path, ...]] = ()
    encoder_argument: Texts = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceFlags:
    """What computes the networks.

    Attributes:
        device: Where the networks run.
        backend: What computes them; auto: the fastest that is installed.
        precision: What they are computed in; default: as a stream says of its filter, else float32.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    backend: Literal["auto"] | BackendName = "auto"
    precision: Precision | None = None


_PLACES = {"workers": POSITIVE, "dask": door(str, "ADDRESS"), "slurm": door(str, "NAME=VALUE,...")}
_SHARE = door(share_of_work, "I/N", lambda shard: "/".join(map(str, shard)))
EXECUTION_FLAGS = Flags(ExecutorOptions, kinds={**_PLACES, "shard": _SHARE})
TRAINING_EXECUTION_FLAGS = Flags(ExecutorOptions, kinds={**_PLACES, "shard": HIDDEN})
"""A training makes all of its pairs in one run."""


def source_of(path: Path, raw: RawFlags, video: VideoFlags) -> Source:
    """The sequence of a file.

    Raises:
        InputError: If there is no such file, or its format is not known or not as the options have it.
        BitstreamError, UnsupportedError: If it cannot be read.
    """
    return open_source(path, **_named(raw, video))


def original_of(path: Path, raw: RawFlags, bit_depth: int | None, stream: int | None) -> Source:
    """The original of a decoded file: of its size and chroma format, at a bit depth and a place of its own.

    Raises:
        InputError: As `source_of`.
        BitstreamError, UnsupportedError: If it cannot be read.
    """
    width, height = raw.size or (None, None)
    return open_source(
        path, width=width, height=height, bit_depth=bit_depth, chroma_format=raw.chroma_format, stream=stream
    )


def sources_of(path: Path, raw: RawFlags, video: VideoFlags) -> list[Source]:
    """The sequences of a folder, or of one file; raises as `source_of`."""
    return open_sources(path, **_named(raw, video))


def cache_folder() -> Path:
    """The user's cache folder for finished encodings."""
    return Path(platformdirs.user_cache_dir("vvc-nnr")) / "encodings"


def _named(raw: RawFlags, video: VideoFlags) -> dict[str, Any]:
    width, height = raw.size or (None, None)
    return {
        "width": width,
        "height": height,
        "bit_depth": raw.bit_depth,
        "chroma_format": raw.chroma_format,
        "fps": raw.fps,
        "stream": video.stream,
        "allow_damaged": video.allow_damaged,
    }


@dataclass(frozen=True, kw_only=True)
class Fetch(Command):
    """Download public test pictures, checked by SHA-256; goes on where it was cut off.

    Attributes:
        what: CIFAR-10 (170 MB) or the 24 Kodak photographs (15 MB).
        folder: Where the files go.
    """

    what: Positional[Literal["cifar10", "kodak"]]
    folder: Positional[Annotated[Path, FOLDER]]

    def run(self) -> Outcome:
        """Fetches what is not there yet.

        Raises:
            InputError: If the folder cannot be written, or the files not be had.
        """
        if self.what == "cifar10":
            files = [fetch_cifar10(self.folder)]
            use = f"vvc-nnr experiment end-to-end --images {files[0]} --count 1000 --out results/"
        else:
            files = fetch_kodak(self.folder)
            use = f"vvc-nnr experiment tool-by-tool --sequences {self.folder} --out results/"
        n_bytes = sum(file.stat().st_size for file in files)
        text = f"{self.folder}: {len(files)} files, {n_bytes} bytes\nuse: {use}"
        return Outcome(text, {"files": [str(file) for file in files], "n_bytes": n_bytes})
