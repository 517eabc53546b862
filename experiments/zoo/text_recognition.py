"""A pretrained network that a PyPI package ships: PP-OCRv4's text recogniser in rapidocr-onnxruntime, an ONNX model.

Its task here has exact answers: lines of text drawn over crops of photographs, and the share of characters that are
read right (1 less the edit distance by the number of characters).
Source: PaddleOCR, PP-OCRv4; Graves et al., Connectionist Temporal Classification, ICML 2006 (greedy decoding).
"""

from __future__ import annotations

import importlib.util
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.number_formats import NamedArrays
from vvc_nnr.experiments.zoo.row import Metrics, NotHereError, Picture, Subject, colour_pictures, import_optional
from vvc_nnr.model.onnx import put_together, read_onnx

PACKAGE = "rapidocr_onnxruntime"
MODEL = "models/ch_PP-OCRv4_rec_infer.onnx"
INSTALL = "--no-deps rapidocr-onnxruntime; pip install onnx onnxruntime"
HEIGHT, WIDTH = 48, 320
N_LINES = 200
SEED = 5
_LETTERS = string.ascii_letters + string.digits
_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX)


@dataclass(frozen=True, slots=True)
class TextRow:
    """The recogniser on lines of text."""

    name: str = "PP-OCRv4 recogniser"

    def load(self, folder: Path | None) -> Subject:
        """The recogniser and its share of right characters on drawn lines of text."""
        found = importlib.util.find_spec(PACKAGE)
        if found is None or found.origin is None:
            raise NotHereError(f"{PACKAGE} is not installed: pip install {INSTALL}")
        runtime = import_optional("onnxruntime", INSTALL)
        import_optional("onnx", INSTALL)
        model = read_onnx(Path(found.origin).parent / MODEL)
        pictures, words = colour_pictures(16)
        lines = text_lines(pictures, np.random.default_rng(SEED), N_LINES)

        def evaluate(arrays: NamedArrays) -> Metrics:
            return Metrics(accuracy_percent=100 * share_read(runtime, model.graph, arrays, lines))

        return Subject(model.arrays, model.roles, "published", f"{N_LINES} lines of text drawn ({words})", evaluate)


def text_lines(pictures: Sequence[Picture], rng: np.random.Generator, n: int) -> list[tuple[str, NDArray[np.float32]]]:
    """Lines of 5 to 10 letters and digits, and their pictures float32 (3, 48, 320), -1 to 1, blue first."""
    return [_line(pictures[int(rng.integers(len(pictures)))], rng) for _ in range(n)]


def share_read(
    runtime: Any, graph: bytes, arrays: NamedArrays, lines: Sequence[tuple[str, NDArray[np.float32]]]
) -> float:
    """The share of characters that the network reads right."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    model = put_together(graph, arrays)
    alphabet = next(entry.value for entry in model.metadata_props if entry.key == "character").splitlines()
    recogniser = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    n_wrong = n_characters = 0
    for text, picture in lines:
        scores = recogniser.run(None, {recogniser.get_inputs()[0].name: picture[None]})[0][0]
        n_wrong += edit_distance(text, _read(scores, alphabet))
        n_characters += len(text)
    return 1 - n_wrong / n_characters


def edit_distance(a: str, b: str) -> int:
    """Insertions, deletions and changes of one letter between two texts, the least number of them."""
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, start=1):
        above, row[0] = row[0], i
        for j, other in enumerate(b, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (letter != other))
    return row[-1]


def _read(scores: NDArray[np.float32], alphabet: Sequence[str]) -> str:
    """The most probable path, repeated letters once and blanks (class 0) left out."""
    best = scores.argmax(axis=1)
    kept = best[np.concatenate([[True], best[1:] != best[:-1]]) & (best > 0)]
    return "".join(alphabet[k - 1] if k <= len(alphabet) else " " for k in kept)


def _line(picture: Picture, rng: np.random.Generator) -> tuple[str, NDArray[np.float32]]:
    text = "".join(rng.choice(list(_LETTERS), size=int(rng.integers(5, 11))))
    top, left = int(rng.integers(picture.shape[0] - HEIGHT)), int(rng.integers(picture.shape[1] - WIDTH))
    image = picture[top : top + HEIGHT, left : left + WIDTH, ::-1].copy()
    colour = (255, 255, 255) if image.mean() < 128 else (0, 0, 0)
    font, scale = _FONTS[int(rng.integers(len(_FONTS)))], float(rng.uniform(0.8, 1.2))
    cv2.putText(image, text, (6, 34), font, scale, colour, int(rng.integers(1, 3)), cv2.LINE_AA)
    noisy = image + rng.normal(0, 8, image.shape)
    return text, ((np.clip(noisy, 0, 255) / 127.5 - 1).astype(np.float32)).transpose(2, 0, 1).copy()
