"""What the commands of coding share: options, bars of progress, and what is told of a coded file."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tqdm import tqdm
from tyro.conf import UseAppendAction

from vvc_nnr.bitstream.number_formats import FloatBits, NamedArrays, itemsize_of, may_lose, number_format_of, shape_of
from vvc_nnr.coding.coded_network import (
    CodedNetwork,
    float8_line,
    growth_line,
    joined_line,
    listed,
    outlier_lines,
    scaled_line,
    weak_line,
)
from vvc_nnr.experiments.cli.common import Outcome
from vvc_nnr.experiments.cli.flags import HIDDEN, Flags
from vvc_nnr.experiments.cli.kinds import choice, door, named, one_for_each, whole_number
from vvc_nnr.experiments.cli.networks.inspect import ROLE, left_out_notes, prefix_notes
from vvc_nnr.model.container import Tensor, float32_size
from vvc_nnr.network_file import ONNX_SUFFIX, NetworkArrays, lost_with_graph
from vvc_nnr.options import CompressOptions
from vvc_nnr.parallel import Progress
from vvc_nnr.roles.by_name import named_roles
from vvc_nnr.roles.roles import Role, override_roles

if TYPE_CHECKING:
    from vvc_nnr.calibrate.allocation import CalibratedNetwork, TensorAllocation
    from vvc_nnr.calibrate.codec_loss import RateDistortionLoss
    from vvc_nnr.experiments.tables.table import Cell
    from vvc_nnr.sensitivity.compress_sensitive import SensitiveNetwork

# Networks from this many values on show how far their coding is.
_PROGRESS_ELEMENTS = 5_000_000
# From this share of a network's bytes on a line tells of constants, floats that are kept exact.
_MUCH = 0.1


def _scan_order(text: str) -> int | str:
    word = choice("auto", "0", "1", "2", "3", "4")(text)
    return word if word == "auto" else int(word)


_NAMED_QP = Annotated[tuple[str, int], door(named(whole_number, "NAME=QP"), "NAME=QP")]
_NAMED_ROLE = Annotated[tuple[str, str], ROLE]
_FLAG_NAMES = {"qp_per_tensor": "qp_of", "use_dq": "dq", "n_threads": "threads"}
_FLAG_KINDS: dict[str, Any] = {
    "nonweight_qp": door(whole_number, "QP"),
    "qp_per_tensor": UseAppendAction[tuple[_NAMED_QP, ...]],
    "scan_order": door(_scan_order, "{auto,0,1,2,3,4}"),
    "float64": HIDDEN,
}
_FLAG_VALUES = {"qp_per_tensor": one_for_each("--qp-of"), "role_of": one_for_each("--role-of")}
NNC_FLAGS = Flags(
    CompressOptions,
    names=_FLAG_NAMES,
    kinds=_FLAG_KINDS | {"role_of": UseAppendAction[tuple[_NAMED_ROLE, ...]]},
    converted=_FLAG_VALUES,
)
_IDLE_IN_UPDATES = ("codebook", "roles", "role_of", "qp_by_size", "lossless", "search", "local_scaling")
UPDATE_FLAGS = Flags(
    CompressOptions,
    names=_FLAG_NAMES,
    kinds=_FLAG_KINDS | dict.fromkeys(_IDLE_IN_UPDATES, HIDDEN),
    converted=_FLAG_VALUES,
)


def sizes(
    output: Path,
    method: str,
    arrays: Mapping[str, Tensor | FloatBits],
    metadata: Mapping[str, str],
    n_bytes: int,
    graph: bytes | None = None,
    input_bytes: int = 0,
) -> Outcome:
    """The size of what was written, against that of the network as a safetensors file of float32.

    Where that is no measure, as of a network without any tensor or with a larger graph, it is against the input.

    Args:
        output: The file.
        method: How it was coded.
        arrays: The network's tensors.
        metadata: Its texts.
        n_bytes: Size of the file.
        graph: Its graph, if it has one, where constants that are too small to be coded stay.
        input_bytes: Size of the file that it is from; 0: not known.
    """
    float_size = float32_size(arrays, metadata)
    is_measure = bool(arrays) and float_size > len(graph or b"")
    told = [f"as a float32 file {float_size}, ratio {float_size / n_bytes:.2f}"] if is_measure else []
    told += [f"from {input_bytes} bytes"] if input_bytes and not is_measure else []
    empty = "" if arrays else f"; {_why_empty(graph)}"
    text = f"{', '.join([f'{output}: {n_bytes} bytes ({method})', *told])}{empty}"
    data = {
        "output": str(output),
        "method": method,
        "n_bytes": n_bytes,
        "float32_bytes": float_size,
        "ratio": float_size / n_bytes if is_measure else None,
        "n_tensors": len(arrays),
    }
    return Outcome(text, data)


def _why_empty(graph: bytes | None) -> str:
    """Why nothing is coded of a network."""
    from vvc_nnr.model.onnx_graph import keeps_constants

    if graph is None or not keeps_constants(graph):
        return "the network has no tensor"
    return "all constants are so small that they stay in the graph, as they are"


def with_growth(outcome: Outcome, made: CodedNetwork) -> Outcome:
    """The outcome with the size of the input, and a note where the file is larger."""
    lines = [f"note: {growth_line(made)}"] if made.growth_bytes else []
    data = {"input_bytes": made.input_bytes, "growth_bytes": made.growth_bytes}
    return Outcome("\n".join([outcome.text, *lines]), outcome.data | data)


def with_lost_graph(outcome: Outcome, network: NetworkArrays, output: Path) -> Outcome:
    """The outcome with a note where an output of tensors alone leaves out the graph of an ONNX model."""
    if network.graph is None or output.suffix.lower() == ONNX_SUFFIX:
        return outcome
    note = f"note: {lost_with_graph(network.graph)}"
    return Outcome(f"{outcome.text}\n{note}", outcome.data | {"graph_left_out": True})


def with_notes(outcome: Outcome, left_out: Sequence[str], names: Iterable[str]) -> Outcome:
    """The outcome with what the input holds beside the network, and a prefix of its names."""
    text = "\n".join([outcome.text, *left_out_notes(left_out), *prefix_notes(names)])
    return Outcome(text, outcome.data | {"left_out": list(left_out)})


def with_quality(outcome: Outcome, made: CodedNetwork) -> Outcome:
    """The outcome with the quality of the steps, and a line if tensors keep little of themselves."""
    lines = [f"warning: {NNC_FLAGS.in_flags(weak_line(made.weak_db))}"] if made.weak_db else []
    lines += [f"warning: {line}" for line in outlier_lines(made)]
    lines += [f"warning: {NNC_FLAGS.in_flags(joined_line(made.joined))}"] if made.joined else []
    lines += [] if made.scaled is None else [f"note: {scaled_line(made.scaled)}"]
    lines += [f"warning: {float8_line(made.float8)}"] if made.float8 else []
    data = {
        "quality_db": made.quality_db,
        "weak_db": dict(made.weak_db),
        "exact_outliers": list(made.by_outliers),
        "quantised_beside_outliers": sorted(made.apart),
        "local_scaling": list(made.scaled or ()),
        "exact_float8": list(made.float8),
    }
    return Outcome("\n".join([outcome.text, *lines]), outcome.data | data)


def with_sensitivities(outcome: Outcome, made: SensitiveNetwork) -> Outcome:
    """The outcome with what noise in each tensor does to the outputs, and what is left of them."""
    inputs = (
        f"{made.n_batches} {'batch' if made.n_batches == 1 else 'batches'} of {'synthetic ' * made.is_synthetic}inputs"
    )
    usual = f"{made.usual_snr_db:.1f} dB and {made.usual_bytes} bytes without --sensitivity"
    better = "" if made.method == "sensitivity" else ", which is the file that was written"
    lines = [f"output SNR on {inputs}: {made.output_snr_db:.1f} dB; {usual}{better}"]
    if made.unreached:
        is_one = len(made.unreached) == 1
        subject = "1 tensor is" if is_one else f"{len(made.unreached)} tensors are"
        steps = "its usual step" if is_one else "their usual steps"
        lines.append(f"note: {subject} reached by no input, and got {steps}: {listed(made.unreached)}")
    tensors = {
        name: {
            "sensitivity": each.per_mse,
            "output_snr_db": _finite(each.output_snr_db),
            "level_db": each.level_db,
            "is_linear": each.is_linear,
            "n_draws": each.n_draws,
        }
        for name, each in made.sensitivities.items()
    }
    data = {
        "sensitivity": {
            "method": made.method,
            "inputs": "synthetic" if made.is_synthetic else "given",
            "n_batches": made.n_batches,
            "output_snr_db": _finite(made.output_snr_db),
            "usual_output_snr_db": _finite(made.usual_snr_db),
            "usual_bytes": made.usual_bytes,
            "tensors": tensors,
        }
    }
    return Outcome("\n".join([outcome.text, *lines]), outcome.data | data)


def _finite(ratio_db: float) -> float | None:
    return ratio_db if math.isfinite(ratio_db) else None


def with_constants(outcome: Outcome, network: NetworkArrays, options: CompressOptions) -> Outcome:
    """The outcome with the bytes of the float tensors that are kept exact as constants, and a line if they are many."""
    sizes = _sizes_of_constants(network, options)
    n_bytes = sum(sizes.values())
    data = outcome.data | {"constant_bytes": n_bytes}
    if n_bytes <= _MUCH * sum(itemsize_of(each) * math.prod(shape_of(each)) for each in network.arrays.values()):
        return Outcome(outcome.text, data)
    largest = max(sizes, key=sizes.__getitem__)
    line = (
        f"kept exact: {len(sizes)} constants of {n_bytes} bytes; "
        f"the largest is {largest}, which --role-of '{largest}=weight' would quantise"
    )
    return Outcome(f"{outcome.text}\n{line}", data)


def _sizes_of_constants(network: NetworkArrays, options: CompressOptions) -> dict[str, int]:
    """Bytes of the float tensors that are constants, by name; none where no role counts."""
    if options.lossless or options.roles == "off":
        return {}
    roles = override_roles(network.roles or named_roles(network.arrays), options.role_of)
    return {
        name: itemsize_of(array) * math.prod(shape_of(array))
        for name, array in network.arrays.items()
        if roles[name].role is Role.CONSTANT and may_lose(number_format_of(name, array))
    }


def calibrated(input: str, output: Path, found: CalibratedNetwork) -> Outcome:
    """What calibration gave each tensor, as a table."""
    from vvc_nnr.experiments.tables.table import Column, Table, to_markdown

    columns = (
        Column("Tensor", text=True),
        Column("Shape", text=True),
        Column("QP"),
        Column("Step", digits=8),
        Column("Size", "byte"),
        Column("Size", "bit/value", digits=3),
        Column("Sensitivity", "dB", digits=1),
        Column("Share of the error", "%", digits=1),
        Column("Zeros", "%", digits=1),
    )
    share = 100 * len(found.data) / found.n_original_bytes
    notes = [
        f"{output}: {len(found.data)} bytes, {share:.2f} % of {found.n_original_bytes}; "
        f"loss {found.loss_db:.4f} dB, mean over {found.n_held_out} pictures that were held out.",
        "Sensitivity: squared error of the output for a squared error of 1 of one weight, after feedback. "
        f"{found.n_candidates} lambdas tried.",
    ]
    latents: dict[str, Any] = {}
    if found.codec is not None:
        latents = _codec_json(found.codec)
        notes += _codec_lines(found.codec)
    table = Table(output.name, columns, tuple(map(_calibrated_row, found.tensors)), tuple(notes))
    data = {
        "input": input,
        "output": str(output),
        "original_bytes": found.n_original_bytes,
        "output_bytes": len(found.data),
        "loss_db": found.loss_db,
        "held_out_pictures": found.n_held_out,
        "candidates": found.n_candidates,
        **latents,
        "tensors": list(map(_calibrated_json, found.tensors)),
    }
    return Outcome(to_markdown(table).rstrip(), data)


def _codec_lines(loss: RateDistortionLoss) -> list[str]:
    """What a codec's pictures take and lose at each operating point."""
    return [
        f"Operating point {place}: its pictures take {new.bpp:.4f} bpp, those of the original {old.bpp:.4f} "
        f"({100 * (new.bpp / old.bpp - 1):+.2f} %), PSNR {new.psnr_db - old.psnr_db:+.4f} dB."
        for place, (old, new) in enumerate(zip(loss.before, loss.after, strict=True))
    ]


