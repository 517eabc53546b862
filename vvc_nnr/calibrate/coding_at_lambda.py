"""One candidate of calibrated compression: a network at one lambda, in a file with its loss measured.

```
 for each layer in the order of the network:
     moments of what it sees, in the original network and behind the layers coded so far
     target: the weights that come nearest to the original outputs on the changed inputs
     levels: least (output error + lambda x bits), errors pushed onto weights that are not coded yet
     bias: makes up for the mean error
 file -> decoded network -> loss on pictures held out
```
"""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vvc_nnr.bitstream.data_unit import DataUnit, PayloadType
from vvc_nnr.bitstream.number_formats import (
    NamedArrays,
    as_float32,
    coded_shape,
    itemsize_of,
    may_lose,
    number_format_of,
    shape_of,
)
from vvc_nnr.bitstream.parameter_sets import ModelParameterSet
from vvc_nnr.bitstream.stream import read_stream
from vvc_nnr.bitstream.ties import Tie, copies_of, find_ties, with_copies, with_ties
from vvc_nnr.calibrate.allocation import (
    AllocatedTensor,
    CalibratedNetwork,
    Method,
    TensorAllocation,
    allocate,
    allocations,
    damped_rows,
    vector_qp,
)
from vvc_nnr.calibrate.calibration import (
    CheckedCalibration,
    Loss,
    LossMeter,
    as_calibration,
    check_sizes,
    loss_meter,
    own_gradients,
    picture_weights,
)
from vvc_nnr.calibrate.layers import DirectModule, MatrixLayer, MatrixModule, TransposedModule, find_layers, used_weight
from vvc_nnr.calibrate.matrix_parts import watch_parts
from vvc_nnr.calibrate.moments import (
    BothPasses,
    InputMoments,
    PausedPasses,
    PhaseMoments,
    factors,
    input_moments,
    mean_outputs,
    output_moments,
    phase_matrix,
    phase_moments,
    put_phase_matrix,
)
from vvc_nnr.coding.decoder import decode_network
from vvc_nnr.coding.encoder import code_network, rules_with_copies, tensor_rules, write_network
from vvc_nnr.coding.inspection import inspect_stream
from vvc_nnr.coding.local_scaling import coded_scaling, encode_scaled, scaling_bits
from vvc_nnr.coding.own_steps import OwnSteps, follows_spread, measured_spreads, steps_at
from vvc_nnr.coding.tensor_encoder import encode_tensor, with_own_step
from vvc_nnr.coding.tensor_job import EncodedTensor, TensorJob, make_job, with_unary_length
from vvc_nnr.coding.unit_coding import PartIndices, encode_indices, make_params
from vvc_nnr.errors import InputError, shown_name
from vvc_nnr.model.torch import copied_module, named_arrays
from vvc_nnr.options import CompressOptions, thread_count
from vvc_nnr.quantize.quality import MAX_QUALITY_DB, MIN_QUALITY_DB
from vvc_nnr.quantize.rate_distortion import damped, shifted_target
from vvc_nnr.roles.by_module import module_roles
from vvc_nnr.roles.roles import Rule, TensorRole

# What matrices whose errors are not weighed keep more than the others; and where they are so small a share of all
# values that finer steps cost nothing.
UNKNOWN_MORE_DB, FEW_UNKNOWN_MORE_DB, FEW_UNKNOWN = 6.0, 36.0, 0.002
# Scales of rows are within so many octaves of the median one.
MAX_SCALE_OCTAVES = 6.0

_log = logging.getLogger(__name__)


