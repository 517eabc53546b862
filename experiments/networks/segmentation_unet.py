"""U-Nets: the bundled small one on pasted things, and the published one for Carvana's cars."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vvc_nnr.experiments.networks.folder import data_set, find_weights
from vvc_nnr.experiments.networks.pasted import pasted_crops
from vvc_nnr.experiments.networks.pictures import colour_pictures
from vvc_nnr.experiments.networks.row import Metrics, Subject, module_subject
from vvc_nnr.experiments.networks.unet import UNet, dice
from vvc_nnr.model.safetensors import read_network
from vvc_nnr.model.torch import as_torch
from vvc_nnr.model.torch_file import read_checkpoint
from vvc_nnr.sequences.images import image_files, read_image

WEIGHTS = Path(__file__).parent / "weights"
SEED = 1
N_CROPS = 256
# Half the size of Carvana's pictures, as the published network was trained.
REDUCTION = 2


@dataclass(frozen=True, slots=True)
class PastedRow:
    """The bundled batch-norm U-Net, on crops of pictures that it was not trained on."""

    name: str = "U-Net (small)"

    def load(self, folder: Path | None) -> Subject:
        """See `Row`."""
        pictures, words = colour_pictures(16)
        crops, masks = pasted_crops(pictures, np.random.default_rng(SEED), N_CROPS)
        data = f"things pasted into {N_CROPS} crops ({words})"
        return module_subject(small_unet(), "bundled", data, lambda m: Metrics(dice=dice(_batched(m, crops), masks)))


def small_unet() -> UNet:
    """The bundled network."""
    network = UNet()
    stored = read_network(WEIGHTS / "unet.safetensors")
    network.load_state_dict({name: torch.from_numpy(array) for name, array in stored.tensors.items()})
    return network.eval()


def _batched(network: nn.Module, crops: Tensor) -> Tensor:
    return torch.cat([network(batch) for batch in torch.split(crops, 32)])


class _DoubleConvolution(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
            nn.Conv2d(n_out, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
        )

    def forward(self, given: Tensor) -> Tensor:
        found: Tensor = self.double_conv(given)
        return found


class _Down(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), _DoubleConvolution(n_in, n_out))

    def forward(self, given: Tensor) -> Tensor:
        found: Tensor = self.maxpool_conv(given)
        return found


class _Up(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(n_in, n_in // 2, 2, stride=2)
        self.conv = _DoubleConvolution(n_in, n_out)

    def forward(self, given: Tensor, level: Tensor) -> Tensor:
        grown = self.up(given)
        down, right = level.shape[2] - grown.shape[2], level.shape[3] - grown.shape[3]
        grown = nn.functional.pad(grown, (right // 2, right - right // 2, down // 2, down - down // 2))
        found: Tensor = self.conv(torch.cat([level, grown], dim=1))
        return found


class _Head(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 1)

    def forward(self, given: Tensor) -> Tensor:
        found: Tensor = self.conv(given)
        return found


class CarvanaUNet(nn.Module):
    """The widely used U-Net for Carvana, 31 million weights, by the names of its published checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.inc = _DoubleConvolution(3, 64)
        self.down1, self.down2 = _Down(64, 128), _Down(128, 256)
        self.down3, self.down4 = _Down(256, 512), _Down(512, 1024)
        self.up1, self.up2 = _Up(1024, 512), _Up(512, 256)
        self.up3, self.up4 = _Up(256, 128), _Up(128, 64)
        self.outc = _Head(64, 2)

    def forward(self, pictures: Tensor) -> Tensor:
        """RGB (N, 3, H, W), 0 to 1, to logits (N, 2, H, W)."""
        first = self.inc(pictures)
        second = self.down1(first)
        third = self.down2(second)
        fourth = self.down3(third)
        found = self.up1(self.down4(fourth), fourth)
        logits: Tensor = self.outc(self.up4(self.up3(self.up2(found, third), second), first))
        return logits


@dataclass(frozen=True, slots=True)
class CarvanaRow:
    """The published U-Net on Carvana: `carvana/imgs/*.jpg` and `carvana/masks/*_mask.gif`."""

    name: str = "U-Net"

    def load(self, folder: Path | None) -> Subject:
        """See `Row`."""
        path = find_weights(folder, "unet_carvana*.pth")
        if path is None:
            torch.manual_seed(0)
            return module_subject(CarvanaUNet(), "random")
        network = CarvanaUNet()
        state = as_torch(read_checkpoint(path).arrays)
        network.load_state_dict({name: value for name, value in state.items() if name != "mask_values"})
        root = data_set(folder, "carvana")
        return module_subject(network, "published", "Carvana", lambda module: _carvana(module, root))


def _carvana(network: nn.Module, root: Path) -> Metrics:
    scores = []
    for path in image_files(root / "imgs"):
        picture = read_image(path)[::REDUCTION, ::REDUCTION]
        mask = read_image(root / "masks" / f"{path.stem}_mask.gif")[::REDUCTION, ::REDUCTION, 0] > 0
        logits = network(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255)
        margin = logits[:, 1:] - logits[:, :1]
        scores.append(dice(margin, torch.from_numpy(mask.astype(np.float32))[None, None]))
    return Metrics(dice=float(np.mean(scores)))
