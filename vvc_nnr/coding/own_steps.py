"""The QPs that a network's tensors get from their own spread, where no QP is given, at a quality."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vvc_nnr.bitstream.float8 import FLOAT8
from vvc_nnr.bitstream.number_formats import (
    Array,
    FloatBits,
    finite_float32,
    may_lose,
    nearest_float32,
    number_format_of,
    shape_of,
)
from vvc_nnr.bitstream.qp import qp_limits, step_size
from vvc_nnr.options import CompressOptions, thread_count
from vvc_nnr.parallel import run_all
from vvc_nnr.quantize.quality import (
    DEPENDENT_ERROR,
    LEAST_STEP_BITS,
    NARROW_DB,
    UNIFORM_ERROR,
    Spread,
    Spreads,
    less_spread_db,
    nearest_qp,
    spread_of,
)
from vvc_nnr.quantize.snr import few_apart
from vvc_nnr.roles.roles import Rule

# Added to the SNR of the first weights in a network's order and taken from that of the last, in between in proportion:
# errors of early layers pass through all others. Those of the last are evened out by none.
EARLY_DB, LAST_DB = 3.0, 10.0
# Taken from that of weights that make gates of channels (`vvc_nnr.roles.channel_gates`).
GATE_DB = 6.0
# Added to that of biases, norms and other vectors, which cost next to nothing.
VECTOR_DB = 9.0


@dataclass(frozen=True, slots=True)
class OwnSteps:
    """Steps that follow the spread of the tensors.

    Attributes:
        quality_db: SNR of the tensor that the average weight is in.
        qps: Tensor to QP.
        expected_db: Tensor to the SNR that its QP is expected to leave.
        exact: Tensors that need a finer step than there is, and so are exact.
    """

    quality_db: float
    qps: Mapping[str, int]
    expected_db: Mapping[str, float]
    exact: frozenset[str]


def follows_spread(options: CompressOptions) -> bool:
    """Whether the steps of weights follow from the tensors' own spread: no option says them, or `quality` does."""
    by_option = options.qp is not None or options.bitdepth is not None or options.qp_by_size
    return not (by_option or options.lossless or options.roles == "off")


def steps_at(
    spreads: Spreads,
    quality_db: float,
    options: CompressOptions,
    least_db: float | None = None,
    near: Mapping[str, int] | None = None,
) -> OwnSteps:
    """The steps of tensors of known spread at a quality in dB.

    Where no step is as fine as a small tensor's, the finest one does if it leaves the quality, of the default at least
    NARROW_DB; if not, it is exact.

    Args:
        spreads: Those of the tensors.
        quality_db: The quality.
        options: How they are coded.
        least_db: What each keeps, as in `Spreads.steps_at`.
        near: QPs near those of the quality, to be taken instead.
    """
    error = DEPENDENT_ERROR if options.use_dq else UNIFORM_ERROR
    density = options.qp_density
    steps, low = spreads.steps_at(quality_db, error, least_db), step_size(qp_limits(density)[0], density)
    wanted_db = quality_db if least_db is None else max(quality_db, NARROW_DB)
    steps = {
        name: max(step, low) if spreads[name].snr_at(low, error) >= wanted_db else step for name, step in steps.items()
    }
    fine_enough = {name: step for name, step in steps.items() if step >= max(low, spreads[name].finest)}
    qps = {name: near[name] if near else nearest_qp(step, density) for name, step in fine_enough.items()}
    expected = {name: spreads[name].snr_at(step_size(qp, density), error) for name, qp in qps.items()}
    return OwnSteps(quality_db, qps, expected, frozenset(steps.keys() - qps.keys()))


def measured_spreads(
    arrays: Mapping[str, Array | FloatBits],
    rules: Mapping[str, Rule],
    options: CompressOptions,
) -> Spreads:
    """The spreads of the tensors whose steps no option gives; exact tensors have none, as those of infinite values are.

    Args:
        arrays: The tensors.
        rules: What each may lose; those without a rule go by their number of dimensions.
        options: Of which `qp_per_tensor` and `nonweight_qp` leave tensors out.
    """
    kinds = {name: _kind(name, array, rules.get(name), options) for name, array in arrays.items()}
    wanted = {"qp", "nonweight_qp"} if options.nonweight_qp == "fine" else {"qp"}
    names = [name for name, kind in kinds.items() if kind in wanted and name not in options.qp_per_tensor]
    found = run_all(
        lambda name: _spread(arrays[name], rules.get(name)),
        names,
        [math.prod(shape_of(arrays[name])) for name in names],
        thread_count(options.n_threads),
    )
    spreads = {name: spread for name, spread in zip(names, found, strict=True) if spread is not None}
    weights = {name: spread for name, spread in spreads.items() if kinds[name] == "qp"}
    vectors = {name: spread for name, spread in spreads.items() if kinds[name] != "qp"}
    n_quantised = sum(math.prod(shape_of(array)) for name, array in arrays.items() if _is_quantised(name, array))
    return Spreads(weights, vectors, _offsets_db(weights, vectors, rules, n_quantised), n_quantised)


