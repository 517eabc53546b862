"""What the commands share: their outcome, and options that several of them take."""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, get_args

import platformdirs

from vvc_nnr.codec.encoders import EncoderName
from vvc_nnr.codec.sequence import Sao
from vvc_nnr.errors import InputError
from vvc_nnr.filters.inference.backend import BackendName, Precision
from vvc_nnr.options import MAX_THREADS
from vvc_nnr.sequences.frame import ChromaFormat, check_rate
from vvc_nnr.sequences.source import Source, open_source, open_sources

if TYPE_CHECKING:
    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = argparse._SubParsersAction  # not subscriptable at run time

MAX_SIDE = 1 << 16
MAX_COUNT = (1 << 31) - 1
_RATE = re.compile(
    r"\+?(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:[eE][+-]?[0-9]{1,4})?|[0-9]{1,20}/[0-9]{1,20}"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command found, for a person and for a script.

    Attributes:
        text: For standard output.
        data: The same for --json.
    """

    text: str
    data: dict[str, Any]


def add_command(
    commands: Commands, name: str, summary: str, example: str, run: Callable[[argparse.Namespace], Outcome]
) -> argparse.ArgumentParser:
    """Adds a command with an example in its help and the option --json."""
    parser = commands.add_parser(name, help=summary, **_texts(summary, example))
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)
    return parser


def add_group(commands: Commands, name: str, summary: str, example: str) -> Commands:
    """Adds a command that is followed by another one, and returns the place for those."""
    parser = commands.add_parser(name, help=summary, **_texts(summary, example))
    return parser.add_subparsers(dest=f"{name}_kind", required=True, metavar="kind")


def json_text(data: Mapping[str, Any]) -> str:
    """The data as JSON; infinity and NaN, which JSON lacks, become the texts "inf", "-inf" and "nan"."""
    return json.dumps(_without_infinity(data), indent=2, allow_nan=False)


def add_raw_options(parser: argparse.ArgumentParser) -> None:
    """Options for pictures whose file does not say what it holds (.yuv), or holds more or less than it should."""
    group = parser.add_argument_group("raw .yuv files (else taken from a name like x_416x240_50fps_8bit_420.yuv)")
    group.add_argument("--size", type=size, metavar="WxH", help="luma samples per row and rows")
    group.add_argument("--bit-depth", type=bit_depth, metavar="B", help="8 to 16")
    group.add_argument("--chroma-format", choices=get_args(ChromaFormat), help="400, 420, 422 or 444")
    group.add_argument("--fps", type=fraction, metavar="F", help="pictures per second")
    videos = parser.add_argument_group("video files")
    videos.add_argument("--stream", type=natural, metavar="N", help="of several videos the one at this place, from 0")
    videos.add_argument(
        "--allow-damaged", action="store_true", help="take damaged pictures as FFmpeg conceals them; results say so"
    )


def add_encoder_options(parser: argparse.ArgumentParser) -> None:
    """Options for the choice of the VVC encoder."""
    parser.add_argument(
        "--encoder",
        choices=get_args(EncoderName),
        default="libvvenc",
        help="libvvenc comes with this package; VTM's EncoderApp and vvencapp are looked for on the PATH",
    )
    parser.add_argument(
        "--sao",
        choices=get_args(Sao),
        default="on",
        help="SAO in the filter sets that have it: on, or as libvvenc's preset has it (faster: off)",
    )
    parser.add_argument("--vtm-config", type=Path, metavar="FILE", help="VTM's cfg/encoder_intra_vtm.cfg")


def add_inference_options(parser: argparse.ArgumentParser) -> None:
    """Options for what computes the networks."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the networks run")
    parser.add_argument(
        "--backend",
        choices=("auto", *get_args(BackendName)),
        default="auto",
        help="what computes the networks; auto: the fastest that is installed",
    )
    parser.add_argument(
        "--precision", choices=get_args(Precision), default="float32", help="what the networks are computed in"
    )


def source_of(path: Path, arguments: argparse.Namespace) -> Source:
    """The sequence of a file under the raw options."""
    width, height = arguments.size or (None, None)
    return open_source(
        path,
        width=width,
        height=height,
        bit_depth=arguments.bit_depth,
        chroma_format=arguments.chroma_format,
        fps=arguments.fps,
        stream=arguments.stream,
        allow_damaged=arguments.allow_damaged,
    )


