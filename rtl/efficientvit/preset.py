"""The machine that we build for a network."""

from __future__ import annotations

from dataclasses import replace

from model.efficientvit.graph import IMAGE, LOGITS, Convolution, EfficientVitGraph, LinearAttention
from rtl.efficientvit.config import EfficientVitMachine
from rtl.efficientvit.isa import PAIRS, WORD_CHANNELS
from rtl.errors import InputError
from rtl.tech.dsp48e2 import generic, ultrascale

TECHNOLOGIES = {"generic": generic, "ultrascale": ultrascale}
#: Images of at most so many pixels a side get few rows, all others 49: the tensors of 224 x 224 networks are whole passes of them.
SMALL_IMAGE, SMALL_ROWS, ROWS = 32, 16, 49
#: Larger ones, and networks with a wider stem, need more words of activations per row than the 512 of a block memory for two images.
LARGE_IMAGE, WIDE_STEM, LARGE_MEMORY_WORDS = 224, 16, 1024
#: The state memory must hold both scales of an attention.
STATE_DEPTH, LARGE_STATE_DEPTH = 512, 1024


def preset(graph: EfficientVitGraph, *, rows: int | None = None, technology: str = "generic", dsp_clock: int = 1) -> EfficientVitMachine:
    """16 rows for 28 x 28 networks, 49 for others; memories as the machine has them by default, larger ones where a network needs them.

    rows : instead of these        technology : "generic" (portable, simulated) or "ultrascale" (explicit primitives)
    dsp_clock : see `EfficientVitMachine`
    """
    check_bits(graph.bits)
    image = graph.tensors[IMAGE]
    attentions = [operator for operator in graph.operators if isinstance(operator, LinearAttention)]
    stem = next(op for op in graph.operators if isinstance(op, Convolution))
    large = image.height > LARGE_IMAGE or stem.outputs > WIDE_STEM
    larger = {"memory_words": LARGE_MEMORY_WORDS} if large else {}
    if max((2 * _state_words(graph, attention) for attention in attentions), default=0) > STATE_DEPTH:
        larger["state_depth"] = LARGE_STATE_DEPTH
    return EfficientVitMachine(
        image_size=image.height, channels=image.channels, classes=graph.tensors[LOGITS].channels, bits=graph.bits,
        rows=rows if rows is not None else SMALL_ROWS if image.height <= SMALL_IMAGE else ROWS,
        technology=TECHNOLOGIES[technology], dsp_clock=dsp_clock,
        **larger,
    )  # fmt: skip


def _state_words(graph: EfficientVitGraph, attention: LinearAttention) -> int:
    """Of one scale: divisors, then dividends per word of q."""
    return PAIRS * (1 + graph.tensors[attention.target].channels // len(attention.scales) // WORD_CHANNELS)


def check_bits(bits: int) -> None:
    """Raises InputError for a precision that no machine has: ahead of a graph that takes long to make."""
    if not 4 <= bits <= 8:
        raise InputError(f"--bits must be 4..8 for EfficientViT: {bits} is not; choose 8, 6 or 4")


def described(config: EfficientVitMachine) -> str:
    """The configuration as text, the same in every process."""
    return repr(replace(config, technology=config.technology.name))
