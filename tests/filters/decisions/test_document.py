"""docs/decisions.md is enough to read the bytes: a decoder from it alone, in exact fractions; fixed bytes."""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from vvc_nnr.filters.decisions.block_decisions import MAX_STRENGTH, SCALES, Decisions, block_grid
from vvc_nnr.filters.decisions.coding import encode_decisions
from vvc_nnr.filters.decisions.joint_coding import JointEncoder
from vvc_nnr.filters.decisions.sequence_file import MadeWith, encode_sequence, joint_sequence
from vvc_nnr.filters.decisions.wiener import WienerFilter
from vvc_nnr.filters.inference.choice import Precision
from vvc_nnr.filters.networks.told_qp import parse_rule
from vvc_nnr.sequences.frame import VideoFormat

DOCUMENT = (Path(__file__).parents[3] / "docs" / "decisions.md").read_text()
JOINT_GOLDEN = "c5d2ffc496aa7aca54bc6d930247bc6b18"
JOINT_HEAD = (
    "0" "000000" "10",  # no QP; int8
    "011" "00" "100" "01" "01010",  # two candidates: slice + 0, first - 3
    "0000000011000111" "0000000010110011" "01" "10110" "1",  # 200x180, 4:2:0, six pictures
)  # fmt: skip
"""What stands behind the network's hash."""
GOLDEN = "65604fca56ca14ad93e48c16b6e72345ec32f8f810f6000000000160a60f14ae42f880"
BELOW, ABOVE = [3 / 4, 1 / 2, 0], [5 / 4, 3 / 2]


