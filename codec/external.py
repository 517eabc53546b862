"""VVC by programs on the PATH: VTM, vvencapp and vvdecapp in the place of the built-in encoder and decoder.

Pictures go to the encoder as 10-bit 4:2:0 raw video, and come back from the decoder as .y4m. Where a decoder
writes no .y4m, run it yourself and give `read_decoded` its file.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import get_args

from vvc_nnr.codec.cache import EncodingCache
from vvc_nnr.codec.command_lines import (
    DecoderTool,
    EncoderJob,
    EncoderTool,
    decoder_arguments,
    find_decoder,
    find_encoder,
    vtm_arguments,
    vvenc_arguments,
)
from vvc_nnr.codec.encoder_log import LoggedPicture, parse_encoder_log
from vvc_nnr.codec.nal import picture_units
from vvc_nnr.codec.pictures import check_encodable, coded_picture
from vvc_nnr.codec.vvc import CodedPicture, EncodedSequence, VvcOptions
from vvc_nnr.errors import BitstreamError, ExternalToolError, InputError, UnsupportedError
from vvc_nnr.files import read_bytes
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.y4m import count_y4m_pictures, read_y4m, read_y4m_header
from vvc_nnr.sequences.yuv import count_yuv_pictures, read_yuv

_MAX_PICTURES: dict[EncoderTool, int | None] = {"vtm": None, "vvencapp": 4}
"""Pictures per process: vvenc may write nothing at all when it gets more than a few intra pictures."""

_VERSION = re.compile(r"(?:VTM Encoder Version|VVC Encoder ver\.?)\s*\[?[\w.-]+")


@dataclass(frozen=True, slots=True)
class _Run:
    stream: bytes
    log: str
    pictures: tuple[LoggedPicture, ...]
    encode_s: float
    cached: bool


class ExternalEncoder:
    """Encodes sequences with a program on the PATH; used like `VvcEncoder`.

    Args:
        options: What to encode with. VTM has no presets and one thread: those two options do not reach it.
        tool: "vtm" (EncoderApp or EncoderAppStatic) or "vvencapp".
        config: VTM only: the configuration file, normally cfg/encoder_intra_vtm.cfg of its source tree.
        cache: Folder of finished encodings, None to encode every time.

    Raises:
        InputError: If VTM has no configuration file, or vvencapp is given one.
        ExternalToolError: If the program is not on the PATH.
    """

    def __init__(
        self,
        options: VvcOptions,
        tool: EncoderTool = "vtm",
        config: Path | None = None,
        cache: Path | None = None,
    ) -> None:
        if tool not in get_args(EncoderTool):
            raise InputError(f"encoder {tool!r}: must be one of {', '.join(get_args(EncoderTool))}")
        _check_config(tool, config)
        self.options = options
        self.tool = tool
        self.executable = find_encoder(tool)
        self._config = config
        self._cache = EncodingCache(cache) if cache is not None else None

    def encode(self, frames: Iterable[Frame], fps: Fraction = Fraction(30)) -> EncodedSequence:
        """Encodes 4:0:0 or 4:2:0 pictures of 8 to 10 bit as 10-bit 4:2:0 intra pictures, any size.

        Padding is as in `VvcEncoder.encode`. The pictures' MD5 SEI are checked by the decoder.

        Raises:
            InputError: If there is no picture, or the pictures differ in format.
            UnsupportedError: For 4:2:2, 4:4:4 and more than 10 bit.
            ExternalToolError: If the program fails, writes nothing, or codes anything else than asked.
        """
        iterator = iter(frames)
        first = next(iterator, None)
        if first is None:
            raise InputError("no picture to encode")
        source = first.format(fps)
        iterator = itertools.chain([first], iterator)
        runs = []
        while (run := self._next_run(iterator, source)) is not None:
            runs.append(run)
        return self._sequence(runs, source)

    def _sequence(self, runs: list[_Run], source: VideoFormat) -> EncodedSequence:
        logged = [picture for run in runs for picture in run.pictures]
        version = _VERSION.search(runs[0].log)
        return EncodedSequence(
            stream=b"".join(run.stream for run in runs),
            pictures=tuple(CodedPicture(poc, p.qp, p.n_bits) for poc, p in enumerate(logged)),
            format=source,
            encoder=version[0] if version else self.executable.name,
            encode_s=sum(run.encode_s for run in runs),
            cached=all(run.cached for run in runs),
        )

    def _next_run(self, frames: Iterator[Frame], source: VideoFormat) -> _Run | None:
        """Encodes as many pictures as one process takes; None if there are none left."""
        with _work_folder() as folder:
            raw = folder / "in.yuv"
            batch = itertools.islice(frames, _MAX_PICTURES[self.tool])
            n_pictures, size, digest = _write_raw(raw, batch, source)
            if n_pictures == 0:
                return None
            job = EncoderJob(raw, folder / "out.266", *size, source.fps, n_pictures)
            key = self._key(job, digest)
            if self._cache is not None and (found := self._cache.get(key)) is not None:
                stream, log, encode_s = found
                return _Run(stream, log, tuple(parse_encoder_log(log)), encode_s, True)
            run = _encode([str(self.executable), *self._arguments(job)], job, self.options.qp)
            if self._cache is not None:
                self._cache.put(key, run.stream, run.log, run.encode_s)
            return run

    def _arguments(self, job: EncoderJob) -> list[str]:
        if self._config is not None:
            return vtm_arguments(self.options, self._config, job)
        return vvenc_arguments(self.options, job)

    def _key(self, job: EncoderJob, digest: str) -> str:
        """Hash of all that determines the bytes: program, options, configuration file and pictures."""
        arguments = [a for a in self._arguments(job) if a not in (str(job.raw), str(job.target))]
        config = self._config.read_bytes() if self._config is not None else b""
        parts = (self.executable.read_bytes(), "\0".join(arguments).encode(), config, digest.encode())
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


class ExternalDecoder:
    """Decodes streams with a program on the PATH; `decode` is used like `decode_vvc`.

    Args:
        tool: "vtm" (DecoderApp or DecoderAppStatic, a version that writes .y4m) or "vvdecapp".

    Raises:
        InputError: If there is no such tool.
        ExternalToolError: If the program is not on the PATH.
    """

    def __init__(self, tool: DecoderTool = "vvdecapp") -> None:
        if tool not in get_args(DecoderTool):
            raise InputError(f"decoder {tool!r}: must be one of {', '.join(get_args(DecoderTool))}")
        self.tool = tool
        self.executable = find_decoder(tool)

    def decode(self, stream: bytes | Path, *, width: int | None = None, height: int | None = None) -> Iterator[Frame]:
        """Yields the decoded pictures, one at a time, at the stream's own bit depth.

        The program checks the MD5 SEI.

        Args:
            stream: The byte stream, or the path of a file that holds it.
            width: Crops to this luma width, for pictures that were padded before encoding; None: as coded.
            height: Crops to this luma height; None: as coded.

        Raises:
            InputError: If the file cannot be read.
            BitstreamError: If the stream holds no picture, or pictures are missing in the output.
            UnsupportedError: If the stream has more than one layer.
            ExternalToolError: If the program fails or writes nothing.
        """
        data = read_bytes(stream) if isinstance(stream, Path) else stream
        n_pictures = len(picture_units(data))
        if n_pictures == 0:
            raise BitstreamError("the stream holds no picture")
        with _work_folder() as folder:
            n_decoded = 0
            for frame in read_y4m(self._decoded_file(data, folder)):
                n_decoded += 1
                yield frame.cropped(width or frame.width, height or frame.height)
            if n_decoded != n_pictures:
                raise BitstreamError(f"{n_decoded} of {n_pictures} pictures decoded: the stream is damaged")

    def _decoded_file(self, data: bytes, folder: Path) -> Path:
        coded, decoded = folder / "in.266", folder / "out.y4m"
        coded.write_bytes(data)
        command = [str(self.executable), *decoder_arguments(self.tool, coded, decoded)]
        log = _printed(command)
        if not decoded.exists() or decoded.stat().st_size == 0:
            raise ExternalToolError(f"{self.executable.name} wrote nothing", command=command, exit_code=0, log=log)
        return decoded


def read_decoded(path: Path, format: VideoFormat, n_pictures: int) -> Iterator[Frame]:
    """Yields the pictures that some decoder wrote to a .yuv or .y4m file, once the file fits the sequence.

    Args:
        path: The file; every suffix but .y4m is read as raw video.
        format: Size, chroma format and, for raw video, bit depth of the pictures.
        n_pictures: How many there must be.

    Raises:
        InputError: If the file is missing, or its size, chroma format or number of pictures is another.
        BitstreamError: If a .y4m file is damaged.
        UnsupportedError: If a .y4m file is of a kind that is not read.
    """
    is_y4m = path.suffix.lower() == ".y4m"
    got = read_y4m_header(path) if is_y4m else format
    if (got.width, got.height, got.chroma_format) != (format.width, format.height, format.chroma_format):
        found, wanted = (f"{f.width}x{f.height} {f.chroma_format}" for f in (got, format))
        raise InputError(f"{path}: holds {found} pictures, the sequence has {wanted}")
    n_found = count_y4m_pictures(path) if is_y4m else count_yuv_pictures(path, format)
    if n_found != n_pictures:
        raise InputError(f"{path}: holds {n_found} pictures, the sequence has {n_pictures}")
    return read_y4m(path) if is_y4m else read_yuv(path, format)


def _check_config(tool: EncoderTool, config: Path | None) -> None:
    if tool == "vtm" and config is None:
        raise InputError("VTM needs its configuration file: name cfg/encoder_intra_vtm.cfg of your VTM")
    if tool != "vtm" and config is not None:
        raise InputError(f"{tool} takes no configuration file, got {config}")
    if config is not None and not config.is_file():
        raise InputError(f"{config}: no such configuration file")


@contextmanager
def _work_folder() -> Iterator[Path]:
    """A temporary folder; a full disk and the like become InputError."""
    try:
        with tempfile.TemporaryDirectory(prefix="vvc_nnr_") as folder:
            yield Path(folder)
    except OSError as error:
        place = error.filename or tempfile.gettempdir()
        raise InputError(f"{place}: {error.strerror or error}") from error


def _write_raw(path: Path, frames: Iterable[Frame], source: VideoFormat) -> tuple[int, tuple[int, int], str]:
    """Writes the pictures as the encoder gets them; returns their number, (width, height) and a hash."""
    n_pictures, size, digest = 0, (0, 0), hashlib.sha256()
    with path.open("wb") as file:
        for frame in frames:
            check_encodable(frame, source)
            coded = coded_picture(frame)
            samples = coded.tobytes()
            digest.update(samples)
            file.write(samples)
            n_pictures, size = n_pictures + 1, (coded.width, coded.height)
    return n_pictures, size, digest.hexdigest()


def _encode(command: list[str], job: EncoderJob, qp: int) -> _Run:
    """Runs an encoder; raises ExternalToolError unless it succeeds and did what it was asked."""
    start_s = time.perf_counter()
    log = _printed(command)
    encode_s = time.perf_counter() - start_s
    stream = job.target.read_bytes() if job.target.exists() else b""
    run = _Run(stream, log, tuple(parse_encoder_log(log)), encode_s, False)
    problem = _problem(run, job.n_pictures, qp)
    if problem is not None:
        name = Path(command[0]).name
        raise ExternalToolError(f"{name}: {problem}", command=command, exit_code=0, log=log)
    return run


def _printed(command: list[str]) -> str:
    """Runs a program to its end; returns what it printed."""
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
    except OSError as error:
        raise ExternalToolError(f"{name} cannot be started: {error.strerror}", command=command) from error
    log = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise ExternalToolError(f"{name} failed", command=command, exit_code=done.returncode, log=log)
    return log


def _problem(run: _Run, n_pictures: int, qp: int) -> str | None:
    """What is wrong with an encoder run that reported success, None if nothing is."""
    if not run.stream:
        return "it wrote nothing"
    if len(run.pictures) != n_pictures:
        return f"{len(run.pictures)} of {n_pictures} pictures in its log"
    if any(p.slice_type != "I" for p in run.pictures):
        return "it coded inter pictures: give it an all-intra configuration"
    if any(p.qp != qp for p in run.pictures):
        return f"coded at QP {[p.qp for p in run.pictures]}, asked for {qp}"
    try:
        units = picture_units(run.stream)
    except (BitstreamError, UnsupportedError) as error:
        return f"what it wrote is no VVC stream: {error}"
    if len(units) != n_pictures:
        return f"{len(units)} of {n_pictures} pictures in its stream"
    return None if all(unit.md5 for unit in units) else "a picture without an MD5 SEI"
