"""The machine that we build for a network."""

from __future__ import annotations

from dataclasses import replace

from model.efficientvit.graph import IMAGE, LOGITS, EfficientVitGraph, LinearAttention
from rtl.efficientvit.config import EfficientVitMachine
from rtl.errors import InputError
from rtl.tech.dsp48e2 import generic, ultrascale

TECHNOLOGIES = {"generic": generic, "ultrascale": ultrascale}
#: Rows for images of up to so many pixels a side: 49 cut the tensors of 224 x 224 into whole passes; beyond, a row's activation memory asks
#: for fewer passes.
ROWS = {32: 16, 224: 49}
MOST_ROWS = 56


def preset(graph: EfficientVitGraph, *, rows: int | None = None, technology: str = "generic") -> EfficientVitMachine:
    """16 rows for 28 x 28 networks, 49 at 224 x 224, 56 beyond; memories as the machine has them by default, which B0 to B3 fit.

    rows : instead of these        technology : "generic" (portable, simulated) or "ultrascale" (explicit primitives)
    """
    check_bits(graph.bits)
    image = graph.tensors[IMAGE]
    chosen = next((count for size, count in ROWS.items() if image.height <= size), MOST_ROWS)
    attentions = [operator for operator in graph.operators if isinstance(operator, LinearAttention)]
    return EfficientVitMachine(
        image_size=image.height, channels=image.channels, classes=graph.tensors[LOGITS].channels, bits=graph.bits,
        rows=chosen if rows is None else rows, head_dim=max((attention.head_dim for attention in attentions), default=16),
        technology=TECHNOLOGIES[technology],
    )  # fmt: skip


def check_bits(bits: int) -> None:
    """Raises InputError for a precision that no machine has: ahead of a graph that takes long to make."""
    if bits != 8:
        raise InputError(f"--bits must be 8 for EfficientViT: {bits} is not done yet; use 8")


def described(config: EfficientVitMachine) -> str:
    """The configuration as text, the same in every process."""
    return repr(replace(config, technology=config.technology.name))
