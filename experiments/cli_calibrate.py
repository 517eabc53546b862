"""The part of the command compress that knows what the network does: calibration on pictures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

import torch
from torch import nn

from vvc_nnr.bitstream.number_formats import format_of
from vvc_nnr.calibrate.calibrated_network import CalibratedNetwork, TensorAllocation
from vvc_nnr.calibrate.calibration import Calibration
from vvc_nnr.calibrate.compress_calibrated import calibrated_options, compress_calibrated
from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.compress import load_into
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli_architecture import in_formats, network_of, with_folded_norms
from vvc_nnr.experiments.cli_common import Outcome, qp_list
from vvc_nnr.experiments.cli_finetune import add_finetuning_options, beside, check_finetuning, tuned
from vvc_nnr.experiments.cli_nnc import options_of
from vvc_nnr.experiments.tables.table import Column, Table, to_markdown
from vvc_nnr.files import AtomicFile
from vvc_nnr.filters.networks.autoencoder import Autoencoder
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.picture_coding import encode_pictures
from vvc_nnr.filters.training.calibration_pictures import (
    IN_LOOP_QPS,
    CropOptions,
    Degrade,
    autoencoder_calibration,
    divided,
    gaussian_noise,
    inloop_calibration,
    jpeg_artefacts,
    patches,
    restoration_calibration,
)
from vvc_nnr.filters.training.fine_tuning import AutoencoderTuning, InLoopTuning, RestorationTuning, Tuning
from vvc_nnr.filters.zoo import LOOP_FILTERS_KEY, Network
from vvc_nnr.model.safetensors import StoredNetwork
from vvc_nnr.network_file import read_arrays
from vvc_nnr.sequences.cifar import load_cifar10
from vvc_nnr.sequences.images import image_files
from vvc_nnr.sequences.listing import distinct_files

_CALIBRATION_OPTIONS = (
    "max_loss_db", "max_bytes", "arch", "noise_sigma", "jpeg_quality", "loop_filters", "qps", "cifar", "crops",
    "accept_small", "data", "hours",
)  # fmt: skip


def add_calibration_options(parser: argparse.ArgumentParser) -> None:
    """Options of `compress --calibrate`."""
    group = parser.add_argument_group("--method nnc, by what the network does to pictures")
    group.add_argument("--calibrate", type=Path, metavar="DIR", help="photographs; every fourth measures the loss")
    group.add_argument("--max-loss-db", type=float, metavar="DB", help="smallest file within this loss of PSNR")
    group.add_argument("--max-bytes", type=int, metavar="N", help="least loss within this size")
    group.add_argument(
        "--arch",
        metavar="A",
        help="dncnn, or FILE.py:NAME, a function that makes the module (default: as the file says)",
    )
    group.add_argument("--noise-sigma", type=float, metavar="S", help="it removes noise of this deviation (of 0..255)")
    group.add_argument("--jpeg-quality", type=int, metavar="Q", help="it repairs JPEG pictures of this quality")
    group.add_argument(
        "--loop-filters",
        choices=get_args(LoopFilters),
        help="in-loop filter: what it comes after (default: as the file says, else all)",
    )
    group.add_argument("--qps", type=qp_list, metavar="QP,...", help="in-loop filter: QPs (default: 22,27,32,37)")
    group.add_argument(
        "--cifar", type=Path, metavar="FILE", help="autoencoder: CIFAR-10 training images, mixed in half"
    )
    group.add_argument("--crops", type=int, metavar="N", help="crops to follow (default: 48)")
    group.add_argument(
        "--accept-small",
        action="store_const",
        const=True,
        help="crops may be smaller than what an output depends on: global pooling, attention",
    )
    add_finetuning_options(group)


def wants_calibration(arguments: argparse.Namespace) -> bool:
    """Whether the command asks for it.

    Raises:
        InputError: If it has options of calibration without --calibrate.
    """
    if arguments.calibrate is not None:
        return True
    if arguments.finetune:
        raise InputError("--finetune: needs --calibrate DIR, photographs to compress by")
    for name in _CALIBRATION_OPTIONS:
        if getattr(arguments, name) is not None:
            raise InputError(f"--{name.replace('_', '-')}: needs --calibrate DIR, photographs to compress by")
    return False


def compress_by_pictures(path: Path, stored: StoredNetwork, arguments: argparse.Namespace) -> Outcome:
    """Writes the coded network of a file to `arguments.output`, and tells what each tensor got.

    The loss is measured against the network as the file has it, before norms are folded or it is tuned.

    Raises:
        InputError: If the network, an option or a picture cannot be used, or the limit cannot be kept.
        UnsupportedError: If the network holds something that cannot be used.
    """
    if (arguments.max_loss_db is None) == (arguments.max_bytes is None):
        raise InputError("--calibrate: one of --max-loss-db and --max-bytes is wanted")
    options = options_of(arguments)
    if options.lambda_rd is not None or options.scan_order not in ("auto", 0):
        raise InputError("--calibrate: chooses levels by itself, take --lambda-rd and --scan-order away")
    options = calibrated_options(options)
    formats = {name: format_of(name, array) for name, array in read_arrays(path).arrays.items()}
    given = network_of(stored, arguments)
    model = with_folded_norms(given) if arguments.fold_batch_norms else given
    check_finetuning(arguments)
    photographs = distinct_files(image_files(arguments.calibrate))
    pictures = _pictures(model, stored.metadata, photographs, arguments)
    pictures = replace(pictures, accepts_small=True) if arguments.accept_small else pictures

    def compress(network: nn.Module) -> CalibratedNetwork:
        return compress_calibrated(
            in_formats(network, formats),
            pictures,
            max_loss_db=arguments.max_loss_db,
            max_bytes=arguments.max_bytes,
            options=options,
            metadata=stored.metadata,
            reference=given,
            report=lambda line: print(line, file=sys.stderr),
        )

    found = compress(model)
    if arguments.finetune:
        network = tuned(model, found, _tuning(model, stored.metadata, photographs, arguments), arguments)
        found = _better(found, lambda: compress(network), by_size=arguments.max_bytes is None)
    with AtomicFile(arguments.output) as file:
        file.write(found.data)
    rates = _latent_rates(model, formats, found, pictures) if isinstance(model, Autoencoder) else None
    return Outcome(_text(arguments, found, rates), _as_json(arguments, found, rates))


def _better(
    found: CalibratedNetwork, compress_again: Callable[[], CalibratedNetwork], *, by_size: bool
) -> CalibratedNetwork:
    """The better of two files, or the first if the network that was tuned does not keep the limit."""
    try:
        again = compress_again()
    except InputError as error:
        print(f"fine-tuning did not help, the file of before is written: {error}", file=sys.stderr)
        return found
    return min(found, again, key=lambda one: len(one.data) if by_size else one.loss_db)


def _latent_rates(
    model: Autoencoder, formats: Mapping[str, str], found: CalibratedNetwork, pictures: Calibration
) -> tuple[float, float]:
    """Bits per pixel of the pictures held out, as the original codes them and as the coded network does."""
    changed = in_formats(model, formats)
    load_into(changed, found.data)
    changed.float()
    targets = torch.cat([sample.inputs[0] for sample in pictures.held_out])
    rgb = (targets.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    n_pixels = rgb.size // 3
    original, coded = (8 * sum(map(len, encode_pictures(network, rgb))) / n_pixels for network in (model, changed))
    return original, coded


def _pictures(
    model: nn.Module, metadata: Mapping[str, str], paths: Sequence[Path], arguments: argparse.Namespace
) -> Calibration:
    crops = CropOptions() if arguments.crops is None else CropOptions(arguments.crops, max(4, arguments.crops))
    if crops.n_fitted < 1:
        raise InputError(f"--crops {arguments.crops}: at least 1 is wanted")
    is_restoration = not isinstance(model, Network)
    if not is_restoration and (arguments.noise_sigma is not None or arguments.jpeg_quality is not None):
        raise InputError("--noise-sigma, --jpeg-quality: not for in-loop filters and autoencoders")
    if not isinstance(model, InLoopNetwork) and (arguments.loop_filters is not None or arguments.qps is not None):
        raise InputError("--loop-filters, --qps: only for in-loop filters")
    if not isinstance(model, Autoencoder) and arguments.cifar is not None:
        raise InputError("--cifar: only for autoencoders")
    if isinstance(model, InLoopNetwork):
        qps = arguments.qps or IN_LOOP_QPS
        return inloop_calibration(paths, qps, _loop_filters(metadata, arguments), replace(crops, side=128))
    if isinstance(model, Autoencoder):
        images = None if arguments.cifar is None else load_cifar10(arguments.cifar).images
        return autoencoder_calibration(*patches(paths, images))
    return restoration_calibration(paths, _n_planes(model), _degradation(arguments), crops)


def _tuning(
    model: nn.Module, metadata: Mapping[str, str], photographs: Sequence[Path], arguments: argparse.Namespace
) -> Tuning:
    """How to train it on; photographs and small pictures that measure the loss are left out, and copies of them."""
    images = None if arguments.cifar is None else load_cifar10(arguments.cifar).images
    parts, small = divided(photographs, images)
    data = arguments.data or arguments.calibrate
    paths = distinct_files(photographs if arguments.data is None else image_files(data), parts.held_out)
    if not paths:
        raise InputError(f"--data {data}: all of its photographs measure the loss, others are wanted")
    if isinstance(model, InLoopNetwork):
        folder = beside(arguments.output, "pairs")
        return InLoopTuning(paths, _loop_filters(metadata, arguments), arguments.qps or IN_LOOP_QPS, folder)
    if isinstance(model, Autoencoder):
        return AutoencoderTuning(paths, small.followed)
    return RestorationTuning(paths, _degradation(arguments), _n_planes(model))


def _loop_filters(metadata: Mapping[str, str], arguments: argparse.Namespace) -> LoopFilters:
    """What the codec runs before the filter: by the option, else by the file's word, else all."""
    said = arguments.loop_filters or metadata.get(LOOP_FILTERS_KEY, "all")
    if said not in get_args(LoopFilters):
        raise InputError(f"{arguments.input}: {LOOP_FILTERS_KEY} {said[:80]!r} in its metadata: use --loop-filters")
    return cast(LoopFilters, said)