def prepare(
    model: nn.Module,
    pictures: Any,
    options: CompressOptions,
    metadata: Mapping[str, str],
    seed: int,
    reference: nn.Module | None = None,
) -> CalibratedCoder:
    """What all candidates share.

    Args:
        model: The network.
        pictures: What it gets, as in `compress_calibrated`; so are the others.
        options: For what pictures do not decide, as `calibrated_options` makes them.
        metadata: Texts that travel with the network.
        seed: Of what is drawn.
        reference: The network that losses are measured against; None: `model`.

    Raises:
        InputError: If an option, a picture or the network cannot be used.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"calibration: must be a torch module, got {type(model).__name__}")
    arrays = named_arrays(model)
    options.check_names(arrays)
    original = watch_parts(copied_module(model).eval().float().requires_grad_(True))
    calibration = as_calibration(pictures, original)
    weights = picture_weights(original, calibration)
    check_sizes(original, calibration)
    meter = loss_meter(original if reference is None else copied_module(reference).eval().float(), calibration)
    layers = [
        layer
        for layer in find_layers(original, calibration.run, calibration.fitted[0].inputs)
        if layer.weight_name not in options.qp_per_tensor and _may_lose(layer.weight_name, arrays)
    ]
    if not layers:
        raise InputError(
            "calibration: the network has no fully connected, convolutional, recurrent or attention layer to calibrate"
        )
    ties = _ties(original, layers, arrays, options)
    copies = copies_of(ties)
    samples = [sample.inputs for sample in calibration.fitted]
    generator = torch.Generator().manual_seed(seed)
    gradients = output_moments(original, layers, samples, weights, calibration.run, generator)
    gradients = _with_copies(gradients, layers, copies)
    felt = [layer for layer in layers if np.trace(np.atleast_2d(gradients[layer.name])) > 0]
    if not felt:
        raise InputError(
            "calibration: no gradient of the network's output reaches a layer, so what errors of weights do is not "
            "known; between them must be no conversion to integers, detach or no_grad (torch.round is no hindrance)"
        )
    if len(felt) < len(layers):
        names = [shown_name(layer.name) for layer in layers if layer not in felt]
        _log.info("calibration: coded finely, since no gradient of the output reaches them: %s", ", ".join(names))
    roles = module_roles(model, arrays)
    rules = rules_with_copies(tensor_rules(roles, arrays, replace(options, qp_by_size=False)), copies)
    return CalibratedCoder(
        original, arrays, roles, ties, rules, calibration, meter, felt, gradients, options, metadata, seed
    )


def _may_lose(name: str, arrays: NamedArrays) -> bool:
    """Whether a weight is not exact for its number format; one that is not in the state is for others to refuse."""
    return name not in arrays or may_lose(number_format_of(name, arrays[name]))


def _ties(
    model: nn.Module, layers: Sequence[MatrixLayer], arrays: NamedArrays, options: CompressOptions
) -> tuple[Tie, ...]:
    """Ties and copies; a weight of which a layer of another kind, or none, has a copy is coded apart from it."""
    ties = with_copies(arrays, find_ties(arrays), options.qp_per_tensor)
    is_transposed = {layer.weight_name: isinstance(layer.module(model), TransposedModule) for layer in layers}
    apart = {
        name
        for name, others in copies_of(ties).items()
        if len({is_transposed.get(each) for each in (name, *others)}) > 1
    }
    return tuple(tie for tie in ties if not (tie.is_copy and tie.source in apart))


def _with_copies(
    gradients: Mapping[str, NDArray[np.float64]], layers: Sequence[MatrixLayer], copies: Mapping[str, tuple[str, ...]]
) -> dict[str, NDArray[np.float64]]:
    """What errors of outputs cost, where one error is in all layers of a weight and its copies."""
    by_weight = {layer.weight_name: layer.name for layer in layers}
    found = dict(gradients)
    for name, others in copies.items():
        own = [by_weight[each] for each in (name, *others) if each in by_weight]
        if own and len({gradients[each].shape for each in own}) == 1:
            found |= dict.fromkeys(own, np.sum([gradients[each] for each in own], axis=0))
    return found


@dataclass(frozen=True, slots=True, eq=False)
class PlainCandidate:
    """A network in a file without calibration.

    Attributes:
        network: The file and its loss.
        quality_db: Of its tensors.
    """

    network: CalibratedNetwork
    quality_db: float


_Levels: TypeAlias = tuple[AllocatedTensor, tuple[NDArray[np.float32], int] | None]
"""Levels of a weight; and the bias that goes with them, with its QP."""


@dataclass(frozen=True, slots=True, eq=False)
class CalibratedCoder:
    """A network and its pictures, to be compressed at one lambda after another.

    Attributes:
        original: A copy of the network, float32.
        arrays: Its state, by name.
        roles: What its tensors are.
        ties: Tensors of it that another one stands for.
        rules: What each tensor may lose that pictures do not decide about.
        calibration: The pictures.
        meter: By which the loss is measured.
        layers: Those whose errors are felt, in the order in which they run.
        gradients: What errors of their outputs cost, by their names.
        options: For what pictures do not decide.
        metadata: Texts that travel with the network.
        seed: Of the places that are looked at.
        last: Lambda and QP of each weight in the candidate before, by name (with scales, by theirs): the next search
            begins there.
    """

    original: nn.Module
    arrays: NamedArrays
    roles: Mapping[str, TensorRole]
    ties: tuple[Tie, ...]
    rules: Mapping[str, Rule]
    calibration: CheckedCalibration
    meter: LossMeter
    layers: list[MatrixLayer]
    gradients: dict[str, NDArray[np.float64]]
    options: CompressOptions
    metadata: Mapping[str, str]
    seed: int
    last: dict[str, tuple[float, int]] = field(default_factory=dict)

    @property
    def _coded_arrays(self) -> NamedArrays:
        """The tensors that are coded: of tied ones the first."""
        tied = {tie.name for tie in self.ties}
        return {name: array for name, array in self.arrays.items() if name not in tied}

    def first_lambda(self, loss_db: float) -> float:
        """The lambda at which a loss is expected: at high rates an error costs 2 ln 2 times itself per bit."""
        error = self.meter.reference_mse * (10 ** (loss_db / 10) - 1)
        n_weights = sum(layer.module(self.original).weight.numel() for layer in self.layers)
        return max(2 * math.log(2) * error / n_weights, 1e-30)

    @own_gradients()
    def compress(self, lambda_rd: float) -> CalibratedNetwork:
        """One candidate: all layers in order, the file, and its loss.

        Args:
            lambda_rd: What a bit may cost, in squared error per value of the output.

        Raises:
            InputError: If it is not above zero, or the coded network returns NaN.
        """
        if not (math.isfinite(lambda_rd) and lambda_rd > 0):
            raise InputError(f"lambda {lambda_rd}: must be a number above 0")
        changed = copied_module(self.original)
        samples, run = [sample.inputs for sample in self.calibration.fitted], self.calibration.run
        generator = torch.Generator().manual_seed(self.seed)
        sources = {tie.name: tie.source for tie in self.ties if tie.is_copy}
        coded: dict[str, AllocatedTensor] = {}
        biases: dict[str, tuple[NDArray[np.float32], int]] = {}
        with (
            PausedPasses(self.original, self.layers, samples, run) as before,
            PausedPasses(changed, self.layers, samples, run) as after,
        ):
            passes = BothPasses(before, after, len(samples), generator)
            for layer in self.layers:
                module = layer.module(changed)
                weight_name = sources.get(layer.weight_name, layer.weight_name)
                levels = self._code_layer(layer, passes, lambda_rd, coded.get(weight_name))
                if levels is None:
                    continue
                allocated, bias = levels
                coded[weight_name] = allocated
                with torch.no_grad():
                    module.weight.copy_(torch.from_numpy(allocated.rounded.values).reshape(module.weight.shape))
                    if bias is not None and module.bias is not None:
                        module.bias.copy_(torch.from_numpy(bias[0]))
                        biases[layer.bias_name] = bias
        units = self._encode(coded, biases)
        data = self._write(units)
        loss = self._loss(data, changed)
        tensors = allocations(self._coded_arrays, units, coded, biases, self.options)
        return self._made(data, loss, tensors, lambda_rd, "calibrated")

    def compress_plainly(self, *, max_bytes: int | None = None, quality: float | None = None) -> PlainCandidate:
        """A file of the same network without calibration, and its loss: what the other candidates are held against.

        Args:
            max_bytes: Largest size, or
            quality: in dB, as in `CompressOptions`.

        Raises:
            InputError: If the size cannot be kept, or the coded network returns NaN.
        """
        options = replace(self.options, qp=None, roles="auto", max_bytes=max_bytes, quality=quality)
        coded = code_network(self.arrays, options, metadata=self.metadata, roles=self.roles)
        loss = self._loss(coded.data, copied_module(self.original))
        found = inspect_stream(coded.data, None, bins=False, max_elements=None, n_threads=1).tensors
        tensors = tuple(
            TensorAllocation(
                *(t.name, t.shape, t.qp, t.step, t.size_bytes - t.header_bytes, None, None, None),
                is_scaled=t.scaling_qp is not None,
            )
            for t in found
        )
        assert coded.quality_db is not None
        measured = {layer.weight_name for layer in self.layers}
        weak_db = {name: found_db for name, found_db in coded.weak_db.items() if name not in measured}
        made = replace(self._made(coded.data, loss, tensors, 0.0, "plain"), weak_db=weak_db)
        return PlainCandidate(made, coded.quality_db)

    def _made(
        self, data: bytes, loss: Loss, tensors: tuple[TensorAllocation, ...], lambda_rd: float, method: Method
    ) -> CalibratedNetwork:
        n_original = sum(itemsize_of(array) * math.prod(shape_of(array)) for array in self.arrays.values())
        n_held_out, reference_mse = self.meter.n_held_out, self.meter.reference_mse
        return CalibratedNetwork(
            data, loss.db, n_held_out, n_original, tensors, 1, lambda_rd, reference_mse, method, codec=loss.codec
        )

    def _code_layer(
        self, layer: MatrixLayer, passes: BothPasses, lambda_rd: float, known: AllocatedTensor | None
    ) -> _Levels | None:
        """Levels of a weight and the bias that goes with them; None if no pass comes to the layer.

        Those of a copy are known, and only its bias is to be chosen.
        """
        module = layer.module(self.original)
        if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d):
            phases = phase_moments(layer, module, passes)
            return None if phases is None else self._code_transposed(layer, module, phases, lambda_rd, known)
        moments = input_moments(layer, module, passes)
        return None if moments is None else self._code_direct(layer, module, moments, lambda_rd, known)

    def _code_direct(
        self,
        layer: MatrixLayer,
        module: DirectModule,
        moments: InputMoments,
        lambda_rd: float,
        known: AllocatedTensor | None,
    ) -> _Levels:
        weights = used_weight(module, module.weight.detach()).double().reshape(module.weight.shape[0], -1).numpy()
        allocated = known
        if allocated is None:
            seen = moments if self._has_free_bias(layer) else moments.about_zero()
            columns = damped(seen.columns)
            target = shifted_target(weights, columns, seen.crossed + (columns - seen.columns))
            rows = damped_rows(self.gradients[layer.name])
            allocated = self._allocate(layer, target, lambda_rd, columns, rows)
        before = _products(weights, moments.original_mean)
        after = _products(_used(module, allocated.rounded.values).astype(np.float64), moments.mean)
        return allocated, self._bias(layer, before - after, lambda_rd)

    def _code_transposed(
        self,
        layer: MatrixLayer,
        module: TransposedModule,
        phases: Sequence[PhaseMoments],
        lambda_rd: float,
        known: AllocatedTensor | None,
    ) -> _Levels:
        groups, n_rows = module.groups, len(module.weight)
        weights = module.weight.detach().double().reshape(n_rows, module.weight.shape[1], -1).numpy()
        allocated = known
        if allocated is None:
            seen = [phase.seen(has_bias=self._has_free_bias(layer)) for phase in phases]
            target = weights.copy()
            for phase in seen:
                matrix = phase_matrix(weights, phase.taps, groups)
                columns = damped(phase.columns)
                crossed = phase.crossed + (columns - phase.columns)
                found = shifted_target(matrix.reshape(-1, matrix.shape[2]), columns, crossed)
                put_phase_matrix(target, found.reshape(matrix.shape), phase.taps, groups)
            weighed, rows = factors(seen, damped_rows(self.gradients[layer.name]), weights.shape[2], groups)
            allocated = self._allocate(layer, target.reshape(n_rows, -1), lambda_rd, damped(weighed), damped_rows(rows))
        values = allocated.rounded.values.astype(np.float64).reshape(weights.shape)
        before = mean_outputs(weights, phases, groups, of_original=True)
        after = mean_outputs(values, phases, groups, of_original=False)
        return allocated, self._bias(layer, before - after, lambda_rd)

    def _allocate(
        self,
        layer: MatrixLayer,
        target: NDArray[np.float64],
        lambda_rd: float,
        columns: NDArray[np.float64],
        rows: NDArray[np.float64],
    ) -> AllocatedTensor:
        """Levels of a weight that is to come near a target."""
        module, name = layer.module(self.original), layer.weight_name
        shape = tuple(module.weight.shape)
        unit = _unit(name, shape, self.options)
        params = make_params(unit, unit.parts()[0])
        used = partial(_used, module) if hasattr(module, "used_weight") else None
        density = self.options.qp_density

        def allocated(target: NDArray[np.float64], rows: NDArray[np.float64], key: str) -> AllocatedTensor:
            start_qp = None
            if key in self.last:  # the best step goes by the root of lambda
                last_lambda, last_qp = self.last[key]
                start_qp = last_qp + round((1 << density) * math.log2(lambda_rd / last_lambda) / 2)
            found = allocate(target, params, lambda_rd, columns, rows, density, used, start_qp)
            self.last[key] = lambda_rd, found.qp
            return found

        plain = allocated(target, rows, name)
        if not self.options.local_scaling or used is not None:
            return plain
        scaling = coded_scaling(name, _scales_by_cost(np.diagonal(rows)), shape, self.options, self.arrays)
        scales = scaling.scales.astype(np.float64)
        found = allocated(target / scales[:, None], rows * np.outer(scales, scales), scaling.name)
        rounded = replace(found.rounded, values=scaling.multiplied(found.rounded.values))
        bits = scaling_bits(scaling, self.options)
        scaled = AllocatedTensor(found.qp, rounded, found.error, plain.sensitivity, scaling, bits)
        return min(plain, scaled, key=lambda each: each.cost(lambda_rd))

    def _bias(
        self, layer: MatrixLayer, change: NDArray[np.float64], lambda_rd: float
    ) -> tuple[NDArray[np.float32], int] | None:
        """A bias that makes up for a change of the mean outputs, and its QP; None if there is none to choose."""
        given = layer.module(self.original).bias
        if given is None or not self._has_free_bias(layer):
            return None
        bias = given.detach().double().numpy() + change
        rows = damped_rows(self.gradients[layer.name])
        qp = vector_qp(bias, lambda_rd, float(np.trace(rows)) / len(rows), self.options.qp_density)
        return bias.astype(np.float32), qp

    def _has_free_bias(self, layer: MatrixLayer) -> bool:
        return layer.module(self.original).bias is not None and self._is_free(layer.bias_name)

    def _is_free(self, name: str) -> bool:
        array = self.arrays.get(name)
        if any(name in (tie.name, tie.source) for tie in self.ties):
            return False
        return isinstance(array, np.ndarray) and array.dtype.kind == "f" and name not in self.options.qp_per_tensor

    def _encode(
        self, coded: Mapping[str, AllocatedTensor], biases: Mapping[str, tuple[NDArray[np.float32], int]]
    ) -> list[EncodedTensor]:
        arrays = self._coded_arrays
        for name, (values, _) in biases.items():
            arrays[name] = values.astype(np.asarray(arrays[name]).dtype)
        qps = {name: qp for name, (_, qp) in biases.items()} | dict(self.options.qp_per_tensor)
        options = replace(self.options, qp_per_tensor=qps)
        steps = self._steps_of_others(coded, biases)
        found = []
        for name, array in arrays.items():
            job = replace(make_job(name, array, arrays, options), rule=self.rules.get(name))
            job = with_own_step(job, steps)
            found.append(_encode_levels(job, coded[name], options) if name in coded else encode_tensor(job, options))
        return found

    def _steps_of_others(self, coded: Mapping[str, AllocatedTensor], biases: Collection[str]) -> OwnSteps | None:
        """Steps of what no known layer has, finer than those of weighed matrices; None if an option says them."""
        if not follows_spread(self.options):
            return None
        others = {name: array for name, array in self._coded_arrays.items() if name not in coded and name not in biases}
        spreads = measured_spreads(others, self.rules, self.options)
        kept = [self._kept_db(name, tensor) for name, tensor in coded.items()]
        known_db = min(max(statistics.fmean(kept), MIN_QUALITY_DB), MAX_QUALITY_DB) if kept else MAX_QUALITY_DB
        n_others, n_values = (
            sum(math.prod(shape_of(array)) for array in arrays.values() if len(shape_of(array)) > 1)
            for arrays in (others, self._coded_arrays)
        )
        more_db = FEW_UNKNOWN_MORE_DB if n_others < FEW_UNKNOWN * n_values else UNKNOWN_MORE_DB
        return steps_at(spreads, known_db + more_db, self.options)

    def _kept_db(self, name: str, tensor: AllocatedTensor) -> float:
        """The SNR of a weighed matrix; far above MAX_QUALITY_DB where nothing is lost."""
        weights = np.asarray(as_float32(name, self.arrays[name]), np.float64).reshape(tensor.rounded.values.shape)
        noise = float(np.square(weights - tensor.rounded.values).mean())
        return 10 * math.log10(max(float(np.square(weights).mean()), 1e-300) / max(noise, 1e-300))

    def _write(self, units: Sequence[EncodedTensor]) -> bytes:
        mps = ModelParameterSet(mps_qp_density=self.options.qp_density)
        shapes = [shape_of(array) for array in self._coded_arrays.values()]
        return write_network(shapes, units, mps, metadata=self.metadata, ties=self.ties)

    def _loss(self, data: bytes, changed: nn.Module) -> Loss:
        """Loss of the network that a decoder gets."""
        stream = read_stream(data)
        decoded = decode_network(stream, None, thread_count(self.options.n_threads))
        state = with_ties(decoded, stream.ties)
        changed.load_state_dict({name: torch.from_numpy(np.asarray(value)) for name, value in state.items()})
        return self.meter.loss(changed)


def _used(module: MatrixModule, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """A coded matrix as its layer uses it."""
    weight = torch.from_numpy(values).reshape(module.weight.shape)
    found: NDArray[np.float32] = used_weight(module, weight).reshape(values.shape).numpy()
    return found


def _products(weights: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean outputs of the rows of a matrix whose groups see patches of these means."""
    parts = weights.reshape(len(means), -1, weights.shape[1])
    outputs: NDArray[np.float64] = np.einsum("grc,gc->gr", parts, means)
    return outputs.reshape(-1)


