"""Images to train on: augmentation, sets in memory, ImageNet-style folders with broken files."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from model.configs import deit_config_of
from model.data.pictures import picture
from model.errors import InputError
from model.training.images import Change, FolderImages, MemoryImages, generator_of, images_of

SHAPE = dataclasses.replace(deit_config_of("deit_micro"), classes=3)
CLASSES = ("apple", "bird", "cat")


def folder_of(root, per_class=4, classes=CLASSES):
    rng = np.random.default_rng(0)
    for split, count in (("train", per_class), ("val", 2)):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.{('jpg', 'png')[number % 2]}")
    return root


def opened(root, split="train", border=0, broken="refuse"):
    return images_of(str(root), split, SHAPE, border, broken, 2)


@pytest.mark.parametrize(
    ("shift", "mirror", "rows", "columns"),
    [
        (1, True, (1, 2, 3), (0, 1, 2, 3, 4)),  # the pixel is at column 1, or 3
        (1, False, (1, 2, 3), (0, 1, 2)),
        (0, True, (2,), (1, 3)),
        (0, False, (2,), (1,)),
    ],
)
def test_images_are_shifted_and_mirrored_as_asked(shift, mirror, rows, columns):
    image = np.zeros((1, 5, 5, 1), np.uint8)
    image[0, 2, 1] = 9
    images = MemoryImages(image, np.array([4]), shift)
    batch, labels = images.read(torch.zeros(200, dtype=torch.long), Change.drawn(200, shift, mirror, generator_of(0)))
    found = {tuple(place) for place in batch[..., 0].nonzero()[:, 1:].tolist()}
    assert found == {(y, x) for y in rows for x in columns}
    assert batch.shape == (200, 5, 5, 1) and set(labels.tolist()) == {4}
    np.testing.assert_array_equal(next(images.parts())[0].numpy(), image)


def test_each_image_is_changed_as_drawn_for_it():
    images = MemoryImages(np.arange(12 * 9, dtype=np.uint8).reshape(12, 3, 3, 1), np.arange(12), 0)
    change = Change.drawn(12, 0, True, generator_of(1))
    batch, _ = images.read(torch.arange(12), change)
    assert change.mirrored.any() and not change.mirrored.all()
    for number, mirrored in enumerate(change.mirrored.tolist()):
        plain = images.bordered[number].numpy()
        np.testing.assert_array_equal(batch[number].numpy(), plain[:, ::-1] if mirrored else plain)


def test_draws_depend_on_their_words_alone():
    first, again, other = (
        Change.drawn(50, 2, True, generator_of(*words)).shift for words in ((1, "real", 3), (1, "real", 3), (1, "real", 4))
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_folder_classes_are_sorted_and_read_lazily(tmp_path, monkeypatch):
    root, asked = folder_of(tmp_path), []
    monkeypatch.setattr("model.training.images.picture", lambda path, *rest: (asked.append(path), picture(path, *rest))[1])
    images = opened(root)
    assert not asked and images.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    batch, labels = images.read(torch.tensor([9, 0]), Change.none(2))
    assert labels.tolist() == [2, 0] and batch.shape == (2, 28, 28, 1) and len(asked) == 2
    np.testing.assert_array_equal(batch[1].numpy(), picture(root / "train" / "apple" / "0.jpg", SHAPE))
    assert [len(part) for part, _ in opened(root, "test").parts()] == [6]


def test_folder_shifts_show_more_of_the_picture(tmp_path):
    root = folder_of(tmp_path)
    batch, _ = opened(root, border=2).read(
        torch.zeros(2, dtype=torch.long), Change(shift=torch.tensor([[0, 4], [0, 4]]), mirrored=torch.tensor([False, True]))
    )
    whole = picture(root / "train" / "apple" / "0.jpg", SHAPE, 2)
    np.testing.assert_array_equal(batch[0].numpy(), whole[:28, :28])
    np.testing.assert_array_equal(batch[1].numpy(), whole[4:, 4:][:, ::-1])


def test_a_broken_picture_is_refused_by_name(tmp_path):
    bad = folder_of(tmp_path) / "train" / "bird" / "1.png"
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(InputError, match=rf"^a training picture must be a whole picture: {bad} is not .*or use --broken skip$"):
        opened(tmp_path).read(torch.tensor([5]), Change.none(1))


def test_broken_pictures_are_skipped_named_and_counted(tmp_path, capsys):
    root = folder_of(tmp_path)
    for path in (root / "train" / "bird" / "1.png", root / "val" / "bird" / "0.jpg"):
        path.write_bytes(b"nothing")
    images, test = opened(root, broken="skip"), opened(root, "test", broken="skip")
    assert isinstance(images, FolderImages) and isinstance(test, FolderImages)
    for _ in range(2):
        batch, labels = images.read(torch.tensor([4, 5]), Change.none(2))
    following = picture(root / "train" / "bird" / "2.jpg", SHAPE)
    np.testing.assert_array_equal(batch[1].numpy(), following)
    assert labels.tolist() == [1, 1] and len(images.skipped) == 1
    assert [labels.tolist() for _, labels in test.parts()] == [[0, 0, 1, 2, 2]]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all(line.startswith("skipped: a training picture must be a whole picture: ") for line in said)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, r"^an image folder must hold train/CLASS/\* with 1 to 3 classes: .* has 0; name such a folder"),
        (lambda root: folder_of(root, classes=("a", "b", "c", "d")), r"with 1 to 3 classes: .* has 4;"),
        (lambda root: folder_of(root, per_class=0), r"^an image folder must hold pictures: .* has none in apple, bird, cat"),
    ],
)
def test_bad_folders(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(InputError, match=message):
        opened(tmp_path)


def test_photos_have_no_labels():
    with pytest.raises(InputError, match=r"^training needs labels: photos have none; use one of fashion-mnist, random or a folder"):
        images_of("photos", "train", SHAPE, 0, "refuse", 1)