def _n_planes(model: nn.Module) -> int:
    convolutions = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    first = next(convolutions, None)
    if first is None:
        raise InputError("--arch: the network has no convolution that would tell how many planes it takes")
    return first.in_channels


def _degradation(arguments: argparse.Namespace) -> Degrade | None:
    sigma, quality = arguments.noise_sigma, arguments.jpeg_quality
    if sigma is not None and quality is not None:
        raise InputError("--noise-sigma, --jpeg-quality: one of them")
    if sigma is None and quality is None:
        if arguments.arch == "dncnn":
            raise InputError("--arch dncnn: what it is for is wanted too, --noise-sigma S or --jpeg-quality Q")
        return None
    if quality is not None and not 1 <= quality <= 100:
        raise InputError(f"--jpeg-quality {quality}: 1 to 100 is wanted")
    if sigma is not None and not 0 < sigma <= 255:
        raise InputError(f"--noise-sigma {sigma}: above 0, at most 255 is wanted")
    return gaussian_noise(sigma) if sigma is not None else jpeg_artefacts(quality)


def _text(arguments: argparse.Namespace, found: CalibratedNetwork, rates: tuple[float, float] | None) -> str:
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
    notes = (
        f"{arguments.output}: {len(found.data)} bytes, {share:.2f} % of {found.n_original_bytes}; "
        f"loss {found.loss_db:.4f} dB, mean over {found.n_held_out} pictures that were held out.",
        "Sensitivity: squared error of the output for a squared error of 1 of one weight, after feedback. "
        f"{found.n_attempts} prices per bit tried.",
        *(
            ()
            if rates is None
            else (f"Its latents take {rates[1]:.4f} bpp there, those of the original {rates[0]:.4f}.",)
        ),
    )
    title = Path(arguments.output).name
    return to_markdown(Table(title, columns, tuple(map(_row, found.tensors)), notes)).rstrip()


