from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vvc_nnr.errors import InputError
from vvc_nnr.experiments import plots
from vvc_nnr.experiments.charts import GAIN_NOTE, Series, rd_pair
from vvc_nnr.experiments.plots import charts_figure, save_figure
from vvc_nnr.experiments.records.rows import ImageRow, NetworkRow, ToolRow, frame_of
from vvc_nnr.experiments.tables.means import tool_results


def rd_figures(rows: Sequence[ToolRow], networks: Sequence[NetworkRow]) -> dict[str, Figure]:
    return plots.rd_figures(tool_results(frame_of(rows, ToolRow), networks))


def end_to_end_figure(rows: Sequence[ImageRow]) -> Figure:
    return plots.end_to_end_figure(frame_of(rows, ImageRow), ())


def test_rd_figures(tool_rows: list[ToolRow], tool_networks: Sequence[NetworkRow]) -> None:
    figures = rd_figures(tool_rows, tool_networks)
    assert list(figures) == ["Class B", "Class D", "Overall"]
    curves, gains = figures["Overall"].axes
    assert labels(curves) == [
        "codec, all filters",
        "codec, deblock+SAO",
        "codec, no filter",
        *(f"{name}, {weights}" for name in ("rep", "post") for weights in ("original", "uniform8", "NNC QP -32")),
    ]
    assert [text.get_text() for text in figures["Overall"].legends[0].get_texts()] == labels(curves)
    assert curves.get_xlabel() == "rate [kbit per picture]"
    assert curves.get_ylabel() == "PSNR of luma [dB]"
    replacement = gains.lines[2]
    assert list(replacement.get_ydata()) == pytest.approx([0.3] * 64, abs=1e-3)


def test_rd_figure_without_the_anchor(
    tool_rows: list[ToolRow], tool_networks: Sequence[NetworkRow], tmp_path: Path
) -> None:
    rows = [row for row in tool_rows if row.way != "codec"]
    (curves,) = rd_figures(rows, tool_networks)["Overall"].axes
    assert len(curves.lines) == 6
    assert rd_figures([], tool_networks) == {}


def test_names_from_outside_are_drawn_as_they_are(
    tool_rows: list[ToolRow], tool_networks: Sequence[NetworkRow], tmp_path: Path
) -> None:
    odd = [
        replace(row, ctc_class="_a$^$\udcff", network=row.network.replace("rep", "$_{$"))
        for row in tool_rows
        if row.sequence == "Cactus"
    ]
    networks = [replace(row, network=row.network.replace("rep", "$_{$")) for row in tool_networks]
    (figure,) = rd_figures(odd, networks).values()
    save_figure(figure, tmp_path / "odd.png")
    assert "$_{$, original" in labels(figure.axes[0])
    save_figure(figure, tmp_path / "odd.svg")
    assert ">$_{$, original<" in (tmp_path / "odd.svg").read_text()


def test_marks_of_decoded_weights_do_not_cover_those_as_trained(image_rows: list[ImageRow]) -> None:
    """At close rates both lie in one place: the cross is beneath, and its arms are longer than what is on it."""
    (axes,) = end_to_end_figure(image_rows).axes
    lines = {str(line.get_label()): line for line in axes.lines}
    decoded = next(line for label, line in lines.items() if label.startswith("reconstructed CNN-AE"))
    trained = lines["CNN-AE"]
    assert decoded.get_marker() == "x"
    assert decoded.get_zorder() < trained.get_zorder()
    assert decoded.get_markersize() > 1.2 * trained.get_markersize()


def test_end_to_end_figure(image_rows: list[ImageRow]) -> None:
    (axes,) = end_to_end_figure(image_rows).axes
    assert labels(axes) == [
        "JPEG, file",
        "JPEG, optimised",
        "JPEG, payload",
        "CNN-AE",
        "reconstructed CNN-AE, uniform8",
        "reconstructed CNN-AE, NNC QP -32",
        "JPEG, in the paper",
        "CNN-AE, in the paper",
    ]
    assert list(axes.lines[3].get_ydata()) == pytest.approx([32, 39])


def test_the_paper_s_points_stand_among_pictures_of_their_size_alone(image_rows: list[ImageRow]) -> None:
    larger = [replace(row, bpp=row.bpp / 4) for row in image_rows]
    figure = end_to_end_figure(larger)
    assert not any("in the paper" in label for label in labels(figure.axes[0]))
    assert "the paper's points, of CIFAR-10 (32x32)" in figure_note(figure)


