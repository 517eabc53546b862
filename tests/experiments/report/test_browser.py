"""The page in a real browser: quiet, without requests, by keyboard, on a phone, on paper and without JavaScript."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from devtools import Browser, browser, find_browser

from vvc_nnr.experiments.records.provenance import Provenance
from vvc_nnr.experiments.records.viewer_pictures import read_index
from vvc_nnr.experiments.report.embedding import EmbeddedPictures, PictureLimits, embed_pictures
from vvc_nnr.experiments.report.page import render_page
from vvc_nnr.experiments.report.sections import read_sections, tool_section
from vvc_nnr.experiments.tables.bd_rate_tables import MEAN
from vvc_nnr.experiments.tables.stored import read_tools
from vvc_nnr.experiments.tables.table import CellWarning, cell_texts

Put = Callable[..., list[dict[str, object]]]
PROGRAM = find_browser()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no chromium or google-chrome on the PATH")
READY = "document.querySelector('.viewer').dataset.ready !== undefined"
SHOWN = "document.querySelector('.stage').dataset.shown"
VIEW = "document.querySelector('.stage').dataset.view.split(' ').map(Number)"
# The colour of a pane near its middle, where its canvas shows the view's centre; read from a copy.
PIXEL = """(() => {{
  const canvas = document.querySelectorAll('.pane canvas')[{pane}];
  const at = [Math.floor(canvas.width * {x}), Math.floor(canvas.height * 0.51)];
  const copy = new OffscreenCanvas(1, 1).getContext('2d');
  copy.drawImage(canvas, ...at, 1, 1, 0, 0, 1, 1);
  return [...copy.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}})()"""


TIP = "(({hidden, textContent}) => hidden ? '' : textContent)(document.querySelector('.tip'))"
RD = (
    "[...document.querySelectorAll('#tool-by-tool .chart')].find((each) => each.textContent.includes('PSNR over rate'))"
)


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PROGRAM is not None
    with browser(PROGRAM, tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def rendered() -> list[bytes]:
    """The page once it has been made: the same rows make the same page."""
    return []


@pytest.fixture
def page(
    results: Path, decided: Path, provenance: Provenance, put_pictures: Put, tmp_path: Path, rendered: list[bytes]
) -> Path:
    if not rendered:
        put_pictures(results, ("Cactus", "BasketballPass"), (22, 37))
        pictures = embed_pictures(read_index(results), PictureLimits())
        sections = [tool_section(read_tools(decided)), *read_sections(results)[1:]]
        rendered.append(render_page("Results", sections, pictures, provenance))
    path = tmp_path / "report.html"
    path.write_bytes(rendered[0])
    return path


def opened(chrome: Browser, page: Path, **options: int | bool) -> None:
    chrome.open(page, **options)  # type: ignore[arg-type]
    chrome.wait(READY)
    chrome.run("document.querySelector('.stage').focus()")


def pixel(chrome: Browser, pane: int = 0, x: float = 0.51) -> list[int]:
    return list(chrome.run(PIXEL.format(pane=pane, x=x)))


def test_it_is_quiet_and_asks_for_nothing(chrome: Browser, page: Path) -> None:
    opened(chrome, page)
    assert chrome.complaints() == []
    assert chrome.requests() == [page.resolve().as_uri()]


def test_what_the_policy_forbids_does_not_happen(chrome: Browser, page: Path) -> None:
    opened(chrome, page)
    chrome.run("""(() => {
      const script = document.createElement('script');
      script.textContent = 'window.harm = 1';
      const image = new Image();
      image.src = 'https://example.org/x.png';
      document.body.append(script, image);
    })()""")
    assert chrome.run("window.harm === undefined")
    assert any("Content Security Policy" in text for text in chrome.complaints())


def test_the_viewer_flips_by_keyboard(chrome: Browser, page: Path, trio: dict[str, np.ndarray]) -> None:
    """The centre of a 96x64 picture is its pixel (48, 32); at 32 x one pixel of it covers many of the screen."""
    opened(chrome, page)
    assert chrome.run("document.querySelector('.status').textContent").startswith(
        "Filtered: Cactus, picture 0, QP 37, net."
    )
    for _ in range(10):
        chrome.press("+")
    assert chrome.run(VIEW) == [48, 32, 32]
    expected = {"original": trio["original"], "decoded": trio["decoded"] ^ 37, "filtered": trio["filtered"] ^ 37}
    for key, kind in (("1", "original"), ("2", "decoded"), ("3", "filtered")):
        chrome.press(key)
        assert chrome.run(SHOWN) == kind
        assert pixel(chrome) == expected[kind][32, 48].tolist()
    chrome.press("4")
    change = expected["filtered"][32, 48].astype(int) - expected["decoded"][32, 48]
    assert pixel(chrome) == np.clip(128 + 8 * change, 0, 255).tolist()
    for kind in ("filtered", "difference", "filtered"):
        chrome.press(" ")
        assert chrome.run(SHOWN) == kind
    assert "identical" in chrome.run("document.querySelector('.status').textContent")
    assert chrome.complaints() == []


def test_keys_move_and_zoom_and_change_the_picture(chrome: Browser, page: Path) -> None:
    opened(chrome, page)
    chrome.press("ArrowRight")
    assert chrome.run(VIEW) == [48, 32, 1]  # all of it is seen: there is nowhere to go
    chrome.press("+")
    chrome.press("+")
    chrome.press("ArrowRight")
    chrome.press("ArrowDown")
    assert chrome.run(VIEW) == [52.8, 35.2, 2]
    for _ in range(20):
        chrome.press("ArrowLeft")
    assert chrome.run(VIEW) == [24, 35.2, 2]
    chrome.press("0")
    assert chrome.run(VIEW) == [48, 32, 1]
    first = chrome.run("document.querySelector('.viewer').dataset.ready")
    chrome.press("]")
    chrome.wait(f"document.querySelector('.viewer').dataset.ready !== '{first}'")
    assert "BasketballPass" in chrome.run("document.querySelector('.status').textContent")


def test_panes_share_one_view(chrome: Browser, page: Path, trio: dict[str, np.ndarray]) -> None:
    opened(chrome, page)
    chrome.run("document.querySelector('[name=view][value=side]').click()")
    assert chrome.run(SHOWN) == "original,decoded,filtered,difference"
    for _ in range(10):
        chrome.press("+")
    chrome.press("ArrowRight")
    x, y, _ = chrome.run(VIEW)
    row, column = int(y), int(x)
    assert pixel(chrome) == trio["original"][row, column].tolist()
    assert pixel(chrome, 1) == (trio["decoded"][row, column] ^ 37).tolist()
    chrome.run("document.querySelector('.pane').scrollIntoView({behavior: 'instant', block: 'center'})")
    box = chrome.run("Object.values(document.querySelector('.pane canvas').getBoundingClientRect().toJSON())")
    place = (box[0] + 40, box[1] + 40)
    chrome.drag(place, (place[0] - 30, place[1]))
    assert chrome.run(VIEW)[0] == pytest.approx(x + 30 * 96 / box[2] / 32, abs=0.02)


def test_the_divider_shows_both_sides(chrome: Browser, page: Path, trio: dict[str, np.ndarray]) -> None:
    opened(chrome, page)
    chrome.run("document.querySelector('[name=view][value=slide]').click()")
    assert chrome.run(SHOWN) == "decoded filtered"
    left = pixel(chrome, x=0.25)
    chrome.press("ArrowLeft", shift=True)
    assert chrome.run("document.querySelector('[name=split]').value") == "45"
    assert pixel(chrome, x=0.25) == left
    for _ in range(6):
        chrome.press("ArrowLeft", shift=True)
    assert pixel(chrome, x=0.25) != left


def test_choosing_by_the_form(chrome: Browser, page: Path) -> None:
    opened(chrome, page)
    chrome.run("""(() => {
      const pick = document.querySelector('[name=qp]');
      pick.value = '22';
      pick.dispatchEvent(new Event('input', {bubbles: true}));
    })()""")
    chrome.wait("document.querySelector('.status').textContent.includes('QP 22')")
    assert "decoded 33.250 dB, filtered 33.500 dB (+0.250 dB)" in chrome.run(
        "document.querySelector('.status').textContent"
    )
    assert chrome.run("document.querySelector('[name=network]').closest('label').hidden")  # there is one only


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_the_window(chrome: Browser, page: Path, dark: bool) -> None:
    opened(chrome, page, width=360, height=740, dark=dark)
    chrome.run("for (const each of document.querySelectorAll('details')) each.open = true")
    for width in (360, 320, 768, 1280):
        chrome.resize(width, 740)
        for view in ("flip", "slide", "side"):
            chrome.run(f"document.querySelector('[name=view][value={view}]').click()")
            assert chrome.run("document.documentElement.scrollWidth") <= width
    brightness = chrome.run("Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])")
    assert (brightness < 64) == dark


def test_texts_have_contrast(chrome: Browser, page: Path) -> None:
    """WCAG 2: at least 4.5 for texts, 3 for what is drawn; of every colour of the page on both of its grounds."""
    script = """(() => {
      const probe = document.createElement('p');
      document.body.append(probe);
      const light = (name) => {
        probe.style.color = `var(--${name})`;
        const [r, g, b] = getComputedStyle(probe).color.match(/[\\d.]+/g).map((v) => v / 255)
          .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
      const found = {};
      for (const ground of ['paper', 'raised', 'sunk'])
        for (const name of ['ink', 'soft', 'accent', 'warning', 'c0', 'c1', 'c2', 'c3', 'c4', 'c5', 'c6'])
          found[`${name} ${ground}`] = ratio(name, ground);
      found['warning warning-paper'] = ratio('warning', 'warning-paper');
      return found;
    })()"""
    for dark in (False, True):
        opened(chrome, page, dark=dark)
        for names, ratio in chrome.run(script).items():
            assert ratio >= (3 if names.startswith("c") else 4.5), (names, dark, ratio)


def test_tables_sort_by_their_heads(chrome: Browser, page: Path) -> None:
    opened(chrome, page)
    table = "document.querySelector('#table-tool-by-tool-bd_rate table')"
    column = f"[...{table}.tHead.rows[0].cells].findIndex((cell) => cell.textContent.startsWith('Y'))"
    values = f"[...{table}.tBodies[0].rows].map((row) => Number(row.cells[{column}].dataset.value))"
    before = chrome.run(values)
    button = f"{table}.tHead.rows[0].cells[{column}]"
    for expected in (sorted(before), sorted(before, reverse=True), before):
        chrome.run(f"{button}.querySelector('button').click()")
        assert chrome.run(values) == expected
    assert chrome.run(f"{button}.getAttribute('aria-sort')") is None


def middle_of_point(chrome: Browser, number: int) -> tuple[float, float]:
    """A point of the codec in the first chart of rate and quality, in the window."""
    chrome.run(f"{RD}.scrollIntoView({{behavior: 'instant', block: 'center'}})")
    chrome.settle()
    box = chrome.run(f"""(() => {{
      const series = {RD}.querySelector('[data-series="codec, all filters"]');
      const box = series.querySelectorAll('path[transform]')[{number}].getBoundingClientRect();
      return [box.left + box.width / 2, box.top + box.height / 2];
    }})()""")
    return box[0], box[1]


def test_points_say_their_values_by_mouse(chrome: Browser, page: Path, decided: Path) -> None:
    """What a point says is what the charts' rows have: kbit per picture and PSNR at its QP."""
    opened(chrome, page)
    assert chrome.run(TIP) == ""
    rows = [row for row in read_tools(decided).rows if row.way == "codec"]
    for number, qp in enumerate((37, 32, 27, 22)):
        x, y = middle_of_point(chrome, number)
        chrome.move(x + 3, y + 1)
        at_qp = [row for row in rows if row.qp == qp]
        kbit = sum(row.n_bits for row in at_qp) / len(at_qp) / 1000
        psnr_db = sum(row.psnr_y_db for row in at_qp) / len(at_qp)
        text = f"QP {qp}, codec, all filters: rate {kbit:.1f} kbit per picture, PSNR of luma {psnr_db:.3f} dB"
        assert chrome.run(TIP) == text
        box = chrome.run("Object.values(document.querySelector('.tip').getBoundingClientRect().toJSON())")
        assert box[0] >= 0
        assert box[0] + box[2] <= 1280
        assert abs(box[1] + box[3] - y) < 30  # beside its point
    chrome.move(x - 60, y + 60)
    assert chrome.run(TIP) == ""
    assert chrome.complaints() == []


@pytest.mark.parametrize("width", [1280, 360])
def test_points_say_their_values_by_keyboard(chrome: Browser, page: Path, width: int) -> None:
    opened(chrome, page, width=width)
    middle_of_point(chrome, 0)
    chrome.run(f"{RD}.querySelector('svg').focus({{preventScroll: true}})")
    starts = []
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
        chrome.press(key)
        starts.append(chrome.run(TIP).partition(":")[0])
        box = chrome.run("Object.values(document.querySelector('.tip').getBoundingClientRect().toJSON())")
        assert box[0] >= 0
        assert box[0] + box[2] <= width
    codec, net = "codec, all filters", "net, file (NNC), decisions off"
    assert starts == [f"QP 37, {codec}", f"QP 32, {codec}", f"QP 32, {net}", f"QP 37, {net}", f"QP 37, {codec}"]
    chrome.press("Escape")
    assert chrome.run(TIP) == ""
    assert chrome.complaints() == []


def test_bars_say_the_numbers_of_their_tables(chrome: Browser, page: Path, decided: Path) -> None:
    opened(chrome, page)
    (table, *_) = tool_section(read_tools(decided)).jvet_tables.values()
    column = [column.head for column in table.columns].index("Y")
    texts = [(row[:2], cells[column]) for row, cells in zip(table.rows, cell_texts(table), strict=True)]
    expected = [f"{name}, Y: {text} %" for (name, mean), text in texts if mean == MEAN]
    assert expected
    chart = (
        "[...document.querySelectorAll('#tool-by-tool .chart')].find((each) => each.textContent.includes('Class B'))"
    )
    for place, text in enumerate(expected):
        chrome.run(f"{chart}.scrollIntoView({{behavior: 'instant', block: 'center'}})")
        chrome.settle()
        x, y = chrome.run(f"""(() => {{
          const box = {chart}.querySelectorAll('[data-series=Y] path')[{place}].getBoundingClientRect();
          return [box.left + box.width / 2, box.top + box.height / 2];
        }})()""")
        chrome.move(x, y)
        assert chrome.run(TIP) == text


def test_keys_of_legends_switch_series_off_and_on(chrome: Browser, page: Path) -> None:
    opened(chrome, page)
    group = f"{RD}.closest('.charts')"
    drawn = f"[...{group}.querySelectorAll('.chart g[data-series]')]"
    seen = f"new Set({drawn}.filter((each) => getComputedStyle(each).display !== 'none').map((e) => e.dataset.series))"
    before = chrome.run(f"[...{seen}]")
    assert len(before) == 4
    button = f"{group}.querySelector('.legend button')"
    assert chrome.run(f"{button}.textContent.trim()") == before[0]
    chrome.run(f"{button}.click()")
    assert chrome.run(f"[...{seen}]") == before[1:]
    assert chrome.run(f"{button}.getAttribute('aria-pressed')") == "false"
    chrome.run(f"{RD}.querySelector('svg').focus()")  # which scrolls there, meanwhile
    chrome.press("ArrowRight")
    assert before[1] in chrome.run(TIP)  # a series that is off says nothing
    chrome.run(f"{button}.click()")
    assert sorted(chrome.run(f"[...{seen}]")) == sorted(before)
    chrome.run(f"{button}.focus()")
    dim = f"new Set({drawn}.filter((each) => each.classList.contains('dim')).map((each) => each.dataset.series))"
    assert sorted(chrome.run(f"[...{dim}]")) == sorted(before[1:])
    chrome.run(f"{button}.blur()")
    assert chrome.run(f"{dim}.size") == 0


def test_charts_have_the_fonts_and_colours_of_the_page(chrome: Browser, page: Path) -> None:
    """In both themes: what is drawn is seen on its ground, and letters are the page's."""
    colour = f"getComputedStyle({RD}.querySelector('g[data-series] path')).stroke"
    ground = f"getComputedStyle({RD}).backgroundColor"
    text = f"(({{fontFamily, fill}}) => [fontFamily, fill])(getComputedStyle({RD}.querySelector('text')))"
    found = []
    for dark in (False, True):
        opened(chrome, page, dark=dark)
        font, fill = chrome.run(text)
        assert font == chrome.run("getComputedStyle(document.body).fontFamily")
        found.append((chrome.run(colour), fill, chrome.run(ground)))
    assert found[0] == ("rgb(74, 79, 88)", "rgb(86, 91, 101)", "rgb(255, 255, 255)")
    assert found[1] == ("rgb(180, 185, 194)", "rgb(166, 171, 181)", "rgb(27, 30, 36)")


def test_controls_have_names(chrome: Browser, page: Path) -> None:
    opened(chrome, page)
    nodes = chrome.call("Accessibility.getFullAXTree")["nodes"]
    named = {"button", "radio", "combobox", "slider", "image", "img", "link", "table", "region", "group"}
    unnamed = [
        node["role"]["value"]
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in named - {"group"} and not node["name"]["value"]
    ]
    assert unnamed == []


def test_without_scripts_everything_but_the_viewer_is_there(chrome: Browser, page: Path) -> None:
    chrome.open(page, script=False)
    document = chrome.call("DOM.getDocument", depth=-1)["root"]["nodeId"]
    for selector, least in (("table", 8), (".chart svg", 8), (".findings li", 4), ("noscript p", 1), ("dl", 5)):
        found = chrome.call("DOM.querySelectorAll", nodeId=document, selector=selector)["nodeIds"]
        assert len(found) >= least, selector
    hidden = chrome.call("DOM.querySelectorAll", nodeId=document, selector=".viewer[hidden]")["nodeIds"]
    assert len(hidden) == 1
    chrome.call("Emulation.setScriptExecutionDisabled", value=False)


def test_it_prints(chrome: Browser, page: Path) -> None:
    opened(chrome, page)
    data = chrome.pdf()
    assert data.startswith(b"%PDF")
    assert data.count(b"/Type /Page\n") >= 3 or data.count(b"/Type /Page ") >= 3
    assert chrome.run("document.querySelectorAll('details[open]').length") == 0


@pytest.mark.parametrize("width", [1300, 380])
def test_marks_of_warnings_hide_no_digit(
    chrome: Browser, results: Path, provenance: Provenance, tmp_path: Path, width: int
) -> None:
    """A number ends before its mark begins, and numbers of a column end at one place, with and without marks."""
    path, table = tmp_path / "warnings.html", read_sections(results)[0].jvet_tables["jvet_1"]
    warnings = tuple(CellWarning(row, column, f"warning {row}") for row in (0, 2) for column in (2, 3))
    section = replace(read_sections(results)[0], tables={"t": replace(table, warnings=warnings)})
    path.write_bytes(render_page("t", [section], EmbeddedPictures(), provenance))
    chrome.open(path, width=width)
    for media in ("screen", "print"):
        chrome.call("Emulation.setEmulatedMedia", media=media)
        edges = chrome.run("""[...document.querySelector('#table-tool-by-tool-t tbody').rows].map((row) => {
          const range = document.createRange();
          range.selectNodeContents(row.cells[2].firstChild);
          const mark = row.cells[2].querySelector('a');
          return [range.getBoundingClientRect().right, mark ? mark.getBoundingClientRect().left : Infinity];
        }).map(([end, mark]) => [end, Number.isFinite(mark) ? mark - end : -1])""")
        assert [gap >= 0 for _, gap in edges] == [True, False, True, False, False]
        assert max(end for end, _ in edges) - min(end for end, _ in edges) < 0.1
    chrome.call("Emulation.setEmulatedMedia", media="")
