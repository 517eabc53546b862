"""How the in-loop filter learns: crops of pairs from the real codec, a loss that weighs all QPs alike; and its runs."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vvc_nnr.codec.configuration import CONFIGURATIONS, ConfigName
from vvc_nnr.codec.encoders import EncoderName
from vvc_nnr.codec.sequence import CODED_BIT_DEPTH, DEFAULT_PRESET, LoopFilters, Preset
from vvc_nnr.errors import InputError
from vvc_nnr.files import remove_leftovers
from vvc_nnr.filters.inference.runner import Runner
from vvc_nnr.filters.networks.factory import module_made_by
from vvc_nnr.filters.networks.foreign import declared_layout
from vvc_nnr.filters.networks.in_loop import RUNGS, InLoopFilter, InLoopNetwork, LadderFilter, Rung, deepened
from vvc_nnr.filters.networks.layout import LAYOUT_KEY, RUNS, Layout
from vvc_nnr.filters.networks.planes import COMPONENTS, unpacked_planes
from vvc_nnr.filters.networks.told_qp import DEFAULT_RULE, parse_rule
from vvc_nnr.filters.training.calibration_pictures import Degrade, as_picture, filter_samples, without_margin
from vvc_nnr.filters.training.loop import (
    Identity,
    Workers,
    check_checkpoint,
    train,
    worker_group,
)
from vvc_nnr.filters.training.optimiser import OptimiserName
from vvc_nnr.filters.training.pairs import (
    Packed,
    PairOptions,
    PairSet,
    check_pairs,
    make_pairs,
    pair_names,
    pairs_digest,
)
from vvc_nnr.filters.training.run import (
    CHECKPOINT,
    HISTORY,
    RunOptions,
    Trained,
    check_same_pictures,
    finish_run,
    frame_digests,
    note_pictures,
    noted_pictures,
    pair_digests,
    pictures_before,
    weights_sha256,
)
from vvc_nnr.filters.training.scenes import SCENES_PER_PHOTOGRAPH, kept_pictures, split, training_scenes
from vvc_nnr.filters.zoo import LOOP_FILTERS_KEY, load_filter, load_inloop_filter, network_metadata
from vvc_nnr.folder_lock import locked_folder
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.images import read_image
from vvc_nnr.sequences.listing import distinct_files
from vvc_nnr.sequences.source import Source, open_sources
from vvc_nnr.units import IN_THIS_PROCESS, ExecutorOptions

PICTURES_NOTE, PAIRS = "pictures.json", "pairs"
DEFAULT_CHANNELS, DEFAULT_BLOCKS = 64, 2
DEFAULT_CHROMA_WEIGHT = 0.1
VALIDATION_SIDE = 256
MIN_MSE = 1e-8
"""Floor of the codec's error, a tenth of a 10-bit step squared: grey pictures have chroma without any error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InLoopRun(RunOptions):
    """How an in-loop filter is trained.

    Attributes:
        loop_filters: In-loop filters of the codec: none for a replacement, all for a post-filter.
        qps: QPs to train on.
        presets: Presets of the encoder, taken in turn; VTM has none.
        encoder: What codes the pictures: libvvenc, or a program on the PATH.
        encoder_config: VTM's configuration file (cfg/encoder_intra_vtm.cfg); given again, further files behind it.
        encoder_arguments: A further argument for VTM or vvencapp, as in --LMCSEnable=0.
        config: Coding configuration: ai (all intra), ra (random access), ldb (low delay B). In the last two photographs
            are set in motion, and only post-filters are trained: inter prediction would miss what stands in the loop.
        scenes: Moving scenes made of each photograph, for ra and ldb.
        chroma_weight: Weight of each chroma plane against 1 for luma.
        optimiser: What trains the convolutions; muon learns faster, most so from random weights.
        rung: A shape of the ladder, by complexity.
        n_channels: Width of the hidden layers, without a rung and a network to start from. Default: 64.
        n_blocks: Residual blocks, likewise. Default: 2.
        arch: A network of your own: FILE.py:NAME, what makes the module. With init a file of its weights.
        layout: How pictures go into it, such as planes=y,output=residual. Default: as the module's attribute says.
        qp_rule: Which QP it is told of a picture: slice, first+3, base ... (docs/sei.md). Default: as the network to
            start from, else first+3; of a network of your own as its layout says.
        quantised_share: Share of the steps, at the end, with 8-bit weights, for a network that loses too much by them.

    Raises:
        InputError: If a shape is given beside a rung or a network, which have one, or inter pictures are to go without
            the codec's in-loop filters.
    """

    n_steps: int = 36000
    batch_size: int = 8
    learning_rate: float = 1.5e-3
    loop_filters: LoopFilters = "none"
    qps: Sequence[int] = (22, 27, 32, 37)
    presets: Sequence[Preset] = (DEFAULT_PRESET,)
    encoder: EncoderName = "libvvenc"
    encoder_config: Sequence[Path] = ()
    encoder_arguments: Sequence[str] = ()
    config: ConfigName = "ai"
    scenes: int = SCENES_PER_PHOTOGRAPH
    chroma_weight: float = DEFAULT_CHROMA_WEIGHT
    optimiser: OptimiserName = "muon"
    rung: Rung | None = None
    n_channels: int | None = None
    n_blocks: int | None = None
    arch: str | None = None
    layout: str | None = None
    qp_rule: str | None = None
    quantised_share: float = 0.0

    def check(self) -> None:
        """Raises InputError if there are no pictures, or options contradict each other."""
        RunOptions.check(self)
        if CONFIGURATIONS[self.config].is_inter and self.loop_filters != "all":
            raise InputError(
                f"loop filters {self.loop_filters}, configuration {self.config}: pictures are predicted from what the "
                "in-loop filters make, which a network cannot stand in for behind the decoder; must be all"
            )
        if self.layout is not None and self.arch is None:
            raise InputError("layout: is for a network of your own, and there is no arch; take it away")
        if self.qp_rule is not None:
            parse_rule(self.qp_rule)
            if self.arch is not None:
                raise InputError(
                    "qp_rule, arch: of a network of your own the layout says it (qp-rule=slice); take it away"
                )
        named = {"arch": self.arch, "rung": self.rung, "init": self.init}
        shaped_by = next((name for name, value in named.items() if value), None)
        shapes = [("n_channels", self.n_channels), ("n_blocks", self.n_blocks)]
        for name, value in [*shapes, ("rung", self.rung)] if self.arch else shapes:
            if shaped_by is not None and value is not None:
                raise InputError(f"{name} {value}, {shaped_by}: both set the shape of the network; give one of the two")