def test_ways_of_one_network_have_marks_of_their_own(
    tool_rows: list[ToolRow], tool_networks: Sequence[NetworkRow]
) -> None:
    """Their curves lie close to each other: dashes alone do not tell them apart."""
    decided = [replace(row, way="decisions") for row in tool_rows if row.network]
    for axes in rd_figures([*tool_rows, *decided], tool_networks)["Overall"].axes:
        marks = [(line.get_color(), line.get_marker()) for line in curves_of(axes)]
        assert len(set(marks)) == len(marks)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_saving_twice_gives_the_same_bytes(
    image_rows: list[ImageRow],
    tool_rows: list[ToolRow],
    tool_networks: Sequence[NetworkRow],
    tmp_path: Path,
    suffix: str,
) -> None:
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    save_figure(end_to_end_figure(image_rows), first)
    save_figure(end_to_end_figure(image_rows), second)
    assert first.read_bytes() == second.read_bytes()
    save_figure(rd_figures(tool_rows, tool_networks)["Overall"], first)
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


def test_infinite_points_are_named_and_not_in_the_legend(
    image_rows: list[ImageRow], tool_rows: list[ToolRow], tool_networks: Sequence[NetworkRow]
) -> None:
    """One image that JPEG codes exactly makes all of its means infinite."""
    exact = [replace(row, psnr_db=math.inf) if "jpeg" in row.method and row.image == "a" else row for row in image_rows]
    figure = end_to_end_figure(exact)
    assert labels(figure.axes[0])[:2] == ["CNN-AE", "reconstructed CNN-AE, uniform8"]
    all_of = "all of JPEG, file; all of JPEG, optimised; all of JPEG, payload."
    assert figure_note(figure) == f"Points of infinite PSNR are not drawn: {all_of}"
    rows = [
        replace(row, psnr_y_db=math.inf) if row.loop_filters == "all" and row.qp == 22 else row for row in tool_rows
    ]
    texts = figure_note(rd_figures(rows, tool_networks)["Overall"])
    assert "not drawn: 1 of 4 of codec, all filters; 1 of 4 of post, original; 1 of 4 of post, uniform8;" in texts
    nothing = rd_figures([replace(row, psnr_y_db=math.inf) for row in tool_rows], tool_networks)["Overall"]
    assert not any(axes.get_visible() for axes in nothing.axes)
    assert "Overall: PSNR over rate: there is no finite value to draw." in figure_note(nothing)
    assert figure_note(nothing).endswith("Overall: gain at the same rate: there is no finite value to draw.")
    assert figure_note(rd_figures(tool_rows, tool_networks)["Overall"]) == GAIN_NOTE