def _codec_json(loss: RateDistortionLoss) -> dict[str, Any]:
    return {
        "rate_rise_percent": loss.rate_rise_percent,
        "operating_points": [
            {"original_bpp": old.bpp, "bpp": new.bpp, "original_psnr_db": old.psnr_db, "psnr_db": new.psnr_db}
            for old, new in zip(loss.before, loss.after, strict=True)
        ],
    }


def _calibrated_row(tensor: TensorAllocation) -> tuple[Cell, ...]:
    percent = (None if share is None else 100 * share for share in (tensor.error_share, tensor.zero_share))
    shape = " x ".join(map(str, tensor.shape)) or "scalar"
    bits = 8 * tensor.size_bytes / tensor.n_values
    return (tensor.name, shape, tensor.qp, tensor.step, tensor.size_bytes, bits, tensor.sensitivity_db, *percent)


def _calibrated_json(tensor: TensorAllocation) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "qp": tensor.qp,
        "step": tensor.step,
        "size_bytes": tensor.size_bytes,
        "sensitivity_db": tensor.sensitivity_db,
        "error_share": tensor.error_share,
        "zero_share": tensor.zero_share,
        "local_scaling": tensor.is_scaled,
    }


class MeasuringBar:
    """A bar of measured tensors on standard error, from when the first has taken a while."""

    def __init__(self) -> None:
        self.bar = tqdm(total=0, unit="tensor", file=sys.stderr, delay=1, disable=not sys.stderr.isatty())

    def __enter__(self) -> MeasuringBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def report(self, n_done: int, n_total: int) -> None:
        """What measuring calls."""
        self.bar.total = n_total
        self.bar.update(n_done - self.bar.n)


class CodingBar:
    """A bar on standard error for large networks, nothing for small ones."""

    def __init__(self, arrays: NamedArrays) -> None:
        n_values = sum(math.prod(shape_of(array)) for array in arrays.values())
        is_shown = n_values >= _PROGRESS_ELEMENTS and sys.stderr.isatty()
        self.bar = tqdm(total=n_values, unit="value", unit_scale=True, file=sys.stderr) if is_shown else None

    def __enter__(self) -> CodingBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    @property
    def report(self) -> Progress | None:
        """What coding calls."""
        return None if self.bar is None else self._update

    def _update(self, n_done: int, n_total: int) -> None:
        assert self.bar is not None
        self.bar.update(n_done - self.bar.n)
