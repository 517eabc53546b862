"""Hand-made rows (two sequences, two networks, four QPs, numbers that can be checked by head), small real inputs.

The networks are tiny and random: what they do to pictures does not matter here, that it is done does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import skimage.data
import torch
from numpy.typing import NDArray

from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.experiments.cli.main import main
from vvc_nnr.experiments.records.rows import ImageRow, NetworkRow, ToolRow, Way
from vvc_nnr.filters.inference.choice import FASTEST_FIRST
from vvc_nnr.filters.networks.autoencoder import TABLE_RADIUS, Autoencoder, integer_tables
from vvc_nnr.filters.networks.in_loop import InLoopFilter
from vvc_nnr.filters.zoo import Network, network_metadata, network_tensors
from vvc_nnr.model.safetensors import write_float
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.images import rgb_to_frame
from vvc_nnr.sequences.y4m import Y4mWriter

Run = Callable[..., str]
QPS = (22, 27, 32, 37)
ANCHOR_DB = {"all": 0.0, "deblock-sao": -0.2, "none": -0.25}


@pytest.fixture(autouse=True)
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encodings of tests do not go into the user's own cache, nor come from it."""
    folder = tmp_path_factory.getbasetemp() / "user_cache"
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(folder / name))


@pytest.fixture
def torch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fastest backend of this process is torch: OpenVINO compiles a network for longer than small pictures take."""
    monkeypatch.setitem(FASTEST_FIRST, "float32", ("torch",))


def tool_row(
    sequence: str,
    ctc_class: str,
    qp: int,
    filters: LoopFilters,
    network: str = "",
    weights: str = "none",
    gain_db: float = 0.0,
    picture: int = 0,
) -> ToolRow:
    """A picture of the codec alone, or of a network at full strength."""
    level_db = 40.0 - (qp - 22) * 0.5 + (0.5 if picture else -0.5)
    y_db = level_db + ANCHOR_DB[filters] + gain_db
    n_bits = round(400_000 * 2 ** (-(qp - 22) / 5))
    ssim = 0.95 + gain_db / 100
    way: Way = "full" if network else "codec"
    return ToolRow(
        sequence, ctc_class, picture, 416, 240, 10, qp, filters, way, network, weights, _sha256(network, weights),
        n_bits, 0, y_db, y_db + 2, y_db + 3, ssim, ssim, ssim, ssim, None, None, 2.0, 0.1 if way == "codec" else 0.5,
    )  # fmt: skip


def _sha256(network: str, weights: str) -> str:
    return f"{network} {weights}".strip() if network else ""


NETWORKS = tuple(
    NetworkRow(name, weights, _sha256(name, weights), place, coding, n_bytes, 799_744, 199_936, 80.0)
    for name, place in (("rep", "none"), ("post", "all"))
    for weights, coding, n_bytes in (
        ("original", "float32", 799_744), ("uniform8", "uniform8", 208_896), ("nnc:-32", "NNC", 124_960),
    )
)  # fmt: skip
LOSSES_DB = {"original": 0.0, "uniform8": 0.01, "nnc:-32": 0.02}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command that has to succeed quietly and returns its standard output."""

    def run(*argv: str | Path) -> str:
        code = main([str(word) for word in argv])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return out

    return run


@pytest.fixture
def tool_rows() -> list[ToolRow]:
    rows = []
    for sequence, ctc_class, extra_db in (("BasketballPass", "D", 0.0), ("Cactus", "B", 0.1)):
        for qp in QPS:
            for picture in (0, 1):
                place = (sequence, ctc_class, qp)
                for filters in ("all", "deblock-sao", "none"):
                    rows.append(tool_row(*place, filters, picture=picture))
                for network, filters, gain_db in (("rep", "none", 0.5), ("post", "all", 0.2)):
                    gain_db += extra_db
                    for weights, loss_db in LOSSES_DB.items():
                        rows.append(tool_row(*place, filters, network, weights, gain_db - loss_db, picture))
    return rows


@pytest.fixture
def tool_networks() -> tuple[NetworkRow, ...]:
    """Those of the rows, in the order of the tables."""
    return NETWORKS


@pytest.fixture
def autoencoders() -> tuple[NetworkRow, ...]:
    """Those of the rows about images."""
    return tuple(
        NetworkRow(name, weights, _sha256(name, weights), "codec", coding, 1000, 4000, 1000, None)
        for name in ("ae-small", "ae-large")
        for weights, coding in (("original", "float32"), ("uniform8", "uniform8"), ("nnc:-32", "NNC"))
    )


@pytest.fixture
def image_rows() -> list[ImageRow]:
    rows = []
    for image, offset_db in (("a", -1.0), ("b", 1.0)):
        for quality, payload, psnr_db in (("q50", 232, 29.5), ("q75", 352, 32.0), ("q90", 576, 36.5)):
            for method, header in (("jpeg-payload", 0), ("jpeg-optimised", 320), ("jpeg-file", 624)):
                n_bytes = payload + header
                rows.append(
                    ImageRow(image, method, quality, "none", "", n_bytes, n_bytes / 128, psnr_db + offset_db, 0.9, None)
                )
        for network, n_bytes, psnr_db in (("ae-small", 224, 32.0), ("ae-large", 544, 39.0)):
            for weights, loss_db in LOSSES_DB.items():
                key = (image, "cnn-ae", network, weights, _sha256(network, weights))
                scores = (psnr_db - loss_db + offset_db, 0.95 - loss_db / 20, None)
                rows.append(ImageRow(*key, n_bytes, n_bytes / 128, *scores))
    return rows


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def rgb() -> NDArray[np.uint8]:
    """A piece of a photograph, 96x64."""
    return np.ascontiguousarray(skimage.data.astronaut()[20:84, 180:276])


@pytest.fixture(scope="session")
def frames(rgb: NDArray[np.uint8]) -> list[Frame]:
    """Two different 8-bit 4:2:0 pictures, 96x64."""
    return [rgb_to_frame(rgb), rgb_to_frame(rgb[::-1])]


@pytest.fixture
def y4m(frames: list[Frame], tmp_path: Path) -> Path:
    """The two pictures as a file."""
    path = tmp_path / "in.y4m"
    with Y4mWriter(path, frames[0].format(Fraction(25))) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the in-loop filters `rep` and `post` and the autoencoders `small` and `large`."""
    folder = tmp_path_factory.mktemp("networks")
    for seed, name in enumerate(("rep", "post")):
        torch.manual_seed(seed)
        network = InLoopFilter(8, 1)
        torch.nn.init.normal_(network.tail.weight, std=0.3)
        _save(folder / f"{name}.safetensors", network)
    for n_latents, name in ((2, "small"), (6, "large")):
        torch.manual_seed(n_latents)
        autoencoder = Autoencoder(n_latents, 8, 8, 1)
        shape = (n_latents, 2 * TABLE_RADIUS + 1)
        falling = np.broadcast_to(0.8 ** np.abs(np.arange(shape[1]) - TABLE_RADIUS), shape)
        autoencoder.frequencies.copy_(torch.from_numpy(integer_tables(np.zeros(shape), falling)))
        _save(folder / f"{name}.safetensors", autoencoder)
    return folder


def _save(path: Path, network: Network) -> None:
    write_float(path, network_tensors(network), network_metadata(network))
