"""Settings of a folder of results that no run wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.rows import ImageRow, ToolRow, ZooRow
from vvc_nnr.experiments.records.tsv import RowWriter
from vvc_nnr.experiments.tables.stored import load

TOOLS = {"configs": ["ai"], "qps": [22], "max_pictures": None, "ways": ["full"], "interpolation": "pchip"}
FILES: dict[str, type[Any]] = {"tool_by_tool": ToolRow, "end_to_end": ImageRow, "model_zoo": ZooRow}
HEADER = {"version": "1", "psnr_peak": "vtm", "averaging": "y", "rate": "z", "seeds": "0"}


@pytest.mark.parametrize(
    ("name", "settings", "key"),
    [
        ("tool_by_tool", TOOLS | {"configs": ["ar"]}, "configs"),
        ("tool_by_tool", TOOLS | {"qps": ["22"]}, "qps"),
        ("tool_by_tool", TOOLS | {"max_pictures": 1.5}, "max_pictures"),
        ("tool_by_tool", {key: value for key, value in TOOLS.items() if key != "max_pictures"}, "max_pictures"),
        ("tool_by_tool", TOOLS | {"ways": [{"": None}]}, "ways"),
        ("tool_by_tool", TOOLS | {"ways": ["other"]}, "ways"),
        ("tool_by_tool", TOOLS | {"interpolation": ["pchip"]}, "interpolation"),
        ("end_to_end", {"formats": 3}, "formats"),
        ("end_to_end", {"formats": "jpeg"}, "formats"),
        ("model_zoo", {"order": 3}, "order"),
        ("model_zoo", {"order": [{}]}, "order"),
        ("model_zoo", {"absent": {"a": 1}}, "absent"),
        ("model_zoo", {"absent": [1]}, "absent"),
    ],
)
def test_settings_of_another_kind(tmp_path: Path, name: str, settings: dict[str, Any], key: str) -> None:
    with RowWriter(tmp_path / f"{name}.tsv", FILES[name], HEADER) as out:
        out.append([])
    (tmp_path / f"{name}.json").write_text(json.dumps({"settings": settings, "provenance": {}}))
    with pytest.raises(InputError, match=rf"{name}\.json: {key} .*: not the settings of such a run"):
        load(tmp_path)
