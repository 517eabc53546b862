"""A folder of results of every experiment, its rows made by hand, with small pictures for the viewer."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vvc_nnr.experiments.records.provenance import Conventions, Provenance
from vvc_nnr.experiments.records.rows import ImageRow, NetworkRow, ToolRow, Way, ZooRow
from vvc_nnr.experiments.records.tsv import RowWriter

Pixels = NDArray[np.uint8]
Entry = dict[str, object]
QPS = (22, 27, 32, 37)
PROVENANCE = Provenance("9.9", "c0ffee" * 6 + "c0ff", "vvc-nnr experiment", "cpu", "abacus", 2, "an OS", "2026-01-02")


@pytest.fixture
def provenance() -> Provenance:
    return PROVENANCE


@pytest.fixture
def decided_rows() -> list[ToolRow]:
    """Straight curves, 2 dB per halving of the rate: full strength saves 10 %, decisions 15 %, Wiener filters 20 %."""
    return [
        _decided_row(name, ctc_class, qp, way, rate)
        for name, ctc_class in (("Cactus", "B"), ("BasketballPass", "D"))
        for qp in QPS
        for way, rate in (("codec", 1.0), ("full", 0.9), ("decisions", 0.85), ("wiener", 0.8))
    ]


DECIDED_NETWORK = NetworkRow("net", "file", "ab", "all", "NNC", 7500, None, 5000, 4.5)


def _decided_row(name: str, ctc_class: str, qp: int, way: Way, rate: float) -> ToolRow:
    level_db = 42 - 0.4 * (qp - 22)
    n_bits = round((1 << 22) / 2 ** ((qp - 22) / 5) * rate)
    is_codec = way == "codec"
    return ToolRow(
        name, ctc_class, 0, 416, 240, 10, qp, "all", way, "" if is_codec else "net",
        "none" if is_codec else "file", "" if is_codec else "ab", n_bits, 0,
        level_db, level_db + 2, level_db + 3, 0.9, 0.9, 0.9, 0.99, None, None, 2.0, 0.1 if is_codec else 5.0,
    )  # fmt: skip


@pytest.fixture
def decided(tmp_path: Path, decided_rows: list[ToolRow]) -> Path:
    """A tool-by-tool run of one coded network with decisions and Wiener filters, in a folder of its own."""
    folder = tmp_path / "decided"
    folder.mkdir()
    _write_tools(folder, decided_rows, [DECIDED_NETWORK], ["full", "decisions", "wiener"])
    return folder


@pytest.fixture
def zoo_rows() -> list[ZooRow]:
    scores = (None, None, None, 75.0, None, None, None, None, None, None)
    return [
        ZooRow("AlexNet", "original", 0, None, "random", "", 1000, 4000, None, *scores, ""),
        ZooRow("AlexNet", "vvc_nnr", -36, None, "random", "", 1000, 4000, 400, *scores, ""),
        ZooRow("AlexNet", "nncodec", -38, None, "random", "", 1000, 4000, 600, *scores, "psnr_db"),
    ]


@pytest.fixture
def results(
    tmp_path: Path,
    tool_rows: list[ToolRow],
    image_rows: list[ImageRow],
    zoo_rows: list[ZooRow],
    tool_networks: tuple[NetworkRow, ...],
    autoencoders: tuple[NetworkRow, ...],
) -> Path:
    """All three experiments in one folder, without pictures."""
    folder = tmp_path / "results"
    folder.mkdir()
    _write_tools(folder, tool_rows, tool_networks, ["full"])
    _write(folder / "end_to_end.tsv", ImageRow, image_rows)
    _write(folder / "end_to_end_networks.tsv", NetworkRow, autoencoders)
    _write(folder / "model_zoo.tsv", ZooRow, zoo_rows)
    return folder


def _write_tools(folder: Path, rows: Iterable[ToolRow], networks: Iterable[NetworkRow], ways: list[Way]) -> None:
    _write(folder / "tool_by_tool.tsv", ToolRow, rows)
    _write(folder / "tool_by_tool_networks.tsv", NetworkRow, networks)
    settings = {"configs": ["ai"], "qps": QPS, "max_pictures": None, "ways": ways, "interpolation": "pchip"}
    shown = ["Cactus", "BasketballPass"]
    content = {"settings": settings, "provenance": PROVENANCE.to_header(), "shown": shown}
    (folder / "tool_by_tool.json").write_text(json.dumps(content))


def _write(path: Path, row_type: type, rows: Iterable[object]) -> None:
    header = PROVENANCE.to_header() | Conventions(loop_filters="as they are").to_header()
    with RowWriter(path, row_type, header) as writer:
        writer.append(rows)


@pytest.fixture
def trio(rgb: Pixels) -> dict[str, Pixels]:
    """A photograph, coarse, and less coarse: 96x64."""
    decoded = (rgb // 16 * 16 + 8).astype(np.uint8)
    return {"original": rgb, "decoded": decoded, "filtered": (rgb // 8 * 8 + 4).astype(np.uint8)}


@pytest.fixture
def put_pictures(trio: dict[str, Pixels]) -> Callable[..., list[Entry]]:
    """Writes pictures and their index into a folder of results, and returns the index."""

    def put(
        folder: Path, sequences: Iterable[str] = ("Cactus",), qps: Iterable[int] = (22, 37)
    ) -> list[dict[str, object]]:
        (folder / "pictures").mkdir(exist_ok=True)
        entries = [_entry(folder / "pictures", trio, name, qp, i) for i, name in enumerate(sequences) for qp in qps]
        (folder / "pictures" / "index.json").write_text(json.dumps(entries))
        return entries

    return put


def _entry(folder: Path, trio: dict[str, Pixels], sequence: str, qp: int, number: int) -> Entry:
    """The pictures of a QP differ from those of another, the original does not."""
    files = {}
    for kind in ("original", "decoded", "filtered"):
        pixels = trio[kind] if kind == "original" else trio[kind] ^ np.uint8(qp)
        files[kind] = f"{number}_{kind}.webp" if kind == "original" else f"{number}_{kind}_{qp}.webp"
        (folder / files[kind]).write_bytes(_webp(np.roll(pixels, number, axis=0)))
    psnr = {"decoded": 33.25, "filtered": 33.5 if qp < 37 else "inf"}
    place = {"sequence": sequence, "qp": qp, "network": "net", "picture": 0, "width": 96, "height": 64}
    return {**place, "files": files, "psnr_y_db": psnr}


@pytest.fixture
def webp() -> Callable[..., bytes]:
    """The file of a picture."""
    return _webp


def _webp(pixels: Pixels, *, lossless: bool = True) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format="WEBP", lossless=lossless)
    return data.getvalue()
