"""Runs a plan: stage by stage, epoch by epoch, from wherever its checkpoint stands."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.progress import Progress as Bar
from torch import Tensor, nn

from model.configs import config_of
from model.errors import InputError
from model.quant.deit import QuantDeiT
from model.training.images import Change, Images, MemoryImages, broken_pictures, generator_of, images_of
from model.training.networks import PartlyBinaryNetwork, float_net, net_state, network_of
from model.training.parallel import Group
from model.training.plan import Plan, binary_share
from model.training.report import FIELDS, read_seconds, write_log
from model.training.state import Progress, Run, load_run, resume, save_run
from model.training.teacher import Teacher, loss_of, teacher_of

_CALIBRATION_IMAGES = 256


def accuracy(forward: Callable[[Tensor], Tensor], images: Images, device: torch.device) -> float:
    """Percent of images whose largest logit is the label's. ``device``: of ``forward``."""
    right = total = 0
    with torch.no_grad():
        for part, labels in images.parts():
            right, total = right + int((forward(part.to(device)).argmax(-1).cpu() == labels).sum()), total + len(labels)
    return 100.0 * right / total


def optimizer_of(module: nn.Module, learning_rate: float, quantized: bool) -> torch.optim.AdamW:
    """AdamW. Latent binary weights do not decay: their magnitude is only the inertia of the sign and the scale of the row."""
    decayed = [p for p in module.parameters() if p.ndim >= 2]
    others = [p for p in module.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.0 if quantized else 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.99), fused=True)


