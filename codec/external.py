"""VVC by programs on the PATH: VTM and vvencapp in the place of the built-in encoder.

Pictures go to the encoder as 10-bit 4:2:0 raw video.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import get_args

from vvc_nnr.codec.cache import EncoderRun, EncodingCache
from vvc_nnr.codec.command_lines import (
    EncoderJob,
    EncoderTool,
    find_encoder,
    vtm_arguments,
    vvenc_arguments,
)
from vvc_nnr.codec.encoder_log import parse_encoder_log
from vvc_nnr.codec.libvvenc import CodedPicture, EncodedSequence, VvcOptions, total_cpu_s
from vvc_nnr.codec.nal import picture_units
from vvc_nnr.codec.programs import children_cpu_s, printed, work_folder
from vvc_nnr.codec.sequence import check_encodable, coded_picture
from vvc_nnr.errors import BitstreamError, ExternalToolError, InputError, UnsupportedError
from vvc_nnr.sequences.frame import Frame, VideoFormat

_MAX_PICTURES: dict[EncoderTool, int | None] = {"vtm": None, "vvencapp": 4}
"""Pictures per process: vvenc may write nothing at all when it gets more than a few intra pictures."""

_VERSION = re.compile(r"(?:VTM Encoder Version|VVC Encoder ver\.?)\s*\[?[\w.-]+")


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
        runs: list[EncoderRun] = []
        n_cached = 0
        while (found := self._next_run(iterator, source)) is not None:
            run, was_cached = found
            runs.append(run)
            n_cached += was_cached
        return self._sequence(runs, source, cached=n_cached == len(runs))

    def _sequence(self, runs: list[EncoderRun], source: VideoFormat, *, cached: bool) -> EncodedSequence:
        logged = [picture for run in runs for picture in parse_encoder_log(run.log)]
        version = _VERSION.search(runs[0].log)
        return EncodedSequence(
            stream=b"".join(run.stream for run in runs),
            pictures=tuple(CodedPicture(poc, p.qp, p.n_bits) for poc, p in enumerate(logged)),
            format=source,
            encoder=version[0] if version else self.executable.name,
            encode_s=sum(run.encode_s for run in runs),
            cached=cached,
            encode_cpu_s=total_cpu_s(run.encode_cpu_s for run in runs),
        )

    def _next_run(self, frames: Iterator[Frame], source: VideoFormat) -> tuple[EncoderRun, bool] | None:
        """The run over as many pictures as one process takes, and whether it is an old one; None if none are left."""
        with work_folder() as folder:
            raw = folder / "in.yuv"
            batch = itertools.islice(frames, _MAX_PICTURES[self.tool])
            n_pictures, size, digest = _write_raw(raw, batch, source)
            if n_pictures == 0:
                return None
            job = EncoderJob(raw, folder / "out.266", *size, source.fps, n_pictures)
            key = self._key(job, digest)
            if self._cache is not None and (found := self._cache.get(key)) is not None:
                return found, True
            run = _encode([str(self.executable), *self._arguments(job)], job, self.options.qp)
            if self._cache is not None:
                self._cache.put(key, run)
            return run, False

    def _arguments(self, job: EncoderJob) -> list[str]:
        if self._config is not None:
            return vtm_arguments(self.options, self._config, job)
        return vvenc_arguments(self.options, job)

    def _key(self, job: EncoderJob, digest: str) -> str:
        """Hash of all that determines the bytes: program, options, configuration file and pictures."""
        arguments = [a for a in self._arguments(job) if a not in (str(job.raw), str(job.target))]
        config = self._config.read_bytes() if self._config is not None else b""
        parts = (
            self.executable.read_bytes(),
            "\0".join(arguments).encode("utf-8", "surrogateescape"),
            config,
            digest.encode(),
        )
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _check_config(tool: EncoderTool, config: Path | None) -> None:
    if tool == "vtm" and config is None:
        raise InputError("VTM needs its configuration file: name cfg/encoder_intra_vtm.cfg of your VTM")
    if tool != "vtm" and config is not None:
        raise InputError(f"{tool} takes no configuration file, got {config}")
    if config is not None and not config.is_file():
        raise InputError(f"{config}: no such configuration file")


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


def _encode(command: list[str], job: EncoderJob, qp: int) -> EncoderRun:
    """Runs an encoder; raises ExternalToolError unless it succeeds and did what it was asked."""
    start_s, start_cpu_s = time.perf_counter(), children_cpu_s()
    log = printed(command)
    encode_s, cpu_s = time.perf_counter() - start_s, children_cpu_s() - start_cpu_s
    stream = job.target.read_bytes() if job.target.exists() else b""
    run = EncoderRun(stream, log, encode_s, cpu_s)
    problem = _problem(run, job.n_pictures, qp)
    if problem is not None:
        name = Path(command[0]).name
        raise ExternalToolError(f"{name}: {problem}", command=command, exit_code=0, log=log)
    return run


def _problem(run: EncoderRun, n_pictures: int, qp: int) -> str | None:
    """What is wrong with an encoder run that reported success, None if nothing is."""
    if not run.stream:
        return "it wrote nothing"
    pictures = parse_encoder_log(run.log)
    if len(pictures) != n_pictures:
        return f"{len(pictures)} of {n_pictures} pictures in its log"
    if any(p.slice_type != "I" for p in pictures):
        return "it coded inter pictures: give it an all-intra configuration"
    if any(p.qp != qp for p in pictures):
        return f"coded at QP {[p.qp for p in pictures]}, asked for {qp}"
    try:
        units = picture_units(run.stream)
    except (BitstreamError, UnsupportedError) as error:
        return f"what it wrote is no VVC stream: {error}"
    if len(units) != n_pictures:
        return f"{len(units)} of {n_pictures} pictures in its stream"
    return None if all(unit.md5 for unit in units) else "a picture without an MD5 SEI"