def train_inloop(
    options: InLoopRun,
    provenance: Mapping[str, str],
    opened: Callable[[], Sequence[Source]] | None = None,
    cache: Path | None = None,
    execution: ExecutorOptions = IN_THIS_PROCESS,
) -> Trained | None:
    """Trains an in-loop filter on pairs that the real codec makes; goes on where a run in the folder was cut off.

    Under torchrun all its processes train one network together, and the first of them makes the pairs.

    Args:
        options: How, the folder of pictures, and that of the run.
        provenance: Where the run comes from, for the card.
        opened: Opens the training pictures, once all else is checked; None: those of the options' folder. Copies of a
            file count once.
        cache: Folder of finished encodings, so that another run on these pictures encodes nothing; None to encode
            every time.
        execution: Where pairs are made; a share of them alone cannot be.

    Returns:
        What was made; None in a process of torchrun that is not the first.

    Raises:
        InputError: If options contradict each other or the folder, or pictures cannot be used.
        BitstreamError: If a picture, a pair or the network to start from is damaged.
        VvcNnrError: If the loss becomes NaN.
    """
    options.check()
    if execution.shard is not None:
        raise InputError("shard: a training makes all of its pairs in one run; take workers, dask or slurm")
    opened = opened or partial(open_sources, options.data)
    with worker_group() as workers, _lock(options.out, workers):
        return _train_together(options, opened, provenance, workers, cache, execution)


def _lock(folder: Path, workers: Workers) -> AbstractContextManager[None]:
    """The folder of a training, held by the process that writes."""
    return nullcontext() if workers.rank else locked_folder(folder)


