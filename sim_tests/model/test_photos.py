"""Photos from scikit-image's package: real, different, the same every time, and one line where the package is missing."""

import builtins
import sys

import numpy as np
import pytest

from model import data, zoo
from model.data import photos
from model.errors import InputError


@pytest.fixture(scope="module")
def test_images():
    return data.load("photos", "test", zoo.shape_of("deit_base", 8))


def test_they_fit_the_network_and_have_no_labels(test_images):
    images, labels = test_images
    assert images.shape == (64, 224, 224, 3) and images.dtype == np.uint8
    assert (labels == photos.NO_LABEL).all() and len(labels) == 64


def test_they_are_photographs(test_images):
    """Every image varies, and neighbouring pixels are alike, which random bytes are not."""
    for number, image in enumerate(test_images[0].astype(np.int64)):
        assert image.std() > 8, number
        assert np.abs(np.diff(image, axis=1)).mean() < 0.75 * image.std(), number


def test_no_image_comes_twice(test_images):
    again = data.load("photos", "train", zoo.shape_of("deit_base", 8))[0]
    every = {image.tobytes() for image in np.concatenate([test_images[0], again])}
    assert len(every) == sum(photos.COUNTS.values())


def test_they_are_the_same_every_time(test_images):
    np.testing.assert_array_equal(test_images[0], data.load("photos", "test", zoo.shape_of("deit_base", 8))[0])


@pytest.mark.parametrize("source", data.SOURCES)
def test_the_first_images_alone(source):
    shape = zoo.shape_of("deit_micro", 8)
    images, labels = data.load(source, "test", shape, 9)
    every = data.load(source, "test", shape)
    assert len(images) == len(labels) == 9
    np.testing.assert_array_equal(images, every[0][:9])
    np.testing.assert_array_equal(labels, every[1][:9])
    assert len(data.load(source, "test", shape, 1 << 20)[0]) == len(every[0])


def test_grey_networks_get_luma():
    images, _ = data.load("photos", "test", zoo.shape_of("deit_micro", 8))
    assert images.shape == (64, 28, 28, 1)
    colour = photos.resized(photos.crop(photos._photo("coffee"), None), 28).astype(int)
    np.testing.assert_array_equal(images[1, ..., 0], (299 * colour[..., 0] + 587 * colour[..., 1] + 114 * colour[..., 2] + 500) // 1000)


def test_resizing_is_the_exact_mean_of_each_area():
    from fractions import Fraction

    square = np.random.default_rng(0).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    for size in (1, 3, 7, 9):
        got = photos.resized(square, size)
        edges = [Fraction(7 * i, size) for i in range(size + 1)]
        parts = [[max(min(edges[i + 1], j + 1) - max(edges[i], j), Fraction(0)) for j in range(7)] for i in range(size)]
        for y, x, channel in np.ndindex(*got.shape):
            total = sum(parts[y][j] * parts[x][k] * int(square[j, k, channel]) for j in range(7) for k in range(7))
            assert got[y, x, channel] == (total / Fraction(7, size) ** 2 + Fraction(1, 2)).__floor__()
    np.testing.assert_array_equal(photos.resized(square, 7), square)


def test_missing_package_is_one_line(monkeypatch):
    photos._photo.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "skimage"]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def refuse(name, *rest):
        if name.partition(".")[0] == "skimage":
            raise ImportError("No module named 'skimage'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match=r"^photos need scikit-image: it does not import \(No module named 'skimage'\); pip install 'scik"):
        data.load("photos", "test", zoo.shape_of("deit_micro", 8))
