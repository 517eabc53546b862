"""AlexNet and Inception v3 of torchvision on ImageNet: `imagenet/val/<class>/*.JPEG`, classes in order of their names.

Source: Krizhevsky, 2014; Szegedy et al., CVPR 2016.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from vvc_nnr.experiments.zoo.row import (
    Metrics,
    NotHereError,
    Subject,
    data_set,
    find_weights,
    import_optional,
    module_subject,
)
from vvc_nnr.model.torch import as_torch
from vvc_nnr.model.torch_file import read_checkpoint
from vvc_nnr.sequences.images import IMAGE_SUFFIXES, read_image
from vvc_nnr.sequences.listing import has_suffix, list_files, list_folders

CHANNEL_MEAN, CHANNEL_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
N_CLASSIFIED = 2000


@dataclass(frozen=True, slots=True)
class ClassificationRow:
    """A classifier of torchvision.

    Args:
        name: Its name in the table.
        builder: Its function in torchvision.models.
        pattern: Shell pattern of the file of its weights.
        resize: The shorter side before the crop.
        crop: Side of the crop.
    """

    name: str
    builder: str
    pattern: str
    resize: int
    crop: int

    def load(self, folder: Path | None) -> Subject:
        """The network, scored on ImageNet's validation set with the user's weights; random weights have no task."""
        models = import_optional("torchvision.models", "torchvision")
        options = {"aux_logits": True, "init_weights": True} if self.builder.startswith("inception") else {}
        path = find_weights(folder, self.pattern)
        torch.manual_seed(0)
        network = getattr(models, self.builder)(weights=None, **options)
        if path is None:
            return module_subject(network, "random")
        network.load_state_dict(as_torch(read_checkpoint(path).arrays))
        pictures = _labelled(data_set(folder, "imagenet") / "val")
        data = f"{len(pictures)} pictures of ImageNet's validation set"
        return module_subject(network, "published", data, lambda module: self.evaluate(module, pictures))

    def evaluate(self, network: Any, pictures: list[tuple[Path, int]]) -> Metrics:
        """Share of pictures whose class comes first."""
        n_right = sum(int(network(self.prepared(path)).argmax()) == label for path, label in pictures)
        return Metrics(accuracy_percent=100 * n_right / len(pictures))

    def prepared(self, path: Path) -> torch.Tensor:
        """A picture as the network takes it, float32 (1, 3, crop, crop)."""
        picture = read_image(path)
        scale = self.resize / min(picture.shape[:2])
        size = (max(self.crop, round(picture.shape[1] * scale)), max(self.crop, round(picture.shape[0] * scale)))
        whole = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        top, left = ((side - self.crop) // 2 for side in whole.shape[:2])
        crop = whole[top : top + self.crop, left : left + self.crop]
        return normalised(crop)


def normalised(picture: np.ndarray) -> torch.Tensor:
    """RGB uint8 (H, W, 3) as torchvision's networks take it, float32 (1, 3, H, W)."""
    values = (picture.astype(np.float32) / 255 - np.array(CHANNEL_MEAN, np.float32)) / np.array(
        CHANNEL_DEVIATION, np.float32
    )
    return torch.from_numpy(values).permute(2, 0, 1)[None].contiguous()


def _labelled(folder: Path) -> list[tuple[Path, int]]:
    """Pictures with their classes, at most `N_CLASSIFIED`, spread evenly over all.

    Raises:
        NotHereError: If there are none.
        InputError: If a folder cannot be listed.
    """
    found = []
    if folder.is_dir():
        classes = {path.name: label for label, path in enumerate(list_folders(folder))}
        listing = list_files(folder, has_suffix(IMAGE_SUFFIXES))
        inside = [path for path in listing.paths if path.parent != folder]
        beside = tuple(path.name for path in listing.paths if path.parent == folder)
        replace(listing.left_out, unknown=(*listing.left_out.unknown, *beside)).tell(folder)
        found = [(path, classes[path.relative_to(folder).parts[0]]) for path in inside]
    if not found:
        raise NotHereError(f"weights are there, no picture in {folder}/<class>/")
    return found[:: max(1, len(found) // N_CLASSIFIED)][:N_CLASSIFIED]


@dataclass(frozen=True, slots=True)
class YoloRow:
    """YOLO11, the smallest one."""

    name: str = "YOLO11n"

    def load(self, folder: Path | None) -> Subject:
        """The detector, scored on COCO's validation set with the user's weights; random weights have no task."""
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


# COCO's numbers of the 20 classes of Pascal VOC that torchvision's weights know, in their order behind the background.
CATEGORIES = (5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)
N_SEGMENTED = 500


@dataclass(frozen=True, slots=True)
class DeepLabRow:
    """DeepLabV3-ResNet50."""

    name: str = "DeepLabV3-ResNet50"

    def load(self, folder: Path | None) -> Subject:
        """The network, scored on COCO's validation set with the user's weights; random weights have no task."""
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
        data = f"{N_SEGMENTED} pictures of COCO 2017's validation set"
        return module_subject(network, "published", data, lambda module: _segmented(module, root, labels))


def _segmented(network: Any, root: Path, labels: Any) -> Metrics:
    counts = np.zeros((21, 21), np.int64)
    for number in sorted(labels.getImgIds(catIds=[]))[:N_SEGMENTED]:
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
