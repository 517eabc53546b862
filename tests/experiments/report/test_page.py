"""The page as text: everything that is outside of it stays outside, and everything from outside is escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from vvc_nnr.experiments.charts import Series, rd_pair
from vvc_nnr.experiments.records.provenance import Provenance
from vvc_nnr.experiments.records.rows import ImageRow, ToolRow
from vvc_nnr.experiments.records.viewer_pictures import read_index
from vvc_nnr.experiments.report.embedding import EmbeddedPictures, PictureLimits, embed_pictures
from vvc_nnr.experiments.report.page import render_page
from vvc_nnr.experiments.report.sections import image_section, read_sections, tool_section
from vvc_nnr.experiments.tables.stored import read_images, read_tools
from vvc_nnr.experiments.tables.table import cell_texts

Put = Callable[..., list[dict[str, object]]]
QPS = (22, 27, 32, 37)
NO_PICTURES = EmbeddedPictures()
NASTY = """</script><img src=x onerror="alert(1)">&'"""
"""A name that would run a script where it is not escaped."""
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Tree(HTMLParser):
    """Checks that elements are closed in their order, and keeps their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def values(self, name: str) -> list[str]:
        return [value for _, found in self.elements if (value := found.get(name)) is not None]


def tree(page: str) -> Tree:
    found = Tree()
    found.feed(page)
    assert found.open == []
    return found


@pytest.fixture
def page(results: Path, provenance: Provenance) -> str:
    return render_page("Title", read_sections(results), NO_PICTURES, provenance).decode()


def test_elements_are_closed_and_names_are_unique(page: str) -> None:
    ids = tree(page).values("id")
    assert len(ids) == len(set(ids)) > 20
    targets = [value[1:] for value in tree(page).values("href") if value.startswith("#")]
    assert set(targets) <= set(ids)
    labels = {word for value in tree(page).values("aria-labelledby") for word in value.split()}
    assert labels <= set(ids)


def test_nothing_leads_out_of_the_page(page: str) -> None:
    found = tree(page)
    links = [*found.values("href"), *found.values("src"), *found.values("data")]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"@import|url\(|https?:", page.replace("http-equiv", ""))
    assert [tag for tag, _ in found.elements if tag in ("iframe", "object", "embed", "img")] == []
    assert not any(name.startswith("on") or name == "style" for _, found in found.elements for name in found)


def test_the_policy_allows_the_page_s_own_script_and_style_only(page: str) -> None:
    policy = next(found["content"] for _, found in tree(page).elements if "http-equiv" in found) or ""
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for tag in ("style", "script"):
        content = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert len(content) == 1
        digest = base64.b64encode(hashlib.sha256(content[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_every_cell_of_every_table_is_there(results: Path, page: str) -> None:
    cells = [unescape(text) for text in re.findall(r"<t[dh][^>]*>([^<]*)", page)]
    for section in read_sections(results):
        for table in section.all_tables.values():
            for row in cell_texts(table):
                assert set(row) <= set(cells)


def test_names_from_outside_stay_texts(
    results: Path, tool_rows: list[ToolRow], provenance: Provenance, put_pictures: Put
) -> None:
    sections = read_sections(results)
    put_pictures(results, (NASTY,))
    index = results / "pictures" / "index.json"
    index.write_text(index.read_text().replace('"net"', json.dumps(NASTY)))
    stored = read_tools(results)
    rows = [row for row in stored.rows if row.ctc_class == "B" and row.loop_filters == "all"]
    renamed = tuple(replace(row, sequence=NASTY, network=row.network and NASTY) for row in rows)
    networks = tuple(replace(row, network=NASTY) for row in stored.networks if row.network == "post")
    header = {**stored.header, "command": NASTY}
    sections[0] = tool_section(replace(stored, rows=renamed, networks=networks, all_networks=networks, header=header))
    page = render_page(NASTY, sections, embed_pictures(read_index(results), PictureLimits()), provenance).decode()
    found = tree(page)
    assert [tag for tag, _ in found.elements if tag == "img"] == []
    assert not any("onerror" in attributes for _, attributes in found.elements)
    assert page.count("</script>") == 2
    assert "alert(1)" in page
    data = re.search(r'id="viewer-data">(.*?)</script>', page, re.DOTALL)
    assert data
    assert json.loads(data[1])["entries"][0]["sequence"] == NASTY


def test_warnings_are_marked_and_explained(results: Path, provenance: Provenance) -> None:
    sections = read_sections(results)
    page = render_page("t", sections, NO_PICTURES, provenance).decode()
    before = set(re.findall(r'class="warning" href="#(warning-[^"]*)"', page))
    path = results / "tool_by_tool.tsv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "\t27\t" not in line and "\t22\t" not in line))
    lowered = lines[:]  # at QP 22 the test loses what it gains elsewhere: the curves cross
    for place, line in enumerate(lowered):
        cells = line.split("\t")
        if len(cells) > 10 and cells[6] == "22" and cells[8] != "codec":
            cells[14] = str(float(cells[14]) - 1)
            lowered[place] = "\t".join(cells)
    path.write_text("".join(lowered))
    page = render_page("t", read_sections(results), NO_PICTURES, provenance).decode()
    marks = re.findall(r'class="warning" href="#(warning-[^"]*)" title="([^"]*)"', page)
    assert {target for target, _ in marks} > before  # those of the images' curves are there already
    assert all(f'id="{target}"' in page for target, _ in marks)
    assert any("the curves cross" in text for _, text in marks)


def test_the_page_says_its_size_its_pictures_and_where_it_comes_from(
    results: Path, provenance: Provenance, put_pictures: Put
) -> None:
    put_pictures(results, ("a", "b"), (22, 27, 32, 37))
    limits = PictureLimits(max_pictures=3, max_width=64)
    page = render_page("t", read_sections(results), embed_pictures(read_index(results), limits), provenance).decode()
    assert f"<dd>{len(page.encode()) / 1e6:.2f} MB</dd>" in page
    assert (
        "3 of 8 are here, to keep the page small. Left out: QP 22, net: b; QP 27, net: a, b; QP 32, net: a, b." in page
    )
    assert "Larger pictures are cut around their middle" in page
    for text in ("vvc_nnr 9.9 at c0ffeec0ff", "2026-01-02", "abacus", "vvc-nnr experiment"):
        assert text in page


def test_one_run_in_several_configurations_is_one_experiment(results: Path, provenance: Provenance) -> None:
    tools, *others = read_sections(results)
    several = [tools, replace(tools, name="tool-by-tool-ra", title="random access")]
    page = render_page("t", several, NO_PICTURES, provenance).decode()
    assert "1 experiment in 2 configurations" in page
    assert "3 experiments, " in render_page("t", [*several, *others], NO_PICTURES, provenance).decode()


def test_the_same_results_make_the_same_page(results: Path, provenance: Provenance) -> None:
    pages = {render_page("t", read_sections(results), NO_PICTURES, provenance) for _ in range(2)}
    assert len(pages) == 1
    assert len(pages.pop()) < 600_000


def test_points_of_infinite_psnr_are_named(
    results: Path, provenance: Provenance, image_rows: list[ImageRow], decided: Path
) -> None:
    """What is coded exactly has no point, no key and no headline; a chart without points is a sentence."""
    sections = {section.name: section for section in read_sections(results)}
    exact = [replace(row, psnr_db=math.inf) if "jpeg" in row.method else row for row in image_rows]
    images = image_section(replace(read_images(results), rows=tuple(exact)))
    stored = read_tools(decided)
    rows = tuple(replace(r, psnr_y_db=math.inf) if r.way != "full" or r.qp == 22 else r for r in stored.rows)
    filters = tool_section(replace(stored, rows=rows))
    page = render_page("t", [images, filters, sections["model-zoo"]], NO_PICTURES, provenance).decode()
    assert "not drawn: all of JPEG, file; all of JPEG, optimised; all of JPEG, payload.</p>" in page
    assert "</svg> JPEG, payload</li>" not in page
    assert "</svg> reconstructed CNN-AE, uniform8</li>" in page
    assert {(each.value, each.unit) for each in images.findings} == {("n/a", "")}
    assert filters.findings == ()
    assert "</svg> codec, all filters</li>" not in page
    assert "1 of 4 of net, file (NNC), decisions off" in page
    gains = unescape(page).partition("Overall: gain at the same rate</figcaption>")[2].partition("</figure>")[0]
    assert "<svg" not in gains
    assert "No chart: there is no finite value to draw. Points of infinite PSNR are not drawn: all of codec" in gains
    assert "1 of 4 of net, file (NNC), decisions off" in gains


def test_gains_are_read_between_finite_points() -> None:
    anchor = [(2.0**step, 30.0 + step) for step in range(4)]
    better = tuple((rate, psnr_db + 1) for rate, psnr_db in anchor)
    exact = (*better[:3], (better[3][0], math.inf))
    curves, gains = rd_pair("t", anchor, [Series("codec", tuple(anchor)), Series("net", exact)], QPS)
    assert curves.series[1].names == ("QP 37", "QP 32", "QP 27")
    assert [point[1] for point in gains.series[0].points] == pytest.approx([1] * 64)
    (note,) = curves.notes
    assert note == "Points of infinite PSNR are not drawn: 1 of 4 of net."
    assert gains.notes == (note, "Warning about the gain of net: test: 3 points, fewer than 4.")
