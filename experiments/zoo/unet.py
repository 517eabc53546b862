"""U-Nets: the bundled small one on pasted things, and the published one for Carvana's cars."""

from __future__ import annotations

import string
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from vvc_nnr.experiments.zoo.row import (
    WEIGHTS,
    Metrics,
    Picture,
    Subject,
    colour_pictures,
    data_set,
    find_weights,
    module_subject,
)
from vvc_nnr.model.safetensors import read_network
from vvc_nnr.model.torch import as_torch
from vvc_nnr.model.torch_file import read_checkpoint
from vvc_nnr.sequences.images import image_files, read_image

SIDE = 128
MAX_THINGS = 4
_LETTERS = string.ascii_letters + string.digits


def pasted(picture: Picture, filling: Picture, rng: np.random.Generator) -> tuple[Picture, Picture]:
    """A picture with one to four things pasted in, filled from another picture, and their mask.

    Args:
        picture: RGB, uint8 (H, W, 3).
        filling: RGB of the same shape.
        rng: Chooses kind, place, size and colour.

    Returns:
        The picture, and uint8 (H, W) of 0 and 1.
    """
    mask: Picture = np.zeros(picture.shape[:2], np.uint8)
    for _ in range(int(rng.integers(1, MAX_THINGS + 1))):
        _draw(mask, rng)
    gain = rng.uniform(0.6, 1.4, size=3)
    foreground = np.clip(filling * gain + rng.uniform(-40, 40, size=3), 0, 255)
    soft = cv2.GaussianBlur(mask.astype(np.float32), (3, 3), 0.6)[..., None]
    return np.rint(picture * (1 - soft) + foreground * soft).astype(np.uint8), mask


def pasted_crops(pictures: Sequence[Picture], rng: np.random.Generator, n: int) -> tuple[Tensor, Tensor]:
    """Crops float32 (n, 3, 128, 128), 0 to 1, with things pasted in, and their masks float32 (n, 1, 128, 128)."""
    made = [pasted(_crop(pictures, rng), _crop(pictures, rng), rng) for _ in range(n)]
    images = torch.from_numpy(np.stack([image for image, _ in made])).permute(0, 3, 1, 2).float().contiguous() / 255
    return images, torch.from_numpy(np.stack([mask for _, mask in made])).float()[:, None]


def _crop(pictures: Sequence[Picture], rng: np.random.Generator) -> Picture:
    picture = pictures[int(rng.integers(len(pictures)))]
    top, left = (int(rng.integers(side - SIDE + 1)) for side in picture.shape[:2])
    return picture[top : top + SIDE, left : left + SIDE]


def _draw(mask: Picture, rng: np.random.Generator) -> None:
    """Adds one thing to the mask."""
    height, width = mask.shape
    centre = (int(rng.integers(width)), int(rng.integers(height)))
    radius = int(rng.integers(10, max(11, min(height, width) // 4)))
    match int(rng.integers(3)):
        case 0:
            axes = (radius, int(rng.integers(8, radius + 1)))
            cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        case 1:
            angles = np.sort(rng.uniform(0, 2 * np.pi, size=int(rng.integers(3, 8))))
            corners = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius * 1.3 + centre
            cv2.fillPoly(mask, [corners.astype(np.int32)], 1)
        case _:
            text = "".join(rng.choice(list(_LETTERS), size=int(rng.integers(1, 4))))
            start = (centre[0] - radius, centre[1] + radius // 2)
            cv2.putText(mask, text, start, cv2.FONT_HERSHEY_DUPLEX, radius / 14, 1, max(2, radius // 5))


WIDTHS = (8, 16, 24, 40)


class DoubleConvolution(nn.Sequential):
    """Twice 3x3 convolution, batch norm and ReLU."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(
            nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
            nn.Conv2d(n_out, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
        )


class UNet(nn.Module):
    """RGB (N, 3, H, W), 0 to 1, to the logits of a mask (N, 1, H, W); sides multiples of 2 per width but the first.

    Args:
        widths: Channels from the first level to the deepest.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.down = nn.ModuleList(DoubleConvolution(a, b) for a, b in zip((3, *widths), widths, strict=False))
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(DoubleConvolution(2 * b, b) for _, b in pairs)
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """The logits."""
        levels: list[Tensor] = []
        found = pictures
        for place, convolve in enumerate(self.down):
            found = convolve(nn.functional.max_pool2d(found, 2) if place else found)
            levels.append(found)
        for grow, convolve, level in zip(self.grow, self.up, levels[-2::-1], strict=True):
            found = convolve(torch.cat([level, grow(found)], dim=1))
        logits: Tensor = self.head(found)
        return logits


def dice(logits: Tensor, masks: Tensor) -> float:
    """Dice coefficient of logits above 0 against masks of 0 and 1, over all pixels together; 1 if both are empty."""
    found, wanted = logits > 0, masks > 0.5
    n_pixels = int(found.sum()) + int(wanted.sum())
    return 2 * int((found & wanted).sum()) / n_pixels if n_pixels else 1.0


SEED = 1
N_CROPS = 256
# Half the size of Carvana's pictures, as the published network was trained.
REDUCTION = 2


@dataclass(frozen=True, slots=True)
class PastedRow:
    """The bundled batch-norm U-Net, on crops of pictures that it was not trained on."""

    name: str = "U-Net (small)"

    def load(self, folder: Path | None) -> Subject:
        """The bundled network and its Dice coefficient on crops with things pasted in."""
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


def _double_convolution(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(double_conv=DoubleConvolution(n_in, n_out)))


def _down(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(maxpool_conv=nn.Sequential(nn.MaxPool2d(2), _double_convolution(n_in, n_out))))


class _Up(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(n_in, n_in // 2, 2, stride=2)
        self.conv = _double_convolution(n_in, n_out)

    def forward(self, given: Tensor, level: Tensor) -> Tensor:
        grown = self.up(given)
        down, right = level.shape[2] - grown.shape[2], level.shape[3] - grown.shape[3]
        grown = nn.functional.pad(grown, (right // 2, right - right // 2, down // 2, down - down // 2))
        found: Tensor = self.conv(torch.cat([level, grown], dim=1))
        return found


class CarvanaUNet(nn.Module):
    """The widely used U-Net for Carvana, 31 million weights, by the names of its published checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.inc = _double_convolution(3, 64)
        self.down1, self.down2 = _down(64, 128), _down(128, 256)
        self.down3, self.down4 = _down(256, 512), _down(512, 1024)
        self.up1, self.up2 = _Up(1024, 512), _Up(512, 256)
        self.up3, self.up4 = _Up(256, 128), _Up(128, 64)
        self.outc = nn.Sequential(OrderedDict(conv=nn.Conv2d(64, 2, 1)))

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
        """The network, scored on Carvana's pictures with the user's weights; random weights have no task."""
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
