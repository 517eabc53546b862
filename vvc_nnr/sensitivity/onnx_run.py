"""ONNX models run with other weights than they have, by ONNX Runtime (extra `onnxruntime`) on the processor.

Making a model ready to run takes longer than running it. So the weights of the main graph become inputs with a default
value, which a run may be given others for; models that need them constant, and weights elsewhere (branches, loops,
functions, bfloat16), are made ready anew for each change.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from vvc_nnr.bitstream.number_formats import Array, FloatBits, NamedArrays
from vvc_nnr.errors import InputError, UnsupportedError, shown
from vvc_nnr.model.onnx import put_together
from vvc_nnr.model.onnx_constants import constants
from vvc_nnr.model.onnx_proto import import_onnx
from vvc_nnr.roles.by_onnx_node import MAIN_GRAPH
from vvc_nnr.sensitivity.noise import Outputs

Batch: TypeAlias = Mapping[str, Array]
"""What a model is run on: arrays by the names of its inputs."""
# Of a model's format: from it on weights may be inputs with a default value.
_IR_VERSION = 4
_FATAL_ONLY = 4
_DTYPES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class DeclaredInput:
    """An input as a model declares it.

    Attributes:
        name: Its name.
        dtype: Its number format in numpy's terms.
        shape: Its axes: a size, the name of one that inputs share, or None for any; None: it does not say.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


class OnnxModelRunner:
    """A model that is run on batches.

    Args:
        graph: The model without its tensors, serialised.
        arrays: Those tensors.
        changing: Names of those that will change.
        n_threads: Threads of ONNX Runtime.
        by_logits: Outputs are what goes into their softmax or sigmoid, which hides noise where it is saturated.

    Raises:
        InputError: If the package onnx or onnxruntime is not installed, or the model cannot be run at all.
        UnsupportedError: If an input is of a kind that is not made here, or the model is beyond 2 GiB.
    """

    batches: Sequence[Batch] = ()

    def __init__(
        self, graph: bytes, arrays: NamedArrays, changing: Sequence[str], n_threads: int, *, by_logits: bool = False
    ) -> None:
        self._graph, self._arrays, self._n_threads, self._by_logits = graph, arrays, n_threads, by_logits
        self._runtime = _import_onnxruntime()
        self._fed: frozenset[str] = frozenset()
        try:
            model = self._with_arrays({})
            fed = _as_inputs(model, [name for name in changing if not isinstance(arrays[name], FloatBits)])
            self._run = self._made(model)
            self._fed = fed
        except InputError:
            self._run = self._made(self._with_arrays({}))
        self.inputs = tuple(map(_declared, self._run.get_inputs()))

    def without_fed(self) -> None:
        """Weights are constants from now on."""
        self._fed = frozenset()
        self._run = self._made(self._with_arrays({}))

    @property
    def model(self) -> Any:
        """The `ModelProto`."""
        return put_together(self._graph, self._arrays)

    def run(self, batch: Batch) -> list[Any]:
        """What it makes of one batch, with its own weights.

        Raises:
            InputError: If it cannot be run on it.
        """
        return _run(self._run, None, batch, 0)

    def outputs(self, changed: NamedArrays) -> Iterator[Outputs]:
        """The float outputs of each batch with some tensors changed, as `Runner.outputs`."""
        fed = {name: array for name, array in changed.items() if name in self._fed and not isinstance(array, FloatBits)}
        run = self._run
        if len(fed) < len(changed):
            fed, run = {}, self._made(self._with_arrays(changed))
        names = [output.name for output in run.get_outputs() if output.type in _FLOAT_TYPES]
        for place, batch in enumerate(self.batches):
            values = _run(run, names, {**batch, **fed}, place) if names else []
            yield dict(zip(names, values, strict=True))

    def _with_arrays(self, changed: NamedArrays) -> Any:
        model = put_together(self._graph, self._arrays | changed)
        if self._by_logits:
            _end_before_squashing(model)
        return model

    def _made(self, model: Any) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self._n_threads, 1
        options.log_severity_level = _FATAL_ONLY
        try:
            data = model.SerializeToString()
        except Exception as error:  # protobuf's own kinds, by the version of it
            raise UnsupportedError("sensitivity: a model beyond 2 GiB cannot be run by its weights") from error
        try:
            return self._runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own kinds, by the version of it
            raise InputError(f"sensitivity: ONNX Runtime cannot run the model: {_words_of(error)}") from error


# Operators at the end of a network whose output says nothing of noise where they are saturated.
_SQUASHING = ("Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid", "Tanh")
_FLOAT_TYPES = ("tensor(float)", "tensor(double)", "tensor(float16)")


def _run(runner: Any, names: list[str] | None, feeds: Mapping[str, Array], place: int) -> list[Any]:
    try:
        found: list[Any] = runner.run(names, dict(feeds))
    except Exception as error:  # its own kinds, by the version of it
        raise InputError(f"sensitivity: the model cannot be run on batch {place}: {_words_of(error)}") from error
    return found


def _words_of(error: Exception) -> str:
    return shown(" ".join(str(error).split()), 300)


def _end_before_squashing(model: Any) -> None:
    """Makes what goes into the softmax or sigmoid of an output that output."""
    producers = {output: node for node in model.graph.node for output in node.output}
    taken = {value.name for value in (*model.graph.output, *model.graph.input)}
    for value in model.graph.output:
        node = producers.get(value.name)
        if node is None or node.op_type not in _SQUASHING:
            continue
        if node.input[0] in producers and node.input[0] not in taken:
            value.name = node.input[0]
            value.type.tensor_type.ClearField("shape")
            taken.add(value.name)


def _as_inputs(model: Any, names: Sequence[str]) -> frozenset[str]:
    """Makes constants of the main graph inputs with a default value; those that became such."""
    onnx, graph, wanted = import_onnx(), model.graph, set(names)
    made = {}
    for constant in constants(model):
        if constant.path == MAIN_GRAPH and constant.key in wanted and constant.key == constant.name:
            made[constant.name] = constant.tensor
    initializers = {tensor.name for tensor in graph.initializer}
    for name, tensor in made.items():
        if name not in initializers:
            graph.initializer.add().CopyFrom(tensor)
            graph.initializer[-1].name = name
    kept = [node for node in graph.node if not (node.op_type == "Constant" and set(node.output) & made.keys())]
    if len(kept) < len(graph.node):
        copies = [type(node).FromString(node.SerializeToString()) for node in kept]
        del graph.node[:]
        graph.node.extend(copies)
    declared = {value.name for value in graph.input}
    for name, tensor in made.items():
        if name not in declared:
            graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, tuple(tensor.dims)))
    model.ir_version = max(model.ir_version, _IR_VERSION)
    return frozenset(made)


def _declared(argument: Any) -> DeclaredInput:
    dtype = _DTYPES.get(argument.type)
    if dtype is None:
        kind = shown(argument.type, 40)
        raise UnsupportedError(
            f"sensitivity: input {shown(argument.name, 200)!r} is of the kind {kind}, not of numbers"
        )
    shape = argument.shape
    return DeclaredInput(argument.name, dtype, None if shape is None else tuple(shape))


def _import_onnxruntime() -> Any:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError:
        raise InputError(
            "sensitivity: needs the package onnxruntime to run an ONNX model: pip install 'vvc-nnr[onnxruntime]'"
        ) from None
