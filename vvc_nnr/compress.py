"""The public face: a network's tensors to a coded stream and back."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vvc_nnr.bitstream.graph import Graph
from vvc_nnr.bitstream.number_formats import Array, NamedArrays, numpy_values
from vvc_nnr.bitstream.stream import Buffer, read_stream
from vvc_nnr.bitstream.ties import with_ties
from vvc_nnr.coding.coded_network import warn_of
from vvc_nnr.coding.decoder import decode_network
from vvc_nnr.coding.encoder import compress_arrays
from vvc_nnr.coding.inspection import Inspection, inspect_stream
from vvc_nnr.coding.score_search import Evaluate, compress_by_score
from vvc_nnr.coding.update import BaseState
from vvc_nnr.coding.update import apply_update as applied
from vvc_nnr.errors import InputError, UnsupportedError, shown, shown_name
from vvc_nnr.files import naming, read_bytes, write_file
from vvc_nnr.model.onnx import put_together
from vvc_nnr.model.onnx_graph import with_metadata
from vvc_nnr.model.onnx_proto import is_model_proto
from vvc_nnr.model.torch import is_module, load_arrays, named_arrays
from vvc_nnr.network_file import (
    NNC_SUFFIX,
    NetworkArrays,
    check_coded,
    common_prefix,
    decoded_arrays,
    is_nnc,
    is_special,
    onnx_network,
    read_arrays,
)
from vvc_nnr.options import CodebookMode, CompressOptions, Float64Mode, Search, check_max_elements, thread_count
from vvc_nnr.parallel import Progress
from vvc_nnr.roles.by_module import module_roles
from vvc_nnr.roles.roles import RoleMode

_log = logging.getLogger(__name__)

Source: TypeAlias = Buffer | Path | str
"""A coded stream, or the name of a file that holds one."""


def compress(
    model: Any,
    *,
    qp: int | None = None,
    qp_density: int = 2,
    nonweight_qp: int | Literal["fine"] | None = "fine",
    qp_per_tensor: Mapping[str, int] | None = None,
    use_dq: bool = True,
    lambda_rd: float | None = None,
    row_skipping: bool = True,
    scan_order: int | Literal["auto"] = "auto",
    codebook: CodebookMode = "off",
    param_opt: bool = True,
    bitdepth: int | None = None,
    float64: Float64Mode = "float32",
    n_threads: int | None = None,
    metadata: Mapping[str, str] | None = None,
    roles: RoleMode = "auto",
    role_of: Mapping[str, str] | None = None,
    qp_by_size: bool = False,
    lossless: bool = False,
    search: Search = "fast",
    quality: float | None = None,
    bits_per_weight: float | None = None,
    max_bytes: int | None = None,
    local_scaling: bool = False,
    progress: Progress | None = None,
    calibration: Any = None,
    max_loss_db: float | None = None,
    evaluate: Evaluate | None = None,
    max_drop: float | None = None,
    sensitivity: Any = None,
) -> bytes:
    """A coded stream that any decoder of the standard reads, with a manifest for this one.

    Integers, bools and float8 come back as they are, other floats quantised by the rule of their role and in their
    number format. A stream that is larger than the file that is given, or than a safetensors file of the tensors, is
    told by a warning.
    `CompressOptions` has the options in full.

    Args:
        model: A torch module, a map of names to numpy arrays or torch tensors, an ONNX `ModelProto`, or the name of a
            network file of any kind that `load_file` reads.
        qp: QP of float tensors of two or more dimensions, one step for all; 2**qp_density less halves it. None:
            each tensor's step follows from its own spread and size, by `quality`.
        qp_density: QP steps per octave as a power of two, 0 to 7.
        nonweight_qp: QP of the other float tensors; "fine": a step of 5 * 2**-21, or by their own spread where
            weights go by theirs; None: two octaves below `qp`.
        qp_per_tensor: QP of one tensor by its name, above both.
        use_dq: Dependent quantisation of float tensors.
        lambda_rd: Weight of the rate against the squared error when levels are chosen. None: by the rate; 0: none.
        row_skipping: Empty rows of a matrix are one bin each.
        scan_order: 0 row by row, 1 to 4 in blocks of 8 to 64; "auto": blocks where parallel decoding pays.
        codebook: Codebooks of levels for matrices: "off", "force", or "auto" where a file gets smaller.
        param_opt: Estimators of the contexts are chosen per tensor.
        bitdepth: Levels of this many bits in place of a QP.
        float64: "exact" keeps all bits of float64 tensors; "float32" codes them like float32.
        n_threads: Tensors coded at a time. None: one per processor.
        metadata: Texts that travel with the network, such as its architecture; `inspect` gives them back.
        roles: "auto": each tensor is coded by the rule of its role; "off": by its number of dimensions alone.
        role_of: Role of the tensors whose names fit a pattern, such as "*.gamma" to "gdn".
        qp_by_size: Finer QPs for small weight tensors, coarser for large ones, `qp` on average.
        lossless: Every bit of every tensor comes back. Not with options of how floats are quantised.
        search: "thorough" takes more time for fewer bytes at equal error than "fast".
        quality: Signal-to-noise ratio of the weights in dB; small tensors get more. None: what takes no more than one
            step of 2**-8 for all. A tensor that comes back with less than 10 dB is named in a logged warning.
        bits_per_weight: In place of `quality`: the best that takes no more bits per value.
        max_bytes: In place of `quality`: the best in a file that is no larger; with `calibration` by its loss.
        local_scaling: Weights whose rows the next weight takes unlike, whatever the size of the rows themselves, have a
            scale for each. Other decoders may give it apart, as NAME_scaling. A logged warning names these weights, or
            says that there are none. Not with `codebook` or lossless.
        progress: Called with the values coded so far and their total.
        calibration: Pictures that the network, a torch module, gets. Levels, QPs and biases are then chosen by what
            they do to its output; `qp` counts only for matrices that no known layer has (None: a step of 2**-13, QP -52
            at density 2), `lambda_rd` and `scan_order` not at all. Not with `bitdepth`, `codebook`, `lossless`,
            `qp_by_size`, or search "thorough". `vvc_nnr.calibrate.compress_calibrated.compress_calibrated` tells more.
        max_loss_db: With `calibration`: the smallest file that loses no more of PSNR on pictures held out.
        evaluate: A score of the user's own, the higher the better: called with a network of the kind of `model`, about
            ten times (24 where the finest file scores too low), while the smallest file is looked for whose score falls
            by no more than `max_drop`.
        max_drop: With `evaluate`: the largest drop of the score.
        sensitivity: Inputs that the network, an ONNX model or a torch module, is run on to measure what noise in each
            tensor does to its outputs; steps then follow from that instead of from spread, size and place. A list of
            batches: for a module tensors, tuples of arguments or maps of keyword arguments; for an ONNX model maps of
            its inputs' names to arrays, the name of a `.npz` file of them (one axis more for several batches), or
            "synthetic", which makes some. A `quality` then stands for the bytes that it takes without. The file without
            is returned where it leaves the outputs less noise on given inputs.
            `vvc_nnr.sensitivity.compress_sensitive.compress_by_sensitivity` tells more.

    Raises:
        InputError: If an option, a name, a number format or a value cannot be coded, or a limit cannot be kept.
    """
    options = CompressOptions(
        qp, qp_density, nonweight_qp, qp_per_tensor or {}, use_dq, lambda_rd, row_skipping, scan_order, codebook,
        param_opt, bitdepth, float64, n_threads, roles, role_of or {}, qp_by_size, lossless, search,
        quality, bits_per_weight, max_bytes if calibration is None else None, local_scaling,
    )  # fmt: skip
    if sensitivity is not None:
        others = {"calibration": calibration, "evaluate": evaluate, "max_drop": max_drop, "max_loss_db": max_loss_db}
        given = [name for name, value in others.items() if value is not None]
        if given:
            raise InputError(f"sensitivity: has no effect with {given[0]}; take one of them away")
        return _compressed_by_sensitivity(model, sensitivity, options, metadata, progress)
    if (evaluate is None) != (max_drop is None):
        raise InputError("evaluate, max_drop: both must be given, or none")
    if evaluate is not None and max_drop is not None:
        if calibration is not None:
            raise InputError("evaluate: has no effect with calibration; take one of them away")
        by_score = compress_by_score(model, evaluate, max_drop, options, metadata, progress)
        warn_of(by_score)
        _warn_of_prefix(model, model.state_dict() if is_module(model) else model)
        return by_score.data
    if calibration is None:
        if max_loss_db is not None:
            raise InputError("max_loss_db: pictures (calibration) must be given to keep it by")
        network = _as_network(model)
        graph = None if network.graph is None else Graph(network.graph)
        texts = network.metadata | dict(metadata or {})
        roles_of = network.roles or None
        return compress_arrays(network.arrays, options, progress, texts, roles_of, graph, network.n_bytes or None)
    from vvc_nnr.calibrate.compress_calibrated import compress_calibrated

    found = compress_calibrated(
        model, calibration, max_loss_db=max_loss_db, max_bytes=max_bytes, options=options, metadata=metadata
    )
    _warn_of_prefix(model, model.state_dict())
    return found.data


def _compressed_by_sensitivity(
    model: Any, inputs: Any, options: CompressOptions, metadata: Mapping[str, str] | None, progress: Progress | None
) -> bytes:
    from vvc_nnr.sensitivity.compress_sensitive import compress_by_sensitivity

    network = _as_network(model)
    found = compress_by_sensitivity(
        network,
        inputs,
        options,
        module=model if is_module(model) else None,
        metadata=network.metadata | dict(metadata or {}),
        graph=None if network.graph is None else Graph(network.graph),
        progress=progress,
    )
    warn_of(found.coded)
    return found.coded.data


def _as_network(model: Any) -> NetworkArrays:
    """What `compress` is given, with its roles where more than names tell them.

    Raises:
        InputError, BitstreamError, UnsupportedError: If it is none, or a file that cannot be read.
    """
    if isinstance(model, Path | str):
        network = read_arrays(model)
        if network.left_out:
            _log.warning(
                "%s: not part of the network, and not coded: %s",
                shown_name(str(model)),
                ", ".join(map(shown, network.left_out)),
            )
        if network.graph is None:
            _warn_of_prefix(model, network.arrays)
        return network
    if is_model_proto(model):
        return onnx_network(model)
    _check_kind(model)
    arrays = named_arrays(model)
    _warn_of_prefix(model, arrays)
    return NetworkArrays(arrays, {}, 0, roles=module_roles(model, arrays) if is_module(model) else {})


def _check_kind(model: Any) -> None:
    """Raises InputError for what is neither a module nor a map."""
    if not is_module(model) and not isinstance(model, Mapping):
        raise InputError(
            f"got {type(model).__name__}; must be a torch module, a map of names to arrays or torch tensors, an ONNX "
            "ModelProto, or the name of a network file"
        )


def _warn_of_prefix(model: Any, names: Iterable[str]) -> None:
    """Says that all names begin as a wrapper of torch makes them, and how a network without it gets them."""
    prefix = common_prefix(names)
    if not prefix:
        return
    if is_module(model):
        remedy = f"compress model.{prefix[:-1]}"
    elif isinstance(model, Path | str):
        remedy = f"compress it by vvc-nnr compress --strip-prefix {prefix}"
    else:
        remedy = f"take it off: {{name.removeprefix({prefix!r}): value ...}}"
    _log.warning(
        "all names begin with %s, as wrappers of torch (compile, DataParallel) have it; for the names of the network "
        "without the wrapper %s",
        *(prefix, remedy),
    )


def save_file(
    path: Path | str,
    model: Any,
    *,
    options: CompressOptions | None = None,
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Codes a network into a `.nnc` file, all of it or nothing, and returns its size in bytes.

    Args:
        path: The file; its suffix must be that of a coded network, or it is a device.
        model: As for `compress`.
        options: As which `compress` takes them one by one.
        metadata: Texts that travel with the network.

    Raises:
        InputError: If the name is that of another kind of file, the network or an option cannot be used, or the file
            cannot be written.
        BitstreamError, UnsupportedError: If the network is in a file that cannot be read.
    """
    if not is_nnc(path) and not is_special(path):
        raise InputError(f"{path}: a coded network is a {NNC_SUFFIX} file; change the name")
    network = _as_network(model)
    graph = None if network.graph is None else Graph(network.graph)
    texts = network.metadata | dict(metadata or {})
    coding, n_bytes = options or CompressOptions(), network.n_bytes or None
    return write_file(path, compress_arrays(network.arrays, coding, None, texts, network.roles or None, graph, n_bytes))