@dataclass(kw_only=True)
class Trainer:
    """A run in this process, on ``device``.

    out : the checkpoint, written at least every ``save_seconds`` and after every epoch        log : CSV; the plot goes beside it
    test_every : so many epochs of a stage, and after its last one, the test images are classified
    """

    plan: Plan
    group: Group
    device: torch.device
    out: Path
    log: Path
    save_seconds: float
    test_every: int
    readers: int
    run: Run = field(init=False)
    train_set: Images = field(init=False)
    test_set: Images = field(init=False)
    teacher: Teacher | None = field(init=False)

    def __post_init__(self) -> None:
        plan, shape = self.plan, config_of(self.plan.model)
        self.train_set, self.test_set = (
            images_of(plan.source, split, shape, border, plan.broken, self.readers)
            for split, border in (("train", plan.shift), ("test", 0))
        )
        if plan.batch > len(self.train_set.labels):
            rule = "a batch must not be larger than the training set"
            raise InputError(f"{rule}: {plan.batch} is larger than {len(self.train_set.labels)}; use a smaller --batch")
        self.run = resume(self.out, plan) or self._begin()
        self.teacher = None
        if self.run.progress is not None:
            self.teacher = teacher_of(plan, self.train_set, isinstance(self.train_set, MemoryImages), self.device)
        self.seconds = read_seconds(self.log)[: len(self.run.rows)]
        self.began = time.monotonic() - float(next((word for word in reversed(self.seconds) if word), 0))
        self.saved = time.monotonic()
        self.group.wait()

    def _begin(self) -> Run:
        torch.manual_seed(self.plan.seed)
        net = float_net(self.plan.model)
        if self.plan.start:
            net.load_state_dict(net_state(load_run(self.plan.start)["state"]))
        return Run(plan=self.plan, state={f"net.{name}": tensor for name, tensor in net.state_dict().items()})

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train_set.labels) // self.plan.batch

    def train(self) -> nn.Module:
        """All that is left to do. Returns the last stage's module in eval mode."""
        stages = self.plan.stages()
        first = len(stages) - 1 if self.run.progress is None else self.run.progress.stage
        total = self.steps_per_epoch * sum(self.plan.epochs)
        module: nn.Module = nn.Module()
        with Bar(disable=not (sys.stderr.isatty() and self.group.writes)) as bar:
            task = bar.add_task(
                f"{self.plan.model} {self.plan.result_bits()}", total=total, completed=len(self.run.rows) * self.steps_per_epoch
            )
            for stage in stages[first:]:
                module = self._stage(stage, lambda: bar.advance(task))
        if broken := broken_pictures(self.train_set, self.test_set):
            print(f"{broken} broken pictures were skipped", file=sys.stderr)
        return module.eval()

    def _module(self, stage: str) -> nn.Module:
        """With the run's weights; calibrated where the stage begins."""
        net = float_net(self.plan.model)
        net.load_state_dict(net_state(self.run.state))
        module = network_of(stage, self.plan, net.to(self.device))
        progress = self.run.progress
        if progress is None or self.run.optimizer is not None:
            module.load_state_dict(self.run.state)
            if isinstance(module, PartlyBinaryNetwork):
                module.share = 1.0
        elif isinstance(module, QuantDeiT):
            with torch.no_grad():
                module(self.train_set.sample(_CALIBRATION_IMAGES).to(self.device), calibrating=True)
        return module

    def _stage(self, stage: str, advance: Callable[[], None]) -> nn.Module:
        module, progress = self._module(stage), self.run.progress
        if progress is None:
            return module
        optimizer = optimizer_of(module, self.plan.learning_rate(stage, 0, 1), stage != "real")
        if self.run.optimizer is not None:
            optimizer.load_state_dict(self.run.optimizer)
        while progress.epoch < self.plan.epochs_of(stage):
            self._epoch(stage, module, optimizer, progress, advance)
        return module

    def _epoch(
        self, stage: str, module: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, advance: Callable[[], None]
    ) -> None:
        steps = self.steps_per_epoch * self.plan.epochs_of(stage)
        order = torch.randperm(len(self.train_set.labels), generator=generator_of(self.plan.seed, stage, progress.epoch))
        batches = order[: self.steps_per_epoch * self.plan.batch].split(self.plan.batch)
        module.train()
        while progress.step < self.steps_per_epoch:
            step = progress.epoch * self.steps_per_epoch + progress.step
            if isinstance(module, PartlyBinaryNetwork):
                module.share = binary_share(stage, step, steps)
            for group in optimizer.param_groups:
                group["lr"] = self.plan.learning_rate(stage, step, steps)
            progress.loss += self._update(stage, module, optimizer, batches[progress.step], step)
            progress.step += 1
            advance()
            if progress.step < self.steps_per_epoch and time.monotonic() - self.saved >= self.save_seconds:
                self._save(module, optimizer)
        self._finish_epoch(
            stage, module, optimizer, progress, binary_share(stage, step, steps), self.plan.learning_rate(stage, step, steps)
        )

    def _update(self, stage: str, module: nn.Module, optimizer: torch.optim.Optimizer, index: Tensor, step: int) -> float:
        """One step; returns the loss of the whole batch. Raises InputError where it is not finite."""
        change = Change.drawn(len(index), self.plan.shift, self.plan.mirror, generator_of(self.plan.seed, stage, "step", step))
        part = self.group.part
        index, change = part(index), Change(shift=torch.stack([part(row) for row in change.shift]), mirrored=part(change.mirrored))
        images, labels = (part.to(self.device) for part in self.train_set.read(index, change))
        answers = self.teacher.logits(images, index, change.mirrored) if self.teacher else None
        loss = loss_of(self.plan, module(images), labels, answers)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.group.average_gradients(module)
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        value = float(self.group.average(loss.detach()))
        if not math.isfinite(value):
            raise InputError(f"the loss must stay finite: it is {value} in step {step} of the {stage} stage; use a smaller --learning-rate")
        return value

    def _finish_epoch(
        self, stage: str, module: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, share: float, rate: float
    ) -> None:
        module.eval()
        number = progress.epoch + 1
        ended = number == self.plan.epochs_of(stage)
        if self.group.writes:
            tested = ended or number % self.test_every == 0
            result = f"{accuracy(module, self.test_set, self.device):.2f}" if tested else ""
            bits = self.plan.bits if stage == "quantized" else "float"
            values = (stage, number, bits, f"{share:.4g}", f"{rate:.3g}", f"{progress.loss / self.steps_per_epoch:.4f}", result)
            self.run.rows.append(dict(zip(FIELDS, map(str, values), strict=False)))
            self.seconds.append(f"{time.monotonic() - self.began:.0f}")
            write_log(self.log, self.run.rows, self.seconds)
        progress.epoch, progress.step, progress.loss = number, 0, 0.0
        if ended:
            last = progress.stage + 1 == len(self.plan.stages())
            self.run.progress = None if last else Progress(stage=progress.stage + 1)
        self._save(module, None if ended else optimizer)

    def _save(self, module: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
        self.run.state, self.run.optimizer = module.state_dict(), optimizer.state_dict() if optimizer else None
        if self.group.writes:
            save_run(self.out, self.run)
        self.saved = time.monotonic()
