"""What is measured, by name."""

from __future__ import annotations

from dataclasses import dataclass

from rtl.flow.simulate import IMAGES_PER_RUN


@dataclass(frozen=True, kw_only=True)
class Case:
    """One network on one machine. rows : None takes the model's preset. Weights are random where none are shipped.

    dsp_clock : of the rows' multipliers, in fabric clocks        images : of the simulation, in programs of as many as go into one
    """

    name: str
    model: str
    bits: int = 8
    rows: int | None = None
    dsp_clock: int = 1
    images: int = 2
    source: str = "photos"

    @property
    def options(self) -> list[str]:
        """Of the command line, before the verb."""
        rows = [] if self.rows is None else ["--rows", str(self.rows)]
        dsp_clock = [] if self.dsp_clock == 1 else ["--dsp-clock", str(self.dsp_clock)]
        return ["--model", self.model, "--bits", str(self.bits), *rows, *dsp_clock, "--json"]

    @property
    def simulate(self) -> list[str]:
        return [*self.options, "simulate", "--images", str(self.images), "--source", self.source]

    @property
    def build(self) -> list[str]:
        """With one of the simulated programs. Cases with the same options are one machine, and one build serves them all."""
        return [*self.options, "build", "--images", str(min(self.images, IMAGES_PER_RUN))]


_B1 = "efficientvit_b1_r224"

CASES = {
    case.name: case
    for case in (
        Case(name="base_8bit_50rows", model="deit_base", rows=50),
        Case(name="base_8bit_66rows", model="deit_base", rows=66),
        Case(name="base_6bit_66rows", model="deit_base", bits=6, rows=66),
        Case(name="base_8bit_1image", model="deit_base", images=1),
        Case(name="base_8bit_66rows_1image", model="deit_base", rows=66, images=1),
        Case(name="tiny_8bit", model="deit_tiny"),
        Case(name="small_8bit", model="deit_small"),
        Case(name="small_8bit_8images", model="deit_small", images=8),
        Case(name="tiny_distilled_8bit", model="deit_tiny_distilled"),
        Case(name="small_distilled_8bit", model="deit_small_distilled"),
        Case(name="efficientvit_micro_8bit", model="efficientvit_micro", images=64, source="fashion-mnist"),
        Case(name="efficientvit_b1_r224_8bit_1image", model=_B1, images=1),
        Case(name="efficientvit_b1_r224_8bit", model=_B1),
        Case(name="efficientvit_b1_r224_8bit_6images", model=_B1, images=6),
        Case(name="efficientvit_b1_r224_8bit_dsp2_6images", model=_B1, dsp_clock=2, images=6),
        Case(name="efficientvit_b1_r224_6bit_6images", model=_B1, bits=6, images=6),
        Case(name="efficientvit_b1_r224_4bit_6images", model=_B1, bits=4, images=6),
        Case(name="efficientvit_b0_r224_8bit", model="efficientvit_b0_r224"),
        Case(name="efficientvit_b2_r224_8bit_1image", model="efficientvit_b2_r224", images=1),
        Case(name="efficientvit_b3_r224_8bit_1image", model="efficientvit_b3_r224", images=1),
        Case(name="efficientvit_b1_r256_8bit_1image", model="efficientvit_b1_r256", images=1),
        Case(name="efficientvit_b1_r288_8bit_1image", model="efficientvit_b1_r288", images=1),
    )
}
