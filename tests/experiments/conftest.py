"""Hand-made rows: two sequences, two networks, four QPs, numbers that can be checked by head."""

from __future__ import annotations

import pytest

from vvc_nnr.experiments.rows import ImageRow, LoopFilters, ToolMethod, ToolRow

QPS = (22, 27, 32, 37)
ANCHOR_DB = {"all": 0.0, "deblock-sao": -0.2, "none": -0.25}


def _tool_row(
    sequence: str,
    ctc_class: str,
    qp: int,
    filters: LoopFilters,
    method: ToolMethod = "anchor",
    network: str = "",
    gain_db: float = 0.0,
    picture: int = 0,
) -> ToolRow:
    level_db = 40.0 - (qp - 22) * 0.5 + (0.5 if picture else -0.5)
    y_db = level_db + ANCHOR_DB[filters] + gain_db
    n_bits = round(400_000 * 2 ** (-(qp - 22) / 5))
    ssim = 0.95 + gain_db / 100
    return ToolRow(
        sequence, ctc_class, picture, 416, 240, 10, qp, filters, method, network, n_bits,
        y_db, y_db + 2, y_db + 3, ssim, ssim, ssim,
    )  # fmt: skip


@pytest.fixture
def tool_rows() -> list[ToolRow]:
    rows = []
    for sequence, ctc_class, extra_db in (("BasketballPass", "D", 0.0), ("Cactus", "B", 0.1)):
        for qp in QPS:
            for picture in (0, 1):
                place = (sequence, ctc_class, qp)
                for filters in ("all", "deblock-sao", "none"):
                    rows.append(_tool_row(*place, filters, picture=picture))
                for network, filters, gain_db in (("rep", "none", 0.5), ("post", "all", 0.2)):
                    gain_db += extra_db
                    rows.append(_tool_row(*place, filters, "original", network, gain_db, picture))
                    rows.append(_tool_row(*place, filters, "reconstructed", network, gain_db - 0.01, picture))
    return rows


@pytest.fixture
def image_rows() -> list[ImageRow]:
    rows = []
    for image, offset_db in (("a", -1.0), ("b", 1.0)):
        for quality, payload, psnr_db in (("q50", 232, 29.5), ("q75", 352, 32.0), ("q90", 576, 36.5)):
            for method, header in (("jpeg-payload", 0), ("jpeg-optimised", 320), ("jpeg-file", 624)):
                n_bytes = payload + header
                rows.append(ImageRow(image, method, quality, n_bytes, n_bytes / 128, psnr_db + offset_db, 0.9))
        for network, n_bytes, psnr_db in (("ae-small", 224, 32.0), ("ae-large", 544, 39.0)):
            row = (network, n_bytes, n_bytes / 128)
            rows.append(ImageRow(image, "cnn-ae", *row, psnr_db + offset_db, 0.95))
            rows.append(ImageRow(image, "reconstructed-cnn-ae", *row, psnr_db - 0.01 + offset_db, 0.9495))
    return rows
