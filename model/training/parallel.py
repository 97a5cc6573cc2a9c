"""One process, or those that torchrun started: each takes its part of every batch, gradients are averaged, the first one writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from model.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Group:
    """``rank`` of ``size`` processes."""

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        return self.rank == 0

    def part(self, batch: Tensor) -> Tensor:
        """This process's part of a batch that all processes drew alike."""
        return batch.chunk(self.size)[self.rank]

    def average_gradients(self, module: nn.Module) -> None:
        """Of equal parts, the gradient of the whole batch."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.size
        for gradient, averaged in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(averaged.reshape(gradient.shape))

    def average(self, value: Tensor) -> Tensor:
        if self.size > 1:
            distributed.all_reduce(value)
            value /= self.size
        return value

    def wait(self) -> None:
        """For all others: what the first one wrote is there for them, and they have read what it is about to replace."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def process_group(batch: int) -> Iterator[Group]:
    """What torchrun's environment says; one process without it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group()
        return
    if batch % size:
        raise InputError(
            f"batch must be a multiple of the number of processes: {batch} is not of {size}; use --batch {-(-batch // size) * size}"
        )
    distributed.init_process_group("gloo")
    try:
        yield Group(rank=distributed.get_rank(), size=size)
    finally:
        distributed.destroy_process_group()
