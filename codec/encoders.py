"""One way to any VVC encoder: libvvenc inside this package, or a program on the PATH."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, get_args

from vvc_nnr.codec.command_lines import EncoderTool, find_encoder
from vvc_nnr.codec.external import ExternalEncoder
from vvc_nnr.codec.libvvenc import EncodedSequence, VvcEncoder, VvcOptions, encoder_sha256, encoder_version
from vvc_nnr.errors import InputError
from vvc_nnr.sequences.frame import Frame

EncoderName: TypeAlias = Literal["libvvenc", "vtm", "vvencapp"]


class Encoder(Protocol):
    """What every VVC encoder here can do."""

    def encode(self, frames: Iterable[Frame], fps: Fraction = Fraction(30)) -> EncodedSequence:
        """Encodes pictures of one format as intra pictures."""
        ...


def make_encoder(
    name: EncoderName, options: VvcOptions, *, config: Path | None = None, cache: Path | None = None
) -> Encoder:
    """The encoder of that name.

    Args:
        name: "libvvenc", "vtm" or "vvencapp".
        options: What to encode with.
        config: VTM's configuration file; the others take none.
        cache: Folder of finished encodings.

    Raises:
        InputError: If the name is unknown, or there is a configuration file too many or too few.
        ExternalToolError: If the program is not on the PATH.
    """
    if name != "libvvenc":
        return ExternalEncoder(options, _tool(name), config, cache)
    if config is not None:
        raise InputError(f"libvvenc takes no configuration file, got {config}")
    return VvcEncoder(options, cache)


def encoder_identity(name: EncoderName, config: Path | None = None) -> str:
    """What tells one encoder, and its configuration, from another: rows of two encoders must not mix.

    Raises:
        InputError: If the name is unknown or the configuration file cannot be read.
        ExternalToolError: If the program is not on the PATH.
    """
    if name == "libvvenc":
        return f"{encoder_version()} {encoder_sha256()[:16]}"
    parts = [find_encoder(_tool(name)), *([config] if config is not None else [])]
    try:
        digests = [hashlib.sha256(part.read_bytes()).hexdigest()[:16] for part in parts]
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from error
    return " ".join([name, *digests])


def _tool(name: str) -> EncoderTool:
    for tool in get_args(EncoderTool):
        if name == tool:
            return tool  # type: ignore[no-any-return]
    raise InputError(f"encoder {name!r}: must be one of {', '.join(get_args(EncoderName))}")
