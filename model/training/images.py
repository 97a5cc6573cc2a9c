"""Images to train and test on: a set in memory, or a folder that is read while it is used; shifted and mirrored as drawn."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from model import data
from model.configs import ImageShape
from model.data.pictures import files_in, picture
from model.errors import InputError

PART = 500
#: In an ImageNet-style folder: SPLITS[split]/CLASS/*.
SPLITS = {"train": "train", "test": "val"}
BROKEN = ("refuse", "skip")


def generator_of(*words: object) -> torch.Generator:
    """The same words give the same numbers, whatever was drawn before."""
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(" ".join(map(str, words)).encode()).digest()[:7]))


@dataclass(frozen=True, kw_only=True)
class Change:
    """Per image: rows and columns (2, n) to begin at in an image with a border, and whether it is mirrored (n)."""

    shift: Tensor
    mirrored: Tensor

    @classmethod
    def drawn(cls, count: int, most: int, mirror: bool, generator: torch.Generator) -> Change:
        """Shifts by up to ``most`` pixels; with ``mirror``, every other image is mirrored."""
        shift = torch.randint(0, 2 * most + 1, (2, count), generator=generator)
        return cls(shift=shift, mirrored=(torch.rand(count, generator=generator) < 0.5) & mirror)

    @classmethod
    def none(cls, count: int, border: int = 0) -> Change:
        return cls(shift=torch.full((2, count), border), mirrored=torch.zeros(count, dtype=torch.bool))

    def on(self, bordered: Tensor, size: int, index: Tensor) -> Tensor:
        """Images ``index`` of (count, side, side, channels), cut to ``size``, then mirrored."""
        if bordered.shape[1] == size:
            images = bordered[index]
        else:
            span = torch.arange(size)
            rows, columns = self.shift[0, :, None] + span, self.shift[1, :, None] + span
            images = bordered[index[:, None, None], rows[:, :, None], columns[:, None, :]]
        return torch.where(self.mirrored[:, None, None, None], mirrored(images), images) if self.mirrored.any() else images


def mirrored(images: Tensor) -> Tensor:
    """(n, size, size, channels), left and right exchanged."""
    return images.flip(2)


class Images(Protocol):
    """``labels`` (count,); images are uint8 (n, size, size, channels)."""

    labels: Tensor

    def read(self, index: Tensor, change: Change) -> tuple[Tensor, Tensor]:
        """Images and labels."""
        ...

    def parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Everything as it is, in order, some hundred at a time."""
        ...

    def sample(self, count: int) -> Tensor:
        """Up to so many images, spread evenly."""
        ...


def _spread(count: int, total: int) -> Tensor:
    count = min(count, total)
    return torch.arange(count) * total // count


class MemoryImages:
    def __init__(self, images: np.ndarray, labels: np.ndarray, border: int):
        self.size, self.border = images.shape[1], border
        self.bordered = torch.from_numpy(np.pad(images, ((0, 0), (border, border), (border, border), (0, 0))))
        self.labels = torch.from_numpy(labels)

    def read(self, index: Tensor, change: Change) -> tuple[Tensor, Tensor]:
        return change.on(self.bordered, self.size, index), self.labels[index]

    def parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        for index in torch.arange(len(self.labels)).split(PART):
            yield self.read(index, Change.none(len(index), self.border))

    def sample(self, count: int) -> Tensor:
        """The first ones: a set in memory is in no order."""
        index = torch.arange(min(count, len(self.labels)))
        return self.read(index, Change.none(len(index), self.border))[0]


class FolderImages:
    """Pictures of ``folder``, a class in each of its folders, read when they are asked for.

    A broken one is refused, or named, counted and, where a batch must stay whole, replaced by the next that is not.
    """

    def __init__(self, folder: Path, classes: list[str], shape: ImageShape, border: int, broken: str, readers: int):
        self.shape, self.border, self.broken = shape, border, broken
        self.files = [(path, label) for label, name in enumerate(classes) for path in files_in(folder / name)]
        if not self.files:
            raise InputError(f"an image folder must hold pictures: {folder} has none in {', '.join(classes)[:80]}; put CLASS/*.jpg there")
        self.labels = torch.tensor([label for _, label in self.files])
        self.skipped: set[Path] = set()
        self.pool = ThreadPoolExecutor(readers)

    def _open(self, number: int) -> np.ndarray | None:
        path = self.files[number][0]
        try:
            return None if path in self.skipped else picture(path, self.shape, self.border, "a training picture")
        except InputError as error:
            if self.broken == "refuse":
                raise InputError(f"{error}, or use --broken skip") from None
            self.skipped.add(path)
            print(f"skipped: {error}", file=sys.stderr)
            return None

    def _whole(self, number: int) -> tuple[np.ndarray, int]:
        for place in range(number, number + len(self.files)):
            if (found := self._open(place % len(self.files))) is not None:
                return found, self.files[place % len(self.files)][1]
        raise InputError("an image folder must hold whole pictures: every one is broken; copy them again")

    def read(self, index: Tensor, change: Change) -> tuple[Tensor, Tensor]:
        images, labels = zip(*self.pool.map(self._whole, index.tolist()), strict=True)
        return change.on(torch.from_numpy(np.stack(images)), self.shape.image_size, torch.arange(len(index))), torch.tensor(labels)

    def parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        for index in torch.arange(len(self.files)).split(PART):
            found = [(image, number) for number, image in zip(index.tolist(), self.pool.map(self._open, index.tolist()), strict=True)
                     if image is not None]  # fmt: skip
            if found:
                whole = torch.from_numpy(np.stack([image for image, _ in found]))
                images = Change.none(len(found), self.border).on(whole, self.shape.image_size, torch.arange(len(found)))
                yield images, self.labels[[number for _, number in found]]

    def sample(self, count: int) -> Tensor:
        index = _spread(count, len(self.files))
        return self.read(index, Change.none(len(index), self.border))[0]


def _folder(source: str, split: str, shape: ImageShape, border: int, broken: str, readers: int) -> FolderImages:
    root = Path(source)
    classes = sorted(path.name for path in (root / SPLITS["train"]).iterdir() if path.is_dir()) if (root / SPLITS["train"]).is_dir() else []
    if not 0 < len(classes) <= shape.classes:
        rule = f"an image folder must hold train/CLASS/* with 1 to {shape.classes} classes"
        raise InputError(f"{rule}: {source} has {len(classes)}; name such a folder or one of {', '.join(data.LABELLED_SOURCES)}")
    return FolderImages(root / SPLITS[split], classes, shape, border, broken, readers)


def images_of(source: str, split: str, shape: ImageShape, border: int, broken: str, readers: int) -> Images:
    """``source``: a labelled set of ``model.data``, or an ImageNet-style folder. ``border``: the largest shift."""
    if source in data.LABELLED_SOURCES:
        return MemoryImages(*data.load(source, split, shape), border)
    if source in data.SOURCES:
        raise InputError(f"training needs labels: {source} have none; use one of {', '.join(data.LABELLED_SOURCES)} or a folder")
    return _folder(source, split, shape, border, broken, readers)


def broken_pictures(*sets: Images) -> int:
    """How many were skipped."""
    return sum(len(images.skipped) for images in sets if isinstance(images, FolderImages))
