"""A network file to a coded file by pictures: calibrated to what the network does to them, and trained on for size.

```
 network file ── module ──┬─ calibrated compression on photographs ──────────────── file ──┐
                          └─ (finetune) trained on, with the bits in the loss ─ again ─────┴─▶ the better one
```
"""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import TypeVar, get_args

import torch
from torch import nn

from vvc_nnr.bitstream.number_formats import FLOATS, number_format_of
from vvc_nnr.calibrate.allocation import CalibratedNetwork
from vvc_nnr.calibrate.compress_calibrated import ReportLine, calibrated_options, compress_calibrated
from vvc_nnr.calibrate.samples import Calibration
from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.errors import BitstreamError, InputError, VvcNnrError
from vvc_nnr.files import AtomicFile, is_stream, read_bytes, short_name
from vvc_nnr.filters.inference.torch import training_precision
from vvc_nnr.filters.networks.context_autoencoder import BundledAutoencoder
from vvc_nnr.filters.networks.foreign import declared_layout
from vvc_nnr.filters.networks.layout import LAYOUT_KEY, Layout
from vvc_nnr.filters.networks.onnx_network import OnnxNetwork
from vvc_nnr.filters.picture_codecs import PictureCodec, picture_codec
from vvc_nnr.filters.picture_options import PictureOptions
from vvc_nnr.filters.training.calibration_pictures import (
    FILTER_CROP_SIDE,
    IN_LOOP_QPS,
    Degrade,
    codec_calibration,
    crop_options,
    divided,
    gaussian_noise,
    inloop_calibration,
    jpeg_artefacts,
    restoration_calibration,
)
from vvc_nnr.filters.training.fine_tuning import (
    AutoencoderTuning,
    InLoopTuning,
    RateTask,
    RestorationTuning,
    TuneOptions,
    Tuning,
    tune_for_size,
)
from vvc_nnr.filters.training.loop import check_checkpoint
from vvc_nnr.filters.training.run import weights_sha256
from vvc_nnr.filters.zoo import LOOP_FILTERS_KEY, Network, network_of
from vvc_nnr.json_text import parse_json
from vvc_nnr.model.torch import copied_module
from vvc_nnr.model.torch_norms import find_norm_pairs, fold_batch_norms
from vvc_nnr.network_file import read_arrays, read_network_file
from vvc_nnr.options import CompressOptions
from vvc_nnr.sequences.cifar import load_cifar10
from vvc_nnr.sequences.images import image_files
from vvc_nnr.sequences.listing import distinct_files

DEFAULT_HOURS = 1.0
N_TIMED_STEPS = 5

_AnyModule = TypeVar("_AnyModule", bound=nn.Module)
_log = logging.getLogger(__name__)