def load_file(
    path: Path | str,
    *,
    key: str | None = None,
    strip_prefix: str = "",
    max_elements: int | None = None,
    n_threads: int | None = None,
) -> dict[str, Array]:
    """The tensors of a network file of any kind by name, in its order; bfloat16 and float8 as float32.

    Kinds are told by the file's content: .nnc, safetensors and an index of such shards, checkpoints of torch (whatever
    their suffix) and an index of them, ONNX, .npz, .npy, and with their packages HDF5 (h5py) and GGUF (gguf).

    Args:
        path: The file.
        key: Where in a checkpoint of torch the state dict is: keys joined by dots; None: where it usually is.
        strip_prefix: What is taken off the names that begin with it, such as "module." or "_orig_mod.".
        max_elements: Most values that are decoded of a coded network.
        n_threads: Threads for decoding; None: one per processor.

    Raises:
        InputError: If the file cannot be read, an option does not fit it, or a package for its kind is not installed.
        BitstreamError: If its content is damaged.
        UnsupportedError: If it holds something that this package does not read.
    """
    network = read_arrays(path, key=key, strip_prefix=strip_prefix, max_elements=max_elements, n_threads=n_threads)
    return {name: numpy_values(array) for name, array in network.arrays.items()}


def decompress_onnx(data: Source, *, max_elements: int | None = None, n_threads: int | None = None) -> Any:
    """The ONNX `ModelProto` of a coded stream that was made from one.

    Args:
        data: The stream, or the name of a file that holds it.
        max_elements: Most values that are decoded.
        n_threads: Threads; None: one per processor.

    Raises:
        BitstreamError: If the stream is damaged.
        UnsupportedError: If it has no graph, or needs what this package does not implement.
        InputError: If an option is out of range, or the package onnx is not installed.
    """
    check_max_elements(max_elements)
    with _naming_source(data):
        network = decoded_arrays(_stream_bytes(data), max_elements, thread_count(n_threads))
        if network.graph is None:
            raise UnsupportedError("the stream has no graph, only tensors: decompress gives them")
        return put_together(with_metadata(network.graph, network.metadata), network.arrays)