def _row(tensor: TensorAllocation) -> tuple[str | int | float | None, ...]:
    percent = (None if share is None else 100 * share for share in (tensor.error_share, tensor.zero_share))
    shape = " x ".join(map(str, tensor.shape)) or "scalar"
    bits = 8 * tensor.size_bytes / tensor.n_values
    return (tensor.name, shape, tensor.qp, tensor.step, tensor.size_bytes, bits, tensor.sensitivity_db, *percent)


def _as_json(
    arguments: argparse.Namespace, found: CalibratedNetwork, rates: tuple[float, float] | None
) -> dict[str, object]:
    return {
        "input": str(arguments.input),
        "output": str(arguments.output),
        "original_bytes": found.n_original_bytes,
        "output_bytes": len(found.data),
        "loss_db": found.loss_db,
        "held_out_pictures": found.n_held_out,
        "attempts": found.n_attempts,
        **({} if rates is None else {"original_latents_bpp": rates[0], "latents_bpp": rates[1]}),
        "tensors": [
            {
                "name": t.name,
                "shape": list(t.shape),
                "qp": t.qp,
                "step": t.step,
                "size_bytes": t.size_bytes,
                "sensitivity_db": t.sensitivity_db,
                "error_share": t.error_share,
                "zero_share": t.zero_share,
            }
            for t in found.tensors
        ],
    }
