"""Trains a DeiT or an EfficientViT in float, or a DeiT with binary weights and ``--bits`` activations, from scratch or from an earlier run.

    python -m model.train --bits float --epochs 6 --out float.pt
    python -m model.train --bits 8 --start float.pt --epochs 28 --out w1a8.pt
    python -m model.train --model efficientvit_micro --bits float --out efficientvit_micro.safetensors

The last epoch is the result; the test accuracy in the log chooses nothing.
"""

from __future__ import annotations

import argparse
import csv
import math
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from model import data
from model.configs import CONFIGS, EFFICIENTVIT_CONFIGS, DeiTConfig, config_of, deit_config_of
from model.errors import InputError
from model.nets.deit import DeiT
from model.nets.efficientvit import EfficientVit
from model.quant.deit import QuantDeiT

FLOAT_SUFFIX = ".safetensors"
LABEL_SMOOTHING = 0.05
WARMUP_STEPS = 300
LOG_FIELDS = ("epoch", "bits", "learning_rate", "loss", "test_accuracy", "seconds")


class Augmented:
    """Training images on a border of ``most`` zeros; a batch is shifted by up to that and mirrored per image, in one gather.

    0 leaves the images as they are: augmentation pays only in runs longer than some twenty epochs.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, most: int):
        self.size, self.most = images.shape[1], most
        self.images = torch.from_numpy(np.pad(images, ((0, 0), (most, most), (most, most), (0, 0))))
        self.labels = torch.from_numpy(labels)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        if self.most == 0:
            return self.images[index], self.labels[index]
        shift = torch.randint(0, 2 * self.most + 1, (2, len(index), 1))
        span = torch.arange(self.size)
        rows, columns = shift[0] + span, shift[1] + span
        columns = torch.where(torch.rand(len(index), 1) < 0.5, columns.flip(1), columns)
        return self.images[index[:, None, None], rows[:, :, None], columns[:, None, :]], self.labels[index]


def accuracy(forward: Callable[[Tensor], Tensor], images: np.ndarray, labels: np.ndarray, batch: int = 500) -> float:
    """Percent of images whose largest logit is the label's."""
    with torch.no_grad():
        guesses = [forward(part).argmax(-1) for part in torch.from_numpy(images.copy()).split(batch)]
    return 100.0 * (torch.cat(guesses).numpy() == labels).mean().item()


def optimizer_of(module: nn.Module, learning_rate: float, quantized: bool) -> torch.optim.Optimizer:
    """AdamW. Latent binary weights do not decay: their magnitude is only the inertia of the sign and the scale of the row."""
    decayed = [p for p in module.parameters() if p.ndim >= 2]
    others = [p for p in module.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.0 if quantized else 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.99), fused=True)


def learning_rate_factor(step: int, steps: int) -> float:
    """Linear warm-up, then cosine to zero."""
    return min(1.0, (step + 1) / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * step / steps))


def start(arguments: argparse.Namespace) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """The module to train and its function from uint8 images to logits, with weights from ``--start`` where given."""
    config = config_of(arguments.model) if arguments.bits == "float" else deit_config_of(arguments.model)
    net = DeiT(config) if isinstance(config, DeiTConfig) else EfficientVit(config)
    if arguments.start:
        net.load_state_dict({k.removeprefix("net."): v for k, v in load_run(arguments.start)["state"].items() if k.startswith("net.")})
    if isinstance(net, DeiT) and arguments.bits != "float":
        net.config.shape(int(arguments.bits))
        quantized = QuantDeiT(net, int(arguments.bits))
        return quantized, quantized
    wrapped = nn.Module()
    wrapped.net = net
    return wrapped, net.forward_bytes


def load_run(path: str) -> dict:
    """What ``train`` stored: model, bits, seed, epoch, accuracy, state."""
    try:
        stored = torch.load(path, weights_only=True)
        if {"model", "bits", "seed", "epoch", "state"} <= set(stored):
            return stored
        reason = "something is missing"
    except (OSError, EOFError, TypeError, RuntimeError, pickle.UnpicklingError) as error:
        reason = type(error).__name__
    raise InputError(f"a training checkpoint must come from model.train: {path} does not ({reason}); give a file that it wrote")


