from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.plots import end_to_end_figure, rd_figures, save_figure
from vvc_nnr.experiments.records.rows import ImageRow, ToolRow


def test_rd_figures(tool_rows: list[ToolRow]) -> None:
    assert list(rd_figures(tool_rows, "sequence")) == ["Cactus", "BasketballPass"]
    figures = rd_figures(tool_rows)
    assert list(figures) == ["Class B", "Class D", "Overall"]
    curves, gains = figures["Overall"].axes
    assert len(curves.lines) == 3 + 2 * 2
    assert curves.get_xlabel() == "rate [kbit per picture]"
    assert curves.get_ylabel() == "PSNR of luma [dB]"
    replacement = gains.lines[2]
    assert list(replacement.get_ydata()) == pytest.approx([0.3] * 64, abs=1e-3)


def test_rd_figure_without_the_anchor(tool_rows: list[ToolRow], tmp_path: Path) -> None:
    rows = [row for row in tool_rows if row.method != "anchor"]
    curves, gains = rd_figures(rows)["Overall"].axes
    assert len(curves.lines) == 4
    assert not gains.get_visible()
    assert rd_figures([]) == {}


def test_names_from_outside_are_drawn_as_they_are(tool_rows: list[ToolRow], tmp_path: Path) -> None:
    odd = [
        replace(row, sequence="_a$^$\udcff", network="$_{$" if row.network else "")
        for row in tool_rows
        if row.sequence == "Cactus"
    ]
    (figure,) = rd_figures(odd, "sequence").values()
    save_figure(figure, tmp_path / "odd.png")
    assert figure.axes[0].lines[3].get_label() == r"CNN: \$_{\$ instead of all filters"


def test_end_to_end_figure(image_rows: list[ImageRow]) -> None:
    (axes,) = end_to_end_figure(image_rows).axes
    assert [line.get_label() for line in axes.lines] == [
        "JPEG, file",
        "JPEG, optimised",
        "JPEG, payload",
        "CNN-AE",
        "reconstructed CNN-AE",
        "JPEG, in the paper",
        "CNN-AE, in the paper",
    ]
    assert list(axes.lines[3].get_ydata()) == pytest.approx([32, 39])


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_saving_twice_gives_the_same_bytes(
    image_rows: list[ImageRow], tool_rows: list[ToolRow], tmp_path: Path, suffix: str
) -> None:
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    save_figure(end_to_end_figure(image_rows), first)
    save_figure(end_to_end_figure(image_rows), second)
    assert first.read_bytes() == second.read_bytes()
    save_figure(rd_figures(tool_rows)["Overall"], first)
    assert len(first.read_bytes()) > 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == [first.name, second.name]


def test_bad_targets(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.png or \.svg"):
        save_figure(Figure(), tmp_path / "a.jpg")
    with pytest.raises(InputError, match="cannot be written"):
        save_figure(Figure(), tmp_path / "no-folder" / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_importing_touches_no_pyplot() -> None:
    code = "import sys, vvc_nnr.experiments.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_infinite_points_are_named_and_not_in_the_legend(image_rows: list[ImageRow], tool_rows: list[ToolRow]) -> None:
    """One image that JPEG codes exactly makes all of its means infinite."""
    exact = [replace(row, psnr_db=math.inf) if "jpeg" in row.method and row.image == "a" else row for row in image_rows]
    figure = end_to_end_figure(exact)
    assert [line.get_label() for line in figure.axes[0].lines[:2]] == ["CNN-AE", "reconstructed CNN-AE"]
    all_of = "all of JPEG, file; all of JPEG, optimised; all of JPEG, payload."
    assert figure.get_supxlabel() == f"Points of infinite PSNR are not drawn: {all_of}"
    rows = [
        replace(row, psnr_y_db=math.inf) if row.loop_filters == "all" and row.qp == 22 else row for row in tool_rows
    ]
    texts = figure_note(rd_figures(rows)["Overall"])
    assert "not drawn: 1 of 4 of codec: all filters; 1 of 4 of CNN: post after all filters;" in texts
    nothing = rd_figures([replace(row, psnr_y_db=math.inf) for row in tool_rows])["Overall"]
    assert not any(axes.get_visible() for axes in nothing.axes)
    assert figure_note(nothing).endswith("No plot: there is no finite value to draw.")
    assert figure_note(rd_figures(tool_rows)["Overall"]) == ""


def figure_note(figure: Figure) -> str:
    return figure.legends[0].get_title().get_text().replace("\n", " ")
