"""Cycle by cycle stimulus of `XnorMatmul` and what must come out: numpy alone, so that cocotb benches and netlist tests share it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

CHUNK = 16


@dataclass
class Stimulus:
    """Beats by cycle, as the payload ports take them, and the expected results by cycle of the weight beat."""

    inputs: int
    bits: int
    activations: dict[int, int] = field(default_factory=dict)
    weights: dict[int, int] = field(default_factory=dict)
    results: dict[int, int] = field(default_factory=dict)

    @property
    def cycles(self) -> int:
        return max([*self.activations, *self.weights]) + 1

    def activation(self, cycle: int, value: int, bank: int, first: bool) -> None:
        self.activations[cycle] = int(value) | bank << self.bits | int(first) << (self.bits + 1)

    def weight(self, cycle: int, weights: np.ndarray, bank: int, vector: np.ndarray) -> None:
        """A weight beat that reads `vector` (its first `inputs` values), filled or not beyond it."""
        word = int.from_bytes(np.packbits(weights.astype(np.uint8), bitorder="little").tobytes(), "little")
        self.weights[cycle] = word | bank << self.inputs
        used = vector[: self.inputs]
        self.results[cycle] = int(2 * (used * weights[: len(used)]).sum() - used.sum())


def numbers(rng: np.random.Generator, count: int, bits: int, extreme: bool) -> np.ndarray:
    """Unsigned values of `bits` bits: uniform, or all 0, all largest, or a mixture of the two."""
    top = (1 << bits) - 1
    if not extreme:
        return rng.integers(0, top + 1, count)
    return (np.zeros(count, int), np.full(count, top), top * rng.integers(0, 2, count))[rng.integers(3)]


def make(
    seed: int,
    *,
    inputs: int,
    bits: int,
    fill_lead: int,
    extreme: bool = False,
    activation_gap: float = 0.0,
    weight_gap: float = 0.0,
    vectors: int = 8,
) -> Stimulus:
    """Vectors of every multiple of CHUNK up to `inputs`, in alternating banks, each read in the whole of its window.

    Weight beats fill the window ``[last + fill_lead, first of the vector after the next + fill_lead)``: without gaps there is one in
    every cycle, and every cycle also fills. The gaps are the probabilities that a cycle is left idle.
    """
    rng = np.random.default_rng(seed)
    stimulus = Stimulus(inputs, bits)
    longest = -(-inputs // CHUNK)
    spans, cycle = [], 0
    for index in range(vectors + 1):
        beats = CHUNK * (longest if index % 2 else int(rng.integers(1, longest + 1)))
        vector = numbers(rng, beats, bits, extreme)
        vector[inputs:] = 0
        first = cycle
        for k in range(beats):
            while k and rng.random() < activation_gap:
                cycle += 1
            stimulus.activation(cycle, vector[k], index & 1, k == 0)
            last, cycle = cycle, cycle + 1
        spans.append((first, last, vector))
    for index in range(vectors - 1):
        _, last, vector = spans[index]
        for cycle in range(last + fill_lead, spans[index + 2][0] + fill_lead):
            if rng.random() >= weight_gap:
                weights = np.zeros(inputs, int)
                filled = min(len(vector), inputs)
                weights[:filled] = numbers(rng, filled, 1, extreme)
                stimulus.weight(cycle, weights, index & 1, vector)
    return stimulus
