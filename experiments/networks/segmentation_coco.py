"""DeepLabV3-ResNet50 of torchvision: segmentation of COCO 2017's pictures.

The data set's folder `coco2017` has `val2017/*.jpg` and `annotations/instances_val2017.json`.
Source: Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation, 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vvc_nnr.experiments.networks.classification import normalised
from vvc_nnr.experiments.networks.folder import data_set, find_weights
from vvc_nnr.experiments.networks.optional import import_optional
from vvc_nnr.experiments.networks.row import Metrics, Subject, module_subject
from vvc_nnr.model.torch import as_torch
from vvc_nnr.model.torch_file import read_checkpoint
from vvc_nnr.sequences.images import read_image

# COCO's numbers of the 20 classes of Pascal VOC that torchvision's weights know, in their order behind the background.
CATEGORIES = (5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)
N_PICTURES = 500


@dataclass(frozen=True, slots=True)
class DeepLabRow:
    """DeepLabV3-ResNet50."""

    name: str = "DeepLabV3-ResNet50"

    def load(self, folder: Path | None) -> Subject:
        """See `Row`."""
        models = import_optional("torchvision.models.segmentation", "torchvision")
        path = find_weights(folder, "deeplabv3_resnet50*.pth")
        torch.manual_seed(0)
        network = models.deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
        if path is None:
            return module_subject(network, "random")
        network.load_state_dict(as_torch(read_checkpoint(path).arrays))
        coco = import_optional("pycocotools.coco", "pycocotools")
        root = data_set(folder, "coco2017")
        labels = coco.COCO(str(root / "annotations" / "instances_val2017.json"))
        data = f"{N_PICTURES} pictures of COCO 2017's validation set"
        return module_subject(network, "published", data, lambda module: _segmented(module, root, labels))


def _segmented(network: Any, root: Path, labels: Any) -> Metrics:
    counts = np.zeros((21, 21), np.int64)
    for number in sorted(labels.getImgIds(catIds=[]))[:N_PICTURES]:
        picture = read_image(root / "val2017" / f"{number:012d}.jpg")
        found = network(normalised(picture))["out"][0].argmax(0).numpy()
        counts += confusion(_mask(labels, number, picture.shape[:2]), found, 21)
    return segmentation_metrics(counts)


def _mask(labels: Any, number: int, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, np.int64)
    for entry in labels.loadAnns(labels.getAnnIds(imgIds=[number])):
        if entry["category_id"] in CATEGORIES:
            mask[labels.annToMask(entry) > 0] = CATEGORIES.index(entry["category_id"]) + 1
    return mask


def confusion(wanted: np.ndarray, found: np.ndarray, n_classes: int) -> np.ndarray:
    """Number of pixels by wanted and found class, int64 (n_classes, n_classes)."""
    return np.bincount(wanted.ravel() * n_classes + found.ravel(), minlength=n_classes**2).reshape(n_classes, -1)


def segmentation_metrics(counts: np.ndarray) -> Metrics:
    """Pixel accuracy and mean IoU over the classes that occur."""
    right = np.diag(counts)
    union = counts.sum(0) + counts.sum(1) - right
    iou = float(np.mean(right[union > 0] / union[union > 0]))
    return Metrics(pixel_accuracy_percent=100 * float(right.sum() / counts.sum()), iou=iou)