def _train_together(
    options: InLoopRun,
    opened: Callable[[], Sequence[Source]],
    provenance: Mapping[str, str],
    workers: Workers,
    cache: Path | None,
    execution: ExecutorOptions,
) -> Trained | None:
    folder = options.out
    torch.manual_seed(options.seed)
    network, layout = _initial_network(options)
    is_own = options.arch is not None
    said = {LAYOUT_KEY: layout.text} if is_own else network_metadata(cast(InLoopNetwork, network))
    training = replace(options.training(), quantised_share=options.quantised_share, optimiser=options.optimiser)
    encodings = PairOptions(
        options.qps,
        (options.loop_filters,),
        options.presets,
        options.encoder,
        options.encoder_config,
        options.encoder_arguments,
        options.config,
        layout.qp_rule if CONFIGURATIONS[options.config].is_inter else DEFAULT_RULE,
    )
    identity: Identity = {
        "network": "inloop",
        **said,
        "initial_weights": weights_sha256(network) if is_own or options.init else "",
        **encodings.identity,
        "chroma_weight": options.chroma_weight,
        "n_processes": workers.size,
    }
    if workers.rank == 0:
        check_checkpoint(folder / CHECKPOINT, identity, training)
        _make_pairs(folder, opened(), encodings, options.scenes, cache, execution)
    workers.wait()
    names = sorted(noted_pictures(folder / PICTURES_NOTE))
    identity = {**identity, "pairs": pairs_digest(folder / PAIRS, names, encodings)}
    pairs, held_out = (
        PairSet(folder / PAIRS, options.loop_filters, options.qps, [names[i] for i in indices])
        for indices in split(names)
    )
    task = InLoopTask(network, pairs, held_out, seed=options.seed, chroma_weight=options.chroma_weight, layout=layout)
    figures = train(task, training, folder / CHECKPOINT, workers, identity, folder / HISTORY)
    if workers.rank:
        return None
    pictures = (pairs.names, held_out.names)
    metadata = {**said, LOOP_FILTERS_KEY: options.loop_filters}
    return finish_run(folder, network, figures, training, identity, pictures, metadata, provenance)


def _make_pairs(
    folder: Path,
    found: Sequence[Source],
    encodings: PairOptions,
    per_photograph: int,
    cache: Path | None,
    execution: ExecutorOptions,
) -> None:
    """Makes the pairs of a run and notes its pictures, which must be those of its checkpoint if it has one."""
    checkpoint, note, pairs = folder / CHECKPOINT, folder / PICTURES_NOTE, folder / PAIRS
    before = pictures_before(checkpoint, note)
    distinct = set(distinct_files([source.path for source in found]))
    sources = [source for source in found if source.path in distinct]
    scenes = partial(training_scenes, sources, encodings.config, per_photograph)
    if before is not None:
        check_same_pictures(before, frame_digests(kept_pictures(scenes())), checkpoint)
    split(check_pairs(scenes(), pairs, encodings))  # too few are known before the first is coded
    remove_leftovers(folder)
    for each in (pairs, *(pairs / name for name in pair_names(pairs))):
        remove_leftovers(each)
    names = make_pairs(scenes(), pairs, encodings, cache, execution)
    note_pictures(note, pair_digests(pairs, names))


def _initial_network(options: InLoopRun) -> tuple[nn.Module, Layout]:
    """The network to start from, and how pictures go into it: the user's own, or one of the ladder."""
    if options.arch is None:
        network = _initial_ladder(options)
        if options.qp_rule is not None:
            network.qp_rule = parse_rule(options.qp_rule)
        return network, network.layout
    network_of_own = module_made_by(options.arch)
    layout = declared_layout(network_of_own, options.layout, where=options.arch)
    if not any(parameter.requires_grad for parameter in network_of_own.parameters()):
        raise InputError(f"arch {options.arch}: has no parameter that could be trained")
    if options.init:
        network_of_own = load_filter(options.init, arch=options.arch, layout=layout).network
    return network_of_own, layout