def sources_of(path: Path, arguments: argparse.Namespace) -> list[Source]:
    """The sequences of a folder, or of one file, under the raw options."""
    width, height = arguments.size or (None, None)
    return open_sources(
        path,
        width=width,
        height=height,
        bit_depth=arguments.bit_depth,
        chroma_format=arguments.chroma_format,
        fps=arguments.fps,
        stream=arguments.stream,
        allow_damaged=arguments.allow_damaged,
    )


def cache_folder() -> Path:
    """The user's cache folder for finished encodings."""
    return Path(platformdirs.user_cache_dir("vvc-nnr")) / "encodings"


def size(text: str) -> tuple[int, int]:
    """Width and height of a text like 416x240."""
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise argparse.ArgumentTypeError(f"{_short(text)} is no size like 416x240")
    return width, height


def fraction(text: str) -> Fraction:
    """A picture rate such as 50, 29.97 or 30000/1001."""
    try:
        if not _RATE.fullmatch(text):
            raise ValueError
        value = Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(f"{_short(text)} is no number such as 50 or 30000/1001") from error
    try:
        check_rate(value)
    except InputError as error:
        raise argparse.ArgumentTypeError(f"{_short(text)}: {error}") from error
    return value


def qp(text: str) -> int:
    """A quantisation parameter, 0 to 63."""
    return _whole_number(text, 0, 63)


def qp_list(text: str) -> list[int]:
    """QPs of a text like 22,27,32,37."""
    return [qp(word) for word in text.split(",")]


def bit_depth(text: str) -> int:
    """Bits per sample, 8 to 16."""
    return _whole_number(text, 8, 16)


def weight_bits(text: str) -> int:
    """Bits per weight, 1 to 16."""
    return _whole_number(text, 1, 16)


def positive(text: str) -> int:
    """A count of at least 1."""
    return _whole_number(text, 1, MAX_COUNT)


def natural(text: str) -> int:
    """A count of at least 0."""
    return _whole_number(text, 0, MAX_COUNT)


def threads(text: str) -> int:
    """A number of threads."""
    return _whole_number(text, 1, MAX_THREADS)


def whole_number(text: str) -> int:
    """A whole number, negative ones too; what takes it has limits of its own."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"{_short(text)} must be a whole number of at most 18 digits")
    return int(text)


def real(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{_short(text)} is no number") from error
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{_short(text)} must be finite")
    return value


def path(text: str) -> Path:
    """The name of a file or folder."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{_short(text)} is no name of a file or folder")
    if text == "-":
        raise argparse.ArgumentTypeError("'-' is for standard output alone; ./- is a file or folder of that name")
    return Path(text)


def output_path(text: str) -> Path:
    """The name of a file to write; - is standard output."""
    return Path("/dev/stdout") if text == "-" else path(text)


def seed(text: str) -> int:
    """A whole number that every generator of random numbers here takes."""
    return _whole_number(text, 0, (1 << 63) - 1)


def positive_real(text: str) -> float:
    """A finite number above 0."""
    value = real(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{_short(text)} must be above 0 and finite")
    return value


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{_short(text)} must be a number from 0 to 1")
    return value


def _whole_number(text: str, minimum: int, maximum: int) -> int:
    wanted = f"at least {minimum}" if maximum == MAX_COUNT else f"{minimum} to {maximum}"
    # At most 20 digits: Python refuses to read very long numbers with an error of its own.
    if not re.fullmatch(r"[0-9]{1,20}", text) or not minimum <= int(text) <= maximum:
        large = f" and at most {MAX_COUNT}" if maximum == MAX_COUNT and len(text) > 9 else ""
        raise argparse.ArgumentTypeError(f"{_short(text)} must be a whole number, {wanted}{large}")
    return int(text)


def _short(text: str) -> str:
    """What was typed, in quotes, as much of it as a line bears."""
    return repr(text[:40])


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps an example on its line, and shows a default only where there is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_default = action.default not in (None, False, argparse.SUPPRESS)
        return super()._get_help_string(action) if has_default else action.help


class _Texts(TypedDict):
    description: str
    epilog: str
    formatter_class: type[argparse.HelpFormatter]


def _texts(summary: str, example: str) -> _Texts:
    return {
        "description": summary[0].upper() + summary[1:] + ".",
        "epilog": f"example: {example}",
        "formatter_class": _Help,
    }


def _without_infinity(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return str(float(value))
        case dict():
            return {key: _without_infinity(each) for key, each in value.items()}
        case list() | tuple():
            return [_without_infinity(each) for each in value]
        case _:
            return value
