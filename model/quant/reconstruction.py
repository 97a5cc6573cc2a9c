"""AdaRound, block by block (BRECQ; papers/trio_vit.md, section 2.6): which weights to round up, so that each block's output comes closest
to the float network's.

A block is a residual block of the network, or a layer outside of any. Its inputs are those that the quantized layers before it make, its
target the float network's. The weights come out as integers, of every layer, those of migrated and shifted ones too.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from model.efficientvit.graph import IMAGE
from model.quant import representable
from model.quant.calibration import Batches, each_batch
from model.quant.fake_quantized import FakeQuantized
from model.quant.folded import FoldedConvolution, FoldedNetwork, FoldedOperator, operate, sources_of
from model.quant.ptq import bias_of
from model.quant.quantization import ConvolutionQuantization, Quantization

#: h(alpha) = sigmoid(alpha) stretched to -0.1 ... 1.1, then limited to 0 ... 1.
STRETCH, LOW = 1.2, -0.1
#: The rounding term's weight is that of the paper's own command.
ROUNDING_WEIGHT, WARMUP, BETA_FIRST, BETA_LAST = 0.5, 0.2, 20.0, 2.0
BATCH = 32
#: Adam's rate. Fewer iterations than this many take larger steps, for else no weight would reach the other side.
LEARNING_RATE, FULL_ITERATIONS = 1e-3, 10_000
#: Images that pass through a block at a time, where nothing is learnt.
_PART = 8
_PATIENCE = 2.0

Tensors = Mapping[str, Tensor]
Unit = tuple[FoldedOperator, ...]


@dataclass(frozen=True, kw_only=True)
class Block:
    """error_nearest, error : mean square error of the quantized block's output, by nearest rounding and as kept."""

    name: str
    error_nearest: float
    error: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Reconstruction:
    """rounded : int32 weights by operator, see ``model.quant.ptq.quantize``"""

    rounded: dict[str, Tensor]
    blocks: tuple[Block, ...]


def unit_name(operator: FoldedOperator) -> str:
    return operator.name.partition(".main.")[0]


def units(folded: FoldedNetwork) -> list[Unit]:
    return [tuple(unit) for _, unit in groupby(folded.operators, unit_name)]


class Rounding:
    """The soft rounding of one layer's weights, alpha the only thing learnt; it begins at the weights as they are.

    weight: of the folded operator; ``convolution`` has its scale. ``migration``: (channels of the source,)
    """

    def __init__(self, operator: FoldedConvolution, convolution: ConvolutionQuantization, migration: Tensor, weight_bits: int):
        self.operator, self.limit = operator, (1 << (weight_bits - 1)) - 1
        factor = representable.per_input(migration, operator)
        scale = convolution.weight_scale[:, None, None, None]
        steps = operator.weight.double() * factor / scale
        base = steps.floor()
        self.base, self.step = base.float(), (scale / factor).float()
        self.alpha = -torch.log(STRETCH / (steps - base - LOW) - 1)
        self.alpha = self.alpha.float().requires_grad_()

    def part(self) -> Tensor:
        """h, 0 ... 1."""
        return (STRETCH * torch.sigmoid(self.alpha) + LOW).clamp(0, 1)

    def soft(self) -> FoldedConvolution:
        return replace(self.operator, weight=(self.base + self.part()).clamp(-self.limit, self.limit) * self.step)

    def undecided(self, beta: float) -> Tensor:
        """How far h is from 0 and 1, summed."""
        return (1 - (2 * self.part() - 1).abs().pow(beta)).sum()

    def integers(self) -> Tensor:
        return (self.base + (self.alpha >= 0)).clamp(-self.limit, self.limit).to(torch.int32)


def with_weights(quantization: Quantization, integers: Tensors) -> Quantization:
    """The same with other integer weights, by operator, and the biases that belong to them."""
    operators = {operator.name: operator for operator in quantization.folded.operators if isinstance(operator, FoldedConvolution)}
    changed = dict(quantization.convolutions)
    for name, weight in integers.items():
        operator, before = operators[name], changed[name]
        source = quantization.tensors[operator.source]
        changed[name] = replace(before, weight=weight, bias=bias_of(operator, source, weight, before.weight_scale))
    return replace(quantization, convolutions=changed)


def _beta(part: float) -> float:
    """``part``: of the iterations that are done, from WARMUP on."""
    return BETA_FIRST + (BETA_LAST - BETA_FIRST) * (part - WARMUP) / (1 - WARMUP)


