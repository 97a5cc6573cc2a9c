"""Images and labels: Fashion-MNIST (Debian package ``dataset-fashion-mnist``; its test set is shipped here), photos, random bytes."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np

from model.configs import ImageShape
from model.data.photos import NO_LABEL, load_photos
from model.errors import InputError

#: Where Debian's package puts the set; the environment variable overrides it.
DEBIAN_FOLDER = Path(os.sep) / "usr" / "share" / "datasets" / "fashion-mnist"
FOLDER_VARIABLE = "POPVIT_FASHION_MNIST"
SHIPPED_FOLDER = Path(__file__).parent / "fashion_mnist"
SOURCES = ("fashion-mnist", "photos", "random")
#: Of these, the ones to train on.
LABELLED_SOURCES = ("fashion-mnist", "random")
CLASS_NAMES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
_IMAGE_HEADER, _LABEL_HEADER, _SIZE = 16, 8, 28


__all__ = ["CLASS_NAMES", "LABELLED_SOURCES", "NO_LABEL", "SOURCES", "fashion_mnist", "load", "random_images"]


def _read(path: Path, header: int) -> np.ndarray:
    try:
        return np.frombuffer(gzip.decompress(path.read_bytes()), dtype=np.uint8, offset=header)
    except FileNotFoundError:
        raise InputError(f"Fashion-MNIST file {path} is missing: apt-get install dataset-fashion-mnist, or set {FOLDER_VARIABLE}") from None
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"Fashion-MNIST file {path} is damaged ({error}): reinstall dataset-fashion-mnist") from None


def fashion_mnist(split: str, folder: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """``split`` "train" (60,000) or "test" (10,000): images (n, 28, 28, 1) uint8 and labels (n,) int64."""
    if folder is None:
        override = os.environ.get(FOLDER_VARIABLE)
        folder = Path(override) if override else SHIPPED_FOLDER if split == "test" else DEBIAN_FOLDER
    prefix = {"train": "train", "test": "t10k"}[split]
    images = _read(folder / f"{prefix}-images-idx3-ubyte.gz", _IMAGE_HEADER).reshape(-1, _SIZE, _SIZE, 1)
    return images, _read(folder / f"{prefix}-labels-idx1-ubyte.gz", _LABEL_HEADER).astype(np.int64)


def random_images(shape: ImageShape, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random bytes and labels of the same kind: for shapes that have no data set here."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, shape.image_size, shape.image_size, shape.channels), dtype=np.uint8)
    return images, rng.integers(0, shape.classes, count)


def load(source: str, split: str, shape: ImageShape, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of ``split`` ("train" or "test") for a network of this shape: the first ``count``, or as many as there are.

    Photos have no labels: NO_LABEL stands there.
    """
    images, labels = _load(source, split, shape, count)
    return images[:count], labels[:count]


def _load(source: str, split: str, shape: ImageShape, count: int | None) -> tuple[np.ndarray, np.ndarray]:
    if source == "random":
        return random_images(shape, 512 if split == "train" else 128, seed=len(split))
    if source == "photos":
        return load_photos(split, shape, count)
    if source != "fashion-mnist":
        raise InputError(f"source must be one of {', '.join(SOURCES)}: {source!r} is not; choose one of these")
    if (shape.image_size, shape.channels) != (_SIZE, 1):
        taken = f"{shape.image_size}x{shape.image_size}x{shape.channels}"
        raise InputError(f"fashion-mnist is {_SIZE}x{_SIZE}x1: {shape.name} takes {taken}; use --source photos")
    return fashion_mnist(split)
