"""Trains the three networks of the zoo whose weights ship with this package.

python -m vvc_nnr.experiments.networks.training bmshj2018-factorized --data photographs/ --out weights.safetensors
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vvc_nnr.errors import VvcNnrError
from vvc_nnr.experiments.networks.learned_codec_training import LearnedCodecTask
from vvc_nnr.experiments.networks.optional import COMPRESSAI, import_optional
from vvc_nnr.experiments.networks.pasted import Picture, SegmentationTask
from vvc_nnr.experiments.networks.unet import UNet
from vvc_nnr.filters.training.loop import TrainingTask, TrainOptions, train
from vvc_nnr.filters.training.run_identity import files_sha256
from vvc_nnr.model.safetensors import write_float
from vvc_nnr.sequences.images import image_files, read_image

SEED = 7
VALIDATION_EVERY = 20
TABLES = ("_quantized_cdf", "_offset", "_cdf_length", "scale_table")
"""What `update()` makes of the rest: not stored with the weights."""


def bmshj2018_factorized(pictures: Sequence[Picture], validation: Sequence[Picture]) -> TrainingTask:
    """Factorised prior, 16 channels, 32 latents."""
    models = import_optional("compressai.models", COMPRESSAI)
    torch.manual_seed(SEED)
    return LearnedCodecTask(models.FactorizedPrior(16, 32), pictures, validation, 0.013, SEED)


def cheng2020_anchor(pictures: Sequence[Picture], validation: Sequence[Picture]) -> TrainingTask:
    """Residual blocks and an autoregressive prior, 10 channels."""
    models = import_optional("compressai.models", COMPRESSAI)
    torch.manual_seed(SEED)
    return LearnedCodecTask(models.Cheng2020Anchor(10), pictures, validation, 0.013, SEED)


def unet(pictures: Sequence[Picture], validation: Sequence[Picture]) -> TrainingTask:
    """Batch-norm U-Net, 8 to 40 channels."""
    torch.manual_seed(SEED)
    return SegmentationTask(UNet(), pictures, validation, SEED)


TASKS: dict[str, Callable[[Sequence[Picture], Sequence[Picture]], TrainingTask]] = {
    "bmshj2018-factorized": bmshj2018_factorized,
    "cheng2020-anchor": cheng2020_anchor,
    "unet": unet,
}


def stored_tensors(network: nn.Module) -> dict[str, Any]:
    """The state of a network without what `update()` makes of it, as arrays."""
    state = network.state_dict()
    return {name: value.numpy() for name, value in state.items() if name.rpartition(".")[2] not in TABLES}


def main(argv: Sequence[str] | None = None) -> int:
    """Trains one network and writes its weights; goes on from the checkpoint beside them."""
    arguments = _parser().parse_args(argv)
    torch.set_num_threads(arguments.threads)
    try:
        pictures = [read_image(path) for path in image_files(arguments.data)]
        task = TASKS[arguments.network](
            [p for i, p in enumerate(pictures) if i % VALIDATION_EVERY], pictures[::VALIDATION_EVERY]
        )
        options = TrainOptions(
            n_steps=arguments.steps,
            batch_size=arguments.batch_size,
            learning_rate=arguments.learning_rate,
            device="cpu",
            seed=SEED,
            channels_last=False,
        )
        identity = {"network": arguments.network, "pictures": files_sha256(image_files(arguments.data))}
        figures = train(task, options, arguments.out.with_suffix(".checkpoint"), identity=identity)
        write_float(arguments.out, stored_tensors(task.network), {"architecture": arguments.network})
    except VvcNnrError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(" ".join(f"{name}={value:.4f}" for name, value in figures.items()))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="train a network of the model zoo")
    parser.add_argument("network", choices=tuple(TASKS))
    parser.add_argument("--data", type=Path, required=True, help="folder of photographs, sides of 128 at least")
    parser.add_argument("--out", type=Path, required=True, help=".safetensors to write")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    sys.exit(main())
