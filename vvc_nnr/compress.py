"""The public face: a network's tensors to a coded stream and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from vvc_nnr.bitstream.manifest import with_ties
from vvc_nnr.bitstream.number_formats import Array
from vvc_nnr.bitstream.stream import Buffer, read_stream
from vvc_nnr.coding.decoder import decode_network
from vvc_nnr.coding.encoder import compress_arrays
from vvc_nnr.coding.inspection import Inspection, inspect_stream
from vvc_nnr.errors import InputError
from vvc_nnr.model.torch import is_module, load_arrays, named_arrays
from vvc_nnr.options import (
    DEFAULT_MAX_ELEMENTS,
    CodebookMode,
    CompressOptions,
    Float64Mode,
    Search,
    check_max_elements,
    thread_count,
)
from vvc_nnr.parallel import Progress
from vvc_nnr.roles.by_module import module_roles
from vvc_nnr.roles.roles import RoleMode


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
    progress: Progress | None = None,
    calibration: Any = None,
    max_loss_db: float | None = None,
    max_bytes: int | None = None,
) -> bytes:
    """A coded stream that any decoder of the standard reads, with a manifest for this one.

    Integers and bools come back as they are, floats quantised by the rule of their role and in their number format.
    `CompressOptions` has the options in full.

    Args:
        model: A torch module, or a map of names to numpy arrays or torch tensors.
        qp: QP of float tensors of two or more dimensions; 2**qp_density less halves the step. None: a step of 2**-8.
        qp_density: QP steps per octave as a power of two, 0 to 7.
        nonweight_qp: QP of the other float tensors; "fine": a step of 5 * 2**-21; None: two octaves below `qp`.
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
        progress: Called with the values coded so far and their total.
        calibration: Pictures that the network, a torch module, gets. Levels, QPs and biases are then chosen by what
            they do to its output; `qp` counts only for matrices that no known layer has (None: a step of 2**-13, QP -52
            at density 2), `lambda_rd` and `scan_order` not at all. Not with `bitdepth`, `codebook`, `lossless`,
            `qp_by_size`, or search "thorough". `vvc_nnr.calibrate.compress_calibrated.compress_calibrated` tells more.
        max_loss_db: With `calibration`: the smallest file that loses no more of PSNR on pictures held out.
        max_bytes: With `calibration`: the least loss of a file that is no larger.

    Raises:
        InputError: If an option, a name, a number format or a value cannot be coded, or a limit cannot be kept.
    """
    options = CompressOptions(
        qp, qp_density, nonweight_qp, qp_per_tensor or {}, use_dq, lambda_rd, row_skipping, scan_order, codebook,
        param_opt, bitdepth, float64, n_threads, roles, role_of or {}, qp_by_size, lossless, search,
    )  # fmt: skip
    if calibration is None:
        if max_loss_db is not None or max_bytes is not None:
            raise InputError("max_loss_db, max_bytes: pictures (calibration) must be given to keep them by")
        arrays = named_arrays(model)
        found = module_roles(model, arrays) if is_module(model) else None
        return compress_arrays(arrays, options, progress, metadata, found)
    from vvc_nnr.calibrate.compress_calibrated import compress_calibrated

    return compress_calibrated(
        model, calibration, max_loss_db=max_loss_db, max_bytes=max_bytes, options=options, metadata=metadata
    ).data


def decompress(
    data: Buffer,
    *,
    max_elements: int = DEFAULT_MAX_ELEMENTS,
    n_threads: int | None = None,
    skip_unsupported: bool = False,
    progress: Progress | None = None,
) -> dict[str, Array]:
    """The tensors of a coded stream by name, in its order; bfloat16 as float32.

    Args:
        data: The stream.
        max_elements: Most values that are decoded, of all tensors together: what bounds memory (4 bytes each) and time.
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
    stream = read_stream(data, skip_unsupported=skip_unsupported)
    arrays = decode_network(stream.tensors, max_elements, threads, progress)
    return with_ties(arrays, stream.ties)


def load_into(
    model: Any, data: Buffer, *, max_elements: int = DEFAULT_MAX_ELEMENTS, n_threads: int | None = None
) -> None:
    """Gives a torch module the tensors of a coded stream, after all names, shapes and number formats were checked.

    Args:
        model: A torch module of the architecture that was coded.
        data: The stream.
        max_elements: Most values that are decoded.
        n_threads: Threads; None: one per processor.

    Raises:
        InputError: If the module does not fit; it is as it was then.
        BitstreamError: If the stream is damaged.
        UnsupportedError: If it needs what this package does not implement.
    """
    arrays = decompress(data, max_elements=max_elements, n_threads=n_threads)
    load_arrays(model, arrays, read_stream(data).formats)


def inspect(
    data: Buffer,
    original: Any = None,
    *,
    bins: bool = False,
    max_elements: int = DEFAULT_MAX_ELEMENTS,
    n_threads: int | None = None,
) -> Inspection:
    """What a coded stream is made of. Payloads are decoded only if an original or `bins` asks for it.

    Args:
        data: The stream.
        original: The network that it was made from, for the error of each tensor.
        bins: Tell the bits of each kind of bin.
        max_elements: Most values that are decoded.
        n_threads: Threads; None: one per processor.

    Raises:
        BitstreamError: If the stream is damaged.
        UnsupportedError: If its profile is unknown; other things that are not understood are listed.
        InputError: If an option or the original cannot be used, or that has no tensor of a name in the stream.
    """
    check_max_elements(max_elements)
    arrays = None if original is None else named_arrays(original)
    return inspect_stream(data, arrays, bins=bins, max_elements=max_elements, n_threads=n_threads)