def _stream_bytes(data: Source) -> Buffer:
    """The bytes of a stream that may be in a file.

    Raises:
        InputError: If it is neither, or the file cannot be read.
        BitstreamError: If it is a file of another kind.
    """
    content = read_bytes(data) if isinstance(data, Path | str) else data
    if not isinstance(content, bytes | bytearray | memoryview):
        raise InputError(f"got {type(data).__name__}; must be a coded stream (bytes), or the name of its file")
    check_coded(content)
    return content


def decompress(
    data: Source,
    *,
    max_elements: int | None = None,
    n_threads: int | None = None,
    skip_unsupported: bool = False,
    progress: Progress | None = None,
) -> dict[str, Array]:
    """The tensors of a coded stream by name, in its order; bfloat16 and float8 as float32.

    Args:
        data: The stream, or the name of a file that holds it.
        max_elements: Most values that are decoded, of all tensors together: what bounds memory (4 bytes each) and time.
            None: 2**28, or 64 for each byte of the stream, if that is more.
        n_threads: Threads; None: one per processor.
        skip_unsupported: Leave out units that this package does not implement.
        progress: Called with the values decoded so far and their total.

    Raises:
        BitstreamError: If the stream is damaged, or larger than `max_elements`.
        UnsupportedError: If it is legal, but needs what this package does not implement.
        InputError: If an option is out of range.
    """
    check_max_elements(max_elements)
    threads = thread_count(n_threads)
    with _naming_source(data):
        stream = read_stream(_stream_bytes(data), skip_unsupported=skip_unsupported)
        arrays = decode_network(stream, max_elements, threads, progress)
        return with_ties(arrays, stream.ties)