def _initial_ladder(options: InLoopRun) -> InLoopNetwork:
    """New, or the given one, deepened if the rung has more blocks than it."""
    rung = None if options.rung is None else RUNGS[options.rung]
    if not options.init:
        if rung is not None:
            return LadderFilter(**rung)
        return InLoopFilter(options.n_channels or DEFAULT_CHANNELS, options.n_blocks or DEFAULT_BLOCKS)
    network = load_inloop_filter(options.init)
    if rung is None:
        return network
    if network.n_channels != rung["n_channels"] or network.n_blocks > rung["n_blocks"]:
        shape = f"{network.n_channels} channels and {network.n_blocks} blocks"
        raise InputError(
            f"init {options.init}: has {shape}; rung {options.rung} goes on from a network of "
            f"{rung['n_channels']} channels and at most {rung['n_blocks']} blocks"
        )
    return deepened(network, rung["n_blocks"])


class InLoopTask:
    """Trains for the mean squared error relative to the codec's own, per QP and plane.

    Args:
        network: What to train.
        pairs: Training pairs.
        validation: Pairs of other pictures.
        seed: Fixes the random choices together with the step number.
        crop: Side of the training crops in half-size samples (48: 96x96 luma).
        chroma_weight: Weight in the loss of each chroma plane against 1 for luma.
        layout: How pictures go into the network; None: as it says itself.
    """

    def __init__(
        self,
        network: nn.Module,
        pairs: PairSet,
        validation: PairSet,
        *,
        seed: int,
        crop: int = 48,
        chroma_weight: float = DEFAULT_CHROMA_WEIGHT,
        layout: Layout | None = None,
    ) -> None:
        self.network: nn.Module = network
        self._layout = layout or declared_layout(network)
        self._pairs = pairs
        self._validation = validation
        self._seed = seed
        self._crop = crop
        self._weights = _plane_weights(pairs, chroma_weight, self._layout)

    def loss(self, step: int, batch_size: int, device: torch.device) -> Tensor:
        """Squared error of one batch; 1 is a network that changes nothing."""
        rng = np.random.default_rng([self._seed, step])
        originals, decoded, qp_indices, qps = self._pairs.crops(rng, batch_size, self._crop)
        crops = [
            filter_samples(self._layout, _frame(original), _frame(coded), qp)
            for original, coded, qp in zip(originals, decoded, qps, strict=True)
        ]
        total = torch.zeros((), device=device)
        for samples, weights in zip(zip(*crops, strict=True), self._weights, strict=True):
            inputs = [torch.cat(each).to(device) for each in zip(*(sample.inputs for sample in samples), strict=True)]
            targets = torch.cat([cast(Tensor, sample.target) for sample in samples]).to(device)
            inputs[0] = inputs[0].contiguous(memory_format=torch.channels_last)
            output = without_margin(self._layout, self.network, *inputs)
            if output.shape != targets.shape:
                raise InputError(
                    f"layout {self._layout.text}: the network returned {tuple(output.shape)} for "
                    f"{tuple(inputs[0].shape)}, must be {tuple(targets.shape)}"
                )
            errors = torch.mean((output.float() - targets) ** 2, dim=(2, 3))
            total = total + torch.mean(torch.sum(errors * weights[qp_indices].to(device), dim=1))
        return total

    def validate(self, device: torch.device) -> Mapping[str, float]:
        """Mean luma PSNR gain in dB per QP, on the middle of the validation pictures."""
        gains_db: dict[str, float] = {}
        runner = Runner(self.network, layout=self._layout, backend="torch", tile=None, device=device.type)
        for index, qp in enumerate(self._validation.qps):
            gains = [self._luma_gain_db(runner, picture, index) for picture in range(len(self._validation))]
            gains_db[f"gain_qp{qp}_db"] = float(np.mean(gains))
        return gains_db

    def _luma_gain_db(self, runner: Runner, picture: int, qp_index: int) -> float:
        qp = self._validation.told_qp(picture, qp_index)
        original, decoded = (_frame(_middle(p)) for p in self._validation.whole(picture, qp_index))
        peak = (1 << CODED_BIT_DEPTH) - 1
        luma, before = (frame.planes[0].astype(np.float64) for frame in (original, decoded))
        after = (before + runner.corrections(decoded, qp)[0]).clip(0, peak)
        return float(10 * np.log10(np.mean((before - luma) ** 2) / np.mean((after - luma) ** 2)))