class Bins:
    """The coder of the document."""

    def __init__(self, data: bytes) -> None:
        self.value = Fraction(int.from_bytes(data, "big"), 256 ** len(data))
        self.low, self.range, self.unit = Fraction(0), 2**32, Fraction(1, 2**32)

    def code(self, context: list[int]) -> int:
        lower = self.range // 65536 * context[0]
        bin = int(self.value < self.low + lower * self.unit)
        if bin:
            self.range = lower
        else:
            self.low += lower * self.unit
            self.range -= lower
        while self.range < 2**32:
            self.range, self.unit = 2 * self.range, self.unit / 2
        context[1] = min(context[1] + 1, 64)
        context[0] = min(max(context[0] + (65536 * bin - context[0]) // context[1], 128), 65408)
        return bin


def starting(*sixty_fourths: int, count: int = 8) -> list[list[int]]:
    return [[p * 65536 // 64, count] for p in sixty_fourths]


def read_picture(
    data: bytes, width: int, height: int, n_components: int
) -> tuple[int, list[int], list[list[list[float]]], list[tuple | None]]:
    bins = Bins(data)
    block_size = 64 if bins.code([32768, 1]) else 128
    n_rows, n_columns = -(-height // block_size), -(-width // block_size)
    off, plain = [32768, 1], [32768, 1]
    maps_of = [
        {"differs": starting(*differs), "above": starting(2, 8, 30, 55, 62), "far": {}}
        for differs in ((13, 26, 39), (6, 17, 37))
    ]
    strengths, maps = [], []
    for c in range(n_components):
        strengths.append(0)
        maps.append([[1.0] * n_columns for _ in range(n_rows)])
        if bins.code(off):
            continue
        for _ in range(5):
            strengths[c] = 2 * strengths[c] + bins.code([32768, 1])
        strengths[c] += 1
        if not bins.code(plain):
            read_map(bins, maps_of[min(c, 1)], maps[c])
    starts = [table_of_starts("Y"), table_of_starts("Cb and Cr")]
    contexts = [
        {
            "plain": {},
            **{
                g: {"zero": starting(z), "negative": starting(n), "longer": starting(*longer)}
                for g, (z, n, longer) in s.items()
            },
        }
        for s in starts
    ]
    wieners = [read_wiener(bins, contexts[min(c, 1)], is_luma=c == 0) for c in range(n_components)]
    return block_size, strengths, maps, wieners


def table_of_starts(component: str) -> dict[tuple[str, int], tuple[int, int, list[int]]]:
    """The table of the document: the kind and squared distance of terms, and what their contexts start from."""
    rows = re.findall(rf"^\| {component} \| (.*?) \| (\d) \| (\d+) \| (\d+) \| ([\d, ]+) \|$", DOCUMENT, re.MULTILINE)
    return {(kind, int(d)): (int(z), int(n), [int(p) for p in longer.split(",")]) for kind, d, z, n, longer in rows}


def diamond(radius: int) -> list[tuple[int, int]]:
    places = itertools.product(range(-radius, radius + 1), repeat=2)
    return [(y, x) for y, x in places if abs(y) + abs(x) <= radius and (y < 0 or (y == 0 and x < 0))]


def read_wiener(bins: Bins, contexts: dict, is_luma: bool) -> tuple | None:
    def plain(name: str) -> int:
        return bins.code(contexts["plain"].setdefault(name, [32768, 1]))

    def even(n_bits: int) -> int:
        return sum(bins.code([32768, 1]) << i for i in reversed(range(n_bits)))

    if plain("has none"):
        return None
    shift = 7
    while shift > 5 and plain(f"below {shift}"):
        shift -= 1
    clip_log2 = even(4) if is_luma else 0
    sets = [0]
    for _ in range(7 if is_luma else 0):
        sets.append(sets[-1] + plain("new set"))
    groups = [("pair", y * y + x * x) for y, x in diamond(3 if is_luma else 2)]
    if is_luma:
        groups += [(kind, y * y + x * x) for kind in ("clipped pair", "decoded pair") for y, x in diamond(2)]
    groups.append(("decoded", 0))
    rows = []
    for _ in range(sets[-1] + 1):
        if is_luma and plain("is off"):
            rows.append([0] * len(groups))
            continue
        rows.append([])
        for group in groups:
            found = contexts[group]
            if bins.code(found["zero"][0]):
                rows[-1].append(0)
                continue
            sign = -1 if bins.code(found["negative"][0]) else 1
            n_bits = 0
            while n_bits < 6 and bins.code(found["longer"][n_bits]):
                n_bits += 1
            rows[-1].append(sign * (2**n_bits + even(n_bits)))
    return shift, clip_log2, tuple(sets), rows


def read_map(bins: Bins, contexts: dict, rows: list[list[float]]) -> None:
    for y, row in enumerate(rows):
        for x in range(len(row)):
            neighbours = [row[x - 1] if x else 1.0, rows[y - 1][x] if y else 1.0]
            if not bins.code(contexts["differs"][sum(n != 1 for n in neighbours)]):
                continue
            is_above = bins.code(contexts["above"][2 + sum(int(n > 1) - int(n < 1) for n in neighbours)])
            scales = ABOVE if is_above else BELOW
            distance = 0
            while distance + 1 < len(scales) and bins.code(
                contexts["far"].setdefault((is_above, distance), [32768, 1])
            ):
                distance += 1
            row[x] = scales[distance]


@pytest.mark.parametrize("seed", range(40))
def test_a_decoder_written_from_the_document(random_wiener: Callable[..., WienerFilter], seed: int) -> None:
    rng = np.random.default_rng(seed)
    width, height = (int(side) for side in rng.integers(1, 900, 2))
    block_size, n_components = int(rng.choice([64, 128])), int(rng.choice([1, 3]))
    grid = block_grid(width, height, block_size)
    strengths = tuple(
        int(s) for s in rng.integers(0, MAX_STRENGTH + 1, n_components) * (rng.random(n_components) < 0.8)
    )
    differs = rng.random((n_components, *grid)) < rng.choice([0, 0.2, 0.7])
    unit = SCALES.index(1.0)
    maps = [np.where(d, rng.integers(0, len(SCALES), grid), unit).astype(np.uint8) for d in differs]
    wieners = tuple(random_wiener(c, seed + c) if rng.random() < 0.6 else None for c in range(n_components))
    data = encode_decisions(Decisions(block_size, strengths, tuple(maps), wieners))
    expected = [
        [[SCALES[k] for k in row] for row in (m if s else np.full(grid, unit))]
        for m, s in zip(maps, strengths, strict=True)
    ]
    filters = [(w.shift, w.clip_log2, w.set_of_class, w.coefficients.tolist()) if w else None for w in wieners]
    assert read_picture(data, width, height, n_components) == (block_size, list(strengths), expected, filters)


def read_joint(data: bytes, width: int, height: int, n_components: int, n_pictures: int, n_candidates: int) -> list:
    """Candidate, components (strength, map or None) and Wiener filters of each picture."""
    bins = Bins(data)
    one = dict(zip(("as before", "64", "as last", "other", "has wiener"), starting(56, 32, 32, 8, 8), strict=True))
    kinds = [
        {"known": starting(32)[0], "earlier": starting(32, 32, 32), "off": starting(8)[0], "plain": starting(32)[0],
         "map": {"differs": starting(*differs), "above": starting(2, 8, 30, 55, 62), "far": {}}}
        for differs in ((13, 26, 39), (6, 17, 37))
    ]  # fmt: skip
    farther = [[32768, 1] for _ in range(n_candidates)]
    wiener_contexts = [
        {"plain": {}, **{g: {"zero": starting(z), "negative": starting(n), "longer": starting(*longer)}
                         for g, (z, n, longer) in table_of_starts(name).items()}}
        for name in ("Y", "Cb and Cr")
    ]  # fmt: skip
    history = [[(16, None), (0, None)] for _ in range(n_components)]
    last_wieners: list = [None] * n_components
    candidate, found = 0, []

    def component(c: int, size: int) -> tuple:
        contexts, grid = kinds[min(c, 1)], (-(-height // size), -(-width // size))
        known = [each for each in history[c] if each[1] is None or (len(each[1]), len(each[1][0])) == grid]
        if known and bins.code(contexts["known"]):
            place = 0
            while place < len(known) - 1 and bins.code(contexts["earlier"][place]):
                place += 1
            return known[place]
        if bins.code(contexts["off"]):
            return 0, None
        strength = 1 + sum(bins.code([32768, 1]) << i for i in reversed(range(5)))
        if bins.code(contexts["plain"]):
            return strength, None
        rows = [[1.0] * grid[1] for _ in range(grid[0])]
        read_map(bins, contexts["map"], rows)
        return strength, rows

    for _ in range(n_pictures):
        if bins.code(one["as before"]):
            components = [each[0] for each in history]
        else:
            size = 64 if bins.code(one["64"]) else 128
            components = [component(c, size) for c in range(n_components)]
        history = [[new, *(e for e in old if e != new)][:4] for new, old in zip(components, history, strict=True)]
        told = 0
        if any(strength for strength, _ in components):
            if n_candidates > 1 and bins.code(one["other"]):
                others = [each for each in range(n_candidates) if each != candidate]
                place = 0
                while place < len(others) - 1 and bins.code(farther[place]):
                    place += 1
                candidate = others[place]
            told = candidate
        wieners: list = [None] * n_components
        if bins.code(one["has wiener"]):
            for c in range(n_components):
                if last_wieners[c] is not None and bins.code(one["as last"]):
                    wieners[c] = last_wieners[c]
                else:
                    wieners[c] = read_wiener(bins, wiener_contexts[min(c, 1)], is_luma=c == 0)
                last_wieners[c] = wieners[c] or last_wieners[c]
        found.append((told, components, wieners))
    return found


@pytest.mark.parametrize("seed", range(12))
def test_a_decoder_of_pictures_together_written_from_the_document(
    random_wiener: Callable[..., WienerFilter], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    n_components, n_candidates = int(rng.choice([1, 3])), int(rng.integers(1, 5))
    format = VideoFormat(int(rng.integers(1, 400)), int(rng.integers(1, 300)), 10, "420" if n_components > 1 else "400")
    encoder, unit, expected = JointEncoder(format, n_candidates), SCALES.index(1.0), []
    seen: list[tuple[int, tuple[int, np.ndarray], WienerFilter | None]] = []
    for _ in range(9):
        size = int(rng.choice([64, 128]))
        grid = block_grid(format.width, format.height, size)
        components, wieners = [], []
        for c in range(n_components):
            strength = int(rng.integers(0, MAX_STRENGTH + 1) * (rng.random() < 0.8))
            choices = rng.integers(0, len(SCALES), grid).astype(np.uint8)
            if not strength or rng.random() < 0.4:
                choices[:] = unit
            wiener = random_wiener(c, int(rng.integers(50))) if rng.random() < 0.3 else None
            alike = [each for each in seen if each[0] == c and each[1][1].shape == grid]
            if alike and rng.random() < 0.7:
                _, (strength, choices), wiener = alike[int(rng.integers(len(alike)))]
            seen.append((c, (strength, choices), wiener))
            components.append((strength, choices))
            wieners.append(wiener)
        told = int(rng.integers(n_candidates)) if any(strength for strength, _ in components) else 0
        strengths, maps = zip(*components, strict=True)
        encoder.code(Decisions(size, strengths, maps, tuple(wieners), told))
        plain = [bool((m == unit).all()) or not s for s, m in components]
        of_picture = [
            (s, None if p else [[SCALES[k] for k in row] for row in m])
            for (s, m), p in zip(components, plain, strict=True)
        ]
        filters = [(w.shift, w.clip_log2, w.set_of_class, w.coefficients.tolist()) if w else None for w in wieners]
        expected.append((told, of_picture, filters))
    found = read_joint(encoder.finish(), format.width, format.height, n_components, 9, n_candidates)
    assert found == expected


def ue_code(bits: str, order: int) -> tuple[int, str]:
    """An Exp-Golomb code as H.274 has it, and the bits behind it."""
    n_zeros = bits.index("1")
    end = 2 * n_zeros + 1 + order
    return int(bits[:end], 2) - (1 << order), bits[end:]


def read_file(data: bytes) -> tuple[dict[str, int], list[bytes]]:
    """Head and pictures of a file, field by field as the document's table has them."""
    section = DOCUMENT.split("## File of a sequence")[1]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"^\|.*\|$", section, re.MULTILINE)]
    head: dict[str, int] = {}
    sizes: list[int] = []
    bits = "".join(f"{byte:08b}" for byte in data)
    for field, widths, _ in rows[2:]:
        names = field.split(", ") if "," in widths else [field]
        if field.endswith("(3)") and head["version"] < 3:
            continue
        if re.fullmatch(r"[\d, ]+", widths) and field != "checksum":
            for name, width in zip(names, map(int, widths.split(", ")), strict=True):
                head[name.removesuffix(" (3)")], bits = int(bits[:width], 2), bits[width:]
        elif order := re.fullmatch(r"ue\((\d)\)( each)?", widths):
            numbers = []
            for _ in range(head["number of pictures"] if order[2] else 1):
                number, bits = ue_code(bits, int(order[1]))
                numbers.append(number)
            if order[2]:
                sizes = numbers
            else:
                (head[field],) = numbers
        elif field.startswith("a one and zeros"):
            n_padding = len(bits) % 8 or 8
            assert bits[:n_padding] == "1" + "0" * (n_padding - 1)
            bits = bits[n_padding:]
    body = data[len(data) - len(bits) // 8 : -4]
    assert sum(sizes) == len(body)
    assert int.from_bytes(data[-4:], "big") == zlib.crc32(data[:-4])
    ends = list(itertools.accumulate(sizes))
    return head, [body[end - size : end] for size, end in zip(sizes, ends, strict=True)]


@pytest.mark.parametrize("qp", [None, 0, 37, 63])
@pytest.mark.parametrize("precision", get_args(Precision))
@pytest.mark.parametrize("n_pictures", [0, 1, 40])
def test_a_file_read_by_the_table_of_the_document(qp: int | None, precision: Precision, n_pictures: int) -> None:
    maps = (np.full((3, 4), 2, np.uint8),) * 3
    pictures = [Decisions(64, (i % (MAX_STRENGTH + 1), 0, 7), maps) for i in range(n_pictures)]
    format, sha256 = VideoFormat(200, 180, 10, "420"), bytes(range(200, 232))
    head, payloads = read_file(encode_sequence(pictures, format, MadeWith(sha256, qp, precision)))
    stated = {name: re.search(rf"(\d): {name}\b", DOCUMENT) for name in (precision, "4:2:0")}
    older = {
        "width - 1": 199, "height - 1": 179, "chroma format": int(stated["4:2:0"][1]), "number of pictures": n_pictures
    }  # fmt: skip
    made_with = {"network": int.from_bytes(sha256[:8], "big"), "has QP": int(qp is not None), "QP": qp or 0}
    assert head == {"version": 3, **made_with, "precision": int(stated[precision][1]), **older}
    assert payloads == [encode_decisions(picture) for picture in pictures]
    assert read_file(encode_sequence(pictures, format)) == ({"version": 2, **older}, payloads)


def test_fixed_bytes() -> None:
    """Files of before must stay readable: a change here needs a new version."""
    maps = np.array([[3, 3, 4, 4], [3, 0, 1, 4], [2, 3, 5, 5]], np.uint8)
    luma = np.array([[-3, 0, 1, 9, -20, 127, 0] + [0] * 17 + [-127], [0] * 25], np.int16)
    wieners = (
        WienerFilter(6, 4, (0, 0, 0, 1, 1, 1, 1, 1), luma),
        None,
        WienerFilter(5, 0, (0,), np.array([[2, -1, 0, 6, -4, 3, -12]], np.int16)),
    )
    picture = Decisions(64, (14, 0, 20), (maps, maps, 5 - maps), wieners)
    assert encode_decisions(picture).hex() == GOLDEN
    data = encode_sequence([picture], VideoFormat(200, 180, 10))
    head = "0200c700b3"
    assert data.hex().startswith(head)
    assert data[:-4].hex().endswith(GOLDEN)
    assert int.from_bytes(data[-4:], "big") == zlib.crc32(data[:-4])


def test_fixed_bytes_of_pictures_together() -> None:
    maps = np.array([[3, 3, 4, 4], [3, 0, 1, 4], [2, 3, 5, 5]], np.uint8)
    format = VideoFormat(200, 180, 10)
    first = Decisions(64, (14, 0, 20), (maps, maps, 5 - maps))
    full = Decisions(64, (16, 16, 16), (np.full_like(maps, 3),) * 3)
    encoder = JointEncoder(format, 3)
    for picture in (full, full, first, replace(first, qp_candidate=2), full, first):
        encoder.code(picture)
    assert encoder.finish().hex() == JOINT_GOLDEN
    rules = [parse_rule("slice"), parse_rule("first-3")]
    data = joint_sequence(encoder.finish(), 6, format, MadeWith(bytes(range(32)), None, "int8"), rules)
    head = "04" + "0001020304050607" + f"{int(''.join(JOINT_HEAD), 2):016x}"
    assert data[:-4].hex() == head + JOINT_GOLDEN


def test_the_document_names_every_number() -> None:
    for text in (
        "13, 26, 39",
        "6, 17, 37",
        "2, 8, 30, 55, 62",
        "128 to 65408",
        "0 (off), 1/2, 3/4, 1, 5/4, 3/2",
        "32/16",
    ):
        assert text in DOCUMENT
    assert SCALES == (0, 1 / 2, 3 / 4, 1, 5 / 4, 3 / 2)
    assert MAX_STRENGTH == 32
