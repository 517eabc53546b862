"""Filters as three researchers might have them; tests name them as FILE.py:FACTORY."""

import torch
from torch import nn
from torch.nn import functional

from vvc_nnr.filters.networks.in_loop import LadderFilter


class LumaNet(nn.Module):
    """Luma only, no QP; returns what is to be added."""

    layout = "planes=y,output=residual"

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 5, padding=2)
        self.body = nn.Sequential(nn.PReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.PReLU())
        self.last = nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, luma):
        return 0.05 * self.last(self.body(self.first(luma)))


class UNet(nn.Module):
    """Six packed planes and a QP plane; halves them once more and shuffles back."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(7, 16, 4, stride=2, padding=1)
        self.deep = nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.tail = nn.Sequential(nn.Conv2d(15, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 24, 3, 2, 1))

    def forward(self, planes):
        wide = torch.cat([self.up(self.deep(self.down(planes))), planes], dim=1)
        return planes[:, :6] + 0.05 * functional.pixel_shuffle(self.tail(wide), 2)


class GlobalNet(nn.Module):
    """RGB in -1..1, the QP as a number, and a gain that depends on the whole picture; returns the noise."""

    layout = "planes=rgb,range=signed,qp=scalar,qp-offset=32,qp-scale=10,output=noise"

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 12, 3, padding=1)
        self.squeeze = nn.Linear(13, 12)
        self.tail = nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, rgb, strength):
        features = functional.gelu(self.head(rgb))
        mean = torch.cat([features.mean((2, 3)), strength.reshape(-1, 1)], dim=1)
        return 0.05 * self.tail(features * torch.sigmoid(self.squeeze(mean))[:, :, None, None])


UNET_LAYOUT = "planes=yuv420-packed,qp=plane,qp-scale=63,align=2"
LADDER_LAYOUT = "planes=yuv420-packed,range=unit10,qp=scalar"


def make_a():
    torch.manual_seed(1)
    return LumaNet()


def make_b():
    torch.manual_seed(2)
    net = UNet()
    net.deep[0].running_mean.fill_(0.1)
    net.deep[0].running_var.fill_(2.0)
    return net


def make_c():
    torch.manual_seed(3)
    return GlobalNet()


class Renamed(nn.Module):
    """A bundled network that no one would know."""

    def __init__(self):
        super().__init__()
        self.inner = LadderFilter(32, 3)

    def forward(self, planes, qp):
        return self.inner(planes, qp)


def make_renamed():
    return Renamed()


def make_number():
    return 3


def make_broken():
    raise RuntimeError("no GPU here")
