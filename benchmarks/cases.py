"""What is measured, by name."""

from __future__ import annotations

from dataclasses import dataclass

from model.graph import DeitShape


@dataclass(frozen=True, kw_only=True)
class Case:
    """One network on one machine. rows : None takes the model's preset. Images are photos, weights random where none are shipped."""

    name: str
    model: str
    bits: int = 8
    rows: int | None = None
    images: int = 2
    source: str = "photos"

    @property
    def options(self) -> list[str]:
        """Of the command line, before the verb."""
        rows = [] if self.rows is None else ["--rows", str(self.rows)]
        return ["--model", self.model, "--bits", str(self.bits), *rows, "--json"]

    @property
    def simulate(self) -> list[str]:
        return [*self.options, "simulate", "--images", str(self.images), "--source", self.source]

    @property
    def build(self) -> list[str]:
        return [*self.options, "build", "--images", str(self.images)]


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
    )
}


def macs_per_image(shape: DeitShape) -> int:
    """Multiply-accumulates of the network itself, each once however many planes it takes; attention included."""
    per_token = shape.embed_dim * (4 * shape.embed_dim + 2 * shape.hidden_dim)
    attention = 2 * shape.tokens**2 * shape.embed_dim
    heads = (1 + shape.distilled) * shape.embed_dim * shape.classes
    return shape.depth * (shape.tokens * per_token + attention) + shape.patches * shape.patch_dim * shape.embed_dim + heads