def _unit(name: str, shape: tuple[int, ...], options: CompressOptions) -> DataUnit:
    return DataUnit(PayloadType.FLOAT, (name,), shape, b"", node_id=None, dq_flag=options.use_dq)


def _scales_by_cost(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scales by which errors of all rows come to cost the same, of geometric mean 1.

    Args:
        costs: What a squared error of 1 costs in each row, above zero.
    """
    octaves = -0.5 * np.log2(costs)
    octaves = np.clip(octaves - np.median(octaves), -MAX_SCALE_OCTAVES, MAX_SCALE_OCTAVES)
    found: NDArray[np.float64] = np.exp2(octaves - octaves.mean())
    return found


def _encode_levels(job: TensorJob, tensor: AllocatedTensor, options: CompressOptions) -> EncodedTensor:
    unit = with_unary_length(_unit(job.name, coded_shape(shape_of(job.array)), options), tensor.rounded.indices)
    if tensor.scaling is None:
        return EncodedTensor((encode_indices(unit, tensor.rounded.indices, tensor.qp, options),), job.number_format)
    indices = PartIndices(tensor.rounded.indices, tensor.qp)
    block = encode_scaled(tensor.scaling.unit_of(unit), tensor.scaling, indices, options)
    return EncodedTensor((block,), job.number_format, is_scaled=True)