def store(arguments: argparse.Namespace, module: nn.Module, epoch: int, result: float) -> None:
    """What ``load_run`` reads; or, where ``--out`` ends in .safetensors, the tensors of the float network alone, by timm's names."""
    if Path(arguments.out).suffix == FLOAT_SUFFIX:
        save_file(module.get_submodule("net").state_dict(), arguments.out)
        return
    torch.save({"model": arguments.model, "bits": arguments.bits, "seed": arguments.seed, "epoch": epoch, "accuracy": result,
                "state": module.state_dict()}, arguments.out)  # fmt: skip


def sets_of(arguments: argparse.Namespace) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Training and test images with labels."""
    config = config_of(arguments.model)
    return data.load(arguments.source, "train", config), data.load(arguments.source, "test", config)


def train(arguments: argparse.Namespace) -> float:
    """Runs the epochs, writing the log and the checkpoint after each; returns the last test accuracy in percent."""
    if arguments.bits != "float" and Path(arguments.out).suffix == FLOAT_SUFFIX:
        raise InputError(f"a quantized run must not be stored as {FLOAT_SUFFIX}: {arguments.out} would lose its scales; give a .pt file")
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(arguments.seed)
    module, forward = start(arguments)
    train_set, test_set = sets_of(arguments)
    augmented = Augmented(*train_set, arguments.augment)
    if isinstance(module, QuantDeiT):
        with torch.no_grad():
            module(augmented.batch(torch.randperm(len(augmented.labels))[:256])[0], calibrating=True)
    optimizer = optimizer_of(module, arguments.learning_rate, isinstance(module, QuantDeiT))
    steps = arguments.epochs * (len(augmented.labels) // arguments.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps))
    began = time.monotonic()
    with arguments.log.open("w", newline="") as log, Progress(disable=not sys.stderr.isatty()) as progress:
        rows = csv.DictWriter(log, LOG_FIELDS, lineterminator="\n")
        rows.writeheader()
        bar = progress.add_task(f"{arguments.model} {arguments.bits}", total=steps)
        for epoch in range(arguments.epochs):
            module.train()
            order = torch.randperm(len(augmented.labels))
            losses = []
            for index in order[: len(order) // arguments.batch * arguments.batch].split(arguments.batch):
                losses.append(update(module, forward, optimizer, *augmented.batch(index)))
                schedule.step()
                progress.advance(bar)
            module.eval()
            result = accuracy(forward, *test_set)
            values = (epoch, arguments.bits, f"{schedule.get_last_lr()[0]:.3g}", f"{torch.stack(losses).mean():.4f}", f"{result:.2f}",
                      f"{time.monotonic() - began:.0f}")  # fmt: skip
            rows.writerow(dict(zip(LOG_FIELDS, values, strict=True)))
            log.flush()
            store(arguments, module, epoch, result)
    return result


def update(
    module: nn.Module, forward: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor
) -> Tensor:
    """One step; returns the loss."""
    loss = functional.cross_entropy(forward(images), labels, label_smoothing=LABEL_SMOOTHING)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()
    return loss.detach()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m model.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="deit_micro", help=f"one of {', '.join((*CONFIGS, *EFFICIENTVIT_CONFIGS))}")
    parser.add_argument("--bits", default="8", choices=("float", *map(str, range(1, 9))), help="activation bits, or float")
    parser.add_argument("--start", help="checkpoint of an earlier run (any bits) to take the weights from")
    parser.add_argument("--source", default="fashion-mnist", choices=data.LABELLED_SOURCES)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--augment", type=int, default=0, help="mirror at random and shift by up to this many pixels; 0: neither")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--out",
        default="checkpoint.pt",
        help="written after every epoch: a torch checkpoint to --start from, or, where it ends in .safetensors, a float network's tensors",
    )
    parser.add_argument("--log", type=Path, help="CSV log; default: beside --out")
    arguments = parser.parse_args(argv)
    arguments.log = arguments.log or Path(arguments.out).with_suffix(".csv")
    try:
        print(f"test accuracy {train(arguments):.2f} %")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
