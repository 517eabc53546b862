"""Networks with steps that follow from what noise in each tensor does to their outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from vvc_nnr.bitstream.graph import Graph
from vvc_nnr.bitstream.number_formats import NamedArrays
from vvc_nnr.bitstream.stream import read_stream
from vvc_nnr.coding.coded_network import CodedNetwork
from vvc_nnr.coding.encoder import code_network, spreads_of
from vvc_nnr.coding.own_steps import Sensitivities, follows_spread
from vvc_nnr.errors import InputError
from vvc_nnr.network_file import NetworkArrays, decoded_arrays
from vvc_nnr.options import CompressOptions, thread_count
from vvc_nnr.parallel import Progress
from vvc_nnr.sensitivity.noise import OutputMeter, Sensitivity, measured_sensitivities, output_meter
from vvc_nnr.sensitivity.onnx_inputs import batches_of
from vvc_nnr.sensitivity.onnx_run import OnnxModelRunner
from vvc_nnr.sensitivity.synthetic import SYNTHETIC, synthetic_batches

Method = Literal["sensitivity", "spread"]
SYNTHETIC_SHARE = 0.5
"""How far synthetic inputs, which may be unlike real ones, move the SNR of a tensor from what is usual to theirs."""


@dataclass(frozen=True, slots=True, eq=False)
class SensitiveNetwork:
    """A network in a file whose steps follow from sensitivities.

    Attributes:
        coded: The file.
        sensitivities: What noise in each tensor does to the outputs, by name.
        output_snr_db: SNR of the outputs of the coded file on the inputs; inf if they are the same.
        usual_snr_db: That of the file of the same budget whose steps follow from spread, size and place alone.
        usual_bytes: The size of that file.
        method: "spread" where that file is the better one on given inputs, and is this one.
        n_batches: What the network was run on.
        is_synthetic: Whether the inputs were made here.
    """

    coded: CodedNetwork
    sensitivities: Mapping[str, Sensitivity]
    output_snr_db: float
    usual_snr_db: float
    usual_bytes: int
    method: Method
    n_batches: int
    is_synthetic: bool

    @property
    def unreached(self) -> tuple[str, ...]:
        """Tensors that no input reaches, whose steps follow from their spread as ever."""
        return tuple(name for name, found in self.sensitivities.items() if found.per_mse == 0)


def compress_by_sensitivity(
    network: NetworkArrays,
    inputs: Any,
    options: CompressOptions,
    *,
    module: Any = None,
    metadata: Mapping[str, str] | None = None,
    graph: Graph | None = None,
    progress: Progress | None = None,
    measuring: Progress | None = None,
) -> SensitiveNetwork:
    """The network with the steps that leave its outputs the least noise at the budget that is asked for.

    The file whose steps follow from spread, size and place alone is made and measured too, and the better one on the
    inputs is returned, unless these are synthetic.

    Args:
        network: Its tensors, and its graph if it is an ONNX model.
        inputs: What it is run on: batches as `onnx_inputs.batches_of` or `module_run.calls_of` takes them, or
            "synthetic" of an ONNX model.
        options: How it is coded.
        module: The torch module that the tensors are of; None: an ONNX model.
        metadata: Texts that travel with it.
        graph: How the graph travels.
        progress: Called with the values coded so far and their total, anew for each file.
        measuring: Called with the tensors measured so far and their number.

    Raises:
        InputError: If it has neither module nor graph, or cannot be run, or an input or option cannot be used.
        BitstreamError, UnsupportedError: If a file of inputs is damaged, or something of the kind is not run here.
    """
    if not follows_spread(options):
        raise InputError(
            "sensitivity: has no effect with qp, bitdepth, qp_by_size, lossless or roles off; take one of them away"
        )
    spreads = spreads_of(network.arrays, network.roles or None, options)
    meter, n_batches = _meter(network, inputs, list(spreads), module, options)
    found = measured_sensitivities(meter, network.arrays, spreads, measuring)
    arguments = (metadata, network.roles or None, graph, network.n_bytes or None)
    usual = code_network(network.arrays, options, progress, *arguments)
    usual_db = meter.snr_db(_decoded(usual.data, options))
    is_synthetic = isinstance(inputs, str) and inputs == SYNTHETIC
    per_mse = {name: each.per_mse for name, each in found.items()}
    sensitivities = Sensitivities(per_mse, SYNTHETIC_SHARE if is_synthetic else 1.0)
    # A quality is the bytes that it takes without sensitivities.
    budget = options if options.quality is None else replace(options, quality=None, max_bytes=len(usual.data))
    made, snr_db = usual, usual_db
    try:
        by_sensitivity = code_network(network.arrays, budget, progress, *arguments, sensitivities)
    except InputError:
        if options.quality is None:
            raise
    else:
        own_db = meter.snr_db(_decoded(by_sensitivity.data, options))
        # One draw of noise on inputs that are unlike real ones tells nothing: choosing by it costs 0.5 dB, as measured.
        if own_db >= usual_db or is_synthetic:
            made, snr_db = by_sensitivity, own_db
    method: Method = "spread" if made is usual else "sensitivity"
    return SensitiveNetwork(made, found, snr_db, usual_db, len(usual.data), method, n_batches, is_synthetic)


def _meter(
    network: NetworkArrays, inputs: Any, changing: list[str], module: Any, options: CompressOptions
) -> tuple[OutputMeter, int]:
    """What measures the outputs, and on how many batches."""
    if module is not None:
        from vvc_nnr.sensitivity.module_run import ModuleRunner, calls_of  # here: it imports torch

        calls = calls_of(inputs)
        return output_meter(ModuleRunner(module, calls)), len(calls)
    if network.graph is None:
        raise InputError(
            "sensitivity: the network has no graph to run, only tensors: give the torch module itself in Python "
            "(vvc_nnr.compress(module, sensitivity=inputs)), or an ONNX model"
        )
    is_synthetic = isinstance(inputs, str) and inputs == SYNTHETIC
    n_threads = thread_count(options.n_threads)
    runner = OnnxModelRunner(network.graph, network.arrays, changing, n_threads, by_logits=is_synthetic)
    if is_synthetic:
        runner.batches = synthetic_batches(runner)
    else:
        runner.batches = batches_of(inputs, runner.inputs)
    try:
        return output_meter(runner), len(runner.batches)
    except InputError:
        runner.without_fed()
        return output_meter(runner), len(runner.batches)


def _decoded(data: bytes, options: CompressOptions) -> NamedArrays:
    """The tensors of a coded file as they come back."""
    return decoded_arrays(data, read_stream(data).n_elements, thread_count(options.n_threads)).arrays
