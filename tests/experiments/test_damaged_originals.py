from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import pytest

from vvc_nnr.errors import BitstreamError
from vvc_nnr.experiments.runs.tool_by_tool import damage_note
from vvc_nnr.sequences.source import open_source


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Three pictures, the second one damaged."""
    path = tmp_path / "damaged.mov"
    picture = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-frames:v", "3", "-pix_fmt", "yuv420p")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *picture, "-c:v", "mpeg4", "-g", "3", str(path)]
    subprocess.run(command, check=True, timeout=60)
    data = bytearray(path.read_bytes())
    middle = data.index(b"\x00\x00\x01\xb6", data.index(b"\x00\x00\x01\xb6") + 4)
    data[middle + 16 : middle + 32] = bytes(range(100, 116))
    path.write_bytes(data)
    return path


def test_only_what_is_damaged_and_used_is_noted(damaged: Path) -> None:
    with pytest.raises(BitstreamError, match="at picture 1"):
        list(open_source(damaged).frames())
    source = open_source(damaged, allow_damaged=True)
    assert damage_note([source]).startswith(
        "damaged, and taken as FFmpeg conceals it: damaged (FFmpeg cannot decode it"
    )
    assert damage_note([source], max_pictures=1) == ""
    assert damage_note([open_source(damaged)]) == ""


def test_commands_say_that_damage_was_taken(run: Callable[..., str], damaged: Path, networks: Path) -> None:
    outputs = {"encode": "out.266", "filter": "out.y4m"}
    for command, name in outputs.items():
        model = ("--model", networks / "post.safetensors") if command == "filter" else ()
        words = (command, damaged, "--qp", "40", *model, "-o", damaged.parent / name)
        data = json.loads(run(*words, "--allow-damaged", "--json"))
        assert "at picture 1" in data["damage"]
        assert data["n_pictures"] in (2, 3)
        assert "its input is damaged" in run(*words, "--allow-damaged")


def test_tables_say_that_damage_was_scored(run: Callable[..., str], damaged: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    words = (
        "experiment",
        "tool-by-tool",
        "--sequences",
        damaged,
        "--qps",
        "40",
        "--out",
        folder,
        "--cache",
        tmp_path / "c",
    )
    text = run(*words, "--allow-damaged", "--pictures", "2")
    assert "Originals: damaged, and taken as FFmpeg conceals it: damaged (" in text
    assert "at picture 1" in json.loads((folder / "tool_by_tool.json").read_text())["settings"]["originals"]