def learn(
    unit: Unit, roundings: list[Rounding], inputs: Tensors, target: Tensor, iterations: int, generator: torch.Generator
) -> Iterator[int]:
    """Adam on the alphas of ``roundings``, one iteration for each value that is asked for. inputs, target : of all images, real values."""
    soft = {rounding.operator.name: rounding for rounding in roundings}
    rate = LEARNING_RATE * max(1.0, FULL_ITERATIONS / iterations)
    adam = torch.optim.Adam([rounding.alpha for rounding in roundings], lr=rate)
    for step in range(iterations):
        chosen = torch.randperm(len(target), generator=generator)[:BATCH]
        local = {name: tensor[chosen] for name, tensor in inputs.items()}
        for operator in unit:
            local[operator.target] = operate(soft[operator.name].soft() if operator.name in soft else operator, local)
        loss = (local[unit[-1].target] - target[chosen]).square().sum(1).mean()
        if step >= WARMUP * iterations:
            beta = _beta(step / iterations)
            loss = loss + ROUNDING_WEIGHT * sum(rounding.undecided(beta) for rounding in roundings)
        adam.zero_grad()
        loss.backward()
        adam.step()
        yield step


def _through(unit: Unit, tensors: Tensors, execute: Callable[[FoldedOperator, Tensors], Tensor]) -> Tensor:
    """The unit's output for all images, nothing learnt."""
    count, parts = len(next(iter(tensors.values()))), []
    with torch.no_grad():
        for first in range(0, count, _PART):
            local = {name: tensor[first : first + _PART] for name, tensor in tensors.items()}
            for operator in unit:
                local[operator.target] = execute(operator, local)
            parts.append(local[unit[-1].target])
    return torch.cat(parts)


class _Reconstructor:
    """Float values and codes of the tensors between blocks, for all images, and the quantization so far."""

    def __init__(self, quantization: Quantization, images: Tensor, iterations: int, seed: int):
        self.quantization, self.iterations = quantization, iterations
        self.generator = torch.Generator().manual_seed(seed)
        self.real = {IMAGE: quantization.folded.image(images)}
        self.codes = {IMAGE: quantization.image_codes(images)}
        self.rounded: dict[str, Tensor] = {}
        self.blocks: list[Block] = []

    def inputs(self, unit: Unit) -> list[str]:
        made = {operator.target for operator in unit}
        return sorted({source for operator in unit for source in sources_of(operator)} - made)

    def execute(self, unit: Unit, quantization: Quantization) -> tuple[Tensor, float]:
        """Codes of the unit's output, and their mean square error."""
        codes = _through(unit, {name: self.codes[name] for name in self.inputs(unit)}, FakeQuantized(quantization).execute)
        target = unit[-1].target
        error = self.quantization.tensors[target].values(codes) - self.real[target]
        return codes, float(error.double().square().mean())

    def reconstruct(self, unit: Unit) -> Iterator[int]:
        names, target = self.inputs(unit), unit[-1].target
        self.real[target] = _through(unit, {name: self.real[name] for name in names}, operate)
        kept = self.execute(unit, self.quantization)
        roundings = [self.rounding(operator) for operator in unit if isinstance(operator, FoldedConvolution)]
        if roundings:
            values = {name: self.quantization.tensors[name].values(self.codes[name]) for name in names}
            yield from learn(unit, roundings, values, self.real[target], self.iterations, self.generator)
            kept = self.keep_the_better(unit, {rounding.operator.name: rounding.integers() for rounding in roundings}, kept)
        self.codes[target] = kept[0]
        for tensors in (self.real, self.codes):
            for name in set(tensors) - {target}:
                del tensors[name]

    def rounding(self, operator: FoldedConvolution) -> Rounding:
        quantization = self.quantization
        migration = quantization.tensors[operator.source].migration
        return Rounding(operator, quantization.convolutions[operator.name], migration, quantization.weight_bits)

    def keep_the_better(self, unit: Unit, integers: dict[str, Tensor], nearest: tuple[Tensor, float]) -> tuple[Tensor, float]:
        learnt = with_weights(self.quantization, integers)
        result = self.execute(unit, learnt)
        better = result[1] < nearest[1]
        if better:
            self.quantization = learnt
            self.rounded |= integers
        kept = result if better else nearest
        self.blocks.append(Block(name=unit_name(unit[0]), error_nearest=nearest[1], error=kept[1]))
        return kept


def reconstruct(quantization: Quantization, batches: Batches, images: int, iterations: int, seed: int = 0) -> Reconstruction:
    """``quantization``: by nearest rounding, calibrated on the first ``images`` images of ``batches``, which are learnt from.

    A block whose learnt rounding comes out worse than the nearest keeps the nearest, and is not in ``rounded``.
    """
    every = torch.cat(list(each_batch(quantization.folded, batches, "reconstruction: images", images)))
    worker, steps = _Reconstructor(quantization, every, iterations, seed), units(quantization.folded)
    learning = sum(any(isinstance(operator, FoldedConvolution) for operator in unit) for unit in steps)
    with _progress() as progress:
        bar, began = progress.add_task("reconstruction", total=learning * iterations, visible=False), time.monotonic()
        for unit in steps:
            for _ in worker.reconstruct(unit):
                progress.update(
                    bar, advance=1, visible=time.monotonic() - began > _PATIENCE, description=f"reconstruction: {unit_name(unit[0])}"
                )
                progress.refresh()
    return Reconstruction(rounded=worker.rounded, blocks=tuple(worker.blocks))


def _progress() -> Progress:
    return Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty(), auto_refresh=False)
