"""Trains the three networks of the zoo whose weights ship with this package.

python -m vvc_nnr.experiments.zoo.training bmshj2018-factorized --data photographs/ --out weights.safetensors
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vvc_nnr.errors import VvcNnrError
from vvc_nnr.experiments.zoo.optional import COMPRESSAI, import_optional
from vvc_nnr.experiments.zoo.unet import SegmentationTask, UNet
from vvc_nnr.filters.training.loop import TrainingTask, TrainOptions, train
from vvc_nnr.filters.training.run_identity import files_sha256
from vvc_nnr.model.safetensors import write_float
from vvc_nnr.sequences.images import image_files, read_image

Picture = NDArray[np.uint8]
CROP = 128
# Of 64, as CompressAI has it; up to a scale of 64, which the latents of small models do not reach.
MIN_SCALE, MAX_SCALE, N_SCALES = 0.11, 64.0, 64


class LearnedCodecTask:
    """Trains for `weight * 255**2 * MSE + bpp`, and the entropy bottleneck's quantiles beside it.

    Args:
        network: A model of CompressAI.
        pictures: RGB pictures, uint8 (H, W, 3), both sides at least 128.
        validation: More of them, not trained on.
        distortion_weight: Weight of the mean squared error; CompressAI's quality 3 has 0.0067, 4 has 0.013.
        seed: Fixes the random choices together with the step number.
    """

    def __init__(
        self,
        network: Any,
        pictures: Sequence[Picture],
        validation: Sequence[Picture],
        distortion_weight: float,
        seed: int,
    ) -> None:
        self.network: nn.Module = network
        self._codec = network
        self._pictures = pictures
        self._validation = random_crops(validation, np.random.default_rng(seed), 24)
        self._weight = distortion_weight
        self._seed = seed

    def loss(self, step: int, batch_size: int, device: torch.device) -> Tensor:
        """Rate-distortion loss of one batch; in float32, which the likelihoods need."""
        torch.manual_seed(hash((self._seed, step)) & 0x7FFFFFFF)
        crops = random_crops(self._pictures, np.random.default_rng([self._seed, step]), batch_size)
        with torch.autocast(device.type, enabled=False):
            bpp, mse = self._rate_and_error(crops.to(device))
            quantiles: Tensor = self._codec.aux_loss()
            return self._weight * 255**2 * mse + bpp + quantiles / crops.shape[0]

    def validate(self, device: torch.device) -> Mapping[str, float]:
        """Estimated bits per pixel and PSNR on the validation crops."""
        bpp, mse = self._rate_and_error(self._validation.to(device))
        return {"bpp": float(bpp), "psnr_db": -10 * math.log10(float(mse))}

    def _rate_and_error(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        output = self._codec(crops)
        n_pixels = crops.shape[0] * crops.shape[2] * crops.shape[3]
        bits = torch.stack([-torch.log2(likelihood).sum() for likelihood in output["likelihoods"].values()]).sum()
        return bits / n_pixels, torch.mean((output["x_hat"] - crops) ** 2)


def make_tables(network: Any) -> None:
    """Gives a trained model the integer tables that its entropy coder works by."""
    if hasattr(network, "gaussian_conditional"):
        network.update(np.exp(np.linspace(math.log(MIN_SCALE), math.log(MAX_SCALE), N_SCALES)).tolist(), force=True)
    else:
        network.update(force=True)


def random_crops(pictures: Sequence[Picture], rng: np.random.Generator, n: int) -> Tensor:
    """Crops float32 (n, 3, 128, 128), 0 to 1, mirrored at random."""
    crops = []
    for which in rng.integers(len(pictures), size=n):
        picture = pictures[which]
        top, left = (int(rng.integers(side - CROP + 1)) for side in picture.shape[:2])
        crop = picture[top : top + CROP, left : left + CROP]
        crops.append(crop[:, ::-1] if rng.integers(2) else crop)
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().contiguous() / 255


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
