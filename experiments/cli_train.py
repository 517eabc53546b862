"""The command train: new in-loop filters and autoencoders from the user's own pictures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast, get_args

import numpy as np
import torch

from vvc_nnr.codec.encoders import encoder_identity
from vvc_nnr.codec.sequence import LoopFilters, Preset
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli_common import (
    Commands,
    Outcome,
    add_command,
    add_group,
    add_raw_options,
    natural,
    positive,
    positive_real,
    qp_list,
    seed,
    share,
    sources_of,
)
from vvc_nnr.experiments.records.provenance import gather_provenance
from vvc_nnr.files import AtomicFile
from vvc_nnr.filters.networks.autoencoder import Autoencoder
from vvc_nnr.filters.networks.in_loop import RUNGS, InLoopFilter, InLoopNetwork, LadderFilter, Rung, deepened
from vvc_nnr.filters.training.autoencoder import AutoencoderTask, PatchSource, equalise_latents, random_patches
from vvc_nnr.filters.training.data_parallel import Workers, worker_group
from vvc_nnr.filters.training.in_loop import DEFAULT_CHROMA_WEIGHT, InLoopTask
from vvc_nnr.filters.training.loop import Identity, TrainOptions, check_checkpoint, train
from vvc_nnr.filters.training.optimiser import OptimiserName, has_muon
from vvc_nnr.filters.training.pairs import PairOptions, PairSet, check_pairs, make_pairs, pair_names, pairs_digest
from vvc_nnr.filters.training.patches import filter_pictures, reduced_pictures, split
from vvc_nnr.filters.training.run_identity import files_sha256, pictures_sha256, weights_sha256
from vvc_nnr.filters.training.run_pictures import (
    check_same_pictures,
    frame_digests,
    note_pictures,
    noted_pictures,
    picture_digests,
    pictures_before,
)
from vvc_nnr.filters.zoo import (
    LOOP_FILTERS_KEY,
    Network,
    load_autoencoder,
    load_inloop_filter,
    network_metadata,
    network_tensors,
)
from vvc_nnr.folder_lock import locked_folder
from vvc_nnr.model.safetensors import write_float
from vvc_nnr.sequences.cifar import load_cifar10
from vvc_nnr.sequences.images import image_files
from vvc_nnr.sequences.listing import distinct_files
from vvc_nnr.temporary import remove_leftovers

CHECKPOINT, QUANTISED_CHECKPOINT = "checkpoint.pt", "checkpoint_quantised.pt"
PICTURES_NOTE = "pictures.json"
VALIDATION_PATCHES = 500
VALIDATION_EVERY = 30
QUANTISED_RATE_SHARE = 0.3
DEFAULT_CHANNELS = 64
DEFAULT_BLOCKS = 2


def add_commands(commands: Commands) -> None:
    """Adds train with its two kinds of networks."""
    kinds = add_group(
        commands,
        "train",
        "train a network on your own pictures; resumes where it was cut off",
        "vvc-nnr train inloop --data photographs/ --out runs/replacement --loop-filters none",
    )
    _add_inloop(kinds)
    _add_autoencoder(kinds)


def _add_inloop(kinds: Commands) -> None:
    parser = add_command(
        kinds,
        "inloop",
        "an in-loop filter, on pairs made by the real codec",
        "vvc-nnr train inloop --data photographs/ --out runs/replacement --loop-filters none",
        _train_inloop,
    )
    _add_common(parser, n_steps=36000, batch_size=8, learning_rate=1.5e-3)
    parser.add_argument(
        "--loop-filters",
        choices=get_args(LoopFilters),
        default="none",
        help="in-loop filters of the codec: none for a replacement, all for a post-filter",
    )
    parser.add_argument("--qps", type=qp_list, default="22,27,32,37", help="QPs to train on")
    parser.add_argument(
        "--presets", type=_presets, default="faster", metavar="NAME,...", help="libvvenc's presets, taken in turn"
    )
    parser.add_argument(
        "--chroma-weight",
        type=positive_real,
        default=DEFAULT_CHROMA_WEIGHT,
        help="weight of each chroma plane against 1 for luma",
    )
    parser.add_argument(
        "--optimiser",
        choices=get_args(OptimiserName),
        default="muon" if has_muon() else "adamw",
        help="what trains the convolutions; muon (torch 2.9) learns faster, most so from random weights",
    )
    parser.add_argument("--rung", choices=get_args(Rung), help="a shape of the ladder, by complexity")
    parser.add_argument(
        "--channels", type=positive, help=f"width of the hidden layers ({DEFAULT_CHANNELS}), without --rung and --init"
    )
    parser.add_argument(
        "--blocks", type=positive, help=f"residual blocks ({DEFAULT_BLOCKS}), without --rung and --init"
    )
    parser.add_argument(
        "--quantised-share",
        type=share,
        default=0.0,
        help="share of the steps, at the end, with 8-bit weights, for a network that loses too much by them",
    )
    add_raw_options(parser)


def _add_autoencoder(kinds: Commands) -> None:
    parser = add_command(
        kinds,
        "autoencoder",
        "an autoencoder for small RGB pictures, on patches of reduced photographs",
        "vvc-nnr train autoencoder --data photographs/ --cifar cifar-10-python.tar.gz --out runs/autoencoder",
        _train_autoencoder,
    )
    _add_common(parser, n_steps=22000, batch_size=32, learning_rate=1e-3)
    parser.add_argument("--cifar", type=Path, help="CIFAR-10 training images in any of their forms, mixed in")
    parser.add_argument("--cifar-share", type=positive_real, default=0.45, help="share of patches from --cifar")
    parser.add_argument(
        "--distortion-weight",
        type=positive_real,
        default=0.029,
        help="weight of the MSE (0..255) against 1 bit per pixel",
    )
    parser.add_argument("--latents", type=positive, default=64, help="latent channels")
    parser.add_argument(
        "--quantised-steps",
        type=natural,
        default=2500,
        metavar="N",
        help="further steps with 8-bit weights, so that the network bears them",
    )


def _add_common(parser: argparse.ArgumentParser, *, n_steps: int, batch_size: int, learning_rate: float) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder of training pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run: checkpoint, network, card")
    parser.add_argument("--steps", type=positive, default=n_steps, help="optimiser steps")
    parser.add_argument("--batch-size", type=positive, default=batch_size, help="samples per step")
    parser.add_argument("--learning-rate", type=positive_real, default=learning_rate, help="peak rate of the optimiser")
    parser.add_argument("--seed", type=seed, default=0, help="seed of weights and data")
    parser.add_argument("--init", help="start from this network (zoo name or file) instead of random weights")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to train")
    parser.add_argument("--checkpoint-every", type=positive, default=500, help="steps between checkpoints")


def _train_inloop(arguments: argparse.Namespace) -> Outcome:
    with worker_group() as workers, _lock(arguments.out, workers):
        return _train_inloop_together(arguments, workers)


def _lock(folder: Path, workers: Workers) -> AbstractContextManager[None]:
    """The folder of a training, held by the process that writes."""
    return nullcontext() if workers.rank else locked_folder(folder)


def _train_inloop_together(arguments: argparse.Namespace, workers: Workers) -> Outcome:
    _check_shape_options(arguments)
    folder = arguments.out
    torch.manual_seed(arguments.seed)
    network = _inloop_network(arguments)
    options = replace(_options(arguments), quantised_share=arguments.quantised_share, optimiser=arguments.optimiser)
    encodings = PairOptions(arguments.qps, (arguments.loop_filters,), arguments.presets)
    identity: dict[str, object] = {
        "network": "inloop",
        **network_metadata(network),
        "initial_weights": _initial(arguments, network),
    }
    identity |= asdict(encodings) | {"chroma_weight": arguments.chroma_weight}
    identity |= {"encoder": encoder_identity("libvvenc"), "n_processes": workers.size}
    if workers.rank == 0:
        check_checkpoint(folder / CHECKPOINT, identity, options)
        _make_pairs(folder, arguments, encodings)
    workers.wait()
    names = sorted(noted_pictures(folder / PICTURES_NOTE))
    identity["pairs"] = pairs_digest(folder / "pairs", names, encodings)
    training, validation = split(names)
    pairs, held_out = (
        PairSet(folder / "pairs", arguments.loop_filters, arguments.qps, [names[i] for i in indices])
        for indices in (training, validation)
    )
    task = InLoopTask(network, pairs, held_out, seed=arguments.seed, chroma_weight=arguments.chroma_weight)
    figures = train(task, options, folder / CHECKPOINT, workers, identity)
    if workers.rank:
        return Outcome("", {})
    metadata = {LOOP_FILTERS_KEY: arguments.loop_filters}
    return _finish(folder, network, figures, options, identity, (pairs.names, held_out.names), metadata)


def _make_pairs(folder: Path, arguments: argparse.Namespace, encodings: PairOptions) -> None:
    """Makes the pairs of a run and notes its pictures, which must be those of its checkpoint if it has one."""
    checkpoint, note, pairs = folder / CHECKPOINT, folder / PICTURES_NOTE, folder / "pairs"
    before = pictures_before(checkpoint, note)
    sources = sources_of(arguments.data, arguments)
    distinct = set(distinct_files([source.path for source in sources]))
    sources = [each for each in sources if each.path in distinct]
    if before is not None:
        check_same_pictures(before, frame_digests(filter_pictures(sources)), checkpoint)
    if pairs.exists():
        check_pairs(filter_pictures(sources), pairs, encodings)
    remove_leftovers(folder)
    for each in (pairs, *(pairs / name for name in pair_names(pairs))):
        remove_leftovers(each)
    names = make_pairs(filter_pictures(sources), pairs, encodings)
    note_pictures(note, picture_digests(pairs, names))


def _check_shape_options(arguments: argparse.Namespace) -> None:
    """A rung and a network to start from have a shape of their own."""
    shaped_by = "--rung" if arguments.rung is not None else "--init" if arguments.init else None
    for name, value in (("--channels", arguments.channels), ("--blocks", arguments.blocks)):
        if shaped_by is not None and value is not None:
            raise InputError(f"{name} {value}: {shaped_by} sets the shape of the network; give one of the two")


def _inloop_network(arguments: argparse.Namespace) -> InLoopNetwork:
    """The network to start from: new, or --init, deepened if --rung asks for more blocks than it has."""
    rung = None if arguments.rung is None else RUNGS[arguments.rung]
    if not arguments.init:
        if rung is not None:
            return LadderFilter(**rung)
        return InLoopFilter(arguments.channels or DEFAULT_CHANNELS, arguments.blocks or DEFAULT_BLOCKS)
    network = load_inloop_filter(arguments.init)
    if rung is None:
        return network
    if network.n_channels != rung["n_channels"] or network.n_blocks > rung["n_blocks"]:
        shape = f"{network.n_channels} channels and {network.n_blocks} blocks"
        raise InputError(
            f"--init {arguments.init}: has {shape}; --rung {arguments.rung} goes on from a network of "
            f"{rung['n_channels']} channels and at most {rung['n_blocks']} blocks"
        )
    return deepened(network, rung["n_blocks"])


def _presets(text: str) -> list[Preset]:
    names = text.split(",")
    unknown = [name for name in names if name not in get_args(Preset)]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r}: wanted are {', '.join(get_args(Preset))}")
    return cast(list[Preset], names)


def _train_autoencoder(arguments: argparse.Namespace) -> Outcome:
    if not arguments.cifar_share < 1:
        raise InputError(f"--cifar-share {arguments.cifar_share}: must be between 0 and 1")
    with locked_folder(arguments.out):
        return _train_autoencoder_in(arguments.out, arguments)


def _train_autoencoder_in(folder: Path, arguments: argparse.Namespace) -> Outcome:
    paths = distinct_files(image_files(arguments.data))
    kept = paths[VALIDATION_EVERY - 1 :: VALIDATION_EVERY] or paths[-1:]
    held_out = reduced_pictures(kept)
    trained_on = [path for path in paths if path not in kept]
    pictures = reduced_pictures(trained_on)
    validation = random_patches([PatchSource(held_out, 1.0)], np.random.default_rng(arguments.seed), VALIDATION_PATCHES)
    sources = [PatchSource(pictures, 1.0)]
    images = None if arguments.cifar is None else load_cifar10(arguments.cifar).images
    if images is not None:
        sources = [
            PatchSource(pictures, 1 - arguments.cifar_share),
            PatchSource(list(images), arguments.cifar_share),
        ]
    torch.manual_seed(arguments.seed)
    network = load_autoencoder(arguments.init) if arguments.init else Autoencoder(arguments.latents)
    options, quantised = _options(arguments), _quantised_options(arguments)
    identity: dict[str, object] = {
        "network": "autoencoder",
        **network_metadata(network),
        "initial_weights": _initial(arguments, network),
    }
    identity |= {
        "pictures": files_sha256(paths),
        "cifar": "" if images is None else pictures_sha256([images]),
        "cifar_share": 0.0 if images is None else arguments.cifar_share,
        "distortion_weight": arguments.distortion_weight,
        "quantised_steps": arguments.quantised_steps,
    }
    check_checkpoint(folder / CHECKPOINT, identity, options)
    if quantised is not None:
        check_checkpoint(folder / QUANTISED_CHECKPOINT, identity, quantised)
    remove_leftovers(folder)
    task = AutoencoderTask(network, sources, validation, arguments.distortion_weight, arguments.seed)
    figures = train(task, options, folder / CHECKPOINT, identity=identity)
    equalise_latents(network)
    if quantised is not None:
        figures = train(task, quantised, folder / QUANTISED_CHECKPOINT, identity=identity)
    task.fit_tables()
    names = ([path.name for path in trained_on], [path.name for path in kept])
    return _finish(folder, network, figures, options, identity, names, {})


def _initial(arguments: argparse.Namespace, network: Network) -> str:
    """SHA-256 of the weights that --init gave; empty for random ones, which follow from the seed."""
    return weights_sha256(network) if arguments.init else ""


def _options(arguments: argparse.Namespace) -> TrainOptions:
    return TrainOptions(
        n_steps=arguments.steps,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        checkpoint_every=arguments.checkpoint_every,
        device=arguments.device,
    )


def _quantised_options(arguments: argparse.Namespace) -> TrainOptions | None:
    """The last steps: at a lower rate, with the weights as the 8-bit quantiser leaves them; None for no such steps."""
    if not arguments.quantised_steps:
        return None
    return replace(
        _options(arguments),
        n_steps=arguments.quantised_steps,
        learning_rate=QUANTISED_RATE_SHARE * arguments.learning_rate,
        quantised_share=1.0,
    )


def _finish(
    folder: Path,
    network: Network,
    figures: Mapping[str, float],
    options: TrainOptions,
    identity: Identity,
    pictures: tuple[Sequence[str], Sequence[str]],
    metadata: Mapping[str, str],
) -> Outcome:
    """Writes the network and its card, which names the pictures of training and of validation."""
    training, validation = pictures
    path = folder / "network.safetensors"
    n_bytes = write_float(path, network_tensors(network), {**network_metadata(network), **metadata})
    data = {
        "network": str(path),
        "n_bytes": n_bytes,
        "validation": dict(figures),
        "training_pictures": list(training),
        "validation_pictures": list(validation),
        "training": asdict(options),
        "identity": identity,
        "provenance": gather_provenance(device=options.device).to_header(),
    }
    with AtomicFile(folder / "card.json") as file:
        file.write(json.dumps(data, indent=2).encode() + b"\n")
    shown = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
    return Outcome(f"{path}: {n_bytes} bytes; validation: {shown}", data)
