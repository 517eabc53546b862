"""The tables and bytes in docs/FORMAT.md are those of the codec, so that the document cannot drift."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest
from reference_arithmetic import ADAPTATION, ESTIMATOR_SETS, RANGE_LPS
from reference_contexts import (
    GREATER,
    N_REMAINDER,
    SIGN,
    SIGN_TEMPORAL,
    SIGNIFICANCE,
    SIGNIFICANCE_HISTORY,
    SIGNIFICANCE_TEMPORAL,
    TensorParams,
    contexts_with_set,
    greater_context,
    n_contexts,
    remainder_context,
    row_skip_context,
    set_flag_context,
)
from reference_values import NEXT_STATE, level_of

import vvc_nnr
from vvc_nnr.bitstream.data_unit import DEFAULT_UNARY_LENGTH_MINUS1, DataUnit, ParameterTypes, PayloadType
from vvc_nnr.bitstream.graph import PackedGraph
from vvc_nnr.bitstream.manifest import Manifest, RawPart, TieEntry, write_manifest
from vvc_nnr.bitstream.number_formats import NUMBER_FORMATS
from vvc_nnr.bitstream.parameter_sets import ModelParameterSet
from vvc_nnr.bitstream.qp import step_size
from vvc_nnr.bitstream.units import StartUnit, TopologyUnit, UnitType, write_units

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "FORMAT.md").read_text()


def section(title: str) -> str:
    """What stands under a heading, up to the next one of any depth."""
    return re.split(r"^#+ ", TEXT.split(f" {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def blocks(title: str) -> list[str]:
    return re.findall(r"^```\n(.*?)^```$", section(title), re.MULTILINE | re.DOTALL)


def rows(title: str, first_cell: str) -> list[list[str]]:
    """The cells of the table whose first column is called so, without its head."""
    table = re.search(rf"^\| {first_cell} \|.*\n\|[ |-]+\n((?:\|.*\n)+)", section(title), re.MULTILINE)
    assert table
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[1].splitlines()]


def numbers(text: str) -> list[tuple[int, ...]]:
    return [tuple(map(int, line.split(","))) for line in text.split()]


def in_bytes(text: str) -> bytes:
    return bytes.fromhex(re.sub(r"[`\s]", "", text))


def test_arithmetic_coder() -> None:
    assert tuple(numbers(blocks("RLPS")[0])) == RANGE_LPS
    assert numbers(blocks("Estimators")[1]) == [ADAPTATION]
    sets = [tuple(map(int, row)) for row in rows("Estimators", "set")]
    assert sets == [(place, *values) for place, values in enumerate(ESTIMATOR_SETS)]


def test_dependent_quantisation() -> None:
    states = [tuple(map(int, row)) for row in rows("Dependent quantisation", "s")]
    assert states == [(s, *after) for s, after in enumerate(NEXT_STATE)]
    assert "`2k - sign(k) * (s & 1)`" in section("Dependent quantisation")
    for k in range(-4, 5):
        assert all(level_of(k, s) == 2 * k - ((k > 0) - (k < 0)) * (s & 1) for s in range(8))


def with_unary_length(expression: str, unary_length: int) -> int:
    """The value of a sum of products in the document."""
    tree = ast.parse(expression.strip("`").replace("U", str(unary_length)), mode="eval")
    allowed = (ast.Expression, ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Constant)
    assert all(isinstance(node, allowed) for node in ast.walk(tree))
    return int(eval(compile(tree, "FORMAT.md", "eval")))


@pytest.mark.parametrize("unary_length", [1, 10, 11, 256])
def test_numbers_of_contexts(unary_length: int) -> None:
    got = [
        (with_unary_length(first, unary_length), with_unary_length(last, unary_length))
        for first, last, _ in rows("Context numbers", "first")
    ]
    params = TensorParams(4, 4, True, unary_length)
    remainder, flag, row_skip = remainder_context(params, 0), set_flag_context(params), row_skip_context(params)
    temporal = greater_context(unary_length, 0, False, 1)
    assert got == [
        (SIGNIFICANCE, SIGNIFICANCE_TEMPORAL - 1),
        (SIGNIFICANCE_TEMPORAL, SIGNIFICANCE_HISTORY - 1),
        (SIGNIFICANCE_HISTORY, SIGN - 1),
        (SIGN, SIGN_TEMPORAL - 1),
        (SIGN_TEMPORAL, GREATER - 1),
        (GREATER, temporal - 1),
        (temporal, remainder - 1),
        (remainder, remainder + N_REMAINDER - 1),
        (flag, flag),
        (row_skip, row_skip),
    ]
    assert row_skip == n_contexts(params) - 1


@pytest.mark.parametrize(("is_temporal", "history", "dq"), [(t, h, d) for t in (0, 1) for h in (0, 1) for d in (0, 1)])
def test_order_of_the_estimator_sets(is_temporal: int, history: int, dq: int) -> None:
    base = np.zeros(4, np.int32) if is_temporal else None
    params = TensorParams(2, 2, bool(dq), 11, temporal=base)
    expected: list[int] = []
    for contexts, condition in rows("5 Payload", "contexts"):
        if (condition == "temporal contexts" and not is_temporal) or (condition == "the history flag" and not history):
            continue
        with_dq, _, without_dq = contexts.partition(", without DQ ")
        ends = re.split(r" to | and ", with_dq if dq or not without_dq else without_dq)
        places = [with_unary_length(re.sub(r"(\d)U", r"\1 * U", end), 11) for end in ends]
        expected += range(places[0], places[-1] + 1)
    assert expected == list(contexts_with_set(params, bool(history)))


def test_codes_of_units() -> None:
    assert [(int(code), name) for code, name, *_ in rows("2 Units", "type")] == [(t.value, t.name) for t in UnitType]
    payloads = [(int(code), name) for code, name, _ in rows("4 Data unit", "code")]
    assert payloads == [(kind.value, kind.name) for kind in PayloadType]
    parts = [(int(bit), name) for bit, name, _ in rows("4 Data unit", "bit")]
    assert parts == [(kind.value, kind.name) for kind in ParameterTypes]
    assert f"else it counts as {DEFAULT_UNARY_LENGTH_MINUS1}" in section("4 Data unit")


def test_bytes_of_small_units() -> None:
    shown = [in_bytes(text) for text in re.findall(r"`(00 0[0-9a-f](?: [0-9a-f]{2})+)`", section("3 Small units"))]
    plain, parents = ModelParameterSet(), ModelParameterSet(mps_parent_signalling_enabled_flag=True)
    start, topology = StartUnit(), TopologyUnit()
    pieces = [bytes(piece) for units in ([start, plain, topology], [start, parents]) for piece in write_units(units)]
    assert shown == [pieces[0], pieces[1], pieces[4], pieces[2]]


def test_entry_points_of_a_single_column() -> None:
    for n_rows in (8, 9, 17):
        unit = DataUnit(PayloadType.FLOAT, ("w",), (n_rows, 1), b"", scan_order=1)
        assert unit.n_entry_points == -(-n_rows // 8) - 1
        assert unit.parts()[0].scan_order == 0


def test_steps() -> None:
    formula = "`(K + (QP & (K - 1))) * 2^((QP >> d) - d)`"
    assert formula in section("9 Steps and values")
    for d in (0, 2, 7):
        for qp in (-77, -8, 0, 5):
            assert step_size(qp, d) == ((1 << d) + (qp & ((1 << d) - 1))) * 2.0 ** ((qp >> d) - d)


def test_manifest() -> None:
    keys = [row[0].strip("`") for row in rows("12 Manifest", "key")]
    graph, raw, ties = PackedGraph("lzma", 9), (RawPart(0, "split", 8),), (TieEntry(3, "b", "a"),)
    full = Manifest({0: "float16"}, {1: ()}, frozenset({2}), "ab", {"architecture": "x"}, ties, graph, raw)
    assert list(json.loads(write_manifest(full)[0][:-1])) == keys
    shown = json.loads(blocks("12 Manifest")[0])
    assert list(shown) == keys
    told = Manifest({0: "float16", 2: "int64"}, {1: ()}, frozenset({2}), raw=(RawPart(0, "split", 678),))
    assert json.loads(write_manifest(told)[0][:-1])["vvc_nnr"] == shown["vvc_nnr"]
    assert f"or 8 ({len(shown['#'])})" in section("12 Manifest")
    assert all(name in section("12 Manifest") for name in NUMBER_FORMATS if not re.fullmatch(r"u?int(16|32)", name))


def test_example() -> None:
    data = in_bytes(blocks("14 Example")[0])
    assert vvc_nnr.decompress(data)["w"].tolist() == [[0.5, 0, -0.75], [0, 0, 0]]
    unit = in_bytes(blocks("14 Example")[0].splitlines()[-1])
    groups = [row[0] for row in rows("14 Example", "bits of the last unit")]
    bits = "".join(
        g.replace("`", "").replace(" ", "")
        if set(g) <= set("`01 ") and "00" not in g.split()
        else f"{int.from_bytes(in_bytes(g)):0{8 * len(in_bytes(g))}b}"
        for g in groups
    )
    assert bits == f"{int.from_bytes(unit):0{8 * len(unit)}b}"
