"""Streams weight words into the weight memories, each slice over its own memory port."""

from __future__ import annotations

from amaranth import Module, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.array_steps import Post
from rtl.bus.axi import BEAT, REQUEST
from rtl.config import AcceleratorConfig
from rtl.row_feeder import memory_write
from rtl.transfer import Instruction, Window


class WeightStream(wiring.Component):
    """Executes STREAM (interface only so far).

    Members
    -------
    i : stream of {opcode, payload, post}        window : WEIGHTS        clear : abandons everything
    o_read_0.., i_beats_0.. : to and from port p's AXI reader        write_0.. : {valid, address, data} of slice p
    post : strobe        error : DmaError, held until clear        progress : a word was written
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        members = {
            "i": In(stream.Signature(Instruction)),
            "window": In(Window),
            "clear": In(1),
            "post": Out(Post),
            "error": Out(2),
            "progress": Out(1),
        }
        for port in range(config.weight_ports):
            members[f"o_read_{port}"] = Out(stream.Signature(REQUEST))
            members[f"i_beats_{port}"] = In(stream.Signature(BEAT))
            members[f"write_{port}"] = Out(memory_write(unsigned(config.slice_inputs)))
        super().__init__(members)

    def elaborate(self, platform):
        return Module()
