"""Calibration images from sets, folders and files, and what each refuses, by name."""

import math

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from model import data
from model.configs import efficientvit_config_of
from model.errors import InputError
from model.quant.images import BATCH, calibration_images, picture
from sim_tests.model.efficientvit_networks import SMALL, images_of

MICRO = efficientvit_config_of("efficientvit_micro")
SIDE = SMALL.image_size


def blobs(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3)), np.ones((8, 8, 1)))[:height, :width].astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two classes of six."""
    for number in range(12):
        path = tmp_path / "pictures" / f"class{number // 6}" / f"{number:02}.{('png', 'PNG')[number % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(blobs(50, 70, number)).save(path)
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    return tmp_path / "pictures"


def every(images):
    return np.concatenate(list(images))


def test_folder_is_spread_and_read_again(folder):
    images = calibration_images(str(folder), SMALL, 4)
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".png")
    np.testing.assert_array_equal(every(images), np.stack([picture(files[number], SMALL) for number in (0, 3, 6, 9)]))
    np.testing.assert_array_equal(every(images), every(images))
    assert [len(batch) for batch in calibration_images(str(folder), SMALL, 12)] == [BATCH, 12 - BATCH]
    assert images.labelled is None and every(images).dtype == np.uint8


@pytest.mark.parametrize(("height", "width"), [(50, 70), (70, 50), (20, 31), (32, 32)])
def test_shorter_side_then_middle(height, width, tmp_path):
    """The numbers of section 1.7, in a picture whose columns tell where they are: neighbours differ by one level, the middle is kept."""
    ramp = np.broadcast_to(np.linspace(0, 255, width).round().astype(np.uint8)[None, :, None], (height, width, 3))
    Image.fromarray(np.ascontiguousarray(ramp)).save(tmp_path / "ramp.png")
    got = picture(tmp_path / "ramp.png", SMALL).astype(float)
    assert got.shape == (SIDE, SIDE, 3) and np.ptp(got, axis=0).max() == 0
    factor = math.ceil(SIDE / 0.95) / min(height, width)
    columns = (np.arange(SIDE) + 0.5 - SIDE / 2) / factor + width / 2 - 0.5
    np.testing.assert_allclose(got[0, 2:-2, 0], (columns * 255 / (width - 1))[2:-2], atol=255 / (width - 1))


def test_other_kinds_of_pictures(tmp_path):
    colour = Image.fromarray(blobs(40, 40))
    for mode, suffix in (("RGBA", "png"), ("CMYK", "jpg"), ("P", "png"), ("L", "png")):
        colour.convert(mode).save(tmp_path / f"{mode}.{suffix}")
    colour.save(tmp_path / "RGB.png")
    plain = picture(tmp_path / "RGB.png", SMALL).astype(int)
    np.testing.assert_array_equal(picture(tmp_path / "RGBA.png", SMALL), plain)
    assert np.abs(picture(tmp_path / "CMYK.jpg", SMALL) - plain).mean() < 8
    assert np.ptp(picture(tmp_path / "L.png", SMALL), axis=2).max() == 0 and picture(tmp_path / "P.png", SMALL).shape == (SIDE, SIDE, 3)
    assert picture(tmp_path / "RGB.png", MICRO).shape == (28, 28, 1)


@pytest.mark.parametrize("suffix", ("npy", "npz", "safetensors"))
def test_files(suffix, tmp_path):
    images, path = images_of(SMALL, 10), tmp_path / f"images.{suffix}"
    labels = np.arange(10) % SMALL.classes
    if suffix == "npy":
        np.save(path, images)
    elif suffix == "npz":
        np.savez(path, images=images, labels=labels)
    else:
        save_file({"images": images, "labels": labels}, path)
    got = calibration_images(str(path), SMALL, 9)
    np.testing.assert_array_equal(every(got), images[:9])
    np.testing.assert_array_equal(every(got), images[:9])
    if suffix == "npy":
        assert got.labelled is None
    else:
        assert got.labelled is not None
        np.testing.assert_array_equal(got.labelled[0], images)
        np.testing.assert_array_equal(got.labelled[1], labels)


def test_sets():
    photos = calibration_images("photos", SMALL, 5)
    np.testing.assert_array_equal(every(photos), data.load("photos", "train", SMALL, 5)[0])
    assert photos.labelled is None


def test_fashion_mnist_is_measured_on_its_test_images(monkeypatch):
    monkeypatch.setenv(data.FOLDER_VARIABLE, str(data.SHIPPED_FOLDER))
    monkeypatch.setattr(data, "fashion_mnist", lambda split: (np.full((70, 28, 28, 1), len(split), np.uint8), np.zeros(70, np.int64)))
    images = calibration_images("fashion-mnist", MICRO, 64)
    assert images.labelled is not None
    assert every(images).shape == (64, 28, 28, 1) and (every(images) == 5).all() and (images.labelled[0] == 4).all()


def refused(source, said, config=SMALL, count=4):
    with pytest.raises(InputError) as error:
        every(calibration_images(str(source), config, count))
    assert said in str(error.value) and "\n" not in str(error.value) and ": " in str(error.value)


def test_folder_errors(folder, tmp_path):
    refused(folder, f"calibration asks for 13 images: {folder} has 12; give more or ask for fewer with --images", count=13)
    refused(folder, "calibration images must be at least 1: 0 is not", count=0)
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "has 0; give more")
    refused("photos", "calibration asks for 129 images: photos has 128", count=129)
    refused(tmp_path / "nowhere", f"{tmp_path / 'nowhere'} does not exist; give one of these")
    refused(folder / "notes.txt", "notes.txt is of another kind; give one of these")


@pytest.mark.parametrize("damage", ("truncated", "foreign", "empty"))
def test_corrupt_picture_is_named(damage, folder):
    bad = folder / "class0" / "03.PNG"
    content = {"truncated": bad.read_bytes()[:300], "foreign": b"no picture at all", "empty": b""}[damage]
    bad.write_bytes(content)
    refused(folder, f"a calibration image must be a whole picture: {bad} is not", count=12)


def test_deep_picture_is_refused(tmp_path):
    Image.fromarray(np.full((40, 40), 1000, np.uint16)).save(tmp_path / "deep.png")
    refused(tmp_path, "a calibration image must have 8 bits per channel", count=1)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((4, SIDE, SIDE, 1), np.uint8), f"must be uint8 (images, {SIDE}, {SIDE}, 3)"),
        (np.zeros((4, 3, SIDE, SIDE), np.uint8), "convert them"),
        (np.zeros((SIDE, SIDE, 3), np.uint8), "must be uint8"),
        (np.zeros((4, SIDE, SIDE, 3), np.float32), "float32"),
        (np.full((4, SIDE, SIDE, 3), np.nan, np.float32), "must be finite"),
        (np.zeros((3, SIDE, SIDE, 3), np.uint8), "calibration asks for 4 images"),
        (np.array([object()]), "must be a whole .npy file"),
    ],
)
def test_file_errors(array, said, tmp_path):
    np.save(tmp_path / "x.npy", array)
    refused(tmp_path / "x.npy", said)


def test_archive_errors(tmp_path):
    images, path = images_of(SMALL, 4), tmp_path / "x.npz"
    np.savez(path, a=images, b=images)
    refused(path, "must be one tensor or be named images")
    for labels in (np.zeros(3, int), np.zeros(4), np.full(4, SMALL.classes), np.full(4, -1)):
        np.savez(path, images=images, labels=labels)
        refused(path, f"labels must be 4 whole numbers below {SMALL.classes}")
    path.write_bytes(path.read_bytes()[:200])
    refused(path, "must be a whole .npz file")
    (tmp_path / "x.safetensors").write_bytes(b"abc")
    refused(tmp_path / "x.safetensors", "must be a whole .safetensors file")
