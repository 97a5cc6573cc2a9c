"""Natural photographs as network inputs: crops of the colour photos that scikit-image carries in its package. No labels, no network."""

from __future__ import annotations

import functools
from types import ModuleType

import numpy as np

from model.configs import ImageShape
from model.errors import InputError

#: Functions of ``skimage.data`` that read a file of the installed package; its other images would be downloaded.
PHOTOS = ("astronaut", "coffee", "chelsea", "rocket", "hubble_deep_field", "retina", "immunohistochemistry")
#: What stands for the label of an image that has none.
NO_LABEL = -1
#: Images of each split: other crops, of the same photos.
COUNTS = {"train": 128, "test": 64}
_LUMA = np.array([299, 587, 114])


def _source() -> ModuleType:
    try:
        import skimage.data
    except ImportError as error:
        raise InputError(f"photos need scikit-image: it does not import ({error}); pip install 'scikit-image>=0.26,<0.27'") from None
    return skimage.data


@functools.cache
def _photo(name: str) -> np.ndarray:
    """(height, width, 3) uint8."""
    return np.asarray(getattr(_source(), name)())[..., :3]


def _overlaps(side: int, size: int) -> np.ndarray:
    """(size, side) integers: how much of output cell i the input pixel j covers, in units of 1 / size pixels; rows sum to ``side``."""
    cell, pixel = np.arange(size)[:, None] * side, np.arange(side)[None] * size
    return np.maximum(np.minimum(cell + side, pixel + size) - np.maximum(cell, pixel), 0).astype(np.float64)


def resized(square: np.ndarray, size: int) -> np.ndarray:
    """(side, side, channels) bytes -> (size, size, channels), each the mean over its area, rounded half up: exact integers in float64."""
    side = len(square)
    weights = _overlaps(side, size)
    sums = np.einsum("yj,jxc->yxc", weights, np.tensordot(square.astype(np.float64), weights, (1, 1)).transpose(0, 2, 1), optimize=True)
    return ((2 * sums.astype(np.int64) + side * side) // (2 * side * side)).astype(np.uint8)


def crop(photo: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """A square part: the whole middle without ``rng``, else at least half as high, anywhere, mirrored every other time."""
    height, width = photo.shape[:2]
    side = min(height, width)
    if rng is None:
        top, left = (height - side) // 2, (width - side) // 2
        return photo[top : top + side, left : left + side]
    side = int(rng.integers(-(-side // 2), side + 1))
    top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
    part = photo[top : top + side, left : left + side]
    return part[:, ::-1] if rng.integers(2) else part


def load_photos(split: str, shape: ImageShape, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The first ``count`` of ``COUNTS[split]`` images (n, size, size, channels) uint8, and their labels, all NO_LABEL.

    Image n shows photo n modulo the number of photos. The first round of "test" is their middles; all else is drawn, from one seed for
    each split. One channel: luma.
    """
    rng = np.random.default_rng(len(split))
    count = COUNTS[split] if count is None else min(count, COUNTS[split])
    images = np.empty((count, shape.image_size, shape.image_size, shape.channels), np.uint8)
    for number in range(len(images)):
        whole = split == "test" and number < len(PHOTOS)
        image = resized(crop(_photo(PHOTOS[number % len(PHOTOS)]), None if whole else rng), shape.image_size)
        images[number] = image if shape.channels == 3 else ((image @ _LUMA + 500) // 1000)[..., None]
    return images, np.full(len(images), NO_LABEL)
