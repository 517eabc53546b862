"""The commands compress and decompress: network files to coded ones and back."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from vvc_nnr.bitstream.graph import Graph, GraphCarriage
from vvc_nnr.bitstream.number_formats import NamedArrays
from vvc_nnr.coding.coded_network import CodedNetwork, weak_names
from vvc_nnr.coding.encoder import code_network
from vvc_nnr.errors import InputError, shown_names
from vvc_nnr.experiments.cli.common import Command, Outcome, check_outputs
from vvc_nnr.experiments.cli.flags import HIDDEN, Flags
from vvc_nnr.experiments.cli.kinds import FOLDER, QPS, OutputPath, choice, door
from vvc_nnr.experiments.cli.networks.coding import (
    NNC_FLAGS,
    CodingBar,
    MeasuringBar,
    calibrated,
    sizes,
    with_constants,
    with_growth,
    with_lost_graph,
    with_notes,
    with_quality,
    with_sensitivities,
)
from vvc_nnr.experiments.cli.networks.inspect import ReadingFlags, note_on
from vvc_nnr.files import naming, read_bytes, write_file
from vvc_nnr.filters.bundled import FEATURE_LEVELS_KEY, network_path
from vvc_nnr.filters.picture_options import PictureOptions
from vvc_nnr.model.container import parse_container
from vvc_nnr.model.safetensors import UNIFORM_KEY, Biases, Ranges, metadata_from_json, parse_network, uniform_bytes
from vvc_nnr.network_file import (
    NNC_SUFFIX,
    ONNX_SUFFIX,
    SAFETENSORS_SUFFIX,
    NetworkArrays,
    check_plain_suffix,
    is_nnc,
    is_special,
    kind_of_file,
    read_arrays,
    read_network_file,
    stored_network,
    with_folded_norms,
    write_arrays,
)
from vvc_nnr.options import CompressOptions
from vvc_nnr.quantize.snr import weak_tensors_db
from vvc_nnr.roles.by_name import named_roles
from vvc_nnr.roles.roles import exact_names
from vvc_nnr.sensitivity.synthetic import SYNTHETIC

METHODS = ("nnc", *(f"uniform{bits}" for bits in range(1, 17)))

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
        return sizes(self.output, "nnc", network.arrays, network.metadata, len(data), network.graph, network.n_bytes)

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
        with naming(path), NNC_FLAGS.as_typed(), CodingBar(coded.arrays) as progress:
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

        with naming(path), NNC_FLAGS.as_typed(), MeasuringBar() as bar, CodingBar(coded.arrays) as progress:
            made = compress_by_sensitivity(
                coded,
                inputs,
                self.coding,
                metadata=metadata,
                graph=graph,
                progress=progress.report,
                measuring=bar.report,
            )
        return with_sensitivities(self._written(path, network, coded, made.coded), made)

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
        outcome = sizes(
            self.output, "nnc", network.arrays, network.metadata, len(made.data), network.graph, network.n_bytes
        )
        outcome = with_constants(with_quality(outcome, made), coded, self.coding)
        return with_notes(with_growth(outcome, made), network.left_out, network.arrays)

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
        outcome = sizes(self.output, method, stored.tensors, stored.metadata, len(data), None, network.n_bytes)
        lines = [f"warning: {weak_names(weak)}; give more bits, or --method nnc"] if weak else []
        if kept:
            lines.append(f"kept exact, as entropy tables, constants and what is not finite are: {shown_names(kept, 1)}")
        data_of = {"ranges": ranges, "weak_db": weak, "exact": kept}
        outcome = Outcome("\n".join([outcome.text, *lines]), outcome.data | data_of)
        outcome = with_lost_graph(outcome, network, self.output)
        return with_notes(outcome, stored.left_out, stored.tensors)

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
        return with_notes(calibrated(self.input, self.output, made), stored.left_out, stored.tensors)


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
        outcome = sizes(
            self.output, "not coded", network.arrays, network.metadata, n_bytes, network.graph, network.n_bytes
        )
        outcome = with_notes(outcome, network.left_out, network.arrays)
        outcome = with_lost_graph(outcome, network, self.output)
        if not is_coded:
            return outcome
        note = note_on(path)
        return Outcome(f"{outcome.text}\n{note}", outcome.data | {"note": note})


def _tell(line: str) -> None:
    print(line, file=sys.stderr)
