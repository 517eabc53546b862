"""What a user can choose when a network is coded, checked as a whole before anything is written."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal, get_args

from vvc_nnr.bitstream.qp import MAX_QP_DENSITY, check_qp, qp_at_density
from vvc_nnr.errors import InputError, shown_names
from vvc_nnr.roles.roles import RoleMode, check_role_mode

CodebookMode = Literal["off", "auto", "force"]
Float64Mode = Literal["float32", "exact"]
Search = Literal["fast", "thorough"]

# At density 2.
DEFAULT_QP, DEFAULT_VECTOR_QP = -32, -75
MIN_BITDEPTH, MAX_BITDEPTH = 2, 24
MAX_THREADS = 256
# 1 GiB of float32.
DEFAULT_MAX_ELEMENTS = 1 << 28
MAX_ELEMENTS_PER_BYTE = 64
# What an option leaves without effect.
_IDLE_WITH: Mapping[str, tuple[str, ...]] = {
    "lossless": (
        *("qp", "nonweight_qp", "qp_per_tensor", "qp_by_size", "bitdepth", "codebook", "use_dq", "lambda_rd"),
        *("roles", "role_of", "local_scaling"),
    ),
    "codebook": ("local_scaling",),
    "bitdepth": ("qp", "nonweight_qp", "qp_by_size"),
}


@dataclass(frozen=True, slots=True)
class CompressOptions:
    """How a network is coded.

    Args:
        qp: QP of float tensors of two or more dimensions, the same step for all; 2**qp_density less halves it. None:
            each tensor's step follows from its own spread, size and role (`quality`); where that is not asked for
            either, or `roles` are off, or with `qp_by_size`, it is a step of 2**-8, -32 at density 2.
        qp_density: QP steps per octave as a power of two, 0 to 7.
        nonweight_qp: QP of the other float tensors. "fine" is the QP of a step of 5 * 2**-21 (or the next finer that
            the density has), -75 at density 2, or where weights follow their spread, vectors do so too; without a value
            it is two octaves below `qp`.
        qp_per_tensor: QP of one tensor by its name, above both. A name that the network does not have is an error.
        use_dq: Dependent quantisation of float tensors (not with a codebook, nor with `bitdepth`).
        lambda_rd: Weight of the rate against the squared error when levels are chosen, 0: none. None: 0.75 for tensors
            below about 2 bits per value, else 0. Without `use_dq` it is 1 there; with search "thorough" 0.9 below about
            3 bits per value. That saves several per cent of the bytes at equal error.
        search: "thorough" takes more time for fewer bytes at equal error, where `lambda_rd` counts. There, each path
            of the trellis knows the very probabilities that the coder will have at its end. At equal error this saves
            2 to 5 % of the bytes of small tensors and up to 0.5 % of large ones more than "fast", where all paths share
            a model; encoding takes about 2.5 times as long (small tensors: six times). Tensors without a rate term are
            coded as ever. Not with what leaves nothing to search: use_dq=False, lambda_rd=0, `bitdepth`,
            codebook="force", lossless; nor with calibration, nor in updates.
        row_skipping: Empty rows of a matrix are one bin each.
        scan_order: 0 row by row, 1 to 4 in blocks of 8 to 64. "auto": blocks for matrices that are so large that
            decoding their block rows in parallel pays, unless their rows differ in scale: that would cost bytes.
        codebook: Codebooks of levels for float tensors of two or more dimensions; "auto": for those which it makes
            smaller.
        param_opt: Estimators of the contexts are chosen per tensor.
        bitdepth: Levels of this many bits in place of a QP. For float tensors (of one dimension: 8 at least): the step
            follows from the 99.95th percentile of the absolute values, larger ones are clipped.
        float64: "exact" keeps all bits of float64 tensors; "float32" codes them like float32.
        n_threads: Tensors coded at a time. None: one per processor.
        roles: "auto": each tensor is coded by the rule of its role (`vvc_nnr.roles.roles`); "off": by its number of
            dimensions alone, as the reference software does.
        role_of: Role of the tensors whose names fit a pattern, such as "*.gamma" to "gdn"; above those found.
        qp_by_size: Finer QPs for small weight tensors, coarser for large ones, `qp` on average. Two octaves of the
            number of weights are one of the step (`vvc_nnr.quantize.step_choice`).
        lossless: Every bit of every tensor comes back. Not with options of how floats are quantised, which would have
            no effect.
        quality: Signal-to-noise ratio in dB that weight tensors come back with, each tensor's step following from its
            own spread: that of the tensor which the average weight is in, smaller ones get more. 6 dB are about a bit
            per weight. None: that at which the network takes no more than with one step of 2**-8 for all, at least
            14 dB; what is given may be less. Not with `qp`, `bitdepth`, `qp_by_size`, lossless, or without roles.
        bits_per_weight: In place of `quality`: the best of no more bits per value of all tensors, equal ones once.
        max_bytes: In place of `quality`: the best in a file that is no larger.
        local_scaling: Weights whose rows (output channels) the next weight takes unlike, whatever the size of the rows
            themselves, are coded with a scale for each row (`vvc_nnr.quantize.row_scales`); with calibration those of
            which it costs less. Other decoders may give the scales apart, as the reference software does: as a tensor
            NAME_scaling that their users multiply the rows of NAME by. Not with `codebook` or lossless, nor in updates.
    """

    qp: int | None = None
    qp_density: int = 2
    nonweight_qp: int | Literal["fine"] | None = "fine"
    qp_per_tensor: Mapping[str, int] = field(default_factory=dict)
    use_dq: bool = True
    lambda_rd: float | None = None
    row_skipping: bool = True
    scan_order: int | Literal["auto"] = "auto"
    codebook: CodebookMode = "off"
    param_opt: bool = True
    bitdepth: int | None = None
    float64: Float64Mode = "float32"
    n_threads: int | None = None
    roles: RoleMode = "auto"
    role_of: Mapping[str, str] = field(default_factory=dict)
    qp_by_size: bool = False
    lossless: bool = False
    search: Search = "fast"
    quality: float | None = None
    bits_per_weight: float | None = None
    max_bytes: int | None = None
    local_scaling: bool = False

    def __post_init__(self) -> None:
        check_role_mode(self.roles)
        for option in fields(self):
            fault = self._fault(option.name, getattr(self, option.name))
            if fault:
                raise InputError(f"{option.name}: {getattr(self, option.name)!r}; must be {fault}")
        check_qp(self.weight_qp, self.qp_density, "qp")
        check_qp(self.vector_qp, self.qp_density, "nonweight_qp")
        for name, qp in self.qp_per_tensor.items():
            check_qp(qp, self.qp_density, f"qp_per_tensor[{name!r}]")
        self._check_search()
        self._check_quality()
        self._check_idle()

    @property
    def weight_qp(self) -> int:
        """QP of float tensors of two or more dimensions."""
        return qp_at_density(DEFAULT_QP, self.qp_density) if self.qp is None else self.qp

    @property
    def vector_qp(self) -> int:
        """QP of float tensors with less than two dimensions."""
        if self.nonweight_qp == "fine":
            return qp_at_density(DEFAULT_VECTOR_QP, self.qp_density)
        return self.weight_qp - (2 << self.qp_density) if self.nonweight_qp is None else self.nonweight_qp

    def qp_of(self, name: str, n_dimensions: int) -> int:
        """QP of a float tensor."""
        return self.qp_per_tensor.get(name, self.weight_qp if n_dimensions > 1 else self.vector_qp)

    def check_names(self, names: Mapping[str, Any]) -> None:
        """Raises InputError if `qp_per_tensor` names a tensor that is not there."""
        unknown = [name for name in self.qp_per_tensor if name not in names]
        if unknown:
            raise InputError(f"qp_per_tensor: no tensor is called {shown_names(map(repr, unknown))}")

    def _check_search(self) -> None:
        idle = {
            "use_dq=False": not self.use_dq,
            "lambda_rd=0": self.lambda_rd == 0,
            "bitdepth": self.bitdepth is not None,
            'codebook="force"': self.codebook == "force",
            "lossless": self.lossless,
        }
        found = [name for name, is_given in idle.items() if is_given]
        if self.search == "thorough" and found:
            raise InputError(f"search 'thorough': has no effect with {', '.join(found)}; take one of them away")

    def _check_quality(self) -> None:
        asked = [name for name in ("quality", "bits_per_weight", "max_bytes") if getattr(self, name) is not None]
        if len(asked) > 1:
            raise InputError(f"{', '.join(asked)}: give one of them")
        others = {
            "qp": self.qp is not None,
            "bitdepth": self.bitdepth is not None,
            "qp_by_size": self.qp_by_size,
            "lossless": self.lossless,
            'roles="off"': self.roles == "off",
        }
        found = [name for name, is_given in others.items() if is_given]
        if asked and found:
            raise InputError(f"{asked[0]}: has no effect with {', '.join(found)}; take one of them away")

    def _check_idle(self) -> None:
        """Raises InputError if an option leaves another without effect."""
        is_given = {option.name: getattr(self, option.name) != default_of(option) for option in fields(self)}
        for option, others in _IDLE_WITH.items():
            idle = [name for name in others if is_given[option] and is_given[name]]
            if idle:
                raise InputError(f"{idle[0]} with {option}: has no effect; take one of them away")

    def _fault(self, name: str, value: Any) -> str | None:
        """What a value must be; None if it will do."""
        match name:
            case "use_dq" | "row_skipping" | "param_opt" | "qp_by_size" | "lossless" | "local_scaling":
                return None if isinstance(value, bool) else "True or False"
            case "qp_density":
                return _integer_fault(value, 0, MAX_QP_DENSITY)
            case "scan_order":
                return None if value == "auto" else _integer_fault(value, 0, 4, ' or "auto"')
            case "bitdepth":
                return None if value is None else _integer_fault(value, MIN_BITDEPTH, MAX_BITDEPTH, " or None")
            case "n_threads":
                return None if value is None else _integer_fault(value, 1, MAX_THREADS, " or None")
            case "codebook" | "float64" | "search":
                choices = get_args({"codebook": CodebookMode, "float64": Float64Mode, "search": Search}[name])
                return None if value in choices else f"one of {', '.join(choices)}"
            case "qp_per_tensor":
                return None if isinstance(value, Mapping) else "a map of names to QPs"
            case "role_of":
                return None if isinstance(value, Mapping) else "a map of patterns to roles"
            case "lambda_rd":
                return _lambda_fault(value)
            case "quality" | "bits_per_weight":
                return _positive_fault(value)
            case "max_bytes":
                return None if value is None else _integer_fault(value, 1, 1 << 62, " or None")
        return None


def default_of(option: Field[Any]) -> Any:
    """The default of a dataclass's field, MISSING if it has none."""
    return option.default if option.default_factory is MISSING else option.default_factory()


