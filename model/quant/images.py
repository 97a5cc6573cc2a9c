"""Calibration images: from the sets of ``model.data``, a folder of pictures, or a file of tensors; as batches to be gone through again.

Pictures are resized and cropped as ``model.data.pictures`` says.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from model import data
from model.configs import EfficientVitConfig
from model.data.pictures import files_in, picture
from model.errors import InputError

SETS = ("photos", "fashion-mnist")
TENSOR_SUFFIXES = (".npy", ".npz", ".safetensors")
#: In files of several tensors, those that are read; one tensor alone may have any name.
IMAGES_NAME, LABELS_NAME = "images", "labels"
BATCH = 8
#: What numpy and safetensors raise on damaged and foreign files.
_DAMAGED_TENSORS = (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile, SafetensorError)


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationImages:
    """Goes through ``count`` images in batches of uint8 (batch, size, size, channels), as often as asked: pictures are read each time.

    read : images from the first number to before the second
    labelled : images and labels to measure accuracy on, where the source has some
    """

    name: str
    count: int
    read: Callable[[int, int], np.ndarray]
    labelled: tuple[np.ndarray, np.ndarray] | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        for first in range(0, self.count, BATCH):
            yield self.read(first, min(first + BATCH, self.count))


def _check_count(name: str, wanted: int, found: int) -> None:
    if wanted < 1:
        raise InputError(f"calibration images must be at least 1: {wanted} is not; use 64")
    if found < wanted:
        raise InputError(f"calibration asks for {wanted} images: {name} has {found}; give more or ask for fewer with --images")


def from_folder(folder: Path, config: EfficientVitConfig, count: int) -> CalibrationImages:
    """``count`` of the folder's pictures, subfolders included, evenly spread over their sorted names: of every class, where these have
    folders of their own."""
    files = files_in(folder)
    _check_count(str(folder), count, len(files))
    chosen = [files[number * len(files) // count] for number in range(count)]
    return CalibrationImages(
        name=folder.name, count=count, read=lambda first, end: np.stack([picture(path, config) for path in chosen[first:end]])
    )


def _tensors(path: Path) -> Mapping[str, np.ndarray]:
    if path.suffix == ".npy":
        return {IMAGES_NAME: np.load(path, mmap_mode="r", allow_pickle=False)}
    if path.suffix == ".safetensors":
        return load_file(path)
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
        return dict(archive)


def read_tensors(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Images, and labels where the file has some."""
    try:
        tensors = dict(_tensors(path))
    except _DAMAGED_TENSORS as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:100]
        raise InputError(f"calibration images must be a whole {path.suffix} file: {path} is not ({reason}); write it again") from None
    labels = tensors.pop(LABELS_NAME, None)
    if IMAGES_NAME not in tensors and len(tensors) != 1:
        listed = ", ".join(tensors)[:80] or "nothing"
        raise InputError(f"calibration images must be one tensor or be named {IMAGES_NAME}: {path} has {listed}; rename them")
    return tensors.get(IMAGES_NAME, next(iter(tensors.values()))), labels


def _check_images(path: Path, images: np.ndarray, config: EfficientVitConfig) -> None:
    wanted = f"uint8 (images, {config.image_size}, {config.image_size}, {config.channels})"
    if images.dtype.kind == "f" and (bad := int(np.count_nonzero(~np.isfinite(images)))):
        raise InputError(f"calibration images must be finite: {path} has {bad} NaN or infinite values; store bytes, {wanted}")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (config.image_size, config.image_size, config.channels):
        raise InputError(f"calibration images of {config.name} must be {wanted}: {path} has {images.dtype} {images.shape}; convert them")


def _check_labels(path: Path, labels: np.ndarray, images: int, classes: int) -> None:
    fits = labels.shape == (images,) and labels.dtype.kind in "iu" and images > 0
    if not (fits and labels.min() >= 0 and labels.max() < classes):
        found = f"{labels.dtype} {labels.shape}" + (f" from {labels.min()} to {labels.max()}" if fits else "")
        raise InputError(f"labels must be {images} whole numbers below {classes}: {path} has {found}; mend or remove them")


def from_file(path: Path, config: EfficientVitConfig, count: int) -> CalibrationImages:
    """The first ``count`` images of an .npy, .npz or .safetensors file. Labels beside them stand for all images of the file."""
    images, labels = read_tensors(path)
    _check_images(path, images, config)
    _check_count(str(path), count, len(images))
    if labels is not None:
        _check_labels(path, labels, len(images), config.classes)
    return CalibrationImages(
        name=path.name, count=count, read=lambda first, end: np.array(images[first:end]),
        labelled=None if labels is None else (images, labels.astype(np.int64)),
    )  # fmt: skip


def from_set(name: str, config: EfficientVitConfig, count: int) -> CalibrationImages:
    """The first ``count`` of the training images; the test images are the labelled ones."""
    images, _ = data.load(name, "train", config, max(count, 0))
    _check_count(name, count, len(images))
    labelled = data.load(name, "test", config) if name in data.LABELLED_SOURCES else None
    return CalibrationImages(name=name, count=count, read=lambda first, end: images[first:end], labelled=labelled)


def default_source(config: EfficientVitConfig) -> str:
    return "fashion-mnist" if (config.image_size, config.channels) == (28, 1) else "photos"


def calibration_images(source: str, config: EfficientVitConfig, count: int) -> CalibrationImages:
    """``source``: one of ``SETS``, a folder of pictures, or a file of tensors."""
    path = Path(source)
    if source in SETS:
        return from_set(source, config, count)
    if path.is_dir():
        return from_folder(path, config, count)
    if path.suffix not in TENSOR_SUFFIXES or not path.exists():
        kinds = f"{', '.join(SETS)}, a folder of pictures or a file ({', '.join(TENSOR_SUFFIXES)})"
        why = "is of another kind" if path.exists() else "does not exist"
        raise InputError(f"--calibration must be {kinds}: {source} {why}; give one of these")
    return from_file(path, config, count)
