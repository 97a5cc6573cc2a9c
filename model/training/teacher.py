"""A float network whose answers are learned beside the labels. Of a set in memory they are computed once and kept in ``.cache``."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.configs import config_of
from model.errors import InputError
from model.nets.deit import DeiT
from model.nets.efficientvit import EfficientVit
from model.nets.pretrained import load_pretrained
from model.training.images import Images, mirrored
from model.training.plan import Plan
from model.training.state import write_aside

LABEL_SMOOTHING = 0.05


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """``network`` and what it answers are on the run's device.

    answers : logits (orientations, images, classes) of a set in memory, as it is and, if the student sees that, mirrored; it is not
              shifted for the teacher. None of a folder, which is read while it is used: the teacher sees what the student sees
    """

    network: DeiT | EfficientVit
    answers: Tensor | None

    def logits(self, images: Tensor, index: Tensor, mirrored: Tensor) -> Tensor:
        if self.answers is not None:
            return self.answers[mirrored.long().to(self.answers.device), index.to(self.answers.device)]
        with torch.no_grad():
            return self.network.forward_bytes(images)


def _network(plan: Plan, path: Path) -> DeiT | EfficientVit:
    student, name = config_of(plan.model), plan.teacher_model or plan.model
    teacher = config_of(name)
    wanted = (student.image_size, student.channels, student.classes)
    if (teacher.image_size, teacher.channels, teacher.classes) != wanted:
        raise InputError(f"a teacher must take the student's images and know its classes {wanted}: {name} does not; name another")
    return load_pretrained(path, teacher)


def _kept(plan: Plan, path: Path, mirror: bool) -> Path:
    words = [hashlib.sha256(path.read_bytes()).hexdigest(), plan.teacher_model or plan.model, plan.source, *["mirrored"] * mirror]
    cache = Path(os.environ.get("POPVIT_CACHE", Path(__file__).parents[2] / ".cache"))
    return cache / "teachers" / f"{hashlib.sha256(' '.join(words).encode()).hexdigest()[:16]}.npy"


def _answers(network: DeiT | EfficientVit, images: Images, mirror: bool, kept: Path, device: torch.device) -> Tensor:
    """(images, classes)"""
    if kept.exists():
        return torch.from_numpy(np.load(kept, allow_pickle=False)).to(device)
    with torch.no_grad():
        parts = (mirrored(part) if mirror else part for part, _ in images.parts())
        answers = torch.cat([network.forward_bytes(part.to(device)) for part in parts])
    buffer = io.BytesIO()
    np.save(buffer, answers.cpu().numpy())
    write_aside(kept, buffer.getvalue())
    return answers


def teacher_of(plan: Plan, images: Images, in_memory: bool, device: torch.device) -> Teacher | None:
    """``in_memory``: the images are the same in every epoch but for shifts and mirrors, and none is left out."""
    if plan.teacher is None:
        return None
    path = Path(plan.teacher)
    network = _network(plan, path).to(device)
    if not in_memory:
        return Teacher(network=network, answers=None)
    orientations = (False, True) if plan.mirror else (False,)
    answers = [_answers(network, images, mirror, _kept(plan, path, mirror), device) for mirror in orientations]
    return Teacher(network=network, answers=torch.stack(answers))


def loss_of(plan: Plan, logits: Tensor, labels: Tensor, answers: Tensor | None) -> Tensor:
    """Cross-entropy with smoothed labels; with a teacher, ``distill`` of it is the divergence of both softened answers instead."""
    loss = functional.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
    if answers is None:
        return loss
    soft = functional.log_softmax(logits / plan.temperature, -1)
    divergence = functional.kl_div(soft, functional.log_softmax(answers / plan.temperature, -1), reduction="batchmean", log_target=True)
    return (1 - plan.distill) * loss + plan.distill * plan.temperature**2 * divergence
