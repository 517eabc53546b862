"""Files and index of the viewer's pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.rows import NetworkRow, ToolRow
from vvc_nnr.experiments.records.viewer_pictures import (
    decoded_name,
    filtered_name,
    original_name,
    store_picture,
    write_index,
)
from vvc_nnr.sequences.frame import Frame


def row(**changes: object) -> ToolRow:
    values: dict[str, object] = {
        "sequence": "a/b c", "ctc_class": "D", "picture": 0, "width": 96, "height": 64, "bit_depth": 10, "qp": 32,
        "loop_filters": "all", "way": "codec", "network": "", "weights": "none", "network_sha256": "",
        "n_bits": 800, "n_decision_bits": 0, "psnr_y_db": 35.0, "psnr_cb_db": 40.0, "psnr_cr_db": 40.0,
        "ssim_y": 0.9, "ssim_cb": 0.9, "ssim_cr": 0.9, "ms_ssim_y": None, "ms_ssim_cb": None, "ms_ssim_cr": None,
        "encode_s": 1.0, "decode_s": 1.0,
    }  # fmt: skip
    return ToolRow(**values | changes)  # type: ignore[arg-type]


def test_names_are_plain_and_never_shared() -> None:
    names = [
        original_name("kodim01", 0),
        original_name("a/b c", 0),
        original_name("a-b-c", 0),
        decoded_name("kodim01", 0, 32, "all"),
        decoded_name("kodim01", 0, 32, "none"),
        filtered_name("kodim01", 0, 32, "full", "all", "0123456789abcdef"),
        filtered_name("kodim01", 0, 32, "full", "all", "fedcba9876543210"),
        filtered_name("kodim01", 0, 32, "wiener", "all", "fedcba9876543210"),
    ]
    assert names[0] == "kodim01_0_original.webp"
    assert names[3] == "kodim01_0_qp32_decoded_all.webp"
    assert len(set(names)) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-") for name in names)


def test_the_index_has_the_last_weights_of_each_network_in_the_way_of_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = {"network": "net", "weights": "file", "network_sha256": "0123456789abcdef"}
    rows = [
        row(),
        row(way="full", **network),
        row(way="decisions", **network),
        row(way="wiener", psnr_y_db=float("inf"), **network),
        row(way="wiener", **network | {"weights": "original"}),
        row(picture=1),
        row(picture=1, way="wiener", **network),
    ]
    costs = ("ab", "all", "NNC", 100, 400, 100, 1.0)
    networks = [NetworkRow("net", "original", *costs), NetworkRow("net", "file", "0123456789abcdef", *costs[1:])]
    write_index(tmp_path, rows, networks, "wiener", 0)
    assert json.loads((tmp_path / "index.json").read_text()) == []
    assert "1 of 1 pictures for the report's viewer are not there" in caplog.text
    for name in (
        original_name("a/b c", 0),
        decoded_name("a/b c", 0, 32, "all"),
        filtered_name("a/b c", 0, 32, "wiener", "net", "0123456789abcdef"),
    ):
        (tmp_path / name).touch()
    write_index(tmp_path, rows, networks, "wiener", 0)
    (entry,) = json.loads((tmp_path / "index.json").read_text())
    assert list(entry) == ["sequence", "qp", "network", "picture", "width", "height", "files", "psnr_y_db"]
    assert (entry["sequence"], entry["qp"], entry["network"], entry["picture"]) == ("a/b c", 32, "net", 0)
    assert entry["psnr_y_db"] == {"decoded": 35.0, "filtered": "inf"}
    assert list(entry["files"]) == ["original", "decoded", "filtered"]
    assert not any("/" in name for name in entry["files"].values())


def test_a_picture_is_written_whole_and_anew(tmp_path: Path) -> None:
    frame = Frame((np.full((16, 16), 500, np.uint16),), 10, "400")
    path = tmp_path / "a.webp"
    store_picture(path, frame)
    first = path.read_bytes()
    store_picture(path, Frame((np.full((16, 16), 100, np.uint16),), 10, "400"))
    assert path.read_bytes() != first  # that of another coding would stay under the figures of this one
    assert [each.name for each in tmp_path.iterdir()] == ["a.webp"]
    with pytest.raises(InputError, match=r"b\.webp: cannot be written"):
        store_picture(tmp_path / "absent" / "b.webp", frame)


def test_a_picture_of_full_range_is_shown_as_that(tmp_path: Path) -> None:
    frame = Frame((np.full((16, 16), 1023, np.uint16),), 10, "400")
    grey = Frame((np.full((16, 16), 256, np.uint16),), 10, "400")
    for name, each, level in (("white", frame, 255), ("grey", grey, 64)):
        store_picture(tmp_path / f"{name}.webp", each, "full")
        assert np.asarray(Image.open(tmp_path / f"{name}.webp"))[0, 0].tolist() == [level] * 3
