"""The depthwise engine with its ring, as one top for the simulator."""

from amaranth.hdl import Cat, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.efficientvit.depth_command import COMMAND
from rtl.efficientvit.depth_engine import DepthEngineConfig, lane_layout
from rtl.efficientvit.depth_memories import LOAD
from rtl.efficientvit.expansion_ring import ExpansionRingConfig
from rtl.separate import SeparateModule
from rtl.units.depthwise_channel import DepthwiseChannelConfig, channel_members

CHANNEL = "depthwise_channel"


def separate_channel(config: DepthwiseChannelConfig) -> SeparateModule:
    return SeparateModule(CHANNEL, channel_members(config))


def modules(bits: int) -> dict[str, wiring.Component]:
    """What the harness instantiates by name."""
    return {CHANNEL: DepthwiseChannelConfig(bits=bits).build()}


class DepthHarness(wiring.Component):
    def __init__(self, rows: int, bits: int):
        self.engine = DepthEngineConfig(rows=rows, bits=bits, build_channel=separate_channel).build()
        self.ring = ExpansionRingConfig(bits=bits).build()
        super().__init__(
            {
                "i": In(stream.Signature(COMMAND)),
                "done": Out(1),
                "load_weights": In(LOAD),
                "load_parameters": In(LOAD),
                "write": In(self.ring.write.shape()),
                "reads": Out(1),
                "conflict": Out(1),
                "lane_0": Out(lane_layout(bits)),
                "lane_1": Out(lane_layout(bits)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.engine, m.submodules.ring = engine, ring = self.engine, self.ring
        wiring.connect(m, wiring.flipped(self.i), engine.i)
        m.d.comb += [
            engine.load_weights.eq(self.load_weights),
            engine.load_parameters.eq(self.load_parameters),
            ring.write.eq(self.write),
            ring.read.eq(engine.read),
            ring.half.eq(engine.half),
            engine.data.eq(ring.data),
            self.done.eq(engine.done),
            self.conflict.eq(ring.conflict),
            self.reads.eq(Cat(read.valid for read in engine.read).any()),
            self.lane_0.eq(engine.lane_0),
            self.lane_1.eq(engine.lane_1),
        ]
        return m
