"""The parameters of an EfficientViT accelerator."""

from __future__ import annotations

from dataclasses import dataclass

from rtl.efficientvit.isa import WORD_CHANNELS
from rtl.errors import InputError
from rtl.tech.clocking import CLOCKINGS
from rtl.tech.dsp48e2 import generic

#: Rows are collected over so many buses, and come in groups of as many.
BUSES = 4


@dataclass(frozen=True, kw_only=True)
class EfficientVitMachine:
    """
    Parameters
    ----------
    image_size, channels : of the network's image; channels 1 or 3, size a multiple of 4
    classes : logits
    bits : activation precision, 4..8; weights have 8
    rows : pixels computed at a time, 16..64
    memory_words : of 32 channels, of one row's activation memory, at most 1,024
    weight_words : of 64 bytes, of the weight memory        parameter_words : pairs of output channels whose requantizers are kept
    ring_depth, key_value_depth, state_depth : words of a bank of the expansion ring and of the key/value memory, and of the state memory
    technology : see ``rtl.tech``
    dsp_clock : 1, or 2: the rows' DSP slices run at twice the clock, half as many (`rtl.tech.clocking`)
    """

    image_size: int
    channels: int = 3
    classes: int = 1000
    bits: int = 8
    rows: int = 49
    memory_words: int = 512
    weight_words: int = 8192
    parameter_words: int = 2048
    ring_depth: int = 1024
    key_value_depth: int = 512
    state_depth: int = 512
    technology: object = generic
    dsp_clock: int = 1

    def __post_init__(self) -> None:
        _require(16 <= self.rows <= 64, "rows must be 16..64", self.rows, "use 49")
        _require(4 <= self.bits <= 8, "bits must be 4..8", self.bits, "choose 8, 6 or 4")
        _require(self.channels in (1, 3), "image channels must be 1 or 3", self.channels, "convert the images")
        _require(self.image_size % 4 == 0, "the image size must be a multiple of 4", self.image_size, "pad the images")
        _require(self.dsp_clock in CLOCKINGS, "dsp_clock must be 1 or 2", self.dsp_clock, "use 1")
        _require(self.memory_words <= 1024, "memory_words must be at most 1024", self.memory_words, "use a smaller image")

    @property
    def groups(self) -> int:
        """Groups of pixels in a pass."""
        return -(-self.rows // BUSES)

    @property
    def word_bits(self) -> int:
        """Of a word of activations."""
        return WORD_CHANNELS * self.bits

    #: Ports over which weight words come, 128 bits each.
    weight_ports = 4
    slice_inputs = 128


def _require(condition: bool, rule: str, value: object, remedy: str) -> None:
    if not condition:
        raise InputError(f"{rule}: {value} is not; {remedy}")
