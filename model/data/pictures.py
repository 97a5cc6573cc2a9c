"""Picture files as network inputs, as EfficientViT is evaluated (papers/trio_vit.md, section 1.7): the shorter side to ceil(size / 0.95),
bicubic, then the middle."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from model.configs import ImageShape
from model.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg")
CROP = 0.95
#: What PIL raises on damaged and foreign files.
_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, Image.DecompressionBombError)


def picture(path: Path, shape: ImageShape, border: int = 0, use: str = "a calibration image") -> np.ndarray:
    """(size, size, channels) uint8 with size = shape.image_size + 2 * border.

    Raises InputError naming its use and the file where it is damaged, or has more than 8 bits per channel.
    """
    try:
        with Image.open(path) as opened:
            opened.load()
            deep, image = opened.mode[0] in "IF", opened.convert("L" if shape.channels == 1 else "RGB")
    except _DAMAGED as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:100]
        raise InputError(f"{use} must be a whole picture: {path} is not ({reason}); remove it or copy it again") from None
    if deep:
        raise InputError(f"{use} must have 8 bits per channel: {path} has more; convert it")
    return _cropped(image, shape.image_size + 2 * border).reshape(*[shape.image_size + 2 * border] * 2, shape.channels)


def _cropped(image: Image.Image, size: int) -> np.ndarray:
    shorter, wanted = min(image.size), math.ceil(size / CROP)
    resized = image.resize((wanted * image.width // shorter, wanted * image.height // shorter), Image.Resampling.BICUBIC)
    left, top = (round((side - size) / 2) for side in resized.size)
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def files_in(folder: Path) -> list[Path]:
    """Every picture of the folder, subfolders included, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
