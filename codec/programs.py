"""Other people's programs: finding one, a folder for its files, running it, and what it printed and cost."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import imageio_ffmpeg

from vvc_nnr.children import run_child
from vvc_nnr.errors import ExternalToolError, InputError, OutputError
from vvc_nnr.files import temporary_folder

_PICTURE = re.compile(
    r"POC\s+(-?[0-9]{1,12})\s(?:[^(]*?\bTId:\s*([0-9])\b)?[^(]*\(\s*(?:(\w+),\s*)?([IPBipb])-SLICE,"
    r"\s*(?:nQP\s+-?[0-9]{1,3}\s+)?QP\s+(-?[0-9]{1,3})\b[^)]*\)\s*([0-9]{1,15})\s+bits\b"
)
_PICTURE_BEGIN = re.compile(r"\s*(?:\w+ \[\w+\]:\s*|Layer\s+\d+\s+)?POC\s+[-+]?\d")

_SCRIPT_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class LoggedPicture:
    """One picture of an encoder's log.

    Attributes:
        poc: Picture order count; below 0 for pictures that lead an IDR picture in logs of HM and x265.
        slice_type: "I", "P" or "B".
        qp: The picture's QP.
        n_bits: Its size in bits: slices, parameter sets and delimiters with start codes, SEI not counted.
        nal_type: Type of its NAL units as the log names it, such as "IDR_W_RADL", "CRA" or "RASL"; empty if it does
            not.
        temporal_layer: Temporal sublayer, None if the log does not name it.
    """

    poc: int
    slice_type: str
    qp: int
    n_bits: int
    nal_type: str = ""
    temporal_layer: int | None = None


def parse_encoder_log(text: str) -> list[LoggedPicture]:
    """The pictures of a log of VTM, HM, vvencapp or libvvenc in the order they are printed, which is that of coding.

    They share the form of a picture's line; lines that do not begin so are passed over:

        POC    0 LId:  0 TId: 0 ( IDR_N_LP, I-SLICE, QP 37 )     398392 bits [Y 36.6308 dB ...     (VTM)
        POC    0 TId: 0 ( I-SLICE, nQP 37 QP 37 )     398392 bits [Y 36.6308 dB ...        (HM, early VTM)
        POC     0 TId: 0 (  IDR_N_LP, I-SLICE, QP 32)            23320 bits [Y 30.7334 dB ...     (vvenc)
        POC     0 TId: 0 (IDR_W_RADL, I-SLICE, QP 24, TF 1)      16360 bits [Y 40.1999 dB ...     (vvenc, filtered)

    Raises:
        InputError: If a line begins as that of a picture and does not go on so.
    """
    pictures = []
    for number, line in enumerate(text.splitlines(), start=1):
        if m := _PICTURE.search(line):
            layer = None if m[2] is None else int(m[2])
            pictures.append(LoggedPicture(int(m[1]), m[4].upper(), int(m[5]), int(m[6]), (m[3] or "").upper(), layer))
        elif _PICTURE_BEGIN.match(line):
            raise InputError(
                f"log line {number}: {line.strip()[:120]!r} is no whole picture of an encoder; must be as "
                "'POC 0 ... ( IDR_N_LP, I-SLICE, QP 37 ) 398392 bits'"
            )
    return pictures


def find_program(names: Sequence[str]) -> Path:
    """The executable of the first of these names that is on the PATH.

    Raises:
        ExternalToolError: If none is.
    """
    for name in names:
        if (found := shutil.which(name)) is not None:
            return Path(found).absolute()
    raise ExternalToolError(f"none of {', '.join(names)} is on the PATH: install it or add its folder")


def called_programs(executable: Path, names: Sequence[str]) -> list[Path]:
    """The programs that a script calls, so that a new build behind an old script is noticed; none of other files.

    Args:
        executable: A program, which may be a script.
        names: What programs may be called on the PATH; others are found by their path in the script.

    Raises:
        OSError: If the file cannot be read.
    """
    with executable.open("rb") as file:
        if file.read(2) != b"#!":
            return []
        text = file.read(_SCRIPT_BYTES).decode(errors="replace")
    words = dict.fromkeys(re.split(r"""[\s"'`;|&()<>=$]+""", text))
    found = (shutil.which(word) for word in words if "/" in word or word in names)
    return [Path(path) for path in found if path is not None and not os.path.samefile(path, executable)]


def ffmpeg_executable() -> str:
    """The ffmpeg of imageio-ffmpeg.

    Raises:
        ExternalToolError: If there is none.
    """
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (RuntimeError, OSError) as error:
        raise ExternalToolError(f"no ffmpeg binary: {error}") from error


@cache
def ffmpeg_versions(executable: str) -> str:
    """What an ffmpeg says of its version and those of its libraries.

    Raises:
        ExternalToolError: If it cannot be run.
    """
    try:
        return run_child([executable, "-version"]).stdout.decode(errors="replace")
    except OSError as error:
        raise ExternalToolError(f"no ffmpeg binary: {error}") from error


@contextmanager
def work_folder() -> Iterator[Path]:
    """A temporary folder; a full disk and the like become OutputError."""
    with temporary_folder() as folder:
        try:
            yield folder
        except OSError as error:
            reason = error.strerror or error
            place = error.filename or folder
            raise OutputError(f"{place}: {reason}; TMPDIR may name another place for temporary files") from error


def children_cpu_s() -> float:
    """Processor seconds of all programs that this process has run to their end, all their threads."""
    times = os.times()
    return times.children_user + times.children_system


def printed(command: list[str], folder: Path) -> str:
    """Runs a program to its end; returns what it printed.

    Args:
        command: The program and its arguments, all paths absolute.
        folder: Where it runs: VTM writes the networks that a stream carries into the folder where it is.

    Raises:
        ExternalToolError: If it cannot be started or fails.
    """
    name = Path(command[0]).name
    try:
        done = run_child(command, merge_output=True, folder=folder)
    except OSError as error:
        raise ExternalToolError(f"{name} cannot be started: {error.strerror}", command=command) from error
    log = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise ExternalToolError(f"{name} failed", command=command, exit_code=done.returncode, log=log)
    return log
