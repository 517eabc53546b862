"""A network in a stream, and what its user is told of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace

from vvc_nnr.errors import shown_name
from vvc_nnr.quantize.snr import WEAK_DB

_log = logging.getLogger(__name__)
# Tensors that a warning names.
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class CodedNetwork:
    """A network in a stream.

    Attributes:
        data: The stream.
        quality_db: The option `quality` that gives these steps: as it was asked for, or found for a size; None by
            default, where what tensors take and keep at least tells their steps, and where none follow from spread.
        weak_db: SNR of the tensors that keep less than `quality.WEAK_DB`, as a whole or in many rows, by name.
        by_outliers: Tensors that keep huge, infinite or NaN values, or all of theirs, exactly, for no step does for
            those and the others.
        apart: Those of them whose other values are quantised; of the rest all values are exact.
        sizes_bytes: Payloads and raw bytes of each tensor, by name, without `more_bytes`.
        exact: Tensors that are exact, or as near as the finest step, though they have one, since that is no longer.
        input_bytes: Size of the file that it was made from, or of a safetensors file of its tensors; None: not known.
        joined: Tensors of few different values of which two come out alike.
        more_bytes: What tensors of few different values take more, so that none is lost; the budget is for the others.
        scaled: Tensors whose rows have scales, which other decoders may give apart; None: not asked for.
        float8: Tensors of float8 that are exact although an option says what floats may lose.
    """

    data: bytes
    quality_db: float | None
    weak_db: Mapping[str, float]
    by_outliers: tuple[str, ...] = ()
    sizes_bytes: Mapping[str, int] = field(default_factory=dict)
    exact: frozenset[str] = frozenset()
    input_bytes: int | None = None
    joined: tuple[str, ...] = ()
    more_bytes: int = 0
    scaled: tuple[str, ...] | None = None
    float8: tuple[str, ...] = ()
    apart: frozenset[str] = frozenset()

    def with_copies(self, copies: Mapping[str, Sequence[str]]) -> CodedNetwork:
        """The same, in which what is said of a tensor is said of its copies too.

        Args:
            copies: The copies of tensors, by their names.
        """
        if not copies:
            return self

        def both(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(each for name in names for each in (name, *copies.get(name, ())))

        return replace(
            self,
            weak_db={each: ratio_db for name, ratio_db in self.weak_db.items() for each in both((name,))},
            by_outliers=both(self.by_outliers),
            joined=both(self.joined),
            scaled=None if self.scaled is None else both(self.scaled),
            float8=both(self.float8),
        )

    @property
    def growth_bytes(self) -> int:
        """How much larger the stream is than its input; 0 if it is not."""
        return 0 if self.input_bytes is None else max(0, len(self.data) - self.input_bytes)


def warn_of(coded: CodedNetwork) -> None:
    """Logs what the user of a coded network is to know of its tensors, and of its size."""
    lines = [
        weak_line(coded.weak_db) if coded.weak_db else "",
        *outlier_lines(coded),
        joined_line(coded.joined) if coded.joined else "",
        "" if coded.scaled is None else scaled_line(coded.scaled),
        float8_line(coded.float8) if coded.float8 else "",
        growth_line(coded) if coded.growth_bytes else "",
    ]
    for line in filter(None, lines):
        _log.warning("%s", line)


def growth_line(coded: CodedNetwork) -> str:
    """What is said of a stream that is larger than its input."""
    return f"{coded.growth_bytes} bytes larger than the input, of {coded.input_bytes} bytes"


def listed(names: Sequence[str], notes: Mapping[str, str] | None = None) -> str:
    """The first names, whole, as options take them, each with its note if there are any, and how many more."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(shown_name(name) + (f" ({notes[name]})" if notes else "") for name in names[:_SHOWN]) + more


def _counted(names: Sized, one: str, many: str) -> str:
    """Tensors and what they do: of one, of many."""
    return f"1 tensor {one}" if len(names) == 1 else f"{len(names)} tensors {many}"


def float8_line(names: Sequence[str]) -> str:
    """What is said of tensors that are exact whatever an option says, and what to do."""
    are = _counted(names, "of float8 or fewer bits is exact", "of float8 or fewer bits are exact")
    them = "it make it" if len(names) == 1 else "them make them"
    return (
        f"{are}, whatever step, quality or size is given: {listed(names)}; to quantise {them} float16 or float32 first"
    )


def scaled_line(names: Sequence[str]) -> str:
    """What is said of tensors that have scales of rows, or that none has."""
    if not names:
        return (
            "local scaling: no tensor has scales for its rows: of none it can be told that the next weight takes its "
            "rows so unlike that scales pay"
        )
    return (
        f"{_counted(names, 'has', 'have')} a scale for each row: {listed(names)}; other decoders, as the reference "
        "software, may give it apart, as NAME_scaling, which the rows of NAME must be multiplied by"
    )


def joined_line(names: Sequence[str]) -> str:
    """What is said of tensors of few different values of which two come out alike, and what to do."""
    have = _counted(names, "of few different values has", "of few different values have")
    finer = "a finer QP (of one tensor qp_per_tensor), or none and no quality or size, which keeps them apart"
    return f"{have} some that come out alike: {listed(names)}; give {finer}"


def outlier_lines(coded: CodedNetwork) -> list[str]:
    """What is said of the tensors that keep outliers exactly: those whose other values do not, and those that do."""
    apart = [name for name in coded.by_outliers if name in coded.apart]
    whole = [name for name in coded.by_outliers if name not in coded.apart]
    return [line(names) for line, names in ((outliers_line, apart), (exact_by_outliers_line, whole)) if names]


def outliers_line(names: Sequence[str]) -> str:
    """What is said of tensors whose outliers alone are exact, and what to do."""
    have = _counted(names, "has", "have")
    its = "its" if len(names) == 1 else "their"
    return (
        f"{have} huge, infinite or NaN values: {listed(names)}; these are exact, in bytes that other decoders may not "
        f"read (they give 0 there), and {its} other values are quantised: clip these values if they are a fault"
    )


def exact_by_outliers_line(names: Sequence[str]) -> str:
    """What is said of tensors that are exact since no step does beside their outliers, and what to do."""
    have = _counted(names, "has", "have")
    exact = "it is exact as a whole" if len(names) == 1 else "they are exact as a whole"
    return (
        f"{have} huge, infinite or NaN values, and few others or none that a step does for: {listed(names)}; "
        f"{exact}, in bytes that other decoders may not read: clip these values if they are a fault"
    )


def weak_line(weak_db: Mapping[str, float]) -> str:
    """What is said of tensors that keep less than WEAK_DB, and what to do."""
    finer = "a finer QP (of one tensor qp_per_tensor, of vectors nonweight_qp)"
    return f"{weak_names(weak_db)}; give a higher quality, or {finer}"


def weak_names(weak_db: Mapping[str, float]) -> str:
    """The names of tensors that keep less than WEAK_DB, the worst first."""
    worst = sorted(weak_db, key=weak_db.__getitem__)
    named = listed(worst, {name: f"{ratio_db:.1f} dB" for name, ratio_db in weak_db.items()})
    kept = f"a signal-to-noise ratio of less than {WEAK_DB:.0f} dB, as a whole or in many rows"
    return f"{_counted(worst, 'keeps', 'keep')} {kept}: {named}"
