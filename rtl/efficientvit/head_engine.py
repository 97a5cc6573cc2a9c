"""`HeadEngine`: the classification head, beside the array: pool, fully connected, LayerNorm with Hardswish, fully connected."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.efficientvit.collector import pool_group
from rtl.efficientvit.depth_memories import LOAD
from rtl.efficientvit.head_channels import HeadChannels
from rtl.efficientvit.head_command import CHANNELS, HEAD_COMMAND, PAIR_PARAMETERS, VALUE_BITS, HeadKind
from rtl.efficientvit.head_linear import HeadLinear
from rtl.efficientvit.head_memories import SLICE_BITS, SLICES, HeadMemories
from rtl.efficientvit.head_walk import cycles
from rtl.efficientvit.pool_sums import PoolSumsConfig
from rtl.logit_memory import BANKS, BEAT_ADDRESS_BITS
from rtl.row_feeder import memory_write
from rtl.tech.dsp48e2 import generic
from rtl.units.protocol import require

#: LINEARs on their way: one per cycle at most, for 1 + `HeadLinear.done_latency` cycles.
_FLYING_BITS = 5


@dataclass(frozen=True, kw_only=True)
class HeadEngineConfig:
    """
    Parameters
    ----------
    classes : logits of an image
    bits : activation precision, 4..8
    technology : of the multipliers, see `rtl.tech.dsp48e2`
    """

    classes: int = 1000
    bits: int = 8
    technology: object = generic

    def __post_init__(self) -> None:
        require(1 <= self.classes <= CHANNELS, f"classes must be 1..{CHANNELS}", self.classes, "use a smaller classifier")
        require(4 <= self.bits <= 8, "bits must be 4..8", self.bits, "choose a width in that range")

    @staticmethod
    def channel_cycles(**command: int) -> int:
        """Of a POOL or NORM, see `head_walk.cycles`."""
        return cycles(HeadChannels.drain, **command)

    def build(self) -> HeadEngine:
        return HeadEngine(self)


class HeadEngine(wiring.Component):
    """::

        pool -> PoolSums -> HeadChannels -> vectors -> HeadLinear -> values -> HeadChannels -> vectors -> HeadLinear -> logits

    Commands run in order: a LINEAR begins while those before it finish, a POOL or NORM runs alone.

    Parameters
    ----------
    config : HeadEngineConfig

    Members
    -------
    pool : In(pool_group(bits)), see `PoolSums`: what came before a POOL is taken counts
    i : In(stream of HEAD_COMMAND)        done : Out(1): strobe per command, in order: what it wrote can be read, what it read be replaced
    write_weight_<s> : In(memory_write(128 bits)): slice s of a word of 1,024, see `rtl.efficientvit.program.pack_head`. Not of
        words being read
    load : In(LOAD): beats of 1,024 of parameters, the same
    logit_address : In({beat of eight logits, image})        logits : Out(8 x 16), a cycle later

    Timing
    ------
    LINEAR: words * pairs cycles, without a bubble between LINEARs that wait; done ``linear_latency`` = 26 cycles after its last word.
    POOL, NORM: ``config.channel_cycles``, from being at the head of the queue, with nothing under way, to done.

    Resources, 8 bits, 1,000 classes, yosys, before place-and-route: 4,520 LUT (256 memory, 794 shift register), 5,296 FF, 38 DSP48E2,
    28.5 BRAM36; at most 2 LUT levels and a carry chain, 1.9 ns in our model.

    Source: model/efficientvit/interpreter.py.
    """

    linear_latency = HeadLinear.done_latency

    def __init__(self, config: HeadEngineConfig):
        self.config = config
        super().__init__(
            {
                "pool": In(pool_group(config.bits)),
                "i": In(stream.Signature(HEAD_COMMAND)),
                "done": Out(1),
                **{f"write_weight_{s}": In(memory_write(unsigned(SLICE_BITS))) for s in range(SLICES)},
                "load": In(LOAD),
                "logit_address": In(BEAT_ADDRESS_BITS),
                "logits": Out(VALUE_BITS * BANKS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        technology, bits = self.config.technology, self.config.bits
        m.submodules.sums = sums = PoolSumsConfig(bits=bits, technology=technology).build()
        m.submodules.memories = memories = HeadMemories(self.config.classes, bits)
        m.submodules.linear, m.submodules.channels = linear, channels = HeadLinear(technology, bits), HeadChannels(technology, bits)
        running = self._sequence(m, linear, channels)
        m.d.comb += [
            sums.group.eq(self.pool),
            *(getattr(memories, f"write_weight_{s}").eq(getattr(self, f"write_weight_{s}")) for s in range(SLICES)),
            memories.load.eq(self.load),
            memories.logit_address.eq(self.logit_address),
            self.logits.eq(memories.logits),
            sums.address.eq(channels.sums_address),
            channels.sums.eq(sums.sums),
            memories.value_address.eq(channels.value_address),
            channels.value.eq(memories.value),
            memories.write_code.eq(channels.write),
            memories.weight_address.eq(linear.weight_address),
            linear.weights.eq(memories.weights),
            memories.vector_address.eq(linear.vector_address),
            linear.vector.eq(memories.vector),
            memories.write_pair.eq(linear.write),
            # only one of them is at work
            memories.parameter_address.eq(Mux(running, channels.parameter_address, linear.parameter_address)),
            channels.parameters.eq(memories.parameters),
            Cat(linear.parameters).eq(memories.parameters[: PAIR_PARAMETERS.size]),
        ]
        return m

    def _sequence(self, m, linear, channels):
        """Holds a command until a unit takes it, or, a POOL or NORM, until it is done. Returns whether the latter is at work."""
        command, pending, is_linear = Signal(HEAD_COMMAND, reset_less=True), Signal(), Signal(reset_less=True)
        running, taken, took, flying = Signal(), Signal(), Signal(), Signal(_FLYING_BITS)
        takes = linear.i.valid & linear.i.ready
        m.d.comb += [
            linear.i.valid.eq(pending & is_linear),
            linear.i.payload.eq(command),
            channels.command.eq(command),
            channels.start.eq(pending & ~is_linear & ~running & ~took & (flying == 0)),
            taken.eq(takes | channels.done),
            self.i.ready.eq(~pending | taken),
            self.done.eq(linear.done | channels.done),
        ]
        m.d.sync += [
            pending.eq((self.i.valid & self.i.ready) | (pending & ~taken)),
            running.eq(channels.start | (running & ~channels.done)),
            took.eq(takes),
        ]
        with m.If(took ^ linear.done):
            m.d.sync += flying.eq(flying + Mux(took, 1, -1))
        with m.If(self.i.ready):
            m.d.sync += [command.eq(self.i.payload), is_linear.eq(self.i.payload.kind == HeadKind.LINEAR)]
        return running