def _integer_fault(value: Any, low: int, high: int, or_else: str = "") -> str | None:
    is_right = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    return None if is_right else f"a whole number from {low} to {high}{or_else}"


def _lambda_fault(value: Any) -> str | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_right = value is None or (is_number and math.isfinite(value) and 0 <= value <= 1e6)
    return None if is_right else "a number from 0 to 1000000, or None"


def _positive_fault(value: Any) -> str | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if value is None or (is_number and 0 < value <= 1000) else "a number above 0, up to 1000, or None"


def thread_count(n_threads: int | None) -> int:
    """The wanted number of threads, or one per processor that this process may use.

    Raises:
        InputError: If the number is none or out of range.
    """
    if n_threads is None:
        affinity = getattr(os, "sched_getaffinity", None)
        return max(1, min(len(affinity(0)) if affinity else os.cpu_count() or 1, MAX_THREADS))
    fault = _integer_fault(n_threads, 1, MAX_THREADS, " or None")
    if fault:
        raise InputError(f"n_threads: {n_threads!r}; must be {fault}")
    return n_threads


def element_limit(max_elements: int | None, n_bytes: int) -> int:
    """Most values that are decoded of so many bytes; None: what any network but one of zeros keeps."""
    return max(DEFAULT_MAX_ELEMENTS, MAX_ELEMENTS_PER_BYTE * n_bytes) if max_elements is None else max_elements


def check_max_elements(max_elements: int | None) -> None:
    """Raises InputError unless the limit is a whole number of at least 0."""
    if max_elements is None:
        return
    if isinstance(max_elements, bool) or not isinstance(max_elements, int) or max_elements < 0:
        raise InputError(f"max_elements: {max_elements!r}; must be a whole number of at least 0")