def compress_by_pictures(
    path: Path,
    photographs: Path,
    output: Path,
    options: PictureOptions,
    coding: CompressOptions | None = None,
    report: ReportLine = _log.info,
) -> CalibratedNetwork:
    """Writes the coded network of a file, and tells what each tensor got.

    The loss is measured against the network as the file has it, before norms are folded or it is trained on.

    Args:
        path: Network file of any kind: an in-loop filter, an autoencoder, a restoration network.
        photographs: Folder of photographs; every fourth measures the loss.
        output: The coded file to write. Fine-tuning keeps its checkpoint and its pairs beside it.
        options: The limit, and what the network is for.
        coding: Options of coding that calibration leaves open; None: the defaults.
        report: Gets lines of progress.

    Raises:
        InputError: If the network, an option or a picture cannot be used, or the limit cannot be kept.
        BitstreamError: If the network file or a picture is damaged.
        UnsupportedError: If the network holds something that cannot be used.
    """
    options.check()
    if options.finetune and is_stream(output):
        raise InputError(f"{output}: fine-tuning keeps its checkpoint beside the output, which must be a file")
    coding = CompressOptions() if coding is None else coding
    if coding.lambda_rd is not None or coding.scan_order not in ("auto", 0):
        raise InputError("calibration: chooses levels by itself, take lambda_rd and scan_order away")
    coding = calibrated_options(coding)
    stored = read_network_file(path)
    arrays = read_arrays(path)
    if arrays.graph is not None and options.arch is None and "architecture" not in stored.metadata:
        raise InputError(
            f"{path}: an ONNX model cannot be calibrated, no gradients go through its graph; say what makes its torch "
            "module (arch, --arch FILE.py:NAME), or compress it without calibration (--calibrate)"
        )
    formats = {name: number_format_of(name, array) for name, array in arrays.arrays.items()}
    given = network_of(stored, options.arch, str(path))
    model = folded_module(given) if options.fold_batch_norms else given
    job = _Job(path, output, options, stored.metadata, distinct_files(image_files(photographs)))
    if options.finetune and not isinstance(model, BundledAutoencoder) and job.codec(model) is not None:
        raise InputError("finetune: not for autoencoders of one's own, whose rate it does not know; take it away")
    pictures = job.pictures(model)

    def pictures_for(network: nn.Module) -> Calibration:
        """The pictures; of an autoencoder that was trained on, with the latents that it has now."""
        is_other = network is not model and isinstance(network, BundledAutoencoder)
        found = job.pictures(network) if is_other else pictures
        return replace(found, accepts_small=True) if options.accept_small else found

    def compress(network: nn.Module) -> CalibratedNetwork:
        return compress_calibrated(
            in_formats(network, formats),
            pictures_for(network),
            max_loss_db=options.max_loss_db,
            max_rate_rise_percent=options.max_rate_rise_percent,
            max_bytes=options.max_bytes,
            options=coding,
            metadata=job.coded_metadata(given),
            reference=given,
            report=report,
        )

    found = compress(model)
    if options.finetune:
        network = tuned(model, found, job.tuning(model, photographs), output, options.hours or DEFAULT_HOURS, report)
        found = _better(found, lambda: compress(network), report, by_size=options.max_bytes is None)
    with AtomicFile(output) as file:
        file.write(found.data)
    return found


def folded_module(network: nn.Module) -> nn.Module:
    """A copy of a network with its batch norms folded.

    Raises:
        InputError: If it has none that can be folded.
    """
    found = find_norm_pairs(network)
    if not (found.pairs or found.kept):
        raise InputError("fold_batch_norms: no batch norm of the network directly and alone follows a layer")
    folded: nn.Module = fold_batch_norms(network)
    return folded


def in_formats(network: _AnyModule, formats: Mapping[str, str]) -> _AnyModule:
    """A copy of a network whose float tensors have the number formats of a file.

    Args:
        network: The network.
        formats: Names of its tensors to number formats, as of `vvc_nnr.bitstream.number_formats`.

    Raises:
        UnsupportedError: If it cannot be copied.
    """
    changed: _AnyModule = copied_module(network)
    for name, tensor in changed.state_dict(keep_vars=True).items():
        if tensor.is_floating_point() and formats.get(name) in FLOATS:
            tensor.data = tensor.data.to(getattr(torch, formats[name]))
    return changed


def tuned(
    model: nn.Module,
    before: CalibratedNetwork,
    tuning: Tuning,
    output: Path,
    hours: float,
    report: ReportLine = _log.info,
) -> nn.Module:
    """A copy of a network that was trained on with the bits in its loss; a run that was cut off goes on.

    Args:
        model: The network.
        before: What calibrated compression made of it.
        tuning: What it learns on.
        output: The coded file; the checkpoint and its plan lie beside it.
        hours: How long, about.
        report: Gets lines of progress.

    Raises:
        InputError: If the pictures or the checkpoint cannot be used.
    """
    network = copy.deepcopy(model)
    checkpoint = _beside(output, "checkpoint")
    # Of lambda six digits: the last ones may depend on the number of threads.
    lambda_rd = (before.calibrated or before).lambda_rd
    identity = {"weights": weights_sha256(model), "lambda_rd": f"{lambda_rd:.6g}", **tuning.identity()}
    check_checkpoint(checkpoint, identity)
    task = tuning.task(network, before)
    options = TuneOptions(
        n_steps=_n_steps(task, tuning.batch_size, hours, _beside(output, "checkpoint.json")),
        batch_size=tuning.batch_size,
        learning_rate=tuning.learning_rate,
    )
    report(f"fine-tuning: {options.n_steps} steps, checkpoint {checkpoint}")
    tune_for_size(task, options, checkpoint, identity)
    tuning.finish(network, model)
    return network.eval()