def _naming_source(data: Source) -> AbstractContextManager[None]:
    """Puts the file's name before what is wrong with its content."""
    return naming(data) if isinstance(data, Path | str) else nullcontext()


def load_into(
    model: Any, data: Source | BaseState, *, max_elements: int | None = None, n_threads: int | None = None
) -> None:
    """Gives a torch module the tensors of a coded stream, after all names, shapes and number formats were checked.

    Args:
        model: A torch module of the architecture that was coded; tensors on the device meta get memory.
        data: The stream, the name of a file that holds it, or the state that `apply_update` or `compress_update` gives.
        max_elements: Most values that are decoded.
        n_threads: Threads; None: one per processor.

    Raises:
        InputError: If the module does not fit; it is as it was then.
        BitstreamError: If the stream is damaged.
        UnsupportedError: If it needs what this package does not implement.
    """
    if isinstance(data, BaseState):
        load_arrays(model, data.exact_arrays, {})
        return
    with _naming_source(data):
        stream = _stream_bytes(data)
        arrays = decompress(stream, max_elements=max_elements, n_threads=n_threads)
        load_arrays(model, arrays, read_stream(stream).formats)


def inspect(
    data: Source,
    original: Any = None,
    *,
    bins: bool = False,
    max_elements: int | None = None,
    n_threads: int | None = None,
) -> Inspection:
    """What a coded stream is made of. Payloads are decoded only if an original or `bins` asks for it.

    Args:
        data: The stream, or the name of a file that holds it.
        original: The network that it was made from, as `compress` takes it, for each tensor's error. Not of updates.
        bins: Tell the bits of each kind of bin. Not of updates.
        max_elements: Most values that are decoded.
        n_threads: Threads; None: one per processor.

    Raises:
        BitstreamError: If the stream is damaged.
        UnsupportedError: If its profile is unknown; other things that are not understood are listed.
        InputError: If an option or the original cannot be used, or that has no tensor of a name in the stream.
        UnsupportedError: If bins or a comparison are asked of an update.
    """
    check_max_elements(max_elements)
    arrays = None if original is None else _arrays_of(original)
    with _naming_source(data):
        return inspect_stream(_stream_bytes(data), arrays, bins=bins, max_elements=max_elements, n_threads=n_threads)


def _arrays_of(model: Any) -> NamedArrays:
    """The tensors of what `compress` takes; raises as `_as_network` does."""
    if isinstance(model, Path | str):
        return read_arrays(model).arrays
    if is_model_proto(model):
        return onnx_network(model).arrays
    _check_kind(model)
    return named_arrays(model)


def apply_update(
    base: BaseState | Any, data: Source, *, max_elements: int | None = None, n_threads: int | None = None
) -> BaseState:
    """The state of a network after an update.

    An update applies to the state that it was made from. One that was made after others needs the state that these
    gave, as this function returned it: the network's tensors alone, saved and read again, are another state.

    Args:
        base: The state before it; a torch module, or a map of names to arrays, counts as one without any update before.
        data: The update, or the name of a file that holds it.
        max_elements: Most values that are decoded, of all tensors together.
        n_threads: Threads; None: one per processor.

    Raises:
        BitstreamError: If the update is damaged, or not for this state.
        UnsupportedError: If it is legal, but needs what this package does not implement.
        InputError: If an option is out of range, or the base or the file cannot be used.
    """
    with _naming_source(data):
        return applied(base, _stream_bytes(data), max_elements=max_elements, n_threads=n_threads)