def _offsets_db(
    weights: Mapping[str, Spread], vectors: Mapping[str, Spread], rules: Mapping[str, Rule], n_quantised: int
) -> dict[str, float]:
    """What is added to the SNR of each tensor for its kind and its place in the network, in the order of `rules`.

    Floats beside a quantised network's own weights do not tell their places. Weights of recurrent layers keep the SNR
    of what makes the new state; those of the state get no finer step than those of the layer's input, and are no last
    layer. Those that make gates of channels keep GATE_DB less. A weight that stands for copies is in all their places,
    and keeps what it does in the best of them.
    """
    found = dict.fromkeys(vectors, VECTOR_DB) | {name: spread.candidate_db for name, spread in weights.items()}
    places = {name: place for place, name in enumerate(rules)}
    copies = {copy: name for name in weights if name in rules for copy in rules[name].copies}
    ordered = [copies.get(name, name) for name in sorted((*weights, *copies), key=lambda name: places.get(name, 0))]
    candidates = {name: rules[name].candidate for name in weights if name in rules}
    of_state = {name: told.input_weight for name, told in candidates.items() if told and told.input_weight in weights}
    if n_quantised <= sum(spread.n_values for spread in weights.values()):
        last = max(1, len(ordered) - 1)
        by_place = [EARLY_DB * (1 - 2 * place / last) for place in range(len(ordered))]
        if len(ordered) > 1:
            by_place[max((at for at, name in enumerate(ordered) if name not in of_state), default=last)] += LAST_DB
        best: dict[str, float] = {}
        for name, more_db in zip(ordered, by_place, strict=True):
            best[name] = max(more_db, best.get(name, -math.inf))
        for name, more_db in best.items():
            is_gate = name in rules and rules[name].is_gate
            found[name] += more_db - (GATE_DB if is_gate else 0.0)
    for name, other in of_state.items():
        own, of_input = weights[name], weights[other]
        same_step_db = 20 * math.log10(own.rms / of_input.rms) + 10 * math.log10(own.n_values / of_input.n_values)
        found[name] = min(found[name], found[other] + same_step_db)
    return found


def _is_quantised(name: str, array: Array | FloatBits) -> bool:
    return len(shape_of(array)) > 1 and number_format_of(name, array) in ("int8", "uint8", *FLOAT8)


def _spread(array: Array | FloatBits, rule: Rule | None) -> Spread | None:
    values = finite_float32(array)
    if values is None and (odd := few_apart(nearest_float32(array))) is not None:
        values = np.where(odd, np.float32(0), nearest_float32(array))
    if values is None:
        return None
    spread = spread_of(values, is_added=rule is not None and rule.is_added)
    if spread is not None and (least_bits := LEAST_STEP_BITS.get(number_format_of("", array))):
        spread = replace(spread, least_step=spread.rms * 2.0**-least_bits)
    if spread is None or rule is None or rule.candidate is None:
        return spread
    return replace(spread, candidate_db=less_spread_db(values, rule.candidate.of(values)))


def _kind(name: str, array: Array | FloatBits, rule: Rule | None, options: CompressOptions) -> str:
    """Where the step of a tensor comes from; "exact" of empty ones and what its format or an option keeps exact."""
    shape, number_format = shape_of(array), number_format_of(name, array)
    if (
        not math.prod(shape)
        or not may_lose(number_format)
        or (number_format == "float64" and options.float64 == "exact")
    ):
        return "exact"
    if rule is None:
        return "qp" if len(shape) > 1 else "nonweight_qp"
    return rule.step


@dataclass(frozen=True, slots=True)
class Sensitivities:
    """What noise in each tensor does to a network's outputs.

    Attributes:
        per_mse: Noise power of the outputs over their own for a mean squared error of 1, by name; 0 if it is not known.
        share: How far a tensor's SNR goes, in dB, from what spread, size and place tell (0) to what these tell (1).
    """

    per_mse: Mapping[str, float]
    share: float = 1.0

    def with_copies(self, copies: Mapping[str, Sequence[str]]) -> Sensitivities:
        """The same where noise in a tensor is noise in its copies too.

        Args:
            copies: The copies of tensors, by their names.
        """
        summed = {name: sum(self.per_mse.get(each, 0.0) for each in (name, *others)) for name, others in copies.items()}
        return replace(self, per_mse={**self.per_mse, **summed})
