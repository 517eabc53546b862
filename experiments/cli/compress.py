"""The commands compress, decompress and update: network files to coded ones and back."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tqdm import tqdm
from tyro.conf import Positional, UseAppendAction, arg

from vvc_nnr.bitstream.graph import Graph, GraphCarriage
from vvc_nnr.bitstream.number_formats import (
    FloatBits,
    NamedArrays,
    itemsize_of,
    may_lose,
    number_format_of,
    shape_of,
)
from vvc_nnr.bitstream.stream import read_stream
from vvc_nnr.coding.encoder import code_network
from vvc_nnr.coding.own_steps import (
    CodedNetwork,
    float8_line,
    growth_line,
    joined_line,
    listed,
    outliers_line,
    scaled_line,
    weak_line,
    weak_names,
)
from vvc_nnr.coding.update import BaseState, code_update, difference_snrs_db
from vvc_nnr.compress import apply_update
from vvc_nnr.errors import InputError, shown
from vvc_nnr.experiments.cli.common import Command, Outcome, check_outputs
from vvc_nnr.experiments.cli.flags import HIDDEN, Flags
from vvc_nnr.experiments.cli.inspect import ROLE, ReadingFlags, left_out_notes, note_on, prefix_notes
from vvc_nnr.experiments.cli.kinds import FOLDER, QPS, OutputPath, choice, door, named, one_for_each, whole_number
from vvc_nnr.files import naming, read_bytes, write_file
from vvc_nnr.filters.bundled import FEATURE_LEVELS_KEY, network_path
from vvc_nnr.filters.picture_options import PictureOptions
from vvc_nnr.model.container import Tensor, float32_size, parse_container
from vvc_nnr.model.safetensors import (
    UNIFORM_KEY,
    Biases,
    Ranges,
    metadata_from_json,
    parse_network,
    uniform_bytes,
)
from vvc_nnr.network_file import (
    NNC_SUFFIX,
    ONNX_SUFFIX,
    SAFETENSORS_SUFFIX,
    NetworkArrays,
    all_tensors,
    check_plain_suffix,
    is_nnc,
    is_special,
    kind_of_file,
    lost_with_graph,
    plain_bytes,
    read_arrays,
    read_network_file,
    read_states,
    stored_network,
    with_folded_norms,
    write_arrays,
)
from vvc_nnr.options import CompressOptions
from vvc_nnr.parallel import Progress
from vvc_nnr.quantize.snr import weak_tensors_db
from vvc_nnr.roles.by_name import named_roles
from vvc_nnr.roles.roles import Role, exact_names, override_roles
from vvc_nnr.sensitivity.synthetic import SYNTHETIC

if TYPE_CHECKING:
    from vvc_nnr.calibrate.allocation import CalibratedNetwork, TensorAllocation
    from vvc_nnr.calibrate.codec_loss import RateDistortionLoss
    from vvc_nnr.experiments.tables.table import Cell
    from vvc_nnr.sensitivity.compress_sensitive import SensitiveNetwork

# Networks from this many values on show how far their coding is.
_PROGRESS_ELEMENTS = 5_000_000
# From this share of a network's bytes on a line tells of constants, floats that are kept exact.
_MUCH = 0.1
# Tensors that a note names.
METHODS = ("nnc", *(f"uniform{bits}" for bits in range(1, 17)))


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
PICTURE_FLAGS = Flags(
    PictureOptions,
    names={"n_crops": "crops"},
    kinds={"qps": QPS, "data": FOLDER, "fold_batch_norms": HIDDEN, "max_bytes": HIDDEN},
)


@dataclass(frozen=True, kw_only=True)
class Compress(Command):
    """Quantise or code a network file.

    Attributes:
        input: Network file of any kind, told by its content, or the name of a bundled network.
        output: .safetensors or .nnc to write.
        method: nnc (default for .nnc), or uniform1 to uniform16 bit (default for .safetensors: uniform8).
        biases: Biases in --method uniform; default: quantised.
        per_tensor: One range per tensor in --method uniform, as in the papers; default: one per row (output channel).
        key: Where in a checkpoint of torch the state dict is, keys joined by dots; default: where it usually is.
        strip_prefix: Prefix that is taken off names, such as module.
        graph: Graph of an ONNX model; manifest (default): so that the reference software decodes the file; onnx: by the
            standard.
        fold_batch_norms: Fold batch norms into the layers before them: of an ONNX model, or of --arch with --calibrate.
        integer: Store the levels of a filter's features, so that --precision int8 is the same on every machine; a coded
            network stays as it is coded if no option of coding is given.
        sensitivity: Inputs of an ONNX model (.npz, arrays by their names), or the word synthetic: steps follow from
            what noise in each tensor does to the outputs on them.
        calibrate: Photographs to choose levels by, with --max-loss-db or --max-bytes; every fourth measures the loss.
        coding: --method nnc.
        pictures: --method nnc --calibrate, by what the network does to pictures.
    """

    input: Positional[str]
    output: Annotated[OutputPath, arg(aliases=["-o"])]
    method: Annotated[str | None, door(choice(*METHODS), "M")] = None
    biases: Biases | None = None
    per_tensor: bool = False
    key: str | None = None
    strip_prefix: str = ""
    graph: GraphCarriage | None = None
    fold_batch_norms: bool = False
    integer: bool = False
    sensitivity: Annotated[str | None, arg(metavar="FILE.npz|synthetic")] = None
    calibrate: Annotated[Path | None, arg(metavar="DIR")] = None
    coding: Annotated[CompressOptions, NNC_FLAGS.arg] = field(default_factory=CompressOptions)
    pictures: Annotated[PictureOptions, PICTURE_FLAGS.arg] = field(default_factory=PictureOptions)

    def run(self) -> Outcome:
        """Writes the file.

        Raises:
            InputError: If the input, an option or a limit cannot be used, or the file not be written.
            BitstreamError, UnsupportedError: If the input cannot be read or coded.
        """
        method = self._method()
        path = network_path(self.input)
        given = None if self.sensitivity in (None, SYNTHETIC) else Path(self.sensitivity or "")
        check_outputs([path, self.pictures.cifar, given], [self.output])
        if self.integer and is_nnc(path) and self._codes_nothing():
            return self._integer(path)
        if self.sensitivity is not None and (method != "nnc" or self.calibrate is not None):
            with_what = f"for --method nnc, not {method}" if method != "nnc" else "without --calibrate"
            raise InputError(f"--sensitivity: only {with_what}; take it away")
        if self.calibrate is not None:
            if method != "nnc":
                raise InputError(f"--calibrate: only for --method nnc, not {method}")
            return self._by_pictures(path, self.calibrate)
        first = PICTURE_FLAGS.first_given(self.pictures)
        if first is not None:
            raise InputError(f"{first}: needs --calibrate DIR, photographs to compress by")
        return self._nnc(path) if method == "nnc" else self._uniform(path, method)

    def _method(self) -> str:
        """The method that was named, or that of the output's name.

        Raises:
            InputError: If the output's name is none that it writes, or an option is one of another method.
        """
        output = self.output
        method = self.method or ("nnc" if is_nnc(output) else "uniform8")
        written = NNC_SUFFIX if method == "nnc" else SAFETENSORS_SUFFIX
        suffix = output.suffix.lower()
        if suffix not in (NNC_SUFFIX, SAFETENSORS_SUFFIX) and not is_special(output):
            raise InputError(f"{output}: compress writes {NNC_SUFFIX} or {SAFETENSORS_SUFFIX} files; change the name")
        if suffix in {NNC_SUFFIX, SAFETENSORS_SUFFIX} - {written}:
            raise InputError(f"{output}: --method {method} writes {written} files; change the name or the method")
        for flag, is_given in (("--biases", self.biases is not None), ("--per-tensor", self.per_tensor)):
            if method == "nnc" and is_given:
                raise InputError(f"{flag}: only for --method uniform1 to uniform16")
        for flag, is_given in (
            ("--integer", self.integer),
            ("--fold-batch-norms", self.fold_batch_norms),
            ("--graph", self.graph is not None),
        ):
            if method != "nnc" and is_given:
                raise InputError(f"{flag}: only for --method nnc, not {method}")
        first = NNC_FLAGS.first_given(self.coding)
        if method != "nnc" and first is not None:
            raise InputError(f"--method {method} takes none of the options of --method nnc, such as {first}")
        return method

    def _codes_nothing(self) -> bool:
        """Whether no option asks for something else than a coded file has, but for the levels of features."""
        is_plain = self.key is None and not self.strip_prefix and self.graph is None and not self.fold_batch_norms
        return (
            is_plain
            and self.calibrate is None
            and self.sensitivity is None
            and NNC_FLAGS.first_given(self.coding) is None
        )

    def _integer(self, path: Path) -> Outcome:
        """The coded network with the levels of its features, else as it is."""
        network, data = read_arrays(path), _with_levels(read_bytes(path), path)
        write_file(self.output, data)
        return _sizes(self.output, "nnc", network.arrays, network.metadata, len(data))

    def _nnc(self, path: Path) -> Outcome:
        network = read_arrays(path, key=self.key, strip_prefix=self.strip_prefix)
        with naming(path):
            coded = with_folded_norms(network) if self.fold_batch_norms else network
        if coded.graph is None and self.graph is not None:
            raise InputError(f"{path}: --graph: the network has no graph, only tensors; take it away")
        graph = None if coded.graph is None else Graph(coded.graph, self.graph or "manifest")
        metadata = {key: text for key, text in coded.metadata.items() if key != FEATURE_LEVELS_KEY}
        if self.sensitivity is not None:
            return self._by_sensitivity(path, network, coded, graph, metadata, self.sensitivity)
        with naming(path), NNC_FLAGS.as_typed(), _ProgressBar(coded.arrays) as progress:
            roles, n_bytes = coded.roles or None, network.n_bytes or None
            made = code_network(coded.arrays, self.coding, progress.report, metadata, roles, graph, n_bytes)
        return self._written(path, network, coded, made)

    def _by_sensitivity(
        self,
        path: Path,
        network: NetworkArrays,
        coded: NetworkArrays,
        graph: Graph | None,
        metadata: Mapping[str, str],
        inputs: str,
    ) -> Outcome:
        from vvc_nnr.sensitivity.compress_sensitive import compress_by_sensitivity

        with naming(path), NNC_FLAGS.as_typed(), _MeasuringBar() as bar, _ProgressBar(coded.arrays) as progress:
            made = compress_by_sensitivity(
                coded,
                inputs,
                self.coding,
                metadata=metadata,
                graph=graph,
                progress=progress.report,
                measuring=bar.report,
            )
        return _with_sensitivities(self._written(path, network, coded, made.coded), made)

    def _written(self, path: Path, network: NetworkArrays, coded: NetworkArrays, made: CodedNetwork) -> Outcome:
        """Writes the file of a network.

        Args:
            path: The file that it is from.
            network: As it is there.
            coded: As it was coded.
            made: What came of it.
        """
        if self.integer:
            made = replace(made, data=_with_levels(made.data, path))
        write_file(self.output, made.data)
        outcome = _sizes(self.output, "nnc", network.arrays, network.metadata, len(made.data))
        outcome = _with_constants(_with_quality(outcome, made), coded, self.coding)
        return _with_notes(_with_growth(outcome, made), network.left_out, network.arrays)

    def _uniform(self, path: Path, method: str) -> Outcome:
        network = read_arrays(path, key=self.key, strip_prefix=self.strip_prefix)
        stored = stored_network(network, path)
        exact: NamedArrays = {name: network.arrays.get(name, tensor) for name, tensor in stored.tensors.items()}
        with naming(path):
            bits = int(method.removeprefix("uniform"))
            ranges: Ranges = "tensor" if self.per_tensor else "row"
            to_keep = exact_names(named_roles({**stored.tensors}) | dict(network.roles))
            data = uniform_bytes(exact, stored.metadata, bits, self.biases or "quantised", ranges, to_keep)
            kept = sorted(metadata_from_json(parse_container(data)[1][UNIFORM_KEY]).exact)
            floats = {name: tensor for name, tensor in stored.tensors.items() if tensor.dtype.kind == "f"}
            weak = weak_tensors_db(floats, parse_network(data).tensors)
        write_file(self.output, data)
        outcome = _sizes(self.output, method, stored.tensors, stored.metadata, len(data))
        lines = [f"warning: {weak_names(weak)}; give more bits, or --method nnc"] if weak else []
        if kept:
            more = f" and {len(kept) - 1} more" if len(kept) > 1 else ""
            lines.append(f"kept exact, as entropy tables, constants and what is not finite are: {shown(kept[0])}{more}")
        data_of = {"ranges": ranges, "weak_db": weak, "exact": kept}
        outcome = Outcome("\n".join([outcome.text, *lines]), outcome.data | data_of)
        outcome = _with_lost_graph(outcome, network, self.output)
        return _with_notes(outcome, stored.left_out, stored.tensors)

    def _by_pictures(self, path: Path, photographs: Path) -> Outcome:
        from vvc_nnr.filters.compress import compress_by_pictures  # here: it imports torch and the codec

        if self.key is not None or self.strip_prefix:
            raise InputError("--key, --strip-prefix: not with --calibrate; write the state dict as .safetensors first")
        if self.graph is not None:
            raise InputError("--graph: not with --calibrate, which codes tensors alone; take it away")
        stored = read_network_file(path)
        options = replace(self.pictures, fold_batch_norms=self.fold_batch_norms, max_bytes=self.coding.max_bytes)
        coding = replace(self.coding, max_bytes=None)
        with PICTURE_FLAGS.as_typed(), NNC_FLAGS.as_typed():
            made = compress_by_pictures(path, photographs, self.output, options, coding, _tell)
        if self.integer:
            data = _with_levels(read_bytes(self.output), path)
            write_file(self.output, data)
        return _with_notes(_calibrated(self.input, self.output, made), stored.left_out, stored.tensors)


def _as_onnx(network: NetworkArrays, path: Path) -> bytes:
    from vvc_nnr.filters.inference.onnxruntime import onnx_of_arrays  # here: it imports torch

    return onnx_of_arrays(network, str(path))


def _with_levels(data: bytes, path: Path) -> bytes:
    from vvc_nnr.filters.inference.native import with_feature_levels  # here: it imports torch

    return with_feature_levels(data, str(path))


@dataclass(frozen=True, kw_only=True)
class Decompress(Command):
    """Turn a quantised or coded network file into a plain one.

    Attributes:
        input: Network file of any kind, told by its content, or the name of a bundled network.
        output: .safetensors, .pt, .pth or .onnx to write; .onnx of networks that hold a graph, or of in-loop filters.
        key: Where in a checkpoint of torch the state dict is, keys joined by dots; default: where it usually is.
        strip_prefix: Prefix that is taken off names, such as module.
        reading: Coded networks (.nnc).
    """

    input: Positional[str]
    output: Annotated[OutputPath, arg(aliases=["-o"])]
    key: str | None = None
    strip_prefix: str = ""
    reading: ReadingFlags = field(default_factory=ReadingFlags)

    def run(self) -> Outcome:
        """Writes the file.

        Raises:
            InputError: If the input or an option cannot be used, or the file not be written.
            BitstreamError, UnsupportedError: If the input cannot be read.
        """
        path = network_path(self.input)
        check_plain_suffix(self.output)
        check_outputs([path], [self.output])
        is_coded = kind_of_file(path) == "nnc"
        if not is_coded:
            self.reading.check_unused(path)
        network = read_arrays(
            path,
            key=self.key,
            strip_prefix=self.strip_prefix,
            max_elements=self.reading.max_elements,
            n_threads=self.reading.threads,
        )
        if self.output.suffix.lower() == ONNX_SUFFIX and network.graph is None and "architecture" in network.metadata:
            data = _as_onnx(network, path)
            write_file(self.output, data)
            n_bytes = len(data)
        else:
            n_bytes = write_arrays(self.output, network)
        outcome = _sizes(self.output, "not coded", network.arrays, network.metadata, n_bytes)
        outcome = _with_notes(outcome, network.left_out, network.arrays)
        outcome = _with_lost_graph(outcome, network, self.output)
        return Outcome(f"{outcome.text}\n{note_on(path)}", outcome.data) if is_coded else outcome


@dataclass(frozen=True, kw_only=True)
class MakeUpdate(Command):
    """Code what turns one state of a network into another.

    Attributes:
        base: Network file that the receiver has, of any kind that compress reads, or the name of a bundled network.
        new: Network file that it should have: the same names, shapes and number formats.
        output: .nnc to write.
        after: Updates that the receiver has applied to the base, in order; give it once for each.
        key: Where the state dict is, keys joined by dots, in those of the two files that are checkpoints of torch.
        strip_prefix: Prefix that is taken off names of both, such as module.
        coding: As of compress; QPs are those of differences, roles play no part.
    """

    base: Positional[str]
    new: Positional[str]
    output: Annotated[OutputPath, arg(aliases=["-o"])]
    after: UseAppendAction[tuple[Path, ...]] = ()
    key: str | None = None
    strip_prefix: str = ""
    coding: Annotated[CompressOptions, UPDATE_FLAGS.arg] = field(default_factory=CompressOptions)

    def run(self) -> Outcome:
        """Writes the file.

        Raises:
            InputError: If a file or an option cannot be used, the states do not fit, or the file cannot be written.
            BitstreamError, UnsupportedError: If a file cannot be read.
        """
        base, new = network_path(self.base), network_path(self.new)
        if not is_nnc(self.output) and not is_special(self.output):
            raise InputError(f"{self.output}: an update is a {NNC_SUFFIX} file; change the name")
        check_outputs([base, new, *self.after], [self.output])
        before, wanted = read_states(base, new, key=self.key, strip_prefix=self.strip_prefix)
        state, _ = _state_after(before, self.after)
        with naming(new), UPDATE_FLAGS.as_typed(), _ProgressBar(wanted.arrays) as progress:
            made, after = code_update(state, wanted.arrays, self.coding, progress=progress.report)
            found_db = difference_snrs_db(state, after, wanted.arrays)
        write_file(self.output, made.data)
        n_bytes = plain_bytes(wanted.arrays)
        told = f"{len(made.data)} bytes, an update of a network of {n_bytes} bytes"
        text = f"{self.output}: {told}{_least_line(found_db)}"
        snrs_db = {name: ratio_db if math.isfinite(ratio_db) else None for name, ratio_db in found_db.items()}
        data = {"output": str(self.output), "n_bytes": len(made.data), "network_bytes": n_bytes, "snr_db": snrs_db}
        return _with_notes(_with_quality(Outcome(text, data), made), wanted.left_out, wanted.arrays)


@dataclass(frozen=True, kw_only=True)
class ApplyUpdate(Command):
    """Write the network that updates make of another.

    Attributes:
        base: Network file that they are for, or the name of a bundled network.
        updates: Updates in order, all since the base.
        output: .safetensors, .pt, .pth or .onnx to write.
        key: Where in a checkpoint of torch the base's state dict is, keys joined by dots; default: where it usually is.
        strip_prefix: Prefix that is taken off the base's names, such as module.
    """

    base: Positional[str]
    updates: Annotated[Positional[tuple[Path, ...]], arg(metavar="UPDATES ...")]
    output: Annotated[OutputPath, arg(aliases=["-o"])]
    key: str | None = None
    strip_prefix: str = ""

    def run(self) -> Outcome:
        """Writes the file.

        Raises:
            InputError: If a file cannot be used or written.
            BitstreamError, UnsupportedError: If a file cannot be read, or an update is not for the network.
        """
        base = network_path(self.base)
        check_plain_suffix(self.output)
        check_outputs([base, *self.updates], [self.output])
        with naming(base):
            network = all_tensors(read_arrays(base, key=self.key, strip_prefix=self.strip_prefix))
        state, unchecked = _state_after(network, self.updates)
        n_bytes = write_arrays(self.output, replace(network, arrays=state.exact_arrays))
        n_updates = len(self.updates)
        text = f"{self.output}: {n_bytes} bytes after {n_updates} {'update' if n_updates == 1 else 'updates'}"
        outcome = Outcome(text, {"output": str(self.output), "n_bytes": n_bytes, "updates": n_updates})
        outcome = _with_notes(outcome, network.left_out, network.arrays)
        outcome = _with_unchecked(outcome, unchecked)
        return _with_lost_graph(outcome, network, self.output)


def _state_after(network: NetworkArrays, updates: tuple[Path, ...]) -> tuple[BaseState, list[str]]:
    """The state of a network after updates, and those that do not tell whether they are whole and for it.

    Raises:
        InputError: If a file cannot be read.
        BitstreamError, UnsupportedError: If one is damaged, or not for this state.
    """
    state, unchecked = BaseState.of(network.arrays), []
    for path in updates:
        data = read_bytes(path)
        with naming(path):
            state = apply_update(state, data)
            if not read_stream(data).is_verifiable:
                unchecked.append(str(path))
    return state, unchecked


def _least_line(found_db: Mapping[str, float]) -> str:
    """Which differences come back least well, of those that are not exact."""
    lossy = {name: ratio_db for name, ratio_db in found_db.items() if math.isfinite(ratio_db)}
    if not lossy:
        return ""
    least = min(lossy, key=lossy.__getitem__)
    return f"\nsignal-to-noise ratio of the differences: at least {lossy[least]:.1f} dB ({shown(least, 60)})"


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def _sizes(
    output: Path,
    method: str,
    arrays: Mapping[str, Tensor | FloatBits],
    metadata: Mapping[str, str],
    n_bytes: int,
) -> Outcome:
    """The size of what was written, against that of the network as a safetensors file of float32."""
    float_size = float32_size(arrays, metadata)
    ratio = float_size / n_bytes
    empty = "" if arrays else "; the network has no tensor"
    text = f"{output}: {n_bytes} bytes ({method}), as a float32 file {float_size}, ratio {ratio:.2f}{empty}"
    data = {
        "output": str(output),
        "method": method,
        "n_bytes": n_bytes,
        "float32_bytes": float_size,
        "ratio": ratio,
        "n_tensors": len(arrays),
    }
    return Outcome(text, data)


def _with_growth(outcome: Outcome, made: CodedNetwork) -> Outcome:
    """The outcome with the size of the input, and a note where the file is larger."""
    lines = [f"note: {growth_line(made)}"] if made.growth_bytes else []
    data = {"input_bytes": made.input_bytes, "growth_bytes": made.growth_bytes}
    return Outcome("\n".join([outcome.text, *lines]), outcome.data | data)


def _with_unchecked(outcome: Outcome, names: Sequence[str]) -> Outcome:
    """The outcome with a note of updates that do not say what they are for, as brief ones do not."""
    if not names:
        return outcome
    note = f"note: not checked to be whole and for this network, since brief updates do not tell: {', '.join(names)}"
    return Outcome(f"{outcome.text}\n{note}", outcome.data | {"not_checked": [*names]})


def _with_lost_graph(outcome: Outcome, network: NetworkArrays, output: Path) -> Outcome:
    """The outcome with a note where an output of tensors alone leaves out the graph of an ONNX model."""
    if network.graph is None or output.suffix.lower() == ONNX_SUFFIX:
        return outcome
    note = f"note: {lost_with_graph(network.graph)}"
    return Outcome(f"{outcome.text}\n{note}", outcome.data | {"graph_left_out": True})


def _with_notes(outcome: Outcome, left_out: Sequence[str], names: Iterable[str]) -> Outcome:
    """The outcome with what the input holds beside the network, and a prefix of its names."""
    text = "\n".join([outcome.text, *left_out_notes(left_out), *prefix_notes(names)])
    return Outcome(text, outcome.data | {"left_out": list(left_out)})


def _with_quality(outcome: Outcome, made: CodedNetwork) -> Outcome:
    """The outcome with the quality of the steps, and a line if tensors keep little of themselves."""
    lines = [f"warning: {NNC_FLAGS.in_flags(weak_line(made.weak_db))}"] if made.weak_db else []
    lines += [f"warning: {outliers_line(made.by_outliers)}"] if made.by_outliers else []
    lines += [f"warning: {NNC_FLAGS.in_flags(joined_line(made.joined))}"] if made.joined else []
    lines += [] if made.scaled is None else [f"note: {scaled_line(made.scaled)}"]
    lines += [f"warning: {float8_line(made.float8)}"] if made.float8 else []
    data = {
        "quality_db": made.quality_db,
        "weak_db": dict(made.weak_db),
        "exact_outliers": list(made.by_outliers),
        "local_scaling": list(made.scaled or ()),
        "exact_float8": list(made.float8),
    }
    return Outcome("\n".join([outcome.text, *lines]), outcome.data | data)


def _with_sensitivities(outcome: Outcome, made: SensitiveNetwork) -> Outcome:
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


def _with_constants(outcome: Outcome, network: NetworkArrays, options: CompressOptions) -> Outcome:
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


def _calibrated(input: str, output: Path, found: CalibratedNetwork) -> Outcome:
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


class _MeasuringBar:
    """A bar of measured tensors on standard error, from when the first has taken a while."""

    def __init__(self) -> None:
        self.bar = tqdm(total=0, unit="tensor", file=sys.stderr, delay=1, disable=not sys.stderr.isatty())

    def __enter__(self) -> _MeasuringBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def report(self, n_done: int, n_total: int) -> None:
        """What measuring calls."""
        self.bar.total = n_total
        self.bar.update(n_done - self.bar.n)


class _ProgressBar:
    """A bar on standard error for large networks, nothing for small ones."""

    def __init__(self, arrays: NamedArrays) -> None:
        n_values = sum(math.prod(shape_of(array)) for array in arrays.values())
        is_shown = n_values >= _PROGRESS_ELEMENTS and sys.stderr.isatty()
        self.bar = tqdm(total=n_values, unit="value", unit_scale=True, file=sys.stderr) if is_shown else None

    def __enter__(self) -> _ProgressBar:
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