@dataclass(frozen=True, slots=True)
class _Job:
    """One call: what the kind of network decides.

    Attributes:
        path: The network file.
        output: The coded file.
        options: The caller's.
        metadata: What the file says of its network.
        photographs: Those that calibrate, each once.
    """

    path: Path
    output: Path
    options: PictureOptions
    metadata: Mapping[str, str]
    photographs: Sequence[Path]

    def pictures(self, model: nn.Module) -> Calibration:
        """What compression follows and what measures it."""
        options = self.options
        n_crops = options.n_crops
        layout = self._layout(model)
        if isinstance(model, Network) and (options.noise_sigma is not None or options.jpeg_quality is not None):
            raise InputError("noise_sigma, jpeg_quality: not for in-loop filters and autoencoders")
        if layout is None and (options.loop_filters is not None or options.qps is not None):
            raise InputError("loop_filters, qps: only for in-loop filters")
        if not isinstance(model, BundledAutoencoder) and options.cifar is not None:
            raise InputError("cifar: only for autoencoders")
        if layout is not None:
            crops = crop_options(n_crops, FILTER_CROP_SIDE)
            return inloop_calibration(self.photographs, self._qps(), self._loop_filters(), crops, layout)
        if (codec := self.codec(model)) is not None:
            images = None if options.cifar is None else load_cifar10(options.cifar).images
            return codec_calibration(codec, self.photographs, n_crops, images)
        crops = crop_options(n_crops)
        return restoration_calibration(self.photographs, _n_planes(model), self._degradation(), crops)

    def tuning(self, model: nn.Module, folder: Path) -> Tuning:
        """How to train it on; pictures that measure the loss are left out, and copies of them."""
        options = self.options
        images = None if options.cifar is None else load_cifar10(options.cifar).images
        parts, small = divided(self.photographs, images)
        found = self.photographs if options.data is None else image_files(options.data)
        paths = distinct_files(found, parts.held_out)
        if not paths:
            raise InputError(f"{options.data or folder}: all of its photographs measure the loss, give others as data")
        if (layout := self._layout(model)) is not None:
            return InLoopTuning(paths, self._loop_filters(), self._qps(), _beside(self.output, "pairs"), layout)
        if isinstance(model, BundledAutoencoder):
            return AutoencoderTuning(paths, small.followed)
        return RestorationTuning(paths, self._degradation(), _n_planes(model))

    def codec(self, model: nn.Module) -> PictureCodec | None:
        """What codes pictures by an autoencoder; None for a network that filters or restores them."""
        options = self.options
        restores = options.noise_sigma is not None or options.jpeg_quality is not None or options.arch == "dncnn"
        if restores or self._layout(model) is not None:
            return None
        try:
            return picture_codec(model)
        except VvcNnrError:
            return None

    def coded_metadata(self, model: nn.Module) -> dict[str, str]:
        """What the coded file says: what the file said, and the layout of a filter of the user's own."""
        layout = self._layout(model)
        own = {} if layout is None or isinstance(model, Network) else {LAYOUT_KEY: layout.text}
        return {**self.metadata, **own}

    def _layout(self, model: nn.Module) -> Layout | None:
        """How decoded pictures go into a filter; None for a network that is no filter of decoded pictures."""
        options = self.options
        if isinstance(model, BundledAutoencoder):
            return None
        is_asked = not (options.qps is None and options.loop_filters is None and options.layout is None)
        if (options.noise_sigma is not None or options.jpeg_quality is not None) and not is_asked:
            return None
        is_said = options.arch != "dncnn" and (hasattr(model, LAYOUT_KEY) or LAYOUT_KEY in self.metadata)
        if not (is_asked or is_said):
            return None
        if isinstance(model, OnnxNetwork):
            raise InputError(f"{self.path}: an ONNX model has no layers to calibrate; say as arch what makes it")
        return declared_layout(model, options.layout, self.metadata, str(self.path))

    def _qps(self) -> Sequence[int]:
        return self.options.qps or IN_LOOP_QPS

    def _loop_filters(self) -> LoopFilters:
        """What the codec runs before the filter: by the option, else by the file's word, else all."""
        said = self.options.loop_filters or self.metadata.get(LOOP_FILTERS_KEY, "all")
        for known in get_args(LoopFilters):
            if said == known:
                return known  # type: ignore[no-any-return]
        raise InputError(f"{self.path}: {LOOP_FILTERS_KEY} {said[:80]!r} in its metadata: give the option loop_filters")

    def _degradation(self) -> Degrade | None:
        """What the network repairs; None: it takes pictures as they are."""
        sigma, quality = self.options.noise_sigma, self.options.jpeg_quality
        if sigma is None and quality is None:
            if self.options.arch == "dncnn":
                raise InputError("arch dncnn: what it is for must be given too: noise_sigma, jpeg_quality or qps")
            return None
        return gaussian_noise(sigma) if sigma is not None else jpeg_artefacts(quality or 0)