def _plane_weights(pairs: PairSet, chroma_weight: float, layout: Layout) -> list[Tensor]:
    """Loss weights (n_qps, n_planes), one for each run of the network on a picture: the codec's error has loss 1."""
    mse = np.maximum(pairs.mean_squared_errors(), MIN_MSE) * layout.peak(CODED_BIT_DEPTH) ** 2
    runs = RUNS[layout.planes]
    n_planes = Counter(name for run in runs for name in run)
    factors = {name: 1.0 if name == "y" else chroma_weight for name in n_planes}
    total = sum(factors.values())
    of_one = {
        name: factors[name] / mse[:, COMPONENTS.index(name)] / n_planes[name] / total * (name not in layout.keep)
        for name in n_planes
    }
    return [torch.tensor(np.stack([of_one[name] for name in run], axis=1), dtype=torch.float32) for run in runs]


def _frame(packed: Packed) -> Frame:
    """A packed picture of the pairs, (6, H, W), as a picture."""
    like = VideoFormat(2 * packed.shape[2], 2 * packed.shape[1], CODED_BIT_DEPTH)
    planes = unpacked_planes(packed, like.plane_shapes)
    return Frame(tuple(np.ascontiguousarray(plane) for plane in planes), CODED_BIT_DEPTH, "420")


def _middle(packed: Packed) -> Packed:
    top, left = (max(0, (side - VALIDATION_SIDE) // 2) for side in packed.shape[1:])
    return packed[:, top : top + VALIDATION_SIDE, left : left + VALIDATION_SIDE]


class RestorationTask:
    """Learns to undo a degradation; the loss is the squared error over that of the network as it was.

    Args:
        network: What to train.
        pictures: Photographs, uint8 (H, W, 3).
        degrade: What the network undoes; None: it learns to go on doing what it did.
        n_planes: 1 for grey, 3.
        side: Of the crops.
        seed: Fixes the random choices together with the step number.
        reference_mse: What the network leaves before.
    """

    def __init__(
        self,
        network: nn.Module,
        pictures: Sequence[NDArray[np.uint8]],
        degrade: Degrade | None,
        *,
        n_planes: int = 1,
        side: int = 48,
        seed: int = 0,
        reference_mse: float,
    ) -> None:
        self.network: nn.Module = network
        self._pictures = [picture for picture in pictures if min(picture.shape[:2]) >= side]
        if not self._pictures:
            raise InputError(f"fine-tuning needs pictures of at least {side}x{side}")
        self._degrade = degrade
        self._n_planes, self._side, self._seed = n_planes, side, seed
        self._reference_mse = reference_mse
        self._teacher = None if degrade is not None else _frozen_copy(network)

    def loss(self, step: int, batch_size: int, device: torch.device) -> Tensor:
        """Squared error of one batch; 1 is what the network left before."""
        rng = np.random.default_rng([self._seed, step])
        pictures = torch.cat([as_picture(self._crop(rng), self._n_planes) for _ in range(batch_size)])
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        if self._degrade is None:
            assert self._teacher is not None
            with torch.no_grad():
                inputs, targets = pictures.to(device), self._teacher.to(device)(pictures.to(device)).float()
        else:
            generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
            degraded = [self._degrade(picture[None], generator) for picture in pictures]
            inputs, targets = torch.cat(degraded).to(device), pictures.to(device)
        output: Tensor = self.network(inputs.contiguous(memory_format=torch.channels_last))
        return torch.mean((output.float() - targets) ** 2) / self._reference_mse

    def validate(self, device: torch.device) -> Mapping[str, float]:
        """Nothing: the coded file is what is validated."""
        return {}

    def _crop(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        picture = self._pictures[int(rng.integers(len(self._pictures)))]
        top, left = (int(rng.integers(size - self._side + 1)) for size in picture.shape[:2])
        crop = picture[top : top + self._side, left : left + self._side]
        crop = crop[:, ::-1] if rng.integers(2) else crop
        return crop.transpose(1, 0, 2) if rng.integers(2) else crop


def _frozen_copy(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).eval().requires_grad_(False)


def read_pictures(paths: Sequence[Path]) -> list[NDArray[np.uint8]]:
    """Photographs into memory; raises as `read_image`."""
    return [read_image(path) for path in paths]
