"""YOLO11 of ultralytics: detection in COCO 2017's pictures.

The data set's folder `coco2017` has what ultralytics makes of it, `coco.yaml` with labels.
Source: Jocher and Qiu, Ultralytics YOLO11, 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vvc_nnr.experiments.networks.folder import data_set, find_weights
from vvc_nnr.experiments.networks.optional import import_optional
from vvc_nnr.experiments.networks.row import Metrics, Subject, module_subject


@dataclass(frozen=True, slots=True)
class YoloRow:
    """YOLO11, the smallest one."""

    name: str = "YOLO11n"

    def load(self, folder: Path | None) -> Subject:
        """See `Row`."""
        ultralytics = import_optional("ultralytics", "ultralytics")
        path = find_weights(folder, "yolo11n.pt")
        torch.manual_seed(0)
        detector = ultralytics.YOLO("yolo11n.yaml" if path is None else str(path))
        if path is None:
            return module_subject(detector.model, "random")
        config = data_set(folder, "coco2017") / "coco.yaml"

        def evaluate(module: Any) -> Metrics:
            detector.model = module
            found = detector.val(data=str(config), verbose=False, plots=False)
            return Metrics(average_precision_percent=100 * float(found.box.map))

        return module_subject(detector.model.float(), "published", "COCO 2017's validation set", evaluate)