def _better(
    found: CalibratedNetwork, compress_again: Callable[[], CalibratedNetwork], report: ReportLine, *, by_size: bool
) -> CalibratedNetwork:
    """The better of two files, or the first if the network that was tuned does not keep the limit."""
    try:
        again = compress_again()
    except InputError as error:
        report(f"fine-tuning did not help, the file of before is written: {error}")
        return found
    return min(found, again, key=lambda one: len(one.data) if by_size else one.cost)


def _n_planes(model: nn.Module) -> int:
    convolutions = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    first = next(convolutions, None)
    if first is None:
        raise InputError("arch: the network has no convolution that would tell how many planes it takes")
    return first.in_channels


def _beside(output: Path, suffix: str) -> Path:
    """Where fine-tuning keeps what it has."""
    return output.with_name(f"{short_name(output.name)}.{suffix}")


def _n_steps(task: RateTask, batch_size: int, hours: float, plan: Path) -> int:
    """Steps that take the time that was asked for, as they were counted when the run began."""
    if plan.exists():
        try:
            found = parse_json(read_bytes(plan))
            if found["hours"] == hours:
                return int(found["n_steps"])
        except (BitstreamError, ValueError, KeyError, TypeError):
            raise InputError(f"{plan}: not the plan of a fine-tuning; remove it to begin anew") from None
        raise InputError(f"{plan}: {found['hours']} hours were planned there, {hours} are asked for; remove it")
    n_steps = max(1, round(3600 * hours / _seconds_per_step(task, batch_size)))
    with AtomicFile(plan) as file:
        file.write(json.dumps({"hours": hours, "n_steps": n_steps}).encode())
    return n_steps


def _seconds_per_step(task: RateTask, batch_size: int) -> float:
    """Of the forward and the backward pass; the first of them, which is slower, does not count."""

    def seconds(step: int) -> float:
        start = time.perf_counter()
        with training_precision(torch.device("cpu")):
            loss = task.loss(step, batch_size, torch.device("cpu"))
        loss.backward()  # type: ignore[no-untyped-call]
        return time.perf_counter() - start

    _, *timed = (seconds(step) for step in range(1 + N_TIMED_STEPS))
    task.network.zero_grad()
    return mean(timed)
