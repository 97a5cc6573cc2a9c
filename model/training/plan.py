"""What a training run does: VAQF's three stages, each with its epochs and learning rates, and everything else that decides the result."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from model.configs import DeiTConfig, config_of
from model.errors import InputError

#: Real-valued; a growing share of the weights binary; all weights binary and activations of ``bits`` bits.
STAGES = ("real", "binary", "quantized")
#: Steps of linear warm-up, at most a tenth of the stage.
WARMUP_STEPS = 300


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run. Two runs of the same plan, however often killed, give the same bits.

    bits : of activations in the last stage
    epochs, learning_rates : of each of STAGES; a stage of no epochs is left out
    mirror : every other image, drawn anew in every epoch        shift : by up to so many pixels, drawn likewise
    start : training checkpoint that the weights come from
    teacher, teacher_model : float network whose answers are learned beside the labels
    distill, temperature : the teacher's part of the loss, and what both answers are divided by before they are compared
    broken : pictures that cannot be read are refused ("refuse") or replaced by the next ("skip")
    """

    model: str = "deit_micro"
    bits: int = 8
    seed: int = 0
    source: str = "fashion-mnist"
    epochs: tuple[int, int, int]
    learning_rates: tuple[float, float, float]
    batch: int = 128
    mirror: bool = False
    shift: int = 0
    start: str | None = None
    teacher: str | None = None
    teacher_model: str | None = None
    distill: float = 0.9
    temperature: float = 2.0
    broken: str = "refuse"

    def __post_init__(self) -> None:
        config = config_of(self.model)
        if not isinstance(config, DeiTConfig) and any(self.epochs[1:]):
            raise InputError(f"an EfficientViT has the first stage alone: {self.epochs} has others; use --epochs N 0 0")
        if isinstance(config, DeiTConfig):
            config.shape(self.bits)
        if min(self.epochs) < 0 or not any(self.epochs):
            raise InputError(
                f"epochs must be whole numbers, not all 0: {self.epochs} is not; give one number for each of {', '.join(STAGES)}"
            )
        for name, value, least in (("batch", self.batch, 1), ("shift", self.shift, 0), ("seed", self.seed, 0)):
            if value < least:
                raise InputError(f"{name} must be at least {least}: {value} is not; use {least} or more")
        for name, value in (*(("learning-rate", rate) for rate in self.learning_rates), ("temperature", self.temperature)):
            if not 0 < value < math.inf:
                raise InputError(f"{name} must be above 0 and finite: {value} is not; see the default")
        if not 0 <= self.distill <= 1:
            raise InputError(f"distill must be from 0 to 1: {self.distill} is not; it is the teacher's part of the loss")

    def stages(self) -> tuple[str, ...]:
        """Those with epochs, in order."""
        return tuple(stage for stage, epochs in zip(STAGES, self.epochs, strict=True) if epochs)

    def epochs_of(self, stage: str) -> int:
        return self.epochs[STAGES.index(stage)]

    def result_bits(self) -> str:
        """Of the activations when all is done: a number, or "float"."""
        return str(self.bits) if self.epochs[2] else "float"

    def words(self) -> dict[str, object]:
        """As a checkpoint keeps it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def learning_rate(self, stage: str, step: int, steps: int) -> float:
        """Linear warm-up, then cosine to zero, over the ``steps`` of a stage."""
        warmup = max(1, min(WARMUP_STEPS, steps // 10))
        return self.learning_rates[STAGES.index(stage)] * min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / steps))


def binary_share(stage: str, step: int, steps: int) -> float:
    """Part of the weights that is binary in this step: it grows linearly over the binary stage and is all of them in its last step."""
    return {"real": 0.0, "binary": (step + 1) / steps, "quantized": 1.0}[stage]
