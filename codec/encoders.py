"""Which VVC encoders there are, and one way to any of them: libvvenc, or a program on the PATH."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from vvc_nnr.codec.cache import EncodingCache
from vvc_nnr.codec.external import VTM, VVENCAPP, ExternalEncoder, ExternalRow
from vvc_nnr.codec.libvvenc import Libvvenc
from vvc_nnr.codec.sequence import EncodedSequence, EncoderProgram, VvcOptions, encode
from vvc_nnr.errors import InputError
from vvc_nnr.sequences.frame import Frame

EncoderName: TypeAlias = Literal["libvvenc", "vtm", "vvencapp"]

_EXTERNAL: dict[EncoderName, ExternalRow] = {"vtm": VTM, "vvencapp": VVENCAPP}


class VvcEncoder:
    """Encodes sequences with one encoder and one set of options.

    Args:
        options: What to encode with.
        cache: Folder of finished encodings, None to encode every time.
        encoder: "libvvenc", which comes with this package, or a program on the PATH: "vtm" or "vvencapp".
        config: VTM's configuration file, normally cfg/encoder_intra_vtm.cfg of its source tree; the others take none.

    Raises:
        InputError: If there is no such encoder, or there is a configuration file too many or too few.
        ExternalToolError: If the program is not on the PATH.
    """

    def __init__(
        self,
        options: VvcOptions,
        cache: Path | None = None,
        *,
        encoder: EncoderName = "libvvenc",
        config: Path | None = None,
    ) -> None:
        self.options = options
        self._program = _program(encoder, config)
        self._cache = EncodingCache(cache) if cache is not None else None

    def encode(self, frames: Iterable[Frame], fps: Fraction = Fraction(30)) -> EncodedSequence:
        """Encodes 4:0:0 or 4:2:0 pictures of 8 to 10 bit as 10-bit 4:2:0 intra pictures, any size.

        Sizes are padded up to even numbers and at least 16; the decoder's output is cropped by `decode_vvc` when it
        is told the source's size. A 4:0:0 picture gets flat chroma.

        Raises:
            InputError: If there is no picture, or the pictures differ in format.
            UnsupportedError: For 4:2:2, 4:4:4 and more than 10 bit.
            ExternalToolError: If the encoder fails, writes nothing, or codes anything else than asked.
        """
        return encode(self._program, self.options, frames, fps, self._cache)


def encoder_identity(encoder: EncoderName, config: Path | None = None) -> str:
    """What tells one encoder, its build and its configuration from others: rows of two encoders must not mix.

    Raises:
        InputError: If there is no such encoder, or its configuration file is missing or cannot be read.
        ExternalToolError: If the program is not on the PATH.
    """
    return _program(encoder, config).identity()


def _program(encoder: EncoderName, config: Path | None) -> EncoderProgram:
    if encoder in _EXTERNAL:
        return ExternalEncoder(_EXTERNAL[encoder], config)
    if encoder != "libvvenc":
        raise InputError(f"encoder {encoder!r}: must be one of {', '.join(get_args(EncoderName))}")
    if config is not None:
        raise InputError(f"the encoder libvvenc takes no configuration file, got {config}")
    return Libvvenc()