def test_no_setting_of_matplotlib_changes_a_figure(image_rows: list[ImageRow], tmp_path: Path) -> None:
    """Neither one that is set, nor a file of them in the folder; and a figure leaves them as they were."""
    save_figure(end_to_end_figure(image_rows), tmp_path / "a.svg")
    with rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path", "lines.linewidth": 9}):
        before = dict(rcParams)
        save_figure(end_to_end_figure(image_rows), tmp_path / "b.svg")
        assert dict(rcParams) == before
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_notebook_s_backend_does_not_matter(tmp_path: Path) -> None:
    """Its variable names a package that need not be there; nothing that draws may look for it."""
    code = """
import sys
from pathlib import Path
from vvc_nnr.experiments.plots import charts_figure, save_figure
from vvc_nnr.experiments.charts import Series, rd_pair
from vvc_nnr.experiments.report.page import chart_svg
anchor, test = (tuple((2.0**n, 30.0 + n + more) for n in range(4)) for more in (0, 1))
charts = rd_pair("t", anchor, [Series("codec", anchor), Series("net", test)], (22, 27, 32, 37))
for suffix in (".png", ".svg"):
    save_figure(charts_figure("t", charts), Path(sys.argv[1] + suffix))
assert len(list(map(chart_svg, charts))) == 2
"""
    run = [sys.executable, "-c", code, str(tmp_path / "a")]
    subprocess.run(run, check=True, env=os.environ | {"MPLBACKEND": "module://no_such_package.backend_inline"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg"]


def test_a_legend_has_every_name() -> None:
    """One that begins with an underscore is a name as others are."""
    anchor, test = (tuple((2.0**n, 30.0 + n + more) for n in range(4)) for more in (0, 1))
    figure = charts_figure("t", rd_pair("t", anchor, [Series("codec", anchor), Series("_net", test)], (22, 27, 32, 37)))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["codec", "_net"]


def test_a_legend_of_long_names_stays_in_its_figure() -> None:
    names = ["JPEG, file", "JPEG, payload", *(f"CNN-AE ({'Long' * n}Network)" for n in range(1, 20, 3))]
    series = tuple(Series(name, ((1.0, 1.0 + n), (2.0, 2.0)), n % 6) for n, name in enumerate(names))
    for n_charts in (1, 2):
        figure = charts_figure("t", rd_pair("t", [(1.0, 1.0), (2.0, 2.0)], series, (22, 27))[:n_charts])
        figure.draw_without_rendering()
        (legend,) = figure.legends
        box, whole = legend.get_window_extent(), figure.bbox
        assert whole.x0 <= box.x0
        assert box.x1 <= whole.x1
        assert figure.axes[0].get_window_extent().height > 0.3 * whole.height


def test_weights_of_one_network_can_be_told_apart(
    image_rows: list[ImageRow], tool_rows: list[ToolRow], tool_networks: Sequence[NetworkRow]
) -> None:
    more = [replace(row, weights="nnc:-24") for row in tool_rows if row.weights == "uniform8"]
    also = [replace(row, weights="nnc:-24") for row in tool_networks if row.weights == "uniform8"]
    axes = rd_figures([*tool_rows, *more], [*tool_networks, *also])["Overall"].axes[0]
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in axes.lines}
    assert more
    assert len(looks) == len(axes.lines)
    (axes,) = end_to_end_figure(image_rows).axes
    marks = {line.get_label(): line.get_marker() for line in axes.lines}
    assert marks["reconstructed CNN-AE, uniform8"] != marks["reconstructed CNN-AE, NNC QP -32"]


def labels(axes: Axes) -> list[str]:
    """Of the curves; a line at zero has none."""
    return [str(line.get_label()) for line in axes.lines if not str(line.get_label()).startswith("_")]


def figure_note(figure: Figure) -> str:
    return figure.legends[0].get_title().get_text().replace("\n", " ")


def test_no_two_curves_look_alike(
    image_rows: list[ImageRow], tool_rows: list[ToolRow], tool_networks: Sequence[NetworkRow]
) -> None:
    """Where looks would have to repeat, the last weights of each network are drawn, and it is said which are not."""
    for n_networks, n_curves in ((6, 3 + 6 * 3), (12, 3 + 12)):
        rows = [row for row in tool_rows if row.network != "rep"]
        copies = [row for row in rows if row.network]
        networks = [row for row in tool_networks if row.network == "post"]
        rows += [replace(row, network=f"n{n}") for n in range(1, n_networks) for row in copies]
        networks += [replace(row, network=f"n{n}") for n in range(1, n_networks) for row in networks[:3]]
        figure = rd_figures(rows, networks)["Overall"]
        for axes in figure.axes:
            looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in curves_of(axes)}
            assert len(looks) == len(curves_of(axes)) == n_curves - (axes is not figure.axes[0])
        note = "Not drawn, since their curves would hide those of the last weights: post, original; post, uniform8; n1"
        assert (note in figure_note(figure)) == (n_networks > 6)
    kinds = [f"uniform{bits}" for bits in range(2, 14)]
    more = [replace(row, weights=kind) for kind in kinds for row in image_rows if row.weights == "uniform8"]
    axes = end_to_end_figure([row for row in image_rows if row.weights != "uniform8"] + more).axes[0]
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in curves_of(axes)}
    assert len(looks) == len(curves_of(axes)) > 12


def test_curves_of_one_place_have_their_markers_beside_each_other() -> None:
    anchor, test = (tuple((2.0**n, 30.0 + n + more) for n in range(4)) for more in (0, 1))
    same = [Series(str(n), test) for n in range(12)]
    _, gains = rd_pair("t", anchor, [Series("codec", anchor), *same], (22, 27, 32, 37))
    axes = charts_figure("t", [gains]).axes[0]
    places = [x for line in curves_of(axes) for x in line.get_xdata()[line.get_markevery()[0] :: 16]]
    assert len(set(places)) == len(places) == 12 * 4


def test_why_there_is_no_curve_of_gains() -> None:
    anchor, far = (tuple((2.0**n, 30.0 + n) for n in range(first, first + 4)) for first in (0, 10))
    _, gains = rd_pair("t", anchor, [Series("codec", anchor), Series("net", far)], (22, 27, 32, 37))
    assert gains.series == ()
    assert gains.notes == ("Warning about the gain of net: no value: the curves do not overlap.",)
    (alone,) = rd_pair("t", (), [Series("one", anchor), Series("other", anchor)], (22, 27, 32, 37))
    assert alone.notes == ("Curves on each other, within 0.015 dB: one | other.",)


def curves_of(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if line.get_gid()]
