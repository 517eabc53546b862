"""Which weights of a network a result is about: as trained, or as decoded from a file of one kind of compression."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from vvc_nnr.errors import InputError
from vvc_nnr.options import CompressOptions
from vvc_nnr.quantize.uniform import MAX_BITS

CompressionKind: TypeAlias = Literal["uniform", "nnc", "calibrated"]

NO_WEIGHTS, ORIGINAL, FILE = "none", "original", "file"
"""No network; the network as trained; the network as a given coded file has it (of several, "file:" and its name)."""
ADAPTED, ADAPTED_EACH = "adapted", "adapted-each"
"""The network tuned to each sequence, as a decoder makes it from a coded file and an update: one of the sequence at all
QPs; one of the sequence at each QP."""
_FILES = re.compile(rf"{FILE}(?::[\w.+-]{{1,100}})?", re.ASCII)
DEFAULT_MAX_LOSS_DB = 0.02

_UNIFORM = re.compile(r"uniform([0-9]{1,2})", re.ASCII)
_NNC = re.compile(r"nnc(?::(-?[0-9]{1,4}))?", re.ASCII)
_CALIBRATED = re.compile(r"calibrated(?::([0-9]{1,12}(?:\.[0-9]{1,12})?)(dB|B))?", re.ASCII)
_GRAMMAR = "uniform8 (1 to 16 bit), nnc or nnc:QP, calibrated, calibrated:0.02dB or calibrated:12000B"


@dataclass(frozen=True, slots=True)
class Compression:
    """One way to store a network's weights.

    Attributes:
        kind: "uniform": the papers' uniform quantiser between each tensor's extremes; "nnc": ISO/IEC 15938-17;
            "calibrated": the same format, levels chosen by what they do to pictures.
        bits: Bits per weight of "uniform", else None.
        qp: QP of "nnc"; None: each tensor's step follows its spread, as `compress` does without a QP.
        max_loss_db: Loss of PSNR in dB that "calibrated" keeps to, else None.
        max_bytes: Size that "calibrated" keeps to where it has no loss to keep to, else None.

    Raises:
        InputError: If a number is out of its range or does not go with the kind.
    """

    kind: CompressionKind
    bits: int | None = None
    qp: int | None = None
    max_loss_db: float | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("bits", "qp", "max_loss_db", "max_bytes") if getattr(self, name) is not None]
        possible = {"uniform": (["bits"],), "nnc": ([], ["qp"]), "calibrated": (["max_loss_db"], ["max_bytes"])}
        allowed = possible[self.kind]
        if given not in allowed:
            raise InputError(f"compression {self.kind!r} with {given}: must be one of {_GRAMMAR}")
        if self.bits is not None and not 1 <= self.bits <= MAX_BITS:
            raise InputError(f"compression uniform{self.bits}: must be 1 to {MAX_BITS} bit")
        if self.qp is not None:
            CompressOptions(qp=self.qp)
        if self.max_loss_db is not None and not 0 < self.max_loss_db < math.inf:
            raise InputError(f"compression calibrated:{self.max_loss_db:g}dB: the loss must be above 0 dB")
        if self.max_bytes is not None and self.max_bytes < 1:
            raise InputError(f"compression calibrated:{self.max_bytes}B: the size must be at least 1 byte")

    @property
    def text(self) -> str:
        """What rows and command lines call it, such as "uniform8", "nnc", "nnc:-32" or "calibrated:0.02dB"."""
        match self.kind:
            case "uniform":
                return f"uniform{self.bits}"
            case "nnc":
                return "nnc" if self.qp is None else f"nnc:{self.qp}"
        return f"calibrated:{self.max_bytes}B" if self.max_loss_db is None else f"calibrated:{self.max_loss_db:.12g}dB"

    @property
    def title(self) -> str:
        """What tables call it, such as "uniform8", "NNC", "NNC QP -32" or "calibrated 0.02 dB"."""
        match self.kind:
            case "uniform":
                return self.text
            case "nnc":
                return "NNC" if self.qp is None else f"NNC QP {self.qp}"
        return (
            f"calibrated {self.max_bytes} B" if self.max_loss_db is None else f"calibrated {self.max_loss_db:.12g} dB"
        )


def parse_compression(text: str) -> Compression:
    """The compression that a text names; "nnc" is what `compress` does by default, "calibrated" of a loss of 0.02 dB.

    Raises:
        InputError: If the text names none, or a number in it is out of range.
    """
    if found := _UNIFORM.fullmatch(text):
        return Compression("uniform", bits=int(found[1]))
    if found := _NNC.fullmatch(text):
        return Compression("nnc", qp=None if found[1] is None else int(found[1]))
    if found := _CALIBRATED.fullmatch(text):
        if found[2] == "B":
            if "." in found[1]:
                raise InputError(f"compression {text!r}: a size must be a whole number of bytes")
            return Compression("calibrated", max_bytes=int(found[1]))
        return Compression("calibrated", max_loss_db=float(found[1] or DEFAULT_MAX_LOSS_DB))
    raise InputError(f"compression {text!r}: must be {_GRAMMAR}")


def parse_compressions(text: str) -> tuple[Compression, ...]:
    """The compressions of a list with commas, none for the text "none".

    Raises:
        InputError: If one is unknown or named twice.
    """
    found = () if text == "none" else tuple(parse_compression(word) for word in text.split(","))
    check_once(found)
    return found


def check_once(compressions: tuple[Compression, ...]) -> None:
    """Refuses a list that names a compression twice, or has something else in it.

    Raises:
        InputError: If it does.
    """
    if others := [each for each in compressions if not isinstance(each, Compression)]:
        raise InputError(f"compressions: {others[0]!r}, must be a Compression; parse_compressions makes them of text")
    texts = [each.text for each in compressions]
    twice = [text for text in dict.fromkeys(texts) if texts.count(text) > 1]
    if twice:
        raise InputError(f"compressions {', '.join(texts)}: {twice[0]} must be there once")


def weights_title(weights: str) -> str:
    """What tables call the weights of a row: "original", "file", or the title of their compression."""
    if is_adapted(weights):
        return "adapted, not counted" if weights == ADAPTED else "adapted at each QP, not counted"
    if weights in (NO_WEIGHTS, ORIGINAL) or is_file(weights):
        return weights.removeprefix(f"{FILE}:")
    return parse_compression(weights).title


def is_adapted(weights: str) -> bool:
    """Whether the weights are tuned to each sequence."""
    return weights in (ADAPTED, ADAPTED_EACH)


def is_file(weights: str) -> bool:
    """Whether the weights are those that a given coded file has."""
    return _FILES.fullmatch(weights) is not None


def files_weights(names: Sequence[str]) -> list[str]:
    """What rows call the weights of coded files of one network, by the files' names."""
    if len(names) == 1:
        return [FILE]
    plain = [re.sub(r"[^\w.+-]", "-", name, flags=re.ASCII)[:90] for name in names]
    return [f"{FILE}:{name}" if plain.count(name) == 1 else f"{FILE}:{name}-{i}" for i, name in enumerate(plain, 1)]


def is_weights(text: str) -> bool:
    """Whether a text names weights of a network."""
    if text == ORIGINAL or is_adapted(text) or is_file(text):
        return True
    try:
        return parse_compression(text).text == text
    except InputError:
        return False
