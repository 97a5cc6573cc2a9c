"""`StepSource`: cuts a TILE into its steps, one per image and pass, and holds each back until its pass is free."""

from __future__ import annotations

from amaranth import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.config import AcceleratorConfig
from rtl.program import isa
from rtl.row_bus import CHANNEL_BITS, PASS_BITS

TilePayload = data.StructLayout(dict(isa.PAYLOAD[isa.Opcode.TILE]))
Post = data.StructLayout({"enable": 1, "counter": 4})

#: One step: a tile on one pass of one image, in one table bank. ``given``: activations, less one. ``words``: less three.
#: ``single``: one plane. ``address``: where the tile's first result goes. ``last``: of its tile, whose ``number`` counts from 0.
Step = data.StructLayout(
    {
        "tile": TilePayload,
        "post": Post,
        "image": 1,
        "pass_index": PASS_BITS,
        "bank": 1,
        "last": 1,
        "given": 16,
        "words": 16,
        "single": 1,
        "address": CHANNEL_BITS,
        "number": 16,
    }
)


#: From a tile to its first step; from one step to the next: cycles.
FIRST_STEP_CYCLES, STEP_CYCLES = 6, 5
#: From a pass that is free again until its step is taken: it is looked at, checked and offered.
LOOK_CYCLES = 3


class StepSource(wiring.Component):
    """Members
    -------
    i : stream of {tile, post}
    free : a bit per pass: no earlier step on that pass is under way
    o : stream of Step; what is offered stays until it is taken
    busy : a tile is held        number : of the tile that is held or comes next

    Timing
    ------
    6 cycles from a tile to its first step, 5 from one step to the next: hidden while steps last longer. Once a pass is free it stays
    so until its next step is taken, so looking takes as many cycles as it likes.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"tile": TilePayload, "post": Post}))),
                "free": In(config.passes),
                "o": Out(stream.Signature(Step)),
                "busy": Out(1),
                "number": Out(16),
            }
        )

    def elaborate(self, platform):
        m = Module()
        step, tile = self.o.payload, self.o.payload.tile
        images, passes, last_pass, last_image = Signal(2), Signal(PASS_BITS), Signal(), Signal()
        clear = Signal()
        m.d.sync += [
            clear.eq(Array([self.free[index] for index in range(self.config.passes)])[step.pass_index]),
            last_pass.eq(passes == 1),
            last_image.eq(images == 1),
        ]
        held = Signal(step.shape())
        # One flip-flop per state: what is offered or taken is decided in one LUT.
        idle, derive, settle, look, check, offer = Signal(init=1), Signal(), Signal(), Signal(), Signal(), Signal()
        taken = offer & self.o.ready
        is_qkv = tile.destination == isa.Destination.QKV
        m.d.comb += [step.eq(held), self.number.eq(held.number), self.i.ready.eq(idle), self.o.valid.eq(offer), self.busy.eq(~idle)]
        with m.If(idle):
            m.d.sync += [held.tile.eq(self.i.payload.tile), held.post.eq(self.i.payload.post)]
            m.d.sync += idle.eq(~self.i.valid)
        with m.If(derive):
            m.d.sync += [
                held.given.eq(tile.activations - 1),
                held.words.eq(tile.words - 3),
                held.single.eq(tile.planes == 1),
                held.address.eq(Mux(is_qkv, tile.base_channel * self.config.shape.head_dim, tile.base_channel)),
                held.image.eq(tile.image),
                held.pass_index.eq(tile.first_pass),
                images.eq(tile.images),
                passes.eq(tile.passes),
            ]
        m.d.sync += [derive.eq(idle & self.i.valid), settle.eq(derive | (taken & ~held.last)), look.eq(settle)]
        with m.If(look):  # `free` follows a taken step by two cycles; `clear` and the last flags are one more behind
            m.d.sync += check.eq(1)
        with m.If(check):
            m.d.sync += held.last.eq(last_pass & last_image)
            with m.If(clear):
                m.d.sync += [check.eq(0), offer.eq(1)]
        with m.If(taken):
            m.d.sync += [
                offer.eq(0),
                idle.eq(held.last),
                held.bank.eq(~held.bank),
                held.number.eq(held.number + held.last),
                passes.eq(Mux(last_pass, tile.passes, passes - 1)),
                held.pass_index.eq(Mux(last_pass, tile.first_pass, held.pass_index + 1)),
                images.eq(images - last_pass),
                held.image.eq(held.image ^ last_pass),
            ]
        return m
